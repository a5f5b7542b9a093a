"""Probes: asks the servers of accounts by OPTIONS if they answer, RFC 3261 §11.

One probe serves all accounts with the same server and next hop, so a thousand accounts at one
carrier send one OPTIONS in each interval.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, Protocol

from ...errors import Reject, SIPError, TransactionTimeout
from ...message.address import NameAddr
from ...message.message import Request, Response
from ...message.uri import URI
from ...runtime.deadline import Deadline
from ...transaction.timers import Timers
from ...transport.base import Address
from ...transport.listener_choice import Wanted
from ..client.targets import NextHop
from ..client.transaction import ClientTransaction
from ..element import Element
from .requests import Registering

DOWN = frozenset((408, 502, 503, 504))
"""Statuses that say that the server, or the way to it, is down. Any other answer shows that it is
up, because a server that refuses an OPTIONS is there."""


class Target(NamedTuple):
    """Where an OPTIONS goes."""

    uri: URI
    next_hop: NextHop | None
    listener: Wanted


class Probed(Protocol):
    """An account, as a probe sees it."""

    from_: NameAddr

    def _probed(self, error: SIPError | None, address: Address | None) -> None:
        """The server has answered from this address; or it has not, and why."""


class Probes:
    """The probes of a stack. `len()` counts them."""

    def __init__(self, stack: Registering) -> None:
        self._stack = stack
        self._all: dict[Target, Probe] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, account: Probed, target: Target, seconds: float) -> None:
        """Probe a target for an account, at least each `seconds`."""
        probe = self._all.get(target)
        if probe is None:
            probe = self._all[target] = Probe(self._stack, target)
        probe.accounts[account] = seconds
        if probe.is_known:
            account._probed(probe.error, probe.address)
        probe.plan()

    def remove(self, account: Probed, target: Target) -> None:
        """Probe a target for this account no longer."""
        probe = self._all.get(target)
        if probe is not None:
            probe.accounts.pop(account, None)
            if not probe.accounts:
                del self._all[target]
                probe.stop()

    def stop(self) -> None:
        """End all probes."""
        for probe in self._all.values():
            probe.stop()
        self._all.clear()


class Probe:
    """Sends OPTIONS to one target, again and again. It has no greenlet while it waits."""

    def __init__(self, stack: Registering, target: Target) -> None:
        self._stack, self.target = stack, target
        self.accounts: dict[Probed, float] = {}
        """The accounts, each with its seconds between two OPTIONS."""
        self.is_known = False
        """True after the first answer or failure."""
        self.error: SIPError | None = None
        """Why the latest OPTIONS has failed; None after an answer."""
        self.address: Address | None = None
        """The address that has answered."""
        self._tx: _Options | None = None
        self._deadline: Deadline | None = None
        self._due = 0.0

    def plan(self) -> None:
        """Schedule the next OPTIONS, at once for the first one."""
        now = self._stack.clock.now()
        if self._tx is not None:
            return  # its end plans the next one
        due = now
        if self.is_known:
            # random, because the probes of many programs at the same time would be a burst
            due += min(self.accounts.values()) * random.uniform(0.9, 1.0)
        deadline = self._deadline
        if deadline is not None:
            if deadline.due <= due:
                return
            deadline.owner = None
            self._stack.deadlines.remove(deadline.due, deadline)
        self._deadline = Deadline(self, due)
        self._stack.deadlines.add(due, self._deadline)

    def expire(self, now: float) -> None:
        """Send the next OPTIONS, in a greenlet, because it may have a name to resolve."""
        if self._stack.engine.draining:
            self.plan()
        elif self.accounts and self._tx is None:
            account = next(iter(self.accounts))
            request = Request("OPTIONS", self.target.uri, from_=account.from_)
            self._tx = _Options(self, self._stack, request)
            self._stack.callbacks.spawn(self._send, self._tx)

    def _send(self, tx: _Options) -> None:
        seconds = min(self.accounts.values(), default=0.0)
        try:
            self._stack.sender.send(
                tx.request,
                self.target.next_hop,
                user=tx,
                listener=self.target.listener,
                timers=_timers(self._stack.engine.timers, seconds),
            )
        except SIPError as error:
            self.answered(tx, error)
        except Exception as error:  # middleware may raise anything
            self.answered(tx, Reject(500, str(error) or repr(error)))
        except BaseException:
            self._tx = None
            raise

    def answered(self, tx: _Options, event: Response | Exception) -> None:
        """Take the end of an OPTIONS."""
        if tx is not self._tx:
            return
        self._tx = None
        error: SIPError | None = None
        if isinstance(event, SIPError):
            error = event
        elif not isinstance(event, Response):
            error = TransactionTimeout(str(event) or repr(event))
        elif event.status in DOWN:
            error = Reject(event.status, event.reason, response=event)
        else:
            self.address = tx.transaction.flow.remote
        self.is_known, self.error = True, error
        for account in [*self.accounts]:
            account._probed(error, self.address)
        if self.accounts:
            self.plan()

    def stop(self) -> None:
        """End, and forget the pending OPTIONS."""
        self.accounts.clear()
        tx, self._tx = self._tx, None
        if tx is not None and tx.is_pending:
            tx._abandon()
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.owner = None
            self._stack.deadlines.remove(deadline.due, deadline)


@lru_cache(maxsize=16)
def _timers(timers: Timers, seconds: float) -> Timers:
    """Return the timers of an OPTIONS: a server that is silent for a whole interval is down."""
    return replace(timers, f=seconds) if 0 < seconds < 64 * timers.t1 else timers


class _Options(ClientTransaction):
    """One OPTIONS, whose end is told to its probe, so no greenlet waits."""

    __slots__ = ("_probe",)

    def __init__(self, probe: Probe, stack: Element, request: Request) -> None:
        super().__init__(stack, request)
        self._probe = probe

    @property
    def _is_awaited(self) -> bool:
        return True

    def _deliver(self, event: Response | Exception) -> None:
        if isinstance(event, Exception) or event.status >= 200:
            self._probe.answered(self, event)
