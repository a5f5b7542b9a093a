"""Overload: each state at its limit and after it, RFC 3261 §21.5.4; nothing that frees state is ever refused."""

from __future__ import annotations

import logging
import pkgutil
import socket as plain_socket
import time
import types

import gevent
import pytest

from sippet_gevent import Limits, Location, Registrar, Stack, forward, parse
from sippet_gevent.engine import lateness
from sippet_gevent.engine import overload as overload_module
from sippet_gevent.engine.lateness import STANDING
from sippet_gevent.engine.overload import (
    NORMAL,
    REFUSING,
    SHEDDING,
    STRANGERS,
)
from sippet_gevent.engine.queue import NewRequests
from sippet_gevent.engine.shedding import PATIENCE
from sippet_gevent.engine.sources import Sources
from sippet_gevent.engine.thinning import FIRST
from sippet_gevent.engine.time_share import LEAST_COST
from sippet_gevent.testing import SERVER
from sippet_gevent.transport.memory import MemoryTransport
from tests.conditions import until

from ..core.wire import Peer

CALLER = "10.0.0.50"
T1 = 0.5

LATE = lateness.LATE * T1
COST = 0.01
"""Seconds of virtual time that the core takes for a request, as a busy processor does."""


@pytest.fixture
def caller(sip):
    return Peer(sip, CALLER)


def overloaded(stack, clock):
    """Report late messages until the stack is overloaded."""
    overload = stack.engine.overload
    overload._later = gevent.get_hub().loop.run_callback  # real time does not pass here
    assert overload.waited("socket", LATE, stands=True) is None
    clock.advance(STANDING * T1)
    assert overload.waited("socket", LATE, stands=True) is not None
    assert overload.state == REFUSING
    return overload


def pass_time(clock, seconds):
    """Let time pass while the processor is busy: nothing else happens meanwhile."""
    clock._now += seconds


@pytest.fixture
def busy(sip):
    """A server whose core takes COST for each request, the Call-IDs that it has served, and how it became overloaded."""
    served = []

    def core(request, tx):
        served.append(request.call_id)
        pass_time(sip.clock, COST)
        return 486 if request.method == "INVITE" else 200

    stack = sip.serve(core)
    stack.served = served
    stack.overload = overloaded(stack, sip.clock)
    return stack


def arrive(stack, *requests, host=CALLER):
    """Let requests arrive at one moment, as a burst that a socket has read."""
    transport = stack.engine.transports[0]

    def read():
        for request in requests:
            data = request if isinstance(request, bytes) else bytes(request)
            stack.overload._arrival = stack.clock.now()
            stack.overload.take(data, transport.connect((host, 5060)))

    gevent.get_hub().loop.run_callback(read)
    gevent.sleep(0)


def settle(sip):
    """Let happen what can, and let the answers arrive."""
    sip.clock.settle()
    sip.advance(0.001)


def refused(stack):
    return stack.stats()["refused"].get("overload", 0)


# ---- Normal


def test_request_is_served_while_waits_are_shorter_than_late(sip, caller):
    stack = sip.serve(lambda request, tx: 200)
    for _ in range(100):
        assert stack.engine.overload.waited("socket", LATE * 0.99, stands=True) is None
        sip.advance(0.01)
    assert stack.engine.overload.state == NORMAL
    caller.ask("OPTIONS")
    assert caller.statuses == [200]


def test_queue_behind_a_pause_is_served_and_not_refused(sip, caller):
    stack = sip.serve(lambda request, tx: 200)
    for _ in range(9):  # late for 90 ms
        assert stack.engine.overload.waited("socket", 1.0, stands=True) is None
        sip.advance(0.01)
    assert stack.engine.overload.waited("socket", 0.0, stands=True) is None
    assert stack.engine.overload.waited("socket", 1.0, stands=True) is None
    assert stack.engine.overload.state == NORMAL


def test_pauses_with_an_empty_socket_between_them_are_no_overload(sip):
    stack = sip.serve(lambda request, tx: 200)
    for _ in range(20):
        assert stack.engine.overload.waited("socket", 1.0, stands=False) is None
        sip.advance(0.2)
    assert stack.engine.overload.state == NORMAL


def test_late_socket_is_overload_although_another_one_is_not(sip):
    stack = sip.serve(lambda request, tx: 200)
    overload = stack.engine.overload
    for _ in range(12):
        overload.waited("late", LATE, stands=True)
        overload.waited("other", 0.0, stands=True)
        sip.advance(0.01)
    assert overload.state == REFUSING


def test_late_timers_are_overload(sip):
    stack = sip.serve(lambda request, tx: 200)
    overload = stack.engine.overload
    for _ in range(4):
        overload.loop_is_late(LATE)
        sip.advance(STANDING * T1 / 2)
    assert overload.state == REFUSING


# ---- Refusing


def test_newest_request_is_served_first_and_the_old_ones_get_503(sip, caller, busy):
    requests = [caller.request("INVITE") for _ in range(40)]
    arrive(busy, *requests)
    settle(sip)
    count = len(busy.served)
    assert 0 < count <= PATIENCE * T1 / COST + 1
    assert busy.served == [request.call_id for request in reversed(requests)][:count]
    refusals = [response for response in caller.responses if response.status == 503]
    assert {response.call_id for response in refusals} == {r.call_id for r in requests[:-count]}
    assert all(1 <= int(response.headers["Retry-After"]) <= 10 for response in refusals)
    assert all(response.to.tag and response.cseq.method == "INVITE" for response in refusals)
    assert refused(busy) == 40 - count
    assert busy.stats()["overload"]["state"] == 1


@pytest.mark.rfc("7339 5.2")
def test_503_in_overload_has_feedback(sip, caller, busy):
    busy.overload._is_scheduled = True
    offer = ';branch=z9hG4bKx{};oc;oc-algo="loss"'
    arrive(
        busy,
        *[
            caller.request("INVITE", via=f"SIP/2.0/UDP {CALLER}:5060{offer.format(number)}")
            for number in range(40)
        ],
    )
    busy.overload._schedule()
    settle(sip)
    refusals = [response for response in caller.responses if response.status == 503]
    assert refusals
    assert all(int(each.via[0].parameters["oc"]) > 0 for each in refusals)


@pytest.mark.rfc("3261 8.2.7")
def test_refused_branch_is_refused_again_in_overload_and_after_it(sip, caller, busy):
    requests = [caller.request("INVITE") for _ in range(40)]
    arrive(busy, *requests)
    settle(sip)
    first = requests[0]
    arrive(busy, first)
    settle(sip)
    sip.advance(1)
    assert busy.overload.state == NORMAL
    caller.send(first)
    mine = [response for response in caller.responses if response.call_id == first.call_id]
    assert [response.status for response in mine] == [503, 503, 503]
    assert len({(str(each.to), each.headers["Retry-After"]) for each in mine}) == 1
    assert first.call_id not in busy.served
    assert refused(busy) == 40 - len(set(busy.served))


@pytest.mark.rfc("3261 8.2.7")
def test_request_refused_before_the_overload_has_the_same_retry_after_in_it(sip, caller, busy):
    busy.engine.draining = True
    first = caller.ask("INVITE")
    busy.engine.draining = False
    wanted = caller.responses[-1].headers["Retry-After"]
    arrive(busy, first, *[caller.request("INVITE") for _ in range(40)])
    settle(sip)
    mine = [response for response in caller.responses if response.call_id == first.call_id]
    assert [each.headers["Retry-After"] for each in mine] == [wanted, wanted]
    assert first.call_id not in busy.served
    assert refused(busy) == 40 - len(set(busy.served))


def test_ack_to_a_503_is_absorbed_in_overload_and_after_it(sip, caller, busy):
    requests = [caller.request("INVITE") for _ in range(40)]
    arrive(busy, *requests)
    settle(sip)
    answer = next(each for each in caller.responses if each.call_id == requests[0].call_id)
    ack = requests[0].ack(answer)
    before = busy.stats()
    arrive(busy, ack)
    sip.advance(1)
    caller.send(ack)
    after = busy.stats()
    assert after["absorbed"] - before["absorbed"] == 2
    assert after["dropped"] == before["dropped"] == {}


def test_call_in_progress_ends_by_bye_in_overload(sip, caller):
    def core(request, tx):
        with tx.accept() as call:
            call.wait()

    stack = sip.serve(core)
    invite = caller.ask("INVITE")
    answer = caller.responses[-1]
    assert answer.status == 200
    stack.overload = overloaded(stack, sip.clock)
    # new ones wait, and the BYE does not
    stack.overload._is_scheduled = True
    arrive(stack, *[caller.request("INVITE") for _ in range(10)])
    arrive(stack, caller.within(invite, answer, "ACK"))
    arrive(stack, caller.within(invite, answer, "BYE"))
    assert len(stack.overload.waiting) == 10
    settle(sip)
    assert stack.stats()["calls"] == 0
    assert caller.statuses == [200, 200]
    stack.overload._schedule()
    settle(sip)


@pytest.mark.parametrize("method", ["INFO", "UPDATE", "PRACK", "MESSAGE", "SUBSCRIBE", "BYE"])
def test_request_with_a_to_tag_does_not_wait(sip, caller, busy, method):
    busy.overload._is_scheduled = True
    arrive(busy, caller.request(method, to="<sip:bob@10.0.0.1>;tag=ours"))
    assert not busy.overload.waiting
    settle(sip)
    assert caller.statuses
    assert 503 not in caller.statuses


# ---- requests whose dialog is not known here

FORGED = {
    "To tag": ("MESSAGE", ";tag=forged"),
    "To tag of a REGISTER": ("REGISTER", ";tag=forged"),
    "BYE": ("BYE", ";tag=forged"),
    "BYE without a To tag": ("BYE", ""),
    "PRACK": ("PRACK", ";tag=forged"),
    "CANCEL": ("CANCEL", ""),
    "ACK": ("ACK", ";tag=forged"),
}


def forged(caller, number, method, tag):
    """Return requests that claim to belong to dialogs."""
    return [caller.request(method, to=f"<sip:bob@10.0.0.10>{tag}") for _ in range(number)]


def handled(stack):
    """Return how many messages had more than silence."""
    stats = stack.stats()
    return stats["received"] - stats["dropped"].get("unknown_dialog", 0)


@pytest.mark.parametrize("kind", FORGED)
def test_flood_of_forged_requests_within_dialogs_has_a_share_and_then_silence(
    sip, caller, busy, kind
):
    busy.overload._is_scheduled = True
    arrive(busy, *forged(caller, 100, *FORGED[kind]))
    passed = handled(busy)
    assert 0 < passed < 70
    assert busy.stats()["dropped"]["unknown_dialog"] == 100 - passed
    assert not busy.overload.waiting
    other = Peer(sip, "10.0.0.51")  # one source does not use up the share of others
    arrive(busy, *forged(other, 1, *FORGED[kind]), host=other.host)
    assert handled(busy) == passed + 1
    settle(sip)
    assert 503 not in caller.statuses
    if kind != "ACK":
        assert len(caller.statuses) == passed


def test_flood_from_many_sources_has_a_share_of_the_time(sip, caller, busy):
    busy.overload._is_scheduled = True
    for number in range(200):
        arrive(busy, *forged(caller, 3, "BYE", ";tag=forged"), host=f"10.0.1.{number}")
    assert handled(busy) <= STRANGERS * STANDING * T1 / LEAST_COST + 1


def test_share_of_forged_requests_is_there_again_later_and_all_of_them_after_the_overload(
    sip, caller, busy
):
    arrive(busy, *forged(caller, 100, "BYE", ";tag=forged"))
    first = handled(busy)
    pass_time(sip.clock, STANDING * T1)
    arrive(busy, *forged(caller, 100, "BYE", ";tag=forged"))
    assert handled(busy) > first
    sip.advance(1)
    assert busy.overload.state == NORMAL
    before = handled(busy)
    caller.send(*forged(caller, 100, "BYE", ";tag=forged"))
    assert handled(busy) == before + 100


def test_dropped_request_of_an_unknown_dialog_is_answered_when_it_is_repeated(sip, caller, busy):
    requests = forged(caller, 100, "BYE", ";tag=forged")
    arrive(busy, *requests)
    settle(sip)
    answered = {response.call_id for response in caller.responses}
    lost = next(request for request in requests if request.call_id not in answered)
    pass_time(sip.clock, T1)
    arrive(busy, lost)
    settle(sip)
    assert caller.responses[-1].call_id == lost.call_id


def use_up(stack, caller):
    """Let forged requests use up the share of their source."""
    arrive(stack, *forged(caller, 100, "BYE", ";tag=forged"))
    assert stack.stats()["dropped"]["unknown_dialog"] > 0


def test_requests_of_known_calls_pass_beside_a_flood_of_forged_ones_from_their_source(sip, caller):
    def core(request, tx):
        if request.method != "INVITE":
            return 481
        with tx.accept() as call:
            call.wait()

    stack = sip.serve(core)
    invites = [caller.ask("INVITE") for _ in range(100)]
    answers = {answer.call_id: answer for answer in caller.responses}
    stack.overload = overloaded(stack, sip.clock)
    stack.overload._is_scheduled = True
    use_up(stack, caller)
    before = handled(stack)
    for method in ("ACK", "INFO", "BYE"):
        arrive(stack, *[caller.within(each, answers[each.call_id], method) for each in invites])
    assert handled(stack) == before + 300
    settle(sip)
    assert stack.stats()["calls"] == 0


def test_prack_of_an_early_dialog_passes_beside_a_flood(sip, caller):
    offer = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4 RTP/AVP 0\r\n"

    def core(request, tx):
        tx.respond(183, reliable=True, body=offer, content_type="application/sdp")
        tx.wait(60)

    stack = sip.serve(core)
    invite = caller.ask("INVITE", supported="100rel")
    ringing = caller.responses[-1]
    assert ringing.status == 183
    stack.overload = overloaded(stack, sip.clock)
    use_up(stack, caller)
    arrive(stack, caller.within(invite, ringing, "PRACK", rack=f"{ringing.rseq} 1 INVITE"))
    settle(sip)
    assert (caller.responses[-1].cseq.method, caller.responses[-1].status) == ("PRACK", 200)
    caller.send(invite.cancel())
    sip.advance(1)


@pytest.mark.rfc("3261 9.2")
def test_cancel_of_a_request_in_service_passes_beside_a_flood(sip, caller):
    stack = sip.serve(lambda request, tx: tx.wait(60))
    invites = [caller.ask("INVITE") for _ in range(50)]
    stack.overload = overloaded(stack, sip.clock)
    use_up(stack, caller)
    before = handled(stack)
    arrive(stack, *[invite.cancel() for invite in invites])
    assert handled(stack) == before + 50
    settle(sip)
    assert caller.statuses.count(487) == 50


@pytest.fixture
def record_routing(sip):
    """A proxy that stays on the route of dialogs, and a callee behind it that answers all."""
    callee = Peer(sip, "10.0.0.60")
    callee.answer = lambda request: request.response(200, contact=f"<{callee.uri}>")

    def core(request, tx):
        if tx.take_route():
            return forward(request, tx)
        if request.mandatory.to_tag is not None or request.method in ("ACK", "BYE"):
            return 481
        return forward(request, tx, callee.uri, record_route=True)

    stack = sip.serve(core)
    stack.callee = callee
    return stack


@pytest.mark.rfc("3261 16.4")
def test_request_along_our_record_route_passes_beside_a_flood(sip, caller, record_routing):
    stack = record_routing
    invites = [caller.ask("INVITE") for _ in range(50)]
    answers = {answer.call_id: answer for answer in caller.responses if answer.status == 200}
    stack.overload = overloaded(stack, sip.clock)
    use_up(stack, caller)
    before = handled(stack)
    for method in ("ACK", "INFO", "BYE"):
        for invite in invites:
            answer = answers[invite.call_id]
            route = str(answer.record_route[0])
            arrive(stack, caller.within(invite, answer, method, route=route))
    assert handled(stack) == before + 150
    settle(sip)
    assert stack.callee.methods.count("BYE") == 50
    assert stack.callee.methods.count("ACK") == 50


def test_forged_route_does_not_pass_beside_a_flood(sip, caller, record_routing):
    stack = record_routing
    stack.overload = overloaded(stack, sip.clock)
    use_up(stack, caller)
    before = handled(stack)
    for _ in range(50):
        route = f"<sip:0123456789abcdef0123@{SERVER};lr>"
        arrive(stack, caller.request("BYE", to="<sip:bob@x>;tag=forged", route=route))
    assert handled(stack) == before


@pytest.mark.parametrize("method", ["BYE", "ACK", "INFO"])
@pytest.mark.parametrize("stateless", [False, True])
def test_proxy_that_forwards_requests_of_dialogs_that_it_does_not_know_forwards_all(
    sip, caller, method, stateless
):
    callee = Peer(sip, "10.0.0.60")
    stack = sip.stack(None, SERVER)
    stack.on(stateless=stateless)(lambda request, tx: forward(request, tx, callee.uri))
    stack.overload = overloaded(stack, sip.clock)
    arrive(stack, *forged(caller, 100, method, ";tag=theirs"))
    settle(sip)
    assert callee.methods == [method] * 100
    assert stack.stats()["dropped"] == {}
    if not stateless:
        for request in callee.requests:
            if method != "ACK":
                callee.reply(request, 200)


def test_forged_request_on_a_connection_has_the_same_share(sip, caller):
    stack = sip.serve(lambda request, tx: 481)
    overloaded(stack, sip.clock)
    like_tcp = type("TCPLike", (MemoryTransport,), {"reliable": True})(sip.network)
    like_tcp.start(("10.0.0.77", 5060), lambda data, flow: None)
    flow = like_tcp.connect((CALLER, 5060))

    def read():
        for request in forged(caller, 100, "BYE", ";tag=forged"):
            stack.engine.workers.run(bytes(request), flow)

    gevent.get_hub().loop.run_callback(read)
    gevent.sleep(0)
    assert 0 < handled(stack) < 70
    settle(sip)
    like_tcp.stop()


@pytest.fixture
def connected():
    """A server with a TCP listener that is overloaded, and a connected socket."""
    with Stack("tcp:127.0.0.1:0") as stack:
        stack.on()(lambda request, tx: 200)
        with plain_socket.create_connection(stack.engine.transports[0].local) as sock:
            sock.settimeout(0)
            until(lambda: stack.engine.transports[0].flows)
            stack.engine.overload._begin(stack.clock.now())
            yield stack, sock


def by_tcp(method, number, to=""):
    return (
        f"{method} sip:bob@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5070;branch=z9hG4bK{number};rport\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:alice@127.0.0.1>;tag=a\r\nTo: <sip:bob@127.0.0.1>{to}\r\n"
        f"Call-ID: {number}\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def test_new_requests_on_a_connection_wait_without_greenlets(connected):
    stack, sock = connected
    overload = stack.engine.overload
    overload._is_scheduled = True  # no turn comes
    before = stack.engine.workers.alive
    sock.sendall(b"".join(by_tcp("INVITE", number) for number in range(50)))
    until(lambda: len(overload.waiting) == 50)
    assert stack.engine.workers.alive == before


def test_refusals_of_a_connection_are_sent_together(connected, monkeypatch):
    stack, sock = connected
    overload, writes = stack.engine.overload, []
    (flow,) = stack.engine.transports[0].flows
    write = type(flow).write
    monkeypatch.setattr(
        type(flow), "write", lambda self, data: writes.append(data) or write(self, data)
    )
    overload._is_scheduled = True
    sock.sendall(b"".join(by_tcp("INVITE", number) for number in range(20)))
    until(lambda: len(overload.waiting) == 20)
    overload.shedding.budget, overload.shedding._patience = 60.0, 0.0
    gevent.get_hub().loop.run_callback(overload.shedding.clear, stack.clock.now(), float("inf"))
    until(lambda: writes)
    assert len(writes) == 1
    assert writes[0].count(b"SIP/2.0 503 ") == refused(stack) == 20
    (_, _, head) = writes[0].partition(b"Call-ID: ")
    assert head.startswith(b"0\r\n")  # in the order of their arrival


def test_request_of_a_stream_waits_without_the_lines_that_were_read(connected):
    stack, sock = connected
    overload = stack.engine.overload
    overload._is_scheduled = True
    for method in ("INVITE", "CANCEL"):  # a folded line, which the framer has to read
        sock.sendall(by_tcp(method, 1).replace(b"Call-ID: ", b"Subject: a\r\n b\r\nCall-ID: "))
    until(lambda: overload.waiting and next(iter(overload.waiting.requests.values()))[3])
    ((_, invite, _, (cancel, _), _),) = overload.waiting.requests.values()
    assert type(invite) is type(cancel) is bytes
    assert overload.waiting.bytes == len(invite) + len(cancel)


def test_repeated_request_on_a_connection_gets_its_503_at_once(connected):
    stack, sock = connected
    overload = stack.engine.overload
    key = parse(by_tcp("INVITE", 1)).mandatory.key
    stack.engine.admission.lately.add([key], 5, stack.clock.now())
    sock.sendall(by_tcp("INVITE", 1))
    until(lambda: overload.shedding.refused == 1)
    assert not stack.engine.ingress.stateless.joined


def test_connection_that_breaks_before_its_refusals_costs_only_these(connected, caplog):
    stack, sock = connected
    overload = stack.engine.overload
    (flow,) = stack.engine.transports[0].flows
    overload._is_scheduled = True
    sock.sendall(by_tcp("INVITE", 1) + by_tcp("INVITE", 2))
    until(lambda: len(overload.waiting) == 2)
    flow.close()
    overload.shedding.budget, overload.shedding._patience = 60.0, 0.0
    overload.shedding.clear(stack.clock.now(), float("inf"))
    assert stack.stats()["send_errors"] == 2
    assert not overload.waiting


@pytest.mark.parametrize("line", [b"CSeq: x", b'To: "', b"CSeq: 1 INVITE OPTIONS"])
def test_broken_request_of_a_connection_that_breaks_costs_no_other_refusal(connected, caplog, line):
    stack, sock = connected
    overload, transport = stack.engine.overload, stack.engine.transports[0]
    overload._is_scheduled = True
    name = line.split()[0]
    lines = by_tcp("INVITE", 1).split(b"\r\n")
    (flow,) = transport.flows
    sock.sendall(b"\r\n".join(line if each.startswith(name) else each for each in lines))
    until(lambda: len(overload.waiting) == 1)
    with plain_socket.create_connection(transport.local) as other:
        other.settimeout(5)
        other.sendall(by_tcp("INVITE", 2))
        until(lambda: len(overload.waiting) == 2)
        flow.close()
        overload.shedding.budget, overload.shedding._patience = 60.0, 0.0
        overload.shedding.clear(stack.clock.now(), float("inf"))
        assert other.recv(4096).startswith(b"SIP/2.0 503 ")
    assert "response not sent" in caplog.text
    assert "call_id=1 " in caplog.text


def test_messages_of_connections_go_to_workers_after_the_overload(connected):
    stack, sock = connected
    transport = stack.engine.transports[0]
    assert transport.receive != stack.engine.workers.run
    stack.engine.overload._end(stack.clock.now())
    assert transport.receive == stack.engine.workers.run


def test_filter_is_asked_for_messages_of_connections_in_overload():
    with Stack("tcp:127.0.0.1:0", accept=lambda data, flow: False) as stack:
        stack.engine.overload._begin(stack.clock.now())
        with plain_socket.create_connection(stack.engine.transports[0].local) as sock:
            sock.sendall(by_tcp("INVITE", 1))
            until(lambda: stack.stats()["dropped"] == {"filtered": 1})


def test_request_that_is_late_soon_is_refused_with_the_one_that_is_late(sip, caller, busy):
    overload = busy.overload
    overload._is_scheduled = True
    for after in (0.0, 0.009, 0.002):  # 0, 9 and 11 ms
        pass_time(sip.clock, after)
        arrive(busy, caller.request("INVITE"))
    pass_time(sip.clock, PATIENCE * T1 - 0.0111)
    overload.shedding.budget = 60.0
    overload.shedding.clear(sip.clock.now(), float("inf"))
    assert refused(busy) == 0  # none is late
    pass_time(sip.clock, 0.0002)
    overload.shedding.clear(sip.clock.now(), float("inf"))
    assert (refused(busy), len(overload.waiting)) == (2, 1)


def test_request_within_a_dialog_is_parsed_once_in_overload(sip, caller, busy, monkeypatch):
    parsed = []

    def counting(data, limits):
        parsed.append(data)
        return parse(data, limits)

    for module in ("message.peek", "engine.ingress"):
        monkeypatch.setattr(f"sippet_gevent.{module}.parse", counting)
    arrive(busy, *forged(caller, 3, "INFO", ";tag=forged"))
    assert len(busy.served) == len(parsed) == 3
    assert busy.overload.parsed is None
    settle(sip)


@pytest.mark.rfc("3261 9.2")
def test_cancel_of_a_waiting_invite_is_served_behind_it(sip, caller):
    def core(request, tx):
        tx.wait(60)

    stack = sip.serve(core)
    stack.overload = overloaded(stack, sip.clock)
    stack.overload._is_scheduled = True
    invite = caller.request("INVITE")
    arrive(stack, invite, invite.cancel(), invite.cancel())
    arrive(stack, *[caller.request("OPTIONS") for _ in range(3)])
    stack.overload._schedule()
    settle(sip)
    mine = [each for each in caller.responses if each.call_id == invite.call_id]
    assert sorted((each.cseq.method, each.status) for each in mine if each.status >= 200) == [
        ("CANCEL", 200),
        ("INVITE", 487),
    ]
    caller.send(invite.ack(next(each for each in mine if each.status == 487)))
    assert stack.stats()["absorbed"] >= 1


def test_cancel_of_a_dropped_invite_gets_481(sip, caller, busy):
    invite = caller.request("INVITE")
    busy.overload._is_scheduled = True
    busy.overload.shedding.budget = -100.0
    arrive(busy, invite)
    arrive(busy, invite.cancel())
    pass_time(sip.clock, PATIENCE * T1)
    busy.overload._schedule()
    settle(sip)
    assert caller.statuses == [481]


def test_refresh_of_a_registration_does_not_wait(sip, caller):
    stack = Stack(clock=sip.clock)
    stack.on("REGISTER")(Registrar(Location()))
    stack = sip.serve(stack)
    first = caller.request("REGISTER", "sip:10.0.0.1", contact=f"<{caller.uri}>", number=1)
    caller.send(first)
    assert caller.statuses == [200]
    stack.overload = overloaded(stack, sip.clock)
    stack.overload._is_scheduled = True
    refresh = caller.request(
        "REGISTER", "sip:10.0.0.1", contact=f"<{caller.uri}>", number=2,
        call_id=first.call_id, from_=first.from_, to=first.to,
    )  # fmt: skip
    arrive(stack, refresh)
    assert not stack.overload.waiting
    settle(sip)
    assert caller.statuses == [200, 200]
    arrive(stack, caller.request("REGISTER", "sip:10.0.0.1"))
    assert len(stack.overload.waiting) == 1
    stack.overload._schedule()
    settle(sip)


def test_retransmission_of_a_waiting_request_takes_its_place(sip, caller, busy):
    busy.overload._is_scheduled = True
    one, two = caller.request("OPTIONS"), caller.request("OPTIONS")
    arrive(busy, one, two, one)
    assert len(busy.overload.waiting) == 2
    busy.overload._schedule()
    settle(sip)
    assert busy.served == [one.call_id, two.call_id]
    assert busy.stats()["absorbed"] == 1


@pytest.mark.rfc("6357 7")
def test_sources_take_turns_and_one_that_floods_keeps_out_nobody(sip, caller, busy):
    busy.overload._is_scheduled = True
    flood = [caller.request("OPTIONS") for _ in range(500)]
    others = [caller.request("OPTIONS") for _ in range(5)]
    arrive(busy, *flood[:300], host="10.0.0.66")
    for number, request in enumerate(others):
        arrive(busy, request, host=f"10.0.0.{number + 1}")
    arrive(busy, *flood[300:], host="10.0.0.66")
    busy.overload._schedule()
    settle(sip)
    served = busy.served
    assert {each.call_id for each in others} <= set(served[:6])
    assert served[0] == others[-1].call_id  # the one that came last
    assert flood[-1].call_id in served[:6]  # has its turn, and no more
    assert len(served) < 300


@pytest.mark.rfc("6357 7")
@pytest.mark.parametrize("many", ["2001:db8::{:x}", "10.0.0.66"])
def test_source_is_an_ipv4_address_or_an_ipv6_network(many):
    queue = NewRequests(Sources(Limits()))
    for number in range(1, 9):
        put(queue, f"many {number}", many.format(number))
    put(queue, "one", "2001:db8:0:1::1" if ":" in many else "10.0.0.1")
    assert turns(queue)[:3] == ["one", "many 8", "many 7"]


def test_source_has_its_next_turn_after_all_others():
    queue = NewRequests(Sources(Limits()))
    for source in "ab":
        for number in range(3):
            put(queue, f"{source}{number}", source)
    put(queue, "c0", "c")
    assert turns(queue, 3) == ["c0", "b2", "a2"]
    put(queue, "a3", "a")  # keeps its place
    put(queue, "c1", "c")  # has come anew
    assert turns(queue) == ["c1", "b1", "a3", "b0", "a1", "a0"]
    assert len(queue) == 0 and not queue._by_source


def test_network_that_is_exempt_has_a_turn_for_each_request():
    queue = NewRequests(Sources(Limits(exempt=("192.0.2.0/24",))))
    for number in range(3):
        put(queue, f"trunk {number}", "192.0.2.1")
    put(queue, "phone", "10.0.0.1")
    assert turns(queue) == ["phone", "trunk 2", "trunk 1", "trunk 0"]


def test_request_that_has_waited_too_long_has_no_turn_and_blocks_no_other():
    queue = NewRequests(Sources(Limits()))
    put(queue, "fresh", "a", arrival=2.0)
    for number in range(20):
        put(queue, f"old {number}", f"b{number}", arrival=1.0)
    assert queue.take(1.5)[0] == "fresh"
    assert queue.take(1.5) is None
    assert len(queue) == 20


def put(queue, key, host, arrival=0.0):
    """Add a request from this host to a queue."""
    flow = types.SimpleNamespace(remote=(host, 5060))
    queue.put(key, arrival, b"", flow, None)


def turns(queue, most=99):
    """Serve requests of a queue; return their keys in order."""
    served = []
    while len(queue) and len(served) < most:
        served.append(queue.take(-1.0)[0])
    return served


ODD = {
    "compact Via": (b"Via: ", b"v: "),
    "lower case": (b"Via: ", b"via: "),
    "folded Via": (b"Via: ", b"Via:\r\n "),
    "another field first": (b"Via: ", b"X: 1\r\nVia: "),
    "TLS": (b"SIP/2.0/UDP", b"SIP/2.0/TLS"),
    "WebSocket": (b"SIP/2.0/UDP", b"SIP/2.0/WSS"),
    "folded To": (b"To: ", b"To:\r\n "),
    "a user called stage": (b"<sip:bob@", b"<sip:stage@"),
    "a quoted tag": (b"To: ", b'To: ";tag=1" '),
    "line breaks before the start line": (b"OPTIONS ", b"\r\n\r\nOPTIONS "),
}


@pytest.mark.rfc("3261 7.3.1")
@pytest.mark.parametrize("spelling", ODD)
def test_request_in_an_unusual_spelling_waits_as_others_do(sip, caller, busy, spelling):
    busy.overload._is_scheduled = True
    odd = caller.request("OPTIONS")
    data = bytes(odd).replace(*ODD[spelling], 1)
    assert data != bytes(odd)
    arrive(busy, data, *[caller.request("OPTIONS") for _ in range(39)], data)
    assert len(busy.overload.waiting) == 40
    busy.overload._schedule()
    settle(sip)
    assert busy.served[0] == odd.call_id
    assert busy.served.count(odd.call_id) == 1
    assert refused(busy) == 40 - len(busy.served) > 0


@pytest.mark.rfc("3261 7.3.1", "3261 7.5")
@pytest.mark.parametrize("spelling", ODD)
def test_request_in_an_unusual_spelling_is_refused_as_others_are(sip, caller, busy, spelling):
    busy.overload._is_scheduled = True
    asked = [bytes(caller.request("OPTIONS")).replace(*ODD[spelling], 1) for _ in range(40)]
    arrive(busy, *asked)
    busy.overload._schedule()
    settle(sip)
    assert refused(busy) == 40 - len(busy.served) > 0
    if spelling not in ("TLS", "WebSocket"):  # their responses do not go to a UDP socket
        assert caller.statuses.count(503) == refused(busy)


@pytest.mark.parametrize("module, name", [("stateless", "note_source"), ("overload", "has_to_tag")])
def test_error_that_one_request_causes_in_overload_costs_that_request_alone(
    sip, caller, busy, monkeypatch, module, name
):
    """An exception that reaches the loop stops the watcher of the socket for ever."""
    module = f"sippet_gevent.engine.{module}.{name}"
    real, failed = pkgutil.resolve_name(module), []

    def fails_once(*arguments):
        if not failed:
            failed.append(True)
            raise ValueError("a fault")
        return real(*arguments)

    monkeypatch.setattr(module, fails_once)
    arrive(busy, *[caller.request("OPTIONS") for _ in range(40)])
    settle(sip)
    assert len(busy.engine.crashes) == 1
    stats = busy.stats()
    assert stats["dropped"] == {"internal_error": 1}
    assert stats["received"] == 40 == len(caller.statuses) + 1
    busy.engine.crashes.clear()


@pytest.mark.rfc("3261 17.2.1", "3261 17.2.2")
@pytest.mark.parametrize("method", ["INVITE", "BYE", "CANCEL"])
def test_retransmission_in_overload_gets_the_last_response_without_a_greenlet(
    sip, caller, method, monkeypatch
):
    def core(request, tx):
        if request.method == "INVITE":
            tx.respond(180)
            tx.wait(60)
        return 200

    stack = sip.serve(core)
    invite = caller.ask("INVITE")
    request = {"INVITE": invite, "CANCEL": invite.cancel()}.get(method) or caller.request(method)
    if method != "INVITE":
        caller.send(request)
    first = bytes(next(each for each in caller.responses if each.cseq.method == method))
    before = len(caller.responses), stack.stats()["absorbed"]
    stack.overload = overloaded(stack, sip.clock)
    with monkeypatch.context() as patch:
        patch.setattr(stack.overload, "_serve", None)
        arrive(stack, request)
        pass_time(sip.clock, T1)
        arrive(stack, request)
    settle(sip)
    again = [each for each in caller.responses[before[0] :] if each.cseq.method == method]
    assert [bytes(each) for each in again] == [first] * 2
    assert stack.stats()["absorbed"] == before[1] + 2
    caller.send(invite.cancel())
    sip.advance(1)


def test_error_that_a_retransmission_causes_in_overload_costs_that_message_alone(
    sip, caller, busy, monkeypatch
):
    request = caller.ask("OPTIONS")
    settle(sip)

    def fails(*arguments):
        raise ValueError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr("sippet_gevent.transaction.fsm.Transaction.handle", fails)
        arrive(busy, request, request)
    assert len(busy.engine.crashes) == 2
    assert busy.engine.counters.balance == 0
    busy.engine.crashes.clear()


def test_cancel_of_the_oldest_request_is_answered_when_too_many_wait(
    sip, caller, busy, monkeypatch
):
    monkeypatch.setattr(overload_module, "WAITING", 3)
    busy.overload._is_scheduled = True
    invite = caller.request("INVITE")
    arrive(busy, invite, invite.cancel(), *[caller.request("OPTIONS") for _ in range(3)])
    settle(sip)
    assert [(each.cseq.method, each.status) for each in caller.responses] == [("CANCEL", 481)]
    assert busy.stats()["dropped"] == {"overload": 1}
    busy.overload._schedule()
    settle(sip)


def test_unusual_spelling_of_a_request_that_ends_something_does_not_wait(sip, caller, busy):
    busy.overload._is_scheduled = True
    arrive(busy, bytes(caller.request("BYE")).replace(b"Via:", b"v:", 1))
    tagged = caller.request("INFO", to="<sip:bob@10.0.0.1>;tag=ours")
    arrive(
        busy, bytes(tagged).replace(b"To: ", b"t:\r\n ", 1).replace(b";tag=ours", b" ; TAG = ours")
    )
    assert not busy.overload.waiting
    settle(sip)
    assert len(caller.statuses) == 2
    assert 503 not in caller.statuses


def test_method_that_begins_like_bye_waits(sip, caller, busy):
    busy.overload._is_scheduled = True
    arrive(busy, caller.request("BYEBYE"), caller.request("PRANK"), caller.request("CANCELLED"))
    assert len(busy.overload.waiting) == 3
    busy.overload._schedule()
    settle(sip)


@pytest.mark.parametrize(
    "field",
    [b"Authorization: Digest x", b"AUTHORIZATION : Digest x", b"Authorization:\r\n Digest x"],
)
def test_flood_of_registers_with_forged_credentials_waits_beyond_a_share(sip, caller, busy, field):
    busy.overload._is_scheduled = True
    requests = [
        bytes(caller.request("REGISTER", "sip:10.0.0.1")).replace(
            b"Call-ID:", field + b"\r\nCall-ID:", 1
        )
        for _ in range(100)
    ]
    arrive(busy, *requests)
    passed = len(busy.served)
    assert 0 < passed < 70
    assert len(busy.overload.waiting) == 100 - passed
    other = caller.request("REGISTER", "sip:10.0.0.1", number=2)
    arrive(busy, other, host="10.0.0.51")  # one source does not use up the refreshes of others
    assert busy.served[-1] == other.call_id
    busy.overload._schedule()
    settle(sip)


@pytest.mark.rfc("7339 5.3")
def test_clients_are_asked_for_less_while_messages_wait_longer(sip, busy):
    overload, fraction = busy.overload, busy.engine.admission.shed_fraction
    assert fraction(CALLER) == FIRST
    overload.waited("socket", 1.0, stands=True)
    pass_time(sip.clock, 1.01 * STANDING * T1)
    overload.waited("socket", 1.0, stands=True)
    longer = fraction(CALLER)
    assert FIRST < longer < 1
    for _ in range(5):
        pass_time(sip.clock, 1.01 * STANDING * T1)
        overload.waited("socket", 0.0, stands=True)
    assert fraction(CALLER) < longer


@pytest.mark.rfc("7339 5.3")
def test_clients_are_asked_for_less_while_new_requests_are_refused(sip, caller, busy):
    fraction = busy.engine.admission.shed_fraction
    assert fraction(CALLER) == FIRST
    arrive(busy, *[caller.request("INVITE") for _ in range(40)])
    settle(sip)
    assert refused(busy) > 10
    assert FIRST < fraction(CALLER) < 1


def offered(sip, stack, clients, seconds=20.0):
    """Have each client offer requests, and a late message before each round. Return how many of each
    were served in the last half of the time.

    Args:
        clients: Host to requests per second, and whether the client obeys overload control.
    """
    overload, fraction = stack.overload, stack.engine.admission.shed_fraction
    peers = {host: Peer(sip, host) for host in clients}
    due = dict.fromkeys(clients, 0.0)
    began = last = sip.clock.now()
    while (now := sip.clock.now()) < began + seconds:
        overload.waited("socket", 0.0, stands=True)
        for host, (rate, obeys) in clients.items():
            due[host] += rate * (now - last) * (1 - (fraction(host) if obeys else 0.0))
            burst = [
                peers[host].request("OPTIONS", call_id=f"{host}-{now}-{n}")
                for n in range(int(due[host]))
            ]
            due[host] -= len(burst)
            arrive(stack, *burst, host=host)
            fraction(host)  # its responses have it, whatever it does
        last = now
        pass_time(sip.clock, 0.01)
        settle(sip)
        if now < began + seconds / 2:
            stack.served.clear()
    hosts = [call_id.partition("-")[0] for call_id in stack.served]
    return {host: hosts.count(host) for host in clients}


CLIENTS = ("10.0.0.51", "10.0.0.52", "10.0.0.53")


@pytest.mark.rfc("7339 5.10.2", "7339 11")
@pytest.mark.parametrize("cheats", [1, 2])
def test_client_that_obeys_gets_as_much_as_clients_that_do_not(sip, busy, cheats):
    rates = {host: (150, number >= cheats) for number, host in enumerate(CLIENTS)}
    served = offered(sip, busy, rates)
    fair = sum(served.values()) / 3
    assert all(0.75 * fair < served[host] < 1.3 * fair for host in CLIENTS), served


@pytest.mark.rfc("7339 5.3", "7339 11")
def test_client_that_sends_less_than_its_turns_is_asked_for_nothing(sip, busy):
    served = offered(sip, busy, {CLIENTS[0]: (300, False), CLIENTS[1]: (20, True)})
    fraction = busy.engine.admission.shed_fraction
    assert fraction(CLIENTS[1]) < 0.05 < 0.9 < fraction(CLIENTS[0]), served


@pytest.mark.rfc("7339 5.3")
def test_clients_that_all_obey_share_the_capacity(sip, busy):
    served = offered(sip, busy, dict.fromkeys(CLIENTS, (100, True)))
    assert max(served.values()) < 1.3 * min(served.values())
    assert refused(busy) < 0.25 * sum(served.values())  # in all the time; served in half of it


def test_filter_is_asked_before_a_request_waits(sip, caller):
    stack = Stack(clock=sip.clock, accept=lambda data, flow: b"OPTIONS" in data)
    stack.on()(lambda request, tx: 200)
    stack = sip.serve(stack)
    overload = overloaded(stack, sip.clock)
    take = stack.engine.waited(stack.engine.transports[0], LATE, stands=True)
    flow = stack.engine.transports[0].connect((CALLER, 5060))
    for method in ("MESSAGE", "OPTIONS"):
        gevent.get_hub().loop.run_callback(take, bytes(caller.request(method)), flow)
    gevent.sleep(0)
    assert len(overload.waiting) == 1
    settle(sip)
    assert caller.statuses == [200]
    assert stack.stats()["dropped"] == {"filtered": 1}


# ---- Shedding


def test_old_request_is_dropped_unread_where_refusals_take_too_long(sip, caller, busy):
    refuse = busy.overload.shedding.refuse

    def costly(*arguments):
        refuse(*arguments)
        pass_time(sip.clock, COST)

    busy.overload.shedding.refuse = costly
    requests = [caller.request("INVITE") for _ in range(60)]
    arrive(busy, *requests)
    settle(sip)
    dropped = busy.stats()["dropped"]["overload"]
    assert dropped > 0
    assert len(busy.served) + refused(busy) + dropped == 60
    assert busy.overload.state == SHEDDING
    assert busy.stats()["overload"]["state"] == 2
    answered = {response.call_id for response in caller.responses}
    lost = next(request for request in requests if request.call_id not in answered)
    before = len(busy.served)
    arrive(busy, lost)  # T1 later the sender repeats it, and gets no more than a refusal
    settle(sip)
    assert len(busy.served) == before


@pytest.mark.parametrize(("since", "most"), [(0.0, 1), (STANDING * T1, 5)])
def test_turn_begins_one_request_only_while_a_late_timer_is_news(
    sip, caller, busy, since, most, monkeypatch
):
    monkeypatch.setattr(overload_module, "SLICE", 10.0)
    busy.overload._is_scheduled = True
    arrive(busy, *[caller.request("OPTIONS") for _ in range(5)])
    busy.overload.loop_is_late(LATE)
    pass_time(sip.clock, since)
    gevent.get_hub().loop.run_callback(busy.overload.turn)
    gevent.sleep(0)
    assert len(busy.served) == most
    settle(sip)


@pytest.mark.parametrize(("gap", "most"), [(0.002, 3), (0.1, 16), (10.0, 51)])
def test_refusals_have_their_part_of_the_time_where_turns_are_far_apart(
    sip, caller, busy, gap, most
):
    """Where cores wake up between two turns, a turn has more time for refusals, so no request waits for its copy."""
    refuse = busy.overload.shedding.refuse

    def costly(*arguments):
        refuse(*arguments)
        pass_time(sip.clock, 0.001)

    busy.overload.shedding.refuse = costly
    busy.overload._is_scheduled = True
    arrive(busy, *[caller.request("INVITE") for _ in range(100)])
    pass_time(sip.clock, 2 * PATIENCE * T1)
    busy.overload.shedding.earn(sip.clock.now())
    pass_time(sip.clock, gap)
    busy.overload.turn()
    assert most - 2 <= refused(busy) <= most
    settle(sip)


def test_pause_of_the_process_within_a_refusal_is_not_taken_from_later_ones(sip, caller, busy):
    shedding = busy.overload.shedding
    refuse = shedding.refuse

    def paused(*arguments):
        shedding.refuse = refuse
        refuse(*arguments)
        pass_time(sip.clock, 5.0)

    shedding.refuse = paused
    busy.overload._is_scheduled = True
    for _ in range(2):
        arrive(busy, caller.request("INVITE"))
        pass_time(sip.clock, PATIENCE * T1)
        for _ in range(10):  # turns of half a second
            shedding.earn(sip.clock.now())
            pass_time(sip.clock, 0.05)
        shedding.clear(sip.clock.now(), float("inf"))
    assert refused(busy) == 2
    settle(sip)


def test_dropped_request_is_served_when_it_is_repeated_after_the_overload(sip, caller, busy):
    busy.overload._is_scheduled = True
    busy.overload.shedding.budget = -100.0
    request = caller.request("OPTIONS")
    arrive(busy, request)
    pass_time(sip.clock, PATIENCE * T1)
    busy.overload._schedule()
    settle(sip)
    assert busy.stats()["dropped"] == {"overload": 1}
    assert caller.statuses == []
    sip.advance(1)
    assert busy.overload.state == NORMAL
    caller.send(request)
    sip.advance(2 * COST)
    assert caller.statuses == [200]


def test_request_on_a_connection_is_not_dropped_within_its_senders_patience(sip, caller, busy):
    like_tcp = type("TCPLike", (MemoryTransport,), {"reliable": True})(sip.network)
    like_tcp.start(("10.0.0.77", 5060), lambda data, flow: None)
    request = bytes(caller.request("OPTIONS"))
    overload = busy.overload
    overload._is_scheduled = True
    overload.set_aside(request, like_tcp.connect((CALLER, 5060)))
    overload.shedding.budget = -100.0
    pass_time(sip.clock, PATIENCE * T1)
    overload.shedding.clear(sip.clock.now(), float("inf"))
    assert len(overload.waiting) == 1
    pass_time(sip.clock, 64 * T1)
    overload.shedding.clear(sip.clock.now(), float("inf"))
    assert not overload.waiting
    assert busy.stats()["dropped"] == {"overload": 1}
    like_tcp.stop()


def test_oldest_request_is_dropped_when_too_many_wait(sip, caller, busy, monkeypatch):
    monkeypatch.setattr(overload_module, "WAITING", 3)
    busy.overload._is_scheduled = True
    requests = [caller.request("OPTIONS") for _ in range(5)]
    arrive(busy, *requests)
    busy.overload._schedule()
    settle(sip)
    assert busy.served == [request.call_id for request in reversed(requests[2:])]
    assert busy.stats()["dropped"] == {"overload": 2}


def test_oldest_requests_are_dropped_when_those_that_wait_take_too_much_memory(
    sip, caller, busy, monkeypatch
):
    waiting = busy.overload.waiting
    monkeypatch.setattr(overload_module, "WAITING_BYTES", 100_000)
    busy.overload._is_scheduled = True
    small = [caller.request("OPTIONS") for _ in range(20)]
    large = [caller.request("MESSAGE", body=b"x" * 30_000) for _ in range(5)]
    arrive(busy, *small, *large)
    assert next(iter(waiting.requests.values()))[1] == bytes(large[2])
    assert waiting.bytes == sum(len(bytes(request)) for request in large[2:])
    invites = [caller.request("INVITE") for _ in range(3)]
    cancels = [invite.cancel() for invite in invites]
    cancels[0].body = b"x" * 20_000
    arrive(busy, *invites, *cancels)
    assert waiting.bytes == sum(len(bytes(each)) for each in (*large[3:], *invites, *cancels))
    assert len(waiting) == 5
    waiting.pop(next(iter(waiting.requests)))
    waiting.take(0.0)
    waiting.take_late(sip.clock.now(), sip.clock.now())
    assert waiting.bytes == 0


# ---- after it


def test_overload_ends_when_nothing_has_waited_for_its_time(sip, caller, busy, caplog):
    caplog.set_level(logging.WARNING, "sippet_gevent.core")
    arrive(busy, *[caller.request("INVITE") for _ in range(40)])
    settle(sip)
    sip.advance(STANDING * T1 * 3)
    assert busy.overload.state == NORMAL
    assert busy.stats()["overload"] == {"state": 0, "delay_ms": 50, "waiting": 0, "periods": 1}
    ended = [record.message for record in caplog.records if "overload ended" in record.message]
    assert len(ended) == 1
    assert f"refused={refused(busy)} dropped=0" in ended[0]
    caller.ask("OPTIONS")
    sip.advance(2 * COST)
    assert caller.statuses.count(200) == 1


def test_overload_lasts_while_waits_are_late(sip, busy):
    for _ in range(50):
        busy.overload.waited("socket", LATE, stands=True)
        sip.advance(0.05)
    assert busy.overload.state == REFUSING
    assert busy.overload.periods == 1


def test_stack_that_stops_counts_what_waits(sip, caller, busy):
    busy.overload._is_scheduled = True
    arrive(busy, caller.request("OPTIONS"))
    busy.overload.stop()
    assert busy.stats()["dropped"] == {"overload": 1}
    assert busy.overload.state == NORMAL


# ---- the kernel


def test_datagrams_dropped_by_the_kernel_are_counted_with_one_line(caplog):
    caplog.set_level(logging.WARNING, "sippet_gevent.transport")
    stack = Stack("udp:127.0.0.1:0")
    stack.on()(lambda request, tx: 200)
    with stack:
        transport = stack.engine.transports[0]
        transport._socket.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_RCVBUF, 4096)
        with plain_socket.socket(type=plain_socket.SOCK_DGRAM) as sock:
            for _ in range(3):
                for _ in range(200):
                    sock.sendto(b"\r\n\r\n" * 50, transport.local)
                gevent.sleep(0.01)
            for _ in range(8):  # the kernel tells with the datagrams behind them
                sock.sendto(b"\r\n\r\n", transport.local)
        until(lambda: stack.stats()["dropped"].get("keepalive", 0) >= 8)
        drops = stack.stats()["kernel_drops"]
        assert drops > 100
        assert drops + stack.stats()["received"] <= 608
    lines = [r.message for r in caplog.records if "dropped by the kernel" in r.message]
    assert len(lines) == 1
    assert "count=" in lines[0]


def test_drops_are_counted_from_zero_when_the_stack_starts_again():
    stack = Stack("udp:127.0.0.1:0")
    stack.on()(lambda request, tx: 200)
    before, drops = 0, []
    with plain_socket.socket(type=plain_socket.SOCK_DGRAM) as sock:
        for count in (400, 60):  # the second socket drops less than the first one
            with stack:
                transport = stack.engine.transports[0]
                transport._socket.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_RCVBUF, 4096)
                for number in range(count):
                    sock.sendto(by_udp(f"{count}-{number}"), transport.local)
                gevent.sleep(0.05)
                for number in range(8):  # the kernel tells with the datagrams behind them
                    sock.sendto(by_udp(f"{count}-{number}-again"), transport.local)
                until(lambda before=before: stack.stats()["kernel_drops"] > before)
                drops.append(stack.stats()["kernel_drops"] - before)
                before += drops[-1]
    assert 0 < drops[1] < 60 < drops[0] < 400


def by_udp(number):
    return by_tcp("OPTIONS", number).replace(b"SIP/2.0/TCP", b"SIP/2.0/UDP")


def compute(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_drops_of_a_small_receive_buffer_are_an_overload():
    stack = Stack("udp:127.0.0.1:0")
    with plain_socket.socket(type=plain_socket.SOCK_DGRAM) as sock, stack:
        transport = stack.engine.transports[0]
        transport._socket.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_RCVBUF, 8192)
        numbers = iter(range(10_000))

        @stack.on()
        def core(request, tx):
            compute(0.001)
            for number, _ in zip(numbers, range(3)):
                sock.sendto(by_udp(number), transport.local)
            return 200

        for number, _ in zip(numbers, range(30)):
            sock.sendto(by_udp(number), transport.local)
        until(lambda: stack.stats()["overload"]["periods"])
        assert stack.engine.overload.delay < LATE


def block(seconds):
    """Block the loop, whether time.sleep() is patched or not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_queue_behind_a_pause_of_the_process_is_served():
    stack = Stack("udp:127.0.0.1:0")
    with plain_socket.socket(type=plain_socket.SOCK_DGRAM) as sock, stack:
        transport = stack.engine.transports[0]

        @stack.on()
        def core(request, tx):
            if request.call_id == "0":
                for number in range(1, 200):
                    sock.sendto(by_udp(number), transport.local)
                block(0.3)
            return 200

        sock.sendto(by_udp(0), transport.local)
        until(lambda: stack.stats()["delivered"] == 200)
        assert stack.stats()["overload"]["periods"] == 0


def test_wait_in_the_kernel_is_measured(monkeypatch):
    stack = Stack("udp:127.0.0.1:0")
    stack.on()(lambda request, tx: 200)
    with stack:
        transport = stack.engine.transports[0]
        waits = []
        monkeypatch.setattr(
            type(stack.engine), "waited", lambda self, of, seconds, **more: waits.append(seconds)
        )
        with plain_socket.socket(type=plain_socket.SOCK_DGRAM) as sock:
            for _ in range(8):
                sock.sendto(b"\r\n\r\n", transport.local)
        block(0.12)
        until(lambda: waits)
    assert len(waits) == 1
    assert waits[0] >= 0.12


def test_stack_that_is_stopped_in_overload_serves_when_it_is_started_again(sip, caller, busy):
    busy.overload._is_scheduled = True  # by the timer of the loop, which stop() closes
    arrive(busy, caller.request("OPTIONS"))
    assert busy.overload.waiting
    busy.stop()
    busy.start()
    assert busy.overload.state == NORMAL
    arrive(busy, after := caller.request("OPTIONS"))
    settle(sip)
    assert busy.served == [after.call_id]
    overloaded(busy, sip.clock)
    arrive(busy, again := caller.request("OPTIONS"))
    settle(sip)
    assert busy.served == [after.call_id, again.call_id]
