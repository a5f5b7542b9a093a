"""BridgePolicy: which header fields cross a B2BUA, and how it treats transfers, RFC 7092. Pure.

A bridge copies header fields from one leg to the other, the unknown ones too. This table says which
it does not copy. `BridgePolicy(fields={...})` changes each row.

| header field | requests | 1xx, 2xx | 300 to 699 |
|---|---|---|---|
| From, To | INVITE: copied without tag | of the dialog | of the dialog |
| Privacy, Diversion, History-Info | copied | copied | no |
| P-Asserted-Identity, Remote-Party-ID | no | no | no |
| all other P- fields but P-Early-Media | no | no | no |
| Authorization, Proxy-Authorization | copied | no | no |
| Identity, Date, Organization | copied | no | no |
| Via, Contact, Route, Call-ID, CSeq … | of the leg | of the leg | of the leg |
| Allow, Supported, Require, Accept … | of the leg | of the leg | by status |
| Session-Expires, RSeq, RAck, Replaces … | of the leg | of the leg | by status |
| User-Agent, Server | of the leg | of the leg | of the leg |
| Max-Forwards | one less | | |
| the others of RFCs | copied | copied | by status |
| unknown ones | copied | copied | copied |

*By status* means the table of core/refusal.py. Credentials stay here if this element has asked for
them. P-Asserted-Identity is for elements that trust each other (RFC 3325 §5), so a program has to
say that it trusts both sides. If the policy leaves out From, the call is anonymous (RFC 3323 §4.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Protocol

from ...arguments import flag, instance
from ...errors import InvalidValue, excerpt
from ...message.address import NameAddr
from ...message.grammar import is_token
from ...message.header import ROWS
from ...message.lines import safe
from ...message.message import Message, Request, Response
from ...message.scan import USUAL, Line, canonical
from ...message.uri import URI
from ...message.uri_arguments import given_address
from ..privacy import REMOTE_PARTY

Treatment = bool | str | Callable[[Request], "str | None"]
"""What a policy does with a header field: True copies it, False leaves it out, and a text takes its
place. A callable gets the INVITE of the caller, and returns the text, or None to leave it out."""

PASS, FOLLOW, REFUSE = "pass", "follow", "refuse"
"""What a bridge does with a REFER: passes it to the other leg, carries it out, or answers 603."""

METHODS = ("INFO", "MESSAGE", "NOTIFY", "OPTIONS", "REFER", "SUBSCRIBE", "UPDATE")
"""The methods that a bridge passes on within calls, besides INVITE and BYE."""


class Kind(Enum):
    """The messages that cross a bridge."""

    INVITE = "the INVITE that begins a call"
    REQUEST = "a request within a call"
    PROVISIONAL = "a 101 to 199"
    SUCCESS = "a 2xx"
    REFUSAL = "a 300 to 699"


OF_THE_LEG = frozenset(
    (
        "Accept", "Accept-Encoding", "Allow", "Allow-Events", "Authentication-Info", "CSeq",
        "Call-ID", "Contact", "Content-Length", "Flow-Timer", "From", "Join", "Max-Breadth",
        "Max-Forwards", "Min-Expires", "Min-SE", "Path", "Proxy-Authenticate",
        "Proxy-Authentication-Info", "Proxy-Require", "RAck", "RSeq", "Record-Route", "Replaces",
        "Require", "Route", "Security-Client", "Security-Server", "Security-Verify", "Server",
        "Service-Route", "Session-Expires", "Supported", "Target-Dialog", "Timestamp", "To",
        "Unsupported", "User-Agent", "Via", "WWW-Authenticate",
    )
)  # fmt: skip
"""Header fields that belong to one leg. A policy may not copy them."""

CONTENT = frozenset(
    (
        "Content-Disposition", "Content-Encoding", "Content-ID", "Content-Language", "Content-Type",
        "MIME-Version",
    )
)  # fmt: skip
"""Header fields that go with the body."""

CREDENTIALS = frozenset(("Authorization", "Proxy-Authorization"))

OF_THE_SENDER = frozenset(("Date", "Identity", "Identity-Info", "Organization"))
"""Header fields that name the sender of a message. They cross in requests only."""

UNTRUSTED = frozenset((REMOTE_PARTY,))
"""Header fields for elements that trust each other, besides those that begin with P-."""

_ADDRESSES = frozenset(("From", "To"))
_WRITE = 'fields={"P-Asserted-Identity": True}'
_ANONYMOUS = NameAddr(URI("sip", "anonymous", "anonymous.invalid"), "Anonymous")


class AsksWithin(Protocol):
    """Checks who sends a request within a call: Authenticator in auth/server.py."""

    def authenticate(self, request: Request, tx: Any, *, within: bool = False) -> str | None:
        """Return the user name. Raises Reject."""


class BridgePolicy:
    """Says which header fields cross a bridge, and how it treats transfers.

        BridgePolicy(
            fields={
                "From": '"Example Ltd" <sip:+15550100@example.com>',
                "P-Asserted-Identity": True,
                "Diversion": False,
                "X-Account": lambda request: request.from_.uri.user,
            },
            refer="follow",
        )

    The module's table says what a policy without arguments does.

    Args:
        fields: What to do with each header field, by name. True copies it, False leaves it out. A
            text is its value in the INVITE to the callee. A callable gets the INVITE of the caller,
            and returns that text or None.
        unknown: False leaves out header fields that no RFC known here defines.
        refer: "pass" sends a REFER on to the other leg. "follow" has the bridge call the target and
            connect it. "refuse" answers 603.
        authenticator: An Authenticator that asks for the password of a REFER which the bridge is to
            follow, unless its sender has called with one (RFC 3515 §5.2). The INVITE to a target at
            this server then counts as one of that user.
        methods: The methods that are passed on within calls, besides INVITE and BYE.

    Raises:
        TypeError: An argument has another type.
        InvalidValue: A header field belongs to one leg, or a text cannot be sent.
    """

    __slots__ = ("_fields", "_unknown", "authenticator", "methods", "refer")

    def __init__(
        self,
        fields: Mapping[str, Treatment] | None = None,
        *,
        unknown: bool = True,
        refer: str = PASS,
        authenticator: AsksWithin | None = None,
        methods: Iterable[str] = METHODS,
    ) -> None:
        self._fields: dict[str, Treatment] = {}
        for name, treatment in (fields or {}).items():
            self._fields[_checked_name(name)] = _checked(name, treatment)
        self._unknown = flag("unknown", unknown)
        if refer not in (PASS, FOLLOW, REFUSE):
            raise InvalidValue(f'refer must be "pass", "follow" or "refuse", got {excerpt(refer)}')
        self.refer = refer
        """How a REFER is treated: "pass", "follow" or "refuse"."""
        write = "write authenticator=Authenticator(realm=..., users=...)"
        if authenticator is not None and not hasattr(authenticator, "authenticate"):
            raise TypeError(
                f"authenticator must be an Authenticator, got {excerpt(authenticator)}: {write}"
            )
        if authenticator is not None and refer != FOLLOW:
            raise InvalidValue(
                f'authenticator is for a REFER that the bridge follows, got refer="{refer}": '
                'write refer="follow"'
            )
        self.authenticator = authenticator
        """Asks for the password of a REFER that the bridge follows; None to follow each one."""
        if isinstance(methods, str):
            raise TypeError(f'methods must be a tuple, got {methods!r}: write methods=("INFO",)')
        self.methods = frozenset(methods) - {"ACK", "BYE", "CANCEL", "INVITE", "PRACK"}
        """The methods that are passed on within calls, besides INVITE and BYE."""

    def copies(self, name: str, kind: Kind) -> bool:
        """True when a header field crosses as it is in this kind of message."""
        treatment = self._fields.get(name)
        if treatment is not None:
            return treatment is True
        if name in OF_THE_LEG or name in CONTENT or name in UNTRUSTED:
            return False
        if name[:2] == "P-" and name != "P-Early-Media":
            return False
        if name in OF_THE_SENDER or name in CREDENTIALS:
            return kind is Kind.INVITE or kind is Kind.REQUEST
        if name in ROWS:
            return kind is not Kind.REFUSAL
        return self._unknown

    def lines(self, message: Message, kind: Kind, *, credentials: bool = True) -> list[Line]:
        """Return the lines of a message that cross, without those of its body.

        Args:
            message: The message, as it was received.
            kind: What it is.
            credentials: False if the credentials of the message are for this element.
        """
        found = [
            line
            for line in message.headers.lines
            if self.copies(line[0], kind) and (credentials or line[0] not in CREDENTIALS)
        ]
        if kind is Kind.INVITE and self._fields:
            assert isinstance(message, Request)
            for name, treatment in self._fields.items():
                if name not in _ADDRESSES and (text := _made(treatment, message)) is not None:
                    found.append((name, USUAL, safe(text, name)))
        return found

    def names_in_refusal(self, response: Response) -> frozenset[str]:
        """Return the names of header fields of a refusal that cross besides those of its status."""
        return frozenset(
            name for name in response.headers.fields if self.copies(name, Kind.REFUSAL)
        )

    def from_(self, invite: Request) -> NameAddr:
        """Return the From of the INVITE to the callee, without a tag. Raises ParseError."""
        return self._address("From", invite) or _without_tag(invite.from_)

    def to(self, invite: Request) -> NameAddr | None:
        """Return the To of the INVITE to the callee; None for one that names the target."""
        if self._fields.get("To") is False:
            return None
        return self._address("To", invite) or _without_tag(invite.to)

    def _address(self, name: str, invite: Request) -> NameAddr | None:
        treatment = self._fields.get(name, True)
        if treatment is True:
            return None
        text = _made(treatment, invite)
        return _ANONYMOUS if text is None else _without_tag(NameAddr.parse(text))

    def __repr__(self) -> str:
        return f"<BridgePolicy refer={self.refer} {self._fields!r}>"


def _made(treatment: Treatment, invite: Request) -> str | None:
    """Return the text that takes the place of a header field; None to leave it out."""
    if isinstance(treatment, bool):
        return None
    if isinstance(treatment, str):
        return treatment
    made = treatment(invite)
    if made is not None and not isinstance(made, str):
        raise TypeError(f"a policy's function must return a text or None, got {excerpt(made)}")
    return made


def _without_tag(address: NameAddr) -> NameAddr:
    return address._replace(parameters=address.parameters.without("tag"))


def _checked_name(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"fields must map names, got the name {excerpt(name)}: write {_WRITE}")
    if not is_token(name):
        raise InvalidValue(f"fields: {excerpt(name)} is not a header name: write {_WRITE}")
    known = canonical(name)
    if (known in OF_THE_LEG or known in CONTENT) and known not in _ADDRESSES:
        raise InvalidValue(f"fields: {known} belongs to one leg, so a policy cannot change it")
    return known


def _checked(name: str, treatment: Treatment) -> Treatment:
    if isinstance(treatment, str):
        safe(treatment, name)
        if canonical(name) in _ADDRESSES:
            given_address(f"fields: {name}", treatment)
    elif not isinstance(treatment, bool) and not callable(treatment):
        raise TypeError(
            f"fields: {name} must be True, False, a text or a callable, got {excerpt(treatment)}: "
            f"write {_WRITE}"
        )
    return treatment


_DEFAULT = BridgePolicy()


def checked_policy(policy: BridgePolicy | None) -> BridgePolicy:
    """Return the policy of a bridge. Raises TypeError."""
    if policy is None:
        return _DEFAULT
    instance("policy", policy, BridgePolicy, 'policy=BridgePolicy(refer="follow")')
    return policy
