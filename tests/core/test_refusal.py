"""Refusals: fields of our own 4xx, and fields that cross a B2BUA, RFC 3261 §20 and §21."""

from __future__ import annotations

import pytest

from sippet_gevent import Core, Reject, forward
from sippet_gevent.core.refusal import FIELDS, NEEDY

from .wire import Peer

CALLER, CALLEE = "10.0.0.50", "10.0.0.60"
BOB = f"sip:bob@{CALLEE}"


def bridge(request, tx):
    """Call a peer for the caller, as a B2BUA does."""
    tx.stack.invite(BOB)


@pytest.fixture
def refused(sip):
    """Let a callee refuse the request of a B2BUA; return its response and the one that the caller gets."""

    def refused(status, core=bridge, **parts):
        sip.serve(core)
        caller, callee = Peer(sip, CALLER), Peer(sip, CALLEE)
        caller.ask("INVITE")
        body = parts.pop("body", b"")
        response = callee.last("INVITE").response(status, parts.pop("reason", None), body=body)
        for name, value in parts.items():
            response.headers[name.replace("_", "-")] = value
        callee.reply(callee.last("INVITE"), response)
        return response, caller.responses[-1]

    return refused


CHALLENGE = 'Digest realm="a", nonce="1", algorithm=MD5, qop="auth"'
SECURITY = "tls;q=0.2, ipsec-ike;q=0.1"

CROSSING = [
    (300, "Contact", ["<sip:a@192.0.2.1>;q=0.7", "<sip:b@192.0.2.1>;q=0.1"]),
    (301, "Contact", ["<sip:a@192.0.2.1>"]),
    (302, "Contact", ["<sip:a@192.0.2.1>;expires=20"]),
    (302, "Expires", ["60"]),
    (305, "Contact", ["<sip:proxy.example.com;lr>"]),
    (380, "Contact", ["<sip:a@192.0.2.1>"]),
    (399, "Contact", ["<sip:a@192.0.2.1>"]),
    (401, "WWW-Authenticate", [CHALLENGE, 'Digest realm="b", nonce="2"']),
    (401, "Proxy-Authenticate", [CHALLENGE]),
    (404, "Retry-After", ["60"]),
    (405, "Allow", ["INVITE, ACK, BYE"]),
    (407, "Proxy-Authenticate", [CHALLENGE]),
    (407, "WWW-Authenticate", [CHALLENGE]),
    (413, "Retry-After", ["60"]),
    (415, "Accept", ["application/sdp, text/plain;q=0.3"]),
    (415, "Accept-Encoding", ["gzip"]),
    (415, "Accept-Language", ["da, en;q=0.8"]),
    (417, "Accept-Resource-Priority", ["dsn.flash"]),
    (420, "Unsupported", ["100rel, timer"]),
    (421, "Require", ["timer"]),
    (421, "Proxy-Authenticate", [CHALLENGE]),
    (421, "WWW-Authenticate", [CHALLENGE]),
    (422, "Min-SE", ["1800"]),
    (423, "Min-Expires", ["300"]),
    (424, "Geolocation-Error", ['301; code="Unsupported Scheme"']),
    (424, "Geolocation", ["<cid:target123@example.com>"]),
    (424, "Geolocation-Routing", ["yes"]),
    (425, "AlertMsg-Error", ['100; code="Cannot process the alert payload"']),
    (469, "Recv-Info", ["infoX"]),
    (470, "Permission-Missing", ["sip:c@example.com"]),
    (480, "Retry-After", ["18000;duration=3600"]),
    (485, "Contact", ["<sip:carol.lee@example.com>"]),
    (486, "Retry-After", ["60 (in a meeting)"]),
    (488, "Warning", ['304 isi.edu "Media type not available"']),
    (489, "Allow-Events", ["presence, dialog"]),
    (494, "Security-Server", [SECURITY]),
    (494, "Require", ["sec-agree"]),
    (494, "Proxy-Authenticate", [CHALLENGE]),
    (494, "WWW-Authenticate", [CHALLENGE]),
    (500, "Retry-After", ["5"]),
    (599, "Retry-After", ["5"]),
    (503, "Retry-After", ["120"]),
    (600, "Retry-After", ["60"]),
    (603, "Retry-After", ["60"]),
    (603, "Error-Info", ["<sip:announcement@example.com>"]),
    (606, "Warning", ['399 b "one"', '399 b "two"']),
    (699, "Retry-After", ["60"]),
    (608, "Call-Info", ["<https://example.com/jws>;purpose=jwscard"]),
    (503, "Reason", ["Q.850;cause=34"]),
]


@pytest.mark.rfc("3261 20")
@pytest.mark.parametrize(
    ("status", "name", "texts"),
    CROSSING,
    ids=lambda value: str(value) if not isinstance(value, list) else "",
)
def test_refusal_passed_on_by_a_b2bua_has_the_fields_of_its_status(refused, status, name, texts):
    _, answer = refused(status, **{name.replace("-", "_"): texts})
    assert (answer.status, answer.headers.all(name)) == (status, texts)


def test_every_status_that_has_fields_is_tried_above():
    tried = {
        status: {name for other, name, _ in CROSSING if other == status} for status, *_ in CROSSING
    }
    for status, fields in FIELDS.items():
        missing = {*fields.needed, *fields.others} - tried.get(status, set()) - {"Security-Server"}
        assert not missing, f"{status}: {missing}"


def test_field_that_cannot_be_read_is_passed_on_as_it_came(refused):
    _, answer = refused(407, Proxy_Authenticate="Digest realm=a nonce")
    assert answer.headers.all("Proxy-Authenticate") == ["Digest realm=a nonce"]


@pytest.mark.rfc("3261 21.3.5")
def test_380_is_passed_on_with_its_body(refused):
    body = b"<?xml version='1.0'?><ims-3gpp/>"
    _, answer = refused(
        380, body=body, Content_Type="application/3gpp-ims+xml", Content_Disposition="render"
    )
    assert (answer.body, str(answer.content_type)) == (body, "application/3gpp-ims+xml")
    assert answer.headers["Content-Disposition"] == "render"


@pytest.mark.rfc("3261 8.1.3.2")
def test_unknown_3xx_is_passed_on_with_its_body_as_300_is(refused):
    _, answer = refused(399, body=b"<a/>", Content_Type="text/xml")
    assert (answer.body, str(answer.content_type)) == (b"<a/>", "text/xml")


@pytest.mark.rfc("3261 20.33")
@pytest.mark.parametrize("status", [501, 504, 604])
def test_refusal_without_right_to_retry_after_is_passed_on_without(refused, status):
    _, answer = refused(status, Retry_After=["60"])
    assert (answer.status, answer.headers.get("Retry-After")) == (status, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Contact", "<sip:bob@10.0.0.60>"),
        ("Record-Route", "<sip:10.0.0.60;lr>"),
        ("Server", "Callee/1.0"),
        ("Allow", "INVITE, ACK"),
        ("Supported", "timer"),
        ("Require", "100rel"),
        ("RSeq", "7"),
        ("P-Asserted-Identity", "<sip:bob@example.com>"),
        ("Organization", "Callee"),
        ("Date", "Sat, 13 Nov 2010 23:29:00 GMT"),
        ("X-Secret", "inside"),
    ],
)
def test_field_of_the_callee_s_own_leg_does_not_cross_a_b2bua(refused, name, value):
    _, answer = refused(486, **{name.replace("-", "_"): value})
    assert name not in answer.headers


@pytest.mark.rfc("3261 21.4.26")
def test_session_description_of_a_488_does_not_cross_a_b2bua(refused):
    _, answer = refused(488, body=b"v=0\r\n", Content_Type="application/sdp")
    assert (answer.body, "Content-Type" in answer.headers) == (b"", False)


@pytest.mark.rfc("3261 8.2.6.2")
def test_refusal_passed_on_has_the_dialog_of_the_caller(refused):
    theirs, answer = refused(486)
    assert answer.headers["Call-ID"] != theirs.headers["Call-ID"]
    assert answer.to.tag != theirs.to.tag
    assert len(answer.via) == 1


def test_header_that_a_core_gives_takes_the_place_of_the_callee_s(refused):
    def core(request, tx):
        try:
            bridge(request, tx)
        except Reject as refusal:
            raise Reject(503, response=refusal.response, retry_after="7") from refusal

    _, answer = refused(503, core, Retry_After="120")
    assert answer.headers.all("Retry-After") == ["7"]


def test_refusal_with_another_status_has_the_fields_of_that_one(refused):
    def core(request, tx):
        try:
            bridge(request, tx)
        except Reject as refusal:
            raise Reject(500, response=refusal.response) from refusal

    _, answer = refused(503, core, Retry_After="120", Contact="<sip:a@192.0.2.1>")
    assert (answer.status, answer.headers["Retry-After"], "Contact" in answer.headers) == (
        500,
        "120",
        False,
    )


# ---- what a core of ours leaves out


def refuse_with(status):
    def core(request, tx):
        raise Reject(status)

    return core


def respond_with(status):
    return lambda request, tx: tx.respond(status)


WAYS = pytest.mark.parametrize(
    "way",
    [refuse_with, respond_with, lambda s: lambda r, tx: s, lambda s: lambda r, tx: r.response(s)],
)


@WAYS
@pytest.mark.rfc("3261 8.2.1", "3261 21.4.6")
def test_405_of_a_core_has_allow(sip, way):
    answer = sip.ask(way(405), "MESSAGE sip:bob@example.com").response
    assert answer.allow == ("ACK", "BYE", "CANCEL", "INVITE", "OPTIONS")


@pytest.mark.rfc("3261 8.2.1")
def test_405_never_allows_the_method_that_it_refuses(sip):
    answer = sip.ask(lambda request, tx: 405, "INVITE sip:bob@example.com").response
    assert answer.allow == ("ACK", "BYE", "CANCEL", "OPTIONS")


@pytest.mark.rfc("3261 8.2.1")
def test_405_of_a_wrapped_core_allows_the_methods_that_are_served(sip):
    stack = sip.stack()
    stack.on("MESSAGE")(lambda request, tx: 200)
    inner = stack.core
    stack.core = lambda request, tx: 405 if request.method == "INFO" else inner(request, tx)
    answer = sip.ask(stack, "INFO sip:bob@example.com").response
    assert answer.allow == ("ACK", "BYE", "CANCEL", "MESSAGE", "OPTIONS")


@pytest.mark.rfc("3261 8.2.1")
def test_405_of_a_core_class_allows_what_the_class_says(sip):
    class Mine(Core):
        allowed = ("OPTIONS", "MESSAGE")

        def receive_request(self, request, tx):
            return 405

    assert sip.ask(Mine(), "INFO sip:bob@example.com").response.allow == ("OPTIONS", "MESSAGE")


@WAYS
@pytest.mark.rfc("3261 8.2.2.3", "3261 21.4.15")
def test_420_of_a_core_names_what_is_unsupported(sip, way):
    stack = sip.stack(way(420), supported=("timer",))
    answer = sip.ask(
        stack, "OPTIONS sip:bob@example.com", require=("timer", "x"), proxy_require="y"
    ).response
    assert answer.unsupported == ("x", "y")


def test_header_that_a_core_gives_with_a_405_stays(sip):
    assert sip.ask(
        lambda r, tx: r.response(405, allow="INFO"), "MESSAGE sip:bob@example.com"
    ).response.allow == ("INFO",)


@pytest.mark.parametrize("status", sorted(NEEDY - {405, 420}))
def test_refusal_that_lacks_a_field_only_its_core_knows_is_logged(sip, caplog, status):
    assert sip.ask(refuse_with(status), "INVITE sip:bob@example.com").statuses == [status]
    missing = ", ".join(FIELDS[status].needed)
    assert (
        f"refusal incomplete: answered={status} missing={missing} method=INVITE call_id="
        in caplog.text
    )


def test_405_of_a_callee_is_forwarded_by_a_proxy_as_it_came(sip):
    sip.serve(lambda request, tx: forward(request, tx, BOB))
    caller, callee = Peer(sip, CALLER), Peer(sip, CALLEE)
    caller.ask("MESSAGE")
    callee.reply(callee.last("MESSAGE"), 405)
    assert "Allow" not in caller.responses[-1].headers
