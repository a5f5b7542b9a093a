"""OverloadedServers: next hops that get fewer requests of ours, by Retry-After (RFC 3261 §21.5.4),
by the oc parameter of overload control, or because they do not answer at all (RFC 7339)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from random import random

from ...errors import ParseError, TransportError
from ...message.via import Via
from ...transport.base import Flow
from ...transport.locate.rfc3263 import Candidate
from .silent import SilentServers
from .targets import GREY_TARGETS, Target

FREE = frozenset(("ACK", "BYE", "CANCEL", "PRACK"))
"""Requests that end something or belong to another one. A server gets them whatever it has asked
for. Its mix of requests leaves them out (RFC 7339 §7.2): with the INVITEs that are held back,
they become fewer by the same part."""

VALIDITY = 0.5
"""Seconds for which feedback holds that names no time (RFC 7339 §4.3)."""

MOST_VALIDITY = 60.0
"""Most seconds for which feedback holds. A server that is overloaded sends new feedback with each
response."""

LEAST_SECOND = 0.1
"""Least part of the requests that is taken to begin something. With less, nothing is thinned."""


OVERFLOW = 1000.0
"""Least oc-seq that can have overflowed. Then the next one is less than half of it, unlike a late
one (RFC 7339 §4.4)."""


class _Control:
    """The feedback of one server, and the mix of what it was sent."""

    __slots__ = ("first", "loss", "second", "sequence", "until")

    def __init__(self) -> None:
        self.loss = 0.0
        self.sequence = -1.0
        self.until = 0.0
        self.first, self.second = 0.0, 1.0

    def lets_pass(self, is_first: bool, roll: float, *, counts: bool) -> bool:
        """Decide about one request, by the algorithm of RFC 7339 §7.2.

        Requests within dialogs, and those with priority, are the first category. They are thinned
        only if thinning all others is not enough. `counts` is False for a server that only gets the
        request if another one fails, because the mix is of requests that were meant for it.
        """
        total = self.first + self.second
        if total >= 1000:  # the mix of the last requests counts
            self.first, self.second = self.first / 2, self.second / 2
            total /= 2
        share = max(self.second / total, LEAST_SECOND)
        if is_first:
            self.first += counts
            return self.loss <= share or roll >= (self.loss - share) / (1 - share)
        self.second += counts
        return roll >= self.loss / share


class OverloadedServers:
    """Next hops that have asked for fewer requests, or do not answer.

    The oldest is forgotten beyond GREY_TARGETS.

    Args:
        most_closed: Returns the most seconds for which a Retry-After holds; 0 ignores it.
        watches: True if servers that do not answer get no requests (RFC 7339 §5.9).
    """

    __slots__ = ("_closed", "_controls", "_most_closed", "_watches", "refused", "roll", "silent")

    def __init__(self, most_closed: Callable[[], float], *, watches: bool = True) -> None:
        self.silent = SilentServers()
        """Next hops that do not answer."""
        self._watches = watches
        self._closed: OrderedDict[Target, float] = OrderedDict()
        self._controls: OrderedDict[Target, _Control] = OrderedDict()
        self._most_closed = most_closed
        self.refused: dict[str, int] = {"retry_after": 0, "overload_control": 0, "silent": 0}
        """Requests that were not sent because no next hop may get them, by the reason."""
        self.roll: Callable[[], float] = random
        """Returns a random number below 1."""

    def close(self, target: Target, now: float, seconds: float) -> None:
        """Send no new request to a target for some seconds, because its 503 had a Retry-After."""
        seconds = min(seconds, self._most_closed())
        if seconds > 0:
            self._closed.pop(target, None)
            self._closed[target] = now + seconds
            if len(self._closed) > GREY_TARGETS:
                self._closed.popitem(last=False)

    def failed(self, target: Target, now: float) -> None:
        """Note that a target has not answered, or could not be reached."""
        if self._watches:
            self.silent.failed(target, now)

    def answered(self, target: Target) -> None:
        """Note that a target has answered."""
        self.silent.answered(target)

    def take_feedback(self, target: Target, via: Via, now: float) -> None:
        """Take the parameters of our own Via in a response (RFC 7339 §5.4). Wrong ones are
        ignored."""
        parameters = via.parameters
        try:
            sequence = _number("oc-seq", parameters.get("oc-seq"))
            milliseconds = parameters.get("oc-validity")
            validity = (
                VALIDITY if milliseconds is None else _number("oc-validity", milliseconds) / 1000
            )
            # with a validity of 0, the value of oc does not count (§5.7)
            loss = _number("oc", parameters.get("oc")) if validity else 0.0
        except ParseError:
            return
        if (parameters.get("oc-algo") or "loss").strip('"').lower() != "loss":
            return
        control = self._controls.get(target)
        if control is None:
            if not loss or not validity:
                return
            control = self._controls[target] = _Control()
            if len(self._controls) > GREY_TARGETS:
                self._controls.popitem(last=False)
        elif (
            control.until > now
            and sequence <= control.sequence
            and (control.sequence < OVERFLOW or sequence > control.sequence / 2)
        ):
            return  # an older response, which came late
        if not loss or not validity:
            # kept for a while, so that an older response, which comes late, begins nothing
            control.loss, control.sequence, control.until = 0.0, sequence, now + VALIDITY
            return
        control.loss = min(loss, 100.0) / 100
        control.sequence = sequence
        control.until = now + min(validity, MOST_VALIDITY)

    @property
    def are_limited(self) -> bool:
        """True while a next hop may want fewer requests."""
        return bool(self._closed or self._controls or self.silent.probes)

    def allowed(
        self, candidates: list[Candidate], now: float, *, is_within: bool
    ) -> list[Candidate]:
        """Return the candidates that may get this request.

        Args:
            candidates: The next hops.
            now: The time.
            is_within: True for a request within a dialog, or with priority (RFC 7339 §5.10.1). A
                Retry-After does not hold it up.

        Raises:
            TransportError: None may get it.
        """
        left: list[Candidate] = []
        reason = ""
        for candidate in candidates:
            # the others are for fail-over
            refusal = self._refusal(candidate[:3], now, is_within, counts=not left)
            if refusal:
                reason = refusal
            else:
                left.append(candidate)
        if candidates and not left:
            self._refuse(candidates[0], reason)
        return left

    def check_flow(self, flow: Flow, now: float, *, is_within: bool) -> None:
        """Raise TransportError if a request must not be sent by this flow.

        Retry-After does not count here: another flow cannot take the request (RFC 5626 §5.3).
        """
        target = flow.transport.name, flow.remote[0], flow.remote[1]
        if not self.silent.may_send(target, now):
            self._refuse(flow, "silent")
        if self._is_thinned(target, now, is_within, counts=True):
            self._refuse(flow, "overload_control")

    def _refuse(self, destination: object, reason: str) -> None:
        self.refused[reason] += 1
        problem = "does not answer" if reason == "silent" else "has asked for fewer requests"
        raise TransportError(f"{destination} {problem}", kind=reason)

    def _refusal(self, target: Target, now: float, is_within: bool, *, counts: bool) -> str:
        until = self._closed.get(target)
        if until is not None:
            if until <= now:
                del self._closed[target]
            elif not is_within:
                return "retry_after"
        if self.silent.probes and not self.silent.may_send(target, now, counts=counts):
            return "silent"
        return "overload_control" if self._is_thinned(target, now, is_within, counts=counts) else ""

    def _is_thinned(self, target: Target, now: float, is_within: bool, *, counts: bool) -> bool:
        control = self._controls.get(target)
        if control is None:
            return False
        if control.until <= now:
            del self._controls[target]
            return False
        return not control.lets_pass(is_within, self.roll(), counts=counts)


def _number(name: str, text: str | None) -> float:
    """Read a number of digits, with a fraction or without. Raises ParseError."""
    whole, _, fraction = (text or "").partition(".")
    if not whole.isascii() or not whole.isdigit() or len(text or "") > 24:
        raise ParseError(f"{name} is no number", header="Via")
    if fraction and not (fraction.isascii() and fraction.isdigit()):
        raise ParseError(f"{name} is no number", header="Via")
    return float(text or "")
