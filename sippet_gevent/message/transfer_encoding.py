"""Content-Transfer-Encodings of body parts, RFC 2045 §6. Pure."""

from __future__ import annotations

import binascii
from collections.abc import Callable

from ..errors import ParseError


def _base64(data: bytes) -> bytes:
    try:
        return binascii.a2b_base64(data)
    except binascii.Error as error:
        raise ParseError(f"not base64: {error}", header="Content-Transfer-Encoding") from error


def _quoted_printable(data: bytes) -> bytes:
    # RFC 2045 §6.7 rule 3: blanks at the end of a line were added on the way
    lines = [line.rstrip(b" \t\r") + line[len(line.rstrip(b"\r")) :] for line in data.split(b"\n")]
    return binascii.a2b_qp(b"\n".join(lines))


DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "7bit": bytes,
    "8bit": bytes,
    "binary": bytes,
    "base64": _base64,
    "quoted-printable": _quoted_printable,
}
"""Encoding in lower case to the function that undoes it. Raises ParseError."""

AS_IT_IS = ("7bit", "8bit", "binary")
"""Encodings that change nothing."""
