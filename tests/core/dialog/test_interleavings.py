"""Two requests at the same time within one dialog: what each gets, as the RFCs say.

The tables have a row for each pair, with the section that decides it. `UPDATE` has an offer, and
`update` has none. After each pair the call is as the table says, and ends without leaving anything.
"""

from __future__ import annotations

import pytest

from sippet_gevent import SIPError, TransactionTimeout, sdp

from ..wire import start
from .described import HOST, Placed, Taken, body, phone_offer
from .test_early import Calling, Ringing

SECONDS = 5.0
"""How long the first request of the peer waits in our core."""

# ---- the peer's second request, while its first one waits in our core

ENDS = "the call ends, and the first request gets 487"
GOES_ON = "the first request gets its own answer"
CANCELLED = "the first request gets 487, and the call goes on"

BOTH_THEIRS = {
    # first, second: the status of the second one, what happens, the section
    ("INVITE", "INVITE"): (500, GOES_ON, "3261 14.2"),
    ("INVITE", "UPDATE"): (500, GOES_ON, "6337 4.3"),
    ("INVITE", "update"): (200, GOES_ON, "3311 5.2"),
    ("INVITE", "INFO"): (200, GOES_ON, "6086 4.2.2"),
    ("INVITE", "REFER"): (202, GOES_ON, "3515 2.4.2"),
    ("INVITE", "PRACK"): (481, GOES_ON, "3262 3"),
    ("INVITE", "BYE"): (200, ENDS, "3261 15.1.2"),
    ("INVITE", "CANCEL"): (200, CANCELLED, "3261 9.2"),
    ("UPDATE", "INVITE"): (500, GOES_ON, "6337 4.3"),
    ("UPDATE", "UPDATE"): (500, GOES_ON, "3311 5.2"),
    ("UPDATE", "update"): (500, GOES_ON, "3311 5.2"),
    ("UPDATE", "INFO"): (200, GOES_ON, "6086 4.2.2"),
    ("UPDATE", "REFER"): (202, GOES_ON, "3515 2.4.2"),
    ("UPDATE", "PRACK"): (481, GOES_ON, "3262 3"),
    ("UPDATE", "BYE"): (200, ENDS, "3261 15.1.2"),
    ("UPDATE", "CANCEL"): (200, GOES_ON, "3261 9.2"),
    ("update", "INVITE"): (500, GOES_ON, "6337 4.3"),
    ("update", "UPDATE"): (500, GOES_ON, "3311 5.2"),
    ("update", "update"): (500, GOES_ON, "3311 5.2"),
    ("update", "INFO"): (200, GOES_ON, "6086 4.2.2"),
    ("update", "BYE"): (200, ENDS, "3261 15.1.2"),
    ("INFO", "INVITE"): (200, GOES_ON, "3261 14.2"),
    ("INFO", "UPDATE"): (200, GOES_ON, "3311 5.2"),
    ("INFO", "update"): (200, GOES_ON, "3311 5.2"),
    ("INFO", "INFO"): (200, GOES_ON, "6086 4.2.2"),
    ("INFO", "REFER"): (202, GOES_ON, "3515 2.4.2"),
    ("INFO", "PRACK"): (481, GOES_ON, "3262 3"),
    ("INFO", "BYE"): (200, ENDS, "3261 15.1.2"),
    ("INFO", "CANCEL"): (200, GOES_ON, "3261 9.2"),
    ("REFER", "INVITE"): (200, GOES_ON, "3261 14.2"),
    ("REFER", "UPDATE"): (200, GOES_ON, "3311 5.2"),
    ("REFER", "update"): (200, GOES_ON, "3311 5.2"),
    ("REFER", "INFO"): (200, GOES_ON, "6086 4.2.2"),
    ("REFER", "REFER"): (202, GOES_ON, "3515 2.4.2"),
    ("REFER", "PRACK"): (481, GOES_ON, "3262 3"),
    ("REFER", "BYE"): (200, ENDS, "3261 15.1.2"),
    ("REFER", "CANCEL"): (200, GOES_ON, "3261 9.2"),
    # nothing waits after a BYE
    ("BYE", "INVITE"): (481, GOES_ON, "5407 B"),
    ("BYE", "UPDATE"): (481, GOES_ON, "3261 12.2.2"),
    ("BYE", "update"): (481, GOES_ON, "3261 12.2.2"),
    ("BYE", "INFO"): (481, GOES_ON, "3261 12.2.2"),
    ("BYE", "REFER"): (481, GOES_ON, "3261 12.2.2"),
    ("BYE", "PRACK"): (481, GOES_ON, "3261 12.2.2"),
    ("BYE", "BYE"): (481, GOES_ON, "3261 15.1.2"),
    ("BYE", "CANCEL"): (200, GOES_ON, "3261 9.2"),
}

OWN = {"REFER": 202}


def rows(table):
    """Return the parameters of a table, each with its section."""
    return [
        pytest.param(*pair, *row[:-1], id="-".join(pair), marks=pytest.mark.rfc(row[-1]))
        for pair, row in table.items()
    ]


class Core:
    """A core that lets the first request wait, and answers each."""

    def __init__(self):
        self.slow = None

    def __call__(self, request, tx):
        if request.method == "PRACK":
            return 481
        if request.cseq.number == self.slow:
            tx.wait(SECONDS)
        answer = {}
        if request.body and request.method in ("INVITE", "UPDATE"):
            answer = {"body": tx.call.local_body, "content_type": "application/sdp"}
        return request.response(OWN.get(request.method, 200), **answer)


class Both:
    """A confirmed call with a peer that sends requests by hand, in both roles."""

    def __init__(self, sip, role):
        self.sip = sip
        self.core = Core()
        if role == "callee":
            self.side = Taken(sip, core=self.core)
        else:
            sip.client.core = self.core
            self.side = Placed(sip)
        self.call = self.side.call
        self.side.call.on_reinvite = self.core
        self.peer = self.side.peer
        self.first = self.side.number

    def ask(self, what, **headers):
        """The peer sends a request. Returns it."""
        method = what.upper()
        if what == "CANCEL":
            cancel = self.last.cancel()
            self.peer.send(cancel, to=self.side.at)
            return cancel
        if what in ("INVITE", "UPDATE"):
            headers = {**body(phone_offer()), **headers}
        if what == "REFER":
            headers["refer_to"] = "<sip:carol@10.0.0.99>"
        if what == "PRACK":
            headers["rack"] = "1 1 INVITE"
        if method in ("INVITE", "UPDATE", "REFER"):
            headers["contact"] = f"<sip:{HOST}>"
        self.last = self.side.ask(method, **headers)
        return self.last

    def finals(self, request):
        """Return the final statuses of a request of the peer, each once."""
        return {
            response.status
            for response in self.peer.responses
            if response.status >= 200 and response.cseq == request.cseq
        }

    def acknowledge(self, request):
        """Send the ACK to a 2xx."""
        if request.method == "INVITE" and self.finals(request) == {200}:
            self.side.ask("ACK", number=request.cseq.number)

    def leave(self):
        """Hang up, let everything end, and check that nothing is left."""
        self.call.hangup()
        self.sip.settle()
        for request in self.peer.requests:
            if request.method in ("BYE", "NOTIFY"):
                self.peer.reply(request, 200)
        self.sip.advance(70)
        for stack in self.sip.stacks:
            assert (len(stack.dialogs), stack.dialogs.early) == (0, 0)
            assert len(stack.dialogs.ended) == 0


@pytest.mark.parametrize("role", ["callee", "caller"])
@pytest.mark.parametrize(("first", "second", "status", "then"), rows(BOTH_THEIRS))
def test_two_requests_of_the_peer_in_a_confirmed_dialog(sip, role, first, second, status, then):
    both = Both(sip, role)
    both.core.slow = both.first + 1
    one = both.ask(first)
    assert both.finals(one) == ({200} if first == "BYE" else set())
    other = both.ask(second)
    assert both.finals(other) == {status}
    if status == 500:
        refusal = next(r for r in both.peer.responses if r.status == 500)
        assert 0 <= refusal.retry_after.seconds <= 10
    if then is ENDS:
        assert both.finals(one) == {487}
        assert both.call.end.cause == "bye"
    elif first != "BYE":
        assert not both.call.ended.is_set()
        both.acknowledge(other)
        sip.advance(SECONDS + 0.1)
        own = OWN.get(one.method, 200)
        assert both.finals(one) == ({487} if then is CANCELLED else {own})
        both.acknowledge(one)
        assert not both.call.ended.is_set()
    sip.advance(SECONDS)
    both.leave()


# ---- a request of the peer crosses one of ours

BOTH_SIDES = {
    # ours, theirs: the status of theirs, if the call goes on, the section
    ("INVITE", "INVITE"): (491, True, "3261 14.2"),
    ("INVITE", "UPDATE"): (491, True, "3311 5.2"),
    ("INVITE", "update"): (200, True, "3311 5.2"),
    ("INVITE", "INFO"): (200, True, "6086 4.2.2"),
    ("INVITE", "REFER"): (202, True, "3515 2.4.2"),
    ("INVITE", "PRACK"): (481, True, "3262 3"),
    ("INVITE", "BYE"): (200, False, "3261 15.1.2"),
    ("UPDATE", "INVITE"): (491, True, "6337 4.3"),
    ("UPDATE", "UPDATE"): (491, True, "3311 5.2"),
    ("UPDATE", "update"): (200, True, "3311 5.2"),
    ("UPDATE", "INFO"): (200, True, "6086 4.2.2"),
    ("UPDATE", "REFER"): (202, True, "3515 2.4.2"),
    ("UPDATE", "PRACK"): (481, True, "3262 3"),
    ("UPDATE", "BYE"): (200, False, "3261 15.1.2"),
    ("update", "INVITE"): (200, True, "5407 3.3.2"),
    ("update", "UPDATE"): (491, True, "6337 4.3"),
    ("update", "update"): (200, True, "5407 3.3.2"),
    ("update", "INFO"): (200, True, "6086 4.2.2"),
    ("update", "REFER"): (202, True, "3515 2.4.2"),
    ("update", "PRACK"): (481, True, "3262 3"),
    ("update", "BYE"): (200, False, "3261 15.1.2"),
    ("INFO", "INVITE"): (200, True, "3261 14.2"),
    ("INFO", "UPDATE"): (200, True, "3311 5.2"),
    ("INFO", "update"): (200, True, "3311 5.2"),
    ("INFO", "INFO"): (200, True, "6086 4.2.2"),
    ("INFO", "REFER"): (202, True, "3515 2.4.2"),
    ("INFO", "PRACK"): (481, True, "3262 3"),
    ("INFO", "BYE"): (200, False, "3261 15.1.2"),
    ("REFER", "INVITE"): (200, True, "3261 14.2"),
    ("REFER", "UPDATE"): (200, True, "3311 5.2"),
    ("REFER", "update"): (200, True, "3311 5.2"),
    ("REFER", "INFO"): (200, True, "6086 4.2.2"),
    ("REFER", "REFER"): (202, True, "3515 2.4.2"),
    ("REFER", "PRACK"): (481, True, "3262 3"),
    ("REFER", "BYE"): (200, False, "3261 15.1.2"),
    ("BYE", "INVITE"): (481, False, "5407 3.2.2"),
    ("BYE", "UPDATE"): (481, False, "5407 3.2.2"),
    ("BYE", "update"): (481, False, "5407 3.2.2"),
    ("BYE", "INFO"): (481, False, "5407 3.2.2"),
    ("BYE", "REFER"): (481, False, "5407 3.3.3"),
    ("BYE", "PRACK"): (481, False, "5407 3.2.2"),
    ("BYE", "BYE"): (200, False, "5407 3.2.1"),
}

OURS = {
    "INVITE": lambda call: call.request("INVITE", body=call.local_body),
    "UPDATE": lambda call: call.request("UPDATE", body=call.local_body),
    "update": lambda call: call.request("UPDATE"),
    "INFO": lambda call: call.request("INFO"),
    "REFER": lambda call: call.transfer("sip:carol@10.0.0.99"),
    "BYE": lambda call: call.hangup(),
}


@pytest.mark.parametrize("role", ["callee", "caller"])
@pytest.mark.parametrize(("ours", "theirs", "status", "goes_on"), rows(BOTH_SIDES))
def test_request_of_the_peer_crosses_ours(sip, role, ours, theirs, status, goes_on):
    both = Both(sip, role)
    asking = start(sip, OURS[ours], both.call)
    mine = both.peer.last(ours.upper())
    request = both.ask(theirs)
    assert both.finals(request) == {status}
    both.acknowledge(request)
    assert both.call.ended.is_set() is not goes_on
    if ours == "BYE":
        both.peer.reply(mine, 200)
    else:
        # a peer whose BYE has ended the call answers 487 (§15.1.2), others refuse: 488, 603
        both.peer.reply(mine, 487 if not goes_on else 488)
    if mine.method == "INVITE":
        assert both.peer.last("ACK").cseq.number == mine.cseq.number
    sip.settle()
    assert asking.ready()
    assert both.call.ended.is_set() is not goes_on  # a refusal leaves the session (§14.1)
    both.leave()


# ---- our CANCEL of a re-INVITE, which its callee has not answered yet

CANCELLED_BY_US = {
    # the peer's request, which crosses our CANCEL: its status, the section
    "INVITE": (491, "3261 14.2"),
    "UPDATE": (491, "3311 5.2"),
    "update": (200, "3311 5.2"),
    "INFO": (200, "6086 4.2.2"),
    "REFER": (202, "3515 2.4.2"),
    "PRACK": (481, "3262 3"),
    "BYE": (200, "3261 15.1.2"),
}


class Cancelling(Both):
    """Our re-INVITE rings, and is cancelled after a second."""

    def __init__(self, sip, role, *, rings=True):
        super().__init__(sip, role)
        self.before = self.call.local_body
        self.asking = start(sip, self.call.reinvite, timeout=1)
        self.mine = self.peer.last("INVITE")
        if rings:
            self.peer.reply(self.mine, 180, contact=f"<{self.peer.uri}>")
        sip.advance(1.1)
        assert isinstance(self.asking.exception, TransactionTimeout)
        assert not self.call.ended.is_set()
        if rings:
            self.peer.reply(self.peer.last("CANCEL"), 200)


@pytest.mark.parametrize("role", ["callee", "caller"])
@pytest.mark.parametrize("answer", [487, 200, 488])
@pytest.mark.parametrize(
    ("theirs", "status"),
    [pytest.param(w, s, id=w, marks=pytest.mark.rfc(r)) for w, (s, r) in CANCELLED_BY_US.items()],
)
def test_request_of_the_peer_crosses_our_cancel_of_a_reinvite(sip, role, theirs, status, answer):
    both = Cancelling(sip, role)
    request = both.ask(theirs)
    assert both.finals(request) == {status}
    both.acknowledge(request)
    accepted = {"contact": f"<{both.peer.uri}>", **body(both.side.mine)} if answer == 200 else {}
    both.peer.reply(both.mine, answer, **accepted)
    ack = both.peer.last("ACK")
    assert ack.cseq.number == both.mine.cseq.number  # the 2xx has crossed the CANCEL (§9.1)
    assert both.call.ended.is_set() is (theirs == "BYE")
    if theirs != "BYE":
        info = start(sip, both.call.request, "INFO")  # the call goes on
        both.peer.reply(both.peer.last("INFO"), 200)
        assert info.get().status == 200
    both.leave()


@pytest.mark.rfc("3261 9.1")
def test_cancelled_reinvite_that_gets_no_answer_leaves_the_call(sip):
    both = Cancelling(sip, "callee")
    sip.advance(40)
    assert not both.call.ended.is_set()
    assert both.call.local_body == both.before
    held = start(sip, both.call.hold)  # nothing is under way any more
    both.peer.reply(both.peer.last("INVITE"), 488)
    assert isinstance(held.exception, SIPError)
    both.leave()


@pytest.mark.rfc("3261 14.1", "5057 5.1")
@pytest.mark.parametrize("status", [408, 481, 404])
def test_cancelled_reinvite_that_the_peer_does_not_know_ends_the_call(sip, status):
    both = Cancelling(sip, "callee")
    both.peer.reply(both.mine, status)
    assert both.call.end[:3] == ("us", "refused", status)
    assert both.peer.methods[-1] == "BYE"
    both.leave()


@pytest.mark.rfc("3261 14.1", "3261 9.1")
def test_reinvite_that_was_given_up_and_gets_no_response_at_all_ends_the_call(sip):
    both = Cancelling(sip, "callee", rings=False)
    sip.advance(32)
    assert "CANCEL" not in both.peer.methods
    assert both.call.end.cause == "timeout"
    assert both.peer.methods[-1] == "BYE"
    both.leave()


# ---- a PRACK that belongs to a reliable response of ours


@pytest.mark.rfc("3262 3", "3262 5", "6337 2.2")
@pytest.mark.parametrize("role", ["callee", "caller"])
@pytest.mark.parametrize("ours", ["UPDATE", "update", "INFO", "REFER"])
def test_prack_of_the_peer_crosses_our_request(sip, role, ours):
    """Our core has answered a re-INVITE of the peer in a reliable 183."""
    both = Both(sip, role)

    def core(request, tx):
        tx.respond(183, reliable=True, **body(sdp.SDP.parse(tx.call.local_body)))
        tx.wait(SECONDS)
        return 200

    both.call.on_reinvite = core
    reinvite = both.ask("INVITE", supported="100rel")
    reliable = both.peer.responses[-1]
    assert reliable.status == 183

    def asks():
        try:
            OURS[ours](both.call)
        except SIPError as error:
            return error
        return None

    asking = start(sip, asks)
    # an offer has to wait for the PRACK, and for the re-INVITE (RFC 3311 §5.1)
    has_left = ours.upper() in both.peer.methods
    assert has_left is (ours != "UPDATE")
    both.last = both.side.ask("PRACK", rack=f"{reliable.rseq} {reinvite.cseq.number} INVITE")
    assert both.finals(both.last) == {200}
    if has_left:
        both.peer.reply(both.peer.last(ours.upper()), 200 if ours != "REFER" else 603)
    assert asking.ready()
    sip.advance(SECONDS)
    assert both.finals(reinvite) == {200}
    both.side.ask("ACK", number=reinvite.cseq.number)
    assert not both.call.ended.is_set()
    both.leave()


@pytest.mark.rfc("3261 14.1", "5057 5.1", "3261 12.2.1.2")
@pytest.mark.parametrize("ours", ["INVITE", "UPDATE", "update", "INFO", "REFER"])
@pytest.mark.parametrize(("status", "ends"), [(408, True), (481, True), (488, False), (500, False)])
def test_refusal_of_our_request_ends_what_the_rfc_says(sip, ours, status, ends):
    both = Both(sip, "callee")
    asking = start(sip, OURS[ours], both.call)
    both.peer.reply(both.peer.last(ours.upper()), status)
    assert asking.ready()
    assert both.call.ended.is_set() is ends
    both.leave()


# ---- in early dialogs: our core rings

EARLY_THEIRS = {
    # the peer's request, while its INVITE rings here: its status, that of the INVITE, the section
    "INVITE": (500, None, "3261 14.2"),
    "UPDATE": (500, None, "3311 5.2"),
    "update": (200, None, "3311 5.2"),
    "INFO": (200, None, "6086 4.2.2"),
    "REFER": (200, None, "3515 2.4.2"),
    "PRACK": (481, None, "3262 3"),
    "BYE": (200, 487, "3261 15.1.2"),
    "CANCEL": (200, 487, "3261 9.2"),
}


def in_early(ringing, what, number):
    """The caller sends a request in its early dialog. Returns the statuses of the request."""
    if what == "CANCEL":
        request = ringing.invite.cancel()
        ringing.peer.send(request)
    else:
        headers = {}
        if what in ("INVITE", "UPDATE"):
            headers = {"body": "offer 2", "content_type": "application/sdp"}
        if what == "REFER":
            headers = {"refer_to": "<sip:carol@10.0.0.99>", "contact": "<sip:10.0.0.50>"}
        if what == "PRACK":
            headers = {"rack": "1 1 INVITE"}
        request = ringing.ask(what.upper(), number=number, **headers)
    return {
        response.status
        for response in ringing.peer.responses
        if response.cseq == request.cseq and response.status >= 200
    }


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(
            first, second, id=f"{first}-{second}",
            marks=pytest.mark.rfc(EARLY_THEIRS[first][-1], EARLY_THEIRS[second][-1]),
        )
        for first in EARLY_THEIRS
        for second in EARLY_THEIRS
        if not first == second == "CANCEL"
    ],
)  # fmt: skip
def test_two_requests_of_the_caller_in_an_early_dialog(sip, first, second):
    ringing = Ringing(sip, seconds=50)
    core = ringing.stack.core

    def without_prack(request, tx):
        return 481 if request.method == "PRACK" else core(request, tx)

    ringing.stack.core = without_prack
    number = ringing.invite.cseq.number
    status, invite, _ = EARLY_THEIRS[first]
    assert in_early(ringing, first, number + 1) == {status}
    ended = invite is not None
    status, invite, _ = EARLY_THEIRS[second]
    if ended and second == "CANCEL":
        status = 200  # the INVITE has its 487, and the CANCEL no effect (§9.2)
    elif ended:
        # a PRACK may belong to a response from before our 487 (RFC 3262 §3)
        status = {"PRACK": 200 if first == "CANCEL" else 481}.get(second, 481)
        if second == "BYE" and first == "CANCEL":
            status = 200  # it crosses our 487
    assert in_early(ringing, second, number + 2) == {status}
    if ended or invite is not None:
        assert 487 in ringing.answers("INVITE")
        assert ringing.stack.dialogs.early == 0
    else:
        assert ringing.stack.dialogs.early == 1
        ringing.peer.send(ringing.invite.cancel())
    sip.advance(70)
    assert (len(ringing.stack.dialogs), ringing.stack.dialogs.early) == (0, 0)


# ---- in early dialogs: our INVITE rings

EARLY_OURS = {
    "INVITE": (491, "3261 14.2"),
    "UPDATE": (491, "3311 5.2"),
    "update": (200, "3311 5.2"),
    "INFO": (200, "6086 4.2.2"),
    "REFER": (200, "3515 2.4.2"),
    "PRACK": (481, "3262 3"),
    "BYE": (200, "3261 15.1.2"),
}


@pytest.mark.parametrize("cancelled", [False, True], ids=["rings", "cancelled"])
@pytest.mark.parametrize("answer", [200, 486, 487])
@pytest.mark.parametrize(
    ("theirs", "status"),
    [pytest.param(w, s, id=w, marks=pytest.mark.rfc(r)) for w, (s, r) in EARLY_OURS.items()],
)
def test_request_of_the_callee_while_our_invite_rings(sip, theirs, status, answer, cancelled):
    sip.client.core = lambda request, tx: 481 if request.method == "PRACK" else 200
    calling = Calling(sip, "one", timeout=10 if cancelled else None)
    if cancelled:
        sip.advance(10.1)
        calling.peer.reply(calling.peer.last("CANCEL"), 200)
    headers = {}
    if theirs in ("INVITE", "UPDATE"):
        headers = {"body": "offer 2", "content_type": "application/sdp"}
    if theirs == "REFER":
        headers = {"refer_to": "<sip:carol@10.0.0.99>"}
    if theirs == "PRACK":
        headers = {"rack": "1 1 INVITE"}
    request = calling.ask(theirs.upper(), "one", **headers)
    got = {r.status for r in calling.peer.responses if r.cseq == request.cseq}
    assert {each for each in got if each >= 200} == {status}
    calling.reply(answer, "one", **({"body": "answer"} if answer == 200 else {}))
    assert calling.peer.methods.count("ACK") == 1
    sip.settle()
    assert calling.greenlet.ready()
    if answer == 200:
        ends_at_once = cancelled or theirs == "BYE"
        assert ("BYE" in calling.peer.methods) is ends_at_once  # §15, RFC 5407 §3.1.2
        if not ends_at_once:
            calling.greenlet.get().hangup()
            sip.settle()
        calling.peer.reply(calling.peer.last("BYE"), 200)
    else:
        assert isinstance(calling.greenlet.exception, SIPError)
    sip.advance(70)
    assert (len(calling.dialogs), calling.dialogs.early) == (0, 0)


def test_tables_have_each_pair():
    peers = {"INVITE", "UPDATE", "update", "INFO", "REFER", "PRACK", "BYE", "CANCEL"}
    for first in ("INVITE", "UPDATE", "INFO", "REFER", "BYE"):
        assert {second for one, second in BOTH_THEIRS if one == first} == peers
    for ours in OURS:
        pairs = {theirs for one, theirs in BOTH_SIDES if one == ours}
        assert pairs >= peers - {"CANCEL"}
    assert CANCELLED_BY_US.keys() == peers - {"CANCEL"}
