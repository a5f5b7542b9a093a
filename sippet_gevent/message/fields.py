"""The table of header fields, RFC 3261 §20 and the IANA registry: one row each. Pure."""

from __future__ import annotations

from .address import Contact, NameAddr
from .authentication import AuthParameters, Challenge, Credentials
from .headers import EACH, LINES, LIST, ONE, Header
from .values import (
    CallID,
    CSeq,
    Date,
    DeltaSeconds,
    MaxForwards,
    MediaType,
    MimeVersion,
    Number,
    RAck,
    RetryAfter,
    SessionExpires,
    Text,
    Timestamp,
    Token,
    Valued,
    Warning,
)
from .via import Via


class HeaderFields:
    """Every header field that has an RFC and a grammar, as an attribute with a typed value: what Message has them from."""

    __slots__ = ()

    #                             name                   compact kind  type            RFC 3261 §20 unless said
    accept = Header("Accept", None, LIST, MediaType)
    accept_contact = Header("Accept-Contact", "a", LIST, Valued)  # RFC 3841
    accept_encoding = Header("Accept-Encoding", None, LIST, Valued)
    accept_language = Header("Accept-Language", None, LIST, Valued)
    alert_info = Header("Alert-Info", None, LIST, Valued)
    allow = Header("Allow", None, LIST, Token)
    allow_events = Header("Allow-Events", "u", LIST, Token)  # RFC 6665
    authentication_info = Header("Authentication-Info", None, ONE, AuthParameters)
    authorization = Header("Authorization", None, LINES, Credentials)
    call_id = Header("Call-ID", "i", ONE, CallID)
    call_info = Header("Call-Info", None, LIST, Valued)
    contact = Header("Contact", "m", EACH, Contact)
    content_disposition = Header("Content-Disposition", None, ONE, Valued)
    content_encoding = Header("Content-Encoding", "e", LIST, Token)
    content_language = Header("Content-Language", None, LIST, Token)
    content_length = Header("Content-Length", "l", ONE, Number)
    content_type = Header("Content-Type", "c", ONE, MediaType)
    cseq = Header("CSeq", None, ONE, CSeq)
    date = Header("Date", None, ONE, Date)
    error_info = Header("Error-Info", None, LIST, Valued)
    event = Header("Event", "o", ONE, Valued)  # RFC 6665
    expires = Header("Expires", None, ONE, DeltaSeconds)
    from_ = Header("From", "f", ONE, NameAddr)
    history_info = Header("History-Info", None, EACH, NameAddr)  # RFC 7044
    identity = Header("Identity", "y", LIST, Text)  # RFC 8224
    identity_info = Header("Identity-Info", "n", ONE, Valued)  # RFC 4474, historic
    in_reply_to = Header("In-Reply-To", None, LIST, CallID)
    max_breadth = Header("Max-Breadth", None, ONE, Number)  # RFC 5393
    max_forwards = Header("Max-Forwards", None, ONE, MaxForwards)
    mime_version = Header("MIME-Version", None, ONE, MimeVersion)
    min_expires = Header("Min-Expires", None, ONE, DeltaSeconds)
    min_se = Header("Min-SE", None, ONE, SessionExpires)  # RFC 4028
    organization = Header("Organization", None, ONE, Text)
    p_asserted_identity = Header("P-Asserted-Identity", None, EACH, NameAddr)  # RFC 3325
    p_preferred_identity = Header("P-Preferred-Identity", None, EACH, NameAddr)  # RFC 3325
    path = Header("Path", None, EACH, NameAddr)  # RFC 3327
    priority = Header("Priority", None, ONE, Token)
    privacy = Header("Privacy", None, ONE, Text)  # RFC 3323
    proxy_authenticate = Header("Proxy-Authenticate", None, LINES, Challenge)
    proxy_authorization = Header("Proxy-Authorization", None, LINES, Credentials)
    proxy_require = Header("Proxy-Require", None, LIST, Token)
    rack = Header("RAck", None, ONE, RAck)  # RFC 3262
    reason_header = Header("Reason", None, LIST, Valued)  # RFC 3326; Response.reason is the phrase
    record_route = Header("Record-Route", None, EACH, NameAddr)
    refer_to = Header("Refer-To", "r", ONE, NameAddr)  # RFC 3515
    referred_by = Header("Referred-By", "b", ONE, NameAddr)  # RFC 3892
    reject_contact = Header("Reject-Contact", "j", LIST, Valued)  # RFC 3841
    replaces = Header("Replaces", None, ONE, Valued)  # RFC 3891
    reply_to = Header("Reply-To", None, ONE, NameAddr)
    request_disposition = Header("Request-Disposition", "d", LIST, Token)  # RFC 3841
    require = Header("Require", None, LIST, Token)
    retry_after = Header("Retry-After", None, ONE, RetryAfter)
    route = Header("Route", None, EACH, NameAddr)
    rseq = Header("RSeq", None, ONE, Number)  # RFC 3262
    server = Header("Server", None, ONE, Text)
    service_route = Header("Service-Route", None, EACH, NameAddr)  # RFC 3608
    session_expires = Header("Session-Expires", "x", ONE, SessionExpires)  # RFC 4028
    sip_etag = Header("SIP-ETag", None, ONE, Token)  # RFC 3903
    sip_if_match = Header("SIP-If-Match", None, ONE, Token)  # RFC 3903
    subject = Header("Subject", "s", ONE, Text)
    subscription_state = Header("Subscription-State", None, ONE, Valued)  # RFC 6665
    supported = Header("Supported", "k", LIST, Token)
    timestamp = Header("Timestamp", None, ONE, Timestamp)
    to = Header("To", "t", ONE, NameAddr)
    unsupported = Header("Unsupported", None, LIST, Token)
    user_agent = Header("User-Agent", None, ONE, Text)
    via = Header("Via", "v", EACH, Via)
    warning = Header("Warning", None, EACH, Warning)
    www_authenticate = Header("WWW-Authenticate", None, LINES, Challenge)
