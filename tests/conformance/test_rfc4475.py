"""The torture test messages of RFC 4475: the verdict of each, and what a parser must have understood of them."""

import pytest

from sippet_gevent.errors import ParseError
from sippet_gevent.message.message import Request, Response
from sippet_gevent.message.parser import parse
from sippet_gevent.message.uri import URI

from . import corpus

corpus.require()


def names(expected: str) -> list[str]:
    return [
        row.file.partition("/")[2].removesuffix(".dat")
        for row in corpus.rows_of("rfc4475", expected=expected)
    ]


def data(name: str) -> bytes:
    return corpus.read(f"rfc4475/{name}.dat")


def read(name: str) -> Request:
    message = parse(data(name))
    assert isinstance(message, Request)
    return message


def error_of(name: str) -> ParseError:
    with pytest.raises(ParseError) as caught:
        parse(data(name))
    return caught.value


# ---- verdicts


@pytest.mark.rfc("4475 3.1.1")
@pytest.mark.parametrize("name", names("accept"))
def test_valid_message_is_forwarded_byte_for_byte(name):
    assert bytes(parse(data(name))) == corpus.forwarded(data(name))


@pytest.mark.rfc("4475 3.1.2")
@pytest.mark.parametrize("name", names("reject"))
def test_broken_message_is_refused(name):
    assert error_of(name).status in (400, 501, 505)


@pytest.mark.rfc("4475 3.1.2")
@pytest.mark.parametrize("name", names("either"))
def test_disputed_message_is_forwarded_as_it_came_or_refused_with_400(name):
    try:
        message = parse(data(name))
    except ParseError as error:
        assert error.status == 400
    else:
        assert bytes(message) == corpus.forwarded(data(name))


STATUSES = {
    "badinv01": 400, "clerr": 400, "ncl": 400, "scalar02": 400, "quotbal": 400, "ltgtruri": 400, "lwsruri": 400,
    "lwsstart": 400, "trws": 400, "badvers": 505, "mismatch01": 400, "mismatch02": 501, "insuf": 400, "multi01": 400,
    "mcl01": 400,
}  # fmt: skip


@pytest.mark.rfc("4475 3.1.2")
@pytest.mark.rfc("4475 3.3")
@pytest.mark.parametrize("name", STATUSES)
def test_broken_request_is_answered_with_the_status_of_its_fault(name):
    error = error_of(name)
    assert (error.status, "Via" in error.request.headers) == (STATUSES[name], True)


FAULTS = {
    "badinv01": "Via", "clerr": "Content-Length", "ncl": "Content-Length", "scalar02": "CSeq", "quotbal": "To",
    "ltgtruri": "Request-URI", "mismatch01": "CSeq", "mismatch02": "CSeq", "badaspec": "To",
    "mcl01": "Content-Length", "insuf": "From", "badvers": "SIP-Version",
}  # fmt: skip


@pytest.mark.rfc("4475 3.1.2")
@pytest.mark.parametrize("name", FAULTS)
def test_error_names_the_field_at_fault(name):
    assert error_of(name).header == FAULTS[name]


@pytest.mark.rfc("4475 3.1.2.5")
@pytest.mark.rfc("4475 3.1.2.19")
@pytest.mark.parametrize("name", ["scalarlg", "bigcode"])
def test_broken_response_is_not_answered(name):
    assert error_of(name).request is None


# ---- 3.1.1.1 a short tortuous INVITE


@pytest.fixture
def wsinv() -> Request:
    return read("wsinv")


@pytest.mark.rfc("4475 3.1.1.1")
@pytest.mark.rfc("3261 7.3.1")
def test_wsinv_has_three_vias_over_two_lines(wsinv):
    assert [(via.transport, via.sent_by, via.branch) for via in wsinv.via] == [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ]


def test_wsinv_has_max_forwards_68_behind_leading_zeros(wsinv):
    assert wsinv.max_forwards == 68


def test_wsinv_has_cseq_9_over_two_lines(wsinv):
    assert wsinv.cseq == (9, "INVITE")


def test_wsinv_has_a_display_name_that_ends_in_backslash_and_quote(wsinv):
    assert wsinv.from_.display == 'J Rosenberg \\"'


def test_wsinv_has_its_from_tag_on_a_third_line(wsinv):
    assert wsinv.from_.tag == "98asjd8"


def test_wsinv_has_a_to_tag_that_belongs_to_the_header_and_not_to_the_uri(wsinv):
    assert (wsinv.to.tag, wsinv.to.uri.parameters) == ("1918181833n", {})


def test_wsinv_has_an_empty_subject_in_compact_form(wsinv):
    assert wsinv.subject == ""


def test_wsinv_has_a_contact_with_a_bare_parameter_and_a_q(wsinv):
    contact = wsinv.contact[0]
    assert (dict(contact.parameters), contact.q) == (
        {"newparam": "newvalue", "secondparam": None, "q": "0.33"},
        0.33,
    )


def test_wsinv_has_a_contact_with_quotes_in_its_display_name(wsinv):
    assert wsinv.contact[0].display == 'Quoted string ""'


def test_wsinv_keeps_the_unknown_header_with_the_unusual_value(wsinv):
    assert wsinv.headers["unknownheaderwithunusualvalue"] == ";;,,;;,;"


def test_wsinv_joins_folded_lines_with_one_blank(wsinv):
    assert wsinv.headers["NewFangledHeader"] == "newfangled value continued newfangled value"


def test_wsinv_has_a_route_on_a_folded_line(wsinv):
    assert wsinv.route[0].uri == URI.parse(
        "sip:services.example.com;lr;unknownwith=value;unknown-no-value"
    )


def test_wsinv_has_a_body_of_its_content_length(wsinv):
    assert len(wsinv.body) == wsinv.content_length == 150


def test_wsinv_has_a_request_uri_with_a_bare_parameter(wsinv):
    assert dict(wsinv.uri.parameters) == {"unknownparam": None}


@pytest.mark.rfc("4475 3.1.1.1")
@pytest.mark.rfc("3261 8.2.6.2")
def test_response_to_wsinv_has_one_to_tag_the_one_that_is_there(wsinv):
    assert parse(bytes(wsinv.response(200))).to.parameters.keys() == {"tag"}


# ---- 3.1.1.2 wide range of valid characters


@pytest.fixture
def intmeth() -> Request:
    return read("intmeth")


@pytest.mark.rfc("4475 3.1.1.2")
def test_intmeth_has_its_method_in_the_request_line_and_in_cseq(intmeth):
    assert intmeth.method == intmeth.cseq.method == "!interesting-Method0123456789_*+`.%indeed'~"


def test_intmeth_has_a_user_part_with_question_mark_and_semicolons(intmeth):
    assert intmeth.uri.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"


def test_intmeth_has_a_password(intmeth):
    assert intmeth.uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"


def test_intmeth_has_the_host_after_the_at_sign(intmeth):
    assert (intmeth.uri.host, dict(intmeth.uri.parameters), dict(intmeth.uri.headers)) == (
        "example.com",
        {},
        {},
    )


def test_intmeth_has_nul_and_delete_as_quoted_pairs(intmeth):
    assert intmeth.to.display == "BEL:\x07 NUL:\x00 DEL:\x7f"


def test_intmeth_has_a_display_name_of_odd_tokens(intmeth):
    assert intmeth.from_.display == "token1~` token2'+_ token3*%!.-"


def test_intmeth_has_a_quoted_parameter_in_cyrillic(intmeth):
    assert intmeth.from_.parameters["fromParam''~+*_!.-%"] == "работающий"


def test_intmeth_has_a_branch_of_odd_characters(intmeth):
    assert intmeth.via[0].branch == "z9hG4bK-.!%66*_+`'~"


def test_intmeth_has_a_call_id_with_every_word_character(intmeth):
    assert intmeth.call_id == "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"


def test_intmeth_keeps_an_extension_header_in_utf_8(intmeth):
    assert intmeth.headers["extensionHeader-!.%*+_`'~"] == "\ufeff大停電"


def test_intmeth_uri_survives_being_parsed_and_written(intmeth):
    assert str(intmeth.uri) == intmeth.uri_text


# ---- 3.1.1.3 to 3.1.1.6


@pytest.mark.rfc("4475 3.1.1.3")
@pytest.mark.rfc("3261 19.1.2")
def test_esc01_unescapes_a_user_part_once():
    assert (read("esc01").uri.user, read("esc01").uri.host) == (
        "sips:user@example.com",
        "example.net",
    )


@pytest.mark.rfc("4475 3.1.1.3")
def test_esc01_unescapes_parameter_names_and_values_once():
    uri = read("esc01").contact[0].uri
    assert (uri.user, dict(uri.parameters)) == ("caller", {"lr": None, "name": "value%41"})


@pytest.mark.rfc("4475 3.1.1.3")
@pytest.mark.rfc("3261 19.1.4")
def test_esc01_has_a_parameter_that_is_lr_in_escapes():
    assert read("esc01").contact[0].uri.is_loose_router


@pytest.mark.rfc("4475 3.1.1.3")
def test_esc01_has_a_to_that_is_user_in_escapes():
    assert read("esc01").to.uri == URI.parse("sip:user@example.com")


@pytest.mark.rfc("4475 3.1.1.3")
def test_esc01_has_blanks_in_a_user_part():
    assert read("esc01").from_.uri.user == "I have spaces"


@pytest.mark.rfc("4475 3.1.1.4")
def test_escnull_has_a_nul_that_cuts_nothing():
    assert read("escnull").to.uri.user == "null-\x00-null"


@pytest.mark.rfc("4475 3.1.1.4")
def test_escnull_has_two_contacts_that_differ():
    one, two = read("escnull").contact
    assert (one.uri.user, two.uri.user, one.uri.equivalent(two.uri)) == ("\x00", "\x00\x00", False)


@pytest.mark.rfc("4475 3.1.1.5")
def test_esc02_has_a_method_that_is_not_register():
    assert read("esc02").method == "RE%47IST%45R"


@pytest.mark.rfc("4475 3.1.1.5")
def test_esc02_has_two_contacts_and_an_unknown_header():
    request = read("esc02")
    assert ([c.uri.user for c in request.contact], "C%6Fntact" in request.headers) == (
        ["alias1", "alias3"],
        True,
    )


@pytest.mark.rfc("4475 3.1.1.5")
def test_esc02_has_a_percent_sign_in_its_display_name_and_branch():
    request = read("esc02")
    assert (request.from_.display, request.via[0].branch) == ("%Z%45", "z9hG4bK209%fzsnel234")


@pytest.mark.rfc("4475 3.1.1.6")
def test_lwsdisp_needs_no_blank_before_the_angle_bracket():
    from_ = read("lwsdisp").from_
    assert (from_.display, from_.uri.user, from_.uri.host) == ("caller", "caller", "example.com")


# ---- 3.1.1.7 to 3.1.1.13


@pytest.mark.rfc("4475 3.1.1.7")
def test_longreq_has_34_vias():
    assert len(read("longreq").via) == 34


@pytest.mark.rfc("4475 3.1.1.7")
def test_longreq_has_vias_33_to_1_before_that_of_its_sender():
    hosts = [via.host for via in read("longreq").via]
    assert hosts == [
        *(f"sip{number}.example.com" for number in range(33, 0, -1)),
        "host.example.com",
    ]


@pytest.mark.rfc("4475 3.1.1.7")
def test_longreq_has_a_long_display_name_tag_and_call_id():
    request = read("longreq")
    assert (len(request.to.display), len(request.from_.tag), len(request.call_id)) == (
        103,
        155,
        141,
    )


@pytest.mark.rfc("4475 3.1.1.8")
@pytest.mark.rfc("3261 18.3")
def test_dblreq_over_a_datagram_is_one_register_without_a_body():
    request = read("dblreq")
    assert (request.method, request.body, request.via[0].branch) == (
        "REGISTER",
        b"",
        "z9hG4bKkdjuw23492",
    )


@pytest.mark.rfc("4475 3.1.1.9")
def test_semiuri_has_a_semicolon_and_an_at_sign_in_its_user_part():
    uri = read("semiuri").uri
    assert (uri.user, uri.host, dict(uri.parameters)) == (
        "user;par=u@example.net",
        "example.com",
        {},
    )


@pytest.mark.rfc("4475 3.1.1.9")
def test_semiuri_is_written_as_it_came():
    assert str(read("semiuri").uri) == "sip:user;par=u%40example.net@example.com"


@pytest.mark.rfc("4475 3.1.1.9")
def test_semiuri_accepts_six_media_types_over_three_lines():
    assert [media.name for media in read("semiuri").accept] == [
        "application/sdp", "application/pkcs7-mime", "multipart/mixed", "multipart/signed", "message/sip", "message/sipfrag",
    ]  # fmt: skip


@pytest.mark.rfc("4475 3.1.1.10")
def test_transports_has_known_and_unknown_transports():
    assert [via.transport for via in read("transports").via] == [
        "UDP",
        "SCTP",
        "TLS",
        "UNKNOWN",
        "TCP",
    ]


@pytest.mark.rfc("4475 3.1.1.11")
def test_mpart01_has_a_binary_body_of_553_bytes_kept_as_it_is():
    request = read("mpart01")
    assert request.body == data("mpart01")[-553:]


@pytest.mark.rfc("4475 3.1.1.11")
def test_mpart01_has_a_content_type_with_a_boundary():
    media = read("mpart01").content_type
    assert (media.name, media.parameters["boundary"]) == ("multipart/mixed", "7a9cbec02ceef655")


@pytest.mark.rfc("4475 3.1.1.12")
def test_unreason_has_a_reason_phrase_in_utf_8():
    assert parse(data("unreason")).reason == "= 2**3 * 5**2 но сто девяносто девять - простое"


@pytest.mark.rfc("4475 3.1.1.13")
def test_noreason_has_an_empty_reason_phrase():
    response = parse(data("noreason"))
    assert isinstance(response, Response) and (response.status, response.reason) == (100, "")


# ---- 3.1.2: what the field may carry and a core must not trust


@pytest.mark.rfc("4475 3.1.2.12")
@pytest.mark.rfc("3261 20.17")
def test_baddate_has_a_date_that_is_refused_only_when_read():
    request = read("baddate")
    with pytest.raises(ParseError, match=r"^Date: not a SIP date in GMT"):
        _ = request.date


@pytest.mark.rfc("4475 3.1.2.13")
@pytest.mark.rfc("3261 20.10")
def test_regbadct_has_a_contact_whose_question_mark_needs_brackets():
    with pytest.raises(ParseError, match=r"^Contact: URI with"):
        _ = read("regbadct").contact


@pytest.mark.rfc("4475 3.1.2.11")
def test_escruri_keeps_its_uri_headers_apart_from_its_headers():
    request = read("escruri")
    assert (dict(request.uri.headers), request.route) == ({"Route": "<sip:example.com>"}, ())


@pytest.mark.rfc("4475 3.2.1")
def test_badbranch_has_a_branch_that_is_the_cookie_and_nothing_else():
    assert read("badbranch").via[0].branch == "z9hG4bK"


# ---- 3.3: the application layer's


@pytest.mark.rfc("4475 3.3.2")
@pytest.mark.rfc("4475 3.3.3")
@pytest.mark.parametrize(
    "name, scheme", [("unkscm", "nobodyknowsthisscheme"), ("novelsc", "soap.beep")]
)
def test_unknown_scheme_in_the_request_uri_is_parsed(name, scheme):
    assert read(name).uri.scheme == scheme


@pytest.mark.rfc("4475 3.3.4")
def test_unksm2_has_other_schemes_in_to_from_and_contact():
    request = read("unksm2")
    assert [value.uri.scheme for value in (request.to, request.from_, *request.contact)] == [
        "isbn",
        "http",
        "name",
    ]


@pytest.mark.rfc("4475 3.3.5")
def test_bext01_has_unknown_option_tags():
    request = read("bext01")
    assert request.require == ("nothingSupportsThis", "nothingSupportsThisEither")
    assert request.proxy_require == ("noProxiesSupportThis", "norDoAnyProxiesSupportThis")


@pytest.mark.rfc("4475 3.3.7")
def test_regaut01_has_credentials_of_an_unknown_scheme():
    assert read("regaut01").authorization[0] == ("NoOneKnowsThisScheme", {"opaque-data": "here"})


@pytest.mark.rfc("4475 3.3.10")
def test_bcast_has_a_second_via_with_a_broadcast_address():
    assert parse(data("bcast")).via[1].host == "255.255.255.255"


@pytest.mark.rfc("4475 3.3.11")
def test_zeromf_has_max_forwards_zero_which_is_not_none():
    assert read("zeromf").max_forwards == 0


@pytest.mark.rfc("4475 3.3.12")
@pytest.mark.rfc("4475 3.3.13")
def test_cparam01_and_cparam02_differ_in_whose_parameter_it_is():
    header, uri = read("cparam01").contact[0], read("cparam02").contact[0]
    assert (header.parameters, header.uri.parameters) == ({"unknownparam": None}, {})
    assert (uri.parameters, uri.uri.parameters) == ({}, {"unknownparam": None})


@pytest.mark.rfc("4475 3.3.14")
def test_regescrt_has_a_contact_with_a_route_in_escapes():
    assert read("regescrt").contact[0].uri.headers["Route"] == "<sip:sip.example.com>"


@pytest.mark.rfc("4475 3.3.15")
def test_sdp01_accepts_a_type_we_may_not_have():
    assert [media.name for media in read("sdp01").accept] == ["text/nobodyknowsthis"]


@pytest.mark.rfc("4475 3.4.1")
def test_inv2543_has_no_branch_tags_content_length_or_max_forwards():
    request = read("inv2543")
    found = (
        request.via[0].branch,
        request.from_.tag,
        request.to.tag,
        request.content_length,
        request.max_forwards,
    )
    assert found == (None, None, None, None, None)
