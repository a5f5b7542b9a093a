"""What `sippet serve` and `sippet ping` do; __main__.py reads their arguments before any of this is imported."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event

from .core.server import RegistrarProxy
from .core.uas import Core
from .errors import InvalidValue, SIPError
from .message.uri import URI
from .stack import Stack
from .watchdog import Watchdog

DEFAULT_ADDRESS = "udp:127.0.0.1:5060"


class Mistake(SIPError):
    """Something the caller of the command can mend: told in one line, exit code 2."""


def serve(options: Any) -> int:
    """Run a core until SIGTERM or SIGINT; then drain and return 0. A mistake is one line on stderr and 2."""
    _log_to_stderr(options.verbose)
    try:
        stack = _stack(options)
        stack.start()
    except SIPError as error:
        print(f"sippet: {error}", file=sys.stderr)
        return 2
    asked = Event()
    watchers = [gevent.signal_handler(number, asked.set) for number in (signal.SIGTERM, signal.SIGINT)]
    watchdog = Watchdog()
    watchdog.start()
    try:
        asked.wait()
        logging.getLogger("sippet_gevent").info("stopping: new requests get 503, %d under way are finished", stack.active)
        stack.stop(timeout=options.drain)
    finally:
        watchdog.stop()
        for watcher in watchers:
            watcher.cancel()
    return 0


def _stack(options: Any) -> Stack:
    if options.core is None:
        return Stack(*(options.listen or [DEFAULT_ADDRESS]), core=RegistrarProxy())
    found = _load(options.core)
    if isinstance(found, Stack):
        for address in options.listen:
            found.listen(address)
        if not found.planned:
            found.listen(DEFAULT_ADDRESS)
        return found
    if not (callable(found) or isinstance(found, Core)):
        raise Mistake(f"{options.core} is a {type(found).__name__}, not a callable, a Core or a Stack")
    return Stack(*(options.listen or [DEFAULT_ADDRESS]), core=found)


def _load(text: str) -> Any:
    """Return what MODULE_OR_FILE:CORE names."""
    where, colon, name = text.rpartition(":")
    if not colon or not where or not name:
        raise Mistake(f"{text!r} does not name a core: write module:name or path/to/file.py:name")
    try:
        if where.endswith(".py"):
            module = _load_file(Path(where))
        else:
            if "" not in sys.path and str(Path.cwd()) not in sys.path:
                sys.path.insert(0, str(Path.cwd()))
            module = importlib.import_module(where)
    except (ImportError, OSError, SyntaxError) as error:
        raise Mistake(f"cannot import {where}: {error}") from error
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            raise Mistake(f"{where} has no {name}")
    return found


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise Mistake(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise Mistake(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def ping(options: Any) -> int:
    """Send OPTIONS; print status, round trip and who answered. Returns 0 for a 2xx, 1 otherwise, 2 for a mistake."""
    _log_to_stderr(options.verbose)
    try:
        text = options.uri if ":" in options.uri and options.uri.split(":")[0].isalpha() else f"sip:{options.uri}"
        uri = URI.parse(text)
        if not uri.is_sip:
            raise InvalidValue(f"{options.uri!r} is not a SIP URI")
        address = options.listen or ("udp:[::]:0" if ":" in uri.host else "udp:0.0.0.0:0")
        stack = Stack(address).start()
    except SIPError as error:
        print(f"sippet: {error}", file=sys.stderr)
        return 2
    with stack:
        started = time.perf_counter()
        try:
            response = stack.request("OPTIONS", uri, timeout=options.timeout)
        except SIPError as error:
            print(f"{uri}: {error}", file=sys.stderr)
            return 1
        elapsed = (time.perf_counter() - started) * 1000
        host, port = response.flow.remote
        who = response.server or response.user_agent
        print(f"{response.status} {response.reason}  {elapsed:.1f} ms  from {host}:{port}" + (f"  {who}" if who else ""))
        return 0 if response.is_success else 1


def _log_to_stderr(verbose: int) -> None:
    level = (logging.INFO, logging.DEBUG)[min(verbose, 1)]
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr)
