"""SIP Outbound: the answers of a registrar, RFC 5626 §6, and several flows of one phone, §7."""

from __future__ import annotations

import pytest

from sippet_gevent import NameAddr
from sippet_gevent.stores.bindings import flow_registered
from sippet_gevent.transport.memory import MemoryTransport

from ...conformance.test_flows import DOMAIN, Office, TwoFlows
from ..registrar.test_registrar import AOR, Phone
from ..wire import Peer

FLOW = '<sip:alice@10.0.0.71>;reg-id=1;+sip.instance="<urn:uuid:0>"'
NO_REG_ID = '<sip:alice@10.0.0.71>;+sip.instance="<urn:uuid:0>"'
NO_INSTANCE = "<sip:alice@10.0.0.71>;reg-id=1"
EDGE, OTHER = "<sip:edge.example.com;lr;ob>", "<sip:other.example.com;lr>"


@pytest.fixture
def phone(sip):
    return Phone(sip)


@pytest.fixture
def office(sip):
    return Office(sip)


def via_proxy(phone):
    """The Vias of a REGISTER that came by a proxy."""
    own = phone.peer.request("REGISTER").via[0]
    return (own, own.with_params(branch="z9hG4bKbelow"))


# ---- answers of the registrar (§6)


@pytest.mark.rfc("5626 6", "5626 11.6")
@pytest.mark.parametrize(("contact", "proxied", "path", "supported", "status", "required"), [
    # from the user agent, without a proxy
    (FLOW, False, None, "path, outbound", 200, True),
    (FLOW, False, None, "Outbound", 200, True),
    (FLOW + ";expires=0", False, None, "outbound", 200, True),
    (FLOW, False, None, "path", 200, False),
    (FLOW, False, None, None, 200, False),
    (NO_REG_ID, False, None, "outbound", 200, False),
    (NO_INSTANCE, False, None, "outbound", 200, False),
    (FLOW.replace("reg-id=1", "reg-id=0"), False, None, "outbound", 200, False),
    (FLOW.replace("reg-id=1", "reg-id"), False, None, "outbound", 200, False),
    (FLOW.replace("reg-id=1", "reg-id=x"), False, None, "outbound", 200, False),
    (FLOW.replace("reg-id=1", "reg-id=2147483648"), False, None, "outbound", 200, False),
    (None, False, None, "outbound", 200, False),
    # by an edge proxy with outbound, and others behind it
    (FLOW, True, EDGE, "path, outbound", 200, True),
    (FLOW, True, f"{OTHER}, {EDGE}", "path, outbound", 200, True),
    (FLOW, True, EDGE, "path", 200, False),
    (NO_INSTANCE, True, EDGE, "outbound", 200, False),
    # by one without outbound
    (FLOW, True, None, "path, outbound", 439, False),
    (FLOW, True, OTHER, "path, outbound", 439, False),
    (FLOW, True, f"{EDGE}, {OTHER}", "path, outbound", 439, False),
    (FLOW, False, OTHER, "path, outbound", 439, False),
    (NO_INSTANCE, True, None, "outbound", 439, False),
    (FLOW, True, None, "path", 200, False),
    (FLOW, True, None, None, 200, False),
    (NO_REG_ID, True, None, "outbound", 200, False),
    ("*", True, None, "outbound", 200, False),
])  # fmt: skip
def test_registrar_answers_require_outbound_when_it_keeps_the_flow(
    phone, contact, proxied, path, supported, status, required
):
    headers = {"path": path, "supported": supported, "expires": 0 if contact == "*" else None}
    headers = {name: value for name, value in headers.items() if value is not None}
    if proxied:
        headers["via"] = via_proxy(phone)
    response = phone.register(*([contact] if contact else []), **headers)
    assert (response.status, "outbound" in response.require) == (status, required)


@pytest.mark.parametrize("path", [None, OTHER])
def test_phone_without_outbound_support_on_its_way_can_be_registered(sip, path):
    phone = Phone(sip, strict_outbound=False)
    headers = {} if path is None else {"path": path}
    for port in (71, 79):
        response = phone.register(
            FLOW.replace("71", str(port)), supported="outbound", via=via_proxy(phone), **headers
        )
        assert (response.status, response.require, response.flow_timer) == (200, (), None)
    assert len(phone.bound) == 2


@pytest.mark.rfc("5626 6")
def test_refused_flow_leaves_the_bindings_as_they_were(phone):
    phone.register(FLOW, supported="outbound")
    assert (
        phone.register(FLOW.replace("71", "79"), supported="outbound", via=via_proxy(phone)).status
        == 439
    )
    assert list(phone.bound) == ["sip:alice@10.0.0.71"]


@pytest.mark.rfc("5626 6")
def test_reg_id_is_ignored_if_the_first_hop_lacks_outbound(phone):
    """Without outbound at the first hop, another URI is another binding."""
    phone.register(FLOW, supported="outbound")
    phone.register(FLOW.replace("71", "79"), via=via_proxy(phone))
    assert len(phone.bound) == 2


@pytest.mark.rfc("5626 6")
@pytest.mark.parametrize(("second", "headers", "status"), [
    ("<sip:alice@10.0.0.72>", {}, 400),
    (FLOW.replace("reg-id=1", "reg-id=2"), {}, 400),
    ("<sip:alice@10.0.0.72>;expires=0", {}, 200),
    ("<sip:alice@10.0.0.72>", {"expires": 0}, 200),
])  # fmt: skip
def test_one_flow_is_registered_at_a_time(phone, second, headers, status):
    assert phone.register(FLOW, second, **headers).status == status


@pytest.mark.rfc("5626 4.2.1", "3261 8.2.2.3")
@pytest.mark.parametrize(
    ("require", "status", "required"),
    [("outbound", 200, True), ("path", 200, False), ("outbound, x", 420, False)],
)
def test_require_of_outbound_and_path_is_understood(phone, require, status, required):
    response = phone.register(FLOW, require=require)
    assert (response.status, "outbound" in response.require) == (status, required)
    if status == 420:
        assert response.unsupported == ("x",)


@pytest.mark.rfc("5626 6", "6223 5")
@pytest.mark.parametrize(("seconds", "path", "supported", "timer"), [
    (30, None, "outbound", 30), (0, None, "outbound", None), (30, EDGE, "outbound", None), (30, None, "path", None),
])  # fmt: skip
def test_flow_timer_is_for_phones_without_a_proxy_on_the_way(
    phone, monkeypatch, seconds, path, supported, timer
):
    monkeypatch.setattr(MemoryTransport, "keep_alive_seconds", seconds)
    headers = {} if path is None else {"path": path}
    assert phone.register(FLOW, supported=supported, **headers).flow_timer == timer


@pytest.mark.rfc("5626 6")
def test_same_flow_registered_again_replaces_the_binding_and_its_flow(phone):
    phone.register(FLOW, supported="outbound")
    (before,) = phone.location.get(AOR)
    phone.peer = Peer(phone.sip, "10.0.0.79")
    phone.register(FLOW, supported="outbound")
    (after,) = phone.location.get(AOR)
    remotes = [phone.stack.names.live_flow(each.flow).remote[0] for each in (before, after)]
    assert remotes == ["10.0.0.71", "10.0.0.79"]


@pytest.mark.rfc("7118 6")
@pytest.mark.parametrize(("kind", "timer"), [("browser", None), ("TCP", 30)])
def test_browser_gets_no_flow_timer(office, monkeypatch, kind, timer):
    monkeypatch.setattr(MemoryTransport, "keep_alive_seconds", 30)
    bob = office.phone(kind, "bob")
    bob.ask("REGISTER", f"sip:{DOMAIN}", to=f"<{bob.aor}>", supported="outbound", contact=FLOW)
    assert (bob.responses[-1].require, bob.responses[-1].flow_timer) == (("outbound",), timer)


@pytest.mark.rfc("5626 4.1", "5626 10")
@pytest.mark.parametrize(("one", "other", "same"), [
    ('reg-id=1;+sip.instance="<urn:uuid:AB>"', '+sip.instance="<URN:UUID:ab>";reg-id=01', True),
    ('reg-id=1;+sip.instance="<urn:x:AB>"', 'reg-id=1;+sip.instance="<urn:x:ab>"', False),
    ('reg-id=1;+sip.instance="<urn:uuid:AB>"', 'reg-id=2;+sip.instance="<urn:uuid:AB>"', False),
])  # fmt: skip
def test_flow_is_named_by_instance_and_reg_id(one, other, same):
    flows = [flow_registered(NameAddr.parse(f"<sip:a@b>;{text}")) for text in (one, other)]
    assert None not in flows and (flows[0] == flows[1]) is same


# ---- one flow after another (§7)


@pytest.mark.rfc("5626 7")
def test_phone_with_an_instance_and_no_reg_id_is_asked_once(office):
    alice, bobs = office.phone("plain", "alice"), [office.phone("plain", "bob") for _ in range(2)]
    for number, bob in enumerate(bobs):
        bob.register(call_id=str(number), contact=f'<{bob.uri}>;+sip.instance="<urn:uuid:0>"')
    alice.ask("MESSAGE", bobs[0].aor)
    assert [bob.methods for bob in bobs] == [[], ["MESSAGE"]]
    bobs[1].reply(bobs[1].last("MESSAGE"), 200)


@pytest.mark.rfc("5626 7")
def test_other_flow_is_tried_when_the_edge_proxy_of_one_is_silent(office):
    edges = [Peer(office.sip, f"192.0.2.{number}") for number in (1, 2)]
    two = TwoFlows(office, ("plain", "plain"), path=lambda number: f"<sip:192.0.2.{number};lr;ob>")
    two.alice.ask("INVITE", two.first.aor)
    office.sip.advance(33)  # timer B
    edges[0].reply(edges[0].last("INVITE"), 486)
    assert two.alice.statuses[-1] == 486


@pytest.mark.rfc("5626 7")
@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
def test_other_flow_is_tried_when_there_is_no_way_to_the_edge_proxy_of_one(office, method):
    edge = Peer(office.sip, "192.0.2.1")
    paths = {1: "<sip:192.0.2.1;lr;ob>", 2: "<sip:192.0.2.2;transport=tls;lr;ob>"}
    two = TwoFlows(office, ("plain", "plain"), path=paths.get)
    two.alice.ask(method, two.first.aor)
    edge.reply(edge.last(method), 486)
    assert two.alice.statuses[-1] == 486


@pytest.mark.rfc("5626 7")
@pytest.mark.parametrize("status", [408, 480, 503])
def test_answer_of_the_phone_or_its_edge_proxy_is_final(office, status):
    edges = [Peer(office.sip, f"192.0.2.{number}") for number in (1, 2)]
    two = TwoFlows(office, ("plain", "plain"), path=lambda number: f"<sip:192.0.2.{number};lr;ob>")
    two.alice.ask("INVITE", two.first.aor)
    edges[1].reply(edges[1].last("INVITE"), status)
    assert (edges[0].received, two.alice.statuses[-1]) == ([], {503: 500}.get(status, status))


@pytest.mark.rfc("5626 7")
def test_unanswered_phone_does_not_ring_by_its_other_flow(office):
    edges = [Peer(office.sip, f"192.0.2.{number}") for number in (1, 2)]
    two = TwoFlows(office, ("plain", "plain"), path=lambda number: f"<sip:192.0.2.{number};lr;ob>")
    two.alice.ask("INVITE", two.first.aor)
    invite = edges[1].last("INVITE")
    edges[1].reply(invite, 180)
    office.sip.advance(181)  # timer C
    edges[1].reply(edges[1].last("CANCEL"), 200)
    edges[1].reply(invite, 487)
    assert edges[0].received == []
