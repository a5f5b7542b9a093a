"""Authentication: answers the challenges that a request of ours gets, RFC 3261 §22.2 and §22.3.

| response | answered |
|---|---|
| 401, 407 | each realm whose credentials we have, by its strongest algorithm, all in one request |
| the same realm again, `stale=true` | once more, with the new nonce and the same credentials |
| the same realm again | no: the credentials are wrong (§22.1) |
| a third one | no, unless another hop asks, for a realm that credentials name |

Requests to a host that has asked before have credentials at once, with its last nonce. If they are
refused, the first new nonce does not count as the same realm again.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from ...errors import ParseError
from ...message.fields.authentication import AuthenticationInfo, Challenge
from ...message.fields.authentication import Credentials as Authorization
from ...message.message import Request, Response
from ...observe.log_values import Plain
from ..client.attempt import Attempt, Policy
from ..element import Element
from .credentials import Credentials, Keyring, Trust, host_key
from .digest import Session, shared_text, strongest

log = logging.getLogger("sippet_gevent.core")

ROUNDS = 2
"""Most challenges that one request answers. A server that asks for more would ask for ever."""

_HEADERS = (
    ("Proxy-Authenticate", "proxy_authenticate", "proxy_authorization"),
    ("WWW-Authenticate", "www_authenticate", "authorization"),
)
"""Challenges, and the header field that answers them."""

_INFOS = (
    ("Authentication-Info", "authentication_info", "authorization"),
    ("Proxy-Authentication-Info", "proxy_authentication_info", "proxy_authorization"),
)
"""Proofs of a server (RFC 7616 §3.5 and §3.8), and the header field that they answer."""


class _Answer(NamedTuple):
    session: Session
    credentials: Credentials
    place: tuple[str, str, str]
    is_fresh: bool
    """True when the challenge came in answer to this very request."""
    is_second: bool
    """True when it was stale before."""


class Authentication(Policy):
    """Answers challenges for one request.

    Args:
        keyring: The credentials.
        trust: Those of the call that the request belongs to. None for a request of its own.
    """

    statuses = frozenset((401, 407))

    def __init__(self, keyring: Keyring, trust: Trust | None = None) -> None:
        self.keyring = keyring
        self.trust = trust
        self.rounds = 0
        self._answers: dict[tuple[str, str, str], _Answer] = {}
        self._hop = ""
        self.problem = ""
        """Why the latest challenge was not answered."""

    def begin(self, request: Request, hop: str, *, is_within: bool) -> None:
        """Write credentials into a request for hosts that have asked before (§22.2, §22.3).

        Args:
            request: The request, which has not left yet.
            hop: The host of its next hop.
            is_within: True for a request within a dialog.
        """
        self._hop = host_key(hop)
        target = host_key(request.uri.host)
        if self.trust is None:
            hosts = {target, self._hop}
            if is_within:
                hosts.add(host_key(request.to.uri.host))
            self.trust = Trust(target, hosts)
        elif not is_within:
            self.trust.strayed = target != self.trust.target
        known = self._hosts(request, self._hop, is_within=is_within)
        self._answers = {
            key: answer
            for key, answer in self._answers.items()
            if self._is_allowed(answer.credentials, key[0], known)
        }
        for each in self.keyring.credentials:
            for place, session in each.sessions(known[1]):
                if self._is_allowed(each, place[0], known):
                    key = (place[0], place[1], session.first_nonce)
                    self._answers[key] = _Answer(session, each, place, False, False)
        self.write(request)

    def _hosts(
        self, request: Request, address: str, *, is_within: bool
    ) -> tuple[set[str], set[str]]:
        """Return the hosts that stand for the server, and those that stand for any hop."""
        servers = {host_key(request.uri.host)}
        here = {self._hop, host_key(address)}
        # a call is with the host that it was made for, unless its Contact leads elsewhere: a callee
        # behind a carrier could ask for the password of the carrier otherwise
        if is_within and self.trust is not None and self.trust.holds(here):
            servers.add(host_key(request.to.uri.host))
        return servers, servers | here

    def _is_allowed(
        self, credentials: Credentials, header: str, hosts: tuple[set[str], set[str]]
    ) -> bool:
        """True when the hosts of a request may have an answer with these credentials."""
        # a 401 is the server's own, and a proxy that passes it on does not vouch for it
        vouched = header == "proxy_authorization" or (
            credentials.realm is not None and self.trust is not None and not self.trust.strayed
        )
        asking = hosts[1] if vouched else hosts[0]
        if credentials.hosts is not None:
            return credentials.is_for(asking)
        return self.trust is not None and not asking.isdisjoint(self.trust.hosts)

    def blocks(self, attempt: Attempt) -> bool:
        return self.keyring.source is not None and attempt.status in self.statuses

    def __call__(self, attempt: Attempt) -> Attempt | None:
        response = attempt.failure
        if not isinstance(response, Response) or response.status not in self.statuses:
            return None
        self.problem = ""
        try:
            fresh = self._fresh(attempt, response)
        except ParseError as error:
            self.problem = f"challenge cannot be read: {error}"
            self._gave_up(attempt, response)
            return None
        if not fresh:
            self._gave_up(attempt, response)
            return None
        is_free = all(
            answer.credentials.realm is not None and not answer.is_second
            for answer in fresh.values()
        )
        if not is_free or not self.rounds:
            self.rounds += 1
        if self.rounds > ROUNDS:
            self.problem = f"challenged again after {ROUNDS} answers"
            self._gave_up(attempt, response)
            return None
        self._answers |= fresh
        realms = ", ".join(dict.fromkeys(answer.place[1] for answer in fresh.values()))
        return attempt.again(f"credentials for {realms}")

    def _fresh(self, attempt: Attempt, response: Response) -> dict[tuple[str, str, str], _Answer]:
        """Return the answers to the challenges of a response. Raises ParseError."""
        request, is_within = attempt.request, attempt.session is not None
        address = attempt.tried.transaction.flow.remote[0]
        hosts = self._hosts(request, address, is_within=is_within)
        fresh: dict[tuple[str, str, str], _Answer] = {}
        for name, attribute, header in _HEADERS:
            if name not in response.headers.fields:
                continue
            challenges: tuple[Challenge, ...] = getattr(response, attribute)
            asked: dict[str, tuple[Credentials, ...]] = {}
            usable = []
            for challenge in challenges:
                realm = challenge.realm or ""
                if realm not in asked:
                    asked[realm] = self.keyring.find(realm, request)
                found = self._credentials(asked[realm], challenge, header, hosts)
                if found is not None:
                    usable.append((challenge, found))
            chosen = strongest(challenge for challenge, _ in usable)
            for challenge in chosen:
                credentials = next(found for each, found in usable if each is challenge)
                answer = self._answer(challenge, credentials, header, hosts)
                if answer is not None:
                    fresh[(header, challenge.realm or "", challenge.nonce or "")] = answer
            if challenges and not chosen and not self.problem:
                realms = ", ".join(sorted(asked))
                self.problem = f"no challenge of an algorithm that is known, for realm {realms}"
        return fresh

    def _credentials(
        self,
        found: tuple[Credentials, ...],
        challenge: Challenge,
        header: str,
        hosts: tuple[set[str], set[str]],
    ) -> Credentials | None:
        """Return those of the credentials found that may answer a challenge."""
        able = [each for each in found if each.can_answer(challenge)]
        allowed = [each for each in able if self._is_allowed(each, header, hosts)]
        if allowed:
            return allowed[0]
        if able:
            self.problem = f"credentials are not for {', '.join(sorted(hosts[1]))}"
        elif not self.problem:
            self.problem = f"no credentials for realm {challenge.realm}"
        return None

    def _answer(
        self,
        challenge: Challenge,
        credentials: Credentials,
        header: str,
        hosts: tuple[set[str], set[str]],
    ) -> _Answer | None:
        """Return the answer to one challenge; None if these credentials were refused."""
        realm = challenge.realm or ""
        before = [key for key in self._answers if key[:2] == (header, realm)]
        is_second = False
        for key in before:
            answer = self._answers[key]
            if answer.is_fresh and not (challenge.stale and not answer.is_second):
                self.problem = (
                    f"user {credentials.user} was refused by realm {realm}"
                    if not challenge.stale
                    else f"nonce of realm {realm} was stale twice"
                )
                credentials.forget(answer.place)
                return None
            is_second = is_second or answer.is_fresh
        for key in before:
            del self._answers[key]
        where = sorted(hosts[0] if header == "authorization" else {self._hop})
        # many accounts have the same
        place = (header, shared_text(realm), shared_text(where[0]))
        session = credentials.answer(challenge, place)
        return _Answer(session, credentials, place, True, is_second)

    def write(self, request: Request) -> None:
        """Write the credentials of all realms that have asked into a request. Each counts once."""
        method, uri, body = request.method, request.uri_text, request.body
        for _, _, header in _HEADERS:
            answers = {key: it for key, it in self._answers.items() if key[0] == header}
            if not answers:
                continue
            ours = {realm for _, realm, _ in answers}
            kept: list[Authorization] = [
                value for value in getattr(request, header) if value.realm not in ours
            ]
            kept += [it.session.answer(method, uri, body) for it in answers.values()]
            setattr(request, header, tuple(kept))

    def received(self, response: Response, request: Request, element: Element) -> None:
        """Take the Authentication-Info of a 2xx (RFC 7616 §3.5, RFC 3261 §20.6).

        A wrong `rspauth` is logged. The response counts anyway, because a call that is answered
        cannot be refused.
        """
        for name, attribute, header in _INFOS:
            if name in response.headers.fields:
                self._check_info(response, attribute, header, request, element)

    def _check_info(
        self, response: Response, attribute: str, header: str, request: Request, element: Element
    ) -> None:
        answers = [it for key, it in self._answers.items() if key[0] == header]
        if len(answers) != 1:  # it does not say for which realm it is
            return
        answer = answers[0]
        try:
            info: AuthenticationInfo | None = getattr(response, attribute)
            fits = info is None or answer.session.check(info, request.uri_text, response.body)
        except ParseError:
            fits = False
        if not fits:
            answer.credentials.forget(answer.place)
            element.engine.counters.warn(
                "rspauth wrong",
                element.clock.now(),
                "server does not know the password: realm=%s method=%s call_id=%s "
                'reason="rspauth of Authentication-Info is wrong"',
                answer.place[1],
                Plain(request.method),
                Plain(request.headers.get("Call-ID")),
                log=log,
            )

    def _gave_up(self, attempt: Attempt, response: Response) -> None:
        element = attempt.tried.stack
        element.engine.counters.warn(
            "challenge not answered",
            element.clock.now(),
            'challenge not answered: status=%d method=%s target=%s call_id=%s reason="%s"',
            response.status,
            Plain(attempt.request.method),
            Plain(attempt.request.uri.host),
            Plain(attempt.request.headers.get("Call-ID")),
            Plain(self.problem),
            log=log,
        )
