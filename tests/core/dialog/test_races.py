"""Races within a call: bursts of requests in one moment, and random calls on a network that loses,
repeats and reorders.

`pytest -m slow` plays 10,000 random calls, and `SIPPET_SEEDS=500` so many instead of 300.
"""

from __future__ import annotations

import itertools
import os
import random

import pytest

from sippet_gevent import Cancelled, Reject, SIPError
from sippet_gevent.testing import Sip, leftovers

from .test_early import Calling, Ringing

SEEDS = int(os.environ.get("SIPPET_SEEDS", "300"))
MANY = 10_000

METHODS = ("INVITE", "BYE", "CANCEL", "UPDATE", "PRACK", "INFO")


def finals(peer):
    """Return the final statuses that a peer got, by CSeq number and method, each repetition once."""
    found = {}
    for response in peer.responses:
        if response.status >= 200:
            found.setdefault((response.cseq.number, response.cseq.method), set()).add(
                response.status
            )
    return found


def leave(sip, peer, bye=None):
    """Let everything end, and check that no dialog is left."""
    sip.advance(70)
    for request in [r for r in peer.requests if r.method == "BYE"][:1]:
        peer.reply(request, 200)
    sip.advance(40)
    for stack in sip.stacks:
        assert (len(stack.dialogs), stack.dialogs.early) == (0, 0)


@pytest.mark.rfc("3261 15.1.2", "3261 14.2", "5407 3")
@pytest.mark.parametrize("pair", list(itertools.permutations(METHODS, 2)), ids="-".join)
def test_pair_of_requests_in_one_burst_while_the_call_rings(sip, pair):
    ringing = Ringing(sip, seconds=20)
    requests = []
    for place, method in enumerate(pair):
        if method == "CANCEL":
            requests.append(ringing.invite.cancel())
        else:
            rack = {"rack": "1 1 INVITE"} if method == "PRACK" else {}
            requests.append(
                ringing.peer.within(
                    ringing.invite, ringing.response, method, number=2 + place, **rack
                )
            )
    ringing.peer.send(*requests)
    got = finals(ringing.peer)
    for request in requests:
        statuses = got[request.cseq.number, request.cseq.method]
        assert len(statuses) == 1, f"{request!r} was answered {statuses}"
    if {"BYE", "CANCEL"} & set(pair):
        assert got[ringing.invite.cseq.number, "INVITE"] == {487}
        assert ringing.tx.call.ended.is_set()
    sip.advance(21)
    if not ringing.tx.call.ended.is_set():
        ringing.ask("ACK", number=ringing.invite.cseq.number)
        ringing.ask("BYE", number=9)
    leave(sip, ringing.peer)


@pytest.mark.rfc("5407 3", "3261 15.1.2")
@pytest.mark.parametrize("pair", list(itertools.permutations(METHODS, 2)), ids="-".join)
def test_pair_of_requests_in_one_burst_with_the_ack(sip, pair):
    ringing = Ringing(sip, seconds=0.1)
    sip.advance(0.2)
    ok = ringing.peer.responses[-1]
    requests = [ringing.peer.within(ringing.invite, ok, "ACK")]
    for place, method in enumerate(pair):
        if method == "CANCEL":
            requests.append(ringing.invite.cancel())
        else:
            rack = {"rack": "1 1 INVITE"} if method == "PRACK" else {}
            requests.append(
                ringing.peer.within(ringing.invite, ok, method, number=2 + place, **rack)
            )
    ringing.peer.send(*requests)
    got = finals(ringing.peer)
    for request in requests[1:]:
        assert len(got[request.cseq.number, request.cseq.method]) == 1
    if "BYE" in pair:
        assert ringing.tx.call.end.cause == "bye"
        assert got[2 + pair.index("BYE"), "BYE"] == {200}
    else:
        ringing.tx.call.hangup()
    leave(sip, ringing.peer)


@pytest.mark.rfc("5407 3", "3261 14.2")
@pytest.mark.parametrize(
    "pair", list(itertools.permutations(("INVITE", "BYE", "UPDATE", "INFO"), 2)), ids="-".join
)
@pytest.mark.parametrize("state", ["early", "confirmed"])
def test_pair_of_requests_of_the_callee_in_one_burst(sip, pair, state):
    sip.client.core = lambda request, tx: 200
    calling = Calling(sip, "one")
    response = calling.responses["one"]
    requests = [
        calling.peer.back(calling.invite, response, method, number=1 + place)
        for place, method in enumerate(pair)
    ]
    if state == "confirmed":
        ok = calling.invite.response(200, contact=f"<{calling.peer.uri}>")
        ok.to = response.to
        requests.insert(0, ok)
    at = sip.client.engine.transports[0].local[0]
    calling.peer.send(*requests, to=at)
    got = finals(calling.peer)
    for request in requests:
        if hasattr(request, "method"):
            assert len(got[request.cseq.number, request.cseq.method]) == 1
    if "BYE" in pair:
        assert got[1 + pair.index("BYE"), "BYE"] == {200}
    if state == "early":
        calling.reply(486, "one")
    else:
        calling.greenlet.get().hangup()
    leave(sip, calling.peer)


class Random:
    """One call between two stacks that do what a seed says."""

    def __init__(self, seed):
        self.sip = Sip()
        self.sip.lossy(loss=0.1, duplicate=0.1, reorder=0.1, delay=0.02, jitter=0.05, seed=seed)
        self.random = random.Random(seed)
        self.seen = []
        self.taken = []
        self.server = self.sip.serve(self.core)

    def pause(self):
        return self.random.choice((0.0, 0.01, 0.3, 2.0))

    def core(self, request, tx):
        if request.to.tag is not None:
            if request.method == "INFO":
                return self.handle(request, tx)
            return 200 if request.method == "UPDATE" else 501
        choice = self.random.random
        for _ in range(self.random.randint(0, 2)):
            tx.respond(183, body=b"early", reliable=choice() < 0.5)
            tx.wait(self.pause())
        if choice() < 0.15:
            return 486
        if choice() < 0.3:
            with tx.accept(body=b"answer") as call:
                self.read(call)
            return None
        with tx.accept(body=b"answer", handlers={"INFO": self.handle}) as call:
            self.act(call)
        return None

    def read(self, call):
        """Read events until the caller is silent."""
        for event in call.events(timeout=40):
            if event.kind == "digit":
                self.seen.append(event.request.body)

    def handle(self, request, tx):
        self.seen.append(bytes(request.body))
        return 200

    def act(self, call):
        """Do some things within a call."""
        for _ in range(self.random.randint(0, 3)):
            what = self.random.choice(("INFO", "UPDATE", "INVITE", "REFER", "digit", "wait", "BYE"))
            try:
                if what == "wait":
                    call.wait(self.pause() or 0.1)
                elif what == "INFO":
                    body = str(self.random.random())
                    if call.request("INFO", body=body, content_type="text/plain").is_success:
                        self.taken.append(body.encode())
                elif what == "digit":
                    body = f"Signal={self.random.randint(0, 9)}\r\nDuration={len(self.taken)}"
                    kind = "application/dtmf-relay"
                    if call.request("INFO", body=body, content_type=kind).is_success:
                        self.taken.append(body.encode())
                elif what == "REFER":
                    call.transfer("sip:carol@10.0.0.99", timeout=self.pause() or 0.01)
                elif what == "BYE":
                    call.hangup()
                elif what == "UPDATE":
                    call.request("UPDATE")
                else:
                    call.request("INVITE", body=call.local_body)
            except SIPError:
                pass

    def place(self):
        timeout = self.random.choice((None, None, 0.05, 1.0))
        try:
            call = self.sip.client.invite(
                "sip:bob@10.0.0.1", body="offer", timeout=timeout, handlers={"INFO": self.handle}
            )
        except (Reject, SIPError, Cancelled):
            return
        with call:
            self.act(call)

    def play(self):
        sip = self.sip
        sip.run(self.place)
        sip.advance(150)
        left = [
            (leftovers(stack), len(stack.dialogs), stack.dialogs.early)
            for stack in (self.server, sip.client)
            if leftovers(stack) or len(stack.dialogs) or stack.dialogs.early
        ]
        ladder = sip.ladder()
        sip.close()
        assert not left, f"left over: {left}\n{ladder}"
        lost = [body for body in self.taken if body not in self.seen]
        assert not lost, f"answered 200 and never handled: {lost}\n{ladder}"


@pytest.mark.parametrize("kind", range(10))
def test_random_calls_with_loss_leave_nothing_and_lose_no_event(kind):
    play(range(kind, SEEDS, 10))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", range(10))
def test_many_random_calls_with_loss_leave_nothing_and_lose_no_event(kind):
    play(range(kind, MANY, 10))


def play(seeds):
    """Play a random call for each seed."""
    for seed in seeds:
        try:
            Random(seed).play()
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error
