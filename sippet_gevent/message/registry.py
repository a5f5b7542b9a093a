"""The methods and option tags that have an RFC, as IANA lists them (RFC 3261 §27.1, §27.4). Pure."""

from __future__ import annotations

from typing import NamedTuple


class Method(NamedTuple):
    """A method: the RFC that says what it does, and what it does to dialogs."""

    rfc: int
    creates_dialog: bool = False
    """True when it may begin a dialog (§12.1, RFC 6665 §4.4.1)."""
    refreshes_target: bool = False
    """True when its Contact becomes the remote target of the dialog it is in (§12.2, RFC 5057 §5.4)."""


METHODS: dict[str, Method] = {
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
"""The methods that have an RFC."""


class OptionTag(NamedTuple):
    """An option tag: the RFC that it stands for, and what that adds."""

    rfc: int
    meaning: str


OPTION_TAGS: dict[str, OptionTag] = {
    "100rel": OptionTag(3262, "provisional responses are repeated until a PRACK acknowledges them"),
    "199": OptionTag(6228, "a 199 tells that an early dialog has ended"),
    "answermode": OptionTag(5373, "Answer-Mode and Priv-Answer-Mode say how to answer"),
    "early-session": OptionTag(3959, "a body may be an early-session description"),
    "eventlist": OptionTag(4662, "a subscription to a list of resources"),
    "explicitsub": OptionTag(7614, "REFER without subscription, with a URI to subscribe at"),
    "from-change": OptionTag(4916, "From and To may change within a dialog"),
    "geolocation-http": OptionTag(6442, "a location may be had by HTTP"),
    "geolocation-sip": OptionTag(6442, "a location may be had by SIP"),
    "gin": OptionTag(6140, "one REGISTER for all numbers of a PBX"),
    "gruu": OptionTag(5627, "URIs that reach one user agent from everywhere"),
    "histinfo": OptionTag(7044, "History-Info in responses"),
    "ice": OptionTag(5768, "media by ICE"),
    "join": OptionTag(3911, "an INVITE that joins another dialog"),
    "multiple-refer": OptionTag(5368, "REFER to several targets"),
    "norefersub": OptionTag(4488, "REFER without subscription, by Refer-Sub"),
    "nosub": OptionTag(7614, "REFER without subscription"),
    "outbound": OptionTag(5626, "connections that the client opens and keeps"),
    "path": OptionTag(3327, "the way to a phone is registered with it"),
    "policy": OptionTag(6794, "session policies are asked of policy servers"),
    "precondition": OptionTag(3312, "resources are reserved before it rings"),
    "pref": OptionTag(3840, "requests are matched with features of contacts"),
    "privacy": OptionTag(3323, "elements on the way hide who calls"),
    "recipient-list-invite": OptionTag(5366, "an INVITE to a list of recipients"),
    "recipient-list-message": OptionTag(5365, "a MESSAGE to a list of recipients"),
    "recipient-list-subscribe": OptionTag(5367, "a SUBSCRIBE to a list of resources"),
    "record-aware": OptionTag(7866, "the user agent can be told that it is recorded"),
    "replaces": OptionTag(3891, "an INVITE that takes the place of another dialog"),
    "resource-priority": OptionTag(4412, "Resource-Priority says who goes first"),
    "sdp-anat": OptionTag(4092, "media at several kinds of network address"),
    "sec-agree": OptionTag(3329, "the protection of the first hop is agreed on"),
    "siprec": OptionTag(7866, "a session with a recording server"),
    "tdialog": OptionTag(4538, "Target-Dialog names the dialog that authorizes"),
    "timer": OptionTag(4028, "sessions that are refreshed, or end"),
    "trickle-ice": OptionTag(8840, "ICE candidates are sent as they are found"),
    "uui": OptionTag(7433, "User-to-User carries data of applications"),
}
"""What may stand in Supported, Require, Proxy-Require and Unsupported: tags that have an RFC."""
