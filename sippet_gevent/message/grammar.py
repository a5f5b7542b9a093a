"""The ABNF of RFC 3261 §25.1 as regular expressions, the rule quoted above each. Pure.

No expression here backtracks: every repetition is over one character class, or its pieces start
with characters the piece before cannot take, so time is linear in the text.
"""

from __future__ import annotations

import re

from ..errors import ParseError

# token = 1*(alphanum / "-" / "." / "!" / "%" / "*" / "_" / "+" / "`" / "'" / "~" )
TOKEN_CHARACTERS = r"A-Za-z0-9\-.!%*_+`'~"
TOKEN = re.compile(rf"[{TOKEN_CHARACTERS}]+")
is_token = TOKEN.fullmatch

# quoted-string = SWS DQUOTE *(qdtext / quoted-pair ) DQUOTE
# quoted-pair   = "\" (%x00-09 / %x0B-0C / %x0E-7F)
QUOTED = r'"[^"\\]*(?:\\.[^"\\]*)*"'
is_quoted = re.compile(QUOTED, re.DOTALL).fullmatch

# host     = hostname / IPv4address / IPv6reference
# hostname = *( domainlabel "." ) toplabel [ "." ]      "_" is not in it, but is in names that real
#   networks use
HOST = r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.\-]*)|\[[0-9A-Fa-f:.]+\])"
is_host = re.compile(HOST).fullmatch

# gen-value = token / host / quoted-string      Bare IPv6 in received= is RFC 5118 §4.5; the rest of
# the class is what contact parameters and RFC 3840 feature tags carry unquoted in the field.
GEN_VALUE = re.compile(rf"[{TOKEN_CHARACTERS}:/@#$&?\[\]|^{{}}()]*")
is_gen_value = GEN_VALUE.fullmatch

# What is written without quotes: gen-value again, and the bare IPv6address of via-received.
is_unquoted = re.compile(
    rf"[{TOKEN_CHARACTERS}]+|\[?[0-9A-Fa-f]{{0,4}}(?::[0-9A-Fa-f.]{{0,15}}){{2,8}}\]?"
).fullmatch

# Via = sent-protocol LWS sent-by *( SEMI via-params ), sent-protocol = protocol-name SLASH
#   protocol-version SLASH transport
VIA = re.compile(
    rf"SIP[ \t]*/[ \t]*2\.0[ \t]*/[ \t]*([{TOKEN_CHARACTERS}]+)[ \t]+({HOST})(?:[ \t]*:[ \t]*([0-9]+))?[ \t]*(?:(;.*))?",
    re.DOTALL | re.IGNORECASE,
).fullmatch

# The commonest spelling, taken whole by one match; whatever it does not take goes the long way in
# address.py. Groups: display name, a quoted string without escapes, or tokens; URI; parameters.
PLAIN_NAME_ADDR = re.compile(
    rf'(?:"([^"\\]*)"[ \t]*|([{TOKEN_CHARACTERS} \t]*))'
    rf"<([^<>\"\s]+)>((?:;[{TOKEN_CHARACTERS}]+(?:=[{TOKEN_CHARACTERS}]+)?)*)"
).fullmatch

NUMBER_DIGITS = 10
"""Digits in a number, at most: 2**32 has ten (RFC 3261 §20); more is refused before int() sees
it."""

REMEMBERED = 256
"""Characters of an address or a Via that is remembered, at most: peers choose them, and thousands
are kept."""

BLANKS = " \t"
_DIGITS = re.compile(r"[0-9]+").fullmatch


def number(text: str, limit: int = 2**32 - 1, header: str | None = None) -> int:
    """Return `text` as an int: ASCII digits only, 0 to `limit`. int() alone would take '+1', '1_0'
    and Arabic digits."""
    if not _DIGITS(text):
        raise ParseError("not a number", header=header, value=text)
    significant = text.lstrip("0")
    if len(significant) > NUMBER_DIGITS or (value := int(significant or "0")) > limit:
        raise ParseError(f"number over {limit}", header=header, value=text)
    return value


# A run of text without the separators, a whole quoted string, or a whole <...>: what split() steps
# over.
_PIECE = re.compile(QUOTED + r'|<[^<>]*>|[^"<>,;]+|[,;<>"]', re.DOTALL)


def split(text: str, separator: str, most: int = -1) -> list[str]:
    """Cut `text` at each `separator` (',' or ';') outside quotes and angle brackets; pieces are
    stripped.

    It is cut at `most` places, as str.split() does; what is behind the last one is not looked at.
    Raises ParseError for an unclosed quote or bracket.
    """
    if separator not in text:
        # whether quotes and brackets in it are in order, its own parser finds out
        return [text.strip(BLANKS)]
    if '"' not in text and "<" not in text and ">" not in text:
        return [piece.strip(BLANKS) for piece in text.split(separator, most)]
    pieces: list[str] = []
    start = 0
    for match in _PIECE.finditer(text):
        piece = match[0]
        if piece == separator:
            pieces.append(text[start : match.start()].strip(BLANKS))
            start = match.end()
            if len(pieces) == most:
                break
        elif piece == '"':
            raise ParseError("quoted string without end", value=text, offset=match.start())
        elif piece in ("<", ">"):
            raise ParseError("angle bracket without its partner", value=text, offset=match.start())
    pieces.append(text[start:].strip(BLANKS))
    return pieces


def split_first(text: str, separator: str) -> tuple[str, str]:
    """Cut `text` at the first `separator` outside quotes and angle brackets; return what stands
    before it and behind it.

    Both are stripped; the second is "" where there is no separator. What stands behind it is not
    looked at. Raises ParseError for an unclosed quote or bracket before it.
    """
    before, found, after = text.partition(separator)
    if found and ('"' in before or "<" in before or ">" in before):
        for match in _PIECE.finditer(text):
            piece = match[0]
            if piece == separator:
                before, after = text[: match.start()], text[match.end() :]
                break
            if piece in _UNPAIRED:
                raise ParseError(
                    "quote or angle bracket without its partner", value=text, offset=match.start()
                )
        else:
            before, after = text, ""
    return before.strip(BLANKS), after.strip(BLANKS)


_UNPAIRED = frozenset('"<>')


def split_last(text: str, separator: str) -> tuple[str, str]:
    """Cut `text` at the last `separator` outside quotes and angle brackets; return what stands
    before it and behind it.

    Both are stripped; the first is "" where there is no separator. Raises ParseError for an
    unclosed quote or bracket.
    """
    pieces = split(text, separator)
    last = pieces[-1]
    before = text.rstrip(BLANKS)[: -len(last)] if last else text.rstrip(BLANKS)
    return (before.rstrip(BLANKS)[:-1].rstrip(BLANKS) if len(pieces) > 1 else ""), last


def unquote(text: str) -> str:
    """Return what a quoted-string means, without its quotes and backslashes; other text comes back
    as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    inner = text[1:-1]
    return inner if "\\" not in inner else _ESCAPE.sub(r"\1", inner)


_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def quote(text: str) -> str:
    """Return `text` as a quoted-string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
