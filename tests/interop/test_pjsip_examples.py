"""pjsip phones and the programs of `examples/`: a menu, a B2BUA, and a soft phone.

Each is started as its first lines say, on a port of its own and with shorter timers of transactions, because each test waits
until none is left. In the strict form of a test the phones require 100rel and a session timer in each call.
"""

from __future__ import annotations

import re

import pytest

from tests.docs.blocks import ROOT
from tests.ports import free_port

from ..programs import Script
from .test_b2bua import SHORT, b2bua
from .test_pjsip import phone

pytest_plugins = ["tests.programs"]

__all__ = ["b2bua", "phone"]

EXAMPLES = ROOT / "examples"

TIMERS = SHORT.removeprefix("Stack(").removesuffix(")")

STRICT = ("100rel", "timer")

both_forms = pytest.mark.parametrize("options", [(), STRICT], ids=["plain", "strict"])

pytestmark = pytest.mark.timeout(120)


class Desk:
    """A pjsip phone that does not register, by its commands and what it tells."""

    def __init__(self, program):
        self.program = program
        self.address = program.wait_for(r"at (127\.0\.0\.1:\d+)\n")[1]
        self.uri = f"sip:desk@{self.address}"

    def does(self, command, *told):
        """Give a command, and expect these lines, one after the other."""
        self.program.does(command, *told)

    def tells(self, *told):
        for pattern in told:
            self.program.expect(pattern)

    def has_told(self, *told):
        """Wait for lines that may have come before others that were expected."""
        for pattern in told:
            self.program.wait_for(pattern)


@pytest.fixture
def desk(phone):
    """Start a phone: `desk("alice", "100rel")`."""
    return lambda user, *options: Desk(phone(user, None, "udp", *options))


@pytest.fixture
def shortened(tmp_path):
    """Copy an example, with shorter timers."""

    def copy(name):
        text = (EXAMPLES / name).read_text()
        given = re.search(r"(?m)^stack = Stack\((.*)\)$", text)[1]
        text = text.replace("Stack, ", "Stack, Timers, ", 1).replace(
            f"stack = Stack({given})", f"stack = Stack({', '.join(filter(None, (given, TIMERS)))})"
        )
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return copy


def nothing_is_left(server, *desks):
    for one in desks:
        one.program.command("quit")
    stats = server.wait_until_empty()
    assert not {"core_errors", "calls_unowned", "call_events_dropped"} & stats.keys()
    assert "ERROR" not in server.text and "Traceback" not in server.text


# ---- the menu


@pytest.fixture
def menu(serve, desk, shortened):
    """Serve the menu with a phone in the sales department: `(server, sales)`."""

    def start(*options):
        sales = desk("sales", *options)
        return serve(f"{shortened('ivr.py')}:stack", SALES=sales.uri), sales

    return start


@both_forms
@pytest.mark.rfc("3262 3", "4028 9", "3311 5.2", "3515 2.4.2", "5589 6.1")
def test_menu_serves_a_phone_and_transfers_it(menu, desk, options):
    server, sales = menu()
    alice = desk("alice", *options)
    alice.does(f"dial sip:menu@127.0.0.1:{server.port}", "call 1 EARLY 180", "call 1 CONFIRMED 200")
    alice.does("hold", "media 1 LOCAL_HOLD")
    alice.does("unhold", "media 1 REMOTE_HOLD")
    alice.does("update", "media 1 REMOTE_HOLD")
    alice.does("digits 9")  # no department
    alice.does("digits 1", f"refer 1 <{sales.uri}>", "call 2 CONFIRMED 200")
    alice.has_told("call 1 DISCONNECTED 200")
    server.wait_for(r"ivr: sip:alice@127.0.0.1: bye by us")
    server.wait_until_empty()
    sales.does("hangup")
    alice.has_told("call 2 DISCONNECTED 200")
    nothing_is_left(server, alice, sales)


@both_forms
@pytest.mark.rfc("3515 2.4.5")
def test_menu_goes_on_when_the_department_is_busy(menu, desk, options):
    server, sales = menu("rings")
    alice = desk("alice", *options)
    alice.does(f"dial sip:menu@127.0.0.1:{server.port}", "call 1 CONFIRMED 200")
    alice.does("digits 1", "refer 1", "call 2 EARLY 180")
    sales.tells("incoming 1")
    sales.does("answer 486", "call 1 DISCONNECTED 486")
    server.wait_for("486 Busy Here")
    alice.does("use 1")
    alice.does("digits 1", "refer 1", "call 3 EARLY 180")
    sales.tells("incoming 2")
    sales.does("answer", "call 2 CONFIRMED 200")
    alice.has_told("call 1 DISCONNECTED 200", "call 3 CONFIRMED 200")
    alice.does("hangup 3")
    sales.tells("call 2 DISCONNECTED 200")
    nothing_is_left(server, alice, sales)


@both_forms
def test_phone_hangs_up_while_the_menu_transfers_it(menu, desk, options):
    server, sales = menu("rings")
    alice = desk("alice", *options)
    alice.does(f"dial sip:menu@127.0.0.1:{server.port}", "call 1 CONFIRMED 200")
    alice.does("digits 1", "refer 1", "call 2 EARLY 180")
    alice.does("hangup 1", "call 1 DISCONNECTED")
    server.wait_for("ivr: .* bye by peer")
    alice.does("hangup 2", "call 2 DISCONNECTED")
    sales.tells("call 1 DISCONNECTED")
    nothing_is_left(server, alice, sales)


@both_forms
@pytest.mark.rfc("3515 2.4.2")
def test_menu_refuses_a_transfer_and_goes_on(menu, desk, options):
    server, sales = menu()
    alice = desk("alice", *options)
    alice.does(f"dial sip:menu@127.0.0.1:{server.port}", "call 1 CONFIRMED 200")
    alice.does(f"transfer {sales.uri}", "transfer 1 [456]")
    alice.does(f"dial {sales.uri}", "call 2 CONFIRMED 200")
    alice.does("attended", "transfer 1 [456]")
    alice.does("hangup 2", "call 2 DISCONNECTED 200")
    alice.does("use 1")
    alice.does("digits #", "call 1 DISCONNECTED 200")
    nothing_is_left(server, alice, sales)


# ---- the B2BUA


@pytest.fixture
def bridged(b2bua, desk):
    """Start the B2BUA between two phones: `(server, alice, bob, dial)`, where `dial` calls bob."""

    def start(options=(), bob=(), **kinds):
        port = free_port()
        server = b2bua(port, **kinds)
        callee = desk("bob", f"port={port}", *bob)
        caller = desk("alice", *options)
        return server, caller, callee, f"dial sip:bob@127.0.0.1:{server.port}"

    return start


each_side = pytest.mark.parametrize(
    "options, bob", [((), ()), (STRICT, STRICT)], ids=["plain", "strict"]
)

HELD = {
    # options of the caller and of the callee, and the one that hangs up
    "plain": ((), (), 0),
    "caller strict": (STRICT, (), 1),
    "callee strict": ((), STRICT, 0),
    "both strict": (STRICT, STRICT, 1),
    "codecs": (("codecs",), ("codecs",), 0),
}


@pytest.mark.parametrize("options, bob, leaver", HELD.values(), ids=HELD)
@pytest.mark.rfc("3262 3", "4028 9", "3311 5.2", "3264 8.4")
def test_bridged_phones_hold_update_and_send_digits(bridged, options, bob, leaver):
    server, alice, bob, dial = bridged(options, bob)
    alice.does(dial, "call 1 EARLY 180", "call 1 CONFIRMED 200")
    bob.tells("call 1 CONFIRMED 200")
    settled(alice, bob)
    for one, other in ((alice, bob), (bob, alice)):
        one.does("hold", "media 1 LOCAL_HOLD")
        other.tells("media 1 REMOTE_HOLD")
        settled(alice, bob)
        one.does("unhold", "media 1 ACTIVE")
        other.tells("media 1 ACTIVE")
        settled(alice, bob)
        one.does("update", "media 1 ACTIVE")  # the same session again: nothing for the other side
        settled(alice, bob)
        one.does("digits 5#")
        other.tells("digit 1 5", "digit 1 #")
    phones = (alice, bob)
    phones[leaver].does("hangup", "call 1 DISCONNECTED")
    phones[1 - leaver].tells("call 1 DISCONNECTED 200")
    nothing_is_left(server, alice, bob)


def settled(*desks):
    """Wait until the phones have no transaction left that would refuse a command of the test."""
    for one in desks:
        one.program.settles()


@each_side
@pytest.mark.rfc("3261 9.1")
def test_bridged_caller_gives_up(bridged, options, bob):
    server, alice, bob, dial = bridged(options, (*bob, "rings"))
    alice.does(dial, "call 1 EARLY 180")
    alice.does("hangup", "call 1 DISCONNECTED 487")
    bob.tells("call 1 DISCONNECTED")
    nothing_is_left(server, alice, bob)


@each_side
@pytest.mark.rfc("3261 16.7")
def test_bridged_callee_is_busy(bridged, options, bob):
    server, alice, bob, dial = bridged(options, (*bob, "rings"))
    alice.does(dial, "call 1 EARLY 180")
    bob.does("answer 486", "call 1 DISCONNECTED 486")
    alice.tells("call 1 DISCONNECTED 486")
    nothing_is_left(server, alice, bob)


@each_side
@pytest.mark.parametrize("transferor", [0, 1], ids=["caller transfers", "callee transfers"])
@pytest.mark.rfc("3515 2.4.2", "5589 6.1")
def test_bridged_phone_is_transferred(bridged, desk, options, bob, transferor):
    server, alice, bob, dial = bridged(options, bob)
    carol = desk("carol")
    alice.does(dial, "call 1 CONFIRMED 200")
    bob.tells("call 1 CONFIRMED 200")
    settled(alice, bob)
    one, other = (alice, bob) if transferor == 0 else (bob, alice)
    one.does(f"transfer {carol.uri}", "transfer 1 200")
    carol.tells("call 1 CONFIRMED 200")
    other.has_told("refer 1", "call 2 CONFIRMED 200")
    one.does("hangup 1")
    other.has_told("call 1 DISCONNECTED 200")
    server.wait_until_empty()
    carol.does("hangup")
    other.has_told("call 2 DISCONNECTED 200")
    nothing_is_left(server, alice, bob, carol)


@each_side
@pytest.mark.parametrize("transferor", [0, 1], ids=["caller transfers", "callee transfers"])
@pytest.mark.rfc("3891 3", "5589 7.1")
def test_bridged_phone_is_transferred_to_another_call(bridged, desk, options, bob, transferor):
    server, alice, bob, dial = bridged(options, bob)
    carol = desk("carol")
    alice.does(dial, "call 1 CONFIRMED 200")
    bob.tells("call 1 CONFIRMED 200")
    settled(alice, bob)
    one, other = (alice, bob) if transferor == 0 else (bob, alice)
    one.does("hold", "media 1 LOCAL_HOLD")
    other.tells("media 1 REMOTE_HOLD")
    one.does(f"dial {carol.uri}", "call 2 CONFIRMED 200")
    settled(one, other, carol)
    one.does("attended", "transfer 1 200")
    carol.has_told("replaced 1", "call 2 CONFIRMED 200")
    other.has_told("call 2 CONFIRMED 200")
    one.has_told("call 2 DISCONNECTED")
    one.does("hangup 1")
    other.has_told("call 1 DISCONNECTED 200")
    server.wait_until_empty()
    carol.does("hangup 2")
    other.has_told("call 2 DISCONNECTED 200")
    nothing_is_left(server, alice, bob, carol)


# ---- the soft phone


@pytest.fixture
def softphone(run, shortened):
    """Start the soft phone, with a keyboard; returns the program and its URI."""
    program = run(shortened("softphone.py"), kind=Script, LISTEN="udp:127.0.0.1:0")
    return program, f"sip:soft@127.0.0.1:{program.port}"


def gone(program, *desks):
    """Check that the soft phone has nothing left, and end it as its user does."""
    nothing_is_left(program, *desks)
    program.type("quit")
    assert program.wait() == 0


def held_both_ways(program, alice):
    alice.does("hold", "media 1 LOCAL_HOLD")
    program.expect("the peer: hold")
    settled(alice)
    alice.does("unhold", "media 1 ACTIVE")
    program.expect("the peer: resume")
    settled(alice)
    program.type("hold")
    alice.tells("media 1 REMOTE_HOLD")
    settled(alice)
    program.type("resume")
    alice.tells("media 1 ACTIVE")
    settled(alice)
    alice.does("update", "media 1 ACTIVE")
    settled(alice)
    alice.does("digits 5#")
    program.expect("the peer: digit 5")
    program.expect("the peer: digit #")
    program.type("digits 7")
    alice.tells("digit 1 7")


@both_forms
@pytest.mark.rfc("3262 3", "4028 9", "3311 5.2", "3264 8.4")
def test_softphone_answers_a_phone(softphone, desk, options):
    program, uri = softphone
    alice = desk("alice", *options)
    alice.does(f"dial {uri}", "call 1 EARLY 180")
    program.expect("sip:alice@127.0.0.1 calls: answer or reject")
    program.type("answer")
    alice.tells("call 1 CONFIRMED 200")
    settled(alice)
    held_both_ways(program, alice)
    alice.does("hangup", "call 1 DISCONNECTED")
    program.expect("ended: bye by peer")
    gone(program, alice)


@both_forms
@pytest.mark.rfc("3262 4", "4028 9", "3311 5.1", "3264 8.4")
def test_softphone_calls_a_phone(softphone, desk, options):
    program, _ = softphone
    alice = desk("alice", *options)
    program.type(f"call {alice.uri}")
    program.expect("180 Ringing")
    program.expect("connected to sip:desk@127.0.0.1")
    alice.tells("call 1 CONFIRMED 200")
    settled(alice)
    held_both_ways(program, alice)
    program.type("hangup")
    alice.tells("call 1 DISCONNECTED")
    program.expect("ended: bye by us")
    gone(program, alice)


@both_forms
@pytest.mark.rfc("3261 9.1")
def test_softphone_and_phone_give_up_and_refuse(softphone, desk, options):
    program, uri = softphone
    alice = desk("alice", "rings", *options)
    alice.does(f"dial {uri}", "call 1 EARLY 180")
    alice.does("hangup", "call 1 DISCONNECTED 487")
    program.expect("the caller has given up")
    alice.does(f"dial {uri}", "call 2 EARLY 180")
    program.type("reject")
    alice.tells("call 2 DISCONNECTED 486")
    program.type(f"call {alice.uri}")
    program.expect("180 Ringing")
    alice.tells("incoming 3")
    program.type("hangup")
    alice.tells("call 3 DISCONNECTED")
    program.type(f"call {alice.uri}")
    alice.tells("incoming 4")
    alice.does("answer 603", "call 4 DISCONNECTED 603")
    program.expect("not connected: 603")
    gone(program, alice)


@both_forms
@pytest.mark.rfc("3515 2.4.2", "5589 6.1")
def test_softphone_transfers_a_phone(softphone, desk, options):
    program, uri = softphone
    alice, carol = desk("alice", *options), desk("carol")
    program.type(f"call {alice.uri}")
    alice.tells("call 1 CONFIRMED 200")
    settled(alice)
    program.type(f"transfer {carol.uri}")
    program.expect("transferred")
    program.expect("ended: bye by us")
    alice.has_told("refer 1", "call 1 DISCONNECTED 200", "call 2 CONFIRMED 200")
    carol.has_told("call 1 CONFIRMED 200")
    carol.does("hangup")
    alice.has_told("call 2 DISCONNECTED 200")
    gone(program, alice, carol)


@both_forms
@pytest.mark.rfc("3891 3", "5589 7.1")
def test_softphone_connects_two_phones(softphone, desk, options):
    program, uri = softphone
    alice, carol = desk("alice", *options), desk("carol", *options)
    for one in (alice, carol):
        program.type(f"call {one.uri}")
        program.expect("connected to")
        one.has_told("call 1 CONFIRMED 200")
        settled(one)
    alice.has_told("media 1 REMOTE_HOLD")
    program.type("transfer")
    program.expect("transferred")
    alice.has_told("call 1 DISCONNECTED")  # replaced: pjsip says 410
    carol.has_told("call 1 DISCONNECTED 200")
    program.wait_until_empty()
    for one in (alice, carol):
        one.has_told("call 2 CONFIRMED 200")
    alice.does("hangup 2")
    carol.has_told("call 2 DISCONNECTED 200")
    gone(program, alice, carol)


@both_forms
@pytest.mark.rfc("3515 2.4.2", "5589 6.1")
def test_phone_transfers_the_softphone(softphone, desk, options):
    program, uri = softphone
    alice, carol = desk("alice", *options), desk("carol", *options)
    program.type(f"call {alice.uri}")
    alice.tells("call 1 CONFIRMED 200")
    settled(alice)
    alice.does(f"transfer {carol.uri}", "transfer 1 200")
    program.expect("transferred to sip:desk@")
    carol.has_told("call 1 CONFIRMED 200")
    alice.does("hangup 1", "call 1 DISCONNECTED")
    program.expect("ended: bye by peer")
    program.type("hangup")
    carol.tells("call 1 DISCONNECTED 200")
    gone(program, alice, carol)


@both_forms
@pytest.mark.rfc("3891 3", "5589 7.1")
def test_phone_transfers_the_softphone_to_another_call(softphone, desk, options):
    program, uri = softphone
    alice, carol = desk("alice", *options), desk("carol", *options)
    program.type(f"call {alice.uri}")
    alice.tells("call 1 CONFIRMED 200")
    settled(alice)
    alice.does("hold", "media 1 LOCAL_HOLD")
    program.expect("the peer: hold")
    alice.does(f"dial {carol.uri}", "call 2 CONFIRMED 200")
    carol.tells("call 1 CONFIRMED 200")
    settled(alice, carol)
    alice.does("attended", "transfer 1 200")
    program.expect("transferred to sip:desk@")
    carol.has_told("replaced 1", "call 2 CONFIRMED 200")
    alice.does("hangup 1", "call 1 DISCONNECTED")
    program.expect("ended: bye by peer")
    program.type("hangup")
    carol.has_told("call 2 DISCONNECTED 200")
    gone(program, alice, carol)
