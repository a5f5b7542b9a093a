"""Limits, words and rules of session descriptions, RFC 8866 §9. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import TypeVar

from ...errors import InvalidValue, ParseError, excerpt

LINES = 4096
"""Lines of a description, at most: thirty streams with all their candidates have some two
thousand."""

MEDIA_DESCRIPTIONS = 256
"""m= lines of a description, at most: they never get fewer in a call (RFC 3264 §8), and a busy
conference has a hundred."""

FORMATS = 256
"""Formats of one m= line, at most: there are 128 payload types (RFC 3550 §5.1)."""

TIMES = 128
"""t=, r= and z= lines in all, at most: a call has one, a lecture with repeats a few."""

TIME_FIELDS = 256
"""Numbers in one r= or z= line, at most: a lecture on every day of a week has seven."""

DIGITS = 20
"""Digits of a number, at most: what fits into 64 bits (RFC 3264 §5) has no more. int() never sees a
longer one."""

MAX_PORT = 65535
MAX_TTL = 255  # §5.7

SENDRECV, SENDONLY, RECVONLY, INACTIVE = "sendrecv", "sendonly", "recvonly", "inactive"
DIRECTIONS = (SENDRECV, SENDONLY, RECVONLY, INACTIVE)  # §6.7

HOLD_ADDRESS = "0.0.0.0"
"""The connection address by which RFC 2543 §B.5 put a stream on hold (RFC 3264 §8.4)."""

CRLF = "\r\n"

# token-char = ALPHA / DIGIT / "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_"
# / "`" / "{" / "|" / "}" / "~"
_TOKEN = r"[A-Za-z0-9!#$%&'*+\-.^_`{|}~]+"
is_token = re.compile(_TOKEN).fullmatch
# proto = token *("/" token)
is_proto = re.compile(rf"{_TOKEN}(?:/{_TOKEN})*").fullmatch
# non-ws-string = 1*(VCHAR/%x80-FF)
is_non_ws = re.compile(r"[\x21-\x7e\x80-\U0010ffff]+").fullmatch
# FQDN = 4*(alpha-numeric / "-" / ".")      Digits and dots alone are an address that is none.
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
# URI-reference of RFC 3986: its characters
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
    """Read 1*DIGIT. int() alone would take '+1', '1_0' and Arabic digits."""
    if not _digits(text):
        raise ParseError("not a number", value=text)
    significant = text.lstrip("0")
    if len(significant) > DIGITS or not least <= (value := int(significant or "0")) <= limit:
        raise ParseError(f"number not in {least} to {limit}", value=text)
    return value


def fields_of(text: str) -> list[str]:
    """Cut at blanks; several count as one."""
    return [field for field in text.replace("\t", " ").split(" ") if field]


def written_number(value: int, limit: int = 10**DIGITS - 1, least: int = 0) -> str:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= limit:
        raise InvalidValue(f"a number of {least} to {limit} is wanted, not {value!r}")
    return str(value)


def matching(check: Callable[[str], object], text: str, what: str) -> str:
    if not isinstance(text, str) or not check(text):
        raise InvalidValue(f"{what} cannot be {excerpt(text)}")
    return text


def written_token(text: str, what: str) -> str:
    return matching(is_token, text, what)


def ip_of(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return None if "%" in address else ipaddress.ip_address(address)
    except ValueError:
        return None


def addrtype(address: str) -> str:
    return "IP6" if ":" in address else "IP4"


def written_address(nettype: str, addrtype: str, address: str) -> str:
    """Check the three fields and return them as text (§9: unicast-address and
    multicast-address)."""
    written_token(nettype, "a nettype")
    written_token(addrtype, "an addrtype")
    matching(is_non_ws, address, "an address")
    if nettype == "IN" and addrtype in ("IP4", "IP6") and not is_fqdn(address):
        ip = ip_of(address)
        if ip is None or ip.version != (4 if addrtype == "IP4" else 6):
            raise InvalidValue(f"{address!r} is neither a domain name nor an {addrtype} address")
    return f"{nettype} {addrtype} {address}"


_WIRE = re.compile(r"[^\0\r\n]+").fullmatch


def text_line(value: str, what: str) -> str:
    # byte-string = 1*(%x01-09/%x0B-0C/%x0E-FF)
    matching(_WIRE, value, what)
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidValue(f"{what} cannot be encoded: {excerpt(value)}") from None
    return value
