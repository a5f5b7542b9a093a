"""TLS: the certificates and trust of a stack, RFC 3261 §26.3 and RFC 5922."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from ssl import SSLContext, SSLObject, _SSLMethod

from gevent import ssl

from ..arguments import flag, optional
from ..errors import InvalidValue

Path = str | os.PathLike[str]


class TLS:
    """Certificates and trust of a stack. TLS versions before 1.2 are not supported.

    `Stack("tls:0.0.0.0:5061", tls=TLS(cert="chain.pem", key="key.pem"))`. The private key may be in
    the same file as the certificate.

    Args:
        cert: A PEM file with the certificate and its chain. Peers see it when they connect to us,
            and servers that request a certificate see it when we connect to them. Without one,
            no peer can connect to us.
        key: The PEM file of the private key, if `cert` does not contain it.
        names: Certificates and keys for further domains, selected by the name that a client asks
            for (SNI): `{"example.org": ("org.pem", "org.key")}`.
        ca: A file of the authorities that may sign certificates of servers. The default is the
            authorities of the system.
        client_ca: A file of the authorities that may sign certificates of clients. Clients must
            then show a certificate (mutual TLS); `flow.peer_identity` has its domains.
        verify: False connects to servers with any certificate. Use it in tests only.
        server_context: An SSLContext of your own for accepted connections.
        client_context: An SSLContext of your own for connections that we open.

    Raises:
        InvalidValue: A file cannot be read, or the arguments contradict one another.
        TypeError: An argument is of another type.
    """

    def __init__(
        self,
        cert: Path | None = None,
        key: Path | None = None,
        *,
        names: Mapping[str, tuple[Path, Path | None]] | None = None,
        ca: Path | None = None,
        client_ca: Path | None = None,
        verify: bool = True,
        server_context: SSLContext | None = None,
        client_context: SSLContext | None = None,
    ) -> None:
        self.cert = _file("cert", cert)
        self.key = _file("key", key)
        self.names = _names(names)
        flag("verify", verify)
        if key is not None and cert is None:
            raise InvalidValue(f"key {str(key)!r} belongs to a certificate: give its file as cert")
        if client_ca is not None and cert is None and not self.names and server_context is None:
            raise InvalidValue(
                "client_ca is for clients that connect here, and none can connect without a "
                "certificate: give cert"
            )
        self.ca = _file("ca", ca)
        self.client_ca = _file("client_ca", client_ca)
        self.verify = verify
        self._given = (server_context, client_context)
        self._by_name: dict[str, SSLContext] = {}
        self.server_context: SSLContext | None = None
        """For accepted connections; None without a certificate."""
        self.client_context: SSLContext
        """For connections that we open."""
        self.reload()

    def reload(self) -> None:
        """Read all files again. Only new connections use the changes.

        Raises:
            InvalidValue: A file cannot be read. Nothing has changed then.
        """
        server, client = self._given
        by_name: dict[str, SSLContext] = {}
        if server is None and (self.cert is not None or self.names):
            for name, pair in self.names.items():
                by_name[name] = self._server(*pair)
            server = (
                self._server(self.cert, self.key)
                if self.cert is not None
                else next(iter(by_name.values()))
            )
            # gevent's own property calls back with an SSLSocket. Ours are SSLObjects, which the
            # property of the standard library supports.
            super(ssl.SSLContext, ssl.SSLContext).sni_callback.__set__(server, self._choose)  # type: ignore[misc]  # a property of the class
        if client is None:
            client = self._client()
        self._by_name = by_name
        self.server_context, self.client_context = server, client

    def take_over(self, other: TLS) -> None:
        """Use the files and contexts of another TLS. Only new connections use the changes."""
        vars(self).update(vars(other))

    @property
    def shows_certificate(self) -> bool:
        """True when servers that request a certificate get one of ours."""
        return self.cert is not None and self._given[1] is None

    def _server(self, cert: Path | None, key: Path | None) -> SSLContext:
        context = _context(ssl.PROTOCOL_TLS_SERVER)
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        _load_certificate(context, cert, key)
        if self.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            _load(context.load_verify_locations, self.client_ca)
        return context

    def _client(self) -> SSLContext:
        context = _context(ssl.PROTOCOL_TLS_CLIENT)
        # Names are checked by the rules of RFC 5922 §7 instead: subjectAltName may be a SIP URI,
        # and a wildcard matches nothing.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED if self.verify else ssl.CERT_NONE
        if self.ca is not None:
            _load(context.load_verify_locations, self.ca)
        elif self.verify:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if self.cert is not None:
            _load_certificate(context, self.cert, self.key)
        return context

    def _choose(self, connection: SSLObject, name: str | None, _: SSLContext) -> None:
        """Select the certificate for the name that the client asks for (RFC 6066 §3).

        The first certificate is used for other names.
        """
        context = self._by_name.get((name or "").lower().rstrip("."))
        if context is not None:
            connection.context = context


def _context(protocol: _SSLMethod) -> SSLContext:
    context: SSLContext = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996 deprecates older versions
    # A handshake costs the server more than the client, and a peer could repeat it at will.
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _file(argument: str, path: Path | None) -> Path | None:
    """Return the name of a file.

    Raises TypeError for anything else, and InvalidValue for the text of a certificate or key.
    """
    optional(argument, path, (str, os.PathLike), f'{argument}="chain.pem", the name of a file')
    if isinstance(path, str) and path.lstrip().startswith("-----BEGIN"):
        raise InvalidValue(
            f"{argument} must be the name of a file, got the content of one: "
            f"write the content to a file first"
        )
    return path


def _names(
    names: Mapping[str, tuple[Path, Path | None]] | None,
) -> dict[str, tuple[Path, Path | None]]:
    """Return certificates and keys by the name that a client asks for.

    Raises TypeError and InvalidValue.
    """
    found: dict[str, tuple[Path, Path | None]] = {}
    write = 'names={"example.org": ("org.pem", "org.key")}'
    optional("names", names, Mapping, write)
    for name, pair in names.items() if names is not None else ():
        if not isinstance(name, str) or not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(
                f"names must map names to a certificate and a key, got {name!r}: {pair!r}: "
                f"write {write}"
            )
        if "*" in name:
            raise InvalidValue(
                f"names must be whole names, got {name!r}: "
                f"write each name that a client may ask for"
            )
        found[name.lower().rstrip(".")] = (pair[0], _file("names", pair[1]))
    return found


def _load_certificate(context: SSLContext, cert: Path | None, key: Path | None) -> None:
    """Load a certificate with its key. Raises InvalidValue, also when there is no key."""
    if key is None and cert is not None:
        try:
            with open(cert, "rb") as file:
                held = file.read()
        except OSError:
            held = b""  # loading it below raises the error with its reason
        if b"-----BEGIN CERTIFICATE" in held and b"PRIVATE KEY-----" not in held:
            raise InvalidValue(
                f"{str(cert)!r} has a certificate and no private key in it: "
                f"give the file of the key, too"
            )
    _load(context.load_cert_chain, cert, key)


def _load(load: Callable[..., None], *files: Path | None) -> None:
    try:
        load(*files)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        shown = " and ".join(str(file) for file in files if file is not None)
        if (
            getattr(error, "reason", None) is None
            and isinstance(error, ssl.SSLError)
            and "PEM lib" in str(error)
        ):
            raise InvalidValue(
                f"cannot load {shown}: no PEM file of a certificate and its private key"
            ) from error
        write = ": write the path of a PEM file" if isinstance(error, FileNotFoundError) else ""
        raise InvalidValue(
            f"cannot load {shown}: {getattr(error, 'strerror', None) or error}{write}"
        ) from error
