"""Stack: addresses, start and stop, drain, what send() adds, who we are, statistics."""

from __future__ import annotations

import logging

import gevent
import pytest

from sippet_gevent import (
    URI,
    Cancelled,
    Core,
    InvalidValue,
    Request,
    Stack,
    StaticResolver,
    Timers,
    TransactionStateError,
    Transport,
    TransportError,
    bridge,
    forward,
)
from sippet_gevent.runtime.limits import Limits
from tests.conditions import PATIENCE, until


def ok(request, tx):
    return 200


@pytest.mark.parametrize(
    "text",
    ["udp:127.0.0.1:5060", "127.0.0.1:5060", "udp:[::1]:5060", "udp:127.0.0.1", "udp:localhost:0"],
)
def test_address_is_accepted(text):
    Stack(text)


@pytest.mark.parametrize(
    "text",
    ["", "udp:", "pigeon:1.2.3.4:5060", "udp:1.2.3.4:99999", "udp:1.2.3.4:x", "udp:::1:5060"],
)
def test_bad_address_is_an_invalid_value_that_quotes_it(text):
    with pytest.raises(InvalidValue, match="address|65535"):
        Stack(text)


def test_listening_address_is_logged_at_start_and_end(caplog):
    with (
        caplog.at_level(logging.INFO, "sippet_gevent.transport"),
        Stack("udp:127.0.0.1:0") as stack,
    ):
        port = stack.engine.transports[0].local[1]
    assert caplog.messages == [
        f"listening: address=udp:127.0.0.1:{port}",
        f"listening ended: address=udp:127.0.0.1:{port}",
    ]


def test_taken_port_is_a_transport_error_and_leaves_nothing_open():
    with Stack("udp:127.0.0.1:0") as first:
        second = Stack("udp:127.0.0.1:0", first.addresses[0])
        with pytest.raises(TransportError, match="in use"):
            second.start()
        assert second.addresses == []


def test_stack_can_be_started_again():
    stack = Stack("udp:127.0.0.1:0")
    for _ in range(2):
        with stack:
            assert len(stack.addresses) == 1


def test_two_stacks_in_one_process_do_not_know_each_other():
    with (
        Stack("udp:127.0.0.1:0", core=ok) as one,
        Stack("udp:127.0.0.1:0", core=lambda r, t: 404) as other,
    ):
        uris = [f"sip:{stack.addresses[0][4:]}" for stack in (one, other)]
        assert other.request("OPTIONS", uris[0], timeout=PATIENCE).status == 200
        assert one.request("OPTIONS", uris[1], timeout=PATIENCE).status == 404


def test_listening_on_two_addresses_answers_from_each(sip):
    with (
        Stack("udp:127.0.0.1:0", "udp:127.0.0.1:0", core=ok) as stack,
        Stack("udp:127.0.0.1:0") as client,
    ):
        for address in stack.addresses:
            response = client.request("OPTIONS", f"sip:{address[4:]}", timeout=PATIENCE)
            assert response.flow.remote[1] == int(address.rpartition(":")[2])


def test_serve_forever_returns_when_stopped_from_elsewhere():
    stack = Stack("udp:127.0.0.1:0")
    greenlet = gevent.spawn(stack.serve_forever)
    until(lambda: stack.is_running)
    stack.stop()
    greenlet.join(PATIENCE)
    assert greenlet.successful()


def test_sending_before_start_is_a_transport_error():
    with pytest.raises(TransportError, match="start"):
        Stack("udp:127.0.0.1:0").request("OPTIONS", "sip:127.0.0.1")


@pytest.mark.rfc("3261 8.1.1")
def test_send_adds_what_a_request_must_have(sip):
    seen = []
    sip.ask(lambda request, tx: seen.append(request) or 200, "OPTIONS sip:bob@example.com")
    request = seen[0]
    assert request.max_forwards == 70
    assert request.via[0].branch.startswith("z9hG4bK") and len(request.via[0].branch) == 7 + 32
    assert request.from_.tag and request.to.tag is None
    assert str(request.to.uri) == "sip:bob@example.com"
    assert request.cseq.method == "OPTIONS" and request.call_id


def test_send_leaves_what_the_request_has(sip):
    seen = []
    sip.ask(
        lambda request, tx: seen.append(request) or 200,
        "MESSAGE sip:bob@example.com",
        from_="<sip:me@example.com>;tag=mine",
        call_id="my-call",
        max_forwards=5,
        body="hi",
    )
    assert (seen[0].from_.tag, seen[0].call_id, seen[0].max_forwards, seen[0].body) == (
        "mine",
        "my-call",
        5,
        b"hi",
    )


@pytest.mark.rfc("3261 8.1.1.8")
def test_invite_gets_a_contact_that_reaches_us(sip):
    seen = []
    sip.ask(lambda request, tx: seen.append(request) or 486, "INVITE sip:bob@example.com")
    assert str(seen[0].contact[0].uri) == "sip:10.0.0.100:5060"


def test_core_may_be_a_class_an_instance_or_a_function(sip):
    class Mine(Core):
        def receive_request(self, request, tx):
            return 299 if self.stack is not None else 500

    for core in (Mine, Mine(), lambda request, tx: 299):
        assert sip.ask(sip.stack(core), "OPTIONS sip:x@example.com").statuses == [299]


def test_what_is_no_core_is_refused():
    with pytest.raises(TypeError, match="a core must be a callable of .* got 42: write def core"):
        Stack(core=42)


def test_own_addresses_and_domains_are_local(sip):
    stack = sip.stack(host="10.0.0.1", domains=("example.com",))
    assert stack.is_local(URI.parse("sip:10.0.0.1"))
    assert stack.is_local(URI.parse("sip:bob@EXAMPLE.com"))
    assert not stack.is_local(URI.parse("sip:10.0.0.1:5070"))
    assert not stack.is_local(URI.parse("tel:+1"))


def test_draining_stack_refuses_new_requests_with_503_and_retry_after(sip):
    stack = sip.stack(ok)
    stack.drain()
    asked = sip.ask(stack, "OPTIONS sip:x@example.com")
    assert asked.statuses == [503]
    assert 1 <= asked.responses[0].retry_after.seconds <= 10


def test_stop_with_a_timeout_lets_running_cores_finish(sip):
    def slow(request, tx):
        tx.wait(2)
        return 200

    stack = sip.stack(slow)
    asked = sip.ask(stack, "OPTIONS sip:x@example.com")
    stopping = gevent.spawn(stack.stop, 30)
    sip.advance(1)
    assert not stopping.ready()
    sip.advance(2)
    assert stopping.ready() and asked.statuses == [200]


def test_stop_does_not_wait_for_ever(sip):
    stack = sip.stack(lambda request, tx: tx.wait(20) or 200)
    sip.ask(stack, "OPTIONS sip:x@example.com")
    stopping = gevent.spawn(stack.stop, 3)
    sip.advance(4)
    assert stopping.ready()


def rings(request, tx):
    tx.respond(180)
    tx.wait(100)
    return 486


@pytest.mark.parametrize(
    "core",
    [
        rings,
        lambda request, tx: forward(request, tx, "sip:bob@10.0.0.9"),
        lambda request, tx: bridge(request, tx, "sip:bob@10.0.0.9"),
    ],
    ids=["core", "forward", "bridge"],
)
def test_call_that_rings_when_the_drain_is_over_gets_503(sip, core):
    fates = []

    def phone(request, tx):
        tx.respond(180)
        try:
            tx.wait(100)
        except Cancelled:
            fates.append("cancelled")
            raise

    sip.stack(phone, host="10.0.0.9")
    stack = sip.stack(core)
    asked = sip.ask(stack, "INVITE sip:x@example.com")
    stopping = gevent.spawn(stack.stop, 3)
    sip.advance(4)
    assert stopping.ready()
    assert asked.statuses[-1] == 503
    assert asked.responses[-1].retry_after is not None
    assert fates == ([] if core is rings else ["cancelled"])


def test_stack_beyond_its_transactions_answers_503(sip):
    stack = sip.stack(ok, limits=Limits(transactions=3))
    assert [sip.ask(stack, "OPTIONS sip:x@example.com").statuses for _ in range(4)] == [
        [200]
    ] * 3 + [[503]]


def test_stats_count_what_became_of_each_message(sip):
    stack = sip.stack(ok)
    sip.ask(stack, "OPTIONS sip:x@example.com")
    stats = stack.stats()
    assert (stats["received"], stats["delivered"], stats["server_transactions"]) == (1, 1, 1)
    sip.advance(40)
    assert stack.stats()["server_transactions"] == 0


def test_timers_are_the_stack_s_own(sip):
    stack = sip.stack(ok, timers=Timers(t1=0.1))
    sip.ask(stack, "OPTIONS sip:x@example.com")
    sip.advance(6.5)
    assert stack.stats()["server_transactions"] == 0


def test_request_object_of_yours_is_sent_as_it_is(sip):
    seen = []
    server = sip.stack(lambda request, tx: seen.append(request) or 200)
    request = Request("NOTIFY", "sip:x@10.0.0.2", subject="hello")
    request.headers["X-Odd"] = "kept"
    tx = sip.client.send(request, next_hop="sip:10.0.0.2")
    assert sip.run(tx.final).status == 200
    assert (seen[0].subject, seen[0].headers["x-odd"]) == ("hello", "kept")
    assert server.stats()["delivered"] == 1


def test_core_that_raises_what_is_no_exception_answers_500(sip):
    class Odd(BaseException):
        pass

    def core(request, tx):
        raise Odd

    assert sip.ask(core, "OPTIONS sip:x@example.com").statuses == [500]


def test_wildcard_stack_knows_its_own_addresses_before_it_has_said_anything():
    with Stack("udp:0.0.0.0:0") as stack:
        port = stack.engine.transports[0].local[1]
        assert stack.is_local(URI.parse(f"sip:127.0.0.1:{port}"))
        assert not stack.is_local(URI.parse(f"sip:192.0.2.1:{port}"))
        assert not stack.is_local(URI.parse(f"sip:example.com:{port}"))


def test_address_that_could_not_be_opened_is_not_tried_again():
    with Stack("udp:127.0.0.1:0") as other, Stack("udp:127.0.0.1:0") as stack:
        with pytest.raises(TransportError):
            stack.listen(other.addresses[0])
        stack.stop()
        assert len(stack.start().addresses) == 1


def test_request_that_is_sent_twice_has_one_via_each_time(sip):
    seen = []
    sip.stack(lambda request, tx: seen.append(request.via) or 200)
    request = Request("OPTIONS", "sip:x@10.0.0.2")
    for number in (1, 2):
        request.cseq = f"{number} OPTIONS"
        sip.run(sip.client.send(request).final)
    assert [len(vias) for vias in seen] == [1, 1]
    assert seen[0][0].branch != seen[1][0].branch


def test_draining_stack_begins_nothing_new_of_its_own(sip):
    sip.client.drain()
    with pytest.raises(TransactionStateError, match="draining"):
        sip.client.request("OPTIONS", "sip:x@10.0.0.2")


def test_core_that_sends_requests_while_draining_answers_503(sip, caplog):
    def core(request, tx):
        tx.wait(1)
        tx.stack.request("OPTIONS", "sip:x@10.0.0.2")

    asked = sip.ask(core, "MESSAGE sip:bob@example.com")
    sip.serve(core).drain()
    sip.advance(2)
    assert asked.statuses == [503]
    assert not [record for record in caplog.records if record.exc_info]


def test_name_that_no_codec_takes_is_a_transport_error(sip):
    with pytest.raises(TransportError, match=r"a\.\.b"):
        sip.client.request("OPTIONS", "sip:x@a..b")


def test_port_out_of_range_is_a_transport_error_without_transaction():
    with Stack("udp:127.0.0.1:0") as stack:
        tx = stack.send(
            Request("OPTIONS", "sip:x@127.0.0.1"), next_hop=URI("sip", None, "127.0.0.1", 70000)
        )
        with pytest.raises(TransportError):
            tx.final(timeout=PATIENCE)
        assert stack.stats()["client_transactions"] == 0


class Named(Transport):
    """A transport that resolves hosts by itself, and notes to whom it connects."""

    name, reliable, default_port, resolves = "XYZ", False, 7000, True

    def __init__(self):
        self.asked = []

    def start(self, address, receive, events):
        self.local = address

    def connect(self, address):
        self.asked.append(address)
        raise TransportError("nobody is there")

    def stop(self):
        pass


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("sip:bob@PBX;transport=xyz", ("pbx", 7000)),
        ("sip:bob@pbx.example:5070;transport=XYZ", ("pbx.example", 5070)),
        ("sip:[2001:db8::1];transport=xyz", ("2001:db8::1", 7000)),
        ("sip:bob@elsewhere;maddr=pbx;transport=xyz", ("pbx", 7000)),
    ],
)
def test_transport_that_resolves_gets_names_and_no_dns_is_asked(uri, address):
    transport = Named()
    stack = Stack(resolver=StaticResolver({}))
    stack.listen("xyz:here", transport)
    with stack:
        assert stack.addresses == ["xyz:here:7000"]
        with pytest.raises(TransportError, match="nobody is there"):
            stack.request("OPTIONS", uri)
        assert transport.asked == [address]
        assert stack.is_local(URI.parse("sip:here:7000;transport=xyz"))


@pytest.mark.parametrize(
    "uri", ["sip:bob@pbx", "sip:bob@pbx;transport=tcp", "sips:bob@pbx;transport=xyz"]
)
def test_transport_that_resolves_is_given_no_others(uri):
    transport = Named()
    stack = Stack(resolver=StaticResolver({}))
    stack.listen("xyz:here", transport)
    with stack, pytest.raises(TransportError):
        stack.request("OPTIONS", uri)
    assert not transport.asked


def test_transport_that_resolves_is_chosen_by_its_listener_name():
    one, other = Named(), Named()
    stack = Stack(resolver=StaticResolver({}))
    stack.listen("xyz:here;name=one", one)
    stack.listen("xyz:there;name=other", other)
    with stack:
        for listener in ("other", "one"):
            with pytest.raises(TransportError, match="nobody is there"):
                stack.request("OPTIONS", "sip:bob@pbx;transport=xyz", listener=listener)
        assert one.asked == other.asked == [("pbx", 7000)]


def test_name_of_a_transport_counts_with_that_transport_only():
    with pytest.raises(InvalidValue, match="transports are udp"):
        Stack("xyz:here")
    with pytest.raises(InvalidValue, match="transports are udp, tcp, tls.*, xyz"):
        Stack().listen("abc:here", Named())
