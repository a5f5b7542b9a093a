"""Session descriptions, RFC 8866: SDP, its media descriptions and their typed values. Pure.

What was parsed and not changed is written back byte for byte; what is assigned is written by the grammar of §9. What is
read is what the field sends, and that is a little more than the grammar:

| what is seen                                                    | what it is taken for                                 |
|-----------------------------------------------------------------|------------------------------------------------------|
| lines that end in LF, a last line without end (§5)              | as if they ended in CRLF                             |
| blank lines                                                     | nothing; kept                                        |
| a type letter of no meaning                                     | nothing; kept. §5 would have it ignored or refused   |
| lines of a section in an odd order                              | read, and kept where they stand                      |
| u=, e=, p=, t=, r=, z= behind an m= line                        | nothing; kept                                        |
| no s= line, or an empty one (RFC 3264 §10 looks like it)        | the name ""                                          |
| no t= line                                                      | t=0 0                                                |
| no c= line at all (streams with port 0 do without)              | connection None                                      |
| a second i=, u=, k=, a second c= of the session                 | nothing; kept. The first one counts                  |
| several blanks or tabs between fields, blanks at the end        | one blank, none                                      |
| o= with a user name that is empty or has blanks in it           | the five fields behind it are counted from the right |
| an address that is not of its addrtype, `IN IP4 2001:db8::1`    | the address as written                               |
| t= with a time of less than ten digits                          | that number                                          |
| z= without r= (RFC 4566 §5.11)                                  | adjustments of the t= line before it                 |
| b= of an unknown type with a value that is no number (§5.8)     | nothing; kept                                        |
| m= with port 0 and no format                                    | formats ()                                           |
| a= without a name, or with one that is no token                 | an attribute of that name                            |
| blanks round an attribute's name, or before a value read here   | none                                                 |
| octets that are not UTF-8 (§6.10 has other character sets)      | surrogates (PEP 383), written as they came           |

All else raises ParseError: a line that is not `type=value`, NUL or CR in a line, no v= or o=, two of v=, o= or s= (which
is two descriptions in one, RFC 3264 §5), r= before any t=, numbers that are none, ports over 65535, too many lines,
media descriptions, formats or times. The values of attributes are read when asked for, and only then found broken:
`rtpmap(31)` of RFC 4475's `a=rtpmap:31 LPC` raises ParseError, `rtpmaps`, for who looks for what is known, goes on.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, NamedTuple, TypeVar

from ..errors import InvalidValue, ParseError, excerpt
from .grammar import BLANKS

LINES = 4096
"""Lines of a description, at most: thirty streams with all their candidates have some two thousand."""

MEDIA_DESCRIPTIONS = 256
"""m= lines of a description, at most: they never get fewer in a call (RFC 3264 §8), and a busy conference has a hundred."""

FORMATS = 256
"""Formats of one m= line, at most: there are 128 payload types (RFC 3550 §5.1)."""

TIMES = 128
"""t=, r= and z= lines in all, at most: a call has one, a lecture with repeats a few."""

TIME_FIELDS = 256
"""Numbers in one r= or z= line, at most: a lecture on every day of a week has seven."""

DIGITS = 20
"""Digits of a number, at most: what fits into 64 bits (RFC 3264 §5) has no more. int() never sees a longer one."""

MAX_PORT = 65535
MAX_TTL = 255  # §5.7

SENDRECV, SENDONLY, RECVONLY, INACTIVE = "sendrecv", "sendonly", "recvonly", "inactive"
DIRECTIONS = (SENDRECV, SENDONLY, RECVONLY, INACTIVE)  # §6.7

HOLD_ADDRESS = "0.0.0.0"
"""The connection address by which RFC 2543 §B.5 put a stream on hold (RFC 3264 §8.4)."""

CRLF = "\r\n"

# token-char = ALPHA / DIGIT / "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "{" / "|" / "}" / "~"
_TOKEN = r"[A-Za-z0-9!#$%&'*+\-.^_`{|}~]+"
_is_token = re.compile(_TOKEN).fullmatch
# proto = token *("/" token)
_is_proto = re.compile(rf"{_TOKEN}(?:/{_TOKEN})*").fullmatch
# non-ws-string = 1*(VCHAR/%x80-FF)
_is_non_ws = re.compile(r"[\x21-\x7e\x80-\U0010ffff]+").fullmatch
# FQDN = 4*(alpha-numeric / "-" / ".")      Digits and dots alone are an address that is none.
_is_fqdn = re.compile(r"(?=.*[A-Za-z\-])[A-Za-z0-9\-.]{4,}").fullmatch
# phone = ["+"] DIGIT 1*(SP / "-" / DIGIT)      phone-number = phone *SP "(" 1*email-safe ")" / 1*email-safe "<" phone ">" / phone
_PHONE = r"\+?[0-9][0-9 \-]+"
_SAFE = r"[^\0\r\n()<>]+"
_is_phone = re.compile(rf"{_PHONE}(?:\({_SAFE}\))?|{_SAFE}<{_PHONE}>").fullmatch
# email-address = addr-spec 1*SP "(" 1*email-safe ")" / 1*email-safe 1*SP "<" addr-spec ">" / addr-spec
_ADDRESS = r"[^\x00-\x20()<>@,;:\\\"\x7f]+@[^\x00-\x20()<>@,;\\\"\x7f]+"
_is_email = re.compile(rf"{_ADDRESS}(?: +\({_SAFE}\))?|{_SAFE}<{_ADDRESS}>").fullmatch
# URI-reference of RFC 3986: its characters
_is_uri = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+").fullmatch
_digits = re.compile(r"[0-9]+").fullmatch
# typed-time = 1*DIGIT [fixed-len-time-unit]
_typed_time = re.compile(r"(-?)([0-9]+)([dhms]?)").fullmatch
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "": 1}  # §5.10, table 1
# rtpmap-value = payload-type SP encoding-name "/" clock-rate [ "/" encoding-params ]
_rtpmap = re.compile(rf"([0-9]+)[ \t]+({_TOKEN})[ \t]*/[ \t]*([0-9]+)(?:[ \t]*/[ \t]*([0-9]+))?").fullmatch
# non-zero-int-or-real = integer / non-zero-real
_real = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?").fullmatch

# §5.8, RFC 3556, RFC 3890: the bandwidth modifiers whose value must be a number.
_BANDWIDTH_TYPES = frozenset(("CT", "AS", "RS", "RR", "TIAS"))

_T = TypeVar("_T")


def _integer(text: str, limit: int = 10**DIGITS - 1, least: int = 0) -> int:
    """Read 1*DIGIT. int() alone would take '+1', '1_0' and Arabic digits."""
    if not _digits(text):
        raise ParseError("not a number", value=text)
    significant = text.lstrip("0")
    if len(significant) > DIGITS or not least <= (value := int(significant or "0")) <= limit:
        raise ParseError(f"number not in {least} to {limit}", value=text)
    return value


def _fields(text: str) -> list[str]:
    """Cut at blanks; several count as one."""
    return [field for field in text.replace("\t", " ").split(" ") if field]


def _number(value: int, limit: int = 10**DIGITS - 1, least: int = 0) -> str:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= limit:
        raise InvalidValue(f"a number of {least} to {limit} is wanted, not {value!r}")
    return str(value)


def _matching(check: Callable[[str], object], text: str, what: str) -> str:
    if not isinstance(text, str) or not check(text):
        raise InvalidValue(f"{what} cannot be {excerpt(text)}")
    return text


def _token(text: str, what: str) -> str:
    return _matching(_is_token, text, what)


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return None if "%" in address else ipaddress.ip_address(address)
    except ValueError:
        return None


def _addrtype(address: str) -> str:
    return "IP6" if ":" in address else "IP4"


def _address(nettype: str, addrtype: str, address: str) -> str:
    """Check the three fields and return them as text (§9: unicast-address and multicast-address)."""
    _token(nettype, "a nettype")
    _token(addrtype, "an addrtype")
    _matching(_is_non_ws, address, "an address")
    if nettype == "IN" and addrtype in ("IP4", "IP6") and not _is_fqdn(address):
        ip = _ip(address)
        if ip is None or ip.version != (4 if addrtype == "IP4" else 6):
            raise InvalidValue(f"{address!r} is neither a domain name nor an {addrtype} address")
    return f"{nettype} {addrtype} {address}"


class Origin(NamedTuple):
    """Who made the description, and which version of it this is: the o= line (§5.2)."""

    username: str
    session_id: int
    session_version: int
    nettype: str
    addrtype: str
    address: str

    @classmethod
    def parse(cls, text: str) -> Origin:
        fields = _fields(text)
        if text[:1] in (" ", "\t"):
            fields.insert(0, "")  # an empty user name
        if len(fields) < 6:
            raise ParseError("o= has six fields", value=text)
        username = " ".join(fields[:-5]).strip(" ")
        session_id, session_version, nettype, addrtype, address = fields[-5:]
        if not (_is_token(nettype) and _is_token(addrtype) and _is_non_ws(address)):
            raise ParseError("o= does not end in nettype, addrtype and address", value=text)
        return cls(username, _integer(session_id), _integer(session_version), nettype, addrtype, address)

    @classmethod
    def make(cls, address: str, *, username: str = "-", session_id: int | None = None, session_version: int = 1) -> Origin:
        """Make an Origin for an Internet address or name; without a session id, 62 random bits (RFC 3264 §5: below 2**63)."""
        if session_id is None:
            session_id = int.from_bytes(os.urandom(8), "big") >> 2
        return cls(username, session_id, session_version, "IN", _addrtype(address), address)

    def __str__(self) -> str:
        username = _matching(_is_non_ws, self.username, "an o= user name")
        ip = _ip(self.address)
        if self.nettype == "IN" and ip is not None and ip.is_multicast:
            raise InvalidValue(f"o= has a unicast address, not {self.address!r}")
        address = _address(self.nettype, self.addrtype, self.address)
        return f"{username} {_number(self.session_id)} {_number(self.session_version)} {address}"


class Connection(NamedTuple):
    """Where media goes: the c= line (§5.7). `ttl` is of IP4 multicast, `numaddr` the number of groups; None where not given."""

    nettype: str
    addrtype: str
    address: str
    ttl: int | None = None
    numaddr: int | None = None

    @classmethod
    def parse(cls, text: str) -> Connection:
        fields = _fields(text)
        if len(fields) != 3 or not (_is_token(fields[0]) and _is_token(fields[1]) and _is_non_ws(fields[2])):
            raise ParseError("c= is nettype, addrtype and address", value=text)
        nettype, addrtype, whole = fields
        if nettype != "IN" or addrtype not in ("IP4", "IP6"):
            return cls(nettype, addrtype, whole)
        address, *numbers = whole.split("/", 3)
        if len(numbers) > (2 if addrtype == "IP4" else 1) or not address:
            raise ParseError("c= has an address it cannot have", value=text)
        ttl = _integer(numbers.pop(0), MAX_TTL) if numbers and addrtype == "IP4" else None
        return cls(nettype, addrtype, address, ttl, _integer(numbers[0], least=1) if numbers else None)

    @classmethod
    def make(cls, address: str, *, ttl: int | None = None, numaddr: int | None = None) -> Connection:
        """Make a Connection to an Internet address or name."""
        return cls("IN", _addrtype(address), address, ttl, numaddr)

    @property
    def is_multicast(self) -> bool:
        """True for a group address of IP4 or IP6."""
        ip = _ip(self.address) if self.nettype == "IN" else None
        return ip is not None and ip.is_multicast

    @property
    def is_hold(self) -> bool:
        """True for 0.0.0.0: nothing is to be sent to the peer (RFC 3264 §8.4)."""
        return self.address == HOLD_ADDRESS

    def __str__(self) -> str:
        text = _address(self.nettype, self.addrtype, self.address)
        multicast, is_name = self.is_multicast, _is_fqdn(self.address)  # a name may be that of a group
        if self.ttl is not None and (self.addrtype != "IP4" or not (multicast or is_name)):
            raise InvalidValue(f"{self.address!r} has no TTL: only IP4 multicast has")
        if self.ttl is None and self.addrtype == "IP4" and (multicast or self.numaddr is not None):
            raise InvalidValue(f"{self.address!r} is IP4 multicast and wants a TTL")
        if self.numaddr is not None and not (multicast or is_name):
            raise InvalidValue(f"{self.address!r} is unicast: it is one address")
        ttl = "" if self.ttl is None else "/" + _number(self.ttl, MAX_TTL)
        return text + ttl + ("" if self.numaddr is None else "/" + _number(self.numaddr, least=1))


class Bandwidth(NamedTuple):
    """A b= line (§5.8): CT and AS in kilobits per second; TIAS (RFC 3890), RS and RR (RFC 3556) in bits per second."""

    bwtype: str
    bandwidth: int

    @classmethod
    def parse(cls, text: str) -> Bandwidth:
        bwtype, colon, bandwidth = text.partition(":")
        if not colon or not _is_token(bwtype.strip(BLANKS)):
            raise ParseError("b= is bwtype:bandwidth", value=text)
        return cls(bwtype.strip(BLANKS), _integer(bandwidth.strip(BLANKS)))

    def __str__(self) -> str:
        return f"{_token(self.bwtype, 'a bwtype')}:{_number(self.bandwidth)}"


def _seconds(text: str) -> int:
    match = _typed_time(text)
    if not match:
        raise ParseError("not a time", value=text)
    value = _integer(match[2]) * _UNITS[match[3]]
    return -value if match[1] else value


def _time_fields(text: str) -> list[str]:
    fields = _fields(text)
    if len(fields) > TIME_FIELDS:
        raise ParseError(f"over {TIME_FIELDS} numbers", value=text)
    return fields


class Repeat(NamedTuple):
    """An r= line (§5.10), all in seconds: `7d 1h 0 25h` is Repeat(604800, 3600, (0, 90000))."""

    interval: int
    duration: int
    offsets: tuple[int, ...] = (0,)

    @classmethod
    def parse(cls, text: str) -> Repeat:
        times = [_seconds(field) for field in _time_fields(text)]
        if len(times) < 3 or min(times) < 0 or not times[0]:
            raise ParseError("r= is an interval, a duration and offsets", value=text)
        return cls(times[0], times[1], tuple(times[2:]))

    def __str__(self) -> str:
        if not self.offsets:
            raise InvalidValue("r= has an offset at least")
        return " ".join([_number(self.interval, least=1), *map(_number, (self.duration, *self.offsets))])


class Adjustment(NamedTuple):
    """One pair of a z= line (§5.11): at `time` the time base moves to `offset` seconds from the start's."""

    time: int
    offset: int

    @classmethod
    def parse_all(cls, text: str) -> tuple[Adjustment, ...]:
        """Read all pairs of a z= line."""
        fields = _time_fields(text)
        if not fields or len(fields) % 2:
            raise ParseError("z= is pairs of a time and an offset", value=text)
        return tuple(cls(_integer(time), _seconds(offset)) for time, offset in zip(fields[::2], fields[1::2]))

    def __str__(self) -> str:
        return f"{_time(self.time)} {'-' if self.offset < 0 else ''}{_number(abs(self.offset))}"


def _time(value: int) -> str:
    # time = POS-DIGIT 9*DIGIT, start-time = time / "0"
    return _number(value, least=10**9) if value else "0"


class Time(NamedTuple):
    """A time description (§5.9): t= in seconds since 1900, with its r= and z= lines. Time() is `t=0 0`, of a call."""

    start: int = 0
    stop: int = 0
    repeats: tuple[Repeat, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Time:
        """Read what stands behind t= alone."""
        fields = _fields(text)
        if len(fields) != 2:
            raise ParseError("t= is a start and a stop time", value=text)
        return cls(_integer(fields[0]), _integer(fields[1]))

    def __str__(self) -> str:
        return f"{_time(self.start)} {_time(self.stop)}"

    def _lines(self) -> list[Line]:
        if self.adjustments and not self.repeats:
            raise InvalidValue("z= modifies r= lines, and there are none")
        lines = [Line("t", str(self)), *[Line("r", str(repeat)) for repeat in self.repeats]]
        return [*lines, Line("z", " ".join(map(str, self.adjustments)))] if self.adjustments else lines


class RTPMap(NamedTuple):
    """What a payload type means: an a=rtpmap (§6.6). `channels` is None where not given, which means 1."""

    payload_type: int
    encoding: str
    clock_rate: int
    channels: int | None = None

    @classmethod
    def parse(cls, text: str) -> RTPMap:
        match = _rtpmap(text.strip(BLANKS))
        if not match:
            raise ParseError("rtpmap is payload type, encoding/clock rate[/channels]", value=text)
        channels = None if match[4] is None else _integer(match[4], least=1)
        return cls(_integer(match[1], 127), match[2], _integer(match[3], least=1), channels)

    @property
    def key(self) -> tuple[str, int, int]:
        """What is compared: encoding in lower case (RFC 4855 §3), clock rate, channels."""
        return self.encoding.lower(), self.clock_rate, self.channels or 1

    def __str__(self) -> str:
        channels = "" if self.channels is None else "/" + _number(self.channels, least=1)
        encoding = _token(self.encoding, "an encoding name")
        return f"{_number(self.payload_type, 127)} {encoding}/{_number(self.clock_rate, least=1)}{channels}"


STATIC_PAYLOAD_TYPES = {
    row.payload_type: row
    for row in (
        RTPMap(0, "PCMU", 8000), RTPMap(3, "GSM", 8000), RTPMap(4, "G723", 8000), RTPMap(5, "DVI4", 8000),
        RTPMap(6, "DVI4", 16000), RTPMap(7, "LPC", 8000), RTPMap(8, "PCMA", 8000), RTPMap(9, "G722", 8000),
        RTPMap(10, "L16", 44100, 2), RTPMap(11, "L16", 44100), RTPMap(12, "QCELP", 8000), RTPMap(13, "CN", 8000),
        RTPMap(14, "MPA", 90000), RTPMap(15, "G728", 8000), RTPMap(16, "DVI4", 11025), RTPMap(17, "DVI4", 22050),
        RTPMap(18, "G729", 8000), RTPMap(25, "CelB", 90000), RTPMap(26, "JPEG", 90000), RTPMap(28, "nv", 90000),
        RTPMap(31, "H261", 90000), RTPMap(32, "MPV", 90000), RTPMap(33, "MP2T", 90000), RTPMap(34, "H263", 90000),
    )
}  # fmt: skip
"""Payload types that mean something without a=rtpmap (RFC 3551 §6, tables 4 and 5)."""

_STATIC_FORMATS = {str(number): rtpmap for number, rtpmap in STATIC_PAYLOAD_TYPES.items()}


class RTCP(NamedTuple):
    """Where RTCP goes, when that is not the port above: a=rtcp (RFC 3605 §2.1). `connection` is None with a port alone."""

    port: int
    connection: Connection | None = None

    @classmethod
    def parse(cls, text: str) -> RTCP:
        port, _, rest = text.strip(BLANKS).replace("\t", " ").partition(" ")
        return cls(_integer(port, MAX_PORT), Connection.parse(rest) if rest.strip(BLANKS) else None)

    def __str__(self) -> str:
        return _number(self.port, MAX_PORT) + ("" if self.connection is None else f" {self.connection}")


class Attribute(NamedTuple):
    """An a= line (§5.13). `value` is None for a property attribute, `a=recvonly`."""

    name: str
    value: str | None = None

    @classmethod
    def parse(cls, text: str) -> Attribute:
        name, colon, value = text.partition(":")
        return cls(name.strip(BLANKS), value if colon else None)

    def __str__(self) -> str:
        name = _token(self.name, "an attribute's name")
        return name if self.value is None else f"{name}:{_text(self.value, 'an attribute value')}"


class MediaField(NamedTuple):
    """An m= line (§5.14). `port_count` is the number of ports, or None where not given."""

    media: str
    port: int
    port_count: int | None
    proto: str
    formats: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> MediaField:
        fields = _fields(text)
        if len(fields) < 3:
            raise ParseError("m= is media, port, proto and formats", value=text)
        media, ports, proto, *formats = fields
        port, slash, count = ports.partition("/")
        if not (_is_token(media) and _is_proto(proto) and (not formats or _is_token("".join(formats)))):
            raise ParseError("m= is media, port, proto and formats", value=text)
        if len(formats) > FORMATS:
            raise ParseError(f"m= with over {FORMATS} formats", value=text)
        number = _integer(port, MAX_PORT)
        if not formats and number:
            raise ParseError("m= without a format", value=text)
        return cls(media, number, _integer(count, MAX_PORT, 1) if slash else None, proto, tuple(formats))

    def __str__(self) -> str:
        if not self.formats or len(self.formats) > FORMATS:
            raise InvalidValue(f"m= has one format at least, and {FORMATS} at most")
        formats = " ".join([_token(fmt, "a format") for fmt in self.formats])
        count = "" if self.port_count is None else "/" + _number(self.port_count, MAX_PORT, 1)
        proto = _matching(_is_proto, self.proto, "a transport protocol")
        return f"{_token(self.media, 'a media type')} {_number(self.port, MAX_PORT)}{count} {proto} {formats}"


class Line(NamedTuple):
    """A line as it stands: type letter, "" for a blank one; text behind `=`; line end, None when of ours; number from 1, or 0."""

    type: str
    value: str
    end: str | None = None
    number: int = 0

    def read(self, parse: Callable[[str], _T], value: str | None = None) -> _T:
        """Return what `parse` makes of the value; its ParseError names this line."""
        try:
            return parse(self.value if value is None else value)
        except ParseError as error:
            raise self.error(error.problem) from None

    def error(self, problem: str) -> ParseError:
        where = f"SDP line {self.number}" if self.number else "SDP"
        return ParseError(problem, header=f"{where}, {self.type}=" if self.type else where, value=self.value)


_WIRE = re.compile(r"[^\0\r\n]+").fullmatch


def _text(value: str, what: str) -> str:
    # byte-string = 1*(%x01-09/%x0B-0C/%x0E-FF)
    _matching(_WIRE, value, what)
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidValue(f"{what} cannot be encoded: {excerpt(value)}") from None
    return value


def _free_text(what: str) -> Callable[[str], str]:
    return lambda value: _text(value, what)


def _grammatical(check: Callable[[str], object], what: str) -> Callable[[str], str]:
    return lambda value: _matching(check, _text(value, what), what)


_FREE_TEXT: dict[str, Callable[[str], str]] = {
    "s": _free_text("a session name"),
    "i": _free_text("session information"),
    "u": _grammatical(_is_uri, "a URI"),
    "e": _grammatical(_is_email, "an email address"),
    "p": _grammatical(_is_phone, "a phone number"),
}


class Attributes:
    """The a= lines of a section: an ordered multi-map; changes go into the section at once (§5.13).

    Iterates over Attribute values. Names are case-sensitive (§5.13). A property attribute has the value None:
    `"rtcp-mux" in attributes` asks for it.
    """

    __slots__ = ("_section",)

    def __init__(self, section: Section) -> None:
        self._section = section

    def __iter__(self) -> Iterator[Attribute]:
        return iter([Attribute.parse(line.value) for line in self._section._get("a")])

    def __len__(self) -> int:
        return len(self._section._get("a"))

    def __contains__(self, name: object) -> bool:
        return bool(self._section._get(f"a={name}"))

    def first(self, name: str, default: str | None = None) -> str | None:
        """Return the value of the first attribute of this name, `default` when there is none."""
        lines = self._section._get(f"a={name}")
        return Attribute.parse(lines[0].value).value if lines else default

    def all(self, name: str) -> tuple[str | None, ...]:
        """Return the values of all attributes of this name."""
        return tuple(Attribute.parse(line.value).value for line in self._section._get(f"a={name}"))

    def add(self, name: str, value: str | None = None) -> None:
        """Put an attribute behind those there are. Raises InvalidValue."""
        self._section._insert(Line("a", str(Attribute(name, value))))

    def set(self, name: str, value: str | None = None) -> None:
        """Put an attribute in the place of the first of its name, without the others; else behind all. Raises InvalidValue."""
        self._section._put_attribute((name,), Attribute(name, value))

    def remove(self, name: str) -> None:
        """Take out all attributes of this name, if there are any."""
        self._section._put_attribute((name,), None)

    def __repr__(self) -> str:
        return f"<Attributes {', '.join(line.value for line in self._section._get('a'))}>"


class Section:
    """A run of lines: what the session's part and a media description have in common."""

    __slots__ = ("_found", "_lines")
    _order: ClassVar[str]

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = list(lines)
        self._found: dict[str, list[Line]] | None = None

    # ---- lines

    def _get(self, key: str) -> list[Line]:
        """The lines of a type, "c", of an attribute, "a=ptime", or of any "direction": from an index, for many ask."""
        if self._found is None:
            self._found = {}
            for line in self._lines:
                self._found.setdefault(line.type, []).append(line)
                if line.type == "a":
                    name = Attribute.parse(line.value).name
                    self._found.setdefault(f"a={name}", []).append(line)
                    if name in DIRECTIONS:
                        self._found.setdefault("direction", []).append(line)
        return self._found.get(key, [])

    def _set(self, lines: list[Line]) -> None:
        self._lines = lines
        self._found = None

    def _place(self, kind: str) -> int:
        rank = self._order.index(kind)
        for index in range(len(self._lines) - 1, -1, -1):
            if 0 <= self._order.find(self._lines[index].type or "?") <= rank:
                return index + 1
        return 0

    def _insert(self, line: Line) -> None:
        at = self._place(line.type)
        self._set([*self._lines[:at], line, *self._lines[at:]])

    def _put(self, kinds: str, new: list[Line]) -> None:
        """Put lines in the place of all of these types, where the first of them stood or where §5 wants them."""
        old = [index for index, line in enumerate(self._lines) if line.type and line.type in kinds]
        at = old[0] if old else self._place(kinds[0])
        self._set([*self._lines[:at], *new, *[line for line in self._lines[at:] if not line.type or line.type not in kinds]])

    def _put_one(self, kind: str, value: _T | None, read: Callable[[str], _T]) -> None:
        """Put one line, in whose place an equal one stays as it is, or none."""
        old = self._get(kind)
        if value is None:
            self._put(kind, [])
        elif not old or read(old[0].value) != value:
            self._put(kind, [Line(kind, str(value))])

    def _put_all(self, kind: str, values: Iterable[_T], read: Callable[[str], _T | None]) -> None:
        known = {read(line.value): line for line in reversed(self._get(kind))}
        self._put(kind, [known.get(value) or Line(kind, str(value)) for value in values])

    def _put_attribute(self, names: tuple[str, ...], attribute: Attribute | None) -> None:
        text = None if attribute is None else str(attribute)
        lines: list[Line] = []
        done = attribute is None
        for line in self._lines:
            if line.type == "a" and Attribute.parse(line.value).name in names:
                if done:
                    continue
                line, done = line if Attribute.parse(line.value) == attribute else Line("a", text or ""), True
            lines.append(line)
        self._set(lines)
        if not done:
            self._insert(Line("a", text or ""))

    def _written(self, end: str) -> str:
        parts: list[str] = []
        last = len(self._lines) - 1
        for index, line in enumerate(self._lines):
            parts.append(f"{line.type}={line.value}" if line.type else line.value)
            parts.append(line.end if line.end or (line.end is not None and index == last) else end)
        return "".join(parts)

    # ---- what both have

    @property
    def attributes(self) -> Attributes:
        """The a= lines, to read and to change."""
        return Attributes(self)

    @property
    def information(self) -> str | None:
        """The i= line: free text, or None (§5.4)."""
        lines = self._get("i")
        return lines[0].value if lines else None

    @information.setter
    def information(self, value: str | None) -> None:
        self._put_one("i", None if value is None else _FREE_TEXT["i"](value), str)

    @property
    def bandwidths(self) -> tuple[Bandwidth, ...]:
        """The b= lines that are understood (§5.8)."""
        read = [_bandwidth(line.value) for line in self._get("b")]
        return tuple(bandwidth for bandwidth in read if bandwidth is not None)

    @bandwidths.setter
    def bandwidths(self, values: Iterable[Bandwidth]) -> None:
        self._put_all("b", values, _bandwidth)

    @property
    def key(self) -> str | None:
        """The k= line, or None: obsolete, to be discarded and never sent (§5.12). None is all that may be assigned."""
        lines = self._get("k")
        return lines[0].value if lines else None

    @key.setter
    def key(self, value: None) -> None:
        if value is not None:
            raise InvalidValue("k= is obsolete and must not be sent (RFC 8866 §5.12)")
        self._put("k", [])


def _bandwidth(text: str) -> Bandwidth | None:
    """None for an unknown type whose value is no number: §5.8 has it ignored."""
    try:
        return Bandwidth.parse(text)
    except ParseError:
        if text.partition(":")[0].strip(BLANKS) in _BANDWIDTH_TYPES:
            raise
        return None


def _connection(value: Connection | str | None) -> Connection | None:
    return Connection.make(value) if isinstance(value, str) else value


class MediaDescription(Section):
    """An m= line and what belongs to it (§5.14): one media stream. Made by SDP.parse() or `make()`; assign to change."""

    __slots__ = ("_field", "_session")
    _order = "micbka"

    def __init__(self, lines: Iterable[Line], session: SDP | None = None) -> None:
        super().__init__(lines)
        self._field = self._lines[0].read(MediaField.parse)
        self._session = session

    @classmethod
    def make(
        cls,
        media: str,
        port: int,
        formats: Iterable[RTPMap | int | str],
        *,
        proto: str = "RTP/AVP",
        port_count: int | None = None,
        information: str | None = None,
        connection: Connection | str | None = None,
        bandwidths: Iterable[Bandwidth] = (),
        fmtp: dict[int, str] | None = None,
        ptime: float | None = None,
        direction: str | None = None,
        attributes: Iterable[Attribute] = (),
    ) -> MediaDescription:
        """Make a media description; a format given as RTPMap has its a=rtpmap, and its a=fmtp behind it. Raises InvalidValue."""
        formats = list(formats)
        names = [str(fmt.payload_type if isinstance(fmt, RTPMap) else fmt) for fmt in formats]
        lines = [Line("m", str(MediaField(media, port, port_count, proto, tuple(names))))]
        parameters = {str(payload_type): text for payload_type, text in (fmtp or {}).items()}
        for fmt, name in zip(formats, names):
            if isinstance(fmt, RTPMap):
                lines.append(Line("a", str(Attribute("rtpmap", str(fmt)))))
            if name in parameters:
                lines.append(Line("a", str(Attribute("fmtp", f"{name} {_text(parameters.pop(name), 'format parameters')}"))))
        if parameters:
            raise InvalidValue(f"format parameters for what is no format here: {', '.join(parameters)}")
        made = cls(lines)
        made.information = information
        made.connection = _connection(connection)
        made.bandwidths = tuple(bandwidths)
        if ptime is not None:
            made.ptime = ptime
        for attribute in attributes:
            made.attributes.add(*attribute)
        if direction is not None:
            made._put_attribute(DIRECTIONS, Attribute(_direction(direction)))
        return made

    def copy(self) -> MediaDescription:
        """Return the same lines in an object of its own, part of no description yet."""
        return MediaDescription(self._lines)

    # ---- m=

    def _change(self, **fields: object) -> None:
        field = MediaField(**{**self._field._asdict(), **fields})
        if field != self._field:
            self._set([self._lines[0]._replace(value=str(field), number=0), *self._lines[1:]])
            self._field = field

    @property
    def media(self) -> str:
        """The media type: "audio", "video", "image" …"""
        return self._field.media

    @media.setter
    def media(self, value: str) -> None:
        self._change(media=value)

    @property
    def port(self) -> int:
        """The transport port, 0 for a stream that is rejected or removed (RFC 3264 §6, §8.2)."""
        return self._field.port

    @port.setter
    def port(self, value: int) -> None:
        self._change(port=value)

    @property
    def port_count(self) -> int | None:
        """The number of ports, `49170/2`, or None."""
        return self._field.port_count

    @port_count.setter
    def port_count(self, value: int | None) -> None:
        self._change(port_count=value)

    @property
    def proto(self) -> str:
        """The transport protocol: "RTP/AVP", "udptl" …"""
        return self._field.proto

    @proto.setter
    def proto(self, value: str) -> None:
        self._change(proto=value)

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats as text, the preferred one first; payload types for RTP."""
        return self._field.formats

    @formats.setter
    def formats(self, value: Iterable[str | int]) -> None:
        self._change(formats=tuple(map(str, value)))

    @property
    def is_disabled(self) -> bool:
        """True with port 0 (RFC 3264 §5.1)."""
        return not self.port

    @property
    def is_rtp(self) -> bool:
        """True when the formats are payload types: RTP/AVP, RTP/SAVP, UDP/TLS/RTP/SAVPF … (§5.14)."""
        return "RTP" in self.proto.upper().split("/")

    # ---- c=

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The c= lines of this description itself; several are layers of one multicast stream (§5.7)."""
        return tuple(line.read(Connection.parse) for line in self._get("c"))

    @connections.setter
    def connections(self, values: Iterable[Connection]) -> None:
        self._put_all("c", values, Connection.parse)

    @property
    def connection(self) -> Connection | None:
        """What applies here: the first c= line of its own, else the session's, else None (§5.7). Assigned, it is its own."""
        own = self._get("c")
        if own:
            return own[0].read(Connection.parse)
        return None if self._session is None else self._session.connection

    @connection.setter
    def connection(self, value: Connection | str | None) -> None:
        self._put_one("c", _connection(value), Connection.parse)

    # ---- a=

    def rtpmap(self, payload_type: int | str) -> RTPMap | None:
        """Return what a payload type means: its a=rtpmap, else the static one of RFC 3551, else None. Raises ParseError."""
        wanted = str(payload_type)
        for line in self._get("a=rtpmap"):
            value = (Attribute.parse(line.value).value or "").strip(BLANKS)
            if value.replace("\t", " ").partition(" ")[0] == wanted:
                return line.read(RTPMap.parse, value)
        return _STATIC_FORMATS.get(wanted) if self.is_rtp else None

    @property
    def rtpmaps(self) -> dict[str, RTPMap]:
        """What each format of the m= line means, in its order; without those nobody can tell, broken a=rtpmap included."""
        static = _STATIC_FORMATS if self.is_rtp else {}
        known = {fmt: static.get(fmt) for fmt in self.formats}
        written: set[str] = set()
        for value in self.attributes.all("rtpmap"):
            text = (value or "").strip(BLANKS)
            fmt = text.replace("\t", " ").partition(" ")[0]
            if fmt in known and fmt not in written:
                try:
                    known[fmt] = RTPMap.parse(text)
                except ParseError:
                    continue
                written.add(fmt)
        return {fmt: rtpmap for fmt, rtpmap in known.items() if rtpmap is not None}

    @property
    def fmtps(self) -> dict[str, str]:
        """The format parameters by format, in the order of their a=fmtp lines; the first counts where there are two."""
        found: dict[str, str] = {}
        for value in self.attributes.all("fmtp"):
            fmt, _, parameters = (value or "").strip(BLANKS).replace("\t", " ").partition(" ")
            found.setdefault(fmt, parameters.strip(BLANKS))
        return found

    def fmtp(self, fmt: int | str) -> str | None:
        """Return the format parameters of a format as text (§6.15), or None."""
        return self.fmtps.get(str(fmt))

    def _milliseconds(self, name: str) -> float | None:
        lines = self._get(f"a={name}")
        if not lines:
            return None
        text = (Attribute.parse(lines[0].value).value or "").strip(BLANKS)
        if not _real(text) or not (value := float(text)):
            raise lines[0].error(f"{name} is a number over 0")
        return int(value) if value == int(value) else value

    def _put_milliseconds(self, name: str, value: float | None) -> None:
        if value is None:
            self.attributes.remove(name)
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not _real(f"{value:g}") or value <= 0:
            raise InvalidValue(f"{name} is a number of milliseconds over 0, not {value!r}")
        else:
            self.attributes.set(name, f"{value:g}")

    @property
    def ptime(self) -> float | None:
        """Milliseconds of media in a packet, as the sender of this wants to receive it (§6.4, RFC 3264 §5.1), or None."""
        return self._milliseconds("ptime")

    @ptime.setter
    def ptime(self, value: float | None) -> None:
        self._put_milliseconds("ptime", value)

    @property
    def maxptime(self) -> float | None:
        """Milliseconds of media in a packet at most (§6.5), or None."""
        return self._milliseconds("maxptime")

    @maxptime.setter
    def maxptime(self, value: float | None) -> None:
        self._put_milliseconds("maxptime", value)

    @property
    def rtcp(self) -> RTCP | None:
        """Where RTCP goes by a=rtcp (RFC 3605), or None: then it is the port above."""
        lines = self._get("a=rtcp")
        return lines[0].read(RTCP.parse, Attribute.parse(lines[0].value).value or "") if lines else None

    @rtcp.setter
    def rtcp(self, value: RTCP | None) -> None:
        if value is None:
            self.attributes.remove("rtcp")
        elif self.rtcp != value:
            self.attributes.set("rtcp", str(value))

    @property
    def direction(self) -> str:
        """The direction attribute: its own, else the session's, else "sendrecv" (§6.7)."""
        own = self._get("direction")
        if own:
            return Attribute.parse(own[0].value).name
        return SENDRECV if self._session is None else self._session.direction

    @direction.setter
    def direction(self, value: str) -> None:
        if _direction(value) != self.direction:
            self._put_attribute(DIRECTIONS, Attribute(value))

    @property
    def is_direction_written(self) -> bool:
        """True when a direction attribute stands here or at session level: sendrecv may be left out (§6.7)."""
        return bool(self._get("direction") or (self._session is not None and self._session._get("direction")))

    @property
    def is_hold(self) -> bool:
        """True when who sent this wants to receive nothing: sendonly, inactive, or 0.0.0.0 (RFC 3264 §8.4).

        A device that can only send looks the same (RFC 6337 §5.3).
        """
        connection = self.connection
        return self.direction in (SENDONLY, INACTIVE) or (connection is not None and connection.is_hold)

    def __str__(self) -> str:
        return self._written(CRLF if self._session is None else self._session._end)

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, MediaDescription) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<MediaDescription {excerpt(self._lines[0].value)[1:-1]} {self.direction}>"


def _direction(value: str) -> str:
    if value not in DIRECTIONS:
        raise InvalidValue(f"a direction is one of {', '.join(DIRECTIONS)}, not {value!r}")
    return value


# What stands in a line when it is looked at first.
_CHECKS: dict[str, Callable[[str], object]] = {
    "v": lambda text: _integer(text.strip(BLANKS), 0),  # §5.1: version 0 is all there is
    "o": Origin.parse,
    "c": Connection.parse,
    "b": _bandwidth,
    "t": Time.parse,
    "r": Repeat.parse,
    "z": Adjustment.parse_all,
}
_ONCE = "vos"  # a second one begins another description
_MEDIA_CHECKS = "cb"


class SDP(Section):
    """A session description (§5): the session's lines, and `media`, the media descriptions.

    Mutable: to change a field, assign it. `str(sdp)` and `bytes(sdp)` are what goes on the wire.
    """

    __slots__ = ("_end", "_media")
    _order = "vosiuepcbtrzka"

    def __init__(self, lines: Iterable[Line], media: Iterable[MediaDescription] = (), end: str = CRLF) -> None:
        super().__init__(lines)
        self._end = end
        self._media: tuple[MediaDescription, ...] = ()
        self._adopt(media)

    @classmethod
    def parse(cls, text: bytes | str) -> SDP:
        """Read a description. Raises ParseError, which names the line by number and type."""
        lines = _cut(text)
        starts = [index for index, line in enumerate(lines) if line.type == "m"]
        if len(starts) > MEDIA_DESCRIPTIONS:
            raise ParseError(f"over {MEDIA_DESCRIPTIONS} media descriptions", header="SDP")
        session = lines[: starts[0]] if starts else lines
        if sum(1 for line in session if line.type and line.type in "trz") > TIMES:
            raise ParseError(f"over {TIMES} lines of times", header="SDP")
        seen = ""
        for line in session:
            kind = line.type
            if not kind:
                continue
            if not seen and kind != "v":
                raise line.error("a description begins with v=")
            if kind in seen and kind in _ONCE:
                raise line.error(f"{kind}= stands twice")
            if kind == "r" and "t" not in seen:
                raise line.error("r= before t=")
            if kind in _CHECKS:
                line.read(_CHECKS[kind])
            if kind not in seen:
                seen += kind
        for kind in "vo":
            if kind not in seen:
                raise ParseError(f"{kind}= is missing", header="SDP")
        end = next((line.end for line in lines if line.end), CRLF)
        media = []
        for start, stop in zip(starts, [*starts[1:], len(lines)]):
            for line in lines[start + 1 : stop]:
                if line.type and line.type in _ONCE:
                    raise line.error(f"{line.type}= behind m=: two descriptions in one")
                if line.type and line.type in _MEDIA_CHECKS:
                    line.read(_CHECKS[line.type])
            media.append(MediaDescription(lines[start:stop]))
        return cls(session, media, end)

    @classmethod
    def make(
        cls,
        address: Connection | str | None = None,
        media: Iterable[MediaDescription] = (),
        *,
        origin: Origin | None = None,
        name: str = "-",
        information: str | None = None,
        uri: str | None = None,
        emails: Iterable[str] = (),
        phones: Iterable[str] = (),
        bandwidths: Iterable[Bandwidth] = (),
        times: Iterable[Time] = (Time(),),
        attributes: Iterable[Attribute] = (),
    ) -> SDP:
        """Make a description. `address` is the session's c= line, and without an `origin` the o= line's. Raises InvalidValue."""
        connection = _connection(address)
        if origin is None:
            if connection is None:
                raise InvalidValue("a description wants an origin, or an address to make one of")
            origin = Origin.make(connection.address)
        made = cls([Line("v", "0"), Line("o", str(origin)), Line("s", _FREE_TEXT["s"](name)), Line("t", "0 0")])
        made.times = tuple(times)
        made.information = information
        made.uri = uri
        made.emails = tuple(emails)
        made.phones = tuple(phones)
        made.connection = connection
        made.bandwidths = tuple(bandwidths)
        for attribute in attributes:
            made.attributes.add(*attribute)
        made.media = tuple(media)
        if connection is None and not all(section.connections for section in made.media):
            raise InvalidValue("c= stands in the session's part or in every media description (RFC 8866 §5.7)")
        return made

    def copy(self) -> SDP:
        """Return an equal description that can be changed without changing this one."""
        return SDP(self._lines, self._media, self._end)

    def _adopt(self, media: Iterable[MediaDescription]) -> None:
        own: list[MediaDescription] = []
        taken: set[int] = set()
        for section in media:
            if (section._session is not None and section._session is not self) or id(section) in taken:
                section = section.copy()  # what stands in two places must not change in both
            section._session = self
            taken.add(id(section))
            own.append(section)
        self._media = tuple(own)

    @property
    def version(self) -> int:
        """The protocol version, 0 (§5.1)."""
        return 0

    @property
    def origin(self) -> Origin:
        """The o= line (§5.2)."""
        return self._get("o")[0].read(Origin.parse)

    @origin.setter
    def origin(self, value: Origin) -> None:
        self._put_one("o", _present(value, "o="), Origin.parse)

    @property
    def name(self) -> str:
        """The s= line (§5.3); "" where it is empty or missing. Assigned, it may be " " or "-", not ""."""
        lines = self._get("s")
        return lines[0].value if lines else ""

    @name.setter
    def name(self, value: str) -> None:
        self._put_one("s", _FREE_TEXT["s"](value), str)

    @property
    def uri(self) -> str | None:
        """The u= line (§5.5), or None."""
        lines = self._get("u")
        return lines[0].value if lines else None

    @uri.setter
    def uri(self, value: str | None) -> None:
        self._put_one("u", None if value is None else _FREE_TEXT["u"](value), str)

    @property
    def emails(self) -> tuple[str, ...]:
        """The e= lines (§5.6)."""
        return tuple(line.value for line in self._get("e"))

    @emails.setter
    def emails(self, values: Iterable[str]) -> None:
        self._put_all("e", [_FREE_TEXT["e"](value) for value in values], str)

    @property
    def phones(self) -> tuple[str, ...]:
        """The p= lines (§5.6)."""
        return tuple(line.value for line in self._get("p"))

    @phones.setter
    def phones(self, values: Iterable[str]) -> None:
        self._put_all("p", [_FREE_TEXT["p"](value) for value in values], str)

    @property
    def connection(self) -> Connection | None:
        """The session's c= line (§5.7), or None. An address as text may be assigned."""
        lines = self._get("c")
        return lines[0].read(Connection.parse) if lines else None

    @connection.setter
    def connection(self, value: Connection | str | None) -> None:
        self._put_one("c", _connection(value), Connection.parse)

    def _time_groups(self) -> list[tuple[Time, list[Line]]]:
        groups: list[tuple[Time, list[Line]]] = []
        for line in self._lines:
            if line.type == "t":
                groups.append((line.read(Time.parse), [line]))
            elif line.type and line.type in "rz" and groups:
                time, lines = groups[-1]
                if line.type == "r":
                    time = time._replace(repeats=(*time.repeats, line.read(Repeat.parse)))
                else:
                    time = time._replace(adjustments=(*time.adjustments, *line.read(Adjustment.parse_all)))
                groups[-1] = (time, [*lines, line])
        return groups

    @property
    def times(self) -> tuple[Time, ...]:
        """The time descriptions (§5.9); one of `0 0` where there is none."""
        return tuple(time for time, _ in self._time_groups()) or (Time(),)

    @times.setter
    def times(self, values: Iterable[Time]) -> None:
        known = dict(reversed(self._time_groups()))
        lines = [line for time in values for line in known.get(time) or time._lines()]
        if not lines:
            raise InvalidValue("a description has one t= line at least")
        self._put("trz", lines)

    def _copy_times(self, other: SDP) -> None:
        """Take the t=, r= and z= lines of another description as they are written (RFC 3264 §6)."""
        if self.times != other.times:
            lines = [Line(line.type, line.value) for _, group in other._time_groups() for line in group]
            self._put("trz", lines or [Line("t", "0 0")])

    @property
    def direction(self) -> str:
        """The direction attribute of the session, which holds for streams without one; "sendrecv" by default (§6.7)."""
        lines = self._get("direction")
        return Attribute.parse(lines[0].value).name if lines else SENDRECV

    @direction.setter
    def direction(self, value: str) -> None:
        if _direction(value) != self.direction:
            self._put_attribute(DIRECTIONS, Attribute(value))

    @property
    def media(self) -> tuple[MediaDescription, ...]:
        """The media descriptions. To add one assign `(*sdp.media, new)`; one that belongs to another description is copied."""
        return self._media

    @media.setter
    def media(self, values: Iterable[MediaDescription]) -> None:
        values = tuple(values)
        if len(values) > MEDIA_DESCRIPTIONS:
            raise InvalidValue(f"a description has {MEDIA_DESCRIPTIONS} media descriptions at most")
        self._adopt(values)

    @property
    def is_hold(self) -> bool:
        """True when all streams that are not disabled are on hold: "held SDP" (RFC 3264 §8.4)."""
        live = [section for section in self._media if not section.is_disabled]
        return bool(live) and all(section.is_hold for section in live)

    def __str__(self) -> str:
        whole = Section([*self._lines, *[line for section in self._media for line in section._lines]])
        return whole._written(self._end)

    def __bytes__(self) -> bytes:
        return str(self).encode("utf-8", "surrogateescape")

    def __eq__(self, other: object) -> bool:
        return bytes(self) == bytes(other) if isinstance(other, SDP) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        streams = ", ".join(f"{section.media} {section.port} {section.direction}" for section in self._media[:8])
        return f"<SDP {excerpt(self._get('o')[0].value)[1:-1]}: {streams or 'no streams'}>"


def _present(value: _T | None, what: str) -> _T:
    if value is None:
        raise InvalidValue(f"{what} cannot be left out")
    return value


def _cut(text: bytes | str) -> list[Line]:
    """Cut into lines; each is checked for its form only."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    else:
        try:
            text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise ParseError("text that cannot be encoded", header="SDP", value=text) from None
    if text.count("\n") > LINES:
        raise ParseError(f"over {LINES} lines", header="SDP")
    pieces = text.split("\n")
    unfinished = pieces.pop()
    lines = []
    for number, piece in enumerate(pieces, 1):
        if piece.endswith("\r"):
            lines.append(_line(piece[:-1], CRLF, number))
        else:
            lines.append(_line(piece, "\n", number))
    if unfinished:
        lines.append(_line(unfinished, "", len(pieces) + 1))
    return lines


def _line(text: str, end: str, number: int) -> Line:
    if "\0" in text or "\r" in text:
        raise Line("", text, end, number).error("NUL or CR in a line")
    if text[1:2] == "=" and "!" <= text[0] <= "~":
        return Line(text[0], text[2:], end, number)
    if text.strip(BLANKS):
        raise Line("", text, end, number).error("not type=value")
    return Line("", text, end, number)
