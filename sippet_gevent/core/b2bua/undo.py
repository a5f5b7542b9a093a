"""put_back(): undoes a change of one side's session, because the other side has not changed, RFC
3261 §9.1 and §14.2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ...errors import SIPError
from ..client.transaction import ClientTransaction
from ..dialog.invite import InviteSession
from ..dialog.renegotiation import send_offer


class Undoing(Protocol):
    """A leg of a bridge."""

    call: InviteSession | None

    @property
    def peer(self) -> object:
        """The other side, which a leg of another bridge may become."""


@contextmanager
def undone_if_refused(*legs: Undoing) -> Iterator[None]:
    """Put the sessions of legs back if the block raises, because the other side of the bridge is
    told that nothing has changed, or has not answered.

    The other side may have cancelled its request too late, or a media relay may have failed after
    the session of the leg was changed. A leg that was connected to another one meanwhile is left.
    """
    before = [
        (leg, leg.peer, leg.call, leg.call.offers.local) for leg in legs if leg.call is not None
    ]
    try:
        yield
    except BaseException:
        for leg, peer, call, description in before:
            if leg.peer is peer:
                # it waits for the final response, and this greenlet has to refuse the request
                call.stack.callbacks.spawn(put_back, call, description)
        raise


def put_back(call: InviteSession | None, before: bytes) -> None:
    """Offer the session that was agreed before, if the peer has accepted a cancelled re-INVITE.

    The other side of the bridge has been told that nothing has changed. The offer has the version
    that follows the cancelled one (RFC 3264 §8). This waits for the final response to the
    re-INVITE, so call it in a greenlet of its own.
    """
    if call is None:
        return
    invite, wait = call._reinvite, 64 * call.stack.engine.timers.t1
    if isinstance(invite, ClientTransaction):
        invite._inbox.wait(lambda: not invite.is_pending, wait)
    if call.end is not None or not before or call.offers.local == before:
        return
    try:
        send_offer(call, "INVITE", lambda: call.offers.restore(before))
    except SIPError as error:
        call.warn("session not put back", error)
