"""Interfaces and Routes: which hosts are ours, RFC 3261 §18.2.1, and from which of them the kernel
sends somewhere."""

from __future__ import annotations

from typing import Any

from gevent import socket

from ..errors import TransportError

WILDCARDS = frozenset(("0.0.0.0", "::"))
"""Hosts that stand for every address of this machine."""

KNOWN = 16384
"""Answers remembered; forgotten all at once when there are more, since peers choose what is
asked."""

_LINK_LOCAL = ("fe8", "fe9", "fea", "feb")  # fe80::/10, as the kernel writes it


def sockaddr(host: str, port: int, scope: int = 0) -> Any:
    """Return what the kernel takes for a numeric host: of IPv6 four parts, the last being the
    interface (RFC 4007 §11).

    `scope` is that of a link-local host which names none. Mapped IPv4 becomes IPv4. Raises
    TransportError.
    """
    if ":" not in host:
        return host, port
    try:
        full = socket._socket.getaddrinfo(
            host, port, socket.AF_INET6, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST
        )[0][4]
    except OSError as error:
        raise TransportError(
            f"{host} is not an IPv6 address, or of no interface of ours"
        ) from error
    if full[0].startswith("::ffff:") and "." in full[0]:
        return full[0][7:], port
    if full[3] or full[0][:3] not in _LINK_LOCAL:
        return full
    return *full[:3], scope


def is_link_local(host: str) -> bool:
    """True for an IPv6 host, as the kernel writes it, that means something on one link only."""
    return host[:3] in _LINK_LOCAL and ":" in host


class Interfaces:
    """Answers `is_ours(host)` for a listening point bound to one host, or to a wildcard: what the
    system lets us bind."""

    __slots__ = ("_bound", "_known")

    def __init__(self, bound: str) -> None:
        self._bound = bound
        self._known: dict[str, bool] = {}

    def is_ours(self, host: str) -> bool:
        """True when this numeric host, IPv6 without brackets, is one of ours. Raises TransportError
        where none can be asked."""
        if host == self._bound:
            return True
        if self._bound not in WILDCARDS:
            return ":" in self._bound and ":" in host and _same(host, self._bound)
        known = self._known.get(host)
        if known is None:
            known = any(self._binds(host, scope) for scope in _scopes(host))
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[host] = known
        return known

    def _binds(self, host: str, scope: int) -> bool:
        try:
            probe = socket._socket.socket(
                socket.AF_INET6 if ":" in self._bound else socket.AF_INET, socket.SOCK_DGRAM
            )
        except OSError as error:
            raise TransportError(f"cannot tell whether {host} is ours: {error.strerror}") from error
        try:
            probe.bind((host, 0, 0, scope) if scope else (host, 0))
            return True
        except OSError:
            return False
        finally:
            probe.close()


def _same(one: str, other: str) -> bool:
    try:
        return bool(sockaddr(one, 0)[0] == sockaddr(other, 0)[0])
    except TransportError:
        return False


def _scopes(host: str) -> list[int]:
    return [number for number, _ in socket._socket.if_nameindex()] if is_link_local(host) else [0]


class Routes:
    """Answers how the kernel sends to others, and remembers it as long as there is a way."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], str] = {}

    def source(self, address: Any) -> str:
        """Return our address on the way to a socket address. Raises TransportError when there is no
        way."""
        key = (*address[:1], *address[3:])
        known = self._known.get(key)
        if known is None:
            try:
                known = self._ask(key, None, address)
            except (OSError, OverflowError) as error:
                raise TransportError(
                    f"no route to {address[0]}: {getattr(error, 'strerror', None) or error}"
                ) from error
        return known

    def lead_from(self, bound: str, address: Any) -> bool:
        """True when there is a way to a socket address from this host of ours. False for 127.0.0.1
        and what is elsewhere."""
        key = (*address[:1], *address[3:], bound)
        try:
            return key in self._known or bool(self._ask(key, bound, address))
        except (OSError, OverflowError):
            return False

    def _ask(self, key: tuple[Any, ...], bound: str | None, address: Any) -> str:
        probe = socket._socket.socket(
            socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM
        )
        try:
            if bound is not None:
                try:
                    probe.bind(sockaddr(bound, 0, *address[3:]))
                except OSError:  # none of the kernel's, but a transport's that knows its own ways
                    return bound
            probe.connect(address)  # sends nothing: it asks for a route
            source: str = probe.getsockname()[0]
        finally:
            probe.close()
        if len(self._known) >= KNOWN:
            self._known.clear()
        self._known[key] = source
        return source
