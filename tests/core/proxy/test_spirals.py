"""Spirals: a request that this stack forwards to itself is the same request, and nobody can forge that."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import (
    Authenticated,
    RegistrarProxy,
    Reject,
    StaticResolver,
    TrustDomain,
    bridge,
    forward,
)
from sippet_gevent.core.auth.credentials import Credentials
from sippet_gevent.core.auth.server import Authenticator
from sippet_gevent.testing import SERVER
from sippet_gevent.transport.listener import Advertised
from sippet_gevent.transport.memory import MemoryTransport

from ..wire import Peer, sent

DOMAIN = "example.com"
USERS = {"100": "a", "101": "b", "102": "c", "103": "d"}
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


@pytest.mark.rfc("5393 5.3.3")
@pytest.mark.parametrize("number", [2, 4, 7, 10])
def test_contacts_that_lead_back_do_not_multiply_a_request(sip, server, number):
    """Each way through n Contacts of one user would be another spiral: n! of them."""
    for each in range(number):
        server.register("101", f"sip:101@{SERVER};x={each}")
    assert server.ask("100", "MESSAGE", f"sip:101@{DOMAIN}") in (440, 482)
    assert sent(sip, SERVER, SERVER).count("MESSAGE") <= 60
    assert server.challenges == 1


def test_fork_whose_branches_come_back_is_asked_once(sip, server):
    other = Peer(sip, "10.0.0.53", answer=lambda request: None)
    server.register("103", other.uri)
    server.register("101", f"sip:102@{DOMAIN}")
    server.register("101", f"sip:103@{SERVER}")
    assert server.ask("100", "MESSAGE", f"sip:101@{DOMAIN}") == 200
    assert [len(each.requests) for each in (server.phone, other)] == [1, 1]
    assert server.challenges == 1


@pytest.mark.rfc("3261 16.3")
@pytest.mark.parametrize(("hops", "status"), [(0, 483), (1, 483), (2, 200)])
def test_each_pass_takes_a_hop(sip, server, hops, status):
    server.register("101", f"sip:102@{DOMAIN}")
    assert server.ask("100", "MESSAGE", f"sip:101@{DOMAIN}", max_forwards=hops) == status
    assert len(server.phone.requests) == (status == 200)


@pytest.mark.rfc("3261 22.1")
def test_cancel_of_a_call_that_returns_is_asked_for_no_password(sip, server):
    server.register("101", f"sip:102@{DOMAIN}")
    server.phone.answer = lambda request: 180 if request.method == "INVITE" else 200
    mine = Credentials("100", "a", hosts=(DOMAIN, SERVER))
    calling = gevent.spawn(
        server.client.invite, f"sip:101@{DOMAIN}", from_=f"sip:100@{DOMAIN}", credentials=mine
    )
    for _ in range(5):
        sip.settle()
    calling.kill()
    sip.clock.advance(1)
    assert server.phone.methods == ["INVITE", "CANCEL"]
    server.phone.reply(server.phone.requests[0], 487)
    assert server.challenges == 1


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


SPELLED = {
    "as it is": "{}",
    "with our address": f"{{}};received={SERVER};rport=5060",
    "with maddr": f"{{}};maddr={SERVER}",
    "in one line with another": "{},SIP/2.0/UDP 10.0.0.52;branch=z9hG4bKother",
    "in lower case": "sip/2.0/udp  10.0.0.1:5060 ;branch={}",
}


def forge(server, method, *, ended=False, spelled="as it is"):
    """Send a request with each Via that the phone of 102 has seen in one that is pending.

    Args:
        server: The server.
        method: The method of the forged requests.
        ended: True to end the server transactions first, which would take such a request as a retransmission.
        spelled: How the Via is written.
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
        form = SPELLED[spelled]
        given = via.branch if "branch={}" in form else via.without_params("rport", "received")
        forged.headers.delete_header("Via")
        forged.headers["Via"] = form.format(given)
        phone.send(forged)
    asking.kill()
    return phone


@pytest.mark.rfc("3261 9.2")
def test_phone_that_knows_the_branches_cancels_nothing(sip, server):
    server.register("101", f"sip:102@{DOMAIN}")
    phone = server.phone
    phone.answer = lambda request: 180
    mine = Credentials("100", "a", hosts=(DOMAIN, SERVER))
    calling = gevent.spawn(
        server.client.invite, f"sip:101@{DOMAIN}", from_=f"sip:100@{DOMAIN}", credentials=mine
    )
    for _ in range(5):
        sip.settle()
    (invite,) = phone.requests
    phone.received.clear()
    for via in invite.via:
        cancel = phone.request(
            "CANCEL", invite.uri_text, via=via, from_=invite.from_, to=invite.to,
            call_id=invite.call_id, cseq=f"{invite.cseq.number} CANCEL",
        )  # fmt: skip
        phone.send(cancel)
    assert phone.methods == []
    assert not calling.ready()
    phone.reply(invite, 486)
    sip.settle()
    assert isinstance(calling.exception, Reject)


@pytest.mark.parametrize("method", ["MESSAGE", "INVITE", "OPTIONS"])
def test_phone_that_knows_the_branch_is_asked_for_a_password(server, method):
    server.register("101", f"sip:102@{DOMAIN}")
    phone = forge(server, method)
    # the branch of the first pass is a retransmission of the second one
    assert phone.statuses == [407] * (1 if method == "MESSAGE" else 2)
    assert phone.requests == []


@pytest.mark.parametrize("spelled", SPELLED)
def test_branch_that_has_returned_proves_nothing_a_second_time(server, spelled):
    server.register("101", f"sip:102@{DOMAIN}")
    phone = forge(server, "MESSAGE", ended=True, spelled=spelled)
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


class NAT:
    """The public address of the server, from which a NAT leads everything to it."""

    address = ("10.0.0.200", 5070)

    def __init__(self, server, change=lambda data: data):
        (transport,) = server.stack.engine.transports
        transport.listener = transport.listener._replace(advertise=Advertised(*self.address))
        self.seen = []
        self._change = change
        self._transport = MemoryTransport(server.sip.network)
        self._transport.start(self.address, self.receive)

    def receive(self, data, flow):
        self.seen.append(data)
        self.send(self._change(data))

    def send(self, data):
        self._transport.connect((SERVER, 5060)).send(data)


@pytest.mark.rfc("3261 22.3")
def test_request_to_our_public_address_is_asked_once_though_the_nat_is_its_source(sip, server):
    nat = NAT(server)
    server.register("101", f"sip:102@{nat.address[0]}:{nat.address[1]}")
    assert server.ask("100", "MESSAGE", f"sip:101@{DOMAIN}") == 200
    assert server.challenges == 1
    (message,) = server.phone.requests
    assert message.headers.all(ASSERTED) == [f"<sip:100@{DOMAIN}>"]
    assert len(nat.seen) == 2  # the request and its answer
    nat.send(nat.seen[0].replace(b"branch=z9hG4bK", b"branch=z9hG4bKx", 1))
    sip.settle()
    assert len(server.phone.requests) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"sip:102@10.0.0.200", b"sip:103@10.0.0.200", 1),
        lambda data: data.replace(b"MESSAGE", b"OPTIONS"),
        lambda data: data.replace(b"From: <sip:100@", b"From: <sip:101@", 1),
        lambda data: data.replace(b"\r\n\r\n", b"\r\nSubject: forged\r\n\r\n", 1),
        lambda data: data.replace(b"Content-Length: 5", b"Content-Length: 4").replace(b"hello", b"hell"),
        lambda data: data.replace(b"Via: ", b"Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKq\r\nVia: ", 2),
    ],
    ids=["Request-URI", "method", "From", "header field", "body", "Via"],
)  # fmt: skip
def test_request_that_was_changed_at_our_public_address_is_asked_for_a_password(
    sip, server, change
):
    nat = NAT(server, lambda data: change(data) if data[:7] == b"MESSAGE" else data)
    server.register("101", f"sip:102@{nat.address[0]}:{nat.address[1]}")
    asking = gevent.spawn(server.request, "100", "MESSAGE", f"sip:101@{DOMAIN}", body=b"hello")
    for _ in range(5):
        sip.settle()
    asking.kill()
    assert server.phone.requests == []
    assert change(nat.seen[0]) != nat.seen[0]


@pytest.mark.parametrize(("user", "status"), [(None, 407), ("100", 404)])
def test_invite_of_a_bridge_passes_only_for_a_caller_that_has_passed(sip, user, status):
    """Anybody may call the reception, whose phone is at 999, and nobody may call that without a password."""
    office = Authenticator(realm=DOMAIN, users=USERS, proxy=True)
    seen = []

    def core(request, tx):
        if request.uri.user == "reception":
            if user:
                office.authenticate(request, tx)
            return bridge(request, tx, f"sip:999@{SERVER}") and None
        seen.append(office.authenticate(request, tx))
        return 404

    sip.stack(core, SERVER, domains=(DOMAIN,), resolver=NAMES)
    client = sip.stack(host="10.0.0.50", resolver=NAMES)
    mine = Credentials(user, USERS[user], hosts=(DOMAIN, SERVER)) if user else None
    from_ = f"sip:{user or 'stranger'}@{DOMAIN}"
    with pytest.raises(Reject) as refused:
        sip.run(client.invite, f"sip:reception@{DOMAIN}", from_=from_, credentials=mine)
    assert refused.value.status == status
    assert seen == ([user] if user else [])


@pytest.mark.parametrize(("realm", "status"), [(DOMAIN, 404), ("other", 407)])
def test_request_that_returns_after_a_reload_is_asked_for_another_realm_alone(sip, realm, status):
    gates = [Authenticator(realm=name, users=USERS, proxy=True) for name in (DOMAIN, realm)]

    def core(request, tx):
        gate = gates[request.uri.user == "102"]
        if gate is gates[1]:
            gate.take_over(gates[0])
        gate.authenticate(request, tx)
        return 404 if gate is gates[1] else forward(request, tx, f"sip:102@{SERVER}")

    sip.stack(core, SERVER, domains=(DOMAIN,), resolver=NAMES)
    client = sip.stack(host="10.0.0.50", resolver=NAMES)
    mine = Credentials("100", "a", hosts=(DOMAIN, SERVER), realm=DOMAIN)
    from_, target = f"sip:100@{DOMAIN}", f"sip:101@{DOMAIN}"
    answer = sip.run(client.request, "MESSAGE", target, credentials=mine, from_=from_)
    assert answer.status == status


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
