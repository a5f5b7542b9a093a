"""One server under test: a child process in its own session, on one core, with its CPU time and
memory."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
CPU_CLOCK = 2  # CPUCLOCK_SCHED, see clock_getcpuclockid(3)


class ServerError(Exception):
    """The server did not start, or died."""


class Server:
    def __init__(self, name, command, *, environment=None, core=None, pipes=False):
        self.name = name
        self.command = [*pinned_to(core), *(str(word) for word in command)]
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        self.pipes = pipes
        self.process = None
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the server

    def start(self):
        pipe = subprocess.PIPE if self.pipes else None
        self.process = subprocess.Popen(
            self.command,
            env=self.environment,
            start_new_session=True,
            stdin=pipe or subprocess.DEVNULL,
            stdout=pipe or self.log,
            stderr=self.log,
        )

    def wait_ready(self, probe, timeout=30.0):
        """Call `probe()` until it is true; raise ServerError when the process ends or the time is
        up."""
        end = time.monotonic() + timeout
        while not probe():
            if self.process.poll() is not None:
                raise ServerError(
                    f"{self.name} ended with status {self.process.returncode}: {self.last_words()}"
                )
            if time.monotonic() > end:
                raise ServerError(
                    f"{self.name} does not answer after {timeout:.0f} s: {self.last_words()}"
                )
            time.sleep(0.2)

    def last_words(self):
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def pids(self):
        """The living processes of the server, which are those of its session."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[3]) == self.process.pid:
                    found.append(int(entry))
        return found

    def cpu(self):
        """User and system CPU seconds of all processes and all their threads, to the nanosecond."""
        return sum(time.clock_gettime((~pid << 3) | CPU_CLOCK) for pid in self.pids())

    def held_up(self):
        """Seconds that the main process was ready to run but not scheduled."""
        return int(Path("/proc", str(self.process.pid), "schedstat").read_text().split()[1]) / 1e9

    def rss(self):
        """Resident bytes of the main process."""
        pages = int(Path("/proc", str(self.process.pid), "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self):
        """Open file descriptors of the main process."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            for pid in self.pids():
                os.kill(pid, 9)
            self.process.wait()
        self.log.close()


class Uas(Server):
    """Our server, and its statistics through a pipe."""

    def __init__(self, port, *words, core=None, before=()):
        super().__init__(
            "uas",
            [*before, *python(BENCH / "uas.py", port, "--stats", *words)],
            core=core,
            pipes=True,
        )

    def stats(self):
        """Return `stack.stats()` of now."""
        pipes = self.process
        pipes.stdin.write(b"\n")
        pipes.stdin.flush()
        line = pipes.stdout.readline()
        if not line:
            raise ServerError(f"the server ended: {self.last_words()}")
        return json.loads(line)


def descriptors_for(wanted):
    """Raise the limit of descriptors for this process and its children; return the new limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
    return allowed


def ahead_of_others():
    """Return the command prefix for the highest priority; empty without the permission.

    Only the thread of the loop gets it. A thread of SQLite with the same priority, on the same
    core, would keep the loop waiting whenever it computes.
    """
    return _allowed("chrt", "--reset-on-fork", "-r", "1")


def before_others():
    """Return the command prefix for a server that uses up its core; empty without the permission.

    The kernel stops one of the highest priority for 50 ms in each second (sched_rt_runtime_us).
    """
    return _allowed("nice", "-n", "-20")


def _allowed(*words):
    """Return the words if a command can be run by them, and else an empty list."""
    try:
        done = subprocess.run([*words, "true"], stderr=subprocess.PIPE, check=False)
    except OSError:
        return []
    return [] if done.returncode or done.stderr else list(words)  # nice(1) only warns


def stop_on_sigterm():
    """Let SIGTERM unwind this process like an exception, so that no server outlives it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def cores():
    """Return one core for the server and one for the load; (None, None) with one core, or without
    taskset."""
    allowed = sorted(os.sched_getaffinity(0))
    return (
        (allowed[0], allowed[1]) if len(allowed) > 1 and shutil.which("taskset") else (None, None)
    )


def pinned_to(core):
    """Return the command prefix that keeps a process on one core."""
    return [] if core is None else ["taskset", "-c", str(core)]


def python(*words):
    return [sys.executable, *words]
