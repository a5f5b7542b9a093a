"""Passwords for commands: from a prompt, standard input or a file. Never from the command line,
which other users of the machine can read."""

from __future__ import annotations

import getpass
import sys
from typing import Protocol

from ..core.auth.credentials import Credentials
from .terminal import Mistake, naming, visible

MAX_PASSWORD = 1024


class Options(Protocol):
    """The arguments that say where a password is."""

    user: str | None
    password_stdin: bool
    password_file: str | None


def credentials_of(options: Options, user: str | None) -> Credentials | None:
    """Return the credentials of --user with --password-stdin or --password-file; None without a
    password. Raises Mistake.

    Args:
        options: The arguments.
        user: The user name without --user, such as that of the caller.
    """
    if options.password_stdin and options.password_file is not None:
        raise Mistake("--password-stdin and --password-file are two passwords: give one of them")
    if options.password_stdin:
        password = read_line("--password-stdin: standard input")
    elif options.password_file is not None:
        password = _first_line(options.password_file)
    else:
        return None
    return credentials(options.user or user, password)


def can_ask(options: Options) -> bool:
    """True if a password can be asked for, because there is a terminal and none was given."""
    return sys.stdin.isatty() and not options.password_stdin and options.password_file is None


def asked(options: Options, user: str | None, realm: str) -> Credentials:
    """Ask for the password that a server wants, at the terminal. Raises Mistake."""
    name = options.user or user or ""
    prompt = f"Password of {visible(name)} for {visible(realm)}: "
    return credentials(name, _checked(getpass.getpass(prompt), "the password"))


def credentials(user: str | None, password: str) -> Credentials:
    """Return the credentials of a user. Raises Mistake."""
    if not user:
        raise Mistake("a password needs a user name: add --user NAME")
    with naming("--user"):
        return Credentials(user, password)


def read_line(what: str) -> str:
    """Return a password from the first line of standard input. Raises Mistake."""
    return _checked(sys.stdin.readline(MAX_PASSWORD + 2).rstrip("\r\n"), what)


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return _checked(file.readline(MAX_PASSWORD + 2).rstrip("\r\n"), path)
    except OSError as error:
        raise Mistake(f"--password-file: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Mistake(f"--password-file: {path} is not UTF-8: save it as UTF-8") from error


def _checked(password: str, what: str) -> str:
    if not password:
        raise Mistake(f"{what} is empty: write the password into its first line")
    if len(password) > MAX_PASSWORD:
        raise Mistake(f"{what} has over {MAX_PASSWORD} characters")
    return password
