"""Requests to the Contact of one phone, as attended transfers send them, RFC 5589 and RFC 3261 §19.1.4; the index behind them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sippet_gevent import URI, MemoryBindings, NameAddr, Reject
from sippet_gevent.stores.bindings import Binding
from sippet_gevent.stores.contacts import SHARED, ContactIndex

from ..conformance.test_flows import DOMAIN, KINDS, Office
from ..core.wire import Peer


@pytest.fixture
def office(sip):
    return Office(sip)


@pytest.fixture
def phones(office):
    """Make registered phones: `phones("browser", "bob")`, with no requests received yet."""

    def make(kind, name, **headers):
        return office.phone(kind, name).register(**headers)

    return make


# ---- the default server


@pytest.mark.rfc("5589 7.3", "5626 5.3")
@pytest.mark.parametrize("kind", KINDS)
def test_attended_transfer_reaches_the_phone_whose_contact_it_names(phones, kind):
    alice, bob = phones("plain", "alice"), phones(kind, "bob")
    alice.ask("INVITE", bob.uri, replaces="1@bob;to-tag=a;from-tag=b")
    invite = bob.last("INVITE")
    assert (invite.uri_text, str(invite.replaces)) == (bob.uri, "1@bob;to-tag=a;from-tag=b")
    bob.reply(invite, 200, contact=f"<{bob.uri}>")
    ok = alice.responses[-1]
    assert ok.record_route
    alice.send(alice.within(alice.request("INVITE", bob.uri, call_id=invite.call_id, from_=invite.from_), ok, "ACK",
                            route=tuple(reversed(ok.record_route))))  # fmt: skip
    assert bob.methods == ["INVITE", "ACK"]


@pytest.mark.rfc("3261 19.1.4")
@pytest.mark.parametrize("method", ["MESSAGE", "OPTIONS", "SUBSCRIBE", "REFER"])
def test_request_of_any_method_reaches_the_one_phone_of_two(phones, office, method):
    alice, first = phones("plain", "alice"), phones("browser", "bob")
    second = office.phone("browser", "bob").register(call_id="second")
    alice.ask(method, second.uri.replace("bob", "%62ob", 1) + ";ob")
    assert (first.methods, second.methods) == ([], [method])
    second.reply(second.last(method), 200)
    assert alice.statuses == [200]


@pytest.mark.rfc("3261 19.1.4", "3261 16.5")
@pytest.mark.parametrize(
    "change",
    [
        ("bob@", "BOB@"),
        ("bob@", ""),
        ("sip:", "sips:"),
        (":5060", ""),
        (":5060", ":5061"),
        (":5060", ":5060;transport=tcp"),
        ("bob@", "bob:1@"),
    ],
    ids="user no-user scheme no-port port transport password".split(),
)
def test_uri_that_differs_from_the_contact_reaches_nothing(phones, change):
    alice, bob = phones("plain", "alice"), phones("plain", "bob")
    alice.ask("MESSAGE", bob.uri.replace(*change))
    assert bob.received == []
    assert alice.statuses == [416 if change == ("sip:", "sips:") else 404]


def test_unregistered_uri_reaches_nothing(sip, phones):
    alice, stranger = phones("plain", "alice"), Peer(sip, "192.0.2.99")
    alice.ask("MESSAGE", stranger.uri)
    assert (stranger.received, alice.statuses) == ([], [404])


@pytest.mark.parametrize("end", ["removed", "expired", "closed"])
def test_contact_whose_binding_has_ended_reaches_nothing(sip, office, phones, end):
    alice, bob = phones("plain", "alice"), phones("browser", "bob", expires=90)
    if end == "removed":
        bob.register(expires=0)
    elif end == "expired":
        sip.advance(91)
    else:
        office.flow(bob).end()
    alice.ask("MESSAGE", bob.uri)
    assert (bob.received, alice.statuses) == ([], [404])
    assert len(office.stack.core.location.store._contacts) == 1  # those of alice


def test_request_within_a_dialog_that_we_did_not_route_is_481(phones):
    alice, bob = phones("plain", "alice"), phones("plain", "bob")
    alice.ask("BYE", bob.uri, to=f"<{bob.uri}>;tag=1")
    assert (bob.received, alice.statuses) == ([], [481])


def test_route_that_leads_on_from_a_contact_is_403(sip, phones):
    alice, bob, stranger = phones("plain", "alice"), phones("plain", "bob"), Peer(sip, "192.0.2.99")
    alice.ask("MESSAGE", bob.uri, route=f"<{stranger.uri};lr>")
    assert (bob.received, stranger.received, alice.statuses) == ([], [], [403])


def test_phone_with_two_lines_gets_a_request_to_its_contact_once(office, phones):
    alice, bob = phones("plain", "alice"), phones("browser", "bob")
    bob.aor = f"sip:office@{DOMAIN}"
    bob.register(call_id="office")
    alice.ask("MESSAGE", bob.uri)
    assert bob.methods == ["MESSAGE"]
    bob.reply(bob.last("MESSAGE"), 200)


def test_phone_with_two_flows_gets_a_request_to_its_contact_by_one(office):
    alice, first, second = (
        office.phone(kind, name)
        for kind, name in (("plain", "alice"), ("browser", "bob"), ("browser", "bob"))
    )
    second.uri = first.uri
    for number, phone in enumerate((first, second), 1):
        phone.uri, contact = (
            first.uri,
            f'<{first.uri}>;+sip.instance="<urn:uuid:1>";reg-id={number}',
        )
        phone.register(contact=contact, call_id=str(number))
    alice.ask("MESSAGE", first.uri)
    assert sorted((first.methods, second.methods)) == [[], ["MESSAGE"]]
    reached = first if first.methods else second
    reached.reply(reached.last("MESSAGE"), 200)


def test_phones_behind_two_nats_with_one_contact_both_get_the_request(office, phones):
    alice, bob = phones("plain", "alice"), phones("NAT", "bob")
    other = office.phone("NAT", "other")
    other.uri = bob.uri
    other.register()
    alice.ask("INVITE", bob.uri, replaces="1@bob;to-tag=a;from-tag=b")
    other.reply(other.last("INVITE"), 481)
    bob.reply(bob.last("INVITE"), 200, contact=f"<{bob.uri}>")
    assert alice.statuses[-1] == 200
    assert other.methods == ["INVITE", "ACK"]


# ---- the index


URIS = [
    URI.parse(f"sip:{user}{host}{rest}")
    for user in ("", "a@", "b@")
    for host in ("h", "[::1]")
    for rest in ("", ":1", ";x=1")
]


@given(st.lists(st.tuples(st.sampled_from("pqr"), st.lists(st.sampled_from(URIS), unique=True))))
def test_index_finds_contacts_and_is_empty_without_them(changes):
    index, now = ContactIndex(), {}
    for name, uris in changes:
        index.update(name, now.get(name, ()), uris)
        now[name] = uris
    for uri in URIS:
        assert {name for name, uris in now.items() if uri in uris} <= set(index.find(uri))
    for name, uris in now.items():
        index.update(name, uris, ())
    assert len(index) == 0


def test_index_is_bounded_for_one_contact_of_many():
    index, uri = ContactIndex(), URIS[0]
    for number in range(3 * SHARED):
        index.update(str(number), (), (uri,))
    assert index.find(uri) == tuple(map(str, range(SHARED)))
    index.update("0", (uri,), ())
    index.update("new", (), (uri,))  # there is room again
    assert index.find(uri) == (*map(str, range(1, SHARED)), "new")


def test_store_refuses_beyond_its_size_without_touching_the_index(monkeypatch):
    monkeypatch.setattr("sippet_gevent.stores.memory.ADDRESSES", 0)
    store, contact = MemoryBindings(), NameAddr(URIS[0])
    with pytest.raises(Reject, match="503"):
        store.update("sip:a@h", lambda before: (Binding(contact.uri, 60.0, "1", 1, contact),))
    assert len(store._contacts) == len(store) == store.bytes == 0
