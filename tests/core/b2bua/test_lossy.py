"""Bridges on networks that lose, repeat and reorder: both calls end, and nothing is left.

`SIPPET_SEEDS=2000` runs so many networks; a failure names the seed and shows its messages.
"""

from __future__ import annotations

import gc
import os

import pytest

from sippet_gevent import SIPError, bridge, sdp
from sippet_gevent.testing import Sip, leftovers

SEEDS = int(os.environ.get("SIPPET_SEEDS") or 60)
AUDIO = sdp.MediaStream("audio", 4000, (sdp.PCMU, sdp.PCMA))
CALLEE = "10.0.0.60"
NETWORKS = {
    "10 % lost": {"loss": 0.1},
    "out of order": {"loss": 0.05, "duplicate": 0.2, "reorder": 0.3, "delay": 0.1, "jitter": 0.3},
}
FATES = ("caller hangs up", "callee hangs up", "caller cancels", "callee refuses", "hold")


def call(sip, uri, fate):
    """Call through the bridge."""
    seconds = 1 if fate == "caller cancels" else 60
    try:
        with sip.client.invite(uri, media=[AUDIO], timeout=seconds) as call:
            if fate == "hold":
                call.hold()
                call.request("INFO", body="1", content_type="application/dtmf")
                call.resume()
            call.wait(None if fate == "callee hangs up" else 1)
    except SIPError:
        pass


def play(sip, fate):
    """Play a call through a bridge, whatever becomes of it."""

    def b2bua(request, tx):
        bridge(request, tx, f"sip:bob@{CALLEE}")

    def callee(request, tx):
        tx.respond(180)
        tx.wait(2)
        if fate == "callee refuses":
            return 486
        with tx.accept(media=[AUDIO]) as call:
            call.wait(3 if fate == "callee hangs up" else 60)
        return None

    server, phone = sip.stack(), sip.stack(host=CALLEE)
    server.on("INVITE")(b2bua)
    phone.on("INVITE")(callee)
    uri = f"sip:bob@{server.addresses[0].removeprefix('udp:')}"

    sip.run(call, sip, uri, fate)
    sip.advance(200)
    return server, phone


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("network", NETWORKS)
def test_nothing_is_left_of_a_bridge_on_a_network_that_loses(network, fate):
    for seed in range(SEEDS // len(FATES)):
        sip = Sip()
        sip.lossy(seed=seed, **NETWORKS[network])
        try:
            server, phone = play(sip, fate)
            for stack in (server, phone, sip.client):
                assert not leftovers(stack), (seed, leftovers(stack))
                assert len(stack.dialogs) == stack.dialogs.early == 0, seed
                assert stack.stats()["core_errors"] == 0, seed
        except BaseException:
            print(f"seed {seed}\n{sip.ladder()}")
            raise
        finally:
            sip.close()


@pytest.mark.parametrize("fate", FATES)
def test_bridge_leaves_no_cycle_to_the_garbage_collector(fate):
    sip = Sip()
    try:
        play(sip, fate)
        server = sip.stacks[0]
        uri = f"sip:bob@{server.addresses[0].removeprefix('udp:')}"
        sip.network.trace.clear()
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                sip.run(call, sip, uri, fate)
                sip.advance(200)
            sip.network.trace.clear()
            assert gc.collect() < 20  # not one object for each call
        finally:
            gc.enable()
    finally:
        sip.close()
