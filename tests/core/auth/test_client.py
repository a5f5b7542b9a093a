"""The client's side: which challenges are answered, with what, how often, and for whom."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import Reject, Request, StaticResolver, TransactionTimeout, forward
from sippet_gevent.core.auth.credentials import Credentials
from sippet_gevent.core.auth.digest import ha1
from sippet_gevent.errors import InvalidValue, Unauthorized

from .gate import Gate

PBX = "pbx.example.com"
URI = f"sip:bob@{PBX}"
NAMES = {
    PBX: ["10.0.0.1"],
    "proxy.example.com": ["10.0.0.2"],
    "evil.example.net": ["10.0.0.3"],
}


@pytest.fixture
def credentials():
    return Credentials("100", "secret", hosts=(PBX,))


def client_of(sip, **options):
    return sip.stack(host="10.0.0.50", resolver=StaticResolver(NAMES), **options)


def serve(sip, core, host="10.0.0.1", **options):
    return sip.stack(core, host=host, resolver=StaticResolver(NAMES), **options)


def methods(gate):
    return [request.method for request in gate.requests]


# ---- answers


@pytest.mark.rfc("3261 22.2")
@pytest.mark.rfc("3261 8.1.3.5")
@pytest.mark.parametrize("status", [401, 407])
def test_challenge_is_answered(sip, credentials, status):
    gate = Gate(status=status)
    serve(sip, gate)
    client = client_of(sip)
    assert sip.run(client.request, "OPTIONS", URI, credentials=credentials).status == 200
    first, second = gate.requests
    assert second.cseq.number == first.cseq.number + 1
    assert second.call_id == first.call_id
    assert second.from_ == first.from_
    assert second.via[0].branch != first.via[0].branch
    assert gate.claims[-1].algorithm == "SHA-256"
    assert client.stats()["requests_repeated"] == {str(status): 1}


@pytest.mark.rfc("8760 2.4")
@pytest.mark.parametrize("algorithms", [("MD5", "SHA-256"), ("other", "SHA-256"), ("SHA-256",)])
def test_strongest_known_algorithm_is_answered(sip, credentials, algorithms):
    gate = Gate(algorithms=algorithms)
    serve(sip, gate)
    client = client_of(sip)
    assert sip.run(client.request, "OPTIONS", URI, credentials=credentials).status == 200
    assert gate.claims[-1].algorithm == "SHA-256"


@pytest.mark.parametrize(
    "given",
    [
        {"ha1": ha1("100", PBX, "secret", "MD5")},
        {"ha1": {"MD5": ha1("100", PBX, "secret", "MD5")}},
        {"ha1": ha1("100", PBX, "secret", "SHA-256")},
    ],
)
def test_ha1_takes_the_place_of_the_password(sip, given):
    gate = Gate()
    serve(sip, gate)
    client = client_of(sip)
    credentials = Credentials("100", realm=PBX, **given)
    assert sip.run(client.request, "OPTIONS", URI, credentials=credentials).status == 200
    assert len(gate.claims[-1].response) == (32 if gate.claims[-1].algorithm == "MD5" else 64)


@pytest.mark.rfc("8760 2.6")
def test_body_is_covered_if_the_server_wants_it(sip, credentials):
    gate = Gate(qop='"auth-int"', algorithms=("SHA-256-sess",))
    serve(sip, gate)
    client = client_of(sip)
    answer = sip.run(
        client.request,
        "MESSAGE",
        URI,
        credentials=credentials,
        body="hello",
        content_type="text/plain",
    )
    assert answer.status == 200


@pytest.mark.rfc("2617 3.2.2.1")
def test_old_server_without_qop_is_answered(sip, credentials):
    gate = Gate(qop="", algorithms=("MD5",))
    serve(sip, gate)
    client = client_of(sip)
    assert sip.run(client.request, "OPTIONS", URI, credentials=credentials).status == 200
    assert gate.claims[-1].qop is None
    assert gate.claims[-1].cnonce == ""


@pytest.mark.rfc("3261 22.2")
def test_stack_with_credentials_answers_for_all_its_requests(sip, credentials):
    gate = Gate()
    serve(sip, gate)
    client = client_of(sip, credentials=[Credentials("7", "x", hosts=("a.example",)), credentials])
    asked = client.send(Request("OPTIONS", URI))
    assert sip.run(asked.final).status == 200
    assert sip.run(client.request, "MESSAGE", URI).status == 200


@pytest.mark.rfc("3261 22.2")
def test_later_request_has_credentials_at_once(sip, credentials):
    gate = Gate()
    serve(sip, gate)
    client = client_of(sip, credentials=credentials)
    for _ in range(3):
        assert sip.run(client.request, "OPTIONS", URI).status == 200
    assert len(gate.requests) == 4
    assert [claim.number for claim in gate.claims] == [1, 2, 3]
    assert len({claim.nonce for claim in gate.claims}) == 1


def test_nonce_is_remembered_by_credentials_that_are_given_again(sip, credentials):
    gate = Gate()
    serve(sip, gate)
    client = client_of(sip)
    for _ in range(2):
        assert sip.run(client.request, "OPTIONS", URI, credentials=credentials).status == 200
    assert len(gate.requests) == 3


@pytest.mark.rfc("7616 3.3")
def test_stale_nonce_is_replaced_without_an_error(sip, credentials):
    gate = Gate(uses=1)
    serve(sip, gate)
    client = client_of(sip, credentials=credentials)
    for _ in range(3):
        assert sip.run(client.request, "OPTIONS", URI).status == 200
    assert len(gate.requests) == 6


def test_server_that_has_lost_its_nonces_is_answered(sip, credentials):
    gate = Gate(stale=False)
    serve(sip, gate)
    client = client_of(sip, credentials=credentials)
    assert sip.run(client.request, "OPTIONS", URI).status == 200
    gate.restart()
    assert sip.run(client.request, "OPTIONS", URI).status == 200
    assert len(gate.requests) == 4


@pytest.mark.rfc("7616 3.5")
def test_nextnonce_is_used(sip, credentials):
    def core(request, tx):
        gate.nonces["following"] = set()
        return request.response(200, authentication_info='nextnonce="following"')

    gate = Gate(core)
    serve(sip, gate)
    client = client_of(sip, credentials=credentials)
    for _ in range(2):
        assert sip.run(client.request, "OPTIONS", URI).status == 200
    assert (gate.claims[-1].nonce, gate.claims[-1].number) == ("following", 1)
    assert len(gate.requests) == 3


@pytest.mark.rfc("7616 3.5")
def test_wrong_rspauth_is_logged_and_its_nonce_forgotten(sip, credentials, caplog):
    def core(request, tx):
        return request.response(200, authentication_info='rspauth="00", nextnonce="bad"')

    gate = Gate(core)
    serve(sip, gate)
    client = client_of(sip, credentials=credentials)
    assert sip.run(client.request, "OPTIONS", URI).status == 200
    assert 'reason="rspauth of Authentication-Info is wrong"' in caplog.text
    assert sip.run(client.request, "OPTIONS", URI).status == 200
    assert len(gate.requests) == 4


# ---- refusals


@pytest.mark.rfc("3261 22.1")
def test_wrong_password_is_tried_once_and_told(sip, caplog):
    gate = Gate()
    serve(sip, gate)
    client = client_of(sip)
    wrong = Credentials("100", "guessed", hosts=(PBX,))
    assert sip.run(client.request, "OPTIONS", URI, credentials=wrong).status == 401
    assert len(gate.requests) == 2
    assert "user 100 was refused by realm pbx.example.com" in caplog.text
    assert "guessed" not in caplog.text
    with pytest.raises(Unauthorized, match="401 Unauthorized: user 100 was refused") as refused:
        sip.run(client.invite, URI, credentials=wrong)
    assert refused.value.response.www_authenticate
    assert isinstance(refused.value, Reject)


@pytest.mark.rfc("3261 22.1")
@pytest.mark.parametrize("stale", [True, False])
def test_server_that_always_challenges_gets_two_answers_at_most(sip, credentials, stale, caplog):
    gate = Gate(uses=0, stale=stale)
    serve(sip, gate)
    client = client_of(sip)
    with pytest.raises(Unauthorized, match="stale twice|was refused"):
        sip.run(client.invite, URI, credentials=credentials)
    assert methods(gate).count("INVITE") == (3 if stale else 2)


def test_realms_that_change_for_ever_get_two_answers(sip, credentials):
    seen = []

    def core(request, tx):
        seen.append(request)
        realm = f"realm{len(seen)}"
        tx.respond(401, www_authenticate=f'Digest realm="{realm}", nonce="n", qop="auth"')

    serve(sip, core)
    client = client_of(sip)
    with pytest.raises(Unauthorized, match="challenged again after 2 answers"):
        sip.run(client.invite, URI, credentials=credentials)
    assert len([request for request in seen if request.method == "INVITE"]) == 3


@pytest.mark.rfc("8760 2.4")
@pytest.mark.parametrize(
    ("challenge", "problem"),
    [
        ('Digest realm="r", nonce="n", algorithm=unheard', "no credentials for realm r"),
        ('Basic realm="r"', "no challenge of an algorithm that is known, for realm r"),
        ('Digest realm="r", nonce="n", nc="', "challenge cannot be read"),
    ],
)
def test_challenge_that_cannot_be_answered_is_the_answer(
    sip, credentials, challenge, problem, caplog
):
    def core(request, tx):
        response = request.response(401)
        response.headers.add("WWW-Authenticate", challenge)
        return response

    serve(sip, core)
    client = client_of(sip)
    assert sip.run(client.request, "OPTIONS", URI, credentials=credentials).status == 401
    assert problem in caplog.text


def test_request_without_credentials_gets_the_challenge(sip):
    gate = Gate()
    serve(sip, gate)
    client = client_of(sip)
    assert sip.run(client.request, "OPTIONS", URI).status == 401
    assert len(gate.requests) == 1


# ---- who may ask


def test_realm_of_credentials_limits_them(sip):
    gate = Gate(realm="other.example")
    serve(sip, gate)
    client = client_of(sip)
    limited = Credentials("100", "secret", realm=PBX)
    assert sip.run(client.request, "OPTIONS", URI, credentials=limited).status == 401
    assert len(gate.requests) == 1


def test_credentials_are_answered_to_their_hosts_alone(sip, credentials, caplog):
    evil = Gate()
    serve(sip, evil, "10.0.0.3")
    client = client_of(sip, credentials=credentials)
    assert sip.run(client.request, "OPTIONS", "sip:bob@evil.example.net").status == 401
    assert evil.claims == []
    assert "credentials are not for 10.0.0.3, evil.example.net" in caplog.text


@pytest.mark.parametrize("hosts", [("10.0.0.3",), ("10.0.0.0/24",), ("EVIL.example.net.",)])
def test_hosts_may_be_addresses_and_networks(sip, hosts):
    gate = Gate(status=407)
    serve(sip, gate, "10.0.0.3")
    client = client_of(sip, credentials=Credentials("100", "secret", hosts=hosts))
    assert sip.run(client.request, "OPTIONS", "sip:bob@evil.example.net").status == 200


@pytest.mark.rfc("3261 8.1.3.4")
@pytest.mark.parametrize("status", [401, 407])
def test_redirect_does_not_take_credentials_elsewhere(sip, status):
    evil = Gate(status=status)
    serve(sip, evil, "10.0.0.3")
    gate = Gate(lambda request, tx: request.response(302, contact="sip:bob@evil.example.net"))
    serve(sip, gate)
    client = client_of(sip)
    for mine in (
        Credentials("100", "secret"),
        Credentials("100", "secret", realm=PBX),
        Credentials("100", "secret", hosts=(PBX,)),
    ):
        answer = sip.run(client.request, "OPTIONS", URI, credentials=mine, follow_redirects=True)
        assert answer.status == status
    assert len(evil.requests) == 3
    assert not any(request.authorization for request in evil.requests)


def test_call_that_was_redirected_does_not_give_credentials_away(sip):
    evil = Gate(answer_call, methods=("MESSAGE",))
    serve(sip, evil, "10.0.0.3")
    serve(sip, lambda request, tx: request.response(302, contact="sip:bob@evil.example.net"))
    client = client_of(sip, credentials=Credentials("100", "secret", hosts=(PBX,)))
    call = sip.run(client.invite, URI, follow_redirects=True)
    assert sip.run(call.request, "MESSAGE").status == 401
    assert evil.claims == []
    call.hangup()


def test_server_behind_a_proxy_is_answered_for_a_named_realm_only(sip):
    stranger = Gate(realm="evil.example.net")
    serve(sip, stranger, "10.0.0.3")
    serve(sip, lambda request, tx: forward(request, tx), "10.0.0.2")
    client = client_of(sip)
    hop = "sip:proxy.example.com;lr"
    for mine, answered in (
        (Credentials("100", "secret", hosts=("proxy.example.com",)), 401),
        (Credentials("100", "secret", hosts=("proxy.example.com",), realm=PBX), 401),
        (Credentials("100", "secret", hosts=("proxy.example.com",), realm="evil.example.net"), 200),
    ):
        answer = sip.run(
            client.request, "OPTIONS", "sip:bob@evil.example.net", credentials=mine, next_hop=hop
        )
        assert answer.status == answered


# ---- calls


def answer_call(request, tx):
    if request.method == "INVITE" and tx.call is None:
        with tx.accept(body=b"v=0\r\n", content_type="application/sdp") as call:
            call.wait(60)
        return None
    return 200


@pytest.mark.rfc("3261 22.1")
def test_ack_repeats_the_credentials_of_its_invite(sip, credentials):
    gate = Gate(answer_call, status=407)
    serve(sip, gate)
    client = client_of(sip)
    call = sip.run(client.invite, URI, credentials=credentials)
    sip.settle()
    acks = [text for text in _sent(sip) if text.startswith("ACK")]
    assert len(acks) == 2  # that of the 407 goes to the transaction
    invites = [text for text in _sent(sip) if text.startswith("INVITE")]
    assert "Proxy-Authorization" not in acks[0]
    wanted = next(line for line in invites[1].split("\r\n") if line.startswith("Proxy-Auth"))
    assert wanted in acks[1]
    assert "CSeq: 2 ACK" in acks[1]
    call.hangup()


def _sent(sip):
    return [carried.data.decode() for carried in sip.network.trace]


@pytest.mark.rfc("3261 22.3")
@pytest.mark.parametrize("status", [401, 407])
def test_requests_in_a_call_are_authenticated(sip, credentials, status):
    gate = Gate(answer_call, status=status, uses=1)
    gate.core = answer_call
    server = serve(sip, gate)
    client = client_of(sip)
    call = sip.run(client.invite, URI, credentials=credentials)
    assert sip.run(call.request, "MESSAGE").status == 200
    assert sip.run(call.request, "INFO").status == 200
    numbers = [r.cseq.number for r in gate.requests if r.method not in ("ACK", "BYE")]
    assert numbers == sorted(set(numbers))
    call.hangup()
    sip.settle()
    assert len(server.dialogs) == 0
    assert call.dialog.local_cseq >= numbers[-1]


@pytest.mark.rfc("3261 22.3")
def test_reinvite_update_and_bye_are_authenticated_in_the_dialog(sip):
    """A proxy asks for each of them, with a nonce that is good for one request."""

    def proxy(request, tx):
        tx.take_route()
        targets = ["sip:10.0.0.1"] if request.to.tag is None else []
        forward(request, tx, *targets, record_route=True)

    server = serve(sip, answer_call)
    gate = Gate(proxy, status=407, uses=1)
    serve(sip, gate, "10.0.0.2")
    client = client_of(sip)
    mine = Credentials("100", "secret", hosts=("proxy.example.com", PBX))
    hop = "sip:proxy.example.com;lr"
    call = sip.run(client.invite, URI, credentials=mine, next_hop=hop, body=b"v=0\r\n")
    assert sip.run(call.request, "INVITE", body=b"v=0\r\n").status == 200
    assert sip.run(call.request, "UPDATE").status == 200
    call.hangup()
    sip.settle()
    asked = [request for request in gate.requests if request.method != "ACK"]
    assert [request.method for request in asked] == [
        method for method in ("INVITE", "INVITE", "UPDATE", "BYE") for _ in range(2)
    ]
    assert [request.cseq.number for request in asked] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert len(server.dialogs) == len(client.dialogs) == 0


@pytest.mark.rfc("3261 22.2")
def test_request_of_a_callee_is_authenticated_for_the_caller(sip):
    """The carrier calls us, and asks for credentials when we send a request in its call."""
    gate = Gate(answer_call)
    carrier = serve(sip, gate)
    calls = []

    def core(request, tx):
        calls.append(tx.accept(body=b"v=0\r\n", content_type="application/sdp"))

    mine = Credentials("100", "secret", hosts=(PBX,))
    serve(sip, core, "10.0.0.2", credentials=mine)
    call = sip.run(carrier.invite, "sip:proxy.example.com", from_=f"sip:200@{PBX}")
    sip.settle()
    assert sip.run(calls[0].request, "MESSAGE").status == 200
    assert gate.claims[-1].username == "100"
    call.hangup()
    sip.settle()


def test_call_may_get_other_credentials_for_one_request(sip):
    gate = Gate(answer_call, user="7", methods=("MESSAGE",))
    serve(sip, gate)
    client = client_of(sip)
    call = sip.run(client.invite, URI, credentials=Credentials("100", "secret"))
    assert sip.run(call.request, "MESSAGE").status == 401
    assert sip.run(call.request, "MESSAGE", credentials=Credentials("7", "secret")).status == 200
    call.hangup()
    sip.settle()


@pytest.mark.rfc("3261 22.1")
def test_cancelled_invite_answers_no_challenge(sip, credentials):
    seen = []

    def core(request, tx):
        seen.append(request)
        tx.respond(180)
        try:
            tx.wait(10)
        finally:
            tx._refuse(401, www_authenticate=f'Digest realm="{PBX}", nonce="n", qop="auth"')

    serve(sip, core)
    client = client_of(sip, credentials=credentials)
    tx = client.send(Request("INVITE", URI))
    sip.advance(1)
    tx.cancel()
    assert sip.run(tx.final).status == 401
    assert len(seen) == 1


@pytest.mark.rfc("3261 9.1")
def test_cancel_has_the_cseq_of_the_invite_with_credentials(sip, credentials):
    cancelled = []

    def core(request, tx):
        tx.respond(180)
        try:
            tx.wait(100)
        finally:
            cancelled.append(request.cseq.number)

    serve(sip, Gate(core))
    client = client_of(sip, credentials=credentials)
    tx = client.send(Request("INVITE", URI))
    sip.advance(1)
    tx.cancel()
    assert sip.run(tx.final).status == 487
    assert cancelled == [2]


# ---- several challenges


@pytest.mark.rfc("3261 22.3")
@pytest.mark.rfc("8760 2.5")
def test_challenges_of_a_fork_are_answered_at_once(sip):
    one = Gate(status=407, realm="one")
    other = Gate(status=401, realm="other")
    serve(sip, one, "10.0.0.1")
    serve(sip, other, "10.0.0.3")
    serve(sip, lambda request, tx: forward(request, tx, "sip:10.0.0.1", "sip:10.0.0.3"), "10.0.0.2")
    client = client_of(sip)
    mine = [
        Credentials("100", "secret", realm="one", hosts=("proxy.example.com",)),
        Credentials("100", "secret", realm="other", hosts=("proxy.example.com",)),
    ]
    answer = sip.run(client.request, "OPTIONS", "sip:bob@proxy.example.com", credentials=mine)
    assert answer.status == 200
    assert len(one.requests) == len(other.requests) == 2
    assert len(other.requests[1].proxy_authorization) == 1


@pytest.mark.rfc("3261 22.3")
def test_chain_of_proxies_is_answered_one_after_the_other(sip):
    server = Gate(realm="three")
    serve(sip, server, "10.0.0.1")
    second = Gate(lambda request, tx: forward(request, tx, "sip:10.0.0.1"), status=407, realm="two")
    serve(sip, second, "10.0.0.3")
    first = Gate(lambda request, tx: forward(request, tx, "sip:10.0.0.3"), status=407, realm="one")
    serve(sip, first, "10.0.0.2")
    client = client_of(sip)
    mine = [
        Credentials("100", "secret", realm=realm, hosts=("proxy.example.com",))
        for realm in ("one", "two", "three")
    ]
    answer = sip.run(client.request, "OPTIONS", "sip:bob@proxy.example.com", credentials=mine)
    assert answer.status == 200
    last = server.requests[-1]
    assert [c.realm for c in (*last.proxy_authorization, *last.authorization)] == [
        "one",
        "two",
        "three",
    ]


# ---- credentials from a callable


def test_callable_may_block_and_sees_realm_and_request(sip):
    gate = Gate()
    serve(sip, gate)
    asked = []

    def find(realm, request):
        asked.append((realm, request.from_.uri.user))
        client.clock.sleep(2)
        return Credentials("100", "secret")

    client = client_of(sip, credentials=find)
    response = sip.run(client.request, "OPTIONS", URI, from_="sip:7@example.com")
    assert response.status == 200
    assert asked == [(PBX, "7")]


@pytest.mark.parametrize("found", [None, (), [Credentials("1", "x", realm="other")]])
def test_callable_that_finds_nothing_leaves_the_challenge(sip, found):
    serve(sip, Gate())
    client = client_of(sip, credentials=lambda realm, request: found)
    assert sip.run(client.request, "OPTIONS", URI).status == 401


def test_callable_that_raises_is_logged_and_the_challenge_is_the_answer(sip, caplog):
    def find(realm, request):
        raise RuntimeError("database is down")

    serve(sip, Gate())
    client = client_of(sip, credentials=find)
    assert sip.run(client.request, "OPTIONS", URI).status == 401
    assert "request not sent again: method=OPTIONS after=401" in caplog.text
    assert client.stats()["core_errors"] == 1


def slow(client_box):
    def find(realm, request):
        client_box[0].clock.sleep(1000)
        return Credentials("100", "secret")

    return find


def test_callable_that_never_returns_does_not_hold_the_request(sip):
    serve(sip, Gate())
    box = []
    box.append(client_of(sip, credentials=slow(box)))
    start = sip.clock.now()
    assert sip.run(box[0].request, "OPTIONS", URI).status == 401
    assert sip.clock.now() - start < 33
    sip.advance(1000)


def test_timeout_reaches_a_request_whose_credentials_are_looked_up(sip):
    gate = Gate()
    serve(sip, gate)
    box = []
    box.append(client_of(sip, credentials=slow(box)))
    with pytest.raises(TransactionTimeout, match="within 5 seconds"):
        sip.run(box[0].request, "OPTIONS", URI, timeout=5)
    sip.advance(1000)
    assert len(gate.requests) == 1


def test_gevent_timeout_reaches_a_request_whose_credentials_are_looked_up(sip):
    gate = Gate()
    serve(sip, gate)
    box = []
    box.append(client_of(sip, credentials=slow(box)))

    def ask():
        timer = box[0].clock.timeout(5)
        try:
            box[0].invite(URI)
        finally:
            timer.close()

    with pytest.raises(gevent.Timeout):
        sip.run(ask)
    sip.advance(1000)
    assert methods(gate) == ["INVITE"]


def test_cancel_ends_an_invite_whose_credentials_are_looked_up(sip):
    gate = Gate()
    serve(sip, gate)
    box = []
    box.append(client_of(sip, credentials=slow(box)))
    tx = box[0].send(Request("INVITE", URI))
    sip.advance(1)
    tx.cancel()
    assert sip.run(tx.final).status == 487
    sip.advance(1000)
    assert methods(gate) == ["INVITE"]


def test_stop_ends_a_request_whose_credentials_are_looked_up(sip):
    serve(sip, Gate())
    box = []
    box.append(client_of(sip, credentials=slow(box)))
    tx = box[0].send(Request("OPTIONS", URI))
    sip.advance(1)
    box[0].stop()
    with pytest.raises(OSError, match="the stack has stopped"):
        sip.run(tx.final)


# ---- failover, long requests, streams


def test_answer_goes_to_the_server_that_has_asked(sip):
    """Its nonce means nothing to the other server of the same name."""
    one, other = Gate(realm="r"), Gate(realm="r")
    serve(sip, one, "10.0.0.1")
    serve(sip, other, "10.0.0.2")
    client = sip.stack(host="10.0.0.50", resolver=StaticResolver({PBX: ["10.0.0.1", "10.0.0.2"]}))
    for _ in range(4):
        mine = Credentials("100", "secret")
        assert sip.run(client.request, "OPTIONS", URI, credentials=mine).status == 200
    assert len(one.requests) % 2 == len(other.requests) % 2 == 0


def test_server_that_fails_before_the_answer_is_replaced(sip, credentials):
    other = Gate()
    serve(sip, other, "10.0.0.2")

    def core(request, tx):
        if request.authorization:
            return 503
        tx.respond(401, www_authenticate=f'Digest realm="{PBX}", nonce="n", qop="auth"')
        return None

    serve(sip, core)
    client = sip.stack(host="10.0.0.50", resolver=StaticResolver({PBX: ["10.0.0.1", "10.0.0.2"]}))
    assert sip.run(client.request, "OPTIONS", URI, credentials=credentials).status == 200
    assert other.requests


# ---- arguments


def test_credentials_show_no_secret():
    for mine in (
        Credentials("100", "topsecret", realm="r", hosts=("a.example",)),
        Credentials("100", ha1="0" * 32, realm="r"),
    ):
        shown = f"{mine!r} {mine}"
        assert "topsecret" not in shown
        assert "0000" not in shown
        assert "100" in shown


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        (("100",), {}, "give a password or an HA1"),
        (("100", "x"), {"ha1": "0" * 32, "realm": "r"}, "give a password or an HA1"),
        (("100", 5), {}, "password must be text, got int"),
        (("100",), {"ha1": "0" * 32}, "give realm="),
        (("100", "x"), {"hosts": "a.example"}, r"\('a.example',\)|must be a tuple"),
    ],
)
def test_wrong_arguments_of_credentials_are_type_errors(arguments, options, error):
    with pytest.raises(TypeError, match=error):
        Credentials(*arguments, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"user": "a:b", "password": "x"},
        {"user": "a", "ha1": "xyzsecret", "realm": "r"},
        {"user": "a", "ha1": {"SHA-1": "0" * 32}, "realm": "r"},
        {"user": "a", "password": "x", "hosts": ("10.0.0.0/99",)},
    ],
)
def test_wrong_values_of_credentials_are_refused_without_the_secret(options):
    with pytest.raises(InvalidValue) as refused:
        Credentials(**options)
    assert "xyzsecret" not in str(refused.value)


@pytest.mark.parametrize("given", ["secret", 5, ["secret"], {"100": "secret"}])
def test_argument_that_is_no_credentials_is_a_type_error_without_its_value(sip, given):
    with pytest.raises(TypeError, match=r"Credentials\(") as refused:
        client_of(sip, credentials=given)
    assert "secret" not in str(refused.value).replace('"secret"', "")


def test_stack_refuses_credentials_for_any_host(sip):
    with pytest.raises(TypeError, match="must name its hosts"):
        client_of(sip, credentials=Credentials("100", "secret"))
