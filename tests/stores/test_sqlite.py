"""SQLiteBindings: the contract of every store, and what only a file can do: fail, be shared, survive."""

from __future__ import annotations

import pytest

from sippet_gevent.stores.sqlite import SQLiteBindings
from sippet_gevent.testing.stores import SharedStoreContract


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
