"""`sippet user`, and the default server that asks for the passwords which it has set."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest

from sippet_gevent import Credentials, SQLiteUsers, Stack, ha1

from ..conditions import PATIENCE

pytest_plugins = ["tests.programs"]

ALICE = "alice@office.example"


@pytest.fixture
def user(popen, tmp_path):
    """Run `sippet user` with a line of standard input; returns exit code, stdout and stderr."""

    def run(action, *arguments, password="secret", database="phones.db"):
        process = popen(
            "user", action, *arguments, "--database", database,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, err = process.communicate(f"{password}\n".encode(), timeout=PATIENCE)
        return process.returncode, out.decode(), err.decode()

    return run


def keys(path, name=ALICE):
    users = SQLiteUsers(path)
    try:
        found = users.lookup(*name.split("@"))
        return None if found is None else dict(found.ha1)
    finally:
        users.close()


def test_user_is_added_changed_listed_and_removed(user, tmp_path):
    path = tmp_path / "phones.db"
    assert user("add", ALICE, password="k3pt-away") == (0, f"{ALICE} added\n", "")
    assert keys(path) == {
        name: ha1("alice", "office.example", "k3pt-away", name) for name in ("SHA-256", "MD5")
    }
    assert b"k3pt-away" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert user("add", "bob@home.example", "--algorithm", "SHA-512-256")[0] == 0
    assert user("list")[1] == f"bob@home.example      SHA-512-256\n{ALICE}  MD5 SHA-256\n"
    assert user("list", "home.example")[1] == "bob@home.example  SHA-512-256\n"
    assert user("passwd", ALICE, password="other")[0] == 0
    assert keys(path)["MD5"] == ha1("alice", "office.example", "other", "MD5")
    assert user("remove", ALICE) == (0, f"{ALICE} removed\n", "")
    assert keys(path) is None


@pytest.mark.parametrize(
    ("arguments", "password", "code", "problem"),
    [
        (("add", "bob@x.example"), "", 2, "the password is empty"),
        (("add", "bob@x.example"), "x" * 1025, 2, "the password has over 1024 characters"),
        (("add", "bob"), "secret", 2, "USER must have a name and a domain, got 'bob'"),
        (("add", "b:b@x.example"), "secret", 2, "a user name must have no colon"),
        (
            ("add", "sip:bob@x.example"),
            "secret",
            2,
            "without sip:, got 'sip:bob@x.example': write bob@x.example",
        ),
        (("add", "sip://bob@x.example"), "secret", 2, "got 'sip://bob@x.example': write bob@x.ex"),
        (("remove", "sip:bob@x.example"), "", 2, "got 'sip:bob@x.example': write bob@x.example"),
        (("add", "bob@x.example", "--algorithm", "MD4"), "secret", 2, "--algorithm must be one of"),
        (("add", ALICE), "secret", 1, f"{ALICE} exists: give it another password with"),
        (("passwd", "bob@x.example"), "secret", 1, "bob@x.example does not exist"),
        (("remove", "bob@x.example"), "secret", 1, "bob@x.example does not exist"),
        (
            ("add", "bob@x.example", "--database", "none/phones.db"),
            "x",
            2,
            "none does not exist: create it",
        ),
    ],
)
def test_mistake_is_one_line(user, arguments, password, code, problem):
    assert user("add", ALICE)[0] == 0
    database = "none/phones.db" if "--database" in arguments else "phones.db"
    action, *rest = [word for word in arguments if word not in ("--database", "none/phones.db")]
    found, out, err = user(action, *rest, password=password, database=database)
    assert (found, out) == (code, "")
    assert err.startswith("sippet: ") and problem in err and err.count("\n") == 1
    assert "secret" not in err


@pytest.mark.parametrize("action", [("passwd", ALICE), ("remove", ALICE), ("list",)])
def test_only_adding_users_creates_a_database(user, tmp_path, action):
    found, out, err = user(*action)
    assert (found, out) == (2, "")
    assert err == (
        "sippet: --database: no such file 'phones.db': check its name, or add a first user with "
        "sippet user add USER --database phones.db\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_prompt_shows_nothing_and_wants_the_same_twice(popen, tmp_path):
    for typed, code in ((b"secret\nsecret\n", 0), (b"secret\nsecert\n", 2)):
        ours, theirs = pty.openpty()
        process = popen(
            "user", "add", f"u{code}@x.example", "--database", "phones.db",
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        shown = b""
        for line in typed.splitlines():
            while not shown.endswith((b"example: ", b"again: ")):
                shown += os.read(ours, 1000)
            os.write(ours, line + b"\n")
            shown += b"|"
        try:
            while data := os.read(ours, 1000):
                shown += data
        except OSError:  # the process has ended
            pass
        assert process.wait(30) == code
        assert b"sec" not in shown
        assert (b"passwords differ" in shown) == bool(code)
        os.close(ours)


@pytest.fixture
def office(serve, user):
    """A default server with a user."""
    assert user("add", ALICE)[0] == 0

    def start(*options):
        return serve("--database", "phones.db", "--domain", "office.example", *options)

    return start


def register(server, credentials=None, name="alice"):
    with Stack("udp:127.0.0.1:0") as phone:
        address = f"sip:{name}@office.example"
        response = phone.request(
            "REGISTER", "sip:office.example", next_hop=server.uri, credentials=credentials,
            from_=f"<{address}>", to=f"<{address}>", expires=60,
            contact=f"<sip:{name}@{phone.addresses[0].removeprefix('udp:')}>", timeout=PATIENCE,
        )  # fmt: skip
        return response


def password(text, name="alice"):
    return Credentials(name, text, hosts=("office.example",))


@pytest.mark.rfc("3261 22.1", "3261 22.4")
def test_default_server_with_a_database_asks_for_passwords(office, user):
    server = office()
    server.wait_for("passwords: users=1 realm=office.example")
    challenged = register(server)
    assert challenged.status == 401
    assert [c.split('algorithm=')[1].split(",")[0] for c in challenged.headers.all("WWW-Authenticate")] == [
        "SHA-256", "MD5"
    ]  # fmt: skip
    assert register(server, password("wrong")).status == 401
    assert register(server, password("secret")).status == 200
    assert register(server, password("secret"), name="bob").status == 403  # another's address
    assert user("passwd", ALICE, password="changed")[0] == 0
    assert register(server, password("secret")).status == 401  # at once
    assert register(server, password("changed")).status == 200


def test_algorithm_is_what_the_server_offers(office):
    server = office("--algorithm", "MD5")
    assert len(register(server).headers.all("WWW-Authenticate")) == 1
    assert register(server, password("secret")).status == 200


def test_database_without_users_says_how_to_add_them(serve):
    server = serve("--database", "phones.db", "--domain", "office.example")
    server.wait_for(
        'passwords: users=0 realm=office.example hint="add users: sippet user add NAME@office.example'
    )


def test_open_asks_for_nothing_and_warns(serve):
    server = serve("--open", "--database", "phones.db")
    server.wait_for('WARNING .*passwords: none reason="--open"')
    assert register(server).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "192.0.2.1"])
def test_open_network_needs_passwords_or_open(sippet, host):
    ended = sippet("serve", "--listen", f"udp:{host}:0")
    assert ended.returncode == 2
    assert "lets everybody on the network register and call: add --database" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--database", "x.db"), "--database asks for the passwords of a domain: add --domain"),
        (("--algorithm", "MD5"), "--algorithm needs users: add --database FILE"),
        (("--open", "app:core"), "--open is for the default server"),
        (("--database", "x.db", "--domain", "a.example", "--algorithm", "X"), "--algorithm: "),
    ],
)
def test_options_that_do_not_fit_are_one_line(sippet, arguments, problem):
    ended = sippet("serve", *arguments)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith(f"sippet: {problem}")


def test_users_of_htdigest_and_kamailio_are_imported(user, tmp_path):
    md5 = ha1("alice", "office.example", "secret", "MD5")
    sha = ha1("alice", "office.example", "secret", "SHA-256")
    (tmp_path / "htdigest").write_text(
        f"# phones\nalice:office.example:{md5}\nalice:office.example:{sha}\nbob:office.example:{md5}\n"
    )
    path = tmp_path / "phones.db"
    code, told, _ = user("import", "htdigest")
    assert code == 0
    assert told.startswith("users imported: 2\n1 of them have an HA1 for MD5 only: restart")
    assert keys(path) == {"MD5": md5, "SHA-256": sha}
    (tmp_path / "tsv").write_text(
        f"id\tusername\tdomain\tpassword\tha1\n1\talice\toffice.example\t\t{md5}\n"
        "2\tcarol\toffice.example\tsecret\tNULL\n"
    )
    assert user("import", "tsv", "--format", "kamailio")[:2] == (
        0,
        "users imported: 2\n1 of them have an HA1 for MD5 only: restart the server, or send it "
        "SIGHUP, so that it offers MD5 alone\n",
    )
    assert keys(path) == {"MD5": md5}
    assert keys(path, "carol@office.example")["SHA-256"] == ha1(
        "carol", "office.example", "secret", "SHA-256"
    )
    (tmp_path / "csv").write_text(f"username,domain,ha1\nd,office.example,{md5}\n")
    assert user("import", "csv", "--format", "kamailio")[0] == 0


@pytest.mark.parametrize(
    ("text", "form", "told"),
    [
        ("a:b\n", "htdigest", "users:1: write user:realm:HA1"),
        (f"a:b:{'0' * 32}\na:b:{'x' * 32}\n", "htdigest", "users:2: ha1 of MD5 must be 32 hexa"),
        ("", "htdigest", "users has no users"),
        ("alice,office.example\n", "kamailio", "users:1: the first line must name the columns"),
        ("username,domain,ha1\na,,x\n", "kamailio", "users:2: username or domain is empty"),
        ("username,domain,ha1\na,b,x\n", "kamailio", "users:2: ha1 must be 32 or 64"),
    ],
)
def test_import_with_a_wrong_line_imports_nothing(user, tmp_path, text, form, told):
    (tmp_path / "users").write_text(text)
    code, _, err = user("import", "users", "--format", form)
    assert (code, told in err) == (2, True), err
    assert user("list")[1] == ""
