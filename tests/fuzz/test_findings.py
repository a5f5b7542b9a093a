"""What the fuzz targets found stays mended: each byte string in findings/ is put to the oracle again.

Also that the oracle covers _speedups.c, and that what it says has a shape that run.py can name files after.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from ..conformance import corpus
from ..message.test_twins import built, c
from . import oracle

FINDINGS = sorted((Path(__file__).parent / "findings").glob("*.bin"))


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_finding_is_mended(path):
    oracle.check(path.read_bytes(), patience=3.0)


def test_findings_are_small():
    assert not [path.name for path in FINDINGS if path.stat().st_size > 65536]


@pytest.mark.timeout(300)  # it takes 45 seconds of processor time
@corpus.needed
def test_everything_holds_of_every_message_of_the_corpus():
    found = []
    for row in corpus.datagrams():
        try:
            oracle.check(row.data, patience=4.0, thorough=False)
        except oracle.Finding as finding:
            found.append((row.file, str(finding)))
    assert not found


@built
def test_every_function_of_the_c_twin_is_fed_by_the_oracle():
    functions = {
        name
        for name, value in vars(c).items()
        if inspect.isbuiltin(value) and not name.startswith("setup_")
    }
    assert functions == oracle.ENTRIES.keys() | oracle.NOT_FED, (
        "add a row to ENTRIES, or to NOT_FED what no bytes reach"
    )


def test_difference_of_twins_is_a_finding_with_its_bytes(monkeypatch):
    monkeypatch.setattr(oracle.corpus, "forwarded", bytes.upper)
    with pytest.raises(oracle.Finding) as caught:
        oracle.check(corpus.OPTIONS)
    assert (caught.value.what, caught.value.data) == (
        "untouched message is changed",
        corpus.OPTIONS,
    )


def test_time_that_is_not_linear_is_a_finding():
    with pytest.raises(oracle.Finding, match=r"^work takes too long: "):
        oracle.timed("work", b"", lambda: re.fullmatch(r"(a+)+b", "a" * 22), 1.0)


def test_minimised_bytes_are_the_least_that_fail():
    assert (
        oracle.minimised(
            b"some bytes with a < and a > in them", lambda data: b"<" in data and b">" in data
        )
        == b"<>"
    )


def test_stretched_bytes_are_as_many_as_asked_for():
    assert 7990 < len(oracle.stretched(corpus.OPTIONS, 8000, oracle.random.Random(1))) <= 8000
