"""Parallel ringing: a bridge with several targets, RFC 3261 §16.7, RFC 5626 §7."""

from __future__ import annotations

import pytest

from sippet_gevent import Binding, Reject, Timers, bridge
from sippet_gevent.message.address import NameAddr
from sippet_gevent.message.uri import URI
from sippet_gevent.stores.bindings import FlowName

from ..wire import Peer
from .phones import CALLER, body, describe

GONE = FlowName("", "gone")

HOSTS = ("10.0.0.60", "10.0.0.61", "10.0.0.62")


class Ringing:
    """A caller, three phones and a bridge that calls them at the same time."""

    def __init__(self, sip, targets=None, **options):
        self.sip, self.results, self.errors = sip, [], []
        targets = tuple(f"sip:bob@{host}" for host in HOSTS) if targets is None else targets

        def core(request, tx):
            try:
                self.results.append(bridge(request, tx, targets, **options))
            except BaseException as error:
                self.errors.append(error)
                raise

        self.stack = sip.serve(core)
        self.caller = Peer(sip, CALLER)
        self.phones = [Peer(sip, host) for host in HOSTS]
        self.invite = self.caller.ask("INVITE", **body(describe()))

    def reply(self, number, status, **headers):
        """A phone answers the INVITE."""
        phone = self.phones[number]
        headers.setdefault("contact", f"<{phone.uri}>")
        more = body(describe(phone.host)) if status == 200 else {}
        return phone.reply(self.inner(number), status, **more, **headers)

    def inner(self, number):
        """The first INVITE that a phone has received."""
        return next(each for each in self.phones[number].requests if each.method == "INVITE")

    @property
    def heard(self):
        return [status for status in self.caller.statuses if status > 100]

    def end(self):
        """The caller acknowledges and hangs up; the phone answers."""
        answer = self.caller.responses[-1]
        self.caller.send(self.caller.within(self.invite, answer, "ACK", number=1))
        self.caller.send(self.caller.within(self.invite, answer, "BYE", number=2))
        for phone in self.phones:
            if "BYE" in phone.methods:
                phone.reply(phone.last("BYE"), 200)

    def cancelled(self, number):
        """A phone answers the CANCEL."""
        phone = self.phones[number]
        phone.reply(phone.last("CANCEL"), 200)
        self.reply(number, 487)
        return phone.last("CANCEL")


def test_first_that_answers_is_connected_and_the_others_stop(sip):
    ringing = Ringing(sip)
    assert len({str(ringing.inner(n).call_id) for n in range(3)}) == 1
    assert len({ringing.inner(n).from_.tag for n in range(3)}) == 1
    assert [str(ringing.inner(n).uri.host) for n in range(3)] == list(HOSTS)
    for number in range(3):
        ringing.reply(number, 180)
    ringing.reply(1, 200)
    for number in (0, 2):
        cancel = ringing.cancelled(number)
        assert "Call completed elsewhere" in cancel.headers["Reason"]
    assert ringing.heard == [180, 180, 180, 200]
    assert ringing.caller.responses[-1].body == describe(HOSTS[1])
    ringing.end()
    assert [phone.methods[-1] for phone in ringing.phones] == ["ACK", "BYE", "ACK"]
    assert len(ringing.results) == 1


@pytest.mark.rfc("3261 13.2.2.4")
def test_second_answer_is_acknowledged_and_hung_up(sip):
    ringing = Ringing(sip)
    ringing.reply(0, 180)
    ringing.reply(1, 180)
    ringing.reply(2, 486)
    ringing.reply(0, 200)
    ringing.reply(1, 200)  # it crosses the CANCEL
    phone = ringing.phones[1]
    assert phone.methods == ["INVITE", "CANCEL", "ACK", "BYE"]
    phone.reply(phone.last("CANCEL"), 481)
    phone.reply(phone.last("BYE"), 200)
    assert ringing.heard == [180, 180, 200]
    ringing.end()


@pytest.mark.rfc("3261 16.7")
def test_best_refusal_reaches_the_caller_when_all_have_refused(sip):
    ringing = Ringing(sip)
    ringing.reply(0, 503)
    ringing.reply(1, 486)
    assert ringing.heard == []
    ringing.reply(2, 500)
    assert ringing.heard == [486]


@pytest.mark.rfc("3261 16.7")
def test_6xx_ends_the_search(sip):
    ringing = Ringing(sip)
    ringing.reply(0, 180)
    ringing.reply(2, 486)
    ringing.reply(1, 603)
    assert ringing.heard == [180, 603]
    ringing.cancelled(0)


def test_timeout_cancels_all_targets(sip):
    ringing = Ringing(sip, timeout=20)
    for number in range(3):
        ringing.reply(number, 180)
    sip.clock.advance(21)
    assert ringing.heard[-1] == 408
    for number in range(3):
        ringing.cancelled(number)


def test_cancel_of_the_caller_reaches_all_targets(sip):
    ringing = Ringing(sip)
    for number in range(3):
        ringing.reply(number, 180)
    ringing.caller.send(ringing.invite.cancel())
    for number in range(3):
        ringing.cancelled(number)
    assert ringing.heard[-1] == 487


def test_silent_targets_end_with_timer_b_of_the_bridge(sip):
    ringing = Ringing(sip, timers=Timers(b=3))
    sip.clock.advance(4)
    assert set(ringing.heard) == {408}


def test_one_that_is_silent_does_not_delay_the_answer_of_another(sip):
    ringing = Ringing(sip, timers=Timers(b=3))
    ringing.reply(1, 180)
    sip.clock.advance(4)
    ringing.reply(1, 200)
    assert ringing.heard == [180, 200]
    ringing.end()


def test_invite_that_comes_back_to_the_bridge_is_a_loop(sip):
    ringing = Ringing(sip)
    again = ringing.inner(1).copy()
    ringing.phones[1].send(again)
    assert ringing.phones[1].statuses[-1] == 482
    for number in range(3):
        ringing.reply(number, 486)


def binding(host, **more):
    uri = URI.parse(f"sip:bob@{host}")
    return Binding(uri, 2e9, "call", 1, NameAddr(uri), **more)


@pytest.mark.rfc("3327 5.4")
def test_path_of_a_binding_is_the_route(sip):
    path = (NameAddr.parse(f"<sip:{HOSTS[1]};lr>"),)
    ringing = Ringing(sip, (binding("10.9.9.9", path=path), binding(HOSTS[0])))
    assert str(ringing.inner(1).route[0].uri) == f"sip:{HOSTS[1]};lr"
    assert ringing.inner(1).uri.host == "10.9.9.9"
    ringing.reply(0, 486)
    ringing.reply(1, 486)
    assert ringing.heard == [486]


@pytest.mark.rfc("5626 7")
def test_another_flow_of_a_phone_is_called_when_the_first_has_ended(sip):
    gone = binding(HOSTS[0], flow=GONE, by_flow_only=True)
    ringing = Ringing(sip, (gone._replace(others=(binding(HOSTS[1]),)),))
    assert not ringing.phones[0].requests
    ringing.reply(1, 486)
    assert ringing.heard == [486]


def test_phone_whose_only_flow_has_ended_is_refused(sip):
    gone = binding(HOSTS[0], flow=GONE, by_flow_only=True)
    ringing = Ringing(sip, (gone,))
    assert set(ringing.heard) == {ringing.errors[0].status}
    assert "has ended" in str(ringing.errors[0])


@pytest.mark.parametrize(
    ("targets", "status"),
    [((), 480), (tuple(f"sip:bob@10.0.1.{n}" for n in range(33)), 440)],
)
def test_no_target_and_too_many_are_refused(sip, targets, status):
    ringing = Ringing(sip, targets)
    assert ringing.heard == [status]
    assert isinstance(ringing.errors[0], Reject)


def test_target_of_another_type_is_refused(sip):
    ringing = Ringing(sip, ("sip:bob@10.0.0.60", 7))
    assert isinstance(ringing.errors[0], TypeError)
    assert "a tuple of them" in str(ringing.errors[0])
