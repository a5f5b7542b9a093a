"""Listener: an address to listen on, `udp:10.0.0.5:5060;name=inside`, and what its parameters say.
Pure."""

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
"""The host that stands for all addresses of both IP versions: one socket each."""

HALVES = ("0.0.0.0", "::")
"""What BOTH is listened on as."""

_ADDRESS = re.compile(
    r"(?:([a-z]+):)?(\*|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.\-]+)?\]|[A-Za-z0-9.\-]+)(?::([0-9]{1,5}))?"
).fullmatch
_ADVERTISED = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]*))?").fullmatch
_NAME = re.compile(r"[A-Za-z0-9_.\-]+").fullmatch
_PARAMETERS = ("name", "advertise", "proxy")


class Advertised(NamedTuple):
    """What others are told in place of the address itself; the listener's own port where it has
    none."""

    host: str
    port: int | None = None

    def __str__(self) -> str:
        return bracketed(self.host) + ("" if self.port is None else f":{self.port}")


class Listener(NamedTuple):
    """An address to listen on. Hosts are without brackets, those of link-local addresses with their
    interface (`%eth0`).

    | parameter | | |---|---| | `name=inside` | what `listener=` calls it; one for each transport.
    Else it is called by its address | | `advertise=203.0.113.7` | host, with a port or without,
    that Via, Contact, Record-Route and Path name | | `proxy`, `proxy=192.0.2.0/24,…` | connections
    begin with a PROXY protocol header, of these networks' load balancers |

    `proxy` is None when there is none, and without networks when anybody may send one.
    """

    transport: str = "udp"
    host: str = ""
    port: int | None = None
    name: str = ""
    advertise: Advertised | None = None
    proxy: tuple[Network, ...] | None = None
    is_half: bool = False
    """True for one of the two that BOTH stands for: a machine may lack IPv6."""

    @classmethod
    def parse(cls, text: str, transports: Collection[str]) -> Listener:
        """Read an address with its parameters. Raises InvalidValue, which names the part and says
        what would be right."""
        address, *parameters = text.split(";")
        match = _ADDRESS(address)
        if not match or match[1] not in (*transports, None):
            known = ", ".join(transports)
            raise InvalidValue(
                f"{text!r} is not an address: write udp:192.0.2.1:5060 or udp:[::]:5060; transports are {known}"
            )
        if match[2].isdecimal():
            raise InvalidValue(
                f"{text!r} names no host: write udp:0.0.0.0:{match[2]} for all addresses, or one of your own"
            )
        port = None if match[3] is None else int(match[3])
        if port is not None and port > 65535:
            raise InvalidValue(f"{text!r}: port {port} is over 65535")
        listener = cls(match[1] or "udp", _host(text, match[2]), port)
        seen = set()
        for parameter in parameters:
            name, equals, value = parameter.partition("=")
            if name not in _PARAMETERS:
                raise InvalidValue(
                    f"{text!r}: there is no parameter {name!r}, but {', '.join(_PARAMETERS)}"
                )
            if name in seen:
                raise InvalidValue(f"{text!r}: {name} stands twice")
            seen.add(name)
            listener = _READ[name](text, listener, value if equals else None)
        return listener

    def halves(self) -> tuple[Listener, ...]:
        """Return what is opened for it: itself, or for BOTH one of each IP version."""
        return (
            tuple(self._replace(host=host, is_half=True) for host in HALVES)
            if self.host == BOTH
            else (self,)
        )

    def bound(self, transport: str, port: int) -> Listener:
        """Return it as it stands when it is open, with its real port; a name it has then."""
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
            "is on every link: name the interface"
            if address.is_link_local
            else "is no link-local address"
        )
        raise InvalidValue(f"{text!r}: {host} {why}, {example}")
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return f"{address}%{interface}" if interface else str(address)


def _name(text: str, listener: Listener, value: str | None) -> Listener:
    if not _NAME(value or ""):
        raise InvalidValue(
            f'{text!r}: name wants letters, digits, "-", "." or "_", as in name=inside'
        )
    return listener._replace(name=value or "")


def _advertise(text: str, listener: Listener, value: str | None) -> Listener:
    match = _ADVERTISED(value or "")
    host = match[1] if match else ""
    address = _numeric(host)
    if not match or not is_host(host) or (host.startswith("[") and address is None):
        raise InvalidValue(
            f"{text!r}: advertise wants a host or host:port, as in advertise=203.0.113.7:5060, advertise=sip.example.com or "
            "advertise=[2001:db8::7]"
        )
    port = None
    if match[2] is not None:
        port = int(match[2]) if 0 < len(match[2]) <= 5 else 0
        if not 0 < port < 65536:
            raise InvalidValue(f"{text!r}: the port of advertise is 1 to 65535, not {match[2]!r}")
    if address is not None:
        if address.is_unspecified or address.is_multicast or address.is_link_local:
            raise InvalidValue(
                f"{text!r}: {host} leads nobody here: advertise an address of one host"
            )
        if listener.host == BOTH:
            raise InvalidValue(
                f"{text!r}: {host} is of one IP version: advertise a name, or listen on 0.0.0.0 and [::] by turns"
            )
        ours = _numeric(bracketed(listener.host))
        if ours is not None and ours.version != address.version:
            raise InvalidValue(f"{text!r}: {host} is not of the IP version that is listened on")
        host = str(address)
    return listener._replace(advertise=Advertised(host, port))


def _proxy(text: str, listener: Listener, value: str | None) -> Listener:
    if listener.transport == "udp":
        raise InvalidValue(
            f"{text!r}: proxy is for connections, tcp: and its kin; over udp nothing comes before a message"
        )
    networks = []
    for part in () if value is None else value.split(","):
        try:
            networks.append(ipaddress.ip_network(part.replace("[", "").replace("]", "")))
        except ValueError as error:
            problem = str(error) if part else "nothing"
            raise InvalidValue(
                f"{text!r}: proxy wants networks, as in proxy=192.0.2.0/24,2001:db8::/32: {problem}"
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
