"""TLS: who we are, whom we trust, and which domains a certificate speaks for, RFC 3261 §26.3 and
RFC 5922."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from typing import Any

from gevent import ssl

from ..arguments import flag, optional
from ..errors import InvalidValue

Path = str | os.PathLike[str]


class TLS:
    """Certificates and trust of a stack: `Stack("tls:0.0.0.0:5061", tls=TLS(cert="chain.pem",
    key="key.pem"))`.

    `cert` and `key` are PEM files, the certificate with its chain; the key may stand in the same
    file. Peers see it when they connect to us, and servers that ask for one when we connect to
    them; without one, nobody can connect to us. `names` holds certificates for further domains, by
    the name a client asks for (SNI): `{"example.org": ("org.pem", "org.key")}`. `ca` is a file with
    the authorities that may vouch for servers, those of the system when None; `client_ca` those for
    clients, who then must show a certificate (mutual TLS): `flow.peer_identity` is what it says.
    `verify=False` connects to anybody: for tests. `server_context` and `client_context` may be SSL
    contexts of your own. Nothing below TLS 1.2 is spoken. Raises InvalidValue for files that cannot
    be read; so does reload(), and then all stays as it was.
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
        server_context: Any = None,
        client_context: Any = None,
    ) -> None:
        self.cert = _file("cert", cert)
        self.key = _file("key", key)
        self.names = _names(names)
        flag("verify", verify)
        if key is not None and cert is None:
            raise InvalidValue(f"key {str(key)!r} belongs to a certificate: give its file as cert")
        if client_ca is not None and cert is None and not self.names and server_context is None:
            raise InvalidValue(
                "client_ca is for clients that connect here, and nobody can without a certificate: give cert"
            )
        self.ca = _file("ca", ca)
        self.client_ca = _file("client_ca", client_ca)
        self.verify = verify
        self._given = (server_context, client_context)
        self._by_name: dict[str, Any] = {}
        self.server_context: Any = None
        self.client_context: Any = None
        self.reload()

    def reload(self) -> None:
        """Read all files again. New connections use what they say now, those that stand stay.
        Raises InvalidValue."""
        server, client = self._given
        by_name = {}
        if server is None and (self.cert is not None or self.names):
            for name, pair in self.names.items():
                by_name[name] = self._server(*pair)
            server = (
                self._server(self.cert, self.key)
                if self.cert is not None
                else next(iter(by_name.values()))
            )
            # gevent's own property wants an SSLSocket to call with; ours are SSLObjects, which the
            # one beneath it knows
            super(ssl.SSLContext, ssl.SSLContext).sni_callback.__set__(server, self._choose)  # type: ignore[misc]
        if client is None:
            client = self._client()
        self._by_name = by_name
        self.server_context, self.client_context = server, client

    @property
    def shows_certificate(self) -> bool:
        """True when we prove who we are to servers that ask for it."""
        return self.cert is not None and self._given[1] is None

    def _server(self, cert: Path | None, key: Path | None) -> Any:
        context = _context(ssl.PROTOCOL_TLS_SERVER)
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        _load_certificate(context, cert, key)
        if self.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            _load(context.load_verify_locations, self.client_ca)
        return context

    def _client(self) -> Any:
        context = _context(ssl.PROTOCOL_TLS_CLIENT)
        # we do, by RFC 5922 §7: subjectAltName may be a SIP URI, and wildcards are nobody
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED if self.verify else ssl.CERT_NONE
        if self.ca is not None:
            _load(context.load_verify_locations, self.ca)
        elif self.verify:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if self.cert is not None:
            _load_certificate(context, self.cert, self.key)
        return context

    def _choose(self, connection: Any, name: str | None, _: Any) -> None:
        """Show the certificate of the name that the client asks for (RFC 6066 §3); else the
        first."""
        context = self._by_name.get((name or "").lower().rstrip("."))
        if context is not None:
            connection.context = context


def _context(protocol: Any) -> Any:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996 has ended what came before
    context.options |= ssl.OP_NO_RENEGOTIATION  # a handshake costs us more than who asks for it
    return context


def _file(argument: str, path: Any) -> Path | None:
    """Return the name of a file. Raises TypeError, and InvalidValue for the text of a certificate
    or key."""
    optional(argument, path, (str, os.PathLike), f'{argument}="chain.pem", the name of a file')
    if isinstance(path, str) and path.lstrip().startswith("-----BEGIN"):
        raise InvalidValue(
            f"{argument} is the name of a file, and got what stands in one: write it to a file first"
        )
    return path  # type: ignore[no-any-return]


def _names(names: Any) -> dict[str, tuple[Path, Path | None]]:
    """Return certificates and keys by the name a client asks for. Raises TypeError and
    InvalidValue."""
    found = {}
    write = 'names={"example.org": ("org.pem", "org.key")}'
    for name, pair in optional("names", names, Mapping, write).items() if names is not None else ():
        if not isinstance(name, str) or not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(
                f"names must map names to a certificate and a key, got {name!r}: {pair!r}: write {write}"
            )
        if "*" in name:
            raise InvalidValue(
                f"names must be whole names, got {name!r}: write each one, for a client asks for one of them"
            )
        found[name.lower().rstrip(".")] = (pair[0], _file("names", pair[1]))
    return found


def _load_certificate(context: Any, cert: Path | None, key: Path | None) -> None:
    """Load a certificate with its key. Raises InvalidValue, which says when there is no key."""
    if key is None and cert is not None:
        try:
            with open(cert, "rb") as file:
                held = file.read()
        except OSError:
            held = b""  # the loading says what is wrong
        if b"-----BEGIN CERTIFICATE" in held and b"PRIVATE KEY-----" not in held:
            raise InvalidValue(
                f"{str(cert)!r} has a certificate and no private key in it: give the file of the key, too"
            )
    _load(context.load_cert_chain, cert, key)


def _load(load: Any, *files: Path | None) -> None:
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
        raise InvalidValue(
            f"cannot load {shown}: {getattr(error, 'strerror', None) or error}"
        ) from error


def identities(peer: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the domains a verified certificate, as getpeercert() gives it, speaks for (RFC 5922
    §7.1)."""
    alternatives = peer.get("subjectAltName", ())
    found = [
        domain for kind, value in alternatives if kind == "URI" and (domain := _domain_of(value))
    ]
    if not found:
        found = [value.lower() for kind, value in alternatives if kind == "DNS"]
    # what has one without a domain is somebody's who is none, whatever he calls himself
    if not alternatives:
        found = [
            value.lower()
            for part in peer.get("subject", ())
            for kind, value in part
            if kind == "commonName"
        ]
    return tuple(dict.fromkeys(found))


def _domain_of(uri: str) -> str:
    """Return the domain of a sip URI without a user part, "" of any other: one that names a user is
    no domain's (§7.1)."""
    scheme, found, rest = uri.partition(":")
    if not found or scheme.lower() != "sip" or "@" in rest:
        return ""
    host = rest.partition(";")[0].partition("?")[0].lower()
    return host if host.startswith("[") else host.partition(":")[0]


def names_peer(peer: Mapping[str, Any], asked: str) -> bool:
    """True when a verified certificate speaks for this domain: compared whole, without wildcards
    (RFC 5922 §7.2).

    A numeric host must stand among its iPAddresses (RFC 5280 §4.2.1.6).
    """
    try:
        address = ipaddress.ip_address(asked.strip("[]"))
    except ValueError:
        return asked.lower().rstrip(".") in identities(peer)
    found = [value for kind, value in peer.get("subjectAltName", ()) if kind == "IP Address"]
    return address.packed in map(_packed, found)


def _packed(text: str) -> bytes | None:
    """Return the octets of an iPAddress, None for one of no length that addresses have: ssl writes
    "<invalid>" for it."""
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        return None


def names_web_server(peer: Mapping[str, Any], asked: str) -> bool:
    """The same by the rules of HTTPS, which WebSockets have: a `*.` stands for one label (RFC 6455
    §4.1, RFC 9525 §6.3)."""
    if names_peer(peer, asked):
        return True
    _, dot, parent = asked.lower().rstrip(".").partition(".")
    wildcards = [
        value.lower()
        for kind, value in peer.get("subjectAltName", ())
        if kind == "DNS" and value.startswith("*.")
    ]
    return bool(dot) and "." in parent and f"*.{parent}" in wildcards
