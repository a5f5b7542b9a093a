"""TLSSession: TLS of one connection, without its socket, RFC 8446, RFC 5246 and RFC 5922. Bytes
go in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gevent import ssl

from ...errors import TransportError
from ..certificate import Certificate, identities

if TYPE_CHECKING:
    from ssl import MemoryBIO, SSLContext, SSLObject

RECORD = 16384
"""Most bytes of a TLS record (RFC 8446 §5.1). A read of this size leaves nothing of a record
behind."""


class TLSSession:
    """TLS of one connection. It takes the bytes that have arrived, and returns those to send.

    | event | calls |
    |---|---|
    | bytes have arrived | `take(data)`; shake_hands() until it is done; decrypt() until None |
    | any call returned or raised | send what flush() returns |
    | a message is to be sent | send what `encrypt(data)` returns |
    | the connection ends | send what close_notify() returns |

    Every method raises TransportError, with the error of ssl as its cause, when TLS cannot go on.

    Args:
        context: The SSL context.
        server_name: For a client, the name that the server must prove (RFC 5922 §4). The server
            gets it as SNI (RFC 6066 §3). None makes this side the server.
        matches: Says whether a certificate is valid for a name. Without it, no name is checked.
    """

    __slots__ = ("_incoming", "_matches", "_object", "_outgoing", "_server_name")

    def __init__(
        self,
        context: SSLContext,
        server_name: str | None = None,
        matches: Callable[[Certificate, str], bool] | None = None,
    ) -> None:
        self._server_name = server_name
        self._matches = matches
        self._incoming: MemoryBIO = ssl.MemoryBIO()
        self._outgoing: MemoryBIO = ssl.MemoryBIO()
        is_server = server_name is None
        try:
            self._object: SSLObject = context.wrap_bio(
                self._incoming, self._outgoing, is_server, server_name
            )
        except ValueError as error:  # a name that no certificate can contain
            raise TransportError(f"cannot ask for {server_name!r}: {error}") from error

    def take(self, data: bytes) -> None:
        """Take bytes that have arrived."""
        self._incoming.write(data)

    def flush(self) -> bytes:
        """Return the bytes that TLS itself has to send: handshake, alerts, tickets, key updates."""
        return self._outgoing.read()

    def shake_hands(self) -> tuple[str, ...] | None:
        """Continue the handshake.

        Returns:
            None while more bytes of the peer are needed, else the domains of its certificate.

        Raises:
            TransportError: The handshake has failed, or the certificate is not valid for the name.
        """
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLError, ValueError) as error:
            raise TransportError(
                f"TLS handshake failed: {getattr(error, 'reason', None) or error}", kind="tls"
            ) from error
        certificate: Certificate = self._object.getpeercert() or {}  # type: ignore[assignment]
        proved = identities(certificate)
        if (
            self._server_name is not None
            and self._matches is not None
            and not self._matches(certificate, self._server_name)
        ):
            # Without our last flight, the server does not take the handshake for completed.
            self._outgoing.read()
            known = ", ".join(proved) or "no domain"
            raise TransportError(
                f"TLS peer is not {self._server_name}: its certificate is for {known} "
                f"(RFC 5922 §7.2)",
                kind="tls_name",
            )
        return proved

    def decrypt(self) -> bytes | None:
        """Return the content of one record.

        Returns None until more bytes arrive, and b"" after the peer's close_notify.
        """
        # Reads take whole records, so nothing is buffered beyond the BIO. Without this test, an
        # SSLWantReadError would say so, for 4 us.
        if not self._incoming.pending:
            return None
        try:
            return self._object.read(RECORD)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLError as error:
            raise TransportError(f"TLS broke: {error.reason or error}") from error

    def encrypt(self, data: bytes) -> bytes:
        """Return the records that carry these bytes, behind what flush() would have returned."""
        try:
            rest: bytes | memoryview | None = data
            while rest:
                sent = self._object.write(rest)
                rest = memoryview(rest)[sent:] if sent < len(rest) else None
        except ssl.SSLError as error:
            raise TransportError(f"TLS broke: {error.reason or error}") from error
        return self._outgoing.read()

    def close_notify(self) -> bytes:
        """Return the bytes of our close_notify (RFC 8446 §6.1). Nothing can be sent after it."""
        try:
            self._object.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # it wants the peer's close_notify too, and we do not wait for that
        return self._outgoing.read()
