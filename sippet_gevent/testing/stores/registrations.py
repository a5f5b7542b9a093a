"""StoreRegistrations: REGISTER requests with a store that is slow or fails, through a Registrar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import gevent
import pytest

from ...core.registrar.registrar import Registrar
from ...errors import SIPError
from ...message.address import NameAddr
from ...message.fields.rfc3261 import CSeq
from ...message.message import Request
from ...message.uri import URI
from ...stores.base import BindingStore
from ...stores.bindings import Bindings
from ...stores.location import Location
from ..fixture import Asked, Sip
from .calls import PATIENCE
from .faulty import FAILURES, FAULTS, Faulty

AOR = "sip:alice@example.com"

SOON = 0.3
"""Seconds within which a REGISTER is answered, whatever the store does."""

TRIES = 5
"""Most REGISTER requests that a phone sends until it is registered by a store that works again."""

T = TypeVar("T")

Maker = Callable[[], BindingStore]


class Phones:
    """Phones that register, a registrar with a store, and the time that passes for them."""

    def __init__(self, sip: Sip, store: BindingStore, **options: float) -> None:
        self.sip = sip
        self.store = Faulty(store, sleep=sip.clock.sleep)
        self.location = Location(self.store, **options)
        self.stack = sip.stack()
        self.stack.on("REGISTER")(Registrar(self.location))
        self._numbers: dict[str, int] = {}

    def send(
        self, *contacts: str, call_id: str = "phone", cseq: int | None = None, aor: str = AOR
    ) -> Asked:
        """Send a REGISTER, by default with the next CSeq of this phone, and do not wait."""
        number = self._numbers.get(call_id, 0) + 1 if cseq is None else cseq
        self._numbers[call_id] = max(number, self._numbers.get(call_id, 0))
        request = Request(
            "REGISTER",
            "sip:example.com",
            to=f"<{aor}>",
            from_=f"<{aor}>",
            call_id=call_id,
            cseq=CSeq(number, "REGISTER"),
            contact=contacts,
        )
        return self.sip.ask(self.stack, request)

    def send_many(self, count: int) -> list[Asked]:
        """Send so many REGISTER requests at the same time, by up to ten phones of one user. The
        CSeq of each phone increases."""
        return [
            self.send(f"<sip:{number % 10}@192.0.2.1>;expires={1000 + number}", call_id=call_id)
            for number in range(count)
            for call_id in [f"phone-{number % 10}"]
        ]

    def answers(self, *asked: Asked) -> list[int]:
        """Let time pass until each REGISTER has its final response, and return their status."""
        self.wait(lambda: all(each.final_response is not None for each in asked))
        return [self._checked(each) for each in asked]

    def _checked(self, asked: Asked) -> int:
        response = asked.final_response
        assert response is not None
        if response.status == 503:
            assert response.retry_after is not None, "a 503 must say when to try again"
            assert 0 < response.retry_after.seconds <= 120
        return response.status

    def register(self, *contacts: str, **options: str) -> int:
        """Register as a phone does that gets 503 and tries again after Retry-After. Return the
        last status."""
        for _ in range(TRIES):
            asked = self.send(*contacts, **options)  # type: ignore[arg-type]
            (status,) = self.answers(asked)
            if status != 503:
                break
            self.pause(asked)
        return status

    def pause(self, *asked: Asked) -> None:
        """Let the seconds pass after which these phones may try again."""
        times = [
            each.final_response.retry_after.seconds
            for each in asked
            if each.final_response is not None and each.final_response.retry_after is not None
        ]
        self.settle(max(times, default=0))

    def settle(self, seconds: float = 0.0) -> None:
        """Let time pass, and wait until nothing uses the store."""
        clock = self.sip.clock
        until = clock.now() + seconds
        self.wait(lambda: clock.now() >= until and not self.store.waiting, step=0.05)

    def wait(self, done: Callable[[], bool], step: float = 0.001) -> None:
        """Let time pass, in steps of so many seconds, until something is done. While the other
        store works, no time passes on the clock of the test, so a slow machine changes nothing."""
        with gevent.Timeout(PATIENCE):
            while not done():
                self.sip.settle()
                if self.store.inside:
                    gevent.sleep(0.001)
                elif not done():
                    self.sip.clock.advance(step)

    def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Return what a function returns that may wait for the store."""
        greenlet = gevent.spawn(outcome_of, function, *arguments)
        self.wait(greenlet.ready)
        result: T | SIPError = greenlet.get()
        if isinstance(result, SIPError):
            raise result
        return result

    @property
    def bound(self) -> dict[str, int]:
        """The CSeq of each binding in the other store, by Contact URI."""
        bindings = self.run(self.store.store.lookup, AOR)
        assert len({b.uri for b in bindings}) == len(bindings)
        return {str(b.uri): b.cseq for b in bindings}

    def found(self) -> set[str]:
        """Return the Contact URIs to which a request for the user goes."""
        bindings: Bindings = self.run(self.location.lookup, URI.parse(AOR))
        return {str(b.uri) for b in bindings}


def outcome_of(function: Callable[..., T], *arguments: object) -> T | SIPError:
    """Return what a function returns or raises."""
    try:
        return function(*arguments)
    except SIPError as error:
        return error


class StoreRegistrations:
    """Tests of REGISTER with a store, slow and failing."""

    @pytest.fixture
    def phones(self, sip: Sip, make: Maker) -> Iterator[Phones]:
        """Phones that register with a new store."""
        phones = Phones(sip, make())
        yield phones
        phones.store.fault, phones.store.latency = None, 0.0
        phones.settle()
        phones.location.close()

    @pytest.mark.parametrize("count", [2, 10, 50])
    def test_registrations_at_the_same_time_are_all_kept(self, phones: Phones, count: int) -> None:
        phones.store.latency = 0.02
        asked = phones.send_many(count)
        assert phones.answers(*asked) == [200] * count
        assert phones.bound == {
            f"sip:{number}@192.0.2.1": max(1, count // 10) for number in range(min(count, 10))
        }
        assert phones.found() == set(phones.bound)

    def test_registrations_of_one_phone_keep_the_order_of_their_cseq(self, phones: Phones) -> None:
        phones.store.latency = 0.02
        first = [phones.send("<sip:a@192.0.2.1>", cseq=number) for number in (1, 2, 4)]
        late = phones.send("<sip:a@192.0.2.1>", cseq=3)
        last = phones.send("<sip:a@192.0.2.1>", cseq=5)
        assert phones.answers(*first, late, last) == [200, 200, 200, 500, 200]
        assert phones.bound == {"sip:a@192.0.2.1": 5}

    def test_refused_registration_fails_none_that_waits_with_it(self, phones: Phones) -> None:
        phones.store.latency = 0.02
        asked = [
            phones.send("<sip:a@192.0.2.1>", call_id="a"),
            phones.send("<sip:b@192.0.2.1>;expires=5", call_id="b"),
            phones.send("<sip:c@192.0.2.1>", call_id="c"),
        ]
        assert phones.answers(*asked) == [200, 423, 200]
        assert set(phones.bound) == {"sip:a@192.0.2.1", "sip:c@192.0.2.1"}

    def test_registration_and_removal_at_the_same_time_keep_their_order(
        self, phones: Phones
    ) -> None:
        phones.store.latency = 0.02
        asked = [
            phones.send("<sip:a@192.0.2.1>", "<sip:b@192.0.2.1>"),
            phones.send("<sip:a@192.0.2.1>;expires=0"),
            phones.send("<sip:c@192.0.2.1>", call_id="other"),
        ]
        assert phones.answers(*asked) == [200, 200, 200]
        assert set(phones.bound) == {"sip:b@192.0.2.1", "sip:c@192.0.2.1"}

    # ---- a slow store

    @pytest.mark.parametrize("count", [2, 10, 50])
    def test_slow_store_is_answered_503_in_time_and_the_retry_is_kept(
        self, phones: Phones, count: int
    ) -> None:
        phones.store.latency = 0.75
        started = phones.sip.clock.now()
        asked = phones.send_many(count)
        assert phones.answers(*asked) == [503] * count
        assert phones.sip.clock.now() - started <= SOON
        phones.store.latency = 0.02
        phones.pause(*asked)
        again = phones.send_many(count)
        assert phones.answers(*again) == [200] * count
        assert set(phones.bound) == {f"sip:{n}@192.0.2.1" for n in range(min(count, 10))}
        assert phones.found() == set(phones.bound)

    def test_registration_that_was_late_is_stored_whole_or_not(self, phones: Phones) -> None:
        phones.store.latency = 0.75
        asked = [
            phones.send(f"<sip:a@192.0.2.{n}>", f"<sip:b@192.0.2.{n}>", call_id=f"phone-{n}")
            for n in range(5)
        ]
        assert phones.answers(*asked) == [503] * 5
        phones.settle(3.0)
        hosts = [uri.partition("@")[2] for uri in phones.bound]
        assert all(hosts.count(host) == 2 for host in hosts)

    def test_lookup_is_answered_in_time_while_the_store_is_slow(self, phones: Phones) -> None:
        assert phones.register("<sip:a@192.0.2.1>") == 200
        phones.store.latency = 0.75
        started = phones.sip.clock.now()
        assert phones.found() == {"sip:a@192.0.2.1"}
        assert phones.sip.clock.now() - started <= SOON

    # ---- a store that fails

    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("latency", [0.0, 0.02])
    def test_store_with_a_fault_keeps_registrations_whole(
        self, phones: Phones, fault: str, latency: float
    ) -> None:
        assert phones.register("<sip:old@192.0.2.1>", call_id="old") == 200
        phones.store.latency, phones.store.fault = latency, fault
        started = phones.sip.clock.now()
        asked = phones.send("<sip:a@192.0.2.1>", "<sip:b@192.0.2.1>;q=0.5")
        answers = phones.answers(asked)
        assert answers == [200] if fault not in FAILURES else answers in ([200], [503])
        assert phones.sip.clock.now() - started <= SOON
        phones.store.fault = None
        phones.pause(asked)
        assert phones.register("<sip:a@192.0.2.1>", "<sip:b@192.0.2.1>;q=0.5") == 200
        assert set(phones.bound) == {f"sip:{user}@192.0.2.1" for user in ("old", "a", "b")}

    @pytest.mark.parametrize("fault", FAULTS)
    def test_registration_that_is_repeated_as_it_was_is_200(
        self, phones: Phones, fault: str
    ) -> None:
        """A change that finds its own result has been carried out before, perhaps by a call whose
        answer was lost."""
        phones.store.fault = fault
        phones.answers(asked := phones.send("<sip:a@192.0.2.1>", "<sip:b@192.0.2.1>", cseq=7))
        phones.store.fault = None
        phones.pause(asked)
        phones.settle(40.0)  # the transaction of the first request has ended
        again = phones.send("<sip:a@192.0.2.1>", "<sip:b@192.0.2.1>", cseq=7)
        assert phones.answers(again) == [200]
        assert phones.bound == {"sip:a@192.0.2.1": 7, "sip:b@192.0.2.1": 7}

    @pytest.mark.parametrize("fault", FAILURES[:3])
    def test_lookup_is_served_while_the_store_fails(self, phones: Phones, fault: str) -> None:
        assert phones.register("<sip:a@192.0.2.1>") == 200
        phones.store.fault = fault
        for _ in range(20):
            assert phones.found() == {"sip:a@192.0.2.1"}
        phones.store.fault = None
        assert phones.register("<sip:b@192.0.2.1>") == 200
        assert phones.found() == {"sip:a@192.0.2.1", "sip:b@192.0.2.1"}

    def test_store_that_fails_for_long_is_asked_seldom_and_found_again(
        self, phones: Phones
    ) -> None:
        phones.store.fault = "failing"
        for number in range(10):
            assert phones.answers(phones.send("<sip:a@192.0.2.1>", aor=f"sip:{number}@x")) == [503]
        calls = phones.store.calls
        for number in range(100):
            assert phones.answers(phones.send("<sip:a@192.0.2.1>", aor=f"sip:{number}@x")) == [503]
        assert phones.store.calls - calls < 50
        phones.store.fault = None
        phones.settle(15.0)
        assert phones.register("<sip:a@192.0.2.1>") == 200

    # ---- clocks

    @pytest.mark.parametrize("skew", [-3600, 3600])
    def test_clock_of_the_store_decides_when_bindings_end(self, phones: Phones, skew: int) -> None:
        phones.store.skew = skew
        asked = phones.send("<sip:a@192.0.2.1>;expires=600")
        assert phones.answers(asked) == [200]
        assert asked.final_response is not None
        (contact,) = asked.final_response.contact
        assert isinstance(contact, NameAddr) and contact.parameters["expires"] in ("599", "600")
        assert phones.found() == {"sip:a@192.0.2.1"}
        phones.store.later = 601.0
        assert phones.found() == set()
