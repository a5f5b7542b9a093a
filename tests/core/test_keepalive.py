"""Keep-alives that peers agree on, RFC 6223: on the virtual network, whose flows note the pings, and over TCP."""

from __future__ import annotations

import random
from itertools import pairwise

import gevent
import pytest
from gevent import socket
from hypothesis import given
from hypothesis import strategies as st

from sippet_gevent import (
    URI,
    Limits,
    Location,
    Registrar,
    Request,
    ResponseContext,
    Stack,
    StreamLimits,
    forward,
)
from sippet_gevent.transport.datagram import stun
from sippet_gevent.transport.memory import MemoryFlow, MemoryTransport
from tests.transport.test_stream import PATIENCE, until
from tests.transport.test_stream import Peer as Connected

from .wire import Peer

PHONE = "10.0.0.77"


@pytest.fixture
def pings(sip, monkeypatch):
    """When each ping was sent, on a network whose flows can ping."""
    sent = []
    monkeypatch.setattr(MemoryFlow, "probes", True)
    monkeypatch.setattr(MemoryFlow, "probe", lambda self: sent.append(round(sip.clock.now(), 3)))
    return sent


@pytest.fixture
def client(sip, pings):
    """A stack that offers keep-alives."""
    return sip.stack(host="10.0.0.2", keep=True)


def wanting(value):
    """Return what answers 200 and wants keep-alives: None says nothing of them."""

    def answer(request):
        text = request.headers["Via"]
        response = request.response(200)
        if value is not None:
            response.headers["Via"] = text.replace(";keep", f";keep={value}")
        if request.method == "REGISTER":
            response.contact = request.contact
        elif request.method == "INVITE":
            response.contact = f"<sip:{PHONE}>"
        return response

    return answer


@pytest.fixture
def server(sip):
    return Peer(sip, PHONE, wanting(30))


def register(sip, client, server, expires=3600, **headers):
    headers.setdefault("call_id", "registration")
    contact = f"<sip:me@10.0.0.2>;expires={expires}"
    return sip.run(client.request, "REGISTER", server.uri, contact=contact, **headers)


def between(pings):
    return [round(after - before, 3) for before, after in pairwise(pings)]


# ---- who asks


@pytest.mark.rfc("6223 4.3")
@pytest.mark.parametrize(
    ("method", "to", "offered"),
    [
        ("REGISTER", None, True),
        ("INVITE", None, True),
        ("INVITE", ";tag=1", False),
        ("MESSAGE", None, False),
        ("ACK", None, False),
    ],
)
def test_registrations_and_first_invites_offer_keep_alives(
    sip, client, server, method, to, offered
):
    server.answer = None
    headers = {} if to is None else {"to": f"<{server.uri}>{to}"}
    client.send(Request(method, server.uri, **headers))
    sip.settle()
    via = server.last(method).via[0]
    assert ("keep" in via.parameters) is offered
    assert via.parameters.get("keep") is None
    if method == "INVITE":
        server.reply(server.last("INVITE"), 486)


def test_stack_that_was_not_told_to_offers_nothing(sip, pings, server):
    register(sip, sip.client, server)
    assert "keep" not in server.last("REGISTER").via[0].parameters
    sip.advance(100)
    assert pings == []


def test_flow_that_cannot_ping_offers_nothing(sip, server):
    register(sip, sip.stack(host="10.0.0.2", keep=True), server)
    assert "keep" not in server.last("REGISTER").via[0].parameters


def test_what_a_proxy_passes_on_offers_nothing_for_it(sip, pings, server):
    caller = Peer(sip, "10.0.0.50")
    proxy = sip.serve(lambda request, tx: forward(request, tx, server.uri), keep=True)
    caller.ask("REGISTER")
    assert proxy.keep and "keep" not in server.last("REGISTER").via[0].parameters


# ---- who pings


@pytest.mark.rfc("6223 5", "5626 4.4")
def test_pings_go_at_80_to_100_percent_of_the_time_that_is_wanted(sip, client, server, pings):
    random.seed(3)
    register(sip, client, server)
    sip.advance(1000)
    assert all(24 <= seconds <= 30 for seconds in between(pings))
    assert len(set(between(pings))) > 20


@pytest.mark.rfc("6223 5")
@pytest.mark.parametrize(
    ("value", "least", "most"), [("0", 23.2, 29), ("1", 0.8, 1), ("999999999", 69120, 86400)]
)
def test_time_between_pings_has_bounds(sip, client, server, pings, value, least, most):
    server.answer = wanting(value)
    register(sip, client, server, expires=10**6)
    sip.advance(3 * most)
    assert between(pings) and all(least <= seconds <= most for seconds in between(pings))


@pytest.mark.rfc("5626 4.2.1", "5626 4.4")
@pytest.mark.parametrize(("said", "keep", "least", "most"), [
    ({"require": "outbound", "flow_timer": 10}, None, 8, 10),
    ({"require": "outbound"}, None, 23.2, 29),
    ({"require": "outbound", "flow_timer": 10}, "30", 24, 30),
    ({"flow_timer": 10}, None, None, None),
    ({"require": "outbound", "headers": "soon"}, None, None, None),
])  # fmt: skip
def test_registrar_that_keeps_the_flow_is_pinged(
    sip, client, server, pings, said, keep, least, most
):
    headers = dict(said)
    broken = headers.pop("headers", None)

    def answer(request):
        response = wanting(keep)(request)
        for name, value in headers.items():
            setattr(response, name, value)
        if broken:
            response.headers["Flow-Timer"] = broken
        return response

    server.answer = answer
    register(sip, client, server)
    sip.advance(300)
    assert bool(pings) is (least is not None)
    assert all(least <= seconds <= most for seconds in between(pings))


@pytest.mark.parametrize("value", [None, "", "x", "-1", "1.5", "9" * 11])
def test_no_pings_go_where_none_are_wanted(sip, client, server, pings, value):
    server.answer = wanting(value)
    register(sip, client, server)
    sip.advance(200)
    assert pings == [] and len(client.keepalives) == 0


@pytest.mark.rfc("6223 4.2.2")
def test_pings_end_with_the_registration(sip, client, server, pings):
    register(sip, client, server, expires=100)
    sip.advance(99)
    assert pings
    pings.clear()
    sip.advance(300)
    assert pings == [] and len(client.keepalives) == 0


@pytest.mark.rfc("6223 4.2.2")
@pytest.mark.parametrize(("value", "expires"), [(None, 3600), ("30", 0)])
def test_registration_that_is_not_agreed_on_again_or_ends_ends_the_pings(
    sip, client, server, pings, value, expires
):
    register(sip, client, server)
    server.answer = wanting(value)
    register(sip, client, server, expires, cseq="2 REGISTER")
    pings.clear()
    sip.advance(200)
    assert pings == []


@pytest.mark.rfc("6223 4.2.2")
def test_challenge_to_the_next_registration_does_not_end_them(sip, client, server, pings):
    register(sip, client, server)
    server.answer = lambda request: 401
    register(sip, client, server, cseq="2 REGISTER")
    sip.advance(31)
    assert pings


@pytest.mark.rfc("6223 4.2.3", "6223 4.3")
def test_pings_go_from_a_provisional_response_until_the_call_ends(sip, client, server, pings):
    server.answer = None
    tx = client.send(Request("INVITE", server.uri))
    sip.settle()
    invite = server.last("INVITE")
    ringing = invite.response(180)
    ringing.headers["Via"] = ringing.headers["Via"].replace(";keep", ";keep=30")
    server.reply(invite, ringing)
    sip.advance(31)
    assert len(pings) == 1
    server.reply(invite, wanting(None)(invite))
    call = tx.call
    sip.advance(300)
    assert len(pings) > 8
    server.answer = lambda request: 200
    call.hangup()
    pings.clear()
    sip.advance(200)
    assert pings == [] and len(client.keepalives) == 0


@pytest.mark.rfc("6223 4.2.3")
def test_call_that_is_refused_ends_them(sip, client, server, pings):
    server.answer = None
    client.send(Request("INVITE", server.uri))
    sip.settle()
    invite = server.last("INVITE")
    ringing = invite.response(180)
    ringing.headers["Via"] = ringing.headers["Via"].replace(";keep", ";keep=30")
    server.reply(invite, ringing)
    server.reply(invite, 486)
    sip.advance(200)
    assert pings == []


@pytest.mark.rfc("6223 4.2.3")
def test_200_that_is_repeated_after_the_call_has_ended_does_not_begin_them_again(
    sip, client, server, pings
):
    server.answer = None
    tx = client.send(Request("INVITE", server.uri))
    sip.settle()
    invite = server.last("INVITE")
    answer = server.reply(invite, wanting(30)(invite))
    tx.call.hangup()
    sip.settle()
    server.reply(server.last("BYE"), 200)
    server.reply(invite, answer)
    assert len(client.keepalives) == 0


@pytest.mark.rfc("6223 4.2.3")
def test_answer_of_another_branch_that_is_hung_up_does_not_end_them(sip, client, server, pings):
    server.answer = None
    tx = client.send(Request("INVITE", server.uri))
    sip.settle()
    invite = server.last("INVITE")
    server.reply(invite, wanting(30)(invite))
    invite.use_to_tag("other")
    server.reply(invite, wanting(30)(invite))
    server.reply(server.last("BYE"), 200)
    sip.advance(31)
    assert len(pings) == 1
    tx.call.hangup()
    sip.settle()
    server.reply(server.last("BYE"), 200)
    assert len(client.keepalives) == 0


def test_answer_that_makes_no_call_ends_them(sip, client, server):
    server.answer = None
    client.send(Request("INVITE", server.uri))
    sip.settle()
    invite = server.last("INVITE")
    answer = wanting(30)(invite)
    answer.headers["Record-Route"] = "<<<"
    server.reply(invite, answer)
    assert len(client.keepalives) == 0


@pytest.mark.rfc("6223 4.3")
def test_pings_that_were_offered_go_by_a_flow_that_is_the_next_hop(sip, client, server, pings):
    register(sip, client, server, next_hop=client.flow_to(URI.parse(server.uri)))
    sip.advance(31)
    assert len(pings) == 1


def test_flow_of_several_registrations_is_pinged_once_and_as_often_as_the_most_eager_wants(
    sip, client, server, pings
):
    server.answer = wanting(100)
    register(sip, client, server, call_id="1")
    server.answer = wanting(10)
    register(sip, client, server, call_id="2")
    sip.advance(100)
    assert len(pings) > 9 and all(seconds <= 10 for seconds in between(pings))


# ---- who is pinged


@pytest.fixture
def asked(sip, monkeypatch):
    """A registrar and callee that wants pings each 30 seconds."""
    monkeypatch.setattr(MemoryTransport, "keep_alive_seconds", 30)
    location = Location(sip.clock.now)

    def core(request, tx):
        if request.method == "REGISTER":
            return Registrar(location)(request, tx)
        return 486 if request.method == "INVITE" else 200

    sip.serve(core)
    return Peer(sip, PHONE)


def offer(peer, method, offered=";keep", **headers):
    """Send a request that offers; return the Via of the last response."""
    peer.ask(
        method,
        via=f"SIP/2.0/UDP {PHONE}:5060;rport;branch=z9hG4bK{random.random()}{offered}",
        **headers,
    )
    return peer.responses[-1].via[0]


@pytest.mark.rfc("6223 4.4")
@pytest.mark.parametrize("method", ["REGISTER", "INVITE", "SUBSCRIBE"])
def test_peer_that_offers_is_asked_for_pings_in_every_response(asked, method):
    via = offer(asked, method)
    assert via.parameters["keep"] == "30"
    assert (via.received, via.rport) == (PHONE, 5060)
    assert {
        response.via[0].parameters.get("keep")
        for response in asked.responses
        if response.status > 100
    } == {"30"}


@pytest.mark.rfc("6223 4.3", "6223 4.4")
@pytest.mark.parametrize(
    ("method", "offered", "headers", "value"),
    [
        ("OPTIONS", ";keep", {}, None),
        ("REGISTER", "", {}, None),
        ("REGISTER", ";keep=10", {}, "10"),
        ("REGISTER", ";keeper", {}, None),
        ("SUBSCRIBE", ";keep", {"to": "<sip:b@10.0.0.1>;tag=1"}, None),
    ],
)
def test_what_is_no_offer_stays_as_it_came(asked, method, offered, headers, value):
    assert offer(asked, method, offered, **headers).parameters.get("keep") == value


def test_offer_below_the_top_via_is_none_to_us(asked):
    """It was made to the proxy before us."""
    asked.ask(
        "SUBSCRIBE",
        via=f"SIP/2.0/UDP {PHONE}:5060;branch=z9hG4bK1, SIP/2.0/UDP a.example;branch=z9hG4bK2;keep",
    )
    assert [via.parameters.get("keep") for via in asked.responses[-1].via] == [None, None]


def test_nobody_is_asked_where_it_is_turned_off(asked, monkeypatch):
    monkeypatch.setattr(MemoryTransport, "keep_alive_seconds", 0)
    assert offer(asked, "REGISTER").parameters.get("keep") is None


@pytest.mark.rfc("6223 4.4")
@pytest.mark.parametrize(
    ("record_route", "method", "value"),
    [(True, "INVITE", "30"), (False, "INVITE", None), (False, "REGISTER", "30")],
)
def test_proxy_asks_for_a_dialog_only_when_it_stays_on_its_route(
    sip, monkeypatch, record_route, method, value
):
    monkeypatch.setattr(MemoryTransport, "keep_alive_seconds", 30)
    target = Peer(sip, "10.0.0.78", lambda request: 486)

    def core(request, tx):
        with ResponseContext(tx, record_route=record_route) as context:
            context.fork(target.uri)
            for response in context:
                context.forward(response)

    sip.serve(core)
    via = offer(Peer(sip, PHONE), method)
    assert "keep" in via.parameters and via.parameters["keep"] == value


@pytest.mark.rfc("3261 8.2.6.2")
def test_proxy_offers_nothing_in_the_top_via_when_one_below_has_an_answer(sip):
    target = Peer(sip, "10.0.0.78", lambda request: 486)
    sip.serve(lambda request, tx: forward(request, tx, target.uri))
    phone = Peer(sip, PHONE)
    phone.ask(
        "INVITE",
        via=f"SIP/2.0/UDP {PHONE}:5060;branch=z9hG4bK1, SIP/2.0/UDP a.example;branch=z9hG4bK2;keep=30",
    )
    assert ["keep" in via.parameters for via in phone.responses[-1].via] == [False, True]


# ---- over TCP


@pytest.mark.rfc("6223 4.3", "6223 4.4", "5626 4.4.1")
def test_registered_phone_pings_its_server_over_tcp():
    with (
        Stack("tcp:127.0.0.1:0", limits=Limits(streams=StreamLimits(keep=1))) as server,
        Stack("tcp:127.0.0.1:0", keep=True) as phone,
    ):
        server.on("REGISTER")(Registrar(Location(server.clock.now)))
        uri = f"sip:127.0.0.1:{server.engine.transports[0].local[1]};transport=tcp"
        with gevent.Timeout(PATIENCE):
            assert phone.request("REGISTER", uri, contact="<sip:me@127.0.0.1>").status == 200
        flow = next(iter(server.engine.transports[0].flows))
        until(lambda: flow._framer.pings)
        until(lambda: not next(iter(phone.engine.transports[0].flows))._pinged)  # the pong is there
        assert flow.is_open


@pytest.mark.rfc("5626 4.4.1")
def test_server_that_does_not_answer_a_wanted_ping_is_given_up(connect_only):
    phone, peer = connect_only
    flow = next(iter(phone.engine.transports[0].flows))
    until(lambda: flow.state == "closed")
    assert phone.engine.transports[0].counts == {"no pong": 1}
    assert not phone.registered.flow.is_alive()  # so who has registered may see it
    assert peer.rest().count(b"\r\n\r\n") == 1
    until(lambda: len(phone.keepalives) == 0)


@pytest.fixture
def connect_only():
    """A phone registered at a server that wants pings and never answers one."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    with Stack(
        "tcp:127.0.0.1:0", keep=True, limits=Limits(streams=StreamLimits(pong=0.1))
    ) as phone:
        uri = f"sip:127.0.0.1:{listener.getsockname()[1]};transport=tcp"
        asked = gevent.spawn(
            phone.request, "REGISTER", uri, contact="<sip:me@127.0.0.1>;expires=100"
        )
        peer = Connected(None, listener.accept()[0])
        request = peer.message()
        answer = request.response(200, contact=request.contact)
        answer.headers["Via"] = answer.headers["Via"].replace(";keep", ";keep=1")
        peer.send(bytes(answer))
        phone.registered = asked.get(timeout=PATIENCE)
        assert phone.registered.status == 200
        yield phone, peer
        peer.sock.close()
    listener.close()


# ---- over UDP


@pytest.mark.rfc("6223 4.3", "6223 4.4", "5626 4.4.2")
def test_registered_phone_asks_its_server_by_stun_over_udp():
    with (
        Stack("udp:127.0.0.1:0", limits=Limits(keep=1)) as server,
        Stack("udp:127.0.0.1:0", keep=True) as phone,
    ):
        server.on("REGISTER")(Registrar(Location(server.clock.now)))
        here = server.engine.transports[0].local
        with gevent.Timeout(PATIENCE):
            assert (
                phone.request(
                    "REGISTER", f"sip:127.0.0.1:{here[1]}", contact="<sip:me@127.0.0.1>"
                ).status
                == 200
            )
        until(lambda: phone.stats()["stun"] == {"keepalive_answered": 1})
        assert server.stats()["stun"] == {"answered": 1}
        assert phone.engine.transports[0].connect(here).mapped == phone.engine.transports[0].local


def test_keep_alives_that_are_not_answered_or_show_another_address_are_counted(caplog):
    with Stack("udp:127.0.0.1:0") as phone, socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(PATIENCE)
        point = phone.engine.transports[0]
        flow = point.connect(server.getsockname())

        def ask(host, identity=None):
            flow.probe()
            asked, source = server.recvfrom(100)
            if identity is not None:
                asked = asked[:8] + identity + asked[20:]
            server.sendto(stun.answer(asked, host, 5060), source)
            before = dict(point.stun)
            until(lambda: point.stun != before)

        ask("192.0.2.1")
        ask("192.0.2.1")
        ask("192.0.2.2")
        ask("192.0.2.2", b"somebody's..")
        ask("192.0.2.2")
        assert point.stun == {
            "keepalive_answered": 3,
            "address_changed": 1,
            "dropped": 1,
            "keepalive_unanswered": 1,
        }
        assert flow.mapped == ("192.0.2.2", 5060)
        assert [
            record.levelname for record in caplog.records if "another address" in record.message
        ] == ["WARNING"]


@given(st.binary(max_size=100))
def test_no_octets_in_an_answer_raise(data):
    stun.mapped_address(b"\x01\x01" + data)
    stun.mapped_address(b"\x01\x01\x00\x08" + stun.COOKIE + bytes(12) + data)


@given(st.binary(min_size=12, max_size=12), st.ip_addresses().map(str), st.integers(0, 65535))
def test_answer_says_where_the_request_came_from(identity, host, port):
    assert stun.mapped_address(stun.answer(stun.ask(identity), host, port)) == (
        identity,
        (host, port),
    )
