"""RTP payload types: a=rtpmap (RFC 8866 §6.6), and the static ones of RFC 3551. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ...errors import ParseError
from ..grammar import BLANKS
from .grammar import integer, rtpmap, written_number, written_token


class RTPMap(NamedTuple):
    """The meaning of a payload type: an a=rtpmap (RFC 8866 §6.6).

    `clock_rate` is in Hz. `channels` is None where it is not written, which means 1.
    """

    payload_type: int
    encoding: str
    clock_rate: int
    channels: int | None = None

    @classmethod
    def parse(cls, text: str) -> RTPMap:
        """Read what follows a=rtpmap: such as `96 opus/48000/2`. Raises ParseError."""
        match = rtpmap(text.strip(BLANKS))
        if not match:
            raise ParseError(
                "rtpmap must be payload type, encoding/clock rate[/channels]", value=text
            )
        channels = None if match[4] is None else integer(match[4], least=1)
        return cls(integer(match[1], 127), match[2], integer(match[3], least=1), channels)

    @property
    def key(self) -> tuple[str, int, int]:
        """The parts to compare: encoding in lower case (RFC 4855 §3), clock rate, channels.

        MISNAMED corrects the names that peers get wrong.
        """
        key = (self.encoding.lower(), self.clock_rate, self.channels or 1)
        return MISNAMED.get((self.payload_type, *key), key)

    def __str__(self) -> str:
        channels = "" if self.channels is None else "/" + written_number(self.channels, least=1)
        encoding = written_token(self.encoding, "encoding")
        clock_rate = written_number(self.clock_rate, least=1)
        return f"{written_number(self.payload_type, 127)} {encoding}/{clock_rate}{channels}"


STATIC_PAYLOAD_TYPES = {
    row.payload_type: row
    for row in (
        RTPMap(0, "PCMU", 8000), RTPMap(3, "GSM", 8000), RTPMap(4, "G723", 8000),
        RTPMap(5, "DVI4", 8000), RTPMap(6, "DVI4", 16000), RTPMap(7, "LPC", 8000),
        RTPMap(8, "PCMA", 8000), RTPMap(9, "G722", 8000), RTPMap(10, "L16", 44100, 2),
        RTPMap(11, "L16", 44100), RTPMap(12, "QCELP", 8000), RTPMap(13, "CN", 8000),
        RTPMap(14, "MPA", 90000), RTPMap(15, "G728", 8000), RTPMap(16, "DVI4", 11025),
        RTPMap(17, "DVI4", 22050), RTPMap(18, "G729", 8000), RTPMap(25, "CelB", 90000),
        RTPMap(26, "JPEG", 90000), RTPMap(28, "nv", 90000), RTPMap(31, "H261", 90000),
        RTPMap(32, "MPV", 90000), RTPMap(33, "MP2T", 90000), RTPMap(34, "H263", 90000),
    )
}  # fmt: skip
"""Payload types that have a meaning without a=rtpmap (RFC 3551 §6, tables 4 and 5)."""

DYNAMIC_PAYLOAD_TYPES = range(96, 128)
"""Payload types that mean what a=rtpmap says (RFC 3551 §3)."""

MISNAMED = {
    # its clock rate is 8000 by an old mistake (RFC 3551 §4.5.2)
    (9, "g722", 16000, 1): ("g722", 8000, 1),
    # Annex A has the same format, and no name of its own (§4.5.6)
    (18, "g729a", 8000, 1): ("g729", 8000, 1),
    (18, "g729b", 8000, 1): ("g729", 8000, 1),  # Annex B is a parameter
    (18, "g729ab", 8000, 1): ("g729", 8000, 1),
}
"""The right key of static payload types that peers name wrongly, by payload type and wrong key."""

STATIC_FORMATS = {str(number): row for number, row in STATIC_PAYLOAD_TYPES.items()}
"""STATIC_PAYLOAD_TYPES by format, as the m= line has it."""

STATIC_BY_KEY = {row.key: number for number, row in reversed(STATIC_PAYLOAD_TYPES.items())}
"""The static payload type of an encoding, clock rate and channels; the lowest of several."""
