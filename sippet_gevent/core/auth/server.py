"""Authenticator: asks for passwords, and checks them, RFC 3261 §22, RFC 7616 and RFC 8760.

| request | answer |
|---|---|
| ACK, or one in a call or along our route | goes to the core; an ACK cannot be asked (§22.1) |
| that this stack has sent to itself for one that has passed | goes to the core, as before |
| without credentials for the realm | 401 or 407 |
| wrong password, or unknown user | the same 401 or 407, after the same work |
| right password, and a nonce that is too old, used, or not ours | 401 or 407 with `stale=true` |
| right password, and an address of another user | 403 |
| credentials that cannot be read, or for another URI | 400 |
| from a source with too many wrong passwords | 403 for a while |
| while the users cannot be looked up | 503 with Retry-After |

A challenge leaves no state: the nonce is checked by its MAC, and a transaction other than INVITE
ends with it (§8.2.7).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

from ...arguments import duration, flag, function, takes
from ...errors import (
    Challenged,
    InvalidValue,
    ParseError,
    Reject,
    SIPError,
    StoreError,
    excerpt,
)
from ...message.address import NameAddr
from ...message.fields.authentication import Credentials as Authorization
from ...message.grammar import quote
from ...message.message import Request, Response
from ...message.uri import URI
from ...runtime.rates import source_of
from ...stores.users import User
from ..privacy import ANONYMOUS_HOST
from ..proxy.spirals import earlier_pass
from ..server import ServerTransaction
from ..user_agent import UserAgent
from . import digest
from .bans import Ban, Bans
from .claim import Claim
from .digest import SESSION
from .log import (
    log_ban,
    log_hook_error,
    log_no_lookup,
    log_other_address,
    log_other_uri,
    log_unreadable,
    log_wrong_password,
)
from .lookup import Secret, Users, lookup_of, offered
from .nonces import SECONDS, Age, Nonces

OFFERED = ("SHA-256", "MD5")
"""Algorithms that are offered by default. Few phones know SHA-512-256, and each offer makes the
challenge longer."""

_NOBODY = "0" * 64

_FREE = frozenset(("ACK", "CANCEL"))
"""Methods that cannot be asked for a password (§22.1)."""

Owns = Callable[[str, URI], bool]
"""Decides if a user may use an address, `owns(username, uri)`."""

Exempt = Callable[[Request, ServerTransaction], bool]
"""Decides if a request needs no password, `exempt(request, tx)`."""


class Authenticator:
    """Checks the passwords of requests.

        office = Authenticator(realm="example.com", users={"100": "secret"})

        @stack.on("MESSAGE")
        def message(request, tx):
            user = tx.authenticate(office)
            ...

    A user may use the address-of-record with its own name, in To of a REGISTER, and in From and
    P-Asserted-Identity of other requests. `owns` decides otherwise. An anonymous From is free.

    Args:
        realm: The realm, usually the domain. Its text is part of each HA1.
        users: A dict from user name to password, User, or HA1 by algorithm. Or anything with
            `lookup(username, realm)`.
        algorithms: The algorithms to offer, strongest first. By default those of SHA-256 and MD5
            that all users have an HA1 for. A store of your own needs one for each.
        proxy: Ask by 407 and Proxy-Authenticate, except for REGISTER (§22.3).
        integrity: Offer `auth-int`, too, by which a password covers the body.
        rfc2069: Accept MD5 without `qop`, as old phones send it.
        seconds: How long a nonce may be used.
        bind_source: A nonce is good for the address alone that has got it. Not for phones that
            change networks.
        mutual: Prove this server to the client, too, by Authentication-Info in a 2xx, which also
            gives a new nonce before the old one ends (RFC 7616 §3.5). Few phones check it.
        secret: The key of the nonces; random by default. Processes that serve the same users need
            the same.
        bans: Counts wrong passwords; `Bans()` by default.
        owns: Decides if a user may use an address, `owns(username, uri)`.
        exempt: Decides if a request needs no password, `exempt(request, tx)`, for example from a
            trunk.

    Raises:
        InvalidValue: An algorithm cannot be computed, a user of a dict has no HA1 for it, or the
            realm is empty.
        StoreError: The users cannot be read.
        TypeError: An argument has the wrong type.
    """

    def __init__(
        self,
        *,
        realm: str,
        users: Users | Mapping[str, Secret],
        algorithms: tuple[str, ...] | None = None,
        proxy: bool = False,
        integrity: bool = False,
        rfc2069: bool = True,
        seconds: float = SECONDS,
        bind_source: bool = False,
        mutual: bool = False,
        secret: bytes | None = None,
        bans: Bans | None = None,
        owns: Owns | None = None,
        exempt: Exempt | None = None,
    ) -> None:
        if not isinstance(realm, str):
            raise TypeError(f"realm must be text, got {excerpt(realm)}: write realm='example.com'")
        if not realm:
            raise InvalidValue("realm must not be empty: write realm='example.com'")
        self.realm = realm
        self._lookup = lookup_of(users)
        self._algorithms = offered(users, realm, algorithms, OFFERED)
        for name, value in (("proxy", proxy), ("integrity", integrity), ("rfc2069", rfc2069),
                            ("bind_source", bind_source), ("mutual", mutual)):  # fmt: skip
            flag(name, value)
        for name, given, parameters in (
            ("owns", owns, ("username", "uri")),
            ("exempt", exempt, ("request", "tx")),
        ):
            if function(name, given, f"a function of ({', '.join(parameters)})") is not None:
                takes(given, parameters, name)
        # with their -sess forms: the algorithm of HA1
        self._accepted = {
            algorithm + end: algorithm for algorithm in self._algorithms for end in ("", SESSION)
        }
        self._proxy, self._rfc2069, self._bind_source = proxy, rfc2069, bind_source
        self._mutual = mutual
        self._qops = ("auth", "auth-int") if integrity else ("auth",)
        self._nonces = Nonces(realm, secret, duration("seconds", seconds))
        self._before: Authenticator | None = None
        self._epoch: float | None = None
        """Seconds to add to the clock for times that other processes share. It is fixed at the
        start, so that a step of the system's clock ends no nonce, and brings none back."""
        self._bans = Bans() if bans is None else bans
        self._owns, self._exempt = owns, exempt
        # the same work for an unknown user as for a known one
        has_passwords = isinstance(users, Mapping) and any(
            isinstance(secret, str) for secret in users.values()
        )
        self._nobody: Secret = "nobody" if has_passwords else {}
        realm_and_qop = f"Digest realm={quote(realm)}, qop={quote(','.join(self._qops))}"
        self._offers = [
            (f"{realm_and_qop}, algorithm={algorithm}, nonce=") for algorithm in self._algorithms
        ]

    def take_over(self, before: Authenticator) -> None:
        """Go on where another Authenticator ends that this one replaces, for example because its
        realm or its algorithms have changed.

            authenticator = Authenticator(realm="new.example", users=users, secret=secret)
            authenticator.take_over(core.authenticator)
            core.authenticator = authenticator

        Bans and counts of wrong passwords end when they would have ended. Credentials that were
        used cannot be replayed (RFC 7616 §5.5). Nonces that were used stay good, and others if
        realm and `secret` are the same. Otherwise phones get `stale=true`, which they answer by
        themselves.

        Args:
            before: The Authenticator that is used no longer.
        """
        self._bans.take_over(before._bans)
        self._nonces.take_over(before._nonces)
        self._epoch = before._epoch
        # what it has let pass may return to this stack now; those before it have no such requests
        self._before, before._before = before if before.realm == self.realm else None, None

    # ---- the decision

    def authenticate(
        self, request: Request, tx: ServerTransaction, *, within: bool = False
    ) -> str | None:
        """Return the user that has sent a request, whose password was right.

        Args:
            request: The request.
            tx: Its server transaction.
            within: Ask for the password of a request within a call, too, even if it is exempt. Its
                From is not checked, because it is that of the dialog (RFC 3261 §12.2.1.1).

        Returns:
            The user name. None for a request that needs no password: an ACK, one in a call or along
            a route of ours, and an exempt one.

        Raises:
            Reject: 401 or 407 with challenges, 403, or 400.
        """
        method = request.method
        if method in _FREE:  # §22.1
            return None
        if not within:
            if request.mandatory.to_tag is not None and (tx.call is not None or tx._belongs()):
                return None
            if self._exempt is not None and self._exempt(request, tx):
                tx.admitted_by = self
                return None
            if request.mandatory.key in tx.stack.engine.clients:  # it has come back to us, perhaps
                earlier = earlier_pass(request, tx)
                if earlier is not None and self._has_admitted(earlier):
                    tx.admitted_by, tx.user = self, earlier.user
                    return tx.user
        stack = tx.stack
        now, source = stack.clock.now(), source_of(tx.flow.remote[0])
        if self._epoch is None:
            self._epoch = stack.clock.wall() - now
        time = now + self._epoch
        bans = self._bans
        if bans.until and bans.holds(source, "", now):
            raise Reject(403)
        proxied = self._proxy and method != "REGISTER"
        claim = self._claim(request, stack, source, proxied=proxied)
        if claim is None:
            values = request.proxy_authorization if proxied else request.authorization
            # an algorithm that was offered until take_over(): the phone tries again by itself
            is_late = any(self._nonces.is_of_before(value.nonce or "", time) for value in values)
            raise self._challenge(time, source, proxied=proxied, stale=is_late)
        if bans.until and bans.holds(source, claim.username, now):
            raise Reject(403)
        found = self._find(claim, request, stack)
        key = self._ha1_of(claim, self._nobody if found is None else found)
        proved = claim.is_proved_by(_NOBODY if key is None else key, method, request.body)
        nonce = claim.nonce
        if found is None or key is None or not proved:
            if self._nonces.is_for(nonce, source):
                lacks_key = found is not None and key is None
                self._failed(request, tx, source, claim, now, lacks_key=lacks_key)
            raise self._challenge(time, source, proxied=proxied)
        if (
            self._nonces.check(nonce, time) is not Age.VALID
            or (self._bind_source and not self._nonces.is_for(nonce, source))
            or not self._nonces.use(nonce, claim.number, time)
        ):
            raise self._challenge(time, source, proxied=proxied, stale=True)
        if bans.counts:
            bans.succeeded(source, claim.username)
        if not within:
            self._check_addresses(request, stack, claim)
        if proxied:
            self._consume(request)
        if self._mutual:
            name = "Proxy-Authentication-Info" if proxied else "Authentication-Info"
            following = (
                self._nonces.make(time, source) if self._nonces.is_aging(nonce, time) else None
            )
            tx.complete_success = partial(_prove, name, claim, key, following)
        tx.admitted_by, tx.user = self, claim.username
        return claim.username

    def _has_admitted(self, tx: ServerTransaction) -> bool:
        """True if this Authenticator has let a request pass, or the one that it has replaced."""
        by = tx.admitted_by
        return by is not None and (by is self or by is self._before)

    def _find(self, claim: Claim, request: Request, stack: UserAgent) -> Secret | None:
        """Look a user up. Raises Reject(503) when the store fails, because 401 would make the phone
        ask its user for another password."""
        try:
            return self._lookup(claim.username, self.realm)
        except Exception as error:
            if isinstance(error, SIPError) and not isinstance(error, StoreError):
                raise
            log_no_lookup(stack, request, self.realm, error)
            after = random.randint(*stack.engine.limits.retry_after)
            raise Reject(503, "Users Unavailable", retry_after=after) from error

    def _claim(
        self, request: Request, stack: UserAgent, source: str, *, proxied: bool
    ) -> Claim | None:
        """Return the credentials of a request for this realm. None if there are none that were
        offered. Raises Reject(400)."""
        name = "Proxy-Authorization" if proxied else "Authorization"
        there = request.headers.fields.get(name)
        if there is None:
            return None
        try:
            for text in (there,) if isinstance(there, str) else there:
                claim = Claim.read(text)
                if claim is not None and claim.realm == self.realm and self._is_offered(claim):
                    if claim.uri != request.uri_text:
                        _check_uri(request, claim, stack, source)
                    return claim
            values = request.proxy_authorization if proxied else request.authorization
            for value in values:
                if value.scheme.lower() == "digest" and value.realm == self.realm:
                    # an empty response says who is there, before any challenge (RFC 8760 §2.7)
                    if not value.response:
                        continue
                    claim = Claim.of(cast(Authorization, value))
                    if not self._is_offered(claim):
                        continue
                    _check_uri(request, claim, stack, source)
                    return claim
        except ParseError as error:
            log_unreadable(stack, request, source, error)
            raise Reject(400, f"{name} Unreadable") from error
        return None

    def _is_offered(self, claim: Claim) -> bool:
        if claim.algorithm not in self._accepted or claim.is_hashed:
            return False
        if claim.qop is None:
            return self._rfc2069 and claim.algorithm == "MD5"
        return claim.qop.lower() in self._qops

    def _ha1_of(self, claim: Claim, secret: Secret) -> str | None:
        """Return a user's HA1 for the algorithm of a claim. None if the user has none."""
        algorithm = self._accepted[claim.algorithm]
        if isinstance(secret, str):
            return digest.ha1(claim.username.replace(":", ""), self.realm, secret, algorithm)
        return (secret.ha1 if isinstance(secret, User) else secret).get(algorithm)

    def _challenge(
        self, time: float, source: str, *, proxied: bool, stale: bool = False
    ) -> Challenged:
        """Return the refusal that asks for a password: one header line for each algorithm, the
        strongest first (RFC 8760 §2.3)."""
        nonce = self._nonces.make(time, source)
        end = f'"{nonce}", stale=true' if stale else f'"{nonce}"'
        values = [offer + end for offer in self._offers]
        if proxied:
            return Challenged(407, proxy_authenticate=values)
        return Challenged(401, www_authenticate=values)

    # ---- addresses

    def _check_addresses(self, request: Request, stack: UserAgent, claim: Claim) -> None:
        """Refuse a user that uses the address of another one (§10.3 step 4, RFC 3325 §5). Raises
        Reject(403)."""
        if request.method == "REGISTER":
            uris = [request.to.uri]
        else:
            uris = [request.from_.uri]
            for name in ("p_asserted_identity", "p_preferred_identity"):
                uris += [value.uri for value in getattr(request, name) if _is_address(value)]
        for uri in uris:
            if not self._may_use(claim.username, uri, stack):
                log_other_address(stack, request, claim, uri)
                raise Reject(403, "Address Of Another User")

    def _may_use(self, username: str, uri: URI, stack: UserAgent) -> bool:
        if uri.host.lower() == ANONYMOUS_HOST:
            return True
        if self._owns is not None:
            return bool(self._owns(username, uri))
        if not uri.is_sip or (stack.domains and not stack.is_responsible_for(uri)):
            return False
        return uri.user == username or f"{uri.user}@{uri.host}" == username

    def _consume(self, request: Request) -> None:
        """Remove the credentials for this realm from a request that is forwarded (§22.3), so that
        no phone gets them."""
        left = tuple(value for value in request.proxy_authorization if value.realm != self.realm)
        request.proxy_authorization = left or None

    # ---- failures

    def _failed(
        self,
        request: Request,
        tx: ServerTransaction,
        source: str,
        claim: Claim,
        now: float,
        *,
        lacks_key: bool,
    ) -> None:
        """Count and log a wrong password.

        A user without an HA1 for the algorithm that its phone has chosen gets the same answer, and
        the line says what to do.
        """
        stack = tx.stack
        lacks = self._accepted[claim.algorithm] if lacks_key else None
        log_wrong_password(stack, request, source, claim, lacks=lacks)
        for ban in self._bans.failed(source, claim.username, now):
            log_ban(stack, ban, self.realm)
            if self._bans.on_ban is not None:
                stack.callbacks.spawn(_tell, stack, self._bans.on_ban, ban)


def _check_uri(request: Request, claim: Claim, stack: UserAgent, source: str) -> None:
    """Refuse credentials that were made for another URI (RFC 7616 §3.4.6, RFC 8760 §2.6 rule 6).
    Raises Reject(400)."""
    if claim.uri == request.uri_text:
        return
    theirs, uri = URI.parse(claim.uri), request.uri
    if theirs.user != uri.user or theirs.host.lower() != uri.host.lower():
        log_other_uri(stack, request, source, claim)
        raise Reject(400, "Credentials For Another URI")


def _prove(name: str, claim: Claim, ha1: str, nextnonce: str | None, response: Response) -> None:
    """Write the header field that proves this server into a 2xx (RFC 7616 §3.5, RFC 3261 §20.6)."""
    response.headers[name] = str(claim.info(ha1, response.body, nextnonce))


def _is_address(value: object) -> bool:
    return isinstance(value, NameAddr)


def _tell(stack: UserAgent, on_ban: Callable[[Ban], object], ban: Ban) -> None:
    """Tell the application of a ban. What it raises is logged."""
    try:
        on_ban(ban)
    except Exception as error:
        log_hook_error(stack, ban, error)
