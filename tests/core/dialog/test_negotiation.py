"""Which messages may carry offers and answers, RFC 3264, RFC 6337 §2 to §4, RFC 3262 §5, RFC 3311."""

from __future__ import annotations

import pytest

from sippet_gevent import TransactionStateError
from sippet_gevent.core.dialog.negotiation import (
    ACCEPTED,
    ACK,
    ANSWERED_1XX,
    ASKED,
    CARRIERS,
    INVITE,
    OFFERED,
    OFFERED_1XX,
    OFFERED_2XX,
    OFFERED_PRACK,
    OFFERED_UPDATE,
    PRACK,
    PRACK_ACCEPTED,
    QUIET,
    RELIABLE,
    STATES,
    UNRELIABLE,
    UPDATE,
    UPDATE_ACCEPTED,
    Means,
    Negotiation,
    same_session,
)

FROM_UAC = {INVITE: True, ACK: True, PRACK: True, UNRELIABLE: False, RELIABLE: False}
FROM_UAC |= {ACCEPTED: False, PRACK_ACCEPTED: False}


class Pair:
    """Both sides of a dialog. `caller` is the UAC of each INVITE."""

    def __init__(self):
        self.caller, self.callee = Negotiation(), Negotiation()

    def send(self, *messages, by_caller=None):
        """Pass messages, (carrier, description or b""), and return what the last one means."""
        means = None
        for carrier, description in messages:
            from_caller = FROM_UAC.get(carrier, by_caller)
            one, other = (self.caller, self.callee) if from_caller else (self.callee, self.caller)
            means = one.sent(carrier, description)
            assert other.received(carrier, description) is means
            assert one.state == other.state
        return means

    def agreed(self):
        """What both have agreed on: the caller's and the callee's description."""
        caller, callee = self.caller, self.callee
        assert (caller.local, caller.remote) == (callee.remote, callee.local)
        assert caller.state == callee.state == QUIET or caller.state == ANSWERED_1XX
        return caller.local, caller.remote


@pytest.fixture
def pair():
    return Pair()


@pytest.fixture
def established(pair):
    pair.send((INVITE, b"A1"), (ACCEPTED, b"B1"), (ACK, b""))
    return pair


PATTERNS = {
    # RFC 6337 table 1: the messages, whether they may begin a session, and modify an early one
    1: ([(INVITE, b"A"), (ACCEPTED, b"B")], True, False, (b"A", b"B")),
    2: ([(INVITE, b""), (ACCEPTED, b"B"), (ACK, b"A")], True, False, (b"A", b"B")),
    3: ([(INVITE, b"A"), (RELIABLE, b"B")], True, False, (b"A", b"B")),
    4: ([(INVITE, b""), (RELIABLE, b"B"), (PRACK, b"A")], True, False, (b"A", b"B")),
    5: ([(PRACK, b"A"), (PRACK_ACCEPTED, b"B")], False, True, (b"A", b"B")),
    6: ([(UPDATE, b"A"), (UPDATE_ACCEPTED, b"B")], False, True, (b"A", b"B")),
}

# an INVITE with its answer, up to where each pattern may modify the early session
EARLY = {
    5: [(INVITE, b"A0"), (RELIABLE, b"B0")],
    6: [(INVITE, b"A0"), (RELIABLE, b"B0"), (PRACK, b""), (PRACK_ACCEPTED, b"")],
}


def play(pair, messages, caller_updates=True):
    """Pass messages. The answer to an UPDATE comes from the other side."""
    for carrier, description in messages:
        by_caller = caller_updates if carrier == UPDATE else not caller_updates
        means = pair.send((carrier, description), by_caller=by_caller)
    return means


@pytest.mark.rfc("6337 2.2")
@pytest.mark.parametrize("number", [number for number, row in PATTERNS.items() if row[1]])
def test_pattern_begins_a_session(pair, number):
    messages, _, _, agreed = PATTERNS[number]
    assert play(pair, messages) is Means.ANSWER
    assert pair.agreed() == agreed


@pytest.mark.rfc("6337 2.2")
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_pattern_updates_an_established_session(established, number):
    messages, _, _, agreed = PATTERNS[number]
    assert play(established, messages) is Means.ANSWER
    assert established.agreed() == agreed


@pytest.mark.rfc("6337 2.2")
@pytest.mark.parametrize("number", [5, 6])
def test_pattern_modifies_an_early_session(pair, number):
    messages, _, _, agreed = PATTERNS[number]
    assert play(pair, [*EARLY[number], *messages]) is Means.ANSWER
    assert pair.agreed() == agreed


@pytest.mark.rfc("6337 2.2")
@pytest.mark.parametrize("number", [5, 6])
def test_pattern_within_a_reinvite_updates_the_session(established, number):
    messages, _, _, agreed = PATTERNS[number]
    assert play(established, [*EARLY[number], *messages]) is Means.ANSWER
    assert established.agreed() == agreed


@pytest.mark.rfc("3311 5.1")
@pytest.mark.parametrize("caller_updates", [True, False])
def test_either_side_updates_an_established_session(established, caller_updates):
    messages = [(UPDATE, b"new"), (UPDATE_ACCEPTED, b"agreed")]
    assert play(established, messages, caller_updates) is Means.ANSWER
    assert set(established.agreed()) == {b"new", b"agreed"}


LEGAL = {
    # state: what may be sent with a description
    QUIET: {INVITE, UPDATE},
    OFFERED: {UNRELIABLE, RELIABLE, ACCEPTED},
    ASKED: {UNRELIABLE, RELIABLE, ACCEPTED},
    OFFERED_1XX: {PRACK},
    OFFERED_2XX: {ACK},
    ANSWERED_1XX: {PRACK, ACCEPTED},
    OFFERED_PRACK: {PRACK_ACCEPTED},
    OFFERED_UPDATE: {UPDATE_ACCEPTED},
}


def in_state(state, ours=True):
    """A negotiation in a state, whose INVITE, and whose offer if it is that of an UPDATE, is ours."""
    way = {
        QUIET: [],
        OFFERED: [(INVITE, b"A")],
        ASKED: [(INVITE, b"")],
        OFFERED_1XX: [(INVITE, b""), (RELIABLE, b"B")],
        OFFERED_2XX: [(INVITE, b""), (ACCEPTED, b"B")],
        ANSWERED_1XX: [(INVITE, b"A"), (RELIABLE, b"B")],
        OFFERED_PRACK: [(INVITE, b"A"), (RELIABLE, b"B"), (PRACK, b"A2")],
        OFFERED_UPDATE: [(UPDATE, b"A")],
    }[state]
    made = Negotiation()
    for carrier, description in way:
        (made.sent if FROM_UAC.get(carrier, True) == ours else made.received)(carrier, description)
    assert made.state == state
    return made


@pytest.mark.rfc("6337 2.2")
@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("state", STATES)
def test_description_that_is_no_offer_and_no_answer_cannot_be_sent(state, carrier):
    for ours in (True, False):
        made = in_state(state, ours)
        before = made.local, made.remote, made.offer, made.state
        if carrier in LEGAL[state]:
            made.sent(carrier, b"new")
            assert made.last_sent == b"new"
        elif carrier in (UNRELIABLE, RELIABLE, ACCEPTED):
            last_sent = made.last_sent
            assert made.sent(carrier, b"new") is Means.IGNORED
            assert (made.local, made.remote, made.offer) == before[:3]
            assert made.last_sent == last_sent
        else:
            with pytest.raises(TransactionStateError):
                made.sent(carrier, b"new")
            assert (made.local, made.remote, made.offer, made.state) == before


@pytest.mark.rfc("6337 2.4")
@pytest.mark.parametrize("carrier", [c for c in CARRIERS if c not in (INVITE, UPDATE)])
@pytest.mark.parametrize("state", STATES)
def test_received_description_that_is_neither_changes_nothing(state, carrier):
    made = in_state(state)
    if carrier in LEGAL[state] or (state, carrier) == (QUIET, PRACK):
        return
    before = made.local, made.remote, made.offer, made.state
    assert made.received(carrier, b"new") is Means.IGNORED
    assert (made.local, made.remote, made.offer, made.state) == before


@pytest.mark.rfc("6337 3.1.1")
def test_description_behind_the_answer_is_ignored(pair):
    pair.send((INVITE, b"A"), (RELIABLE, b"B"), (PRACK, b""))
    assert pair.caller.received(RELIABLE, b"C") is Means.IGNORED
    assert pair.caller.received(ACCEPTED, b"C") is Means.IGNORED
    assert pair.caller.remote == b"B"


@pytest.mark.rfc("3261 13.2.1")
def test_answer_may_be_repeated_in_later_responses(pair):
    pair.send((INVITE, b"A"), (RELIABLE, b"B"), (PRACK, b""))
    assert pair.send((ACCEPTED, b"B")) is Means.IGNORED
    assert pair.agreed() == (b"A", b"B")


@pytest.mark.rfc("6337 3.1.1")
def test_preview_does_not_end_the_exchange(pair):
    assert pair.send((INVITE, b"A"), (UNRELIABLE, b"B")) is Means.PREVIEW
    assert pair.caller.state == OFFERED
    assert pair.caller.preview == b"B"
    assert pair.caller.remote == b""
    assert pair.send((UNRELIABLE, b"B")) is Means.PREVIEW
    assert pair.send((ACCEPTED, b"B")) is Means.ANSWER
    assert pair.agreed() == (b"A", b"B")
    assert pair.caller.preview == b""


def test_preview_is_the_answer_if_the_2xx_has_none(pair):
    pair.send((INVITE, b"A"), (UNRELIABLE, b"B"))
    assert pair.send((ACCEPTED, b"")) is Means.ANSWER
    assert pair.agreed() == (b"A", b"B")


def test_2xx_without_answer_and_preview_has_accepted_the_offer(established):
    assert established.send((INVITE, b"A2"), (ACCEPTED, b"")) is Means.NO_ANSWER
    assert established.agreed() == (b"A2", b"B1")


@pytest.mark.rfc("3264 4")
def test_ack_without_the_answer_is_told(pair):
    pair.send((INVITE, b""), (ACCEPTED, b"B"))
    assert pair.send((ACK, b"")) is Means.NO_ANSWER
    assert pair.callee.local == b"B"
    assert pair.callee.may_offer


@pytest.mark.rfc("3262 5")
def test_reliable_1xx_without_the_offer_leaves_it_to_the_2xx(pair):
    assert pair.send((INVITE, b""), (RELIABLE, b"")) is Means.NO_OFFER
    pair.send((PRACK, b""), (PRACK_ACCEPTED, b""))
    assert pair.send((ACCEPTED, b"B")) is Means.OFFER
    assert pair.send((ACK, b"A")) is Means.ANSWER


def test_prack_without_the_answer_is_told(pair):
    pair.send((INVITE, b""), (RELIABLE, b"B"))
    assert pair.send((PRACK, b"")) is Means.NO_ANSWER


def test_preview_of_an_offer_is_no_answer_to_the_offer(pair):
    pair.send((INVITE, b""), (UNRELIABLE, b"B0"), (RELIABLE, b"B"))
    assert pair.send((PRACK, b"")) is Means.NO_ANSWER


def test_2xx_without_the_offer_is_told(pair):
    assert pair.send((INVITE, b""), (ACCEPTED, b"")) is Means.NO_OFFER
    assert pair.caller.may_offer


@pytest.mark.rfc("6337 2.2")
def test_offer_in_a_wrong_prack_is_answered_anyway(pair):
    pair.send((INVITE, b"A"), (RELIABLE, b"B"), (PRACK, b""), (PRACK_ACCEPTED, b""))
    with pytest.raises(TransactionStateError, match="PRACK"):
        pair.caller.sent(PRACK, b"A2")
    assert pair.callee.received(PRACK, b"A2") is Means.OFFER
    assert pair.callee.owes_answer
    assert pair.callee.sent(PRACK_ACCEPTED, b"B2") is Means.ANSWER


@pytest.mark.rfc("3261 14.1")
@pytest.mark.parametrize("first", [b"A2", b""])
def test_failed_reinvite_leaves_the_session_as_it_was(established, first):
    established.send((INVITE, first))
    for side in (established.caller, established.callee):
        assert side.failed(INVITE) is False
        assert side.may_offer
    assert established.agreed() == (b"A1", b"B1")


@pytest.mark.rfc("6141 3.1", "6337 3.4")
def test_failed_reinvite_undoes_the_exchanges_within_it(established):
    established.send((INVITE, b"A2"), (RELIABLE, b"B2"), (PRACK, b""))
    established.send((UPDATE, b"A3"), by_caller=True)
    established.send((UPDATE_ACCEPTED, b"B3"), by_caller=False)
    for side in (established.caller, established.callee):
        assert side.failed(INVITE) is True
    assert established.agreed() == (b"A1", b"B1")


@pytest.mark.rfc("3311 5.3")
def test_failed_update_leaves_the_session_as_it_was(established):
    established.send((UPDATE, b"A2"), by_caller=True)
    for side in (established.caller, established.callee):
        assert side.failed(UPDATE) is False
    assert established.agreed() == (b"A1", b"B1")


def test_failed_update_without_an_offer_ends_no_exchange(established):
    established.send((INVITE, b"A2"))
    established.caller.failed(UPDATE)
    assert established.send((ACCEPTED, b"B2")) is Means.ANSWER


def test_failed_invite_leaves_the_offer_of_an_update(established):
    established.send((UPDATE, b"A2"), by_caller=True)
    established.caller.failed(INVITE)
    assert established.caller.state == OFFERED_UPDATE
    assert established.caller.local == b"A1"


@pytest.mark.rfc("6337 2.3")
def test_refused_prack_may_be_sent_again_without_the_offer(pair):
    pair.send((INVITE, b"A"), (RELIABLE, b"B"), (PRACK, b"A2"))
    pair.caller.failed(PRACK)
    pair.callee.failed(PRACK)
    assert pair.send((PRACK, b""), (PRACK_ACCEPTED, b"")) is Means.NOTHING
    assert pair.send((ACCEPTED, b"")) is Means.NOTHING
    assert pair.agreed() == (b"A", b"B")


REFUSALS = {
    # RFC 6337 §4.3: what refuses an offer in an INVITE or UPDATE, when the INVITE or UPDATE under
    # way is ours, and when it is the peer's
    QUIET: (None, None),
    OFFERED: (491, 500),
    ASKED: (491, 500),
    OFFERED_1XX: (500, 491),  # the offer is that of the other side
    OFFERED_2XX: (500, 491),
    ANSWERED_1XX: (491, 500),
    OFFERED_PRACK: (491, 500),
    OFFERED_UPDATE: (491, 500),
}


@pytest.mark.rfc("3261 14.2", "3311 5.2", "6337 4.3")
@pytest.mark.parametrize("state", STATES)
def test_offer_that_meets_another_is_refused(state):
    for ours, status in zip((True, False), REFUSALS[state]):
        made = in_state(state, ours)
        assert made.refusal(UPDATE, True) == status
        assert made.refusal(INVITE, True) == status
        assert made.refusal(INVITE, False) == status
        assert made.refusal(UPDATE, False) is None


@pytest.mark.rfc("6337 4.3")
@pytest.mark.parametrize("state", [state for state in STATES if state != QUIET])
def test_invite_of_ours_waits_for_the_offer_under_way(state):
    for description in (b"", b"A"):
        with pytest.raises(TransactionStateError, match="INVITE"):
            in_state(state).sent(INVITE, description)


@pytest.mark.rfc("3264 8")
@pytest.mark.parametrize(
    "one, other, same",
    [
        (b"v=0\r\no=a 1 1 IN IP4 h\r\ns=-\r\n", b"v=0\r\no=a 1 2 IN IP4 h\r\ns=-\r\n", True),
        (b"v=0\r\no=a 1 1 IN IP4 h\r\ns=-\r\n", b"v=0\r\no=a 1 1 IN IP4 h\r\ns=x\r\n", False),
        (b"v=0\r\no=a 1 1 IN IP4 h\r\ns=-\r\n", b"v=0\no=a 1 2 IN IP4 h\ns=-\n", True),
        (b"o=x", b"o=y", False),  # no descriptions
        (b"", b"", True),
        (b"", b"v=0\r\n", False),
    ],
)
def test_refresh_differs_in_the_o_line_alone(one, other, same):
    assert same_session(one, other) is same
