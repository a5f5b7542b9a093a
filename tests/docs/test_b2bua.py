"""The programs of the guide about bridges run and do what it says."""

from __future__ import annotations

from sippet_gevent import Credentials, sdp

from .blocks import OFFER, block


def phone(fates, *, status=0, seconds=0.0):
    """Return the core of a phone that rings, and then answers, or refuses with a status."""

    def core(request, tx):
        fates.append(request)
        tx.respond(180)
        if status:
            return status
        tx.wait(seconds)
        with tx.accept(body=OFFER) as call:
            call.wait()
        return None

    return core


def test_second_target_block_calls_the_desk_and_then_the_voicemail(sip):
    desk, voicemail = [], []
    sip.stack(phone(desk, seconds=60), host="192.0.2.20")
    sip.stack(phone(voicemail), host="192.0.2.21")
    made = block("second_target")
    asked = sip.ask(
        made.stack, "INVITE sip:bob@example.com", body=OFFER, content_type="application/sdp"
    )
    assert asked.statuses == [180]
    sip.advance(20)
    assert asked.statuses == [180, 180, 200]
    assert (len(desk), len(voicemail)) == (1, 1)
    asked.call.hangup()


def test_policy_block_rewrites_the_caller(sip):
    seen = []
    sip.stack(phone(seen), host="192.0.2.20")
    made = block("policy")
    asked = sip.ask(
        made.stack, "INVITE sip:bob@example.com", body=OFFER, content_type="application/sdp",
        from_="<sip:alice@example.com>", diversion="<sip:a@example.com>",
        p_asserted_identity="<sip:alice@example.com>",
    )  # fmt: skip
    assert asked.statuses == [180, 200]
    headers = seen[0].headers
    assert seen[0].from_.uri.user == "+15550100"
    assert headers["P-Asserted-Identity"] == "<sip:alice@example.com>"
    assert headers["X-Account"] == "alice"
    assert "Diversion" not in headers
    asked.call.hangup()


def test_transfers_block_follows_the_refer_of_a_user_that_a_carrier_has_called(sip):
    rung, audio = [], [sdp.MediaStream("audio", 4000, (sdp.PCMU,))]

    def phones(request, tx):
        rung.append(request.uri.user)
        with tx.accept(media=audio) as call:
            if request.uri.user == "alice":
                call.transfer(f"sip:bob@{host}")
            else:
                call.wait()

    made = block("transfers")
    host = sip.serve(made.stack).addresses[0].removeprefix("udp:")
    known = Credentials("alice", "secret", hosts=("127.0.0.1",))
    sip.stack(phones, host="192.0.2.30", credentials=known)
    carrier = sip.stack(host="192.0.2.20")
    call = sip.run(carrier.invite, f"sip:alice@{host}", media=audio)
    sip.advance(1)
    assert rung == ["alice", "bob"] and call.end is None
    call.hangup()
    sip.advance(40)


def test_third_party_block_connects_two_phones(sip):
    heard = []

    def answering(request, tx):
        with tx.accept(media=[sdp.MediaStream("audio", 4000, (sdp.PCMU,))]) as call:
            call.wait(5)
            heard.append(call.remote_sdp.media[0].port)

    for host in ("192.0.2.40", "192.0.2.41"):
        sip.stack(answering, host=host)
    made = block("third_party")
    sip.serve(made.stack)
    ends = sip.run(made.connect, "sip:alice@192.0.2.40", "sip:bob@192.0.2.41")
    sip.settle()
    assert ends.caller.by == "peer"
    assert heard[0] == 4000
