"""ForwardedRequest: what forward() returns, RFC 3261 §16.7 and §16.10."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import Cancelled, Reject, forward
from sippet_gevent.testing import SERVER

from ..wire import Peer, sent

CALLER = "10.0.0.50"
PHONE = "10.0.0.61"
TARGET = f"sip:bob@{PHONE}"


@pytest.fixture
def caller(sip):
    return Peer(sip, CALLER)


@pytest.fixture
def phone(sip):
    return Peer(sip, PHONE)


def finals(caller):
    return [response.status for response in caller.responses if response.status >= 200]


def test_forwarded_request_keeps_no_greenlet(sip, caller, phone):
    stack = sip.serve(lambda request, tx: forward(request, tx, TARGET))
    caller.ask("INVITE")
    phone.reply(phone.last("INVITE"), 180)
    assert (stack.engine.workers.busy, stack.stats()["forwarding"]) == (0, 1)
    phone.reply(phone.last("INVITE"), 486)
    assert (caller.statuses[-1], stack.stats()["forwarding"]) == (486, 0)


@pytest.mark.rfc("3261 16.7")
def test_response_leaves_before_the_request_that_came_after_it(sip, caller, phone):
    sip.serve(
        lambda request, tx: forward(request, tx, *([TARGET] if tx.request.to.tag is None else []))
    )
    caller.ask("SUBSCRIBE", event="presence", contact=f"<{caller.uri}>")
    subscribe = phone.last("SUBSCRIBE")
    notify = phone.request("NOTIFY", caller.uri, to=f"<{caller.uri}>;tag=a", event="presence")
    accepted = subscribe.response(200, contact=f"<{phone.uri}>", expires=60)
    for message in (accepted, notify):  # in one burst
        phone._transport.connect((SERVER, 5060)).send(bytes(message))
    sip.settle()
    assert sent(sip, SERVER, CALLER) == ["200", "NOTIFY"]
    caller.reply(caller.last("NOTIFY"), 200)


def test_core_ends_before_the_responses(sip, caller, phone):
    ended = []

    def core(request, tx):
        forward(request, tx, TARGET)
        ended.append(tx.answered)

    sip.serve(core)
    caller.ask("MESSAGE")
    assert ended == [0]
    phone.reply(phone.last("MESSAGE"), 202)
    assert caller.statuses == [202]


def test_wait_returns_the_status_that_the_caller_got(sip, caller, phone):
    waited = []

    def core(request, tx):
        waited.append(forward(request, tx, TARGET).wait())
        return waited[-1]

    stack = sip.serve(core)
    caller.ask("INVITE")
    assert (waited, stack.engine.workers.busy) == ([], 1)
    phone.reply(phone.last("INVITE"), 486)
    assert (waited, finals(caller), stack.stats()["late_answers"]) == ([486], [486], 0)


@pytest.mark.rfc("3261 16.10")
def test_wait_raises_cancelled_after_the_branches_have_ended(sip, caller, phone):
    met = []

    def core(request, tx):
        try:
            forward(request, tx, TARGET).wait()
        except Cancelled:
            met.append(tx.answered)
            raise

    sip.serve(core)
    invite = caller.ask("INVITE")
    phone.reply(phone.last("INVITE"), 180)
    caller.send(invite.cancel())
    assert met == []
    phone.reply(phone.last("INVITE"), 487)
    assert (met, finals(caller)) == ([487], [200, 487])


def test_timeout_around_wait_lets_the_core_answer_and_cancels_the_phone(sip, caller, phone):
    def core(request, tx):
        forwarded = forward(request, tx, TARGET)
        try:
            with gevent.Timeout(0.01):
                forwarded.wait()
        except gevent.Timeout:
            return 480

    sip.serve(core)
    caller.ask("INVITE")
    phone.reply(phone.last("INVITE"), 180)
    gevent.sleep(0.05)
    sip.settle()
    assert (finals(caller), phone.methods) == ([480], ["INVITE", "CANCEL"])
    phone.reply(phone.last("INVITE"), 487)
    assert finals(caller) == [480]


def test_core_that_raises_after_forward_is_500_and_cancels_the_phone(sip, caller, phone):
    def core(request, tx):
        forward(request, tx, TARGET)
        raise Reject(403)

    sip.serve(core)
    caller.ask("INVITE")
    phone.reply(phone.last("INVITE"), 180)
    assert (finals(caller), phone.methods) == ([403], ["INVITE", "CANCEL"])


def test_cancel_of_the_result_ends_the_invite(sip, caller, phone):
    kept = []
    sip.serve(lambda request, tx: kept.append(forward(request, tx, TARGET)))
    caller.ask("INVITE")
    phone.reply(phone.last("INVITE"), 180)
    kept[0].cancel(reason_header="SIP;cause=408")
    sip.settle()
    assert phone.last("CANCEL").headers["Reason"] == "SIP;cause=408"
    phone.reply(phone.last("INVITE"), 487)
    assert finals(caller) == [487]


def test_forward_of_an_ack_has_nothing_to_wait_for(sip, caller, phone):
    waited = []

    def core(request, tx):
        waited.append(forward(request, tx, TARGET).wait())

    sip.serve(core)
    caller.ask("ACK", to=f"<{TARGET}>;tag=1")
    assert (waited, phone.methods) == ([0], ["ACK"])


# ---- names


@pytest.fixture
def slow(sip, monkeypatch):
    """Return a function that makes a stack whose name slow.example takes a while to resolve."""
    release = gevent.event.Event()

    def serve(core):
        stack = sip.serve(core)
        resolve = stack.sender.resolve

        def wait(uri, *listener):
            if uri.host == "slow.example":
                release.wait()
                uri = uri._replace(host=PHONE)
            return resolve(uri, *listener)

        monkeypatch.setattr(stack.sender, "resolve", wait)
        return stack

    serve.release = release
    return serve


def test_slow_name_delays_neither_the_core_nor_the_other_targets(sip, caller, phone, slow):
    other = Peer(sip, "10.0.0.62")
    stack = slow(lambda request, tx: forward(request, tx, "sip:a@slow.example", other.uri))
    caller.ask("INVITE")
    assert (other.methods, stack.engine.workers.busy) == (["INVITE"], 0)
    other.reply(other.last("INVITE"), 486)
    assert finals(caller) == []
    slow.release.set()
    sip.settle()
    phone.reply(phone.last("INVITE"), 200, contact=f"<{phone.uri}>")
    assert finals(caller) == [200]


@pytest.mark.rfc("3261 16.10")
def test_invite_cancelled_while_its_name_resolves_is_not_sent(sip, caller, phone, slow):
    slow(lambda request, tx: forward(request, tx, "sip:a@slow.example"))
    invite = caller.ask("INVITE")
    caller.send(invite.cancel())
    slow.release.set()
    sip.settle()
    assert (phone.methods, finals(caller)) == ([], [200, 487])


# ---- on_final()


def test_on_final_gets_the_status_without_a_greenlet(sip, caller, phone):
    seen = []

    def core(request, tx):
        tx.on_final(seen.append)
        return forward(request, tx, TARGET)

    stack = sip.serve(core)
    caller.ask("INVITE")
    assert (seen, stack.engine.workers.busy) == ([], 0)
    phone.reply(phone.last("INVITE"), 486)
    assert seen == [486]


def test_on_final_after_the_answer_is_called_at_once(sip, caller):
    seen = []

    def core(request, tx):
        tx.respond(200)
        tx.on_final(seen.append)

    sip.serve(core)
    caller.ask("OPTIONS")
    assert seen == [200]


def test_on_final_that_raises_is_logged_and_disturbs_nobody(sip, caller, caplog):
    seen = []

    def core(request, tx):
        tx.on_final(lambda status: 1 / 0)
        tx.on_final(seen.append)
        return 486

    stack = sip.serve(core)
    caller.ask("INVITE")
    assert (seen, finals(caller), stack.stats()["core_errors"]) == ([486], [486], 1)
    assert "on_final raised" in caplog.text


def test_on_final_is_500_for_a_core_whose_time_is_over(sip, caller, phone):
    seen = []

    def core(request, tx):
        tx.on_final(seen.append)
        tx.wait(60)

    sip.serve(core)
    caller.ask("MESSAGE")
    sip.advance(33)
    assert seen == [500]


def test_on_final_is_503_when_the_stack_stops(sip, caller, phone):
    seen = []

    def core(request, tx):
        tx.on_final(seen.append)
        return forward(request, tx, TARGET)

    stack = sip.serve(core)
    caller.ask("INVITE")
    stack.stop()
    assert (seen, finals(caller)) == ([503], [])


@pytest.mark.rfc("3261 16.10")
def test_stop_of_a_branch_that_was_cancelled_while_it_was_sent_raises_its_own_error(sip, caller):
    stack, stopped = sip.stack(None, SERVER), []

    @stack.on("INVITE")
    def core(request, tx):
        def send(copy, *rest, user, **named):
            user.fail(Reject(487))  # as a cancelled branch does
            raise gevent.Timeout(1)

        stack.sender.send = send
        try:
            forward(request, tx, TARGET)
        except gevent.Timeout as timeout:
            stopped.append(timeout)
        finally:
            del stack.sender.send
        return 480

    caller.ask("INVITE")
    assert len(stopped) == 1
