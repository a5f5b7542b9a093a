"""CPU time of one stateful OPTIONS: the bare echo, ours compiled and pure, and Kamailio, in one
run.

Each server is one process (Kamailio: one worker) on one core; the load comes from the other. In
every round each server gets the same number of requests, one server after the other, and the order
changes from round to round. Compare the ratio to the echo of the same round, because absolute
numbers depend on the machine and on the hour.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from statistics import median

from generator import Generator, failures, free_port
from server import BENCH, ROOT, Server, ServerError, cores, python, stop_on_sigterm

EXAMPLES = """examples:
  python bench/stateful.py                            five rounds of 20000 requests, each server
  python bench/stateful.py --rounds 9 --plot cpu.png    more rounds, and a picture
  python bench/stateful.py --only echo,kamailio         without ours
  python bench/stateful.py --settle 0 --json cpu.json   do not wait for the transactions to end
"""
PURE = {"SIPPET_PUREPYTHON": "1"}
COMPILED = {"SIPPET_PUREPYTHON": ""}


# The servers. Each `missing` returns the reason why a server cannot run, or None.


def missing_gevent():
    done = subprocess.run(
        python("-c", "import gevent"), capture_output=True, text=True, check=False
    )
    return done.stderr.strip().splitlines()[-1] if done.returncode else None


def missing_kamailio():
    return None if shutil.which("kamailio", path=search_path()) else "no program kamailio"


def missing_ours(environment, implementation):
    done = subprocess.run(
        python(
            "-c",
            "import sippet_gevent; from sippet_gevent import Stack; "
            "print(sippet_gevent.implementation)",
        ),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    found = done.stdout.strip()
    return (
        None
        if found == implementation
        else f"the package says it is {found}; build the extension first"
    )


def search_path():
    return os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


def kamailio(port, *more):
    # -DD: fork the worker and the timers, but stay in the foreground
    return [
        shutil.which("kamailio", path=search_path()),
        "-f",
        BENCH / "kamailio.cfg",
        "-l",
        f"udp:127.0.0.1:{port}",
        "-m",
        "2048",
        "-DD",
        "-E",
        *more,
    ]


def tuned_kamailio(port):
    return kamailio(port, "-x", "tlsf", "-A", "TUNED")


#            command, environment, why it cannot run
SERVERS = {
    "echo": (lambda port: python(BENCH / "echo.py", port), {}, missing_gevent),
    "ours": (
        lambda port: python(BENCH / "uas.py", port),
        COMPILED,
        lambda: missing_ours(COMPILED, "c"),
    ),
    "pure": (
        lambda port: python(BENCH / "uas.py", port),
        PURE,
        lambda: missing_ours(PURE, "python"),
    ),
    "kamailio": (kamailio, {}, missing_kamailio),
    "tuned": (tuned_kamailio, {}, missing_kamailio),
}


class Contestant:
    """A server and its measurements."""

    def __init__(self, name, core):
        command, environment, _ = SERVERS[name]
        self.name = name
        self.echo = name == "echo"
        self.port = free_port()
        self.server = Server(name, command(self.port), environment=environment, core=core)
        self.rounds = []
        self.messages = 0  # warm-up included
        self.counted = 0.0  # CPU seconds in rounds, warm-up included
        self.later = None

    def start(self, generator):
        self.server.start()
        self.server.wait_ready(lambda: generator.answers(self.port, self.echo))
        self.base = self.server.cpu()

    def round(self, generator, requests, window):
        before = self.server.cpu()
        result = generator.run(self.port, requests=requests, window=window, echo=self.echo)
        spent = self.server.cpu() - before
        answered = result["ok"] + result["other"]
        if not answered:
            raise ServerError(f"{self.name} answered nothing: {self.server.last_words()}")
        self.messages += answered
        self.counted += spent
        return {"cpu_us": spent / answered * 1e6, "failures": failures(result), **result}

    def settle(self):
        """The cost of the transactions after their answer: timers, removal, and their memory."""
        self.later = (self.server.cpu() - self.base - self.counted) / self.messages * 1e6

    def summary(self, echo):
        spent = [each["cpu_us"] for each in self.rounds]
        ratios = (
            [mine / theirs["cpu_us"] for mine, theirs in zip(spent, echo, strict=True)]
            if echo
            else []
        )
        return {
            "cpu_us": {"median": median(spent), "min": min(spent), "max": max(spent)},
            "later_us": self.later,
            "per_second": median(each["per_second"] for each in self.rounds),
            "ratio_to_echo": median(ratios) if ratios else None,
            "resent": sum(each["resent"] for each in self.rounds),
            "failures": sum(each["failures"] for each in self.rounds),
            "rounds": self.rounds,
        }


def measure(options, names):
    """Run all rounds; return `{name: summary}`."""
    server_core, load_core = cores()
    contestants = []
    with Generator(load_core) as generator:
        try:
            for name in names:
                progress(f"starting {name}")
                contestants.append(Contestant(name, server_core))
                contestants[-1].start(generator)
            for each in contestants:
                progress(f"warming up {each.name}")
                each.round(generator, max(1, options.requests // 10), options.window)
            for number in range(options.rounds):
                turn = number % len(contestants)
                for each in contestants[turn:] + contestants[:turn]:
                    progress(f"round {number + 1} of {options.rounds}: {each.name}")
                    each.rounds.append(each.round(generator, options.requests, options.window))
            if options.settle:
                wait(options.settle)
                for each in contestants:
                    each.settle()
        finally:
            progress("stopping the servers")
            for each in contestants:
                each.server.stop()
            progress("")
    echo = next((each.rounds for each in contestants if each.echo), None)
    return {each.name: each.summary(echo) for each in contestants}


def wait(seconds):
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        progress(f"waiting {left:.0f} s for the transactions to end")
        time.sleep(min(left, 1.0))


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def table(results, absent):
    lines = [
        "            CPU us per message      later     messages   times              ",
        "server      median    min    max      us   per second    echo   failures    ",
    ]
    for name, result in results.items():
        cpu = result["cpu_us"]
        later = "     -" if result["later_us"] is None else f"{result['later_us']:6.2f}"
        ratio = "     -" if result["ratio_to_echo"] is None else f"{result['ratio_to_echo']:6.2f}"
        resent = f"   ({result['resent']} sent again)" if result["resent"] else ""
        lines.append(
            f"{name:10}  {cpu['median']:6.1f} {cpu['min']:6.1f} {cpu['max']:6.1f}  {later}   "
            f"{result['per_second']:10.0f}  {ratio}   {result['failures']:8d}{resent}"
        )
    lines += [f"{name:10}  not installed: {reason}" for name, reason in absent.items()]
    return "\n".join(line.rstrip() for line in lines)


def bars(results, width=60):
    longest = max(result["cpu_us"]["median"] for result in results.values())
    lines = []
    for name, result in results.items():
        value = result["cpu_us"]["median"]
        lines.append(f"{name:10}  {'#' * max(1, round(width * value / longest))} {value:.1f} us")
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
    middle = [results[name]["cpu_us"]["median"] for name in names]
    below = [results[name]["cpu_us"]["median"] - results[name]["cpu_us"]["min"] for name in names]
    above = [results[name]["cpu_us"]["max"] - results[name]["cpu_us"]["median"] for name in names]
    figure, axes = pyplot.subplots(figsize=(7, 0.8 + 0.6 * len(names)))
    axes.barh(names, middle, xerr=(below, above), color="0.6", capsize=4)
    axes.invert_yaxis()
    axes.set_xlabel("CPU microseconds per stateful OPTIONS (median, min and max of the rounds)")
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def machine():
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each server (default 5)")
    parser.add_argument(
        "--requests", type=int, default=20000, help="requests per round (default 20000)"
    )
    parser.add_argument(
        "--window", type=int, default=32, help="requests outstanding at a time (default 32)"
    )
    parser.add_argument(
        "--settle",
        type=float,
        default=36,
        metavar="SECONDS",
        help="seconds to wait afterwards, for the cost of lingering (default 36; 0: none)",
    )
    parser.add_argument(
        "--only",
        metavar="NAMES",
        default=",".join(SERVERS),
        help="servers to run, separated by commas (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the bars with matplotlib")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [name for name in names if name not in SERVERS]:
        parser.error(f"no such server: {', '.join(unknown)}; there are {', '.join(SERVERS)}")
    if options.rounds < 1 or options.requests < 1:
        parser.error("at least one round of one request")

    absent = {name: reason for name in names if (reason := SERVERS[name][2]())}
    present = [name for name in names if name not in absent]
    if not present:
        raise SystemExit(
            "\n".join(f"{name}: not installed: {reason}" for name, reason in absent.items())
        )
    stop_on_sigterm()
    try:
        results = measure(options, present)
    except ServerError as error:
        raise SystemExit(f"bench: {error}") from error

    print(
        f"{options.rounds} rounds of {options.requests} OPTIONS, window {options.window}, "
        f"Python {platform.python_version()}, Linux {platform.release()}\n"
    )
    print(table(results, absent))
    print()
    print(bars(results))
    if options.json:
        with open(options.json, "w") as file:
            everything = {
                "machine": machine(),
                "options": vars(options),
                "servers": results,
                "absent": absent,
            }
            json.dump(everything, file, indent=1)
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
