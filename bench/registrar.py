"""The registrar and proxy under test: REGISTER changes bindings, OPTIONS gets 200, MESSAGE is
forwarded to the phones of a user.

With --stats it prints `stack.stats()` as one line of JSON for each line of standard input, and ends
with that input.
"""

import argparse
import sys

import gevent
from collecting import collect_as_served
from uas import Reloads, print_stats

from sippet_gevent import Location, Registrar, Stack, Timers, forward, implementation


def location_of(options):
    """Return the Location; the package may be an older one that has only memory."""
    if options.database is None:
        return Location()
    from sippet_gevent import SQLiteBindings

    return Location(SQLiteBindings(options.database))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int, help="port on 127.0.0.1, UDP")
    parser.add_argument("--database", metavar="FILE", help="SQLite file (default: memory)")
    parser.add_argument(
        "--stats",
        action="store_true",
        help="answer each line of standard input with the statistics",
    )
    parser.add_argument(
        "--linger", type=float, metavar="SECONDS", help="length of timer J (default 32: 64*T1)"
    )
    options = parser.parse_args()

    collect_as_served()
    location = location_of(options)
    stack = Stack(f"udp:127.0.0.1:{options.port}", timers=Timers(j=options.linger))
    stack.on("REGISTER")(Registrar(location))

    @stack.on("OPTIONS")
    def answer(request, tx):
        return 200

    @stack.on("MESSAGE")
    def relay(request, tx):
        targets = location.lookup(request.uri)
        return forward(request, tx, *targets) if targets else 480

    if options.stats:
        gevent.spawn(print_stats, stack, Reloads(stack, None), None)
    print(f"registrar ready, {implementation}", file=sys.stderr, flush=True)
    stack.serve_forever()


if __name__ == "__main__":
    main()
