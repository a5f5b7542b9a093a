"""`sippet parse`: read messages from files, standard input or captures; explain them and their
faults."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from io import BufferedReader
from typing import Protocol

from ..extras import missing
from .cutter import Cutter
from .report import Place, Report, report
from .terminal import Mistake, Paint, Progress, painter, tell, visible
from .text import lines

CHUNK = 65536
"""Bytes read at a time. No file is ever held as a whole, whatever its size."""

STDIN = "-"

_PCAP = frozenset((0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34))
_PCAP_NG = b"\x0a\x0d\x0d\x0a"
_GZIP = b"\x1f\x8b"
_BROKEN_PIPE = 141  # the exit code that a shell reports for a program ended by SIGPIPE


class Options(Protocol):
    """The arguments of `sippet parse`."""

    files: list[str]
    json: bool


def parse(options: Options) -> int:
    """Explain the messages of each file.

    Returns:
        The exit code: 0 if all messages are in order, 1 if one is broken or a file has none, 2 if a
        file cannot be read.
    """
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # stdout of a terminal or a file
    printer = _Printer(options.json)
    code = 0
    try:
        for name in options.files or [STDIN]:
            code = max(code, _parse_one(name, printer))
        sys.stdout.flush()
    except BrokenPipeError:  # as in `sippet parse … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    finally:
        printer.progress.clear()
    return code


def _parse_one(name: str, printer: _Printer) -> int:
    """Print the messages of one file. Return its exit code."""
    before = printer.number
    try:
        with _opened(name) as file:
            printer.begin(file)
            head = file.read(4)
            if head[:2] == _GZIP:
                raise Mistake("is compressed: write gunzip -c FILE | sippet parse -")
            kind = _capture if _is_capture(head) else _messages
            problem = kind(name, head, file, printer)
    except Mistake as error:
        return printer.say(f"{_shown(name)}: {error}", 2)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        return printer.say(f"{_shown(name)}: {error.strerror or error}", 2)
    if problem:
        printer.say(f"{_shown(name)}: {problem}", 1)
    if printer.number == before:
        printer.say(f"{_shown(name)}: no message found", 1)
    return 0 if printer.is_ok and not problem and printer.number > before else 1


@contextmanager
def _opened(name: str) -> Iterator[BufferedReader]:
    if name == STDIN:
        if sys.stdin is None:
            raise Mistake("is closed: write the name of a file")
        if sys.stdin.isatty():
            print("sippet: reading from the terminal, press Ctrl-D to end", file=sys.stderr)
        yield sys.stdin.buffer  # type: ignore[misc]  # it is buffered
        return
    with open(name, "rb") as file:
        yield file


def _is_capture(head: bytes) -> bool:
    return (
        head == _PCAP_NG
        or {int.from_bytes(head, "big"), int.from_bytes(head, "little")} & _PCAP != set()
    )


def _shown(name: str) -> str:
    return "standard input" if name == STDIN else visible(name)


def _messages(name: str, head: bytes, file: BufferedReader, printer: _Printer) -> None:
    """Print the messages of a text file."""
    cutter = Cutter()
    data = head
    while data:
        for piece in cutter.feed(data):
            printer.show(piece.data, Place(name, 0, offset=piece.offset, is_rest=piece.is_rest))
        printer.advance(len(data))
        data = file.read1(CHUNK)  # only what is available, because a pipe may bring more much later
    for piece in cutter.finish():
        printer.show(piece.data, Place(name, 0, offset=piece.offset, is_rest=piece.is_rest))


def _capture(name: str, head: bytes, file: BufferedReader, printer: _Printer) -> str | None:
    """Print the messages of a capture. Return what is wrong with the file, or None.

    Raises Mistake if dpkt is missing.
    """
    try:
        from .capture import Capture
        from .pcap import CaptureError
    except ModuleNotFoundError as error:
        raise Mistake(str(missing(error, "captures"))) from None
    counted = _Counted(file, printer)
    capture = Capture(head, counted)
    problem = None
    try:
        for found in capture:
            place = Place(
                name,
                0,
                time=_time(found.time),
                transport=found.transport,
                source=found.source,
                destination=found.destination,
                missing=found.missing,
                is_rest=found.is_rest,
            )
            printer.show(found.data, place)
    except CaptureError as error:
        problem = str(error)
    if capture.counts:
        printer.say(
            f"{_shown(name)}: skipped "
            + ", ".join(f"{number} {what}" for what, number in capture.counts.items()),
            0,
        )
    return problem


def _time(seconds: float) -> str | None:
    """Return a time in the form of RFC 3339, in UTC, or None if it is out of range."""
    try:
        return (
            datetime.fromtimestamp(seconds, timezone.utc)
            .replace(tzinfo=None)
            .isoformat(timespec="microseconds")
            + "Z"
        )
    except (ValueError, OverflowError, OSError):
        return None


class _Counted:
    """A file that reports to the printer how much of it has been read."""

    def __init__(self, file: BufferedReader, printer: _Printer) -> None:
        self._file = file
        self._printer = printer

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self._printer.advance(len(data))
        return data


class _Printer:
    """Prints reports, as text or JSON, and removes the progress line before each."""

    def __init__(self, as_json: bool) -> None:
        self.progress = Progress()
        self.number = 0
        self.is_ok = True
        """False once a message of the current file was broken."""
        self._read = 0
        self._size = 0
        self._format = _json if as_json else _text(painter(sys.stdout))

    def show(self, data: bytes, place: Place) -> None:
        """Print one message, with the next number."""
        self.number += 1
        found = report(data, place._replace(number=self.number))
        self.is_ok = self.is_ok and found["ok"]
        self.progress.clear()
        sys.stdout.write(self._format(found))

    def say(self, text: str, code: int) -> int:
        """Print a line on stderr, after all that was printed before. Return the code."""
        self.progress.clear()
        sys.stdout.flush()
        return tell(text, code)

    def begin(self, file: BufferedReader) -> None:
        """Start another file."""
        self.is_ok = True
        self._read = 0
        self._size = os.fstat(file.fileno()).st_size  # 0 for a pipe

    def advance(self, count: int) -> None:
        """Count bytes that were read, and update the progress line if that is due."""
        self._read += count
        if self.progress.is_due:
            whole = f" of {self._size / 1e6:.1f}" if self._size else ""
            self.progress.show(f"{self._read / 1e6:.1f}{whole} MB read, {self.number} messages")


def _json(found: Report) -> str:
    return json.dumps(found) + "\n"


def _text(paint: Paint) -> Callable[[Report], str]:
    return lambda found: "\n".join([*lines(found, paint), "", ""])
