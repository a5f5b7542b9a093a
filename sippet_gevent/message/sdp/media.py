"""MediaDescription: an m= line with the lines that follow it, RFC 8866 §5.14. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import InvalidValue, ParseError, excerpt
from ..grammar import BLANKS
from .direction import DIRECTIONS, INACTIVE, SENDONLY, SENDRECV, checked_direction
from .grammar import real, text_line
from .line import Line
from .payload_types import STATIC_FORMATS, RTPMap
from .section import Lines, Section, connection_of
from .values import RTCP, Attribute, Bandwidth, Connection, MediaField


class MediaDescription(Section):
    """A media description (§5.14): an m= line with the lines that follow it, for one media stream.

    SDP.parse() and `make()` return them. To change a field, assign it. Where it has no c= line or
    direction of its own, those of the session apply.
    """

    __slots__ = ("_field", "_session")
    _order = "micbka"

    def __init__(self, lines: Iterable[Line], session: Lines | None = None) -> None:
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
        """Make a media description.

            MediaDescription.make("audio", 49170, [0, RTPMap(101, "telephone-event", 8000)])

        Args:
            media: "audio", "video" …
            port: the transport port, 0 for a stream that is disabled.
            formats: the formats in order of preference. One given as RTPMap gets an a=rtpmap.
            proto: the transport protocol.
            port_count: the number of ports, if more than one.
            information: the i= line.
            connection: the c= line, if the session's does not apply.
            bandwidths: the b= lines.
            fmtp: format parameters by payload type. Each follows the a=rtpmap of its format.
            ptime: milliseconds of media in a packet.
            direction: the direction attribute to write.
            attributes: further a= lines.

        Raises:
            InvalidValue: a value cannot be written, or parameters belong to no format.
        """
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
                                f"{name} {text_line(parameters.pop(name), 'fmtp')}",
                            )
                        ),
                    )
                )
        if parameters:
            raise InvalidValue(
                f"fmtp has parameters for {', '.join(parameters)}, which is not in formats"
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
        """Return an equal media description that belongs to no SDP yet."""
        return MediaDescription(self._lines)

    def _own_or_session(self, key: str) -> list[Line]:
        """Return the lines of a key (see Section._get) here, or else in the session."""
        return self._get(key) or ([] if self._session is None else self._session.get(key))

    # ---- m=

    def _change(self, **fields: object) -> None:
        """Write the m= line again, with these fields changed."""
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
        """The transport port, or 0 for a stream that is rejected or removed (RFC 3264 §6, §8.2)."""
        return self._field.port

    @port.setter
    def port(self, value: int) -> None:
        self._change(port=value)

    @property
    def port_count(self) -> int | None:
        """The number of ports, as in `49170/2`, or None."""
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
        """The formats as text, the preferred one first. For RTP they are payload types."""
        return self._field.formats

    @formats.setter
    def formats(self, value: Iterable[str | int]) -> None:
        self._change(formats=tuple(map(str, value)))

    @property
    def is_disabled(self) -> bool:
        """True if the port is 0 (RFC 3264 §5.1)."""
        return not self.port

    @property
    def is_rtp(self) -> bool:
        """True if the formats are payload types, as with RTP/AVP, RTP/SAVP, UDP/TLS/RTP/SAVPF
        (§5.14)."""
        return "RTP" in self.proto.upper().split("/")

    # ---- c=

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The c= lines of this media description itself. Several are layers of one multicast stream
        (§5.7)."""
        return tuple(line.read(Connection.parse) for line in self._get("c"))

    @connections.setter
    def connections(self, values: Iterable[Connection]) -> None:
        self._put_all("c", values, Connection.parse)

    @property
    def connection(self) -> Connection | None:
        """The first c= line of its own, else that of the session, else None (§5.7).

        Assignment sets its own.
        """
        lines = self._own_or_session("c")
        return lines[0].read(Connection.parse) if lines else None

    @connection.setter
    def connection(self, value: Connection | str | None) -> None:
        self._put_one("c", connection_of(value), Connection.parse)

    # ---- a=

    def rtpmap(self, payload_type: int | str) -> RTPMap | None:
        """Return the meaning of a payload type, or None if it has none here.

        That is its a=rtpmap, or else its static meaning (RFC 3551). Raises ParseError for an
        a=rtpmap that cannot be read.
        """
        wanted = str(payload_type)
        for line in self._get("a=rtpmap"):
            value = (Attribute.parse(line.value).value or "").strip(BLANKS)
            if value.replace("\t", " ").partition(" ")[0] == wanted:
                return line.read(RTPMap.parse, value)
        return STATIC_FORMATS.get(wanted) if self.is_rtp else None

    @property
    def rtpmaps(self) -> dict[str, RTPMap]:
        """The meaning of each format, in the order of the m= line.

        Formats without a known meaning are left out, and so are those of a broken a=rtpmap.
        """
        static = STATIC_FORMATS if self.is_rtp else {}
        # each once, because a peer may repeat one
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
        """The format parameters by format, in the order of the a=fmtp lines.

        The first of two for one format counts.
        """
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
            raise lines[0].error(f"{name} must be a number greater than 0")
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
            raise InvalidValue(
                f"{name} must be a number of milliseconds greater than 0, got {value!r}: "
                f"write {name}=20"
            )
        else:
            self.attributes.set(name, text)

    @property
    def ptime(self) -> float | None:
        """Milliseconds of media in each packet that its sender wants to receive, or None (§6.4, RFC
        3264 §5.1)."""
        return self._milliseconds("ptime")

    @ptime.setter
    def ptime(self, value: float | None) -> None:
        self._put_milliseconds("ptime", value)

    @property
    def maxptime(self) -> float | None:
        """Most milliseconds of media in a packet (§6.5), or None."""
        return self._milliseconds("maxptime")

    @maxptime.setter
    def maxptime(self, value: float | None) -> None:
        self._put_milliseconds("maxptime", value)

    @property
    def rtcp(self) -> RTCP | None:
        """Where RTCP goes by a=rtcp (RFC 3605). None means the port above that of RTP."""
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
        lines = self._own_or_session("direction")
        return Attribute.parse(lines[0].value).name if lines else SENDRECV

    @direction.setter
    def direction(self, value: str) -> None:
        if checked_direction(value) != self.direction:
            self._put_attribute(DIRECTIONS, Attribute(value))

    @property
    def is_direction_written(self) -> bool:
        """True if a direction attribute is written, here or in the session.

        Sendrecv is the default, so it may be left out (§6.7).
        """
        return bool(self._own_or_session("direction"))

    @property
    def is_hold(self) -> bool:
        """True if its sender wants to receive nothing: sendonly, inactive, or 0.0.0.0 (RFC 3264
        §8.4).

        A device that can only send looks the same (RFC 6337 §5.3).
        """
        connection = self.connection
        return self.direction in (SENDONLY, INACTIVE) or (
            connection is not None and connection.is_hold
        )

    def __str__(self) -> str:
        return self._written((self._own if self._session is None else self._session).end)

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, MediaDescription) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable, so not hashable

    def __repr__(self) -> str:
        return f"<MediaDescription {excerpt(self._lines[0].value)[1:-1]} {self.direction}>"


def _decimal(value: float) -> str:
    """Return a number without an exponent, as §9 wants it: a large ptime that was read must be
    writable."""
    return f"{value:.9f}".rstrip("0").rstrip(".")
