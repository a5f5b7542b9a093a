"""The IANA registries of SIP: methods, option tags, status codes, transports; RFC 3261 §21, §27.
Pure.

These are the only tables of their kind. Modules that need a part of one derive it from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..errors import InvalidValue


class Method(NamedTuple):
    """A method: the RFC that defines it, and what it does to dialogs."""

    rfc: int
    creates_dialog: bool = False
    """True if it can create a dialog (§12.1, RFC 6665 §4.4.1)."""
    refreshes_target: bool = False
    """True if its Contact becomes the remote target of the dialog (§12.2, RFC 5057 §5.4)."""


METHODS: Mapping[str, Method] = {
    "ACK": Method(3261),
    "BYE": Method(3261),
    "CANCEL": Method(3261),
    "INFO": Method(6086),
    "INVITE": Method(3261, creates_dialog=True, refreshes_target=True),
    "MESSAGE": Method(3428),
    "NOTIFY": Method(6665, creates_dialog=True, refreshes_target=True),
    "OPTIONS": Method(3261),
    "PRACK": Method(3262),
    "PUBLISH": Method(3903),
    "REFER": Method(3515, creates_dialog=True, refreshes_target=True),
    "REGISTER": Method(3261),
    "SUBSCRIBE": Method(6665, creates_dialog=True, refreshes_target=True),
    "UPDATE": Method(3311, refreshes_target=True),
}
"""Name to row of each method that has an RFC."""

DIALOG_CREATING = frozenset(name for name, row in METHODS.items() if row.creates_dialog)
"""Methods that can create a dialog."""

TARGET_REFRESHING = frozenset(name for name, row in METHODS.items() if row.refreshes_target)
"""Methods whose Contact becomes the remote target of their dialog."""


def check_method_case(method: str) -> None:
    """Raise InvalidValue for a known method that is not in upper case, because methods are
    case-sensitive (§7.1)."""
    if method not in METHODS and method.upper() in METHODS:
        raise InvalidValue(
            f"{method!r} is not {method.upper()}, methods are case-sensitive (§7.1): "
            f'write "{method.upper()}"'
        )


class OptionTag(NamedTuple):
    """An option tag: the RFC that defines it, and what the extension does."""

    rfc: int
    meaning: str


OPTION_TAGS: Mapping[str, OptionTag] = {
    "100rel": OptionTag(3262, "provisional responses are repeated until a PRACK acknowledges them"),
    "199": OptionTag(6228, "a 199 response reports that an early dialog has ended"),
    "answermode": OptionTag(5373, "Answer-Mode and Priv-Answer-Mode say how to answer"),
    "early-session": OptionTag(3959, "a body can be an early-session description"),
    "eventlist": OptionTag(4662, "a subscription to a list of resources"),
    "explicitsub": OptionTag(7614, "a REFER without subscription, with a URI to subscribe to"),
    "from-change": OptionTag(4916, "From and To can change within a dialog"),
    "geolocation-http": OptionTag(6442, "a location is available by HTTP"),
    "geolocation-sip": OptionTag(6442, "a location is available by SIP"),
    "gin": OptionTag(6140, "one REGISTER for all numbers of a PBX"),
    "gruu": OptionTag(5627, "URIs that reach one user agent from everywhere"),
    "histinfo": OptionTag(7044, "History-Info in responses"),
    "ice": OptionTag(5768, "media by ICE"),
    "join": OptionTag(3911, "an INVITE that joins another dialog"),
    "multiple-refer": OptionTag(5368, "a REFER to several targets"),
    "norefersub": OptionTag(4488, "a REFER without subscription, by Refer-Sub"),
    "nosub": OptionTag(7614, "a REFER without subscription"),
    "outbound": OptionTag(5626, "connections that the client opens and keeps"),
    "path": OptionTag(3327, "a registration includes the route to the phone"),
    "policy": OptionTag(6794, "session policies come from policy servers"),
    "precondition": OptionTag(3312, "resources are reserved before the callee is alerted"),
    "pref": OptionTag(3840, "requests are matched with features of contacts"),
    "privacy": OptionTag(3323, "elements on the way hide the identity of the caller"),
    "recipient-list-invite": OptionTag(5366, "an INVITE to a list of recipients"),
    "recipient-list-message": OptionTag(5365, "a MESSAGE to a list of recipients"),
    "recipient-list-subscribe": OptionTag(5367, "a SUBSCRIBE to a list of resources"),
    "record-aware": OptionTag(7866, "the user agent can be told that it is recorded"),
    "replaces": OptionTag(3891, "an INVITE that replaces another dialog"),
    "resource-priority": OptionTag(4412, "Resource-Priority says which request goes first"),
    "sdp-anat": OptionTag(4092, "media at several kinds of network address"),
    "sec-agree": OptionTag(3329, "client and first hop agree on their protection"),
    "siprec": OptionTag(7866, "a session with a recording server"),
    "tdialog": OptionTag(4538, "Target-Dialog names the dialog that authorizes a request"),
    "timer": OptionTag(4028, "sessions that are refreshed, or end"),
    "trickle-ice": OptionTag(8840, "ICE candidates are sent as they are found"),
    "uui": OptionTag(7433, "User-to-User carries data of applications"),
}
"""Tag to row of each option tag that has an RFC: the values of Supported, Require, Proxy-Require
and Unsupported."""

STATUSES: Mapping[int, str] = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    199: "Early Dialog Terminated",
    200: "OK",
    202: "Accepted",
    204: "No Notification",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    412: "Conditional Request Failed",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    417: "Unknown Resource-Priority",
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    424: "Bad Location Information",
    425: "Bad Alert Message",
    428: "Use Identity Header",
    429: "Provide Referrer Identity",
    430: "Flow Failed",
    433: "Anonymity Disallowed",
    436: "Bad Identity Info",
    437: "Unsupported Credential",
    438: "Invalid Identity Header",
    439: "First Hop Lacks Outbound Support",
    440: "Max-Breadth Exceeded",
    469: "Bad Info Package",
    470: "Consent Needed",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    493: "Undecipherable",
    494: "Security Agreement Required",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    555: "Push Notification Service Not Supported",
    580: "Precondition Failure",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
    607: "Unwanted",
    608: "Rejected",
}
"""Status code to reason phrase."""

# §8.1.3.2: an unknown code counts as x00 of its class.
_CLASSES = {
    1: "Progress",
    2: "Success",
    3: "Redirection",
    4: "Request Failure",
    5: "Server Failure",
    6: "Global Failure",
}


def reason_phrase(status: int) -> str:
    """Return the registered phrase of `status`, or the name of its class."""
    return STATUSES.get(status) or _CLASSES.get(status // 100, "Unknown")


class ViaTransport(NamedTuple):
    """A transport as a Via names it, and what the RFCs say about it."""

    rfc: int
    reliable: bool
    """True when messages are not retransmitted (§17)."""
    secure: bool
    """True when TLS is beneath."""
    default_port: int
    """The port of a URI or Via without one (§18.1.1, §19.1.2, RFC 7118 §5.5)."""
    service: str
    """Its service in NAPTR records (RFC 3263 §4.1, RFC 4168 §5, RFC 7118 §10.2)."""
    srv: str
    """What is put before a domain to name its SRV records (RFC 3263 §4.1, §4.2)."""
    secured: str | None
    """What a SIPS URI with this transport parameter means: `sips:…;transport=tcp` is TLS (RFC 5630
    §3.1.3). None where nothing is secure."""


TRANSPORTS: Mapping[str, ViaTransport] = {
    "SCTP": ViaTransport(4168, True, False, 5060, "SIP+D2S", "_sip._sctp", "TLS-SCTP"),
    "TCP": ViaTransport(3261, True, False, 5060, "SIP+D2T", "_sip._tcp", "TLS"),
    "TLS": ViaTransport(3261, True, True, 5061, "SIPS+D2T", "_sips._tcp", "TLS"),
    "TLS-SCTP": ViaTransport(4168, True, True, 5061, "SIPS+D2S", "_sips._sctp", "TLS-SCTP"),
    "UDP": ViaTransport(3261, False, False, 5060, "SIP+D2U", "_sip._udp", None),
    "WS": ViaTransport(7118, True, False, 80, "SIP+D2W", "_sip._ws", "WSS"),
    "WSS": ViaTransport(7118, True, True, 443, "SIPS+D2W", "_sips._ws", "WSS"),
}
"""Name to row of each transport of a Via (§20.42)."""

DEFAULT_PORT = 5060
"""The port of a transport that is in no RFC."""

DEFAULT_PORTS: Mapping[str, int] = {name: row.default_port for name, row in TRANSPORTS.items()}
"""Name of a transport to its default port."""
