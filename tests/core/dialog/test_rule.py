"""Rule: an INVITE session asks the rules of its table in order, at each hook."""

from __future__ import annotations

import pytest

from sippet_gevent import Reject
from sippet_gevent.core.dialog.rule import Rule, Rules

from ..wire import Peer, start

CALLEE = "10.0.0.60"
CALLER = "10.0.0.50"
BOB = f"sip:bob@{CALLEE}"

HOOKS = (
    "begins", "requesting", "received", "provisional", "holds", "responding", "answered", "ended",
)  # fmt: skip


def noting(seen, name, **results):
    """Return a rule that notes each hook by which it is asked; `results` are what hooks return."""

    def hook_named(hook):
        def noted(self, *arguments, **named):
            message = arguments[0]
            seen.append((name, hook, getattr(message, "method", getattr(message, "status", None))))
            result = results.get(hook, getattr(Rule, hook)(self, *arguments, **named))
            if isinstance(result, Exception):
                raise result
            return result

        return noted

    def inviting(cls, element, request):
        seen.append((name, "inviting", request.method))

    members = {hook: hook_named(hook) for hook in HOOKS}
    return type(name, (Rule,), {"__slots__": (), "inviting": classmethod(inviting), **members})


@pytest.fixture
def seen():
    """The hooks by which rules were asked, in order."""
    return []


def with_rules(stack, *rules):
    stack.dialogs.rules = Rules([(None, rule) for rule in rules])
    return stack


class Placed:
    """A call that our stack has placed to a peer."""

    def __init__(self, sip, *rules):
        self.sip = sip
        with_rules(sip.client, *rules)
        self.peer = Peer(sip, CALLEE)
        greenlet = start(sip, sip.client.invite, BOB, body="offer")
        self.invite = self.peer.last("INVITE")
        self.response = self.peer.reply(self.invite, 200, contact=f"<{self.peer.uri}>")
        self.call = greenlet.get()

    def ask(self, method, number=1):
        request = self.peer.back(self.invite, self.response, method, number=number)
        self.peer.send(request, to=self.sip.client.engine.transports[0].local[0])


class Taken:
    """A call that our stack has taken from a peer."""

    def __init__(self, sip, *rules, core=None):
        self.calls = []

        def accepting(request, tx):
            if tx.call is not None and request.to.tag is not None:
                return core(request, tx) if core is not None else 501
            tx.respond(200, body="answer")
            self.calls.append(tx.call)
            return None

        self.stack = with_rules(sip.serve(accepting), *rules)
        self.sip = sip
        self.peer = Peer(sip, CALLER)
        self.invite = self.peer.ask("INVITE", body="offer", content_type="application/sdp")
        self.response = self.peer.responses[-1]
        self.peer.send(self.peer.within(self.invite, self.response, "ACK"))
        self.number = self.invite.cseq.number

    def ask(self, method):
        self.number += 1
        self.peer.send(self.peer.within(self.invite, self.response, method, number=self.number))


def test_table_without_rules_has_no_hooks():
    empty = Rules(())
    assert all(getattr(empty, hook) == () for hook in (*HOOKS, "inviting"))


def test_rules_are_asked_only_by_the_hooks_that_they_override():
    class Quiet(Rule):
        __slots__ = ()

    class Ended(Rule):
        __slots__ = ()

        def ended(self, reason):
            """Note the end."""

    table = Rules([("timer", Quiet), (None, Ended)])
    assert (table.ended, table.received, table.inviting) == ((1,), (), ())
    assert table.option_tags == {"timer"}


def test_rules_of_a_placed_call_are_asked_in_table_order(sip, seen):
    placed = Placed(sip, noting(seen, "First"), noting(seen, "Second"))
    assert seen == [
        ("First", "inviting", "INVITE"),
        ("Second", "inviting", "INVITE"),
        ("First", "begins", "INVITE"),
        ("Second", "begins", "INVITE"),
        ("First", "answered", "INVITE"),
        ("Second", "answered", "INVITE"),
    ]
    seen.clear()
    placed.call.hangup()
    sip.settle()
    assert [hook for _, hook, method in seen if method == "BYE"] == ["requesting", "requesting"]
    assert [hook for _, hook, _ in seen if hook == "ended"] == ["ended", "ended"]


def test_rules_of_a_taken_call_are_asked_before_and_after_the_2xx(sip, seen):
    taken = Taken(sip, noting(seen, "Rule"))
    assert [hook for _, hook, _ in seen if hook != "holds"] == ["begins", "responding", "answered"]
    seen.clear()
    taken.ask("BYE")
    assert [hook for _, hook, _ in seen] == ["received", "ended"]


def test_first_status_of_a_rule_answers_a_request_within_the_call(sip, seen):
    taken = Taken(
        sip, noting(seen, "First", received=None), noting(seen, "Second", received=202),
        noting(seen, "Third", received=200),
    )  # fmt: skip
    seen.clear()
    taken.ask("INFO")
    assert taken.peer.statuses[-1] == 202
    assert [name for name, hook, _ in seen if hook == "received"] == ["First", "Second"]
    taken.calls[0].hangup()


@pytest.mark.parametrize("hook", ["begins", "responding"])
def test_rule_may_refuse_the_invite_before_the_call_begins(sip, seen, hook):
    refusing = noting(seen, "Refusing", **{hook: Reject(481)})
    stack = with_rules(sip.serve(lambda request, tx: 200), refusing)
    peer = Peer(sip, CALLER)
    peer.ask("INVITE")
    assert peer.statuses[-1] == 481
    assert len(stack.dialogs) == 0


def test_rules_see_updates_that_are_accepted(sip, seen):
    taken = Taken(sip, noting(seen, "Rule"), core=lambda request, tx: 200)
    seen.clear()
    taken.ask("UPDATE")
    assert [hook for _, hook, _ in seen] == ["received", "responding", "answered"]
    taken.calls[0].hangup()


def test_rules_see_requests_of_ours_within_the_call(sip, seen):
    placed = Placed(sip, noting(seen, "Rule"))
    seen.clear()
    greenlet = start(sip, placed.call.request, "INFO")
    placed.peer.reply(placed.peer.last("INFO"), 200)
    greenlet.get()
    assert seen == [("Rule", "requesting", "INFO")]
    placed.call.hangup()


@pytest.mark.parametrize("end", [("peer", "bye"), ("us", "bye"), ("stack", "stopped")])
def test_call_and_rules_are_told_how_the_call_ended(sip, end):
    ends = []

    class Noting(Rule):
        __slots__ = ()

        def ended(self, reason):
            ends.append(reason)

    placed = Placed(sip, Noting)
    if end[0] == "peer":
        placed.ask("BYE")
    elif end[0] == "us":
        placed.call.hangup()
    else:
        placed.call._drop()
    assert [(each.by, each.cause) for each in ends] == [end]
    assert placed.call.end is ends[0]
    sip.settle()


# ---- rules that a session has only when it meets what concerns them


def concerned(seen, name, *, fields=(), takes=(), **results):
    rule = noting(seen, name, **results)
    rule.fields, rule.takes = fields, takes
    return rule


def test_rule_of_a_header_field_begins_with_an_invite_that_has_it(sip, seen):
    Taken(
        sip,
        concerned(seen, "Other", fields=("Replaces",)),
        concerned(seen, "Typed", fields=("Content-Type",)),
    )
    assert {name for name, _, _ in seen} == {"Typed"}
    assert [hook for _, hook, _ in seen if hook != "holds"] == ["begins", "responding", "answered"]


def test_rule_of_a_method_is_made_by_that_method(sip, seen):
    taken = Taken(sip, concerned(seen, "Rule", takes=("UPDATE",), received=202))
    assert (seen, [*taken.calls[0].rules]) == ([], [None])
    taken.ask("INFO")
    assert seen == []
    taken.ask("UPDATE")
    assert taken.peer.statuses[-1] == 202
    assert [hook for _, hook, _ in seen] == ["received", "responding", "answered"]
    seen.clear()
    taken.ask("BYE")  # from then on it is asked for all methods
    assert seen[:1] == [("Rule", "received", "BYE")]


@pytest.mark.parametrize("headers", [{}, {"subject": "lunch"}], ids=["without", "with"])
def test_late_rule_of_a_call_that_rings_is_made_by_its_field_or_its_2xx(sip, seen, headers):
    rule = concerned(seen, "Late", fields=("Subject",))
    rule.is_late = True
    rules = []

    def core(request, tx):
        tx.respond(180)
        rules.append([*tx.call.rules])
        tx.respond(200, body="answer")
        rules.append([*tx.call.rules])

    stack = with_rules(sip.serve(core), rule)
    Peer(sip, CALLER).ask("INVITE", body="offer", content_type="application/sdp", **headers)
    assert [rule is None for [rule] in rules] == [not headers, False]
    begins = ["begins", "holds", "responding"] if headers else []
    assert [hook for _, hook, _ in seen] == [*begins, "holds", "responding", "answered"]
    stack.stop()


def test_late_rule_of_a_call_that_we_place_is_made_at_its_begin(sip, seen):
    rule = concerned(seen, "Late", fields=("Subject",))
    rule.is_late = True
    Placed(sip, rule)
    assert [hook for _, hook, _ in seen] == ["inviting", "begins", "answered"]


def test_calls_that_ring_share_their_rules(sip):
    calls = []

    def core(request, tx):
        tx.respond(180)
        calls.append(tx.call)
        tx.wait(1)
        return 486

    sip.serve(core)
    peer = Peer(sip, CALLER)
    for _ in range(2):
        peer.ask("INVITE", body="offer", content_type="application/sdp")
    assert calls[0].rules is calls[1].rules
    sip.advance(2)


def test_rule_of_a_header_field_is_made_by_a_request_that_has_it(sip, seen):
    taken = Taken(sip, concerned(seen, "Rule", fields=("Subject",)))
    taken.number += 1
    request = taken.peer.within(taken.invite, taken.response, "BYE", number=taken.number)
    request.subject = "lunch"
    taken.peer.send(request)
    assert [hook for _, hook, _ in seen] == ["received", "ended"]


def test_rule_of_a_header_field_is_made_by_our_response_that_has_it(sip, seen):
    def accepting(request, tx):
        tx.respond(180)
        tx.respond(200, subject="lunch")

    with_rules(sip.serve(accepting), concerned(seen, "Rule", fields=("Subject",)))
    Peer(sip, CALLER).ask("INVITE", body="offer", content_type="application/sdp")
    assert [(hook, status) for _, hook, status in seen if hook == "holds"] == [("holds", 200)]
    assert [hook for _, hook, _ in seen if hook != "holds"] == ["responding", "answered"]


def test_rule_of_a_header_field_is_made_by_a_provisional_response(sip, seen):
    with_rules(sip.client, concerned(seen, "Rule", fields=("Subject",), provisional=False))
    peer = Peer(sip, CALLEE)
    shown = []
    greenlet = start(sip, sip.client.invite, BOB, body="offer", on_provisional=shown.append)
    invite = peer.last("INVITE")
    peer.reply(invite, 180, contact=f"<{peer.uri}>")
    assert [response.status for response in shown] == [180]
    peer.reply(invite, 183, contact=f"<{peer.uri}>", subject="lunch")
    assert [response.status for response in shown] == [180]
    assert [hook for _, hook, _ in seen if hook != "inviting"] == ["provisional"]
    peer.reply(invite, 200, contact=f"<{peer.uri}>")
    greenlet.get().hangup()
