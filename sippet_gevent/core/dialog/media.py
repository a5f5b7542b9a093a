"""Media: what one call offers and accepts, with the SDP engine, RFC 3264, RFC 6337 §5. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import ParseError, Reject
from ...message.fields.rfc3261 import Warning as SIPWarning
from ...message.sdp import (
    DIRECTIONS,
    SDP,
    SENDRECV,
    Codec,
    MediaDescription,
    MediaStream,
    answer,
    answer_direction,
    initial_offer,
    modify,
)
from ...message.sdp.description import next_version
from ...message.sdp.direction import ON_HOLD
from ...message.sdp.stream import checked_streams
from ..routing.sips import AGENT

INCOMPATIBLE = SIPWarning(305, AGENT, "Incompatible Media Format")
"""The Warning of a 488 to an offer without a stream that we can accept (RFC 3261 §20.43)."""

UNACCEPTABLE = SIPWarning(399, AGENT, "Offer Not Acceptable")
"""The Warning of a 488 to an offer that breaks a rule of RFC 3264."""

_WRITTEN = frozenset((*DIRECTIONS, "rtpmap", "fmtp", "ptime"))  # by the engine, from other fields


class Media:
    """The streams of one call, and whether we hold it.

    `direction` of a stream is what this side wants. An answer has as much of it as the offer
    allows. An offer of the peer never changes what we want, so a call that both sides have held is
    free again when both have resumed it (RFC 6337 §5.3).

    Args:
        streams: What we can do, in the order of preference.
        address: Where we receive media, unless a stream has a `connection` of its own.
    """

    __slots__ = ("_spare", "_streams", "address", "is_derived", "is_held")

    def __init__(self, streams: Sequence[MediaStream], address: str | None = None) -> None:
        self.address = address
        self.is_held = False
        """True from hold() to resume() of the call."""
        self.is_derived = False
        """True for the media of a session that the application has described by itself."""
        self._streams: dict[int, MediaStream] = {}  # by the index of the m= line
        self._spare = checked_streams(streams)  # those that have no m= line

    @classmethod
    def of(cls, local: SDP, offer: SDP | None) -> Media:
        """Return the media of a session that the application has described by itself.

        Args:
            local: Our description.
            offer: The peer's offer that it answers; None if it is an offer of ours.
        """
        media = cls(())
        media.is_derived = True
        for index, section in enumerate(local.media):
            if section.is_disabled:
                continue
            wanted = section.direction
            if offer is not None and index < len(offer.media):
                offered = offer.media[index].direction
                # as much as the offer allowed, so we want everything
                if answer_direction(offered, SENDRECV) == wanted:
                    wanted = SENDRECV
            media._streams[index] = stream_of(section, wanted)
        return media

    def offer(self, local: SDP | None = None) -> SDP:
        """Return an offer of everything that we have: the first one, or a later one.

        The peer asks for a later offer by an INVITE without one (RFC 6337 §5.2.5). The offer equals
        `local` if nothing has changed. A stream of `local` that we do not have is removed.

        Args:
            local: Our description that was agreed last.
        """
        if local is None:
            self._streams.update(enumerate(self._spare))
            self._spare = []
            return initial_offer(
                [self._wanted(stream) for stream in self._streams.values()], address=self.address
            )
        if self.is_derived:
            return self.redirect(local)
        sections: list[MediaStream | MediaDescription | None] = []
        for index, section in enumerate(local.media):
            found = self._streams.get(index) or self._take_spare(index, section)
            sections.append(None if found is None else self._wanted(found))
        for stream in self._spare:
            self._streams[len(sections)] = stream
            sections.append(self._wanted(stream))
        self._spare = []
        return modify(local, sections)

    def describes(self, local: SDP) -> None:
        """Note that a description of ours, which was sent before, has these streams."""
        for index, section in enumerate(local.media):
            if index not in self._streams and not section.is_disabled:
                self._take_spare(index, section)

    def redirect(self, local: SDP) -> SDP:
        """Return an offer that changes the directions of `local` to those that we want: hold,
        resume, or neither."""
        changed = local.copy()
        for index, section in enumerate(changed.media):
            stream = self._streams.get(index)
            connection = section.connection
            if (
                stream is not None
                and not section.is_disabled
                and not (
                    connection is not None
                    and connection.is_multicast  # RFC 3264 §8.4: unicast alone
                )
            ):
                section.direction = self._wanted(stream).direction
        return next_version(local, changed)

    def moves(self, offer: SDP, remote: SDP) -> bool:
        """True if an offer moves a stream to another address, and only the application can follow.

        That is so where it has described the session by itself. Hold by 0.0.0.0, and its end, is no
        move.
        """
        if not self.is_derived:
            return False
        for index, section in enumerate(offer.media[: len(remote.media)]):
            before = remote.media[index]
            if index not in self._streams or section.is_disabled or before.is_disabled:
                continue
            new, old = section.connection, before.connection
            if (new is not None and new.is_hold) or (old is not None and old.is_hold):
                continue
            if (new, section.port) != (old, before.port):
                return True
        return False

    def answer(self, offer: SDP, local: SDP | None = None) -> SDP:
        """Return the answer to an offer.

        Args:
            offer: The peer's offer.
            local: Our description that was agreed last; None for the first exchange.

        Raises:
            Reject: 488, because nothing in the offer can be accepted, or because it breaks a rule
                of RFC 3264 §8.
        """
        streams = {index: self._wanted(stream) for index, stream in self._streams.items()}
        for index, section in enumerate(offer.media if streams else ()):
            if index not in streams and (found := self._find_spare(section)) is not None:
                streams[index] = self._wanted(found)
        try:
            made = answer(
                offer,
                streams or [self._wanted(stream) for stream in self._spare],
                address=self.address if local is None else None,
                previous=local,
            )
        except ParseError as error:  # fewer m= lines than before (RFC 3264 §8)
            raise Reject(error.status, warning=(UNACCEPTABLE,)) from error
        accepted = {
            index: section for index, section in enumerate(made.media) if not section.is_disabled
        }
        if not accepted and any(not section.is_disabled for section in offer.media):
            raise Reject(488, warning=(INCOMPATIBLE,))
        for index, section in accepted.items():
            if index not in self._streams:
                for stream in self._spare:
                    if (stream.media.lower(), stream.port) == (section.media.lower(), section.port):
                        self._streams[index] = stream
                        self._spare.remove(stream)
                        break
        return made

    def _wanted(self, stream: MediaStream) -> MediaStream:
        """Return a stream with the direction that we want now."""
        if not self.is_held:
            return stream
        return stream._replace(direction=ON_HOLD[stream.direction])

    def _find_spare(self, section: MediaDescription) -> MediaStream | None:
        """Return a stream that has no m= line yet and may take this one."""
        for stream in self._spare:
            if (stream.media.lower(), stream.proto.upper()) == (
                section.media.lower(),
                section.proto.upper(),
            ):
                return stream
        return None

    def _take_spare(self, index: int, section: MediaDescription) -> MediaStream | None:
        """Give an m= line to a stream that has none, such as one that the peer has refused before
        (RFC 6337 §5.2.5)."""
        stream = self._find_spare(section)
        if stream is not None:
            self._spare.remove(stream)
            self._streams[index] = stream
        return stream


def stream_of(section: MediaDescription, direction: str) -> MediaStream:
    """Return the stream that a section of ours describes."""
    parameters = section.fmtps
    return MediaStream(
        section.media,
        section.port,
        [
            Codec(
                rtpmap.encoding, rtpmap.clock_rate, rtpmap.channels or 1, fmtp=parameters.get(fmt)
            )
            for fmt, rtpmap in section.rtpmaps.items()
        ]
        if section.is_rtp
        else (),
        proto=section.proto,
        formats=() if section.is_rtp else section.formats,
        direction=direction,
        connection=section.connections[0] if section.connections else None,
        ptime=section.ptime,
        bandwidths=section.bandwidths,
        attributes=[
            attribute for attribute in section.attributes if attribute.name not in _WRITTEN
        ],
    )


def is_hold(description: bytes) -> bool:
    """True if a description of the peer puts all its streams on hold (RFC 3264 §8.4)."""
    if not (b"sendonly" in description or b"inactive" in description or b"0.0.0.0" in description):
        return False  # not parsed, because nearly all are not
    try:
        return SDP.parse(description).is_hold
    except ParseError:
        return False


def keep(local: SDP, offer: SDP) -> SDP:
    """Return an answer to an offer that keeps what is agreed, as far as it can. A stream that the
    offer adds gets port 0 (RFC 3264 §6). Raises Reject if nothing can be kept."""
    made = Media.of(local, None).answer(offer, local)
    ports, before = ([section.port for section in each.media] for each in (made, local))
    return local if ports == before and fits(local, offer) else made


def fits(local: SDP, offer: SDP) -> bool:
    """True if a description that was our offer may be repeated as the answer to an offer.

    It may not if the peer has refused one of its streams, or limited the direction of one (RFC 3264
    §6, §6.1, §8.2). A peer with another number of streams has broken that rule before.
    """
    return all(
        ours.is_disabled
        or (
            not theirs.is_disabled
            and answer_direction(theirs.direction, ours.direction) == ours.direction
        )
        for ours, theirs in zip(local.media, offer.media, strict=False)
    )


def successor(made: SDP, local: SDP, last_sent: bytes) -> SDP:
    """Give a description the version that follows what we sent last (RFC 3264 §8, RFC 6337 §5.2.5).

    An offer that was refused had a version, too. The next description has a higher one, because the
    peer may compare it with that offer.

    Args:
        made: The description, made from `local`.
        local: Our description that was agreed last.
        last_sent: The description with the highest version that we have sent.
    """
    if made == local or not last_sent or last_sent == bytes(local):
        return made
    try:
        previous = SDP.parse(last_sent)
    except ParseError:  # the application's own, which was refused
        return made
    return next_version(previous, made)
