"""Log lines about registrations, and the memory that bindings take."""

from __future__ import annotations

import gc
import logging
import tracemalloc

import pytest

from sippet_gevent import Location, NameAddr, Registrar
from sippet_gevent.message import address, uri
from sippet_gevent.stores import ended_bindings
from sippet_gevent.stores import memory as limits
from sippet_gevent.stores.bindings import address_bytes, compact

from ..wire import Peer

PHONE = "<sip:alice@10.0.0.71:5060>"
DESK = "<sip:alice@10.0.0.72:5060>"


class Phone:
    """Registers users of example.com at a Registrar that serves this domain alone."""

    def __init__(self, sip, caplog, **options):
        caplog.set_level(logging.INFO, "sippet_gevent.core")
        self.sip, self.caplog = sip, caplog
        self.stack = sip.stack(host="10.0.0.1", domains=("example.com",))
        self.location = Location()
        self.stack.on("REGISTER")(Registrar(self.location, **options))
        self.peer = Peer(sip, "10.0.0.71")
        self.number = 0

    def register(self, *contacts, user="alice", domain="example.com", **headers):
        """Send a REGISTER and return its response."""
        self.number += 1
        to = f"<sip:{user}@{domain}>"
        headers = {
            "number": self.number,
            "call_id": "phone",
            "contact": ", ".join(contacts),
        } | headers
        self.peer.ask("REGISTER", f"sip:{domain}", to=to, **headers)
        return self.peer.responses[-1]

    @property
    def lines(self):
        """Return the log lines about registrations, oldest first, and empty the log."""
        lines = [
            record.getMessage()
            for record in self.caplog.records
            if record.getMessage().startswith("registration ")
        ]
        self.caplog.clear()
        return lines


@pytest.fixture
def phone(sip, caplog):
    return Phone(sip, caplog)


# ---- log lines


def test_registration_made_and_refreshed_is_one_line_each(phone):
    phone.register(PHONE)
    phone.register(PHONE, DESK, expires=600)
    end = "source=UDP:10.0.0.71:5060 by=contact call_id=phone"
    assert phone.lines == [
        f"registration made: aor=sip:alice@example.com contact=sip:alice@10.0.0.71:5060 expires=3600 {end}",
        f"registration refreshed: aor=sip:alice@example.com contact=sip:alice@10.0.0.71:5060 expires=600 {end}",
        f"registration made: aor=sip:alice@example.com contact=sip:alice@10.0.0.72:5060 expires=600 {end}",
    ]


@pytest.mark.parametrize("how", ["parameter", "star"])
def test_registration_that_the_phone_ends_is_one_line(phone, how):
    phone.register(PHONE)
    assert phone.lines
    phone.register(f"{PHONE};expires=0" if how == "parameter" else "*", expires=0)
    contact = "contact=sip:alice@10.0.0.71:5060"
    assert phone.lines == [
        f'registration ended: aor=sip:alice@example.com {contact} reason="removed by the phone" call_id=phone'
    ]


def test_registration_that_expires_is_dropped_and_logged_without_a_request(phone):
    phone.register(f"{PHONE};expires=60", f"{DESK};expires=3600")
    assert len(phone.lines) == 2
    phone.sip.advance(60 + limits.END_SECONDS)
    assert phone.lines == [
        'registration ended: aor=sip:alice@example.com contact=sip:alice@10.0.0.71:5060 reason="expired" call_id=phone'
    ]
    phone.sip.advance(3600)
    assert (
        len(phone.lines),
        len(phone.location.store),
        phone.location.store.bytes,
        phone.location.store._ends,
    ) == (
        1,
        0,
        0,
        {},
    )


def test_registration_expires_after_a_restart_of_its_stack(phone):
    phone.register(PHONE)
    phone.register(DESK, user="bob", expires=60)
    phone.stack.stop()
    phone.stack.start()
    phone.register(DESK, user="bob", expires=120, call_id="again")
    phone.sip.advance(4000)
    assert (len(phone.location.store), phone.location.store.bytes) == (0, 0)


def test_many_registrations_that_expire_together_take_several_turns(phone, monkeypatch):
    monkeypatch.setattr(ended_bindings, "ENDS_AT_ONCE", 2)
    for n in range(5):
        phone.register(f"<sip:{n}@10.0.0.71>;expires=60", user=n)
    phone.sip.advance(60 + limits.END_SECONDS)
    assert (len(phone.location.store), phone.location.store._ends) == (0, {})


REFUSALS = [
    ({"domain": "home.example"}, 404, "Not Found", "sippet serve --domain"),
    ({"expires": 5}, 423, "Interval Too Brief", "longer time"),
    ({"require": "nosuch"}, 420, "Bad Extension", ""),
    ({"number": 1}, 500, "Out of Order", "CSeq"),
    ({"contact": f"*, {PHONE}"}, 400, "Contact: * must be the only Contact, with Expires: 0", ""),
    ({"contact": ", ".join(f"<sip:{n}@10.0.0.71>" for n in range(11))}, 403, "Over 10 Contacts", "remove its old"),
    (
        {"contact": '<sip:a@10.0.0.71;ob>;reg-id=1;+sip.instance="<urn:x>"', "supported": "outbound",
         "via": "SIP/2.0/UDP 10.0.0.71:5060;branch=z9hG4bK1, SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK2"},
        439, "First Hop Lacks Outbound Support", "strict_outbound=False",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "status", "reason", "hint"), REFUSALS, ids=[str(row[1]) for row in REFUSALS]
)
def test_registration_refused_is_one_line_with_reason_and_hint(
    phone, headers, status, reason, hint
):
    phone.number = 4
    phone.register(PHONE)
    phone.sip.advance(33)
    assert phone.lines
    assert phone.register(PHONE, **headers).status == status
    (line,) = phone.lines
    assert line.startswith(
        f"registration refused: aor=sip:alice@{headers.get('domain', 'example.com')} status={status} "
    )
    assert (
        f' reason="{reason}" hint="' in line
        and hint in line
        and line.endswith(" source=UDP:10.0.0.71:5060 call_id=phone")
    )


def test_flood_of_registrations_is_ten_lines(phone):
    for n in range(30):
        phone.register(f"<sip:{n}@10.0.0.71>", user=n)
    assert len(phone.lines) == 10


def test_password_of_a_contact_and_line_ends_stay_out_of_the_log(phone):
    phone.register("<sip:alice:secret@10.0.0.71>", call_id="a\u2028b")
    (line,) = phone.lines
    assert "secret" not in line and "\u2028" not in line


# ---- bytes


VOLTE = (
    '<sip:1234@[2001:db8::1]:5060>;+sip.instance="<urn:gsma:imei:35698207-007002-0>";+g.3gpp.icsi-ref="'
    + ",".join(f"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.session{n}" for n in range(12))
    + '";+g.gsma.callcomposer;+g.3gpp.smsip;audio;video;+g.3gpp.mid-call;+g.3gpp.srvcc-alerting;+g.oma.sip-im;q=0.5'
)
LONG = f"<sip:alice@10.0.0.71;x={'y' * 3500}>"


def test_contact_of_a_phone_with_many_feature_tags_has_room(phone):
    path = ", ".join(
        f"<sip:{'t' * 40}@edge{n}.example.com:5061;transport=tls;lr;ob>" for n in range(2)
    )
    assert phone.register(VOLTE, path=path, supported="path").status == 200


@pytest.mark.parametrize(
    "headers", [{"contact": LONG}, {"call_id": "c" * 4096}, {"path": f"<sip:{'e' * 3500}@e;lr>"}]
)
def test_binding_over_4_kb_is_403_and_changes_nothing(phone, headers):
    phone.register(DESK)
    response = phone.register(**({"contact": PHONE} | headers))
    assert (response.status, response.reason) == (403, "Binding Over 4096 Bytes")
    assert [str(binding.contact) for binding in phone.location.get("sip:alice@example.com")] == [
        DESK
    ]


def test_address_of_record_over_16_kb_is_403_until_one_is_removed(phone):
    contacts = [f"<sip:{n}@10.0.0.71;x={'y' * 2500}>" for n in range(5)]
    statuses = [phone.register(contact).status for contact in contacts]
    assert statuses == [200, 200, 200, 200, 403]
    assert phone.peer.responses[-1].reason == "Address-of-Record Over 16384 Bytes"
    phone.register(f"{contacts[0]};expires=0")
    assert phone.register(contacts[4]).status == 200


def test_refused_registration_keeps_no_flow(phone, monkeypatch):
    kept = []
    flow = type(phone.peer._transport.connect(("10.0.0.1", 5060)))
    monkeypatch.setattr(flow, "keep", lambda self, seconds: kept.append(round(seconds)))
    phone.register("<sip:alice@10.0.0.71;ob>", f"<sip:alice@10.0.0.71;ob;x={'y' * 3500}>")
    assert (phone.peer.statuses, kept) == ([403], [])
    phone.register("<sip:alice@10.0.0.71;ob>", expires=600)
    assert (phone.peer.statuses[1:], kept) == ([200], [600])


def test_full_location_is_503_with_retry_after_and_still_refreshes(phone, monkeypatch):
    phone.register(f"{PHONE};expires=60")
    monkeypatch.setattr(limits, "STORE_BYTES", phone.location.store.bytes + 100)
    response = phone.register(PHONE, user="bob")
    assert (response.status, response.retry_after.seconds) == (503, limits.RETRY_SECONDS)
    assert 'status=503 reason="Registrar Full" hint="the store is full' in phone.lines[-1]
    assert phone.register(f"{PHONE};expires=60").status == 200
    assert phone.register(PHONE, DESK).status == 503
    phone.sip.advance(60 + limits.END_SECONDS)
    assert phone.register(PHONE, user="bob").status == 200


SHAPES = {
    "usual": lambda n: f"<sip:u{n}@10.0.0.71:{5000 + n};ob>",
    "64 short parameters": lambda n: (
        f"<sip:u{n}@10.0.0.71{''.join(f';p{i:02}' for i in range(60))}>" + ";a=1;b;c;d"
    ),
    "long": lambda n: f"<sip:{n}{'u' * 2000}@10.0.0.71>",
    "escaped": lambda n: f"<sip:{n}{'%41' * 300}@10.0.0.71>",
    "four bytes a character": lambda n: f'"{n}\U0001f600{"x" * 300}" <sip:u{n}@10.0.0.71>',
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("path", ["", "<sip:edge1.example.com;lr>, <sip:edge2.example.com;lr;ob>"])
def test_memory_of_bindings_is_at_most_what_is_counted(phone, shape, path):
    via = "SIP/2.0/UDP 10.0.0.71:5060;rport;branch=z9hG4bK"

    def register(first, users):
        for n in range(first, first + users):
            contacts = ", ".join(SHAPES[shape](4 * n + i) for i in range(2))
            more = {"path": path, "supported": "path"} if path else {}
            assert (
                phone.register(
                    contacts, user=n, call_id=f"call-{n}", via=f"{via}{n}", **more
                ).status
                == 200
            )
            phone.peer.received.clear()
            phone.sip.network.trace.clear()
            phone.sip._exchange.clear()
        phone.sip.advance(40)  # its transactions are over
        phone.caplog.clear()
        address._known.cache_clear()
        uri._remembered.cache_clear()
        gc.collect()

    register(0, 10)
    counted = phone.location.store.bytes
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        register(100, 60)
        real = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    counted = phone.location.store.bytes - counted
    assert counted / 4 < real < counted


@pytest.mark.parametrize("text", [
    PHONE, VOLTE, '"A \\" B" <sip:a%3Bb:pw@10.0.0.71;transport=tcp;x=%41?Subject=a%20b>;q=0.5;expires=60;n="a;b,c"',
])  # fmt: skip
def test_compact_address_reads_and_formats_as_it_did(text):
    before = NameAddr.parse(text)
    after = compact(before)
    assert (after, str(after), hash(after), compact(after)) == (
        before,
        str(before),
        hash(before),
        after,
    )
    assert dict(after.parameters) == dict(before.parameters) and dict(after.uri.headers) == dict(
        before.uri.headers
    )
    assert after.uri.parameters.get("transport") == before.uri.parameters.get("transport")
    assert str(after.with_params(q=1)) == str(before.with_params(q=1))
    assert str(after.uri.without_params("x")) == str(before.uri.without_params("x"))
    assert address_bytes(after) < 3000
