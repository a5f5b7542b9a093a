"""The delay that hostile peers cause for others: p50 and p99 of OPTIONS, beside peers that occupy a
resource of the server.

Good peers ask at a steady rate, over TCP on some connections and over UDP. In every round they are
measured idle, then idle once more, and then beside each attack in turn; each is compared with the
idle measurement of its own round, and the second idle one shows how much of a difference is nothing
but noise. The goal: no p99 more than a tenth over idle. Where we may (root), server and load run
ahead of all else on the machine, except beside floods: else a p99 is what the scheduler gives to
others, 3 ms.
"""

import argparse
import json
import socket
import sys
import tempfile
import time
from statistics import median

from generator import HUMBLE, Generator, certificate, failures, free_ports, missing_transports
from server import BENCH, Server, ServerError, Uas, ahead_of_others, cores, python, stop_on_sigterm
from stateful import machine, progress

EXAMPLES = """examples:
  python bench/isolation.py                            seven rounds of every attack, seven minutes
  python bench/isolation.py --only slow-header --rounds 15   one of them, more closely
  python bench/isolation.py --only garbage,requests    beside floods
  python bench/isolation.py --plot isolation.png --json isolation.json
"""
GOAL = 1.10
"""Most times the p99 of the same round without attack."""

WARM = 1.0
"""Seconds of an attack before the measurement begins."""
KNOWN = 3.0
"""The same for attacks that the server recognizes later: a dead name server takes it two
seconds."""
PEACE = 12.0
"""Seconds until the server has forgotten that."""

# the attack of attackers.py, the number of peers, their transport, seconds before
ATTACKS = {
    "nothing": (None, 0, "tcp", WARM),
    "stalled": ("stalled", 1, "tcp", WARM),
    "half-shaken": ("half-shaken", 1, "tls", WARM),
    "half-shaken-64": ("half-shaken", 64, "tls", WARM),
    "handshakes": ("handshakes", 1, "tls", WARM),
    "upgrades": ("upgrades", 1, "ws", WARM),
    "refused": ("refused", 1, "udp", WARM),
    "unresolved": ("unresolved", 1, "udp", KNOWN),
    "unresolved-first": ("unresolved", 1, "udp", 0.0),
    "slow-header": ("slow-header", 64, "tcp", WARM),
    "unacknowledged": ("unacknowledged", 1, "udp", KNOWN),
    "garbage": ("garbage", 1, "udp", WARM),
    "requests": ("requests", 1, "udp", WARM),
    "garbage-tcp": ("garbage-tcp", 1, "tcp", WARM),
    "requests-tcp": ("requests-tcp", 1, "tcp", WARM),
}
FLOODS = {"garbage", "requests", "garbage-tcp", "requests-tcp"}
MEANING = {
    "nothing": "idle once more: the noise",
    "stalled": "a peer asks for 800 KB/s and reads nothing",
    "half-shaken": "a peer never ends its TLS handshake",
    "half-shaken-64": "64 peers never end theirs",
    "handshakes": "a peer ends TLS handshakes and closes",
    "upgrades": "a peer opens WebSockets and closes",
    "refused": "the requests of the next row, without names",
    "unresolved": "40 names/s are resolved, DNS never answers",
    "unresolved-first": "the first seconds of that",
    "slow-header": "64 peers send a header octet by octet",
    "unacknowledged": "60 INVITEs/s, and no answer is acknowledged",
    "garbage": "50,000 datagrams/s that are not SIP",
    "requests": "50,000 OPTIONS/s of one source",
    "garbage-tcp": "50,000 broken requests/s by one connection",
    "requests-tcp": "50,000 OPTIONS/s by one connection",
}
TRANSPORTS = ("udp", "tcp", "tls", "ws")  # in the order of the server's ports
GOOD = ("tcp", "udp")  # transports of good peers


def measure(options, generator, names, core, cert):
    """Run all rounds; return `{transport: {attack: [result]}}`, with "idle" as an attack, and the
    server's statistics."""
    first = free_ports(len(TRANSPORTS))
    ports = {name: first + place for place, name in enumerate(TRANSPORTS)}
    # the name server: a port that never answers
    silent = socket.socket(type=socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    words = (
        "--transport",
        ",".join(TRANSPORTS),
        "--cert",
        cert,
        "--dns",
        silent.getsockname()[1],
        "--collect-seldom",
    )
    # a flood takes all the time, and the kernel stops a process that is ahead of others then
    before = () if FLOODS.intersection(names) else ahead_of_others()
    server = Uas(first, *words, core=core, before=before)
    results = {name: {"idle": [], **{attack: [] for attack in names}} for name in GOOD}
    held = {}
    server.start()
    try:
        server.wait_ready(lambda: generator.answers(first))
        for name in GOOD:
            connections = options.connections if name == "tcp" else 1
            held[name] = generator.hold(
                ports[name],
                transport=name,
                connections=connections,
                window=64 * connections,
                rate=options.rate,
                busy=False,
                limit=600,
                before=before,
            )
            held[name].connected()
            held[name].run(options.rate)
        for number in range(options.rounds):
            turn = number % len(names)
            for attack in ["idle", *names[turn:], *names[:turn]]:
                progress(f"round {number + 1} of {options.rounds}: {attack}")
                for name, result in beside(
                    attack, ports, held, options.seconds, generator.core
                ).items():
                    results[name][attack].append(result)
        return results, server.stats()
    finally:
        progress("")
        for each in held.values():
            each.close()
        server.stop()
        silent.close()


def beside(attack, ports, held, seconds, core):
    """Measure good peers beside one attack."""
    kind, count, transport, before = ATTACKS.get(attack, ATTACKS["nothing"])
    attackers = None
    if attack == "unresolved-first":
        time.sleep(PEACE)
    if kind is not None:
        attackers = Server(
            kind,
            [*HUMBLE, *python(BENCH / "attackers.py", kind, count, ports[transport])],
            core=core,
        )
        attackers.start()
        attackers.wait_ready(lambda: attackers.last_words() == "attacking")
    try:
        time.sleep(before)
        for each in held.values():
            each.send(0)
        time.sleep(seconds)
        for each in held.values():
            each.send("")
        return {name: each.result() for name, each in held.items()}
    finally:
        if attackers is not None:
            attackers.stop()


def compare(results, attack, figure):
    """Return the ratio to idle: median, min and max of the rounds."""
    times = [
        mine[figure] / idle[figure]
        for mine, idle in zip(results[attack], results["idle"], strict=True)
    ]
    return {"median": median(times), "min": min(times), "max": max(times)}


def summary(results):
    return {
        name: {
            attack: {
                "p50_us": median(each["median_us"] for each in rounds),
                "p99_us": median(each["p99_us"] for each in rounds),
                "times_p50": compare(attacks, attack, "median_us"),
                "times_p99": compare(attacks, attack, "p99_us"),
                "failures": sum(failures(each) for each in rounds),
                "requests": sum(each["requests"] for each in rounds),
                "rounds": rounds,
            }
            for attack, rounds in attacks.items()
        }
        for name, attacks in results.items()
    }


def table(figures):
    lines = [
        "                       p50 and p99, ms   times idle: p50   p99 (min   max)   failures",
    ]
    for name, attacks in figures.items():
        lines.append(name.upper())
        for attack, each in attacks.items():
            ratio = each["times_p99"]
            verdict = ""
            if attack not in ("idle", "nothing") and ratio["median"] > GOAL:
                verdict = (
                    "over the goal"
                    if ratio["min"] > GOAL
                    else "over the goal, but not in every round"
                )
            lines.append(
                f"  {attack:18} {each['p50_us'] / 1000:8.2f} {each['p99_us'] / 1000:6.2f}   "
                f"{each['times_p50']['median']:15.2f} {ratio['median']:5.2f} "
                f"{ratio['min']:5.2f} {ratio['max']:5.2f}   "
                f"{each['failures']:8d}   {verdict or MEANING.get(attack, '')}".rstrip()
            )
    return "\n".join(lines)


def plot(figures, path):
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed", file=sys.stderr)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(figures), figsize=(11, 3.5), sharey=True)
    for part, (name, attacks) in zip(axes, figures.items(), strict=True):
        labels = list(attacks)
        values = [[each["p99_us"] / 1000 for each in attacks[label]["rounds"]] for label in labels]
        part.boxplot(values, vert=False)
        part.set_yticklabels(labels)
        part.invert_yaxis()
        part.set_xlabel(f"p99 of OPTIONS over {name.upper()}, ms, each round")
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=7, help="rounds of everything (default 7)")
    parser.add_argument(
        "--seconds", type=float, default=4, help="seconds of each measurement (default 4)"
    )
    parser.add_argument(
        "--rate",
        type=int,
        default=200,
        help="OPTIONS per second, over TCP and over UDP (default 200)",
    )
    parser.add_argument(
        "--connections", type=int, default=20, help="good TCP connections (default 20)"
    )
    parser.add_argument(
        "--only",
        metavar="NAMES",
        default=",".join(name for name in ATTACKS if name not in FLOODS),
        help="attacks, separated by commas (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the rounds with matplotlib")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [name for name in names if name not in ATTACKS]:
        parser.error(f"no such attack: {', '.join(unknown)}; there are {', '.join(ATTACKS)}")

    stop_on_sigterm()
    server_core, load_core = cores()
    with (
        Generator(load_core) as generator,
        tempfile.TemporaryDirectory(prefix="sippet-bench-") as directory,
    ):
        for reason in missing_transports(("tls", "ws"), tls=True).values():
            raise SystemExit(f"bench: {reason}")
        try:
            results, stats = measure(options, generator, names, server_core, certificate(directory))
        except ServerError as error:
            raise SystemExit(f"bench: {error}") from error

    figures = summary(results)
    print(
        f"{options.rounds} rounds of {options.seconds:g} s, {options.rate} OPTIONS/s over "
        f"TCP on {options.connections} "
        f"connections and as many over UDP; goal: p99 at most {GOAL:.2f} times idle\n"
    )
    print(table(figures))
    streams = ", ".join(f"{reason} {number}" for reason, number in sorted(stats["streams"].items()))
    print(f"\nwhat became of connections: {streams}")
    if not FLOODS.intersection(names) and not ahead_of_others():
        print(
            "server and load ran beside whatever else this machine does: chrt -r 1 is "
            "not ours to use"
        )
    if options.json:
        with open(options.json, "w") as file:
            everything = {
                "machine": machine(),
                "options": vars(options),
                "transports": figures,
                "stats": stats,
                "ahead": bool(ahead_of_others()),
            }
            json.dump(everything, file, indent=1)
    if options.plot:
        plot(figures, options.plot)
    if any(each["failures"] for attacks in figures.values() for each in attacks.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
