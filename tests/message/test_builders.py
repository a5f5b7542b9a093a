"""Messages made here: a request of its parts, a response of its request, the ACK and the CANCEL of an INVITE."""

import pytest

from sippet_gevent.errors import InvalidValue, ParseError, Reject
from sippet_gevent.message.headers import Headers
from sippet_gevent.message.iana import STATUSES, reason_phrase
from sippet_gevent.message.identifiers import (
    MAGIC_COOKIE,
    create_branch,
    create_call_id,
    create_tag,
)
from sippet_gevent.message.message import Request, Response
from sippet_gevent.message.parser import parse
from sippet_gevent.message.uri import URI

from ..conformance import corpus

INVITE = b"""INVITE sip:bob@biloxi.com;user=phone SIP/2.0
Via: SIP/2.0/UDP proxy.atlanta.com;branch=z9hG4bKproxy
v  : SIP/2.0/UDP  pc33.atlanta.com;branch=z9hG4bKpc33
Record-Route: <sip:p2.example.com;lr>
Record-Route:<sip:p1.example.com;lr>
Route: <sip:next.example.com;lr>
Max-Forwards: 69
t:  Bob <sip:bob@biloxi.com>
From: "Alice"<sip:alice@atlanta.com>;tag=1928301774
Call-ID : a84b4c76e66710@pc33.atlanta.com
CSeq: 314159 INVITE
Contact: <sip:alice@pc33.atlanta.com>
Require: 100rel
Proxy-Require: foo
Timestamp: 54.21
Subject: not echoed
Content-Type: application/sdp
Content-Length: 4

v=0
""".replace(b"\n", b"\r\n").replace(b"v=0\r\n", b"v=0\n")


@pytest.fixture
def invite() -> Request:
    request = parse(INVITE)
    assert isinstance(request, Request)
    return request


def lines_of(message: Request | Response) -> list[str]:
    return bytes(message).partition(b"\r\n\r\n")[0].decode().split("\r\n")


# ---- requests


def test_request_is_made_of_its_parts():
    request = Request(
        "OPTIONS", "sip:bob@example.com", contact="<sip:me@192.0.2.1>", max_forwards=70, body="x"
    )
    assert bytes(request) == (
        b"OPTIONS sip:bob@example.com SIP/2.0\r\nContact: <sip:me@192.0.2.1>\r\nMax-Forwards: 70\r\nContent-Length: 1\r\n\r\nx"
    )


def test_request_takes_a_uri_as_it_is():
    assert Request("OPTIONS", URI("sip", "b ob", "h")).uri_text == "sip:b%20ob@h"


def test_unknown_header_is_a_type_error():
    with pytest.raises(TypeError, match="x_unknown"):
        Request("OPTIONS", "sip:a@b", x_unknown="1")


@pytest.mark.parametrize("name", ["body", "flow", "headers", "method", "uri", "start_line"])
def test_keyword_without_a_header_field_is_a_type_error(name):
    with pytest.raises(TypeError):
        Request("OPTIONS", "sip:a@b").response(200, **{name: "1"}) if name != "body" else Request(
            "OPTIONS", "sip:a@b", cseq_number=1
        )


@pytest.mark.parametrize(
    "method, uri",
    [
        ("", "sip:a"),
        ("A B", "sip:a"),
        ("OPTIONS", ""),
        ("OPTIONS", "a b"),
        ("OPTIONS", "<sip:a>"),
        ("OPTIONS", "*"),
    ],
)
def test_request_that_could_not_be_sent_is_refused(method, uri):
    with pytest.raises(InvalidValue):
        Request(method, uri)


def test_refused_uri_leaves_the_one_that_was_there():
    request = Request("OPTIONS", "sip:a@b")
    with pytest.raises(InvalidValue):
        request.uri = "sip:"
    assert request.uri_text == "sip:a@b"


def test_copy_of_a_request_changes_alone(invite):
    copy = invite.copy()
    copy.max_forwards -= 1
    copy.uri = "sip:other@example.com"
    assert bytes(invite) == INVITE


@pytest.mark.parametrize(
    "change",
    [
        lambda request: setattr(request, "uri", "sip:other@example.com"),
        lambda request: setattr(request, "method", "OPTIONS"),
        lambda request: setattr(request, "body", b"other"),
        lambda request: setattr(request, "subject", "other"),
        lambda request: request.headers.add("X-Other", "1"),
        lambda request: request.headers.set_line(0, "SIP/2.0/UDP other.example.com"),
        lambda request: request.headers.delete_header("Subject"),
    ],
    ids=["uri", "method", "body", "header", "line added", "line set", "header deleted"],
)
def test_no_change_of_a_parsed_request_is_lost_when_it_is_written(invite, change):
    change(invite)
    assert bytes(invite) != INVITE


def test_body_given_to_a_parsed_request_without_content_length_is_counted():
    request = parse(corpus.without("Content-Length"))
    request.body = b"123"
    assert bytes(request).endswith(b"\r\nContent-Length: 3\r\n\r\n123")


def test_parsed_response_is_written_with_the_reason_it_was_given(invite):
    response = parse(bytes(invite.response(200)))
    response.reason = "Other"
    assert bytes(response).startswith(b"SIP/2.0 200 Other\r\n")


def test_messages_are_equal_if_their_bytes_are(invite):
    assert invite == parse(INVITE) and invite != invite.response(200)


def test_body_is_bytes_or_text_and_nothing_is_added():
    assert [Request("MESSAGE", "sip:a@b", body=body).body for body in ("é\r\n", b"\0\xff")] == [
        "é\r\n".encode(),
        b"\0\xff",
    ]


# ---- responses


@pytest.mark.rfc("3261 8.2.6.2")
def test_response_has_the_lines_of_its_request_as_they_came(invite):
    assert [
        line for line in lines_of(invite.response(486)) if not line.startswith(("To", "SIP"))
    ] == [
        "Via: SIP/2.0/UDP proxy.atlanta.com;branch=z9hG4bKproxy",
        "v  : SIP/2.0/UDP  pc33.atlanta.com;branch=z9hG4bKpc33",
        'From: "Alice"<sip:alice@atlanta.com>;tag=1928301774',
        "Call-ID : a84b4c76e66710@pc33.atlanta.com",
        "CSeq: 314159 INVITE",
        "Content-Length: 0",
    ]


@pytest.mark.rfc("3261 8.2.6.2")
def test_response_has_vias_in_the_order_of_its_request(invite):
    assert invite.response(200).via == invite.via


@pytest.mark.rfc("3261 8.2.6.2")
def test_every_response_to_a_request_has_one_to_tag(invite):
    tags = {invite.response(status).to.tag for status in (180, 183, 200, 486)} | {invite.to_tag}
    assert len(tags) == 1 and None not in tags


@pytest.mark.rfc("3261 19.3")
def test_two_requests_get_two_tags():
    assert parse(INVITE).response(200).to.tag != parse(INVITE).response(200).to.tag


@pytest.mark.rfc("3261 8.2.6.2")
@pytest.mark.parametrize(
    "to",
    [
        "<sip:b@c>;tag=there",
        "sip:b@c;tag=there",
        "<sip:b@c> ; TAG = there",
        '"tag=x" <sip:b@c>;x=1;tag=there',
        "<sip:b@c;tag=no>;tag=there",
    ],
)
def test_to_tag_that_is_there_is_kept_and_not_doubled(to):
    request = parse(corpus.message(f"To: {to}"))
    assert request.response(200).headers["To"] == to


@pytest.mark.rfc("3261 8.2.6.2")
@pytest.mark.parametrize(
    "to", ["<sip:b@c;tag=uri>", '"a;tag=x" <sip:b@c>', "sip:tag@c", "sip:b@c", "<sip:b@c>;xtag=1"]
)
def test_to_without_a_tag_of_its_own_gets_one(to):
    request = parse(corpus.message(f"To: {to}"))
    assert request.response(200).to.tag == request.to_tag


@pytest.mark.rfc("3261 8.2.6.2")
@pytest.mark.parametrize(
    "to", ['"a;tag=x" <sip:b@c', "<sip:b@c;tag=uri>;é=1", '<sip:b@c>;é="a;tag=x"']
)
def test_tag_in_quotes_of_an_unreadable_to_is_not_taken_for_its_tag(to):
    request = Request.read("OPTIONS", "sip:b@c", Headers([("To", ": ", to)]), b"")
    request.use_to_tag("mine")
    assert request.response(400).headers["To"] == f"{to};tag=mine"


@pytest.mark.rfc("3261 8.2.6.2")
def test_tag_of_an_unreadable_to_is_kept_and_not_doubled():
    request = Request.read(
        "OPTIONS", "sip:b@c", Headers([("To", ": ", '"a <sip:b@c>;tag=there')]), b""
    )
    assert request.response(400).headers["To"] == '"a <sip:b@c>;tag=there'


@pytest.mark.rfc("3261 8.2.6.2")
def test_100_has_no_to_tag(invite):
    assert invite.response(100).to.tag is None


@pytest.mark.rfc("3261 8.2.6.1")
def test_100_has_the_timestamp_of_its_request(invite):
    assert invite.response(100).timestamp == ("54.21", None)


@pytest.mark.rfc("3261 8.2.6.1")
def test_100_to_a_request_without_a_timestamp_has_none():
    assert parse(corpus.OPTIONS).response(100).timestamp is None


@pytest.mark.rfc("3261 12.1.1")
@pytest.mark.parametrize("status", [180, 183, 199, 200, 202])
def test_response_that_makes_a_dialog_has_the_record_routes_in_order(invite, status):
    assert [route.uri.host for route in invite.response(status).record_route] == [
        "p2.example.com",
        "p1.example.com",
    ]


@pytest.mark.rfc("3261 12.1.1")
@pytest.mark.parametrize("status", [100, 302, 404, 487, 500, 603])
def test_response_that_makes_no_dialog_has_no_record_route(invite, status):
    assert invite.response(status).record_route == ()


@pytest.mark.rfc("3261 12.1.1")
@pytest.mark.parametrize("method", ["OPTIONS", "BYE", "REGISTER", "MESSAGE"])
def test_response_to_a_method_that_makes_no_dialog_has_no_record_route(method):
    request = parse(INVITE.replace(b"INVITE", method.encode()))
    assert request.response(200).record_route == ()


@pytest.mark.rfc("6665 4.4.1")
@pytest.mark.parametrize("method", ["SUBSCRIBE", "NOTIFY", "REFER"])
def test_response_to_a_method_of_events_has_the_record_routes(method):
    request = parse(INVITE.replace(b"INVITE", method.encode()))
    assert len(request.response(200).record_route) == 2


def test_response_takes_a_reason_a_body_and_headers(invite):
    response = invite.response(
        200, "Fine", body=b"x", contact="<sip:bob@192.0.2.4>", content_type="text/plain"
    )
    assert (
        response.reason,
        response.body,
        response.contact[0].uri.user,
        response.content_type.name,
    ) == (
        "Fine",
        b"x",
        "bob",
        "text/plain",
    )


def test_response_without_a_reason_has_the_registered_phrase(invite):
    assert lines_of(invite.response(486))[0] == "SIP/2.0 486 Busy Here"


def test_empty_reason_is_a_reason(invite):
    assert lines_of(invite.response(200, ""))[0] == "SIP/2.0 200 "


@pytest.mark.parametrize("status", [0, 99, 700, -1, 1000])
def test_status_out_of_range_is_refused(invite, status):
    with pytest.raises(InvalidValue):
        invite.response(status)


@pytest.mark.parametrize("name", ["Via", "From", "To", "Call-ID", "CSeq", "Max-Forwards"])
@pytest.mark.parametrize("status", [100, 180, 400, 500])
def test_response_is_built_from_what_is_left_of_a_request(name, status):
    request = parse(corpus.OPTIONS)
    del request.headers[name]
    assert name not in request.response(status).headers


@pytest.mark.parametrize(
    "text", ["<sip:b@c", '"b <sip:b@c>', "", "<<>>;tag", "\x01", "sip:b@c;tag=a b"]
)
def test_response_is_built_from_a_to_that_cannot_be_read(text):
    request = parse(corpus.OPTIONS)
    request.headers["To"] = text
    head = lines_of(request.response(400))
    assert head[0] == "SIP/2.0 400 Bad Request" and any(
        line.startswith(f"To: {text}") for line in head
    )


def test_response_leaves_its_request_as_it_was(invite):
    invite.response(200, contact="<sip:bob@192.0.2.4>").via = ()
    assert bytes(invite) == INVITE


@pytest.mark.parametrize(
    "status, provisional, success",
    [
        (100, True, False),
        (199, True, False),
        (200, False, True),
        (299, False, True),
        (300, False, False),
    ],
)
def test_response_knows_its_class(status, provisional, success):
    response = Response(status)
    assert (response.is_provisional, response.is_success) == (provisional, success)


def test_reject_has_a_status_that_refuses():
    with pytest.raises(InvalidValue):
        Reject(200)


@pytest.mark.rfc("3261 8.1.3.2")
@pytest.mark.parametrize(
    "status, phrase",
    [
        (404, "Not Found"),
        (499, "Request Failure"),
        (299, "Success"),
        (199, "Early Dialog Terminated"),
    ],
)
def test_status_has_a_phrase_or_that_of_its_class(status, phrase):
    assert reason_phrase(status) == phrase


def test_every_phrase_can_be_written_and_read():
    assert all(
        parse(bytes(parse(corpus.OPTIONS).response(status))).reason == phrase
        for status, phrase in STATUSES.items()
    )


# ---- ACK, §17.1.1.3


@pytest.fixture
def busy(invite) -> Response:
    response = parse(bytes(invite.response(486)))
    assert isinstance(response, Response)
    return response


@pytest.mark.rfc("3261 17.1.1.3")
def test_ack_has_one_via_the_top_one_of_its_invite(invite, busy):
    assert invite.ack(busy).via == invite.via[:1]


@pytest.mark.rfc("3261 17.1.1.3")
def test_ack_has_the_top_via_of_several_on_one_line(busy):
    invite = parse(INVITE.replace(b"\r\nv  : ", b" , "))
    assert invite.ack(busy).via == invite.via[:1]


@pytest.mark.rfc("3261 17.1.1.3")
def test_ack_has_the_to_of_the_response(invite, busy):
    assert invite.ack(busy).to == busy.to and busy.to.tag


@pytest.mark.rfc("3261 17.1.1.3")
def test_ack_has_uri_call_id_from_and_route_of_its_invite(invite, busy):
    ack = invite.ack(busy)
    assert (ack.uri, ack.call_id, ack.from_, ack.route) == (
        invite.uri,
        invite.call_id,
        invite.from_,
        invite.route,
    )


@pytest.mark.rfc("3261 17.1.1.3")
def test_ack_has_the_cseq_number_of_its_invite_and_its_own_method(invite, busy):
    assert (invite.ack(busy).method, invite.ack(busy).cseq) == ("ACK", (314159, "ACK"))


@pytest.mark.rfc("3261 8.1.1.6")
def test_ack_has_max_forwards_70(invite, busy):
    assert invite.ack(busy).max_forwards == 70


@pytest.mark.rfc("3261 17.1.1.3")
def test_ack_has_nothing_else_of_its_invite(invite, busy):
    assert sorted(invite.ack(busy).headers) == [
        "CSeq",
        "Call-ID",
        "From",
        "Max-Forwards",
        "Route",
        "To",
        "Via",
    ]


@pytest.mark.rfc("3261 17.1.1.3")
def test_ack_has_no_body(invite, busy):
    assert invite.ack(busy).body == b"" and b"\r\nContent-Length: 0\r\n" in bytes(invite.ack(busy))


def test_ack_parses(invite, busy):
    assert parse(bytes(invite.ack(busy))).method == "ACK"


# ---- CANCEL, §9.1


@pytest.mark.rfc("3261 9.1")
def test_cancel_has_one_via_the_top_one_of_its_request(invite):
    assert invite.cancel().via == invite.via[:1]


@pytest.mark.rfc("3261 9.1")
def test_cancel_has_uri_call_id_to_from_and_route_of_its_request(invite):
    cancel = invite.cancel()
    expected = (invite.uri_text, invite.call_id, invite.to, invite.from_, invite.route)
    assert (cancel.uri_text, cancel.call_id, cancel.to, cancel.from_, cancel.route) == expected


@pytest.mark.rfc("3261 9.1")
def test_cancel_has_the_cseq_number_of_its_request_and_its_own_method(invite):
    assert (invite.cancel().method, invite.cancel().cseq) == ("CANCEL", (314159, "CANCEL"))


@pytest.mark.rfc("3261 9.1")
def test_cancel_has_no_require_and_no_proxy_require(invite):
    assert sorted(invite.cancel().headers) == [
        "CSeq",
        "Call-ID",
        "From",
        "Max-Forwards",
        "Route",
        "To",
        "Via",
    ]


@pytest.mark.rfc("3261 9.1")
def test_cancel_has_no_to_tag_that_its_request_has_not(invite):
    _ = invite.response(180)
    assert invite.cancel().to.tag is None


def test_cancel_parses(invite):
    assert parse(bytes(invite.cancel())).method == "CANCEL"


@pytest.mark.parametrize("build", ["cancel", "ack"])
def test_request_without_cseq_has_neither_ack_nor_cancel(build):
    request = Request("INVITE", "sip:a@b")
    with pytest.raises((InvalidValue, ParseError)):
        request.cancel() if build == "cancel" else request.ack(Response(486))


# ---- identifiers


@pytest.mark.rfc("3261 19.3")
def test_tags_have_64_random_bits_and_are_tokens():
    assert len({create_tag() for _ in range(1000)}) == 1000 and all(
        len(create_tag()) == 16 for _ in range(10)
    )


@pytest.mark.rfc("3261 8.1.1.7")
def test_branches_begin_with_the_cookie_and_differ():
    branches = {create_branch() for _ in range(1000)}
    assert len(branches) == 1000 and all(
        branch.startswith(MAGIC_COOKIE) and len(branch) == 39 for branch in branches
    )


@pytest.mark.rfc("3261 8.1.1.4")
def test_call_ids_differ():
    assert len({create_call_id() for _ in range(1000)}) == 1000


@pytest.mark.rfc("3261 8.2.6.2")
@pytest.mark.parametrize(
    "to, answered",
    [
        ("<sip:b@c>;tag=", "<sip:b@c>;tag=x"),
        ("<sip:b@c>;tag", "<sip:b@c>;tag=x"),
        ("<sip:b@c>; Tag = ;a=1", "<sip:b@c>;a=1;tag=x"),
        ("sip:b@c;tag=", "sip:b@c;tag=x"),
        ("<sip:b@c;tag;lr>", "<sip:b@c;tag;lr>;tag=x"),
        ("<sip:montag@c>", "<sip:montag@c>;tag=x"),
        ('<sip:b@c>;note="a;tag=;b"', '<sip:b@c>;note="a;tag=;b";tag=x'),
        ('<sip:b@c>;tag=;note=">"', '<sip:b@c>;note=">";tag=x'),
        ('sip:b@c;note="<a;tag=>";tag', 'sip:b@c;note="<a;tag=>";tag=x'),
        ('"<a>;tag=" <sip:b@c>', '"<a>;tag=" <sip:b@c>;tag=x'),
        ('<sip:b@c>;tag=""', "<sip:b@c>;tag=x"),
    ],
)
def test_empty_to_tag_gives_way_to_ours(to, answered):
    request = parse(corpus.message(f"To: {to}"))
    request.use_to_tag("x")
    assert [request.response(200).headers["To"], parse(request.answer(200)).headers["To"]] == [
        answered
    ] * 2


@pytest.mark.parametrize(
    "build", [lambda invite: invite.cancel(), lambda invite: invite.ack(invite.response(486))]
)
def test_broken_via_below_the_top_one_hinders_neither_cancel_nor_ack(build):
    invite = parse(
        corpus.message(
            "Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\nVia: broken, too",
            "CSeq: 1 INVITE",
            start="INVITE sip:a@b SIP/2.0",
        )
    )
    assert build(invite).headers.all("Via") == ["SIP/2.0/UDP a;branch=z9hG4bK1"]
