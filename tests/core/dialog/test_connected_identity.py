"""From and To that change within a call, RFC 4916."""

from __future__ import annotations

import pytest

from sippet_gevent import InvalidValue, NameAddr, Reject

from ..wire import AT_SERVER, Peer, messages, sent
from .test_call import BOB, CALLEE, SERVED, Placed, Taken

SALES = "Sales <sip:sales@example.com>"
BODY = {"body": "offer", "content_type": "application/sdp"}


class Wanting:
    """A call of ours to a peer that lists from-change."""

    def __init__(self, sip, supported="from-change", allow="INVITE, ACK, BYE, UPDATE", **options):
        self.peer = Peer(sip, CALLEE, self.answer)
        self.options = {"supported": supported, "allow": allow}
        self.status = 200
        self.call = sip.run(sip.client.invite, BOB, body="offer", **options)

    def answer(self, request):
        status = 200 if request.method == "BYE" else self.status
        if request.method != "INVITE" or status != 200:
            return request.response(status, contact=f"<{self.peer.uri}>")
        return request.response(
            200, contact=f"<{self.peer.uri}>", body="answer", content_type="application/sdp",
            **self.options,
        )  # fmt: skip


def tell(two, method, identity, **headers):
    """The peer sends a request within the call with another From."""
    two.number += 1
    headers.update(number=two.number, contact=f"<{two.peer.uri}>")
    if isinstance(two, Placed):
        request = two.peer.back(two.invite, two.response, method, **headers)
        to = two.sip.client.engine.transports[0].local[0]
    else:
        request, to = two.peer.within(two.invite, two.response, method, **headers), SERVED
    request.from_ = f"{identity};tag={request.from_.tag}"
    two.peer.send(request, to=to)


@pytest.mark.rfc("4916 4.4.1", "4916 4.4.2")
@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
@pytest.mark.parametrize("kind", [Placed, Taken])
def test_new_from_of_the_peer_is_the_to_of_what_we_send(sip, method, kind):
    two = kind(sip)
    before = two.call.remote_identity
    assert (before.uri, before.parameters.get("tag")) == (two.call.dialog.remote.uri, None)
    tag = two.call.dialog.remote.tag
    tell(two, method, SALES)
    assert two.peer.statuses[-1] == 200
    if method == "INVITE":
        two.ask("ACK", number=two.number)
    assert two.call.remote_identity == NameAddr.parse(SALES)
    two.call.hangup()
    sip.settle()
    bye = two.peer.last("BYE")
    assert (str(bye.to.uri), bye.to.tag) == ("sip:sales@example.com", tag)
    kinds = sip.run(lambda: [(event.kind, event.method) for event in two.call.events()])
    assert kinds == [("identity", method), ("end", "")]


@pytest.mark.rfc("4916 4.4.2")
def test_new_from_in_a_request_that_is_refused_changes_nothing(sip):
    two = Placed(sip)
    two.call.on_offer = lambda offer, call: (_ for _ in ()).throw(Reject(488))
    before = two.call.dialog.remote
    body = "v=0\no=- 1 9 IN IP4 10.0.0.60\ns=-\nt=0 0\n"
    tell(two, "INVITE", SALES, body=body, content_type="application/sdp")
    assert two.peer.statuses[-1] == 488
    assert two.call.dialog.remote == before
    two.call.hangup()


@pytest.mark.rfc("3261 12.2.1.1")
def test_request_that_repeats_the_from_tells_no_event(sip):
    two = Placed(sip)
    two.ask("UPDATE", contact=f"<{two.peer.uri}>")
    two.call.hangup()
    assert sip.run(lambda: [event.kind for event in two.call.events()]) == ["end"]


@pytest.mark.rfc("4916 4.3", "4916 4.4.1")
@pytest.mark.parametrize(("allow", "method"), [("INVITE, UPDATE", "UPDATE"), ("INVITE", "INVITE")])
def test_identity_is_told_by_update_or_else_by_re_invite(sip, allow, method):
    two = Wanting(sip, allow=allow)
    tag = two.call.dialog.local.tag
    assert sip.run(two.call.identify, SALES) is True
    told = two.peer.last(method)
    assert (str(told.from_.uri), told.from_.display, told.from_.tag) == (
        "sip:sales@example.com", "Sales", tag,
    )  # fmt: skip
    assert told.to.tag is not None
    assert two.call.local_identity == NameAddr.parse(SALES)
    two.call.hangup()
    sip.settle()
    assert two.peer.last("BYE").from_ == told.from_


@pytest.mark.rfc("4916 4.3")
def test_peer_without_from_change_is_told_nothing(sip):
    two = Wanting(sip, supported="timer")
    before = two.call.dialog.local
    assert sip.run(two.call.identify, SALES) is False
    assert (two.call.dialog.local, two.peer.methods) == (before, ["INVITE", "ACK"])
    two.call.hangup()


@pytest.mark.rfc("4916 4.4.1")
def test_identity_that_is_refused_raises_and_the_call_goes_on(sip):
    two = Wanting(sip)
    two.status = 428
    with pytest.raises(Reject) as refused:
        sip.run(two.call.identify, SALES)
    assert refused.value.status == 428
    assert not two.call.ended.is_set()
    two.call.hangup()


def test_identity_that_is_no_address_is_a_mistake(sip):
    two = Wanting(sip)
    with pytest.raises(InvalidValue):
        two.call.identify("<nobody")
    two.call.hangup()


def answering(request, tx):
    if request.method == "INVITE":
        with tx.accept(body="answer") as call:
            call.wait(60)
        return None
    return 481


@pytest.mark.rfc("4916 4.1", "4916 4.2")
def test_callee_tells_its_identity_after_the_ack(sip):
    sip.serve(answering, supported=("from-change",))
    peer = Peer(sip, "10.0.0.50", lambda request: 200)
    headers = {"supported": "from-change", "allow": "INVITE, UPDATE", **BODY}
    invite = peer.ask("INVITE", **headers)
    assert "from-change" in peer.responses[-1].supported
    assert "UPDATE" not in peer.methods
    peer.send(peer.within(invite, peer.responses[-1], "ACK"))
    update = peer.last("UPDATE")
    assert (update.from_, update.to) == (peer.responses[-1].to, invite.from_)
    peer.send(peer.within(invite, peer.responses[0], "BYE"))


@pytest.mark.rfc("4916 4.2")
@pytest.mark.parametrize(("supported", "allow"), [("timer", "UPDATE"), ("from-change", "INVITE")])
def test_callee_tells_nothing_to_a_caller_that_cannot_take_it(sip, supported, allow):
    sip.serve(answering, supported=("from-change",))
    peer = Peer(sip, "10.0.0.50", lambda request: 200)
    invite = peer.ask("INVITE", supported=supported, allow=allow, **BODY)
    response = peer.responses[-1]
    peer.send(peer.within(invite, response, "ACK"))
    assert "UPDATE" not in peer.methods
    peer.send(peer.within(invite, response, "BYE"))


def test_stack_that_does_not_list_from_change_sends_no_update(sip):
    stack = sip.serve(answering)
    call = sip.run(sip.client.invite, AT_SERVER, body="offer", supported="from-change")
    assert "from-change" not in stack.supported
    assert "UPDATE" not in sent(sip)
    call.hangup()


@pytest.mark.rfc("4916 4.2", "4916 4.4.2")
@pytest.mark.parametrize("seed", range(5))
def test_two_stacks_tell_each_other_on_a_lossy_network(sip, seed):
    sip.lossy(loss=0.1, delay=0.02, seed=seed)
    seen = []

    def transferred(request, tx):
        with tx.accept(body="answer") as call:
            tx.wait(2)
            call.identify(SALES)
            call.wait(60)

    sip.serve(transferred, supported=("from-change",))
    caller = sip.stack(supported=("from-change",))

    def calling():
        with caller.invite(AT_SERVER, body="offer") as call:
            for event in call.events(timeout=40):
                seen.append((event.kind, str(call.remote_identity)))
                return

    sip.run(calling)
    assert seen == [("identity", '"Sales" <sip:sales@example.com>')]
    assert {str(bye.to.uri) for bye in messages(sip, "BYE")} == {"sip:sales@example.com"}
