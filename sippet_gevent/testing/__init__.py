"""What tests of an application need: the `sip` fixture, a pytest plugin, and Hypothesis strategies
beside it.

`strategies` is imported by name only, `from sippet_gevent.testing import strategies`: it alone
needs Hypothesis.
"""

from .fixture import (
    CLIENT,
    LADDER_LINES,
    OUTLIVES,
    SERVER,
    Asked,
    Sip,
    ladder,
    leftovers,
    pytest_runtest_makereport,
    sip,
)

__all__ = [
    "CLIENT",
    "LADDER_LINES",
    "OUTLIVES",
    "SERVER",
    "Asked",
    "Sip",
    "ladder",
    "leftovers",
    "pytest_runtest_makereport",
    "sip",
]
