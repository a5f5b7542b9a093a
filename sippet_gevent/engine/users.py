"""Transaction users, RFC 3261 §5: what a transaction calls, and the core layer above the engine.

The engine knows the objects above it by these protocols alone. A `ClientRecord` or `ServerRecord`
is a transaction as the tables of the engine hold it, with its user and its flow.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from ..errors import TransportError
from ..message.message import Request, Response
from ..runtime.workers import Worker
from ..transaction.fsm import Transaction
from ..transport.base import Flow

Received = TypeVar("Received", Request, Response, contravariant=True)


class TransactionUser(Protocol[Received]):
    """What uses a transaction. The engine calls it in the greenlet or callback of the event."""

    def receive(self, message: Received) -> None:
        """Take a message that the transaction delivers."""

    def fail(self, error: Exception) -> None:
        """Take the failure that has ended the transaction, or one of its messages."""

    def ended(self) -> None:
        """Note that the engine has dropped the transaction."""


class ClientUser(TransactionUser[Response], Protocol):
    """What has sent a request: a ClientTransaction, or a proxy's branch."""

    transaction: ClientRecord
    """Set by the engine before the request is sent."""

    def flow_ended(self, error: TransportError) -> None:
        """Note that the flow of an INVITE has ended after a provisional response."""


class ServerUser(TransactionUser[Request], Protocol):
    """What serves a request: a ServerTransaction."""

    request: Request

    @property
    def is_decided(self) -> bool:
        """True once it is known whether a user agent server or a proxy serves the request."""

    def cancel(self, cancel: Request) -> None:
        """Take the CANCEL for an INVITE that has no final response yet."""


class WaitingCore(Protocol):
    """A request whose core waits, as admission counts it: a ServerTransaction."""

    @property
    def request(self) -> Request:
        """The request."""

    @property
    def transaction(self) -> ServerRecord | None:
        """Its server transaction; None for an ACK."""

    @property
    def answered(self) -> int:
        """Status of the final response; 0 before."""

    @property
    def context(self) -> object | None:
        """The response context, if the request is forwarded."""

    @property
    def holds(self) -> int:
        """Calls and subscriptions that the core holds."""

    @property
    def parked(self) -> object | None:
        """What it waits for, if that is a function of this library."""

    place: Place | None
    """Where it is counted."""
    worker: Worker | None
    """The greenlet of the core."""

    def give_up(self) -> None:
        """Count the core as overdue: it has served an ACK for too long."""

    def ended(self) -> None:
        """Note that the stack has stopped."""


class Place(dict[WaitingCore, str]):
    """Requests whose cores are counted together, with the source of each."""

    __slots__ = ("sources",)

    def __init__(self) -> None:
        self.sources: dict[str, int] = {}
        """The number of requests of each source."""


class ClientRecord(Transaction):
    """A client transaction in the engine's table."""

    __slots__ = ()
    user: ClientUser | None
    flow: Flow


class ServerRecord(Transaction):
    """A server transaction in the engine's table.

    `merge` is the key by which copies of the request are found (§8.2.2.2), until it is forwarded.
    `source` is the source that it counts for, even if its responses leave by another flow.
    """

    __slots__ = ("source",)
    user: ServerUser | None
    flow: Flow
    merge: int | None
    source: str


class NullUser:
    """User of a transaction whose outcome concerns nothing, such as that of a CANCEL."""

    __slots__ = ("transaction",)

    transaction: ClientRecord

    def receive(self, response: Response) -> None:
        """Ignore the response."""

    def fail(self, error: Exception) -> None:
        """Ignore the failure."""

    def flow_ended(self, error: TransportError) -> None:
        """Ignore the end of the flow."""

    def ended(self) -> None:
        """Ignore the end of the transaction."""


class CoreLayer(Protocol):
    """What the engine calls for messages and events that belong to no user yet."""

    def core_within(self, request: Request) -> object | None:
        """Return what serves a request within a dialog; None if it gets 481, because nothing
        does."""

    def serve(
        self,
        request: Request,
        transaction: ServerRecord,
        first: ServerUser | None = None,
        core: object | None = None,
    ) -> None:
        """Serve a new request. It may be a copy of the one that `first` serves. `core` is what
        core_within() has returned."""

    def serve_stateless(self, request: Request, reply: Flow) -> None:
        """Serve a request without a transaction. `reply` is the flow of its answer."""

    def acknowledge(self, ack: Request) -> bool:
        """Take an ACK that belongs to no transaction; False if nothing waits for it."""

    def stray(self, response: Response) -> bool:
        """Take a response that belongs to no transaction; False if nothing wants it."""

    def fail(self, error: Exception, transaction: object) -> None:
        """Take the failure of a transaction that has no user any more."""

    def reroute(self, transaction: ServerRecord, response: bytes) -> bool:
        """Take a response whose flow has ended; False if there is no other way to try."""

    def belongs(self, request: Request) -> bool:
        """True for a request within a call, a dialog or a route of ours: limits let it pass."""
