"""ServerTransaction: responses of a core, and the answers to what it returns or raises, RFC 3261 §8.2 and §13.3."""

from __future__ import annotations

import gc

import gevent
import pytest
from gevent.event import AsyncResult, Event

from sippet_gevent import (
    Cancelled,
    InvalidValue,
    ParseError,
    Reject,
    Request,
    SIPError,
    Stack,
    TransactionStateError,
    TransactionTimeout,
    TransportError,
    forward,
)
from sippet_gevent.runtime.clock import Clock
from tests.conditions import PATIENCE, until

from .wire import Peer, sent, times

# ---- what a core returns


def test_status_that_a_core_returns_is_the_answer(sip):
    assert sip.ask(lambda request, tx: 200, "OPTIONS sip:bob@example.com").statuses == [200]


def test_response_that_a_core_returns_is_the_answer(sip):
    asked = sip.ask(
        lambda request, tx: request.response(302, contact="<sip:bob@elsewhere.com>"),
        "INVITE sip:bob@example.com",
    )
    assert str(asked.response.contact[0].uri) == "sip:bob@elsewhere.com"


def test_core_that_has_answered_returns_none(sip):
    assert sip.ask(lambda request, tx: tx.respond(204), "MESSAGE sip:bob@example.com").statuses == [
        204
    ]


@pytest.mark.parametrize("rubbish", ["200", 42, 700, True, object(), 180, b"SIP/2.0 200 OK", {}])
def test_invalid_result_of_a_core_is_answered_500(sip, rubbish):
    assert sip.ask(lambda request, tx: rubbish, "INVITE sip:bob@example.com").statuses == [500]


def test_core_that_returns_none_without_answer_is_answered_500(sip):
    assert sip.ask(lambda request, tx: None, "OPTIONS sip:bob@example.com").statuses == [500]


def test_core_that_only_rings_and_returns_is_answered_500(sip):
    assert sip.ask(lambda request, tx: tx.respond(180), "INVITE sip:bob@example.com").statuses == [
        180,
        500,
    ]


# ---- what a core raises


def name_of(value):
    return type(value).__name__ if isinstance(value, BaseException) else str(value)


def fail_with(error):
    def core(request, tx):
        raise error

    return core


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Reject(403), 403),
        (Reject(302, contact="<sip:bob@elsewhere.com>"), 302),
        (ParseError("no comma", header="Contact"), 500),  # not said of the request
        (TransactionTimeout("no answer"), 408),
        (TransportError("no way"), 503),
        (SIPError("something"), 500),
        (InvalidValue("CR in it"), 500),
        (RuntimeError("bug"), 500),
        (KeyError("bug"), 500),
        (gevent.Timeout(5), 500),
        (gevent.GreenletExit(), 500),
    ],
    ids=name_of,
)
def test_exception_of_a_core_becomes_a_status(sip, error, status):
    assert sip.ask(fail_with(error), "INVITE sip:bob@example.com").statuses == [status]


def test_refusal_carries_its_reason_and_headers(sip):
    asked = sip.ask(
        fail_with(Reject(405, "Not Here", allow=("OPTIONS",))), "INVITE sip:bob@example.com"
    )
    assert (asked.response.reason, asked.response.allow) == ("Not Here", ("OPTIONS",))


def test_refusal_with_a_header_that_does_not_exist_is_500(sip):
    assert sip.ask(fail_with(Reject(405, colour="red")), "INVITE sip:bob@example.com").statuses == [
        500
    ]


def test_core_that_is_killed_is_answered_500(sip):
    workers = []

    def core(request, tx):
        workers.append(gevent.getcurrent())
        tx.wait(100)

    asked = sip.ask(core, "INVITE sip:bob@example.com")
    gevent.kill(workers[0])
    assert asked.statuses == [500]


def test_core_may_try_again_after_a_response_that_cannot_be_made(sip):
    def core(request, tx):
        with pytest.raises(InvalidValue):
            tx.respond(200, server="a\r\nb")
        return 486

    assert sip.ask(core, "INVITE sip:bob@example.com").statuses == [486]


# ---- what a core may not do


def outcome(sip, what, *, core):
    """Run a core once and return the error it met."""
    errors = []

    def guarded(request, tx):
        try:
            core(request, tx)
        except SIPError as error:
            errors.append(error)

    asked = sip.ask(guarded, what)
    sip.settle()
    return asked, errors[0] if errors else None


def test_second_final_response_is_refused_and_does_not_reach_the_wire(sip):
    asked, error = outcome(
        sip, "INVITE sip:bob@example.com", core=lambda r, tx: (tx.respond(486), tx.respond(200))
    )
    assert isinstance(error, TransactionStateError)
    assert asked.statuses == [486]


def test_provisional_response_after_the_final_one_is_refused(sip):
    _, error = outcome(
        sip, "INVITE sip:bob@example.com", core=lambda r, tx: (tx.respond(486), tx.respond(180))
    )
    assert isinstance(error, TransactionStateError)


@pytest.mark.rfc("4320 4.1")
@pytest.mark.parametrize("status", [100, 180, 183])
def test_provisional_response_to_another_method_is_refused(sip, status):
    asked, error = outcome(
        sip, "MESSAGE sip:bob@example.com", core=lambda r, tx: tx.respond(status)
    )
    assert isinstance(error, TransactionStateError)


@pytest.mark.rfc("4320 4.2")
def test_408_to_another_method_is_never_sent(sip):
    sip.ask(lambda request, tx: 408, "MESSAGE sip:bob@example.com")
    sip.advance(40)
    assert "408" not in sent(sip)


def test_only_an_invite_is_accepted(sip):
    _, error = outcome(sip, "OPTIONS sip:bob@example.com", core=lambda r, tx: tx.accept())
    assert isinstance(error, TransactionStateError)


def test_ack_is_never_answered(sip):
    errors = []

    def core(request, tx):
        with pytest.raises(TransactionStateError) as raised:
            tx.respond(200)
        errors.append(raised.value)

    sip.serve(core)
    Peer(sip, "10.0.0.50").ask("ACK", to="<sip:bob@10.0.0.1>;tag=1")
    assert len(errors) == 1
    assert sent(sip) == ["ACK"]


def test_core_that_raises_at_an_ack_is_no_internal_error(sip):
    stack = sip.serve(fail_with(RuntimeError("bug")))
    Peer(sip, "10.0.0.50").ask("ACK", to="<sip:bob@10.0.0.1>;tag=1")
    assert stack.stats()["core_errors"] == 1


def test_timeout_that_leaves_a_core_at_an_ack_ends_there(sip):
    stack = sip.serve(fail_with(gevent.Timeout(5)))
    Peer(sip, "10.0.0.50").ask("ACK", to="<sip:bob@10.0.0.1>;tag=1")
    assert stack.stats()["handlers"] == 0


# ---- what the responses carry


@pytest.mark.rfc("3261 8.2.6.2")
def test_all_responses_to_a_request_have_one_to_tag(sip):
    def core(request, tx):
        tx.respond(180)
        tx.respond(183)
        return 486

    tags = {response.to.tag for response in sip.ask(core, "INVITE sip:bob@example.com").responses}
    assert len(tags) == 1 and None not in tags


@pytest.mark.rfc("3261 12.1.1")
@pytest.mark.parametrize("status", [180, 183, 200])
def test_response_that_makes_a_dialog_has_a_contact_that_leads_here(sip, status):
    def core(request, tx):
        tx.respond(status)
        tx.wait(0.5)
        return 486

    asked = sip.ask(core, "INVITE sip:bob@example.com")
    assert str(asked.responses[0].contact[0].uri) == "sip:10.0.0.1:5060"


@pytest.mark.rfc("3261 12.1.1")
@pytest.mark.parametrize("status", [180, 200])
def test_response_that_makes_a_dialog_copies_record_route_in_order(sip, status):
    def core(request, tx):
        tx.respond(status)
        tx.wait(0.5)
        return 486

    routes = ("<sip:10.9.9.2;lr>", "<sip:10.9.9.1;lr;x=1>;y=2")
    asked = sip.ask(core, "INVITE sip:bob@example.com", record_route=routes)
    assert tuple(map(str, asked.responses[0].record_route)) == routes


def test_contact_of_the_core_s_own_stays(sip):
    asked = sip.ask(
        lambda r, tx: r.response(200, contact="<sip:me@192.0.2.1>"), "INVITE sip:bob@example.com"
    )
    assert str(asked.response.contact[0].uri) == "sip:me@192.0.2.1"


@pytest.mark.rfc("3261 8.2.6.1")
def test_100_of_the_stack_repeats_the_timestamp(sip):
    peer = Peer(sip, "10.0.0.50")
    sip.serve(lambda request, tx: tx.wait(3) or 486)
    peer.ask("INVITE", timestamp="54.2")
    sip.advance(0.3)
    assert str(peer.responses[0].timestamp) == "54.2"


@pytest.mark.rfc("3261 17.2.1")
def test_invite_that_a_core_thinks_about_gets_100_after_200_ms(sip):
    asked = sip.ask(lambda request, tx: tx.wait(3) or 486, "INVITE sip:bob@example.com")
    assert asked.statuses == []
    sip.advance(0.21)
    assert asked.statuses == [100]


@pytest.mark.rfc("3261 8.1.1.8")
def test_invite_without_contact_cannot_be_accepted(sip):
    peer = Peer(sip, "10.0.0.50")
    sip.serve(lambda request, tx: tx.accept())
    peer.ask("INVITE", contact=())
    assert peer.statuses == [400]


@pytest.mark.rfc("3261 12.2.2")
def test_invite_in_an_unknown_dialog_makes_no_call(sip):
    peer = Peer(sip, "10.0.0.50")
    stack = sip.serve(lambda request, tx: 200)
    peer.ask("INVITE", to="<sip:bob@10.0.0.1>;tag=long-gone")
    assert peer.statuses == [481]
    assert stack.stats()["calls"] == 0


# ---- waiting


def test_request_that_rings_keeps_its_bytes_alone_between_its_responses(sip):
    served = []

    def core(request, tx):
        served.append(request)
        tx.respond(180)
        tx.wait(100)
        tx.respond(183)  # as once a minute, §13.3.1.1
        tx.wait(100)
        return 486

    def rests():
        return kept(served[0].headers) <= {bytes}

    asked = sip.ask(core, "INVITE sip:bob@example.com", subject="lunch")
    assert not rests()
    sip.advance(0.3)
    assert rests()
    sip.advance(100)
    assert asked.statuses == [180, 183] and rests()
    assert served[0].subject == "lunch" and not rests()
    sip.advance(100)
    assert asked.statuses == [180, 183, 486]


def kept(headers):
    """Return the types of what header lines refer to."""
    return {type(each) for each in gc.get_referents(headers)} - {type, type(None)}


@pytest.fixture
def brief(monkeypatch):
    """A clock for which each wait is a long one."""
    monkeypatch.setattr(Clock, "long", -1.0)


@pytest.fixture
def waiting(brief):
    """Returns a function that asks a stack in real time, whose core waits, and the result of wait()."""
    with Stack("udp:127.0.0.1:0") as server, Stack("udp:127.0.0.1:0") as client:
        results = []

        def ask(wait):
            @server.on("INVITE")
            def core(request, tx):
                try:
                    results.append(wait(tx))
                except Cancelled:
                    results.append(Cancelled)
                    raise
                return 486

            tx = client.send(Request("INVITE", f"sip:{server.addresses[0].partition(':')[2]}"))
            return server, tx, results

        yield ask
        assert len(server.engine.workers.waits) == 0


def test_long_wait_of_a_core_is_over_in_time(waiting):
    _, tx, results = waiting(lambda tx: tx.wait(0.05))
    assert tx.final(timeout=PATIENCE).status == 486 and results == [False]


def test_event_ends_a_long_wait_of_a_core(waiting):
    event = Event()
    server, tx, results = waiting(lambda tx: tx.wait(100, until=event))
    until(lambda: len(server.engine.workers.waits))
    event.set()
    assert tx.final(timeout=PATIENCE).status == 486 and results == [True]


def test_cancel_ends_a_long_wait_of_a_core(waiting):
    server, tx, results = waiting(lambda tx: tx.wait(100))
    until(lambda: len(server.engine.workers.waits))
    tx.cancel()
    assert tx.final(timeout=PATIENCE).status == 487 and results == [Cancelled]


def test_timeout_of_the_application_ends_a_long_wait_of_a_core(waiting):
    def wait(tx):
        with gevent.Timeout(0.05, False):
            tx.wait(100)
        return "timeout"

    _, tx, results = waiting(wait)
    assert tx.final(timeout=PATIENCE).status == 486 and results == ["timeout"]


def test_wait_lets_time_pass(sip):
    asked = sip.ask(lambda request, tx: tx.wait(3) or 486, "INVITE sip:bob@example.com")
    sip.advance(2.9)
    assert asked.response is None
    sip.advance(0.2)
    assert asked.response.status == 486


def test_overdue_core_gets_the_error_at_its_next_call(sip):
    told = []

    def core(request, tx):
        try:
            tx.wait(1000)
        except TransactionTimeout as error:
            told.append(error)
            raise

    asked = sip.ask(core, "OPTIONS sip:bob@example.com")
    sip.advance(31)
    assert asked.statuses[-1:] == [500]
    assert len(told) == 1


def test_core_that_waits_gets_an_error_when_the_stack_stops(sip):
    told = []

    def core(request, tx):
        try:
            tx.wait(100)
        except TransportError as error:
            told.append(error)
            raise

    stack = sip.serve(core)
    sip.ask(stack, "INVITE sip:bob@example.com")
    stack.stop()
    sip.settle()
    assert len(told) == 1
    assert stack.stats()["handlers"] == 0


@pytest.mark.rfc("6026 8.8")
@pytest.mark.parametrize(
    "then",
    [lambda tx: tx.accept(), lambda tx: tx.respond(486), lambda tx: tx.wait(1) or tx.respond(486)],
)
def test_lost_provisional_response_is_counted_and_final_one_is_sent(sip, caplog, then):
    def core(request, tx):
        stack.engine.transports[0].failure = "no buffer space"
        tx.respond(180)
        stack.engine.transports[0].failure = None
        then(tx)

    stack = sip.serve(core)
    asked = sip.ask(stack, "INVITE sip:bob@example.com")
    sip.advance(2)
    assert asked.response.status in (200, 486)
    assert stack.stats()["send_errors"] == 1
    assert "no buffer space" in caplog.text
    if asked.call is not None:
        asked.call.hangup()


@pytest.mark.rfc("6026 8.8")
def test_100_that_is_lost_does_not_keep_a_slow_core_from_answering(sip):
    def core(request, tx):
        stack.engine.transports[0].failure = "connection reset"
        tx.wait(1)
        stack.engine.transports[0].failure = None
        tx.accept()

    stack = sip.serve(core)
    asked = sip.ask(stack, "INVITE sip:bob@example.com")
    sip.advance(1.1)
    assert asked.statuses == [200]
    asked.call.hangup()


@pytest.mark.rfc("6026 8.8")
def test_180_that_a_proxy_loses_does_not_end_its_branches(sip):
    callee = Peer(sip, "10.0.0.60")
    stack = sip.serve(lambda request, tx: forward(request, tx, "sip:bob@10.0.0.60"))
    caller = Peer(sip, "10.0.0.50")
    caller.ask("INVITE")
    stack.engine.transports[0].failure = "no buffer space"
    callee.reply(callee.last("INVITE"), 180)
    stack.engine.transports[0].failure = None
    callee.reply(callee.last("INVITE"), 486)
    assert (callee.methods, caller.statuses[-1]) == (["INVITE", "ACK"], 486)


# ---- accepting


def test_accept_returns_the_call_once_the_ack_is_there(sip):
    calls = []

    def core(request, tx):
        calls.append(tx.accept(body="answer"))

    asked = sip.ask(
        core, "INVITE sip:bob@example.com", body="offer", content_type="application/sdp"
    )
    assert (asked.statuses, calls[0].remote_body, asked.call.remote_body) == (
        [200],
        b"offer",
        b"answer",
    )


@pytest.mark.rfc("3261 13.3.1.4")
def test_200_is_repeated_until_ack_at_intervals_that_double_up_to_t2(sip):
    peer = Peer(sip, "10.0.0.50")
    sip.serve(lambda request, tx: 200)
    peer.ask("INVITE")
    sip.advance(31.9)
    assert times(sip, "200") == [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]


@pytest.mark.rfc("3261 13.3.1.4")
def test_200_is_not_repeated_after_the_ack(sip):
    peer = Peer(sip, "10.0.0.50")
    sip.serve(lambda request, tx: 200)
    invite = peer.ask("INVITE")
    peer.send(peer.within(invite, peer.responses[0], "ACK"))
    sip.advance(40)
    assert sent(sip).count("200") == 1


@pytest.mark.rfc("3261 13.3.1.4")
def test_call_without_ack_ends_with_bye_after_64_t1(sip):
    peer = Peer(sip, "10.0.0.50", answer=lambda request: 200)
    stack = sip.serve(lambda request, tx: 200)
    peer.ask("INVITE")
    sip.advance(31.9)
    assert "BYE" not in peer.methods
    sip.advance(0.2)
    assert peer.methods == ["BYE"]
    assert stack.stats()["calls"] == 0


@pytest.mark.rfc("3261 13.3.1.4")
def test_accept_raises_when_no_ack_comes(sip):
    errors = []

    def core(request, tx):
        try:
            tx.accept()
        except TransactionTimeout as error:
            errors.append(error)

    sip.serve(core)
    Peer(sip, "10.0.0.50", answer=lambda request: 200).ask("INVITE")
    sip.advance(33)
    assert len(errors) == 1


def test_bye_without_ack_is_sent_to_a_contact_with_a_name(sip):
    # The resolver may block, which the hub that counts the time must not.
    peer = Peer(sip, "127.0.0.1", answer=lambda request: 200)
    sip.serve(lambda request, tx: 200)
    peer.ask("INVITE", contact="<sip:peer@localhost>")
    sip.advance(33)
    gevent.get_hub().threadpool.join()  # where names are resolved
    sip.settle()
    assert peer.methods == ["BYE"]


@pytest.mark.rfc("3261 13.3.1.4")
def test_ack_with_another_number_is_not_the_ack(sip):
    peer = Peer(sip, "10.0.0.50")
    sip.serve(lambda request, tx: 200)
    invite = peer.ask("INVITE")
    peer.send(peer.within(invite, peer.responses[0], "ACK", number=7))
    sip.advance(0.6)
    assert peer.statuses == [200, 200]


def test_core_that_crashes_after_it_has_accepted_hangs_up(sip):
    def core(request, tx):
        tx.accept()
        raise RuntimeError("bug")

    asked = sip.ask(core, "INVITE sip:bob@example.com")
    assert asked.call.ended.is_set()


@pytest.mark.parametrize(
    "error",
    [Reject(403), TransactionTimeout("x"), gevent.Timeout(1), gevent.GreenletExit()],
    ids=name_of,
)
def test_core_that_is_left_by_an_error_after_it_has_accepted_hangs_up(sip, error):
    def core(request, tx):
        tx.accept()
        raise error

    assert sip.ask(core, "INVITE sip:bob@example.com").call.ended.is_set()


def test_core_that_returns_after_it_has_accepted_leaves_the_call_up(sip):
    asked = sip.ask(lambda request, tx: tx.accept() and None, "INVITE sip:bob@example.com")
    assert not asked.call.ended.is_set()
    asked.call.hangup()


@pytest.mark.rfc("3261 15")
def test_callee_s_bye_waits_for_the_ack(sip):
    calls = []

    def core(request, tx):
        tx.respond(200)
        tx.call.hangup()
        calls.append(tx.call)

    peer = Peer(sip, "10.0.0.50", answer=lambda request: 200)
    sip.serve(core)
    invite = peer.ask("INVITE")
    assert calls[0].ended.is_set()
    assert peer.methods == []
    peer.send(peer.within(invite, peer.responses[0], "ACK"))
    assert peer.methods == ["BYE"]


@pytest.mark.rfc("3261 13.3.1.4")
def test_200_is_repeated_after_the_callee_has_hung_up_until_the_ack(sip):
    sip.serve(lambda request, tx: tx.respond(200) or tx.call.hangup())
    peer = Peer(sip, "10.0.0.50", answer=lambda request: 200)
    peer.ask("INVITE")
    sip.advance(33)
    assert (
        sent(sip).count("200") == 12
    )  # eleven for the INVITE, one for the BYE that comes at the end
    assert peer.methods == ["BYE"]


@pytest.mark.rfc("3261 15.1.2")
def test_bye_before_the_ack_ends_the_call(sip):
    ends = []

    def core(request, tx):
        ends.append(tx.accept().wait(100))

    peer = Peer(sip, "10.0.0.50")
    sip.serve(core)
    invite = peer.ask("INVITE")
    peer.send(peer.within(invite, peer.responses[0], "BYE"))
    sip.advance(40)
    assert peer.statuses == [200, 200]
    assert ends == [True]


def test_stack_that_stops_sends_bye_without_waiting_for_the_ack(sip):
    peer = Peer(sip, "10.0.0.50", answer=lambda request: 200)
    stack = sip.serve(lambda request, tx: 200)
    peer.ask("INVITE")
    stack.stop()
    sip.settle()
    assert peer.methods == ["BYE"]


# ---- extensions


@pytest.mark.rfc("3261 8.2.2.3")
@pytest.mark.parametrize(
    "answer", [lambda r, tx: 200, lambda r, tx: r.response(200), lambda r, tx: tx.respond(200)]
)
def test_request_that_requires_what_we_lack_is_not_accepted(sip, answer):
    asked = sip.ask(answer, "OPTIONS sip:bob@example.com", require=("gruu", "precondition"))
    assert (asked.statuses, asked.response.unsupported) == ([420], ("gruu", "precondition"))


@pytest.mark.rfc("3261 8.2.2.3")
def test_request_that_requires_what_we_have_is_accepted(sip):
    stack = sip.stack(lambda request, tx: 200, supported=("timer",))
    assert sip.ask(stack, "OPTIONS sip:bob@example.com", require="Timer").statuses == [200]


@pytest.mark.rfc("3261 8.2.2.3")
def test_request_that_requires_what_we_lack_may_get_another_refusal(sip):
    assert sip.ask(lambda r, tx: 404, "OPTIONS sip:bob@example.com", require="100rel").statuses == [
        404
    ]


def test_server_transaction_shows_its_request_and_state(sip):
    shown = []
    sip.ask(lambda request, tx: shown.append(repr(tx)) or 200, "OPTIONS sip:bob@example.com")
    assert shown == ["<ServerTransaction <Request OPTIONS sip:bob@example.com> trying>"]


@pytest.mark.parametrize("after, statuses", [(5, [180, 486]), (70, [180, 480])])
def test_wait_until_an_event_ends_when_it_is_set(sip, after, statuses):
    event = Event()

    def core(request, tx):
        tx.respond(180)
        return 486 if tx.wait(60, until=event) else 480

    asked = sip.ask(core, "INVITE sip:bob@example.com")
    sip.advance(after - 1)
    event.set()
    assert asked.statuses == statuses


def test_wait_until_an_event_is_cancelled(sip):
    event = Event()

    def core(request, tx):
        tx.respond(180)
        tx.wait(until=event)

    asked = sip.ask(core, "INVITE sip:bob@example.com")
    asked.cancel()
    assert asked.statuses == [180, 487]
    event.set()
    sip.settle()


@pytest.mark.parametrize("make", [AsyncResult, lambda: gevent.spawn(int)])
def test_wait_until_takes_what_gevent_waits_for(sip, make):
    waited = make()
    if isinstance(waited, AsyncResult):
        waited.set(1)
    asked = sip.ask(
        lambda _, tx: 486 if tx.wait(9, until=waited) else 480, "INVITE sip:b@c.example"
    )
    assert asked.statuses == [486]


class Waiting:
    """A core that answers an INVITE by `answer(tx)` and then waits with these arguments."""

    def __init__(self, sip, answer, **arguments):
        self.results = []

        def core(request, tx):
            answer(tx)
            try:
                self.results.append(tx.wait(**arguments))
            except Cancelled as error:
                self.results.append(str(error))
                raise

        sip.serve(core)
        self.peer = Peer(sip, "10.0.0.50", answer=lambda request: 200)
        self.invite = self.peer.ask("INVITE")

    def ask(self, method):
        self.peer.send(self.peer.within(self.invite, self.peer.responses[0], method))


@pytest.mark.rfc("3261 15.1.2")
@pytest.mark.parametrize("until", [None, Event()])
def test_wait_after_accept_is_cancelled_by_the_bye_of_the_caller(sip, until):
    waiting = Waiting(sip, lambda tx: tx.accept(), seconds=100, until=until)
    waiting.ask("ACK")
    sip.advance(3)
    assert waiting.results == []
    waiting.ask("BYE")
    assert waiting.results == ["the call has ended: bye by peer"]
    assert waiting.peer.statuses == [200, 200] and waiting.peer.methods == []


def test_wait_after_accept_sees_an_end_that_came_before(sip):
    def answer(tx):
        tx.accept().hangup()

    waiting = Waiting(sip, answer, seconds=100)
    waiting.ask("ACK")
    assert waiting.results == ["the call has ended: bye by us"]


def test_wait_after_accept_ends_with_its_time(sip):
    timed = Waiting(sip, lambda tx: tx.accept(), seconds=5)
    timed.ask("ACK")
    sip.advance(6)
    assert timed.results == [False]


def test_wait_after_accept_ends_when_its_event_is_set(sip):
    event = Event()
    waiting = Waiting(sip, lambda tx: tx.accept(), seconds=60, until=event)
    waiting.ask("ACK")
    event.set()
    sip.settle()
    assert waiting.results == [True]


def test_wait_after_a_refusal_waits_on(sip):
    waiting = Waiting(sip, lambda tx: tx.respond(180) or tx.respond(486), seconds=5)
    waiting.peer.send(waiting.invite.ack(waiting.peer.responses[-1]))
    sip.advance(6)
    assert waiting.results == [False]


@pytest.mark.parametrize("arguments", [{}, {"until": 5}, {"seconds": 5, "until": "event"}])
def test_wait_without_anything_to_wait_for_raises(sip, arguments):
    raised = []

    def core(request, tx):
        with pytest.raises(TypeError) as error:
            tx.wait(**arguments)
        raised.append(str(error.value))
        return 486

    sip.ask(core, "INVITE sip:bob@example.com")
    assert "write " in raised[0]
