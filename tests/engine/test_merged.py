"""Copies of one request by different paths, RFC 3261 §8.2.2.2."""

from __future__ import annotations

import pytest

from sippet_gevent.engine.merged import merge_key
from sippet_gevent.message.parser import parse
from sippet_gevent.transaction.keys import server_key

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


@pytest.mark.rfc("3261 8.2.2.2")
def test_copies_of_a_request_by_different_paths_have_one_merge_key():
    by_another_way = request(
        via=f"{sent_by('p.example', branch='z9hG4bKp')}, {sent_by('a.example')}"
    )
    assert merge_key(by_another_way) == merge_key(request())
    assert server_key(by_another_way) != server_key(request())


@pytest.mark.rfc("3261 8.2.2.2")
@pytest.mark.parametrize(
    "changes",
    [
        {"from_": "<sip:alice@a.example>;tag=other"},
        {"call_id": "other"},
        {"cseq": 986760},
        {"uri": "sip:carol@b.example"},
    ],
    ids=["From tag", "Call-ID", "CSeq number", "Request-URI: a spiral"],
)
def test_request_is_no_copy_when_any_of_these_differs(changes):
    assert merge_key(request(**changes)) != merge_key(request())


@pytest.mark.rfc("3261 8.2.2.2")
def test_request_with_another_method_is_no_copy():
    assert merge_key(request("OPTIONS")) != merge_key(request())


@pytest.mark.rfc("3261 8.2.2.2")
def test_request_within_a_dialog_has_no_merge_key():
    assert merge_key(request(to="Bob <sip:bob@b.example>;tag=a6c85cf")) is None
