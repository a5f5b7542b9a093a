"""Reloader: what a running server does with a file that has changed. `test_serve.py` sends real signals."""

from __future__ import annotations

import os
import signal
import time

import gevent
import gevent.event
import pytest

from sippet_gevent import ha1
from sippet_gevent.command import reload
from sippet_gevent.command.configuration import Words, read_configuration
from sippet_gevent.command.office import Office
from sippet_gevent.command.reload import Reloader
from sippet_gevent.command.settings import Settings, TrunkSettings
from sippet_gevent.command.terminal import Mistake
from sippet_gevent.command.trunk_settings import OfficeTrunks
from tests.conditions import until

LISTEN = '[[listen]]\naddress = "udp:127.0.0.1:0"\n'
OFFICE = f'domains = ["office.example"]\nusers = {{ alice = "secret" }}\n{LISTEN}'
EVERYWHERE = "open = true\n" + LISTEN.replace("127.0.0.1", "0.0.0.0")
TRUNK = '[trunks.a]\naccount = "sip:1@192.0.2.1"\nregister = false\nprobe = 0\n'


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Start the office of a text, and return it with a function that reloads another text."""
    monkeypatch.setattr(reload, "set_up_log", lambda settings, words: None)
    path = tmp_path / "sippet.toml"
    started = []

    def start(text, **options):
        path.write_text(text)
        options["config"] = str(path)
        office = Office(read_configuration(options))
        started.append(office)
        office.stack.start()
        reloader = Reloader(office, options)

        def again(text):
            path.write_text(text)
            return reloader.reload()

        return office, again

    yield start
    for office in started:
        office.stack.stop()
        office.close()


def told(caplog, event="configuration not reloaded"):
    return [line for line in caplog.messages if line.startswith(event)]


def test_signal_during_a_reload_is_not_lost(serve, monkeypatch):
    office, again = serve(OFFICE)
    original = reload.read_configuration
    twice = []

    def read(options):
        found = original(options)
        if not twice:  # while the first reload waits, the file changes and another signal comes
            twice.append(again(OFFICE + "[bans]\nfailures = 4\n"))
        return found

    monkeypatch.setattr(reload, "read_configuration", read)
    assert again(OFFICE + "[bans]\nfailures = 3\n")
    assert twice == [False]
    assert office.settings.bans_failures == 4


def test_signal_before_the_stack_runs_reloads_once_it_runs(serve):
    office, again = serve(OFFICE)
    reloader = Reloader(office, {"config": office.words.file})
    kept = {signal.SIGHUP, signal.SIGUSR1}
    with reloader.installed(kept):
        with open(office.words.file, "a") as file:
            file.write("[bans]\nfailures = 4\n")
        gevent.sleep(0)
        assert not reloader.reload()
        assert office.settings.bans_failures == 10
        reloader.begin()
        until(lambda: office.settings.bans_failures == 4)
    assert kept == {signal.SIGUSR1}


def htdigest(*users):
    """Return the lines of users, `(name, algorithm)`, with the password "secret"."""
    return "".join(
        f"{name}:office.example:{ha1(name, 'office.example', 'secret', algorithm)}\n"
        for name, algorithm in users
    )


MIXED = htdigest(("alice", "SHA-256"), ("bob", "MD5"))


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("", "sippet.toml:1: users_file: the users have no algorithm in common, because 'alice' has "
         "no HA1 for SHA-512-256, 'bob' has no HA1 for SHA-256, 'alice' has no HA1 for MD5: write "
         "lines with an HA1 for the same algorithm for all of them"),
        ('algorithms = ["MD5"]\n', "sippet.toml:2: algorithms: 'alice' has no HA1 for MD5: write "
         "lines with an HA1 for the same algorithm for all of them, or leave MD5 out"),
    ],
)  # fmt: skip
def test_user_without_an_ha1_for_the_algorithms_is_a_mistake(
    serve, tmp_path, caplog, more, problem
):
    (tmp_path / "users").write_text(MIXED)
    office = f'domains = ["office.example"]\n{LISTEN}'
    with pytest.raises(Mistake) as refused:
        serve(f'users_file = "users"\n{more}{office}')
    assert str(refused.value).replace(f"{tmp_path}/", "") == problem
    served, again = serve(OFFICE)
    assert not again(f'users_file = "users"\n{more}{office}')
    assert "has no HA1 for MD5" in told(caplog)[0]
    assert served.users.lookup("alice", "office.example")
    (tmp_path / "users").write_text(MIXED + htdigest(("alice", "MD5")))
    assert again(f'users_file = "users"\n{more}{office}')
    assert served.algorithms == ("MD5",)


def test_loop_goes_on_while_a_reload_reads_thousands_of_users(serve, tmp_path):
    office, again = serve(OFFICE)
    (tmp_path / "users").write_text(htdigest(*((f"user{n}", "MD5") for n in range(5000))))
    secrets = "".join(f'user{n} = "secret"\n' for n in range(5000, 8000))
    turns, done = [], gevent.event.Event()

    def tick():
        while not done.is_set():
            gevent.sleep(0.001)
            turns.append(time.monotonic())

    ticking = gevent.spawn(tick)
    gevent.sleep(0.01)
    turns.clear()
    # the time of the processor, because a busy machine lets this thread wait, too
    of_loop, of_all = time.thread_time(), time.process_time()
    assert again(f'users_file = "users"\ndomains = ["office.example"]\n{LISTEN}[users]\n{secrets}')
    of_loop, of_all = time.thread_time() - of_loop, time.process_time() - of_all
    assert len(turns) > 5
    done.set()
    ticking.join()
    assert office.algorithms == ("MD5",)
    assert of_loop < of_all / 2


def test_file_that_is_empty_for_a_moment_changes_nothing(serve, caplog):
    office, again = serve(OFFICE + TRUNK)
    assert not again("")
    assert told(caplog)[0].endswith(
        'the file is empty: write it, and send SIGHUP again" hint="the old one stays"'
    )
    assert office.users.lookup("alice", "office.example")
    assert len(office.stack.accounts) == 1
    assert again(OFFICE)


def test_pipe_in_place_of_the_file_does_not_block_the_server(serve, caplog, tmp_path):
    office, again = serve(OFFICE)
    os.remove(tmp_path / "sippet.toml")
    os.mkfifo(tmp_path / "sippet.toml")
    assert not Reloader(office, {"config": office.words.file}).reload()
    assert "is a pipe: write the path of a file to reload it" in told(caplog)[0]


@pytest.mark.parametrize(
    ("before", "after"), [(LISTEN, OFFICE), (EVERYWHERE, OFFICE), (EVERYWHERE, EVERYWHERE[12:])]
)
def test_trunk_is_not_added_while_the_server_asks_for_no_passwords(serve, caplog, before, after):
    office, again = serve(before)
    assert not again(after + TRUNK)
    assert "[trunks.a]: needs a restart: until then, the server asks for no" in told(caplog)[0]
    assert len(office.stack.accounts) == 0


def test_core_of_the_user_is_not_replaced_by_the_default_server(serve, caplog, tmp_path):
    (tmp_path / "core_of_a_reload.py").write_text("def core(request, tx):\n    return 200\n")
    own = f'core = "core_of_a_reload.py:core"\n{LISTEN}'
    office, again = serve(own)
    core = office.stack.core
    assert not again(OFFICE + TRUNK)
    assert "core: needs a restart" in told(caplog)[0]
    assert office.stack.core is core
    office, again = serve(OFFICE)
    assert not again(own)


def test_domains_that_are_left_out_stay_until_a_restart(serve, caplog):
    caplog.set_level("INFO", "sippet_gevent")
    office, again = serve('domains = ["office.example"]\n' + LISTEN)
    assert again(LISTEN)
    assert told(caplog, "setting not") == [
        'setting not reloaded: key=domains reason="it needs a restart"'
    ]
    assert told(caplog, "configuration reloaded")[0].endswith("changed=none")
    assert office.stack.domains == ("office.example",)


def test_file_replaced_through_a_symbolic_link_is_read(serve, tmp_path):
    """Kubernetes changes a mounted file by turning a link to its folder."""
    office, again = serve(OFFICE)
    for name, failures in (("first", 7), ("second", 8)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sippet.toml").write_text(
            f'{OFFICE}[bans]\nfailures = {failures}\n[log]\nlevel = "info"\n'
        )
    link = tmp_path / "sippet.toml"
    for name, failures in (("first", 7), ("second", 8)):
        os.symlink(tmp_path / name / "sippet.toml", tmp_path / "new")
        os.replace(tmp_path / "new", link)
        assert Reloader(office, {"config": str(link)}).reload()
        assert office.settings.bans_failures == failures
    os.remove(tmp_path / "second" / "sippet.toml")
    assert not Reloader(office, {"config": str(link)}).reload()
    assert office.settings.bans_failures == 8


def test_trunks_of_carriers_that_are_silent_are_closed_at_the_same_time(sip):
    stack = sip.stack(lambda request, tx: 404)
    trunks = OfficeTrunks()
    settings = [
        TrunkSettings(str(last), f"sip:1@10.0.0.{last}", probe=0) for last in range(201, 211)
    ]

    def made(*settings):
        return trunks.made(Settings(trunks=settings), Words())

    trunks.first(made(*settings))
    trunks.join(stack)
    sip.settle()
    before = sip.clock.now()
    kept = made(settings[0])
    using = gevent.spawn(trunks.use, kept, stack)
    sip.settle()
    sip.advance(2.5)
    assert using.ready(), sip.clock.now() - before
    assert [*stack.accounts] == [kept[0].trunk.account]
