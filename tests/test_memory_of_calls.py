"""The memory of calls that ring, which only ever becomes less.

A busy server has as many of them as arrive while a phone rings. What the process grows by is not
all that Python counts. The rest is the page of the interpreter's stack that each waiting greenlet
has, 4 KB, and what allocators round up.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import sippet_gevent

CALLS = 1500
WARM = 300

MOST = {
    "c": {"waiting": (10_240, 5_550), "proxied": (7_000, 6_400)},
    "python": {"waiting": (10_240, 5_750), "proxied": (7_500, 7_050)},
}[sippet_gevent.implementation]
"""Most bytes that the process grows by for each call, and most that tracemalloc counts."""

if sys.version_info >= (3, 12):  # greenlet keeps a frame object for each function that waits there
    MOST["waiting"] = tuple([most + 2_500 for most in MOST["waiting"]])

PROGRAM = f"""
import gc, json, os, socket, sys, tracemalloc

import gevent

from sippet_gevent import Limits, Stack, forward
from sippet_gevent.runtime.memory import resident

INVITE = (
    "INVITE sip:bob@127.0.0.1 SIP/2.0\\r\\n"
    "Via: SIP/2.0/UDP 127.0.0.1:{{port}};branch=z9hG4bK{{number:08d}}xyz;rport\\r\\n"
    "Max-Forwards: 70\\r\\nFrom: \\"Alice\\" <sip:alice@127.0.0.1>;tag={{number:08d}}xyz\\r\\n"
    "To: <sip:bob@127.0.0.1>\\r\\nCall-ID: {{number:08d}}xyz@bench\\r\\nCSeq: 1 INVITE\\r\\n"
    "Contact: <sip:alice@127.0.0.1:{{port}}>\\r\\nUser-Agent: bench\\r\\nContent-Length: 0\\r\\n\\r\\n"
)
ECHOED = ("Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:")


def peer():
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock, sock.getsockname()[1]


def received(sock):
    while True:
        try:
            yield sock.recvfrom(65535)
        except BlockingIOError:
            return


def answer():
    for data, source in received(callee):
        lines = data.decode().split("\\r\\n")
        to = [line + ";tag=callee" for line in lines if line.startswith("To:")]
        lines = [line for line in lines if line.startswith(ECHOED)] + to
        lines += [f"Contact: <sip:bob@127.0.0.1:{{callee_port}}>", "Content-Length: 0", "", ""]
        callee.sendto("\\r\\n".join(["SIP/2.0 180 Ringing", *lines]).encode(), source)


def ring(numbers):
    rung = set()
    for number in numbers:
        caller.sendto(INVITE.format(port=caller_port, number=number).encode(), server)
        while f"{{number:08d}}".encode() not in rung:
            gevent.sleep(0.0005)
            answer()
            for data, _ in received(caller):
                if data.startswith(b"SIP/2.0 180"):
                    rung.add(data[data.index(b"z9hG4bK") + 7 :][:8])
    gevent.sleep(0.4)  # a request that has rung for 200 ms rests
    gc.collect()


stack = Stack("udp:127.0.0.1:0", limits=Limits(handlers=10_000, forwarding=10_000))
(caller, caller_port), (callee, callee_port) = peer(), peer()


def wait(request, tx):
    tx.respond(180)
    tx.wait(3600)
    return 486


def route(request, tx):
    return forward(request, tx, f"sip:bob@127.0.0.1:{{callee_port}}", record_route=True)


stack.on("INVITE")(wait if sys.argv[1] == "waiting" else route)
stack.start()
server = stack.engine.transports[0].local
ring(range({WARM}))
if sys.argv[2] == "traced":
    tracemalloc.start(1)
before = resident(), tracemalloc.get_traced_memory()[0]
ring(range({WARM}, {WARM + CALLS}))
after = resident(), tracemalloc.get_traced_memory()[0]
assert len(stack.engine.servers) == {WARM + CALLS}
print(json.dumps([(y - x) / {CALLS} for x, y in zip(before, after)]), flush=True)
os._exit(0)
"""


def measured(kind, how):
    command = [sys.executable, "-c", PROGRAM, kind, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    grown, traced = json.loads(done.stdout)
    return {"grown": grown, "traced": traced}[how]


@pytest.mark.parametrize("how", ["grown", "traced"])
@pytest.mark.parametrize("kind", MOST)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_ringing_call_takes_no_more_memory(kind, how):
    most = MOST[kind][how == "traced"]
    found = measured(kind, how)
    assert found <= most, f"{found:.0f} bytes ({sippet_gevent.implementation})"
    assert found > most * 0.9, f"{found:.0f} bytes: lower the number"
