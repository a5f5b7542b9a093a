"""The `sip` fixture itself: what it does in a test, and what its report shows of one that fails."""

from __future__ import annotations

import re
from importlib.metadata import entry_points

import gevent
import pytest
from gevent.event import Event

from sippet_gevent import Request, TransactionTimeout
from sippet_gevent.testing import CLIENT, LADDER_LINES, SERVER, Sip, ladder
from sippet_gevent.transport.memory import Carried

from .wire import Peer, host_of, sent

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
"""


REPORTS: dict[str, str] = {}


@pytest.fixture
def report(pytester):
    """What pytest prints of each of the TESTS, run once, in a process of their own: they leave a mess."""
    if not REPORTS:
        pytester.makepyfile(TESTS)
        # Where the package is installed its entry point loads the plugin, and twice would be an error.
        installed = any(point.value == "sippet_gevent.testing" for point in entry_points(group="pytest11"))
        plugin = () if installed else ("-p", "sippet_gevent.testing")
        result = pytester.runpytest_subprocess(*plugin, "-p", "no:cacheprovider")
        result.assert_outcomes(passed=2, failed=3, errors=1)
        name = ""
        for line in result.outlines:
            found = re.fullmatch("_+ (?:ERROR at teardown of )?(test_[a-z_]+) _+", line)
            name = found[1] if found else name
            REPORTS[name] = REPORTS.get(name, "") + line + "\n"
    return REPORTS


def test_report_of_a_failed_test_shows_the_messages_in_order(report):
    words = ("INVITE", "180 Ringing", "486 Busy Here", "ACK")
    arrows = [line for line in report["test_call_that_fails"].splitlines() if "|" in line]
    assert [word for line in arrows for word in words if f"-{word}" in line or f"<{word}" in line] == list(words)


@pytest.mark.parametrize("word", ["SIP messages", "seed 42", CLIENT, SERVER])
def test_report_of_a_failed_test_shows_its_hosts_and_seed(report, word):
    assert word in report["test_call_that_fails"]


def test_report_of_a_test_that_passes_shows_nothing(report):
    assert "test_call_that_is_well" not in report


def test_report_of_a_test_without_the_fixture_is_as_ever(report):
    assert "SIP messages" not in report["test_without_the_fixture"]


def test_core_that_is_left_running_is_an_error_with_the_messages(report):
    text = report["test_core_that_never_returns"]
    assert "left over after the test: 1 cores still running" in text
    assert "MESSAGE sip:bob@example" in text


def test_wait_for_what_never_comes_fails_instead_of_hanging(report):
    assert "waits for what will never come" in report["test_nothing_ever_happens"]


# ---- the ladder


def carried(data, source="a", to="b", *, at=0.0, fate="carried"):
    return Carried(at, (source, 5060), (to, 5060), data, fate)


def test_ladder_of_nothing_says_so():
    assert ladder([]) == "(no messages)"


def test_arrow_points_to_the_receiver():
    there, back = ladder([carried(b"OPTIONS sip:b SIP/2.0\r\n"), carried(b"SIP/2.0 200 OK\r\n", "b", "a")]).splitlines()[1:]
    assert (there.rstrip("|")[-1], back.partition("|")[2][0]) == (">", "<")


@pytest.mark.parametrize("fate", ["lost", "cut", "nobody there"])
def test_what_did_not_arrive_ends_in_a_cross_and_says_why(fate):
    line = ladder([carried(b"BYE sip:b SIP/2.0\r\n", fate=fate)]).splitlines()[1]
    assert line.endswith("x|") and f"BYE sip:b ({fate})" in line


def test_times_are_counted_from_the_first_message():
    text = ladder([carried(b"BYE sip:b SIP/2.0\r\n", at=1000.0), carried(b"BYE sip:b SIP/2.0\r\n", at=1000.5)])
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["0.000", "0.500"]


def test_long_ladder_shows_its_end():
    text = ladder([carried(f"OPTIONS sip:{n} SIP/2.0\r\n".encode()) for n in range(LADDER_LINES + 5)])
    assert "(5 earlier messages)" in text
    assert f"OPTIONS sip:{LADDER_LINES + 4}" in text


def test_octets_that_are_no_message_are_shown_too():
    assert "|" in ladder([carried(b"\xff\xfe\x00")])


# ---- what it gives


def ok(request, tx):
    return 200


def test_core_is_served_by_one_stack_however_often_it_is_asked(sip):
    assert sip.serve(ok) is sip.serve(ok)


def test_each_core_has_a_host_of_its_own(sip):
    assert host_of(sip.serve(ok)) != host_of(sip.serve(lambda request, tx: 404))


def test_asked_has_its_responses_whether_anybody_looks_or_not(sip):
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
    sip.ask(lambda r, tx: seen.append((r.subject, r.body)) or 200, "MESSAGE sip:b@example.com", subject="x", body=b"hello")
    sip.ask(sip.stacks[0], Request("MESSAGE", "sip:b@example.com", subject="y"))
    assert seen == [("x", b"hello"), ("y", b"")]


def test_time_stands_still_until_it_is_told_to_move(sip):
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
