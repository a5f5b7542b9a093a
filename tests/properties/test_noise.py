"""Random, truncated and bit-flipped datagrams to a running server: it goes on, answers, and accounts for each of them."""

from __future__ import annotations

import os
import random

import gevent
import pytest
from gevent import socket

from sippet_gevent import Limits, RegistrarProxy, Stack, Timers
from sippet_gevent.message.parser import parse
from tests.conditions import until

from ..conformance import corpus

DATAGRAMS = int(os.environ.get("SIPPET_FUZZ", "20000"))
BURST = 200
PING = (
    b"OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKping%d;rport\r\nMax-Forwards: 70\r\n"
    b"From: <sip:a@b.example>;tag=1\r\nTo: <sip:b@b.example>\r\nCall-ID: ping%d\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


def messages():
    found = [
        path.read_bytes()
        for path in sorted(corpus.FOLDER.rglob("*.dat")) + sorted(corpus.FOLDER.rglob("*.sip"))
    ]
    return [data for data in found if 0 < len(data) < 4000]


def mangled(data, chance):
    """Return a message cut, flipped, spliced or left alone; or plain noise."""
    kind = chance.randrange(6)
    if kind == 0:
        return chance.randbytes(chance.randrange(1, 600))
    if kind == 1:
        return data[: chance.randrange(1, len(data) + 1)]
    changed = bytearray(data)
    if kind == 2:
        for _ in range(chance.randrange(1, 8)):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    elif kind == 3:
        at = chance.randrange(len(changed))
        changed[at:at] = chance.choice(
            [b"\r\n", b"\0", b"\xff" * 9, b";" * 70, b'"', b"<", b",,,", b": ", b"%00", b"\r\n "]
        )
    elif kind == 4:
        at = chance.randrange(len(changed))
        del changed[at : at + chance.randrange(1, 60)]
    return bytes(changed)


@corpus.needed
@pytest.mark.timeout(300)
def test_bad_datagrams_leave_a_server_that_answers():
    chance = random.Random(2026)
    seeds = messages()
    stack = Stack(
        "udp:127.0.0.1:0",
        core=RegistrarProxy(),
        timers=Timers(t1=0.05),
        limits=Limits(errors_per_second=1e9),
    )
    with stack:
        where = stack.engine.transports[0].local
        attacker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        attacker.bind(("127.0.0.1", 0))
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        probe.bind(("127.0.0.1", 0))
        probe.settimeout(1)
        sent = pings = 0
        while sent < DATAGRAMS:
            for _ in range(BURST):
                attacker.sendto(mangled(chance.choice(seeds), chance), where)
            sent += BURST
            answer = None
            for _ in range(10):  # a server that this machine starves may drop a request
                probe.sendto(PING % (sent, sent), where)
                pings += 1
                try:
                    answer = probe.recv(65535)
                    while parse(answer).headers["Call-ID"] != f"ping{sent}":  # to an earlier copy
                        answer = probe.recv(65535)
                    break
                except TimeoutError:
                    answer = None
            assert answer is not None, stack.stats()

        def all_have_come():
            """True when none waits any more, in the kernel, in overload or in a core."""
            stats = stack.stats()
            came = stats["received"] + stats["kernel_drops"]
            return came == sent + pings and not stats["handlers"]

        until(all_have_come)
        stats = stack.stats()
        counted = (
            stats["delivered"]
            + stats["answered"]
            + stats["absorbed"]
            + sum(stats["dropped"].values())
        )
        assert stats["received"] == counted
        assert not stack.engine.crashes
        assert stats["core_errors"] == 0
        attacker.close()
        probe.close()
        gevent.sleep(0)
