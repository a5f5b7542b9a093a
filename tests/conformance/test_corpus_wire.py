"""Every row of the shared corpus over real sockets: UDP, TCP and WebSocket, whole, at random cuts, byte by byte.

Each row gets its own stack, because rows share branches and Call-IDs. The answers must agree with the row's verdict,
a valid request after it must be answered, and the pieces of a stream must not matter. A default run takes a sample of
the large sets. `pytest -m slow` takes all: half an hour of processor time, most of it byte by byte.
"""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterable
from typing import NamedTuple

import gevent
import pytest
from gevent import socket
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from sippet_gevent import Stack
from sippet_gevent.errors import ParseError
from sippet_gevent.message.framer import PONG, Framer
from sippet_gevent.message.iana import METHODS
from sippet_gevent.message.message import Request, Response
from sippet_gevent.message.parser import parse
from sippet_gevent.transport.datagram.udp import UDPFlow
from tests.conditions import PATIENCE
from tests.conformance import corpus
from tests.conformance.test_corpus import DISPUTED, outcome

corpus.require()

SAMPLE = 20
"""Rows of each set in a default run, evenly spread; sometimes a few more."""

SEED = 20261128
IN_DIALOG = frozenset(("BYE", "PRACK", "UPDATE", "INFO", "NOTIFY"))
DECLINED = 603
"""The core's answer to an INVITE: a final response that creates no call. Verdicts say 200."""

TAKEN = frozenset((200, DECLINED))
REFUSED = frozenset((400, 405, 413, 414, 415, 416, 420, 481, 501, 505, 513))

APPLICATIONS = {
    "own-messages/register-star-exp.dat": "a registrar refuses `*` with an Expires other than 0 (§10.3 step 6), not the stack",
    "own-messages/register-star-mix.dat": "a registrar refuses `*` beside other contacts (§10.3 step 6), not the stack",
}
"""Rows whose verdict depends on a rule of an application that the core here does not have."""

MARKER = (
    "OPTIONS sip:marker.example SIP/2.0\r\nVia: SIP/2.0/{transport} marker.invalid;rport;branch=z9hG4bKmarker\r\n"
    "Max-Forwards: 70\r\nFrom: <sip:m@marker.example>;tag=m\r\nTo: <sip:n@marker.example>\r\nCall-ID: marker\r\n"
    "CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


class Seen(NamedTuple):
    """The result of a row: answers, runs of the core, whether the marker was answered, how it closed."""

    answers: tuple[bytes, ...]
    served: int
    marked: bool
    closed: int | str | None = None
    received: int = 0

    @property
    def statuses(self) -> list[int]:
        return [int(answer.split(b" ", 2)[1]) for answer in self.answers]


@pytest.fixture
def sipped():
    """Run a stack for one row: `with sipped("udp") as (stack, served)`."""

    class Sipped:
        def __init__(self, transport):
            self.stack = Stack(f"{transport}:127.0.0.1:0", sips_in_clear=True)
            self.served = []
            for method in METHODS:
                if method not in ("ACK", "CANCEL"):
                    self.stack.on(method)(self.core)

        def core(self, request, tx):
            if request.headers.get("Call-ID") != "marker":
                self.served.append(request)
            if request.method == "PRACK" or (
                request.method in IN_DIALOG and "tag" in request.to.parameters
            ):
                return 481  # there is no dialog here (§12.2.2)
            return DECLINED if request.method == "INVITE" else 200

        def __enter__(self):
            self.stack.start()
            return self.stack, self.served

        def __exit__(self, *_):
            self.stack.stop()
            assert not self.stack.engine.crashes

    return Sipped


def answers_of(messages: Iterable[bytes]) -> tuple[tuple[bytes, ...], bool]:
    """Sort responses into those to the row, and whether the marker has its 200.

    On a stream, a wrong length in the row may have joined its rest with the marker.
    """
    messages = list(messages)
    mine = [
        message
        for message in messages
        if b"\r\nCall-ID: marker\r\n" in message and message.startswith(b"SIP/2.0 200 ")
    ]
    return tuple(message for message in messages if message not in mine), bool(mine)


def same(answer: bytes) -> bytes:
    """Return an answer without its random parts: our tags, and the ports."""
    answer = re.sub(rb"(?im)^(To|t)(:.*?);tag=[^;\r\n]*", rb"\1\2", answer)
    answer = re.sub(rb"(?im)^(Contact: <sip:127\.0\.0\.1):\d+", rb"\1", answer)
    return re.sub(rb";rport=\d+", b";rport", answer)


# ---- transports


def over_udp(sipped, row: corpus.Row, monkeypatch) -> Seen:
    # The Vias of the corpus name ports at which the test cannot listen, so answers return to the source port.
    monkeypatch.setattr(UDPFlow, "to_port", lambda flow, port: flow)
    marker = MARKER.format(transport="UDP").encode()
    with sipped("udp") as (stack, served), socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(stack.engine.transports[0].local)
        sock.send(row.data)
        sock.send(marker)
        messages: list[bytes] = []
        while not any(b"\r\nCall-ID: marker\r\n" in message for message in messages):
            messages.append(sock.recv(65536))
        answers, marked = answers_of(messages)
        return Seen(answers, len(served), marked)


def pieces(data: bytes, cut: str) -> Iterable[bytes]:
    """Cut a stream: "whole", "random" (with a fixed seed) or "bytes"."""
    if cut == "whole":
        return [data]
    if cut == "bytes":
        return (data[at : at + 1] for at in range(len(data)))
    drawn = random.Random(SEED)
    cuts = sorted(drawn.randrange(len(data) + 1) for _ in range(min(16, len(data))))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)]) if end > start]


def fed(stack, data: bytes, cut: str) -> bytes:
    """Send a stream in pieces, each one read before the next; return all that is received."""
    transport = stack.engine.transports[0]
    with socket.create_connection(transport.local) as sock:
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not transport.flows:
            gevent.sleep(0)
        (flow,) = transport.flows
        back: list[bytes] = []

        def read():
            try:
                while data := sock.recv(65536):
                    back.append(data)
            except ConnectionResetError:
                pass

        reader = gevent.spawn(read)
        sent = 0
        try:
            for piece in pieces(data, cut):
                if not flow.state.reads:
                    break
                sock.sendall(piece)
                sent += len(piece)
                gevent.sleep(0)
            with gevent.Timeout(PATIENCE):
                while flow.bytes_received < sent and flow.state.reads:
                    gevent.sleep(0)
            gevent.idle()
        except OSError:  # closed because of the bytes
            pass
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        reader.join(PATIENCE)
        assert reader.dead, (flow, flow.state, data[:200])
        with gevent.Timeout(PATIENCE):
            while transport.flows:
                gevent.sleep(0)
        return b"".join(back)


def over_tcp(sipped, data: bytes, cut: str) -> Seen:
    with sipped("tcp") as (stack, served):
        *heads, rest = (
            fed(stack, data, cut).lstrip(b"\r\n").split(b"\r\n\r\n")
        )  # our answers have no body
        assert not rest.strip(b"\r\n")
        answers, marked = answers_of(head.lstrip(b"\r\n") + b"\r\n\r\n" for head in heads)
        broken = "malformed" if stack.engine.transports[0].counts.get("malformed") else None
        return Seen(answers, len(served), marked, broken, stack.engine.counters.received)


HELLO = (
    b"GET / HTTP/1.1\r\nHost: edge.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
)


def framed(*messages: bytes) -> bytes:
    frames = Frames(ConnectionType.CLIENT)
    parts = []
    for message in messages:
        try:
            parts.append(frames.send(TextMessage(data=message.decode())))
        except UnicodeDecodeError:
            parts.append(frames.send(BytesMessage(data=message)))
    return b"".join(parts)


def over_ws(sipped, data: bytes, cut: str) -> tuple[int, Seen]:
    """Return the status of the handshake, and the rest."""
    with sipped("ws") as (stack, served):
        head, _, rest = fed(stack, data, cut).partition(b"\r\n\r\n")
        status = int(head.split()[1])
        messages, code = [], None
        if status == 101:
            frames = Frames(ConnectionType.CLIENT)
            frames.receive_data(rest)
            for event in frames.events():
                if isinstance(event, (TextMessage, BytesMessage)):
                    assert event.message_finished
                    data = (
                        event.data.encode() if isinstance(event, TextMessage) else bytes(event.data)
                    )
                    if data != PONG:
                        messages.append(data)
                elif isinstance(event, CloseConnection):
                    code = int(event.code)
                    break
            code = None if code == 1000 else code  # the answer to our own end
        answers, marked = answers_of(messages)
        return status, Seen(answers, len(served), marked, code, stack.engine.counters.received)


# ---- verdicts


def allowed(row: corpus.Row, status: int) -> bool:
    """True when a row allows this answer.

    A row that may be accepted or refused lists likely answers, and may get any other with the same meaning. A verdict on
    the application, such as 415, or 200 for a known dialog, is not about the stack: the core has served the row.
    """
    words = set(re.split(r"[|;]", row.status))
    if row.expected == "either":
        return status in TAKEN or status in REFUSED
    if status in TAKEN:
        return bool({"200", "415"} & words) or row.file in APPLICATIONS
    if status == 481:
        return bool({"200", "481"} & words)
    return str(status) in words or (400 <= status < 500 and "4xx" in words)


def verdict_faults(row: corpus.Row, seen: Seen) -> list[str]:
    """Return what is wrong with the answers to a datagram or frame, by its row."""
    message = outcome(row.data)
    is_request = not row.data.lstrip(b"\r\n").startswith(b"SIP/")
    statuses = [status for status in seen.statuses if status != 100]
    faults = []
    if len(statuses) > 1:
        faults.append(f"answered {statuses}")
    if not is_request and statuses:
        faults.append(f"a response is answered {statuses}")
    if row.file in DISPUTED:
        return faults
    words = re.split(r"[|;]", row.status)
    if row.expected == "accept" and is_request:
        if isinstance(message, ParseError):
            faults.append(f"refused: {message}")
        elif not statuses and message.method != "ACK" and "drop" not in words:
            faults.append(f"no answer, wanted {row.status}")
    if row.expected == "reject":
        if seen.served and not {"200", "416"} & set(words):
            faults.append("served")
        if not statuses and not {"drop", "close", "-"} & set(words) and _is_answerable(message):
            faults.append(f"no answer, wanted {row.status}")
    if statuses and row.status != "-" and not allowed(row, statuses[0]):
        faults.append(f"answered {statuses[0]}, wanted {row.status}")
    return faults


def _is_answerable(message: object) -> bool:
    request = message.request if isinstance(message, ParseError) else message
    return isinstance(request, Request) and "Via" in request.headers and request.method != "ACK"


def content_faults(row: corpus.Row, seen: Seen) -> list[str]:
    """Return what is wrong with an answer itself: it can be parsed, and repeats fields of the request (RFC 3261 §8.2.6.2)."""
    message = outcome(row.data)
    faults = []
    for data in seen.answers:
        if not isinstance(
            message, Request
        ):  # unreadable values are repeated as they came, so the answer is as unreadable
            head, end, body = data.partition(b"\r\n\r\n")
            if (
                not end
                or body
                or re.search(rb"\r(?!\n)|(?<!\r)\n", head)
                or head.lower().count(b"\r\ncontent-length: 0") != 1
            ):
                faults.append(f"an answer that is not well framed: {data!r}")
            continue
        try:
            answer = parse(data)
        except ParseError as error:
            faults.append(f"an answer that cannot be read: {error}")
            continue
        assert isinstance(answer, Response)
        for name in ("From", "Call-ID", "CSeq"):
            if answer.headers.all(name) != message.headers.all(name):
                faults.append(f"{name} is {answer.headers.all(name)}")
        theirs, mine = vias(message), vias(answer)
        if mine[1:] != theirs[1:] or not mine[0].startswith(theirs[0].partition(";")[0]):
            faults.append(f"Via is {mine}")
        asked, to = (re.sub(r"\s", "", one.headers["To"]) for one in (message, answer))
        if not to.startswith(asked.partition(";tag=")[0]) or ";tag=" not in to:
            faults.append(f"To is {to}")
    return faults


def vias(message: Request | Response) -> list[str]:
    """Return all Vias without blanks; the top one has the source address added."""
    return [
        re.sub(r"\s", "", via) for line in message.headers.all("Via") for via in line.split(",")
    ]


def is_for_streams(data: bytes) -> bool:
    """True for a message that means the same on a stream: CRLF line ends, one correct Content-Length."""
    framer = Framer()
    messages = framer.feed(data)
    return not framer.error and not framer.pending and messages == [data.lstrip(b"\r\n")]


# ---- the rows

SETS = list(dict.fromkeys(row.set for row in corpus.datagrams()))
CUTS = ("whole", "random", "bytes")


def sample(name: str) -> list[corpus.Row]:
    rows = corpus.rows_of(name)
    return rows[:: max(1, len(rows) // SAMPLE)]


def short(rows: list[corpus.Row]) -> list[corpus.Row]:
    return [row for row in rows if len(row.data) <= 2000][::2]


def udp_faults(sipped, rows, monkeypatch) -> dict[str, list[str]]:
    wrong = {}
    for row in rows:
        if len(row.data) > corpus.LARGEST_DATAGRAM:
            continue  # too long for a datagram: over streams only
        seen = over_udp(sipped, row, monkeypatch)
        if faults := [*verdict_faults(row, seen), *content_faults(row, seen)]:
            wrong[row.file] = faults
    return wrong


def cut_faults(whole: Seen, other: Seen) -> list[str]:
    if (list(map(same, whole.answers)), *whole[1:]) != (list(map(same, other.answers)), *other[1:]):
        return [f"{other} after cutting, not {whole}"]
    return []


def tcp_faults(sipped, rows, cuts) -> dict[str, list[str]]:
    marker = MARKER.format(transport="TCP").encode()
    wrong = {}
    for row in rows:
        whole = over_tcp(sipped, row.data + marker, "whole")
        faults = []
        if is_for_streams(row.data):
            faults += [*verdict_faults(row, whole), *content_faults(row, whole)]
            if not whole.marked:
                faults.append("the next request is not answered")
        elif whole.closed and not set(whole.statuses) <= {
            200,
            DECLINED,
            400,
            413,
            505,
            513,
            416,
            414,
            481,
            405,
            501,
        }:
            faults.append(f"answered {whole.statuses}")
        for cut in cuts:
            faults += cut_faults(whole, over_tcp(sipped, row.data + marker, cut))
        if faults:
            wrong[row.file] = faults
    return wrong


def ws_faults(sipped, rows, cuts) -> dict[str, list[str]]:
    marker = MARKER.format(transport="WS").encode()
    wrong = {}
    for row in rows:
        data = HELLO + framed(row.data, marker)
        status, whole = over_ws(sipped, data, "whole")
        assert status == 101
        faults = []
        if whole.closed is None:
            faults += [*verdict_faults(row, whole), *content_faults(row, whole)]
            if not whole.marked:
                faults.append("the next request is not answered")
        elif row.expected == "accept" and len(row.data) <= 65536:
            faults.append(f"closed with {whole.closed}")
        for cut in cuts:
            faults += cut_faults(whole, over_ws(sipped, data, cut)[1])
        if faults:
            wrong[row.file] = faults
    return wrong


@pytest.mark.parametrize("name", SETS)
def test_datagrams_of_the_corpus_get_their_verdicts_over_udp(sipped, name, monkeypatch):
    assert udp_faults(sipped, sample(name), monkeypatch) == {}


@pytest.mark.parametrize("name", SETS)
def test_messages_of_the_corpus_get_their_verdicts_over_tcp(sipped, name):
    rows = sample(name)
    assert tcp_faults(sipped, rows, ["random"]) == {}
    assert tcp_faults(sipped, short(rows)[:4], ["bytes"]) == {}


@pytest.mark.parametrize("name", SETS)
def test_messages_of_the_corpus_get_their_verdicts_over_websocket(sipped, name):
    rows = sample(name)
    assert ws_faults(sipped, rows, ["random"]) == {}
    assert ws_faults(sipped, short(rows)[:4], ["bytes"]) == {}


# ---- streams, and what WebSocket clients send

TIMED = frozenset(("own-streams/crlf-1m.stream", "own-websocket/ping-flood.stream"))
"""Rows that meet a limit by time, so the verdict depends on the speed of the sender."""

STREAMS = [row for row in corpus.streams() if len(row.data) < 1 << 16]
LONG_STREAMS = [row for row in corpus.streams() if len(row.data) >= 1 << 16]
WEBSOCKETS = corpus.websockets()


def stream_faults(row: corpus.Row, seen: Seen) -> list[str]:
    words = re.split(r"[|;]", row.status)
    faults = []
    if row.status.startswith("frames=") and (seen.received != int(row.status[7:]) or seen.closed):
        faults.append(f"{seen.received} messages, closed: {seen.closed}")
    if row.expected == "reject":
        if seen.closed != "malformed" and row.status != "close":
            faults.append("not closed")
        if any(str(status) not in words for status in seen.statuses[-1:]):
            faults.append(f"answered {seen.statuses}")
    return faults


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("row", STREAMS, ids=lambda row: row.file)
def test_stream_of_the_corpus_gets_its_verdict_in_any_pieces(sipped, row, cut):
    whole = over_tcp(sipped, row.data, "whole")
    seen = whole if cut == "whole" else over_tcp(sipped, row.data, cut)
    assert stream_faults(row, seen) + cut_faults(whole, seen) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("row", LONG_STREAMS, ids=lambda row: row.file)
def test_long_stream_of_the_corpus_gets_its_verdict_in_any_pieces(sipped, row, cut):
    seen = over_tcp(sipped, row.data, cut)
    assert stream_faults(row, seen) == []
    if row.file not in TIMED:
        assert cut_faults(over_tcp(sipped, row.data, "whole"), seen) == []


def websocket_faults(row: corpus.Row, status: int, seen: Seen) -> list[str]:
    opened, _, rest = row.status.partition(";")
    if str(status) not in opened.split("|"):
        return [f"the handshake is answered {status}, wanted {opened}"]
    wanted = rest.split("|")
    told = {str(seen.closed or 1000), *(str(200 if one in TAKEN else one) for one in seen.statuses)}
    if not rest or rest == "close" or told & set(wanted) or "pong" in wanted:
        return []
    return [] if "first only" in wanted and len(seen.answers) == 1 else [f"{told}, wanted {rest}"]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    "row", [row for row in WEBSOCKETS if len(row.data) < 30_000], ids=lambda row: row.file
)
def test_websocket_client_of_the_corpus_gets_its_verdict_in_any_pieces(sipped, row, cut):
    status, seen = over_ws(sipped, row.data, cut)
    assert websocket_faults(row, status, seen) == []
    if row.file not in TIMED:
        assert (status, []) == (
            over_ws(sipped, row.data, "whole")[0],
            cut_faults(over_ws(sipped, row.data, "whole")[1], seen),
        )


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    "row", [row for row in WEBSOCKETS if len(row.data) >= 30_000], ids=lambda row: row.file
)
def test_long_websocket_client_of_the_corpus_gets_its_verdict(sipped, row, cut):
    status, seen = over_ws(sipped, row.data, cut)
    assert websocket_faults(row, status, seen) == []


# ---- all of it


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SETS)
def test_all_datagrams_of_the_corpus_over_udp(sipped, name, monkeypatch):
    assert udp_faults(sipped, corpus.rows_of(name), monkeypatch) == {}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cut", CUTS[1:])
@pytest.mark.parametrize("name", SETS)
def test_all_messages_of_the_corpus_over_tcp(sipped, name, cut):
    assert tcp_faults(sipped, corpus.rows_of(name), [cut]) == {}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cut", CUTS[1:])
@pytest.mark.parametrize("name", SETS)
def test_all_messages_of_the_corpus_over_websocket(sipped, name, cut):
    assert ws_faults(sipped, corpus.rows_of(name), [cut]) == {}
