"""Database: one SQLite file, with a thread that writes and one that reads.

The thread commits all waiting writes together. A commit waits for the disk, and so it costs the
same for one write as for a hundred. Reads have a thread of their own, and never wait for a commit.

The thread of the loop never calls SQLite, not even to ask whether the file has changed. All
connections of a process to a file share a lock, and on a disk that stalled for two seconds such a
call held the loop for as long.

Several processes may use one file. It is in WAL mode: readers never wait for a writer, and a writer
waits for another one at most LOCK_SECONDS, with random pauses. The file and those that SQLite makes
beside it are for their owner only, because users have keys in it.

The SQL of a group is one statement for all its rows where possible. SQLite releases Python's lock
for each step of a statement, and in a busy process the thread then waits up to 5 ms to get it back.
"""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import stat
import time
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from gevent import monkey

from ..arguments import whole
from ..errors import InvalidValue, StoreError, excerpt
from ..observe.log_values import Plain, Quoted
from ..runtime.native_thread import Call, NativeThread
from .sqlite_errors import failure_of, is_full, is_locked
from .sqlite_file import PARTS, FileId, checked_path, close, file_id, open_file, open_reader

T = TypeVar("T")

_sleep = monkey.get_original("time", "sleep")  # in the thread of SQLite

GROUP = 128
"""Most writes of one commit, and most rows of one statement. Older SQLite allows 999 values in a
statement."""

MAX_BYTES = 1024 * 1024 * 1024
"""Most bytes of a file. A million bindings take 500 MB."""

LEAST_BYTES = 64 * 1024

SPARE_PAGES = 8
"""Pages that one write may need. A file with fewer ones left is full."""

# SQLite's own waiting for a lock doubles its pauses up to 0.1 s. Under steady writes of two
# processes, one of them then got the lock after 0.3 s. So this module waits itself, in short
# pauses.

PAUSES = (0.0002, 0.001, 0.01)
"""Seconds between two attempts to get the lock: least, most at first, and most later."""

POLITE_SECONDS = 0.001
"""Seconds after a commit for which the lock is left to another process that writes, too."""

GATHER_SECONDS = 0.01
"""Seconds after a commit of several writes for which further ones are gathered. Each commit takes
CPU time and Python's lock from the loop, however few writes it has. A program that writes one after
the other never waits for this."""

READ_LOCK_SECONDS = 0.2
"""Seconds until a read fails because another process repairs the file."""

LOCK_SECONDS = 2.0
"""Seconds until writes fail because another process has the lock."""

FILE_SECONDS = 0.25
"""Least seconds between two looks whether the path still leads to the open file. After a pause, the
first write always looks."""

REOPEN_SECONDS = 0.25
"""Least seconds between two attempts to open a file that has failed."""

LOG_SECONDS = 60.0
"""Least seconds between two log lines about the same failure."""

SYNCHRONOUS = ("FULL", "NORMAL")
"""FULL: what was acknowledged survives a loss of power. NORMAL: only the end of the process."""

log = logging.getLogger("sippet_gevent.core")


class DatabaseFull(StoreError):
    """The file has reached its `max_bytes`. What needs no more room can still be stored."""


class Read(Call[T]):
    """A job that reads: `call(connection)`, outside of any transaction."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[sqlite3.Connection], T]) -> None:
        super().__init__()
        self.call = call

    def run(self, connection: sqlite3.Connection) -> None:
        """Read. Called in the thread of SQLite."""
        self.value = self.call(connection)


class Write(Call[None]):
    """A job that writes, in one transaction with others. `apply` of its Database carries it out."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.value = None


class _Open(Write):
    __slots__ = ()


class _Close(Write):
    __slots__ = ()


W = TypeVar("W", bound=Write)


class Database(Generic[W]):
    """One SQLite file and its thread.

    Args:
        path: The file. It is created, with mode 0600, if it does not exist.
        apply: Carries out writes inside a transaction, `apply(connection, writes)`. It runs in the
            thread, and again if the transaction fails.
        max_bytes: Most bytes of the file.
        synchronous: FULL or NORMAL, see SYNCHRONOUS.

    Raises:
        StoreError: The file cannot be used. The text says why, and what to do.
        InvalidValue: An argument is wrong.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        apply: Callable[[sqlite3.Connection, list[W]], None],
        *,
        max_bytes: int = MAX_BYTES,
        synchronous: str = "FULL",
    ) -> None:
        self.path = checked_path(path)
        self._max_bytes = whole("max_bytes", max_bytes, LEAST_BYTES)
        if synchronous not in SYNCHRONOUS:
            raise InvalidValue(
                f"synchronous must be one of {', '.join(SYNCHRONOUS)}, got {excerpt(synchronous)}"
            )
        self._synchronous = synchronous
        self._apply = apply
        self._is_shared = False
        self._version: list[tuple[int]] = []
        self._connection: sqlite3.Connection | None = None
        self._file: FileId = ()  # of the connection
        self._looked_at = 0.0
        self._gone = ""  # the part of PARTS that is missing, or another file
        self._is_gone = False
        self._error: StoreError | None = None
        self._tried_at = 0.0
        self.is_closed = False
        self.lock_retries = 0
        """Attempts to write that found the lock of another process."""
        self.commits = 0
        self.writes = 0
        self._failing_since: float | None = None
        self._write_failed = False
        self._logged_at = -LOG_SECONDS
        self._is_logged = False
        self._writer, self._reader = NativeThread(self._run_writes), NativeThread(self._run_reads)
        opening = _Open()
        try:
            self._writer.give(opening)
            opening.wait()
        except BaseException:
            self.close()
            raise
        if os.stat(self.path).st_mode & (stat.S_IROTH | stat.S_IWOTH):
            log.warning(
                'database can be read by others: path=%s hint="run chmod 600"', Plain(self.path)
            )

    # ---- in the thread of the loop

    def give(self, job: Call[T]) -> Call[T]:
        """Give a job to its thread, and return it. Raises StoreError after close()."""
        if self.is_closed:
            raise StoreError(f"{self.path} is closed")
        (self._reader if isinstance(job, Read) else self._writer).give(job)
        return job

    @property
    def waiting(self) -> int:
        """Jobs that were given and are not done yet."""
        return self._writer.waiting + self._reader.waiting

    def read(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `call(connection)` returns in the thread. Raises StoreError."""
        return self.wait(self.give(Read(call)))

    def wait(self, job: Call[T]) -> T:
        """Wait for a job in a greenlet. Return its value. Raises StoreError, with a log line for
        the first failure."""
        is_write = isinstance(job, Write)
        try:
            value = job.wait()
        except StoreError as error:
            self._failed(error, is_write)
            raise
        # a file that is locked or full can be read all the time
        if self._failing_since is not None and is_write >= self._write_failed:
            self._works()
        return value

    def _failed(self, error: StoreError, is_write: bool) -> None:
        now = time.monotonic()
        self._write_failed |= is_write
        if self.is_closed:
            return
        if now >= self._logged_at + LOG_SECONDS:
            self._logged_at, self._is_logged = now, True
            log.error('database failed: path=%s reason="%s"', Plain(self.path), Quoted(error))
        if self._failing_since is None:
            self._failing_since = now

    def _works(self) -> None:
        seconds = time.monotonic() - (self._failing_since or 0.0)
        if self._is_logged:  # a file that is nearly full fails and works in turn
            log.info("database works again: path=%s seconds=%.1f", Plain(self.path), seconds)
        self._failing_since, self._write_failed, self._is_logged = None, False, False

    def close(self) -> None:
        """Finish the jobs that were given, and close the file. May be called twice."""
        if self.is_closed:
            return
        self.is_closed = True
        for thread in (self._reader, self._writer):
            job = _Close()
            thread.give(job)
            job.wait_quietly()
            thread.close()

    # ---- in the threads of SQLite: no gevent, and no logging, whose locks may be gevent's

    def _run_writes(self, thread: NativeThread) -> None:
        writes: list[W] = []
        closing: _Close | None = None
        locked_since, pause = 0.0, 0.0
        while closing is None or writes:
            for job in thread.take(GROUP, pause if writes else None):
                if isinstance(job, _Open):
                    try:
                        self._opened()
                    except StoreError as error:
                        job.error = error
                    thread.hand_back([job])
                elif isinstance(job, _Close):
                    closing = job
                else:
                    writes.append(cast(W, job))
            if writes:
                group = writes[:GROUP]
                now = time.monotonic()
                locked_since = locked_since or now
                if self._write(group, is_last_try=now >= locked_since + LOCK_SECONDS):
                    del writes[: len(group)]
                    locked_since = pause = 0.0
                    thread.hand_back(group)
                    if len(group) > 1 and closing is None and not writes:
                        _sleep(GATHER_SECONDS)
                    elif self._is_shared:
                        _sleep(POLITE_SECONDS)
                else:
                    self.lock_retries += 1
                    most = PAUSES[1] if now < locked_since + 0.02 else PAUSES[2]
                    pause = random.uniform(PAUSES[0], most)
        if self._connection is not None:
            close(self._connection)
        thread.hand_back([closing])

    def _run_reads(self, thread: NativeThread) -> None:
        connection: sqlite3.Connection | None = None
        while True:
            (job,) = thread.take(1)
            if isinstance(job, _Close):
                break
            ends_at = time.monotonic() + READ_LOCK_SECONDS
            while True:
                try:
                    if connection is None:
                        connection = open_reader(self.path)
                    cast("Read[object]", job).run(connection)
                except Exception as error:  # whatever it is, the greenlet must not wait for ever
                    if is_locked(error) and time.monotonic() < ends_at:
                        _sleep(PAUSES[1])
                        continue
                    job.error = failure_of(error, self.path)
                    if connection is not None and not is_locked(error):
                        close(connection)
                        connection = None
                break
            thread.hand_back([job])
        if connection is not None:
            close(connection)
        thread.hand_back([job])

    def _write(self, group: list[W], *, is_last_try: bool) -> bool:
        """Carry out a group of writes. False: another process has the lock, so try again."""
        try:
            connection = self._opened()
            self._check_file()
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if is_locked(error) and not is_last_try:
                    return False
                raise
            # changes when another connection has written
            version = connection.execute("PRAGMA data_version").fetchall()
            self._is_shared, self._version = version != self._version, version
            self._apply(connection, group)
            connection.execute("COMMIT")
            self.commits += 1
            self.writes += len(group)
        except StoreError as error:
            for job in group:
                job.error = error
        except Exception as error:  # whatever it is, the greenlets must not wait for ever
            self._roll_back()
            if is_full(error) and len(group) > 1:
                # those that need no more room can still be stored
                for job in group:
                    self._write([job], is_last_try=True)
            else:
                has_limit = is_full(error) and self._has_reached_limit()
                failure = self._broken(error)
                for job in group:
                    job.error = DatabaseFull(str(failure)) if has_limit else failure
        return True

    def _roll_back(self) -> None:
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop()

    def _has_reached_limit(self) -> bool:
        """True if the file is full, and not the disk."""
        try:
            connection = self._opened()
            ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
            ((most,),) = connection.execute("PRAGMA max_page_count").fetchall()
        except (StoreError, sqlite3.Error):
            return False
        return int(pages) >= int(most) - SPARE_PAGES

    def _broken(self, error: Exception) -> StoreError:
        """Return the failure to raise. Unless it is a usual one, open the file anew next time."""
        if not (is_full(error) or is_locked(error)):
            self._drop()
        return failure_of(error, self.path)

    def _drop(self) -> None:
        if self._connection is not None:
            close(self._connection)
            self._connection = None

    def _check_file(self) -> None:
        """Raise StoreError if the file, or one of those that SQLite makes beside it, was deleted or
        replaced. SQLite would go on to write into a file that nobody can open any more.

        It is not opened anew, because then an empty file would take the place of one that was
        moved by mistake. The one that is open still answers look-ups. When it is back at its path,
        writes work again.
        """
        now = time.monotonic()
        if now >= self._looked_at + FILE_SECONDS:
            self._looked_at = now
            found = file_id(self.path)
            self._is_gone = found != self._file
            if self._is_gone:
                changed = [part for part, a, b in zip(PARTS, found, self._file) if a != b]
                self._gone = changed[0]
                if "" not in changed and found[1] is None:
                    self._save()
        if self._is_gone:
            raise StoreError(
                f"{self.path}{self._gone} was deleted or replaced while it was open: move the file "
                "back, or start this process again"
            )

    def _save(self) -> None:
        """Copy what was written last from its file, which was deleted, to that of the database, so
        that the next process finds it.

        Writing on would be wrong, because another process that opens the database makes new files,
        and knows nothing of the locks of this one.
        """
        try:
            if self._connection is not None:
                self._connection.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
        except sqlite3.Error:
            pass  # the next look tries again

    def _opened(self) -> sqlite3.Connection:
        """Return the connection, opened if there is none. Raises StoreError."""
        if self._connection is None:
            now = time.monotonic()
            if self._error is not None and now < self._tried_at + REOPEN_SECONDS:
                raise self._error
            self._tried_at = now
            try:
                self._connection, self._file = open_file(
                    self.path, max_bytes=self._max_bytes, synchronous=self._synchronous
                )
                self._error, self._is_gone, self._looked_at = None, False, now
            except StoreError as error:
                self._error = error
                raise
        return self._connection
