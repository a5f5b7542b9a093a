"""The programs of the tutorial run and do what the lessons say."""

from __future__ import annotations

import re
from importlib.metadata import entry_points

from gevent import socket

from sippet_gevent import Stack
from sippet_gevent.message.sdp import SDP

from .blocks import BLOCKS, DOCS, block, on_free_ports


def test_testing_block_passes_as_it_is_pasted(pytester):
    pytester.makepyfile(hello=BLOCKS["hello"], test_hello=BLOCKS["testing"])
    installed = any(
        point.value == "sippet_gevent.testing" for point in entry_points(group="pytest11")
    )
    plugin = () if installed else ("-p", "sippet_gevent.testing")
    result = pytester.runpytest_subprocess(*plugin, "-p", "no:cacheprovider")
    result.assert_outcomes(passed=len(re.findall(r"^def test_", BLOCKS["testing"], re.M)))


def test_answering_block_answers_and_hangs_up(sip):
    offer = block("offer").offer
    asked = sip.ask(block("answering", offer=offer).core, "INVITE sip:bob@example.com")
    sip.advance(2)
    assert asked.statuses == [180, 200]
    assert asked.response.body == offer
    assert SDP.parse(offer).media[0].direction == "inactive"
    sip.advance(61)
    assert asked.call.ended.is_set()


def test_answering_block_refuses_and_can_be_given_up(sip, capsys):
    core = block("answering").core
    assert sip.ask(core, "MESSAGE sip:bob@example.com").statuses == [405]
    refused = sip.ask(core, "INVITE sip:bob@example.com", from_="<sip:spammer@example.com>;tag=1")
    assert (refused.response.status, refused.response.reason) == (403, "Not You")
    asked = sip.ask(core, "INVITE sip:bob@example.com")
    asked.cancel()
    assert asked.statuses == [180, 487]
    assert capsys.readouterr().out == "gave up\n"


def test_forwarding_block_registers_and_forwards():
    server = block("forwarding").stack
    on_free_ports(server)
    with server, Stack("udp:127.0.0.1:0", core=lambda request, tx: 299) as phone:
        uri = f"sip:bob@{server.addresses[0].removeprefix('udp:')}"
        here = f"<sip:bob@{phone.addresses[0].removeprefix('udp:')}>"
        assert phone.request("MESSAGE", uri, timeout=5).status == 404
        assert phone.request("REGISTER", uri, to=f"<{uri}>", contact=here, timeout=5).status == 200
        assert phone.request("MESSAGE", uri, timeout=5).status == 299


def test_ladder_is_what_a_failed_test_shows(sip):
    sip.ask(block("hello").stack, "INVITE sip:bob@example.com").cancel()
    drawn = [line.rstrip() for line in sip.ladder().splitlines()]
    assert "\n".join(drawn) in (DOCS / "tutorial" / "testing.md").read_text("utf-8")


def test_browser_block_serves_its_page_and_registers_browsers():
    made = block("browser")
    with on_free_ports(made.stack) as server, Stack("ws:127.0.0.1:0", core=lambda *_: 299) as page:
        _, ws = server.engine.transports
        with socket.create_connection(ws.local, timeout=10) as sock:
            sock.sendall(b"GET /?name=carol HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            got = b""
            while data := sock.recv(4096):
                got += data
        assert got.startswith(b"HTTP/1.1 200 OK") and made.PAGE in got
        way = f"sip:127.0.0.1:{ws.local[1]};transport=ws"
        user = {"to": "<sip:carol@localhost>", "from_": "<sip:carol@localhost>;tag=1"}
        browser = "<sip:carol@abc.invalid;transport=ws>;expires=60"
        registered = page.request(
            "REGISTER", "sip:localhost", next_hop=way, contact=browser, timeout=5, **user
        )
        assert registered.status == 200
        message = page.request("MESSAGE", "sip:carol@localhost", next_hop=way, timeout=5)
        assert message.status == 299


def test_menu_lesson_block_transfers_or_goes_on(sip, capsys):
    stack = sip.serve(block("menu_lesson").stack)
    uri = f"sip:menu@{stack.addresses[0].removeprefix('udp:')}"
    targets = []

    def refer(request, tx):
        targets.append(str(tx.referral.uri))
        if len(targets) == 1:
            return 603
        tx.referral.accept()
        tx.referral.finish(200)

    call = sip.run(sip.client.invite, uri, handlers={"REFER": refer}, body=block("offer").offer)
    sip.run(call.send_digits, "1")
    sip.advance(1)
    assert not call.ended.is_set()
    sip.run(call.send_digits, "2")
    sip.advance(1)
    assert targets == ["sip:sales@192.0.2.30", "sip:support@192.0.2.31"]
    assert call.ended.is_set()
    assert capsys.readouterr().out == "not transferred: 603 Decline\nended: bye by us\n"


def test_answer_lesson_block_waits_for_its_user(sip):
    program = block("answer_lesson")
    uri = "INVITE sip:bob@example.com"
    for decision, status in (("answer", 200), ("reject", 486)):
        asked = sip.ask(program.stack, uri)
        assert asked.statuses == [180]
        program.waiting[0].set(decision)
        assert asked.statuses == [180, status]
        if asked.call is not None:
            asked.call.hangup()
    given_up = sip.ask(program.stack, uri)
    given_up.cancel()
    late = sip.ask(program.stack, uri)
    sip.advance(61)
    assert (given_up.statuses, late.statuses) == ([180, 487], [180, 480])
    assert program.waiting == []
