"""Registrations whose connection ends, over real sockets."""

from __future__ import annotations

import pytest

from sippet_gevent import Stack
from sippet_gevent.core.registration import flow as module
from tests.conditions import until


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
