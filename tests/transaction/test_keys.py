"""Keys: which message belongs to which transaction, RFC 3261 §17.1.3, §17.2.3, §8.2.2.2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sippet_gevent.errors import ParseError
from sippet_gevent.message.message import Request
from sippet_gevent.message.parser import parse
from sippet_gevent.transaction.keys import (
    acknowledges,
    client_key,
    quoted_key,
    server_key,
)

COMPLIANT = "z9hG4bK776asdhds"


def request(method="INVITE", **changes):
    """Return a parsed request. A change of None leaves its line out."""
    lines = {
        "uri": "sip:bob@b.example",
        "via": f"SIP/2.0/UDP a.example;branch={COMPLIANT}",
        "from_": "Alice <sip:alice@a.example>;tag=88sja8x",
        "to": "Bob <sip:bob@b.example>",
        "call_id": "987asjd97y7atg",
        "cseq": 986759,
    } | changes
    text = (
        f"{method} {lines['uri']} SIP/2.0\r\nVia: {lines['via']}\r\nFrom: {lines['from_']}\r\nTo: {lines['to']}\r\n"
        f"Call-ID: {lines['call_id']}\r\nCSeq: {lines['cseq']} {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
    return parse(text.encode())


def sent_by(text, transport="UDP", branch=COMPLIANT):
    return f"SIP/2.0/{transport} {text};branch={branch}"


def response_to(request, status=200, **via):
    """Return a parsed response with another top Via."""
    response = request.response(status)
    response.via = (response.via[0]._replace(**via), *response.via[1:])
    return parse(bytes(response))


# ---- responses and their client transactions


@pytest.mark.rfc("3261 17.1.3")
@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "CANCEL"])
def test_response_finds_its_request_by_branch_and_cseq_method(method):
    assert client_key(response_to(request(method))) == client_key(request(method))


@pytest.mark.rfc("3261 17.1.3")
def test_response_to_a_cancel_does_not_find_its_invite():
    invite = request()
    assert client_key(response_to(invite.cancel())) != client_key(invite)


@pytest.mark.rfc("3261 17.1")
def test_response_to_an_ack_does_not_find_its_invite():
    # A UAS that answers the ACK to its refusal with 481: taken for one to the INVITE, it would get an ACK each time.
    invite = request()
    ack = invite.ack(invite.response(486))
    assert client_key(response_to(ack, 481)) is None


@pytest.mark.rfc("3261 17.1.3")
def test_response_with_another_branch_finds_nothing():
    other = request(via=sent_by("a.example", branch="z9hG4bKother"))
    assert client_key(response_to(other)) != client_key(request())


@pytest.mark.rfc("3261 17.1.3")
@pytest.mark.parametrize("via", ["SIP/2.0/UDP a.example", "SIP/2.0/UDP a.example;branch=1"])
def test_response_without_a_branch_of_ours_finds_nothing(via):
    assert client_key(response_to(request(via=via))) is None


@pytest.mark.rfc("3261 17.1.3")
def test_each_response_of_a_fork_finds_the_same_transaction():
    first, second = (
        response_to(request(), 180),
        response_to(request(), 180),
    )  # each has its own To tag
    assert first.to.tag != second.to.tag
    assert client_key(first) == client_key(second) == client_key(request())


@pytest.mark.rfc("3261 18.1.2")
@pytest.mark.parametrize("via", [{"host": "evil.example"}, {"port": 5070}])
def test_response_whose_top_via_is_not_ours_finds_nothing(via):
    assert client_key(response_to(request(), **via)) != client_key(request())


@pytest.mark.rfc("3261 18.1.2")
@pytest.mark.parametrize("via", [{"host": "A.Example"}, {"port": 5060}])
def test_sent_by_is_compared_without_case_and_with_its_default_port(via):
    assert client_key(response_to(request(), **via)) == client_key(request())


@pytest.mark.rfc("3581 4")
def test_received_and_rport_in_our_via_do_not_count():
    response = request().response(200)
    response.via = f"{sent_by('a.example')};rport=40000;received=192.0.2.7"
    assert client_key(parse(bytes(response))) == client_key(request())


# ---- requests and their server transactions


@pytest.mark.rfc("3261 17.2.3")
def test_repeated_request_has_the_key_of_the_first():
    assert server_key(request()) == server_key(request())


@pytest.mark.rfc("3261 17.2.3")
@pytest.mark.parametrize(
    "changes",
    [
        {"via": sent_by("a.example", branch="z9hG4bK776asdhdt")},
        {"via": sent_by("c.example")},
        {"via": sent_by("a.example:5070")},
    ],
    ids=["branch", "sent-by host", "sent-by port"],
)
def test_request_with_another_branch_or_sent_by_is_another(changes):
    assert server_key(request(**changes)) != server_key(request())


@pytest.mark.rfc("3261 17.2.3")
def test_request_with_another_method_is_another():
    assert server_key(request("OPTIONS")) != server_key(request())


@pytest.mark.rfc("3261 17.2.3")
def test_only_branch_sent_by_and_method_count_for_a_compliant_peer():
    other = request(
        uri="sip:carol@c.example",
        from_="<sip:x@x.example>;tag=1",
        to="<sip:y@y.example>;tag=2",
        call_id="3",
        cseq=4,
    )
    assert server_key(other) == server_key(request())


@pytest.mark.rfc("3261 17.2.3")
def test_only_the_top_via_counts():
    below = f"{sent_by('a.example')}, {sent_by('deeper.example', branch='z9hG4bKdeeper')}"
    assert server_key(request(via=below)) == server_key(request())


@pytest.mark.rfc("3261 17.2.3")
def test_ack_to_a_refusal_has_the_key_of_its_invite():
    invite = request()
    assert server_key(parse(bytes(invite.ack(invite.response(486))))) == server_key(invite)


@pytest.mark.rfc("3261 9.2")
def test_cancel_is_a_transaction_of_its_own_that_finds_its_invite():
    invite = request()
    cancel = parse(bytes(invite.cancel()))
    assert server_key(cancel) != server_key(invite)
    assert server_key(cancel, "INVITE") == server_key(invite)


@pytest.mark.rfc("3261 9.2")
def test_cancel_finds_another_request_than_an_invite_too():
    subscribe = request("SUBSCRIBE")
    assert server_key(parse(bytes(subscribe.cancel())), "SUBSCRIBE") == server_key(subscribe)


@pytest.mark.rfc("3261 17.2.3")
@pytest.mark.rfc("3581 4")
def test_received_and_rport_of_a_request_do_not_count():
    noted = request(via=f"{sent_by('a.example')};rport=40000;received=192.0.2.7")
    assert server_key(noted) == server_key(request())


SAME_SENT_BY = [
    ("a.example", "A.EXAMPLE"),
    ("a.example", "a.example:5060"),
    ("EDGE1", "edge1"),
    ("edge-1.B.example", "edge-1.b.example:5060"),
    ("192.0.2.1", "192.0.2.1:5060"),
    ("[2001:db8::a]", "[2001:DB8::A]"),
    ("[2001:db8::a]", "[2001:db8:0:0:0:0:0:a]"),
    ("[2001:db8::a]", "[2001:0db8::000a]:5060"),
    ("[2001:db8::1]", "[2001:db8:0::0:1]"),
    ("[::ffff:192.0.2.1]", "192.0.2.1"),
    ("[::ffff:c000:201]", "[::ffff:192.0.2.1]"),
]


@pytest.mark.rfc("3261 17.2.3")
@pytest.mark.rfc("3261 7.3.1")
@pytest.mark.parametrize(("one", "other"), SAME_SENT_BY)
def test_spellings_of_one_sent_by_have_one_key(one, other):
    assert server_key(request(via=sent_by(one))) == server_key(request(via=sent_by(other)))


OTHER_SENT_BY = [
    ("a.example", "b.example"),
    ("a.example", "a.example:5061"),
    ("127.0.0.1", "127.1"),  # a host name, not an address
    ("127.0.0.1", "0x7f.0.0.1"),
    ("127.0.0.1", "127.0.0.01"),
    ("[2001:db8::a]", "[2001:db8::b]"),
    ("[2001:db8::a]", "[2001:db8::a]:5062"),
]


@pytest.mark.rfc("3261 17.2.3")
@pytest.mark.parametrize(("one", "other"), OTHER_SENT_BY)
def test_different_sent_by_have_different_keys(one, other):
    assert server_key(request(via=sent_by(one))) != server_key(request(via=sent_by(other)))


@pytest.mark.rfc("3261 18.1.1")
@pytest.mark.rfc("7118 5.5")
@pytest.mark.parametrize(
    ("transport", "port"),
    [("UDP", 5060), ("TCP", 5060), ("SCTP", 5060), ("TLS", 5061), ("WS", 80), ("WSS", 443)],
)
def test_sent_by_without_a_port_has_that_of_its_transport(transport, port):
    without, written = (
        request(via=sent_by(text, transport)) for text in ("a.example", f"a.example:{port}")
    )
    assert server_key(without) == server_key(written)


# ---- peers of RFC 2543, with branches that are not unique

OLD = [
    "SIP/2.0/UDP a.example:5060",
    "SIP/2.0/UDP a.example;branch=1",
    "SIP/2.0/UDP a.example;branch=z9hG4bK",
]

old_peer = pytest.mark.parametrize("via", OLD, ids=["no branch", "no cookie", "cookie alone"])


@old_peer
@pytest.mark.rfc("3261 17.2.3")
def test_repeated_request_of_an_old_peer_has_the_key_of_the_first(via):
    assert server_key(request(via=via)) == server_key(request(via=via))


@old_peer
@pytest.mark.rfc("3261 17.2.3")
@pytest.mark.parametrize(
    "changes",
    [
        {"uri": "sip:carol@b.example"},
        {"from_": "<sip:alice@a.example>;tag=other"},
        {"call_id": "other"},
        {"cseq": 986760},
        {"via": "SIP/2.0/UDP c.example;branch=1"},
        {"via": "SIP/2.0/UDP a.example;branch=2"},
    ],
    ids=["Request-URI", "From tag", "Call-ID", "CSeq", "Via host", "Via branch"],
)
def test_request_of_an_old_peer_is_another_when_any_of_these_differs(via, changes):
    assert server_key(request(**({"via": via} | changes))) != server_key(request(via=via))


@old_peer
@pytest.mark.rfc("3261 17.2.3")
def test_other_method_of_an_old_peer_is_another_transaction(via):
    assert server_key(request("OPTIONS", via=via)) != server_key(request(via=via))


@old_peer
@pytest.mark.rfc("3261 17.2.3")
def test_ack_of_an_old_peer_finds_its_invite_by_key_and_to_tag(via):
    invite = request(via=via)
    refusal = invite.response(486)
    ack = request("ACK", via=via, to=str(refusal.to))
    assert server_key(ack) == server_key(invite)
    assert acknowledges(ack, bytes(refusal))


@old_peer
@pytest.mark.rfc("3261 17.2.3")
def test_ack_of_an_old_peer_to_another_response_acknowledges_nothing(via):
    last = bytes(request(via=via).response(486))
    assert not acknowledges(request("ACK", via=via, to="Bob <sip:bob@b.example>;tag=other"), last)


@pytest.mark.rfc("3261 17.2.3")
def test_to_tag_of_an_old_ack_is_compared_whole_and_with_the_to_only():
    via = OLD[1]
    last = bytes(request(via=via, to="<sip:bob@b.example>;tag=abcdef").response(486))
    assert acknowledges(request("ACK", via=via, to="<sip:bob@b.example>;tag=abcdef"), last)
    assert not acknowledges(request("ACK", via=via, to="<sip:bob@b.example>;tag=abc"), last)
    assert not acknowledges(
        request("ACK", via=via, to="<sip:bob@b.example>;tag=88sja8x"), last
    )  # our From tag


@pytest.mark.rfc("3261 17.2.3")
def test_to_tag_of_an_old_ack_is_found_in_a_compact_to():
    via = OLD[1]
    last = bytes(request(via=via, to="<sip:bob@b.example>;tag=abc").response(486)).replace(
        b"\r\nTo:", b"\r\nt :"
    )
    assert acknowledges(request("ACK", via=via, to="<sip:bob@b.example>;tag=abc"), last)
    assert not acknowledges(request("ACK", via=via, to="<sip:bob@b.example>;tag=abcd"), last)


def test_ack_of_an_old_peer_before_any_response_acknowledges_nothing():
    assert not acknowledges(request("ACK", via=OLD[1], to="<sip:bob@b.example>;tag=a"), None)


@pytest.mark.rfc("3261 17.2.3")
def test_ack_of_a_compliant_peer_needs_no_to_tag_of_ours():
    assert acknowledges(request("ACK", to="Bob <sip:bob@b.example>;tag=other"), None)


@pytest.mark.rfc("3261 17.1.1.3")
@pytest.mark.rfc("3261 17.2.3")
def test_ack_of_an_old_proxy_with_the_top_via_only_matches():
    # An INVITE that came through an old proxy has the caller's Via below, here in one line; its ACK has the proxy's alone.
    top = "SIP/2.0/UDP proxy.example;branch=1"
    invite = request(via=f"{top}, SIP/2.0/UDP a.example;branch=7")
    assert server_key(request("ACK", via=top, to="<sip:bob@b.example>;tag=x")) == server_key(invite)


@pytest.mark.rfc("3261 17.2.3")
@pytest.mark.rfc("3261 18.2.1")
def test_received_and_rport_do_not_change_the_key_of_an_old_request():
    noted = "SIP/2.0/UDP a.example;rport=40000;branch=1;received=192.0.2.7"
    assert server_key(request(via=noted)) == server_key(
        request(via="SIP/2.0/UDP a.example;branch=1")
    )


def test_broken_lower_via_does_not_matter_to_an_old_request():
    text = bytes(request(via=OLD[1])).replace(b"\r\nFrom:", b"\r\nVia: not one at all\r\nFrom:")
    broken = parse(text)
    with pytest.raises(ParseError):
        _ = broken.via
    assert server_key(broken) == server_key(request(via=OLD[1]))


# ---- our own messages


def test_request_made_here_has_the_key_it_has_at_the_peer():
    made = Request(
        "INVITE",
        "sip:bob@b.example",
        via=sent_by("A.example:5060"),
        from_="<sip:alice@a.example>;tag=1",
        to="<sip:bob@b.example>",
        call_id="2",
        cseq="3 INVITE",
        max_forwards=70,
    )
    assert server_key(made) == server_key(parse(bytes(made)))


# ---- what ICMP errors quote


@pytest.mark.rfc("3261 18.4")
@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "CANCEL", "FOO"])
def test_request_is_known_by_its_quoted_beginning(method):
    whole = request(method)
    data = bytes(whole)
    end = data.index(b"\r\n", data.index(b"Via: ")) + 2
    assert quoted_key(data) == quoted_key(data[:end]) == client_key(whole)
    assert quoted_key(data[: end - 1]) is None


@pytest.mark.parametrize(
    "line",
    [
        "v: {}",
        "VIA : {}",
        "via:{}",
        "Via: {}, SIP/2.0/UDP b.example;branch=z9hG4bK1",
        "A: b\r\nVia: {}",
    ],
)
def test_quoted_via_may_be_spelled_in_any_way(line):
    data = f"INVITE sip:b SIP/2.0\r\n{line.format(sent_by('a.example'))}\r\n".encode()
    assert quoted_key(data) == client_key(request())


@pytest.mark.parametrize("method", ["ACK", "SIP/2.0"])
def test_quoted_ack_and_response_belong_to_no_client_transaction(method):
    assert quoted_key(f"{method} sip:b SIP/2.0\r\nVia: {sent_by('a.example')}\r\n".encode()) == ""


@pytest.mark.parametrize(
    "via", ["SIP/2.0/UDP a.example", "SIP/2.0/UDP a.example;branch=1", "SIP/2.0/UDP", "", '"', "<"]
)
def test_quoted_via_of_another_element_has_no_transaction(via):
    assert quoted_key(f"INVITE sip:b SIP/2.0\r\nVia: {via}\r\n".encode()) == ""


@given(
    st.binary(max_size=200)
    | st.binary(max_size=50).map(lambda data: b"INVITE sip:b SIP/2.0\r\nVia: " + data + b"\r\n")
)
def test_quoted_bytes_never_raise(data):
    assert quoted_key(data) is None or isinstance(quoted_key(data), str)
