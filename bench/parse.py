"""Time to parse an INVITE: alone, with access to five fields, and with formatting again.

No message is parsed twice: each has its own identifiers, as on the wire. The floor is the time
that Python needs to cut the same text into a dict, measured in the same process and round. It keeps
neither order nor repeated fields, checks nothing, and has no types. Compiled and pure run in
separate processes.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from statistics import median

from invites import LARGE, SMALL, fresh
from server import ROOT, python

EXAMPLES = """examples:
  python bench/parse.py                     nine rounds of 2000 messages
  python bench/parse.py --rounds 21         on a noisy machine
  python bench/parse.py --json parse.json
"""
MESSAGES = {"453 bytes": SMALL, f"{len(LARGE)} bytes": LARGE}
#                  SIPPET_PUREPYTHON, the parser's name of itself
IMPLEMENTATIONS = {"compiled": ("", "c"), "pure": ("1", "python")}


def split_to_dict(data):
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    fields = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        fields[name] = value.strip()
    return lines[0], fields, body


def touch(message):
    return message.from_, message.to, message.cseq, message.via, message.contact


def cases():
    """{name: function of the bytes}, the floor first."""
    from sippet_gevent.message.parser import parse

    def parse_and_touch(data):
        message = parse(data)
        touch(message)
        return message

    def parse_touch_and_format(data):
        message = parse(data)
        touch(message)
        return bytes(message)

    return {
        "split to dict": split_to_dict,
        "parse": parse,
        "parse, 5 fields": parse_and_touch,
        "parse, 5 fields, bytes": parse_touch_and_format,
    }


def time_of(function, messages):
    """Microseconds of CPU per message."""
    began = time.process_time_ns()
    for data in messages:
        function(data)
    return (time.process_time_ns() - began) / len(messages) / 1000


def measure(options):
    """In the child: {message: {case: [microseconds of each round]}}."""
    functions = cases()
    results = {size: {name: [] for name in functions} for size in MESSAGES}
    for number in range(options.rounds + 1):
        for size, data in MESSAGES.items():
            for case, (name, function) in enumerate(functions.items()):
                first = (number * len(functions) + case) * options.times
                spent = time_of(
                    function, [fresh(data, first + each) for each in range(options.times)]
                )
                if number:  # the first round only warms up
                    results[size][name].append(spent)
    return results


def run_child(implementation, options):
    """Return the results of one implementation, or the reason why there are none."""
    pure, expected = IMPLEMENTATIONS[implementation]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SIPPET_PUREPYTHON": pure}
    done = subprocess.run(
        python(__file__, "--child", "--rounds", str(options.rounds), "--times", str(options.times)),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    answer = json.loads(done.stdout)
    if answer["implementation"] != expected:
        return None, f"the parser says it is {answer['implementation']}; build the extension first"
    return answer["results"], None


def child(options):
    from sippet_gevent.message.parser import implementation

    json.dump({"implementation": implementation, "results": measure(options)}, sys.stdout)


def table(implementation, results):
    lines = [f"{implementation:28}  us median    min    max   times the floor"]
    for size, of_size in results.items():
        floor = of_size["split to dict"]
        for name, spent in of_size.items():
            ratio = median(mine / theirs for mine, theirs in zip(spent, floor, strict=True))
            lines.append(
                f"{size:>10}  {name:24}  {median(spent):5.2f} {min(spent):6.2f} "
                f"{max(spent):6.2f}   {ratio:15.2f}"
            )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=9, help="rounds (default 9)")
    parser.add_argument(
        "--times", type=int, default=2000, help="messages per case and round (default 2000)"
    )
    parser.add_argument("--json", metavar="FILE", help="write every round to FILE")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    collected = {}
    for implementation in IMPLEMENTATIONS:
        results, reason = run_child(implementation, options)
        if reason:
            print(f"{implementation}: not installed: {reason}\n")
            continue
        collected[implementation] = results
        print(table(implementation, results), end="\n\n")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(collected, file, indent=1)


if __name__ == "__main__":
    main()
