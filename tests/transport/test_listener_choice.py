"""By which of several listeners a request leaves: the one named, the dialog's, the one the kernel's routes choose.

And from which address a response leaves where one listener has several.
"""

from __future__ import annotations

import pytest
from gevent import socket

from sippet_gevent import InvalidValue, Request, TransportError, forward
from sippet_gevent.message.parser import parse
from sippet_gevent.transport.base import Origin
from sippet_gevent.transport.datagram import udp as udp_module
from sippet_gevent.transport.listener_choice import ListenerChoice
from sippet_gevent.transport.locate.rfc3263 import Candidate
from tests.ports import free_port

from .conftest import port_of
from .datagram.test_udp import options

HOSTS = ("127.0.0.2", "127.0.0.1", "127.0.0.3")
"""The kernel sends to all of 127.0.0.0/8 from the second one."""


@pytest.fixture
def server(listen):
    """A stack that notes what it gets, and where it is reached."""
    seen = []
    stack = listen(
        "udp:127.0.0.1:0", "tcp:127.0.0.1:0", core=lambda request, tx: seen.append(request) or 200
    )
    stack.seen = seen
    stack.uri = f"sip:{stack.addresses[0][4:]}"
    stack.tcp = f"sip:{stack.addresses[1][4:]};transport=tcp"
    return stack


def listeners(*kinds):
    return [
        f"{kind}:{host}:0;name={name}"
        for kind in kinds
        for host, name in zip(HOSTS, ("two", "one", "three"))
    ]


@pytest.mark.parametrize("kind", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("name", "host"), [("one", "127.0.0.1"), ("two", "127.0.0.2"), ("three", "127.0.0.3")]
)
def test_request_leaves_by_the_listener_that_is_named(listen, server, kind, name, host):
    client = listen(*listeners("udp", "tcp"))
    uri = {"udp": server.uri, "tcp": server.tcp}[kind]
    response = client.request("OPTIONS", uri, listener=name, timeout=5)
    assert response.flow.transport.listener.name == name
    request = server.seen[0]
    assert (request.flow.remote[0], request.via[0].host, request.via[0].transport) == (
        host,
        host,
        kind.upper(),
    )


def test_request_leaves_by_the_listener_that_the_kernel_sends_from(listen, server):
    client = listen(*listeners("udp"))
    client.request("OPTIONS", server.uri, timeout=5)
    assert server.seen[0].flow.remote == ("127.0.0.1", port_of(client, 1))


def test_request_leaves_by_a_wildcard_where_no_listener_has_that_address(listen, server):
    client = listen("udp:127.0.0.2:0", "udp:0.0.0.0:0")
    client.request("OPTIONS", server.uri, timeout=5)
    assert server.seen[0].flow.remote == ("127.0.0.1", port_of(client, 1))


def test_request_leaves_by_the_first_listener_of_its_ip_version(listen, server):
    client = listen("udp:[::1]:0", "udp:127.0.0.3:0", "udp:127.0.0.2:0")
    client.request("OPTIONS", server.uri, timeout=5)
    assert server.seen[0].flow.remote == ("127.0.0.3", port_of(client, 1))


def test_unknown_listener_name_raises_with_the_names_that_exist(listen, server):
    client = listen("udp:127.0.0.2:0;name=inside")
    with pytest.raises(InvalidValue, match="no listener is named 'outside': write one of inside"):
        client.request("OPTIONS", server.uri, listener="outside")


def test_named_listener_that_does_not_lead_there_is_a_transport_error(listen, server):
    client = listen("udp:127.0.0.2:0;name=inside", "tcp:127.0.0.1:0", "udp:[::1]:0;name=six")
    with pytest.raises(TransportError, match="listen on an address of its transport, tcp"):
        client.request("OPTIONS", server.tcp, listener="inside")
    with pytest.raises(TransportError, match="other IP version"):
        client.request("OPTIONS", server.uri, listener="six")


@pytest.mark.rfc("3261 12.2.1.1")
@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_requests_in_a_call_leave_where_the_call_came_in(listen, kind):
    def answer(request, tx):
        if request.method == "INVITE":
            with tx.accept() as call:
                call.request("INFO")
        return 200

    callee = listen(*listeners("udp", "tcp"), core=answer)
    seen = []
    caller = listen(
        "udp:127.0.0.1:0", "tcp:127.0.0.1:0", core=lambda request, tx: seen.append(request) or 200
    )
    index = 2 if kind == "udp" else 5
    host, port = callee.engine.transports[index].local
    call = caller.invite(f"sip:{host}:{port};transport={kind}", timeout=5)
    assert call.wait(5)
    info = seen[0]
    assert (info.method, info.flow.remote[0], info.via[0].host) == (
        "INFO",
        "127.0.0.3",
        "127.0.0.3",
    )


@pytest.mark.rfc("3261 12.2.1.1")
def test_caller_s_requests_leave_by_the_listener_it_has_called_from(listen):
    seen = []

    def answer(request, tx):
        seen.append(request)
        if request.method == "INVITE":
            tx.accept().wait(5)
        return 200

    callee = listen("udp:127.0.0.1:0", core=answer)
    caller = listen(*listeners("udp"))
    with caller.invite(f"sip:{callee.addresses[0][4:]}", listener="two", timeout=5) as call:
        assert call.request("INFO", timeout=5).status == 200
    assert {request.flow.remote[0] for request in seen} == {"127.0.0.2"}
    assert seen[0].contact[0].uri.host == "127.0.0.2"


@pytest.mark.rfc("3261 8.1.1.8")
def test_request_sent_by_two_listeners_has_the_contact_of_each(listen, server):
    client = listen(*listeners("udp"))
    request = Request("INVITE", server.uri)
    for name in ("two", "three"):
        client.send(request, listener=name).final(timeout=5)
    assert [seen.contact[0].uri.host for seen in server.seen] == ["127.0.0.2", "127.0.0.3"]


@pytest.mark.rfc("3261 16.6")
def test_proxy_sends_on_by_the_listener_that_is_named(listen, server):
    def core(request, tx):
        name = {"inside": "outside", "outside": "inside"}[tx.flow.transport.listener.name]
        forward(request, tx, server.uri, listener=name)

    proxy = listen("udp:127.0.0.2:0;name=inside", "udp:127.0.0.3:0;name=outside", core=core)
    client = listen("udp:127.0.0.1:0")
    for address in proxy.addresses:
        assert client.request("OPTIONS", f"sip:bob@{address[4:]}", timeout=5).status == 200
    assert [request.via[0].host for request in server.seen] == ["127.0.0.3", "127.0.0.2"]


def test_dialog_s_listener_is_not_used_without_a_route_from_it(listen):
    stack = listen("udp:127.0.0.1:0", "udp:0.0.0.0:0")
    loopback, anywhere = stack.engine.transports
    choice = ListenerChoice(stack.engine.transports)
    origin = Origin(loopback)
    far, near = Candidate("UDP", "192.0.2.77", 5060), Candidate("UDP", "127.0.0.9", 5060)
    assert [transport for transport, _ in choice.ways(far, origin)] == [anywhere, loopback]
    assert [transport for transport, _ in choice.ways(near, origin)] == [loopback, anywhere]


def test_dialog_that_goes_on_over_another_transport_keeps_to_the_port(listen):
    ports = [free_port(), free_port()]
    stack = listen(*(f"{kind}:127.0.0.1:{port}" for kind in ("udp", "tcp") for port in ports))
    choice, far = ListenerChoice(stack.engine.transports), Candidate("TCP", "127.0.0.9", 5060)
    for udp, tcp in ((0, 2), (1, 3)):
        ways = choice.ways(far, Origin(stack.engine.transports[udp]))
        assert next(iter(ways))[0] is stack.engine.transports[tcp]


def test_dialog_that_goes_on_over_another_transport_keeps_to_the_host(listen):
    stack = listen("udp:127.0.0.2:0", "tcp:127.0.0.1:0", "tcp:127.0.0.2:0", "tcp:127.0.0.3:0")
    udp, _, beside, _ = stack.engine.transports
    ways = ListenerChoice(stack.engine.transports).ways(
        Candidate("TCP", "127.0.0.9", 5060), Origin(udp)
    )
    assert next(iter(ways))[0] is beside


def test_kernel_is_not_asked_about_a_name(listen):
    stack = listen("udp:127.0.0.2:0", "udp:127.0.0.1:0")
    choice = ListenerChoice(stack.engine.transports)
    choice._routes = None  # it would ask the resolver, and block the loop
    assert [
        transport for transport, _ in choice.ways(Candidate("UDP", "a.example", 5060))
    ] == stack.engine.transports


# ---- one listener on several addresses


@pytest.fixture
def peer():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(5)
    yield sock
    sock.close()


@pytest.mark.rfc("3581 4")
@pytest.mark.parametrize("rport", [";rport", ""])
@pytest.mark.parametrize("host", HOSTS)
def test_wildcard_answers_from_the_address_that_was_asked(listen, peer, host, rport):
    stack = listen("udp:0.0.0.0:0")
    other = peer
    if not rport:
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        other.bind(("127.0.0.1", 0))
        other.settimeout(5)
    via = f"127.0.0.1:{other.getsockname()[1]};branch=z9hG4bK1{rport}"
    peer.sendto(options(via), (host, port_of(stack)))
    data, source = other.recvfrom(65535)
    assert (parse(data).status, source) == (200, (host, port_of(stack)))
    if other is not peer:
        other.close()


def test_contact_of_a_wildcard_names_the_address_that_was_asked(listen):
    server, client = listen("udp:0.0.0.0:0"), listen("udp:0.0.0.0:0")
    server.core = lambda request, tx: request.response(200)
    with client.invite(f"sip:127.0.0.3:{port_of(server)}", timeout=5) as call:
        assert call.dialog.remote_target.host == "127.0.0.3"
        assert call.request("INFO", timeout=5).status == 200


def test_flow_from_the_address_that_was_asked_is_found_by_its_name(listen, peer):
    flows = []
    stack = listen("udp:0.0.0.0:0", core=lambda request, tx: flows.append(request.flow) or 200)
    for host in HOSTS:
        peer.sendto(
            options(call_id=host).replace(b"z9hG4bK1", b"z9hG4bK" + host.encode()),
            (host, port_of(stack)),
        )
        peer.recv(65535)
    found = [stack.find_flow(stack.flow_name(flow)) for flow in flows]
    assert [flow.local[0] for flow in found] == list(HOSTS)
    for flow, host in zip(found, HOSTS):
        assert flow.remote == peer.getsockname()
        flow.send(b"x")
        assert peer.recvfrom(9) == (b"x", (host, port_of(stack)))
    for name in ("z", "p", "7f000001", "7f00000113c4zx", "7f00000113c4pz", "7f00000113c4p7f"):
        assert stack.engine.transports[0].find(name) is None


def test_flows_of_a_wildcard_are_few_and_forgotten_when_there_are_too_many(
    listen, peer, monkeypatch
):
    monkeypatch.setattr(udp_module, "FLOWS", 10)
    stack = listen("udp:0.0.0.0:0")
    for number in range(1, 40):
        peer.sendto(
            options(f"127.0.0.1;branch=z9hG4bK{number};rport", call_id=str(number)),
            (f"127.0.0.{number}", port_of(stack)),
        )
        assert parse(peer.recv(65535)).status == 200
    assert len(stack.engine.transports[0]._flows) <= 11


def test_answer_from_the_address_that_was_asked_waits_for_room(listen, peer):
    stack = listen("udp:0.0.0.0:0")
    transport = stack.engine.transports[0]
    real, refusals = transport.queue.sendmsg, [BlockingIOError(11, "full")] * 3

    def sendmsg(*arguments):
        if refusals:
            raise refusals.pop()
        return real(*arguments)

    transport.queue.sendmsg = sendmsg
    peer.sendto(options("127.0.0.1;branch=z9hG4bK1;rport"), ("127.0.0.2", port_of(stack)))
    data, source = peer.recvfrom(65535)
    assert (parse(data).status, source[0], transport.queue.waited) == (200, "127.0.0.2", 1)


# ---- detours


def listen_both_ways(listen, core):
    """Return a stack on one port of UDP and TCP."""
    port = free_port()
    return listen(f"udp:127.0.0.1:{port}", f"tcp:127.0.0.1:{port}", core=core)


@pytest.mark.rfc("3261 18.1.1")
@pytest.mark.parametrize(("kinds", "transport"), [(("udp", "tcp"), "TCP"), (("udp",), "UDP")])
def test_long_request_over_tcp_leaves_by_the_named_listener(listen, kinds, transport):
    seen = []
    server = listen_both_ways(listen, lambda request, tx: seen.append(request) or 200)
    client = listen(*listeners(*kinds), "tcp:127.0.0.1:0")
    uri = f"sip:127.0.0.1:{port_of(server)}"
    assert client.request("MESSAGE", uri, listener="two", body="x" * 1400, timeout=5).status == 200
    assert (seen[0].flow.transport.name, seen[0].flow.remote[0]) == (transport, "127.0.0.2")
    assert (
        client.request("MESSAGE", uri, body="x" * 1400, timeout=5).status == 200
    )  # nothing is held against TCP there
    assert seen[1].flow.transport.name == "TCP"
