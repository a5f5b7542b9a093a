"""Ten thousand idle connections in one server process: their memory, their cost, and the delay that
they cause for others.

For each transport a server is started, and `--count` clients connect from several addresses of
127.0.0.0/8, send one OPTIONS each and say nothing more. Another connection sends OPTIONS at a
steady rate: before, while the others are set up, when all are connected, and while all of them
close at the same moment. Then everything is repeated. Memory that returns to the allocator but not
to the kernel is no leak if the second time takes no more than the first. As root, server and
measuring connection have a higher priority than everything else on the machine.
"""

import argparse
import json
import sys
import tempfile
import time

from generator import (
    HUMBLE,
    SECURE,
    Generator,
    certificate,
    failures,
    free_port,
    missing_transports,
)
from server import ServerError, Uas, ahead_of_others, cores, descriptors_for, stop_on_sigterm
from stateful import machine, progress

EXAMPLES = """examples:
  python bench/flows.py                              10000 flows of each transport, twice: 3 min
  python bench/flows.py --only tls --count 1000        a quick look at one
  python bench/flows.py --collect-seldom               as `sippet serve` runs
  python bench/flows.py --plot flows.png --json flows.json
"""
TRANSPORTS = ("tcp", "tls", "ws", "wss")
GOALS = {"tcp": 12_000, "tls": 40_000}
"""Most bytes of memory for each flow."""
# so that each address has at most a thousand, the library's limit for one source
ADDRESSES = 20
AT_ONCE = 32  # most connections that are being set up at the same time
# new ones per second: the server can keep up with as many over each transport
CONNECT_RATE = 1000
SPARE = 200  # descriptors for everything else
SETTLE = 2.0  # seconds for work after the last byte
GONE = 30.0  # seconds until flows that were closed must be forgotten
# seconds that the system lets the server wait, of those in which flows are set up, to tell of it
HELD_UP = 0.04
KILOBYTE = 1e3


class Probe:
    """A further flow, whose requests measure the delay for others."""

    def __init__(self, generator, port, transport, rate):
        self.held = generator.hold(
            port,
            transport=transport,
            connections=1,
            window=64,
            rate=rate,
            busy=False,
            limit=600,
            before=ahead_of_others(),
        )
        if self.held.connected()["open"] != 1:
            raise ServerError("the measuring connection is not connected")

    def for_seconds(self, seconds):
        self.begin()
        time.sleep(seconds)
        return self.end()

    def begin(self):
        self.held.send(0)

    def end(self):
        self.held.send("")
        return self.held.result()


def measure(name, options, generator, core, cert):
    """Measure one transport; return the results as a dict."""
    port = free_port()
    words = ["--transport", name, "--flows", options.count, "--turns"]
    if name in SECURE:
        words += ["--cert", cert]
    if options.collect_seldom:
        words.append("--collect-seldom")
    server = Uas(port, *words, core=core, before=ahead_of_others())
    server.start()
    probe = None
    try:
        server.wait_ready(lambda: generator.answers(port, transport=name))
        generator.run(port, transport=name, connections=10, window=10, requests=5000)
        probe = Probe(generator, port, name, options.rate)
        progress(f"{name}: before")
        seen = {"before": probe.for_seconds(options.seconds), "times": []}
        for number in range(options.repeat):
            title = f"{name}, time {number + 1} of {options.repeat}"
            seen["times"].append(fill(title, port, name, options, generator, server, probe))
        return seen
    finally:
        if probe is not None:
            probe.held.close()
        server.stop()
        progress("")


def fill(title, port, name, options, generator, server, probe):
    """Set the flows up, measure, and close them."""
    base = {
        "rss": server.rss(),
        "fds": server.descriptors(),
        "flows": server.stats()["connections"],
        "cpu": server.cpu(),
    }
    progress(f"{title}: connecting")
    server.stats()  # it reports the longest turn since the last question
    held_up = server.held_up()
    began = time.monotonic()
    probe.begin()
    held = generator.hold(
        port,
        transport=name,
        connections=options.count,
        window=options.count,
        addresses=ADDRESSES,
        parallel=AT_ONCE,
        connect_rate=options.connect_rate,
        rate=options.register_rate,
        busy=False,
        limit=300,
        before=HUMBLE,
    )
    try:
        connected = held.connected()
        answered = held.run(options.count)
        setting_up = probe.end()
        took = time.monotonic() - began
        cpu = server.cpu() - base["cpu"]
        turns = {"setting_up": server.stats()["longest_turn_ms"]}
        held_up = server.held_up() - held_up
        time.sleep(SETTLE)
        full = {
            "rss": server.rss(),
            "fds": server.descriptors(),
            "flows": server.stats()["connections"],
        }
        progress(f"{title}: idle")
        idle = probe.for_seconds(options.seconds)
        alive = server.stats()["connections"]
        probe.begin()
    finally:
        progress(f"{title}: closing")
        held.close()
    closed = time.monotonic()
    turns["closing"] = 0.0
    while True:
        stats = server.stats()
        left = stats["connections"] - base["flows"]
        turns["closing"] = max(turns["closing"], stats["longest_turn_ms"])
        if left <= 0 or time.monotonic() - closed >= GONE:
            break
        time.sleep(0.1)
    gone = time.monotonic() - closed
    time.sleep(SETTLE)
    closing = probe.end()
    return {
        "base": base,
        "full": full,
        "connected": connected,
        "answered": answered,
        "setting_up": setting_up,
        "idle": idle,
        "closing": closing,
        "longest_turn_ms": turns,
        "held_up_seconds": held_up,
        "held": alive - base["flows"],
        "setup_seconds": took,
        "setup_cpu_us": cpu / options.count * 1e6,
        "bytes_each": (full["rss"] - base["rss"]) / options.count,
        "after": {"rss": server.rss(), "fds": server.descriptors(), "flows": left, "seconds": gone},
        "streams": server.stats()["streams"],
    }


def verdict(seen, count):
    """Return why a measurement is invalid, or an empty string."""
    if seen["connected"]["open"] < count:
        return f"only {seen['connected']['open']} connected"
    if failures(seen["answered"]):
        return f"{failures(seen['answered'])} first requests failed"
    if seen["held"] < count:
        return f"only {seen['held']} were held"
    lost = sum(failures(seen[phase]) for phase in ("setting_up", "idle", "closing"))
    if lost:
        return f"{lost} requests beside them failed"
    if seen["after"]["flows"] or seen["after"]["fds"] > seen["base"]["fds"]:
        return (
            f"{seen['after']['flows']} flows and "
            f"{seen['after']['fds'] - seen['base']['fds']} descriptors were never released"
        )
    return ""


def milliseconds(result):
    return f"{result['median_us'] / 1000:5.2f} {result['p99_us'] / 1000:6.2f}"


def table(results, absent, count):
    lines = [
        "                 KB      setup        OPTIONS of another flow, p50 and p99 in "
        "ms                "
        "longest turn, ms     after closing",
        "          held   each    s  CPU us     before       setting up     all there    "
        "   closing      "
        "setting up closing   RSS KB each  fds",
    ]
    for name, seen in results.items():
        for time_, each in enumerate(seen["times"], 1):
            before = milliseconds(seen["before"]) if time_ == 1 else " " * 12
            after, turns = each["after"], each["longest_turn_ms"]
            kept = (after["rss"] - each["base"]["rss"]) / count / KILOBYTE
            lines.append(
                f"{name if time_ == 1 else '':5}  {each['held']:7d}  "
                f"{each['bytes_each'] / KILOBYTE:5.1f}  "
                f"{each['setup_seconds']:4.1f} {each['setup_cpu_us']:6.0f}   {before}  "
                f"{milliseconds(each['setting_up'])}  "
                f"{milliseconds(each['idle'])}  {milliseconds(each['closing'])}  "
                f"{turns['setting_up']:10.1f} {turns['closing']:7.1f}        {kept:6.1f}  "
                f"{after['fds'] - each['base']['fds']:+4d}   {verdict(each, count)}".rstrip()
            )
    lines += [f"{name:5}  not measured: {reason}" for name, reason in absent.items()]
    return "\n".join(lines)


def plot(results, path):
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed", file=sys.stderr)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(results)
    first = [results[name]["times"][0] for name in names]
    figure, (memory, delay) = pyplot.subplots(1, 2, figsize=(10, 3.5))
    memory.bar(names, [each["bytes_each"] / KILOBYTE for each in first], color="0.6")
    memory.set_ylabel("KB of memory for each idle flow")
    for place, (label, values) in enumerate(
        (
            ("before", [results[name]["before"] for name in names]),
            ("while they are set up", [each["setting_up"] for each in first]),
            ("all there", [each["idle"] for each in first]),
        )
    ):
        delay.bar(
            [row + 0.27 * place for row in range(len(names))],
            [each["p99_us"] / 1000 for each in values],
            0.25,
            color=str(0.3 + 0.25 * place),
            label=label,
        )
    delay.set_xticks([row + 0.27 for row in range(len(names))], names)
    delay.set_ylabel("p99 of OPTIONS on another flow, ms")
    delay.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=10000, help="idle flows (default 10000)")
    parser.add_argument(
        "--repeat", type=int, default=2, help="repetitions of setting up and closing (default 2)"
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=200,
        help="OPTIONS per second of the flow that measures (default 200)",
    )
    parser.add_argument(
        "--register-rate",
        type=float,
        default=3000,
        metavar="RATE",
        help="first requests per second, all idle flows together (default 3000)",
    )
    parser.add_argument(
        "--connect-rate",
        type=float,
        default=CONNECT_RATE,
        metavar="RATE",
        help="connections per second (default %(default)s; 0: as fast as the server takes them)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=5,
        help="seconds of measuring before, and when all are connected (default 5)",
    )
    parser.add_argument(
        "--collect-seldom",
        action="store_true",
        help="run Python's full collections as rarely as `sippet serve` does",
    )
    parser.add_argument(
        "--only",
        metavar="NAMES",
        default=",".join(TRANSPORTS),
        help="transports, separated by commas (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--plot", metavar="FILE.png", help="draw memory and delays with matplotlib")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [name for name in names if name not in TRANSPORTS]:
        parser.error(f"no such transport: {', '.join(unknown)}; there are {', '.join(TRANSPORTS)}")
    allowed = descriptors_for(options.count + SPARE)
    if allowed < options.count + SPARE:
        parser.error(
            f"a process may have {allowed} descriptors here: raise the limit (ulimit "
            f"-Hn), or take a smaller --count"
        )

    stop_on_sigterm()
    server_core, load_core = cores()
    results = {}
    with (
        Generator(load_core) as generator,
        tempfile.TemporaryDirectory(prefix="sippet-bench-") as directory,
    ):
        absent = missing_transports(names, tls=generator.tls)
        present = [name for name in names if name not in absent]
        cert = certificate(directory) if any(name in SECURE for name in present) else None
        try:
            for name in present:
                results[name] = measure(name, options, generator, server_core, cert)
        except ServerError as error:
            raise SystemExit(f"bench: {error}") from error

    pace = f"{options.connect_rate:g} a second" if options.connect_rate else f"{AT_ONCE} at a time"
    print(
        f"{options.count} flows, set up {pace}, one OPTIONS each, then idle; beside them "
        f"{options.rate:g} OPTIONS/s\n"
    )
    print(table(results, absent, options.count))
    held_up = [each["held_up_seconds"] for seen in results.values() for each in seen["times"]]
    if held_up and max(held_up) >= HELD_UP:
        print(
            f"\nthe system let the server wait for up to {max(held_up) * 1e3:.0f} ms in "
            f"all while flows were set up: the p99 "
            "beside it is not the server's alone"
        )
    if goals := [f"{name} {GOALS[name] / KILOBYTE:g} KB" for name in results if name in GOALS]:
        print(f"\ngoals for each flow: {', '.join(goals)}")
    if options.json:
        with open(options.json, "w") as file:
            everything = {
                "machine": machine(),
                "options": vars(options),
                "transports": results,
                "absent": absent,
            }
            json.dump(everything, file, indent=1)
    if options.plot:
        plot(results, options.plot)
    if any(verdict(each, options.count) for seen in results.values() for each in seen["times"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
