"""Flows as next hops: browsers, and phones behind NAT, are reached by the connections that they opened, RFC 5626 §5, RFC 7118."""

from __future__ import annotations

import pytest

from sippet_gevent import (
    URI,
    InvalidValue,
    Location,
    NameAddr,
    Registrar,
    RegistrarProxy,
    ResponseContext,
    TransportError,
    Via,
    forward,
)
from sippet_gevent.core.routing.outbound import Reach, can_be_dialled, reach_of
from sippet_gevent.message.identifiers import create_branch
from sippet_gevent.testing import SERVER
from sippet_gevent.transport.locate.resolver import StaticResolver
from sippet_gevent.transport.locate.rfc3263 import Candidate
from sippet_gevent.transport.memory import MemoryFlow, MemoryTransport

from ..core.wire import Peer

DOMAIN = "example.com"
BROWSER = "sip:x@abcd.invalid;transport=ws"
WEB_PORT, TCP_PORT = 8080, 5070


class Connection(MemoryFlow):
    """A connection between two addresses; the test ends it."""

    def __init__(self, transport, remote):
        super().__init__(transport, remote)
        self.transactions = set()
        self.ended = False

    def is_alive(self):
        return not self.ended

    def send(self, data):
        if self.ended:
            raise TransportError("the connection has ended", self)
        super().send(data)

    def end(self):
        self.ended = True
        self.transport.events.flow_ended(self, TransportError("the connection has ended", self))


class Connections(MemoryTransport):
    """A transport of connections on the virtual network."""

    reliable = True

    def __init__(self, network, name):
        super().__init__(network)
        self.name = name
        self.connections = {}

    def start(self, address, receive, events=None):
        super().start(address, receive, events)
        self.events = events

    def connect(self, address, *, name=None):
        return self.connections.setdefault(address, Connection(self, address))

    def arrive(self, data, source):
        self._receive(data, self.connect(source))


class Phone(Peer):
    """A peer at `source` that believes it is at `host`, and sends to one port of the server."""

    def __init__(
        self,
        sip,
        name,
        source,
        host=None,
        transport="UDP",
        port=5060,
        to_port=5060,
        contact=None,
        at=None,
    ):
        self.sip, self.name = sip, name
        self.host = host or source
        self.via = Via(transport, self.host, port, Via.parse("SIP/2.0/UDP x;rport").parameters)
        self.uri = contact or f"sip:{name}@{self.host}:{port}" + (
            f";transport={transport.lower()}" if transport != "UDP" else ""
        )
        self.aor = f"sip:{name}@{DOMAIN}"
        self.answer, self.received, self.number = None, [], 0
        self.source = (source, at or (40000 if host or transport != "UDP" else port))
        self.to_port = to_port
        self._transport = (
            MemoryTransport(sip.network)
            if transport == "UDP"
            else Connections(sip.network, transport)
        )
        self._transport.start(self.source, self._receive)

    def request(self, method, uri, **headers):
        headers.setdefault("via", self.via.with_params(branch=create_branch()))
        headers.setdefault("from_", f"<{self.aor}>;tag={self.name}")
        headers.setdefault("contact", f"<{self.uri}>")
        return super().request(method, uri, **headers)

    def send(self, *messages, to=SERVER):
        for message in messages:
            self._transport.connect((to, self.to_port)).send(bytes(message))
        self.sip.settle()

    def register(self, **headers):
        self.number += 1
        headers.setdefault("call_id", self.name)
        self.ask("REGISTER", f"sip:{DOMAIN}", to=f"<{self.aor}>", number=self.number, **headers)
        assert self.statuses == [200]
        self.received.clear()
        return self


class Office:
    """A RegistrarProxy on UDP, TCP and WS, and a maker of phones of all kinds."""

    def __init__(self, sip, core=None, **options):
        self.sip = sip
        self.stack = sip.stack(core or RegistrarProxy(), SERVER, domains=(DOMAIN,), **options)
        self.web, self.tcp = Connections(sip.network, "WS"), Connections(sip.network, "TCP")
        self.stack.listen(f"udp:{SERVER}:{WEB_PORT}", self.web)
        self.stack.listen(f"udp:{SERVER}:{TCP_PORT}", self.tcp)
        self.hosts = iter(range(2, 250))

    def phone(self, kind, name):
        number = next(self.hosts)
        return {
            "plain": lambda: Phone(self.sip, name, f"198.51.100.{number}"),
            "NAT": lambda: Phone(self.sip, name, f"203.0.113.{number}", "10.1.2.3"),
            "TCP": lambda: Phone(self.sip, name, f"198.51.100.{number}", transport="TCP", to_port=TCP_PORT),
            "TCP behind NAT": lambda: Phone(self.sip, name, f"203.0.113.{number}", "10.1.2.3", "TCP", to_port=TCP_PORT),
            "browser": lambda: Phone(
                self.sip, name, f"203.0.113.{number}", f"{name}{number}.invalid", "WS", None, WEB_PORT,
                f"sip:{name}@{name}{number}.invalid;transport=ws",
            ),
        }[kind]()  # fmt: skip

    def flow(self, phone):
        """The server's end of a phone's connection."""
        return next(
            flow
            for plug in (self.web, self.tcp)
            for flow in plug.connections.values()
            if flow.remote == phone.source
        )


class Talk:
    """Two phones of given kinds, in a call through the office."""

    def __init__(self, office, caller, callee):
        self.office = office
        self.alice, self.bob = (
            office.phone(caller, "alice").register(),
            office.phone(callee, "bob").register(),
        )
        self.invite = self.alice.ask("INVITE", self.bob.aor)
        self.theirs = self.bob.last("INVITE")
        self.bob.reply(self.theirs, 180, contact=f"<{self.bob.uri}>")
        self.bob.reply(self.theirs, 200, contact=f"<{self.bob.uri}>")
        self.ok = self.alice.responses[-1]
        self.from_alice("ACK")
        assert self.bob.methods == ["INVITE", "ACK"]
        for phone in (self.alice, self.bob):
            phone.received.clear()

    def from_alice(self, method, **headers):
        headers.setdefault("route", tuple(reversed(self.ok.record_route)))
        self.alice.send(self.alice.within(self.invite, self.ok, method, **headers))

    def from_bob(self, method, **headers):
        headers.setdefault("route", self.theirs.record_route)
        self.bob.send(self.bob.back(self.theirs, self.ok, method, **headers))


KINDS = ["plain", "NAT", "TCP", "TCP behind NAT", "browser"]


@pytest.fixture
def office(sip):
    return Office(sip)


# ---- calls between phones of all kinds


@pytest.mark.rfc("5626 7", "5626 5.3", "7118 8.2", "5658 5")
@pytest.mark.parametrize("caller", KINDS)
@pytest.mark.parametrize("callee", KINDS)
def test_phones_call_each_other_and_every_request_within_the_dialog_passes(office, caller, callee):
    talk = Talk(office, caller, callee)
    for send, to in ((talk.from_alice, talk.bob), (talk.from_bob, talk.alice)):
        for method in ("INFO", "UPDATE", "BYE"):
            send(method)
            got = to.last(method)
            assert (got.uri_text, len(got.route)) == (to.uri, 0)
            to.reply(got, 200)
    assert talk.alice.statuses == talk.bob.statuses == [200] * 3


@pytest.mark.rfc("5658 5")
def test_record_route_has_both_sides_and_the_upper_faces_the_callee(office):
    talk = Talk(office, "TCP", "plain")
    upper, lower = talk.theirs.record_route
    assert (upper.uri.port, upper.uri.transport) == (5060, None)
    assert (lower.uri.port, lower.uri.transport) == (TCP_PORT, "TCP")


@pytest.mark.rfc("3261 16.6")
@pytest.mark.parametrize(("caller", "callee", "values"), [
    ("plain", "plain", 1), ("plain", "NAT", 2), ("NAT", "plain", 2), ("NAT", "NAT", 2), ("browser", "browser", 2), ("plain", "TCP", 2),
])  # fmt: skip
def test_record_route_has_one_value_for_equal_sides(office, caller, callee, values):
    assert len(Talk(office, caller, callee).theirs.record_route) == values


@pytest.mark.rfc("7118 5.2")
def test_contact_and_via_to_a_browser_are_those_of_its_connection(office):
    talk = Talk(office, "plain", "browser")
    assert (talk.theirs.via[0].transport, talk.theirs.via[0].port) == ("WS", WEB_PORT)


def test_reinvite_passes_without_a_further_record_route(office):
    talk = Talk(office, "browser", "NAT")
    talk.from_bob("INVITE")
    talk.alice.reply(talk.alice.last("INVITE"), 200, contact=f"<{talk.alice.uri}>")
    talk.from_bob("ACK")
    assert talk.alice.methods == ["INVITE", "ACK"]


@pytest.mark.rfc("7118 8.2")
def test_contact_at_our_own_domain_is_reached_by_the_flow_of_its_phone(office):
    """As in the example of the RFC: <sip:alice@example.com;gr=urn:uuid:...;ob>."""
    alice, bob = office.phone("browser", "alice"), office.phone("plain", "bob").register()
    alice.uri = f"sip:alice@{DOMAIN};gr=urn:uuid:f81;ob"
    alice.ask("INVITE", bob.aor)
    theirs = bob.last("INVITE")
    ok = bob.reply(theirs, 200, contact=f"<{bob.uri}>")
    bob.send(bob.back(theirs, ok, "BYE", route=theirs.record_route))
    assert alice.last("BYE").uri_text == alice.uri
    alice.reply(alice.last("BYE"), 200)


@pytest.mark.rfc("5626 5.3.2")
def test_flow_of_the_proxy_before_us_is_not_that_of_the_caller(office):
    proxy, bob = office.phone("TCP", "alice"), office.phone("plain", "bob").register()
    via = (proxy.via.with_params(branch=create_branch()), Via("UDP", "192.0.2.7"))
    proxy.ask("INVITE", bob.aor, via=via, record_route=f"<{proxy.uri};lr>", contact=f"<{BROWSER}>")
    theirs = bob.last("INVITE")
    assert ["-" in route.uri.user for route in theirs.record_route[:2]] == [False, False]
    bob.reply(theirs, 486)


@pytest.mark.rfc("3261 9.1")
def test_cancel_follows_the_invite_to_a_browser(office):
    alice, bob = office.phone("plain", "alice"), office.phone("browser", "bob").register()
    invite = alice.ask("INVITE", bob.aor)
    bob.reply(bob.last("INVITE"), 180)
    alice.send(invite.cancel())
    assert bob.methods == ["INVITE", "CANCEL"]
    bob.reply(bob.last("CANCEL"), 200)
    bob.reply(bob.last("INVITE"), 487)
    assert alice.statuses[-1] == 487


# ---- flows that end


@pytest.mark.rfc("5626 7")
@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
def test_browser_that_was_closed_is_unregistered(office, method):
    alice, bob = office.phone("plain", "alice"), office.phone("browser", "bob").register()
    office.flow(bob).end()
    alice.ask(method, bob.aor)
    assert (alice.statuses[-1], office.stack.core.location.lookup(URI.parse(bob.aor))) == (404, ())


@pytest.mark.rfc("5626 7")
def test_reachable_contact_is_used_after_its_connection_has_ended(office):
    alice, bob = office.phone("plain", "alice"), office.phone("TCP", "bob").register()
    listening = Phone(office.sip, "bob", bob.host, transport="TCP", at=5060)
    office.flow(bob).end()
    alice.ask("MESSAGE", bob.aor)
    assert listening.methods == ["MESSAGE"]
    listening.reply(listening.last("MESSAGE"), 200)


@pytest.mark.rfc("5626 11.5")
@pytest.mark.parametrize("ringing", [True, False])
def test_connection_lost_while_ringing_is_480_for_the_caller(office, ringing):
    alice, bob = office.phone("plain", "alice"), office.phone("browser", "bob").register()
    alice.ask("INVITE", bob.aor)
    if ringing:
        bob.reply(bob.last("INVITE"), 180)
    office.flow(bob).end()
    office.sip.settle()
    assert alice.statuses[-1] == 480


@pytest.mark.rfc("5626 5.3.1")
def test_branch_with_an_ended_flow_yields_430(sip):
    seen = []

    def core(request, tx):
        with ResponseContext(tx) as context:
            context.fork(BROWSER, next_hop=flow)
            seen.extend(response.status for response in context)
            context.forward(context.best())

    office = Office(sip, core)
    flow = Connection(office.web, ("203.0.113.9", 1))
    office.phone("plain", "alice").ask("MESSAGE", BROWSER)
    flow.end()
    sip.settle()
    flow = Connection(office.web, ("203.0.113.9", 1))
    flow.ended = True
    office.phone("plain", "carol").ask("MESSAGE", BROWSER)
    assert seen == [430, 430]


def test_ended_flow_of_one_branch_leaves_the_others(sip):
    office = Office(sip)
    alice, bob, dead = (
        office.phone("plain", "alice"),
        office.phone("plain", "bob").register(),
        office.phone("browser", "bob"),
    )
    dead.register(call_id="other")
    binding = office.stack.core.location.lookup(URI.parse(bob.aor))
    office.flow(dead).end()
    office.stack.core = lambda request, tx: forward(request, tx, *binding)
    alice.ask("MESSAGE", bob.aor)
    bob.reply(bob.last("MESSAGE"), 200)
    assert alice.statuses == [200]


@pytest.mark.rfc("5626 5.3.1")
@pytest.mark.parametrize(("callee", "method"), [("browser", "BYE"), ("browser", "INVITE")])
def test_request_to_a_closed_browser_is_430(office, callee, method):
    talk = Talk(office, "plain", callee)
    office.flow(talk.bob).end()
    talk.from_alice(method)
    assert talk.alice.statuses[-1] == 430


@pytest.mark.rfc("5626 5.3.1")
def test_request_in_a_dialog_opens_a_connection_to_a_reachable_target(
    office,
):
    talk = Talk(office, "TCP", "plain")
    office.flow(talk.alice).end()
    listening = Phone(office.sip, "alice", talk.alice.host, transport="TCP", at=5060)
    talk.from_bob("BYE")
    assert listening.methods == ["BYE"]
    listening.reply(listening.last("BYE"), 200)


# ---- further registrations


def test_registration_by_a_new_flow_replaces_the_old_one_at_once(office):
    alice, old = office.phone("plain", "alice"), office.phone("NAT", "bob").register()
    new = office.phone("NAT", "bob")
    new.number = 1
    new.register()
    alice.ask("MESSAGE", new.aor)
    assert (old.received, new.methods) == ([], ["MESSAGE"])
    new.reply(new.last("MESSAGE"), 200)


@pytest.mark.rfc("5626 6")
def test_reloaded_browser_has_one_binding(office):
    flow = ';reg-id=1;+sip.instance="<urn:uuid:0>"'
    old, new = office.phone("browser", "bob"), office.phone("browser", "bob")
    old.register(contact=f"<{old.uri}>{flow}")
    new.number = 1
    new.register(contact=f"<{new.uri}>{flow}")
    assert [str(b.uri) for b in office.stack.core.location.get(new.aor)] == [new.uri]


@pytest.mark.rfc("5626 6")
@pytest.mark.parametrize(
    ("path", "bound"), [("<sip:edge.example.com;lr;ob>", 1), ("<sip:edge.example.com;lr>", 2)]
)
def test_browser_behind_an_edge_proxy_with_outbound_has_one_binding(office, path, bound):
    phones = [office.phone("browser", "bob") for _ in range(2)]
    for number, phone in enumerate(phones):
        phone.number = number
        phone.register(contact=f'<{phone.uri}>;reg-id=1;+sip.instance="<urn:uuid:0>"', path=path)
    assert len(office.stack.core.location.get(phones[0].aor)) == bound


@pytest.mark.rfc("5626 6")
@pytest.mark.parametrize("path", [None, "<sip:edge.example.com;lr;ob>"])
def test_two_flows_with_one_contact_are_two_bindings(office, path):
    headers = {} if path is None else {"path": path}
    phone = office.phone("TCP", "bob")
    for number in (1, 2, 1):
        phone.register(
            contact=f'<{phone.uri}>;reg-id={number};+sip.instance="<urn:uuid:0>"', **headers
        )
    assert len(office.stack.core.location.get(phone.aor)) == 2


def test_phone_with_a_new_port_for_each_connection_stays_within_limits(office):
    for number in range(12):
        phone = office.phone("TCP", "bob")
        phone.number = number
        phone.register()
        last = office.flow(phone)
        last.end()
    newest = office.stack.core.location.get(phone.aor)[0]
    assert newest.flow == office.stack.names.stored_flow(last)


@pytest.mark.rfc("5626 7")
def test_phone_with_two_flows_is_called_once(office):
    alice, phones = (
        office.phone("plain", "alice"),
        [office.phone(kind, "bob") for kind in ("browser", "TCP")],
    )
    for number, phone in enumerate(phones, 1):
        phone.register(
            call_id=str(number),
            contact=f'<{phone.uri}>;reg-id={number};+sip.instance="<urn:uuid:0>"',
        )
    assert len(office.stack.core.location.get(phones[0].aor)) == 2
    alice.ask("MESSAGE", phones[0].aor)
    assert [phone.methods for phone in phones] == [[], ["MESSAGE"]]
    phones[1].reply(phones[1].last("MESSAGE"), 200)
    office.flow(phones[1]).end()
    alice.ask("MESSAGE", phones[0].aor)
    assert phones[0].methods == ["MESSAGE"]
    phones[0].reply(phones[0].last("MESSAGE"), 200)


class TwoFlows:
    """A phone with two registered flows: one Path each, or one connection each."""

    def __init__(self, office, kinds=("browser", "TCP"), **headers):
        self.alice, self.phones = (
            office.phone("plain", "alice"),
            [office.phone(kind, "bob") for kind in kinds],
        )
        for number, phone in enumerate(self.phones, 1):
            flow = f';q=0.{number};reg-id={number};+sip.instance="<urn:uuid:0>"'
            phone.register(
                call_id=str(number),
                contact=f"<{phone.uri}>{flow}",
                **{k: v(number) for k, v in headers.items()},
            )
        self.second, self.first = self.phones  # that with the higher q is tried first


@pytest.mark.rfc("5626 7")
@pytest.mark.parametrize("ringing", [True, False])
def test_other_flow_of_the_same_phone_replaces_an_ended_one(office, ringing):
    two = TwoFlows(office)
    two.alice.ask("INVITE", two.first.aor)
    if ringing:
        two.first.reply(two.first.last("INVITE"), 180)
    office.flow(two.first).end()
    office.sip.settle()
    two.second.reply(two.second.last("INVITE"), 486)
    assert two.alice.statuses[-1] == 486


@pytest.mark.rfc("5626 7", "5626 9")
def test_other_flow_replaces_one_that_its_edge_proxy_has_lost(office):
    edges = [Peer(office.sip, f"192.0.2.{number}") for number in (1, 2)]
    two = TwoFlows(office, ("plain", "plain"), path=lambda number: f"<sip:192.0.2.{number};lr;ob>")
    two.alice.ask("MESSAGE", two.first.aor)
    edges[1].reply(edges[1].last("MESSAGE"), 430)
    edges[0].reply(edges[0].last("MESSAGE"), 200)
    assert two.alice.statuses == [200]


@pytest.mark.rfc("5626 7")
def test_other_flow_is_tried_by_the_same_next_hop_and_listener(sip):
    location = Location()

    def core(request, tx):
        if request.method == "REGISTER":
            return Registrar(location)(request, tx)
        return forward(
            request, tx, *location.lookup(request.uri), next_hop="sip:192.0.2.1", listener="inner"
        )

    office = Office(sip, core)
    office.stack.listen("udp:192.0.2.80:5060;name=inner", MemoryTransport(sip.network))
    edge = Peer(sip, "192.0.2.1", lambda request: 430 if len(edge.requests) == 1 else 200)
    two = TwoFlows(office)
    two.alice.ask("MESSAGE", two.first.aor)
    assert two.alice.statuses == [200]
    assert [request.via[0].host for request in edge.requests] == ["192.0.2.80"] * 2


@pytest.mark.rfc("5626 7")
def test_phone_that_has_answered_is_not_asked_by_its_other_flow(office):
    two = TwoFlows(office)
    two.alice.ask("MESSAGE", two.first.aor)
    two.first.reply(two.first.last("MESSAGE"), 486)
    assert (two.second.received, two.alice.statuses) == ([], [486])


@pytest.mark.rfc("5626 7")
def test_phone_without_a_working_flow_is_480(office):
    two = TwoFlows(office)
    two.alice.ask("INVITE", two.first.aor)
    for phone in (two.first, two.second):
        office.flow(phone).end()
        office.sip.settle()
    assert two.alice.statuses[-1] == 480


def test_cancelled_request_is_not_sent_by_another_flow(office):
    two = TwoFlows(office)
    invite = two.alice.ask("INVITE", two.first.aor)
    two.first.reply(two.first.last("INVITE"), 180)
    two.alice.send(invite.cancel())
    office.flow(two.first).end()
    office.sip.settle()
    assert (two.second.received, two.alice.statuses[-1]) == ([], 487)


@pytest.mark.rfc("5626 6")
@pytest.mark.parametrize("headers", [{"path": "<sip:edge.example.com;lr>"}, {"behind": True}])
def test_flow_of_a_proxy_is_not_that_of_its_user(office, headers):
    bob = office.phone("browser", "bob")
    if headers.pop("behind", False):
        headers["via"] = (bob.via.with_params(branch=create_branch()), Via("UDP", "192.0.2.7"))
    bob.register(**headers)
    (binding,) = office.stack.core.location.get(bob.aor)
    assert (binding.flow, binding.by_flow_only) == (None, False)


# ---- forged tokens


def changed(route, old, new):
    """Return a Route with another user part in our URI."""
    uri = route.uri
    assert old in uri.user
    return NameAddr(uri._replace(user=uri.user.replace(old, new)))


@pytest.mark.rfc("5626 5.2")
@pytest.mark.parametrize("method", ["BYE", "INVITE", "ACK"])
def test_token_that_names_another_flow_is_not_followed(office, method):
    talk = Talk(office, "plain", "browser")
    eve = office.phone("browser", "eve").register()
    facing_bob = talk.theirs.record_route[0]
    ours, others = (office.stack.flow_name(office.flow(phone)) for phone in (talk.bob, eve))
    talk.from_alice(method, route=changed(facing_bob, ours, others))
    assert (eve.received, talk.bob.received) == ([], [])
    assert talk.alice.statuses == ([] if method == "ACK" else [481])


@pytest.mark.rfc("5626 5.2")
def test_token_of_another_dialog_is_not_followed(office):
    talk = Talk(office, "plain", "browser")
    route = tuple(reversed(talk.ok.record_route))
    talk.alice.ask("BYE", talk.bob.uri, to=talk.ok.to, call_id="another", route=route)
    assert (talk.bob.received, talk.alice.statuses) == ([], [481])


@pytest.mark.rfc("5626 5.2")
def test_flow_name_cannot_be_removed_from_a_token(office):
    talk = Talk(office, "plain", "browser")
    facing_bob = talk.theirs.record_route[0]
    name = office.stack.flow_name(office.flow(talk.bob))
    talk.from_alice("BYE", route=changed(facing_bob, f"-{name}", ""))
    assert talk.alice.statuses == [481]


@pytest.mark.parametrize(
    "name",
    ["", "-", "0", "0-", "9-00", "00-zz", "0-" + "f" * 300, "-1-00", "٣-00", "0-7f000001", "0-é"],
)
def test_find_flow_takes_any_text(office, name):
    assert office.stack.find_flow(name) is None


@pytest.mark.parametrize("kind", KINDS)
def test_flow_name_finds_its_flow(office, kind):
    seen = []
    office.stack.core = lambda request, tx: seen.append(request.flow) or 200
    office.phone(kind, "alice").ask("MESSAGE", f"sip:{DOMAIN}")
    (flow,) = seen
    again = office.stack.find_flow(office.stack.flow_name(flow))
    assert (again.transport, again.remote) == (flow.transport, flow.remote)


# ---- Path


class Edge:
    """An edge proxy in front of a registrar: `paths` are its Path values, `path` the one with the flow."""

    def __init__(self, sip, kind="browser", **forwarding):
        self.flows = {}

        def core(request, tx):
            if request.method == "REGISTER":
                return forward(request, tx, next_hop="sip:192.0.2.80", add_path=True)
            return forward(request, tx, **forwarding)

        self.office = Office(sip, core)
        self.home = Peer(sip, "192.0.2.80", lambda request: 200)
        self.bob = self.office.phone(kind, "bob").register()
        self.paths = self.home.last("REGISTER").path
        self.path = self.paths[-1]
        self.home.received.clear()

    def ask(self, method="MESSAGE", **headers):
        headers.setdefault("route", self.paths)
        return self.home.ask(method, self.bob.uri, **headers)


@pytest.mark.rfc("3327 5.1", "5626 5.3.1")
@pytest.mark.parametrize("kind", ["browser", "NAT"])
def test_request_with_our_path_goes_by_the_flow_of_the_phone(sip, kind):
    edge = Edge(sip, kind)
    edge.ask()
    got = edge.bob.last("MESSAGE")
    assert (got.uri_text, len(got.route)) == (edge.bob.uri, 0)
    edge.bob.reply(got, 200)
    assert edge.home.statuses == [200]


@pytest.mark.rfc("5626 5.1")
def test_path_has_ob_from_the_first_hop(sip):
    uri = Edge(sip).path.uri
    assert ("lr" in uri.parameters, "ob" in uri.parameters, uri.transport) == (True, True, "WS")


@pytest.mark.rfc("3327 5.2", "5658 5", "5626 5.1")
def test_path_has_two_values_for_different_sides(sip):
    upper, lower = Edge(sip).paths
    assert str(upper) == f"<sip:{SERVER}:5060;lr;ob>"
    assert (lower.uri.port, lower.uri.transport, "ob" in lower.uri.parameters) == (
        WEB_PORT,
        "WS",
        True,
    )


def test_path_has_one_value_for_equal_sides(sip):
    (path,) = Edge(sip, "NAT").paths
    assert (path.uri.port, path.uri.transport, "ob" in path.uri.parameters) == (5060, None, True)


@pytest.mark.rfc("5626 5.1")
@pytest.mark.parametrize("joined", [True, False])
def test_path_of_a_second_hop_has_no_ob(sip, joined):
    edge = Edge(sip)
    register = edge.bob.request(
        "REGISTER", f"sip:{DOMAIN}", to=f"<{edge.bob.aor}>", path="<sip:first.example;lr;ob>"
    )
    below = "SIP/2.0/UDP first.example;branch=z9hG4bKfirst"
    if joined:
        register.headers["Via"] = f"{register.headers['Via']}, {below}"
    else:
        register.headers.add("Via", below)
    edge.bob.send(register)
    *ours, first = edge.home.last("REGISTER").path
    assert (len(ours), str(first)) == (2, "<sip:first.example;lr;ob>")
    assert not any("ob" in value.uri.parameters for value in ours)


def test_add_path_is_for_register_only(sip):
    def core(request, tx):
        with pytest.raises(InvalidValue, match="record_route=True"):
            forward(request, tx, "sip:192.0.2.80", add_path=True)
        return 200

    assert sip.ask(core, "INVITE sip:bob@example.com").statuses == [200]


@pytest.mark.rfc("5626 5.3.1")
def test_forged_path_is_403(sip):
    edge = Edge(sip)
    name = edge.office.stack.flow_name(edge.office.flow(edge.bob))
    edge.ask(route=changed(edge.path, name[-2:], "00" if name[-2:] != "00" else "11"))
    edge.ask(route=changed(edge.path, edge.path.uri.user[:2], "zz"))
    assert (edge.bob.received, edge.home.statuses) == ([], [403, 403])


@pytest.mark.rfc("5626 5.3.1")
def test_path_whose_flow_has_ended_is_430(sip):
    edge = Edge(sip)
    edge.office.flow(edge.bob).end()
    edge.ask()
    assert edge.home.statuses == [430]


@pytest.mark.rfc("5626 5.3.1")
def test_dialog_that_came_by_a_path_stays_on_the_flow(sip):
    edge = Edge(sip, record_route=True)
    invite = edge.ask("INVITE", contact="<sip:192.0.2.80>")
    theirs = edge.bob.last("INVITE")
    edge.bob.reply(theirs, 200, contact=f"<{edge.bob.uri}>")
    ok = edge.home.responses[-1]
    edge.home.send(edge.home.within(invite, ok, "BYE", route=tuple(reversed(ok.record_route))))
    assert edge.bob.methods == ["INVITE", "BYE"]
    edge.bob.reply(edge.bob.last("BYE"), 200)


@pytest.mark.rfc("5626 5.3")
def test_request_by_the_flow_of_its_route_goes_on_along_the_route(sip):
    edge = Edge(sip)
    edge.bob.ask("MESSAGE", "sip:192.0.2.80", route=edge.path)
    assert edge.home.methods == ["MESSAGE"]


def test_path_of_ours_does_not_lead_to_others(office):
    """A Path token leads to its flow alone, whatever else the request says."""
    alice, bob = office.phone("plain", "alice"), office.phone("browser", "bob").register()
    stranger = Peer(office.sip, "192.0.2.99")
    route = NameAddr(office.stack.flow_uri(office.flow(bob)))
    alice.ask(
        "MESSAGE", stranger.uri, route=(route, f"<{stranger.uri};lr>"), to=f"<{stranger.uri}>;tag=1"
    )
    assert (stranger.received, bob.methods) == ([], ["MESSAGE"])
    bob.reply(bob.last("MESSAGE"), 200)


# ---- requests of our own


@pytest.fixture
def known(office):
    """A browser, and its flow to a stack without a custom core."""
    office.stack.core = lambda request, tx: 200
    bob = office.phone("browser", "bob").register()
    return office, bob, office.flow(bob)


def test_request_goes_by_a_flow(known):
    office, bob, flow = known
    bob.answer = lambda request: 200
    response = office.sip.run(office.stack.request, "MESSAGE", bob.uri, next_hop=flow)
    message = bob.last("MESSAGE")
    assert (response.status, message.via[0].transport, message.uri_text) == (200, "WS", bob.uri)


def test_call_by_a_flow_has_its_contact_and_stays_on_it(known):
    office, bob, flow = known
    bob.answer = lambda request: (
        request.response(200, contact=f"<{bob.uri}>") if request.method == "INVITE" else 200
    )

    def talk():
        with office.stack.invite(bob.uri, next_hop=flow) as call:
            return call.request("INFO").status

    assert office.sip.run(talk) == 200
    office.sip.settle()
    assert bob.methods == ["INVITE", "ACK", "INFO", "BYE"]
    assert bob.last("INVITE").contact[0].uri.transport == "WS"


def test_bye_to_a_browser_that_called_us_goes_by_its_flow(known):
    office, bob, flow = known

    def core(request, tx):
        with tx.accept():
            pass

    office.stack.core = core
    invite = bob.ask("INVITE", f"sip:{DOMAIN}")
    bob.send(bob.within(invite, bob.responses[-1], "ACK"))
    assert bob.methods == ["BYE"]
    bob.reply(bob.last("BYE"), 200)


def test_call_by_a_flow_to_a_proxy_follows_the_route_it_has_recorded(known):
    office, bob, flow = known
    proxy = Peer(office.sip, "192.0.2.70", lambda request: 200)
    answer = {"contact": f"<{bob.uri}>", "record_route": f"<{proxy.uri};lr>"}
    bob.answer = lambda request: request.response(200, **answer)
    office.sip.run(lambda: office.stack.invite(bob.uri, next_hop=flow).hangup())
    office.sip.settle()
    assert (bob.methods, proxy.methods) == (["INVITE"], ["ACK", "BYE"])


def test_bye_to_a_reachable_caller_opens_a_connection(known):
    office, _, _ = known
    alice = office.phone("TCP", "alice")
    listening = Phone(office.sip, "alice", alice.host, transport="TCP", at=5060)

    def core(request, tx):
        with tx.accept() as call:
            call.wait(10)

    office.stack.core = core
    invite = alice.ask("INVITE", f"sip:{DOMAIN}")
    alice.send(alice.within(invite, alice.responses[-1], "ACK"))
    office.flow(alice).end()
    office.sip.advance(11)
    assert listening.methods == ["BYE"]
    listening.reply(listening.last("BYE"), 200)


def test_ended_flow_is_a_transport_error_at_once(known):
    office, bob, flow = known
    flow.end()
    with pytest.raises(TransportError, match="ended"):
        office.stack.request("MESSAGE", bob.uri, next_hop=flow)
    assert not office.stack.engine.clients


def test_flow_of_another_stack_is_a_transport_error(known):
    office, bob, flow = known
    with pytest.raises(TransportError):
        office.sip.client.request("MESSAGE", bob.uri, next_hop=flow)


@pytest.mark.rfc("3261 26.2.2")
def test_sips_request_is_not_sent_by_a_flow_without_tls(known):
    office, bob, flow = known
    with pytest.raises(TransportError, match="secure"):
        office.stack.request("MESSAGE", "sips:x@abcd.invalid", next_hop=flow)


def test_flow_is_the_next_hop_of_a_forwarded_request(sip):
    office = Office(sip, lambda request, tx: 200)
    bob = office.phone("browser", "bob").register()
    office.stack.core = lambda request, tx: forward(request, tx, BROWSER, next_hop=office.flow(bob))
    alice = office.phone("plain", "alice")
    alice.ask("MESSAGE", bob.aor)
    bob.reply(bob.last("MESSAGE"), 200)
    assert (bob.last("MESSAGE").uri_text, alice.statuses) == (BROWSER, [200])


@pytest.mark.rfc("5658 5", "3263 4.3")
def test_record_route_is_that_of_the_last_tried_target(sip):
    class Both(StaticResolver):
        """One target by TCP, then one by UDP, as NAPTR records may have it."""

        def resolve(self, uri, transports):
            return [
                Candidate("TCP", "198.51.100.201", 5060, "a"),
                Candidate("UDP", "198.51.100.202", 5060, "b"),
            ]

    office = Office(
        sip, lambda request, tx: forward(request, tx, BROWSER, record_route=True), resolver=Both({})
    )
    first, second = (
        Phone(sip, "bob", "198.51.100.201", transport="TCP", at=5060),
        Phone(sip, "bob", "198.51.100.202"),
    )
    alice = office.phone("plain", "alice")
    alice.ask("INVITE", "sip:bob@example.com", record_route="<sip:192.0.2.1;lr>")
    first.reply(first.last("INVITE"), 503)
    routes = [
        [route.uri.port for route in phone.last("INVITE").record_route] for phone in (first, second)
    ]
    assert routes == [[TCP_PORT, 5060, None], [5060, None]]
    second.reply(second.last("INVITE"), 486)


# ---- how a user agent is reached


class Wire:
    """The attributes of a flow that reach_of() reads."""

    def __init__(self, host, port, name="UDP", scope=0):
        self.remote = host, port
        self.scope = scope
        self.transport = self
        self.name, self.reliable, self.secure = name, name != "UDP", name in ("TLS", "WSS")


SOURCE = "203.0.113.9"


@pytest.mark.rfc("5626 6", "7118 5")
@pytest.mark.parametrize(("contact", "via", "flow", "reach"), [
    # plain phones
    (f"<sip:a@{SOURCE}>", f"UDP {SOURCE}", Wire(SOURCE, 5060), Reach.AT_CONTACT),
    (f"<sip:a@{SOURCE}>", f"UDP {SOURCE};rport", Wire(SOURCE, 5060), Reach.AT_CONTACT),
    (f"<sip:a@{SOURCE}:5070>", f"UDP {SOURCE}", Wire(SOURCE, 40000), Reach.AT_CONTACT),  # sends from one port, receives at another
    (f"<sip:a@{SOURCE}:5070>", f"UDP {SOURCE};rport", Wire(SOURCE, 40000), Reach.BY_FLOW),
    ("<sip:a@pc.example.com>", "UDP pc.example.com", Wire(SOURCE, 5060), Reach.AT_CONTACT),
    ("<sip:a@pc.example.com>", "UDP pc.example.com;rport", Wire(SOURCE, 5060), Reach.BY_FLOW),
    # behind NAT
    ("<sip:a@10.1.2.3>", "UDP 10.1.2.3", Wire(SOURCE, 40000), Reach.BY_FLOW),
    ("<sip:a@10.1.2.3>", "UDP 10.1.2.3;rport", Wire(SOURCE, 5060), Reach.BY_FLOW),
    ("<sip:a@10.1.2.3>", "UDP 1.1.1.1;rport", Wire("8.8.8.8", 5060), Reach.BY_FLOW),  # an ALG has changed the Via alone
    ("<sip:a@[fd00::1]>", "UDP [fd00::1];rport", Wire("2001:db8::1", 5060), Reach.BY_FLOW),
    ("<sip:a@[2001:DB8::1]>", "UDP x", Wire("2001:db8::1", 5060), Reach.AT_CONTACT),
    # link-local
    ("<sip:a@[fe80::1]>", "UDP [fe80::1]", Wire("fe80::1", 5060, scope=2), Reach.BY_FLOW),
    # the Contact of another element
    ("<sip:gateway.example.com>", f"UDP {SOURCE};rport", Wire(SOURCE, 5060), Reach.AT_CONTACT),
    ("<sip:192.0.2.77>", f"TCP {SOURCE}", Wire(SOURCE, 40000, "TCP"), Reach.AT_CONTACT),
    ("<tel:+12125551212>", f"TCP {SOURCE}", Wire(SOURCE, 40000, "TCP"), Reach.AT_CONTACT),
    # connections
    (f"<sip:a@{SOURCE};transport=tcp>", f"TCP {SOURCE}", Wire(SOURCE, 40000, "TCP"), Reach.BY_FLOW),
    (f"<sip:a@{SOURCE}:40000;transport=tcp>", f"TCP {SOURCE}", Wire(SOURCE, 40000, "TCP"), Reach.BY_FLOW),
    (f"<sip:a@{SOURCE};transport=udp>", f"TCP {SOURCE}", Wire(SOURCE, 40000, "TCP"), Reach.AT_CONTACT),
    (f"<sips:a@{SOURCE}>", f"TLS {SOURCE}", Wire(SOURCE, 40000, "TLS"), Reach.BY_FLOW),
    (f"<sips:a@{SOURCE}>", f"TCP {SOURCE}", Wire(SOURCE, 40000, "TCP"), Reach.AT_CONTACT),
    ("<sip:a@pc.example.com;transport=tcp>", "TCP pc.example.com", Wire(SOURCE, 40000, "TCP"), Reach.BY_FLOW),
    # with outbound, or unreachable
    (f"<sip:a@{SOURCE};ob>", f"UDP {SOURCE}", Wire(SOURCE, 5060), Reach.BY_FLOW_ONLY),
    (f'<sip:a@{SOURCE}>;reg-id=1;+sip.instance="<urn:x:y>"', f"UDP {SOURCE}", Wire(SOURCE, 5060), Reach.BY_FLOW_ONLY),
    (f"<sip:a@{SOURCE}>;reg-id=1", f"UDP {SOURCE}", Wire(SOURCE, 5060), Reach.AT_CONTACT),
    (f"<{BROWSER}>", "WS abcd.invalid", Wire(SOURCE, 40000, "WS"), Reach.BY_FLOW_ONLY),
    (f"<sip:a@{SOURCE}>", f"WSS {SOURCE}", Wire(SOURCE, 40000, "WSS"), Reach.BY_FLOW_ONLY),
    ("<sip:a@x.INVALID.>", "TCP x.invalid", Wire(SOURCE, 40000, "TCP"), Reach.BY_FLOW_ONLY),
])  # fmt: skip
def test_reach_of_a_user_agent(contact, via, flow, reach):
    sender = Via.parse(f"SIP/2.0/{via}")
    has_rport = "rport" in sender.parameters
    assert reach_of(NameAddr.parse(contact), sender.host, flow, has_rport=has_rport) is reach


@pytest.mark.parametrize(("uri", "dialled"), [
    ("sip:a@b.example", True), ("sip:a@invalid.example", True), ("sip:a@notinvalid", True), ("tel:+1", True),
    ("sip:a@x.invalid", False), ("sip:invalid", False), ("sip:a@x.InValid", False), ("sip:a@192.0.2.1;transport=WS", False),
    ("sip:a@192.0.2.1;transport=wss", False),
])  # fmt: skip
def test_uri_of_a_browser_cannot_be_dialled(uri, dialled):
    assert can_be_dialled(URI.parse(uri)) is dialled
