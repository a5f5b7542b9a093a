"""Priority: emergency calls and those of RFC 4412 pass before others, if that is configured."""

from __future__ import annotations

import pytest

from sippet_gevent import Limits, Request, parse
from sippet_gevent.engine.priority import Priority

from ..core.wire import AT_SERVER, Peer

EMERGENCY = "sip:112@10.0.0.1"


def wait(request, tx):
    tx.respond(180)
    tx.wait(10)
    return 480


@pytest.fixture
def caller(sip):
    return Peer(sip, "10.0.0.50")


def status(caller, uri=AT_SERVER, **headers):
    caller.ask("INVITE", uri, **headers)
    return caller.responses[-1].status


def test_emergency_call_passes_at_a_limit_when_configured(sip, caller):
    stack = sip.serve(wait, limits=Limits(handlers=2, emergency=("112",)))
    assert [status(caller) for _ in range(3)] == [180, 180, 503]
    assert status(caller, EMERGENCY) == 180
    # the reserve is one, so it is used up now
    assert status(caller, EMERGENCY) == 503
    assert stack.stats()["handlers"] == 3
    sip.clock.advance(11)
    assert status(caller) == 180


def test_emergency_call_is_a_call_like_others_by_default(sip, caller):
    sip.serve(wait, limits=Limits(handlers=1))
    assert [status(caller), status(caller, EMERGENCY)] == [180, 503]


@pytest.mark.rfc("4412 4.6.2")
def test_resource_priority_passes_at_a_limit_when_configured(sip, caller):
    sip.serve(wait, limits=Limits(handlers=1, resource_priority=("ets.0",)))
    assert status(caller) == 180
    assert status(caller, resource_priority=("ets.1",)) == 503
    assert status(caller, resource_priority=("ets.0",)) == 180


def test_emergency_call_passes_in_overload(sip, caller):
    stack = sip.serve(wait, limits=Limits(emergency=("112",)))
    stack.engine.admission.overloaded(True)
    assert [status(caller), status(caller, EMERGENCY)] == [503, 180]
    stack.engine.admission.overloaded(False)


@pytest.mark.parametrize(
    ("uri", "field", "counts"),
    [
        ("sip:112@example.com", "", True),
        ("sip:112;phone-context=x@example.com", "", True),
        ("tel:112", "", True),
        ("urn:service:sos.fire", "", True),
        ("urn:service:sosx", "", False),
        ("sip:1122@example.com", "", False),
        ("sip:bob@example.com", "WPS.3", True),
        ("sip:bob@example.com", "dsn.flash, wps.1", True),
        ("sip:bob@example.com", "ets.0", True),
        ("sip:bob@example.com", "ets.1", False),
    ],
)
def test_priority_is_the_same_before_and_after_parsing(sip, caller, uri, field, counts):
    priority = Priority(("112",), ("wps", "ets.0"))
    request = caller.request("INVITE", "sip:bob@example.com")
    request.uri_text  # noqa: B018
    if field:
        request.headers["Resource-Priority"] = field
    data = bytes(request).replace(b"INVITE sip:bob@example.com", f"INVITE {uri}".encode(), 1)
    assert priority.is_in(data, "10.0.0.50") is counts
    if uri.startswith(("sip:", "tel:")):
        from sippet_gevent import parse

        assert priority.has(parse(data)) is counts


def test_field_of_the_body_gives_no_priority():
    priority = Priority((), ("ets",))
    data = b"INVITE sip:a SIP/2.0\r\nTo: x\r\n\r\nx\r\nResource-Priority: ets.0\r\n"
    assert not priority.is_in(data, "10.0.0.50")


@pytest.mark.rfc("4412 3.1")
def test_folded_and_repeated_resource_priority_has_priority_before_and_after_parsing():
    priority = Priority((), ("ets.0",))
    start = b"INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\n"
    rest = b"From: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n"
    for field in (
        b"Resource-Priority:\r\n ets.0\r\n",
        b"Resource-Priority: dsn.flash,\r\n\tets.0\r\n",
        b"Resource-Priority: dsn.flash\r\nresource-priority : ets.0\r\n",
    ):
        data = start + rest + field + b"\r\n"
        assert priority.is_in(data, "10.0.0.50"), field
        assert priority.has(parse(data)), field


@pytest.mark.rfc("4412 4.2", "4412 11.2")
@pytest.mark.parametrize(("network", "counts"), [("10.0.0.0/24", True), ("10.0.1.0/24", False)])
def test_resource_priority_counts_from_the_networks_that_may_claim_it(sip, caller, network, counts):
    limits = Limits(handlers=1, resource_priority=("ets",), resource_priority_from=(network,))
    stack = sip.serve(wait, limits=limits)
    assert status(caller) == 180
    assert status(caller, resource_priority=("ets.0",)) == (180 if counts else 503)
    priority = stack.engine.admission.priority
    data = bytes(caller.request("INVITE", resource_priority=("ets.0",)))
    assert priority.is_in(data, caller.host) is counts


def test_own_request_has_its_priority_whatever_networks_may_claim_it():
    priority = Priority((), ("ets",), ("10.0.1.0/24",))
    assert priority.has(Request("INVITE", "sip:bob@example.com", resource_priority=("ets.0",)))


def accepts(request, tx):
    tx.accept()


@pytest.mark.rfc("4412 4.6.2")
def test_request_that_requires_an_unknown_priority_is_refused_417(sip, caller):
    limits = Limits(resource_priority=("ets.0", "wps", "dsn.flash"))
    sip.serve(accepts, limits=limits, supported=("resource-priority",))
    tag = {"require": ("resource-priority",)}
    assert status(caller, resource_priority=("ets.1",), **tag) == 417
    accepted = caller.responses[-1].headers["Accept-Resource-Priority"]
    assert accepted == "dsn.flash, ets.0"
    assert status(caller, **tag) == 417
    assert status(caller, resource_priority=("ets.1", "wps.2"), **tag) == 200
    assert status(caller, resource_priority=("ets.1",)) == 200


@pytest.mark.rfc("4412 4.3")
def test_request_that_requires_priority_of_a_stack_without_it_is_refused_420(sip, caller):
    sip.serve(accepts)
    assert status(caller, resource_priority=("ets.0",), require=("resource-priority",)) == 420
