"""The options of `sippet serve`, made of the table of its settings."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ..errors import InvalidValue
from .configuration import Folder, destination
from .settings import ROWS, Row

_FOLDER = Folder.__new__(Folder)  # numbers name no files


def add_serve_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each setting that the command line may have."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="TOML file with the settings; an option of the command line wins over its key",
    )
    parser.add_argument(
        "--check", action="store_true", help="check the settings, print what is wrong, and exit"
    )
    parser.add_argument(
        "--sample", action="store_true", help="print a configuration with all keys, and exit"
    )
    for row in ROWS:
        if row.option is not None:
            _add(parser, row)
        if row.key == "core":
            parser.add_argument(
                "--listen",
                action="append",
                metavar="udp:HOST:PORT",
                help="address to listen on: udp:, tcp:, tls:, ws: or wss:, with the parameters of "
                "the documentation; repeatable; a Stack in CORE listens on its own addresses, too; "
                "default udp:127.0.0.1:5060",
            )
    parser.add_argument(
        "--limit",
        action="append",
        metavar="NAME=N",
        help="a limit, such as calls=1000 or streams.connections=5000; repeatable",
    )
    parser.add_argument(
        "--trunk",
        action="append",
        metavar="TEXT",
        help='a trunk and its keys: "carrier account=sip:100@carrier.example numbers=0,+ '
        'password_file=FILE"; repeatable',
    )


def _add(parser: argparse.ArgumentParser, row: Row) -> None:
    assert row.option is not None
    kind, help_text = row.kind, row.help.replace("%", "%%")
    if row.option == row.key:
        parser.add_argument(row.key, nargs="?", metavar=row.metavar, help=help_text)
        return
    names = ["-v", row.option] if row.option == "--verbose" else [row.option]
    dest = destination(row)
    if kind.is_flag:
        parser.add_argument(
            *names,
            action=argparse.BooleanOptionalAction,
            dest=dest,
            default=None,
            help=help_text,
        )
    elif kind.is_many:
        parser.add_argument(*names, action="append", dest=dest, metavar=row.metavar, help=help_text)
    elif kind.is_number:
        parser.add_argument(
            *names, type=_checked(row), dest=dest, metavar=row.metavar, help=help_text
        )
    else:
        parser.add_argument(*names, dest=dest, metavar=row.metavar, help=help_text)


def _checked(row: Row) -> Callable[[str], object]:
    """Return what checks the word of a number, so that argparse tells of a wrong one."""

    def check(text: str) -> object:
        value = row.kind.parse(text)
        try:
            row.kind.read(value, _FOLDER)
        except InvalidValue as error:
            problem = str(error).partition(", got ")[0]
            raise argparse.ArgumentTypeError(
                f"{problem}, got {text!r}: write {row.example}"
            ) from None
        return value

    return check
