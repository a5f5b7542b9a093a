"""Timers A to M in virtual time: the exact schedule of messages, and the end, over UDP and TCP."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sippet_gevent.errors import TransactionStateError, TransactionTimeout, TransportError
from sippet_gevent.message.message import Request, Response
from sippet_gevent.message.parser import parse
from sippet_gevent.transaction.fsm import NEVER, Transaction
from sippet_gevent.transaction.machines import (
    ACCEPTED,
    COMPLETED,
    CONFIRMED,
    DELIVER,
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    PROCEEDING,
    RECV_1XX,
    RECV_2XX,
    RECV_300_UP,
    RECV_ACK,
    RECV_REQUEST,
    RESENDS_PER_SECOND,
    SEND,
    SEND_1XX,
    SEND_2XX,
    SEND_300_UP,
    SEND_NOTHING,
    TERMINATED,
    TRANSPORT_ERROR,
)
from sippet_gevent.transaction.timers import Timers

HOUR = 3600.0
STATUS = {
    RECV_1XX: 180,
    RECV_2XX: 200,
    RECV_300_UP: 486,
    SEND_1XX: 180,
    SEND_2XX: 200,
    SEND_300_UP: 486,
}

udp_and_tcp = pytest.mark.parametrize("reliable", [False, True], ids=["udp", "tcp"])


class Story:
    """One transaction in virtual time. `events` has its effects as (time, text), `until()` lets time
    pass."""

    def __init__(self, machine, *, reliable=False, timers=None, start=0.0):
        self.now = start
        self.begun = start
        self.request = Request(
            "INVITE" if machine.is_invite else "OPTIONS",
            "sip:bob@b.example",
            via="SIP/2.0/UDP a.example;branch=z9hG4bKtimers",
            from_="<sip:alice@a.example>;tag=a",
            to="<sip:bob@b.example>",
            call_id="timers",
            cseq="7 INVITE" if machine.is_invite else "7 OPTIONS",
            max_forwards=70,
        )
        self.tx = Transaction(
            machine, "key", self.request, reliable=reliable, timers=timers or Timers()
        )
        self.events = []
        self.sent = []
        self.note(self.tx.start(start))

    def note(self, effects):
        for kind, payload in effects:
            if kind is SEND:
                self.sent.append(payload)
                message = parse(payload)
                self.add(
                    "sends", message.method if isinstance(message, Request) else message.status
                )
            elif kind is DELIVER:
                self.add(
                    "delivers", payload.method if isinstance(payload, Request) else payload.status
                )
            else:
                self.add("fails", type(payload).__name__)

    def add(self, verb, what):
        self.events.append((round(self.now - self.begun, 6), f"{verb} {what}"))

    def until(self, time):
        """Fire each timer at its deadline, up to this time."""
        while self.tx.deadline <= self.begun + time:
            self.now = self.tx.deadline
            self.note(self.tx.expire(self.now))
        self.now = self.begun + time
        return self

    def at(self, time, event, message=None):
        """Let time pass, then feed an event."""
        self.until(time)
        if message is None:
            message = self.request.response(STATUS[event]) if event in STATUS else self.request
            if event is RECV_ACK:
                message = self.request.ack(self.request.response(486))
            elif event is TRANSPORT_ERROR:
                message = TransportError("unreachable")
        self.note(self.tx.handle(event, self.now, message))
        return self

    def times(self, text):
        """Return when this happened."""
        return [time for time, what in self.events if what == text]

    @property
    def ended(self):
        return self.tx.state is TERMINATED


class Unwritable(Response):
    """A response that cannot be written, of a class of the core."""

    def __bytes__(self):
        return "\ud800".encode()


def at(times, text):
    return [(time, text) for time in times]


DOUBLING = [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
CAPPED = [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]


# ---- INVITE client: A, B, D, M


@pytest.mark.rfc("3261 17.1.1.2")
def test_unanswered_invite_over_udp_is_sent_7_times_and_fails_after_32_s():
    story = Story(INVITE_CLIENT).until(HOUR)
    assert story.events == [*at(DOUBLING, "sends INVITE"), (32, "fails TransactionTimeout")]
    assert story.ended


@pytest.mark.rfc("3261 17.1.1.2")
def test_unanswered_invite_over_tcp_is_sent_once_and_fails_after_32_s():
    story = Story(INVITE_CLIENT, reliable=True).until(HOUR)
    assert story.events == [(0, "sends INVITE"), (32, "fails TransactionTimeout")]


@pytest.mark.rfc("3261 17.1.1.2")
def test_retransmission_has_the_bytes_of_the_request():
    story = Story(INVITE_CLIENT).until(HOUR)
    assert set(story.sent) == {bytes(story.request)}


@udp_and_tcp
@pytest.mark.rfc("3261 17.1.1.2")
def test_provisional_response_stops_retransmission_and_timer_b(reliable):
    story = Story(INVITE_CLIENT, reliable=reliable).at(0.3, RECV_1XX).at(40, RECV_1XX).until(HOUR)
    assert story.events == [(0, "sends INVITE"), (0.3, "delivers 180"), (40, "delivers 180")]
    assert (story.tx.state, story.tx.deadline) == (PROCEEDING, NEVER)


@pytest.mark.rfc("3261 17.1.1.2")
def test_refusal_over_udp_is_acknowledged_and_ends_with_timer_d_after_32_s():
    story = Story(INVITE_CLIENT).at(0.7, RECV_300_UP).until(32.69)
    assert story.events == [
        *at([0, 0.5], "sends INVITE"),
        (0.7, "sends ACK"),
        (0.7, "delivers 486"),
    ]
    assert story.tx.state is COMPLETED
    assert story.until(32.7).ended


@pytest.mark.rfc("3261 17.1.1.2")
def test_refusal_over_tcp_is_acknowledged_and_timer_d_is_zero():
    story = Story(INVITE_CLIENT, reliable=True).at(0.7, RECV_300_UP)
    assert story.events == [(0, "sends INVITE"), (0.7, "sends ACK"), (0.7, "delivers 486")]
    assert story.ended


@pytest.mark.rfc("3261 17.1.1.2")
def test_repeated_refusal_repeats_the_ack_and_is_not_delivered_again():
    story = Story(INVITE_CLIENT).at(0.1, RECV_300_UP).at(0.6, RECV_300_UP).at(1.6, RECV_300_UP)
    assert story.times("sends ACK") == [0.1, 0.6, 1.6]
    assert story.times("delivers 486") == [0.1]
    assert len(set(story.sent[1:])) == 1


@pytest.mark.rfc("3261 17.1.1.3")
def test_ack_has_the_branch_of_the_invite_and_the_to_of_the_response():
    story = Story(INVITE_CLIENT)
    response = story.request.response(486)
    story.at(0.1, RECV_300_UP, response)
    ack = parse(story.sent[-1])
    assert (ack.method, ack.uri, ack.via, ack.call_id) == (
        "ACK",
        story.request.uri,
        story.request.via,
        "timers",
    )
    assert (ack.from_, ack.to, str(ack.cseq)) == (story.request.from_, response.to, "7 ACK")


@pytest.mark.rfc("3261 17.1.1.2")
def test_timer_d_grows_with_t1_but_is_never_under_32_seconds():
    assert Story(INVITE_CLIENT, timers=Timers(t1=1)).at(0, RECV_300_UP).tx.running["D"] == 64
    assert Story(INVITE_CLIENT, timers=Timers(t1=0.1)).at(0, RECV_300_UP).tx.running["D"] == 32


@udp_and_tcp
@pytest.mark.rfc("6026 8.4")
def test_each_2xx_is_delivered_for_32_s_without_an_ack(reliable):
    story = (
        Story(INVITE_CLIENT, reliable=reliable)
        .at(0.1, RECV_1XX)
        .at(5, RECV_2XX)
        .at(6, RECV_2XX)
        .at(36.9, RECV_2XX)
    )
    assert story.events == [
        (0, "sends INVITE"),
        (0.1, "delivers 180"),
        *at([5, 6, 36.9], "delivers 200"),
    ]
    assert story.tx.state is ACCEPTED
    assert story.until(37).ended


@pytest.mark.rfc("6026 8.4")
def test_provisional_and_refusal_after_a_2xx_are_absorbed():
    story = (
        Story(INVITE_CLIENT).at(0.1, RECV_2XX).at(0.2, RECV_1XX).at(0.3, RECV_300_UP).until(HOUR)
    )
    assert story.events == [(0, "sends INVITE"), (0.1, "delivers 200")]


@pytest.mark.rfc("3261 17.1.4")
@pytest.mark.parametrize(
    "machine", [INVITE_CLIENT, NON_INVITE_CLIENT], ids=lambda machine: machine.name
)
def test_request_that_cannot_be_sent_ends_its_transaction_at_once(machine):
    story = Story(machine).at(0, TRANSPORT_ERROR).until(HOUR)
    assert [text for _, text in story.events[1:]] == ["fails TransportError"]
    assert story.ended


# ---- non-INVITE client: E, F, K


@pytest.mark.rfc("3261 17.1.2.2")
def test_unanswered_request_over_udp_backs_off_to_t2_and_fails_after_32_s():
    story = Story(NON_INVITE_CLIENT).until(HOUR)
    assert story.events == [*at(CAPPED, "sends OPTIONS"), (32, "fails TransactionTimeout")]
    assert story.ended


@pytest.mark.rfc("3261 17.1.2.2")
def test_unanswered_request_over_tcp_is_sent_once_and_fails_after_32_s():
    story = Story(NON_INVITE_CLIENT, reliable=True).until(HOUR)
    assert story.events == [(0, "sends OPTIONS"), (32, "fails TransactionTimeout")]


@pytest.mark.rfc("3261 17.1.2.2")
def test_provisional_response_slows_retransmission_to_t2_and_leaves_timer_f():
    story = Story(NON_INVITE_CLIENT).at(0.1, RECV_1XX).until(HOUR)
    assert story.times("sends OPTIONS") == [0, 0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]
    assert story.events[-1] == (32, "fails TransactionTimeout")


@pytest.mark.rfc("3261 17.1.2.2")
def test_provisional_response_lets_the_running_interval_end_first():
    story = Story(NON_INVITE_CLIENT).at(2, RECV_1XX).until(12)
    assert story.times("sends OPTIONS") == [0, 0.5, 1.5, 3.5, 7.5, 11.5]


@pytest.mark.rfc("3261 17.1.2.2")
def test_answered_request_over_udp_absorbs_responses_until_timer_k():
    story = (
        Story(NON_INVITE_CLIENT)
        .at(0.2, RECV_2XX)
        .at(0.3, RECV_2XX)
        .at(4, RECV_300_UP)
        .at(5, RECV_1XX)
    )
    assert story.events == [(0, "sends OPTIONS"), (0.2, "delivers 200")]
    assert not story.until(5.19).ended
    assert story.until(5.2).ended


@pytest.mark.rfc("3261 17.1.2.2")
def test_answered_request_over_tcp_ends_at_once():
    story = Story(NON_INVITE_CLIENT, reliable=True).at(0.2, RECV_300_UP)
    assert story.events == [(0, "sends OPTIONS"), (0.2, "delivers 486")]
    assert story.ended


# ---- INVITE server: 100, core, G, H, I, L


@udp_and_tcp
@pytest.mark.rfc("3261 17.2.1")
def test_invite_gets_100_after_200_ms_when_its_core_is_silent(reliable):
    story = Story(INVITE_SERVER, reliable=reliable).until(100)
    assert story.events == [(0, "delivers INVITE"), (0.2, "sends 100")]


@pytest.mark.rfc("3261 17.2.1")
@pytest.mark.rfc("3261 8.2.6.1")
def test_100_has_no_to_tag():
    assert parse(Story(INVITE_SERVER).until(1).sent[0]).to.tag is None


@pytest.mark.rfc("3261 17.2.1")
def test_invite_gets_no_100_after_a_provisional_response():
    story = Story(INVITE_SERVER).at(0.19, SEND_1XX).until(100)
    assert story.events == [(0, "delivers INVITE"), (0.19, "sends 180")]


@pytest.mark.rfc("3261 17.2.1")
@pytest.mark.parametrize("event", [SEND_2XX, SEND_300_UP])
def test_invite_gets_no_100_after_a_final_response(event):
    assert not Story(INVITE_SERVER).at(0.19, event).until(HOUR).times("sends 100")


@pytest.mark.rfc("3261 17.2.1")
def test_repeated_invite_gets_the_latest_provisional_response():
    story = (
        Story(INVITE_SERVER)
        .at(0.1, RECV_REQUEST)
        .at(0.5, RECV_REQUEST)
        .at(1, SEND_1XX)
        .at(1.5, RECV_REQUEST)
    )
    assert story.events == [
        (0, "delivers INVITE"),
        *at([0.2, 0.5], "sends 100"),
        *at([1, 1.5], "sends 180"),
    ]


def test_invite_whose_core_never_answers_gets_408_after_215_seconds():
    story = Story(INVITE_SERVER, reliable=True).until(220)
    assert story.events[1:] == [
        (0.2, "sends 100"),
        (215, "sends 408"),
        (215, "fails TransactionTimeout"),
    ]
    assert story.tx.state is COMPLETED
    with pytest.raises(TransactionStateError):
        story.at(221, SEND_2XX)


def test_each_provisional_response_gives_the_core_another_215_seconds():
    story = Story(INVITE_SERVER, reliable=True).at(100, SEND_1XX).at(250, SEND_1XX).until(464.9)
    assert not story.times("sends 408")
    assert story.until(466).times("sends 408") == [465]


@pytest.mark.rfc("3261 17.2.1")
def test_refusal_over_udp_is_repeated_and_fails_with_timer_h_after_32_s():
    story = Story(INVITE_SERVER).at(0.1, SEND_300_UP).until(HOUR)
    times = [round(time + 0.1, 6) for time in CAPPED]
    assert story.events == [
        (0, "delivers INVITE"),
        *at(times, "sends 486"),
        (32.1, "fails TransactionTimeout"),
    ]
    assert story.ended


@pytest.mark.rfc("3261 17.2.1")
def test_refusal_over_tcp_is_sent_once_and_fails_with_timer_h_after_32_s():
    story = Story(INVITE_SERVER, reliable=True).at(0.1, SEND_300_UP).until(HOUR)
    assert story.events[1:] == [(0.1, "sends 486"), (32.1, "fails TransactionTimeout")]
    assert story.ended


@udp_and_tcp
@pytest.mark.rfc("3261 17.2.1")
def test_repeated_invite_gets_the_refusal_again(reliable):
    story = Story(INVITE_SERVER, reliable=reliable).at(0.1, SEND_300_UP).at(0.4, RECV_REQUEST)
    assert story.times("sends 486") == [0.1, 0.4]


@pytest.mark.rfc("3261 17.2.1")
def test_ack_over_udp_ends_the_repetition_and_timer_i_the_transaction():
    story = (
        Story(INVITE_SERVER)
        .at(0.1, SEND_300_UP)
        .at(0.9, RECV_ACK)
        .at(1, RECV_ACK)
        .at(1.1, RECV_REQUEST)
        .until(5.89)
    )
    assert story.events == [(0, "delivers INVITE"), *at([0.1, 0.6], "sends 486")]
    assert story.tx.state is CONFIRMED
    assert story.until(5.9).ended


@pytest.mark.rfc("3261 17.2.1")
def test_ack_over_tcp_ends_the_transaction_at_once():
    assert Story(INVITE_SERVER, reliable=True).at(0.1, SEND_300_UP).at(0.9, RECV_ACK).ended


@udp_and_tcp
@pytest.mark.rfc("6026 7.1")
def test_accepted_invite_delivers_acks_and_ends_with_timer_l_after_32_s(
    reliable,
):
    story = (
        Story(INVITE_SERVER, reliable=reliable)
        .at(0.1, SEND_2XX)
        .at(0.5, RECV_REQUEST)
        .at(0.6, RECV_ACK)
        .at(0.7, RECV_ACK)
    )
    assert story.events == [
        (0, "delivers INVITE"),
        (0.1, "sends 200"),
        *at([0.6, 0.7], "delivers ACK"),
    ]
    assert not story.until(32.09).ended
    assert story.until(32.1).ended


@pytest.mark.rfc("6026 7.1")
def test_2xx_is_sent_again_by_the_core_only():
    story = Story(INVITE_SERVER).at(0.1, SEND_2XX).at(0.6, SEND_2XX).at(1.6, SEND_2XX).until(HOUR)
    assert story.times("sends 200") == [0.1, 0.6, 1.6]


@pytest.mark.rfc("6026 8.8")
@pytest.mark.parametrize("event", [SEND_1XX, SEND_2XX, SEND_300_UP])
def test_unsendable_response_to_an_invite_keeps_state_and_timers(event):
    story = Story(INVITE_SERVER).at(0.1, event)
    before = (story.tx.state, story.tx.running)
    story.at(0.1, TRANSPORT_ERROR)
    assert (story.tx.state, story.tx.running) == before
    assert story.events[-1] == (0.1, "fails TransportError")
    assert story.until(HOUR).ended


# ---- non-INVITE server: delayed 100, core, J


@udp_and_tcp
@pytest.mark.rfc("4320 4.1")
def test_request_gets_100_when_timer_e_of_the_client_reaches_t2(reliable):
    story = Story(NON_INVITE_SERVER, reliable=reliable).until(29)
    assert story.events == [(0, "delivers OPTIONS"), (3.5, "sends 100")]


@pytest.mark.rfc("4320 4.1")
@pytest.mark.parametrize(
    ("t1", "t2", "when"),
    [(0.5, 4, 3.5), (1, 4, 3), (0.5, 8, 7.5), (0.5, 3, 3.5), (4, 4, 4), (5, 4, 5)],
)
def test_delay_of_the_100_is_when_timer_e_is_first_set_to_t2(t1, t2, when):
    timers = Timers(t1=t1, t2=t2)
    assert Story(NON_INVITE_SERVER, timers=timers).until(20).times("sends 100") == [when]
    # The client's own timer, from its intervals: the first one of T2 or more starts at that time.
    sends = Story(NON_INVITE_CLIENT, timers=timers).until(60).times("sends OPTIONS")
    assert next(before for before, after in pairwise(sends[1:]) if after - before == t2) == when


@pytest.mark.rfc("3261 17.2.2")
def test_repeated_request_is_absorbed_while_nothing_has_been_sent():
    story = Story(NON_INVITE_SERVER).at(0.5, RECV_REQUEST).at(1.5, RECV_REQUEST)
    assert story.events == [(0, "delivers OPTIONS")]


@pytest.mark.rfc("3261 17.2.2")
def test_repeated_request_gets_the_provisional_then_the_final_response():
    story = Story(NON_INVITE_SERVER).at(3.6, RECV_REQUEST).at(4, SEND_2XX).at(7.5, RECV_REQUEST)
    assert story.events[1:] == [*at([3.5, 3.6], "sends 100"), *at([4, 7.5], "sends 200")]


@pytest.mark.rfc("4320 4.1")
def test_request_gets_no_delayed_100_after_a_response():
    assert not Story(NON_INVITE_SERVER).at(3, SEND_1XX).until(29).times("sends 100")
    assert not Story(NON_INVITE_SERVER).at(3, SEND_2XX).until(HOUR).times("sends 100")
    assert not Story(NON_INVITE_SERVER).at(3, SEND_NOTHING).until(HOUR).times("sends 100")


@pytest.mark.rfc("4320 4.2")
def test_request_whose_core_never_answers_gets_500_after_30_seconds():
    story = Story(NON_INVITE_SERVER).until(HOUR)
    assert story.events[1:] == [
        (3.5, "sends 100"),
        (30, "sends 500"),
        (30, "fails TransactionTimeout"),
    ]
    assert story.ended


@pytest.mark.rfc("4320 4.2")
def test_provisional_response_to_a_non_invite_gives_no_more_time():
    story = Story(NON_INVITE_SERVER).at(20, SEND_1XX).until(HOUR)
    assert story.times("sends 500") == [30]


@pytest.mark.rfc("3261 17.2.2")
def test_answered_request_over_udp_stays_until_timer_j():
    story = Story(NON_INVITE_SERVER).at(0.1, SEND_300_UP).at(0.5, RECV_REQUEST).at(32, RECV_REQUEST)
    assert story.times("sends 486") == [0.1, 0.5, 32]
    assert not story.until(32.09).ended
    assert story.until(32.1).ended


@pytest.mark.rfc("3261 17.2.2")
def test_answered_request_over_tcp_leaves_nothing():
    assert Story(NON_INVITE_SERVER, reliable=True).at(0.1, SEND_2XX).ended


@pytest.mark.rfc("4320 4.2")
def test_request_that_gets_no_answer_absorbs_repeats_until_timer_j():
    story = (
        Story(NON_INVITE_SERVER)
        .at(0.1, SEND_NOTHING)
        .at(0.5, RECV_REQUEST)
        .at(10, RECV_REQUEST)
        .until(32)
    )
    assert story.events == [(0, "delivers OPTIONS")]
    assert story.until(32.1).ended


@pytest.mark.rfc("6026 8.8")
@pytest.mark.parametrize("event", [SEND_1XX, SEND_2XX, SEND_300_UP])
def test_unsendable_response_to_a_non_invite_keeps_the_state(event):
    story = Story(NON_INVITE_SERVER).at(0.1, event)
    before = (story.tx.state, story.tx.running)
    story.at(0.1, TRANSPORT_ERROR)
    assert (story.tx.state, story.tx.running) == before
    assert story.events[-1] == (0.1, "fails TransportError")


# ---- T1, T2, T4 and each timer by itself

# machine, the events that lead into the state, the timer, its length with T1=0.1, T2=0.3, T4=0.7,
# and its length over TCP
LENGTHS = [
    (INVITE_CLIENT, [], "A", 0.1, "none"),
    (INVITE_CLIENT, [], "B", 6.4, "same"),
    (INVITE_CLIENT, [RECV_300_UP], "D", 32, "zero"),
    (INVITE_CLIENT, [RECV_2XX], "M", 6.4, "same"),
    (NON_INVITE_CLIENT, [], "E", 0.1, "none"),
    (NON_INVITE_CLIENT, [], "F", 6.4, "same"),
    (NON_INVITE_CLIENT, [RECV_2XX], "K", 0.7, "zero"),
    (INVITE_SERVER, [SEND_300_UP], "G", 0.1, "none"),
    (INVITE_SERVER, [SEND_300_UP], "H", 6.4, "same"),
    (INVITE_SERVER, [SEND_300_UP, RECV_ACK], "I", 0.7, "zero"),
    (INVITE_SERVER, [SEND_2XX], "L", 6.4, "same"),
    (NON_INVITE_SERVER, [SEND_2XX], "J", 6.4, "zero"),
]
each_timer = pytest.mark.parametrize(
    ("machine", "way", "letter", "length", "tcp"), LENGTHS, ids=[row[2] for row in LENGTHS]
)


def running(machine, way, letter, reliable=False, **lengths):
    story = Story(machine, reliable=reliable, timers=Timers(**lengths))
    for event in way:
        story.at(0, event)
    if story.ended:
        return "zero"
    return story.tx.running.get(letter, "none")


@each_timer
@pytest.mark.rfc("3261 A")
@pytest.mark.rfc("6026 8.11")
def test_timer_follows_t1_t2_t4(machine, way, letter, length, tcp):
    assert running(machine, way, letter, t1=0.1, t2=0.3, t4=0.7) == pytest.approx(length)


@each_timer
@pytest.mark.rfc("3261 A")
def test_timer_over_a_reliable_transport_is_what_table_4_says(machine, way, letter, length, tcp):
    expected = pytest.approx(length) if tcp == "same" else tcp
    assert running(machine, way, letter, reliable=True, t1=0.1, t2=0.3, t4=0.7) == expected


@each_timer
def test_timer_can_be_set_by_itself(machine, way, letter, length, tcp):
    assert running(machine, way, letter, **{letter.lower(): 3.25}) == 3.25
    assert running(machine, way, letter, reliable=True, **{letter.lower(): 3.25}) == (
        3.25 if tcp == "same" else tcp
    )


@pytest.mark.rfc("3261 17.1.2.2")
def test_intervals_scale_with_t1_and_end_at_t2():
    story = Story(NON_INVITE_CLIENT, timers=Timers(t1=0.1, t2=0.3)).until(1.6)
    assert story.times("sends OPTIONS") == [0, 0.1, 0.3, 0.6, 0.9, 1.2, 1.5]


def test_first_interval_set_by_itself_is_doubled_from_there():
    assert Story(INVITE_CLIENT, timers=Timers(a=2)).until(30).times("sends INVITE") == [
        0,
        2,
        6,
        14,
        30,
    ]
    assert Story(NON_INVITE_CLIENT, timers=Timers(e=1)).until(12).times("sends OPTIONS") == [
        0,
        1,
        3,
        7,
        11,
    ]
    story = Story(INVITE_SERVER, timers=Timers(g=1)).at(0, SEND_300_UP).until(12)
    assert story.times("sends 486") == [0, 1, 3, 7, 11]


def test_timers_without_a_letter_can_be_set():
    timers = Timers(trying=0.05, core_invite=7, core_non_invite=9)
    assert Story(INVITE_SERVER, timers=timers).until(8).events[1:3] == [
        (0.05, "sends 100"),
        (7, "sends 408"),
    ]
    assert Story(NON_INVITE_SERVER, timers=timers).until(10).events[1:3] == [
        (3.5, "sends 100"),
        (9, "sends 500"),
    ]


@pytest.mark.parametrize("name", ["t1", "t2", "t4", "a", "e", "g"])
@pytest.mark.parametrize("length", [0, -1, float("nan")])
def test_interval_of_a_repetition_must_be_greater_than_0(name, length):
    with pytest.raises(ValueError, match=f"^{name} must"):
        Timers(**{name: length})


def test_defaults_are_those_of_the_rfc():
    timers = Timers()
    assert (timers.t1, timers.t2, timers.t4) == (0.5, 4, 5)
    assert timers.c > 180  # §16.6 step 11: more than three minutes


def test_time_may_start_anywhere():
    story = Story(NON_INVITE_CLIENT, start=1e6).until(HOUR)
    assert story.times("sends OPTIONS") == CAPPED


# ---- late clocks, storms, and mistakes of our own


@pytest.mark.rfc("3261 17.1.1.2")
@pytest.mark.parametrize(
    ("machine", "events"),
    [(INVITE_CLIENT, []), (NON_INVITE_CLIENT, []), (INVITE_SERVER, [SEND_300_UP])],
    ids=["A", "E", "G"],
)
def test_clock_that_stopped_causes_no_burst_afterwards(machine, events):
    story = Story(machine)
    for event in events:
        story.at(0, event)
    sent = len(story.sent)
    story.note(story.tx.expire(20.0))  # no expire() for 20 seconds: sends 5 to 8 were missed
    assert len(story.sent) == sent + 1
    assert story.tx.deadline > 20.0


def test_slightly_late_clock_does_not_shift_the_schedule():
    story = Story(INVITE_CLIENT)
    story.tx.expire(0.6)
    assert story.tx.running["A"] == 1.5


def test_late_clock_still_ends_a_transaction():
    tx = Story(NON_INVITE_CLIENT).tx
    effects = tx.expire(HOUR)
    assert isinstance(effects[-1][1], TransactionTimeout)
    assert (tx.state, tx.deadline) == (TERMINATED, NEVER)


def test_expire_before_the_deadline_does_nothing():
    tx = Story(INVITE_CLIENT).tx
    assert tx.expire(0.49) == ()
    assert tx.running == {"A": 0.5, "B": 32}


@udp_and_tcp
@pytest.mark.parametrize("event", [SEND_1XX, SEND_300_UP])
def test_ten_thousand_retransmissions_in_a_second_get_twenty_answers(event, reliable):
    story = Story(INVITE_SERVER, reliable=reliable, timers=Timers(g=100)).at(0, event)
    repeated = sum(
        len(story.tx.handle(RECV_REQUEST, number / 10_000, story.request))
        for number in range(10_000)
    )
    assert repeated == RESENDS_PER_SECOND == 20
    assert story.times("delivers INVITE") == [0]


def test_ten_thousand_refusals_in_a_second_get_twenty_acks():
    story = Story(INVITE_CLIENT).at(0, RECV_300_UP)
    response = story.request.response(486)
    repeated = sum(
        len(story.tx.handle(RECV_300_UP, number / 10_000, response)) for number in range(10_000)
    )
    assert repeated == 20
    assert story.times("delivers 486") == [0]


def test_answer_after_a_storm_is_sent_at_once():
    story = Story(NON_INVITE_SERVER).at(0, SEND_1XX).at(0.01, RECV_REQUEST).at(0.02, SEND_2XX)
    assert story.times("sends 200") == [0.02]


@pytest.mark.parametrize("event", [SEND_1XX, SEND_2XX, SEND_300_UP])
def test_response_that_cannot_be_written_changes_nothing(event):
    story = Story(INVITE_SERVER).at(0.1, SEND_1XX)
    tx = story.tx
    before = (tx.state, tx.last, tx.running)
    with pytest.raises(UnicodeEncodeError):
        tx.handle(event, 0.2, Unwritable(STATUS[event]))
    assert (tx.state, tx.last, tx.running) == before
    assert story.at(0.3, SEND_300_UP).times("sends 486") == [0.3]
