"""Negotiation: which messages carry the offers and answers of a dialog, RFC 6337 §2. Pure.

| pattern | offer | answer | state between them |
|---|---|---|---|
| 1 | INVITE | 2xx to INVITE | OFFERED |
| 2 | 2xx to INVITE | ACK | OFFERED_2XX, after ASKED |
| 3 | INVITE | reliable 1xx | OFFERED, then ANSWERED_1XX until the PRACK |
| 4 | reliable 1xx | PRACK | OFFERED_1XX, after ASKED |
| 5 | PRACK | 2xx to PRACK | OFFERED_PRACK, after ANSWERED_1XX |
| 6 | UPDATE | 2xx to UPDATE | OFFERED_UPDATE |

A description in an unreliable 1xx is a preview of the answer (RFC 6337 §3.1.1). After the answer,
further descriptions in responses to the same INVITE are ignored. If a 2xx comes without the answer,
the preview counts as the answer, because many phones send it once.

Descriptions are bytes here. Nothing is parsed.
"""

from __future__ import annotations

import re
from enum import Enum

from ...errors import TransactionStateError

# Messages that may carry an offer or an answer. A dict finds text faster than an Enum.
INVITE = "INVITE"
UNRELIABLE = "an unreliable 1xx"
RELIABLE = "a reliable 1xx"
ACCEPTED = "the 2xx to an INVITE"
ACK = "ACK"
PRACK = "PRACK"
PRACK_ACCEPTED = "the 2xx to a PRACK"
UPDATE = "UPDATE"
UPDATE_ACCEPTED = "the 2xx to an UPDATE"

CARRIERS = (
    INVITE, UNRELIABLE, RELIABLE, ACCEPTED, ACK, PRACK, PRACK_ACCEPTED, UPDATE, UPDATE_ACCEPTED,
)  # fmt: skip

# States: the offer that waits for its answer, if any.
QUIET = "no offer waits"
OFFERED = "the offer of an INVITE waits"
ASKED = "an INVITE without an offer waits for one"
OFFERED_1XX = "the offer of a reliable 1xx waits for the PRACK"
OFFERED_2XX = "the offer of a 2xx waits for the ACK"
ANSWERED_1XX = "the PRACK to the answer may carry an offer"
OFFERED_PRACK = "the offer of a PRACK waits"
OFFERED_UPDATE = "the offer of an UPDATE waits"

STATES = (
    QUIET, OFFERED, ASKED, OFFERED_1XX, OFFERED_2XX, ANSWERED_1XX, OFFERED_PRACK, OFFERED_UPDATE,
)  # fmt: skip


class Means(Enum):
    """What the description of a message is, or what a message without one lacks."""

    NOTHING = "nothing"
    """The message has no description, and needs none."""

    OFFER = "an offer"
    ANSWER = "an answer"

    PREVIEW = "a preview of the answer"
    """RFC 6337 §3.1.1."""

    IGNORED = "a description that is neither"
    """RFC 6337 §2.4: it changes nothing."""

    NO_OFFER = "no offer, where one is due"
    NO_ANSWER = "no answer, where one is due"


_TABLE: dict[tuple[str, str, bool], tuple[Means, str]] = {
    # state, message, whether it has a description: what that means, and the next state
    (QUIET, INVITE, True): (Means.OFFER, OFFERED),
    (QUIET, INVITE, False): (Means.NOTHING, ASKED),
    (QUIET, UPDATE, True): (Means.OFFER, OFFERED_UPDATE),
    # patterns 1 and 3
    (OFFERED, UNRELIABLE, True): (Means.PREVIEW, OFFERED),
    (OFFERED, RELIABLE, True): (Means.ANSWER, ANSWERED_1XX),
    (OFFERED, ACCEPTED, True): (Means.ANSWER, QUIET),
    (OFFERED, ACCEPTED, False): (Means.NO_ANSWER, QUIET),
    # patterns 2 and 4
    (ASKED, UNRELIABLE, True): (Means.PREVIEW, ASKED),
    (ASKED, RELIABLE, True): (Means.OFFER, OFFERED_1XX),
    # RFC 3262 §5 wants an offer here. A peer that leaves it out has the 2xx for it.
    (ASKED, RELIABLE, False): (Means.NO_OFFER, ASKED),
    (ASKED, ACCEPTED, True): (Means.OFFER, OFFERED_2XX),
    (ASKED, ACCEPTED, False): (Means.NO_OFFER, QUIET),
    (OFFERED_1XX, PRACK, True): (Means.ANSWER, QUIET),
    (OFFERED_1XX, PRACK, False): (Means.NO_ANSWER, QUIET),
    (OFFERED_2XX, ACK, True): (Means.ANSWER, QUIET),
    (OFFERED_2XX, ACK, False): (Means.NO_ANSWER, QUIET),
    # pattern 5
    (ANSWERED_1XX, PRACK, True): (Means.OFFER, OFFERED_PRACK),
    (ANSWERED_1XX, PRACK, False): (Means.NOTHING, QUIET),
    (ANSWERED_1XX, ACCEPTED, True): (Means.IGNORED, QUIET),
    (ANSWERED_1XX, ACCEPTED, False): (Means.NOTHING, QUIET),
    (OFFERED_PRACK, PRACK_ACCEPTED, True): (Means.ANSWER, QUIET),
    (OFFERED_PRACK, PRACK_ACCEPTED, False): (Means.NO_ANSWER, QUIET),
    # pattern 6
    (OFFERED_UPDATE, UPDATE_ACCEPTED, True): (Means.ANSWER, QUIET),
    (OFFERED_UPDATE, UPDATE_ACCEPTED, False): (Means.NO_ANSWER, QUIET),
}

_RECEIVED = {
    # An offer in the PRACK of a 1xx without an answer is a mistake of the peer (RFC 6337 §2.2). It
    # waits for an answer anyway, and only the 2xx to the PRACK can have it.
    (QUIET, PRACK, True): (Means.OFFER, OFFERED_PRACK),
}

_ANSWERED_BY = {OFFERED_1XX: PRACK, OFFERED_2XX: ACK}

_FAILED = {  # a request that failed: the states in which its offer waits, and the next one
    (UPDATE, OFFERED_UPDATE): QUIET,
    (PRACK, OFFERED_PRACK): ANSWERED_1XX,  # RFC 6337 §2.3: it may be sent again without the offer
}

_OF_INVITE = frozenset((OFFERED, ASKED, OFFERED_1XX, OFFERED_2XX, ANSWERED_1XX, OFFERED_PRACK))
_NONE_AGREED = (b"", b"")  # of all first INVITEs
_IGNORED = frozenset((UNRELIABLE, RELIABLE, ACCEPTED))  # with a description after the answer


class Negotiation:
    """The offers and answers of one dialog, and the session that they have agreed on.

    Each side of a dialog tells its own of every message that may carry a description:

        caller.sent(INVITE, offer)          # Means.OFFER
        caller.received(ACCEPTED, answer)   # Means.ANSWER
        caller.local, caller.remote         # offer, answer
    """

    __slots__ = (
        "_before", "invite_is_ours", "last_sent", "local", "local_is_answer", "offer",
        "offer_is_ours", "preview", "remote", "state",
    )  # fmt: skip

    def __init__(self) -> None:
        self.state = QUIET
        self.local = b""
        """Our description that was agreed last."""
        self.remote = b""
        """The peer's description that was agreed last."""
        self.local_is_answer = False
        """True when `local` answers `remote`, False when `remote` answers `local`."""
        self.offer = b""
        """The offer that waits for its answer."""
        self.offer_is_ours = False
        self.preview = b""
        """The description of an unreliable 1xx, until the answer comes."""
        self.invite_is_ours = False
        """True when the last INVITE of the dialog is ours."""
        self.last_sent = b""
        """The description with the highest version that we have sent, whether it was agreed or not.
        The version of the next one counts from it (RFC 3264 §8)."""
        self._before: tuple[bytes, bytes] | None = None

    def sent(self, carrier: str, description: bytes = b"") -> Means:
        """Note a message that we send.

        A description that a response repeats after the answer is ignored, here as by the peer (RFC
        6337 §3.1.1).

        Raises:
            TransactionStateError: The message must not carry a description now. Nothing changes.
        """
        if carrier == INVITE and self.state != QUIET:
            raise TransactionStateError(f"no INVITE can be sent now, because {self.state}")
        if description:
            if (self.state, carrier, True) in _TABLE:
                # what is agreed may be sent again, but the version of a refused offer stays used
                if description != self.local or not self.last_sent:
                    self.last_sent = description
            elif carrier not in _IGNORED:
                raise TransactionStateError(
                    f"{carrier} must not carry a session description now, because {self.state} "
                    "(RFC 6337 §2.2)"
                )
        return self._take(carrier, description, True)

    def received(self, carrier: str, description: bytes = b"") -> Means:
        """Note a message of the peer. One that `refusal` refuses must not be noted."""
        return self._take(carrier, description, False)

    def _take(self, carrier: str, description: bytes, ours: bool) -> Means:
        if carrier == ACCEPTED:
            self._before = None  # what has succeeded is not undone
        has_description = description != b""
        key = self.state, carrier, has_description
        row = _TABLE.get(key)
        if row is None:
            row = None if ours else _RECEIVED.get(key)
            if row is None:
                return Means.IGNORED if has_description else Means.NOTHING
        means, state = row
        if carrier == INVITE:
            self.invite_is_ours = ours
            self._before = (self.local, self.remote) if self.local or self.remote else _NONE_AGREED
            self.preview = b""
        if means is Means.PREVIEW:
            self.preview = description
        elif means is Means.OFFER:
            self.offer, self.offer_is_ours, self.preview = description, ours, b""
        elif means is Means.ANSWER:
            self._agree(description)
        elif means is Means.NO_ANSWER:
            if self.preview:
                self._agree(self.preview)
                means = Means.ANSWER
            else:
                # a success without an answer has accepted the offer; the other side is as it was
                self._agree(self.remote if self.offer_is_ours else self.local)
        self.state = state
        return means

    def _agree(self, answer: bytes) -> None:
        if self.offer_is_ours:
            self.local, self.remote = self.offer, answer
        else:
            self.local, self.remote = answer, self.offer
        self.local_is_answer = not self.offer_is_ours
        self.offer = self.preview = b""

    def failed(self, carrier: str) -> bool:
        """Note that an INVITE, UPDATE or PRACK has failed: refused, or without any response.

        The session is as it was before (RFC 3261 §14.1, RFC 3311 §5.3). If an INVITE fails, all
        exchanges since it began are undone (RFC 6141 §3.1).

        Returns:
            True when the failure undoes an exchange that was complete. The UAC should make a new
            offer then, so that both sides agree on the session (RFC 6141 §3.4).
        """
        if carrier != INVITE:
            state = _FAILED.get((carrier, self.state))
            if state is not None:
                self.state, self.offer = state, b""
            return False
        if self.state in _OF_INVITE:
            self.state, self.offer = QUIET, b""
        self.preview = b""
        before, self._before = self._before, None
        changed = before is not None and before != (self.local, self.remote)
        if before is not None:
            self.local, self.remote = before
        return changed

    def refusal(self, carrier: str, has_description: bool) -> int | None:
        """Return the status that refuses an INVITE or UPDATE of the peer now; None if it is served.

        An UPDATE without an offer disturbs no exchange. Otherwise 491 protects an offer of ours,
        and 500 with Retry-After one of the peer's (RFC 3261 §14.2, RFC 3311 §5.2, RFC 6337 §4.3).
        """
        state = self.state
        if state == QUIET or (carrier == UPDATE and not has_description):
            return None
        # ASKED and ANSWERED_1XX have no offer that waits, but an INVITE
        ours = self.invite_is_ours if state in (ASKED, ANSWERED_1XX) else self.offer_is_ours
        return 491 if ours else 500

    @property
    def takes_prack(self) -> bool:
        """True when a PRACK of the peer may carry a description: an answer, or an offer."""
        key = self.state, PRACK, True
        return key in _TABLE or key in _RECEIVED

    @property
    def may_offer(self) -> bool:
        """True when an INVITE or UPDATE of ours may carry an offer (RFC 3264 §4)."""
        return self.state == QUIET

    @property
    def owes_answer(self) -> bool:
        """True when an offer of the peer waits for our answer."""
        return bool(self.offer) and not self.offer_is_ours

    def owes_answer_in(self, carrier: str) -> bool:
        """True when this message of ours carries the answer to the offer of the peer that waits.

        The offer of an UPDATE may wait while a 2xx or a reliable 1xx to our INVITE arrives. Its
        answer is due in the 2xx to the UPDATE, not in our ACK or PRACK (RFC 3311 §5.2).
        """
        return self.owes_answer and _ANSWERED_BY.get(self.state) == carrier

    def __repr__(self) -> str:
        return f"<Negotiation: {self.state}>"


def same_session(one: bytes, other: bytes) -> bool:
    """True for descriptions that differ in their o= line at most, such as that of a refresh.

    RFC 3264 §8 wants a higher version for each change. Peers raise it without one (RFC 4028 §7.4
    advises against it), and change without raising it. So the rest decides.
    """
    return one == other or (
        one[:2] == other[:2] == b"v=" and _without_origin(one) == _without_origin(other)
    )


_ORIGIN = re.compile(rb"^(o=\S+ \S+ )(\d{1,19})( [^\r\n]*)", re.MULTILINE)
"""The o= line of a description, with its version in the middle. It has 64 bits (RFC 3264 §5)."""


def following(description: bytes, last_sent: bytes) -> bytes:
    """Return a description as the peer may get it after the one that we sent last.

    In one session, the o= line stays as it is, but its version goes up by one with each change (RFC
    3264 §8, RFC 6337 §5.2.5). What a bridge passes on may have another origin, or a version that
    was used before, because the other side knows only what it has sent itself (RFC 3725 §7).

    Args:
        description: The description to send.
        last_sent: The description with the highest version that we have sent; b"" for none.
    """
    if not last_sent or same_session(description, last_sent):
        return last_sent or description
    before, here = _ORIGIN.search(last_sent), _ORIGIN.search(description)
    if before is None or here is None:
        return description  # the application's own, such as a body that is no SDP
    version = str(int(before[2]) + 1).encode()
    return description[: here.start()] + before[1] + version + before[3] + description[here.end() :]


def continuing(description: bytes, last_sent: bytes) -> bytes:
    """Return a description of the application's own as the peer may get it after our last one.

    It stays as it is if its o= line is right: that of the last one, or with a higher version. Any
    other o= line is that of following(). A peer need not look at a change whose version has not
    gone up, and the rest of the line must stay (RFC 3264 §8).

    Args:
        description: The description to send.
        last_sent: The description with the highest version that we have sent; b"" for none.
    """
    before, here = _ORIGIN.search(last_sent), _ORIGIN.search(description)
    if before is None or here is None:
        return description
    is_higher = int(here[2]) > int(before[2])
    if is_higher and before.group(1, 3) == here.group(1, 3):
        return description
    return following(description, last_sent)


def _without_origin(description: bytes) -> list[bytes]:
    return [line for line in description.splitlines() if line[:2] != b"o="]
