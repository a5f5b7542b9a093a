"""MediaDescription: an m= line and what belongs to it, RFC 8866 §5.14. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...errors import InvalidValue, ParseError, excerpt
from ..grammar import BLANKS
from .grammar import CRLF, DIRECTIONS, INACTIVE, SENDONLY, SENDRECV, real, text_line
from .section import Section, connection_of
from .values import RTCP, STATIC_FORMATS, Attribute, Bandwidth, Connection, Line, MediaField, RTPMap

if TYPE_CHECKING:
    from .description import SDP


class MediaDescription(Section):
    """An m= line and what belongs to it (§5.14): one media stream. Made by SDP.parse() or `make()`;
    assign to change."""

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
        """Make a media description; a format given as RTPMap has its a=rtpmap, and its a=fmtp
        behind it. Raises InvalidValue."""
        formats = list(formats)
        names = [str(fmt.payload_type if isinstance(fmt, RTPMap) else fmt) for fmt in formats]
        lines = [Line("m", str(MediaField(media, port, port_count, proto, tuple(names))))]
        parameters = {str(payload_type): text for payload_type, text in (fmtp or {}).items()}
        for fmt, name in zip(formats, names):
            if isinstance(fmt, RTPMap):
                lines.append(Line("a", str(Attribute("rtpmap", str(fmt)))))
            if name in parameters:
                lines.append(
                    Line(
                        "a",
                        str(
                            Attribute(
                                "fmtp",
                                f"{name} {text_line(parameters.pop(name), 'format parameters')}",
                            )
                        ),
                    )
                )
        if parameters:
            raise InvalidValue(
                f"format parameters for what is no format here: {', '.join(parameters)}"
            )
        made = cls(lines)
        made.information = information
        made.connection = connection_of(connection)
        made.bandwidths = tuple(bandwidths)
        if ptime is not None:
            made.ptime = ptime
        for attribute in attributes:
            made.attributes.add(*attribute)
        if direction is not None:
            made._put_attribute(DIRECTIONS, Attribute(checked_direction(direction)))
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
        """True when the formats are payload types: RTP/AVP, RTP/SAVP, UDP/TLS/RTP/SAVPF …
        (§5.14)."""
        return "RTP" in self.proto.upper().split("/")

    # ---- c=

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The c= lines of this description itself; several are layers of one multicast stream
        (§5.7)."""
        return tuple(line.read(Connection.parse) for line in self._get("c"))

    @connections.setter
    def connections(self, values: Iterable[Connection]) -> None:
        self._put_all("c", values, Connection.parse)

    @property
    def connection(self) -> Connection | None:
        """What applies here: the first c= line of its own, else the session's, else None (§5.7).
        Assigned, it is its own."""
        own = self._get("c")
        if own:
            return own[0].read(Connection.parse)
        return None if self._session is None else self._session.connection

    @connection.setter
    def connection(self, value: Connection | str | None) -> None:
        self._put_one("c", connection_of(value), Connection.parse)

    # ---- a=

    def rtpmap(self, payload_type: int | str) -> RTPMap | None:
        """Return what a payload type means: its a=rtpmap, else the static one of RFC 3551, else
        None. Raises ParseError."""
        wanted = str(payload_type)
        for line in self._get("a=rtpmap"):
            value = (Attribute.parse(line.value).value or "").strip(BLANKS)
            if value.replace("\t", " ").partition(" ")[0] == wanted:
                return line.read(RTPMap.parse, value)
        return STATIC_FORMATS.get(wanted) if self.is_rtp else None

    @property
    def rtpmaps(self) -> dict[str, RTPMap]:
        """What each format of the m= line means, in its order; without those nobody can tell,
        broken a=rtpmap included."""
        static = STATIC_FORMATS if self.is_rtp else {}
        # each once: a peer may repeat one
        known = {fmt: static.get(fmt) for fmt in dict.fromkeys(self.formats)}
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
        """The format parameters by format, in the order of their a=fmtp lines; the first counts
        where there are two."""
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
        if not real(text) or not (value := float(text)):
            raise lines[0].error(f"{name} is a number over 0")
        return int(value) if value == int(value) else value

    def _put_milliseconds(self, name: str, value: float | None) -> None:
        if value is None:
            self.attributes.remove(name)
        elif (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not real(text := _decimal(value))
            or value <= 0
        ):
            raise InvalidValue(f"{name} is a number of milliseconds over 0, not {value!r}")
        else:
            self.attributes.set(name, text)

    @property
    def ptime(self) -> float | None:
        """Milliseconds of media in a packet, as the sender of this wants to receive it (§6.4, RFC
        3264 §5.1), or None."""
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
        return (
            lines[0].read(RTCP.parse, Attribute.parse(lines[0].value).value or "")
            if lines
            else None
        )

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
        if checked_direction(value) != self.direction:
            self._put_attribute(DIRECTIONS, Attribute(value))

    @property
    def is_direction_written(self) -> bool:
        """True when a direction attribute stands here or at session level: sendrecv may be left out
        (§6.7)."""
        return bool(
            self._get("direction")
            or (self._session is not None and self._session._get("direction"))
        )

    @property
    def is_hold(self) -> bool:
        """True when who sent this wants to receive nothing: sendonly, inactive, or 0.0.0.0 (RFC
        3264 §8.4).

        A device that can only send looks the same (RFC 6337 §5.3).
        """
        connection = self.connection
        return self.direction in (SENDONLY, INACTIVE) or (
            connection is not None and connection.is_hold
        )

    def __str__(self) -> str:
        return self._written(CRLF if self._session is None else self._session._end)

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, MediaDescription) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<MediaDescription {excerpt(self._lines[0].value)[1:-1]} {self.direction}>"


def _decimal(value: float) -> str:
    """Return a number without an exponent, as §9 has it: `ptime:123456789` was read, and must be
    writable."""
    return f"{value:.9f}".rstrip("0").rstrip(".")


def checked_direction(value: str) -> str:
    if value not in DIRECTIONS:
        raise InvalidValue(f"a direction is one of {', '.join(DIRECTIONS)}, not {value!r}")
    return value
