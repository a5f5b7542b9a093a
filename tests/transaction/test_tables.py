"""The four tables: their rules, and each row against the figures of RFC 3261, 6026 and 4320."""

from __future__ import annotations

import pytest

from sippet_gevent.errors import TransportError
from sippet_gevent.message.message import Request
from sippet_gevent.transaction import machines, timers
from sippet_gevent.transaction.fsm import Transaction
from sippet_gevent.transaction.machines import (
    ACCEPTED,
    CALLING,
    COMPLETED,
    CONFIRMED,
    DELIVER,
    FAIL,
    INVITE_CLIENT,
    INVITE_SERVER,
    LOCAL,
    MACHINES,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    PROCEEDING,
    RECV_1XX,
    RECV_2XX,
    RECV_300_UP,
    RECV_ACK,
    RECV_REQUEST,
    SEND,
    SEND_1XX,
    SEND_2XX,
    SEND_300_UP,
    SEND_NOTHING,
    TERMINATED,
    TRANSPORT_ERROR,
    TRYING,
    draw,
)
from sippet_gevent.transaction.timers import (
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

EVENTS = {
    RECV_1XX, RECV_2XX, RECV_300_UP, RECV_REQUEST, RECV_ACK, SEND_1XX, SEND_2XX, SEND_300_UP, SEND_NOTHING, TRANSPORT_ERROR,
}  # fmt: skip
TIMERS = {value for value in vars(timers).values() if isinstance(value, Timer)}
STATUS = {
    RECV_1XX: 180,
    RECV_2XX: 200,
    RECV_300_UP: 486,
    SEND_1XX: 180,
    SEND_2XX: 200,
    SEND_300_UP: 486,
}

# What the figures write beside their arrows.
NONE: tuple[str, ...] = ()
SENT = (SEND,)
TO_TU = (DELIVER,)
INFORM_TU = (FAIL,)
ACK_SENT_AND_TO_TU = (SEND, DELIVER)
SENT_AND_INFORM_TU = (SEND, FAIL)

# The rows, typed from the RFCs: state, event, what happens, next state, and what must have happened before to see it.
ROWS = {
    # RFC 6026 §8.4, figure 5
    INVITE_CLIENT.name: [
        (CALLING, A, SENT, CALLING),
        (CALLING, B, INFORM_TU, TERMINATED),
        (CALLING, TRANSPORT_ERROR, INFORM_TU, TERMINATED),
        (CALLING, RECV_1XX, TO_TU, PROCEEDING),
        (CALLING, RECV_2XX, TO_TU, ACCEPTED),
        (CALLING, RECV_300_UP, ACK_SENT_AND_TO_TU, COMPLETED),
        (PROCEEDING, RECV_1XX, TO_TU, PROCEEDING),
        (PROCEEDING, RECV_2XX, TO_TU, ACCEPTED),
        (PROCEEDING, RECV_300_UP, ACK_SENT_AND_TO_TU, COMPLETED),
        (COMPLETED, RECV_300_UP, SENT, COMPLETED),
        # Not in the figure: after a refusal a proxy may forward a 2xx (RFC 3261 §16.7 step 5, §13.2.2.4).
        (COMPLETED, RECV_2XX, TO_TU, COMPLETED),
        (COMPLETED, D, NONE, TERMINATED),
        # Ours alone: the figure informs the TU, which has the final response and could do nothing about a lost ACK.
        (COMPLETED, TRANSPORT_ERROR, NONE, TERMINATED),
        (ACCEPTED, RECV_2XX, TO_TU, ACCEPTED),
        (ACCEPTED, M, NONE, TERMINATED),
    ],
    # RFC 3261 §17.1.2.2, figure 6
    NON_INVITE_CLIENT.name: [
        (TRYING, E, SENT, TRYING),
        (TRYING, F, INFORM_TU, TERMINATED),
        (TRYING, TRANSPORT_ERROR, INFORM_TU, TERMINATED),
        (TRYING, RECV_1XX, TO_TU, PROCEEDING),
        (TRYING, RECV_2XX, TO_TU, COMPLETED),
        (TRYING, RECV_300_UP, TO_TU, COMPLETED),
        (PROCEEDING, E, SENT, PROCEEDING),
        (PROCEEDING, F, INFORM_TU, TERMINATED),
        (PROCEEDING, TRANSPORT_ERROR, INFORM_TU, TERMINATED),
        (PROCEEDING, RECV_1XX, TO_TU, PROCEEDING),
        (PROCEEDING, RECV_2XX, TO_TU, COMPLETED),
        (PROCEEDING, RECV_300_UP, TO_TU, COMPLETED),
        (COMPLETED, K, NONE, TERMINATED),
    ],
    # RFC 6026 §8.6, figure 7
    INVITE_SERVER.name: [
        (PROCEEDING, TRYING_100, SENT, PROCEEDING),  # "send 100 if TU won't in 200 ms"
        (PROCEEDING, RECV_REQUEST, SENT, PROCEEDING, SEND_1XX),
        (PROCEEDING, SEND_1XX, SENT, PROCEEDING),
        (PROCEEDING, SEND_2XX, SENT, ACCEPTED),
        (PROCEEDING, SEND_300_UP, SENT, COMPLETED),
        (PROCEEDING, TRANSPORT_ERROR, INFORM_TU, PROCEEDING),
        (
            PROCEEDING,
            CORE_INVITE,
            SENT_AND_INFORM_TU,
            COMPLETED,
        ),  # not in the figure: 408 in place of a silent TU
        (
            PROCEEDING,
            EXPIRES,
            INFORM_TU,
            PROCEEDING,
        ),  # not in the figure: RFC 3261 §13.3.1 step 1, the TU answers 487
        (COMPLETED, RECV_REQUEST, SENT, COMPLETED),
        (COMPLETED, G, SENT, COMPLETED),
        (COMPLETED, RECV_ACK, NONE, CONFIRMED),
        # Figure 7 of RFC 6026 has "-" here, but RFC 3261 §17.2.1 still wants the failure reported.
        (COMPLETED, H, INFORM_TU, TERMINATED),
        (COMPLETED, TRANSPORT_ERROR, INFORM_TU, COMPLETED),
        (CONFIRMED, I, NONE, TERMINATED),
        (ACCEPTED, RECV_REQUEST, NONE, ACCEPTED),
        (ACCEPTED, RECV_ACK, TO_TU, ACCEPTED),
        (ACCEPTED, SEND_2XX, SENT, ACCEPTED),
        (ACCEPTED, TRANSPORT_ERROR, INFORM_TU, ACCEPTED),
        (ACCEPTED, L, NONE, TERMINATED),
    ],
    # RFC 3261 §17.2.2, figure 8; RFC 6026 §8.8: a transport error leaves the state
    NON_INVITE_SERVER.name: [
        (TRYING, RECV_REQUEST, NONE, TRYING),
        (TRYING, SEND_1XX, SENT, PROCEEDING),
        (TRYING, SEND_2XX, SENT, COMPLETED),
        (TRYING, SEND_300_UP, SENT, COMPLETED),
        (TRYING, DELAYED_100, SENT, PROCEEDING),  # RFC 4320 §4.1
        (TRYING, CORE_NON_INVITE, SENT_AND_INFORM_TU, COMPLETED),  # not in the figure
        (
            TRYING,
            SEND_NOTHING,
            NONE,
            COMPLETED,
        ),  # RFC 4320 §4.2: "will not send a final response at all"
        (PROCEEDING, RECV_REQUEST, SENT, PROCEEDING),
        (PROCEEDING, SEND_1XX, SENT, PROCEEDING),
        (PROCEEDING, SEND_2XX, SENT, COMPLETED),
        (PROCEEDING, SEND_300_UP, SENT, COMPLETED),
        (PROCEEDING, CORE_NON_INVITE, SENT_AND_INFORM_TU, COMPLETED),  # not in the figure
        (PROCEEDING, SEND_NOTHING, NONE, COMPLETED),  # RFC 4320 §4.2
        (PROCEEDING, TRANSPORT_ERROR, INFORM_TU, PROCEEDING),
        (COMPLETED, RECV_REQUEST, SENT, COMPLETED),
        (COMPLETED, J, NONE, TERMINATED),
        (COMPLETED, TRANSPORT_ERROR, INFORM_TU, COMPLETED),
    ],
}

# "The timer runs while in these states", typed from the text of the same sections.
LIVE = {
    INVITE_CLIENT.name: {CALLING: {A, B}, COMPLETED: {D}, ACCEPTED: {M}},
    NON_INVITE_CLIENT.name: {TRYING: {E, F}, PROCEEDING: {E, F}, COMPLETED: {K}},
    INVITE_SERVER.name: {
        PROCEEDING: {TRYING_100, CORE_INVITE, EXPIRES},
        COMPLETED: {G, H},
        CONFIRMED: {I},
        ACCEPTED: {L},
    },
    NON_INVITE_SERVER.name: {
        TRYING: {DELAYED_100, CORE_NON_INVITE},
        PROCEEDING: {CORE_NON_INVITE},
        COMPLETED: {J},
    },
}

# How to come into a state.
WAYS = {
    INVITE_CLIENT.name: {PROCEEDING: [RECV_1XX], COMPLETED: [RECV_300_UP], ACCEPTED: [RECV_2XX]},
    NON_INVITE_CLIENT.name: {PROCEEDING: [RECV_1XX], COMPLETED: [RECV_2XX]},
    INVITE_SERVER.name: {
        COMPLETED: [SEND_300_UP],
        CONFIRMED: [SEND_300_UP, RECV_ACK],
        ACCEPTED: [SEND_2XX],
    },
    NON_INVITE_SERVER.name: {PROCEEDING: [SEND_1XX], COMPLETED: [SEND_2XX]},
}

START = {
    INVITE_CLIENT.name: (SENT, CALLING),
    NON_INVITE_CLIENT.name: (SENT, TRYING),
    INVITE_SERVER.name: (TO_TU, PROCEEDING),
    NON_INVITE_SERVER.name: (TO_TU, TRYING),
}

RFC = {
    INVITE_CLIENT.name: ("3261 17.1.1.2", "6026 8.4"),
    NON_INVITE_CLIENT.name: ("3261 17.1.2.2",),
    INVITE_SERVER.name: ("3261 17.2.1", "6026 8.6"),
    NON_INVITE_SERVER.name: ("3261 17.2.2", "6026 8.8"),
}

each_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)


def request_for(machine):
    return Request(
        "INVITE" if machine.is_invite else "OPTIONS",
        "sip:bob@b.example",
        via="SIP/2.0/UDP a.example;branch=z9hG4bKtables",
        from_="<sip:alice@a.example>;tag=a",
        to="<sip:bob@b.example>",
        call_id="tables",
        cseq="1 INVITE" if machine.is_invite else "1 OPTIONS",
    )


def message_for(event, request):
    if event in STATUS:
        return request.response(STATUS[event])
    if event is TRANSPORT_ERROR:
        return TransportError("unreachable")
    return request


def in_state(machine, state, before=()):
    """Make a transaction over UDP and lead it into a state, at time 0."""
    request = request_for(machine)
    tx = Transaction(machine, "key", request)
    tx.start(0)
    for event in (*WAYS[machine.name].get(state, ()), *before):
        tx.handle(event, 0, message_for(event, request))
    assert tx.state is state
    return tx


def each_row():
    for machine in MACHINES:
        marks = [pytest.mark.rfc(rule) for rule in RFC[machine.name]]
        for row in ROWS[machine.name]:
            yield pytest.param(
                machine, *row[:4], row[4:], marks=marks, id=f"{machine.name}, {row[0]}: {row[1]}"
            )


@pytest.mark.parametrize(
    ("machine", "state", "event", "happens", "after", "before"), list(each_row())
)
def test_row_does_what_the_figure_says(machine, state, event, happens, after, before):
    tx = in_state(machine, state, before)
    effects = tx.handle(event, 0, message_for(event, tx.request))
    assert (tuple(kind for kind, _ in effects), tx.state) == (happens, after)


@each_machine
@pytest.mark.rfc("3261 17")
@pytest.mark.rfc("6026 8")
def test_table_has_the_rows_of_the_figure_and_no_others(machine):
    rows = {
        (state, event): after
        for state, rows in machine.table.items()
        for event, (_, after) in rows.items()
    }
    assert rows == {(state, event): after for state, event, _, after, *_ in ROWS[machine.name]}


@each_machine
@pytest.mark.rfc("3261 17")
def test_start_is_the_arrow_into_the_figure(machine):
    tx = Transaction(machine, "key", request_for(machine))
    effects = tx.start(0)
    assert (tuple(kind for kind, _ in effects), tx.state) == START[machine.name]


@each_machine
@pytest.mark.rfc("3261 A")
@pytest.mark.rfc("6026 8.11")
def test_timers_live_in_the_states_the_text_gives_them(machine):
    assert {state: set(live) for state, live in machine.timers.items()} == LIVE[machine.name]


@each_machine
def test_every_state_can_be_reached(machine):
    assert reachable(machine, machine.start[1]) == set(machine.table)


@each_machine
def test_every_state_leads_to_terminated(machine):
    for state in machine.table:
        assert TERMINATED in reachable(machine, state) | {state}, state


@each_machine
def test_time_alone_ends_every_state_but_an_invite_that_rings(machine):
    # §17.1.1: an INVITE client in Proceeding waits for as long as its user lets it (timer C, §16.8; CANCEL, §9.1)
    for state in machine.table:
        if (machine, state) != (INVITE_CLIENT, PROCEEDING):
            assert TERMINATED in reachable(machine, state, by_timers=True) | {state}, state


@each_machine
@pytest.mark.rfc("3261 17.1.1.2")
def test_terminated_has_no_rows_and_no_timers(machine):
    assert machine.table[TERMINATED] == {}
    assert TERMINATED not in machine.timers


@each_machine
def test_every_live_timer_has_a_row_and_every_timer_row_a_live_timer(machine):
    for state, rows in machine.table.items():
        assert {event for event in rows if isinstance(event, Timer)} == set(
            machine.timers.get(state, ())
        ), state


@each_machine
def test_every_event_in_a_row_is_a_known_one(machine):
    assert {event for rows in machine.table.values() for event in rows} <= EVENTS | TIMERS


@each_machine
def test_every_state_that_is_entered_or_has_timers_has_rows(machine):
    entered = {after for rows in machine.table.values() for _, after in rows.values()}
    assert entered | set(machine.timers) | {machine.start[1]} <= set(machine.table)


@each_machine
def test_row_that_stays_for_a_timer_has_a_timer_that_repeats(machine):
    for state, rows in machine.table.items():
        for event, (_, after) in rows.items():
            if (
                isinstance(event, Timer) and after is state and event not in (TRYING_100, EXPIRES)
            ):  # reported once
                assert event.again is not None, (state, event)


@each_machine
def test_clients_have_rows_for_responses_and_servers_for_requests(machine):
    events = {event for rows in machine.table.values() for event in rows}
    responses, requests = {RECV_1XX, RECV_2XX, RECV_300_UP}, {RECV_REQUEST, RECV_ACK, *LOCAL}
    assert not events & (requests if machine.is_client else responses)


def test_local_events_are_those_that_send():
    assert {SEND_1XX, SEND_2XX, SEND_300_UP, SEND_NOTHING} == LOCAL


def test_every_event_and_every_timer_is_used():
    used = {event for machine in MACHINES for rows in machine.table.values() for event in rows}
    assert used == EVENTS | TIMERS


@pytest.mark.rfc("3261 A")
@pytest.mark.rfc("6026 8.11")
def test_timers_are_those_of_the_rfcs():
    # C is a proxy's (§16.6 step 11); "100", "core" and "Expires" are those without a letter
    letters = sorted(timer.letter for timer in TIMERS)
    assert letters == sorted([*"ABDEFGHIJKLM", "100", "delayed 100", "core", "core", "Expires"])


def test_names_of_events_states_and_machines_are_unique():
    assert len({machine.name for machine in MACHINES}) == 4
    states = [CALLING, TRYING, PROCEEDING, COMPLETED, CONFIRMED, ACCEPTED, TERMINATED]
    assert len(set(states)) == len(states)
    events = [
        value
        for name, value in vars(machines).items()
        if name.startswith(("RECV_", "SEND_", "TRANSPORT_"))
    ]
    assert set(events) == EVENTS
    assert len(set(events)) == len(events)


@each_machine
def test_drawing_shows_every_state_timer_and_row(machine):
    text = draw(machine)
    lines = text.splitlines()
    assert lines[0].startswith(machine.name)
    at = {
        line.split()[0]: number
        for number, line in enumerate(lines)
        if line.startswith("  ") and line[2] != " "
    }
    assert set(at) == set(machine.table)
    for state, rows in machine.table.items():
        assert all(timer.letter in lines[at[state]] for timer in machine.timers.get(state, ()))
        drawn = lines[at[state] + 1 : at[state] + 1 + len(rows)]
        for line, (event, (action, after)) in zip(drawn, rows.items(), strict=True):
            assert line.split() == [*str(event).split(), action.__name__, "->", after]


def reachable(machine, state, by_timers=False):
    """Return the states that rows lead to from a state, itself included."""
    found = {machine.start[1]} if state is machine.start[1] else set()
    ahead = [state]
    while ahead:
        for event, (_, after) in machine.table[ahead.pop()].items():
            if after not in found and (isinstance(event, Timer) or not by_timers):
                found.add(after)
                ahead.append(after)
    return found
