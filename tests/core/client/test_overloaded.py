"""OverloadedServers: Retry-After (RFC 3261 §21.5.4) and overload control (RFC 7339) of next hops are honoured."""

from __future__ import annotations

import random

import pytest

from sippet_gevent import Limits, TransactionTimeout, TransportError, Via, forward
from sippet_gevent.core.client.overloaded import OverloadedServers
from sippet_gevent.transport.locate.resolver import SRV, StaticResolver
from sippet_gevent.transport.locate.rfc3263 import Candidate

from ..wire import Peer

FIRST, SECOND = "10.0.0.61", "10.0.0.62"
ONE = Candidate("UDP", FIRST, 5060, FIRST)
TARGET = ONE[:3]
RECORDS = {
    "_sip._udp.example.com": [SRV(10, 0, 5060, "a.example.com"), SRV(20, 0, 5060, "b.example.com")],
    "a.example.com": [FIRST],
    "b.example.com": [SECOND],
}


def unavailable(seconds):
    return lambda request: request.response(503, retry_after=seconds)


def ask(sip, stack, uri, method="OPTIONS"):
    """Return the status of a request, or the kind of error."""
    try:
        return sip.run(stack.request, method, uri).status
    except TransportError as error:
        return error.kind
    except TransactionTimeout:
        return "timeout"


@pytest.fixture
def client(sip):
    return sip.stack(host="10.0.0.40", resolver=StaticResolver(RECORDS))


# ---- Retry-After


@pytest.mark.rfc("3261 21.5.4")
def test_destination_gets_no_request_until_its_retry_after_is_over(sip, client):
    peer = Peer(sip, FIRST, answer=unavailable(20))
    assert ask(sip, client, f"sip:{FIRST}") == 503
    assert ask(sip, client, f"sip:{FIRST}") == "retry_after"
    assert len(peer.requests) == 1
    assert client.stats()["requests_held_back"] == {
        "retry_after": 1,
        "overload_control": 0,
        "silent": 0,
    }
    peer.answer = lambda request: 200
    sip.clock.advance(20)
    assert ask(sip, client, f"sip:{FIRST}") == 200


@pytest.mark.rfc("3263 4.3")
def test_other_destination_of_a_name_gets_the_requests_meanwhile(sip, client):
    first, second = Peer(sip, FIRST, unavailable(20)), Peer(sip, SECOND, lambda request: 200)
    assert [ask(sip, client, "sip:example.com") for _ in range(3)] == [200] * 3
    assert (len(first.requests), len(second.requests)) == (1, 3)
    first.answer = lambda request: 200
    sip.clock.advance(21)
    ask(sip, client, "sip:example.com")
    assert len(first.requests) == 2


def test_503_without_retry_after_closes_nothing(sip, client):
    peer = Peer(sip, FIRST, answer=lambda request: 503)
    assert [ask(sip, client, f"sip:{FIRST}") for _ in range(2)] == [503, 503]
    assert len(peer.requests) == 2


def test_other_destinations_are_not_closed(sip, client):
    Peer(sip, FIRST, unavailable(20)), Peer(sip, SECOND, lambda request: 200)
    assert ask(sip, client, f"sip:{FIRST}") == 503
    assert ask(sip, client, f"sip:{SECOND}") == 200


def test_retry_after_can_be_ignored(sip):
    client = sip.stack(host="10.0.0.40", limits=Limits(closed_seconds=0))
    Peer(sip, FIRST, unavailable(20))
    assert [ask(sip, client, f"sip:{FIRST}") for _ in range(2)] == [503, 503]


def test_request_within_a_dialog_reaches_a_closed_destination():
    overloaded = OverloadedServers(lambda: 300)
    overloaded.close(TARGET, 0, 20)
    assert overloaded.allowed([ONE], 1, is_within=True) == [ONE]
    with pytest.raises(TransportError):
        overloaded.allowed([ONE], 1, is_within=False)


def test_retry_after_is_bounded():
    overloaded = OverloadedServers(lambda: 300)
    overloaded.close(TARGET, 0, 1e9)
    assert overloaded.allowed([ONE], 301, is_within=False) == [ONE]
    assert not overloaded.are_limited


# ---- RFC 7339


def via(parameters):
    return Via.parse(f"SIP/2.0/UDP 10.0.0.40:5060;branch=z9hG4bK1{parameters}")


def passed(overloaded, number, now, *, is_within=False):
    """Return how many of some requests may be sent."""
    count = 0
    for _ in range(number):
        try:
            count += len(overloaded.allowed([ONE], now, is_within=is_within))
        except TransportError:
            pass
    return count


def controlled(parameters, now=0.0):
    overloaded = OverloadedServers(lambda: 300)
    overloaded.roll = random.Random(7).random
    overloaded.take_feedback(TARGET, via(parameters), now)
    return overloaded


@pytest.mark.rfc("7339 7.2")
@pytest.mark.parametrize("loss", [10, 40, 75, 100])
def test_new_requests_are_thinned_within_3_points(loss):
    overloaded = controlled(f';oc={loss};oc-algo="loss";oc-seq=1;oc-validity=10000')
    assert passed(overloaded, 5000, 1) == pytest.approx(5000 * (1 - loss / 100), abs=150)


@pytest.mark.rfc("7339 5.10.1")
def test_requests_within_dialogs_pass_first_and_the_total_is_kept():
    overloaded = controlled(';oc=30;oc-algo="loss";oc-seq=1;oc-validity=10000')
    within = new = 0
    for _ in range(4000):
        within += passed(overloaded, 1, 1, is_within=True)
        new += passed(overloaded, 1, 1)
    assert within >= 3990
    assert within + new == pytest.approx(8000 * 0.7, abs=240)


@pytest.mark.rfc("7339 5.7")
def test_control_ends_with_its_validity():
    overloaded = controlled(";oc=100;oc-seq=1")
    assert passed(overloaded, 10, 0.4) == 0
    assert passed(overloaded, 10, 0.5) == 10
    assert not overloaded.are_limited


@pytest.mark.rfc("7339 5.7")
def test_validity_of_0_ends_control():
    overloaded = controlled(";oc=100;oc-seq=1;oc-validity=5000")
    overloaded.take_feedback(TARGET, via(";oc=100;oc-seq=2;oc-validity=0"), 1)
    assert passed(overloaded, 10, 1) == 10


@pytest.mark.rfc("7339 5.7")
@pytest.mark.parametrize("oc", ["", ";oc", ";oc=x", ";oc=99999999999999999999999999999"])
def test_validity_of_0_ends_control_whatever_oc_is(oc):
    overloaded = controlled(";oc=100;oc-seq=1;oc-validity=5000")
    overloaded.take_feedback(TARGET, via(f"{oc};oc-seq=2;oc-validity=0"), 1)
    assert passed(overloaded, 10, 1) == 10


@pytest.mark.rfc("7339 4.4")
def test_sequence_that_has_overflowed_begins_anew():
    overloaded = controlled(";oc=100;oc-seq=999999999999.9;oc-validity=60000")
    overloaded.take_feedback(TARGET, via(";oc=0;oc-seq=1700000000.5;oc-validity=0"), 1)
    assert passed(overloaded, 10, 1) == 10
    overloaded.take_feedback(TARGET, via(";oc=100;oc-seq=1700000000.6"), 1.1)
    assert passed(overloaded, 10, 1.2) == 0


@pytest.mark.rfc("7339 5.4")
def test_older_feedback_that_comes_late_is_ignored():
    overloaded = controlled(";oc=100;oc-seq=2.5;oc-validity=5000")
    overloaded.take_feedback(TARGET, via(";oc=0;oc-seq=2.4;oc-validity=5000"), 1)
    assert passed(overloaded, 10, 1) == 0


@pytest.mark.parametrize(
    "parameters",
    [";oc", ";oc=x;oc-seq=1", ";oc=10", ';oc=10;oc-seq=1;oc-algo="rate"', ";oc=1_0;oc-seq=1", ""],
)
def test_wrong_feedback_is_ignored(parameters):
    assert not controlled(parameters).are_limited


def test_client_offers_control_and_honours_it_by_destination(sip):
    client = sip.stack(host="10.0.0.40", limits=Limits(overload_control=True))
    server = sip.serve(lambda request, tx: 200)
    host = server.engine.transports[0].local[0]
    other = Peer(sip, SECOND, answer=lambda request: 200)
    assert ask(sip, client, f"sip:{host}") == 200
    assert not client.sender.overloaded.are_limited
    server.engine.admission.shed_fraction = lambda host: 1.0
    assert ask(sip, client, f"sip:{host}") == 200
    assert ask(sip, client, f"sip:{host}") == "overload_control"
    assert ask(sip, client, f"sip:{SECOND}") == 200
    parameters = other.last("OPTIONS").via[0].parameters
    assert (parameters["oc"], parameters["oc-algo"]) == (None, "loss")
    sip.clock.advance(1)
    server.engine.admission.shed_fraction = lambda host: 0.0
    assert ask(sip, client, f"sip:{host}") == 200


def test_client_offers_nothing_by_default(sip, client):
    peer = Peer(sip, FIRST, answer=lambda request: 200)
    ask(sip, client, f"sip:{FIRST}")
    assert "oc" not in peer.last("OPTIONS").via[0].parameters


TWO = Candidate("UDP", SECOND, 5060, SECOND)


@pytest.mark.rfc("3263 4.3")
def test_request_that_leaves_by_another_next_hop_is_not_counted_as_held_back():
    overloaded = OverloadedServers(lambda: 300)
    overloaded.close(TARGET, 0, 20)
    assert overloaded.allowed([ONE, TWO], 1, is_within=False) == [TWO]
    assert overloaded.refused == {"retry_after": 0, "overload_control": 0, "silent": 0}
    overloaded.close(TWO[:3], 0, 20)
    with pytest.raises(TransportError):
        overloaded.allowed([ONE, TWO], 1, is_within=False)
    assert overloaded.refused == {"retry_after": 1, "overload_control": 0, "silent": 0}


@pytest.mark.rfc("7339 7.2")
def test_next_hop_for_fail_over_does_not_count_in_the_mix_of_a_server():
    overloaded = controlled(";oc=50;oc-seq=1;oc-validity=9000")
    for _ in range(50):
        overloaded.allowed([TWO, ONE], 1, is_within=True)
    control = overloaded._controls[TARGET]
    assert (control.first, control.second) == (0.0, 1.0)


@pytest.mark.rfc("7339 5.4")
def test_older_feedback_that_comes_after_the_end_of_control_begins_nothing():
    overloaded = controlled(";oc=100;oc-seq=1;oc-validity=5000")
    overloaded.take_feedback(TARGET, via(";oc=0;oc-seq=3;oc-validity=0"), 1)
    overloaded.take_feedback(TARGET, via(";oc=100;oc-seq=2;oc-validity=5000"), 1.1)
    assert passed(overloaded, 10, 1.2) == 10
    assert passed(overloaded, 1, 1.6) == 1
    assert not overloaded.are_limited


@pytest.mark.rfc("7339 5.10.1")
def test_emergency_call_reaches_a_destination_that_wants_fewer_requests(sip):
    client = sip.stack(host="10.0.0.40", limits=Limits(emergency=("112",), overload_control=True))
    peer = Peer(sip, FIRST, answer=unavailable(20))
    assert ask(sip, client, f"sip:{FIRST}") == 503
    peer.answer = lambda request: 200
    assert ask(sip, client, f"sip:bob@{FIRST}") == "retry_after"
    assert ask(sip, client, f"sip:112@{FIRST}") == 200


@pytest.mark.rfc("7339 5.5")
def test_request_by_a_given_flow_honours_the_feedback_of_its_server(sip):
    client = sip.stack(host="10.0.0.40", limits=Limits(overload_control=True))
    Peer(sip, FIRST, answer=lambda request: 200)
    flow = client.engine.transports[0].connect((FIRST, 5060))

    def by_flow():
        return sip.run(client.request, "OPTIONS", f"sip:{FIRST}", next_hop=flow).status

    assert by_flow() == 200
    target = "UDP", FIRST, 5060
    overloaded = client.sender.overloaded
    overloaded.take_feedback(target, via(";oc=100;oc-seq=1;oc-validity=9000"), sip.clock.now())
    with pytest.raises(TransportError, match="fewer requests"):
        by_flow()
    sip.clock.advance(10)
    assert by_flow() == 200


# ---- servers that do not answer


@pytest.mark.rfc("7339 5.9")
def test_silent_server_gets_no_requests_but_probes_at_growing_intervals():
    overloaded = OverloadedServers(lambda: 300)
    for now in (0, 1):
        overloaded.failed(TARGET, now)
        assert passed(overloaded, 1, now) == 1
    overloaded.failed(TARGET, 2)
    probes = [tenth / 10 for tenth in range(20, 3000) if passed(overloaded, 1, tenth / 10)]
    assert probes == pytest.approx([4, 8, 16, 32, 64, 124, 184, 244], abs=0.11)
    assert overloaded.refused["silent"] > 2000
    overloaded.answered(TARGET)
    assert passed(overloaded, 10, 245) == 10
    assert not overloaded.are_limited


@pytest.mark.rfc("7339 5.9")
def test_other_destination_of_a_name_gets_the_requests_of_a_silent_one():
    overloaded = OverloadedServers(lambda: 300)
    for _ in range(3):
        overloaded.failed(TARGET, 0)
    assert overloaded.allowed([ONE, TWO], 1, is_within=True) == [TWO]
    assert overloaded.allowed([ONE, TWO], 3, is_within=False) == [ONE, TWO]  # a probe


@pytest.mark.rfc("7339 5.9")
@pytest.mark.parametrize("offers", [True, False])
def test_silent_server_gets_requests_again_after_its_answer_to_a_probe(sip, offers):
    client = sip.stack(host="10.0.0.40", limits=Limits(overload_control=offers))
    peer = Peer(sip, FIRST)
    for _ in range(3):
        assert ask(sip, client, f"sip:{FIRST}") == "timeout"
    count = len(peer.requests)
    outcome = ask(sip, client, f"sip:{FIRST}")
    assert (outcome == "silent", len(peer.requests) == count) == (offers, offers)
    peer.answer = lambda request: 200
    sip.advance(10)
    assert [ask(sip, client, f"sip:{FIRST}") for _ in range(3)] == [200] * 3


@pytest.mark.rfc("7339 5.9")
def test_request_by_a_given_flow_is_not_sent_to_a_silent_server(sip):
    client = sip.stack(host="10.0.0.40", limits=Limits(overload_control=True))
    flow = client.engine.transports[0].connect((FIRST, 5060))
    for _ in range(3):
        client.sender.overloaded.failed(TARGET, sip.clock.now())
    with pytest.raises(TransportError, match="does not answer"):
        sip.run(client.request, "OPTIONS", f"sip:{FIRST}", next_hop=flow)


@pytest.mark.rfc("7339 5.10", "5626 5.3.1")
@pytest.mark.parametrize(("parameters", "status"), [("", 200), (";oc=100;oc-seq=1", 500)])
def test_proxy_that_holds_a_request_back_does_not_answer_430(sip, parameters, status):
    caller = Peer(sip, "10.0.0.50")
    Peer(sip, FIRST, answer=lambda request: 200)
    limits = Limits(overload_control=True)
    proxy = sip.stack(host="10.0.0.1", limits=limits)
    flow = proxy.engine.transports[0].connect((FIRST, 5060))
    proxy.core = lambda request, tx: forward(request, tx, f"sip:{FIRST}", next_hop=flow)
    if parameters:
        proxy.sender.overloaded.take_feedback(TARGET, via(parameters), sip.clock.now())
    caller.ask("OPTIONS")
    assert caller.statuses == [status]
