"""Our Record-Route and its token: requests of a real dialog pass, forged ones do not, RFC 3261 §16.4 and §16.6 step 4."""

from __future__ import annotations

import pytest

from sippet_gevent import URI, InvalidValue, RegistrarProxy, Stack, forward
from sippet_gevent.core.routing.tokens import ROUTE_SECRET, RouteTokens
from sippet_gevent.message.parser import parse
from sippet_gevent.testing import SERVER

from ..wire import Peer

DOMAIN = "example.com"
BOB = f"sip:bob@{DOMAIN}"
METHODS = ["INVITE", "BYE", "MESSAGE", "UPDATE", "NOTIFY", "ACK"]
SECRET = b"sixteen bytes..." * 2


class Office:
    """A RegistrarProxy with a call between alice and bob, and a stranger that must receive nothing."""

    def __init__(self, sip, core=None, **options):
        self.sip = sip
        self.stack = sip.stack(core or RegistrarProxy(), SERVER, domains=(DOMAIN,), **options)
        self.alice, self.bob, self.stranger = (
            Peer(sip, host) for host in ("10.0.0.71", "10.0.0.72", "10.0.0.99")
        )
        for name, phone in (("alice", self.alice), ("bob", self.bob)):
            aor = f"<sip:{name}@{DOMAIN}>"
            phone.ask(
                "REGISTER", f"sip:{DOMAIN}", to=aor, from_=aor + ";tag=1", contact=f"<{phone.uri}>"
            )
            phone.received.clear()

    def call(self, method="INVITE", **headers):
        """Begin a dialog; `theirs` is the request as bob received it, `answer` the response as alice did."""
        headers.setdefault("contact", f"<{self.alice.uri}>")
        self.ours = self.alice.ask(method, BOB, **headers)
        self.theirs = self.bob.last(method)
        self.bob.reply(self.theirs, 200, contact=f"<{self.bob.uri}>")
        self.answer = self.alice.responses[-1]
        if method == "INVITE":
            self.alice.send(self.from_caller("ACK"))
        for phone in (self.alice, self.bob):
            phone.received.clear()
        return self

    @property
    def route(self):
        (route,) = self.answer.record_route
        return route

    def from_caller(self, method, **headers):
        headers.setdefault("route", (self.route,))
        return self.alice.within(self.ours, self.answer, method, **headers)

    def from_callee(self, method, **headers):
        headers.setdefault("route", self.theirs.record_route)
        return self.bob.back(self.theirs, self.answer, method, **headers)

    def forged(self, method, route, **headers):
        """Send a request that claims to be within a dialog and leads to the stranger."""
        headers.setdefault("to", f"<{self.stranger.uri}>;tag=forged")
        return self.alice.ask(method, self.stranger.uri, route=route, **headers)


@pytest.fixture
def office(sip):
    return Office(sip)


@pytest.fixture
def talking(office):
    return office.call()


def own(user=None, host=SERVER, rest=";lr"):
    return f"<sip:{user + '@' if user else ''}{host}{rest}>"


# ---- strangers


@pytest.mark.rfc("3261 16.4")
@pytest.mark.parametrize("method", METHODS)
def test_forged_to_tag_and_route_are_not_forwarded(office, method):
    office.forged(method, own())
    assert office.stranger.received == []


@pytest.mark.rfc("3261 12.2.2")
def test_forged_to_tag_and_route_are_answered_481(office):
    office.forged("BYE", own())
    assert office.alice.statuses == [481]


@pytest.mark.rfc("3261 16.4")
@pytest.mark.parametrize("user", ["0" * 20, "x", "%C3%A9", "%00", "bob"])
def test_invented_token_is_not_followed(office, user):
    office.forged("MESSAGE", own(user))
    assert (office.stranger.received, office.alice.statuses) == ([], [481])


@pytest.mark.rfc("3261 16.4")
@pytest.mark.parametrize("method", METHODS)
def test_token_of_another_dialog_is_not_followed(talking, method):
    talking.forged(method, talking.route)
    assert talking.stranger.received == []


@pytest.mark.rfc("3261 16.4")
@pytest.mark.parametrize("same", ["call_id", "from_"])
def test_call_id_alone_or_tag_alone_is_not_the_dialog(talking, same):
    talking.forged("MESSAGE", talking.route, **{same: getattr(talking.ours, same)})
    assert (talking.stranger.received, talking.alice.statuses) == ([], [481])


@pytest.mark.rfc("3261 16.6")
def test_token_covers_where_call_id_ends_and_tag_begins(office):
    office.call(call_id="abc", from_="<sip:alice@example.com>;tag=def")
    office.forged("MESSAGE", office.route, call_id="abcd", from_="<sip:alice@example.com>;tag=ef")
    assert office.stranger.received == []


@pytest.mark.rfc("3261 16.4")
@pytest.mark.parametrize("method", METHODS)
def test_forged_strict_route_is_not_followed(office, method):
    office.alice.ask(
        method, f"sip:{SERVER};lr", route=f"<{office.stranger.uri}>", to="<sip:x@y>;tag=forged"
    )
    assert office.stranger.received == []


@pytest.mark.rfc("3261 16.4")
def test_own_route_twice_is_not_followed(office):
    office.forged("MESSAGE", (own(), own()))
    assert office.stranger.received == []


@pytest.mark.rfc("3261 16.4")
def test_token_outside_a_dialog_is_not_followed(talking):
    talking.forged(
        "MESSAGE",
        talking.route,
        to=f"<{talking.stranger.uri}>",
        call_id=talking.ours.call_id,
        from_=talking.ours.from_,
    )
    assert (talking.stranger.received, talking.alice.statuses) == ([], [404])


@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
@pytest.mark.parametrize("before", [(), (own(),)])
def test_strangers_route_does_not_divert_a_request_to_a_phone(office, method, before):
    office.alice.ask(method, BOB, route=(*before, f"<{office.stranger.uri};lr>"))
    assert (office.stranger.received, office.bob.received, office.alice.statuses) == ([], [], [403])


@pytest.mark.rfc("3261 16.4")
def test_own_route_without_token_is_removed_before_a_phone(office):
    office.alice.ask("MESSAGE", BOB, route=own())
    message = office.bob.last("MESSAGE")
    assert (message.uri_text, len(message.route)) == (office.bob.uri, 0)
    office.bob.reply(message, 200)


def test_ack_without_a_dialog_goes_to_no_registered_phone(office):
    office.alice.ask("ACK", BOB)
    assert office.bob.received == []


def test_two_calls_have_two_tokens(office):
    assert office.call().route.uri.user != office.call().route.uri.user


def test_token_of_another_stack_is_not_followed(sip):
    one = Office(sip).call()
    one.stack.stop()
    one.stack = sip.stack(RegistrarProxy(), SERVER, domains=(DOMAIN,))
    one.alice.send(one.from_caller("BYE"))
    assert (one.bob.received, one.alice.statuses) == ([], [481])


# ---- requests of the dialog


@pytest.mark.rfc("3261 16.6")
@pytest.mark.parametrize(
    "method",
    ["ACK", "BYE", "INVITE", "UPDATE", "PRACK", "INFO", "REFER", "NOTIFY", "MESSAGE", "SUBSCRIBE"],
)
def test_request_of_the_caller_passes(talking, method):
    talking.alice.send(talking.from_caller(method))
    assert talking.bob.methods == [method]
    if method != "ACK":
        talking.bob.reply(talking.bob.last(method), 200)
        assert talking.alice.statuses[-1] == 200


@pytest.mark.rfc("3261 16.6")
@pytest.mark.parametrize(
    "method", ["ACK", "BYE", "INVITE", "UPDATE", "INFO", "REFER", "NOTIFY", "MESSAGE"]
)
def test_request_of_the_callee_passes(talking, method):
    talking.bob.send(talking.from_callee(method))
    assert talking.alice.methods == [method]
    if method != "ACK":
        talking.alice.reply(talking.alice.last(method), 200)
        assert talking.bob.statuses[-1] == 200


@pytest.mark.rfc("3262 4")
def test_prack_passes_before_the_call_is_answered(office):
    invite = office.alice.ask("INVITE", BOB)
    office.bob.reply(
        office.bob.last("INVITE"), 183, contact=f"<{office.bob.uri}>", require=("100rel",)
    )
    ringing = office.alice.responses[-1]
    office.alice.send(office.alice.within(invite, ringing, "PRACK", route=ringing.record_route))
    assert office.bob.methods == ["INVITE", "PRACK"]
    office.bob.reply(office.bob.last("PRACK"), 200)
    office.bob.reply(office.bob.last("INVITE"), 486)


@pytest.mark.rfc("6665 4.3")
@pytest.mark.parametrize("method", ["SUBSCRIBE", "REFER"])
def test_dialog_of_another_method_has_the_token_too(office, method):
    office.call(method)
    office.bob.send(office.from_callee("NOTIFY"))
    office.alice.send(office.from_caller("SUBSCRIBE"))
    assert (office.alice.methods, office.bob.methods) == (["NOTIFY"], ["SUBSCRIBE"])
    office.alice.reply(office.alice.last("NOTIFY"), 200)
    office.bob.reply(office.bob.last("SUBSCRIBE"), 200)


@pytest.mark.rfc("6665 4.3")
def test_subscriber_takes_the_route_of_the_notify(office):
    """A forked SUBSCRIBE gets one 200; the dialogs of the other notifiers begin with their NOTIFY."""
    office.call("SUBSCRIBE")
    office.bob.send(office.from_callee("NOTIFY", contact=f"<{office.bob.uri}>"))
    notify = office.alice.last("NOTIFY")
    office.alice.reply(notify, 200)
    office.alice.send(office.from_caller("SUBSCRIBE", route=notify.record_route))
    assert office.bob.methods == ["SUBSCRIBE"]
    office.bob.reply(office.bob.last("SUBSCRIBE"), 200)


@pytest.mark.rfc("3261 12.2.1.1")
def test_callee_of_a_caller_without_tag_may_hang_up(office):
    office.call(from_="<sip:old@10.0.0.71>")
    office.bob.send(office.from_callee("BYE"))
    assert office.alice.methods == ["BYE"]
    office.alice.reply(office.alice.last("BYE"), 200)


def spelled(uri, change):
    """Return our Record-Route URI as some phones send it back."""
    return f"<{change(str(uri))}>"


SPELLINGS = {
    "default port lost": lambda uri: uri.replace(":5060", ""),
    "lr with a value": lambda uri: uri.replace(";lr", ";lr=on"),
    "parameters in capitals": lambda uri: uri.replace(";lr", ";LR"),
    "parameters before it": lambda uri: uri.replace(";lr", ";transport=UDP;ftag=1;lr"),
    "parameters behind it": lambda uri: uri + ";transport=udp",
    "parameter lost": lambda uri: uri.replace(";lr", ""),
    "scheme in capitals": lambda uri: uri.replace("sip:", "SIP:"),
    "user part escaped": lambda uri: f"sip:%{ord(uri[4]):02X}{uri[5:]}",
}


@pytest.mark.rfc("3261 19.1.4")
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_route_in_another_spelling_passes(talking, spelling):
    route = spelled(talking.route.uri, SPELLINGS[spelling])
    talking.alice.send(talking.from_caller("INFO", route=route))
    talking.bob.send(talking.from_callee("INFO", route=route))
    assert (talking.alice.methods, talking.bob.methods) == (["INFO"], ["INFO"])
    for phone in (talking.alice, talking.bob):
        phone.reply(phone.last("INFO"), 200)


@pytest.mark.rfc("3261 16.4")
def test_strict_router_before_us_passes(talking):
    bye = talking.from_caller("BYE")
    bye.uri, bye.route = talking.route.uri, (f"<{talking.bob.uri}>",)
    talking.alice.send(bye)
    copy = talking.bob.last("BYE")
    assert (copy.uri_text, len(copy.route)) == (talking.bob.uri, 0)
    talking.bob.reply(copy, 200)


@pytest.mark.rfc("3261 16.4")
def test_route_of_the_outbound_proxy_before_the_dialogs_is_removed_too(talking):
    talking.alice.send(talking.from_caller("BYE", route=(own(), talking.route)))
    assert len(talking.bob.last("BYE").route) == 0
    talking.bob.reply(talking.bob.last("BYE"), 200)


@pytest.mark.rfc("3261 16.6")
def test_route_beyond_ours_is_followed_within_the_dialog(talking):
    further = Peer(talking.sip, "10.0.0.80")
    talking.alice.send(talking.from_caller("BYE", route=(talking.route, "<sip:10.0.0.80;lr>")))
    assert further.last("BYE").uri_text == talking.bob.uri
    further.reply(further.last("BYE"), 200)


@pytest.mark.rfc("3261 16.6")
def test_route_of_a_reinvite_serves_both_sides(sip):
    """A phone that has lost its dialog uses the Record-Route of a later INVITE of the callee."""

    def core(request, tx):
        if tx.take_route():
            return forward(request, tx, record_route=True)
        return forward(request, tx, "sip:10.0.0.72", record_route=True)

    office = Office(sip, core)
    office.call()
    office.bob.send(office.from_callee("INVITE", contact=f"<{office.bob.uri}>"))
    route = office.alice.last("INVITE").record_route
    office.alice.reply(office.alice.last("INVITE"), 200, contact=f"<{office.alice.uri}>")
    assert str(route[0]) != str(office.route)
    office.alice.send(office.from_caller("INFO", route=route))
    office.bob.send(office.from_callee("INFO", route=route))
    assert (office.alice.methods, office.bob.methods) == (["INVITE", "INFO"], ["INFO"])
    for phone in (office.alice, office.bob):
        phone.reply(phone.last("INFO"), 200)


def test_call_survives_a_takeover_by_a_stack_with_the_same_secret(sip):
    one = Office(sip, route_secret=SECRET).call()
    one.stack.stop()
    one.stack = sip.stack(RegistrarProxy(), SERVER, domains=(DOMAIN,), route_secret=SECRET)
    one.alice.send(one.from_caller("BYE"))
    assert one.bob.methods == ["BYE"]
    one.bob.reply(one.bob.last("BYE"), 200)


def test_call_survives_the_end_of_the_callees_registration(talking):
    talking.sip.advance(3601)
    talking.alice.send(talking.from_caller("BYE"))
    assert talking.bob.methods == ["BYE"]
    talking.bob.reply(talking.bob.last("BYE"), 200)


# ---- custom cores


def test_route_may_be_taken_twice(sip):
    taken = []

    def core(request, tx):
        taken.append((tx.take_route(), tx.take_route()))
        return (
            forward(request, tx, "sip:10.0.0.72", record_route=True)
            if request.to.tag is None
            else 200
        )

    office = Office(sip, core)
    office.call()
    office.alice.send(office.from_caller("INFO"))
    assert (taken[-1], office.alice.statuses) == ((True, True), [200])


@pytest.mark.parametrize(
    ("more", "statuses"), [({}, [403]), ({"route": ()}, []), ({"next_hop": "sip:10.0.0.72"}, [])]
)
def test_core_can_follow_a_strangers_route(sip, more, statuses):
    alice, bob = Peer(sip, "10.0.0.71"), Peer(sip, "10.0.0.72")
    sip.stack(lambda request, tx: forward(request, tx, "sip:10.0.0.72", **more), SERVER)
    alice.ask("MESSAGE", route="<sip:10.0.0.99;lr>")
    assert (alice.statuses, len(bob.requests)) == (statuses, len(statuses) == 0)
    for request in bob.requests:
        bob.reply(request, 200)


# ---- the token


def request(call_id="c", from_tag="f", to_tag=None, method="BYE"):
    to = "" if to_tag is None else f";tag={to_tag}"
    return parse(
        f"{method} sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag={from_tag}\r\n"
        f"To: <sip:b@b>{to}\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\n\r\n".encode()
    )


def test_token_is_short_and_plain():
    token = RouteTokens(SECRET).make(request())
    assert (len(token), token.isalnum(), token.isascii(), token == token.lower()) == (
        20,
        True,
        True,
        True,
    )


def test_token_depends_on_the_secret_alone():
    tokens = {
        RouteTokens(secret).make(request())
        for secret in (SECRET, SECRET, SECRET + b".", SECRET * 9)
    }
    assert len(tokens) == 3


@pytest.mark.parametrize(
    ("secret", "kind"),
    [
        (b"", InvalidValue),
        (b"x" * (ROUTE_SECRET - 1), InvalidValue),
        ("x" * 32, TypeError),
        (7, TypeError),
    ],
)
def test_secret_that_is_too_short_is_refused(secret, kind):
    with pytest.raises(kind, match="secret"):
        Stack(route_secret=secret)


@pytest.mark.parametrize("user", [None, "", "\udcff", "é", "x" * 4000])
def test_token_is_compared_with_any_user_part(user):
    assert not RouteTokens(SECRET).match(request(to_tag="t"), URI("sip", user, "h"))
