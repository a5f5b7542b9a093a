"""Connections of peers that requests to them take, RFC 5923: only for domains of their certificate."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import TLS, Request, Stack
from sippet_gevent.transport.locate.resolver import StaticResolver
from sippet_gevent.transport.stream import alias as alias_module
from sippet_gevent.transport.stream.alias import Aliases
from tests.conditions import PATIENCE, until

from ..test_tls import Authority
from .test_tcp import options

pytest.importorskip("trustme")

A, B = "a.example", "b.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def domain(authority):
    """Make the server of a domain, `domain("a.example")`, with mutual TLS; the servers can resolve one another."""
    made = []
    records = {}

    def make(*names, client_ca=True, shown=True):
        file = authority.issue(*names, file=f"{names[0]}.pem")
        tls = TLS(file, ca=authority.file, client_ca=authority.file if client_ca else None)
        if not shown:
            anonymous = TLS(ca=authority.file)
            tls = TLS(
                ca=authority.file,
                server_context=tls.server_context,
                client_context=anonymous.client_context,
            )
        stack = Stack("tls:127.0.0.1:0", tls=tls, resolver=StaticResolver({}))
        stack.resolver.records = records
        stack.seen = []
        stack.on()(lambda request, tx: stack.seen.append(request) or 200)
        stack.start()
        stack.tls_point = stack.engine.transports[0]
        stack.port = stack.tls_point.local[1]
        records.update(dict.fromkeys(names, ("127.0.0.1",)))
        made.append(stack)
        return stack

    yield make
    for stack in made:
        stack.stop()


def ask(stack, name, other, method="MESSAGE", **headers):
    with gevent.Timeout(PATIENCE):
        return stack.request(method, f"sips:{name}:{other.port}", **headers).status


def connections(*stacks):
    """Return how many connections each stack has accepted."""
    return [stack.tls_point.counts.get("accepted", 0) for stack in stacks]


@pytest.mark.rfc("5923 8.2", "5923 9.2")
def test_requests_to_a_proven_peer_go_by_its_connection(domain):
    a, b = domain(A), domain(B)
    assert ask(a, B, b) == 200
    assert ask(b, A, a) == 200
    assert connections(a, b) == [0, 1]
    assert a.seen[0].flow.dialled is not None


@pytest.mark.rfc("5923 8.1", "5923 5")
def test_via_offers_our_connection_if_we_show_a_certificate(domain):
    a, b = domain(A), domain(B)
    ask(a, B, b)
    assert "alias" in b.seen[0].via[0].parameters
    assert b.seen[0].via[0].port == a.port


@pytest.mark.rfc("5923 8.1")
def test_via_offers_nothing_without_a_certificate(domain):
    a, b = domain(A, shown=False), domain(B, client_ca=False)
    ask(a, B, b)
    assert "alias" not in b.seen[0].via[0].parameters


def test_via_offers_nothing_over_tcp():
    seen = []
    with Stack("tcp:127.0.0.1:0") as server, Stack("tcp:127.0.0.1:0") as client:
        server.on()(lambda request, tx: seen.append(request) or 200)
        client.request(
            "OPTIONS", f"sip:127.0.0.1:{server.engine.transports[0].local[1]};transport=tcp"
        )
    assert "alias" not in seen[0].via[0].parameters


@pytest.mark.rfc("5923 9.2")
def test_offer_of_a_peer_without_certificate_is_ignored(domain):
    a, b = domain(A, shown=False), domain(B, client_ca=False)
    a._via_of_flow = a.sender._via
    a.sender._via = lambda *parts: (
        a._via_of_flow(*parts) + ";alias"
    )  # it offers its connection anyway
    assert ask(a, B, b) == 200
    assert "alias" in b.seen[0].via[0].parameters
    assert ask(b, A, a) == 200
    assert connections(a, b) == [1, 1]


@pytest.mark.rfc("5923 8.2")
def test_connection_without_an_offer_is_not_used(domain, monkeypatch):
    a, b = domain(A), domain(B)
    for stack in (a, b):
        monkeypatch.setattr(stack.tls_point, "offers_alias", False)
    assert (ask(a, B, b), ask(b, A, a)) == (200, 200)
    assert connections(a, b) == [1, 1]


@pytest.mark.rfc("5923 9.3")
def test_peer_proven_for_another_domain_gets_no_request(domain):
    """The peer has the address of the victim, names its port, and has a certificate of its own domain."""
    victim, b, thief = domain(A), domain(B), domain("thief.example")
    sent_by = thief.names.sent_by
    thief.names.sent_by = lambda flow: (sent_by(flow)[0], victim.port)
    assert ask(thief, B, b) == 200
    assert b.seen[0].via[0].port == victim.port and "alias" in b.seen[0].via[0].parameters
    assert ask(b, A, victim) == 200
    assert (len(victim.seen), len(thief.seen)) == (1, 0)


@pytest.mark.rfc("5923 9.3")
def test_virtual_domain_of_the_same_address_gets_a_connection_of_its_own(domain, authority):
    a, b = domain(A), domain(B)
    a.tls.names["c.example"] = (authority.issue("c.example", file="c.pem"), None)
    a.reload_tls()
    a.resolver.records["c.example"] = ("127.0.0.1",)
    ask(a, B, b)
    assert ask(b, "c.example", a) == 200
    assert connections(a, b) == [1, 1]


@pytest.mark.rfc("5923 8.2")
def test_other_port_of_the_same_domain_gets_a_connection_of_its_own(domain):
    a, b = domain(A), domain(B)
    second = domain(A)
    ask(a, B, b)
    assert ask(b, A, second) == 200
    assert (len(a.seen), len(second.seen)) == (0, 1)


@pytest.mark.rfc("5923 8.2")
def test_offer_that_is_gone_is_followed_by_a_connection_of_ours(domain):
    a, b = domain(A), domain(B)
    ask(a, B, b)
    for flow in [*a.tls_point.flows]:
        flow.close()
    assert ask(b, A, a) == 200
    assert connections(a, b) == [1, 1]
    until(lambda: not len(b.tls_point.aliases))


@pytest.mark.rfc("5923 8.1")
def test_request_on_a_dead_alias_is_sent_again_to_its_address(
    domain,
):
    a, b = domain(A), domain(B)
    ask(a, B, b)
    tx = b.send(Request("MESSAGE", f"sips:{A}:{a.port}"))
    assert tx.transaction.flow.dialled is None
    next(iter(a.tls_point.flows)).close()
    assert tx.final(timeout=PATIENCE).status == 200
    assert connections(a, b) == [1, 1]


def test_entries_of_one_connection_are_bounded_and_go_with_it(monkeypatch):
    monkeypatch.setattr(alias_module, "IDENTITIES", 2)

    class Proven:
        remote = ("192.0.2.1", 40000)
        peer_identity = tuple(f"{n}.example" for n in range(5))

        def is_alive(self):
            return True

    aliases, one, other = Aliases(), Proven(), Proven()
    for port in range(5061, 5100):
        aliases.add(one, port)
    assert len(aliases) == 2
    assert aliases.find("192.0.2.1", 5099, "1.EXAMPLE.") is one
    aliases.add(other, 5099)
    assert aliases.find("192.0.2.1", 5099, "1.example") is other
    aliases.remove(one)
    assert len(aliases) == 2
    aliases.remove(other)
    assert len(aliases) == 0


def test_alias_in_a_broken_via_costs_nothing(domain):
    a, b = domain(A), domain(B)
    ask(a, B, b)
    next(iter(a.tls_point.flows)).send(
        options(5).replace(b"127.0.0.1:5060;", b"127.0.0.1:0;alias;")
    )
    until(lambda: b.engine.counters.balance == 0 and b.engine.counters.received >= 2)
    assert not b.engine.crashes
