"""sips URIs, RFC 3261 §26.2.2 and RFC 5630: each rule in core/routing/sips.py, over TLS and on the virtual network."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import (
    TLS,
    InvalidValue,
    Location,
    NameAddr,
    Registrar,
    Reject,
    Request,
    Stack,
    TransportError,
    forward,
)
from sippet_gevent.core.dialog.dialog import Dialog
from sippet_gevent.core.routing.sips import (
    answer_wants_sips,
    check_registration,
    retarget,
    wants_sips,
)
from sippet_gevent.errors import WrongScheme
from sippet_gevent.message.uri import URI
from sippet_gevent.stores.bindings import aor, same_resource
from tests.conditions import PATIENCE

from ..wire import Peer

trustme = pytest.importorskip("trustme")

BOB = URI.parse("sips:bob@example.com")


def request(method="INVITE", uri="sips:bob@example.com", **headers):
    headers.setdefault("from_", "<sip:a@example.com>;tag=1")
    headers.setdefault("to", "<sip:b@example.com>")
    return Request(method, uri, **headers)


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """TLS for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("sips")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        folder / "cert.pem"
    )
    return TLS(folder / "cert.pem", ca=folder / "ca.pem")


@pytest.fixture
def stacks(tls):
    """Make started stacks on TLS and TCP; each records its requests."""
    made = []

    def make(*addresses, core=None, **options):
        stack = Stack(*(addresses or ("tcp:127.0.0.1:0", "tls:127.0.0.1:0")), tls=tls, **options)
        stack.seen = []

        def serve(request, tx):
            stack.seen.append(request)
            return 200 if core is None else core(request, tx)

        stack.on()(serve)
        stack.start()
        ports = {transport.name: transport.local[1] for transport in stack.engine.transports}
        stack.sip = f"sip:127.0.0.1:{ports['TCP']};transport=tcp" if "TCP" in ports else None
        stack.sips = f"sips:127.0.0.1:{ports['TLS']}" if "TLS" in ports else None
        made.append(stack)
        return stack

    yield make
    for stack in made:
        stack.stop()


def ask(stack, method, uri, **options):
    with gevent.Timeout(PATIENCE):
        return stack.request(method, uri, **options)


# ---- requests of our own


@pytest.mark.rfc("3261 8.1.2", "3261 26.2.2")
@pytest.mark.parametrize("way", ["next_hop", "route"])
def test_request_to_a_sips_uri_goes_by_tls_whatever_its_next_hop_says(stacks, way):
    server, client = stacks(), stacks()
    hop = server.sips.replace("sips:", "sip:")
    options = {"next_hop": hop} if way == "next_hop" else {"route": f"<{hop};lr>"}
    assert ask(client, "MESSAGE", "sips:bob@example.com", **options).status == 200
    assert server.seen[0].flow.transport.name == "TLS"


@pytest.mark.rfc("3261 26.2.2")
@pytest.mark.parametrize("hop", ["sip:127.0.0.1:9;transport=udp", "sips:127.0.0.1:9;transport=udp"])
def test_request_to_a_sips_uri_has_no_way_in_clear(stacks, hop):
    with pytest.raises(TransportError, match="nothing is secure over UDP"):
        stacks("udp:127.0.0.1:0", "tls:127.0.0.1:0").request(
            "MESSAGE", "sips:bob@example.com", next_hop=hop
        )


def test_request_to_a_sips_uri_has_no_way_without_tls(stacks):
    with pytest.raises(TransportError, match="listen on an address of its transport, tls"):
        stacks("tcp:127.0.0.1:0").request("MESSAGE", "sips:bob@192.0.2.1")


@pytest.mark.rfc("5630 5.1.1")
def test_whole_route_of_a_request_to_a_sips_uri_is_sips(stacks):
    server, client = stacks(), stacks()
    here = server.sips.replace("sips:", "sip:")
    ask(
        client,
        "MESSAGE",
        "sips:bob@example.com",
        route=(f"<{here};lr>", "<sip:next.example;lr;x=1>"),
    )
    assert server.seen[0].headers.all("Route") == [
        f"<{server.sips};lr>",
        "<sips:next.example;lr;x=1>",
    ]


@pytest.mark.rfc("3261 8.1.1.8", "5630 5.1.1.2")
@pytest.mark.parametrize(
    ("uri", "route", "next_hop", "scheme"),
    [
        ("sips:bob@example.com", None, "{sips}", "sips"),
        ("sip:bob@example.com", "<{sips};lr>", None, "sips"),
        ("sip:bob@example.com", None, "{sips}", "sip"),
        ("sip:bob@example.com", "<{sip};lr>", None, "sip"),
    ],
)
def test_contact_is_sips_when_request_uri_or_top_route_is(stacks, uri, route, next_hop, scheme):
    server, client = stacks(), stacks()
    fill = {"sips": server.sips, "sip": server.sip}
    options = {"route": route.format(**fill)} if route else {}
    ask(
        client,
        "SUBSCRIBE",
        uri,
        event="x",
        next_hop=next_hop and next_hop.format(**fill),
        **options,
    )
    assert server.seen[0].contact[0].uri.scheme == scheme


@pytest.mark.rfc("3261 8.1.1.8")
def test_sip_contact_of_the_application_is_an_error_for_a_sips_uri(stacks):
    server, client = stacks(), stacks()
    with pytest.raises(InvalidValue, match=r"Contact: a sip URI in a SUBSCRIBE .* \(§8.1.1.8\)"):
        ask(client, "SUBSCRIBE", server.sips, event="x", contact="<sip:me@192.0.2.1>")
    assert (
        ask(client, "SUBSCRIBE", server.sips, event="x", contact="<sips:me@192.0.2.1>").status
        == 200
    )


# ---- received requests


@pytest.mark.rfc("5630 5.1.2", "3261 26.2.2")
def test_sips_request_in_clear_is_480_with_a_tls_listener(stacks):
    server, client = stacks(), stacks()
    response = in_clear(client, server)
    assert response.status == 480
    assert [(w.code, w.text) for w in response.warning] == [(380, "SIPS Not Allowed")]
    assert server.seen == []


def in_clear(client, server, uri=None, **headers):
    """Send a request to a sips URI in clear, which a correct client never does."""
    message = request("MESSAGE", server.sip, **headers)
    tx = client.send(message)
    data = (
        bytes(tx.request)
        .replace(b"MESSAGE sip:", b"MESSAGE sips:")
        .replace(b"branch=z9hG4bK", b"branch=z9hG4bKx")
    )
    answers = []
    client.dispatcher.stray = lambda response: answers.append(response) or True
    with gevent.Timeout(PATIENCE):
        tx.final()
        server.seen.clear()
        tx.transaction.flow.send(data)
        while not answers:
            gevent.sleep(0.001)
    return answers[0]


@pytest.mark.rfc("3261 8.2.2.1", "5630 5.1.2")
def test_sips_request_is_416_without_a_tls_listener(sip):
    server = sip.serve(lambda request, tx: 200)
    peer = Peer(sip, "10.0.0.50")
    peer.ask("MESSAGE", "sips:bob@example.com")
    assert peer.statuses == [416]
    assert server.engine.counters.delivered == 1


def test_sips_request_in_clear_is_served_behind_a_tls_terminator(sip):
    sip.serve(lambda request, tx: 200, sips_in_clear=True)
    peer = Peer(sip, "10.0.0.50")
    peer.ask("MESSAGE", "SIPS:bob@example.com")
    assert peer.statuses == [200]


@pytest.mark.rfc("5630 5.1.2")
@pytest.mark.parametrize(
    ("contact", "status"),
    [
        ("<sip:10.0.0.50;transport=udp>", 400),
        ("<sip:10.0.0.50>", 200),
        ("<sip:10.0.0.50:5061;transport=tls>", 200),
        ("<sips:10.0.0.50>", 200),
        ("<mailto:a@example.com>", 200),
    ],
)
def test_contact_unreachable_by_tls_is_400_to_a_sips_uri(sip, contact, status):
    sip.serve(lambda request, tx: 200, sips_in_clear=True)
    peer = Peer(sip, "10.0.0.50")
    peer.ask("SUBSCRIBE", "sips:bob@example.com", contact=contact)
    assert peer.statuses == [status]


@pytest.mark.rfc("3261 12.1.1")
@pytest.mark.parametrize(
    ("record_route", "contact", "scheme"),
    [
        (None, None, "sip"),
        (None, "<sips:a@127.0.0.1>", "sips"),
        ("<sip:p.example;lr>", "<sips:a@127.0.0.1>", "sip"),
        ("<sips:p.example;lr>, <sip:q.example;lr>", "<sip:a@127.0.0.1>", "sips"),
    ],
)
def test_contact_of_the_answer_is_sips_for_a_sips_dialog(record_route, contact, scheme):
    invite = request(uri="sip:bob@example.com", record_route=record_route, contact=contact)
    assert answer_wants_sips(invite) is (scheme == "sips")


@pytest.mark.rfc("3261 12.1.1", "5630 5.1.1.2")
def test_dialog_begun_with_sips_stays_sips():
    invite = request(call_id="1", cseq="1 INVITE", contact="<sips:a@192.0.2.1>")
    answer = invite.response(200, contact="<sip:b@192.0.2.2:5061;transport=tls>")
    dialog = Dialog.of_uac(invite, answer)
    assert str(dialog.remote_target) == "sips:b@192.0.2.2:5061;transport=tls"
    dialog.refresh(request(contact="<sip:c@192.0.2.3>"))
    assert dialog.request("BYE").uri.scheme == "sips"
    plain = request(
        uri="sip:bob@example.com", call_id="1", cseq="1 INVITE", contact="<sips:a@192.0.2.1>"
    )
    assert (
        Dialog.of_uac(plain, plain.response(200, contact="<sip:b@192.0.2.2>")).remote_target.scheme
        == "sip"
    )


# ---- forwarded requests


@pytest.mark.rfc("5630 5.3")
def test_targets_of_a_proxy():
    sips, sip = request(), request(uri="sip:bob@example.com")
    secure, clear = URI.parse("sips:bob@192.0.2.1;x=1"), URI.parse("sip:bob@192.0.2.1;x=1")
    assert retarget(sips, secure) == (secure, None)
    assert retarget(sip, clear) == (clear, None)
    assert retarget(sip, secure) == (clear, secure)
    with pytest.raises(WrongScheme) as refused:
        retarget(sips, clear)
    assert (refused.value.status, refused.value.headers["warning"][0].code) == (480, 380)


@pytest.mark.rfc("5630 5.3")
def test_request_to_a_sips_uri_is_not_forwarded_to_a_sip_target(stacks):
    phone = stacks()
    proxy = stacks(core=lambda request, tx: forward(request, tx, phone.sip))
    response = ask(stacks(), "MESSAGE", proxy.sips)
    assert (response.status, [w.code for w in response.warning]) == (480, [380])
    assert phone.seen == []


@pytest.mark.rfc("5630 5.3")
def test_sip_target_of_a_sips_request_fails_its_branch_only(stacks):
    phone = stacks()
    proxy = stacks(core=lambda request, tx: forward(request, tx, phone.sip, phone.sips))
    assert ask(stacks(), "MESSAGE", proxy.sips).status == 200
    assert [(seen.flow.transport.name, seen.uri.scheme) for seen in phone.seen] == [("TLS", "sips")]


@pytest.mark.rfc("5630 5.3")
def test_sip_request_reaches_a_sips_target_by_tls_and_as_sip(stacks):
    phone = stacks()
    proxy = stacks(core=lambda request, tx: forward(request, tx, phone.sips))
    assert ask(stacks(), "MESSAGE", proxy.sip).status == 200
    assert [(seen.flow.transport.name, seen.uri.scheme) for seen in phone.seen] == [("TLS", "sip")]


@pytest.mark.rfc("5630 5.3")
def test_sips_target_of_a_sip_request_is_480_without_tls(stacks):
    phone = stacks()
    proxy = stacks("tcp:127.0.0.1:0", core=lambda request, tx: forward(request, tx, phone.sips))
    response = ask(stacks(), "MESSAGE", proxy.sip)
    assert (response.status, [w.code for w in response.warning]) == (480, [381])


@pytest.mark.rfc("3261 16.6")
def test_proxy_goes_by_tls_along_the_route_of_a_sips_request(stacks):
    phone = stacks()
    hop = phone.sips.replace("sips:", "sip:")
    proxy = stacks(core=lambda request, tx: forward(request, tx, next_hop=hop))
    assert ask(stacks(), "MESSAGE", "sips:bob@example.com", next_hop=proxy.sips).status == 200
    assert phone.seen[0].flow.transport.name == "TLS"


@pytest.mark.rfc("3261 16.6")
def test_record_route_is_sips_for_a_sips_request_uri_or_top_route():
    assert wants_sips(request())
    assert wants_sips(request(uri="sip:bob@example.com", route="<sips:p.example;lr>"))
    assert not wants_sips(
        request(uri="sip:bob@example.com", route="<sip:p.example;lr>, <sips:q.example;lr>")
    )
    broken = request(uri="sip:bob@example.com")
    broken.headers["Route"] = "<<>>"
    assert not wants_sips(broken)


# ---- registrars


@pytest.mark.rfc("5630 5.2")
@pytest.mark.parametrize(
    ("uri", "contact", "path", "accepted"),
    [
        ("sips:example.com", "<sips:b@192.0.2.1>", None, True),
        (
            "sips:example.com",
            "<sips:b@192.0.2.1>, <mailto:b@example.com>",
            "<sips:p.example;lr>",
            True,
        ),
        ("sip:example.com", "<sips:b@192.0.2.1>", None, False),
        ("sips:example.com", "<sips:b@192.0.2.1>, <sip:b@192.0.2.2>", None, False),
        (
            "sips:example.com",
            "<sips:b@192.0.2.1>",
            "<sips:p.example;lr>, <sip:q.example;lr>",
            False,
        ),
        ("sip:example.com", "<sip:b@192.0.2.1>", None, True),
        ("sips:example.com", "<sip:b@192.0.2.1>", "<sip:p.example;lr>", True),
    ],
)
def test_sips_contact_is_bound_only_if_all_uris_are_sips(uri, contact, path, accepted):
    register = request("REGISTER", uri, contact=contact, path=path)
    if accepted:
        check_registration(register)
    else:
        with pytest.raises(Reject, match="400"):
            check_registration(register)


@pytest.mark.rfc("5630 5.2", "5630 5.1.1.1")
def test_address_of_record_and_contact_are_the_same_whatever_their_scheme(sip):
    location = Location()
    sip.serve(Registrar(location), sips_in_clear=True)
    phone = Peer(sip, "10.0.0.50")
    for number, scheme in enumerate(("sip", "sips", "sip"), 1):
        contact = f"<{scheme}:bob@10.0.0.50>"
        phone.ask(
            "REGISTER",
            f"{scheme}:10.0.0.1",
            to=f"<{scheme}:bob@10.0.0.1>",
            contact=contact,
            call_id="1",
            number=number,
        )
        assert [b.uri.scheme for b in location.lookup(URI.parse("sip:bob@10.0.0.1"))] == [scheme]
        assert [b.uri.scheme for b in location.lookup(URI.parse("sips:bob@10.0.0.1"))] == [scheme]
    assert phone.statuses == [200, 200, 200]


@pytest.mark.rfc("5630 4.1")
def test_sip_and_sips_name_one_resource():
    assert same_resource(URI.parse("sip:bob@example.com"), URI.parse("sips:bob@example.com"))
    assert not same_resource(URI.parse("sip:bob@example.com"), URI.parse("sips:alice@example.com"))
    assert (
        aor(URI.parse("sips:bob@example.com:5061"))
        == aor(URI.parse("sip:bob@example.com"))
        == "sip:bob@example.com"
    )
    assert aor(URI.parse("tel:+1")) == "tel:+1"
    assert NameAddr(BOB).uri.is_secure


@pytest.mark.rfc("5630 5.3")
def test_phone_registered_as_sips_is_called_by_tls_for_a_sip_uri(stacks):
    """The whole way by TLS, with the default server."""
    phone = stacks()
    location = []

    def core(request, tx):
        if request.method == "REGISTER":
            location[:] = [Location()]
            return Registrar(location[0])(request, tx)
        return forward(request, tx, *location[0].lookup(URI.parse("sip:bob@127.0.0.1")))

    proxy = stacks(core=core)
    bob = "<sips:bob@127.0.0.1>"
    assert (
        ask(phone, "REGISTER", proxy.sips, to=bob, from_=bob, contact=f"<{phone.sips}>").status
        == 200
    )
    assert ask(stacks(), "MESSAGE", proxy.sip).status == 200
    assert [(seen.flow.transport.name, seen.uri.scheme) for seen in phone.seen] == [("TLS", "sip")]


@pytest.mark.rfc("5630 5.2", "5630 6.3")
def test_sips_registration_through_an_edge_proxy_has_a_sips_path(stacks):
    phone = stacks()
    location = []

    def home(request, tx):
        location[:] = location or [Location()]
        return Registrar(location[0])(request, tx)

    registrar = stacks(core=home)
    edge = stacks(
        core=lambda request, tx: forward(request, tx, next_hop=registrar.sips, add_path=True)
    )
    bob = "<sips:bob@127.0.0.1>"
    response = ask(
        phone,
        "REGISTER",
        registrar.sips,
        next_hop=edge.sips,
        to=bob,
        from_=bob,
        contact=f"<{phone.sips}>",
    )
    assert (response.status, [value.uri.scheme for value in response.path]) == (200, ["sips"])
