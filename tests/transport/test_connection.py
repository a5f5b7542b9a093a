"""The state table of connections, without sockets: rules that every row keeps."""

from __future__ import annotations

import pytest

from sippet_gevent import StreamLimits
from sippet_gevent.transport.stream import connection as module
from sippet_gevent.transport.stream.connection import CLOSED, LINGERING, OPEN
from sippet_gevent.transport.stream.state import State

STATES = [row for row in vars(module).values() if isinstance(row, State)]

each_state = pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)


def test_table_has_eight_states_with_names_of_their_own():
    assert len({state.name for state in STATES}) == len(STATES) == 8


@each_state
def test_messages_of_a_state_wait_or_are_sent_but_not_both(state):
    assert not (state.holds and state.sends)


@each_state
def test_state_before_open_has_a_deadline_that_is_counted(state):
    if state.holds:
        assert state.own_deadline or state.peer_deadline
        assert state.late.reason


@each_state
def test_deadline_of_a_state_is_a_limit_in_seconds(state):
    for deadline in filter(None, (state.own_deadline, state.peer_deadline)):
        assert deadline(StreamLimits()) > 0


@each_state
def test_counter_of_a_missed_deadline_is_in_snake_case(state):
    reason = state.late.reason
    assert reason is None or (reason.isidentifier() and reason == reason.lower())


def test_only_an_open_connection_is_whole():
    assert [state for state in STATES if state.is_whole] == [OPEN]


def test_lingering_and_closed_connections_neither_read_nor_send():
    assert not any(state.reads or state.sends or state.holds for state in (LINGERING, CLOSED))
