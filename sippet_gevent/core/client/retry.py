"""Retry: how a request of ours is tried again after it has failed, RFC 3261 §8.1.3.

| policy | after | the next try has |
|---|---|---|
| FailOver | 503, no way to the target, timer B or F | another next hop (RFC 3263 §4.3) |
| Authentication | 401, 407 | credentials (§22.2, §22.3) |
| Unsupported | 420, 415, 416 | no such extension, body part or URI scheme (§8.1.3.5) |
| MinSE | 422 | a longer session interval (RFC 4028 §7.3) |
| MinExpires | 423 | a longer duration (§10.2.8, RFC 6665 §4.1.2.1, RFC 3903 §4) |
| Redirect | 3xx, and failures of the targets that it names | another Request-URI (§8.1.3.4) |

A ClientTransaction asks them in this order, at one place. Each try is a new transaction in the same
ClientTransaction, so the application sees one request and one answer. A proxy's branch has FailOver
alone, because the rest is up to the caller (§16.7).

A policy of your own is a row of `ALWAYS`.
"""

from __future__ import annotations

from ...message.message import Request, Response
from ..auth.client import Authentication
from ..auth.credentials import Kept, Keyring, Trust
from ..element import Element
from .attempt import Attempt, Policy
from .failover import FailOver
from .min_expires import MinExpires
from .min_se import MinSE
from .redirect import Redirect
from .unsupported import Unsupported

TRIES = 16
"""Most tries of one request, besides those for other next hops. Each policy has a limit of its own,
and this one holds for all of them together."""

FAIL_OVER: tuple[Policy, ...] = (FailOver(),)
"""The policies of a proxy's branch."""

ALWAYS: tuple[type[Policy], ...] = (Unsupported, MinSE, MinExpires)
"""Policies of each request of ours that keep what they have tried."""

_POLICIES: tuple[type[Policy], ...] = (FailOver, Authentication, *ALWAYS)

RETRIED = frozenset(status for policy in _POLICIES for status in policy.statuses)
"""Statuses after which the policies are asked."""


class Retry:
    """The policies of one request, and its tries so far.

    Args:
        keyring: The credentials, if there are any.
        follow_redirects: True to follow 3xx.
        trust: The hosts that the call of this request was made for.
        without: Rows of ALWAYS that the sender of the request does itself.
    """

    __slots__ = ("authentication", "number", "policies")

    def __init__(
        self,
        keyring: Keyring | None = None,
        *,
        follow_redirects: bool = False,
        trust: Trust | None = None,
        without: tuple[type[Policy], ...] = (),
    ) -> None:
        self.number = 1
        """Number of the present try, without those for other next hops."""
        self.authentication = None if keyring is None else Authentication(keyring, trust)
        policies = list(FAIL_OVER)
        if self.authentication is not None:
            policies.append(self.authentication)
        policies += [policy() for policy in ALWAYS if policy not in without]
        if follow_redirects:
            policies.append(Redirect())
        self.policies: tuple[Policy, ...] = tuple(policies)

    @classmethod
    def within(cls, kept: Kept | None, keyring: Keyring | None) -> Retry:
        """Return the Retry of a request, with the credentials of its call or else of its
        stack.

        Args:
            kept: The credentials of the INVITE that began the call.
            keyring: The credentials of the stack. Those of the INVITE come first.
        """
        if kept is None:
            return cls(keyring)
        return cls(kept.keyring, trust=kept.trust)

    def kept_credentials(self, address: str) -> Kept | None:
        """Return the credentials for a call that this request begins.

        Args:
            address: The address that has answered it.
        """
        authentication = self.authentication
        if authentication is None or authentication.trust is None:
            return None
        authentication.trust.answered(address)
        return Kept(authentication.keyring, authentication.trust)

    @property
    def problem(self) -> str:
        """Why the latest challenge was not answered; empty if there was none."""
        return "" if self.authentication is None else self.authentication.problem

    def begin(self, request: Request, hop: str, *, is_within: bool) -> None:
        """Complete a request before it leaves for a next hop."""
        if self.authentication is not None:
            self.authentication.begin(request, hop, is_within=is_within)

    def admits(self, following: Attempt) -> bool:
        """Count a try and complete its request. False if there were too many."""
        if following.departure is None:
            if self.number >= TRIES:
                return False
            self.number = following.number
            # a request that another policy has changed needs a new nonce count, too
            if self.authentication is not None and not following.is_rerouted:
                self.authentication.write(following.request)
        return True

    def received(self, response: Response, request: Request, element: Element) -> None:
        """Take a final response that is not tried again."""
        if self.authentication is not None and response.is_success:
            self.authentication.received(response, request, element)
