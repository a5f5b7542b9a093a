"""Our own Route values, RFC 3261 §16.4, and the listener by which a proxy forwards within a dialog or to a binding, §16.6 and RFC 5658 §5. Real sockets."""

from __future__ import annotations

import contextlib

import gevent
import pytest

from sippet_gevent import RegistrarProxy, Request, Stack, forward
from sippet_gevent.core.routing.own_route import take_own_route
from sippet_gevent.message.parser import parse
from sippet_gevent.transport.locate.resolver import StaticResolver
from tests.conditions import PATIENCE, until
from tests.ports import free_port

SDP = b"v=0\r\n"


@pytest.fixture
def listen():
    """Make started stacks that keep what they receive, `stack.seen`: methods, each with the sender's sent-by."""
    with contextlib.ExitStack() as stacks:

        def make(*addresses, core=lambda request, tx: 200, **options):
            seen = []

            def note(data, flow):
                message = parse(data)
                if isinstance(message, Request):
                    via = message.via[0]
                    seen.append((message.method, (via.host, via.port)))
                    if flow.transport.name == "UDP":
                        sources.append(flow.remote)
                return True

            sources = []
            stack = stacks.enter_context(Stack(*addresses, core=core, accept=note, **options))
            stack.seen, stack.sources = seen, sources
            return stack

        yield make


def callee_core(request, tx):
    """Answer and send requests; the caller hangs up."""
    if request.method != "INVITE":
        return 200
    call = tx.accept(body=SDP)
    call.request("INFO", timeout=PATIENCE)
    call.request("INVITE", body=SDP, timeout=PATIENCE)
    call.wait(PATIENCE)
    return None


def address(transport):
    """The address at which phones here find a listener."""
    host, port = transport.local
    return "127.0.0.1" if host == "0.0.0.0" else host, port


SIDES = {
    "one address": ("{kind}:127.0.0.1:0", "{kind}:127.0.0.1:0"),
    "all addresses": ("{kind}:0.0.0.0:0", "{kind}:0.0.0.0:0"),
    "two addresses": ("{kind}:127.0.0.2:0", "{kind}:127.0.0.3:0"),
    "two advertised": (
        "{kind}:127.0.0.2:0;advertise=127.0.0.2",
        "{kind}:127.0.0.2:0;advertise=proxy.example",
    ),
    "one advertised": (
        "{kind}:127.0.0.2:{port};advertise=proxy.example",
        "{kind}:127.0.0.3:{port};advertise=proxy.example",
    ),
}


@pytest.mark.rfc("5658 5", "3261 16.6")
@pytest.mark.parametrize("kind", ["udp", "tcp"])
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("calls", ["inside", "outside"])
def test_requests_of_a_call_leave_by_the_listener_of_their_side(listen, kind, sides, calls):
    port = free_port("127.0.0.2", "127.0.0.3")
    inside, outside = (text.format(kind=kind, port=port) for text in SIDES[sides])
    other = {"inside": "outside", "outside": "inside"}

    def cross(request, tx):
        if tx.take_route():
            forward(request, tx)
        else:
            forward(
                request, tx, uri, listener=other[tx.flow.transport.listener.name], record_route=True
            )

    proxy = listen(f"{inside};name=inside", f"{outside};name=outside", core=cross)
    listeners = {transport.listener.name: transport for transport in proxy.engine.transports}
    near, far = listeners[calls], listeners[other[calls]]

    def phone(side, core):
        resolver = StaticResolver({"proxy.example": [address(side)[0]]})
        return listen(f"{kind}:127.0.0.1:0", core=core, resolver=resolver)

    caller, callee = phone(near, lambda request, tx: 200), phone(far, callee_core)
    uri = f"sip:{callee.addresses[0][4:]};transport={kind}"
    host, port = address(near)
    with caller.invite(
        f"sip:bob@{host}:{port};transport={kind}", body=SDP, timeout=PATIENCE
    ) as call:
        until(lambda: "ACK" in [method for method, _ in caller.seen] and call.acknowledged)
        assert call.request("INFO", timeout=PATIENCE).status == 200
        assert call.request("INVITE", body=SDP, timeout=PATIENCE).status == 200
    until(lambda: "BYE" in [method for method, _ in callee.seen])

    def sent_by(transport):
        advertised = transport.listener.advertise
        return (advertised.host if advertised else address(transport)[0]), transport.local[1]

    assert [method for method, _ in callee.seen] == [
        "INVITE",
        "ACK",
        "INFO",
        "INVITE",
        "ACK",
        "BYE",
    ]
    assert {by for _, by in callee.seen} == {sent_by(far)}
    assert [method for method, _ in caller.seen] == ["INFO", "INVITE", "ACK"]
    assert {by for _, by in caller.seen} == {sent_by(near)}
    if kind == "udp":
        assert (set(caller.sources), set(callee.sources)) == ({address(near)}, {address(far)})


@pytest.mark.rfc("5626 5.3", "5658 5")
@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_call_to_a_binding_leaves_by_the_port_it_was_registered_at(listen, kind):
    server = listen(f"{kind}:127.0.0.1:0", f"{kind}:127.0.0.1:0", core=RegistrarProxy())
    first, second = (transport.local for transport in server.engine.transports)
    alice = listen(f"{kind}:127.0.0.1:0")
    bob = listen(f"{kind}:127.0.0.1:0", core=callee_core)
    aor = f"<sip:bob@127.0.0.1:{second[1]}>"
    contact = f"<sip:bob@{bob.addresses[0][4:]};transport={kind}>"
    registrar = f"sip:127.0.0.1:{second[1]};transport={kind}"
    assert (
        bob.request(
            "REGISTER", registrar, to=aor, from_=aor, contact=contact, timeout=PATIENCE
        ).status
        == 200
    )
    route = f"<sip:127.0.0.1:{first[1]};transport={kind};lr>"
    with (
        alice.invite(f"sip:bob@127.0.0.1:{second[1]}", route=route, body=SDP, timeout=PATIENCE),
        gevent.Timeout(PATIENCE),
    ):
        while "ACK" not in [method for method, _ in alice.seen]:
            gevent.sleep(0.005)
    until(lambda: "BYE" in [method for method, _ in bob.seen])
    assert [method for method, _ in bob.seen] == ["INVITE", "ACK", "BYE"]
    assert {by for _, by in bob.seen} == {second}
    assert {by for _, by in alice.seen} == {first}


# ---- Path: a phone on one side of an edge proxy, its registrar on the other

EDGES = {
    "phone by WS, registrar by UDP": ("ws:127.0.0.1:0;name=outside", "udp:127.0.0.1:0;name=inside"),
    "phone by TCP, registrar by UDP": (
        "tcp:127.0.0.1:0;name=outside",
        "udp:127.0.0.1:0;name=inside",
    ),
    "phone outside, registrar inside": (
        "udp:127.0.0.2:0;name=outside",
        "udp:127.0.0.3:0;name=inside",
    ),
    "both on one address": ("udp:127.0.0.1:0;name=outside", "udp:127.0.0.1:0;name=inside"),
}


@pytest.mark.rfc("3327 5.2", "5626 5.3", "5658 5")
@pytest.mark.parametrize("sides", EDGES)
def test_calls_reach_a_phone_that_has_registered_through_an_edge_proxy(listen, sides):
    home = listen("udp:127.0.0.1:0", core=RegistrarProxy())
    domain = home.addresses[0][4:]

    def core(request, tx):
        if request.method == "REGISTER":
            return forward(request, tx, next_hop=f"sip:{domain}", listener="inside", add_path=True)
        if tx.take_route() or tx.leads_to_flow:
            return forward(request, tx, record_route=request.method == "INVITE")
        return 403

    edge = listen(*EDGES[sides], core=core)
    outside, inside = edge.engine.transports
    kind = outside.name.lower()
    bob, alice = listen(f"{kind}:127.0.0.1:0", core=callee_core), listen("udp:127.0.0.1:0")
    host, port = outside.local
    contact = '<sip:bob@bob.invalid>;+sip.instance="<urn:uuid:00000000-0000-4000-8000-000000000001>";reg-id=1'
    aor = f"<sip:bob@{domain}>"
    response = bob.request(
        "REGISTER", f"sip:{domain}", next_hop=f"sip:{host}:{port};transport={kind}", to=aor, from_=aor,
        contact=contact, supported="path, outbound", timeout=PATIENCE,
    )  # fmt: skip
    assert (response.status, response.require) == (200, ("outbound",))
    upper, lower = response.path
    assert (upper.uri.host, upper.uri.port, "ob" in upper.uri.parameters) == (*inside.local, True)
    assert (lower.uri.host, lower.uri.port, "ob" in lower.uri.parameters) == (*outside.local, True)
    with alice.invite(f"sip:bob@{domain}", body=SDP, timeout=PATIENCE), gevent.Timeout(PATIENCE):
        while "ACK" not in [method for method, _ in alice.seen]:
            gevent.sleep(0.005)
    until(lambda: "BYE" in [method for method, _ in bob.seen])
    assert [method for method, _ in bob.seen] == ["INVITE", "ACK", "BYE"]
    assert {by for _, by in bob.seen} == {outside.local}


# ---- Route values


US = ("10.0.0.1", 5060)
"""The address of this proxy."""


def is_local(uri):
    return (uri.host, uri.port or 5060) == US


def request(uri="sip:bob@example.com", *routes, **headers):
    return Request("INVITE", uri, route=routes, **headers)


def routes(message):
    return tuple(map(str, message.route))


@pytest.mark.rfc("3261 16.4")
@pytest.mark.parametrize(("uri", "given", "taken", "then"), [
    # no Route of ours
    ("sip:bob@b", (), False, ("sip:bob@b", ())),
    ("sip:bob@b", ("<sip:p;lr>",), False, ("sip:bob@b", ("<sip:p;lr>",))),
    ("sip:10.0.0.1", (), False, ("sip:10.0.0.1", ())),
    ("sip:bob@b", ("<sip:10.0.0.1:5070;lr>",), False, ("sip:bob@b", ("<sip:10.0.0.1:5070;lr>",))),
    # ours on top
    ("sip:bob@b", ("<sip:10.0.0.1;lr>",), True, ("sip:bob@b", ())),
    ("sip:bob@b", ("<sip:10.0.0.1:5060;lr>", "<sip:p;lr>"), True, ("sip:bob@b", ("<sip:p;lr>",))),
    # twice, as a proxy with two sides writes it; a third one further down stays
    ("sip:bob@b", ("<sip:10.0.0.1;lr>", "<sip:10.0.0.1:5060;lr>"), True, ("sip:bob@b", ())),
    ("sip:bob@b", ("<sip:10.0.0.1;lr>", "<sip:p;lr>", "<sip:10.0.0.1;lr>"), True, ("sip:bob@b", ("<sip:p;lr>", "<sip:10.0.0.1;lr>"))),
    # a strict router before us has put our URI into the Request-URI
    ("sip:10.0.0.1;lr", ("<sip:bob@b>",), True, ("sip:bob@b", ())),
    ("sip:10.0.0.1;lr", ("<sip:p;lr>", "<sip:bob@b>"), True, ("sip:bob@b", ("<sip:p;lr>",))),
    ("sip:10.0.0.1;lr", ("<sip:10.0.0.1;lr>", "<sip:bob@b>"), True, ("sip:bob@b", ())),
    # our URI without lr is not from our Record-Route
    ("sip:10.0.0.1", ("<sip:p;lr>",), False, ("sip:10.0.0.1", ("<sip:p;lr>",))),
    # maddr
    ("sip:bob@b;maddr=10.0.0.1", (), False, ("sip:bob@b", ())),
    ("sip:bob@b:5060;maddr=10.0.0.1;transport=udp;x=1", (), False, ("sip:bob@b;x=1", ())),
    ("sip:bob@b:5070;maddr=10.0.0.1", (), False, ("sip:bob@b:5070;maddr=10.0.0.1", ())),
    ("sip:bob@b;maddr=10.0.0.2", (), False, ("sip:bob@b;maddr=10.0.0.2", ())),
    # other schemes
    ("tel:+15551234", ("<sip:10.0.0.1;lr>",), True, ("tel:+15551234", ())),
])  # fmt: skip
def test_own_route_is_removed(uri, given, taken, then):
    message = request(uri, *given)
    assert bool(take_own_route(message, is_local)) is taken
    assert (str(message.uri), routes(message)) == then
