"""CR, LF and NUL never get out through the API: whatever is set is refused, or escaped, and a refusal changes nothing."""

from datetime import datetime, timezone

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from sippet_gevent.errors import InvalidValue, ParseError, Reject
from sippet_gevent.message.address import NameAddr
from sippet_gevent.message.fields.authentication import AuthParameters, Challenge
from sippet_gevent.message.fields.base import LinkParameters
from sippet_gevent.message.fields.extensions import (
    AlertMsgError,
    ContentID,
    PolicyID,
    ResourcePriority,
    UserToUser,
)
from sippet_gevent.message.fields.history import HistoryInfo
from sippet_gevent.message.fields.identity import Identity, Privacy
from sippet_gevent.message.fields.p_headers import (
    LAES,
    ChargingVector,
    LAESParameters,
    ResponseSource,
)
from sippet_gevent.message.fields.replaces import Replaces, SessionID
from sippet_gevent.message.fields.rfc3261 import (
    CallID,
    CallInfo,
    CSeq,
    MediaRange,
    MediaType,
    RAck,
    RetryAfter,
    SessionExpires,
    Text,
    Timestamp,
    Token,
    Valued,
    Warning,
)
from sippet_gevent.message.header import ONE, ROWS, Header
from sippet_gevent.message.message import Message, Request, Response
from sippet_gevent.message.parameters import Parameters, URIHeaders, URIParameters
from sippet_gevent.message.parser import parse
from sippet_gevent.message.uri import URI
from sippet_gevent.message.via import Via

from ..conformance import corpus

ROWS_BY_ATTRIBUTE = {name: row for name, row in vars(Message).items() if isinstance(row, Header)}

# Text with what breaks lines, what does not but looks so to careless code, separators, and what is no Unicode at all.
CHARACTERS = st.one_of(
    st.sampled_from(
        '\r\n\0\r\n\x0b\x0c\x1c\x85\u2028\u2029 \t;,:<>@"\\%()=?&/[]éa1\udc80\udcff\ud800'
    ),
    st.characters(),
)
ANY_TEXT = st.text(CHARACTERS, max_size=12)
BREAKS = st.sampled_from(
    [
        "\r",
        "\n",
        "\0",
        "\r\n",
        "\r\n ",
        "\r\nX-Evil: 1",
        "\r\n\r\nOPTIONS sip:evil SIP/2.0\r\n",
        "\n\n",
    ]
)
EVIL = st.tuples(ANY_TEXT, BREAKS, ANY_TEXT).map("".join)

LIKELY = {
    "accept": "a/b", "authorization": 'Digest realm="a"', "call_id": "a@b", "contact": "<sip:a@b>", "content_length": "1",
    "content_type": "a/b",
    "cseq": "1 OPTIONS", "date": "Sat, 13 Nov 2010 23:29:00 GMT", "expires": "1", "from_": '"A" <sip:a@b>;tag=1',
    "history_info": "<sip:a@b>",
    "max_breadth": "1", "max_forwards": "1", "mime_version": "1.0", "min_expires": "1", "min_se": "1", "rack": "1 1 INVITE",
    "retry_after": "1 (x);y=1",
    "route": "<sip:a@b;lr>", "rseq": "1", "session_expires": "1", "timestamp": "1", "to": "sip:a@b",
    "via": "SIP/2.0/UDP a;branch=1", "warning": '301 a "b"',
    "accept_contact": '*;x="y"', "alert_info": "<http://a>;x=y", "alertmsg_error": '100;message="x"', "content_id": "<a@b>",
    "event": "a.b;id=1", "feature_caps": '*;+x="y"', "geolocation": "<cid:a@b>", "geolocation_error": '100;code="x"',
    "identity": "..a;info=<http://a>", "identity_info": "<http://a>", "join": "a;to-tag=1;from-tag=2",
    "p_asserted_service": "urn:urn-7:a", "p_charging_function_addresses": 'ccf="a"', "p_charging_vector": 'icid-value="a"',
    "p_dcs_billing_info": "1/1@a;charge=\"sip:a\"", "p_dcs_laes": "a:1;content=b:2", "p_dcs_redirect": '"sip:a";count=1',
    "p_refused_uri_list": "<sip:a>;members=<cid:a@b>", "p_user_database": "<aaa://a>", "p_visited_network_id": '"a b";x=y',
    "policy_contact": "<sip:a>;alt-uri=b", "policy_id": "sip:a;token=b", "privacy": "id;user", "refer_events_at": "<sip:a>",
    "refer_sub": "true;x=y", "replaces": "a;to-tag=1;from-tag=2", "resource_priority": "a.b", "response_source": "fe=<urn:a>",
    "session_id": f"{'0' * 32};remote={'1' * 32}", "target_dialog": "a;local-tag=1;remote-tag=2",
    "trigger_consent": 'sip:a;target-uri="sip:b"', "user_to_user": '"a";encoding=x',
}  # fmt: skip

few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
some = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def request() -> Request:
    return Request(
        "OPTIONS",
        "sip:bob@example.com",
        via="SIP/2.0/UDP a;branch=z9hG4bK1",
        subject="before",
        contact="<sip:a@b>",
    )


def is_whole(message: Message) -> bool:
    """True when the wire form has one line for each header and nothing between them."""
    head, blank, body = bytes(message).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    counted = "Content-Length" not in message.headers
    clean = not any(octet in line for line in lines for octet in (b"\r", b"\n", b"\0"))
    return (
        bool(blank)
        and clean
        and body == message.body
        and len(lines) == 1 + len(message.headers) + counted
    )


def refused_or_whole(message: Message, change, *arguments, **named) -> bool:
    """True when a change is made and breaks nothing, or is refused and has changed nothing."""
    before = bytes(message)
    try:
        change(*arguments, **named)
    except (InvalidValue, ParseError):
        return bytes(message) == before
    return is_whole(message)


# ---- text


@some
@given(evil=EVIL, at=st.integers(0, 40))
def test_no_header_takes_a_line_break(evil, at):
    taken = []
    for attribute in ROWS_BY_ATTRIBUTE:
        likely = LIKELY.get(attribute, "a")
        try:
            setattr(
                request(),
                attribute,
                likely[: at % (len(likely) + 1)] + evil + likely[at % (len(likely) + 1) :],
            )
        except InvalidValue:
            continue
        taken.append(attribute)
    assert not taken


@some
@given(text=ANY_TEXT)
def test_every_header_takes_text_whole_or_not_at_all(text):
    broken = []
    for attribute in ROWS_BY_ATTRIBUTE:
        message = request()
        if not refused_or_whole(message, setattr, message, attribute, text):
            broken.append(attribute)
    assert not broken


@some
@given(text=ANY_TEXT)
def test_value_that_a_header_accepted_can_be_read(text):
    for attribute in ROWS_BY_ATTRIBUTE:
        message = request()
        try:
            setattr(message, attribute, text)
        except InvalidValue:
            continue
        getattr(message, attribute)


@some
@given(text=ANY_TEXT)
def test_every_list_takes_several_texts_whole_or_not_at_all(text):
    broken = []
    for attribute, row in ROWS_BY_ATTRIBUTE.items():
        message = request()
        texts = (LIKELY.get(attribute, "a"), text)
        if row.kind is not ONE and not refused_or_whole(
            message, setattr, message, attribute, texts
        ):
            broken.append(attribute)
    assert not broken


@some
@given(name=st.one_of(st.sampled_from(["Subject", "X-Odd", "via"]), ANY_TEXT), value=ANY_TEXT)
@example(name="X-Odd", value="a\r\nX-Evil: 1")
@example(name="X-Odd\r\nX-Evil", value="1")
@example(name="X-Odd: 1\r\nX-Evil", value="1")
@example(name="X-Odd", value="\ud800")
def test_raw_access_takes_text_whole_or_not_at_all(name, value):
    assume(
        name.lower() not in ("l", "content-length")
    )  # which says something of the whole: see below
    message = request()
    assert refused_or_whole(message, message.headers.__setitem__, name, value)


@some
@given(
    name=st.one_of(st.sampled_from(["Subject", "X-Odd", "via"]), ANY_TEXT),
    value=ANY_TEXT,
    first=st.booleans(),
)
@example(name="X-Odd", value="a\n", first=True)
def test_added_lines_are_whole_or_refused(name, value, first):
    assume(
        name.lower() not in ("l", "content-length")
    )  # which says something of the whole: see below
    message = request()
    assert refused_or_whole(message, message.headers.add, name, value, first=first)


@pytest.mark.parametrize("length", ["", "x", "1", "-0", "٣", "9" * 5000])
def test_false_length_is_refused_when_the_message_is_written(length):
    message = request()
    message.headers["l"] = length
    with pytest.raises(InvalidValue, match="Content-Length"):
        bytes(message)


@pytest.mark.parametrize(
    ("length", "body"), [("0", b""), ("000", b""), ("003", b"abc"), ("3", b"abc")]
)
def test_true_length_may_be_written_by_hand(length, body):
    message = request()
    message.body = body
    message.headers["Content-Length"] = length
    assert bytes(message).endswith(b"\r\n\r\n" + body)


@some
@given(values=st.lists(ANY_TEXT, max_size=4))
def test_several_lines_at_once_are_whole_or_refused(values):
    message = request()
    assert refused_or_whole(message, message.headers.__setitem__, "X-Odd", values)


HELPERS = ["put_header", "put_new_header", "put_header_front", "put_header_back"]


@pytest.mark.parametrize("helper", HELPERS)
@few
@given(name=st.sampled_from(["Subject", "Contact", "Allow", "X-Odd", "Warning"]), value=ANY_TEXT)
def test_helper_puts_text_whole_or_not_at_all(helper, name, value):
    message = request()
    assert refused_or_whole(message, getattr(message.headers, helper), name, value)


@some
@given(text=EVIL)
def test_reason_phrase_takes_no_line_break(text):
    response = request().response(200)
    assert refused_or_whole(response, setattr, response, "reason", text) and response.reason == "OK"


@some
@given(text=EVIL)
def test_response_is_made_with_no_line_break_in_its_reason(text):
    with pytest.raises(InvalidValue):
        request().response(200, text)
    with pytest.raises(InvalidValue):
        Response(200, text)


@pytest.mark.parametrize("status", ["200\r\nX: 1", "200", None, 2.5, b"200"])
def test_status_that_is_no_number_never_gets_out(status):
    response = request().response(200)
    response.status = status
    with pytest.raises((TypeError, ValueError)):
        bytes(response)


@some
@given(text=st.one_of(EVIL, ANY_TEXT))
def test_method_takes_tokens_only(text):
    message = request()
    assert refused_or_whole(message, setattr, message, "method", text)


@some
@given(text=st.one_of(EVIL, ANY_TEXT))
@example("A\r\nX-Evil: 1\r\n")
def test_request_is_made_with_a_token_for_a_method(text):
    try:
        assert is_whole(Request(text, "sip:a@b"))
    except InvalidValue:
        pass


@some
@given(
    text=st.one_of(
        EVIL,
        ANY_TEXT,
        ANY_TEXT.map("sip:a@b;{}".format),
        ANY_TEXT.map("tel:1;{}".format),
        ANY_TEXT.map("x:{}".format),
    )
)
@example("sip:a@b SIP/2.0\r\nX-Evil: 1\r\n")
@example("sip:a@b\n")
def test_request_uri_is_whole_or_refused(text):
    message = request()
    assert refused_or_whole(message, setattr, message, "uri", text)


@some
@given(reason=st.one_of(st.none(), ANY_TEXT), value=ANY_TEXT)
def test_reject_with_line_breaks_makes_no_broken_answer(reason, value):
    refusal = Reject(403, reason, warning=value, server=value)
    try:
        assert is_whole(request().response(refusal.status, refusal.reason, **refusal.headers))
    except InvalidValue:
        pass


# ---- typed values


def made(make, *parts):
    """Values of these parts, in order, less those that the type itself refuses."""

    def attempt(drawn):
        try:
            return make(*drawn)
        except (InvalidValue, ParseError):
            return None

    return st.tuples(*parts).map(attempt).filter(lambda value: value is not None)


PAIRS = st.lists(
    st.tuples(
        st.one_of(ANY_TEXT, st.sampled_from(["x", "tag", "lr"])), st.one_of(ANY_TEXT, st.none())
    ),
    max_size=3,
)
PARAMETERS = made(Parameters, PAIRS)
MAYBE = st.one_of(st.none(), ANY_TEXT)
PORTS = st.one_of(st.none(), st.just(5060), st.integers(-1, 70000), ANY_TEXT)
HOSTS = st.one_of(st.sampled_from(["a", "example.com", "[::1]"]), ANY_TEXT)
URIS = st.one_of(
    made(
        URI,
        st.sampled_from(["sip", "sips"]),
        MAYBE,
        HOSTS,
        PORTS,
        made(URIParameters, PAIRS),
        made(URIHeaders, PAIRS),
        MAYBE,
    ),
    made(
        lambda user, parameters: URI("tel", user, parameters=parameters),
        st.one_of(st.just("+1"), MAYBE),
        made(URIParameters, PAIRS),
    ),
    made(
        lambda scheme, opaque: URI(scheme, opaque=opaque),
        st.one_of(st.just("urn"), ANY_TEXT),
        ANY_TEXT,
    ),
    ANY_TEXT,
)
A_URI = st.just(URI("sip", "a", "b"))

TYPED = {
    "from_": made(NameAddr, URIS, ANY_TEXT, PARAMETERS),
    "to": made(NameAddr, A_URI, ANY_TEXT, PARAMETERS),
    "contact": made(NameAddr, A_URI, ANY_TEXT, PARAMETERS),
    "via": made(Via, st.one_of(st.just("UDP"), ANY_TEXT), HOSTS, PORTS, PARAMETERS),
    "cseq": made(CSeq, st.integers(-1, 2**31), ANY_TEXT),
    "event": made(Valued, ANY_TEXT, PARAMETERS),
    "content_type": made(MediaType, ANY_TEXT, ANY_TEXT, PARAMETERS),
    "proxy_authenticate": made(
        Challenge, st.one_of(st.just("Digest"), ANY_TEXT), made(AuthParameters, PAIRS)
    ),
    "authentication_info": made(AuthParameters, PAIRS),
    "retry_after": made(RetryAfter, st.just(5), ANY_TEXT, PARAMETERS),
    "timestamp": made(Timestamp, ANY_TEXT, MAYBE),
    "warning": made(Warning, st.integers(-1, 1000), ANY_TEXT, ANY_TEXT),
    "rack": made(RAck, st.integers(-1, 2**32), st.integers(-1, 2**31), ANY_TEXT),
    "session_expires": made(SessionExpires, st.just(90), PARAMETERS),
    "accept": made(MediaRange, ANY_TEXT, ANY_TEXT, PARAMETERS),
    "alertmsg_error": made(AlertMsgError, st.one_of(st.integers(-1, 1000), ANY_TEXT), PARAMETERS),
    "call_info": made(CallInfo, URIS, PARAMETERS),
    "content_id": made(ContentID, ANY_TEXT),
    "history_info": made(HistoryInfo, URIS, ANY_TEXT, PARAMETERS),
    "identity": made(Identity, ANY_TEXT, made(LinkParameters, PAIRS)),
    "p_charging_vector": made(
        ChargingVector, made(Parameters, PAIRS.map(lambda pairs: [("icid-value", "1"), *pairs]))
    ),
    "p_dcs_laes": made(
        LAES, HOSTS, made(LAESParameters, PAIRS.map(lambda pairs: [*pairs, ("content", "a:1")]))
    ),
    "policy_id": made(PolicyID, URIS, PARAMETERS),
    "privacy": st.lists(ANY_TEXT, max_size=3).map(Privacy),
    "replaces": made(
        Replaces,
        ANY_TEXT,
        made(Parameters, PAIRS.map(lambda pairs: [("to-tag", "1"), ("from-tag", "2"), *pairs])),
    ),
    "resource_priority": made(ResourcePriority, ANY_TEXT, ANY_TEXT),
    "response_source": made(
        ResponseSource, made(LinkParameters, PAIRS.map(lambda pairs: [*pairs, ("fe", "<urn:a>")]))
    ),
    "session_id": made(SessionID, st.one_of(st.just("0" * 32), ANY_TEXT), PARAMETERS),
    "user_to_user": made(UserToUser, ANY_TEXT, PARAMETERS),
    "call_id": ANY_TEXT.map(CallID),
    "priority": ANY_TEXT.map(Token),
    "subject": ANY_TEXT.map(Text),
}


@pytest.mark.parametrize("attribute", TYPED)
@few
@given(data=st.data())
def test_typed_value_is_written_so_that_it_can_be_read_or_refused(attribute, data):
    message = request()
    value = data.draw(TYPED[attribute])
    assert refused_or_whole(message, setattr, message, attribute, value)
    getattr(message, attribute)


@pytest.mark.parametrize(
    "make",
    [
        lambda text: str(URI("sip", text, "example.com")),
        lambda text: str(URI("sip", "a", "example.com", password=text)),
        lambda text: str(URI("sip", "a", "example.com", parameters=URIParameters(x=text))),
        lambda text: str(URI("sip", "a", "example.com", headers=URIHeaders(x=text))),
    ],
)
@some
@given(text=EVIL)
def test_parts_of_a_uri_that_hold_any_text_are_escaped(make, text):
    try:
        written = make(text)
    except InvalidValue:  # a lone surrogate
        return
    assert not any(character in written for character in "\r\n\0 ")


@pytest.mark.parametrize(
    "make",
    [
        lambda text: str(URI("sip", "a", text)),
        lambda text: str(URI("tel", text)),
        lambda text: str(URI(text, opaque="a")),
        lambda text: str(URI("urn", opaque=text)),
        lambda text: Parameters({text: "1"}),
        lambda text: AuthParameters({text: "1"}),
        lambda text: URIParameters({text: "1"}),
        lambda text: URIHeaders({text: "1"}),
        lambda text: str(Via("UDP", text)),
        lambda text: str(Via(text, "a")),
        lambda text: str(CSeq(1, text)),
        lambda text: str(MediaType("text", text)),
        lambda text: str(RAck(1, 1, text)),
        lambda text: str(Timestamp(text)),
        lambda text: str(Challenge(text)),
    ],
)
@few
@given(text=EVIL)
def test_parts_that_hold_names_only_are_refused(make, text):
    with pytest.raises((InvalidValue, ParseError)):
        make(text)


@pytest.mark.parametrize(
    "value",
    [
        5,
        2.5,
        object(),
        None,
        b"a\r\n",
        ("a\r\nb",),
        {"a\r\n": 1},
        [b"a"],
        datetime(2000, 1, 1, tzinfo=timezone.utc),
    ],
)
def test_any_object_is_written_whole_or_refused(value):
    broken = []
    for attribute in ROWS_BY_ATTRIBUTE:
        message = request()
        if not refused_or_whole(message, setattr, message, attribute, value):
            broken.append(attribute)
    assert not broken


# ---- the wire cannot put in what the API refuses


@some
@given(
    name=st.sampled_from(["Subject", "X-Odd", "Contact", "To", "User-Agent"]),
    value=st.text(CHARACTERS, max_size=30),
)
def test_parsed_message_is_forwarded_without_additional_lines(name, value):
    wire = corpus.OPTIONS.replace(
        b"\r\n\r\n", f"\r\n{name}: ".encode() + value.encode("utf-8", "surrogatepass") + b"\r\n\r\n"
    )
    try:
        message = parse(wire)
    except ParseError:
        return
    assert bytes(message).count(b"\r\n") <= wire.count(b"\r\n") + 1 and len(
        message.headers
    ) <= wire.count(b"\r\n")


def test_rows_are_all_tested():
    assert (
        len(ROWS_BY_ATTRIBUTE) == len({row.name for row in ROWS_BY_ATTRIBUTE.values()}) <= len(ROWS)
    )
