"""Headers: raw text and typed values, order and spelling, the ancestor's helpers, rows of one's own."""

from datetime import datetime, timezone

import pytest

from sippet_gevent.errors import InvalidValue, ParseError
from sippet_gevent.message.address import NameAddr
from sippet_gevent.message.fields.authentication import Challenge, Credentials
from sippet_gevent.message.fields.rfc3261 import (
    CallID,
    CSeq,
    MimeVersion,
    RetryAfter,
    SessionExpires,
)
from sippet_gevent.message.header import LINES, LIST, ONE, ROWS, Header
from sippet_gevent.message.headers import Headers
from sippet_gevent.message.message import Message, Request, register_header
from sippet_gevent.message.parameters import Parameters
from sippet_gevent.message.parser import parse
from sippet_gevent.message.scan import NAMES, register_name, remember_names
from sippet_gevent.message.uri import URI
from sippet_gevent.message.via import Via

from ..conformance import corpus


def read(*lines: str) -> Request:
    message = parse(corpus.message(*lines))
    assert isinstance(message, Request)
    return message


def lines_of(request: Request) -> list[str]:
    head = bytes(request).partition(b"\r\n\r\n")[0].decode()
    return head.split("\r\n")[1:]


def vias(request: Request) -> list[str]:
    return [
        line for line in lines_of(request) if line.partition(":")[0].strip().lower() in ("via", "v")
    ]


# ---- raw access


@pytest.mark.rfc("3261 7.3.1")
@pytest.mark.parametrize("name", ["Contact", "contact", "CONTACT", "cOnTaCt", "m", "M"])
def test_header_is_found_by_any_case_and_by_its_compact_form(name):
    assert read("m: <sip:a@b>").headers[name] == "<sip:a@b>"


@pytest.mark.rfc("3261 7.3.3")
@pytest.mark.parametrize(
    "compact, name",
    [
        ("i", "Call-ID"), ("m", "Contact"), ("e", "Content-Encoding"), ("l", "Content-Length"), ("c", "Content-Type"),
        ("f", "From"), ("s", "Subject"), ("k", "Supported"), ("t", "To"), ("v", "Via"),
        ("u", "Allow-Events"), ("o", "Event"), ("r", "Refer-To"), ("b", "Referred-By"), ("x", "Session-Expires"),
        ("a", "Accept-Contact"), ("j", "Reject-Contact"), ("d", "Request-Disposition"), ("y", "Identity"),("n", "Identity-Info"),
    ],
)  # fmt: skip
def test_compact_form_is_its_long_name(compact, name):
    headers = Headers([])
    headers.add(compact, "1")
    assert headers.items() == [(name, "1")]


def test_unknown_header_is_blind_to_case():
    assert read("X-Odd: 1").headers["x-ODD"] == "1"


def test_header_that_is_not_there_is_a_key_error():
    with pytest.raises(KeyError):
        _ = read().headers["X-Odd"]


def test_get_gives_the_first_line_or_the_default():
    headers = read("X-Odd: 1\r\nX-Odd: 2").headers
    assert (headers.get("x-odd"), headers.get("X-Even", "none")) == ("1", "none")


def test_all_gives_every_line_in_order():
    assert read("X-Odd: 1\r\nx-odd: 2").headers.all("X-ODD") == ["1", "2"]


def test_order_and_spelling_are_kept():
    wire = corpus.message("X-b:2", "x-A :  1  ", "k:a,b", "User-Agent:\r\n folded\r\n\ttwice")
    assert bytes(parse(wire)) == wire


def test_iteration_gives_each_name_once_in_order_of_appearance():
    assert list(read("X-A: 1", "v: SIP/2.0/UDP a\r\nX-A: 2\r\nVia: SIP/2.0/UDP b").headers)[:2] == [
        "Via",
        "X-A",
    ]


def test_setting_text_replaces_the_line_where_it_stood():
    request = read("X-A: 1", "X-B: 2")
    request.headers["x-a"] = "3"
    assert lines_of(request)[-2:] == ["X-A: 3", "X-B: 2"]


def test_setting_several_texts_makes_several_lines_where_the_first_stood():
    request = read("X-A: 1", "X-B: 2\r\nX-A: 3")
    request.headers["X-A"] = ["4", "5"]
    assert lines_of(request)[-3:] == ["X-A: 4", "X-A: 5", "X-B: 2"]


def test_deleting_a_header_takes_all_its_lines():
    request = read("m: <sip:a@b>\r\nContact: <sip:c@d>")
    del request.headers["contact"]
    assert request.contact == ()


def test_deleting_what_is_not_there_is_a_key_error():
    with pytest.raises(KeyError):
        del read().headers["Contact"]


def test_add_puts_a_line_behind_the_others_of_the_message():
    request = read()
    request.headers.add("X-Last", "1")
    assert lines_of(request)[-1] == "X-Last: 1"


def test_add_first_puts_a_line_before_those_of_its_header():
    request = read("X-A: 1", "X-B: 2")
    request.headers.add("X-B", "0", first=True)
    assert lines_of(request)[-3:] == ["X-A: 1", "X-B: 0", "X-B: 2"]


def test_copy_changes_alone():
    request = read("X-A: 1")
    request.headers.copy()["X-A"] = "2"
    assert request.headers["X-A"] == "1"


def test_blanks_round_a_text_are_no_part_of_it():
    headers = Headers([])
    headers["X-A"] = " \t1 "
    headers.add("X-B", " 2\t")
    assert headers.items() == [("X-A", "1"), ("X-B", "2")]


def test_line_set_in_a_copy_is_set_there_alone():
    request = parse(corpus.OPTIONS)
    request.headers.copy().set_line(0, "SIP/2.0/UDP changed")
    assert request.headers["Via"] == "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKnashds8"


def test_line_that_was_set_is_read_as_typed():
    request = parse(corpus.OPTIONS)
    assert request.via[0].host == "192.0.2.1"
    request.headers.set_line(0, "SIP/2.0/UDP changed")
    assert request.via[0].host == "changed"


@pytest.mark.parametrize("name", ["", "a b", "a:", "é", "a\r\nb", " a"])
def test_name_that_is_no_token_is_refused(name):
    with pytest.raises(InvalidValue):
        read().headers[name] = "1"


def test_bytes_are_no_text_of_a_header():
    with pytest.raises(InvalidValue):
        read().headers["X-A"] = b"1"


# ---- typed access


def test_missing_header_is_none_or_empty():
    request = read()
    assert (request.subject, request.contact, request.authorization) == (None, (), ())


def test_empty_list_header_has_no_values():
    assert read("Supported:").supported == ()


@pytest.mark.rfc("3261 7.3.1")
def test_values_of_several_lines_and_of_commas_are_one_list():
    assert read("Allow: INVITE, ACK\r\nallow:BYE").allow == ("INVITE", "ACK", "BYE")


@pytest.mark.rfc("3261 7.3.1")
def test_comma_in_quotes_or_brackets_parts_no_values():
    request = read('Contact: "Bell, A" <sip:a,b@c>;x="1,2", <sip:d@e>')
    assert [contact.uri.user for contact in request.contact] == ["a,b", "d"]


@pytest.mark.rfc("3261 7.3.1")
def test_apostrophe_is_no_quote():
    assert [c.display for c in read("Contact: O'Hara <sip:a@b>, O'Neil <sip:c@d>").contact] == [
        "O'Hara",
        "O'Neil",
    ]


def test_credentials_are_one_to_a_line():
    request = read('Authorization: Digest realm="a", nonce="b"\r\nAuthorization: Digest realm="c"')
    assert [credentials.parameters["realm"] for credentials in request.authorization] == ["a", "c"]


def test_two_p_asserted_identity_lines_are_a_list_of_two():
    request = read("P-Asserted-Identity: <sip:a@b>\r\nP-Asserted-Identity: tel:+123")
    assert [identity.uri.scheme for identity in request.p_asserted_identity] == ["sip", "tel"]


def test_two_reason_lines_are_a_list_of_two_and_keep_their_quoted_text():
    request = read('Reason: Q.850;cause=16;text="Normal, clearing"\r\nReason: SIP;cause=200')
    assert [(r.value, r.parameters.get("text")) for r in request.reason_header] == [
        ("Q.850", "Normal, clearing"),
        ("SIP", None),
    ]


def test_single_header_with_two_different_lines_is_refused_when_read():
    with pytest.raises(ParseError, match="Expires: appears twice"):
        _ = read("Expires: 1\r\nExpires: 2").expires


def test_broken_header_is_forwarded_by_those_who_do_not_look():
    wire = corpus.message("Contact: <<<broken")
    assert bytes(parse(wire)) == wire


@pytest.mark.parametrize(
    "line, attribute, error",
    [
        ("Contact: <sip:>", "contact", "Contact: URI is empty"),
        ("Expires: 1_0", "expires", "Expires: not a number: '1_0'"),
        ("Allow: a b", "allow", "Allow: not a token: 'a b'"),
        ('Contact: <sip:a@b>, "x', "contact", "Contact: quoted string without end"),
        ("Date: yesterday", "date", "Date: not a SIP date in GMT: 'yesterday'"),
    ],
)
def test_error_names_the_header_and_the_value(line, attribute, error):
    with pytest.raises(ParseError) as caught:
        getattr(read(line), attribute)
    assert str(caught.value).startswith(error)


@pytest.mark.parametrize(
    "name, text",
    [
        ("From", "<sip:a@>;tag=1"),
        ("To", "<sip:@b>"),
        ("From", "<sip:a b>;tag=1"),
        ("To", "<sip:a b>"),
        ("Via", "SIP/2.0/UDP a:0"),
        ("CSeq", "x OPTIONS"),
        ("Call-ID", "a b"),
    ],
)
def test_error_in_what_every_element_needs_names_the_header(name, text):
    with pytest.raises(ParseError) as caught:
        parse(corpus.message(f"{name}: {text}"))
    assert caught.value.header == name


def test_error_is_cut_to_eighty_characters_of_the_value():
    with pytest.raises(ParseError) as caught:
        _ = read("Expires: " + "x" * 5000).expires
    assert len(str(caught.value)) < 120


# ---- assignment


@pytest.mark.rfc("3261 16.6")
def test_via_put_before_the_others_leaves_their_lines_as_they_came():
    request = read('v  :SIP/2.0/UDP  192.0.2.1 ;branch=z9hG4bK1\r\nVIA: SIP/2.0/tcp b;x="1"')
    mine = Via("UDP", "proxy.example.com")
    request.via = (mine, *request.via)
    assert vias(request) == [
        "Via: SIP/2.0/UDP proxy.example.com",
        "v  :SIP/2.0/UDP  192.0.2.1 ;branch=z9hG4bK1",
        'VIA: SIP/2.0/tcp b;x="1"',
    ]


def test_via_put_in_front_takes_the_place_of_the_first():
    request = read()
    request.via = (Via("UDP", "a"), *request.via)
    assert [line.partition(":")[0] for line in lines_of(request)][:3] == [
        "Via",
        "Via",
        "Max-Forwards",
    ]


def test_values_of_one_line_keep_their_spelling_behind_a_new_first_one():
    request = read('Via: SIP/2.0/udp a;x="1",SIP / 2.0/TCP b')
    request.via = (Via("UDP", "c"), *request.via)
    assert vias(request) == [
        "Via: SIP/2.0/UDP c",
        'Via: SIP/2.0/udp a;x="1"',
        "Via: SIP / 2.0/TCP b",
    ]


def test_two_equal_vias_keep_their_own_lines():
    request = read("v: SIP/2.0/UDP a\r\nVIA: SIP/2.0/UDP a")
    request.via = (Via("UDP", "a"), *request.via)
    assert vias(request) == ["Via: SIP/2.0/UDP a", "v: SIP/2.0/UDP a", "VIA: SIP/2.0/UDP a"]


@pytest.mark.rfc("3261 16.7")
def test_taking_the_top_via_leaves_the_others_as_they_came():
    request = read("Via: SIP/2.0/UDP a\r\nv :SIP/2.0/UDP b")
    request.via = request.via[1:]
    assert vias(request) == ["v :SIP/2.0/UDP b"]


def test_list_put_in_another_order_moves_its_lines():
    request = read("m:<sip:a@b>\r\nContact:  sip:c@d")
    request.contact = (request.contact[1], request.contact[0])
    assert lines_of(request)[-2:] == ["Contact:  sip:c@d", "m:<sip:a@b>"]


def test_assigning_one_header_leaves_the_lines_of_others_as_they_came():
    request = read("x-Odd :  kept  ", "s:old")
    request.subject = "new"
    assert lines_of(request)[-2:] == ["x-Odd :  kept  ", "Subject: new"]


@pytest.mark.parametrize(
    "value, text",
    [
        ("<sip:a@b>", "<sip:a@b>"),
        (NameAddr(URI("sip", "a", "b")), "<sip:a@b>"),
        (("<sip:a@b>",), "<sip:a@b>"),
        ([NameAddr(URI.parse("sip:a@b"), "A")], '"A" <sip:a@b>'),
        ("*", "*"),
    ],
)
def test_list_takes_text_a_value_or_several(value, text):
    request = read()
    request.contact = value
    assert request.headers["Contact"] == text


def test_assigned_value_is_read_back_typed():
    request = read()
    request.contact = "<sip:a@b>;q=0.5"
    assert request.contact[0].q == 0.5


def test_addresses_are_written_one_to_a_line():
    request = read()
    request.route = ("<sip:a;lr>", "<sip:b;lr>")
    assert request.headers.all("Route") == ["<sip:a;lr>", "<sip:b;lr>"]


def test_tokens_are_written_on_one_line():
    request = read()
    request.allow = ("INVITE", "ACK")
    assert request.headers.all("Allow") == ["INVITE, ACK"]


def test_challenges_are_written_one_to_a_line():
    request = read()
    request.www_authenticate = ('Digest realm="a", nonce="b"', Challenge("Digest"))
    assert len(request.headers.all("WWW-Authenticate")) == 2


def test_counting_down_max_forwards_is_one_assignment():
    request = read()
    request.max_forwards -= 1
    assert "Max-Forwards: 69" in lines_of(request)


def test_date_is_written_in_gmt():
    request = read()
    request.date = datetime(2010, 11, 13, 23, 29, tzinfo=timezone.utc)
    assert request.headers["Date"] == "Sat, 13 Nov 2010 23:29:00 GMT"


@pytest.mark.parametrize("empty", [None, ()])
def test_assigning_none_or_nothing_removes_a_list(empty):
    request = read("Contact: <sip:a@b>")
    request.contact = empty
    assert "Contact" not in request.headers


def test_del_removes_a_header():
    request = read("Subject: a")
    del request.subject
    assert "Subject" not in request.headers


@pytest.mark.parametrize(
    "attribute, value",
    [
        ("contact", "sip:"), ("contact", ("<sip:a@b>", None)), ("allow", "a b"), ("expires", -1), ("expires", 2**32),
        ("expires", "1_0"),
        ("expires", True), ("cseq", "1"), ("cseq", (2**31, "INVITE")), ("via", "SIP/2.0/UDP"), ("max_forwards", 256),
        ("date", "now"),
        ("date", 5), ("call_id", "a b"), ("call_id", ""), ("content_type", "text"), ("subject", b"bytes"), ("route", "sip:a,b"),
        ("to", "Bell, A <sip:a@b>"), ("rseq", -1), ("authorization", "=") , ("timestamp", "now"),
    ],
)  # fmt: skip
def test_value_the_header_cannot_hold_is_refused(attribute, value):
    with pytest.raises(InvalidValue):
        setattr(read(), attribute, value)


def test_refused_assignment_names_the_header():
    with pytest.raises(InvalidValue, match=r"^Contact: "):
        read().contact = "sip:"


# ---- the ancestor's helpers: Elixir Sippet's names


def letters(*values: str) -> Request:
    return read("\r\n".join(f"X-L: {value}" for value in values) or "X-None: 1")


CHANGES = {
    "put_header replaces": (("a", "b"), lambda h: h.put_header("X-L", "z"), ["z"]),
    "put_header of None removes": (("a", "b"), lambda h: h.put_header("X-L", None), []),
    "put_new_header leaves what is there": (("a",), lambda h: h.put_new_header("X-L", "z"), ["a"]),
    "put_new_header sets what is missing": ((), lambda h: h.put_new_header("X-L", "z"), ["z"]),
    "put_new_lazy_header does not call for what is there": (
        ("a",),
        lambda h: h.put_new_lazy_header("X-L", lambda: 1 / 0),
        ["a"],
    ),
    "put_new_lazy_header calls for what is missing": (
        (),
        lambda h: h.put_new_lazy_header("X-L", lambda: "z"),
        ["z"],
    ),
    "put_header_front": (("a", "b"), lambda h: h.put_header_front("X-L", "z"), ["z", "a", "b"]),
    "put_header_front of a missing header": ((), lambda h: h.put_header_front("X-L", "z"), ["z"]),
    "put_header_front of None adds nothing": (
        ("a",),
        lambda h: h.put_header_front("X-L", None),
        ["a"],
    ),
    "put_header_back": (("a", "b"), lambda h: h.put_header_back("X-L", "z"), ["a", "b", "z"]),
    "put_header_back of a missing header": ((), lambda h: h.put_header_back("X-L", "z"), ["z"]),
    "put_header_back of None adds nothing": (
        ("a",),
        lambda h: h.put_header_back("X-L", None),
        ["a"],
    ),
    "delete_header": (("a", "b"), lambda h: h.delete_header("X-L"), []),
    "delete_header of a missing header": ((), lambda h: h.delete_header("X-L"), []),
    "delete_header_front": (("a", "b"), lambda h: h.delete_header_front("X-L"), ["b"]),
    "delete_header_front of the last value": (("a",), lambda h: h.delete_header_front("X-L"), []),
    "delete_header_front of a missing header": ((), lambda h: h.delete_header_front("X-L"), []),
    "delete_header_back": (("a", "b"), lambda h: h.delete_header_back("X-L"), ["a"]),
    "delete_header_back of the last value": (("a",), lambda h: h.delete_header_back("X-L"), []),
    "delete_header_back of a missing header": ((), lambda h: h.delete_header_back("X-L"), []),
    "drop_headers": (("a", "b"), lambda h: h.drop_headers(["x-l", "X-Missing"]), []),
    "update_header": (
        ("a",),
        lambda h: h.update_header("X-L", "i", lambda values: (*values, "z")),
        ["a", "z"],
    ),
    "update_header of a missing header takes the initial as it is": (
        (),
        lambda h: h.update_header("X-L", "i", lambda v: 1 / 0),
        ["i"],
    ),
    "update_header_front": (
        ("a", "b"),
        lambda h: h.update_header_front("X-L", "i", str.upper),
        ["A", "b"],
    ),
    "update_header_front of a missing header": (
        (),
        lambda h: h.update_header_front("X-L", "i", str.upper),
        ["i"],
    ),
    "update_header_back": (
        ("a", "b"),
        lambda h: h.update_header_back("X-L", "i", str.upper),
        ["a", "B"],
    ),
    "update_header_back of a missing header": (
        (),
        lambda h: h.update_header_back("X-L", "i", str.upper),
        ["i"],
    ),
    "pop_header": (("a", "b"), lambda h: h.pop_header("X-L"), []),
    "pop_header_front": (("a", "b"), lambda h: h.pop_header_front("X-L"), ["b"]),
    "pop_header_back": (("a", "b"), lambda h: h.pop_header_back("X-L"), ["a"]),
    "get_and_update_header": (
        ("a", "b"),
        lambda h: h.get_and_update_header("X-L", lambda v: (v, v[::-1])),
        ["b", "a"],
    ),
    "get_and_update_header to None": (
        ("a", "b"),
        lambda h: h.get_and_update_header("X-L", lambda v: (v, None)),
        [],
    ),
    "get_and_update_header_front": (
        ("a", "b"),
        lambda h: h.get_and_update_header_front("X-L", lambda v: (v, "z")),
        ["z", "b"],
    ),
    "get_and_update_header_front to None": (
        ("a", "b", "c"),
        lambda h: h.get_and_update_header_front("X-L", lambda v: (v, None)),
        ["b", "c"],
    ),
    "get_and_update_header_front of a missing header": (
        (),
        lambda h: h.get_and_update_header_front("X-L", lambda v: (v, "z")),
        ["z"],
    ),
    "get_and_update_header_back": (
        ("a", "b"),
        lambda h: h.get_and_update_header_back("X-L", lambda v: (v, "z")),
        ["a", "z"],
    ),
    "get_and_update_header_back to None": (
        ("a", "b", "c"),
        lambda h: h.get_and_update_header_back("X-L", lambda v: (v, None)),
        ["a", "b"],
    ),
    "get_and_update_header_back of a missing header": (
        (),
        lambda h: h.get_and_update_header_back("X-L", lambda v: (v, "z")),
        ["z"],
    ),
}


@pytest.mark.parametrize("before, change, after", CHANGES.values(), ids=CHANGES)
def test_helper_leaves_an_unknown_header_with(before, change, after):
    headers = letters(*before).headers
    change(headers)
    assert headers.all("X-L") == after


@pytest.mark.parametrize("before, change, after", CHANGES.values(), ids=CHANGES)
def test_helper_leaves_a_known_list_with(before, change, after):
    headers = read("\r\n".join(f"In-Reply-To: {value}" for value in before) or "X-None: 1").headers
    with_row = _Renamed(headers, "In-Reply-To")
    change(with_row)
    assert list(headers.get_header("In-Reply-To", ())) == after


class _Renamed:
    """Headers whose X-L is another header."""

    def __init__(self, headers: Headers, name: str) -> None:
        self.headers, self.name = headers, name

    def __getattr__(self, helper: str):
        method = getattr(self.headers, helper)
        if helper == "drop_headers":
            return lambda names: method([self.name])
        return lambda name, *rest: method(self.name, *rest)


RESULTS = {
    "fetch_header": (lambda h: h.fetch_header("X-L"), ("a", "b")),
    "fetch_header_front": (lambda h: h.fetch_header_front("X-L"), "a"),
    "fetch_header_back": (lambda h: h.fetch_header_back("X-L"), "b"),
    "get_header": (lambda h: h.get_header("X-L"), ("a", "b")),
    "get_header with a default": (lambda h: h.get_header("X-M", 7), 7),
    "get_header_front": (lambda h: h.get_header_front("X-L"), "a"),
    "get_header_front with a default": (lambda h: h.get_header_front("X-M", 7), 7),
    "get_header_back": (lambda h: h.get_header_back("X-L"), "b"),
    "get_header_back with a default": (lambda h: h.get_header_back("X-M", 7), 7),
    "has_header": (lambda h: (h.has_header("x-l"), h.has_header("X-M")), (True, False)),
    "pop_header": (lambda h: h.pop_header("X-L"), ("a", "b")),
    "pop_header with a default": (lambda h: h.pop_header("X-M", 7), 7),
    "pop_header_front": (lambda h: h.pop_header_front("X-L"), "a"),
    "pop_header_front with a default": (lambda h: h.pop_header_front("X-M", 7), 7),
    "pop_header_back": (lambda h: h.pop_header_back("X-L"), "b"),
    "pop_header_back with a default": (lambda h: h.pop_header_back("X-M", 7), 7),
    "get_and_update_header": (lambda h: h.get_and_update_header("X-L", lambda v: (len(v), v)), 2),
    "get_and_update_header of a missing header": (
        lambda h: h.get_and_update_header("X-M", lambda v: (v, "z")),
        None,
    ),
    "get_and_update_header_front": (
        lambda h: h.get_and_update_header_front("X-L", lambda v: (v, "z")),
        "a",
    ),
    "get_and_update_header_front of a missing header": (
        lambda h: h.get_and_update_header_front("X-M", lambda v: (v, "z")),
        None,
    ),
    "get_and_update_header_back": (
        lambda h: h.get_and_update_header_back("X-L", lambda v: (v, "z")),
        "b",
    ),
    "get_and_update_header_back of a missing header": (
        lambda h: h.get_and_update_header_back("X-M", lambda v: (v, "z")),
        None,
    ),
}


@pytest.mark.parametrize("ask, answer", RESULTS.values(), ids=RESULTS)
def test_helper_returns(ask, answer):
    assert ask(letters("a", "b").headers) == answer


@pytest.mark.parametrize("fetch", ["fetch_header", "fetch_header_front", "fetch_header_back"])
def test_fetching_a_missing_header_is_a_key_error(fetch):
    with pytest.raises(KeyError):
        getattr(read().headers, fetch)("Contact")


@pytest.mark.parametrize("fetch", ["fetch_header_front", "fetch_header_back"])
def test_fetching_from_an_empty_list_is_a_key_error(fetch):
    with pytest.raises(KeyError):
        getattr(read("Supported:").headers, fetch)("Supported")


@pytest.mark.parametrize("update", ["update_header_front", "update_header_back"])
def test_updating_an_empty_list_takes_the_initial(update):
    headers = read("Supported:").headers
    getattr(headers, update)("Supported", "100rel", lambda value: 1 / 0)
    assert headers.get_header("Supported") == ("100rel",)


@pytest.mark.parametrize("put", ["put_header_front", "put_header_back"])
def test_header_of_one_value_takes_no_second(put):
    with pytest.raises(InvalidValue, match=r"^Subject: "):
        getattr(read("Subject: a").headers, put)("Subject", "b")


@pytest.mark.parametrize("put", ["put_header_front", "put_header_back"])
def test_missing_header_of_one_value_takes_a_first(put):
    headers = read().headers
    getattr(headers, put)("Subject", "b")
    assert headers["Subject"] == "b"


def test_helpers_give_and_take_typed_values():
    headers = read().headers
    headers.update_header_front("Via", None, lambda via: via._replace(host="changed"))
    assert headers.fetch_header_front("v").host == "changed"


def test_helper_leaves_the_lines_it_does_not_touch():
    request = read("v :SIP/2.0/UDP a")
    request.headers.put_header_front("Via", Via("UDP", "b"))
    assert vias(request) == ["Via: SIP/2.0/UDP b", "v :SIP/2.0/UDP a"]


# ---- one value at an end, the others unread (RFC 3261 §16.3 item 1)

BROKEN = ("Via: broken", "Via: SIP/2.0/UDP h:0", 'Via: "unclosed', "Via: <, SIP/2.0/UDP h")


@pytest.mark.rfc("3261 16.3")
@pytest.mark.parametrize("below", BROKEN)
def test_first_value_is_read_and_removed_with_unreadable_others_below(below):
    request = read(f"Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\n{below}")
    assert request.headers.get_header_front("Via").host == "a"
    request.headers.delete_header_front("Via")
    assert vias(request) == [below]


@pytest.mark.rfc("3261 16.3")
@pytest.mark.parametrize(
    "rest", ["broken", 'SIP/2.0/UDP b;x="," ,broken', '"unclosed', "SIP/2.0/UDP  b ,SIP/2.0/UDP c"]
)
def test_first_of_several_values_in_a_line_leaves_the_others_byte_for_byte(rest):
    request = read(f'Via: SIP/2.0/UDP a;branch=z9hG4bK1;x="a,b" , {rest}')
    assert request.headers.get_header_front("Via").host == "a"
    request.headers.delete_header_front("Via")
    assert vias(request) == [f"Via: {rest}"]


def test_last_value_is_read_and_removed_with_unreadable_others_before():
    headers = read("Route: broken\r\nRoute: bad,<sip:a>  ;x , <sip:b;lr>").headers
    assert str(headers.pop_header_back("Route").uri) == "sip:b;lr"
    assert headers.all("Route") == ["broken", "bad,<sip:a>  ;x"]


def test_value_that_cannot_be_cut_off_is_the_whole_line():
    headers = read('Route: "unclosed, <sip:b>').headers
    with pytest.raises(ParseError, match="^Route: "):
        headers.get_header_back("Route")
    headers.delete_header_back("Route")
    assert "Route" not in headers


def test_value_is_put_before_and_behind_what_cannot_be_read():
    headers = read("Route: broken").headers
    headers.put_header_front("Route", "<sip:first;lr>")
    headers.put_header_back("Route", "<sip:last;lr>")
    assert headers.all("Route") == ["<sip:first;lr>", "broken", "<sip:last;lr>"]


def test_first_value_is_changed_and_the_others_stay_byte_for_byte():
    headers = read("Via: SIP/2.0/UDP a , SIP / 2.0 / UDP b\r\nVia: broken").headers
    headers.update_header_front("Via", None, lambda via: via._replace(host="c"))
    assert headers.all("Via") == ["SIP/2.0/UDP c", "SIP / 2.0 / UDP b", "broken"]


def test_first_of_101_values_is_read():
    assert (
        read("\r\n".join(["Via: SIP/2.0/UDP a"] * 101)).headers.get_header_front("Via").host == "a"
    )


@pytest.mark.parametrize(
    ("lines", "one"),
    [
        ("Route: <sip:a>", True),
        ('Route: <sip:a,b>;x="b, c"', True),
        ("Route: <sip:a>, broken", False),
        ("Route: <sip:a>\r\nRoute: <sip:b>", False),
        ("X: 1", False),
    ],
)
def test_header_tells_whether_it_has_one_value(lines, one):
    assert read(lines).headers.has_one("Route") is one


# ---- rows of one's own


@pytest.fixture
def register():
    """register_header, undone at the end."""
    made = []

    def registered(attribute: str, name: str, **how) -> Header:
        row = register_header(attribute, name, **how)
        made.append((attribute, row))
        return row

    yield registered
    for attribute, row in made:
        delattr(Message, attribute)
        del ROWS[row.name]
        for name in (row.name, row.compact):
            NAMES.pop((name or "").lower(), None)
    register_name("Via", "v")  # forgets what was seen
    remember_names()


def test_registered_header_is_an_attribute_of_every_message(register):
    register("x_tenant_number", "X-Tenant-Number", type=int)
    assert read("x-tenant-NUMBER: 42").x_tenant_number == 42


def test_registered_header_can_be_assigned_and_given_to_a_request(register):
    register("x_shard", "X-Shard", type=int)
    assert b"X-Shard: 7\r\n" in bytes(Request("OPTIONS", "sip:a@b", x_shard=7))


def test_registered_header_has_a_compact_form(register):
    register("x_compactly", "X-Compactly", compact="0")
    assert read("0: yes").x_compactly == "yes"


def test_registered_list_is_cut_at_commas(register):
    register("x_colours", "X-Colours", kind=LIST)
    assert read("X-Colours: red, green\r\nX-Colours: blue").x_colours == ("red", "green", "blue")


def test_registered_lines_are_not_cut_at_commas(register):
    register("x_lines", "X-Lines", kind=LINES)
    assert read("X-Lines: red, green\r\nX-Lines: blue").x_lines == ("red, green", "blue")


def test_registered_header_keeps_the_spelling_it_was_registered_with(register):
    register("x_spelling", "X-sPELLING")
    assert "X-sPELLING" in read("x-spelling: 1").headers.items()[-1]


@pytest.mark.parametrize("text", ["1_0", "+1", " 1", "١", "1.0", "9" * 5000])
def test_registered_number_is_digits_and_nothing_else(register, text):
    row = register("x_digits", "X-Digits", type=int)
    with pytest.raises(ParseError):
        row.read([text])


@pytest.mark.parametrize(
    "attribute, name, compact",
    [
        ("via", "X-New", None), ("x_new", "Via", None), ("x_new", "vIA", None), ("x_new", "X-New", "v"), ("x_new", "v", None),
        ("x_new", "X New", None), ("not valid", "X-New", None), ("headers", "X-New", None), ("x_new", "X-New", "a b"),
        ("body", "X-New", None),
    ],
)  # fmt: skip
def test_name_that_is_taken_or_no_name_cannot_be_registered(attribute, name, compact):
    with pytest.raises(InvalidValue):
        register_header(attribute, name, compact=compact)


def test_row_can_stand_in_a_class_of_ones_own():
    class Mine(Request):
        x_mine = Header("X-Mine", None, ONE, str)

    assert Mine("OPTIONS", "sip:a@b", x_mine="1").x_mine == "1"
    del ROWS["X-Mine"]


def test_every_row_is_an_attribute_that_can_be_told_from_its_name():
    odd = {"from_": "From", "reason_header": "Reason"}
    attributes = {name: row.name for name, row in vars(Message).items() if isinstance(row, Header)}
    told = {name: odd.get(name) or name.replace("_", "-") for name in attributes}
    assert {k: v.lower() for k, v in told.items()} == {k: v.lower() for k, v in attributes.items()}


@pytest.mark.rfc("3261 20.21")
def test_brackets_and_quotes_in_call_ids_are_characters_like_others():
    request = Request("OPTIONS", "sip:a@b", in_reply_to=(CallID("a<"), CallID('b>"'), CallID("c")))
    read = parse(corpus.message(f"In-Reply-To: {request.headers['In-Reply-To']}"))
    assert read.in_reply_to == ("a<", 'b>"', "c")


def test_call_id_with_a_comma_is_no_value_of_a_list():
    with pytest.raises(InvalidValue, match="comma"):
        Request("OPTIONS", "sip:a@b", in_reply_to=(CallID("a,b"),))


@pytest.mark.rfc("3261 20.34")
@pytest.mark.parametrize("row", ["route", "record_route", "path", "service_route"])
def test_uri_assigned_to_a_route_gets_brackets_round_its_parameters(row):
    request = Request("INVITE", "sip:bob@b", **{row: "sip:proxy.example;lr, <sip:other;lr>"})
    assert [str(value) for value in getattr(request, row)] == [
        "<sip:proxy.example;lr>",
        "<sip:other;lr>",
    ]


@pytest.mark.rfc("3261 20.30", "3261 20.34", "3327 4")
@pytest.mark.parametrize("row", ["route", "record_route", "path", "service_route"])
def test_route_without_brackets_has_its_parameters_in_the_uri(row):
    name = getattr(Request, row).name
    request = parse(corpus.message(f"{name}: sip:p1.example;lr, <sip:p2.example;lr>;x=1"))
    first, second = getattr(request, row)
    assert (first.uri.is_loose_router, str(first), str(second)) == (
        True,
        "<sip:p1.example;lr>",
        "<sip:p2.example;lr>;x=1",
    )


@pytest.mark.rfc("3261 25.1")
@pytest.mark.parametrize(
    "name", ["From", "To", "Contact", "Refer-To", "Reply-To", "P-Asserted-Identity"]
)
def test_address_without_brackets_has_brackets_and_commas_in_its_quotes(name):
    text = 'sip:bob@192.0.2.7:5094;x="<a>,;\\"";+sip.instance="<urn:uuid:00000000-0000-4000-8000-000000000001>"'
    row = ROWS[name]
    value = row.read([text])
    value = value[0] if isinstance(value, tuple) and not hasattr(value, "_fields") else value
    assert (value.uri, value.parameters["x"], value.instance) == (
        URI.parse("sip:bob@192.0.2.7:5094"),
        '<a>,;"',
        "urn:uuid:00000000-0000-4000-8000-000000000001",
    )


def test_empty_elements_of_a_list_are_no_values():
    request = parse(
        corpus.message(
            "Supported: ,outbound, ,path,",
            "Require: ,",
            "Route: ,<sip:a;lr>,, <sip:b;lr> ,",
            "Contact: ,",
        )
    )
    assert (request.supported, request.require, request.contact) == (("outbound", "path"), (), ())
    assert [str(hop) for hop in request.route] == ["<sip:a;lr>", "<sip:b;lr>"]


def test_empty_elements_of_a_list_are_no_first_and_no_last_value():
    headers = parse(corpus.message("Route: ,\r\nRoute: ,<sip:a>,, <sip:b> ,\r\nRoute: , ,")).headers
    assert (str(headers.get_header_front("Route")), str(headers.get_header_back("Route"))) == (
        "<sip:a>",
        "<sip:b>",
    )
    headers.delete_header_front("Route")
    assert str(headers.get_header_front("Route")) == "<sip:b>"
    headers.delete_header_back("Route")
    assert headers.get_header_front("Route") is None and headers.has_one("Route") is False


def test_empty_elements_of_a_list_are_not_written():
    with pytest.raises(InvalidValue):
        Request("OPTIONS", "sip:a@b", supported=",outbound")
    request = parse(corpus.message("Route: <sip:a;lr>, ,<sip:b;lr>"))
    request.route = (request.route[1],)
    assert request.headers.all("Route") == ["<sip:b;lr>"]


@pytest.mark.rfc("7315 5.4")
def test_access_info_of_an_extension_is_a_value_without_a_name():
    text = '3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=1;"a = b;c";[2001:db8::1];network-provided'
    (found,) = parse(corpus.message(f"P-Access-Network-Info: {text}")).p_access_network_info
    assert (str(found), found.utran_cell_id_3gpp, found.network_provided) == (text, "1", True)
    assert [*found.parameters][1:3] == ['"a = b;c"', "[2001:db8::1]"]


@pytest.mark.rfc("3261 25.1")
def test_value_between_quotes_is_written_in_quotes_of_its_own():
    written = str(Parameters(note='"a"', other='"'))
    assert (written, Parameters.parse(written)["note"]) == (r';note="\"a\"";other="\""', '"a"')


@pytest.mark.parametrize(
    "name, value",
    [
        ("authorization", Credentials("Digest", Parameters(username="bob", realm="r"))),
        ("to", NameAddr(URI(host="h", parameters=Parameters(x="a b")))),
        ("to", NameAddr(URI(host="h", parameters=Parameters(x="a>b,<sip:evil@x>")))),
        ("to", NameAddr(URI.parse("sip:a@b"), "", {"tag": "x"})),
        ("via", Via("UDP", "h", 5060, {"branch": "x"})),
        ("retry_after", RetryAfter(-5, "a")),
        ("session_expires", SessionExpires(-5)),
        ("cseq", CSeq(1.5, "INVITE")),
        ("cseq", CSeq(True, "INVITE")),
        ("mime_version", MimeVersion("a", "b")),
    ],
)
def test_typed_value_with_wrong_parts_is_refused(name, value):
    with pytest.raises(InvalidValue):
        Request("INVITE", "sip:a@b", **{name: value})


@pytest.mark.rfc("3261 20.14")
def test_content_length_of_yours_that_is_false_goes_nowhere():
    with pytest.raises(InvalidValue, match="3 bytes"):
        bytes(Request("INVITE", "sip:x@y", content_length=5, body=b"abc"))


@pytest.mark.rfc("3840 9")
@pytest.mark.parametrize(
    "name, text", [("+g.3gpp.x", "foo"), ("methods", "INVITE"), ("text", "Busy")]
)
def test_feature_tags_and_texts_are_written_in_quotes(name, text):
    assert str(Parameters({name: text})) == f';{name}="{text}"'


@pytest.mark.rfc("3261 7.3.1")
def test_parameter_is_written_once():
    with pytest.raises(InvalidValue, match="once"):
        Parameters([("tag", "1"), ("TAG", "2")])


# ---- the top Via


TOP = "SIP/2.0/UDP a.example.com;branch=z9hG4bK1"


@pytest.mark.rfc("3261 16.3")
@pytest.mark.parametrize("below", ["", ", broken", ", SIP/2.0/UDP b.example.com;branch=z9hG4bK2"])
def test_top_via_is_read_and_replaced_with_others_as_they_came(below):
    headers = Headers([("Via", ": ", TOP + below), ("Via", "v:  odd", "odd"), ("To", ": ", "x")])
    via = headers.top_via
    assert (via.host, via.branch) == ("a.example.com", "z9hG4bK1")
    headers.top_via = via.with_params(received="192.0.2.1")
    assert headers.lines == [
        ("Via", ": ", f"{TOP};received=192.0.2.1{below}"),
        ("Via", "v:  odd", "odd"),
        ("To", ": ", "x"),
    ]
    assert headers.top_via.received == "192.0.2.1"


def test_top_via_behind_other_lines_has_their_number_as_its_line():
    headers = Headers([("To", ": ", "x"), ("Via", ": ", TOP)])
    assert headers.top_via_line == 1


@pytest.mark.parametrize(("lines", "problem"), [([], "missing"), ([("Via", ": ", "x")], "not SIP")])
def test_top_via_that_is_missing_or_broken_is_a_parse_error(lines, problem):
    with pytest.raises(ParseError, match=f"Via: {problem}"):
        _ = Headers(lines).top_via


# ---- splices of a proxy, which keep `fields` in step


SPLICED = {
    "none": [],
    "one": [("Via", ": ", "a")],
    "two": [("Via", ": ", "a"), ("To", ": ", "x"), ("Via", ": ", "b")],
    "three": [("To", ": ", "x"), ("Via", ": ", "a"), ("Via", ": ", "b"), ("Via", ": ", "c")],
    "joined": [("Via", ": ", "a, b"), ("Via", ": ", "c")],
    "empty": [("Via", ": ", ""), ("Via", ": ", "c")],
}


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("lines", SPLICED.values(), ids=SPLICED)
@pytest.mark.parametrize(
    ("splice", "left"),
    [
        (lambda headers: headers.push("Via", "new"), lambda vias: ["new", *vias]),
        (lambda headers: headers.put("Via", "new"), lambda vias: ["new"]),
        (
            lambda headers: headers.delete_header_front("Via"),
            lambda vias: [via for via in ", ".join(vias).split(", ") if via][1:],
        ),
    ],
    ids=["push", "put", "delete_header_front"],
)
def test_splice_keeps_fields_in_step_and_copies_apart(lines, splice, left, built):
    headers = Headers(list(lines))
    if built:
        assert headers.fields is not None
    copy = headers.copy()
    headers.wire = b"as it came"
    splice(headers)
    before = [value for name, _, value in lines if name == "Via"]
    assert [via for via in headers.all("Via") if via] == [via for via in left(before) if via]
    assert headers.fields == Headers(list(headers.lines)).fields
    assert headers.wire is None or headers.lines == lines
    assert (copy.lines, copy.fields) == (lines, Headers(list(lines)).fields)
