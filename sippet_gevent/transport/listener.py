"""Listener: an address to listen on with its parameters, `udp:10.0.0.5:5060;name=inside`. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import NamedTuple

from ..errors import InvalidValue
from ..message.grammar import is_host
from ..message.uri import bracketed

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

BOTH = "*"
"""The host for all addresses of both IP versions, one socket each."""

HALVES = ("0.0.0.0", "::")
"""The hosts of the two sockets of BOTH."""

_ADDRESS = re.compile(
    r"(?:([a-z]+):)?(\*|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.\-]+)?\]|[A-Za-z0-9.\-]+)(?::([0-9]{1,5}))?"
).fullmatch
_ADVERTISED = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]*))?").fullmatch
_NAME = re.compile(r"[A-Za-z0-9_.\-]+").fullmatch
_PARAMETERS = ("name", "advertise", "proxy")


class Advertised(NamedTuple):
    """The host and port to write into messages in place of the address itself. Without a port it is
    the listener's own."""

    host: str
    port: int | None = None

    def __str__(self) -> str:
        return bracketed(self.host) + ("" if self.port is None else f":{self.port}")


class Listener(NamedTuple):
    """An address to listen on. Hosts have no brackets; a link-local host has its interface
    (`fe80::1%eth0`).

    | parameter | meaning |
    |---|---|
    | `name=inside` | the name for `listener=`, unique per transport; by default the address |
    | `advertise=203.0.113.7` | host, or host and port, in Via, Contact, Record-Route, Path |
    | `proxy`, `proxy=192.0.2.0/24,…` | load balancers of these networks send a PROXY header first |

    `proxy` is None without the parameter, and empty when any peer may send the header.

    Example:
        >>> Listener.parse("tls:[2001:db8::1]:5061;name=outside", ["udp", "tls"]).address
        'tls:[2001:db8::1]:5061'
    """

    transport: str = "udp"
    host: str = ""
    port: int | None = None
    name: str = ""
    advertise: Advertised | None = None
    proxy: tuple[Network, ...] | None = None
    is_half: bool = False
    """True for one of the two sockets of BOTH. It may fail to open, because a machine may lack
    IPv6."""

    @classmethod
    def parse(cls, text: str, transports: Collection[str]) -> Listener:
        """Read an address with its parameters.

        Args:
            text: `udp:192.0.2.1:5060;name=inside`.
            transports: The names of transports, in lower case.

        Raises:
            InvalidValue: A part is wrong. The text says which one, and what to write.
        """
        address, *parameters = text.split(";")
        match = _ADDRESS(address)
        if not match or match[1] not in (*transports, None):
            known = ", ".join(dict.fromkeys(transports))
            raise InvalidValue(
                f"{text!r} is not an address: write udp:192.0.2.1:5060 or udp:[::]:5060; "
                f"transports are {known}"
            )
        if match[2].isdecimal():
            raise InvalidValue(
                f"{text!r} names no host: write udp:0.0.0.0:{match[2]} for all addresses, "
                "or an address of this machine"
            )
        port = None if match[3] is None else int(match[3])
        if port is not None and port > 65535:
            raise InvalidValue(f"{text!r}: a port is 0 to 65535, got {port}")
        listener = cls(match[1] or "udp", _host(text, match[2]), port)
        seen = set()
        for parameter in parameters:
            name, equals, value = parameter.partition("=")
            if name not in _PARAMETERS:
                raise InvalidValue(
                    f"{text!r}: there is no parameter {name!r}: write one of "
                    f"{', '.join(_PARAMETERS)}"
                )
            if name in seen:
                raise InvalidValue(f"{text!r}: {name} is there twice: write it once")
            seen.add(name)
            listener = _READ[name](text, listener, value if equals else None)
        return listener

    def halves(self) -> tuple[Listener, ...]:
        """Return the listeners to open: this one, or for BOTH one of each IP version."""
        return (
            tuple(self._replace(host=host, is_half=True) for host in HALVES)
            if self.host == BOTH
            else (self,)
        )

    def bound(self, transport: str, port: int) -> Listener:
        """Return the listener after it was opened, with its real port. If it had no name, its
        address is the name."""
        open_ = self._replace(transport=transport, port=port)
        return open_ if self.name else open_._replace(name=open_.address)

    @property
    def address(self) -> str:
        """The address without parameters, `udp:[::]:5060`."""
        return f"{self.transport}:{bracketed(self.host)}" + (
            "" if self.port is None else f":{self.port}"
        )


def _host(text: str, written: str) -> str:
    """Return the host of an address, mapped IPv4 as IPv4."""
    if not written.startswith("["):
        return written
    host, _, interface = written[1:-1].partition("%")
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        raise InvalidValue(f"{text!r}: {host} is not an IPv6 address") from None
    if address.is_link_local != bool(interface):  # RFC 4007 §11
        example = f"[{host}%eth0]" if address.is_link_local else f"[{host}]"
        why = (
            "is an address on every link: write its interface"
            if address.is_link_local
            else "is not a link-local address: write no interface"
        )
        raise InvalidValue(f"{text!r}: {host} {why}, {example}")
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return f"{address}%{interface}" if interface else str(address)


def _name(text: str, listener: Listener, value: str | None) -> Listener:
    if not _NAME(value or ""):
        raise InvalidValue(
            f'{text!r}: a name has letters, digits, "-", "." and "_": write name=inside'
        )
    return listener._replace(name=value or "")


def _advertise(text: str, listener: Listener, value: str | None) -> Listener:
    match = _ADVERTISED(value or "")
    host = match[1] if match else ""
    address = _numeric(host)
    if not match or not is_host(host) or (host.startswith("[") and address is None):
        raise InvalidValue(
            f"{text!r}: advertise must be a host or host:port: write advertise=203.0.113.7:5060, "
            "advertise=sip.example.com or advertise=[2001:db8::7]"
        )
    port = None
    if match[2] is not None:
        port = int(match[2]) if 0 < len(match[2]) <= 5 else 0
        if not 0 < port < 65536:
            raise InvalidValue(f"{text!r}: the port of advertise is 1 to 65535, got {match[2]!r}")
    if address is not None:
        if address.is_unspecified or address.is_multicast or address.is_link_local:
            raise InvalidValue(
                f"{text!r}: {host} does not lead to this host: advertise an address of one host"
            )
        if listener.host == BOTH:
            raise InvalidValue(
                f"{text!r}: {host} has one IP version, * has both: advertise a name, "
                "or write two addresses, with 0.0.0.0 and [::]"
            )
        ours = _numeric(bracketed(listener.host))
        if ours is not None and ours.version != address.version:
            raise InvalidValue(
                f"{text!r}: {host} is IPv{address.version}, and the listener IPv{ours.version}: "
                "advertise an address of its IP version, or a name"
            )
        host = str(address)
    return listener._replace(advertise=Advertised(host, port))


def _proxy(text: str, listener: Listener, value: str | None) -> Listener:
    if listener.transport == "udp":
        raise InvalidValue(f"{text!r}: proxy is for connections: write tcp:, tls:, ws: or wss:")
    networks = []
    for part in () if value is None else value.split(","):
        try:
            networks.append(ipaddress.ip_network(part.replace("[", "").replace("]", "")))
        except ValueError as error:
            problem = str(error) if part else "a network is empty"
            raise InvalidValue(
                f"{text!r}: proxy must be networks: write proxy=192.0.2.0/24,2001:db8::/32: "
                f"{problem}"
            ) from None
    return listener._replace(proxy=tuple(networks))


_READ = {"name": _name, "advertise": _advertise, "proxy": _proxy}


def _numeric(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is, mapped IPv4 as IPv4; None for a name."""
    try:
        address = ipaddress.ip_address(
            host[1:-1].partition("%")[0] if host.startswith("[") else host
        )
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
