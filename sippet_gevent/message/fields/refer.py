"""Header fields of REFER: Refer-To, Referred-By, Refer-Sub, Refer-Events-At; RFC 3515, 3892, 4488,
7614. Pure."""

from __future__ import annotations

import re

from ...errors import ParseError
from ..address import NameAddr
from .base import Parameter, Reference, Valued, lowered
from .replaces import Replaces


class ReferTo(NameAddr):
    """The target of a REFER (RFC 3515 §2.1): ( name-addr / addr-spec ) *(SEMI generic-param)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> ReferTo:
        return cls._make(NameAddr.parse(text))

    @property
    def method(self) -> str:
        """The method of the new request, INVITE by default (RFC 3261 §19.1.1)."""
        return self.uri.parameters.get("method") or "INVITE"

    @property
    def replaces(self) -> Replaces | None:
        """The dialog that the new one replaces, in an attended transfer (RFC 5589 §7), or None.
        Raises ParseError."""
        text = self.uri.headers.get("Replaces")
        return Replaces.parse(text) if text else None

    @property
    def requires_replaces(self) -> bool:
        """True if the new request must not reach a phone that would ring instead (RFC 5589
        §7.5)."""
        tags = self.uri.headers.get("Require") or ""
        return "replaces" in (tag.strip().lower() for tag in tags.split(","))


class ReferredBy(NameAddr):
    """The sender of a REFER (RFC 3892 §3): referrer-uri *( SEMI (referredby-id-param /
    generic-param) )."""

    __slots__ = ()
    cid = Parameter(
        "cid", str, "The Content-ID, without brackets, of the body that proves the sender."
    )

    @classmethod
    def parse(cls, text: str) -> ReferredBy:
        return cls._make(NameAddr.parse(text))


class ReferSub(Valued):
    """`true` if a REFER creates a subscription (RFC 4488 §4): refer-sub-value = "true" /
    "false"."""

    __slots__ = ()
    fits = re.compile("true|false", re.IGNORECASE).fullmatch
    what = "true or false"

    @property
    def is_wanted(self) -> bool:
        """True for `true`."""
        return lowered(self.value) == "true"


class ReferEventsAt(Reference):
    """The URI of the subscription to a REFER (RFC 7614 §4.8): LAQUOT ( SIP-URI / SIPS-URI )
    RAQUOT *( SEMI … )."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> ReferEventsAt:
        found = super().parse(text)
        if not found.uri.is_sip:
            raise ParseError("not a SIP URI", value=text)
        return found
