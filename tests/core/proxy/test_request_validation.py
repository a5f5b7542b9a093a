"""Requests that a proxy refuses to forward, RFC 3261 §16.3."""

from __future__ import annotations

import pytest

from sippet_gevent import Reject, Request
from sippet_gevent.core.proxy.request_validation import check_request


def request(uri="sip:bob@example.com", *routes, **headers):
    return Request("INVITE", uri, route=routes, **headers)


# ---- refusals of a proxy


@pytest.mark.rfc("3261 16.3")
def test_request_without_a_hop_left_is_refused_with_483():
    with pytest.raises(Reject) as raised:
        check_request(request(max_forwards=0), ())
    assert raised.value.status == 483


@pytest.mark.rfc("3261 16.3")
@pytest.mark.parametrize("hops", [1, 70, 255, None])
def test_request_with_hops_left_is_passed(hops):
    check_request(request(max_forwards=hops), ())


@pytest.mark.rfc("3261 16.3")
def test_unknown_proxy_require_is_refused_with_420_and_named():
    with pytest.raises(Reject) as raised:
        check_request(request(proxy_require=("privacy", "Foo")), ("privacy",))
    assert (raised.value.status, raised.value.headers) == (420, {"unsupported": ("Foo",)})


@pytest.mark.rfc("3261 16.3")
def test_require_is_not_checked_by_a_proxy():
    check_request(request(require="100rel"), ())
