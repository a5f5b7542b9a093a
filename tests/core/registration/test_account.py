"""Accounts: what a trunk needs in one object, against scripted carriers."""

from __future__ import annotations

import inspect
import sqlite3

import gevent
import pytest

from sippet_gevent import (
    URI,
    Account,
    Credentials,
    InvalidValue,
    NameAddr,
    Reject,
    Request,
    Stack,
    StaticResolver,
    TransactionStateError,
    Unauthorized,
    bridge,
)
from tests.core.auth.gate import Gate
from tests.core.registration.test_registration import INSTANCE, Script

AOR = "sip:100@10.0.0.1"
SDP = b"v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\ns=-\r\nc=IN IP4 10.0.0.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


def ended(sip, account):
    """Close an account, while virtual time passes."""
    greenlet = gevent.spawn(account.close)
    sip.clock.advance(10)
    greenlet.get(timeout=0)


def office(sip, account, core=None, host="10.0.0.50", **options):
    """Return a running stack with this account."""
    stack = sip.stack(core, host=host, **options)
    stack.accounts.add(account)
    sip.clock.advance(1)
    return stack


# ---- state


@pytest.mark.rfc("3261 10.2")
def test_account_registers_with_its_stack_and_ends(sip):
    script = Script()
    sip.stack(script, host="10.0.0.1")
    changes = []
    account = Account(AOR, on_change=lambda it: changes.append((it.is_up, it.ended)))
    stack = office(sip, account)
    assert account.wait(0) and account.is_up and account.registration.registered
    assert [*stack.accounts] == [account] and stack.accounts.up == 1
    ended(sip, account)
    assert script.requests[-1].expires == 0
    assert account.ended and not account.is_up and not len(stack.accounts)
    assert changes == [(True, False), (False, True)]
    assert not account.wait(0)


def test_account_is_added_before_the_start_of_its_stack():
    from sippet_gevent import Stack

    stack = Stack("udp:127.0.0.1:0")
    account = stack.accounts.add(Account("sip:127.0.0.1:9", register=False))
    assert not account.is_up
    with stack:
        assert account.is_up and account.wait(0)
    assert not account.is_up and not account.ended
    with stack:
        assert account.is_up


@pytest.mark.rfc("3261 10.2")
@pytest.mark.parametrize(
    ("aor", "write"),
    [
        ("sip:carrier.example", "sip:USER@carrier.example"),
        ("sips:carrier.example:5071", "sips:USER@carrier.example:5071"),
        (URI("sip", None, "[2001:db8::1]"), r"sip:USER@\[2001:db8::1\]"),
        (URI("sip", "", "carrier.example"), "sip:USER@carrier.example"),
    ],
)
def test_account_without_a_user_cannot_be_registered(sip, aor, write):
    for make in (Account, sip.stack().register):
        with pytest.raises(InvalidValue, match=f"aor must have a user, got .*: write {write}$"):
            make(aor)
    assert not Account(aor, register=False).aor.user


def test_account_can_be_added_again_after_its_end(sip):
    sip.stack(Script(), host="10.0.0.1")
    account = Account(AOR)
    stack = office(sip, account)
    with pytest.raises(InvalidValue, match="is in a stack"):
        stack.accounts.add(account)
    ended(sip, account)
    stack.accounts.add(account)
    sip.clock.advance(1)
    assert account.is_up
    ended(sip, account)


def test_account_without_a_stack_says_what_to_write():
    account = Account(AOR)
    with pytest.raises(TransactionStateError, match=r"stack\.accounts\.add"):
        account.invite("sip:bob@example.com")
    with pytest.raises(TransactionStateError, match=r"stack\.accounts\.add"):
        account.wait(0)
    account.close()
    assert not account.owns(Request("INVITE", AOR))


def test_refusal_of_the_account_is_told(sip):
    sip.stack(Script((403, {})), host="10.0.0.1")
    account = Account(AOR)
    office(sip, account)
    assert account.refused and not account.is_up and account.error.status == 403
    assert not account.wait(0)
    ended(sip, account)


class Silent:
    """A registrar that answers nothing for 20 seconds."""

    def __call__(self, request, tx):
        tx.wait(20)
        return 500


def test_wait_ends_when_the_account_ends(sip):
    sip.stack(Silent(), host="10.0.0.1")
    account = Account(AOR)
    office(sip, account)
    waiting = gevent.spawn(account.wait)
    sip.clock.advance(1)
    ended(sip, account)
    assert waiting.get(timeout=0) is False


# ---- requests


@pytest.mark.rfc("3608 5")
def test_requests_have_from_route_contact_and_credentials(sip):
    heard = []

    def core(request, tx):
        heard.append(request)
        if request.method == "REGISTER":
            return request.response(
                200,
                contact=request.contact[0].with_params(expires=600),
                service_route="<sip:10.0.0.1;lr>",
            )
        return 200

    gate = Gate(core, realm="carrier")
    sip.stack(gate, host="10.0.0.1")
    account = Account(
        AOR,
        Credentials("100", "secret"),
        from_="sip:+4930100@10.0.0.1",
        display_name="Example Ltd",
    )
    stack = office(sip, account)
    assert account.is_up
    response = gevent.spawn(account.request, "SUBSCRIBE", account.uri("200"), event="presence")
    sip.clock.advance(1)
    assert response.get(timeout=0).status == 200
    request = heard[-1]
    assert str(request.uri) == "sip:200@10.0.0.1"
    assert request.from_.display == "Example Ltd" and request.from_.uri.user == "+4930100"
    assert request.route == () or [str(r.uri) for r in request.route] == ["sip:10.0.0.1;lr"]
    assert request.contact[0].uri.user == "100" and request.authorization[0].username == "100"
    assert stack.accounts.of(request) is None  # it comes from us
    ended(sip, account)


@pytest.mark.rfc("5627 4.4")
def test_contact_of_a_call_is_the_gruu(sip):
    def core(request, tx):
        if request.method == "REGISTER":
            contact = request.contact[0].with_params(expires=600)
            gruu = '"sip:100@10.0.0.1;gr=urn:x"'
            return request.response(200, contact=str(contact) + f";pub-gruu={gruu}")
        invites.append(request)
        return 486

    invites = []
    sip.stack(core, host="10.0.0.1")
    account = Account(AOR, instance="urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6")
    office(sip, account)
    calling = gevent.spawn(account.invite, "sip:200@10.0.0.1", body=SDP)
    sip.clock.advance(1)
    with pytest.raises(Reject):
        calling.get(timeout=0)
    assert str(invites[0].contact[0].uri) == "sip:100@10.0.0.1;gr=urn:x"
    ended(sip, account)


def test_all_requests_go_by_the_outbound_proxy(sip):
    heard = []

    def proxy(request, tx):
        heard.append(request)
        if request.method == "REGISTER":
            return request.response(200, contact=request.contact[0].with_params(expires=600))
        return 200

    sip.stack(proxy, host="10.0.0.7")
    account = Account(
        "sip:100@carrier.example", outbound_proxy="sip:10.0.0.7", registrar="sip:carrier.example"
    )
    office(sip, account)
    assert account.is_up
    asked = gevent.spawn(account.request, "MESSAGE", account.uri("200"), body="x")
    sip.clock.advance(1)
    assert asked.get(timeout=0).status == 200
    assert [request.method for request in heard] == ["REGISTER", "MESSAGE"]
    assert str(heard[0].uri) == "sip:carrier.example"
    ended(sip, account)


# ---- who may have the credentials


def test_credentials_are_for_the_hosts_of_the_account(sip):
    stranger = Gate(realm="pbx.example.com")
    sip.stack(stranger, host="10.0.0.66")
    sip.stack(Script(), host="10.0.0.1")
    account = Account(AOR, Credentials("100", "secret"))
    office(sip, account)
    calling = gevent.spawn(account.invite, "sip:bob@10.0.0.66", body=SDP)
    sip.clock.advance(1)
    with pytest.raises(Unauthorized, match="not for"):
        calling.get(timeout=0)
    assert not stranger.claims
    ended(sip, account)


def test_credentials_with_hosts_stay_as_they_are():
    given = Credentials("100", "secret", hosts=("other.example",))
    assert Account(AOR, given).credentials is given
    copies = Account(AOR, [given, Credentials("101", "secret")]).credentials
    assert copies[0] is given and copies[1].hosts == ("10.0.0.1",)
    source = lambda realm, request: given  # noqa: E731
    assert Account(AOR, source).credentials is source


# ---- requests for an account


def test_call_from_the_carrier_is_recognised(sip):
    owners = []

    def core(request, tx):
        owners.append((stack.accounts.of(request), account.owns(request)))
        return 486

    carrier = sip.stack(Script(), host="10.0.0.1")
    stranger = sip.stack(host="10.0.0.66")
    account = Account(AOR)
    stack = office(sip, account, core)
    for sender in (carrier, stranger):
        asked = gevent.spawn(sender.request, "INVITE", "sip:100@10.0.0.50", body=SDP)
        sip.clock.advance(1)
        assert asked.get(timeout=0).status == 486
    assert owners == [(account, True), (None, False)]
    ended(sip, account)


def test_account_of_a_call_is_found_by_user_to_or_trunk(sip):
    owners = []

    def core(request, tx):
        owners.append(stack.accounts.of(request))
        return 486

    carrier = sip.stack(Script(), host="10.0.0.1")
    stack = sip.stack(core, host="10.0.0.50")
    one, two = (stack.accounts.add(Account(f"sip:{n}@10.0.0.1")) for n in (100, 101))
    other = stack.accounts.add(Account("sip:100@other.example", outbound_proxy="sip:10.0.0.1"))
    sip.clock.advance(1)
    trunk = Account("sip:office@10.0.0.1", register=False)

    def call(user, **headers):
        asked = gevent.spawn(carrier.request, "INVITE", f"sip:{user}@10.0.0.50", **headers)
        sip.clock.advance(1)
        asked.get(timeout=0)
        return owners[-1]

    assert call("101") is two
    assert call("100", to="sip:100@10.0.0.1") is one
    assert call("100", to="sip:100@other.example") is other
    assert call("+4930", to="sip:101@10.0.0.1") is two
    assert call("+4930", to="sip:+4930@10.0.0.1") is None
    stack.accounts.add(trunk)
    assert call("+4930", to="sip:+4930@10.0.0.1") is trunk
    for account in (one, two, other):
        ended(sip, account)
    assert call("100") is trunk
    ended(sip, trunk)
    assert call("100") is None
    assert not stack.accounts._by_peer


def test_peers_are_addresses_and_networks(sip):
    owners = []

    def core(request, tx):
        owners.append(stack.accounts.of(request))
        return 486

    account = Account(
        "sip:office@carrier.example", register=False, peers=("10.1.0.0/16", "10.0.0.9")
    )
    stack = office(sip, account, core)
    for host in ("10.1.2.3", "10.0.0.9", "10.2.0.1"):
        sender = sip.stack(host=host)
        gevent.spawn(sender.request, "INVITE", "sip:x@10.0.0.50")
        sip.clock.advance(1)
    assert owners == [account, account, None]
    ended(sip, account)
    assert not stack.accounts._by_peer and not stack.accounts._networks
    for peers in (("10.0.0.0/99",), ("carrier.example",)):
        with pytest.raises(InvalidValue, match="peers must be"):
            Account(AOR, peers=peers)
    with pytest.raises(TypeError, match="peers"):
        Account(AOR, peers="10.0.0.9")


@pytest.mark.rfc("3261 22.3")
def test_request_in_a_call_from_the_carrier_has_the_credentials(sip):
    gate = Gate(status=407, realm="carrier")
    answers = []

    def core(request, tx):
        with tx.accept(body=SDP) as call:
            answers.append(call.request("INFO").status)

    carrier = sip.stack(Script(), host="10.0.0.1")
    account = Account(AOR, Credentials("100", "secret"))
    office(sip, account, core)
    calling = gevent.spawn(carrier.invite, "sip:100@10.0.0.50", body=SDP, handlers={"INFO": gate})
    sip.clock.advance(5)
    call = calling.get(timeout=0)
    assert answers == [200] and call.ended.is_set()
    assert gate.claims[-1].username == "100"
    ended(sip, account)


# ---- OPTIONS


class Switch:
    """A server that answers, or is silent, as it is told."""

    def __init__(self):
        self.status = 200
        self.requests = []
        self.script = Script()

    def __call__(self, request, tx):
        self.requests.append(request)
        if self.status is None:
            tx.wait(40)
            return 408
        if request.method == "REGISTER":
            return self.script(request, tx)
        return self.status


@pytest.mark.rfc("3261 11")
def test_options_tell_up_and_down(sip):
    switch = Switch()
    sip.stack(switch, host="10.0.0.1")
    changes = []
    account = Account(
        AOR, register=False, keep_up=20, on_change=lambda it: changes.append(it.is_up)
    )
    stack = office(sip, account)
    assert account.is_up and len(switch.requests) == 1
    assert switch.requests[0].method == "OPTIONS"
    sip.clock.advance(20)
    assert len(switch.requests) == 2
    for status in (503, 502):
        switch.status = status
        sip.clock.advance(21)
        assert not account.is_up and account.error.status == status
        switch.status = 403  # it refuses, but it is there
        sip.clock.advance(21)
        assert account.is_up and account.error is None
    assert changes == [True, False, True, False, True]
    ended(sip, account)
    assert not len(stack.accounts.probes)


def test_silent_server_is_down_after_one_interval(sip):
    account = Account("sip:office@10.0.0.99", register=False, keep_up=10)
    office(sip, account)
    assert not account.is_up and account.error is None
    sip.clock.advance(10)
    assert not account.is_up and account.error is not None
    waiting = gevent.spawn(account.wait, 60)
    sip.stack(lambda request, tx: 200, host="10.0.0.99")
    sip.clock.advance(22)
    assert waiting.get(timeout=0) and account.is_up
    ended(sip, account)


def test_one_probe_serves_all_accounts_of_a_server(sip):
    switch = Switch()
    sip.stack(switch, host="10.0.0.1")
    stack = sip.stack(host="10.0.0.50")
    accounts = [
        stack.accounts.add(Account(f"sip:{n}@10.0.0.1", register=False, keep_up=30))
        for n in range(5)
    ]
    sip.clock.advance(95)
    assert all(account.is_up for account in accounts)
    assert 3 <= len(switch.requests) <= 5
    later = stack.accounts.add(Account("sip:9@10.0.0.1", register=False, keep_up=30))
    assert later.is_up  # it is known already
    for account in (*accounts, later):
        ended(sip, account)
    assert not len(stack.accounts.probes)


def test_account_registers_again_when_its_server_is_back(sip):
    switch = Switch()
    sip.stack(switch, host="10.0.0.1")
    account = Account(AOR, keep_up=20)
    office(sip, account)
    assert account.is_up
    switch.status = 503
    sip.clock.advance(21)
    assert not account.is_up and account.registration.registered
    registers = len(switch.script.requests)
    switch.status = 200
    sip.clock.advance(21)
    assert account.is_up and len(switch.script.requests) == registers + 1
    ended(sip, account)


# ---- rows


def test_accounts_are_loaded_from_rows_of_a_database(sip):
    gate = Gate(Script(), user="100", password="secret", realm="carrier")
    sip.stack(gate, host="10.0.0.1")
    database = sqlite3.connect(":memory:")
    database.row_factory = sqlite3.Row
    database.execute(
        "CREATE TABLE accounts (aor, password, display_name, register, peers, keep_up)"
    )
    database.execute("INSERT INTO accounts VALUES (?, 'secret', 'Example', 1, NULL, NULL)", (AOR,))
    database.execute(
        "INSERT INTO accounts VALUES ('sip:x@10.0.0.3', NULL, NULL, 0, '10.3.0.0/16, 10.0.0.3', 30)"
    )
    stack = sip.stack(host="10.0.0.50")
    found = stack.accounts.load(database.execute("SELECT * FROM accounts ORDER BY rowid"))
    database.close()
    sip.clock.advance(1)
    assert found[0].is_up and found[0].from_ == NameAddr(URI.parse(AOR), "Example")
    assert found[1].peers == ("10.3.0.0/16", "10.0.0.3") and not found[1].registers
    for account in found:
        ended(sip, account)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"aor": AOR, "pasword": "x"}, "unknown key 'pasword'"),
        ({"password": "x"}, "must have the key aor"),
        ({"aor": "sip:10.0.0.1", "password": "x"}, "must have a user"),
        ({"aor": AOR, "user": "100"}, "without a password"),
        ({"aor": AOR, "expires": 0}, "expires"),
        ({"aor": "tel:123"}, "sip or sips URI"),
        ({"aor": AOR, "ha1": "zz", "realm": "r"}, "hexadecimal"),
    ],
)
def test_wrong_row_adds_no_account(sip, row, text):
    stack = sip.stack(host="10.0.0.50")
    with pytest.raises(InvalidValue, match=text) as caught:
        stack.accounts.load([{"aor": AOR}, row])
    assert not len(stack.accounts) and "password" not in str(caught.value).partition(":")[0]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("sip:100@10.0.0.1", "must be a dict"),
        ({"aor": AOR, "register": "yes"}, "register must be True or False"),
        ({"aor": AOR, "keep_up": "30"}, "keep_up must be a number"),
        ({"aor": AOR, "display_name": 7}, "display_name"),
    ],
)
def test_row_of_a_wrong_type_says_what_to_write(row, text):
    with pytest.raises(TypeError, match=text):
        Account.of_row(row)


# ---- a trunk


def test_bridge_by_an_account_authenticates_and_names_it(sip):
    invites = []

    def answer(request, tx):
        invites.append(request)
        with tx.accept(body=SDP) as call:
            call.ended.wait()

    script = Script()
    gate = Gate(
        lambda request, tx: (script if request.method == "REGISTER" else answer)(request, tx),
        status=407,
        realm="carrier",
    )
    sip.stack(gate, host="10.0.0.1")
    account = Account(AOR, Credentials("100", "secret"), display_name="Example Ltd")

    def core(request, tx):
        if account.owns(request):
            bridge(request, tx, "sip:1@10.0.0.70")
        else:
            account.bridge(request, tx, account.uri(request.uri.user))

    office(sip, account, core)
    phone = sip.stack(host="10.0.0.70")
    calling = gevent.spawn(phone.invite, "sip:+4930@10.0.0.50", body=SDP)
    sip.clock.advance(2)
    call = calling.get(timeout=0)
    (invite,) = invites
    assert invite.from_.uri.user == "100" and invite.from_.display == "Example Ltd"
    assert str(invite.to.uri) == "sip:+4930@10.0.0.1"
    hanging = gevent.spawn(call.hangup)
    sip.clock.advance(5)
    hanging.get(timeout=0)
    assert gate.claims[-1].username == "100"
    ended(sip, account)


def test_accounts_of_a_name_use_all_its_addresses(sip):
    sip.stack(Script(), host="10.0.0.2")
    resolver = StaticResolver({"carrier.example": ["10.0.0.2"]})
    account = Account("sip:100@carrier.example")
    office(sip, account, resolver=resolver)
    assert account.is_up and account.addresses == ("10.0.0.2",)
    ended(sip, account)


def test_trunk_by_name_knows_all_addresses_of_the_name(sip):
    resolver = StaticResolver({"trunk.example": ["10.0.0.2", "10.0.0.3"]})
    account = Account("sip:office@trunk.example", register=False)
    office(sip, account, resolver=resolver)
    assert account.is_up and set(account.addresses) == {"10.0.0.2", "10.0.0.3"}
    ended(sip, account)


# ---- carriers that ask again and again, and others that ask (threat T27)


def always(asked):
    """A carrier that challenges every INVITE with a new nonce."""
    script = Script()

    def core(request, tx):
        if request.method == "REGISTER":
            return script(request, tx)
        if request.method == "ACK":
            return None
        asked.append(request)
        challenge = f'Digest realm="carrier", nonce="n{len(asked)}", qop="auth"'
        return request.response(407, proxy_authenticate=challenge)

    return core


@pytest.mark.rfc("3261 22.1")
def test_carrier_that_always_challenges_gets_two_rounds_at_most(sip):
    asked = []
    sip.stack(always(asked), host="10.0.0.1")
    account = Account(AOR, Credentials("100", "secret"))
    office(sip, account)
    for call in (
        lambda: account.invite(account.uri("200"), body=SDP),
        lambda: account.request("OPTIONS", account.uri("200")),
    ):
        asked.clear()
        calling = gevent.spawn(call)
        sip.clock.advance(2)
        if calling.exception is None:
            assert calling.get(timeout=0).status == 407
        else:
            with pytest.raises(Unauthorized, match=r"refused by realm carrier|challenged again"):
                calling.get(timeout=0)
        assert 2 <= len(asked) <= 3
    ended(sip, account)


@pytest.mark.rfc("3261 26.1")
def test_callee_behind_the_carrier_gets_no_answer_to_its_challenge(sip):
    script = Script()
    stranger = Gate(realm="carrier")
    invites = []

    def core(request, tx):
        if request.method == "REGISTER":
            return script(request, tx)
        invites.append(request)
        # the carrier passes on the 401 of a callee, which asks for the realm of the carrier
        return request.response(401, www_authenticate='Digest realm="carrier", nonce="evil"')

    sip.stack(core, host="10.0.0.1")
    sip.stack(stranger, host="10.0.0.66")
    account = Account(AOR, Credentials("100", "secret"), outbound_proxy="sip:10.0.0.1")
    office(sip, account)
    calling = gevent.spawn(account.invite, "sip:bob@evil.example", body=SDP)
    sip.clock.advance(2)
    with pytest.raises(Unauthorized):
        calling.get(timeout=0)
    assert len(invites) == 1 and "Authorization" not in invites[0].headers.fields
    ended(sip, account)


@pytest.mark.rfc("3261 22.3")
def test_contact_elsewhere_gets_no_answer_within_a_call(sip):
    elsewhere = Gate(status=407, realm="carrier")
    script = Script()

    def core(request, tx):
        if request.method == "REGISTER":
            return script(request, tx)
        response = request.response(200, contact="<sip:evil@10.0.0.66>", body=SDP)
        response.content_type = "application/sdp"
        return response

    sip.stack(core, host="10.0.0.1")
    sip.stack(elsewhere, host="10.0.0.66")
    account = Account(AOR, Credentials("100", "secret"))
    office(sip, account)
    calling = gevent.spawn(account.invite, "sip:bob@10.0.0.1", body=SDP)
    sip.clock.advance(2)
    call = calling.get(timeout=0)
    asking = gevent.spawn(call.request, "INFO")
    sip.clock.advance(2)
    asking.get(timeout=0)
    assert not [
        request for request in elsewhere.requests if "Authorization" in request.headers.fields
    ]
    hanging = gevent.spawn(call.hangup)
    sip.clock.advance(40)
    hanging.get(timeout=0)
    assert not elsewhere.claims
    ended(sip, account)


# ---- which port


def test_datagram_of_another_port_of_the_carriers_host_is_not_from_it(sip):
    owners = []

    def core(request, tx):
        owners.append(stack.accounts.of(request))
        return 486

    carrier = sip.stack(Script(), host="10.0.0.1")
    account = Account(AOR, Credentials("100", "secret"))
    stack = office(sip, account, core)
    phone = sip.stack(host="10.0.0.1", port=5080)
    for sender in (carrier, phone):
        asked = gevent.spawn(sender.request, "INVITE", "sip:100@10.0.0.50")
        sip.clock.advance(1)
        asked.get(timeout=0)
    assert owners == [account, None]
    ended(sip, account)
    assert not stack.accounts._by_peer


def test_two_carriers_on_one_host_are_told_apart_by_their_ports(sip):
    owners = []

    def core(request, tx):
        owners.append(stack.accounts.of(request))
        return 486

    carriers = [sip.stack(Script(), host="10.0.0.1", port=port) for port in (5060, 5070)]
    one = Account(AOR)
    other = Account("sip:100@10.0.0.1:5070")
    stack = office(sip, one, core)
    stack.accounts.add(other)
    sip.clock.advance(1)
    for sender in carriers:
        asked = gevent.spawn(sender.request, "INVITE", "sip:+4930@10.0.0.50")
        sip.clock.advance(1)
        asked.get(timeout=0)
    assert owners == [one, other]
    ended(sip, one)
    ended(sip, other)
    assert not stack.accounts._by_peer


@pytest.mark.parametrize("name", ["request", "invite"])
def test_requests_of_an_account_have_the_arguments_of_the_stack(name):
    ours, theirs = (inspect.signature(getattr(each, name)) for each in (Account, Stack))
    mine, stacks = (
        {key: value for key, value in each.parameters.items() if key != "self"}
        for each in (ours, theirs)
    )
    assert mine == stacks
    assert ours.return_annotation == theirs.return_annotation


class Connection:
    """The flow of a request, at a port of the carrier's host."""

    def __init__(self, port, *, reliable, peer_identity=()):
        self.peer_identity = peer_identity
        self.remote = ("10.0.0.1", port)
        self.transport = self
        self.reliable = reliable


@pytest.mark.rfc("5922 7.3")
@pytest.mark.parametrize(
    ("port", "flow", "options", "is_owner"),
    [
        (5060, {"reliable": False}, {}, True),
        (5060, {"reliable": True}, {}, True),
        (40000, {"reliable": False}, {}, False),
        (40000, {"reliable": True}, {}, False),  # a phone on the carrier's host may be anything
        (40000, {"reliable": True, "peer_identity": ("phone.example",)}, {}, False),
        (40000, {"reliable": True, "peer_identity": ("Carrier.Example",)}, {}, True),
        (40000, {"reliable": True, "peer_identity": ("sbc.example",)}, {}, True),
        (40000, {"reliable": True}, {"peers": ("10.0.0.1",)}, True),
        (40000, {"reliable": True}, {"peers": ("10.0.0.0/24",)}, True),
    ],
)
def test_phone_on_the_host_of_the_carrier_is_not_the_carrier(sip, port, flow, options, is_owner):
    sip.stack(Script(), host="10.0.0.1")
    account = Account(
        "sip:100@carrier.example",
        outbound_proxy=("sip:10.0.0.1", "sip:sbc.example"),
        instance=INSTANCE,
        **options,
    )
    stack = office(sip, account)
    invite = Request("INVITE", "sip:100@10.0.0.50", to="<sip:100@10.0.0.50>")
    invite.flow = Connection(port, **flow)
    assert account.owns(invite) is is_owner
    assert (stack.accounts.of(invite) is account) is is_owner
    ended(sip, account)


def test_account_that_joins_again_knows_its_carrier(sip):
    sip.stack(Script(), host="10.0.0.1")
    account = Account(AOR, Credentials("100", "secret"))
    stack = office(sip, account)
    ended(sip, account)
    stack.accounts.add(account)
    invite = Request("INVITE", "sip:100@10.0.0.50", to="<sip:100@10.0.0.50>")
    invite.flow = Connection(5060, reliable=False)
    sip.clock.advance(1)
    assert account.owns(invite)
    ended(sip, account)


# ---- update()


def rows(*users, password="secret"):
    return [{"aor": f"sip:{user}@10.0.0.1", "password": password} for user in users]


def updated(sip, stack, table, **options):
    greenlet = gevent.spawn(stack.accounts.update, table, **options)
    sip.clock.advance(10)
    return greenlet.get(timeout=0)


def test_update_keeps_accounts_whose_row_is_as_before(sip):
    script = Script()
    sip.stack(script, host="10.0.0.1")
    by_code = Account("sip:1@10.0.0.1")
    stack = office(sip, by_code)
    first = updated(sip, stack, rows(100, 101, 102))
    sent = len(script.requests)
    second = updated(sip, stack, [*rows(103, 100), *rows(101, password="other")])
    assert second[1] is first[0] and second[2] is not first[1]
    users = [(each.to.uri.user, each.expires) for each in script.requests[sent:]]
    assert sorted(users[:2]) == [("101", 0), ("102", 0)]
    assert sorted(user for user, expires in users[2:] if expires) == ["101", "103"]
    assert all(account.is_up for account in second)
    assert first[1].ended and first[2].ended and by_code in stack.accounts
    assert updated(sip, stack, []) == []
    assert [*stack.accounts] == [by_code]
    ended(sip, by_code)


def test_update_with_an_invalid_row_changes_nothing(sip):
    script = Script()
    sip.stack(script, host="10.0.0.1")
    stack = sip.stack(host="10.0.0.50")
    before = stack.accounts.load(rows(100, 101))
    sip.clock.advance(1)
    with pytest.raises(InvalidValue, match="unknown key"):
        stack.accounts.update([*rows(100), {"aor": AOR, "colour": "red"}])
    assert [*stack.accounts] == before and all(each.is_up for each in before)
    assert updated(sip, stack, rows(101, 100)) == before[::-1]
    updated(sip, stack, ())


def test_update_waits_no_longer_than_its_timeout_for_silent_registrars(sip):
    script = Script()
    registrar = sip.stack(script, host="10.0.0.1")
    stack = sip.stack(host="10.0.0.50")
    stack.accounts.load(rows(*range(100, 110)))
    sip.clock.advance(1)
    sip.network.partition("10.0.0.1", "10.0.0.50")
    greenlet = gevent.spawn(stack.accounts.update, (), timeout=2)
    sip.clock.advance(3)
    assert greenlet.get(timeout=0) == [] and not len(stack.accounts)
    assert registrar.is_running
