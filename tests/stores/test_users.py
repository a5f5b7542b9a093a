"""Users: kept with the keys that prove their passwords, which nothing shows."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing

import gevent
import pytest

from sippet_gevent import InvalidValue, MemoryUsers, SQLiteBindings, SQLiteUsers, StoreError, User
from sippet_gevent.core.auth.digest import ha1
from sippet_gevent.stores import database
from sippet_gevent.testing.stores.calls import AOR, at_once
from sippet_gevent.testing.stores.samples import CONTACTS, binding

REALM = "example.com"
ALGORITHMS = ("MD5", "SHA-256")


def user(name="100", realm=REALM, password="secret", algorithms=ALGORITHMS):
    return User(name, realm, {each: ha1(name, realm, password, each) for each in algorithms})


@pytest.fixture(params=["memory", "sqlite"])
def users(request, tmp_path):
    store = MemoryUsers() if request.param == "memory" else SQLiteUsers(tmp_path / "users.db")
    yield store
    store.close()


# ---- one user


@pytest.mark.rfc("7616 3.4.2")
def test_user_has_the_ha1_of_each_algorithm():
    assert dict(user(algorithms=["MD5"]).ha1) == {"MD5": ha1("100", REALM, "secret", "MD5")}


def test_user_does_not_show_its_ha1():
    alice = user()
    shown = f"{alice} {alice!r}"
    assert "100" in shown and "example.com" in shown
    assert not any(value in shown for value in alice.ha1.values())


def test_user_cannot_be_changed():
    given = {"MD5": "0" * 32}
    alice = User("100", REALM, given)
    given["MD5"] = "1" * 32
    with pytest.raises(TypeError):
        alice.ha1["MD5"] = "2" * 32
    with pytest.raises(AttributeError):
        alice.realm = "other"
    assert alice.ha1["MD5"] == "0" * 32
    assert hash(alice) == hash(User("100", REALM, alice.ha1)) and alice == User(
        "100", REALM, alice.ha1
    )


def test_user_has_algorithm_and_ha1_in_their_usual_spelling():
    assert dict(User("100", REALM, {"sha-256": "AB" * 32}).ha1) == {"SHA-256": "ab" * 32}


@pytest.mark.parametrize(
    "wrong",
    [
        {"SHA-256": "hunter2"}, {"MD5": "hunter2" + "0" * 25}, {"MD5": b"hunter2"}, {"SHA-256": "0" * 32},
        {}, {"SHA-1": "0" * 40}, {7: "0" * 32}, "hunter2",
    ],
)  # fmt: skip
def test_password_in_place_of_ha1_is_refused_and_not_quoted(wrong):
    with pytest.raises((InvalidValue, TypeError), match="ha1") as raised:
        User("100", REALM, wrong)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("name", ["", "a:b", "\ud800", 100, None])
def test_wrong_user_name_is_refused(name):
    with pytest.raises((InvalidValue, TypeError), match="username"):
        User(name, REALM, {"MD5": "0" * 32})


# ---- stores


def test_user_is_found_by_name_and_realm(users):
    for each in (user(), user("101"), user("100", "other.example")):
        users.add(each)
    assert users.lookup("100", REALM) == user()
    assert users.lookup("100", "other.example") == user("100", "other.example")
    for name, realm in (("102", REALM), ("100", "EXAMPLE.com"), ("", ""), ("\ud800", REALM)):
        assert users.lookup(name, realm) is None


def test_user_that_is_added_again_is_replaced(users):
    users.add(user())
    assert users.lookup("100", REALM) == user()
    users.add(user(password="new", algorithms=["SHA-256"]))
    assert users.lookup("100", REALM) == user(password="new", algorithms=["SHA-256"])
    assert len(users.list()) == 1


def test_removed_user_is_gone(users):
    users.add(user())
    users.add(user("101"))
    assert users.lookup("100", REALM)
    assert users.remove("100", REALM) is True
    assert users.remove("100", REALM) is False
    assert users.remove("\ud800", REALM) is False
    assert users.lookup("100", REALM) is None
    assert users.lookup("101", REALM)


def test_users_are_listed_in_order(users):
    for each in (user("b"), user("a", "other.example"), user("ä"), user("a")):
        users.add(each)
    assert [(u.username, u.realm) for u in users.list()] == [
        ("a", REALM), ("b", REALM), ("ä", REALM), ("a", "other.example"),
    ]  # fmt: skip
    assert users.list("other.example") == [user("a", "other.example")]
    assert users.list("none") == []


def test_users_without_an_ha1_for_an_algorithm_are_found(users):
    weak, strong = {"MD5": "0" * 32}, {"SHA-256": "0" * 64}
    for name, keys in (("100", weak), ("101", strong), ("102", weak | strong)):
        users.add(User(name, "example.com", keys))
    users.add(User("103", "other.example", weak))
    assert users.without("MD5", "example.com") == ("101",)
    assert users.without("SHA-256", "example.com") == ("100",)
    assert users.without("SHA-512-256", "example.com") == ("100", "101", "102")
    assert users.without("MD5", "nobody.example") == ()


def test_only_users_can_be_added(users):
    with pytest.raises(TypeError, match="user must be a User"):
        users.add(("100", REALM, "secret"))


def test_users_of_a_file_survive_and_share_it_with_bindings(tmp_path):
    path = tmp_path / "sippet.db"
    bindings, users = SQLiteBindings(path), SQLiteUsers(path)
    users.add(user())
    bindings.update(AOR, lambda before: (binding(CONTACTS[0], bindings.now()),))
    users.close()
    assert len(bindings.update(AOR, lambda before: (*before, binding(CONTACTS[1])))) == 2
    users = SQLiteUsers(path)
    assert users.lookup("100", REALM) == user()
    assert len(bindings.lookup(AOR)) == 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    bindings.close()
    users.close()


def test_users_and_bindings_of_one_file_are_written_at_the_same_time(tmp_path):
    path = tmp_path / "sippet.db"
    users, bindings = SQLiteUsers(path), SQLiteBindings(path)  # a new file, users first

    def change(number):
        users.add(user(number))
        bindings.update(
            f"sip:{number}@example.com", lambda before: (binding(CONTACTS[0], bindings.now()),)
        )
        assert users.lookup(number, REALM) == user(number)

    at_once(change, [str(number) for number in range(50)])
    assert len(users.list()) == bindings.count() == 50
    files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert files.keys() >= {"sippet.db", "sippet.db-wal"} and set(files.values()) == {0o600}
    bindings.close()
    assert users.lookup("7", REALM) == user("7")
    users.close()


def test_change_of_another_process_is_seen_at_once(tmp_path):
    path = tmp_path / "sippet.db"
    one, other = SQLiteUsers(path), SQLiteUsers(path)
    for number in range(10):
        one.add(user(password=str(number)))
        assert other.lookup("100", REALM) == user(password=str(number))
    with closing(sqlite3.connect(path)) as operator, operator:
        operator.execute("DELETE FROM users")
    assert other.lookup("100", REALM) is None
    one.close()
    other.close()


def test_users_at_the_same_time_are_all_kept(tmp_path):
    users = SQLiteUsers(tmp_path / "users.db")
    gevent.joinall([gevent.spawn(users.add, user(str(n))) for n in range(100)], raise_error=True)
    assert len(users.list()) == 100
    assert users._database.commits < 50
    users.close()
    with pytest.raises(StoreError):
        users.lookup("1", REALM)


def test_algorithm_of_a_later_version_is_left_alone(tmp_path):
    users = SQLiteUsers(tmp_path / "users.db")
    users.add(user())
    with closing(sqlite3.connect(users.path)) as later, later:
        later.execute("INSERT INTO users VALUES (?, '100', 'SHA3', 'x')", (REALM,))
    assert users.lookup("100", REALM) == user()
    users.close()


def test_failing_file_is_a_store_error(tmp_path, monkeypatch):
    users = SQLiteUsers(tmp_path / "users.db")
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.1)
    with closing(sqlite3.connect(users.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked") as raised:
            users.add(user())
    assert user().ha1["MD5"] not in str(raised.value)
    users.add(user())
    users.close()
