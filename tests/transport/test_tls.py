"""TLS over real sockets on loopback: names, mutual TLS, stalled handshakes, reloaded certificates."""

from __future__ import annotations

import select

import gevent
import pytest
from gevent import socket, ssl
from gevent.event import Event

from sippet_gevent import TLS, InvalidValue, Limits, Stack, StreamLimits, TransportError
from sippet_gevent.transport.locate.resolver import StaticResolver
from sippet_gevent.transport.stream.connection import CLOSED, OPEN
from sippet_gevent.transport.stream.pacing import ENDS, MESSAGES
from tests.conditions import PATIENCE, until

from .stream.test_tcp import Peer, most_closed_in_a_turn, options
from .turns import most_in_a_turn, served_in_turns

trustme = pytest.importorskip("trustme")


class Authority:
    """A certificate authority and the PEM files that it has signed."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = trustme.CA()
        self.file = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.file)

    def issue(self, *names, file="cert.pem"):
        """Return the file of a new certificate for these names, with its key."""
        path = self.folder / file
        self.authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(path)
        return path


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def stranger(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def stacks(authority):
    """Make started stacks over TLS, by default with a certificate for 127.0.0.1 and sip.example."""
    made = []

    def make(tls=None, host="127.0.0.1", port=0, **streams):
        tls = tls or TLS(authority.issue("127.0.0.1", "sip.example"), ca=authority.file)
        stack = Stack(f"tls:{host}:{port}", tls=tls, limits=Limits(streams=StreamLimits(**streams)))
        stack.on("OPTIONS")(lambda request, tx: 200)
        made.append(stack)
        stack.start()
        stack.tcp = stack.engine.transports[0]
        stack.uri = f"sips:{host}:{stack.tcp.local[1]}"
        return stack

    yield make
    for stack in made:
        stack.stop()


@pytest.fixture
def connect(authority):
    """Connect to a stack over TLS."""
    peers = []

    def make(stack, name="sip.example", cert=None, newest=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(authority.file)
        if cert is not None:
            context.load_cert_chain(cert)
        if newest is not None:
            context.minimum_version = newest
            context.maximum_version = newest
        sock = socket.create_connection(stack.tcp.local)
        sock.settimeout(PATIENCE)
        peer = Peer(None, sock)
        peers.append(peer)
        peer.sock = context.wrap_socket(sock, server_hostname=name)
        return peer

    yield make
    for peer in peers:
        peer.sock.close()


@pytest.fixture
def plain():
    """Connect to a TLS port without TLS."""
    socks = []

    def make(stack):
        sock = socket.create_connection(stack.tcp.local)
        socks.append(sock)
        return Peer(None, sock)

    yield make
    for sock in socks:
        sock.close()


# ---- requests and responses


def test_request_is_answered_over_tls(stacks, connect):
    peer = connect(stacks())
    peer.send(options())
    assert peer.message().status == 200


def test_pipelined_requests_over_several_records_are_answered_in_order(stacks, connect):
    peer = connect(stacks())
    peer.send(b"".join(options(number) for number in range(300)))
    assert [peer.message().cseq.number for _ in range(300)] == list(range(300))


def test_two_stacks_use_one_connection_for_many_requests(stacks):
    server, client = stacks(), stacks()
    for _ in range(10):
        assert client.request("OPTIONS", server.uri).status == 200
    assert server.tcp.counts == {"accepted": 1}


@pytest.mark.rfc("5630 5.1.1.1")
def test_call_of_a_sips_uri_has_a_sips_contact(stacks):
    server, client = stacks(), stacks()
    contacts = []
    ended = Event()

    @server.on("INVITE")
    def answer(request, tx):
        contacts.append(request.contact[0].uri)
        with tx.accept() as call:
            call.wait(PATIENCE)
            ended.set()

    with client.invite(server.uri) as call:
        contacts.append(call.dialog.remote_target)
    assert ended.wait(PATIENCE)
    assert [str(uri) for uri in contacts] == [client.uri, server.uri]


def test_contact_of_a_sip_uri_asks_for_tls(stacks):
    server, client = stacks(), stacks()
    seen = []
    server.on("SUBSCRIBE")(lambda request, tx: seen.append(request) or 200)
    client.request(
        "SUBSCRIBE", server.uri.replace("sips", "sip") + ";transport=tls", event="presence"
    )
    assert (seen[0].via[0].transport, str(seen[0].contact[0].uri)) == (
        "TLS",
        client.uri.replace("sips", "sip") + ";transport=tls",
    )


def test_large_messages_pass_both_ways(stacks):
    server, client = stacks(), stacks()
    body = b"x" * 50_000
    server.on("MESSAGE")(lambda request, tx: tx.respond(200, body=request.body))
    assert client.request("MESSAGE", server.uri, body=body, content_type="text/plain").body == body


# ---- identity of the peer


@pytest.mark.rfc("5922 7.2")
def test_server_of_another_domain_gets_no_request(stacks):
    server, client = stacks(), stacks()
    flow = client.tcp.connect(server.tcp.local, name="other.example")
    flow.send(options())
    until(lambda: flow.state is CLOSED)
    assert client.tcp.counts == {"handshake_failed": 1}
    assert server.engine.counters.received == 0


@pytest.mark.rfc("5922 4")
def test_server_must_prove_the_domain_and_not_its_address(stacks, authority):
    server = stacks(TLS(authority.issue("sip.example"), ca=authority.file))
    client = stacks()
    flow = client.tcp.connect(server.tcp.local, name="sip.example")
    until(lambda: flow.state is OPEN)
    assert flow.peer_identity == ("sip.example",)


def test_ipv6_host_of_a_uri_must_be_in_the_certificate(authority):
    tls = TLS(authority.issue("::1", file="six.pem"), ca=authority.file)
    with Stack("tls:[::1]:0", tls=tls) as server, Stack("tls:[::1]:0", tls=tls) as client:
        flow = client.engine.transports[0].connect(server.engine.transports[0].local, name="[::1]")
        until(lambda: flow.state in (OPEN, CLOSED))
        assert flow.state is OPEN


@pytest.mark.rfc("3261 18.2.2")
def test_response_without_its_connection_goes_to_a_server_with_its_name(stacks, connect):
    server, phone = stacks(), stacks()
    go = Event()
    server.on("MESSAGE")(lambda request, tx: go.wait(PATIENCE) and 200)
    peer = connect(server)
    peer.send(options(via=f"sip.example:{phone.tcp.local[1]}").replace(b"OPTIONS", b"MESSAGE"))
    until(lambda: server.engine.servers)
    peer.reset()
    until(lambda: not server.tcp.flows)
    go.set()
    until(lambda: phone.engine.counters.dropped)
    assert phone.engine.counters.dropped == {"stray_response": 1}


@pytest.mark.rfc("5922 4")
def test_connections_for_two_domains_on_one_address_are_two(stacks):
    client = stacks()
    address = stacks().tcp.local
    one, other = (
        client.tcp.connect(address, name="sip.example"),
        client.tcp.connect(address, name="other.example"),
    )
    assert one is not other
    assert client.tcp.connect(address, name="SIP.example") is one


def test_wrong_name_is_the_reason_in_the_error(stacks, authority):
    server = stacks(TLS(authority.issue("other.example"), ca=authority.file))
    with pytest.raises(
        TransportError, match=r"not 127\.0\.0\.1: its certificate is for other\.example"
    ):
        stacks().request("OPTIONS", server.uri)


def test_server_of_an_unknown_authority_is_refused(stacks, stranger):
    server = stacks(TLS(stranger.issue("127.0.0.1")))
    with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED"):
        stacks().request("OPTIONS", server.uri)


def test_verification_can_be_turned_off(stacks, stranger, authority):
    server = stacks(TLS(stranger.issue("other.example")))
    client = stacks(TLS(authority.issue("127.0.0.1"), verify=False))
    assert client.request("OPTIONS", server.uri).status == 200


def test_certificate_is_chosen_by_the_name_asked_for(stacks, connect, authority):
    names = {"one.example": (authority.issue("one.example", file="one.pem"), None)}
    stack = stacks(TLS(authority.issue("sip.example"), names=names))
    assert connect(stack, "one.example").sock.getpeercert()["subjectAltName"] == (
        ("DNS", "one.example"),
    )
    assert connect(stack, "sip.example").sock.getpeercert()["subjectAltName"] == (
        ("DNS", "sip.example"),
    )


def test_mutual_tls_identifies_the_client(stacks, authority):
    server = stacks(TLS(authority.issue("127.0.0.1"), client_ca=authority.file))
    client = stacks(TLS(authority.issue("client.example", file="client.pem"), ca=authority.file))
    seen = []
    server.on("MESSAGE")(lambda request, tx: seen.append(tx.flow.peer_identity) or 200)
    client.request("MESSAGE", server.uri)
    assert seen == [("client.example",)]


def test_client_without_certificate_is_refused_where_one_is_wanted(stacks, authority):
    server = stacks(TLS(authority.issue("127.0.0.1"), client_ca=authority.file))
    client = stacks(TLS(ca=authority.file, server_context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)))
    with pytest.raises(TransportError, match="has ended"):
        client.request("OPTIONS", server.uri)
    assert server.tcp.counts == {"accepted": 1, "handshake_failed": 1}


# ---- handshakes that fail


def test_tls_older_than_1_2_is_not_spoken(authority):
    tls = TLS(authority.issue("sip.example"))
    assert (
        tls.server_context.minimum_version
        == tls.client_context.minimum_version
        == ssl.TLSVersion.TLSv1_2
    )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_each_version_of_tls_works(stacks, connect, version):
    peer = connect(stacks(), newest=version)
    peer.send(options())
    assert peer.message().status == 200


@pytest.mark.parametrize("side", ["server_context", "client_context"])
def test_renegotiation_is_off(authority, side):
    options = getattr(TLS(authority.issue("sip.example")), side).options
    assert options & ssl.OP_NO_RENEGOTIATION and options & ssl.OP_NO_COMPRESSION


def test_sip_in_clear_on_a_tls_port_is_closed(stacks, plain):
    stack = stacks()
    peer = plain(stack)
    peer.send(options())
    assert b"SIP" not in peer.rest()
    assert stack.tcp.counts == {"accepted": 1, "handshake_failed": 1}


def test_handshake_that_never_ends_is_given_up(stacks, plain):
    stack = stacks(handshake=0.05)
    assert plain(stack).rest() == b""
    assert stack.tcp.counts == {"accepted": 1, "handshake_timeout": 1}
    assert not stack.tcp.handshakes


def test_stalled_handshakes_are_bounded_and_delay_no_request(stacks, plain, connect):
    stack = stacks(handshakes=8)
    oldest, *_ = [plain(stack) for _ in range(8)]
    until(lambda: len(stack.tcp.handshakes) == 8)
    peer = connect(stack)
    peer.send(options())
    assert peer.message().status == 200
    assert oldest.rest() == b""
    assert stack.tcp.counts == {"accepted": 9, "too_many_handshakes": 1}


def test_queue_for_records_of_tls_itself_is_bounded(stacks, connect):
    stack = stacks(queue_bytes=20_000)
    connect(stack)
    until(lambda: next(iter(stack.tcp.flows)).state is OPEN)
    (flow,) = stack.tcp.flows
    with gevent.Timeout(PATIENCE):
        while flow.state is OPEN:  # as if the peer, which does not read, requested new keys
            flow._tls._outgoing.write(b"x" * 5_000)
            flow._flush()
            assert flow.waiting <= 20_000
    assert stack.tcp.counts == {"accepted": 1, "queue_full": 1}


def test_burst_of_clients_displaces_no_handshake(stacks, connect):
    stack = stacks(handshakes=4)

    def ask(number):
        peer = connect(stack)
        peer.send(options(number))
        return peer.message().status

    asking = [gevent.spawn(ask, number) for number in range(50)]
    gevent.joinall(asking, timeout=PATIENCE, raise_error=True)
    assert [one.value for one in asking] == [200] * 50
    assert stack.tcp.counts == {"accepted": 50}


def hello():
    """Return the first bytes of a client in a TLS handshake."""
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="sip.example").do_handshake()
    return outgoing.read()


def test_requests_are_served_between_the_steps_of_handshakes(stacks, plain):
    stack = stacks()
    stack.listen("udp:127.0.0.1:0")
    peers = [plain(stack) for _ in range(30)]
    until(lambda: len(stack.tcp.handshakes) == 30)
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.connect(stack.engine.transports[1].local)
        for peer in peers:
            peer.sock.send(hello())  # sent at once, without a turn of the loop
        other.send(options(via="127.0.0.1;rport").replace(b"/TCP", b"/UDP"))
        assert other.recv(4096).startswith(b"SIP/2.0 200")
        answered, _, _ = select.select([peer.sock.fileno() for peer in peers], [], [], 0)
        assert len(answered) < 10
    for peer in peers:
        assert peer.sock.recv(1)


def test_close_notify_of_many_peers_closes_some_at_each_turn(stacks, connect):
    stack = stacks()
    peers = [connect(stack) for _ in range(3 * ENDS)]
    until(lambda: [flow.state for flow in stack.tcp.flows] == [OPEN] * 3 * ENDS)
    for peer in peers:
        with pytest.raises(ssl.SSLWantReadError):
            peer.sock._sslobj.shutdown()  # sends close_notify without a turn of the loop
    assert most_closed_in_a_turn(stack.tcp) == ENDS
    assert stack.tcp.counts == {"accepted": 3 * ENDS}


def test_peer_that_leaves_during_the_handshake_is_counted(stacks, plain):
    stack = stacks()
    plain(stack).sock.close()
    until(lambda: stack.tcp.counts.get("handshake_failed"))
    assert not stack.tcp.handshakes


def test_client_gives_up_a_silent_server(stacks):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        with pytest.raises(TransportError, match="handshake timeout"):
            stacks(handshake=0.05).request("OPTIONS", f"sips:127.0.0.1:{silent.getsockname()[1]}")


# ---- certificates


def test_new_certificate_is_shown_after_reload_and_flows_stay(stacks, connect, authority):
    path = authority.issue("old.example", file="reloaded.pem")
    stack = stacks(TLS(path))
    old = connect(stack, "old.example")
    authority.issue("new.example", file="reloaded.pem")
    stack.reload_tls()
    new = connect(stack, "new.example")
    for peer in (old, new):
        peer.send(options())
        assert peer.message().status == 200


def test_reload_of_a_broken_file_changes_nothing(stacks, connect, authority):
    path = authority.issue("sip.example", file="broken.pem")
    stack = stacks(TLS(path))
    path.write_text("no certificate")
    with pytest.raises(InvalidValue, match=r"cannot load .*broken\.pem"):
        stack.reload_tls()
    connect(stack)


def test_reload_between_calls_fails_none(stacks, authority):
    path = authority.issue("127.0.0.1", file="calls.pem")
    server, client = stacks(TLS(path, ca=authority.file)), stacks()
    asked = []
    for round in range(20):
        asked += [gevent.spawn(client.request, "OPTIONS", server.uri) for _ in range(10)]
        if round % 5 == 0:
            authority.issue("127.0.0.1", file="calls.pem")
            server.reload_tls()
            client.tcp.pool.clear()  # a new connection, with the new certificate
        gevent.sleep(0)
    assert {job.get(timeout=PATIENCE).status for job in asked} == {200}
    assert server.tcp.counts["accepted"] > 1


def test_no_call_fails_while_certificates_are_read_again(stacks, authority):
    first, second = [
        authority.issue("127.0.0.1", file=name) for name in ("first.pem", "second.pem")
    ]
    path = authority.folder / "turns.pem"
    path.write_bytes(first.read_bytes())
    server, client = stacks(TLS(path, ca=authority.file)), stacks()

    @server.on("INVITE")
    def answer(request, tx):
        with tx.accept() as call:
            call.wait(PATIENCE)

    def talk():
        with client.invite(server.uri):
            pass

    calls, reloads = [], 0
    for number in range(400):  # two seconds of 200 calls a second
        calls.append(gevent.spawn(talk))
        if number % 40 == 0:
            path.write_bytes((second, first)[reloads % 2].read_bytes())
            server.reload_tls()
            reloads += 1
        if number % 4 == 0:
            client.tcp.pool.clear()  # the next call has a new connection
        gevent.sleep(0.005)
    gevent.joinall(calls, timeout=PATIENCE, raise_error=True)
    assert all(call.successful() for call in calls)
    assert server.tcp.counts.keys() == {"accepted"} and server.tcp.counts["accepted"] >= 100
    assert reloads == 10


def test_tls_address_without_certificate_is_refused():
    with pytest.raises(InvalidValue, match="needs a certificate"):
        Stack("tls:127.0.0.1:0")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(
        InvalidValue, match=r"cannot load .*nobody\.pem: No such file .*: write the path"
    ):
        TLS(tmp_path / "nobody.pem")


@pytest.mark.rfc("3263 5", "5922 4")
def test_response_skips_a_server_that_cannot_prove_the_name(stacks, connect, authority):
    """One port on three loopback addresses: a closed one, a server of another name, and the sent-by."""
    right = TLS(authority.issue("sip.example"), ca=authority.file)
    phone = stacks(right, host="127.0.0.3")
    port = phone.tcp.local[1]
    thief = stacks(
        TLS(authority.issue("other.example"), ca=authority.file), host="127.0.0.2", port=port
    )
    server = stacks()
    server.resolver = StaticResolver({"sip.example": ["127.0.0.2", "127.0.0.3"]})
    go = Event()
    server.on("MESSAGE")(lambda request, tx: go.wait(PATIENCE) and 200)
    peer = connect(server)
    peer.send(options(via=f"sip.example:{port}").replace(b"OPTIONS", b"MESSAGE"))
    until(lambda: server.engine.servers)
    peer.reset()
    until(lambda: not server.tcp.flows)
    go.set()
    until(lambda: phone.engine.counters.dropped)
    assert phone.engine.counters.dropped == {"stray_response": 1}
    assert thief.engine.counters.received == 0
    assert server.stats()["send_errors"] == 2


# ---- turns


def test_tls_connection_that_floods_has_a_few_messages_served_in_a_turn(stacks, connect):
    stack = stacks()
    peer = connect(stack)
    with served_in_turns(stack.tcp) as served:
        peer.send(b"".join(options(number) for number in range(1, 201)))
        assert [peer.message().cseq.number for _ in range(200)] == [*range(1, 201)]
    assert most_in_a_turn(served) == MESSAGES


def test_tls_peer_that_closes_behind_many_messages_is_seen_to_close(stacks, connect):
    stack = stacks()
    peer = connect(stack)
    peer.send(b"".join(options(number) for number in range(1, 41)))
    assert [peer.message().status for _ in range(40)] == [200] * 40
    peer.sock.close()
    until(lambda: not stack.tcp.flows)
