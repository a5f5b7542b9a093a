"""The words of everything that people read: plain English that names the actor.

A line may quote: words between quotation marks or backticks are not read, and neither are lines
that begin with `>` in Markdown.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("sippet_gevent", "docs", "examples", "scripts")
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "tests/README.md")

RULES = (
    (re.compile(r"\b(?:he|his|him)\b", re.IGNORECASE), "name the actor: machines are “it”"),
    (
        re.compile(r"\boctets?\b(?!-align)"),
        "write bytes, unless you quote an RFC (its rules are in capitals: OCTET)",
    ),
)
OPENING = re.compile(r"(?:Who|Whose|Whoever)\b")
QUOTED = re.compile(r"“[^”]*”|\"[^\"]*\"|`[^`]*`")

CODE = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if "_build" not in path.parts
)
TEXT = sorted(
    [
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".md", ".c") and "_build" not in path.parts
    ]
    + [ROOT / page for page in PAGES if (ROOT / page).exists()]
)


def words(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line number and text of what people read in a Python file: comments and texts."""
    source = path.read_text("utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING) or token.type == getattr(
            tokenize, "FSTRING_MIDDLE", -1
        ):
            yield from enumerate(token.string.splitlines(), token.start[0])


def faults(lines: Iterator[tuple[int, str]]) -> list[str]:
    """Return the lines that break a rule, each with the rule."""
    found = []
    for number, line in lines:
        text = QUOTED.sub("", line.lstrip().lstrip("rbf\"'#"))
        if line.lstrip().startswith(">"):
            continue
        found += [f"{number}: {line.strip()}  ← {why}" for rule, why in RULES if rule.search(text)]
    return found


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_python_file_is_in_plain_english(path):
    found = faults(words(path))
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text = node.value.value
            if isinstance(text, str) and OPENING.match(text.strip()):
                found.append(f"{node.lineno}: {text.strip()[:60]}  ← begin with a verb or a noun")
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("path", TEXT, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_page_is_in_plain_english(path):
    found = faults(iter(enumerate(path.read_text("utf-8").splitlines(), 1)))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("# what he sends", 1),
        ("# the phone and his contact", 1),
        ("# 20 octets of it", 1),
        ("# the RFC says “one octet”", 0),
        ("# `other-octet` is a rule", 0),
        ("# the theme of this", 0),
    ],
)
def test_checker_finds_what_it_should(line, count):
    assert len(faults(iter([(1, line)]))) == count
