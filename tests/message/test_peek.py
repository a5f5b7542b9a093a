"""The key and the To tag of a request before it is parsed: what parse() finds, or nothing; and the twin in C."""

from __future__ import annotations

import random

import pytest

from sippet_gevent import ParseError, Request, parse
from sippet_gevent.message import peek
from sippet_gevent.message.parser import DEFAULT_LIMITS

INVITE = (
    b"INVITE sip:bob@192.0.2.1:5060 SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP client.example:5061;rport;branch=z9hG4bKabc.1;x=[::1]\r\n"
    b"Max-Forwards: 70\r\nFrom: <sip:alice@192.0.2.2>;tag=1\r\nTo: <sip:bob@192.0.2.1>\r\n"
    b"Call-ID: 1@bench\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
)
KEY = "z9hG4bKabc.1 client.example:5061 INVITE"

both_keys = pytest.mark.parametrize("key_of", [peek.request_key, peek.fastest_key])
both_tags = pytest.mark.parametrize("has_tag", [peek.has_to_tag, peek.fastest_has_to_tag])


@both_keys
@pytest.mark.rfc("3261 17.2.3")
def test_key_is_that_of_the_parsed_request(key_of):
    assert key_of(INVITE) == parse(INVITE).mandatory.key == KEY


@both_keys
@pytest.mark.rfc("3261 17.1.1.3")
def test_key_of_an_ack_is_that_of_its_invite(key_of):
    assert key_of(INVITE.replace(b"INVITE", b"ACK")) == KEY


@both_keys
@pytest.mark.rfc("3261 18.1.1")
@pytest.mark.rfc("7118 5.5")
@pytest.mark.parametrize(
    ("transport", "port"),
    [(b"UDP", 5060), (b"TCP", 5060), (b"TLS", 5061), (b"WS", 80), (b"WSS", 443)],
)
def test_key_has_the_default_port_of_its_transport(key_of, transport, port):
    message = INVITE.replace(b".example:5061", b".example").replace(b"UDP", transport)
    key = f"z9hG4bKabc.1 client.example:{port} INVITE"
    assert key_of(message) == parse(message).mandatory.key == key


@both_keys
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Via:", b"v:"),
        (b"Via:", b"Max-Breadth: 1\r\nVia:"),  # another Via may come before it
        (b"Via: ", b"Via:"),
        (b"/UDP", b"/SCTP"),
        (b"/UDP", b"/UDP\0\0\0\0\0\0"),
        (b"/UDP", b"/"),
        (b"/UDP", b"/tls"),
        (b"client", b"Client"),
        (b";x=[::1]", b";x=[::1], SIP/2.0/UDP a.example;branch=z9hG4bK2"),
        (b";x=[::1]", b';x="a"'),
        (b";x=[::1]", b";x=[::1]\r\n ;y"),  # folded
        (b";x=[::1]", b";branch=z9hG4bK2"),  # twice
        (b"branch=z9hG4bKabc.1", b"branch=abc"),  # RFC 2543
        (b"branch=z9hG4bKabc.1", b"branch=z9hG4bK"),
        (b"5061", b"99999"),
        (b"5061", b"0"),
        (b"SIP/2.0\r\nVia", b"SIP/3.0\r\nVia"),
        (b"INVITE sip:bob@192.0.2.1:5060", b"INVITE  sip:bob@192.0.2.1:5060"),
        (b"abc.1", b"a" * 600),
        (b"\r\nVia", b"\nVia"),
    ],
)
def test_any_other_spelling_has_no_key_before_it_is_parsed(key_of, before, after):
    assert before in INVITE
    assert key_of(INVITE.replace(before, after, 1)) is None


@both_keys
def test_response_has_no_key(key_of):
    assert key_of(b"SIP/2.0 200 OK\r\n" + INVITE.partition(b"\r\n")[2]) is None
    assert key_of(b"") is None


@both_tags
@pytest.mark.parametrize(
    ("to", "found"),
    [
        (b"To: <sip:bob@192.0.2.1>", False),
        (b"t:<sip:bob@192.0.2.1>", False),
        (b"TO : <sip:bob@192.0.2.1>;x=y", False),
        (b"To: <sip:bob@192.0.2.1>;tag=1", True),
        (b"To: <sip:bob@192.0.2.1>;TAG=1", True),
        (b"To: <sip:bob@192.0.2.1>\r\n ;tag=1", True),  # folded: parse() decides
        (b"X: 1", True),
    ],
)
def test_to_tag_is_found_where_it_may_be(has_tag, to, found):
    assert has_tag(INVITE.replace(b"To: <sip:bob@192.0.2.1>", to)) is found


def test_twins_agree_on_broken_requests_and_never_disagree_with_the_parser():
    choose = random.Random(1)
    broken = list(b';:\r\n \t=,"tTagvV<>[]0@')
    keys = 0
    for _ in range(20_000):
        data = bytearray(INVITE)
        for _ in range(choose.randrange(3)):
            at = choose.randrange(220)
            data[at : at + choose.randrange(2)] = [choose.choice(broken)][: choose.randrange(2)]
        message = bytes(data)
        key = peek.request_key(message)
        assert peek.fastest_key(message) == key, message
        assert peek.fastest_has_to_tag(message) == peek.has_to_tag(message), message
        if key is None:
            continue
        keys += 1
        try:
            parsed = parse(message)
        except ParseError:
            continue
        assert isinstance(parsed, Request)
        assert parsed.mandatory.key == key, message
        if not peek.has_to_tag(message):
            assert parsed.mandatory.to_tag is None, message
    assert keys > 5_000


def test_surely_tagged_request_has_a_to_tag_for_the_parser():
    choose = random.Random(2)
    tagged = INVITE.replace(b"To: <sip:bob@192.0.2.1>", b'To: "a" <sip:bob@192.0.2.1>;tag=2')
    start = tagged.index(b"To: ")
    sure = 0
    for _ in range(10_000):
        data = bytearray(tagged)
        for _ in range(choose.randrange(3)):
            at = start + choose.randrange(40)
            data[at : at + choose.randrange(2)] = choose.choices(b';"<> \t=\\\r\na', k=1)
        message = bytes(data)
        try:
            parsed = parse(message)
        except ParseError:
            continue
        if peek.has_to_tag_surely(message):
            sure += 1
            assert parsed.mandatory.to_tag is not None, message
    assert sure > 1_000


@pytest.mark.rfc("3261 10.2.4")
@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (b"CSeq: 1 REGISTER\r\n", False),
        (b"cseq :\r\n 01 REGISTER\r\n", False),
        (b"CSeq: 2 REGISTER\r\n", True),
        (b"CSeq: 10 REGISTER\r\n", True),
        (b"CSeq: 1 REGISTER\r\nauthorization:\r\n Digest x\r\n", True),
        (b"CSeq: 1 REGISTER\r\n\r\nx\r\nAuthorization: Digest x\r\n", False),  # in the body
    ],
)
def test_register_that_may_refresh_is_seen_in_every_spelling(fields, found):
    assert peek.may_refresh(b"REGISTER sip:a SIP/2.0\r\n" + fields + b"\r\n") is found


def test_other_methods_refresh_nothing():
    assert not peek.may_refresh(b"REGISTERED sip:a SIP/2.0\r\nCSeq: 2 REGISTERED\r\n\r\n")


def test_read_request_is_none_for_a_response_and_for_a_broken_request():
    assert peek.read_request(INVITE, DEFAULT_LIMITS) == parse(INVITE)
    assert peek.read_request(b"SIP/2.0 200 OK\r\n\r\n", DEFAULT_LIMITS) is None
    assert peek.read_request(INVITE[:80], DEFAULT_LIMITS) is None
