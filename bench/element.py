"""Our server for units.py: answers OPTIONS and calls, forwards calls to one target, or keeps
registrations."""

import argparse
import json
import sys
import time

import gevent
from collecting import collect_as_served
from gevent.fileobject import FileObjectPosix

from sippet_gevent import TLS, Location, Registrar, Stack, forward

WAIT = 0.1
"""Seconds that the core of `waits` waits before it answers, as for a database."""

SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 6002 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
)


def answer_options(stack, _target):
    stack.on("OPTIONS")(lambda request, tx: 200)


def spend(milliseconds):
    """Use the processor, as a core does that computes."""
    end = time.perf_counter() + milliseconds / 1000
    while time.perf_counter() < end:
        pass


def answer_calls(stack, _target, spent=0.0, waits=0.0):
    @stack.on("INVITE")
    def invite(request, tx):
        if spent:
            spend(spent)
        if waits:
            gevent.sleep(waits)
        tx.respond(180)
        with tx.accept(body=SDP, content_type="application/sdp") as call:
            call.wait()


def answer_late(stack, _target, spent=0.0):
    answer_calls(stack, _target, spent, WAIT)


def forward_calls(stack, target, spent=0.0):
    target = f"sip:bob@127.0.0.1:{target}"

    @stack.on()
    def route(request, tx):
        if tx.take_route() and not stack.is_local(request.uri):
            return forward(request, tx)
        if request.method == "ACK" or request.to.tag is not None:
            return 481
        if spent:
            spend(spent)
        return forward(request, tx, target, record_route=True)


def keep_registrations(stack, _target):
    stack.on("REGISTER")(Registrar(Location()))


def print_stats(stack):
    """Write `stack.stats()` as a line of JSON for each line of standard input."""
    for _ in FileObjectPosix(sys.stdin.fileno(), "rb", close=False):
        print(json.dumps(stack.stats()), flush=True)
    stack.stop()


UNITS = {
    "options": answer_options,
    "call": answer_calls,
    "waits": answer_late,
    "proxied": forward_calls,
    "register": keep_registrations,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("unit", choices=UNITS)
    parser.add_argument("port", type=int, help="port on 127.0.0.1")
    parser.add_argument("target", type=int, nargs="?", help="port of the callee, for proxied")
    parser.add_argument("--spend", type=float, default=0, metavar="MS", help="CPU of each INVITE")
    parser.add_argument("--stats", action="store_true", help="print statistics on request")
    parser.add_argument(
        "--cert", metavar="FILE", help="certificate and key in one PEM file: serves TLS, too"
    )
    options = parser.parse_args()
    secure = [f"tls:127.0.0.1:{options.port}"] if options.cert else []
    tls = TLS(options.cert) if options.cert else None
    stack = Stack(f"udp:127.0.0.1:{options.port}", *secure, tls=tls)
    if options.spend:
        UNITS[options.unit](stack, options.target, options.spend)
    else:
        UNITS[options.unit](stack, options.target)
    stack.start()
    collect_as_served()
    if options.stats:
        gevent.spawn(print_stats, stack)
    print("element ready", file=sys.stderr, flush=True)
    stack.serve_forever()


if __name__ == "__main__":
    main()
