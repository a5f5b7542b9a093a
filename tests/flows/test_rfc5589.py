"""RFC 5589, transfers, between three stacks.

The REFER goes within the call, as in §6.2. Most flows of the RFC send it in a dialog of its own; its
messages are the same, in the same order. The callee answers at once, as there.

The BYE to a call that an INVITE replaces leaves with the 200 to that INVITE (RFC 3891 §3), where the
RFC draws it after the ACK.
"""

from __future__ import annotations

import pytest

from sippet_gevent import Reject, SIPError, TransactionTimeout
from sippet_gevent.core.dialog.refer import refer_to

from .flow import Flow, Flows, at, play

flows = Flows(5589)

HELD = """
    Transferee -> Transferor: INVITE/200/ACK
    Transferor -> Transferee: INVITE/200/ACK
"""
REFERRED = """
    Transferor -> Transferee: REFER
    Transferee -> Transferor: 202
    Transferee -> Transferor: NOTIFY/200
"""
REACHED = """
    Transferee -> Target: INVITE/200/ACK
    Transferee -> Transferor: NOTIFY
    Transferor -> Transferee: 200
"""
REPLACED = """
    Transferee -> Target: INVITE
    Target -> Transferee: 200
    Target -> Transferor: BYE
    Transferee -> Target: ACK
    Transferee -> Transferor: NOTIFY
    Transferor -> Target: 200 (BYE)
    Transferor -> Transferee: 200 (NOTIFY)
"""
ENDED = """
    Transferor -> Transferee: BYE/200
    Target -> Transferee: BYE/200
"""


class Three:
    """The transferor in a call with the transferee, which it has put on hold."""

    def __init__(self, flow: Flow, *, follows: float = 60, **target) -> None:
        self.flow = flow
        options = {"rings": 0, "core": lambda request, tx: 200 if self.serves(request) else 501}
        self.transferor = flow.phone("Transferor", **options)
        self.transferee = flow.phone("Transferee", follows=follows, **options)
        self.target = flow.phone("Target", **{**options, **target})
        self.transferee.invite(self.transferor)
        flow.wait(1)
        self.call = self.transferor.call

    @staticmethod
    def serves(request) -> bool:
        return request.method == "OPTIONS"

    def hold(self) -> None:
        """Put the last call of the transferor on hold."""
        self.transferor.do("hold")
        self.flow.wait(0.5)

    def consult(self, **options):
        """The transferor calls the target."""
        placing = self.transferor.invite(self.target, **options)
        self.flow.wait(1)
        return placing

    def transfer(self, target, call=None, seconds=3.0, **options):
        """Transfer a call, and let the outcome come."""
        asked = self.flow.go((call or self.call).transfer, target, **options)
        self.flow.wait(seconds)
        return asked

    def end(self) -> None:
        """The transferor leaves the first call, and the target the new one."""
        self.flow.go(self.call.hangup)
        self.flow.wait(1)
        self.target.do("hangup")
        self.flow.wait(1)


@flows("6.1", "successful transfer", HELD + REFERRED + REACHED + ENDED)
def successful(flow):
    three = Three(flow)
    three.hold()
    three.transfer(three.target.uri).get(block=False)
    three.end()


@flows("6.2", "transfer with dialog reuse", HELD + REFERRED + REACHED + ENDED)
def reused(flow):
    three = Three(flow)
    three.hold()
    three.transfer(three.target.uri).get(block=False)
    refer, notify = (
        flow.sip.network.trace[number].data
        for number, (_, arrow) in enumerate(flow.sent())
        if arrow.label in ("REFER", "NOTIFY") and number < 10
    )
    call_id = three.call.dialog.call_id.encode()
    assert call_id in refer and call_id in notify
    three.end()


RESUMED = """
    Transferor -> Transferee: INVITE/200/ACK
    Transferor -> Transferee: BYE/200
"""


@flows(
    "6.3.1",
    "target busy",
    HELD
    + REFERRED
    + """
    Transferee -> Target: INVITE/486/ACK
    Transferee -> Transferor: NOTIFY
    Transferor -> Transferee: 200
    """
    + RESUMED,
)
def busy(flow):
    three = Three(flow, answer=486)
    three.hold()
    refusal = three.transfer(three.target.uri).exception
    assert isinstance(refusal, Reject) and refusal.status == 486
    resume_and_end(three)


def resume_and_end(three):
    """The transferor takes the call back."""
    resumed = three.flow.go(three.call.resume)
    three.flow.wait(1)
    assert resumed.successful() and not three.call.is_held
    three.flow.go(three.call.hangup)
    three.flow.wait(1)


@flows(
    "6.3.2",
    "target does not answer",
    HELD
    + REFERRED
    + """
    Transferee -> Target: INVITE
    Target -> Transferee: 180
    Transferee -> Transferor: NOTIFY
    Transferor -> Transferee: 200
    Transferee -> Target: CANCEL
    Transferee -> Transferor: NOTIFY
    Target -> Transferee: 200
    Target -> Transferee: 487
    Transferor -> Transferee: 200
    Transferee -> Target: ACK
    """
    + RESUMED,
)
def unanswered(flow):
    # the RFC draws no NOTIFY for the 180, and draws the last one after the 487; RFC 3515 §2.4.5
    # leaves to the transferee when it tells what, and ours tells with its CANCEL that it gives up
    three = Three(flow, follows=5, rings=1, answer=None)
    three.hold()
    refusal = three.transfer(three.target.uri, seconds=45).exception
    assert isinstance(refusal, Reject) and refusal.status in (408, 487)
    resume_and_end(three)


@flows(
    "7.1",
    "exposing the target",
    HELD
    + """
    Transferor -> Target: INVITE/200/ACK
    Transferor -> Target: BYE/200
    """
    + REFERRED
    + REACHED
    + ENDED,
)
def exposed(flow):
    three = Three(flow)
    three.hold()
    three.consult()
    three.transferor.do("hangup")
    flow.wait(1)
    three.transfer(three.target.uri).get(block=False)
    three.end()


@flows(
    "7.2",
    "protecting the target",
    HELD
    + """
    Transferor -> Target: INVITE/200/ACK
    Transferor -> Target: INVITE/200/ACK
    Transferor -> Target: REFER
    Target -> Transferor: 202
    Target -> Transferor: NOTIFY/200
    Target -> Transferee: INVITE
    Transferee -> Target: 200
    Transferee -> Transferor: BYE
    Target -> Transferee: ACK
    Target -> Transferor: NOTIFY
    Transferor -> Transferee: 200
    Transferor -> Target: 200
    Transferor -> Target: BYE/200
    Target -> Transferee: BYE/200
    """,
)
def protected(flow):
    three = Three(flow, follows=0)
    three.target._follows = 60
    three.hold()
    three.consult()
    three.hold()
    consultation = three.transferor.call
    three.transfer(three.call, call=consultation).get(block=False)
    assert three.call.end.by == "peer"
    flow.go(consultation.hangup)
    flow.wait(1)
    three.target.do("hangup")
    flow.wait(1)


CONSULTED = (
    HELD
    + """
    Transferor -> Target: INVITE/200/ACK
    Transferor -> Target: INVITE/200/ACK
"""
)


@flows("7.3", "attended transfer", CONSULTED + REFERRED + REPLACED + ENDED)
def attended(flow):
    three = Three(flow)
    three.hold()
    three.consult()
    three.hold()
    three.transfer(three.transferor.call).get(block=False)
    assert three.transferor.call.ended.is_set()  # it was replaced
    three.end()


@flows(
    "7.4",
    "recovery when the transferee refuses REFER",
    CONSULTED
    + """
    Transferor -> Transferee: REFER/501
    Transferor -> Target: REFER
    Target -> Transferor: 202
    Target -> Transferor: NOTIFY/200
    Target -> Transferee: INVITE
    Transferee -> Target: 200
    Transferee -> Transferor: BYE
    Target -> Transferee: ACK
    Target -> Transferor: NOTIFY
    Transferor -> Transferee: 200
    Transferor -> Target: 200
    Transferor -> Target: BYE/200
    Target -> Transferee: BYE/200
    """,
)
def recovered(flow):
    three = Three(flow, follows=0)
    three.target._follows = 60
    three.hold()
    three.consult()
    three.hold()
    consultation = three.transferor.call
    assert three.transfer(consultation).exception.status == 501
    three.transfer(three.call, call=consultation).get(block=False)
    flow.go(consultation.hangup)
    flow.wait(1)
    three.target.do("hangup")
    flow.wait(1)


VIA_PROXY = """
    Transferor -> Proxy: INVITE
    Proxy -> Transferor: 100
    Proxy -> Target: INVITE
    Target -> Proxy: 200
    Proxy -> Transferor: 200
    Transferor -> Proxy: ACK
    Proxy -> Target: ACK
    Transferor -> Proxy: INVITE
    Proxy -> Target: INVITE
    Target -> Proxy: 200
    Proxy -> Transferor: 200
    Transferor -> Proxy: ACK
    Proxy -> Target: ACK
"""


@flows(
    "7.5",
    "attended transfer to the address-of-record",
    HELD
    + VIA_PROXY
    + REFERRED
    + """
    Transferee -> Proxy: INVITE
    Proxy -> Transferee: 100
    Proxy -> Target: INVITE
    Target -> Proxy: 200 (INVITE)
    Target -> Proxy: BYE
    Proxy -> Transferee: 200
    Proxy -> Transferor: BYE
    Transferee -> Proxy: ACK
    Transferee -> Transferor: NOTIFY
    Transferor -> Proxy: 200 (BYE)
    Proxy -> Target: ACK
    Transferor -> Transferee: 200 (NOTIFY)
    Proxy -> Target: 200 (BYE)
    Transferor -> Transferee: BYE/200
    Target -> Proxy: BYE
    Proxy -> Transferee: BYE
    Transferee -> Proxy: 200
    Proxy -> Target: 200
    """,
)
def address_of_record(flow):
    three = Three(flow)
    proxy = flow.proxy("Proxy", three.target.uri)
    three.hold()
    three.transferor.invite(f"sip:target@{at(proxy)[4:]}")
    flow.wait(1)
    three.hold()
    named = refer_to(three.transferor.call).uri.headers.get("Replaces").replace(";", "%3B")
    named = named.replace("=", "%3D")
    aor = f"sip:target@{at(proxy)[4:]}?Replaces={named}&Require=replaces"
    three.transfer(aor).get(block=False)
    assert three.target.invites[-1].require == ("replaces",)
    three.end()


@flows(
    "7.5 fallback",
    "the address-of-record is refused, and the Contact tried",
    CONSULTED
    + REFERRED
    + """
    Transferee -> Proxy: INVITE/403/ACK
    Transferee -> Transferor: NOTIFY
    Transferor -> Transferee: 200
    """
    + REFERRED
    + REPLACED
    + ENDED,
)
def contact_after_aor(flow):
    three = Three(flow)
    proxy = flow.stack("Proxy", lambda request, tx: 403)
    three.hold()
    three.consult()
    three.hold()
    consultation = three.transferor.call
    refused = three.transfer(f"sip:target@{at(proxy)[4:]}?Require=replaces")
    assert refused.exception.status == 403
    three.transfer(consultation).get(block=False)
    three.end()


@flows(
    "7.6",
    "semi-attended transfer, the transferor waits",
    HELD
    + """
    Transferor -> Target: INVITE
    Target -> Transferor: 180
    Target -> Transferor: 200
    Transferor -> Target: ACK
    """
    + REFERRED
    + """
    Transferee -> Target: INVITE
    Target -> Transferee: 180
    Transferee -> Transferor: NOTIFY/200
    """
    + REPLACED.replace("    Transferee -> Target: INVITE\n", "")
    + ENDED,
)
def transferor_waits(flow):
    # the target rings before each answer, as phones do; the RFC draws that for the first INVITE
    three = Three(flow, rings=1)
    three.hold()
    three.consult()
    flow.wait(1)
    three.transfer(three.transferor.call).get(block=False)
    three.end()


@flows(
    "7.6 cancelled",
    "semi-attended transfer, the transferor gives up",
    HELD
    + """
    Transferor -> Target: INVITE
    Target -> Transferor: 180
    Transferor -> Target: CANCEL
    Target -> Transferor: 200
    Target -> Transferor: 487
    Transferor -> Target: ACK
    """
    + REFERRED
    + REACHED
    + ENDED,
)
def transferor_gives_up(flow):
    three = Three(flow, rings=5)
    three.hold()
    given_up = three.consult(timeout=0.5)
    assert isinstance(given_up.exception, TransactionTimeout)
    three.target.rings = 0
    three.transfer(three.target.uri).get(block=False)
    three.end()


@flows(
    "7.6 answered",
    "semi-attended transfer, the target answers the transferor that gives up",
    HELD
    + """
    Transferor -> Target: INVITE
    Target -> Transferor: 180
    Transferor -> Target: CANCEL
    Target -> Transferor: 200 (INVITE)
    Target -> Transferor: 200 (CANCEL)
    Transferor -> Target: ACK
    Transferor -> Target: BYE/200
    """
    + REFERRED
    + REACHED
    + ENDED,
)
def target_answers_the_cancelled(flow):
    # the RFC keeps that call and replaces it; ours is hung up, as RFC 3261 §15 says of a caller that
    # has given up, and the transferee calls the target anew
    three = Three(flow, rings=0.5)
    three.hold()
    given_up = three.consult(timeout=0.55)
    assert isinstance(given_up.exception, TransactionTimeout)
    three.target.rings = 0
    three.transfer(three.target.uri).get(block=False)
    three.end()


ASKED = """
    Transferee -> Transferor: INVITE/200/ACK
    Transferor -> Transferee: OPTIONS/200
    Transferor -> Transferee: INVITE/200/ACK
"""


def ask(three, call):
    """The transferor asks what its peer can do."""
    asked = three.flow.go(call.request, "OPTIONS")
    three.flow.wait(0.5)
    assert asked.get(block=False).status == 200
    return asked.value


@flows(
    "7.7",
    "fallback to basic transfer after a 420",
    ASKED
    + """
    Transferor -> Target: INVITE/420/ACK
    """
    + REFERRED
    + REACHED
    + ENDED,
)
def fallback_after_420(flow):
    three = Three(flow)
    three.target.answers = lambda request, tx: (
        request.response(420, unsupported="replaces") if request.require else 200
    )
    ask(three, three.call)
    three.hold()
    refused = three.consult(require="replaces")
    assert isinstance(refused.exception, SIPError) and refused.exception.status == 420
    three.target.answers = 200
    three.transfer(three.target.uri).get(block=False)
    three.end()


@flows(
    "7.7 options",
    "fallback to basic transfer after an OPTIONS",
    ASKED
    + """
    Transferor -> Target: INVITE/200/ACK
    Transferor -> Target: OPTIONS/200
    Transferor -> Target: BYE/200
    """
    + REFERRED
    + REACHED
    + ENDED,
)
def fallback_after_options(flow):
    three = Three(flow)
    ask(three, three.call)
    three.hold()
    three.consult()
    assert "replaces" in ask(three, three.transferor.call).supported
    three.transferor.do("hangup")
    flow.wait(0.5)
    three.transfer(three.target.uri).get(block=False)
    three.end()


@flows("8", "transfer with Referred-By", CONSULTED + REFERRED + REPLACED + ENDED)
def referred_by(flow):
    three = Three(flow)
    three.hold()
    three.consult()
    three.hold()
    three.transfer(three.transferor.call).get(block=False)
    shown = three.target.invites[-1].referred_by
    assert shown.uri == three.call.dialog.local.uri
    three.end()


NOT_PLAYED = {
    "9": "the ad hoc conference needs a focus that mixes, a media server",
}

SECTIONS = {
    "6.1", "6.2", "6.3.1", "6.3.2", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "7.7", "8", "9",
}  # fmt: skip


def test_each_flow_is_played_or_has_a_reason():
    assert flows.sections() | set(NOT_PLAYED) == SECTIONS


@pytest.mark.parametrize(("arrows", "script"), flows.parameters())
def test_flow(sip, arrows, script):
    play(sip, arrows, script)
