"""DNS records, and the order in which to try those of one answer, RFC 2782 and RFC 8305. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple


class NAPTR(NamedTuple):
    """A NAPTR record (RFC 3403 §4.1).

    Attributes:
        order: Only records of the lowest order that this stack can use are followed.
        preference: The lowest one of an order is tried first.
        flags: "s" if SRV records follow, "a" if addresses do.
        service: The protocol and transport, such as "SIP+D2U" (RFC 3263 §4.1).
        regexp: A rule that rewrites the name. Records with such a rule are ignored.
        replacement: The name to ask for next.
    """

    order: int
    preference: int
    flags: str
    service: str
    regexp: str
    replacement: str


class SRV(NamedTuple):
    """An SRV record (RFC 2782). The target `"."` means that the domain lacks the service.

    Attributes:
        priority: Records of the lowest priority are tried first.
        weight: The share of requests among records of the same priority.
        port: The port.
        target: The name of the host.
    """

    priority: int
    weight: int
    port: int
    target: str


Record = NAPTR | SRV | str
"""A record in an answer. A text is the numeric address of an A or AAAA record."""


class Question(NamedTuple):
    """A question for DNS: a name, and "NAPTR", "SRV", "A" or "AAAA".

    Attributes:
        name: The name to ask for.
        kind: The type of record.
    """

    name: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Answer(NamedTuple):
    """The answer to a question: records, or the reason why there are none.

    Attributes:
        records: The records; empty if there are none.
        problem: Why there are no records, as a text for logs.
    """

    records: tuple[Record, ...] = ()
    problem: str = ""

    def __str__(self) -> str:
        text = (
            ", ".join(" ".join(map(str, r)) if isinstance(r, tuple) else r for r in self.records)
            or self.problem
            or "none"
        )
        # escaped, because it goes to logs and strangers write the records
        return text if text.isprintable() else ascii(text)


Random = Callable[[], float]
"""Returns a number from 0 to under 1, as random.random does."""


def order_srv(records: Iterable[SRV], random: Random) -> list[SRV]:
    """Return SRV records in the order to try them: by priority, then at random by weight (RFC
    2782).

    The random number is real, not whole, so that weights of 1 and 2 are chosen in the ratio 1 to 2.
    Records of weight 0 come behind all others of their priority, and are equal among themselves.
    """
    by_priority: dict[int, list[SRV]] = {}
    for record in records:
        by_priority.setdefault(record.priority, []).append(record)
    ordered = []
    for priority in sorted(by_priority):
        left = by_priority[priority]
        while left:
            total = sum(record.weight for record in left)
            weights = [record.weight for record in left] if total else [1] * len(left)
            drawn = random() * (total or len(left))
            at = 0
            while at < len(left) - 1 and drawn >= weights[at]:
                drawn -= weights[at]
                at += 1
            ordered.append(left.pop(at))
    return ordered


def interleave(six: list[str], four: list[str]) -> list[str]:
    """Return addresses of both IP versions in turn, IPv6 first, so that a version which does not
    work costs one try (RFC 8305 §4)."""
    paired = [address for pair in zip(six, four) for address in pair]
    return paired + six[len(four) :] + four[len(six) :]
