"""Registrations whose connection ends, over real sockets."""

from __future__ import annotations

import pytest
from gevent.event import Event

from sippet_gevent import Request, Stack
from sippet_gevent.core.registration import flow as module
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
