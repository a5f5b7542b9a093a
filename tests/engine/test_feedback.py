"""Feedback: loss-based overload control as server, RFC 7339."""

from __future__ import annotations

import re

import pytest

from sippet_gevent import Limits, Reject, Request, forward
from sippet_gevent.engine.feedback import strip_feedback
from sippet_gevent.testing import SERVER

from ..core.wire import Peer

CALLER = "10.0.0.50"


@pytest.fixture
def caller(sip):
    return Peer(sip, CALLER)


def ask(caller, parameters, method="OPTIONS"):
    """Send a request with these parameters in its Via, and return the Via of the last response."""
    via = f"SIP/2.0/UDP {CALLER}:5060;branch=z9hG4bK{len(caller.received)}x{parameters}"
    caller.ask(method, via=via)
    return caller.responses[-1].via[0].parameters


OFFER = ';oc;oc-algo="loss"'


@pytest.mark.rfc("7339 5.1")
def test_server_without_overload_answers_0_to_a_client_that_offers_control(sip, caller):
    sip.serve(lambda request, tx: 200)
    found = ask(caller, OFFER)
    assert (found["oc"], found["oc-algo"], found["oc-validity"]) == ("0", "loss", "0")
    assert 'oc-algo="loss"' in caller.responses[-1].headers["Via"]
    assert float(found["oc-seq"]) > 0


@pytest.mark.rfc("7339 5.1", "3261 7.3.1")
@pytest.mark.parametrize("parameters", [' ; oc ; oc-algo = "loss"', ';OC;OC-Algo="LOSS"'])
def test_client_that_offers_control_in_another_spelling_gets_a_value(sip, caller, parameters):
    sip.serve(lambda request, tx: 200)
    assert ask(caller, parameters)["oc"] == "0"


@pytest.mark.rfc("7339 5.2")
def test_overloaded_server_tells_the_part_that_it_sheds(sip, caller):
    stack = sip.serve(lambda request, tx: 200)
    stack.engine.admission.shed_fraction = lambda host: 0.37
    found = ask(caller, OFFER)
    assert (found["oc"], found["oc-validity"]) == ("37", "500")


@pytest.mark.rfc("7339 4.4")
def test_sequence_increases_with_time(sip, caller):
    sip.serve(lambda request, tx: 200)
    first = float(ask(caller, OFFER)["oc-seq"])
    sip.clock.advance(0.25)
    assert float(ask(caller, OFFER)["oc-seq"]) == pytest.approx(first + 0.25)


@pytest.mark.rfc("7339 4.4")
def test_two_values_of_one_moment_have_increasing_sequences(sip, caller):
    stack = sip.serve(lambda request, tx: 200)
    first = ask(caller, OFFER)["oc-seq"]
    stack.engine.admission.shed_fraction = lambda host: 1.0
    second = ask(caller, OFFER)["oc-seq"]
    assert float(second) > float(first)
    assert re.fullmatch(r"\d{1,12}\.\d{1,5}", second)


@pytest.mark.rfc("7339 4.2")
def test_server_chooses_loss_of_several_algorithms(sip, caller):
    sip.serve(lambda request, tx: 200)
    assert ask(caller, ';oc;oc-algo="A,loss"')["oc-algo"] == "loss"


@pytest.mark.parametrize(
    "parameters", ["", ";oc", ';oc;oc-algo="rate"', ';oc=5;oc-algo="loss"', ";ocean", ';x="y;oc"']
)
def test_client_without_loss_based_control_gets_no_value(sip, caller, parameters):
    sip.serve(lambda request, tx: 200)
    found = ask(caller, parameters)
    assert "oc-seq" not in found and found.get("oc") in (None, "5")


def test_refusal_at_a_limit_has_feedback(sip, caller):
    sip.serve(lambda request, tx: 200, limits=Limits(handlers=0))
    found = ask(caller, OFFER)
    assert caller.statuses == [503]
    assert (found["oc"], found["oc-validity"]) == ("100", "500")


def answers_401(request, tx):
    raise Reject(401)


@pytest.mark.rfc("7339 4.1", "7339 5.2")
@pytest.mark.parametrize(
    "core",
    [
        lambda request, tx: 404,
        lambda request, tx: request.response(200),
        answers_401,
        lambda request, tx: 1 / 0,
    ],
    ids=["status", "response", "refusal", "mistake"],
)
def test_answer_without_a_transaction_has_feedback(sip, caller, core):
    stack = sip.stack(None, SERVER)
    stack.on(stateless=True)(core)
    stack.engine.admission.shed_fraction = lambda host: 0.37
    found = ask(caller, OFFER)
    assert (found["oc"], found["oc-algo"], found["oc-validity"]) == ("37", "loss", "500")
    assert not stack.engine.servers


@pytest.mark.rfc("7339 5.2")
def test_cancel_has_feedback_in_its_answer(sip, caller):
    sip.serve(lambda request, tx: tx.wait(10))
    assert ask(caller, OFFER, "CANCEL")["oc"] == "0"
    assert caller.statuses == [481]
    invite = caller.ask("INVITE", via=f"SIP/2.0/UDP {CALLER}:5060;branch=z9hG4bK7{OFFER}")
    caller.send(invite.cancel())
    answers = [each for each in caller.responses if each.call_id == invite.call_id]
    assert sorted((each.status, each.cseq.method) for each in answers) == [
        (200, "CANCEL"),
        (487, "INVITE"),
    ]
    assert all(each.via[0].parameters["oc"] == "0" for each in answers)
    caller.send(invite.ack(answers[-1]))


@pytest.mark.rfc("7339 5.2")
def test_malformed_request_has_feedback_in_its_400(sip, caller):
    sip.serve(lambda request, tx: 200)
    broken = caller.request("OPTIONS", via=f"SIP/2.0/UDP {CALLER}:5060;branch=z9hG4bK1{OFFER}")
    caller.send(bytes(broken).replace(b"Max-Forwards: 70", b"Max-Forwards: x"))
    assert caller.statuses == [400]
    assert caller.responses[0].via[0].parameters["oc"] == "0"


@pytest.mark.rfc("7339 5.2")
def test_copy_of_a_request_has_feedback_in_its_482(sip, caller):
    sip.serve(lambda request, tx: (tx.respond(180), tx.wait(10), 486)[-1])
    first = caller.ask("INVITE")
    via = f"SIP/2.0/UDP {CALLER}:5060;branch=z9hG4bKother{OFFER}"
    caller.ask("INVITE", via=via, from_=first.from_, call_id=first.call_id, cseq=first.cseq)
    assert caller.statuses[-1] == 482
    assert caller.responses[-1].via[0].parameters["oc"] == "0"
    sip.advance(11)


def test_fraction_follows_the_last_quarter_of_the_cores(sip, caller):
    def wait(request, tx):
        if request.method == "INVITE":
            tx.wait(10)
            return 480
        return 200

    sip.serve(wait, limits=Limits(handlers=8))
    values = []
    for _ in range(8):
        caller.ask("INVITE")
        sip.clock.advance(0.3)
        values.append(int(ask(caller, OFFER)["oc"]))
    assert values == [0, 0, 0, 0, 0, 0, 50, 100]


# ---- a proxy between two hops with overload control

CALLEE = "10.0.0.60"


def proxied(sip, answer):
    """A proxy in front of a callee that answers each request by answer()."""
    callee = Peer(sip, CALLEE, answer=answer)
    stack = sip.serve(lambda request, tx: forward(request, tx, callee.uri))
    return stack, callee


@pytest.mark.rfc("7339 5.6")
def test_offer_of_the_client_is_not_forwarded_to_the_next_hop(sip, caller):
    _, callee = proxied(sip, lambda request: 200)
    found = ask(caller, OFFER)
    below = callee.requests[0].via[1].parameters
    assert not {"oc", "oc-algo", "oc-validity", "oc-seq"} & {name for name, _ in below.pairs}
    assert (found["oc"], found["oc-algo"]) == ("0", "loss")


@pytest.mark.rfc("7339 5.4")
@pytest.mark.parametrize("offer", ["", OFFER])
@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
def test_oc_that_a_server_has_written_below_its_via_does_not_reach_the_client(
    sip, caller, offer, method
):
    def answer(request):
        response = request.response(200, contact=f"<sip:{CALLEE}>")
        own, below = response.via
        evil = below.with_params({"OC": "100", "oc-validity": "60000", "oc-seq": "9999999999.9"})
        response.via = (own, evil)
        return response

    proxied(sip, answer)
    found = ask(caller, offer, method)
    names = [name.lower() for name, _ in found.pairs]
    assert (names.count("oc"), found.get("oc")) == ((1, "0") if offer else (0, None))
    assert found.get("oc-seq") != "9999999999.9"


@pytest.mark.rfc("7339 5.2")
def test_answer_after_a_long_ring_has_feedback_of_its_own_time(sip, caller):
    loss = [1.0]

    def ring(request, tx):
        tx.respond(180)
        tx.wait(30)
        return 486

    stack = sip.serve(ring)
    stack.engine.admission.shed_fraction = lambda host: loss[0]
    assert ask(caller, OFFER, "INVITE")["oc"] == "100"
    loss[0] = 0.0
    sip.advance(30.1)
    found = caller.responses[-1].via[0].parameters
    assert (caller.responses[-1].status, found["oc"], found["oc-validity"]) == (486, "0", "0")
    sip.advance(64)
    assert not stack.engine.controlled


@pytest.mark.rfc("7339 5.4")
def test_stripping_feedback_leaves_quoted_text_and_other_parameters():
    headers = Request(
        "OPTIONS",
        "sip:x",
        via='SIP/2.0/UDP a;branch=z9hG4bK1;x="y;oc=1" , SIP/2.0/UDP b ; oc = 5;OC-ALGO="loss,A";q',
    ).headers
    strip_feedback(headers)
    assert headers["Via"] == 'SIP/2.0/UDP a;branch=z9hG4bK1;x="y;oc=1", SIP/2.0/UDP b;q'
