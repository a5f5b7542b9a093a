"""INVITEs without an offer: the 2xx has the offer and the ACK the answer, RFC 3261 §13.2.1."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import ParseError, Reject, TransactionStateError, TransportError, sdp
from sippet_gevent.core.dialog.negotiation import ACCEPTED, INVITE
from sippet_gevent.core.dialog.offer_answer import OfferAnswer
from sippet_gevent.core.dialog.state import DialogState

from ..wire import start
from .described import (
    AUDIO,
    HOST,
    OURS,
    PHONE,
    Placed,
    Taken,
    body,
    description,
    directions,
    phone_offer,
)

G729 = PHONE._replace(codecs=(sdp.G729,))
VIDEO = sdp.MediaStream("video", 9002, (sdp.Codec("H264", 90000),))


@pytest.fixture
def asked(sip):
    """A call that our stack has placed without an offer; the ACK waits."""
    placed = Placed(sip, body=b"")
    yield placed
    if not placed.call.ended.is_set():
        placed.call.hangup()


# ---- we have asked


@pytest.mark.rfc("3261 13.2.1")
def test_answer_leaves_in_the_ack(asked):
    assert asked.peer.methods == ["INVITE"]
    assert asked.call.offer == asked.mine
    asked.call.answer(media=[AUDIO])
    asked.sip.settle()
    assert asked.peer.methods == ["INVITE", "ACK"]
    answer = description(asked.peer.last("ACK"))
    assert sdp.answer_faults(asked.mine, answer) == []
    assert str(asked.peer.last("ACK").content_type) == "application/sdp"
    assert (asked.call.local_sdp, asked.call.remote_sdp) == (answer, asked.mine)
    assert asked.call.offer is None


def test_answer_as_bytes_leaves_in_the_ack(asked):
    asked.call.answer(body=sdp.answer(asked.mine, [AUDIO], address=OURS))
    asked.sip.settle()
    assert asked.peer.methods == ["INVITE", "ACK"]
    assert asked.call.local_body == asked.peer.last("ACK").body


@pytest.mark.rfc("3261 13.2.2.4")
def test_repeated_200_gets_no_ack_before_the_answer_and_the_same_one_after_it(asked):
    asked.peer.reply(asked.invite, asked.response)
    assert asked.peer.methods == ["INVITE"]
    asked.call.answer(media=[AUDIO])
    asked.peer.reply(asked.invite, asked.response)
    acks = [bytes(request) for request in asked.peer.requests if request.method == "ACK"]
    assert len(acks) == 2
    assert acks[0] == acks[1]


@pytest.mark.rfc("3261 13.2.2.4", "3261 13.2.1")
@pytest.mark.parametrize("error", [TransportError("no way to the peer"), gevent.Timeout(1)])
def test_ack_that_could_not_leave_has_the_answer_when_the_200_is_repeated(
    asked, monkeypatch, error
):
    """The first ACK fails. Nothing else knows the answer any more."""
    sender = asked.sip.client.sender
    with monkeypatch.context() as patched:

        def failing(*arguments):
            raise error

        patched.setattr(sender, "acknowledge", failing)
        asked.call.answer(media=[AUDIO])
    assert asked.peer.methods == ["INVITE"]
    asked.peer.reply(asked.invite, asked.response)
    assert asked.peer.methods == ["INVITE", "ACK"]
    ack = asked.peer.last("ACK")
    assert ack.body == asked.call.local_body
    assert str(ack.content_type) == "application/sdp"


def test_answer_with_a_stream_that_does_not_fit_leaves_the_offer(asked):
    with pytest.raises(Reject) as refused:
        asked.call.answer(media=[G729])
    assert refused.value.status == 488
    assert asked.call.offer == asked.mine
    asked.call.answer(media=[AUDIO])
    asked.sip.settle()
    assert asked.peer.methods == ["INVITE", "ACK"]


def test_answer_twice_is_refused(asked):
    asked.call.answer(media=[AUDIO])
    with pytest.raises(TransactionStateError, match="no offer"):
        asked.call.answer(media=[AUDIO])


def test_answer_with_nothing_says_what_to_write(asked):
    with pytest.raises(TypeError, match=r"media=\[stream\]"):
        asked.call.answer()


@pytest.mark.rfc("6337 5.2.4")
def test_hangup_instead_of_the_answer_refuses_all_streams(asked):
    asked.call.hangup()
    asked.sip.settle()
    assert asked.peer.methods == ["INVITE", "ACK", "BYE"]
    assert [stream.port for stream in description(asked.peer.last("ACK")).media] == [0]


@pytest.mark.rfc("6337 5.2.4")
def test_call_that_nobody_answers_is_hung_up_after_64_t1(asked):
    asked.call  # noqa: B018
    asked.sip.advance(31.9)
    assert asked.peer.methods == ["INVITE"]
    asked.sip.advance(0.2)
    assert asked.peer.methods == ["INVITE", "ACK", "BYE"]
    assert asked.call.ended.is_set()


def test_bye_of_the_peer_before_the_answer_ends_the_call(asked):
    asked.ask("BYE")
    assert asked.last.status == 200
    assert asked.call.ended.is_set()
    asked.sip.advance(40)
    assert "BYE" not in asked.peer.methods


def test_on_offer_answers_at_once(sip):
    placed = Placed(sip, on_offer=lambda offer, call: sdp.answer(offer, [AUDIO], address=OURS))
    assert placed.peer.methods == ["INVITE", "ACK"]
    assert placed.invite.body == b""
    assert placed.call.local_body == placed.peer.last("ACK").body
    placed.call.hangup()


@pytest.mark.rfc("3264 8", "6337 5.2.4")
def test_refusal_of_an_offer_in_the_2xx_to_a_reinvite_keeps_the_origin(sip):
    placed = Placed(sip)
    before = placed.call.local_sdp.origin
    start(sip, placed.call.request, "INVITE")
    video = sdp.MediaStream("video", 9002, (sdp.Codec("H264", 90000),))
    placed.peer.reply(
        placed.peer.last("INVITE"), 200, contact=f"<{placed.peer.uri}>", **body(phone_offer(video))
    )
    answer = description(placed.peer.last("ACK"))
    assert [stream.port for stream in answer.media] == [0]
    assert answer.origin == before._replace(session_version=before.session_version + 1)
    assert "BYE" in placed.peer.methods


@pytest.mark.rfc("6337 2.3", "6337 5.2.4")
def test_on_offer_that_rejects_ends_the_call(sip):
    def on_offer(offer, call):
        raise Reject(488)

    placed = Placed(sip, on_offer=on_offer)
    assert placed.peer.methods == ["INVITE", "ACK", "BYE"]
    assert [stream.port for stream in description(placed.peer.last("ACK")).media] == [0]
    assert placed.call.ended.is_set()


def test_on_offer_that_fails_ends_the_call(sip, caplog):
    placed = Placed(sip, on_offer=lambda offer, call: 1 / 0)
    assert placed.peer.methods == ["INVITE", "ACK", "BYE"]
    assert "offer not accepted" in caplog.text
    caplog.clear()


@pytest.mark.rfc("6337 2.3")
def test_offer_in_the_2xx_to_our_reinvite_that_we_cannot_accept_ends_the_call(sip):
    placed = Placed(sip)
    start(sip, placed.call.request, "INVITE")
    other = sdp.modify(placed.mine, [G729])
    placed.peer.reply(placed.peer.last("INVITE"), 200, **body(other))
    assert placed.peer.methods[-2:] == ["ACK", "BYE"]


# ---- reliable provisional responses


@pytest.mark.rfc("6337 3.1.2")
def test_invite_that_only_the_application_can_answer_for_does_not_support_100rel(asked):
    supported = asked.invite.supported
    assert "100rel" not in supported
    assert set(supported) == asked.stack.supported - {"100rel"}


@pytest.mark.parametrize(
    "options",
    [
        {"media": [AUDIO]},
        {"body": b"v=0"},
        {"supported": ("100rel",)},
        {"on_offer": lambda offer, call: None},
    ],
)
def test_other_invites_support_100rel(sip, options):
    placed = Placed(sip, answer=False, **options)
    assert "100rel" in placed.invite.supported
    placed.reply(486)


@pytest.mark.rfc("3262 5", "6337 3.1.2")
def test_answer_to_an_offer_in_a_reliable_183_leaves_in_the_prack(sip):
    placed = Placed(
        sip, answer=False, on_offer=lambda offer, call: sdp.answer(offer, [AUDIO], address=OURS)
    )
    offer = phone_offer()
    placed.reply(183, require="100rel", rseq=1, **body(offer))
    prack = placed.peer.last("PRACK")
    assert [stream.port for stream in description(prack).media] == [4000]
    placed.peer.reply(prack, 200)
    placed.reply(200)
    assert placed.peer.last("ACK").body == b""
    assert (placed.call.remote_sdp, placed.call.local_body) == (offer, prack.body)
    placed.call.hangup()


@pytest.mark.rfc("3262 4", "3262 5")
def test_prack_that_could_not_leave_has_the_answer_when_the_183_is_repeated(sip, monkeypatch):
    placed = Placed(
        sip, answer=False, on_offer=lambda offer, call: sdp.answer(offer, [AUDIO], address=OURS)
    )
    offer = phone_offer()

    def failing(*arguments):
        raise TransportError("no way to the peer")

    with monkeypatch.context() as patched:
        patched.setattr(DialogState, "send", failing)
        placed.reply(183, require="100rel", rseq=1, **body(offer))
    assert "PRACK" not in placed.peer.methods
    placed.reply(183, require="100rel", rseq=1, **body(offer))
    prack = placed.peer.last("PRACK")
    assert [stream.port for stream in description(prack).media] == [4000]
    placed.peer.reply(prack, 200)
    placed.reply(200)
    assert placed.peer.last("ACK").body == b""
    placed.call.hangup()


@pytest.mark.rfc("3261 13.2.1")
def test_2xx_without_the_offer_is_acknowledged_at_once(sip):
    placed = Placed(sip, answer=False, body=b"")
    placed.reply(200)
    assert placed.peer.methods == ["INVITE", "ACK"]
    assert placed.call.remote_sdp is None
    placed.call.hangup()


@pytest.mark.rfc("3261 13.2.2.4")
def test_offer_in_the_2xx_that_cannot_be_read_ends_the_call(sip):
    """The ACK had no answer, and the call went on without a session."""
    placed = Placed(sip, answer=False, body=b"", on_offer=lambda offer, call: None)
    placed.reply(200, body="v=0\r\nnonsense\r\n", content_type="application/sdp")
    assert placed.peer.methods == ["INVITE", "ACK", "BYE"]
    assert isinstance(placed.greenlet.exception, ParseError)


def test_bytes_in_the_2xx_are_judged_by_the_application_that_gave_no_media(sip):
    placed = Placed(sip, answer=False, body=b"")
    placed.reply(200, body="v=0\r\nnonsense\r\n", content_type="application/sdp")
    assert placed.greenlet.get().response.body == b"v=0\r\nnonsense\r\n"
    assert placed.peer.methods == ["INVITE", "ACK"]
    placed.call.hangup()


def test_further_2xx_of_a_fork_is_refused_and_hung_up(asked):
    other = asked.invite.response(200, contact=f"<{asked.peer.uri}>", **body(phone_offer()))
    other.to = other.to._replace(parameters=other.to.parameters.replace(tag="other"))
    asked.peer.reply(asked.invite, other)
    assert asked.peer.methods == ["INVITE", "ACK", "BYE"]
    assert [stream.port for stream in description(asked.peer.last("ACK")).media] == [0]
    asked.call.answer(media=[AUDIO])


@pytest.mark.rfc("3264 6", "3264 6.1")
@pytest.mark.parametrize(
    "streams, ports, wanted",
    [
        ([PHONE], [4000], ["sendrecv"]),
        ([PHONE, VIDEO], [4000, 0], ["sendrecv"]),
        ([PHONE._replace(direction="sendonly")], [4000], ["recvonly"]),
        ([G729], [0], []),
    ],
    ids=["the same", "one stream more", "hold", "nothing in common"],
)
def test_answer_that_keeps_the_session_fits_the_offer(streams, ports, wanted):
    """A bridge answers so if the side that has asked for the offer has given up."""
    offers = OfferAnswer(None)
    offers.sent(INVITE, bytes(sdp.initial_offer([AUDIO], address=OURS)))
    offers.received(ACCEPTED, bytes(sdp.answer(sdp.SDP.parse(offers.offer), [PHONE], address=HOST)))
    before = offers.local
    offers.sent(INVITE)
    offer = sdp.initial_offer(streams, address=HOST)
    offers.received(ACCEPTED, bytes(offer))
    kept = offers.kept(OURS)
    answer = sdp.SDP.parse(kept)
    assert [stream.port for stream in answer.media] == ports
    assert [stream.direction for stream in answer.media if stream.port] == wanted
    assert sdp.answer_faults(offer, answer) == []
    assert (kept == before) is (streams == [PHONE])


# ---- the peer has asked


def taken_without_offer(sip, **options):
    taken = Taken(sip, offer=b"", **options)
    return taken


@pytest.mark.rfc("3261 13.2.1", "6337 5.2.2")
def test_accept_of_an_invite_without_an_offer_has_one(sip):
    taken = taken_without_offer(sip)
    offer = description(taken.response)
    assert offer.media[0].port == 4000
    answer = sdp.answer(offer, [PHONE], address=HOST)
    taken.ask("ACK", **body(answer))
    assert (taken.call.local_sdp, taken.call.remote_sdp) == (offer, answer)
    assert directions(taken.offer(sdp.hold(answer))) == ["recvonly"]
    taken.call.hangup()


@pytest.mark.parametrize("answer", [b"", b"nonsense"])
def test_ack_without_the_answer_ends_the_call(sip, answer, caplog):
    taken = taken_without_offer(sip)
    taken.ask("ACK", body=answer, content_type="application/sdp" if answer else None)
    assert taken.calls == []
    assert taken.peer.methods == ["BYE"]
    caplog.clear()


def test_ack_without_the_answer_to_bytes_leaves_it_to_the_application(sip):
    ours = sdp.initial_offer([AUDIO], address=OURS)
    taken = taken_without_offer(sip, **body(ours))
    taken.ask("ACK")
    assert taken.call.remote_sdp is None
    assert not taken.call.ended.is_set()
    taken.call.hangup()


# ---- responses with an RSeq that nothing acknowledges


@pytest.mark.rfc("3262 4", "6337 3.1.1")
@pytest.mark.parametrize(
    "fields",
    [
        {"rseq": 1},
        {"rseq": 1, "require": "timer"},
        {"require": "100rel"},
        {"require": "100rel", "RSeq": "x"},
    ],
    ids=["no Require", "another Require", "no RSeq", "unreadable RSeq"],
)
def test_offer_in_a_1xx_that_no_prack_acknowledges_is_a_preview(sip, fields):
    """The call waited for the PRACK that it never sent, and could not make the ACK."""
    placed = Placed(sip, answer=False, body=b"", supported="100rel, timer")
    given = dict(fields)
    unreadable = given.pop("RSeq", None)
    contact = f"<{placed.peer.uri}>"
    ringing = placed.invite.response(180, contact=contact, **given, **body(phone_offer()))
    if unreadable:
        ringing.headers["RSeq"] = unreadable
    placed.peer.reply(placed.invite, ringing)
    ok = placed.invite.response(200, contact=contact, **body(phone_offer()))
    ok.to = ringing.to
    placed.peer.reply(placed.invite, ok)
    placed.call.answer(media=[AUDIO])
    sip.settle()
    assert placed.peer.methods == ["INVITE", "ACK"]
    assert directions(placed.peer.last("ACK")) == ["sendrecv"]
    placed.call.hangup()
