"""bridge(): a B2BUA in one call, RFC 7092, RFC 3261 §6.

The caller's INVITE becomes one to the target. Responses, later requests and the end of a leg are
passed on to the other. Each leg has its own dialog, reliable responses and session timer.

| what happens | the other leg |
|---|---|
| the callee rings: 101 to 198 | the same status, header fields and description |
| the callee's 1xx is reliable, or the caller requires that | reliable, if the caller supports it |
| the caller requires 100rel, but makes no offer | no 1xx, as each needs an offer (RFC 3262 §5) |
| several targets are given | all ring; see parallel.py |
| the callee refuses | Reject; unless the core catches it, the caller gets the refusal |
| the caller sends CANCEL, or BYE before the answer | CANCEL with its Reason |
| the callee answers | the 2xx, with its description unless a reliable 1xx had it |
| the caller made no offer | INVITE without one; the 2xx has an offer, and the ACK its answer |
| one side sends BYE | BYE with its Reason and other header fields |
| one side vanishes | BYE with a Reason that says so |
| the INVITE comes back unchanged | 482; Max-Forwards ends other loops (RFC 7332) |
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from ...arguments import instance
from ...arguments import seconds as check_seconds
from ...errors import Cancelled, Reject, SIPError, TransactionStateError, TransactionTimeout
from ...message.message import Request, Response
from ...message.uri import URI
from ...stores.bindings import Binding
from ...transaction.timers import Timers
from ...transport.listener_choice import Wanted
from ..argument_checks import check_timers, check_way
from ..auth.credentials import Given, keyring
from ..client.reason import reason_of
from ..client.retry import Retry
from ..client.targets import NextHop
from ..client.transaction import ClientTransaction
from ..dialog.description import description_of
from ..dialog.end import Bridged, End
from ..dialog.expiry import Expiry, seconds_of
from ..dialog.negotiation import ASKED, OFFERED, same_session
from ..dialog.offer_answer import is_reliable
from ..dialog.reliable import TAG as RELIABLE
from ..dialog.reliable import lists
from ..dialog.rules import RULES
from ..element import Element
from ..server import ServerTransaction
from .connection import Connection
from .crossing import hops_left, with_description
from .leg import Leg
from .parallel import Parallel, Target, Wish, check_targets
from .pickup import pick_up, replaced_leg, wait_for_pickup
from .policy import BridgePolicy, Kind, checked_policy
from .relay import MediaRelay
from .third_party import answer_in_ack, ask_for_offer, reoffer
from .undo import put_back

_WRITE = 'bridge(request, tx, "sip:bob@192.0.2.20")'

_PLACED: WeakKeyDictionary[Element, dict[str, set[str]]] = WeakKeyDictionary()
"""Request-URIs of calls that are not answered: the one that a bridge has received, and those that
it has sent. By stack, and by Call-ID of the INVITEs that were sent."""


def bridge(
    request: Request,
    tx: ServerTransaction,
    target: Target | Iterable[Target],
    *,
    policy: BridgePolicy | None = None,
    media: MediaRelay | None = None,
    next_hop: NextHop | None = None,
    listener: Wanted = None,
    timeout: float | None = None,
    timers: Timers | None = None,
    credentials: Given | None = None,
    follow_redirects: bool = False,
    **headers: Any,
) -> Bridged:
    """Call the target for the caller, connect both, and wait until both calls have ended.

        @stack.on("INVITE")
        def b2bua(request, tx):
            bridge(request, tx, f"sip:{request.uri.user}@192.0.2.20")

    If the callee refuses, the refusal is a Reject. Catch it to try another target:

        try:
            bridge(request, tx, phone, timeout=20)
        except (Reject, TransactionTimeout):
            bridge(request, tx, voicemail)

    An INVITE that replaces a bridged call (RFC 3891) takes the place of that side, or of a callee
    that rings. The target is ignored then.

    Args:
        request: The INVITE of the caller.
        tx: Its server transaction.
        target: The URI to call. All of several URIs or bindings ring at the same time, and the
            first that answers is connected: `bridge(request, tx, location.lookup(request.uri))`.
        policy: Which header fields cross, and whether the bridge carries out a REFER.
        media: What relays the media, such as an RTPEngine; None lets it flow between the peers.
        next_hop: Where the INVITE goes instead of its target.
        listener: The name of the listener by which it leaves.
        timeout: Most seconds until the callee answers.
        timers: The timers of the INVITE, in place of those of the stack: `Timers(b=3)` for a server
            that must answer fast.
        credentials: Credentials for a callee that asks for them. Without them the caller is asked.
        follow_redirects: True to follow 3xx.
        headers: Header fields of the INVITE to the callee, by attribute name.

    Returns:
        How both calls have ended.

    Raises:
        Reject: The callee has refused. 482 or 483 for a loop, 480 for no target, 481 for an
            INVITE within a call that is unknown.
        TransactionTimeout: The callee has not answered in time, or the caller sent no ACK or PRACK.
        TransportError: There is no way to the callee.
        Cancelled: The caller has given up. The callee got a CANCEL, or a BYE.
        TransactionStateError: The request is no INVITE, or is answered already.
        InvalidValue: The target is no URI.
        ParseError: The callee's answer cannot be used.
    """
    instance("request", request, Request, _WRITE)
    instance("tx", tx, ServerTransaction, _WRITE)
    check_way(next_hop, listener)
    if request.method != "INVITE":
        raise TransactionStateError(
            f"a bridge begins with an INVITE, not {request.method}: {_WRITE}"
        )
    if request.mandatory.to_tag is not None:
        raise Reject(481)  # of a call that is unknown, as after a restart (RFC 3261 §12.2.2)
    if tx.answered:
        write = "" if tx.call is None else ": write call.bridge(stack.invite(target))"
        raise TransactionStateError(f"the request is answered already with {tx.answered}{write}")
    seconds = check_seconds("timeout", timeout)
    given = keyring(credentials)
    if timers is not None:
        check_timers(timers)
    keys = tx.stack.keyring if given is None else given
    retry = partial(Retry, keys, follow_redirects=follow_redirects)
    targets = check_targets((target,) if isinstance(target, (URI, str)) else target)
    tx.check_required()
    hops = hops_left(request)
    inbound = Inbound(request, tx, checked_policy(policy), media, credentials is not None)
    try:
        replaced = replaced_leg(request, tx)
        if replaced is not None:
            inbound.take_over(replaced)
        else:
            first = targets[0].uri if isinstance(targets[0], Binding) else targets[0]
            wish = Wish(next_hop, listener, seconds, timers, retry)
            inbound.place(targets, inbound.invite(first, hops, headers), wish)
        inbound.until_over()
        return inbound.ends
    except BaseException as error:
        inbound.abandon(error)
        raise
    finally:
        inbound.close()


class Inbound(Connection):
    """A bridge that begins with the INVITE of a caller.

    Args:
        request: The INVITE.
        tx: Its server transaction.
        policy: Which header fields cross.
        media: What relays the media.
        has_credentials: True if this element answers the challenges of the callee.
    """

    def __init__(
        self,
        request: Request,
        tx: ServerTransaction,
        policy: BridgePolicy,
        media: MediaRelay | None,
        has_credentials: bool,
    ) -> None:
        super().__init__(tx.stack, policy, media)
        self.request = request
        self.tx = tx
        self.has_credentials = has_credentials
        self.is_picked_up = False
        """True once another phone has taken the call that rings at the callee."""
        self.offer_given = description_of(request)
        self.caller = self.add_leg()
        self.callee: Leg = self.add_leg()
        self.connect(self.caller, self.callee)
        self.caller.note_allowed(request)
        tx.terms, self.caller.served = self.caller.terms, tx
        if tx.call is not None:  # of an earlier bridge that was refused
            self.caller.begins(tx.call)  # type: ignore[arg-type]  # each call is one

    @property
    def credentials_are_ours(self) -> bool:
        return self.has_credentials or self.tx.user is not None

    @property
    def ends(self) -> Bridged:
        """How both calls have ended; None for one that goes on elsewhere."""
        caller, callee = [
            None if leg.call is None or leg not in self.legs else leg.call.end
            for leg in (self.caller, self.callee)
        ]
        return Bridged(caller, callee)

    def close(self) -> None:
        super().close()
        # each leg refers to this object, so no reference cycle is left
        del self.caller, self.callee

    # ---- the INVITE to the callee

    def invite(self, target: URI | str, hops: int, headers: dict[str, Any]) -> Request:
        """Return the INVITE to the callee. Raises Reject, SIPError and TypeError."""
        request, policy = self.request, self.policy
        offer = self.offer_given
        if offer:
            translated = self.offer_to(self.caller, self.callee, offer)
            self.callee.shown = offer
        else:
            translated = offer
        body, content = with_description(request, offer, translated)
        invite = Request("INVITE", target, body=body)
        lines = policy.lines(request, Kind.INVITE, credentials=not self.credentials_are_ours)
        invite.headers.extend([*lines, *content])
        invite.from_ = policy.from_(request)
        to = policy.to(request)
        if to is not None:
            invite.to = to
        invite.max_forwards = hops
        required = tuple(tag for tag in request.require if tag.lower() not in RULES.option_tags)
        if required:
            invite.require = required
        self.callee.write_allowed(invite)
        if not offer:
            # the PRACK to an offer in a 1xx could not wait for the caller's answer
            invite.supported = tuple(sorted(self.stack.supported - {RELIABLE}))
        if headers:
            checked = Request("INVITE", target, **headers)
            for name in {line[0] for line in checked.headers.lines}:
                invite.headers.delete_header(name)
            invite.headers.extend(checked.headers.lines)
        return invite

    def place(self, targets: tuple[Target, ...], invite: Request, wish: Wish) -> None:
        """Call the callee, and answer the caller when the callee has answered."""
        placed = _PLACED.setdefault(self.stack, {})
        received = self.request.uri_text
        if received in placed.get(self.request.headers.get("Call-ID", ""), ()):
            raise Reject(482)
        if len(targets) > 1 or isinstance(targets[0], Binding):
            uris = {received}
            every = Parallel(self, invite, uris, wish)
            placed[call_id := str(invite.call_id)] = uris
            try:
                every.call(targets)
            finally:
                placed.pop(call_id, None)
            return
        expires = seconds_of(invite)  # now, because nothing may raise once the INVITE has left
        out = self.stack.sender.send(
            invite, wish.next_hop, listener=wish.listener, timers=wish.timers, retry=wish.retry()  # type: ignore[call-arg]
        )  # fmt: skip
        assert isinstance(out, ClientTransaction)  # no user was given
        out.terms, out.served = self.callee.terms, self.tx
        placed[call_id := out.request.headers["Call-ID"]] = {received, out.request.uri_text}
        try:
            if expires is not None:
                Expiry(out, expires)
            response = out.final(self.ringing, wish.timeout)
        except TransactionTimeout:
            if not self.is_picked_up:
                raise
        finally:
            placed.pop(call_id, None)
        if self.is_picked_up:
            wait_for_pickup(self, out)
            return
        if not response.is_success:
            raise self.callee.refusal(response)
        self.answered(out, response)

    def answered(self, out: ClientTransaction, response: Response) -> None:
        """Connect both sides, because the callee has answered."""
        call = out.call
        assert call is not None  # each 2xx begins one
        self.callee.call = call  # type: ignore[assignment]  # each call is one
        self.callee.note_allowed(response)
        if call.end is None:
            self.tx._hold(call)
        self.accept(response)

    # ---- responses of the callee

    def ringing(self, response: Response) -> None:
        """Pass on a 101 to 198. A 199 ends one branch of a fork, but the caller has one dialog (RFC
        6228 §4)."""
        if response.status == 199 or response.status == 100 or self.is_picked_up:
            return
        request, tx = self.request, self.tx
        self.callee.rings(response)
        found = description_of(response)
        state = self._caller_state()
        must = "Require" in request.headers.fields and lists(request, "Require")
        if must and state == ASKED:
            return  # RFC 3262 §5: it would need an offer
        if found and state not in (OFFERED, ASKED):
            found = b""
            provisional = request.response(response.status, response.reason)
        else:
            shown = self._to_caller(found) if found else found
            body, content = with_description(response, found, shown)
            provisional = request.response(response.status, response.reason, body=body)
            provisional.headers.extend(content)
        provisional.headers.extend(self.policy.lines(response, Kind.PROVISIONAL))
        self.caller.write_allowed(provisional)
        reliable = is_reliable(response) and state != ASKED
        tx.respond(provisional, reliable=reliable)
        if found:
            self.caller.shown = found

    def accept(self, response: Response) -> None:
        """Answer the caller with the 2xx of the callee, and wait for the ACK."""
        request, tx, callee = self.request, self.tx, self.callee
        call = callee.call
        assert call is not None  # it has answered
        is_late = call._late is not None
        found = call.offers.offer if is_late else call.remote_body
        answer = request.response(response.status, response.reason)
        if found and self._caller_state() in (OFFERED, ASKED):
            shown = self._to_caller(found)
            same = description_of(response) == found
            body, content = with_description(response, found, shown) if same else (shown, [])
            answer.body = body
            answer.headers.extend(content)
            self.caller.shown = found
        answer.headers.extend(self.policy.lines(response, Kind.SUCCESS))
        self.caller.write_allowed(answer)
        shown = self.caller.shown
        tx.respond(answer)
        caller = self.caller.call
        assert caller is not None  # the 2xx has begun it, at the latest
        caller._wait_for_ack()
        if caller.end is not None or call.end is not None:
            return
        if is_late:
            given = answer_in_ack(caller)
            callee.take_answer(self.answer_to(self.caller, callee, given))
            callee.shown = given
        elif found and not same_session(found, shown) and self.caller.shown is shown:
            # no UPDATE has come before the ACK; this greenlet has to see the end of the calls
            self.stack.callbacks.spawn(self._offer_again, self.caller, callee, found)

    def _offer_again(self, caller: Leg, callee: Leg, found: bytes) -> None:
        """Offer the callee's description to the caller, which has that of another branch."""
        try:
            given = reoffer(self, callee, caller, found)
            if not same_session(given, callee.shown):
                reoffer(self, caller, callee, given)
        except SIPError as error:
            if caller.is_open and caller.call is not None:
                caller.call.warn("session of the callee not accepted", error)
                caller.call.hangup()

    def _to_caller(self, found: bytes) -> bytes:
        if self.offer_given:
            return self.answer_to(self.callee, self.caller, found)
        return self.offer_to(self.callee, self.caller, found)

    def _caller_state(self) -> str:
        if self.caller.call is not None:
            return self.caller.negotiation.state
        return OFFERED if self.offer_given else ASKED

    # ---- an INVITE with Replaces

    def take_over(self, replaced: Leg) -> None:
        """Connect the caller with the other side of a bridged call, in place of the side that the
        INVITE replaces (RFC 3891 §3, RFC 5589 §7.3).

        If that fails, both sides are connected as before.

        Raises:
            Reject: 488, because the other side refuses the session.
        """
        kept = replaced.peer
        if kept is None or (kept.call is not None and kept.call.end is not None):
            raise Reject(488)
        if not kept._is_confirmed:
            if not isinstance(kept.bridge, Inbound):
                raise Reject(488)
            pick_up(self, kept.bridge, replaced)
            return
        call = kept.call
        assert call is not None  # it is open
        bridge, tag, shown, before = kept.bridge, kept.tag, kept.shown, call.offers.local
        replaced.peer = kept.peer = None  # the end of one does not end the other any more
        self.legs.remove(self.callee)
        self.callee = kept
        self.take(kept)
        self.connect(self.caller, kept)
        try:
            if self.offer_given:
                found = reoffer(self, self.caller, kept, self.offer_given)
            else:
                found = ask_for_offer(kept)
            answer = self.request.response(200, body=self._to_caller(found))
            self.caller.write_allowed(answer)
            self.tx.respond(answer)
            self.tx._hold(call)
            caller = self.caller.call
            assert caller is not None  # the 2xx has begun it
            caller._wait_for_ack()
            if not self.offer_given and caller.end is None:
                kept.take_answer(self.answer_to(self.caller, kept, answer_in_ack(caller)))
        except BaseException:
            if replaced.is_open and not 200 <= self.tx.answered < 300:
                # the dialog that the INVITE names must stay as it was (RFC 3891 §3)
                self.legs.remove(kept)
                self.caller.peer = None
                kept.tag, kept.shown = tag, shown
                bridge.take_back(kept, replaced)
                self.stack.callbacks.spawn(put_back, call, before)
            raise
        finally:
            kept.keep_session()

    # ---- the end

    def abandon(self, error: BaseException) -> None:
        """End the calls that still go on, because the bridge has failed or its core gives up."""
        headers = reason_of(error.cancel if isinstance(error, Cancelled) else None)
        for leg in self.legs:
            call = leg.call
            if call is None or call.end is not None or not call.is_confirmed:
                continue
            if headers:
                call.hangup(**headers)
            else:
                status = error.status if isinstance(error, SIPError) else 500
                leg.hang_up(None, End("us", "failed", status))
