"""SQLiteBindings: the contract of every store, and what only a file can do: fail, be shared, survive."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import gevent
import gevent.os
import pytest
from gevent import monkey

from sippet_gevent import InvalidValue, Reject, SQLiteBindings, StoreError
from sippet_gevent.stores import database, schema, sqlite_file
from sippet_gevent.testing.stores import SharedStoreContract
from sippet_gevent.testing.stores.calls import AOR, OTHER, PATIENCE, at_once, outcome
from sippet_gevent.testing.stores.samples import CONTACTS, binding
from tests.conditions import until

allocate_lock = monkey.get_original("_thread", "allocate_lock")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bindings.db"


class TestSQLiteBindings(SharedStoreContract):
    @pytest.fixture
    def make(self, path):
        return lambda: SQLiteBindings(path)


class TestSQLiteBindingsWithoutCache(SharedStoreContract):
    @pytest.fixture
    def make(self, path):
        return lambda: SQLiteBindings(path, cache_bytes=0, synchronous="NORMAL")


@pytest.fixture
def open_(path):
    """Makes stores that are closed after the test."""
    stores = []

    def make(at=path, **options):
        stores.append(SQLiteBindings(at, **options))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def add(store, aor=AOR, contact=CONTACTS[0], **fields):
    return store.update(aor, lambda before: (*before, binding(contact, store.now(), **fields)))


def set_(store, aor=AOR, **fields):
    new = binding(CONTACTS[0], store.now(), **fields)
    return store.update(aor, lambda before: (new,))


def sql(path, statement, *values):
    """Execute a statement as another program does."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as connection:
        return connection.execute(statement, values).fetchall()


# ---- at the start


@pytest.mark.parametrize("path", ["", ":memory:", "a\0b", b"x.db", 7])
def test_path_that_names_no_file_is_refused(path):
    with pytest.raises((InvalidValue, TypeError), match="path must name a file"):
        SQLiteBindings(path)


def test_wrong_arguments_are_refused(path):
    with pytest.raises(InvalidValue, match="synchronous must be one of FULL, NORMAL, got 'OFF'"):
        SQLiteBindings(path, synchronous="OFF")
    with pytest.raises(InvalidValue, match="max_bytes"):
        SQLiteBindings(path, max_bytes=1000)
    with pytest.raises(InvalidValue, match="cache_bytes"):
        SQLiteBindings(path, cache_bytes=-1)
    with pytest.raises(TypeError, match="now"):
        SQLiteBindings(path, now=5)
    assert not path.exists()


def test_missing_directory_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"directory .*/none does not exist: create it"):
        SQLiteBindings(tmp_path / "none" / "bindings.db")


def test_directory_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(StoreError, match="is a directory: name a file in it"):
        SQLiteBindings(tmp_path)


def test_file_of_something_else_is_refused_and_left_alone(path):
    path.write_bytes(b"not a database, but a letter\n" * 100)
    with pytest.raises(StoreError, match="is no SQLite database: name another file"):
        SQLiteBindings(path)
    assert path.read_bytes().startswith(b"not a database")


def test_database_of_another_program_is_refused_and_left_alone(path):
    sql(path, "CREATE TABLE bindings (letters TEXT)")
    with pytest.raises(StoreError, match="is a database of another program"):
        SQLiteBindings(path)
    assert sql(path, "SELECT name FROM sqlite_master") == [("bindings",)]


def test_later_schema_is_refused(path, open_):
    open_().close()
    sql(path, "PRAGMA user_version=99")
    with pytest.raises(StoreError, match="has schema version 99, .* up to 2: install the version"):
        SQLiteBindings(path)


def test_earlier_schema_is_changed_and_keeps_its_bindings(path, open_, monkeypatch):
    store = open_()
    add(store)
    store.close()
    step = ("ALTER TABLE bindings ADD COLUMN note TEXT", "CREATE TABLE more (x)")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
    assert len(open_().lookup(AOR)) == 1
    assert sql(path, "PRAGMA user_version") == [(3,)]
    assert sql(path, "SELECT note FROM bindings") == [(None,)]


def test_route_secret_is_random_and_stays(path, open_, tmp_path):
    first, other = open_(), open_()
    secret = first.route_secret()
    assert len(secret) == 32 and other.route_secret() == secret
    first.close()
    other.close()
    assert open_().route_secret() == secret
    assert open_(tmp_path / "another.db").route_secret() != secret


def test_file_of_the_first_schema_gets_a_route_secret(path, open_):
    store = open_()
    add(store)
    store.close()
    sql(path, "DROP TABLE secrets")
    sql(path, "PRAGMA user_version=1")
    store = open_()
    assert len(store.route_secret()) == 32
    assert len(store.lookup(AOR)) == 1


def test_damaged_file_is_found_at_the_start(path, open_):
    store = open_()
    for number in range(300):
        add(store, f"sip:{number}@example.com")
    store.close()
    data = bytearray(path.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 200] = b"\xee" * 200
    path.write_bytes(data)
    with pytest.raises(StoreError, match="is damaged: restore a copy, or move the file away"):
        SQLiteBindings(path)


def test_locked_file_is_an_error_at_the_start(path, open_, monkeypatch):
    open_().close()
    monkeypatch.setattr(sqlite_file, "OPEN_SECONDS", 0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="is locked by another process"):
            SQLiteBindings(path)


READ_ONLY = """
import os, sys, gevent
from sippet_gevent import SQLiteBindings, StoreError
gevent.sleep(0)  # all is imported that another user may not read
os.geteuid() or os.setuid(65534)
try:
    SQLiteBindings(sys.argv[1])
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("exists", [True, False])
def test_file_that_cannot_be_written_is_an_error_at_the_start(exists):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "bindings.db"
        if exists:
            SQLiteBindings(path).close()
            path.chmod(0o444)
        Path(directory).chmod(0o555)
        command = [sys.executable, "-c", READ_ONLY, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        Path(directory).chmod(0o755)
    assert "check its owner and mode" in done.stdout, done


def test_files_are_for_their_owner_only_whatever_the_umask(path, open_):
    before = os.umask(0)
    try:
        store = open_()
        add(store)
    finally:
        os.umask(before)
    files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert files == dict.fromkeys(["bindings.db", "bindings.db-wal", "bindings.db-shm"], 0o600)


def test_file_that_others_can_read_is_logged(path, open_, caplog):
    open_().close()
    path.chmod(0o644)
    open_()
    assert f"database can be read by others: path={path}" in caplog.text


AT_ONCE = """
import sys
from sippet_gevent import SQLiteBindings
input()
store = SQLiteBindings(sys.argv[1])
print(store.count())
store.close()
"""


def test_new_file_may_be_opened_by_several_processes_at_once(path):
    command = [sys.executable, "-c", AT_ONCE, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(8)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=PATIENCE)[0] for process in processes] == ["0\n"] * 8


def test_path_is_absolute(tmp_path, open_, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_("bindings.db")
    monkeypatch.chdir("/")
    add(store)
    assert store.path == str(tmp_path / "bindings.db")


# ---- while it runs


def test_updates_that_wait_are_committed_together(open_):
    store = open_()
    at_once(lambda aor: add(store, aor), [f"sip:{n}@example.com" for n in range(200)])
    assert store._database.writes == 200
    assert store._database.commits <= 20
    assert store.count() == 200


def test_writes_after_a_group_are_gathered_into_one_commit(path, open_, monkeypatch):
    monkeypatch.setattr(database, "GATHER_SECONDS", 2.0)
    store = open_()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # so that all of them wait
        group = [gevent.spawn(add, store, f"sip:{n}@example.com") for n in range(20)]
        while store._database.waiting < 20:
            gevent.sleep(0.01)
        gevent.sleep(0.1)
        other.execute("ROLLBACK")
    gevent.joinall(group, raise_error=True)
    before = store._database.commits
    late = []
    for n in range(5):
        late.append(gevent.spawn(add, store, f"sip:late{n}@example.com"))
        gevent.sleep(0.01)
    gevent.joinall(late, raise_error=True)
    assert store._database.commits == before + 1
    assert store.count() == 25


def test_writes_one_after_the_other_do_not_wait_for_others(open_, monkeypatch):
    monkeypatch.setattr(database, "GATHER_SECONDS", 3600.0)
    store = open_()
    for n in range(20):
        add(store, f"sip:{n}@example.com")
    assert store._database.commits == 20


def test_locked_file_fails_updates_in_time_and_works_again(path, open_, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.3)
    store = open_()
    add(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(StoreError, match="is locked by another process"):
                add(store, OTHER)
        assert len(store.lookup(AOR)) == 1
    assert len(add(store, OTHER)) == 1
    assert store.retries >= 2
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("database")]
    assert [line.split(":")[0] for line in lines] == ["database failed", "database works again"]
    assert f"path={path}" in lines[0] and "is locked" in lines[0]


def test_update_waits_for_a_lock_that_is_freed_soon(path, open_):
    store = open_()
    with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as other:
        other.execute("BEGIN IMMEDIATE")
        job = gevent.spawn(add, store)
        gevent.sleep(0.5)
        assert not job.ready()
        other.execute("ROLLBACK")
        assert len(job.get(timeout=PATIENCE)) == 1
    assert store.retries >= 1


def test_full_file_refuses_what_grows_and_keeps_refreshing(open_, caplog):
    store = open_(max_bytes=100_000)
    stored, refused = [], []

    def fill(aor):
        try:
            add(store, aor, call_id="x" * 200)
            stored.append(aor)
        except Reject as error:
            refused.append(error)

    at_once(fill, [f"sip:{n}@example.com" for n in range(600)])
    assert len(stored) > 50 and len(refused) > 50
    assert {(error.status, error.reason) for error in refused} == {(503, "Registrar Full")}
    assert refused[0].headers["retry_after"].seconds == 60
    (line,) = [r.getMessage() for r in caplog.records if "database" in r.getMessage()]
    assert "has no room: free some of the disk, or raise max_bytes" in line
    at_once(lambda aor: set_(store, aor, cseq=2, call_id="x" * 200), stored)
    assert all(store.lookup(aor)[0].cseq == 2 for aor in stored)
    assert not any(
        store.lookup(f"sip:{n}@example.com")
        for n in range(600)
        if f"sip:{n}@example.com" not in stored
    )
    at_once(lambda aor: store.update(aor, lambda before: ()), stored[: len(stored) // 2])
    assert len(add(store, AOR)) == 1


@pytest.mark.parametrize("where", ["apply", "commit"])
def test_failing_disk_fails_all_that_wait_and_works_again(open_, monkeypatch, caplog, where):
    store = open_()
    add(store)
    group, real = store._database, store._database._apply

    def apply(connection, writes):
        real(connection, writes)
        if where == "commit":  # a constraint that is checked at the end
            connection.execute("PRAGMA foreign_keys")
            connection.execute("ROLLBACK")
        else:
            raise sqlite3.OperationalError("disk I/O error")

    group._apply = apply
    jobs = [
        gevent.spawn(outcome, store, f"sip:{n}@example.com", lambda b: (binding(CONTACTS[0], 9e9),))
        for n in range(20)
    ]
    gevent.joinall(jobs, raise_error=True)
    assert {type(job.value) for job in jobs} == {StoreError}
    assert len(caplog.records) == 1
    group._apply = real
    assert store.count() == 1
    assert len(store.lookup(AOR)) == 1
    at_once(lambda aor: add(store, aor), [f"sip:{n}@example.com" for n in range(20)])
    assert store.count() == 21


def test_file_that_is_damaged_while_it_runs_fails_until_it_is_restored(path, open_):
    store = open_(cache_bytes=0)
    for number in range(300):
        add(store, f"sip:{number}@example.com")
    store._database.read(lambda c: c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    good = path.read_bytes()
    with path.open("r+b") as file:
        file.write(b"\xee" * len(good))
    store._database.read(lambda c: c.execute("PRAGMA shrink_memory").fetchall())
    for _ in range(2):
        with pytest.raises(StoreError):
            store.lookup("sip:7@example.com")
        gevent.sleep(database.REOPEN_SECONDS)
    with path.open("r+b") as file:
        file.write(good)
    gevent.sleep(database.REOPEN_SECONDS)
    assert len(store.lookup("sip:7@example.com")) == 1
    assert len(add(store)) == 1


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_file_that_is_gone_while_it_runs_fails_updates_until_it_is_back(path, open_, caplog, how):
    store, aside = open_(), path.with_name("aside.db")
    add(store)
    before = store.lookup(AOR)
    os.link(path, aside)
    path.unlink()
    if how == "replaced":
        open_(aside.with_name("new.db")).close()
        os.rename(aside.with_name("new.db"), path)
    gevent.sleep(database.FILE_SECONDS)
    for number in range(3):
        with pytest.raises(StoreError, match="was deleted or replaced while it was open: move"):
            add(store, f"sip:{number}@example.com")
    assert [record.levelname for record in caplog.records] == ["ERROR"]  # once
    assert "deleted or replaced" in caplog.messages[0]
    assert store.lookup(AOR) == before  # calls go on
    assert how == "replaced" or not path.exists()  # no empty file in its place
    if how != "deleted":
        os.replace(aside, path)
        gevent.sleep(database.FILE_SECONDS)
        assert len(add(store, contact=CONTACTS[1])) == 2
        assert sql(path, "SELECT count FROM bindings WHERE aor = ?", AOR) == [(2,)]


PROGRAM = """
import sys
from sippet_gevent import SQLiteBindings
store = SQLiteBindings(sys.argv[1])
print(store.count(), flush=True)
store.close()
"""


def count_of_another_process(path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.parametrize("gone", [("-wal",), ("-wal", "-shm"), ("-shm",)])
def test_log_that_is_deleted_while_it_runs_loses_nothing(path, open_, caplog, gone):
    store, names = open_(), [f"sip:{n}@example.com" for n in range(20)]
    for name in names:
        add(store, name)
    for part in gone:
        path.with_name(path.name + part).unlink()
    gevent.sleep(database.FILE_SECONDS)
    for number in range(3):
        with pytest.raises(StoreError, match=f"{path}{gone[0]} was deleted or replaced while it"):
            add(store, f"sip:new{number}@example.com")
    assert [record.levelname for record in caplog.records] == ["ERROR"]  # once
    assert len(store.lookup(names[0])) == 1  # calls go on
    # a plain copy now has everything, as a process that is started now would see it
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    if "-wal" not in gone:
        shutil.copy(f"{path}-wal", f"{copy}-wal")
    assert count_of_another_process(copy) == 20
    store.close()
    assert count_of_another_process(path) == 20
    assert len(add(open_(), names[0], CONTACTS[1])) == 2


def test_file_that_is_replaced_by_a_link_to_it_loses_nothing(path, open_):
    """Another process that follows the link would have a log of its own, and no lock in common."""
    store, elsewhere = open_(), path.parent / "disk"
    add(store)
    elsewhere.mkdir()
    path.rename(elsewhere / path.name)
    path.symlink_to(elsewhere / path.name)
    gevent.sleep(database.FILE_SECONDS)
    with pytest.raises(StoreError, match="-wal was deleted or replaced while it was open"):
        add(store, contact=CONTACTS[1])
    assert len(store.lookup(AOR)) == 1
    store.close()
    again = open_()
    assert len(add(again, contact=CONTACTS[1])) == 2
    add(again, "sip:other@example.com")  # a link from the start is as good as the file


def test_disk_that_is_full_in_a_commit_and_then_has_room_works_again(open_, monkeypatch):
    store = open_()
    names = [f"sip:{n}@example.com" for n in range(20)]
    add(store, names[0])
    real = store._database._apply
    full = [True]

    def apply(connection, writes):
        real(connection, writes)
        if full[0] and any(write.aor != names[0] for write in writes):
            raise sqlite3.OperationalError("database or disk is full")

    store._database._apply = apply
    jobs = [
        gevent.spawn(outcome, store, n, lambda b: (*b, binding(CONTACTS[1], 9e9))) for n in names
    ]
    gevent.joinall(jobs, raise_error=True)
    assert [type(job.value) for job in jobs] == [tuple] + [StoreError] * 19
    assert "has no room: free some of the disk" in str(jobs[1].value)
    assert [store.lookup(name) == () for name in names] == [False] + [True] * 19
    full[0] = False
    at_once(lambda aor: add(store, aor, CONTACTS[0], call_id="again"), names)
    assert store.count() == 22


def test_clock_that_is_set_back_keeps_bindings_and_takes_new_ones(path, open_):
    clock = [1_000_000.0]
    store = open_(now=lambda: clock[0])
    set_(store, AOR, seconds=60)
    clock[0] -= 3600.0
    assert store.expire(clock[0] + 61, 10) == []  # a refresh will come
    set_(store, AOR, cseq=2, seconds=60)
    assert [aor for aor, _ in store.expire(clock[0] + 61, 10)] == [AOR]
    assert store.count() == 0


def test_file_is_looked_for_at_a_bounded_rate(path, open_, monkeypatch):
    store, looks = open_(), []
    monkeypatch.setattr(database, "FILE_SECONDS", 3600.0)
    monkeypatch.setattr(database, "file_id", lambda path: looks.append(path) or (None,))
    for number in range(20):
        add(store, f"sip:{number}@example.com")
    assert looks == []
    monkeypatch.setattr(database, "FILE_SECONDS", 0.0)
    with pytest.raises(StoreError, match="deleted or replaced"):
        add(store)
    assert looks


def test_stalled_commit_holds_neither_other_greenlets_nor_lookups(open_):
    store = open_()
    add(store)
    real, stall, stalled = store._database._apply, allocate_lock(), []

    def apply(connection, writes):
        stalled.append(True)
        with stall:
            return real(connection, writes)

    store._database._apply = apply
    with stall:
        job = gevent.spawn(add, store, OTHER)
        until(lambda: stalled)  # a held loop does not return
        for _ in range(5):
            assert len(store.lookup(AOR)) == 1
            gevent.sleep(0.001)
        assert not job.ready()
    assert len(job.get(timeout=PATIENCE)) == 1


def test_change_runs_in_the_greenlet_of_its_caller(open_):
    store = open_()
    seen = []
    store.update(AOR, lambda before: seen.append(gevent.getcurrent()) or before)
    store.update(
        AOR, lambda before: seen.append(gevent.getcurrent()) or (binding(CONTACTS[0], 9e9),)
    )
    assert set(seen) == {gevent.getcurrent()}


def test_change_that_raises_about_an_update_that_fails_later_runs_again(open_):
    store = open_()
    real = store._database._apply

    def failing(connection, writes):
        store._database._apply = real
        raise sqlite3.OperationalError("disk I/O error")

    store._database._apply = failing

    def once(before):
        if before:
            raise Reject(500, "Out of Order")
        return (binding(CONTACTS[0], 9e9),)

    jobs = [gevent.spawn(outcome, store, AOR, once) for _ in range(2)]
    gevent.joinall(jobs, raise_error=True)
    assert [type(job.value) for job in jobs] == [StoreError, tuple]


# ---- records that cannot be read


def test_unreadable_record_is_skipped_counted_logged_once_and_kept(path, open_, caplog):
    store = open_()
    add(store)
    add(store, OTHER)
    sql(path, "UPDATE bindings SET record = ? WHERE aor = ?", b"\x09\x09later", AOR)
    assert store.lookup(AOR) == () == store.lookup(AOR)
    assert store.unreadable_records >= 2
    assert len([r for r in caplog.records if "record skipped" in r.getMessage()]) == 1
    assert len(store.lookup(OTHER)) == 1
    assert len(add(store, AOR, CONTACTS[1])) == 1
    assert sql(path, "SELECT aor, record FROM unreadable") == [(AOR, b"\x09\x09later")]
    assert AOR in store.find(binding(CONTACTS[1]).uri)
    assert AOR not in store.find(binding(CONTACTS[0]).uri)


def test_unreadable_record_expires_into_the_side_table(path, open_):
    store = open_()
    add(store)
    add(store, OTHER)
    sql(path, "UPDATE bindings SET record = ? WHERE aor = ?", b"damaged", AOR)
    assert [aor for aor, _ in store.expire(store.now() + 1e6, 10)] == [OTHER]
    assert store.expire(store.now() + 1e6, 10) == []
    assert sql(path, "SELECT record FROM unreadable") == [(b"damaged",)]


def test_aor_that_cannot_be_stored_is_refused(open_):
    store = open_()
    assert store.lookup("sip:\ud800@example.com") == ()
    with pytest.raises(InvalidValue, match="cannot be stored"):
        add(store, "sip:\ud800@example.com")
    with pytest.raises(TypeError, match="aor must be a text"):
        store.lookup(7)


# ---- the read cache


def test_cache_is_bounded_in_bytes_and_keeps_the_last_used(open_):
    store = open_(cache_bytes=20_000)
    for number in range(200):
        add(store, f"sip:{number}@example.com")
        set_(store, "sip:0@example.com", cseq=number)
    assert 10_000 < store.cached_bytes <= 20_000
    reads = count_reads(store)
    set_(store, "sip:0@example.com", cseq=999)
    set_(store, "sip:199@example.com", cseq=999)
    assert reads == []
    set_(store, "sip:1@example.com", cseq=999)
    assert len(reads) == 1


def test_update_begins_again_if_the_cache_is_outdated(path, open_):
    store, other = open_(), open_()
    add(store, contact=CONTACTS[0])
    add(other, contact=CONTACTS[1])
    assert len(add(store, contact=CONTACTS[2])) == 3
    assert (store.conflicts, store.retries) == (1, 1)


def test_change_that_raises_about_an_outdated_cache_runs_again(path, open_):
    store, other = open_(), open_()
    add(store)

    def once(before):
        if before:
            raise Reject(500, "Out of Order")
        return (binding(CONTACTS[0], 9e9),)

    other.update(AOR, lambda before: ())
    assert len(store.update(AOR, once)) == 1
    with pytest.raises(Reject):
        other.update(AOR, once)


def test_change_of_nothing_returns_what_another_process_has_stored(path, open_):
    store, other = open_(), open_()
    add(store)
    set_(other, cseq=9)
    assert [b.cseq for b in store.update(AOR, lambda before: before)] == [9]


def test_writes_of_another_program_are_seen_at_once(path, open_):
    store, other = open_(), open_()
    for cseq in range(1, 50):
        set_(store, cseq=cseq)
        assert other.lookup(AOR)[0].cseq == cseq
        set_(other, cseq=cseq + 100)
        assert store.lookup(AOR)[0].cseq == cseq + 100
    sql(path, "DELETE FROM bindings")
    assert store.lookup(AOR) == () == other.lookup(AOR)
    assert len(add(store)) == 1


def count_reads(store):
    reads, real = [], store._database.read
    store._database.read = lambda call: (reads.append(call), real(call))[1]
    return reads


# ---- processes and threads


def test_store_of_before_a_fork_is_refused_in_the_child(open_):
    store = open_()
    pid = gevent.os.fork()
    if not pid:
        try:
            store.lookup(AOR)
        except StoreError as error:
            os._exit(0 if "open it in each process" in str(error) else 2)
        os._exit(3)
    assert gevent.os.waitpid(pid, 0)[1] == 0
    assert len(add(store)) == 1


def test_store_of_another_thread_is_refused(open_):
    store = open_()
    error = gevent.get_hub().threadpool.apply(lambda: outcome(store, AOR, lambda before: before))
    assert isinstance(error, StoreError) and "another thread" in str(error)


def test_close_finishes_the_updates_that_were_given(path, open_):
    store = open_()
    jobs = [
        gevent.spawn(outcome, store, f"sip:{n}@example.com", lambda b: (binding(CONTACTS[0], 9e9),))
        for n in range(100)
    ]
    gevent.sleep(0)
    store.close()
    gevent.joinall(jobs, raise_error=True)
    kept = sum(isinstance(job.value, tuple) for job in jobs)
    assert open_().count() == kept
    with pytest.raises(StoreError, match="is closed"):
        store.lookup(AOR)
