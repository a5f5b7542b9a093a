"""Sip: what the `sip` fixture gives, the real stack on a network in the process and virtual time.

    def test_caller_gives_up(sip):
        asked = sip.ask(core, "INVITE sip:bob@example.com")
        asked.cancel()
        assert asked.statuses == [180, 487]

When such a test fails, its report shows the messages as a ladder diagram. After each test, no
transaction, core or timer may be left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any, TypeVar, cast

import gevent

from ..arguments import number
from ..core.client.attempt import Policy
from ..core.client.retry import FAIL_OVER
from ..core.client.transaction import ClientTransaction
from ..core.core import CoreFunction
from ..core.dialog.call import Call
from ..core.dialog.media import stream_of
from ..core.dialog.terms import Terms
from ..errors import InvalidValue, TransactionStateError, excerpt
from ..message.message import Request, Response
from ..message.sdp import SDP, SENDRECV, answer
from ..message.uri import bracketed
from ..observe.ladder import LADDER_LINES, Exchange
from ..observe.ladder import draw as ladder
from ..runtime.clock import VirtualClock
from ..runtime.limits import Limits
from ..stack import Stack
from ..transport.base import Transport
from ..transport.listener import Listener
from ..transport.locate.records import Answer, Question
from ..transport.locate.resolver import DNSResolver, Resolver
from ..transport.memory import MemoryTransport, Network

Result = TypeVar("Result")

CLIENT = "10.0.0.100"
SERVER = "10.0.0.1"
_NO_DNS = "no DNS is asked in a test: write resolver=StaticResolver({…})"

__all__ = [
    "CLIENT",
    "LADDER_LINES",
    "OUTLIVES",
    "SERVER",
    "Asked",
    "NoDNS",
    "Sip",
    "ladder",
    "leftovers",
    "sleepers",
]

OUTLIVES = 250.0
"""Seconds of virtual time after a test in which every transaction must end: a ringing INVITE may
take timer C, its CANCEL 64*T1, and the answer to the caller another 64*T1."""


class NoDNS(Resolver):
    """The default resolver of tests. It asks no name server, so a test needs no network and no real
    time."""

    def ask(self, questions: tuple[Question, ...], budget: Any) -> tuple[Answer, ...]:
        return tuple(self._answer(question) for question in questions)

    def _answer(self, question: Question) -> Answer:
        if question.kind == "A" and question.name.lower() == "localhost":
            return Answer(("127.0.0.1",))
        return Answer((), _NO_DNS)


class Asked(ClientTransaction):
    """A request that a test has sent. It records each response and the error.

    It is not sent again after a refusal, so that the test sees each refusal.
    """

    __slots__ = ("_sip", "error", "responses")

    def __init__(self, sip: Sip, request: Request) -> None:
        super().__init__(sip.client, request)
        self._sip = sip
        self.responses: list[Response] = []
        self.error: Exception | None = None

    def _policies(self) -> tuple[Policy, ...]:
        return FAIL_OVER

    def _deliver(self, event: Response | Exception) -> None:
        super()._deliver(event)
        if isinstance(event, Exception):
            self.error = event
        else:
            self.responses.append(event)

    def cancel(self, **headers: Any) -> None:
        """Cancel the INVITE, and let everything happen that needs no time."""
        super().cancel(**headers)
        self._sip.settle()

    @property
    def statuses(self) -> list[int]:
        """Status codes of the responses so far, in order."""
        self._sip.settle()
        return [response.status for response in self.responses]

    @property
    def response(self) -> Response | None:
        """The final response, or None so far."""
        self._sip.settle()
        return self.final_response


def _accept_offer(offer: SDP | None, call: Call) -> SDP | None:
    """Answer an offer as a phone that can do all of it."""
    if offer is None:
        return None
    streams = {index: stream_of(section, SENDRECV) for index, section in enumerate(offer.media)}
    return answer(offer, streams, address=CLIENT, previous=call.local_sdp)


class Sip:
    """A clock, a network, and stacks on it. ask() sends requests from `client`.

    `sip.lossy(loss=0.3, seed=7)` makes the network lose messages.
    """

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.network = Network(self.clock)
        self.stacks: list[Stack] = []
        self._exchange = Exchange()
        self._next_host = 2
        self._client: Stack | None = None
        self._taken: list[tuple[Stack, dict[str, Any]]] = []

    def lossy(self, **behaviour: Any) -> Network:
        """Set how the network behaves: loss, duplicate, reorder, delay, jitter, and seed."""
        seed = behaviour.pop("seed", None)
        if seed is not None:
            self.network.seed = seed
            self.network.random.seed(seed)
        for name, value in behaviour.items():
            if not hasattr(self.network, name):
                raise TypeError(
                    f"a network has no {name}: write loss, duplicate, reorder, delay, jitter "
                    "or seed"
                )
            self.network.check(name, value)
            setattr(self.network, name, value)
        return self.network

    def stack(
        self,
        core: CoreFunction | None = None,
        host: str | None = None,
        port: int = 5060,
        **options: Any,
    ) -> Stack:
        """Return a new running stack on the network, at a host of its own.

        Args:
            core: The core. Without one, use `@stack.on`, or only send requests.
            host: Its address, such as "192.0.2.20". The default is the next one of 10.0.0.0/24.
            port: Its UDP port.
            options: Keyword arguments of Stack.

        Raises:
            InvalidValue: The host is no address.
        """
        if host is None:
            host = self._new_host()
        if not _is_host(host):
            raise InvalidValue(
                f"host must be an IP address of the test's network, got {host!r}: write "
                'sip.stack(core, host="192.0.2.20", port=5060)'
            )
        options.setdefault("resolver", NoDNS())
        options.setdefault("tune_gc", False)
        stack = Stack(core=core, clock=self.clock, **options)
        stack.listen(f"udp:{host}:{port}", MemoryTransport(self.network))
        stack.tap(self._exchange)
        stack.start()
        self.stacks.append(stack)
        return stack

    @property
    def client(self) -> Stack:
        """The stack that sends the requests of ask(). It ignores the Retry-After of a 503, so a
        test may ask again at once."""
        if self._client is None:
            self._client = self.stack(host=CLIENT, limits=Limits(closed_seconds=0))
        return self._client

    def serve(self, core: CoreFunction | Stack, **options: Any) -> Stack:
        """Return the stack that runs this core. It is made at the first call.

        A Stack of an application, `sip.serve(app.stack)`, is moved to the network and the clock of
        the test, with its addresses, until the test ends. A stack that listens on all addresses of
        its machine gets a host of its own.
        """
        if isinstance(core, Stack):
            if core not in self.stacks:
                self._take(core, options)
            return core
        for stack in self.stacks:
            if stack.core is core:
                return stack
        return self.stack(core, host=self._free_host(), **options)

    def _free_host(self) -> str | None:
        """Return SERVER for the first stack that serves, None for the others."""
        taken = {point.local[0] for stack in self.stacks for point in stack.engine.transports}
        return None if SERVER in taken else SERVER

    def _new_host(self) -> str:
        host = f"10.0.0.{self._next_host}"
        self._next_host += 1
        return host

    def _take(self, stack: Stack, options: dict[str, Any]) -> None:
        """Put an application's stack on the network and clock, and start it."""
        if options:
            raise TypeError(f"a Stack has its options already: make it with {', '.join(options)}")
        if stack.is_running:
            raise TransactionStateError(
                "the stack is running on real addresses: give it to sip.serve() before start(), or "
                'call stack.run() below `if __name__ == "__main__":`'
            )
        host = self._free_host() or self._new_host()
        planned: list[tuple[Transport, Listener]] = []
        for transport, listener in stack.planned or [(MemoryTransport(self.network), Listener())]:
            if listener.is_half and ":" in listener.host:
                continue  # one host is all addresses of both IP versions here
            here = listener._replace(
                host=_host(listener.host, transport) or host, proxy=None, is_half=False
            )
            planned.append((MemoryTransport.like(self.network, transport), here))
        put_back = stack._move(self.clock, planned)
        self._taken.append((stack, put_back))
        if isinstance(stack.resolver, DNSResolver):
            put_back["resolver"], stack.resolver = stack.resolver, NoDNS()
        self.stacks.append(stack)
        stack.tap(self._exchange)
        stack.start()

    def ask(
        self,
        core: CoreFunction | Stack,
        what: str | Request,
        *,
        body: bytes | str = b"",
        **headers: Any,
    ) -> Asked:
        """Send a request to a core or a stack, and let everything happen that needs no time.

        If an INVITE has no offer, the ACK has an answer that accepts all streams of the 2xx.

        Args:
            core: The core or the stack.
            what: The request, or method and URI, `"INVITE sip:bob@example.com"`.
            body: The body, if `what` is a text.
            headers: The header fields, if `what` is a text.
        """
        server = self.serve(core)
        if isinstance(what, str):
            method, _, uri = what.partition(" ")
            if not uri:
                raise InvalidValue(
                    f"a request must have a method and a URI, got {what!r}: write "
                    '"INVITE sip:bob@example.com"'
                )
            what = Request(method, uri, body=body, **headers)
        points = server.engine.transports
        point = next((point for point in points if point.name == "UDP"), points[0])
        if all(mine.name != point.name for mine in self.client.engine.transports):
            mine = MemoryTransport.like(self.network, point)
            name = point.name.lower()
            self.client.listen(f"{name}:{CLIENT}:{point.default_port}", mine)
        host, port = point.local
        uri = f"sip:{bracketed(host)}:{port};transport={point.name.lower()}"
        asked = Asked(self, what)
        asked.terms = Terms(None, _accept_offer)
        self.client._send(what, next_hop=uri, user=asked)
        self.settle()
        return asked

    def run(self, function: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        """Run blocking code in a greenlet while virtual time passes. Return its result, or raise
        its error."""
        if not callable(function):
            raise TypeError(
                f"sip.run() calls a function, got {excerpt(function)}: write "
                "sip.run(client.request, method, uri)"
            )
        greenlet = gevent.spawn(_outcome, function, *arguments, **options)
        for _ in range(100_000):
            self.settle()
            if greenlet.ready():
                break
            if not self.clock.advance_to_next():
                asleep = (
                    " ".join(_asleep([greenlet], "tx.wait({seconds}) in a core"))
                    or "waits for an event that never comes"
                )
                raise AssertionError(f"{function!r}: {asleep}\n{self.ladder()}")
        result, error = greenlet.get()
        if error is not None:
            raise error
        return cast("Result", result)

    def advance(self, seconds: float) -> None:
        """Let time pass. Raises AssertionError for a core in gevent.sleep(), which waits in real
        time."""
        self.clock.advance(number("seconds", seconds))
        for stack in self.stacks:
            for problem in sleepers(stack):
                raise AssertionError(problem)

    def settle(self) -> None:
        """Let everything happen that needs no time, such as deliveries of a network without
        delay."""
        self.clock.advance(0.00001)

    def ladder(self) -> str:
        """Return the messages so far as a diagram: all that the stacks have received and sent."""
        return ladder(self._exchange.arrows(self.network.trace))

    def close(self) -> None:
        """End the test: let every transaction end by its timers, and check that nothing is left."""
        self.network.loss = 0.0
        self.network.heal()
        for stack in self.stacks:  # what begins again and again would never end
            stack.accounts.probes.stop()
            stack.registrations.stop()
        self.clock.advance(OUTLIVES)
        left = [text for stack in self.stacks for text in leftovers(stack)]
        failures = self.clock.failures
        left += [f"internal error at a deadline: {error!r}" for error in failures]
        for stack in self.stacks:
            stack.stop()
        self.network.stop()
        self.settle()
        for stack, put_back in self._taken:
            vars(stack).update(put_back)
            stack.accept = stack.engine.accept  # a Filter gets its clock and log back
        self.clock.end()  # what the application remembers of this test must not outlive it
        if left:
            raise AssertionError(
                "left over after the test: " + "; ".join(left) + "\n" + self.ladder()
            ) from (failures[0] if failures else None)


def _outcome(
    function: Callable[..., Result], *arguments: Any, **options: Any
) -> tuple[Result | None, BaseException | None]:
    """Call a function, and return what it returns and what it raises. gevent would print the
    traceback of an error that leaves a greenlet, though a test may expect it."""
    try:
        return function(*arguments, **options), None
    except BaseException as error:
        return None, error


def _is_host(host: str) -> bool:
    """True for an IP address, with or without the brackets of IPv6."""
    try:
        ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True


def leftovers(stack: Stack) -> list[str]:
    """Return a text for each object of a stack that should have ended, and for messages that were
    not counted."""
    engine = stack.engine
    found = [
        f"{tx!r}" for table in (engine.servers, engine.clients) for tx in list(table.values())[:5]
    ]
    if engine.merged:
        found.append(f"{len(engine.merged)} merge keys")
    if engine.workers.busy:
        found.append(f"{engine.workers.busy} cores still running")
        found += sleepers(stack)
    if engine.counters.balance:
        found.append(
            f"{engine.counters.balance} messages in no counter: {engine.counters.as_dict()}"
        )
    if engine.crashes:
        found.append(f"internal errors: {[crash[1] for crash in engine.crashes]}")
    return found


def sleepers(stack: Stack) -> list[str]:
    """Return a text for each core of a stack that waits in gevent.sleep(). It says what to write
    instead."""
    return _asleep(stack.engine.workers.greenlets, "tx.wait({seconds})")


def _asleep(greenlets: Iterable[Any], better: str) -> list[str]:
    found = []
    for greenlet in greenlets:
        frame = greenlet.gr_frame
        if frame is None or frame.f_code is not gevent.sleep.__code__:
            continue
        seconds = frame.f_locals.get("seconds")
        while frame.f_back is not None and frame.f_code is gevent.sleep.__code__:
            frame = frame.f_back
        code = frame.f_code
        found.append(
            f"{code.co_name}() waits in gevent.sleep({seconds}) at "
            f"{code.co_filename}:{frame.f_lineno}, "
            "which takes real time, not the time of this test: write "
            f"{better.format(seconds=seconds)}, "
            f"or stack.clock.sleep({seconds}) where there is no tx"
        )
    return found


def _host(host: str, transport: Transport) -> str | None:
    """Return the host of an application's listener on the network; None if it listens on all
    addresses."""
    if host == "localhost":
        return "127.0.0.1"
    if transport.resolves:
        return host
    try:
        return None if ip_address(host.partition("%")[0]).is_unspecified else host
    except ValueError:
        return None  # a name, which has no address on this network
