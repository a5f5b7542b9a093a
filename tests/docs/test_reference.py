"""The reference pages: counters are explained, and the pages made from the package have all of it."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import fields

import pytest

import sippet_gevent
from sippet_gevent import Limits, Stack, StreamLimits, Timers

from .blocks import DOCS


@pytest.fixture(scope="module")
def pages():
    sys.path.insert(0, str(DOCS / "_extension"))
    try:
        yield {
            name: "\n".join(lines)
            for name, lines in importlib.import_module("pages").pages().items()
        }
    finally:
        sys.path.remove(str(DOCS / "_extension"))


def test_counters_page_explains_all_statistics():
    page = (DOCS / "reference" / "counters.md").read_text("utf-8")
    stats = Stack("udp:127.0.0.1:0").stats()
    assert [name for name in stats if f"`{name}`" not in page] == []


def test_number_of_header_fields_is_the_same_on_all_pages(pages):
    quoted = {
        number
        for page in (DOCS.parent / "README.md", DOCS / "howto" / "bodies.md")
        for number in re.findall(
            r"\b(\d+)\s+(?:header fields|of\s+them\]\(\.\./reference/generated/headers)",
            page.read_text("utf-8"),
        )
    }
    assert quoted == set(re.findall(r"Each of these (\d+) header fields", pages["headers"]))


def test_api_pages_have_every_public_name(pages):
    text = "".join(pages.values())
    missing = [
        name
        for name in sippet_gevent.__all__
        if f":: {name}\n" not in text and f"``{name}`` is a module" not in text
    ]
    assert not missing


@pytest.mark.parametrize("name", ["Account", "Headers", "Registration", "Stack"])
def test_api_page_has_the_methods_of_bases_without_a_public_name(pages, name):
    text = "".join(pages.values())
    assert f".. autoclass:: {name}\n   :inherited-members:\n" in text


def test_header_page_has_every_header_field(pages):
    from sippet_gevent.message.fields.table import HeaderFields

    names = [name for name, value in vars(HeaderFields).items() if type(value).__name__ == "Header"]
    assert len(names) == 125
    page = pages["headers"]
    assert [name for name in names if f"``{name}``" not in page] == []
    rows = page.split("   * - ``")[1:]
    assert all("RFC " in row or "3GPP" in row or "ETSI" in row for row in rows)


def test_limits_page_has_every_limit_with_its_meaning(pages):
    for kind in (Limits, StreamLimits, Timers):
        for field in fields(kind):
            if field.init:
                assert f"* - ``{field.name}``" in pages["limits"]


def test_conformance_page_names_the_rfcs(pages):
    for title in ("RFC 3261: SIP", "RFC 5626: ", "RFC 3263: "):
        assert title in pages["conformance"]
    unnamed = [
        line
        for line in pages["conformance"].splitlines()
        if line.startswith("RFC ") and line[4].isdigit() and ":" not in line
    ]
    assert not unnamed, "add their titles to docs/_extension/rfc_titles.py"


def test_command_page_has_every_verb(pages):
    for verb in ("serve", "user", "call", "ping", "parse"):
        assert f"sippet {verb}\n" in pages["command"]
