"""Types of header fields of later RFCs: Event, Accept-Contact, User-to-User … Pure.

Private header fields are in p_headers.py, those of REFER in refer.py, names of dialogs in
replaces.py, identities in identity.py and history.py.
"""

from __future__ import annotations

import re
from typing import NamedTuple, TypeVar

from ...errors import InvalidValue, ParseError, excerpt
from ..grammar import number
from ..identifiers import create_call_id
from ..parameters import EMPTY, Parameters, escape, unescape
from ..uri import URI
from .base import (
    BareReference,
    Choice,
    Flag,
    Parameter,
    QuotedOrToken,
    Reference,
    Valued,
    Word,
    lowered,
    qvalue,
)

AnyError = TypeVar("AnyError", bound="_Error")

# token-nodot = 1*( alphanum / "-"  / "!" / "%" / "*" / "_" / "+" / "`" / "'" / "~" )
_NODOT = r"[A-Za-z0-9\-!%*_+`'~]+"


# ---- events, RFC 6665 §8.4


class Event(Valued):
    """An event package with its templates, `presence.winfo` (RFC 6665 §8.2.1).

    Event = event-type *( SEMI event-param ), event-type = event-package *( "." event-template )
    """

    __slots__ = ()
    fits = re.compile(rf"{_NODOT}(?:\.{_NODOT})*").fullmatch
    what = "an event type"
    id = Parameter("id", str, "Distinguishes subscriptions of one dialog (RFC 3265; deprecated).")

    @property
    def package(self) -> str:
        """The package without its templates."""
        return self.value.partition(".")[0]

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates of the package, in order."""
        return tuple(self.value.split(".")[1:])


class SubscriptionState(Word):
    """The state of a subscription: `active`, `pending` or `terminated` (RFC 6665 §8.2.3)."""

    __slots__ = ()
    reason = Parameter(
        "reason", lowered, "The reason of its end in lower case: `deactivated`, `timeout` …"
    )
    expires = Parameter("expires", number, "Seconds until the subscription ends.")
    retry_after = Parameter("retry-after", number, "Seconds to wait before another attempt.")

    @property
    def state(self) -> str:
        """The state in lower case."""
        return lowered(self.value)


class InfoPackage(Word):
    """An Info Package: Info-Package, Recv-Info (RFC 6086 §9): Info-package-name *( SEMI
    Info-package-param )."""

    __slots__ = ()


# ---- preferences of the caller, RFC 3841, and features, RFC 3840 and 6809


class _Features(Valued):
    """`*` and feature tags as parameters: `Type("*", Parameters(…))`."""

    __slots__ = ()
    fits = re.compile(r"\*").fullmatch
    what = "* with feature tags"
    others: frozenset[str] = frozenset()

    @property
    def features(self) -> dict[str, str | None]:
        """Feature tag, in lower case and without the plus sign, to its value as text, or None if
        it has no value."""
        tags = {name.lower().removeprefix("+"): value for name, value in self.parameters.items()}
        return {name: value for name, value in tags.items() if name not in self.others}


class AcceptContact(_Features):
    """Features that the contact called should have (RFC 3841 §10): ac-value = "*" *(SEMI
    ac-params)."""

    __slots__ = ()
    others = frozenset(("require", "explicit", "q"))
    require = Flag("require", "True if contacts without them must not be called.")
    explicit = Flag("explicit", "True if contacts must have registered them.")


class RejectContact(_Features):
    """Features that the contact called must not have (RFC 3841 §10): rc-value = "*" *(SEMI
    rc-params)."""

    __slots__ = ()


class FeatureCaps(_Features):
    """The features of an element on the path, the nearest first (RFC 6809 §6.2): fc-value = "*"
    *(SEMI feature-cap)."""

    __slots__ = ()


class AnswerMode(Word):
    """`Auto` to answer at once, or `Manual`: Answer-Mode, Priv-Answer-Mode (RFC 5373 §2)."""

    __slots__ = ()
    require = Flag(
        "require", "True if the callee must refuse the request rather than answer it otherwise."
    )


# ---- priority, security, policy, consent


class ResourcePriority(NamedTuple):
    """A namespace and a priority in it: Resource-Priority, Accept-Resource-Priority (RFC 4412
    §3.1)."""

    namespace: str
    priority: str

    @classmethod
    def parse(cls, text: str) -> ResourcePriority:
        match = _RESOURCE_PRIORITY(text)
        if not match:
            raise ParseError("not namespace.priority", value=text)
        return cls(match[1], match[2])

    def __str__(self) -> str:
        text = f"{self.namespace}.{self.priority}"
        if not _RESOURCE_PRIORITY(text):
            raise InvalidValue(f"not namespace.priority: {text!r}")
        return text


# r-value = namespace "." r-priority, both token-nodot
_RESOURCE_PRIORITY = re.compile(rf"({_NODOT})\.({_NODOT})").fullmatch


class SecurityMechanism(Word):
    """A mechanism to protect the first hop: Security-Client, Security-Server, Security-Verify (RFC
    3329 §2.2, TS 33.203 H).

    sec-mechanism = mechanism-name *(SEMI mech-parameters), mechanism-name = "digest" / "tls" /
    "ipsec-ike" / "ipsec-man" / token
    """

    __slots__ = ()
    q = Parameter("q", qvalue, "The preference of the server, 0.0 to 1.0.")
    d_alg = Parameter("d-alg", str, "The algorithm of `digest`.")
    d_qop = Parameter("d-qop", str, "The quality of protection of `digest`.")
    d_ver = Parameter("d-ver", str, "The digest of the list of the server.")
    alg = Parameter("alg", lowered, "The integrity algorithm of `ipsec-3gpp`.")
    ealg = Parameter("ealg", lowered, "The encryption algorithm of `ipsec-3gpp`.")
    prot = Parameter("prot", lowered, "The protocol of `ipsec-3gpp`, `esp` or `ah`.")
    mod = Parameter("mod", lowered, "The mode of `ipsec-3gpp`, `trans` or `tun`.")
    spi_c = Parameter("spi-c", number, "The security parameter index of the client port.")
    spi_s = Parameter("spi-s", number, "The security parameter index of the server port.")
    port_c = Parameter("port-c", number, "The client port, from which messages are sent.")
    port_s = Parameter("port-s", number, "The server port, at which messages arrive.")


class PolicyContact(Reference):
    """A policy server (RFC 6794 §4.4.5.2): LAQUOT policyContact-uri RAQUOT *( SEMI
    policyContact-param )."""

    __slots__ = ()
    non_cacheable = Flag("non-cacheable", "True if it is for this request only.")
    alt_uri = Parameter("alt-uri", str, "A hostname instead of the URI.")


class PolicyID(BareReference):
    """A policy server that was asked (RFC 6794 §4.4.5.1): policyURI [ SEMI token-param ] *( SEMI
    generic-param )."""

    __slots__ = ()
    token = Parameter("token", str, "The token of the server that proves it.")


class TriggerConsent(BareReference):
    """The URI that asks for consents again (RFC 5360 §5.11.2): ( SIP-URI / SIPS-URI ) *( SEMI
    trigger-param )."""

    __slots__ = ()
    target_uri = Parameter("target-uri", URI.parse, "The URI whose translation needs consent.")

    @classmethod
    def parse(cls, text: str) -> TriggerConsent:
        found = super().parse(text)
        if not found.uri.is_sip:
            raise ParseError("not a SIP URI", value=text)
        return found


# ---- location and other bodies


class Geolocation(Reference):
    """The location of the target, or a URI that gives it (RFC 6442 §4.1): LAQUOT locationURI
    RAQUOT *(SEMI geoloc-param)."""

    __slots__ = ()
    loc_src = Parameter("loc-src", lowered, "The host that added it (RFC 8787 §4).")

    @property
    def cid(self) -> str | None:
        """The Content-ID, without brackets, of the body with the location; None for another URI
        (RFC 2392)."""
        return unescape(self.uri.opaque) if self.uri.scheme == "cid" else None


class GeolocationRouting(Choice):
    """Permission to route by the location, `yes` or `no` (RFC 6442 §4.2): "yes" / "no" /
    generic-param."""

    __slots__ = ()

    @property
    def is_permitted(self) -> bool:
        """True for `yes`; everything else counts as `no`."""
        return lowered(self) == "yes"


class _Error(NamedTuple):
    code: int
    parameters: Parameters = EMPTY


class _ErrorCode(_Error):
    """A number of three digits with parameters."""

    __slots__ = ()

    @classmethod
    def parse(cls: type[AnyError], text: str) -> AnyError:
        code, semicolon, tail = text.partition(";")
        return cls(number(code.rstrip(" \t"), 999), Parameters.parse(semicolon + tail))

    def __str__(self) -> str:
        if not 0 <= self.code <= 999:
            raise InvalidValue(f"not a number of three digits: {self.code!r}")
        return f"{self.code:03d}{self.parameters}"


class GeolocationError(_ErrorCode):
    """The fault of a location (RFC 6442 §4.3): location-error-code = 1*3DIGIT *(SEMI
    location-error-params)."""

    __slots__ = ()
    text = Parameter("code", str, "The error in words; the parameter is named code.")


class AlertMsgError(_ErrorCode):
    """The fault of an alert message (RFC 8876 §5.2): error-code = 3DIGIT *(SEMI error-params)."""

    __slots__ = ()
    text = Parameter("message", str, "The error in words; the parameter is named message.")


class ContentID(NamedTuple):
    """The name of a body or part, unique within its message: `id-left@id-right`, without brackets
    (RFC 8262 §3.2)."""

    id: str

    @classmethod
    def parse(cls, text: str) -> ContentID:
        # msg-id = "<" id-left "@" id-right ">"
        match = _MESSAGE_ID(text)
        if not match:
            raise ParseError("not <left@right>", value=text)
        return cls(match[1])

    @classmethod
    def create(cls, host: str = "content.invalid") -> ContentID:
        """Return a new Content-ID with 128 random bits at `host`. Raises InvalidValue for a text
        that is no host."""
        made = cls(f"{create_call_id()}@{host}")
        str(made)
        return made

    @property
    def url(self) -> str:
        """The `cid:` URL of the part (RFC 2392 §2), for a Refer-To or Geolocation."""
        return "cid:" + escape(self.id, "@+$&=")

    def __str__(self) -> str:
        text = f"<{self.id}>"
        if not _MESSAGE_ID(text):
            raise InvalidValue(f"not a Content-ID: {excerpt(self.id)}")
        return text


# id-left = dot-atom-text, id-right = dot-atom-text / no-fold-literal (RFC 5322 §3.6.4)
_ATOMS = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+(?:\.[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+)*"
_MESSAGE_ID = re.compile(rf"<({_ATOMS}@(?:{_ATOMS}|\[[!-Z^-~]*\]))>").fullmatch


class UserToUser(QuotedOrToken):
    """Data from application to application (RFC 7433 §4.1): uui-data *(SEMI uui-param), uui-data =
    token / quoted-string."""

    __slots__ = ()
    purpose = Parameter("purpose", lowered, "The package; a missing one means `isdn-uui`.")
    content = Parameter("content", lowered, "The kind of data, in words of the package.")
    encoding = Parameter("encoding", lowered, "`hex`, or a word of the package.")

    @classmethod
    def of(cls, data: bytes, **parameters: object) -> UserToUser:
        """Return one that carries `data` in hexadecimal."""
        return cls(data.hex(), Parameters({**parameters, "encoding": "hex"}))

    @property
    def data(self) -> bytes:
        """Its data, decoded if it is in hexadecimal. Raises ParseError."""
        # A missing purpose means isdn-uui (RFC 7433 §4.1), which drafts called isdn-interwork (RFC
        # 7434).
        encoding = self.encoding or (
            "hex" if self.purpose in (None, "isdn-uui", "isdn-interwork") else ""
        )
        if encoding != "hex":
            return self.text.encode("utf-8", "surrogateescape")
        if not _HEX(self.text):
            raise ParseError("not hexadecimal", value=self.value)
        return bytes.fromhex(self.text)


_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*").fullmatch
