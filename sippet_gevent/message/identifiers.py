"""Random identifiers: tags, branches, Call-IDs, RFC 3261 §8.1.1.4, §8.1.1.7 and §19.3. Pure.

They always come from the operating system's generator, because an attacker that guesses a branch
can forge a response.
"""

from __future__ import annotations

import os

from ..errors import InvalidValue, excerpt

MAGIC_COOKIE = "z9hG4bK"
"""The beginning of each branch of RFC 3261 (§8.1.1.7)."""

_POOL = 4096  # bytes of one system call, enough for hundreds of tags

_random = ""
_at = 0


def _take(digits: int) -> str:
    global _random, _at
    start = _at
    _at = start + digits
    if _at > len(_random):
        _random = os.urandom(_POOL).hex()
        start, _at = 0, digits
    return _random[start:_at]


def _forget() -> None:
    global _random, _at
    _random, _at = "", 0


# A child process must not draw what its parent draws.
os.register_at_fork(after_in_child=_forget)


def create_tag() -> str:
    """Return a new tag: 64 random bits (§19.3 wants 32 at least)."""
    return _take(16)


def create_branch() -> str:
    """Return a new branch: the magic cookie and 128 random bits."""
    return MAGIC_COOKIE + _take(32)


def create_call_id() -> str:
    """Return a new Call-ID: 128 random bits."""
    return _take(32)


class Identifiers:
    """Makes the identifiers of one element: branches, tags and Call-IDs.

    With an `owner`, they begin with `~` and its letter, the branch after its magic cookie. So an
    identifier shows which process made it.

    Args:
        owner: One ASCII letter, or "" for identifiers that name none.

    Raises:
        InvalidValue: The owner is more than a letter.
    """

    __slots__ = ("_branch", "_mark", "owner")

    def __init__(self, owner: str = "") -> None:
        if owner and not (len(owner) == 1 and owner.isascii() and owner.isalpha()):
            raise InvalidValue(
                f'owner must be one letter, got {excerpt(owner)}: write Identifiers("a")'
            )
        self.owner = owner
        self._mark = f"~{owner}" if owner else ""
        self._branch = MAGIC_COOKIE + self._mark

    @property
    def prefix(self) -> str:
        """How each branch begins: the magic cookie and the owner."""
        return self._branch

    def branch(self) -> str:
        """Return a new branch with 128 random bits."""
        return self._branch + _take(32)

    def tag(self) -> str:
        """Return a new tag with 64 random bits."""
        return self._mark + _take(16)

    def call_id(self) -> str:
        """Return a new Call-ID with 128 random bits."""
        return self._mark + _take(32)
