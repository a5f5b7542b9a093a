"""The `sip` fixture itself: what it does in a test, and what its report shows of one that fails."""

from __future__ import annotations

import re
from importlib.metadata import entry_points

import gevent
import pytest
from gevent.event import Event

from sippet_gevent import (
    Authenticated,
    Credentials,
    DNSResolver,
    Filter,
    InvalidValue,
    Location,
    MemoryBindings,
    Registrar,
    Request,
    SQLiteBindings,
    SQLiteUsers,
    Stack,
    StaticResolver,
    TransactionStateError,
    TransactionTimeout,
    User,
    VirtualClock,
    forward,
    ha1,
)
from sippet_gevent.core.registrar_proxy import RegistrarProxy
from sippet_gevent.testing import CLIENT, LADDER_LINES, SERVER, Sip, ladder
from sippet_gevent.transport.memory import Carried

from ..core.wire import Peer, host_of, sent

# ---- the report

TESTS = """
    from gevent.event import Event

    def core(request, tx):
        tx.respond(180)
        return 486

    def test_call_that_fails(sip):
        sip.lossy(seed=42)
        assert sip.ask(core, "INVITE sip:bob@example.com").statuses == [180, 200]

    def test_call_that_is_well(sip):
        assert sip.ask(core, "INVITE sip:bob@example.com").statuses == [180, 486]

    def test_without_the_fixture():
        assert 1 + 1 == 3

    def test_core_that_never_returns(sip):
        sip.ask(lambda request, tx: Event().wait() and 200, "MESSAGE sip:bob@example.com")

    def test_nothing_ever_happens(sip):
        sip.run(Event().wait)

    def test_deadline_that_fails(sip):
        sip.clock.alarm(1, lambda: 1 / 0)
        sip.advance(2)

    def test_deadline_of_an_item_that_fails(sip):
        stack = sip.serve(core)
        stack.deadlines.add(sip.clock.now() + 1, "an item without expire()")

    def test_request_without_run(sip):
        sip.serve(core)
        sip.client.request("OPTIONS", "sip:10.0.0.1")
"""


REPORTS: dict[str, str] = {}


@pytest.fixture
def report(pytester):
    """What pytest prints of each of the TESTS, run once, in a process of their own: they leave a mess."""
    if not REPORTS:
        pytester.makepyfile(TESTS)
        # Where the package is installed its entry point loads the plugin, and twice would be an error.
        installed = any(
            point.value == "sippet_gevent.testing" for point in entry_points(group="pytest11")
        )
        plugin = () if installed else ("-p", "sippet_gevent.testing")
        result = pytester.runpytest_subprocess(*plugin, "-p", "no:cacheprovider")
        result.assert_outcomes(passed=4, failed=4, errors=3)
        name = ""
        for line in result.outlines:
            found = re.fullmatch("_+ (?:ERROR at teardown of )?(test_[a-z_]+) _+", line)
            name = found[1] if found else name
            REPORTS[name] = REPORTS.get(name, "") + line + "\n"
    return REPORTS


def test_report_of_a_failed_test_shows_the_messages_in_order(report):
    words = ("INVITE", "180 Ringing", "486 Busy Here", "ACK")
    arrows = [line for line in report["test_call_that_fails"].splitlines() if "|" in line]
    assert [
        word for line in arrows for word in words if f"-{word}" in line or f"<{word}" in line
    ] == list(words)


@pytest.mark.parametrize("word", ["SIP messages", "seed 42", CLIENT, SERVER])
def test_report_of_a_failed_test_shows_its_hosts_and_seed(report, word):
    assert word in report["test_call_that_fails"]


def test_report_of_a_test_that_waits_itself_says_to_write_run(report):
    assert "write sip.run(stack.request, …)" in report["test_request_without_run"]


def test_report_of_a_test_that_passes_shows_nothing(report):
    assert "test_call_that_is_well" not in report


def test_report_of_a_test_without_the_fixture_is_as_ever(report):
    assert "SIP messages" not in report["test_without_the_fixture"]


def test_core_that_is_left_running_is_an_error_with_the_messages(report):
    text = report["test_core_that_never_returns"]
    assert "left over after the test: 1 cores still running" in text
    assert "MESSAGE sip:bob@example" in text


def test_wait_for_what_never_comes_fails_instead_of_hanging(report):
    assert "waits for an event that never comes" in report["test_nothing_ever_happens"]


def test_exception_at_a_deadline_is_an_error_of_the_test(report):
    text = "left over after the test: internal error at a deadline"
    assert f"{text}: ZeroDivisionError" in report["test_deadline_that_fails"]
    assert f"{text}: AttributeError" in report["test_deadline_of_an_item_that_fails"]


# ---- the ladder


def carried(data, source="a", to="b", *, at=0.0, fate="carried"):
    return Carried(at, (source, 5060), (to, 5060), data, fate)


def test_ladder_of_nothing_says_so():
    assert ladder([]) == "(no messages)"


def test_arrow_points_to_the_receiver():
    there, back = ladder(
        [carried(b"OPTIONS sip:b SIP/2.0\r\n"), carried(b"SIP/2.0 200 OK\r\n", "b", "a")]
    ).splitlines()[1:]
    assert (there.rstrip("|")[-1], back.partition("|")[2][0]) == (">", "<")


@pytest.mark.parametrize("fate", ["lost", "cut", "nobody there"])
def test_what_did_not_arrive_ends_in_a_cross_and_says_why(fate):
    line = ladder([carried(b"BYE sip:b SIP/2.0\r\n", fate=fate)]).splitlines()[1]
    assert line.endswith("x|") and f"BYE sip:b ({fate})" in line


def test_message_between_two_stacks_is_one_arrow(sip):
    sip.ask(lambda request, tx: 200, "OPTIONS sip:bob@example.com")
    assert [line.count("|") for line in sip.ladder().splitlines()[1:]] == [2, 2]
    assert [word in sip.ladder() for word in ("OPTIONS sip:bob@example", "200 OK")] == [True, True]


def test_ladder_shows_a_retransmission_and_what_was_lost(sip):
    sip.lossy(loss=1.0)
    asked = sip.ask(lambda request, tx: 200, "OPTIONS sip:b")
    sip.lossy(loss=0.0)
    sip.advance(0.6)
    lost, again, answer = sip.ladder().splitlines()[1:]
    assert asked.statuses == [200] and "200 OK" in answer
    assert "|x" in lost and "OPTIONS sip:b (lost)" in lost
    assert "|<" in again and "OPTIONS sip:b-" in again


def test_ladder_has_the_messages_of_hosts_that_are_no_stacks(sip):
    peer = Peer(sip, "10.0.0.50", lambda request: 200)
    assert sip.run(sip.client.request, "OPTIONS", peer.uri).status == 200
    sip.serve(lambda request, tx: 299)
    peer.ask("MESSAGE")
    drawn = sip.ladder()
    assert len(drawn.splitlines()) == 5
    assert [word in drawn for word in ("-OPTIONS", "200 OK", "-MESSAGE", "299")] == [True] * 4


def test_times_are_counted_from_the_first_message():
    text = ladder(
        [carried(b"BYE sip:b SIP/2.0\r\n", at=1000.0), carried(b"BYE sip:b SIP/2.0\r\n", at=1000.5)]
    )
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["0.000", "0.500"]


def test_long_ladder_shows_its_end():
    text = ladder(
        [carried(f"OPTIONS sip:{n} SIP/2.0\r\n".encode()) for n in range(LADDER_LINES + 5)]
    )
    assert "(5 earlier messages)" in text
    assert f"OPTIONS sip:{LADDER_LINES + 4}" in text


def test_bytes_that_are_no_message_are_shown_too():
    assert "|" in ladder([carried(b"\xff\xfe\x00")])


# ---- what it gives


def ok(request, tx):
    return 200


def test_core_is_served_by_one_stack_however_often_it_is_asked(sip):
    assert sip.serve(ok) is sip.serve(ok)


def test_each_core_has_a_host_of_its_own(sip):
    assert host_of(sip.serve(ok)) != host_of(sip.serve(lambda request, tx: 404))


def test_asked_records_its_responses(sip):
    asked = sip.ask(lambda request, tx: tx.respond(180) or 486, "INVITE sip:bob@example.com")
    assert (asked.statuses, asked.response.status, asked.error) == ([180, 486], 486, None)


def test_asked_has_the_error_that_takes_the_place_of_an_answer(sip):
    stack = sip.serve(ok)
    sip.network.partition(CLIENT, SERVER)
    asked = sip.ask(stack, "OPTIONS sip:bob@example.com")
    sip.advance(33)
    assert isinstance(asked.error, TransactionTimeout)


def test_request_may_be_made_by_hand_and_carry_headers_and_a_body(sip):
    seen = []
    sip.ask(
        lambda r, tx: seen.append((r.subject, r.body)) or 200,
        "MESSAGE sip:b@example.com",
        subject="x",
        body=b"hello",
    )
    sip.ask(sip.stacks[0], Request("MESSAGE", "sip:b@example.com", subject="y"))
    assert seen == [("x", b"hello"), ("y", b"")]


def test_time_passes_in_advance_only(sip):
    asked = sip.ask(lambda request, tx: tx.wait(10) or 486, "INVITE sip:bob@example.com")
    assert asked.statuses == []
    sip.advance(9.9)
    assert asked.statuses == [100]
    sip.advance(0.2)
    assert asked.statuses == [100, 486]


def test_run_lets_time_pass_for_blocking_code(sip):
    before = sip.clock.now()
    sip.run(sleeps, sip, 3600)
    assert sip.clock.now() - before == pytest.approx(3600, abs=1)


def sleeps(sip, seconds):
    done = Event()
    sip.clock.alarm(seconds, done.set)
    done.wait()


def test_run_raises_what_the_code_raises(sip):
    with pytest.raises(TransactionTimeout):
        sip.run(sip.client.request, "OPTIONS", "sip:10.0.0.99")


def test_network_that_loses_all_carries_nothing(sip):
    sip.lossy(loss=1.0)
    sip.ask(ok, "OPTIONS sip:bob@example.com")
    sip.advance(40)
    assert {c.fate for c in sip.network.trace} == {"lost"}


def test_network_does_not_take_what_it_does_not_know(sip):
    with pytest.raises(TypeError, match="a network has no losses"):
        sip.lossy(losses=0.3)


def fates(seed):
    """What becomes of one request on a bad network."""
    sip = Sip()
    sip.lossy(seed=seed, loss=0.4, delay=0.01, jitter=0.05)
    sip.ask(ok, "OPTIONS sip:bob@example.com")
    sip.advance(40)
    trace = [(round(c.time, 6), c.fate) for c in sip.network.trace]
    sip.close()
    return trace


def test_one_seed_does_the_same_things_each_time():
    assert fates(7) == fates(7)


def test_seeds_differ():
    assert len({tuple(fates(seed)) for seed in range(10)}) > 1


def test_partition_cuts_two_hosts_and_heals(sip):
    peer = Peer(sip, "10.0.0.50")
    sip.serve(ok)
    sip.network.partition("10.0.0.50", SERVER)
    peer.ask("MESSAGE")
    sip.network.heal()
    peer.ask("MESSAGE")
    assert (peer.statuses, sent(sip, "10.0.0.50")) == ([200], ["MESSAGE", "MESSAGE"])


def test_greenlets_of_the_test_see_the_same_time(sip):
    seen = []
    greenlet = gevent.spawn(lambda: (sleeps(sip, 5), seen.append(sip.clock.now())))
    start = sip.clock.now()
    sip.advance(5)
    greenlet.join()
    assert seen[0] - start == pytest.approx(5, abs=0.001)


# ---- an application with a Stack at module level


def application(*addresses, make_location=lambda stack: Location(), **options):
    """Make what a module of an application has: a stack on real addresses, and cores that use it."""
    stack = Stack(*(addresses or ("udp:127.0.0.1:5060",)), **options)
    location = make_location(stack)
    stack.on("REGISTER")(Registrar(location))

    @stack.on("INVITE")
    def ring(request, tx):
        tx.respond(180)
        tx.wait(3)
        return 486

    @stack.on("MESSAGE")
    def route(request, tx):
        targets = location.lookup(request.uri)
        return forward(request, tx, *targets) if targets else 404

    return stack


def test_stack_of_an_application_is_put_on_network_and_clock_of_the_test(sip):
    stack = application()
    real = stack.clock
    assert sip.serve(stack) is stack is sip.serve(stack)
    assert (stack.clock, stack.addresses) == (sip.clock, ["udp:127.0.0.1:5060"])
    asked = sip.ask(stack, "INVITE sip:bob@example.com")
    assert asked.statuses == [180]
    sip.advance(3)
    assert asked.statuses == [180, 486]
    assert stack.stats()["received"] == 2
    sip.close()
    sip.stacks.clear()
    sip._taken.clear()
    assert (stack.clock, stack.is_running, stack.stats()["received"]) == (real, False, 0)
    assert stack.planned[0][0].name == "UDP" and type(stack.planned[0][0]).__name__ == "UDP"


@pytest.mark.parametrize(
    "make", [lambda stack: Location(), lambda stack: Location(MemoryBindings())]
)
def test_location_of_an_application_goes_by_the_clock_of_the_test(sip, make):
    stack = sip.serve(application(make_location=make))
    phone = sip.stack(lambda request, tx: 299)
    contact = f"<sip:bob@{host_of(phone)}>"
    bob = "sip:bob@127.0.0.1"
    registered = sip.ask(stack, f"REGISTER {bob}", to=f"<{bob}>", contact=contact, expires=600)
    assert registered.response.contact[0].parameters["expires"] == "600"
    assert sip.ask(stack, f"MESSAGE {bob}").statuses == [299]
    sip.advance(599)
    assert sip.ask(stack, f"MESSAGE {bob}").statuses == [299]
    sip.advance(2)
    assert sip.ask(stack, f"MESSAGE {bob}").statuses == [404]


def test_what_was_registered_in_one_test_is_gone_in_the_next():
    stack, bob = application(), "sip:bob@127.0.0.1"
    for _ in range(2):
        sip = Sip()
        assert sip.ask(stack, f"MESSAGE {bob}").statuses == [404]
        assert sip.ask(
            stack, f"REGISTER {bob}", to=f"<{bob}>", contact="<sip:bob@10.0.0.9>"
        ).statuses == [200]
        assert len(sip.stacks[0].methods.handlers["REGISTER"].location.store) == 1
        sip.close()


def test_bindings_keep_the_time_they_have_left_when_their_clock_changes(sip):
    location = Location()
    stack = sip.stack(Registrar(location))
    first = sip.ask(
        stack,
        "REGISTER sip:x.example",
        to="<sip:a@x.example>",
        contact="<sip:a@10.0.0.9>",
        expires=600,
    )
    [binding] = location.get("sip:a@x.example")
    other = VirtualClock()
    other.advance(12345)
    with Stack(clock=other) as another:
        location.stack = another
        [moved] = location.get("sip:a@x.example")
        assert (
            binding.expires_at - sip.clock.wall()
            == pytest.approx(moved.expires_at - other.wall())
            == pytest.approx(600)
        )
    location.stack = stack
    assert first.statuses == [200]


def test_application_on_all_addresses_gets_a_host_and_keeps_its_listeners(sip):
    stack = application("udp:*:5060;name=all", "tcp:0.0.0.0:5070")
    sip.serve(stack)
    assert stack.addresses == [f"udp:{SERVER}:5060", f"tcp:{SERVER}:5070"]
    assert stack.engine.transports[0].listener.name == "all"
    other = sip.serve(application("udp:localhost:0", "udp:0.0.0.0:5060"))
    assert re.fullmatch(r"udp:127\.0\.0\.1:4\d+ udp:10\.0\.0\.\d+:5060", " ".join(other.addresses))


@pytest.mark.parametrize("transport", ["tcp", "ws"])
def test_application_on_streams_is_asked_by_streams_which_lose_nothing(sip, transport):
    sip.lossy(loss=1.0)
    asked = sip.ask(application(f"{transport}:127.0.0.1:5080"), "INVITE sip:bob@example.com")
    sip.advance(3)
    assert asked.statuses == [180, 486]
    assert {carried.transport for carried in sip.network.trace} == {transport.upper()}


def test_application_without_addresses_is_served(sip):
    assert sip.ask(Stack(core=ok), "OPTIONS sip:bob@example.com").statuses == [200]


def test_stream_to_a_closed_port_is_a_transport_error(sip):
    stack = sip.serve(application("tcp:127.0.0.1:5080"))
    assert sip.run(failure, stack) == "cannot connect to 10.0.0.99:5060: nothing listens there"


def failure(stack):
    try:
        stack.request("OPTIONS", "sip:10.0.0.99;transport=tcp")
    except OSError as error:
        return str(error)


def test_default_server_of_an_application_registers_by_the_clock_of_the_test(sip):
    stack, bob = Stack("udp:127.0.0.1:5060", core=RegistrarProxy()), "sip:bob@127.0.0.1"
    asked = sip.ask(stack, f"REGISTER {bob}", to=f"<{bob}>", contact="<sip:bob@10.0.0.9>")
    assert asked.statuses == [200]
    assert len(stack.core.location.lookup(asked.request.uri)) == 1


def test_filter_of_an_application_goes_by_the_clock_of_the_test(sip):
    stack = Stack("udp:127.0.0.1:5060", core=ok, accept=Filter(rate=1, burst=1))
    real = stack.clock
    sip.serve(stack)
    assert stack.accept.clock is sip.clock
    sip.close()
    assert stack.accept.clock is real


def test_stack_that_runs_on_real_addresses_is_refused_with_what_to_do(sip):
    with (
        Stack("udp:127.0.0.1:0", core=ok) as stack,
        pytest.raises(TransactionStateError, match="before start"),
    ):
        sip.ask(stack, "OPTIONS sip:bob@example.com")
    with pytest.raises(TypeError, match="a Stack has its options already: make it with domains"):
        sip.serve(stack, domains=("example.com",))


def sleepy(request, tx):
    tx.respond(180)
    gevent.sleep(0.3)
    return 486


def test_gevent_sleep_in_a_core_is_told_with_what_to_write(sip):
    asked = sip.ask(sleepy, "INVITE sip:bob@example.com")
    with pytest.raises(AssertionError) as told:
        sip.advance(3)
    assert "sleepy() waits in gevent.sleep(0.3) at " in str(told.value)
    assert "write tx.wait(0.3), or stack.clock.sleep(0.3) where there is no tx" in str(told.value)
    gevent.sleep(0.35)
    assert asked.statuses == [180, 486]


def test_gevent_sleep_in_blocking_code_is_told_with_what_to_write(sip):
    with pytest.raises(AssertionError, match=r"write .*stack\.clock\.sleep\(0\.2\)"):
        sip.run(lambda: gevent.sleep(0.2))
    gevent.sleep(0.25)


def test_sleep_by_the_clock_passes_with_the_time_of_the_test(sip):
    before = sip.clock.now()
    sip.run(sip.clock.sleep, 60)
    assert sip.clock.now() - before == pytest.approx(60)


# ---- names and wrong arguments


@pytest.mark.parametrize("how", ["application", "core"])
def test_name_in_a_test_is_looked_up_nowhere_and_the_log_says_what_to_write(
    sip, caplog, monkeypatch, how
):
    monkeypatch.setattr(DNSResolver, "ask", lambda *arguments: pytest.fail("a test asks DNS"))

    def core(request, tx):
        return forward(request, tx, "sip:bob@phone.example.com")

    stack = Stack(core=core)
    before = stack.resolver
    asked = sip.ask(stack if how == "application" else core, "INVITE sip:bob@example.com")
    assert asked.statuses[-1] == 500
    assert "no DNS is asked in a test: write resolver=StaticResolver({…})" in caplog.text
    sip.close()
    assert stack.resolver is before


def test_name_in_a_test_is_looked_up_in_the_table_of_the_stack(sip):
    phone = sip.stack(lambda request, tx: 486, host="192.0.2.20")
    stack = Stack(resolver=StaticResolver({"phone.example.com": ["192.0.2.20"]}))
    stack.on()(lambda request, tx: forward(request, tx, "sip:bob@phone.example.com"))
    assert sip.ask(stack, "INVITE sip:bob@example.com").statuses[-1] == 486
    assert phone.stats()["received"]


def test_localhost_in_a_test_is_the_loopback_address(sip):
    assert [way.host for way in sip.stack().resolve("sip:localhost")] == ["127.0.0.1"]


MISTAKES = {
    "no uri": (
        lambda sip: sip.ask(lambda request, tx: 200, "INVITE"),
        InvalidValue,
        "got 'INVITE': write \"INVITE sip:bob@",
    ),
    "seconds as text": (
        lambda sip: sip.advance("3"),
        TypeError,
        "seconds must be a number, got '3': write seconds=3",
    ),
    "back in time": (
        lambda sip: sip.advance(-3),
        InvalidValue,
        "seconds must be a number of 0 or more, got -3",
    ),
    "called already": (
        lambda sip: sip.run(200),
        TypeError,
        "got 200: write sip.run(client.request, method, uri)",
    ),
    "no such loss": (
        lambda sip: sip.lossy(los=0.3),
        TypeError,
        "a network has no los: write loss, duplicate",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_a_test_is_told_with_what_to_write(sip, mistake):
    call, kind, text = MISTAKES[mistake]
    with pytest.raises(kind, match=re.escape(text)):
        call(sip)


RATED = Stack("udp:127.0.0.1:0", core=lambda request, tx: 200, accept=Filter(rate=50))


@pytest.mark.parametrize("seconds", [10, 0])
def test_filter_of_a_stack_of_the_application_begins_anew_in_each_test(sip, seconds):
    sip.advance(seconds)
    assert sip.ask(RATED, "OPTIONS sip:bob@example.com").statuses == [200]


def test_invite_of_a_test_that_timer_c_ends_is_cancelled_without_an_internal_error(sip, caplog):
    def core(request, tx):
        tx.respond(180)
        tx.wait(400)

    asked = sip.ask(core, "INVITE sip:bob@example.com")
    sip.advance(200)
    assert asked.statuses == [180, 487]
    assert "internal error" not in caplog.text


def test_clock_stands_still_while_a_database_works(sip, tmp_path, caplog):
    path, aor = str(tmp_path / "bindings.db"), "sip:alice@example.com"
    users, bindings = SQLiteUsers(path), SQLiteBindings(path)
    users.add(User("alice", "example.com", {"SHA-256": ha1("alice", "example.com", "secret")}))
    registrar = RegistrarProxy(Location(bindings))
    server = sip.serve(Authenticated(registrar, realm="example.com", users=users))
    phone = sip.stack(host="192.0.2.7")
    secret = Credentials("alice", "secret", hosts=("10.0.0.1", "example.com"))
    for number in range(1, 9):
        response = sip.run(
            phone.request,
            "REGISTER",
            "sip:example.com",
            next_hop=f"sip:{host_of(server)}",
            to=f"<{aor}>",
            from_=f"<{aor}>",
            contact="<sip:alice@192.0.2.7>",
            credentials=secret,
        )
        assert (number, response.status) == (number, 200)
    assert "store is late" not in caplog.text
    bindings.close()
    users.close()


def test_host_that_is_an_address_with_a_transport_is_refused(sip):
    with pytest.raises(InvalidValue, match=r"host must be an IP address.*host=\"192.0.2.20\""):
        sip.stack(None, "udp:10.0.0.9:5060")


def test_error_of_code_that_runs_is_raised_and_not_printed(sip, capfd):
    with pytest.raises(ZeroDivisionError):
        sip.run(divmod, 1, 0)
    assert capfd.readouterr().err == ""
