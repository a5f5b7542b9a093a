"""pjsip phones in calls with code of ours: 100rel and session timers required, hold, UPDATE, digits by INFO, transfers."""

from __future__ import annotations

from pathlib import Path

import pytest

from .test_pjsip import phone, uri

pytest_plugins = ["tests.programs"]

__all__ = ["phone"]

CORE = Path(__file__).parent / "pjsip_core.py"

OPTIONS = {"plain": (), "100rel and timer": ("100rel", "timer")}


@pytest.fixture
def core(serve):
    """Serve pjsip_core.py."""
    return serve(f"{CORE}:stack")


@pytest.fixture(params=OPTIONS)
def alice(request, phone, core):
    """A phone that has registered; in the second case each of its calls needs 100rel and a session timer."""
    return registered(phone, core, "alice", *OPTIONS[request.param])


def registered(phone, core, user, *options):
    one = phone(user, core, "udp", *options)
    one.wait_for("registration 200")
    return one


def dial(one, core, user):
    one.command(f"dial {uri(core, 'udp', user)}")


def end(core, *phones):
    """All phones go, and nothing is left."""
    for one in phones:
        one.command("quit")
    core.wait_until_empty()
    assert "ERROR" not in core.text


@pytest.mark.rfc("3262 3", "4028 9")
@pytest.mark.parametrize("user", ["waits", "early"])
def test_phone_that_requires_100rel_and_timer_is_answered(alice, core, user):
    dial(alice, core, user)
    alice.wait_for("call 1 EARLY 18[03]")
    alice.wait_for("call 1 CONFIRMED 200")
    alice.wait_for("media 1 ACTIVE")
    alice.command("hangup")
    alice.wait_for("call 1 DISCONNECTED 200")
    end(core, alice)


@pytest.mark.rfc("3264 8.4", "3311 5.2")
def test_phone_holds_resumes_updates_and_sends_digits(alice, core):
    dial(alice, core, "events")
    alice.wait_for("media 1 ACTIVE")
    core.wait_for("reads events")
    alice.settles()
    alice.command("hold")
    core.wait_for("event hold")
    alice.wait_for("media 1 LOCAL_HOLD")
    alice.settles()
    alice.command("unhold")
    core.wait_for("event resume")
    alice.settles()
    alice.command("update")
    alice.wait_for("(media 1 ACTIVE\n(.*\n)*){3}")
    alice.command("digits 1#")
    core.wait_for("event digit 1")
    core.wait_for("event digit #")
    alice.wait_for("digit 1 1")
    alice.wait_for("digit 1 #")
    alice.command("hangup")
    core.wait_for("event end")
    end(core, alice)


@pytest.mark.rfc("3264 8.4", "3311 5.1")
@pytest.mark.parametrize("options", OPTIONS)
def test_phone_is_held_resumed_and_updated(phone, core, options):
    alice = registered(
        phone, core, "alice", "codecs", *OPTIONS[options]
    )  # the core changes the codec
    dial(alice, core, "holds")
    alice.wait_for("media 1 ACTIVE\n(.*\n)*media 1 REMOTE_HOLD\n(.*\n)*media 1 ACTIVE")
    core.wait_for("updated")
    alice.command("hangup")
    alice.wait_for("call 1 DISCONNECTED 200")
    end(core, alice)


@pytest.mark.rfc("3262 4", "6337 3.1.2")
@pytest.mark.parametrize("user", ["calls", "asks", "asks100rel"])
def test_phone_is_called(alice, core, user, request):
    needs_100rel = "100rel and timer" in request.node.name
    dial(alice, core, user)
    alice.wait_for("call 1 DISCONNECTED 480")
    if user == "asks" and needs_100rel:
        # an answer that only the application has cannot wait for a PRACK
        core.wait_for("refused 421")
        end(core, alice)
        return
    alice.wait_for("call 2 CONFIRMED 200")
    core.wait_for("placed")
    alice.wait_for("media 2 ACTIVE")
    alice.command("hangup")
    alice.wait_for("call 2 DISCONNECTED 200")
    end(core, alice)


@pytest.mark.rfc("3515 2.4.2", "5589 6.1")
def test_phone_transfers_our_call(alice, core, phone):
    bob = registered(phone, core, "bob")
    dial(alice, core, "events")
    alice.wait_for("media 1 ACTIVE")
    core.wait_for("reads events")
    alice.command(f"transfer {uri(core, 'udp', 'bob')}")
    core.wait_for("followed")
    bob.wait_for("media 1 ACTIVE")
    alice.wait_for("transfer 1 200")
    alice.command("hangup")
    alice.wait_for("call 1 DISCONNECTED 200")
    bob.command("hangup")
    bob.wait_for("call 1 DISCONNECTED 200")
    end(core, alice, bob)


@pytest.mark.rfc("3891 3", "5589 7.1")
def test_phone_transfers_our_call_to_another_call(alice, core, phone):
    bob = registered(phone, core, "bob")
    dial(alice, core, "events")
    alice.wait_for("media 1 ACTIVE")
    core.wait_for("reads events")
    dial(alice, core, "bob")
    alice.wait_for("media 2 ACTIVE")
    alice.command("attended")
    core.wait_for("followed")
    bob.wait_for("replaced 1")
    alice.wait_for("call 2 DISCONNECTED")
    alice.command("hangup 1")
    bob.wait_for("call 2 CONFIRMED")
    bob.command("hangup")
    end(core, alice, bob)


@pytest.mark.rfc("3515 2.4.2", "5589 6.1")
def test_phone_is_transferred(alice, core, phone):
    bob = registered(phone, core, "bob")
    dial(alice, core, "transfers")
    alice.wait_for("refer 1")
    core.wait_for("transferred")
    alice.wait_for("call 2 CONFIRMED 200")
    bob.wait_for("call 1 CONFIRMED 200")
    alice.wait_for("call 1 DISCONNECTED")
    bob.command("hangup")
    alice.wait_for("call 2 DISCONNECTED")
    end(core, alice, bob)


@pytest.mark.rfc("3891 3", "5589 7.1")
def test_phone_is_transferred_to_another_call_of_ours(alice, core, phone):
    bob = registered(phone, core, "bob")
    dial(alice, core, "attends")
    bob.wait_for("media 1 REMOTE_HOLD")
    bob.wait_for("replaced 1")
    core.wait_for("transferred")
    core.wait_for("consultation")
    alice.wait_for("call 2 CONFIRMED 200")
    bob.command("hangup")
    alice.wait_for("call 2 DISCONNECTED")
    end(core, alice, bob)
