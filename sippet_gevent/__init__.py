"""SIP middleware for gevent programs, RFC 3261: message, transport, transaction and core layers,
nothing hidden.

The floors, from the ground up; a module imports its own folder and what is below it:

    errors       every exception, with the status it amounts to
    message/     bytes to objects and back (pure)
    transaction/ the four state machines (pure)
    transport/   sockets and flows; clock, workers: deadlines and greenlets
    engine       wires transports to transactions
    core/        user agents, calls, proxies, registrars
    stack        what you hold; testing: the `sip` fixture; __main__: the `sippet` command
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .core.auth.authenticated import Authenticated
    from .core.auth.bans import Ban, Bans
    from .core.auth.credentials import Credentials
    from .core.auth.digest import ha1
    from .core.auth.server import Authenticator
    from .core.b2bua.bridge import bridge
    from .core.b2bua.policy import BridgePolicy
    from .core.b2bua.relay import MediaRelay
    from .core.b2bua.rtpengine import RTPEngine
    from .core.client.targets import NextHop
    from .core.client.transaction import ClientTransaction
    from .core.core import Core, CoreFunction
    from .core.dialog.call import Call
    from .core.dialog.end import Bridged, End
    from .core.dialog.events import CallEvent
    from .core.dialog.handlers import CallHandlers
    from .core.dialog.notifier import Notifier
    from .core.dialog.referral import Referral
    from .core.dialog.subscription import Subscription
    from .core.forwarding import CoreResult
    from .core.middleware import Middleware, Send
    from .core.numbers import COUNTRIES, Country, hide_caller, normalise
    from .core.proxy.context import ResponseContext
    from .core.proxy.forward import forward
    from .core.proxy.forwarded_request import ForwardedRequest
    from .core.proxy.steps import (
        add_record_route,
        add_via,
        derive_branch,
        forward_request,
        forward_response,
    )
    from .core.registrar.registrar import Registrar
    from .core.registrar_proxy import RegistrarProxy
    from .core.registration.account import Account
    from .core.registration.accounts import Accounts
    from .core.registration.registration import Registration
    from .core.server import ServerTransaction
    from .core.statistics import Statistics
    from .core.trunks import Trunk, Trunks
    from .core.trust_domain import TrustDomain
    from .core.user_agent import UserAgent
    from .engine.filters import Filter
    from .errors import (
        Cancelled,
        InvalidValue,
        ParseError,
        Reject,
        SIPError,
        StoreError,
        TransactionStateError,
        TransactionTimeout,
        TransportError,
        Unauthorized,
    )
    from .message import sdp
    from .message.address import NameAddr
    from .message.body import Part
    from .message.framer import Framer
    from .message.header import Header
    from .message.headers import Headers
    from .message.iana import METHODS, OPTION_TAGS, STATUSES, TRANSPORTS, reason_phrase
    from .message.identifiers import Identifiers, create_branch, create_call_id, create_tag
    from .message.message import Message, Request, Response, register_header
    from .message.multipart import multipart
    from .message.parameters import Parameters
    from .message.parser import ParserLimits, implementation, parse
    from .message.sipfrag import Fragment
    from .message.uri import URI
    from .message.validation import validate
    from .message.via import Via
    from .observe.tap import Observation, Passage
    from .runtime.clock import Alarm, Clock, VirtualClock
    from .runtime.collector import Collector
    from .runtime.limits import Limits, StreamLimits
    from .stack import Stack
    from .stores.base import BindingEvent, BindingStore, Watch, Watchers
    from .stores.bindings import Binding, Bindings, FlowName
    from .stores.location import Location
    from .stores.memory import MemoryBindings
    from .stores.sqlite import SQLiteBindings
    from .stores.users import MemoryUsers, SQLiteUsers, User, UserStore
    from .transaction.timers import Timers
    from .transport.base import Flow, Transport
    from .transport.locate.records import NAPTR, SRV, Answer, Question
    from .transport.locate.resolver import DNSResolver, Resolver, StaticResolver
    from .transport.locate.rfc3263 import Candidate
    from .transport.tls import TLS
    from .transport.websocket.handshake import Handshake
    from .transport.websocket.settings import Web

__version__ = "0.1.0"

__all__ = [
    # errors
    "SIPError",
    "ParseError",
    "InvalidValue",
    "Reject",
    "Unauthorized",
    "Cancelled",
    "TransactionTimeout",
    "TransportError",
    "StoreError",
    "TransactionStateError",
    # message
    "Message",
    "Request",
    "Response",
    "URI",
    "NameAddr",
    "Via",
    "Header",
    "Headers",
    "Parameters",
    "register_header",
    "parse",
    "ParserLimits",
    "validate",
    "Part",
    "multipart",
    "Fragment",
    "sdp",
    "Framer",
    "implementation",
    "Identifiers",
    "create_branch",
    "create_tag",
    "create_call_id",
    "METHODS",
    "OPTION_TAGS",
    "STATUSES",
    "TRANSPORTS",
    "reason_phrase",
    # transaction
    "Timers",
    # transport
    "Transport",
    "Flow",
    "Resolver",
    "DNSResolver",
    "StaticResolver",
    "SRV",
    "NAPTR",
    "Question",
    "Answer",
    "Candidate",
    "Clock",
    "VirtualClock",
    "Alarm",
    "TLS",
    "Web",
    "Handshake",
    "Collector",
    "Limits",
    "StreamLimits",
    "Filter",
    # core
    "Core",
    "CoreFunction",
    "CoreResult",
    "UserAgent",
    "Middleware",
    "Send",
    "ServerTransaction",
    "NextHop",
    "ClientTransaction",
    "Credentials",
    "ha1",
    "Authenticated",
    "TrustDomain",
    "normalise",
    "hide_caller",
    "Country",
    "COUNTRIES",
    "Authenticator",
    "Bans",
    "Ban",
    "Call",
    "CallEvent",
    "CallHandlers",
    "Referral",
    "Subscription",
    "Notifier",
    "End",
    "ResponseContext",
    "ForwardedRequest",
    "forward",
    "add_record_route",
    "add_via",
    "derive_branch",
    "forward_request",
    "forward_response",
    "bridge",
    "Bridged",
    "BridgePolicy",
    "MediaRelay",
    "RTPEngine",
    "Registrar",
    "Registration",
    "Account",
    "Accounts",
    "Location",
    "MemoryBindings",
    "SQLiteBindings",
    "User",
    "UserStore",
    "MemoryUsers",
    "SQLiteUsers",
    "Binding",
    "Bindings",
    "FlowName",
    "BindingStore",
    "BindingEvent",
    "Watch",
    "Watchers",
    "RegistrarProxy",
    "Trunk",
    "Trunks",
    # stack
    "Stack",
    "Statistics",
    "Passage",
    "Observation",
]

# The module of each public name. It is imported when the name is first used, so that importing the
# package costs nothing: pytest does so in each run, because of the plugin in `testing`.
_MODULES = {
    "Authenticated": ".core.auth.authenticated",
    "Authenticator": ".core.auth.server",
    "Ban": ".core.auth.bans",
    "Bans": ".core.auth.bans",
    "Credentials": ".core.auth.credentials",
    "ha1": ".core.auth.digest",
    "NextHop": ".core.client.targets",
    "ClientTransaction": ".core.client.transaction",
    "Core": ".core.core",
    "CoreFunction": ".core.core",
    "CoreResult": ".core.forwarding",
    "Call": ".core.dialog.call",
    "End": ".core.dialog.end",
    "CallEvent": ".core.dialog.events",
    "CallHandlers": ".core.dialog.handlers",
    "Notifier": ".core.dialog.notifier",
    "Referral": ".core.dialog.referral",
    "Subscription": ".core.dialog.subscription",
    "Account": ".core.registration.account",
    "Accounts": ".core.registration.accounts",
    "Registration": ".core.registration.registration",
    "TrustDomain": ".core.trust_domain",
    "Middleware": ".core.middleware",
    "Send": ".core.middleware",
    "COUNTRIES": ".core.numbers",
    "Country": ".core.numbers",
    "hide_caller": ".core.numbers",
    "normalise": ".core.numbers",
    "ResponseContext": ".core.proxy.context",
    "ForwardedRequest": ".core.proxy.forwarded_request",
    "add_record_route": ".core.proxy.steps",
    "add_via": ".core.proxy.steps",
    "derive_branch": ".core.proxy.steps",
    "forward_request": ".core.proxy.steps",
    "forward_response": ".core.proxy.steps",
    "forward": ".core.proxy.forward",
    "bridge": ".core.b2bua.bridge",
    "Bridged": ".core.dialog.end",
    "BridgePolicy": ".core.b2bua.policy",
    "MediaRelay": ".core.b2bua.relay",
    "RTPEngine": ".core.b2bua.rtpengine",
    "Registrar": ".core.registrar.registrar",
    "RegistrarProxy": ".core.registrar_proxy",
    "Trunk": ".core.trunks",
    "Trunks": ".core.trunks",
    "ServerTransaction": ".core.server",
    "UserAgent": ".core.user_agent",
    "Filter": ".engine.filters",
    "Cancelled": ".errors",
    "InvalidValue": ".errors",
    "ParseError": ".errors",
    "Reject": ".errors",
    "SIPError": ".errors",
    "StoreError": ".errors",
    "TransactionStateError": ".errors",
    "TransactionTimeout": ".errors",
    "TransportError": ".errors",
    "Unauthorized": ".errors",
    "sdp": ".message.sdp",
    "NameAddr": ".message.address",
    "Part": ".message.body",
    "Framer": ".message.framer",
    "Header": ".message.header",
    "Headers": ".message.headers",
    "METHODS": ".message.iana",
    "OPTION_TAGS": ".message.iana",
    "STATUSES": ".message.iana",
    "TRANSPORTS": ".message.iana",
    "reason_phrase": ".message.iana",
    "Identifiers": ".message.identifiers",
    "create_branch": ".message.identifiers",
    "create_call_id": ".message.identifiers",
    "create_tag": ".message.identifiers",
    "Message": ".message.message",
    "Request": ".message.message",
    "Response": ".message.message",
    "register_header": ".message.message",
    "multipart": ".message.multipart",
    "Parameters": ".message.parameters",
    "ParserLimits": ".message.parser",
    "implementation": ".message.parser",
    "parse": ".message.parser",
    "Fragment": ".message.sipfrag",
    "URI": ".message.uri",
    "validate": ".message.validation",
    "Via": ".message.via",
    "Observation": ".observe.tap",
    "Passage": ".observe.tap",
    "Alarm": ".runtime.clock",
    "Clock": ".runtime.clock",
    "VirtualClock": ".runtime.clock",
    "Collector": ".runtime.collector",
    "Limits": ".runtime.limits",
    "StreamLimits": ".runtime.limits",
    "Stack": ".stack",
    "BindingEvent": ".stores.base",
    "BindingStore": ".stores.base",
    "Watch": ".stores.base",
    "Watchers": ".stores.base",
    "Binding": ".stores.bindings",
    "Bindings": ".stores.bindings",
    "FlowName": ".stores.bindings",
    "Statistics": ".core.statistics",
    "Location": ".stores.location",
    "MemoryBindings": ".stores.memory",
    "SQLiteBindings": ".stores.sqlite",
    "MemoryUsers": ".stores.users",
    "SQLiteUsers": ".stores.users",
    "User": ".stores.users",
    "UserStore": ".stores.users",
    "Timers": ".transaction.timers",
    "Flow": ".transport.base",
    "Transport": ".transport.base",
    "DNSResolver": ".transport.locate.resolver",
    "Resolver": ".transport.locate.resolver",
    "StaticResolver": ".transport.locate.resolver",
    "Answer": ".transport.locate.records",
    "Candidate": ".transport.locate.rfc3263",
    "NAPTR": ".transport.locate.records",
    "Question": ".transport.locate.records",
    "SRV": ".transport.locate.records",
    "TLS": ".transport.tls",
    "Handshake": ".transport.websocket.handshake",
    "Web": ".transport.websocket.settings",
}


if not TYPE_CHECKING:  # a type checker would take any name for one of ours otherwise

    def __getattr__(name: str) -> object:
        module = _MODULES.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = import_module(module, __name__)
        value = globals()[name] = getattr(found, name, found)  # sdp is a module itself
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
