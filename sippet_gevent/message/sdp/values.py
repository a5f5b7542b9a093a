"""Values of lines of a session description, RFC 8866 §5: Origin, Connection, Attribute … Pure.

They are immutable. `parse(text)` reads what follows `=`. `str(value)` writes it by the grammar of
§9, and raises InvalidValue for a value that the grammar does not allow.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ...errors import InvalidValue, ParseError
from ..grammar import BLANKS
from .grammar import (
    FORMATS,
    HOLD_ADDRESS,
    MAX_PORT,
    MAX_TTL,
    addrtype,
    fields_of,
    integer,
    ip_of,
    is_fqdn,
    is_non_ws,
    is_proto,
    is_token,
    matching,
    text_line,
    written_address,
    written_number,
    written_token,
)


class Origin(NamedTuple):
    """The o= line (§5.2): the maker of the description, the session, and the description's version.

    `address` names the maker's host. It says nothing about where media goes (see Connection).
    """

    username: str
    session_id: int
    session_version: int
    nettype: str
    addrtype: str
    address: str

    @classmethod
    def parse(cls, text: str) -> Origin:
        """Read what follows o=. Raises ParseError."""
        fields = fields_of(text)
        if text[:1] in (" ", "\t"):
            fields.insert(0, "")  # the user name is empty
        if len(fields) < 6:
            raise ParseError("o= must have six fields", value=text)
        username = " ".join(fields[:-5]).strip(" ")
        session_id, session_version, nettype, addrtype, address = fields[-5:]
        if not (is_token(nettype) and is_token(addrtype) and is_non_ws(address)):
            raise ParseError("o= must end in nettype, addrtype and address", value=text)
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
        """Make an Origin for an Internet address or a host name.

        Without a `session_id` it gets 62 random bits, because RFC 3264 §5 wants less than 2**63.
        """
        if session_id is None:
            session_id = int.from_bytes(os.urandom(8), "big") >> 2
        return cls(username, session_id, session_version, "IN", addrtype(address), address)

    def __str__(self) -> str:
        username = matching(is_non_ws, self.username, "username")
        ip = ip_of(self.address)
        if self.nettype == "IN" and ip is not None and ip.is_multicast:
            raise InvalidValue(
                f"the address of an Origin must be unicast, got {self.address!r} (RFC 8866 §5.2)"
            )
        address = written_address(self.nettype, self.addrtype, self.address)
        numbers = f"{written_number(self.session_id)} {written_number(self.session_version)}"
        return f"{username} {numbers} {address}"


class Connection(NamedTuple):
    """The c= line (§5.7): the address where media goes.

    `ttl` is the time to live of IP4 multicast, `numaddr` the number of multicast groups. Each is
    None where it is not written.
    """

    nettype: str
    addrtype: str
    address: str
    ttl: int | None = None
    numaddr: int | None = None

    @classmethod
    def parse(cls, text: str) -> Connection:
        """Read what follows c=. Raises ParseError."""
        fields = fields_of(text)
        if len(fields) != 3 or not (
            is_token(fields[0]) and is_token(fields[1]) and is_non_ws(fields[2])
        ):
            raise ParseError("c= must be nettype, addrtype and address", value=text)
        nettype, addrtype, whole = fields
        if nettype != "IN" or addrtype not in ("IP4", "IP6"):
            return cls(nettype, addrtype, whole)
        address, *numbers = whole.split("/", 3)
        if len(numbers) > (2 if addrtype == "IP4" else 1) or not address:
            raise ParseError(
                "c= has too many numbers behind its address, or no address", value=text
            )
        ttl = integer(numbers.pop(0), MAX_TTL) if numbers and addrtype == "IP4" else None
        return cls(
            nettype, addrtype, address, ttl, integer(numbers[0], least=1) if numbers else None
        )

    @classmethod
    def make(
        cls, address: str, *, ttl: int | None = None, numaddr: int | None = None
    ) -> Connection:
        """Make a Connection for an Internet address or a host name. IP4 multicast needs a `ttl`."""
        return cls("IN", addrtype(address), address, ttl, numaddr)

    @property
    def is_multicast(self) -> bool:
        """True for a multicast address of IP4 or IP6."""
        ip = ip_of(self.address) if self.nettype == "IN" else None
        return ip is not None and ip.is_multicast

    @property
    def is_hold(self) -> bool:
        """True for 0.0.0.0, which puts a stream on hold: nothing is sent to it (RFC 3264 §8.4)."""
        return self.address == HOLD_ADDRESS

    @property
    def is_usable(self) -> bool:
        """True for an Internet address or host name that packets can be sent to.

        A multicast address needs the TTL of §5.7. An address of one IP version with the addrtype of
        the other is usable, because peers write that.
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
        # a name may resolve to a multicast address
        multicast, is_name = self.is_multicast, is_fqdn(self.address)
        if self.ttl is not None and (self.addrtype != "IP4" or not (multicast or is_name)):
            raise InvalidValue(
                f"ttl must be None for {self.address!r}, because it is not IP4 multicast"
            )
        if self.ttl is None and self.addrtype == "IP4" and (multicast or self.numaddr is not None):
            raise InvalidValue(f"{self.address!r} is IP4 multicast and needs a TTL: write ttl=127")
        if self.numaddr is not None and not (multicast or is_name):
            raise InvalidValue(f"numaddr must be None for {self.address!r}, because it is unicast")
        ttl = "" if self.ttl is None else "/" + written_number(self.ttl, MAX_TTL)
        return (
            text
            + ttl
            + ("" if self.numaddr is None else "/" + written_number(self.numaddr, least=1))
        )


class Bandwidth(NamedTuple):
    """A b= line (§5.8).

    The bandwidth of types CT and AS is in kilobits per second. That of TIAS (RFC 3890), RS and RR
    (RFC 3556) is in bits per second.
    """

    bwtype: str
    bandwidth: int

    @classmethod
    def parse(cls, text: str) -> Bandwidth:
        """Read what follows b=. Raises ParseError."""
        bwtype, colon, bandwidth = text.partition(":")
        if not colon or not is_token(bwtype.strip(BLANKS)):
            raise ParseError("b= must be bwtype:bandwidth", value=text)
        return cls(bwtype.strip(BLANKS), integer(bandwidth.strip(BLANKS)))

    def __str__(self) -> str:
        return f"{written_token(self.bwtype, 'bwtype')}:{written_number(self.bandwidth)}"


class RTCP(NamedTuple):
    """The a=rtcp attribute (RFC 3605 §2.1): where RTCP goes, if not to the port above that of RTP.

    `connection` is None where only a port is written.
    """

    port: int
    connection: Connection | None = None

    @classmethod
    def parse(cls, text: str) -> RTCP:
        """Read what follows a=rtcp: such as `53020 IN IP4 192.0.2.1`. Raises ParseError."""
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
        """Read what follows a=, of any form."""
        name, colon, value = text.partition(":")
        return cls(name.strip(BLANKS), value if colon else None)

    def __str__(self) -> str:
        name = written_token(self.name, "the name of an attribute")
        return (
            name
            if self.value is None
            else f"{name}:{text_line(self.value, 'the value of an attribute')}"
        )


class MediaField(NamedTuple):
    """An m= line (§5.14). `port_count` is the number of ports, or None where it is not written."""

    media: str
    port: int
    port_count: int | None
    proto: str
    formats: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> MediaField:
        """Read what follows m=. Raises ParseError."""
        fields = fields_of(text)
        if len(fields) < 3:
            raise ParseError("m= must be media, port, proto and formats", value=text)
        media, ports, proto, *formats = fields
        port, slash, count = ports.partition("/")
        if not (
            is_token(media) and is_proto(proto) and (not formats or is_token("".join(formats)))
        ):
            raise ParseError("m= must be media, port, proto and formats", value=text)
        if len(formats) > FORMATS:
            raise ParseError(f"m= with more than {FORMATS} formats", value=text)
        number = integer(port, MAX_PORT)
        if not formats and number:
            raise ParseError("m= without a format", value=text)
        return cls(
            media, number, integer(count, MAX_PORT, 1) if slash else None, proto, tuple(formats)
        )

    def __str__(self) -> str:
        if not self.formats or len(self.formats) > FORMATS:
            raise InvalidValue(f"formats must have 1 to {FORMATS} entries, got {len(self.formats)}")
        formats = " ".join([written_token(fmt, "format") for fmt in self.formats])
        count = (
            "" if self.port_count is None else "/" + written_number(self.port_count, MAX_PORT, 1)
        )
        proto = matching(is_proto, self.proto, "proto")
        port = written_number(self.port, MAX_PORT)
        return f"{written_token(self.media, 'media')} {port}{count} {proto} {formats}"
