"""What a password costs, and what its time tells: the long form, by a clock. The short one counts calls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[3] / "bench" / "passwords.py"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", ["cost", "time"])
def test_goals_of_passwords_are_kept(part):
    done = subprocess.run(
        [sys.executable, BENCH, "--only", part], capture_output=True, text=True, check=False
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
