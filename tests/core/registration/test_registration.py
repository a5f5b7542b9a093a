"""A registration that keeps itself, against our Registrar and against a scripted one."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import (
    URI,
    Credentials,
    InvalidValue,
    Location,
    Middleware,
    Registrar,
    Reject,
    Response,
    StaticResolver,
    TransactionStateError,
    TransportError,
    Unauthorized,
)
from sippet_gevent.core.registration import flow as flow_module
from sippet_gevent.core.registration.binding import seen_at
from sippet_gevent.transport.memory import MemoryFlow
from tests.core.auth.gate import Gate

AOR = "sip:100@10.0.0.1"
INSTANCE = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"


class Script:
    """A registrar that answers as it is told: `answer(request)` returns a status or Response."""

    def __init__(self, *answers, expires=600):
        self.answers = list(answers)
        self.expires = expires
        self.requests = []
        self.times = []
        self.clock = None
        self.silent = False

    def __call__(self, request, tx):
        self.requests.append(request)
        self.times.append(tx.stack.clock.now())
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            status, headers = answer
            return request.response(status, **headers)
        return self.accept(request)

    def accept(self, request):
        if request.expires == 0:
            return request.response(200)
        seconds = min(self.expires, request.expires)
        return request.response(200, contact=request.contact[0].with_params(expires=seconds))


def registered(sip, core, aor=AOR, **options):
    """Return a client, and its registration at a registrar of this core."""
    sip.stack(core, host="10.0.0.1")
    client = sip.stack(host="10.0.0.50")
    registration = client.register(aor, **options)
    sip.clock.advance(1)
    return client, registration


def closed(sip, registration):
    """Close it, while virtual time passes."""
    greenlet = gevent.spawn(registration.close)
    sip.clock.advance(10)
    greenlet.get(timeout=0)


# ---- our Registrar


@pytest.mark.rfc("3261 10.2")
def test_registration_is_kept_and_removed(sip):
    location = Location()
    server = sip.stack(Registrar(location), host="10.0.0.1", domains=("example.com",))
    client = sip.stack(host="10.0.0.50")
    aor = server.aor(URI.parse(AOR))
    registration = client.register(AOR, expires=600)
    sip.clock.advance(1)
    assert registration.wait(0)
    first = location.get(aor)
    assert [binding.uri.user for binding in first] == ["100"]
    assert first[0].uri.host == "10.0.0.50"
    sip.clock.advance(3600)
    now = location.get(aor)
    assert registration.registered and len(now) == 1
    assert now[0].call_id == first[0].call_id
    assert now[0].cseq >= first[0].cseq + 6
    closed(sip, registration)
    assert location.get(aor) == ()
    assert registration.ended and not registration.registered


@pytest.mark.rfc("3261 10.2.8")
def test_423_of_our_registrar_is_learned(sip):
    _, registration = registered(sip, Registrar(Location()), expires=10)
    assert registration.registered
    assert 50 < registration.expires_at - sip.clock.now() <= 60
    closed(sip, registration)


# ---- a scripted registrar


@pytest.mark.rfc("3261 10.2.4")
def test_refreshes_are_in_time_and_have_one_call_id(sip):
    script = Script(expires=100)
    _, registration = registered(sip, script)
    sip.clock.advance(1000)
    gaps = [after - before for before, after in zip(script.times, script.times[1:], strict=False)]
    assert gaps and all(79.9 <= gap <= 90.1 for gap in gaps)
    assert len({request.call_id for request in script.requests}) == 1
    assert len({request.from_.tag for request in script.requests}) == 1
    numbers = [request.cseq.number for request in script.requests]
    assert numbers == list(range(1, len(numbers) + 1))
    closed(sip, registration)
    assert script.requests[-1].expires == 0


@pytest.mark.rfc("3261 10.2.8")
def test_min_expires_is_learned_for_good(sip):
    script = Script((423, {"min_expires": 1800}), expires=5000)
    _, registration = registered(sip, script, expires=60)
    assert [request.expires for request in script.requests] == [60, 1800]
    assert registration.registered
    sip.clock.advance(1800)
    assert script.requests[2].expires == 1800
    closed(sip, registration)


def test_423_without_end_is_given_up(sip):
    script = Script(*((423, {"min_expires": 100 * n}) for n in range(1, 50)))
    _, registration = registered(sip, script, expires=60)
    assert len(script.requests) == 3
    assert registration.refused and registration.error.status == 423
    closed(sip, registration)


@pytest.mark.rfc("5626 4.5")
def test_retry_after_of_503_is_kept(sip):
    script = Script((503, {"retry_after": 200}))
    _, registration = registered(sip, script)
    assert not registration.registered and not registration.refused
    assert registration.error.status == 503
    sip.clock.advance(198)
    assert len(script.requests) == 1
    sip.clock.advance(30)
    assert registration.registered and registration.error is None
    closed(sip, registration)


@pytest.mark.rfc("5626 4.5")
def test_pauses_grow_while_the_registrar_fails(sip):
    script = Script(*((500, {}) for _ in range(5)))
    _, registration = registered(sip, script)
    sip.clock.advance(3600)
    gaps = [after - before for before, after in zip(script.times, script.times[1:], strict=False)]
    for gap, longest in zip(gaps, (60, 120, 240, 480, 960), strict=False):
        assert longest / 2 <= gap <= longest + 1
    assert registration.registered
    closed(sip, registration)


def test_silent_registrar_is_tried_again(sip):
    client = sip.stack(host="10.0.0.50")
    registration = client.register(AOR)
    greenlet = gevent.spawn(registration.wait, 40)
    sip.clock.advance(45)
    assert greenlet.get(timeout=0) is False
    assert registration.error is not None and not registration.refused
    sip.stack(Script(), host="10.0.0.1")
    sip.clock.advance(200)
    assert registration.registered
    closed(sip, registration)


def test_binding_that_is_not_refreshed_has_an_end(sip):
    script = Script(None, *((500, {}) for _ in range(20)), expires=100)
    changes = []
    _, registration = registered(
        sip, script, on_change=lambda registration: changes.append(registration.registered)
    )
    sip.clock.advance(95)
    assert registration.registered and registration.error.status == 500
    sip.clock.advance(10)
    assert not registration.registered and registration.expires_at is None
    assert registration.error.status == 500
    assert changes == [True, False]
    closed(sip, registration)


@pytest.mark.rfc("3261 10.2.4")
def test_binding_that_the_registrar_has_lost_is_none(sip):
    class Losing(Script):
        def accept(self, request):
            if len(self.requests) != 2:
                return super().accept(request)
            return request.response(
                200, contact="<sip:other@192.0.2.1>;expires=60, <sip:b@192.0.2.2>"
            )

    script = Losing(expires=100)
    changes = []
    _, registration = registered(sip, script, on_change=lambda it: changes.append(it.registered))
    assert registration.registered
    sip.clock.advance(90)
    assert len(script.requests) == 2
    assert not registration.registered and registration.expires_at is None
    assert "does not list our Contact" in str(registration.error)
    sip.clock.advance(65)
    assert registration.registered and changes == [True, False, True]
    closed(sip, registration)


def test_middleware_that_raises_does_not_stop_a_registration(sip):
    class Broken(Middleware):
        def __init__(self):
            self.raises = False

        def send(self, request, send):
            if self.raises:
                raise KeyError("application")
            return send(request)

    broken, script = Broken(), Script(expires=100)
    client, registration = registered(sip, script)
    client.use(broken)
    broken.raises = True
    sip.clock.advance(110)
    assert not registration.registered and "application" in str(registration.error)
    assert client.engine.counters.core_errors
    broken.raises = False
    sip.clock.advance(300)
    assert registration.registered
    broken.raises = True
    client.stop()
    assert registration.ended and len(client.registrations) == 0


@pytest.mark.rfc("3261 10.2.4")
def test_rewritten_contact_is_found(sip):
    class Rewriting(Script):
        def accept(self, request):
            contact = f"<sip:100@192.0.2.77:1024>;expires={70 if request.expires else 0}"
            return request.response(200, contact=contact)

    _, registration = registered(sip, Rewriting())
    assert registration.expires_at - sip.clock.now() < 70
    assert registration.contact.uri.host == "192.0.2.77"
    closed(sip, registration)


@pytest.mark.rfc("3261 10.2.4")
def test_expires_of_our_own_contact_counts(sip):
    class Shared(Script):
        def accept(self, request):
            ours = request.contact[0].with_params(expires=90)
            return request.response(
                200, contact=f"<sip:100@192.0.2.9>;expires=5000, {ours}", expires=7000
            )

    _, registration = registered(sip, Shared())
    assert registration.expires_at - sip.clock.now() <= 90
    closed(sip, registration)


def test_thousands_of_accounts_keep_one_copy_of_what_they_have_in_common(sip):
    sip.stack(Gate(Script(), realm="carrier", uses=1000), host="10.0.0.1")
    client = sip.stack(host="10.0.0.50")
    one, other = (
        client.register(f"sip:{user}@10.0.0.1", credentials=Credentials("100", "secret"))
        for user in ("100", "101")
    )
    for _ in range(2):
        sip.clock.advance(600)
        assert one.registered and other.registered
        for each in (one, other):
            assert each.contact.uri is each.own_contact
            assert each.own_contact.user is each.aor.user
        assert one.contact.parameters is other.contact.parameters
        assert one.contact.parameters["expires"] == "600"
        assert str(one.contact) == "<sip:100@10.0.0.50:5060>;expires=600"
        assert one.aor.host is other.aor.host
        assert one.own_contact.scheme is other.aor.scheme
    (place,), (same,) = (each.credentials._sessions for each in (one, other))
    assert all(mine is its for mine, its in zip(place, same))
    closed(sip, one)
    closed(sip, other)


# ---- passwords


@pytest.mark.rfc("3261 22.2")
def test_password_is_proved_and_the_nonce_kept(sip):
    script = Script(expires=100)
    gate = Gate(script, realm="carrier")
    _, registration = registered(sip, gate, credentials=Credentials("100", "secret"))
    assert registration.registered
    assert len(gate.requests) == 2
    sip.clock.advance(200)
    assert len(gate.requests) == 2 + len(script.requests) - 1
    numbers = [request.cseq.number for request in gate.requests]
    assert numbers == sorted(set(numbers))
    closed(sip, registration)


def test_registrar_that_always_challenges_is_a_clear_error(sip):
    count = []

    def always(request, tx):
        count.append(request)
        challenge = f'Digest realm="carrier", nonce="n{len(count)}", stale=true, qop="auth"'
        return request.response(401, www_authenticate=challenge)

    _, registration = registered(sip, always, credentials=Credentials("100", "secret"))
    assert 2 <= len(count) <= 3
    assert registration.refused and not registration.wait(0)
    assert isinstance(registration.error, Unauthorized)
    assert "stale twice" in str(registration.error) or "challenged again" in str(registration.error)
    sip.clock.advance(800)
    assert len(count) <= 3
    closed(sip, registration)


def test_wrong_password_is_refused(sip):
    gate = Gate(Script(), realm="carrier")
    _, registration = registered(sip, gate, credentials=Credentials("100", "wrong"))
    assert registration.refused
    assert "refused" in str(registration.error)
    closed(sip, registration)


def test_refused_account_is_asked_again_rarely(sip):
    script = Script(*((403, {}) for _ in range(3)))
    _, registration = registered(sip, script)
    assert registration.refused and isinstance(registration.error, Reject)
    sip.clock.advance(899)
    assert len(script.requests) == 1
    sip.clock.advance(3 * 1800)
    assert registration.registered and not registration.refused
    closed(sip, registration)


@pytest.mark.rfc("3261 10.3")
def test_account_that_was_never_accepted_is_not_unregistered(sip):
    """Each REGISTER with a wrong password counts as a guess at the registrar."""
    gate = Gate(Script(), realm="carrier")
    _, registration = registered(sip, gate, credentials=Credentials("100", "wrong"))
    sent = len(gate.requests)
    closed(sip, registration)
    assert len(gate.requests) == sent


@pytest.mark.rfc("3261 10.2.2")
def test_account_that_was_accepted_before_its_refusal_is_unregistered(sip):
    script = Script(None, (403, {}))
    _, registration = registered(sip, script)
    registration.refresh()
    sip.clock.advance(1)
    assert registration.refused
    closed(sip, registration)
    assert [request.expires for request in script.requests] == [3600, 3600, 0]


@pytest.mark.rfc("3261 10.2.2")
def test_account_that_was_answered_500_before_its_refusal_is_unregistered(sip):
    """The registrar may have stored the binding before it failed."""
    script = Script((500, {}), (403, {}))
    _, registration = registered(sip, script)
    registration.refresh()
    sip.clock.advance(1)
    assert registration.refused
    closed(sip, registration)
    assert script.requests[-1].expires == 0


# ---- what the account gets


@pytest.mark.rfc("3608 5")
def test_service_route_is_for_requests_of_the_account(sip):
    class Routing(Script):
        def __call__(self, request, tx):
            if request.method != "REGISTER":
                self.requests.append(request)
                return 200
            return super().__call__(request, tx)

        def accept(self, request):
            response = super().accept(request)
            response.service_route = "<sip:10.0.0.1;lr>, <sip:core.carrier.example;lr>"
            return response

    script = Routing()
    _, registration = registered(sip, script)
    assert len(registration.service_route) == 2
    response = sip.run(registration.request, "OPTIONS", "sip:bob@elsewhere.example")
    assert response.status == 200
    asked = script.requests[-1]
    assert [route.uri.host for route in asked.route] == ["10.0.0.1", "core.carrier.example"]
    assert str(asked.from_.uri) == AOR
    closed(sip, registration)
    assert registration.service_route == ()


@pytest.mark.rfc("3608 6.1")
@pytest.mark.parametrize("status", [403, 500])
def test_service_route_is_forgotten_with_the_binding(sip, status):
    class Routing(Script):
        def accept(self, request):
            response = super().accept(request)
            response.service_route = "<sip:10.0.0.1;lr>"
            return response

    script = Routing(None, *((status, {}) for _ in range(9)), expires=100)
    _, registration = registered(sip, script)
    assert registration.service_route
    sip.clock.advance(110)
    assert not registration.registered
    assert registration.service_route == ()
    closed(sip, registration)


@pytest.mark.rfc("5626 4.2")
@pytest.mark.rfc("5627 5")
def test_instance_registers_a_flow_and_keeps_gruus(sip):
    class Gruu(Script):
        def accept(self, request):
            response = super().accept(request)
            if request.expires:
                response.contact = response.contact[0].with_params(
                    **{"pub-gruu": f"{AOR};gr={INSTANCE}", "temp-gruu": "sip:tgruu.1@10.0.0.1;gr"}
                )
            return response

    script = Gruu()
    _, registration = registered(sip, script, instance=INSTANCE)
    request = script.requests[0]
    assert f'+sip.instance="<{INSTANCE}>"' in request.headers["Contact"]
    assert "reg-id=1" in request.headers["Contact"]
    assert {"outbound", "path", "gruu"} <= set(request.supported)
    assert registration.gruu.parameters.get("gr") == INSTANCE
    assert registration.temp_gruu.user == "tgruu.1"
    closed(sip, registration)


# ---- the end


def test_close_is_bounded_when_the_registrar_is_gone(sip):
    server = sip.stack(Script(), host="10.0.0.1")
    client = sip.stack(host="10.0.0.50")
    registration = client.register(AOR)
    sip.clock.advance(1)
    server.stop()
    greenlet = gevent.spawn(registration.close)
    sip.clock.advance(4.1)
    assert greenlet.ready()
    greenlet.get()
    assert len(client.registrations) == 0
    assert client.active == 0


def test_stopped_stack_unregisters_and_leaves_nothing(sip):
    script = Script()
    client, registration = registered(sip, script)
    client.stop()
    sip.clock.advance(1)
    assert script.requests[-1].expires == 0
    assert registration.ended and len(client.registrations) == 0
    sip.clock.advance(5000)
    assert len(script.requests) == 2
    registration.close()


@pytest.mark.rfc("3261 10.2.1.1", "3261 10.2.2")
def test_expires_of_a_given_contact_does_not_count(sip):
    script = Script(expires=100)
    _, registration = registered(sip, script, contact="<sip:100@10.0.0.50>;q=0.5;expires=9")
    closed(sip, registration)
    assert [str(request.contact[0]) for request in script.requests] == [
        "<sip:100@10.0.0.50>;q=0.5"
    ] * 2
    assert script.requests[-1].expires == 0


def test_draining_stack_can_unregister(sip):
    script = Script()
    client, registration = registered(sip, script)
    client.drain()
    closed(sip, registration)
    assert script.requests[-1].expires == 0


def test_with_block_unregisters(sip):
    script = Script()
    sip.stack(script, host="10.0.0.1")
    client = sip.stack(host="10.0.0.50")

    def program():
        with client.register(AOR) as registration:
            assert registration.wait(10)

    sip.run(program)
    assert [request.expires for request in script.requests] == [3600, 0]


def test_stack_has_to_run(sip):
    client = sip.stack(host="10.0.0.50")
    client.stop()
    with pytest.raises(TransactionStateError, match="start it"):
        client.register(AOR)


@pytest.mark.parametrize(
    "options",
    [{"aor": "tel:+1"}, {"aor": AOR, "registrar": "mailto:x@y"}, {"aor": AOR, "expires": 0}],
)
def test_wrong_arguments_raise_at_once(sip, options):
    client = sip.stack(host="10.0.0.50")
    with pytest.raises(InvalidValue):
        client.register(options.pop("aor"), **options)
    assert len(client.registrations) == 0


# ---- other ways


@pytest.mark.rfc("3263 4.3")
def test_second_registrar_takes_over(sip):
    script = Script()
    sip.stack(script, host="10.0.0.2")
    resolver = StaticResolver({"carrier.example": ["10.0.0.1", "10.0.0.2"]})
    client = sip.stack(host="10.0.0.50", resolver=resolver)
    registration = client.register("sip:100@carrier.example")
    sip.clock.advance(40)
    assert registration.registered
    closed(sip, registration)


def test_storm_has_no_burst_and_all_are_registered_again(sip):
    script = Script(expires=120)
    server = sip.stack(script, host="10.0.0.1")
    client = sip.stack(host="10.0.0.50")
    all_of_them = [client.register(f"sip:{n}@10.0.0.1") for n in range(200)]
    sip.clock.advance(20)
    assert all(each.registered for each in all_of_them)
    assert len(client.callbacks) == 0
    server.stop()
    sip.clock.advance(120)
    sip.stack(script, host="10.0.0.1")
    begin = sip.clock.now()
    sip.clock.advance(300)
    assert all(each.registered for each in all_of_them)
    times = script.times
    bursts = [sum(1 for other in times[n : n + 60] if other < at + 1) for n, at in enumerate(times)]
    assert max(bursts) <= 50
    assert times[-1] > begin
    sip.run(client.stop)  # their removals leave in 10 seconds


@pytest.mark.slow
def test_large_storm_has_no_burst_on_the_wire_and_all_are_registered_again(sip):
    storm(sip, 2000, expires=180, start=110)


@pytest.mark.rfc("5626 4.5")
def test_storm_has_no_burst_on_the_wire(sip):
    storm(sip, 200, expires=120, start=20)


def storm(sip, number, *, expires, start):
    """Registrations whose registrar is dead for two minutes, and asks for passwords; each datagram
    of them counts, repeated ones too."""
    sent = []

    def new_registrar():
        return sip.stack(
            Gate(Script(expires=expires), realm="carrier", uses=10**6), host="10.0.0.1"
        )

    server = new_registrar()
    client = sip.stack(host="10.0.0.50")
    client.tap(lambda it: sent.append(it.time) if it.direction == "out" else None)
    each = [
        client.register(f"sip:{n}@10.0.0.1", credentials=Credentials("100", "secret"))
        for n in range(number)
    ]
    sip.clock.advance(start)
    assert all(it.registered for it in each)
    for _ in range(expires):
        sip.clock.advance(1)
    server.stop()
    for _ in range(120):
        sip.clock.advance(1)
    assert not all(it.registered for it in each)
    assert client.stats()["registrations"]["waiting"] > number / 10
    new_registrar()
    for _ in range(300):
        sip.clock.advance(1)
        if all(it.registered for it in each):
            break
    assert all(it.registered for it in each)
    last = 0
    for first, at in enumerate(sent):
        while last < len(sent) and sent[last] < at + 1:
            last += 1
        assert last - first <= 50
    sip.run(client.stop)  # their removals leave in 10 seconds


# ---- refusals that are not the account's fault


@pytest.mark.rfc("5626 4.2.1")
def test_retry_after_of_0_is_at_once_but_not_for_ever(sip):
    script = Script(*((503, {"retry_after": 0}) for _ in range(3)))
    _, registration = registered(sip, script)
    assert len(script.requests) == 2 and not registration.registered
    sip.clock.advance(58)
    assert len(script.requests) == 2
    sip.clock.advance(500)
    assert registration.registered
    closed(sip, registration)


@pytest.mark.rfc("3261 8.1.3.2")
@pytest.mark.parametrize(
    ("status", "refused"), [(599, False), (650, False), (499, True), (603, True), (600, False)]
)
def test_unknown_status_counts_as_the_first_of_its_class(sip, status, refused):
    script = Script((status, {"reason": "Strange"}))
    _, registration = registered(sip, Reasons(script))
    assert registration.refused is refused and registration.error.status == status
    closed(sip, registration)


class Reasons:
    """Answers with a status that no RFC has."""

    def __init__(self, script):
        self.script = script

    def __call__(self, request, tx):
        if not self.script.answers:
            return self.script(request, tx)
        status, _ = self.script.answers.pop(0)
        return request.response(status, "Strange")


# ---- flows of SIP Outbound


class Edges(Script):
    """A registrar that notes the Contacts of all edges."""

    def __init__(self, **options):
        super().__init__(**options)
        self.flows = {}

    def accept(self, request):
        contact = request.contact[0]
        key = contact.parameters.get("reg-id")
        self.flows[key] = request
        return super().accept(request)


def edges(sip, script, **options):
    for host in ("10.0.0.1", "10.0.0.2"):
        sip.stack(script, host=host)
    client = sip.stack(host="10.0.0.50")
    registration = client.register(
        "sip:100@carrier.example",
        instance=INSTANCE,
        outbound_proxies=("sip:10.0.0.1", "sip:10.0.0.2"),
        **options,
    )
    sip.clock.advance(1)
    return client, registration


@pytest.mark.rfc("5626 4.2.1")
def test_each_outbound_proxy_has_a_flow(sip):
    script = Edges()
    _, registration = edges(sip, script)
    assert registration.registered and registration.flows == 2
    assert sorted(script.flows) == ["1", "2"]
    one, two = script.flows["1"], script.flows["2"]
    assert one.call_id != two.call_id
    assert {str(one.uri), str(two.uri)} == {"sip:carrier.example"}
    closed(sip, registration)
    assert [request.expires for request in script.requests[-2:]] == [0, 0]


@pytest.mark.rfc("5626 4.5")
def test_second_flow_remains_when_one_fails(sip):
    class Failing(Edges):
        def accept(self, request):
            if request.flow.local[0] == "10.0.0.1" and len(self.requests) > 2:
                failed.append(self.clock_now())
                return request.response(500)
            return super().accept(request)

        def clock_now(self):
            return sip.clock.now()

    failed = []
    _, registration = edges(sip, Failing(expires=100))
    assert registration.flows == 2
    sip.clock.advance(1000)
    assert registration.registered and registration.flows == 1
    assert registration.next_hop.host == "10.0.0.2"
    # 90 seconds are the base while another flow works, so the first pause is 90 to 180
    assert 89 <= failed[1] - failed[0] <= 181
    closed(sip, registration)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"outbound_proxies": ("sip:10.0.0.1", "sip:10.0.0.2")}, InvalidValue),
        ({"outbound_proxies": "sip:10.0.0.1", "instance": INSTANCE}, TypeError),
        (
            {"outbound_proxies": ("sip:a",), "instance": INSTANCE, "next_hop": "sip:b"},
            InvalidValue,
        ),
        ({"outbound_proxies": ("tel:1",), "instance": INSTANCE}, InvalidValue),
    ],
)
def test_outbound_proxies_are_checked(sip, options, error):
    client = sip.stack(host="10.0.0.50")
    with pytest.raises(error):
        client.register(AOR, **options)
    assert len(client.registrations) == 0


@pytest.mark.rfc("5626 11.6")
def test_439_is_repeated_without_reg_id(sip):
    script = Script((439, {}))
    _, registration = registered(sip, script, instance=INSTANCE)
    assert registration.registered
    first, second = script.requests
    assert "reg-id=1" in first.headers["Contact"] and "outbound" in first.supported
    assert "reg-id" not in second.headers["Contact"] and "outbound" not in second.supported
    assert "+sip.instance" in second.headers["Contact"]
    closed(sip, registration)


@pytest.mark.rfc("5626 4.2.2")
def test_refresh_goes_by_the_registered_flow(sip):
    script = Script(expires=100)
    sip.stack(script, host="10.0.0.1")
    other = Script(expires=100)
    sip.stack(other, host="10.0.0.2")
    asked = []

    class Turning(StaticResolver):
        def ask(self, question, *more):
            asked.append(question)
            return super().ask(question, *more)

    resolver = Turning({"carrier.example": ["10.0.0.1", "10.0.0.2"]})
    client = sip.stack(host="10.0.0.50", resolver=resolver)
    registration = client.register("sip:100@carrier.example", instance=INSTANCE)
    sip.clock.advance(1)
    first = len(asked)
    sip.clock.advance(500)
    assert len(asked) == first and len(script.requests) > 4 and not other.requests
    closed(sip, registration)


@pytest.mark.rfc("5626 4.2.2")
def test_flow_that_answers_no_refresh_is_replaced(sip):
    script, other = Script(expires=300), Script(expires=300)
    server = sip.stack(script, host="10.0.0.1")
    sip.stack(other, host="10.0.0.2")
    resolver = StaticResolver({"carrier.example": ["10.0.0.1", "10.0.0.2"]})
    client = sip.stack(host="10.0.0.50", resolver=resolver)
    registration = client.register("sip:100@carrier.example", instance=INSTANCE)
    sip.clock.advance(1)
    server.stop()
    sip.clock.advance(350)
    assert other.requests and registration.registered
    closed(sip, registration)


@pytest.mark.rfc("5626 4.4.2", "5626 4.5")
def test_registration_by_datagrams_is_renewed_when_its_flow_has_failed(sip):
    script = Script()
    client, registration = registered(sip, script)
    flow = client.engine.transports[0].connect(script.requests[0].flow.transport.local)
    sip.clock.advance(130)  # steady
    count = len(script.requests)
    client.engine.flow_ended(flow, TransportError("no answer to keep-alives"))
    sip.clock.advance(1)
    assert len(script.requests) == count + 1
    assert registration.registered
    assert client.stats()["registrations"]["flows_ended"] == 1
    closed(sip, registration)


def failing(sip, client, registration, script):
    """End the flow of a registration, and return how long the next REGISTER has waited."""
    count, now = len(script.requests), sip.clock.now()
    flow = registration._flows[0].flow
    client.engine.flow_ended(flow, TransportError("no answer to keep-alives"))
    while len(script.requests) == count:
        sip.clock.advance(0.5)
    return script.times[-1] - now


class Keeping(Script):
    """A registrar that asks for keep-alives."""

    def accept(self, request):
        response = super().accept(request)
        response.headers["Via"] = response.headers["Via"].replace(";keep", ";keep=25")
        return response


@pytest.fixture
def pings(monkeypatch):
    """A network whose flows can ping."""
    monkeypatch.setattr(MemoryFlow, "probes", True)


@pytest.fixture
def kept(sip, pings):
    """A client with one flow of SIP Outbound, whose registrar asks for keep-alives."""
    script = Keeping(expires=7200)
    sip.stack(script, host="10.0.0.1")
    client = sip.stack(host="10.0.0.50", keep=True)
    registration = client.register(
        "sip:100@carrier.example", instance=INSTANCE, outbound_proxies=("sip:10.0.0.1",)
    )
    sip.clock.advance(1)
    assert registration.registered and len(client.keepalives) == 1
    yield client, registration, script
    closed(sip, registration)


@pytest.mark.rfc("5626 4.5")
@pytest.mark.parametrize("lasted", [10, 500])
def test_flow_without_any_keepalive_answer_waits_twice_as_long_each_time(sip, kept, lasted):
    for failures in (1, 2, 3, 4, 5, 6, 7):
        sip.clock.advance(lasted)
        longest = min(30 * 2**failures, 1800)
        assert longest / 2 <= failing(sip, *kept) <= longest + 1


@pytest.mark.rfc("5626 4.5")
def test_one_keepalive_answer_ends_the_row_of_failures_of_a_flow(sip, kept, monkeypatch):
    for _ in range(3):
        sip.clock.advance(10)
        failing(sip, *kept)
    monkeypatch.setattr(MemoryFlow, "keepalives_answered", 1)
    sip.clock.advance(130)
    assert failing(sip, *kept) <= 1  # at once, because it was successful and steady
    sip.clock.advance(130)
    assert 30 <= failing(sip, *kept) <= 61


@pytest.mark.rfc("5626 4.5")
def test_refused_registers_count_with_the_failures_of_their_flow(sip, kept):
    _, _, script = kept
    sip.clock.advance(10)
    failing(sip, *kept)
    script.answers = [(503, {})]
    sip.clock.advance(10)
    failing(sip, *kept)
    now, count = sip.clock.now(), len(script.requests)
    while len(script.requests) == count:
        sip.clock.advance(0.5)
    assert 120 <= script.times[-1] - now <= 241  # the third failure


def test_binding_without_outbound_is_refreshed_though_its_keepalives_fail(sip, pings):
    script = Keeping(expires=100)
    sip.stack(script, host="10.0.0.1")
    client = sip.stack(host="10.0.0.50", keep=True)
    registration = client.register(AOR)
    sip.clock.advance(1)
    for _ in range(8):
        sip.clock.advance(40)
        failing(sip, client, registration, script)
        assert registration.registered
    assert client.stats()["registrations"]["expired"] == 0
    closed(sip, registration)


# ---- our own address


@pytest.mark.rfc("3261 10.2.2")
def test_changed_address_is_registered_and_the_old_one_removed(sip, monkeypatch):
    script = Script()
    client, registration = registered(sip, script)
    here = ["10.0.0.50"]
    real = client.names.sent_by
    monkeypatch.setattr(client.names, "sent_by", lambda flow: (here[0], real(flow)[1]))
    sip.clock.advance(65)
    assert len(script.requests) == 1
    here[0] = "10.0.0.51"
    sip.clock.advance(31)
    assert len(script.requests) == 2
    new, old = script.requests[1].contact
    assert new.uri.host == "10.0.0.51" and "expires" not in new.parameters
    assert old.uri.host == "10.0.0.50" and old.parameters["expires"] == "0"
    assert client.stats()["registrations"]["address_changed"] == 1
    sip.clock.advance(300)
    assert len(script.requests) == 2
    closed(sip, registration)


@pytest.mark.rfc("3581 4")
def test_address_behind_a_nat_is_registered_if_asked_for(sip, monkeypatch):
    seen = [("192.0.2.9", 40000)]
    monkeypatch.setattr(flow_module, "seen_at", lambda response: seen[0])
    script = Script(expires=100)
    client, registration = registered(sip, script, public_contact=True)
    assert len(script.requests) == 2
    new, old = script.requests[1].contact
    assert (new.uri.host, new.uri.port) == ("192.0.2.9", 40000) and old.uri.host == "10.0.0.50"
    assert registration.own_contact.host == "192.0.2.9"
    assert client.is_local(registration.own_contact)
    sip.clock.advance(95)
    assert len(script.requests) == 3 and len(script.requests[2].contact) == 1
    seen[0] = ("192.0.2.9", 40001)
    sip.clock.advance(90)
    new, old = script.requests[-1].contact
    assert (new.uri.port, old.uri.port) == (40001, 40000)
    closed(sip, registration)


def test_nat_that_moves_us_each_time_does_not_have_us_register_for_ever(sip, monkeypatch):
    ports = iter(range(40000, 50000))
    monkeypatch.setattr(flow_module, "seen_at", lambda response: ("192.0.2.9", next(ports)))
    script = Script()
    _, registration = registered(sip, script, public_contact=True)
    sip.clock.advance(60)
    assert registration.registered and len(script.requests) <= 5
    closed(sip, registration)


def test_nat_is_ignored_by_default(sip, monkeypatch):
    monkeypatch.setattr(flow_module, "seen_at", lambda response: ("192.0.2.9", 40000))
    script = Script()
    _, registration = registered(sip, script)
    assert len(script.requests) == 1
    closed(sip, registration)


@pytest.mark.rfc("3581 4")
@pytest.mark.parametrize(
    ("via", "seen"),
    [
        ("10.0.0.1:5060;rport=4000;received=192.0.2.9", ("192.0.2.9", 4000)),
        ("10.0.0.1:5060;rport=5060", ("10.0.0.1", 5060)),
        ("10.0.0.1:5060;rport=4000;received=2001:db8::9", ("[2001:db8::9]", 4000)),
        ("10.0.0.1:5060;received=192.0.2.9", None),
        ("10.0.0.1:5060;rport", None),
    ],
)
def test_via_shows_where_the_first_hop_sees_us(via, seen):
    response = Response(200, "OK")
    response.headers.add("Via", f"SIP/2.0/UDP {via};branch=z9hG4bK1")
    assert seen_at(response) == seen
