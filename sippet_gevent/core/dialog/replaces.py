"""Replaces and Join: an INVITE that takes the place of a call, or enters it, RFC 3891 and RFC 3911.

| the dialog that Replaces names | answer | RFC 3891 §3 |
|---|---|---|
| is not known, or is no call | 481 | |
| has just ended | 603 | no phone rings for a call that is not wanted any more |
| is confirmed, and the INVITE says `early-only` | 486 | |
| is early, and the peer has begun it | 481 | |
| may not be replaced by this caller | 403 | |
| anything else | the core's | its 2xx ends the replaced call by BYE or CANCEL |

If the core refuses the INVITE, the call that it names stays as it was.

Both tags of a dialog are random, so only its two sides know them, and peers that they tell. Without
`Stack(may_replace=...)` that is enough to replace a call, as for Target-Dialog (RFC 4538). It is
not enough to join one. An application that mixes media lists `join` in `supported`, and authorizes.
"""

from __future__ import annotations

from typing import Protocol

from ...errors import Reject
from ...message.message import Request, Response
from ...message.parameters import Parameters
from ..element import DialogTable, ServedRequest
from .call import MayReplace
from .dialog import DialogID
from .end import End
from .invite import InviteSession
from .rule import Rule, Session

REPLACES, JOIN = "replaces", "join"
"""The option tags."""


class NamesDialog(Protocol):
    """A header field that names a dialog: Replaces, Join or Target-Dialog."""

    @property
    def value(self) -> str:
        """The Call-ID."""

    @property
    def parameters(self) -> Parameters:
        """The two tags."""


def dialog_of(named: NamesDialog) -> DialogID:
    """Return the id of the dialog that a header field names, as this side has it.

    The To tag of Replaces and Join is ours (RFC 3891 §3). The remote tag of Target-Dialog is ours,
    because its sides are those of its sender (RFC 4538 §7).
    """
    tags = named.parameters
    local = tags.get("to-tag") or tags.get("remote-tag") or ""
    return named.value, local, tags.get("from-tag") or tags.get("local-tag") or ""


def refusal(call: InviteSession | None, *, has_ended: bool, early_only: bool) -> int | None:
    """Return the status that refuses a Replaces (RFC 3891 §3); None if it may go on.

    Args:
        call: The call that it names; None without one.
        has_ended: True if that call has just ended.
        early_only: True if the INVITE has that flag.
    """
    if call is None:
        return 603 if has_ended else 481
    if call.end is not None:
        return 603
    if call.is_confirmed:
        return 486 if early_only else None
    return None if call.is_caller else 481


def replaced_by(
    request: Request, dialogs: DialogTable, may_replace: MayReplace | None
) -> InviteSession | None:
    """Return the call that an INVITE with Replaces may replace. Raises Reject."""
    named = request.replaces
    assert named is not None  # it is there
    key = dialog_of(named)
    call = _session(dialogs, key)
    status = refusal(call, has_ended=dialogs.has_ended(key), early_only=named.early_only)
    if status is not None:
        raise Reject(status)
    if may_replace is not None and not may_replace(request, call):
        raise Reject(403)
    return call


class Replacing(Rule):
    """Replaces, RFC 3891."""

    __slots__ = ("_is_replaced", "_replaced")

    fields = ("Replaces",)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._replaced: InviteSession | None = None  # the call that this one replaces
        self._is_replaced = False

    def begins(self, request: Request, dialogs: DialogTable) -> None:
        """Find the call that the INVITE replaces. Raises Reject."""
        if "Replaces" not in request.headers.fields or self.session.is_caller:
            return
        if len(request.headers.all("Replaces")) != 1 or "Join" in request.headers.fields:
            raise Reject(400, "Contradictory Replaces")
        self._replaced = replaced_by(request, dialogs, self.session.stack.may_replace)

    def received(self, request: Request, tx: ServedRequest) -> int | Response | None:
        """Refuse Replaces in anything but an INVITE (§3)."""
        if "Replaces" in request.headers.fields and request.method != "INVITE":
            raise Reject(400, "Replaces Is For INVITE")
        return None

    def answered(self, request: Request, response: Response, *, by_us: bool) -> None:
        """End the call that our 2xx replaces, by a BYE or a CANCEL (§3)."""
        if request.method != "INVITE":
            return  # an UPDATE while it rings replaces nothing
        replaced, self._replaced = self._replaced, None
        if replaced is None or replaced.end is not None:
            return
        rule = replaced.rule_of(Replacing)
        if rule is not None:
            rule._is_replaced = True
        # it may have a name to resolve, and the 2xx must not wait for that
        self.session.stack.callbacks.spawn(replaced.hangup)

    def ended(self, reason: End) -> None:
        """Say that the call was replaced, and let go of the one that it was to replace."""
        self._replaced = None
        if self._is_replaced:
            self.session.end = reason._replace(cause="replaced")


class Joining(Rule):
    """Join, RFC 3911, if the application lists `join` in `supported`.

    It finds the call with `stack.find_call(request.join)` and mixes the media, or answers 488 (§4).
    """

    __slots__ = ()

    fields = ("Join",)

    def begins(self, request: Request, dialogs: DialogTable) -> None:
        """Refuse a Join that names no call, or that is not authorized. Raises Reject."""
        stack = self.session.stack
        if (
            "Join" not in request.headers.fields
            or self.session.is_caller
            or JOIN not in stack.supported
        ):
            return
        if len(request.headers.all("Join")) != 1:
            raise Reject(400, "More Than One Join")
        named = request.join
        assert named is not None  # it is there
        key = dialog_of(named)
        call = _session(dialogs, key)
        if call is None or call.end is not None:
            raise Reject(603 if call is not None or dialogs.has_ended(key) else 481)
        if stack.may_replace is None or not stack.may_replace(request, call):
            raise Reject(403)


def _session(dialogs: DialogTable, key: DialogID) -> InviteSession | None:
    call = dialogs.named(key)
    return call if isinstance(call, InviteSession) else None
