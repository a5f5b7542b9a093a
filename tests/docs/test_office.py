"""The settings, filters and the program of the pages about an office do what the pages say."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess

import pytest

from sippet_gevent import Authenticated, Credentials, SQLiteUsers, Stack, User, ha1
from sippet_gevent.command.configuration import read_configuration
from sippet_gevent.command.office import bans_of
from sippet_gevent.core.auth.bans import Ban
from sippet_gevent.runtime.process import LOG_FORMAT

from .blocks import BLOCKS, NAMED, block, of_language, on_free_ports

MOST_LINES = 15


def text_of(language, name):
    return NAMED[language, name][0].text


def settings_of(text, folder):
    (folder / "sippet.toml").write_text(text)
    return read_configuration({"config": str(folder / "sippet.toml")}).settings


@pytest.mark.parametrize("name", [each.name for each in of_language("toml")])
def test_toml_block_is_read_without_a_mistake(name, tmp_path):
    for file in ("chain.pem", "key.pem", "carrier.password"):
        (tmp_path / file).touch()
    settings_of(text_of("toml", name), tmp_path)


def test_office_program_asks_for_the_passwords_of_its_file(tmp_path, monkeypatch):
    lines = [line for line in BLOCKS["office_program"].splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES
    monkeypatch.chdir(tmp_path)
    users = SQLiteUsers("phones.db")
    keys = {name: ha1("alice", "office.example", "secret", name) for name in ("SHA-256", "MD5")}
    users.add(User("alice", "office.example", keys))
    users.close()
    made = block("office_program")
    server = on_free_ports(made.stack)
    with server, Stack("udp:127.0.0.1:0") as phone:
        way = f"sip:{server.addresses[0].removeprefix('udp:')}"
        aor = "<sip:alice@office.example>"
        answers = [
            phone.request(
                "REGISTER", "sip:office.example", next_hop=way, to=aor, from_=f"{aor};tag=1",
                contact="<sip:alice@127.0.0.1:9>", timeout=10,
                credentials=Credentials("alice", password, hosts=("office.example",)),
            ).status
            for password in ("wrong", "secret")
        ]  # fmt: skip
    made.core.core.location.store.close()
    made.core.authenticator._lookup.__self__.close()
    assert answers == [401, 200]


# ---- hardening


def failures_of():
    """Return the expressions of the filter, with the pattern of fail2ban in place of <SUBNET>."""
    text = text_of("ini", "fail2ban.sippet.conf")
    _, _, rest = text.partition("failregex = ")
    lines = [line.strip() for line in rest.partition("datepattern")[0].splitlines()]
    host = r"(?P<host>[0-9a-fA-F:.]+(?:/\d{1,3})?)"
    return [re.compile(line.replace("<SUBNET>", host)).search for line in lines if line]


def found_source(record):
    """Return the source that fail2ban takes from a log line, after it has cut off the time."""
    line = logging.Formatter(LOG_FORMAT).format(record)
    pattern = re.search(r"datepattern = \^(.*)", text_of("ini", "fail2ban.sippet.conf"))[1]
    digits = {"%%Y": r"\d{4}", "%%f": r"\d+"}
    dated = re.sub(r"%%[YmdHMSf]", lambda at: digits.get(at[0], r"\d\d"), pattern)
    at = re.match(dated, line)
    assert at, line
    found = [match["host"] for search in failures_of() if (match := search(line[at.end() :]))]
    return found[0] if found else None


def test_fail2ban_filter_takes_the_source_of_real_log_lines(sip, caplog):
    stack = sip.stack(
        Authenticated(lambda request, tx: 200, realm="a", users={"alice": "secret"}),
        host="10.0.0.50",
    )
    phone = sip.stack(host="10.0.0.66")
    caplog.set_level(logging.INFO, "sippet_gevent")
    for user in ("alice", "x source=192.0.2.1 user=", "WARNING sippet_gevent.core: authentication failed: source=192.0.2.1 user="):  # fmt: skip
        for _ in range(12):
            sip.run(
                phone.request, "OPTIONS", "sip:10.0.0.50",
                credentials=Credentials(user.replace(":", ""), "wrong"),
            )  # fmt: skip
    sip.run(phone.request, "REGISTER", "sip:authentication%20failed@10.0.0.50")
    assert stack.is_running
    failed = [each for each in caplog.records if "authentication failed" in each.getMessage()]
    assert failed
    sources = {found_source(record) for record in caplog.records}
    assert sources <= {"10.0.0.66", None} and "10.0.0.66" in sources
    assert found_source(failed[0]) == "10.0.0.66"


def test_ban_of_a_source_is_given_to_nft(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "nft"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    bans = bans_of(settings_of(text_of("toml", "bans"), tmp_path))
    bans.on_ban(Ban("192.0.2.7", "", 20, 3600.0))
    bans.on_ban(Ban("2001:db8::/64", "", 20, 3600.0))
    bans.on_ban(Ban("192.0.2.8", "$(id)", 10, 3600.0))  # one user: nothing is dropped
    assert (tmp_path / "told").read_text().splitlines() == [
        "add element inet sip banned { 192.0.2.7 timeout 3600s }",
        "add element inet sip banned6 { 2001:db8::/64 timeout 3600s }",
    ]


def test_nftables_file_has_the_sets_that_the_command_fills(tmp_path):
    text = text_of("text", "nftables.conf")
    assert text.count("{") == text.count("}")
    assert {"set banned {", "set banned6 {"} <= {line.strip() for line in text.splitlines()}
    if shutil.which("nft") is not None and os.geteuid() == 0:
        (tmp_path / "nftables.conf").write_text(text)
        command = ["nft", "--check", "--file", str(tmp_path / "nftables.conf")]
        assert subprocess.run(command, timeout=20, check=False).returncode == 0
