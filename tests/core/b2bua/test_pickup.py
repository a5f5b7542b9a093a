"""Call pickup at a bridge: an INVITE with Replaces takes a call that rings, RFC 3891 §3, RFC 5359 §2.16."""

from __future__ import annotations

import pytest

from sippet_gevent.core.dialog.negotiation import same_session

from ..wire import Peer
from .phones import CALLEE, TARGET, Phones, Relay, body, describe


@pytest.fixture
def carol(sip):
    return Peer(sip, TARGET)


class PickingUp(Phones):
    """The callee rings, and Carol takes the call by an INVITE with Replaces."""

    def __init__(self, sip, carol, offer, *, preview=b"", offer_of_caller=None, **options):
        super().__init__(sip, offer=offer_of_caller, **options)
        self.carol = carol
        ringing = self.reply(183 if preview else 180, preview)
        self.response = self.last if self.heard else None
        self.picked_offer = offer
        self.picked = carol.ask(
            "INVITE",
            replaces=f"{self.inner.call_id};to-tag={self.inner.from_.tag};from-tag={ringing.to.tag}",
            **body(offer),
        )

    def confirm_cancel(self):
        self.callee.reply(self.callee.last("CANCEL"), 200)
        self.callee.reply(self.inner, 487)

    def connect(self, answer):
        """Carol answers the caller's offer: in the ACK, or to a re-INVITE."""
        self.picked_response = ok = next(r for r in self.carol.responses if r.status == 200)
        if not self.picked_offer:
            assert ok.body == self.offer
            self.from_carol("ACK", number=self.picked.cseq.number, **body(answer))
            return
        assert b"a=inactive" in ok.body
        self.from_carol("ACK", number=self.picked.cseq.number)
        again = self.carol.last("INVITE")
        assert same_session(again.body, self.offer)
        self.carol.reply(again, 200, contact=f"<{self.carol.uri}>", **body(answer))

    def from_carol(self, method, **headers):
        self.carol.send(self.carol.within(self.picked, self.picked_response, method, **headers))

    def end_by_carol(self):
        self.from_carol("BYE", number=20)
        self.caller.reply(self.caller.last("BYE"), 200)


@pytest.mark.rfc("3891 3", "5359 2.16", "3264 8.4")
@pytest.mark.parametrize("offer", [describe(TARGET), b""], ids=["offer", "no offer"])
@pytest.mark.parametrize("first", ["the callee is cancelled", "the caller is answered"])
def test_call_that_rings_is_picked_up_by_an_invite_with_replaces(sip, carol, offer, first):
    phones = PickingUp(sip, carol, offer)
    assert phones.callee.methods == ["INVITE", "CANCEL"]
    assert phones.heard == [180]
    answer = describe(TARGET, version=2)
    if first == "the callee is cancelled":
        phones.confirm_cancel()
        assert not phones.results  # the core of the first bridge still serves the caller
    phones.connect(answer)
    assert (phones.heard[-1], phones.last.body) == (200, answer)
    if first != "the callee is cancelled":
        phones.confirm_cancel()
    phones.ack()
    assert [(r.caller, r.callee.cause) for r in phones.results] == [(None, "replaced")]
    phones.ask("INFO", body="1", content_type="text/plain")
    carol.reply(carol.last("INFO"), 200)
    assert phones.last.status == 200
    phones.end_by_carol()
    assert len(phones.results) == 2
    assert not phones.errors


@pytest.mark.rfc("3891 3")
def test_callee_that_answers_while_it_is_picked_up_is_hung_up(sip, carol):
    phones = PickingUp(sip, carol, b"")
    phones.reply(200, describe(CALLEE))
    assert phones.callee.methods == ["INVITE", "CANCEL", "ACK", "BYE"]
    phones.callee.reply(phones.callee.last("BYE"), 200)
    phones.connect(describe(TARGET, version=2))
    assert phones.heard[-1] == 200
    phones.ack()
    phones.end_by_carol()
    assert not phones.errors


@pytest.mark.rfc("3261 13.2.1")
def test_caller_that_has_seen_another_description_gets_that_of_the_phone_again(sip, carol):
    phones = PickingUp(sip, carol, b"", preview=describe(CALLEE))
    phones.confirm_cancel()
    answer = describe(TARGET, version=2)
    phones.connect(answer)
    phones.ack()
    again = phones.caller.last("INVITE")
    assert same_session(again.body, answer)
    phones.caller.reply(again, 200, contact=f"<{phones.caller.uri}>", **body(phones.offer))
    phones.end_by_carol()


@pytest.mark.rfc("3261 14.1", "3311 5.1")
def test_change_by_update_before_the_ack_is_not_undone_by_the_answer_of_the_phone(sip, carol):
    phones = PickingUp(sip, carol, b"", preview=describe(CALLEE))
    phones.confirm_cancel()
    phones.connect(describe(TARGET, version=2))
    ok, number = phones.last, phones.invite.cseq.number
    phones.ask("UPDATE", describe(version=2, port=9002))
    got, answer = carol.last("UPDATE"), describe(TARGET, version=3, port=9300)
    carol.reply(got, 200, contact=f"<{carol.uri}>", **body(answer))
    assert phones.last.status == 200 and same_session(phones.last.body, answer)
    phones.caller.send(phones.caller.within(phones.invite, ok, "ACK", number=number))
    sip.advance(1)
    assert phones.caller.methods == []
    phones.end_by_carol()


@pytest.mark.rfc("3891 3")
def test_phone_without_an_answer_after_the_caller_has_given_up_is_no_error_of_the_core(sip, carol):
    phones = PickingUp(sip, carol, describe(TARGET))
    phones.confirm_cancel()
    phones.picked_response = carol.responses[-1]
    phones.from_carol("ACK", number=phones.picked.cseq.number)
    phones.caller.send(phones.invite.cancel())
    assert phones.heard[-1] == 487
    carol.reply(carol.last("INVITE"), 200, contact=f"<{carol.uri}>")
    assert carol.methods[-1] == "BYE"
    carol.reply(carol.last("BYE"), 200)
    sip.advance(40)
    assert len(phones.stack.dialogs) == phones.stack.dialogs.early == 0
    assert phones.stack.stats()["core_errors"] == 0


@pytest.mark.rfc("3891 3")
@pytest.mark.parametrize("gives_up", ["caller", "phone"])
def test_pickup_that_is_given_up_ends_both_sides(sip, carol, gives_up):
    phones = PickingUp(sip, carol, describe(TARGET))
    phones.confirm_cancel()
    phones.picked_response = carol.responses[-1]
    phones.from_carol("ACK", number=phones.picked.cseq.number)
    again = carol.last("INVITE")
    if gives_up == "caller":
        phones.caller.send(phones.invite.cancel())
        assert phones.heard[-1] == 487
        carol.reply(again, 200, contact=f"<{carol.uri}>", **body(describe(TARGET, version=2)))
    else:
        carol.reply(again, 488)
        assert phones.heard[-1] == 480
    assert carol.methods[-1] == "BYE"
    carol.reply(carol.last("BYE"), 200)
    sip.advance(40)
    assert len(phones.stack.dialogs) == phones.stack.dialogs.early == 0
    assert phones.stack.stats()["core_errors"] == 0


class PickingUpLate(PickingUp):
    """The same, but the caller has made no offer. Its ACK has the answer."""

    answer_of_caller = describe(version=3)

    def __init__(self, sip, carol, offer, **options):
        super().__init__(sip, carol, offer, offer_of_caller=b"", **options)

    def connect(self, answer):
        if self.picked_offer:
            assert self.heard[-1] == 200 and same_session(self.last.body, self.picked_offer)
            assert 200 not in self.carol.statuses
            self.ack(self.answer_of_caller)
            self.picked_response = ok = self.carol.responses[-1]
            assert (ok.status, ok.body) == (200, self.answer_of_caller)
            self.from_carol("ACK", number=self.picked.cseq.number)
            return
        self.picked_response = ok = self.carol.responses[-1]
        assert b"a=inactive" in ok.body
        first = describe(TARGET, direction="inactive")
        self.from_carol("ACK", number=self.picked.cseq.number, **body(first))
        asked = self.carol.last("INVITE")
        assert asked.body == b""
        self.carol.reply(asked, 200, contact=f"<{self.carol.uri}>", **body(answer))
        assert self.heard[-1] == 200 and same_session(self.last.body, answer)
        assert "ACK" not in self.carol.methods
        self.ack(self.answer_of_caller)
        assert same_session(self.carol.last("ACK").body, self.answer_of_caller)


@pytest.mark.rfc("3891 3", "3725 4.4", "3261 13.2.1")
@pytest.mark.parametrize("offer", [describe(TARGET), b""], ids=["offer", "no offer"])
@pytest.mark.parametrize("preview", [b"", describe(CALLEE)], ids=["180", "183"])
def test_caller_without_an_offer_is_picked_up(sip, carol, offer, preview):
    phones = PickingUpLate(sip, carol, offer, preview=preview)
    phones.connect(describe(TARGET, version=2))
    assert phones.callee.methods == ["INVITE", "CANCEL"]
    phones.confirm_cancel()
    assert [(r.caller, r.callee.cause) for r in phones.results] == [(None, "replaced")]
    phones.ask("INFO", body="1", content_type="text/plain")
    carol.reply(carol.last("INFO"), 200)
    assert phones.last.status == 200
    phones.ask("INVITE", describe(version=4, direction="sendonly"))
    held = carol.last("INVITE")
    assert same_session(held.body, describe(version=4, direction="sendonly"))
    carol.reply(held, 200, contact=f"<{carol.uri}>", **body(describe(TARGET, version=5)))
    assert phones.last.status == 200
    phones.ask("ACK", number=phones.number)
    phones.end_by_carol()
    assert len(phones.results) == 2
    assert not phones.errors


@pytest.mark.rfc("3262 5", "3891 3")
def test_caller_that_requires_100rel_and_makes_no_offer_is_picked_up(sip, carol):
    """It has heard no 180, because each reliable one would need an offer."""
    phones = PickingUpLate(sip, carol, describe(TARGET), invite={"require": "100rel"})
    assert phones.heard == [200]
    phones.connect(b"")
    phones.confirm_cancel()
    phones.end_by_carol()
    assert not phones.errors


@pytest.mark.rfc("3261 13.2.1", "3891 3")
def test_pickup_of_a_caller_whose_ack_has_no_answer_ends_all(sip, carol):
    phones = PickingUpLate(sip, carol, describe(TARGET))
    phones.ack()
    assert carol.statuses[-1] == 488
    assert phones.callee.methods == ["INVITE", "CANCEL"]
    phones.confirm_cancel()
    phones.caller.reply(phones.caller.last("BYE"), 200)
    sip.advance(40)
    assert len(phones.stack.dialogs) == phones.stack.dialogs.early == 0
    assert phones.stack.stats()["core_errors"] == 0


@pytest.mark.rfc("3261 13.3.1.4", "3891 3")
def test_pickup_of_a_caller_that_sends_no_ack_ends_all(sip, carol):
    phones = PickingUpLate(sip, carol, describe(TARGET))
    sip.advance(33)
    assert carol.statuses[-1] == 408
    assert phones.callee.methods[:2] == ["INVITE", "CANCEL"]
    phones.confirm_cancel()
    phones.caller.reply(phones.caller.last("BYE"), 200)
    sip.advance(70)
    assert len(phones.stack.dialogs) == phones.stack.dialogs.early == 0


@pytest.mark.rfc("3261 9.1", "3891 3")
@pytest.mark.parametrize("gives_up", ["caller", "phone"])
def test_pickup_without_any_offer_that_is_given_up_ends_both_sides(sip, carol, gives_up):
    phones = PickingUpLate(sip, carol, b"")
    phones.confirm_cancel()
    phones.picked_response = carol.responses[-1]
    first = describe(TARGET, direction="inactive")
    phones.from_carol("ACK", number=phones.picked.cseq.number, **body(first))
    asked = carol.last("INVITE")
    if gives_up == "caller":
        phones.caller.send(phones.invite.cancel())
        assert phones.heard[-1] == 487
        offer = describe(TARGET, version=2)
        carol.reply(asked, 200, contact=f"<{carol.uri}>", **body(offer))
        assert carol.last("ACK").body
    else:
        carol.reply(asked, 488)
        assert phones.heard[-1] == 480
    assert carol.methods[-1] == "BYE"
    carol.reply(carol.last("BYE"), 200)
    sip.advance(40)
    assert len(phones.stack.dialogs) == phones.stack.dialogs.early == 0
    assert phones.stack.stats()["core_errors"] == 0


@pytest.mark.rfc("3891 3")
def test_phone_that_gives_up_while_the_caller_answers_it_ends_all(sip, carol):
    phones = PickingUpLate(sip, carol, describe(TARGET))
    carol.send(phones.picked.cancel())
    phones.ack(describe())
    assert carol.statuses[-1] == 487
    assert phones.caller.methods[-1] == "BYE"
    phones.caller.reply(phones.caller.last("BYE"), 200)
    phones.confirm_cancel()
    sip.advance(40)
    assert len(phones.stack.dialogs) == phones.stack.dialogs.early == 0
    assert phones.stack.stats()["core_errors"] == 0


@pytest.mark.parametrize("caller", [describe(), b""], ids=["caller offers", "caller asks"])
@pytest.mark.parametrize("offer", [describe(TARGET), b""], ids=["offer", "no offer"])
def test_media_relay_sees_each_answer_of_a_pickup_with_the_tags_of_its_offer(
    sip, carol, caller, offer
):
    seen = []

    class Pairing(Relay):
        def offer(self, call_id, from_tag, to_tag, description):
            seen.append((call_id, from_tag, to_tag))
            return description

        def answer(self, call_id, from_tag, to_tag, description):
            seen.remove((call_id, from_tag, to_tag))
            return description

    phones = (PickingUp if caller else PickingUpLate)(sip, carol, offer, media=Pairing())
    phones.connect(describe(TARGET, version=2))
    if caller:
        phones.ack()
    assert len(seen) == bool(caller)  # the callee never answers what it was offered
    phones.confirm_cancel()
    phones.end_by_carol()
