"""Hostile peers: whatever a peer answers and sends, each call of the user ends, and nothing is left.

`pytest -m slow` plays 10,000 seeds, and `SIPPET_SEEDS=500` so many of each kind instead of 30.
"""

from __future__ import annotations

import os
import random
import runpy
from pathlib import Path
from types import SimpleNamespace

import gevent
import pytest

from sippet_gevent import (
    BridgePolicy,
    Credentials,
    Reject,
    SIPError,
    TransactionTimeout,
    bridge,
    sdp,
)
from sippet_gevent.testing import Sip, leftovers

from ..wire import Peer, start
from .described import Placed
from .hostile import Hostile

SEEDS = int(os.environ.get("SIPPET_SEEDS", "30"))
MANY = 10_000
EXAMPLES = Path(__file__).parents[3] / "examples"
AUDIO = sdp.MediaStream("audio", 4000, (sdp.PCMU, sdp.PCMA))
CALLER, CALLEE = "10.0.0.50", "10.0.0.60"
BOB = f"sip:bob@{CALLEE}"
SERVED = "10.0.0.1"
AN_OFFER = bytes(sdp.initial_offer([AUDIO], address=CALLER))


class Played:
    """One network, a user agent of ours, and its hostile peers."""

    def __init__(self, seed):
        self.sip = Sip()
        self.sip.lossy(seed=seed, delay=0.01, jitter=0.02, duplicate=0.05)
        self.random = random.Random(seed)
        self.errors = []
        self.greenlets = []
        self.peers = []

    def peer(self, host, *victims):
        peer = Hostile(self.sip, host, self.random, victims)
        self.peers.append(peer)
        return peer

    def spawn(self, function, *arguments):
        """Run a script of the user, whose only errors are ours."""

        def run():
            try:
                function(*arguments)
            except SIPError as error:
                self.errors.append(error)

        greenlet = gevent.spawn(run)
        self.greenlets.append(greenlet)

    def act(self, call):
        """Do some things within a call."""
        for _ in range(self.random.randint(0, 4)):
            what = self.random.choice((
                call.hold, call.resume, lambda: call.send_digits("1"),
                lambda: call.reinvite(media=[AUDIO]), lambda: call.request("UPDATE"),
                lambda: call.transfer(BOB, timeout=5), lambda: call.request("INFO", body="x", content_type="text/plain"),
                lambda: call.wait(self.random.choice((0.1, 3.0, 100.0))), call.hangup,
            ))  # fmt: skip
            try:
                what()
            except SIPError as error:
                self.errors.append(error)

    def attack(self, peer, uri, host, calls=4):
        """Let a peer call, and attack what it knows, for half a minute."""
        for _ in range(calls):
            peer.later(self.random.uniform(0, 20), peer.call, uri, host)
        for _ in range(20):
            peer.later(self.random.uniform(0, 30), peer.attack)

    def finish(self):
        """Let the peers fall silent, let everything end, and see that nothing is left."""
        sip = self.sip
        sip.advance(120)
        for peer in self.peers:
            peer.stop()
        sip.advance(2000)  # a bridged call ends by its session timer
        ladder = sip.ladder()
        left = [text for stack in sip.stacks for text in leftovers(stack)]
        for stack in sip.stacks:
            stats = stack.stats()
            counts = {"dialogs": len(stack.dialogs), "early": stack.dialogs.early}
            counts.update(
                {name: stats.get(name, 0) for name in ("calls", "subscriptions", "core_errors")}
            )
            counts["deadlines"] = len(stack.engine._deadlines)
            left += [f"{name}: {value}" for name, value in counts.items() if value]
        left += [f"{each!r}" for each in self.greenlets if not each.ready()]
        failed = [repr(each.exception) for each in self.greenlets if each.exception is not None]
        sip.close()
        assert not left and not failed, f"left: {left} {failed}\n{ladder}"


def caller(it):
    """Our side places the call."""
    it.peer(CALLEE, BOB)
    options = {
        "timeout": it.random.choice((5.0, 100.0)),
        "follow_redirects": it.random.random() < 0.5,
    }
    if it.random.random() < 0.3:
        options["credentials"] = Credentials("bob", "secret")
    if it.random.random() < 0.8:
        options["media"] = [AUDIO]

    def user():
        with it.sip.client.invite(BOB, **options) as call:
            if call.offer is not None:
                call.answer(media=[AUDIO])
            it.act(call)
            call.wait(it.random.choice((0.0, 20.0)))

    for _ in range(3):
        it.spawn(user)


def callee(it):
    """Our side takes calls, and carries out transfers."""

    def core(request, tx):
        if it.random.random() < 0.5:
            tx.respond(183, media=[AUDIO], reliable=it.random.random() < 0.3)
            tx.wait(it.random.choice((0.0, 1.0, 5.0)))
        if it.random.random() < 0.1:
            return 486
        with tx.accept(media=[AUDIO]) as call:
            if it.random.random() < 0.4:
                it.act(call)
            for event in call.events(timeout=15):
                if event.referral is not None and it.random.random() < 0.7:
                    event.referral.follow(media=[AUDIO], timeout=10).hangup()
        return None

    server = it.sip.stack(host=SERVED)
    server.on("INVITE")(core)
    uri = f"sip:us@{SERVED}"
    it.attack(it.peer(CALLER, uri), uri, SERVED)


def b2bua(it):
    """A bridge between two hostile peers."""
    policy = BridgePolicy(refer=it.random.choice(("pass", "follow", "refuse")))

    def core(request, tx):
        bridge(
            request, tx, BOB, policy=policy, timeout=30, follow_redirects=it.random.random() < 0.3
        )

    server = it.sip.stack(host=SERVED)
    server.on("INVITE")(core)
    uri = f"sip:bob@{SERVED}"
    it.attack(it.peer(CALLER, uri, BOB), uri, SERVED)
    it.attack(it.peer(CALLEE, uri), uri, SERVED, calls=1)


COMMANDS = (
    "answer", "answer", "reject", "hold", "resume", "digits 12", "hangup", "transfer",
    f"transfer {BOB}", f"call {BOB}", f"call sip:x@{CALLER}",
)  # fmt: skip


def softphone(it):
    """examples/softphone.py, whose user presses everything."""
    module = SimpleNamespace(**runpy.run_path(str(EXAMPLES / "softphone.py")))
    module.Phone.__init__.__globals__["RINGING"] = 10
    stack = it.sip.stack(host=SERVED)
    phone = module.Phone(stack, lambda text: None)
    uri = f"sip:user@{SERVED}"
    it.attack(it.peer(CALLER, uri, BOB), uri, SERVED)
    it.attack(it.peer(CALLEE, uri), uri, SERVED, calls=2)

    def press():
        for _ in range(25):
            phone.do(it.random.choice(COMMANDS))
            it.sip.clock.sleep(it.random.choice((0.05, 0.5, 2.0)))
        phone.do("quit")

    it.spawn(press)


KINDS = {each.__name__: each for each in (caller, callee, b2bua, softphone)}


def play(kind, seeds):
    for seed in seeds:
        it = Played(seed)
        try:
            KINDS[kind](it)
            it.finish()
        except BaseException as error:
            raise AssertionError(f"{kind}, seed {seed}") from error


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_of_calls_with_a_hostile_peer(kind):
    play(kind, range(SEEDS))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_of_many_calls_with_a_hostile_peer(kind):
    play(kind, range(1000, 1000 + MANY // len(KINDS)))


# ---- loops, each with its bound


def growing(request, count):
    return request.response(422, min_se=str(1800 + 100 * count))


def pending(request, count):
    return 491


def moved(request, count):
    return request.response(302, contact=f"<sip:x{count}@{CALLEE}>")


def challenging(request, count):
    challenge = f'Digest realm="x", nonce="{count}", stale=true'
    return request.response(401, www_authenticate=challenge)


def looping(peer, method, answer):
    """Let a peer answer each request of a method in this way. Returns the list of those requests."""
    seen = []

    def answers(request):
        if request.method != method:
            return 200
        seen.append(request)
        return answer(request, len(seen))

    peer.answer = answers
    return seen


@pytest.mark.rfc("4028 7.3", "3261 8.1.3.4", "3261 14.1", "3261 22.3")
@pytest.mark.parametrize(
    ("answer", "options", "most", "status"),
    [
        (growing, {}, 16, 422),
        (pending, {}, 1, 491),
        (moved, {"follow_redirects": True}, 16, 302),
        (challenging, {"credentials": Credentials("bob", "secret")}, 16, 401),
    ],
    ids=["422", "491", "302", "401"],
)
def test_invite_that_is_refused_again_and_again_ends_with_the_last_refusal(
    sip, answer, options, most, status
):
    seen = looping(peer := Peer(sip, CALLEE), "INVITE", answer)
    refused = sip.run(refusal_of, sip.client.invite, BOB, body="offer", **options)
    assert refused.status == status
    assert 1 <= len(seen) <= most
    assert peer.methods.count("ACK") == len(seen)
    assert sip.client.dialogs.early == 0


def refusal_of(function, *arguments, **options):
    """Return the Reject that a function raises."""
    with pytest.raises(Reject) as caught:
        function(*arguments, **options)
    return caught.value


@pytest.mark.rfc("4028 7.3", "3261 14.1", "3311 5.1")
@pytest.mark.parametrize(("answer", "most"), [(growing, 16), (pending, 2)], ids=["422", "491"])
@pytest.mark.parametrize("change", ["reinvite", "hold"])
def test_change_that_is_refused_again_and_again_leaves_the_call(sip, change, answer, most):
    it = Placed(sip)
    seen = looping(it.peer, "INVITE", answer)
    act = it.call.hold if change == "hold" else lambda: it.call.reinvite(media=[AUDIO])
    assert sip.run(refusal_of, act).status in (422, 491)
    assert 1 <= len(seen) <= most
    assert not it.call.ended.is_set()
    it.call.hangup()


@pytest.mark.rfc("4028 7.4", "4028 10", "3261 14.1")
@pytest.mark.parametrize(("answer", "most"), [(growing, 8 * 16), (pending, 8)], ids=["422", "491"])
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_refresh_that_is_refused_again_and_again_ends_the_call_in_time(sip, method, answer, most):
    peer = Peer(sip, CALLEE)
    placing = start(sip, sip.client.invite, BOB, body="offer")
    peer.reply(
        peer.last("INVITE"), 200, contact=f"<{peer.uri}>", body="answer",
        content_type="application/sdp", require="timer", session_expires="1800;refresher=uac",
        allow="INVITE, ACK, BYE" + ", UPDATE" * (method == "UPDATE"),
    )  # fmt: skip
    call = placing.get()
    seen = looping(peer, method, answer)
    sip.advance(1801)
    assert call.end.cause == "expired"
    assert 2 <= len(seen) <= most
    assert peer.methods.count("BYE") == 1


@pytest.mark.rfc("3261 13.2.2.1")
def test_provisional_responses_without_end_end_with_the_timeout(sip):
    peer = Peer(sip, CALLEE)
    placing = start(sip, refusal_or_timeout, sip.client.invite, BOB, body="offer", timeout=120)
    for count in range(200):
        if placing.ready():
            break
        ringing = peer.requests[0].response(180, contact=f"<{peer.uri}>")
        ringing.to = ringing.to.with_params(tag=f"branch{count}")
        peer.reply(peer.requests[0], ringing)
        sip.advance(1)
    assert isinstance(placing.get(), TransactionTimeout)
    sip.advance(0.1)
    assert peer.methods[:2] == ["INVITE", "CANCEL"]
    peer.reply(peer.last("CANCEL"), 200)
    peer.reply(peer.requests[0], 487)
    sip.advance(40)
    assert sip.client.dialogs.early == 0


def refusal_or_timeout(function, *arguments, **options):
    try:
        return function(*arguments, **options)
    except SIPError as error:
        return error


@pytest.mark.rfc("3515 2.4.6")
def test_refer_to_the_sender_itself_does_not_loop(sip):
    """Each call that a transfer makes is transferred on, until the application has enough."""
    peer = Peer(sip, CALLER, lambda request: None)
    followed = []

    def core(request, tx):
        with tx.accept(media=[AUDIO]) as call:
            for event in call.events(timeout=10):
                if event.referral is not None and len(followed) < 50:
                    followed.append(event.referral)
                    with event.referral.follow(media=[AUDIO], timeout=5):
                        pass

    server = sip.serve(core)
    invite = peer.ask("INVITE", body=AN_OFFER, content_type="application/sdp")
    answered = peer.responses[-1]
    peer.send(peer.within(invite, answered, "ACK"))
    for number in range(2, 12):
        to = {"refer_to": f"<sip:us@{SERVED}>", "contact": f"<{peer.uri}>"}
        peer.send(peer.within(invite, answered, "REFER", number=number, **to))
        sip.advance(2)
    sip.advance(120)
    assert 1 <= len(followed) <= 10
    assert leftovers(server) == []
    assert len(server.dialogs) == server.dialogs.early == 0
