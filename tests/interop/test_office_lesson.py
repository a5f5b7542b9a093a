"""The lesson "An office with passwords and a trunk": its commands and its file, with two baresips that call each other."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import time

import pytest

from tests.docs.blocks import DOCS, NAMED
from tests.ports import free_port

from ..programs import PATIENCE, SIPPET, Server
from .test_baresip import CONFIG, MODULES

pytest_plugins = ["tests.programs"]

PAGE = (DOCS / "tutorial" / "office.md").read_text("utf-8")

PASSWORDS = {"alice": "wZ3-first", "bob": "wZ3-second"}

MOST_SECONDS = 300


def commands():
    """Return the commands of the first block of the lesson that adds users."""
    return re.search(r"```sh\n(sippet user add.*?)```", PAGE, re.S)[1].splitlines()


@pytest.mark.rfc("3261 22.4")
def test_two_phones_of_the_lesson_call_each_other_with_passwords(need, run, popen, tmp_path):
    need("baresip")
    started = time.monotonic()
    # port 5060 may be taken on the machine of the test
    port = free_port()
    address = f"127.0.0.1:{port}"
    settings = NAMED["toml", "office_md5"][0].text + NAMED["toml", "office"][0].text
    assert "192.0.2.10:5060" in settings
    (tmp_path / "sippet.toml").write_text(settings.replace("192.0.2.10:5060", address))
    *users, check, serve = [shlex.split(line)[1:] for line in commands()]
    for words in users:
        password = PASSWORDS[words[2].partition("@")[0]]
        process = popen(*words, stdin=subprocess.PIPE)
        process.communicate(f"{password}\n".encode(), timeout=PATIENCE)
        assert process.returncode == 0
    process = popen(*check)
    assert process.wait(PATIENCE) == 0
    server = run(*serve[1:], kind=Server)
    server.wait_for("passwords: users=2 realm=office.example")
    # the line of the page, with the password and our ports
    (line,) = NAMED["text", "accounts"][0].text.splitlines()
    phones, control = {}, {name: free_port() for name in PASSWORDS}
    for name, password in PASSWORDS.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config").write_text(
            CONFIG.format(user=name, control=control[name], modules=MODULES, ca="", more="")
        )
        account = line.replace("PASSWORD", password).replace("192.0.2.10", address)
        answers = ";answermode=auto" if name == "bob" else ""
        (folder / "accounts").write_text(f"{account.replace('alice', name)}{answers}\n")
        (folder / "contacts").touch()
        phones[name] = run("baresip", "-f", folder)
    for name in PASSWORDS:
        server.wait_for(f"registration made: aor=sip:{name}@office.example")
    text = json.dumps({"command": "dial", "params": "sip:bob@office.example"})
    with socket.create_connection(("127.0.0.1", control["alice"]), timeout=PATIENCE) as menu:
        menu.sendall(f"{len(text)}:{text},".encode())
        for phone in phones.values():
            phone.wait_for("Call established")
    assert time.monotonic() - started < MOST_SECONDS
    print(f"seconds from an empty folder to a call: {time.monotonic() - started:.1f}")


def test_register_command_of_the_lesson_succeeds(run, popen, tmp_path):
    (tmp_path / "sippet.toml").write_text(
        'domains = ["office.example"]\nusers = { alice = "secret" }\n'
        '[[listen]]\naddress = "udp:127.0.0.1:0"\n'
    )
    server = run("--config", "sippet.toml", kind=Server)
    (line,) = re.findall(r"^sippet (register .*)$", PAGE, re.M)
    words = shlex.split(line.replace("sip:192.0.2.10", server.uri))
    process = popen(*words, "--password-stdin", stdin=subprocess.PIPE)
    process.communicate(b"secret\n", timeout=PATIENCE)
    assert process.returncode == 0
    assert SIPPET
