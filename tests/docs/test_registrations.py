"""The code of docs/howto/registrations.md, with a carrier that asks for passwords."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import Authenticated, Location, Registrar, StaticResolver

from .blocks import block

USERS = {"100": "secret", "101": "other"}


@pytest.fixture
def location():
    return Location()


@pytest.fixture
def carrier(sip, location):
    registrar = Registrar(location)

    def core(request, tx):
        return registrar(request, tx) if request.method == "REGISTER" else 200

    asking = Authenticated(core, realm="carrier.example", users=USERS)
    return sip.stack(asking, host="10.0.0.1", domains=("carrier.example",))


def moved(sip, shown):
    shown.stack.resolver = StaticResolver({"carrier.example": ["10.0.0.1"]})
    return sip.serve(shown.stack)


def test_registration_block_registers_and_unregisters(sip, carrier, location, capsys):
    shown = block("registration")
    moved(sip, shown)
    greenlet = gevent.spawn(shown.main)
    sip.clock.advance(30)
    greenlet.get(timeout=0)
    lines = capsys.readouterr().out.splitlines()
    assert "<Registration sip:100@carrier.example registered> " in lines
    assert "200" in lines
    assert location.get("sip:100@carrier.example") == ()


def test_registrations_block_registers_all_accounts(sip, carrier, location):
    shown = block("registrations")
    stack = moved(sip, shown)
    registrations = shown.register_all()
    sip.clock.advance(5)
    assert all(registration.registered for registration in registrations)
    assert len(location.get("sip:101@carrier.example")) == 1
    stack.stop()
    sip.clock.advance(1)
    assert location.get("sip:101@carrier.example") == ()
