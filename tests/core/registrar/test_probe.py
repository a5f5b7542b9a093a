"""Probe: phones that answer no OPTIONS any more are unregistered."""

from __future__ import annotations

import logging

import pytest

from sippet_gevent import InvalidValue, Location, Registrar

from ..wire import Peer

AOR = "sip:alice@example.com"


class Office:
    def __init__(self, sip, store=None, **options):
        self.sip = sip
        self.location = Location(store)
        self.events = []
        self.stack = sip.stack(host="10.0.0.1", domains=("example.com",))
        self.registrar = Registrar(self.location, **({"probe": 60} | options))
        self.stack.on("REGISTER")(self.registrar)
        self.location.watch(lambda event: self.events.append(event.kind))
        self.phone = Peer(sip, "10.0.0.71")
        self.number = 0

    def register(self, phone=None, **headers):
        self.number += 1
        phone = phone or self.phone
        headers.setdefault("contact", f"<sip:alice@{phone.host}:5060>")
        phone.ask("REGISTER", "sip:example.com", to=f"<{AOR}>", from_=f"<{AOR}>;tag=1",
                  call_id=f"call-{phone.host}", number=self.number, **headers)  # fmt: skip
        assert phone.responses[-1].status == 200

    @property
    def bound(self):
        return [binding.uri.host for binding in self.location.get(AOR)]


@pytest.mark.rfc("3261 11.1")
@pytest.mark.parametrize("status", [200, 404, 486, 501])
def test_phone_that_answers_stays(sip, status):
    office = Office(sip)
    office.phone.answer = lambda request: status
    office.register()
    sip.advance(590)
    asked = [r for r in office.phone.requests if r.method == "OPTIONS"]
    assert len(asked) == 9
    assert str(asked[0].uri) == "sip:alice@10.0.0.71:5060"
    assert office.bound == ["10.0.0.71"]


def test_phone_without_an_answer_is_removed_after_two_probes(sip, caplog):
    caplog.set_level(logging.INFO, "sippet_gevent")
    office = Office(sip)
    office.register()
    office.phone.answer = lambda request: None
    sip.advance(60 + 33)
    assert office.bound == ["10.0.0.71"]
    sip.advance(60)
    assert office.bound == []
    assert office.events == ["added", "removed"]
    assert "registration probe failed: aor=sip:alice@example.com contact=sip:alice@10.0.0.71" in (
        caplog.text.replace("'", "")
    )


@pytest.mark.parametrize("status", [408, 430])
def test_edge_proxy_that_says_so_counts_as_no_answer(sip, status):
    office = Office(sip)
    edge = Peer(sip, "10.0.0.5", lambda request: status)
    office.register(path="<sip:10.0.0.5;lr>")
    sip.advance(121)
    assert [r.method for r in edge.requests] == ["OPTIONS"] * 2
    assert office.bound == []


def test_phone_that_answers_again_is_counted_anew(sip):
    office = Office(sip)
    office.register()
    answers = iter([None, 200, None, 200, None, None])
    seen = {}

    def answer(request):
        branch = request.via[0].branch
        if branch not in seen:
            seen[branch] = next(answers)
        return seen[branch]

    office.phone.answer = answer
    sip.advance(290)
    assert office.bound == ["10.0.0.71"]
    sip.advance(150)
    assert office.bound == []


def test_register_is_a_proof_of_life(sip):
    office = Office(sip)
    office.phone.answer = lambda request: None
    for _ in range(10):
        office.register()
        sip.advance(50)
    assert not [r for r in office.phone.requests if r.method == "OPTIONS"]
    assert office.bound == ["10.0.0.71"]


def test_register_during_a_probe_keeps_the_binding(sip):
    office = Office(sip)
    office.phone.answer = lambda request: None
    office.register()
    sip.advance(60 + 60 + 10)  # within the second probe
    office.register()
    sip.advance(50)
    assert office.bound == ["10.0.0.71"]


def test_binding_that_has_ended_is_not_probed(sip):
    office = Office(sip)
    office.register()
    office.register(expires="0")
    sip.advance(200)
    assert not office.phone.requests
    assert len(office.registrar._probe) == 0


def test_many_phones_are_probed_in_portions(sip):
    Office(sip)
    phones = [Peer(sip, f"10.0.1.{n}", lambda request: 200) for n in range(9)]
    for user in range(12):
        for phone in phones:
            phone.ask("REGISTER", "sip:example.com", to=f"<sip:{user}@example.com>",
                      contact=f"<sip:{user}@{phone.host}:5060>", call_id=f"{user}-{phone.host}")  # fmt: skip
    sip.advance(61)
    assert sum(len(phone.requests) for phone in phones) == 108


def test_probes_end_with_the_stack_and_begin_again(sip):
    office = Office(sip)
    office.phone.answer = lambda request: 200
    office.register()
    office.stack.stop()
    sip.advance(100)
    assert not office.phone.requests
    office.stack.start()
    office.register()
    sip.advance(61)
    assert [r.method for r in office.phone.requests] == ["OPTIONS"]


@pytest.mark.parametrize(
    ("value", "error"), [(0, InvalidValue), (-1, InvalidValue), ("x", TypeError)]
)
def test_wrong_probe_is_refused(value, error):
    with pytest.raises(error):
        Registrar(Location(), probe=value)
