"""Interfaces and Routes: the addresses of this machine, RFC 3261 §18.2.1, and the one from which
the kernel sends to a peer."""

from __future__ import annotations

import _socket
from typing import Any

from ..errors import TransportError

WILDCARDS = frozenset(("0.0.0.0", "::"))
"""Hosts that mean every address of this machine."""

KNOWN = 16384
"""Most answers remembered. Beyond that all are forgotten, because peers choose which hosts are
asked for."""

SockAddr = tuple[str, int] | tuple[str, int, int, int]
"""An address as the kernel takes it: host and port, for IPv6 also flow info and interface
number."""

_LINK_LOCAL = ("fe8", "fe9", "fea", "feb")  # fe80::/10, as the kernel writes it


def sockaddr(host: str, port: int, scope: int = 0) -> SockAddr:
    """Return a numeric host and port as the kernel takes them.

    Args:
        host: IPv4 or IPv6, a link-local one with its interface or without (`fe80::1%eth0`, RFC 4007
            §11). Mapped IPv4 becomes IPv4.
        port: 0 to 65535.
        scope: The interface number of a link-local host that names none.

    Raises:
        TransportError: The host is no IPv6 address, or its interface does not exist.
    """
    if ":" not in host:
        return host, port
    try:
        found: list[Any] = _socket.getaddrinfo(
            host, port, _socket.AF_INET6, _socket.SOCK_DGRAM, 0, _socket.AI_NUMERICHOST
        )
    except OSError as error:
        raise TransportError(
            f"{host} is not an IPv6 address, or its interface does not exist"
        ) from error
    full: tuple[str, int, int, int] = found[0][4]
    if full[0].startswith("::ffff:") and "." in full[0]:
        return full[0][7:], port
    if full[3] or full[0][:3] not in _LINK_LOCAL:
        return full
    return *full[:3], scope


def is_link_local(host: str) -> bool:
    """True for an IPv6 host, as the kernel writes it, that is valid on one link only."""
    return host[:3] in _LINK_LOCAL and ":" in host


class Interfaces:
    """Tells which hosts are ours, for a transport that is bound to one host or to a wildcard.

    On a wildcard, a host is ours if the system lets us bind it.
    """

    __slots__ = ("_bound", "_known")

    def __init__(self, bound: str) -> None:
        self._bound = bound
        self._known: dict[str, bool] = {}

    def is_ours(self, host: str) -> bool:
        """True when this numeric host, IPv6 without brackets, is one of ours.

        Raises:
            TransportError: The system cannot be asked, because no descriptor is free.
        """
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
            probe = _socket.socket(
                _socket.AF_INET6 if ":" in self._bound else _socket.AF_INET, _socket.SOCK_DGRAM
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
    return [number for number, _ in _socket.if_nameindex()] if is_link_local(host) else [0]


class Routes:
    """Asks the kernel for the local address of a route, and remembers the answer."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], str] = {}

    def source(self, address: SockAddr) -> str:
        """Return our address on the route to a peer. Raises TransportError when there is no
        route."""
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

    def lead_from(self, bound: str, address: SockAddr) -> bool:
        """True when a route leads from this local host to a peer. False from 127.0.0.1 to another
        machine."""
        key = (*address[:1], *address[3:], bound)
        try:
            return key in self._known or bool(self._ask(key, bound, address))
        except (OSError, OverflowError):
            return False

    def _ask(self, key: tuple[object, ...], bound: str | None, address: SockAddr) -> str:
        probe = _socket.socket(
            _socket.AF_INET6 if ":" in address[0] else _socket.AF_INET, _socket.SOCK_DGRAM
        )
        try:
            if bound is not None:
                try:
                    probe.bind(sockaddr(bound, 0, *address[3:]))
                except OSError:  # the address of an application's transport, unknown to the kernel
                    return bound
            probe.connect(address)  # sends nothing, but makes the kernel choose a route
            source: str = probe.getsockname()[0]
        finally:
            probe.close()
        if len(self._known) >= KNOWN:
            self._known.clear()
        self._known[key] = source
        return source
