"""The time of a request whose first target fails, until the second one has answered (RFC 3263
§4.3).

The name has two SRV records. The server of the first one refuses, is silent, or answers 503. All
timers have their default lengths unless the row says otherwise. Rows with a timer of 32 s are
measured by a clock that the bench advances, over real sockets, and once more in real time with a
short T1. The second column is the next request to the same name.
"""

import argparse
import contextlib
import json
import sys
import time
from statistics import median

import gevent
from gevent import socket
from server import ROOT
from stateful import machine, progress

sys.path.insert(0, str(ROOT))
from sippet_gevent import Stack, StaticResolver, Timers, VirtualClock
from sippet_gevent.transport.locate.resolver import SRV

EXAMPLES = """examples:
  python bench/failover.py                   every failure three times: one minute, mostly timeouts
  python bench/failover.py --only udp        rows with this text in their name
"""
SHORT_T1 = 0.05
PATIENCE = 0.02  # real seconds for the sockets before the clock is advanced


@contextlib.contextmanager
def closed(kind):
    """A port without a listener."""
    with socket.socket(type=kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    yield port


@contextlib.contextmanager
def silent_datagrams():
    """A port whose datagrams are not read."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextlib.contextmanager
def silent_listener(backlog=128):
    """A port that accepts connections and sends nothing."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(backlog)
        yield sock.getsockname()[1]


@contextlib.contextmanager
def full_listener():
    """A port whose system drops every SYN: its backlog is full."""
    with silent_listener(backlog=0) as port, contextlib.ExitStack() as stack:
        for _ in range(4):
            filler = socket._socket.socket()
            stack.callback(filler.close)
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        gevent.sleep(0.1)
        yield port


@contextlib.contextmanager
def unavailable(transport):
    """A server that answers 503."""
    with Stack(f"{transport}:127.0.0.1:0", core=lambda request, tx: 503) as stack:
        yield stack.engine.transports[0].local[1]


REAL, BY_HAND, SHORT = "real time", "by hand", f"T1 {SHORT_T1 * 1000:g} ms"

#    failure, transport, method, server of the first target, clock
ROWS = (
    ("udp answers 503", "udp", "OPTIONS", lambda: unavailable("udp"), REAL),
    ("udp drops", "udp", "OPTIONS", silent_datagrams, BY_HAND),
    ("udp drops", "udp", "OPTIONS", silent_datagrams, SHORT),
    ("udp drops an INVITE", "udp", "INVITE", silent_datagrams, BY_HAND),
    ("udp refuses (ICMP)", "udp", "OPTIONS", lambda: closed(socket.SOCK_DGRAM), REAL),
    ("tcp answers 503", "tcp", "OPTIONS", lambda: unavailable("tcp"), REAL),
    ("tcp refuses", "tcp", "OPTIONS", lambda: closed(socket.SOCK_STREAM), REAL),
    ("tcp drops SYNs", "tcp", "OPTIONS", full_listener, REAL),
    ("tcp accepts, is silent", "tcp", "OPTIONS", silent_listener, BY_HAND),
)


def measure(transport, method, target, clock):
    """Seconds of two requests to the same name, the first target failing."""
    with target() as first, Stack(f"{transport}:127.0.0.1:0") as second:

        @second.on("OPTIONS", "INVITE")
        def answer(request, tx):
            return 486 if request.method == "INVITE" else 200

        records = {
            f"_sip._{transport}.bench.example": [
                SRV(10, 0, first, "one.example"),
                SRV(20, 0, second.engine.transports[0].local[1], "two.example"),
            ],
            "one.example": ["127.0.0.1"],
            "two.example": ["127.0.0.1"],
        }
        virtual = VirtualClock() if clock == BY_HAND else None
        timers = Timers(t1=SHORT_T1) if clock == SHORT else Timers()
        with Stack(
            f"{transport}:127.0.0.1:0",
            resolver=StaticResolver(records),
            clock=virtual,
            timers=timers,
        ) as client:
            return [ask(client, method, virtual) for _ in range(2)]


def ask(client, method, virtual):
    """Send one request; return the seconds until its final response."""
    now = client.clock.now
    began = now()
    asking = gevent.spawn(client.request, method, "sip:bench.example")
    if virtual is not None:
        while not asking.ready():
            gevent.sleep(PATIENCE)
            if not asking.ready():
                virtual.advance_to_next()
    response = asking.get(timeout=60)
    if response.status not in (200, 486):
        raise SystemExit(f"bench: the second target has answered {response.status}")
    return now() - began


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--repeat", type=int, default=3, help="measurements of each row (default 3)"
    )
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="rows with this text in their name"
    )
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    options = parser.parse_args()

    results = []
    print("the first target            clock         answered after s   the next request")
    for name, transport, method, target, clock in ROWS:
        if options.only not in name:
            continue
        runs = []
        for number in range(options.repeat):
            progress(f"{name}: {number + 1} of {options.repeat}")
            runs.append(measure(transport, method, target, clock))
        progress("")
        first, following = (median(run[place] for run in runs) for place in (0, 1))
        print(f"{name:26}  {clock:12}  {first:16.3f}  {following:17.3f}", flush=True)
        results.append(
            {
                "name": name,
                "clock": clock,
                "seconds": [run[0] for run in runs],
                "next": [run[1] for run in runs],
            }
        )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(
                {
                    "machine": machine(),
                    "time": time.time(),
                    "options": vars(options),
                    "rows": results,
                },
                file,
                indent=1,
            )


if __name__ == "__main__":
    main()
