"""The atheris target: bytes that the branches of the package lead to, put to the oracle. run.py starts it.

The bytes of a Finding, which may be stretched ones, are left in FINDING_FILE.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["sippet_gevent"]):
    import sippet_gevent.message.parser  # noqa: F401

from tests.fuzz import oracle

PATIENCE = 12.0
"""Times the CPU that is allowed: instrumented code runs at a fraction of its speed, and quadratic time is beyond any factor."""


def target(data: bytes) -> None:
    try:
        oracle.check(data, patience=PATIENCE, thorough=False)
    except oracle.Finding as finding:
        Path(os.environ.get("FINDING_FILE", os.devnull)).write_bytes(finding.data)
        raise


if __name__ == "__main__":
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
