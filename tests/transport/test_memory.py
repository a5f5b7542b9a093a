"""The network inside the process: loss, delay, duplication, reordering, partitions, by a seed."""

from __future__ import annotations

import pytest

from sippet_gevent import TransportError, VirtualClock
from sippet_gevent.transport.memory import MemoryTransport, Network


@pytest.fixture
def clock():
    return VirtualClock()


def pair(clock, **behaviour):
    """Return the network, a flow from one point to another, and what the other has received."""
    network = Network(clock, **behaviour)
    got = []
    one, other = MemoryTransport(network), MemoryTransport(network)
    one.start(("10.0.0.1", 5060), lambda data, flow: None)
    other.start(("10.0.0.2", 5060), lambda data, flow: got.append((clock.now(), data, flow)))
    return network, one.connect(("10.0.0.2", 5060)), got


def test_datagram_arrives_by_a_flow_to_its_sender(clock):
    _, flow, got = pair(clock)
    flow.send(b"x")
    clock.advance(0.001)
    assert got[0][1] == b"x" and got[0][2].remote == ("10.0.0.1", 5060)


def test_delay_is_kept(clock):
    _, flow, got = pair(clock, delay=0.5)
    start = clock.now()
    flow.send(b"x")
    clock.advance(0.4)
    assert got == []
    clock.advance(0.2)
    assert got[0][0] - start == pytest.approx(0.5, abs=0.001)


def test_same_seed_loses_the_same(clock):
    fates = []
    for _ in range(2):
        network, flow, _ = pair(clock, loss=0.5, seed=42)
        for _ in range(50):
            flow.send(b"x")
        fates.append([carried.fate for carried in network.trace])
        network.stop()
    assert fates[0] == fates[1]
    assert 10 < fates[0].count("lost") < 40


def test_everything_is_duplicated_at_probability_one(clock):
    _, flow, got = pair(clock, duplicate=1.0)
    flow.send(b"x")
    clock.advance(1)
    assert len(got) == 2


def test_reordering_lets_later_datagrams_overtake(clock):
    _, flow, got = pair(clock, reorder=0.5, delay=0.01, jitter=0.01, seed=1)
    for index in range(50):
        flow.send(str(index).encode())
    clock.advance(1)
    order = [int(data) for _, data, _ in got]
    assert sorted(order) == list(range(50)) and order != sorted(order)


def test_partition_cuts_and_heals(clock):
    network, flow, got = pair(clock)
    network.partition("10.0.0.1", "10.0.0.2")
    flow.send(b"1")
    network.heal()
    flow.send(b"2")
    clock.advance(1)
    assert [data for _, data, _ in got] == [b"2"]
    assert [carried.fate for carried in network.trace] == ["cut", "carried"]


def test_taken_address_is_a_transport_error(clock):
    network, _, _ = pair(clock)
    with pytest.raises(TransportError, match="already in use"):
        MemoryTransport(network).start(("10.0.0.1", 5060), lambda data, flow: None)


def test_failure_makes_every_send_a_transport_error(clock):
    _, flow, _ = pair(clock)
    flow.transport.failure = "the cable is out"
    with pytest.raises(TransportError, match="the cable is out"):
        flow.send(b"x")
