"""`sippet register`: register an address-of-record, keep it registered, and unregister, RFC 3261
§10.2."""

from __future__ import annotations

import logging
import sys
from typing import Protocol

import gevent
from gevent.event import Event

from ..core.auth.credentials import Credentials
from ..core.registration.registration import Registration
from ..errors import Reject, SIPError
from ..message.message import Response
from ..message.uri import URI
from ..message.uri_arguments import given_address
from ..stack import Stack
from .interrupts import Interrupted, impatient, interruptible
from .password import asked, can_ask, credentials_of
from .peer import option_uri, outbound_proxy, peer_stack, peer_uri
from .status_lines import StatusLines
from .terminal import Mistake, tell, visible
from .trace import log_to_stderr, show_messages

NOT_REGISTERED, LOST, INTERRUPTED = 1, 3, 130
"""Exit codes, besides 0 for a registration that went as asked, and 2 for a mistake."""

GOODBYE = 4.0
"""Most seconds to wait until the registrar has answered the last REGISTER."""

ADVICE = {
    401: "the password or the user name is wrong: --user NAME, --password-file FILE",
    403: "the registrar refuses this user: check URI and --user",
    404: "the registrar does not know this user or this domain: check the URI",
    407: "the password or the user name is wrong: --user NAME, --password-file FILE",
    503: "the registrar is overloaded or stops: try again later",
}
"""What to do next after a refusal, by its status."""


_ASKED = (401, 407)


class Options(Protocol):
    """The arguments of `sippet register`."""

    uri: str
    user: str | None
    password_stdin: bool
    password_file: str | None
    registrar: str | None
    contact: str | None
    expires: int
    duration: float | None
    timeout: float
    listen: str | None
    ca: str | None
    outbound_proxy: str | None
    verbose: bool


def register(options: Options) -> int:
    """Register, and stay registered until the end.

    Returns:
        The exit code: 0 when it was registered until the end, 1 when it was refused or has got no
        answer, 2 for a mistake, 3 when the registration was lost, 130 for Ctrl-C before it was
        registered.
    """
    log_to_stderr(options.verbose, logging.ERROR)
    try:
        aor = peer_uri(options.uri, "register")
        if aor.user is None:
            raise Mistake(f"{options.uri!r} has no user: write sip:USER@{aor.host}")
        credentials = credentials_of(options, aor.user)
        proxy = outbound_proxy(options)
        registrar = option_uri("--registrar", options.registrar, "register at")
        contact = None
        if options.contact is not None:
            contact = given_address("--contact", options.contact).uri
        stack = peer_stack(options, proxy or aor)
        if options.verbose:
            show_messages(stack)
        stack.start()
    except SIPError as error:
        return tell(error)
    lines = StatusLines(sys.stdout, live=not options.verbose)
    if contact is not None and not contact.is_sip:
        number = f", for a number sip:{visible(contact.user)}@HOST" if contact.user else ""
        lines.tell(
            f"--contact {visible(str(contact))} is no SIP URI: most proxies cannot call it, "
            f"write sip:USER@HOST{number}",
            "bad",
        )
    with stack:
        try:
            try:
                return _Kept(options, lines, proxy, registrar).run(stack, aor, credentials)
            except Reject as refused:
                if refused.status not in _ASKED or credentials is not None or not can_ask(options):
                    raise
                lines.clear()
                realm = _realm_of(refused) or aor.host
                found = asked(options, aor.user, realm)
                return _Kept(options, lines, proxy, registrar).run(stack, aor, found)
        except Reject as refusal:
            lines.tell(f"refused by the registrar: {refusal.status} {refusal.reason}", "bad")
            advice = ADVICE.get(refusal.status)
            if credentials is None and refusal.status in _ASKED:
                advice = "it asks for a password: --password-file FILE, or --password-stdin"
            if advice:
                lines.tell(advice, "faint")
            return NOT_REGISTERED
        except SIPError as error:
            return tell(error)
        except KeyboardInterrupt:
            print(file=sys.stderr)  # behind the prompt
            return INTERRUPTED
        finally:
            lines.close()


class _Kept:
    """One registration from its first REGISTER to its end."""

    _stack: Stack

    def __init__(
        self, options: Options, lines: StatusLines, proxy: URI | None, registrar: URI | None
    ) -> None:
        self._options = options
        self._lines = lines
        self._proxy = proxy
        self._registrar = registrar
        self._changed = Event()

    def run(self, stack: Stack, aor: URI, credentials: Credentials | None) -> int:
        """Register, wait, and unregister. Returns the exit code. Raises Reject if the first
        REGISTER is refused."""
        options, lines = self._options, self._lines
        self._stack = stack
        lines.tell(f"registering {aor}", live="registering, Ctrl-C ends")
        registration = stack.register(
            aor,
            credentials=credentials,
            contact=options.contact,
            expires=options.expires,
            registrar=self._registrar,
            next_hop=self._proxy,
            on_change=self._note,
        )
        code = INTERRUPTED
        with interruptible():
            try:
                registration._wait_until(
                    # the next try is later than anybody waits for a command
                    lambda: isinstance(registration.error, Reject),
                    options.timeout,
                )
                if not registration.registered:
                    return self._failed(registration)
                code = 0
                self._tell(registration)
                if self._stay(registration):
                    code = LOST
            except Interrupted:
                pass
            finally:
                had_binding = registration.registered
                with impatient():
                    registration.close(GOODBYE)
                if had_binding:
                    lines.tell("unregistered")
        return code

    def _note(self, registration: Registration) -> None:
        self._changed.set()

    def _failed(self, registration: Registration) -> int:
        error = registration.error
        if isinstance(error, Reject):
            raise error
        reason = str(error) if error is not None else "nothing came back"
        self._lines.tell(f"not registered in time: {reason}", "bad")
        self._lines.tell("check address, transport and firewall: --verbose", "faint")
        return NOT_REGISTERED

    def _tell(self, registration: Registration) -> None:
        expires = registration.expires_at
        seconds = "" if expires is None else f" for {expires - self._stack.clock.now():.0f} s"
        contact = registration.contact
        where = "" if contact is None else f", Contact {contact.uri}"
        self._lines.tell(
            f"registered{seconds}{where}", "good", live="registered, Ctrl-C unregisters"
        )

    def _stay(self, registration: Registration) -> bool:
        """Stay registered for --duration. Returns True if it is lost at the end."""
        seconds = self._options.duration
        was = True
        with gevent.Timeout(seconds, False):
            while True:
                self._changed.wait()
                self._changed.clear()
                if registration.registered and not was:
                    self._tell(registration)
                elif was and not registration.registered:
                    self._lines.tell(
                        f"lost: {registration.error}", "bad", live="trying again, Ctrl-C ends"
                    )
                was = registration.registered
        return not was


def _realm_of(refused: Reject) -> str:
    """Return the realm that asks for a password."""
    response = refused.response
    if not isinstance(response, Response):
        return ""
    for challenge in (*response.www_authenticate, *response.proxy_authenticate):
        if challenge.realm:
            return str(challenge.realm)
    return ""
