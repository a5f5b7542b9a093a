"""Names on the virtual network: which URIs are ours, and the URIs that we write."""

from __future__ import annotations

import pytest

from sippet_gevent import URI, InvalidValue, Request, parse
from sippet_gevent.core.routing.own_names import Names
from sippet_gevent.runtime.clock import VirtualClock
from sippet_gevent.stores.bindings import FlowName
from sippet_gevent.transport.listener import Advertised, Listener
from sippet_gevent.transport.memory import Network

PHONE = ("10.0.0.9", 5060)


class Element:
    """Open transports on one host, and their Names."""

    def __init__(self, *listeners, **options):
        network = Network(VirtualClock())
        self.transports = []
        self.names = Names(self.transports, **options)
        for listener in listeners:
            transport = network.transport()
            transport.listener = Listener.parse(listener, ("udp",))
            transport.start((transport.listener.host, transport.listener.port), None)
            self.transports.append(transport)
            self.names.add(transport)

    def flow(self, index=0):
        return self.transports[index].connect(PHONE)

    def is_local(self, text):
        return self.names.is_local(URI.parse(text))


@pytest.mark.rfc("3261 16.4", "3263 4.2", "7118 5.4")
@pytest.mark.parametrize(("uri", "is_ours"), [
    ("sip:10.0.0.1", True),
    ("sip:bob@10.0.0.1:5060;lr", True),
    ("sip:10.0.0.1:5070", False),
    ("sips:10.0.0.1", False),
    ("sip:10.0.0.3", False),
    ("sip:10.0.0.3;transport=tls;lr", True),
    ("sips:10.0.0.3", True),
    ("sips:10.0.0.3;transport=ws", False),
    ("sip:10.0.0.4;transport=ws;lr", True),
    ("sip:10.0.0.4;transport=wss;lr", True),
    ("sips:10.0.0.4;transport=ws", True),
    ("sip:10.0.0.4;transport=tcp", False),
    ("sip:localhost", False),
    ("sip:localhost:5090", True),
    ("sip:192.0.2.7:9", True),
    ("sips:10.0.0.1:5060", True),
    ("sip:10.0.0.2", False),
    ("sip:edge.example:7000", True),
    ("sip:EDGE.example.:7000", True),
    ("sip:edge.example", False),
    ("sip:bob@Example.COM:1", True),
    ("sip:sub.example.com", False),
    ("tel:+15551234", False),
])  # fmt: skip
def test_bound_and_advertised_addresses_and_domains_are_ours(uri, is_ours):
    others = ("udp:10.0.0.3:5061", "udp:10.0.0.4:443", "udp:127.0.0.1:5090")
    edge = "udp:10.0.0.1:5080;advertise=edge.example:7000"
    element = Element(
        "udp:10.0.0.1:5060", edge, *others, domains=("Example.com", "10.0.0.1", "192.0.2.7")
    )
    assert element.is_local(uri) is is_ours


def test_closed_element_keeps_its_domains_without_addresses():
    element = Element("udp:10.0.0.1:5060", domains=("example.com",))
    element.transports.clear()
    element.names.forget()
    assert not element.is_local("sip:10.0.0.1")
    assert element.is_local("sip:example.com")


def test_sent_by_given_to_a_peer_is_ours_from_then_on():
    element = Element("udp:10.0.0.1:5060")
    flow = element.flow()
    flow.transport.listener = flow.transport.listener._replace(
        advertise=Advertised("late.example", 7000)
    )
    assert not element.is_local("sip:late.example:7000")
    assert str(element.names.contact(flow)) == "<sip:late.example:7000>"
    assert element.is_local("sip:late.example:7000")


@pytest.mark.rfc("5626 5.2")
def test_path_names_its_flow_and_is_ours():
    element = Element("udp:10.0.0.1:5060", "udp:10.0.0.1:5080")
    names = element.names
    uri = names.flow_uri(element.flow(1))
    assert names.is_local(uri) and uri.is_loose_router and "ob" in uri.parameters
    assert names.route_tokens.match_flow(uri)
    found = names.find_flow(names.route_tokens.flow_name(uri))
    assert (found.transport, found.remote) == (element.transports[1], PHONE)


@pytest.mark.rfc("3261 16.6")
def test_record_route_is_recognized_by_the_same_secret_only():
    secret = b"sixteen bytes, and some more."
    one, again, other = (
        Element("udp:10.0.0.1:5060", route_secret=given) for given in (secret, secret, None)
    )
    alice, bob, via = (
        "<sip:alice@example.com>;tag=1",
        "<sip:bob@example.com>",
        "SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK1",
    )
    invite, bye = (
        parse(
            bytes(
                Request(
                    method,
                    "sip:x@example.com",
                    from_=who,
                    to=whom,
                    call_id="a",
                    cseq=f"1 {method}",
                    via=via,
                )
            )
        )
        for method, who, whom in (("INVITE", alice, bob), ("BYE", f"{bob};tag=2", alice))
    )
    uri = one.names.route_uri(invite, one.flow()).uri
    assert [element.names.route_tokens.match(bye, uri) for element in (one, again, other)] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "name",
    ["", "-", "0", "0-", "1-0a00000913c4", "x-0a00000913c4", "0000-0a00000913c4", "0-unknown"],
)
def test_invalid_flow_name_finds_none(name):
    assert Element("udp:10.0.0.1:5060").names.find_flow(name) is None


def test_flow_of_another_element_has_no_name_and_is_no_next_hop():
    names, flow = Element("udp:10.0.0.1:5060").names, Element("udp:10.0.0.2:5060").flow()
    assert names.flow_name(flow) == ""
    assert not names.is_usable(flow)
    assert not names.is_usable(None)


def test_too_short_secret_is_refused():
    with pytest.raises(InvalidValue, match="at least 16"):
        Names([], route_secret=b"short")


# ---- names of flows in stores


@pytest.mark.rfc("5626 5.2")
@pytest.mark.parametrize("listener", ["udp:10.0.0.2:5060", "udp:10.0.0.2:5060;name=inside"])
def test_flow_of_datagrams_is_found_by_name_after_a_restart_with_other_listeners(listener):
    before = Element("udp:10.0.0.1:5060", listener)
    flow = before.flow(1)
    name, place = before.names.stored_flow(flow), before.names.stored_listener(flow)
    after = Element("udp:10.0.0.3:5060", listener, "udp:10.0.0.1:5060")
    for _ in range(2):
        found = after.names.live_flow(name)
        assert (found.transport, found.remote) == (after.transports[1], PHONE)
        assert after.names.listener(place) == (after.transports[1], 0)
    assert Element("udp:10.0.0.1:5060").names.live_flow(name) is None
    assert Element("udp:10.0.0.1:5060").names.listener(place) is None


@pytest.mark.parametrize("name", ["", "/", "x", "udp:10.0.0.1:5060/", "udp:10.0.0.1:5060/zz"])
def test_invalid_name_of_a_stored_flow_finds_none(name):
    names = Element("udp:10.0.0.1:5060").names
    assert names.live_flow(FlowName("", name)) is None
    assert names.live_flow(FlowName("another", name)) is None
    assert names.listener(name) is None


def test_connection_is_found_by_its_own_process_until_it_ends():
    one, other = (Element("udp:10.0.0.1:5060") for _ in range(2))
    for element in (one, other):
        element.transports[0].reliable = True
    flow = one.flow()
    name = one.names.stored_flow(flow)
    assert one.names.live_flow(name) is flow and other.names.live_flow(name) is None
    one.transports.clear()
    one.names.forget()
    assert one.names.live_flow(name) is None


def test_listener_of_a_link_local_peer_has_its_interface():
    names = Element("udp:10.0.0.1:5060").names
    assert names.listener("udp:10.0.0.1:5060%3") == names.listener("udp:10.0.0.1:5060")._replace(
        scope=3
    )
