"""What is left out of a request after a 420, 415 or 416, RFC 3261 §8.1.3.5."""

from __future__ import annotations

import pytest

from sippet_gevent import Part, multipart

pytestmark = pytest.mark.rfc("3261 8.1.3.5")

URI = "sip:bob@10.0.0.1"


def serve(sip, core):
    seen = []

    def noted(request, tx):
        seen.append(request)
        return core(request, tx)

    sip.stack(noted, host="10.0.0.1", supported=("100rel", "replaces", "privacy", "timer"))
    return sip.client, seen


def refusing(*tags):
    def core(request, tx):
        asked = {*request.require, *request.proxy_require}
        refused = [tag for tag in tags if tag in asked]
        return request.response(420, unsupported=refused) if refused else 200

    return core


@pytest.mark.rfc("3261 21.4.15")
def test_optional_extension_is_left_out(sip):
    client, seen = serve(sip, refusing("100rel", "timer"))
    answer = sip.run(client.request, "OPTIONS", URI, require=("100rel", "timer"))
    assert answer.status == 200
    assert not seen[1].require
    assert seen[1].cseq.number == seen[0].cseq.number + 1


def test_other_extensions_stay(sip):
    client, seen = serve(sip, refusing("timer"))
    assert sip.run(client.request, "OPTIONS", URI, require=("100rel", "timer")).status == 200
    assert seen[1].require == ("100rel",)


@pytest.mark.parametrize("tag", ["replaces", "privacy", "unheard"])
def test_extension_that_the_request_must_not_go_without_stays_required(sip, tag):
    client, seen = serve(sip, refusing(tag))
    assert sip.run(client.request, "OPTIONS", URI, require=(tag, "timer")).status == 420
    assert len(seen) == 1


def test_server_that_refuses_for_ever_gets_it_once_again(sip):
    client, seen = serve(sip, lambda request, tx: request.response(420, unsupported="timer"))
    assert sip.run(client.request, "OPTIONS", URI, require=("timer",)).status == 420
    assert len(seen) == 2


@pytest.mark.parametrize("text", ["", "b a d"])
def test_refusal_without_readable_tags_is_the_answer(sip, text):
    def core(request, tx):
        response = request.response(420)
        response.headers.add("Unsupported", text or "other")
        return response

    client, seen = serve(sip, core)
    assert sip.run(client.request, "OPTIONS", URI, require=("timer",)).status == 420
    assert len(seen) == 1


@pytest.mark.rfc("3261 21.4.13")
def test_accepted_part_of_a_multipart_goes_alone(sip):
    def core(request, tx):
        if str(request.content_type).startswith("multipart"):
            return request.response(415, accept="text/plain, application/sdp")
        return 200

    client, seen = serve(sip, core)
    parts = [Part(b"<x/>", "application/xml"), Part(b"hello", "text/plain;charset=utf-8")]
    body = multipart("mixed", parts)
    answer = sip.run(
        client.request, "MESSAGE", URI, body=body.body, content_type=str(body.media_type)
    )
    assert answer.status == 200
    assert seen[1].body == b"hello"
    assert str(seen[1].content_type) == "text/plain;charset=utf-8"


@pytest.mark.parametrize("accept", ["application/xml", "", "text/plain"])
def test_body_that_cannot_be_changed_is_not_sent_again(sip, accept):
    def core(request, tx):
        return request.response(415, accept=accept or None)

    client, seen = serve(sip, core)
    answer = sip.run(client.request, "MESSAGE", URI, body=b"hello", content_type="text/plain")
    assert answer.status == 415
    assert len(seen) == 1


@pytest.mark.rfc("3261 21.4.14")
def test_tel_uri_becomes_a_sip_uri(sip):
    def core(request, tx):
        return 416 if request.uri.scheme == "tel" else 200

    client, seen = serve(sip, core)
    answer = sip.run(client.request, "OPTIONS", "tel:+15551234", route="<sip:10.0.0.1;lr>")
    assert answer.status == 200
    assert str(seen[1].uri) == "sip:+15551234@10.0.0.1;user=phone"
