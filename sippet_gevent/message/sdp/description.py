"""SDP: a whole session description, RFC 8866 §5. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from ...errors import InvalidValue, ParseError, excerpt
from ..grammar import BLANKS
from .direction import DIRECTIONS, SENDRECV, checked_direction
from .grammar import CRLF, MEDIA_DESCRIPTIONS, TIMES, T, integer
from .line import Line, lines_of
from .media import MediaDescription
from .payload_types import RTPMap
from .section import FREE_TEXT, Section, connection_of
from .times import Adjustment, Repeat, Time
from .values import RTCP, Attribute, Bandwidth, Connection, Origin

# Lines that parse() reads at once, by type.
_CHECKS: dict[str, Callable[[str], object]] = {
    "v": lambda text: integer(text.strip(BLANKS), 0),  # §5.1: there is no version but 0
    "c": Connection.parse,
    "t": Time.parse,
    "r": Repeat.parse,
    "z": Adjustment.parse_all,
}
_ONCE = "vos"  # a second one begins another description
_MEDIA_CHECKS = "c"
# Lines and attributes that are read only when a program asks for them; problems() reads them all.
_LOOSE: dict[str, Callable[[str], object]] = {"o": Origin.parse, "b": Bandwidth.parse}
_LOOSE_ATTRIBUTES: dict[str, Callable[[str], object]] = {"rtpmap": RTPMap.parse, "rtcp": RTCP.parse}
# An o= line in three parts: what precedes the version, the version, and the three fields behind it.
# The user name and the session id may be anything.
_version = re.compile(r"(.*[ \t])([0-9]{1,20})((?:[ \t]+[^ \t]+){3}[ \t]*)").fullmatch


class SDP(Section):
    """A session description (§5): the lines of the session, and its media descriptions, `media`.

    To change a field, assign it. `str(sdp)` and `bytes(sdp)` are what goes on the wire:

        description = SDP.parse(request.body)
        audio = description.media[0]
        print(audio.connection.address, audio.port, audio.direction)
        description.media[0].port = 49170
        request.body = bytes(description)
    """

    __slots__ = ("_media",)
    _order = "vosiuepcbtrzka"

    def __init__(
        self, lines: Iterable[Line], media: Iterable[MediaDescription] = (), end: str = CRLF
    ) -> None:
        super().__init__(lines, end)
        self._media: tuple[MediaDescription, ...] = ()
        self._adopt(media)

    @classmethod
    def parse(cls, text: bytes | str) -> SDP:
        """Read a session description.

        Raises:
            ParseError: it is malformed. The error names the line by number and type.
            TypeError: `text` is neither bytes nor text.
        """
        try:
            return cls._parse(text)
        except ParseError as error:
            error.source = (
                text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)
            )
            raise

    @classmethod
    def _parse(cls, text: bytes | str) -> SDP:
        lines = lines_of(text)
        starts = [index for index, line in enumerate(lines) if line.type == "m"]
        if len(starts) > MEDIA_DESCRIPTIONS:
            raise ParseError(f"more than {MEDIA_DESCRIPTIONS} media descriptions", header="SDP")
        session = lines[: starts[0]] if starts else lines
        if sum(1 for line in session if line.type and line.type in "trz") > TIMES:
            raise ParseError(f"more than {TIMES} t=, r= and z= lines", header="SDP")
        seen = ""
        for line in session:
            kind = line.type
            if not kind:
                continue
            if not seen and kind != "v":
                raise line.error("a description must begin with v=")
            if kind in seen and kind in _ONCE:
                raise line.error(f"{kind}= appears twice")
            if kind == "r" and "t" not in seen:
                raise line.error("r= before any t=")
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
                    raise line.error(f"{line.type}= behind m=: there are two descriptions in one")
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
        """Make a session description.

            audio = MediaDescription.make("audio", 49170, [0, 8])
            made = SDP.make("192.0.2.1", [audio])

        Args:
            address: the session's c= line, where media goes.
            media: the media descriptions.
            origin: the o= line. Without one it is made of `address` and a random session id.
            name: the s= line.
            information: the i= line.
            uri: the u= line.
            emails: the e= lines.
            phones: the p= lines.
            bandwidths: the b= lines.
            times: the t= lines with their r= and z= lines. A call has `t=0 0`, the default.
            attributes: the a= lines of the session.

        Raises:
            InvalidValue: a value cannot be written, or a stream has no address.
        """
        connection = connection_of(address)
        if origin is None:
            if connection is None:
                raise InvalidValue(
                    'a description needs an address or an origin: write address="192.0.2.1"'
                )
            origin = Origin.make(connection.address)
        made = cls(
            [
                Line("v", "0"),
                Line("o", str(origin)),
                Line("s", FREE_TEXT["s"](name)),
                Line("t", "0 0"),
            ]
        )
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
            raise InvalidValue(
                "a stream has no address: write address=… for the session, or connection=… for "
                "each media description (RFC 8866 §5.7)"
            )
        return made

    def copy(self) -> SDP:
        """Return an equal description that can be changed without changing this one."""
        return SDP(self._lines, self._media, self._own.end)

    def _adopt(self, media: Iterable[MediaDescription]) -> None:
        own: list[MediaDescription] = []
        taken: set[int] = set()
        for section in media:
            if (section._session is not None and section._session is not self._own) or id(
                section
            ) in taken:
                section = section.copy()  # one object in two places would change in both
            section._session = self._own
            taken.add(id(section))
            own.append(section)
        self._media = tuple(own)

    @property
    def version(self) -> int:
        """The protocol version, 0 (§5.1)."""
        return 0

    @property
    def origin(self) -> Origin:
        """The o= line (§5.2). Raises ParseError if it cannot be read.

        The rest of a description is usable without it.
        """
        return self._get("o")[0].read(Origin.parse)

    @origin.setter
    def origin(self, value: Origin) -> None:
        self._put_one("o", _present(value, "o="), Origin.parse)

    def _copy_origin(self, other: SDP) -> None:
        """Copy the o= line of another description as it is written."""
        self._put("o", [line._replace(number=0) for line in other._get("o")])

    def _count_version(self) -> None:
        """Add one to the version in o=, and leave its other fields as they are written.

        Raises ParseError if there is no version.
        """
        (line,) = self._get("o")
        found = _version(line.value)
        if found is None:
            raise line.error("o= has no version")
        self._put("o", [line._replace(value=f"{found[1]}{int(found[2]) + 1}{found[3]}")])

    @property
    def name(self) -> str:
        """The s= line (§5.3), or "" where it is empty or missing.

        A name that is assigned must not be empty. A session without a name has "-".
        """
        lines = self._get("s")
        return lines[0].value if lines else ""

    @name.setter
    def name(self, value: str) -> None:
        self._put_one("s", FREE_TEXT["s"](value), str)

    @property
    def uri(self) -> str | None:
        """The u= line (§5.5), or None."""
        lines = self._get("u")
        return lines[0].value if lines else None

    @uri.setter
    def uri(self, value: str | None) -> None:
        self._put_one("u", None if value is None else FREE_TEXT["u"](value), str)

    @property
    def emails(self) -> tuple[str, ...]:
        """The e= lines (§5.6)."""
        return tuple(line.value for line in self._get("e"))

    @emails.setter
    def emails(self, values: Iterable[str]) -> None:
        self._put_all("e", [FREE_TEXT["e"](value) for value in values], str)

    @property
    def phones(self) -> tuple[str, ...]:
        """The p= lines (§5.6)."""
        return tuple(line.value for line in self._get("p"))

    @phones.setter
    def phones(self, values: Iterable[str]) -> None:
        self._put_all("p", [FREE_TEXT["p"](value) for value in values], str)

    @property
    def connection(self) -> Connection | None:
        """The session's c= line (§5.7), or None. Assignment takes an address as text, too."""
        lines = self._get("c")
        return lines[0].read(Connection.parse) if lines else None

    @connection.setter
    def connection(self, value: Connection | str | None) -> None:
        self._put_one("c", connection_of(value), Connection.parse)

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
                    time = time._replace(
                        adjustments=(*time.adjustments, *line.read(Adjustment.parse_all))
                    )
                groups[-1] = (time, [*lines, line])
        return groups

    @property
    def times(self) -> tuple[Time, ...]:
        """The time descriptions (§5.9). A description without a t= line has one, `0 0`."""
        return tuple(time for time, _ in self._time_groups()) or (Time(),)

    @times.setter
    def times(self, values: Iterable[Time]) -> None:
        known = dict(reversed(self._time_groups()))
        lines = [line for time in values for line in known.get(time) or time._lines()]
        if not lines:
            raise InvalidValue("times must not be empty: write times=(Time(),)")
        self._put("trz", lines)

    def _copy_times(self, other: SDP) -> None:
        """Copy the t=, r= and z= lines of another description as they are written (RFC 3264 §6)."""
        if self.times != other.times:
            lines = [
                Line(line.type, line.value) for _, group in other._time_groups() for line in group
            ]
            self._put("trz", lines or [Line("t", "0 0")])

    @property
    def direction(self) -> str:
        """The direction of the session, "sendrecv" by default (§6.7).

        It applies to streams that have none of their own.
        """
        lines = self._get("direction")
        return Attribute.parse(lines[0].value).name if lines else SENDRECV

    @direction.setter
    def direction(self, value: str) -> None:
        if checked_direction(value) != self.direction:
            self._put_attribute(DIRECTIONS, Attribute(value))

    @property
    def media(self) -> tuple[MediaDescription, ...]:
        """The media descriptions. To add one, assign `(*sdp.media, new)`.

        One that belongs to another description is copied.
        """
        return self._media

    @media.setter
    def media(self, values: Iterable[MediaDescription]) -> None:
        values = tuple(values)
        if len(values) > MEDIA_DESCRIPTIONS:
            raise InvalidValue(
                f"media must have at most {MEDIA_DESCRIPTIONS} entries, got {len(values)}"
            )
        self._adopt(values)

    @property
    def is_hold(self) -> bool:
        """True if all streams that are not disabled are on hold (RFC 3264 §8.4)."""
        live = [section for section in self._media if not section.is_disabled]
        return bool(live) and all(section.is_hold for section in live)

    def problems(self) -> list[ParseError]:
        """Return the faults that parse() tolerates.

        These are lines that cannot be read, addresses that no packet can reach, and streams without
        c=. An answer is possible in spite of them. `sippet parse` shows them.
        """
        found: list[ParseError] = []
        for section in (self, *self._media):
            for line in section._lines:
                value: str | None = line.value
                read = _LOOSE.get(line.type)
                if line.type == "a":
                    name, value = Attribute.parse(line.value)
                    read = _LOOSE_ATTRIBUTES.get(name)
                elif line.type == "c" and not line.read(Connection.parse).is_usable:
                    found.append(line.error("no packet can reach this address"))
                if read is not None:
                    try:
                        line.read(read, value or "")
                    except ParseError as error:
                        found.append(error)
        for stream in self._media:
            if stream.connection is None and not stream.is_disabled:
                found.append(stream._lines[0].error("the stream has no c= line"))
            for name in ("ptime", "maxptime"):
                try:
                    getattr(stream, name)
                except ParseError as error:
                    found.append(error)
        return found

    def __str__(self) -> str:
        whole = Section(
            [*self._lines, *[line for section in self._media for line in section._lines]]
        )
        return whole._written(self._own.end)

    def __bytes__(self) -> bytes:
        return str(self).encode("utf-8", "surrogateescape")

    def __eq__(self, other: object) -> bool:
        return bytes(self) == bytes(other) if isinstance(other, SDP) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable, so not hashable

    def __repr__(self) -> str:
        streams = ", ".join(
            f"{section.media} {section.port} {section.direction}" for section in self._media[:8]
        )
        return f"<SDP {excerpt(self._get('o')[0].value)[1:-1]}: {streams or 'no streams'}>"


def _present(value: T | None, what: str) -> T:
    if value is None:
        raise InvalidValue(f"{what} must not be None, because a description cannot be without it")
    return value


def check_description(argument: str, value: object) -> None:
    """Refuse anything that is not an SDP, such as the body of a message. Raises TypeError."""
    if not isinstance(value, SDP):
        raise TypeError(
            f"{argument} must be of type SDP, got {excerpt(value)}: "
            "write sdp.SDP.parse(request.body)"
        )


def with_media(made: SDP, media: Iterable[MediaDescription]) -> SDP:
    """Give a description its streams. Raises InvalidValue for a stream without an address."""
    made.media = tuple(media)
    for index, section in enumerate(made.media):
        if section.connection is None and not section.is_disabled:
            raise InvalidValue(
                f"stream {index} has no address, and neither has the session: "
                'write address="192.0.2.1" (RFC 8866 §5.7)'
            )
    return made


def next_version(previous: SDP, new: SDP) -> SDP:
    """Give a description the o= line of `previous` (RFC 3264 §8).

    The version goes up by one if anything else differs from `previous`.
    """
    new._copy_origin(previous)
    if new != previous:
        new._count_version()
    return new
