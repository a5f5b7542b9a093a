"""Prove that the fuzz targets see what they are for: each mistake, planted in a copy of the repository, must be found.

    python tests/fuzz/prove.py ["write over the stack" …]

It takes some minutes, all in all, and needs what run.py needs. Exit code: 0 all were found, 1 some were not.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

SECONDS = 90
"""Time in which a mistake must be found."""


class Mistake(NamedTuple):
    """What is changed in which file of sippet_gevent/message, and the target that must see it."""

    name: str
    target: str
    file: str
    right: str
    wrong: str


MISTAKES = (
    Mistake(
        "write over the heap",
        "scan",
        "_speedups.c",
        "PyMem_Malloc(end - at + 1)",
        "PyMem_Malloc((end - at) / 2)",
    ),
    Mistake(
        "write over an object",
        "scan",
        "_speedups.c",
        "one->value_length + 5 + tag_length + 2",
        "one->value_length",
    ),
    Mistake(
        "write over the stack",
        "scan",
        "_speedups.c",
        "method_length >= LONGEST_KEY - 16",
        "method_length >= 9 * LONGEST_KEY",
    ),
    Mistake(
        "read beyond the heap",
        "scan",
        "_speedups.c",
        "memchr(at, '\\n', stop - at)",
        "memchr(at, '\\n', stop - at + 64)",
    ),
    Mistake(
        "number overflows",
        "scan",
        "_speedups.c",
        "**at <= '9' && digits < 6;",
        "**at <= '9' && digits < 60;",
    ),
    Mistake(
        "wrong value in C",
        "scan",
        "_speedups.c",
        "(value_end[-1] == ' ' ||",
        "(value_end[-1] == '!' ||",
    ),
    Mistake("wrong value in Python", "parse", "scan.py", '"\\r" in joined or ', ""),
    Mistake("value that changes", "parse", "address.py", "quote(self.display)", "self.display"),
    Mistake(
        "another exception",
        "parse",
        "uri.py",
        'if not match:\n        raise ParseError("URI without a p',
        'if match is ...:\n        raise ParseError("URI without a p',
    ),
    Mistake(
        "exponential time",
        "parse",
        "grammar.py",
        r"""'"[^"\\]*(?:\\.[^"\\]*)*"'""",
        r"""'"(?:[^"\\]+|\\.)*"'""",
    ),
    Mistake(
        "quadratic time",
        "parse",
        "grammar.py",
        "    pieces: list[str] = []\n",
        "    pieces: list[str] = []\n    [text[n:] for n in range(len(text))]\n",
    ),
)


def proved(mistake: Mistake, folder: Path) -> str:
    """Plant the mistake in a copy and fuzz it; return what run.py says."""
    copy = folder / "repository"
    for part in ("sippet_gevent", "tests"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shared = ROOT.parent / "shared"
    if shared.exists():
        (folder / "shared").symlink_to(shared)
    path = copy / "sippet_gevent" / "message" / mistake.file
    text = path.read_text("utf-8")
    if text.count(mistake.right) < 1:
        return f"cannot be planted: {mistake.file} has no {mistake.right!r}"
    path.write_text(text.replace(mistake.right, mistake.wrong), "utf-8")
    command = [
        sys.executable,
        str(copy / "tests" / "fuzz" / "run.py"),
        "--seconds",
        str(SECONDS),
        "--shrink",
        "0",
        "--only",
        mistake.target,
    ]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    said = (done.stdout + done.stderr).splitlines()
    if done.returncode == 1:
        return next(line for line in said if line.startswith(mistake.target)).partition(": ")[2]
    return f"NOT FOUND (exit code {done.returncode}): {said[-3:]}"


def main() -> int:
    missed = 0
    for mistake in [
        mistake for mistake in MISTAKES if mistake.name in (sys.argv[1:] or mistake.name)
    ]:
        with tempfile.TemporaryDirectory() as folder:
            said = proved(mistake, Path(folder))
        missed += said.startswith(("NOT FOUND", "cannot be planted"))
        print(f"{mistake.target}: {mistake.name}: {said}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
