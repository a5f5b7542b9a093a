"""Redirects: which Contacts of a 3xx a request follows, and in which order, RFC 3261 §8.1.3.4."""

from __future__ import annotations

import logging

import pytest

from sippet_gevent import Reject, Request, StaticResolver, TransactionTimeout
from sippet_gevent.message.address import NameAddr

pytestmark = pytest.mark.rfc("3261 8.1.3.4")


def to(*contacts, status=302):
    def core(request, tx):
        core.requests.append(request)
        return request.response(status, contact=list(contacts))

    core.requests = []
    return core


def answering(status=200):
    def core(request, tx):
        core.requests.append(request)
        if request.method == "INVITE" and status == 200:
            with tx.accept(body=b"v=0\r\n", content_type="application/sdp") as call:
                call.wait(60)
            return None
        return status

    core.requests = []
    return core


def serve(sip, **cores):
    for host, core in cores.items():
        sip.stack(core, host=f"10.0.0.{host[1:]}")
    return sip.client


def ask(sip, client, method="OPTIONS", uri="sip:bob@10.0.0.1", **options):
    return sip.run(client.request, method, uri, follow_redirects=True, **options)


@pytest.mark.parametrize("status", [300, 301, 302, 305, 380])
def test_redirect_is_followed_by_choice(sip, status):
    first, second = to("sip:bob@10.0.0.2", status=status), answering()
    client = serve(sip, h1=first, h2=second)
    assert ask(sip, client, subject="hello").status == 200
    sent, again = first.requests[0], second.requests[0]
    assert str(again.uri) == "sip:bob@10.0.0.2"
    assert (again.call_id, again.from_, again.to) == (sent.call_id, sent.from_, sent.to)
    assert again.cseq.number == sent.cseq.number + 1
    assert again.subject == "hello"
    assert len(again.via) == 1
    assert client.stats()["requests_repeated"] == {str(status): 1}


def test_redirect_is_the_answer_by_default(sip):
    client = serve(sip, h1=to("sip:bob@10.0.0.2"))
    assert sip.run(client.request, "OPTIONS", "sip:bob@10.0.0.1").status == 302
    with pytest.raises(Reject) as refused:
        sip.run(client.invite, "sip:bob@10.0.0.1")
    assert refused.value.status == 302


def test_call_is_made_with_the_target_of_a_redirect(sip):
    second = answering()
    client = serve(sip, h1=to("sip:bob@10.0.0.2"), h2=second)
    call = sip.run(client.invite, "sip:bob@10.0.0.1", follow_redirects=True, body=b"v=0\r\n")
    assert second.requests[0].body == b"v=0\r\n"
    assert call.dialog.local_cseq == 2
    call.hangup()
    sip.settle()
    assert len(client.dialogs) == 0


def test_contacts_are_tried_by_their_q(sip):
    seen = []

    def core(status):
        def refuse(request, tx):
            seen.append(request.uri.user)
            return status

        return refuse

    contacts = (
        "<sip:low@10.0.0.2>;q=0.1",
        "<sip:best@10.0.0.2>;q=0.9",
        "<sip:first@10.0.0.3>",
        "<sip:middle@10.0.0.4>;q=0.5",
    )
    client = serve(sip, h1=to(*contacts), h2=core(486), h3=core(480), h4=core(200))
    assert ask(sip, client).status == 200
    assert seen == ["first", "best", "middle"]


def test_last_refusal_is_the_answer_when_no_target_accepts(sip):
    client = serve(
        sip, h1=to("sip:a@10.0.0.2", "sip:b@10.0.0.3"), h2=answering(486), h3=answering(480)
    )
    assert ask(sip, client).status == 480


def test_unreachable_target_is_followed_by_the_next(sip):
    client = serve(sip, h1=to("sip:a@nowhere.example", "sip:b@10.0.0.2"), h2=answering())
    assert ask(sip, client).status == 200


def test_silent_target_is_followed_by_the_next(sip):
    client = serve(sip, h1=to("sip:a@10.0.0.77", "sip:b@10.0.0.2"), h2=answering())
    assert ask(sip, client).status == 200


def test_silent_target_is_an_error_when_it_was_the_last(sip):
    client = serve(sip, h1=to("sip:a@10.0.0.77"))
    with pytest.raises(TransactionTimeout):
        ask(sip, client)


@pytest.mark.rfc("3261 21.6")
def test_refusal_by_all_ends_the_search(sip):
    third = answering()
    client = serve(sip, h1=to("sip:a@10.0.0.2", "sip:b@10.0.0.3"), h2=answering(603), h3=third)
    assert ask(sip, client).status == 603
    assert third.requests == []


def test_loop_ends_with_each_uri_tried_once(sip):
    first, second = to("sip:bob@10.0.0.2"), to("sip:bob@10.0.0.1", "sip:bob@10.0.0.2")
    client = serve(sip, h1=first, h2=second)
    assert ask(sip, client).status == 302
    assert (len(first.requests), len(second.requests)) == (1, 1)


def test_endless_chain_of_new_uris_ends(sip):
    seen = []

    def core(request, tx):
        seen.append(request)
        return request.response(302, contact=f"sip:user{len(seen)}@10.0.0.1")

    client = serve(sip, h1=core)
    assert ask(sip, client).status == 302
    assert len(seen) == 11


@pytest.mark.rfc("3261 26.2.2")
def test_sips_is_not_redirected_to_sip():
    from sippet_gevent.core.client.redirect import Redirect

    request = Request("OPTIONS", "sips:bob@example.com")
    response = request.response(302, contact=["sip:a@example.com", "sips:b@example.com", "tel:+1"])
    assert [str(uri) for uri in Redirect()._targets(response, request)] == ["sips:b@example.com"]


@pytest.mark.rfc("3261 19.1.5")
def test_headers_of_a_contact_are_taken_unless_they_lie_about_the_sender(sip):
    second = answering()
    contact = (
        "<sip:bob@10.0.0.2;method=INVITE?Subject=new&Call-Info=%3Chttp://b%3E&From=%3Csip:x@y%3E"
        "&Route=%3Csip:evil%3E&P-Asserted-Identity=%3Csip:x@y%3E&body=v%3D0&Contact=x>"
    )
    client = serve(sip, h1=to(contact), h2=second)
    assert ask(sip, client, subject="old", call_info="<http://a>").status == 200
    request = second.requests[0]
    assert str(request.uri) == "sip:bob@10.0.0.2"
    assert request.method == "OPTIONS"
    assert request.subject == "new"
    assert [str(value) for value in request.call_info] == ["<http://a>", "<http://b>"]
    assert "x@y" not in str(request.from_)
    assert not request.route
    assert not request.headers.has_header("P-Asserted-Identity")
    assert request.body == b""


@pytest.mark.parametrize("contact", ["*", "tel:+15551", "<sip:bob@-bad->"])
def test_contact_that_cannot_be_asked_is_left_out(sip, contact):
    def core(request, tx):
        response = request.response(302)
        response.headers.add("Contact", contact)
        return response

    client = serve(sip, h1=core)
    assert ask(sip, client).status == 302


def test_request_goes_on_by_the_next_hop_that_the_application_gave(sip):
    seen = []

    def proxy(request, tx):
        seen.append(str(request.uri))
        if len(seen) == 1:
            return request.response(302, contact="sip:bob@elsewhere.example")
        return 200

    client = serve(sip, h1=proxy)
    assert ask(sip, client, uri="sip:bob@example.com", next_hop="sip:10.0.0.1").status == 200
    assert seen == ["sip:bob@example.com", "sip:bob@elsewhere.example"]


def test_request_within_a_call_is_not_redirected(sip):
    def core(request, tx):
        if request.method == "INVITE":
            with tx.accept(body=b"v=0\r\n", content_type="application/sdp") as call:
                call.wait(60)
            return None
        return request.response(302, contact="sip:bob@10.0.0.2")

    client = serve(sip, h1=core)
    call = sip.run(client.invite, "sip:bob@10.0.0.1", follow_redirects=True)
    assert sip.run(call.request, "MESSAGE").status == 302
    call.hangup()


def test_cancel_while_the_target_is_looked_up_ends_with_a_487(sip):
    class Slow(StaticResolver):
        def ask(self, questions, budget):
            sip.clock.sleep(5)
            return super().ask(questions, budget)

    second = answering()
    sip.stack(to("sip:bob@slow.example"), host="10.0.0.1")
    sip.stack(second, host="10.0.0.2")
    client = sip.stack(host="10.0.0.60", resolver=Slow({"slow.example": ["10.0.0.2"]}))
    outcome = []

    def invite():
        try:
            client.invite("sip:bob@10.0.0.1", follow_redirects=True)
        except Reject as refused:
            outcome.append(refused.status)

    import gevent

    caller = gevent.spawn(invite)
    sip.advance(1)
    (tx,) = [r.user.owner for r in client.engine.clients.values() if hasattr(r.user, "owner")]
    tx.cancel()
    sip.advance(10)
    caller.join()
    assert outcome == [487]
    assert second.requests == []


def test_each_try_is_logged(sip, caplog):
    caplog.set_level(logging.INFO, "sippet_gevent")
    client = serve(sip, h1=to("sip:bob@10.0.0.2"), h2=answering())
    ask(sip, client)
    (line,) = [r.getMessage() for r in caplog.records if "request sent again" in r.getMessage()]
    assert "method=OPTIONS try=2 after=302 target=sip:bob@10.0.0.2 call_id=" in line
    assert 'reason="redirected"' in line


def test_follow_redirects_is_true_or_false(sip):
    with pytest.raises(TypeError, match="follow_redirects"):
        sip.client.request("OPTIONS", "sip:10.0.0.1", follow_redirects=5)


def test_q_of_a_contact_that_cannot_be_read_counts_as_least(sip):
    client = serve(
        sip, h1=to(NameAddr.parse("<sip:a@10.0.0.2>;q=x"), "<sip:b@10.0.0.3>;q=0.2"),
        h2=answering(486), h3=answering(),
    )  # fmt: skip
    assert ask(sip, client).status == 200
