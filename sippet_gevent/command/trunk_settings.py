"""The trunks of a configuration: their accounts, and what a reload changes in them."""

from __future__ import annotations

import logging
from typing import NamedTuple

import gevent

from ..core.auth.credentials import Credentials
from ..core.registrar_proxy import RegistrarProxy
from ..core.registration.account import Account
from ..core.trunks import NEXT_ON, Trunk, Trunks
from ..errors import InvalidValue, SIPError
from ..message.uri import URI
from ..observe.log_values import Plain, Quoted
from ..stack import Stack
from .configuration import Words
from .settings import Settings, TrunkSettings
from .terminal import Mistake

log = logging.getLogger("sippet_gevent")

UNREGISTER = 2.0
"""Most seconds that a reload waits until a trunk is unregistered."""


class OfficeTrunk(NamedTuple):
    """A trunk with the settings and the password that it was made of."""

    settings: TrunkSettings
    password: str | None
    trunk: Trunk

    @property
    def account_key(self) -> tuple[object, ...]:
        """What its account depends on. If it is the same after a reload, the account stays."""
        given = self.settings
        return (
            given.account, given.user, self.password, given.registrar, given.proxy, given.peers,
            given.display_name, given.register, given.expires, given.probe,
        )  # fmt: skip


class OfficeTrunks:
    """The trunks of the default server."""

    def __init__(self) -> None:
        self._present: list[OfficeTrunk] = []
        self._core: Trunks | None = None

    def made(self, settings: Settings, words: Words) -> list[OfficeTrunk]:
        """Return the trunks of settings. Those whose account is as before have the account that
        exists. Raises Mistake."""
        kept = {each.account_key: each.trunk.account for each in self._present}
        found = []
        for each in settings.trunks:
            password = _password(each, words)
            try:
                draft = OfficeTrunk(each, password, _trunk(each, _account(each, password)))
            except InvalidValue as error:
                raise Mistake(f"{words.entry('trunks', each.name)} {error}") from error
            # trunks of one account share it: two would unregister the Contact of each other
            account = kept.setdefault(draft.account_key, draft.trunk.account)
            if account is not draft.trunk.account:
                draft = draft._replace(trunk=_trunk(each, account))
            found.append(draft)
        return found

    def first(self, trunks: list[OfficeTrunk]) -> None:
        """Take the trunks of the first configuration."""
        self._present = trunks

    def join(self, stack: Stack) -> None:
        """Add the accounts to a stack, which starts and stops them."""
        for account in _accounts(self._present):
            stack.accounts.add(account)

    def core_around(self, proxy: RegistrarProxy, *, is_open: bool) -> Trunks | None:
        """Return the core with the trunks, around the registrar and proxy; None without trunks."""
        if self._core is None and self._present:
            self._core = Trunks(proxy, is_open=is_open)
        if self._core is not None:
            self._core.trunks = tuple(each.trunk for each in self._present)
        return self._core

    def use(self, trunks: list[OfficeTrunk], stack: Stack) -> bool:
        """Use these trunks from now on; calls go on. Returns True if the stack needs another core,
        because it had none with trunks."""
        before, self._present = self._present, trunks
        kept = _accounts(trunks)
        if self._core is not None:
            self._core.trunks = tuple(each.trunk for each in trunks)
        gone = [account for account in _accounts(before) if account not in kept]
        # at the same time, because each may wait for a carrier that is dead
        gevent.joinall([gevent.spawn(_close, account) for account in gone])
        for account in kept:
            if account not in stack.accounts:
                stack.accounts.add(account)
        return self._core is None and bool(trunks)


def _accounts(trunks: list[OfficeTrunk]) -> dict[Account, None]:
    """Return the accounts of trunks, each once."""
    return dict.fromkeys(each.trunk.account for each in trunks)


def _close(account: Account) -> None:
    try:
        account.close(UNREGISTER)
    except SIPError as error:
        log.warning('trunk not closed: account=%s reason="%s"', Plain(account.aor), Quoted(error))


def _password(settings: TrunkSettings, words: Words) -> str | None:
    """Return the password of a trunk. Raises Mistake."""
    if settings.password_file is None:
        return settings.password
    where = words.entry("trunks", settings.name, "password_file")
    try:
        with open(settings.password_file, encoding="utf-8") as file:
            password = file.readline().rstrip("\r\n")
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Mistake(f"{where} cannot read {settings.password_file}: {problem}") from error
    if not password:
        raise Mistake(
            f"{where} {settings.password_file} is empty: write the password into its first line"
        )
    return password


def _account(settings: TrunkSettings, password: str | None) -> Account:
    credentials = None
    if password is not None:
        user = settings.user or URI.parse(settings.account).user or ""
        credentials = Credentials(user, password)
    return Account(
        settings.account,
        credentials,
        registrar=settings.registrar,
        outbound_proxy=settings.proxy,
        display_name=settings.display_name or "",
        register=settings.register,
        expires=settings.expires,
        keep_up=settings.probe or None,
        peers=settings.peers,
    )


def _trunk(settings: TrunkSettings, account: Account) -> Trunk:
    return Trunk(
        account,
        numbers=settings.numbers,
        pattern=settings.pattern,
        strip=settings.strip,
        prepend=settings.prepend,
        caller_id=settings.caller_id,
        caller_ids=settings.caller_ids,
        next_on=NEXT_ON if settings.next_on is None else settings.next_on,
        anonymous=settings.anonymous,
        incoming=settings.incoming,
        incoming_numbers=settings.incoming_numbers,
        ring=settings.ring or None,
    )
