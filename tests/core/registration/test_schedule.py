"""When to register again: refreshes and pauses."""

from __future__ import annotations

import pytest

from sippet_gevent.core.registration.schedule import LONGEST, pause, refresh_after

CHANCES = (0.0, 0.5, 1.0)


@pytest.mark.rfc("3261 10.2.4")
@pytest.mark.parametrize("chance", CHANCES)
@pytest.mark.parametrize("granted", [12, 20, 30, 60, 600, 3600, 86400])
def test_refresh_is_before_the_end(granted, chance):
    due = refresh_after(granted, chance)
    assert granted / 2 <= due <= min(granted - 5, granted * 0.9)


@pytest.mark.parametrize("granted", range(11))
def test_refresh_of_a_short_binding_is_never_a_loop(granted):
    assert refresh_after(granted, 0.5) >= 1


@pytest.mark.rfc("5626 4.5")
def test_pause_doubles_up_to_the_longest():
    assert [pause(failures, 1.0) for failures in (1, 2, 3, 5, 6, 7, 5000)] == [
        60, 120, 240, 960, LONGEST, LONGEST, LONGEST,
    ]  # fmt: skip


@pytest.mark.rfc("5626 4.5")
def test_pause_has_half_of_itself_at_least():
    assert pause(3, 0.0) == 120


@pytest.mark.rfc("3261 20.33")
@pytest.mark.parametrize("chance", CHANCES)
def test_pause_is_not_shorter_than_retry_after(chance):
    assert 500 <= pause(1, chance, 500.0) <= 550
    assert pause(1, chance, 10**9) < 100_000
