"""Goodput of new calls at 2, 5 and 10 times the capacity, and the recovery after it.

| core | what it does |
|---|---|
| call | answers each INVITE with 180 and 200 |
| proxied | forwards it to the generator's other socket, with Record-Route |
| waits | waits 100 ms before it answers, as for a database |

The capacity C is measured before each run: calls per second of a closed loop. Then calls begin at
multiples of C whatever the server does, and an INVITE without answer is repeated after 500 ms, 1 s
(timer A). A call counts when its BYE is answered while calls still begin. The server is on one
core, the generator on the other. With --tls the calls come over TLS, on a few connections, and no
INVITE is repeated (RFC 3261 §17.1.1.2). Where the generator cannot begin ten times C calls, let the
core of the server compute for a while: --spend 0.3.
"""

import argparse
import json
import tempfile
import time
from statistics import median

from generator import certificate, free_ports
from server import (
    BENCH,
    Server,
    ServerError,
    before_others,
    cores,
    pinned_to,
    python,
    stop_on_sigterm,
)
from stateful import COMPILED, machine, progress
from units import Load, is_bound

EXAMPLES = """examples:
  python bench/overload.py                           three cores, three multiples, two minutes
  python bench/overload.py --unit call --seconds 10  longer runs of one of them
  python bench/overload.py --recovery 60             ten times C for a minute before the recovery
  python bench/overload.py --tls                     over TLS, at 2 and 5 times the capacity
  python bench/overload.py --spend 0.3               each INVITE costs the core 0.3 ms more
"""
UNITS = ("call", "proxied", "waits")
MULTIPLES = {"udp": (2, 5, 10), "tls": (2, 5)}
WINDOWS = {"call": 32, "proxied": 32, "waits": 800}
"""Calls in progress while C is measured: enough to keep the server busy, and no queue."""

CONNECTIONS = 16
"""TLS connections, as of a few trunks."""

PATIENCE = 3
"""Seconds that the generator waits for the last calls of a run."""


class Element(Server):
    """The server under test, with its statistics."""

    def __init__(self, unit, spend, core, cert):
        self.unit, self.port = unit, free_ports(2)
        self.target = self.port + 1
        words = [unit, self.port, self.target, "--stats"]
        if spend:
            words += ["--spend", spend]
        if cert:
            words += ["--cert", cert]
        super().__init__(
            unit,
            [*before_others(), *python(BENCH / "element.py", *words)],
            environment=COMPILED,
            core=core,
            pipes=True,
        )

    def stats(self):
        """Return the counters that tell what was refused and dropped."""
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        stats = json.loads(self.process.stdout.readline())
        return {
            "refused": stats["refused"].get("overload", 0),
            "dropped": stats["dropped"].get("overload", 0),
            "kernel": stats["kernel_drops"],
            "at_limits": sum(stats["refused"].values()) - stats["refused"].get("overload", 0),
        }


class Calls(Load):
    """Runs `calls.c` against an Element."""

    def run(self, element, *words):
        mode = "proxied" if element.unit == "proxied" else "call"
        command = [
            *pinned_to(self.core),
            *before_others(),
            f"{self.directory.name}/calls",
            *(["-c", element.target] if mode == "proxied" else []),
            *(["-t", CONNECTIONS] if self.tls else []),
            *([] if self.core is None else ["-b"]),
            *words,
            mode,
            "127.0.0.1",
            element.port,
        ]
        return self.result([str(word) for word in command])


def capacity(load, element, seconds):
    """Return the calls per second of a closed loop, as the median of three runs."""
    window = WINDOWS[element.unit]
    rates = []
    count = 500
    for _ in range(4):
        result = load.run(element, "-n", count, "-r", 1e6, "-w", window, "-g", PATIENCE)
        rate = result["ok"] / result["seconds"]
        rates.append(rate)
        count = max(500, int(rate * seconds / 3))
    return median(rates[1:])


def offered(load, element, rate, seconds):
    """Begin calls at a rate, and return what became of them."""
    before = element.stats()
    count = int(rate * seconds)
    result = load.run(element, "-n", count, "-r", rate, "-g", PATIENCE)
    after = element.stats()
    result |= {name: after[name] - before[name] for name in after}
    result["goodput"] = result["in_time"] / result["begun_seconds"]
    result["offered"] = result["units"] / result["begun_seconds"]
    return result


def recovery(load, element, rate, baseline, most=10):
    """Return the seconds until calls at half the capacity are served as before the overload."""
    start = time.monotonic()
    while time.monotonic() - start < most:
        since = time.monotonic() - start
        result = load.run(element, "-n", max(50, int(rate / 4)), "-r", rate, "-g", PATIENCE)
        if result["ok"] == result["units"] and result["p99_ms"] <= baseline * 1.2:
            return since
    return None


def measure(unit, options, load, core, cert):
    element = Element(unit, options.spend, core, cert)
    try:
        element.start()
        element.wait_ready(lambda: is_bound(element.port))
        time.sleep(1)
        progress(f"{unit}: capacity")
        load.run(element, "-n", 500, "-r", 1e6, "-w", WINDOWS[unit], "-g", PATIENCE)
        most = capacity(load, element, options.seconds)
        first, half = most, most / 2
        before = [
            load.run(element, "-n", int(half), "-r", half, "-g", PATIENCE)["p99_ms"]
            for _ in range(3)
        ]
        rows = {}
        for multiple in options.multiple or MULTIPLES["tls" if cert else "udp"]:
            progress(f"{unit}: {multiple} times the capacity")
            most = capacity(load, element, options.seconds)  # a shared machine changes
            rows[multiple] = offered(load, element, most * multiple, options.seconds)
            rows[multiple]["capacity"] = most
            time.sleep(1)
        progress(f"{unit}: recovery")
        offered(load, element, most * 10, options.recovery)
        seconds = recovery(load, element, half, median(before))
        progress("")
        return {"capacity": first, "p99_ms": median(before), "rows": rows, "recovery": seconds}
    finally:
        element.stop()


def table(unit, result):
    lines = [
        f"{unit}: C = {result['capacity']:.0f} calls per second at the start, "
        f"p99 at half of it {result['p99_ms']:.1f} ms",
        "      C times C  goodput  % of C  p50 ms  p99 ms  503    twice  dropped  by kernel  other "
        " no BYE",
    ]
    for multiple, row in result["rows"].items():
        most = row["capacity"]
        lines.append(
            f"{most:7.0f} {row['offered'] / most:7.1f} {row['goodput']:8.0f} "
            f"{row['goodput'] / most:7.0%} "
            f"{row['p50_ms']:7.1f} {row['p99_ms']:7.1f}  {row['refused']:<6} "
            f"{row['refused_twice']:<6} {row['dropped']:<8} {row['kernel']:<10} "
            f"{row['other'] - row['refused']:<6} {row['broken']}"
            + ("" if row["offered"] > 0.9 * multiple * most else "  (generator too slow)")
        )
    seconds = result["recovery"]
    lines.append(
        "recovery: " + ("not within 10 s" if seconds is None else f"within {seconds:.1f} s")
    )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--unit", choices=UNITS, action="append", help="one core (default: all)")
    parser.add_argument("--multiple", type=int, action="append", help="of C (default: 2, 5, 10)")
    parser.add_argument("--seconds", type=float, default=4, help="of one run (default 4)")
    parser.add_argument(
        "--recovery", type=float, default=4, metavar="SECONDS", help="of ten times C (default 4)"
    )
    parser.add_argument("--spend", type=float, default=0, metavar="MS", help="CPU of each INVITE")
    parser.add_argument("--tls", action="store_true", help="over TLS instead of UDP")
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    options = parser.parse_args()
    stop_on_sigterm()
    server_core, load_core = cores()
    everything = {}
    with Calls(load_core, tls=options.tls) as load, tempfile.TemporaryDirectory() as directory:
        cert = certificate(directory) if options.tls else None
        for unit in options.unit or UNITS:
            try:
                everything[unit] = measure(unit, options, load, server_core, cert)
            except ServerError as error:
                raise SystemExit(f"bench: {error}") from error
            print(table(unit, everything[unit]) + "\n", flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(
                {"machine": machine(), "options": vars(options), "units": everything},
                file,
                indent=1,
            )


if __name__ == "__main__":
    main()
