"""The blocks about stores of bindings: the store of the page passes the contract, SQLite keeps bindings."""

from __future__ import annotations

import sys

import pytest

from sippet_gevent import Registrar
from sippet_gevent.testing.stores import StoreContract

from .blocks import BLOCKS, block


class TestMyStore(StoreContract):
    @pytest.fixture
    def make(self):
        return block("my_store").MyStore


def test_my_store_has_under_forty_lines_without_its_imports():
    lines = [line for line in BLOCKS["my_store"].splitlines() if line.strip()]
    assert len(lines) < 40


def test_contract_is_run_by_a_class(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_store", block("my_store"))
    derived = block("contract").TestMyStore
    assert issubclass(derived, StoreContract) and derived.make is not StoreContract.make


def test_watch_shows_a_registration(sip, capsys):
    shown = block("watch")
    stack = sip.stack()
    stack.on("REGISTER")(Registrar(shown.location))
    ask = {"to": "<sip:alice@example.com>", "contact": "<sip:alice@10.0.0.9>"}
    assert sip.ask(stack, "REGISTER sip:example.com", **ask).statuses == [200]
    shown.watch.close()
    assert sip.ask(stack, "REGISTER sip:example.com", **ask).statuses == [200]
    assert capsys.readouterr().out == "added sip:alice@example.com sip:alice@10.0.0.9\n"


def test_sqlite_keeps_bindings_after_a_restart(sip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sip.stack(lambda request, tx: 200, host="10.0.0.9")
    alice = "<sip:alice@example.com>"
    first = block("sqlite")
    register = sip.ask(
        sip.serve(first.stack), "REGISTER sip:example.com", to=alice, contact="<sip:alice@10.0.0.9>"
    )
    assert register.statuses == [200]
    first.stack.stop()
    first.location.close()
    second = block("sqlite")
    message = sip.ask(sip.serve(second.stack), "MESSAGE sip:alice@example.com", to=alice)
    assert message.statuses == [200]
    second.location.close()
    assert (tmp_path / "bindings.db").stat().st_mode & 0o777 == 0o600


def test_users_have_keys_in_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = block("users")
    assert shown.alice.ha1["SHA-256"] == shown.ha1("alice", "example.com", "secret")
    shown.users.close()
