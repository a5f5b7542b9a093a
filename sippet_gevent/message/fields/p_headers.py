"""Types of P- header fields and those of 3GPP: RFC 4457, 5318, 5502, 5503, 6050, 7315, 7316, TS
24.229. Pure.

They are for networks whose elements trust each other (RFC 3427 §4.1). Remove them from messages of
other networks.
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

    A quoted-string or an IPv6 reference is the name of a parameter without value, as written.
    """

    __slots__ = ()

    @classmethod
    def _pair(cls, piece: str, text: str) -> tuple[str, str | None]:
        if is_quoted(piece) or (piece[:1] == "[" and is_host(piece)):
            return piece, None
        return super()._pair(piece, text)


class AccessNetwork(Word):
    """The access network of a phone (RFC 7315 §5.4): access-net-spec = (access-type / access-class)
    *(SEMI access-info)."""

    __slots__ = ()
    holds = AccessInfo
    network_provided = Flag("network-provided", "True if the network has added it, not the phone.")
    cgi_3gpp = Parameter("cgi-3gpp", str, "The GSM cell.")
    utran_cell_id_3gpp = Parameter("utran-cell-id-3gpp", str, "The UMTS, LTE or 5G cell.")
    ci_3gpp2 = Parameter("ci-3gpp2", str, "The CDMA2000 cell.")
    i_wlan_node_id = Parameter("i-wlan-node-id", str, "The MAC address of the access point.")
    dsl_location = Parameter("dsl-location", str, "The location of the end of the DSL line.")
    eth_location = Parameter("eth-location", str, "The location of the end of the Ethernet.")
    fiber_location = Parameter("fiber-location", str, "The location of the end of the fibre.")
    gstn_location = Parameter(
        "gstn-location", str, "The location of the end of the telephone line."
    )
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
    """The addresses for charging records (RFC 7315 §5.5): charge-addr-params = charge-addr-param
    *(SEMI charge-addr-param)."""

    __slots__ = ()
    ccf = Parameter("ccf", str, "The first charging collection function.")
    ccf_2 = Parameter("ccf-2", str, "The charging collection function if the first fails.")
    ecf = Parameter("ecf", str, "The first event charging function.")
    ecf_2 = Parameter("ecf-2", str, "The event charging function if the first fails.")


class ChargingVector(_BareParameters):
    """The data that all charging records of one session share (RFC 7315 §5.6): icid-value *(SEMI
    charge-params)."""

    __slots__ = ()
    needed = ("icid-value",)
    icid_value = Parameter("icid-value", str, "The identifier of the session.")
    icid_generated_at = Parameter("icid-generated-at", str, "The host that made the identifier.")
    orig_ioi = Parameter("orig-ioi", str, "The operator of the caller.")
    term_ioi = Parameter("term-ioi", str, "The operator of the callee.")
    transit_ioi = Parameter("transit-ioi", listed, "The operators between them.")
    related_icid = Parameter("related-icid", str, "The identifier of a related session.")
    related_icid_generated_at = Parameter(
        "related-icid-generated-at", str, "The host that made that identifier."
    )


# ---- identities and services


class ServedUser(NameAddr):
    """The user that is served (RFC 5502 §6, RFC 8498 §6.2): ( name-addr / addr-spec ) *(SEMI
    served-user-param)."""

    __slots__ = ()
    sescase = Parameter(
        "sescase", lowered, "`orig` for a caller or `term` for a callee, in lower case."
    )
    regstate = Parameter("regstate", lowered, "`reg` or `unreg`, in lower case.")
    orig_cdiv = Flag("orig-cdiv", "True for a user that has diverted the call.")

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
    """The private network of a call (RFC 7316 §7): PNI-value *(SEMI PNI-param), PNI-value =
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
    """Data in hexadecimal: P-Media-Authorization (RFC 3313 §5.1): P-Media-Authorization-Token =
    1*HEXDIG."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> HexToken:
        return cls(_hex(text))


class TraceParty(NameAddr):
    """The party to trace (RFC 5503 §5.1): name-addr *1(SEMI timestamp-param) *(SEMI
    trace-param)."""

    __slots__ = ()
    timestamp = Parameter(
        "timestamp", _timestamp, "The time of the call, in seconds since 1900 (NTP)."
    )

    @classmethod
    def parse(cls, text: str) -> TraceParty:
        return cls._make(NameAddr.parse(text))


class BillingInfo(Valued):
    """The billing data of a call (RFC 5503 §7.1): Billing-Correlation-ID "/" FEID *(SEMI
    Billing-Info-param).

    Billing-Correlation-ID = 1*48(HEXDIG), FEID = 1*16(HEXDIG) "@" host
    """

    __slots__ = ()
    fits = re.compile(rf"[0-9A-Fa-f]{{1,48}}/[0-9A-Fa-f]{{1,16}}@{HOST}").fullmatch
    what = "a billing correlation ID and a financial entity"
    rksgroup = Parameter("rksgroup", str, "The group of record keeping servers.")
    charge = Parameter("charge", URI.parse, "The party that pays.")
    calling = Parameter("calling", URI.parse, "The caller.")
    called = Parameter("called", URI.parse, "The callee.")
    routing = Parameter(
        "routing", URI.parse, "The target of a call to a ported number or a service."
    )
    locroute = Parameter("locroute", URI.parse, "The switch of the caller.")
    jip = Parameter("jip", str, "The jurisdiction of the caller.")

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
    """Parameters of P-DCS-LAES, in which a hostport has no quotes."""

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
    """The receiver of a call under surveillance (RFC 5503 §8.1): Laes-sig *(SEMI Laes-param)."""

    __slots__ = ()
    fits = re.compile(_HOSTPORT).fullmatch
    what = "a host and port"
    holds = LAESParameters
    content = Parameter("content", str, "The host and port that get the media.")
    cccid = Parameter("cccid", _hex, "The identifier of the media.")
    bcid = Parameter("bcid", _hex, "The billing correlation ID.")


class CallRedirect(Valued):
    """The first callee of a call under surveillance (RFC 5503 §8.1): Called-ID *(SEMI
    redir-params), in quotes."""

    __slots__ = ()
    fits = re.compile(QUOTED, re.DOTALL).fullmatch
    what = "a URI in quotes"
    redirector_uri = Parameter("redirector-uri", URI.parse, "The party that redirected it last.")
    redirections = Parameter(
        "count", number, "The number of redirections; the parameter is named count."
    )

    @classmethod
    def parse(cls, text: str) -> CallRedirect:
        found = super().parse(text)
        URI.parse(unquote(found.value))
        return found

    @property
    def called(self) -> URI:
        """The URI that was called first."""
        return URI.parse(unquote(self.value))


# ---- 3GPP TS 24.229 §7.2


class AdditionalIdentity(NameAddr):
    """Another identity of caller or callee (TS 24.229 §7.2.20): id-spec / token, id-spec =
    name-addr *(SEMI id-param). A token is a str."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> AdditionalIdentity | str:  # type: ignore[override]  # or a token
        return text if is_token(text) else cls._make(NameAddr.parse(text))


class ResponseSource(_BareParameters):
    """The element that made an error response (TS 24.229 §7.2.17): source-urn = "fe" EQUAL LAQUOT
    source-urn-val RAQUOT."""

    __slots__ = ()
    needed = ("fe",)
    holds = LinkParameters
    fe = Parameter(
        "fe", in_brackets, "The kind of element and its parameters, `urn:3gpp:fe:p-cscf.orig`."
    )


class ResourceShare(Word):
    """The sessions that share bearers of media (TS 24.229 §7.2.13): r-s-param, `supported`,
    `media-sharing` … with params."""

    __slots__ = ()
    origin = Parameter(
        "origin", lowered, "`session-initiator` or `session-receiver`, in lower case."
    )
    timestamp = Parameter(
        "timestamp", number, "A number that is highest for the newest of several."
    )
