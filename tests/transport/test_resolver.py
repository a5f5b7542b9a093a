"""Resolver: from URI to numeric addresses, RFC 3263 §4."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import URI, TransportError
from sippet_gevent.transport import resolver
from sippet_gevent.transport.resolver import Candidate, resolve


@pytest.mark.rfc("3263 4.1")
@pytest.mark.parametrize(
    ("text", "candidate"),
    [
        ("sip:bob@192.0.2.1", ("UDP", "192.0.2.1", 5060)),
        ("sip:bob@192.0.2.1:5070", ("UDP", "192.0.2.1", 5070)),
        ("sip:bob@[2001:db8::1]", ("UDP", "2001:db8::1", 5060)),
        ("sip:192.0.2.1;transport=tcp", ("TCP", "192.0.2.1", 5060)),
        ("sips:192.0.2.1", ("TLS", "192.0.2.1", 5061)),
        ("sip:bob@example.com;maddr=192.0.2.7", ("UDP", "192.0.2.7", 5060)),
    ],
)
def test_numeric_host_asks_nobody(text, candidate, monkeypatch):
    monkeypatch.setattr(resolver.socket, "getaddrinfo", None)
    assert resolve(URI.parse(text)) == [Candidate(*candidate)]


def test_name_is_looked_up():
    assert ("UDP", "127.0.0.1", 5070) in resolve(URI.parse("sip:localhost:5070"))


def test_short_and_hexadecimal_addresses_are_names_not_addresses(monkeypatch):
    asked = []
    monkeypatch.setattr(resolver.socket, "getaddrinfo", lambda host, *rest: asked.append(host) or [])
    resolve(URI.parse("sip:127.1"))
    resolve(URI.parse("sip:0x7f000001"))
    assert asked == ["127.1", "0x7f000001"]


def test_unknown_name_is_a_transport_error_that_names_it(monkeypatch):
    def fails(host, *rest):
        raise resolver.socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(resolver.socket, "getaddrinfo", fails)
    with pytest.raises(TransportError, match="nowhere.invalid: Name or service not known"):
        resolve(URI.parse("sip:nowhere.invalid"))


def test_silent_dns_is_given_up(monkeypatch):
    monkeypatch.setattr(resolver.socket, "getaddrinfo", lambda *rest: gevent.sleep(60))
    monkeypatch.setattr(resolver, "RESOLVE_SECONDS", 0.02)
    with pytest.raises(TransportError, match="no answer from DNS"):
        resolve(URI.parse("sip:slow.example"))


def test_tel_has_no_way():
    with pytest.raises(TransportError, match="no way to a tel URI"):
        resolve(URI.parse("tel:+1-201-555-0123"))
