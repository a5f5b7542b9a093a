"""A stack with many registrations that stops, and removes its bindings without a burst."""

from __future__ import annotations

import gevent
import pytest

from .test_registration import Script


def office(sip, number):
    """Return a registrar, and a stack with many registrations at it."""
    script = Script()
    sip.stack(script, host="10.0.0.1")
    client = sip.stack(host="10.0.0.50")
    registrations = [client.register(f"sip:{n}@10.0.0.1") for n in range(number)]
    sip.clock.advance(number / 20 + 10)
    assert all(each.registered for each in registrations)
    return script, client


def removals(script):
    """Return when bindings were removed."""
    requests = zip(script.requests, script.times, strict=True)
    return [time for request, time in requests if request.expires == 0]


def test_few_bindings_are_removed_at_once(sip):
    script, client = office(sip, 16)
    client.stop()
    sip.settle()
    assert len(removals(script)) == 16


@pytest.mark.parametrize(("number", "seconds", "most"), [(60, 3, 42), (400, 10.1, 60)])
def test_many_bindings_are_removed_at_a_steady_pace(sip, number, seconds, most):
    script, client = office(sip, number)
    begin = sip.clock.now()
    stopping = gevent.spawn(client.stop)
    sip.clock.advance(seconds)
    assert stopping.ready() and stopping.successful()
    found = removals(script)
    assert len(found) == number and found[-1] - begin <= seconds
    for time in found:
        assert sum(time <= each < time + 1 for each in found) <= most


def test_second_stop_removes_the_rest_at_once(sip):
    script, client = office(sip, 60)
    stopping = gevent.spawn(client.stop)
    sip.clock.advance(0.5)
    assert not stopping.ready() and len(removals(script)) < 60
    client.stop()
    sip.settle()
    assert len(removals(script)) == 60 and stopping.ready()
    assert not len(client.registrations)


def test_nothing_registers_while_the_stack_leaves(sip):
    script, client = office(sip, 60)
    stopping = gevent.spawn(client.stop)
    sip.settle()
    before = len(script.requests) - len(removals(script))
    for registration in client.registrations._all:
        registration.refresh()
    sip.clock.advance(5)
    assert stopping.ready()
    assert len(script.requests) - len(removals(script)) == before


def test_timeout_around_a_stop_ends_it(sip):
    script, client = office(sip, 60)
    stopping = gevent.spawn(sip.clock.within, 1, client.stop)
    sip.clock.advance(1.5)
    assert stopping.ready()
    assert not client.is_running and len(removals(script)) == 60
