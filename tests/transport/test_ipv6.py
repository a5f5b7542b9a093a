"""IPv6: brackets, spellings, both versions at once, and link-local addresses, whose interface is not sent."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest
from gevent import socket

from sippet_gevent import URI, RegistrarProxy, Request, StaticResolver, TransportError
from sippet_gevent.message.parser import parse
from sippet_gevent.transport.interfaces import Interfaces, sockaddr
from sippet_gevent.transport.locate.rfc3263 import Candidate
from tests.conformance import corpus

from .conftest import port_of
from .datagram.test_udp import options


def peer_on(host, kind=socket.SOCK_DGRAM):
    sock = socket.socket(socket.AF_INET6, kind)
    sock.bind(sockaddr(host, 0))
    sock.settimeout(5)
    return sock


@pytest.fixture
def peer():
    sock = peer_on("::1")
    yield sock
    sock.close()


# ---- RFC 5118 over a real socket


@corpus.needed
@pytest.mark.rfc("5118 4.1", "5118 4.5", "5118 4.7", "5118 4.9", "5118 4.10")
@pytest.mark.parametrize(
    "row", corpus.rows_of("rfc5118", expected="accept"), ids=lambda row: row.file.partition("/")[2]
)
def test_ipv6_torture_message_is_answered_with_brackets(listen, peer, row):
    seen = []

    def core(request, tx):
        seen.append(request)
        return request.response(200)

    stack = listen("udp:[::1]:0", core=core)
    vias = re.findall(rb"^Via: (.*?)\r\n", row.data, re.M)
    sent_by = re.match(rb"SIP/2.0/UDP [^;]+", vias[0])[0]
    peer.sendto(row.data.replace(sent_by, sent_by + b";rport", 1), ("::1", port_of(stack)))
    data, source = peer.recvfrom(65535)
    assert (source[:2], parse(data).status) == (("::1", port_of(stack)), 200)
    answered = re.findall(rb"^Via: (.*?)\r\n", data, re.M)
    assert answered[0].startswith(sent_by + b";")
    assert answered[1:] == vias[1:]
    assert re.search(rb";received=::1(;|$)", answered[0])
    assert b";rport=%d" % peer.getsockname()[1] in answered[0]
    if seen[0].method == "INVITE":
        assert b"Contact: <sip:[::1]:%d>" % port_of(stack) in data
        peer.sendto(ack_to(seen[0], parse(data)), ("::1", port_of(stack)))
        assert stack.dialogs  # it is answered, and known
        next(iter(stack.dialogs._calls.values())).ended.set()
        stack.dialogs._calls.clear()


def ack_to(invite, response):
    ack = Request(
        "ACK", invite.uri, via=(invite.via[0].with_params(branch="z9hG4bKack"),), from_=invite.from_, to=response.to,
        call_id=invite.call_id, cseq=invite.cseq._replace(method="ACK"), max_forwards=70,
    )  # fmt: skip
    return bytes(ack)


@pytest.mark.rfc("5118 4.2")
@corpus.needed
def test_address_without_brackets_in_the_request_uri_is_refused(listen, peer):
    stack = listen("udp:[::1]:0")
    peer.sendto(
        corpus.read("rfc5118/ipv6-bad.dat").replace(b";branch", b";rport;branch"),
        ("::1", port_of(stack)),
    )
    assert parse(peer.recv(65535)).status == 400


# ---- brackets and spellings


def test_brackets_stand_in_every_header_we_write(listen):
    seen = []
    server = listen("udp:[::1]:0", core=lambda request, tx: seen.append(request) or 200)
    client = listen("udp:[::1]:0")
    response = client.request(
        "SUBSCRIBE", f"sip:bob@{server.addresses[0][4:]}", event="x", timeout=5
    )
    ours = f"[::1]:{port_of(client)}"
    request = seen[0]
    assert request.headers["Via"].startswith(f"SIP/2.0/UDP {ours};branch=")
    assert request.headers["Contact"] == f"<sip:{ours}>"
    assert str(request.uri) == f"sip:bob@[::1]:{port_of(server)}"
    assert str(server.route_uri(request, request.flow)).startswith("<sip:") and "@[::1]:" in str(
        server.route_uri(request, request.flow)
    )
    assert response.via[0].received == "::1"
    assert repr(request.flow) == f"<Flow UDP {ours}>"
    assert repr(client.engine.transports[0]) == f"<UDP {ours}>"


@pytest.mark.rfc("5118 4.10")
def test_spellings_of_one_address_are_one_host(listen):
    stack = listen("udp:[0:0::0:1]:0", "udp:[::ffff:127.0.0.1]:0")
    assert [transport.local[0] for transport in stack.engine.transports] == ["::1", "127.0.0.1"]
    six, four = port_of(stack), port_of(stack, 1)
    for text in (
        f"sip:[0:0:0:0:0:0:0:1]:{six}",
        f"sip:[::1]:{six}",
        f"sip:[::FFFF:127.0.0.1]:{four}",
        f"sip:[::ffff:7f00:1]:{four}",
    ):
        assert stack.is_local(URI.parse(text)), text


def test_interfaces_know_an_address_by_any_spelling():
    assert Interfaces("::1").is_ours("0:0:0:0:0:0:0:1")
    assert Interfaces("::").is_ours("0::1")
    assert not Interfaces("::1").is_ours("::2")


@pytest.mark.rfc("3261 18.2.1")
def test_received_is_not_added_for_another_spelling_of_the_address(listen, peer):
    stack = listen("udp:[::1]:0")
    peer.sendto(
        options(f"[0::0:1]:{peer.getsockname()[1]};branch=z9hG4bK1"), ("::1", port_of(stack))
    )
    via = parse(peer.recv(65535)).via[0]
    assert (via.host, via.received) == ("[0::0:1]", None)


def test_mapped_address_is_reached_over_ipv4(listen):
    server, client = listen("udp:127.0.0.1:0", "tcp:127.0.0.1:0"), listen("udp:*:0", "tcp:*:0")
    for kind, index in (("udp", 0), ("tcp", 1)):
        uri = f"sip:[::ffff:127.0.0.1]:{port_of(server, index)};transport={kind}"
        response = client.request("OPTIONS", uri, timeout=5)
        assert (response.status, response.flow.remote[0]) == (200, "127.0.0.1")


def test_mapped_address_of_a_resolver_is_reached_over_ipv4_too(listen):
    class Mapped(StaticResolver):
        def resolve(self, uri, transports=()):
            return [Candidate("UDP", "::ffff:127.0.0.1", uri.port, uri.host)]

    server, client = listen("udp:127.0.0.1:0"), listen("udp:127.0.0.1:0", resolver=Mapped({}))
    response = client.request("OPTIONS", f"sip:a.example:{port_of(server)}", timeout=5)
    assert (response.status, response.flow.remote[0]) == (200, "127.0.0.1")


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "224.0.1.75", "255.255.255.255", "[::]", "[ff02::1]", "[::ffff:0.0.0.0]"]
)
def test_address_that_is_not_of_one_host_is_not_sent_to(listen, host):
    with pytest.raises(TransportError, match="not the address of one host"):
        listen("udp:*:0").request("OPTIONS", f"sip:{host}:9", timeout=5)


# ---- both versions


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_star_listens_on_both_versions(listen, kind):
    server, client = listen(f"{kind}:*:0;name=all"), listen(f"{kind}:*:0")
    for index, host in enumerate(("127.0.0.1", "[::1]")):
        uri = f"sip:{host}:{port_of(server, index)};transport={kind}"
        response = client.request("OPTIONS", uri, timeout=5)
        assert (response.status, response.flow.remote[0]) == (200, host.strip("[]"))
    assert [transport.listener.name for transport in server.engine.transports] == ["all", "all"]


def test_star_on_a_port_that_one_version_has_taken_leaves_nothing_open(listen, peer):
    stack = listen("udp:127.0.0.1:0")
    before = stack.addresses
    with pytest.raises(TransportError, match="in use"):
        stack.listen(f"udp:*:{peer.getsockname()[1]}")
    assert (stack.addresses, len(stack.planned)) == (before, 1)


def test_named_listener_on_both_versions_is_reached_by_either(listen):
    server, client = listen("udp:*:0"), listen("udp:127.0.0.1:0", "udp:[::1]:0", "udp:*:0;name=all")
    for index, host in enumerate(("127.0.0.1", "[::1]")):
        response = client.request(
            "OPTIONS", f"sip:{host}:{port_of(server, index)}", listener="all", timeout=5
        )
        assert response.flow.transport.listener.name == "all"


@pytest.mark.parametrize("problem", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_machine_without_ipv6_says_so_once_and_serves_ipv4(listen, monkeypatch, caplog, problem):
    system = socket._socket.socket

    class Socket(system):  # the system's part, as it is with ipv6.disable=1
        def __init__(self, family=-1, *arguments, **named):
            if family == socket.AF_INET6:
                raise OSError(problem, "no IPv6")
            super().__init__(family, *arguments, **named)

    monkeypatch.setattr(socket._socket, "socket", Socket)
    stack = listen("udp:*:0")
    monkeypatch.undo()
    assert [transport.local[0] for transport in stack.engine.transports] == ["0.0.0.0"]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        'IP version skipped: address=udp:[::]:0 reason="cannot listen on udp:[::]:0: no IPv6"'
    ]


# ---- link-local addresses


def link_local():
    """An address of this machine's own on some link, with its interface; what is sent to it never leaves the machine."""
    try:
        lines = Path("/proc/net/if_inet6").read_text().split("\n")
    except OSError:
        return None
    for digits, _, _, scope, flags, name in filter(None, map(str.split, lines)):
        if scope == "20" and not int(flags, 16) & 0x48:  # neither tentative nor a duplicate
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)), name
    return None


LINK = link_local()
on_a_link = pytest.mark.skipif(LINK is None, reason="no interface here has a link-local address")


@on_a_link
@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_link_local_addresses_are_listened_on_and_reached(listen, kind):
    host, name = LINK
    address = f"{kind}:[{host}%{name}]:0"
    seen = []
    server = listen(address, core=lambda request, tx: seen.append(request) or 200)
    client = listen(address)
    response = client.request(
        "SUBSCRIBE", f"sip:[{host}]:{port_of(server)};transport={kind}", event="x", timeout=5
    )
    assert response.status == 200
    assert server.addresses == [f"{kind}:[{host}%{name}]:{port_of(server)}"]
    assert server.is_local(URI.parse(f"sip:[{host}]:{port_of(server)}"))
    for message in (seen[0], response):
        assert "%" not in str(message)
        assert message.flow.remote[0] == host
        assert message.flow.scope == socket.if_nametoindex(name)


@on_a_link
@pytest.mark.parametrize("rport", [";rport", ""])
def test_request_from_a_link_local_address_is_answered_by_a_wildcard(listen, rport):
    host, name = LINK
    flows = []
    stack = listen("udp:[::]:0", core=lambda request, tx: flows.append(request.flow) or 200)
    sock = peer_on(f"{host}%{name}")
    other = sock if rport else peer_on(f"{host}%{name}")
    via = f"[{host}]:{other.getsockname()[1]};branch=z9hG4bK1{rport}"
    sock.sendto(options(via), sockaddr(f"{host}%{name}", port_of(stack)))
    data, source = other.recvfrom(65535)
    assert (parse(data).status, source[:2]) == (200, (host, port_of(stack)))
    flow = stack.find_flow(stack.flow_name(flows[0]))
    flow.send(b"x")
    assert sock.recvfrom(9)[0] == b"x"
    sock.close()
    other.close()


@on_a_link
@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_link_local_contact_is_dialled_on_the_link_its_dialog_came_by(listen, kind):
    host, name = LINK

    def answer(request, tx):
        with tx.accept() as call:
            results.append(call.request("INFO", timeout=5).status)

    results = []
    seen = []
    callee = listen(f"{kind}:[::]:0", core=answer)
    caller = listen(
        f"{kind}:[{host}%{name}]:0", core=lambda request, tx: seen.append(request) or 200
    )
    call = caller.invite(f"sip:[{host}]:{port_of(callee)};transport={kind}", timeout=5)
    assert call.wait(5)
    assert results == [200]
    assert isinstance(seen[0], Request) and seen[0].via[0].host == f"[{host}]"


@on_a_link
@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_phone_registered_at_a_link_local_contact_is_called_on_its_link(listen, kind):
    host, name = LINK
    server = listen(f"{kind}:[::]:0", core=RegistrarProxy())
    phone = listen(f"{kind}:[{host}%{name}]:0", core=lambda request, tx: 299)
    caller = listen("udp:[::1]:0", "tcp:[::1]:0")
    aor, by = f"sip:bob@[::1]:{port_of(server)}", f";transport={kind}"
    contact = f"<sip:bob@[{host}]:{port_of(phone)}{by}>"
    registrar = f"sip:[{host}]:{port_of(server)}{by}"
    assert (
        phone.request("REGISTER", registrar, to=f"<{aor}>", contact=contact, timeout=5).status
        == 200
    )
    assert caller.request("MESSAGE", f"{aor}{by}", timeout=5).status == 299


@on_a_link
@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_link_local_target_without_a_link_is_a_transport_error(listen, kind):
    with pytest.raises(TransportError, match="on every link"):
        listen(f"{kind}:[::]:0").request("OPTIONS", f"sip:[fe80::1];transport={kind}", timeout=5)


@pytest.mark.rfc("3261 25.1")
def test_interface_in_a_uri_means_nothing(listen):
    stack = listen("udp:[::]:0")
    with pytest.raises(TransportError, match="means nothing in a URI"):
        stack.request("OPTIONS", "sip:a.example;maddr=fe80::1%25lo", timeout=5)
