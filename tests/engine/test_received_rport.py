"""received and rport of a top Via: the quick way writes what note_source() writes, RFC 3581 §4."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sippet_gevent import parse
from sippet_gevent.engine.received_rport import note_source, usual_via
from sippet_gevent.message.mandatory import mandatory_of


class Flow(SimpleNamespace):
    remote = ("192.0.2.9", 4321)
    peer_identity = ""
    transport = SimpleNamespace(reliable=False, default_port=5060)

    def to_port(self, port):
        return self


USUAL = (
    "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;rport",
    "SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bK1",
    "SIP/2.0/TCP host.example.com;branch=z9hG4bK1;rport;alias",
    "SIP/2.0/UDP [2001:db8::1]:5060;rport;branch=z9hG4bKrport",
)
UNUSUAL = (
    "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1",
    "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;rport=5060",
    "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;rportx;rport",
    "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;Received=1.2.3.4;rport",
    'SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;x=";rport"',
    "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1;rport, SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK2",
    "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1; RPORT",
)


@pytest.mark.rfc("3581 4", "3261 18.2.1")
@pytest.mark.parametrize("via", USUAL + UNUSUAL)
def test_quick_way_writes_what_the_long_way_writes(via):
    request = parse(
        f"OPTIONS sip:a@b SIP/2.0\r\nVia: {via}\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\n"
        "Call-ID: 1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n\r\n".encode()
    )
    quick = usual_via(via, Flow())
    note_source(request, mandatory_of(request), Flow())
    assert quick in ((request.headers["Via"],) if via in USUAL else (None,))


def test_flow_with_a_proven_peer_takes_the_long_way():
    assert usual_via(USUAL[0], Flow(peer_identity="example.com")) is None
