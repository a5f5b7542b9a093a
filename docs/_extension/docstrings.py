"""Docstrings of the package, whose code is in single backquotes, as reStructuredText."""

from __future__ import annotations

import re

CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
SPECIAL = re.compile(r"([\\*|]|(?<=\w)_(?!\w))")
SECTION = re.compile(r"(Args|Arguments|Returns|Raises|Yields|Attributes|Example|Examples|Note):\Z")
ITEM = re.compile(r"\s*([*-]|\d+\.) ")
ROW = re.compile(r"\s*\|.*\|\s*\Z")
RULE = re.compile(r"\s*\|[\s|:-]*-[\s|:-]*\|\s*\Z")
CELL = re.compile(r"((?:`[^`]*`|\\.|[^|`\\])*)\|")


def escaped(text: str) -> str:
    """Return a text with double backquotes around its code, and no other markup."""
    pieces, at = [], 0
    for match in CODE.finditer(text):
        pieces += [SPECIAL.sub(r"\\\1", text[at : match.start()]), f"``{match[2]}``"]
        at = match.end()
    return "".join([*pieces, SPECIAL.sub(r"\\\1", text[at:])])


def indent_of(line: str) -> int:
    return len(line) - len(line.lstrip())


def cells_of(row: str) -> list[str]:
    """Return the cells of a row of a Markdown table. A bar in code or after a backslash is text."""
    return [cell.strip() for cell in CELL.findall(row.strip()[1:])]


def list_table(rows: list[str]) -> list[str]:
    """Return the lines of a Markdown table, whose second line is the rule, as a list-table."""
    space = " " * indent_of(rows[0])
    header = cells_of(rows[0])
    lines = ["", f"{space}.. list-table::", f"{space}   :header-rows: 1", ""]
    for row in [rows[0], *rows[2:]]:
        cells = [*cells_of(row), *[""] * len(header)][: len(header)]
        for number, cell in enumerate(cells):
            lines.append(f"{space}   {'* -' if number == 0 else '  -'} {escaped(cell)}".rstrip())
    return [*lines, ""]


def converted(lines: list[str]) -> list[str]:
    """Return a docstring's lines as reStructuredText. Indented blocks of their own are code."""
    result: list[str] = []
    paragraph: list[str] = []
    base, in_section, at = 0, False, 0

    def flush() -> None:
        if not paragraph:
            return
        lead = ""
        item = ITEM.match(paragraph[0])
        if item:
            lead, paragraph[0] = paragraph[0][: item.end()], paragraph[0][item.end() :]
        text = escaped("\n".join(paragraph)).splitlines()
        result.append(lead + text[0])
        result.extend(text[1:])
        paragraph.clear()

    while at < len(lines):
        line = lines[at]
        at += 1
        if not line.strip():
            flush()
            result.append("")
            continue
        indent = indent_of(line)
        if line.lstrip().startswith("```"):
            flush()
            result += ["", " " * indent + ".. code-block:: python", ""]
            while at < len(lines) and not lines[at].lstrip().startswith("```"):
                result.append(f"    {lines[at]}" if lines[at].strip() else "")
                at += 1
            at += 1
            result.append("")
            continue
        if not paragraph and ROW.match(line) and at < len(lines) and RULE.match(lines[at]):
            rows = [line]
            while at < len(lines) and ROW.match(lines[at]):
                rows.append(lines[at])
                at += 1
            result += list_table(rows)
            continue
        if not indent:
            in_section = bool(SECTION.match(line))
            base = 0
        after_blank = not result or not result[-1].strip()
        if ITEM.match(line):
            flush()
            base = indent + (indent_of(line[indent + 1 :]) + 1)
        elif after_blank and not paragraph and indent >= base + 4 and not in_section:
            code = [line]
            while at < len(lines) and (not lines[at].strip() or indent_of(lines[at]) >= indent):
                code.append(lines[at])
                at += 1
            while not code[-1].strip():
                code.pop()
            before = next((n for n in range(len(result) - 1, -1, -1) if result[n].strip()), None)
            if before is not None and result[before].endswith("::"):
                result[before] = result[before][:-1]
            result += [" " * base + ".. code-block:: python", "", *code, ""]
            continue
        paragraph.append(line)
    flush()
    return result


def process(app, what, name, obj, options, lines) -> None:
    from sphinx.ext.napoleon import Config, GoogleDocstring  # tests read this file without Sphinx

    lines[:] = converted(lines)
    if what not in (
        "attribute",
        "data",
        "property",
    ):  # there, napoleon takes text before a colon for a type
        settings = Config(napoleon_use_rtype=False, napoleon_use_param=True)
        lines[:] = GoogleDocstring(lines, settings, app, what, name, obj, options).lines()


MADE_BY_STACK = ("sippet_gevent.Call",)
"""Classes that applications do not make, so their pages leave out the arguments."""


def shorten(app, what, name, obj, options, signature, returns):
    """Write `Callable[P, T]` where Sphinx fails to parse the parameters of a generic callable."""

    def short(text: str | None) -> str | None:
        if text is None or "~P" not in text:
            return text
        text = re.sub(r"~(?:\w+\.)*", "", text).replace("[[P], ", "[P, ")
        return re.sub(
            r"(\*\*\w+: P)\b", r"\1.kwargs", re.sub(r"([( ]\*\w+: P)\b", r"\1.args", text)
        )

    if name in MADE_BY_STACK:
        return "", None
    return short(signature), short(returns)


def skip(app, what, name, obj, skipped, options):
    """Leave out members of named tuples that have no text of their own."""
    return (
        True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None
    )


def setup(app):
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", shorten)
    return {"parallel_read_safe": True}
