"""Stack: what users hold, RFC 3261 §5: transports, transactions and a core, wired together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Group

from . import arguments
from .core.capabilities import Capabilities
from .core.client.sender import Sender
from .core.client.targets import AllowTarget, NextHop
from .core.client.transaction import ClientTransaction
from .core.core import Core, CoreFunction
from .core.dialog.call import SESSION_TYPE, Call, OnProvisional
from .core.dialog.dialogs import Dialogs
from .core.dispatch import Dispatcher
from .core.methods import check_methods, option_tags
from .core.middleware import Middleware
from .core.options import check_accept, check_alone, check_options, check_wait, check_way
from .core.routing.keepalive import KeepAlives
from .core.routing.local import Names
from .core.routing.record_route import RecordRoute
from .core.routing.responses import ReroutedResponses
from .core.statistics import statistics, unfinished
from .engine.engine import Engine
from .engine.filters import Filter
from .engine.ingress import Accept
from .engine.listening import Planned, plan
from .engine.users import ClientUser
from .errors import InvalidValue, Reject, TransactionStateError, TransportError, excerpt
from .message.address import NameAddr
from .message.identifiers import Identifiers
from .message.message import Request, Response
from .message.uri import URI, check_uri
from .observe.tap import Observation, Observer
from .runtime.clock import Clock
from .runtime.limits import Limits
from .runtime.process import PROCESS
from .transaction.timers import Timers
from .transport.base import Flow, Transport
from .transport.egress import Wanted
from .transport.locate.resolver import DNSResolver, Resolver
from .transport.locate.rfc3263 import Candidate
from .transport.tls import TLS
from .transport.websocket.settings import Web

log = logging.getLogger("sippet_gevent.core")


DEFAULT_ADDRESS = "udp:127.0.0.1:5060"
"""The address of run() and `sippet serve` when none is given; other machines cannot reach it."""

DRAIN_SECONDS = 32.0
"""How long run() lets a stack finish what is under way: 64*T1, the life of a transaction."""


class Stack:
    """A SIP element: listens on addresses, gives requests to its core, sends requests of its own.

    `Stack("udp:0.0.0.0:5060", core=my_core)`. Nothing is opened before start(), run(), `with` or
    serve_forever(), which raise TransportError for an address that is taken.

    Args:
        addresses: Where to listen; Listener describes their parameters.
        core: A callable of (request, tx), or a Core. Without one, `@stack.on("INVITE")` registers
            functions by method.
        clock: The time; a VirtualClock in tests.
        timers: The lengths of the RFC's timers.
        limits: How many of everything may exist.
        supported: The option tags that your cores implement (§8.2.2.3).
        domains: The names of this element besides its addresses. If there are any, a Registrar
            serves these alone. The first one is also the domain of the stack's addresses and of
            localhost.
        aliases: Further names of a domain, `{"example.net": "example.com"}`.
        route_secret: 16 bytes or more, with which the tokens in our Record-Route are made; random
            by default. Give the same to processes that serve the same calls, and to one that
            replaces another.
        resolver: Finds addresses of names; /etc/hosts and DNS by default.
        tls: The certificates of `tls:` and `wss:` addresses, and the authorities to trust.
        sips_in_clear: Serve requests to sips URIs that arrive without TLS, for deployments behind a
            proxy that terminates TLS (RFC 5630).
        keep: Offer keep-alives to registrars and callees, and send them where they are wanted (RFC
            6223).
        web: Which pages may open a WebSocket, and what else its port serves.
        accept: `accept(data, flow)`, a Filter or a function of yours: decides which messages are
            read at all.
        allow_target: `allow_target(candidate)`: decides to which addresses requests, and responses
            that have lost their connection, may be sent after DNS was asked.
        headers: Header fields of all requests and responses of this stack that do not have their
            own, `{"User-Agent": "office/1.0", "Server": "office/1.0"}`. User-Agent is for requests,
            Server for responses; Accept names the bodies that are understood.

    Raises:
        InvalidValue: An address, a domain, a header field or the secret cannot be.
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
        web: Web | None = None,
        accept: Accept | None = None,
        allow_target: AllowTarget | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        check_options(
            clock=clock, timers=timers, limits=limits, resolver=resolver, tls=tls, web=web,
            sips_in_clear=sips_in_clear, keep=keep, allow_target=allow_target,
        )  # fmt: skip
        self.dispatcher = Dispatcher(self)
        self.methods = self.dispatcher.methods
        self.middleware = self.dispatcher.middleware
        self.identifiers = Identifiers()
        self._wire(Engine(self.dispatcher, clock=clock, timers=timers, limits=limits))
        self.tls = tls
        self.web = web
        self.sips_in_clear = sips_in_clear
        self.keep = keep
        self.names = Names(self.engine.transports, domains, route_secret, aliases)
        self.supported = frozenset(tag.lower() for tag in option_tags(supported))
        self.capabilities = Capabilities(self, headers)
        self.resolver = DNSResolver() if resolver is None else resolver
        self.planned: list[Planned] = []
        self.accept = accept
        self.allow_target = allow_target
        self._has_own_core = core is not None
        if core is not None:
            self.core = core
        for address in addresses:
            self.listen(address)

    def _wire(self, engine: Engine) -> None:
        """Begin on this engine, and its clock, with nothing under way."""
        self.engine = engine
        self.clock = engine.clock
        self.deadlines = self.clock.deadlines(_expire)
        self.dialogs = Dialogs(self)
        self.rerouted = ReroutedResponses(self)
        self.keepalives = KeepAlives(self)
        self.sender = Sender(self)
        self.callbacks = Group()
        self._running = False
        self._stopped = Event()

    def _move(self, clock: Clock, planned: list[Planned]) -> dict[str, Any]:
        """Put a stack that does not run on another clock and other transports, as tests do.

        Returns the attributes that put it back, with what it had under way and counted.
        """
        if self._running:
            raise TransactionStateError("the stack is running: move it before start()")
        before = dict(vars(self))
        engine, accept = self.engine, self.accept
        self._wire(Engine(self.dispatcher, clock=clock, timers=engine.timers, limits=engine.limits))
        self.accept = accept
        for observer in engine.tap.observers if engine.tap is not None else ():
            self.engine.add_observer(observer)
        self.names = self.names.of(self.engine.transports)
        self.planned = planned
        return {name: value for name, value in before.items() if vars(self)[name] is not value}

    # ---- life

    def listen(self, address: str, transport: Transport | None = None) -> None:
        """Listen on a further address, `udp:host:port`, with parameters or without; port 0 takes a
        free one.

        `transport` is one of your own, by whose name in lower case the address may begin, too.
        Raises InvalidValue for a bad address, TransportError when it is taken (at start() if the
        stack is not running).
        """
        planned = plan(
            address, transport, self.planned, limits=self.engine.limits, tls=self.tls, web=self.web
        )
        if self._running:
            self._open(planned)
        self.planned += planned

    def reload_tls(self) -> None:
        """Read the certificates again, for new connections; those that stand stay. Raises
        InvalidValue, changing nothing.

        In a thread, for which the greenlet waits: the authorities a system trusts take 30 ms to
        read.
        """
        if self.tls is not None:
            gevent.get_hub().threadpool.apply(self.tls.reload)

    def _open(self, planned: list[Planned]) -> None:
        for transport in self.engine.open(planned):
            self.names.add(transport)

    def start(self) -> Stack:
        """Open all addresses. Raises TransportError, with none left open, when one is taken."""
        if not self._running:
            self._running = True
            self._stopped = Event()
            self.engine.draining = False
            self.resolver.start(self.clock)
            try:
                self._open(self.planned)
            except TransportError:
                self.stop()
                raise
        return self

    def drain(self) -> None:
        """Refuse new requests with 503 from now on; what is under way goes on."""
        self.engine.draining = True

    def stop(self, timeout: float | None = None) -> None:
        """Close everything; with `timeout`, first drain: wait this many seconds at most for what is
        under way."""
        timeout = arguments.seconds("timeout", timeout)
        if timeout is not None and self._running:
            self.drain()
            deadline = self.clock.now() + timeout
            stopped = self._stopped
            while self.active and self.clock.now() < deadline:
                if self.clock.within(0.05, stopped.wait):
                    return  # stopped at once meanwhile, and perhaps started again
        if self._running:
            self.drain()  # while the last BYEs leave
        try:
            self.dialogs.stop()
        finally:
            # before connections end, so that nothing goes on to its next target
            self._running = False
            self.rerouted.stop()
            self.keepalives.stop()
            self.engine.stop()
            self.resolver.stop()
            self.deadlines.stop()
            self.callbacks.kill(block=False)
            self.names.forget()
            self._stopped.set()

    def run(self, *addresses: str, drain: float = DRAIN_SECONDS) -> None:
        """Run the stack as a program: what `sippet serve` does, in one call. Returns when the stack
        has stopped.

        * Listens on `addresses` too, and on DEFAULT_ADDRESS when there is no other.
        * Logs to stderr at INFO, unless logging is set up already, and says where it listens.
        * SIGTERM or Ctrl-C refuses new requests with 503 and finishes what is under way, for
          `drain` seconds at most. A second one stops at once. SIGHUP reads the certificates again,
          SIGUSR1 logs the statistics. A signal that the program handles itself stays as it is.
        * Logs the line of code that blocks the loop, and keeps the garbage collector from
          stopping all calls for 0.1 s.

        Greenlets of the program go on meanwhile. `gevent.spawn(stack.run)` is possible, and several
        stacks may run at the same time. Call it in the main thread. Raises TransportError when an
        address is taken, InvalidValue for a bad one.

            if __name__ == "__main__":
                stack.run("udp:127.0.0.1:5060")
        """
        for address in addresses:
            self.listen(address)
        if not self.planned:
            self.listen(DEFAULT_ADDRESS)
        PROCESS.run(self, arguments.number("drain", drain))

    def serve_forever(self) -> None:
        """Start, and return when stop() was called from elsewhere. Without signals and logs: run()
        has them."""
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
        """Where it listens, `udp:host:port`, real ports in place of 0."""
        return [transport.listener.address for transport in self.engine.transports]

    @property
    def active(self) -> int:
        """What a drain waits for: transactions without final response, cores that run, calls,
        responses under way."""
        return unfinished(self)

    def stats(self) -> dict[str, Any]:
        """Return counters and gauges as one dict: what became of the messages received, and what is
        alive now."""
        return statistics(self)

    def tap(self, observer: Observer[Flow]) -> Observation:
        """Tell a callable of each message that this stack receives or sends.

        It sees the messages before encryption and after decryption, in order. It is called where
        the message is carried, so it must not wait. What it raises is logged.

            with stack.tap(lambda passage: print(passage.direction, passage.data)):
                stack.request("OPTIONS", "sip:bob@example.com")

        Args:
            observer: A callable of one argument, a Passage: time, direction, data, flow and
                transaction.

        Returns:
            A context manager. Its `close()` ends the telling.

        Raises:
            TypeError: The observer cannot be called with one argument.
        """
        if not callable(observer):
            raise TypeError(
                f"tap() takes a function of (passage), got {excerpt(observer)}: write stack.tap(print)"
            )
        arguments.takes(observer, ("passage",), "tap")
        self.engine.add_observer(observer)
        return Observation(lambda: self.engine.remove_observer(observer))

    # ---- cores

    @property
    def accept(self) -> Accept | None:
        """What is asked about each message before it is parsed: a callable of (data, flow), or
        None. Assign before start().

        It returns True, or False, or the reason why not, by which the message is counted among
        those `dropped`. It runs in the hub: it must not wait. When it raises, the message is taken.
        """
        return self.engine.accept

    @accept.setter
    def accept(self, accept: Accept | None) -> None:
        if isinstance(accept, Filter):
            accept.clock, accept.lines = self.clock, self.engine.counters.lines
        check_accept(accept)
        if self._running:
            raise TransactionStateError("the stack is running: a filter is set before start()")
        self.engine.accept = accept

    @property
    def core(self) -> CoreFunction:
        """The core; assign a callable, a Core or a Core class. To wrap it: `stack.core =
        middleware(stack.core)`."""
        return self.dispatcher.core

    @core.setter
    def core(self, core: CoreFunction | type[Core]) -> None:
        self.dispatcher.set_core(core)
        self.capabilities.forget()

    @property
    def allowed(self) -> tuple[str, ...]:
        """The methods that are served here, as Allow names them (§20.5): those of `@stack.on`, or
        what the core says.

        For a function without `allowed` these are the methods of every user agent.
        """
        return self.dispatcher.allowed

    def handles(self, method: str) -> bool:
        """True when the core serves a method. A core that is one function sees all of them."""
        return self.dispatcher.handles(method)

    def on(self, *methods: str) -> Callable[[CoreFunction], CoreFunction]:
        """Register a function for these methods, or for all others when none is named:
        `@stack.on("INVITE", "BYE")`.

        Raises InvalidValue for a text that is no method and for a method that has a function
        already, TypeError for a function that cannot be called with (request, tx),
        TransactionStateError for a stack that was made with `core=`.
        """
        if self._has_own_core:
            check_methods(methods)
            raise TransactionStateError(
                "this stack was made with a core, which gets all requests: "
                "leave out core=, or answer in that core"
            )
        return self.dispatcher.register(methods)

    def use(self, middleware: Callable[[CoreFunction], CoreFunction] | Middleware) -> None:
        """Add middleware: it wraps the core, and the requests that this stack sends.

        The first one added sees each request first, in both directions, and each answer last.

            def guard(core):
                def guarded(request, tx):
                    return 403 if request.method == "MESSAGE" else core(request, tx)
                return guarded

            stack.use(guard)

        Args:
            middleware: A function that takes a core and returns one. If it has a method
                `send(request, send)`, that wraps the requests that are sent; see Middleware.

        Raises:
            TypeError: It is neither, or it returns no core.
        """
        self.dispatcher.use(middleware)

    # ---- requests of our own

    def send(
        self,
        request: Request,
        next_hop: NextHop | None = None,
        *,
        user: ClientUser | None = None,
        mark: str = "",
        listener: Wanted = None,
        record_route: RecordRoute | None = None,
    ) -> ClientTransaction:
        """Send a request: add the Via, and whatever §8.1.1 wants and it lacks. Returns its
        ClientTransaction, None for ACK.

        `next_hop` is where it goes instead of its Route or Request-URI: a URI, or a Flow that a
        peer has opened, whose Via and Contact are then ours (RFC 5626 §5.3). `mark` ends its
        branch, a proxy's to find loops, `record_route` writes its Record-Route. When its target
        fails and the name has led to others, it goes on to the next one (RFC 3263 §4.3). `listener`
        names the one by which it leaves; a flow's `origin` in its place is preferred where it leads
        there; else the kernel's routes choose. Raises TransportError when there is no way, or the
        flow has ended, and InvalidValue for the name of no listener.

        A copy of `request` is sent, and is the transaction's `request`. `request` itself stays as
        it was made, so it may be sent again, anywhere: each time it is a new request, with a
        Call-ID, a From tag and a CSeq of its own where it names none (§8.1.1.4). To go on in the
        same sequence, a registration for example, set `call_id`, `from_` and `cseq`. Raises
        InvalidValue for a request that has left itself, `tx.request`: its Route and Contact belong
        to the way it took.
        """
        arguments.instance("request", request, Request, 'Request("OPTIONS", "sip:bob@example.com")')
        check_way(next_hop, listener)
        if request.sent_via is not None:
            raise InvalidValue(
                f"{request!r} has left already: send the Request it was made from, or a new one"
            )
        return self.sender.send(
            request.copy(),
            next_hop,
            user=user,
            mark=mark,
            listener=listener,
            record_route=record_route,
        )

    def request(
        self,
        method: str,
        uri: URI | str,
        *,
        next_hop: NextHop | None = None,
        listener: Wanted = None,
        timeout: float | None = None,
        on_provisional: OnProvisional | None = None,
        body: bytes | str = b"",
        **headers: Any,
    ) -> Response:
        """Send a request and return its final response, whatever its status.

        Raises TransactionTimeout, also after `timeout` seconds, and TransportError; Cancelled in a
        cancelled core.
        """
        timeout = check_wait(timeout, on_provisional)
        check_way(next_hop, listener)
        request = Request(method, uri, body=body, **headers)
        check_alone(request.method)
        return self.sender.send(request, next_hop, listener=listener).final(on_provisional, timeout)

    def invite(
        self,
        uri: URI | str,
        *,
        next_hop: NextHop | None = None,
        listener: Wanted = None,
        timeout: float | None = None,
        on_provisional: OnProvisional | None = None,
        body: bytes | str = b"",
        **headers: Any,
    ) -> Call:
        """Call somebody and return the Call once it is answered; the ACK is sent (§13.2).

        Raises Reject with the peer's refusal, TransactionTimeout, TransportError, and Cancelled in
        a cancelled core; ParseError, a 502, for an answer whose Record-Route cannot be read: it is
        acknowledged and hung up on. However it is left before the answer, the INVITE is cancelled.
        """
        timeout = check_wait(timeout, on_provisional)
        check_way(next_hop, listener)
        if body:
            headers.setdefault("content_type", SESSION_TYPE)
        tx = self.sender.send(
            Request("INVITE", uri, body=body, **headers), next_hop, listener=listener
        )
        response = tx.final(on_provisional, timeout)
        if not response.is_success:
            raise Reject(response.status, response.reason, response=response)
        call = tx.call
        assert call is not None  # a 2xx makes one
        serving = getattr(gevent.getcurrent(), "serving", None)
        if serving is not None and not call.ended.is_set():
            serving._hold(call)
        return call

    def resolve(self, uri: URI | str, listener: Wanted = None) -> list[Candidate]:
        """Return the ways to where a URI leads, best first, those that failed lately last (RFC
        3263).

        Raises TransportError where there is none, and ParseError for a text that is no URI.
        """
        return self.sender.resolve(URI.parse(uri) if isinstance(uri, str) else uri, listener)

    def flow_to(self, uri: URI | str, listener: Wanted = None) -> Flow:
        """Return a flow to where a URI leads, by the best of our listeners that can. Raises
        TransportError and ParseError."""
        return self.sender.flow_to(URI.parse(uri) if isinstance(uri, str) else uri, listener)

    # ---- who we are

    @property
    def domains(self) -> tuple[str, ...]:
        """The names this element answers to besides its addresses, in the order given."""
        return self.names.domains

    def is_local(self, uri: URI) -> bool:
        """True when a URI leads to this stack: host and port it listens on or has told, or one of
        its domains."""
        check_uri("uri", uri)
        return self.names.is_local(uri)

    def is_responsible_for(self, uri: URI) -> bool:
        """True when a URI is of one of this stack's domains, or of its addresses, whatever its port
        (§16.5)."""
        check_uri("uri", uri)
        return self.names.is_responsible_for(uri)

    def aor(self, uri: URI) -> str:
        """Return the address-of-record that a URI names, the key of its bindings (§10.3 step 5);
        see Names.aor()."""
        check_uri("uri", uri)
        return self.names.aor(uri)

    def contact(self, flow: Flow, *, secure: bool = False) -> NameAddr:
        """Return the Contact that reaches this stack by the flow's way, a sips URI for `secure`;
        see Names.contact()."""
        return self.names.contact(flow, secure=secure)

    def route_uri(self, request: Request, flow: Flow, *, by_flow: bool = False) -> NameAddr:
        """Return the Record-Route value that keeps us on the route of a dialog (§16.6 step 4); see
        Names.route_uri()."""
        return self.names.route_uri(request, flow, by_flow=by_flow)

    def flow_uri(self, flow: Flow) -> URI:
        """Return a URI of ours for Path, by which requests find this flow (RFC 3327 §5, RFC 5626
        §5); see Names.flow_uri()."""
        return self.names.flow_uri(flow)

    def flow_name(self, flow: Flow) -> str:
        """Return the name of a flow among all of this stack: what find_flow() finds again."""
        return self.names.flow_name(flow)

    def find_flow(self, name: str) -> Flow | None:
        """Return the flow of this name, None when it has ended. Believe no name that a peer could
        have made up."""
        return self.names.find_flow(name)

    def __repr__(self) -> str:
        return f"<Stack {' '.join(self.addresses) or 'stopped'}>"


def _expire(now: float, item: Any) -> None:
    item.expire(now)
