"""The settings of `sippet serve`: the table of their keys, their reader, and the sample file. Nothing is opened."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import fields

import pytest

from sippet_gevent.command.configuration import Words, read_configuration, wants_patching
from sippet_gevent.command.office import Office
from sippet_gevent.command.serve import SAMPLE
from sippet_gevent.command.settings import (
    BY_TABLE,
    REPEATED,
    ROWS,
    Settings,
    TrunkSettings,
)
from sippet_gevent.command.terminal import Mistake
from sippet_gevent.command.toml_lines import line_of, lines_of
from sippet_gevent.command.trunk_settings import OfficeTrunks
from sippet_gevent.runtime.limits import Limits, StreamLimits

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture
def read(tmp_path):
    """Read a text as the file sippet.toml, with options: `read("open = true", listen=["udp:…"])`."""

    def read(text="", **options):
        path = tmp_path / "sippet.toml"
        path.write_text(text)
        return read_configuration({"config": str(path), **options}).settings

    return read


@pytest.fixture
def problems(read, tmp_path):
    """Read a text, and return what is wrong, a line for each; without the folder of the file."""

    def problems(text="", **options):
        with pytest.raises(Mistake) as caught:
            read(text, **options)
        return str(caught.value).replace(f"{tmp_path}/", "").split("\n")

    return problems


# ---- the table


def test_each_row_is_a_field_of_settings():
    plain = {
        row.key.replace(".", "_")
        for row in ROWS
        if row.table.partition(".")[0] not in ("limits", "listen", "trunks")
    }
    assert plain | {"limits", "listen", "trunks"} == {each.name for each in fields(Settings)}
    assert {"name", *BY_TABLE["trunks"]} == {each.name for each in fields(TrunkSettings)}


def test_each_limit_is_a_row():
    assert {*BY_TABLE["limits"], "streams", "parser"} == {each.name for each in fields(Limits)}
    assert set(BY_TABLE["limits.streams"]) == {each.name for each in fields(StreamLimits)}


def test_each_key_but_secrets_has_an_option():
    for row in ROWS:
        if row.table.partition(".")[0] not in ("limits", *REPEATED):  # --limit, --listen, --trunk
            assert (row.option is None) == (row.key == "users"), row.key
        assert row.help and row.example


def test_each_example_is_a_value(read, tmp_path):
    for name in (
        "chain.pem",
        "key.pem",
        "ca.pem",
        "clients.pem",
        "users.htdigest",
        "carrier.password",
    ):
        (tmp_path / name).touch()
    for row in ROWS:
        header = REPEATED.get(row.table, f"[{row.table}]" if row.table else "")
        more = {"listen": 'address = "tcp:127.0.0.1:0"\n', "trunks": 'account = "sip:1@a"\n'}
        more = more.get(row.table, "") if row.name not in ("address", "account") else ""
        read(f"{header}\n{more}{row.name} = {row.example}\n")


# ---- the sample


def uncommented(text):
    return re.sub(r'(?m)^#(?=[\w\["])', "", text)


def test_sample_has_each_key():
    table = tomllib.loads(uncommented(SAMPLE.read_text("utf-8")))
    for row in ROWS:
        found = table
        for name in row.key.split("."):
            if name == "trunks":
                found = {"trunks": found["trunks"]["carrier"]}
            elif name == "listen":
                found = {"listen": {k: v for each in found["listen"] for k, v in each.items()}}
            if row.key != "trunks.password":  # the sample has a file in its place
                assert name in found, f"sample.toml lacks {row.key}"
                found = found[name]
    assert 'password = "secret"' in SAMPLE.read_text("utf-8")


def test_sample_loads_as_it_is_and_with_all_keys(read, tmp_path):
    text = SAMPLE.read_text("utf-8")
    settings = read(text)
    assert settings.domains == ("office.example",)
    assert settings.listen == ("udp:127.0.0.1:5060", "tcp:127.0.0.1:5060")
    for name in (
        "chain.pem",
        "key.pem",
        "ca.pem",
        "clients.pem",
        "users.htdigest",
        "carrier.password",
    ):
        (tmp_path / name).touch()
    full = read(uncommented(text))
    assert full.trunks[0].numbers == ("0", "+")
    # the limits are shown with their defaults
    assert full.limits == Limits()


# ---- values


def test_values_of_a_file_are_read_with_their_types(read, tmp_path):
    settings = read(
        """
core = "app.py:core"
domains = ["a.example", "b.example"]
aliases = { "c.example" = "b.example" }
database = "phones.db"
open = true
drain = 5
[[listen]]
address = "udp:127.0.0.1:0"
name = "inside"
advertise = "203.0.113.7"
[[listen]]
address = "tcp:127.0.0.1:0"
proxy = ["192.0.2.0/24", "198.51.100.0/24"]
[limits]
handlers = 5
retry_after = [2, 3]
[limits.streams]
idle = 60
[limits.parser]
message = 4096
[trunks.one]
account = "sip:1@one.example"
[trunks.two]
account = "sip:2@two.example"
next_on = [503]
"""
    )
    assert settings.core == f"{tmp_path}/app.py:core"
    assert settings.database == f"{tmp_path}/phones.db"
    assert (settings.open, settings.drain) == (True, 5.0)
    assert settings.aliases == {"c.example": "b.example"}
    assert settings.listen == (
        "udp:127.0.0.1:0;name=inside;advertise=203.0.113.7",
        "tcp:127.0.0.1:0;proxy=192.0.2.0/24,198.51.100.0/24",
    )
    assert (settings.limits.handlers, settings.limits.retry_after) == (5, (2, 3))
    assert (settings.limits.streams.idle, settings.limits.parser.message) == (60, 4096)
    assert [trunk.name for trunk in settings.trunks] == ["one", "two"]
    assert settings.trunks[1].next_on == (503,)


def test_addresses_may_be_a_list_of_texts(read):
    assert read('listen = ["udp:127.0.0.1:0;name=a"]').listen == ("udp:127.0.0.1:0;name=a",)


def test_option_wins_over_the_file(read):
    text = """
domains = ["a.example"]
open = true
listen = ["udp:127.0.0.1:1"]
[limits]
handlers = 5
calls = 7
[trunks.one]
account = "sip:1@one.example"
"""
    settings = read(
        text,
        domains=["b.example"],
        open=False,
        listen=["tcp:127.0.0.1:2"],
        limit=["handlers=6", "streams.idle=9.5"],
        trunk=[
            "one account=sip:9@one.example",
            "two account=sip:2@two.example numbers=0,+ next_on=500,503",
        ],
    )
    assert (settings.domains, settings.open) == (("b.example",), False)
    assert settings.listen == ("tcp:127.0.0.1:2",)
    assert (settings.limits.handlers, settings.limits.calls) == (6, 7)
    assert settings.limits.streams.idle == 9.5
    assert [trunk.account for trunk in settings.trunks] == [
        "sip:9@one.example",
        "sip:2@two.example",
    ]
    assert settings.trunks[1].numbers == ("0", "+")
    assert settings.trunks[1].next_on == (500, 503)


def test_settings_show_no_password(read):
    text = 'users = { a = "geheim" }\n[trunks.one]\naccount = "sip:1@a"\npassword = "geheim"\n'
    assert "geheim" not in repr(read(text))


# ---- mistakes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[tls]\ncertificate = 'no.pem'", "sippet.toml:2: [tls] certificate: no such file 'no.pem': write the path of a PEM file"),
        ("\ndomain = ['a']", "sippet.toml:2: domain: there is no such key: write domains"),
        ("[trunk.a]\nx = 1", "sippet.toml:1: trunk: there is no such key: write trunks"),
        ("[limits]\nhandler = 1", "sippet.toml:2: [limits] handler: there is no such key: write handlers"),
        ("[limits.streams]\nidel = 1", "sippet.toml:2: [limits.streams] idel: there is no such key: write idle"),
        ("[limits]\n\nhandlers = -1", "sippet.toml:3: [limits] handlers: must be a whole number of 0 or more, got -1: write handlers = 1000"),
        ("[limits]\nhandlers = 'x'", "sippet.toml:2: [limits] handlers: must be a whole number, got 'x': write handlers = 1000"),
        ("open = 1", "sippet.toml:1: open: must be true or false, got 1: write open = false"),
        ("domains = 'a.example'", "sippet.toml:1: domains: must be a list of texts, got 'a.example': write domains = [\"office.example\"]"),
        ("tls = 'x'", "sippet.toml:1: tls: must be a table: write [tls]"),
        ("[[listen]]\naddress = 'sctp:1'", "sippet.toml:2: [[listen]] address: 'sctp:1' is not an address: write udp:192.0.2.1:5060 or udp:[::]:5060; transports are udp, tcp, tls, ws, wss"),
        ("[[listen]]\naddress = 'udp:127.0.0.1:0'\n[[listen]]\nname = 'x'", "sippet.toml:3: [[listen]]: address is missing: write address = \"udp:192.0.2.10:5060\""),
        ("[filters]\nexempt = ['192.0.2.1/24']", "sippet.toml:2: [filters] exempt: '192.0.2.1/24' is not a network: write 192.0.2.0/24, or 192.0.2.1 for one address"),
        ("[filters]\nrate = 0", "sippet.toml:2: [filters] rate: must be greater than 0 messages a second, got 0: write rate = 50"),
        ("algorithms = ['SHA1']", "sippet.toml:1: algorithms: must be of SHA-512-256, SHA-256, MD5, got 'SHA1': write algorithms = [\"SHA-256\", \"MD5\"]"),
        ("[log]\nlevel = 'loud'", "sippet.toml:2: [log] level: must be one of debug, info, warning, error, got 'loud': write level = \"info\""),
        ("[trunks.a]\nnumbers = ['0']", "sippet.toml:1: [trunks.a]: account is missing: write account = \"sip:4930123@carrier.example\""),
        *(
            (f"[trunks.a]\naccount = 'sip:1@a'\n{key} = 'carrier.example:5070'", f"sippet.toml:3: [trunks.a] {key}: must be a sip or sips URI, got 'carrier.example:5070': write sip:carrier.example:5070")
            for key in ("registrar", "proxy")
        ),
        ("[trunks.a]\naccount = 'anna@a.example'", "sippet.toml:2: [trunks.a] account: must be a sip or sips URI, got 'anna@a.example': write sip:anna@a.example"),
        ("[trunks.a]\naccount = 'tel:+4930'", "sippet.toml:2: [trunks.a] account: must be a sip or sips URI, got 'tel:+4930': write sip:+4930@example.com"),
        ("[trunks.a]\naccount = 'sip:a.example'", "sippet.toml:2: [trunks.a] account: must have a user, got 'sip:a.example': write account = \"sip:4930123@carrier.example\""),
        ("[trunks.a]\naccount = 'sip:1@a'\npattern = '('", "sippet.toml:3: [trunks.a] pattern: is not a regular expression: '(': missing ), unterminated subpattern at position 0: write pattern = \"0[1-9][0-9]+\""),
        ("[trunks.a]\naccount = 'sip:1@a'\nnext_on = [200]", "sippet.toml:3: [trunks.a] next_on: must be a list of statuses from 300 to 699, got [200]: write next_on = [408, 480, 500, 502, 503, 504]"),
        *(
            (f"[trunks.a]\naccount = 'sip:1@a'\n{key} = {value}", f"sippet.toml:3: [trunks.a] {key}: must be a user or a number, got {problem}")
            for key, value, problem in (
                ("incoming", "'sip://anna@host'", "'sip://anna@host': write anna"),
                ("incoming", "'anna@host'", "'anna@host': write anna"),
                ("incoming", "'tel:+4930'", "'tel:+4930': write +4930"),
                ("incoming", "'sip:host'", "'sip:host': write incoming = \"alice\""),
                ("incoming_numbers", "{ '+49 30' = 'bob' }", "'+49 30': write +4930"),
                ("incoming_numbers", "{ '+4930' = 'sip:bob@host' }", "'sip:bob@host': write bob"),
                ("caller_id", "'tel:+49-30'", "'tel:+49-30': write +4930"),
                ("caller_id", "'+49 30 123'", "'+49 30 123': write +4930123"),
                ("caller_id", "'030 12-3'", "'030 12-3': write 030123"),
                ("caller_ids", "{ 'sip:anna@host' = '+4930' }", "'sip:anna@host': write anna"),
                ("caller_ids", "{ 'anna' = 'sip:+4930@host' }", "'sip:+4930@host': write +4930"),
            )
        ),
        ("a = ", "sippet.toml:1: Invalid value: write key = \"value\" as in https://toml.io"),
    ],
)  # fmt: skip
def test_mistake_names_file_line_key_and_what_to_write(problems, text, problem):
    assert problems(text) == [problem]


def test_key_that_is_like_no_other_gets_the_list_of_keys(problems):
    (problem,) = problems("[trunks.a]\naccount = 'sip:1@a.example'\ncalls = 3")
    assert problem.startswith(
        "sippet.toml:3: [trunks.a] calls: there is no such key: write one of account, anonymous, "
    )


NUMBERS = [row for row in ROWS if re.fullmatch(r"[0-9.]+", row.example)]

OUTSIDE = ("nan", "inf", "-inf", "-1", "-0.5", "1e300", "9" * 400, "true", '"x"', "[1]")


@pytest.mark.parametrize("row", NUMBERS, ids=[row.key for row in NUMBERS])
def test_number_outside_its_bounds_names_key_value_and_what_to_write(problems, row):
    before = f"[{row.table}]\n" if row.table else ""
    if row.table == "trunks":
        before = "[trunks.a]\naccount = 'sip:1@a'\n"
    for value in OUTSIDE:
        (problem,) = problems(f"{before}{row.name} = {value}\n")
        assert f" {row.name}: must be " in problem
        assert ", got " in problem
        assert problem.endswith(f": write {row.name} = {row.example}")


@pytest.mark.parametrize("words", ["nan", "inf", "-1", "1e300", "9" * 400])
def test_number_of_an_option_outside_its_bounds_is_a_mistake(words):
    for row in NUMBERS:
        if row.table.startswith("limits"):
            option = {"limit": [f"{row.key.removeprefix('limits.')}={words}"]}
        elif row.option is not None:
            option = {row.key.replace(".", "_"): words}
        else:
            continue
        with pytest.raises(Mistake, match="must be .*, got .*: write "):
            read_configuration(option)


def test_several_mistakes_are_shown_together(problems):
    assert problems("opn = true\n[tls]\nkey = 3\n", domains=[""]) == [
        "sippet.toml:1: opn: there is no such key: write open",
        "sippet.toml:3: [tls] key: must be a text, got 3: write the path of a PEM file",
        "--domain: must be a list of texts, got ['']: write --domain office.example",
    ]


def test_mistake_in_a_password_does_not_quote_it(problems):
    for text in (
        'users = "geheim"',
        'users = { a = ["geheim"] }',
        '[trunks.a]\naccount = "sip:1@a"\npassword = ["geheim"]',
    ):
        assert "geheim" not in str(problems(text))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"limit": ["handler=1"]}, "--limit handler: there is no such key: write handlers"),
        ({"limit": ["handlers=x"]}, "--limit handlers: must be a whole number, got 'x': write handlers = 1000"),
        ({"trunk": ["a account=sip:1@a password=secret"]}, "--trunk a password: others could see it: write password_file=FILE"),
        ({"trunk": ["a 'x"]}, "--trunk : \"a 'x\" cannot be read: No closing quotation"),
        ({"tls_certificate": "no.pem"}, "--cert: no such file 'no.pem': write the path of a PEM file"),
    ],
)  # fmt: skip
def test_mistake_in_an_option_names_it(options, problem):
    with pytest.raises(Mistake) as caught:
        read_configuration(options)
    assert str(caught.value) == problem


def test_file_that_cannot_be_read_is_a_mistake(tmp_path):
    path = tmp_path / "sippet.toml"
    with pytest.raises(Mistake, match="--config: cannot read .*: No such file"):
        read_configuration({"config": str(path)})
    path.write_bytes(b'a = 1\nb = "\xff"\n')
    with pytest.raises(Mistake, match=r"sippet.toml:2: the file is not UTF-8"):
        read_configuration({"config": str(path)})


# ---- lines


def test_lines_of_keys_are_found():
    text = """# comment [x]
a = 1
"b c" = [
  1, # ]
  "]",
]
d = '''
x = 1
'''
e.f = 2

[table]
g = "[no]"
[table.'in ner']
h = { i = 1 }
[[many]]
j = 1
[[many]]
j = \"\"\"
[z]
\"\"\"
k = 2
"""
    lines = lines_of(text)
    assert lines == {
        ("a",): 2, ("b c",): 3, ("d",): 7, ("e", "f"): 10, ("table",): 12, ("table", "g"): 13,
        ("table", "in ner"): 14, ("table", "in ner", "h"): 15, ("many", "0"): 16,
        ("many", "0", "j"): 17, ("many", "1"): 18, ("many", "1", "j"): 19, ("many", "1", "k"): 22,
    }  # fmt: skip
    assert line_of(lines, ("table", "in ner", "h", "i")) == 15
    assert line_of(lines, ("nowhere",)) == 1


# ---- mistakes that look harmless

OFFICE = 'domains = ["office.example"]\n[[listen]]\naddress = "udp:127.0.0.1:0"\n'
CARRIER = OFFICE + '[trunks.a]\naccount = "sip:1@carrier.example"\n'
CONTROL = "must have no line breaks or control characters, got "


@pytest.fixture
def refused(tmp_path):
    """Check a text as `sippet serve --check` does, and return the one line about its mistake."""

    def refused(text, **options):
        path = tmp_path / "sippet.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(Mistake) as caught:
            Office(read_configuration({"config": str(path), **options}), is_check=True)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return refused


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('log.file = "a\\u0000"\n' + OFFICE, f"1: [log] file: {CONTROL}'a\\x00': write file = "),
        ('users_file = "a\\nb"\n' + OFFICE, f"1: users_file: {CONTROL}'a\\nb': write users_file"),
        (CARRIER + 'caller_id = "1\\r2"\n', f"6: [trunks.a] caller_id: {CONTROL}'1\\r2': write"),
        (OFFICE + '[bans]\ncommand = ["\\u0000"]\n', f"5: [bans] command: {CONTROL}'\\x00': write"),
        ('users = { "" = "x" }\n' + OFFICE, "1: users: must not be empty: write users = "),
        (CARRIER + 'user = "a:b"\n', "6: [trunks.a] user: a user name must have no colon, got 'a:b'"),
        (CARRIER + "expires = 4294967296\n", "6: [trunks.a] expires: must be 4294967295 seconds at"),
        (CARRIER + 'password_file = "sippet.toml"\n[x]\n', "7: x: there is no such key: write"),
        (CARRIER + 'password_file = "empty"\n', "6: [trunks.a] password_file: empty is empty: write"),
        (CARRIER + 'password_file = "bytes"\n', "6: [trunks.a] password_file: cannot read bytes: it"),
        (CARRIER + 'password_file = "pipe"\n', "6: [trunks.a] password_file: cannot read a pipe 'p"),
        ('core = "a"\n', "1: core: 'a' does not name a core: write module:name or"),
        ('core = "no_such_module:a"\n', "1: core: cannot load no_such_module: No module named"),
        ('core = "no.py:a"\n', "1: core: there is no file "),
        ('core = "a:b"\n[trunks.a]\naccount = "sip:1@a"\n', "2: [trunks.a]: is for the default ser"),
        ('database = "none/phones.db"\n' + OFFICE, "1: database: directory none does not exist: create"),
        ('database = "folder"\n' + OFFICE, "1: database: folder is a directory: name a file in it"),
        ('aliases = { a = "b" }\n' + OFFICE, "1: aliases: alias 'a' leads to 'b', which is none of"),
        ('tls.ca = "sippet.toml"\n' + OFFICE, "1: [tls] ca: cannot load sippet.toml: "),
        ('tls.key = "sippet.toml"\n' + OFFICE, "1: [tls] key: needs a certificate: write certif"),
        (OFFICE + OFFICE[29:] + 'name = "a b"\n', "6: [[listen]] name: 'udp:127.0.0.1:0;name=a b"),
        (OFFICE + '[[listen]]\naddress = "udp:0.0.0.0:0"\n', "5: [[listen]] address: udp:0.0.0.0 l"),
        (OFFICE + '[[listen]]\naddress = "tls:127.0.0.1:0"\n', "5: [[listen]] address: tls:127.0."),
        (OFFICE + "drain = 5\n", "4: [[listen]] drain: there is no such key: write drain above the fi"),
        (OFFICE + "[limits]\nreserve = 1e300\n", "5: [limits] reserve: must be a number from 0 to 1"),
    ],
)  # fmt: skip
def test_each_mistake_names_its_own_line_and_key(refused, tmp_path, text, line):
    (tmp_path / "empty").touch()
    (tmp_path / "bytes").write_bytes(b"\xff")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    told = refused(text)
    assert told.startswith(f"sippet.toml:{line}"), told
    assert told.isprintable()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = " + "[" * 5000, "sippet.toml: brackets are nested too deeply: write fewer"),
        ("drain = " + "9" * 5000, "sippet.toml: a number has too many digits: write a shorter one"),
    ],
)
def test_file_that_breaks_the_reader_of_toml_is_a_mistake(refused, text, line):
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)  # a test before this one may have left more
    try:
        assert refused(text) == line
    finally:
        sys.setrecursionlimit(before)


def test_byte_order_mark_of_an_editor_is_left_out(refused, tmp_path):
    path = tmp_path / "sippet.toml"
    path.write_bytes(b"\xef\xbb\xbfmonkey = true\r\n")
    assert read_configuration({"config": str(path)}).settings.monkey
    assert wants_patching(str(path), None)


def test_every_beginning_of_the_sample_is_read_or_is_one_line(tmp_path):
    """Editors save files in the middle of a line."""
    path = tmp_path / "sippet.toml"
    text = re.sub(r"^# ?(?=[a-z\[])", "", SAMPLE.read_text(), flags=re.M)
    for end in range(0, len(text), 7):
        path.write_text(text[:end])
        try:
            read_configuration({"config": str(path)})
        except Mistake as mistake:
            for line in str(mistake).split("\n"):
                assert line.startswith(f"{path}:") and line.isprintable(), line


# ---- trunks


def test_trunks_of_one_account_share_it(read):
    text = CARRIER + CARRIER.replace(OFFICE, "").replace("trunks.a", "trunks.b")
    trunks = OfficeTrunks()
    first = trunks.made(read(text), Words())
    assert first[0].trunk.account is first[1].trunk.account
    trunks.first(first)
    again = trunks.made(read(text + 'strip = "0"\n'), Words())
    assert {each.trunk.account for each in again} == {first[0].trunk.account}
