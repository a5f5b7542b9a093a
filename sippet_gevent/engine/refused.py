"""RefusedLately: remembers requests that were refused without a transaction, RFC 3261 §8.2.7.
Pure."""

from __future__ import annotations

REFUSED = 100_000
"""Most refused requests that are remembered, because their retransmissions must be refused, too.
Each takes 100 bytes, twice."""


class RefusedLately:
    """Requests that were refused without a transaction, by the hash of their key, with the
    Retry-After of their 503.

    A client that repeats such a request must get the same answer, even if there is room again,
    because it may have received the first one (RFC 3261 §8.2.7). A key is kept for `seconds` to
    twice that; after REFUSED of them the older ones are forgotten.
    """

    __slots__ = ("_seconds", "_since", "before", "keys")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since = 0.0
        self.keys: dict[int, int] = {}  # of a key the hash: the client chooses its length
        self.before: dict[int, int] = {}

    def add(self, keys: list[str], retry_after: int, now: float) -> None:
        """Remember that requests were refused."""
        if now >= self._since + self._seconds or len(self.keys) >= REFUSED:
            self._rotate(now)
        self.keys.update(dict.fromkeys(map(hash, keys), retry_after))

    def take(self, key: str, retry_after: int, now: float) -> int | None:
        """Remember that a request was refused, unless it was refused before. Return the Retry-After
        that it had then; None if it was not refused lately."""
        number = hash(key)
        if number in self.keys or number in self.before:
            found = self.get(key, now)
            if found is not None:
                return found
        if now >= self._since + self._seconds or len(self.keys) >= REFUSED:
            self._rotate(now)
        self.keys[number] = retry_after
        return None

    def _rotate(self, now: float) -> None:
        self.before = self.keys if now < self._since + 2 * self._seconds else {}
        self.keys = {}
        self._since = now

    def get(self, key: str, now: float) -> int | None:
        """Return the Retry-After of a request's 503; None if it was not refused lately."""
        if now >= self._since + 2 * self._seconds:
            self.keys, self.before = {}, {}
            return None
        found = self.keys.get(hash(key))
        return self.before.get(hash(key)) if found is None else found
