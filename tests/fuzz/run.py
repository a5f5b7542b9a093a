"""Fuzz the parser: build both targets, run them side by side for some seconds, keep what they find.

    python tests/fuzz/run.py --seconds 60

`parse` is fuzz_parse.py under atheris: whole messages, every header, URIs. `scan` is _speedups.c under libFuzzer with
AddressSanitizer and UndefinedBehaviorSanitizer. Both ask oracle.py what must hold. The interpreter this runs with needs
the package's test dependencies, atheris, its own headers and its shared library; clang needs the runtimes of its
sanitizers. prove.py shows that mistakes are found.

What was found is made smaller and lies in tests/fuzz/findings/ from then on, under a name that says what was seen;
test_findings.py replays it. Exit code: 0 nothing was found, 1 something was, 2 it could not be run.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
sys.path.insert(0, str(ROOT))

LONGEST_SEED = 4096
"""Bytes in a seed, at most: longer ones cost time and lead nowhere else; oracle.py stretches inputs by itself."""

LONGEST_INPUT = 8192
"""Bytes in an input, at most: twice the longest seed, the limit of one line."""

TIMEOUT = 20
"""Seconds for one input after which it is a finding, whatever else the machine is doing."""

GRACE = 180.0
"""Seconds beyond its time after which a target that has not ended is killed."""

# What the log of a target says of its end, the more telling first. The groups make the finding's name.
SEEN = (
    re.compile(r"ERROR: AddressSanitizer: (\S+)(?:.*\n)+?\s+#\d+ \S+ in (\w+) \S*_speedups\.c"),
    re.compile(r"_speedups\.c:\d+:\d+: runtime error: (.*)"),
    re.compile(r"Finding: (.*?): "),
    re.compile(r"libFuzzer: (timeout|out-of-memory)"),
    re.compile(r"^(\w+Error)\b", re.MULTILINE),
    re.compile(r"(?:SUMMARY|ERROR): \w+: (.*)"),
)
PROGRESS = re.compile(r"^#(\d+)\t.*?cov: (\d+).*?exec/s: (\d+)", re.MULTILINE)


class CannotRun(Exception):
    """Something is missing; the text says what, and where it comes from."""


class Target:
    """One of the two: its command, its folder of inputs, its process while it runs."""

    def __init__(
        self, name: str, command: list[str], work: Path, environment: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = command
        self.work = work
        self.inputs = work / name
        self.inputs.mkdir(exist_ok=True)
        self.log = work / f"{name}.log"
        self.octets = work / f"{name}.finding"
        self.environment = {**os.environ, **(environment or {}), "FINDING_FILE": str(self.octets)}
        self.process: subprocess.Popen[bytes] | None = None
        self.killed = False

    def start(self, seconds: int) -> None:
        for old in self.work.glob(f"{self.name}-*"):
            old.unlink()
        self.octets.unlink(missing_ok=True)
        options = [
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST_INPUT}",
            f"-timeout={TIMEOUT}",
            f"-artifact_prefix={self.work / self.name}-",
            "-rss_limit_mb=4096",
            "-verbosity=1",
        ]
        if (self.work / "dictionary").exists():
            options.append(f"-dict={self.work / 'dictionary'}")
        folders = [str(self.inputs), str(self.work / "seeds")]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*self.command, *options, *folders],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=self.environment,
            )

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        if self.process is not None and self.running():
            self.killed = True
            self.process.kill()
            self.process.wait()

    def progress(self) -> str:
        """What the log says in its last lines."""
        found = PROGRESS.findall(self.text())
        if not found:
            return f"{self.name} is starting" if self.running() else f"{self.name} has ended"
        runs, branches, speed = found[-1]
        return f"{self.name} {int(runs):,} runs, {branches} branches, {speed}/s"

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def seen(self) -> str | None:
        """What the target ended with, in words; None when it ended in peace."""
        if self.process is None or self.process.returncode == 0:
            return None
        if self.killed:
            return "it has not ended in time"
        text = self.text()
        found = next((match for pattern in SEEN if (match := pattern.search(text))), None)
        return " in ".join(found.groups()) if found else f"exit code {self.process.returncode}"

    def finding(self) -> bytes | None:
        """The bytes the target ended with, those that it named first; None when it has left none."""
        left = [self.octets, *sorted(self.work.glob(f"{self.name}-*"))]
        return next((path.read_bytes() for path in left if path.exists()), None)

    def fails(self, data: bytes) -> bool:
        """Whether the target ends badly with these bytes alone, in a process of its own."""
        path = self.work / f"{self.name}.try"
        path.write_bytes(data)
        try:
            ended = subprocess.run(
                [*self.command, str(path)],
                cwd=ROOT,
                env=self.environment,
                capture_output=True,
                timeout=TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            return True
        return ended.returncode != 0


def build_scan(work: Path) -> list[str]:
    """Compile the C target; return its command."""
    clang = os.environ.get("CLANG", "clang")
    if shutil.which(clang) is None:
        raise CannotRun(
            "no clang: apt install clang, and libclang-rt-14-dev for clang 14 (or name one with CLANG=…)"
        )
    library, static = (
        sysconfig.get_config_var("LIBDIR"),
        not sysconfig.get_config_var("Py_ENABLE_SHARED"),
    )
    if static:
        raise CannotRun(
            f"{sys.executable} has no shared library to link with: use a system's python3 with python3-dev"
        )
    program = work / "scan_fuzzer"
    command = [
        *(clang, "-g", "-O1", "-fno-omit-frame-pointer"),
        *("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=undefined"),
        *(f"-I{sysconfig.get_path('include')}", f'-DPYTHON="{sys.executable}"', f'-DROOT="{ROOT}"'),
        *(
            str(ROOT / "sippet_gevent" / "message" / "_speedups.c"),
            str(FOLDER / "scan_fuzzer.c"),
            "-o",
            str(program),
        ),
        *(
            f"-L{library}",
            f"-lpython{sysconfig.get_config_var('LDVERSION')}",
            f"-Wl,-rpath,{library}",
        ),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CannotRun(
            f"scan_fuzzer.c was not built; Python.h is in python3-dev, the sanitizers in libclang-rt-*-dev\n{done.stderr}"
        )
    return [str(program)]


def make_targets(names: list[str], work: Path) -> list[Target]:
    """Make the targets of these names ready to start."""
    made = []
    if "parse" in names:
        if importlib.util.find_spec("atheris") is None:
            raise CannotRun(f"no atheris: {sys.executable} -m pip install atheris")
        made.append(Target("parse", [sys.executable, str(FOLDER / "fuzz_parse.py")], work))
    if "scan" in names:
        # The interpreter keeps what it has until the process ends: that is no leak of ours (test_twins.py counts blocks).
        options = {
            "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=64",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        made.append(Target("scan", build_scan(work), work, options))
    return made


def make_seeds(work: Path) -> int:
    """Put the corpus, as far as it is short, and the old findings into one folder; return how many there are."""
    from tests.conformance import corpus

    seeds = work / "seeds"
    seeds.mkdir(exist_ok=True)
    paths = [path for path in (FOLDER / "findings").iterdir() if path.suffix == ".bin"]
    paths += [path for path in corpus.FOLDER.glob("own-streams/*") if path.is_file()]
    for data in [
        corpus.OPTIONS,
        *(row.data for row in corpus.datagrams()),
        *(path.read_bytes() for path in paths),
    ]:
        if len(data) <= LONGEST_SEED:
            (seeds / hashlib.sha1(data).hexdigest()).write_bytes(data)
    dictionaries = sorted(corpus.FOLDER.glob("dictionaries/*.dict"))
    if dictionaries:
        (work / "dictionary").write_bytes(b"\n".join(path.read_bytes() for path in dictionaries))
    else:
        print(f"{corpus.MISSING}: one seed and no dictionary")
    return len(list(seeds.iterdir()))


def keep(target: Target, what: str, findings: Path, seconds: float) -> Path | None:
    """Make what the target has found small, and put it where it is replayed; None when it has left no bytes."""
    from tests.fuzz import oracle

    data = target.finding()
    if data is None:
        return None
    fails: Callable[[bytes], bool] = target.fails
    if what != "timeout" and oracle.finding_of(data) == what:  # quicker than a process for each try
        fails = lambda shorter: oracle.finding_of(shorter) == what  # noqa: E731
    if seconds and fails(data):
        data = oracle.minimised(data, fails, seconds)
    name = re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-")[:60]
    path = findings / f"{name}-{hashlib.sha1(data).hexdigest()[:6]}.bin"
    findings.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def watch(targets: list[Target], start: float, stop: float) -> None:
    """Show how the targets get on until all have ended."""
    shown = 0.0
    live = sys.stdout.isatty()
    while any(target.running() for target in targets) and time.monotonic() < stop + GRACE:
        time.sleep(0.2)
        now = time.monotonic()
        if now - shown >= (1 if live else 10):
            shown = now
            line = f"[{now - start:4.0f} s] " + "; ".join(target.progress() for target in targets)
            print(f"\r{line:<110}" if live else line, end="" if live else "\n", flush=True)
    if live:
        print()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=int, default=60, help="for everything, building included (default: 60)"
    )
    parser.add_argument("--only", choices=("parse", "scan"), help="one target instead of both")
    parser.add_argument(
        "--work",
        type=Path,
        default=ROOT / "build" / "fuzz",
        help="programs, logs and the inputs worth going on from",
    )
    parser.add_argument(
        "--findings", type=Path, default=FOLDER / "findings", help="where findings are kept"
    )
    parser.add_argument(
        "--shrink",
        type=float,
        default=60,
        help="seconds for making a finding smaller, 0 for none (default: 60)",
    )
    options = parser.parse_args()
    start = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the targets end with us
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    targets: list[Target] = []
    try:
        seeds = make_seeds(options.work)
        targets = make_targets([options.only] if options.only else ["parse", "scan"], options.work)
        print(
            f"[{time.monotonic() - start:4.0f} s] {' and '.join(target.name for target in targets)} from {seeds} seeds",
            flush=True,
        )
        seconds = max(1, round(options.seconds - (time.monotonic() - start)))
        for target in targets:
            target.start(seconds)
        watch(targets, start, start + options.seconds)
    except (CannotRun, ImportError) as error:
        print(f"cannot run: {error}", file=sys.stderr)
        return 2
    finally:
        for target in targets:
            target.stop()
    return report(targets, options.findings, options.shrink)


def report(targets: list[Target], findings: Path, seconds: float) -> int:
    """Say what each target has found, and keep it."""
    found = 0
    for target in targets:
        what = target.seen()
        print(f"{target.progress()}: {what or 'nothing found'}")
        if what is not None:
            found += 1
            path = keep(target, what, findings, seconds)
            print(f"    kept as {path}" if path else f"    it left no bytes; see {target.log}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
