"""Spirals: a request that this stack forwards to itself is the same request, and nobody can forge that."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import Authenticated, RegistrarProxy, StaticResolver, TrustDomain, forward
from sippet_gevent.core.auth.credentials import Credentials
from sippet_gevent.core.auth.server import Authenticator
from sippet_gevent.testing import SERVER
from sippet_gevent.transport.listener import Advertised

from ..wire import Peer, sent

DOMAIN = "example.com"
USERS = {"100": "a", "101": "b", "102": "c"}
NAMES = StaticResolver({name: [SERVER] for name in (DOMAIN, "www.example.com")})
ASSERTED = "P-Asserted-Identity"


class Server:
    """The core of `sippet serve` with passwords, at which 102 has a phone."""

    def __init__(self, sip, **options):
        self.sip = sip
        core = TrustDomain(RegistrarProxy(), is_trusted=options.get("exempt"))
        guarded = Authenticated(core, realm=DOMAIN, users=USERS, **options)
        self.stack = sip.stack(guarded, SERVER, domains=(DOMAIN,), resolver=NAMES)
        self.phone = Peer(sip, "10.0.0.52", answer=lambda request: 200)
        self.client = sip.stack(host="10.0.0.50", resolver=NAMES)
        self.register("102", self.phone.uri)

    def request(self, user, method, uri, **headers):
        mine = Credentials(user, USERS[user], hosts=(DOMAIN, SERVER))
        headers.setdefault("from_", f"sip:{user}@{DOMAIN}")
        return self.client.request(method, uri, credentials=mine, **headers)

    def ask(self, *arguments, **headers):
        return self.sip.run(self.request, *arguments, **headers).status

    def register(self, user, contact):
        aor = f"sip:{user}@{DOMAIN}"
        assert self.ask(user, "REGISTER", f"sip:{DOMAIN}", to=aor, contact=f"<{contact}>") == 200

    @property
    def challenges(self):
        return sent(self.sip, SERVER).count("407")


@pytest.fixture
def server(sip):
    return Server(sip)


@pytest.mark.rfc("3261 22.3")
@pytest.mark.parametrize("name", [DOMAIN, SERVER, "www.example.com", f"{SERVER}:5060"])
def test_contact_that_is_another_user_of_the_server_is_reached_with_one_password(sip, server, name):
    server.register("101", f"sip:102@{name}")
    status = server.ask("100", "MESSAGE", f"sip:101@{DOMAIN}")
    # a name that the server does not know is no user, but the Contact of 101: a loop (§16.3)
    assert (status, server.challenges) == (482 if name[0] == "w" else 200, 1)


@pytest.mark.rfc("3325 5")
def test_forwarded_request_keeps_the_identity_of_its_user(sip, server):
    server.register("101", f"sip:102@{SERVER}")
    assert server.ask("100", "MESSAGE", f"sip:101@{DOMAIN}") == 200
    (message,) = server.phone.requests
    assert message.headers.all(ASSERTED) == [f"<sip:100@{DOMAIN}>"]
    assert not message.proxy_authorization


def test_call_is_forwarded_twice_through_the_server(sip):
    server = Server(sip)
    server.register("100", f"sip:101@{DOMAIN}")
    server.register("101", f"sip:102@{DOMAIN}")
    mine = Credentials("102", "c", hosts=(DOMAIN,))
    server.phone.answer = lambda request: request.response(200, contact=server.phone.uri)
    client, target = server.client, f"sip:100@{DOMAIN}"
    call = sip.run(client.invite, target, from_=f"sip:102@{DOMAIN}", credentials=mine)
    assert server.challenges == 1
    call.hangup()
    sip.settle()
    assert server.phone.methods == ["INVITE", "ACK", "BYE"]


@pytest.mark.rfc("3261 16.3")
def test_contact_that_is_the_user_itself_is_a_loop(sip, server):
    server.register("101", f"sip:101@{SERVER}")
    assert server.ask("100", "MESSAGE", f"sip:101@{DOMAIN}") == 482


def test_request_that_needs_no_password_is_not_asked_when_it_returns(sip):
    trunk = "10.0.0.70"
    server = Server(sip, exempt=lambda request, tx: tx.flow.remote[0] == trunk)
    server.register("101", f"sip:102@{DOMAIN}")
    carrier = Peer(sip, trunk)
    asserted = ["<sip:+4930@carrier.example>"]
    carrier.ask("MESSAGE", f"sip:101@{DOMAIN}", p_asserted_identity=asserted)
    assert carrier.statuses == [200]
    assert server.phone.requests[0].headers.all(ASSERTED) == asserted


# ---- nobody can forge it


def forge(server, method, *, ended=False):
    """Send a request with each Via that the phone of 102 has seen in one that is pending.

    Args:
        server: The server.
        method: The method of the forged requests.
        ended: True to end the server transactions first, which would take such a request as a retransmission.
    """
    sip, phone, engine = server.sip, server.phone, server.stack.engine
    phone.answer = lambda request: None
    asking = gevent.spawn(server.request, "100", "MESSAGE", f"sip:101@{DOMAIN}")
    for _ in range(5):
        sip.settle()
    (message,) = phone.requests
    if ended:
        for record in [*engine.servers.values()]:
            engine.forget(record)
    phone.received.clear()
    assert len(engine.clients) == len(message.via) - 1
    for via in message.via[:-1]:
        forged = phone.request(method, f"sip:102@{DOMAIN}", from_=message.from_)
        forged.headers.put_header_front("Via", via)
        phone.send(forged)
    asking.kill()
    return phone


@pytest.mark.parametrize("method", ["MESSAGE", "INVITE", "OPTIONS"])
def test_phone_that_knows_the_branch_is_asked_for_a_password(server, method):
    server.register("101", f"sip:102@{DOMAIN}")
    phone = forge(server, method)
    # the branch of the first pass is a retransmission of the second one
    assert phone.statuses == [407] * (1 if method == "MESSAGE" else 2)
    assert phone.requests == []


def test_branch_that_has_returned_proves_nothing_a_second_time(server):
    server.register("101", f"sip:102@{DOMAIN}")
    phone = forge(server, "MESSAGE", ended=True)
    assert phone.statuses == [407, 407]
    assert phone.requests == []


def test_branch_that_went_to_a_phone_proves_nothing(server):
    server.register("101", server.phone.uri)
    phone = forge(server, "MESSAGE", ended=True)
    assert phone.statuses == [407]
    assert phone.requests == []


@pytest.mark.parametrize("host", ["10.0.0.200", SERVER])
def test_balancer_at_an_advertised_address_proves_nothing_by_the_branch_it_has_seen(
    sip, server, host
):
    """What is sent to that address may reach another element, and whoever that forwards it to."""
    balancer = Peer(sip, host, answer=lambda request: None, port=5070)
    (transport,) = server.stack.engine.transports
    transport.listener = transport.listener._replace(advertise=Advertised(host, 5070))
    server.register("101", f"sip:102@{host}:5070")
    asking = gevent.spawn(server.request, "100", "MESSAGE", f"sip:101@{DOMAIN}")
    for _ in range(5):
        sip.settle()
    (message,) = balancer.requests
    forged = balancer.request("MESSAGE", f"sip:102@{DOMAIN}", from_=message.from_)
    forged.headers.put_header_front("Via", message.via[0].with_params(rport=None))
    balancer.received.clear()
    balancer.send(forged)
    asking.kill()
    assert balancer.statuses == [407]
    assert server.phone.requests[1:] == []


def test_password_for_one_realm_does_not_pass_for_another(sip):
    """The second pass asks for the password of its own realm."""
    realms = {name: Authenticator(realm=name, users=USERS, proxy=True) for name in ("one", "two")}

    def core(request, tx):
        tx.authenticate(realms[request.uri.user])
        forward(request, tx, f"sip:two@{SERVER}")

    sip.stack(core, SERVER, domains=(DOMAIN,), resolver=NAMES)
    client = sip.stack(host="10.0.0.50", resolver=NAMES)
    mine = Credentials("100", "a", hosts=(DOMAIN, SERVER))
    sip.run(
        client.request, "MESSAGE", f"sip:one@{DOMAIN}", credentials=mine, from_=f"sip:100@{DOMAIN}"
    )
    assert "407" in sent(sip, SERVER, SERVER)
