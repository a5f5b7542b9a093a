"""Errors of SQLite as StoreError, with what an operator can do about them."""

from __future__ import annotations

import os
import sqlite3

from ..errors import StoreError, excerpt

# Python 3.10 has no error codes, so the texts of SQLite decide. They are part of its interface.
_ADVICE = (
    ("disk is full", "has no room: free some of the disk, or raise max_bytes"),
    (
        "is locked",
        "is locked by another process: end that process, or wait until it has finished writing",
    ),
    ("busy", "is locked by another process: end that process"),
    ("readonly", "cannot be written: check its owner and mode, and those of its directory"),
    (
        "malformed",
        "is damaged: restore a copy, or move the file away, then the phones register again",
    ),
    (
        "is not a database",
        "is no SQLite database: name another file, or move this one away",
    ),
    ("unable to open", "cannot be opened: check that its directory exists and can be written"),
    ("disk I/O error", "cannot be read or written: check the disk"),
)


def is_locked(error: Exception) -> bool:
    """True if another connection has the lock."""
    text = str(error)
    return isinstance(error, sqlite3.OperationalError) and ("locked" in text or "busy" in text)


def is_full(error: Exception) -> bool:
    """True if the disk is full, or the file has reached its limit."""
    return isinstance(error, sqlite3.OperationalError) and "is full" in str(error)


def failure_of(error: Exception, path: str) -> StoreError:
    """Return the StoreError for an error of SQLite or of the operating system."""
    text, directory = str(error), os.path.dirname(path)
    if isinstance(error, OSError) or "unable to open" in text:
        if os.path.isdir(path):
            return StoreError(f"{path} is a directory: name a file in it")
        if not os.path.isdir(directory):
            return StoreError(f"directory {directory} does not exist: create it, for {path}")
    if isinstance(error, OSError):
        return StoreError(f"{path} cannot be used: {error.strerror}: check its owner and mode")
    for sign, advice in _ADVICE:
        if sign in text:
            return StoreError(f"{path} {advice} ({excerpt(text)[1:-1]})")
    return StoreError(f"{path} failed: {type(error).__name__}: {excerpt(text)[1:-1]}")
