"""Calls over TLS while the certificates are read again every second: does one of them fail?

Calls (INVITE, 200, ACK, BYE, 200) begin at a steady rate: most on connections that stay open, every
fourth on a new one. Meanwhile the server's certificate file is replaced again and again, and the
server reads it. No call may fail, and new connections must see both certificates.
"""

import argparse
import collections
import itertools
import json
import os
import shutil
import sys
import tempfile
import time

import gevent
from generator import certificate, free_port
from gevent import socket, ssl
from gevent.pool import Group
from gevent.queue import Queue
from server import ROOT, ServerError, Uas, cores, stop_on_sigterm
from stateful import machine, progress

sys.path.insert(0, str(ROOT))
from sippet_gevent import Framer, SIPError, parse

EXAMPLES = """examples:
  python bench/reload.py                            200 calls/s for 20 s, certificates every second
  python bench/reload.py --seconds 60 --every 0.1   longer, and ten times as often
"""
STANDING = 20  # connections that stay open
FRESH = 4  # one call in so many has a new connection
PATIENCE = 10.0  # seconds until a missing response is a failure
REQUEST = (
    "{method} sip:bench@127.0.0.1:{remote} SIP/2.0\r\nVia: SIP/2.0/TLS "
    "127.0.0.1:{local};branch=z9hG4bK{number}{method};rport\r\n"
    "Max-Forwards: 70\r\nFrom: <sip:caller@127.0.0.1>;tag=f{number}\r\nTo: "
    "<sip:bench@127.0.0.1>{to_tag}\r\n"
    "Call-ID: {number}@reload\r\nCSeq: {cseq} {method}\r\nContact: "
    "<sip:caller@127.0.0.1:{local};transport=tls>\r\n"
    "Content-Length: 0\r\n\r\n"
)
numbers = itertools.count(time.time_ns())


class Failed(Exception):
    """A call that failed."""


class Line:
    """One TLS connection, and calls over it, one at a time."""

    def __init__(self, port):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.port = port
        self.framer = Framer()
        raw = socket.create_connection(("127.0.0.1", port))
        # no delay of the BYE until TCP acknowledges the ACK
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(raw)
        self.certificate = self.socket.getpeercert(True)

    def call(self):
        number = next(numbers)
        answered = self.ask("INVITE", number, 1)
        if answered.status != 200:
            raise Failed(f"INVITE: {answered.status}")
        to_tag = f";tag={answered.to.tag}"
        self.say("ACK", number, 1, to_tag)
        ended = self.ask("BYE", number, 2, to_tag)
        if ended.status != 200:
            raise Failed(f"BYE: {ended.status}")

    def ask(self, method, number, cseq, to_tag=""):
        self.say(method, number, cseq, to_tag)
        while True:
            for data in self.framer.feed(self.receive()):
                response = parse(data)
                if response.status >= 200 and response.cseq.method == method:
                    return response

    def say(self, method, number, cseq, to_tag):
        local = self.socket.getsockname()[1]
        text = REQUEST.format(
            method=method, number=number, cseq=cseq, to_tag=to_tag, local=local, remote=self.port
        )
        self.socket.sendall(text.encode())

    def receive(self):
        data = self.socket.recv(65536)
        if not data:
            raise Failed("the server has closed the connection")
        return data

    def close(self):
        self.socket.close()


class Callers:
    """Makes calls at a steady rate, and counts their results."""

    def __init__(self, port):
        self.port = port
        self.calls = self.fresh = 0
        self.failures = collections.Counter()
        self.certificates = set()
        self.took = []
        self.standing = Queue()
        self.group = Group()

    def connect(self):
        for _ in range(STANDING):
            self.standing.put(Line(self.port))

    def run(self, rate, seconds):
        began = time.monotonic()
        due = began
        while (now := time.monotonic()) < began + seconds:
            if now < due:
                gevent.sleep(due - now)
                continue
            due += 1 / rate
            self.calls += 1
            self.group.spawn(self.one, self.calls % FRESH == 0)
            if self.calls % rate == 0:
                progress(f"{self.calls} calls, {sum(self.failures.values())} failed")
        self.group.join(PATIENCE)
        self.failures["never ended"] += len(self.group)
        self.group.kill()
        while self.standing.qsize():
            self.standing.get().close()
        progress("")

    def one(self, fresh):
        began = time.monotonic()
        line = None
        try:
            with gevent.Timeout(PATIENCE):
                if fresh:
                    line = Line(self.port)
                    self.fresh += 1
                    self.certificates.add(line.certificate)
                else:
                    line = self.standing.get()
                line.call()
            self.took.append(time.monotonic() - began)
        except (OSError, SIPError, Failed, gevent.Timeout) as error:
            self.failures[f"{type(error).__name__}: {error}"] += 1
            if not fresh and line is not None:
                line.close()
                line = Line(self.port)
        if fresh and line is not None:
            line.close()
        elif line is not None:
            self.standing.put(line)


def replace_again_and_again(path, files, seconds):
    """Replace the certificate file by one file after another, atomically."""
    for file in itertools.cycle(files):
        shutil.copy(file, f"{path}.new")
        os.replace(f"{path}.new", path)
        gevent.sleep(seconds)


def measure(options, directory, core):
    files = [certificate(directory, name) for name in ("first", "second")]
    path = os.path.join(directory, "server.pem")
    shutil.copy(files[0], path)
    port = free_port()
    server = Uas(port, "--transport", "tls", "--cert", path, "--reload", options.every, core=core)
    server.start()
    try:
        server.wait_ready(lambda: server.last_words().startswith("uas ready"))
        replacing = gevent.spawn(replace_again_and_again, path, files, options.every)
        callers = Callers(port)
        callers.connect()
        cpu = server.cpu()
        callers.run(options.rate, options.seconds)
        cpu = server.cpu() - cpu
        replacing.kill()
        return callers, server.stats(), cpu
    finally:
        server.stop()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rate", type=int, default=200, help="calls per second (default 200)")
    parser.add_argument("--seconds", type=float, default=20, help="seconds of calls (default 20)")
    parser.add_argument(
        "--every",
        type=float,
        default=1,
        metavar="SECONDS",
        help="seconds between two certificates (default 1)",
    )
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    options = parser.parse_args()
    if shutil.which("openssl") is None:
        raise SystemExit("bench: no program openssl to make certificates with")

    stop_on_sigterm()
    server_core, load_core = cores()
    if load_core is not None:
        os.sched_setaffinity(0, {load_core})
    with tempfile.TemporaryDirectory(prefix="sippet-bench-") as directory:
        try:
            callers, stats, cpu = measure(options, directory, server_core)
        except ServerError as error:
            raise SystemExit(f"bench: {error}") from error
    failed = sum(callers.failures.values())
    took = sorted(callers.took) or [0.0]
    print(
        f"{callers.calls} calls in {options.seconds:g} s, {callers.fresh} of them on "
        f"connections of their own; "
        f"{stats['reloads']} times the certificates were read again, and "
        f"{len(callers.certificates)} were shown"
    )
    print(f"failed: {failed}")
    for reason, number in callers.failures.most_common():
        if number:
            print(f"  {number:6d}  {reason}")
    print(
        f"a call took {took[len(took) // 2] * 1000:.1f} ms (median), "
        f"{took[int(len(took) * 0.99)] * 1000:.1f} ms (p99), "
        f"and {cpu / callers.calls * 1e6:.0f} us of the server's CPU, handshakes included"
    )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(
                {
                    "machine": machine(),
                    "options": vars(options),
                    "calls": callers.calls,
                    "fresh": callers.fresh,
                    "failures": callers.failures,
                    "certificates": len(callers.certificates),
                    "stats": stats,
                    "cpu_seconds": cpu,
                },
                file,
                indent=1,
            )
    if failed or len(callers.certificates) < 2 or stats["failed_reloads"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
