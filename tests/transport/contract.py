"""The contract of every transport. Derive from one of the two classes, say how a transport is made, and inherit its tests:

class TestMine(TransportContract):
    host = "127.0.0.1"

    @pytest.fixture
    def make(self):
        return Mine
"""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

from sippet_gevent import Flow, ParseError, Request, Stack, TransportError
from sippet_gevent.message.parser import parse

SECONDS = 5
"""How long anything here may take."""

MESSAGE = (
    "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/{name} {host}:{port};branch=z9hG4bK{number};rport\r\nMax-Forwards: 70\r\n"
    "From: <sip:a@b.example>;tag=1\r\nTo: <sip:b@b.example>\r\nCall-ID: {number}\r\nCSeq: 1 OPTIONS\r\n"
    "Content-Length: {length}\r\n\r\n{body}"
)


class Point:
    """A started transport, and what it has reported: messages, errors, ended flows."""

    def __init__(self, transport, address):
        self.transport = transport
        self.received, self.refused, self.ended, self.in_hub = [], [], [], []
        self.happened = Event()
        transport.start(address, self.receive, self)

    def receive(self, data, flow):
        self.received.append((data, flow))
        self.note()

    def refuse(self, error, flow):
        self.refused.append((error, flow))
        flow.send(b"SIP/2.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        self.note()

    def flow_ended(self, flow, error):
        self.ended.append((flow, error))
        self.note()

    def waited(self, transport, seconds, *, stands, dropped=False):
        """Take no report of waiting: there is no overload."""

    def is_noise(self, data, flow):
        """Take each datagram as a message."""
        return False

    def note(self):
        self.in_hub.append(gevent.getcurrent() is gevent.get_hub())
        self.happened.set()

    def wait(self, done):
        """Wait until `done()` is true."""
        with gevent.Timeout(SECONDS):
            while not done():
                self.happened.clear()
                self.happened.wait()

    def message(self, number=1, body=""):
        """Return a whole request, as it would come from here."""
        host, port = self.transport.local
        name, host = self.transport.name, f"[{host}]" if ":" in host else host
        return MESSAGE.format(
            name=name, host=host, port=port, number=number, length=len(body), body=body
        ).encode()


class TransportContract:
    """The contract of Transport and Flow, for one kind of transport. `make` is a fixture that returns what makes one, not started."""

    host = "127.0.0.1"
    """Where it may listen."""

    @property
    def written(self):
        """The host as it is written before a colon and port."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @pytest.fixture
    def make(self):
        raise NotImplementedError

    @pytest.fixture
    def point(self, make):
        """Open transports: `point()` is a Point."""
        points = []

        def opened(port=0):
            points.append(Point(make(), (self.host, port)))
            return points[-1]

        yield opened
        for one in points:
            one.transport.stop()
        gevent.sleep(0)  # what was to be said of ended flows is said

    @pytest.fixture
    def pair(self, point):
        """Return two open points, and the flow from the first to the second."""
        one, other = point(), point()
        return one, other, one.transport.connect(other.transport.local)

    # ---- the listening point

    def test_class_attributes_have_their_types(self, make):
        transport = make()
        assert transport.name == transport.name.upper() and 0 < transport.default_port < 65536
        assert isinstance(transport.reliable, bool) and isinstance(transport.secure, bool)

    def test_port_zero_takes_a_free_one(self, point):
        one, other = point(), point()
        assert one.transport.local[0] == other.transport.local[0] == self.host
        assert 0 < one.transport.local[1] != other.transport.local[1] > 0

    def test_taken_address_is_a_transport_error(self, make, point):
        first = point()
        with pytest.raises(TransportError):
            make().start(first.transport.local, first.receive, first)

    def test_is_ours_is_true_for_its_own_host(self, point):
        transport = point().transport
        assert transport.is_ours(self.host) and not transport.is_ours("192.0.2.99")

    def test_transport_can_be_stopped_twice_and_started_again(self, point):
        one = point()
        local = one.transport.local
        one.transport.stop()
        one.transport.stop()
        one.transport.start(local, one.receive, one)
        assert one.transport.local == local

    def test_stopped_transport_raises_when_sending(self, pair):
        one, other, flow = pair
        one.transport.stop()
        with pytest.raises(TransportError):
            flow.send(one.message())
        with pytest.raises(TransportError):
            one.transport.connect(other.transport.local).send(one.message())

    # ---- messages

    def test_message_arrives_whole_and_in_the_hub(self, pair):
        one, other, flow = pair
        flow.send(one.message(body="x" * 1000))
        other.wait(lambda: other.received)
        assert [data for data, _ in other.received] == [one.message(body="x" * 1000)]
        assert all(other.in_hub)

    def test_messages_of_a_flow_arrive_in_order_and_by_one_way(self, pair):
        one, other, flow = pair
        sent = [one.message(number, "x" * number) for number in range(100)]
        for data in sent:
            flow.send(data)
        other.wait(lambda: len(other.received) == 100)
        assert [data for data, _ in other.received] == sent
        assert len({flow.remote for _, flow in other.received}) == 1

    def test_flow_of_a_message_leads_back_to_its_sender(self, pair):
        one, other, flow = pair
        flow.send(one.message(1))
        other.wait(lambda: other.received)
        other.received[0][1].send(other.message(2))
        one.wait(lambda: one.received)
        assert one.received[0][0] == other.message(2)
        assert one.received[0][1].remote == other.transport.local

    def test_flow_says_what_it_is(self, pair):
        one, other, flow = pair
        assert isinstance(flow, Flow) and flow.transport is one.transport
        assert flow.remote == other.transport.local
        assert flow.local == one.transport.local  # where others reach us, whatever it is sent from
        assert repr(flow) == f"<Flow {one.transport.name} {self.written}:{flow.remote[1]}>"
        assert (flow.transactions is not None) == one.transport.reliable
        assert flow.is_alive()

    def test_flow_is_found_by_its_id(self, pair):
        one, _, flow = pair
        found = one.transport.find(flow.id)
        assert found is flow if one.transport.reliable else found.remote == flow.remote
        assert one.transport.find("nonsense") is None

    def test_sending_never_waits(self, pair):
        """In the hub, where waiting is an error."""
        one, other, flow = pair
        problems = []

        def send():
            try:
                for number in range(20):
                    flow.send(one.message(number))
                one.transport.connect(other.transport.local).send(one.message(20))
            except BaseException as problem:
                problems.append(problem)

        gevent.get_hub().loop.run_callback(send)
        other.wait(lambda: len(other.received) == 21)
        assert not problems

    def test_message_to_a_closed_port_is_lost_or_an_error(self, point):
        one, gone = point(), point()
        nobody = gone.transport.local
        gone.transport.stop()
        try:
            flow = one.transport.connect(nobody)
            if flow.transactions is not None:
                flow.transactions.add(Pending())
            flow.send(one.message())
        except TransportError:
            return
        if one.transport.reliable:
            one.wait(lambda: one.ended)
            assert isinstance(one.ended[0][1], TransportError)

    # ---- in a stack

    @pytest.fixture
    def stack(self, make):
        """Run stacks: `stack(core)` is one, and where it is to be reached."""
        stacks = []

        def running(core=None):
            transport = make()
            stacks.append(Stack(core=core))
            stacks[-1].listen(f"{transport.name.lower()}:{self.written}:0", transport)
            return stacks[-1].start(), self.uri(transport)

        yield running
        for one in stacks:
            one.stop()

    def uri(self, transport):
        """Return a URI that leads to an open transport."""
        return f"sip:bob@{self.written}:{transport.local[1]};transport={transport.name.lower()}"

    def test_request_is_answered_by_a_stack(self, stack):
        _, uri = stack(lambda request, tx: 299)
        one, _ = stack()
        assert one.request("MESSAGE", uri, timeout=SECONDS).status == 299

    def test_two_stacks_call_each_other(self, stack):
        ended = Event()

        def core(request, tx):
            tx.respond(180)
            with tx.accept(body="v=0", content_type="application/sdp") as call:
                assert call.wait(SECONDS)
                ended.set()

        _, uri = stack(core)
        one, _ = stack()
        with one.invite(uri, timeout=SECONDS) as call:
            assert call.remote_body == b"v=0"
            assert call.dialog.remote_target.transport in (one.engine.transports[0].name, None)
        assert ended.wait(SECONDS)

    def test_broken_request_is_answered_400(self, stack, point):
        server, _ = stack()
        peer = point()
        flow = peer.transport.connect(server.engine.transports[0].local)
        flow.send(peer.message().replace(b"CSeq: 1 OPTIONS", b"CSeq: one OPTIONS"))
        peer.wait(lambda: peer.received)
        assert peer.received[0][0].startswith(b"SIP/2.0 400 ")  # with the broken CSeq in it


class StreamContract(TransportContract):
    """The contract of transports of connections, whose flows can end."""

    @pytest.fixture
    def stream(self, pair):
        """Return two points, the flow between them, and the other's end of it."""
        one, other, flow = pair
        flow.send(one.message())
        other.wait(lambda: other.received)
        return one, other, flow, other.received[0][1]

    def test_end_of_a_flow_is_reported_in_the_hub(self, stream):
        one, other, flow, _ = stream
        flow.transactions.add(Pending())
        other.transport.stop()
        one.wait(lambda: one.ended)
        assert one.ended[0][0] is flow and isinstance(one.ended[0][1], TransportError)
        assert all(one.in_hub) and not flow.is_alive()
        with pytest.raises(TransportError):
            flow.send(one.message())

    def test_next_flow_to_the_same_place_is_a_new_one(self, stream, make):
        one, other, flow, _ = stream
        flow.transactions.add(Pending())
        local = other.transport.local
        other.transport.stop()
        one.wait(lambda: one.ended)
        again = Point(make(), local)
        fresh = one.transport.connect(local)
        fresh.send(one.message(7))
        again.wait(lambda: again.received)
        assert fresh is not flow and again.received[0][0] == one.message(7)
        again.transport.stop()

    def test_bytes_that_make_no_sense_are_refused_and_end_the_flow(self, stream):
        one, other, flow, _ = stream
        flow.transactions.add(Pending())
        flow.send(one.message(2))
        flow.send(one.message(3).replace(b"Content-Length: 0", b"Content-Length: nought"))
        flow.send(one.message(4))
        one.wait(lambda: one.received and one.ended)
        error, source = other.refused[0]
        assert (
            isinstance(error, ParseError)
            and error.request is not None
            and source is other.received[0][1]
        )
        assert [parse(data).call_id for data, _ in other.received] == ["1", "2"]
        assert one.received[0][0].startswith(b"SIP/2.0 400 ")  # what was sent before it ended
        assert all(other.in_hub)

    def test_peer_that_does_not_read_loses_its_flow(self, stream):
        one, other, flow, _ = stream
        sent = 0
        with pytest.raises(TransportError):
            for sent in range(100_000):  # 100 MB, in a loop that gives the peer no turn to read
                flow.send(one.message(sent, "x" * 1000))
        assert sent < 30_000

    def test_end_of_the_peer_ends_the_request_that_waits_for_it(self, stack, point):
        peer, (one, _) = point(), stack()
        tx = one.send(Request("MESSAGE", self.uri(peer.transport)))
        peer.wait(lambda: peer.received)
        peer.transport.stop()
        with pytest.raises(TransportError, match="has ended"):
            tx.final(timeout=SECONDS)
        assert not one.stats()["client_transactions"]


class Pending:
    """Stands in for a transaction that waits for an answer by a flow."""

    machine = type("Machine", (), {"is_client": True})
    is_unanswered = True
