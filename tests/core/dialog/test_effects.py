"""What a failed request within a dialog ends: the table of RFC 5057 §5.1."""

from __future__ import annotations

import pytest

from sippet_gevent.core.dialog.effects import Effect, effect_of

TRANSACTION = (
    300, 302, 400, 401, 402, 403, 406, 407, 412, 413, 414, 415, 417, 420, 421, 422, 423, 428, 429,
    436, 437, 438, 486, 487, 488, 491, 493, 494, 499, 500, 503, 504, 505, 513, 580, 599, 600, 603,
    606, 699,
)  # fmt: skip
USAGE = (405, 408, 480, 481, 501)
DIALOG = (404, 410, 416, 482, 483, 484, 485, 502, 604)


@pytest.mark.rfc("5057 5.1")
@pytest.mark.parametrize("status", TRANSACTION)
def test_status_that_ends_its_transaction_alone(status):
    assert effect_of("INVITE", status) is Effect.TRANSACTION


@pytest.mark.rfc("5057 5.1", "5057 5.2", "3261 12.2.1.2")
@pytest.mark.parametrize("status", USAGE)
def test_status_that_ends_its_usage(status):
    assert effect_of("INVITE", status) is Effect.USAGE


@pytest.mark.rfc("5057 5.1")
@pytest.mark.parametrize("status", DIALOG)
@pytest.mark.parametrize("method", ["INVITE", "INFO", "OPTIONS", "NOTIFY"])
def test_status_that_ends_the_dialog(method, status):
    assert effect_of(method, status) is Effect.DIALOG


@pytest.mark.rfc("5057 5.1", "5057 5.3")
@pytest.mark.parametrize(
    ("method", "status", "effect"),
    [
        ("INFO", 405, Effect.TRANSACTION),
        ("INFO", 501, Effect.TRANSACTION),
        ("FROBNICATE", 501, Effect.TRANSACTION),
        ("NOTIFY", 405, Effect.USAGE),
        ("NOTIFY", 489, Effect.USAGE),
        ("INVITE", 489, Effect.TRANSACTION),
        ("OPTIONS", 480, Effect.TRANSACTION),
        ("MESSAGE", 480, Effect.TRANSACTION),
        ("OPTIONS", 481, Effect.USAGE),
        ("INFO", 481, Effect.USAGE),
    ],
)
def test_method_decides_what_a_status_ends(method, status, effect):
    assert effect_of(method, status) is effect
