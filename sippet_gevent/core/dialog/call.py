"""Call: an answered INVITE, as an application holds it, RFC 3261 §13 to §15.

This file has no protocol. Each call is an `InviteSession` of invite.py, which has the methods that
send something. The two are apart because that class imports transactions, and transactions name the
call that they made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from gevent.event import Event

from ...arguments import function, takes
from ...arguments import seconds as check_seconds
from ...message.message import Request, Response
from ...runtime.clock import Clock
from ...transport.base import Flow, Origin
from ..auth.credentials import Given, Kept
from ..inbox import Inbox
from .dialog import Dialog
from .end import End

SESSION_TYPE = "application/sdp"
"""Content-Type of a session description that comes without one (§13.2.1)."""

OnProvisional = Callable[[Response], object]
"""A callable that gets each provisional response to a request."""

ReinviteCore = Callable[[Request, Any], "int | Response | None"]
"""A core for re-INVITEs, `core(request, tx)`.

`tx` is a ServerTransaction. Its type here is Any, because the class ServerTransaction names Call,
so this file cannot import it.
"""


class Flag(Protocol):
    """What gevent's Event is, with types: it is set once, and greenlets wait for it."""

    def is_set(self) -> bool: ...
    def set(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class Holder(Protocol):
    """The request whose core holds a call. That core does not count toward the handler limit."""

    def _release(self) -> None:
        """Note that the call has ended."""


Self = TypeVar("Self", bound="Call")


class Call:
    """One call: an INVITE that was answered with 2xx.

    Leaving a `with call:` block hangs up:

        with tx.accept(body=answer) as call:
            call.wait(30)

    The call answers a BYE with 200. It answers a re-INVITE that changes nothing with the body that
    was sent before, and refuses any other re-INVITE with 488, which leaves the session as it was
    (§14.2). An application that changes sessions sets `on_reinvite`. Other requests within the call
    go to the stack's core, with `tx.call` set. No core sees a request that is refused for its CSeq,
    for an extension that it requires, or because of glare (glare.py).

    Our requests go along the route set to the remote target, the Contact of the peer's last target
    refresh that was accepted (§12.2.1.1). Without a route set they go by a flow in two cases.
    Either the peer is reached by that flow alone (RFC 5626 §5.3, RFC 7118 §5), or its Contact seems
    unreachable, as behind NAT; see reach_of(). Each target refresh decides again. If it names a new
    Contact, our requests go to the new Contact, even if the peer uses rport, because RFC 3581 §4 is
    about responses alone.
    """

    dialog: Dialog
    """Tags, route set, remote target and sequence numbers."""

    local_body: bytes
    """Our last session description."""

    local_type: str
    """The Content-Type of `local_body`."""

    remote_body: bytes
    """The peer's last session description."""

    ended: Flag
    """Set when the call has ended."""

    kept_credentials: Kept | None = None
    """The credentials of the INVITE that began the call. Our later ones in it have them, too."""

    end: End | None
    """How the call has ended: side, cause, status and Reason. None before."""

    acknowledged: bool
    """True after the ACK to the last 2xx was received or sent, or after the wait for it has
    ended."""

    def __init__(self, clock: Clock, dialog: Dialog) -> None:
        self.dialog = dialog
        self.local_body = self.remote_body = b""
        self.local_type = SESSION_TYPE
        self.ended: Flag = Event()
        self.end = None
        self.acknowledged = False
        self._on_reinvite: ReinviteCore | None = None
        self._inbox: Inbox[None] = Inbox(clock)
        self._holder: Holder | None = None
        self._keeps_alive = False
        """True when a flow is pinged until the call ends (RFC 6223 §4.2.3). Other calls may have
        the same Call-ID."""

    @property
    def flow(self) -> Flow | None:
        """The flow of the call, if it is the only way to the peer (RFC 5626 §5.3); else None."""
        raise NotImplementedError

    @flow.setter
    def flow(self, flow: Flow | None) -> None:
        raise NotImplementedError

    @property
    def origin(self) -> Origin | None:
        """The listener at which the dialog began. Our requests leave by it, if it reaches their
        target."""
        raise NotImplementedError

    @property
    def on_reinvite(self) -> ReinviteCore | None:
        """The core that serves the peer's re-INVITEs, `on_reinvite(request, tx)`.

        Raises:
            TypeError: The value is no callable of (request, tx).
        """
        return self._on_reinvite

    @on_reinvite.setter
    def on_reinvite(self, core: ReinviteCore | None) -> None:
        if function("on_reinvite", core, "call.on_reinvite = core") is not None:
            takes(core, ("request", "tx"), "on_reinvite")
        self._on_reinvite = core

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the call has ended, for at most `seconds`.

        Returns:
            True when the call has ended.

        Raises:
            Cancelled: The request that this greenlet serves was cancelled.
        """
        return self._inbox.wait(self.ended.is_set, check_seconds("seconds", seconds))

    def request(
        self,
        method: str,
        *,
        timeout: float | None = None,
        on_provisional: OnProvisional | None = None,
        credentials: Given | None = None,
        body: bytes | str = b"",
        **headers: Any,
    ) -> Response:
        """Send a request within the call and return its final response (§12.2.1).

        A re-INVITE that is answered with 2xx is acknowledged (§14.1). A 408, a 481 or a missing
        final response ends the call (§12.2.1.2).

            call.request("INFO", body="Signal=5", content_type="application/dtmf-relay")

        Args:
            method: The method.
            timeout: Seconds to wait for the final response.
            on_provisional: Called with each provisional response.
            credentials: Credentials in place of those of the INVITE that began the call.
            body: The body.
            headers: Header fields, by attribute name.

        Raises:
            TransactionStateError: The call has ended, or an INVITE or UPDATE has to wait for
                another one.
            TransactionTimeout: No final response came in time.
            TransportError: Nothing could be sent.
            Cancelled: The request that this greenlet serves was cancelled.
        """
        raise NotImplementedError

    def hangup(self, **headers: Any) -> None:
        """End the call with a BYE that has these `headers`. Does nothing if the call has ended.

        This method does not wait for the response to the BYE (§15.1.1). The BYE is sent after the
        ACK to the 2xx, or after the wait for that ACK has timed out (§15).

        Raises:
            InvalidValue: A header field cannot be sent.
        """
        raise NotImplementedError

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.hangup()

    def __repr__(self) -> str:
        return f"<Call {self.dialog!r}{' ended' if self.ended.is_set() else ''}>"

    # ---- for transactions, in invite.py

    def _wait_for_ack(self) -> None:
        raise NotImplementedError

    def _acknowledge(self, invite: Request) -> None:
        raise NotImplementedError

    def _responding(self, request: Request, response: Response) -> None:
        raise NotImplementedError

    def _refreshed(self, update: Request, response: Response, *, by_us: bool) -> None:
        raise NotImplementedError
