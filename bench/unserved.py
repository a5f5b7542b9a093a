"""CPU of datagrams that are not served, in bare echoes of the same run.

| row | what is sent |
|---|---|
| copy, absorbed | a retransmission of an INVITE that has no answer yet |
| copy, answered | a retransmission of an OPTIONS, which gets the 200 again |
| bad | a datagram that is not SIP |
| 503 and ACK | a new INVITE that is refused for overload, and the ACK to the 503 |
| dropped | a new INVITE that is dropped unread |

Each row is a server of its own on one core. This program sends from the other one, in bursts, and
reads the CPU time of the server before and after. A server is stopped while a burst arrives, so
that it reads a queue, as in a flood. Otherwise the cheaper rows would pay for a wake-up for each
datagram. The states of overload are forced.
"""

import argparse
import os
import signal
import socket
import sys
import time
from contextlib import ExitStack
from statistics import median

from generator import free_ports
from server import BENCH, Server, cores, pinned_to, python, stop_on_sigterm
from stateful import COMPILED, progress
from units import is_bound

COUNT = 2000
"""Datagrams of one round, each with a branch of its own."""

BURST = 64
PAUSE = 0.004

REQUEST = (
    "{method} sip:bob@127.0.0.1 SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{number};rport\r\nMax-Forwards: 70\r\n"
    'From: "Alice" <sip:alice@127.0.0.1>;tag={number}\r\nTo: <sip:bob@127.0.0.1>{tag}\r\n'
    "Call-ID: {number}@bench\r\nCSeq: 1 {method}\r\nContact: <sip:alice@127.0.0.1:{port}>\r\n"
    "User-Agent: bench\r\nContent-Length: 0\r\n\r\n"
)


def serve(row, port):
    """Run the server of a row."""
    from collecting import collect_as_served

    from sippet_gevent import Stack

    stack = Stack(f"udp:127.0.0.1:{port}")
    stack.on("OPTIONS")(lambda request, tx: 200)
    stack.on("INVITE")(lambda request, tx: tx.wait(60))
    stack.start()
    if row in ("refuse", "drop"):
        overload, shedding = stack.engine.overload, stack.engine.overload.shedding
        overload._begin(overload._now())
        overload._standing = 1e9
        overload._patience = shedding._patience = 0.0
        shedding.budget = 1e9 if row == "refuse" else -1e9
        stack.engine.transports[0]._take = overload.take
        if row == "refuse":
            sys.modules[type(shedding).__module__].SAVED = 1e9
    collect_as_served()
    stack.serve_forever()


class Sender:
    """A socket that sends bursts to a server, and reads what comes back."""

    def __init__(self, port, server):
        self.server = server
        self.socket = socket.socket(type=socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.socket.connect(("127.0.0.1", port))
        self.number = 0

    def make(self, method, number, tag=""):
        port = self.socket.getsockname()[1]
        return REQUEST.format(method=method, port=port, number=number, tag=tag).encode()

    def send(self, datagrams):
        """Send all, and return the answers."""
        answers = []
        for at in range(0, len(datagrams), BURST):
            self.server.send_signal(signal.SIGSTOP)
            for datagram in datagrams[at : at + BURST]:
                self.socket.send(datagram)
            self.server.send_signal(signal.SIGCONT)
            time.sleep(PAUSE)
            answers += self.read()
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            more = self.read()
            answers += more
            if more:
                end = time.monotonic() + 0.3
            time.sleep(0.01)
        return answers

    def read(self):
        answers = []
        while True:
            try:
                answers.append(self.socket.recv(65535))
            except (BlockingIOError, ConnectionRefusedError):
                return answers

    def numbers(self, count):
        self.number += count
        return range(self.number - count, self.number)


def tag_of(answer):
    """Return the To tag of an answer, as text for a To."""
    to = answer.partition(b"\r\nTo: ")[2].partition(b"\r\n")[0].decode()
    return to[to.index(";tag=") :]


class Row:
    """A server, and the CPU of each unit of each round."""

    def __init__(self, name, core):
        self.name, self.spent = name, []
        port = free_ports(1)
        words = python(BENCH / "echo.py", port) if name == "echo" else None
        role = {"503 and ACK": "refuse", "dropped": "drop"}.get(name, "serve")
        words = words or python(BENCH / "unserved.py", "--serve", role, port)
        self.server = Server(name, words, environment=COMPILED, core=core)
        self.server.start()
        self.server.wait_ready(lambda: is_bound(port))
        time.sleep(1)
        self.sender = Sender(port, self.server.process)

    def prepare(self):
        """Send what the round needs, and return its datagrams."""
        sender = self.sender
        if self.name == "copy, absorbed":
            if not sender.number:
                self.kept = [sender.make("INVITE", n) for n in sender.numbers(200)]
                sender.send(self.kept)
                time.sleep(0.5)
                sender.send(self.kept)  # each gets its 100 once more, and then none for 50 ms
            return self.kept * (COUNT // 200)
        if self.name == "bad":
            return [b"\x01\x02 not a message %d" % n for n in sender.numbers(COUNT)]
        method = "INVITE" if self.name in ("503 and ACK", "dropped") else "OPTIONS"
        requests = [sender.make(method, n) for n in sender.numbers(COUNT)]
        if self.name == "copy, answered":
            sender.send(requests)
        return requests

    def round(self, *, counts):
        datagrams = self.prepare()
        time.sleep(0.1)
        before = self.server.cpu()
        answers = self.sender.send(datagrams)
        if self.name == "503 and ACK":
            first = self.sender.number - COUNT
            answers = [answer for answer in answers if b" 503 " in answer[:12]]
            self.sender.send(
                [
                    self.sender.make("ACK", first + place, tag_of(answer))
                    for place, answer in enumerate(answers)
                ]
            )
        spent = self.server.cpu() - before
        if counts:
            self.spent.append(spent / COUNT * 1e6)
            self.answers = len(answers)


ROWS = ("echo", "copy, absorbed", "copy, answered", "bad", "503 and ACK", "dropped")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each row (default 7)")
    parser.add_argument("--serve", nargs=2, metavar=("ROW", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], int(options.serve[1]))
        return
    stop_on_sigterm()
    core, other = cores()
    if other is not None and pinned_to(other):
        os.sched_setaffinity(0, {other})
    with ExitStack() as servers:
        rows = []
        for name in ROWS:
            progress(f"starting {name}")
            rows.append(Row(name, core))
            servers.callback(rows[-1].server.stop)
        for number in range(options.rounds + 1):
            for row in rows:
                progress(f"round {number} of {options.rounds}: {row.name}")
                row.round(counts=number > 0)
    progress("")
    echo = rows[0].spent
    print("                CPU us    min    max  times echo  answers of", COUNT)
    for row in rows:
        ratio = median(a / b for a, b in zip(row.spent, echo, strict=True))
        print(
            f"{row.name:15} {median(row.spent):6.1f} {min(row.spent):6.1f} {max(row.spent):6.1f} "
            f"{ratio:11.2f} {row.answers:8}"
        )


if __name__ == "__main__":
    main()
