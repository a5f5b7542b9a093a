"""The layers, held by the imports of every file: a module knows its own folder and the floors below (design §2)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "sippet_gevent"
ROOT = Path(__file__).parent.parent / PACKAGE

# The floors from the ground up. A unit is a folder, or a file at the top of the package. It may import itself and
# every unit further down; those in one line are neighbours and do not know each other.
FLOORS = (
    ("errors",),
    ("arguments", "extras", "slots"),  # checks of what a program passes, and of what is installed
    ("message",),
    ("observe",),  # counters and logs: every floor above may call them
    ("transaction", "runtime"),
    ("transport", "stores"),
    ("engine",),
    ("core",),
    ("stack",),
    ("__init__", "testing", "cluster", "exporters"),
    ("command",),
    ("__main__",),
)
FLOOR = {unit: floor for floor, units in enumerate(FLOORS) for unit in units}

# No I/O, no clock, no greenlet: these take `now` and return values.
PURE = (
    "errors", "arguments", "extras", "slots", "message", "transaction", "observe/log_values",
    "command/kinds", "command/settings", "command/settings_reader", "command/toml_lines", "runtime/limits",
    "core/b2bua/bencode", "core/b2bua/crossing", "core/b2bua/policy", "core/b2bua/relay",
    "core/auth/bans", "core/auth/claim", "core/auth/digest", "core/auth/nonces", "core/client/completion", "engine/networks", "engine/priority", "engine/refused",
    "core/client/reason", "core/dialog/dialog", "core/dialog/dtmf", "core/dialog/effects",
    "core/dialog/end", "core/dialog/event_package", "core/dialog/glare",
    "core/dialog/media", "core/dialog/negotiation",
    "core/dialog/session_interval", "core/dialog/subscription_state", "core/proxy/best_response",
    "core/numbers", "core/option_tags", "core/privacy", "core/registrar/contacts", "core/registration/binding", "core/registration/schedule", "core/registration/peers", "core/registration/turns", "core/proxy/loops", "core/proxy/max_breadth", "core/routing/domain_names",
    "core/proxy/request_validation", "core/refusal",
    "core/routing/history_info", "core/routing/outbound", "core/routing/routes", "core/routing/sips", "core/routing/tokens",
    "stores/bindings", "stores/breaker", "stores/cache", "stores/contacts", "stores/local_copy",
    "stores/gruu", "stores/path_texts", "stores/record",
    "transport/datagram/icmp", "transport/datagram/stun", "transport/listener", "transport/locate/rfc3263", "transport/locate/records",
    "transport/stream/alias", "transport/stream/proxy_protocol",
    "transport/certificate", "transport/websocket/handshake", "transport/websocket/opening",
    "transport/websocket/settings",
)  # fmt: skip
IMPURE = frozenset(
    (
        "gevent",
        "greenlet",
        "socket",
        "ssl",
        "select",
        "selectors",
        "time",
        "threading",
        "asyncio",
        "subprocess",
    )
)

LINES = 450
"""Of a file. A longer one nearly always holds a second noun."""

FILES = sorted(path for path in ROOT.rglob("*.py") if "__pycache__" not in path.parts)

each_file = pytest.mark.parametrize(
    "path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix()
)


def unit_of(path: Path) -> str:
    """Return the floor table's name for a file: its folder, or its own name at the top."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def module_of(path: Path) -> str:
    """Return a file's dotted name; a folder's __init__ has the folder's."""
    parts = [PACKAGE, *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_pure(path: Path) -> bool:
    name = path.relative_to(ROOT).with_suffix("").as_posix()
    return any(name == pure or name.startswith(f"{pure}/") for pure in PURE)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and dotted name of everything a file imports, wherever in it: in functions, for type checkers too."""
    inside = module_of(path).split(".")
    if path.name != "__init__.py":
        inside = inside[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = (
                [*inside[: len(inside) - node.level + 1], *filter(None, [node.module])]
                if node.level
                else [node.module or ""]
            )
            for alias in node.names:
                yield node.lineno, ".".join([*base, alias.name])


def unit_imported(name: str) -> str | None:
    """Return the unit of ours that an imported name lies in, None for what is not ours."""
    first, _, rest = name.partition(".")
    if first != PACKAGE:
        return None
    unit = rest.partition(".")[0]
    return (
        unit
        if unit in FLOOR or (ROOT / unit).is_dir() or (ROOT / f"{unit}.py").exists()
        else "__init__"
    )


def file_imported(name: str) -> Path | None:
    """Return the file of ours that an imported name lies in, None for what is not ours."""
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return None
    path = ROOT
    for part in parts[1:]:
        if (path / part).is_dir():
            path /= part
        elif (path / f"{part}.py").exists():
            return path / f"{part}.py"
        else:
            break
    return path / "__init__.py"


@each_file
def test_file_has_a_floor(path):
    assert unit_of(path) in FLOOR, (
        f"give {unit_of(path)} a floor in the table above, and a place in the README's map"
    )


@each_file
def test_file_imports_only_its_own_folder_and_lower_floors(path):
    unit = unit_of(path)
    for line, name in imports(path):
        other = unit_imported(name)
        if other is not None and other != unit:
            assert FLOOR.get(other, 99) < FLOOR.get(unit, 99), (
                f"{path.relative_to(ROOT)}:{line} imports {name}"
            )


@each_file
def test_pure_file_imports_neither_io_nor_clock_nor_greenlet(path):
    if not is_pure(path):
        return
    for line, name in imports(path):
        assert name.partition(".")[0] not in IMPURE, (
            f"{path.relative_to(ROOT)}:{line} imports {name}"
        )


@each_file
def test_pure_file_imports_only_pure_files_of_ours(path):
    if not is_pure(path):
        return
    for line, name in imports(path):
        other = file_imported(name)
        if other is not None and other.name != "__init__.py":
            assert is_pure(other) or other == ROOT / "message" / "_speedups.py", (
                f"{path.relative_to(ROOT)}:{line} imports {name}"
            )


@each_file
def test_file_says_in_its_first_line_what_it_is(path):
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text, f"{path.relative_to(ROOT)} has no docstring"
    if is_pure(path) and path.name != "errors.py":
        assert "Pure" in text.partition("\n\n")[0], (
            f"{path.relative_to(ROOT)}: a pure module says so in its first sentences"
        )


@each_file
def test_long_file_gives_its_reason(path):
    text = path.read_text(encoding="utf-8")
    if len(text.splitlines()) > LINES:
        docstring = ast.get_docstring(ast.parse(text))
        assert re.search(r"\blong(er)?\b", docstring, re.IGNORECASE), (
            f"{path.relative_to(ROOT)} has over {LINES} lines: look for a second noun, or say in "
            "its docstring why it is longer than others"
        )


def test_no_files_import_each_other_in_a_circle():
    reached = {path: {file_imported(name) for _, name in imports(path)} for path in FILES}
    for path in FILES:
        reached[path].discard(path)
    for via in FILES:  # Warshall: what each file imports, directly or by others
        for names in reached.values():
            if via in names:
                names |= reached[via]
    # A folder's __init__.py is imported with each of its files, and imports some of them.
    circle = [path for path in FILES if path in reached[path] and path.name != "__init__.py"]
    assert not circle, (
        f"each imports itself by others: {[str(p.relative_to(ROOT)) for p in circle]}"
    )


@pytest.mark.parametrize(
    ("where", "line", "name"),
    [
        ("message/uri.py", "from ..errors import ParseError", "sippet_gevent.errors.ParseError"),
        ("message/uri.py", "from . import grammar", "sippet_gevent.message.grammar"),
        ("message/__init__.py", "from .uri import URI", "sippet_gevent.message.uri.URI"),
        ("engine.py", "from .clock import Clock", "sippet_gevent.clock.Clock"),
        ("engine.py", "from . import clock", "sippet_gevent.clock"),
        ("__init__.py", "from .stack import Stack", "sippet_gevent.stack.Stack"),
        ("engine.py", "import gevent.socket", "gevent.socket"),
        ("engine.py", "def f():\n    from time import monotonic", "time.monotonic"),
        ("engine.py", "from sippet_gevent.stack import Stack", "sippet_gevent.stack.Stack"),
    ],
)
def test_imports_are_read_right(tmp_path, monkeypatch, where, line, name):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / where
    path.parent.mkdir(exist_ok=True)
    path.write_text(line)
    assert [found for _, found in imports(path)] == [name]


# ---- types


OBJECTS_OF_USERS = {
    # name of the argument, or part of the file's name: the object that passes through
    "headers": "values of header fields: text, typed, or several",
    "arguments": "functions that check what a program passes",
    "argument_checks": "the same for the options of a Stack",
    "serve": "the module and core of a user",
    "message/header.py": "the type of a row decides about its values",
    "message/headers.py": "the same: a name decides about the row",
    "message/fields/base.py": "descriptors of values whose types derive from each other",
    "testing/": "cores, arguments and results of a user's test; strategies of any row",
    "core/dialog/call.py": "the callable of a user gets the transaction that its core got",
}
TYPELESS = {
    # file and function: why the type cannot be written
    ("command/trace.py", "host_of"): "a socket address, which differs by family",
    ("core/registration/requests.py", "headers"): "values of header fields",
    (
        "core/registration/requests.py",
        "completed",
    ): "arguments of a request, with values of header fields",
    ("core/registration/row.py", "arguments_of"): "the columns of a user's table",
    ("core/registration/row.py", "_several"): "a column to check",
    ("core/registration/row.py", "_user_of"): "a column to check",
    ("core/server.py", "authenticate"): "a ServerTransaction, which that protocol cannot name",
    ("core/b2bua/policy.py", "authenticate"): "a ServerTransaction, whose file imports this one",
    ("core/dialog/events.py", "follow"): "a Call, whose file imports this one",
    ("core/methods.py", "__call__"): "what a user's core returns",
    ("core/methods.py", "check_methods"): "arguments to check",
    ("core/option_tags.py", "check_supported"): "an argument to check",
    ("engine/listening.py", "_address_for"): "an argument that is no address",
    ("core/registrar/registrar.py", "_outbound"): "values of header fields",
    ("message/flow.py", "handshake"): "WebSockets are of a higher floor",
    ("message/lines.py", "get"): "the default passes through",
    ("message/mandatory.py", "mandatory_of"): "a message, which is made of this module's values",
    ("message/message.py", "register_header"): "the type that a user gives a row",
    ("message/multipart.py", "_alternative"): "parameters of header fields",
    ("message/parameters.py", "get"): "the default passes through",
    ("observe/counters.py", "drop"): "a flow, only to be shown",
    ("observe/counters.py", "error"): "what logging takes as exc_info",
    ("observe/counters.py", "line"): "what logging takes as exc_info",
    ("runtime/limits.py", "_check"): "any of the dataclasses of limits",
    ("runtime/workers.py", "__init__"): "a flow and a waiting core, which are of higher floors",
    ("stack.py", "_expire"): "any object with deadlines",
    ("stack.py", "_move"): "attributes of the stack",
    ("transport/datagram/send_queue.py", "open"): "gevent's loop, which has no types",
    ("transport/locate/dns.py", "_address"): "a record of dnspython, which has no types",
    ("transport/locate/dns.py", "_attempt"): "a queue of gevent, which has no types",
    ("transport/locate/dns.py", "_naptr"): "a record of dnspython, which has no types",
    ("transport/locate/dns.py", "_srv"): "a record of dnspython, which has no types",
    ("transport/locate/nameserver.py", "__init__"): "gevent.spawn, which has no types",
    ("transport/locate/nameserver.py", "_read"): "a socket of gevent, which has no types",
    ("transport/locate/resolver.py", "_server"): "an argument to check",
    ("transport/locate/resolver.py", "ask"): "the budget of a user's resolver",
    ("transport/locate/resolver.py", "begin"): "the budget of a user's resolver",
    ("transport/websocket/http.py", "environ"): "a WSGI environment (PEP 3333)",
}


def has_any(annotation: ast.expr | None) -> bool:
    return annotation is not None and any(
        isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(annotation)
    )


@each_file
def test_any_is_in_signatures_only_where_an_object_of_a_user_passes(path):
    name = path.relative_to(ROOT).as_posix()
    if any(part in name for part in OBJECTS_OF_USERS):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            every += [each for each in (node.args.vararg, node.args.kwarg) if each is not None]
            found = [each.arg for each in every if has_any(each.annotation)]
            found += ["return"] if has_any(node.returns) else []
            untyped = [each for each in found if each not in OBJECTS_OF_USERS]
            assert not untyped or (name, node.name) in TYPELESS, f"{name}:{node.lineno} {untyped}"
