"""Random identifiers: tags, branches, Call-IDs, RFC 3261 §8.1.1.4, §8.1.1.7 and §19.3. Pure.

From the operating system's generator, always: a guessed branch is a forged response.
"""

from __future__ import annotations

import os

MAGIC_COOKIE = "z9hG4bK"
"""What a branch of RFC 3261 starts with (§8.1.1.7)."""

_POOL = 4096  # octets asked from the system at once: one system call for hundreds of tags

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
