"""The table of header fields, RFC 3261 §20 and the IANA registry: one row each. Pure."""

from __future__ import annotations

from ..address import BracketedAddr, Contact, NameAddr
from ..header import EACH, LINES, LIST, ONE, Header
from ..via import Via
from .authentication import AuthenticationInfo, Challenge, Credentials
from .base import Choice, QuotedOrToken, Ranked, Reference, Word
from .extensions import (
    AcceptContact,
    AlertMsgError,
    AnswerMode,
    ContentID,
    Event,
    FeatureCaps,
    Geolocation,
    GeolocationError,
    GeolocationRouting,
    InfoPackage,
    PolicyContact,
    PolicyID,
    RejectContact,
    ResourcePriority,
    SecurityMechanism,
    SubscriptionState,
    TriggerConsent,
    UserToUser,
)
from .history import Diversion, HistoryInfo, Reason
from .identity import Identity, IdentityInfo, Privacy
from .p_headers import (
    LAES,
    AccessNetwork,
    AdditionalIdentity,
    BillingInfo,
    CallRedirect,
    ChargingAddresses,
    ChargingVector,
    HexToken,
    PrivateNetwork,
    RefusedURI,
    ResourceShare,
    ResponseSource,
    ServedUser,
    ServiceID,
    TraceParty,
)
from .refer import ReferEventsAt, ReferredBy, ReferSub, ReferTo
from .replaces import Join, Replaces, SessionID, TargetDialog
from .rfc3261 import (
    AlertInfo,
    CallID,
    CallInfo,
    ContentDisposition,
    CSeq,
    Date,
    DeltaSeconds,
    MaxForwards,
    MediaRange,
    MediaType,
    MimeVersion,
    Number,
    RAck,
    RetryAfter,
    SessionExpires,
    Text,
    Timestamp,
    Token,
    Warning,
)


class HeaderFields:
    """The header fields that have an RFC and a grammar, as attributes with typed values.

    Some fields of the IANA registry are missing, and are read as text. Encryption, Hide and
    Response-Key are no longer in SIP (RFC 3261). Reason-Phrase is a reserved name (RFC 6873). Of
    3GPP these have their grammar in TS 24.229 alone: Cellular-Network-Info, DC-Info,
    Priority-Share, Priority-Verstat, Relayed-Charge, Restoration-Info, Service-Interact-Info. The
    registry lacks Diversion and the compact form n of Identity-Info.
    """

    __slots__ = ()

    # name                   compact kind  type            RFC 3261 §20 unless said
    accept = Header("Accept", None, LIST, MediaRange)
    accept_contact = Header("Accept-Contact", "a", LIST, AcceptContact)  # RFC 3841
    accept_encoding = Header("Accept-Encoding", None, LIST, Ranked)
    accept_language = Header("Accept-Language", None, LIST, Ranked)
    # RFC 4412
    accept_resource_priority = Header("Accept-Resource-Priority", None, LIST, ResourcePriority)
    # 3GPP TS 24.229
    additional_identity = Header("Additional-Identity", None, ONE, AdditionalIdentity)
    alert_info = Header("Alert-Info", None, LIST, AlertInfo)
    alertmsg_error = Header("AlertMsg-Error", None, ONE, AlertMsgError)  # RFC 8876
    allow = Header("Allow", None, LIST, Token)
    allow_events = Header("Allow-Events", "u", LIST, Token)  # RFC 6665
    answer_mode = Header("Answer-Mode", None, ONE, AnswerMode)  # RFC 5373
    attestation_info = Header("Attestation-Info", None, ONE, Choice)  # 3GPP TS 24.229
    authentication_info = Header("Authentication-Info", None, ONE, AuthenticationInfo)
    authorization = Header("Authorization", None, LINES, Credentials)
    call_id = Header("Call-ID", "i", ONE, CallID, mandatory=True)
    call_info = Header("Call-Info", None, LIST, CallInfo)
    contact = Header("Contact", "m", EACH, Contact)
    content_disposition = Header("Content-Disposition", None, ONE, ContentDisposition)
    content_encoding = Header("Content-Encoding", "e", LIST, Token)
    content_id = Header("Content-ID", None, ONE, ContentID)  # RFC 8262
    content_language = Header("Content-Language", None, LIST, Token)
    content_length = Header("Content-Length", "l", ONE, Number)
    content_type = Header("Content-Type", "c", ONE, MediaType)
    cseq = Header("CSeq", None, ONE, CSeq, mandatory=True)
    date = Header("Date", None, ONE, Date)
    diversion = Header("Diversion", None, EACH, Diversion)  # RFC 5806, historic, not at IANA
    error_info = Header("Error-Info", None, LIST, Reference)
    event = Header("Event", "o", ONE, Event)  # RFC 6665
    expires = Header("Expires", None, ONE, DeltaSeconds)
    feature_caps = Header("Feature-Caps", None, EACH, FeatureCaps)  # RFC 6809
    flow_timer = Header("Flow-Timer", None, ONE, DeltaSeconds)  # RFC 5626
    from_ = Header("From", "f", ONE, NameAddr, mandatory=True)
    geolocation = Header("Geolocation", None, EACH, Geolocation)  # RFC 6442
    geolocation_error = Header("Geolocation-Error", None, ONE, GeolocationError)  # RFC 6442
    geolocation_routing = Header("Geolocation-Routing", None, ONE, GeolocationRouting)  # RFC 6442
    history_info = Header("History-Info", None, EACH, HistoryInfo)  # RFC 7044
    identity = Header("Identity", "y", LINES, Identity)  # RFC 8224
    identity_info = Header("Identity-Info", "n", ONE, IdentityInfo)  # RFC 4474, historic
    in_reply_to = Header("In-Reply-To", None, LIST, CallID)
    info_package = Header("Info-Package", None, ONE, InfoPackage)  # RFC 6086
    join = Header("Join", None, ONE, Join)  # RFC 3911
    max_breadth = Header("Max-Breadth", None, ONE, Number)  # RFC 5393
    max_forwards = Header("Max-Forwards", None, ONE, MaxForwards)
    mime_version = Header("MIME-Version", None, ONE, MimeVersion)
    min_expires = Header("Min-Expires", None, ONE, DeltaSeconds)
    min_se = Header("Min-SE", None, ONE, SessionExpires)  # RFC 4028
    organization = Header("Organization", None, ONE, Text)
    origination_id = Header("Origination-Id", None, ONE, Token)  # 3GPP TS 24.229
    p_access_network_info = Header("P-Access-Network-Info", None, LIST, AccessNetwork)  # RFC 7315
    p_answer_state = Header("P-Answer-State", None, ONE, Word)  # RFC 4964
    p_asserted_identity = Header("P-Asserted-Identity", None, EACH, NameAddr)  # RFC 3325
    p_asserted_service = Header("P-Asserted-Service", None, LIST, ServiceID)  # RFC 6050
    p_associated_uri = Header("P-Associated-URI", None, LIST, BracketedAddr)  # RFC 7315
    p_called_party_id = Header("P-Called-Party-ID", None, ONE, BracketedAddr)  # RFC 7315
    p_charge_info = Header("P-Charge-Info", None, ONE, NameAddr)  # RFC 8496
    # RFC 7315
    p_charging_function_addresses = Header(
        "P-Charging-Function-Addresses", None, LIST, ChargingAddresses
    )
    p_charging_vector = Header("P-Charging-Vector", None, ONE, ChargingVector)  # RFC 7315
    p_dcs_billing_info = Header("P-DCS-Billing-Info", None, ONE, BillingInfo)  # RFC 5503
    p_dcs_laes = Header("P-DCS-LAES", None, ONE, LAES)  # RFC 5503
    p_dcs_osps = Header("P-DCS-OSPS", None, ONE, Token)  # RFC 5503
    p_dcs_redirect = Header("P-DCS-Redirect", None, ONE, CallRedirect)  # RFC 5503
    p_dcs_trace_party_id = Header("P-DCS-Trace-Party-ID", None, ONE, TraceParty)  # RFC 5503
    p_early_media = Header("P-Early-Media", None, LIST, Token)  # RFC 5009
    p_media_authorization = Header("P-Media-Authorization", None, LIST, HexToken)  # RFC 3313
    p_preferred_identity = Header("P-Preferred-Identity", None, EACH, NameAddr)  # RFC 3325
    p_preferred_service = Header("P-Preferred-Service", None, LIST, ServiceID)  # RFC 6050
    # RFC 7316
    p_private_network_indication = Header("P-Private-Network-Indication", None, ONE, PrivateNetwork)
    p_profile_key = Header("P-Profile-Key", None, ONE, NameAddr)  # RFC 5002
    p_refused_uri_list = Header("P-Refused-URI-List", None, LIST, RefusedURI)  # RFC 5318
    p_served_user = Header("P-Served-User", None, ONE, ServedUser)  # RFC 5502, RFC 8498
    p_user_database = Header("P-User-Database", None, ONE, Reference)  # RFC 4457
    p_visited_network_id = Header("P-Visited-Network-ID", None, EACH, QuotedOrToken)  # RFC 7315
    path = Header("Path", None, EACH, BracketedAddr)  # RFC 3327
    permission_missing = Header("Permission-Missing", None, LIST, NameAddr)  # RFC 5360
    policy_contact = Header("Policy-Contact", None, LIST, PolicyContact)  # RFC 6794
    policy_id = Header("Policy-ID", None, LIST, PolicyID)  # RFC 6794
    priority = Header("Priority", None, ONE, Token)
    priv_answer_mode = Header("Priv-Answer-Mode", None, ONE, AnswerMode)  # RFC 5373
    privacy = Header("Privacy", None, ONE, Privacy)  # RFC 3323
    proxy_authenticate = Header("Proxy-Authenticate", None, LINES, Challenge)
    proxy_authentication_info = Header(
        "Proxy-Authentication-Info", None, ONE, AuthenticationInfo
    )  # RFC 7615, not at IANA
    proxy_authorization = Header("Proxy-Authorization", None, LINES, Credentials)
    proxy_require = Header("Proxy-Require", None, LIST, Token)
    rack = Header("RAck", None, ONE, RAck)  # RFC 3262
    reason_header = Header("Reason", None, LIST, Reason)  # RFC 3326; reason is the phrase
    record_route = Header("Record-Route", None, EACH, BracketedAddr)
    recv_info = Header("Recv-Info", None, LIST, InfoPackage)  # RFC 6086
    refer_events_at = Header("Refer-Events-At", None, ONE, ReferEventsAt)  # RFC 7614
    refer_sub = Header("Refer-Sub", None, ONE, ReferSub)  # RFC 4488
    refer_to = Header("Refer-To", "r", ONE, ReferTo)  # RFC 3515
    referred_by = Header("Referred-By", "b", ONE, ReferredBy)  # RFC 3892
    reject_contact = Header("Reject-Contact", "j", LIST, RejectContact)  # RFC 3841
    replaces = Header("Replaces", None, ONE, Replaces)  # RFC 3891
    reply_to = Header("Reply-To", None, ONE, NameAddr)
    request_disposition = Header("Request-Disposition", "d", LIST, Token)  # RFC 3841
    require = Header("Require", None, LIST, Token)
    resource_priority = Header("Resource-Priority", None, LIST, ResourcePriority)  # RFC 4412
    resource_share = Header("Resource-Share", None, ONE, ResourceShare)  # 3GPP TS 24.229
    response_source = Header("Response-Source", None, ONE, ResponseSource)  # 3GPP TS 24.229
    retry_after = Header("Retry-After", None, ONE, RetryAfter)
    route = Header("Route", None, EACH, BracketedAddr)
    rseq = Header("RSeq", None, ONE, Number)  # RFC 3262
    security_client = Header("Security-Client", None, LIST, SecurityMechanism)  # RFC 3329
    security_server = Header("Security-Server", None, LIST, SecurityMechanism)  # RFC 3329
    security_verify = Header("Security-Verify", None, LIST, SecurityMechanism)  # RFC 3329
    server = Header("Server", None, ONE, Text)
    service_route = Header("Service-Route", None, EACH, BracketedAddr)  # RFC 3608
    session_expires = Header("Session-Expires", "x", ONE, SessionExpires)  # RFC 4028
    session_id = Header("Session-ID", None, ONE, SessionID)  # RFC 7989
    sip_etag = Header("SIP-ETag", None, ONE, Token)  # RFC 3903
    sip_if_match = Header("SIP-If-Match", None, ONE, Token)  # RFC 3903
    subject = Header("Subject", "s", ONE, Text)
    subscription_state = Header("Subscription-State", None, ONE, SubscriptionState)  # RFC 6665
    supported = Header("Supported", "k", LIST, Token)
    suppress_if_match = Header("Suppress-If-Match", None, ONE, Token)  # RFC 5839
    target_dialog = Header("Target-Dialog", None, ONE, TargetDialog)  # RFC 4538
    timestamp = Header("Timestamp", None, ONE, Timestamp)
    to = Header("To", "t", ONE, NameAddr, mandatory=True)
    trigger_consent = Header("Trigger-Consent", None, LIST, TriggerConsent)  # RFC 5360
    unsupported = Header("Unsupported", None, LIST, Token)
    user_agent = Header("User-Agent", None, ONE, Text)
    user_to_user = Header("User-to-User", None, LIST, UserToUser)  # RFC 7433
    via = Header("Via", "v", EACH, Via, mandatory=True)
    warning = Header("Warning", None, EACH, Warning)
    www_authenticate = Header("WWW-Authenticate", None, LINES, Challenge)
