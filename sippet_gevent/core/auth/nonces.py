"""Nonces: made without state, and counted while they are used, RFC 7616 §5.4 and §5.5. Pure.

    nonce = time || random || tag of the source || MAC(time, random, tag, realm)

The MAC (message authentication code) is under a secret of this element, so a nonce that was never
used costs no memory. Only nonces with a right password are remembered, with the counts that they
were used with.
"""

from __future__ import annotations

import math
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections import OrderedDict
from enum import Enum
from hashlib import blake2s
from hmac import compare_digest

SECONDS = 300.0
"""How long a nonce may be used."""

NONCES = 50_000
"""How many used nonces are remembered, about 280 bytes each. When there are more, the oldest
nonces are stale, used or not."""

AHEAD = 60.0
"""Seconds by which the clock of another process with the same secret may be ahead of ours. A nonce
from later than that was made before a clock was set back, or by a machine with a wrong clock."""

WINDOW = 64
"""Nonce counts below the highest one that are still accepted once, because datagrams overtake each
other."""

_TIME, _RANDOM, _TAG, _MAC = 6, 4, 4, 10
_BYTES = _TIME + _RANDOM + _TAG + _MAC
_TEXT = _BYTES * 4 // 3


class Age(Enum):
    """What is known about a nonce."""

    VALID = "valid"
    STALE = "stale"
    """Made here, and too old."""
    UNKNOWN = "unknown"
    """Not made here, or by another secret."""


class Nonces:
    """Makes and checks the nonces of a realm.

    Args:
        realm: The realm.
        secret: The key of the MAC; random by default. Processes that serve the same users need the
            same secret, and agree about the time. They do not share the counts.
        seconds: How long a nonce may be used.
    """

    __slots__ = ("_key", "_oldest", "_realm", "_seconds", "_since", "_used")

    def __init__(self, realm: str, secret: bytes | None = None, seconds: float = SECONDS) -> None:
        self._key = blake2s(os.urandom(32) if secret is None else secret, person=b"nonce").digest()
        self._realm = realm.encode("utf-8", "surrogateescape")
        self._seconds = seconds
        # time, highest count, bits of those below
        self._used: OrderedDict[str, tuple[float, int, int]] = OrderedDict()
        self._since = 0.0  # time of the first nonce after take_over()
        self._oldest = 0.0  # nonces that were made earlier are stale

    def take_over(self, before: Nonces) -> None:
        """Go on with the nonces of others, those of another realm, too: none can be used with a
        count that it was used with before."""
        self._used, self._oldest = before._used, before._oldest
        self._since = math.inf

    def make(self, now: float, source: str) -> str:
        """Return a new nonce for a source."""
        if self._since == math.inf:
            self._since = int(now * 1000) / 1000
        body = int(now * 1000).to_bytes(_TIME, "big") + os.urandom(_RANDOM) + self._tag(source)
        return urlsafe_b64encode(body + self._mac(body)).decode()

    def check(self, nonce: str, now: float) -> Age:
        """Return what is known about a nonce, used or not."""
        used = self._used.get(nonce)
        if used is not None:  # only nonces whose MAC was right are in there
            made = used[0]
        else:
            raw = self._raw(nonce)
            if raw is None:
                return Age.UNKNOWN
            made = _made(raw)
            if made < self._oldest:
                return Age.STALE
        return Age.VALID if -AHEAD <= now - made <= self._seconds else Age.STALE

    def is_aging(self, nonce: str, now: float) -> bool:
        """True when half of the time of a nonce of ours has passed.

        Then it is time for the next one. A client that got a new nonce with each response could not
        send two requests at the same time.
        """
        raw = self._raw(nonce)
        return raw is not None and now - _made(raw) > self._seconds / 2

    def is_of_before(self, nonce: str, now: float) -> bool:
        """True for a valid nonce that was made before take_over()."""
        raw = self._raw(nonce) if self._since else None
        return raw is not None and _made(raw) < self._since and self.check(nonce, now) is Age.VALID

    def is_for(self, nonce: str, source: str) -> bool:
        """True when a nonce was made here for a source, however long ago."""
        raw = self._raw(nonce)
        return raw is not None and compare_digest(
            raw[_TIME + _RANDOM : _TIME + _RANDOM + _TAG], self._tag(source)
        )

    def use(self, nonce: str, count: int, now: float) -> bool:
        """Use a valid nonce with a count. False if it was used with this count before.

        Args:
            nonce: A nonce that check() calls valid.
            count: The nonce count; 0 for the form of RFC 2069, which has none. Such a nonce is good
                for one request, because nothing tells a request from its repetition.
            now: The time.
        """
        count = count or 1
        before = self._used.get(nonce)
        if before is None:
            self._used[nonce] = _made(urlsafe_b64decode(nonce)), count, 1
            self._forget(now)
            return True
        made, highest, bits = before
        if count > highest:
            distance = count - highest
            bits = ((bits << distance) if distance < WINDOW else 0) | 1
            self._used[nonce] = made, count, bits & ((1 << WINDOW) - 1)
            return True
        bit = 1 << (highest - count)
        if highest - count >= WINDOW or bits & bit:
            return False
        self._used[nonce] = made, highest, bits | bit
        return True

    def __len__(self) -> int:
        return len(self._used)

    def _forget(self, now: float) -> None:
        """Forget expired nonces, and the oldest ones if there are too many."""
        used = self._used
        for _ in range(2):  # two for each that is added, so the table shrinks
            nonce, (made, _, _) = next(iter(used.items()))
            if now - made <= self._seconds:
                if len(used) <= NONCES:
                    return
                self._oldest = max(self._oldest, made + 0.001)
            del used[nonce]
            if not used:
                return

    def _raw(self, nonce: str) -> bytes | None:
        if len(nonce) != _TEXT:
            return None
        try:
            raw = urlsafe_b64decode(nonce)
        except (NotBase64, ValueError):
            return None
        body = raw[:-_MAC]
        if len(raw) != _BYTES or not compare_digest(raw[-_MAC:], self._mac(body)):
            return None
        # one nonce has one text: letters that base64 ignores would make another one of it
        return raw if urlsafe_b64encode(raw).decode() == nonce else None

    def _tag(self, source: str) -> bytes:
        return blake2s(source.encode("utf-8", "surrogateescape"), key=self._key, digest_size=_TAG,
                       person=b"source").digest()  # fmt: skip

    def _mac(self, body: bytes) -> bytes:
        return blake2s(body + self._realm, key=self._key, digest_size=_MAC, person=b"mac").digest()


def _made(raw: bytes) -> float:
    """Return the time at which a nonce was made."""
    return int.from_bytes(raw[:_TIME], "big") / 1000
