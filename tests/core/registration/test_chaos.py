"""Registrations and accounts under attack: registrars that lie, are late or silent, clocks that jump, ends at any moment."""

from __future__ import annotations

import random

import gevent
import pytest

from sippet_gevent import Account, Credentials, Middleware
from tests.core.auth.gate import Gate
from tests.core.registration.test_registration import INSTANCE, Script

ANSWERS = (
    None, None, None, (200, {}), (200, {"contact": "<sip:x@192.0.2.1>;expires=60"}),
    (200, {"contact": "<sip:x@192.0.2.1>;expires=0"}), (401, {}), (403, {}), (423, {}),
    (423, {"min_expires": 90}), (439, {}), (500, {}), (503, {"retry_after": 0}),
    (503, {"retry_after": 40}), (599, {}), (600, {}),
)  # fmt: skip


class Lying(Script):
    """A registrar that answers at random, at once, late, twice, or not at all."""

    def __init__(self, chance):
        super().__init__(expires=70)
        self.chance = chance

    def __call__(self, request, tx):
        what = self.chance.random()
        if what < 0.1:
            tx.wait(self.chance.choice((1, 5, 31)))  # late
        answer = self.chance.choice(ANSWERS)
        if answer is None:
            return self.accept(request)
        status, headers = answer
        return request.response(status, **headers)


class Raising(Middleware):
    def __init__(self, chance):
        self.chance = chance

    def send(self, request, send):
        if self.chance.random() < 0.05:
            raise KeyError("application")
        return send(request)


def account_of(chance, number):
    options = {"expires": chance.choice((60, 70, 3600))}
    if chance.random() < 0.3:
        options["instance"] = INSTANCE
        if chance.random() < 0.5:
            options["outbound_proxy"] = ("sip:10.0.0.1", "sip:10.0.0.2")
    if chance.random() < 0.3:
        options["keep_up"] = chance.choice((20, 60))
    if chance.random() < 0.2:
        options["register"] = False
        options.pop("instance", None)
        options["outbound_proxy"] = "sip:10.0.0.1"
    if chance.random() < 0.2:
        options["public_contact"] = True
    return Account(f"sip:{number}@10.0.0.1", Credentials("100", "secret"), **options)


def chaos(sip, seed):
    chance = random.Random(seed)
    lying = Lying(chance)
    for host in ("10.0.0.1", "10.0.0.2"):
        core = Gate(lying, realm="r", uses=chance.choice((1, 3, 100)))
        sip.stack(core if chance.random() < 0.5 else lying, host=host)
    stack = sip.stack(host="10.0.0.50")
    stack.use(Raising(chance))
    accounts, closing = [], []
    for step in range(30):
        what = chance.random()
        if what < 0.35 or not accounts:
            accounts.append(stack.accounts.add(account_of(chance, step)))
        elif what < 0.55:
            account = accounts.pop(chance.randrange(len(accounts)))
            for _ in range(chance.choice((1, 1, 2))):  # also twice at the same time
                closing.append(gevent.spawn(account.close, chance.choice((0, 1, 4))))
        elif what < 0.7:
            chance.choice(accounts).refresh()
        elif what < 0.8:
            sip.network.loss = chance.choice((0.0, 0.3, 1.0))
        elif what < 0.85:
            waiting = gevent.spawn(chance.choice(accounts).wait, 5)
            closing.append(waiting)
            if chance.random() < 0.5:
                gevent.sleep(0)
                waiting.kill(block=False)
        sip.clock.advance(chance.choice((0, 0.01, 0.5, 3, 33, 100, 700)))
    sip.network.loss = 0.0
    if chance.random() < 0.5:
        for account in accounts:
            closing.append(gevent.spawn(account.close))
        sip.clock.advance(100)
        assert not len(stack.accounts) and not stack.accounts._by_peer
    stack.stop()
    sip.clock.advance(100)
    for greenlet in closing:
        assert greenlet.ready() and (greenlet.exception is None)
    table = stack.registrations
    assert not len(table) and not table._by_flow and not table._turns._lanes
    assert not len(stack.accounts.probes) and not len(stack.callbacks)
    assert table._turns.load == 0
    assert not any(stack.deadlines._batches.values())


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_left_after_chaos(sip, seed):
    chaos(sip, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_nothing_is_left_after_more_chaos(sip, seed):
    chaos(sip, seed)
