"""Imports the core that a user of `sippet serve` names."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from ..errors import excerpt
from ..observe.log_values import Quoted
from .terminal import Mistake

log = logging.getLogger("sippet_gevent")

_OURS = (__file__, importlib.__file__, "<frozen ")
"""Files that tracebacks leave out, because the user's mistake is not in them."""


def load_core(text: str) -> object:
    """Return the object that MODULE_OR_FILE:CORE names. Raises Mistake."""
    where, _, name = text.rpartition(":")
    if not where or not name:
        raise Mistake(
            f"{excerpt(text)} does not name a core: write module:name or path/to/file.py:name"
        )
    found = call(where, _import_file if where.endswith(".py") else _import_module, where)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Mistake(
                f"{where} has no {name}: write {where}:NAME with a name that it defines"
            ) from None
    return found


def _import_module(name: str) -> object:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(name)


def _import_file(name: str) -> object:
    path = Path(name)
    if not path.is_file():
        raise Mistake(f"there is no file {name}: write its path from the current folder")
    # the file may import its neighbours, as with `python file.py`
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def call(where: str, function: Callable[..., object], *arguments: str) -> object:
    """Run an import or a constructor of the user. Any exception becomes a Mistake in one line."""
    try:
        return function(*arguments)
    except Mistake:
        raise
    except (Exception, SystemExit) as error:
        log.debug('core not loaded: core="%s"', Quoted(where), exc_info=error)
        message = " ".join(str(error).split())
        if not isinstance(error, (ImportError, SyntaxError)):
            message = f"{type(error).__name__}: {message}" if message else type(error).__name__
        lines = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if not frame.filename.startswith(_OURS)
        ]
        at = (
            f" ({lines[-1].filename}:{lines[-1].lineno})"
            if lines and not isinstance(error, SyntaxError)
            else ""
        )
        raise Mistake(f"cannot load {where}: {message}{at}") from error
