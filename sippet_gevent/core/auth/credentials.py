"""Credentials: a user name with its secret, and the realm and hosts that may ask for it, RFC 3261
§22."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from ...arguments import texts
from ...errors import InvalidValue, excerpt
from ...message.fields.authentication import Challenge
from ...message.grammar import is_host
from ...message.identifiers import create_tag
from ...message.message import Request
from ...message.uri import URI, bracketed, is_valid_host
from ...message.uri_arguments import meant
from . import digest
from .digest import Session, base_of, known_algorithm

SESSIONS = 64
"""Most challenges whose nonces are remembered for one user. The oldest is forgotten first."""

_LENGTHS = {32: "MD5", 64: "SHA-256"}
"""The algorithm of an HA1 that is given as one text, by its length."""

_Place = tuple[str, str, str]
"""Header field of the credentials, realm, and host that asked for them."""


class Credentials:
    """A user name with its password, or with its HA1 in place of the password.

        office = Credentials("100", "secret", hosts=("pbx.example.com",))
        stack.request("OPTIONS", "sip:pbx.example.com", credentials=office)

    The password is sent to nobody. But an answer to a challenge lets the challenger guess
    passwords, so only `hosts` get one. A host is a domain of Request-URIs, Routes or next hops, an
    address, or a network such as `192.0.2.0/24`. Without `hosts`, credentials are for the host that
    the request was made for, its next hop, and the call that the request begins. A request that is
    redirected elsewhere does not take them along.

    Any host can ask for any realm. A proxy may pass on a 401 of a host behind it. Such a 401 is
    answered only if `realm` is given, or if the Request-URI names one of the hosts.

    Nonces are remembered in this object. So use one object again, and later requests are
    authenticated at the first try.

    Args:
        user: The user name.
        password: The password.
        ha1: HA1 in place of the password: a text of MD5 or SHA-256, or `{"MD5": …, "SHA-256": …}`.
            It needs the `realm`.
        realm: The only realm to answer; any by default.
        hosts: The hosts that may ask.
        rfc2069: Answer a challenge without `qop` by the form of RFC 2069.

    Raises:
        InvalidValue: The user name has a colon, or an HA1 is none.
        TypeError: Neither or both of `password` and `ha1` are given, or `hosts` is one text.
    """

    __slots__ = ("_ha1", "_names", "_networks", "_password", "_sessions", "hosts", "realm",
                 "rfc2069", "user")  # fmt: skip

    def __init__(
        self,
        user: str,
        password: str | None = None,
        *,
        ha1: str | Mapping[str, str] | None = None,
        realm: str | None = None,
        hosts: tuple[str, ...] | None = None,
        rfc2069: bool = True,
    ) -> None:
        for name, value in (("user", user), ("password", password), ("realm", realm)):
            if not isinstance(value, str) and (name == "user" or value is not None):
                # without the value, which may be a secret
                raise TypeError(f"{name} must be text, got {type(value).__name__}")
        if (password is None) == (ha1 is None):
            raise TypeError('give a password or an HA1: write Credentials("100", "secret")')
        if ":" in user:
            raise InvalidValue(f"a user name must have no colon, got {excerpt(user)}")
        if ha1 is not None and realm is None:
            raise TypeError("an HA1 is for one realm: give realm=, too")
        self.user = user
        self.realm = realm
        self.hosts = None if hosts is None else texts("hosts", hosts, "names")
        for host in self.hosts or ():
            name = bracketed(host.strip("[]"))
            if "/" not in host and not (is_host(name) and is_valid_host(name)):
                write = URI.parse(meant(host, is_sip=True)).host
                raise InvalidValue(
                    f"hosts must be names, addresses or networks, got {excerpt(host)}: write "
                    f'hosts=("{write}",)'
                )
        self.rfc2069 = rfc2069
        self._password = password
        self._ha1 = None if ha1 is None else _by_algorithm(ha1)
        self._names, self._networks = _places_of(self.hosts or ())
        self._sessions: dict[_Place, Session] = {}

    def __repr__(self) -> str:
        realm = "" if self.realm is None else f" realm={excerpt(self.realm)}"
        hosts = "" if self.hosts is None else f" hosts={excerpt(self.hosts)}"
        return f"<Credentials {excerpt(self.user)[1:-1]}{realm}{hosts}>"

    def copy_for(self, hosts: tuple[str, ...]) -> Credentials:
        """Return these credentials for some hosts, without the nonces of others."""
        copy = Credentials.__new__(Credentials)
        for name in ("_ha1", "_password", "realm", "rfc2069", "user"):
            setattr(copy, name, getattr(self, name))
        copy.hosts = _shared(texts("hosts", hosts, "names"))
        copy._names, copy._networks = _places_of(copy.hosts)
        copy._sessions = {}
        return copy

    def trust(self, host: str) -> None:
        """Let a further host ask for these credentials, which have hosts."""
        self.hosts = _shared((*(self.hosts or ()), host))
        self._names, self._networks = _places_of(self.hosts)

    def is_for(self, hosts: Collection[str]) -> bool:
        """True when one of these hosts is among `hosts`."""
        return any(
            host in self._names or any(_lies_in(host, network) for network in self._networks)
            for host in hosts
        )

    def can_answer(self, challenge: Challenge) -> bool:
        """True for a challenge of this realm by an algorithm whose HA1 is known."""
        if self.realm is not None and challenge.realm != self.realm:
            return False
        known = known_algorithm(challenge.algorithm)
        return known is not None and (self._ha1 is None or base_of(known) in self._ha1)

    def answer(self, challenge: Challenge, place: _Place) -> Session:
        """Return a new session that answers a challenge, and remember it."""
        known = known_algorithm(challenge.algorithm) or "MD5"
        if self._ha1 is not None:
            ha1 = self._ha1[base_of(known)]
        else:
            ha1 = digest.ha1(self.user, challenge.realm or "", self._password or "", known)
        session = Session(challenge, self.user, ha1, create_tag(), rfc2069=self.rfc2069)
        self._sessions.pop(place, None)
        self._sessions[place] = session
        if len(self._sessions) > SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return session

    def sessions(self, hosts: Collection[str]) -> list[tuple[_Place, Session]]:
        """Return the sessions with these hosts."""
        return [(place, session) for place, session in self._sessions.items() if place[2] in hosts]

    def forget(self, place: _Place) -> None:
        """Forget the session of a host, because it refuses these credentials."""
        self._sessions.pop(place, None)


def _by_algorithm(ha1: str | Mapping[str, str]) -> dict[str, str]:
    """Return HA1 by algorithm. Raises InvalidValue, which does not quote it."""
    if isinstance(ha1, str):
        ha1 = {_LENGTHS.get(len(ha1), "MD5"): ha1}
    found: dict[str, str] = {}
    for name, text in ha1.items():
        known = known_algorithm(name)
        if known is None:
            raise InvalidValue(
                f"algorithm of an HA1 must be one of {', '.join(digest.ALGORITHMS)}, "
                f"got {excerpt(name)}"
            )
        length = 32 if known.startswith("MD5") else 64
        if len(text) != length or any(c not in "0123456789abcdefABCDEF" for c in text):
            raise InvalidValue(
                f"an HA1 of {known} must be {length} hexadecimal digits: write "
                'ha1(user, realm, password, "MD5"), or give the password'
            )
        found[base_of(known)] = text.lower()
    return found


@lru_cache(maxsize=SESSIONS)
def _shared(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Return one tuple for all equal ones, because thousands of accounts have the same hosts."""
    return hosts


@lru_cache(maxsize=SESSIONS)
def _places_of(
    hosts: tuple[str, ...],
) -> tuple[frozenset[str], tuple[IPv4Network | IPv6Network, ...]]:
    names: set[str] = set()
    networks: list[IPv4Network | IPv6Network] = []
    for host in hosts:
        if "/" in host:
            try:
                networks.append(ip_network(host, strict=False))
            except ValueError as error:
                raise InvalidValue(
                    f"hosts must be names, addresses or networks, got {excerpt(host)}: write "
                    '"192.0.2.0/24"'
                ) from error
        else:
            names.add(host_key(host))
    return frozenset(names), tuple(networks)


def _lies_in(host: str, network: IPv4Network | IPv6Network) -> bool:
    try:
        return ip_address(host) in network
    except ValueError:
        return False


def host_key(host: str) -> str:
    """Return a host as hosts are compared: in lower case, without brackets and the final dot."""
    return host.strip("[]").lower().rstrip(".")


Found = Credentials | Iterable[Credentials] | None
"""What a source of credentials returns."""

Source = Callable[[str, Request], Found]
"""Returns the credentials for a realm and a request. It may block, for example in a database."""

Given = Credentials | Iterable[Credentials] | Source
"""What the argument `credentials` takes."""


class Keyring:
    """The credentials of a stack or a request: some, or a callable that finds them.

    Args:
        given: The argument `credentials` of an application.
        need_hosts: All of them have to name their hosts, because the requests go anywhere.

    Raises:
        TypeError: It is something else, or `hosts` are missing.
    """

    __slots__ = ("credentials", "source")

    def __init__(self, given: Given, *, need_hosts: bool = False) -> None:
        self.source: Source | None = None
        self.credentials: tuple[Credentials, ...] = ()
        if isinstance(given, Credentials):
            self.credentials = (given,)
        elif callable(given):
            self.source = given
        else:
            self.credentials = _checked(given, "credentials")
        if need_hosts:
            for each in self.credentials:
                if each.hosts is None:
                    raise TypeError(
                        f"{each!r} of a Stack must name its hosts, because a stack sends requests "
                        'everywhere: write Credentials("100", "secret", hosts=("example.com",))'
                    )

    def find(self, realm: str, request: Request) -> tuple[Credentials, ...]:
        """Return the credentials to choose from.

        Raises what the callable of the application raises, and TypeError if it returns something
        else.
        """
        if self.source is None:
            return self.credentials
        found = self.source(realm, request)
        if found is None:
            return ()
        if isinstance(found, Credentials):
            return (found,)
        return _checked(found, "what the callable credentials returns")


class Trust:
    """The hosts that a request was made for. The call that it begins keeps them.

    Args:
        target: The host of the Request-URI.
        hosts: All of them: target, next hop, and later the addresses that have answered.
    """

    __slots__ = ("hosts", "strayed", "target")

    def __init__(self, target: str, hosts: set[str]) -> None:
        self.target = target
        self.hosts = hosts
        self.strayed = False
        """True when the request was redirected to another host."""

    def answered(self, address: str) -> None:
        """Note the address that has answered the request."""
        if not self.strayed:
            self.hosts.add(host_key(address))

    def holds(self, hosts: set[str]) -> bool:
        """True when one of these hosts is one that the request was made for."""
        return not self.strayed and not self.hosts.isdisjoint(hosts)


class Kept(NamedTuple):
    """The credentials of a request that has begun a call."""

    keyring: Keyring
    trust: Trust


def _checked(given: Iterable[Credentials], what: str) -> tuple[Credentials, ...]:
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes, Mapping)):
        # without the value, which may be a password
        raise TypeError(
            f"{what} must be Credentials, a list of them or a callable, got "
            f'{type(given).__name__}: write Credentials("100", "secret")'
        )
    every = tuple(given)
    for each in every:
        if not isinstance(each, Credentials):
            raise TypeError(
                f"{what} must hold Credentials, got {type(each).__name__}: write "
                'Credentials("100", "secret")'
            )
    return every


def own_credentials(
    given: Given | None, hosts: tuple[str, ...]
) -> tuple[Given | None, tuple[Credentials, ...]]:
    """Return the credentials of an account, and those of them that are copies for its hosts.

    Credentials that name their hosts stay as they are, and so does a callable. The others are for
    the hosts of the account. Raises TypeError.
    """
    if given is None:
        return None, ()
    known = Keyring(given)
    if known.source is not None:
        return given, ()
    every = tuple(
        each.copy_for(hosts) if each.hosts is None else each for each in known.credentials
    )
    copies = tuple(
        each for each, before in zip(every, known.credentials, strict=True) if each is not before
    )
    return every[0] if len(every) == 1 else every, copies


def keyring(given: Given | None, *, need_hosts: bool = False) -> Keyring | None:
    """Return the Keyring of an argument `credentials`; None for None. Raises TypeError."""
    return None if given is None else Keyring(given, need_hosts=need_hosts)
