"""Memory of one lingering transaction, and whether it comes back.

After its final response a transaction stays 32 s (timer J, RFC 3261 §17.2.2) to absorb
retransmissions, so a busy server holds 32 s times its request rate of them. This starts our OPTIONS
server, sends requests as fast as they are answered, and divides what its resident memory grew by.
Then it waits until all have ended, and does it again: what matters there is that the peaks do not
climb.
"""

import argparse
import json
import sys
import time

from generator import Generator, failures, free_port
from server import ServerError, Uas, cores, stop_on_sigterm

EXAMPLES = """examples:
  python bench/linger.py                        five times 200000 transactions, five minutes
  python bench/linger.py --count 20000 --repeat 1   a quick look
  python bench/linger.py --linger 120               on a slow machine
  SIPPET_PUREPYTHON=1 python bench/linger.py        the same without the extension
"""
LINGER = 32.0  # seconds of timer J: 64*T1
GRACE = 8.0  # seconds more until the last transaction must have ended
MEGABYTE = 1e6


def repetition(uas, port, generator, options):
    """Run the load once and wait for the end of its transactions; return the results."""
    began = time.monotonic()
    result = generator.run(port, requests=options.count, window=options.window, limit=600)
    took = time.monotonic() - began
    peak, live = uas.rss(), uas.stats()["server_transactions"]
    progress_wait(options.linger + GRACE)
    return {
        "seconds": took,
        "failures": failures(result),
        "live": live,
        "peak": peak,
        "left": uas.stats()["server_transactions"],
        "after": uas.rss(),
    }


def progress_wait(seconds):
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        progress(f"waiting {left:.0f} s for the transactions to end")
        time.sleep(min(left, 1.0))
    progress("")


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def verdict(seen, options):
    """Return why a repetition is invalid, or an empty string."""
    if seen["failures"]:
        return f"{seen['failures']} requests failed"
    if seen["seconds"] > options.linger:
        return (
            f"the load took {seen['seconds']:.0f} s, so the first transaction had ended before "
            "the last began: try --linger"
        )
    if seen["live"] < options.count:
        return f"only {seen['live']} transactions were alive"
    if seen["left"]:
        return f"{seen['left']} transactions never ended"
    return ""


def measure(options):
    server_core, load_core = cores()
    port = free_port()
    uas = Uas(port, "--linger", options.linger, core=server_core)
    repetitions = []
    with Generator(load_core) as generator:
        uas.start()
        try:
            uas.wait_ready(lambda: generator.answers(port))
            base = uas.rss()
            print(f"before any load: {base / MEGABYTE:.1f} MB\n")
            print("      load s     alive   peak MB   bytes each   after MB   left")
            for number in range(options.repeat):
                progress(f"load {number + 1} of {options.repeat}")
                seen = repetition(uas, port, generator, options)
                seen["bytes_each"] = (seen["peak"] - base) / seen["live"]
                repetitions.append(seen)
                print(
                    f"{number + 1:3d}  {seen['seconds']:7.1f}  {seen['live']:8d}  "
                    f"{seen['peak'] / MEGABYTE:8.1f}  "
                    f"{seen['bytes_each']:11.0f}  {seen['after'] / MEGABYTE:9.1f}  "
                    f"{seen['left']:5d}  "
                    f"{verdict(seen, options)}".rstrip(),
                    flush=True,
                )
        finally:
            uas.stop()
    return {"base": base, "count": options.count, "repetitions": repetitions}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--count", type=int, default=200000, help="transactions per repetition (default 200000)"
    )
    parser.add_argument("--repeat", type=int, default=5, help="repetitions (default 5)")
    parser.add_argument(
        "--window", type=int, default=32, help="requests outstanding at a time (default 32)"
    )
    parser.add_argument(
        "--linger",
        type=float,
        default=LINGER,
        metavar="SECONDS",
        help="let a transaction live longer, where the load takes longer than 32 s (default 32)",
    )
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    options = parser.parse_args()
    stop_on_sigterm()
    try:
        results = measure(options)
    except ServerError as error:
        raise SystemExit(f"bench: {error}") from error

    peaks = [seen["peak"] for seen in results["repetitions"]]
    print(f"\nbytes per transaction, first load: {results['repetitions'][0]['bytes_each']:.0f}")
    if len(peaks) > 1:
        print(
            f"growth of the peak from the second load to the last: "
            f"{(peaks[-1] - peaks[1]) / MEGABYTE:+.1f} MB"
        )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)
    if any(verdict(seen, options) for seen in results["repetitions"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
