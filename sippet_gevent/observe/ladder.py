"""Ladder: draws messages as arrows between hosts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from .tap import Passage

LADDER_LINES = 200
"""Most messages that are drawn. The last ones are drawn, because the failure of a test is at its
end."""

_WIDTH = 30

Address = tuple[str, int]


class Arrow(Protocol):
    """One message between two addresses. `fate` is "carried", or the reason why the message did not
    arrive."""

    @property
    def time(self) -> float: ...
    @property
    def source(self) -> Address: ...
    @property
    def destination(self) -> Address: ...
    @property
    def data(self) -> bytes: ...
    @property
    def fate(self) -> str: ...


class Ends(Protocol):
    """The two ends of a flow."""

    @property
    def local(self) -> Address: ...
    @property
    def remote(self) -> Address: ...


class Drawn(NamedTuple):
    """A message that has arrived or left."""

    time: float
    source: Address
    destination: Address
    data: bytes
    fate: str = "carried"


class Ladder:
    """Collects the messages of one stack, and draws them: `print(ladder)`.

    ladder = Ladder()
    stack.tap(ladder)
    """

    def __init__(self) -> None:
        self._drawn: deque[Drawn] = deque(maxlen=LADDER_LINES)

    def __call__(self, passage: Passage[Ends]) -> None:
        ends = passage.flow.remote, passage.flow.local
        source, destination = ends if passage.direction == "in" else reversed(ends)
        self._drawn.append(Drawn(passage.time, source, destination, passage.data))

    def __str__(self) -> str:
        return draw([*self._drawn])


class Exchange:
    """Collects the messages of several stacks in one network. A message that one stack has sent and
    another one has received is one arrow.

        exchange = Exchange()
        for stack in stacks:
            stack.tap(exchange)
    """

    def __init__(self) -> None:
        self._drawn: deque[Drawn] = deque(maxlen=LADDER_LINES)
        self._under_way: deque[Drawn] = deque(maxlen=LADDER_LINES)

    def __call__(self, passage: Passage[Ends]) -> None:
        ends = passage.flow.remote, passage.flow.local
        source, destination = ends if passage.direction == "in" else reversed(ends)
        drawn = Drawn(passage.time, source, destination, passage.data)
        if passage.direction == "out":
            self._under_way.append(drawn)
        else:
            for sent in self._under_way:
                if sent[1:] == drawn[1:]:
                    self._under_way.remove(sent)
                    return
        self._drawn.append(drawn)

    def arrows(self, carried: Iterable[Arrow]) -> list[Drawn]:
        """Return the last messages. `carried` is what the network knows of them: one that did not
        arrive has its fate."""
        fates: dict[tuple[float, Address, Address, bytes], str] = {
            (arrow.time, arrow.source, arrow.destination, arrow.data): arrow.fate
            for arrow in carried
        }
        return [each._replace(fate=fates.get(each[:4], each.fate)) for each in self._drawn]

    def clear(self) -> None:
        """Forget all messages."""
        self._drawn.clear()
        self._under_way.clear()


def draw(arrows: Sequence[Arrow]) -> str:
    """Draw messages as arrows between hosts, a line for each. For one host, draw its ports."""
    if not arrows:
        return "(no messages)"
    shown = arrows[-LADDER_LINES:]
    ends = {end for arrow in shown for end in (arrow.source, arrow.destination)}
    # the programs of one machine differ by their ports alone
    name = _host_and_port if len({host for host, _ in ends}) == 1 < len(ends) else _host
    hosts = sorted({name(end) for end in ends})
    start = arrows[0].time
    lines = [" " * 10 + "".join(host.center(_WIDTH) for host in hosts)]
    if len(arrows) > len(shown):
        lines.append(f"          ({len(arrows) - len(shown)} earlier messages)")
    lines += [_line(arrow, name, hosts, start) for arrow in shown]
    return "\n".join(lines)


def _host(end: Address) -> str:
    return end[0]


def _host_and_port(end: Address) -> str:
    return f"{end[0]}:{end[1]}"


def _line(arrow: Arrow, name: Callable[[Address], str], hosts: list[str], start: float) -> str:
    left, right = hosts.index(name(arrow.source)), hosts.index(name(arrow.destination))
    low, high = min(left, right), max(left, right)
    span = max((high - low) * _WIDTH, 8)
    arrived = arrow.fate == "carried"
    label = _label(arrow.data) + ("" if arrived else f" ({arrow.fate})")
    shaft = f"{label[: span - 5]:-^{span - 2}}"
    head = ">" if arrived else "x"
    if right >= left:
        shaft = shaft[:-1] + head
    else:
        shaft = ("<" if arrived else "x") + shaft[1:]
    return f"{arrow.time - start:9.3f} " + " " * (low * _WIDTH + _WIDTH // 2) + f"|{shaft}|"


def _label(data: bytes) -> str:
    """Return the text on an arrow: status and phrase, or method and Request-URI."""
    first = data.split(b"\r\n", 1)[0].decode("utf-8", "replace")
    return first[8:] if first.startswith("SIP/2.0 ") else first.rsplit(" ", 1)[0]
