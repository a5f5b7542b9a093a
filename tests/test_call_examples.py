"""The examples that place and answer calls, on a network that loses messages: many calls at the same time, with hold, digits and
transfer, and a hang-up at every point. LOAD=2000 plays 2,000 calls of each."""

from __future__ import annotations

import os
import random
import runpy
from pathlib import Path
from types import SimpleNamespace

import gevent
import pytest

from sippet_gevent import SIPError, sdp
from sippet_gevent.testing import Sip

EXAMPLES = Path(__file__).parent.parent / "examples"

LOAD = int(os.environ.get("LOAD", "0"))
CALLS = LOAD or 60
LONG = pytest.mark.timeout(3600 if LOAD else 60)
AUDIO = sdp.MediaStream("audio", 4000, (sdp.PCMU, sdp.PCMA))


def example(name):
    """Return what an example defines."""
    return SimpleNamespace(**runpy.run_path(str(EXAMPLES / name)))


def uri_of(stack, user):
    return f"sip:{user}@{stack.addresses[0].removeprefix('udp:')}"


def nonblank(name):
    return sum(bool(line.strip()) for line in (EXAMPLES / name).read_text().splitlines())


def test_examples_are_short():
    assert nonblank("ivr.py") <= 40
    assert nonblank("click_to_call.py") <= 50


class Desk:
    """A phone that rings, answers, refuses or never answers, and may be the one that hangs up."""

    def __init__(self, sip, seed=1, **options):
        self.random = random.Random(seed)
        self.talk = (5.0, 60.0)
        self.refuses = True
        self.answered = []
        self.stack = sip.stack(**options)
        self.stack.on("INVITE")(self.ring)

    def ring(self, request, tx):
        choice = self.random.random() if self.refuses else 1.0
        tx.respond(180)
        tx.wait(self.random.uniform(0, 3))
        if choice < 0.1:
            return 486
        if choice < 0.15:
            tx.wait(200)
        with tx.accept(media=[AUDIO]) as call:
            self.answered.append(call)
            if self.random.random() < 0.3:
                for act in (call.hold, call.resume):
                    try:
                        act()
                    except SIPError:
                        return None
            call.wait(self.random.uniform(*self.talk))


def calls_of(*stacks):
    return [stack.stats()["calls"] for stack in stacks]


def play(sip, script, calls=CALLS):
    """Run a script for each of many callers, which begin within ten seconds."""

    def later(number):
        rng = random.Random(number)
        sip.clock.sleep(rng.uniform(0, 10))
        sip.clock.within(rng.uniform(0, 40), lambda: script(rng))

    callers = [gevent.spawn(later, number) for number in range(calls)]
    sip.run(gevent.joinall, callers, raise_error=True)


# ---- interactive voice response


class Menu:
    """examples/ivr.py with its departments."""

    def __init__(self, sip: Sip):
        self.example = example("ivr.py")
        self.stack = sip.serve(self.example.stack)
        self.sales, self.support = Desk(sip), Desk(sip, 2)
        self.example.MENU.update({
            "1": uri_of(self.sales.stack, "sales"),
            "2": uri_of(self.support.stack, "support"),
        })  # fmt: skip
        self.uri = uri_of(self.stack, "ivr")


def ivr_caller(sip, menu, outcomes):
    def script(rng):
        try:
            with sip.client.invite(menu.uri, media=[AUDIO]) as call:
                if rng.random() < 0.3:
                    call.hold()
                    sip.clock.sleep(rng.uniform(0, 2))
                    call.resume()
                for digit in rng.choice(["1", "2", "#", "351", "9", "12"]):
                    call.send_digits(digit)
                for event in call.events(timeout=30):
                    if event.referral is not None:
                        with event.referral.follow(media=[AUDIO]) as new:
                            call.hangup()
                            new.wait(rng.uniform(0, 10))
                outcomes.append(str(call.end))
        except SIPError as error:
            outcomes.append(type(error).__name__)

    return script


@LONG
@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_ivr_callers_hang_up_at_every_point(sip, loss):
    menu, outcomes = Menu(sip), []
    sip.lossy(loss=loss, seed=3)
    play(sip, ivr_caller(sip, menu, outcomes))
    sip.advance(120)
    assert calls_of(menu.stack, sip.client, menu.sales.stack, menu.support.stack) == [0] * 4
    assert menu.sales.answered and menu.support.answered
    assert any("bye by peer" in outcome for outcome in outcomes)


def call_menu(sip, menu, **options):
    return sip.run(sip.client.invite, menu.uri, media=[AUDIO], **options)


@pytest.mark.rfc("5589 6.1")
def test_ivr_transfers_to_the_department_of_the_digit(sip):
    menu = Menu(sip)
    menu.support.refuses = False
    menu.support.talk = (5.0, 6.0)
    call = call_menu(sip, menu)

    def follow():
        for event in call.events(timeout=30):
            if event.referral is not None:
                return event.referral.follow(media=[AUDIO], timeout=30)

    following = gevent.spawn(follow)
    sip.run(call.send_digits, "2")
    new = sip.run(following.get)
    sip.settle()
    assert (str(call.end), new.ended.is_set()) == ("bye by peer", False)
    assert str(new.dialog.remote_target) == uri_of(menu.support.stack, "x").replace("x@", "")
    new.hangup()


@pytest.mark.parametrize("kind", ["application/dtmf-relay", "application/dtmf"])
def test_ivr_reads_digits_of_both_kinds(sip, kind):
    menu = Menu(sip)
    call = call_menu(sip, menu)
    body = "Signal=#\r\nDuration=160\r\n" if kind.endswith("relay") else "#"
    assert sip.run(call.request, "INFO", body=body, content_type=kind).status == 200
    sip.settle()
    assert str(call.end) == "bye by peer"


def test_ivr_menu_goes_on_after_a_transfer_that_fails(sip):
    menu = Menu(sip)
    call = call_menu(sip, menu, handlers={"REFER": lambda request, tx: 603})
    sip.run(call.send_digits, "1")
    sip.advance(5)
    assert not call.ended.is_set()
    sip.run(call.send_digits, "#")
    sip.settle()
    assert str(call.end) == "bye by peer"


@pytest.mark.rfc("4028 10")
def test_ivr_call_whose_caller_is_gone_ends_by_its_session_timer(sip, caplog):
    caplog.set_level("INFO")
    menu = Menu(sip)
    menu.example.answer.__globals__["QUIET"] = 7200
    asked = sip.ask(menu.stack, f"INVITE {menu.uri}", session_expires="1800;refresher=uas")
    sip.advance(2)
    assert asked.response.session_expires.seconds == 600
    sip.lossy(loss=1.0)
    sip.advance(601 + 33)
    assert calls_of(menu.stack) == [0]
    assert "expired" in caplog.text or "timeout" in caplog.text
    sip.advance(700)


@pytest.mark.parametrize("tenths", range(0, 80, 2))
def test_ivr_caller_hangs_up_after_tenths_of_a_second(sip, tenths):
    menu = Menu(sip)
    sip.lossy(delay=0.05)

    def script():
        with sip.client.invite(menu.uri, media=[AUDIO]) as call:
            call.hold()
            call.send_digits("3")
            call.resume()
            call.send_digits("1")
            for event in call.events(timeout=30):
                if event.referral is not None:
                    event.referral.follow(media=[AUDIO]).hangup()

    def quietly():
        try:
            sip.clock.within(tenths / 10, script)
        except SIPError:
            pass  # sales is busy

    sip.run(quietly)
    sip.advance(90)
    assert calls_of(menu.stack, sip.client) == [0, 0]


# ---- click to call


@pytest.fixture
def clicked(sip, monkeypatch):
    """examples/click_to_call.py, and two phones."""
    monkeypatch.setenv("PAGE", "127.0.0.1:0")
    made = example("click_to_call.py")
    sip.serve(made.stack)
    made.a, made.b = Desk(sip), Desk(sip, 2)
    yield made
    made.server.stop()


@pytest.mark.rfc("3725 4.4")
def test_click_connects_two_phones(sip, clicked):
    for desk in (clicked.a, clicked.b):
        desk.refuses, desk.talk = False, (20.0, 30.0)
    a, b = uri_of(clicked.a.stack, "a"), uri_of(clicked.b.stack, "b")
    connecting = gevent.spawn(clicked.connect, a, b)
    sip.advance(8)
    assert clicked.calls == {(a, b): "connected"}
    [first], [second] = clicked.a.answered, clicked.b.answered
    assert "10.0.0.3" in first.remote_body.decode() or "10.0.0.4" in first.remote_body.decode()
    assert first.remote_sdp.media[0].port == second.remote_sdp.media[0].port == 4000
    second.hangup()
    sip.run(connecting.join)
    sip.settle()
    assert first.ended.is_set()
    assert clicked.calls[a, b].startswith("ended: bye by ")


@pytest.mark.rfc("3261 9.1")
def test_click_stops_the_second_phone_when_the_first_hangs_up(sip, clicked):
    for desk in (clicked.a, clicked.b):
        desk.refuses, desk.talk = False, (20.0, 30.0)
    ringing = sip.stack()
    heard = []

    @ringing.on("INVITE")
    def ring(request, tx):
        tx.respond(180)
        try:
            tx.wait(25)
        except BaseException as error:
            heard.append((type(error).__name__, sip.clock.now()))
            raise

    a, b = uri_of(clicked.a.stack, "a"), uri_of(ringing, "b")
    connecting = gevent.spawn(clicked.connect, a, b)
    sip.advance(5)
    assert clicked.calls == {(a, b): "the second phone rings"}
    [first] = clicked.a.answered
    first.hangup()
    sip.run(connecting.join)
    assert [name for name, _ in heard] == ["Cancelled"]
    assert clicked.calls[a, b] == "not connected: 487 Request Terminated"


def test_click_tells_why_phones_are_not_connected(sip, clicked):
    busy = sip.stack(core=lambda request, tx: 486)
    b = uri_of(busy, "b")
    clicked.a.refuses = False
    a = uri_of(clicked.a.stack, "a")
    for pair in ((a, b), (b, a), ("", b), ("mailto:x", b), (a, "")):
        sip.run(clicked.connect, *pair)
        assert clicked.calls[pair].startswith("not connected: "), pair
    sip.settle()
    assert calls_of(clicked.stack, clicked.a.stack) == [0, 0]


@LONG
@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_clicked_phones_hang_up_at_every_point(sip, clicked, loss):
    sip.lossy(loss=loss, seed=5)
    clicked.a.talk = clicked.b.talk = (0.0, 30.0)
    a, b = uri_of(clicked.a.stack, "a"), uri_of(clicked.b.stack, "b")
    play(sip, lambda rng: clicked.connect(a, b))
    sip.advance(200)
    assert calls_of(clicked.stack, clicked.a.stack, clicked.b.stack) == [0] * 3
    assert clicked.a.answered and clicked.b.answered


# ---- B2BUA


class Gateway:
    """examples/b2bua.py, and the phone that it calls."""

    def __init__(self, sip: Sip):
        self.phone = Desk(sip)
        host, _, port = self.phone.stack.addresses[0].removeprefix("udp:").rpartition(":")
        made = example("b2bua.py")
        made.b2bua.__globals__.update(GATEWAY=host, PORT=int(port))
        self.stack = sip.serve(made.stack)
        self.uri = uri_of(self.stack, "bob")


def gateway_caller(sip, gateway, outcomes):
    def script(rng):
        try:
            with sip.client.invite(gateway.uri, media=[AUDIO]) as call:
                if rng.random() < 0.4:
                    call.hold()
                    sip.clock.sleep(rng.uniform(0, 2))
                    call.resume()
                for digit in rng.choice(["1", "12", ""]):
                    call.send_digits(digit)
                if rng.random() < 0.2:
                    call.reinvite(media=[AUDIO])
                call.wait(rng.uniform(0, 30))
            outcomes.append(str(call.end))
        except SIPError as error:
            outcomes.append(type(error).__name__)

    return script


@LONG
@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_callers_through_the_b2bua_hang_up_at_every_point(sip, loss):
    gateway, outcomes = Gateway(sip), []
    sip.lossy(loss=loss, seed=11)
    play(sip, gateway_caller(sip, gateway, outcomes))
    sip.advance(300)
    stacks = gateway.stack, sip.client, gateway.phone.stack
    assert calls_of(*stacks) == [0] * 3
    assert [(len(each.dialogs), each.dialogs.early) for each in stacks] == [(0, 0)] * 3
    assert gateway.stack.stats()["core_errors"] == 0
    assert gateway.phone.answered
    assert "Reject" in outcomes
    assert {"bye by us", "bye by peer"} & set(outcomes)


@pytest.mark.parametrize("tenths", range(0, 60, 4))
def test_caller_through_the_b2bua_hangs_up_after_tenths_of_a_second(sip, tenths):
    gateway = Gateway(sip)
    gateway.phone.refuses = False
    sip.lossy(delay=0.05)

    def script():
        with sip.client.invite(gateway.uri, media=[AUDIO]) as call:
            call.hold()
            call.send_digits("3")
            call.resume()
            call.wait(20)

    def quietly():
        try:
            sip.clock.within(tenths / 10, script)
        except SIPError:
            pass  # the phone holds at the same time

    sip.run(quietly)
    sip.advance(120)
    assert calls_of(gateway.stack, sip.client, gateway.phone.stack) == [0] * 3


# ---- soft phone


class User:
    """A soft phone of the example, and what it has told its user."""

    def __init__(self, sip, module, stack=None):
        self.said = []
        self.sip = sip
        self.stack = stack or sip.stack()
        self.phone = module.Phone(self.stack, self.said.append)
        self.uri = uri_of(self.stack, "user")

    def type(self, line):
        self.sip.run(self.phone.do, line)
        self.sip.settle()
        return self.said[-1] if self.said else ""


@pytest.fixture
def users(sip):
    module = example("softphone.py")
    return [User(sip, module) for _ in range(3)]


def connect(sip, caller, callee):
    caller.type(f"call {callee.uri}")
    sip.advance(1)
    callee.type("answer")
    sip.advance(1)


def test_softphone_calls_answers_holds_and_hangs_up(sip, users):
    alice, bob, _ = users
    connect(sip, alice, bob)
    assert alice.said == ["180 Ringing", "connected to sip:user@10.0.0.3"]
    assert bob.said[0].endswith("calls: answer or reject")
    alice.type("hold")
    alice.type("resume")
    alice.type("digits 12#")
    assert bob.said[2:] == [
        "the peer: hold", "the peer: resume",
        "the peer: digit 1", "the peer: digit 2", "the peer: digit #",
    ]  # fmt: skip
    bob.type("hangup")
    assert (alice.said[-1], bob.said[-1]) == ("ended: bye by peer", "ended: bye by us")
    assert calls_of(alice.stack, bob.stack) == [0, 0]


def test_softphone_rejects_and_is_busy(sip, users):
    alice, bob, carol = users
    alice.type(f"call {bob.uri}")
    carol.type(f"call {bob.uri}")
    sip.settle()
    assert carol.said == ["not connected: 486 Busy Here"]
    bob.type("reject")
    assert alice.said[-1] == "not connected: 486 Busy Here"


def test_softphone_caller_gives_up(sip, users):
    alice, bob, _ = users
    alice.type(f"call {bob.uri}")
    alice.type("hangup")
    assert bob.said[-1] == "the caller has given up"
    assert bob.type("answer") == "nobody calls"


def test_softphone_call_that_nobody_answers_ends(sip, users):
    alice, bob, _ = users
    alice.type(f"call {bob.uri}")
    sip.advance(61)
    assert alice.said[-1] == "not connected: 480 Temporarily Unavailable"


def test_softphone_transfers(sip, users):
    alice, bob, carol = users
    connect(sip, alice, bob)
    alice.type(f"transfer {carol.uri}")
    sip.advance(1)
    carol.type("answer")
    sip.advance(1)
    assert alice.said[-2:] == ["transferred", "ended: bye by us"]
    assert [len(user.phone.calls) for user in users] == [0, 1, 1]
    assert carol.phone.calls[0].dialog.call_id == bob.phone.calls[0].dialog.call_id
    carol.type("hangup")


@pytest.mark.rfc("5589 7.3")
def test_softphone_connects_two_peers(sip, users):
    alice, bob, carol = users
    connect(sip, alice, bob)
    connect(sip, alice, carol)
    assert "the peer: hold" in bob.said
    alice.type("transfer")
    sip.advance(1)
    for user in (bob, carol):
        user.type("answer")  # an INVITE with Replaces rings in this phone
    sip.advance(2)
    assert [len(user.phone.calls) for user in users] == [0, 1, 1]
    assert carol.phone.calls[0].dialog.call_id == bob.phone.calls[0].dialog.call_id
    bob.type("hangup")


def test_softphone_says_what_it_does_not_understand(sip, users):
    alice, bob, _ = users
    for line in ("hold", "resume", "digits 1", "transfer sip:x@10.0.0.9"):
        assert alice.type(line) == f"{line.split()[0]}: there is no call"
    assert "transfer URI" in alice.type("dance")
    assert alice.type("call mailto:x").startswith("not connected: ")
    connect(sip, alice, bob)
    assert alice.type("digits x").startswith("digits: ")
    assert "call somebody first" in alice.type("transfer")
    alice.type("hangup")


COMMANDS = (
    "answer",
    "reject",
    "hold",
    "resume",
    "digits 1",
    "hangup",
    "transfer",
    "transfer {}",
    "call {}",
)


@LONG
@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_softphone_users_press_everything(sip, loss):
    module = example("softphone.py")
    module.Phone.__init__.__globals__["RINGING"] = 10
    sip.lossy(loss=loss, seed=7, delay=0.02)
    users = [User(sip, module) for _ in range(4)]

    def press(user, number):
        rng = random.Random(number)
        for _ in range(CALLS // 2):
            line = rng.choice(COMMANDS).format(rng.choice(users).uri)
            user.phone.do(line)
            sip.clock.sleep(rng.uniform(0, 3))
        user.phone.do("quit")

    pressing = [gevent.spawn(press, user, number) for number, user in enumerate(users)]
    sip.run(gevent.joinall, pressing, raise_error=True)
    assert any(said.startswith("connected") for user in users for said in user.said)
    assert calls_of(*(user.stack for user in users)) == [0] * 4


def test_softphone_quits_in_a_call(sip, users):
    alice, bob, carol = users
    connect(sip, alice, bob)
    alice.type(f"call {carol.uri}")
    alice.type("quit")
    assert bob.said[-1] == "ended: bye by peer"
    assert carol.said[-1] == "the caller has given up"
    assert not alice.stack.is_running


def test_softphone_that_quits_while_it_rings_refuses_the_call(sip, users):
    alice, bob, _ = users
    alice.type(f"call {bob.uri}")
    bob.type("quit")
    assert alice.said[-1] == "not connected: 486 Busy Here"
    assert not bob.stack.is_running
