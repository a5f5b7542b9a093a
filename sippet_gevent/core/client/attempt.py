"""Attempt: one try of a request, and the policies that decide about the next one, RFC 3261 §8.1.3.

    class Later(Policy):
        statuses = frozenset((423,))

        def __call__(self, attempt):
            return attempt.again("a longer time", expires=attempt.failure.min_expires)

A policy is asked with the attempt that has failed. It returns what `attempt.again()` makes, or None
if it has nothing to try.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from ...message.fields.rfc3261 import CSeq
from ...message.message import Request, Response
from ...message.uri import URI
from ...transport.base import Flow
from ..element import Tried, Within


class Attempt:
    """One try of a request, which has failed or is still to be made.

    Args:
        tried: The transaction object of all tries.
        request: The request.
        failure: The response or exception by which it has failed. None before it is made.
        number: 1 for the first try.
    """

    __slots__ = (
        "departure", "failure", "is_rerouted", "next_hop", "number", "reason", "request", "tried",
    )  # fmt: skip

    def __init__(
        self,
        tried: Tried,
        request: Request,
        failure: Response | Exception | None,
        number: int,
    ) -> None:
        self.tried = tried
        self.request = request
        self.failure = failure
        self.number = number
        self.reason = ""
        """Why it is made, for the log."""
        self.next_hop: URI | None = None
        """Where it goes, if not along the request's Route or to its Request-URI."""
        self.is_rerouted = False
        """True when its next hop is another one, which has to be found first."""
        self.departure: tuple[Flow, bytes] | None = None
        """The flow and the bytes, if they are known. Only FailOver knows them."""

    @property
    def status(self) -> int:
        """Status of the response by which the try has failed; 0 if there is none."""
        return self.failure.status if isinstance(self.failure, Response) else 0

    @property
    def session(self) -> Within | None:
        """The session or other usage that the request belongs to, where a policy can store what it
        has learned. None outside of dialogs."""
        return self.tried.within

    def again(
        self,
        reason: str,
        *,
        uri: URI | None = None,
        next_hop: URI | None = None,
        **headers: Any,
    ) -> Attempt:
        """Return the next try: the same request with other header fields, or for another URI.

        It has the same Call-ID, From and To. Its CSeq is the next one of the dialog, or one more
        (§8.1.3.5). Without `uri` and `next_hop` it goes to the server that has answered this one.

        Args:
            reason: Why it is made, for the log.
            uri: Its Request-URI.
            next_hop: Where it goes in place of its Request-URI.
            headers: Header fields by attribute name. None removes one.

        Raises:
            InvalidValue: A header field cannot be sent.
        """
        request = self.request.copy()
        session = self.session
        if session is None:
            number = request.cseq.number + 1
        else:
            session.dialog.local_cseq += 1
            number = session.dialog.local_cseq
        request.cseq = CSeq(number, request.method)
        if uri is not None:
            request.uri = uri
        request._set(headers)
        following = Attempt(self.tried, request, None, self.number + 1)
        following.reason = reason
        following.next_hop = next_hop
        following.is_rerouted = uri is not None or next_hop is not None
        return following


class Policy(ABC):
    """Decides if a request that has failed is tried again, and how. Derive your own from it.

    One object is made for each request that fails, so it can keep what it has tried.
    """

    statuses: frozenset[int] = frozenset()
    """Statuses of the responses after which the policies are asked, in their order."""

    def blocks(self, attempt: Attempt) -> bool:
        """True when the call may wait for something, so it has to run in a greenlet of its own."""
        return False

    @abstractmethod
    def __call__(self, attempt: Attempt) -> Attempt | None:
        """Return the next try, or None if this policy has none. It should not raise."""


Ask = Callable[[Attempt], "Attempt | None"]
"""A policy, as a function."""
