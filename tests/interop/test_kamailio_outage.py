"""A thousand accounts at one registrar, over real sockets: Kamailio is down for minutes, and comes back."""

from __future__ import annotations

import re
import signal
import time
from collections import deque

import gevent
import pytest

from sippet_gevent import Account, Credentials, Stack
from tests.interop.carrier import KAMAILIO, Carrier

pytest_plugins = ["tests.programs"]


class Requests:
    """The times of the datagrams with a request that a stack sends, repetitions among them."""

    def __init__(self):
        self.times = []

    def __call__(self, passage):
        if passage.direction == "out" and not passage.data.startswith(b"SIP/2.0"):
            self.times.append(passage.time)

    def most_within(self, seconds):
        """Return the most requests in any interval of that many seconds."""
        window, most = deque(), 0
        for at in self.times:
            window.append(at)
            while window[0] <= at - seconds:
                window.popleft()
            most = max(most, len(window))
        return most


class Outage:
    """Registers many accounts, has the registrar fail for a while, and waits until it has all again."""

    def __init__(self, carrier, number, down, patience, **options):
        self.carrier, self.number, self.patience = carrier, number, patience
        self.requests = Requests()
        self.lost, self.first = set(), 0.0
        with Stack("udp:127.0.0.1:0") as stack, stack.tap(self.requests):
            self.stack = stack
            self.accounts = [self.add(f"{name}", options) for name in range(1000, 1000 + number)]
            self.first = self.wait_for_all(0)
            read = len(carrier.log)
            down()
            # not whether they are lost now, because the first ones may be back already
            assert "keep_up" not in options or len(self.lost) == number
            self.again = self.wait_for_all(read)
            assert stack.stats()["core_errors"] == 0
        self.figures = (
            f"{number} accounts: registered after {self.first:.0f} s, again after "
            f"{self.again:.0f} s; at most {self.requests.most_within(1)} requests in a second, "
            f"{self.requests.most_within(10) / 10:.1f}/s in ten seconds"
        )
        print(self.figures)

    def add(self, name, options):
        return self.stack.accounts.add(
            Account(
                f"sip:{name}@carrier.example",
                Credentials(name, "trunk-secret"),
                outbound_proxy=self.carrier.uri,
                on_change=self.changed,
                **options,
            )
        )

    def changed(self, account):
        if self.first and not account.is_up:
            self.lost.add(account.aor)

    def wait_for_all(self, read):
        """Return the seconds until the registrar has accepted each account, and each knows it."""
        began = time.monotonic()
        while True:
            found = set(re.findall(r"authenticated REGISTER (\d+)", self.carrier.log[read:]))
            passed = time.monotonic() - began
            if len(found) == self.number and all(each.is_up for each in self.accounts):
                return passed
            assert passed < self.patience, f"{len(found)} of {self.number} after {passed:.0f} s"
            gevent.sleep(0.5)


@pytest.fixture
def carrier(need, run, tmp_path):
    need(KAMAILIO)
    return Carrier(run, tmp_path, 9)


def restarted(carrier, seconds):
    """The registrar ends, so its port is closed. Another one has no bindings and other nonces."""
    return lambda: carrier.restart(seconds)


def frozen(carrier, seconds):
    """The registrar is silent. It keeps its bindings, and what its socket can hold."""

    def down():
        carrier.signal(signal.SIGSTOP)
        gevent.sleep(seconds)
        carrier.signal(signal.SIGCONT)

    return down


@pytest.mark.rfc("5626 4.5")
@pytest.mark.parametrize("failure", [restarted, frozen])
def test_accounts_register_again_after_an_outage_without_a_burst(carrier, failure):
    """A short form of what follows. The rate is that of ten seconds, which hides a machine that stalls."""
    outage = Outage(carrier, 100, failure(carrier, 5), 120, keep_up=1, expires=60)
    assert outage.requests.most_within(10) <= 500, outage.figures


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.rfc("5626 4.5")
@pytest.mark.parametrize(
    ("failure", "options"),
    [
        pytest.param(restarted, {"keep_up": 5}, id="restarted-keep_up"),
        pytest.param(restarted, {"expires": 300}, id="restarted-refreshes"),
        pytest.param(frozen, {"expires": 300, "keep_up": 5}, id="frozen-keep_up"),
    ],
)
def test_2000_accounts_are_registered_again_5_minutes_after_an_outage(carrier, failure, options):
    outage = Outage(carrier, 2000, failure(carrier, 120), 300, **options)
    assert outage.requests.most_within(1) <= 50, outage.figures
