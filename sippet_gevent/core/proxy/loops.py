"""Loops: the mark in our branches by which a proxy knows a looped request, RFC 3261 §16.3 item 4,
§16.6 step 8 and RFC 5393 §4.2. Pure."""

from __future__ import annotations

from hashlib import blake2s

from ...errors import Reject
from ...message.message import Request

LOOP_MARK = 8
"""Bytes of the hash in our branches. That is enough to make an accidental match within 70 hops
improbable (RFC 5393 §4.2.4)."""


def loop_mark(request: Request, secret: bytes) -> str:
    """Return the hash that tells a loop from a spiral, for the branches of the copies (§16.6 step
    8, RFC 5393 §4.2.1).

    A request that comes back unchanged has the same hash, and a request that spirals has another.
    The hash is keyed, so only our own Via values can match. The hash itself is public, because it
    is in the branch that the next hop sees.

    Args:
        request: The request as it was received.
        secret: The key, which is the same for the life of the stack.

    Raises:
        Reject: 482 when a Via of the request already has this hash (§16.3 item 4).
    """
    e, fields = request.mandatory, request.headers.fields
    call_id = fields["Call-ID"]
    # not the method, because CANCEL and ACK have the branch of their INVITE (§16.6 step 8)
    text = (
        f"{request._uri}\n{call_id if type(call_id) is str else call_id[0]}\n"
        f"{e.cseq} {e.from_tag} {e.to_tag}"
    )
    for name in ("Route", "Proxy-Require", "Proxy-Authorization"):
        there = fields.get(name)
        if there is not None:
            text += f"\n{name}\n" + (there if type(there) is str else "\n".join(there))
    mark = blake2s(
        text.encode("utf-8", "surrogateescape"), key=secret, digest_size=LOOP_MARK
    ).hexdigest()
    vias = fields["Via"]
    for via in (vias,) if type(vias) is str else vias:
        if mark in via:
            raise Reject(482, "Loop Detected")
    return mark
