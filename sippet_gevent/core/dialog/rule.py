"""Rule: what one RFC adds to INVITE sessions, such as reliable provisional responses or session
timers.

A rule is one file with one subclass of `Rule`, and one row of the table in rules.py. The session
asks the rules of the table in its order, and names none of them. A rule overrides the hooks that it
needs. A hook that no rule of the table overrides costs nothing: `Rules` knows for each hook which
rules have it. A rule that names header fields or methods costs nothing either, until the session
meets one of them.

| hook | when | may |
|---|---|---|
| inviting | an INVITE of ours that begins a session leaves | add header fields |
| begins | a session begins, before our first response with a tag, or at the peer's | refuse |
| requesting | a further request of ours within the session leaves | add header fields |
| received | a request of the peer came within the session | answer or refuse it |
| provisional | a 101 to 199 to our INVITE came | hide it from the application |
| holds | our 101 to 299 to an INVITE is to leave | make it wait |
| responding | our 101 to 299 to an INVITE or UPDATE is to leave | add header fields |
| answered | a 2xx to an INVITE or UPDATE was sent or came | note what was agreed |
| expire | a deadline of the rule has come | send something |
| ended | the session has ended | end its timers |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple, Protocol

from ...errors import SIPError
from ...message.message import Request, Response
from ..client.transaction import ClientTransaction
from ..element import DialogTable, Element, ServedRequest
from .call import OnProvisional
from .dialog import Dialog
from .end import End
from .events import CallEvent
from .handlers import ReinviteCore
from .offer_answer import OfferAnswer


class Session(Protocol):
    """An INVITE session, as its rules see it: an InviteSession of invite.py."""

    stack: Element
    """The element. `session.stack.deadlines.add(due, rule)` has `rule.expire(now)` called."""

    @property
    def dialog(self) -> Dialog:
        """Tags, route set, remote target and sequence numbers."""

    invite: Request
    """The INVITE that began the session, ours or the peer's."""

    is_caller: bool
    """True when our INVITE began the session."""

    is_confirmed: bool
    """True from the 2xx on; false while the dialog is early."""

    end: End | None
    """How the session has ended; None before. A rule that knows more may replace it in `ended`."""

    offers: OfferAnswer
    """Its offers and answers."""

    handlers: dict[str, ReinviteCore]
    """The application's cores for requests within the call, by method."""

    on_reinvite: ReinviteCore | None
    """The application's core for re-INVITEs, if it serves them."""

    @property
    def served_invite(self) -> ServedRequest | None:
        """The INVITE of the peer that has no final response yet; None without one."""

    @property
    def sent_invite(self) -> Request:
        """Our last INVITE. In a session that the peer has begun, it is a re-INVITE."""

    def answer_to(self, response: Response) -> bytes:
        """Note a reliable response of 101 to 199 to our INVITE, and return our answer for its
        PRACK if it has an offer; empty otherwise."""

    def refuse_late_offer(self) -> None:
        """Answer an offer in a 2xx that waits for the application, and accept no stream of it."""

    def tell(self, event: CallEvent) -> None:
        """Add an event of the call for the application."""

    def wait_for_ack(self) -> bool:
        """Wait for the ACK to our 2xx, in a greenlet of the rule. False if the call has ended."""

    def warn(self, event: str, error: BaseException) -> None:
        """Log that something of this session has failed."""

    def request(
        self,
        method: str,
        *,
        timeout: float | None = None,
        on_provisional: OnProvisional | None = None,
        body: bytes | str = b"",
        **headers: Any,
    ) -> Response:
        """Send a request within the session and return its final response; see Call.request().

        It waits, so call it in a greenlet: `session.stack.callbacks.spawn(session.request,
        "UPDATE")`.
        """

    def send(self, method: str, *, body: bytes | str = b"", **headers: Any) -> ClientTransaction:
        """Send a request within the session without waiting for its response. Raises SIPError."""

    def refuse(self, status: int, error: SIPError | None = None, **headers: Any) -> None:
        """Refuse the INVITE that we serve. Its core gets `error` at its next call of this library,
        or else Cancelled."""

    def hangup(self, **headers: Any) -> None:
        """End the session with a BYE, or with a CANCEL or a refusal while it is early."""

    def wake(self) -> None:
        """Ask `holds()` of a 2xx that waits again."""


class Rule:
    """What one RFC adds to one INVITE session. Each session has an instance of its own.

    Subclass it, override the hooks that the RFC needs, and add a row to RULES in rules.py. Hooks
    must not wait: `expire` runs in the hub, the others in the greenlet that carries the message.

    A rule with `fields` or `takes` is made when the session meets one of them, and none of its
    hooks is asked before. Other rules are made when the session begins.

    Args:
        session: The session.
    """

    __slots__ = ("session",)

    methods: ClassVar[tuple[str, ...]] = ()
    """Methods that the rule serves within a session. Allow names them (§20.5)."""

    fields: ClassVar[tuple[str, ...]] = ()
    """Header fields, in their usual form, that concern the rule: in the INVITE that begins the
    session, in requests of the peer, in a 101 to 199 to our INVITE, and in our responses."""

    takes: ClassVar[tuple[str, ...]] = ()
    """Methods of requests of the peer that concern the rule."""

    is_late: ClassVar[bool] = False
    """True for a rule with `fields` that concerns each session from the 2xx on, and each that we
    begin. The sessions that peers begin make it with their 2xx, because many ring and get none."""

    def __init__(self, session: Session) -> None:
        self.session = session

    @classmethod
    def inviting(cls, element: Element, request: Request) -> None:
        """Complete an INVITE of ours that begins a session.

        It is a class method, because no session exists yet: each response with a new To tag begins
        one.
        """

    def begins(self, request: Request, dialogs: DialogTable) -> None:
        """Note the INVITE that begins the session.

        If the INVITE is the peer's, this is called before our first response with a To tag leaves.
        A Reject refuses the INVITE then.

        Raises:
            Reject: The INVITE cannot be served, for example because its Replaces matches no dialog.
        """

    def requesting(self, request: Request) -> None:
        """Complete a request of ours within the session, BYE included. An ACK is not shown."""

    def received(self, request: Request, tx: ServedRequest) -> int | Response | None:
        """Take a request of the peer within the session, BYE included.

        The request is in order and requires no unknown extension. Rules are asked in the order of
        the table, and the first answer is sent.

        Returns:
            A final status or a final Response to answer the request. None leaves it to the next
            rule, and then to the session and the application.

        Raises:
            Reject: The request is refused.
        """
        return None

    def provisional(self, response: Response) -> bool:
        """Take a response of 101 to 199 to our INVITE.

        Returns:
            False hides the response from the application, as a repetition.
        """
        return True

    def holds(self, response: Response) -> bool:
        """True when our response of 101 to 299 to an INVITE must wait. Call `session.wake()` when
        it need not wait any more."""
        return False

    def responding(self, request: Request, response: Response) -> None:
        """Complete our response of 101 to 299 to an INVITE or UPDATE, the first INVITE included.

        Raises:
            Reject: The request is refused instead.
        """

    def answered(self, request: Request, response: Response, *, by_us: bool) -> None:
        """Note a 2xx to an INVITE or UPDATE, that of the first INVITE included.

        Args:
            request: The INVITE or UPDATE.
            response: Its 2xx.
            by_us: True when the request was the peer's and the 2xx is ours.
        """

    def expire(self, now: float) -> None:
        """Take a deadline that the rule has set. It cannot be removed, so check whether it still
        applies."""

    def ended(self, reason: End) -> None:
        """Note that the session has ended."""


class Row(NamedTuple):
    """A row of the table of rules."""

    option_tag: str | None
    """The option tag that the stack supports with this rule, in lower case; None if the RFC has
    none."""

    rule: type[Rule]
    """The rule."""


Hook = tuple[int, ...]
"""Places in `session.rules` of the rules that have a hook."""


class Rules:
    """A table of rules, with the rules of each hook.

    Each attribute with the name of a hook has the places of the rules that override it, in the
    order of the table.

    Args:
        rows: The rows.
    """

    __slots__ = (
        "always", "answered", "begins", "by_field", "by_method", "classes", "ended", "fields",
        "holds", "inviting", "late", "methods", "option_tags", "provisional", "received",
        "requesting", "responding", "ringing", "rows", "unmet",
    )  # fmt: skip

    def __init__(self, rows: Iterable[Row | tuple[str | None, type[Rule]]] = ()) -> None:
        self.rows = tuple(Row(*row) for row in rows)
        self.classes = tuple(row.rule for row in self.rows)
        """The rules, in order. A session has at most one instance of each."""
        self.unmet: tuple[None, ...] = (None,) * len(self.classes)
        """The rules of a session that has met none."""
        self.ringing = tuple(
            place for place, rule in enumerate(self.classes) if not (rule.fields or rule.takes)
        )
        """Places of the rules that each session has from its begin."""
        self.late = tuple(place for place, rule in enumerate(self.classes) if rule.is_late)
        """Places of the rules that a session which a peer has begun has from its 2xx on."""
        self.always = tuple(sorted(self.ringing + self.late))
        """Places of the rules that a session which we have begun has from its begin."""
        self.by_field = tuple(
            (name, place) for place, rule in enumerate(self.classes) for name in rule.fields
        )
        """Header fields, and the place of the rule that each concerns."""
        self.fields = frozenset(name for name, _ in self.by_field)
        self.by_method: dict[str, Hook] = {
            method: tuple(place for place, rule in enumerate(self.classes) if method in rule.takes)
            for rule in self.classes
            for method in rule.takes
        }
        """Methods, and the places of the rules that each concerns."""
        self.option_tags = frozenset(row.option_tag for row in self.rows if row.option_tag)
        """The option tags that sessions support and understand in Require."""
        self.methods = frozenset(method for rule in self.classes for method in rule.methods)
        """The methods that sessions serve by their rules."""
        self.begins = self._with("begins")
        self.requesting = self._with("requesting")
        self.received = self._with("received")
        self.provisional = self._with("provisional")
        self.holds = self._with("holds")
        self.responding = self._with("responding")
        self.answered = self._with("answered")
        self.ended = self._with("ended")
        self.inviting = tuple(
            rule
            for rule in self.classes
            if rule.inviting.__func__ is not Rule.inviting.__func__  # type: ignore[attr-defined]  # a class method
        )
        """The classes that complete an INVITE of ours."""

    def _with(self, hook: str) -> Hook:
        """Return the places of the rules that override a hook."""
        base = getattr(Rule, hook)
        return tuple(
            place for place, rule in enumerate(self.classes) if getattr(rule, hook) is not base
        )
