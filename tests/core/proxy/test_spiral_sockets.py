"""Spirals on real sockets: a request that returns is known by the socket that it comes from."""

from __future__ import annotations

import re

import pytest
from gevent import socket, spawn

from sippet_gevent import (
    TLS,
    Authenticated,
    RegistrarProxy,
    Request,
    Stack,
    StaticResolver,
    TrustDomain,
    parse,
)
from sippet_gevent.core.auth.credentials import Credentials
from tests.conditions import PATIENCE
from tests.ports import free_port

pytest_plugins = ["tests.programs"]

DOMAIN = "office.example"
USERS = {"100": "a", "101": "b", "102": "c"}


class Office:
    """The default server with passwords, and the phone of 102.

    Args:
        listen: Its address.
        contact: What 101 registers, with `{port}` for its port.
        tls: For its listener and its connections.
    """

    def __init__(self, listen, contact, tls=None):
        self.asked, self.messages = [], []
        guarded = Authenticated(TrustDomain(RegistrarProxy()), realm=DOMAIN, users=USERS)
        self.stack = Stack(
            listen, "udp:127.0.0.1:0;name=phones", core=guarded, domains=(DOMAIN,), tls=tls,
            resolver=StaticResolver({"localhost": ["127.0.0.1"]}),
        )  # fmt: skip
        self.phone = Stack("udp:127.0.0.9:0", core=self.receive)
        self.stack.start()
        self.phone.start()
        self.tap = self.stack.tap(self.note)
        self.tap.__enter__()
        self.port, self.way = (int(each.rpartition(":")[2]) for each in self.stack.addresses)
        self.register("101", contact.format(port=self.port))
        self.register("102", f"sip:102@{self.phone.addresses[0].partition(':')[2]}")
        self.asked.clear()

    def receive(self, request, tx):
        self.messages.append(request)
        return 200

    def note(self, passage):
        if passage.direction == "out" and passage.data.startswith((b"SIP/2.0 401", b"SIP/2.0 407")):
            self.asked.append(passage.data)

    def ask(self, user, method, uri, **headers):
        return self.phone.request(
            method, uri, from_=f"sip:{user}@{DOMAIN}", next_hop=f"sip:127.0.0.1:{self.way}",
            credentials=Credentials(user, USERS[user], realm=DOMAIN, hosts=(DOMAIN, "127.0.0.1")),
            timeout=PATIENCE, **headers,
        )  # fmt: skip

    def register(self, user, contact):
        aor = f"sip:{user}@{DOMAIN}"
        answer = self.ask(user, "REGISTER", f"sip:{DOMAIN}", to=aor, contact=f"<{contact}>")
        assert answer.status == 200

    def stop(self):
        self.tap.__exit__(None, None, None)
        self.phone.stop()
        self.stack.stop()


@pytest.fixture
def office():
    """Start an office: `office("udp:127.0.0.1:0", "sip:102@127.0.0.1:{port}")`."""
    started = []

    def start(*arguments, **options):
        started.append(Office(*arguments, **options))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.mark.rfc("3261 22.3")
@pytest.mark.parametrize(
    ("listen", "contact"),
    [
        ("udp:127.0.0.1:0", "sip:102@127.0.0.1:{port}"),
        ("udp:0.0.0.0:0", "sip:102@127.0.0.1:{port}"),
        ("udp:0.0.0.0:0", "sip:102@127.0.0.2:{port}"),
        ("udp:[::1]:0", "sip:102@[::1]:{port}"),
        ("udp:[::]:0", "sip:102@[::1]:{port}"),
        ("tcp:127.0.0.1:0", "sip:102@127.0.0.1:{port};transport=tcp"),
        ("tcp:0.0.0.0:0", "sip:102@127.0.0.1:{port};transport=tcp"),
        ("tcp:[::]:0", "sip:102@[::1]:{port};transport=tcp"),
        ("tls:127.0.0.1:0", "sip:102@localhost:{port};transport=tls"),
        ("tls:0.0.0.0:0", "sip:102@localhost:{port};transport=tls"),
    ],
)
def test_request_that_returns_is_asked_for_a_password_once(office, pem, listen, contact):
    file = pem("localhost")
    started = office(listen, contact, tls=TLS(file, ca=pem.ca))
    for number in (1, 2):  # the second time by the same connection
        assert started.ask("100", "MESSAGE", f"sip:101@{DOMAIN}").status == 200
        assert len(started.asked) == number
        assert len(started.messages) == number
        assert len(started.messages[-1].via) == 3


@pytest.mark.rfc("3261 22.3")
@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_program_on_this_host_proves_nothing_by_a_branch_that_it_has_seen(office, kind):
    """An edge proxy has the address that the server advertises, and shows the branch to whoever is behind it."""
    there = free_port()
    started = office(
        f"{kind}:127.0.0.1:0;advertise=127.0.0.1:{there}",
        f"sip:102@127.0.0.1:{there};transport={kind}",
    )
    edge = socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    edge.bind(("127.0.0.1", there))
    edge.settimeout(PATIENCE)
    if kind == "tcp":
        edge.listen()
    asking = spawn(started.ask, "100", "MESSAGE", f"sip:101@{DOMAIN}")
    if kind == "udp":
        seen = edge.recv(65535)
        edge.connect(("127.0.0.1", started.port))
        own = edge
    else:
        connection, _ = edge.accept()
        seen = connection.recv(65535)
        own = socket.create_connection(("127.0.0.1", started.port), PATIENCE)
    message = parse(seen)
    forged = Request(
        "MESSAGE", f"sip:102@{DOMAIN}", via=message.via[0].with_params(rport=None), to="<sip:x@y>",
        from_=message.from_, call_id="forged", cseq="1 MESSAGE", max_forwards=70,
    )  # fmt: skip
    own.sendall(bytes(forged))
    while (answer := parse(own.recv(65535))).call_id != "forged":
        pass  # the request of 100, which the server sends again
    asking.kill()
    assert answer.status == 407
    assert started.messages == []
    assert re.search(rb"realm=\"?office", bytes(answer))
    own.close()
    if kind == "tcp":
        connection.close()
        edge.close()
