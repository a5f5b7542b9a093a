"""What a password costs a server, and what its time tells: REGISTER with digest beside one without.

* cost: CPU of a REGISTER with a valid nonce, beside the same one without authentication, in rounds
  that alternate within one process. The network is memory, so that no kernel hides the difference.
* time: how long the refusal of a wrong password takes, for a known and an unknown user in turn.

The exit code is 1 if a goal is missed.
"""

import argparse
import gc
import json
import logging
import sys
import time
from statistics import median

from server import ROOT
from stateful import machine, progress

sys.path.insert(0, str(ROOT))

from sippet_gevent import Authenticated, RegistrarProxy, Reject, Stack, TrustDomain, parse
from sippet_gevent.core.auth.bans import Bans
from sippet_gevent.core.auth.digest import Session, ha1
from sippet_gevent.core.auth.server import Authenticator
from sippet_gevent.message.fields.authentication import Challenge
from sippet_gevent.runtime.clock import VirtualClock
from sippet_gevent.transport.memory import MemoryTransport, Network

EXAMPLES = """examples:
  python bench/passwords.py                        both parts: one minute
  python bench/passwords.py --only cost --rounds 100
  python bench/passwords.py --only time --json time.json
"""
PARTS = ("cost", "time")
ALGORITHMS = ("MD5", "SHA-256")
DOMAIN = "example.com"
URI = f"sip:{DOMAIN}"
PHONES = 20
COST = 1.5
"""Goal: times the CPU of a REGISTER without a password."""

SHARE, SECONDS = 0.03, 10e-6
"""Goals: by which the medians for known and unknown users may differ."""


class Keys:
    """Users of a database, which keeps HA1 alone."""

    def __init__(self, algorithm):
        names = [f"user{number}" for number in range(PHONES)]
        self.users = {name: {algorithm: ha1(name, DOMAIN, "secret", algorithm)} for name in names}

    def lookup(self, username, realm):
        return self.users.get(username)


# ---- cost


class Office:
    """A registrar and its phones, which refresh their registrations; with passwords if `algorithm`
    is given."""

    def __init__(self, algorithm=None):
        self.clock = VirtualClock()
        self.algorithm = algorithm
        core = RegistrarProxy()
        if algorithm is not None:
            users = Keys(algorithm)
            core = Authenticated(
                TrustDomain(core), realm=DOMAIN, users=users, algorithms=(algorithm,)
            )
        network = Network(self.clock)
        self.stack = Stack(core=core, clock=self.clock, domains=(DOMAIN,))
        self.stack.listen("udp:10.0.0.1:5060", MemoryTransport(network))
        self.stack.start()
        self.received = []
        phone = MemoryTransport(network)
        phone.start(("10.0.0.2", 5060), lambda data, flow: self.received.append(data))
        self.flow = phone.connect(("10.0.0.1", 5060))
        self.cseq = 0
        self.sessions = None
        self.log_in()

    def log_in(self):
        """Get a nonce for each phone."""
        self.sessions = None
        if self.algorithm is not None:
            self.sessions = [self.session(number) for number in range(PHONES)]

    def session(self, number):
        self.flow.send(self.text(number))
        self.clock.advance(0.001)
        (challenge,) = parse(self.received.pop()).www_authenticate
        key = ha1(f"user{number}", DOMAIN, "secret", self.algorithm)
        return Session(challenge, f"user{number}", key, "0a4f113b")

    def text(self, number):
        self.cseq += 1
        more = ""
        if self.sessions is not None:
            more = f"Authorization: {self.sessions[number].answer('REGISTER', URI)}\r\n"
        return (
            f"REGISTER {URI} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK{self.cseq};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:user{number}@{DOMAIN}>;tag=a{number}\r\n"
            f"To: <sip:user{number}@{DOMAIN}>\r\nCall-ID: call-{number}\r\n"
            f"CSeq: {self.cseq} REGISTER\r\nContact: <sip:user{number}@10.0.0.2:5060>\r\n"
            f"Expires: 600\r\n{more}Content-Length: 0\r\n\r\n"
        ).encode()

    def refresh(self, count):
        """Return the seconds of CPU of one of `count` refreshes."""
        self.log_in()  # the nonces of the round before may be old
        texts = [self.text(number % PHONES) for number in range(count)]
        self.received.clear()
        gc.collect()
        begin = time.process_time_ns()
        for first in range(0, count, PHONES):  # the clock, which is ours, is paid once for many
            for text in texts[first : first + PHONES]:
                self.flow.send(text)
            self.clock.advance(0.00001)
        spent = time.process_time_ns() - begin
        failed = [data for data in self.received if not data.startswith(b"SIP/2.0 200 ")]
        if failed or len(self.received) != count:
            raise SystemExit(f"bench: {len(self.received)} answers to {count}: {failed[:1]}")
        self.clock.advance(40)  # the transactions end
        return spent / count / 1e9


def cost(options):
    """CPU of one REGISTER, without a password and with each algorithm."""
    offices = {"none": Office()} | {name: Office(name) for name in ALGORITHMS}
    rounds = {name: [] for name in offices}
    for number in range(-1, options.rounds):
        progress(f"cost: round {max(number, 0) + 1} of {options.rounds}")
        names = list(offices)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            spent = offices[name].refresh(options.requests)
            if number >= 0:  # the first round warms up
                rounds[name].append(spent * 1e6)
    for office in offices.values():
        office.stack.stop()
    found = {}
    for name, each in rounds.items():
        times = median(mine / none for mine, none in zip(each, rounds["none"], strict=True))
        found[name] = {"cpu_us": median(each), "times": times, "rounds": each}
    return {"algorithms": found, "missed": any(each["times"] > COST for each in found.values())}


def show_cost(figures):
    lines = ["COST        CPU us per REGISTER, median    times without"]
    for name, each in figures["algorithms"].items():
        lines.append(
            f"  {name:10}          {each['cpu_us']:6.1f}               {each['times']:6.2f}"
        )
    lines.append(f"  goal: at most {COST} times")
    return "\n".join(lines)


# ---- time


class Tx:
    """What authenticate() reads of a transaction."""

    call = user = None

    def __init__(self, stack):
        self.stack = stack
        self.flow = stack.engine.transports[0].connect(("10.0.0.50", 5060))


class Door:
    """An Authenticator whose refusals are timed."""

    def __init__(self, users):
        bans = Bans(10**9, 10**9)
        self.guard = Authenticator(
            realm=DOMAIN, users=users, algorithms=("SHA-256",), bans=bans
        )  # fmt: skip
        self.stack = Stack(clock=VirtualClock(), domains=(DOMAIN,))
        self.stack.listen("udp:10.0.0.1:5060", MemoryTransport(Network(self.stack.clock)))
        self.stack.start()
        self.tx = Tx(self.stack)
        self.number = 0

    def request(self, user, session=None):
        self.number += 1
        more = "" if session is None else f"Authorization: {session.answer('OPTIONS', URI)}\r\n"
        request = parse(
            f"OPTIONS {URI} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.50;branch=z9hG4bK{self.number}\r\n"
            f"From: <sip:{user}@{DOMAIN}>;tag=1\r\nTo: <{URI}>\r\nCall-ID: {self.number}\r\n"
            f"CSeq: 1 OPTIONS\r\n{more}Content-Length: 0\r\n\r\n".encode()
        )
        request.flow = self.tx.flow
        return request

    def refuse(self, request):
        """Return the nanoseconds of a refusal, and its headers."""
        begin = time.perf_counter_ns()
        try:
            self.guard.authenticate(request, self.tx)
        except Reject as refusal:
            return time.perf_counter_ns() - begin, refusal.headers
        raise SystemExit("bench: a wrong password was accepted")

    def compare(self, tries):
        """Return the median seconds for a known and an unknown user of the same length, which try
        in turn."""
        _, headers = self.refuse(self.request("user1"))
        challenge = Challenge.parse(str(headers["www_authenticate"][0]))
        users = ("user1", "nobo1")
        sessions = {user: Session(challenge, user, "0" * 64, "0a4f113b") for user in users}
        spent = {user: [] for user in users}
        for number in range(tries):
            for user in users if number % 2 else reversed(users):
                spent[user].append(self.refuse(self.request(user, sessions[user]))[0])
        return [median(each) / 1e9 for each in spent.values()]


def times(options):
    """Time of a refusal for known and unknown users, for users with HA1 and with a password."""
    found = {}
    for name, users in (("HA1", Keys("SHA-256")), ("password", {"user1": "secret"})):
        door = Door(users)
        door.compare(500)  # warm
        found[name] = []
        for number in range(options.runs):
            progress(f"time: {name}, run {number + 1} of {options.runs}")
            known, unknown = door.compare(options.tries)
            found[name].append({"known_us": known * 1e6, "unknown_us": unknown * 1e6})
        door.stack.stop()
    pairs = [
        (run["known_us"], run["unknown_us"] - run["known_us"])
        for runs in found.values()
        for run in runs
    ]
    missed = any(abs(more) > min(SHARE * known, SECONDS * 1e6) for known, more in pairs)
    return {"users": found, "missed": missed}


def show_time(figures):
    lines = ["TIME        us of a refusal, median: known user   unknown user   difference"]
    for name, runs in figures["users"].items():
        for run in runs:
            known, unknown = run["known_us"], run["unknown_us"]
            more = unknown / known - 1
            lines.append(f"  {name:36} {known:10.2f}     {unknown:10.2f}      {more:+8.2%}")
    lines.append(f"  goal: within {SHARE:.0%} and {SECONDS * 1e6:.0f} us")
    return "\n".join(lines)


MEASURES = {"cost": (cost, show_cost), "time": (times, show_time)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", metavar="PARTS", default=",".join(PARTS), help="parts (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=40, help="rounds of cost (default 40)")
    parser.add_argument(
        "--requests", type=int, default=400, help="REGISTERs of a round (default 400)"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of time (default 3)")
    parser.add_argument(
        "--tries", type=int, default=10_000, help="tries of each user in a run (default 10000)"
    )
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    options = parser.parse_args()
    parts = options.only.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")

    logging.getLogger("sippet_gevent").addHandler(logging.NullHandler())
    figures = {}
    for part in parts:
        measure, show = MEASURES[part]
        try:
            figures[part] = measure(options)
        finally:
            progress("")
        print(show(figures[part]), end="\n\n", flush=True)
    if options.json:
        with open(options.json, "w") as file:
            everything = {"machine": machine(), "options": vars(options), "figures": figures}
            json.dump(everything, file, indent=1)
    if any(each["missed"] for each in figures.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
