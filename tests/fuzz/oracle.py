"""The oracle: what must hold of any bytes whatever. Both fuzz targets ask it, and the replay of what they found. No tests here.

`check(data)` raises Finding for the first thing that does not hold; its `what` is short enough for a file's name.
"""

from __future__ import annotations

import random
import re
import sys
import time
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from sippet_gevent.errors import InvalidValue, ParseError
from sippet_gevent.message import peek
from sippet_gevent.message import scan as python
from sippet_gevent.message.echo import echo
from sippet_gevent.message.framer import Framer
from sippet_gevent.message.grammar import is_token
from sippet_gevent.message.head import head
from sippet_gevent.message.header import ROWS, Header
from sippet_gevent.message.message import Request, Response
from sippet_gevent.message.parser import DEFAULT_LIMITS, parse
from sippet_gevent.message.uri import URI
from tests.conformance import corpus
from tests.message.test_twins import (
    LIMITS,
    VALUE_TWINS,
    c,
    different_lengths,
    disagreement,
    outcome,
    value_outcome,
)
from tests.pace import cpu_seconds, slowness

SECONDS = 0.05
"""CPU for 64 KiB, at most, for each of: parsing, reading all headers, writing them again."""

LEAST_SECONDS = 0.003
"""CPU that is granted to any input: what a clock and a cold cache cost."""

SHORTEST_LINE = 40
"""Bytes of header line that our own answers may add to what came, a To tag; nearer to the limit they need not parse."""

STRETCHED_TO = (8_000, 60_000)
"""Bytes that an input is stretched to, to see whether time is linear: just under the limits of a line and of a message."""


class Finding(AssertionError):
    """Something that must hold of any bytes and does not hold of `data`."""

    def __init__(self, what: str, data: bytes, *details: Any) -> None:
        super().__init__(f"{what}: {', '.join(repr(detail)[:500] for detail in details)}")
        self.what = what
        self.data = data


def check(data: bytes, *, patience: float = 1.0, thorough: bool = True) -> None:
    """Raise Finding unless everything holds of these bytes, as a message, as a header's text, as a URI.

    `patience` multiplies the time allowed, for instrumented code. Without `thorough`, each input is tried as the text of
    a few headers instead of all, and only some inputs are stretched; which ones depends on the bytes alone.
    """
    chance = random.Random(zlib.crc32(data))
    rows = list(ROWS.values())
    check_message(data, patience)
    check_entries(data)
    check_stream(data, chance, (1, 7, 400) if thorough else [chance.choice((1, 7, 400))])
    check_texts(data, rows if thorough else chance.sample(rows, 3))
    if thorough or chance.random() < 0.02:
        for size in STRETCHED_TO:
            check_times(stretched(data, size, chance), patience)


# ---- a message


def check_message(data: bytes, patience: float = 1.0) -> None:
    """Parse it; if it is a message, use it in every way; if not, answer it."""
    try:
        message = attempt("parse", data, lambda: parse(data))
    except ParseError as error:
        check_refusal(data, error)
        return
    check_octets(data, message)
    for name in message.headers:
        row = ROWS.get(name)
        if row is not None:
            check_row(data, row, message.headers.all(name))
    attempt("str", data, lambda: (str(message), repr(message)))
    if isinstance(message, Request):
        check_uri(data, message.uri_text)
        check_answers(data, message)
    check_times(data, patience)


def check_refusal(data: bytes, error: ParseError) -> None:
    """What was refused gets an answer that is nothing but one response, or none."""
    attempt("str of ParseError", data, lambda: str(error))
    if error.request is not None:
        answer = attempt(
            "answer to the refused", data, lambda: bytes(error.request.response(error.status))
        )
        head, _, body = answer.partition(b"\r\n\r\n")
        rest = head.replace(b"\r\n", b"")
        if body or b"\n" in rest or b"\r" in rest:
            raise Finding("answer to the refused is not well framed", data, answer)


def check_octets(data: bytes, message: Request | Response) -> None:
    """An untouched message goes out byte for byte, by either way, and what goes out is the same message again."""
    sent = attempt("bytes", data, lambda: bytes(message))
    wanted = corpus.forwarded(data)
    if sent != wanted:
        raise Finding("untouched message is changed", data, sent, wanted)
    copied = attempt("bytes of a copy", data, lambda: bytes(message.copy()))
    if copied != sent:
        raise Finding("copy is another message", data, copied, sent)
    try:
        again = parse(sent)
    except ParseError as error:
        grown = (
            len(sent) > DEFAULT_LIMITS.message or len(message.headers) >= DEFAULT_LIMITS.headers
        )  # a Content-Length more
        if not grown:
            raise Finding("what was sent is refused", data, sent, str(error)) from error
        return
    if again != message or (
        again.headers != message.headers and len(again.headers) == len(message.headers)
    ):
        raise Finding("what was sent is another message", data, sent)


def check_answers(data: bytes, request: Request) -> None:
    """A response to what was taken, its quick form, its ACK and its CANCEL are messages that parse."""
    response = attempt("response", data, lambda: request.response(200))
    if attempt("answer", data, lambda: request.answer(200)) != bytes(response):
        raise Finding("answer is not the response", data, request.answer(200), bytes(response))
    ours = [bytes(response)]
    if request.method == "INVITE":
        for made in (Request.cancel, acknowledged):
            try:
                ours.append(attempt("cancel or ack", data, lambda made=made: bytes(made(request))))
            except ParseError:
                pass  # a second Via that cannot be read, in one line with the first: no line of ours
    if (
        max(map(len, data.split(b"\n"))) > DEFAULT_LIMITS.line - SHORTEST_LINE
        or len(data) > DEFAULT_LIMITS.message // 2
    ):
        return
    for sent in ours:
        try:
            parse(sent)
        except ParseError as error:
            if error.status != 513:
                raise Finding("our own message is refused", data, sent, str(error)) from error


def acknowledged(request: Request) -> Request:
    return request.ack(request.response(486))


# ---- a stream


def check_stream(data: bytes, chance: random.Random, longest_pieces: Iterable[int]) -> None:
    """A stream is cut into the same messages however it comes in pieces, and each is one whole message to parse()."""
    whole = attempt("Framer", data, lambda: cut(data, [len(data)]))
    for longest in longest_pieces:
        sizes = [chance.randint(1, longest) for _ in data]
        pieces = attempt("Framer", data, lambda sizes=sizes: cut(data, sizes))
        if pieces != whole:
            raise Finding("Framer cuts differently in pieces", data, whole, pieces)
    at = 0
    for message in whole[0]:
        at = data.find(message, at)
        if at < 0:
            raise Finding("Framer makes up bytes", data, message)
        at += len(message)
        try:
            parsed = parse(message)
        except ParseError:
            continue
        if len(bytes(parsed)) != len(message):
            raise Finding("Framer and parse disagree about the end", data, message, bytes(parsed))


def cut(data: bytes, sizes: Iterable[int]) -> tuple[list[bytes], str, int, int]:
    """Feed a stream in pieces of these sizes; return the messages, the fault in words, pings and pongs."""
    framer, messages, at = Framer(), [], 0
    for size in sizes:
        if at < len(data) and not framer.dead:
            messages += framer.feed(data[at : at + size])
            at += size
    error = framer.error  # what it quotes is as much as was there
    return messages, f"{error.problem} {error.status}" if error else "", framer.pings, framer.pongs


# ---- a header's text, a URI


def check_texts(data: bytes, rows: Iterable[Header]) -> None:
    """Read the bytes as the text of these headers, and as a URI."""
    text = data.decode("utf-8", "surrogateescape").strip(" \t")  # as scan() leaves them
    for row in rows:
        check_row(data, row, [text])
    check_uri(data, text)


def check_row(data: bytes, row: Header, texts: list[str]) -> None:
    """A header reads as a value that writes as text that reads as the same value; or a ParseError names the header."""
    try:
        value = attempt(f"read {row.name}", data, lambda: row.read(texts))
    except ParseError as error:
        if error.header != row.name:
            raise Finding(f"read {row.name} fails without its name", data, str(error)) from error
        return
    try:
        written = attempt(f"write {row.name}", data, lambda: row.write(value), InvalidValue)
    except InvalidValue as error:
        if not any(
            mark in text for text in texts for mark in "\0\r\n"
        ):  # may stand in quotes, and is never written again
            raise Finding(
                f"write {row.name} refuses what was read", data, value, str(error)
            ) from error
        return
    attempt(f"repr {row.name}", data, lambda: (repr(value), str(value)))
    try:
        if not written or row.read(written) == value:
            return
    except ParseError as error:
        raise Finding(
            f"{row.name} as written is refused", data, value, written, str(error)
        ) from error
    raise Finding(
        f"{row.name} as written means something else", data, value, written, row.read(written)
    )


def check_uri(data: bytes, text: str) -> None:
    """A URI formats as one that is equal, and is equivalent to itself; or a ParseError says that it is none."""
    try:
        uri = attempt("URI.parse", data, lambda: URI.parse(text))
    except ParseError:
        return
    again = attempt("URI again", data, lambda: URI.parse(str(uri)), ParseError)
    if again != uri:
        raise Finding("URI as written is another", data, uri, again)
    if not attempt("URI compared", data, lambda: uri.equivalent(again) and uri.aor == again.aor):
        raise Finding("URI is not equivalent to itself", data, uri)


# ---- the twins


def check_entries(data: bytes) -> None:
    """Every entry point of _speedups.c says what its twin in Python says."""
    if c is not None:
        for entry in dict.fromkeys(ENTRIES.values()):
            attempt("twin", data, lambda entry=entry: entry(data), Finding)


def check_scan(data: bytes) -> None:
    for lines, line in LIMITS:
        of_c, of_python = (
            outcome(c.scan, data, lines, line),
            outcome(python.scan, data, lines, line),
        )
        if of_c != of_python:
            raise Finding("scan differs", data, (lines, line), of_c, of_python)


def check_length(data: bytes) -> None:
    if different_lengths([data]):
        raise Finding("usual_length differs", data, different_lengths([data]))


def check_mandatory(data: bytes) -> None:
    found = disagreement(data)
    if found:
        raise Finding("mandatory differs", data, *found)
    # Fields that no scan finds, so nothing but memory is at stake.
    pieces = data.decode("utf-8", "surrogateescape").split("\n")
    fields: dict[str, Any] = dict(zip(("Via", "From", "To", "Call-ID", "CSeq"), pieces))
    c.plain_mandatory(fields)
    c.plain_mandatory({**fields, "Via": pieces[5:]})


ECHOED = frozenset(("Via", "From", "To", "Call-ID", "CSeq"))


def check_echo(data: bytes) -> None:
    pieces = [piece.partition(":") for piece in data.decode("utf-8", "surrogateescape").split("\n")]
    lines = [(name, python.USUAL, value) for name, _, value in pieces]
    lines += [(name, f"{name}:{value}", value) for name, _, value in pieces[:3]]
    for found in (lines, scanned(data)):
        for tag in ("", "abc", "é"):
            arguments = (found, ECHOED, "SIP/2.0 200 OK", tag)
            if c.echo(*arguments) != echo(*arguments):
                raise Finding("echo differs", data, c.echo(*arguments), echo(*arguments))


def check_head(data: bytes) -> None:
    pieces = [piece.partition(":") for piece in data.decode("utf-8", "surrogateescape").split("\n")]
    lines = [(name, python.USUAL, value) for name, _, value in pieces[1:]]
    lengths = [("Content-Length", f"l:{value}", value) for _, _, value in pieces[:2]]
    start_line = pieces[0][0]
    for found in (lines, lines + lengths[:1], lengths + lines, scanned(data)):
        for length in (0, len(data)):
            of_c, of_python = (
                written(c.head, start_line, found, length),
                written(head, start_line, found, length),
            )
            if of_c != of_python:
                raise Finding("head differs", data, length, of_c, of_python)


def written(function: Callable[..., bytes], *arguments: object) -> bytes | str:
    try:
        return function(*arguments)
    except InvalidValue as error:
        return str(error)


KINDS = {
    "From": "NameAddr",
    "To": "NameAddr",
    "Contact": "NameAddr",
    "Route": "NameAddr",
    "Via": "Via",
    "CSeq": "CSeq",
}
URIS = re.compile(r"sips?:[^\s<>\"]*").findall


def check_values(data: bytes) -> None:
    """The whole bytes as each value there is a twin for, and the values in it each as its own kind."""
    text = data.decode("utf-8", "surrogateescape")
    texts = [(kind, text) for kind in VALUE_TWINS]
    texts += [(KINDS[name], value) for name, _, value in scanned(data) if name in KINDS]
    texts += [("URI", uri) for uri in URIS(text)[:20]]
    for kind, value in texts:
        of_c, of_python = (value_outcome(twin, value) for twin in VALUE_TWINS[kind])
        if of_c != of_python:
            raise Finding(f"{kind} differs", data, value, of_c, of_python)


def scanned(data: bytes) -> list[python.Line]:
    try:
        return python.scan(data, 256, 8192)[1]
    except ParseError:
        return []


def check_peek(data: bytes) -> None:
    for of_c, of_python in ((c.request_key, peek.request_key), (c.has_to_tag, peek.has_to_tag)):
        if of_c(data) != of_python(data):
            raise Finding(f"{of_python.__name__} differs", data, of_c(data), of_python(data))
    key, request = peek.request_key(data), taken(data)
    if key is None or not isinstance(request, Request):
        return
    if request.mandatory.key != key:
        raise Finding("key before parsing is another", data, key, request.mandatory.key)
    if request.mandatory.to_tag is not None and not peek.has_to_tag(data):
        raise Finding("To tag is not seen before parsing", data, request.mandatory.to_tag)


ENTRIES: dict[str, Callable[[bytes], None]] = {
    "scan": check_scan,
    "plain_mandatory": check_mandatory,
    "echo": check_echo,
    "head": check_head,
    "usual_length": check_length,
    "request_key": check_peek,
    "has_to_tag": check_peek,
    **{twins[0].__name__: check_values for twins in VALUE_TWINS.values() if twins[0]},
}
"""Each function of _speedups.c that is fed with what came from the network, and how bytes become its arguments."""

NOT_FED = frozenset(("forget",))
"""The functions of _speedups.c that no bytes from the network reach, beside each setup_*()."""


# ---- time


def check_times(data: bytes, patience: float = 1.0) -> None:
    """Parsing, reading all headers and writing them again take linear time; so does reading the longest line by itself."""
    timed("parse", data, lambda: taken(data), patience)
    timed("Framer", data, lambda: cut(data, [1024] * (len(data) // 1024 + 1)), patience)
    timed("reading", data, lambda: readings(data), patience)
    timed("writing", data, lambda: [row.write(value) for row, value in readings(data)], patience)
    longest = max(data.split(b"\n"), key=len).decode("utf-8", "surrogateescape")
    name, _, text = longest.partition(":")
    row = ROWS.get(python.canonical(name)) if is_token(name) else None
    if row is not None:
        timed(f"reading {row.name}", data, lambda: read(row, [text.strip()]), patience)


def taken(data: bytes) -> Request | Response | None:
    try:
        return parse(data)
    except ParseError:
        return None


def read(row: Header, texts: list[str]) -> Any:
    try:
        return row.read(texts)
    except ParseError:
        return None


def readings(data: bytes) -> list[tuple[Header, Any]]:
    """Every known header of a message with its value, less those that cannot be read or written."""
    message = taken(data)
    if message is None or b"\0" in data:
        return []
    pairs = [
        (ROWS[name], read(ROWS[name], message.headers.all(name)))
        for name in message.headers
        if name in ROWS
    ]
    return [(row, value) for row, value in pairs if value is not None]


def timed(stage: str, data: bytes, work: Callable[[], Any], patience: float) -> None:
    bound = patience * (LEAST_SECONDS + SECONDS * len(data) / 65536)
    took = bound
    for _ in range(6):  # the best of several: the machine is not ours alone
        forget()
        took = cpu_seconds(work)
        if took < bound or took < bound * slowness():
            return
    raise Finding(f"{stage} takes too long", data, f"{took:.3f} s for {len(data)} bytes")


def forget() -> None:
    """Empty the caches of the package: what is measured is the first time."""
    for name, module in list(sys.modules.items()):
        if name.startswith("sippet_gevent.message"):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def stretched(data: bytes, size: int, chance: random.Random) -> bytes:
    """Return the bytes with one piece of them repeated until there are so many."""
    if not data or len(data) >= size:
        return data[:size]
    at = chance.randrange(len(data))
    piece = data[at : at + chance.choice((1, 1, 2, 3, 5, 8, 20, 100))]
    return data[:at] + piece * ((size - len(data)) // len(piece)) + data[at:]


def attempt(
    stage: str, data: bytes, work: Callable[[], Any], allowed: type[Exception] = ParseError
) -> Any:
    """Return what `work` returns, or let the exception it may raise out; any other is a Finding."""
    try:
        return work()
    except allowed:
        raise
    except Exception as error:
        raise Finding(f"{stage} raises {type(error).__name__}", data, error) from error


# ---- shrinking


def minimised(data: bytes, fails: Callable[[bytes], bool], seconds: float = 20.0) -> bytes:
    """Return fewer bytes that fail still: pieces are left out, from halves down to single bytes, while there is time."""
    stop = time.monotonic() + seconds
    size = max(1, len(data) // 2)
    while size and time.monotonic() < stop:
        at = 0
        while at < len(data) and time.monotonic() < stop:
            shorter = data[:at] + data[at + size :]
            if fails(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data


def finding_of(data: bytes) -> str | None:
    """Return what is wrong with these bytes, or None."""
    try:
        check(data)
    except Finding as finding:
        return finding.what
    return None
