"""The pytest plugin: the fixture `sip`, and the ladder diagram in the report of a failed test.

pytest imports this in each run, so gevent and the library are imported when a test wants the
fixture.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest
from pluggy import Result

if TYPE_CHECKING:
    from .fixture import Sip

# their assertions then show both sides, as those of a test file do
pytest.register_assert_rewrite("sippet_gevent.testing.stores")

_BLOCKED = (
    "the test waits itself, and no time passes for it: "
    "write sip.run(stack.request, …), sip.run(call.send_digits, …), or sip.ask(core, …)"
)


@pytest.fixture
def sip(request: pytest.FixtureRequest) -> Iterator[Sip]:
    """The real stack on virtual time and a network inside the process; see
    sippet_gevent.testing."""
    from .fixture import Sip

    sip = Sip()
    request.node._sip = sip
    yield sip
    sip.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Result[pytest.TestReport], None]:
    """Add the ladder diagram to the report of a failed test."""
    outcome = yield
    report = outcome.get_result()
    sip: Sip | None = getattr(item, "_sip", None)
    if sip is not None and report.failed:
        error = None if call.excinfo is None else call.excinfo.value
        if "LoopExit" in {type(error).__name__, type(getattr(error, "__cause__", None)).__name__}:
            report.sections.append(("sip fixture", _BLOCKED))
        report.sections.append(("SIP messages", f"seed {sip.network.seed}\n{sip.ladder()}"))
