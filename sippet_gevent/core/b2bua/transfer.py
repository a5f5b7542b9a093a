"""Transfer: a REFER that a bridge carries out, RFC 3515, RFC 5589 §6 and §7.

The other side of the leg is connected to the target. The first call goes on while the target rings,
and if the transfer fails. After a success the peer that has asked usually hangs up. If it does not,
the bridge does so after 64*T1.

The target may be a user of the same server, which asks for a password. The bridge has none. Without
a bridge, the other side would call the target with its own password (RFC 3515 §2.4.2), and so could
the peer that sent the REFER. So the INVITE of the bridge counts as one of the user that has called
with a password, on either side; see proxy/spirals.py. If neither side has, the server asks. So a
caller that needed no password, such as a carrier, reaches no further by a REFER.

With an authenticator in its policy, the bridge follows REFERs of users alone: those that have
called with a password, and those that prove it by the REFER (RFC 3515 §5.2: a properly
authenticated REFER within a dialog). The INVITE counts as one of the user that has asked. So a
user that was called by a carrier can transfer it, and a carrier can transfer nobody.
"""

from __future__ import annotations

from typing import Protocol

from ...errors import Reject, SIPError
from ...message.message import Request, Response
from ..client.transaction import ClientTransaction
from ..dialog.dialog import DialogID
from ..dialog.referral import Referral
from ..dialog.replaces import dialog_of
from ..element import Element
from ..server import ServerTransaction
from .crossing import hops_left
from .leg import Leg
from .policy import OF_THE_SENDER, BridgePolicy, Kind
from .relay import MediaRelay
from .third_party import connect_sessions
from .undo import undone_if_refused


class Connecting(Protocol):
    """The bridge whose leg is transferred."""

    stack: Element
    policy: BridgePolicy
    media: MediaRelay | None
    legs: list[Leg]

    @property
    def credentials_are_ours(self) -> bool: ...
    def offer_to(self, source: Leg, target: Leg, description: bytes) -> bytes: ...
    def answer_to(self, source: Leg, target: Leg, description: bytes) -> bytes: ...
    def follow(self, leg: Leg, request: Request, tx: ServerTransaction) -> None: ...
    def add_leg(self) -> Leg: ...
    def take(self, leg: Leg, tag: str = "") -> None: ...
    def new_tag(self) -> str: ...
    def connect(self, one: Leg, other: Leg) -> None: ...
    def wake(self) -> None: ...


class Transfer:
    """One REFER.

    Args:
        bridge: The bridge.
        leg: The leg whose peer has sent it.
        tx: The REFER.
    """

    def __init__(self, bridge: Connecting, leg: Leg, tx: ServerTransaction) -> None:
        self.bridge = bridge
        self.leg = leg
        self.tx = tx
        self.served = self._served()  # first, because the users may be in a store that waits
        other = leg.peer
        if other is None or not other.is_open or not other._is_confirmed:
            raise Reject(480)  # nobody could be transferred now
        if leg.is_leaving or other.is_leaving:
            raise Reject(491)  # each side can be connected to one target only
        self.other = other

    def run(self) -> None:
        """Carry it out. Raises Reject if it is refused."""
        referral = self.tx.referral
        assert referral is not None  # within a call each REFER has one
        if referral.target.method.upper() != "INVITE" or referral.uri.scheme not in _SCHEMES:
            raise Reject(501)
        replaced = self._replaced(referral)
        hops = hops_left(self.tx.request)
        self.leg.is_leaving = True  # before anything waits, such as the first NOTIFY for a name
        try:
            referral.accept()
        except BaseException:
            self._stay()
            raise
        try:
            if replaced is None:
                self._call(referral, hops)
            else:
                self._join(replaced)
        except SIPError as error:
            self._stay()
            referral.finish(error.status if error.status >= 300 else 500)
            return
        except BaseException:
            self._stay()
            referral.finish(487)
            raise
        referral.finish(200)
        self._leave()

    def _replaced(self, referral: Referral) -> Leg | None:
        """Return the other side of the bridged call that the Refer-To would replace. Raises Reject.

        The target of the REFER is this element, so it would get the INVITE with Replaces. It has to
        ask the same question as for that INVITE: may the referrer replace the call (RFC 3891 §3)?
        """
        named = referral.replaces
        if named is None:
            return None
        call_id, local, remote = dialog_of(named)
        # the tags are as the target sees them, and the target is this element
        known: DialogID = (call_id, local, remote)
        call = self.bridge.stack.dialogs.named(known)
        leg = getattr(call, "leg", None)
        if not isinstance(leg, Leg):
            return None
        kept = leg.peer
        if kept is None or not kept.is_open or not kept._is_confirmed:
            raise Reject(480)
        if kept is self.other or kept is self.leg:
            raise Reject(480)  # both sides of this bridge, which are connected already
        may_replace = self.bridge.stack.may_replace
        if may_replace is not None and not may_replace(self.tx.request, call):
            raise Reject(403)
        if kept.is_leaving or leg.is_leaving:
            raise Reject(491)  # a transfer connects them to another target
        return kept

    def _call(self, referral: Referral, hops: int) -> None:
        """Call the target without an offer, and connect it to the other side (RFC 3725)."""
        bridge, other = self.bridge, self.other
        target = bridge.add_leg()
        out: ClientTransaction | None = None
        try:
            invite = Request("INVITE", referral.uri)
            invite.max_forwards = hops
            call = other.call
            assert call is not None  # it is open
            invite.from_ = call.dialog.remote._replace(
                parameters=call.dialog.remote.parameters.without("tag")
            )
            if referral.referred_by is not None:
                invite.referred_by = referral.referred_by
            if referral.replaces is not None:
                invite.replaces = referral.replaces
                if referral.target.requires_replaces:
                    invite.require = ("replaces",)  # RFC 5589 §7.5
            invite.headers.extend(
                line
                for line in bridge.policy.lines(self.tx.request, Kind.REQUEST, credentials=False)
                if line[0] not in _OF_REFER and line[0] not in OF_THE_SENDER
            )
            sent = bridge.stack.sender.send(invite)
            assert isinstance(sent, ClientTransaction)  # no user was given
            out = sent
            out.terms, out.served = target.terms, self.served
            other.inviting = out
            if not other.is_open:  # its end has come before, and found nothing to cancel
                out.cancel()

            def ringing(response: Response) -> None:
                if response.status not in (100, 199):  # 199 is about one branch (RFC 6228 §4)
                    target.rings(response)
                    referral.progress(response)

            try:
                response = out.final(ringing)
            finally:
                other.inviting = None
            if not response.is_success:
                raise Reject(response.status, response.reason, response=response)
            target.call = out.call  # type: ignore[assignment]  # each call is one
            target.note_allowed(response)
            self._connect(target)
        except BaseException:
            if out is not None and out.call is not None:
                out.call.hangup()
            if target in bridge.legs:  # else the bridge is over
                bridge.legs.remove(target)
            target.let_go()
            bridge.wake()
            raise

    def _served(self) -> ServerTransaction | None:
        """Return a request of a user that has proved its password: an INVITE, of the peer that has
        asked or else of the other side. With an authenticator, the REFER in place of the latter.

        Raises:
            Reject: 401 or 407, because the REFER has to prove the password.
        """
        for leg in (self.leg, self.leg.peer):
            if leg is not None and leg.served is not None and leg.served.user is not None:
                return leg.served
            authenticator = self.bridge.policy.authenticator
            if authenticator is not None:
                authenticator.authenticate(self.tx.request, self.tx, within=True)
                return self.tx
        return None

    def _join(self, kept: Leg) -> None:
        """Connect the other side with that of another bridge, and end the two legs between them."""
        replaced = kept.peer
        self._connect(kept)
        if replaced is not None and replaced.call is not None:
            replaced.call.hangup()

    def _connect(self, target: Leg) -> None:
        bridge, leg, other = self.bridge, self.leg, self.other
        if leg.peer is not other:
            raise Reject(480)  # an INVITE with Replaces has taken the other side meanwhile
        before = target.tag
        if target not in bridge.legs:
            target.tag = bridge.new_tag()  # a leg of this bridge may have the one of before
        try:
            with undone_if_refused(target, other):
                connect_sessions(bridge, target, other, is_relayed=bridge.media is not None)
                if not other.is_open or not target.is_open or leg.peer is not other:
                    raise Reject(480)
        except BaseException:
            target.tag = before
            raise
        leg.peer = None
        if target.peer is not None:
            target.peer.peer = None
        if target not in bridge.legs:
            bridge.take(target, target.tag)
        bridge.connect(target, other)

    def _stay(self) -> None:
        """Go on with the first call, because the transfer has failed. If one side has hung up
        meanwhile, end the other side."""
        leg, other = self.leg, self.other
        leg.is_leaving = False
        if not leg.is_open and leg.peer is other:
            leg.peer = other.peer = None
            other.hang_up(leg, None if leg.call is None else leg.call.end)
        elif not other.is_open and leg.peer is other:
            leg.peer = other.peer = None
            leg.hang_up(other, None if other.call is None else other.call.end)

    def _leave(self) -> None:
        """Wait for the BYE of the peer that has asked, and hang up if none comes."""
        call = self.leg.call
        if call is not None:
            call._inbox.wait(call.ended.is_set, 64 * self.bridge.stack.engine.timers.t1)
            call.hangup()


_SCHEMES = frozenset(("sip", "sips", "tel"))

_OF_REFER = frozenset(("Event", "Refer-Sub", "Refer-To", "Referred-By", "Expires"))
"""Header fields of a REFER that the INVITE does not get, or gets by itself."""
