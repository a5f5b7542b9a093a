"""Answers, RFC 3264 §6: answer() accepts each stream of an offer, or rejects it by port 0. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...errors import ParseError
from .codec import AUXILIARY, IN_STEP, Codec
from .description import SDP, check_description, next_version, with_media
from .direction import SENDRECV, answer_direction
from .fmtp import Fmtp, agree_fmtp, refers_to
from .media import MediaDescription
from .payload_types import RTPMap
from .section import connection_of
from .stream import MediaStream, checked_streams, described, disabled, writes_direction
from .values import Connection, Origin


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
    """Make the answer to an offer (§6). It has as many m= lines as the offer, in the same order.

    Each stream is accepted, or rejected by port 0. Formats have the payload types and the order of
    the offer. A stream whose address no packet can reach gets port 0 (RFC 8866 §5.7).

        audio = MediaStream("audio", 49170, (PCMU, PCMA, TELEPHONE_EVENT))
        made = answer(SDP.parse(request.body), [audio], address="192.0.2.1")

    Args:
        offer: the peer's description.
        streams: what we can do. From a sequence, each m= line gets the first unused stream with its
            media type, its transport protocol and a format in common. A mapping has the stream by
            the index of the m= line.
        address: the session's address, where we receive media.
        origin: the o= line. Without one it is made of `address` and a random session id.
        name: the s= line.
        previous: the last description that we sent in this session. Its session part is kept, and
            its version goes up by one if anything changes (§8).
        fmtp: returns the format parameters to answer with (see agree_fmtp).

    Raises:
        InvalidValue: an argument cannot be written, or no address is given.
        ParseError: with status 488, the offer has fewer m= lines than `previous` (§8).
        TypeError: an argument has another type.
    """
    check_description("offer", offer)
    left = (
        {**streams} if isinstance(streams, Mapping) else dict(enumerate(checked_streams(streams)))
    )
    checked_streams(left.values())
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
        has_direction = writes_direction(made, offered)
        accepted: MediaDescription | None = None
        keys = [key for key in ([index] if by_index else left) if key in left]
        if keys and (connection := _reachable(offered)) is not None:
            for key in keys:
                if accepted := _accepted(offered, connection, left[key], fmtp, has_direction):
                    del left[key]
                    break
        media.append(accepted or disabled(offered))
    with_media(made, media)
    return made if previous is None else next_version(previous, made)


def _reachable(offered: MediaDescription) -> Connection | None:
    """Return the address of a stream, or None if there is none or no packet can reach it.

    With None, the answer has port 0 for this stream, and accepts the others. The address of o= does
    not count, because it only names the session (RFC 8866 §5.2).
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
    has_direction: bool,
) -> MediaDescription | None:
    """Return the answer for one stream, or None if the answer is port 0.

    A stream with port 0 and a=bundle-only (RFC 8843 §6) is rejected too. We do not bundle, and
    outside of its bundle the stream has no port.
    """
    is_alike = (
        stream.media.lower() == offered.media.lower()
        and stream.proto.upper() == offered.proto.upper()
    )
    if not is_alike or offered.is_disabled or not stream.port:
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
        # §6.2: all members share one view of the stream, so address, port, direction, ptime and
        # bandwidth are the offer's
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
    section = described(stream, formats, parameters, direction, has_direction)
    if connection.is_multicast:
        section.port_count = offered.port_count
        section.connections = offered.connections or (connection,)
    return section


def _agreed(
    offered: MediaDescription, codecs: Sequence[Codec], fmtp: Fmtp
) -> list[tuple[RTPMap, str | None]]:
    """Return the formats of an RTP stream that both sides have, each with its format parameters."""
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
        # accepted only if nothing else is offered, such as a stream of telephone events alone
        return agreed if all(map(_is_auxiliary, rtpmaps.values())) else []
    rates = {rtpmap.clock_rate for rtpmap in media}
    agreed = [
        row
        for row in agreed
        if row[0].clock_rate in rates or row[0].encoding.lower() not in IN_STEP
    ]
    # rtx and red are useless without the formats that they name
    numbers = {str(rtpmap.payload_type) for rtpmap, _ in agreed}
    return [row for row in agreed if numbers.issuperset(refers_to(row[0].encoding, row[1]))]


def _is_auxiliary(rtpmap: RTPMap) -> bool:
    return rtpmap.encoding.lower() in AUXILIARY
