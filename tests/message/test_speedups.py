"""The choice between the functions in C and their twins in Python."""

from __future__ import annotations

import os
import subprocess
import sys

OLD_BUILD = """
import sys, types, warnings
sys.modules["sippet_gevent.message._speedups"] = old = types.ModuleType("_speedups")
import sippet_gevent.message
sippet_gevent.message._speedups = old
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from sippet_gevent import Request, implementation, parse
(warning,) = [each for each in caught if each.category is RuntimeWarning]
assert "run pip install again" in str(warning.message), warning.message
assert implementation == "python", implementation
assert parse(bytes(Request("OPTIONS", "sip:bob@example.com", via="SIP/2.0/UDP a;branch=z9hG4bK1",
    from_="<sip:a@b>;tag=1", to="<sip:b@c>", call_id="1", cseq="1 OPTIONS"))).method == "OPTIONS"
"""


def test_build_of_another_version_is_told_and_not_used():
    environment = {name: value for name, value in os.environ.items() if name != "SIPPET_PUREPYTHON"}
    done = subprocess.run(
        [sys.executable, "-c", OLD_BUILD], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
