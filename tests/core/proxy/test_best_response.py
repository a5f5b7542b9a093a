"""The best response of a proxy, RFC 3261 §16.7."""

from __future__ import annotations

import pytest

from sippet_gevent import Response
from sippet_gevent.core.proxy.best_response import best_response


def best(*statuses):
    """Choose from statuses; a negative one is a response that we have made."""
    chosen = best_response((Response(abs(status)), status > 0) for status in statuses)
    return None if chosen is None else chosen.status


@pytest.mark.rfc("3261 16.7")
@pytest.mark.parametrize(("statuses", "chosen"), [
    ((486,), 486),
    ((404, 486), 404),
    ((486, 404), 486),  # any of the class, the first one
    ((500, 404), 404),  # the lowest class
    ((404, 302), 302),
    ((302, 603), 603),  # 6xx first
    ((404, 600, 603), 600),
    ((503, 500), 500),  # 503 last
    ((503, 404), 404),
    ((503,), 503),
    ((404, 401), 401),  # statuses that help the caller to try again
    ((486, 407), 407),
    ((404, 415), 415),
    ((404, 420), 420),
    ((404, 484), 484),
    ((503, 407, 501, 404), 407),  # the example of §16.7
    ((-408, 486), 486),  # a received response before one that we have made
    ((-408, 500), 500),
    ((-503, 404), 404),
    ((-503, -408), 408),
    ((-408,), 408),
    ((), None),
])  # fmt: skip
def test_best_response(statuses, chosen):
    assert best(*statuses) == chosen
