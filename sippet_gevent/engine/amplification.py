"""Amplification: fewer copies of answers (RFC 3261 §13.3.1.4, §17.2.1) to sources that have never
acknowledged anything.

Anybody can forge the source of an INVITE. RFC 3261 §17.2.1 and §13.3.1.4 repeat its final response
up to eleven times, until an ACK comes, and a BYE follows a 2xx (§13.3.1.4). So a forger could have
this element send ten times as many packets to a victim as it sends itself.
"""

from __future__ import annotations

from ..message.message import Request
from ..transaction.fsm import Transaction
from ..transaction.machines import COMPLETED

COPIES = 4
"""Copies of a final response to such a source, the first one included. An honest caller loses all
four to 5 % loss once in ten thousand calls, and only at its first call."""

BYES = 2
"""Copies of a BYE to such a source. So a 100, a 180, a 200 and a BYE are at most eight packets."""

ACKNOWLEDGED = 10_000
"""Most hosts remembered that have acknowledged something. The oldest is forgotten first. A forger
cannot add one, because it does not see our tag."""


class Amplification:
    """Counts what is repeated to sources that have never acknowledged anything.

    A source is a host that responses go to. It is known once it has sent what only the receiver of
    our response or request can send. That is an ACK or a PRACK with our tag, or a response to a
    request of ours. A connection proves its source by itself.

    While more than `most` requests have such a repetition, each of them gets COPIES of its final
    response, and BYES of the BYE. Otherwise the schedule of RFC 3261 holds.

    Args:
        most: The number of requests; 0 always keeps the schedule.
    """

    __slots__ = ("acknowledged", "bytes", "most", "repeated", "stopped")

    def __init__(self, most: int) -> None:
        self.most = most
        self.acknowledged: dict[str, None] = {}
        """Hosts that have acknowledged something, the oldest first."""
        self.repeated: dict[Transaction, int] = {}
        """Transactions with a message that was repeated to another host, and the copies sent."""
        self.stopped = 0
        """Copies that were not sent."""
        self.bytes = 0
        """Bytes of the copies that were sent to such hosts, without each first one."""

    def acknowledge(self, host: str) -> None:
        """Remember that a host has acknowledged something."""
        if len(self.acknowledged) >= ACKNOWLEDGED:
            del self.acknowledged[next(iter(self.acknowledged))]
        self.acknowledged[host] = None

    def take_ack(self, tx: Transaction, host: str, ack: Request) -> None:
        """Take the ACK to a refusal. It proves its source if it has our tag (§17.1.1.3)."""
        tag = ack.mandatory.to_tag
        if tag and tx.last is not None and b";tag=" + tag.encode() in tx.last:
            self.acknowledge(host)
        self.repeated.pop(tx, None)

    def may_repeat(self, tx: Transaction, host: str, size: int, copies: int = COPIES) -> bool:
        """True if a further copy of a message may be sent; it is counted then.

        Args:
            tx: The transaction that the message belongs to.
            host: Where it goes.
            size: Its bytes.
            copies: Most copies while the bound applies.
        """
        if tx.reliable or host in self.acknowledged:
            return True
        sent = self.repeated.setdefault(tx, 1)
        if self.most and sent >= copies and len(self.repeated) > self.most:
            self.stopped += 1
            return False
        self.repeated[tx] = sent + 1
        self.bytes += size
        return True

    def may_resend(self, tx: Transaction, host: str, data: bytes) -> bool:
        """True if a timer may send the last message of a transaction again.

        Only the refusal of an INVITE (timer G) and a BYE (timer E) are bounded. Other messages are
        requests that this element has begun, which no stranger causes.
        """
        if tx.machine.is_client:
            return tx.method != "BYE" or self.may_repeat(tx, host, len(data), BYES)
        return tx.state is not COMPLETED or self.may_repeat(tx, host, len(data))

    @property
    def statistics(self) -> dict[str, int]:
        """Counters and gauges by name."""
        return {
            "repeating": len(self.repeated),
            "bytes": self.bytes,
            "copies_stopped": self.stopped,
            "acknowledged_sources": len(self.acknowledged),
        }
