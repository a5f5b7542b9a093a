"""SessionTimer: refreshes keep a call alive, and a call whose peer is gone ends, RFC 4028.

One side sends a session refresh when half of the session interval has passed. The other side ends
the call if no refresh comes. If the peer lacks `timer`, we refresh alone (§7.2, table 2 of §9), so
no call outlives its peer. What is agreed is in session_interval.py.

The interval is that of `Stack(session_expires=1800)`. One call has its own by the header field:

    stack.invite(uri, session_expires=600)
    tx.accept(session_expires=0)

0 asks for no session timer, and grants one to a peer that asks for it. `session_expires=
"600;refresher=uac"` chooses the refresher. A callee chooses only if the caller has not, and
supports the session timer (§9, table 2).
"""

from __future__ import annotations

import logging
import math

import gevent

from ...errors import Reject, SIPError, TransactionStateError
from ...message.fields.rfc3261 import SessionExpires
from ...message.message import Request, Response
from ...observe.log_values import Plain
from ...runtime.deadline import Deadline
from ..element import DialogTable, Element, ServedRequest
from .end import End
from .rule import Rule, Session
from .session_interval import (
    REQUIRED,
    TIMER,
    UAC,
    UAS,
    Agreed,
    Policy,
    TooSmall,
    agreed,
    answer,
    ask,
    least_of,
    line_of,
    refresher_of,
    seconds_of,
)

log = logging.getLogger("sippet_gevent.core")

BUSY = 5.0
"""Seconds until the next try of a refresh that had to wait for another INVITE or UPDATE. That one
is a session refresh itself if it is accepted."""

EXPIRED = 'SIP;cause=408;text="Session Expired"'
"""The Reason of the BYE if the peer has not refreshed the session (RFC 3326)."""

NOT_REFRESHED = 'SIP;cause=408;text="Session Not Refreshed"'
"""The Reason of the BYE if our refresh has failed."""

_REFRESHING = frozenset(("INVITE", "UPDATE"))
_NOT_SERVED = frozenset((405, 501))


class SessionTimer(Rule):
    """The session timer of one call."""

    __slots__ = (
        "_agreed", "_deadline", "_due", "_ended_by_us", "_is_ours", "_least", "_peer_updates",
        "_policy", "_refresher", "_said", "_until",
    )  # fmt: skip

    fields = ("Min-SE", "Session-Expires")
    is_late = True

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._policy = Policy(session.stack.session_expires)
        self._said: Agreed | None = None  # by our last 2xx, which may not have left yet
        self._agreed: Agreed | None = None
        self._is_ours = False  # we send the refreshes
        self._refresher: object = None  # the greenlet of a refresh that is under way
        self._ended_by_us: str | None = None  # the Reason of our BYE
        self._peer_updates: bool | None = None  # if the peer serves UPDATE; None is not known
        self._least = 0  # the largest Min-SE that was learned in this dialog (§7.4)
        self._due = math.inf  # when to refresh, or to end the call
        self._until = math.inf  # when to end the call
        self._deadline: Deadline | None = None

    # ---- negotiation

    @classmethod
    def inviting(cls, element: Element, request: Request) -> None:
        """Ask for a session timer (§7.1)."""
        if _is_off(request):
            del request.session_expires
        else:
            ask(request, element.session_expires)

    def begins(self, request: Request, dialogs: DialogTable) -> None:
        """Refuse a session interval that is too small (§9), before anything rings."""
        if self.session.is_caller:
            self._wish(request)
            return
        fields = request.headers.fields
        if "Min-SE" in fields:
            self._least = least_of(request)
        if "Session-Expires" in fields:
            self._check(request)

    def received(self, request: Request, tx: ServedRequest) -> int | Response | None:
        """Note the Min-SE of the peer's session refresh (§7.4), and refuse a small interval."""
        if request.method in _REFRESHING and self.session.is_confirmed:
            self._least = max(self._least, least_of(request))
            if "Session-Expires" in request.headers.fields:
                self._check(request)
        return None

    def requesting(self, request: Request) -> None:
        """Keep interval and refresher as they are in each session refresh of ours (§7.4)."""
        method = request.method
        if method == "BYE":
            if self._ended_by_us is not None and "Reason" not in request.headers.fields:
                request.headers["Reason"] = self._ended_by_us
        elif method in _REFRESHING and self.session.is_confirmed:
            now = self._agreed
            if _is_off(request):
                self._policy = self._policy._replace(interval=0)
                del request.session_expires
            elif now is None:
                ask(request, self._policy.interval, least=self._least)
            else:
                refresher = UAC if self._is_ours else UAS
                ask(request, now.interval, least=self._least, refresher=refresher)

    def responding(self, request: Request, response: Response) -> None:
        """Write the session timer into our 2xx to a session refresh (§9)."""
        if response.status < 200 or (not self.session.is_confirmed and request.method != "INVITE"):
            return  # an UPDATE in an early dialog: the 2xx to the INVITE decides anyway
        if "Session-Expires" in response.headers.fields:
            self._wish(response)
            self._policy = self._policy._replace(refresher=refresher_of(response))
            del response.session_expires
        said = answer(request, self._policy)
        if isinstance(said, TooSmall):
            raise _too_small(said)
        self._said = said
        if said is None:
            return
        lines = [line_of(said.interval, said.refresher)]
        if said.is_shared:
            if "Require" not in response.headers.fields:
                lines.append(REQUIRED)
            elif TIMER not in response.require:
                response.require = (*response.require, TIMER)
        response.headers.extend(lines)

    def answered(self, request: Request, response: Response, *, by_us: bool) -> None:
        """Take what the 2xx says, and begin the session interval anew."""
        if not self.session.is_confirmed and request.method != "INVITE":
            return  # an UPDATE in an early dialog: the 2xx to the INVITE decides anyway
        peers = request if by_us else response
        # an UPDATE that was refused says more than Allow
        if self._peer_updates is not False and "Allow" in peers.headers.fields:
            self._peer_updates = _allows_update(peers) or None
        if by_us:
            now = self._said
            self._is_ours = now is not None and now.refresher == UAS
        else:
            now = agreed(request, response)
            self._is_ours = now is not None and now.refresher == UAC
            if self._agreed is not None:  # that of the first INVITE is forgotten (§7.4)
                self._least = max(self._least, least_of(request))  # a 422 had asked for it
        self._agreed = now
        if now is None:
            self._due = self._until = math.inf
            return
        start = self.session.stack.clock.now()
        # slightly before the expiration, because then middleboxes stop to pass messages (§10)
        self._until = start + now.interval - min(32.0, now.interval / 3)
        self._plan(start + now.interval / 2 if self._is_ours else self._until)

    def _check(self, request: Request) -> None:
        """Refuse a small session interval with a 422 (§9). Raises Reject."""
        said = answer(request, self._policy)
        if isinstance(said, TooSmall):
            raise _too_small(said)

    def _wish(self, message: Request | Response) -> None:
        """Take the interval that the application wants for this call."""
        wanted = seconds_of(message)
        self._policy = self._policy._replace(interval=wanted or 0)

    # ---- refreshes and the end, §10

    def expire(self, now: float) -> None:
        """Refresh the session, or end the call."""
        if self.session.end is not None or math.isinf(self._due):
            return
        if now < self._due:
            self._plan(self._due)
        elif now >= self._until:
            self._end()
        else:
            self._due = self._until
            self._plan(self._until)
            # it waits for the answer, and this is the hub
            self.session.stack.callbacks.spawn(self._refresh)

    def ended(self, reason: End) -> None:
        """Say why the call has ended, and let go of the deadline."""
        # session.request() ends the call after a timeout, 408 or 481 (RFC 3261 §12.2.1.2)
        if self._refresher is not None and self._refresher is gevent.getcurrent():
            self._ended_by_us = NOT_REFRESHED
        if self._ended_by_us is not None and reason.by == "us":
            self.session.end = End("us", "expired", 408, self._ended_by_us)
        if self._deadline is not None:
            self._remove(self._deadline)
            self._deadline = None
        self._due = self._until = math.inf

    def _plan(self, due: float) -> None:
        """Have expire() called at `due`, or up to a second later."""
        if self.session.end is not None:
            return  # its 2xx could not be used, and nothing would remove the deadline
        self._due = due
        deadline = self._deadline
        # the pending deadline comes first, and plans the next one
        if deadline is None or deadline.due > due:
            if deadline is not None:
                self._remove(deadline)
            # whole seconds, so that all calls of a second share one alarm
            self._deadline = deadline = Deadline(self, float(math.ceil(due)))
            self.session.stack.deadlines.add(deadline.due, deadline)

    def _remove(self, deadline: Deadline) -> None:
        # the deadline may be half an hour off
        deadline.owner = None
        self.session.stack.deadlines.remove(deadline.due, deadline)

    def _refresh(self) -> None:
        """Send a session refresh: an UPDATE if the peer serves it, else the same offer again
        (§7.4)."""
        session, timer = self.session, self._agreed
        if timer is None or self._refresher is not None or session.end is not None:
            return
        self._refresher = gevent.getcurrent()
        try:
            response = self._ask_peer()
        except TransactionStateError:  # another INVITE or UPDATE is under way
            self._again(BUSY)
        except SIPError as error:
            # a timeout has ended the call (RFC 3261 §12.2.1.2); another way may exist later
            self._note("session refresh failed", str(error))
            self._again()
        else:
            if response.is_success or session.end is not None:
                return
            self._note("session refresh refused", f"{response.status} {response.reason}")
            if timer.is_shared:
                self._again()
            else:
                # the interval is ours alone (§7.2), and the peer lives
                now = session.stack.clock.now()
                self._until = now + timer.interval - min(32.0, timer.interval / 3)
                self._plan(now + timer.interval / 2)
        finally:
            self._refresher = None

    def _ask_peer(self) -> Response:
        """Send refreshes until one is answered with more than "not like this". Raises SIPError."""
        session = self.session
        if self._peer_updates:
            response = session.request("UPDATE")
            if response.status not in _NOT_SERVED:
                return response
            self._peer_updates = False
        response = session.request("INVITE", body=session.offers.refresh())
        # without a session there is nothing to offer again, and the 2xx may have an offer, which
        # nobody would answer
        session.refuse_late_offer()
        return response

    def _again(self, seconds: float | None = None) -> None:
        """Try the refresh again: after some seconds, or in the middle of the time that is left."""
        if self.session.end is not None or math.isinf(self._until):
            return
        now = self.session.stack.clock.now()
        left = self._until - now
        pause = left / 2 if seconds is None else seconds
        self._plan(self._until if left < 2 * BUSY or pause > left else now + pause)

    def _end(self) -> None:
        """End the call, because no refresh was accepted in time."""
        self._ended_by_us = reason = NOT_REFRESHED if self._is_ours else EXPIRED
        self._note("session expired", reason)
        # the BYE may have a name to resolve, and this is the hub
        self.session.stack.callbacks.spawn(self.session.hangup)

    def _note(self, event: str, reason: str) -> None:
        session = self.session
        session.stack.engine.counters.info(
            event,
            session.stack.clock.now(),
            f'{event}: call_id=%s reason="%s"',
            Plain(session.dialog.call_id),
            Plain(reason),
            log=log,
        )


def _is_off(request: Request) -> bool:
    """True for a request with which the application turns the session timer off."""
    return seconds_of(request) == 0


def _allows_update(message: Request | Response) -> bool:
    """True if the sender of a message serves UPDATE (§7.4)."""
    allow = message.headers.fields.get("Allow", "")
    return "UPDATE" in (allow if type(allow) is str else ",".join(allow)).upper()


def _too_small(refusal: TooSmall) -> Reject:
    return Reject(422, min_se=SessionExpires(refusal.smallest))
