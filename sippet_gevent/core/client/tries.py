"""Tries: the next try of a request of ours after one has failed, RFC 3261 §8.1.3.

retry.py has the policies that decide if there is one.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Any

from ...engine.users import ClientRecord, NullUser
from ...errors import Cancelled, TransactionTimeout, TransportError, excerpt
from ...message.message import Request, Response
from ...observe.log_values import Plain
from ..element import Element, Within
from .attempt import Attempt, Policy
from .retry import Retry
from .targets import Ways

log = logging.getLogger("sippet_gevent.core")


class Tries(ABC):
    """The part of a ClientTransaction that sends its request again."""

    __slots__ = (
        "_cancelling", "_waiting", "abandoned", "by_flow", "final_response", "provisional",
        "request", "retry", "stack", "transaction", "ways", "within",
    )  # fmt: skip

    stack: Element
    request: Request
    transaction: ClientRecord
    ways: Ways | None
    provisional: Response | None
    final_response: Response | None
    retry: Retry | None
    within: Within | None
    by_flow: bool
    abandoned: bool
    _cancelling: dict[str, Any] | None
    _waiting: Attempt | None

    # ---- in transaction.py

    @property
    @abstractmethod
    def is_pending(self) -> bool:
        """True until the final response, or the failure that takes its place."""

    @abstractmethod
    def _may_go_on(self, failure: Response | Exception) -> bool:
        """True when a target's failure sends the request on to the next one."""

    @abstractmethod
    def receive(self, response: Response) -> None: ...

    @abstractmethod
    def fail(self, error: Exception) -> None: ...

    @abstractmethod
    def flow_ended(self, error: TransportError) -> None: ...

    @abstractmethod
    def ended(self) -> None: ...

    @abstractmethod
    def _deliver(self, event: Response | Exception) -> None: ...

    @abstractmethod
    def _fail(self, error: Exception) -> None: ...

    @abstractmethod
    def _watch(self, seconds: float) -> None: ...

    @abstractmethod
    def _unwatch(self) -> None: ...

    @abstractmethod
    def _receive_late(self, response: Response) -> None: ...

    # ---- the next try

    def _policies(self) -> tuple[Policy, ...]:
        """Return the policies to ask after a failure, in order."""
        if self.retry is None:
            self.retry = Retry()
        return self.retry.policies

    def _retry(self, failure: Response | Exception, *, has_left: bool = True) -> bool:
        """Try the request again as a policy of retry.py decides. False if none has a next try.

        Args:
            failure: The response or exception by which the latest try has failed.
            has_left: False for a try that has found no way, so that no target has failed.
        """
        if self.transaction is None or not self.stack.is_running:
            return False  # a stopped stack is no fault of the target
        policies = self._policies()
        if self._cancelling is not None or self.abandoned:
            policies = policies[:1]  # which remembers that the target failed
        elif not has_left:
            policies = policies[1:]
        number = 1 if self.retry is None else self.retry.number
        attempt = Attempt(self, self.request, failure, number)
        for place, policy in enumerate(policies):
            if policy.blocks(attempt):
                self._decide_later(attempt, policies[place:])
                return True
            following = policy(attempt)
            if following is not None:
                if following.is_rerouted:
                    self._decide_later(attempt, (), following)
                    return True
                return self._go_on(attempt, following)
        return False

    def _go_on(self, attempt: Attempt, following: Attempt) -> bool:
        """Send the next try to a flow that is known. False if that is not possible."""
        stack, transaction = self.stack, self.transaction
        if self.retry is not None and not self.retry.admits(following):
            return False
        ways, now, before = self.ways, stack.clock.now(), transaction.flow
        if following.departure is None:
            repeated = stack.sender.repeat(following.request, self)
            if repeated is None:
                return False
            self._note(attempt, following)
            self.request, flow, data = repeated
        else:
            flow, data = following.departure
            self.request = following.request
            assert ways is not None and attempt.failure is not None  # FailOver needs both
            stack.sender.failures.note(
                now,
                self.request,
                attempt.failure,
                flow=before,
                since=ways.since,
                following=flow,
                is_same_target=before.remote == flow.remote,
            )
        if ways is not None:
            ways.since = now
        self._waiting = None
        transaction.user = Former(self)  # the failed transaction still repeats the ACK to its 503
        self.provisional = None
        self._unwatch()
        stack.engine.request(self.request, flow, self, transaction.timers, data=data)
        return True

    def _decide_later(
        self,
        attempt: Attempt,
        policies: tuple[Policy, ...],
        following: Attempt | None = None,
    ) -> None:
        """Ask policies, or find the next hop of the next try, in a greenlet that may block.

        Meanwhile the request is pending, and has 64*T1 for it. CANCEL ends it with a 487 of our
        own.
        """
        self._waiting = attempt
        self.transaction.user = Former(self)
        self._unwatch()
        self._watch(64 * self.transaction.timers.t1)
        greenlet = self.stack.callbacks.spawn(self._decide, attempt, policies, following)
        greenlet.link(lambda _: self._undecided(attempt))

    def _decide(
        self,
        attempt: Attempt,
        policies: tuple[Policy, ...],
        following: Attempt | None,
    ) -> None:
        try:
            for policy in policies:
                following = policy(attempt)
                if following is not None:
                    break
            if self._waiting is not attempt:
                return
            if following is None:
                self._conclude(attempt)
            elif not following.is_rerouted:
                if not self._go_on(attempt, following):
                    self._conclude(attempt)
            elif self.retry is None or self.retry.admits(following):
                self._note(attempt, following)
                self.stack.sender.reroute(following.request, self, following.next_hop)
            else:
                self._conclude(attempt)
        except Cancelled:
            pass  # the request has ended meanwhile
        except (TransportError, TransactionTimeout) as error:
            self._waiting = None
            if self.is_pending and not self._retry(error, has_left=False):
                self._fail(error)
        except Exception as error:  # of credentials or middleware; the request still has an outcome
            self._complain(attempt, error)
            if self._waiting is attempt or self._waiting is None:
                self._conclude(attempt)

    def _resume(self) -> None:
        """Go on with the next try, whose next hop is known now. Raises Cancelled if the request has
        ended."""
        if self._waiting is not None or self.transaction is not None:
            if self._waiting is None or not self.is_pending:
                raise Cancelled("the request has ended")
            self._waiting = self.provisional = None
            self._unwatch()

    def _undecided(self, attempt: Attempt) -> None:
        """Fail the request if the greenlet that decides about its next try was killed."""
        if self._waiting is attempt:
            self._waiting = None
            self._fail(TransportError("the stack has stopped"))

    def _conclude(self, attempt: Attempt) -> None:
        """Deliver the failure of the last try."""
        self._waiting = None
        self._unwatch()
        failure = attempt.failure
        if isinstance(failure, Response):
            if self.is_pending:
                self.final_response = failure
                self._deliver(failure)
        elif failure is not None:
            self._fail(failure)

    def _note(self, attempt: Attempt, following: Attempt) -> None:
        """Count and log the next try."""
        sender, failure = self.stack.sender, attempt.failure
        after = str(attempt.status) if attempt.status else type(failure).__name__
        sender.repeated[after] = sender.repeated.get(after, 0) + 1
        self.stack.engine.counters.info(
            "request repeated",
            self.stack.clock.now(),
            'request sent again: method=%s try=%d after=%s target=%s call_id=%s reason="%s"',
            Plain(self.request.method),
            following.number,
            Plain(after),
            Plain(excerpt(following.request.uri_text)[1:-1]),
            Plain(following.request.headers.get("Call-ID")),
            Plain(following.reason),
            log=log,
        )

    def _complain(self, attempt: Attempt, error: Exception) -> None:
        """Log an exception of a policy, such as one of the application's credentials."""
        counters = self.stack.engine.counters
        counters.core_errors += 1
        counters.error(
            "request not repeated",
            self.stack.clock.now(),
            'request not sent again: method=%s after=%s call_id=%s reason="%s"',
            Plain(self.request.method),
            attempt.status,
            Plain(self.request.headers.get("Call-ID")),
            error,
            exc_info=error,
            log=log,
        )


class Former(NullUser):
    """The user of a transaction whose request has gone on to another target.

    If the first target sends a 2xx after its 503, that is a further 2xx (§13.2.2.4).
    """

    __slots__ = ("owner",)

    def __init__(self, owner: Tries) -> None:
        self.owner = owner

    def receive(self, response: Response) -> None:
        if response.is_success:
            self.owner._receive_late(response)
