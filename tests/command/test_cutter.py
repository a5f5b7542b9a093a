"""Cutter: many messages in one text, whole or in any pieces."""

from __future__ import annotations

import time

import pytest

from sippet_gevent.command.cutter import LIMIT, Cutter
from tests.message.corpus import OPTIONS, message, without

BODY = b"SIP/2.0 200 OK\r\nOPTIONS sip:x SIP/2.0\r\n\r\n"
WITH_BODY = message("Content-Type: message/sipfrag", body=BODY)


def cut(*texts, skip=False):
    """The messages of a text that comes in these pieces."""
    cutter = Cutter(skip=skip)
    return [piece.data for text in texts for piece in cutter.feed(text)] + [
        piece.data for piece in cutter.finish()
    ]


@pytest.mark.rfc("3261 18.3")
def test_content_length_says_where_a_message_ends_whatever_its_body_looks_like():
    assert cut(WITH_BODY + OPTIONS + WITH_BODY) == [WITH_BODY, OPTIONS, WITH_BODY]


def test_without_content_length_the_next_start_line_does():
    bare = without("Content-Length") + b"tea"
    assert cut(bare + b"\r\n" + OPTIONS) == [bare + b"\r\n", OPTIONS]


@pytest.mark.parametrize(
    "lengths",
    [b"Content-Length: 2\r\nContent-Length: 3", b"l: 99999", b"Content-Length: tea", b"l: -1"],
)
def test_content_length_that_cannot_be_believed_leaves_the_next_start_line(lengths):
    broken = OPTIONS.replace(b"Content-Length: 0", lengths) + b"tea\r\n"
    assert cut(broken + OPTIONS) == [broken, OPTIONS]


@pytest.mark.parametrize("spelling", [b"l:4", b"CONTENT-LENGTH\t:\t4", b"Content-Length:\r\n 4"])
def test_content_length_may_be_spelled_in_any_way(spelling):
    text = OPTIONS.replace(b"Content-Length: 0", spelling) + b"tea?"
    assert cut(text + OPTIONS) == [text, OPTIONS]


def test_body_that_has_been_cut_off_ends_at_the_next_start_line():
    broken = OPTIONS.replace(b"Content-Length: 0", b"Content-Length: 9000") + b"tea\r\n"
    assert cut(broken + OPTIONS) == [broken, OPTIONS]


def test_header_section_that_has_been_cut_off_ends_at_the_next_start_line():
    broken = OPTIONS[:100] + b"\r\n"
    assert cut(broken + OPTIONS) == [broken, OPTIONS]


@pytest.mark.rfc("3261 7.5")
def test_line_breaks_between_messages_are_skipped():
    pieces = Cutter().feed(b"\r\n\r\n" + OPTIONS + b"\r\n\n" + OPTIONS)
    assert [(piece.offset, piece.data) for piece in pieces] == [
        (4, OPTIONS),
        (4 + len(OPTIONS) + 3, OPTIONS),
    ]


def test_line_breaks_may_be_bare():
    text = OPTIONS.replace(b"\r\n", b"\n")
    assert cut(text + text) == [text, text]


def test_what_stands_behind_a_message_and_begins_none_is_marked():
    cutter = Cutter()
    pieces = cutter.feed(OPTIONS + b"tea\r\n" + OPTIONS) + cutter.finish()
    assert [(piece.data, piece.is_rest) for piece in pieces] == [
        (OPTIONS, False),
        (b"tea\r\n", True),
        (OPTIONS, False),
    ]


def test_what_comes_first_is_taken_for_a_message():
    assert cut(b"tea\r\n" + OPTIONS) == [b"tea\r\n", OPTIONS]


def test_what_comes_first_is_skipped_when_asked():
    assert cut(b"tail of a body\r\n" + OPTIONS + OPTIONS, skip=True) == [OPTIONS, OPTIONS]


def test_it_is_the_same_however_the_text_comes():
    text = (
        b"\r\n"
        + WITH_BODY
        + OPTIONS[:90]
        + b"\r\n"
        + OPTIONS
        + b"tea\r\n"
        + without("Content-Length")
        + WITH_BODY
    )
    whole = cut(text)
    assert len(whole) == 6
    for at in range(len(text)):
        assert cut(text[:at], text[at:]) == whole
    assert cut(*[text[at : at + 1] for at in range(len(text))]) == whole


def test_message_over_the_limit_is_cut_and_the_next_one_found():
    text = message("Subject: " + "x" * LIMIT)
    pieces = cut(text + OPTIONS)
    assert [len(piece) for piece in pieces] == [LIMIT + 1, len(OPTIONS)]


def test_text_without_messages_is_not_kept():
    cutter = Cutter()
    for _ in range(100):
        cutter.feed(b"\0" * 65536)
        assert len(cutter._text) <= LIMIT + 65536


@pytest.mark.parametrize(
    "text", [b"\r\n", b" ", b"x:", b"a b ", b"A sip:x SIP/2.0\r", b"SIP/2.0 ", b"\n \n", b"l:1\r\n"]
)
def test_time_is_linear(text):
    started = time.perf_counter()
    cut(text * (300_000 // len(text)))
    assert time.perf_counter() - started < 1
