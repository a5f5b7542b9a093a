"""Dialogs: the dialogs of a stack, early ones and those that have just ended too, RFC 3261 §12."""

from __future__ import annotations

import random

import gevent

from ...errors import ParseError, Reject
from ...message.message import Request, Response
from ...runtime.rates import source_of
from ...transport.base import Flow
from ..core import CoreFunction
from ..element import Element, FirstNotify, InvitingRequest, ServedRequest
from .call import SESSION_TYPE, Call
from .dialog import DialogID, dialog_id
from .ended import STATUS as AFTER_THE_END
from .ended import EndedDialogs
from .in_dialog import InCall, InDialog
from .invite import InviteSession
from .rules import RULES
from .state import DialogState
from .transfer import ReferringSession

LEAVE_SECONDS = 5.0
"""Seconds that a stopping stack spends on resolving names for its last BYEs."""


class Dialogs:
    """The dialogs of a stack: finds the call of a BYE or an ACK. `len()` counts the calls that are
    answered, and `early` the others."""

    def __init__(self, stack: Element, session: type[InviteSession] = ReferringSession) -> None:
        self.stack = stack
        self.session = session
        """The class of the calls."""
        self.rules = RULES
        """What RFCs add to calls. Another table applies to calls that begin later."""
        self.ended = EndedDialogs(stack)
        self._calls: dict[DialogID, InviteSession] = {}
        self._early = 0  # of them
        self._sources: dict[DialogID, str] = {}  # of the calls that peers have begun
        self._by_source: dict[str, int] = {}  # the number of them
        self.unowned = 0
        """Calls that no program held any more."""
        self.events_dropped = 0
        """Events of calls whose core has not read them."""
        self.subscriptions = 0
        """Subscriptions of both roles."""
        self._others: dict[DialogID, DialogState] = {}  # with subscriptions and without a call
        self._subscribing: dict[tuple[str, str], FirstNotify] = {}  # by Call-ID and our tag

    # ---- calls that the peer begins

    def ring(self, tx: ServedRequest, response: Response) -> None:
        """Begin the early call of our first 101 to 199, and let the rules complete the response.

        Without a readable Contact in the INVITE no dialog can begin (§12.1.1), and the response
        leaves without one. Raises Reject.
        """
        call = tx.call
        if call is None:
            if tx.request.mandatory.to_tag is not None:
                return
            try:
                call = self._begin(tx, response)
            except ParseError:
                if "Require" in response.headers.fields:
                    raise  # it would need a dialog
                return
        call._responding(tx.request, response)

    def answer(self, tx: ServedRequest, response: Response) -> Call:
        """Send a 2xx to an INVITE and return the call that it creates (§12.1.1).

        A re-INVITE has its call already.

        Raises:
            ParseError: The INVITE has no Contact.
            Reject: 481 for an INVITE in an unknown dialog (§12.2.2), 503 at the limit of calls.
        """
        if response.body and "Content-Type" not in response.headers.fields:
            response.content_type = SESSION_TYPE
        call = tx.call
        if call is None and tx.request.mandatory.to_tag is not None:
            raise Reject(481)
        admission, limits = self.stack.engine.admission, self.stack.engine.limits
        is_new = call is None or not call.is_confirmed
        host = tx.request.flow.remote[0]
        source = source_of(host) if ":" in host else host
        if is_new:
            total, has = len(self._calls) - self._early, self._by_source.get(source, 0)
            limit = "calls" if total >= limits.calls else None
            if limit is None and (limits.calls_per_source or has * 4 >= limits.calls):
                limit = admission.sources.limit_of(
                    host, "calls", has, total, limits.calls, limits.calls_per_source
                )
            if limit is not None:
                admission.refuse(limit, tx.request)
                raise Reject(503, retry_after=random.randint(*limits.retry_after))
        if not isinstance(call, InviteSession):
            call = self._begin(tx, response)
        call._responding(tx.request, response)
        if is_new:
            tx._hold(call)  # before the response is sent, so that the core is not counted overdue
        try:
            tx._finish(response.status, response)
        except BaseException:
            if is_new:
                call._let_go()
            raise
        if is_new:
            self._sources[call.dialog.id] = source
            self._by_source[source] = self._by_source.get(source, 0) + 1
        if is_new and tx.transaction in admission.large:
            admission.weigh(call, admission.large[tx.transaction])
        call._answered(tx, response)
        return call

    def _begin(self, tx: ServedRequest, response: Response) -> InviteSession:
        """Begin the early call of an initial INVITE. Raises ParseError and Reject."""
        request = tx.request
        flow: Flow = request.flow  # type: ignore[assignment]  # it was received by one of ours
        dialog = DialogState.of_uas(request, response)
        dialog.belongs_to(self.stack, flow.origin)
        dialog.reach_by(request)
        call = self.session(self.stack, dialog, request, self.rules, theirs=tx)
        if self.stack.accounts.known:  # the carrier may ask for credentials in calls to us, too
            call.kept_credentials = self.stack.accounts.kept_for(request)
        call._begin(request, self)
        self._add(call)
        tx.call = call
        return call

    # ---- calls that we begin

    def inviting(self, request: Request) -> None:
        """Let the rules complete an INVITE of ours that begins a call."""
        for rule in self.rules.inviting:
            rule.inviting(self.stack, request)

    def begin(self, tx: InvitingRequest, response: Response, only_way: Flow | None = None) -> Call:
        """Return the early call that a response to an INVITE of ours creates (§12.1.2)."""
        flow: Flow = response.flow  # type: ignore[assignment]  # it was received by one of ours
        dialog = DialogState.of_uac(tx.request, response)
        dialog.belongs_to(self.stack, flow.origin)
        call = self.session(self.stack, dialog, tx.request, self.rules, ours=tx)
        dialog.flow = only_way
        call._begin(tx.request, self)
        self._add(call)
        return call

    def _add(self, call: InviteSession) -> None:
        self._calls[call.dialog.id] = call
        self._early += 1

    def confirm(self, call: Call) -> None:
        """Note that an early call is answered."""
        if self._calls.get(call.dialog.id) is call:
            self._early -= 1

    # ---- requests within dialogs

    def find(self, request: Request) -> InviteSession | None:
        """Return the call that a received request belongs to."""
        key = dialog_id(request)
        return None if key is None else self._calls.get(key)

    def named(self, key: DialogID) -> Call | None:
        """Return the call of a dialog. A tag of `0` also means no tag (RFC 3891 §6.1)."""
        call = self._calls.get(key)
        if call is None and "0" in key[1:]:
            call_id, local, remote = key
            call = self._calls.get((call_id, local.strip("0"), remote.strip("0")))
        return call

    def has_ended(self, key: DialogID) -> bool:
        """True for the dialog of a call that has just ended."""
        return key in self.ended

    def knows(self, request: Request) -> bool:
        """True for a request within a call or a subscription, for a NOTIFY that begins one, and for
        a BYE within a call that has just ended."""
        e = request.mandatory  # as in core_for()
        if e.to_tag is None:
            return False
        key: DialogID = request.headers.fields["Call-ID"], e.to_tag, e.from_tag or ""  # type: ignore[assignment]  # one line, because it was received
        return (
            key in self._calls
            or key in self._others
            or (request.method == "NOTIFY" and key[:2] in self._subscribing)
            or (request.method == "BYE" and key in self.ended)
        )

    def core_for(self, request: Request, core: CoreFunction) -> CoreFunction:
        """Return the core for a request with a To tag.

        A request within a call goes to the call first and then to `core`. If the call has ended,
        `ended` answers INVITE, BYE and the like. The other requests go to the subscriptions of the
        dialog (RFC 5057 §4.2). A NOTIFY that creates a dialog goes to its subscription (RFC 6665
        §4.4.1). All else goes to `core`.
        """
        if not (self._calls or self.ended or self._others or self._subscribing):
            return core
        e = request.mandatory  # as dialog_id(), without a call: each request in a dialog comes here
        if e.to_tag is None:
            return core
        key: DialogID = request.headers.fields["Call-ID"], e.to_tag, e.from_tag or ""  # type: ignore[assignment]  # one line, because it was received
        call = self._calls.get(key)
        if call is not None:
            return InCall(call, core)
        if request.method in AFTER_THE_END and key in self.ended:
            return self.ended.core_of(key)
        dialog = self._others.get(key)
        if dialog is not None:
            return InDialog(dialog, core)
        if request.method == "NOTIFY":
            first = self._subscribing.get(key[:2])
            return core if first is None else first._serve
        return core

    # ---- subscriptions

    def hold(self, dialog: DialogState) -> None:
        """Remember a dialog that has a subscription and no call."""
        self._others[dialog.id] = dialog

    def release(self, key: DialogID) -> None:
        """Forget a dialog without a call if its last subscription has ended."""
        dialog = self._others.get(key)
        if dialog is not None and not dialog.usages:
            del self._others[key]

    def of_request(self, request: Request, response: Response) -> DialogState:
        """Return the dialog of a SUBSCRIBE, REFER or NOTIFY, a new one unless it is known.

        Args:
            request: The request.
            response: Our 2xx to it.

        Raises:
            ParseError: It needs a new dialog, but has no Contact that can be read (§12.1.1).
            Reject: 481 for a dialog that has ended.
        """
        key = dialog_id(request)
        if key is not None:
            call = self._calls.get(key)
            known = self._others.get(key) if call is None else call.dialog
            if known is not None:
                return known
            if request.method != "NOTIFY":
                raise Reject(481)  # §12.2.2
        flow: Flow = request.flow  # type: ignore[assignment]  # it was received by one of ours
        dialog = DialogState.of_uas(request, response)
        dialog.belongs_to(self.stack, flow.origin)
        dialog.reach_by(request)
        self.hold(dialog)
        return dialog

    def subscribing(self, call_id: str, tag: str, first: FirstNotify | None) -> None:
        """Give the NOTIFYs that create dialogs of a request of ours to `first` from now on; None
        ends that."""
        if first is not None:
            self._subscribing[call_id, tag] = first
        else:
            self._subscribing.pop((call_id, tag), None)

    def admit_subscription(self, request: Request) -> None:
        """Refuse a subscription of a peer beyond the limit. Raises Reject."""
        admission, limits = self.stack.engine.admission, self.stack.engine.limits
        if self.subscriptions >= limits.subscriptions:
            admission.refuse("subscriptions", request)
            raise Reject(503, retry_after=random.randint(*limits.retry_after))

    def remove(self, call: Call, *, by_us: bool = False) -> None:
        """Forget a call. Remember its dialog for requests that are under way."""
        if call._keeps_alive:
            self.stack.keepalives.drop(call.dialog.call_id)
        admission = self.stack.engine.admission
        if admission.large:
            admission.release(call)
        known = self._calls.pop(call.dialog.id, None)
        source = self._sources.pop(call.dialog.id, None)
        if source is not None:
            left = self._by_source[source] = self._by_source[source] - 1
            if not left:
                del self._by_source[source]
        if known is not None:
            self._early -= not known.is_confirmed
            early = by_us and not known.is_confirmed
            self.ended.add(call.dialog.id, early=early, by_us=by_us)
            if len(known.dialog.usages) > 1:  # its BYE ends the call alone (RFC 5057 §4.2)
                known._leave_dialog()
                self.hold(known.dialog)

    def hang_up(self) -> None:
        """Hang up all calls, without waiting for ACKs.

        The names in their targets are resolved for at most LEAVE_SECONDS. A ringing INVITE may be
        answered meanwhile. Its call is hung up too, because its core would wait forever otherwise.
        """
        leaving: dict[InviteSession, gevent.Greenlet] = {}
        with gevent.Timeout(LEAVE_SECONDS, False):
            while further := [
                call for call in self._calls.values() if call not in leaving and call.is_confirmed
            ]:
                leaving.update((call, gevent.spawn(call._leave)) for call in further)
                gevent.joinall([*leaving.values()])
        gevent.killall([*leaving.values()])

    def stop(self) -> None:
        """Forget all calls and subscriptions, without a message to the peers."""
        for call in [*self._calls.values()]:
            for usage in call.dialog.usages:  # the call itself is the first
                usage._drop()
        self._calls.clear()
        self._sources.clear()
        self._by_source.clear()
        self._early = 0
        for usage in [usage for dialog in self._others.values() for usage in dialog.usages]:
            usage._drop()
        for first in [*self._subscribing.values()]:
            first._drop()
        self._others.clear()
        self._subscribing.clear()
        self.ended.stop()

    @property
    def early(self) -> int:
        """Number of early dialogs."""
        return self._early

    def __len__(self) -> int:
        return len(self._calls) - self._early
