"""Where dialogs, clients and bridges catch every exception, they log and count it, and say why they go
on."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sippet_gevent

CORE = Path(sippet_gevent.__file__).parent / "core"
FILES = sorted(
    path for room in ("dialog", "client", "b2bua") for path in (CORE / room).glob("*.py")
)

WIDE = {"Exception", "BaseException"}


def handlers(path):
    """Yield each handler of all exceptions that does not raise again, with its source lines."""
    text = path.read_text()
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        names = {each.id for each in ast.walk(node.type) if isinstance(each, ast.Name)}
        if names & WIDE and not isinstance(node.body[-1], ast.Raise):
            yield node, lines[node.lineno - 1 : node.end_lineno]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_exception_that_is_caught_is_counted_and_the_reason_is_beside_it(path):
    for node, lines in handlers(path):
        called = {
            each.func.attr
            for each in ast.walk(node)
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute)
        }
        # warn() and _complain() log, and count what a program has raised as core_errors
        assert called & {"warn", "_complain"}, f"{path}:{node.lineno} does not log"
        assert any("#" in line for line in lines[:3]), f"{path}:{node.lineno} gives no reason"


def test_check_finds_handlers():
    assert sum(len([*handlers(path)]) for path in FILES) >= 7
