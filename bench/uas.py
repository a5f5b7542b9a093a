"""The stateful OPTIONS server of ours: a transaction for each request, a core that answers 200.

INFO gets a large body. MESSAGE gets the response of its Request-URI to an OPTIONS, after a name is
resolved. INVITE gets 200, and the call lasts until the caller hangs up. With --stats it prints
`stack.stats()` as one line of JSON for each line of standard input, and ends with that input.
"""

import argparse
import json
import sys
import time

import gevent
from collecting import collect_as_served
from gevent.fileobject import FileObjectPosix

from sippet_gevent import (
    TLS,
    DNSResolver,
    Limits,
    SIPError,
    Stack,
    StreamLimits,
    Timers,
    implementation,
)

SPARE = 100
"""Connections beyond --flows: those that measure while the others are idle."""

LARGE = b"x" * 8192
"""The body of an answer to INFO."""


CALL = 30
"""Seconds a call lasts at most."""


class Reloads:
    """Reloads the certificates periodically, and counts."""

    def __init__(self, stack, seconds):
        self.count = self.failed = 0
        self._stack = stack
        if seconds:
            gevent.spawn(self._run, seconds)

    def _run(self, seconds):
        while True:
            gevent.sleep(seconds)
            try:
                self._stack.reload_tls()
                self.count += 1
            except SIPError:
                self.failed += 1


class Turns:
    """Measures the turns of the loop by CPU time, from its wake-up until it waits again."""

    def __init__(self):
        self._began = self._longest = 0.0
        loop = gevent.get_hub().loop
        self._watchers = loop.check(ref=False), loop.prepare(ref=False)
        for watcher, callback in zip(self._watchers, (self._begin, self._end), strict=True):
            watcher.start(callback)

    def take_longest(self):
        """Milliseconds of the longest turn since the last call."""
        longest, self._longest = self._longest, 0.0
        return longest * 1e3

    def _begin(self):
        self._began = time.thread_time()

    def _end(self):
        self._longest = max(self._longest, time.thread_time() - self._began)


def print_stats(stack, reloads, turns):
    for _ in FileObjectPosix(sys.stdin.fileno(), "rb", close=False):
        more = {"reloads": reloads.count, "failed_reloads": reloads.failed}
        if turns is not None:
            more["longest_turn_ms"] = turns.take_longest()
        print(json.dumps({**stack.stats(), **more}), flush=True)
    stack.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int, help="port on 127.0.0.1")
    parser.add_argument(
        "--transport",
        metavar="NAMES",
        default="udp",
        help="udp, tcp, tls, ws or wss; several, separated by commas, take the ports "
        "behind it (default udp)",
    )
    parser.add_argument(
        "--cert", metavar="FILE", help="certificate and key in one PEM file, for tls and wss"
    )
    parser.add_argument(
        "--reload", type=float, metavar="SECONDS", help="seconds between two readings of it"
    )
    parser.add_argument(
        "--flows",
        type=int,
        metavar="N",
        default=StreamLimits().connections,
        help="most connections at the same time (default: that of the library)",
    )
    parser.add_argument(
        "--dns",
        type=int,
        metavar="PORT",
        help="port of the name server on 127.0.0.1 (default: that of the system)",
    )
    parser.add_argument(
        "--collect-seldom",
        action="store_true",
        help="collect garbage as `sippet serve` does",
    )
    parser.add_argument(
        "--stats",
        action="store_true",
        help="answer each line of standard input with the statistics",
    )
    parser.add_argument(
        "--turns",
        action="store_true",
        help="add the longest turn of the loop since the last line",
    )
    parser.add_argument(
        "--linger", type=float, metavar="SECONDS", help="length of timer J (default 32: 64*T1)"
    )
    options = parser.parse_args()

    if options.collect_seldom:
        collect_as_served()
    addresses = [
        f"{name}:127.0.0.1:{options.port + place}"
        for place, name in enumerate(options.transport.split(","))
    ]
    streams = StreamLimits(connections=options.flows + SPARE)
    stack = Stack(
        *addresses,
        timers=Timers(j=options.linger),
        limits=Limits(streams=streams),
        tls=TLS(options.cert) if options.cert else None,
        resolver=DNSResolver(servers=[("127.0.0.1", options.dns)]) if options.dns else None,
    )

    @stack.on("OPTIONS")
    def answer(request, tx):
        return 200

    @stack.on("INFO")
    def tell_all(request, tx):
        return request.response(200, body=LARGE, content_type="text/plain")

    @stack.on("MESSAGE")
    def relay(request, tx):
        return stack.request("OPTIONS", request.uri).status

    @stack.on("INVITE")
    def take_call(request, tx):
        with tx.accept() as call:
            call.wait(CALL)

    if options.stats:
        gevent.spawn(
            print_stats, stack, Reloads(stack, options.reload), Turns() if options.turns else None
        )
    print(f"uas ready, {implementation}", file=sys.stderr, flush=True)
    stack.serve_forever()


if __name__ == "__main__":
    main()
