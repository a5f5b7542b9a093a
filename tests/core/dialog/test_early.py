"""Early dialogs: each response with a tag begins one, in both roles, RFC 3261 §12, §13.2.2 and §15."""

from __future__ import annotations

import pytest

from sippet_gevent import Cancelled, Reject, TransactionStateError, TransactionTimeout, forward

from ..wire import Peer, sent, start

CALLEE = "10.0.0.60"
CALLER = "10.0.0.50"
BOB = f"sip:bob@{CALLEE}"


class Ringing:
    """A call from a peer that our core lets ring, for a minute unless the test says otherwise."""

    def __init__(self, sip, *, seconds=60, status=180, after=200, **headers):
        self.sip = sip
        self.raised = []
        self.within = []
        self.tx = None

        def core(request, tx):
            if request.to.tag is not None:
                self.within.append((request.method, tx.call))
                return 200
            self.tx = tx
            tx.respond(status)
            try:
                tx.wait(seconds)
            except Cancelled as cancelled:
                self.raised.append(cancelled)
                raise
            return after

        self.stack = sip.serve(core)
        self.peer = Peer(sip, CALLER)
        self.invite = self.peer.ask(
            "INVITE", body="offer", content_type="application/sdp", **headers
        )
        self.response = self.peer.responses[-1]
        self.number = self.invite.cseq.number

    def ask(self, method, **headers):
        """The caller sends a request within the early dialog."""
        self.number = headers.pop("number", self.number + 1)
        request = self.peer.within(
            self.invite, self.response, method, number=self.number, **headers
        )
        self.peer.send(request)
        return request

    def answers(self, method):
        """Return the final statuses that the caller got to requests of this method."""
        return [
            r.status for r in self.peer.responses if r.cseq.method == method and r.status >= 200
        ]


class Calling:
    """An INVITE of ours that rings at one or more peers, as behind a forking proxy."""

    def __init__(self, sip, *tags, status=180, **options):
        self.sip = sip
        self.peer = Peer(sip, CALLEE)
        self.greenlet = start(sip, sip.client.invite, BOB, body="offer", **options)
        self.invite = self.peer.last("INVITE")
        self.responses = {tag: self.reply(status, tag) for tag in tags}

    def reply(self, status, tag, **headers):
        """A branch answers the INVITE."""
        response = self.invite.response(status, **headers)
        response.to = f"<{BOB}>;tag={tag}"
        if "contact" not in headers:
            response.contact = f"<{self.peer.uri}>"
        return self.peer.reply(self.invite, response)

    def ask(self, method, tag, number=1, **headers):
        """The callee of a branch sends a request within its dialog."""
        request = self.peer.back(self.invite, self.responses[tag], method, number=number, **headers)
        self.peer.send(request, to=self.sip.client.engine.transports[0].local[0])
        return request

    def hangup(self, call):
        """Hang up a call, which the callee confirms."""
        call.hangup()
        self.sip.settle()
        self.peer.reply(self.peer.last("BYE"), 200)

    @property
    def dialogs(self):
        return self.sip.client.dialogs


# ---- UAS


@pytest.mark.parametrize("asks", ["before", "after"])
def test_ended_is_set_at_the_end_whenever_it_is_asked_for(sip, asks):
    ringing = Ringing(sip)
    call = ringing.tx.call
    if asks == "before":
        ended, waiting = call.ended, start(sip, call.ended.wait)
        assert not ended.is_set() and call.ended is ended
    ringing.peer.send(ringing.invite.cancel())
    sip.settle()
    assert call.ended.is_set() and call.end.cause == "cancel"
    if asks == "before":
        assert ended.is_set() and waiting.get() is True


@pytest.mark.rfc("3261 12.1", "3261 12.1.1")
def test_provisional_response_with_a_tag_begins_an_early_dialog(sip):
    ringing = Ringing(sip)
    assert (ringing.stack.dialogs.early, len(ringing.stack.dialogs)) == (1, 0)
    assert not ringing.tx.call.is_confirmed
    assert ringing.tx.call.dialog.local.tag == ringing.response.to.tag
    ringing.ask("BYE")


@pytest.mark.rfc("3261 12.1")
def test_early_dialog_becomes_the_dialog_of_the_call(sip):
    ringing = Ringing(sip, seconds=1)
    early = ringing.tx.call
    sip.advance(1.1)
    assert (ringing.stack.dialogs.early, len(ringing.stack.dialogs)) == (0, 1)
    assert early.is_confirmed and ringing.peer.statuses[-1] == 200
    ringing.ask("ACK", number=ringing.invite.cseq.number)
    ringing.ask("BYE", number=ringing.invite.cseq.number + 1)
    assert early.end == ("peer", "bye", 0, "")
    assert len(ringing.stack.dialogs) == 0


@pytest.mark.rfc("3261 15", "3261 15.1.2")
def test_bye_in_early_dialog_is_answered_200_and_the_invite_487(sip):
    ringing = Ringing(sip)
    ringing.ask("BYE", reason_header='SIP;cause=200;text="elsewhere"')
    assert (ringing.answers("BYE"), ringing.answers("INVITE")) == ([200], [487])
    assert len(ringing.raised) == 1
    assert ringing.tx.call.end.by == "peer" and ringing.tx.call.end.cause == "bye"
    assert "elsewhere" in ringing.tx.call.end.reason
    assert ringing.stack.dialogs.early == 0


def test_reason_of_a_bye_in_early_dialog_reaches_the_core(sip):
    ringing = Ringing(sip)
    ringing.ask("BYE", reason_header="SIP;cause=480")
    assert str(ringing.raised[0].cancel.reason_header[0]) == "SIP;cause=480"


@pytest.mark.rfc("3326 2")
def test_call_tells_the_reason_of_the_cancel_that_ended_it(sip):
    ringing = Ringing(sip)
    call, cancel = ringing.tx.call, ringing.invite.cancel()
    cancel.headers["Reason"] = 'SIP;cause=200;text="Call completed elsewhere"'
    ringing.peer.send(cancel)
    assert call.end.cause == "cancel"
    assert call.end.reason == 'SIP;cause=200;text="Call completed elsewhere"'


@pytest.mark.rfc("3261 9.2", "3261 12.3")
def test_cancel_ends_the_early_dialog(sip):
    ringing = Ringing(sip)
    call = ringing.tx.call
    cancel = ringing.invite.cancel()
    ringing.peer.send(cancel)
    assert ringing.answers("INVITE") == [487]
    assert (call.end.by, call.end.cause, call.end.status) == ("peer", "cancel", 487)
    assert ringing.stack.dialogs.early == 0


@pytest.mark.rfc("3261 12.3")
def test_refusal_ends_the_early_dialog(sip):
    ringing = Ringing(sip, seconds=1, after=486)
    call = ringing.tx.call
    sip.advance(1.1)
    assert ringing.answers("INVITE") == [486]
    assert call.end == ("us", "refused", 486, "")
    assert ringing.stack.dialogs.early == 0


@pytest.mark.rfc("3261 12.2.2", "5407 3.2.2")
@pytest.mark.parametrize(("method", "status"), [("BYE", 200), ("INFO", 481), ("UPDATE", 481)])
def test_request_that_crosses_our_refusal_belongs_to_no_dialog(sip, method, status):
    ringing = Ringing(sip, seconds=1, after=486)
    sip.advance(1.1)
    ringing.ask(method)
    assert ringing.answers(method) == [status]
    assert ringing.within == []


@pytest.mark.rfc("3261 14.2")
def test_second_invite_in_early_dialog_gets_500_with_retry_after(sip):
    ringing = Ringing(sip)
    again = ringing.ask("INVITE", body="offer", content_type="application/sdp")
    response = ringing.peer.responses[-1]
    assert (response.status, response.cseq) == (500, again.cseq)
    assert 0 <= response.retry_after.seconds <= 10
    ringing.ask("BYE")


@pytest.mark.rfc("3311 5.2")
def test_update_with_an_offer_while_the_first_offer_is_open_gets_500(sip):
    ringing = Ringing(sip)
    ringing.ask("UPDATE", body="offer", content_type="application/sdp")
    assert ringing.answers("UPDATE") == [500]
    ringing.ask("BYE")


@pytest.mark.rfc("3311 5.2")
def test_update_without_an_offer_is_served_in_early_dialog(sip):
    ringing = Ringing(sip)
    ringing.ask("UPDATE")
    assert ringing.answers("UPDATE") == [200]
    assert ringing.within == []  # the call answers it
    ringing.ask("BYE")


def test_request_in_early_dialog_goes_to_the_core_with_its_call(sip):
    ringing = Ringing(sip)
    ringing.ask("INFO")
    assert ringing.within == [("INFO", ringing.tx.call)]
    ringing.ask("BYE")


@pytest.mark.rfc("3261 12.2.2")
def test_request_in_early_dialog_with_an_old_number_gets_500(sip):
    ringing = Ringing(sip)
    ringing.ask("INFO", number=ringing.invite.cseq.number)
    assert ringing.answers("INFO") == [500]
    ringing.ask("BYE", number=ringing.number + 1)


def test_requests_pending_in_early_dialog_get_487_with_the_bye(sip):
    def core(request, tx):
        tx.respond(180) if request.to.tag is None else None
        tx.wait(100)

    sip.serve(core)
    peer = Peer(sip, CALLER)
    invite = peer.ask("INVITE")
    peer.send(peer.within(invite, peer.responses[-1], "INFO", number=2))
    peer.send(peer.within(invite, peer.responses[0], "BYE", number=3))
    got = {(r.cseq.method, r.status) for r in peer.responses}
    assert got >= {("INFO", 487), ("BYE", 200), ("INVITE", 487)}


def test_hangup_while_ringing_refuses_the_invite(sip):
    ringing = Ringing(sip)
    ringing.tx.call.hangup()
    sip.settle()
    assert ringing.answers("INVITE") == [480]
    assert ringing.tx.call.ended.is_set()
    assert len(ringing.raised) == 1


@pytest.mark.rfc("3261 15")
def test_callee_sends_no_bye_in_an_early_dialog(sip):
    ringing = Ringing(sip)
    with pytest.raises(TransactionStateError, match="before its 2xx"):
        ringing.tx.call.request("BYE")
    ringing.ask("BYE")


def test_silent_core_s_early_call_ends_with_its_invite(sip):
    ringing = Ringing(sip, seconds=900)
    sip.advance(216)
    assert set(ringing.answers("INVITE")) == {408}
    assert ringing.tx.call.ended.is_set() and ringing.stack.dialogs.early == 0


def test_provisional_response_to_an_invite_without_contact_begins_no_dialog(sip):
    def core(request, tx):
        tx.respond(180)
        return 486

    stack = sip.serve(core)
    peer = Peer(sip, CALLER)
    invite = peer.request("INVITE")
    del invite.headers["Contact"]
    peer.send(invite)
    assert peer.statuses == [180, 486]
    assert stack.dialogs.early == 0


def test_stack_that_stops_ends_its_early_calls(sip):
    ringing = Ringing(sip)
    call = ringing.tx.call
    ringing.stack.stop()
    assert call.end == ("stack", "stopped", 0, "")


# ---- UAC


@pytest.mark.rfc("3261 12.1.2", "3261 13.2.2.1")
def test_each_to_tag_of_a_forked_invite_begins_an_early_dialog(sip):
    calling = Calling(sip, "one", "two")
    assert (calling.dialogs.early, len(calling.dialogs)) == (2, 0)
    calling.reply(180, "one")
    assert calling.dialogs.early == 2
    calling.reply(486, "one")
    assert calling.dialogs.early == 0
    assert calling.greenlet.exception.status == 486


@pytest.mark.rfc("3261 13.2.2.4")
def test_first_2xx_confirms_its_early_dialog_and_the_others_end_after_64_t1(sip):
    calling = Calling(sip, "one", "two")
    calling.reply(200, "two")
    call = calling.greenlet.get()
    assert call.dialog.remote.tag == "two" and call.is_confirmed
    assert (calling.dialogs.early, len(calling.dialogs)) == (1, 1)
    assert calling.peer.methods == ["INVITE", "ACK"]
    sip.advance(33)
    assert (calling.dialogs.early, len(calling.dialogs)) == (0, 1)
    calling.hangup(call)


@pytest.mark.rfc("3261 13.2.2.4")
def test_later_2xx_of_an_early_dialog_gets_ack_and_bye(sip):
    calling = Calling(sip, "one", "two")
    calling.reply(200, "one")
    calling.reply(200, "two")
    ends = [(r.method, r.to.tag) for r in calling.peer.requests[1:]]
    assert ends == [("ACK", "one"), ("ACK", "two"), ("BYE", "two")]
    calling.peer.reply(calling.peer.last("BYE"), 200)
    assert (calling.dialogs.early, len(calling.dialogs)) == (0, 1)
    calling.hangup(calling.greenlet.get())


@pytest.mark.rfc("3261 13.2.2.4")
def test_2xx_sets_route_and_target_of_an_early_dialog_anew(sip):
    calling = Calling(sip)
    calling.reply(180, "one", record_route=f"<sip:{CALLEE};lr>", contact="<sip:early@10.0.0.61>")
    calling.reply(200, "one", contact=f"<sip:late@{CALLEE}>")
    call = calling.greenlet.get()
    assert call.dialog.route_set == ()
    assert str(call.dialog.remote_target) == f"sip:late@{CALLEE}"
    assert str(calling.peer.last("ACK").uri) == f"sip:late@{CALLEE}"
    calling.hangup(call)


@pytest.mark.rfc("3261 12.1.2")
def test_180_without_contact_leaves_the_target_and_a_later_one_sets_it(sip):
    calling = Calling(sip)
    calling.reply(180, "one", contact=None)
    (call,) = calling.dialogs._calls.values()
    assert call.dialog.remote_target == calling.invite.uri
    calling.reply(183, "one", contact="<sip:early@10.0.0.61>")
    assert str(call.dialog.remote_target) == "sip:early@10.0.0.61"
    calling.reply(486, "one")


def test_request_of_the_callee_in_an_early_dialog_reaches_the_core(sip):
    seen = []
    sip.client.core = lambda request, tx: seen.append((request.method, tx.call)) or 200
    calling = Calling(sip, "one", "two")
    calling.ask("INFO", "two")
    ((method, call),) = seen
    assert (method, call.dialog.remote.tag, calling.peer.statuses) == ("INFO", "two", [200])
    calling.reply(486, "one")


@pytest.mark.rfc("3261 14.2")
@pytest.mark.parametrize(
    ("method", "body", "status"), [("INVITE", "offer", 491), ("INVITE", "", 491), ("UPDATE", "offer", 491)]
)  # fmt: skip
def test_offer_of_the_callee_while_our_invite_rings_gets_491(sip, method, body, status):
    sip.client.core = lambda request, tx: 200
    calling = Calling(sip, "one")
    calling.ask(method, "one", body=body, content_type="application/sdp")
    assert calling.peer.statuses == [status]
    calling.reply(486, "one")


@pytest.mark.rfc("3261 12.2.2")
def test_request_with_an_unknown_tag_while_our_invite_rings_is_481(sip):
    calling = Calling(sip, "one")
    calling.responses["three"] = calling.invite.response(180)
    calling.responses["three"].to = f"<{BOB}>;tag=three"
    calling.ask("BYE", "three")
    assert calling.peer.statuses == [481]
    calling.reply(486, "one")


def test_bye_of_the_callee_before_its_2xx_ends_its_early_dialog_alone(sip):
    calling = Calling(sip, "one", "two")
    calling.ask("BYE", "one")
    assert calling.peer.statuses == [200]
    assert calling.dialogs.early == 1
    calling.reply(200, "two")
    assert calling.greenlet.get().dialog.remote.tag == "two"
    calling.hangup(calling.greenlet.get())
    sip.advance(33)


def test_2xx_that_follows_its_bye_gets_ack_and_bye(sip):
    calling = Calling(sip, "one")
    calling.ask("BYE", "one")
    calling.reply(200, "one")
    assert calling.peer.methods == ["INVITE", "ACK", "BYE"]
    assert calling.greenlet.get().ended.is_set()
    calling.peer.reply(calling.peer.last("BYE"), 481)
    assert len(calling.dialogs) == calling.dialogs.early == 0


@pytest.mark.rfc("3261 15", "3261 15.1.2", "3261 9.1")
@pytest.mark.parametrize("by", ["callee", "caller"])
def test_bye_in_an_early_dialog_whose_invite_stays_unanswered_is_followed_by_cancel(sip, by):
    """A callee may not send that BYE. Without a 487 the caller would wait until timer C."""
    calling = Calling(sip, "one")
    if by == "callee":
        calling.ask("BYE", "one")
    else:
        start(sip, next(iter(sip.client.dialogs._calls.values())).request, "BYE")
        calling.peer.reply(calling.peer.last("BYE"), 200)
    sip.advance(20)
    calling.reply(180, "one")  # which prolongs nothing
    assert "CANCEL" not in calling.peer.methods
    sip.advance(13)
    assert calling.peer.methods[-1] == "CANCEL"
    calling.reply(487, "one")
    with pytest.raises(Reject) as refused:
        calling.greenlet.get()
    assert refused.value.status == 487


@pytest.mark.rfc("3261 15", "3261 9.1")
def test_callee_that_answers_nothing_after_its_early_bye_is_given_up(sip):
    calling = Calling(sip, "one")
    calling.ask("BYE", "one")
    sip.advance(32 + 33)
    with pytest.raises(TransactionTimeout):
        calling.greenlet.get()


@pytest.mark.rfc("3261 15", "3261 13.2.2")
@pytest.mark.parametrize("when", ["before", "after"])
def test_early_bye_of_one_branch_leaves_the_other_branch_ringing(sip, when):
    calling = Calling(sip, "one", *(["two"] if when == "before" else []))
    calling.ask("BYE", "one")
    if when == "after":
        sip.advance(10)
        calling.reply(180, "two")
    sip.advance(60)
    assert "CANCEL" not in calling.peer.methods
    calling.reply(200, "two")
    calling.hangup(calling.greenlet.get())


@pytest.mark.rfc("3261 15")
def test_caller_may_end_one_early_dialog_by_bye(sip):
    calling = Calling(sip, "one", "two")
    one = next(c for c in calling.dialogs._calls.values() if c.dialog.remote.tag == "one")
    greenlet = start(sip, one.request, "BYE")
    bye = calling.peer.last("BYE")
    assert bye.to.tag == "one"
    calling.peer.reply(bye, 200)
    assert greenlet.get().status == 200
    assert calling.dialogs.early == 1
    calling.reply(487, "one")


def test_hangup_of_an_early_call_of_ours_cancels_the_invite(sip):
    calling = Calling(sip, "one")
    (call,) = calling.dialogs._calls.values()
    call.hangup(reason_header="SIP;cause=480")
    sip.settle()
    cancel = calling.peer.last("CANCEL")
    assert str(cancel.reason_header[0]) == "SIP;cause=480"
    calling.peer.reply(cancel, 200)
    calling.reply(487, "one")
    assert (call.end.by, call.end.cause, call.end.status) == ("us", "cancel", 487)


def test_timeout_of_our_invite_ends_its_early_calls(sip):
    calling = Calling(sip, "one", timeout=3)
    (call,) = calling.dialogs._calls.values()
    sip.advance(3.1)
    calling.peer.reply(calling.peer.last("CANCEL"), 200)
    sip.advance(40)
    assert call.end.cause == "cancel" and calling.dialogs.early == 0


def test_early_dialogs_of_one_invite_are_bounded(sip):
    calling = Calling(sip, *(f"t{number}" for number in range(40)))
    assert calling.dialogs.early == 32
    calling.reply(200, "t39")  # the first 2xx is always acknowledged
    assert calling.peer.methods[-1] == "ACK"
    calling.hangup(calling.greenlet.get())
    sip.advance(33)
    assert calling.dialogs.early == 0


def test_trying_and_responses_without_a_tag_begin_no_dialog(sip):
    calling = Calling(sip)
    response = calling.invite.response(100)
    calling.peer.reply(calling.invite, response)
    tagless = calling.invite.response(180)
    tagless.to = f"<{BOB}>"
    calling.peer.reply(calling.invite, tagless)
    assert calling.dialogs.early == 0
    calling.reply(486, "one")


def test_stack_that_stops_ends_early_calls_of_ours(sip):
    calling = Calling(sip, "one")
    (call,) = calling.dialogs._calls.values()
    sip.client.stop()
    assert call.ended.is_set() and calling.dialogs.early == 0


def test_proxied_invite_begins_no_dialog_here(sip):
    peer = Peer(sip, CALLEE, answer=lambda request: 180 if request.method == "INVITE" else 200)
    stack = sip.serve(lambda request, tx: forward(request, tx))
    caller = Peer(sip, CALLER)
    invite = caller.ask("INVITE", BOB)
    assert caller.statuses[-1] == 180
    assert stack.dialogs.early == 0
    caller.send(invite.cancel())
    peer.reply(peer.last("INVITE"), 487)


@pytest.mark.rfc("3261 13.2.2.4", "3261 16.7")
@pytest.mark.parametrize(("status", "cause"), [(200, "answered elsewhere"), (486, "refused")])
def test_early_dialog_of_a_proxy_that_says_181_ends_with_the_forwarded_answer(sip, status, cause):
    calls = []

    def core(request, tx):
        if request.method == "ACK":
            return None
        tx.respond(181)
        calls.append(tx.call)
        return forward(request, tx)

    peer = Peer(sip, CALLEE)
    stack = sip.serve(core)
    caller = Peer(sip, CALLER)
    caller.ask("INVITE", BOB)
    assert stack.dialogs.early == 1
    peer.reply(peer.last("INVITE"), status, contact=f"<{peer.uri}>")
    assert caller.statuses[-1] == status
    assert (stack.dialogs.early, calls[0].end.cause) == (0, cause)


def test_refused_call_raises_reject_after_its_early_dialogs_have_ended(sip):
    calling = Calling(sip, "one")
    calling.reply(603, "one")
    assert isinstance(calling.greenlet.exception, Reject)
    assert sent(sip) == ["INVITE", "180", "603", "ACK"]
