"""The arguments of the `sippet` command: `serve` runs a core, `user` sets passwords, `register`
registers, `call` places a call, `message` sends a text, `ping` sends OPTIONS, `parse` explains
messages."""

from __future__ import annotations

import argparse
import importlib
import math
import sys
from typing import NoReturn

from .command.configuration import wants_patching
from .command.manual import (
    CALL,
    CALL_NOTES,
    DESCRIPTION,
    EXAMPLES,
    IMPORT_NOTES,
    MESSAGE,
    MESSAGE_NOTES,
    PARSE,
    PARSE_NOTES,
    PING,
    PING_NOTES,
    REGISTER,
    REGISTER_NOTES,
    SERVE,
    SERVE_EXAMPLES,
    SERVE_NOTES,
    USER,
    USER_NOTES,
)
from .command.serve_options import add_serve_options


def main(arguments: list[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process.

    Returns the exit code: 0; 1 if no response was a success, or a message is broken; 2 for a
    mistake in the arguments; others as `sippet call --help` says.
    """
    options = _parser().parse_args(arguments)
    if options.command == "serve" and wants_patching(options.config, options.monkey):
        # Patch before the core's module is imported: an unpatched socket or lock in it would block
        # all greenlets. Until here, this package has imported only gevent and modules that patching
        # changes in place.
        from gevent import monkey

        monkey.patch_all()
    verb = importlib.import_module(f"{__package__}.command.{options.command}")
    try:
        return int(getattr(verb, options.command)(options))
    except KeyboardInterrupt:  # before the signal handlers are installed
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _with_notes(_Parser(prog="sippet"), DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        help="show the version, and whether the C or the Python scanner is used",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = _with_notes(
        commands.add_parser("serve", help="run a core, or the default server"),
        SERVE,
        SERVE_NOTES + SERVE_EXAMPLES,
    )
    add_serve_options(serve)

    _add_user(commands)
    _add_register(commands)
    _add_message(commands)

    ping = _with_notes(
        commands.add_parser("ping", help="send OPTIONS and print the response"), PING, PING_NOTES
    )
    ping.add_argument("uri", help="peer to ask, such as sip:127.0.0.1:5060")
    ping.add_argument(
        "--timeout",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="longest time to wait for the response; default 5",
    )
    ping.add_argument(
        "--listen",
        default=None,
        metavar="udp:HOST:PORT",
        help="local address to send from; default: any, by the transport of the URI",
    )
    ping.add_argument(
        "--ca",
        metavar="FILE",
        help="authorities that sign the certificates of TLS servers; default: those of the system",
    )
    _add_proxy(ping)
    ping.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show each DNS answer, each target tried, and the messages",
    )

    call = _with_notes(
        commands.add_parser("call", help="place a call and tell what happens in it"),
        CALL,
        CALL_NOTES,
    )
    call.add_argument("uri", help="peer to call, such as sip:bob@127.0.0.1:5060")
    call.add_argument(
        "--from",
        dest="from_",
        metavar="URI",
        help="the caller, such as sip:alice@example.com; default: anonymous",
    )
    _add_password(call, "that of --from")
    call.add_argument(
        "--sdp",
        metavar="FILE",
        help="session description to offer; - is standard input; default: audio (PCMU, PCMA)",
    )
    call.add_argument(
        "--duration",
        type=_seconds,
        metavar="SECONDS",
        help="hang up after this time in the call; default: when the peer does, or at Ctrl-C",
    )
    call.add_argument(
        "--timeout",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="longest time to wait for the answer; default 60",
    )
    call.add_argument(
        "--hold", action="store_true", help="hold the call for three seconds, then resume it"
    )
    call.add_argument(
        "--digits",
        default="",
        metavar="12#",
        help="digits to send by INFO, a second after the answer, and before --hold",
    )
    call.add_argument(
        "--listen",
        default=None,
        metavar="udp:HOST:PORT",
        help="local address to call from; default: any, by the transport of the URI",
    )
    call.add_argument(
        "--ca",
        metavar="FILE",
        help="authorities that sign the certificates of TLS servers; default: those of the system",
    )
    _add_proxy(call)
    call.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show each DNS answer, each target tried and the messages, and draw the messages as a "
        "ladder at the end",
    )

    parse = _with_notes(
        commands.add_parser("parse", help="explain messages, and list their faults"),
        PARSE,
        PARSE_NOTES,
    )
    parse.add_argument("files", nargs="*", metavar="FILE", help="file to read; - is standard input")
    parse.add_argument("--json", action="store_true", help="print one JSON object a line")
    return parser


def _add_user(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    user = _with_notes(
        commands.add_parser("user", help="add and change users and their passwords"),
        USER,
        USER_NOTES,
    )
    actions = user.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, what, example in (
        ("add", "add a user", "alice@example.com"),
        ("passwd", "give a user another password", "alice@example.com"),
        ("remove", "remove a user", "alice@example.com"),
        ("list", "list all users, or those of a domain", "example.com"),
        ("import", "add the users of another server", "users.htdigest"),
    ):
        action = _with_notes(
            actions.add_parser(name, help=what),
            f"{what.capitalize()}.",
            (IMPORT_NOTES if name == "import" else "")
            + f"examples:\n  sippet user {name} {example} --database phones.db\n",
        )
        if name == "import":
            action.add_argument("file", metavar="FILE", help="file; - is standard input")
            action.add_argument(
                "--format",
                choices=["htdigest", "kamailio"],
                default="htdigest",
                help="htdigest: lines of user:domain:HA1. kamailio: the table `subscriber`; "
                "default: htdigest",
            )
        elif name == "list":
            action.add_argument("realm", nargs="?", metavar="DOMAIN", help="such as example.com")
        else:
            action.add_argument("user", metavar="USER", help="such as alice@example.com")
        action.add_argument(
            "--database",
            required=True,
            metavar="FILE",
            help="SQLite file of the users; it is created if it does not exist",
        )
        if name in ("add", "passwd"):
            action.add_argument(
                "--algorithm",
                action="append",
                metavar="NAME",
                help="digest algorithm that the server may offer: SHA-512-256, SHA-256 or MD5; "
                "repeatable; default: SHA-256, MD5",
            )


def _add_password(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--user", metavar="NAME", help=f"user name for the password; default: {default}"
    )
    parser.add_argument(
        "--password-stdin",
        action="store_true",
        help="read the password from the first line of standard input",
    )
    parser.add_argument(
        "--password-file", metavar="FILE", help="read the password from the first line of a file"
    )


def _add_way(parser: argparse.ArgumentParser, timeout: float, what: str) -> None:
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=timeout,
        metavar="SECONDS",
        help=f"longest time to wait for {what}; default {timeout:g}",
    )
    parser.add_argument(
        "--listen",
        default=None,
        metavar="udp:HOST:PORT",
        help="local address to send from; default: any, by the transport of the URI",
    )
    parser.add_argument(
        "--ca",
        metavar="FILE",
        help="authorities that sign the certificates of TLS servers; default: those of the system",
    )
    _add_proxy(parser)
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show each DNS answer, each target tried, and the messages",
    )


def _add_proxy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--outbound-proxy",
        metavar="URI",
        help="where requests go in place of the host of the URI, such as sip:192.0.2.10",
    )


def _add_register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    register = _with_notes(
        commands.add_parser("register", help="register at a server, and stay registered"),
        REGISTER,
        REGISTER_NOTES,
    )
    register.add_argument("uri", help="address-of-record, such as sip:alice@example.com")
    _add_password(register, "that of the URI")
    register.add_argument(
        "--registrar",
        metavar="URI",
        help="where to register, such as sip:192.0.2.10; default: the host of the URI",
    )
    register.add_argument(
        "--contact", metavar="URI", help="where calls go; default: this command, which refuses them"
    )
    register.add_argument(
        "--expires", type=_whole, default=3600, metavar="SECONDS", help="duration; default 3600"
    )
    register.add_argument(
        "--duration",
        type=_seconds,
        metavar="SECONDS",
        help="unregister after this time, 0 at once; default: at Ctrl-C",
    )
    _add_way(register, 10.0, "the registrar")


def _add_message(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    message = _with_notes(
        commands.add_parser("message", help="send a text to a peer"), MESSAGE, MESSAGE_NOTES
    )
    message.add_argument("uri", help="peer, such as sip:bob@192.0.2.10")
    message.add_argument("text", metavar="TEXT", help="text to send; - is standard input")
    message.add_argument(
        "--from",
        dest="from_",
        metavar="URI",
        help="the sender, such as sip:alice@example.com; default: anonymous",
    )
    _add_password(message, "that of --from")
    _add_way(message, 32.0, "the answer")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print the usage, the mistake, and how to get help."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def _with_notes(
    parser: argparse.ArgumentParser, description: str, notes: str
) -> argparse.ArgumentParser:
    parser.description, parser.epilog = description, notes
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


def _seconds(text: str) -> float:
    seconds = _number(text)
    if seconds is None or seconds < 0:
        raise argparse.ArgumentTypeError(
            f"must be a number of seconds, 0 or more, got {text!r}: write 10 or 0.5"
        )
    return seconds


def _whole(text: str) -> int:
    seconds = _number(text)
    if seconds is None or seconds < 1 or seconds != int(seconds):
        raise argparse.ArgumentTypeError(
            f"must be a whole number of seconds, 1 or more, got {text!r}: write 3600"
        )
    return int(seconds)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from . import __version__, implementation

        print(f"sippet_gevent {__version__} (scanner: {implementation})")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
