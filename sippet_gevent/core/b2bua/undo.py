"""put_back(): undoes a change of a session that one side has cancelled too late, RFC 3261 §9.1."""

from __future__ import annotations

from ...errors import SIPError
from ..client.transaction import ClientTransaction
from ..dialog.invite import InviteSession
from ..dialog.renegotiation import send_offer


def put_back(call: InviteSession | None, before: bytes) -> None:
    """Offer the session that was agreed before, if the peer has accepted a cancelled re-INVITE.

    The other side of the bridge has been told that nothing has changed. This waits for the final
    response to the re-INVITE, so call it in a greenlet of its own.
    """
    if call is None:
        return
    invite, wait = call._reinvite, 64 * call.stack.engine.timers.t1
    if isinstance(invite, ClientTransaction):
        invite._inbox.wait(lambda: not invite.is_pending, wait)
    if call.ended.is_set() or not before or call.offers.local == before:
        return
    try:
        send_offer(call, "INVITE", lambda: before)
    except SIPError as error:
        call.warn("session not put back", error)
