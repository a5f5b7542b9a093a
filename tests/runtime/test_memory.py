"""Memory: new work is refused before the process has too much, and one message at most is lost if there is none."""

from __future__ import annotations

import pytest

from sippet_gevent import InvalidValue, Limits
from sippet_gevent.engine import ingress
from sippet_gevent.runtime import memory
from sippet_gevent.runtime.memory import LEAST_WORK, MemoryWatch, allowed, most_resident, resident

from ..core.wire import Peer

CALLER = "10.0.0.50"
MIB = 1 << 20


@pytest.fixture
def caller(sip):
    return Peer(sip, CALLER, answer=lambda request: 200)


class Watched:
    """A watch on numbers that a test sets."""

    def __init__(self, limit=100):
        self.used, self.work, self.told = 0, 0, []
        self.watch = MemoryWatch(
            lambda: self.work, self.told.append, lambda: self.used, lambda: 1 << 60
        )
        self.watch.limit = limit

    def look(self, used, work):
        """Return True while new work is refused."""
        self.used, self.work = used, work
        self.watch.look()
        return bool(self.told and self.told[-1])


# ---- what the process may have


def files(root, **texts):
    for path, text in texts.items():
        path = root / path.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def test_limit_is_that_of_the_machine_without_control_groups(tmp_path):
    root = files(tmp_path, proc__meminfo="MemTotal:        8000 kB\nMemFree: 1 kB\n")
    assert allowed(root) == 8000 * 1024


def test_limit_is_the_least_of_all_control_groups_around_the_process(tmp_path):
    root = files(
        tmp_path,
        proc__meminfo="MemTotal: 8000000 kB\n",
        proc__self__cgroup="0::/pod/sip\n",
        sys__fs__cgroup__pod__sip__memory_dot_max="max\n",
        sys__fs__cgroup__pod__memory_dot_max=f"{256 * MIB}\n",
        sys__fs__cgroup__memory_dot_max=f"{512 * MIB}\n",
    )
    assert allowed(root) == 256 * MIB


def test_limit_of_control_groups_of_version_1_is_read(tmp_path):
    root = files(
        tmp_path,
        proc__meminfo="MemTotal: 8000000 kB\n",
        proc__self__cgroup="5:cpu,cpuacct:/x\n4:memory:/docker/1\n",
        sys__fs__cgroup__memory__docker__1__memory_dot_limit_in_bytes=f"{300 * MIB}\n",
        sys__fs__cgroup__memory__memory_dot_limit_in_bytes="9223372036854771712\n",
    )
    assert allowed(root) == 300 * MIB


def test_system_without_these_files_has_no_limit(tmp_path):
    assert allowed(str(tmp_path)) == 0


def test_memory_of_this_process_is_measured():
    assert 10 * MIB < resident() < allowed()
    assert resident() // 2 < most_resident() < allowed() * 100  # in bytes, too


def test_process_that_never_had_so_much_is_not_measured():
    peak, looks, told = [99], [], []
    watch = MemoryWatch(lambda: 0, told.append, lambda: looks.append(1) or 150, lambda: peak[0])
    watch.start(100)
    watch.stop()
    looks.clear()
    watch.limit = 100
    watch.look()
    assert looks == []
    peak[0] = 100
    watch.look()
    assert looks == [1]


# ---- the watch


def test_work_is_refused_at_the_limit_and_served_below_it():
    watched = Watched()
    assert not watched.look(99, 5000)
    assert watched.look(100, 5000)
    assert not watched.look(99, 5000)
    assert watched.told == [True, False]


def test_freed_memory_is_used_although_the_process_stays_large():
    watched = Watched()
    assert watched.look(100, 5000)
    assert watched.look(100, 4600)
    assert not watched.look(100, 4400)
    assert watched.look(100, 4600)


def test_process_that_grows_further_serves_less():
    watched = Watched()
    watched.look(100, 5000)
    assert not watched.look(100, 4400)
    assert watched.look(110, 4400)
    assert watched.look(110, 4200)
    assert not watched.look(110, 3900)


def test_few_calls_are_served_whatever_else_takes_the_memory():
    watched = Watched()
    assert not watched.look(200, LEAST_WORK - 1)
    assert watched.look(200, LEAST_WORK)


def test_garbage_is_collected_at_the_limit_and_then_at_most_once_a_minute(monkeypatch):
    now, full = [0.0], []
    monkeypatch.setattr(memory.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(memory.gc, "collect", lambda: full.append(now[0]))
    watched = Watched()
    for now[0], used in ((0, 99), (1, 100), (2, 99), (3, 120), (60, 120), (61, 120), (200, 99)):
        watched.look(used, 10)
    assert full == [1, 61]


def test_garbage_is_not_collected_at_the_limit_if_the_program_does_not_want_it(monkeypatch):
    full = []
    monkeypatch.setattr(memory.gc, "collect", lambda: full.append(1))
    monkeypatch.setattr(memory.gc, "isenabled", lambda: False)
    Watched().look(100, 10)
    assert not full


# ---- the stack


def test_new_request_gets_503_while_memory_is_short_and_a_call_goes_on(sip, caller):
    def core(request, tx):
        if request.method != "INVITE":
            return 200
        with tx.accept() as call:
            call.wait(60)

    stack = sip.serve(core)
    invite = caller.ask("INVITE")
    response = caller.responses[-1]
    caller.send(caller.within(invite, response, "ACK"))
    stack.engine.admission.use_memory(True)
    caller.ask("OPTIONS")
    assert caller.responses[-1].status == 503
    assert caller.responses[-1].retry_after is not None
    caller.send(caller.within(invite, response, "BYE"))
    assert caller.responses[-1].status == 200
    assert stack.stats()["refused"] == {"memory": 1}
    stack.engine.admission.use_memory(False)
    caller.ask("OPTIONS")
    assert caller.responses[-1].status == 200


def test_watch_runs_while_the_stack_does(sip):
    stack = sip.serve(lambda request, tx: 200, limits=Limits(memory=1 << 40, memory_percent=50))
    assert stack.memory.limit == 1 << 39
    assert stack.memory._timer is not None
    stack.stop()
    assert stack.memory._timer is None


def test_watch_of_a_running_stack_refuses_at_the_limit(sip, caller):
    stack = sip.serve(lambda request, tx: 200, limits=Limits(memory=MIB))
    stack.memory._work = lambda: LEAST_WORK
    stack.memory.look()
    caller.ask("OPTIONS")
    assert caller.responses[-1].status == 503


def test_0_percent_switches_the_watch_off(sip):
    stack = sip.serve(lambda request, tx: 200, limits=Limits(memory_percent=0))
    assert stack.memory._timer is None


def test_percent_over_100_is_refused():
    with pytest.raises(InvalidValue, match="memory_percent"):
        Limits(memory_percent=101)


# ---- MemoryError


def test_memory_error_in_the_parser_costs_one_message(sip, caller, monkeypatch):
    stack = sip.serve(lambda request, tx: 200)
    parse = ingress.parse
    failing = [True]

    def fail_once(data, limits):
        if failing.pop() if failing else False:
            raise MemoryError
        return parse(data, limits)

    monkeypatch.setattr(ingress, "parse", fail_once)
    caller.ask("OPTIONS")
    assert (caller.statuses, stack.stats()["dropped"]) == ([], {"out_of_memory": 1})
    caller.ask("OPTIONS")
    assert caller.statuses == [200]
    assert not stack.engine.crashes


def test_memory_error_of_a_core_costs_its_request(sip, caller):
    failing = [True]

    def core(request, tx):
        if failing.pop() if failing else False:
            raise MemoryError
        return 200

    sip.serve(core)
    caller.ask("OPTIONS")
    caller.ask("OPTIONS")
    assert caller.statuses == [500, 200]


def test_memory_error_of_the_answer_to_a_memory_error_costs_no_other_message(
    sip, caller, monkeypatch
):
    from sippet_gevent.core.server import ServerTransaction

    def core(request, tx):
        if "X-Fail" in request.headers:
            raise MemoryError
        return 200

    def crashed(self, error):
        raise MemoryError

    stack = sip.serve(core)
    monkeypatch.setattr(ServerTransaction, "crashed", crashed)
    caller.send(_failing(caller))
    caller.ask("OPTIONS")
    assert caller.statuses == [200]
    sip.clock.advance(31)
    assert caller.statuses == [200, 100, 500]
    assert stack.engine.workers.busy == 0


def _failing(caller):
    request = caller.request("OPTIONS")
    request.headers["X-Fail"] = "1"
    return request
