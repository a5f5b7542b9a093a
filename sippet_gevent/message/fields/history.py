"""The history of a request: History-Info, Diversion, Reason; RFC 7044, 5806, 3326. Pure."""

from __future__ import annotations

import re

from ...errors import ParseError
from ..address import NameAddr
from ..grammar import number, split
from .base import Parameter, Word, lowered
from .identity import Privacy


def _count(text: str) -> int:
    # diversion-counter = "counter" "=" 1*2DIGIT
    return number(text, 99)


class Reason(Word):
    """The reason of a request or a response (RFC 3326 §2). `value` is the protocol of the cause.

    reason-value = protocol *(SEMI reason-params), protocol = "SIP" / "Q.850" / token
    """

    __slots__ = ()
    cause = Parameter(
        "cause", number, "A SIP status, a Q.850 cause, or a number of another protocol."
    )
    text = Parameter("text", str, "The cause in words.")
    location = Parameter("location", str, "The origin of an ISUP release (RFC 8606 §4).")

    @property
    def protocol(self) -> str:
        """`SIP`, `Q.850` … as written; compare it without case (RFC 3261 §7.3.1)."""
        return self.value


# index-val = number *("." number), number = [ %x31-39 *DIGIT ] DIGIT
_INDEX = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*").fullmatch


def _index(text: str) -> str:
    if not _INDEX(text):
        raise ParseError("not numbers with dots between them", value=text)
    return text


class HistoryInfo(NameAddr):
    """One target of a request (RFC 7044 §5): its URI, and its `index` in the order of targets.

    hi-entry = hi-targeted-to-uri *(SEMI hi-param), hi-param = hi-index / hi-target-param /
    hi-extension. Reason and Privacy in the headers of its URI are attributes.
    """

    __slots__ = ()
    index = Parameter("index", _index, "The position in the tree of branches: `1.2.1`.")  # type: ignore[assignment]  # instead of tuple.index()
    rc = Parameter("rc", _index, "The index of the entry of which it is a contact.")
    mp = Parameter("mp", _index, "The index of the entry that it replaces with another user.")
    np = Parameter("np", _index, "The index of the entry whose target did not change.")

    @classmethod
    def parse(cls, text: str) -> HistoryInfo:
        return cls._make(NameAddr.parse(text))

    @property
    def reason(self) -> tuple[Reason, ...]:
        """The reasons why the request left this target; () if it did not. Raises ParseError."""
        text = self.uri.headers.get("Reason")
        return tuple([Reason.parse(piece) for piece in split(text, ",")]) if text else ()

    @property
    def privacy(self) -> Privacy | None:
        """The privacy of this entry, such as `("history",)`, or None. Raises ParseError."""
        text = self.uri.headers.get("Privacy")
        return Privacy.parse(text) if text else None


class Diversion(NameAddr):
    """A party that diverted the call, the last one first (RFC 5806 §4). It is historic, but used
    where History-Info is not.

    Diversion = 1#( name-addr *( ";" diversion-params ) )
    """

    __slots__ = ()
    reason = Parameter(
        "reason", lowered, "`user-busy`, `no-answer`, `unconditional` … in lower case."
    )
    counter = Parameter("counter", _count, "The number of diversions by this party.")
    limit = Parameter("limit", _count, "Most diversions of the call.")
    privacy = Parameter("privacy", lowered, "`full`, `name`, `uri` or `off`, in lower case.")
    screen = Parameter("screen", lowered, "`yes` or `no`, in lower case.")

    @classmethod
    def parse(cls, text: str) -> Diversion:
        return cls._make(NameAddr.parse(text))
