"""Methods: what is answered to requests without a registered function, and checks before all cores, RFC 3261 §8.2."""

from __future__ import annotations

import pytest

from sippet_gevent import Limits, Reject, forward
from sippet_gevent.core.dialog.rules import RULES
from sippet_gevent.message.iana import METHODS

from .wire import AT_SERVER, SERVER, Peer, start

CALLER = "10.0.0.50"
EMERGENCY = Limits(emergency=("112",))


@pytest.fixture
def peer(sip):
    return Peer(sip, CALLER)


@pytest.fixture
def stack(sip):
    """A stack that serves MESSAGE."""
    stack = sip.stack(host="10.0.0.1")
    stack.on("MESSAGE")(lambda request, tx: 202)
    return stack


# ---- by method


def test_request_goes_to_the_function_of_its_method(stack, peer):
    stack.on("INFO", "PUBLISH")(lambda request, tx: 204)
    peer.ask("PUBLISH")
    peer.ask("MESSAGE")
    assert peer.statuses == [204, 202]


def test_function_without_methods_gets_all_others(stack, peer):
    stack.on()(lambda request, tx: 606)
    peer.ask("MESSAGE")
    peer.ask("FROBNICATE")
    assert peer.statuses == [202, 606]


def test_function_stays_what_it_was(stack):
    def function(request, tx):
        return 200

    assert stack.on("INFO")(function) is function


@pytest.mark.rfc("3261 8.2.1")
@pytest.mark.parametrize(
    "method", sorted(set(METHODS) - {"ACK", "BYE", "CANCEL", "MESSAGE", "OPTIONS"})
)
def test_known_method_that_is_not_served_is_405_with_allow(stack, peer, method):
    peer.ask(method)
    (response,) = {r.status: r for r in peer.responses}.values()
    assert response.status == 405
    assert set(response.allow) == {"ACK", "BYE", "CANCEL", "MESSAGE", "OPTIONS"}


@pytest.mark.rfc("3261 8.2.1")
def test_unknown_method_is_501(stack, peer):
    peer.ask("FROBNICATE")
    assert peer.statuses == [501]


@pytest.mark.rfc("3261 8.2.1")
def test_methods_are_told_apart_by_case(stack, peer):
    request = peer.request("MESSAGE")
    peer.send(bytes(request).replace(b"MESSAGE", b"message"), to=SERVER)
    assert peer.statuses == [501]


@pytest.mark.rfc("3261 12.2.2")
@pytest.mark.parametrize("method", ["INVITE", "INFO", "UPDATE", "NOTIFY", "BYE", "OPTIONS"])
def test_request_in_an_unknown_dialog_is_481(stack, peer, method):
    peer.ask(method, to=f"<{AT_SERVER}>;tag=gone")
    assert set(peer.statuses) == {481}


@pytest.mark.rfc("3261 8.2.7", "3261 12.2.2")
@pytest.mark.parametrize("method", ["BYE", "INFO", "NOTIFY", "SUBSCRIBE"])
def test_request_in_an_unknown_dialog_makes_no_transaction(stack, peer, method):
    request = peer.ask(method, to="<sip:bob@10.0.0.1>;tag=forged")
    peer.send(request)
    assert peer.statuses == [481, 481]
    assert len({str(response.to) for response in peer.responses}) == 1
    assert not stack.engine.servers
    assert stack.stats()["answered"] == 2


def test_core_of_another_stack_serves_what_that_has_functions_for(sip, peer, stack):
    seen = []
    stack.on("ACK", "INFO")(lambda request, tx: seen.append(request.method) or 200)
    other = sip.stack(host="10.0.0.2")
    other.core = stack.core
    for method in ("INFO", "ACK"):
        request = peer.request(method, "sip:bob@10.0.0.2", to="<sip:bob@10.0.0.2>;tag=forged")
        peer.send(request, to="10.0.0.2")
    assert (seen, peer.statuses) == (["INFO", "ACK"], [200])


@pytest.mark.rfc("7339 5.2")
def test_481_in_an_unknown_dialog_has_feedback(stack, peer):
    via = f'SIP/2.0/UDP {peer.host}:5060;branch=z9hG4bK1;oc;oc-algo="loss"'
    peer.ask("BYE", via=via, to="<sip:bob@10.0.0.1>;tag=forged")
    assert (peer.statuses, peer.responses[0].via[0].parameters["oc"]) == ([481], "0")


def test_middleware_sees_a_request_in_an_unknown_dialog(stack, peer):
    seen = []

    def noting(core):
        def note(request, tx):
            seen.append(request.method)
            return core(request, tx)

        return note

    stack.use(noting)
    peer.ask("BYE", to="<sip:bob@10.0.0.1>;tag=forged")
    assert (seen, peer.statuses) == (["BYE"], [481])


@pytest.mark.rfc("3261 15.1.2")
def test_bye_outside_any_dialog_is_481(stack, peer):
    peer.ask("BYE")
    assert peer.statuses == [481]


@pytest.mark.rfc("3261 11.2")
def test_options_is_answered_with_what_the_stack_can(sip, peer):
    stack = sip.stack(host="10.0.0.1", supported=("path", "timer"))
    stack.on("INVITE")(lambda request, tx: 486)
    peer.ask("OPTIONS")
    (response,) = peer.responses
    assert response.status == 200
    served = {"ACK", "BYE", "CANCEL", "INVITE", "OPTIONS"}
    assert list(response.allow) == sorted(served | RULES.methods)
    assert list(response.supported) == sorted({"path"} | RULES.option_tags)


@pytest.mark.rfc("3261 11.2")
def test_options_may_be_the_core_s_own(stack, peer):
    stack.on("OPTIONS")(lambda request, tx: 486)
    peer.ask("OPTIONS")
    assert peer.statuses == [486]


@pytest.mark.rfc("3261 17")
def test_ack_of_nothing_is_not_answered(stack, peer):
    peer.ask("ACK", to=f"<{AT_SERVER}>;tag=gone")
    assert (peer.responses, stack.stats()["dropped"]) == ([], {"stray_ack": 1})


def test_ack_of_nothing_goes_to_the_function_registered_for_it(stack, peer):
    seen = []
    stack.on("ACK")(lambda request, tx: seen.append(request.method))
    peer.ask("ACK", to=f"<{AT_SERVER}>;tag=gone")
    assert seen == ["ACK"]


# ---- the checks before all cores


@pytest.mark.rfc("3261 8.2.2.1")
@pytest.mark.parametrize(
    "uri",
    ["mailto:bob@example.com", "http://example.com/", "urn:service:sos", "im:bob@example.com"],
)
def test_request_uri_of_an_unknown_scheme_is_416(stack, peer, uri):
    peer.ask("MESSAGE", uri, to="<sip:bob@example.com>")
    assert peer.statuses == [416]


@pytest.mark.rfc("3261 8.2.2.1")
@pytest.mark.parametrize("uri", ["sip:bob@example.com", "SIP:bob@example.com", "tel:+12125551212"])
def test_request_uri_of_a_known_scheme_is_the_core_s(stack, peer, uri):
    peer.ask("MESSAGE", uri, to="<sip:bob@example.com>")
    assert peer.statuses == [202]


@pytest.mark.rfc("3261 8.2.2.3")
@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
def test_required_extension_that_is_missing_is_420_with_unsupported(sip, peer, method):
    sip.serve(lambda request, tx: 200)
    peer.ask(method, require=("gruu", "precondition"))
    assert {r.status for r in peer.responses} == {420}
    assert list(peer.responses[0].unsupported) == ["gruu", "precondition"]


@pytest.mark.rfc("3261 8.2.2.3")
def test_required_extension_is_compared_without_case(sip, peer):
    sip.serve(lambda request, tx: 200, supported=("100rel",))
    peer.ask("MESSAGE", require=("100REL",))
    assert peer.statuses == [200]


@pytest.mark.rfc("5031 4.2")
@pytest.mark.parametrize("uri", ["urn:service:sos", "URN:Service:SOS.fire"])
def test_emergency_call_to_a_urn_reaches_a_core_that_handles_emergency_calls(sip, peer, uri):
    seen = []
    sip.serve(lambda request, tx: seen.append(str(request.uri)) or 486, limits=EMERGENCY)
    peer.ask("INVITE", uri, to="<urn:service:sos>")
    assert (len(seen), peer.statuses) == (1, [486])
    peer.ask("INVITE", "urn:service:counseling", to="<urn:service:counseling>")
    assert (len(seen), peer.statuses[-1]) == (1, 416)


@pytest.mark.rfc("5031 4.2")
def test_emergency_call_to_a_urn_is_forwarded_to_its_answering_point(sip, peer):
    point = Peer(sip, "10.0.0.70", answer=lambda request: 486)
    sip.serve(lambda request, tx: forward(request, tx, next_hop=point.uri), limits=EMERGENCY)
    peer.ask("INVITE", "urn:service:sos", to="<urn:service:sos>")
    assert [request.uri_text for request in point.requests[:1]] == ["urn:service:sos"]
    assert peer.statuses[-1] == 486


@pytest.mark.rfc("3261 16.6")
def test_emergency_call_to_a_urn_follows_its_route(sip, peer):
    point = Peer(sip, "10.0.0.70", answer=lambda request: 486)
    sip.serve(lambda request, tx: forward(request, tx), limits=EMERGENCY)
    peer.ask("INVITE", "urn:service:sos", to="<urn:service:sos>", route="<sip:10.0.0.70;lr>")
    assert [request.uri_text for request in point.requests[:1]] == ["urn:service:sos"]


@pytest.mark.rfc("3261 16.3")
def test_emergency_call_to_a_urn_that_leads_nowhere_is_416(sip, peer):
    sip.serve(lambda request, tx: forward(request, tx), limits=EMERGENCY)
    peer.ask("INVITE", "urn:service:sos", to="<urn:service:sos>")
    assert peer.statuses[-1] == 416


# ---- one request by two ways


def copy_of(peer, request, uri=None):
    """The same request, come by another way: another branch."""
    again = peer.request(
        request.method,
        uri or request.uri_text,
        from_=request.from_,
        to=request.to,
        call_id=request.call_id,
    )
    again.cseq = request.cseq
    return again


@pytest.mark.rfc("3261 8.2.2.2")
@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
def test_second_copy_of_a_request_is_482(sip, peer, method):
    served = []
    sip.serve(lambda request, tx: served.append(request) or 486)
    request = peer.ask(method)
    peer.send(copy_of(peer, request))
    assert (peer.statuses, len(served)) == ([486, 482], 1)


@pytest.mark.rfc("3261 8.2.2.2")
def test_second_copy_is_482_while_the_first_one_s_transaction_lasts(sip, peer, stack):
    request = peer.ask("MESSAGE")
    sip.advance(31)
    peer.send(copy_of(peer, request))
    sip.advance(2)
    peer.send(copy_of(peer, request))
    assert peer.statuses == [202, 482, 202]


@pytest.mark.rfc("3261 16.3", "3261 8.2.2.2")
@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
@pytest.mark.parametrize("seconds", [0, 1])
def test_second_copy_of_a_forwarded_request_is_forwarded(sip, peer, method, seconds):
    """Also where the core of the first one has looked something up for a second before it forwards."""
    callee = Peer(sip, "10.0.0.61")
    sip.serve(
        lambda request, tx: (seconds and tx.wait(seconds)) or forward(request, tx, callee.uri)
    )
    request = peer.ask(method)
    peer.send(copy_of(peer, request))
    sip.advance(2 * seconds + 0.1)
    first, second = {request.via[0].branch: request for request in callee.requests}.values()
    callee.reply(second, 482)
    callee.reply(first, 486)
    assert [status for status in peer.statuses if status > 100] == [482, 486]


@pytest.mark.rfc("3261 8.2.2.2")
@pytest.mark.parametrize("status", [486, 180])
def test_copy_before_the_core_has_decided_is_482_once_a_uas_answers(sip, peer, status):
    served = []

    def core(request, tx):
        served.append(request)
        tx.wait(1)
        if status == 180:
            tx.respond(180)
            tx.wait(1)
        return 486

    sip.serve(core)
    peer.send(copy_of(peer, peer.ask("INVITE")))
    sip.advance(0.9)
    assert (peer.statuses, len(served)) == ([100, 100], 1)
    sip.advance(0.2)
    assert 482 in peer.statuses
    sip.advance(1)
    assert len(served) == 1


@pytest.mark.rfc("3261 8.2.2.2", "3261 9.2")
def test_copy_that_waits_for_the_first_one_can_be_cancelled(sip, peer):
    sip.serve(lambda request, tx: tx.wait(5) or 486)
    again = copy_of(peer, peer.ask("INVITE"))
    peer.send(again)
    peer.send(again.cancel())
    assert peer.statuses[-2:] == [200, 487]


@pytest.mark.rfc("3261 16.3")
def test_request_that_spirals_with_another_request_uri_is_no_copy(peer, stack):
    request = peer.ask("MESSAGE")
    peer.send(copy_of(peer, request, "sip:carol@10.0.0.1"))
    assert peer.statuses == [202, 202]


@pytest.mark.rfc("3261 8.2.2.2")
def test_next_request_of_the_same_call_id_is_no_copy(peer, stack):
    request = peer.ask("MESSAGE")
    peer.ask("MESSAGE", from_=request.from_, call_id=request.call_id, number=2)
    assert peer.statuses == [202, 202]


@pytest.mark.rfc("3261 8.2.2.2")
def test_phone_that_a_fork_reaches_by_two_ways_rings_once(sip):
    rings = []

    def phone(request, tx):
        if request.method == "INVITE":
            rings.append(request)
            tx.wait(1)
            return 486

    sip.serve(phone)
    for relay in ("10.0.0.3", "10.0.0.4"):
        sip.stack(lambda request, tx: forward(request, tx, AT_SERVER), relay)
    edge = sip.stack(
        lambda request, tx: forward(request, tx, "sip:bob@10.0.0.3", "sip:bob@10.0.0.4"), "10.0.0.5"
    )
    asked = sip.ask(edge, "INVITE sip:bob@example.com")
    sip.advance(2)
    assert (len(rings), asked.statuses[-1]) == (1, 486)


# ---- refusals of a core


def test_core_that_refuses_says_so_in_headers(sip):
    def core(request, tx):
        raise Reject(405, "Not Here", allow=("ACK",))

    response = sip.ask(core, "INFO sip:bob@example.com").response
    assert (response.reason, list(response.allow)) == ("Not Here", ["ACK"])


def test_methods_may_be_called_from_a_core_of_your_own(sip, peer, stack):
    seen = []
    methods = stack.core

    def logging_core(request, tx):
        seen.append(request.method)
        return methods(request, tx)

    stack.core = logging_core
    peer.ask("MESSAGE")
    peer.ask("FROBNICATE")
    assert (seen, peer.statuses) == (["MESSAGE", "FROBNICATE"], [202, 501])


def test_function_for_a_method_may_block_without_holding_up_others(sip, peer, stack):
    stack.on("INFO")(lambda request, tx: tx.wait(5) or 200)
    start(sip, peer.ask, "INFO")
    peer.ask("MESSAGE")
    assert peer.statuses == [202]
