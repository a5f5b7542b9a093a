"""Fixtures that run real programs: `serve` is `sippet serve` in a process of its own, `run` any other.

A test module takes them with `pytest_plugins = ["tests.programs"]`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import sippet_gevent

from .conditions import PATIENCE

HERE = {"PYTHONPATH": str(Path(sippet_gevent.__file__).parent.parent), "PYTHONUNBUFFERED": "1"}
"""Environment in which a program finds the package that the tests have found, wherever it runs."""

SIPPET = [sys.executable, "-m", "sippet_gevent"]

GAUGES = (
    "server_transactions",
    "client_transactions",
    "calls",
    "early_dialogs",
    "subscriptions",
    "handlers",
    "forwarding",
)
"""What must be back at 0 when traffic has ended and the timers have run."""


def _heed_signals():
    """Restore signals for a program: a suite started with & ignores SIGINT, one under nohup SIGHUP."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Program:
    """A running program. What it prints goes to a file, so that a test can wait for a line of it."""

    def __init__(self, arguments, output, stdin=subprocess.DEVNULL, **environment):
        self.arguments = [str(argument) for argument in arguments]
        self.output = output
        self.read = 0
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                self.arguments,
                stdin=stdin,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=output.parent,
                env={**os.environ, **HERE, **environment},
                preexec_fn=_heed_signals,
            )

    @property
    def text(self):
        """All it has printed so far."""
        return self.output.read_text("utf-8", "replace")

    def wait_for(self, pattern, seconds=PATIENCE):
        """Return the first match of a regular expression in what it prints, waiting for it."""
        deadline = time.monotonic() + seconds
        while True:
            ended = self.process.poll()
            found = re.search(pattern, self.text)
            if found:
                return found
            assert ended is None, (
                f"{self} ended with {ended} and never printed {pattern!r}:\n{self.text}"
            )
            assert time.monotonic() < deadline, (
                f"{self} has not printed {pattern!r} in {seconds} s:\n{self.text}"
            )
            time.sleep(0.01)

    def expect(self, pattern, seconds=PATIENCE):
        """Return the first match behind that of the last expect(), waiting for it."""
        deadline = time.monotonic() + seconds
        while not (found := re.compile(pattern).search(self.text, self.read)):
            assert self.process.poll() is None and time.monotonic() < deadline, (
                f"{self} has not printed {pattern!r} behind its first {self.read} characters:"
                f"\n{self.text}"
            )
            time.sleep(0.01)
        self.read = found.end()
        return found

    def wait(self, seconds=PATIENCE):
        """Return its exit code once it has ended."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} has not ended in {seconds} s:\n{self.text}") from None

    def signal(self, number):
        """Send it a signal."""
        self.process.send_signal(number)

    def stop(self):
        """End it, by force if need be."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __repr__(self):
        return " ".join(self.arguments[:6])


class Server(Program):
    """A running `sippet serve`. `port` is that of its first address, `uri` a SIP URI with it."""

    command = (*SIPPET, "serve")

    def __init__(self, arguments, output, **environment):
        super().__init__([*self.command, *arguments], output, **environment)
        try:
            self.port = self.port_of(r"\w+")
        except BaseException:
            self.stop()
            raise
        self.uri = f"sip:127.0.0.1:{self.port}"

    def port_of(self, transport):
        """Return the port of its first address of a transport: "udp", "tcp", "tls", "wss" …"""
        return int(self.wait_for(rf"listening: address={transport}:\S+:(\d+)\n")[1])

    def stats(self):
        """Return the counters and gauges that are not 0, as the command logs them when it gets SIGUSR1."""
        before = self.text.count(" stats: ")
        self.signal(signal.SIGUSR1)
        deadline = time.monotonic() + PATIENCE
        while (text := self.text).count(" stats: ") == before or not text.endswith("\n"):
            assert time.monotonic() < deadline, f"{self} does not tell its stats:\n{text}"
            time.sleep(0.01)
        items = (
            item.partition("=")
            for item in text.rpartition(" stats: ")[2].split("\n")[0].split()
            if "=" in item
        )
        return {name: int(value) if value.isdigit() else value for name, _, value in items}

    @property
    def problems(self):
        """Its warnings and errors, but for those that say that the machine gives it too little time."""
        lines = re.findall(r"(?m)^\S+ \S+ (?:WARNING|ERROR|CRITICAL) .*$", self.text)
        return [line for line in lines if not re.search(r": (loop blocked|overload \w+): ", line)]

    def wait_until_empty(self, seconds=PATIENCE):
        """Wait until no transaction, call or core is left; return the counters."""
        deadline = time.monotonic() + seconds
        while True:
            stats = self.stats()
            left = {name: stats[name] for name in GAUGES if name in stats}
            if not left:
                return stats
            assert time.monotonic() < deadline, (
                f"still there after {seconds} s: {left}\n{self.text}"
            )
            time.sleep(0.1)


class Script(Server):
    """A running Python program whose stack it runs by `stack.run()`. Its input is a pipe."""

    command = (sys.executable,)

    def __init__(self, arguments, output, **environment):
        super().__init__(arguments, output, stdin=subprocess.PIPE, **environment)

    def type(self, line):
        """Write a line to its input."""
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()


@pytest.fixture
def need():
    """Skip the test unless these programs are installed: `need("sipp")`; with CI=true in the environment, fail."""

    def need(*programs):
        for program in programs:
            if shutil.which(program) is None:
                (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
                    f"{program} is not installed"
                )

    return need


@pytest.fixture
def run(tmp_path):
    """Start a program: `run("sipp", ...)` returns a Program, which is ended after the test. `stdin` may be a file."""
    programs = []

    def start(*arguments, kind=Program, **environment):
        program = kind(arguments, tmp_path / f"{len(programs)}.log", **environment)
        programs.append(program)
        return program

    yield start
    for program in reversed(programs):
        program.stop()
        print(program, program.text, sep="\n")  # shown when the test fails


@pytest.fixture
def serve(run):
    """Start `sippet serve` on a free port: `serve("core.py:core", "--monkey")` returns a Server.

    `listen` is its address, or a tuple of several.
    """

    def start(*arguments, listen="udp:127.0.0.1:0", **environment):
        addresses = [
            word
            for address in ((listen,) if isinstance(listen, str) else listen)
            for word in ("--listen", address)
        ]
        return run(*arguments, *addresses, kind=Server, **environment)

    return start


@pytest.fixture
def pem(tmp_path):
    """Write a certificate for these names with its key: `pem("127.0.0.1", "a.example")` returns the file.

    `pem.ca` is the file of the authority that has signed all of a test.
    """
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()

    def issue(*names, file="cert.pem"):
        path = tmp_path / file
        authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(path)
        return path

    issue.ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(issue.ca)
    return issue


@pytest.fixture
def sippet(tmp_path):
    """Run the `sippet` command to its end; returns its CompletedProcess, texts in `stdout` and `stderr`."""

    def run(*arguments, **environment):
        command = [*SIPPET, *map(str, arguments)]
        environment = {**os.environ, **HERE, **environment}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, cwd=tmp_path, env=environment
        )

    return run


@pytest.fixture
def popen(tmp_path):
    """Start the `sippet` command with pipes and terminals of the test's own: `popen("parse", stdin=PIPE)` returns its Popen."""

    def start(*arguments, environment=(), **files):
        command = [*SIPPET, *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, **HERE, **dict(environment)}, **files
        )

    return start
