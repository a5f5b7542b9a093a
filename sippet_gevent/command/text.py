"""lines(): the report of a message as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import EXCERPT
from .plain import HIDDEN, Plain
from .problems import Problem
from .report import Report
from .terminal import Paint, visible

EMPTY = "(empty)"
"""Shown for a header field without a value."""


def lines(found: Report, paint: Paint) -> Iterator[str]:
    """Yield a report as lines for a terminal."""
    title = f"{visible(found['file'])} #{found['number']}"
    if found["offset"]:
        title += f" at byte {found['offset']}"
    if found["source"]:
        title += (
            f"  {found['source']} -> {found['destination']}  {found['transport']}  {found['time']}"
        )
    yield paint(title, "title")
    yield visible(found["start_line"])
    if found["uri"]:
        yield _line("Request-URI", _shown(found["uri"]), paint)
    for header in found["headers"]:
        if header["values"] is None:
            for text in header["text"] or [HIDDEN]:
                yield _line(header["name"], paint(visible(text[:EXCERPT]), "bad"), paint)
        for value in header["values"] or ():
            yield _line(header["name"], _shown(value) or EMPTY, paint)
        if header["values"] == []:
            yield _line(header["name"], EMPTY, paint)
    body = found["body"]
    if body["bytes"]:
        yield _line(
            "body",
            f"{body['bytes']} bytes" + (f"  {visible(body['type'])}" if body["type"] else ""),
            paint,
        )
        for text in body["media"]:
            yield _line("", visible(text), paint)
    for problem in found["problems"]:
        yield paint("  problem: ", "bad") + _sentence(problem)


def _line(name: str, text: str, paint: Paint) -> str:
    return f"  {paint(f'{visible(name):<20}', 'name')} {text}"


def _shown(value: Plain) -> str:
    """Return the parts of a value in one line, as name=part. Missing parts are left out."""
    if not isinstance(value, dict):
        return visible(str(value))
    pieces = []
    for name, part in value.items():
        if name == "uri" and isinstance(part, dict):
            part = part["text"]
        elif name == "tag" or (name == "text" and "scheme" in value):
            continue  # other parts say the same
        if isinstance(part, dict):
            mark = "?" if name == "headers" else ";"
            pieces += [
                f"{mark}{visible(key)}" + ("" if item is None else f"={visible(str(item))}")
                for key, item in part.items()
            ]
        elif part is not None and part != "":
            text = visible(str(part))
            pieces.append(f'{name}="{text}"' if " " in text else f"{name}={text}")
    return "  ".join(pieces)


def _sentence(problem: Problem) -> str:
    text = (
        f"{visible(problem['header'])}: {problem['problem']}"
        if problem["header"]
        else problem["problem"]
    )
    if problem["offset"] is not None:
        text += f" (byte {problem['offset']}, line {problem['line']})"
    return visible(text) + (f": '{visible(problem['text'])}'" if problem["text"] else "")
