"""The public names: everything in `sippet_gevent.__all__` exists, stands there once, and says what it is."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import types
from pathlib import Path

import pytest

import sippet_gevent

NAMES = getattr(sippet_gevent, "__all__", ())


def test_package_says_what_is_public():
    assert sippet_gevent.__all__
    assert sippet_gevent.__doc__


def test_public_names_are_unique():
    assert len(set(NAMES)) == len(NAMES)


def test_public_objects_have_one_name_each():
    known = [
        id(getattr(sippet_gevent, name))
        for name in NAMES
        if is_documentable(getattr(sippet_gevent, name, None))
    ]
    assert len(set(known)) == len(known)


@pytest.mark.parametrize("name", NAMES)
def test_public_name_exists(name):
    assert hasattr(sippet_gevent, name)


@pytest.mark.parametrize("name", NAMES)
def test_public_name_has_a_docstring_of_its_own(name):
    value = getattr(sippet_gevent, name)
    if not is_documentable(value):
        return  # a constant: the comment or text beside it says what it is
    text = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    assert text
    assert not text.startswith(f"{name}("), "this is the text that dataclass and NamedTuple make up"


def test_names_that_editors_see_are_those_that_are_imported():
    tree = ast.parse(Path(sippet_gevent.__file__).read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {}
    for node in block.body:
        for alias in node.names:
            module = f".{node.module}"
            seen[alias.name] = module if alias.name != "sdp" else f"{module}.sdp"
    assert seen == sippet_gevent._MODULES
    assert set(seen) == set(NAMES)


@pytest.mark.parametrize("name", ["Stack", "sdp", "forward", "Location"])
def test_public_name_is_imported_when_it_is_first_used(name):
    code = f"import sippet_gevent; assert sippet_gevent.{name} is sippet_gevent.{name}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)


def test_pytest_plugin_imports_neither_gevent_nor_the_library():
    code = (
        "import sys, sippet_gevent.testing\n"
        "assert 'gevent' not in sys.modules and 'sippet_gevent.message' not in sys.modules\n"
        "from sippet_gevent.testing import Sip, ladder\n"
        "assert 'gevent' in sys.modules and callable(ladder)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)


def test_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        sippet_gevent.nonsense  # noqa: B018


def test_star_import_gives_the_public_names_only():
    names: dict[str, object] = {}
    exec("from sippet_gevent import *", names)
    assert set(names) - {"__builtins__"} == set(NAMES)


def is_documentable(value):
    if isinstance(value, types.GenericAlias):
        return False
    return inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value)
