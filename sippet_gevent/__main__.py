"""The `sippet` command's arguments: `serve` runs a core, `ping` asks who is there, `parse` explains
messages."""

from __future__ import annotations

import argparse
import importlib
import math
import sys

DESCRIPTION = "SIP for gevent programs: run a core, ask who answers, look into messages."

EXAMPLES = """examples:
  sippet serve                                    registrar and proxy on udp:127.0.0.1:5060
  sippet serve --listen udp:192.0.2.10:5060 -v    the same for your network, showing every message
  sippet serve --domain office.example --alias sip.office.example
  sippet serve --listen tls:192.0.2.10:5061 --cert chain.pem --key key.pem
  sippet serve --listen wss:192.0.2.10:443 --cert chain.pem --key key.pem --origin https://phone.example.com
  sippet serve --filter-scanners --rate 50        where strangers can reach it
  sippet serve myapp:core --monkey                your own core, with blocking libraries made cooperative
  sippet serve examples/hello.py:stack            a Stack made in a file
  sippet ping sip:192.0.2.10                      send OPTIONS, show who answers and how fast
  sippet ping -v example.com                      the same, with what DNS says and which target is tried when
  sippet parse call.pcap                          show what the messages of a capture say, and what is wrong with them
"""

SERVE = """Run a core until SIGTERM or Ctrl-C: a function core(request, tx), a Core (class or instance) or a Stack.
Without one, the default server runs: registrar and proxy, in memory."""

SERVE_NOTES = """signals:
  SIGTERM, SIGINT   refuse new requests with 503, finish what is under way, leave; a second one leaves at once
  SIGHUP            read the certificates again, for new connections
  SIGUSR1           log counters and gauges

exit codes: 0 asked to stop, 2 a mistake in the arguments or in the core's module

"""

PING = "Send OPTIONS to a SIP URI; print the status, the round-trip time, and who answered."

PING_NOTES = """exit codes: 0 a 2xx came, 1 another answer or none, 2 a mistake in the arguments

examples:
  sippet ping 192.0.2.10                          the same as sip:192.0.2.10
  sippet ping 'sip:bob@example.com' --timeout 2   quote it: parameters come after a semicolon
  sippet ping 'sip:[2001:db8::10]:5070'
  sippet ping 'sip:192.0.2.10;transport=tcp'
  sippet ping sips:example.com                    over TLS
"""

PARSE = """Say what SIP messages are, what each of their headers holds, and what is wrong with them. Every header is read,
the optional ones too; after a broken message comes the next one."""

PARSE_NOTES = """files:
  a file        one message, or several one after another: told apart by Content-Length and start lines
  a capture     pcap or pcapng: UDP and TCP, fragments and segments put together;
                needs dpkt: pip install 'sippet-gevent[capture]'
  -             standard input, either of these; the same without a file

--json prints one object to a line, always with the keys
  file, number, offset (octets, in a file), time, transport, source, destination (in a capture), octets, kind
  (request, response, or null for neither), start_line, method, uri, status, reason,
  headers (name, text of each line, values by their parts: null when they cannot be read),
  body (octets, type, media lines), problems (header, problem, offset and line in the message, text), ok

exit codes: 0 every message is whole, 1 one is broken or there is none, 2 a file cannot be read
colours are for terminals, and not used when NO_COLOR is set; passwords and credentials are never shown

examples:
  sippet parse invite.txt                         one message, as it stands in a file
  sippet parse call.pcap                          those of a capture, with addresses and times
  tcpdump -w - -U port 5060 | sippet parse -      as they come
  sippet parse --json *.pcap | jq 'select(.ok == false) | .problems'
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 for no good answer or message, 2 for a mistake
    of the caller's."""
    options = _parser().parse_args(arguments)
    if getattr(options, "monkey", False):
        # Before the core's module is imported: whoever takes a socket or a lock unpatched would
        # block us all. What this package has imported so far is gevent itself and modules that
        # patching changes in place.
        from gevent import monkey

        monkey.patch_all()
    verb = importlib.import_module(f"{__package__}.command.{options.command}")
    try:
        return int(getattr(verb, options.command)(options))
    except KeyboardInterrupt:  # before the signal handlers stood
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _with_notes(argparse.ArgumentParser(prog="sippet"), DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        help="show the version, and whether the part in C is used",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = _with_notes(
        commands.add_parser("serve", help="run a core, or the default server"),
        SERVE,
        SERVE_NOTES + EXAMPLES,
    )
    serve.add_argument(
        "core",
        nargs="?",
        metavar="MODULE_OR_FILE:CORE",
        help="what to run, such as myapp:core or ./app.py:core",
    )
    serve.add_argument(
        "--listen",
        action="append",
        default=[],
        metavar="udp:HOST:PORT",
        help="where to listen, udp:, tcp:, tls:, ws: or wss:, with the README's parameters; may be given several times",
    )
    serve.add_argument(
        "--domain",
        action="append",
        default=[],
        metavar="NAME",
        help="a domain to register phones of (each that a phone uses); may be given again. The first has our addresses, too",
    )
    serve.add_argument(
        "--alias",
        action="append",
        default=[],
        metavar="NAME[=DOMAIN]",
        help="a further name, or address, of the first or another --domain; may be given again",
    )
    serve.add_argument(
        "--cert", metavar="FILE", help="certificate and its chain for tls: and wss:, in PEM"
    )
    serve.add_argument(
        "--key", metavar="FILE", help="its private key, when it is in a file of its own"
    )
    serve.add_argument(
        "--ca",
        metavar="FILE",
        help="who may vouch for TLS servers; the system's authorities when not given",
    )
    serve.add_argument(
        "--client-ca",
        metavar="FILE",
        help="who may vouch for clients, who must show a certificate then",
    )
    serve.add_argument(
        "--origin",
        action="append",
        metavar="URL",
        help="a page whose scripts may open a WebSocket (all may); may be given again",
    )
    serve.add_argument(
        "--filter-scanners",
        action="store_true",
        help="drop what calls itself friendly-scanner, sipvicious …",
    )
    serve.add_argument(
        "--rate",
        type=_rate,
        metavar="N",
        help="drop what one source sends over N messages a second",
    )
    serve.add_argument(
        "--exempt",
        action="append",
        metavar="NETWORK",
        help="who has no rate, such as 192.0.2.0/24; may be given several times, and is the loopback otherwise",
    )
    serve.add_argument(
        "--monkey",
        action="store_true",
        help="let blocking libraries yield: gevent.monkey.patch_all() first",
    )
    serve.add_argument(
        "--drain",
        type=_seconds,
        default=32.0,
        metavar="SECONDS",
        help="how long to finish what is under way, 32",
    )
    serve.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show every message, and the traceback of a bad core",
    )

    ping = _with_notes(
        commands.add_parser("ping", help="send OPTIONS and print the answer"), PING, PING_NOTES
    )
    ping.add_argument("uri", help="whom to ask, such as sip:127.0.0.1:5060")
    ping.add_argument(
        "--timeout",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="how long to wait for the answer (5)",
    )
    ping.add_argument(
        "--listen", default=None, metavar="udp:HOST:PORT", help="the address to ask from"
    )
    ping.add_argument(
        "--ca",
        metavar="FILE",
        help="who may vouch for a TLS server; the system's authorities when not given",
    )
    ping.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show how the name is resolved, and the messages",
    )

    parse = _with_notes(
        commands.add_parser("parse", help="show what messages say, and what is wrong"),
        PARSE,
        PARSE_NOTES,
    )
    parse.add_argument("files", nargs="*", metavar="FILE", help="what to read; - is standard input")
    parse.add_argument("--json", action="store_true", help="one JSON object to a line")
    return parser


def _with_notes(
    parser: argparse.ArgumentParser, description: str, notes: str
) -> argparse.ArgumentParser:
    parser.description, parser.epilog = description, notes
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError
    return seconds


_seconds.__name__ = "number of seconds"  # argparse puts it into its error line


def _rate(text: str) -> float:
    rate = _seconds(text)
    if not rate:
        raise ValueError
    return rate


_rate.__name__ = "number of messages a second"


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from . import __version__, implementation

        print(f"sippet_gevent {__version__} (scanner: {implementation})")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
