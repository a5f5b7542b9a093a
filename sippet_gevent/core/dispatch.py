"""Dispatcher: brings a received message to its dialog or to the core, RFC 3261 §8.2 and §12.2.2.

The engine calls it for messages without a transaction user. They are new requests, ACKs to 2xx
responses, and stray responses. It also gets failures that no greenlet waits for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from ..engine.users import ServerRecord, ServerUser
from ..errors import Reject
from ..message.message import Request, Response
from ..observe.log_values import Plain, Quoted, call_id_in
from ..transaction.machines import INVITE_SERVER
from ..transport.base import Flow
from .core import Core, CoreFunction, check_core
from .dialog.dialogs import Dialogs
from .methods import ANY, Methods, check_methods, near_method
from .middleware import Chain
from .proxy.stateless import return_statelessly
from .routing.rerouted_responses import ReroutedResponses
from .routing.sips import check_received
from .server import ServerTransaction
from .serving import Copied, call_back, serve, serve_ack, serve_stateless
from .user_agent import UserAgent

log = logging.getLogger("sippet_gevent.core")


class DispatchingElement(UserAgent, Protocol):
    """The parts of a stack that the dispatcher uses."""

    @property
    def dialogs(self) -> Dialogs:
        """The calls, by dialog."""

    @property
    def rerouted(self) -> ReroutedResponses:
        """Responses that are being rerouted."""

    @property
    def sips_in_clear(self) -> bool:
        """True when requests to sips URIs are served that arrive without TLS."""


class Dispatcher:
    """Runs the core of a stack for messages from the engine."""

    def __init__(self, stack: DispatchingElement) -> None:
        self.methods = Methods()
        """The functions of `@stack.on(…)`."""
        self.core: CoreFunction = self.methods
        self.middleware = Chain()
        self._wrapped: CoreFunction = _direct(self.core)  # the core with the middleware around it
        self._is_bare = True  # the core is functions for methods, without middleware
        self._stack = stack
        self._strays = 0

    # ---- the core

    def set_core(self, core: CoreFunction | type[Core]) -> None:
        """Use this core from now on. Raises TypeError for an object that cannot serve requests."""
        served: CoreFunction
        # check_core() refuses other classes
        served = core() if isinstance(core, type) and issubclass(core, Core) else core  # type: ignore[assignment]  # as above
        check_core(served)
        self._attach(served)
        self._wrap(self.middleware.wrap(served), served)
        self.core = served

    def _wrap(self, wrapped: CoreFunction, core: CoreFunction) -> None:
        self._wrapped = _direct(wrapped)
        # not that of another stack, whose functions are others
        self._is_bare = wrapped is core and core is self.methods

    def _attach(self, core: CoreFunction) -> None:
        """Tell a core its stack: a Core, or one with a method `attach`, such as a Registrar."""
        if isinstance(core, Core):
            core.stack = self._stack
        attach = getattr(core, "attach", None)
        if callable(attach):
            attach(self._stack)

    def use(self, middleware: object) -> None:
        """Add middleware behind the others. Raises TypeError for an object that is not
        middleware."""
        self._wrap(self.middleware.add(middleware, self.core), self.core)

    def register(
        self, methods: tuple[str, ...], *, stateless: bool = False
    ) -> Callable[[CoreFunction], CoreFunction]:
        """Return a decorator that registers a function for these methods; see Stack.on()."""
        check_methods(methods)
        for method in methods:
            if near := near_method(method):
                log.warning(
                    'unknown method: method=%s hint="write %s, unless you mean a method of your '
                    'own"',
                    Plain(method),
                    Quoted(near),
                )

        def register(function: CoreFunction) -> CoreFunction:
            check_core(function)
            self._attach(function)
            self.methods.add(methods, function)
            if stateless:
                self.methods.stateless.update(methods or (ANY,))
                self._stack.engine.serves_statelessly = self._is_stateless
            self._stack.capabilities.forget()
            return function

        return register

    @property
    def allowed(self) -> tuple[str, ...]:
        """The methods that are served, as Allow names them (§20.5)."""
        core = self.core
        # the application may have wrapped it
        if not hasattr(core, "allowed") and self.methods.handlers:
            core = self.methods
        allowed: tuple[str, ...] = getattr(core, "allowed", Core.allowed)
        return allowed

    def handles(self, method: str) -> bool:
        """True when the core serves a method. A core that is one function sees all of them."""
        core = self.core
        return not isinstance(core, Methods) or core.handles(method)

    def handles_by_name(self, method: str) -> bool:
        """True when a function is registered for this very method."""
        core = self.core
        return isinstance(core, Methods) and method in core.handlers

    # ---- for the engine

    def core_within(self, request: Request) -> CoreFunction | None:
        """Return the core for a request with a To tag, or a BYE. None if it gets 481, because it
        belongs to no dialog and no function serves its method (§12.2.2, §15.1.2).

        Anybody can write such a request, so it gets no transaction (§8.2.7). Each copy of it gets
        the same answer. An INVITE has one all the same, which absorbs its ACK.
        """
        core = self._wrapped
        found = self._stack.dialogs.core_for(request, core)
        if found is core and self._is_bare and request._uri[:4] == "sip:":
            handlers = self.methods.handlers
            method = request._method
            if method not in handlers and ANY not in handlers and method != "INVITE":
                return None
        return found

    def serve(
        self,
        request: Request,
        transaction: ServerRecord,
        first: ServerUser | None = None,
        core: object | None = None,
    ) -> None:
        """Serve a new request: in its call, or by the core.

        Args:
            request: The request.
            transaction: Its server transaction.
            first: The ServerTransaction of the same request that arrived earlier by another path.
            core: What core_within() has returned, for a request with a To tag.
        """
        tx = ServerTransaction(self._stack, request, transaction)
        if self._stack.identifiers.owner:
            request.use_to_tag(self._stack.identifiers.tag())
        if request._uri[:4] != "sip:":
            try:
                self._check_scheme(request)
            except Reject as refusal:
                tx._reject(refusal)
                return
        if transaction.machine is INVITE_SERVER and "Expires" in request.headers.fields:
            tx._expire_invite()
        if first is not None:
            serve(tx, Copied(first, self._wrapped))  # type: ignore[arg-type]  # a user of ours
        else:
            # core_within() has returned a core, as the engine cannot know
            serve(tx, self._wrapped if core is None else core)  # type: ignore[arg-type]

    def _is_stateless(self, request: Request) -> bool:
        """True for a request without a transaction: its method is served so, and it belongs to no
        dialog of this stack."""
        if not self.methods.is_stateless(request.method):
            return False
        core = self._wrapped
        return request.mandatory.to_tag is None or (
            self._stack.dialogs.core_for(request, core) is core
        )

    def serve_stateless(self, request: Request, reply: Flow) -> None:
        """Serve a request without a transaction (§16.11). `reply` is the flow of its answer."""
        tx = ServerTransaction(self._stack, request, None)
        tx.is_stateless = True
        tx._reply_flow = reply
        serve_stateless(tx, self._wrapped)

    def _check_scheme(self, request: Request) -> None:
        """Refuse a Request-URI of an unknown scheme, or a sips URI that arrived without TLS. Raises
        Reject.

        urn:service:sos is for elements that route emergency calls (RFC 5031 §4.2), which
        `Limits.emergency` makes of this one.
        """
        scheme = request.uri.scheme
        priority = self._stack.engine.admission.priority
        if scheme not in ("sip", "sips", "tel") and not priority.is_emergency(request.uri_text):
            raise Reject(416)  # §8.2.2.1
        if scheme == "sips":
            secure = self._stack.sips_in_clear or request.flow.transport.secure
            check_received(
                request,
                secure=secure,
                can_be=any(transport.secure for transport in self._stack.engine.transports),
            )

    def belongs(self, request: Request) -> bool:
        """True for a request within a call of ours, or along a route that we made for its dialog.

        A To tag alone proves nothing.
        """
        if request.mandatory.to_tag is None:
            return False
        return self._stack.dialogs.knows(request) or self._stack.names.made_route_of(request)

    def acknowledge(self, ack: Request) -> bool:
        """Give an ACK to its call, or to a core that serves ACKs. False if there is neither."""
        call = self._stack.dialogs.find(ack)
        if call is not None:
            call._receive_ack(ack)
            return True
        admission, bound = self._stack.engine.admission, self._stack.engine.amplification
        serves = (self.methods if self._is_bare else self).handles("ACK")
        if self._is_bare and not serves:
            return False  # such a core has made no route either
        host = ack.flow.remote[0]
        if host not in bound.acknowledged and self._stack.names.made_route_of(ack):
            bound.acknowledge(host)  # it has received the token in our Record-Route
        if not serves or not admission.may_acknowledge(lambda: self.belongs(ack)):
            return False
        serve_ack(ServerTransaction(self._stack, ack, None), self._wrapped)
        return True

    def stray(self, response: Response) -> bool:
        """Give a stray response to Core.receive_response(). False if the core lacks that method, or
        too many callbacks run already.

        A response to a request that was forwarded without a transaction returns to its sender.
        """
        if "-" in (response.mandatory.branch or "") and return_statelessly(self._stack, response):
            return True
        core = self.core
        if not isinstance(core, Core) or type(core).receive_response is Core.receive_response:
            return False
        # these callbacks may wait, and anybody may send more
        if self._strays >= self._stack.engine.limits.handlers:
            return False
        self._strays += 1
        try:
            call_back(self._stack, core.receive_response, response, None)
        finally:
            self._strays -= 1
        return True

    def fail(self, error: Exception, transaction: object) -> None:
        """Log the failure of a transaction that no greenlet waits for, and call
        Core.receive_error()."""
        stack = self._stack
        text = 'transaction failed: transaction="%r" call_id=%s reason="%s"'
        request = getattr(transaction, "request", None)
        if request is None:  # it is freed with the final response, which has the same Call-ID
            call_id = call_id_in(getattr(transaction, "last", None))
        else:
            call_id = Plain(request.headers.get("Call-ID"))
        stack.engine.counters.info(
            "transaction failed", stack.clock.now(), text, transaction, call_id, error, log=log
        )
        core = self.core
        if isinstance(core, Core) and type(core).receive_error is not Core.receive_error:
            # these callbacks may wait, and peers may cause more
            if len(stack.callbacks) >= stack.engine.limits.handlers:
                stack.engine.counters.warn(
                    "callbacks",
                    stack.clock.now(),
                    "receive_error not called: limit=handlers",
                    log=log,
                )
                return
            # in the hub it could not wait
            stack.callbacks.spawn(call_back, stack, core.receive_error, error, transaction)

    def reroute(self, transaction: ServerRecord, response: bytes) -> bool:
        """Reroute a response whose flow has ended. False if there is no other address to try."""
        return self._stack.rerouted.send(transaction, response)


def _direct(core: CoreFunction) -> CoreFunction:
    """Return the bound method of Methods. CPython calls it without a C frame of its own, which the
    greenlet of a core that waits would have to keep."""
    return core.__call__ if type(core) is Methods else core
