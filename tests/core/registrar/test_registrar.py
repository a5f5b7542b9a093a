"""Registrar and Location: REGISTER step by step, RFC 3261 §10.3."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import URI, InvalidValue, Location, Registrar, Request, Watchers, forward
from sippet_gevent.stores import memory as limits
from sippet_gevent.stores.bindings import CONTACTS
from sippet_gevent.transport.memory import MemoryFlow

from ..wire import Peer

AOR = "sip:alice@example.com"
PHONE = "sip:alice@10.0.0.71:5060"
DESK = "sip:alice@10.0.0.72:5060"


class Phone:
    """Registers alice, with one Call-ID and an increasing CSeq."""

    def __init__(self, sip, **options):
        self.sip = sip
        self.stack = sip.stack(host="10.0.0.1")
        self.location = Location()
        self.stack.on("REGISTER")(Registrar(self.location, **options))
        self.peer = Peer(sip, "10.0.0.71")
        self.number = 0

    def register(self, *contacts, to=f"<{AOR}>", **headers):
        """Send a REGISTER and return its response."""
        self.number += 1
        headers.setdefault("number", self.number)
        headers.setdefault("call_id", "phone")
        if contacts:
            headers["contact"] = ", ".join(contacts)
        self.peer.ask("REGISTER", "sip:example.com", to=to, from_=f"<{AOR}>;tag=1", **headers)
        return self.peer.responses[-1]

    @property
    def bound(self):
        """Return URIs and remaining seconds, best first."""
        now = self.stack.clock.wall()
        return {str(b.uri): round(b.expires_at - now) for b in self.location.get(AOR)}


@pytest.fixture
def phone(sip):
    return Phone(sip)


def listed(response):
    """The Contacts of the 200, with their expires parameters."""
    return {str(contact.uri): int(contact.parameters["expires"]) for contact in response.contact}


# ---- steps 3 to 5: the address-of-record


@pytest.mark.rfc("3261 25.1", "5626 4.1")
def test_register_with_a_quoted_urn_after_an_unbracketed_contact_is_200(phone):
    contact = f'{PHONE};+sip.instance="<urn:uuid:00000000-0000-4000-8000-000000000001>"'
    response = phone.register(contact)
    assert (response.status, phone.bound) == (200, {PHONE: 3600})
    assert response.contact[0].instance == "urn:uuid:00000000-0000-4000-8000-000000000001"


@pytest.mark.rfc("3261 10.3", "3261 25.1")
@pytest.mark.parametrize("host", ["example..com", "[1::2::3]", "[12345::1]", "1.2.3"])
def test_contact_with_an_invalid_host_is_400_and_binds_nothing(phone, host):
    assert phone.register(PHONE, f"<sip:bob@{host}>").status == 400
    assert phone.register(PHONE, to=f"<sip:alice@{host}>").status == 400
    assert phone.bound == {}


@pytest.mark.rfc("5118 4.10")
def test_contact_with_three_colons_before_an_ipv4_address_is_bound_once(phone):
    phone.register("<sip:alice@[2001:db8:::192.0.2.1]>")
    phone.register("<sip:alice@[2001:db8::192.0.2.1]>")
    assert phone.bound == {"sip:alice@[2001:db8::192.0.2.1]": 3600}


@pytest.mark.rfc("3261 10.3")
@pytest.mark.parametrize(
    "to", ["<tel:+12125551212>", "<mailto:alice@example.com>", "<urn:service:sos>"]
)
def test_address_of_record_of_another_scheme_is_404(phone, to):
    assert phone.register(f"<{PHONE}>", to=to).status == 404


@pytest.mark.rfc("3261 10.3")
@pytest.mark.parametrize(
    "to",
    [
        "<sip:alice@EXAMPLE.com>",
        "<sip:alice@example.com;transport=udp>",
        "<sip:%61lice@example.com>",
    ],
)
def test_address_of_record_is_compared_in_canonical_form(phone, to):
    phone.register(f"<{PHONE}>", to=to)
    assert list(phone.bound) == [PHONE]


@pytest.mark.rfc("3261 10.3")
def test_address_of_record_is_case_sensitive_in_the_user(phone):
    phone.register(f"<{PHONE}>", to="<sip:Alice@example.com>")
    assert phone.bound == {}


@pytest.mark.rfc("3261 10.3")
def test_other_methods_are_405(phone):
    phone.stack.on("MESSAGE")(Registrar(phone.location))
    phone.peer.ask("MESSAGE")
    assert phone.peer.statuses == [405]


# ---- step 6: no Contact, and *


@pytest.mark.rfc("3261 10.3")
def test_register_without_contact_lists_the_bindings(phone):
    phone.register(f"<{PHONE}>")
    assert listed(phone.register()) == {PHONE: 3600}


def test_nothing_bound_is_an_empty_200(phone):
    response = phone.register()
    assert (response.status, "Contact" in response.headers) == (200, False)


@pytest.mark.rfc("3261 10.3")
def test_star_removes_all_bindings(phone):
    phone.register(f"<{PHONE}>", f"<{DESK}>")
    response = phone.register("*", expires=0)
    assert (response.status, phone.bound, len(phone.location.store)) == (200, {}, 0)


@pytest.mark.rfc("3261 10.3")
@pytest.mark.parametrize(
    ("contacts", "headers"),
    [
        (("*",), {}),
        (("*",), {"expires": 60}),
        (("*", f"<{PHONE}>"), {"expires": 0}),
        ((f"<{PHONE}>", "*"), {"expires": 0}),
    ],
)
def test_star_with_anything_else_is_400_and_removes_nothing(phone, contacts, headers):
    phone.register(f"<{DESK}>")
    assert phone.register(*contacts, **headers).status == 400
    assert list(phone.bound) == [DESK]


@pytest.mark.rfc("3261 10.3")
def test_star_that_is_older_than_a_binding_removes_nothing(phone):
    phone.register(f"<{PHONE}>", number=5)
    assert phone.register("*", expires=0, number=4).status == 500
    assert list(phone.bound) == [PHONE]


# ---- step 7: add, refresh, remove


@pytest.mark.rfc("3261 10.3")
def test_contact_is_bound_and_listed(phone):
    assert listed(phone.register(f"<{PHONE}>")) == {PHONE: 3600}


@pytest.mark.rfc("3261 10.3")
def test_second_contact_is_added(phone):
    phone.register(f"<{PHONE}>")
    assert set(listed(phone.register(f"<{DESK}>"))) == {PHONE, DESK}


@pytest.mark.rfc("3261 10.3")
def test_contact_registered_again_is_refreshed(phone):
    phone.register(f"<{PHONE}>")
    phone.sip.advance(3000)
    assert listed(phone.register(f"<{PHONE}>")) == {PHONE: 3600}


@pytest.mark.rfc("3261 19.1.4")
def test_contact_that_is_equivalent_is_the_same_binding(phone):
    phone.register("<sip:alice@phone.example.com;transport=udp>")
    phone.register("<sip:alice@PHONE.example.com;transport=UDP>")
    assert len(phone.bound) == 1


@pytest.mark.rfc("3261 10.3")
@pytest.mark.parametrize("how", ["parameter", "header"])
def test_expires_of_zero_removes_one_contact(phone, how):
    phone.register(f"<{PHONE}>", f"<{DESK}>")
    response = (
        phone.register(f"<{PHONE}>;expires=0")
        if how == "parameter"
        else phone.register(f"<{PHONE}>", expires=0)
    )
    assert list(listed(response)) == [DESK]


@pytest.mark.rfc("3261 10.2.2")
def test_expires_of_zero_for_an_unbound_contact_is_no_error(phone):
    assert phone.register(f"<{PHONE}>;expires=0").status == 200


@pytest.mark.rfc("3261 10.3")
def test_contact_given_twice_counts_once_with_its_last_value(phone):
    phone.register(f"<{PHONE}>;expires=100", f"<{PHONE}>;expires=200")
    assert phone.bound == {PHONE: 200}


@pytest.mark.rfc("3261 10.3")
def test_parameters_of_the_contact_are_in_the_answer(phone):
    response = phone.register(f'"Alice" <{PHONE}>;q=0.5;+sip.instance="<urn:uuid:1>"')
    text = response.headers["Contact"]
    assert text.startswith(f'"Alice" <{PHONE}>;q=0.5;+sip.instance="<urn:uuid:1>";expires=')


@pytest.mark.rfc("3261 20.17")
def test_answer_has_the_date(phone):
    assert "Date" in phone.register(f"<{PHONE}>").headers


# ---- step 7: order


@pytest.mark.rfc("3261 10.3")
@pytest.mark.parametrize("number", [4, 5])
def test_register_that_is_no_newer_changes_nothing(phone, number):
    phone.register(f"<{PHONE}>;expires=1000", number=5)
    phone.sip.advance(
        33
    )  # after the first REGISTER's transaction has ended, because it would be merged otherwise
    assert phone.register(f"<{PHONE}>;expires=2000", number=number).status == 500
    assert phone.bound == {PHONE: 967}


@pytest.mark.rfc("3261 10.3")
def test_register_of_another_call_id_is_newer(phone):
    phone.register(f"<{PHONE}>;expires=1000", number=5)
    phone.register(f"<{PHONE}>;expires=2000", number=1, call_id="after-a-restart")
    assert phone.bound == {PHONE: 2000}


@pytest.mark.rfc("3261 10.3")
def test_register_older_than_one_of_its_contacts_changes_none(phone):
    phone.register(f"<{PHONE}>", number=5)
    assert phone.register(f"<{DESK}>", f"<{PHONE}>", number=4).status == 500
    assert list(phone.bound) == [PHONE]


# ---- expiration


@pytest.mark.rfc("3261 10.3")
def test_binding_ends_when_it_expires(phone):
    phone.register(f"<{PHONE}>;expires=100", f"<{DESK}>;expires=200")
    phone.sip.advance(100)
    assert list(phone.bound) == [DESK]


def test_answer_has_the_remaining_seconds(phone):
    phone.register(f"<{PHONE}>;expires=100")
    phone.sip.advance(40)
    assert listed(phone.register()) == {PHONE: 60}


@pytest.mark.rfc("3261 10.2.1.1")
def test_expires_of_the_contact_overrides_the_header_field(phone):
    phone.register(f"<{PHONE}>;expires=100", f"<{DESK}>", expires=200)
    assert phone.bound == {PHONE: 100, DESK: 200}


@pytest.mark.rfc("3261 10.3")
def test_expires_is_the_default_when_none_is_given(sip):
    phone = Phone(sip, default_expires=1800)
    phone.register(f"<{PHONE}>")
    assert phone.bound == {PHONE: 1800}


@pytest.mark.rfc("3261 10.3")
@pytest.mark.parametrize("wanted", ["99999", "4294967295", "99999999999999999999"])
def test_too_long_expires_is_shortened(sip, wanted):
    phone = Phone(sip, max_expires=7200)
    phone.register(f"<{PHONE}>;expires={wanted}")
    assert phone.bound == {PHONE: 7200}


@pytest.mark.rfc("3261 10.3")
def test_too_brief_expires_is_423_and_binds_nothing(phone):
    response = phone.register(f"<{DESK}>", f"<{PHONE}>;expires=59")
    assert (response.status, int(response.min_expires), phone.bound) == (423, 60, {})


@pytest.mark.rfc("3261 10.3")
def test_expires_of_an_hour_is_never_too_brief(sip):
    phone = Phone(sip, min_expires=7200)
    assert phone.register(f"<{PHONE}>;expires=3600").status == 200


@pytest.mark.rfc("3261 10.2.1.1")
@pytest.mark.parametrize("text", ["soon", "-1", "1.5"])
def test_invalid_expires_is_an_hour(phone, text):
    phone.register(f"<{PHONE}>;expires={text}")
    assert phone.bound == {PHONE: 3600}


# ---- q


@pytest.mark.rfc("3261 16.6")
def test_bindings_are_in_the_order_of_q(phone):
    phone.register(f"<{PHONE}>;q=0.3", f"<{DESK}>;q=0.7", "<sip:alice@10.0.0.73>")
    assert list(phone.bound) == ["sip:alice@10.0.0.73", DESK, PHONE]


def test_newest_of_equal_q_is_first(phone):
    phone.register(f"<{PHONE}>")
    phone.register(f"<{DESK}>")
    assert list(phone.bound) == [DESK, PHONE]


@pytest.mark.parametrize("q", ["1.5", "high", "-1"])
def test_invalid_q_is_400_and_binds_nothing(phone, q):
    assert phone.register(f"<{PHONE}>;q={q}").status == 400
    assert phone.bound == {}


# ---- Path, RFC 3327


@pytest.mark.rfc("3327 5.3")
def test_path_is_stored_and_returned(phone):
    response = phone.register(f"<{PHONE}>", path="<sip:edge.example.com;lr>", supported=("path",))
    (binding,) = phone.location.get(AOR)
    assert [str(p.uri) for p in binding.path] == ["sip:edge.example.com;lr"]
    assert [str(p.uri) for p in response.path] == ["sip:edge.example.com;lr"]


# ---- limits


def test_too_many_contacts_are_403_and_change_nothing(phone):
    phone.register(f"<{PHONE}>")
    many = [f"<sip:alice@10.0.1.{n}>" for n in range(CONTACTS)]
    assert phone.register(*many).status == 403
    assert list(phone.bound) == [PHONE]


def test_removed_contact_makes_room(phone):
    phone.register(*[f"<sip:alice@10.0.1.{n}>" for n in range(CONTACTS)])
    assert phone.register("<sip:alice@10.0.1.0>;expires=0", f"<{PHONE}>").status == 200


def test_location_is_bounded(phone, monkeypatch):
    monkeypatch.setattr(limits, "ADDRESSES", 1)
    phone.register(f"<{PHONE}>")
    response = phone.register(f"<{PHONE}>", to="<sip:bob@example.com>")
    assert (response.status, "Retry-After" in response.headers) == (503, True)


def test_full_location_refreshes_known_addresses(phone, monkeypatch):
    monkeypatch.setattr(limits, "ADDRESSES", 1)
    phone.register(f"<{PHONE}>")
    assert phone.register(f"<{PHONE}>").status == 200


def test_full_location_removes_expired_bindings(phone, monkeypatch):
    monkeypatch.setattr(limits, "ADDRESSES", 1)
    phone.register(f"<{PHONE}>;expires=60")
    phone.sip.advance(61)
    assert phone.register(f"<{PHONE}>", to="<sip:bob@example.com>").status == 200


def test_lookup_finds_the_bindings_of_a_request_uri(phone):
    phone.register(f"<{PHONE}>")
    found = phone.location.lookup(URI.parse("sip:alice@example.com:5060;user=phone"))
    assert [str(b.uri) for b in found] == [PHONE]


class Store:
    """A store of an application: a dict."""

    def __init__(self, clock):
        self.now, self.kept = clock.wall, {}
        self.watch = Watchers().add

    def update(self, aor, change):
        self.kept[aor] = change(self.kept.get(aor, ()))
        return self.kept[aor]

    def lookup(self, aor):
        return self.kept.get(aor, ())

    def find(self, contact):
        return list(self.kept)

    def expire(self, now, limit):
        return ()


def test_store_of_the_application_is_served(sip):
    store = Store(sip.clock)
    stack = sip.stack(host="10.0.0.1")
    location = Location(store)
    stack.on("REGISTER")(Registrar(location))
    peer = Peer(sip, "10.0.0.71")
    peer.ask("REGISTER", "sip:example.com", to=f"<{AOR}>", contact=f"<{PHONE}>")
    assert peer.statuses == [200]
    assert [str(b.uri) for b in store.kept[AOR]] == [PHONE]
    found = []
    gevent.spawn(lambda: found.extend(location.lookup_contact(URI.parse(PHONE)))).join()
    assert [str(b.uri) for b in found] == [PHONE]


# ---- all or nothing


@pytest.mark.rfc("3261 10.3", "3261 8.2")
@pytest.mark.parametrize(
    ("second", "headers", "status"),
    [
        (f"<{DESK}>;expires=5", {}, 423),
        ("*", {}, 400),
        (f"<{DESK}>", {"require": "nosuch"}, 420),
    ],
)
def test_register_that_is_refused_binds_nothing_and_keeps_no_flow(
    phone, monkeypatch, second, headers, status
):
    kept = []
    monkeypatch.setattr(MemoryFlow, "keep", lambda flow, seconds: kept.append(seconds))
    response = phone.register(f"<{PHONE};ob>", second, **headers)
    assert (response.status, phone.bound, kept) == (status, {}, [])


@pytest.mark.rfc("3261 10.3")
def test_register_that_the_store_refuses_keeps_no_flow(phone, monkeypatch):
    kept = []
    monkeypatch.setattr(MemoryFlow, "keep", lambda flow, seconds: kept.append(seconds))
    monkeypatch.setattr(limits, "ADDRESSES", 0)
    assert phone.register(f"<{PHONE};ob>").status == 503
    assert (phone.bound, kept) == ({}, [])


def test_flow_is_kept_as_long_as_its_binding(phone, monkeypatch):
    kept = []
    monkeypatch.setattr(MemoryFlow, "keep", lambda flow, seconds: kept.append(seconds))
    phone.register(f"<{PHONE};ob>;expires=120")
    assert [round(seconds) for seconds in kept] == [120]


@pytest.mark.rfc("3261 10.3")
def test_register_whose_answer_cannot_be_written_binds_nothing(phone, monkeypatch):
    respond = Request.response

    def refuse(request, status, *arguments, **headers):
        if status == 200:
            raise InvalidValue("cannot be written")
        return respond(request, status, *arguments, **headers)

    monkeypatch.setattr(Request, "response", refuse)
    assert phone.register(f"<{PHONE}>").status == 500
    monkeypatch.undo()
    assert phone.bound == {}
    phone.sip.advance(40)


@pytest.mark.rfc("3261 16.3", "3261 18.2.1")
@pytest.mark.parametrize(
    "below", ["SIP/2.0/UDP 2001:db8::8:5060;branch=0", 'x;"', "SIP/2.0/UDP h:0"]
)
@pytest.mark.parametrize("joined", [False, True])
def test_register_with_an_invalid_lower_via_is_served(phone, below, joined):
    request = phone.peer.request("REGISTER", "sip:example.com", to=f"<{AOR}>", contact=f"<{PHONE}>")
    top = request.headers["Via"]
    request.headers["Via"] = [f"{top}, {below}"] if joined else [top, below]
    phone.peer.send(request)
    answer = phone.peer.responses[-1]
    assert (answer.status, list(phone.bound), answer.headers.all("Via")) == (
        200,
        [PHONE],
        request.headers.all("Via"),
    )


@pytest.mark.rfc("3261 16.3")
def test_edge_proxy_passes_a_register_with_invalid_lower_vias(sip, phone):
    """The phone gets the registrar's response, not 502."""
    sip.stack(
        lambda request, tx: forward(request, tx, next_hop="sip:10.0.0.1", add_path=True), "10.0.0.2"
    )
    request = phone.peer.request("REGISTER", "sip:example.com", to=f"<{AOR}>", contact=f"<{PHONE}>")
    request.headers["Via"] = [request.headers["Via"], "SIP/2.0/UDP 2001:db8::8:5060;branch=0"]
    phone.peer.send(request, to="10.0.0.2")
    assert (phone.peer.responses[-1].status, list(phone.bound)) == (200, [PHONE])
