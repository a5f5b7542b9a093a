"""The timers of one request: timers= of send(), request(), invite() and forward()."""

from __future__ import annotations

import pytest

from sippet_gevent import Request, Timers, TransactionTimeout, forward
from sippet_gevent.transport.locate.resolver import SRV, StaticResolver

from ..wire import Peer, messages, start, times

SILENT = "10.0.0.60"
URI = f"sip:bob@{SILENT}"


@pytest.mark.rfc("3261 17.1.2.2")
@pytest.mark.parametrize("how", ["send", "request"])
def test_request_has_its_own_timers(sip, how):
    Peer(sip, SILENT)
    if how == "send":
        tx = sip.client.send(Request("OPTIONS", URI), timers=Timers(t1=0.1, f=2))
        waiting = start(sip, tx.final)
    else:
        waiting = start(sip, sip.client.request, "OPTIONS", URI, timers=Timers(t1=0.1, f=2))
    other = start(sip, sip.client.request, "MESSAGE", URI)
    sip.advance(2.1)
    with pytest.raises(TransactionTimeout):
        waiting.get()
    assert times(sip, "OPTIONS")[:4] == [0.0, 0.1, 0.3, 0.7]
    assert times(sip, "MESSAGE")[:3] == [0.0, 0.5, 1.5]
    sip.advance(31)
    with pytest.raises(TransactionTimeout):
        other.get()


@pytest.mark.rfc("3261 17.1.1.2", "3261 9.1")
def test_invite_has_its_own_timers_for_timer_c_and_its_cancel(sip):
    peer = Peer(sip, SILENT)
    waiting = start(sip, sip.client.invite, URI, body="x", timers=Timers(t1=0.1, c=10))
    peer.reply(peer.last("INVITE"), 180)
    sip.advance(10.1)
    with pytest.raises(TransactionTimeout):
        waiting.get()
    sip.advance(0.2)
    assert times(sip, "CANCEL")[:2] == [0.0, 0.1]


@pytest.mark.rfc("3263 4.3")
def test_next_server_is_tried_after_timer_b_of_this_invite_with_the_same_timers(sip):
    peers = [Peer(sip, "10.0.0.61"), Peer(sip, "10.0.0.62")]
    sip.client.resolver = StaticResolver(
        {
            "_sip._udp.example.com": [
                SRV(1, 0, 5060, "a.example.com"),
                SRV(2, 0, 5060, "b.example.com"),
            ],
            "a.example.com": ["10.0.0.61"],
            "b.example.com": ["10.0.0.62"],
        }
    )
    waiting = start(sip, sip.client.invite, "sip:bob@example.com", body="x", timers=Timers(b=3))
    sip.advance(2.9)
    assert not peers[1].received
    sip.advance(0.2)
    assert peers[1].methods == ["INVITE"]
    sip.advance(3.1)
    with pytest.raises(TransactionTimeout):
        waiting.get()


@pytest.mark.rfc("3261 8.1.3.4")
def test_request_that_is_repeated_keeps_its_timers(sip):
    peer = Peer(sip, SILENT)
    waiting = start(
        sip, sip.client.request, "OPTIONS", URI, follow_redirects=True, timers=Timers(t1=0.1, f=2)
    )
    peer.reply(peer.last("OPTIONS"), 302, contact=f"<sip:desk@{SILENT}>")
    assert len(peer.methods) == 2
    sip.advance(2.1)
    with pytest.raises(TransactionTimeout):
        waiting.get()
    assert times(sip, "OPTIONS")[1:4] == [0.0, 0.1, 0.3]


@pytest.mark.rfc("3261 16.6", "3261 16.8")
@pytest.mark.parametrize(("c", "after"), [(10, 10), (240, 240)])
def test_forwarded_invite_has_its_own_timer_c(sip, c, after):
    target = Peer(sip, SILENT)
    sip.serve(lambda request, tx: forward(request, tx, URI, timers=Timers(c=c)))
    caller = Peer(sip, "10.0.0.50")
    caller.ask("INVITE")
    target.reply(target.last("INVITE"), 180)
    sip.advance(after - 1)
    assert "CANCEL" not in target.methods
    sip.advance(2)
    assert target.methods[-1] == "CANCEL"
    assert caller.statuses == [180]
    target.reply(target.last("INVITE"), 487)
    assert caller.statuses[-1] == 487
    caller.send(messages(sip, "INVITE")[0].ack(caller.responses[-1]))


def test_forwarded_request_has_its_own_timer_f(sip):
    Peer(sip, SILENT)
    sip.serve(lambda request, tx: forward(request, tx, URI, timers=Timers(f=60)))
    caller = Peer(sip, "10.0.0.50")
    caller.ask("OPTIONS")
    sip.advance(59)
    assert caller.statuses == [100]
    sip.advance(2)


@pytest.mark.parametrize("timers", [0.5, {"t1": 0.2}, "t1"])
def test_timers_have_to_be_timers(sip, timers):
    for function, arguments in (
        (sip.client.request, ("OPTIONS", URI)),
        (sip.client.invite, (URI,)),
        (sip.client.send, (Request("OPTIONS", URI),)),
    ):
        with pytest.raises(TypeError, match="timers=Timers"):
            function(*arguments, timers=timers)
    asked = sip.ask(lambda request, tx: forward(request, tx, URI, timers=timers), "OPTIONS sip:a@b")
    assert asked.statuses == [500]
