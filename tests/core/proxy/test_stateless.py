"""Stateless forwarding: what passes a proxy without a transaction, RFC 3261 §16.11, RFC 6026 §7.3."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import Reject, Response, forward
from sippet_gevent.testing import SERVER
from sippet_gevent.transport.locate.resolver import SRV, StaticResolver

from ..wire import Peer

CALLER = "10.0.0.50"
PHONE = "10.0.0.61"
TARGET = f"sip:bob@{PHONE}"


@pytest.fixture
def caller(sip):
    return Peer(sip, CALLER)


@pytest.fixture
def phone(sip):
    return Peer(sip, PHONE)


@pytest.fixture
def stack(sip):
    stack = sip.stack(None, SERVER)
    stack.on("INVITE", "MESSAGE", stateless=True)(lambda request, tx: forward(request, tx, TARGET))
    return stack


@pytest.mark.rfc("3261 16.11")
def test_stateless_request_and_its_responses_pass_without_a_transaction(stack, caller, phone):
    caller.ask("INVITE")
    copy = phone.last("INVITE")
    assert ([via.host for via in copy.via], copy.max_forwards) == ([SERVER, CALLER], 69)
    assert (len(stack.engine.servers), len(stack.engine.clients)) == (0, 0)
    for status in (100, 180, 486):
        phone.reply(copy, status)
    assert caller.statuses == [100, 180, 486]
    assert [via.host for via in caller.responses[-1].via] == [CALLER]
    assert stack.stats()["dropped"] == {}


@pytest.mark.rfc("3261 16.11")
def test_retransmission_cancel_and_ack_have_the_branch_of_their_invite(stack, caller, phone):
    invite = caller.ask("INVITE")
    caller.send(invite)
    caller.send(invite.cancel())
    phone.reply(phone.last("CANCEL"), 200)
    phone.reply(phone.last("INVITE"), 487)
    caller.send(invite.ack(caller.responses[-1]))
    assert phone.methods == ["INVITE", "INVITE", "CANCEL", "ACK"]
    assert len({request.via[0].branch for request in phone.requests}) == 1
    assert caller.statuses == [200, 487]


class Turning(StaticResolver):
    """A name server that turns the records of each answer, and whose IPv6 answers are lost at times."""

    asked = 0

    def ask(self, questions, budget):
        self.asked += 1
        answers = super().ask(questions, budget)
        return tuple(
            answer._replace(records=answer.records[at:] + answer.records[:at])
            for answer in answers
            for at in [self.asked % (len(answer.records) or 1)]
        )


SERVERS = {
    "_sip._udp.farm.example": [
        SRV(1, 10, 5060, "a.example"),
        SRV(1, 30, 5060, "b.example"),
        SRV(2, 0, 5060, "c.example"),
    ],
    "a.example": ["10.0.0.71"],
    "b.example": ["10.0.0.72", "10.0.0.73"],
    "c.example": ["10.0.0.74"],
}


@pytest.mark.rfc("3261 16.11", "3263 4.4")
@pytest.mark.parametrize("where", ["next_hop", "target"])
def test_repeats_cancel_and_ack_go_to_one_server_of_srv_records(sip, caller, where):
    farm = [Peer(sip, f"10.0.0.{last}") for last in (71, 72, 73, 74)]
    stack = sip.stack(None, SERVER, resolver=Turning(SERVERS))
    uri = "sip:farm.example;transport=udp"

    @stack.on("INVITE", stateless=True)
    def balance(request, tx):
        return (
            forward(request, tx, next_hop=uri) if where == "next_hop" else forward(request, tx, uri)
        )

    stack.engine.secret = b"a secret of the test"
    for call in range(24):
        via = f"SIP/2.0/UDP {CALLER};branch=z9hG4bK{call}"
        invite = caller.request(
            "INVITE", via=via, from_=f"<sip:peer@{CALLER}>;tag=1", call_id=str(call)
        )
        before = [len(peer.requests) for peer in farm]
        caller.send(invite, invite, invite.cancel(), invite)
        (chosen,) = [peer for peer, n in zip(farm, before) if len(peer.requests) > n]
        stack.sender.grey.add(("UDP", chosen.host, 5060), sip.clock.now())  # it failed for others
        caller.send(invite)
        chosen.reply(chosen.last("INVITE"), 487)
        caller.send(invite.ack(caller.responses[-1]))
        assert chosen.methods[-6:] == ["INVITE", "INVITE", "CANCEL", "INVITE", "INVITE", "ACK"]
    first, second, third, backup = [len(peer.requests) // 6 for peer in farm]
    assert backup == 0 < first < second + third  # by priority, then by weight
    assert second and third  # both addresses of b.example
    assert first + second + third == 24


@pytest.mark.rfc("3261 16.11")
def test_two_requests_have_two_branches(stack, caller, phone):
    caller.ask("MESSAGE")
    caller.ask("MESSAGE")
    assert len({request.via[0].branch for request in phone.requests}) == 2


@pytest.mark.rfc("6026 7.3")
@pytest.mark.parametrize(
    "forge",
    [
        lambda branch: branch[:-1] + ("0" if branch[-1] != "0" else "1"),
        lambda branch: branch.partition("-")[0],
        lambda branch: branch.replace("z9hG4bKs", "z9hG4bKs0"),
        lambda branch: "z9hG4bK-1-2",
        lambda branch: "z9hG4bK",
    ],
)
def test_response_whose_branch_lacks_our_mark_is_not_forwarded(stack, caller, phone, forge):
    caller.ask("MESSAGE")
    copy = phone.last("MESSAGE")
    response = copy.response(200)
    mine = copy.via[0]
    response.via = (mine.with_params(branch=forge(mine.branch)), *copy.via[1:])
    phone.reply(copy, response)
    assert (caller.statuses, stack.stats()["dropped"]) == ([], {"stray_response": 1})


@pytest.mark.rfc("3261 16.3", "3261 16.11")
def test_loop_of_a_stateless_proxy_is_482(sip, caller):
    stack = sip.stack(None, SERVER)
    stack.on(stateless=True)(lambda request, tx: forward(request, tx, next_hop=f"sip:{SERVER}"))
    caller.ask("MESSAGE")
    assert caller.statuses == [482]


def test_stateless_function_may_answer(sip, caller):
    stack = sip.stack(None, SERVER)
    answers = iter([404, Reject(403), LookupError("a bug of the core's"), None, "text"])

    @stack.on("MESSAGE", stateless=True)
    def refuse(request, tx):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    for _ in range(5):
        caller.ask("MESSAGE")
    assert caller.statuses == [404, 403, 500, 500, 500]
    assert (len(stack.engine.servers), stack.stats()["core_errors"]) == (0, 3)


@pytest.mark.rfc("3261 8.2.7")
def test_stateless_answer_to_a_retransmission_has_the_same_tag(sip, caller):
    stack = sip.stack(None, SERVER)
    stack.on("INVITE", stateless=True)(lambda request, tx: 404)
    invite = caller.ask("INVITE")
    caller.send(invite)
    caller.send(invite.ack(caller.responses[-1]))
    assert caller.statuses == [404, 404]
    assert len({response.to.tag for response in caller.responses}) == 1


def test_respond_of_a_stateless_function_says_what_to_write(sip, caller, caplog):
    stack = sip.stack(None, SERVER)
    stack.on("MESSAGE", stateless=True)(lambda request, tx: tx.respond(Response(200)))
    caller.ask("MESSAGE")
    assert caller.statuses == [500]


@pytest.mark.parametrize(
    ("targets", "more"), [((TARGET, "sip:bob@10.0.0.62"), {}), ((TARGET,), {"record_route": True})]
)
def test_stateless_function_cannot_fork_or_stay_on_the_route(sip, caller, targets, more, caplog):
    stack = sip.stack(None, SERVER)
    stack.on("MESSAGE", stateless=True)(lambda request, tx: forward(request, tx, *targets, **more))
    caller.ask("MESSAGE")
    assert caller.statuses == [500]


def test_other_methods_of_the_stack_have_transactions(stack, caller):
    stack.on("OPTIONS")(lambda request, tx: 200)
    caller.ask("OPTIONS")
    assert (caller.statuses, len(stack.engine.servers)) == ([200], 1)


@pytest.mark.rfc("3261 16.11", "3261 12.2")
def test_request_in_a_call_of_our_own_has_a_transaction(sip, stack, phone):
    phone.answer = lambda request: (
        request.response(200, contact=f"<{phone.uri}>", to=request.to.with_params(tag="b"))
        if request.method == "INVITE"
        else None
    )
    gevent.spawn(lambda: stack.invite(TARGET).wait())
    sip.settle()
    (invite,) = [request for request in phone.requests if request.method == "INVITE"]
    inside = {
        "from_": "<sip:bob@10.0.0.61>;tag=b",
        "to": str(invite.from_),
        "call_id": invite.call_id,
    }
    uri = str(invite.contact[0].uri)
    phone.ask("INVITE", uri, number=1, **inside)
    assert len(stack.engine.servers) == 1
    phone.ask("BYE", uri, number=2, **inside)
    assert phone.statuses[-1] == 200
    assert phone.methods == ["INVITE", "ACK"]  # the re-INVITE went no further
