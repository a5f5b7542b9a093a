"""Dialog: route sets, targets and numbers for both sides, for every method and kind of route, RFC 3261 §12."""

from __future__ import annotations

import pytest

from sippet_gevent import URI, ParseError, Request
from sippet_gevent.core.dialog.dialog import Dialog, contact_uri, dialog_id
from sippet_gevent.core.routing.routes import take_next_hop
from sippet_gevent.message.mandatory import mandatory_of

LOOSE_1, LOOSE_2 = "<sip:10.1.0.1;lr>", "<sip:10.1.0.2;lr;x=1>"
STRICT = "<sip:10.1.0.3;method=INVITE>"
CALLER_CONTACT, CALLEE_CONTACT = "sip:alice@10.0.0.50", "sip:bob@10.0.0.60"

# Record-Route as the callee sees it, the last proxy first.
RECORD_ROUTES = {
    "no route": (),
    "one loose": (LOOSE_1,),
    "two loose": (LOOSE_2, LOOSE_1),
    "strict": (STRICT,),
    "strict, then loose": (STRICT, LOOSE_1),
    "loose, then strict": (LOOSE_1, STRICT),
}

# What a request looks like on the wire, by side: (Request-URI, Route, where it is sent). The caller's route set is the
# Record-Route reversed (§12.1.2), the callee's is in its order (§12.1.1).
STRICT_URI = "sip:10.1.0.3"  # a method has no place in a Request-URI (§12.2.1.1)
EXPECTED = {
    ("UAC", "no route"): (CALLEE_CONTACT, (), CALLEE_CONTACT),
    ("UAS", "no route"): (CALLER_CONTACT, (), CALLER_CONTACT),
    ("UAC", "one loose"): (CALLEE_CONTACT, (LOOSE_1,), "sip:10.1.0.1;lr"),
    ("UAS", "one loose"): (CALLER_CONTACT, (LOOSE_1,), "sip:10.1.0.1;lr"),
    ("UAC", "two loose"): (CALLEE_CONTACT, (LOOSE_1, LOOSE_2), "sip:10.1.0.1;lr"),
    ("UAS", "two loose"): (CALLER_CONTACT, (LOOSE_2, LOOSE_1), "sip:10.1.0.2;lr;x=1"),
    ("UAC", "strict"): (STRICT_URI, (f"<{CALLEE_CONTACT}>",), STRICT_URI),
    ("UAS", "strict"): (STRICT_URI, (f"<{CALLER_CONTACT}>",), STRICT_URI),
    ("UAC", "strict, then loose"): (CALLEE_CONTACT, (LOOSE_1, STRICT), "sip:10.1.0.1;lr"),
    ("UAS", "strict, then loose"): (STRICT_URI, (LOOSE_1, f"<{CALLER_CONTACT}>"), STRICT_URI),
    ("UAC", "loose, then strict"): (STRICT_URI, (LOOSE_1, f"<{CALLEE_CONTACT}>"), STRICT_URI),
    ("UAS", "loose, then strict"): (CALLER_CONTACT, (LOOSE_1, STRICT), "sip:10.1.0.1;lr"),
}

METHODS = ("ACK", "BYE", "INVITE", "UPDATE", "INFO", "NOTIFY")


def invite(**headers):
    """Make an INVITE as it comes to its callee."""
    return Request(
        "INVITE",
        "sip:bob@example.com",
        via="SIP/2.0/UDP 10.0.0.50;branch=z9hG4bK1",
        from_='"Alice" <sip:alice@example.com>;tag=a',
        to='"Bob" <sip:bob@example.com>',
        call_id="1@10.0.0.50",
        cseq="7 INVITE",
        contact=f"<{CALLER_CONTACT}>",
        **headers,
    )


def dialogs(record_route=()):
    """Return both ends of the dialog that an INVITE and its 200 make, the caller's first."""
    request = invite(record_route=record_route)
    response = request.response(200, contact=f"<{CALLEE_CONTACT}>")
    return {"UAC": Dialog.of_uac(invite(), response), "UAS": Dialog.of_uas(request, response)}


@pytest.mark.rfc("3261 12.2.1.1")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("side", "routes"), EXPECTED, ids=" ".join)
def test_request_follows_the_route_set(side, routes, method):
    dialog = dialogs(RECORD_ROUTES[routes])[side]
    request = dialog.ack(7) if method == "ACK" else dialog.request(method)
    where = take_next_hop(request)
    uri, route, expected_where = EXPECTED[side, routes]
    assert (str(request.uri), tuple(map(str, request.route))) == (uri, route)
    assert str(URI.parse(expected_where)) == str(where).replace(";method=INVITE", "")


@pytest.mark.rfc("3261 12.2.1.1")
def test_strict_routers_are_served_as_in_the_example_of_the_rfc():
    dialog = dialogs()["UAC"]
    dialog.remote_target = URI.parse("sip:user@remoteua")
    request = dialog.request("BYE")
    request.route = "<sip:proxy1>,<sip:proxy2>,<sip:proxy3;lr>,<sip:proxy4>"
    take_next_hop(request)
    assert str(request.uri) == "sip:proxy1"
    assert (
        ",".join(map(str, request.route))
        == "<sip:proxy2>,<sip:proxy3;lr>,<sip:proxy4>,<sip:user@remoteua>"
    )


@pytest.mark.rfc("3261 12.2.1.1")
@pytest.mark.parametrize(("side", "from_tag"), [("UAC", "a"), ("UAS", None)])
def test_from_and_to_are_the_dialog_s_with_their_tags(side, from_tag):
    both = dialogs()
    bye = both[side].request("BYE")
    assert (bye.from_, bye.to) == (both[side].local, both[side].remote)
    assert bye.from_.tag and bye.to.tag
    assert from_tag in (None, bye.from_.tag)


def test_ends_of_a_dialog_have_each_other_s_identity():
    caller, callee = dialogs().values()
    assert caller.id == (callee.id[0], callee.id[2], callee.id[1])


@pytest.mark.rfc("3261 12.2.1.1")
def test_numbers_of_the_caller_go_on_from_the_invite_s():
    dialog = dialogs()["UAC"]
    assert [dialog.request("INFO").cseq.number for _ in range(3)] == [8, 9, 10]


@pytest.mark.rfc("3261 12.2.1.1")
def test_numbers_of_the_callee_are_contiguous():
    dialog = dialogs()["UAS"]
    first = dialog.request("INFO").cseq.number
    assert dialog.request("INFO").cseq.number == first + 1


@pytest.mark.rfc("3261 13.2.2.4")
def test_ack_takes_no_number():
    dialog = dialogs()["UAC"]
    assert str(dialog.ack(7).cseq) == "7 ACK"
    assert dialog.request("BYE").cseq.number == 8


def received(number, method="INFO"):
    """Make a request from the peer, of which only the number counts."""
    return Request(method, CALLEE_CONTACT, cseq=f"{number} {method}")


@pytest.mark.rfc("3261 12.2.2")
@pytest.mark.parametrize(("side", "numbers", "expected"), [
    ("UAS", (8, 9, 10), [True, True, True]),
    ("UAS", (8, 900, 901), [True, True, True]),
    ("UAS", (6,), [False]),
    ("UAS", (7,), [False]),
    ("UAS", (9, 8), [True, False]),
    ("UAC", (1, 2), [True, True]),
    ("UAC", (2147483647,), [True]),
    ("UAC", (5, 4, 6), [True, False, True]),
])  # fmt: skip
def test_numbers_from_the_peer_must_grow(side, numbers, expected):
    dialog = dialogs()[side]
    assert [dialog.receives(received(number)) for number in numbers] == expected


@pytest.mark.parametrize("method", ["ACK", "CANCEL"])
def test_ack_and_cancel_have_the_number_of_their_invite(method):
    dialog = dialogs()["UAS"]
    assert dialog.receives(received(7, method))
    assert dialog.remote_cseq == 7


@pytest.mark.rfc("3261 12.2")
def test_refresh_takes_the_new_target_or_keeps_the_old_one():
    dialog = dialogs()["UAC"]
    dialog.refresh(invite().response(200))
    assert str(dialog.remote_target) == CALLEE_CONTACT
    dialog.refresh(invite().response(200, contact="<sip:moved@10.0.0.61>"))
    assert str(dialog.remote_target) == "sip:moved@10.0.0.61"


@pytest.mark.rfc("3261 12.2.1.2")
def test_record_route_of_a_later_response_does_not_change_the_route_set():
    dialog = dialogs(RECORD_ROUTES["one loose"])["UAC"]
    dialog.refresh(invite(record_route=LOOSE_2).response(200, contact="<sip:moved@10.0.0.61>"))
    assert tuple(map(str, dialog.route_set)) == (LOOSE_1,)


@pytest.mark.rfc("3261 12.1.1")
@pytest.mark.parametrize("contact", ["*", ()])
def test_invite_without_a_contact_makes_no_dialog(contact):
    request = invite()
    request.contact = contact
    with pytest.raises(ParseError, match="Contact"):
        Dialog.of_uas(request, request.response(200))


@pytest.mark.rfc("3261 12.1.2")
@pytest.mark.parametrize("contact", [None, "*", "<sip:@@@>"])
def test_response_without_a_proper_contact_leaves_the_request_uri(contact):
    response = invite().response(200)
    if contact is not None:
        response.headers["Contact"] = contact
    assert str(Dialog.of_uac(invite(), response).remote_target) == "sip:bob@example.com"


@pytest.mark.rfc("3261 12.1.1")
def test_peer_without_tags_makes_a_dialog_as_those_of_rfc_2543():
    request = invite()
    request.from_ = "<sip:alice@example.com>"
    dialog = Dialog.of_uas(request, request.response(200))
    assert dialog.id[2] == ""
    assert dialog.request("BYE").to.tag is None


@pytest.mark.rfc("3261 12")
def test_request_names_its_dialog_by_call_id_and_both_tags():
    both = dialogs()
    bye = both["UAC"].request("BYE", via="SIP/2.0/UDP 10.0.0.50;branch=z9hG4bK2")
    mandatory_of(bye)
    assert dialog_id(bye) == both["UAS"].id


def test_request_without_a_to_tag_names_no_dialog():
    request = invite()
    mandatory_of(request)
    assert dialog_id(request) is None


def test_contact_is_the_first_one():
    assert str(contact_uri(invite(record_route=()))) == CALLER_CONTACT


def test_dialog_shows_call_id_and_tags():
    assert repr(dialogs()["UAC"]).startswith("<Dialog 1@10.0.0.50 a ")
