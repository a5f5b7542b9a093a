"""CPU time of one stateful OPTIONS over TCP, TLS, WS and WSS, beside UDP and the bare echo, in one
run.

As in stateful.py each server is a process of its own on one core, the load is on the other, and the
rounds of all take turns. The load holds its connections from the first round to the last, so
handshakes are not counted. Two shapes: one request in flight on each connection, so that each
segment holds one message, and a window of several, so that some hold more than one. The goals, TCP
at most 1.3 times UDP and WS at most 3 times, are meant for the first.
"""

import argparse
import json
import platform
import sys
import tempfile
from statistics import median

from generator import SECURE, Generator, certificate, failures, free_port, missing_transports
from server import BENCH, Server, ServerError, cores, python, stop_on_sigterm
from stateful import machine, progress

EXAMPLES = """examples:
  python bench/streams.py                 seven rounds of 10000 requests, two shapes, all transports
  python bench/streams.py --only udp,tcp --rounds 15  what TCP costs more than UDP, more closely
  python bench/streams.py --plot streams.png --json streams.json
"""
SHAPES = {
    "one": "one request in flight on each connection",
    "window": "a window of several on each connection",
}
YARDSTICK = "udp"
GOALS = {"tcp": 1.3, "ws": 3.0}
"""Times UDP, in the shape `one`."""

#                    script, arguments, transport of the load, whether it is an echo
SERVERS = {
    "echo": ("echo.py", (), "udp", True),
    "echo-tcp": ("echo.py", ("--tcp",), "tcp", True),
    "udp": ("uas.py", ("--transport", "udp"), "udp", False),
    "tcp": ("uas.py", ("--transport", "tcp"), "tcp", False),
    "tls": ("uas.py", ("--transport", "tls"), "tls", False),
    "ws": ("uas.py", ("--transport", "ws"), "ws", False),
    "wss": ("uas.py", ("--transport", "wss"), "wss", False),
}


class Contestant:
    """A server, the connections to it, and their measurements."""

    def __init__(self, name, core, cert):
        script, words, self.transport, self.echo = SERVERS[name]
        self.name = name
        self.port = free_port()
        if self.transport in SECURE:
            words = (*words, "--cert", cert)
        self.server = Server(name, python(BENCH / script, self.port, *words), core=core)
        self.held = {}
        self.rounds = {}

    def start(self, generator, shapes, connections, window):
        self.server.start()
        self.server.wait_ready(lambda: generator.answers(self.port, self.echo, self.transport))
        for shape in shapes:
            depth = 1 if shape == "one" else window
            held = generator.hold(
                self.port,
                transport=self.transport,
                connections=connections,
                window=connections * depth,
                echo=self.echo,
            )
            self.held[shape] = held
            self.rounds[shape] = []
            if held.connected()["open"] != connections:
                raise ServerError(
                    f"{self.name}: not all {connections} connections are set up: "
                    f"{self.server.last_words()}"
                )

    def round(self, shape, requests):
        before = self.server.cpu()
        result = self.held[shape].run(requests)
        spent = self.server.cpu() - before
        answered = result["ok"] + result["other"]
        if not answered:
            raise ServerError(f"{self.name} answered nothing: {self.server.last_words()}")
        return {"cpu_us": spent / answered * 1e6, "failures": failures(result), **result}

    def summary(self, shape, yardstick):
        spent = [each["cpu_us"] for each in self.rounds[shape]]
        ratios = (
            [mine / theirs["cpu_us"] for mine, theirs in zip(spent, yardstick, strict=True)]
            if yardstick
            else []
        )
        return {
            "cpu_us": {"median": median(spent), "min": min(spent), "max": max(spent)},
            "ratio_to_udp": {"median": median(ratios), "min": min(ratios), "max": max(ratios)}
            if ratios
            else None,
            "per_second": median(each["per_second"] for each in self.rounds[shape]),
            "failures": sum(each["failures"] for each in self.rounds[shape]),
            "rounds": self.rounds[shape],
        }

    def stop(self):
        for held in self.held.values():
            held.close()
        self.server.stop()


def measure(options, generator, names, server_core, cert):
    """Run all rounds; return `{shape: {name: summary}}`."""
    contestants = []
    try:
        for name in names:
            progress(f"starting {name}")
            contestants.append(Contestant(name, server_core, cert))
            contestants[-1].start(generator, options.shapes, options.connections, options.window)
        for each in contestants:
            progress(f"warming up {each.name}")
            for shape in options.shapes:
                each.round(shape, max(options.connections, options.requests // 5))
        for number in range(options.rounds):
            turn = number % len(contestants)
            for shape in options.shapes:
                for each in contestants[turn:] + contestants[:turn]:
                    progress(
                        f"round {number + 1} of {options.rounds}, {SHAPES[shape]}: {each.name}"
                    )
                    each.rounds[shape].append(each.round(shape, options.requests))
    finally:
        progress("stopping the servers")
        for each in contestants:
            each.stop()
        progress("")
    results = {}
    for shape in options.shapes:
        yardstick = next(
            (each.rounds[shape] for each in contestants if each.name == YARDSTICK), None
        )
        results[shape] = {each.name: each.summary(shape, yardstick) for each in contestants}
    return results


def table(results, absent):
    lines = [
        "           CPU us per message          times UDP            messages",
        "          median    min    max   median   min   max   goal  per second   failures",
    ]
    for name, result in results.items():
        cpu, ratio = result["cpu_us"], result["ratio_to_udp"]
        times = (
            f"{ratio['median']:7.2f} {ratio['min']:5.2f} {ratio['max']:5.2f}" if ratio else " " * 19
        )
        goal = f"{GOALS[name]:4.1f}" if name in GOALS else "    "
        lines.append(
            f"{name:9} {cpu['median']:6.1f} {cpu['min']:6.1f} {cpu['max']:6.1f}  {times}   {goal}  "
            f"{result['per_second']:10.0f}   {result['failures']:8d}"
        )
    lines += [f"{name:9}  not measured: {reason}" for name, reason in absent.items()]
    return "\n".join(line.rstrip() for line in lines)


def plot(results, path):
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed", file=sys.stderr)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(next(iter(results.values())))
    figure, axes = pyplot.subplots(figsize=(7, 1.2 + 0.7 * len(names)))
    for place, (shape, rows) in enumerate(results.items()):
        cpu = [rows[name]["cpu_us"] for name in names]
        middle = [each["median"] for each in cpu]
        spread = [
            [each["median"] - each["min"] for each in cpu],
            [each["max"] - each["median"] for each in cpu],
        ]
        axes.barh(
            [row + 0.38 * place for row in range(len(names))],
            middle,
            0.36,
            xerr=spread,
            capsize=3,
            color=str(0.5 + 0.25 * place),
            label=SHAPES[shape],
        )
    axes.set_yticks([row + 0.19 * (len(results) - 1) for row in range(len(names))], names)
    axes.invert_yaxis()
    axes.set_xlabel("CPU microseconds per stateful OPTIONS (median, min and max of the rounds)")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="rounds for each server and shape (default 7)"
    )
    parser.add_argument(
        "--requests", type=int, default=10000, help="requests per round (default 10000)"
    )
    parser.add_argument(
        "--connections",
        type=int,
        default=50,
        help="connections, for UDP sockets, to each server (default 50)",
    )
    parser.add_argument(
        "--window",
        type=int,
        default=8,
        metavar="N",
        help="requests outstanding on each connection in the second shape (default 8)",
    )
    parser.add_argument(
        "--shapes",
        metavar="NAMES",
        default=",".join(SHAPES),
        help="which shapes (default: %(default)s)",
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
    options.shapes = options.shapes.split(",")
    for kind, known, given in (("server", SERVERS, names), ("shape", SHAPES, options.shapes)):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"no such {kind}: {', '.join(unknown)}; there are {', '.join(known)}")
    if min(options.rounds, options.requests, options.connections, options.window) < 1:
        parser.error("at least one round of one request over one connection")

    stop_on_sigterm()
    server_core, load_core = cores()
    with (
        Generator(load_core) as generator,
        tempfile.TemporaryDirectory(prefix="sippet-bench-") as directory,
    ):
        transports = {name: SERVERS[name][2] for name in names}
        reasons = missing_transports(set(transports.values()), tls=generator.tls)
        absent = {name: reasons[transports[name]] for name in names if transports[name] in reasons}
        present = [name for name in names if name not in absent]
        cert = (
            certificate(directory) if any(transports[name] in SECURE for name in present) else None
        )
        try:
            results = measure(options, generator, present, server_core, cert)
        except ServerError as error:
            raise SystemExit(f"bench: {error}") from error

    print(
        f"{options.rounds} rounds of {options.requests} OPTIONS over "
        f"{options.connections} connections, "
        f"Python {platform.python_version()}, Linux {platform.release()}"
    )
    for shape in options.shapes:
        print(f"\n{SHAPES[shape]}" + (f": {options.window}" if shape == "window" else ""))
        print(table(results[shape], absent))
    if options.json:
        with open(options.json, "w") as file:
            everything = {
                "machine": machine(),
                "options": vars(options),
                "shapes": results,
                "absent": absent,
            }
            json.dump(everything, file, indent=1)
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
