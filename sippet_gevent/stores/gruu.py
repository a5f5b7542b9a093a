"""Gruus: URIs that reach one user agent of a user from everywhere, RFC 5627. Pure.

| GRUU | form | is valid |
|---|---|---|
| public | `sip:alice@example.com;gr=urn:uuid:…`: address-of-record and instance | always |
| temporary | `sip:tgruu.…@example.com;gr`: both encrypted, new with each REGISTER | while bound |

No GRUU takes memory, because each says what it is for. A temporary one names the Call-ID of its
REGISTER, too. It ends when the user agent registers with another Call-ID (§5.1), or no longer
(§5.3). A user agent with several flows and a Call-ID for each loses the ones of a flow that ends.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from hashlib import blake2b, blake2s
from hmac import compare_digest
from typing import NamedTuple
from uuid import UUID

from ..message.parameters import NO_URI_PARAMETERS, URIHeaders, URIParameters
from ..message.uri import URI
from .bindings import Binding, instance_of

TAG = "gruu"
"""Option tag of user agents that support GRUUs (RFC 5627 §8)."""

PREFIX = "tgruu."
"""Begin of the user part of a temporary GRUU."""

_MARK, _RANDOM, _MAC, _BLOCK = 4, 8, 10, 64
_URN = "<urn:uuid:"


class Gruu(NamedTuple):
    """What a GRUU is for."""

    aor: str | None
    """The address-of-record, as a key of a store. None in a public GRUU, which shows it."""
    instance: str
    """+sip.instance, in the form of instance_of()."""
    mark: bytes | None
    """The hash of the Call-ID; None for a public GRUU."""

    def reaches(self, binding: Binding) -> bool:
        """True when requests for this GRUU go to a binding of its address-of-record."""
        if instance_of(binding.contact) != self.instance:
            return False
        return self.mark is None or self.mark == _mark(binding.call_id)


class Gruus:
    """Makes and reads the GRUUs of a domain.

    Args:
        secret: Processes that share bindings need the same, and so does a process after a restart.
    """

    __slots__ = ("_cipher", "_mac")

    def __init__(self, secret: bytes) -> None:
        self._cipher = blake2b(secret, person=b"gruu cipher").digest()
        self._mac = blake2s(secret, person=b"gruu mac").digest()

    def temporary(self, uri: URI, aor: str, binding: Binding) -> URI | None:
        """Return a new temporary GRUU for a binding; None if its Contact names no instance.

        Nobody else can tell if two of them are for the same user, unless their lengths differ:
        those of all usual addresses-of-record are equal (§5.1).

        Args:
            uri: The address-of-record as the user agent knows it, whose host the GRUU gets.
            aor: Its key in the store.
            binding: The binding.
        """
        instance = instance_of(binding.contact)
        if instance is None:
            return None
        data = b"\0".join((_mark(binding.call_id).hex().encode(), _packed(instance), _text(aor)))
        data += b"\0" + bytes(-(len(data) + 1) % _BLOCK)
        random = os.urandom(_RANDOM)
        sealed = random + self._crypt(random, data)
        text = urlsafe_b64encode(self._sign(sealed) + sealed).decode().rstrip("=")
        return _of_domain(uri)._replace(
            user=PREFIX + text, parameters=NO_URI_PARAMETERS.replace(gr=None)
        )

    def read(self, uri: URI) -> Gruu | None:
        """Return what a URI with `gr` is for. None if it is no GRUU of this domain."""
        value = uri.parameters.get("gr")
        if value is not None:
            instance = f"<{value}>"
            return Gruu(None, instance.lower() if _is_uuid(instance) else instance, None)
        user = uri.user or ""
        if not user.startswith(PREFIX) or "gr" not in uri.parameters:
            return None
        text = user[len(PREFIX) :]
        try:
            raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (NotBase64, ValueError):
            return None
        mac, random, sealed = raw[:_MAC], raw[_MAC : _MAC + _RANDOM], raw[_MAC + _RANDOM :]
        if not compare_digest(mac, self._sign(random + sealed)):
            return None
        mark, instance_data, aor = self._crypt(random, sealed).split(b"\0", 2)
        return Gruu(
            _untext(aor.rstrip(b"\0")), _unpacked(instance_data), bytes.fromhex(mark.decode())
        )

    def _sign(self, data: bytes) -> bytes:
        return blake2s(data, key=self._mac, digest_size=_MAC).digest()

    def _crypt(self, random: bytes, data: bytes) -> bytes:
        """Encrypt or decrypt by a key stream, which is used for one GRUU alone."""
        stream = b"".join(
            blake2b(random + number.to_bytes(4, "big"), key=self._cipher).digest()
            for number in range(-(-len(data) // _BLOCK))
        )
        return bytes(one ^ other for one, other in zip(data, stream))


def public(uri: URI, binding: Binding) -> URI | None:
    """Return the public GRUU for a binding; None if its Contact names no instance (§5.1).

    Args:
        uri: The address-of-record as the user agent knows it.
        binding: The binding.
    """
    instance = instance_of(binding.contact)
    if instance is None or not instance.strip("<>"):
        return None
    parameters: URIParameters = NO_URI_PARAMETERS.replace(gr=instance.strip("<>"))
    return _of_domain(uri)._replace(parameters=parameters)


def _of_domain(uri: URI) -> URI:
    return uri._replace(password=None, headers=URIHeaders())


def _mark(call_id: str) -> bytes:
    return blake2s(_text(call_id), digest_size=_MARK, person=b"call-id").digest()


def _is_uuid(instance: str) -> bool:
    return instance[: len(_URN)].lower() == _URN


def _packed(instance: str) -> bytes:
    """Return an instance in few bytes without a zero byte, a usual one in 22 characters."""
    if _is_uuid(instance):
        try:
            number = UUID(instance[len(_URN) : -1])
        except ValueError:
            pass
        else:
            if f"{_URN}{number}>" == instance:
                return b"u" + urlsafe_b64encode(number.bytes).rstrip(b"=")
    return b"t" + _text(instance)


def _unpacked(data: bytes) -> str:
    if data[:1] == b"u":
        return f"{_URN}{UUID(bytes=urlsafe_b64decode(data[1:] + b'=='))}>"
    return _untext(data[1:])


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _untext(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
