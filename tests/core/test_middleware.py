"""Middleware: a callable round a core, which sees the request before it and the result after it."""

from __future__ import annotations

import functools

import gevent
import pytest

from sippet_gevent import Cancelled, Core, InvalidValue, Reject, forward
from sippet_gevent.core.middleware import Middleware
from sippet_gevent.testing import CLIENT

from .wire import Peer, sent


@pytest.fixture
def peer(sip):
    return Peer(sip, "10.0.0.50")


def noting(notes):
    """Middleware that notes what passes through it."""

    def middleware(core):
        @functools.wraps(core)
        def wrapped(request, tx):
            notes.append(request.method)
            try:
                result = core(request, tx)
            except Exception as error:
                notes.append(error)
                raise
            notes.append(result)
            return result

        return wrapped

    return middleware


def guard(core):
    """Middleware that refuses MESSAGE."""

    def guarded(request, tx):
        return 403 if request.method == "MESSAGE" else core(request, tx)

    return guarded


def test_middleware_sees_the_request_and_the_result(sip):
    notes = []
    sip.ask(noting(notes)(lambda request, tx: 200), "OPTIONS sip:bob@example.com")
    assert notes == ["OPTIONS", 200]


def test_middleware_may_answer_without_the_core(sip):
    served = []
    asked = sip.ask(
        guard(lambda request, tx: served.append(request) or 200), "MESSAGE sip:bob@example.com"
    )
    assert (asked.statuses, served) == ([403], [])


def test_core_may_be_wrapped_while_the_stack_runs(sip, peer):
    stack = sip.serve(lambda request, tx: 200)
    stack.core = guard(stack.core)
    peer.ask("MESSAGE")
    peer.ask("OPTIONS")
    assert peer.statuses == [403, 200]


def test_functions_registered_later_are_wrapped_too(sip, peer):
    stack = sip.stack(host="10.0.0.1")
    stack.core = guard(stack.core)
    stack.on("MESSAGE", "INFO")(lambda request, tx: 200)
    peer.ask("MESSAGE")
    peer.ask("INFO")
    assert peer.statuses == [403, 200]


def test_middleware_may_change_the_answer(sip):
    def branded(core):
        def wrapped(request, tx):
            response = request.response(core(request, tx))
            response.server = "tests"
            return response

        return wrapped

    assert (
        sip.ask(branded(lambda request, tx: 404), "OPTIONS sip:bob@example.com").response.server
        == "tests"
    )


def test_middleware_may_change_the_request(sip):
    def numbered(core):
        def wrapped(request, tx):
            request.headers["X-Number"] = "7"
            return core(request, tx)

        return wrapped

    seen = []
    sip.ask(
        numbered(lambda request, tx: seen.append(request.headers["X-Number"]) or 200),
        "OPTIONS sip:bob@example.com",
    )
    assert seen == ["7"]


def test_middleware_may_catch_what_the_core_raises(sip, peer):
    def missing_is_404(core):
        def wrapped(request, tx):
            try:
                return core(request, tx)
            except LookupError:
                return 404

        return wrapped

    stack = sip.serve(missing_is_404(lambda request, tx: {}["bob"]))
    peer.ask("MESSAGE")
    assert (peer.statuses, stack.stats()["core_errors"]) == ([404], 0)


def test_middleware_that_lets_a_refusal_through_sees_it(sip):
    def core(request, tx):
        raise Reject(486)

    notes = []
    asked = sip.ask(noting(notes)(core), "INVITE sip:bob@example.com")
    assert asked.statuses == [486]
    assert [type(note) for note in notes] == [str, Reject]


def test_cancelled_passes_through_middleware(sip):
    notes = []
    asked = sip.ask(noting(notes)(lambda request, tx: tx.wait(30)), "INVITE sip:bob@example.com")
    sip.advance(0.3)
    asked.cancel()
    assert asked.statuses == [100, 487]
    assert [type(note) for note in notes] == [str, Cancelled]


def test_innermost_core_is_asked_last(sip):
    order = []

    def named(name):
        def middleware(core):
            def wrapped(request, tx):
                order.append(name)
                return core(request, tx)

            return wrapped

        return middleware

    sip.ask(
        named("outer")(named("inner")(lambda request, tx: order.append("core") or 200)),
        "OPTIONS sip:bob@example.com",
    )
    assert order == ["outer", "inner", "core"]


def test_bye_of_a_call_does_not_need_the_middleware(sip, peer):
    notes = []
    sip.serve(noting(notes)(lambda request, tx: tx.accept(body="b").wait(60) and None))
    invite = peer.ask("INVITE")
    peer.send(peer.within(invite, peer.responses[0], "ACK"))
    peer.send(peer.within(invite, peer.responses[0], "BYE"))
    assert peer.statuses == [200, 200]
    assert notes == ["INVITE", None]


def test_ack_of_nothing_passes_through_middleware_and_is_not_answered(sip, peer):
    notes = []
    sip.serve(noting(notes)(lambda request, tx: 200))
    peer.ask("ACK", to="<sip:bob@10.0.0.1>;tag=1")
    assert (notes, sent(sip)) == (["ACK", 200], ["ACK"])


def test_core_that_is_an_instance_may_wrap_one(sip, peer):
    class Guard(Core):
        def __init__(self, inner):
            self.inner = inner

        def receive_request(self, request, tx):
            return 403 if request.method == "OPTIONS" else self.inner(request, tx)

    sip.serve(Guard(lambda request, tx: 200))
    peer.ask("OPTIONS")
    peer.ask("MESSAGE")
    assert peer.statuses == [403, 200]


# ---- stack.use()


def named(name, order):
    """Middleware that notes its name for each request that is received."""

    def middleware(core):
        def wrapped(request, tx):
            order.append(name)
            return core(request, tx)

        return wrapped

    return middleware


class Sending(Middleware):
    """Middleware that notes its name for each request that is sent."""

    def __init__(self, name, order):
        self.name = name
        self.order = order

    def send(self, request, send):
        self.order.append((self.name, request.method))
        return send(request)


def test_first_middleware_used_sees_a_request_first(sip):
    order = []
    stack = sip.stack(lambda request, tx: order.append("core") or 200, host="10.0.0.1")
    stack.use(named("first", order))
    stack.use(named("second", order))
    assert sip.ask(stack, "OPTIONS sip:bob@example.com").statuses == [200]
    assert order == ["first", "second", "core"]


def test_core_that_is_assigned_later_is_wrapped(sip):
    order = []
    stack = sip.stack(host="10.0.0.1")
    stack.use(named("first", order))
    stack.core = core = lambda request, tx: 404
    assert sip.ask(stack, "OPTIONS sip:bob@example.com").statuses == [404]
    assert (order, stack.core) == (["first"], core)


def test_methods_of_a_wrapped_stack_are_still_allowed(sip, peer):
    stack = sip.stack(host="10.0.0.1")
    stack.use(named("first", []))
    stack.on("INFO")(lambda request, tx: 200)
    peer.ask("MESSAGE")
    assert peer.responses[-1].status == 405 and "INFO" in peer.responses[-1].allow


def test_sent_requests_pass_middleware_in_the_order_given(sip):
    order = []
    sip.serve(lambda request, tx: 200)
    sip.client.use(Sending("first", order))
    sip.client.use(Sending("second", order))
    response = sip.run(sip.client.request, "OPTIONS", "sip:bob@10.0.0.1")
    assert response.status == 200
    assert order == [("first", "OPTIONS"), ("second", "OPTIONS")]


def test_middleware_may_change_a_sent_request(sip):
    class Numbered(Middleware):
        def send(self, request, send):
            request.headers["X-Number"] = "7"
            return send(request)

    seen = []
    sip.serve(lambda request, tx: seen.append(request.headers["X-Number"]) or 200)
    sip.client.use(Numbered())
    sip.run(sip.client.request, "OPTIONS", "sip:bob@10.0.0.1")
    assert seen == ["7"]


def test_middleware_that_raises_keeps_a_request_from_being_sent(sip):
    class Never(Middleware):
        def send(self, request, send):
            raise Reject(403)

    sip.serve(lambda request, tx: 200)
    sip.client.use(Never())
    with pytest.raises(Reject):
        sip.run(sip.client.request, "OPTIONS", "sip:bob@10.0.0.1")
    assert sent(sip) == []


def test_bye_of_a_call_passes_middleware(sip):
    order = []
    stack = sip.stack(lambda request, tx: tx.accept(body="b").hangup(), host="10.0.0.1")
    stack.use(Sending("first", order))
    peer = Peer(sip, "10.0.0.50", answer=lambda request: 200)
    invite = peer.ask("INVITE")
    peer.send(peer.within(invite, peer.responses[0], "ACK"))
    assert order == [("first", "BYE")]


def test_forwarded_request_passes_middleware(sip, peer):
    order = []
    phone = Peer(sip, "10.0.0.60", answer=lambda request: 200)
    stack = sip.serve(lambda request, tx: forward(request, tx, phone.uri))
    stack.use(Sending("first", order))
    peer.ask("OPTIONS")
    assert (peer.statuses, order) == ([200], [("first", "OPTIONS")])


@pytest.mark.parametrize(
    "wrong", [None, 7, lambda: None, lambda core: None, type("S", (), {"send": lambda self: 1})()]
)
def test_what_is_no_middleware_is_refused(sip, wrong):
    with pytest.raises(TypeError):
        sip.client.use(wrong)


class Copying(Middleware):
    """Middleware that sends a copy in place of each request."""

    def send(self, request, send):
        return send(request.copy())


def test_ack_that_middleware_copied_is_repeated_for_each_2xx(sip):
    peer = Peer(sip, "10.0.0.60")
    sip.client.use(Copying())
    call = gevent.spawn(sip.client.invite, peer.uri)
    sip.settle()
    response = peer.received[0].response(200, contact=peer.uri)
    for _ in range(3):
        peer.send(response, to=CLIENT)
    sip.settle()
    assert [message.method for message in peer.received] == ["INVITE", "ACK", "ACK", "ACK"]
    call.get().hangup()


def test_middleware_that_sends_nothing_is_a_type_error_of_the_caller(sip):
    class Silent(Middleware):
        def send(self, request, send):
            return None

    sip.serve(lambda request, tx: 200)
    sip.client.use(Silent())
    with pytest.raises(TypeError, match="middleware returned without sending .*: call send"):
        sip.run(sip.client.request, "OPTIONS", "sip:bob@10.0.0.1")
    assert sent(sip) == []


def test_request_that_middleware_sends_twice_is_refused(sip):
    class Twice(Middleware):
        def send(self, request, send):
            send(request)
            return send(request)

    sip.serve(lambda request, tx: 200)
    sip.client.use(Twice())
    with pytest.raises(InvalidValue, match=r"has left already: send request\.copy\(\)"):
        sip.run(sip.client.request, "OPTIONS", "sip:bob@10.0.0.1")


def test_middleware_that_fails_at_the_ack_and_bye_is_counted_and_the_call_ends(sip, caplog):
    class Failing(Middleware):
        def send(self, request, send):
            if request.method in ("ACK", "BYE"):
                raise ZeroDivisionError
            return send(request)

    peer = Peer(sip, "10.0.0.60")
    sip.client.use(Failing())
    calling = gevent.spawn(sip.client.invite, peer.uri)
    sip.settle()
    peer.send(peer.received[0].response(200, contact=peer.uri), to=CLIENT)
    sip.settle()
    call = calling.get()
    call.hangup()
    sip.settle()
    assert call.ended.is_set() and not sip.client.dialogs
    assert sip.client.stats()["core_errors"] == 2
    assert "ACK not sent" in caplog.text and "BYE not sent" in caplog.text


@pytest.mark.rfc("3261 13.2.2.4")
def test_ack_through_middleware_that_reaches_nothing_is_a_failed_next_hop(sip, caplog):
    peer = Peer(sip, "10.0.0.60")
    sip.client.use(Copying())
    calling = gevent.spawn(sip.client.invite, peer.uri)
    sip.settle()
    response = peer.received[0].response(200, contact="<sip:bob@nobody.example>")
    peer.send(response, to=CLIENT)
    sip.settle()
    assert "next hop failed: method=ACK" in caplog.text
    assert sip.client.stats()["next_hop_failures"]["no_address"] == 1
    calling.get().hangup()


def test_middleware_that_is_refused_leaves_the_chain_as_it_was(sip):
    class NoCore(Middleware):
        def __call__(self, core):
            return None

    order = []
    stack = sip.stack(lambda request, tx: 200, host="10.0.0.1")
    stack.use(named("first", order))
    with pytest.raises(TypeError):
        stack.use(NoCore())
    stack.core = lambda request, tx: 404
    assert sip.ask(stack, "OPTIONS sip:bob@example.com").statuses == [404]
    assert order == ["first"] and stack.middleware.senders == ()
