"""The session description of a message, RFC 6337 §2.4, RFC 5621."""

from __future__ import annotations

from ...errors import ParseError
from ...message.body import Part
from ...message.message import Message, Request, Response
from .call import SESSION_TYPE


def description_of(message: Message) -> bytes:
    """Return the session description of a message, from a multipart, too; b"" without one.

    A body with another Content-Disposition than "session" is none (RFC 6337 §2.4). Neither is one
    of another type in a response without Content-Disposition, because "render" is its default
    (RFC 3261 §20.11). Neither is a multipart of a response that cannot be read, because nothing can
    refuse a response.

    Raises:
        ParseError: The multipart of a request cannot be read.
    """
    body = message.body
    if not body:
        return b""
    headers = message.headers
    fields = headers.fields
    if "Content-Disposition" in fields:
        disposition = headers["Content-Disposition"].partition(";")[0].strip().lower()
        if disposition != "session":
            return b""
    # a list for several lines, which are no multipart that can be read
    kind = fields.get("Content-Type", SESSION_TYPE)
    if kind == SESSION_TYPE or type(kind) is not str:
        return body
    if kind[:10].lower() == "multipart/":
        try:
            part = Part.of(message).find(SESSION_TYPE)
        except ParseError:
            if isinstance(message, Request):
                raise
            return b""
        return b"" if part is None else part.content
    if "Content-Disposition" not in fields and isinstance(message, Response):
        named = kind.partition(";")[0].strip().lower()
        if "/" in named and named != SESSION_TYPE:
            return b""
    return body


def type_of(message: Message) -> str:
    """Return the Content-Type of a session description as text.

    It is application/sdp without one, and for a multipart. So it is for one that cannot be read,
    which a bridge may have received, because our later requests have this type, too.
    """
    there = message.headers.fields.get("Content-Type") or SESSION_TYPE
    kind = there if type(there) is str else there[0]
    if kind == SESSION_TYPE:
        return kind
    try:
        readable = message.content_type is not None
    except ParseError:
        readable = False
    return kind if readable and kind[:10].lower() != "multipart/" else SESSION_TYPE
