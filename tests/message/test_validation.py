"""validate(): messages that an application has made, or has from elsewhere."""

import pytest

from sippet_gevent import (
    Fragment,
    InvalidValue,
    ParseError,
    Request,
    Response,
    create_branch,
    create_call_id,
    create_tag,
    parse,
    validate,
)

from ..conformance import corpus


def whole(method: str = "OPTIONS", **headers: object) -> Request:
    request = Request(
        method,
        "sip:bob@example.com",
        via=f"SIP/2.0/UDP 192.0.2.1;branch={create_branch()}",
        from_=f"<sip:alice@example.com>;tag={create_tag()}",
        to="<sip:bob@example.com>",
        call_id=create_call_id(),
        cseq=f"1 {method}",
        max_forwards=70,
    )
    for name, value in headers.items():
        setattr(request, name, value)
    return request


def test_whole_request_is_valid_and_unchanged():
    request = whole()
    before = bytes(request)
    assert validate(request) is None
    assert bytes(request) == before


def test_parsed_request_and_its_response_are_valid():
    request = parse(corpus.OPTIONS)
    validate(request)
    validate(request.response(404))


@pytest.mark.parametrize("status", [100, 180, 200, 404])
def test_response_made_of_a_request_is_valid(status):
    validate(whole().response(status))


@pytest.mark.rfc("3261 8.1.1")
@pytest.mark.parametrize(
    ("attribute", "name", "write"),
    [
        ("via", "Via", "create_branch()"),
        ("from_", "From", "create_tag()"),
        ("to", "To", 'to="<sip:bob@example.com>"'),
        ("call_id", "Call-ID", "create_call_id()"),
        ("cseq", "CSeq", 'cseq="1 OPTIONS"'),
        ("max_forwards", "Max-Forwards", "max_forwards=70"),
    ],
)
def test_missing_field_is_named_with_what_to_write(attribute, name, write):
    request = whole()
    delattr(request, attribute)
    with pytest.raises(InvalidValue) as caught:
        validate(request)
    assert str(caught.value).startswith(f"{name}: missing from <Request OPTIONS")
    assert write in str(caught.value)


@pytest.mark.rfc("3261 8.1.1.3")
def test_from_without_tag_is_invalid():
    with pytest.raises(InvalidValue, match="From: tag missing"):
        validate(whole(from_="<sip:alice@example.com>"))


@pytest.mark.rfc("3261 8.1.1.7")
@pytest.mark.parametrize("branch", ["", ";branch=", ";branch=1", ";branch=z9hG4bK"])
def test_branch_without_magic_cookie_is_invalid(branch):
    with pytest.raises(InvalidValue, match=r"Via: branch must begin with z9hG4bK.*create_branch"):
        validate(whole(via=f"SIP/2.0/UDP 192.0.2.1{branch}"))


@pytest.mark.rfc("3261 8.1.1.5")
def test_cseq_of_another_method_is_invalid():
    with pytest.raises(InvalidValue, match=r'CSeq: .*got INFO.*write request.cseq = "7 OPTIONS"'):
        validate(whole(cseq="7 INFO"))


@pytest.mark.rfc("3261 8.1.1.8")
@pytest.mark.parametrize("method", ["INVITE", "SUBSCRIBE", "NOTIFY", "REFER", "UPDATE"])
def test_request_of_a_dialog_needs_one_contact(method):
    with pytest.raises(InvalidValue, match="Contact: missing"):
        validate(whole(method))
    with pytest.raises(InvalidValue, match="Contact: must be one URI"):
        validate(whole(method, contact=("<sip:a@192.0.2.1>", "<sip:b@192.0.2.1>")))
    with pytest.raises(InvalidValue, match="Contact: must be one URI"):
        validate(whole(method, contact="*"))
    validate(whole(method, contact="<sip:a@192.0.2.1>"))


@pytest.mark.rfc("3261 12.1.1")
def test_success_of_an_invite_needs_a_contact():
    request = whole("INVITE", contact="<sip:a@192.0.2.1>")
    with pytest.raises(InvalidValue, match="Contact: missing from <Response 200"):
        validate(request.response(200))
    validate(request.response(200, contact="<sip:bob@192.0.2.2>"))
    validate(request.response(486))


@pytest.mark.rfc("3261 8.2.6.2")
def test_response_without_to_tag_is_invalid_above_100():
    response = whole().response(200)
    response.to = "<sip:bob@example.com>"
    with pytest.raises(InvalidValue, match=r"To: tag missing.*request.response"):
        validate(response)


def test_response_made_without_its_request_is_invalid():
    with pytest.raises(InvalidValue, match="Via: missing from <Response 200 OK>"):
        validate(Response(200))


@pytest.mark.parametrize("name", ["Contact", "Expires", "Date", "CSeq", "To", "Via"])
def test_unreadable_field_is_named_with_its_text(name):
    request = whole()
    request.headers[name] = "<<"
    with pytest.raises(ParseError) as caught:
        validate(request)
    assert caught.value.header == name
    assert "<<" in str(caught.value)


@pytest.mark.parametrize("name", ["From", "To", "Call-ID", "CSeq"])
def test_field_that_appears_twice_is_refused(name):
    request = whole()
    request.headers.add(name, request.headers[name])
    with pytest.raises(ParseError, match=name):
        validate(request)


@pytest.mark.rfc("3261 20.14")
def test_content_length_of_another_body_is_invalid():
    request = whole(content_length=5)
    with pytest.raises(InvalidValue, match="Content-Length"):
        validate(request)


def test_field_without_a_type_is_not_looked_at():
    request = whole()
    request.headers["X-Tenant"] = "<<"
    validate(request)


@pytest.mark.parametrize("value", [None, b"OPTIONS", "OPTIONS", Fragment.parse(b"To: <sip:a@b>")])
def test_other_objects_are_a_type_error(value):
    with pytest.raises(TypeError, match="message must be a Request or a Response"):
        validate(value)
