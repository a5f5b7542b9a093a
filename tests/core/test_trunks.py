"""Trunks: calls between the phones of an office and two scripted carriers."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import (
    Account,
    Authenticated,
    Cancelled,
    Credentials,
    InvalidValue,
    Location,
    RegistrarProxy,
    Reject,
    Request,
    Timers,
    Trunk,
    Trunks,
    TrustDomain,
)
from tests.core.auth.gate import Gate
from tests.core.b2bua.phones import body
from tests.core.registration.test_registration import Script
from tests.core.wire import Peer, sent

SDP = b"v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\ns=-\r\nc=IN IP4 10.0.0.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"

OFFICE = "10.0.0.50"


class Carrier:
    """A carrier that asks for the password, and answers INVITE with `status`."""

    def __init__(self, sip, host, status=200, **gate):
        self.invites, self.ends, self.status, self.silent = [], [], status, False
        self.script = Script()
        self.gate = Gate(self.serve, status=407, realm="carrier", **gate)
        self.stack = sip.stack(self.receive, host=host)

    def receive(self, request, tx):
        if self.silent:
            tx.wait(300)
            return None
        return self.gate(request, tx)

    def serve(self, request, tx):
        if request.method == "REGISTER":
            return self.script(request, tx)
        if request.method != "INVITE":
            return 200
        self.invites.append(request)
        if self.status != 200:
            return self.status
        with tx.accept(body=SDP) as call:
            call.ended.wait()
        self.ends.append(call.end)
        return None


@pytest.fixture
def office(sip):
    """Return an office with trunks, and a function that makes a phone: `phone("alice")`."""

    def start(*trunks, is_open=False):
        core = Trunks(RegistrarProxy(Location()), trunks, is_open=is_open)
        guarded = Authenticated(
            core, realm="office.example", users={"alice": "a", "bob": "b"},
            exempt=core.is_from_carrier,
        )  # fmt: skip
        stack = sip.stack(core if is_open else guarded, host=OFFICE, domains=("office.example",))
        for trunk in trunks:
            stack.accounts.add(trunk.account)
        sip.clock.advance(1)
        return stack

    return start


@pytest.fixture
def phone(sip):
    """Start a phone that registers: `phone("alice", "10.0.0.60", password="a")`."""

    def start(user, host, password, core=None, contact=None):
        stack = sip.stack(core, host=host)
        credentials = Credentials(user, password, hosts=(OFFICE, "office.example"))
        stack.secret = credentials
        stack.aor = f"<sip:{user}@office.example>"
        response = sip.run(
            stack.request, "REGISTER", "sip:office.example", next_hop=f"sip:{OFFICE}",
            to=stack.aor, from_=f"{stack.aor};tag=1", contact=f"<{contact or f'sip:{user}@{host}'}>",
            credentials=credentials,
        )  # fmt: skip
        assert response.status == 200
        return stack

    return start


def dial(sip, phone, number, seconds=2, **headers):
    """Call a number, while virtual time passes. Return the call, or raise the refusal."""
    headers = {"from_": phone.aor, **headers}
    calling = gevent.spawn(
        phone.invite, f"sip:{number}@office.example", next_hop=f"sip:{OFFICE}", body=SDP,
        credentials=phone.secret, **headers,
    )  # fmt: skip
    sip.clock.advance(seconds)
    return calling.get(timeout=0)


def trunk(host, user="100", **options):
    keep_up = options.pop("keep_up", None)
    account = Account(f"sip:{user}@{host}", Credentials(user, "secret"), keep_up=keep_up)
    return Trunk(account, **{"numbers": ("0",), **options})


@pytest.mark.rfc("3261 22.2")
def test_number_goes_to_the_trunk_as_a_call_of_its_account(sip, office, phone):
    carrier = Carrier(sip, "10.0.0.1")
    office(trunk("10.0.0.1", strip="0", prepend="+49", caller_ids={"alice": "+4912"}))
    alice = phone("alice", "10.0.0.60", "a")
    call = dial(sip, alice, "030-123")
    (invite,) = carrier.invites
    assert str(invite.uri) == "sip:+4930123@10.0.0.1"
    assert str(invite.from_.uri) == "sip:+4912@10.0.0.1"
    assert "alice" not in str(invite) and "office.example" not in str(invite)
    call.hangup()
    sip.clock.advance(1)
    assert len(carrier.ends) == 1


def test_refusal_that_next_on_names_tries_the_next_trunk(sip, office, phone):
    first, second = Carrier(sip, "10.0.0.1", 503), Carrier(sip, "10.0.0.2", user="200")
    office(trunk("10.0.0.1"), trunk("10.0.0.2", "200", prepend="9"))
    alice = phone("alice", "10.0.0.60", "a")
    dial(sip, alice, "0123").hangup()
    assert len(first.invites) == 1
    assert [invite.uri.user for invite in second.invites] == ["90123"]
    sip.clock.advance(1)


def test_refusal_of_the_callee_ends_the_call(sip, office, phone):
    first, second = Carrier(sip, "10.0.0.1", 486), Carrier(sip, "10.0.0.2", user="200")
    office(trunk("10.0.0.1"), trunk("10.0.0.2", "200"))
    alice = phone("alice", "10.0.0.60", "a")
    with pytest.raises(Reject) as refused:
        dial(sip, alice, "0123")
    assert refused.value.status == 486
    assert len(first.invites) == 1 and not second.invites


def test_last_refusal_is_that_of_the_last_trunk(sip, office, phone):
    Carrier(sip, "10.0.0.1", 503), Carrier(sip, "10.0.0.2", 500, user="200")
    office(trunk("10.0.0.1"), trunk("10.0.0.2", "200"))
    alice = phone("alice", "10.0.0.60", "a")
    with pytest.raises(Reject) as refused:
        dial(sip, alice, "0123")
    assert refused.value.status == 500


def test_dead_trunk_is_taken_out_by_its_probes(sip, office, phone):
    first, second = Carrier(sip, "10.0.0.1"), Carrier(sip, "10.0.0.2", user="200")
    stack = office(trunk("10.0.0.1", keep_up=10), trunk("10.0.0.2", "200", keep_up=10))
    alice = phone("alice", "10.0.0.60", "a")
    first.silent = True
    sip.clock.advance(120)
    dial(sip, alice, "0123").hangup()
    assert not first.invites and len(second.invites) == 1
    second.silent = True
    sip.clock.advance(120)
    with pytest.raises(Reject) as refused:
        dial(sip, alice, "0123")
    assert refused.value.status == 503
    first.silent = second.silent = False
    sip.clock.advance(120)
    dial(sip, alice, "0123").hangup()
    assert len(first.invites) == 1
    sip.clock.advance(1)
    stack.stop()
    sip.clock.advance(40)


def test_registered_user_comes_before_a_trunk(sip, office, phone):
    carrier = Carrier(sip, "10.0.0.1")
    office(trunk("10.0.0.1", numbers=("b",)))
    alice = phone("alice", "10.0.0.60", "a")
    phone("bob", "10.0.0.61", "b", core=lambda request, tx: 486)
    with pytest.raises(Reject) as refused:
        dial(sip, alice, "bob")
    assert refused.value.status == 486 and not carrier.invites


def test_number_of_no_trunk_gets_404(sip, office, phone):
    carrier = Carrier(sip, "10.0.0.1")
    office(trunk("10.0.0.1", numbers=(), pattern="0[1-9]+"))
    alice = phone("alice", "10.0.0.60", "a")
    for number in ("1", "00", "011x"):
        with pytest.raises(Reject) as refused:
            dial(sip, alice, number)
        assert refused.value.status == 404
    dial(sip, alice, "011").hangup()
    assert len(carrier.invites) == 1
    sip.clock.advance(1)


def test_caller_without_a_password_reaches_no_carrier(sip, office, phone):
    carrier = Carrier(sip, "10.0.0.1")
    stack = office(trunk("10.0.0.1"))
    stranger = sip.stack(host="10.0.0.66")
    invite = Request("INVITE", "sip:0123@office.example", body=SDP)
    assert sip.run(stranger.send, invite, f"sip:{OFFICE}").final().status == 407
    stack.core = stack.core.core  # without Authenticated
    invite = Request("INVITE", "sip:0123@office.example", body=SDP)
    assert sip.run(sip.run(stranger.send, invite, f"sip:{OFFICE}").final).status == 403
    assert not carrier.invites


@pytest.mark.rfc("3325 9.2")
@pytest.mark.rfc("3323 4.1.1.3")
def test_caller_that_wants_privacy_is_anonymous(sip, office, phone):
    carrier = Carrier(sip, "10.0.0.1")
    office(trunk("10.0.0.1", caller_id="+4930"))
    alice = phone("alice", "10.0.0.60", "a")
    dial(sip, alice, "0123", privacy="id").hangup()
    (invite,) = carrier.invites
    assert str(invite.from_.uri) == "sip:anonymous@anonymous.invalid"
    assert [str(each.uri) for each in invite.p_preferred_identity] == ["sip:+4930@10.0.0.1"]
    assert "id" in str(invite.privacy)
    sip.clock.advance(1)


@pytest.mark.rfc("3323 5")
@pytest.mark.rfc("3323 5.1")
@pytest.mark.rfc("3323 5.3")
@pytest.mark.parametrize(
    ("privacy", "expected"),
    [
        ("header;critical", ("id", "critical")),
        ("user;history;critical", ("id", "critical")),
        ("header;session", ("id", "session")),
        ("session;critical", "Privacy Failure: session"),
        ("none", ()),
    ],
)
def test_privacy_that_a_bridge_can_give_is_given(sip, office, phone, privacy, expected):
    """Also at the edge of a trust domain, which would refuse `header` if it had to be a proxy."""
    carrier = Carrier(sip, "10.0.0.1")
    stack = office(trunk("10.0.0.1", caller_id="+4930"))
    stack.core.core = TrustDomain(stack.core.core, is_trusted=stack.core.core.is_from_carrier)
    stack.core.stack = stack
    alice = phone("alice", "10.0.0.60", "a")
    headers = {"subject": "Alice", "history_info": "<sip:alice@office.example>;index=1"}
    if isinstance(expected, str):
        with pytest.raises(Reject) as refused:
            dial(sip, alice, "0123", privacy=privacy, **headers)
        assert (refused.value.status, refused.value.reason) == (500, expected)
        assert not carrier.invites
        return
    dial(sip, alice, "0123", privacy=privacy, **headers).hangup()
    (invite,) = carrier.invites
    assert (invite.privacy or ()) == (expected or ("none",))
    assert ("Subject" in invite.headers) is (privacy == "none")
    assert ("History-Info" in invite.headers) is ("history" not in privacy)
    assert "alice" not in str(invite.from_)
    assert len(invite.via) == 1 and "10.0.0.60" not in str(invite.headers)
    sip.clock.advance(1)


@pytest.mark.rfc("3323 5")
@pytest.mark.rfc("3323 5.3")
@pytest.mark.parametrize(
    "privacy", ["user;id;critical", "header;critical", "none", "session;critical"]
)
def test_call_of_a_carrier_keeps_the_privacy_of_its_caller(sip, office, phone, privacy):
    carrier, got = Carrier(sip, "10.0.0.1"), []
    office(trunk("10.0.0.1", incoming="alice"))

    def core(request, tx):
        got.append(request)
        return 486

    phone("alice", "10.0.0.60", "a", core)
    with pytest.raises(Reject) as refused:
        call_the_office(
            sip, carrier, p_asserted_identity="<sip:+4912@carrier.example>", privacy=privacy,
            from_="Carol <sip:+4912@carrier.example>", subject="Carol", organization="Carol Ltd",
        )  # fmt: skip
    if "session" in privacy:
        assert (refused.value.status, refused.value.reason) == (500, "Privacy Failure: session")
        assert not got
        return
    assert refused.value.status == 486
    (request,) = got
    is_hidden = "user" in privacy
    assert ("Carol" in bytes(request).decode()) is not is_hidden
    assert ("+4912" in bytes(request).decode()) is not is_hidden
    assert (request.from_.uri.host == "anonymous.invalid") is is_hidden
    assert ("P-Asserted-Identity" in request.headers) is (privacy == "none")


@pytest.mark.parametrize(
    ("uri", "to", "user"),
    [
        ("sip:100@10.0.0.50", "sip:+4912@10.0.0.1", "bob"),
        ("sip:+4912@10.0.0.50", "sip:100@10.0.0.1", "bob"),
        ("sip:100@10.0.0.50", "sip:+4999@10.0.0.1", "alice"),
    ],
)
def test_call_of_the_carrier_rings_the_user_of_its_number(sip, office, phone, uri, to, user):
    carrier = Carrier(sip, "10.0.0.1")
    office(trunk("10.0.0.1", incoming="alice", incoming_numbers={"+4912": "bob"}))
    rung = []

    def core(name):
        def answer(request, tx):
            rung.append(name)
            with tx.accept(body=SDP) as call:
                call.ended.wait()

        return answer

    phone("alice", "10.0.0.60", "a", core("alice"))
    phone("bob", "10.0.0.61", "b", core("bob"))
    calling = gevent.spawn(
        carrier.stack.invite, uri, to=f"<{to}>", next_hop=f"sip:{OFFICE}", body=SDP
    )
    sip.clock.advance(2)
    call = calling.get(timeout=0)
    assert rung == [user]
    sip.run(call.hangup)
    sip.clock.advance(1)


ANONYMOUS = '"Anonymous" <sip:anonymous@anonymous.invalid>'


@pytest.mark.rfc("5079 4")
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"from_": ANONYMOUS}, 433),
        ({"from_": ANONYMOUS, "p_asserted_identity": "<tel:+4912>", "privacy": "id"}, 433),
        ({"from_": ANONYMOUS, "p_asserted_identity": "<tel:+4912>"}, 486),
        ({"from_": ANONYMOUS, "privacy": "none"}, 486),
        ({"from_": "<sip:+4912@carrier.example>", "privacy": "id"}, 486),
    ],
)
def test_trunk_may_refuse_callers_that_hide_their_number(sip, office, phone, headers, status):
    carrier = Carrier(sip, "10.0.0.1")
    office(trunk("10.0.0.1", incoming="alice", anonymous=False))
    phone("alice", "10.0.0.60", "a", lambda request, tx: 486)
    with pytest.raises(Reject) as refused:
        call_the_office(sip, carrier, **headers)
    assert refused.value.status == status


def test_anonymous_call_of_a_carrier_needs_no_password(sip, office, phone):
    carrier, got = Carrier(sip, "10.0.0.1"), []
    office(trunk("10.0.0.1", incoming="alice"))
    phone("alice", "10.0.0.60", "a", lambda request, tx: got.append(request) or 486)
    with pytest.raises(Reject, match="486"):
        call_the_office(sip, carrier, from_=ANONYMOUS, privacy="id")
    assert str(got[0].from_.uri) == "sip:anonymous@anonymous.invalid"


@pytest.mark.rfc("5079 4")
def test_trust_domain_decides_about_anonymous_calls_by_the_user_that_was_called(sip, phone):
    carrier, asked = Carrier(sip, "10.0.0.1"), []
    line = trunk("10.0.0.1", incoming="alice", incoming_numbers={"+4913": "bob"})
    core = Trunks(RegistrarProxy(Location()), [line])

    def allows(uri):
        asked.append(str(uri))
        return uri.user == "bob"

    edge = TrustDomain(core, is_trusted=core.is_from_carrier, allow_anonymous=allows)
    guarded = Authenticated(
        edge, realm="office.example", users={"alice": "a", "bob": "b"}, exempt=core.is_from_carrier
    )
    stack = sip.stack(guarded, host=OFFICE, domains=("office.example",))
    stack.accounts.add(line.account)
    sip.clock.advance(1)
    phone("alice", "10.0.0.60", "a", lambda request, tx: 486)
    phone("bob", "10.0.0.61", "b", lambda request, tx: 486)
    for headers, status in (({}, 433), ({"to": "<sip:+4913@10.0.0.1>"}, 486)):
        with pytest.raises(Reject) as refused:
            call_the_office(sip, carrier, from_=ANONYMOUS, privacy="id", **headers)
        assert refused.value.status == status
    assert asked == ["sip:alice@office.example", "sip:bob@office.example"]


def test_carrier_without_a_user_for_the_number_gets_404_and_no_phone_480(sip, office):
    carrier = Carrier(sip, "10.0.0.1")
    office(trunk("10.0.0.1", incoming_numbers={"+4912": "bob"}))
    for user, status in (("100", 404), ("+4912", 480)):
        tx = carrier.stack.send(
            Request("INVITE", f"sip:{user}@{OFFICE}", body=SDP), f"sip:{OFFICE}"
        )
        assert sip.run(tx.final).status == status
    assert sip.run(carrier.stack.request, "OPTIONS", f"sip:100@{OFFICE}").status == 200


def test_carrier_may_not_register_or_call_out(sip, office):
    first, second = Carrier(sip, "10.0.0.1"), Carrier(sip, "10.0.0.2", user="200")
    office(trunk("10.0.0.1"), trunk("10.0.0.2", "200"))
    aor = "<sip:alice@office.example>"
    answer = sip.run(
        first.stack.request, "REGISTER", "sip:office.example", next_hop=f"sip:{OFFICE}", to=aor,
        from_=f"{aor};tag=1", contact="<sip:x@10.0.0.1>",
    )  # fmt: skip
    assert answer.status == 401
    tx = first.stack.send(Request("INVITE", "sip:0123@office.example", body=SDP), f"sip:{OFFICE}")
    assert sip.run(tx.final).status == 404
    assert not second.invites


def call_the_office(sip, carrier, **headers):
    """Call an office from its carrier. Return the call, or raise the refusal."""
    calling = gevent.spawn(
        carrier.stack.invite, f"sip:100@{OFFICE}", next_hop=f"sip:{OFFICE}", body=SDP, **headers
    )
    sip.clock.advance(2)
    return calling.get(timeout=0)


def ringing(log, name, seconds=None, status=200):
    """Return the core of a phone that answers after some seconds, or rings until the CANCEL."""

    def core(request, tx):
        log.append((name, "rings"))
        tx.respond(180)
        try:
            tx.wait(300 if seconds is None else seconds)
        except Cancelled as cancelled:
            log.append((name, str(cancelled.cancel.headers.get("Reason", "cancelled"))))
            raise
        if status != 200:
            return status
        with tx.accept(body=SDP) as call:
            log.append(call)
            call.ended.wait()
        return None

    return core


def test_all_phones_of_a_user_ring_for_the_carrier(sip, office, phone):
    carrier, log = Carrier(sip, "10.0.0.1"), []
    office(trunk("10.0.0.1", incoming="alice"))
    phone("alice", "10.0.0.60", "a", ringing(log, "desk"))
    phone("alice", "10.0.0.61", "a", ringing(log, "mobile", 1))
    call = call_the_office(sip, carrier)
    assert sorted(log[:2]) == [("desk", "rings"), ("mobile", "rings")]
    assert ("desk", 'SIP;cause=200;text="Call completed elsewhere"') in log
    (answered,) = [each for each in log if not isinstance(each, tuple)]
    sip.run(call.hangup)
    sip.clock.advance(1)
    assert answered.end.cause == "bye"


def test_carrier_that_gives_up_stops_all_phones(sip, office, phone):
    carrier, log = Carrier(sip, "10.0.0.1"), []
    office(trunk("10.0.0.1", incoming="alice"))
    phone("alice", "10.0.0.60", "a", ringing(log, "desk"))
    phone("alice", "10.0.0.61", "a", ringing(log, "mobile"))
    tx = carrier.stack.send(Request("INVITE", f"sip:100@{OFFICE}", body=SDP), f"sip:{OFFICE}")
    sip.clock.advance(2)
    tx.cancel()
    assert sip.run(tx.final).status == 487
    sip.clock.advance(1)
    assert sorted(log[2:]) == [("desk", "cancelled"), ("mobile", "cancelled")]


def test_carrier_gets_the_best_refusal_of_all_phones(sip, office, phone):
    carrier, log = Carrier(sip, "10.0.0.1"), []
    office(trunk("10.0.0.1", incoming="alice"))
    phone("alice", "10.0.0.60", "a", ringing(log, "desk", 1, 503))
    phone("alice", "10.0.0.61", "a", ringing(log, "mobile", 0.5, 486))
    with pytest.raises(Reject) as refused:
        call_the_office(sip, carrier)
    assert refused.value.status == 486


@pytest.mark.rfc("3325 7")
def test_phone_learns_the_asserted_caller_unless_it_is_hidden(sip, office, phone):
    carrier, got = Carrier(sip, "10.0.0.1"), []
    office(trunk("10.0.0.1", incoming="alice"))

    def core(request, tx):
        got.append([str(each.uri) for each in request.p_asserted_identity])
        return 486

    phone("alice", "10.0.0.60", "a", core)
    for hidden in ({}, {"privacy": "id"}):
        with pytest.raises(Reject):
            call_the_office(
                sip, carrier, p_asserted_identity="<sip:+4912@carrier.example>", **hidden
            )
    assert got == [["sip:+4912@carrier.example"], []]


@pytest.mark.rfc("3261 22.2")
@pytest.mark.parametrize("method", ["INVITE", "BYE"])
def test_phone_in_a_call_of_the_carrier_may_be_challenged(sip, office, phone, method):
    log, carrier = [], Peer(sip, "10.0.0.1")
    account = Account("sip:100@10.0.0.1", Credentials("100", "secret"), register=False)
    office(Trunk(account, incoming="alice"))
    phone("alice", "10.0.0.60", "a", ringing(log, "desk", 0.5))
    invite = carrier.request("INVITE", f"sip:100@{OFFICE}", **body(SDP))
    carrier.send(invite, to=OFFICE)
    sip.clock.advance(1)
    answer = carrier.responses[-1]
    assert answer.status == 200
    carrier.send(carrier.within(invite, answer, "ACK", number=1), to=OFFICE)
    sip.clock.advance(1)
    call = log[-1]
    changed = (
        {}
        if method == "BYE"
        else {"body": SDP.replace(b"1 1 IN", b"1 2 IN").replace(b"4000", b"4002")}
    )
    asking = gevent.spawn(call.hangup if method == "BYE" else call.reinvite, **changed)
    sip.clock.advance(0.1)
    first = carrier.last(method)
    challenge = 'Digest realm="carrier", nonce="n1", algorithm=MD5, qop="auth"'
    carrier.reply(first, 407, proxy_authenticate=challenge)
    sip.clock.advance(0.1)
    second = carrier.last(method)
    assert second.cseq.number == first.cseq.number + 1
    assert 'username="100"' in second.headers["Proxy-Authorization"]
    if method == "INVITE":
        carrier.reply(second, 200, **body(SDP), contact=f"<{carrier.uri}>")
        sip.clock.advance(0.1)
        assert asking.get(timeout=0).status == 200
        carrier.send(carrier.within(invite, answer, "BYE", number=2), to=OFFICE)
    else:
        carrier.reply(second, 200)
    sip.clock.advance(1)
    assert call.ended.is_set()


def test_trunk_that_rings_too_long_makes_way_for_the_next_one(sip, office, phone):
    log = []
    first, second = Carrier(sip, "10.0.0.1"), Carrier(sip, "10.0.0.2", user="200")
    serve = first.serve
    rings = ringing(log, "first")
    first.gate.core = lambda request, tx: (
        rings(request, tx) if request.method == "INVITE" else serve(request, tx)
    )
    office(trunk("10.0.0.1", ring=20), trunk("10.0.0.2", "200"))
    alice = phone("alice", "10.0.0.60", "a")
    call = dial(sip, alice, "0123", seconds=22)
    assert log[0] == ("first", "rings") and log[1][0] == "first"
    assert len(second.invites) == 1
    call.hangup()
    sip.clock.advance(1)


def test_timers_of_a_trunk_skip_a_silent_carrier(sip, office, phone):
    first, second = Carrier(sip, "10.0.0.1"), Carrier(sip, "10.0.0.2", user="200")
    office(trunk("10.0.0.1", timers=Timers(b=4)), trunk("10.0.0.2", "200"))
    alice = phone("alice", "10.0.0.60", "a")
    sip.network.partition("10.0.0.1", OFFICE)
    call = dial(sip, alice, "0123", seconds=6)
    assert len(second.invites) == 1 and not first.invites
    call.hangup()
    sip.clock.advance(1)


def test_trunk_checks_its_arguments():
    account = Account("sip:100@10.0.0.1", register=False)
    with pytest.raises(InvalidValue, match=r"pattern must be a regular expression, got '\('"):
        Trunk(account, pattern="(")
    with pytest.raises(TypeError, match="numbers must be a tuple"):
        Trunk(account, numbers="0")
    with pytest.raises(InvalidValue, match="ring must be"):
        Trunk(account, ring=0)
    with pytest.raises(TypeError, match="timers"):
        Trunk(account, timers=4)
    with pytest.raises(TypeError, match="account"):
        Trunk("sip:100@10.0.0.1")
    with pytest.raises(TypeError, match="RegistrarProxy"):
        Trunks(lambda request, tx: 200)


# ---- a Contact that leads to the office itself


@pytest.fixture
def diverted(sip, phone):
    """Return an office, whose alice is at bob's address. Its carrier calls alice: `diverted(core)`."""

    def start(core, contact=f"sip:bob@{OFFICE}", contacts=1, **options):
        carrier = Carrier(sip, "10.0.0.1")
        line = trunk("10.0.0.1", incoming="alice", **options)
        trunks = Trunks(RegistrarProxy(Location()), [line])
        edge = TrustDomain(trunks, is_trusted=trunks.is_from_carrier)
        guarded = Authenticated(
            edge, realm="office.example", users={"alice": "a", "bob": "b"},
            exempt=trunks.is_from_carrier,
        )  # fmt: skip
        stack = sip.stack(guarded, host=OFFICE, domains=("office.example",))
        stack.accounts.add(line.account)
        sip.clock.advance(1)
        for number in range(contacts):
            phone("alice", f"10.0.0.{70 + number}", "a", contact=contact.format(number))
        phone("bob", "10.0.0.61", "b", core)
        return carrier

    return start


@pytest.mark.rfc("3261 22.3")
@pytest.mark.parametrize("who", ["carrier", "phone"])
def test_carrier_reaches_a_user_that_another_one_has_as_its_contact(sip, diverted, who):
    seen, calls = [], []

    def core(request, tx):
        seen.append(request)
        with tx.accept(body=SDP) as call:
            calls.append(call)
            call.ended.wait()

    carrier = diverted(core)
    asserted = "<sip:+4930@carrier.example>"
    call = call_the_office(sip, carrier, p_asserted_identity=asserted)
    assert [request.headers.all("P-Asserted-Identity") for request in seen] == [[asserted]]
    for side in (call, calls[0]):
        changing = gevent.spawn(side.reinvite, body=SDP.replace(b"1 1 IN", b"1 2 IN"))
        sip.clock.advance(2)
        assert changing.get(timeout=0).status == 200
    sip.run((call if who == "carrier" else calls[0]).hangup)
    sip.clock.advance(1)
    assert [each.end.cause for each in (call, calls[0])] == ["bye", "bye"]


def test_caller_of_a_carrier_cancels_a_call_that_is_diverted(sip, diverted):
    ended = []

    def core(request, tx):
        tx.respond(180)
        try:
            tx.wait(60)
        except Cancelled:
            ended.append(tx)
            raise

    carrier = diverted(core)
    invite = Request("INVITE", f"sip:100@{OFFICE}", body=SDP)
    out = carrier.stack.send(invite, f"sip:{OFFICE}")
    sip.clock.advance(1)
    out.cancel()
    assert sip.run(out.final).status == 487
    assert len(ended) == 1


@pytest.mark.rfc("3261 16.3")
@pytest.mark.parametrize(
    ("contact", "status"), [(f"sip:alice@{OFFICE}", 482), (f"sip:0123@{OFFICE}", 403)]
)
def test_carrier_reaches_neither_a_loop_nor_another_carrier(sip, diverted, contact, status):
    carrier = diverted(None, contact)
    with pytest.raises(Reject) as refused:
        call_the_office(sip, carrier)
    assert refused.value.status == status
    assert carrier.invites == []


@pytest.mark.rfc("5393 5.3.3")
@pytest.mark.parametrize("contacts", [2, 4, 7, 10])
def test_contacts_that_lead_back_do_not_multiply_the_call_of_a_carrier(sip, diverted, contacts):
    carrier = diverted(None, f"sip:alice@{OFFICE};x={{}}", contacts)
    with pytest.raises(Reject) as refused:
        call_the_office(sip, carrier)
    assert refused.value.status in (440, 482)
    assert sent(sip, OFFICE, OFFICE).count("INVITE") <= 60


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"incoming": "sip:anna@host"}, "incoming must be a user or a number, got .*: write anna"),
        ({"incoming_numbers": {"tel:+4930": "bob"}}, "incoming_numbers must .*: write .4930"),
        ({"caller_id": "+49 30"}, "caller_id must be a user or a number, got .*: write .4930"),
        ({"caller_ids": {"bob": "bob@host"}}, "caller_ids must be a user or .*: write bob"),
    ],
)
def test_trunk_refuses_a_uri_in_place_of_a_user(arguments, problem):
    with pytest.raises(InvalidValue, match=problem):
        Trunk(Account("sip:100@carrier.example"), **arguments)


def test_trunk_takes_a_user_with_white_space():
    assert Trunk(Account("sip:100@carrier.example"), incoming="anna smith").incoming
