"""Kamailio as the registrar behind an edge proxy of ours: it finds the phone by the Path, RFC 3327 and RFC 5626."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import gevent
import pytest
from gevent import socket

from sippet_gevent import Stack, forward
from tests.conditions import PATIENCE, until
from tests.ports import free_port

pytest_plugins = ["tests.programs"]

KAMAILIO = shutil.which("kamailio") or shutil.which("kamailio", path="/usr/sbin")
pytestmark = pytest.mark.skipif(
    KAMAILIO is None and os.environ.get("CI") != "true", reason="kamailio is not installed"
)

CONFIGURATION = Path(__file__).with_name("kamailio_registrar.cfg")


@pytest.fixture
def registrar(run, tmp_path):
    """The port of a Kamailio that registers and forwards."""
    port = free_port()
    configuration = tmp_path / "kamailio.cfg"
    configuration.write_text(CONFIGURATION.read_text().replace("PORT", str(port)))
    run(
        KAMAILIO,
        "-f",
        configuration,
        "-DD",
        "-E",
        "-m",
        "32",
        "-M",
        "4",
        "-Y",
        tmp_path,
        "-P",
        tmp_path / "pid",
    )
    with Stack("udp:127.0.0.1:0") as stack, gevent.Timeout(PATIENCE):
        while True:  # until it answers
            with contextlib.suppress(Exception):
                if (
                    stack.request("OPTIONS", f"sip:nobody@127.0.0.1:{port}", timeout=2).status
                    == 404
                ):
                    return port
            gevent.sleep(0.1)


@pytest.mark.rfc("3327 5.2", "5626 6", "5658 5")
@pytest.mark.parametrize("kind", ["ws", "tcp", "udp"])
def test_call_through_kamailio_reaches_a_phone_behind_our_edge_proxy(registrar, kind):
    def core(request, tx):
        if request.method == "REGISTER":
            return forward(
                request, tx, next_hop=f"sip:127.0.0.1:{registrar}", listener="inside", add_path=True
            )
        if tx.take_route() or tx.leads_to_flow:
            return forward(request, tx, record_route=request.method == "INVITE")
        return 403

    seen = []

    def phone(request, tx):
        seen.append(request.method)
        if request.method == "INVITE":
            tx.accept().wait(PATIENCE)
            return None
        return 200

    with (
        Stack(f"{kind}:127.0.0.1:0;name=outside", "udp:127.0.0.1:0;name=inside", core=core) as edge,
        Stack(f"{kind}:127.0.0.1:0", core=phone) as bob,
        Stack("udp:127.0.0.1:0") as alice,
    ):
        aor = f"<sip:bob@127.0.0.1:{registrar}>"
        uuid = '"<urn:uuid:00000000-0000-4000-8000-000000000001>"'
        response = bob.request(
            "REGISTER",
            f"sip:127.0.0.1:{registrar}",
            next_hop=f"sip:{edge.addresses[0].partition(':')[2]};transport={kind}",
            to=aor,
            from_=aor,
            contact=f"<sip:bob@bob.invalid;transport={kind}>;+sip.instance={uuid};reg-id=1",
            supported="path, outbound",
            timeout=PATIENCE,
        )
        assert response.status == 200
        with alice.invite(
            f"sip:bob@127.0.0.1:{registrar}", body="v=0\r\n", timeout=PATIENCE
        ) as call:
            assert call.request("INFO", timeout=PATIENCE).status == 200
        until(lambda: not bob.stats()["calls"])
        assert seen == ["INVITE", "INFO"]
