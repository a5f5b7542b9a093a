"""Loops and amplification: unchanged requests that return are refused, forks are bounded, RFC 3261 §16.3 and RFC 5393."""

from __future__ import annotations

import pytest

from sippet_gevent import Location, Registrar, RegistrarProxy, ResponseContext, forward
from sippet_gevent.core.proxy.max_breadth import MAX_BREADTH
from sippet_gevent.testing import SERVER

from ..wire import Peer, sent

DOMAIN = "example.com"
TAGGED = f"<sip:loop@{SERVER}>;tag=any"


@pytest.fixture
def caller(sip):
    return Peer(sip, "10.0.0.50")


@pytest.fixture
def phones(sip):
    return [Peer(sip, f"10.0.0.{host}") for host in range(61, 66)]


def to(*phones, **more):
    """A core that forks to these phones."""
    return lambda request, tx: forward(request, tx, *(phone.uri for phone in phones), **more)


class Looping:
    """A stack that routes by bindings alone; the Contacts of its user lead back to that user."""

    def __init__(self, sip, caller, contacts):
        self.sip, self.caller, self.count = sip, caller, contacts
        self.stack = sip.stack(self.route, SERVER)
        self.location = Location()
        loops = ", ".join(f"<sip:loop@{SERVER};n={n}>" for n in range(contacts))
        caller.ask("REGISTER", f"sip:{SERVER}", to=f"<sip:loop@{SERVER}>", contact=loops)
        caller.received.clear()

    def route(self, request, tx):
        if request.method == "REGISTER":
            return Registrar(self.location)(request, tx)
        return forward(request, tx, *self.location.lookup(request.uri))

    def ask(self, method, **headers):
        self.caller.ask(method, f"sip:loop@{SERVER}", **headers)
        self.sip.advance(40)
        return len([what for what in sent(self.sip, SERVER, SERVER) if what == method])


@pytest.mark.rfc("5393 4.2.2")
@pytest.mark.parametrize("method", ["MESSAGE", "INVITE", "ACK"])
@pytest.mark.parametrize("headers", [{}, {"to": TAGGED}])
def test_loop_ends_when_the_request_returns(sip, caller, method, headers):
    assert Looping(sip, caller, 1).ask(method, **headers) <= 2
    assert caller.statuses[-1:] == ([] if method == "ACK" else [482])


@pytest.mark.rfc("5393 5.3.3")
@pytest.mark.parametrize("method", ["MESSAGE", "ACK"])
@pytest.mark.parametrize("contacts", [2, 5, 10])
def test_contacts_that_lead_back_do_not_multiply_a_dialog_request(sip, caller, method, contacts):
    assert Looping(sip, caller, contacts).ask(method, to=TAGGED) <= 3 * MAX_BREADTH


@pytest.mark.rfc("5393 5.3.3")
def test_path_that_leads_back_does_not_multiply_a_dialog_request(sip, caller):
    """The Path has the token of the caller's own dialog, so the request returns by a route of ours."""
    sip.stack(RegistrarProxy(), SERVER, domains=(DOMAIN,))
    bob = Peer(sip, "10.0.0.72")
    bob.ask("REGISTER", f"sip:{DOMAIN}", to=f"<sip:bob@{DOMAIN}>", contact=f"<{bob.uri}>")
    invite = caller.ask("INVITE", f"sip:bob@{DOMAIN}")
    bob.reply(bob.last("INVITE"), 200, contact=f"<{bob.uri}>")
    answer = caller.responses[-1]
    loops = ", ".join(f"<sip:loop@{DOMAIN};n={n}>" for n in range(5))
    caller.ask(
        "REGISTER",
        f"sip:{DOMAIN}",
        to=f"<sip:loop@{DOMAIN}>",
        contact=loops,
        path=answer.record_route,
    )
    info = caller.within(invite, answer, "INFO", route=answer.record_route)
    info.uri = f"sip:loop@{DOMAIN}"
    caller.send(info)
    sip.advance(40)
    assert 0 < sent(sip, SERVER, SERVER).count("INFO") <= 3 * MAX_BREADTH


@pytest.mark.rfc("5393 4.2.1")
@pytest.mark.parametrize(
    "change", [{"uri": "sip:carol@example.com"}, {"proxy_authorization": 'Digest username="a"'}]
)
def test_request_that_returns_changed_is_a_spiral_and_is_forwarded(sip, caller, phones, change):
    def core(request, tx):
        return forward(request, tx, next_hop=phones[len(request.via) > 1].uri)

    sip.serve(core)
    caller.ask("MESSAGE", "sip:bob@example.com", to="<sip:bob@example.com>;tag=1")
    copy = phones[0].last("MESSAGE").copy()
    for name, value in change.items():
        setattr(copy, name, value)
    copy.headers.add("Via", "SIP/2.0/UDP 10.0.0.61:5060;branch=z9hG4bKspiral", first=True)
    phones[0].send(copy)
    assert phones[1].methods == ["MESSAGE"]
    phones[1].reply(phones[1].last("MESSAGE"), 200)
    assert [response.status for response in phones[0].responses] == [200]


@pytest.mark.rfc("5393 4.2.2")
def test_request_that_returns_unchanged_is_482(sip, caller, phones):
    sip.serve(lambda request, tx: forward(request, tx, next_hop=phones[0].uri))
    caller.ask("MESSAGE", "sip:bob@example.com", to="<sip:bob@example.com>;tag=1")
    copy = phones[0].last("MESSAGE").copy()
    copy.headers.add("Via", "SIP/2.0/UDP 10.0.0.61:5060;branch=z9hG4bKloop", first=True)
    phones[0].send(copy)
    assert phones[0].statuses == [482]


@pytest.mark.rfc("5393 4.2.4")
def test_loop_check_does_not_parse_vias_of_others(sip, caller, phones):
    sip.serve(to(phones[0]))
    request = caller.request("MESSAGE")
    request.headers.add("Via", 'what="ever;;')
    caller.send(request)
    assert phones[0].methods == ["MESSAGE"]
    phones[0].reply(phones[0].last("MESSAGE"), 200)


def test_two_proxies_that_get_the_same_request_see_no_loop(sip, caller, phones):
    second = sip.stack(to(phones[0]), "10.0.0.2")
    sip.stack(lambda request, tx: forward(request, tx, next_hop="sip:10.0.0.2"), SERVER)
    caller.ask("MESSAGE")
    assert (phones[0].methods, len(second.engine.servers)) == (["MESSAGE"], 1)
    phones[0].reply(phones[0].last("MESSAGE"), 200)


# ---- Max-Breadth


def breadths(phones):
    return [phone.last("MESSAGE").max_breadth for phone in phones]


@pytest.mark.rfc("5393 5.3.3")
@pytest.mark.parametrize(("given", "shares"), [
    (None, [20, 20, 20]),
    (1000, [20, 20, 20]),
    (8, [2, 3, 3]),
    (3, [1, 1, 1]),
])  # fmt: skip
def test_breadth_is_shared_out_among_the_branches(sip, caller, phones, given, shares):
    sip.serve(to(*phones[:3]))
    caller.ask("MESSAGE", max_breadth=given)
    assert breadths(phones[:3]) == shares
    for phone in phones[:3]:
        phone.reply(phone.last("MESSAGE"), 404)


@pytest.mark.rfc("5393 5.3.3")
@pytest.mark.parametrize("given", [7, 60, None])
def test_one_target_gets_all_breadth(sip, caller, phones, given):
    sip.serve(to(phones[0]))
    caller.ask("MESSAGE", max_breadth=given)
    assert breadths(phones[:1]) == [given or MAX_BREADTH]
    phones[0].reply(phones[0].last("MESSAGE"), 404)


@pytest.mark.rfc("5393 5.3.3")
@pytest.mark.parametrize(("given", "targets"), [(0, 1), (1, 2), (4, 5)])
def test_more_targets_than_breadth_are_440(sip, caller, phones, given, targets):
    sip.serve(to(*phones[:targets]))
    caller.ask("MESSAGE", max_breadth=given)
    assert (caller.statuses, [phone.received for phone in phones]) == ([440], [[]] * 5)


def test_invalid_max_breadth_is_400(sip, caller, phones):
    sip.serve(to(phones[0]))
    request = caller.request("MESSAGE")
    request.headers["Max-Breadth"] = "many"
    caller.send(request)
    assert (caller.statuses, phones[0].received) == ([400], [])


@pytest.mark.rfc("5393 5.3.3.1")
def test_breadth_of_a_branch_that_has_ended_is_free_again(sip, caller, phones):
    def core(request, tx):
        with ResponseContext(tx) as context:
            for phone in phones:
                context.fork(phone.uri)
                for response in context:
                    if response.is_success:
                        return context.forward(response)
            context.forward(context.best())

    sip.serve(core)
    caller.ask("MESSAGE", max_breadth=1)
    for phone in phones:
        phone.reply(phone.last("MESSAGE"), 404)
    assert (breadths(phones), caller.statuses) == ([1] * 5, [404])


@pytest.mark.rfc("5393 5.3.3")
def test_branches_forked_one_by_one_stay_within_the_breadth(sip, caller):
    def core(request, tx):
        with ResponseContext(tx) as context:
            for host in range(20):
                context.fork(f"sip:bob@10.0.1.{host}")

    sip.serve(core)
    caller.ask("MESSAGE")
    given = [
        int(c.data.partition(b"Max-Breadth: ")[2].split()[0])
        for c in sip.network.trace
        if b"\r\nMax-Breadth" in c.data
    ]
    assert (sum(given), caller.statuses) == (MAX_BREADTH, [440])
