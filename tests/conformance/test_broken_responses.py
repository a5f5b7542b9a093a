"""Broken responses of every kind, to proxies, a B2BUA and UACs: nothing is left after the timers, and no 2xx is lost.

`FAULTS` breaks a response, `ELEMENTS` get it. Each fault has the fate of a 2xx to an INVITE beside it: the 2xx is passed on or
acknowledged (§16.7 step 5, §13.2.2.4), or it is no response to the INVITE at all, and dropped.
"""

from __future__ import annotations

from typing import NamedTuple

import gevent
import pytest

from sippet_gevent import Request, ResponseContext, SIPError, forward
from sippet_gevent.testing import SERVER, leftovers

from ..core.wire import Peer

CALLER, CALLEE = "10.0.0.50", "10.0.0.61"
TARGET = f"sip:bob@{CALLEE}"
LONGEST = 300
"""Seconds after which the last transaction has ended: timer C, 64*T1 for its CANCEL, and 64*T1 for what was answered then."""

STATUSES = [180, 200, 486]
CONTACT = {"contact": f"<sip:bob@{CALLEE}:5060>"}

DROPPED, PASSED, HUNG_UP, ENDED = "dropped", "passed on", "acknowledged and hung up", "acknowledged"


# ---- faults: how they change the bytes of a response, and what a proxy and a UAC then do with a 2xx to an INVITE


class Fault(NamedTuple):
    """How a response is broken."""

    lines: dict[str, list[str] | None]
    """Header fields in place of its own, None for none. `{top}` and `{below}` are the correct Vias."""
    at_proxy: str
    at_uac: str


FAULTS = {
    "whole": Fault({}, PASSED, ENDED),
    "no Via": Fault({"Via": None}, DROPPED, DROPPED),
    "no Via but the top one": Fault({"Via": ["{top}"]}, HUNG_UP, ENDED),
    "top Via without branch": Fault(
        {"Via": ["SIP/2.0/UDP 10.0.0.1:5060", "{below}"]}, DROPPED, DROPPED
    ),
    "top Via with another branch": Fault(
        {"Via": ["SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKx", "{below}"]}, DROPPED, DROPPED
    ),
    "top Via unreadable": Fault({"Via": ["SIP/2.0/UDP [::", "{below}"]}, DROPPED, DROPPED),
    "lower Via unreadable": Fault(
        {"Via": ["{top}", "{below}", "SIP/2.0/UDP 2001:db8::8:5060"]}, PASSED, ENDED
    ),
    "lower Via unreadable, in one line": Fault(
        {"Via": ['{top}, {below} , SIP/2.0/UDP x;y="']}, PASSED, ENDED
    ),
    "100 Vias": Fault(
        {"Via": ["{top}", "{below}", *["SIP/2.0/UDP 10.0.0.98"] * 98]}, PASSED, ENDED
    ),
    "no CSeq": Fault({"CSeq": None}, DROPPED, DROPPED),
    "CSeq unreadable": Fault({"CSeq": ["one INVITE"]}, DROPPED, DROPPED),
    "CSeq of another method": Fault({"CSeq": ["1 MESSAGE"]}, DROPPED, DROPPED),
    "CSeq with another number": Fault({"CSeq": ["77 INVITE"]}, PASSED, ENDED),
    "no To": Fault({"To": None}, DROPPED, DROPPED),
    "To unreadable": Fault({"To": ["<sip:bob@"]}, DROPPED, DROPPED),
    "To without tag": Fault({"To": ["<sip:bob@example.com>"]}, PASSED, ENDED),
    "no Contact": Fault({"Contact": None}, PASSED, ENDED),
    "Contact unreadable": Fault({"Contact": ["<sip:bob@"]}, PASSED, ENDED),
    "Contact *": Fault({"Contact": ["*"]}, PASSED, ENDED),
    "second Contact unreadable": Fault(
        {"Contact": [f"<sip:bob@{CALLEE}>", "<sip:"]}, PASSED, ENDED
    ),
    "Record-Route unreadable": Fault({"Record-Route": ["<sip:10.0.0.1;lr"]}, PASSED, ENDED),
    "100 Record-Routes": Fault({"Record-Route": ["<sip:10.0.0.61;lr>"] * 101}, PASSED, ENDED),
    "Reason and Warning unreadable": Fault(
        {"Reason": [";"], "Warning": ["x"], "Retry-After": ["-"]}, PASSED, ENDED
    ),
}


def broken(request: Request, status: int, fault: Fault) -> bytes:
    """Return the bytes of a response to a request with this fault."""
    response = request.response(status, **(CONTACT if status < 300 else {}))
    top, *below = request.headers.all("Via")
    for name, texts in fault.lines.items():
        method_free = [text.replace("INVITE", request.method) for text in texts or []]
        response.headers[name] = [
            text.format(top=top, below=below[0] if below else "SIP/2.0/UDP x")
            for text in method_free
        ]
    return bytes(response)


# ---- elements: what asks the callee, and what tells whether that is over


def forwarding(request, tx):
    return forward(request, tx, TARGET, record_route=True)


def forking(request, tx):
    with ResponseContext(tx) as context:
        context.fork(TARGET)
        for response in context:
            if response.is_provisional or response.is_success:
                context.forward(response)
        if not tx.answered:
            context.forward(context.best())


def bridge(request, tx):
    """README's B2BUA."""

    def ringing(response):
        tx.respond(response.status, body=response.body, content_type=response.content_type)

    with (
        tx.stack.invite(TARGET, body=request.body, on_provisional=ringing) as callee,
        tx.accept(body=callee.remote_body) as caller,
    ):
        gevent.wait([caller.ended, callee.ended], count=1)


CORES = {"forward": forwarding, "fork": forking, "b2bua": bridge}
UACS = {
    "invite": lambda stack: stack.invite(TARGET).hangup(),
    "request": lambda stack: stack.request("MESSAGE", TARGET),
}


class Case:
    """An element asks a callee, which answers with a broken response whatever it is asked by the first request."""

    def __init__(self, sip, element, fault, status):
        self.sip, self.fault, self.status = sip, FAULTS[fault], status
        self.callee = Peer(sip, CALLEE, self.answer)
        self.errors = []
        if element in CORES:
            self.stack = sip.stack(CORES[element], SERVER)
            self.caller = Peer(sip, CALLER)
            self.invite = self.caller.ask("INVITE", to="<sip:bob@example.com>")
        else:
            self.stack, self.caller = sip.client, None
            self.asking = gevent.spawn(self.ask, UACS[element])
        sip.advance(1)

    def ask(self, function):
        try:
            function(self.stack)
        except SIPError as error:
            self.errors.append(error)

    def answer(self, request):
        if request.method in ("INVITE", "MESSAGE"):
            request.flow.send(broken(request, self.status, self.fault))
        elif request.method == "BYE":
            request.flow.send(bytes(request.response(200)))

    @property
    def caller_statuses(self):
        return [response.status for response in self.caller.responses if response.status >= 200]

    @property
    def outcome(self):
        """What has become of the responses."""
        methods = {request.method for request in self.callee.requests}
        if self.caller is not None and self.status in [
            response.status for response in self.caller.responses
        ]:
            return PASSED
        if {"ACK", "BYE"} <= methods:
            return HUNG_UP
        return ENDED if "ACK" in methods else DROPPED


@pytest.mark.rfc("3261 16.6", "3261 16.8", "3261 9.1", "3261 17")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("element", [*CORES, *UACS])
def test_broken_response_leaves_nothing_after_the_timers(sip, element, status, fault):
    case = Case(sip, element, fault, status)
    sip.advance(LONGEST)
    assert [left for stack in sip.stacks for left in leftovers(stack)] == []
    assert (len(case.stack.dialogs), len(case.stack.rerouted)) == (0, 0)


@pytest.mark.rfc("3261 16.7", "3261 17.2.1")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("element", CORES)
def test_broken_response_leaves_no_caller_without_a_final_one(sip, element, status, fault):
    case = Case(sip, element, fault, status)
    sip.advance(LONGEST)
    assert case.caller_statuses


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("element", UACS)
def test_broken_response_leaves_no_uac_waiting(sip, element, status, fault):
    case = Case(sip, element, fault, status)
    sip.advance(LONGEST)
    assert case.asking.ready()


@pytest.mark.rfc("3261 16.7")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("element", ["forward", "fork"])
def test_broken_2xx_is_passed_on_by_a_proxy_or_hung_up(sip, element, fault):
    case = Case(sip, element, fault, 200)
    sip.advance(LONGEST)
    assert case.outcome == FAULTS[fault].at_proxy


@pytest.mark.rfc("3261 13.2.2.4")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("element", ["invite", "b2bua"])
def test_broken_2xx_is_acknowledged_by_a_uac_and_its_call_ended(sip, element, fault):
    case = Case(sip, element, fault, 200)
    sip.advance(LONGEST)
    methods = {request.method for request in case.callee.requests}
    assert ({"ACK", "BYE"} <= methods) is (FAULTS[fault].at_uac == ENDED)


# A UAC drops a 1xx with further Vias (§8.1.3.3), so it has none to wait for before it cancels.
CANCELLED = [
    (core, name)
    for core in ("forward", "fork")
    for name, fault in FAULTS.items()
    if fault.at_proxy != DROPPED
] + [
    ("b2bua", name)
    for name, fault in FAULTS.items()
    if fault.at_uac != DROPPED and "{below}" not in str(fault.lines)
]


@pytest.mark.rfc("3261 16.10", "3261 9.1")
@pytest.mark.parametrize(("element", "fault"), CANCELLED)
def test_caller_can_cancel_after_a_broken_180(sip, element, fault):
    case = Case(sip, element, fault, 180)
    case.caller.send(case.invite.cancel())
    assert "CANCEL" in case.callee.methods
    sip.advance(LONGEST)
    assert case.caller_statuses
