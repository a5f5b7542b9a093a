"""The blocks themselves: each Python block has a test, commands exist, configuration files are read by their programs."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from sippet_gevent import Call, Flow, Location, ResponseContext, ServerTransaction, Stack, sdp
from sippet_gevent import __main__ as main
from sippet_gevent.command.settings import Settings
from sippet_gevent.testing import Sip, strategies

from .blocks import ALL, BLOCKS, DOCS, NAMED, PAGES, ROOT, of_language

PACKAGE = ROOT / "sippet_gevent"


# ---- Python


def test_every_python_block_has_a_name_and_a_test():
    assert all(block.name for block in of_language("python"))
    source = "".join(path.read_text("utf-8") for path in (ROOT / "tests").glob("docs/*.py"))
    source += (ROOT / "tests" / "test_readme.py").read_text("utf-8")
    uses = ('block("{}"', 'run_script("{}"', 'BLOCKS["{}"]')
    untested = [name for name in BLOCKS if not any(use.format(name) in source for use in uses)]
    assert not untested


def test_blocks_with_one_name_have_one_text():
    differ = [
        (block.page, block.name)
        for found in NAMED.values()
        for block in found
        if block.name and block.text != found[0].text
    ]
    assert not differ


def test_indented_blocks_are_commands():
    others = []
    for path in PAGES:
        prose = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)
        for line in re.findall(r"^    (?! )(?:- |\* )?(\S.*)$", prose, re.M):
            if not re.match(r"(python3?|sippet|@pytest\.mark\.rfc\() ?", line):
                others.append(f"{path.relative_to(ROOT)}: {line}")
    assert not others, "write a fence with a name, and test it"


def test_every_fence_has_a_language_that_is_checked():
    known = {"python", "sh", "text", "log", "ini", "nginx", "dockerfile", "toml"}
    assert {block.language for block in ALL} <= known
    for path in PAGES:
        fences = re.findall(r"^```(.*)$", path.read_text("utf-8"), re.M)
        opened = [fence for fence in fences if fence]
        assert len(opened) * 2 == len(fences), f"{path}: a fence has no language"


# ---- commands


def commands():
    """Return page and command of each line of a shell block, and of each indented one."""
    found = []
    for block in of_language("sh"):
        found += [(block.page, line) for line in block.text.splitlines() if line.strip()]
    for path in PAGES:
        for line in re.findall(r"^    (\S*(?:sippet|python3?) .*)$", path.read_text("utf-8"), re.M):
            if " = " not in line:
                found.append((path.name, line))
    return found


@cache
def parser():
    make = next(getattr(main, name) for name in ("_parser", "parser") if hasattr(main, name))
    return make()


@cache
def help_of(script):
    command = [sys.executable, str(ROOT / script), "--help"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def parts(line):
    """Return the words of each simple command of a line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    found = [[]]
    for word in lexer:
        if set(word) <= set("&|;"):
            found.append([])
        else:
            found[-1].append(word)
    return found


@pytest.mark.parametrize("page, line", commands(), ids=lambda value: value[:60])
def test_command_is_one_that_exists(page, line):
    subprocess.run(["bash", "-n", "-c", line], check=True, timeout=20)
    for words in parts(line):
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        check_command(words)


def check_command(words):
    for arrow in (">", "<"):  # what follows is a file
        words = words[: words.index(arrow)] if arrow in words else words
    if not words:
        return
    program, *arguments = words
    program = program.removeprefix(".venv/bin/")
    if program == "sippet":
        check_sippet(arguments)
    elif (
        program in ("pip", "python", "python3") and arguments[:2] == ["-m", "pip"]
    ) or program == "pip":
        check_extras(arguments)
    elif program in ("python", "python3") and arguments and arguments[0].endswith(".py"):
        check_script(*arguments)
    elif program in ("python", "python3"):
        assert arguments[0] == "-m", words
        assert arguments[1] in ("venv", "pytest", "ruff", "mypy", "sphinx", "gevent.monkey"), words
        check_paths(arguments[2:])


def check_sippet(arguments):
    try:
        parser().parse_args(arguments)
    except SystemExit as stop:
        assert stop.code == 0, f"sippet {shlex.join(arguments)}: see sippet --help"


def check_extras(arguments):
    setup = (ROOT / "setup.py").read_text("utf-8")
    for word in arguments:
        for extra in re.findall(r"[\w.-]+\[([\w,]+)\]", word):
            for name in extra.split(","):
                assert f'"{name}":' in setup, f"setup.py has no extra {name}"


def check_script(script, *arguments):
    if script == "hello.py":  # what the tutorial has saved
        return
    assert (ROOT / script).exists(), script
    for option in arguments:
        assert not option.startswith("-") or option in help_of(script), f"{script} has no {option}"


def check_paths(arguments):
    for word in arguments:
        if word.startswith(("tests/", "docs/")) and "_build" not in word:
            assert (ROOT / word).exists(), word


def test_readme_shows_examples_of_the_help():
    examples = {re.split(r"  +", line.strip())[0] for line in main.EXAMPLES.splitlines()[1:]}
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.split("## The command")[1].split("```")[1]
    shown = {line.partition("#")[0].strip() for line in section.splitlines()[1:]}
    assert len(shown) >= 5
    assert shown <= examples


# ---- log lines


def test_log_lines_begin_as_those_of_the_package():
    source = "".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    lines = [line for block in of_language("log") for line in block.text.splitlines()]
    assert lines
    for line in lines:
        event = re.split(r"[:=]| \d| of \d", line)[0].split(" a message")[0]
        assert event in source, f"no log line begins with {event!r}"


# ---- configuration files


def config(language, name):
    (found,) = NAMED[language, name]
    return found.text


def test_systemd_unit_is_read_by_systemd(tmp_path):
    text = config("ini", "sippet.service")
    command = re.search(r"^ExecStart=\S+/sippet (.*)$", text, re.M)[1]
    check_sippet(shlex.split(command))
    drain = Settings().drain
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", text, re.M)[1]) > drain
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "sippet.service"
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.M))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert str(unit) not in done.stderr and "sippet.service" not in done.stderr, done.stderr


INSTRUCTIONS = {
    "FROM",
    "COPY",
    "RUN",
    "WORKDIR",
    "USER",
    "EXPOSE",
    "STOPSIGNAL",
    "ENTRYPOINT",
    "CMD",
}


def test_dockerfile_runs_what_the_command_knows():
    lines = [line.partition(" ") for line in config("dockerfile", "Dockerfile").splitlines()]
    assert {name for name, _, _ in lines} <= INSTRUCTIONS
    assert lines[0][0] == "FROM"
    values = {name: value for name, _, value in lines}
    program, *arguments = json.loads(values["ENTRYPOINT"]) + json.loads(values["CMD"])
    assert program == "sippet"
    check_sippet(arguments)


def test_kamailio_configuration_is_read_by_kamailio(tmp_path):
    path = tmp_path / "kamailio.cfg"
    path.write_text(config("text", "kamailio.cfg"), "utf-8")
    kamailio = shutil.which("kamailio") or "/usr/sbin/kamailio"
    if not Path(kamailio).exists():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            "kamailio is not installed"
        )
    done = subprocess.run(
        [kamailio, "-c", "-f", str(path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr


DIRECTIVES = {
    "events", "http", "stream", "server", "location", "listen", "server_name", "root",
    "ssl_certificate", "ssl_certificate_key", "proxy_pass", "proxy_protocol", "proxy_timeout",
    "proxy_http_version", "proxy_set_header", "proxy_read_timeout",
}  # fmt: skip
"""Those of nginx that the guide uses, by its reference."""


@pytest.mark.parametrize("name", ["stream", "http"])
def test_nginx_configuration_is_well_formed(name, tmp_path):
    text = config("nginx", name)
    depth = 0
    for statement in re.findall(r"[^;{}]+[;{]|\}", text):
        statement = statement.strip()
        if statement == "}":
            depth -= 1
            assert depth >= 0
            continue
        assert statement.split()[0].rstrip("{;") in DIRECTIVES, statement
        depth += statement.endswith("{")
    assert depth == 0 and text.rstrip().endswith("}")
    nginx = shutil.which("nginx")
    if nginx is not None:
        trustme = pytest.importorskip("trustme")
        certificate = trustme.CA().issue_cert("phone.example.com")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
        certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
        path = tmp_path / "nginx.conf"
        path.write_text(text.replace("/etc/ssl/phone", str(tmp_path)), "utf-8")
        subprocess.run(
            [nginx, "-t", "-c", str(path), "-p", str(tmp_path)],
            capture_output=True, check=True, timeout=30,
        )  # fmt: skip


# ---- links


def test_links_lead_somewhere():
    lost = []
    for path in PAGES:
        text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            target = link.partition("#")[0]
            if link.startswith(("https://", "#")) or "/generated/" in f"/{target}":
                continue
            if not (path.parent / target).exists():
                lost.append(f"{path.relative_to(ROOT)}: {link}")
    assert not lost


def test_files_that_pages_name_exist():
    lost = []
    for path in PAGES:
        for name in re.findall(
            r"`([\w/.]+/[\w.]+\.(?:py|c|md|toml|cfg))`", path.read_text("utf-8")
        ):
            if not name.startswith("/") and not any(
                (folder / name).exists() for folder in (ROOT, PACKAGE)
            ):
                lost.append(f"{path.relative_to(ROOT)}: {name}")
    assert not lost


OBJECTS = {
    "tx": ServerTransaction,
    "stack": Stack,
    "call": Call,
    "flow": Flow,
    "sip": Sip,
    "context": ResponseContext,
    "location": Location,
    "sdp": sdp,
    "strategies": strategies,
}
"""What the pages call the objects of the library."""


OTHERS = {"py", "service", "pcap", "example", "office", "host", "search"}
"""Files and host names that look like attributes, and what is JavaScript's."""


def has(thing, name):
    """Return True for an attribute of a class or module, also for one that instances get."""
    if hasattr(thing, name):
        return True
    kinds = getattr(thing, "__mro__", ())[:-1]
    return any(
        name in getattr(kind, "__annotations__", {}) or f"self.{name}" in inspect.getsource(kind)
        for kind in kinds
    )


def test_attributes_that_pages_name_exist():
    lost = []
    for path in PAGES:
        for name, attribute in re.findall(
            rf"(?<![\w.$/])({'|'.join(OBJECTS)})\.([a-z]\w*)\b(?!\.py)", path.read_text("utf-8")
        ):
            if not has(OBJECTS[name], attribute) and attribute not in OTHERS:
                lost.append(f"{path.relative_to(ROOT)}: {name}.{attribute}")
    assert not lost


def test_every_page_is_in_a_table_of_contents():
    listed = set()
    for path in DOCS.rglob("*.md"):
        for names in re.findall(
            r"^```\{toctree\}\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S
        ):
            for name in names.splitlines():
                if name and not name.startswith(":"):
                    listed.add((path.parent / f"{name}.md").resolve())
    pages = {path for path in DOCS.rglob("*.md") if "_build" not in path.parts}
    assert {path.resolve() for path in pages} - listed == {DOCS / "index.md"}


def test_generated_pages_exist_for_each_link():
    sys.path.insert(0, str(DOCS / "_extension"))
    try:
        import pages
    finally:
        sys.path.pop(0)
    made = pages.pages()
    for path in PAGES:
        for name in re.findall(r"generated/(\w+)", path.read_text("utf-8")):
            assert name in made, f"{path.name} names a page that is not made: {name}"
