"""Codec: an RTP format of ours, and its payload type in offers, RFC 3264 §5.1 and §8.3.2. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ...errors import InvalidValue
from .payload_types import DYNAMIC_PAYLOAD_TYPES, STATIC_BY_KEY, RTPMap

DEFAULT_EVENTS = "0-15"
"""The events of a telephone-event without parameters: the keys of a telephone (RFC 4733 §7.1.1)."""

IN_STEP = frozenset(("telephone-event", "tone", "cn"))
"""Encodings that share the timestamps of their audio, hence its clock rate (RFC 4733 §2.1, RFC 3389
§4)."""

AUXILIARY = frozenset(("telephone-event", "tone", "cn", "red", "rtx", "ulpfec", "flexfec"))
"""Encodings that accompany another one. Two sides that have only these in common have no media in
common."""


class Codec(NamedTuple):
    """An RTP format that we can send and receive, with its format parameters, if any.

        Codec("PCMU", 8000)
        Codec("opus", 48000, 2, fmtp="useinbandfec=1")

    `clock_rate` is in Hz. `payload_type` is the number to offer the codec by. Without one, an offer
    takes the static number of RFC 3551, or a free one of 96 to 127.
    """

    encoding: str
    clock_rate: int
    channels: int = 1
    fmtp: str | None = None
    payload_type: int | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        """The parts to compare: encoding in lower case (RFC 4855 §3), clock rate, channels."""
        return self.encoding.lower(), self.clock_rate, self.channels


PCMU = Codec("PCMU", 8000)
PCMA = Codec("PCMA", 8000)
G722 = Codec("G722", 8000)  # it samples at 16 kHz: RFC 3551 §4.5.2
G729 = Codec("G729", 8000)
OPUS = Codec("opus", 48000, 2)  # RFC 7587 §7
TELEPHONE_EVENT = Codec("telephone-event", 8000, fmtp=DEFAULT_EVENTS)  # RFC 4733


def payload_types_of(codecs: Sequence[Codec], known: Mapping[int, RTPMap]) -> list[int]:
    """Return a payload type for each codec.

    It is the codec's own, else the one that it had in `known` (RFC 3264 §8.3.2), else the static
    one, else a free dynamic one.

    Raises:
        InvalidValue: two codecs have one number, a number means another codec in this session, or
            the dynamic numbers are used up.
    """
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
        static = STATIC_BY_KEY.get(codec.key)
        if codec.payload_type is not None:
            number = codec.payload_type
            meant = known.get(number)
            if number in numbers:
                raise InvalidValue(
                    f"payload type {number} is given to two codecs: give {codec.encoding} another"
                )
            if number in DYNAMIC_PAYLOAD_TYPES and meant is not None and meant.key != codec.key:
                raise InvalidValue(
                    f"payload type {number} means {meant.encoding} for the whole session, so "
                    f"{codec.encoding} needs another (RFC 3264 §8.3.2)"
                )
        elif had:
            number = had[0]
        elif static is not None and static not in taken:
            number = static
        else:
            found = next(free, None)
            if found is None:
                raise InvalidValue(
                    f"{codec.encoding} has no payload type, because all from 96 to 127 are used: "
                    "offer fewer codecs"
                )
            number = found
        taken.add(number)
        numbers.append(number)
    return numbers
