"""What the lines of a session description hold, RFC 8866 §5: immutable values with parse() and
str(). Pure."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from ...errors import InvalidValue, ParseError
from ..grammar import BLANKS
from .grammar import (
    FORMATS,
    HOLD_ADDRESS,
    MAX_PORT,
    MAX_TTL,
    TIME_FIELDS,
    UNITS,
    T,
    addrtype,
    fields_of,
    integer,
    ip_of,
    is_fqdn,
    is_non_ws,
    is_proto,
    is_token,
    matching,
    rtpmap,
    text_line,
    typed_time,
    written_address,
    written_number,
    written_token,
)


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
        fields = fields_of(text)
        if text[:1] in (" ", "\t"):
            fields.insert(0, "")  # an empty user name
        if len(fields) < 6:
            raise ParseError("o= has six fields", value=text)
        username = " ".join(fields[:-5]).strip(" ")
        session_id, session_version, nettype, addrtype, address = fields[-5:]
        if not (is_token(nettype) and is_token(addrtype) and is_non_ws(address)):
            raise ParseError("o= does not end in nettype, addrtype and address", value=text)
        return cls(
            username, integer(session_id), integer(session_version), nettype, addrtype, address
        )

    @classmethod
    def make(
        cls,
        address: str,
        *,
        username: str = "-",
        session_id: int | None = None,
        session_version: int = 1,
    ) -> Origin:
        """Make an Origin for an Internet address or name; without a session id, 62 random bits (RFC
        3264 §5: below 2**63)."""
        if session_id is None:
            session_id = int.from_bytes(os.urandom(8), "big") >> 2
        return cls(username, session_id, session_version, "IN", addrtype(address), address)

    def __str__(self) -> str:
        username = matching(is_non_ws, self.username, "an o= user name")
        ip = ip_of(self.address)
        if self.nettype == "IN" and ip is not None and ip.is_multicast:
            raise InvalidValue(f"o= has a unicast address, not {self.address!r}")
        address = written_address(self.nettype, self.addrtype, self.address)
        return f"{username} {written_number(self.session_id)} {written_number(self.session_version)} {address}"


class Connection(NamedTuple):
    """Where media goes: the c= line (§5.7). `ttl` is of IP4 multicast, `numaddr` the number of
    groups; None where not given."""

    nettype: str
    addrtype: str
    address: str
    ttl: int | None = None
    numaddr: int | None = None

    @classmethod
    def parse(cls, text: str) -> Connection:
        fields = fields_of(text)
        if len(fields) != 3 or not (
            is_token(fields[0]) and is_token(fields[1]) and is_non_ws(fields[2])
        ):
            raise ParseError("c= is nettype, addrtype and address", value=text)
        nettype, addrtype, whole = fields
        if nettype != "IN" or addrtype not in ("IP4", "IP6"):
            return cls(nettype, addrtype, whole)
        address, *numbers = whole.split("/", 3)
        if len(numbers) > (2 if addrtype == "IP4" else 1) or not address:
            raise ParseError("c= has an address it cannot have", value=text)
        ttl = integer(numbers.pop(0), MAX_TTL) if numbers and addrtype == "IP4" else None
        return cls(
            nettype, addrtype, address, ttl, integer(numbers[0], least=1) if numbers else None
        )

    @classmethod
    def make(
        cls, address: str, *, ttl: int | None = None, numaddr: int | None = None
    ) -> Connection:
        """Make a Connection to an Internet address or name."""
        return cls("IN", addrtype(address), address, ttl, numaddr)

    @property
    def is_multicast(self) -> bool:
        """True for a group address of IP4 or IP6."""
        ip = ip_of(self.address) if self.nettype == "IN" else None
        return ip is not None and ip.is_multicast

    @property
    def is_hold(self) -> bool:
        """True for 0.0.0.0: nothing is to be sent to the peer (RFC 3264 §8.4)."""
        return self.address == HOLD_ADDRESS

    @property
    def is_usable(self) -> bool:
        """True for an Internet address or name that packets can be sent to. A group needs the TTL
        that §5.7 asks for.

        The address of one IP version with the addrtype of the other is usable, because peers write
        that.
        """
        if self.nettype != "IN" or self.addrtype not in ("IP4", "IP6"):
            return False
        ip = ip_of(self.address)
        if ip is None:
            return bool(is_fqdn(self.address))
        try:
            return not ip.is_multicast or bool(str(self))
        except InvalidValue:
            return False

    def __str__(self) -> str:
        text = written_address(self.nettype, self.addrtype, self.address)
        # a name may be that of a group
        multicast, is_name = self.is_multicast, is_fqdn(self.address)
        if self.ttl is not None and (self.addrtype != "IP4" or not (multicast or is_name)):
            raise InvalidValue(f"{self.address!r} has no TTL: only IP4 multicast has")
        if self.ttl is None and self.addrtype == "IP4" and (multicast or self.numaddr is not None):
            raise InvalidValue(f"{self.address!r} is IP4 multicast and wants a TTL")
        if self.numaddr is not None and not (multicast or is_name):
            raise InvalidValue(f"{self.address!r} is unicast: it is one address")
        ttl = "" if self.ttl is None else "/" + written_number(self.ttl, MAX_TTL)
        return (
            text
            + ttl
            + ("" if self.numaddr is None else "/" + written_number(self.numaddr, least=1))
        )


class Bandwidth(NamedTuple):
    """A b= line (§5.8): CT and AS in kilobits per second; TIAS (RFC 3890), RS and RR (RFC 3556) in
    bits per second."""

    bwtype: str
    bandwidth: int

    @classmethod
    def parse(cls, text: str) -> Bandwidth:
        bwtype, colon, bandwidth = text.partition(":")
        if not colon or not is_token(bwtype.strip(BLANKS)):
            raise ParseError("b= is bwtype:bandwidth", value=text)
        return cls(bwtype.strip(BLANKS), integer(bandwidth.strip(BLANKS)))

    def __str__(self) -> str:
        return f"{written_token(self.bwtype, 'a bwtype')}:{written_number(self.bandwidth)}"


def _seconds(text: str) -> int:
    match = typed_time(text)
    if not match:
        raise ParseError("not a time", value=text)
    value = integer(match[2]) * UNITS[match[3]]
    return -value if match[1] else value


def _time_fields(text: str) -> list[str]:
    fields = fields_of(text)
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
        return " ".join(
            [
                written_number(self.interval, least=1),
                *map(written_number, (self.duration, *self.offsets)),
            ]
        )


class Adjustment(NamedTuple):
    """One pair of a z= line (§5.11): at `time` the time base moves to `offset` seconds from the
    start's."""

    time: int
    offset: int

    @classmethod
    def parse_all(cls, text: str) -> tuple[Adjustment, ...]:
        """Read all pairs of a z= line."""
        fields = _time_fields(text)
        if not fields or len(fields) % 2:
            raise ParseError("z= is pairs of a time and an offset", value=text)
        return tuple(
            cls(integer(time), _seconds(offset)) for time, offset in zip(fields[::2], fields[1::2])
        )

    def __str__(self) -> str:
        return (
            f"{_time(self.time)} {'-' if self.offset < 0 else ''}{written_number(abs(self.offset))}"
        )


def _time(value: int) -> str:
    # time = POS-DIGIT 9*DIGIT, start-time = time / "0"
    return written_number(value, least=10**9) if value else "0"


class Time(NamedTuple):
    """A time description (§5.9): t= in seconds since 1900, with its r= and z= lines. Time() is `t=0
    0`, of a call."""

    start: int = 0
    stop: int = 0
    repeats: tuple[Repeat, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Time:
        """Read what stands behind t= alone."""
        fields = fields_of(text)
        if len(fields) != 2:
            raise ParseError("t= is a start and a stop time", value=text)
        return cls(integer(fields[0]), integer(fields[1]))

    def __str__(self) -> str:
        return f"{_time(self.start)} {_time(self.stop)}"

    def _lines(self) -> list[Line]:
        if self.adjustments and not self.repeats:
            raise InvalidValue("z= modifies r= lines, and there are none")
        lines = [Line("t", str(self)), *[Line("r", str(repeat)) for repeat in self.repeats]]
        return (
            [*lines, Line("z", " ".join(map(str, self.adjustments)))] if self.adjustments else lines
        )


class RTPMap(NamedTuple):
    """What a payload type means: an a=rtpmap (§6.6). `channels` is None where not given, which
    means 1."""

    payload_type: int
    encoding: str
    clock_rate: int
    channels: int | None = None

    @classmethod
    def parse(cls, text: str) -> RTPMap:
        match = rtpmap(text.strip(BLANKS))
        if not match:
            raise ParseError("rtpmap is payload type, encoding/clock rate[/channels]", value=text)
        channels = None if match[4] is None else integer(match[4], least=1)
        return cls(integer(match[1], 127), match[2], integer(match[3], least=1), channels)

    @property
    def key(self) -> tuple[str, int, int]:
        """The parts that are compared: encoding in lower case (RFC 4855 §3), clock rate, channels;
        MISNAMED corrects them."""
        key = (self.encoding.lower(), self.clock_rate, self.channels or 1)
        return MISNAMED.get((self.payload_type, *key), key)

    def __str__(self) -> str:
        channels = "" if self.channels is None else "/" + written_number(self.channels, least=1)
        encoding = written_token(self.encoding, "an encoding name")
        return f"{written_number(self.payload_type, 127)} {encoding}/{written_number(self.clock_rate, least=1)}{channels}"


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

MISNAMED = {
    # its clock is 8000 by an old mistake (RFC 3551 §4.5.2)
    (9, "g722", 16000, 1): ("g722", 8000, 1),
    (18, "g729a", 8000, 1): ("g729", 8000, 1),  # Annex A is the same bits, and has no name (§4.5.6)
    (18, "g729b", 8000, 1): ("g729", 8000, 1),  # Annex B is a parameter
    (18, "g729ab", 8000, 1): ("g729", 8000, 1),
}
"""Wrong names that peers give to static payload types: payload type and key, to the right key."""

STATIC_FORMATS = {str(number): rtpmap for number, rtpmap in STATIC_PAYLOAD_TYPES.items()}


class RTCP(NamedTuple):
    """Where RTCP goes, when that is not the port above: a=rtcp (RFC 3605 §2.1). `connection` is
    None with a port alone."""

    port: int
    connection: Connection | None = None

    @classmethod
    def parse(cls, text: str) -> RTCP:
        port, _, rest = text.strip(BLANKS).replace("\t", " ").partition(" ")
        return cls(integer(port, MAX_PORT), Connection.parse(rest) if rest.strip(BLANKS) else None)

    def __str__(self) -> str:
        return written_number(self.port, MAX_PORT) + (
            "" if self.connection is None else f" {self.connection}"
        )


class Attribute(NamedTuple):
    """An a= line (§5.13). `value` is None for a property attribute, `a=recvonly`."""

    name: str
    value: str | None = None

    @classmethod
    def parse(cls, text: str) -> Attribute:
        name, colon, value = text.partition(":")
        return cls(name.strip(BLANKS), value if colon else None)

    def __str__(self) -> str:
        name = written_token(self.name, "an attribute's name")
        return (
            name if self.value is None else f"{name}:{text_line(self.value, 'an attribute value')}"
        )


class MediaField(NamedTuple):
    """An m= line (§5.14). `port_count` is the number of ports, or None where not given."""

    media: str
    port: int
    port_count: int | None
    proto: str
    formats: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> MediaField:
        fields = fields_of(text)
        if len(fields) < 3:
            raise ParseError("m= is media, port, proto and formats", value=text)
        media, ports, proto, *formats = fields
        port, slash, count = ports.partition("/")
        if not (
            is_token(media) and is_proto(proto) and (not formats or is_token("".join(formats)))
        ):
            raise ParseError("m= is media, port, proto and formats", value=text)
        if len(formats) > FORMATS:
            raise ParseError(f"m= with over {FORMATS} formats", value=text)
        number = integer(port, MAX_PORT)
        if not formats and number:
            raise ParseError("m= without a format", value=text)
        return cls(
            media, number, integer(count, MAX_PORT, 1) if slash else None, proto, tuple(formats)
        )

    def __str__(self) -> str:
        if not self.formats or len(self.formats) > FORMATS:
            raise InvalidValue(f"m= has one format at least, and {FORMATS} at most")
        formats = " ".join([written_token(fmt, "a format") for fmt in self.formats])
        count = (
            "" if self.port_count is None else "/" + written_number(self.port_count, MAX_PORT, 1)
        )
        proto = matching(is_proto, self.proto, "a transport protocol")
        return f"{written_token(self.media, 'a media type')} {written_number(self.port, MAX_PORT)}{count} {proto} {formats}"


class Line(NamedTuple):
    """A line as it stands: type letter, "" for a blank one; text behind `=`; line end, None when of
    ours; number from 1, or 0."""

    type: str
    value: str
    end: str | None = None
    number: int = 0

    def read(self, parse: Callable[[str], T], value: str | None = None) -> T:
        """Return what `parse` makes of the value; its ParseError names this line."""
        try:
            return parse(self.value if value is None else value)
        except ParseError as error:
            raise self.error(error.problem) from None

    def error(self, problem: str) -> ParseError:
        where = f"SDP line {self.number}" if self.number else "SDP"
        text = f"{self.type}={self.value}" if self.type else self.value
        source = text.encode("utf-8", "surrogateescape")
        return ParseError(
            problem,
            header=f"{where}, {self.type}=" if self.type else where,
            value=self.value,
            source=source,
        )
