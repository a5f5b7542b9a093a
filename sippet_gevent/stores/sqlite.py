"""SQLiteBindings: bindings in a file, which survive the end of the process, RFC 3261 §10.3."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from hashlib import blake2b

from ..arguments import whole
from ..errors import InvalidValue, Reject, StoreError, excerpt
from ..message.fields.rfc3261 import RetryAfter
from ..message.uri import URI, normal_host
from ..observe.log_values import Plain, Quoted
from . import sqlite_writes
from .base import BindingEvent, Change, Watch, Watchers
from .bindings import Bindings
from .cache import RecordCache
from .contacts import SHARED
from .database import GROUP, MAX_BYTES, Database, DatabaseFull
from .record import UnreadableRecord, pack, unpack
from .sqlite_writes import Write

CACHE_BYTES = 64 * 1024 * 1024
"""Bytes of records that are kept in memory, so that a refresh need not read: those of 100,000 usual
phones."""

MOST_CONFLICTS = 100
"""Most times that one update begins again because another process was faster. Each time, that
process has stored something."""

MOST_ROUNDS = 20
"""Most searches of one expire()."""

RETRY_SECONDS = 60
"""The Retry-After of the 503 of a full file. Bindings end, and make room."""

log = logging.getLogger("sippet_gevent.core")


class SQLiteBindings:
    """Bindings in a SQLite file, which several processes of one machine may use.

        location = Location(SQLiteBindings("/var/lib/sippet/bindings.db"))

    What `update()` has returned is on the disk, and survives `kill -9` and, with
    `synchronous="FULL"`, a loss of power. Updates that wait are committed together. The file is
    created with mode 0600. A later version of this library changes it when it opens it.

    A look-up reads the file, so it sees at once what another process has stored. The records in
    memory are only what updates begin from; one that is outdated costs a second attempt.

    `watch()` tells the changes that this object makes, not those of other processes.

    A store belongs to the thread that has made it. Make it after a fork, and close it at the end.

    Args:
        path: The file. Its directory must exist, on a local disk.
        now: Returns the time in seconds since 1970.
        max_bytes: Most bytes of the file. An update that needs more gets 503.
        synchronous: "FULL" by default. With "NORMAL" a loss of power may cost the last seconds.
        cache_bytes: Most bytes of records in memory.

    Raises:
        StoreError: The file cannot be used. The text says why, and what to do.
        InvalidValue: An argument is wrong.
    """

    # A change runs in the greenlet of its caller, not in the thread of SQLite. The thread has no
    # loop, so a change that touches gevent there, or writes a log line in a patched process, would
    # wait for ever. It would also hold Python's lock for the 50 us of each change, while datagrams
    # wait. So an update is a comparison: the greenlet computes the new record from the one it
    # knows, and the thread stores it if the file still has that one. Otherwise the greenlet begins
    # again with what the file has.

    blocks = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        now: Callable[[], float] = time.time,
        max_bytes: int = MAX_BYTES,
        synchronous: str = "FULL",
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if not callable(now):
            raise TypeError(f"now must be a function, got {excerpt(now)}: write now=time.time")
        self.now = now
        self._cache = RecordCache(whole("cache_bytes", cache_bytes))
        self._pending: dict[str, _Pending] = {}
        self._watchers = Watchers()
        self.conflicts = 0
        """Updates that began again because another process has changed the bindings."""
        self.unreadable_records = 0
        """Records that could not be read, each time that one was met."""
        self._logged: set[str] = set()
        self._database: Database[Write] = Database(
            path,
            sqlite_writes.apply,
            max_bytes=max_bytes,
            synchronous=synchronous,
        )

    @property
    def path(self) -> str:
        """The absolute path of the file."""
        return self._database.path

    @property
    def retries(self) -> int:
        """Attempts to write that were made again, because another process had the lock or was
        faster."""
        return self._database.lock_retries + self.conflicts

    @property
    def cached_bytes(self) -> int:
        """Bytes of records in memory."""
        return self._cache.bytes

    def count(self) -> int:
        """Return the number of bindings. Raises StoreError."""
        return self._database.read(_count)

    def route_secret(self) -> bytes:
        """Return the random secret of this file, for `Stack(route_secret=...)`.

        With it, temporary GRUUs, and calls that have the stack in their route (RFC 3261 §16.12),
        work after a restart, and at all processes that use the file. Raises StoreError.
        """
        return self._database.read(_route_secret)

    # ---- reading

    def lookup(self, aor: str, /) -> Bindings:
        """Return the stored bindings, () for none. Some may have ended. Raises StoreError."""
        if not _is_storable(aor):
            return ()
        return self._unpacked(aor, self._read(aor))[0]

    def find(self, contact: URI, /) -> list[str]:
        """Return addresses-of-record that have a binding of this Contact URI (§19.1.4), and
        possibly others: SHARED at most. Raises StoreError."""
        number = contact_number(contact)
        return self._database.read(
            lambda connection: [
                aor
                for (aor,) in connection.execute(
                    f"SELECT aor FROM contacts WHERE contact = ? LIMIT {SHARED}", (number,)
                ).fetchall()
            ]
        )

    def _read(self, aor: str) -> bytes | None:
        """Return the record of the file."""
        record = self._database.read(lambda connection: sqlite_writes.records(connection, [aor])[0])
        if aor not in self._pending:  # it will be kept when its update is done
            self._cache.keep(aor, record)
        return record

    def _unpacked(self, aor: str, record: bytes | None) -> tuple[Bindings, bool]:
        """Return the bindings of a record, and whether it could be read."""
        if record is None:
            return (), True
        try:
            return unpack(record), True
        except UnreadableRecord as error:
            self.unreadable_records += 1
            if aor not in self._logged and len(self._logged) < 1000:
                self._logged.add(aor)
                log.error('record skipped: aor=%s reason="%s"', Plain(excerpt(aor)), Quoted(error))
            return (), False

    # ---- writing

    def update(self, aor: str, change: Change, /) -> Bindings:
        """Replace the bindings of an address-of-record by what `change` makes of them.

        Args:
            aor: The address-of-record.
            change: See Change. It runs in this greenlet, and may run again.

        Returns:
            What is stored from now on.

        Raises:
            StoreError: The file fails, is locked, or the disk is full. The change is usually not
                stored.
            Reject: 503, because the file has reached `max_bytes`. What needs no more room is still
                stored, so this is no failure of the store.
            InvalidValue: The address-of-record, or a binding, is no text.
        """
        if not _is_storable(aor):
            raise InvalidValue(f"{excerpt(aor)} cannot be stored: it has characters that are none")
        trusts_cache = True
        for _ in range(MOST_CONFLICTS):
            # On top of an update that is on its way, so that those of one user go together, or of
            # what was stored last: the thread compares, and another process may have been faster.
            is_sure = False
            pending = self._pending.get(aor)
            if pending is None or not pending.is_sound:
                if trusts_cache and aor in self._cache:
                    record = self._cache[aor]
                else:
                    record, is_sure = self._read(aor), True
                pending = self._pending.get(aor)  # another greenlet may have been faster
            if pending is not None and pending.is_sound:
                record, is_sure = pending.record, False
            before, is_readable = self._unpacked(aor, record)
            try:
                after = change(before)
                packed = pack(after) if after else None
            except Exception:
                if is_sure:
                    raise
                trusts_cache = self._settle(aor)  # the change may be wrong about what is stored
                continue
            if packed == record:
                if is_sure:
                    return after
                trusts_cache = self._settle(aor)
                continue
            write = self._give(aor, record, packed, before, after, is_readable)
            try:
                self._database.wait(write)
            except DatabaseFull:
                retry_after = RetryAfter(RETRY_SECONDS)
                raise Reject(503, "Registrar Full", retry_after=retry_after) from None
            if write.is_stored:
                self._watchers.tell(aor, before, after, self.now())
                return after
            self.conflicts += 1
            trusts_cache = True  # it has what the file has instead
        raise StoreError(f"{excerpt(aor)} was changed by other processes {MOST_CONFLICTS} times")

    def _give(
        self,
        aor: str,
        record: bytes | None,
        packed: bytes | None,
        before: Bindings,
        after: Bindings,
        is_readable: bool,
    ) -> Write:
        """Give a change to the thread."""
        write = Write(self._written, aor, record, packed)
        write.count = len(after)
        if after:
            first = min([binding.expires_at for binding in after])
            write.look_at = first
            # a later end than before leaves the time at which expire() looks at this entry
            write.moves = (
                record == packed or not before or first < min([b.expires_at for b in before])
            )
        if not is_readable:
            write.unreadable_since = self.now()
        old, new = [b.uri for b in before], [b.uri for b in after]
        if old != new:  # most are refreshes
            numbers = {contact_number(uri) for uri in old}
            wanted = {contact_number(uri) for uri in new}
            write.dropped, write.added = numbers - wanted, wanted - numbers
        self._database.give(write)
        pending = self._pending.get(aor)
        if pending is None:
            pending = self._pending[aor] = _Pending(write)
        pending.count += 1
        pending.record, pending.last, pending.is_sound = packed, write, True
        write.turn = pending.turn
        return write

    def _settle(self, aor: str) -> bool:
        """Wait for the updates of an address-of-record that are on their way. Return False: what
        is stored must be read."""
        pending = self._pending.get(aor)
        if pending is not None:
            pending.last.wait_quietly()
        return False

    def _written(self, write: Write) -> None:
        """Note the result of a write, before its greenlet goes on. Called by the loop."""
        aor, pending = write.aor, self._pending[write.aor]
        pending.count -= 1
        if not pending.count:
            del self._pending[aor]
        elif write.turn == pending.turn and (write.error is not None or not write.is_stored):
            # what was computed on top of this write fails, too, and begins again in its order
            pending.turn += 1
            pending.is_sound = False
        if write.error is not None:
            self._cache.forget(aor)
        else:
            self._cache.keep(aor, write.record if write.is_stored else write.found)

    def expire(self, now: float, limit: int, /) -> list[tuple[str, Bindings]]:
        """Remove bindings whose `expires_at` is not after `now`.

        Args:
            now: The time, by now() of the store.
            limit: Most addresses-of-record to change in this call.

        Returns:
            The addresses-of-record and their removed bindings. There may be more if there are
            `limit`.

        Raises:
            StoreError: The file fails.
        """
        ended: list[tuple[str, Bindings]] = []
        for _ in range(MOST_ROUNDS + limit // GROUP):
            most = min(limit - len(ended), GROUP)
            if most <= 0:
                break
            rows = self._database.read(
                lambda connection, most=most: connection.execute(
                    _TO_LOOK_AT, (now, most)
                ).fetchall()  # type: ignore[misc]  # a lambda with a default has no type
            )
            writes = [self._expiry(aor, record, now) for aor, record in rows]
            try:
                for aor, before, after, write in filter(None, writes):
                    self._database.wait(write)
                    gone = tuple(b for b in before if b.expires_at <= now)
                    if write.is_stored and gone:
                        ended.append((aor, gone))
                        self._watchers.tell(aor, before, after, now)
            except StoreError:
                if ended:  # they are gone, and nobody else will tell of them
                    break
                raise
            if len(rows) < most:
                break
        return ended

    def _expiry(
        self, aor: str, record: bytes, now: float
    ) -> tuple[str, Bindings, Bindings, Write] | None:
        """Give the removal of the bindings of a record that have ended. None if an update of it is
        on its way."""
        if aor in self._pending:
            return None
        before, is_readable = self._unpacked(aor, record)
        after = tuple(b for b in before if b.expires_at > now)
        packed = record if is_readable and after == before else pack(after) if after else None
        return aor, before, after, self._give(aor, record, packed, before, after, is_readable)

    def watch(self, callback: Callable[[BindingEvent], None], /) -> Watch:
        """Call `callback(event)` for each change that this object makes. It must not wait."""
        return self._watchers.add(callback)

    def close(self) -> None:
        """Finish the updates that wait, and close the file. May be called twice."""
        self._database.close()


class _Pending:
    """The updates of one address-of-record that are on their way to the file."""

    __slots__ = ("count", "is_sound", "last", "record", "turn")

    def __init__(self, write: Write) -> None:
        self.count = 0
        self.turn = 0
        """Grows when one of them was in vain, and with it those that were computed on top of it."""
        self.last = write
        self.record: bytes | None = None
        """The record that `last` will store."""
        self.is_sound = True
        """False after one was in vain, until the next is given."""


def contact_number(uri: URI) -> int:
    """Return a hash of the parts of a Contact URI that §19.1.4 always compares, the same in every
    process. It fits into an integer of SQLite."""
    text = f"{uri.scheme}\0{uri.user}\0{normal_host(uri.host)}\0{uri.port}\0{uri.opaque}"
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _is_storable(aor: str) -> bool:
    if not isinstance(aor, str):
        raise TypeError(
            f"aor must be a text, got {excerpt(aor)}: write lookup('sip:bob@example.com')"
        )
    if aor.isascii():
        return True
    try:
        aor.encode()
    except UnicodeEncodeError:
        return False
    return True


_TO_LOOK_AT = "SELECT aor, record FROM bindings WHERE look_at <= ? ORDER BY look_at LIMIT ?"


def _count(connection: sqlite3.Connection) -> int:
    ((count,),) = connection.execute("SELECT COALESCE(SUM(count), 0) FROM bindings").fetchall()
    return int(count)


def _route_secret(connection: sqlite3.Connection) -> bytes:
    ((secret,),) = connection.execute("SELECT secret FROM secrets WHERE name = 'route'").fetchall()
    return bytes(secret)
