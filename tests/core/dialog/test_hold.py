"""Calls that agree on sessions: media=, hold, resume, refresh and changes by either side."""

from __future__ import annotations

import pytest

from sippet_gevent import Part, Reject, TransactionStateError, TransactionTimeout, multipart, sdp

from ..wire import Peer, start
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


@pytest.fixture(params=[Placed, Taken])
def two(request, sip):
    """A call with media=[AUDIO]: our stack has placed it, or taken it."""
    two = request.param(sip)
    yield two
    if not two.call.ended.is_set():
        two.call.hangup()


@pytest.fixture(params=[Placed, Taken])
def plain(request, sip):
    """A call whose application has described the session by itself, as bytes."""
    if request.param is Placed:
        ours = sdp.initial_offer([AUDIO], address=OURS)
    else:
        offer = phone_offer()
        ours = sdp.answer(offer, [AUDIO], address=OURS)
    plain = (
        Placed(sip, **body(ours)) if request.param is Placed else Taken(sip, offer, **body(ours))
    )
    yield plain
    if not plain.call.ended.is_set():
        plain.call.hangup()


def version(message):
    return description(message).origin.session_version


# ---- how a call begins


@pytest.mark.rfc("3264 5")
def test_invite_with_media_offers_it_at_the_address_it_leaves_by(sip):
    placed = Placed(sip)
    offer = description(placed.invite)
    assert offer.media[0].connection.address == placed.at
    assert offer.media[0].formats == ("0", "8", "96")
    assert str(placed.invite.content_type) == "application/sdp"
    assert placed.call.remote_sdp == placed.mine
    assert placed.call.local_sdp == offer
    placed.call.hangup()


@pytest.mark.rfc("3264 6")
def test_accept_with_media_answers_the_offer(sip):
    taken = Taken(sip)
    assert sdp.answer_faults(taken.mine, description(taken.response)) == []
    assert description(taken.response).media[0].connection.address == OURS
    assert taken.call.remote_sdp == taken.mine
    taken.call.hangup()


@pytest.mark.rfc("3261 13.3.1.3")
def test_accept_without_a_common_codec_is_488(sip):
    taken = Taken(sip, phone_offer(PHONE._replace(codecs=(sdp.G729,))))
    assert taken.peer.statuses == [488]
    assert taken.response.warning[0].code == 305


def test_accept_of_an_offer_that_cannot_be_read_is_400(sip):
    taken = Taken(sip, b"v=0\r\nnothing")
    assert taken.peer.statuses == [400]


@pytest.mark.rfc("3261 13.2.1")
def test_offer_in_a_multipart_is_answered(sip):

    taken = Taken(sip)
    offer = sdp.hold(taken.mine)
    mixed = multipart("mixed", [Part(bytes(offer), content_type="application/sdp")])
    taken.ask("INVITE", body=mixed.content, content_type=mixed.headers["Content-Type"])
    assert directions(taken.last) == ["recvonly"]
    taken.ask("ACK")
    taken.call.hangup()


def test_invite_whose_2xx_has_no_answer_to_media_is_hung_up(sip):
    placed = Placed(sip, answer=False)
    placed.reply(200)
    with pytest.raises(Exception, match="no session description") as fault:
        placed.greenlet.get()
    assert fault.value.status == 502
    assert placed.peer.methods == ["INVITE", "ACK", "BYE"]


@pytest.mark.rfc("6337 3.1.1")
def test_preview_in_a_183_is_the_answer_of_a_200_without_one(sip):
    placed = Placed(sip, answer=False)
    answer = sdp.answer(description(placed.invite), [PHONE], address=HOST)
    placed.reply(183, **body(answer))
    placed.reply(200)
    assert placed.call.remote_sdp == answer
    placed.call.hangup()


@pytest.mark.rfc("3261 13.2.1")
def test_accept_repeats_the_preview_that_was_sent(sip):
    offer = phone_offer()
    ours = sdp.answer(offer, [AUDIO], address=OURS)
    calls = []

    def core(request, tx):
        tx.respond(183, **body(ours))
        calls.append(tx.accept(media=[AUDIO]))

    sip.serve(core)
    phone = Peer(sip, HOST)
    invite = phone.ask("INVITE", **body(offer))
    assert [bytes(response.body) for response in phone.responses] == [bytes(ours)] * 2
    phone.send(phone.within(invite, phone.responses[-1], "ACK"))
    calls[0].hangup()


def test_media_and_body_at_once_are_refused(sip):
    with pytest.raises(TypeError, match="media and body"):
        sip.client.invite(f"sip:bob@{HOST}", media=[AUDIO], body="v=0")


def test_media_must_be_a_list_of_streams(sip):
    with pytest.raises(TypeError, match=r"write \[stream\]"):
        sip.client.invite(f"sip:bob@{HOST}", media=AUDIO)


def test_on_offer_must_take_offer_and_call(sip):
    with pytest.raises(TypeError, match="on_offer"):
        sip.client.invite(f"sip:bob@{HOST}", media=[AUDIO], on_offer=lambda: None)


# ---- the peer changes the session


HOLDS = [("sendonly", "recvonly"), ("inactive", "inactive")]


@pytest.mark.rfc("3264 8.4", "6337 5.3")
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
@pytest.mark.parametrize(("direction", "answered"), HOLDS)
def test_hold_and_resume_of_the_peer_are_answered(two, method, direction, answered):
    held = sdp.resume(two.mine, streams=[0], direction=direction)
    first = two.offer(held, method)
    assert (first.status, directions(first)) == (200, [answered])
    assert sdp.answer_faults(held, description(first)) == []
    assert two.call.remote_sdp == held
    second = two.offer(sdp.resume(held), method)
    assert (second.status, directions(second)) == (200, ["sendrecv"])
    assert version(second) == version(first) + 1


@pytest.mark.rfc("3264 8.4", "6337 5.3")
@pytest.mark.parametrize(("direction", "answered"), HOLDS)
def test_hold_of_a_session_given_as_bytes_is_answered(plain, direction, answered):
    held = sdp.resume(plain.mine, streams=[0], direction=direction)
    response = plain.offer(held)
    assert (response.status, directions(response)) == (200, [answered])
    assert directions(plain.offer(sdp.resume(held))) == ["sendrecv"]


@pytest.mark.rfc("6337 5.4")
def test_hold_by_0_0_0_0_is_answered(two):
    held = sdp.modify(two.mine, two.mine.media, address="0.0.0.0")
    assert two.offer(held).status == 200
    assert two.offer(sdp.modify(held, held.media, address=HOST)).status == 200


@pytest.mark.rfc("4028 7.4")
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
@pytest.mark.parametrize("counts", [0, 1])
def test_refresh_gets_our_description_again(two, method, counts):
    ours = two.call.local_body
    again = two.mine.copy()
    for _ in range(counts):
        again._count_version()
    response = two.offer(again, method)
    assert (response.status, response.body) == (200, ours)


@pytest.mark.rfc("3264 6", "3264 8.2", "6337 5.2.5")
def test_refresh_by_a_peer_that_has_refused_a_stream_gets_port_0(sip):
    """Our offer came back as the answer, with the port of the refused stream."""
    video = sdp.MediaStream("video", 4002, (sdp.Codec("H264", 90000),))
    placed = Placed(sip, media=[AUDIO, video])
    assert [stream.port for stream in placed.mine.media] == [9000, 0]
    first = placed.offer(placed.mine)
    assert [stream.port for stream in description(first).media] == [4000, 0]
    assert sdp.answer_faults(placed.mine, description(first)) == []
    again = placed.offer(placed.mine)
    assert again.body == first.body
    placed.call.hangup()


@pytest.mark.rfc("3264 6.1")
@pytest.mark.parametrize("wanted, answered", [("sendonly", "recvonly"), ("inactive", "inactive")])
def test_refresh_by_a_peer_that_has_answered_with_a_hold_is_answered_so(sip, wanted, answered):
    placed = Placed(sip, answer=False)
    placed.mine = sdp.answer(
        description(placed.invite), [PHONE._replace(direction=wanted)], address=HOST
    )
    placed.reply(200, **body(placed.mine))
    assert directions(placed.offer(placed.mine)) == [answered]
    placed.call.hangup()


@pytest.mark.rfc("3264 8.3")
def test_new_address_of_the_peer_is_accepted(two):
    moved = sdp.modify(two.mine, two.mine.media, address="192.0.2.99")
    assert two.offer(moved).status == 200
    assert two.call.remote_sdp.connection.address == "192.0.2.99"


@pytest.mark.rfc("3264 8.3", "3261 14.2")
def test_new_address_of_the_peer_is_488_if_the_application_cannot_follow(plain):
    before = plain.call.local_body, plain.call.remote_body
    moved = sdp.modify(plain.mine, plain.mine.media, address="192.0.2.99")
    assert plain.offer(moved).status == 488
    assert (plain.call.local_body, plain.call.remote_body) == before
    plain.call.on_offer = lambda offer, call: sdp.answer(
        offer, [AUDIO], previous=call.local_sdp, address=OURS
    )
    assert plain.offer(moved).status == 200


@pytest.mark.rfc("6337 5.4")
def test_hold_by_0_0_0_0_is_answered_if_the_application_uses_bytes(plain):
    held = sdp.modify(plain.mine, plain.mine.media, address="0.0.0.0")
    assert plain.offer(held).status == 200
    assert plain.offer(sdp.modify(held, held.media, address=HOST)).status == 200


@pytest.mark.rfc("3264 8.3.2")
def test_codec_change_within_what_was_agreed_is_accepted(plain):
    other = sdp.modify(plain.mine, [PHONE._replace(codecs=(sdp.PCMA,))])
    response = plain.offer(other)
    assert description(response).media[0].formats == ("8",)


@pytest.mark.rfc("3261 14.2", "3311 5.2")
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_offer_that_cannot_be_accepted_is_488_and_changes_nothing(two, method):
    before = two.call.local_body, two.call.remote_body
    response = two.offer(sdp.modify(two.mine, [PHONE._replace(codecs=(sdp.G729,))]), method)
    assert response.status == 488
    assert response.warning
    assert (two.call.local_body, two.call.remote_body) == before
    assert not two.call.ended.is_set()
    assert two.offer(sdp.hold(two.mine), method).status == 200


@pytest.mark.rfc("6337 5.2.5", "3261 14.2")
def test_reinvite_without_an_offer_gets_one(two):
    two.ask("INVITE")
    offer = description(two.last)
    assert offer.media[0].port == 4000
    answer = sdp.answer(offer, [PHONE], address=HOST, previous=two.mine)
    two.ask("ACK", **body(answer))
    assert two.call.remote_sdp == answer
    assert two.call.local_sdp == offer


@pytest.mark.rfc("6337 5.3")
def test_reinvite_without_an_offer_while_the_peer_holds_offers_sendrecv(two):
    two.offer(sdp.hold(two.mine))
    two.ask("INVITE")
    assert directions(two.last) == ["sendrecv"]
    two.ask("ACK", **body(sdp.answer(description(two.last), [PHONE], address=HOST)))


@pytest.mark.rfc("3311 5.2")
def test_update_without_an_offer_is_answered_without_a_body(two):
    before = two.call.local_body, two.call.remote_body
    two.ask("UPDATE", contact=f"<sip:moved@{HOST}>")
    assert (two.last.status, two.last.body) == (200, b"")
    assert (two.call.local_body, two.call.remote_body) == before
    assert str(two.call.dialog.remote_target) == f"sip:moved@{HOST}"


def test_update_goes_to_the_function_registered_for_it(sip):
    taken = Taken(sip)
    seen = []
    taken.stack.methods.add(("UPDATE",), lambda request, tx: seen.append(1) or 200)
    taken.stack.core = taken.stack.methods
    taken.ask("UPDATE")
    assert (taken.last.status, seen) == (200, [1])
    taken.call.hangup()


def test_hold_and_resume_of_the_peer_are_events(two):
    held = sdp.hold(two.mine)
    two.offer(held)
    two.offer(sdp.modify(held, held.media))  # a refresh is none
    two.offer(sdp.resume(held), "UPDATE")
    events = two.call.events(timeout=1)
    assert [next(events).kind for _ in range(2)] == ["hold", "resume"]
    two.ask("BYE")
    assert next(events).kind == "end"


def test_refused_hold_is_no_event(two):
    def on_offer(offer, call):
        raise Reject(488)

    two.call.on_offer = on_offer
    two.offer(sdp.hold(two.mine))
    two.ask("BYE")
    assert [event.kind for event in two.call.events(timeout=1)] == ["end"]


# ---- the application decides


def test_on_offer_answers_in_place_of_the_call(two):
    seen = []

    def on_offer(offer, call):
        seen.append(offer)
        return sdp.answer(offer, [AUDIO._replace(direction="inactive")], address=OURS)

    two.call.on_offer = on_offer
    assert directions(two.offer(two.mine)) == ["inactive"]
    assert seen == [two.mine]


@pytest.mark.rfc("3264 8", "6337 5.2.5")
def test_answer_of_on_offer_keeps_the_origin_and_has_the_next_version(two):
    before = two.call.local_sdp.origin
    stream = AUDIO._replace(direction="inactive")
    two.call.on_offer = lambda offer, call: sdp.answer(offer, [stream], address=OURS)
    for version in 2 * (before.session_version + 1,):
        response = two.offer(two.mine)
        assert description(response).origin == before._replace(session_version=version)


def test_on_offer_that_returns_none_leaves_it_to_the_call(two):
    two.call.on_offer = lambda offer, call: None
    assert directions(two.offer(sdp.hold(two.mine))) == ["recvonly"]


@pytest.mark.rfc("3261 14.2")
def test_on_offer_that_rejects_leaves_the_session_as_it_was(two):
    def on_offer(offer, call):
        raise Reject(488)

    two.call.on_offer = on_offer
    before = two.call.local_body, two.call.remote_body
    assert two.offer(sdp.hold(two.mine)).status == 488
    assert (two.call.local_body, two.call.remote_body) == before


def test_on_offer_makes_the_offer_that_the_peer_asks_for(two):
    two.call.on_offer = lambda offer, call: None if offer else sdp.hold(call.local_sdp)
    two.ask("INVITE")
    assert directions(two.last) == ["sendonly"]
    two.ask("ACK", **body(sdp.answer(description(two.last), [PHONE], address=HOST)))


def test_on_offer_that_returns_nonsense_is_500(two, caplog):
    two.call.on_offer = lambda offer, call: 200
    assert two.offer(sdp.hold(two.mine)).status == 500
    caplog.clear()


# ---- we change the session


@pytest.mark.rfc("3264 8.4", "6337 5.3")
def test_hold_and_resume_of_ours(two):
    first = start(two.sip, two.call.hold)
    offer = two.take_offer()
    assert [stream.direction for stream in offer.media] == ["sendonly"]
    first.get()
    assert two.call.is_held
    assert two.call.local_sdp == offer
    assert directions(two.offer(two.mine)) == ["sendonly"]  # a refresh of the peer's
    second = start(two.sip, two.call.resume)
    again = two.take_offer()
    second.get()
    assert [stream.direction for stream in again.media] == ["sendrecv"]
    assert again.origin.session_version == offer.origin.session_version + 1
    assert not two.call.is_held


def test_hold_of_a_call_that_we_hold_sends_nothing(two):
    start(two.sip, two.call.hold)
    two.take_offer()
    count = two.peer.methods.count("INVITE")
    start(two.sip, two.call.hold).get()
    assert two.peer.methods.count("INVITE") == count


@pytest.mark.rfc("3264 8.4")
def test_hold_of_a_session_given_as_bytes(plain):
    greenlet = start(plain.sip, plain.call.hold)
    assert [stream.direction for stream in plain.take_offer().media] == ["sendonly"]
    greenlet.get()
    greenlet = start(plain.sip, plain.call.resume)
    assert [stream.direction for stream in plain.take_offer().media] == ["sendrecv"]
    greenlet.get()


@pytest.mark.rfc("3261 14.1")
def test_hold_that_is_refused_raises_and_changes_nothing(two):
    before = two.call.local_body
    greenlet = start(two.sip, two.call.hold)
    two.peer.reply(two.peer.last("INVITE"), 488)
    with pytest.raises(Reject) as refused:
        greenlet.get()
    assert refused.value.status == 488
    assert (two.call.local_body, two.call.is_held) == (before, False)


@pytest.mark.rfc("3264 8", "6337 5.2.5")
def test_version_goes_up_after_a_refused_offer(two):
    first = start(two.sip, two.call.hold)
    refused = two.peer.last("INVITE")
    two.peer.reply(refused, 488)
    assert first.exception is not None
    start(two.sip, two.call.reinvite, media=[AUDIO._replace(codecs=(sdp.PCMA,))])
    assert version(two.peer.last("INVITE")) == version(refused) + 1
    two.take_offer()


@pytest.mark.rfc("3264 8")
def test_version_of_a_refused_offer_is_not_used_again_after_a_refresh(two):
    first = start(two.sip, two.call.hold)
    refused = two.peer.last("INVITE")
    two.peer.reply(refused, 488)
    assert first.exception is not None
    second = start(two.sip, two.call.reinvite)
    two.take_offer()
    second.get()
    third = start(two.sip, two.call.reinvite, media=[AUDIO._replace(codecs=(sdp.PCMA,))])
    assert version(two.peer.last("INVITE")) == version(refused) + 1
    two.take_offer()
    third.get()


@pytest.mark.rfc("3264 8.4", "5407 3.1.4")
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_offer_right_behind_the_2xx_to_our_hold_is_answered_as_held(two, method):
    """The greenlet that holds had not run yet, and the answer ended the hold."""
    holding = start(two.sip, two.call.hold)
    invite = two.peer.last("INVITE")
    answer = sdp.answer(description(invite), [PHONE], address=HOST, previous=two.mine)
    ok = invite.response(200, contact=f"<{two.peer.uri}>", **body(answer))
    invite.flow.send(bytes(ok))  # and nothing happens before the offer comes
    response = two.offer(sdp.modify(answer, [PHONE]), method)
    assert (response.status, directions(response)) == (200, ["sendonly"])
    holding.get()
    assert two.call.is_held


@pytest.mark.rfc("3261 9.1")
def test_hold_that_is_accepted_after_its_timeout_holds(two):
    """The 200 has crossed our CANCEL. The next refresh ended the hold."""
    holding = start(two.sip, two.call.hold, timeout=1)
    two.sip.advance(2)
    assert isinstance(holding.exception, TransactionTimeout)
    two.take_offer()
    assert two.call.is_held
    refreshing = start(two.sip, two.call.reinvite)
    assert [stream.direction for stream in two.take_offer().media] == ["sendonly"]
    assert refreshing.get().status == 200


@pytest.mark.rfc("3264 8.3", "5407 3.1.4")
def test_offer_right_behind_the_2xx_to_our_reinvite_gets_the_new_streams(two):
    moved = AUDIO._replace(port=4444)
    changing = start(two.sip, two.call.reinvite, media=[moved])
    invite = two.peer.last("INVITE")
    answer = sdp.answer(description(invite), [PHONE], address=HOST, previous=two.mine)
    ok = invite.response(200, contact=f"<{two.peer.uri}>", **body(answer))
    invite.flow.send(bytes(ok))
    response = two.offer(sdp.hold(answer), "UPDATE")
    assert [stream.port for stream in description(response).media] == [4444]
    assert changing.get().status == 200


@pytest.mark.rfc("6141 4.8", "3311 5.2")
def test_target_of_an_update_right_behind_a_2xx_counts(two):
    """The Contact of the 2xx, which is older, took its place."""
    updating = start(two.sip, two.call.update)
    update = two.peer.last("UPDATE")
    update.flow.send(bytes(update.response(200, contact=f"<sip:first@{HOST}>")))
    two.ask("UPDATE", contact=f"<sip:second@{HOST}>")
    assert updating.get().status == 200
    assert str(two.call.dialog.remote_target) == f"sip:second@{HOST}"


@pytest.mark.rfc("6141 4.6", "3262 3")
def test_target_of_a_reinvite_counts_from_its_reliable_183_on_even_if_it_is_refused(two):
    def core(request, tx):
        tx.respond(183, reliable=True)
        tx.wait(1)
        return 488

    two.call.on_reinvite = core
    moved = f"sip:moved@{HOST}"
    two.ask("INVITE", supported="100rel", contact=f"<{moved}>", **body(sdp.hold(two.mine)))
    reliable = two.last
    assert str(two.call.dialog.remote_target) == moved
    two.ask("PRACK", rack=f"{reliable.rseq} {reliable.cseq.number} INVITE")
    two.sip.advance(2)
    assert two.last.status == 488
    two.ask("ACK", number=reliable.cseq.number)
    assert str(two.call.dialog.remote_target) == moved
    two.ask("BYE", number=reliable.cseq.number + 2)


@pytest.mark.rfc("6141 4.7")
@pytest.mark.parametrize("is_reliable", [True, False])
def test_target_of_a_183_to_our_reinvite_counts_if_it_is_reliable(two, is_reliable):
    before, moved = str(two.call.dialog.remote_target), f"sip:moved@{HOST}"
    holding = start(two.sip, two.call.hold)
    fields = {"require": "100rel", "rseq": 1} if is_reliable else {}
    invite = two.peer.last("INVITE")
    two.peer.reply(invite, 183, contact=f"<{moved}>", **fields)
    if is_reliable:
        prack = two.peer.last("PRACK")
        assert str(prack.uri) == moved
        two.peer.reply(prack, 200)
    assert str(two.call.dialog.remote_target) == (moved if is_reliable else before)
    two.peer.reply(invite, 488)
    assert isinstance(holding.exception, Reject)
    assert str(two.call.dialog.remote_target) == (moved if is_reliable else before)


def refuse_after_an_answer(two, status=488, stream=PHONE):
    """The peer answers our re-INVITE in a reliable 183, and refuses it then. Returns the offer."""
    changing = start(two.sip, two.call.reinvite, media=[AUDIO._replace(codecs=(sdp.PCMA,))])
    invite = two.peer.last("INVITE")
    answer = sdp.answer(description(invite), [stream], address=HOST, previous=two.mine)
    two.peer.reply(
        invite, 183, require="100rel", rseq=1, contact=f"<{two.peer.uri}>", **body(answer)
    )
    two.peer.reply(two.peer.last("PRACK"), 200)
    two.peer.reply(invite, status)
    with pytest.raises(Reject):
        changing.get()
    return invite


@pytest.mark.rfc("6141 3.4")
def test_refusal_that_undoes_a_change_is_followed_by_an_offer_of_the_session_before(two):
    before = two.call.local_sdp
    refused = refuse_after_an_answer(two)
    assert two.peer.last("INVITE") is not refused
    offer = two.take_offer()
    assert version(two.peer.last("INVITE")) == version(refused) + 1
    assert [stream.formats for stream in offer.media] == [s.formats for s in before.media]
    assert two.call.local_sdp == offer
    assert two.call.remote_sdp == two.mine
    held = start(two.sip, two.call.hold)  # the session goes on as usual
    assert [stream.direction for stream in two.take_offer().media] == ["sendonly"]
    held.get()


@pytest.mark.rfc("6141 3.1")
def test_refusal_that_undoes_a_hold_of_the_peer_is_an_event(two):
    refuse_after_an_answer(two, stream=PHONE._replace(direction="sendonly"))
    two.take_offer()
    two.ask("BYE")
    assert [event.kind for event in two.call.events(timeout=1)] == ["hold", "resume", "end"]


@pytest.mark.rfc("6141 3.1")
def test_reinvite_of_the_peer_that_is_refused_after_its_hold_was_answered_resumes(two):
    """Our core answers the hold in a reliable 183, and refuses the re-INVITE then."""

    def core(request, tx):
        answer = sdp.answer(sdp.SDP.parse(request.body), [AUDIO], previous=two.call.local_sdp)
        tx.respond(183, reliable=True, **body(answer))
        tx.wait(1)
        return 488

    two.call.on_reinvite = core
    two.ask("INVITE", supported="100rel", **body(sdp.hold(two.mine)))
    reliable = two.last
    two.ask("PRACK", rack=f"{reliable.rseq} {reliable.cseq.number} INVITE")
    two.sip.advance(2)
    assert two.last.status == 488
    assert two.call.remote_sdp == two.mine
    two.ask("ACK", number=reliable.cseq.number)
    two.ask("BYE", number=reliable.cseq.number + 2)
    assert [event.kind for event in two.call.events(timeout=1)] == ["hold", "resume", "end"]


@pytest.mark.rfc("6141 3.4")
def test_refusal_that_undoes_nothing_is_not_followed_by_an_offer(two):
    start(two.sip, two.call.hold)
    refused = two.peer.last("INVITE")
    two.peer.reply(refused, 488)
    two.sip.advance(5)
    assert two.peer.last("INVITE") is refused


@pytest.mark.rfc("6141 3.4")
def test_offer_after_an_undone_change_that_is_refused_is_logged_and_the_call_lives(two, caplog):
    refuse_after_an_answer(two)
    two.peer.reply(two.peer.last("INVITE"), 488)
    assert "session not restored" in caplog.text
    assert not two.call.ended.is_set()


@pytest.mark.rfc("6141 3.4")
def test_refusal_that_undoes_a_change_and_ends_the_call_is_followed_by_its_bye(two):
    refused = refuse_after_an_answer(two, 481)
    assert two.peer.last("INVITE") is refused
    assert two.call.ended.is_set()


def test_call_without_a_session_cannot_be_held(sip):
    placed = Placed(sip, answer=False, body="something")
    placed.reply(200)
    greenlet = start(sip, placed.call.hold)
    with pytest.raises(Reject) as refused:
        greenlet.get()
    assert refused.value.status == 488
    placed.call.hangup()


@pytest.mark.rfc("3261 14.1")
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_request_that_gets_491_is_sent_once_more_after_a_while(two, method):
    change = two.call.reinvite if method == "INVITE" else two.call.update
    greenlet = start(two.sip, change, media=[AUDIO._replace(codecs=(sdp.PCMA,))])
    two.peer.reply(two.peer.last(method), 491)
    first = two.peer.last(method)
    is_owner = isinstance(two, Placed)
    two.sip.advance(2.05)
    assert (two.peer.last(method).cseq == first.cseq) == is_owner
    two.sip.advance(2)
    assert two.peer.last(method).cseq.number == first.cseq.number + 1
    two.take_offer(method)
    assert greenlet.get().status == 200


@pytest.mark.rfc("3261 14.1")
def test_request_that_gets_491_twice_is_refused(two):
    greenlet = start(two.sip, two.call.hold)
    two.peer.reply(two.peer.last("INVITE"), 491)
    two.sip.advance(4.1)
    two.peer.reply(two.peer.last("INVITE"), 491)
    with pytest.raises(Reject) as refused:
        greenlet.get()
    assert refused.value.status == 491


@pytest.mark.rfc("3261 14.1")
def test_call_that_ends_during_the_back_off_sends_nothing(two):
    greenlet = start(two.sip, two.call.hold)
    two.peer.reply(two.peer.last("INVITE"), 491)
    count = two.peer.methods.count("INVITE")
    two.ask("BYE")
    with pytest.raises(Reject):
        greenlet.get()
    two.sip.advance(5)
    assert two.peer.methods.count("INVITE") == count


@pytest.mark.rfc("3261 14.1", "3261 14.2")
def test_hold_during_the_peer_s_reinvite_waits(sip):
    taken = Taken(sip)
    taken.call.on_reinvite = lambda request, tx: tx.wait(1) or 488
    taken.ask("INVITE", **body(taken.mine))
    greenlet = start(sip, taken.call.hold)
    assert "INVITE" not in taken.peer.methods
    sip.advance(3)
    taken.take_offer()
    greenlet.get()
    taken.call.hangup()


@pytest.mark.rfc("3261 14.1")
@pytest.mark.parametrize("status", [200, 488])
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_hold_is_sent_as_soon_as_the_change_of_the_peer_is_over(sip, method, status):
    placed = Placed(sip)

    def change(request, tx):
        tx.wait(1)
        return status if status > 299 else placed.call.offers.response_to(request)

    placed.call.on_reinvite = change
    placed.call.handlers = {"UPDATE": change}
    placed.ask(method, **body(placed.mine))
    holding = start(sip, placed.call.hold)
    count = placed.peer.methods.count("INVITE")
    sip.advance(1.1)
    if (method, status) == ("INVITE", 200):
        placed.ask("ACK", number=placed.number)
    assert placed.peer.methods.count("INVITE") == count + 1
    placed.take_offer()
    holding.get()
    placed.call.hangup()
    sip.advance(40)


@pytest.mark.rfc("3261 14.1", "3261 14.2")
def test_hold_that_got_491_waits_for_a_reinvite_of_the_peer(sip):
    """It raised TransactionStateError, because the peer was faster."""
    placed = Placed(sip)
    holding = start(sip, placed.call.hold)
    placed.peer.reply(placed.peer.last("INVITE"), 491)
    before = placed.peer.last("INVITE").cseq
    placed.call.on_reinvite = lambda request, tx: tx.wait(5) or 488
    placed.ask("INVITE", **body(placed.mine))
    sip.advance(4.5)  # the back-off of 2.1 to 4 seconds is over
    assert placed.peer.last("INVITE").cseq == before
    sip.advance(5)
    assert placed.peer.last("INVITE").cseq.number == before.number + 1
    placed.take_offer()
    holding.get()
    assert placed.call.is_held
    placed.call.hangup()
    sip.advance(40)  # nobody acknowledges the 488


def test_hold_of_a_call_that_has_ended_raises(two):
    two.call.hangup()
    with pytest.raises(TransactionStateError):
        two.call.hold()


def test_reinvite_without_arguments_refreshes_the_session(two):
    ours = two.call.local_body
    greenlet = start(two.sip, two.call.reinvite)
    assert two.peer.last("INVITE").body == ours
    two.take_offer()
    assert greenlet.get().status == 200


def test_update_without_arguments_has_no_offer(two):
    ours = two.call.local_body
    greenlet = start(two.sip, two.call.update)
    assert two.peer.last("UPDATE").body == b""
    two.peer.reply(two.peer.last("UPDATE"), 200, contact=f"<{two.peer.uri}>")
    assert greenlet.get().status == 200
    assert two.call.local_body == ours


def test_reinvite_with_media_replaces_the_streams(two):
    video = sdp.MediaStream("video", 4002, (sdp.Codec("H264", 90000),))
    greenlet = start(two.sip, two.call.reinvite, media=[AUDIO, video])
    offer = two.take_offer()
    greenlet.get()
    assert [stream.port for stream in offer.media] == [4000, 4002]
    greenlet = start(two.sip, two.call.reinvite, media=[AUDIO])
    offer = two.take_offer()
    greenlet.get()
    assert [stream.port for stream in offer.media] == [4000, 0]


@pytest.mark.rfc("3261 14.1")
def test_reinvite_of_ours_without_an_offer_answers_in_the_ack(two):
    greenlet = start(two.sip, two.call.request, "INVITE")
    held = sdp.hold(two.mine)
    two.peer.reply(two.peer.last("INVITE"), 200, contact=f"<{two.peer.uri}>", **body(held))
    assert greenlet.get().status == 200
    assert directions(two.peer.last("ACK")) == ["recvonly"]
    assert two.call.remote_sdp == held
