"""Sources: what one source may have of each limit, at the limit and after it, RFC 3261 §21.5.4."""

from __future__ import annotations

import pytest

from sippet_gevent import InvalidValue, Limits, forward
from sippet_gevent.engine.sources import Sources
from sippet_gevent.runtime.rates import source_of

from ..core.wire import Peer

GREEDY = "10.0.0.50"
OTHER = "10.0.0.51"


def answer(request, tx):
    if request.method != "INVITE":
        return 200
    with tx.accept() as call:
        call.wait(60)


def hold(request, tx):
    """Wait, as a core does while a phone rings."""
    if request.method != "INVITE":
        return 200
    tx.respond(180)
    tx.wait(60)
    return 480


@pytest.fixture
def greedy(sip):
    return Peer(sip, GREEDY, answer=lambda request: 200)


@pytest.fixture
def other(sip):
    return Peer(sip, OTHER, answer=lambda request: 200)


def status(peer, request):
    """Return the last status of a request."""
    return [r.status for r in peer.responses if r.call_id == request.call_id][-1]


def statuses(peer, number, method="INVITE"):
    return [status(peer, peer.ask(method)) for _ in range(number)]


def call(peer):
    """Call, acknowledge, and return the INVITE with its 200; None for the 200 of a refused call."""
    invite = peer.ask("INVITE")
    response = peer.responses[-1]
    if response.status == 200:
        peer.send(peer.within(invite, response, "ACK"))
    return invite, response


def hang_up(peer, invite, response):
    peer.send(peer.within(invite, response, "BYE"))
    return peer.responses[-1].status


# ---- caps


def test_transactions_of_a_source_are_refused_at_their_cap_and_served_after_it(sip, greedy, other):
    stack = sip.serve(answer, limits=Limits(transactions_per_source=3))
    assert statuses(greedy, 4, "OPTIONS") == [200, 200, 200, 503]
    assert statuses(other, 1, "OPTIONS") == [200]
    assert stack.stats()["refused"] == {"transactions_per_source": 1}
    sip.clock.advance(33)
    assert statuses(greedy, 1, "OPTIONS") == [200]


def test_waiting_invites_of_a_source_are_refused_at_their_cap_and_served_after_it(
    sip, greedy, other
):
    stack = sip.serve(hold, limits=Limits(unanswered_per_source=2))
    first = [greedy.ask("INVITE") for _ in range(3)]
    assert [status(greedy, each) for each in first] == [180, 180, 503]
    assert statuses(other, 1) == [180]
    assert stack.stats()["refused"] == {"unanswered_per_source": 1}
    greedy.send(greedy.request("CANCEL", via=first[0].via, from_=first[0].from_, to=first[0].to,
                               call_id=first[0].call_id, cseq="1 CANCEL"))  # fmt: skip
    assert status(greedy, first[0]) in (200, 487)
    assert statuses(greedy, 2) == [180, 503]


def test_forwarded_invites_of_a_source_count_for_its_cap(sip, greedy, other):
    phone = Peer(sip, "10.0.0.61", answer=lambda request: 180)
    sip.serve(
        lambda request, tx: forward(request, tx, phone.uri), limits=Limits(unanswered_per_source=2)
    )
    assert statuses(greedy, 3) == [180, 180, 503]
    assert statuses(other, 1) == [180]


def test_calls_of_a_source_are_refused_at_their_cap_and_served_after_it(sip, greedy, other):
    stack = sip.serve(answer, limits=Limits(calls_per_source=2))
    calls = [call(greedy) for _ in range(3)]
    assert [response.status for _, response in calls] == [200, 200, 503]
    assert call(other)[1].status == 200
    assert stack.stats()["refused"] == {"calls_per_source": 1}
    assert hang_up(greedy, *calls[0]) == 200
    assert [call(greedy)[1].status for _ in range(2)] == [200, 503]


def test_caps_never_refuse_requests_within_a_call(sip, greedy):
    sip.serve(answer, limits=Limits(transactions_per_source=1, calls_per_source=1))
    invite, response = call(greedy)
    assert response.status == 200
    greedy.send(greedy.within(invite, response, "INFO", number=2))
    assert greedy.responses[-1].status != 503
    greedy.send(greedy.within(invite, response, "BYE", number=3))
    assert greedy.responses[-1].status == 200


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8:1::7"])
def test_exempt_network_has_no_cap(sip, host):
    networks = ("192.0.2.0/24", "2001:db8:1::/48")
    sip.serve(answer, limits=Limits(transactions_per_source=1, exempt=networks))
    sources = Sources(Limits(exempt=networks))
    assert sources.is_exempt(host) and not sources.is_exempt("10.0.0.1")
    if ":" not in host:
        assert statuses(Peer(sip, host), 3, "OPTIONS") == [200] * 3
    assert statuses(Peer(sip, GREEDY), 2, "OPTIONS") == [200, 503]


def test_exempt_must_be_networks():
    with pytest.raises(InvalidValue, match="exempt must be networks"):
        Limits(exempt=("192.0.2.1/24",))
    with pytest.raises(TypeError):
        Limits(exempt="192.0.2.0/24")


# ---- the share rule


def test_source_alone_may_have_all_of_a_limit(sip, greedy):
    sip.serve(hold, limits=Limits(handlers=8))
    assert statuses(greedy, 9) == [180] * 8 + [503]


def test_last_quarter_of_handlers_is_for_sources_that_have_less(sip, greedy, other):
    stack = sip.serve(hold, limits=Limits(handlers=8))
    other.ask("OPTIONS")
    waiting = [greedy.ask("INVITE") for _ in range(7)]
    assert [status(greedy, each) for each in waiting] == [180] * 6 + [503]
    assert statuses(other, 2) == [180, 180]
    assert stack.stats()["refused"] == {"handlers_share": 1}
    assert statuses(other, 1) == [503]


def test_last_quarter_of_calls_is_for_sources_that_have_less(sip, greedy, other):
    stack = sip.serve(answer, limits=Limits(calls=8))
    other.ask("OPTIONS")
    calls = [call(greedy) for _ in range(7)]
    assert [response.status for _, response in calls] == [200] * 6 + [503]
    assert [call(other)[1].status for _ in range(2)] == [200, 200]
    assert stack.stats()["refused"] == {"calls_share": 1}
    assert hang_up(greedy, *calls[0]) == 200
    assert call(greedy)[1].status == 503  # seven are left, which is the last quarter
    third = Peer(sip, "10.0.0.52", answer=lambda request: 200)
    assert call(third)[1].status == 200


def test_last_quarter_of_transactions_is_for_sources_that_have_less(sip, greedy, other):
    sip.serve(answer, limits=Limits(transactions=8))
    other.ask("OPTIONS")
    assert statuses(greedy, 6, "OPTIONS") == [200] * 5 + [503]
    assert statuses(other, 1, "OPTIONS") == [200]
    sip.clock.advance(33)
    assert statuses(greedy, 1, "OPTIONS") == [200]


def test_last_quarter_of_forwarding_is_for_sources_that_have_less(sip, greedy, other):
    phone = Peer(sip, "10.0.0.61", answer=lambda request: 180)
    sip.serve(lambda request, tx: forward(request, tx, phone.uri), limits=Limits(forwarding=8))
    other.ask("INVITE")
    assert statuses(greedy, 6) == [180] * 5 + [503]
    assert statuses(other, 1) == [180]


def test_one_source_with_60_invites_a_second_costs_others_nothing(sip, greedy, other):
    """They are answered, and never acknowledged."""
    stack = sip.serve(answer, limits=Limits(calls=400, handlers=100))
    served = []
    made = call(other)
    assert hang_up(other, *made) == 200
    for _ in range(10):
        for _ in range(10):
            greedy.send(*[greedy.request("INVITE") for _ in range(6)])
            greedy.received.clear()
            sip.clock.advance(0.1)
        made = call(other)
        served.append((made[1].status, hang_up(other, *made)))
    assert served == [(200, 200)] * 10
    assert stack.stats()["refused"]["calls_share"] > 0
    assert stack.stats()["calls"] <= 300
    sip.clock.advance(100)
    assert stack.stats()["calls"] == 0


# ---- counting


def test_every_transaction_of_a_source_is_counted_until_it_ends(sip, greedy, other):
    stack = sip.serve(answer)
    for peer in (greedy, other):
        peer.ask("OPTIONS")
    assert stack.engine.sources.transactions == {GREEDY: 1, OTHER: 1}
    sip.clock.advance(33)
    assert stack.engine.sources.transactions == {GREEDY: 0, OTHER: 0}


def test_ever_new_sources_are_forgotten(sip):
    sources = Sources(Limits(sources=10))
    for number in range(1000):
        sources.begin(f"10.0.0.{number}")
        sources.transactions[f"10.0.0.{number}"] -= 1
    assert len(sources.transactions) <= 10


def test_ipv6_network_is_one_source():
    assert source_of("2001:db8::1") == source_of("2001:db8::2") == "2001:db8::/64"
