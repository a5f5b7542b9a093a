"""GRUUs at the registrar, and the proxy that follows them, RFC 5627; what a Registrar allows besides."""

from __future__ import annotations

import pytest

from sippet_gevent import URI, InvalidValue, Location, Registrar, RegistrarProxy

from ..wire import Peer

AOR = "sip:alice@example.com"
ONE = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
TWO = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf7"
PUBLIC = f"{AOR};gr={ONE}"


class Office:
    """A RegistrarProxy with two phones of alice and a caller."""

    def __init__(self, sip, **options):
        self.sip = sip
        self.location = Location()
        self.registrar = Registrar(self.location, **options)
        core = RegistrarProxy(registrar=self.registrar)
        self.stack = sip.stack(core, host="10.0.0.1", domains=("example.com",))
        self.one, self.two = Peer(sip, "10.0.0.71"), Peer(sip, "10.0.0.72")
        self.one.answer = self.two.answer = lambda request: 200
        self.caller = Peer(sip, "10.0.0.50")
        self.number = 0

    def register(self, phone=None, instance=ONE, *, contact=None, call_id="phone", **headers):
        self.number += 1
        phone = phone or self.one
        contact = contact or f"<sip:alice@{phone.host}:5060>"
        if instance:
            contact += f';+sip.instance="<{instance}>"'
        headers.setdefault("supported", "path, gruu")
        headers = {"number": self.number, "call_id": call_id} | headers
        phone.ask("REGISTER", "sip:example.com", to=f"<{AOR}>", from_=f"<{AOR}>;tag=1",
                  contact=contact, **headers)  # fmt: skip
        return phone.responses[-1]

    def message(self, uri, **headers):
        """Return the status of a MESSAGE from the caller, and which phones have got it."""
        for peer in (self.one, self.two):
            peer.received.clear()
        self.caller.ask("MESSAGE", uri, **headers)
        reached = [peer.host for peer in (self.one, self.two) if peer.requests]
        return self.caller.statuses[-1], reached


@pytest.fixture
def office(sip):
    return Office(sip)


def gruus_of(response):
    (contact,) = response.contact
    return contact.pub_gruu, contact.temp_gruu


# ---- the registrar


@pytest.mark.rfc("5627 5.2")
def test_phone_that_supports_gruus_gets_both(office):
    response = office.register()
    assert response.status == 200
    one, other = gruus_of(response)
    assert one == PUBLIC
    assert other.startswith("sip:tgruu.") and other.endswith("@example.com;gr")
    assert response.contact[0].instance == ONE
    assert "gruu" not in (*response.supported, *response.require)


@pytest.mark.rfc("5627 5.1")
def test_each_refresh_gets_a_new_temporary_gruu_and_the_older_ones_stay(office):
    before = gruus_of(office.register())
    after = gruus_of(office.register())
    assert before[0] == after[0]
    assert before[1] != after[1]
    for uri in (before[1], after[1]):
        assert office.message(uri) == (200, ["10.0.0.71"])


@pytest.mark.rfc("5627 5.2")
@pytest.mark.parametrize(("instance", "headers"), [(ONE, {"supported": "path"}), (None, {})])
def test_phone_without_support_or_instance_gets_none(office, instance, headers):
    assert gruus_of(office.register(instance=instance, **headers)) == (None, None)


def test_registrar_may_assign_none(sip):
    assert gruus_of(Office(sip, gruu=False).register()) == (None, None)


@pytest.mark.rfc("5627 5.1")
def test_register_that_requires_gruu_is_served(office):
    assert gruus_of(office.register(supported="path", require="gruu"))[0] == PUBLIC


@pytest.mark.rfc("5627 5.1")
def test_gruus_that_a_phone_suggests_are_ignored(office):
    mine = '<sip:alice@10.0.0.71:5060>;pub-gruu="sip:x@y;gr=z";temp-gruu="sip:x@y;gr"'
    assert gruus_of(office.register(contact=mine))[0] == PUBLIC
    assert gruus_of(office.register(contact=mine, supported="path")) == (None, None)


@pytest.mark.rfc("5627 5.1")
@pytest.mark.parametrize("contact", [f"<{AOR}>", f"<{PUBLIC}>", "<sip:tgruu.x@example.com;gr>"])
def test_contact_that_leads_back_is_403(office, contact):
    assert office.register(contact=contact).status == 403
    assert office.location.get(AOR) == ()


@pytest.mark.rfc("5627 5.2")
def test_register_without_contact_lists_gruus(office):
    office.register()
    office.one.ask("REGISTER", "sip:example.com", to=f"<{AOR}>", from_=f"<{AOR}>;tag=1",
                   supported="gruu")  # fmt: skip
    assert gruus_of(office.one.responses[-1])[0] == PUBLIC


# ---- the proxy


@pytest.mark.rfc("5627 6.1")
def test_request_for_a_gruu_reaches_its_phone_alone(office):
    office.register()
    temporary = gruus_of(office.register(call_id="first"))[1]
    office.register(office.two, TWO, call_id="other")
    assert office.message(AOR) == (200, ["10.0.0.71", "10.0.0.72"])
    assert office.message(PUBLIC) == (200, ["10.0.0.71"])
    assert office.message(temporary) == (200, ["10.0.0.71"])
    assert str(office.one.requests[-1].uri) == "sip:alice@10.0.0.71:5060"
    assert office.message(f"{AOR};gr={TWO.upper().replace('URN:UUID', 'urn:uuid')}")[1] == [
        "10.0.0.72"
    ]


@pytest.mark.rfc("5627 6.1")
def test_public_gruu_without_a_phone_is_480(office):
    office.register()
    assert office.message(f"{AOR};gr={TWO}") == (480, [])
    assert office.message("sip:bob@example.com;gr=urn:uuid:1") == (480, [])


@pytest.mark.rfc("5627 5.1")
@pytest.mark.rfc("5627 5.3")
def test_temporary_gruu_ends_with_another_call_id_and_with_its_binding(office):
    first = gruus_of(office.register())[1]
    second = gruus_of(office.register(call_id="after-a-restart"))[1]
    assert office.message(first) == (404, [])
    assert office.message(second) == (200, ["10.0.0.71"])
    office.register(call_id="after-a-restart", expires="0")
    assert office.message(second) == (404, [])


@pytest.mark.rfc("5627 6.1")
@pytest.mark.parametrize("user", ["tgruu.x", "tgruu." + "A" * 110, "alice"])
def test_invalid_temporary_gruu_is_404(office, user):
    office.register()
    assert office.message(f"sip:{user}@example.com;gr") == (404, [])


@pytest.mark.rfc("5627 6.1")
def test_request_in_a_dialog_for_a_gruu_reaches_the_contact(sip, office):
    """The caller's target is the GRUU that the phone has as Contact."""
    office.register()

    def answer(request):
        if request.method == "INVITE":
            return request.response(200, contact=f"<{PUBLIC}>")
        return 200

    office.one.answer = answer
    office.caller.ask("INVITE", PUBLIC, contact="<sip:peer@10.0.0.50:5060>")
    ok = office.caller.responses[-1]
    assert (ok.status, str(ok.contact[0].uri)) == (200, PUBLIC)
    route = ", ".join(map(str, reversed(ok.record_route)))
    dialog = {"to": str(ok.to), "from_": str(ok.from_), "call_id": ok.call_id, "route": route}
    assert office.message(PUBLIC, number=2, **dialog) == (200, ["10.0.0.71"])
    assert str(office.one.requests[-1].uri) == "sip:alice@10.0.0.71:5060"
    # a stranger's To tag is no dialog
    assert office.message(PUBLIC, to=f"<{PUBLIC}>;tag=x") == (481, [])


# ---- Service-Route


@pytest.mark.rfc("3608 6.3")
def test_service_route_is_in_the_200(sip):
    routes = ("sip:p1.example.com;lr", "<sip:p2.example.com;lr>;x=y")
    response = Office(sip, service_route=routes).register()
    assert [str(value) for value in response.service_route] == [
        "<sip:p1.example.com;lr>", "<sip:p2.example.com;lr>;x=y",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"service_route": "sip:p.example.com;lr"}, TypeError),
        ({"service_route": ("sip:p.example.com",)}, InvalidValue),
        ({"max_contacts": 0}, InvalidValue),
        ({"makes_room": 1}, TypeError),
        ({"one_per_instance": "yes"}, TypeError),
        ({"gruu": None}, TypeError),
    ],
)
def test_wrong_argument_is_refused(options, error):
    with pytest.raises(error):
        Registrar(Location(), **options)


def test_location_beside_a_registrar_is_a_type_error():
    with pytest.raises(TypeError, match="leave out location"):
        RegistrarProxy(Location(), registrar=Registrar(Location()))
    with pytest.raises(TypeError, match="registrar"):
        RegistrarProxy(registrar=Location())


# ---- how many


def bound(office):
    return sorted(binding.uri.host for binding in office.location.get(AOR))


@pytest.mark.rfc("3261 10.3")
def test_more_than_max_contacts_is_403_or_replaces_the_one_that_ends_first(sip):
    office = Office(sip, max_contacts=1)
    assert office.register().status == 200
    assert office.register(office.two, TWO, call_id="other").status == 403
    assert bound(office) == ["10.0.0.71"]
    assert office.register().status == 200

    sip.advance(10)
    office.registrar.policy = Registrar(Location(), max_contacts=1, makes_room=True).policy
    assert office.register(office.two, TWO, call_id="other").status == 200
    assert bound(office) == ["10.0.0.72"]
    both = "<sip:a@10.0.0.1>, <sip:b@10.0.0.2>"
    assert office.register(contact=both, instance=None, call_id="third").status == 403
    assert bound(office) == ["10.0.0.72"]


@pytest.mark.rfc("5626 6")
@pytest.mark.parametrize(("choice", "phones"), [(False, 2), (True, 1)])
def test_phone_with_a_new_address_replaces_itself_by_choice(sip, choice, phones):
    office = Office(sip, one_per_instance=choice)
    office.register()
    office.register(contact="<sip:alice@10.0.0.99>", call_id="after-a-restart")
    assert len(office.location.get(AOR)) == phones
    office.register(office.two, TWO, call_id="other")
    office.register(contact="<sip:alice@10.0.0.98>", call_id="x", expires="0")
    assert len(office.location.get(AOR)) == phones + 1


@pytest.mark.rfc("5626 6")
def test_flows_of_one_phone_stay_side_by_side(sip):
    office = Office(sip, one_per_instance=True)
    for number in (1, 2):
        contact = f"<sip:alice@10.0.0.71:5060>;reg-id={number}"
        office.register(contact=contact, call_id=f"flow{number}", supported="path, outbound")
    assert len(office.location.get(AOR)) == 2
    office.register(call_id="without-outbound")
    assert len(office.location.get(AOR)) == 1
    assert office.location.lookup(URI.parse(AOR))[0].others == ()
