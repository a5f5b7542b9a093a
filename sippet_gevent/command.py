"""What `sippet serve` and `sippet ping` do; __main__.py reads their arguments, and patches, before this is imported."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent

from .core.server import RegistrarProxy
from .core.uas import Core
from .errors import InvalidValue, SIPError
from .message.uri import URI
from .stack import Stack
from .transport.base import Flow, Receive
from .watchdog import Watchdog

log = logging.getLogger("sippet_gevent")

DEFAULT_ADDRESS = "udp:127.0.0.1:5060"

SCHEMES = ("sip:", "sips:", "tel:")
"""What `sippet ping` takes for a URI; before anything else it puts `sip:`."""


_NOT_THEIRS = (__file__, importlib.__file__, "<frozen ")
"""Source files that say nothing about where a core's module is wrong."""


class Mistake(SIPError):
    """Something the caller of the command can mend: told in one line, exit code 2."""


# ---- sippet serve


def serve(options: Any) -> int:
    """Run a core until SIGTERM or SIGINT; then drain and return 0. A mistake is one line on stderr and 2."""
    _log_to_stderr(options.verbose, logging.INFO)
    try:
        stack = _stack(options)
        if options.verbose:
            _show_messages(stack)
        stack.start()
    except SIPError as error:
        return _tell(error)
    signals = 0

    def leave() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            log.info("stopping: new requests get 503, %d under way are finished", stack.active)
            stack.stop(timeout=options.drain)
        else:
            log.info("stopping at once, with %d under way", stack.active)
            stack.stop()

    handlers: dict[int, Callable[[], None]] = {
        signal.SIGTERM: leave,
        signal.SIGINT: leave,
        signal.SIGUSR1: lambda: log.info("stats: %s", _line(stack.stats())),
    }
    watchers = [gevent.signal_handler(number, handler) for number, handler in handlers.items()]
    watchdog = Watchdog()
    watchdog.start()
    try:
        stack.serve_forever()
    finally:
        watchdog.stop()
        for watcher in watchers:
            watcher.cancel()
    log.info("stopped: %s", _line(stack.stats()))
    return 0


def _stack(options: Any) -> Stack:
    """Return the stack to run, not started. Raises Mistake, InvalidValue."""
    if options.core is None:
        return Stack(*(options.listen or [DEFAULT_ADDRESS]), core=RegistrarProxy(), domains=("localhost",))
    found = _load(options.core)
    if isinstance(found, Stack):
        for address in options.listen:
            found.listen(address)
        if not found.planned:
            found.listen(DEFAULT_ADDRESS)
        return found
    if isinstance(found, type) and issubclass(found, Core):
        found = _theirs(options.core, found)
    if not callable(found):
        raise Mistake(f"{options.core} is not a core but a {type(found).__name__}: a core is a callable, a Core or a Stack")
    try:
        inspect.signature(found).bind("request", "tx")
    except TypeError:
        raise Mistake(f"{options.core} is not a core: it cannot be called with (request, tx)") from None
    except ValueError:
        pass  # a callable that does not tell
    return Stack(*(options.listen or [DEFAULT_ADDRESS]), core=found)


def _load(text: str) -> Any:
    """Return what MODULE_OR_FILE:CORE names. Raises Mistake."""
    where, _, name = text.rpartition(":")
    if not where or not name:
        raise Mistake(f"{text!r} does not name a core: write module:name or path/to/file.py:name")
    found = _theirs(where, _import_file if where.endswith(".py") else _import_module, where)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Mistake(f"{where} has no {name}") from None
    return found


def _import_module(name: str) -> Any:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(name)


def _import_file(name: str) -> Any:
    path = Path(name)
    if not path.is_file():
        raise Mistake(f"there is no file {name}")
    sys.path.insert(0, str(path.resolve().parent))  # what it imports lies beside it, as for `python file.py`
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def _theirs(where: str, function: Any, *arguments: Any) -> Any:
    """Run code of the caller's, an import or a constructor. Whatever it raises is a Mistake, told in one line."""
    try:
        return function(*arguments)
    except Mistake:
        raise
    except (Exception, SystemExit) as error:
        log.debug("cannot load %s", where, exc_info=error)
        message = " ".join(str(error).split())
        if not isinstance(error, (ImportError, SyntaxError)):
            message = f"{type(error).__name__}: {message}" if message else type(error).__name__
        lines = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_NOT_THEIRS)]
        at = f" ({lines[-1].filename}:{lines[-1].lineno})" if lines and not isinstance(error, SyntaxError) else ""
        raise Mistake(f"cannot load {where}: {message}{at}") from error


# ---- sippet ping


def ping(options: Any) -> int:
    """Send OPTIONS; print status, round trip and who answered. Returns 0 for a 2xx, 1 otherwise, 2 for a mistake."""
    _log_to_stderr(options.verbose, logging.WARNING)
    try:
        uri = URI.parse(options.uri if options.uri.lower().startswith(SCHEMES) else f"sip:{options.uri}")
        if not uri.is_sip:
            raise InvalidValue(f"{options.uri!r} is not a SIP URI")
        stack = Stack(options.listen or ("udp:[::]:0" if ":" in uri.host else "udp:0.0.0.0:0"))
        if options.verbose:
            _show_messages(stack)
        stack.start()
    except SIPError as error:
        return _tell(error)
    with stack:
        try:
            peer = stack.flow_to(uri).remote  # asks DNS, which is no part of the round trip
            started = time.perf_counter()
            response = stack.request("OPTIONS", uri, next_hop=URI("sip", None, _host(peer), peer[1]), timeout=options.timeout)
        except SIPError as error:
            return _tell(f"{uri}: {error}", 1)
        elapsed = (time.perf_counter() - started) * 1000
    peer = response.flow.remote
    who = response.server or response.user_agent
    print(f"{response.status} {response.reason}  {elapsed:.1f} ms  from {_host(peer)}:{peer[1]}" + (f"  {who}" if who else ""))
    return 0 if response.is_success else 1


# ---- what both say


def _tell(problem: object, code: int = 2) -> int:
    print(f"sippet: {problem}", file=sys.stderr)
    return code


def _host(address: tuple[Any, ...]) -> str:
    return f"[{address[0]}]" if ":" in address[0] else str(address[0])


def _line(stats: dict[str, Any]) -> str:
    """Return the counters and gauges that are not 0 as one line."""
    return " ".join(f"{name}={str(value).replace(' ', '')}" for name, value in stats.items() if value) or "nothing"


def _log_to_stderr(verbose: bool, level: int) -> None:
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr)
    if verbose:
        log.setLevel(logging.DEBUG)


_CREDENTIALS = re.compile(rb"^((?:Proxy-)?Authorization[ \t]*:[ \t]*\w*).*$(?:\r?\n[ \t].*$)*", re.I | re.M)
_CONTROL = re.compile(r"[^\n\x20-\x7e\xa0-\uffff]")


def _show_messages(stack: Stack) -> None:
    """Log each message of the stack's transports, at DEBUG, without credentials; escapes cannot reach the terminal."""
    for transport, _ in stack.planned:
        _show_transport(transport)


def _show_transport(transport: Any) -> None:
    start, connect = transport.start, transport.connect

    def shown_start(address: Any, receive: Receive) -> None:
        def shown_receive(data: bytes, flow: Flow) -> None:
            _show_flows(type(flow))
            _show("received from", flow, data)
            receive(data, flow)

        start(address, shown_receive)

    def shown_connect(address: Any) -> Flow:
        flow: Flow = connect(address)
        _show_flows(type(flow))
        return flow

    transport.start, transport.connect = shown_start, shown_connect


_shown: set[type] = set()


def _show_flows(kind: Any) -> None:
    """Let flows of this class log what they send."""
    owner: Any = next(base for base in kind.__mro__ if "send" in vars(base))
    if owner not in _shown:
        _shown.add(owner)
        send = owner.send

        def shown_send(flow: Flow, data: bytes) -> None:
            _show("sent to", flow, data)
            send(flow, data)

        owner.send = shown_send


def _show(what: str, flow: Flow, data: bytes) -> None:
    text = _CREDENTIALS.sub(rb"\1 ...", data).replace(b"\r\n", b"\n").decode("utf-8", "backslashreplace")
    text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    lines = "\n".join(f"    {line}" for line in text.rstrip("\n").split("\n"))
    log.debug("%s %s:%d, %d octets\n%s", what, _host(flow.remote), flow.remote[1], len(data), lines)
