"""`stack.run()`: a program of its own is run as `sippet serve` runs a core."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import textwrap
import time

import gevent
import pytest
from gevent import monkey

from sippet_gevent import InvalidValue, Request, Stack, TransactionStateError, TransportError
from sippet_gevent.runtime.collector import FULL_COLLECTIONS
from sippet_gevent.runtime.process import PROCESS
from tests.conditions import PATIENCE, until

pytest_plugins = ["tests.programs"]

RINGING = """
    from sippet_gevent import Stack

    stack = Stack("udp:127.0.0.1:0")

    @stack.on("INVITE")
    def ring(request, tx):
        tx.respond(180)
        tx.wait({seconds})
        return 603

    if __name__ == "__main__":
        stack.run({arguments})
        print("run() has returned")
"""


def in_a_thread(function):
    """Run a function in a thread of the system, in a patched process too, and wait for its end, 5 seconds at most."""
    ended = []

    def run():
        try:
            function()
        finally:
            ended.append(True)

    monkey.get_original("_thread", "start_new_thread")(run, ())
    until(lambda: ended)


@pytest.fixture
def program(run, tmp_path):
    """Start a program written here: `program(text)`. Its `uri` is where it listens."""

    def start(text):
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(text))
        program = run(sys.executable, path)
        port = program.wait_for(r"started: addresses=udp:127\.0\.0\.1:(\d+)")[1]
        program.uri = f"sip:127.0.0.1:{port}"
        return program

    return start


@pytest.fixture
def client():
    with Stack("udp:127.0.0.1:0") as stack:
        yield stack


def ring(client, uri):
    """Send an INVITE; return its transaction once it rings."""
    tx = client.send(Request("INVITE", uri))
    with gevent.Timeout(PATIENCE):
        assert any(response.status == 180 for response in tx)
    return tx


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_a_program_and_run_returns(program, client, number):
    program = program(RINGING.format(seconds=1, arguments=""))
    call = ring(client, program.uri)
    program.signal(number)
    program.wait_for("stopping: active=")
    assert client.request("MESSAGE", program.uri, timeout=PATIENCE).status == 503
    assert call.final(timeout=PATIENCE).status == 603
    assert program.wait() == 0
    assert "run() has returned" in program.text
    assert "Traceback" not in program.text


def test_second_signal_ends_a_program_at_once(program, client):
    program = program(RINGING.format(seconds=60, arguments=""))
    ring(client, program.uri)
    program.signal(signal.SIGTERM)
    program.wait_for("stopping: ")
    program.signal(signal.SIGINT)
    assert program.wait() == 0
    assert "stopping at once: active=2" in program.text


def test_drain_seconds_bound_the_end_of_a_program(program, client):
    program = program(RINGING.format(seconds=60, arguments="drain=0.3"))
    ring(client, program.uri)
    asked = time.monotonic()
    program.signal(signal.SIGTERM)
    assert program.wait() == 0
    assert time.monotonic() - asked >= 0.3


def test_program_with_its_own_logging_and_signals_keeps_them(run, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(
        textwrap.dedent("""
            import logging, signal
            import gevent
            from sippet_gevent import Stack

            logging.basicConfig(level=logging.INFO, format="MINE %(message)s")
            stack = Stack()
            signal.signal(signal.SIGTERM, lambda *_: gevent.get_hub().loop.run_callback(gevent.spawn, stack.stop))
            beats = gevent.spawn(lambda: [gevent.sleep(0.01) for _ in range(9)] and print("greenlets go on", flush=True))
            stack.run("udp:127.0.0.1:0")
            assert beats.ready()
        """)
    )
    program = run(sys.executable, path)
    program.wait_for("MINE started: addresses=udp:127.0.0.1:")
    program.wait_for("greenlets go on")
    program.signal(signal.SIGTERM)
    assert program.wait() == 0
    assert "stopping" not in program.text


def test_loop_that_is_blocked_is_named_in_a_program(program, client):
    program = program("""
        import time
        from sippet_gevent import Stack

        def core(request, tx):
            time.sleep(0.8)
            return 200

        Stack(core=core).run("udp:127.0.0.1:0")
    """)
    client.request("MESSAGE", program.uri, timeout=PATIENCE)
    program.wait_for(r'program\.py", line 6, in core')


ENDLESS = {
    "in Python": "while True: pass",
    "in C that takes no signals": "__import__('hashlib').pbkdf2_hmac('sha1', b'', b'', 2**31 - 1)",
}


@pytest.mark.parametrize("loop", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_endless_loop_in_a_core_ends_at_the_second_signal(program, client, loop, number):
    program = program(f"""
        from sippet_gevent import Stack

        def core(request, tx):
            {loop}

        Stack(core=core).run("udp:127.0.0.1:0")
    """)
    client.send(Request("MESSAGE", program.uri))
    program.wait_for("loop blocked:")
    program.signal(number)
    time.sleep(0.3)
    assert program.process.poll() is None
    program.signal(number)
    assert program.wait() == 128 + number
    assert "in core" in program.text[program.text.index("loop takes no signals: ended_by=") :]


@pytest.mark.parametrize(
    "close", ["", "os.close(reader)"], ids=["that nobody reads", "whose reader is gone"]
)
def test_core_blocked_with_a_stderr_ends_at_the_second_signal(program, client, close):
    program = program(f"""
        import logging, os
        from sippet_gevent import Stack

        def core(request, tx):
            print("begun", flush=True)
            reader, writer = os.pipe()
            os.dup2(writer, 2)
            os.close(writer)
            {close}
            while True: logging.warning("x" * 1000)

        logging.raiseExceptions = False
        Stack(core=core).run("udp:127.0.0.1:0")
    """)
    client.send(Request("MESSAGE", program.uri))
    program.wait_for("begun")
    time.sleep(0.6)  # the watchdog has told by now
    program.signal(signal.SIGTERM)
    time.sleep(0.3)
    program.signal(signal.SIGTERM)
    assert program.wait() == 128 + signal.SIGTERM


def test_endless_loop_outlives_signals_that_the_program_handles_itself(program, client):
    program = program("""
        import signal
        from sippet_gevent import Stack

        signal.signal(signal.SIGTERM, lambda number, frame: print("taken", flush=True))

        def core(request, tx):
            while True: pass

        Stack(core=core).run("udp:127.0.0.1:0")
    """)
    client.send(Request("MESSAGE", program.uri))
    program.wait_for("loop blocked:")
    for _ in range(3):
        program.signal(signal.SIGTERM)
        time.sleep(0.6)
    assert program.process.poll() is None
    assert "taken" in program.text


def test_two_stacks_share_the_signals_of_a_process(run, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(
        "import gevent\nfrom sippet_gevent import Stack\n"
        "gevent.joinall([gevent.spawn(Stack('udp:127.0.0.1:0').run) for _ in range(2)], raise_error=True)\n"
    )
    program = run(sys.executable, path)
    program.wait_for(r"(?s)started: .*started: ")
    program.signal(signal.SIGTERM)
    assert program.wait() == 0
    assert program.text.count("stopped: received=0") == 2


def test_run_gives_everything_back_when_the_stack_stops():
    thresholds, term, interrupt = (
        gc.get_threshold(),
        signal.getsignal(signal.SIGTERM),
        signal.getsignal(signal.SIGINT),
    )
    stack = Stack()
    seen = []

    def look():
        seen.extend([gc.get_threshold()[2], signal.getsignal(signal.SIGTERM), stack.addresses])
        stack.stop()

    gevent.spawn(look)
    stack.run("udp:127.0.0.1:0")
    assert seen[:2] == [max(thresholds[2], FULL_COLLECTIONS), PROCESS._received]
    assert len(seen[2]) == 1
    assert (gc.get_threshold(), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == (
        thresholds, term, interrupt
    )  # fmt: skip
    assert not PROCESS._stacks


def test_run_says_where_it_listens(caplog):
    caplog.set_level(logging.INFO, "sippet_gevent")
    stack = Stack("udp:127.0.0.1:0", "tcp:127.0.0.1:0")
    addresses = []
    gevent.spawn(lambda: (addresses.extend(stack.addresses), stack.stop()))
    stack.run()
    assert (
        f'started: addresses={addresses[0]},{addresses[1]} hint="SIGTERM or Ctrl-C stops"'
        in caplog.messages
    )


def test_run_without_an_address_takes_that_of_the_command():
    stack = Stack()
    stack.start = lambda: gevent.spawn(
        stack.stop
    )  # so that nothing is opened at port 5060 of this machine
    stack.run()
    assert [str(listener.address) for _, listener in stack.planned] == ["udp:127.0.0.1:5060"]


@pytest.mark.parametrize(
    ("address", "error"),
    [("udp:198.51.100.1:0", SystemExit), ("sctp:127.0.0.1:0", InvalidValue)],
)
def test_run_on_a_bad_address_raises_and_leaves_nothing(address, error):
    stack = Stack()
    with pytest.raises(error):
        stack.run(address)
    assert not stack.is_running
    assert signal.getsignal(signal.SIGTERM) is not PROCESS._received


def test_run_on_a_taken_port_names_the_program_that_has_it():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"udp:127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SystemExit) as ended:
            Stack().run(address)
        text = f"not started: cannot listen on {address}: Address already in use: "
        assert ended.value.code.startswith(text)
        if sys.platform == "linux":
            assert f"(pid {os.getpid()}) has it; stop it, or write another port" in ended.value.code
        with pytest.raises(TransportError):  # for a program that wants to decide by itself
            Stack(address).start()
        errors = []

        def other():
            with pytest.raises(TransportError) as raised:
                Stack(address).run()
            errors.append(raised.value)
            gevent.get_hub().destroy()

        in_a_thread(other)
        assert errors


def test_run_in_another_thread_says_what_to_call():
    errors = []

    def other():
        try:
            Stack("udp:127.0.0.1:0").run()
        except TransactionStateError as error:
            errors.append(str(error))
        gevent.get_hub().destroy()

    in_a_thread(other)
    assert errors == [
        "run() must be called in the main thread: call serve_forever() in another one"
    ]


def test_run_in_another_thread_says_what_to_call_while_the_main_one_runs():
    errors = []

    def other():
        try:
            Stack("udp:127.0.0.1:0").run()
        except TransactionStateError as error:
            errors.append(str(error))
        gevent.get_hub().destroy()

    def start():
        in_a_thread(other)
        stack.stop()

    stack = Stack("udp:127.0.0.1:0")
    gevent.spawn(start)
    stack.run()
    assert errors == [
        "run() must be called in the main thread: call serve_forever() in another one"
    ]


def test_signals_while_a_stack_starts_are_served_once_it_runs(caplog, monkeypatch):
    """By default, each of them would end the program."""
    caplog.set_level(logging.INFO, "sippet_gevent")
    stack, seen = Stack("udp:127.0.0.1:0"), []
    start = stack.start

    def interrupted():
        if seen:
            return start()
        seen.extend(signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM))
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGUSR1)
        return start()

    def stop_once_told():
        until(lambda: "stats: " in caplog.text and "certificates not reloaded" in caplog.text)
        stack.stop()

    monkeypatch.setattr(stack, "start", interrupted)
    before = [signal.signal(each, signal.SIG_DFL) for each in (signal.SIGHUP, signal.SIGUSR1)]
    try:
        gevent.spawn(stop_once_told)
        stack.run()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGUSR1, before[1])
    assert seen[0] == PROCESS._received != seen[1]
    told = [line.partition(":")[0] for line in caplog.messages]
    assert told.count("certificates not reloaded") == told.count("stats") == 1
    assert told.index("started") < told.index("stats")


def test_stack_that_starts_while_another_drains_drains_too():
    first, second = (
        Stack("udp:127.0.0.1:0", core=lambda request, tx: tx.wait(60)),
        Stack("udp:127.0.0.1:0"),
    )
    running = [gevent.spawn(first.run, drain=2.0)]
    with Stack("udp:127.0.0.1:0") as client:
        until(lambda: first.is_running)
        client.send(Request("MESSAGE", f"sip:{first.addresses[0].removeprefix('udp:')}"))
        until(lambda: first.active)
        signal.raise_signal(signal.SIGTERM)
        until(lambda: PROCESS.asked)
        running.append(gevent.spawn(second.run, drain=2.0))
        assert len(gevent.joinall(running, timeout=PATIENCE)) == 2
    gevent.killall(running)


def test_stack_stopped_at_once_during_a_drain_may_start_again():
    stack = Stack("udp:127.0.0.1:0", core=lambda request, tx: tx.wait(60))
    with stack, Stack("udp:127.0.0.1:0") as client:
        client.send(Request("MESSAGE", f"sip:{stack.addresses[0].removeprefix('udp:')}"))
        until(lambda: stack.active)
        draining = gevent.spawn(stack.stop, PATIENCE)
        gevent.sleep(0.1)
        assert not draining.ready()
        stack.stop()
        stack.start()
        draining.join(2 * PATIENCE)
        assert stack.is_running


def test_run_for_a_stack_that_runs_already_is_an_error_and_changes_nothing():
    stack = Stack("udp:127.0.0.1:0")
    first = gevent.spawn(stack.run)
    with gevent.Timeout(PATIENCE):
        while not stack.is_running:
            gevent.sleep(0.01)
        with pytest.raises(TransactionStateError, match="call it once"):
            stack.run()
        assert stack.is_running
        stack.stop()
        first.get()
