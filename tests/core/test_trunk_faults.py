"""Trunks whose carriers fail, answer late, or are not who they say they are."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import Account, Trunk
from sippet_gevent.transport.locate.resolver import StaticResolver
from tests.core.test_trunks import OFFICE, SDP, Carrier, dial, office, phone, trunk  # noqa: F401
from tests.core.wire import Peer


def by_address(host, user, **options):
    """A trunk without REGISTER."""
    return Trunk(Account(f"sip:{user}@{host}", register=False), **{"numbers": ("0",), **options})


def called(sip, user, phone, host, password):  # noqa: F811
    got = []

    def core(request, tx):
        got.append(user)
        return 486

    phone(user, host, password, core)
    return got


def registered(request):
    """Answer a REGISTER as a carrier without passwords."""
    if request.method == "REGISTER":
        return request.response(200, contact=str(request.contact[0]), expires=3600)
    return None


def dialled(sip, peer, number):
    """Call a number of the office, and return the final statuses."""
    seen = len(peer.responses)
    peer.ask("INVITE", f"sip:{number}@{OFFICE}", at=OFFICE, body=SDP, content_type="application/sdp")  # fmt: skip
    sip.clock.advance(0.4)
    return [each.status for each in peer.responses[seen:] if each.status >= 200]


@pytest.mark.parametrize("kind", ["by address", "registered"])
def test_number_called_chooses_among_trunks_of_one_carrier(sip, office, phone, kind):  # noqa: F811
    """The Request-URI and To have the number, and the user of no account."""
    make = by_address if kind == "by address" else trunk
    carrier = Peer(sip, "10.0.0.1", answer=registered)
    office(
        make("10.0.0.1", "100", incoming_numbers={"+4911": "alice"}),
        make("10.0.0.1", "200", incoming_numbers={"+4922": "bob"}),
    )
    alice = called(sip, "alice", phone, "10.0.0.60", "a")
    bob = called(sip, "bob", phone, "10.0.0.61", "b")
    assert dialled(sip, carrier, "+4922") == [486]
    assert (alice, bob) == ([], ["bob"])
    assert dialled(sip, carrier, "+4933")[:1] == [407]  # a number of nobody is not let in
    stranger = Peer(sip, "10.0.0.2")
    assert dialled(sip, stranger, "+4922")[:1] == [407]
    assert (alice, bob) == ([], ["bob"])


def test_trunks_of_one_account_share_its_incoming_calls(sip, office, phone):  # noqa: F811
    first = by_address("10.0.0.1", "100", numbers=("01",))
    second = Trunk(first.account, numbers=("02",), incoming="alice")
    stack = office(first)
    stack.core.core.trunks = (first, second)
    alice = called(sip, "alice", phone, "10.0.0.60", "a")
    assert dialled(sip, Peer(sip, "10.0.0.1"), "100") == [486]
    assert alice == ["alice"]


def test_invite_of_another_address_is_not_from_the_carrier(sip, office, phone):  # noqa: F811
    office(by_address("10.0.0.1", "100", incoming="alice"))
    alice = called(sip, "alice", phone, "10.0.0.60", "a")
    for port, host in ((5060, "10.0.0.2"), (5070, "10.0.0.1")):
        stranger = Peer(sip, host, port=port)
        stranger.ask("INVITE", f"sip:100@{OFFICE}", at=OFFICE, from_="<sip:+49@10.0.0.1>;tag=1")
        assert [each.status for each in stranger.responses] in ([407], [])
    assert alice == []


@pytest.mark.parametrize("late", [180, 200])
def test_carrier_that_answers_after_the_next_trunk_was_tried(sip, office, phone, late):  # noqa: F811
    slow = Peer(sip, "10.0.0.1", answer=lambda request: 180 if request.method == "INVITE" else 200)
    second = Carrier(sip, "10.0.0.2", user="200")
    office(by_address("10.0.0.1", "100", ring=5), trunk("10.0.0.2", "200"))
    alice = phone("alice", "10.0.0.60", "a")
    call = dial(sip, alice, "0123", seconds=8)
    assert slow.methods[:2] == ["INVITE", "CANCEL"]
    slow.answer = lambda request: 200
    invite = slow.last("INVITE")
    to = invite.to.with_params(tag="late")
    slow.reply(invite, late, to=to, contact=f"<{slow.uri}>", body=SDP if late == 200 else b"")
    sip.clock.advance(1)
    if late == 200:
        assert slow.methods[-2:] == ["ACK", "BYE"]
    assert not call.ended.is_set() and len(second.invites) == 1
    call.hangup()
    sip.clock.advance(1)
    assert len(second.ends) == 1
    if late == 180:
        slow.reply(invite, 487, to=to)
    sip.clock.advance(40)


def test_trunk_whose_name_is_unknown_makes_way_for_the_next(sip, office, phone):  # noqa: F811
    second = Carrier(sip, "10.0.0.2", user="200")
    stack = office(by_address("nowhere.example", "100"), trunk("10.0.0.2", "200"))
    stack.resolver = StaticResolver({})
    alice = phone("alice", "10.0.0.60", "a")
    dial(sip, alice, "0123").hangup()
    assert len(second.invites) == 1
    sip.clock.advance(1)


@pytest.mark.parametrize("seconds", [0, 0.4, 1, 4.9, 5, 5.1, 6, 9.9, 10, 10.1, 11])
def test_caller_that_hangs_up_at_any_moment_leaves_no_call(sip, office, phone, seconds):  # noqa: F811
    def ring(request):
        return {"INVITE": 180, "CANCEL": 200}.get(request.method)

    peers = [Peer(sip, f"10.0.0.{last}", answer=ring) for last in (1, 2)]
    stack = office(by_address("10.0.0.1", "100", ring=5), by_address("10.0.0.2", "200", ring=5))
    alice = phone("alice", "10.0.0.60", "a")
    calling = gevent.spawn(
        alice.invite, "sip:0123@office.example", next_hop=f"sip:{OFFICE}", body=SDP,
        credentials=alice.secret, from_=alice.aor, timeout=seconds or 0.001,
    )  # fmt: skip
    sip.clock.advance(seconds + 0.1)
    for peer in peers:
        for invite in [each for each in peer.requests if each.method == "INVITE"][:1]:
            peer.reply(invite, 487)
    sip.clock.advance(12)
    for peer in peers:
        for invite in [each for each in peer.requests if each.method == "INVITE"][:1]:
            peer.reply(invite, 487)
    sip.clock.advance(70)
    assert calling.ready()
    for peer in peers:
        invites = {each.call_id for each in peer.requests if each.method == "INVITE"}
        assert peer.methods.count("CANCEL") >= len(invites)
    assert len(stack.dialogs) == 0
