"""Failed next hops: one log line with the answer, and a counter by reason, RFC 3261 §8.1.3.1 and §16.9."""

from __future__ import annotations

import logging

import pytest

from sippet_gevent import (
    TLS,
    Flow,
    Reject,
    Request,
    ResponseContext,
    SIPError,
    Stack,
    StaticResolver,
    TransportError,
    forward,
)
from tests.ports import free_port

from ..wire import Peer

BOB = "sip:bob:secret@10.0.0.60"
NOBODY = "sip:bob@nobody.example"

pytestmark = pytest.mark.rfc("3261 8.1.3.1")


@pytest.fixture
def peer(sip):
    return Peer(sip, "10.0.0.50")


@pytest.fixture
def lines(caplog):
    """The log lines about next hops, and their one level."""
    caplog.set_level(logging.INFO, "sippet_gevent")

    def lines():
        found = [record for record in caplog.records if "next hop failed" in record.getMessage()]
        assert {record.levelno for record in found} <= {logging.WARNING}
        assert {record.name for record in found} <= {"sippet_gevent.core"}
        return [record.getMessage() for record in found]

    return lines


def serve(sip, core, **options):
    return sip.stack(core, host="10.0.0.1", resolver=StaticResolver({}), **options)


def by_forward(target):
    return lambda request, tx: forward(request, tx, target)


def by_fork(target):
    def core(request, tx):
        with ResponseContext(tx) as context:
            context.fork(target)
            for _ in context:
                pass
            context.forward(context.best())

    return core


def by_request(target):
    return lambda request, tx: (
        tx.stack.request(request.method, target, call_id=request.call_id).status
    )


def by_invite(target):
    return lambda request, tx: tx.stack.invite(target, call_id=request.call_id) and 486


WAYS = {
    "forward": (by_forward, "answered", 500),
    "fork": (by_fork, "best", 500),
    "request": (by_request, "answered", 503),
    "invite": (by_invite, "answered", 503),
}
each_way = pytest.mark.parametrize(("way", "key", "status"), WAYS.values(), ids=list(WAYS))


@each_way
@pytest.mark.rfc("3261 16.9")
def test_name_without_address_is_one_warning_and_counted(sip, peer, lines, way, key, status):
    stack = serve(sip, way(NOBODY))
    peer.ask("INVITE", call_id="abc@10.0.0.50")
    (line,) = lines()
    assert line.startswith(
        f'next hop failed: method=INVITE target={NOBODY} transport=unknown reason="nobody.example: no address'
    )
    assert line.endswith(f" {key}={status} call_id=abc@10.0.0.50")
    assert peer.statuses[-1] == status
    assert stack.stats()["next_hop_failures"] == {"no_address": 1}


@each_way
def test_target_that_allow_target_forbids_is_one_warning_and_counted(
    sip, peer, lines, way, key, status
):
    stack = serve(sip, way(BOB), allow_target=lambda candidate: False)
    peer.ask("INVITE")
    (line,) = lines()
    assert (
        'reason="allow_target forbids ' in line
        and f" {key}={status} " in line
        and "secret" not in line
    )
    assert stack.stats()["next_hop_failures"] == {"forbidden": 1}


@each_way
def test_next_hop_that_is_silent_is_one_warning_and_counted(sip, peer, lines, way, key, status):
    stack = serve(sip, way(BOB))
    peer.ask("INVITE")
    sip.advance(33)
    (line,) = lines()
    assert "target=sip:bob:...@10.0.0.60 transport=UDP address=10.0.0.60:5060 " in line
    assert f" {key}=408 " in line and peer.statuses[-1] == 408
    assert stack.stats()["next_hop_failures"] == {"timeout": 1}


def test_failed_next_hop_of_an_unawaited_send_is_logged(sip, lines):
    stack = serve(sip, None)
    stack.send(Request("OPTIONS", BOB))
    sip.advance(33)
    with pytest.raises(TransportError):
        stack.send(Request("OPTIONS", NOBODY))
    assert [line.partition(" reason=")[0] for line in lines()] == [
        "next hop failed: method=OPTIONS target=sip:bob:...@10.0.0.60 transport=UDP address=10.0.0.60:5060 seconds=32.0",
        f"next hop failed: method=OPTIONS target={NOBODY} transport=unknown",
    ]


@pytest.mark.rfc("3261 16.9")
def test_branch_that_fails_while_another_is_pending_is_answered_later(sip, peer, lines):
    other = Peer(sip, "10.0.0.61")
    stack = serve(sip, lambda request, tx: forward(request, tx, NOBODY, "sip:bob@10.0.0.61"))
    peer.ask("INVITE")
    sip.settle()
    (line,) = lines()
    assert "answered=later" in line
    other.reply(other.requests[0], 486)
    assert peer.statuses[-1] == 486
    assert stack.stats()["next_hop_failures"] == {"no_address": 1}


@pytest.mark.rfc("3261 16.7")
def test_last_branch_that_fails_is_logged_with_the_best_answer(sip, peer, lines):
    Peer(sip, "10.0.0.61", lambda request: 404)
    serve(sip, lambda request, tx: forward(request, tx, "sip:bob@10.0.0.61", BOB))
    peer.ask("MESSAGE")
    sip.advance(33)
    (line,) = lines()
    assert f"answered={peer.statuses[-1]} " in line


@pytest.mark.rfc("3261 16.7")
def test_core_that_forks_in_series_is_logged_with_the_best_answer_so_far(sip, peer, lines):
    busy, free = Peer(sip, "10.0.0.61", lambda request: 487), Peer(sip, "10.0.0.62", lambda _: 200)

    def core(request, tx):
        with ResponseContext(tx) as context:
            for target in (busy.uri, NOBODY, free.uri):
                context.fork(target)
                for response in context:
                    if response.status < 300:
                        context.forward(response)

    serve(sip, core)
    peer.ask("INVITE")
    (line,) = lines()
    assert " best=487 " in line and "answered=" not in line
    assert peer.statuses[-1] == 200


@pytest.mark.rfc("5626 5.3.1")
def test_flow_that_has_ended_is_logged_with_430(sip, peer, lines):
    class Ended(Flow):
        transport, remote = None, ("10.0.0.60", 5060)

        def is_alive(self):
            return False

    stack = serve(sip, None)
    Ended.transport = stack.engine.transports[0]
    Ended.transport.is_open  # noqa: B018 it is
    stack.names.is_usable = lambda flow: False
    stack.core = lambda request, tx: tx.stack.request(
        "OPTIONS", "sip:bob@10.0.0.60", next_hop=Ended()
    )
    peer.ask("MESSAGE")
    (line,) = lines()
    assert "address=10.0.0.60:5060" in line and "answered=430" in line
    assert stack.stats()["next_hop_failures"] == {"flow_ended": 1}


def test_floods_of_a_dead_next_hop_are_limited(sip, peer, lines):
    stack = serve(sip, by_forward(NOBODY))
    for _ in range(100):
        peer.ask("MESSAGE")
    assert len(lines()) == 10
    assert stack.stats()["next_hop_failures"] == {"no_address": 100}


def test_stack_that_stops_blames_no_next_hop(sip, peer, lines):
    stack = serve(sip, by_request(BOB))
    peer.ask("MESSAGE")
    stack.stop()
    sip.settle()
    assert (lines(), stack.sender.failures.counts) == ([], {})


# ---- over real connections


@pytest.mark.parametrize("method", ["request", "invite"])
def test_connection_that_is_refused_is_one_warning_and_counted(lines, method):
    target = f"sip:bob@127.0.0.1:{free_port()};transport=tcp"
    with Stack("tcp:127.0.0.1:0") as stack:
        with pytest.raises(SIPError):
            getattr(stack, method)(*(["OPTIONS"] if method == "request" else []), target, timeout=5)
        counts = stack.stats()["next_hop_failures"]
    (line,) = lines()
    assert f"target={target} transport=TCP address=127.0.0.1:" in line
    assert "Connection refused" in line and "answered=503" in line
    assert counts == {"refused": 1}


@pytest.mark.rfc("5922 7.2")
@pytest.mark.parametrize(
    ("names", "kind", "reason"),
    [(("localhost",), "tls_name", "its certificate is for localhost"), ((), "tls", "")],
)
def test_certificate_of_another_name_is_one_warning_and_counted(
    lines, tmp_path, names, kind, reason
):
    trustme = pytest.importorskip("trustme")
    ours, theirs = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(tmp_path / "ca.pem")
    (ours if names else theirs).issue_cert(
        *names or ("127.0.0.1",)
    ).private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    tls = TLS(tmp_path / "cert.pem", ca=tmp_path / "ca.pem")
    with Stack("tls:127.0.0.1:0", tls=tls) as server, Stack("tls:127.0.0.1:0", tls=tls) as client:
        port = server.engine.transports[0].local[1]
        with pytest.raises(TransportError):
            client.request("OPTIONS", f"sips:bob@127.0.0.1:{port}", timeout=5)
        counts = client.stats()["next_hop_failures"]
    (line,) = lines()
    assert "transport=TLS " in line and reason in line and "answered=503" in line
    assert counts == {kind: 1}


def test_refusal_of_a_peer_is_no_failure_of_the_next_hop(sip, peer, lines):
    Peer(sip, "10.0.0.60", lambda request: 503)
    stack = serve(sip, lambda request, tx: forward(request, tx, BOB))
    peer.ask("MESSAGE")
    with pytest.raises(Reject):
        sip.run(stack.invite, BOB)
    assert (lines(), stack.stats()["next_hop_failures"]) == ([], {})
