"""Networks that lose, repeat, delay and reorder: what must hold for every seed, whatever has become of the datagrams.

`SIPPET_SEEDS=60` runs so many networks of each kind; a failure names the seed and shows its messages.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from sippet_gevent import ClientTransaction, Request, TransactionTimeout, forward
from sippet_gevent.message.parser import parse
from sippet_gevent.testing import CLIENT, SERVER, Sip, leftovers
from sippet_gevent.transaction.keys import server_key
from sippet_gevent.transaction.machines import TERMINATED

SEEDS = os.environ.get("SIPPET_SEEDS")
PHONE = "10.0.0.70"
LINGER = 150.0
"""Seconds after which nothing of a finished call may be left: 64*T1 for the INVITE, its ACK, the BYE and its answer."""

# How the network behaves, and the default number of its seeds, which take 3 ms each.
NETWORKS = {
    "5 % lost": ({"loss": 0.05}, 1000),
    "30 % lost": ({"loss": 0.3}, 1000),
    "lost, repeated, late and out of order": (
        {"loss": 0.05, "duplicate": 0.2, "reorder": 0.3, "delay": 0.1, "jitter": 0.3},
        100,
    ),
}


class Witness:
    """Keeps what a transaction gives its user: `ends` has the final statuses and errors."""

    def __init__(self, user: Any, ends: list[Any]) -> None:
        self.user, self.ends = user, ends

    def receive(self, response):
        if response.status >= 200:
            self.ends.append(response.status)
        self.user.receive(response)

    def fail(self, error):
        self.ends.append(error)
        self.user.fail(error)

    def ended(self):
        self.user.ended()

    @property
    def transaction(self):
        return self.user.transaction

    @transaction.setter
    def transaction(self, tx):
        self.user.transaction = tx


def to_the_phone(request, tx):
    """A proxy with one phone behind it."""
    targets = () if request.mandatory.to_tag else (f"sip:bob@{PHONE}",)
    return forward(request, tx, *targets, record_route=True)


class Watched:
    """Two stacks on a network with a seed, or three with `proxied`, and watchers at every transaction's end
    and every datagram."""

    def __init__(self, core: Any, seed: int, *, proxied: bool = False, **behaviour: Any) -> None:
        self.sip = sip = Sip()
        sip.lossy(seed=seed, **behaviour)
        self.stacks = {SERVER: sip.serve(to_the_phone if proxied else core), CLIENT: sip.client}
        if proxied:
            self.stacks[PHONE] = sip.stack(core, host=PHONE)
        self.ends: dict[str, list[Any]] = {}
        for stack in self.stacks.values():
            self._witness(stack.engine)
        self.too_late: list[str] = []
        sip.network.on_send = self._sent

    def _witness(self, engine: Any) -> None:
        request = engine.request

        def witnessed(message, flow, user, timers=None, **options):
            ends = self.ends[server_key(message)] = []
            return request(message, flow, Witness(user, ends), timers, **options)

        engine.request = witnessed

    def _sent(self, carried: Any) -> None:
        """See that the transaction a datagram belongs to is there, and has not ended."""
        message = parse(carried.data)
        engine = self.stacks[carried.source[0]].engine
        is_request = isinstance(message, Request)
        key = server_key(message)
        tx = (engine.clients if is_request else engine.servers).get(key)
        if tx is None and is_request and message.method == "ACK" and key not in self.ends:
            return  # to a 2xx: that belongs to none (§13.2.2.4)
        if tx is None or tx.state is TERMINATED:
            self.too_late.append(f"{carried.time:.3f} {message!r}")

    def finish(self) -> None:
        """Let everything end, on the network as bad as it is, and hold it to the invariants."""
        sip = self.sip
        sip.advance(LINGER)
        left = {
            host: found
            for host, stack in self.stacks.items()
            if (found := leftovers(stack) or len(stack.dialogs))
        }
        sip.close()
        assert not left, f"left over: {left}"
        assert not self.too_late, f"sent after the end of the transaction: {self.too_late}"
        for key, ends in self.ends.items():
            # Each 2xx to an INVITE goes to the user, which acknowledges it (RFC 6026 §7.2); anything else comes once.
            told = ends[:1] if key.endswith("INVITE") and set(ends) == {200} else ends
            assert len(told) == 1, f"{key} ended with {ends}"
        accepted = [
            c
            for c in sip.network.trace
            if c.data.startswith(b"SIP/2.0 200") and b" INVITE\r\n" in c.data
        ]
        got = [c for c in accepted if c.destination[0] == CLIENT and c.fate == "carried"]
        acks = [
            c for c in sip.network.trace if c.source[0] == CLIENT and c.data.startswith(b"ACK ")
        ]
        assert len(acks) >= len(got), (
            f"{len(got)} 2xx to an INVITE have arrived, {len(acks)} ACKs were sent"
        )


def answers(request, tx):
    """Rings for a second, takes the call, and hangs up after a minute if the caller has not."""
    tx.respond(180)
    tx.wait(1)
    with tx.accept() as call:
        call.wait(60)


def calls(sip):
    """Make one whole call, and return its outcome."""
    request = Request("INVITE", "sip:bob@example.com")
    tx = sip.client.send(request, f"sip:{SERVER}")
    response = tx.final()
    assert response.is_success
    tx.call.wait(3)
    return tx.call.request("BYE").status


def refuses(request, tx):
    tx.respond(180)
    tx.wait(1)
    return 486


def is_refused(sip):
    return sip.client.send(Request("INVITE", "sip:bob@example.com"), f"sip:{SERVER}").final().status


def gives_up(sip):
    """Cancel a call at its first response; 487, or the 2xx that was there before."""
    tx = sip.client.send(Request("INVITE", "sip:bob@example.com"), f"sip:{SERVER}")
    return tx.final(lambda provisional: tx.cancel()).status


def thinks(request, tx):
    tx.wait(0.7)
    return 200


def asks(sip):
    return sip.client.request(
        "MESSAGE", "sip:bob@example.com", next_hop=f"sip:{SERVER}", body=b"hello"
    ).status


def see(caller, core, seeds, **options):
    """Run this number of networks, and check the invariants of each."""
    for seed in range(int(SEEDS or seeds)):
        watched = Watched(core, seed, **options)
        try:
            try:
                watched.sip.run(caller, watched.sip)
            except TransactionTimeout:
                pass  # too much was lost: an end like another
            watched.finish()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}\n{watched.sip.ladder()}") from error


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("behaviour", "seeds"), NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize(
    ("caller", "core"),
    [
        pytest.param(
            calls,
            answers,
            marks=[pytest.mark.rfc("3261 13.2.2.4"), pytest.mark.rfc("3261 13.3.1.4")],
        ),
        pytest.param(is_refused, refuses, marks=pytest.mark.rfc("3261 17.1.1.2")),
        pytest.param(gives_up, answers, marks=pytest.mark.rfc("3261 9.1")),
        pytest.param(asks, thinks, marks=pytest.mark.rfc("3261 17.1.2.2")),
    ],
    ids=["call", "refused call", "cancelled call", "MESSAGE"],
)
def test_each_transaction_on_a_lossy_network_ends_once(caller, core, behaviour, seeds):
    see(caller, core, seeds, **behaviour)


@pytest.mark.timeout(600)
@pytest.mark.rfc("3261 16.7")
@pytest.mark.parametrize(("behaviour", "seeds"), NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize(
    ("caller", "core"), [(calls, answers), (gives_up, answers)], ids=["call", "cancelled call"]
)
def test_each_transaction_through_a_lossy_proxy_ends_once(caller, core, behaviour, seeds):
    see(caller, core, seeds // 20, proxied=True, **behaviour)


@pytest.mark.parametrize(
    ("caller", "core", "answer"),
    [
        (calls, answers, 200),
        (is_refused, refuses, 486),
        (gives_up, answers, 487),
        (asks, thinks, 200),
    ],
    ids=["call", "refused call", "cancelled call", "MESSAGE"],
)
def test_one_datagram_in_twenty_lost_changes_no_outcome(caller, core, answer):
    outcomes = set()
    for seed in range(30):
        watched = Watched(core, seed, loss=0.05)
        outcomes.add(watched.sip.run(caller, watched.sip))
        watched.finish()
    assert outcomes == {answer}


def test_ringing_invite_takes_no_timers_of_others_at_its_tick(sip):
    """Its timer A is due at the same tick as their timer E, and it has none any more (RFC 6026 figure 5)."""
    sip.serve(answers)
    sip.network.partition("10.0.0.100", "10.0.0.70")
    invite = ClientTransaction(sip.client, Request("INVITE", f"sip:{SERVER}"))
    sip.client._send(invite.request, user=invite)
    options = ClientTransaction(sip.client, Request("OPTIONS", "sip:10.0.0.70"))
    sip.client._send(options.request, user=options)
    sip.advance(0.6)
    assert [c.fate for c in sip.network.trace if c.data.startswith(b"OPTIONS")] == ["cut", "cut"]
