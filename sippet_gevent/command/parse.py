"""What `sippet parse` does: read messages from files, standard input or captures, and say what they
are and what is wrong."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from io import BufferedReader
from typing import Any

from ..extras import missing
from .cutter import Cutter
from .report import Place, lines, report
from .terminal import Mistake, Progress, painter, tell, visible

CHUNK = 65536
"""Octets read at a time: a file of any size is never held as a whole."""

STDIN = "-"

_PCAP = frozenset((0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34))
_PCAP_NG = b"\x0a\x0d\x0d\x0a"
_GZIP = b"\x1f\x8b"
_BROKEN_PIPE = 141  # what a shell says of a program that was ended by SIGPIPE


def parse(options: Any) -> int:
    """Print what the messages are. Returns 0 when all are whole, 1 when one is broken or there is
    none, 2 for a mistake."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    printer = _Printer(options.json)
    code = 0
    try:
        for name in options.files or [STDIN]:
            code = max(code, _parse_one(name, printer))
        sys.stdout.flush()
    except BrokenPipeError:  # `sippet parse … | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    finally:
        printer.progress.clear()
    return code


def _parse_one(name: str, printer: _Printer) -> int:
    """Print the messages of one file; return its exit code."""
    before = printer.number
    try:
        with _opened(name) as file:
            printer.begin(file)
            head = file.read(4)
            if head[:2] == _GZIP:
                raise Mistake("is compressed; unpack it first: gunzip -c FILE | sippet parse -")
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
        printer.say(f"{_shown(name)}: there is no message in it", 1)
    return 0 if printer.is_ok and not problem and printer.number > before else 1


@contextmanager
def _opened(name: str) -> Iterator[BufferedReader]:
    if name == STDIN:
        if sys.stdin is None:
            raise Mistake("is closed")
        if sys.stdin.isatty():
            print("sippet: reading from the terminal; Ctrl-D ends it", file=sys.stderr)
        yield sys.stdin.buffer  # type: ignore[misc]
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
    """Print the messages that stand one after another."""
    cutter = Cutter()
    data = head
    while data:
        for piece in cutter.feed(data):
            printer.show(name, piece.data, offset=piece.offset, is_rest=piece.is_rest)
        printer.advance(len(data))
        data = file.read1(CHUNK)  # what is there: a pipe may bring more only much later
    for piece in cutter.finish():
        printer.show(name, piece.data, offset=piece.offset, is_rest=piece.is_rest)


def _capture(name: str, head: bytes, file: BufferedReader, printer: _Printer) -> str | None:
    """Print the messages of a capture; return what is wrong with the file, or None. Raises
    Mistake."""
    try:
        from .capture import Capture, CaptureError
    except ModuleNotFoundError as error:
        raise Mistake(str(missing(error, "captures"))) from None
    counted = _Counted(file, printer)
    capture = Capture(head, counted)
    problem = None
    try:
        for found in capture:
            printer.show(
                name,
                found.data,
                time=_time(found.time),
                transport=found.transport,
                source=found.source,
                destination=found.destination,
                missing=found.missing,
                is_rest=found.is_rest,
            )
    except CaptureError as error:
        problem = str(error)
    if capture.counts:
        printer.say(
            f"{_shown(name)}: passed over "
            + ", ".join(f"{number} {what}" for what, number in capture.counts.items()),
            0,
        )
    return problem


def _time(seconds: float) -> str | None:
    """Return a time as RFC 3339 has it, in UTC; None for one that no calendar has."""
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
    """A file that tells the printer how far it has been read."""

    def __init__(self, file: BufferedReader, printer: _Printer) -> None:
        self._file = file
        self._printer = printer

    def read(self, octets: int) -> bytes:
        data = self._file.read(octets)
        self._printer.advance(len(data))
        return data


class _Printer:
    """Prints reports, as text or JSON, and keeps the progress line out of their way."""

    def __init__(self, as_json: bool) -> None:
        self.progress = Progress()
        self.number = 0
        self.is_ok = True
        """False once a message of the present file was broken."""
        self._octets = 0
        self._size = 0
        self._format = _json if as_json else _text(painter(sys.stdout))

    def show(self, file: str, data: bytes, **where: Any) -> None:
        """Print one message."""
        self.number += 1
        found = report(data, Place(file, self.number, **where))
        self.is_ok = self.is_ok and found["ok"]
        self.progress.clear()
        sys.stdout.write(self._format(found))

    def say(self, text: str, code: int) -> int:
        """Print a line to stderr, after what was printed before it; return the code."""
        self.progress.clear()
        sys.stdout.flush()
        return tell(text, code)

    def begin(self, file: BufferedReader) -> None:
        """Begin with another file."""
        self.is_ok = True
        self._octets = 0
        self._size = os.fstat(file.fileno()).st_size  # 0 for a pipe

    def advance(self, octets: int) -> None:
        """Count octets read; show how far that is when it is time to."""
        self._octets += octets
        if self.progress.is_due:
            whole = f" of {self._size / 1e6:.1f}" if self._size else ""
            self.progress.show(f"{self._octets / 1e6:.1f}{whole} MB read, {self.number} messages")


def _json(found: dict[str, Any]) -> str:
    return json.dumps(found) + "\n"


def _text(paint: Callable[[str, str], str]) -> Callable[[dict[str, Any]], str]:
    return lambda found: "\n".join([*lines(found, paint), "", ""])
