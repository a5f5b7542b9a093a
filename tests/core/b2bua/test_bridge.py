"""bridge(): both legs from the INVITE to the end, RFC 7092, RFC 3261."""

from __future__ import annotations

import pytest

from sippet_gevent import Reject, bridge
from sippet_gevent.core.dialog.negotiation import same_session

from ..wire import Peer
from .phones import BOB, CALLEE, OURS, Phones, body, describe


@pytest.fixture
def phones(sip):
    """Phones that a bridge has connected."""
    phones = Phones(sip)
    phones.reply(180)
    phones.answer()
    yield phones
    if not phones.results and not phones.errors:
        phones.end()


# ---- to the answer


@pytest.mark.rfc("3261 13.3.1")
def test_call_is_connected_and_its_end_is_returned(sip):
    phones = Phones(sip)
    assert phones.inner.body == describe()
    phones.reply(180)
    assert phones.heard == [180]
    phones.answer()
    assert phones.heard == [180, 200]
    assert phones.last.body == describe(CALLEE)
    assert phones.callee.methods == ["INVITE", "ACK"]
    phones.ask("BYE")
    assert phones.callee.methods == ["INVITE", "ACK", "BYE"]
    phones.callee.reply(phones.callee.last("BYE"), 200)
    ((caller, callee),) = phones.results
    assert (caller.by, caller.cause) == ("peer", "bye")
    assert (callee.by, callee.cause) == ("us", "bye")


def test_legs_have_their_own_call_ids_tags_and_contacts(phones):
    assert phones.inner.call_id != phones.invite.call_id
    assert phones.inner.from_.tag != phones.invite.from_.tag
    assert phones.inner.from_.uri == phones.invite.from_.uri
    assert phones.inner.to.uri == phones.invite.to.uri
    assert phones.inner.contact[0].uri.host == "10.0.0.1"
    assert phones.response.to.tag != phones.inner_response.to.tag


@pytest.mark.rfc("7332 4.1")
def test_max_forwards_is_counted(phones):
    assert phones.inner.max_forwards == phones.invite.max_forwards - 1


@pytest.mark.rfc("7332 4.1")
def test_invite_with_max_forwards_of_0_is_refused(sip):
    phones = Phones(sip, invite={"max_forwards": 0})
    assert phones.heard == [483]
    assert phones.callee.requests == []


def test_invite_that_comes_back_is_a_loop(sip):
    phones = Phones(sip)
    again = phones.inner.copy()
    phones.callee.send(again)
    assert phones.callee.statuses[-1] == 482
    phones.reply(486)
    assert phones.heard == [486]


def test_preview_of_the_callee_reaches_the_caller(sip):
    phones = Phones(sip)
    phones.reply(183, describe(CALLEE), alert_info="<http://example.com/ring>")
    assert phones.last.body == describe(CALLEE)
    assert phones.last.headers["Alert-Info"] == "<http://example.com/ring>"
    phones.answer()
    assert phones.last.body == describe(CALLEE)
    phones.end()


def test_199_of_a_branch_does_not_reach_the_caller(sip):
    phones = Phones(sip)
    phones.reply(199)
    assert phones.heard == []
    phones.reply(486)
    assert phones.heard == [486]


@pytest.mark.rfc("3261 20.5")
def test_both_sides_hear_which_methods_are_passed_on(phones):
    for message in (phones.inner, phones.caller.responses[1], phones.response):
        assert {"INFO", "REFER", "UPDATE", "PRACK", "BYE"} <= set(message.allow)


# ---- reliable provisional responses


@pytest.mark.rfc("3262 4")
def test_reliable_183_reaches_a_caller_without_100rel(sip):
    phones = Phones(sip)
    phones.reply(183, describe(CALLEE), require="100rel", rseq=7)
    assert phones.callee.methods == ["INVITE", "PRACK"]
    phones.callee.reply(phones.callee.last("PRACK"), 200)
    assert phones.heard == [183]
    assert "RSeq" not in phones.last.headers
    assert phones.last.body == describe(CALLEE)
    # the 2xx has no description, because the 183 was the answer; the caller gets it all the same
    phones.answer(b"")
    assert phones.last.body == describe(CALLEE)
    phones.end()


@pytest.mark.rfc("3262 3")
def test_reliable_183_is_reliable_on_both_legs(sip):
    phones = Phones(sip, invite={"supported": "100rel"})
    phones.reply(183, describe(CALLEE), require="100rel", rseq=7)
    phones.callee.reply(phones.callee.last("PRACK"), 200)
    assert phones.last.status == 183
    assert phones.last.rseq
    reliable = phones.last
    phones.ask("PRACK", rack=f"{reliable.rseq} {phones.invite.cseq.number} INVITE")
    assert phones.last.status == 200
    phones.number -= 1
    phones.answer(b"")
    assert phones.last.body == b""
    phones.number += 1
    phones.end()


@pytest.mark.rfc("3262 3")
def test_caller_that_requires_100rel_gets_a_reliable_180_of_a_callee_without_it(sip):
    phones = Phones(sip, invite={"require": "100rel"})
    phones.reply(180)
    assert phones.last.rseq
    phones.ask("PRACK", rack=f"{phones.last.rseq} {phones.invite.cseq.number} INVITE")
    phones.number -= 1
    phones.answer()
    assert phones.last.body == describe(CALLEE)
    phones.number += 1
    phones.end()


@pytest.mark.rfc("3262 3")
def test_caller_that_never_sends_prack_is_refused_and_the_callee_cancelled(sip):
    phones = Phones(sip, invite={"require": "100rel"})
    phones.reply(180)
    sip.advance(33)
    assert phones.heard[-1] == 504
    assert phones.callee.methods[-1] == "CANCEL"
    phones.reply(487)


@pytest.mark.rfc("3262 5")
def test_caller_that_requires_100rel_and_makes_no_offer_gets_no_180(sip):
    phones = Phones(sip, offer=b"", invite={"require": "100rel"})
    phones.reply(180)
    assert phones.heard == []
    phones.reply(486)
    assert phones.heard == [486]


# ---- late offers


@pytest.mark.rfc("3261 13.2.1")
def test_late_offer_is_passed_through(sip):
    phones = Phones(sip, offer=b"")
    assert phones.inner.body == b""
    assert "100rel" not in phones.inner.supported
    phones.reply(200, describe(CALLEE))
    assert phones.last.body == describe(CALLEE)
    assert phones.callee.methods == ["INVITE"]
    phones.ack(describe())
    assert phones.callee.methods == ["INVITE", "ACK"]
    assert phones.callee.last("ACK").body == describe()
    phones.end()


def test_late_offer_without_an_answer_ends_both_legs(sip):
    phones = Phones(sip, offer=b"")
    phones.reply(200, describe(CALLEE))
    phones.ack()
    assert phones.callee.methods == ["INVITE", "ACK", "BYE"]
    assert phones.caller.methods == ["BYE"]
    phones.callee.reply(phones.callee.last("BYE"), 200)
    phones.caller.reply(phones.caller.last("BYE"), 200)


# ---- refusals and cancellation


@pytest.mark.rfc("3261 20")
def test_refusal_reaches_the_caller_whole(sip):
    phones = Phones(sip)
    phones.reply(486, retry_after="60", reason_header="Q.850;cause=17")
    assert phones.heard == [486]
    assert phones.last.headers["Retry-After"] == "60"
    assert phones.last.headers["Reason"] == "Q.850;cause=17"
    assert isinstance(phones.errors[0], Reject)


def test_unknown_header_field_of_a_refusal_crosses(sip):
    phones = Phones(sip)
    response = phones.inner.response(603)
    response.headers["X-Why"] = "asleep"
    response.headers["Server"] = "phone"
    phones.callee.reply(phones.inner, response)
    assert phones.last.headers["X-Why"] == "asleep"
    assert "Server" not in phones.last.headers


@pytest.mark.rfc("3326 2")
def test_cancel_of_the_caller_cancels_the_callee_with_its_reason(sip):
    phones = Phones(sip)
    phones.reply(180)
    cancel = phones.invite.cancel()
    cancel.reason_header = 'SIP;cause=200;text="Call completed elsewhere"'
    phones.caller.send(cancel)
    assert phones.heard == [180, 487]
    assert phones.callee.last("CANCEL").headers["Reason"] == str(cancel.headers["Reason"])
    phones.reply(487)


@pytest.mark.rfc("3261 15")
def test_bye_in_the_early_dialog_cancels_the_callee(sip):
    phones = Phones(sip)
    phones.reply(180)
    phones.response = phones.last
    phones.ask("BYE", reason_header="SIP;cause=600")
    assert phones.heard == [180, 487]
    assert phones.callee.last("CANCEL").headers["Reason"] == "SIP;cause=600"
    phones.reply(487)


def test_cancel_that_crosses_the_answer_hangs_up_on_the_callee(sip):
    phones = Phones(sip)
    phones.reply(180)
    phones.caller.send(phones.invite.cancel())
    phones.reply(200, describe(CALLEE))
    assert phones.callee.methods == ["INVITE", "CANCEL", "ACK", "BYE"]
    assert phones.heard == [180, 487]
    phones.callee.reply(phones.callee.last("BYE"), 200)


def test_callee_that_does_not_answer_in_time_is_cancelled(sip):
    phones = Phones(sip, timeout=20)
    phones.reply(180)
    sip.advance(21)
    assert phones.heard[:2] == [180, 408]
    assert phones.callee.methods[:2] == ["INVITE", "CANCEL"]
    phones.reply(487)


def test_second_target_is_called_after_the_first_has_refused(sip):
    other = Peer(sip, "10.0.0.70")

    def core(request, tx):
        try:
            bridge(request, tx, BOB)
        except Reject:
            bridge(request, tx, "sip:voicemail@10.0.0.70")

    phones = Phones(sip, core=core)
    phones.reply(183, describe(CALLEE))
    phones.reply(486)
    assert phones.heard == [183]
    second = other.last("INVITE")
    answer = other.reply(second, 200, contact="<sip:10.0.0.70>", **body(describe("10.0.0.70")))
    phones.ack()
    assert same_session(phones.last.body, describe("10.0.0.70"))
    assert other.methods == ["INVITE", "ACK"]
    other.send(other.back(second, answer, "BYE"))
    assert phones.caller.methods == ["BYE"]
    phones.caller.reply(phones.caller.last("BYE"), 200)


# ---- the end


@pytest.mark.rfc("3326 2")
def test_reason_and_other_header_fields_of_a_bye_cross(phones):
    bye = phones.caller.within(phones.invite, phones.response, "BYE", number=9)
    bye.headers["Reason"] = "Q.850;cause=16"
    bye.headers["User-to-User"] = "56a390f3d2b7310023;encoding=hex"
    bye.headers["User-Agent"] = "phone"
    phones.caller.send(bye)
    got = phones.callee.last("BYE")
    assert got.headers["Reason"] == "Q.850;cause=16"
    assert got.headers["User-to-User"] == "56a390f3d2b7310023;encoding=hex"
    assert "User-Agent" not in got.headers
    phones.callee.reply(got, 200)
    assert phones.results


def test_callee_that_hangs_up_ends_the_caller(phones):
    phones.ask_back("BYE")
    assert phones.caller.methods == ["BYE"]
    phones.caller.reply(phones.caller.last("BYE"), 200)
    ((caller, callee),) = phones.results
    assert (caller.by, callee.by) == ("us", "peer")


@pytest.mark.rfc("3326 2")
def test_side_that_vanishes_ends_the_other_with_a_reason(phones):
    phones.ask_back("INFO", body=b"x", content_type="text/plain")
    assert phones.caller.methods == ["INFO"]
    phones.sip.advance(33)  # no answer: the call of the caller is over (RFC 5057 §5.1)
    assert phones.callee.last("BYE").headers["Reason"] == 'SIP;cause=408;text="timeout"'
    phones.callee.reply(phones.callee.last("BYE"), 200)
    assert phones.results


@pytest.mark.rfc("3261 13.3.1.4")
def test_caller_without_ack_ends_the_callee(sip):
    phones = Phones(sip)
    phones.reply(200, describe(CALLEE))
    sip.advance(32.1)
    assert phones.callee.methods == ["INVITE", "ACK", "BYE"]
    assert phones.caller.methods[-1] == "BYE"
    phones.callee.reply(phones.callee.last("BYE"), 200)
    phones.caller.reply(phones.caller.last("BYE"), 200)


def test_stack_that_stops_ends_both_legs_and_the_core(phones):
    phones.stack.stop()
    phones.sip.settle()
    assert phones.callee.methods[-1] == "BYE"
    assert phones.caller.methods[-1] == "BYE"
    assert phones.results or phones.errors


@pytest.mark.rfc("3261 13.2.1", "3261 20.19")
def test_expires_of_the_caller_that_cannot_be_read_counts_as_none(sip):
    """The caller got 400 after the INVITE had left, and nothing hung up when the callee answered."""
    first = Phones(sip)
    first.reply(486)
    second = first.caller.request("INVITE", **body(first.offer))
    second.headers["Expires"] = "soon"
    first.caller.send(second)
    inner = first.callee.last("INVITE")
    first.callee.reply(inner, 180, contact=f"<{first.callee.uri}>")
    assert first.caller.statuses[-1] == 180
    first.caller.send(second.cancel())
    assert first.callee.methods[-1] == "CANCEL"
    first.callee.reply(first.callee.last("CANCEL"), 200)
    first.callee.reply(inner, 487)


@pytest.mark.rfc("2046 5.1.1")
def test_multipart_of_the_callee_that_cannot_be_read_crosses_as_it_is(sip):
    """The bridge raised ParseError, and the caller got 500."""
    phones = Phones(sip)
    phones.inner_response = phones.callee.reply(
        phones.inner, 183, contact=f"<{phones.callee.uri}>", body=b"no delimiter",
        content_type="multipart/mixed;boundary=x",
    )  # fmt: skip
    assert phones.heard == [183]
    assert phones.last.body == b"no delimiter"
    phones.reply(486)
    assert phones.heard == [183, 486]


@pytest.mark.rfc("3261 20.15")
def test_content_type_that_cannot_be_read_is_not_that_of_later_requests(sip):
    """The offer of the caller's re-INVITE could not be passed on, and the caller got 500."""
    phones = Phones(sip, offer=b"")
    phones.reply(486)
    invite = phones.caller.request("INVITE", **body(describe()))
    invite.headers["Content-Type"] = "garbage"
    phones.invite, phones.number = invite, invite.cseq.number
    phones.caller.send(invite)
    inner = phones.callee.last("INVITE")
    assert inner.headers["Content-Type"] == "garbage"
    ok = phones.callee.reply(inner, 200, contact=f"<{phones.callee.uri}>", **body(describe(CALLEE)))
    phones.ack()
    held = describe().replace(b"sendrecv", b"sendonly")
    held = held if held != describe() else held + b"a=sendonly\r\n"
    phones.ask("INVITE", held)
    again = phones.callee.last("INVITE")
    assert again is not inner
    assert again.headers["Content-Type"] == "application/sdp"
    phones.callee.reply(again, 488)
    assert phones.last.status == 488
    phones.ask("BYE")
    phones.callee.reply(phones.callee.last("BYE"), 200)
    assert ok.status == 200


@pytest.mark.rfc("3261 12.2.2")
def test_invite_within_an_unknown_call_is_refused_with_481(sip, caplog):
    """As after a restart of the bridge."""
    phones = Phones(sip, core=lambda request, tx: bridge(request, tx, BOB))
    phones.reply(486)
    phones.caller.ask("INVITE", to=f"<sip:bob@{OURS}>;tag=forgotten", **body(describe()))
    assert phones.caller.statuses[-1] == 481
    assert phones.callee.methods == ["INVITE", "ACK"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
