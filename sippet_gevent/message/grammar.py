"""The ABNF of RFC 3261 §25.1 as regular expressions, the rule quoted above each. Pure.

No expression backtracks. Each repetition is over one character class, or each piece begins with
characters that the previous piece cannot match. So the time is linear in the length of the text.
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
# hostname = *( domainlabel "." ) toplabel [ "." ]
# It has no "_", but names of real networks do.
HOST = r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.\-]*)|\[[0-9A-Fa-f:.]+\])"
is_host = re.compile(HOST).fullmatch

# gen-value = token / host / quoted-string
# Bare IPv6 in received= is RFC 5118 §4.5. The other characters appear without quotes in contact
# parameters and feature tags (RFC 3840) of real peers.
GEN_VALUE = re.compile(rf"[{TOKEN_CHARACTERS}:/@#$&?\[\]|^{{}}()]*")
is_gen_value = GEN_VALUE.fullmatch

# Values that are written without quotes: tokens, and the bare IPv6address of via-received.
is_unquoted = re.compile(
    rf"[{TOKEN_CHARACTERS}]+|\[?[0-9A-Fa-f]{{0,4}}(?::[0-9A-Fa-f.]{{0,15}}){{2,8}}\]?"
).fullmatch

# Via = sent-protocol LWS sent-by *( SEMI via-params ), sent-protocol = protocol-name SLASH
#   protocol-version SLASH transport
VIA = re.compile(
    rf"SIP[ \t]*/[ \t]*2\.0[ \t]*/[ \t]*([{TOKEN_CHARACTERS}]+)"
    rf"[ \t]+({HOST})(?:[ \t]*:[ \t]*([0-9]+))?[ \t]*(?:(;.*))?",
    re.DOTALL | re.IGNORECASE,
).fullmatch

# The usual spelling in one match; address.py reads all others. Groups: display name as a quoted
# string without escapes, display name as tokens, URI, parameters.
PLAIN_NAME_ADDR = re.compile(
    rf'(?:"([^"\\]*)"[ \t]*|([{TOKEN_CHARACTERS} \t]*))'
    rf"<([^<>\"\s]+)>((?:;[{TOKEN_CHARACTERS}]+(?:=[{TOKEN_CHARACTERS}]+)?)*)"
).fullmatch

NUMBER_DIGITS = 10
"""Most digits of a number: 2**32 has ten (RFC 3261 §20). Longer ones never reach int()."""

REMEMBERED = 256
"""Most characters of an address or a Via that is remembered, because peers choose them and
thousands are kept."""

BLANKS = " \t"
_DIGITS = re.compile(r"[0-9]+").fullmatch


def number(
    text: str, limit: int = 2**32 - 1, header: str | None = None, *, noun: str = "number"
) -> int:
    """Return a number of ASCII digits, from 0 to `limit`. Raises ParseError.

    int() alone would accept '+1', '1_0' and Arabic digits. `header` is the field that an error
    names, and `noun` says what the number is.
    """
    if not _DIGITS(text):
        raise ParseError("not a number", header=header, value=text)
    significant = text.lstrip("0")
    if len(significant) > NUMBER_DIGITS or (value := int(significant or "0")) > limit:
        raise ParseError(f"{noun} over {limit}", header=header, value=text)
    return value


# The steps of split(): text without separators, a whole quoted string, or a whole <...>.
_PIECE = re.compile(QUOTED + r'|<[^<>]*>|[^"<>,;]+|[,;<>"]', re.DOTALL)


def split(text: str, separator: str, most: int = -1) -> list[str]:
    """Cut `text` at each `separator` (',' or ';') outside quotes and angle brackets. The pieces are
    stripped.

    Like str.split() it cuts at `most` places, and the rest is not examined. Raises ParseError for
    an unclosed quote or bracket."""
    if separator not in text:
        # the parser of the value checks its quotes and brackets
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
    """Cut `text` at the first `separator` outside quotes and angle brackets. Return the text before
    and behind it.

    Both are stripped. The second is "" if there is no separator; it is not examined. Raises
    ParseError for an unclosed quote or bracket before the separator.
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
    """Cut `text` at the last `separator` outside quotes and angle brackets. Return the text before
    and behind it.

    Both are stripped. The first is "" if there is no separator. Raises ParseError for an unclosed
    quote or bracket.
    """
    pieces = split(text, separator)
    last = pieces[-1]
    before = text.rstrip(BLANKS)[: -len(last)] if last else text.rstrip(BLANKS)
    return (before.rstrip(BLANKS)[:-1].rstrip(BLANKS) if len(pieces) > 1 else ""), last


def unquote(text: str) -> str:
    """Return the text of a quoted-string without its quotes and backslashes. Other text is returned
    as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    inner = text[1:-1]
    return inner if "\\" not in inner else _ESCAPE.sub(r"\1", inner)


_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def quote(text: str) -> str:
    """Return `text` as a quoted-string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
