"""Cutter: cuts text with many messages, in pieces of any size."""

from __future__ import annotations

import pytest

from sippet_gevent.command.cutter import LIMIT, Cutter
from tests.conformance.corpus import OPTIONS, message, without
from tests.pace import is_within

BODY = b"SIP/2.0 200 OK\r\nOPTIONS sip:x SIP/2.0\r\n\r\n"
WITH_BODY = message("Content-Type: message/sipfrag", body=BODY)


def cut(*texts, skip=False):
    """Return the messages of a text that arrives in these pieces."""
    cutter = Cutter(skip=skip)
    return [piece.data for text in texts for piece in cutter.feed(text)] + [
        piece.data for piece in cutter.finish()
    ]


@pytest.mark.rfc("3261 18.3")
def test_content_length_ends_a_message_whatever_its_body():
    assert cut(WITH_BODY + OPTIONS + WITH_BODY) == [WITH_BODY, OPTIONS, WITH_BODY]


def test_next_start_line_ends_a_message_without_content_length():
    bare = without("Content-Length") + b"tea"
    assert cut(bare + b"\r\n" + OPTIONS) == [bare + b"\r\n", OPTIONS]


@pytest.mark.parametrize(
    "lengths",
    [b"Content-Length: 2\r\nContent-Length: 3", b"l: 99999", b"Content-Length: tea", b"l: -1"],
)
def test_next_start_line_ends_a_message_with_a_wrong_content_length(lengths):
    broken = OPTIONS.replace(b"Content-Length: 0", lengths) + b"tea\r\n"
    assert cut(broken + OPTIONS) == [broken, OPTIONS]


@pytest.mark.parametrize("spelling", [b"l:4", b"CONTENT-LENGTH\t:\t4", b"Content-Length:\r\n 4"])
def test_content_length_may_be_spelled_in_any_way(spelling):
    text = OPTIONS.replace(b"Content-Length: 0", spelling) + b"tea?"
    assert cut(text + OPTIONS) == [text, OPTIONS]


def test_body_that_is_cut_off_ends_at_the_next_start_line():
    broken = OPTIONS.replace(b"Content-Length: 0", b"Content-Length: 9000") + b"tea\r\n"
    assert cut(broken + OPTIONS) == [broken, OPTIONS]


def test_header_section_that_is_cut_off_ends_at_the_next_start_line():
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


def test_text_behind_a_message_that_begins_none_is_marked():
    cutter = Cutter()
    pieces = cutter.feed(OPTIONS + b"tea\r\n" + OPTIONS) + cutter.finish()
    assert [(piece.data, piece.is_rest) for piece in pieces] == [
        (OPTIONS, False),
        (b"tea\r\n", True),
        (OPTIONS, False),
    ]


def test_first_text_is_a_message():
    assert cut(b"tea\r\n" + OPTIONS) == [b"tea\r\n", OPTIONS]


def test_first_text_is_skipped_with_skip():
    assert cut(b"tail of a body\r\n" + OPTIONS + OPTIONS, skip=True) == [OPTIONS, OPTIONS]


def test_pieces_of_any_size_give_the_same_messages():
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
    assert is_within(1.0, lambda: cut(text * (300_000 // len(text))))
