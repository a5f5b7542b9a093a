"""RFC 5359, service examples, as far as they need no media server."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import ResponseContext, forward

from .flow import ALICE, AUDIO, Flow, Flows, at, play

flows = Flows(5359)

AOR = "sip:alice@atlanta.example.com"
BOB = "sip:bob@biloxi.example.com"
CAROL = "sip:carol@chicago.example.com"

DIRECT = """
    Alice -> Bob: INVITE
    Bob -> Alice: 180
    Bob -> Alice: 200
    Alice -> Bob: ACK
"""

BY_PROXY = """
    Alice -> Proxy: INVITE
    Proxy -> Bob: INVITE
    Proxy -> Alice: 100
    Bob -> Proxy: 180
    Proxy -> Alice: 180
    Bob -> Proxy: 200
    Proxy -> Alice: 200
    Alice -> Proxy: ACK
    Proxy -> Bob: ACK
"""

BOB_REINVITES = """
    Bob -> Proxy: INVITE
    Proxy -> Alice: INVITE
    Alice -> Proxy: 200
    Proxy -> Bob: 200
    Bob -> Proxy: ACK
    Proxy -> Alice: ACK
"""

ALICE_LEAVES = """
    Alice -> Proxy: BYE
    Proxy -> Bob: BYE
    Bob -> Proxy: 200
    Proxy -> Alice: 200
"""


def by_proxy(flow: Flow, **others):
    """Alice and Bob talk, by a proxy that also knows these other phones."""
    alice, bob = flow.phone("Alice"), flow.phone("Bob")
    uris = {name: phone.uri for name, phone in others.items()}
    proxy = flow.proxy("Proxy", users={"bob": bob.uri, **uris})
    alice.invite(BOB, next_hop=at(proxy))
    flow.wait(2)
    return alice, bob, proxy


def direct(flow: Flow):
    """Alice and Bob talk, without a proxy."""
    alice, bob = flow.phone("Alice"), flow.phone("Bob")
    alice.invite(bob)
    flow.wait(2)
    return alice, bob


def ends(flow: Flow, *calls) -> None:
    """Hang up what the flow of the RFC leaves."""
    for call in calls:
        flow.go(call.hangup)
    flow.wait(1)


def does(flow: Flow, function, *arguments, **options):
    """Do something in a call, successfully."""
    done = flow.go(function, *arguments, **options)
    flow.wait(1)
    return done.get(block=False)


@flows("2.1", "call hold", BY_PROXY + BOB_REINVITES * 2 + ALICE_LEAVES)
def hold(flow):
    alice, bob, _ = by_proxy(flow)
    does(flow, bob.call.hold)
    assert alice.call.local_sdp.media[0].direction == "recvonly"
    does(flow, bob.call.resume)
    assert alice.call.local_sdp.media[0].direction == "sendrecv"
    alice.do("hangup")
    flow.wait(1)


@flows(
    "2.2",
    "consultation hold",
    BY_PROXY
    + BOB_REINVITES
    + BY_PROXY.replace("Bob", "Carol").replace("Alice", "Bob")
    + ALICE_LEAVES.replace("Bob", "Carol").replace("Alice", "Bob")
    + BOB_REINVITES
    + ALICE_LEAVES,
)
def consultation(flow):
    carol = flow.phone("Carol")
    alice, bob, proxy = by_proxy(flow, carol=carol)
    first = bob.call
    does(flow, first.hold)
    bob.invite(CAROL, next_hop=at(proxy))
    flow.wait(2)
    does(flow, bob.call.hangup)
    does(flow, first.resume)
    alice.do("hangup")
    flow.wait(1)


@flows(
    "2.5",
    "attended transfer",
    DIRECT
    + """
    Bob -> Alice: INVITE/200/ACK
    Bob -> Carol: INVITE
    Carol -> Bob: 180
    Carol -> Bob: 200
    Bob -> Carol: ACK
    Bob -> Carol: INVITE/200/ACK
    Bob -> Alice: REFER
    Alice -> Bob: 202
    Alice -> Bob: NOTIFY/200
    Alice -> Carol: INVITE
    Carol -> Alice: 200 (INVITE)
    Carol -> Bob: BYE
    Alice -> Carol: ACK
    Alice -> Bob: NOTIFY
    Bob -> Carol: 200 (BYE)
    Bob -> Alice: 200 (NOTIFY)
    Bob -> Alice: BYE/200
    """,
)
def attended_transfer(flow):
    alice, bob = direct(flow)
    alice._follows = 60
    carol = flow.phone("Carol")
    first = bob.call
    does(flow, first.hold)
    bob.invite(carol)
    flow.wait(2)
    does(flow, bob.call.hold)
    carol.rings = 0
    flow.go(first.transfer, bob.call)
    flow.wait(2)
    flow.go(first.hangup)
    flow.wait(1)
    yield
    ends(flow, carol.call)


@flows(
    "2.6",
    "transfer by an instant message",
    DIRECT
    + """
    Bob -> Carol: MESSAGE/200
    Carol -> Alice: INVITE
    Alice -> Carol: 200 (INVITE)
    Alice -> Bob: BYE
    Carol -> Alice: ACK
    Bob -> Alice: 200 (BYE)
    """,
)
def transfer_by_message(flow):
    # the BYE leaves with the 200 (RFC 3891 §3); the RFC draws it after the ACK
    alice, bob = direct(flow)
    carol = flow.phone("Carol", core=lambda request, tx: messages.append(request) or 200)
    messages = []
    dialog = bob.call.dialog
    replaces = f"{dialog.call_id};to-tag={dialog.remote.tag};from-tag={dialog.local.tag}"
    does(
        flow, bob.stack.request, "MESSAGE", carol.uri, content_type="text/plain",
        body=f"{dialog.remote_target} {replaces}",
    )  # fmt: skip
    uri, _, named = messages[0].body.decode().partition(" ")
    alice.rings = 0
    carol.invite(uri, replaces=named, require="replaces")
    flow.wait(1)
    assert bob.call.ended.is_set()
    yield
    ends(flow, carol.call)


FORWARDED = """
    Proxy -> Alice: 181
    Proxy -> Carol: INVITE
    Carol -> Proxy: 180
    Proxy -> Alice: 180
    Carol -> Proxy: 200
    Proxy -> Alice: 200
    Alice -> Proxy: ACK
    Proxy -> Carol: ACK
    Alice -> Proxy: BYE
    Proxy -> Carol: BYE
    Carol -> Proxy: 200
    Proxy -> Alice: 200
"""


def one_after_the_other(*targets, told: int = 0):
    """Return the core of a proxy that tries targets, each for its seconds, until one accepts."""

    def core(request, tx):
        if tx.take_route() and not tx.stack.is_local(request.uri):
            return forward(request, tx)
        tx.respond(100)
        with ResponseContext(tx, record_route=True) as context:
            for place, (uri, seconds) in enumerate(targets):
                if place and told:
                    tx.respond(told)
                context.fork(uri)
                timer = tx.stack.clock.timeout(seconds) if seconds else None
                try:
                    for response in context:
                        if response.status < 300:
                            context.forward(response)
                except gevent.Timeout as expired:
                    if expired is not timer:
                        raise
                    context.cancel()
                    for response in context:
                        if response.status < 300:
                            context.forward(response)
                finally:
                    if timer is not None:
                        timer.close()
                if tx.answered:
                    return None
            context.forward(context.best())
        return None

    return core


@flows(
    "2.7",
    "call forwarding unconditional",
    """
    Alice -> Proxy: INVITE
    Proxy -> Alice: 100
    """
    + FORWARDED,
)
def forwarded(flow):
    alice, carol = flow.phone("Alice"), flow.phone("Carol")

    def core(request, tx):
        if tx.take_route() and not tx.stack.is_local(request.uri):
            return forward(request, tx)
        tx.respond(100)
        tx.respond(181)
        return forward(request, tx, carol.uri, record_route=True)

    alice.invite(BOB, next_hop=at(flow.stack("Proxy", core)))
    flow.wait(2)
    alice.do("hangup")
    flow.wait(1)


@flows(
    "2.8",
    "call forwarding, busy",
    """
    Alice -> Proxy: INVITE
    Proxy -> Bob: INVITE
    Proxy -> Alice: 100
    Bob -> Proxy: 486
    Proxy -> Bob: ACK
    """
    + FORWARDED,
)
def forwarded_when_busy(flow):
    alice, carol = flow.phone("Alice"), flow.phone("Carol")
    bob = flow.phone("Bob", rings=0, answer=486)
    core = one_after_the_other((bob.uri, 0), (carol.uri, 0), told=181)
    alice.invite(BOB, next_hop=at(flow.stack("Proxy", core)))
    flow.wait(3)
    alice.do("hangup")
    flow.wait(1)


UNANSWERED = """
    Alice -> Proxy: INVITE
    Proxy -> Bob: INVITE
    Proxy -> Alice: 100
    Bob -> Proxy: 180
    Proxy -> Alice: 180
    Proxy -> Bob: CANCEL
    Bob -> Proxy: 200
    Bob -> Proxy: 487
    Proxy -> Bob: ACK
"""


@flows("2.9", "call forwarding, no answer", UNANSWERED + FORWARDED)
def forwarded_when_unanswered(flow):
    alice, carol = flow.phone("Alice"), flow.phone("Carol")
    bob = flow.phone("Bob", answer=None)
    core = one_after_the_other((bob.uri, 5), (carol.uri, 0), told=181)
    alice.invite(BOB, next_hop=at(flow.stack("Proxy", core)))
    flow.wait(9)
    alice.do("hangup")
    flow.wait(1)


@flows(
    "2.10",
    "three-way conference, a third party is added",
    DIRECT
    + """
    Bob -> Alice: INVITE/200/ACK
    Bob -> Carol: INVITE
    Carol -> Bob: 180
    Carol -> Bob: 200
    Bob -> Carol: ACK
    """,
)
def third_party_added(flow):
    alice, bob = direct(flow)
    carol = flow.phone("Carol")
    focus = f"<sip:bob-conf@{bob.host}>;isfocus"
    first = bob.call
    does(flow, first.reinvite, contact=focus)
    bob.invite(carol, contact=focus)
    flow.wait(2)
    assert "isfocus" in str(carol.invites[0].contact[0])
    yield
    ends(flow, bob.call, first)


@flows(
    "2.11",
    "three-way conference, a third party joins",
    DIRECT
    + """
    Carol -> Bob: INVITE
    Bob -> Carol: 180
    Bob -> Alice: INVITE/200/ACK
    Bob -> Carol: 200
    Carol -> Bob: ACK
    """,
)
def third_party_joins(flow):
    alice = flow.phone("Alice")
    bob = flow.phone("Bob", may_replace=lambda request, call: request.join is not None)
    alice.invite(bob)
    flow.wait(2)
    first, carol = bob.call, flow.phone("Carol")

    def join(request, tx):
        joined = tx.stack.find_call(request.join)
        assert joined is first
        joined.reinvite(contact=f"<sip:bob-conf@{bob.host}>;isfocus")
        tx.wait(0.1)
        bob.calls.append(tx.accept(media=[AUDIO], contact=f"<sip:bob-conf@{bob.host}>;isfocus"))

    bob.rings, bob.answers = 0.3, join
    dialog = alice.call.dialog
    carol.invite(
        bob, join=f"{dialog.call_id};to-tag={dialog.remote.tag};from-tag={dialog.local.tag}"
    )
    flow.wait(2)
    assert not first.ended.is_set() and len(bob.calls) == 2
    yield
    ends(flow, *bob.calls)


@flows(
    "2.12",
    "find-me",
    UNANSWERED
    + """
    Proxy -> Desk: INVITE/480/ACK
    Proxy -> Car: INVITE/486/ACK
    Proxy -> Home: INVITE
    Home -> Proxy: 180
    Proxy -> Alice: 180
    Home -> Proxy: 200
    Proxy -> Alice: 200
    Alice -> Proxy: ACK
    Proxy -> Home: ACK
    Home -> Proxy: BYE
    Proxy -> Alice: BYE
    Alice -> Proxy: 200
    Proxy -> Home: 200
    """,
)
def find_me(flow):
    alice, bob = flow.phone("Alice"), flow.phone("Bob", answer=None)
    desk, car = (
        flow.phone(name, rings=0, answer=status) for name, status in (("Desk", 480), ("Car", 486))
    )
    home = flow.phone("Home")
    core = one_after_the_other((bob.uri, 5), (desk.uri, 0), (car.uri, 0), (home.uri, 0))
    alice.invite(BOB, next_hop=at(flow.stack("Proxy", core)))
    flow.wait(9)
    home.do("hangup")
    flow.wait(1)


@flows(
    "2.13",
    "incoming call screening",
    """
    Alice -> Bob: INVITE/305/ACK
    Alice -> Proxy: INVITE/407/ACK
    Alice -> Proxy: INVITE/403/ACK
    Alice -> Announcement: INVITE/200/ACK
    Announcement -> Alice: BYE/200
    """,
)
def screened(flow):
    server = flow.phone("Announcement", rings=0)  # of which only the signalling is here
    proxy = flow.proxy("Proxy", asks="biloxi.example.com")
    proxy.core.core = lambda request, tx: request.response(403, error_info=f"<{server.uri}>")
    alice = flow.phone("Alice")
    bob = flow.phone(
        "Bob", rings=0, answer=lambda request, tx: request.response(305, contact=f"<{at(proxy)}>")
    )
    refused = alice.invite(bob)
    flow.wait(1)
    assert refused.exception.status == 305
    (use,) = refused.exception.response.contact
    refused = alice.invite(bob, next_hop=str(use.uri), from_=f"<{AOR}>", credentials=ALICE)
    flow.wait(1)
    assert refused.exception.status == 403
    (announcement,) = refused.exception.response.error_info
    alice.invite(str(announcement.uri))
    flow.wait(1)
    server.do("hangup")
    flow.wait(1)


@flows(
    "2.14",
    "outgoing call screening",
    """
    Alice -> Proxy: INVITE/407/ACK
    Alice -> Proxy: INVITE/403/ACK
    """,
)
def outgoing_screened(flow):
    alice = flow.phone("Alice")
    proxy = flow.proxy("Proxy", asks="atlanta.example.com")
    proxy.core.core = lambda request, tx: 403
    refused = alice.invite(BOB, next_hop=at(proxy), from_=f"<{AOR}>", credentials=ALICE)
    flow.wait(1)
    assert refused.exception.status == 403


@flows(
    "2.4",
    "unattended transfer",
    """
    Bob -> Alice: INVITE
    Alice -> Bob: 180
    Alice -> Bob: 200
    Bob -> Alice: ACK
    Alice -> Bob: REFER
    Bob -> Alice: 202
    Bob -> Alice: NOTIFY/200
    Alice -> Bob: BYE/200
    Bob -> Carol: INVITE
    Carol -> Bob: 180
    Bob -> Alice: NOTIFY/200
    Carol -> Bob: 200
    Bob -> Carol: ACK
    Bob -> Alice: NOTIFY
    Alice -> Bob: 200
    """,
)
def unattended_transfer(flow):
    # the RFC draws no NOTIFY for the 180; RFC 3515 §2.4.5 leaves it to the transferee
    alice, bob, carol = (flow.phone(name) for name in ("Alice", "Bob", "Carol"))
    bob._follows = 60
    bob.invite(alice)
    flow.wait(2)
    first = alice.call
    told = []
    asked = flow.go(first.transfer, carol.uri, on_progress=lambda line: told.append(line.status))
    flow.wait(0.15)
    flow.go(first.hangup)
    flow.wait(3)
    # the subscription outlives the call, so Alice hears how the transfer goes on
    assert told == [100, 180, 200] and asked.successful()
    yield
    ends(flow, carol.call)


def subscribed(notifiers, event):
    """Return a core for SUBSCRIBE that tells a state, and keeps its notifiers."""

    def core(request, tx):
        if request.method != "SUBSCRIBE":
            return 501
        notifiers.append(tx.accept_subscription(event, body=b"<dialog-info/>"))
        return None

    return core


@flows(
    "2.15",
    "call park",
    DIRECT
    + """
    Bob -> Park: REFER
    Park -> Bob: 202
    Park -> Bob: NOTIFY/200
    Park -> Alice: INVITE
    Alice -> Park: 200 (INVITE)
    Alice -> Bob: BYE
    Park -> Alice: ACK
    Park -> Bob: NOTIFY
    Bob -> Alice: 200 (BYE)
    Bob -> Park: 200 (NOTIFY)
    Carol -> Park: SUBSCRIBE
    Park -> Carol: 200
    Park -> Carol: NOTIFY/200
    Carol -> Alice: INVITE
    Alice -> Carol: 200 (INVITE)
    Alice -> Park: BYE
    Carol -> Alice: ACK
    Park -> Alice: 200 (BYE)
    """,
)
def park(flow):
    alice, bob = direct(flow)
    alice.rings = 0
    notifiers = []
    server = flow.phone("Park", follows=60, core=subscribed(notifiers, "dialog"))
    carol = flow.phone("Carol")
    parked = flow.go(bob.stack.refer, server.uri, bob.call)
    flow.wait(2)
    assert parked.successful() and bob.call.end.by == "peer"
    subscription = does(flow, carol.stack.subscribe, server.uri, event="dialog")
    dialog = server.call.dialog
    named = f"{dialog.call_id};to-tag={dialog.remote.tag};from-tag={dialog.local.tag}"
    carol.invite(alice.uri, replaces=named, require="replaces")
    flow.wait(1)
    assert server.call.ended.is_set()
    yield
    ends(flow, carol.call)
    does(flow, subscription.unsubscribe)


@flows(
    "2.16",
    "call pickup",
    """
    Alice -> Bob: INVITE
    Bob -> Alice: 180
    Bill -> Bob: SUBSCRIBE
    Bob -> Bill: 200
    Bob -> Bill: NOTIFY/200
    Bill -> Alice: INVITE
    Alice -> Bill: 200 (INVITE)
    Alice -> Bob: CANCEL
    Bob -> Alice: 200 (CANCEL)
    Bob -> Alice: 487 (INVITE)
    Bill -> Alice: ACK
    Alice -> Bob: ACK
    Alice -> Bill: BYE/200
    """,
)
def pickup(flow):
    notifiers = []
    alice = flow.phone("Alice", rings=0)
    bob = flow.phone("Bob", answer=None, core=subscribed(notifiers, "dialog"))
    bill = flow.phone("Bill")
    placing = alice.invite(bob)
    flow.wait(0.5)
    subscription = flow.go(bill.stack.subscribe, bob.uri, event="dialog")
    flow.wait(0.5)
    (early,) = bob.stack.dialogs._calls.values()
    named = (
        f"{early.dialog.call_id};to-tag={early.dialog.remote.tag};from-tag={early.dialog.local.tag}"
    )
    bill.invite(alice.uri, replaces=named, require="replaces")
    flow.wait(1)
    assert placing.ready() and not placing.successful()
    flow.go(alice.call.hangup)
    flow.wait(1)
    yield
    does(flow, subscription.value.unsubscribe)


@flows(
    "2.17",
    "automatic redial",
    """
    Alice -> Bob: INVITE/486/ACK
    Alice -> Bob: SUBSCRIBE
    Bob -> Alice: 200
    Bob -> Alice: NOTIFY/200
    Bob -> Alice: NOTIFY/200
    Alice -> Bob: INVITE
    Bob -> Alice: 180
    Bob -> Alice: 200
    Alice -> Bob: ACK
    Bob -> Alice: NOTIFY/200
    Alice -> Bob: SUBSCRIBE
    Bob -> Alice: 200
    Bob -> Alice: NOTIFY
    Alice -> Bob: 200
    """,
)
def redial(flow):
    notifiers = []
    alice = flow.phone("Alice")
    bob = flow.phone("Bob", rings=0, answer=486, core=subscribed(notifiers, "dialog"))
    alice.invite(bob)
    flow.wait(1)
    subscription = does(flow, alice.stack.subscribe, bob.uri, event="dialog")
    bob.rings, bob.answers = 1, 200
    notifiers[0].notify(b"<dialog-info><!-- available --></dialog-info>")
    flow.wait(1)
    alice.invite(bob)
    flow.wait(2)
    notifiers[0].notify(b"<dialog-info><!-- in a call --></dialog-info>")
    flow.wait(1)
    does(flow, subscription.unsubscribe)
    yield
    ends(flow, alice.call)


@flows(
    "2.18",
    "click to dial",
    """
    Computer -> Phone: REFER/202
    Phone -> Carol: INVITE
    Carol -> Phone: 180
    Carol -> Phone: 200
    Phone -> Carol: ACK
    """,
)
def click_to_dial(flow):
    computer, carol = flow.phone("Computer"), flow.phone("Carol")
    phone = flow.phone("Phone", follows=60)
    clicked = flow.go(computer.stack.refer, phone.uri, carol.uri, subscribe=False)
    flow.wait(3)
    assert clicked.successful()
    yield
    ends(flow, carol.call)


NOT_PLAYED = {
    "2.3": "music on hold comes from a media server",
}
"""Flows that are not played, and what they need."""


def test_each_flow_is_played_or_has_a_reason():
    assert flows.sections() | set(NOT_PLAYED) == {f"2.{number}" for number in range(1, 19)}


@pytest.mark.parametrize(("arrows", "script"), flows.parameters())
def test_flow(sip, arrows, script):
    play(sip, arrows, script)
