"""`sippet call`: place a call, and print what happens in it, RFC 3261 §13."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ..core.auth.credentials import Credentials
from ..core.dialog.call import Call
from ..core.dialog.dtmf import check_digits
from ..core.dialog.end import End
from ..core.dialog.events import CallEvent
from ..errors import InvalidValue, ParseError, Reject, SIPError, TransactionTimeout, TransportError
from ..message import sdp
from ..message.address import NameAddr
from ..message.message import Response
from ..message.uri import URI
from ..message.uri_arguments import given_address, meant
from ..observe.ladder import Ladder
from ..stack import Stack
from .interrupts import Interrupted, impatient, interruptible
from .password import credentials_of
from .peer import outbound_proxy, peer_stack, peer_uri
from .status_lines import StatusLines
from .terminal import Mistake, tell, visible
from .trace import host_of, log_to_stderr, show_messages

HOLD = 3.0
"""Seconds for which `--hold` holds the call."""

PAUSE = 1.0
"""Seconds after the answer before digits are sent or the call is held. A menu needs a moment before
it listens."""

GOODBYE = 5.0
"""Most seconds to wait for the responses to our last CANCEL or BYE."""

NOT_ANSWERED, FAILED, INTERRUPTED = 1, 3, 130
"""Exit codes, besides 0 for a call that went as asked, and 2 for a mistake."""

ADVICE = {
    401: "the peer asks for a password: --from sip:USER@DOMAIN --password-file FILE",
    403: "try another caller: --from sip:USER@DOMAIN",
    404: "check the user name in the URI",
    407: "the proxy asks for a password: --from sip:USER@DOMAIN --password-file FILE",
    415: "write a session description that the peer understands: --sdp FILE",
    480: "the user has no phone there at this moment: try again later",
    481: "the user has no phone there at this moment: try again later",
    486: "try again later",
    488: "offer other media: --sdp FILE",
    503: "the peer is overloaded or stops: try again later",
    600: "try again later",
    606: "offer other media: --sdp FILE",
}
"""What to do next after a refusal, by its status."""

CODECS = (sdp.PCMU, sdp.PCMA, sdp.TELEPHONE_EVENT)


class Options(Protocol):
    """The arguments of `sippet call`."""

    uri: str
    from_: str | None
    user: str | None
    password_stdin: bool
    password_file: str | None
    sdp: str | None
    duration: float | None
    timeout: float
    hold: bool
    digits: str
    listen: str | None
    ca: str | None
    outbound_proxy: str | None
    verbose: bool


def call(options: Options) -> int:
    """Place a call, and print a line for everything that happens in it.

    Returns:
        The exit code: 0 when the call was answered and ended by a BYE, 1 when it was not answered,
        2 for a mistake, 3 when something failed in the call, 130 when Ctrl-C has cancelled it.
    """
    log_to_stderr(options.verbose, logging.ERROR)
    ladder = Ladder()
    try:
        _check_digits(options.digits)
        uri = peer_uri(options.uri, "call")
        caller = caller_of(options.from_)
        description = _description(options.sdp)
        credentials = credentials_of(options, None if caller is None else caller.uri.user)
        proxy = outbound_proxy(options)
        stack = peer_stack(options, proxy or uri)
        if options.verbose:
            show_messages(stack)
            stack.tap(ladder)
        stack.start()
    except SIPError as error:
        return tell(error)
    lines = StatusLines(sys.stdout, live=not options.verbose)
    with stack, _media_port(proxy or uri) as port, interruptible():
        media = None if description else [sdp.MediaStream("audio", port, CODECS)]
        try:
            placed = _Placed(options, lines, proxy)
            code = placed.run(stack, uri, caller, media, description, credentials)
        finally:
            with impatient():
                stack.stop(GOODBYE)  # responses to our last CANCEL or BYE
            lines.close()
    if options.verbose:
        print("\n".join(visible(line) for line in str(ladder).split("\n")))
    return code


class _Placed:
    """One call from the INVITE to its end."""

    def __init__(self, options: Options, lines: StatusLines, proxy: URI | None) -> None:
        self.options = options
        self.lines = lines
        self.proxy = proxy
        self._heard = ""

    def run(
        self,
        stack: Stack,
        uri: URI,
        caller: NameAddr | None,
        media: list[sdp.MediaStream] | None,
        description: bytes,
        credentials: Credentials | None,
    ) -> int:
        lines, options = self.lines, self.options
        headers: dict[str, Any] = {} if caller is None else {"from_": caller}
        lines.tell(f"calling {uri}", live="calling, Ctrl-C cancels")
        try:
            placed = stack.invite(
                uri, next_hop=self.proxy, media=media, body=description, timeout=options.timeout,
                on_provisional=self._provisional, credentials=credentials, **headers,
            )  # fmt: skip
        except Interrupted:
            lines.tell("cancelled by us")
            return INTERRUPTED
        except Reject as refusal:
            lines.tell(f"refused by the peer: {refusal.status} {refusal.reason}", "bad")
            return self._advise(ADVICE.get(refusal.status))
        except TransactionTimeout:
            lines.tell("not answered in time", "bad")
            return self._advise(
                "wait longer: --timeout SECONDS"
                if self._heard
                else "nothing came back: check address, transport and firewall, or see where the "
                "call goes with -v"
            )
        except (TransportError, ParseError) as error:
            lines.tell(f"not reached: {error}", "bad")
            return self._advise("check the address, and see how it is looked up with -v")
        try:
            with placed:
                return self._talk(placed)
        except Interrupted:
            placed.hangup()
            self._tell_end(placed.end)
            return 0

    def _provisional(self, response: Response) -> None:
        heard = f"{response.status} {response.reason}"
        if heard != self._heard and response.status > 100:
            ringing = "ringing" if response.status == 180 else "in progress"
            self.lines.tell(f"{ringing}: {heard}", live=f"{ringing}, Ctrl-C cancels")
        self._heard = heard

    def _advise(self, text: str | None) -> int:
        if text is not None:
            self.lines.close()
            tell(text)
        return NOT_ANSWERED

    # ---- the answered call

    def _talk(self, placed: Call) -> int:
        options, failed = self.options, False
        clock = placed.stack.clock  # type: ignore[attr-defined]  # every call has its stack
        until = None if options.duration is None else clock.now() + options.duration

        def listen(seconds: float | None) -> None:
            """Read events for some seconds, but not beyond --duration."""
            ends = [at for at in (until, seconds and clock.now() + seconds) if at is not None]
            end = min(ends, default=None)
            while placed.end is None and (end is None or clock.now() < end):
                left = None if end is None else end - clock.now()
                for event in placed.events(timeout=left):
                    self._happened(event)

        def is_over() -> bool:
            return placed.end is not None or (until is not None and clock.now() >= until)

        self.lines.tell(f"answered{_by(placed)}", "good", live="talking, Ctrl-C hangs up")
        if options.digits or options.hold:
            listen(PAUSE)
        if options.digits and not is_over():
            failed |= not self._try("digits sent", "digits", placed.send_digits, options.digits)
        if options.hold and not is_over():
            if self._try("held by us", "hold", placed.hold):
                listen(HOLD)
                if placed.end is None:
                    failed |= not self._try("resumed by us", "resume", placed.resume)
            else:
                failed = True
        listen(None)
        placed.hangup()
        end = placed.end
        self._tell_end(end)
        return FAILED if failed or end is None or end.cause != "bye" else 0

    def _try(self, done: str, what: str, action: object, *arguments: str) -> bool:
        """Do something in the call, and tell whether it worked."""
        assert callable(action)
        try:
            action(*arguments)
        except SIPError as error:
            status = f": {error.status} {error.reason}" if isinstance(error, Reject) else ""
            why = status or f": {error}"
            self.lines.tell(
                f"{what} {'refused by the peer' if status else 'failed'}{why}",
                "bad",
                live="talking, Ctrl-C hangs up",
            )
            return False
        state = "held" if what == "hold" else "talking"
        self.lines.tell(" ".join((done, *arguments)), live=f"{state}, Ctrl-C hangs up")
        return True

    def _happened(self, event: CallEvent) -> None:
        live = "talking, Ctrl-C hangs up"
        if event.kind == "digit":
            self.lines.tell(f"digit received: {event.digit}", live=live)
        elif event.kind == "hold":
            self.lines.tell("held by the peer", live="held by the peer, Ctrl-C hangs up")
        elif event.kind == "resume":
            self.lines.tell("resumed by the peer", live=live)
        elif event.referral is not None:
            self.lines.tell(f"transfer refused: the peer asks for {event.referral.uri}", live=live)
            event.respond(603)
        elif event.method:
            self.lines.tell(f"request refused: {event.method}", live=live)

    def _tell_end(self, end: End | None) -> None:
        if end is None:
            return
        side = "the peer" if end.by == "peer" else end.by
        why = "BYE" if end.cause == "bye" else end.cause
        status = f" {end.status}" if end.status else ""
        reason = f", {end.reason}" if end.reason else ""
        self.lines.tell(
            f"ended by {side}: {why}{status}{reason}", None if end.cause == "bye" else "bad"
        )


def _by(placed: Call) -> str:
    """Return which peer has answered, and with which media."""
    text = f" by {placed.dialog.remote_target}"
    described = placed.remote_sdp
    for stream in described.media if described is not None else ():
        connection = stream.connection
        if not stream.is_disabled and connection is not None:
            at = f"{host_of((connection.address,))}:{stream.port}"
            text += f", {stream.media} at {at}"
    return text


def _check_digits(digits: str) -> None:
    """Raise Mistake for a character that is no digit."""
    try:
        if digits:
            check_digits(digits)
    except InvalidValue:
        raise Mistake(
            f"--digits must be some of 0123456789*#ABCD, got {digits!r}: write --digits 12#"
        ) from None


def caller_of(text: str | None) -> NameAddr | None:
    """Return the From of `--from`. Raises Mistake."""
    if text is None:
        return None
    try:
        caller = given_address("--from", text)
    except InvalidValue as error:
        raise Mistake(str(error)) from error
    if not caller.uri.is_sip and caller.uri.scheme != "tel":
        raise Mistake(f"--from must be a SIP URI, got {text!r}: write {meant(text)}")
    return caller


def _description(name: str | None) -> bytes:
    """Return the session description of `--sdp`, with the line ends of SDP. Raises Mistake."""
    if name is None:
        return b""
    try:
        text = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise Mistake(f"--sdp: cannot read {name}: {error.strerror}") from error
    text = b"".join(line.rstrip(b"\r") + b"\r\n" for line in text.rstrip().split(b"\n"))
    try:
        sdp.SDP.parse(text)
    except ParseError as error:
        raise Mistake(
            f"--sdp: {name} is not a session description: {error}: write one as in RFC 8866 §5, or "
            "leave --sdp out"
        ) from error
    return text


@contextmanager
def _media_port(uri: URI) -> Iterator[int]:
    """Open a UDP port that takes the peer's media and drops it, and yield its number.

    It is even, because RTCP has the next one (RFC 3550 §11). Without an open port
    the peer would get ICMP errors, and some peers hang up then.
    """
    family = socket.AF_INET6 if ":" in uri.host else socket.AF_INET
    held: list[socket.socket] = []
    try:
        for _ in range(64):
            held.append(socket.socket(family, socket.SOCK_DGRAM))
            held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
            held[-1].bind(("", 0))
            if held[-1].getsockname()[1] % 2 == 0:
                break
        port = held.pop()
        for other in held:
            other.close()
        held[:] = [port]
        yield port.getsockname()[1]
    finally:
        for each in held:
            each.close()
