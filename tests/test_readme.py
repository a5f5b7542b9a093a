"""README.md and CONTRIBUTING.md: README's programs run, the map names every file. `tests/docs/` has the rest."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

import sippet_gevent

from .docs.blocks import BLOCKS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PACKAGE = ROOT / "sippet_gevent"


def test_readme_has_two_hundred_lines_at_most():
    assert len(README.splitlines()) <= 200


def test_readme_opens_with_two_commands_that_set_themselves_up():
    commands = re.findall(r"^ +(python3 -m venv .*)$", README, re.M)
    assert commands == [
        "python3 -m venv .venv && . .venv/bin/activate && pip install -q . && sippet serve",
        "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/python -m pytest",
    ]


def test_reception_passes_its_tests_as_they_are_pasted(pytester):
    pytester.makepyfile(reception=BLOCKS["reception"], test_reception=BLOCKS["test_reception"])
    installed = any(
        point.value == "sippet_gevent.testing" for point in entry_points(group="pytest11")
    )
    plugin = () if installed else ("-p", "sippet_gevent.testing")
    result = pytester.runpytest_subprocess(*plugin, "-p", "no:cacheprovider")
    result.assert_outcomes(passed=len(re.findall(r"^def test_", BLOCKS["test_reception"], re.M)))


def test_reception_has_about_twenty_lines():
    lines = BLOCKS["reception"].split("@stack")[1].splitlines()
    assert len(lines) <= 20


def test_map_names_every_file_of_the_package_where_it_is():
    lines = CONTRIBUTING.split("```text map\nsippet_gevent/\n")[1].split("```")[0].splitlines()
    named, folders = set(), []
    for line in lines:
        branch, name = re.match(r"([│├└─ ]*)(\S+)", line).groups()
        folders = folders[: len(branch) // 4 - 1]
        if name.endswith("/"):
            folders.append(name)
            continue
        named.add("".join(folders) + name)
        assert len(line.split(name, 1)[1]) > 12 or name == "__init__.py", f"{line}: says nothing"
    there = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".c", ".typed")
    }
    assert named == there


def test_package_has_a_licence_and_a_changelog_of_this_version():
    assert f"## [{sippet_gevent.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "BSD 3-Clause" in (ROOT / "LICENSE").read_text("utf-8")
