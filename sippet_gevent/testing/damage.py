"""DAMAGES: what may happen to a message on its path, as functions from bytes to bytes."""

from __future__ import annotations

import re
from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

TOKENS = (
    *(b"\r", b"\n", b"\r\n", b"\n\r", b"\r\n\r\n", b"\n\n", b"\r\n ", b"\n\t", b"\r\r\n"),
    *(b" ", b"\t", b":", b" :", b"::", b";", b";;", b",", b",,", b"=", b"?", b"@", b"*"),
    *(b"<", b">", b"<>", b'"', b'\\"', b"\\", b"%", b"%00", b"%0d%0a"),
    *(
        b"\0",
        b"\x0b",
        b"\x7f",
        b"\xff",
        b"\xc3",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
    ),
    *(
        b"SIP/2.0",
        b"SIP/3.0",
        b"sip/2.0",
        b"SIP/2.0/UDP",
        b"SIP / 2.0 / TCP",
        b"HTTP/1.1",
        b"sip:",
        b"sips:",
        b"tel:",
        b"urn:",
    ),
    *(
        b";tag=",
        b";tag=x",
        b";branch=",
        b";branch=z9hG4bK",
        b";rport",
        b";received=",
        b";maddr=",
        b";ttl=256",
        b";lr",
        b";q=1.1",
    ),
    *(
        b"Via: ",
        b"v:",
        b"From: ",
        b"To: ",
        b"m: *",
        b"l: ",
        b"Content-Length: 9",
        b"CSeq: ",
        b"Route: <sip:a;lr>",
        b"Require: x",
    ),
    *(b"INVITE ", b"ACK ", b"CANCEL ", b"invite ", b"[2001:db8::1]", b"[::", b"[::ffff:192.0.2.1]"),
    *(b"Digest ", b'nonce="', b"nc=0", b"stale=true", b"qop=auth-int"),
)
"""Texts to insert: separators, line breaks, bytes that are not text, words of SIP in the wrong
place."""

NUMBERS = (
    *(b"", b"-1", b"0", b"00", b"+1", b"1_0", b"0x1f", b"1e9", "\u0663".encode()),
    *(b"256", b"65536", b"2147483648", b"4294967296", b"9" * 25, b"9" * 5000),
)
"""Texts that take the place of numbers. They are just out of range, far out of range, or accepted
by int() and not by SIP."""

LINE_BREAKS = (b"\n", b"\r", b"\n\r", b"\r\r\n", b"\r\n ", b"\r\n\r\n", b"\0\r\n", b"")
SWELLINGS = (b"x", b";x", b",", b" ", b'"', b"\\", b"<", b"(", b"\r\n a", b"%41")
SWOLLEN = 9000
"""How often a piece of SWELLINGS is inserted. The line is then longer than its limit."""

_NUMBER = re.compile(rb"[0-9]+")


def _slice(draw: DrawFn, data: bytes, longest: int = 60) -> tuple[int, int]:
    start = draw(st.integers(0, len(data)))
    return start, min(len(data), start + draw(st.integers(1, longest)))


def _cut_off(draw: DrawFn, data: bytes) -> bytes:
    return data[: draw(st.integers(0, len(data)))]


def _cut_out(draw: DrawFn, data: bytes) -> bytes:
    start, stop = _slice(draw, data)
    return data[:start] + data[stop:]


def _repeat(draw: DrawFn, data: bytes) -> bytes:
    start, stop = _slice(draw, data)
    return data[:start] + data[start:stop] * draw(st.sampled_from([2, 3, 70, 300])) + data[stop:]


def _insert(draw: DrawFn, data: bytes) -> bytes:
    at = draw(st.integers(0, len(data)))
    return (
        data[:at]
        + draw(st.sampled_from(TOKENS)) * draw(st.sampled_from([1, 1, 1, 2, 70]))
        + data[at:]
    )


def _flip(draw: DrawFn, data: bytes) -> bytes:
    at = draw(st.integers(0, max(0, len(data) - 1)))
    return (
        data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        if data
        else data
    )


def _renumber(draw: DrawFn, data: bytes) -> bytes:
    found = list(_NUMBER.finditer(data))
    if not found:
        return data
    match = draw(st.sampled_from(found))
    return data[: match.start()] + draw(st.sampled_from(NUMBERS)) + data[match.end() :]


def _break_line(draw: DrawFn, data: bytes) -> bytes:
    breaks = [at for at in range(len(data)) if data[at : at + 2] == b"\r\n"]
    if not breaks:
        return data
    at = draw(st.sampled_from(breaks))
    return data[:at] + draw(st.sampled_from(LINE_BREAKS)) + data[at + 2 :]


def _break_lines(draw: DrawFn, data: bytes) -> bytes:
    return data.replace(b"\r\n", draw(st.sampled_from(LINE_BREAKS[:5])))


def _swap_lines(draw: DrawFn, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    one, other = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\r\n".join(lines)


def _swap_values(draw: DrawFn, data: bytes) -> bytes:
    lines = [line.partition(b":") for line in data.split(b"\r\n")]
    one, other = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
    lines[one], lines[other] = (
        (*lines[one][:2], lines[other][2]),
        (*lines[other][:2], lines[one][2]),
    )
    return b"\r\n".join(map(b"".join, lines))


def _flood(draw: DrawFn, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    at = draw(st.integers(0, len(lines) - 1))
    return b"\r\n".join(
        [*lines[:at], *lines[at : at + 1] * draw(st.sampled_from([2, 101, 300])), *lines[at + 1 :]]
    )


def _swell(draw: DrawFn, data: bytes) -> bytes:
    at = draw(st.integers(0, len(data)))
    return data[:at] + draw(st.sampled_from(SWELLINGS)) * SWOLLEN + data[at:]


DAMAGES: dict[str, Callable[[DrawFn, bytes], bytes]] = {
    "cut off": _cut_off,
    "cut out": _cut_out,
    "repeat": _repeat,
    "insert": _insert,
    "flip": _flip,
    "renumber": _renumber,
    "break line": _break_line,
    "break lines": _break_lines,
    "swap lines": _swap_lines,
    "swap values": _swap_values,
    "flood": _flood,
    "swell": _swell,
}
"""The functions that damage a message, by the names that mangled() takes."""
