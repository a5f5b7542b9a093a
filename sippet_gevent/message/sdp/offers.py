"""Offers, RFC 3264 §5 and §8: the first of a session, and later ones that modify it. Pure.

Every function takes descriptions and returns a new one. None of them changes its arguments.
`previous` is the last description that we sent, in an offer or in an answer (§8):

    audio = MediaStream("audio", 49170, (PCMU, TELEPHONE_EVENT))
    offer = initial_offer([audio], address="192.0.2.1")
    check_answer(offer, SDP.parse(response.body))
    held = hold(offer)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ...errors import InvalidValue
from .description import SDP, check_description, next_version, with_media
from .direction import ON_HOLD, SENDRECV
from .media import MediaDescription
from .section import connection_of
from .stream import MediaStream, checked_streams, disabled, offered, writes_direction
from .values import Attribute, Bandwidth, Connection, Origin

MAX_SESSION_ID = 2**63 - 1  # §5: a 64 bit signed integer
MAX_INITIAL_VERSION = 2**62 - 2  # §5: less than 2**62 - 1


def initial_offer(
    streams: Iterable[MediaStream],
    *,
    address: Connection | str | None = None,
    origin: Origin | None = None,
    name: str = "-",
    bandwidths: Iterable[Bandwidth] = (),
    attributes: Iterable[Attribute] = (),
) -> SDP:
    """Make the first offer of a session (§5).

        audio = MediaStream("audio", 49170, (PCMU, PCMA, TELEPHONE_EVENT))
        offer = initial_offer([audio], address="192.0.2.1")
        call = stack.invite("sip:bob@example.com", body=bytes(offer))

    Args:
        streams: the media streams, in the order of their m= lines.
        address: the session's address, where we receive media.
        origin: the o= line. Without one it is made of `address` and a random session id.
        name: the s= line.
        bandwidths: the b= lines of the session.
        attributes: the a= lines of the session.

    Raises:
        InvalidValue: a value cannot be written, or a stream has no address.
        TypeError: `streams` is not a list of MediaStream.
    """
    streams = checked_streams(streams)
    offer = SDP.make(
        address, origin=origin, name=name, bandwidths=bandwidths, attributes=attributes
    )
    made = offer.origin
    if made.session_id > MAX_SESSION_ID or made.session_version > MAX_INITIAL_VERSION:
        raise InvalidValue(
            "session_id must be less than 2**63 and session_version less than 2**62 - 1 in an "
            f"offer, got {made.session_id} and {made.session_version} (RFC 3264 §5)"
        )
    return with_media(offer, [offered(stream, writes_direction(offer)) for stream in streams])


def modify(
    previous: SDP,
    streams: Sequence[MediaStream | MediaDescription | None],
    *,
    address: Connection | str | None = None,
) -> SDP:
    """Make a later offer of a session (§8). Its version is one more if anything has changed.

    Dynamic payload types keep the meaning that they have in `previous`. They must not change within
    a session (§8.3.2). So if an earlier description gave another codec a number, give yours a
    `payload_type` of its own.

    Args:
        previous: the last description that we sent.
        streams: the stream at an index takes the place of the m= line at that index, and further
            streams go below. None, or a list that is too short, removes a stream: its m= line gets
            port 0 (§8.2). A MediaDescription such as `previous.media[0]` is used unchanged.
        address: the session's new address, if it has changed.

    Raises:
        InvalidValue: a value cannot be written, or there is no stream to remove.
    """
    check_description("previous", previous)
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
            media.append(offered(stream, writes_direction(offer, old), old))
        elif old is None:
            raise InvalidValue(
                f"stream {index} cannot be removed, because there are {len(previous.media)} streams"
            )
        else:
            media.append(old if old.is_disabled else disabled(old))
    return next_version(previous, with_media(offer, media))


def add_stream(previous: SDP, stream: MediaStream, *, reuse: bool = True) -> SDP:
    """Make an offer with one more stream (§8.1).

    With `reuse`, the stream takes the first m= line that is disabled. If no line is disabled,
    or without `reuse`, it goes below all others.
    """
    check_description("previous", previous)
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
    """Make an offer in which the stream of this index has port 0. Its m= line stays (§8.2)."""
    check_description("previous", previous)
    media = _at(previous, index)
    return modify(previous, [None if section is media else section for section in previous.media])


def hold(previous: SDP, *, streams: Collection[int] | None = None) -> SDP:
    """Make an offer that puts unicast streams on hold (§8.4).

    A stream with sendrecv becomes sendonly, and one with recvonly becomes inactive.

    Args:
        previous: the last description that we sent.
        streams: the indexes of the streams to hold. None holds all.

    Raises:
        InvalidValue: there is no stream of such an index.
    """
    check_description("previous", previous)
    offer = previous.copy()
    for section in _chosen(offer, streams):
        if section.connection is None or not section.connection.is_multicast:
            section.direction = ON_HOLD[section.direction]
    return next_version(previous, offer)


def resume(
    previous: SDP,
    *,
    direction: str = SENDRECV,
    streams: Collection[int] | None = None,
    address: Connection | str | None = None,
) -> SDP:
    """Make an offer that takes streams off hold.

    Args:
        previous: the last description that we sent.
        direction: the direction to offer. Do not pass the direction of the last answer, because the
            peer may have forced it (RFC 6337 §5.3).
        streams: the indexes of the streams to resume. None resumes all that are on hold.
        address: the address to put in the place of 0.0.0.0.

    Raises:
        InvalidValue: a stream is on hold by 0.0.0.0, and `address` is not given.
    """
    check_description("previous", previous)
    offer = previous.copy()
    held = [
        section for section in _chosen(offer, streams) if streams is not None or section.is_hold
    ]
    by_address = [
        section for section in held if section.connection is not None and section.connection.is_hold
    ]
    if by_address and address is None:
        raise InvalidValue(
            'a stream on hold by 0.0.0.0 needs an address to resume: write address="192.0.2.1"'
        )
    if offer.connection is not None and offer.connection.is_hold and address is not None:
        offer.connection = connection_of(address)
    for section in by_address:
        # still 0.0.0.0, so it has a c= line of its own
        if section.connection is not None and section.connection.is_hold:
            section.connection = connection_of(address)
    for section in held:
        section.direction = direction
    return next_version(previous, offer)


def _at(sdp: SDP, index: int) -> MediaDescription:
    if not 0 <= index < len(sdp.media):
        raise InvalidValue(
            f"there is no stream {index}, because there are {len(sdp.media)} streams"
        )
    return sdp.media[index]


def _chosen(sdp: SDP, indexes: Collection[int] | None) -> list[MediaDescription]:
    chosen = sdp.media if indexes is None else [_at(sdp, index) for index in indexes]
    return [section for section in chosen if not section.is_disabled]
