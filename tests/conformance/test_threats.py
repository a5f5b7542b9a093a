"""Threats to cores, rows T22 to T38: forged responses and CANCELs; cores that raise, are silent, or are too many."""

from __future__ import annotations

import logging

import pytest
from gevent.event import Event

from sippet_gevent import Limits, Reject, Request, TransactionStateError, TransactionTimeout
from sippet_gevent.testing import CLIENT, SERVER

from ..core.wire import Peer, times

CALLER = "10.0.0.50"
CALLEE = "10.0.0.60"
STRANGER = "10.0.0.66"


@pytest.fixture
def peer(sip):
    return Peer(sip, CALLER)


@pytest.fixture
def stranger(sip):
    return Peer(sip, STRANGER)


# ---- T22: forged responses


class Pending:
    """A pending OPTIONS whose callee has not answered yet."""

    def __init__(self, sip):
        self.sip = sip
        self.callee = Peer(sip, CALLEE)
        self.tx = sip.client.send(Request("OPTIONS", self.callee.uri))
        sip.settle()
        self.request = self.callee.last("OPTIONS")

    def forged(self, via):
        """Return a 200 with another top Via than that of the request."""
        response = self.request.response(200)
        response.headers["Via"] = [via]
        return response

    @property
    def outcome(self):
        """Return whether the request is pending, and what the sender has dropped."""
        return self.tx.is_pending, self.sip.client.stats()["dropped"]


@pytest.fixture
def pending(sip):
    pending = Pending(sip)
    yield pending
    pending.callee.reply(pending.request, 200)


@pytest.mark.rfc("3261 18.1.2")
def test_response_from_another_address_is_dropped(pending, stranger):
    stranger.send(pending.request.response(200), to=CLIENT)
    assert pending.outcome == (True, {"response_source_mismatch": 1})


def test_response_from_another_address_can_be_allowed(sip, stranger):
    callee = Peer(sip, CALLEE)
    stack = sip.stack(host="10.0.0.70", limits=Limits(any_response_source=True))
    tx = stack.send(Request("OPTIONS", callee.uri))
    sip.settle()
    stranger.send(callee.last("OPTIONS").response(200), to="10.0.0.70")
    assert tx.final_response.status == 200


def test_response_from_another_port_of_the_callee_is_taken(sip, pending):
    other = sip.network.transport()
    other.start((CALLEE, 6060), lambda data, flow: None)
    other.connect((CLIENT, 5060)).send(bytes(pending.request.response(200)))
    sip.settle()
    assert pending.tx.final_response.status == 200


@pytest.mark.rfc("3261 17.1.3")
def test_response_with_another_branch_is_dropped(pending):
    pending.callee.send(
        pending.forged(f"SIP/2.0/UDP {CLIENT}:5060;branch=z9hG4bKguessed"), to=CLIENT
    )
    assert pending.outcome == (True, {"stray_response": 1})


@pytest.mark.rfc("3261 18.1.2")
@pytest.mark.parametrize("sent_by", [f"{CLIENT}:5061", f"{STRANGER}:5060", "example.com"])
def test_response_with_a_sent_by_that_is_not_ours_is_dropped(pending, sent_by):
    pending.callee.send(
        pending.forged(f"SIP/2.0/UDP {sent_by};branch={pending.request.via[0].branch}"), to=CLIENT
    )
    assert pending.outcome == (True, {"stray_response": 1})


@pytest.mark.rfc("3261 17.1.3")
def test_response_with_another_method_in_cseq_is_dropped(pending):
    response = pending.request.response(200)
    response.headers["CSeq"] = [f"{pending.request.cseq.number} MESSAGE"]
    pending.callee.send(response, to=CLIENT)
    assert pending.outcome == (True, {"stray_response": 1})


def test_branches_cannot_be_guessed(sip):
    callee = Peer(sip, CALLEE, answer=lambda request: 200)
    for _ in range(20):
        sip.run(sip.client.request, "OPTIONS", callee.uri)
    branches = {request.via[0].branch for request in callee.requests}
    assert len(branches) == 20
    assert all(len(branch) >= len("z9hG4bK") + 32 for branch in branches)  # 128 bits, in hex


# ---- T23: forged CANCELs


def ringing(request, tx):
    tx.respond(180)
    tx.wait(30)
    return 486


@pytest.fixture
def rings(sip, peer):
    """A ringing call."""
    sip.serve(ringing)
    invite = peer.ask("INVITE")
    yield invite
    sip.advance(60)


@pytest.mark.rfc("3261 9.2")
def test_cancel_from_another_address_is_481_and_cancels_nothing(sip, peer, stranger, rings):
    stranger.send(rings.cancel())
    assert [(c.destination[0]) for c in sip.network.trace if b" 481 " in c.data[:16]] == [STRANGER]
    assert peer.statuses == [180]


@pytest.mark.rfc("3261 9.2")
def test_cancel_with_another_branch_is_481_and_cancels_nothing(peer, rings):
    cancel = rings.cancel()
    cancel.headers["Via"] = [f"SIP/2.0/UDP {CALLER}:5060;branch=z9hG4bKguessed"]
    peer.send(cancel)
    assert peer.statuses == [180, 481]


@pytest.mark.rfc("3261 17.2.3")
def test_cancel_with_another_sent_by_is_481_and_cancels_nothing(peer, rings):
    cancel = rings.cancel()
    cancel.headers["Via"] = [f"SIP/2.0/UDP {CALLER}:5070;branch={rings.via[0].branch};rport"]
    peer.send(cancel)
    assert peer.statuses == [180, 481]


# ---- T25: games with ACK


@pytest.mark.rfc("3261 17.2.1")
def test_ack_with_another_branch_does_not_stop_the_repetition_of_a_refusal(sip, peer):
    sip.serve(lambda request, tx: 486 if request.method == "INVITE" else None)
    invite = peer.ask("INVITE")
    ack = invite.ack(peer.responses[0])
    ack.headers["Via"] = [f"SIP/2.0/UDP {CALLER}:5060;branch=z9hG4bKother"]
    peer.send(ack)
    sip.advance(2)
    assert times(sip, "486", SERVER) == [0.0, 0.5, 1.5]


def test_flood_of_acks_is_never_answered(sip, peer):
    stack = sip.stack(host=SERVER)
    for _ in range(100):
        peer.ask("ACK", to=f"<sip:bob@{SERVER}>;tag=x")
    assert (peer.received, stack.stats()["dropped"]) == ([], {"stray_ack": 100})


# ---- T34: a core raises


def crash(request, tx):
    if request.method == "INFO":
        raise LookupError("a bug of the core's")
    return 200


@pytest.mark.parametrize("method", ["INVITE", "INFO", "MESSAGE"])
def test_core_that_raises_is_answered_500(sip, peer, method):
    def core(request, tx):
        raise LookupError("a bug of the core's")

    sip.serve(core)
    peer.ask(method)
    assert peer.statuses == [500]


def test_core_that_raises_is_one_line_with_its_traceback_in_the_log(sip, peer, caplog):
    sip.serve(crash)
    with caplog.at_level(logging.INFO):
        peer.ask("INFO")
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.name == "sippet_gevent.core"
    assert "LookupError: a bug of the core's" in caplog.text
    assert "in crash" in caplog.text


def test_core_that_always_raises_does_not_fill_the_disk(sip, peer, caplog):
    sip.serve(crash)
    for _ in range(100):
        peer.ask("INFO")
    assert sum(bool(record.exc_info) for record in caplog.records) <= 20


def test_core_that_raises_is_counted_and_the_next_request_is_served(sip, peer):
    stack = sip.serve(crash)
    peer.ask("INFO")
    peer.ask("MESSAGE")
    assert (peer.statuses, stack.stats()["core_errors"]) == ([500, 200], 1)


def test_core_that_raises_hides_its_error_from_the_peer(sip, peer):
    sip.serve(crash)
    peer.ask("INFO")
    assert b"bug" not in bytes(peer.responses[0])


def test_core_that_raises_after_its_answer_changes_nothing_on_the_wire(sip, peer):
    def core(request, tx):
        tx.respond(202)
        raise LookupError("a bug of the core's")

    sip.serve(core)
    peer.ask("MESSAGE")
    assert peer.statuses == [202]


def test_core_that_raises_after_waiting_is_answered_500(sip, peer):
    def core(request, tx):
        tx.wait(1)
        raise LookupError("a bug of the core's")

    sip.serve(core)
    peer.ask("MESSAGE")
    sip.advance(1)
    assert peer.statuses == [500]


# ---- T35: a core is silent


class Silent:
    """A core that blocks in foreign code until released, and then calls the library three times."""

    def __init__(self):
        self.go = Event()
        self.met = []

    def __call__(self, request, tx):
        if request.method == "ACK":
            return
        self.go.wait()
        for _ in range(2):
            try:
                tx.respond(200)
            except (TransactionTimeout, TransactionStateError) as error:
                self.met.append(type(error))


@pytest.fixture
def silent(sip):
    silent = Silent()
    silent.stack = sip.serve(silent)
    yield silent
    silent.go.set()
    sip.settle()


@pytest.mark.parametrize(
    ("method", "status", "seconds"),
    [("INVITE", 408, 215), pytest.param("MESSAGE", 500, 30, marks=pytest.mark.rfc("4320 4.2"))],
)
def test_silent_core_is_answered_by_the_stack(sip, peer, silent, method, status, seconds):
    peer.ask(method)
    sip.advance(seconds - 0.1)
    before = {s for s in peer.statuses if s >= 200}
    sip.advance(0.2)
    assert (before, peer.statuses[-1]) == (set(), status)


@pytest.mark.rfc("3261 17.2.1")
def test_invite_of_a_silent_core_gets_100(sip, peer, silent):
    peer.ask("INVITE")
    sip.advance(10)
    assert peer.statuses == [100]


@pytest.mark.rfc("4320 4.1")
def test_non_invite_of_a_silent_core_gets_100_after_3_5_seconds(sip, peer, silent):
    peer.ask("MESSAGE")
    sip.advance(3.4)
    assert peer.statuses == []
    sip.advance(0.2)
    assert peer.statuses == [100]


@pytest.mark.parametrize(("method", "seconds"), [("INVITE", 216), ("MESSAGE", 31)])
def test_silent_core_gets_one_timeout_and_then_a_state_error(sip, peer, silent, method, seconds):
    peer.ask(method)
    sip.advance(seconds)
    silent.go.set()
    sip.settle()
    assert silent.met == [TransactionTimeout, TransactionStateError]


def test_silent_core_is_not_killed_and_counts_as_overdue_until_it_returns(sip, peer, silent):
    peer.ask("MESSAGE")
    sip.advance(100)
    running = silent.stack.stats()["overdue"]
    silent.go.set()
    sip.settle()
    assert (running, silent.stack.stats()["overdue"]) == (1, 0)


def test_silent_core_holds_no_transaction(sip, peer, silent):
    peer.ask("MESSAGE")
    sip.advance(100)
    assert silent.stack.stats()["server_transactions"] == 0


def test_core_that_returns_too_late_is_counted(sip, peer):
    go = Event()
    stack = sip.serve(lambda request, tx: go.wait() and 200)
    peer.ask("MESSAGE")
    sip.advance(31)
    go.set()
    sip.settle()
    assert (peer.statuses[-1], stack.stats()["late_answers"]) == (500, 1)


# ---- T37: a core answers twice, or too late


@pytest.mark.parametrize("second", [200, 486, 500])
def test_second_final_response_is_refused_here_and_the_wire_is_unaffected(sip, peer, second):
    met = []

    def core(request, tx):
        tx.respond(404)
        try:
            tx.respond(second)
        except TransactionStateError as error:
            met.append(str(error))

    sip.serve(core)
    peer.ask("MESSAGE")
    assert (peer.statuses, len(met)) == ([404], 1)


def test_status_returned_after_an_answer_is_counted_and_not_sent(sip, peer):
    stack = sip.serve(lambda request, tx: tx.respond(404) or 200)
    peer.ask("MESSAGE")
    assert (peer.statuses, stack.stats()["late_answers"]) == ([404], 1)


def test_reject_raised_after_an_answer_changes_nothing(sip, peer):
    def core(request, tx):
        tx.respond(404)
        raise Reject(500)

    sip.serve(core)
    peer.ask("MESSAGE")
    assert peer.statuses == [404]


# ---- T38: too many


class Slow:
    """A core that waits, with the number of its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, request, tx):
        self.calls += 1
        tx.wait(1)
        return 200


@pytest.fixture
def slow(sip):
    slow = Slow()
    slow.stack = sip.serve(slow, limits=Limits(handlers=3, retry_after=(2, 4)))
    return slow


def test_request_beyond_the_handlers_is_503_and_no_core_sees_it(peer, slow):
    for _ in range(5):
        peer.ask("MESSAGE")
    assert (peer.statuses, slow.calls) == ([503, 503], 3)


@pytest.mark.rfc("3261 21.5.4")
def test_503_has_a_random_retry_after(peer, slow):
    for _ in range(60):
        peer.ask("MESSAGE")
    assert {response.retry_after.seconds for response in peer.responses} == {2, 3, 4}


def test_request_is_served_again_when_handlers_are_free(sip, peer, slow):
    for _ in range(5):
        peer.ask("MESSAGE")
    sip.advance(1.1)
    peer.received.clear()
    peer.ask("MESSAGE")
    sip.advance(1.1)
    assert peer.statuses == [200]


def test_retransmission_is_absorbed_while_all_handlers_are_taken(peer, slow):
    requests = [peer.ask("MESSAGE") for _ in range(3)]
    peer.send(requests[0])
    assert (peer.statuses, slow.stack.stats()["absorbed"]) == ([], 1)


def test_cancel_passes_while_all_handlers_are_taken(peer, slow):
    invites = [peer.ask("INVITE") for _ in range(3)]
    peer.send(invites[0].cancel())
    assert peer.statuses == [200, 487]


def test_refused_request_leaves_no_transaction(peer, slow):
    for _ in range(5):
        peer.ask("MESSAGE")
    assert slow.stack.stats()["server_transactions"] == 3


# ---- every message ends in one counter


def gone(peer):
    return peer.request("OPTIONS").response(200)


@pytest.mark.parametrize(
    ("make", "counter"),
    [
        pytest.param(lambda peer: peer.request("MESSAGE"), "delivered", id="request"),
        pytest.param(lambda peer: peer.request("FROBNICATE"), "delivered", id="unknown method"),
        pytest.param(
            lambda peer: peer.request("MESSAGE", "mailto:x@y"), "delivered", id="unknown scheme"
        ),
        pytest.param(
            lambda peer: peer.request("INVITE").cancel(), "answered", id="CANCEL of nothing"
        ),
        pytest.param(
            lambda peer: bytes(peer.request("MESSAGE")).replace(b"Forwards: 70", b"Forwards: x"),
            "answered",
            id="bad header",
        ),
        pytest.param(
            lambda peer: bytes(peer.request("MESSAGE")).replace(b"SIP/2.0\r", b"SIP/3.0\r", 1),
            "answered",
            id="version",
        ),
        pytest.param(lambda peer: peer.request("ACK"), "stray_ack", id="ACK"),
        pytest.param(gone, "stray_response", id="response"),
        pytest.param(lambda peer: b"\r\n\r\n", "keepalive", id="keepalive"),
        pytest.param(lambda peer: b"rubbish", "bad_message", id="rubbish"),
        pytest.param(lambda peer: b"SIP/2.0 200 OK\r\n\r\n", "bad_response", id="bad_response"),
    ],
)
def test_message_ends_in_exactly_one_counter(sip, peer, make, counter):
    stack = sip.stack(host=SERVER)
    stack.on("MESSAGE")(lambda request, tx: 200)
    message = make(peer)
    peer.send(message)
    stats = stack.stats()
    ends = {
        name: stats[name] for name in ("delivered", "answered", "absorbed") if stats[name]
    } | stats["dropped"]
    assert (stats["received"], ends) == (1, {counter: 1})


def test_retransmission_ends_in_absorbed(sip, peer):
    stack = sip.serve(lambda request, tx: 200)
    request = peer.ask("MESSAGE")
    peer.send(request)
    stats = stack.stats()
    assert (stats["received"], stats["delivered"], stats["absorbed"]) == (2, 1, 1)


def test_ack_to_a_refusal_ends_in_absorbed(sip, peer):
    stack = sip.serve(lambda request, tx: 486)
    invite = peer.ask("INVITE")
    peer.send(invite.ack(peer.responses[0]))
    stats = stack.stats()
    assert (stats["received"], stats["delivered"], stats["absorbed"]) == (2, 1, 1)


def test_message_that_crashes_a_core_is_delivered_once(sip, peer):
    stack = sip.serve(crash)
    peer.ask("INFO")
    stats = stack.stats()
    assert (stats["received"], stats["delivered"], stats["dropped"]) == (1, 1, {})


@pytest.mark.rfc("3261 17.2.1")
def test_internal_error_before_the_core_leaves_no_transaction(sip, peer, monkeypatch):
    stack = sip.serve(lambda request, tx: 200)

    def fails(request, core):
        raise LookupError("a fault of ours")

    monkeypatch.setattr(stack.dialogs, "core_for", fails)
    peer.ask("INVITE", to="<sip:bob@10.0.0.1>;tag=1")
    assert len(stack.engine.crashes) == 1
    sip.advance(250)
    assert stack.stats()["server_transactions"] == 0
    stack.engine.crashes.clear()
