"""Stack: connects transports, transactions and a core for an application, RFC 3261 §5.

It has no logic of its own. The file is long because it documents all public methods.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Group

from . import arguments
from .core.argument_checks import (
    check_accept,
    check_options,
    check_session_expires,
)
from .core.auth.credentials import Given, keyring
from .core.b2bua.session import BridgingSession
from .core.capabilities import Capabilities
from .core.client.sender import Sender
from .core.client.targets import AllowTarget
from .core.client.transaction import ClientTransaction
from .core.core import Core, CoreFunction
from .core.dialog.call import Call, MayReplace
from .core.dialog.dialogs import Dialogs
from .core.dialog.replaces import NamesDialog, dialog_of
from .core.dialog.rules import RULES, rules_for
from .core.dialog.session_interval import DEFAULT as SESSION_EXPIRES
from .core.dispatch import Dispatcher
from .core.methods import check_methods
from .core.middleware import Middleware
from .core.option_tags import check_supported
from .core.registration.accounts import Accounts
from .core.registration.registrations import Registrations
from .core.routing.keepalive import KeepAlives
from .core.routing.own_names import Names
from .core.routing.rerouted_responses import ReroutedResponses
from .core.server import ServerTransaction
from .core.statistics import Statistics, statistics, unfinished
from .core.user_agent_client import UserAgentClient
from .engine.engine import Engine
from .engine.filters import Filter
from .engine.ingress import Accept
from .engine.listening import Planned, plan
from .errors import (
    TransactionStateError,
    TransportError,
    excerpt,
)
from .message.address import NameAddr
from .message.identifiers import Identifiers
from .message.message import Request
from .message.uri import URI, check_uri
from .message.uri_arguments import given_uri
from .observe.tap import Observation, Observer
from .runtime.clock import Clock
from .runtime.collector import COLLECTOR
from .runtime.limits import Limits
from .runtime.memory import MemoryWatch, allowed
from .runtime.process import PROCESS
from .transaction.timers import Timers
from .transport.base import Flow, Transport
from .transport.listener_choice import Wanted
from .transport.locate.resolver import DNSResolver, Resolver
from .transport.locate.rfc3263 import Candidate
from .transport.tls import TLS
from .transport.websocket.settings import Web

log = logging.getLogger("sippet_gevent.core")


DEFAULT_ADDRESS = "udp:127.0.0.1:5060"
"""The default address of run() and `sippet serve`. Other machines cannot reach it."""

DRAIN_SECONDS = 32.0
"""Seconds that run() gives pending calls and transactions to finish. 64*T1, the life of a
transaction."""


class Stack(UserAgentClient):
    """A SIP element: listens on addresses, gives requests to its core, sends requests of its own.

        stack = Stack("udp:0.0.0.0:5060", core=lambda request, tx: 200)
        stack.run()

    Nothing is opened before start(), run(), serve_forever() or `with stack:`. They raise
    TransportError for an address that is taken.

    Args:
        addresses: Where to listen; see listen().
        core: A callable of (request, tx), or a Core. Without one, `@stack.on("INVITE")` registers
            functions by method.
        clock: The source of time. Tests pass a VirtualClock.
        timers: The lengths of the timers of RFC 3261.
        limits: The most calls, transactions, connections and bytes that the stack accepts.
        supported: The option tags that your cores implement (§8.2.2.3).
        domains: The names of this element besides its addresses. If there are any, a Registrar
            serves only these. The first one is also the domain of the stack's addresses and of
            localhost.
        aliases: Further names of a domain, `{"example.net": "example.com"}`.
        route_secret: The key of the tokens in our Record-Route, 16 bytes or more. It is random by
            default. Processes that serve the same calls need the same secret. So does a process
            that replaces another.
        resolver: Finds addresses of names; /etc/hosts and DNS by default.
        tls: The certificates of `tls:` and `wss:` addresses, and the authorities to trust.
        sips_in_clear: Serve requests to sips URIs that arrive without TLS, for deployments behind a
            proxy that terminates TLS (RFC 5630).
        keep: Offer keep-alives to registrars and callees, and send them if they are wanted (RFC
            6223).
        tune_gc: Let Python's garbage collector run often and shortly while the stack runs, instead
            of seldom and for long; see Collector. The thresholds are restored when the last stack
            stops.
        session_expires: Seconds after which a call ends unless it was refreshed. Half of them pass
            between two refreshes (RFC 4028). 0 asks for no session timer, and grants one to a peer
            that asks. `invite()` and `accept()` take another value for one call.
        web: Decides which pages may open a WebSocket, and which HTTP application its port serves.
        accept: A Filter, or a function of (data, flow), which decides which messages are read.
        may_replace: A function of (request, call), which decides if an INVITE may replace or join
            that call by Replaces or Join (RFC 3891, RFC 3911). It also decides about a REFER that a
            bridge carries out. By default a caller that knows the tags of a call may replace it,
            and nobody may join one.
        allow_target: A function of (candidate), which decides to which addresses messages may be
            sent, after names were resolved. It is called for requests, and for responses whose
            connection has ended.
        credentials: Credentials, a list of them, or a callable of (realm, request) that returns
            some and may block. They answer the challenges that requests of this stack get, and
            have to name their hosts.
        headers: Header fields of all messages of this stack that do not have their own,
            `{"User-Agent": "office/1.0", "Server": "office/1.0"}`. User-Agent is for requests,
            Server for responses. Accept lists the body types that the application understands.

    Raises:
        InvalidValue: An address, a domain, a header field or the secret is wrong.
        TypeError: A value has another type. The text says what to write.
    """

    def __init__(
        self,
        *addresses: str,
        core: CoreFunction | type[Core] | None = None,
        clock: Clock | None = None,
        timers: Timers | None = None,
        limits: Limits | None = None,
        supported: tuple[str, ...] = (),
        domains: tuple[str, ...] = (),
        aliases: Mapping[str, str] | None = None,
        route_secret: bytes | None = None,
        resolver: Resolver | None = None,
        tls: TLS | None = None,
        sips_in_clear: bool = False,
        keep: bool = False,
        tune_gc: bool = True,
        session_expires: int = SESSION_EXPIRES,
        web: Web | None = None,
        accept: Accept | None = None,
        may_replace: MayReplace | None = None,
        allow_target: AllowTarget | None = None,
        credentials: Given | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        check_options(
            clock=clock, timers=timers, limits=limits, resolver=resolver, tls=tls, web=web,
            sips_in_clear=sips_in_clear, keep=keep, tune_gc=tune_gc, allow_target=allow_target,
            may_replace=may_replace,
        )  # fmt: skip
        self.dispatcher = Dispatcher(self)
        self.methods = self.dispatcher.methods
        self.middleware = self.dispatcher.middleware
        self.identifiers = Identifiers()
        self.keyring = keyring(credentials, need_hosts=True)
        self._wire(Engine(self.dispatcher, clock=clock, timers=timers, limits=limits))
        self.tls = tls
        self.web = web
        self.sips_in_clear = sips_in_clear
        self.keep = keep
        self.tune_gc = tune_gc
        self.session_expires = check_session_expires(session_expires)
        self.names = Names(self.engine.transports, domains, route_secret, aliases)
        self.supported = RULES.option_tags.union(tag.lower() for tag in check_supported(supported))
        self.dialogs.rules = rules_for(self.supported)
        self.engine.flow_watch = self.names.flow_ended
        self.capabilities = Capabilities(self, headers)
        self.resolver = DNSResolver() if resolver is None else resolver
        self.planned: list[Planned] = []
        self.accept = accept
        self.allow_target = allow_target
        self.may_replace = may_replace
        self.accounts = Accounts(self)
        self._has_own_core = core is not None
        if core is not None:
            self.core = core
        for address in addresses:
            self.listen(address)

    def _wire(self, engine: Engine) -> None:
        """Connect the parts to this engine and its clock, without transactions and calls."""
        self.engine = engine
        self.clock = engine.clock
        self.deadlines = self.clock.deadlines(_expire)
        self.dialogs: Dialogs = Dialogs(self, BridgingSession)
        self.rerouted = ReroutedResponses(self)
        self.keepalives = KeepAlives(self)
        self.sender = Sender(self)
        self.registrations = Registrations(self)
        self.callbacks = Group()
        self.memory = MemoryWatch(self._work, engine.admission.use_memory)
        self._running = False
        self._stopped = Event()

    def _work(self) -> int:
        """Return the number of transactions and calls."""
        return len(self.engine.servers) + len(self.engine.clients) + len(self.dialogs)

    def _move(self, clock: Clock, planned: list[Planned]) -> dict[str, Any]:
        """Give a stopped stack another clock and other transports, for tests.

        Returns:
            The previous attributes, which undo the change.
        """
        if self._running:
            raise TransactionStateError("the stack is running: move it before start()")
        before = dict(vars(self))
        engine, accept = self.engine, self.accept
        self._wire(Engine(self.dispatcher, clock=clock, timers=engine.timers, limits=engine.limits))
        self.accept = accept
        for observation in engine.tap.observations if engine.tap is not None else ():
            self.engine.add_observation(observation)
        self.names = self.names.of(self.engine.transports)
        self.dialogs.rules = rules_for(self.supported)
        self.engine.flow_watch = self.names.flow_ended
        self.planned = planned
        return {name: value for name, value in before.items() if vars(self)[name] is not value}

    # ---- life

    def listen(self, address: str, transport: Transport | None = None) -> None:
        """Listen on a further address.

        Args:
            address: `udp:host:port`, with parameters or without. Port 0 takes a free port, and the
                host `*` means all addresses of both IP versions.
            transport: A transport of your own. Its address begins with its name in lower case.

        Raises:
            InvalidValue: The address cannot be read.
            TransportError: The address is taken. A stopped stack raises it in start().
        """
        planned = plan(
            address, transport, self.planned, limits=self.engine.limits, tls=self.tls, web=self.web
        )
        if self._running:
            self._open(planned)
        self.planned += planned

    def reload_tls(self) -> None:
        """Read the certificates again, for new connections. Existing connections keep theirs.

        The files are read in a thread, because loading the authorities of a system takes 30 ms.
        This greenlet waits for the thread. If a file is wrong, it raises InvalidValue and changes
        nothing.
        """
        if self.tls is not None:
            gevent.get_hub().threadpool.apply(self.tls.reload)

    def _open(self, planned: list[Planned]) -> None:
        for transport in self.engine.open(planned):
            self.names.add(transport)

    def start(self) -> Stack:
        """Open all addresses. Raises TransportError, and opens none, if one is taken."""
        if not self._running:
            self._running = True
            self._stopped = Event()
            self.engine.draining = False
            self.resolver.start(self.clock)
            limits = self.engine.limits
            if limits.memory_percent:
                self.memory.start((limits.memory or allowed()) * limits.memory_percent // 100)
            try:
                self._open(self.planned)
            except TransportError:
                self.stop()
                raise
            if self.tune_gc:
                COLLECTOR.join(self)
            self.accounts.start()
        return self

    def drain(self) -> None:
        """Refuse new requests with 503 from now on. Calls and transactions continue."""
        self.engine.draining = True

    def stop(self, timeout: float | None = None) -> None:
        """Close everything: registrations, calls, transactions and connections.

        Calls get a BYE. Requests without a final response get 503, and phones that ring a CANCEL.
        Bindings at registrars are removed, and no answer is waited for. Up to 16 leave at once. If
        there are more, stop() takes up to 10 seconds for them, so that a registrar gets no burst:
        they leave by 20 a second, or faster if they are more than 216. A second stop() meanwhile
        sends the rest at once.

        Args:
            timeout: Most seconds to drain first. Meanwhile new requests are refused, and calls and
                transactions continue. None stops at once.
        """
        timeout = arguments.seconds("timeout", timeout)
        if timeout is not None and self._running:
            self.drain()
            deadline = self.clock.now() + timeout
            stopped = self._stopped
            while self.active and self.clock.now() < deadline:
                if self.clock.within(0.05, stopped.wait):
                    return  # another greenlet called stop() meanwhile, and perhaps start()
        if self._running:
            self.drain()  # while the last BYEs leave
        try:
            if self._running and not self.registrations.leave():
                return  # another greenlet called stop() meanwhile, and perhaps start()
        except BaseException:
            self._end()
            raise
        self._end()

    def _end(self) -> None:
        try:
            self.registrations.stop()
            self.dialogs.hang_up()
            self._refuse_unanswered()
            self.dialogs.stop()
        finally:
            # before connections end, so that no request goes on to its next target
            self._running = False
            COLLECTOR.leave(self)
            self.memory.stop()
            self.accounts.stop()
            self.rerouted.stop()
            self.keepalives.stop()
            self.engine.stop()
            self.resolver.stop()
            self.deadlines.stop()
            self.callbacks.kill(block=False)
            self.names.forget()
            self._stopped.set()

    def _refuse_unanswered(self) -> None:
        """Answer each request that has no final response with 503, and cancel our INVITEs.

        Otherwise a phone that rings would go on when this process no longer exists, and neither
        side would be told. Nothing is waited for: an INVITE without any response is left alone,
        because it must not be cancelled yet (§9.1).
        """
        engine = self.engine
        for server in [*engine.servers.values()]:
            if server.is_unanswered and isinstance(server.user, ServerTransaction):
                server.user.leave(random.randint(*engine.limits.retry_after))
        for client in [*engine.clients.values()]:
            if client.is_unanswered and isinstance(client.user, ClientTransaction):
                client.user.cancel()

    def run(self, *addresses: str, drain: float = DRAIN_SECONDS) -> None:
        """Run the stack as a program, as `sippet serve` does. Returns when the stack has stopped.

            if __name__ == "__main__":
                stack.run("udp:127.0.0.1:5060")

        * It logs to stderr at INFO, unless logging is set up already, and logs where it listens.
        * SIGTERM or Ctrl-C drains the stack, a second one stops it at once. SIGHUP reads the
          certificates again, SIGUSR1 logs the statistics. run() does not touch a signal that the
          program handles itself.
        * It logs the line of code that blocks the loop.

        Call it in the main thread. Greenlets of the program run meanwhile.
        `gevent.spawn(stack.run)` is possible, and several stacks may run at the same time.

        Args:
            addresses: Further addresses to listen on. DEFAULT_ADDRESS if the stack has none.
            drain: Most seconds to drain after the first signal.

        Raises:
            SystemExit: An address is taken. Python then prints one line, which names the program
                that has it, and exits with 1. start() raises TransportError instead, and may be
                called before.
            InvalidValue: An address cannot be read.
        """
        for address in addresses:
            self.listen(address)
        if not self.planned:
            self.listen(DEFAULT_ADDRESS)
        PROCESS.run(self, arguments.duration("drain", drain))

    def serve_forever(self) -> None:
        """Start, and return after another greenlet has called stop(). If you want signals and logs,
        call run()."""
        self.start()
        try:
            self._stopped.wait()
        finally:
            self.stop()

    @property
    def is_running(self) -> bool:
        """True from start() until stop()."""
        return self._running

    def __enter__(self) -> Stack:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def addresses(self) -> list[str]:
        """The addresses that it listens on, as `udp:host:port`, with real ports in place of 0."""
        return [transport.listener.address for transport in self.engine.transports]

    @property
    def active(self) -> int:
        """Number of items that a drain waits for: transactions without final response, running
        cores, calls, and responses that are being rerouted."""
        return unfinished(self)

    def stats(self) -> Statistics:
        """Return counters of received messages and gauges of what exists now, by name.

        The values are numbers, and dicts of numbers by reason.
        """
        return statistics(self)

    def tap(self, observer: Observer[Flow]) -> Observation[Flow]:
        """Tell a callable of each message that this stack receives or sends.

        It sees the messages before encryption and after decryption, in order. It runs where the
        message is processed, so it must not wait. An exception that it raises is logged.

            with stack.tap(lambda passage: print(passage.direction, passage.data)):
                stack.request("OPTIONS", "sip:bob@example.com")

        Args:
            observer: A callable of one argument, a Passage: time, direction, data, flow and
                transaction.

        Returns:
            A context manager. Its `close()` ends the calls.

        Raises:
            TypeError: The observer cannot be called with one argument.
        """
        if not callable(observer):
            raise TypeError(
                f"tap() takes a function of (passage), got {excerpt(observer)}: write "
                "stack.tap(print)"
            )
        arguments.takes(observer, ("passage",), "tap")
        # not the method of today's engine: the fixture of tests gives a stack another one
        observation = Observation(observer, lambda it: self.engine.remove_observation(it))
        self.engine.add_observation(observation)
        return observation

    # ---- cores

    @property
    def accept(self) -> Accept | None:
        """The filter: a callable of (data, flow) that is called before a message is parsed, or
        None.

        It returns True to accept the message. To drop it, it returns False or the reason as text,
        and `dropped` counts by reason. It runs in the hub, so it must not wait. If it raises, the
        message is accepted. Assign it before start().
        """
        return self.engine.accept

    @accept.setter
    def accept(self, accept: Accept | None) -> None:
        if isinstance(accept, Filter):
            accept.attach(self.clock, self.engine.counters.lines)
        check_accept(accept)
        if self._running:
            raise TransactionStateError("the stack is running: set the filter before start()")
        self.engine.accept = accept

    @property
    def core(self) -> CoreFunction:
        """The core. Assign a callable of (request, tx), a Core or a Core class; use() wraps it."""
        return self.dispatcher.core

    @core.setter
    def core(self, core: CoreFunction | type[Core]) -> None:
        self.dispatcher.set_core(core)
        self.capabilities.forget()

    @property
    def allowed(self) -> tuple[str, ...]:
        """The methods that are served, as Allow names them (§20.5).

        They are those of `@stack.on`, or the attribute `allowed` of the core. For a function
        without that attribute, they are the methods of every user agent."""
        return self.dispatcher.allowed

    @property
    def allowed_in_calls(self) -> frozenset[str]:
        """Methods that every call serves by itself, such as PRACK."""
        return self.dialogs.rules.methods

    def handles(self, method: str) -> bool:
        """True when the core serves a method. A core that is one function gets all methods."""
        return self.dispatcher.handles(method)

    def handles_by_name(self, method: str) -> bool:
        """True when `@stack.on(method)` has registered a function for this very method."""
        return self.dispatcher.handles_by_name(method)

    def on(self, *methods: str, stateless: bool = False) -> Callable[[CoreFunction], CoreFunction]:
        """Register a function for methods.

            @stack.on("OPTIONS")
            def options(request, tx):
                return 200

        Args:
            methods: The methods. Without any, the function serves all methods that have no other.
            stateless: True to serve them without a transaction (§16.11). The function forwards each
                request to one target, or returns a final status. It runs again for a
                retransmission, so it must decide the same. Nothing is retransmitted, and no other
                target is tried. With INVITE, it also gets its ACKs and CANCELs.

        Raises:
            InvalidValue: A text is not a method, or the method has a function already.
            TypeError: The function cannot be called with (request, tx).
            TransactionStateError: The stack was made with `core=`.
        """
        if self._has_own_core:
            check_methods(methods)
            raise TransactionStateError(
                "this stack was made with a core, which gets all requests: "
                "leave out core=, or answer in that core"
            )
        return self.dispatcher.register(methods, stateless=stateless)

    def use(self, middleware: Callable[[CoreFunction], CoreFunction] | Middleware) -> None:
        """Add middleware: it wraps the core, and the requests that this stack sends.

        The first one added sees each request first, in both directions, and each answer last.

            def guard(core):
                def guarded(request, tx):
                    return 403 if request.method == "MESSAGE" else core(request, tx)
                return guarded

            stack.use(guard)

        Args:
            middleware: A function that takes a core and returns one. Its method `send(request,
                send)`, if it has one, wraps the requests that the stack sends; see Middleware.

        Raises:
            TypeError: It is not callable and has no such method, or it returns no core.
        """
        self.dispatcher.use(middleware)

    # ---- calls and next hops

    def find_call(self, named: NamesDialog | None) -> Call | None:
        """Return the call that a header field names: Replaces, Join or Target-Dialog (RFC 3891, RFC
        3911, RFC 4538).

            old = stack.find_call(request.replaces)

        None without one, and for an argument of None.
        """
        return None if named is None else self.dialogs.named(dialog_of(named))

    def resolve(self, uri: URI | str, listener: Wanted = None) -> list[Candidate]:
        """Return the candidates of a URI, best first, and those that failed lately last (RFC 3263).

        Raises:
            TransportError: No candidate was found.
            InvalidValue: The text is not a URI.
        """
        return self.sender.resolve(given_uri("uri", uri), listener)

    def flow_to(self, uri: URI | str, listener: Wanted = None) -> Flow:
        """Return a flow to where a URI leads, by the best of our listeners. Raises TransportError
        and InvalidValue."""
        return self.sender.flow_to(given_uri("uri", uri), listener)

    # ---- names and flows

    @property
    def domains(self) -> tuple[str, ...]:
        """The names of this element besides its addresses, in the order given."""
        return self.names.domains

    def is_local(self, uri: URI) -> bool:
        """True when a URI leads to this stack: to an address that it listens on or advertises, or
        to one of its domains."""
        check_uri("uri", uri)
        return self.names.is_local(uri)

    def is_responsible_for(self, uri: URI) -> bool:
        """True when the host of a URI is a domain or an address of this stack, with any port
        (§16.5)."""
        check_uri("uri", uri)
        return self.names.is_responsible_for(uri)

    def aor(self, uri: URI) -> str:
        """Return the address-of-record that a URI names, the key of its bindings (§10.3 step 5)."""
        check_uri("uri", uri)
        return self.names.aor(uri)

    def contact(self, flow: Flow, *, secure: bool = False) -> NameAddr:
        """Return the Contact by which the peer of a flow reaches this stack; a sips URI if
        `secure`."""
        return self.names.contact(flow, secure=secure)

    def route_uri(self, request: Request, flow: Flow, *, by_flow: bool = False) -> NameAddr:
        """Return the Record-Route value that keeps this stack on the route of a dialog (§16.6 step
        4)."""
        return self.names.route_uri(request, flow, by_flow=by_flow)

    def flow_uri(self, flow: Flow) -> URI:
        """Return a URI for Path. Requests with this URI as their Route go by this flow (RFC 3327
        §5, RFC 5626 §5)."""
        return self.names.flow_uri(flow)

    def flow_name(self, flow: Flow) -> str:
        """Return the name of a flow of this stack, by which find_flow() finds it again."""
        return self.names.flow_name(flow)

    def find_flow(self, name: str) -> Flow | None:
        """Return the flow of this name; None if it has ended.

        Do not trust a name that a peer could have written.
        """
        return self.names.find_flow(name)

    def __repr__(self) -> str:
        return f"<Stack {' '.join(self.addresses) or 'stopped'}>"


def _expire(now: float, item: Any) -> None:
    item.expire(now)
