"""How a request came here, and why: History-Info, Diversion, Reason; RFC 7044, 5806, 3326. Pure."""

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
    """Why a request was sent or a response is what it is (RFC 3326 §2): `value` is the protocol the
    cause is one of.

    reason-value = protocol *(SEMI reason-params), protocol = "SIP" / "Q.850" / token
    """

    __slots__ = ()
    cause = Parameter(
        "cause", number, "A SIP status, a Q.850 cause value, or what the protocol has."
    )
    text = Parameter("text", str, "The cause in words.")
    location = Parameter("location", str, "Where an ISUP release came from (RFC 8606 §4).")

    @property
    def protocol(self) -> str:
        """`SIP`, `Q.850` …: as it stands; compare without case (RFC 3261 §7.3.1)."""
        return self.value


# index-val = number *("." number), number = [ %x31-39 *DIGIT ] DIGIT
_INDEX = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*").fullmatch


def _index(text: str) -> str:
    if not _INDEX(text):
        raise ParseError("not numbers with dots between them", value=text)
    return text


class HistoryInfo(NameAddr):
    """One retargeting (RFC 7044 §5): the URI the request was sent to, and by `index` when.

    hi-entry = hi-targeted-to-uri *(SEMI hi-param), hi-param = hi-index / hi-target-param /
    hi-extension. What is said of the entry in the headers of its URI, Reason and Privacy, are
    attributes.
    """

    __slots__ = ()
    index = Parameter("index", _index, "Where in the tree of branches it stands: `1.2.1`.")  # type: ignore[assignment]
    rc = Parameter("rc", _index, "The index of the entry it is a contact of.")
    mp = Parameter("mp", _index, "The index of the entry it replaces with another user.")
    np = Parameter("np", _index, "The index of the entry whose target did not change.")

    @classmethod
    def parse(cls, text: str) -> HistoryInfo:
        return cls._make(NameAddr.parse(text))

    @property
    def reason(self) -> tuple[Reason, ...]:
        """Why the request went on from there; empty while it did not. Raises ParseError."""
        text = self.uri.headers.get("Reason")
        return tuple([Reason.parse(piece) for piece in split(text, ",")]) if text else ()

    @property
    def privacy(self) -> Privacy | None:
        """What is asked for this entry, `("history",)`. Raises ParseError."""
        text = self.uri.headers.get("Privacy")
        return Privacy.parse(text) if text else None


class Diversion(NameAddr):
    """From whom the call was diverted, the last one first (RFC 5806 §4, historic, and in use where
    no History-Info is).

    Diversion = 1#( name-addr *( ";" diversion-params ) )
    """

    __slots__ = ()
    reason = Parameter(
        "reason", lowered, "`user-busy`, `no-answer`, `unconditional` … in lower case."
    )
    counter = Parameter("counter", _count, "How often it was diverted here.")
    limit = Parameter("limit", _count, "How often it may be diverted.")
    privacy = Parameter("privacy", lowered, "`full`, `name`, `uri` or `off`, in lower case.")
    screen = Parameter("screen", lowered, "`yes` or `no`, in lower case.")

    @classmethod
    def parse(cls, text: str) -> Diversion:
        return cls._make(NameAddr.parse(text))
