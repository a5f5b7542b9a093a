"""Checks of settings that belong together, before `sippet serve` uses them."""

from __future__ import annotations

import os
from ipaddress import ip_address

from ..stack import Stack
from .configuration import Words
from .settings import Settings
from .terminal import Mistake


def check_core_options(settings: Settings, words: Words) -> None:
    """Check that settings of the default server come without a core of the user. Raises Mistake."""
    if settings.core is None:
        return
    if settings.open or settings.algorithms:
        name = words.name("open" if settings.open else "algorithms")
        raise Mistake(
            f"{name} is for the default server: {settings.core} asks for passwords by Authenticated"
        )
    if settings.database is not None:
        raise Mistake(
            f"{words.name('database')} is for the default server, and {settings.core} keeps its "
            f"own bindings: write Location(SQLiteBindings({settings.database!r})) there"
        )
    trunk = words.entry("trunks", settings.trunks[0].name) if settings.trunks else ""
    for name, value in (
        (words.name("users"), settings.users),
        (words.name("users_file"), settings.users_file),
        (trunk, settings.trunks),
    ):
        if value:
            raise Mistake(
                f"{name} is for the default server: {settings.core} has users and "
                "accounts of its own"
            )


def check_users(settings: Settings, words: Words) -> None:
    """Check that there is a domain for users, and a user for passwords. Raises Mistake."""
    if settings.core is not None:
        return
    if settings.open and settings.trunks:
        raise Mistake(
            f"{words.name('open')} would let everybody call at your expense by a trunk: leave it "
            f"out, and {words.add('database', 'FILE')}"
        )
    if settings.open or not settings.has_users:
        if settings.algorithms:
            raise Mistake(
                f"{words.name('algorithms')} needs users: {words.add('database', 'FILE')}, and "
                "leave --open out"
            )
        return
    if not settings.domains:
        key = next(
            key
            for key in ("database", "users", "users_file")
            if getattr(settings, key) not in (None, {})
        )
        raise Mistake(
            f"{words.name(key)} asks for the passwords of a domain: "
            f"{words.add('domains', 'NAME')}, or --open to ask for none"
        )


def check_database(path: str, words: Words) -> None:
    """Check that a database can be where the settings say, and do not open it. Raises Mistake."""
    directory = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(directory):
        problem = f"directory {directory} does not exist: create it, for {path}"
    elif os.path.isdir(path):
        problem = f"{path} is a directory: name a file in it"
    else:
        return
    raise Mistake(f"{words.name('database')} {problem}")


def check_loopback(stack: Stack, words: Words) -> None:
    """Check that only this machine reaches a server that asks for no passwords. Raises Mistake."""
    for index, (_, listener) in enumerate(stack.planned):
        if not _is_loopback(listener.host):
            raise Mistake(
                f"{words.entry('listen', index, 'address')} "
                f"{listener.transport}:{listener.host} lets "
                f"everybody on the network register and call: {words.add('database', 'FILE')} and "
                f"{words.add('domains', 'NAME').removeprefix('add ')} to ask for passwords, or "
                "--open to ask for none"
            )


def is_local(stack: Stack) -> bool:
    """True if only this machine reaches a stack."""
    return all(_is_loopback(listener.host) for _, listener in stack.planned)


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False


def check_addresses(
    settings: Settings, words: Words, kinds: set[str], has_certificate: bool
) -> None:
    """Check that settings and addresses fit together. Raises Mistake."""
    for index, address in enumerate(settings.listen):
        if address.startswith(("tls:", "wss:")) and not has_certificate:
            raise Mistake(
                f"{words.entry('listen', index, 'address')} {address} needs a certificate: "
                f"{words.add('tls.certificate', 'FILE')}, and {words.add('tls.key', 'FILE')} if "
                "the key is in another file".replace("and add ", "and ")
            )
    if settings.tls_certificate is not None and not kinds & {"tls", "wss"}:
        raise Mistake(
            f"{words.name('tls.certificate')} needs an address with TLS: add --listen "
            "tls:HOST:5061 or --listen wss:HOST:443"
        )
    if settings.web_origins is not None and not kinds & {"ws", "wss"}:
        raise Mistake(
            f"{words.name('web.origins')} needs an address with WebSockets: add --listen "
            "wss:HOST:443"
        )
