"""Registrations whose connection ends, over real sockets."""

from __future__ import annotations

import pytest
from gevent.event import Event

from sippet_gevent import Limits, Request, Stack, TransportError
from sippet_gevent.core.registration import flow as module
from sippet_gevent.transport.datagram import stun_agent, udp
from tests.conditions import until
from tests.transport.datagram.test_error_queue import forge
from tests.transport.datagram.test_icmp import V4, extended_error


def registrar_of(requests):
    def core(request, tx):
        requests.append(request)
        return request.response(200, contact=request.contact[0].with_params(expires=600))

    return core


@pytest.mark.rfc("5626 4.5")
def test_connection_that_ends_is_replaced_at_once(monkeypatch):
    monkeypatch.setattr(module, "STEADY", 0.0)
    requests = []
    with (
        Stack("tcp:127.0.0.1:0", core=registrar_of(requests)) as server,
        Stack("tcp:127.0.0.1:0") as client,
    ):
        host = server.addresses[0].removeprefix("tcp:")
        registration = client.register(
            f"sip:100@{host};transport=tcp", registrar=f"sip:{host};transport=tcp"
        )
        assert registration.wait(20)
        requests[0].flow.close()
        until(lambda: len(requests) > 1)
        assert requests[1].flow is not requests[0].flow
        assert requests[1].call_id == requests[0].call_id
        registration.close()
        assert requests[-1].expires == 0


@pytest.mark.rfc("5626 4.5")
def test_connection_that_ends_early_is_replaced_after_a_pause():
    requests = []
    with (
        Stack("tcp:127.0.0.1:0", core=registrar_of(requests)) as server,
        Stack("tcp:127.0.0.1:0") as client,
    ):
        host = server.addresses[0].removeprefix("tcp:")
        registration = client.register(f"sip:100@{host}", registrar=f"sip:{host};transport=tcp")
        assert registration.wait(20)
        requests[0].flow.close()
        until(lambda: registration._flows[0].flow is None)
        assert registration._flows[0]._due - client.clock.now() > 20
        assert len(requests) == 1


@pytest.mark.rfc("5626 4.4", "5626 4.5")
@pytest.mark.parametrize("method", ["OPTIONS", "REGISTER"])
def test_udp_flow_that_an_icmp_error_ends_is_registered_by_once(monkeypatch, method):
    monkeypatch.setattr(module, "STEADY", 0.0)
    requests, silent, gate = [], [], Event()
    answer = registrar_of(requests)

    def core(request, tx):
        if request.method in silent:
            gate.wait()  # until the client has its ICMP error
        return answer(request, tx)

    with (
        Stack("udp:127.0.0.1:0", core=core) as server,
        Stack("udp:127.0.0.1:0") as client,
    ):
        host = server.addresses[0].removeprefix("udp:")
        registration = client.register(f"sip:100@{host}", registrar=f"sip:{host}")
        assert registration.wait(20)
        silent.append(method)
        if method == "REGISTER":
            registration.refresh()
        else:
            client.send(Request(method, f"sip:{host}"))
        waits = method.encode()

        def waiting():
            found = [tx for tx in client.engine.clients.values() if tx.last.startswith(waits)]
            return found[-1] if found and found[-1].is_unanswered else None

        record = until(waiting)
        transport = client.engine.transports[0]
        forge(transport, (extended_error(V4, 3, 3), record.last, record.flow.address))
        if method == "OPTIONS":
            until(lambda: len(requests) == 2)
        until(lambda: not registration._flows[0]._is_pending)
        assert client.stats()["registrations"]["sent"] == 2
        assert client.stats()["icmp"] == {"matched": 1}
        silent.clear()
        gate.set()
        registration.close()


@pytest.mark.rfc("5626 4.5")
def test_udp_flow_whose_keepalives_always_fail_is_tried_less_and_less_often(monkeypatch):
    monkeypatch.setattr(module, "BASE", 0.01)
    for place in (stun_agent, udp):
        monkeypatch.setattr(place, "UNANSWERED", 1)
    requests = []
    with (
        Stack("udp:127.0.0.1:0", core=registrar_of(requests), limits=Limits(keep=1)) as server,
        Stack("udp:127.0.0.1:0", keep=True) as client,
    ):
        there = server.engine.transports[0]
        take = there.stun_agent.take
        monkeypatch.setattr(there.stun_agent, "take", lambda data, flow: True)  # silence
        host = server.addresses[0].removeprefix("udp:")
        registration = client.register(f"sip:100@{host}", registrar=f"sip:{host}")
        flow = registration._flows[0]
        until(lambda: flow._failures == 2 and flow.flow is not None)
        monkeypatch.setattr(there.stun_agent, "take", take)
        until(lambda: flow.flow is not None and flow.flow.keepalives_answered > flow._answers)
        client.engine.flow_ended(flow.flow, TransportError("no answer to keep-alives"))
        assert flow._failures == 1
        registration.close()
