"""What tests of an application need: the `sip` fixture, a pytest plugin, and Hypothesis strategies.

`strategies` is imported by name only, `from sippet_gevent.testing import strategies`: it alone
needs Hypothesis. The other names are imported from `fixture` when they are first used, because
pytest imports this package in each run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .plugin import pytest_runtest_makereport, sip

if TYPE_CHECKING:
    from .fixture import CLIENT, LADDER_LINES, OUTLIVES, SERVER, Asked, Sip, ladder, leftovers

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


if not TYPE_CHECKING:  # a type checker would take any name for one of ours otherwise

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import fixture

        value = globals()[name] = getattr(fixture, name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
