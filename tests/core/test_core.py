"""Core: the ancestor's three callbacks."""

from __future__ import annotations

import pytest

from sippet_gevent import (
    Account,
    Authenticated,
    Core,
    Limits,
    Location,
    MemoryBindings,
    Registrar,
    RegistrarProxy,
    Request,
    TransactionTimeout,
    TransportError,
    Trunk,
    Trunks,
    TrustDomain,
    forward,
)
from sippet_gevent.engine.users import NullUser

from .wire import Peer

CALLER = "10.0.0.50"


class Notes(Core):
    """Notes what each callback gets."""

    def __init__(self):
        self.requests, self.responses, self.errors = [], [], []

    def receive_request(self, request, tx):
        self.requests.append((request.method, tx))
        return 200

    def receive_response(self, response, tx):
        self.responses.append((response.status, tx))

    def receive_error(self, error, tx):
        self.errors.append((type(error), tx.method))


@pytest.fixture
def peer(sip):
    return Peer(sip, CALLER)


@pytest.fixture
def core():
    return Notes()


@pytest.fixture
def stack(sip, core):
    return sip.serve(core)


def response_of_nothing(peer, status=200, via="SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKnobody"):
    """A response to a request that was never sent."""
    request = peer.request("OPTIONS")
    request.headers["Via"] = [via]
    return request.response(status)


# ---- receive_request


def test_core_is_given_its_stack(stack, core):
    assert core.stack is stack


def no_password(core):
    return Authenticated(core, realm="r", users={"bob": "x"}, exempt=lambda request, tx: True)


def with_trunks(proxy):
    trunk = Trunk(Account("sip:100@carrier.example", register=False), numbers=("0",))
    return Trunks(proxy, [trunk], is_open=True)


@pytest.mark.parametrize("around", [lambda proxy: proxy, no_password, TrustDomain, with_trunks])
def test_core_that_another_core_calls_is_given_the_stack(sip, peer, around):
    inner = around(RegistrarProxy())
    stack = sip.serve(lambda request, tx: inner(request, tx))
    peer.ask("MESSAGE", "sip:bob@10.0.0.1")
    assert (peer.statuses, inner.stack) == ([404], stack)


def test_core_that_another_core_calls_keeps_the_stack_that_it_has(sip, peer):
    inner = RegistrarProxy()
    owner = sip.stack(inner)
    sip.serve(lambda request, tx: inner(request, tx))
    peer.ask("MESSAGE", "sip:bob@10.0.0.1")
    assert inner.stack is owner


def test_lookup_in_a_core_knows_the_domains_before_the_first_register(sip, peer):
    """The bindings may be those of an earlier process."""
    bindings, found = MemoryBindings(), []
    before = sip.stack(host="10.0.0.2", domains=("example.com",))
    before.on("REGISTER")(Registrar(Location(bindings)))
    binding = {"to": "<sip:bob@example.com>", "contact": f"<sip:bob@{CALLER}>"}
    peer.ask("REGISTER", "sip:example.com", at="10.0.0.2", **binding)
    location = Location(bindings)

    def core(request, tx):
        found.extend(location.lookup(request.uri))
        return 200

    stack = sip.serve(core, domains=("example.com",))
    peer.ask("MESSAGE", "sip:bob@10.0.0.1")
    assert [str(binding.uri) for binding in found] == [f"sip:bob@{CALLER}"]
    assert location.stack is stack


def test_request_is_received_with_its_transaction(stack, core, peer):
    peer.ask("MESSAGE")
    ((method, tx),) = core.requests
    assert (method, tx.request.method, tx.answered) == ("MESSAGE", "MESSAGE", 200)


def test_what_receive_request_returns_is_the_answer(stack, peer):
    peer.ask("MESSAGE")
    assert peer.statuses == [200]


def test_core_that_overrides_nothing_answers_501(sip, peer):
    sip.serve(Core())
    peer.ask("MESSAGE")
    assert peer.statuses == [501]


def test_class_is_as_good_as_an_instance(sip, peer):
    sip.stack(Notes, "10.0.0.1")
    peer.ask("MESSAGE")
    assert peer.statuses == [200]


def test_stray_ack_is_received_without_a_transaction(stack, core, peer):
    peer.ask("ACK", to="<sip:bob@10.0.0.1>;tag=gone")
    ((method, tx),) = core.requests
    assert (method, tx.transaction, peer.statuses) == ("ACK", None, [])


# ---- receive_response


@pytest.mark.rfc("3261 17.1.3")
def test_stray_response_is_received_without_a_transaction(stack, core, peer):
    peer.send(response_of_nothing(peer))
    assert core.responses == [(200, None)]


def test_response_of_a_request_is_not_received_by_the_core(sip, stack, core, peer):
    peer.answer = lambda request: 200
    sip.run(stack.request, "OPTIONS", peer.uri)
    assert core.responses == []


def test_response_that_the_core_takes_counts_as_delivered(stack, peer):
    peer.send(response_of_nothing(peer))
    assert (stack.stats()["delivered"], stack.stats()["dropped"]) == (1, {})


def test_response_is_dropped_and_counted_where_no_core_wants_it(sip, peer):
    stack = sip.serve(lambda request, tx: 200)
    peer.send(response_of_nothing(peer))
    assert stack.stats()["dropped"] == {"stray_response": 1}


def test_stray_response_is_dropped_if_the_core_has_no_callback(sip, peer):
    stack = sip.serve(Core())
    peer.send(response_of_nothing(peer))
    assert stack.stats()["dropped"] == {"stray_response": 1}


def test_error_of_receive_response_is_counted_and_the_next_request_served(sip, peer):
    class Fails(Notes):
        def receive_response(self, response, tx):
            raise LookupError("a bug of the core's")

    stack = sip.serve(Fails())
    peer.send(response_of_nothing(peer))
    peer.ask("MESSAGE")
    assert (stack.stats()["core_errors"], peer.statuses) == (1, [200])


# ---- receive_error


@pytest.mark.rfc("3261 17.2.1")
def test_error_of_a_transaction_without_waiter_is_received(sip, core, stack, peer):
    core.receive_request = lambda request, tx: 486
    peer.ask("INVITE")  # and no ACK ever comes
    sip.advance(33)
    assert core.errors == [(TransactionTimeout, "INVITE")]


@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
def test_failure_of_a_request_without_waiter_is_received(sip, core, stack, method):
    sent = stack.send(Request(method, "sip:10.0.0.99"))
    sip.advance(33)
    assert core.errors == [(TransactionTimeout, method)]
    with pytest.raises(TransactionTimeout):
        sip.run(sent.final)


def test_failure_of_a_request_that_was_given_up_is_not_received(sip, core, stack):
    with pytest.raises(TransactionTimeout):
        sip.run(stack.request, "INVITE", "sip:10.0.0.99", timeout=1)
    sip.advance(33)
    assert core.errors == []


@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
def test_failure_of_a_branch_is_not_received(sip, peer, method):
    class Proxy(Notes):
        def receive_request(self, request, tx):
            return forward(request, tx, "sip:10.0.0.99")

    sip.serve(proxy := Proxy())
    peer.ask(method)
    sip.advance(35)
    assert [
        error
        for error in proxy.errors
        if error[0] is not TransactionTimeout or error[1] != "INVITE"
    ] == []


def test_error_of_a_transaction_with_waiter_is_not_received(sip, core, stack):
    with pytest.raises(TransactionTimeout):
        sip.run(stack.request, "OPTIONS", "sip:10.0.0.99")
    assert core.errors == []


@pytest.mark.rfc("3261 17.2.4")
def test_response_that_cannot_be_sent_again_is_an_error(sip, core, stack, peer):
    core.receive_request = lambda request, tx: 486
    peer.ask("INVITE")
    stack.engine.transports[0].failure = "no route to host"
    sip.advance(0.6)
    assert core.errors == [(TransportError, "INVITE")]


def test_receive_error_may_block(sip, peer):
    done = []

    class Slow(Notes):
        def receive_request(self, request, tx):
            return 486

        def receive_error(self, error, tx):
            self.stack.request("MESSAGE", peer.uri)
            done.append(error)

    peer.answer = lambda request: 200
    sip.serve(Slow())
    peer.ask("INVITE")
    sip.advance(33)
    assert len(done) == 1


def test_errors_that_are_received_at_the_same_time_are_bounded(sip, peer):
    started = []

    class Stuck(Notes):
        def receive_request(self, request, tx):
            return 486

        def receive_error(self, error, tx):
            started.append(tx)
            self.stack.clock.sleep(5)

    stack = sip.serve(Stuck(), limits=Limits(handlers=3))
    for _ in range(10):
        peer.ask("INVITE")  # none is acknowledged
    sip.advance(33)
    assert (len(started), len(stack.callbacks)) == (3, 3)
    sip.advance(10)
    peer.ask("INVITE")
    sip.advance(33)
    assert len(started) == 4


def test_error_of_receive_error_is_counted(sip, peer):
    class Fails(Notes):
        def receive_request(self, request, tx):
            return 486

        def receive_error(self, error, tx):
            raise LookupError("a bug of the core's")

    stack = sip.serve(Fails())
    peer.ask("INVITE")
    sip.advance(33)
    assert stack.stats()["core_errors"] == 1


def test_sender_that_does_not_wait_gets_no_error(sip, core, stack):
    stack._send(Request("OPTIONS", "sip:10.0.0.99"), user=NullUser())
    sip.advance(33)
    assert core.errors == []
