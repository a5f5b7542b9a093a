"""Reloader: reads the configuration again at SIGHUP, and changes a running server.

Everything that can fail comes first. So a file with a mistake changes nothing.
"""

from __future__ import annotations

import logging
import os
import signal
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar, cast

import gevent

from ..core.routing.own_names import Names
from ..engine.filters import Filter
from ..errors import SIPError
from ..observe.log_values import Plain, Quoted
from ..stores.users import MemoryUsers
from ..transport.tls import TLS
from .configuration import Configuration, Words, read_configuration
from .logs import set_up_log
from .office import ALIASES, Office, aliases_of, filter_of, tls_of
from .office_checks import check_core_options, check_users, is_local
from .settings import ROWS, Settings
from .terminal import Mistake
from .users_file import AskedUsers, configured_users

log = logging.getLogger("sippet_gevent")

T = TypeVar("T")


class Reloader:
    """Reads the configuration of an office again when SIGHUP arrives.

    Args:
        office: The running office.
        options: The arguments of the command line, which still win over the file.
    """

    def __init__(self, office: Office, options: Mapping[str, object]) -> None:
        self._office = office
        self._options = options
        self._is_busy = False
        self._is_wanted = False

    @contextmanager
    def installed(self, kept: set[int]) -> Iterator[None]:
        """Serve SIGHUP, if there is a file to read again. Otherwise the stack serves it.

        The first reload waits for begin().

        Args:
            kept: Signals that have arrived before.
        """
        settings = self._office.settings
        if self._office.words.file is None and settings.users_file is None:
            yield
            return
        self._is_busy = True
        before = signal.signal(signal.SIGHUP, self._received)
        if signal.SIGHUP in kept:
            kept.discard(signal.SIGHUP)
            self._is_wanted = True
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, before)

    def begin(self) -> None:
        """Reload from now on, because the stack has started. A signal that came before is served
        now."""
        self._is_busy = False
        if self._is_wanted:
            gevent.spawn(self.reload)

    def _received(self, number: int, frame: FrameType | None) -> None:
        """Take a signal, which may arrive between any two instructions. The loop does the rest."""
        gevent.get_hub().loop.run_callback(gevent.spawn, self.reload)

    def reload(self) -> bool:
        """Read the configuration, and use what has changed. Returns False, and changes nothing, if
        something is wrong; the log says what."""
        if self._is_busy:
            self._is_wanted = True  # the file may have changed after it was read
            return False
        self._is_busy = self._is_wanted = True
        done = False
        try:
            while self._is_wanted:
                self._is_wanted = False
                done = self._try()
        finally:
            self._is_busy = False
        return done

    def _try(self) -> bool:
        try:
            self._reload()
        except SIPError as error:
            for line in str(error).split("\n"):
                log.error(
                    'configuration not reloaded: reason="%s" hint="the old one stays"', Quoted(line)
                )
            return False
        return True

    def _reload(self) -> None:
        office, stack = self._office, self._office.stack
        before = office.settings
        check_repeatable(office.words.file)
        # in a thread, because a file of thousands of users takes a while
        configuration: Configuration = in_thread(read_configuration, self._options)
        settings, words = configuration
        # what can fail
        check_core_options(settings, words)
        check_users(settings, words)
        check_core(office, settings, words)
        aliases = aliases_of(settings, words)
        with words.naming("domains", "aliases", hints=ALIASES):
            Names([], settings.domains, None, aliases)
        accept = filter_of(settings, words)
        tls = in_thread(tls_of, settings, words)
        users = None
        if office.users is not None:
            configured: MemoryUsers = in_thread(configured_users, settings)
            offered: tuple[str, ...] = office.algorithms
            if settings.domains:
                offered = office.users.offered(settings, words, configured)
            users = AskedUsers(configured, offered)
        trunks = office.trunks.made(settings, words) if settings.core is None else []
        set_up_log(settings, words)
        # what cannot
        changed = changed_keys(before, settings)
        fixed = _FIXED if settings.domains else _FIXED | {"domains"}  # a registrar needs one
        self._use_tls(tls)
        if words.file is not None and isinstance(stack.engine.accept, Filter):
            accept = accept or Filter(scanners=())
            accept.attach(stack.clock, stack.engine.counters.lines)
            stack.engine.accept = accept
        if settings.domains and (
            settings.domains != before.domains or settings.aliases != before.aliases
        ):
            stack.names.serve(settings.domains, aliases)
        if settings.limits != before.limits:
            stack.engine.use_limits(settings.limits)
        office.adopt(configuration, users, trunks)
        for key in changed:
            if key in fixed:
                log.warning('setting not reloaded: key=%s reason="it needs a restart"', key)
        log.info(
            "configuration reloaded: file=%s changed=%s",
            Plain(words.file or settings.users_file),
            ",".join(key for key in changed if key not in fixed) or "none",
        )

    def _use_tls(self, tls: TLS | None) -> None:
        stack = self._office.stack
        if tls is not None and stack.tls is not None:
            stack.tls.take_over(tls)
        elif tls is not None or stack.tls is not None:
            log.warning('setting not reloaded: key=tls reason="it needs a restart"')


def in_thread(function: Callable[..., T], *arguments: object) -> T:
    """Call a function in a thread of gevent's pool, and return its value or raise its SIPError.

    The pool would print the traceback of an error that leaves the function.
    """

    def call() -> tuple[T | None, SIPError | None]:
        try:
            return function(*arguments), None
        except SIPError as error:
            return None, error

    value, error = gevent.get_hub().threadpool.apply(call)
    if error is not None:
        raise error
    return cast(T, value)


def changed_keys(before: Settings, after: Settings) -> list[str]:
    """Return the keys of settings that differ."""
    changed = []
    for row in ROWS:
        if row.table == "limits":
            if getattr(before.limits, row.name) != getattr(after.limits, row.name):
                changed.append(row.key)
        elif row.table.startswith("limits."):
            part = row.table.partition(".")[2]
            one, other = getattr(before.limits, part), getattr(after.limits, part)
            if getattr(one, row.name) != getattr(other, row.name):
                changed.append(row.key)
        elif row.table not in ("listen", "trunks"):
            name = row.key.replace(".", "_")
            if getattr(before, name) != getattr(after, name):
                changed.append(row.key)
    for name in ("listen", "trunks"):
        if getattr(before, name) != getattr(after, name):
            changed.append(name)
    return changed


_FIXED = frozenset(row.key for row in ROWS if not row.reloads) | {"listen"}


def check_repeatable(file: str | None) -> None:
    """Check that a file can be read again: a pipe would block the server, and is empty the second
    time. Raises Mistake, and for a file without settings, too, because an editor may be writing
    it."""
    if file is None:
        return
    try:
        state = os.stat(file)
    except OSError:
        return  # read_configuration() tells why
    if stat.S_ISFIFO(state.st_mode):
        raise Mistake(f"--config: {file} is a pipe: write the path of a file to reload it")
    if state.st_size == 0:
        raise Mistake(f"{file}: the file is empty: write it, and send SIGHUP again")


def check_core(office: Office, settings: Settings, words: Words) -> None:
    """Check that the server stays of the same kind, and that no trunk is added while others reach
    it without a password. Raises Mistake."""
    if (settings.core is None) != (office.core is None):
        raise Mistake(
            f"{words.name('core')} needs a restart, because the other settings depend on it"
        )
    if settings.trunks and not office.asks and (settings.has_users or not is_local(office.stack)):
        raise Mistake(
            f"{words.entry('trunks', settings.trunks[0].name)} needs a restart: until then, the "
            "server asks for no passwords, and everybody could call at your expense"
        )
