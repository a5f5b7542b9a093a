"""STUN on SIP's UDP port: Binding requests and their answers, RFC 5626 §8 and RFC 5389. Pure.

Phones behind NAT send Binding requests to keep their flow alive and to learn whether their address
has changed (RFC 5626 §4.4.2). An answer needs no state: a retransmitted request gets the same
answer (RFC 5389 §7.3.1). It has no SOFTWARE attribute, so it does not tell a version. It has at
most three times the bytes of the request, because the source of the request may be forged.
"""

from __future__ import annotations

import ipaddress
from zlib import crc32

COOKIE = b"\x21\x12\xa4\x42"
"""Bytes 4 to 7 of every message (RFC 5389 §6)."""

BELOW_TEXT = b"\x04"
"""A message that is less than this, as bytes compare, is not SIP.

A STUN message begins with 0 or 1 on this port (RFC 5626 §8), and always with two zero bits (RFC
5389 §6). A start line begins with a character of a token."""

LONGEST = 1280
"""Bytes of a request or answer, at most: what IPv6 carries unfragmented. Binding requests should
not exceed it (RFC 5389 §7.1)."""

_BINDING, _SUCCESS, _ERROR = b"\x00\x01", b"\x01\x01", b"\x01\x11"
_HEADER = 20

_MESSAGE_INTEGRITY, _ERROR_CODE, _UNKNOWN_ATTRIBUTES, _XOR_MAPPED_ADDRESS, _FINGERPRINT = (
    0x0008,
    0x0009,
    0x000A,
    0x0020,
    0x8028,
)

UNDERSTOOD = frozenset(
    (
        0x0001,
        0x0006,
        _MESSAGE_INTEGRITY,
        _ERROR_CODE,
        _UNKNOWN_ATTRIBUTES,
        0x0014,
        0x0015,
        _XOR_MAPPED_ADDRESS,
    )
)
"""Comprehension-required attributes of RFC 5389 §18.2. A keep-alive needs none of them, so all are
ignored (§7.3)."""

_KNOWN = UNDERSTOOD | {0x0004, 0x0005, 0x000B}
"""Those of an answer: also SOURCE-ADDRESS, CHANGED-ADDRESS and REFLECTED-FROM of RFC 3489, which
servers still send beside XOR-MAPPED-ADDRESS."""

_OPTIONAL = 0x8000  # attributes from here on are ignored when not understood (RFC 5389 §15)

# ERROR-CODE, §15.6: two reserved bytes, class, number, phrase.
_UNKNOWN = b"\x00\x00\x04\x14Unknown Attribute"

_FINGERPRINT_XOR = 0x5354554E  # §15.5


def answer(request: bytes, host: str, port: int) -> bytes | None:
    """Return the answer to a Binding request.

    Args:
        request: The datagram.
        host: The numeric host that it came from.
        port: The port that it came from.

    Returns:
        The datagram to send back; None if the request is malformed, or is an indication or a
        response, which get no answer.
    """
    if request[:2] != _BINDING or not _is_message(request):
        return None
    found = _attributes(request)
    if found is None:
        return None
    unknown = [kind for kind in found if kind < _OPTIONAL and kind not in UNDERSTOOD]
    fingerprinted = _FINGERPRINT in found
    if unknown:
        kinds = b"".join(kind.to_bytes(2, "big") for kind in unknown)
        attributes = _attribute(_ERROR_CODE, _UNKNOWN) + _attribute(_UNKNOWN_ATTRIBUTES, kinds)
        return _message(_ERROR, request[4:_HEADER], attributes, fingerprinted)
    return _message(
        _SUCCESS, request[4:_HEADER], _xor_mapped_address(request, host, port), fingerprinted
    )


def ask(identity: bytes) -> bytes:
    """Return a Binding request with this transaction id of 12 bytes: a keep-alive (RFC 5626
    §4.4.2)."""
    return _message(_BINDING, COOKIE + identity, b"", False)


def read_answer(reply: bytes) -> tuple[bytes, tuple[str, int] | None] | None:
    """Read the answer to a Binding request of ours.

    Returns:
        The transaction id, and our address as the peer saw it. The address is None if the request
        has failed: the answer is an error response, or has a required attribute that is unknown
        (RFC 5389 §7.3.3, §7.3.4). None in place of both for a datagram that is neither a
        well-formed error response nor a success response with an address.
    """
    if reply[:2] not in (_SUCCESS, _ERROR) or not _is_message(reply):
        return None
    found = _attributes(reply)
    if found is None:
        return None
    identity = reply[8:_HEADER]
    if reply[:2] == _ERROR or any(kind < _OPTIONAL and kind not in _KNOWN for kind in found):
        return identity, None
    value = found.get(_XOR_MAPPED_ADDRESS, b"")
    if (value[1:2], len(value)) not in ((b"\x01", 8), (b"\x02", 20)):
        return None
    mask = reply[4:_HEADER]
    port, host = (bytes(a ^ b for a, b in zip(part, mask)) for part in (value[2:4], value[4:]))
    return identity, (str(ipaddress.ip_address(host)), int.from_bytes(port, "big"))


def is_error(reply: bytes) -> bool:
    """True for an error answer, because the peer did not understand a required attribute of the
    request."""
    return reply[:2] == _ERROR


def _is_message(data: bytes) -> bool:
    """True for a message of RFC 5389 by its header and size (§6)."""
    size = len(data)
    return (
        data[4:8] == COOKIE
        and _HEADER <= size <= LONGEST
        and not size % 4
        and int.from_bytes(data[2:4], "big") == size - _HEADER
    )


def _attributes(message: bytes) -> dict[int, bytes] | None:
    """Return the attributes of a message by their types, the first of each type. None if they are
    malformed (§7.3).

    Those behind MESSAGE-INTEGRITY are left out, except FINGERPRINT (§15.4).
    """
    found: dict[int, bytes] = {}
    at, size = _HEADER, len(message)
    while at < size:
        kind = int.from_bytes(message[at : at + 2], "big")
        length = int.from_bytes(message[at + 2 : at + 4], "big")
        value, end = message[at + 4 : at + 4 + length], at + 4 + length + -length % 4
        if end > size:
            return None
        if kind == _FINGERPRINT:
            if end != size or value != _fingerprint(message[:at]):
                return None  # it must be last and right, or this is not STUN (§7.3, §15.5)
            found[kind] = value
        elif _MESSAGE_INTEGRITY not in found:
            found.setdefault(kind, value)
        at = end
    return found


def _message(kind: bytes, identity: bytes, attributes: bytes, fingerprinted: bool) -> bytes:
    """Return a message; `identity` is the cookie and transaction id of its request."""
    # the length counts the fingerprint, too (§15.5)
    size = len(attributes) + (8 if fingerprinted else 0)
    message = kind + size.to_bytes(2, "big") + identity + attributes
    return message + _attribute(_FINGERPRINT, _fingerprint(message)) if fingerprinted else message


def _attribute(kind: int, value: bytes) -> bytes:
    return kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)


def _fingerprint(message: bytes) -> bytes:
    return (crc32(message) ^ _FINGERPRINT_XOR).to_bytes(4, "big")


def _xor_mapped_address(request: bytes, host: str, port: int) -> bytes:
    """Return the attribute with the source of the request, XORed so that no NAT rewrites it
    (§15.2)."""
    address = ipaddress.ip_address(host)
    family = b"\x00\x01" if address.version == 4 else b"\x00\x02"
    mask = request[4:_HEADER]  # cookie and transaction
    where = bytes(a ^ b for a, b in zip(port.to_bytes(2, "big") + address.packed, mask[:2] + mask))
    return _attribute(_XOR_MAPPED_ADDRESS, family + where)
