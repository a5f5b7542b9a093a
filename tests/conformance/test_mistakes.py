"""Unreadable text: from the caller it is a 400, from the core a 500 with a traceback in the log."""

from __future__ import annotations

import logging

import pytest

from sippet_gevent import (
    URI,
    Location,
    NameAddr,
    ParseError,
    Part,
    Registrar,
    Request,
    bridge,
    forward,
    sdp,
)
from sippet_gevent.message.parser import parse

from ..core.wire import Peer

ROW = "bob@192.0.2.1"
"""Text that a database may have in place of a URI."""


@pytest.fixture
def peer(sip):
    return Peer(sip, "10.0.0.50")


@pytest.fixture
def errors(caplog):
    """The log records that have a traceback."""
    caplog.set_level(logging.INFO, "sippet_gevent")
    return lambda: [record for record in caplog.records if record.exc_info]


def ask(peer, method="INVITE", broken=b"", body=b"", **headers):
    """Send a request with unchanged header lines, and return the final statuses."""
    request = peer.request(method, body=body, **headers)
    data = bytes(request)
    if broken:
        data = data.replace(b"\r\nMax-Forwards", b"\r\n" + broken + b"\r\nMax-Forwards", 1)
    peer.send(data)
    peer.sip.advance(0.1)
    return [status for status in peer.statuses if status >= 200]


# ---- the caller's

BROKEN = [
    pytest.param(lambda request, tx: request.refer_to, b"Refer-To: <<>>", id="header field"),
    pytest.param(lambda request, tx: request.headers.get_header("Refer-To"), b"r: <<>>", id="compact name"),
    pytest.param(lambda request, tx: request.expires, b"Expires: 5\r\nExpires: 6", id="field that appears twice"),
    pytest.param(lambda request, tx: request.copy().refer_to, b"Refer-To: <<>>", id="field of a copy"),
    pytest.param(lambda request, tx: request.diversion[0].uri, b"Diversion: <<>>", id="one of a list"),
    pytest.param(lambda request, tx: request.headers.get_header_back("Diversion"), b"Diversion: <<>>", id="last of a list"),
    pytest.param(lambda request, tx: request.session_expires.refresher, b"Session-Expires: 90;refresher=x", id="parameter"),
    pytest.param(lambda request, tx: request.accept_language[0].q, b"Accept-Language: de;q=x", id="q"),
    pytest.param(lambda request, tx: URI.parse(request.headers["X-Target"]), b"X-Target: not a URI", id="text of a line"),
    pytest.param(lambda request, tx: forward(request, tx, request.headers["X-Target"]), b"X-Target: bob@a", id="target in a line"),
    pytest.param(lambda request, tx: tx.stack.refer("sip:10.0.0.60", request.headers["X-Target"]), b"X-Target: bob@a", id="target of a transfer in a line"),
    pytest.param(lambda request, tx: forward(request, tx), b"Route: <<>>, <sip:10.0.0.60;lr>", id="Route of a forwarded request"),
    pytest.param(lambda request, tx: forward(request, tx, "sip:10.0.0.60"), b"Max-Breadth: x", id="Max-Breadth"),
]  # fmt: skip


@pytest.mark.rfc("3261 21.4.1")
@pytest.mark.parametrize(("core", "broken"), BROKEN)
def test_unreadable_field_of_the_request_is_400_without_traceback(sip, peer, errors, core, broken):
    sip.serve(core)
    assert ask(peer, "MESSAGE", broken) == [400]
    assert errors() == []


def read_offer(request, tx):
    offer = Part.of(request).find("application/sdp") or Part.of(request)
    return 488 if sdp.SDP.parse(offer.content).media[0].ptime else 486


OFFER = b"v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
BODIES = {
    "no session description": (b"hello\r\n", "application/sdp"),
    "an empty one": (b"", "application/sdp"),
    "a broken line": (OFFER.replace(b"s=-", b"x"), "application/sdp"),
    "a broken m=": (OFFER + b"m=audio\r\n", "application/sdp"),
    "a broken attribute": (OFFER + b"a=ptime:x\r\n", "application/sdp"),
    "in a multipart": (
        b"--b\r\nContent-Type: application/sdp\r\n\r\nv=1\r\n--b--\r\n",
        "multipart/mixed;boundary=b",
    ),
    "a multipart without delimiter": (b"hello", "multipart/mixed;boundary=b"),
}


@pytest.mark.rfc("3261 21.4.1")
@pytest.mark.parametrize(("body", "kind"), BODIES.values(), ids=list(BODIES))
def test_unreadable_body_of_the_request_is_400_without_traceback(sip, peer, errors, body, kind):
    sip.serve(read_offer)
    assert ask(peer, body=body, content_type=kind) == [400]
    assert errors() == []


@pytest.mark.rfc("3264 8")
def test_offer_with_fewer_streams_than_before_is_488_without_traceback(sip, peer, errors):
    def core(request, tx):
        offer = sdp.SDP.parse(request.body)
        before = sdp.SDP.parse(OFFER + OFFER[OFFER.index(b"m=") :])
        sdp.check_modification(before, offer) if request.method == "MESSAGE" else sdp.answer(
            offer, [], previous=before
        )

    sip.serve(core)
    assert ask(peer, body=OFFER, content_type="application/sdp") == [488]
    assert ask(peer, "MESSAGE", body=OFFER, content_type="application/sdp") == [488, 488]
    assert errors() == []


def test_invite_without_contact_that_is_accepted_is_400_without_traceback(sip, peer, errors):
    sip.serve(lambda request, tx: tx.accept())
    assert ask(peer, contact=()) == [400]
    assert errors() == []


def test_register_with_star_beside_a_contact_is_400_without_traceback(sip, peer, errors):
    sip.serve(Registrar(Location()))
    assert ask(peer, "REGISTER", contact=("*", "<sip:10.0.0.50>")) == [400]
    assert errors() == []


# ---- the core's


def of_its_own(request, tx):
    raise ParseError("not what I like", header="Subject")


MISTAKES = [
    pytest.param(lambda request, tx: forward(request, tx, ROW), id="target"),
    pytest.param(
        lambda request, tx: forward(request, tx, "sip:10.0.0.60", next_hop="192.0.2.1"),
        id="next hop",
    ),
    pytest.param(
        lambda request, tx: forward(request, tx, "sip:10.0.0.60", ROW), id="second target"
    ),
    pytest.param(lambda request, tx: URI.parse(ROW), id="URI"),
    pytest.param(lambda request, tx: URI.parse(""), id="empty text"),
    pytest.param(lambda request, tx: NameAddr.parse("<sip:bob"), id="address"),
    pytest.param(
        lambda request, tx: NameAddr.parse("<sip:bob@192.0.2.1>;q=high").q, id="parameter"
    ),
    pytest.param(lambda request, tx: sdp.SDP.parse("v=1"), id="session description"),
    pytest.param(lambda request, tx: parse(b"OPTIONS sip:x SIP/2.0\r\n\r\n"), id="message"),
    pytest.param(lambda request, tx: Request("OPTIONS", ROW), id="request"),
    pytest.param(
        lambda request, tx: tx.stack.request("OPTIONS", "sip:10.0.0.60", next_hop=ROW),
        id="next hop of a request",
    ),
    pytest.param(lambda request, tx: tx.stack.resolve(ROW), id="resolve"),
    pytest.param(
        lambda request, tx: tx.respond(200, contact=ROW + "\r\n"), id="header of a response"
    ),
    pytest.param(lambda request, tx: bridge(request, tx, ROW), id="target of a bridge"),
    pytest.param(of_its_own, id="raised by the core"),
]


@pytest.mark.rfc("3261 21.5.1")
@pytest.mark.parametrize("core", MISTAKES)
@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
def test_unreadable_text_of_the_core_is_500_with_file_and_line(
    sip, peer, errors, caplog, core, method
):
    stack = sip.serve(core)
    # The request has the same texts, which is no reason to blame its sender
    assert ask(peer, method, f"X-Row: {ROW}\r\nSubject: \r\nX-Q: high".encode()) == [500]
    (record,) = errors()
    assert record.name == "sippet_gevent.core"
    assert "test_mistakes.py" in caplog.text
    assert stack.stats()["core_errors"] == 1


def test_header_that_no_branch_can_have_is_500_with_file_and_line(sip, peer, errors, caplog):
    sip.serve(lambda request, tx: forward(request, tx, "sip:10.0.0.60", subject="a\r\nb"))
    assert ask(peer) == [500]
    (record,) = errors()
    assert record.name == "sippet_gevent.core"
    assert "Subject: CR, LF" in caplog.text


def test_unreadable_response_of_another_peer_is_no_mistake_of_the_caller(sip, peer, errors):
    def answer(request):
        return parse(
            bytes(request.response(200)).replace(b"\r\nCSeq", b"\r\nContact: <<>>\r\nCSeq")
        )

    Peer(sip, "10.0.0.60", answer)
    sip.serve(lambda request, tx: tx.stack.request("OPTIONS", "sip:10.0.0.60").contact and 200)
    assert ask(peer, "MESSAGE", b"Contact: <<>>") == [500]
    assert len(errors()) == 1


def test_unreadable_ack_is_one_line_and_a_core_s_mistake_a_traceback(sip, peer, errors):
    cores = iter((lambda request, tx: request.refer_to, lambda request, tx: URI.parse(ROW)))
    stack = sip.serve(lambda request, tx: next(cores)(request, tx))
    ask(peer, "ACK", b"Refer-To: <<>>", to="<sip:bob@10.0.0.1>;tag=1")
    assert (errors(), stack.stats()["core_errors"]) == ([], 0)
    ask(peer, "ACK", b"Refer-To: <<>>", to="<sip:bob@10.0.0.1>;tag=1")
    assert (len(errors()), stack.stats()["core_errors"]) == (1, 1)
