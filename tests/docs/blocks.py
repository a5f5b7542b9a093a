"""The fenced blocks of README.md, CONTRIBUTING.md, SECURITY.md and docs/, by language and name.

A block's first line is ```LANGUAGE NAME. Each Python block has a name, and a test runs it under this name. A name may occur
in two pages if both have the same text.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import sippet_gevent

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = TOP + sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)

OFFER = b"v=0\r\n"
"""What the blocks that use `offer` get, unless a test says more."""


class Block(NamedTuple):
    """One fenced block: `text` is what is between the fences."""

    page: str
    line: int
    language: str
    name: str
    text: str


def blocks_of(path: Path) -> list[Block]:
    """Return the fenced blocks of a page; directives of MyST, ```{…}, are none."""
    source = path.read_text("utf-8")
    page = path.relative_to(ROOT).as_posix()
    return [
        Block(page, source.count("\n", 0, at.start()) + 1, at[1], at[2] or "", at[3])
        for at in re.finditer(r"^```(\w+)(?: ([\w.]+))?\n(.*?)^```$", source, re.M | re.S)
    ]


ALL = [block for path in PAGES for block in blocks_of(path)]

NAMED: dict[tuple[str, str], list[Block]] = defaultdict(list)
for _block in ALL:
    NAMED[_block.language, _block.name].append(_block)

BLOCKS = {name: found[0].text for (language, name), found in NAMED.items() if language == "python"}
"""The Python blocks by name."""


def of_language(language: str) -> list[Block]:
    return [block for block in ALL if block.language == language]


def block(name: str, **names: Any) -> SimpleNamespace:
    """Run a Python block in a module of its own that has these names already; return the module."""
    module = {"__name__": f"block_{name}", "offer": OFFER, **names}
    page = NAMED["python", name][0].page
    exec(compile(BLOCKS[name], f"{page}, {name}", "exec"), module)
    return SimpleNamespace(**module)


def run_script(name: str) -> str:
    """Run a Python block as a program; return what it prints. A warning of gevent is an error."""
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", BLOCKS[name]]
    path = {"PYTHONPATH": str(Path(sippet_gevent.__file__).parent.parent)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=20, check=True, env=path
    ).stdout


def on_free_ports(stack: Any, host: str = "127.0.0.1") -> Any:
    """Let a stack of a block listen on free ports of this machine instead of its own addresses."""
    stack.planned[:] = [
        (transport, listener._replace(host=host, port=0)) for transport, listener in stack.planned
    ]
    return stack
