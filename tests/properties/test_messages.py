"""What holds of every message and value there is: drawn by the strategies that applications test with, too."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sippet_gevent.errors import ParseError
from sippet_gevent.message.header import ROWS
from sippet_gevent.message.parser import parse
from sippet_gevent.message.uri import URI
from sippet_gevent.testing import strategies

from ..conformance import corpus
from ..fuzz import oracle
from ..message.test_twins import built, differences, disagreement

# A value may be drawn, and thrown away, often; that is no fault of the test's.
steady = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


# ---- messages


@steady
@given(strategies.message())
def test_message_is_read_as_it_was_written(message):
    assert parse(bytes(message)) == message


@steady
@given(strategies.message())
def test_message_that_was_read_has_the_values_it_was_written_with(message):
    names = [name for name in message.headers if name in ROWS]
    again = parse(bytes(message))
    assert [again.headers.typed(ROWS[name]) for name in names] == [
        message.headers.typed(ROWS[name]) for name in names
    ]


@pytest.mark.rfc("3261 16.6")
@steady
@given(strategies.spelled())
def test_untouched_message_goes_out_byte_for_byte(data):
    assert bytes(parse(data)) == data


@pytest.mark.rfc("3261 7.3.1")
@steady
@given(st.data())
def test_spelling_changes_no_value(data):
    message = data.draw(strategies.message())
    names = [name for name in message.headers if name in ROWS]
    spelled = parse(data.draw(strategies.spelled(st.just(message))))
    assert [spelled.headers.typed(ROWS[name]) for name in names] == [
        message.headers.typed(ROWS[name]) for name in names
    ]


@pytest.mark.rfc("3261 8.2.6")
@steady
@given(strategies.request(), st.integers(100, 699))
def test_every_request_gets_a_response_that_parses(request, status):
    assert parse(bytes(request.response(status))).cseq == request.cseq


@pytest.mark.rfc("3261 9.1")
@steady
@given(strategies.request(method="INVITE"))
def test_cancel_of_every_invite_parses(request):
    assert parse(bytes(request.cancel())).via == request.via[:1]


# ---- values


@pytest.mark.parametrize("name", sorted(ROWS))
def test_type_of_every_header_has_a_strategy(name):
    kind = ROWS[name].type
    assert kind in strategies.VALUES, (
        f"add a strategy for {kind.__name__} to VALUES in sippet_gevent/testing/strategies.py"
    )


@pytest.mark.parametrize("name", sorted(ROWS))
def test_value_of_every_header_is_read_as_it_was_written(name):
    row = ROWS[name]

    @settings(steady, max_examples=25)
    @given(strategies.header_values(row))
    def holds(value):
        assert row.read(row.write(value)) == value

    holds()


@pytest.mark.parametrize("name", sorted(ROWS))
def test_text_of_every_header_is_written_as_it_was_read(name):
    row = ROWS[name]

    @settings(steady, max_examples=25)
    @given(strategies.header_texts(row))
    def holds(text):
        value = row.read([text])
        assert row.read(row.write(value)) == value

    holds()


@pytest.mark.rfc("3261 19.1.2")
@steady
@given(strategies.uri())
def test_uri_is_read_as_it_was_written(uri):
    assert URI.parse(str(uri)) == uri


@pytest.mark.rfc("3261 19.1.4")
@steady
@given(strategies.uri())
def test_uri_is_equivalent_to_itself(uri):
    assert uri.equivalent(str(uri))


# ---- messages that something has happened to


@steady
@given(strategies.mangled())
@example(b"")
def test_nothing_but_a_parse_error_comes_of_a_mangled_message(data):
    try:
        message = parse(data)
        for name in message.headers:
            message.headers.get_header(name)
    except ParseError:
        pass


@built
@steady
@given(strategies.mangled())
def test_twins_agree_on_mangled_messages(data):
    assert not differences([data])


@built
@steady
@given(strategies.spelled())
def test_twins_agree_on_messages_in_odd_spellings(data):
    assert not differences([data])


@built
@steady
@given(strategies.spelled())
def test_both_mandatory_readers_agree_on_messages_in_odd_spellings(data):
    assert disagreement(data) is None


@built
@steady
@given(strategies.mangled(of=st.just(corpus.OPTIONS)))
def test_both_mandatory_readers_agree_on_mangled_messages(data):
    assert disagreement(data) is None


@settings(steady, max_examples=50)
@given(strategies.mangled())
def test_all_rules_for_any_bytes_hold_for_a_mangled_message(data):
    oracle.check(data, patience=4.0, thorough=False)
