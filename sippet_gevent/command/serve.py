"""`sippet serve`: run a core until a signal stops it.

With `--monkey`, gevent patches the standard library before the core is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import traceback
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..core.auth.authenticated import Authenticated
from ..core.auth.server import OFFERED
from ..core.core import Core, check_core
from ..core.registrar_proxy import RegistrarProxy
from ..engine.filters import LOOPBACK, SCANNERS, Filter
from ..errors import SIPError, excerpt
from ..stack import DEFAULT_ADDRESS, Stack
from ..stores.base import BindingStore
from ..stores.location import Location
from ..transport.tls import TLS
from ..transport.websocket.settings import Web
from .terminal import Mistake, naming, tell
from .trace import log_to_stderr, show_messages

if TYPE_CHECKING:
    from ..stores.sqlite import SQLiteBindings
    from ..stores.users import SQLiteUsers

log = logging.getLogger("sippet_gevent")

_OURS = (__file__, importlib.__file__, "<frozen ")
"""Files that tracebacks leave out, because the user's mistake is not in them."""


class Options(Protocol):
    """The arguments of `sippet serve`."""

    core: str | None
    listen: list[str]
    domain: list[str]
    alias: list[str]
    cert: str | None
    key: str | None
    ca: str | None
    client_ca: str | None
    database: str | None
    algorithm: list[str] | None
    open: bool
    origin: list[str] | None
    filter_scanners: bool
    rate: float | None
    exempt: list[str] | None
    drain: float
    verbose: bool


def serve(options: Options) -> int:
    """Run a core until SIGTERM or SIGINT, then drain.

    Returns:
        The exit code: 0, or 2 for a mistake, which is printed on stderr in one line.
    """
    log_to_stderr(options.verbose, logging.INFO)
    store = users = None
    try:
        store = _store(options)
        users = _users(options)
        stack = _stack(options, store, users)
        if options.verbose:
            show_messages(stack)
        if options.core is None:
            stack.start()  # before the log lines, so that a bad address is the only line
            if stack.domains:
                log.info("registrar: domains=%s", ",".join(stack.domains))
            else:
                log.info(
                    "registrar: domains=any "
                    'reason="without --domain phones may register with any domain"'
                )
            if store is not None:
                log.info("bindings: count=%d database=%s", store.count(), store.path)
            _tell_of_passwords(options, users)
        stack.run(drain=options.drain)
    except SIPError as error:
        return tell(error)
    finally:
        for opened in (store, users):
            if opened is not None:
                opened.close()
    return 0


def _users(options: Options) -> SQLiteUsers | None:
    """Return the users of `--database`, or None if the server asks for no passwords. Raises
    Mistake, StoreError."""
    if options.core is not None and (options.open or options.algorithm):
        name = "--open" if options.open else "--algorithm"
        raise Mistake(
            f"{name} is for the default server: {options.core} asks for passwords by Authenticated"
        )
    if options.database is None or options.open:
        if options.algorithm:
            raise Mistake("--algorithm needs users: add --database FILE, and leave --open out")
        return None
    if not options.domain:
        raise Mistake(
            "--database asks for the passwords of a domain: add --domain NAME, or --open to ask "
            "for none"
        )
    from ..stores.users import SQLiteUsers

    with naming("--database"):
        return SQLiteUsers(options.database)


def _tell_of_passwords(options: Options, users: SQLiteUsers | None) -> None:
    if users is not None:
        realm = options.domain[0]
        count = len(users.list(realm))
        if count:
            log.info("passwords: users=%d realm=%s", count, realm)
        else:
            log.warning(
                "passwords: users=0 realm=%s "
                'hint="add users: sippet user add NAME@%s --database %s"',
                realm,
                realm,
                options.database,
            )
    elif options.open:
        log.warning(
            'passwords: none reason="--open" hint="everybody that reaches it may register as '
            'anybody, and call at your expense"'
        )


def _core(options: Options, store: BindingStore | None, users: SQLiteUsers | None) -> Core:
    """Return the default server, which asks for passwords if there are users. Raises Mistake."""
    core = RegistrarProxy(Location(store))
    if users is None:
        return core
    with naming("--algorithm"):
        return Authenticated(
            core,
            realm=options.domain[0],
            users=users,
            algorithms=tuple(options.algorithm or OFFERED),
        )


def _check_loopback(stack: Stack) -> None:
    """Check that only this machine reaches a server that asks for no passwords. Raises Mistake."""
    for _, listener in stack.planned:
        if not _is_loopback(listener.host):
            raise Mistake(
                f"--listen {listener.transport}:{listener.host} lets everybody on the network "
                "register and call: add --database FILE and --domain NAME to ask for passwords, "
                "or --open to ask for none"
            )


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False


def _store(options: Options) -> SQLiteBindings | None:
    """Return the store of `--database`, or None. Raises Mistake, StoreError."""
    if options.database is None:
        return None
    if options.core is not None:
        raise Mistake(
            f"--database is for the default server, and {options.core} keeps its own bindings: "
            f"write Location(SQLiteBindings({options.database!r})) there"
        )
    from ..stores.sqlite import SQLiteBindings  # some systems build Python without SQLite

    with naming("--database"):
        return SQLiteBindings(options.database)


def _tls(options: Options) -> TLS | None:
    """Return the TLS of the options, or None. Raises Mistake."""
    if options.cert is None and (options.key is not None or options.client_ca is not None):
        raise Mistake("--key and --client-ca need a certificate: add --cert FILE")
    if options.cert is None and options.ca is None:
        return None
    with naming("--cert, --key, --ca, --client-ca"):
        return TLS(options.cert, options.key, ca=options.ca, client_ca=options.client_ca)


def _web(options: Options) -> Web | None:
    """Return the Web that admits the pages of the options, or None to admit all. Raises Mistake."""
    if options.origin is None:
        return None
    if "*" in options.origin:
        raise Mistake(
            "--origin must not be '*': leave --origin out to let all pages open a WebSocket"
        )
    with naming("--origin"):
        return Web(origins=options.origin)


def _check_addresses(options: Options, kinds: set[str], has_certificate: bool) -> None:
    """Check that options and addresses fit together. Raises Mistake."""
    for address in options.listen:
        if address.startswith(("tls:", "wss:")) and not has_certificate:
            raise Mistake(
                f"--listen {address} needs a certificate: add --cert FILE, and --key FILE if the "
                "key is in another file"
            )
    if options.cert is not None and not kinds & {"tls", "wss"}:
        raise Mistake(
            "--cert needs an address with TLS: add --listen tls:HOST:5061 or --listen wss:HOST:443"
        )
    if options.origin is not None and not kinds & {"ws", "wss"}:
        raise Mistake("--origin needs an address with WebSockets: add --listen wss:HOST:443")


def _filter(options: Options) -> Filter | None:
    """Return the filter of the options, or None. Raises Mistake, InvalidValue."""
    if options.exempt is not None and options.rate is None:
        raise Mistake("--exempt needs a rate: add --rate 50")
    if options.rate is None and not options.filter_scanners:
        return None
    scanners = SCANNERS if options.filter_scanners else ()
    with naming("--exempt"):
        return Filter(scanners=scanners, rate=options.rate, exempt=options.exempt or LOOPBACK)


def _stack(options: Options, store: BindingStore | None, users: SQLiteUsers | None) -> Stack:
    """Return the stack to run, not started yet. Raises Mistake, InvalidValue."""
    accept = _filter(options)
    stack = _stack_of_core(options, store, users)
    if accept is not None:
        if stack.accept is not None:
            raise Mistake(
                f"{options.core} has a filter of its own: leave out --filter-scanners and --rate"
            )
        stack.accept = accept
    return stack


def _stack_of_core(
    options: Options, store: BindingStore | None, users: SQLiteUsers | None
) -> Stack:
    """Return the stack of the options without a filter. Raises Mistake, InvalidValue."""
    tls = _tls(options)
    web = _web(options)
    addresses = options.listen or [DEFAULT_ADDRESS]
    kinds = {address.partition(":")[0] for address in addresses}
    domains, aliases = _domains(options)
    if options.core is None:
        _check_addresses(options, kinds, options.cert is not None or options.ca is not None)
        core = _core(options, store, users)
        with naming("--domain, --alias"):
            stack = Stack(core=core, domains=domains, aliases=aliases, tls=tls, web=web)
        _listening(stack, addresses)
        if users is None and not options.open:
            _check_loopback(stack)
        return stack
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
        found = _call(options.core, found)
    if not callable(found):
        raise Mistake(
            f"{options.core} must be a callable, a Core or a Stack, got {excerpt(found)}: "
            "write def core(request, tx)"
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
    """Add the addresses of `--listen` to a stack, and return it. Raises Mistake."""
    with naming("--listen"):
        for address in addresses:
            stack.listen(address)
    return stack


def _domains(options: Options) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the domains and aliases of the options.

    An alias without a domain belongs to the first domain. Raises Mistake.
    """
    if options.alias and not options.domain:
        raise Mistake("--alias needs a domain: add --domain NAME")
    aliases = {}
    for text in options.alias:
        name, _, domain = text.partition("=")
        aliases[name] = domain or options.domain[0]
    return tuple(options.domain), aliases


# A name in a user's module may be any object, so _load() and the imports return Any.


def _load(text: str) -> Any:
    """Return the object that MODULE_OR_FILE:CORE names. Raises Mistake."""
    where, _, name = text.rpartition(":")
    if not where or not name:
        raise Mistake(f"{text!r} does not name a core: write module:name or path/to/file.py:name")
    found = _call(where, _import_file if where.endswith(".py") else _import_module, where)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Mistake(
                f"{where} has no {name}: write {where}:NAME with a name that it defines"
            ) from None
    return found


def _import_module(name: str) -> Any:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(name)


def _import_file(name: str) -> Any:
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


def _call(where: str, function: Callable[..., Any], *arguments: str) -> Any:
    """Run an import or a constructor of the user. Any exception becomes a Mistake in one line."""
    try:
        return function(*arguments)
    except Mistake:
        raise
    except (Exception, SystemExit) as error:
        log.debug('core not loaded: core="%s"', where, exc_info=error)
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
