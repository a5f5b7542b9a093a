"""What ends leaves no reference cycles: they would be found by the collector alone, which stops everybody while it looks."""

import gc
import socket as plain_socket

import gevent
import pytest
from gevent import socket

from sippet_gevent import DNSResolver, Stack, Timers, TransactionTimeout, TransportError, sdp

TIMES = 20
"""How often each is done: what the interpreter and the test leave behind is less than one object each time."""

AUDIO = sdp.MediaStream("audio", 40000, (sdp.PCMU,))

SHORT = Timers(d=0.05, i=0.05, j=0.05, k=0.05, l=0.05, m=0.05)
"""Ended transactions are forgotten soon. What they refer to is in no cycle before, from the collector's view."""


@pytest.fixture
def collected():
    """The number of objects in cycles that a function leaves each time it is called."""

    def count(function):
        gc.freeze()  # what other tests have made need not be searched
        function()
        gevent.sleep(0.3)
        gc.collect()
        gc.disable()
        try:
            for _ in range(TIMES):
                function()
            gevent.sleep(0.3)
            return gc.collect() // TIMES
        finally:
            gc.enable()
            gc.unfreeze()

    return count


@pytest.fixture(params=["udp", "tcp"])
def pair(request):
    """A client stack, and the URI of a server."""
    with (
        Stack(f"{request.param}:127.0.0.1:0", timers=SHORT) as server,
        Stack(f"{request.param}:127.0.0.1:0", timers=SHORT) as client,
    ):

        @server.on("MESSAGE")
        def wait(request, tx):
            tx.wait(0.001)
            return 202

        @server.on("INFO")
        def be_silent(request, tx):
            tx.wait(0.003)

        @server.on("INVITE")
        def answer(request, tx):
            if request.uri.user == "ringing":
                tx.respond(180)
                tx.wait(10)
            if request.uri.user == "events":
                with tx.accept(media=[AUDIO]) as call:
                    assert [event.kind for event in call.events(10)] == ["hold", "resume", "end"]
                return
            with tx.accept() as call:
                call.wait(10)

        yield (
            client,
            f"sip:127.0.0.1:{server.engine.transports[0].local[1]};transport={request.param}",
        )


def test_core_that_waited_leaves_no_cycle(pair, collected):
    client, uri = pair
    assert collected(lambda: client.request("MESSAGE", uri)) == 0


def test_call_leaves_no_cycle(pair, collected):
    client, uri = pair

    def call():
        with client.invite(uri) as call:
            call.wait(0.001)

    assert collected(call) == 0


def test_call_that_the_caller_gave_up_leaves_no_cycle(pair, collected):
    client, uri = pair
    uri = uri.replace("sip:", "sip:ringing@")

    def call():
        with pytest.raises(TransactionTimeout):
            client.invite(uri, timeout=0.003)

    assert collected(call) == 0


def test_call_with_an_inbox_of_events_leaves_no_cycle(pair, collected):
    client, uri = pair
    uri = uri.replace("sip:", "sip:events@")

    def call():
        with client.invite(uri, media=[AUDIO]) as call:
            call.hold()
            call.resume()

    assert collected(call) == 0


def test_request_that_was_given_up_leaves_no_cycle(pair, collected):
    client, uri = pair

    def give_up():
        with pytest.raises(TransactionTimeout):
            client.request("INFO", uri, timeout=0.001)

    assert collected(give_up) == 0


def test_connection_that_was_refused_leaves_no_cycle(collected):
    with plain_socket.socket() as bound, Stack("tcp:127.0.0.1:0") as client:
        bound.bind(("127.0.0.1", 0))
        uri = f"sip:127.0.0.1:{bound.getsockname()[1]};transport=tcp"

        def be_refused():
            with pytest.raises(TransportError):
                client.request("OPTIONS", uri)

        assert collected(be_refused) == 0


def test_name_server_that_is_silent_leaves_no_cycle(collected):
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        resolver = DNSResolver(servers=[silent.getsockname()], seconds=0.003)

        def ask_in_vain():
            with (
                Stack("udp:127.0.0.1:0", resolver=resolver) as client,
                pytest.raises(TransportError),
            ):
                client.request("OPTIONS", "sip:nobody.example")

        assert collected(ask_in_vain) == 0
