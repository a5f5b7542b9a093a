"""Fifteen minutes at half capacity: which calls fail, what is left, and whether memory grows.

Two stacks of ours in two processes lose one of a hundred datagrams each. Of the calls that one
makes to the other, one in five is put on hold and resumed, one in ten is cancelled while it rings,
and one in fifty belongs to a peer that vanishes: from then on no datagram of its call arrives. A
tenth as many users register, each for the first time, for one minute. Every unit must succeed,
except those that vanish. In the end all tables must be as at the start, and the memory must not
have grown in the last two thirds.

The rate is half of what one core would do, by the CPU that a call costs at a low rate.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections import Counter
from statistics import mean

import gevent
from generator import free_port
from server import cores, pinned_to, stop_on_sigterm
from stateful import progress

from sippet_gevent import Location, Registrar, Reject, SIPError, Stack, sdp

EXAMPLES = """examples:
  python bench/soak.py                      fifteen minutes, and three until the last timers end
  python bench/soak.py --seconds 120        a quick look
  python bench/soak.py --rate 50            at this rate, whatever the capacity is
"""
AUDIO = sdp.MediaStream("audio", 4000, (sdp.PCMU, sdp.PCMA))
LOSS = 0.01
CALIBRATION = 10.0  # seconds
LOW = 10.0  # calls per second meanwhile
TALK = 1.0  # seconds
SESSION = 90  # seconds until a vanished peer's call ends, the least that RFC 4028 allows
SETTLE = 170.0  # seconds: a session, and the timers of its BYE
EXPIRES = 60
TABLES = (
    "server_transactions", "client_transactions", "calls", "early_dialogs", "handlers",
    "forwarding", "overdue", "greenlets", "connections",
)  # fmt: skip
REPORT = 5.0  # seconds between two looks at the memory


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def lossy(data, flow):
    return random.random() >= LOSS


def serve(port):
    """Answer calls and registrations. Print a line of JSON about this process every REPORT
    seconds."""
    stack = Stack(f"udp:127.0.0.1:{port}", session_expires=SESSION, accept=lossy)
    location = Location()
    stack.on("REGISTER")(Registrar(location))

    @stack.on("INVITE")
    def answer(request, tx):
        tx.respond(180)
        tx.wait(0.2)
        with tx.accept(media=[AUDIO]) as call:
            call.wait()

    def report():
        while True:
            stats = stack.stats()
            tables = {name: stats[name] for name in TABLES}
            line = {
                "rss": resident(),
                "cpu": time.process_time(),
                "tables": tables,
                "errors": stats["core_errors"],
                "refused": stats["refused"],
            }
            print(json.dumps(line), flush=True)
            gevent.sleep(REPORT)

    stack.start()
    gevent.spawn(report)
    stack.serve_forever()


class Load:
    """Calls and registrations at a rate, and what became of them."""

    def __init__(self, port):
        self.uri = f"sip:127.0.0.1:{port}"
        self.gone = set()  # Call-IDs whose datagrams are lost from now on
        self.stack = Stack("udp:127.0.0.1:0", session_expires=SESSION, accept=self.arrives)
        self.results = Counter()
        self.begun = 0
        self.errors = Counter()

    def arrives(self, data, flow):
        return lossy(data, flow) and not (self.gone and self.is_gone(data))

    def is_gone(self, data):
        _, _, rest = data.partition(b"\r\nCall-ID: ")
        return rest.partition(b"\r\n")[0].decode() in self.gone

    def unit(self, number):
        kind = (
            "vanished" if number % 50 == 7
            else "cancelled" if number % 10 == 3
            else "held" if number % 5 == 1
            else "plain"
        )  # fmt: skip
        try:
            getattr(self, kind)(number)
            self.results[kind] += 1
        except SIPError as error:
            self.results[f"{kind} failed"] += 1
            self.errors[f"{kind}: {error!r}"[:160]] += 1

    def plain(self, number):
        with self.stack.invite(self.uri, media=[AUDIO]) as call:
            call.wait(TALK)

    def held(self, number):
        with self.stack.invite(self.uri, media=[AUDIO]) as call:
            call.wait(TALK / 2)
            call.hold()
            call.wait(TALK / 2)
            call.resume()

    def cancelled(self, number):
        try:
            self.stack.invite(
                self.uri, media=[AUDIO], until=gevent.spawn(gevent.sleep, 0.1)
            ).hangup()
        except Reject as refusal:
            if refusal.status != 487:
                raise

    def vanished(self, number):
        """The server's refreshes and BYE meet silence, so it ends the call itself."""
        call = self.stack.invite(self.uri, media=[AUDIO], timeout=30)
        self.gone.add(call.response.call_id)
        try:
            call.wait(SESSION + 60)
            call.hangup()
        except SIPError:
            pass
        gevent.sleep(40)
        self.gone.discard(call.response.call_id)

    def register(self, number):
        user = f"user{random.getrandbits(60):x}"
        host, port = self.stack.engine.transports[0].local
        try:
            response = self.stack.request(
                "REGISTER", self.uri, to=f"<sip:{user}@127.0.0.1>", from_=f"<sip:{user}@127.0.0.1>",
                contact=f"<sip:{user}@{host}:{port}>;expires={EXPIRES}",
            )  # fmt: skip
        except SIPError as error:
            self.results["register failed"] += 1
            self.errors[f"register: {error!r}"[:160]] += 1
        else:
            self.results["registered" if response.status == 200 else "register failed"] += 1

    def run(self, rate, seconds, tell):
        began, asked = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            while asked < passed * rate:
                asked += 1
                self.begun += 1
                gevent.spawn(self.unit, self.begun)
                if self.begun % 10 == 0:
                    gevent.spawn(self.register, self.begun)
            tell(passed)
            gevent.sleep(0.005)


def slope(samples):
    """Return bytes per second, by least squares."""
    middle, level = mean(t for t, _ in samples), mean(size for _, size in samples)
    spread = sum((t - middle) ** 2 for t, _ in samples)
    return sum((t - middle) * (size - level) for t, size in samples) / spread if spread else 0.0


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n\n")[2], epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=900, help="of load (default 900)")
    parser.add_argument("--rate", type=float, help="calls per second (default: half capacity)")
    parser.add_argument("--settle", type=float, default=SETTLE, help=argparse.SUPPRESS)
    parser.add_argument("--serve", metavar="PORT", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    stop_on_sigterm()
    port = free_port()
    core, _ = cores()
    words = [*pinned_to(core), sys.executable, __file__, "--serve", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    reports = []

    def read():
        reader = gevent.get_hub().threadpool
        while line := reader.apply(server.stdout.readline):
            reports.append((time.monotonic(), json.loads(line)))

    gevent.spawn(read)
    load = Load(port)
    try:
        load.stack.start()
        while not reports:
            gevent.sleep(0.1)
        rate = options.rate
        if rate is None:
            before, mine = reports[-1][1]["cpu"], time.process_time()
            load.run(LOW, CALIBRATION, lambda passed: progress(f"calibration {passed:.0f} s"))
            gevent.sleep(REPORT + 1)
            costs = (reports[-1][1]["cpu"] - before, time.process_time() - mine)
            rate = 0.5 * LOW * CALIBRATION / max(costs)
        start = time.monotonic()
        load.run(
            rate, options.seconds, lambda passed: progress(f"{passed:.0f} s, {dict(load.results)}")
        )
        end = time.monotonic()
        while time.monotonic() < end + options.settle:
            progress(
                f"{end + options.settle - time.monotonic():.0f} s until the last timers have ended"
            )
            gevent.sleep(0.5)
        progress("")
        samples = [
            (at, each["rss"]) for at, each in reports if start + options.seconds / 3 < at < end
        ]
        last = reports[-1][1]
        growth = slope(samples)
        noise = max(abs(size - mean(s for _, s in samples)) for _, size in samples)
        own = load.stack.stats()
        print(
            f"{rate:.0f} calls/s for {options.seconds:.0f} s, {LOSS:.0%} of datagrams lost each way"
        )
        for kind, count in sorted(load.results.items()):
            print(f"  {kind:18} {count}")
        for error, count in load.errors.most_common(10):
            print(f"    {count} times {error}")
        mean_rss = mean(size for _, size in samples) / 1e6
        print(
            f"memory of the server in the last two thirds: {mean_rss:.1f} MB, "
            f"noise {noise / 1e6:.1f} MB,"
        )
        print(f"  growth {growth * (end - start) * 2 / 3 / 1e6:+.2f} MB in that time")
        print(
            f"left at the server: {last['tables']}, core errors {last['errors']}, "
            f"refused {last['refused']}"
        )
        print(f"left at the caller: { {name: own[name] for name in TABLES} }")
        failed = sum(n for kind, n in load.results.items() if kind.endswith("failed"))
        left = [name for name, count in last["tables"].items() if count and name != "greenlets"]
        if failed or left or growth * (end - start) * 2 / 3 > noise:
            raise SystemExit(1)
    finally:
        progress("")
        server.terminate()
        load.stack.stop()


if __name__ == "__main__":
    main()
