"""MediaStream: a media stream that we can offer or accept, RFC 3264, and its m= section. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ...arguments import texts
from ...errors import excerpt
from .codec import Codec, payload_types_of
from .direction import DIRECTIONS, SENDRECV, checked_direction
from .media import MediaDescription
from .payload_types import RTPMap
from .section import Section
from .values import Attribute, Bandwidth, Connection


class _Fields(NamedTuple):
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


class MediaStream(_Fields):
    """A media stream that we can offer, or accept from an offer.

        MediaStream("audio", 49170, (OPUS, PCMU, TELEPHONE_EVENT))
        MediaStream("image", 49174, proto="udptl", formats=("t38",))

    `codecs` are the formats of RTP, the preferred one first. `formats` are those of any other
    protocol. `direction` is what we would like: an answer has as much of it as the offer allows.
    `connection` is the stream's own address. Without one, the session's address applies. `ptime` is
    in milliseconds. A `port` of 0 disables the stream.

    Raises:
        TypeError: `codecs` is no tuple of Codec, or `formats` no tuple of texts.
    """

    __slots__ = ()

    def __new__(
        cls,
        media: str,
        port: int,
        codecs: Sequence[Codec] = (),
        proto: str = "RTP/AVP",
        formats: Sequence[str] = (),
        direction: str = SENDRECV,
        connection: Connection | str | None = None,
        ptime: float | None = None,
        bandwidths: Sequence[Bandwidth] = (),
        attributes: Sequence[Attribute] = (),
    ) -> MediaStream:
        _check_codecs(codecs)
        texts("formats", formats, "formats")
        return super().__new__(
            cls,
            media,
            port,
            codecs,
            proto,
            formats,
            direction,
            connection,
            ptime,
            bandwidths,
            attributes,
        )


def checked_streams(streams: Iterable[MediaStream]) -> list[MediaStream]:
    """Return streams as a list. Raises TypeError for all else, such as one MediaStream alone."""
    # a MediaStream is a tuple too, so it would be taken for its fields
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
        _check_codecs(stream.codecs)  # _replace() does not check them
    return checked


def _check_codecs(codecs: object) -> None:
    # a Codec is a tuple too, so it would be taken for its fields
    if (
        isinstance(codecs, Codec)
        or not isinstance(codecs, Iterable)
        or not all(isinstance(codec, Codec) for codec in codecs)
    ):
        raise TypeError(
            f"codecs must be a tuple of Codec, got {excerpt(codecs)}: write codecs=(sdp.PCMU,)"
        )


def writes_direction(session: Section, *sections: MediaDescription | None) -> bool:
    """True when a=sendrecv must be written, although it is the default (RFC 3264 §5.1).

    That is so where the session has another direction, or where one of these `sections` has written
    one.
    """
    return any(name in session.attributes for name in DIRECTIONS) or any(
        section.is_direction_written for section in sections if section is not None
    )


def disabled(section: MediaDescription) -> MediaDescription:
    """Return the m= line with port 0 and one format (RFC 3264 §6, §8.2).

    A section that was read without formats gets the format "0".
    """
    return MediaDescription.make(
        section.media, 0, section.formats[:1] or ("0",), proto=section.proto
    )


def offered(
    stream: MediaStream, has_direction: bool, old: MediaDescription | None = None
) -> MediaDescription:
    """Return the section that offers a stream.

    Args:
        stream: what we offer.
        has_direction: whether to write a=sendrecv (see writes_direction).
        old: the section in whose place it goes. Codecs keep the payload types that they have there.
    """
    if not stream.codecs:
        return described(stream, stream.formats, {}, stream.direction, has_direction)
    known = (
        {}
        if old is None or old.is_disabled
        else {rtpmap.payload_type: rtpmap for rtpmap in old.rtpmaps.values()}
    )
    numbers = payload_types_of(stream.codecs, known)
    formats: list[RTPMap] = []
    parameters: dict[int, str] = {}
    for codec, number in zip(stream.codecs, numbers):
        channels = None if codec.channels == 1 else codec.channels
        formats.append(RTPMap(number, codec.encoding, codec.clock_rate, channels))
        if codec.fmtp is not None:
            parameters[number] = codec.fmtp
    return described(stream, formats, parameters, stream.direction, has_direction)


def described(
    stream: MediaStream,
    formats: Iterable[RTPMap | int | str],
    parameters: Mapping[int, str],
    direction: str,
    has_direction: bool,
) -> MediaDescription:
    """Return a section with the stream's address, port and attributes, and these formats."""
    checked_direction(direction)
    return MediaDescription.make(
        stream.media,
        stream.port,
        formats,
        proto=stream.proto,
        connection=stream.connection,
        bandwidths=stream.bandwidths,
        fmtp=dict(parameters),
        ptime=stream.ptime,
        direction=direction if has_direction or direction != SENDRECV else None,
        attributes=stream.attributes,
    )
