"""The four state machines as tables, RFC 3261 figures 5 to 8 as amended by RFC 6026 and RFC 4320.
Pure.

A row is `event: (action, next state)`. A timer runs exactly as long as the transaction is in states
that list it. An action returns effects, in order: (SEND, octets), (DELIVER, message), (FAIL,
exception).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import Cancelled, TransactionTimeout, TransportError
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

# Events; a Timer is one too
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
"""Events that our own side makes: one without a row is our own mistake, and raises."""

# Effects
SEND = "send"
DELIVER = "deliver"
FAIL = "fail"

Effects = tuple[tuple[str, Any], ...]
NOTHING: Effects = ()

RESENDS_PER_SECOND = 20
"""Answers repeated to one transaction's retransmissions, at most: the schedule of §17 needs two;
more is a storm."""

Action = Callable[[Any, Any, float], Effects]
Event = "str | Timer"


class Machine(NamedTuple):
    """One table: its name, the state a transaction starts in, and the action that starts it."""

    name: str
    is_client: bool
    is_invite: bool
    start: tuple[Action, str]
    timers: dict[str, tuple[Timer, ...]]
    table: dict[str, dict[Any, tuple[Action, str]]]


class do:
    """The actions. Each takes (transaction, message or exception, now) and returns effects."""

    @staticmethod
    def nothing(tx: Any, message: Any, now: float) -> Effects:
        return NOTHING

    @staticmethod
    def send_request(tx: Any, message: Any, now: float) -> Effects:
        return ((SEND, tx.last),)

    @staticmethod
    def deliver(tx: Any, message: Any, now: float) -> Effects:
        return ((DELIVER, message),)

    @staticmethod
    def ack_and_deliver(tx: Any, message: Any, now: float) -> Effects:
        # From here on `last` is the ACK, which answers every repeated final response (§17.1.1.2)
        tx.last = bytes(tx.request.ack(message))
        return (SEND, tx.last), (DELIVER, message)

    @staticmethod
    def send_response(tx: Any, message: Any, now: float) -> Effects:
        tx.last = data = bytes(message)
        return ((SEND, data),)

    @staticmethod
    def send_provisional(tx: Any, message: Any, now: float) -> Effects:
        tx.last = data = bytes(message)
        tx.restart(CORE_INVITE, now)
        return ((SEND, data),)

    @staticmethod
    def send_trying(tx: Any, message: Any, now: float) -> Effects:
        if tx.last is not None:  # a provisional response was sent already: 100 would be a step back
            return NOTHING
        tx.last = bytes(tx.request.response(100))
        return ((SEND, tx.last),)

    @staticmethod
    def answer_for_core(tx: Any, message: Any, now: float) -> Effects:
        # 408 to an INVITE; to others it is forbidden (RFC 4320 §4.2), and 500 tells the truth
        tx.last = bytes(tx.request.response(408 if tx.machine.is_invite else 500))
        return (SEND, tx.last), (FAIL, TransactionTimeout("the core has not answered in time"))

    @staticmethod
    def repeat(tx: Any, message: Any, now: float) -> Effects:
        """Send the last message again, for a retransmission from the peer."""
        if tx.last is None or now < tx.quiet_until:
            return NOTHING
        tx.quiet_until = now + 1 / RESENDS_PER_SECOND
        return ((SEND, tx.last),)

    @staticmethod
    def resend(tx: Any, message: Any, now: float) -> Effects:
        """Send the last message again, because our own timer says so."""
        return ((SEND, tx.last),)

    @staticmethod
    def report_timeout(tx: Any, message: Any, now: float) -> Effects:
        return ((FAIL, TransactionTimeout(f"no final response to {tx.method} in time")),)

    @staticmethod
    def report_expired(tx: Any, message: Any, now: float) -> Effects:
        return ((FAIL, Cancelled("the INVITE has expired")),)

    @staticmethod
    def report_no_ack(tx: Any, message: Any, now: float) -> Effects:
        return ((FAIL, TransactionTimeout("no ACK to the final response in time")),)

    @staticmethod
    def report_error(tx: Any, message: Any, now: float) -> Effects:
        return (
            (
                FAIL,
                message if isinstance(message, TransportError) else TransportError(str(message)),
            ),
        )


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
            RECV_1XX: (do.deliver, PROCEEDING),
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
            # The figure has no such row, but a fork behind us may answer after it has refused, and
            # then a proxy must forward that (§16.7 step 5) and a UAC acknowledge it (§13.2.2.4).
            # Once this record is gone it is a stray, which RFC 6026 §8.2 forbids to forward; over
            # TCP that is at once.
            RECV_2XX: (do.deliver, COMPLETED),
            D: (do.nothing, TERMINATED),
            # The figure informs the TU, which has its final response already: each transaction
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
    """Return the machine as text, state by state: what the RFC's figures show."""
    lines = [f"{machine.name}: starts {machine.start[1]}, {machine.start[0].__name__}"]
    for state, rows in machine.table.items():
        timers = ", ".join(timer.letter for timer in machine.timers.get(state, ()))
        lines.append(f"  {state}" + (f"  (timers {timers})" if timers else ""))
        lines += [
            f"    {event!s:<28} {action.__name__:<18} -> {after}"
            for event, (action, after) in rows.items()
        ]
    return "\n".join(lines)
