"""Offer and answer, RFC 3264, with the advice of RFC 6337: session descriptions made of what we can do. Pure.

Every function takes descriptions and returns a new one; none changes what it is given. "Previous" is the last
description one sent, in an offer or an answer (§8). What comes of a call:

    offer = initial_offer([MediaStream("audio", 49170, (PCMU, TELEPHONE_EVENT))], address="192.0.2.1")
    check_answer(offer, SDP.parse(response.body))
    held = hold(offer)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ...errors import InvalidValue, ParseError, excerpt
from .description import SDP
from .fmtp import DEFAULT_EVENTS, agree_fmtp, fmtp_fault, refers_to
from .grammar import DIRECTIONS, INACTIVE, RECVONLY, SENDONLY, SENDRECV
from .media import MediaDescription
from .section import connection_of
from .values import STATIC_PAYLOAD_TYPES, Attribute, Bandwidth, Connection, Origin, RTPMap

DYNAMIC_PAYLOAD_TYPES = range(96, 128)
"""Payload types that mean what a=rtpmap says (RFC 3551 §3)."""

MAX_SESSION_ID = 2**63 - 1  # §5: a 64 bit signed integer
MAX_INITIAL_VERSION = 2**62 - 2  # §5: less than 2**62 - 1

IN_STEP = frozenset(("telephone-event", "tone", "cn"))
"""Encodings that share the timestamps of the audio they go with, hence its clock rate (RFC 4733
§2.1, RFC 3389 §4)."""

AUXILIARY = frozenset(("telephone-event", "tone", "cn", "red", "rtx", "ulpfec", "flexfec"))
"""Encodings that go with another one and are no media of their own: a stream with these alone in
common has nothing in common."""

_SENDING = frozenset((SENDRECV, SENDONLY))
_RECEIVING = frozenset((SENDRECV, RECVONLY))
_BY_FLOW = {
    (True, True): SENDRECV,
    (True, False): SENDONLY,
    (False, True): RECVONLY,
    (False, False): INACTIVE,
}

_ON_HOLD = {SENDRECV: SENDONLY, RECVONLY: INACTIVE, SENDONLY: SENDONLY, INACTIVE: INACTIVE}  # §8.4


class Codec(NamedTuple):
    """A format of RTP that we can send and receive, with its parameters, if any.

    `payload_type` is the number to offer it by; without one it is the static one of RFC 3551, or
    one of 96 to 127.
    """

    encoding: str
    clock_rate: int
    channels: int = 1
    fmtp: str | None = None
    payload_type: int | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        """What is compared: encoding in lower case (RFC 4855 §3), clock rate, channels."""
        return self.encoding.lower(), self.clock_rate, self.channels


PCMU = Codec("PCMU", 8000)
PCMA = Codec("PCMA", 8000)
G722 = Codec("G722", 8000)  # it samples at 16 kHz: RFC 3551 §4.5.2
G729 = Codec("G729", 8000)
OPUS = Codec("opus", 48000, 2)  # RFC 7587 §7
TELEPHONE_EVENT = Codec("telephone-event", 8000, fmtp=DEFAULT_EVENTS)  # RFC 4733

_STATIC_BY_KEY = {rtpmap.key: number for number, rtpmap in reversed(STATIC_PAYLOAD_TYPES.items())}


class MediaStream(NamedTuple):
    """What we can do with one media stream: offered as it stands, or held against an offer.

    `codecs` are for RTP, the preferred one first; `formats` for what is not RTP (`"t38"`).
    `direction` is what we want to do: an answer says the part of it that the offer allows.
    `connection` is an address of its own, else it is the session's.
    """

    media: str
    port: int
    codecs: Sequence[Codec] = ()
    proto: str = "RTP/AVP"
    formats: Sequence[str] = ()
    direction: str = SENDRECV
    connection: Connection | str | None = None
    ptime: float | None = None
    bandwidths: Sequence[Bandwidth] = ()
    attributes: Sequence[Attribute] = ()


Fmtp = Callable[[Codec, "str | None"], "str | Literal[False] | None"]
"""How an answer gets format parameters: of our codec and those offered, what to write, None for
nothing, False to refuse."""


# ---- offers


def initial_offer(
    streams: Iterable[MediaStream],
    *,
    address: Connection | str | None = None,
    origin: Origin | None = None,
    name: str = "-",
    bandwidths: Iterable[Bandwidth] = (),
    attributes: Iterable[Attribute] = (),
) -> SDP:
    """Make the first offer of a session (§5). Without an `origin` it is one of `address`. Raises
    InvalidValue."""
    streams = _checked(streams)
    offer = SDP.make(
        address, origin=origin, name=name, bandwidths=bandwidths, attributes=attributes
    )
    if (
        offer.origin.session_id > MAX_SESSION_ID
        or offer.origin.session_version > MAX_INITIAL_VERSION
    ):
        raise InvalidValue(
            "session id and version of an offer are below 2**63 and 2**62 - 1 (RFC 3264 §5)"
        )
    return _with_media(offer, [_offered(stream, _writes_direction(offer)) for stream in streams])


def modify(
    previous: SDP,
    streams: Sequence[MediaStream | MediaDescription | None],
    *,
    address: Connection | str | None = None,
) -> SDP:
    """Make a later offer (§8): the i-th stream in the place of the i-th m= line, further ones
    below.

    None, and nothing where there was a stream, removes it: it stays with port 0 (§8.2). A
    MediaDescription is taken as it is, such as `previous.media[0]`. Dynamic payload types keep the
    meaning they have in `previous`; of those before it, which must not mean anything else in the
    same session either (§8.3.2), you know: give such a codec a `payload_type` of its own. The
    version goes up by one if anything has changed. Raises InvalidValue.
    """
    _check_description("previous", previous)
    offer = previous.copy()
    if address is not None:
        offer.connection = connection_of(address)
    media: list[MediaDescription] = []
    for index in range(max(len(streams), len(previous.media))):
        stream = streams[index] if index < len(streams) else None
        old = previous.media[index] if index < len(previous.media) else None
        if isinstance(stream, MediaDescription):
            media.append(stream)
        elif stream is not None:
            media.append(_offered(stream, _writes_direction(offer, old), old))
        elif old is None:
            raise InvalidValue(f"there is no stream {index} to remove")
        else:
            media.append(old if old.is_disabled else _disabled(old))
    return _next_version(previous, _with_media(offer, media))


def add_stream(previous: SDP, stream: MediaStream, *, reuse: bool = True) -> SDP:
    """Make an offer with one stream more: in the first slot that is disabled, if `reuse`, else
    below all (§8.1)."""
    media: list[MediaStream | MediaDescription] = list(previous.media)
    free = (
        [index for index, section in enumerate(previous.media) if section.is_disabled]
        if reuse
        else []
    )
    if free:
        media[free[0]] = stream
    else:
        media.append(stream)
    return modify(previous, media)


def remove_stream(previous: SDP, index: int) -> SDP:
    """Make an offer in which the stream of this index has port 0; its m= line stays (§8.2)."""
    media = _at(previous, index)
    return modify(previous, [None if section is media else section for section in previous.media])


def hold(previous: SDP, *, streams: Collection[int] | None = None) -> SDP:
    """Make an offer that puts unicast streams on hold, all or those of these indexes (§8.4).

    sendrecv becomes sendonly, recvonly becomes inactive.
    """
    _check_description("previous", previous)
    offer = previous.copy()
    for section in _chosen(offer, streams):
        if section.connection is None or not section.connection.is_multicast:
            section.direction = _ON_HOLD[section.direction]
    return _next_version(previous, offer)


def resume(
    previous: SDP,
    *,
    direction: str = SENDRECV,
    streams: Collection[int] | None = None,
    address: Connection | str | None = None,
) -> SDP:
    """Make an offer that takes streams off hold, all that are or those of these indexes, and wants
    `direction` of them.

    Not the direction answered last, which the peer may have forced (RFC 6337 §5.3). `address` goes
    in the place of a 0.0.0.0. Raises InvalidValue where one is wanted and not given.
    """
    _check_description("previous", previous)
    offer = previous.copy()
    held = [
        section for section in _chosen(offer, streams) if streams is not None or section.is_hold
    ]
    by_address = [
        section for section in held if section.connection is not None and section.connection.is_hold
    ]
    if by_address and address is None:
        raise InvalidValue("a stream held by 0.0.0.0 wants an address to resume")
    if offer.connection is not None and offer.connection.is_hold and address is not None:
        offer.connection = connection_of(address)
    for section in by_address:
        # it has a c= line of its own
        if section.connection is not None and section.connection.is_hold:
            section.connection = connection_of(address)
    for section in held:
        section.direction = direction
    return _next_version(previous, offer)


def _check_description(argument: str, value: Any) -> None:
    """Refuse what is no session description, such as the body of a message. Raises TypeError."""
    if not isinstance(value, SDP):
        raise TypeError(
            f"{argument} must be of type SDP, got {excerpt(value)}: write sdp.SDP.parse(request.body)"
        )


def _checked(streams: Any) -> list[MediaStream]:
    """Return the streams of an offer or answer. One MediaStream alone is a tuple, too. Raises
    TypeError."""
    if isinstance(streams, (MediaStream, str)) or not isinstance(streams, Iterable):
        raise TypeError(
            f"streams must be a list of MediaStream, got {excerpt(streams)}: write [stream]"
        )
    checked = list(streams)
    for stream in checked:
        if not isinstance(stream, MediaStream):
            write = 'sdp.MediaStream("audio", 49170, (sdp.PCMU,))'
            raise TypeError(
                f"streams must be a list of MediaStream, got {excerpt(stream)} in it: write {write}"
            )
        codecs = stream.codecs
        if isinstance(codecs, Codec) or not all(isinstance(codec, Codec) for codec in codecs):
            raise TypeError(
                f"codecs must be a tuple of Codec, got {excerpt(codecs)}: write codecs=(sdp.PCMU,)"
            )
    return checked


def _at(sdp: SDP, index: int) -> MediaDescription:
    if not 0 <= index < len(sdp.media):
        raise InvalidValue(f"there is no stream {index}: there are {len(sdp.media)}")
    return sdp.media[index]


def _chosen(sdp: SDP, indexes: Collection[int] | None) -> list[MediaDescription]:
    chosen = sdp.media if indexes is None else [_at(sdp, index) for index in indexes]
    return [section for section in chosen if not section.is_disabled]


def _with_media(sdp: SDP, media: Iterable[MediaDescription]) -> SDP:
    sdp.media = tuple(media)
    for index, section in enumerate(sdp.media):
        if section.connection is None and not section.is_disabled:
            raise InvalidValue(
                f"stream {index} has no address, and the session has none either (RFC 8866 §5.7)"
            )
    return sdp


def _next_version(previous: SDP, new: SDP) -> SDP:
    """§8: the o= line is that of the previous SDP; its version is one more when anything else
    differs, else nothing does."""
    new._copy_origin(previous)
    if new != previous:
        new._count_version()
    return new


def _writes_direction(session: SDP, *sections: MediaDescription | None) -> bool:
    """sendrecv is left out (§5.1) but where it was written before, or where the session's part says
    something else."""
    return any(name in session.attributes for name in DIRECTIONS) or any(
        section.is_direction_written for section in sections if section is not None
    )


def _disabled(section: MediaDescription) -> MediaDescription:
    """The m= line with port 0 and one format (§6, §8.2); of a description read without formats
    there is none to take."""
    return MediaDescription.make(
        section.media, 0, section.formats[:1] or ("0",), proto=section.proto
    )


def _offered(
    stream: MediaStream, writes_direction: bool, old: MediaDescription | None = None
) -> MediaDescription:
    if not stream.codecs:
        return _described(stream, stream.formats, {}, stream.direction, writes_direction)
    known = (
        {}
        if old is None or old.is_disabled
        else {rtpmap.payload_type: rtpmap for rtpmap in old.rtpmaps.values()}
    )
    numbers = _payload_types(stream.codecs, known)
    formats: list[RTPMap] = []
    parameters: dict[int, str] = {}
    for codec, number in zip(stream.codecs, numbers):
        channels = None if codec.channels == 1 else codec.channels
        formats.append(RTPMap(number, codec.encoding, codec.clock_rate, channels))
        if codec.fmtp is not None:
            parameters[number] = codec.fmtp
    return _described(stream, formats, parameters, stream.direction, writes_direction)


def _payload_types(codecs: Sequence[Codec], known: Mapping[int, RTPMap]) -> list[int]:
    """A number for each codec: its own, the one it had (§8.3.2), the static one, a free dynamic
    one."""
    taken = {codec.payload_type for codec in codecs if codec.payload_type is not None}
    free = iter(
        [number for number in DYNAMIC_PAYLOAD_TYPES if number not in known and number not in taken]
    )
    numbers: list[int] = []
    for codec in codecs:
        had = [
            number
            for number, rtpmap in known.items()
            if rtpmap.key == codec.key and number not in taken
        ]
        static = _STATIC_BY_KEY.get(codec.key)
        if codec.payload_type is not None:
            number = codec.payload_type
            meant = known.get(number)
            if number in numbers:
                raise InvalidValue(f"payload type {number} is given to two codecs")
            if number in DYNAMIC_PAYLOAD_TYPES and meant is not None and meant.key != codec.key:
                raise InvalidValue(
                    f"payload type {number} is {meant.encoding} for the whole session (RFC 3264 §8.3.2)"
                )
        elif had:
            number = had[0]
        elif static is not None and static not in taken:
            number = static
        else:
            found = next(free, None)
            if found is None:
                raise InvalidValue("more codecs than dynamic payload types")
            number = found
        taken.add(number)
        numbers.append(number)
    return numbers


def _check_direction(direction: str) -> None:
    if direction not in DIRECTIONS:
        raise InvalidValue(f"a direction is one of {', '.join(DIRECTIONS)}, not {direction!r}")


def _described(
    stream: MediaStream,
    formats: Iterable[RTPMap | int | str],
    parameters: Mapping[int, str],
    direction: str,
    writes_direction: bool,
) -> MediaDescription:
    _check_direction(direction)
    return MediaDescription.make(
        stream.media,
        stream.port,
        formats,
        proto=stream.proto,
        connection=stream.connection,
        bandwidths=stream.bandwidths,
        fmtp=dict(parameters),
        ptime=stream.ptime,
        direction=direction if writes_direction or direction != SENDRECV else None,
        attributes=stream.attributes,
    )


# ---- answers


def answer_direction(offered: str, wanted: str = SENDRECV) -> str:
    """Return the direction to answer (§6.1): what we want to do, as far as the offer does the other
    half of it.

    An offer with c=0.0.0.0 is answered by its direction attribute like any other (RFC 6337 §5.4).
    """
    for direction in (offered, wanted):
        _check_direction(direction)
    return _BY_FLOW[
        wanted in _SENDING and offered in _RECEIVING, wanted in _RECEIVING and offered in _SENDING
    ]


def answer(
    offer: SDP,
    streams: Sequence[MediaStream] | Mapping[int, MediaStream],
    *,
    address: Connection | str | None = None,
    origin: Origin | None = None,
    name: str = "-",
    previous: SDP | None = None,
    fmtp: Fmtp = agree_fmtp,
) -> SDP:
    """Make the answer to an offer (§6): as many m= lines in the same order, each accepted or
    rejected by port 0.

    `streams` is what we can do. A sequence: each m= line gets the first stream not yet used that
    has its media type, its transport protocol and a format in common. A mapping: the stream by the
    index of the m= line. Formats have the payload types and the order of the offer. A stream
    without an address that packets can go to has port 0 (RFC 8866 §5.7). With `previous`, our last
    description, its session part is kept, and its version goes up by one if anything changed (§8).
    Raises InvalidValue for what we gave it; ParseError with status 488 for an offer that cannot be
    answered, having fewer m= lines than there were.
    """
    _check_description("offer", offer)
    left = {**streams} if isinstance(streams, Mapping) else dict(enumerate(_checked(streams)))
    _checked(left.values())
    if previous is None:
        made = SDP.make(address, origin=origin, name=name)
    else:
        if len(offer.media) < len(previous.media):
            problem = (
                f"offer with {len(offer.media)} m= lines after {len(previous.media)} (RFC 3264 §8)"
            )
            raise ParseError(problem, header="SDP", status=488, source=bytes(offer))
        made = previous.copy()
        made.key = None
        if address is not None:
            made.connection = connection_of(address)
    made._copy_times(offer)
    by_index = isinstance(streams, Mapping)
    media: list[MediaDescription] = []
    for index, offered in enumerate(offer.media):
        writes_direction = _writes_direction(made, offered)
        accepted: MediaDescription | None = None
        keys = [key for key in ([index] if by_index else left) if key in left]
        if keys and (connection := _reachable(offered)) is not None:
            for key in keys:
                if accepted := _accepted(offered, connection, left[key], fmtp, writes_direction):
                    del left[key]
                    break
        media.append(accepted or _disabled(offered))
    _with_media(made, media)
    return made if previous is None else _next_version(previous, made)


def _reachable(offered: MediaDescription) -> Connection | None:
    """Return the address of a stream; None without c=, or if no packet can be sent to it. The
    stream is then answered by port 0.

    The other streams of the offer need not suffer for it. The address of o= is not taken instead:
    §5.2 has it name the session only.
    """
    connection = offered.connection
    if connection is None or not connection.is_usable:
        return None
    if connection.is_multicast and not all(
        layer.is_multicast and layer.is_usable for layer in offered.connections
    ):
        return None
    return connection


def _accepted(
    offered: MediaDescription,
    connection: Connection,
    stream: MediaStream,
    fmtp: Fmtp,
    writes_direction: bool,
) -> MediaDescription | None:
    """The answer for one stream, None where there is none but port 0.

    Port 0 with a=bundle-only (RFC 8843 §6) is rejected as any other: a stream of its own has
    nowhere to go to.
    """
    alike = (
        stream.media.lower() == offered.media.lower()
        and stream.proto.upper() == offered.proto.upper()
    )
    if not alike or offered.is_disabled or not stream.port:
        return None
    formats: list[RTPMap | str] = []
    parameters: dict[int, str] = {}
    if offered.is_rtp:
        for rtpmap, text in _agreed(offered, stream.codecs, fmtp):
            formats.append(rtpmap)
            if text is not None:
                parameters[rtpmap.payload_type] = text
    else:
        ours = {fmt.lower() for fmt in stream.formats}
        formats.extend(fmt for fmt in offered.formats if fmt.lower() in ours)
    if not formats:
        return None
    # the media type and the protocol as the offer spells them
    stream = stream._replace(media=offered.media, proto=offered.proto)
    direction = answer_direction(offered.direction, stream.direction)
    if connection.is_multicast:
        # §6.2: one view of the stream for all: address, port, direction, ptime and bandwidth are
        # the offer's
        if stream.direction not in (SENDRECV, offered.direction):
            return None
        try:
            ptime = offered.ptime
        except ParseError:
            return None
        direction = offered.direction
        stream = stream._replace(
            port=offered.port,
            connection=connection,
            ptime=ptime or stream.ptime,
            bandwidths=offered.bandwidths,
        )
    section = _described(stream, formats, parameters, direction, writes_direction)
    if connection.is_multicast:
        section.port_count = offered.port_count
        section.connections = offered.connections or (connection,)
    return section


def _agreed(
    offered: MediaDescription, codecs: Sequence[Codec], fmtp: Fmtp
) -> list[tuple[RTPMap, str | None]]:
    agreed: list[tuple[RTPMap, str | None]] = []
    rtpmaps = offered.rtpmaps
    if not rtpmaps:
        return agreed
    parameters = offered.fmtps
    keys = [(codec, codec.key) for codec in codecs]
    for fmt, rtpmap in rtpmaps.items():
        wanted = rtpmap.key
        for codec, key in keys:
            if key == wanted and (text := fmtp(codec, parameters.get(fmt))) is not False:
                agreed.append((rtpmap, text or None))
                break
    media = [rtpmap for rtpmap, _ in agreed if not _is_auxiliary(rtpmap)]
    if not media:
        return agreed if all(map(_is_auxiliary, rtpmaps.values())) else []
    rates = {rtpmap.clock_rate for rtpmap in media}
    agreed = [
        row
        for row in agreed
        if row[0].clock_rate in rates or row[0].encoding.lower() not in IN_STEP
    ]
    numbers = {str(rtpmap.payload_type) for rtpmap, _ in agreed}
    return [row for row in agreed if numbers.issuperset(refers_to(row[0].encoding, row[1]))]


def _is_auxiliary(rtpmap: RTPMap) -> bool:
    return rtpmap.encoding.lower() in AUXILIARY


# ---- what the peer made of it


class Fault(NamedTuple):
    """A rule of offer and answer that a description breaks. `stream` is the index of the m= line,
    None for the whole."""

    rule: str
    problem: str
    stream: int | None = None

    def __str__(self) -> str:
        where = "" if self.stream is None else f"stream {self.stream}: "
        return f"{where}{self.problem} ({self.rule})"


def answer_faults(offer: SDP, answer: SDP) -> list[Fault]:
    """Return what is wrong with an answer to this offer, in the order of the m= lines."""
    if len(answer.media) != len(offer.media):
        return [Fault("RFC 3264 §6", f"{len(answer.media)} m= lines answer {len(offer.media)}")]
    faults = (
        [Fault("RFC 3264 §6", "t= is not that of the offer")] if answer.times != offer.times else []
    )
    for index, (offered, answered) in enumerate(zip(offer.media, answer.media)):
        faults += [
            Fault(rule, problem, index) for rule, problem in _stream_faults(offered, answered)
        ]
    return faults


def _stream_faults(
    offered: MediaDescription, answered: MediaDescription
) -> Iterable[tuple[str, str]]:
    if answered.media.lower() != offered.media.lower():
        yield "RFC 3264 §6.1", f"{answered.media} answers {offered.media}"
    if answered.is_disabled:
        return
    if offered.is_disabled:
        yield "RFC 3264 §8.2", "port 0 is not answered by port 0"
        return
    if answered.proto.upper() != offered.proto.upper():
        yield "RFC 3264 §6", f"{answered.proto} answers {offered.proto}"
    theirs, ours = answered.connection, offered.connection
    if theirs is None:
        yield "RFC 8866 §5.7", "no c= line"
    elif not theirs.is_usable:
        yield "RFC 8866 §5.7", f"no packet can go to {' '.join(theirs[:3])}"
    multicast = ours is not None and ours.is_multicast
    if theirs is not None and ours is not None and theirs.is_multicast != multicast:
        yield "RFC 3264 §6.1", f"{theirs.address} answers {ours.address}: multicast and unicast"
    elif multicast and (theirs, answered.port) != (ours, offered.port):
        yield "RFC 3264 §6.2", "address and port of a multicast stream are not those of the offer"
    if multicast and answered.direction != offered.direction:
        yield (
            "RFC 3264 §6.2",
            f"{answered.direction} answers {offered.direction} of a multicast stream",
        )
    elif (
        not multicast
        and answer_direction(offered.direction, answered.direction) != answered.direction
    ):
        yield "RFC 3264 §6.1", f"{answered.direction} answers {offered.direction}"
    mine, known = _formats(offered), _formats(answered)
    if not mine & known:
        yield "RFC 3264 §6.1", "no format of the offer"
    elif multicast and not known <= mine:
        yield "RFC 3264 §6.2", "formats that are not in the offer of a multicast stream"
    nameless = set(answered.formats) - set(answered.rtpmaps) if answered.is_rtp else ()
    for fmt in sorted(nameless):
        yield "RFC 3264 §6.1", f"payload type {fmt} has no a=rtpmap"
    if answered.is_rtp:
        yield from _fmtp_faults(offered, answered)


def _fmtp_faults(
    offered: MediaDescription, answered: MediaDescription
) -> Iterable[tuple[str, str]]:
    """Parameters that an answer must not change. A format counts as that of its number, else as any
    of its meaning.

    A telephone-event of another clock rate than the audio is not reported: many peers answer so,
    and only those events are lost.
    """
    rtpmaps, parameters, written = offered.rtpmaps, offered.fmtps, answered.fmtps
    for fmt, rtpmap in answered.rtpmaps.items():
        alike = [number for number, meant in rtpmaps.items() if meant.key == rtpmap.key]
        candidates = [fmt] if fmt in alike else alike
        section = (
            fmtp_fault(rtpmap.encoding, map(parameters.get, candidates), written.get(fmt))
            if candidates
            else None
        )
        if section is not None:
            shown = written.get(fmt) or "no parameters"
            asked = " or ".join(parameters.get(number) or "none" for number in candidates)
            yield section, f"{shown} of {rtpmap.encoding} for {asked}"


def _formats(section: MediaDescription) -> frozenset[object]:
    """What can be compared: the meaning of payload types, the formats themselves in other
    protocols."""
    if section.is_rtp:
        return frozenset(rtpmap.key for rtpmap in section.rtpmaps.values())
    return frozenset(fmt.lower() for fmt in section.formats)


def check_answer(offer: SDP, answer: SDP) -> None:
    """Raise ParseError for the first of `answer_faults`, if there is one."""
    _check_description("offer", offer)
    _check_description("answer", answer)
    _raise_first(answer_faults(offer, answer), answer)


def modification_faults(previous: SDP, new: SDP) -> list[Fault]:
    """Return what is wrong with a later offer or answer of the party that sent `previous` (§8)."""
    if new == previous:
        return []
    faults = _origin_faults(previous, new)
    if len(new.media) < len(previous.media):
        faults.append(
            Fault("RFC 3264 §8", f"{len(new.media)} m= lines after {len(previous.media)}")
        )
    for index, (before, after) in enumerate(zip(previous.media, new.media)):
        if not before.is_disabled and not after.is_disabled and before.media == after.media:
            meant = before.rtpmaps
            for fmt, rtpmap in after.rtpmaps.items():
                if (
                    rtpmap.payload_type in DYNAMIC_PAYLOAD_TYPES
                    and fmt in meant
                    and meant[fmt].key != rtpmap.key
                ):
                    problem = (
                        f"payload type {fmt} is {rtpmap.encoding}, and was {meant[fmt].encoding}"
                    )
                    faults.append(Fault("RFC 3264 §8.3.2", problem, index))
    return faults


def _origin_faults(previous: SDP, new: SDP) -> list[Fault]:
    try:
        before, after = previous.origin, new.origin
    except ParseError as error:  # o= is taken for granted elsewhere, but its version cannot be told
        return [Fault("RFC 8866 §5.2", f"o= cannot be read: {error.problem}")]
    faults: list[Fault] = []
    old_version, version = before.session_version, after.session_version
    if after._replace(session_version=old_version) != before:
        faults.append(Fault("RFC 3264 §8", "o= has changed in more than its version"))
    if version == old_version:
        faults.append(Fault("RFC 3264 §8", f"changed, but still version {version}"))
    elif version != old_version + 1:
        faults.append(Fault("RFC 3264 §8", f"version {version} after {old_version}"))
    return faults


def check_modification(previous: SDP, new: SDP) -> None:
    """Raise ParseError, of status 488, for the first of `modification_faults`, if there is one (RFC
    6337 §2.3)."""
    _raise_first(modification_faults(previous, new), new)


def _raise_first(faults: Sequence[Fault], faulty: SDP) -> None:
    if faults:
        raise ParseError(str(faults[0]), header="SDP", status=488, source=bytes(faulty))
