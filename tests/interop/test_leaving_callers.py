"""The examples that answer or forward calls, with SIPp as callers that leave at each point of a call.

`pytest -m slow` plays 2,000 calls of each example.
"""

from __future__ import annotations

import pytest

from . import leaving
from .test_b2bua import SHORT, b2bua
from .test_pjsip_examples import shortened
from .test_sipp import BAD_BESIDE_OTHERS, refused_by, sipp

pytest_plugins = ["tests.programs"]

__all__ = ["b2bua", "shortened", "sipp"]


TARGET = """
from sippet_gevent import Stack, Timers, sdp

AUDIO = sdp.MediaStream("audio", 40000, (sdp.PCMU,))
stack = {stack}


@stack.on("INVITE")
def phone(request, tx):
    tx.respond(180)
    tx.wait(0.3)
    with tx.accept(media=[AUDIO]) as call:
        for event in call.events(timeout=2):
            if event.referral is not None:
                event.referral.accept()
                event.referral.finish(200)
"""
"""A phone that rings, answers, says that a transfer worked, and hangs up a quiet call."""


@pytest.fixture
def target(serve, tmp_path):
    """Serve TARGET; returns its port."""

    def start():
        path = tmp_path / "target.py"
        path.write_text(TARGET.format(stack=SHORT))
        return serve(f"{path}:stack").port

    return start


def ivr(serve, shortened, b2bua, target, sipp):
    path = shortened("ivr.py")
    path.write_text(path.read_text().replace(" = 2, 10, 60, 600", " = 0.3, 10, 60, 600"))
    return serve(f"{path}:stack"), ""


def bridge(serve, shortened, b2bua, target, sipp):
    port = target()
    return b2bua(port), f"sip:127.0.0.1:{port}"


def softphone(serve, shortened, b2bua, target, sipp):
    path = shortened("softphone.py")
    # one phone has one user, and these callers come at the same time
    text = path.read_text().replace("len(self.calls) > 1", "False")
    path.write_text(text.replace("self.incoming is not None or", "False or", 1))
    return serve(
        f"{path}:stack", ANSWER="0.3", LISTEN="udp:127.0.0.1:0"
    ), f"sip:127.0.0.1:{target()}"


def proxy(serve, shortened, b2bua, target, sipp):
    server, port = serve(f"{shortened('registrar_proxy.py')}:stack"), target()
    sipp("register", "-s", "bob", "-key", "contact", port, to=server.uri).wait_for_success(1)
    return server, f"sip:127.0.0.1:{port}"


SERVED = {
    "ivr.py": ivr,
    "b2bua.py": bridge,
    "softphone.py": softphone,
    "registrar_proxy.py": proxy,
}


def play(example, start, sipp, tmp_path, calls, rate):
    """Play this many calls of each point, all points side by side."""
    server, transfers = start
    callers = []
    for number, point in enumerate(leaving.POINTS):
        path = tmp_path / f"leaves{number}.xml"
        path.write_text(leaving.scenario(point, transfers=transfers))
        callers.append(sipp(path, "-s", "bob", "-r", rate, to=server.uri, calls=calls))
    leaving.give_up_at_once(server.port, calls)
    for caller in callers:
        caller.wait_for_success(calls, seconds=calls / rate + 60, bad=BAD_BESIDE_OTHERS)
    stats = server.wait_until_empty(seconds=60)
    assert not {"core_errors", "calls_unowned", "call_events_dropped"} & stats.keys()
    assert "Traceback" not in server.text
    refused_by(server, calls * len(leaving.POINTS))


@pytest.fixture(params=SERVED)
def started(request, serve, shortened, b2bua, target, sipp):
    return request.param, SERVED[request.param](serve, shortened, b2bua, target, sipp)


@pytest.mark.rfc("3261 9.1", "3261 15", "5407 3.1")
def test_callers_leave_at_each_point(started, sipp, tmp_path):
    example, start = started
    play(example, start, sipp, tmp_path, calls=6, rate=3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_2000_callers_leave_at_each_point(started, sipp, tmp_path):
    example, start = started
    play(example, start, sipp, tmp_path, calls=286, rate=3)
