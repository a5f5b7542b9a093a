"""Limits and grammar of session descriptions, RFC 8866 §9. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import TypeVar

from ...errors import InvalidValue, ParseError, excerpt

LINES = 4096
"""Most lines of a description. Thirty streams with all their ICE candidates have about two
thousand."""

MEDIA_DESCRIPTIONS = 256
"""Most m= lines of a description. Their number never falls within a call (RFC 3264 §8), and a busy
conference has a hundred."""

FORMATS = 256
"""Most formats of one m= line. There are 128 payload types (RFC 3550 §5.1)."""

TIMES = 128
"""Most t=, r= and z= lines together. A call has one, a series of lectures a few."""

TIME_FIELDS = 256
"""Most numbers in one r= or z= line. A lecture on each day of a week has seven."""

DIGITS = 20
"""Most digits of a number. A number of 64 bits (RFC 3264 §5) has no more. Longer texts are refused
before int() would spend time on them."""

MAX_PORT = 65535
MAX_TTL = 255  # §5.7

HOLD_ADDRESS = "0.0.0.0"
"""The connection address that puts a stream on hold in RFC 2543 §B.5 (RFC 3264 §8.4)."""

CRLF = "\r\n"

# token-char = ALPHA / DIGIT / "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_"
# / "`" / "{" / "|" / "}" / "~"
_TOKEN = r"[A-Za-z0-9!#$%&'*+\-.^_`{|}~]+"
is_token = re.compile(_TOKEN).fullmatch
# proto = token *("/" token)
is_proto = re.compile(rf"{_TOKEN}(?:/{_TOKEN})*").fullmatch
# non-ws-string = 1*(VCHAR/%x80-FF)
is_non_ws = re.compile(r"[\x21-\x7e\x80-\U0010ffff]+").fullmatch
# FQDN = 4*(alpha-numeric / "-" / ".")      Digits and dots alone are a malformed address, no name.
is_fqdn = re.compile(r"(?=.*[A-Za-z\-])[A-Za-z0-9\-.]{4,}").fullmatch
# phone = ["+"] DIGIT 1*(SP / "-" / DIGIT)      phone-number = phone *SP "(" 1*email-safe ")" /
#   1*email-safe "<" phone ">" / phone
_PHONE = r"\+?[0-9][0-9 \-]+"
_SAFE = r"[^\0\r\n()<>]+"
is_phone = re.compile(rf"{_PHONE}(?:\({_SAFE}\))?|{_SAFE}<{_PHONE}>").fullmatch
# email-address = addr-spec 1*SP "(" 1*email-safe ")" / 1*email-safe 1*SP "<" addr-spec ">" /
# addr-spec
_ADDRESS = r"[^\x00-\x20()<>@,;:\\\"\x7f]+@[^\x00-\x20()<>@,;\\\"\x7f]+"
is_email = re.compile(rf"{_ADDRESS}(?: +\({_SAFE}\))?|{_SAFE}<{_ADDRESS}>").fullmatch
# the characters of a URI-reference (RFC 3986)
is_uri = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+").fullmatch
_digits = re.compile(r"[0-9]+").fullmatch
# typed-time = 1*DIGIT [fixed-len-time-unit]
typed_time = re.compile(r"(-?)([0-9]+)([dhms]?)").fullmatch
UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "": 1}  # §5.10, table 1
# rtpmap-value = payload-type SP encoding-name "/" clock-rate [ "/" encoding-params ]
rtpmap = re.compile(
    rf"([0-9]+)[ \t]+({_TOKEN})[ \t]*/[ \t]*([0-9]+)(?:[ \t]*/[ \t]*([0-9]+))?"
).fullmatch
# non-zero-int-or-real = integer / non-zero-real
real = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?").fullmatch

T = TypeVar("T")


def integer(text: str, limit: int = 10**DIGITS - 1, least: int = 0) -> int:
    """Read 1*DIGIT as a number of `least` to `limit`. Raises ParseError.

    int() alone would accept '+1', '1_0' and Arabic digits.
    """
    if not _digits(text):
        raise ParseError("not a number", value=text)
    significant = text.lstrip("0")
    if len(significant) > DIGITS or not least <= (value := int(significant or "0")) <= limit:
        raise ParseError(f"number not in {least} to {limit}", value=text)
    return value


def fields_of(text: str) -> list[str]:
    """Split a text at spaces and tabs; several count as one."""
    return [field for field in text.replace("\t", " ").split(" ") if field]


def written_number(value: int, limit: int = 10**DIGITS - 1, least: int = 0) -> str:
    """Return a whole number of `least` to `limit` as text. Raises InvalidValue for any other."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= limit:
        raise InvalidValue(f"a number must be a whole one from {least} to {limit}, got {value!r}")
    return str(value)


def matching(check: Callable[[str], object], text: str, what: str) -> str:
    """Return the text if `check` matches it. Raises InvalidValue, which names it by `what`."""
    if not isinstance(text, str) or not check(text):
        raise InvalidValue(f"{what} cannot be {excerpt(text)}: RFC 8866 §9 does not allow it")
    return text


def written_token(text: str, what: str) -> str:
    """Return the text if it is a token. Raises InvalidValue, which names it by `what`."""
    return matching(is_token, text, what)


def ip_of(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return a text as an IP address, or None for a host name and for a scoped address."""
    try:
        return None if "%" in address else ipaddress.ip_address(address)
    except ValueError:
        return None


def addrtype(address: str) -> str:
    """Return the addrtype of an address or host name: IP6 if it has a colon, else IP4."""
    return "IP6" if ":" in address else "IP4"


def written_address(nettype: str, addrtype: str, address: str) -> str:
    """Return the three fields as text (§9: unicast-address and multicast-address).

    Raises InvalidValue for an address that is not of its addrtype.
    """
    written_token(nettype, "nettype")
    written_token(addrtype, "addrtype")
    matching(is_non_ws, address, "address")
    if nettype == "IN" and addrtype in ("IP4", "IP6") and not is_fqdn(address):
        ip = ip_of(address)
        if ip is None or ip.version != (4 if addrtype == "IP4" else 6):
            raise InvalidValue(
                f"address must be a host name or an {addrtype} address, got {address!r}"
            )
    return f"{nettype} {addrtype} {address}"


_WIRE = re.compile(r"[^\0\r\n]+").fullmatch


def text_line(value: str, what: str) -> str:
    """Return the text if one line can hold it. Raises InvalidValue, which names it by `what`."""
    # byte-string = 1*(%x01-09/%x0B-0C/%x0E-FF)
    matching(_WIRE, value, what)
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidValue(f"{what} cannot be encoded as UTF-8: {excerpt(value)}") from None
    return value
