"""The four state machines as tables, RFC 3261 figures 5 to 8, RFC 6026, RFC 4320. Pure.

A row is `event: (action, next state)`. A timer runs exactly as long as the transaction is in states
that list it. An action returns effects, in order: (SEND, bytes), (DELIVER, message) or (FAIL,
exception).

The lengths of the timers, and which of them double, are in timers.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..errors import Cancelled, TransactionTimeout, TransportError
from ..message.message import Message, Request, Response
from ..message.resting import rest
from .timers import (
    CORE_INVITE,
    CORE_NON_INVITE,
    DELAYED_100,
    EXPIRES,
    TRYING_100,
    A,
    B,
    D,
    E,
    F,
    G,
    H,
    I,
    J,
    K,
    L,
    M,
    Timer,
)

# States
CALLING = "calling"
TRYING = "trying"
PROCEEDING = "proceeding"
COMPLETED = "completed"
CONFIRMED = "confirmed"
ACCEPTED = "accepted"
TERMINATED = "terminated"

# Events. A Timer that fires is an event, too.
RECV_1XX = "receive 1xx"
RECV_2XX = "receive 2xx"
RECV_300_UP = "receive 300-699"
RECV_REQUEST = "receive the request again"
RECV_ACK = "receive ACK"
SEND_1XX = "send 1xx"
SEND_2XX = "send 2xx"
SEND_300_UP = "send 300-699"
SEND_NOTHING = "send nothing"
TRANSPORT_ERROR = "transport error"

LOCAL = frozenset((SEND_1XX, SEND_2XX, SEND_300_UP, SEND_NOTHING))
"""Events of our own side. One without a row is a mistake of the caller, and raises."""

# Effects
SEND = "send"
DELIVER = "deliver"
FAIL = "fail"

# Any: the first item decides the type of the second, bytes for SEND, a message for DELIVER, an
# exception for FAIL.
Effects = tuple[tuple[str, Any], ...]
NOTHING: Effects = ()

RESENDS_PER_SECOND = 20
"""Most answers to the retransmissions of one transaction in a second. The schedule of §17 needs
two, and more is a storm."""


class Record(Protocol):
    """What actions read and change of a transaction. Transaction is one."""

    machine: Machine
    request: Request | None
    method: str
    last: bytes | None
    quiet_until: float

    def restart(self, timer: Timer, now: float, length: float | None = None) -> None:
        """Let a running timer start again."""


# Any: the event decides what an action gets, a request, a response, an error or None.
Action = Callable[[Record, Any, float], Effects]
Event = str | Timer
Row = tuple[Action, str]


class Machine(NamedTuple):
    """One state machine.

    `start` is the action that starts a transaction, and its first state. `timers` lists the timers
    of each state. `table` has the rows of each state, by event.
    """

    name: str
    is_client: bool
    is_invite: bool
    start: Row
    timers: dict[str, tuple[Timer, ...]]
    table: dict[str, dict[Event, Row]]


class do:
    """The actions. Each gets the transaction, the event's message or error, and the time."""

    @staticmethod
    def nothing(tx: Record, message: object, now: float) -> Effects:
        return NOTHING

    @staticmethod
    def send_request(tx: Record, request: Request, now: float) -> Effects:
        return ((SEND, tx.last),)

    @staticmethod
    def deliver(tx: Record, message: Message, now: float) -> Effects:
        return ((DELIVER, message),)

    @staticmethod
    def proceed(tx: Record, response: Response, now: float) -> Effects:
        tx.last = None  # the INVITE is not sent again, and may ring for long
        return ((DELIVER, response),)

    @staticmethod
    def ack_and_deliver(tx: Record, response: Response, now: float) -> Effects:
        # From now on `last` is the ACK, which answers each repeated final response (§17.1.1.2)
        tx.last = bytes(_request_of(tx).ack(response))
        return (SEND, tx.last), (DELIVER, response)

    @staticmethod
    def send_response(tx: Record, response: Response, now: float) -> Effects:
        tx.last = data = bytes(response)
        return ((SEND, data),)

    @staticmethod
    def send_provisional(tx: Record, response: Response, now: float) -> Effects:
        tx.last = data = bytes(response)
        tx.restart(CORE_INVITE, now)
        request = tx.request
        if request is not None and request.headers.has_rested:
            rest(request.headers)  # the response has read them
        return ((SEND, data),)

    @staticmethod
    def send_trying(tx: Record, message: None, now: float) -> Effects:
        is_news = tx.last is None  # otherwise a provisional response has been sent
        if is_news:
            tx.last = bytes(_request_of(tx).response(100))
        if tx.request is not None:
            rest(tx.request.headers)  # what is not answered by now may ring for minutes
        return ((SEND, tx.last),) if is_news else NOTHING

    @staticmethod
    def answer_for_core(tx: Record, message: None, now: float) -> Effects:
        # 408 for an INVITE, but 500 for others, to which RFC 4320 §4.2 forbids 408
        tx.last = bytes(_request_of(tx).response(408 if tx.machine.is_invite else 500))
        return (SEND, tx.last), (FAIL, TransactionTimeout("the core has not answered in time"))

    @staticmethod
    def repeat(tx: Record, message: Message, now: float) -> Effects:
        """Send the last message again, because the peer has retransmitted."""
        if tx.last is None or now < tx.quiet_until:
            return NOTHING
        tx.quiet_until = now + 1 / RESENDS_PER_SECOND
        return ((SEND, tx.last),)

    @staticmethod
    def resend(tx: Record, message: None, now: float) -> Effects:
        """Send the last message again, because our own timer has fired."""
        return ((SEND, tx.last),)

    @staticmethod
    def report_timeout(tx: Record, message: None, now: float) -> Effects:
        # timers B and F; TransactionTimeout counts as a 408 (§8.1.3.1)
        return ((FAIL, TransactionTimeout(f"no final response to {tx.method} in time")),)

    @staticmethod
    def report_expired(tx: Record, message: None, now: float) -> Effects:
        return ((FAIL, Cancelled("the INVITE has expired")),)

    @staticmethod
    def report_no_ack(tx: Record, message: None, now: float) -> Effects:
        return ((FAIL, TransactionTimeout("no ACK to the final response in time")),)

    @staticmethod
    def report_error(tx: Record, error: Exception, now: float) -> Effects:
        known = error if isinstance(error, TransportError) else TransportError(str(error))
        return ((FAIL, known),)


def _request_of(tx: Record) -> Request:
    request = tx.request
    assert request is not None  # it is dropped only after the end
    return request


INVITE_CLIENT = Machine(  # RFC 6026 figure 5, which replaces RFC 3261 figure 5
    "INVITE client",
    is_client=True,
    is_invite=True,
    start=(do.send_request, CALLING),
    timers={CALLING: (A, B), COMPLETED: (D,), ACCEPTED: (M,)},
    table={
        CALLING: {
            A: (do.resend, CALLING),
            B: (do.report_timeout, TERMINATED),
            RECV_1XX: (do.proceed, PROCEEDING),
            RECV_2XX: (do.deliver, ACCEPTED),
            RECV_300_UP: (do.ack_and_deliver, COMPLETED),
            TRANSPORT_ERROR: (do.report_error, TERMINATED),
        },
        PROCEEDING: {
            RECV_1XX: (do.deliver, PROCEEDING),
            RECV_2XX: (do.deliver, ACCEPTED),
            RECV_300_UP: (do.ack_and_deliver, COMPLETED),
        },
        COMPLETED: {
            RECV_300_UP: (do.repeat, COMPLETED),
            # The figure has no such row. But a proxy behind us may forward a 2xx of another branch
            # after a refusal. A proxy must forward it (§16.7 step 5), and a UAC must acknowledge it
            # (§13.2.2.4). Without this record it is a stray response, which RFC 6026 §8.2 forbids
            # to forward. Over TCP the record ends at once.
            RECV_2XX: (do.deliver, COMPLETED),
            D: (do.nothing, TERMINATED),
            # The figure informs the TU. But the TU has its final response, and each transaction
            # reports one end.
            TRANSPORT_ERROR: (do.nothing, TERMINATED),
        },
        ACCEPTED: {
            RECV_2XX: (do.deliver, ACCEPTED),
            M: (do.nothing, TERMINATED),
        },
        TERMINATED: {},
    },
)

NON_INVITE_CLIENT = Machine(  # RFC 3261 figure 6
    "non-INVITE client",
    is_client=True,
    is_invite=False,
    start=(do.send_request, TRYING),
    timers={TRYING: (E, F), PROCEEDING: (E, F), COMPLETED: (K,)},
    table={
        TRYING: {
            E: (do.resend, TRYING),
            F: (do.report_timeout, TERMINATED),
            RECV_1XX: (do.deliver, PROCEEDING),
            RECV_2XX: (do.deliver, COMPLETED),
            RECV_300_UP: (do.deliver, COMPLETED),
            TRANSPORT_ERROR: (do.report_error, TERMINATED),
        },
        PROCEEDING: {
            E: (do.resend, PROCEEDING),
            F: (do.report_timeout, TERMINATED),
            RECV_1XX: (do.deliver, PROCEEDING),
            RECV_2XX: (do.deliver, COMPLETED),
            RECV_300_UP: (do.deliver, COMPLETED),
            TRANSPORT_ERROR: (do.report_error, TERMINATED),
        },
        COMPLETED: {
            K: (do.nothing, TERMINATED),
        },
        TERMINATED: {},
    },
)

INVITE_SERVER = Machine(  # RFC 6026 figure 7, which replaces RFC 3261 figure 7
    "INVITE server",
    is_client=False,
    is_invite=True,
    start=(do.deliver, PROCEEDING),
    timers={
        PROCEEDING: (TRYING_100, CORE_INVITE, EXPIRES),
        COMPLETED: (G, H),
        CONFIRMED: (I,),
        ACCEPTED: (L,),
    },
    table={
        PROCEEDING: {
            RECV_REQUEST: (do.repeat, PROCEEDING),
            TRYING_100: (do.send_trying, PROCEEDING),
            CORE_INVITE: (do.answer_for_core, COMPLETED),
            EXPIRES: (do.report_expired, PROCEEDING),
            SEND_1XX: (do.send_provisional, PROCEEDING),
            SEND_2XX: (do.send_response, ACCEPTED),
            SEND_300_UP: (do.send_response, COMPLETED),
            TRANSPORT_ERROR: (do.report_error, PROCEEDING),
        },
        COMPLETED: {
            RECV_REQUEST: (do.repeat, COMPLETED),
            RECV_ACK: (do.nothing, CONFIRMED),
            G: (do.resend, COMPLETED),
            H: (do.report_no_ack, TERMINATED),
            TRANSPORT_ERROR: (do.report_error, COMPLETED),
        },
        CONFIRMED: {
            I: (do.nothing, TERMINATED),
        },
        ACCEPTED: {
            RECV_REQUEST: (do.nothing, ACCEPTED),
            RECV_ACK: (do.deliver, ACCEPTED),
            SEND_2XX: (do.send_response, ACCEPTED),
            L: (do.nothing, TERMINATED),
            TRANSPORT_ERROR: (do.report_error, ACCEPTED),
        },
        TERMINATED: {},
    },
)

# RFC 3261 figure 8; RFC 4320 §4.1 for the 100, RFC 6026 §8.8 for transport errors
NON_INVITE_SERVER = Machine(
    "non-INVITE server",
    is_client=False,
    is_invite=False,
    start=(do.deliver, TRYING),
    timers={
        TRYING: (DELAYED_100, CORE_NON_INVITE),
        PROCEEDING: (CORE_NON_INVITE,),
        COMPLETED: (J,),
    },
    table={
        TRYING: {
            RECV_REQUEST: (do.nothing, TRYING),
            DELAYED_100: (do.send_trying, PROCEEDING),
            CORE_NON_INVITE: (do.answer_for_core, COMPLETED),
            SEND_1XX: (do.send_response, PROCEEDING),
            SEND_2XX: (do.send_response, COMPLETED),
            SEND_300_UP: (do.send_response, COMPLETED),
            SEND_NOTHING: (do.nothing, COMPLETED),
        },
        PROCEEDING: {
            RECV_REQUEST: (do.repeat, PROCEEDING),
            CORE_NON_INVITE: (do.answer_for_core, COMPLETED),
            SEND_1XX: (do.send_response, PROCEEDING),
            SEND_2XX: (do.send_response, COMPLETED),
            SEND_300_UP: (do.send_response, COMPLETED),
            SEND_NOTHING: (do.nothing, COMPLETED),
            TRANSPORT_ERROR: (do.report_error, PROCEEDING),
        },
        COMPLETED: {
            RECV_REQUEST: (do.repeat, COMPLETED),
            J: (do.nothing, TERMINATED),
            TRANSPORT_ERROR: (do.report_error, COMPLETED),
        },
        TERMINATED: {},
    },
)

MACHINES = (INVITE_CLIENT, NON_INVITE_CLIENT, INVITE_SERVER, NON_INVITE_SERVER)


def draw(machine: Machine) -> str:
    """Return the machine as text, state by state, as the RFC's figures show it."""
    lines = [f"{machine.name}: starts {machine.start[1]}, {machine.start[0].__name__}"]
    for state, rows in machine.table.items():
        timers = ", ".join(timer.letter for timer in machine.timers.get(state, ()))
        lines.append(f"  {state}" + (f"  (timers {timers})" if timers else ""))
        lines += [
            f"    {event!s:<28} {action.__name__:<18} -> {after}"
            for event, (action, after) in rows.items()
        ]
    return "\n".join(lines)
