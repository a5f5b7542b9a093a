"""What `sippet serve` does: run a core until it is asked to stop. `--monkey` has patched before
this is imported."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import traceback
from pathlib import Path
from typing import Any

from ..core.core import Core, check_core
from ..core.registrar_proxy import RegistrarProxy
from ..engine.filters import LOOPBACK, SCANNERS, Filter
from ..errors import SIPError, excerpt
from ..stack import DEFAULT_ADDRESS, Stack
from ..transport.tls import TLS
from ..transport.websocket.settings import Web
from .terminal import Mistake, naming, tell
from .trace import log_to_stderr, show_messages

log = logging.getLogger("sippet_gevent")

_NOT_THEIRS = (__file__, importlib.__file__, "<frozen ")
"""Source files that say nothing about where a core's module is wrong."""


def serve(options: Any) -> int:
    """Run a core until SIGTERM or SIGINT; then drain and return 0. A mistake is one line on stderr
    and 2."""
    log_to_stderr(options.verbose, logging.INFO)
    try:
        stack = _stack(options)
        if options.verbose:
            show_messages(stack)
        if options.core is None:
            stack.start()  # what cannot be listened on is one line, without this one before it
            if stack.domains:
                log.info("registrar: domains=%s", ",".join(stack.domains))
            else:
                log.info(
                    'registrar: domains=any reason="without --domain every domain that a phone uses is served"'
                )
        stack.run(drain=options.drain)
    except SIPError as error:
        return tell(error)
    return 0


def _tls(options: Any) -> TLS | None:
    """Return the TLS that the options ask for, None for none. Raises Mistake, InvalidValue."""
    if options.cert is None and (options.key is not None or options.client_ca is not None):
        raise Mistake("--key and --client-ca go with a --cert")
    if options.cert is None and options.ca is None:
        return None
    with naming("--cert, --key, --ca, --client-ca"):
        return TLS(options.cert, options.key, ca=options.ca, client_ca=options.client_ca)


def _web(options: Any) -> Web | None:
    """Return the Web that admits the pages of the options, None to admit all. Raises Mistake."""
    if options.origin is None:
        return None
    if "*" in options.origin:
        raise Mistake(
            "--origin '*' is not an origin: leave --origin out, and all pages may open a WebSocket"
        )
    with naming("--origin"):
        return Web(origins=options.origin)


def _check_addresses(options: Any, kinds: set[str], has_certificate: bool) -> None:
    """Check that each option has an address that uses it, and each address its options. Raises
    Mistake."""
    for address in options.listen:
        if address.startswith(("tls:", "wss:")) and not has_certificate:
            raise Mistake(
                f"--listen {address} needs a certificate: add --cert FILE, and --key FILE if the key is in a file of its own"
            )
    if options.cert is not None and not kinds & {"tls", "wss"}:
        raise Mistake(
            "--cert is for TLS, and no address has it: add --listen tls:HOST:5061 or --listen wss:HOST:443"
        )
    if options.origin is not None and not kinds & {"ws", "wss"}:
        raise Mistake(
            "--origin is for WebSockets, and no address has them: add --listen wss:HOST:443"
        )


def _filter(options: Any) -> Filter | None:
    """Return the filter that the options ask for, None for none. Raises Mistake, InvalidValue."""
    if options.exempt is not None and options.rate is None:
        raise Mistake("--exempt goes with a --rate")
    if options.rate is None and not options.filter_scanners:
        return None
    scanners = SCANNERS if options.filter_scanners else ()
    with naming("--exempt"):
        return Filter(scanners=scanners, rate=options.rate, exempt=options.exempt or LOOPBACK)


def _stack(options: Any) -> Stack:
    """Return the stack to run, filter and all, not started. Raises Mistake, InvalidValue."""
    accept = _filter(options)
    stack = _stack_of_core(options)
    if accept is not None:
        if stack.accept is not None:
            raise Mistake(
                f"{options.core} has a filter of its own: --filter-scanners and --rate would replace it"
            )
        stack.accept = accept
    return stack


def _stack_of_core(options: Any) -> Stack:
    tls = _tls(options)
    web = _web(options)
    addresses = options.listen or [DEFAULT_ADDRESS]
    kinds = {address.partition(":")[0] for address in addresses}
    domains, aliases = _domains(options)
    if options.core is None:
        _check_addresses(options, kinds, options.cert is not None or options.ca is not None)
        with naming("--domain, --alias"):
            stack = Stack(core=RegistrarProxy(), domains=domains, aliases=aliases, tls=tls, web=web)
        return _listening(stack, addresses)
    found = _load(options.core)
    if isinstance(found, Stack):
        if domains:
            with naming("--domain, --alias"):
                found.names.serve(domains, aliases)
        found.tls = tls or found.tls
        found.web = web or found.web
        _check_addresses(
            options,
            kinds | {listener.transport for _, listener in found.planned},
            found.tls is not None,
        )
        _listening(found, options.listen)
        if not found.planned:
            found.listen(DEFAULT_ADDRESS)
        return found
    if isinstance(found, type) and issubclass(found, Core):
        found = _theirs(options.core, found)
    if not callable(found):
        raise Mistake(
            f"{options.core} is not a core, got {excerpt(found)}: a core is a callable, a Core or a Stack"
        )
    try:
        check_core(found)
    except TypeError as error:
        raise Mistake(f"{options.core} is not a core: {error}") from None
    _check_addresses(options, kinds, options.cert is not None or options.ca is not None)
    with naming("--domain, --alias"):
        stack = Stack(core=found, domains=domains, aliases=aliases, tls=tls, web=web)
    return _listening(stack, addresses)


def _listening(stack: Stack, addresses: list[str]) -> Stack:
    """Return the stack with these addresses of `--listen`. Raises Mistake."""
    with naming("--listen"):
        for address in addresses:
            stack.listen(address)
    return stack


def _domains(options: Any) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the domains and aliases of the options. An alias without a domain is one of the first
    domain."""
    if options.alias and not options.domain:
        raise Mistake("--alias goes with a --domain: without one every domain is served")
    aliases = {}
    for text in options.alias:
        name, _, domain = text.partition("=")
        aliases[name] = domain or options.domain[0]
    return tuple(options.domain), aliases


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
    # what it imports lies beside it, as for `python file.py`
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def _theirs(where: str, function: Any, *arguments: Any) -> Any:
    """Run code of the caller's, an import or a constructor. Whatever it raises is a Mistake, told
    in one line."""
    try:
        return function(*arguments)
    except Mistake:
        raise
    except (Exception, SystemExit) as error:
        log.debug("cannot load %s", where, exc_info=error)
        message = " ".join(str(error).split())
        if not isinstance(error, (ImportError, SyntaxError)):
            message = f"{type(error).__name__}: {message}" if message else type(error).__name__
        lines = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if not frame.filename.startswith(_NOT_THEIRS)
        ]
        at = (
            f" ({lines[-1].filename}:{lines[-1].lineno})"
            if lines and not isinstance(error, SyntaxError)
            else ""
        )
        raise Mistake(f"cannot load {where}: {message}{at}") from error
