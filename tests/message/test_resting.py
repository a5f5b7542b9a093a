"""rest(): header lines of which only the bytes are kept are those that were read."""

from __future__ import annotations

import copy
import gc
import pickle

import pytest

from sippet_gevent.errors import ParseError
from sippet_gevent.message.parser import parse
from sippet_gevent.message.resting import rest

RESTING = (
    "INVITE sip:bob@example.com SIP/2.0",
    "v: SIP/2.0/UDP 192.0.2.1 ;branch=z9hG4bK1",
    "Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK2",
    "FROM:<sip:alice@example.com>;tag=1",
    "To: <sip:bob@example.com>",
    "Call-ID: 1@example.com",
    "CSeq: 1 INVITE",
    "Subject: a folded",
    "  line",
    "X-Empty:",
    "x-other:  caf\u00e9 ",
    "Contact: <sip:alice@192.0.2.1>;expires=soon",
    "Content-Length: 0",
)


def unrested():
    return parse("\r\n".join((*RESTING, "", "")).encode())


def resting():
    request = unrested()
    rest(request.headers)
    return request


def change_top_via(request):
    request.headers.set_line(request.headers.top_via_line, "SIP/2.0/UDP 192.0.2.9;received=1.2.3.4")


@pytest.mark.parametrize("change", [None, change_top_via], ids=["as_it_came", "changed"])
@pytest.mark.parametrize("line_break", [b"\r\n", b"\n"], ids=["crlf", "lf"])
def test_lines_that_have_rested_are_as_before(change, line_break):
    data = bytes(unrested()).replace(b"\r\n", line_break)
    before, after = parse(data), parse(data)
    if change is not None:
        change(before)
        change(after)
    rest(after.headers)
    rest(after.headers)
    assert after.headers.lines == before.headers.lines
    assert after.headers.fields == before.headers.fields
    assert after.headers.wire == before.headers.wire and bytes(after) == bytes(before)
    assert after.to == before.to and after.subject == "a folded line"


@pytest.mark.parametrize(
    "use",
    [
        lambda request: request.headers["Subject"],
        lambda request: request.subject,
        lambda request: "Subject" in request.headers,
        lambda request: request.headers.add("X-New", "1"),
        lambda request: request.headers.replace("Subject", []),
        lambda request: request.copy(),
        lambda request: request.response(180),
        lambda request: request.answer(486),
        lambda request: repr(request.headers),
        lambda request: setattr(request, "body", b"x"),
        lambda request: setattr(request.headers, "lines", []),
        bytes,
        str,
    ],
)  # fmt: skip
def test_every_use_of_lines_that_rest_is_that_of_lines_that_were_read(use):
    rested, read_before = resting(), unrested()
    for request in (rested, read_before):
        request.use_to_tag("ours")
    first, second = use(rested), use(read_before)
    assert str(first) == str(second)
    assert rested.headers.lines == read_before.headers.lines
    assert bytes(rested) == bytes(read_before)


def kept_by(request):
    referents = gc.get_referents(request.headers)
    return {each for each in referents if each is not None and not isinstance(each, type)}


def test_lines_that_rest_keep_one_object():
    request = resting()
    assert kept_by(request) == {request.headers.wire}
    change_top_via(request)
    rest(request.headers)
    [packed] = kept_by(request)
    assert type(packed) is bytes and b"received=1.2.3.4" in packed


def test_unreadable_text_is_a_part_of_its_message_after_a_rest():
    request = unrested()
    with pytest.raises(ParseError) as late:
        _ = request.contact[0].expires
    rest(request.headers)
    assert request.is_source_of(late.value)
    assert not request.is_source_of(ParseError("broken", source="later"))


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_lines_that_rest_can_be_copied_and_pickled(copied):
    for part in (lambda request: request, lambda request: request.headers):
        assert copied(part(resting())) == part(unrested())
