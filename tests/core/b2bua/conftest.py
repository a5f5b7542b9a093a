"""After each test, the o= lines of what bridges have sent are checked, RFC 3264 §8."""

from __future__ import annotations

import pytest

from ..wire import broken_origins


@pytest.fixture(autouse=True)
def origins(request):
    """No peer has got a description with another origin, or with a version that was used."""
    yield
    sip = request.node.funcargs.get("sip")
    if sip is not None:
        assert not broken_origins(sip, "10.0.0.1")
