"""The `sippet` command: `sippet serve` runs a core, `sippet ping` asks a peer whether it is there."""

from __future__ import annotations

import argparse
import sys

EPILOG = """examples:
  sippet serve                                    registrar and proxy on udp:127.0.0.1:5060
  sippet serve --listen udp:192.0.2.10:5060 -v    the same for your network, with a log of what happens
  sippet serve myapp:core --monkey                your own core, with blocking libraries made cooperative
  sippet serve examples/hello.py:stack            a Stack made in a file
  sippet ping sip:127.0.0.1                       send OPTIONS, show who answers and how fast
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 for no good answer, 2 for a mistake of the caller's."""
    options = _parser().parse_args(arguments)
    if getattr(options, "monkey", False):
        # Before anything else is imported: whoever holds an unpatched socket would block us all.
        from gevent import monkey

        monkey.patch_all()
    from . import command

    return int(getattr(command, options.command)(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sippet", description="SIP for gevent programs.", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="run a core, or the default registrar and proxy",
        description="Run a core: a callable, a Core (class or instance) or a Stack. Without one: registrar and proxy in memory.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("core", nargs="?", metavar="MODULE_OR_FILE:CORE", help="what to run, such as myapp:core or ./app.py:core")
    serve.add_argument(
        "--listen", action="append", default=[], metavar="udp:HOST:PORT", help="where to listen; may be given several times"
    )
    serve.add_argument("--monkey", action="store_true", help="let blocking libraries yield (gevent.monkey.patch_all)")
    serve.add_argument("--drain", type=float, default=32.0, metavar="SECONDS", help="how long to finish what is under way (32)")
    serve.add_argument("-v", "--verbose", action="count", default=0, help="say more; twice: everything")
    ping = commands.add_parser("ping", help="send OPTIONS and print the answer", description="Send OPTIONS to a SIP URI.")
    ping.add_argument("uri", help="whom to ask, such as sip:127.0.0.1:5060")
    ping.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="how long to wait for the answer (5)")
    ping.add_argument("--listen", default=None, metavar="udp:HOST:PORT", help="the address to ask from")
    ping.add_argument("-v", "--verbose", action="count", default=0, help="say more")
    return parser


if __name__ == "__main__":
    sys.exit(main())
