"""The arguments of the `sippet` command: `serve` runs a core, `call` places a call, `ping` sends
OPTIONS, `parse` explains messages."""

from __future__ import annotations

import argparse
import importlib
import math
import sys
from typing import NoReturn

DESCRIPTION = (
    "SIP for gevent programs: run a core, place a call, ask whether a peer answers, explain "
    "messages."
)

SERVE_EXAMPLES = """examples:
  sippet serve                                    registrar and proxy on udp:127.0.0.1:5060
  sippet serve --listen udp:192.0.2.10:5060 -v    the same for your network, with each message shown
  sippet serve --domain office.example --alias sip.office.example
  sippet serve --database /var/lib/sippet/bindings.db  phones stay registered over a restart
  sippet serve --listen tls:192.0.2.10:5061 --cert chain.pem --key key.pem
  sippet serve --listen wss:192.0.2.10:443 --cert chain.pem --key key.pem \\
               --origin https://phone.example.com
  sippet serve --filter-scanners --rate 50        on an address that strangers can reach
  sippet serve myapp:core --monkey                your own core, with blocking libraries patched
  sippet serve examples/hello.py:stack            a Stack that a file makes
"""

EXAMPLES = f"""{SERVE_EXAMPLES.rstrip()}
  sippet call sip:bob@192.0.2.10 --duration 10    place a call, hang up 10 seconds after the answer
  sippet ping sip:192.0.2.10                      send OPTIONS, print the response and its delay
  sippet ping -v example.com                      also print each DNS answer and each target tried
  sippet parse call.pcap                          explain the messages of a capture and their faults
"""

SERVE = """Run a core until SIGTERM or Ctrl-C. A core is a function core(request, tx), a Core (class
or instance) or a Stack. Without one, the default server runs: registrar and proxy, in memory unless
there is a --database."""

SERVE_NOTES = """signals:
  SIGTERM, SIGINT   refuse new requests with 503, finish those in progress, exit;
                    a second one exits at once
  SIGHUP            read the certificates again, for new connections
  SIGUSR1           log counters and gauges

exit codes: 0 stopped by a signal, 2 an argument, the module of the core or the database is wrong

"""

PING = (
    "Send OPTIONS to a SIP URI. Print the status, the round-trip time and the address of the peer."
)

PING_NOTES = """exit codes: 0 a 2xx response, 1 any other response or none, 2 an argument is wrong

examples:
  sippet ping 192.0.2.10                          the same as sip:192.0.2.10
  sippet ping 'sip:bob@example.com' --timeout 2   wait two seconds for the response
  sippet ping 'sip:[2001:db8::10]:5070'
  sippet ping 'sip:192.0.2.10;transport=tcp'      in quotes, because of the semicolon
  sippet ping sips:example.com                    over TLS
"""

CALL = """Place a call and print a line for each thing that happens in it: ringing, answered, held,
digits, and which side ended it and why. It has no sound: it offers audio, and drops what it
receives. Ctrl-C cancels the call, or hangs up; a second one exits at once."""

CALL_NOTES = """On a terminal the last line shows the state of the call and for how long. Without
--duration the call lasts until the peer hangs up, or until Ctrl-C or SIGTERM.

exit codes:
  0    the call was answered, and everything asked for was done; either side has hung up
  1    the peer was not reached, has refused, or has not answered in time
  2    an argument is wrong
  3    the call was answered, but the peer has refused hold or digits, or the call has ended without
       a BYE, for example because its peer is gone
  130  Ctrl-C or SIGTERM has cancelled the call before it was answered

examples:
  sippet call sip:bob@192.0.2.10                  call, and talk until a side hangs up
  sippet call bob@192.0.2.10 --duration 10        hang up 10 seconds after the answer
  sippet call sip:menu@192.0.2.10 --digits 12#    send digits by INFO, a second after the answer
  sippet call sip:bob@192.0.2.10 --hold -v        hold and resume, and draw the messages at the end
  sippet call sip:bob@192.0.2.10 --from 'sip:alice@example.com'
  sippet call 'sip:192.0.2.10;transport=tcp' --sdp offer.sdp
"""

PARSE = """Explain SIP messages: show the value of each header field, and list the faults. All
header fields are read, optional ones too. After a broken message, the next one is read."""

PARSE_NOTES = """files:
  a text file   one message, or several, divided by Content-Length and by their start lines
  a capture     pcap or pcapng; IP fragments and TCP segments are reassembled;
                needs dpkt: pip install 'sippet-gevent[capture]'
  -             standard input, with either of these; the default

--json prints one object a line, always with these keys:
  file, number, offset (byte, in a text file), time, transport, source, destination (in a capture),
  bytes, kind (request, response, or null for neither), start_line, method, uri, status, reason,
  headers (name, text of each line, values as objects; null if they cannot be read),
  body (bytes, type, media lines), problems (header, problem, offset and line in the message, text),
  ok

exit codes: 0 all messages are in order, 1 one is broken or there is none, 2 a file cannot be read
Output has colours on a terminal only, and never when NO_COLOR is set. Passwords and credentials are
replaced by "...".

examples:
  sippet parse invite.txt                         one message in a text file
  sippet parse call.pcap                          those of a capture, with addresses and times
  tcpdump -w - -U port 5060 | sippet parse -      messages as they are captured
  sippet parse --json *.pcap | jq 'select(.ok == false) | .problems'
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process.

    Returns the exit code: 0; 1 if no response was a success, or a message is broken; 2 for a
    mistake in the arguments; others as `sippet call --help` says.
    """
    options = _parser().parse_args(arguments)
    if getattr(options, "monkey", False):
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
    serve.add_argument(
        "core",
        nargs="?",
        metavar="MODULE_OR_FILE:CORE",
        help="the core to run, such as myapp:core or ./app.py:core",
    )
    serve.add_argument(
        "--listen",
        action="append",
        default=[],
        metavar="udp:HOST:PORT",
        help="address to listen on: udp:, tcp:, tls:, ws: or wss:, with the parameters of the "
        "documentation; repeatable; default udp:127.0.0.1:5060",
    )
    serve.add_argument(
        "--domain",
        action="append",
        default=[],
        metavar="NAME",
        help="domain whose phones may register; repeatable; default: any domain. The first one "
        "also has the addresses of this server",
    )
    serve.add_argument(
        "--alias",
        action="append",
        default=[],
        metavar="NAME[=DOMAIN]",
        help="another name or address of a --domain, by default of the first; repeatable",
    )
    serve.add_argument(
        "--database",
        metavar="FILE",
        help="SQLite file for the bindings of phones, which then survive a restart; it is created "
        "if it does not exist; default: in memory",
    )
    serve.add_argument(
        "--cert", metavar="FILE", help="certificate and its chain for tls: and wss:, in PEM"
    )
    serve.add_argument(
        "--key", metavar="FILE", help="private key, if it is not in the file of --cert"
    )
    serve.add_argument(
        "--ca",
        metavar="FILE",
        help="authorities that sign the certificates of TLS servers; default: those of the system",
    )
    serve.add_argument(
        "--client-ca",
        metavar="FILE",
        help="authorities that sign the certificates of clients, which must then present one",
    )
    serve.add_argument(
        "--origin",
        action="append",
        metavar="URL",
        help="web page whose scripts may open a WebSocket; repeatable; default: any page",
    )
    serve.add_argument(
        "--filter-scanners",
        action="store_true",
        help="drop messages that name a scanner, such as friendly-scanner or sipvicious",
    )
    serve.add_argument(
        "--rate",
        type=_rate,
        metavar="N",
        help="drop messages of a source that exceed N a second",
    )
    serve.add_argument(
        "--exempt",
        action="append",
        metavar="NETWORK",
        help="network that --rate does not limit, such as 192.0.2.0/24; repeatable; default: the "
        "loopback",
    )
    serve.add_argument(
        "--monkey",
        action="store_true",
        help="call gevent.monkey.patch_all() first, so that blocking libraries yield",
    )
    serve.add_argument(
        "--drain",
        type=_seconds,
        default=32.0,
        metavar="SECONDS",
        help="longest time to finish requests and calls after SIGTERM; default 32",
    )
    serve.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show each message, and the traceback of a core that cannot be loaded",
    )

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
    call.add_argument(
        "--sdp",
        metavar="FILE",
        help="session description to offer; - is standard input; default: audio (PCMU, PCMA)",
    )
    call.add_argument(
        "--duration",
        type=_seconds,
        metavar="SECONDS",
        help="hang up so long after the answer; default: when the peer does, or at Ctrl-C",
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


def _rate(text: str) -> float:
    rate = _number(text)
    if rate is None or rate <= 0:
        raise argparse.ArgumentTypeError(
            f"must be greater than 0 messages a second, got {text!r}: write 50"
        )
    return rate


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
