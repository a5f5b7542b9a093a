"""The code of docs/howto/registrations.md and carrier-trunk.md, with a carrier that asks for passwords."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import gevent
import pytest

from sippet_gevent import Account, Authenticated, Location, Registrar, StaticResolver

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


# ---- docs/howto/carrier-trunk.md

OFFER = b"v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\ns=-\r\nc=IN IP4 10.0.0.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


@pytest.fixture
def taking(sip):
    """A carrier that registers, and answers calls."""
    heard = []

    def core(request, tx):
        heard.append(request)
        if request.method == "REGISTER":
            return request.response(200, contact=request.contact[0].with_params(expires=600))
        if request.method == "INVITE":
            with tx.accept(body=OFFER) as call:
                call.ended.wait()
            return None
        return 200

    stack = sip.stack(core, host="10.0.0.1")
    stack.heard = heard
    return stack


def trunk_of(sip, shown):
    resolver = StaticResolver({"sbc.carrier.example": ["10.0.0.1"]})
    shown.stack.resolver = resolver
    return shown, sip.serve(shown.stack)


def test_trunk_block_calls_the_carrier_for_phones_alone(sip, taking):
    shown, stack = trunk_of(sip, block("trunk"))
    sip.clock.advance(1)
    assert shown.carrier.is_up and {r.method for r in taking.heard} == {"REGISTER", "OPTIONS"}
    host = stack.addresses[0].removeprefix("udp:")
    shown.PHONES.add("10.0.0.9")
    phone, stranger = sip.stack(host="10.0.0.9"), sip.stack(host="10.0.0.66")
    asked = gevent.spawn(stranger.request, "INVITE", f"sip:+4930@{host}", body=OFFER)
    sip.clock.advance(1)
    assert asked.get(timeout=0).status == 403
    calling = gevent.spawn(phone.invite, f"sip:+4930@{host}", body=OFFER)
    sip.clock.advance(2)
    call = calling.get(timeout=0)
    assert str(taking.heard[-1].uri) == "sip:+4930@carrier.example"
    assert taking.heard[-1].from_.display == "Example Ltd"
    hanging = gevent.spawn(call.hangup)
    sip.clock.advance(5)
    hanging.get(timeout=0)


def test_carriers_block_tries_the_next_carrier(sip, taking):
    shown, stack = trunk_of(sip, block("trunk"))
    sip.clock.advance(1)
    again = block("carriers")
    down = Account("sip:1@10.0.0.77", register=False)
    stack.accounts.add(down)
    stack.methods.handlers.pop("INVITE", None)
    stack.on("INVITE")(
        lambda request, tx: again.call_by_any([down, shown.carrier], request, tx) and None
    )
    sip.stack(lambda request, tx: 503, host="10.0.0.77")
    phone = sip.stack(host="10.0.0.9")
    calling = gevent.spawn(
        phone.invite, f"sip:+4930@{stack.addresses[0].removeprefix('udp:')}", body=OFFER
    )
    sip.clock.advance(3)
    call = calling.get(timeout=0)
    hanging = gevent.spawn(call.hangup)
    sip.clock.advance(5)
    hanging.get(timeout=0)


def test_accounts_block_loads_rows(tmp_path):
    path = tmp_path / "accounts.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE accounts (aor TEXT, password TEXT)")
        database.execute("INSERT INTO accounts VALUES ('sip:100@carrier.example', 'secret')")
    shown = block("accounts")
    (account,) = shown.load(path)
    assert account.credentials.hosts == ("carrier.example",)
    assert [*shown.stack.accounts] == [account]


def test_by_address_and_flows_blocks_make_accounts():
    assert not block("by_address").trunk.registers
    assert [each.host for each in block("flows").carrier.outbound_proxies] == [
        "a.carrier.example",
        "b.carrier.example",
    ]
