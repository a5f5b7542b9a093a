"""Kamailio as the carrier of an Account: passwords for REGISTER and calls, and a restart with other nonces."""

from __future__ import annotations

import pytest

from sippet_gevent import Account, Credentials, Reject, Stack, Unauthorized, sdp
from tests.conditions import PATIENCE, until
from tests.docs.blocks import ROOT
from tests.interop.carrier import KAMAILIO, Carrier

pytest_plugins = ["tests.programs"]

AUDIO = sdp.MediaStream("audio", 40000, (sdp.PCMU,))


@pytest.fixture
def far():
    """The other side of the carrier: answers all calls."""
    calls = []

    def core(request, tx):
        if request.method != "INVITE":
            return 200
        with tx.accept(media=[AUDIO]) as call:
            calls.append(call)
            call.ended.wait(PATIENCE)
        return None

    with Stack("udp:127.0.0.1:0", core=core) as stack:
        stack.seen = calls
        yield stack


@pytest.fixture
def carrier(need, run, tmp_path, far):
    need(KAMAILIO)
    return Carrier(run, tmp_path, far.addresses[0].rpartition(":")[2])


def trunk_account(carrier, password="trunk-secret", **options):
    return Account(
        "sip:100@carrier.example",
        Credentials("100", password),
        outbound_proxy=carrier.uri,
        **options,
    )


@pytest.fixture
def office(carrier):
    """A stack with a trunk; its core answers calls of the carrier."""
    account = trunk_account(carrier, keep_up=0.5)
    calls = []

    def core(request, tx):
        if request.method != "INVITE" or not account.owns(request):
            return 403
        with tx.accept(media=[AUDIO]) as call:
            calls.append(call)
            call.ended.wait(PATIENCE)
        return None

    with Stack("udp:127.0.0.1:0", core=core) as stack:
        stack.accounts.add(account)
        stack.account, stack.answered = account, calls
        assert account.wait(PATIENCE), account.error
        yield stack


def called(far, carrier):
    """Call the account from the other side of the carrier."""
    return far.invite(
        "sip:100@carrier.example", next_hop=carrier.uri, media=[AUDIO], timeout=PATIENCE
    )


def until_registered_again(account, before):
    """Wait for a registration that ends later than the one before; an account whose carrier has forgotten it is
    up until its REGISTER tells."""
    until(lambda: account.is_up and account.registration.expires_at > before)


@pytest.mark.rfc("3261 22.3")
def test_account_registers_calls_and_is_called(carrier, far, office):
    account = office.account
    assert "authenticated REGISTER 100" in carrier.log
    with account.invite(account.uri("+4930123"), media=[AUDIO], timeout=PATIENCE) as call:
        call.hold()
        call.resume()
        assert far.seen[0].dialog
    until(lambda: far.seen[0].ended.is_set())
    with called(far, carrier):
        until(lambda: office.answered)
        mine = office.answered[0]
        mine.hold()
        mine.hangup()
    until(lambda: mine.ended.is_set())
    until(lambda: len(carrier.authenticated("BYE")) == 2)
    # a call, its hold and resume, and the hold of the call to us
    assert len(carrier.authenticated("INVITE")) == 4
    assert office.stats()["core_errors"] == 0


@pytest.mark.rfc("3261 22.2")
def test_restart_with_other_nonces_fails_no_call(carrier, far, office):
    account = office.account
    through = account.invite(account.uri("+4930123"), media=[AUDIO], timeout=PATIENCE)
    with called(far, carrier):
        until(lambda: office.answered)
        theirs = office.answered[0]
        registered_until = account.registration.expires_at
        carrier.restart(seconds=2.0)
        # calls that the restart has met are changed and ended with new nonces
        through.hold()
        theirs.hold()
        through.hangup()
        theirs.hangup()
        until(lambda: through.ended.is_set() and theirs.ended.is_set())
    assert {through.end.by, theirs.end.by} == {"us"}
    until_registered_again(account, registered_until)
    for number in range(5):
        with account.invite(account.uri(f"+4930{number}"), media=[AUDIO], timeout=PATIENCE) as call:
            call.hold()
        with called(far, carrier):
            until(lambda n=number: len(office.answered) == n + 2)
        if number == 2:
            registered_until = account.registration.expires_at
            carrier.restart()
            account.refresh()  # the new Kamailio knows nobody
            until_registered_again(account, registered_until)
    assert office.stats()["core_errors"] == far.stats()["core_errors"] == 0
    assert account.is_up and account.error is None


def test_wrong_password_is_a_clear_error(carrier, far):
    account = trunk_account(carrier, "wrong")
    with Stack("udp:127.0.0.1:0") as stack:
        stack.accounts.add(account)
        assert not account.wait(PATIENCE) and account.refused
        assert "100 was refused by realm carrier.example" in str(account.error)
        with pytest.raises(Unauthorized, match="refused by realm"):
            account.invite(account.uri("200"), media=[AUDIO], timeout=PATIENCE)
    assert not far.seen


def test_trunk_example_calls_and_is_called(carrier, far, serve, tmp_path):
    reception = []

    def answer(request, tx):
        with tx.accept(media=[AUDIO]) as call:
            reception.append(call)
            call.ended.wait(PATIENCE)

    with Stack("udp:127.0.0.1:0", core=answer) as phone:
        text = (ROOT / "examples" / "trunk.py").read_text("utf-8")
        text = text.replace("5070", str(carrier.port)).replace("keep_up=30", "keep_up=0.5")
        text = text.replace("127.0.0.1:5080", phone.addresses[0].removeprefix("udp:"))
        path = tmp_path / "trunk.py"
        path.write_text(text, "utf-8")
        server = serve(f"{path}:stack", TRUNK_PASSWORD="trunk-secret", PHONE_PASSWORD="phone")
        server.wait_for("account up")
        with phone.invite(
            f"sip:+4930123@{server.uri.removeprefix('sip:')}",
            from_="sip:200@office",
            credentials=Credentials("200", "phone"),
            media=[AUDIO],
            timeout=PATIENCE,
        ) as call:
            call.hold()
            assert far.seen[0].invite.from_.uri.user == "100"
            assert "authenticated INVITE" in carrier.log
        with called(far, carrier) as call:
            until(lambda: reception)
            call.hold()
        until(lambda: reception[0].ended.is_set())
        with pytest.raises(Reject) as refused:  # a stranger cannot call abroad
            phone.invite(f"sip:+4930@{server.uri.removeprefix('sip:')}", media=[AUDIO])
        assert refused.value.status in (401, 407)
    assert "core raised" not in server.text
