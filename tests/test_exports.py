"""The public names: everything in `sippet_gevent.__all__` exists, stands there once, and says what it is."""

from __future__ import annotations

import inspect

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


def test_star_import_gives_the_public_names_only():
    names: dict[str, object] = {}
    exec("from sippet_gevent import *", names)
    assert set(names) - {"__builtins__"} == set(NAMES)


def is_documentable(value):
    return inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value)
