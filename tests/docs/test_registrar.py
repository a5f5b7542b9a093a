"""The code of docs/howto/registrar.md, with a phone that comes back at another address and then dies."""

from __future__ import annotations

import pytest

from sippet_gevent import Credentials, Reject, StaticResolver, sdp

from .blocks import block

AUDIO = sdp.MediaStream("audio", 4000, (sdp.PCMU, sdp.PCMA))


def test_registrar_block_replaces_and_probes_phones(sip, capsys):
    stack = sip.serve(block("registrar").stack)
    host = stack.addresses[0][4:].partition(":")[0]
    uuid = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
    for number in (7, 8):
        phone = sip.stack(host=f"10.0.0.{number}")
        answer = sip.run(
            phone.request, "REGISTER", f"sip:{host}", to=f"sip:alice@{host}",
            contact=f'<sip:alice@10.0.0.{number}>;+sip.instance="<{uuid}>"', supported="gruu",
        )  # fmt: skip
        assert len(answer.contact) == 1
        assert answer.contact[0].pub_gruu == f"sip:alice@{host};gr={uuid}"
        assert [str(route.uri) for route in answer.service_route] == ["sip:example.com;lr"]
    phone.stop()
    sip.advance(200)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["added", "added", "removed", "removed"]


@pytest.fixture
def office(sip):
    """The block `own_calls`, with phones of Alice and Bob."""
    made = block("own_calls")
    sip.serve(made.stack)
    return made


def phone_of(sip, office, user, core):
    """A phone that has registered at the office."""
    resolver = StaticResolver({"example.com": [office.stack.addresses[0][4:].partition(":")[0]]})
    mine = Credentials(user, office.USERS[user], hosts=("example.com",))
    phone = sip.stack(core, resolver=resolver, credentials=mine)
    answer = sip.run(
        phone.request, "REGISTER", "sip:example.com", to=f"sip:{user}@example.com",
        contact=f"<sip:{user}@{phone.addresses[0].removeprefix('udp:')}>",
    )  # fmt: skip
    assert answer.status == 200
    return phone


def answering(request, tx):
    if request.method != "INVITE":
        return 200
    with tx.accept(media=[AUDIO]) as call:
        call.wait()
    return None


def ringing(request, tx):
    tx.respond(180)
    tx.wait(100)
    return 480


def dial(sip, phone, user, name):
    return sip.run(
        phone.invite, f"sip:{user}@example.com", media=[AUDIO], from_=f"sip:{name}@example.com"
    )


def test_own_calls_block_connects_two_users_and_leaves_messages_to_the_proxy(sip, office):
    alice = phone_of(sip, office, "alice", answering)
    phone_of(sip, office, "bob", answering)
    call = dial(sip, alice, "bob", "alice")
    answer = sip.run(
        alice.request, "MESSAGE", "sip:bob@example.com", body="hello",
        content_type="text/plain", from_="sip:alice@example.com",
    )  # fmt: skip
    assert answer.status == 200
    assert office.calls == {"alice": 1, "bob": 1}
    sip.run(call.hangup)
    sip.settle()
    assert not any(office.calls.values())


def test_own_calls_block_refuses_the_third_call_of_a_user(sip, office):
    alice = phone_of(sip, office, "alice", answering)
    phone_of(sip, office, "bob", answering)
    calls = [dial(sip, alice, "bob", "alice") for _ in range(2)]
    with pytest.raises(Reject) as refused:
        dial(sip, alice, "bob", "alice")
    assert refused.value.status == 486
    for call in calls:
        sip.run(call.hangup)


def test_own_calls_block_takes_the_call_of_a_group_that_does_not_answer(sip, office):
    alice = phone_of(sip, office, "alice", answering)
    phone_of(sip, office, "bob", ringing)
    begun = sip.clock.now()
    call = dial(sip, alice, "600", "alice")
    assert 10 <= sip.clock.now() - begun < 11
    assert call.remote_sdp.media[0].direction == "inactive"
    sip.run(call.hangup)
    sip.settle()
    assert not any(office.calls.values())
