"""Names of dialogs and sessions: Replaces, Join, Target-Dialog, Session-ID; RFC 3891, 3911, 4538,
7989. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple, TypeVar

from ...errors import InvalidValue, ParseError
from ..parameters import EMPTY, Parameters
from .base import Flag, Parameter, Valued
from .rfc3261 import CallID

AnyDialogID = TypeVar("AnyDialogID", bound="_DialogID")

# callid = word [ "@" word ]. It ends at a semicolon, which is in no word.
_CALL_ID = re.compile(r"[^@;,\x00-\x20\x7f][^;,\x00-\x20\x7f]*").fullmatch


class _DialogID(Valued):
    """A Call-ID with two tags, each of which must appear once."""

    __slots__ = ()
    fits = _CALL_ID
    what = "a Call-ID"
    tags: tuple[str, str] = ("to-tag", "from-tag")

    @classmethod
    def parse(cls: type[AnyDialogID], text: str) -> AnyDialogID:
        found = super().parse(text)
        names = [name.lower() for name in found.parameters]
        for tag in cls.tags:
            if names.count(tag) != 1 or not found.parameters[tag]:
                raise ParseError(f"needs one {tag}", value=text)
        return found

    @property
    def call_id(self) -> CallID:
        """The Call-ID of the dialog."""
        return CallID(self.value)

    def __str__(self) -> str:
        for tag in self.tags:
            if not self.parameters.get(tag):
                raise InvalidValue(f"{type(self).__name__} needs a {tag}")
        return super().__str__()


class Replaces(_DialogID):
    """The dialog that a new one replaces (RFC 3891 §6.1).

    Replaces = callid *(SEMI replaces-param), replaces-param = to-tag / from-tag / early-flag /
    generic-param; a Replaces header field MUST contain exactly one to-tag and exactly one from-tag.
    """

    __slots__ = ()
    to_tag = Parameter(
        "to-tag", str, "The tag of the receiver of the request; `0` also means no tag (RFC 2543)."
    )
    from_tag = Parameter("from-tag", str, "The tag of the other side.")
    early_only = Flag("early-only", "True if a confirmed dialog must not be replaced.")


class Join(_DialogID):
    """The dialog that a new one joins (RFC 3911 §7.1): the same without early-only."""

    __slots__ = ()
    to_tag = Parameter(
        "to-tag", str, "The tag of the receiver of the request; `0` also means no tag (RFC 2543)."
    )
    from_tag = Parameter("from-tag", str, "The tag of the other side.")


class TargetDialog(_DialogID):
    """The dialog that authorizes the request, because only its parties know it (RFC 4538 §7).

    Target-Dialog = callid *(SEMI td-param), td-param = remote-param / local-param / generic-param;
    §4 requires both. The sides are those of the sender.
    """

    __slots__ = ()
    tags = ("local-tag", "remote-tag")
    local_tag = Parameter("local-tag", str, "The tag of the sender of the request.")
    remote_tag = Parameter("remote-tag", str, "The tag of its peer.")


NIL = "0" * 32
"""The UUID of a side that is unknown or has none (RFC 7989 §5)."""

# sess-uuid = 32(DIGIT / %x61-66)
_UUID = re.compile(r"[0-9a-f]{32}").fullmatch


class SessionID(NamedTuple):
    """The two halves of the identifier of a session (RFC 7989 §5). `local` is that of the sender.

    Without a remote parameter it is the older identifier of RFC 7329, which is the same on both
    sides.
    """

    local: str
    parameters: Parameters = EMPTY

    @classmethod
    def parse(cls, text: str) -> SessionID:
        # session-id-value = local-uuid *(SEMI sess-id-param), sess-id-param = remote-param /
        #   generic-param
        local, semicolon, tail = text.partition(";")
        found = cls(local.rstrip(" \t"), Parameters.parse(semicolon + tail))
        if not found._is_whole():
            raise ParseError("not 32 digits of 0-9 and a-f", value=text)
        return found

    @property
    def remote(self) -> str | None:
        """The half of the receiver, NIL if the sender does not know it. None in the form of RFC
        7329."""
        return self.parameters.get("remote")

    def _is_whole(self) -> bool:
        return bool(
            _UUID(self.local) and ("remote" not in self.parameters or _UUID(self.remote or ""))
        )

    def __str__(self) -> str:
        if not self._is_whole():
            raise InvalidValue(f"not a session identifier: {self.local!r} {self.remote!r}")
        return f"{self.local}{self.parameters}"
