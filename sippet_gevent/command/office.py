"""Office: the stack that a configuration describes, and what a reload changes in it."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, cast

from ..core.auth.authenticated import Authenticated
from ..core.auth.bans import Ban, Bans
from ..core.auth.server import Exempt
from ..core.core import Core, CoreFunction, check_core
from ..core.registrar_proxy import RegistrarProxy
from ..core.trust_domain import TrustDomain
from ..engine.filters import LOOPBACK, SCANNERS, Filter
from ..errors import InvalidValue, SIPError, excerpt
from ..observe.log_values import Plain, Quoted
from ..stack import DEFAULT_ADDRESS, Stack
from ..stores.location import Location
from ..transport.tls import TLS
from ..transport.websocket.settings import Web
from .configuration import Configuration, Words
from .core_loading import call, load_core
from .office_checks import (
    check_addresses,
    check_core_options,
    check_database,
    check_loopback,
    check_users,
)
from .settings import Settings
from .terminal import Mistake
from .trunk_settings import OfficeTrunk, OfficeTrunks
from .users_file import AskedUsers, OfficeUsers, configured_users

if TYPE_CHECKING:
    from ..stores.sqlite import SQLiteBindings
    from ..stores.users import SQLiteUsers

log = logging.getLogger("sippet_gevent")

ALIASES = {"aliases": "alias "}
"""The word by which errors of aliases are told from errors of domains."""


class Office:
    """The stack of a configuration.

    Args:
        configuration: The settings, and how messages name them.
        is_check: Open no database, because the settings are only checked.

    Raises:
        Mistake: The settings contradict each other, or something they name cannot be used.
        StoreError: The database cannot be used.
    """

    def __init__(self, configuration: Configuration, *, is_check: bool = False) -> None:
        self.settings = configuration.settings
        self.words = configuration.words
        self.core = self.settings.core
        """The core of the user. Only a restart changes it."""
        self.store: SQLiteBindings | None = None
        self._database_users: SQLiteUsers | None = None
        self.users: OfficeUsers | None = None
        self._proxy: RegistrarProxy | None = None
        self.trunks = OfficeTrunks()
        self._secret = os.urandom(32)
        self._gate: Authenticated | None = None
        self.algorithms: tuple[str, ...] = ()
        """The algorithms that users are asked by."""
        check_core_options(self.settings, self.words)
        check_users(self.settings, self.words)
        try:
            if self.settings.database is not None:
                if is_check:
                    check_database(self.settings.database, self.words)
                else:
                    self._open(self.settings.database)
            if self._asks:
                self.users = OfficeUsers(self._database_users)
                self.users.configured = configured_users(self.settings)
                self.algorithms = self.users.offered(
                    self.settings, self.words, self.users.configured
                )
            if self.settings.core is None:
                self.trunks.first(self.trunks.made(self.settings, self.words))
            self.stack = self._stack()
            self.trunks.join(self.stack)
        except BaseException:
            self.close()
            raise

    @property
    def asks(self) -> bool:
        """True if this server asks for passwords. Only a restart changes that."""
        return self.users is not None

    @property
    def _asks(self) -> bool:
        """True if the default server asks for passwords."""
        return self.settings.core is None and self.settings.has_users and not self.settings.open

    def _open(self, path: str) -> None:
        from ..stores.sqlite import SQLiteBindings  # some systems build Python without SQLite
        from ..stores.users import SQLiteUsers

        with self.words.naming("database"):
            self.store = SQLiteBindings(path)
            if self._asks:
                self._database_users = SQLiteUsers(path)

    def close(self) -> None:
        """Close the database."""
        for opened in (self.store, self._database_users):
            if opened is not None:
                opened.close()

    # ---- the stack

    def _stack(self) -> Stack:
        settings, words = self.settings, self.words
        found = _found_core(settings, words)
        tls, web = tls_of(settings, words), _web(settings, words)
        aliases = aliases_of(settings, words)
        accept = filter_of(settings, words)
        addresses = settings.listen or (DEFAULT_ADDRESS,)
        kinds = {address.partition(":")[0] for address in addresses}
        if isinstance(found, Stack):
            stack = found
            if settings.domains:
                with words.naming("domains", "aliases", hints=ALIASES):
                    stack.names.serve(settings.domains, aliases)
            stack.tls, stack.web = tls or stack.tls, web or stack.web
            kinds |= {listener.transport for _, listener in stack.planned}
            check_addresses(settings, words, kinds, stack.tls is not None)
            self._listen(stack, settings.listen)
            if not stack.planned:
                stack.listen(DEFAULT_ADDRESS)
        else:
            check_addresses(settings, words, kinds, tls is not None)
            with words.naming("domains", "aliases", hints=ALIASES):
                stack = Stack(
                    core=self._core() if found is None else found,
                    domains=settings.domains,
                    aliases=aliases,
                    tls=tls,
                    web=web,
                    limits=settings.limits,
                    # so that calls can be hung up after a restart
                    route_secret=None if self.store is None else self.store.route_secret(),
                )
            self._listen(stack, addresses)
            if found is None and not self._asks and not settings.open:
                check_loopback(stack, words)
        if accept is not None:
            if stack.accept is not None:
                raise Mistake(
                    f"{settings.core} has a filter of its own: leave out --filter-scanners and "
                    "--rate"
                )
            stack.accept = accept
        elif words.file is not None and stack.accept is None:
            stack.accept = Filter(scanners=())  # so that a reload can set another one
        return stack

    def _listen(self, stack: Stack, addresses: tuple[str, ...]) -> None:
        for index, address in enumerate(addresses):
            try:
                stack.listen(address)
            except InvalidValue as error:
                raise Mistake(
                    f"{self.words.entry('listen', index, 'address').rstrip(':')}: {error}"
                ) from error

    def _core(self) -> Core:
        """Return the default server, which asks for passwords if there are users. Raises
        Mistake."""
        if self._proxy is None:
            self._proxy = RegistrarProxy(Location(self.store))
        core: Core = self._proxy
        office = self.trunks.core_around(self._proxy, is_open=self.users is None)
        if office is not None:
            core = office
        if self.users is None:
            return core
        exempt = None if office is None else office.is_from_carrier
        return self._authenticated(core, self.settings, self.users, exempt)

    def _authenticated(
        self, core: Core, settings: Settings, users: OfficeUsers, exempt: Exempt | None
    ) -> Authenticated:
        with self.words.naming("algorithms"):
            gate = Authenticated(
                TrustDomain(core, is_trusted=exempt),
                realm=settings.domains[0],
                users=users,
                algorithms=self.algorithms,
                secret=self._secret,
                bans=bans_of(settings),
                exempt=exempt,
            )
        if self._gate is not None:  # a reload must not free a source that guesses passwords
            gate.authenticator.take_over(self._gate.authenticator)
        self._gate = gate
        return gate

    def adopt(
        self, configuration: Configuration, users: AskedUsers | None, trunks: list[OfficeTrunk]
    ) -> None:
        """Use another configuration, whose other parts are in use already.

        Calls, bindings, bans and nonces stay. The Authenticated core is replaced if its settings
        have changed.
        """
        before, self.settings, self.words = self.settings, *configuration
        if self.settings.core is not None:
            return
        is_other = self.trunks.use(trunks, self.stack)
        if self.users is None or users is None:
            if self._asks:
                log.warning('setting not reloaded: key=users reason="it needs a restart"')
        else:
            self.users.configured = users.configured
            is_other = is_other or bool(
                self.settings.domains
                and (
                    _asking(before) != _asking(self.settings) or self.algorithms != users.algorithms
                )
            )
            self.algorithms = users.algorithms
        if is_other:
            self.stack.core = self._core()

    # ---- what it says at its start

    def tell(self) -> None:
        """Log what the default server does."""
        settings = self.settings
        if settings.core is not None:
            return
        if self.stack.domains:
            log.info("registrar: domains=%s", Plain(",".join(self.stack.domains)))
        else:
            log.info(
                "registrar: domains=any "
                'reason="without --domain phones may register with any domain"'
            )
        if self.store is not None:
            log.info("bindings: count=%d database=%s", self.store.count(), Plain(self.store.path))
        if self.users is not None:
            self._tell_of_users(self.users)
        elif settings.open:
            log.warning(
                'passwords: none reason="--open" hint="everybody that reaches it may register as '
                'anybody, and call at your expense"'
            )

    def _tell_of_users(self, users: OfficeUsers) -> None:
        realm = self.settings.domains[0]
        count = len(users.list(realm))
        if count:
            log.info("passwords: users=%d realm=%s", count, Plain(realm))
        else:
            log.warning(
                "passwords: users=0 realm=%s "
                'hint="add users: sippet user add NAME@%s --database %s"',
                Plain(realm),
                Quoted(realm),
                Quoted(self.settings.database or "FILE"),
            )


def _found_core(settings: Settings, words: Words) -> Stack | CoreFunction | None:
    """Return the core or the Stack that the user names; None for the default server. Raises
    Mistake."""
    if settings.core is None:
        return None
    try:
        return _loaded(settings.core)
    except Mistake as mistake:
        if words.file is None:
            raise
        raise Mistake(f"{words.name('core')} {mistake}") from mistake


def _loaded(core: str) -> Stack | CoreFunction:
    found = load_core(core)
    if isinstance(found, Stack):
        return found
    if isinstance(found, type) and issubclass(found, Core):
        found = call(core, found)
    if not callable(found):
        raise Mistake(
            f"{core} must be a callable, a Core or a Stack, got {excerpt(found)}: "
            "write def core(request, tx)"
        )
    try:
        check_core(found)
    except TypeError as error:
        raise Mistake(f"{core} is not a core: {error}") from None
    return cast(CoreFunction, found)


def aliases_of(settings: Settings, words: Words) -> dict[str, str]:
    """Return the aliases with their domains. One without a domain belongs to the first domain.
    Raises Mistake."""
    if settings.aliases and not settings.domains:
        raise Mistake(f"{words.name('aliases')} needs a domain: {words.add('domains', 'NAME')}")
    return {name: domain or settings.domains[0] for name, domain in settings.aliases.items()}


def _asking(settings: Settings) -> tuple[object, ...]:
    """Return the settings of the core that asks for passwords."""
    return (
        settings.domains[:1],
        settings.algorithms,
        settings.bans_failures,
        settings.bans_source_failures,
        settings.bans_within,
        settings.bans_seconds,
        settings.bans_command,
    )


def tls_of(settings: Settings, words: Words) -> TLS | None:
    """Return the TLS of the settings, or None. Raises Mistake."""
    cert, key, client_ca = settings.tls_certificate, settings.tls_key, settings.tls_client_ca
    if cert is None and (key is not None or client_ca is not None):
        given = "--key and --client-ca need"
        if words.file is not None:
            given = f"{words.name('tls.client_ca' if key is None else 'tls.key')} needs"
        raise Mistake(f"{given} a certificate: {words.add('tls.certificate', 'FILE')}")
    if cert is None and settings.tls_ca is None:
        return None
    keys = ("tls.certificate", "tls.key", "tls.ca", "tls.client_ca")
    with words.naming(*keys, hints=dict(zip(keys, (cert, key, settings.tls_ca, client_ca)))):
        return TLS(cert, key, ca=settings.tls_ca, client_ca=client_ca)


def _web(settings: Settings, words: Words) -> Web | None:
    """Return the Web that admits the pages of the settings, or None to admit all. Raises
    Mistake."""
    if settings.web_origins is None:
        return None
    if "*" in settings.web_origins:
        name = words.name("web.origins")
        raise Mistake(
            f"{name} must not be '*': leave --origin out to let all pages open a WebSocket"
        )
    with words.naming("web.origins"):
        return Web(origins=settings.web_origins)


def filter_of(settings: Settings, words: Words) -> Filter | None:
    """Return the filter of the settings, or None. Raises Mistake."""
    if settings.filters_exempt is not None and settings.filters_rate is None:
        raise Mistake(
            f"{words.name('filters.exempt')} needs a rate: {words.add('filters.rate', '50')}"
        )
    if settings.filters_rate is None and not settings.filters_scanners:
        return None
    scanners = SCANNERS if settings.filters_scanners else ()
    with words.naming("filters.exempt"):
        return Filter(
            scanners=scanners,
            rate=settings.filters_rate,
            exempt=settings.filters_exempt or LOOPBACK,
        )


def bans_of(settings: Settings) -> Bans:
    """Return the Bans of the settings, with the command that is run for each ban.

    A ban of one user at a source runs a command only if that has a word `{user}`. Otherwise one
    phone with an old password would cut off its whole office.
    """
    words = settings.bans_command

    def run(ban: Ban) -> None:
        import gevent.subprocess as subprocess

        if ban.user and not any("{user}" in word for word in words):
            return
        given = {"source": ban.source, "user": ban.user, "seconds": str(int(ban.seconds))}
        command = [_filled(word, given) for word in words]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
        )
        if done.returncode:
            problem = done.stderr.decode("utf-8", "replace").strip()
            raise SIPError(f"{command[0]} has ended with {done.returncode}: {excerpt(problem)}")

    return Bans(
        settings.bans_failures,
        settings.bans_source_failures,
        within=settings.bans_within,
        seconds=settings.bans_seconds,
        on_ban=run if words else None,
    )


def _filled(word: str, given: dict[str, str]) -> str:
    for name, value in given.items():
        word = word.replace(f"{{{name}}}", value)
    return word
