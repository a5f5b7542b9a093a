"""Call flows as RFCs draw them: stacks on the network of the `sip` fixture, and the arrows.

A flow is one arrow a line, in the order in which the RFC numbers its messages:

    Alice -> Bob: INVITE
    Bob -> Alice: 180
    Bob -x Alice: 200 (INVITE)        lost on the way
    Alice -> Bob: BYE/200             a request and the responses to it, and its ACK

Messages that leave at the same moment may be in another order than in the RFC, unless they leave
from the same host to the same host: their lines cross in the RFC, or one host sends both.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import gevent
import pytest

from sippet_gevent import Authenticated, Credentials, Stack, forward, sdp
from sippet_gevent.message.parser import parse
from sippet_gevent.testing import Sip
from sippet_gevent.transport.memory import Carried

DELAY = 0.05
"""Seconds that each message is under way. Messages sent in the meantime cross it."""

AUDIO = sdp.MediaStream("audio", 49172, (sdp.PCMU,))

ALICE = [
    Credentials("alice", "secret", realm=realm, hosts=("10.0.0.0/24",))
    for realm in ("atlanta.example.com", "biloxi.example.com")
]
"""Credentials for the proxies that ask."""

SILENT = "10.0.0.200"

Script = Callable[["Flow"], Any]


class Arrow(NamedTuple):
    """One message from a host to another. A label is a method or a status, such as `200 (BYE)`."""

    source: str
    to: str
    label: str
    is_lost: bool

    def __str__(self) -> str:
        return f"{self.source} -{'x' if self.is_lost else '>'} {self.to}: {self.label}"

    def shows(self, other: Arrow) -> bool:
        """True when this arrow of an RFC shows that message."""
        label = other.label if "(" in self.label else other.label.split()[0]
        return self == other._replace(label=label)


def arrows_of(text: str) -> list[Arrow]:
    """Return the arrows of a flow as it is written above."""
    found: list[Arrow] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        ends, _, labels = line.partition(": ")
        source, shaft, to = ends.split()
        for label in labels.split("/"):
            back = label[0].isdigit() and "/" in labels
            pair = (to, source) if back else (source, to)
            found.append(Arrow(*pair, label, shaft == "-x"))
    return found


class Flow:
    """The hosts of one flow, by name, and what they send."""

    def __init__(self, sip: Sip) -> None:
        self.sip = sip
        sip.network.delay = DELAY
        self.hosts: dict[str, str] = {}
        self.wanted: list[list[str]] = []
        self._carry = sip.network.carry
        sip.network.carry = self._lose  # type: ignore[method-assign]

    def stack(self, name: str, core: Any = None, **options: Any) -> Stack:
        """Return a stack for this host of the flow."""
        stack = self.sip.stack(core, **options)
        self.hosts[stack.engine.transports[0].local[0]] = name
        return stack

    def phone(self, name: str, **options: Any) -> Phone:
        """Return a phone for this host of the flow; see Phone."""
        return Phone(self, name, **options)

    def silent(self, name: str) -> str:
        """Return the URI of a host that receives and never answers."""
        self.hosts[SILENT] = name
        self.sip.network.transport().start((SILENT, 5060), lambda data, flow: None)
        return f"sip:{name.lower()}@{SILENT}"

    def proxy(
        self,
        name: str,
        *to: str,
        users: dict[str, str] | None = None,
        next_hop: str | None = None,
        asks: str = "",
        record_route: bool = True,
    ) -> Any:
        """Return a proxy that sends each INVITE of nobody's call on to these URIs.

        Args:
            name: Its name in the flow.
            to: The URIs.
            users: The URI of each user, in place of `to`.
            next_hop: The proxy that gets the request instead, with its Request-URI as it is.
            asks: The realm for which it asks a password, see ALICE.
            record_route: False leaves the route when the call is answered.
        """

        def core(request: Any, tx: Any) -> Any:
            stack = tx.stack
            if tx.take_route() and not stack.is_local(request.uri):
                return forward(request, tx)
            if request.to.tag is not None or request.method == "ACK":
                return 481
            is_invite = request.method == "INVITE"
            targets = to if users is None else (users[request.uri.user],)
            if is_invite:
                tx.respond(100)  # at once, as in the RFCs, instead of after 200 ms (§17.2.1)
            return forward(
                request, tx, *targets, next_hop=next_hop, record_route=record_route and is_invite
            )

        if asks:
            core = Authenticated(
                core, realm=asks, users={"alice": "secret"}, proxy=True,
                owns=lambda user, uri: True, algorithms=("MD5",),
            )  # fmt: skip
        return self.stack(name, core)

    def lose(self, *labels: str) -> None:
        """Lose the next message with each of these labels."""
        self.wanted.append([*labels])

    def _lose(self, transport: Any, destination: Any, data: bytes) -> Any:
        network, found = self.sip.network, label_of(data)
        losing = next((labels for labels in self.wanted if found in labels), None)
        if losing is None:
            return self._carry(transport, destination, data)
        losing.remove(found)
        network.loss = 1.0
        try:
            return self._carry(transport, destination, data)
        finally:
            network.loss = 0.0

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.sip.advance(seconds)

    def go(self, function: Any, *arguments: Any, **options: Any) -> gevent.Greenlet:
        """Run blocking code in a greenlet, until nothing more happens at this moment."""
        greenlet = gevent.spawn(function, *arguments, **options)
        self.sip.settle()
        return greenlet

    def sent(self) -> list[tuple[float, Arrow]]:
        """Return what was sent so far, with its time."""
        return [(carried.time, self._arrow(carried)) for carried in self.sip.network.trace]

    def _arrow(self, carried: Carried) -> Arrow:
        source, to = (self.hosts[end[0]] for end in (carried.source, carried.destination))
        return Arrow(source, to, label_of(carried.data), carried.fate == "lost")

    def check(self, text: str) -> None:
        """Check that the messages of this text were sent, in its order, and no others."""
        expected, sent = arrows_of(text), self.sent()
        place = 0
        for _, moment in itertools.groupby(sent, lambda each: round(each[0], 3)):
            got = [arrow for _, arrow in moment]
            rows = expected[place : place + len(got)]
            place += len(got)
            assert _same(rows, got), _difference(rows, got, text, self.sip)
        assert place == len(expected), _difference(expected[place:], [], text, self.sip)


def _same(rows: list[Arrow], got: list[Arrow]) -> bool:
    """True when both have the same messages, in the same order between each two hosts."""
    if len(rows) != len(got):
        return False
    left = list(got)
    for row in rows:
        between = [each for each in left if (each.source, each.to) == (row.source, row.to)]
        if not between or not row.shows(between[0]):
            return False
        left.remove(between[0])
    return True


def _difference(rows: list[Arrow], got: list[Arrow], text: str, sip: Sip) -> str:
    def lines(arrows: list[Arrow]) -> str:
        return "\n".join(f"    {arrow}" for arrow in arrows) or "    (nothing)"

    return f"the RFC shows\n{lines(rows)}\nand there was\n{lines(got)}\n{sip.ladder()}"


def label_of(data: bytes) -> str:
    """Return the method of a request, or the status of a response with the method of its CSeq."""
    message = parse(data)
    method = message.cseq.method
    return f"{message.status} ({method})" if data.startswith(b"SIP/2.0 ") else method


def at(stack: Stack) -> str:
    """Return the URI of a stack."""
    return f"sip:{stack.engine.transports[0].local[0]}"


class Phone:
    """A phone with one line. It rings, answers, and does what the flow tells it.

    Args:
        flow: Its flow.
        name: Its name there.
        rings: Seconds until it answers. Zero answers without a 180.
        answer: The status that it answers with, or a Response made of the request by a function.
            None lets it ring for ever.
        accept: How it accepts: keyword arguments of accept().
        core: The core for what is no INVITE and belongs to no call.
        follows: Seconds for which it calls the target of a transfer. Zero refuses transfers.
        options: Keyword arguments of its stack.
    """

    def __init__(
        self,
        flow: Flow,
        name: str,
        *,
        rings: float = 1.0,
        answer: Any = 200,
        accept: dict[str, Any] | None = None,
        core: Any = None,
        follows: float = 0.0,
        **options: Any,
    ) -> None:
        self.flow = flow
        self.name = name
        self.rings = rings
        self.answers = answer
        self.accepts = {"media": [AUDIO]} if accept is None else accept
        self.calls: list[Any] = []
        self.invites: list[Any] = []
        self._core = core
        self._follows = follows
        self.stack = flow.stack(name, self.core, **options)
        self.host = self.stack.engine.transports[0].local[0]
        self.uri = f"sip:{name.lower()}@{self.host}"

    def core(self, request: Any, tx: Any) -> Any:
        """The core of the phone."""
        if request.method == "REFER" and self._follows:
            tx.referral.accept()
            tx.wait(0.3)  # until the peer knows: the RFCs show the arrows one after the other
            self.calls.append(tx.referral.follow(media=[AUDIO], timeout=self._follows))
            return None
        if request.method != "INVITE":
            return 501 if self._core is None else self._core(request, tx)
        self.invites.append(request)
        if self.rings:
            tx.respond(180)
            tx.wait(self.rings if self.answers else 600)
        if self.answers != 200:
            return self.answers(request, tx) if callable(self.answers) else self.answers
        self.calls.append(tx.accept(**self.accepts))
        return None

    @property
    def call(self) -> Any:
        """Its call, the last one."""
        return self.calls[-1]

    def invite(self, to: Phone | str, **options: Any) -> gevent.Greenlet:
        """Call somebody; the greenlet returns when the callee has answered."""
        uri = to if isinstance(to, str) else to.uri
        if not {"media", "body", "on_offer"} & options.keys():
            options["media"] = [AUDIO]
        if options.get("media") is None:
            options.pop("media", None)

        def placing() -> Any:
            call = self.stack.invite(uri, **options)
            self.calls.append(call)
            return call

        return self.flow.go(placing)

    def do(self, action: str, *arguments: Any, **options: Any) -> gevent.Greenlet:
        """Do something with its call: `bob.do("hold")`."""
        return self.flow.go(getattr(self.call, action), *arguments, **options)


def left_by(sip: Sip) -> list[tuple[int, int]]:
    """Return the numbers of calls and early dialogs of each stack that has any."""
    numbers = [(len(stack.dialogs), stack.dialogs.early) for stack in sip.stacks]
    return [each for each in numbers if any(each)]


class Flows:
    """The flows of an RFC. Each is a test `test_flow[3.1.2]` of the module that ends with `play`."""

    def __init__(self, rfc: int) -> None:
        self.rfc = rfc
        self.rows: list[tuple[str, str, str, Script]] = []

    def __call__(self, section: str, name: str, arrows: str) -> Callable[[Script], Script]:
        """Return a decorator for the function that plays a flow."""

        def add(script: Script) -> Script:
            self.rows.append((section, name, arrows, script))
            return script

        return add

    def sections(self) -> set[str]:
        """Return the sections whose flows are played."""
        return {section.split(" ")[0] for section, _, _, _ in self.rows}

    def parameters(self) -> list[Any]:
        """Return the parameters of a test: arrows and script, a row for each flow."""
        return [
            pytest.param(
                arrows, script, id=f"{section}-{name}".replace(" ", "-"),
                marks=pytest.mark.rfc(f"{self.rfc} {section.split(' ')[0]}"),
            )
            for section, name, arrows, script in self.rows
        ]  # fmt: skip


def play(sip: Sip, arrows: str, script: Script) -> None:
    """Play a flow, check its messages, and check that no dialog is left."""
    flow = Flow(sip)
    rest = script(flow)
    if rest is not None:
        next(rest)  # until its yield, where the flow of the RFC ends
    flow.check(arrows)
    for _ in rest or ():
        pass
    flow.wait(40)  # 64*T1, and what crossed
    assert left_by(sip) == []
