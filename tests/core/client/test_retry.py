"""Retry: the policies together, their order and their limit, and a policy of one's own."""

from __future__ import annotations

import pytest

from sippet_gevent import Request, forward
from sippet_gevent.core.auth.credentials import Credentials
from sippet_gevent.core.client import retry
from sippet_gevent.core.client.attempt import Policy
from tests.core.auth.gate import Gate

URI = "sip:bob@10.0.0.1"


class Longer(Policy):
    """Asks for a longer time after a 423, whatever the method."""

    statuses = frozenset((423,))

    def __call__(self, attempt):
        if attempt.status != 423 or attempt.request.expires == attempt.failure.min_expires:
            return None
        return attempt.again("a longer time", expires=attempt.failure.min_expires)


@pytest.fixture
def min_expires(monkeypatch):
    monkeypatch.setattr(retry, "ALWAYS", (*retry.ALWAYS, Longer))
    from sippet_gevent.core.client import transaction

    monkeypatch.setattr(transaction, "RETRIED", retry.RETRIED | Longer.statuses)


@pytest.mark.rfc("3261 8.1.3.5")
def test_policy_of_ones_own_is_one_row(sip, min_expires):
    seen = []

    def core(request, tx):
        seen.append(request)
        return 200 if request.expires >= 60 else request.response(423, min_expires=60)

    sip.stack(core, host="10.0.0.1")
    assert sip.run(sip.client.request, "OPTIONS", URI, expires=10).status == 200
    assert [(r.expires, r.cseq.number) for r in seen] == [(10, 1), (60, 2)]
    assert seen[0].call_id == seen[1].call_id


def test_policies_follow_each_other(sip, min_expires):
    """302, 401, 423, 420 and 503 for one request, of which the application sees the 200."""

    def core(request, tx):
        if request.require:
            return request.response(420, unsupported="timer")
        return 200 if request.expires >= 60 else request.response(423, min_expires=60)

    gate = Gate(core)
    sip.stack(
        lambda request, tx: request.response(302, contact="sip:bob@10.0.0.2"), host="10.0.0.1"
    )
    sip.stack(gate, host="10.0.0.2")
    client = sip.client
    answer = sip.run(
        client.request,
        "OPTIONS",
        URI,
        expires=10,
        require=("timer",),
        credentials=Credentials("100", "secret", hosts=("10.0.0.2",)),
        follow_redirects=True,
    )
    assert answer.status == 200
    assert client.stats()["requests_repeated"] == {"302": 1, "401": 1, "420": 1, "423": 1}
    numbers = [request.cseq.number for request in gate.requests]
    assert numbers == [2, 3, 4, 5]
    # each request counts by itself, although another policy has changed it
    assert [claim.number for claim in gate.claims] == [1, 2, 3]


def test_tries_of_all_policies_together_are_limited(sip, monkeypatch):
    class Again(Policy):
        statuses = frozenset((423,))

        def __call__(self, attempt):
            return attempt.again("again") if attempt.status == 423 else None

    monkeypatch.setattr(retry, "ALWAYS", (Again,))
    from sippet_gevent.core.client import transaction

    monkeypatch.setattr(transaction, "RETRIED", frozenset((423,)))
    seen = []

    def core(request, tx):
        seen.append(request)
        return request.response(423, min_expires=60)

    sip.stack(core, host="10.0.0.1")
    assert sip.run(sip.client.request, "REGISTER", URI).status == 423
    assert len(seen) == retry.TRIES


@pytest.mark.rfc("3261 16.7")
@pytest.mark.parametrize("status", [401, 407, 420, 302])
def test_branch_of_a_proxy_repeats_nothing(sip, status):
    seen = []

    def core(request, tx):
        seen.append(request)
        headers = {
            401: {"www_authenticate": 'Digest realm="r", nonce="n"'},
            407: {"proxy_authenticate": 'Digest realm="r", nonce="n"'},
            420: {"unsupported": "replaces"},
            302: {"contact": "sip:bob@10.0.0.9"},
        }
        return request.response(status, **headers[status])

    sip.stack(core, host="10.0.0.1")
    sip.stack(
        lambda request, tx: forward(request, tx, URI),
        host="10.0.0.2",
        credentials=Credentials("100", "secret", hosts=("10.0.0.1",)),
    )
    client = sip.client
    tx = client.send(Request("OPTIONS", "sip:bob@10.0.0.2", require=("replaces",)))
    assert sip.run(tx.final).status == status
    assert len(seen) == 1


def test_request_that_succeeds_has_no_policies(sip):
    sip.stack(lambda request, tx: 200, host="10.0.0.1")
    tx = sip.client.send(Request("OPTIONS", URI))
    assert sip.run(tx.final).status == 200
    assert tx.retry is None


def test_request_that_is_refused_for_good_has_no_policies(sip):
    sip.stack(lambda request, tx: 404, host="10.0.0.1")
    tx = sip.client.send(Request("OPTIONS", URI))
    assert sip.run(tx.final).status == 404
    assert tx.retry is None


def test_middleware_sees_a_request_once(sip):
    from sippet_gevent import Middleware

    class Noted(Middleware):
        def send(self, request, send):
            request.headers["X-Number"] = str(len(noted))
            noted.append(request)
            return send(request)

    noted = []
    gate = Gate()
    sip.stack(gate, host="10.0.0.1")
    client = sip.client
    client.use(Noted())
    mine = Credentials("100", "secret")
    assert sip.run(client.request, "OPTIONS", URI, credentials=mine).status == 200
    assert len(noted) == 1
    assert [request.headers["X-Number"] for request in gate.requests] == ["0", "0"]


# ---- 423, RFC 3261 §10.2.8


def asking(sip, method="REGISTER", least=60, **headers):
    """Send a request to a server that wants longer durations; return its requests and the status."""
    seen = []

    def core(request, tx):
        seen.append(request)
        return request.response(423, min_expires=least) if len(seen) == 1 else 200

    sip.stack(core, host="10.0.0.1")
    return seen, sip.run(sip.client.request, method, URI, **headers).status


@pytest.mark.rfc("3261 10.2.8", "6665 4.1.2.1", "3903 4")
@pytest.mark.parametrize("method", ["REGISTER", "SUBSCRIBE", "PUBLISH"])
def test_request_that_gets_423_asks_for_the_least_duration(sip, method):
    seen, status = asking(sip, method, expires=10, event="presence")
    assert (status, [request.expires for request in seen]) == (200, [10, 60])


@pytest.mark.rfc("3261 10.2.8")
def test_register_without_a_duration_that_gets_423_names_the_least_one(sip):
    seen, status = asking(sip, contact="<sip:bob@10.0.0.9>")
    assert (status, [request.expires for request in seen]) == (200, [None, 60])


@pytest.mark.rfc("3261 10.2.8")
def test_each_contact_of_a_register_that_gets_423_asks_for_the_least_duration(sip):
    seen, status = asking(
        sip,
        contact="<sip:a@10.0.0.9>;expires=10, <sip:b@10.0.0.9>;expires=0, <sip:c@10.0.0.9>;expires=90",
    )
    assert status == 200
    assert [contact.parameters["expires"] for contact in seen[1].contact] == ["60", "0", "90"]
    assert seen[1].expires is None


@pytest.mark.rfc("3261 10.2.8")
@pytest.mark.parametrize(
    ("least", "headers"),
    [
        (60, {"expires": 60}),
        (60, {"expires": 0, "contact": "*"}),
        (60, {"contact": "<sip:a@10.0.0.9>;expires=0"}),
        (24 * 3600 + 1, {"expires": 60}),
        (None, {"expires": 60}),
    ],
)
def test_register_that_gets_423_without_reason_is_not_repeated(sip, least, headers):
    seen, status = asking(sip, least=least, **headers)
    assert (status, len(seen)) == (423, 1)
