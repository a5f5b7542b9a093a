"""What a store of bindings costs, and what it survives: memory and SQLite beside a bare echo.

* refresh: CPU of one REGISTER that refreshes a binding, in rounds that alternate.
* memory: bytes of one binding.
* latency: p99 of OPTIONS while bindings are written, and while the disk stalls for two seconds.
* processes: two processes write to one SQLite file; no acknowledged update may be lost.
* kill: SIGKILL under load and start again, many times; no acknowledged binding may be lost.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median

from generator import HUMBLE, Generator, failures, free_port
from phones import Phones
from server import (
    BENCH,
    ROOT,
    Server,
    ServerError,
    ahead_of_others,
    cores,
    pinned_to,
    python,
    stop_on_sigterm,
)
from stateful import machine, progress
from units import Load

EXAMPLES = """examples:
  python bench/stores.py                             everything: nine minutes
  python bench/stores.py --only refresh              CPU of a REGISTER: one minute
  python bench/stores.py --only refresh --before ../old     beside another checkout, in one run
  python bench/stores.py --only kill --kills 5 --bindings 10000
  python bench/stores.py --only latency --json latency.json
"""
PARTS = ("refresh", "memory", "latency", "processes", "kill")
READY = 30.0
STALL = 2.0
"""Seconds for which the disk stalls."""


class Registrar(Server):
    """One registrar.py on a port, with its database in a directory."""

    def __init__(self, name, port, *words, core=None, environment=None, before=(), pipes=False):
        command = [*before, *python(BENCH / "registrar.py", port, *words)]
        super().__init__(name, command, core=core, environment=environment, pipes=pipes)
        self.port = port

    def begin(self, generator):
        """Start, and wait for an answer."""
        self.start()
        self.wait_ready(lambda: generator.answers(self.port))

    def stats(self):
        """Return `stack.stats()` of now; for a server with --stats."""
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise ServerError(f"{self.name} ended: {self.last_words()}")
        return json.loads(line)

    def kill(self):
        """End it as a power failure of its machine would, apart from the disk's own cache."""
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()


# ---- refresh


class Registrations:
    """REGISTER requests of the same users to one server, in rounds."""

    def __init__(self, load, port, options):
        self.load, self.port, self.users = load, port, options.users
        self._cseq = 1

    def command(self, count, rate, *, busy=False):
        """Return the command that registers `count` times. Each user has one Contact for ever."""
        more = ["-b"] if busy and self.load.core is not None else []
        words = [Path(self.load.directory.name, "calls"), "-n", count, "-r", rate, *more]
        words += ["-u", self.users, "-s", self._cseq, "register", "127.0.0.1", self.port]
        self._cseq += count // self.users + 1
        return [*pinned_to(self.load.core), *map(str, words)]

    def run(self, count, rate):
        """Register `count` times, and return the counts."""
        done = subprocess.run(
            self.command(count, rate, busy=True), stdout=subprocess.PIPE, timeout=600, check=False
        )
        return json.loads(done.stdout)


def refresh(options, generator, load, directory):
    """CPU of one REGISTER that refreshes a binding."""
    core, _ = cores()
    echo_port = free_port()
    servers = {"echo": Server("echo", python(BENCH / "echo.py", echo_port), core=core)}
    if options.before:
        old = {"PYTHONPATH": str(Path(options.before).resolve())}
        servers["before"] = Registrar("before", free_port(), core=core, environment=old)
    servers["memory"] = Registrar("memory", free_port(), core=core)
    servers["sqlite"] = Registrar(
        "sqlite", free_port(), "--database", directory / "refresh.db", core=core
    )
    loads = {
        name: Registrations(load, server.port, options)
        for name, server in servers.items()
        if name != "echo"
    }
    rounds = {name: [] for name in servers}
    try:
        for name, server in servers.items():
            progress(f"refresh: starting {name}, {options.users} users register")
            server.start()
            port = echo_port if name == "echo" else server.port
            server.wait_ready(lambda port=port, name=name: generator.answers(port, name == "echo"))
            if name != "echo":
                loads[name].run(options.users, options.pace)
        for number in range(options.rounds):
            turn = number % len(servers)
            names = list(servers)
            for name in names[turn:] + names[:turn]:
                progress(f"refresh: round {number + 1} of {options.rounds}: {name}")
                before = servers[name].cpu()
                if name == "echo":
                    result = generator.run(
                        echo_port, requests=options.requests, rate=options.pace, window=512,
                        echo=True,
                    )  # fmt: skip
                else:
                    result = loads[name].run(options.requests, options.pace)
                spent = servers[name].cpu() - before
                failed = options.requests - result["ok"]
                rounds[name].append({"cpu_us": spent / options.requests * 1e6, "failures": failed})
    finally:
        for server in servers.values():
            server.stop()
    return {name: summary(each, rounds["echo"]) for name, each in rounds.items()}


def summary(rounds, echo):
    spent = [each["cpu_us"] for each in rounds]
    ratios = [mine / its["cpu_us"] for mine, its in zip(spent, echo, strict=True)]
    return {
        "cpu_us": {"median": median(spent), "min": min(spent), "max": max(spent)},
        "echoes": median(ratios),
        "failures": sum(each["failures"] for each in rounds),
        "rounds": rounds,
    }


def show_refresh(figures):
    lines = [
        "REFRESH     CPU us per REGISTER     times              ",
        "            median    min    max     echo     failures",
    ]
    for name, each in figures.items():
        cpu = each["cpu_us"]
        lines.append(
            f"  {name:8}  {cpu['median']:6.1f} {cpu['min']:6.1f} {cpu['max']:6.1f}   "
            f"{each['echoes']:6.2f}     {each['failures']:8d}"
        )
    more = figures["sqlite"]["echoes"] - figures["memory"]["echoes"]
    if any(each["failures"] for each in figures.values()):  # a refusal costs less than an update
        lines.append("  no comparison, because REGISTERs were refused: lower --pace")
    else:
        lines.append(f"  SQLite takes {more:.1f} bare echoes more than memory (goal: 20)")
    return "\n".join(lines)


# ---- memory

CHILD = """
import gc, json, sys, tracemalloc
from sippet_gevent import Binding, FlowName, MemoryBindings, SQLiteBindings
from sippet_gevent.message import address, uri
from sippet_gevent.message.address import NameAddr
from sippet_gevent.stores.bindings import compact
kind, database, count, shape = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
store = SQLiteBindings(database, synchronous="NORMAL") if kind == "sqlite" else MemoryBindings()
ends_at = store.now() + 3600

def bound(n):
    text = f"<sip:user{n:07d}@127.0.{n // 250 % 250}.{n % 250 + 1}:5062;transport=udp>;q=0.5"
    path, flow = (), None
    if shape == "path":
        text += f';+sip.instance="<urn:uuid:00000000-0000-4000-8000-{n:012d}>";reg-id=1'
        path = (compact(NameAddr.parse(f"<sip:edge{n:06d}@edge.example.com;lr;ob>")),)
    contact = compact(NameAddr.parse(text))
    call_id, listener = f"{n:016x}@127.0.0.1", sys.intern("udp:127.0.0.1:5060")
    ends = ends_at + n % 600
    return Binding(contact.uri, ends, call_id, n, contact, path, flow, False, (), listener)

def fill(first, last):
    for n in range(first, last):
        binding = (bound(n),)
        store.update(f"sip:user{n}@example.com", lambda before: binding)

tracemalloc.start()
def forget():  # texts that the parser remembers would be counted for the bindings, or against them
    address._known.cache_clear()
    uri._remembered.cache_clear()
    gc.collect()

fill(0, 200)
forget()
before = tracemalloc.get_traced_memory()[0]
fill(200, 200 + count)
forget()
print(json.dumps({"bytes": (tracemalloc.get_traced_memory()[0] - before) / count}))
store.close()
"""


def memory(options, generator, load, directory):
    """Bytes of one binding in a store, as tracemalloc counts them. SQLite has its read cache."""
    found = {}
    for kind in ("memory", "sqlite"):
        for shape in ("contact", "path"):
            progress(f"memory: {options.sample} bindings, {kind}, {shape}")
            done = subprocess.run(
                python("-c", CHILD, kind, directory / f"{shape}.db", str(options.sample), shape),
                capture_output=True, text=True, check=False,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
            if done.returncode:
                raise ServerError(done.stderr.strip().splitlines()[-1])
            found[f"{kind}, {shape}"] = json.loads(done.stdout)["bytes"]
    return found


def show_memory(figures):
    lines = ["MEMORY      bytes of one binding (goal: memory 1536)"]
    return "\n".join(lines + [f"  {name:18} {each:6.0f}" for name, each in figures.items()])


# ---- latency


def latency(options, generator, load, directory):
    """p99 of OPTIONS beside writes of bindings, in milliseconds, for each round."""
    shim = directory / "stall.so"
    stalled = directory / "stall"
    build = [
        os.environ.get("CC") or shutil.which("cc") or "gcc",
        *("-O2", "-shared", "-fPIC", "-o", shim, BENCH / "stall.c", "-ldl"),
    ]
    subprocess.run(build, check=True)
    core, _ = cores()
    ahead = ahead_of_others()
    sqlite = Registrar(
        "sqlite", free_port(), "--database", directory / "latency.db", core=core, before=ahead,
        environment={"STALL_WHILE": str(stalled), "LD_PRELOAD": str(shim)},
    )  # fmt: skip
    store = Registrar("memory", free_port(), core=core, before=ahead)
    found = {name: [] for name in ("idle", "idle again", "memory", "sqlite", "stalled")}
    refused = Counter()
    writers = {}
    try:
        for server in (store, sqlite):
            server.begin(generator)
            writers[server] = Registrations(load, server.port, options)
            writers[server].run(options.users, 1000)
        for number in range(options.rounds):
            for name in found:
                progress(f"latency: round {number + 1} of {options.rounds}: {name}")
                server = store if name == "memory" else sqlite
                writes = 0 if name.startswith("idle") else options.writes
                with Writer(writers[server], writes, options.seconds) as writer:
                    if name == "stalled":
                        stalled.touch()
                        threading.Timer(STALL, stalled.unlink).start()
                    result = ask(generator, server.port, options, ahead)
                refused.update({name: writer.result["other"]} if writes else {})
                found[name].append({"p99_ms": result["p99_us"] / 1000, "lost": failures(result)})
                if name == "stalled":
                    time.sleep(STALL)  # the breaker closes again
    finally:
        stalled.unlink(missing_ok=True)
        for server in (store, sqlite):
            server.stop()
    return {
        name: {
            "p99_ms": median(each["p99_ms"] for each in rounds),
            "times_idle": median(
                each["p99_ms"] / max(0.01, idle["p99_ms"])
                for each, idle in zip(rounds, found["idle"], strict=True)
            ),
            "lost": sum(each["lost"] for each in rounds),
            "refused": refused[name],
            "rounds": rounds,
        }
        for name, rounds in found.items()
    }


def ask(generator, port, options, ahead):
    """Send OPTIONS at a steady rate, and return the counts and latencies."""
    words = ("-n", int(options.rate * options.seconds), "-r", options.rate, "-w", 256)
    command = [*ahead, *generator.command(port, *words, busy=False)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout)


class Writer:
    """REGISTER requests at a steady rate, in the background."""

    def __init__(self, registrations, rate, seconds):
        self.process = self.result = None
        if rate:
            command = registrations.command(int(rate * (seconds + 0.5)), rate)
            self.process = subprocess.Popen([*HUMBLE, *command], stdout=subprocess.PIPE)

    def __enter__(self):
        if self.process is not None:
            time.sleep(0.25)
        return self

    def __exit__(self, *exc_info):
        if self.process is not None:
            self.result = json.loads(self.process.communicate(timeout=120)[0])


def show_latency(figures):
    lines = [
        "LATENCY     p99 of OPTIONS   times idle   OPTIONS lost   REGISTERs refused (goal: 1.5)"
    ]
    for name, each in figures.items():
        lines.append(
            f"  {name:10} {each['p99_ms']:10.2f} ms   {each['times_idle']:10.2f}   "
            f"{each['lost']:12d}   {each['refused']:17d}"
        )
    return "\n".join(lines)


# ---- processes


def processes(options, generator, load, directory):
    """Two processes on one file: what each acknowledged is there at the end, in both."""
    names = [f"u{number}" for number in range(50)]
    servers = [
        Registrar(f"process {n}", free_port(), "--database", directory / "two.db", "--stats",
            pipes=True)
        for n in (1, 2)
    ]  # fmt: skip
    try:
        for server in servers:
            server.begin(generator)
        phones = [Phones(f"p{n}", server.port, names) for n, server in enumerate(servers)]
        start = time.monotonic()
        sent = 0
        while (passed := time.monotonic() - start) < options.minutes * 60:
            progress(f"processes: {options.minutes * 60 - passed:.0f} s left")
            while sent <= passed * 100:
                sent += 1
                for each in phones:
                    each.register()
            for each in phones:
                each.read(0.003)
        for each in phones:
            each.settle()
        lost = sum(len(each.lost()) for each in phones)
        for one, other in (phones, phones[::-1]):  # each server shows what the other has stored
            one.port, other.port = other.port, one.port
            lost += len(one.lost())
            one.port, other.port = other.port, one.port
        stats = [flat(server.stats()) for server in servers]
    finally:
        for server in servers:
            server.stop()
    return {
        "sent": sent * 2,
        "statuses": dict(sum((Counter(each.statuses) for each in phones), Counter())),
        "unanswered": sum(len(each.waiting) for each in phones),
        "lost": lost,
        "counters": {k: [each.get(k) for each in stats] for k in stats[0] if "store" in k},
    }


def flat(stats, prefix=""):
    """Return nested statistics as one dict."""
    found = {}
    for key, value in stats.items():
        found.update(
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        )
    return found


def show_processes(figures):
    return (
        f"PROCESSES   {figures['sent']} REGISTERs to two processes on one file: answers "
        f"{figures['statuses']}, {figures['unanswered']} unanswered\n"
        f"  acknowledged updates lost: {figures['lost']} (goal: 0)\n"
        f"  counters of both: {figures['counters']}"
    )


# ---- kill


def kill(options, generator, load, directory):
    """SIGKILL under 200 REGISTERs a second, and start again."""
    path, port = directory / "kill.db", free_port()
    server = Registrar("sqlite", port, "--database", path)
    server.begin(generator)
    progress(f"kill: {options.bindings} users register")
    crowd = Phones("crowd", port, (f"c{number}" for number in range(options.bindings)))
    busy = Phones("busy", port, (f"b{number}" for number in range(1000)))
    callee = Phones("callee", port, ["callee"])
    callee.register()
    callee.settle()
    try:
        fill(crowd)
        starts, lost, acknowledged = [], 0, 0
        for number in range(options.kills):
            progress(f"kill: {number + 1} of {options.kills}, {lost} lost")
            sent = busy.run(random.uniform(0.5, 2.0), 200)
            server.kill()
            server.log.close()
            busy.read(0.01)
            busy.forget()
            acknowledged += sent
            server = Registrar("sqlite", port, "--database", path)
            began = time.monotonic()
            server.start()
            while callee.call("callee", 0.2) != 200:
                if time.monotonic() - began > READY:
                    raise ServerError(f"no call after {READY:.0f} s: {server.last_words()}")
            starts.append(time.monotonic() - began)
            lost += len(busy.lost())
            sample = random.sample(crowd.users, min(100, len(crowd.users)))
            lost += len(crowd.lost(sample))
        progress("kill: looking at every binding")
        for first in range(0, len(crowd.users), 2000):
            lost += len(crowd.lost(crowd.users[first : first + 2000]))
    finally:
        server.stop()
    return {
        "bindings": len(crowd.acknowledged),
        "kills": options.kills,
        "sent": acknowledged,
        "statuses": busy.statuses,
        "unanswered": busy.late,
        "lost": lost,
        "first_call_s": {"median": median(starts), "max": max(starts)},
    }


def fill(crowd):
    """Register each user once, some dozens at a time."""
    while missing := [user for user in crowd.users if user not in crowd.acknowledged][:2000]:
        part = Phones(crowd.name, crowd.port, missing)
        part.cseq.update({user: crowd.cseq[user] for user in missing})
        for _ in missing:
            part.register()
            if len(part.waiting) > 40:
                part.settle(most=20)
        part.settle()
        crowd.acknowledged.update(part.acknowledged)
        crowd.cseq.update(part.cseq)
        part.close()
        progress(f"kill: {len(crowd.acknowledged)} of {len(crowd.users)} users have registered")
        if len(part.acknowledged) < len(missing):
            time.sleep(1)  # the others got 503


def show_kill(figures):
    call = figures["first_call_s"]
    return (
        f"KILL        {figures['kills']} times SIGKILL with {figures['bindings']} bindings, "
        f"{figures['sent']} REGISTERs sent, {figures['unanswered']} of them unanswered\n"
        f"  acknowledged bindings lost: {figures['lost']} (goal: 0)\n"
        f"  first call after a start: median {call['median']:.2f} s, at most {call['max']:.2f} s "
        "(goal: 2)"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", metavar="PARTS", default=",".join(PARTS), help="parts (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds of refresh and latency (default 5)"
    )
    parser.add_argument(
        "--requests", type=int, default=10000, help="REGISTERs of a round (default 10000)"
    )
    parser.add_argument(
        "--pace", type=int, default=1000, help="REGISTERs a second of refresh (default 1000)"
    )
    parser.add_argument("--users", type=int, default=10000, help="users (default 10000)")
    parser.add_argument(
        "--before", metavar="DIRECTORY", help="another checkout, to compare its memory store"
    )
    parser.add_argument(
        "--sample", type=int, default=20000, help="bindings whose memory is counted (default 20000)"
    )
    parser.add_argument(
        "--rate", type=int, default=500, help="OPTIONS a second of latency (default 500)"
    )
    parser.add_argument(
        "--writes", type=int, default=500, help="REGISTERs a second of latency (default 500)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=5,
        help="seconds of each measurement of latency (default 5)",
    )
    parser.add_argument("--minutes", type=float, default=1, help="minutes of processes (default 1)")
    parser.add_argument("--kills", type=int, default=50, help="kills (default 50)")
    parser.add_argument(
        "--bindings", type=int, default=100_000, help="bindings of kill (default 100000)"
    )
    parser.add_argument(
        "--directory", metavar="DIRECTORY", help="where the database files are (default: /tmp)"
    )
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    options = parser.parse_args()
    parts = options.only.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")

    stop_on_sigterm()
    _, load_core = cores()
    figures = {}
    with (
        Generator(load_core) as generator,
        Load(load_core) as load,
        tempfile.TemporaryDirectory(prefix="sippet-stores-", dir=options.directory) as directory,
    ):
        for part in parts:
            try:
                figures[part] = globals()[part](options, generator, load, Path(directory))
            except ServerError as error:
                raise SystemExit(f"bench: {error}") from error
            finally:
                progress("")
            print(globals()[f"show_{part}"](figures[part]), end="\n\n", flush=True)
    if options.json:
        with open(options.json, "w") as file:
            everything = {"machine": machine(), "options": vars(options), "figures": figures}
            json.dump(everything, file, indent=1)
    if any(figures[part]["lost"] for part in ("processes", "kill") if part in figures):
        sys.exit(1)


if __name__ == "__main__":
    main()
