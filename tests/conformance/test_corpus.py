"""Every datagram of the shared corpus gets the verdict of its row, in linear time, and nothing but a ParseError comes out."""

import functools
from functools import lru_cache

import pytest

from sippet_gevent.errors import ParseError
from sippet_gevent.message.header import ROWS
from sippet_gevent.message.message import Request, Response
from sippet_gevent.message.parser import parse

from ..pace import is_within
from . import corpus

corpus.require()

SETS = list(dict.fromkeys(row.set for row in corpus.datagrams()))

DISPUTED = {
    "jsip-torture/018.sip": "a line break before the colon: HCOLON = *( SP / HTAB ) ':' SWS (§25.1), no fold there",
    "kamailio-misc/crlf/invite4-cseq.sip": "'CSeq:101' has no method: CSeq = 1*DIGIT LWS Method (§25.1)",
    "protos-regen/SIP-Via-Port-Int/integer-023.dat": "'1;2' is port 1 and a parameter: via-extension = generic-param (§25.1)",
    "protos-regen/SIP-Via-Port-Int/integer-024.dat": "'1,2' is port 1 and a second Via, which is for the hop that wrote it (§16.3)",
    "protos-regen/SIP-URI-Port-Int/integer-023.dat": "'1;2' is port 1 and a parameter: other-param = pname (§25.1)",
    "protos-regen/SIP-URI-Port-Int/integer-017.dat": "an over-long Request-URI is 414 (§21.4.12), which the row does not list",
    "rfc3261-examples/005-s16.12.1.2-Fx-INVITE.sip": "an excerpt, without even a Via: the row's 200 is for the whole",
}
"""Rows whose verdict is not ours, and why."""


def rows(set_: str, expected: str) -> list[corpus.Row]:
    return [row for row in corpus.rows_of(set_, expected=expected) if row.file not in DISPUTED]


def outcome(data: bytes) -> Request | Response | ParseError:
    try:
        return parse(data)
    except ParseError as error:
        return error


@lru_cache(None)
def result_of(row: corpus.Row) -> Request | Response | ParseError:
    return outcome(row.data)


def accepted(name: str) -> list[tuple[corpus.Row, Request | Response]]:
    return [
        (row, result)
        for row in corpus.rows_of(name)
        if not isinstance(result := result_of(row), ParseError)
    ]


def refused_above(row: corpus.Row, message: Request | Response | ParseError) -> bool:
    """True for what parses well and is refused by those who look at it: strays, and URI schemes nobody serves (416)."""
    if isinstance(message, Response):
        return "drop" in row.status  # no transaction waits for it
    return isinstance(message, Request) and "416" in row.status and not message.uri.is_sip


def permits(row: corpus.Row, error: ParseError) -> bool:
    """True when the row lets us do what this error makes us do."""
    if error.request is None or "Via" not in error.request.headers or row.data.startswith(b"SIP/"):
        return True  # nobody to answer: dropped (threats 4b)
    if len(row.data) > corpus.LARGEST_DATAGRAM:
        return error.status in (400, 413, 513)
    return str(error.status) in row.status or row.status == "drop"


@pytest.mark.parametrize("name", SETS)
def test_message_of_the_corpus_that_must_be_accepted_is_parsed(name):
    refused = {
        row.file: str(result)
        for row in rows(name, "accept")
        if isinstance(result := result_of(row), ParseError)
    }
    assert not refused


@pytest.mark.parametrize("name", SETS)
def test_message_of_the_corpus_that_must_be_refused_is_refused(name):
    taken = []
    for row in rows(name, "reject"):
        result = result_of(row)
        if not isinstance(result, ParseError) and not refused_above(row, result):
            taken.append((row.file, repr(result)))
    assert not taken


@pytest.mark.parametrize("name", SETS)
def test_refusal_has_a_status_the_row_permits(name):
    wrong = []
    for row in rows(name, "reject"):
        result = result_of(row)
        if isinstance(result, ParseError) and not permits(row, result):
            wrong.append((row.file, row.status, result.status))
    assert not wrong


@pytest.mark.parametrize("name", SETS)
def test_refused_request_with_a_via_can_be_answered(name):
    unanswered = []
    for row in rows(name, "reject"):
        result = result_of(row)
        if not isinstance(result, ParseError) or "drop" in row.status:
            continue
        if len(row.data) > corpus.LARGEST_DATAGRAM or row.data.startswith(b"SIP/"):
            continue
        if result.request is None or "Via" not in result.request.headers:
            unanswered.append((row.file, row.status, str(result)))
    assert not unanswered


@pytest.mark.parametrize("name", SETS)
def test_every_answer_to_a_broken_request_is_well_framed(name):
    broken = []
    for row in corpus.rows_of(name):
        result = result_of(row)
        if isinstance(result, ParseError) and result.request is not None:
            head, _, body = bytes(result.request.response(result.status)).partition(b"\r\n\r\n")
            if body or b"\n" in head.replace(b"\r\n", b"") or b"\r" in head.replace(b"\r\n", b""):
                broken.append(row.file)
    assert not broken


@pytest.mark.parametrize("name", SETS)
def test_every_accepted_message_is_forwarded_byte_for_byte(name):
    changed = []
    for row, message in accepted(name):
        if bytes(message) != corpus.forwarded(row.data):
            changed.append(row.file)
    assert not changed


@pytest.mark.parametrize("name", SETS)
def test_every_header_reads_as_typed_or_raises_a_parse_error_that_names_it(name):
    unnamed = []
    for row, message in accepted(name):
        for header in message.headers:
            try:
                message.headers.get_header(header)
            except ParseError as error:
                if error.header != header:
                    unnamed.append((row.file, header, str(error)))
    assert not unnamed


@pytest.mark.parametrize("name", SETS)
def test_every_typed_value_is_written_as_text_that_means_the_same(name):
    different = []
    for row, message in accepted(name):
        for header in message.headers:
            if (
                header not in ROWS or b"\0" in row.data
            ):  # a quoted NUL is read, and never written again
                continue
            try:
                value = message.headers.typed(ROWS[header])
            except ParseError:
                continue
            texts = ROWS[header].write(value)
            if texts and ROWS[header].read(texts) != value:
                different.append((row.file, header, value))
    assert not different


@pytest.mark.parametrize("name", SETS)
def test_every_accepted_request_gets_a_response_that_parses(name):
    broken = []
    for row, message in accepted(name):
        if isinstance(message, Request) and isinstance(
            answer := outcome(bytes(message.response(200))), ParseError
        ):
            broken.append((row.file, str(answer)))
    assert not broken


def test_parsing_takes_at_most_two_milliseconds_plus_one_per_2000_bytes():
    slow = []
    for row in corpus.datagrams():
        if not is_within(0.002 + len(row.data) / 2_000_000, functools.partial(outcome, row.data)):
            slow.append(row.file)
    assert not slow


def test_disputed_rows_are_still_disputed():
    agreed = []
    for row in corpus.datagrams():
        if row.file in DISPUTED:
            result = result_of(row)
            refused = isinstance(result, ParseError)
            if refused == (row.expected == "reject") and (
                not refused or str(result.status) in row.status
            ):
                agreed.append(row.file)
    assert not agreed
