"""Cipher: TLS of one connection, without its socket, RFC 8446, RFC 5246 and RFC 5922: octets in,
octets out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gevent import ssl

from ...errors import TransportError
from ..tls import identities

RECORD = 16384
"""Octets that a TLS record holds, at most (RFC 8446 §5.1): asked of each read, which then leaves
nothing of one behind."""


class Cipher:
    """What TLS makes of the octets of one connection: give it what comes, and send what it gives.

    `context` is the SSL context; `asked` the name that the peer of a client must prove (RFC 5922
    §4), which it is told (RFC 6066 §3), and None makes it a server. `names_peer` says whether a
    certificate speaks for a name; without it nobody asks.

    | when | what | |---|---| | octets have come | `take(data)`; then shake_hands() until it is
    done, and decipher() until it returns None | | it has been called, and a TransportError been
    raised, too | what flush() returns is to be sent | | there is something to say | what
    `encipher(data)` returns is to be sent, and at the end what goodbye() returns |

    Raises TransportError, its cause that of ssl, when TLS cannot go on.
    """

    __slots__ = ("_asked", "_incoming", "_names_peer", "_outgoing", "_tls")

    def __init__(
        self,
        context: Any,
        asked: str | None = None,
        names_peer: Callable[[Mapping[str, Any], str], bool] | None = None,
    ) -> None:
        self._asked = asked
        self._names_peer = names_peer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, asked is None, asked)
        except ValueError as error:  # a name that no certificate could hold
            raise TransportError(f"cannot ask for {asked!r}: {error}") from error

    def take(self, data: bytes) -> None:
        """Take octets of the peer's."""
        self._incoming.write(data)

    def flush(self) -> bytes:
        """Return what TLS itself has to say, b"" for nothing: handshakes and alerts, session
        tickets, key updates."""
        return self._outgoing.read()

    def shake_hands(self) -> tuple[str, ...] | None:
        """Go on with the handshake. Returns None while the peer has to go on, else the domains that
        it has proved to be.

        Raises TransportError when the handshake fails, and for a peer that is not who was asked
        for.
        """
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLError, ValueError) as error:
            raise TransportError(
                f"TLS handshake failed: {getattr(error, 'reason', None) or error}", kind="tls"
            ) from error
        peer = self._tls.getpeercert() or {}
        proved = identities(peer)
        if (
            self._asked is not None
            and self._names_peer is not None
            and not self._names_peer(peer, self._asked)
        ):
            self._outgoing.read()  # with our last words it would take the handshake for done
            known = ", ".join(proved) or "nobody by name"
            problem = (
                f"TLS peer is not {self._asked}: its certificate is for {known} (RFC 5922 §7.2)"
            )
            raise TransportError(problem, kind="tls_name")
        return proved

    def decipher(self) -> bytes | None:
        """Return what one record of the peer's says, b"" when it will say no more (close_notify),
        None until more comes."""
        # of the record before, all was asked for; an exception that says so would cost 4 us
        if not self._incoming.pending:
            return None
        try:
            return self._tls.read(RECORD)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLError as error:
            raise TransportError(f"TLS broke: {error.reason or error}") from error

    def encipher(self, data: bytes) -> bytes:
        """Return the octets that say this, behind what flush() would have returned. Raises
        TransportError."""
        try:
            rest: Any = data
            while rest:
                sent = self._tls.write(rest)
                rest = memoryview(rest)[sent:] if sent < len(rest) else None
        except ssl.SSLError as error:
            raise TransportError(f"TLS broke: {error.reason or error}") from error
        return self._outgoing.read()

    def goodbye(self) -> bytes:
        """Return the octets of our close_notify (RFC 8446 §6.1): nothing is said after it."""
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # it wants the peer's close_notify too, and nobody waits for that
        return self._outgoing.read()
