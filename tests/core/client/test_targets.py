"""Fail-over within one request, RFC 3263 §4.3: the next target, with a new branch, and the grey list."""

from __future__ import annotations

import contextlib

import gevent
import pytest

from sippet_gevent import (
    URI,
    Request,
    Stack,
    TransactionTimeout,
    TransportError,
    bridge,
    forward,
)
from sippet_gevent.core.client.targets import GREY_SECONDS, GREY_TARGETS, TRIES, GreyList
from sippet_gevent.message.uri import bracketed
from sippet_gevent.transaction.machines import TRANSPORT_ERROR
from sippet_gevent.transport.locate.resolver import SRV, StaticResolver
from sippet_gevent.transport.locate.rfc3263 import Candidate
from sippet_gevent.transport.memory import MemoryFlow, MemoryTransport
from tests.ports import free_port

from ..wire import Peer, start

FIRST, SECOND, THIRD = "10.0.0.61", "10.0.0.62", "10.0.0.63"
BOB = "sip:bob@example.com"
RECORDS = {
    "_sip._udp.example.com": [SRV(10, 0, 5060, "a.example.com"), SRV(20, 0, 5060, "b.example.com")],
    "a.example.com": [FIRST],
    "b.example.com": [SECOND],
}


@pytest.fixture
def client(sip):
    """A stack that knows where example.com is."""
    sip.client.resolver = StaticResolver(RECORDS)
    return sip.client


@pytest.fixture
def first(sip):
    """The target to be tried first."""
    return Peer(sip, FIRST)


@pytest.fixture
def second(sip):
    """The other one, which answers 200."""
    return Peer(sip, SECOND, lambda request: 200)


NUMBER = "tel:+4930123"

TO_A_NUMBER = {
    "forward": lambda request, tx: forward(request, tx, NUMBER),
    "forward a URI": lambda request, tx: forward(request, tx, request.uri),
    "fork": lambda request, tx: forward(request, tx, NUMBER, "tel:+4930124"),
    "bridge": lambda request, tx: bridge(request, tx, NUMBER) and None,
    "bridge to several": lambda request, tx: bridge(request, tx, [NUMBER, "tel:+1"]) and None,
    "request": lambda request, tx: tx.stack.request("OPTIONS", NUMBER),
    "send": lambda request, tx: tx.stack.send(Request("INVITE", request.uri)),
}


@pytest.mark.rfc("3261 21.4.14")
@pytest.mark.parametrize("name", TO_A_NUMBER)
def test_core_that_sends_to_a_number_answers_416_and_the_log_says_what_to_write(sip, caplog, name):
    def core(request, tx):
        request.uri = URI.parse(NUMBER)
        return TO_A_NUMBER[name](request, tx)

    sip.serve(core)
    caller = Peer(sip, "10.0.0.50")
    caller.ask("INVITE")
    sip.clock.advance(1)
    assert caller.responses[-1].status == 416
    assert "write sip:+4930123@HOST;user=phone" in caplog.text


class Unreachable(MemoryFlow):
    """A flow whose sends all fail, as when the network reports an unreachable host."""

    def send(self, data):
        raise TransportError(f"connection refused by {self.remote[0]}", self)


@pytest.fixture
def refused(monkeypatch):
    """Let sending to these hosts fail: add to the set."""
    hosts = set()
    connect = MemoryTransport.connect
    monkeypatch.setattr(
        MemoryTransport,
        "connect",
        lambda self, to: Unreachable(self, to) if to[0] in hosts else connect(self, to),
    )
    return hosts


def took(sip, function, *arguments, **options):
    """Return what a blocking call returns, and how many seconds it took."""
    started = sip.clock.now()
    result = sip.run(function, *arguments, **options)
    return result, sip.clock.now() - started


@pytest.fixture
def listen():
    """Make started stacks on real sockets: `listen("udp:127.0.0.1:0", core=...)`."""
    with contextlib.ExitStack() as stacks:
        yield lambda *addresses, **options: stacks.enter_context(Stack(*addresses, **options))


@pytest.fixture(params=["127.0.0.1", "::1", "0.0.0.0", "::"])
def real(request, listen):
    """A stack on real sockets. The first target of example.com is closed, the second one answers."""
    host = f"[{request.param}]" if ":" in request.param else request.param
    loopback = "::1" if ":" in host else "127.0.0.1"
    server = listen(
        f"udp:{host}:0", core=lambda request, tx: 486 if request.method == "INVITE" else 200
    )
    closed = free_port(loopback)
    targets = [
        SRV(10, 0, closed, "a.example.com"),
        SRV(20, 0, server.engine.transports[0].local[1], "b.example.com"),
    ]
    records = {
        "_sip._udp.example.com": targets,
        "a.example.com": [loopback],
        "b.example.com": [loopback],
    }
    stack = listen(f"udp:{host}:0", resolver=StaticResolver(records))
    stack.closed = ("UDP", loopback, closed)
    return stack


# ---- the three failures


@pytest.mark.rfc("3263 4.3", "3261 18.4", "3261 8.1.3.1")
@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
def test_target_whose_port_is_closed_is_followed_by_the_next_at_once(real, method):
    began = real.clock.now()
    tx = real.send(Request(method, BOB))
    with gevent.Timeout(5):
        assert tx.final().status in (200, 486)
    assert real.clock.now() - began < 1  # a few milliseconds; T1 is half a second
    assert real.sender.grey.holds(real.closed, real.clock.now())
    assert real.stats()["icmp"] == {"matched": 1}


def test_closed_targets_of_many_requests_are_found_and_no_other_is_blamed(real):
    with gevent.Timeout(10):
        asked = [real.send(Request("OPTIONS", BOB)) for _ in range(100)]
        assert {tx.final().status for tx in asked} == {200}
    assert real.stats()["icmp"] == {"matched": 100} and real.stats()["send_errors"] == 0
    assert len(real.sender.grey) == 1


@pytest.mark.rfc("3261 16.9")
def test_branch_whose_target_is_closed_is_a_503_to_the_proxy_at_once(real, listen):
    _, host, port = real.closed
    proxy = listen(
        f"udp:{bracketed(host)}:0",
        core=lambda request, tx: forward(request, tx, f"sip:{bracketed(host)}:{port}"),
    )
    with gevent.Timeout(5):
        assert (
            real.request(
                "OPTIONS", f"sip:{bracketed(host)}:{proxy.engine.transports[0].local[1]}"
            ).status
            == 500
        )


@pytest.mark.rfc("3263 4.3")
@pytest.mark.parametrize("method", ["OPTIONS", "MESSAGE", "INVITE"])
def test_target_that_refuses_is_followed_by_the_next_at_once(sip, client, refused, second, method):
    refused.add(FIRST)
    response, seconds = took(sip, client.send(Request(method, BOB)).final)
    assert response.status == 200 and seconds < 0.001


@pytest.mark.rfc("3263 4.3", "3261 8.1.3.1")
@pytest.mark.parametrize("method", ["OPTIONS", "MESSAGE", "INVITE"])
def test_target_that_answers_503_is_followed_by_the_next_at_once(
    sip, client, first, second, method
):
    first.answer = lambda request: 503
    response, seconds = took(sip, client.send(Request(method, BOB)).final)
    assert response.status == 200 and seconds < 0.001


@pytest.mark.rfc("3263 4.3")
@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
def test_target_that_drops_everything_is_followed_by_the_next_after_64_t1(
    sip, client, first, second, method
):
    response, seconds = took(sip, client.send(Request(method, BOB)).final)
    assert response.status == 200 and 32 <= seconds < 32.01


@pytest.mark.rfc("3263 4.3", "3261 8.1.1.7")
@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
def test_second_try_is_the_same_request_with_a_new_branch(sip, client, first, second, method):
    first.answer = lambda request: 503
    sip.run(client.send(Request(method, BOB, body="x", content_type="text/plain")).final)
    one, two = first.last(method), second.last(method)
    assert one.via[0].branch != two.via[0].branch and len(two.via) == 1
    one.via = two.via
    assert bytes(one) == bytes(two)


@pytest.mark.rfc("3261 17.1.1.3")
def test_503_to_an_invite_is_acknowledged_at_its_own_target_only(sip, client, first, second):
    first.answer = lambda request: 503
    with sip.run(client.invite, BOB):
        sip.settle()
        assert (
            first.methods == ["INVITE", "ACK"]
            and first.last("ACK").via[0].branch == first.last("INVITE").via[0].branch
        )
        assert second.methods == ["INVITE", "ACK"]  # to its 200


def test_call_is_that_of_the_target_which_answered(sip, client, first, sip_callee):
    first.answer = lambda request: 503
    with sip.run(client.invite, BOB) as call:
        assert call.dialog is not None
        assert sip.run(call.request, "INFO").status == 200
    assert sip_callee == ["INVITE", "INFO"]


@pytest.fixture
def sip_callee(sip):
    """A stack at the second target that answers calls; the methods its core has seen."""
    seen = []

    def core(request, tx):
        seen.append(request.method)
        if request.method != "INVITE":
            return 200
        with tx.accept() as call:
            call.wait(60)

    sip.stack(core, host=SECOND)
    return seen


def test_contact_is_that_of_the_way_the_request_takes(sip, client, first, second):
    client.listen("udp:10.9.9.9:5060", SecondNetwork(sip.network))
    client.resolver = OtherWay()
    first.answer = lambda request: 503
    sip.run(client.send(Request("INVITE", BOB)).final)
    assert first.last("INVITE").contact[0].uri.host == "10.0.0.100"
    assert second.last("INVITE").contact[0].uri.host == "10.9.9.9"
    assert second.last("INVITE").via[0].transport == "TCP"


class SecondNetwork(MemoryTransport):
    """A transport of datagrams under the name of TCP."""

    name = "TCP"


class OtherWay(StaticResolver):
    """Leads to the first by UDP, to the second by TCP."""

    def __init__(self):
        super().__init__({})

    def resolve(self, uri, transports):
        return [Candidate("UDP", FIRST, 5060), Candidate("TCP", SECOND, 5060)]


@pytest.mark.parametrize(("status", "sent_on"), [(None, True), (100, True), (182, False)])
def test_dead_connection_sends_the_request_on_unless_it_was_taken_on(
    sip, client, first, second, status, sent_on
):
    tx = client.send(Request("OPTIONS", BOB))
    sip.settle()
    if status is not None:
        first.reply(first.last("OPTIONS"), status)
    client.engine.handle(tx.transaction, TRANSPORT_ERROR, TransportError("connection reset"))
    sip.settle()
    assert bool(second.requests) is sent_on
    assert (tx.final_response is not None) is sent_on


def test_log_says_which_target_failed_why_and_how_long_it_took(sip, client, first, second, caplog):
    caplog.set_level("INFO", "sippet_gevent.core")
    sip.run(client.request, "OPTIONS", BOB, call_id="abc@example.com")
    assert caplog.messages == [
        f"next hop failed: method=OPTIONS target={BOB} transport=UDP address={FIRST}:5060 seconds=32.0 "
        f'reason="no final response to OPTIONS in time" next=UDP:{SECOND}:5060 call_id=abc@example.com'
    ]


class Secure(MemoryTransport):
    """A transport under the name of TLS. Keeps the names that certificates must have."""

    name, secure, default_port = "TLS", True, 5061

    def __init__(self, network):
        super().__init__(network)
        self.names = []

    def connect(self, address, *, name=None):
        self.names.append(name)
        return super().connect(address)


@pytest.mark.rfc("5922 4")
def test_secure_transport_gets_the_domain_of_the_uri_at_each_try(sip, client, first, second):
    transport = Secure(sip.network)
    client.listen("udp:10.9.9.9:5061", transport)
    client.resolver = StaticResolver(
        {
            "_sips._tcp.example.com": [
                SRV(1, 0, 5060, "a.example.net"),
                SRV(2, 0, 5060, "b.example.net"),
            ],
            "a.example.net": [FIRST],
            "b.example.net": [SECOND],
        }
    )
    first.answer = lambda request: 503
    assert sip.run(client.request, "OPTIONS", "sips:bob@example.com").status == 200
    assert transport.names == ["example.com", "example.com"]


# ---- when all fail


@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
def test_last_503_is_the_outcome_when_all_targets_answer_503(sip, client, first, second, method):
    first.answer = second.answer = lambda request: request.response(
        503, f"From {request.flow.transport.local[0]}"
    )
    assert sip.run(client.send(Request(method, BOB)).final).reason == f"From {SECOND}"


def test_last_error_is_the_outcome_when_no_target_is_reached(sip, client, refused):
    refused.update((FIRST, SECOND))
    with pytest.raises(TransportError, match=f"refused by {SECOND}"):
        sip.run(client.request, "OPTIONS", BOB)


def test_silence_of_all_takes_a_timer_each(sip, client):
    started = sip.clock.now()
    with pytest.raises(TransactionTimeout):
        sip.run(client.request, "OPTIONS", BOB)
    assert sip.clock.now() - started == pytest.approx(64, abs=0.1)


def test_targets_tried_are_bounded(sip, client, refused):
    hosts = [f"10.1.0.{n}" for n in range(30)]
    client.resolver = StaticResolver({"example.com": hosts})
    refused.update(hosts)
    with pytest.raises(TransportError, match=f"refused by {hosts[TRIES - 1]}$"):
        sip.run(client.request, "OPTIONS", BOB)


def test_timeout_of_the_user_covers_all_tries(sip, client, first, second):
    second.answer = None
    started = sip.clock.now()
    with pytest.raises(TransactionTimeout, match="40 seconds"):
        sip.run(client.request, "OPTIONS", BOB, timeout=40)
    assert sip.clock.now() - started == pytest.approx(40, abs=0.1)
    assert second.requests and client.stats()["client_transactions"] == 0


@pytest.mark.parametrize("status", [302, 404, 408, 480, 486, 500, 600, 603])
def test_any_other_status_is_final(sip, client, first, second, status):
    first.answer = lambda request: status
    assert sip.run(client.request, "OPTIONS", BOB).status == status
    assert second.requests == []


def test_stopping_stack_tries_no_other_target(sip, client, first, second):
    asked = start(sip, client.request, "OPTIONS", BOB)
    client.stop()
    sip.settle()
    with pytest.raises(TransportError, match="stopped"):
        asked.get()
    assert second.requests == [] and len(client.sender.grey) == 0


# ---- targets that work on the request already


@pytest.mark.rfc("3263 4.3")
@pytest.mark.parametrize("status", [100, 180])
def test_target_that_is_silent_after_a_100_is_not_replaced(sip, client, first, second, status):
    first.answer = lambda request: status
    with pytest.raises(TransactionTimeout):
        sip.run(client.request, "OPTIONS", BOB)
    assert second.requests == []


def test_invite_that_rings_until_timer_c_goes_nowhere_else(sip, client, first, second):
    first.answer = lambda request: 180 if request.method == "INVITE" else 200
    with pytest.raises(TransactionTimeout, match="timer C"):
        sip.run(client.send(Request("INVITE", BOB)).final)
    assert second.requests == []


def test_503_after_ringing_sends_the_invite_on(sip, client, first, second):
    tx = client.send(Request("INVITE", BOB))
    sip.settle()
    first.reply(first.last("INVITE"), 180)
    first.reply(first.last("INVITE"), 503)
    assert [response.status for response in tx] == [180, 200]


# ---- CANCEL


@pytest.mark.rfc("3261 9.1")
def test_cancel_goes_to_the_target_that_has_the_request_now(sip, client, first, second):
    first.answer = lambda request: 503
    second.answer = lambda request: 180 if request.method == "INVITE" else 200
    tx = client.send(Request("INVITE", BOB))
    sip.settle()
    tx.cancel()
    sip.settle()
    assert first.methods == ["INVITE", "ACK"] and second.methods == ["INVITE", "CANCEL"]
    assert second.last("CANCEL").via[0].branch == second.last("INVITE").via[0].branch
    second.reply(second.last("INVITE"), 487)
    assert sip.run(tx.final).status == 487


@pytest.mark.rfc("3261 9.1")
def test_cancel_waits_for_a_provisional_response_of_the_new_target(sip, client, first, second):
    second.answer = None
    tx = client.send(Request("INVITE", BOB))
    sip.settle()
    first.reply(first.last("INVITE"), 100)
    first.reply(first.last("INVITE"), 503)
    tx.cancel()
    sip.settle()
    assert second.methods == ["INVITE"]
    second.reply(second.last("INVITE"), 180)
    assert second.methods == ["INVITE", "CANCEL"]
    second.reply(second.last("INVITE"), 487)


@pytest.mark.parametrize("way", ["cancel", "_abandon"])
def test_abandoned_request_goes_to_no_other_target(sip, client, first, second, way):
    tx = client.send(Request("INVITE", BOB))
    sip.settle()
    getattr(tx, way)()
    first.reply(first.last("INVITE"), 503)
    assert sip.run(tx.final).status == 503
    assert second.requests == []


# ---- the grey list


def test_target_that_failed_is_tried_last_for_a_while(sip, client, first, second):
    first.answer = lambda request: 503
    for _ in range(3):
        sip.run(client.request, "OPTIONS", BOB)
    assert (len(first.requests), len(second.requests)) == (1, 3)
    sip.advance(GREY_SECONDS + 1)
    sip.run(client.request, "OPTIONS", BOB)
    assert (len(first.requests), len(second.requests)) == (2, 4)


def test_silent_target_costs_its_time_once(sip, client, first, second):
    assert took(sip, client.request, "OPTIONS", BOB)[1] >= 32
    assert took(sip, client.request, "OPTIONS", BOB)[1] < 0.001


@pytest.mark.rfc("3261 21.5.4")
@pytest.mark.parametrize(("asked", "kept"), [(5, 5), (120, 120), (10**6, 300)])
def test_retry_after_of_a_503_sets_the_grey_time(sip, client, first, second, asked, kept):
    first.answer = lambda request: request.response(503, retry_after=asked)
    sip.run(client.request, "OPTIONS", BOB)
    sip.advance(kept - 1)
    sip.run(client.request, "OPTIONS", BOB)
    assert len(first.requests) == 1
    sip.advance(2)
    sip.run(client.request, "OPTIONS", BOB)
    assert len(first.requests) == 2


def test_grey_targets_are_still_tried_when_there_are_no_others(sip, client, first, second):
    first.answer = second.answer = lambda request: 503
    sip.run(client.request, "OPTIONS", BOB)
    first.answer = lambda request: 200
    assert sip.run(client.request, "OPTIONS", BOB).status == 200


def test_target_that_answers_leaves_the_grey_list(sip, client, first, second):
    first.answer = second.answer = lambda request: 503
    sip.run(client.request, "OPTIONS", BOB)
    first.answer = lambda request: 200
    sip.run(client.request, "OPTIONS", BOB)
    assert len(client.sender.grey) == 1


def test_grey_list_is_bounded():
    grey = GreyList()
    for n in range(2 * GREY_TARGETS):
        grey.add(("UDP", str(n), 5060), 0.0)
    assert len(grey) == GREY_TARGETS


# ---- the plug


class Noting(StaticResolver):
    """Notes what the stack does with it."""

    def __init__(self):
        super().__init__({"example.com": [SECOND]})
        self.noted = []

    def start(self, clock):
        self.noted.append(clock)

    def resolve(self, uri, transports):
        self.noted.append((str(uri), tuple(transports)))
        return super().resolve(uri, transports)

    def stop(self):
        self.noted.append("stop")


def test_resolver_of_the_user_is_started_asked_and_stopped(sip, second):
    resolver = Noting()
    stack = sip.stack(resolver=resolver)
    assert sip.run(stack.request, "OPTIONS", BOB).status == 200
    stack.stop()
    assert resolver.noted == [sip.clock, (BOB, ("UDP",)), "stop"]


def test_way_that_no_transport_opens_is_passed_over(sip, client, second, monkeypatch):
    connect = MemoryTransport.connect

    def by_four_only(self, address):
        if ":" in address[0]:
            raise TransportError("the other IP version", None)
        return connect(self, address)

    monkeypatch.setattr(MemoryTransport, "connect", by_four_only)
    client.resolver = StaticResolver({"example.com": ["2001:db8::1", SECOND]})
    assert sip.run(client.request, "OPTIONS", BOB).status == 200
    assert len(client.sender.grey) == 0


# ---- proxies


@pytest.fixture
def caller(sip):
    """The client of the proxy."""
    return Peer(sip, "10.0.0.70")


@pytest.fixture
def proxy(sip):
    """A proxy that forwards every request to example.com."""
    return sip.serve(
        lambda request, tx: forward(request, tx, BOB), resolver=StaticResolver(RECORDS)
    )


@pytest.mark.rfc("3261 16.7", "3263 4.3")
@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
def test_branch_goes_on_to_the_next_target(sip, proxy, caller, first, second, method):
    first.answer = lambda request: 503
    caller.ask(method)
    assert [status for status in caller.statuses if status != 100] == [200]
    one, two = first.last(method), second.last(method)
    assert one.via[0].branch != two.via[0].branch and one.via[1:] == two.via[1:]
    sip.advance(40)


def test_second_try_of_a_branch_keeps_the_mark_that_finds_loops(sip, proxy, caller, first, second):
    first.answer = lambda request: 503
    caller.ask("OPTIONS")
    assert first.last("OPTIONS").via[0].branch[-16:] == second.last("OPTIONS").via[0].branch[-16:]


def test_vias_below_ours_go_on_as_they_came_readable_or_not(sip, proxy, caller, refused, second):
    refused.add(FIRST)
    request = caller.request("OPTIONS")
    caller.send(
        bytes(request).replace(b"\r\nFrom:", b"\r\nVia: SIP/2.0/UDP broken here\r\nFrom:", 1)
    )
    assert second.last("OPTIONS").headers.all("Via")[2:] == ["SIP/2.0/UDP broken here"]


@pytest.mark.rfc("3261 16.7")
def test_503_of_all_targets_goes_up_as_500(sip, proxy, caller, first, second):
    first.answer = second.answer = lambda request: 503
    caller.ask("OPTIONS")
    assert caller.statuses == [500]


@pytest.mark.rfc("4320 4.2")
def test_branch_that_is_silent_until_timer_f_has_no_other_try(sip, proxy, caller, first, second):
    caller.ask("OPTIONS")
    sip.advance(40)
    assert second.requests == []


def test_branch_of_an_invite_that_is_silent_until_timer_b_goes_on(
    sip, proxy, caller, first, second
):
    caller.ask("INVITE")
    sip.advance(32.1)
    assert [status for status in caller.statuses if status != 100] == [200]


def test_cancel_of_the_caller_reaches_the_target_that_rings(sip, proxy, caller, first, second):
    first.answer = lambda request: 503
    second.answer = lambda request: 180 if request.method == "INVITE" else 200
    invite = caller.ask("INVITE")
    caller.send(invite.cancel())
    assert second.methods == ["INVITE", "CANCEL"]
    second.reply(second.last("INVITE"), 487)
    assert caller.statuses[-1] == 487


# ---- lossy


@pytest.mark.parametrize("seed", range(50))
def test_lossy_network_and_failing_targets_leave_nothing_behind(sip, client, first, seed):
    first.answer = lambda request: 503 if seed % 2 else None

    def core(request, tx):
        if request.method == "INVITE":
            tx.respond(180)
        tx.wait(1)
        return 486

    sip.stack(core, host=SECOND)
    sip.lossy(loss=0.3, duplicate=0.2, delay=0.05, jitter=0.2, seed=seed)
    asked = [
        start(sip, client.send(Request(method, BOB)).final) for method in ("INVITE", "MESSAGE")
    ]
    sip.advance(150)
    assert [greenlet.get(block=False).status for greenlet in asked] == [486, 486]


# ---- where the user lets us go


def test_target_that_is_not_allowed_is_passed_over(sip, client, first, second):
    seen = []
    client.allow_target = lambda candidate: seen.append(candidate) or candidate.host != FIRST
    assert sip.run(client.request, "OPTIONS", BOB).status == 200
    assert first.requests == [] and len(second.requests) == 1
    assert [(each.transport, each.host, each.port, each.name) for each in seen] == [
        ("UDP", FIRST, 5060, "example.com"), ("UDP", SECOND, 5060, "example.com"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "uri", [BOB, f"sip:{FIRST}", f"sip:example.org;maddr={FIRST}", f"sip:{FIRST}:7000"]
)
def test_request_without_an_allowed_target_is_a_clear_error(client, first, second, uri):
    client.allow_target = lambda candidate: False
    with pytest.raises(TransportError, match=rf"allow_target forbids udp:{FIRST}"):
        client.request("OPTIONS", uri)
    assert first.requests == second.requests == []


def test_route_of_a_stranger_leads_a_proxy_to_allowed_targets_only(sip, caller, first):
    proxy = sip.serve(lambda request, tx: forward(request, tx))
    proxy.allow_target = lambda candidate: candidate.host != FIRST
    caller.send(caller.request("MESSAGE", route=f"<sip:{FIRST};lr>"))
    assert caller.statuses == [500]  # what a proxy makes of its own 503 (§16.7 step 6)
    assert first.requests == []


class Twice(StaticResolver):
    """Leads to the first, and to the first again."""

    def resolve(self, uri, transports):
        return [Candidate("UDP", FIRST, 5060)] * 2


@pytest.mark.rfc("3263 4.3", "3261 8.1.3.1")
def test_target_named_twice_gets_a_new_branch_after_its_503(sip, client, first):
    client.resolver = Twice({})
    answers = iter((503, 200))
    first.answer = lambda request: next(answers)
    assert sip.run(client.send(Request("OPTIONS", BOB)).final).status == 200
    one, two = first.requests
    assert one.via[0].branch != two.via[0].branch


@pytest.mark.rfc("3261 13.2.2.4")
def test_2xx_of_a_target_that_has_answered_503_is_acknowledged_and_hung_up(
    sip, client, first, second
):
    first.answer = lambda request: 503 if request.method == "INVITE" else 200
    with sip.run(client.invite, BOB):
        invite = first.last("INVITE")
        first.reply(invite, 200, contact=f"<{first.uri}>")
        assert (first.methods, second.methods) == (
            ["INVITE", "ACK", "ACK", "BYE"],
            ["INVITE", "ACK"],
        )


@pytest.mark.rfc("3261 16.7")
def test_2xx_of_a_branch_s_target_that_has_answered_503_goes_to_the_caller(sip, first, second):
    stack = sip.stack(
        lambda request, tx: forward(request, tx, BOB), "10.0.0.1", resolver=StaticResolver(RECORDS)
    )
    caller = Peer(sip, "10.0.0.50")
    second.answer = None
    first.answer = lambda request: 503 if request.method == "INVITE" else 200
    caller.ask("INVITE")
    second.reply(second.last("INVITE"), 180)
    first.reply(first.last("INVITE"), 200, contact=f"<{first.uri}>")
    assert (second.methods, caller.statuses) == (["INVITE", "CANCEL"], [180, 200])
    second.reply(second.last("INVITE"), 487)
    assert (caller.statuses, stack.stats()["dropped"]) == ([180, 200], {})
