"""Writes the pages that are made from the package and its tests, before Sphinx reads the folder.

They are `reference/generated/*.rst`, and not kept in git: the public API from each `__all__`,
header fields from their table, limits and timers from their classes, the command line from its
parser, RFC sections from the marks of the tests.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import inspect
import os
import re
import sys
import types
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

from docstrings import escaped
from rfc_titles import TITLES

DOCS = Path(__file__).parent.parent
ROOT = DOCS.parent
OUT = DOCS / "reference" / "generated"
PACKAGE = "sippet_gevent"

ROOMS = {
    "stack": (
        "The stack and its settings",
        ("stack", "runtime", "engine", "observe", "transaction"),
    ),
    "cores": ("Cores, calls, proxies, registrars", ("core", "stores")),
    "messages": ("Messages and URIs", ("message",)),
    "transports": ("Transports and names", ("transport",)),
    "exceptions": ("Exceptions", ("errors",)),
}
"""Pages of the package's own names: title, and the folders whose names it has."""


INTERNAL = {
    "Binding": ("bytes",),
    "ClientTransaction": ("receive", "fail", "flow_ended", "ended", "expire"),
    "ServerTransaction": ("receive", "crashed", "cancel", "fail", "ended", "give_up"),
}
"""Members of public classes that only the library uses, which are on no page."""

RULES = {
    "Messages: what is read, mended and refused": "message.parser",
    "Multipart bodies": "message.body",
    "Refusals: which header fields cross a B2BUA": "core.refusal",
    "Default header fields": "core.capabilities",
    "Bridges: what crosses": "core.b2bua.bridge",
    "Bridges: which header fields cross": "core.b2bua.policy",
    "Bridges: requests within a call": "core.b2bua.leg",
    "Third-party call control": "core.b2bua.third_party",
    "sips URIs": "core.routing.sips",
    "Format parameters in answers": "message.sdp.fmtp",
}
"""Modules whose docstrings are rules that users look up: titles and names."""


def heading(title: str, mark: str = "=") -> list[str]:
    return [title, mark * len(title), ""]


def table(header: list[str], rows: list[list[str]], widths: str = "auto") -> list[str]:
    """Return a list-table; cells are reStructuredText without blank lines."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in [header, *rows]:
        for number, cell in enumerate(row):
            lines.append(f"   {'* -' if number == 0 else '  -'} {' '.join(cell.split())}")
    return [*lines, ""]


def code(text: object) -> str:
    return f"``{text}``"


# ---- the API


def documented(module: str, names: list[str]) -> list[str]:
    """Return autodoc directives for names of a module."""
    lines = [f".. currentmodule:: {module}", ""]
    home = importlib.import_module(module)
    for name in names:
        value = getattr(home, name)
        if inspect.ismodule(value):
            lines += [f"``{name}`` is a module, see :doc:`{name}`.", ""]
        elif isinstance(value, type):
            if issubclass(value, BaseException):
                lines += [f".. autoexception:: {name}", "   :show-inheritance:", ""]
            else:
                internal = INTERNAL.get(name, ())
                lines += [f".. autoclass:: {name}"]
                if has_private_base(value):
                    lines += ["   :inherited-members:"]
                if internal:
                    lines += [f"   :exclude-members: {', '.join(internal)}"]
                lines += [""]
        elif inspect.isroutine(value):
            lines += [f".. autofunction:: {name}", ""]
        else:
            if isinstance(value, types.GenericAlias | types.UnionType):
                meaning = alias_text(home, name)
                lines += [f".. py:type:: {name}", f"   :canonical: {meaning}", ""]
            else:
                lines += [f".. py:data:: {name}", f"   :type: {type(value).__name__}", ""]
            lines += [f"   {escaped(line)}" for line in constant_text(home, name).splitlines()] + [
                ""
            ]
    return lines


def has_private_base(kind: type) -> bool:
    """True if methods of a class are those of a base that has no public name, so no page either."""
    public = importlib.import_module(PACKAGE).__all__
    return any(
        base.__module__.startswith(PACKAGE)
        and base.__name__ not in public
        and any(inspect.isfunction(value) and name[0] != "_" for name, value in vars(base).items())
        for base in kind.__mro__[1:]
    )


def alias_text(home: types.ModuleType, name: str) -> str:
    """Return the type that a type alias is for, as its module writes it."""
    source = getattr(home, "_MODULES", {}).get(name)
    if source is not None:
        return alias_text(importlib.import_module(source, home.__name__), name)
    for node in ast.parse(inspect.getsource(home)).body:
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            module = "." * node.level + (node.module or "")
            return alias_text(importlib.import_module(module, home.__package__), name)
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
            return re.sub(r"['\"]", "", ast.unparse(node.value))
    raise LookupError(name)


def constant_text(home: types.ModuleType, name: str) -> str:
    """Return the text below the assignment of a constant, in the module that it comes from."""
    source = getattr(home, "_MODULES", {}).get(name)
    if source is not None:
        return constant_text(importlib.import_module(source, home.__name__), name)
    body = ast.parse(inspect.getsource(home)).body
    for node in body:
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            source = importlib.import_module(
                "." * node.level + (node.module or ""), home.__package__
            )
            return constant_text(source, name)
    for node, after in pairwise(body):
        target = getattr(node, "target", None) or next(iter(getattr(node, "targets", ())), None)
        if getattr(target, "id", None) == name and isinstance(after, ast.Expr):
            return inspect.cleandoc(str(getattr(after.value, "value", "")))
    value = getattr(home, name)
    return "" if isinstance(value, dict) else f"`{value!r}`"


def room_of(name: str) -> str:
    """Return the folder or file of the package that a public name comes from."""
    return importlib.import_module(PACKAGE)._MODULES[name].split(".")[1]


def api() -> dict[str, list[str]]:
    package = importlib.import_module(PACKAGE)
    pages = {}
    for page, (title, rooms) in ROOMS.items():
        names = [name for name in package.__all__ if room_of(name) in rooms]
        pages[page] = [f".. _api-{page}:", "", *heading(title), *documented(PACKAGE, names)]
    described = {name for rooms in ROOMS.values() for name in rooms[1]}
    lost = [n for n in package.__all__ if room_of(n) not in described]
    assert not lost, f"no page of the API has {lost}: add their folders to ROOMS"
    return pages


def module_page(title: str, module: str, own: bool = False) -> list[str]:
    """Return a page of a module's `__all__`, or of what it defines itself if it has none."""
    home = importlib.import_module(module)
    names = getattr(home, "__all__", None)
    if names is None or own:
        names = [
            name
            for name, value in vars(home).items()
            if not name.startswith("_")
            and getattr(value, "__module__", None) == module
            and (inspect.isroutine(value) or isinstance(value, type))
        ]
    intro = inspect.getdoc(home) or ""
    plugin_hooks = re.compile(r"pytest_")
    names = [name for name in names if not plugin_hooks.match(name)]
    from docstrings import converted

    named = f"Module ``{module.replace('.message.sdp', '.sdp')}``."
    text = converted(intro.splitlines())
    return [*heading(title), named, "", *text, "", *documented(module, names)]


def rules() -> list[str]:
    """Return the page of rules, each from the docstring of the module that follows them."""
    from docstrings import converted

    lines = [
        *heading("Rules in tables"),
        "The rules by which the library reads, answers and passes on what its peers send.",
        "",
    ]
    for title, module in RULES.items():
        text = inspect.getdoc(importlib.import_module(f"{PACKAGE}.{module}")) or ""
        label = module.rpartition(".")[2].replace("_", "-")
        _, _, body = text.partition("\n\n")
        lines += [
            f".. _rules-{label}:",
            "",
            *heading(title, "-"),
            *converted(body.splitlines()),
            "",
        ]
    return lines


# ---- header fields


def header_rows() -> list[tuple[str, object, str]]:
    """Return attribute, Header and RFC of each row of the table. A comment names the RFC."""
    module = importlib.import_module(f"{PACKAGE}.message.fields.table")
    source = inspect.getsource(module)
    lines = source.splitlines()
    tree = ast.parse(source)
    fields = next(
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "HeaderFields"
    )
    rows = []
    for node in fields.body:
        if isinstance(node, ast.Assign):
            target = node.targets[0]
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target = node.target
        else:
            continue
        header = getattr(module.HeaderFields, "__dict__", {}).get(getattr(target, "id", ""))
        if type(header).__name__ != "Header":
            continue
        comment = ""
        for number in range(node.lineno - 1, node.end_lineno):
            comment = lines[number].partition("  # ")[2] or comment
        above = lines[node.lineno - 2].strip()
        if not comment and above.startswith("#") and "compact kind" not in above:
            comment = above.lstrip("# ")
        comment = re.sub(r"(noqa|type:)\S*( \S+)?", "", comment).strip()
        if not comment:
            comment = f"RFC 3261 §20.{SECTIONS.index(header.name) + 1}"
        rows.append((target.id, header, comment))
    return rows


SECTIONS = (
    "Accept Accept-Encoding Accept-Language Alert-Info Allow Authentication-Info"
    " Authorization Call-ID Call-Info Contact Content-Disposition Content-Encoding"
    " Content-Language Content-Length Content-Type CSeq Date Error-Info Expires From"
    " In-Reply-To Max-Forwards Min-Expires MIME-Version Organization Priority"
    " Proxy-Authenticate Proxy-Authorization Proxy-Require Record-Route Reply-To Require"
    " Retry-After Route Server Subject Supported Timestamp To Unsupported User-Agent Via"
    " Warning WWW-Authenticate"
).split()
"""The header fields of RFC 3261 §20.1 to §20.44, in their order."""


def type_link(kind: object) -> str:
    """Return a link to where a type of values is described."""
    if not isinstance(kind, type) or not kind.__module__.startswith(PACKAGE):
        return code(getattr(kind, "__name__", kind))
    public = kind.__name__ in importlib.import_module(PACKAGE).__all__
    home = PACKAGE if public else kind.__module__
    return f":py:class:`~{home}.{kind.__name__}`"


def headers() -> list[str]:
    module = importlib.import_module(f"{PACKAGE}.testing.samples")
    samples = module.SAMPLES
    rows = []
    types_of: dict[str, type] = {}
    for attribute, header, rfc in header_rows():
        kind = header.kind.name
        name = header.type.__name__ if isinstance(header.type, type) else str(header.type)
        if isinstance(header.type, type):
            types_of[name] = header.type
        shown = type_link(header.type)
        shown = shown if kind == "ONE" else f"tuple of {shown}"
        spelling = header.name + (f", ``{header.compact}``" if header.compact else "")
        rows.append([code(attribute), spelling, shown, escaped(rfc)])
    lines = [
        *heading("Header fields"),
        f"Each of these {len(rows)} header fields is an attribute of ``Request`` and ``Response``.",
        "The attribute of a header field that the message does not have is None, or an empty",
        "tuple for a list. A letter after the name is its compact form. A value is",
        "parsed when it is first",
        "read. A value that breaks the grammar raises :class:`~sippet_gevent.ParseError`.",
        "To add a header field of your own, see :doc:`/howto/extend`.",
        "",
        *table(["attribute", "header field", "type", "defined in"], rows, "25 30 25 20"),
        *heading("Types of values", "-"),
        "The attributes of each type, and header values as their RFCs show them.",
        "",
    ]
    seen = set()
    by_type: dict[str, list[str]] = defaultdict(list)
    for _, header, _ in header_rows():
        for sample in samples.get(header.name, ()):
            by_type[getattr(header.type, "__name__", "")].append(f"{header.name}: {sample}")
    for name, kind in sorted(types_of.items()):
        if kind.__module__.startswith(PACKAGE) and name not in seen:
            seen.add(name)
            if name in importlib.import_module(PACKAGE).__all__:
                continue
            lines += [f".. autoclass:: {kind.__module__}.{name}", ""]
            if by_type.get(name):
                lines += ["   ::", "", *(f"      {text}" for text in by_type[name][:4]), ""]
    return lines


# ---- limits


def attribute_texts(kind: type) -> dict[str, str]:
    """Return the text below each attribute of a class, as its source has it."""
    tree = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
    body = next(
        n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == kind.__name__
    ).body
    texts = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign):
            texts[node.target.id] = (
                after.value.value
                if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                else ""
            )
    return texts


def size(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000:
        if value % (1024 * 1024) == 0:
            return f"{value // 1024 // 1024} MiB"
        if value % 1024 == 0:
            return f"{value // 1024} KiB"
        return f"{value:,}"
    return str(value)


def limit_table(kind: type) -> list[str]:
    texts = attribute_texts(kind)
    if dataclasses.is_dataclass(kind):
        defaults = {f.name: f.default for f in dataclasses.fields(kind) if f.init}
    else:
        defaults = kind._field_defaults
    rows = []
    for name, default in defaults.items():
        if default is dataclasses.MISSING or (
            isinstance(default, tuple) and hasattr(default, "_fields")
        ):
            shown = "see below"
        elif default is None:
            shown = "derived"
        else:
            shown = code(size(default))
        rows.append([code(name), shown, escaped(" ".join(texts[name].split()))])
    return table(["name", "default", "meaning"], rows, "22 13 65")


def limits() -> list[str]:
    runtime = importlib.import_module(f"{PACKAGE}.runtime.limits")
    timers = importlib.import_module(PACKAGE).Timers
    parser = type(runtime.Limits().parser)
    lines = [
        *heading("Limits and timers"),
        "Everything that grows with traffic has a limit. Each table below is made from the class",
        "that holds the defaults. Change a default where you make the stack:",
        "``Stack(..., limits=Limits(handlers=200))``. Times are seconds.",
        "",
    ]
    for kind, title in (
        (runtime.Limits, "Limits of a stack: Limits"),
        (runtime.StreamLimits, "Limits of connections: Limits(streams=StreamLimits(...))"),
        (parser, "Limits of one message: Limits(parser=ParserLimits(...))"),
        (timers, "Timers of transactions: Stack(timers=Timers(...))"),
    ):
        lines += [*heading(title, "-"), *limit_table(kind)]
    return lines


# ---- the command line


def command() -> list[str]:
    os.environ["COLUMNS"] = "110"
    os.environ["NO_COLOR"] = "1"
    main = importlib.import_module(f"{PACKAGE}.__main__")
    parser = next(
        value()
        for name, value in vars(main).items()
        if isinstance(value, types.FunctionType) and name in ("_parser", "parser", "make_parser")
    )
    verbs = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    lines = heading("Command line")
    for title, shown in [("sippet", parser), *((f"sippet {verb}", verbs[verb]) for verb in verbs)]:
        lines += [*heading(title, "-"), ".. code-block:: text", ""]
        lines += [f"   {line}".rstrip() for line in shown.format_help().splitlines()] + [""]
    return lines


# ---- conformance


def is_rfc_mark(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "rfc"
        and isinstance(node.func.value, ast.Attribute)
        and node.func.value.attr == "mark"
    )


def rules_in(nodes: list[ast.AST]) -> set[str]:
    """Return the rules that marks among these nodes name."""
    return {
        argument.value
        for node in nodes
        for mark in ast.walk(node)
        if is_rfc_mark(mark)
        for argument in mark.args
        if isinstance(argument, ast.Constant)
    }


def proofs() -> dict[str, dict[str, int]]:
    """Return the test files, and number of test functions in each, that prove each rule."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))

    def visit(body: list[ast.stmt], inherited: set[str], file: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                visit(node.body, inherited | rules_in(node.decorator_list), file)
            elif isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                for rule in inherited | rules_in(node.decorator_list):
                    found[rule][file] += 1

    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        own = [
            node
            for node in tree.body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "pytestmark"
        ]
        visit(tree.body, rules_in(own), path.relative_to(ROOT).as_posix())
    return found


def numbers_in(rule: str) -> list[int]:
    return [int(part) if part.isdigit() else 0 for part in rule.replace(".", " ").split()]


def conformance() -> list[str]:
    found = proofs()
    by_rfc: dict[str, list[str]] = defaultdict(list)
    for rule in sorted(found, key=numbers_in):
        by_rfc[rule.partition(" ")[0]].append(rule)
    total = sum(sum(files.values()) for files in found.values())
    lines = [
        *heading("RFC conformance"),
        "A test that proves a rule of an RFC is marked with its section.",
        f"There are {total:,} such proofs, of {len(found)} sections of {len(by_rfc)} RFCs.",
        "This page is made from the marks, so a section that is not here has no test that names",
        "it. That does not mean that the section is unsupported, nor does a row mean that each",
        "sentence of it is tested. What the library does not do is in",
        ":doc:`/explanation/limits`. To print",
        "this table with the tests of each row, run ``python -m pytest --rfc`` in a checkout.",
        "",
    ]
    summary = [
        [
            f"RFC {rfc}",
            TITLES.get(rfc, ""),
            str(len(rules)),
            str(sum(sum(found[rule].values()) for rule in rules)),
        ]
        for rfc, rules in by_rfc.items()
    ]
    lines += table(["RFC", "about", "sections", "proofs"], summary, "15 55 15 15")
    for rfc, rules in by_rfc.items():
        rows = []
        for rule in rules:
            section = rule.partition(" ")[2]
            link = f"https://www.rfc-editor.org/rfc/rfc{rfc}"
            shown = (
                f"`§{section} <{link}#section-{section}>`__" if section else f"`whole <{link}>`__"
            )
            files = ", ".join(code(file.removeprefix("tests/")) for file in sorted(found[rule]))
            rows.append([shown, str(sum(found[rule].values())), files])
        title = f"RFC {rfc}: {TITLES[rfc]}" if rfc in TITLES else f"RFC {rfc}"
        lines += [
            *heading(title, "-"),
            *table(["section", "tests", "files in tests/"], rows, "12 8 80"),
        ]
    return lines


# ---- all of it


def pages() -> dict[str, list[str]]:
    return {
        **api(),
        "sdp": module_page("Session descriptions", f"{PACKAGE}.message.sdp"),
        "testing": module_page("The test fixture", f"{PACKAGE}.testing"),
        "strategies": module_page(
            "Hypothesis strategies",
            f"{PACKAGE}.testing.strategies",
        ),
        "store_contract": module_page("Tests for a store of bindings", f"{PACKAGE}.testing.stores"),
        "plug": module_page("Transports of your own", f"{PACKAGE}.transport.base"),
        "headers": headers(),
        "rules": rules(),
        "limits": limits(),
        "command": command(),
        "conformance": conformance(),
    }


def write(app=None) -> None:
    OUT.mkdir(exist_ok=True)
    made = {OUT / f"{name}.rst": "\n".join(lines) for name, lines in pages().items()}
    for path in set(OUT.glob("*.rst")) - set(made):
        path.unlink()
    for path, text in made.items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def setup(app):
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    write()
