"""Invariants of all machines, for any events at any times, with Hypothesis."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sippet_gevent.errors import SIPError, TransactionStateError, TransportError
from sippet_gevent.message.message import Request, Response
from sippet_gevent.message.parser import parse
from sippet_gevent.transaction.fsm import NEVER, Transaction
from sippet_gevent.transaction.machines import (
    ACCEPTED,
    DELIVER,
    FAIL,
    INVITE_CLIENT,
    LOCAL,
    MACHINES,
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
)
from sippet_gevent.transaction.timers import Timers

EXPIRE = "expire"
STATUSES = {
    RECV_1XX: (100, 180, 183),
    RECV_2XX: (200, 202),
    RECV_300_UP: (302, 404, 486, 603),
    SEND_1XX: (100, 180, 183),
    SEND_2XX: (200, 202),
    SEND_300_UP: (302, 404, 486, 603),
}
EVENTS = (*STATUSES, RECV_REQUEST, RECV_ACK, SEND_NOTHING, TRANSPORT_ERROR, EXPIRE)

timer_sets = st.sampled_from(
    [
        Timers(),
        Timers(t1=0.1, t2=1.0, t4=0.5, trying=0.0, core_invite=1.0, core_non_invite=0.5),
        Timers(t1=3.0, t2=2.0, t4=70.0, trying=9.0, core_invite=8.0),
        Timers(b=0, d=0, f=0, h=0, i=0, j=0, k=0, l=0, m=0),
    ]
)
pauses = st.sampled_from([0, 0, 0, 1e-9, 0.05, 0.2, 0.5, 1.0, 4.0, 31.9, 32.0, 500.0]) | st.floats(
    0, 40
)
steps = st.lists(st.tuples(pauses, st.sampled_from(EVENTS), st.integers(0, 3)), max_size=25)

REQUESTS = {
    method: Request(
        method,
        "sip:bob@b.example",
        via="SIP/2.0/UDP a.example;branch=z9hG4bKany",
        from_="<sip:alice@a.example>;tag=a",
        to="<sip:bob@b.example>",
        call_id="any",
        cseq=f"1 {method}",
        max_forwards=70,
    )
    for method in ("INVITE", "OPTIONS")
}


class Watch:
    """A transaction and its effects so far. Each step checks the invariants."""

    def __init__(self, machine, reliable, timers):
        self.machine = machine
        self.request = REQUESTS["INVITE" if machine.is_invite else "OPTIONS"]
        self.tx = Transaction(machine, "key", self.request, reliable=reliable, timers=timers)
        self.sent: list[bytes] = []
        self.delivered: list[Request | Response] = []
        self.failures: list[SIPError] = []
        self.now = 1000.0
        self.take(self.tx.start(self.now))

    def take(self, effects):
        for kind, payload in effects:
            if kind is SEND:
                assert isinstance(payload, bytes)
                self.sent.append(payload)
            elif kind is DELIVER:
                self.delivered.append(payload)
            else:
                assert kind is FAIL
                assert isinstance(payload, SIPError)
                self.failures.append(payload)
        tx = self.tx
        assert tx.deadline == min(tx.running.values(), default=NEVER)
        if tx.state is TERMINATED:
            assert not tx.running
        self.check_responses()

    def check_responses(self):
        """Check that no two different final responses are sent (§17.2.1, §17.2.2)."""
        if self.machine.is_client:
            return
        finals = {data for data in self.sent if data[8:9] > b"1"}
        refusals = {data for data in finals if data[8:9] > b"2"}
        if self.machine.is_invite:
            # Several 2xx may be passed in Accepted (RFC 6026 §7.1): those of a fork at a proxy.
            assert len(refusals) <= 1
            assert not refusals or finals == refusals
        else:
            assert len(finals) <= 1

    def step(self, pause, event, number):
        self.now += pause
        if event is EXPIRE:
            self.take(self.tx.expire(self.now))
            assert self.tx.deadline > self.now
            return
        tx = self.tx
        before = self.snapshot()
        allowed = event in self.machine.table[tx.state]
        if event in LOCAL and not allowed:
            with pytest.raises(TransactionStateError):
                tx.handle(event, self.now, self.message(event, number))
            assert self.snapshot() == before
            return
        effects = tx.handle(event, self.now, self.message(event, number))
        if before[0] is TERMINATED:
            assert effects == ()
        if allowed:
            assert tx.deadline > self.now  # a timer of length zero fires at once
        else:
            assert self.snapshot() == before
        self.take(effects)

    def message(self, event, number):
        if event in STATUSES:
            statuses = STATUSES[event]
            return self.request.response(statuses[number % len(statuses)], f"number {number}")
        if event is TRANSPORT_ERROR:
            return TransportError("unreachable")
        if event is RECV_ACK:
            return self.request.ack(self.request.response(486))
        return self.request

    def snapshot(self):
        tx = self.tx
        return tx.state, tx.last, tx.running, tx.deadline, tx.quiet_until

    def run_out(self):
        """Let the remaining deadlines pass. The user of a ringing INVITE refuses it in the end."""
        for _ in range(1000):
            if self.tx.state is TERMINATED:
                return
            if self.tx.deadline == NEVER:
                assert (self.machine, self.tx.state) == (INVITE_CLIENT, PROCEEDING)
                self.step(0, RECV_300_UP, 0)
            else:
                self.now = max(self.now, self.tx.deadline)
                self.take(self.tx.expire(self.now))
        raise AssertionError(f"{self.tx!r} does not end")


each_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
any_life = given(reliable=st.booleans(), timers=timer_sets, steps=steps)


def live(machine, reliable, timers, steps):
    watch = Watch(machine, reliable, timers)
    for step in steps:
        watch.step(*step)
    return watch


@each_machine
@any_life
@settings(max_examples=100, deadline=None)
@pytest.mark.rfc("3261 17")
def test_transaction_ends_in_time_and_is_silent_afterwards(machine, reliable, timers, steps):
    watch = live(machine, reliable, timers, steps)
    watch.run_out()
    sent, delivered, failures = len(watch.sent), len(watch.delivered), len(watch.failures)
    for event in EVENTS:
        watch.step(1, event, 0)
    assert (sent, delivered, failures) == (
        len(watch.sent),
        len(watch.delivered),
        len(watch.failures),
    )
    assert (watch.tx.state, watch.tx.deadline) == (TERMINATED, NEVER)


@pytest.mark.parametrize(
    "machine",
    [machine for machine in MACHINES if machine.is_client],
    ids=lambda machine: machine.name,
)
@any_life
@settings(max_examples=100, deadline=None)
@pytest.mark.rfc("3261 17.1")
@pytest.mark.rfc("6026 8.4")
def test_client_transaction_reports_exactly_one_end(machine, reliable, timers, steps):
    watch = live(machine, reliable, timers, steps)
    assert ends(watch) <= 1
    watch.run_out()
    assert ends(watch) == 1
    assert ends_of_kind(watch) in ("2xx", "300-699", "failure")


def ends(watch):
    """Return how many ends the user has got. A further 2xx of a forked INVITE is no further end."""
    statuses = finals(watch)
    if watch.machine.is_invite:
        statuses = statuses[:1] + [status for status in statuses[1:] if status >= 300]
    return len(statuses) + len(watch.failures)


def finals(watch):
    return [response.status for response in watch.delivered if response.status >= 200]


def ends_of_kind(watch):
    if watch.failures:
        return "failure"
    return "2xx" if finals(watch)[0] < 300 else "300-699"


@pytest.mark.parametrize(
    "machine",
    [machine for machine in MACHINES if machine.is_client],
    ids=lambda machine: machine.name,
)
@any_life
@settings(max_examples=100, deadline=None)
@pytest.mark.rfc("3261 17.1.1.2")
def test_client_transaction_sends_its_request_and_at_most_one_ack(machine, reliable, timers, steps):
    watch = live(machine, reliable, timers, steps)
    watch.run_out()
    first = watch.sent[0]
    assert first == bytes(watch.request)
    others = {data for data in watch.sent if data != first}
    if watch.machine.is_invite and ends_of_kind(watch) == "300-699":
        assert [parse(data).method for data in others] == ["ACK"]  # type: ignore[union-attr]
    else:
        assert not others
    if reliable:
        assert watch.sent.count(first) == 1
    # Once the ACK is out, the INVITE never is again.
    acks = [number for number, data in enumerate(watch.sent) if data != first]
    assert not acks or first not in watch.sent[acks[0] :]


@pytest.mark.parametrize(
    "machine",
    [machine for machine in MACHINES if not machine.is_client],
    ids=lambda machine: machine.name,
)
@any_life
@settings(max_examples=100, deadline=None)
@pytest.mark.rfc("3261 17.2.1")
@pytest.mark.rfc("3261 17.2.2")
def test_server_transaction_delivers_its_request_once_and_acks_to_a_2xx(
    machine, reliable, timers, steps
):
    watch = Watch(machine, reliable, timers)
    for step in steps:
        before = watch.tx.state
        delivered = len(watch.delivered)
        watch.step(*step)
        if len(watch.delivered) > delivered:
            assert (before, step[1]) == (ACCEPTED, RECV_ACK)
    watch.run_out()
    assert watch.delivered[0] is watch.request
    assert all(request.method == "ACK" for request in watch.delivered[1:])


@pytest.mark.parametrize(
    "machine",
    [machine for machine in MACHINES if not machine.is_client],
    ids=lambda machine: machine.name,
)
@any_life
@settings(max_examples=100, deadline=None)
@pytest.mark.rfc("3261 17.2.1")
@pytest.mark.rfc("4320 4.2")
def test_server_transaction_sends_no_provisional_after_a_final_response(
    machine, reliable, timers, steps
):
    watch = live(machine, reliable, timers, steps)
    watch.run_out()
    classes = [data[8:9] for data in watch.sent]
    finals = [number for number, kind in enumerate(classes) if kind > b"1"]
    assert not finals or b"1" not in classes[finals[0] :]
    if not machine.is_invite:
        assert not any(data.startswith(b"SIP/2.0 408") for data in watch.sent)
