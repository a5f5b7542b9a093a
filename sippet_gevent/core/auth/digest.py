"""Digest: computes and checks digests, RFC 7616, RFC 8760 and RFC 3261 §22.4. Pure.

| name | from | what proves it |
|---|---|---|
| HA1 | user name, realm and password | `ha1()`: as good as the password within its realm |
| response | HA1, nonce, method, URI, and the body for `auth-int` | `response()`: in Authorization |
| rspauth | the same without method | `response(method="")`: in Authentication-Info |

MD5 without `qop` is the form of RFC 2069, for old phones. It proves less: a response can be
repeated, and the client adds nothing to what is hashed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from hmac import compare_digest
from typing import Protocol
from unicodedata import is_normalized, normalize
from urllib.parse import quote

from ...errors import InvalidValue, ParseError, excerpt
from ...message.fields.authentication import AuthenticationInfo, AuthParameters, Challenge
from ...message.fields.authentication import Credentials as Authorization
from ...message.grammar import REMEMBERED

SCHEME = "Digest"
"""The only scheme that SIP elements may offer and answer by password (RFC 8760 §2.6)."""

SESSION = "-sess"
"""End of the names of algorithms whose key also covers the nonces (RFC 7616 §3.4.2)."""


class _Hash(Protocol):
    """What a constructor of hashlib returns."""

    def hexdigest(self) -> str: ...


def _hashes() -> dict[str, Callable[[bytes], _Hash]]:
    """Return the hash functions that this Python has, strongest first, by algorithm name.

    SHA-512-256 is part of OpenSSL, and not of hashlib itself. A system in FIPS mode refuses MD5
    unless it is told that it protects nothing, which is nearly true.
    """
    found: dict[str, Callable[[bytes], _Hash]] = {}
    for name, text in (("SHA-512-256", "sha512_256"), ("SHA-256", "sha256"), ("MD5", "md5")):
        make = getattr(hashlib, text, None)
        try:
            if make is None:
                make = partial(hashlib.new, text)
            make(b"", usedforsecurity=False)
            found[name] = partial(make, usedforsecurity=False)
        except (ValueError, TypeError):
            continue
    return found


_HASHES = _hashes()

ALGORITHMS = tuple(_HASHES)
"""The algorithms that can be computed here, strongest first, without their -sess forms."""

_KNOWN = {
    known.lower(): known for name in ALGORITHMS for known in (name, name + SESSION)
}  # names are compared without case, as tokens are (RFC 3261 §7.3.1)
_HASH_OF = {name + end: _HASHES[name] for name in ALGORITHMS for end in ("", SESSION)}
"""The hash functions also of the -sess forms."""

_STRENGTH = {name: len(ALGORITHMS) - place for place, name in enumerate(ALGORITHMS)}


def known_algorithm(name: str | None) -> str | None:
    """Return the algorithm of a challenge as this module spells it; None for an unknown one.

    A missing name means MD5 (RFC 8760 §2.1).
    """
    return _KNOWN.get("md5" if name is None else name.lower())


def base_of(algorithm: str) -> str:
    """Return an algorithm without its `-sess`: the one by which HA1 is computed."""
    return algorithm.removesuffix(SESSION)


def _hash_of(algorithm: str) -> Callable[[bytes], _Hash]:
    known = known_algorithm(algorithm)
    if known is None:
        raise InvalidValue(
            f"algorithm must be one of {', '.join(ALGORITHMS)}, got {excerpt(algorithm)}: "
            "SHA-512-256 needs a Python whose OpenSSL has sha512_256"
        )
    return _HASH_OF[known]


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _normal(text: str) -> bytes:
    # RFC 7616 §4: Normalization Form C. A password typed on one machine has to equal the same
    # password stored by another.
    return _utf8(text if is_normalized("NFC", text) else normalize("NFC", text))


def ha1(username: str, realm: str, password: str, algorithm: str = "SHA-256") -> str:
    """Return HA1, the hash of user name, realm and password, in hexadecimal (RFC 7616 §3.4.2).

    A server can keep it in place of the password. It is as good as the password within its realm.

        ha1("100", "example.com", "secret", "MD5")

    Args:
        username: The user name.
        realm: The realm, exactly as the server writes it in its challenges.
        password: The password.
        algorithm: One of ALGORITHMS. The -sess forms have the same HA1.

    Raises:
        InvalidValue: The algorithm is unknown, or the user name has a colon, which would make
            another user's HA1 (RFC 7617 §2).
    """
    if ":" in username:
        raise InvalidValue(f"a user name must have no colon, got {excerpt(username)}")
    text = b":".join((_normal(username), _utf8(realm), _normal(password)))
    return _hash_of(algorithm)(text).hexdigest()


def userhash(username: str, realm: str, algorithm: str = "SHA-256") -> str:
    """Return the hash that hides a user name, in hexadecimal (RFC 7616 §3.4.4). Raises
    InvalidValue for an unknown algorithm."""
    return _hash_of(algorithm)(b":".join((_normal(username), _utf8(realm)))).hexdigest()


def session_key(ha1: str, algorithm: str, nonce: str, cnonce: str) -> str:
    """Return the key of a -sess algorithm, in hexadecimal (RFC 7616 §3.4.2)."""
    return _hash_of(algorithm)(_utf8(f"{ha1}:{nonce}:{cnonce}")).hexdigest()


def response(
    key: str,
    *,
    method: str,
    uri: str,
    nonce: str,
    algorithm: str = "MD5",
    qop: str | None = None,
    nc: str = "00000001",
    cnonce: str = "",
    body: bytes = b"",
) -> str:
    """Return the digest that proves a password, in hexadecimal (RFC 7616 §3.4.1).

    Args:
        key: HA1; for a -sess algorithm its session_key().
        method: The request's method; empty for `rspauth` (RFC 7616 §3.5).
        uri: The Request-URI, as the credentials have it.
        nonce: The nonce of the challenge.
        algorithm: The algorithm.
        qop: `auth`, `auth-int`, or None for the form of RFC 2069.
        nc: The nonce count, as the credentials have it.
        cnonce: The nonce of the client.
        body: The body, for `auth-int`.
    """
    digest = _HASH_OF.get(algorithm) or _hash_of(algorithm)
    a2 = f"{method}:{uri}"
    if qop is not None and qop.lower() == "auth-int":
        # H(entity-body) of an empty body is the hash of nothing (RFC 8760 §2.6, rule 7)
        a2 = f"{a2}:{digest(body).hexdigest()}"
    ha2 = digest(a2.encode("utf-8", "surrogateescape")).hexdigest()
    covered = f"{nonce}:{ha2}" if qop is None else f"{nonce}:{nc}:{cnonce}:{qop}:{ha2}"
    return digest(f"{key}:{covered}".encode("utf-8", "surrogateescape")).hexdigest()


# ---- the client's side


def shared_text(text: str) -> str:
    """Return one text for all that are equal: the realm and the algorithm of many accounts."""
    return _one(text) if len(text) <= REMEMBERED else text


@lru_cache(maxsize=64)
def _one(text: str) -> str:
    return text


class Session:
    """A challenge that a client answers, request after request: nonce, count and key.

    Args:
        challenge: The challenge. can_answer() has to be true for it.
        username: The user name.
        ha1: Its HA1 for the challenge's algorithm.
        cnonce: Random text of the client, which stays while this session is used.
        rfc2069: Answer MD5 without `qop` by the form of RFC 2069, as servers of that time want.
            False answers with `qop=auth`, the default of RFC 8760 §2.6.
    """

    __slots__ = (
        "_key", "_opaque", "_realm", "_spelled", "_userhash", "algorithm", "cnonce", "count",
        "first_nonce", "nonce", "qop", "username",
    )  # fmt: skip

    def __init__(
        self,
        challenge: Challenge,
        username: str,
        ha1: str,
        cnonce: str,
        *,
        rfc2069: bool = True,
    ) -> None:
        # not the whole challenge, because thousands of accounts have one each
        self._realm = shared_text(challenge.realm or "")
        self._spelled = None if challenge.algorithm is None else shared_text(challenge.algorithm)
        self._opaque, self._userhash = challenge.opaque, bool(challenge.userhash)
        self.username = username
        self.algorithm = known_algorithm(challenge.algorithm) or "MD5"
        self.qop = qop_of(challenge, rfc2069=rfc2069)
        self.cnonce = cnonce
        self.nonce = self.first_nonce = challenge.nonce or ""
        self.count = 0
        """Requests that were sent with this nonce."""
        # of the first nonce, even when the server names the next one (RFC 7616 §3.4.2)
        self._key = (
            session_key(ha1, self.algorithm, self.nonce, cnonce)
            if self.algorithm.endswith(SESSION)
            else ha1
        )

    def answer(self, method: str, uri: str, body: bytes = b"") -> Authorization:
        """Return the credentials for one request, and count it."""
        self.count += 1
        pairs: list[tuple[str, object]] = self._name()
        pairs += [("realm", self._realm), ("nonce", self.nonce), ("uri", uri)]
        pairs.append(("response", self._response(method, uri, body)))
        if self._spelled is not None:
            # exactly as the server has spelled it (RFC 7616 §3.4)
            pairs.append(("algorithm", self._spelled))
        if self.qop is not None:
            pairs += [("cnonce", self.cnonce), ("qop", self.qop), ("nc", f"{self.count:08x}")]
        if self._opaque is not None:
            pairs.append(("opaque", self._opaque))
        if self._userhash:
            pairs.append(("userhash", "true"))
        return Authorization(SCHEME, AuthParameters(pairs))

    def _name(self) -> list[tuple[str, object]]:
        name = self.username
        if self._userhash:
            return [("username", userhash(name, self._realm, self.algorithm))]
        if not name.isprintable():  # a control character is no part of a quoted string
            return [("username*", "UTF-8''" + quote(_normal(name)))]
        return [("username", normalize("NFC", name))]

    def _response(self, method: str, uri: str, body: bytes) -> str:
        return response(
            self._key,
            method=method,
            uri=uri,
            nonce=self.nonce,
            algorithm=self.algorithm,
            qop=self.qop,
            nc=f"{self.count:08x}",
            cnonce=self.cnonce,
            body=body,
        )

    def check(self, info: AuthenticationInfo, uri: str, body: bytes = b"") -> bool:
        """Take the Authentication-Info of a response to the latest request (RFC 7616 §3.5).

        The next request uses its `nextnonce`.

        Args:
            info: The header field.
            uri: The `uri` of that request's credentials.
            body: The body of the response.

        Returns:
            False when `rspauth` is wrong, so the server did not know the password.
        """
        try:
            given, count, cnonce = info.rspauth, info.nc, info.cnonce
        except ParseError:
            return False
        fits = True
        if given is not None:
            ours = count in (None, self.count) and cnonce in (None, self.cnonce)
            fits = ours and same(given, self._response("", uri, body))
        following = info.nextnonce
        if fits and following:
            self.nonce, self.count = following, 0
        return fits


def qop_of(challenge: Challenge, *, rfc2069: bool = True) -> str | None:
    """Return the quality of protection by which a client answers a challenge.

    `auth` if it is offered, because proxies on the way may change a body. None means the form of
    RFC 2069, for MD5 without `qop`.
    """
    offered = [qop.lower() for qop in challenge.qop]
    if "auth" in offered:
        return "auth"
    if "auth-int" in offered:
        return "auth-int"
    is_old = known_algorithm(challenge.algorithm) == "MD5" and "qop" not in challenge.parameters
    return None if is_old and rfc2069 else "auth"


def can_answer(challenge: Challenge) -> bool:
    """True for a challenge that Session can answer.

    That is a Digest with realm and nonce, a known algorithm, and a known `qop` or none. Others are
    ignored (RFC 8760 §2.4).
    """
    if challenge.scheme.lower() != "digest" or not challenge.nonce or challenge.realm is None:
        return False
    known = known_algorithm(challenge.algorithm)
    if known is None:
        return False
    if "qop" in challenge.parameters:
        return any(qop.lower() in ("auth", "auth-int") for qop in challenge.qop)
    # without qop a client must not send a cnonce, which -sess needs (RFC 3261 §22.4, rule 8)
    return not known.endswith(SESSION)


def strongest(challenges: Iterable[Challenge]) -> list[Challenge]:
    """Return the challenges to answer: for each realm those of the strongest known algorithm.

    A server offers its realm by several algorithms, one of which is answered (RFC 8760 §2.3). The
    same realm and algorithm twice come from two servers behind a forking proxy, and both are
    answered (RFC 3261 §22.3).
    """
    best: dict[str, tuple[int, list[Challenge]]] = {}
    for challenge in challenges:
        if not can_answer(challenge):
            continue
        known = known_algorithm(challenge.algorithm) or "MD5"
        strength = _STRENGTH[base_of(known)]
        realm = challenge.realm or ""
        before = best.get(realm)
        if before is None or strength > before[0]:
            best[realm] = strength, [challenge]
        elif strength == before[0] and not any(
            challenge.nonce == other.nonce or known != known_algorithm(other.algorithm)
            for other in before[1]
        ):
            before[1].append(challenge)
    return [challenge for _, chosen in best.values() for challenge in chosen]


def same(one: str, other: str) -> bool:
    """True when two hexadecimal texts are equal, in a time that does not tell where they differ.

    The second text is ours. The first one may be any text.
    """
    return one.isascii() and compare_digest(one.lower(), other)
