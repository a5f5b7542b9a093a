"""What a call offers and accepts, RFC 3264, RFC 6337 §5."""

from __future__ import annotations

import pytest

from sippet_gevent import Reject, sdp
from sippet_gevent.core.dialog.media import Media, fits, successor
from sippet_gevent.message.sdp import SDP

AUDIO = sdp.MediaStream("audio", 4000, (sdp.PCMU, sdp.PCMA, sdp.TELEPHONE_EVENT))
VIDEO = sdp.MediaStream("video", 4002, (sdp.Codec("H264", 90000),))


def offer_of(*streams, address="192.0.2.7", **options):
    return sdp.initial_offer(streams, address=address, **options)


def peer_stream(*codecs, port=9000, **options):
    return sdp.MediaStream("audio", port, codecs or (sdp.PCMA, sdp.PCMU), **options)


def taken(*streams, offer=None):
    """The media of a call that was offered audio, the offer, and our answer."""
    media = Media(streams or [AUDIO], "192.0.2.1")
    offer = offer or offer_of(peer_stream())
    return media, offer, media.answer(offer)


def directions(description):
    return [section.direction for section in description.media]


def version(description):
    return description.origin.session_version


@pytest.mark.rfc("3264 6.1")
def test_first_answer_has_what_both_can():
    media, offer, answer = taken()
    assert sdp.answer_faults(offer, answer) == []
    assert answer.media[0].formats == ("8", "0")
    assert answer.media[0].connection.address == "192.0.2.1"


def test_offer_without_a_common_codec_is_refused_with_488():
    with pytest.raises(Reject) as refused:
        Media([AUDIO], "192.0.2.1").answer(offer_of(peer_stream(sdp.G729)))
    assert refused.value.status == 488
    assert refused.value.headers["warning"][0].code == 305


def test_offer_that_removes_all_streams_is_accepted():
    media, offer, answer = taken()
    gone = media.answer(sdp.remove_stream(offer, 0), answer)
    assert gone.media[0].is_disabled


@pytest.mark.rfc("3264 8.4", "6337 5.3")
@pytest.mark.parametrize("hold, answered", [("sendonly", "recvonly"), ("inactive", "inactive")])
def test_hold_and_resume_of_the_peer_are_answered(hold, answered):
    media, offer, answer = taken()
    held = sdp.resume(offer, streams=[0], direction=hold)
    ours = media.answer(held, answer)
    assert directions(ours) == [answered]
    assert version(ours) == version(answer) + 1
    assert sdp.answer_faults(held, ours) == []
    again = media.answer(sdp.resume(held), ours)
    assert directions(again) == ["sendrecv"]
    assert version(again) == version(ours) + 1


@pytest.mark.rfc("6337 5.4")
def test_hold_by_0_0_0_0_is_answered_by_its_direction():
    media, offer, answer = taken()
    held = offer.copy()
    held.connection = "0.0.0.0"
    ours = media.answer(held, answer)
    assert not ours.media[0].is_disabled
    assert directions(ours) == ["sendrecv"]


@pytest.mark.rfc("6337 5.3")
def test_call_that_both_have_held_is_free_when_both_have_resumed():
    media, offer, answer = taken()
    held = sdp.hold(offer)
    ours = media.answer(held, answer)
    media.is_held = True
    my_hold = media.redirect(ours)
    assert directions(my_hold) == ["sendonly"]
    theirs = sdp.resume(held)  # the peer is first to resume
    ours = media.answer(theirs, my_hold)
    assert directions(ours) == ["sendonly"]
    media.is_held = False
    assert directions(media.redirect(ours)) == ["sendrecv"]


@pytest.mark.rfc("6337 5.2.5")
def test_later_offer_has_all_that_we_can_do():
    media, offer, answer = taken(AUDIO, offer=offer_of(peer_stream(sdp.PCMA)))
    assert answer.media[0].formats == ("8",)
    later = media.offer(answer)
    assert later.media[0].formats == ("0", "8", "96")
    assert version(later) == version(answer) + 1
    assert sdp.modification_faults(answer, later) == []


@pytest.mark.rfc("6337 5.2.5")
def test_stream_that_the_peer_had_refused_is_offered_again():
    media = Media([AUDIO, VIDEO], "192.0.2.1")
    answer = media.answer(offer_of(peer_stream(), sdp.MediaStream("video", 9002, (sdp.PCMU,))))
    assert answer.media[1].is_disabled
    later = media.offer(answer)
    assert [section.port for section in later.media] == [4000, 4002]


def test_stream_that_the_peer_adds_is_accepted_if_we_have_it():
    media, offer, answer = taken(AUDIO, VIDEO)
    assert len(answer.media) == 1
    added = sdp.add_stream(offer, sdp.MediaStream("video", 9002, (sdp.Codec("H264", 90000),)))
    ours = media.answer(added, answer)
    assert [section.port for section in ours.media] == [4000, 4002]


def test_first_offer_and_the_answer_to_a_later_one():
    media = Media([AUDIO], "192.0.2.1")
    offer = media.offer()
    assert directions(offer) == ["sendrecv"]
    theirs = sdp.answer(offer, [peer_stream()], address="192.0.2.7")
    held = sdp.hold(theirs)
    assert directions(media.answer(held, offer)) == ["recvonly"]


@pytest.mark.rfc("6337 5.2.5")
def test_later_offer_without_a_change_keeps_its_version():
    media = Media([AUDIO], "192.0.2.1")
    offer = media.offer()
    assert media.offer(offer) == offer
    assert media.redirect(offer) == offer


@pytest.mark.rfc("3264 8")
def test_offer_with_fewer_streams_than_before_is_refused_with_488():
    media, offer, answer = taken(offer=offer_of(peer_stream(), peer_stream(port=9002)))
    with pytest.raises(Reject) as refused:
        media.answer(offer_of(peer_stream()), answer)
    assert refused.value.status == 488


# ---- sessions that the application has described


def described(ours, offer):
    return Media.of(ours, offer), ours


@pytest.mark.rfc("3264 8.4")
def test_hold_of_a_session_in_the_application_s_own_words_is_answered():
    offer = offer_of(peer_stream())
    media, ours = described(sdp.answer(offer, [AUDIO], address="192.0.2.1"), offer)
    answer = media.answer(sdp.hold(offer), ours)
    assert directions(answer) == ["recvonly"]
    assert answer.media[0].formats == ours.media[0].formats
    assert version(answer) == version(ours) + 1


def test_codec_change_within_what_was_agreed_is_answered():
    offer = offer_of(peer_stream(sdp.PCMU, sdp.PCMA))
    media, ours = described(sdp.answer(offer, [AUDIO], address="192.0.2.1"), offer)
    fewer = sdp.modify(offer, [peer_stream(sdp.PCMA)])
    assert media.answer(fewer, ours).media[0].formats == ("8",)


def test_codec_outside_of_what_was_agreed_is_refused_with_488():
    offer = offer_of(peer_stream(sdp.PCMU))
    media, ours = described(sdp.answer(offer, [AUDIO], address="192.0.2.1"), offer)
    with pytest.raises(Reject) as refused:
        media.answer(sdp.modify(offer, [peer_stream(sdp.PCMA)]), ours)
    assert refused.value.status == 488


def test_session_that_began_on_hold_is_resumed():
    offer = offer_of(peer_stream(direction="sendonly"))
    media, ours = described(sdp.answer(offer, [AUDIO], address="192.0.2.1"), offer)
    assert directions(ours) == ["recvonly"]
    assert directions(media.answer(sdp.resume(offer), ours)) == ["sendrecv"]


def test_stream_that_the_application_limits_stays_limited():
    silence = AUDIO._replace(direction="inactive")
    offer = offer_of(peer_stream())
    media, ours = described(sdp.answer(offer, [silence], address="192.0.2.1"), offer)
    answer = media.answer(sdp.hold(offer), ours)
    assert directions(answer) == ["inactive"]
    assert directions(media.answer(sdp.resume(sdp.hold(offer)), answer)) == ["inactive"]


def test_attributes_and_formats_of_other_protocols_are_kept():
    text = "v=0\r\no=- 1 1 IN IP4 h\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    fax = SDP.parse(text + "m=image 4000 udptl t38\r\na=T38FaxVersion:0\r\n")
    peer = SDP.parse(text + "m=image 9000 udptl t38\r\na=T38FaxVersion:0\r\n")
    answer = Media.of(fax, None).answer(peer, fax)
    assert answer == fax


@pytest.mark.rfc("3264 6", "3264 6.1")
@pytest.mark.parametrize(
    "ours, theirs, fitting",
    [
        ([AUDIO], [peer_stream()], True),
        ([AUDIO], [peer_stream(direction="sendonly")], False),
        ([AUDIO._replace(direction="sendonly")], [peer_stream(direction="recvonly")], True),
        ([AUDIO._replace(direction="inactive")], [peer_stream()], True),
        ([AUDIO, VIDEO], [peer_stream()], True),  # the peer has broken a rule before
        ([], [], True),
    ],
)
def test_offer_of_ours_that_may_be_repeated_as_an_answer(ours, theirs, fitting):
    offer = offer_of(*theirs) if theirs else SDP.make("192.0.2.7")
    local = offer_of(*ours) if ours else SDP.make("192.0.2.1")
    assert fits(local, offer) is fitting


def test_offer_of_ours_may_not_be_repeated_as_an_answer_if_a_stream_was_refused():
    local = offer_of(AUDIO, VIDEO)
    refused = sdp.answer(local, [peer_stream()], address="192.0.2.7")
    assert [section.port for section in refused.media] == [9000, 0]
    assert not fits(local, refused)


@pytest.mark.rfc("3264 8")
def test_version_follows_an_offer_that_was_refused():
    media = Media([AUDIO], "192.0.2.1")
    local = media.offer()
    media.is_held = True
    refused = successor(media.redirect(local), local, bytes(local))
    assert version(refused) == version(local) + 1
    again = successor(media.redirect(local), local, bytes(refused))
    assert bytes(again) == bytes(refused)  # the same description has the same version
    media.is_held = False
    other = sdp.modify(local, [peer_stream()])
    assert version(successor(other, local, bytes(refused))) == version(local) + 2
    assert successor(media.redirect(local), local, bytes(refused)) == local
