"""Accounts: the accounts of a stack, and which of them a received request is for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from ipaddress import IPv4Network, IPv6Network, ip_address

from ...arguments import instance, number
from ...errors import InvalidValue, ParseError
from ...message.message import Request
from ...message.uri import normal_host
from ...transport.locate.rfc3263 import literal
from ..auth.credentials import Kept, Trust, host_key, keyring
from .account import Account, OnAccountChange
from .peers import network_of
from .probes import Probes
from .registration import UNREGISTER
from .requests import Registering
from .row import Row

_WRITE = 'stack.accounts.add(Account("sip:100@carrier.example"))'


class Accounts:
    """The accounts of a stack, `stack.accounts`. Iterate over them; `len()` counts them.

        stack.accounts.add(carrier)
        stack.accounts.load(database.execute("SELECT aor, password FROM accounts"))

    They start and stop with the stack. None has a greenlet, so there may be thousands.
    """

    def __init__(self, stack: Registering) -> None:
        self.stack = stack
        self.probes = Probes(stack)
        self.known: dict[Account, None] = {}
        """All accounts."""
        self._by_peer: dict[str, dict[int, _Peer]] = {}
        """By address and port; port 0 is any."""
        self._rows: dict[Account, bytes] = {}
        """A hash of the row of each account that load() or update() has made."""
        self._key = os.urandom(16)
        self._networks: dict[IPv4Network | IPv6Network, _Peer] = {}

    def __len__(self) -> int:
        return len(self.known)

    def __iter__(self) -> Iterator[Account]:
        return iter([*self.known])

    def __contains__(self, account: object) -> bool:
        return account in self.known

    @property
    def up(self) -> int:
        """Number of accounts that are up."""
        return sum(account.is_up for account in self.known)

    @property
    def statistics(self) -> dict[str, int]:
        """The accounts that exist, those that are up, and the servers that get OPTIONS."""
        return {"kept": len(self.known), "up": self.up, "probed_servers": len(self.probes)}

    def add(self, account: Account) -> Account:
        """Add an account, and return it. It starts at once if the stack runs.

        Raises:
            InvalidValue: The account is in a stack.
        """
        instance("account", account, Account, _WRITE)
        if account._table is not None:
            raise InvalidValue(f"{account!r} is in a stack: close() it before, or make another one")
        self.known[account] = None
        account._join(self)
        if self.stack.is_running:
            account._start()
        return account

    def load(
        self, rows: Iterable[Row], *, on_change: OnAccountChange | None = None
    ) -> list[Account]:
        """Add the accounts of a table, and return them. All or nothing: an invalid row raises, and
        adds none.

        Args:
            rows: Dicts, or rows of a database that have names; see Account.of_row().
            on_change: That of each Account.

        Raises:
            InvalidValue: A row has an unknown key, or a value that cannot be used.
            TypeError: A value has another type.
        """
        made = [
            (Account.of_row(row, on_change=on_change), self._hash_of(row)) for row in list(rows)
        ]
        return [self._add(*each) for each in made]

    def update(
        self,
        rows: Iterable[Row],
        *,
        on_change: OnAccountChange | None = None,
        timeout: float = UNREGISTER,
    ) -> list[Account]:
        """Have the accounts of a table that has changed, and return them in its order.

            stack.accounts.update(database.execute("SELECT aor, password FROM accounts"))

        An account whose row is as before stays registered. One whose row has changed or is gone
        is unregistered, then the new ones are added. Accounts that were added by add() stay. All or
        nothing: an invalid row raises, and changes nothing.

        Args:
            rows: All rows; see load().
            on_change: That of each new Account.
            timeout: Most seconds to wait for registrars, in all.

        Raises:
            InvalidValue: A row has an unknown key, or a value that cannot be used.
            TypeError: A value has another type.
        """
        timeout = number("timeout", timeout)
        before: dict[bytes, list[Account]] = {}
        for account, key in self._rows.items():
            before.setdefault(key, []).append(account)
        found: list[tuple[Account, bytes]] = []
        for row in list(rows):
            made, key = Account.of_row(row, on_change=on_change), self._hash_of(row)
            kept = before.get(key)
            found.append((kept.pop(0) if kept else made, key))
        clock = self.stack.clock
        deadline = clock.now() + timeout
        # before new ones, because the last REGISTER of one would remove the same Contact of another
        for accounts in before.values():
            for account in accounts:
                self.remove(account, max(deadline - clock.now(), 0.0))
        for account, key in found:
            if account not in self.known:
                self._add(account, key)
        return [account for account, _ in found]

    def _add(self, account: Account, key: bytes) -> Account:
        self._rows[account] = key
        return self.add(account)

    def _hash_of(self, row: Row) -> bytes:
        """Return a hash of a row, which has a password."""
        values = sorted((name, repr(row[name])) for name in row.keys() if row[name] is not None)  # noqa: SIM118 no dict
        return blake2b(repr(values).encode(), digest_size=16, key=self._key).digest()

    def remove(self, account: Account, timeout: float = UNREGISTER) -> None:
        """Unregister an account, wait for the registrar, and forget the account.

        Args:
            account: The account. Nothing happens if it is not in this stack.
            timeout: Most seconds to wait.
        """
        timeout = number("timeout", timeout)
        if self.known.pop(account, account) is None:
            self._rows.pop(account, None)
            for address in account.peers:
                self.unbind(account, address)
            for server in account._servers:
                self.unbind(account, *server)
            account._end(timeout)

    def of(self, request: Request) -> Account | None:
        """Return the account that a received request is for; None if it is for none, or if it does
        not come from the server of one.

            account = stack.accounts.of(request)

        The user of its Request-URI or its To says which one it is. If the server belongs to one
        account alone, the request is for that one; see Account.owns().
        """
        instance("request", request, Request, "stack.accounts.of(request)")
        return self.owner_of(request)

    # ---- requests

    def owner_of(self, request: Request) -> Account | None:
        """Return the account that a received request is for."""
        flow = request.flow
        if flow is None:
            return None
        host, port = flow.remote
        owner = None
        peers = self._by_peer.get(host)
        if peers is not None:
            for each in (port, 0):
                owner = peers[each].owner_of(request) if each in peers else None
                if owner is not None:
                    break
            else:
                owner = _proved(peers, request, flow.peer_identity)
        if owner is None and self._networks:
            peer = self._network_of(host)
            owner = None if peer is None else peer.owner_of(request)
        return owner

    def is_from(self, account: Account, request: Request) -> bool:
        """True for a received request that comes from a server of an account, even if it may be for
        another account of that server."""
        flow = request.flow
        if flow is None:
            return False
        host, port = flow.remote
        peers = self._by_peer.get(host, {})
        if any(each in peers and account in peers[each] for each in (port, 0)):
            return True
        if flow.peer_identity and account._is_server(flow.peer_identity):
            return any(account in peer for peer in peers.values())
        network = self._network_of(host) if self._networks else None
        return network is not None and account in network

    def kept_for(self, request: Request) -> Kept | None:
        """Return the credentials for a call that a received INVITE begins; None if it is for no
        account."""
        account = self.owner_of(request)
        keys = None if account is None else keyring(account.credentials)
        if keys is None:
            return None
        address = host_key(request.flow.remote[0])
        return Kept(keys, Trust(address, {address}))

    def _network_of(self, address: str) -> _Peer | None:
        try:
            parsed = ip_address(address)
        except ValueError:
            return None
        for network, peer in self._networks.items():
            if parsed in network:
                return peer
        return None

    # ---- for accounts

    def bind(self, account: Account, address: str, port: int = 0) -> None:
        """Note an address or network from which requests for an account come, by any port or by
        one."""
        network = network_of(address)
        if network is None:
            self._by_peer.setdefault(_key(address), {}).setdefault(port, _Peer()).add(account)
        else:
            self._networks.setdefault(network, _Peer()).add(account)

    def unbind(self, account: Account, address: str, port: int = 0) -> None:
        """Forget an address or network of an account."""
        network = network_of(address)
        if network is None:
            key = _key(address)
            peers = self._by_peer.get(key, {})
            peer = peers.get(port)
            if peer is not None and not peer.remove(account):
                del peers[port]
                if not peers:
                    del self._by_peer[key]
        else:
            peer = self._networks.get(network)
            if peer is not None and not peer.remove(account):
                del self._networks[network]

    # ---- for the stack

    def start(self) -> None:
        """Start all accounts. The stack has just started."""
        for account in self:
            account._start()

    def stop(self) -> None:
        """Stop all accounts, which stay here. The stack has stopped their registrations."""
        self.probes.stop()
        for account in self:
            account._stop()


class _Peer:
    """An address or network of servers, with its accounts by the user of their Contact."""

    __slots__ = ("_number", "_trunks", "_users")

    def __init__(self) -> None:
        self._users: dict[str | None, list[Account]] = {}
        self._trunks: list[Account] = []
        self._number = 0

    def add(self, account: Account) -> None:
        users = self._users.setdefault(account.contact_user, [])
        if account in users:
            return
        users.append(account)
        self._number += 1
        if not account.registers:
            self._trunks.append(account)

    def __contains__(self, account: Account) -> bool:
        return account in self._users.get(account.contact_user, ())

    def remove(self, account: Account) -> int:
        """Remove an account, and return the number of those left."""
        users = self._users.get(account.contact_user, [])
        if account in users:
            users.remove(account)
            self._number -= 1
            if not users:
                del self._users[account.contact_user]
            if account in self._trunks:
                self._trunks.remove(account)
        return self._number

    def owner_of(self, request: Request) -> Account | None:
        try:
            to = request.to.uri
        except ParseError:
            to = request.uri
        found = self._users.get(request.uri.user) or self._users.get(to.user)
        if not found:
            if self._number == 1:
                (found,) = self._users.values()
            else:
                found = self._trunks
                if len(found) != 1:
                    return None
        if len(found) > 1:
            host = normal_host(to.host)
            for account in found:
                if normal_host(account.aor.host) == host:
                    return account
        return found[0]


def _proved(peers: dict[int, _Peer], request: Request, identity: tuple[str, ...]) -> Account | None:
    """Return the account whose server has opened the connection of a request.

    Its port is arbitrary, as that of any phone on that host. So its certificate has to name the
    server (RFC 5922 §7.3).
    """
    if identity:
        for peer in peers.values():
            owner = peer.owner_of(request)
            if owner is not None and owner._is_server(identity):
                return owner
    return None


def _key(address: str) -> str:
    return literal(address) or address
