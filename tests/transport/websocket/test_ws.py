"""WebSocket over real sockets on loopback, as server and client: handshakes, frames, TLS, other HTTP requests."""

from __future__ import annotations

import contextlib
import re
import select
import socket as plain_socket
import time
import tracemalloc

import gevent
import pytest
from gevent import socket, ssl
from gevent.event import Event
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from sippet_gevent import TLS, InvalidValue, Limits, Stack, StreamLimits, TransportError, Web
from sippet_gevent.message.parser import parse
from sippet_gevent.transport.stream.connection import CLOSED, OPEN, UPGRADING
from sippet_gevent.transport.stream.pacing import MESSAGES
from sippet_gevent.transport.websocket.handshake import Handshake
from sippet_gevent.transport.websocket.ws import WS
from tests.conditions import PATIENCE, until
from tests.conformance import corpus

from ..stream.test_tcp import options as tcp_options
from ..test_tls import authority  # noqa: F401  the fixture
from ..turns import most_in_a_turn, served_in_turns

HELLO = (
    b"GET /sip?token=a%20b&token=c HTTP/1.1\r\nHost: edge.example\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n"
)


def options(number=1):
    return tcp_options(number, "df7jal23ls0d.invalid").replace(b"SIP/2.0/TCP", b"SIP/2.0/WS")


class Browser:
    """A client of the test: HTTP, and frames by wsproto."""

    def __init__(self, stack, *headers, sock=None):
        self.sock = sock or socket.create_connection(stack.ws.local)
        self.sock.settimeout(PATIENCE)
        self.frames = Frames(ConnectionType.CLIENT)
        if headers is not None:
            self.sock.sendall(HELLO + b"".join(header + b"\r\n" for header in headers) + b"\r\n")
            head, rest = b"", b""
            while not rest and b"\r\n\r\n" not in head:
                data = self.sock.recv(65536)
                if not data:
                    break
                head += data
            self.head, _, rest = head.partition(b"\r\n\r\n")
            self.status = int(self.head.split()[1])
            self.frames.receive_data(rest)

    def send(self, data, finished=True):
        event = TextMessage(data=data.decode(), message_finished=finished)
        self.sock.sendall(self.frames.send(event))

    def events(self):
        """Yield each event up to the end of the connection."""
        while True:
            yield from self.frames.events()
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                return
            if not data:
                return
            self.frames.receive_data(data)

    def event(self, kind):
        """Return the next event of a kind."""
        return next(event for event in self.events() if isinstance(event, kind))

    def message(self):
        """Return the next message, parsed."""
        text = ""
        for event in self.events():
            if isinstance(event, TextMessage):
                text += event.data
                if event.message_finished:
                    return parse(text.encode())
            assert not isinstance(event, CloseConnection), event
        raise EOFError

    def rest(self):
        """Return all bytes up to the end of the connection."""
        parts = []
        while True:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return b"".join(parts)
            parts.append(data)


@pytest.fixture
def stacks():
    """Make started stacks on a WebSocket port: `stacks(web=Web(...), idle=0.1)`."""
    made = []

    def make(address="ws:127.0.0.1:0", web=None, tls=None, limits=None, **streams):
        stack = Stack(
            address, web=web, tls=tls, limits=limits or Limits(streams=StreamLimits(**streams))
        )
        stack.on("OPTIONS")(lambda request, tx: 200)
        made.append(stack)
        stack.start()
        stack.ws = stack.engine.transports[0]
        scheme = "sips" if stack.ws.secure else "sip"
        stack.uri = f"{scheme}:127.0.0.1:{stack.ws.local[1]};transport=ws"
        return stack

    yield make
    for stack in made:
        stack.stop()


@pytest.fixture
def browse():
    """Open a WebSocket as a browser does: `browse(stack, b"Cookie: a=b")`; `http(stack)` only connects."""
    made = []

    def make(stack, *headers, sock=None):
        browser = Browser(stack, *headers, sock=sock)
        made.append(browser)
        return browser

    yield make
    for browser in made:
        browser.sock.close()


@pytest.fixture
def get():
    """Send an HTTP request: `get(stack, b"GET / HTTP/1.1\\r\\n...")` returns all bytes that come back."""
    socks = []

    def ask(stack, request):
        sock = socket.create_connection(stack.ws.local)
        socks.append(sock)
        sock.settimeout(PATIENCE)
        sock.sendall(request)
        parts = []
        while data := sock.recv(65536):
            parts.append(data)
        sock.close()
        return b"".join(parts)

    yield ask
    for sock in socks:
        sock.close()


# ---- requests and responses


@pytest.mark.rfc("7118 5")
def test_request_is_answered_on_its_own_websocket(stacks, browse):
    browser = browse(stacks())
    assert browser.status == 101
    assert b"Sec-WebSocket-Protocol: sip" in browser.head
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in browser.head  # RFC 6455 §1.3
    browser.send(options())
    response = browser.message()
    assert (response.status, response.via[0].transport) == (200, "WS")


def test_others_are_served_between_the_opening_of_websockets(stacks):
    stack = stacks()
    stack.listen("udp:127.0.0.1:0")
    with contextlib.ExitStack() as opened:
        peers = [opened.enter_context(socket.create_connection(stack.ws.local)) for _ in range(30)]
        until(lambda: len(stack.ws.flows) == 30)
        other = opened.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        other.connect(stack.engine.transports[1].local)
        for peer in peers:
            peer.send(HELLO + b"\r\n")  # sent at once, without a turn of the loop
        other.send(tcp_options(1, "127.0.0.1;rport").replace(b"/TCP", b"/UDP"))
        assert other.recv(4096).startswith(b"SIP/2.0 200")
        answered, _, _ = select.select([peer.fileno() for peer in peers], [], [], 0)
        assert len(answered) < 10
        for peer in peers:
            assert peer.recv(12) == b"HTTP/1.1 101"


def test_binary_frames_are_taken_too(stacks, browse):
    browser = browse(stacks())
    browser.sock.sendall(browser.frames.send(BytesMessage(data=options())))
    assert browser.message().status == 200


def test_message_that_is_not_utf8_is_sent_in_a_binary_frame(stacks, browse):
    stack = stacks()
    stack.on("MESSAGE")(
        lambda request, tx: request.response(200, body=b"\xff\xfe", content_type="application/x")
    )
    browser = browse(stack)
    browser.send(options().replace(b"OPTIONS", b"MESSAGE"))
    assert browser.event(BytesMessage).data.endswith(b"\xff\xfe")


@pytest.mark.rfc("7118 5")
def test_content_length_may_be_missing(stacks, browse):
    browser = browse(stacks())
    browser.send(options().replace(b"Content-Length: 0\r\n", b""))
    assert browser.message().status == 200


def test_message_in_fragments_byte_by_byte_is_answered(stacks, browse):
    browser = browse(stacks())
    data = options()
    data = b"".join(
        browser.frames.send(
            TextMessage(data=data[at : at + 10].decode(), message_finished=at + 10 >= len(data))
        )
        for at in range(0, len(data), 10)
    )
    for at in range(len(data)):
        browser.sock.sendall(data[at : at + 1])
    assert browser.message().status == 200


def test_pipelined_requests_are_answered_in_order(stacks, browse):
    browser = browse(stacks())
    messages = [TextMessage(data=options(number).decode()) for number in range(1, 201)]
    browser.sock.sendall(b"".join(map(browser.frames.send, messages)))
    assert [browser.message().cseq.number for _ in range(200)] == list(range(1, 201))


def test_frames_that_come_with_the_handshake_are_not_lost(stacks):
    stack = stacks()
    with socket.create_connection(stack.ws.local) as sock:
        sock.settimeout(PATIENCE)
        sock.sendall(
            HELLO
            + b"\r\n"
            + Frames(ConnectionType.CLIENT).send(TextMessage(data=options().decode()))
        )
        data = b""
        while b"SIP/2.0 200" not in data:
            data += sock.recv(65536)


def test_two_stacks_use_one_websocket_for_many_requests(stacks):
    server, client = stacks(), stacks()
    for _ in range(10):
        assert client.request("OPTIONS", server.uri).status == 200
    assert server.ws.counts == {"accepted": 1}


@pytest.mark.rfc("7118 5.2")
def test_via_and_contact_name_the_websocket(stacks):
    server, client = stacks(), stacks()
    seen = []
    server.on("SUBSCRIBE")(lambda request, tx: seen.append(request) or 200)
    client.request("SUBSCRIBE", server.uri, event="presence")
    assert seen[0].via[0].transport == "WS"
    assert "transport=ws" in seen[0].headers["Contact"]


def test_request_reaches_a_browser_by_its_flow(stacks, browse):
    stack = stacks()
    flows = []
    stack.methods.handlers["OPTIONS"] = lambda request, tx: flows.append(tx.flow) or 200
    browser = browse(stack)
    browser.send(options())
    browser.message()
    flows[0].send(options(7))
    assert browser.message().cseq.number == 7


def test_call_over_websocket(stacks):
    server, client = stacks(), stacks()
    ended = Event()

    @server.on("INVITE")
    def answer(request, tx):
        with tx.accept() as call:
            call.wait(PATIENCE)
            ended.set()

    with client.invite(server.uri):
        pass
    assert ended.wait(PATIENCE)


def test_ipv6_works(stacks):
    server, client = stacks("ws:[::1]:0"), stacks("ws:[::1]:0")
    assert client.request("OPTIONS", f"sip:[::1]:{server.ws.local[1]};transport=ws").status == 200


# ---- over TLS


@pytest.fixture
def tls(authority):  # noqa: F811
    return TLS(authority.issue("127.0.0.1", "edge.example", file="web.pem"), ca=authority.file)


def test_two_stacks_talk_over_wss(stacks, tls):
    server, client = stacks("wss:127.0.0.1:0", tls=tls), stacks("wss:127.0.0.1:0", tls=tls)
    seen = []
    server.on("SUBSCRIBE")(lambda request, tx: seen.append(request) or 200)
    assert client.request("SUBSCRIBE", server.uri, event="presence").status == 200
    assert seen[0].via[0].transport == "WSS"
    assert seen[0].contact[0].uri.is_secure


@pytest.mark.rfc("7118 5.2")
def test_sips_contact_of_a_websocket_names_it_so_that_a_later_request_finds_the_way(stacks, tls):
    """A request in a call went to TLS on the port of the WebSocket, when the connection had ended."""
    server, client = stacks("wss:127.0.0.1:0", tls=tls), stacks("wss:127.0.0.1:0", tls=tls)
    calls = []
    server.on("INVITE")(lambda request, tx: calls.append(tx.accept(body=b"answer")))
    call = client.invite(server.uri, body=b"offer")
    port = server.ws.local[1]
    assert str(call.dialog.remote_target) == f"sips:127.0.0.1:{port};transport=ws"
    for flow in list(client.ws.flows):
        flow.close()
    assert call.request("OPTIONS").status == 200
    call.hangup()


def test_browser_comes_over_tls(stacks, browse, tls, authority):  # noqa: F811
    stack = stacks("wss:127.0.0.1:0", tls=tls)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.file)
    sock = context.wrap_socket(
        socket.create_connection(stack.ws.local), server_hostname="edge.example"
    )
    browser = browse(stack, sock=sock)
    browser.send(options())
    assert browser.message().status == 200


def test_wss_server_must_prove_its_name(stacks, tls, authority):  # noqa: F811
    server = stacks("wss:127.0.0.1:0", tls=TLS(authority.issue("other.example", file="other.pem")))
    client = stacks("wss:127.0.0.1:0", tls=tls)
    with pytest.raises(TransportError, match="is not 127.0.0.1"):
        client.request("OPTIONS", server.uri)


# ---- the handshake

VERDICTS = {row.file: row for row in corpus._rows() if row.set == "own-websocket"}


@pytest.mark.parametrize("row", VERDICTS.values(), ids=lambda row: row.file)
def test_stream_of_the_corpus_gets_its_verdict(stacks, browse, row):
    stack = stacks()
    sock = socket.create_connection(stack.ws.local)
    browser = browse(stack, sock=_Said(sock, row.data))
    got = [str(browser.status)]
    for event in browser.events():
        if isinstance(event, (TextMessage, BytesMessage)):
            got.append(
                str(
                    parse(event.data.encode() if isinstance(event.data, str) else event.data).status
                )
            )
        elif isinstance(event, CloseConnection):
            got.append(str(int(event.code)))
        elif isinstance(event, Pong):
            got.append("pong")
    handshake, _, after = row.status.partition(";")
    assert got[0] in handshake.split("|"), got
    wanted = {"first only": "200"}
    if after and after != "close":
        assert got[1] in [wanted.get(word, word) for word in after.split("|")], got
    until(lambda: not stack.ws.flows)
    again = browse(stack)
    again.send(options())
    assert again.message().status == 200


class _Said:
    """A socket that sends the bytes of the corpus instead of the first ones, and then its end."""

    def __init__(self, sock, data):
        self.sock, self.data = sock, data

    def sendall(self, _):
        def speak():
            try:
                self.sock.sendall(self.data)
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:  # the stack has closed the malformed stream
                pass

        self.speaking = gevent.spawn(speak)

    def close(self):
        self.speaking.join()
        self.sock.close()

    def __getattr__(self, name):
        return getattr(self.sock, name)


@pytest.mark.rfc("9110 7.8")
@pytest.mark.parametrize("host", [b"", b"Host: edge.example\r\n"])
def test_http_1_0_opens_no_websocket(stacks, get, host):
    stack = stacks()
    asked = (
        HELLO.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host: edge.example\r\n", host) + b"\r\n"
    )
    assert get(stack, asked).startswith(b"HTTP/1.1 426 ")


@pytest.mark.rfc("6455 4.2.1")
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.2"])
def test_handshake_without_a_host_is_refused(stacks, get, version):
    asked = HELLO.replace(b"HTTP/1.1", version).replace(b"Host: edge.example\r\n", b"") + b"\r\n"
    assert get(stacks(), asked).startswith(b"HTTP/1.1 400 ")


@pytest.mark.rfc("7118 7")
def test_core_sees_the_handshake(stacks, browse):
    stack = stacks()
    seen = []
    stack.methods.handlers["OPTIONS"] = lambda request, tx: seen.append(tx.flow.handshake) or 200
    browser = browse(
        stack,
        b"Origin: https://phone.example",
        b"Cookie: session=5;  theme=dark",
        b"Cookie: session=6",
    )
    browser.send(options())
    browser.message()
    handshake = seen[0]
    assert (handshake.path, handshake.query) == ("/sip", {"token": "a b"})
    assert handshake.cookies == {"session": "5", "theme": "dark"}
    assert handshake.origin == "https://phone.example"
    assert handshake.header("Host") == "edge.example"
    assert "a b" not in repr(handshake)


def test_strange_query_is_none():
    assert Handshake("/?" + "&".join(f"a{n}=1" for n in range(200)), ()).query == {}
    assert Handshake("/%ff", ()).path == "/�"


@pytest.mark.rfc("6455 10.2")
@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (b"Origin: https://phone.example", 101),
        (b"Origin: https://evil.example", 403),
        (b"Origin: null", 403),
        (b"X: y", 101),
    ],
)
def test_pages_of_other_origins_are_refused(stacks, browse, origin, status):
    stack = stacks(web=Web(origins=["https://phone.example/"]))
    assert browse(stack, origin).status == status
    assert bool(stack.ws.counts.get("handshake_refused")) == (status == 403)


@pytest.mark.parametrize(("answer", "status"), [(True, 101), (False, 403), (401, 401), (0, 403)])
def test_accept_hook_decides_on_the_handshake(stacks, browse, answer, status):
    asked = []
    browser = browse(
        stacks(web=Web(accept=lambda handshake: asked.append(handshake.query) or answer))
    )
    assert (browser.status, asked) == (status, [{"token": "a b"}])


@pytest.mark.parametrize("path", ["", "sip", "/a b", "/a\r\nX: y", "/\u00e4"])
def test_path_that_no_request_can_ask_for_is_refused(path):
    with pytest.raises(InvalidValue, match="path must be absolute"):
        Web(path=path)


def test_accept_hook_that_raises_refuses_with_500(stacks, browse):
    stack = stacks(web=Web(accept=lambda handshake: 1 / 0))
    assert browse(stack).status == 500
    assert browse(stack).status == 500


def read_in_parts(parts):
    """Feed parts to a flow one by one. Return its state and what it has answered."""
    with plain_socket.create_server(("127.0.0.1", 0)) as server:
        theirs = plain_socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    with ours, theirs:
        ours.setblocking(False)
        flow = _Port()._make_flow(ours, ("127.0.0.1", 1), None, None)
        for part in parts:
            flow.feed(part)
        answer = theirs.recv(65536)
        state = flow.state.name
        flow.close()
    return state, answer


class _Port(WS):
    """A listening point that is not open, for flows that the test feeds."""

    def __init__(self):
        super().__init__()
        self.loop, self.stopping = gevent.get_hub().loop, False
        self.handshakes.may_step = lambda flow: True  # without a running loop there are no turns


def test_handshake_may_be_cut_anywhere():
    whole = HELLO + b"\r\n" + b"\x82\x80\n\n\n\n"  # with a frame that has LFs in it
    for at in range(1, len(whole)):
        state, answer = read_in_parts([whole[:at], whole[at:]])
        assert (state, answer[:13]) == ("open", b"HTTP/1.1 101 "), whole[:at]
    assert read_in_parts(whole[at : at + 1] for at in range(len(whole)))[0] == "open"


@pytest.mark.rfc("9112 2.2")
def test_bare_line_feed_is_refused_wherever_it_is_cut():
    whole = HELLO.replace(b"\r\nUpgrade", b"\nUpgrade") + b"\r\n"
    for at in range(1, len(whole)):
        state, answer = read_in_parts(
            [whole[:at], whole[at:]] if at < whole.index(b"\nUpgrade") else [whole]
        )
        assert (state, answer[:13]) == ("lingering", b"HTTP/1.1 400 ")


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nHos"])
def test_handshake_that_never_ends_is_given_up(stacks, get, data):
    stack = stacks(first=0.05)
    assert get(stack, data) == b""
    assert stack.ws.counts == {"accepted": 1, "handshake_timeout": 1}


def test_websocket_that_never_speaks_is_closed(stacks, browse):
    stack = stacks(first=0.1)
    assert browse(stack).event(CloseConnection).code == 1000
    assert stack.ws.counts["silent"] == 1


def long_head(size):
    """Return a request for a WebSocket with a head of this size."""
    return HELLO + b"Cookie: " + b"x" * (size - len(HELLO) - len(b"Cookie: \r\n\r\n")) + b"\r\n\r\n"


@pytest.mark.parametrize("cut", [1, 1000, 8192, 1 << 20])
@pytest.mark.parametrize(
    ("size", "status"), [(8192, 101), (8193, 431), (16_000, 431), (19_000, 431)]
)
def test_limit_of_a_head_is_the_same_however_it_is_cut(stacks, size, status, cut):
    stack = stacks()
    head = long_head(size)
    with socket.create_connection(stack.ws.local) as sock:
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        until(lambda: stack.ws.flows)
        flow = next(iter(stack.ws.flows))
        for at in range(0, len(head), cut):  # as reading from a socket would, without system calls
            if flow._frames is None:
                flow.feed(head[at : at + cut])
        assert int(sock.recv(65536).split()[1]) == status


@pytest.mark.parametrize("cut", [1, 1 << 20])
@pytest.mark.parametrize(
    "body", [b"1;" + b"x" * 9000 + b"\r\na\r\n0\r\n\r\n", b"0\r\nX: " + b"x" * 9000 + b"\r\n\r\n"]
)
def test_lines_of_a_chunked_body_have_a_limit_however_they_are_cut(stacks, body, cut):
    stack = stacks()
    data = b"POST / HTTP/1.1\r\nHost: edge.example\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    with socket.create_connection(stack.ws.local) as sock:
        sock.settimeout(PATIENCE)
        until(lambda: stack.ws.flows)
        flow = next(iter(stack.ws.flows))
        for at in range(0, len(data), cut):
            if flow.state is UPGRADING:
                flow.feed(data[at : at + cut])
        assert sock.recv(65536).split()[1] == b"431"


# ---- frames


@pytest.mark.rfc("6455 5.5.3")
def test_pings_are_answered_the_last_of_many_alone(stacks, browse):
    browser = browse(stacks())
    browser.sock.sendall(
        browser.frames.send(Ping(payload=b"1")) + browser.frames.send(Ping(payload=b"2"))
    )
    assert browser.event(Pong).payload == b"2"


@pytest.mark.parametrize(
    "event",
    [Ping(), Pong(), TextMessage(data=""), TextMessage(data="\r\n\r\n")],
    ids=lambda e: type(e).__name__,
)
def test_flood_of_frames_without_a_message_closes_the_websocket(stacks, browse, event):
    stack = stacks()
    browser = browse(stack)
    browser.sock.sendall(b"".join(browser.frames.send(event) for _ in range(1000)))
    assert browser.event(CloseConnection).code == 1008
    browser.rest()
    assert stack.ws.counts == {"accepted": 1, "malformed": 1}


def test_pings_now_and_then_are_no_flood(stacks, browse):
    stack = stacks()
    browser = browse(stack)
    flow = next(iter(stack.ws.flows))
    for _ in range(3):
        browser.sock.sendall(browser.frames.send(Ping()) * 150)
        browser.event(Pong)
        until(lambda: not flow._empty)
    assert flow.state is OPEN


@pytest.mark.rfc("7118 6")
def test_line_breaks_are_a_keepalive(stacks, browse):
    stack = stacks()
    browser = browse(stack)
    browser.send(b"\r\n\r\n")
    assert browser.event(TextMessage).data == "\r\n"
    assert not stack.engine.counters.received


def test_browser_that_answers_pings_stays_and_one_that_does_not_goes(stacks, browse):
    stack = stacks(websocket_ping=0.05, pong=0.3)
    browser = browse(stack)
    browser.send(options())
    for _ in range(3):
        ping = browser.event(Ping)
        browser.sock.sendall(browser.frames.send(ping.response()))
    assert browser.event(CloseConnection).code == 1000
    assert stack.ws.counts == {"accepted": 1, "no_pong": 1}


def test_message_that_never_ends_is_given_up(stacks, browse):
    stack = stacks(message=0.1)
    browser = browse(stack)
    browser.send(options()[:20], finished=False)
    assert browser.event(CloseConnection)
    assert stack.ws.counts["slow_message"] == 1


def test_pings_give_no_more_time_to_a_message_that_never_ends(stacks, browse):
    stack = stacks(message=0.2)
    browser = browse(stack)
    browser.send(options()[:20], finished=False)
    with gevent.Timeout(PATIENCE), pytest.raises(OSError):
        while True:
            browser.sock.sendall(browser.frames.send(Ping()))
            gevent.sleep(0.01)
    assert stack.ws.counts["slow_message"] == 1


def test_messages_without_a_gap_are_not_one_slow_message(stacks, browse):
    stack = stacks()
    browser = browse(stack)
    frame = browser.frames.send(TextMessage(data=options().decode()))
    flow = next(iter(stack.ws.flows))
    browser.sock.sendall(frame[:50])
    until(lambda: flow._started)
    first = flow._started
    browser.sock.sendall(frame[50:] + frame[:50])
    browser.message()
    assert flow._started > first


def test_memory_of_an_incomplete_message_is_that_of_its_bytes():
    whole = Frames(ConnectionType.CLIENT).send(BytesMessage(data=b"x" * 20_000))
    parts = [bytes(whole[at : at + 2]) for at in range(0, len(whole) - 2, 2)]

    def read():
        yield HELLO + b"\r\n"
        tracemalloc.start()
        yield from parts
        weights.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()

    weights = []
    assert read_in_parts(read())[0] == "open"
    assert weights[0] < 4 * 20_000


def test_browser_that_neither_reads_nor_speaks_is_closed(stacks, browse):
    stack = stacks(idle=0.2, websocket_ping=0.05, pong=0.1)
    browser = browse(stack)
    flow = next(iter(stack.ws.flows))
    while not flow.waiting:
        flow.send(options() + b"x" * 60_000)
    until(lambda: flow.state is CLOSED)
    assert stack.ws.counts == {"accepted": 1, "idle": 1}
    browser.sock.close()


def test_message_that_is_not_sip_closes_the_websocket(stacks, browse):
    browser = browse(stacks())
    browser.send(b"hello, world\r\n\r\n")
    assert browser.event(CloseConnection).code == 1007


def test_close_is_answered(stacks, browse):
    stack = stacks()
    browser = browse(stack)
    browser.sock.sendall(browser.frames.send(CloseConnection(code=1001)))
    assert browser.event(CloseConnection).code == 1001
    browser.sock.close()
    until(lambda: not stack.ws.flows)


@pytest.mark.rfc("6455 7.4.1")
def test_stack_that_stops_says_that_it_is_going(stacks, browse):
    stack = stacks()
    browser = browse(stack)
    browser.send(options())
    browser.message()
    stack.stop()
    assert browser.event(CloseConnection).code == 1001


def test_browser_that_goes_ends_our_transactions(stacks, browse):
    stack = stacks()
    flows = []
    stack.methods.handlers["OPTIONS"] = lambda request, tx: flows.append(tx.flow) or 200
    browser = browse(stack)
    browser.send(options())
    browser.message()
    flow = flows[0]
    browser.sock.close()
    until(lambda: flow.state is CLOSED)
    with pytest.raises(TransportError, match="closed"):
        flow.send(options())


def test_browser_that_does_not_read_is_closed_and_others_are_served(stacks, browse):
    stack = stacks(queue_bytes=20_000)
    flows = []
    stack.methods.handlers["OPTIONS"] = lambda request, tx: flows.append(tx.flow) or 200
    lazy = browse(stack)
    lazy.send(options())
    lazy.message()
    with pytest.raises(TransportError, match="wait for the peer already"):
        for _ in range(100_000):
            flows[0].send(options())
    other = browse(stack)
    other.send(options())
    assert other.message().status == 200
    assert stack.ws.counts["queue_full"] == 1


# ---- as a client


@pytest.fixture
def server():
    """A server with a fixed answer: `server(b"HTTP/1.1 404 ...")` returns its URI."""
    sock = socket.socket()  # gevent's create_server() makes one that blocks
    sock.bind(("127.0.0.1", 0))
    sock.listen(8)
    sock.settimeout(PATIENCE)
    serving = []

    def answer(data):
        def serve():
            peer, _ = sock.accept()
            with peer:
                peer.settimeout(PATIENCE)
                asked = b""
                while b"\r\n\r\n" not in asked:
                    asked += peer.recv(65536)
                peer.sendall(data)
                while peer.recv(65536):
                    pass
                return asked

        serving.append(gevent.spawn(serve))
        return f"sip:127.0.0.1:{sock.getsockname()[1]};transport=ws", serving[-1]

    yield answer
    sock.close()
    gevent.joinall(serving, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "it answers 404"),
        (b"hello\r\n\r\n", "Bad HTTP message"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            "Bad accept token",
        ),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9000, "over 8192 bytes"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9000 + b"\r\n\r\n", "over 8192 bytes"),
    ],
)
def test_server_that_opens_no_websocket_is_a_transport_error(stacks, server, answer, problem):
    client = stacks()
    uri, _ = server(answer)
    with pytest.raises(TransportError, match=problem):
        client.request("OPTIONS", uri)
    assert client.ws.counts == {"handshake_failed": 1}


def test_server_that_says_nothing_is_given_up(stacks, server):
    client = stacks(handshake=0.1)
    uri, _ = server(b"")
    with pytest.raises(TransportError, match="handshake timeout"):
        client.request("OPTIONS", uri)


@pytest.mark.rfc("7118 4.1")
def test_client_asks_for_sip_at_the_path_it_is_given(stacks, server):
    client = stacks(web=Web(path="/edge"))
    uri, serving = server(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(TransportError):
        client.request("OPTIONS", uri)
    asked = serving.get(timeout=PATIENCE)
    assert asked.startswith(b"GET /edge HTTP/1.1\r\n")
    assert b"Sec-WebSocket-Protocol: sip\r\n" in asked
    assert re.search(rb"Host: 127\.0\.0\.1:\d+\r\n", asked)


# ---- HTTP on the same port

GET = b"GET /page?x=1 HTTP/1.1\r\nHost: edge.example\r\n\r\n"
LAST = b"Connection: close\r\n\r\n"


@pytest.mark.rfc("9110 15.5.22")
def test_plain_get_is_answered_426(stacks, get):
    answer = get(stacks(), GET)
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert b"Upgrade: websocket\r\n" in answer


@pytest.mark.rfc("9110 9.3.2")
def test_head_is_answered_without_a_body(stacks, get):
    answer = get(stacks(), GET.replace(b"GET", b"HEAD"))
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert answer.endswith(b"\r\n\r\n")


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/bad":
        raise RuntimeError("as the test wants it")
    if path == "/mute":
        return []
    body = (
        environ["wsgi.input"].read()
        or f"{path} {environ['QUERY_STRING']} {environ['HTTP_HOST']}".encode()
    )
    if path == "/big":
        body = b"x" * 3_000_000
    if path == "/most":
        body = b"x" * 65_000
    start_response("200 Fine", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


@pytest.fixture
def site(stacks):
    return stacks(web=Web(app=application))


def test_application_answers_other_requests(site, get):
    answer = get(site, GET.replace(b"\r\n\r\n", b"\r\n") + LAST)
    assert answer.startswith(b"HTTP/1.1 200 Fine\r\n")
    assert answer.endswith(b"\r\n\r\n/page x=1 edge.example")


def test_one_connection_carries_several_requests_and_then_a_websocket(site):
    with socket.create_connection(site.ws.local) as sock:
        sock.settimeout(PATIENCE)
        for _ in range(2):
            sock.sendall(GET)
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        sock.sendall(HELLO + b"\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 101")


def test_websocket_requested_behind_a_page_is_opened_after_it(site):
    with socket.create_connection(site.ws.local) as sock:
        sock.settimeout(PATIENCE)
        sock.sendall(
            GET
            + HELLO
            + b"\r\n"
            + Frames(ConnectionType.CLIENT).send(TextMessage(data=options().decode()))
        )
        data = b""
        while b"SIP/2.0 200" not in data:
            data += sock.recv(65536)
        assert (
            data.index(b"HTTP/1.1 200") < data.index(b"HTTP/1.1 101") < data.index(b"SIP/2.0 200")
        )
        until(lambda: not site.ws.exchanges)
        assert site.engine.workers.busy == 0


@pytest.mark.rfc("9112 2.2")
def test_bare_line_feed_is_refused_in_a_request_that_came_early(site, get):
    answer = get(site, GET + GET.replace(b"\r\nHost", b"\nHost"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 400 " in answer


def test_client_that_pipelines_requests_is_read_as_it_is_answered(stacks):
    going = Event()

    def waits(environ, start_response):
        going.wait(PATIENCE)
        start_response("204 Here", [])
        return []

    stack = stacks(web=Web(app=waits))
    with socket.create_connection(stack.ws.local) as sock:
        sock.settimeout(PATIENCE)
        sock.sendall(GET * 4000)
        until(lambda: stack.ws.flows and stack.ws.exchanges)
        (flow,) = stack.ws.flows
        until(lambda: not flow._reader.active or flow.bytes_received == len(GET * 4000))
        assert len(flow._upgrade._http.trailing_data[0]) < 65536
        going.set()
        answers = b""
        while answers.count(b"204 Here") < 4000:
            answers += sock.recv(65536)


@pytest.mark.parametrize("parts", [[b"x" * 100_000], [b"x"] * 2_000], ids=["large", "small"])
def test_reader_that_is_slower_than_the_application_gets_all(stacks, parts):
    def app(environ, start_response):
        start_response("200 Fine", [])
        return parts

    stack = stacks(web=Web(app=app), queue_bytes=20_000)
    stack.ws._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(PATIENCE)
        sock.connect(stack.ws.local)
        sock.sendall(GET.replace(b"\r\n\r\n", b"\r\n") + LAST)
        until(lambda: stack.ws.flows and next(iter(stack.ws.flows)).waiting)
        gevent.idle()
        answer = b""
        while data := sock.recv(65536):
            answer += data
    assert answer.count(b"x") == len(b"".join(parts))
    assert stack.ws.counts == {"accepted": 1}


def test_slow_reader_gets_the_whole_of_a_last_answer(site):
    site.ws._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(PATIENCE)
        sock.connect(site.ws.local)
        sock.sendall(GET.replace(b"/page", b"/most").replace(b"\r\n\r\n", b"\r\n") + LAST)
        until(lambda: site.ws.flows and next(iter(site.ws.flows)).waiting)
        gevent.idle()
        (flow,) = site.ws.flows
        flow.sweep(time.monotonic() + 15)
        answer = b""
        while data := sock.recv(65536):
            answer += data
    assert answer.endswith(b"\r\n\r\n" + b"x" * 65_000)


@pytest.mark.rfc("9110 9.3.2")
@pytest.mark.parametrize(("path", "status"), [(b"/page", b"200"), (b"/bad", b"500")])
def test_head_gets_no_body_of_the_application(site, get, caplog, path, status):
    answer = get(
        site, GET.replace(b"GET /page", b"HEAD " + path).replace(b"\r\n\r\n", b"\r\n") + LAST
    )
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.endswith(b"\r\n\r\n")
    assert bool(caplog.records) == (status == b"500")


@pytest.mark.rfc("9110 10.1.1")
def test_expectation_of_100_continue_is_met(site):
    with socket.create_connection(site.ws.local) as sock:
        sock.settimeout(PATIENCE)
        sock.sendall(
            b"POST / HTTP/1.1\r\nHost: edge.example\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hello")
        assert b"hello" in sock.recv(65536)


def test_header_with_underscores_does_not_pass_for_one_with_hyphens(stacks, get):
    seen = []

    def app(environ, start_response):
        seen.append(environ)
        start_response("204 Here", [])
        return []

    get(
        stacks(web=Web(app=app)),
        GET.replace(b"\r\n\r\n", b"\r\nX_User: root\r\nContent_Length: 9\r\nX-User: bob\r\n")
        + LAST,
    )
    assert seen[0]["HTTP_X_USER"] == "bob"
    assert "CONTENT_LENGTH" not in seen[0]


def test_body_of_a_request_reaches_the_application(site, get):
    request = b"POST / HTTP/1.1\r\nHost: edge.example\r\nContent-Length: 5\r\n" + LAST + b"ab\ncd"
    assert get(site, request).endswith(b"ab\ncd")


def test_answer_of_megabytes_waits_for_its_reader(site, get):
    answer = get(site, GET.replace(b"/page", b"/big").replace(b"\r\n\r\n", b"\r\n") + LAST)
    assert answer.count(b"x") >= 3_000_000


def test_reader_of_megabytes_that_goes_ends_the_application(site):
    with socket.create_connection(site.ws.local) as sock:
        sock.sendall(GET.replace(b"/page", b"/big"))
        sock.recv(1000)
    until(lambda: not site.ws.flows and not site.ws.exchanges)


@pytest.mark.parametrize("path", [b"/bad", b"/mute"])
def test_application_that_fails_is_a_500(site, get, path):
    assert get(site, GET.replace(b"/page", path)).startswith(b"HTTP/1.1 500 ")


def test_application_that_fails_at_its_end_ends_the_connection(stacks, get):
    class Answer(list):
        def close(self):
            raise RuntimeError("as the test wants it")

    def app(environ, start_response):
        start_response("200 Fine", [])
        return Answer([b"page"])

    stack = stacks(web=Web(app=app))
    assert b"page" in get(stack, GET)
    until(lambda: not stack.ws.flows)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000, b"413"),
        (b"OPTIONS sip:x.example SIP/2.0\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00", b"400"),
    ],
)
def test_broken_http_is_refused(site, get, request_, status):
    try:
        assert get(site, request_).startswith(b"HTTP/1.1 " + status)
    except ConnectionResetError:  # it has sent more than the stack reads
        pass
    until(lambda: not site.ws.flows)
    assert site.ws.counts["handshake_failed"] == 1


# ---- turns


def test_websocket_that_floods_has_a_few_messages_served_in_a_turn(stacks, browse):
    stack = stacks()
    browser, other = browse(stack), browse(stack)
    with served_in_turns(stack.ws) as served:
        for number in range(1, 101):
            browser.send(options(number))
        other.send(options())
        assert other.message().status == 200
        assert len(served) <= 4 * MESSAGES
        assert [browser.message().cseq.number for _ in range(100)] == [*range(1, 101)]
        browser.sock.sendall(browser.frames.send(Ping()))
        browser.event(Pong)
    assert most_in_a_turn(served) == MESSAGES


def test_websocket_message_without_sip_behind_many_others_closes_it(stacks, browse):
    stack = stacks()
    browser = browse(stack)
    for number in range(1, 31):
        browser.send(options(number))
    browser.send(b"no SIP")
    assert [browser.message().status for _ in range(30)] == [200] * 30
    browser.event(CloseConnection)
    browser.sock.close()
    until(lambda: not stack.ws.flows)


def test_websocket_with_messages_left_is_not_expected_to_answer_a_ping(stacks, browse):
    stack = stacks()
    browser = browse(stack)

    def ping(flow):
        for later in (60, 80):  # the first one pings, and the second one misses the pong
            flow.sweep(time.monotonic() + later)

    def core(request, tx):
        if request.cseq.number == MESSAGES:
            gevent.get_hub().loop.run_callback(ping, request.flow)
        return 200

    stack.on("MESSAGE")(core)
    messages = [options(number).replace(b"OPTIONS", b"MESSAGE") for number in range(1, 41)]
    browser.sock.sendall(
        b"".join(browser.frames.send(TextMessage(data=message.decode())) for message in messages)
    )
    assert [browser.message().cseq.number for _ in range(40)] == [*range(1, 41)]


def test_closed_websocket_keeps_no_bytes_of_its_peer(stacks, browse):
    stack = stacks()
    browser = browse(stack)
    (flow,) = stack.ws.flows
    part = TextMessage(data="x" * 50_000, message_finished=False)
    browser.sock.sendall(browser.frames.send(part))
    until(lambda: len(flow._parts or ()) == 50_000)
    browser.sock.close()
    until(lambda: flow.state is CLOSED)
    assert flow._parts is flow._frames is flow._events is None
