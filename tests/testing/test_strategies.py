"""Hypothesis strategies for tests of applications: they respect their arguments, and are optional."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import sippet_gevent
from sippet_gevent import ParseError, Request, Response
from sippet_gevent.message.fields.table import HeaderFields
from sippet_gevent.message.parser import parse
from sippet_gevent.testing import damage, strategies

from ..conformance import corpus

few = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def run(code: str) -> subprocess.CompletedProcess[str]:
    path = {"PYTHONPATH": str(Path(sippet_gevent.__file__).parent.parent)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, env=path
    )


def test_fixture_needs_no_hypothesis():
    assert (
        run("import sys, sippet_gevent.testing; sys.exit('hypothesis' in sys.modules)").returncode
        == 0
    )


def test_strategies_without_hypothesis_say_what_to_install():
    ended = run(
        "import sys; sys.modules['hypothesis'] = None; import sippet_gevent.testing.strategies"
    )
    assert ended.stderr.splitlines()[-1].endswith("pip install 'sippet-gevent[test]'")


# ---- options


@few
@given(
    strategies.request(
        method="INVITE", uri="sip:bob@example.com", body=b"hello", contact="<sip:a@192.0.2.1>"
    )
)
def test_request_has_the_given_values(request):
    assert (request.method, request.uri_text, request.body, str(request.contact[0])) == (
        *("INVITE", "sip:bob@example.com", b"hello"),
        "<sip:a@192.0.2.1>",
    )


@few
@given(strategies.request(method=st.sampled_from(["INFO", "BYE"]), max_forwards=None))
def test_arguments_may_be_strategies_and_none_leaves_a_header_out(request):
    assert request.method in ("INFO", "BYE") and request.max_forwards is None


@few
@given(strategies.response(status=404, method="BYE", extra=0))
def test_response_has_the_given_values(response):
    assert (response.status, response.cseq.method) == (404, "BYE")


@few
@given(
    strategies.sip_uri(
        schemes=["sips"], hosts=st.just("example.com"), users=st.just("bob"), plain=True
    )
)
def test_uri_has_the_given_values(uri):
    assert (uri.scheme, uri.host, uri.user, len(uri.parameters), len(uri.headers)) == (
        "sips",
        "example.com",
        "bob",
        0,
        0,
    )


@few
@given(
    st.sampled_from([(True, True), (False, False), ("x", True)]).flatmap(
        lambda case: st.tuples(st.just(case), strategies.name_addr(tag=case[0]))
    )
)
def test_address_has_the_given_tag(drawn):
    (asked, has_one), address = drawn
    assert (address.tag is not None) is has_one and (asked in (True, False) or address.tag == asked)


@few
@given(strategies.message())
def test_message_is_a_request_or_a_response(message):
    assert isinstance(message, (Request, Response))


# ---- values


class Pair(NamedTuple):
    """The value of a header field of an application."""

    name: str
    number: int
    note: str | None = None

    @classmethod
    def parse(cls, text: str) -> Pair:
        name, number, note = text.split(" ")
        return cls(name, int(number), None if note == "-" else note[1:])

    def __str__(self) -> str:
        return f"{self.name} {self.number} {'-' if self.note is None else '+' + self.note}"


class Even(int):
    @classmethod
    def parse(cls, text: str) -> Even:
        if int(text) % 2:
            raise ParseError("odd", value=text)
        return cls(text)


@few
@given(st.data())
@pytest.mark.parametrize("kind", [Pair, Even])
def test_type_of_an_application_has_values_by_its_shape(kind, data):
    value = data.draw(strategies.value_of(kind))
    assert isinstance(value, kind) and kind.parse(str(value)) == value


def test_type_without_a_shape_asks_for_a_strategy():
    with pytest.raises(LookupError, match="no strategy for <class 'object'>: add"):
        strategies.value_of(object)


@few
@given(strategies.header_values("m") | strategies.header_values(HeaderFields.contact))
def test_header_is_named_in_any_way(value):
    assert value and isinstance(value, tuple)


def test_unknown_header_is_refused():
    with pytest.raises(LookupError):
        strategies.header_values("X-Unheard-Of")


# ---- damage


def is_refused(data: bytes) -> bool:
    try:
        parse(data)
    except ParseError:
        return True
    return False


@pytest.mark.parametrize("name", damage.DAMAGES)
def test_each_damage_breaks_some_messages(name):
    refused = []

    @settings(few, phases=[Phase.generate], derandomize=True)
    @given(strategies.mangled(of=st.just(corpus.OPTIONS), damages=[name], most=1))
    def draw(data):
        refused.append(is_refused(data))

    draw()
    assert any(refused)


@few
@given(strategies.mangled(of=st.just(b""), damages=damage.DAMAGES))
def test_empty_data_can_be_damaged(data):
    assert isinstance(data, bytes)


@pytest.mark.rfc("3261 20.10")
def test_addresses_are_drawn_with_and_without_brackets():
    drawn = []

    @settings(few, max_examples=200, phases=[Phase.generate], derandomize=True, database=None)
    @given(strategies.header_texts("Contact", max_size=1))
    def draw(text):
        drawn.append(text)

    draw()
    bare = [text for text in drawn if "<" not in text.partition(";")[0]]
    quoted = "".join(text.partition('"')[2].rpartition('"')[0] for text in bare)
    assert len(bare) > 5 and len(drawn) - len(bare) > 5
    assert set(quoted) >= set("<>")


def test_header_that_needs_brackets_is_drawn_with_them():
    @few
    @given(strategies.header_texts("Route"))
    def holds(text):
        assert "<" in text

    holds()
