"""The shared corpus of SIP messages: where it lies, its verdicts, and the message most tests start from. No tests here.

It is `../shared/corpus` beside the repository, and not in it: several sets carry no licence of ours. Tests that need it
skip with one line where it is missing.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pytest

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "corpus"

MISSING = f"the shared corpus is not at {FOLDER}"

PRESENT = (FOLDER / "verdicts.tsv").is_file()

needed = pytest.mark.skipif(not PRESENT, reason=MISSING)
"""Marks one test that needs the corpus."""


def require() -> None:
    """Skip the whole module that calls this where there is no corpus."""
    if not PRESENT:
        pytest.skip(MISSING, allow_module_level=True)


# Not datagrams: streams, WebSocket bytes, SIPp scenarios, fuzzing dictionaries.
_NO_DATAGRAMS = ("dictionaries", "own-streams", "own-websocket", "realworld-tcp", "sipp-")

LARGEST_DATAGRAM = 65507
"""Bytes in a UDP datagram over IPv4, at most; a larger file travels over a stream only."""


class Row(NamedTuple):
    """One row of verdicts.tsv."""

    file: str
    set: str
    expected: str
    status: str
    note: str

    @property
    def data(self) -> bytes:
        return read(self.file)


@lru_cache(1)
def _rows() -> list[Row]:
    if not PRESENT:
        return []
    lines = (FOLDER / "verdicts.tsv").read_text(encoding="utf-8").split("\n")
    return [Row(*line.split("\t")) for line in lines[1:] if line]


@lru_cache(1)
def datagrams() -> list[Row]:
    """The rows of whole messages; none where the corpus is missing."""
    return [row for row in _rows() if not row.set.startswith(_NO_DATAGRAMS)]


def streams() -> list[Row]:
    """The rows of byte streams, one direction of a connection each; none where the corpus is missing."""
    return [row for row in _rows() if row.set in ("own-streams", "realworld-tcp")]


def websockets() -> list[Row]:
    """The rows of what WebSocket clients send, HTTP and frames; none where the corpus is missing."""
    return [row for row in _rows() if row.set == "own-websocket"]


def rows_of(*sets: str, expected: str | None = None) -> list[Row]:
    """The rows of these sets with this verdict."""
    return [row for row in datagrams() if row.set in sets and expected in (None, row.expected)]


@lru_cache(None)
def read(file: str) -> bytes:
    """One file of the corpus."""
    return (FOLDER / file).read_bytes()


def forwarded(data: bytes) -> bytes:
    """What an element that changes nothing sends on: the bytes as they came, up to the end of the body.

    Line breaks before the start line go (§7.5), its version is in upper case (§7.1), bare LFs become CRLF, a missing
    Content-Length is added at the end.
    """
    data = data.lstrip(b"\r\n")
    first = data.index(b"\n")
    line_break = b"\r\n" if data[first - 1 : first] == b"\r" else b"\n"
    head, _, body = data.partition(line_break * 2)
    lines = head.split(line_break)
    words = lines[0].split(b" ")
    version = 0 if words[0].upper() == b"SIP/2.0" else -1
    words[version] = words[version].upper()
    lines[0] = b" ".join(words)
    for index, line in enumerate(lines):
        name, _, value = line.partition(b":")
        if name.rstrip(b" \t").lower() in (b"content-length", b"l"):
            folds = itertools.takewhile(lambda part: part[:1] in (b" ", b"\t"), lines[index + 1 :])
            body = body[: int(b"".join([value, *folds]))]
            break
    else:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


OPTIONS = b"""OPTIONS sip:bob@example.com SIP/2.0
Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKnashds8
Max-Forwards: 70
From: Alice <sip:alice@example.org>;tag=1928301774
To: Bob <sip:bob@example.com>
Call-ID: a84b4c76e66710
CSeq: 63104 OPTIONS
Content-Length: 0

""".replace(b"\n", b"\r\n")


def message(
    *lines: str, start: str = "OPTIONS sip:bob@example.com SIP/2.0", body: bytes = b""
) -> bytes:
    """OPTIONS with another start line, other lines for the headers of the same names, and further lines."""
    changed = {_name(line): line for line in lines}
    head, _, _ = OPTIONS.decode().partition("\r\n\r\n")
    kept = []
    for line in head.split("\r\n")[1:]:
        kept.append(changed.pop(_name(line), line))
    added = [line for line in lines if _name(line) in changed]
    if body and not any(_name(line) == "content-length" for line in lines):
        kept = [
            line if not line.startswith("Content-Length") else f"Content-Length: {len(body)}"
            for line in kept
        ]
    text = "\r\n".join([start, *kept, *added, "", ""])
    return text.encode("utf-8", "surrogateescape") + body


def _name(line: str) -> str:
    name = line.partition(":")[0].strip().lower()
    return {"v": "via", "f": "from", "t": "to", "i": "call-id", "l": "content-length"}.get(
        name, name
    )


def without(name: str) -> bytes:
    """OPTIONS less one header."""
    return b"\r\n".join(
        line for line in OPTIONS.split(b"\r\n") if not line.startswith(name.encode() + b":")
    )
