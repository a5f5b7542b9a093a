"""Connections that end at each message of a call, hold, attended transfer and bridge: nothing of them is left.

The stacks listen, so later requests make new connections. Each test ends its connections after one
message, and all calls have ended within some seconds of the real clock.
"""

from __future__ import annotations

import socket

import gevent
import pytest
from gevent.pool import Pool

from sippet_gevent import TLS, SIPError, Stack, Timers, bridge, sdp

from ..transport.test_tls import authority  # noqa: F401

AUDIO = sdp.MediaStream("audio", 4000, (sdp.PCMU,))
QUICK = Timers(t1=0.01, t2=0.04, t4=0.05, c=2.0, d=0.05, trying=0.01)
PATIENCE = 15.0
"""Seconds until nothing may be left: some times 64*T1, and more on a busy machine."""

AT_ONCE = 12
"""Plays at the same time. Each has up to three stacks, and timers that are too short for more on a busy machine."""

URIS = {
    "tcp": "sip:bob@{host}:{port};transport=tcp",
    "tls": "sips:bob@{host}:{port}",
    "wss": "sips:bob@{host}:{port};transport=ws",
}


class Lines:
    """Stacks that are connected by streams, all of whose connections end after some message."""

    def __init__(self, transport, cut, tls=None):
        self.transport, self.cut = transport, cut
        self.options = {} if tls is None else {"tls": tls}
        self.stacks, self.calls, self.greenlets = [], [], []
        self.passed = 0
        self.has_transfers = False

    def stack(self, core=None):
        stack = Stack(f"{self.transport}:127.0.0.1:0", timers=QUICK, **self.options)
        if core is not None:
            stack.on("INVITE")(core)
        stack.start()
        stack.tap(self.count)
        self.stacks.append(stack)
        return stack

    def uri_of(self, stack):
        host, port = stack.engine.transports[0].local
        return URIS[self.transport].format(host=host, port=port)

    def count(self, passage):
        """End all connections after the message of this number, as a middlebox does that restarts."""
        if passage.direction == "out":
            self.passed += 1
            if self.passed == self.cut:
                gevent.spawn(self.end)

    def end(self):
        for stack in self.stacks:
            for transport in stack.engine.transports:
                for flow in list(transport.flows):
                    flow._socket.shutdown(socket.SHUT_RDWR)

    def answers(self, request, tx):
        """Ring, answer, and accept transfers."""
        tx.respond(180)
        with tx.accept(media=[AUDIO]) as call:
            self.calls.append(call)
            for event in call.events():
                if event.referral is not None:
                    event.referral.accept()
                    self.spawn(event.referral.follow)

    def spawn(self, function, *arguments, **options):
        """Run a function, whose SIP errors are the peers' concern."""

        def run():
            try:
                return function(*arguments, **options)
            except SIPError:
                return None

        greenlet = gevent.spawn(run)
        self.greenlets.append(greenlet)
        return greenlet

    def invite(self, stack, other, **options):
        call = stack.invite(self.uri_of(other), media=[AUDIO], **options)
        self.calls.append(call)
        return call

    def left(self):
        """Return what the stacks have not let go of."""
        found = {}
        for number, stack in enumerate(self.stacks):
            engine = stack.engine
            gauges = {
                "calls": len(stack.dialogs),
                "early": stack.dialogs.early,
                "servers": len(engine.servers),
                "clients": len(engine.clients),
                "cores": engine.workers.busy,
            }
            if not self.has_transfers:  # the subscription to one lasts until its time is over
                gauges["deadlines"] = len(stack.deadlines)
            found |= {(number, name): value for name, value in gauges.items() if value}
        return found

    def check(self):
        """Hang up what is left of the calls, and check that nothing is left then."""
        with gevent.Timeout(PATIENCE):
            gevent.joinall(self.greenlets[:1])  # what is played
        waited, hung_up = 0.0, 0
        while waited < PATIENCE:
            for call in self.calls[hung_up:]:  # a callee may answer after the caller has given up
                if not call.ended.is_set():
                    self.spawn(call.hangup)
            hung_up = len(self.calls)
            if not self.left():
                break
            gevent.sleep(0.05)
            waited += 0.05
        assert self.left() == {}
        with gevent.Timeout(PATIENCE):
            gevent.joinall(self.greenlets)

    def stop(self):
        for stack in self.stacks:
            stack.stop()


# ---- what is played


def answered_call(lines):
    bob = lines.stack(lines.answers)
    alice = lines.stack()

    def play():
        lines.invite(alice, bob).wait(0.05)
        lines.calls[0].hangup()

    return play


def hold(lines):
    bob = lines.stack(lines.answers)
    alice = lines.stack()

    def play():
        call = lines.invite(alice, bob)
        call.hold()
        call.resume()
        call.update()
        call.hangup()

    return play


def attended_transfer(lines):
    lines.has_transfers = True
    bob, carol = lines.stack(lines.answers), lines.stack(lines.answers)
    alice = lines.stack()

    def play():
        first, second = lines.invite(alice, bob), lines.invite(alice, carol)
        first.transfer(second, timeout=1)
        first.hangup()

    return play


def bridged_prack(lines):
    def core(request, tx):
        tx.respond(183, reliable=True, media=[AUDIO])
        tx.wait(0.05)
        with tx.accept() as call:
            lines.calls.append(call)
            call.wait()

    bob = lines.stack(core)
    middle = lines.stack(lambda request, tx: bridge(request, tx, lines.uri_of(bob), timeout=1))
    alice = lines.stack()

    def play():
        call = lines.invite(alice, middle, require="100rel", timeout=1)
        call.hold()
        call.hangup()

    return play


PLAYS = {  # and how many messages leave in each, if nothing is cut
    answered_call: 8,
    hold: 18,
    attended_transfer: 46,
    bridged_prack: 40,
}


@pytest.fixture
def connected():
    made = []

    def make(*arguments, **options):
        made.append(Lines(*arguments, **options))
        return made[-1]

    yield make
    for lines in made:
        lines.stop()


def cut_everywhere(connected, play, transport, tls=None):
    """Play something as often as it has messages, some at the same time, and cut each after another one."""

    def run(cut):
        lines = connected(transport, cut, tls)
        lines.spawn(play(lines))
        lines.check()
        return lines.passed

    pool = Pool(AT_ONCE)
    greenlets = [pool.spawn(run, cut) for cut in range(1, PLAYS[play] + 1)]
    gevent.joinall(greenlets)
    assert {cut: each.exception for cut, each in enumerate(greenlets, 1) if each.exception} == {}
    passed = [each.value for each in greenlets]
    assert sum(each >= cut for cut, each in enumerate(passed, 1)) > len(passed) / 2


@pytest.mark.parametrize("play", PLAYS)
def test_nothing_is_left_when_connections_end_after_any_message(connected, play):
    cut_everywhere(connected, play, "tcp")


@pytest.mark.parametrize("play", PLAYS)
@pytest.mark.parametrize("transport", ["tls", "wss"])
def test_nothing_is_left_when_secure_connections_end_after_any_message(
    connected,
    authority,  # noqa: F811
    transport,
    play,
):
    tls = TLS(authority.issue("127.0.0.1", file="here.pem"), ca=authority.file)
    cut_everywhere(connected, play, transport, tls)
