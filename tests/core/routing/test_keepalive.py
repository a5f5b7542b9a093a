"""Keepalives that peers negotiate, RFC 6223: on the virtual network, whose flows record the pings, and over TCP."""

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
from tests.conditions import PATIENCE, until
from tests.transport.stream.test_tcp import Peer as Connected

from ..wire import Peer

PHONE = "10.0.0.77"


@pytest.fixture
def pings(sip, monkeypatch):
    """Times of the pings, on a network whose flows can ping."""
    sent = []
    monkeypatch.setattr(MemoryFlow, "probes", True)
    monkeypatch.setattr(MemoryFlow, "probe", lambda self: sent.append(round(sip.clock.now(), 3)))
    return sent


@pytest.fixture
def client(sip, pings):
    """A stack that offers keepalives."""
    return sip.stack(host="10.0.0.2", keep=True)


def wanting(value):
    """Return a core that answers 200 with this `keep` value; None is without."""

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


# ---- offers


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
def test_registrations_and_first_invites_offer_keepalives(sip, client, server, method, to, offered):
    server.answer = None
    headers = {} if to is None else {"to": f"<{server.uri}>{to}"}
    client.send(Request(method, server.uri, **headers))
    sip.settle()
    via = server.last(method).via[0]
    assert ("keep" in via.parameters) is offered
    assert via.parameters.get("keep") is None
    if method == "INVITE":
        server.reply(server.last("INVITE"), 486)


def test_stack_offers_no_keepalives_by_default(sip, pings, server):
    register(sip, sip.client, server)
    assert "keep" not in server.last("REGISTER").via[0].parameters
    sip.advance(100)
    assert pings == []


def test_flow_that_cannot_ping_offers_nothing(sip, server):
    register(sip, sip.stack(host="10.0.0.2", keep=True), server)
    assert "keep" not in server.last("REGISTER").via[0].parameters


def test_forwarded_request_makes_no_offer_for_the_proxy(sip, pings, server):
    caller = Peer(sip, "10.0.0.50")
    proxy = sip.serve(lambda request, tx: forward(request, tx, server.uri), keep=True)
    caller.ask("REGISTER")
    assert proxy.keep and "keep" not in server.last("REGISTER").via[0].parameters


# ---- pings sent


@pytest.mark.rfc("6223 5", "5626 4.4")
def test_pings_are_sent_at_80_to_100_percent_of_the_wanted_interval(sip, client, server, pings):
    random.seed(3)
    register(sip, client, server)
    sip.advance(1000)
    assert all(24 <= seconds <= 30 for seconds in between(pings))
    assert len(set(between(pings))) > 20


@pytest.mark.rfc("6223 5")
@pytest.mark.parametrize(
    ("value", "least", "most"), [("0", 23.2, 29), ("1", 0.8, 1), ("999999999", 69120, 86400)]
)
def test_interval_of_pings_is_bounded(sip, client, server, pings, value, least, most):
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
def test_registrar_with_require_outbound_is_pinged(
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
def test_pings_are_not_sent_without_a_grant(sip, client, server, pings, value):
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
def test_pings_end_with_a_later_answer_without_grant_or_binding(
    sip, client, server, pings, value, expires
):
    register(sip, client, server)
    server.answer = wanting(value)
    register(sip, client, server, expires, cseq="2 REGISTER")
    pings.clear()
    sip.advance(200)
    assert pings == []


@pytest.mark.rfc("6223 4.2.2")
def test_pings_survive_a_challenge_to_the_next_registration(sip, client, server, pings):
    register(sip, client, server)
    server.answer = lambda request: 401
    register(sip, client, server, cseq="2 REGISTER")
    sip.advance(31)
    assert pings


@pytest.mark.rfc("6223 4.2.3", "6223 4.3")
def test_pings_last_from_a_provisional_response_to_the_end_of_the_call(sip, client, server, pings):
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
def test_pings_end_with_a_refused_call(sip, client, server, pings):
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
def test_pings_do_not_restart_with_a_200_repeated_after_the_call(sip, client, server, pings):
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
def test_pings_survive_a_further_branch_that_is_hung_up(sip, client, server, pings):
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


def test_pings_end_with_an_answer_that_makes_no_call(sip, client, server):
    server.answer = None
    client.send(Request("INVITE", server.uri))
    sip.settle()
    invite = server.last("INVITE")
    answer = wanting(30)(invite)
    answer.headers["Record-Route"] = "<<<"
    server.reply(invite, answer)
    assert len(client.keepalives) == 0


@pytest.mark.rfc("6223 4.3")
def test_pings_go_by_a_flow_given_as_next_hop(sip, client, server, pings):
    register(sip, client, server, next_hop=client.flow_to(URI.parse(server.uri)))
    sip.advance(31)
    assert len(pings) == 1


def test_flow_of_several_registrations_is_pinged_at_the_shortest_interval(
    sip, client, server, pings
):
    server.answer = wanting(100)
    register(sip, client, server, call_id="1")
    server.answer = wanting(10)
    register(sip, client, server, call_id="2")
    sip.advance(100)
    assert len(pings) > 9 and all(seconds <= 10 for seconds in between(pings))


# ---- pings wanted


@pytest.fixture
def asked(sip, monkeypatch):
    """A registrar and callee that wants pings every 30 seconds."""
    monkeypatch.setattr(MemoryTransport, "keep_alive_seconds", 30)
    location = Location()

    def core(request, tx):
        if request.method == "REGISTER":
            return Registrar(location)(request, tx)
        return 486 if request.method == "INVITE" else 200

    sip.serve(core)
    return Peer(sip, PHONE)


def offer(peer, method, offered=";keep", **headers):
    """Send a request with an offer; return the Via of the last response."""
    peer.ask(
        method,
        via=f"SIP/2.0/UDP {PHONE}:5060;rport;branch=z9hG4bK{random.random()}{offered}",
        **headers,
    )
    return peer.responses[-1].via[0]


@pytest.mark.rfc("6223 4.4")
@pytest.mark.parametrize("method", ["REGISTER", "INVITE", "SUBSCRIBE"])
def test_peers_offer_is_granted_in_every_response(asked, method):
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
def test_keep_parameter_that_is_no_offer_is_unchanged(asked, method, offered, headers, value):
    assert offer(asked, method, offered, **headers).parameters.get("keep") == value


def test_offer_below_the_top_via_is_ignored(asked):
    """The offer was made to the proxy before us."""
    asked.ask(
        "SUBSCRIBE",
        via=f"SIP/2.0/UDP {PHONE}:5060;branch=z9hG4bK1, SIP/2.0/UDP a.example;branch=z9hG4bK2;keep",
    )
    assert [via.parameters.get("keep") for via in asked.responses[-1].via] == [None, None]


def test_offers_are_not_granted_when_turned_off(asked, monkeypatch):
    monkeypatch.setattr(MemoryTransport, "keep_alive_seconds", 0)
    assert offer(asked, "REGISTER").parameters.get("keep") is None


@pytest.mark.rfc("6223 4.4")
@pytest.mark.parametrize(
    ("record_route", "method", "value"),
    [(True, "INVITE", "30"), (False, "INVITE", None), (False, "REGISTER", "30")],
)
def test_proxy_grants_for_a_dialog_only_with_record_route(
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
def test_proxy_makes_no_offer_when_a_lower_via_has_a_grant(sip):
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
        server.on("REGISTER")(Registrar(Location()))
        uri = f"sip:127.0.0.1:{server.engine.transports[0].local[1]};transport=tcp"
        with gevent.Timeout(PATIENCE):
            assert phone.request("REGISTER", uri, contact="<sip:me@127.0.0.1>").status == 200
        flow = next(iter(server.engine.transports[0].flows))
        until(lambda: flow._framer.pings)
        until(
            lambda: not next(iter(phone.engine.transports[0].flows))._pinged
        )  # the pong has arrived
        assert flow.is_open


@pytest.mark.rfc("5626 4.4.1")
def test_server_that_does_not_answer_a_ping_is_given_up(connect_only):
    phone, peer = connect_only
    flow = next(iter(phone.engine.transports[0].flows))
    until(lambda: not flow.is_open)
    assert phone.engine.transports[0].counts == {"no_pong": 1}
    assert not phone.registered.flow.is_alive()  # an application can see that
    assert peer.rest().count(b"\r\n\r\n") == 1
    until(lambda: len(phone.keepalives) == 0)


@pytest.fixture
def connect_only():
    """A phone at a server that wants pings and never answers them."""
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
def test_registered_phone_pings_its_server_by_stun_over_udp():
    with (
        Stack("udp:127.0.0.1:0", limits=Limits(keep=1)) as server,
        Stack("udp:127.0.0.1:0", keep=True) as phone,
    ):
        server.on("REGISTER")(Registrar(Location()))
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


def test_unanswered_keepalives_and_changed_addresses_are_counted(caplog):
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

        failed = []
        phone.engine.flow_watch = failed.append
        ask("192.0.2.1")
        ask("192.0.2.1")
        assert not failed
        ask("192.0.2.2")
        until(lambda: failed == [flow])
        ask("192.0.2.2", b"a stranger..")
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


@pytest.mark.rfc("5626 4.4.2")
def test_flow_whose_keepalives_are_not_answered_has_failed():
    with Stack("udp:127.0.0.1:0") as phone, socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        failed = []
        phone.engine.flow_watch = failed.append
        flow = phone.engine.transports[0].connect(silent.getsockname())
        for _ in range(2):
            flow.probe()
        gevent.sleep(0.01)
        assert not failed  # one may be lost
        for _ in range(3):
            flow.probe()
        until(lambda: failed == [flow])


@pytest.mark.rfc("5626 4.4.2", "5389 7.3.4")
@pytest.mark.parametrize(
    "code", [b"\x00\x00\x03\x00", b"\x00\x00\x04\x14", b"\x00\x00\x05\x00", b""]
)
def test_flow_whose_keepalive_gets_an_error_response_has_failed(code):
    with Stack("udp:127.0.0.1:0") as phone, socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(PATIENCE)
        failed = []
        phone.engine.flow_watch = failed.append
        point = phone.engine.transports[0]
        flow = point.connect(server.getsockname())
        flow.probe()
        asked, source = server.recvfrom(100)
        error = b"" if not code else b"\x00\x09\x00\x04" + code
        head = b"\x01\x11" + len(error).to_bytes(2, "big") + stun.COOKIE
        server.sendto(head + b"a stranger.." + error, source)  # of no request of ours
        server.sendto(head + asked[8:20] + error + b"\0\0\0\0", source)  # malformed
        with socket.socket(type=socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.1", 0))
            stranger.sendto(head + asked[8:20] + error, source)
        until(lambda: point.stun == {"dropped": 3})
        assert not failed
        server.sendto(head + asked[8:20] + error, source)
        until(lambda: failed == [flow])
        assert point.stun == {"dropped": 3, "keepalive_refused": 1}


@pytest.mark.rfc("5389 7.3.3")
@pytest.mark.parametrize(
    ("kind", "fate"),
    [
        (0x0004, "keepalive_answered"),  # SOURCE-ADDRESS of RFC 3489
        (0x0014, "keepalive_answered"),  # REALM
        (0x8022, "keepalive_answered"),  # SOFTWARE
        (0x0024, "keepalive_refused"),  # PRIORITY of ICE
        (0x7FFF, "keepalive_refused"),
    ],
)
def test_keepalive_answer_with_an_unknown_required_attribute_is_discarded(kind, fate):
    with Stack("udp:127.0.0.1:0") as phone, socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(PATIENCE)
        failed = []
        phone.engine.flow_watch = failed.append
        point = phone.engine.transports[0]
        flow = point.connect(server.getsockname())
        flow.probe()
        asked, source = server.recvfrom(100)
        answer = stun.answer(asked, "192.0.2.1", 5060) + kind.to_bytes(2, "big") + b"\0\1x\0\0\0"
        server.sendto(answer[:2] + (len(answer) - 20).to_bytes(2, "big") + answer[4:], source)
        until(lambda: point.stun == {fate: 1})
        gevent.sleep(0.01)
        is_discarded = fate == "keepalive_refused"
        assert failed == ([flow] if is_discarded else [])
        assert flow.mapped == (None if is_discarded else ("192.0.2.1", 5060))


@given(st.binary(max_size=100))
def test_stun_answer_of_any_bytes_raises_nothing(data):
    for kind in (b"\x01\x01", b"\x01\x11"):
        stun.read_answer(kind + data)
        length = len(data).to_bytes(2, "big")
        stun.read_answer(kind + length + stun.COOKIE + bytes(12) + data)


@given(st.binary(min_size=12, max_size=12), st.ip_addresses().map(str), st.integers(0, 65535))
def test_stun_answer_has_the_source_address(identity, host, port):
    assert stun.read_answer(stun.answer(stun.ask(identity), host, port)) == (
        identity,
        (host, port),
    )
