"""What the P- header fields and those of 3GPP hold: RFC 4457, 5318, 5502, 5503, 6050, 7315, 7316,
TS 24.229. Pure.

They belong in networks whose elements trust each other (RFC 3427 §4.1); what comes from elsewhere
is to be removed.
"""

from __future__ import annotations

import re
from typing import ClassVar, NamedTuple, TypeVar

from ...errors import InvalidValue, ParseError
from ..address import NameAddr
from ..grammar import HOST, QUOTED, is_host, is_quoted, is_token, number, split, unquote
from ..parameters import EMPTY, Parameters
from ..uri import URI
from .base import Flag, LinkParameters, Parameter, Valued, Word, in_brackets, listed, lowered

AnyBare = TypeVar("AnyBare", bound="_BareParameters")

# ---- RFC 7315


class AccessInfo(Parameters):
    """Parameters, and values without a name: extension-access-info = gen-value (RFC 7315 §5.4).

    A quoted-string or an IPv6 reference is the name of a parameter without value, as it was
    written.
    """

    __slots__ = ()

    @classmethod
    def _pair(cls, piece: str, text: str) -> tuple[str, str | None]:
        if is_quoted(piece) or (piece[:1] == "[" and is_host(piece)):
            return piece, None
        return super()._pair(piece, text)


class AccessNetwork(Word):
    """A network a phone is in (RFC 7315 §5.4): access-net-spec = (access-type / access-class)
    *(SEMI access-info)."""

    __slots__ = ()
    holds = AccessInfo
    network_provided = Flag("network-provided", "True when the network says so, not the phone.")
    cgi_3gpp = Parameter("cgi-3gpp", str, "The GSM cell.")
    utran_cell_id_3gpp = Parameter("utran-cell-id-3gpp", str, "The UMTS, LTE or 5G cell.")
    ci_3gpp2 = Parameter("ci-3gpp2", str, "The CDMA2000 cell.")
    i_wlan_node_id = Parameter("i-wlan-node-id", str, "The MAC address of the access point.")
    dsl_location = Parameter("dsl-location", str, "Where the DSL line ends.")
    eth_location = Parameter("eth-location", str, "Where the Ethernet ends.")
    fiber_location = Parameter("fiber-location", str, "Where the fibre ends.")
    gstn_location = Parameter("gstn-location", str, "Where the telephone line ends.")
    local_time_zone = Parameter("local-time-zone", str, "The time zone, `UTC+01:00`.")


class _Parameters(NamedTuple):
    parameters: Parameters = EMPTY


class _BareParameters(_Parameters):
    """Parameters with nothing before them."""

    __slots__ = ()
    needed: ClassVar[tuple[str, ...]] = ()
    holds: ClassVar[type[Parameters]] = Parameters

    @classmethod
    def parse(cls: type[AnyBare], text: str) -> AnyBare:
        if not text or text[0] == ";":
            raise ParseError("no parameter", value=text)
        found = cls(cls.holds.parse(text))
        for name in cls.needed:
            if not found.parameters.get(name):
                raise ParseError(f"no {name}", value=text)
        return found

    def __str__(self) -> str:
        if not self.parameters or not all(name in self.parameters for name in self.needed):
            raise InvalidValue(
                f"{type(self).__name__} needs {' and '.join(self.needed) or 'a parameter'}"
            )
        return str(self.parameters)[1:]


class ChargingAddresses(_BareParameters):
    """Where to send charging records (RFC 7315 §5.5): charge-addr-params = charge-addr-param *(SEMI
    charge-addr-param)."""

    __slots__ = ()
    ccf = Parameter("ccf", str, "The first charging collection function.")
    ccf_2 = Parameter("ccf-2", str, "The one to take when the first is not there.")
    ecf = Parameter("ecf", str, "The first event charging function.")
    ecf_2 = Parameter("ecf-2", str, "The one to take when the first is not there.")


class ChargingVector(_BareParameters):
    """What charging records of one session have in common (RFC 7315 §5.6): icid-value *(SEMI
    charge-params)."""

    __slots__ = ()
    needed = ("icid-value",)
    icid_value = Parameter("icid-value", str, "The identifier of the session.")
    icid_generated_at = Parameter("icid-generated-at", str, "The host that made it.")
    orig_ioi = Parameter("orig-ioi", str, "The operator it comes from.")
    term_ioi = Parameter("term-ioi", str, "The operator it goes to.")
    transit_ioi = Parameter("transit-ioi", listed, "The operators between them.")
    related_icid = Parameter(
        "related-icid", str, "The identifier of a session that belongs to this one."
    )
    related_icid_generated_at = Parameter(
        "related-icid-generated-at", str, "The host that made it."
    )


# ---- identities and services


class ServedUser(NameAddr):
    """The user that is served (RFC 5502 §6, RFC 8498 §6.2): ( name-addr / addr-spec ) *(SEMI
    served-user-param)."""

    __slots__ = ()
    sescase = Parameter(
        "sescase", lowered, "`orig` or `term`, in lower case: is it served as caller or as callee."
    )
    regstate = Parameter("regstate", lowered, "`reg` or `unreg`, in lower case.")
    orig_cdiv = Flag("orig-cdiv", "True when it is served as the caller of a diverted call.")

    @classmethod
    def parse(cls, text: str) -> ServedUser:
        return cls._make(NameAddr.parse(text))


class ServiceID(str):
    """The name of a service (RFC 6050 §4.4).

    Service-ID = "urn:urn-7:" urn-service-id, urn-service-id = top-level *("." sub-service-id),
    let-dig = ALPHA / DIGIT / "-"
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> ServiceID:
        if not _SERVICE(text):
            raise ParseError("not urn:urn-7: and words with dots between them", value=text)
        return cls(text)

    @property
    def name(self) -> str:
        """The name without urn:urn-7:."""
        return self[len("urn:urn-7:") :]


_SERVICE = re.compile(r"urn:urn-7:[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)*", re.IGNORECASE).fullmatch


class RefusedURI(NameAddr):
    """A URI list that was refused (RFC 5318 §5): ( name-addr / addr-spec ) *( SEMI refused-param
    )."""

    __slots__ = ()
    members = Parameter(
        "members",
        lambda text: text.removeprefix("<").removesuffix(">"),
        "The cid: URI of the refused members.",
    )

    @classmethod
    def parse(cls, text: str) -> RefusedURI:
        # members-param = "members" EQUAL LDQUOT *( qdtext / quoted-pair ) RDQUOT; the examples
        #   there have <cid:…> without quotes
        address, *parameters = split(text, ";")
        uri, display, _ = NameAddr.parse(address)
        return cls(uri, display, LinkParameters.parse(";".join(parameters)))


class PrivateNetwork(Valued):
    """The private network a call belongs to (RFC 7316 §7): PNI-value *(SEMI PNI-param), PNI-value =
    hostname."""

    __slots__ = ()
    fits = is_host
    what = "a hostname"


# ---- PacketCable, RFC 5503

_number_and_digits = re.compile(r"[0-9]+(?:\.[0-9]+)?").fullmatch
_hexadecimal = re.compile(r"[0-9A-Fa-f]+").fullmatch


def _timestamp(text: str) -> float:
    if len(text) > 40 or not _number_and_digits(text):
        raise ParseError("not a time", value=text)
    return float(text)


def _hex(text: str) -> str:
    if not _hexadecimal(text):
        raise ParseError("not hexadecimal", value=text)
    return text


class HexToken(str):
    """Octets in hexadecimal: P-Media-Authorization (RFC 3313 §5.1): P-Media-Authorization-Token =
    1*HEXDIG."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> HexToken:
        return cls(_hex(text))


class TraceParty(NameAddr):
    """Who is to be traced (RFC 5503 §5.1): name-addr *1(SEMI timestamp-param) *(SEMI
    trace-param)."""

    __slots__ = ()
    timestamp = Parameter("timestamp", _timestamp, "When the call came, seconds since 1900 (NTP).")

    @classmethod
    def parse(cls, text: str) -> TraceParty:
        return cls._make(NameAddr.parse(text))


class BillingInfo(Valued):
    """What a call is billed by (RFC 5503 §7.1): Billing-Correlation-ID "/" FEID *(SEMI
    Billing-Info-param).

    Billing-Correlation-ID = 1*48(HEXDIG), FEID = 1*16(HEXDIG) "@" host
    """

    __slots__ = ()
    fits = re.compile(rf"[0-9A-Fa-f]{{1,48}}/[0-9A-Fa-f]{{1,16}}@{HOST}").fullmatch
    what = "a billing correlation ID and a financial entity"
    rksgroup = Parameter("rksgroup", str, "The group of record keeping servers.")
    charge = Parameter("charge", URI.parse, "Who pays.")
    calling = Parameter("calling", URI.parse, "Who calls.")
    called = Parameter("called", URI.parse, "Who is called.")
    routing = Parameter(
        "routing", URI.parse, "Where the call goes when the number was ported or is a service."
    )
    locroute = Parameter("locroute", URI.parse, "The switch of the caller.")
    jip = Parameter("jip", str, "The jurisdiction the call comes from.")

    @property
    def correlation_id(self) -> str:
        """The billing correlation ID, in hexadecimal."""
        return self.value.partition("/")[0]

    @property
    def financial_entity(self) -> str:
        """The financial entity, `hex@host`."""
        return self.value.partition("/")[2]


# hostport = host [ ":" port ]
_HOSTPORT = rf"{HOST}(?::[0-9]{{1,5}})?"


class LAESParameters(Parameters):
    """Parameters of P-DCS-LAES, in which a hostport stands without quotes."""

    __slots__ = ()
    _hostport = re.compile(_HOSTPORT).fullmatch

    @classmethod
    def _written(cls, name: str, value: object) -> str | None:
        text = super()._written(name, value)
        return (
            str(value)
            if text is not None and name.lower() == "content" and cls._hostport(str(value))
            else text
        )


class LAES(Valued):
    """Where to send what a court has ordered to be listened to (RFC 5503 §8.1): Laes-sig *(SEMI
    Laes-param)."""

    __slots__ = ()
    fits = re.compile(_HOSTPORT).fullmatch
    what = "a host and port"
    holds = LAESParameters
    content = Parameter("content", str, "The host and port that the media goes to.")
    cccid = Parameter("cccid", _hex, "The identifier of the media.")
    bcid = Parameter("bcid", _hex, "The billing correlation ID.")


class CallRedirect(Valued):
    """Whom a call under surveillance was meant for (RFC 5503 §8.1): Called-ID *(SEMI redir-params),
    in quotes."""

    __slots__ = ()
    fits = re.compile(QUOTED, re.DOTALL).fullmatch
    what = "a URI in quotes"
    redirector_uri = Parameter("redirector-uri", URI.parse, "Who redirected it last.")
    redirections = Parameter(
        "count", number, "How often it was redirected; the parameter is named count."
    )

    @classmethod
    def parse(cls, text: str) -> CallRedirect:
        found = super().parse(text)
        URI.parse(unquote(found.value))
        return found

    @property
    def called(self) -> URI:
        """The URI first called."""
        return URI.parse(unquote(self.value))


# ---- 3GPP TS 24.229 §7.2


class AdditionalIdentity(NameAddr):
    """Another identity of caller or callee (TS 24.229 §7.2.20): id-spec / token, id-spec =
    name-addr *(SEMI id-param)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> AdditionalIdentity | str:  # type: ignore[override]
        return text if is_token(text) else cls._make(NameAddr.parse(text))


class ResponseSource(_BareParameters):
    """Which element made an error response (TS 24.229 §7.2.17): source-urn = "fe" EQUAL LAQUOT
    source-urn-val RAQUOT."""

    __slots__ = ()
    needed = ("fe",)
    holds = LinkParameters
    fe = Parameter(
        "fe", in_brackets, "The kind of element and its parameters, `urn:3gpp:fe:p-cscf.orig`."
    )


class ResourceShare(Word):
    """Which sessions share their media's bearers (TS 24.229 §7.2.13): r-s-param, `supported`,
    `media-sharing` … with params."""

    __slots__ = ()
    origin = Parameter(
        "origin", lowered, "`session-initiator` or `session-receiver`, in lower case."
    )
    timestamp = Parameter("timestamp", number, "Which of several is the newest.")
