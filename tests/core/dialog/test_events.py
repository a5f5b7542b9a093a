"""Events and handlers of a call: nothing that comes right behind the ACK is lost."""

from __future__ import annotations

import pytest

from sippet_gevent import InvalidValue, Reject, Stack, TransactionStateError
from sippet_gevent.core.dialog import events

from ..wire import AT_SERVER, Peer, sent, start
from .test_early import Calling

CALLER = "10.0.0.50"


class Answered:
    """A call from a peer, answered by `use(tx)` in the function that serves INVITE alone."""

    def __init__(self, sip, use, *, core=None):
        self.sip = sip
        self.calls = []
        self.stack = Stack(clock=sip.clock) if core is None else None

        def invited(request, tx):
            if request.method != "INVITE" or request.to.tag is not None:
                return core(request, tx)
            return use(tx)

        if core is None:
            self.stack.on("INVITE")(invited)
            sip.serve(self.stack)
        else:
            self.stack = sip.serve(invited)
        self.peer = Peer(sip, CALLER)
        self.invite = self.peer.request("INVITE", body="offer", content_type="application/sdp")
        self.number = self.invite.cseq.number
        self.peer._transport.connect(("10.0.0.1", 5060)).send(bytes(self.invite))

    def answered(self):
        """Let the 200 come, and return it."""
        self.sip.settle()
        return next(r for r in self.peer.responses if r.status == 200)

    def within(self, method, **headers):
        """Make a request within the call."""
        if method == "ACK":
            number = self.invite.cseq.number
        else:
            number = self.number = self.number + 1
        return self.peer.within(self.invite, self.answered(), method, number=number, **headers)

    def send(self, method, **headers):
        self.peer.send(self.within(method, **headers))

    def burst(self, *requests):
        """Send an ACK and these requests at one moment."""
        self.peer.send(self.within("ACK"), *requests)

    def statuses(self, method):
        return [r.status for r in self.peer.responses if r.cseq.method == method]


def digit(answered, what="5"):
    return answered.within("INFO", body=f"Signal={what}", content_type="application/dtmf-relay")


def reading(seen, timeout=60, **options):
    """Return what a core does that reads its events."""

    def use(tx):
        with tx.accept(body=b"answer", **options) as call:
            for event in call.events(timeout):
                seen.append(event.digit or event.method or event.kind)
                if event.kind == "request":
                    event.respond(202)

    return use


# ---- events


def test_digits_are_events_and_are_answered_200(sip):
    seen = []
    answered = Answered(sip, reading(seen))
    answered.burst()
    for what in "12#":
        answered.peer.send(digit(answered, what))
    answered.send("BYE")
    assert seen == ["1", "2", "#", "end"]
    assert answered.statuses("INFO") == [200, 200, 200]


def test_burst_behind_the_ack_before_the_core_s_first_line_is_not_lost(sip):
    seen = []
    answered = Answered(sip, reading(seen))
    first, message = digit(answered, "7"), answered.within("MESSAGE", body="hello")
    again, last = answered.within("INVITE", body="offer"), digit(answered, "8")
    answered.burst(first, message, again, last, answered.within("BYE"))
    assert seen == ["7", "MESSAGE", "8", "end"]
    assert answered.statuses("MESSAGE") in ([202], [487])  # the BYE is in the same burst
    assert answered.statuses("BYE") == [200]
    assert set(answered.statuses("INFO")) == {200}
    assert len(answered.stack.dialogs) == 0


@pytest.mark.rfc("3261 9.2")
def test_cancel_in_one_burst_with_the_ack_changes_nothing(sip):
    seen = []
    answered = Answered(sip, reading(seen))
    answered.answered()
    answered.burst(answered.invite.cancel(), digit(answered, "4"))
    assert seen == ["4"]
    assert answered.statuses("CANCEL") == [200]
    answered.send("BYE")
    assert seen == ["4", "end"]


def test_bye_before_the_ack_reaches_the_core(sip):
    ends = []

    def use(tx):
        with tx.accept() as call:
            ends.extend(event.end for event in call.events())

    answered = Answered(sip, use)
    answered.send("BYE", reason_header="Q.850;cause=16")
    assert [(end.by, end.cause) for end in ends] == [("peer", "bye")]
    assert "cause=16" in ends[0].reason


def test_request_that_no_core_serves_is_an_event_which_the_core_answers(sip):
    seen = []
    answered = Answered(sip, reading(seen))
    answered.burst(answered.within("MESSAGE", body="hello"))
    assert answered.statuses("MESSAGE") == [202]
    answered.send("BYE")
    assert seen == ["MESSAGE", "end"]


@pytest.mark.parametrize("answers", [True, False])
def test_request_is_an_event_before_a_function_for_all_methods_gets_it(sip, answers):
    seen, served = [], []

    def use(tx):
        with tx.accept(body=b"answer") as call:
            for event in call.events():
                seen.append(event.method)
                if answers and event.kind == "request":
                    event.respond(202)

    def others(request, tx):
        served.append(request.method)
        return 403

    answered = Answered(sip, use)
    answered.stack.on()(others)
    answered.stack.on("INFO")(lambda request, tx: 200)
    answered.burst()
    answered.send("MESSAGE")
    assert answered.statuses("MESSAGE") == [202 if answers else 403]
    assert served == ([] if answers else ["MESSAGE"])
    answered.send("INFO")
    assert answered.statuses("INFO") == [200]
    assert "INFO" not in seen, "it has a function of its own"
    answered.send("BYE")


def test_request_event_that_is_not_answered_is_refused(sip):
    def use(tx):
        with tx.accept() as call:
            for _ in call.events():
                pass

    answered = Answered(sip, use)
    answered.burst(answered.within("MESSAGE", body="hello"))
    assert answered.statuses("MESSAGE") == [405]
    answered.send("BYE")


def test_request_is_refused_at_once_when_the_core_waits_for_the_end(sip):
    answered = Answered(sip, lambda tx: tx.accept().wait() and None)
    answered.burst()
    answered.send("MESSAGE", body="hello")
    assert answered.statuses("MESSAGE") == [405]
    answered.send("BYE")


def test_request_waits_t1_for_a_core_that_neither_waits_nor_reads(sip):
    def use(tx):
        with tx.accept():
            tx.stack.clock.sleep(10)

    answered = Answered(sip, use)
    answered.burst()
    answered.send("MESSAGE", body="hello")
    assert answered.statuses("MESSAGE") == []
    sip.advance(0.6)
    assert answered.statuses("MESSAGE") == [405]
    answered.send("BYE")
    sip.advance(10)


def test_events_end_when_none_comes_in_time_and_the_block_hangs_up(sip):
    seen = []
    answered = Answered(sip, reading(seen, timeout=5))
    answered.burst(digit(answered, "1"))
    sip.advance(4)
    answered.peer.send(digit(answered, "2"))
    sip.advance(4)
    assert answered.peer.methods == []
    sip.advance(1.1)
    assert (seen, answered.peer.methods) == (["1", "2"], ["BYE"])


def test_loops_over_events_may_follow_each_other(sip):
    seen = []

    def use(tx):
        with tx.accept() as call:
            for name in ("first", "second"):
                for event in call.events():
                    seen.append((name, event.digit or event.kind))
                    break
            seen.extend(event.kind for event in call.events())

    answered = Answered(sip, use)
    answered.burst(digit(answered, "1"), digit(answered, "2"), digit(answered, "3"))
    answered.send("BYE")
    assert seen == [("first", "1"), ("second", "2"), "digit", "end"]


def test_request_event_at_which_the_loop_ends_is_refused(sip):
    def use(tx):
        with tx.accept() as call:
            for _ in call.events():
                break
            call.wait()

    answered = Answered(sip, use)
    answered.burst(answered.within("MESSAGE", body="hello"))
    assert answered.statuses("MESSAGE") == [405]
    answered.send("BYE")


def test_digit_goes_to_a_core_that_serves_info_unless_it_reads_events(sip):
    served = []
    answered = Answered(
        sip, lambda tx: tx.accept().wait() and None,
        core=lambda request, tx: served.append(request.method) or 299,
    )  # fmt: skip
    answered.burst(digit(answered, "1"))
    assert (served, answered.statuses("INFO")) == (["INFO"], [299])
    answered.send("BYE")


def test_digit_is_refused_while_the_core_waits_for_the_end(sip):
    answered = Answered(sip, lambda tx: tx.accept().wait() and None)
    answered.burst()
    answered.peer.send(digit(answered, "1"))
    assert answered.statuses("INFO") == [405]
    answered.send("BYE")


def test_digit_of_a_function_core_that_reads_events_later_is_there(sip):
    seen = []

    def use(tx):
        with tx.accept() as call:
            tx.wait(1)
            seen.extend(event.digit for event in call.events())

    answered = Answered(sip, use, core=lambda request, tx: 501)
    answered.burst(digit(answered, "9"))
    sip.advance(1.1)
    answered.peer.send(digit(answered, "0"))
    answered.send("BYE")
    assert seen == ["9", "0", ""]
    assert answered.statuses("INFO") == [501, 200]


def test_events_that_nobody_reads_are_bounded_and_counted(sip, monkeypatch):
    monkeypatch.setattr(events, "EVENTS", 3)
    seen = []

    def use(tx):
        with tx.accept() as call:
            tx.wait(1)
            seen.extend(event.digit for event in call.events())

    answered = Answered(sip, use)
    answered.burst(*[digit(answered, what) for what in "12345"])
    assert answered.stack.stats()["call_events_dropped"] == 2
    sip.advance(1.1)
    answered.send("BYE")
    assert seen == ["3", "4", "5", ""]


def test_event_without_a_request_has_nothing_to_answer():
    with pytest.raises(TransactionStateError, match="nothing to answer"):
        events.CallEvent("end").respond(200)


def test_hangup_of_another_greenlet_ends_the_loop(sip):
    seen, calls = [], []

    def use(tx):
        with tx.accept() as call:
            calls.append(call)
            seen.extend(event.end for event in call.events())

    answered = Answered(sip, use)
    answered.burst()
    calls[0].hangup()
    sip.settle()
    assert [(end.by, end.cause) for end in seen] == [("us", "bye")]


# ---- handlers


def test_handler_given_to_accept_serves_a_request_right_behind_the_ack(sip):
    served = []

    def note(request, tx):
        served.append((request.method, tx.call is not None))
        return 202

    answered = Answered(
        sip, lambda tx: tx.accept(handlers={"MESSAGE": note, "INFO": note}).wait() and None
    )
    answered.burst(answered.within("MESSAGE", body="hello"), digit(answered))
    assert served == [("MESSAGE", True), ("INFO", True)]
    assert answered.statuses("MESSAGE") == answered.statuses("INFO") == [202]
    answered.send("BYE")


def test_handler_given_to_invite_serves_requests_in_early_dialogs(sip):
    served = []
    calling = Calling(
        sip, "one",
        handlers={"INFO": lambda request, tx: served.append(tx.call.is_confirmed) or 200},
    )  # fmt: skip
    calling.ask("INFO", "one", number=1)
    calling.responses["one"] = calling.reply(200, "one")
    calling.ask("INFO", "one", number=2)
    assert served == [False, True]
    calling.hangup(calling.greenlet.get())


@pytest.mark.parametrize(
    ("handlers", "error"),
    [
        ({"BYE": print}, InvalidValue), ({"IN FO": print}, InvalidValue), ({"INFO": None}, TypeError),
        ({"INFO": lambda request: 200}, TypeError), ([], TypeError), ({5: print}, InvalidValue),
    ],
)  # fmt: skip
def test_handlers_are_checked(sip, handlers, error):
    with pytest.raises(error):
        sip.client.invite(AT_SERVER, handlers=handlers)


# ---- digits of ours


def test_send_digits_sends_one_info_after_the_other(sip):
    seen = []
    answered = []

    def use(tx):
        with tx.accept(body=b"answer") as call:
            for event in call.events():
                seen.append((event.digit, event.seconds))

    stack = Stack(clock=sip.clock)
    stack.on("INVITE")(lambda request, tx: use(tx))
    sip.serve(stack)
    call = sip.run(sip.client.invite, AT_SERVER)
    sip.run(call.send_digits, "1a#", seconds=0.2)
    answered.append(sent(sip).count("INFO"))
    call.hangup()
    sip.settle()
    assert seen == [("1", 0.2), ("A", 0.2), ("#", 0.2), ("", 0.0)]
    assert answered == [3]


def test_send_digits_falls_back_to_dtmf_and_raises_a_refusal(sip):
    calling = Calling(sip)
    calling.responses["one"] = calling.reply(200, "one")
    call = calling.greenlet.get()
    greenlet = start(sip, call.send_digits, "12")
    calling.peer.reply(calling.peer.last("INFO"), 415)
    plain = calling.peer.last("INFO")
    assert (plain.content_type.name, plain.body) == ("application/dtmf", b"1")
    calling.peer.reply(plain, 200)
    sip.advance(0.2)
    second = calling.peer.last("INFO")
    assert (second.content_type.name, second.body) == ("application/dtmf", b"2")
    calling.peer.reply(second, 403)
    assert isinstance(greenlet.exception, Reject) and greenlet.exception.status == 403
    calling.hangup(call)


# ---- calls that nothing holds


def unowned(sip, use):
    answered = Answered(sip, use)
    answered.burst()
    sip.advance(40)
    return answered, answered.stack.stats()["calls_unowned"]


def test_call_whose_core_has_returned_and_that_nothing_holds_is_counted(sip, caplog):
    answered, count = unowned(sip, lambda tx: tx.accept() and None)
    assert count == 1
    (record,) = [r for r in caplog.records if "call unowned" in r.getMessage()]
    assert answered.invite.call_id in record.getMessage()
    answered.send("BYE")


def test_call_that_the_program_keeps_is_not_counted(sip):
    kept = []
    answered, count = unowned(sip, lambda tx: kept.append(tx.accept()))
    assert count == 0
    kept[0].hangup()
    answered.send("BYE")


def test_call_with_handlers_or_a_waiting_greenlet_is_not_counted(sip):
    answered, count = unowned(
        sip, lambda tx: tx.accept(handlers={"INFO": lambda request, tx: 200}) and None
    )
    assert count == 0
    answered.send("BYE")


def test_call_that_has_ended_is_not_counted(sip):
    answered = Answered(sip, lambda tx: tx.accept() and None)
    answered.burst()
    answered.send("BYE")
    sip.advance(40)
    assert answered.stack.stats()["calls_unowned"] == 0
