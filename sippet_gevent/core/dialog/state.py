"""DialogState: a dialog (RFC 3261 §12) with its flow, its listener and its usages (RFC 5057)."""

from __future__ import annotations

import logging
from typing import Protocol

import gevent

from ...errors import ParseError, SIPError, TransportError
from ...message.message import Request, Response
from ...observe.log_values import Plain
from ...transport.base import Flow, Origin
from ..auth.credentials import Kept
from ..client.transaction import ClientTransaction
from ..element import Element, ServedRequest, Within
from ..routing.outbound import Reach, can_be_dialled, reach_of_answerer, reach_of_sender
from .dialog import Dialog

log = logging.getLogger("sippet_gevent.core")


class DialogUsage(Protocol):
    """A usage of a dialog, see usage.py."""

    @property
    def kept_credentials(self) -> Kept | None:
        """The credentials of the request that began it."""

    def _receive(self, request: Request, tx: ServedRequest) -> int | Response | None:
        """Serve a request within the dialog; NotImplemented leaves it to the next usage."""

    def _drop(self) -> None:
        """End without a message to the peer."""

    def _end_with_dialog(self, status: int, reason: str) -> None:
        """End, because a response has ended the dialog."""


class DialogState(Dialog):
    """A dialog of a stack. Its usages share the remote target and the way to it.

    Made by `of_uas` or `of_uac`, and taken in use by `belongs_to`.
    """

    __slots__ = ("element", "flow", "last_ack", "origin", "usages")

    element: Element
    """The element that the dialog belongs to."""

    flow: Flow | None
    """The flow of the dialog, if it is the only way to the peer (RFC 5626 §5.3); else None."""

    origin: Origin | None
    """The listener at which the dialog began."""

    last_ack: Request | None
    """The last ACK that was sent."""

    usages: tuple[DialogUsage, ...]
    """The usages of the dialog, oldest first (RFC 5057)."""

    def belongs_to(self, element: Element, origin: Origin | None) -> None:
        """Take the dialog in use for an element."""
        self.element = element
        self.origin = origin
        self.flow = None
        self.last_ack = None
        self.usages = ()

    def ended_by(self, status: int, reason: str) -> None:
        """End all usages, because of a response that ends the dialog (RFC 5057 §5.1)."""
        for usage in self.usages:
            usage._end_with_dialog(status, reason)

    # ---- target refresh, §12.2

    def take_target(self, message: Request | Response) -> bool:
        """Take the target of a target refresh that was accepted. True if it is another one.

        A Contact that cannot be read leaves the old target.
        """
        before = self.remote_target
        try:
            self.refresh(message)
        except ParseError as error:  # the dialog goes on with the old target
            self.warn("Contact ignored", error)
        return self.remote_target != before

    def refresh_by(self, request: Request) -> None:
        """Take the target of the peer's request, which was accepted, and the way to it."""
        self.reach_by(request, moved=self.take_target(request))

    def reach_by(self, request: Request, *, moved: bool = False) -> None:
        """Take the way to the target of the peer's request. `moved` is true for another target."""
        flow: Flow = request.flow  # type: ignore[assignment]  # it was received by one of ours
        self.flow = None if reach_of_sender(request, moved=moved) is Reach.AT_CONTACT else flow

    def refresh_from(self, response: Response) -> None:
        """Take the target of the peer's 2xx to a target refresh of ours.

        The flow to the old target is not used for the new target, unless it is the only way to it.
        """
        if self.take_target(response):
            reach = reach_of_answerer(response)
            if reach is Reach.AT_CONTACT:
                self.flow = None
            elif self.flow is None and reach is Reach.BY_FLOW_ONLY:
                self.flow = response.flow  # type: ignore[assignment]  # one of ours

    def establish(self, response: Response) -> None:
        super().establish(response)
        self.refresh_from(response)

    # ---- the way to the peer

    @property
    def next_hop(self) -> Flow | None:
        """The peer's flow; None if requests go along the route set or to the remote target.

        Also None when the flow has ended and the target may be reached without it.
        """
        flow = self.flow
        if flow is None or self.route_set:
            return None
        return (
            flow
            if self.element.names.is_usable(flow) or not can_be_dialled(self.remote_target)
            else None
        )

    def send(self, request: Request, tx: ClientTransaction, usage: Within) -> None:
        """Send a request of a usage. Raises SIPError, which the transaction gets, too."""
        try:
            self.element.sender.send(
                request, self.next_hop, user=tx, listener=self.origin, within=usage
            )
        except SIPError as error:
            tx.fail(error)  # so that it is no longer under way
            raise
        except BaseException:  # the core's Timeout, while a name was resolved: end it too
            tx._abandon()
            tx.ended()
            raise

    def acknowledge(self, invite: Request, body: bytes, content_type: str) -> None:
        """Send the ACK to a 2xx, with a body unless it is empty.

        Each repetition of the 2xx gets the same ACK (§13.2.2.4), also if the first one could not
        leave. Only that one knows the answer to an offer in the 2xx.
        """
        number = invite.cseq.number
        try:
            ack = self.last_ack
            if ack is not None and ack.cseq.number == number:
                if ack.flow is not None and self._repeat(ack):
                    return
                if ack.body:
                    body, content_type = ack.body, ack.headers["Content-Type"]
            ack = self.last_ack = self.ack(
                number,
                body=body,
                content_type=content_type if body else None,
                authorization=invite.authorization,
                proxy_authorization=invite.proxy_authorization,
            )
            self.last_ack = self.element.sender.acknowledge(ack, self.next_hop, self.origin)
        except (Exception, gevent.Timeout) as error:
            # middleware may raise anything, and the call goes on: the peer repeats its 2xx until
            # it has an ACK, or ends the call
            self.warn("ACK not sent", error)

    def _repeat(self, ack: Request) -> bool:
        """Send an ACK again by its flow. False if that flow cannot send it any more."""
        flow: Flow = ack.flow  # type: ignore[assignment]  # it has left by one of ours
        data, element = bytes(ack), self.element
        try:
            element.engine.send(flow, data)
        except TransportError:
            detours = element.sender.detours
            # nothing else notes that its detour was refused, because an ACK has no transaction
            if len(data) > detours.size:
                detours.refused(flow, element.clock.now())
            return False
        return True

    def warn(self, event: str, error: BaseException) -> None:
        """Log that something of this dialog has failed, and count it if a program made it fail."""
        text = f'{event}: call_id=%s reason="%s"'
        now, call_id = self.element.clock.now(), Plain(self.call_id)
        counters = self.element.engine.counters
        if isinstance(error, SIPError):
            counters.warn(event, now, text, call_id, str(error), log=log)
        else:
            counters.core_errors += 1
            counters.error(event, now, text, call_id, error, exc_info=error, log=log)
