"""Fields that the stack adds to requests and 2xx: Allow, Supported, Accept, Contact, Expires, and its defaults."""

from __future__ import annotations

import pytest

from sippet_gevent import InvalidValue, RegistrarProxy, Reject, Request, Stack, forward
from sippet_gevent.core.dialog.rules import RULES

from .wire import Peer

HEADERS = {
    "User-Agent": "office/1.0",
    "Server": "office/2.0",
    "Organization": "Example",
    "X-Site": "north",
}
UAS = "ACK, BYE, CANCEL, INVITE, OPTIONS"
IN_CALLS = ", ".join(sorted({*UAS.split(", "), *RULES.methods}))


@pytest.fixture
def peer(sip):
    return Peer(sip, "10.0.0.50", lambda request: request.response(200, contact="<sip:10.0.0.50>"))


def sent_by_us(sip, peer, method, *, stack=None, **headers):
    """Send a request to the peer, and return it as it came there."""
    stack = stack or sip.stack(supported=("timer", "100rel"))
    stack.send(Request(method, "sip:bob@10.0.0.50", **headers))
    sip.advance(0.1)
    return next(request for request in peer.requests if request.method == method)


def answer_to(sip, peer, method, core=lambda request, tx: 200, **headers):
    sip.serve(core, supported=("timer", "100rel"))
    peer.ask(method, **headers)
    sip.advance(0.1)
    return [response for response in peer.responses if response.status != 100][-1]


def names(message):
    """Return those fields of a message that these tests are about."""
    wanted = (
        "Accept",
        "Allow",
        "Supported",
        "Contact",
        "Expires",
        "User-Agent",
        "Server",
        "Organization",
    )
    return {name for name in wanted if name in message.headers}


# ---- requests

IN_REQUEST = {
    "INVITE": {"Allow", "Supported", "Contact"},
    "OPTIONS": {"Accept", "Supported"},
    "UPDATE": {"Supported", "Contact"},
    "SUBSCRIBE": {"Supported", "Contact"},
    "NOTIFY": {"Supported", "Contact"},
    "REFER": {"Supported", "Contact"},
    "MESSAGE": {"Supported"},
    "REGISTER": {"Supported"},
    "BYE": {"Supported"},
    "FOO": {"Supported"},
}


@pytest.mark.rfc("3261 13.2.1", "3261 8.1.1.9", "3261 11.1", "3311 5.1", "6665 3.1.1", "3515 2.2")
@pytest.mark.parametrize("method", IN_REQUEST)
def test_our_request_has_the_fields_of_its_method(sip, peer, method):
    request = sent_by_us(sip, peer, method)
    assert names(request) == IN_REQUEST[method]
    assert request.headers["Supported"] == ", ".join(sorted(RULES.option_tags))


@pytest.mark.rfc("3261 13.2.1", "3261 20.37", "4028 7.1", "3262 4")
@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
def test_request_of_a_stack_names_the_extensions_of_calls(sip, peer, method):
    request = sent_by_us(sip, peer, method, stack=sip.stack())
    assert request.supported == tuple(sorted(RULES.option_tags))
    assert {"100rel", "timer"} <= set(request.supported)
    if method == "INVITE":
        assert request.headers["Allow"] == IN_CALLS


@pytest.mark.rfc("3261 13.2.1", "3261 20.5")
def test_allow_of_an_invite_names_what_the_core_and_each_call_serve(sip, peer):
    stack = sip.stack()
    stack.on("MESSAGE")(lambda request, tx: 200)
    assert list(sent_by_us(sip, peer, "INVITE", stack=stack).allow) == [
        "ACK",
        "BYE",
        "CANCEL",
        "INVITE",
        "MESSAGE",
        "OPTIONS",
        *sorted(RULES.methods),
    ]
    peer.received.clear()
    stack.on("INFO")(lambda request, tx: 200)
    assert "INFO" in sent_by_us(sip, peer, "INVITE", stack=stack).allow


def test_field_that_the_application_has_set_stays(sip, peer):
    stack = sip.stack(supported=("timer",), headers=HEADERS)
    ours = {
        "allow": ("ACK",),
        "supported": ("path",),
        "user_agent": "mine",
        "organization": "Mine",
        "contact": "<sip:me@x>",
    }
    request = sent_by_us(sip, peer, "INVITE", stack=stack, **ours)
    for name, text in (
        ("Allow", "ACK"),
        ("Supported", "path"),
        ("User-Agent", "mine"),
        ("Organization", "Mine"),
    ):
        assert request.headers.all(name) == [text]


@pytest.mark.rfc("3261 19.1.1")
def test_to_of_a_request_has_neither_port_nor_way(sip, peer):
    stack = sip.stack()
    uri = "sip:bob:5@10.0.0.50:5060;user=phone;transport=udp;ttl=5;method=INVITE;x=1;lr?Subject=hi"
    stack.send(Request("OPTIONS", uri))
    sip.settle()
    assert peer.requests[0].headers["To"] == "<sip:bob:5@10.0.0.50;user=phone;x=1>"
    assert ":5060" not in peer.requests[0].headers["From"]


# ---- responses

IN_SUCCESS = {
    "INVITE": {"Allow", "Supported", "Contact"},
    "OPTIONS": {"Accept", "Allow", "Supported"},
    "UPDATE": {"Contact"},
    "SUBSCRIBE": {"Contact", "Expires"},
    "REFER": {"Contact"},
    "NOTIFY": set(),
    "MESSAGE": set(),
    "INFO": set(),
    "FOO": set(),
}
ANSWERS = {
    "status": lambda request, tx: 200,
    "response": lambda request, tx: request.response(200),
    "respond": lambda request, tx: tx.respond(200),
}


@pytest.mark.rfc(
    "3261 13.3.1.4", "3261 11.2", "3261 12.1.1", "3311 5.2", "6665 4.2.1.1", "3515 2.2"
)
@pytest.mark.parametrize("core", ANSWERS.values(), ids=list(ANSWERS))
@pytest.mark.parametrize("method", IN_SUCCESS)
def test_our_2xx_has_the_fields_of_its_method(sip, peer, method, core):
    response = answer_to(sip, peer, method, core)
    assert (response.status, names(response)) == (200, IN_SUCCESS[method])
    if "Contact" in response.headers:
        assert str(response.contact[0].uri) == "sip:10.0.0.1:5060"
    if method in ("INVITE", "OPTIONS"):
        assert response.headers["Allow"] == IN_CALLS
        assert {"100rel", "timer"} <= set(response.supported)


@pytest.mark.rfc("3261 14.2", "3311 5.2")
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_2xx_within_a_call_has_the_same_fields(sip, peer, method):
    calls = []

    def core(request, tx):
        if request.method == "UPDATE":
            return 200
        calls.append(tx.accept())
        calls[0].wait()
        return None

    peer.answer = None
    sip.serve(core, supported=("timer",))
    invite = peer.ask("INVITE")
    ok = peer.responses[-1]
    within = {"from_": invite.headers["From"], "to": ok.headers["To"], "call_id": invite.call_id}
    peer.ask("ACK", number=1, **within)
    peer.ask(method, number=2, contact="<sip:10.0.0.50>", **within)
    sip.settle()
    last = peer.responses[-1]
    assert (last.status, names(last)) == (200, IN_SUCCESS[method])
    peer.ask("ACK", number=2, **within) if method == "INVITE" else None
    peer.ask("BYE", number=3, **within)


@pytest.mark.rfc("6665 4.2.1.1")
@pytest.mark.parametrize(
    ("asked", "answered"), [({}, "3600"), ({"expires": 600}, "600"), ({"expires": 0}, "0")]
)
def test_2xx_to_subscribe_has_the_seconds_that_were_asked_for(sip, peer, asked, answered):
    assert (
        answer_to(sip, peer, "SUBSCRIBE", event="presence", **asked).headers["Expires"] == answered
    )


def test_2xx_to_subscribe_keeps_the_seconds_of_the_core(sip, peer):
    core = lambda request, tx: request.response(202, expires=60)  # noqa: E731
    assert answer_to(sip, peer, "SUBSCRIBE", core, expires=600).headers.all("Expires") == ["60"]


@pytest.mark.rfc("3261 20.5")
@pytest.mark.parametrize("status", [180, 404, 486])
def test_other_responses_have_none_of_these_fields(sip, peer, status):
    def core(request, tx):
        if status < 200:
            tx.respond(status)
            return 486
        return status

    sip.serve(core)
    peer.ask("INVITE")
    assert names(next(response for response in peer.responses if response.status == status)) <= {
        "Contact"
    }


# ---- defaults of a stack


@pytest.mark.rfc("3261 20.41")
@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "MESSAGE", "REGISTER", "BYE"])
def test_requests_have_the_defaults_but_server(sip, peer, method):
    request = sent_by_us(sip, peer, method, stack=sip.stack(headers=HEADERS))
    texts = [request.headers.get(name) for name in HEADERS]
    assert texts == ["office/1.0", None, "Example", "north"]


def rejects(request, tx):
    raise Reject(403)


@pytest.mark.rfc("3261 20.35")
@pytest.mark.parametrize(
    "core",
    [
        *ANSWERS.values(),
        lambda request, tx: 404,
        lambda request, tx: request.response(302, contact="<sip:x@y>"),
        rejects,
    ],
    ids=[*ANSWERS, "refusal", "redirect", "Reject"],
)
@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "MESSAGE"])
def test_responses_have_the_defaults_but_user_agent(sip, peer, method, core):
    sip.serve(core, headers=HEADERS)
    peer.ask(method)
    response = peer.responses[-1]
    assert [response.headers.get(name) for name in HEADERS] == [
        None,
        "office/2.0",
        "Example",
        "north",
    ]
    assert bytes(response).count(b"Content-Length") == 1


def test_accept_among_the_defaults_is_in_options(sip, peer):
    stack = sip.serve(
        lambda request, tx: 200, headers={"accept": ("application/sdp", "text/plain")}
    )
    peer.ask("OPTIONS")
    assert peer.responses[-1].headers["Accept"] == "application/sdp, text/plain"
    assert "Accept" not in sent_by_us(sip, peer, "MESSAGE", stack=stack).headers


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"User Agent": "x"}, "not a header name"),
        ({"User-Agent": "x\r\ny"}, "CR, LF"),
        ({"Organization": ""}, "must be one text"),
        ({"Contact": "<sip:x@y>"}, "belongs to one message"),
        ({"v": "SIP/2.0/UDP x"}, "belongs to one message"),
        ({"Allow": "INVITE"}, "@stack.on"),
        ({"k": "timer"}, "write supported="),
    ],
)
def test_defaults_that_make_no_sense_are_refused(headers, problem):
    with pytest.raises(InvalidValue, match=problem):
        Stack(headers=headers)


def test_responses_of_the_transaction_layer_have_no_defaults(sip, peer):
    sip.serve(lambda request, tx: tx.wait(30), headers=HEADERS)
    invite = peer.ask("INVITE")
    sip.advance(0.3)
    peer.send(invite.cancel())
    sip.settle()
    found = {(r.status, r.cseq.method): names(r) & {*HEADERS} for r in peer.responses}
    assert found == {
        (100, "INVITE"): set(),
        (200, "CANCEL"): set(),
        (487, "INVITE"): {"Server", "Organization"},
    }


def test_requests_of_the_transaction_layer_have_no_defaults(sip):
    def ringing(request):
        return 180 if request.method == "INVITE" else 200

    phone, stack = Peer(sip, "10.0.0.50", ringing), sip.stack(headers=HEADERS)
    tx = stack.send(Request("INVITE", "sip:bob@10.0.0.50"))
    sip.settle()
    tx.cancel()
    sip.settle()
    phone.reply(phone.last("INVITE"), 487)
    sip.settle()
    found = {request.method: names(request) & {*HEADERS} for request in phone.requests}
    assert found == {"INVITE": {"User-Agent", "Organization"}, "CANCEL": set(), "ACK": set()}


# ---- proxies


@pytest.mark.rfc("3261 16.6", "3261 16.7")
@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "SUBSCRIBE", "MESSAGE"])
def test_proxy_adds_none_of_these_fields(sip, peer, method):
    other = Peer(sip, "10.0.0.60", lambda request: request.response(200))
    sip.serve(
        lambda request, tx: forward(request, tx, "sip:bob@10.0.0.60"),
        supported=("timer",),
        headers=HEADERS,
    )
    asked = peer.ask(method)
    (request,) = [request for request in other.requests if request.method == method]
    (response,) = [response for response in peer.responses if response.status == 200]
    assert names(request) == names(asked)
    assert names(response) == set()
    assert "X-Site" not in request.headers and "X-Site" not in response.headers
    assert request.headers["To"] == asked.headers["To"]


@pytest.mark.rfc("3261 11.2")
def test_options_to_the_default_server_has_no_allow(sip, peer):
    sip.serve(RegistrarProxy())
    peer.ask("OPTIONS", "sip:10.0.0.1")
    assert (peer.statuses, names(peer.responses[-1])) == ([200], {"Accept", "Supported"})


def test_methods_that_peers_make_up_are_not_remembered_without_bound(sip, peer):
    stack = sip.serve(lambda request, tx: 200)
    for number in range(200):
        peer.ask(f"X{number}")
    assert len(stack.capabilities.ends) + len(stack.capabilities._successes) <= 128
