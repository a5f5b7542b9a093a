"""CPU of whole units of work, ours beside Kamailio, sipgo and servers without SIP, in one run.

| unit | what happens | lower limit |
|---|---|---|
| options | one OPTIONS and its 200, in a transaction | echo |
| call | INVITE, 180, 200, ACK, BYE, 200, answered by the server | echo |
| proxied | the same between two parties, with Record-Route: 13 messages | relay of bytes |
| register | the refresh of one of 10,000 users | echo |

The server is on one core, the load on the other. Units begin at a named rate, because at a low rate
each datagram pays for a wake-up. In every round each server gets the same units, one server after
the other, and the order changes from round to round. Compare ratios of one run only.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from generator import WITH_TLS, free_ports
from server import BENCH, Server, ServerError, cores, pinned_to, python, stop_on_sigterm
from stateful import COMPILED, PURE, machine, missing_gevent, missing_ours, progress, search_path

EXAMPLES = """examples:
  python bench/units.py                                all units, seven rounds
  python bench/units.py --unit proxied --rate 1200     a proxied call, at 1200 per second
  python bench/units.py --only ours,tuned --rounds 15  what ours costs beside Kamailio, more closely
  python bench/units.py --old ../before                ours beside another checkout of it
  python bench/units.py --json units.json --plot units.png
"""
RATES = {"options": 5000, "call": 800, "proxied": 400, "register": 3000}
"""Units begun per second, unless --rate is given. Every server must keep up."""

LIMITS = {"options": "echo", "call": "echo", "proxied": "relay", "register": "echo"}
MESSAGES = {"options": 2, "call": 6, "proxied": 13, "register": 2}
"""Messages of a unit that pass the server, sent and received."""

USERS = 10_000

CONFIGURATIONS = tempfile.TemporaryDirectory(prefix="sippet-bench-")
"""Kamailio's configurations; gone when the bench ends."""


def missing_kamailio():
    return None if shutil.which("kamailio", path=search_path()) else "no program kamailio"


def missing_sipgo():
    return None if shutil.which("go", path=search_path()) else "no program go, which builds it"


def kamailio(unit, port, target, *more):
    configuration = Path(CONFIGURATIONS.name, f"{port}.cfg")
    text = (BENCH / "kamailio_units.cfg").read_text()
    configuration.write_text(text.replace("127.0.0.1:TARGET", f"127.0.0.1:{target}"))
    return [
        shutil.which("kamailio", path=search_path()),
        "-f",
        configuration,
        "-l",
        f"udp:127.0.0.1:{port}",
        "-m",
        "1024",
        "-DD",
        "-E",
        "-A",
        f"UNIT_{unit}",
        *more,
    ]


def tuned(unit, port, target):
    return kamailio(unit, port, target, "-x", "tlsf", "-A", "TUNED")


def ours(unit, port, target):
    return python(BENCH / "element.py", unit, port, target)


def sipgo_binary():
    """Build the sipgo server once, and return its path."""
    binary = Path(tempfile.gettempdir(), "sippet-bench-sipgo")
    source = BENCH / "peers" / "sipgo"
    if not binary.exists() or binary.stat().st_mtime < (source / "main.go").stat().st_mtime:
        progress("building sipgo's server")
        command = [shutil.which("go", path=search_path()), "build", "-o", binary, "."]
        done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerError(f"sipgo's server does not build: {done.stderr.strip()[-300:]}")
    return binary


def sipgo(unit, port, target):
    return [sipgo_binary(), unit, port, target]


def echo(unit, port, target):
    return python(BENCH / "echo.py", port)


def relay(unit, port, target):
    return python(BENCH / "relay.py", port, target)


#           command, environment, why it cannot run, units
SERVERS = {
    "echo": (echo, {}, missing_gevent, ()),
    "relay": (relay, {}, missing_gevent, ("proxied",)),
    "ours": (ours, COMPILED, lambda: missing_ours(COMPILED, "c"), tuple(RATES)),
    "old": (ours, COMPILED, lambda: None, tuple(RATES)),
    "pure": (ours, PURE, lambda: missing_ours(PURE, "python"), tuple(RATES)),
    "kamailio": (kamailio, {}, missing_kamailio, ("options", "proxied", "register")),
    "tuned": (tuned, {}, missing_kamailio, ("options", "proxied", "register")),
    "sipgo": (sipgo, {}, missing_sipgo, tuple(RATES)),
}


def is_bound(port):
    return f":{port:04X} 00000000:0000 " in Path("/proc/net/udp").read_text()


class Load:
    """Builds `calls.c` and `load.c` in a temporary directory and runs them on the other core."""

    def __init__(self, core, *, tls=False):
        self.core, self.tls = core, tls

    def __enter__(self):
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise SystemExit("bench: calls.c needs a C compiler: install cc, or set CC")
        self.directory = tempfile.TemporaryDirectory(prefix="sippet-bench-")
        for name in ("calls", "load"):
            binary = Path(self.directory.name, name)
            more = WITH_TLS if self.tls else ()
            subprocess.run([compiler, "-O2", "-o", binary, BENCH / f"{name}.c", *more], check=True)
        return self

    def __exit__(self, *exc_info):
        self.directory.cleanup()

    def result(self, command):
        """Run a command and return the JSON that it prints."""
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=300, check=False)
        return json.loads(done.stdout)

    def run(self, unit, port, target, count, rate, first_cseq, is_echo):
        """Run `count` units and return `{"ok": …, "units": …}`."""
        busy = [] if self.core is None else ["-b"]
        if unit == "options" or is_echo:
            words = ["load", "-n", count, "-r", rate, "-w", 512, "-t", 120, *busy]
            words += ["-e"] if is_echo else []
            words += ["127.0.0.1", port]
        else:
            words = ["calls", "-n", count, "-r", rate, "-c", target, "-s", first_cseq, *busy]
            words += [unit, "127.0.0.1", port]
        command = [*pinned_to(self.core), Path(self.directory.name, words[0]), *words[1:]]
        result = self.result([str(word) for word in command])
        return {"ok": result["ok"], "units": count, "resent": result["resent"]}


class Contestant:
    """A server of one unit, and its measurements."""

    def __init__(self, name, unit, core, old):
        command, environment, _, _ = SERVERS[name]
        if name == "old":
            environment = {**environment, "PYTHONPATH": str(old)}
        self.name, self.unit, self.is_echo = name, unit, name == "echo"
        self.port = free_ports(2)
        self.target = self.port + 1
        words = command(unit, self.port, self.target)
        self.server = Server(name, words, environment=environment, core=core)
        self.rounds, self.resent, self.failed, self._cseq = [], 0, 0, 1

    def start(self):
        self.server.start()
        self.server.wait_ready(lambda: is_bound(self.port))
        time.sleep(0.5)  # Kamailio's worker begins to read a moment later

    def round(self, load, count, rate, *, counts=True):
        rate = rate * MESSAGES[self.unit] // 2 if self.is_echo else rate
        before = self.server.cpu()
        result = load.run(self.unit, self.port, self.target, count, rate, self._cseq, self.is_echo)
        spent = self.server.cpu() - before
        self._cseq += count // USERS + 1
        if not result["ok"]:
            raise ServerError(f"{self.name} served nothing: {self.server.last_words()}")
        if counts:
            self.rounds.append(spent / result["ok"] * 1e6)
            self.failed += result["units"] - result["ok"]
            self.resent += result["resent"]


def measure(unit, names, options, load, core):
    """Run all rounds of a unit; return `{name: summary}`."""
    rate = options.rate or RATES[unit]
    count = options.count or max(1000, int(rate * options.seconds))
    contestants = [
        Contestant(name, unit, core, options.old)
        for name in names
        if unit in SERVERS[name][3] or name == "echo"
    ]
    with ExitStack() as servers:
        for each in contestants:
            progress(f"{unit}: starting {each.name}")
            servers.callback(each.server.stop)
            each.start()
        for each in contestants:
            progress(f"{unit}: warming up {each.name}")
            if unit == "register" and not each.is_echo:
                each.round(load, USERS, max(rate, RATES[unit]), counts=False)
            else:
                each.round(load, max(count // 4, 100), rate, counts=False)
        for number in range(options.rounds):
            turn = number % len(contestants)
            for each in contestants[turn:] + contestants[:turn]:
                progress(f"{unit}: round {number + 1} of {options.rounds}: {each.name}")
                each.round(load, count, rate)
        progress("")
    limit = {each.name: each.rounds for each in contestants}.get(LIMITS[unit])
    return {
        each.name: {
            "cpu_us": median(each.rounds),
            "min_us": min(each.rounds),
            "max_us": max(each.rounds),
            "ratio": median(a / b for a, b in zip(each.rounds, limit, strict=True))
            if limit
            else None,
            "rounds": each.rounds,
            "failed": each.failed,
            "resent": each.resent,
        }
        for each in contestants
    }


def table(unit, rate, results):
    lines = [
        f"{unit}, {rate} per second",
        f"{'':10} CPU us    min    max   times {LIMITS[unit]:6}  failed  resent",
    ]
    for name, result in results.items():
        ratio = "" if result["ratio"] is None else f"{result['ratio']:.2f}"
        lines.append(
            f"{name:10} {result['cpu_us']:6.1f} {result['min_us']:6.1f} {result['max_us']:6.1f} "
            f"{ratio:>13} {result['failed']:7} {result['resent']:7}"
        )
    return "\n".join(lines)


def plot(everything, path):
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed", file=sys.stderr)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, places = pyplot.subplots(len(everything), figsize=(7, 2.2 * len(everything)))
    for axes, (unit, results) in zip(
        places if len(everything) > 1 else [places], everything.items(), strict=True
    ):
        names = list(results)
        axes.barh(names, [results[name]["cpu_us"] for name in names], color="0.6")
        axes.invert_yaxis()
        axes.set_title(f"{unit}: CPU microseconds")
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--unit", choices=RATES, action="append", help="one unit (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each server (default 7)")
    parser.add_argument("--rate", type=int, help="units begun per second (default: by the unit)")
    parser.add_argument("--seconds", type=float, default=4, help="of one round (default 4)")
    parser.add_argument("--count", type=int, help="units of one round, in place of --seconds")
    parser.add_argument("--old", metavar="CHECKOUT", help="measure this checkout, too, as old")
    parser.add_argument(
        "--only",
        metavar="NAMES",
        default="echo,relay,ours,pure,kamailio,tuned,sipgo",
        help="servers to run, separated by commas (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the bars with matplotlib")
    options = parser.parse_args()
    names = options.only.split(",") + (["old"] if options.old else [])
    if unknown := [name for name in names if name not in SERVERS]:
        parser.error(f"no such server: {', '.join(unknown)}; there are {', '.join(SERVERS)}")
    absent = {name: reason for name in names if (reason := SERVERS[name][2]())}
    for name, reason in absent.items():
        print(f"{name}: not installed: {reason}")
    names = [name for name in names if name not in absent]
    stop_on_sigterm()
    everything = {}
    server_core, load_core = cores()
    with Load(load_core) as load:
        for unit in options.unit or RATES:
            try:
                everything[unit] = measure(unit, names, options, load, server_core)
            except ServerError as error:
                raise SystemExit(f"bench: {error}") from error
            print(table(unit, options.rate or RATES[unit], everything[unit]) + "\n", flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(
                {"machine": machine(), "options": vars(options), "units": everything},
                file,
                indent=1,
            )
    if options.plot:
        plot(everything, options.plot)


if __name__ == "__main__":
    main()
