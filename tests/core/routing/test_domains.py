"""Domains and addresses-of-record: which names and ports mean the same user, RFC 3261 §10.3 step 5, §16.5 and §19.1.1 Table 1."""

from __future__ import annotations

import pytest

from sippet_gevent import URI, InvalidValue, Location, Registrar, RegistrarProxy, Stack, forward
from sippet_gevent.testing import SERVER
from sippet_gevent.transport.memory import MemoryTransport

from ..wire import Peer

PHONE = "10.0.0.71"


class Domain:
    """A default server without port 5060: it listens on 5070, and advertises sip.example.net:7000 on 5080."""

    def __init__(self, sip, core=None, **options):
        self.sip = sip
        self.stack = sip.stack(core or RegistrarProxy(), SERVER, port=5070, **options)
        self.stack.listen(
            f"udp:{SERVER}:5080;advertise=sip.example.net:7000", MemoryTransport(sip.network)
        )
        self.bob = Peer(sip, PHONE, answer=lambda request: 200)
        self.alice = Peer(sip, "10.0.0.72")

    def ask(self, peer, method, uri, **headers):
        """Send a request to the server and return the status of its final response."""
        request = peer.request(method, uri, **headers)
        peer._transport.connect((SERVER, 5070)).send(bytes(request))
        self.sip.settle()
        return peer.statuses[-1]

    def register(self, to, contact=f"sip:bob@{PHONE}", **headers):
        return self.ask(self.bob, "REGISTER", to, to=f"<{to}>", contact=f"<{contact}>", **headers)

    def call(self, uri):
        """Return the status of a MESSAGE to this URI."""
        return self.ask(self.alice, "MESSAGE", uri)


NAMES = [
    f"sip:bob@{SERVER}",
    f"sip:bob@{SERVER}:5070",
    f"sip:bob@{SERVER}:5061;transport=tls",
    f"sip:bob@{SERVER};transport=tcp",
    "sip:bob@localhost",
    "sip:bob@localhost:5070",
    "sip:bob@SIP.example.net.",
    "sip:bob@sip.example.net:7000",
    "sip:bob@sip.example.net:5061;transport=tls",
]
"""Forms of one address-of-record at a server with these addresses."""


@pytest.mark.rfc("3261 19.1.1", "3261 10.3")
@pytest.mark.parametrize("to", NAMES)
def test_user_registered_by_one_server_name_is_called_by_all(sip, to):
    domain = Domain(sip)
    assert domain.register(to) == 200
    assert {uri: domain.call(uri) for uri in NAMES} == dict.fromkeys(NAMES, 200)


@pytest.mark.rfc("3261 10.3")
@pytest.mark.parametrize("to", [*NAMES, "sip:bob@example.com", "sip:bob@example.com:5070"])
def test_addresses_of_the_server_are_aliases_of_the_first_domain(sip, to):
    domain = Domain(sip, domains=("example.com", "example.org"))
    assert domain.register(to) == 200
    assert [
        domain.call(uri)
        for uri in ("sip:bob@example.com", f"sip:bob@{SERVER}", "sip:bob@example.org")
    ] == [200, 200, 404]


@pytest.mark.rfc("3261 19.1.4")
def test_named_domains_stay_apart(sip):
    domain = Domain(sip, domains=("example.com", "example.org"))
    domain.register("sip:bob@example.org")
    assert [domain.call(f"sip:bob@{name}") for name in ("example.org", "example.com", SERVER)] == [
        200,
        404,
        404,
    ]


@pytest.mark.parametrize(
    "name", ["example.org", "Example.NET", "sip.example.net", "192.0.2.7", SERVER]
)
def test_alias_joins_a_name_or_an_address_to_its_domain(sip, name):
    domain = Domain(
        sip,
        domains=("example.com", "example.org"),
        aliases={"example.net.": "example.ORG", name: "example.org"},
    )
    domain.register(f"sip:bob@{name}:5061")
    assert [
        domain.call(f"sip:bob@{host}")
        for host in ("example.org", name, "example.net", "example.com")
    ] == [200, 200, 200, 404]


def test_alias_without_domains_leads_to_localhost(sip):
    domain = Domain(sip, aliases={"203.0.113.7": "localhost"})
    domain.register("sip:bob@203.0.113.7")
    assert domain.call(f"sip:bob@{SERVER}") == 200


@pytest.mark.rfc("3261 10.3")
@pytest.mark.parametrize(
    "to", ["sip:bob@example.org", "sip:bob@192.0.2.7", "sip:bob@10.0.0.2:5070"]
)
def test_address_of_record_of_another_domain_is_404(sip, to):
    assert Domain(sip, domains=("example.com",)).register(to) == 404


@pytest.mark.parametrize("host", ["office.example", "192.0.2.7", "[2001:db8::1]"])
def test_server_without_domains_serves_each_that_a_phone_uses(sip, host):
    domain = Domain(sip)
    assert domain.register(f"sip:bob@{host}") == 200
    assert [domain.call(uri) for uri in (f"sip:bob@{host}:5070", f"sip:bob@{SERVER}")] == [200, 404]
    assert domain.ask(domain.alice, "OPTIONS", f"sip:{host}") == 200


@pytest.mark.rfc("3261 11.2")
@pytest.mark.parametrize(
    ("uri", "status"),
    [
        (f"sip:{SERVER}", 200),
        (f"sip:{SERVER};transport=tls", 200),
        ("sip:example.com", 200),
        ("sip:example.org", 404),
    ],
)
def test_options_to_the_server_itself_is_answered_on_any_port(sip, uri, status):
    domain = Domain(sip, domains=("example.com",))
    assert domain.ask(domain.alice, "OPTIONS", uri) == status


def test_location_of_a_custom_core_knows_the_domains_of_its_stack(sip):
    location = Location()
    domain = Domain(
        sip,
        lambda request, tx: forward(request, tx, *location.lookup(request.uri)),
        domains=("example.com",),
    )
    core = domain.stack.core
    domain.stack.core = lambda request, tx: (
        Registrar(location) if request.method == "REGISTER" else core
    )(request, tx)
    domain.register(f"sip:bob@{SERVER}")
    assert domain.call("sip:bob@example.com") == 200
    sip.advance(3600)
    assert location.lookup(URI.parse("sip:bob@example.com")) == ()


# ---- where the port counts


@pytest.mark.rfc("3261 16.4")
@pytest.mark.parametrize(("port", "is_ours"), [(5070, True), (5090, False)])
def test_route_to_another_port_of_our_host_is_followed(sip, port, is_ours):
    domain = Domain(
        sip,
        lambda request, tx: 299 if tx.take_route() or not request.route else forward(request, tx),
    )
    other = Peer(sip, SERVER, answer=lambda request: 298, port=5090)
    assert domain.ask(
        domain.alice, "MESSAGE", "sip:bob@example.com", route=f"<sip:{SERVER}:{port};lr>"
    ) == (299 if is_ours else 298)
    assert other.methods == ([] if is_ours else ["MESSAGE"])


@pytest.mark.rfc("3261 16.5")
def test_bye_to_a_phone_at_another_port_of_our_host_reaches_it(sip):
    domain = Domain(sip)
    bob = Peer(
        sip,
        SERVER,
        answer=lambda request: request.response(200, contact=f"<sip:bob@{SERVER}:5090>"),
        port=5090,
    )
    domain.register(f"sip:bob@{SERVER}", f"sip:bob@{SERVER}:5090")
    invite = domain.alice.request("INVITE", f"sip:bob@{SERVER}")
    domain.alice._transport.connect((SERVER, 5070)).send(bytes(invite))
    sip.settle()
    answer = domain.alice.responses[-1]
    assert domain.ask(domain.alice, "BYE", f"sip:bob@{SERVER}:5090", from_=invite.from_, to=answer.to, call_id=invite.call_id,
                      number=2, route=answer.record_route) == 200  # fmt: skip
    assert bob.methods[-1] == "BYE"


@pytest.mark.rfc("3261 19.1.4")
@pytest.mark.parametrize(
    "other", [f"sip:bob@{PHONE}:5060", f"sip:bob@{PHONE};transport=udp", f"sip:bob@{PHONE}:5070"]
)
def test_contact_with_another_port_is_another_binding(sip, other):
    domain = Domain(sip)
    domain.register(f"sip:bob@{SERVER}", call_id="phone")
    assert domain.register(f"sip:bob@{SERVER}", other, expires=0, call_id="phone", number=2) == 200
    assert [str(contact.uri) for contact in domain.bob.responses[-1].contact] == [
        f"sip:bob@{PHONE}"
    ]


# ---- addresses of a real host


def test_wildcard_listener_has_all_addresses_of_its_host_for_one_domain():
    with Stack("udp:0.0.0.0:0", "udp:[::1]:0") as stack:
        ours = (
            "127.0.0.1",
            "127.0.0.2",
            "[::1]",
            "[0:0::1]",
            "[::ffff:127.0.0.1]",
            "localhost",
            "LocalHost.",
        )
        assert {
            stack.aor(URI.parse(f"sip:bob@{host}:{5060 + n}")) for n, host in enumerate(ours)
        } == {"sip:bob@localhost"}
        others = ("192.0.2.1", "999.1.1.1", "1" * 60, "[2001:db8::1]", "example.com")
        assert [
            host for host in others if stack.is_responsible_for(URI.parse(f"sip:bob@{host}"))
        ] == []


def test_aliases_of_unknown_domains_are_refused():
    with pytest.raises(InvalidValue, match="write one of example.com"):
        Stack(domains=("example.com",), aliases={"example.org": "example.net"})
    with pytest.raises(InvalidValue, match="write one of localhost"):
        Stack(aliases={"example.org": "example.com"})
    with pytest.raises(TypeError, match="must map"):
        Stack(domains=("example.com",), aliases=("example.org",))
