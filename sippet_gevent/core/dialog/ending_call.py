"""EndingCall: how a call ends, by BYE, CANCEL or a refusal, RFC 3261 §12.3 and §15, RFC 5057 §5."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from ...errors import SIPError
from ...message.iana import reason_phrase
from ...message.message import Request, Response
from ..element import ServedRequest
from .described_call import DescribedCall
from .effects import ENDING, Effect, effect_of_ours, effect_on_call
from .end import End, reason_in
from .ruled import Ruled
from .state import DialogState
from .unowned import Unowned

BYE = End("us", "bye")


class EndingCall(Ruled, DescribedCall):
    """A call that ends. Its messages are those of invite.py."""

    dialog: DialogState
    _bye: dict[str, Any] | None
    """The header fields of a BYE that waits for the ACK."""
    _failure: BaseException | None
    """What waiting for the ACK raises."""

    def hangup(self, **headers: Any) -> None:
        if self.end is not None:
            return
        if headers:
            # an invalid header field raises here, not when the BYE is sent
            checked = Request("BYE", self.dialog.remote_target, **headers)
            self._hang_up(End("us", "bye", 0, reason_in(checked)), headers)
        else:
            self._hang_up(BYE)

    def _hang_up(self, end: End, headers: dict[str, Any] | None = None) -> None:
        """End the call: a confirmed one by BYE, an early one by CANCEL or by a refusal."""
        if self.end is not None:
            return
        if not self.is_confirmed:
            if not self.is_caller:
                self.refuse(480, **headers or {})
                return
            if self._reinvite is not None and self._reinvite.is_pending:
                self._reinvite.cancel(**headers or {})
                return
            self.acknowledged = True  # another branch has answered: §15 lets us send a BYE
        self._bye = headers or {}
        self._end(end)
        self.refuse_late_offer()
        if self.acknowledged and self._bye is not None:
            self._send_bye()

    def _fail(self, fault: BaseException, end: End) -> None:
        self._failure = fault
        self.acknowledged = False  # so that the BYE follows the ACK
        self._hang_up(end)

    def refuse(self, status: int, error: SIPError | None = None, **headers: Any) -> None:
        """Refuse the INVITE that we serve, the first one or a re-INVITE.

        Its core gets `error` at its next call of this library, or else Cancelled.
        """
        tx = self.served_invite
        if tx is not None:
            tx._refuse_for_core(status, error, headers)

    # ---- refusals

    def _take_effect(self, method: str, response: Response) -> None:
        """End what a refusal of a request of ours ends (RFC 5057 §5.1)."""
        self._suffer(effect_on_call(method, response.status), response.status, response.reason)

    def _refused(self, request: Request, status: int) -> None:
        """Note that we have refused a request of the peer, and end what that ends (RFC 5057
        §5.1)."""
        self.offers.lose(request)  # the session is as it was (§14.2)
        self._inbox.wake()  # a request of ours may have waited for it (§14.1)
        if status in ENDING and request.mandatory.to_tag is not None:
            effect = effect_of_ours(request.method, status)
            if effect is not Effect.TRANSACTION:
                # the BYE may have a name to resolve, and the refusal goes first
                spawn = self.stack.callbacks.spawn
                spawn(self._suffer, effect, status, reason_phrase(status))

    def _suffer(self, effect: Effect, status: int, reason: str) -> None:
        if effect is Effect.DIALOG:
            self.dialog.ended_by(status, reason)
        elif effect is Effect.USAGE:
            self._end_with_dialog(status, reason)

    def _unawaited(self, method: str, outcome: Response | None) -> None:
        """Take the refusal of a request that its core waits for no longer, None for a timeout
        (§14.1)."""
        # the BYE may have a name to resolve
        spawn = self.stack.callbacks.spawn
        if outcome is None:
            spawn(self._hang_up, End("us", "timeout"))
        elif outcome.status >= 300:
            spawn(self._take_effect, method, outcome)

    def _finish_early(self, end: End) -> None:
        """End a call that is early still, because its INVITE was refused or has failed (§12.3)."""
        if not self.is_confirmed:
            self._end(end)
            self._forget(by_us=not self.is_caller)

    # ---- the end

    def _leave(self) -> None:
        """Hang up without waiting for the ACK, because the stack stops."""
        self._hang_up(End("stack", "stopped"))
        self._confirm()

    def _drop(self) -> None:
        """End the call without a message to the peer, because the stack has stopped."""
        self._end(End("stack", "stopped"))
        self._close()

    def _end_with_dialog(self, status: int, reason: str) -> None:
        # to end the dialog of a call means to send a BYE (RFC 3261 §12.2.1.2)
        self._hang_up(End("us", "refused", status, reason))

    def _core_returned(self) -> None:
        """Note that the core which holds this call has returned, so it does not read events."""
        self._waits = True
        if self._queue is not None:
            self._queue.decline()
        Unowned(self)

    def _let_go(self) -> None:
        """Note that the core no longer holds this call."""
        holder, self._holder = self._holder, None
        if holder is not None:
            holder._release(self)

    def _end(self, end: End) -> None:
        if self.end is not None:
            return
        self.end = end
        if self._ended is not None:
            self._ended.set()
        self._inbox.wake()
        self._let_go()
        for place in self.plan.ended:
            rule = self.rules[place]
            if rule is not None:
                rule.ended(end)  # it may know better why
        if self._queue is not None:
            self._queue.end = self.end

    def _end_by_bye(self, end: End) -> None:
        """Note a BYE, of either side. The INVITE of an early call has no final response yet."""
        self._end(end)
        if not self.is_confirmed and self.is_caller and self._reinvite is not None:
            self._reinvite._left()

    def _forget(self, *, by_us: bool = False) -> None:
        self.stack.dialogs.remove(self, by_us=by_us)
        self._close()

    def _close(self) -> None:
        """Cut the references between the call and its parts, so that no cycle is left."""
        if self._answer is not None:
            self._stop_answer()
        self.rules = self.plan.unmet
        self.offers.call = self.offers.on_offer = None
        self._serving, self._reinvite, self._update = (), None, None
        self._leave_dialog()

    def _send_bye(self) -> None:
        headers, self._bye = self._bye, None
        bye, dialog = self._within("BYE", b"", headers or {}), self.dialog
        self._forget(by_us=True)
        try:
            self.stack.sender.send(bye, dialog.next_hop, listener=dialog.origin, within=self)
        except Exception as error:  # middleware may raise anything, and the call has ended
            self.dialog.warn("BYE not sent", error)

    @abstractmethod
    def _confirm(self) -> None:
        """Continue after the ACK or its timeout. Sends a BYE that waited for the ACK."""

    @abstractmethod
    def _stop_answer(self) -> None:
        """Repeat the 2xx no more."""

    @property
    @abstractmethod
    def served_invite(self) -> ServedRequest | None:
        """The INVITE of the peer that has no final response yet; None without one."""
