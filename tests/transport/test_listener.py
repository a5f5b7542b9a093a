"""Addresses to listen on: their parameters, their errors, and the Via and Contact that follow from them."""

from __future__ import annotations

import ipaddress

import pytest
from gevent import socket

from sippet_gevent import URI, InvalidValue, NameAddr, Request, Stack, forward
from sippet_gevent.message.parser import parse
from sippet_gevent.transport.listener import Advertised, Listener
from sippet_gevent.transport.memory import MemoryTransport

from .conftest import port_of
from .datagram.test_udp import options

KNOWN = ("udp", "tcp", "tls")


def read(text):
    return Listener.parse(text, KNOWN)


# ---- reading


@pytest.mark.parametrize(
    ("text", "transport", "host", "port"),
    [
        ("udp:192.0.2.1:5060", "udp", "192.0.2.1", 5060),
        ("192.0.2.1", "udp", "192.0.2.1", None),
        ("tls:sip.example.com:0", "tls", "sip.example.com", 0),
        ("tcp:[2001:DB8:0::1]:5070", "tcp", "2001:db8::1", 5070),
        ("udp:[fe80::1%eth0]:5060", "udp", "fe80::1%eth0", 5060),
        ("udp:[::ffff:192.0.2.1]", "udp", "192.0.2.1", None),
        ("udp:*:5060", "udp", "*", 5060),
    ],
)
def test_address_is_read(text, transport, host, port):
    listener = read(text)
    assert (listener.transport, listener.host, listener.port) == (transport, host, port)
    assert (listener.name, listener.advertise, listener.proxy) == ("", None, None)


@pytest.mark.parametrize(
    ("text", "advertised", "shown"),
    [
        ("203.0.113.7", ("203.0.113.7", None), "203.0.113.7"),
        ("203.0.113.7:5070", ("203.0.113.7", 5070), "203.0.113.7:5070"),
        ("sip.example.com:5070", ("sip.example.com", 5070), "sip.example.com:5070"),
    ],
)
def test_advertised_host_and_port_are_read(text, advertised, shown):
    listener = read(f"udp:10.0.0.5:5060;name=inside;advertise={text}")
    assert (listener.name, listener.advertise) == ("inside", advertised)
    assert str(listener.advertise) == shown


def test_advertised_ipv6_is_in_brackets():
    listener = read("udp:[fd00::5]:5060;advertise=[2001:DB8::7]:5070")
    assert listener.advertise == Advertised("2001:db8::7", 5070)
    assert str(listener.advertise) == "[2001:db8::7]:5070"


def test_networks_of_load_balancers_are_read():
    assert read("tcp:10.0.0.5").proxy is None
    assert read("tcp:10.0.0.5;proxy").proxy == ()
    networks = read("tls:10.0.0.5;proxy=192.0.2.0/24,198.51.100.9,2001:db8::/32").proxy
    assert networks == tuple(
        map(ipaddress.ip_network, ("192.0.2.0/24", "198.51.100.9/32", "2001:db8::/32"))
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("udp:1.2.3.4;", "no parameter ''"),
        ("udp:1.2.3.4;colour=red", "no parameter 'colour': write one of name, advertise, proxy"),
        ("udp:1.2.3.4;name=a;name=b", "name is there twice"),
        ("udp:1.2.3.4;name", "name=inside"),
        ("udp:1.2.3.4;name=in side", "name=inside"),
        ("udp:1.2.3.4;advertise", "advertise must be a host"),
        ("udp:1.2.3.4;advertise=", "advertise must be a host"),
        ("udp:1.2.3.4;advertise=a b", "advertise must be a host"),
        ("udp:1.2.3.4;advertise=2001:db8::1", "advertise must be a host"),
        ("udp:[::1];advertise=[2001:db8::1", "advertise must be a host"),
        ("udp:[::1];advertise=[2001:db8:::1]", "advertise must be a host"),
        ("udp:1.2.3.4;advertise=h.example:", "port of advertise is 1 to 65535"),
        ("udp:1.2.3.4;advertise=h.example:0", "port of advertise is 1 to 65535"),
        ("udp:1.2.3.4;advertise=h.example:65536", "port of advertise is 1 to 65535"),
        ("udp:1.2.3.4;advertise=h.example:999999", "port of advertise is 1 to 65535"),
        ("udp:1.2.3.4;advertise=0.0.0.0", "does not lead to this host"),
        ("udp:1.2.3.4;advertise=224.0.1.75", "does not lead to this host"),
        ("udp:[::1];advertise=[fe80::1]", "does not lead to this host"),
        ("udp:1.2.3.4;advertise=[2001:db8::1]", "is IPv6, and the listener IPv4"),
        ("udp:*;advertise=203.0.113.7", "advertise a name"),
        ("udp:1.2.3.4;proxy", "proxy is for connections"),
        ("tcp:1.2.3.4;proxy=", "proxy must be networks"),
        ("tcp:1.2.3.4;proxy=lb.example", "proxy must be networks"),
        ("tcp:1.2.3.4;proxy=192.0.2.1/24", "host bits set"),
        ("tcp:1.2.3.4:65536", "65535"),
        ("udp:[fe80::1]:5060", "write its interface, .fe80::1%eth0"),
        ("udp:[2001:db8::1%eth0]:5060", "not a link-local address"),
        ("udp:[1::2::3]:5060", "not an IPv6 address"),
        ("sctp:1.2.3.4:5060", "transports are udp, tcp, tls"),
    ],
)
def test_invalid_address_raises_with_what_to_write(text, says):
    with pytest.raises(InvalidValue, match=says):
        read(text)


def test_name_is_unique_for_each_transport():
    stack = Stack("udp:127.0.0.1:0;name=inside", "tcp:127.0.0.1:0;name=inside")
    with pytest.raises(InvalidValue, match="named 'inside' already"):
        stack.listen("udp:127.0.0.1:0;name=inside")


def test_listener_without_a_name_is_called_by_its_address():
    with Stack("udp:127.0.0.1:0", "udp:127.0.0.1:0;name=inside") as stack:
        names = [transport.listener.name for transport in stack.engine.transports]
        assert names == [stack.addresses[0], "inside"]


def test_transport_of_ones_own_has_one_host(sip):
    with pytest.raises(InvalidValue, match="give it a host"):
        Stack().listen("udp:*:5060", MemoryTransport(sip.network))


# ---- what is told of it


@pytest.fixture
def peer():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(5)
    yield sock
    sock.close()


@pytest.mark.rfc("3261 18.1.1", "3261 8.1.1.8")
def test_via_and_contact_of_our_requests_name_what_is_advertised(listen):
    seen = []
    server = listen("udp:127.0.0.1:0", core=lambda request, tx: seen.append(request) or 200)
    client = listen(
        "udp:127.0.0.1:0;advertise=203.0.113.7", "tcp:127.0.0.1:0;advertise=sip.example.com:5070"
    )
    assert (
        client.request("SUBSCRIBE", f"sip:{server.addresses[0][4:]}", event="x", timeout=5).status
        == 200
    )
    via, contact = seen[0].via[0], seen[0].contact[0].uri
    assert (via.host, via.port, via.received) == ("203.0.113.7", port_of(client), "127.0.0.1")
    assert (contact.host, contact.port) == ("203.0.113.7", port_of(client))


def test_name_is_advertised_over_tcp_with_its_port(listen):
    seen = []
    server = listen("tcp:127.0.0.1:0", core=lambda request, tx: seen.append(request) or 200)
    client = listen("tcp:127.0.0.1:0;advertise=sip.example.com:5070")
    assert (
        client.request(
            "SUBSCRIBE", f"sip:{server.addresses[0][4:]};transport=tcp", event="x", timeout=5
        ).status
        == 200
    )
    assert seen[0].via[0].sent_by == "sip.example.com:5070"
    assert str(seen[0].contact[0].uri) == "sip:sip.example.com:5070;transport=tcp"


def test_advertised_ipv6_has_brackets_in_via_and_contact(listen):
    seen = []
    server = listen("udp:[::1]:0", core=lambda request, tx: seen.append(request) or 200)
    client = listen("udp:[::1]:0;advertise=[2001:db8::7]:5070")
    assert (
        client.request("SUBSCRIBE", f"sip:{server.addresses[0][4:]}", event="x", timeout=5).status
        == 200
    )
    assert seen[0].headers["Via"].startswith("SIP/2.0/UDP [2001:db8::7]:5070;")
    assert str(seen[0].contact[0].uri) == "sip:[2001:db8::7]:5070"


@pytest.mark.rfc("3261 18.2.2", "3261 12.1.1")
def test_request_without_rport_is_answered_from_the_real_address(listen, peer):
    stack = listen("udp:127.0.0.1:0;advertise=203.0.113.7:5070")
    invite = options(
        f"127.0.0.1:{peer.getsockname()[1]};branch=z9hG4bK1",
        more="Contact: <sip:a@127.0.0.1:9>\r\n",
    )
    peer.sendto(invite.replace(b"OPTIONS", b"INVITE"), ("127.0.0.1", port_of(stack)))
    data, source = peer.recvfrom(65535)
    assert source == ("127.0.0.1", port_of(stack))
    assert str(parse(data).contact[0].uri) == "sip:203.0.113.7:5070"
    stack.dialogs._calls.clear()  # or a BYE would be sent to a closed port


def test_advertised_and_real_address_are_both_ours(listen):
    stack = listen(
        "udp:127.0.0.1:0;advertise=SIP.example.com:5070", "udp:[::1]:0;advertise=[2001:db8::7]"
    )
    real, six = port_of(stack), port_of(stack, 1)
    ours = (
        f"sip:127.0.0.1:{real}",
        "sip:sip.example.com:5070",
        f"sip:[2001:DB8:0::7]:{six}",
        f"sip:[0:0::1]:{six}",
    )
    assert [uri for uri in ours if not stack.is_local(URI.parse(uri))] == []
    others = (
        "sip:127.0.0.1:5070",
        "sip:sip.example.com",
        f"sip:[2001:db8::8]:{six}",
        f"sip:sip.example.com:{real}",
    )
    assert [uri for uri in others if stack.is_local(URI.parse(uri))] == []


@pytest.mark.rfc("3261 16.6", "3261 16.4")
def test_record_route_names_what_is_advertised_and_is_known_again(sip):
    routes = []

    def core(request, tx):
        routes.append(tx.take_route())
        return forward(
            request, tx, *([] if routes[-1] else [f"sip:bob@{phone}"]), record_route=True
        )

    phone = "10.0.0.50"
    proxy = Stack(core=core, clock=sip.clock)
    proxy.listen("udp:10.0.0.1:5060;advertise=203.0.113.7:5070", MemoryTransport(sip.network))
    sip.stacks.append(proxy.start())
    seen = []
    sip.stack(lambda request, tx: seen.append(request) or 200, host=phone)
    asked = sip.ask(proxy, "SUBSCRIBE sip:bob@10.0.0.1", event="x")
    route = asked.response.record_route[0]
    assert (route.uri.host, route.uri.port) == ("203.0.113.7", 5070)
    assert asked.statuses == [200]
    first = asked.request
    within = Request(
        "SUBSCRIBE",
        f"sip:bob@{phone}",
        from_=first.from_,
        to=asked.response.to,
        call_id=first.call_id,
        event="x",
    )
    within.cseq = first.cseq._replace(number=2)
    within.route = (NameAddr(route.uri),)
    assert sip.ask(proxy, within).statuses == [200]
    assert routes == [False, True]
    assert [str(via.host) for via in seen[1].via] == ["203.0.113.7", "10.0.0.100"]
