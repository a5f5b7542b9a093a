"""TrustDomain and privacy: who calls, asserted, removed and hidden at the edge, RFC 3325 and RFC 3323."""

from __future__ import annotations

import pytest

from sippet_gevent import (
    Authenticated,
    Credentials,
    InvalidValue,
    Location,
    RegistrarProxy,
    StaticResolver,
    TrustDomain,
    forward,
    parse,
)
from sippet_gevent.core.privacy import conceal, hides_its_caller, privacy_of

from .wire import Peer

DOMAIN = "example.com"
USERS = {"100": "secret", "101": "other"}
ALICE = f"sip:100@{DOMAIN}"
TRUSTED = "10.0.9.9"


class Edge:
    """A proxy with passwords; a callee, and a carrier that is trusted."""

    def __init__(self, sip, **options):
        self.sip = sip
        self.target = "sip:200@10.0.0.2"
        self.exempt = {TRUSTED}

        def core(request, tx):
            if request.method == "REGISTER":
                return 200
            return forward(request, tx, self.target)

        options = {"trusted": (TRUSTED,)} | options
        guarded = Authenticated(
            TrustDomain(core, **options), realm=DOMAIN, users=USERS, proxy=True,
            owns=lambda user, uri: uri.user == user or uri.scheme == "tel",
            exempt=lambda request, tx: tx.flow.remote[0] in self.exempt,
        )  # fmt: skip
        self.stack = sip.stack(guarded, host="10.0.0.1", domains=(DOMAIN,))
        self.callee = Peer(sip, "10.0.0.2", lambda request: 200)
        self.carrier = Peer(sip, TRUSTED, lambda request: 200)
        self.phone = sip.stack(host="10.0.0.50", resolver=StaticResolver({DOMAIN: ["10.0.0.1"]}))

    def send(self, user="100", method="MESSAGE", **headers):
        headers.setdefault("from_", f"Alice <sip:{user}@{DOMAIN}>")
        mine = Credentials(user, USERS[user], hosts=(DOMAIN,))
        return self.sip.run(
            self.phone.request, method, f"sip:200@{DOMAIN}", credentials=mine, **headers
        )

    def sent(self, **headers):
        """Send a request, and return what the callee got."""
        response = self.send(**headers)
        assert response.status == 200, response
        return self.callee.requests[-1]


@pytest.fixture
def edge(sip):
    return Edge(sip)


def asserted(request):
    return [str(value) for value in request.p_asserted_identity]


# ---- assertion


@pytest.mark.rfc("3325 5")
def test_identity_of_a_user_is_asserted_after_its_password(edge):
    assert asserted(edge.sent()) == [f"<{ALICE}>"]


@pytest.mark.rfc("3325 5")
def test_identity_that_a_user_writes_is_replaced(edge):
    request = edge.sent(p_asserted_identity=f'"Boss" <{ALICE}>')
    assert asserted(request) == [f"<{ALICE}>"]


REMOTE_PARTY = '"Boss" <sip:1@example.com>;party=calling;screen=yes'


@pytest.mark.parametrize(
    ("host", "privacy", "left"),
    [("10.0.0.66", "none", 0), (TRUSTED, "none", 1), (TRUSTED, "id", 0)],
)
def test_remote_party_id_stays_if_a_trusted_element_has_written_it(edge, host, privacy, left):
    edge.exempt.add(host)
    sender = edge.carrier if host == TRUSTED else Peer(edge.sip, host)
    message = sender.request("MESSAGE", f"sip:200@{DOMAIN}", privacy=privacy)
    message.headers["Remote-Party-ID"] = REMOTE_PARTY
    sender.send(message, to="10.0.0.1")
    (request,) = edge.callee.requests
    assert request.headers.all("Remote-Party-ID") == [REMOTE_PARTY] * left


def test_remote_party_id_of_a_callee_is_removed(edge):
    def answer(request):
        response = request.response(200)
        response.headers["Remote-Party-ID"] = REMOTE_PARTY
        return response

    edge.callee.answer = answer
    assert "Remote-Party-ID" not in edge.send().headers


@pytest.mark.rfc("3325 6")
def test_preferred_identity_is_asserted_and_never_goes_on(edge):
    preferred = f"<sip:100@sales.{DOMAIN}>, <tel:+4930100>"
    request = edge.sent(p_preferred_identity=preferred)
    assert asserted(request) == [f"<sip:100@sales.{DOMAIN}>", "<tel:+4930100>"]
    assert "P-Preferred-Identity" not in request.headers


@pytest.mark.rfc("3325 6")
def test_preferred_identity_of_another_user_is_403(edge):
    assert edge.send(p_preferred_identity=f"<sip:101@{DOMAIN}>").status == 403
    assert not edge.callee.requests


@pytest.mark.rfc("3325 5")
def test_anonymous_caller_is_asserted_by_its_user_name(edge):
    anonymous = "Anonymous <sip:anonymous@anonymous.invalid>"
    assert asserted(edge.sent(from_=anonymous)) == [f"<{ALICE}>"]


@pytest.mark.rfc("3325 6")
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ['"Alice" <sip:100@example.com>']),
        ({"p_preferred_identity": "<tel:+4930101>"}, ["<tel:+4930101>"]),
        ({"p_preferred_identity": "<tel:+999>"}, ['"Alice" <sip:100@example.com>']),
        ({"from_": "<sip:anonymous@anonymous.invalid>"}, ['"Alice" <sip:100@example.com>']),
    ],
)
def test_application_says_which_identities_a_user_has(sip, headers, expected):
    edge = Edge(sip, identities=lambda user: [f"Alice <sip:{user}@{DOMAIN}>", "tel:+4930101"])
    assert asserted(edge.sent(**headers)) == expected


def test_user_without_an_identity_asserts_none(sip):
    assert asserted(Edge(sip, identities=lambda user: ()).sent()) == []


@pytest.mark.rfc("3325 5")
def test_what_a_trusted_element_asserts_stays(edge):
    edge.carrier.ask("MESSAGE", f"sip:200@{DOMAIN}", at="10.0.0.1",
                     p_asserted_identity='"Bob" <tel:+123>')  # fmt: skip
    assert asserted(edge.callee.requests[-1]) == ['"Bob" <tel:+123>']


@pytest.mark.rfc("3325 5")
def test_application_says_whose_assertions_are_believed(sip):
    edge = Edge(sip, trusted=(), is_trusted=lambda request, tx: request.from_.uri.user == "carrier")
    for user, expected in (("carrier", ["<tel:+123>"]), ("other", [])):
        edge.carrier.ask("MESSAGE", f"sip:200@{DOMAIN}", at="10.0.0.1",
                         from_=f"<sip:{user}@x>;tag=1", p_asserted_identity="<tel:+123>")  # fmt: skip
        assert asserted(edge.callee.requests[-1]) == expected


@pytest.mark.rfc("3325 5")
def test_what_a_stranger_asserts_is_removed(edge):
    stranger = Peer(edge.sip, "10.0.0.66")
    edge.exempt.add(stranger.host)
    stranger.ask("MESSAGE", f"sip:200@{DOMAIN}", at="10.0.0.1",
                 p_asserted_identity="<tel:+123>", p_preferred_identity="<tel:+1>")  # fmt: skip
    request = edge.callee.requests[-1]
    assert not {"P-Asserted-Identity", "P-Preferred-Identity"} & set(request.headers)


@pytest.mark.rfc("3325 5")
@pytest.mark.parametrize(("trusted", "expected"), [((TRUSTED,), []), (("10.0.0.2",), ["<tel:+1>"])])
def test_what_a_callee_asserts_is_removed_unless_it_is_trusted(sip, trusted, expected):
    edge = Edge(sip, trusted=trusted)
    edge.callee.answer = lambda request: request.response(200, p_asserted_identity="<tel:+1>")
    assert asserted(edge.send()) == expected


# ---- privacy


@pytest.mark.rfc("3325 7")
@pytest.mark.rfc("3323 5")
def test_identity_of_a_caller_that_wants_privacy_stays_in_the_domain(edge):
    request = edge.sent(privacy="id")
    assert not {"P-Asserted-Identity", "Privacy"} & set(request.headers)
    edge.target = f"sip:200@{TRUSTED}"
    edge.send(privacy="id")
    request = edge.carrier.requests[-1]
    assert asserted(request) == [f"<{ALICE}>"]
    assert request.privacy == ("id",)


@pytest.mark.rfc("3323 4.2")
def test_privacy_none_changes_nothing(edge):
    request = edge.sent(privacy="none", subject="hello")
    assert request.privacy == ("none",)
    assert asserted(request) == [f"<{ALICE}>"]
    assert request.subject == "hello"


@pytest.mark.rfc("3323 5.3")
@pytest.mark.parametrize(
    ("from_", "left"), [("<sip:anonymous@anonymous.invalid>", ()), (f"<{ALICE}>", ("user",))]
)
def test_user_privacy_removes_what_tells_of_the_caller(edge, from_, left):
    told = {"subject": "hello", "user_agent": "x", "organization": "y", "reply_to": f"<{ALICE}>",
            "call_info": "<http://a>;purpose=icon", "in_reply_to": "1"}  # fmt: skip
    request = edge.sent(privacy="user", from_=from_, **told)
    assert not {
        "Subject",
        "User-Agent",
        "Organization",
        "Reply-To",
        "Call-Info",
        "In-Reply-To",
    } & set(request.headers)
    assert (request.privacy or ()) == left


@pytest.mark.rfc("3323 5")
@pytest.mark.parametrize(
    ("privacy", "status", "reason"),
    [
        ("id;critical", 200, ""),
        ("header;id;critical", 500, "Privacy Failure: header"),
        ("header;session;critical", 500, "Privacy Failure: header, session"),
        ("user;critical", 500, "Privacy Failure: user"),
        ("new;critical", 500, "Privacy Failure: new"),
        ("header;session", 200, ""),
        ("none;critical", 200, ""),
    ],
)
def test_critical_privacy_that_a_proxy_cannot_give_is_500(edge, privacy, status, reason):
    response = edge.send(privacy=privacy)
    assert response.status == status
    assert not reason or response.reason == reason
    assert len(edge.callee.requests) == (status == 200)


@pytest.mark.rfc("3323 5")
def test_core_that_answers_itself_needs_no_privacy_service(sip):
    """Privacy is for what leaves (RFC 3323 §5)."""
    edge = Edge(sip)
    edge.stack.core.core.core = lambda request, tx: 204
    assert edge.send(privacy="header;critical").status == 204


@pytest.mark.rfc("3323 5")
def test_privacy_that_is_left_stays_for_the_next_proxy(edge):
    assert edge.sent(privacy="header;id").privacy == ("header",)


@pytest.mark.rfc("3323 4.3")
@pytest.mark.rfc("3323 5")
@pytest.mark.parametrize(("privacy", "left"), [("id", ()), ("header;id", ("privacy",)), (None, ())])
def test_proxy_require_privacy_is_understood(edge, privacy, left):
    headers = {} if privacy is None else {"privacy": privacy}
    assert edge.sent(proxy_require="privacy", **headers).proxy_require == left


def test_proxy_require_of_another_tag_is_420(edge):
    assert edge.send(proxy_require="privacy, other", privacy="id").status == 420


@pytest.mark.rfc("3325 7")
def test_callee_with_privacy_is_hidden_from_the_caller(sip):
    edge = Edge(sip, trusted=("10.0.0.2",))
    edge.callee.answer = lambda request: request.response(
        200, p_asserted_identity="<tel:+1>", privacy="id"
    )
    response = edge.send()
    assert not {"P-Asserted-Identity", "Privacy"} & set(response.headers)


def test_callee_with_unreadable_privacy_is_hidden(sip):
    edge = Edge(sip, trusted=("10.0.0.2",))

    def answer(request):
        response = request.response(200, p_asserted_identity="<tel:+1>")
        return parse(bytes(response).replace(b"\r\n\r\n", b"\r\nPrivacy: a b\r\n\r\n"))

    edge.callee.answer = answer
    response = edge.send()
    assert (response.status, "P-Asserted-Identity" in response.headers) == (200, False)


def test_unreadable_privacy_is_400(edge):
    edge.exempt.add("10.0.0.66")
    stranger = Peer(edge.sip, "10.0.0.66")
    request = stranger.request("MESSAGE", f"sip:200@{DOMAIN}")
    stranger.send(bytes(request).replace(b"\r\n\r\n", b"\r\nPrivacy: a b\r\n\r\n"), to="10.0.0.1")
    assert stranger.statuses == [400]


# ---- anonymous calls


@pytest.mark.rfc("5079 4")
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"privacy": "id", "from_": "<sip:anonymous@anonymous.invalid>"}, 433),
        ({"privacy": "none", "from_": "<sip:anonymous@anonymous.invalid>"}, 200),
        ({"privacy": "id"}, 200),
    ],
)
def test_callee_may_refuse_anonymous_calls(sip, headers, status):
    edge = Edge(sip, allow_anonymous=lambda uri: uri.user != "200")
    edge.callee.answer = lambda request: 486 if request.method == "INVITE" else 200
    headers.setdefault("from_", f"Alice <{ALICE}>")
    mine = Credentials("100", "secret", hosts=(DOMAIN,))
    with pytest.raises(Exception, match=str(433 if status == 433 else 486)):
        sip.run(edge.phone.invite, f"sip:200@{DOMAIN}", credentials=mine, **headers)


def test_anonymous_without_an_identity_hides_its_caller():
    text = (
        "INVITE sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nTo: <sip:b@x>\r\n"
        "From: <sip:anonymous@ANONYMOUS.invalid>;tag=1\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n"
        "Privacy: ID; Critical\r\nContent-Length: 0\r\n\r\n"
    )
    request = parse(text.encode())
    assert hides_its_caller(request)
    assert privacy_of(request) == ("id", "critical")
    conceal(request, is_trusted=False)
    assert "Privacy" not in request.headers


# ---- with the default server


@pytest.mark.rfc("3325 5")
def test_phone_cannot_register_the_name_of_a_trusted_host_to_learn_callers(sip):
    core = TrustDomain(RegistrarProxy(Location()), trusted=(TRUSTED,))
    guarded = Authenticated(core, realm=DOMAIN, users=USERS)
    sip.stack(guarded, host="10.0.0.1", domains=(DOMAIN,))
    phone, other = (
        sip.stack(host=host, resolver=StaticResolver({DOMAIN: ["10.0.0.1"]}))
        for host in ("10.0.0.50", "10.0.0.51")
    )
    seen = []
    other.on("MESSAGE")(lambda request, tx: seen.append(request) or 200)
    for stack, user, contact in ((phone, "100", "10.0.0.50"), (other, "101", TRUSTED)):
        mine = Credentials(user, USERS[user], hosts=(DOMAIN,))
        answer = sip.run(stack.request, "REGISTER", f"sip:{DOMAIN}", credentials=mine,
                         to=f"sip:{user}@{DOMAIN}", from_=f"sip:{user}@{DOMAIN}",
                         contact=f"<sip:{user}@{contact};ob>")  # fmt: skip
        assert answer.status == 200
    mine = Credentials("100", "secret", hosts=(DOMAIN,))
    answer = sip.run(phone.request, "MESSAGE", f"sip:101@{DOMAIN}", credentials=mine,
                     from_="<sip:anonymous@anonymous.invalid>", privacy="id")  # fmt: skip
    assert answer.status == 200
    assert "P-Asserted-Identity" not in seen[0].headers


# ---- arguments


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"trusted": "10.0.0.1"}, TypeError),
        ({"trusted": ("10.0.0.1/99",)}, InvalidValue),
        ({"trusted": ("sip:x",)}, InvalidValue),
        ({"identities": 5}, TypeError),
        ({"is_trusted": lambda request: True}, TypeError),
        ({"identities": lambda: ()}, TypeError),
        ({"allow_anonymous": lambda: True}, TypeError),
    ],
)
def test_wrong_argument_is_refused(options, error):
    with pytest.raises(error):
        TrustDomain(lambda request, tx: 200, **options)
