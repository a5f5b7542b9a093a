"""Connected identity: From and To may change within a call, RFC 4916.

| RFC 4916 | here |
|---|---|
| §4.4.2: the peer's new From, once its request has a 2xx | ConnectedIdentity |
| §4.2: the callee's identity by UPDATE after its 2xx | Announcing, if the stack lists the tag |
| §4.3: our identity has changed | change_identity(), for call.identify() |
"""

from __future__ import annotations

from ...errors import ParseError, SIPError
from ...message.address import NameAddr
from ...message.message import Message, Request, Response
from ...message.uri_arguments import given_address
from .events import CallEvent
from .rule import Rule, Session

TAG = "from-change"
"""The option tag."""


class ConnectedIdentity(Rule):
    """Takes the peer's new From of a re-INVITE or UPDATE that was accepted (§4.4.2)."""

    __slots__ = ()

    takes = ("INVITE", "UPDATE")

    def answered(self, request: Request, response: Response, *, by_us: bool) -> None:
        """Take the From of the peer's request, which has a 2xx now."""
        dialog = self.session.dialog
        if not by_us or request.mandatory.to_tag is None:
            return
        try:
            told = request.from_
        except ParseError:
            return
        if told.uri != dialog.remote.uri:
            dialog.remote = told
            self.session.tell(CallEvent("identity", request))


class Announcing(Rule):
    """Sends the callee's identity to a caller that wants it, behind the ACK (§4.2).

    Its row is in the table of a stack that lists `from-change` in `supported`.
    """

    __slots__ = ()

    def answered(self, request: Request, response: Response, *, by_us: bool) -> None:
        """Send the UPDATE after the first 2xx."""
        session = self.session
        if by_us and request is session.invite and lists(request, "supported", TAG):
            session.stack.callbacks.spawn(self._announce)

    def _announce(self) -> None:
        session = self.session
        if not session.wait_for_ack() or not lists(session.invite, "allow", "UPDATE"):
            return
        try:
            session.request("UPDATE")
        except SIPError as error:
            session.warn("identity not sent", error)


def lists(message: Message | None, field: str, what: str) -> bool:
    """True if Supported or Allow of a message lists something."""
    try:
        values = () if message is None else getattr(message, field)
    except ParseError:
        return False
    return what.lower() in {str(value).lower() for value in values}


def change_identity(
    session: Session, peers: Message | None, identity: NameAddr | str
) -> str | None:
    """Change the identity that our requests tell from now on (§4.3, §4.4.1).

    Args:
        session: The call.
        peers: The INVITE or 2xx of the peer, which says what it supports.
        identity: The new identity.

    Returns:
        The method of the request that tells it. None if the peer does not support that; then
        nothing has changed.

    Raises:
        InvalidValue: The identity is no address.
    """
    address = given_address("identity", identity)
    if not lists(peers, "supported", TAG):
        return None
    dialog = session.dialog
    # the tag stays, because it names the dialog (RFC 3261 §12)
    dialog.local = dialog.local._replace(uri=address.uri, display=address.display)
    return "UPDATE" if lists(peers, "allow", "UPDATE") else "INVITE"
