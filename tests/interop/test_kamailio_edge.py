"""The guide "Behind a Kamailio edge": its kamailio.cfg, word for word but for addresses, before `sippet serve`."""

from __future__ import annotations

import socket

import gevent
import pytest

from sippet_gevent import Stack, TransportError
from tests.conditions import until
from tests.docs.blocks import NAMED
from tests.ports import free_port

pytest_plugins = ["tests.programs"]

KAMAILIO = "/usr/sbin/kamailio"


def is_there(client, edge):
    """True once the edge answers. Until it listens, the system refuses datagrams to its port."""
    try:
        return client.request("OPTIONS", f"{edge};x", next_hop=edge, timeout=5).status != 408
    except TransportError:
        gevent.sleep(0.1)
        return False


@pytest.mark.rfc("3327 5.2")
def test_phones_call_each_other_through_the_edge(need, run, serve, tmp_path):
    need(KAMAILIO)
    outside, port = "127.0.0.2", free_port("127.0.0.2")
    server = serve("--domain", outside)
    (block,) = NAMED["text", "kamailio.cfg"]
    text = block.text.replace("192.0.2.10:5060", f"{outside}:{port}")
    text = text.replace("127.0.0.1:5060", f"127.0.0.1:{free_port('127.0.0.1')}")
    text = text.replace("127.0.0.1:5070", f"127.0.0.1:{server.port}")
    path = tmp_path / "kamailio.cfg"
    path.write_text(text + "\n", "utf-8")
    kamailio = run(KAMAILIO, "-DD", "-E", "-f", path, "-Y", tmp_path, "-P", tmp_path / "pid")
    edge = f"sip:{outside}:{port}"
    ended = []

    def answer(request, tx):
        with tx.accept(body=b"v=0\r\n") as call:
            ended.append(call.wait(20))

    with Stack("udp:127.0.0.3:0", core=answer) as bob, Stack("udp:127.0.0.4:0") as alice:
        with gevent.Timeout(20):
            while not is_there(alice, edge):
                assert kamailio.process.poll() is None, kamailio.text
        for phone, user in ((bob, "bob"), (alice, "alice")):
            host, at = phone.addresses[0].removeprefix("udp:").split(":")
            aor, contact = f"<sip:{user}@{outside}>", f"<sip:{user}@{host}:{at}>"
            response = phone.request(
                "REGISTER", f"sip:{outside}", next_hop=edge, to=aor, from_=f"{aor};tag=1",
                contact=contact, supported=("path",), timeout=10,
            )  # fmt: skip
            assert response.status == 200, server.text
        with alice.invite(f"sip:bob@{outside}", next_hop=edge, body=b"v=0\r\n", timeout=10) as call:
            assert len(call.dialog.route_set) >= 2  # the edge and the program stay on the route
        until(lambda: ended)
    assert ended == [True]
