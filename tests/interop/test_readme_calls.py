"""README's answering core and B2BUA, and examples/ivr.py, word for word but for addresses, with SIPp and baresip as phones.

The phones hold, send digits, refresh, hang up, and refuse; the text beside the examples says what becomes of that.
"""

from __future__ import annotations

import time
from html import escape

import pytest

from tests.docs.blocks import BLOCKS, ROOT
from tests.ports import free_port
from tests.programs import PATIENCE

from .test_baresip import Phone
from .test_sipp import HERE, sipp

pytest_plugins = ["tests.programs"]

PROGRAM = """
from sippet_gevent import Stack, Timers

SHORT = Timers(d=1.0, i=0.5, j=1.0, k=0.5, l=1.0, m=1.0)  # those that only end a transaction, so that a test sees them end
offer = {offer!r}

{block}

stack = Stack(timers=SHORT{core})
{more}
"""

OFFER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\na=inactive\r\n"


REFUSED = """<recv response="405">
    <action><ereg regexp="ACK, .*BYE, .*INVITE" search_in="hdr" header="Allow:" check_it="true" assign_to="allow"/></action>
  </recv>"""


@pytest.fixture
def program(tmp_path, serve):
    """Serve a block of the README."""

    def program(text, core="", more=""):
        path = tmp_path / "program.py"
        path.write_text(PROGRAM.format(offer=OFFER, block=text, core=core, more=more), "utf-8")
        return serve(f"{path}:stack")

    return program


@pytest.fixture
def bridge(program):
    """Serve README's B2BUA; its callee is at this port."""

    def bridge(port):
        text = (
            BLOCKS["bridging"]
            .replace("192.0.2.20", f"127.0.0.1:{port}")
            .replace("udp:127.0.0.1:5060", "udp:127.0.0.1:0")
        )
        return program(text, more='stack.on("INVITE")(b2bua)')

    return bridge


@pytest.fixture
def refused_digit(tmp_path):
    """The scenario of a phone whose digit is refused, because the core is in call.wait()."""
    scenario = tmp_path / "phone.xml"
    before, duration, after = (HERE / "phone_holds.xml").read_text().partition("Duration=160")
    assert '<recv response="200"/>' in after
    after = after.replace('<recv response="200"/>', REFUSED, 1)
    scenario.write_text(before + duration + after.replace('variables="', 'variables="allow,'))
    return scenario


def test_phone_holds_dials_and_hangs_up_at_the_answering_core(program, sipp, refused_digit):
    server = program(BLOCKS["answering"], ", core=core")
    sipp(refused_digit, "-s", "bob", to=server.uri).wait_for_success(1)
    server.wait_until_empty()


def test_phone_holds_dials_and_hangs_up_at_the_b2bua(bridge, sipp):
    port = free_port()
    server = bridge(port)
    callee = sipp("callee_in_call", port=port)  # the hold, the digit and the refresh reach it
    sipp("phone_holds", "-s", "bob", to=server.uri).wait_for_success(1)
    callee.wait_for_success(1)  # it has got its BYE, too
    server.wait_until_empty()


def test_phone_holds_dials_and_hangs_up_at_the_ivr(serve, sipp):
    server = serve(f"{ROOT / 'examples' / 'ivr.py'}:stack")
    sipp("phone_holds", "-s", "ivr", to=server.uri).wait_for_success(1)
    server.wait_for("bye by peer")


REFUSALS = [
    (
        401,
        "WWW-Authenticate",
        'Digest realm="example.com", nonce="84f1", algorithm=MD5, qop="auth"',
    ),
    (
        407,
        "Proxy-Authenticate",
        'Digest realm="example.com", nonce="84f1", algorithm=MD5, qop="auth"',
    ),
    (405, "Allow", "OPTIONS, MESSAGE"),
    (302, "Contact", "<sip:bob@192.0.2.99>"),
    (503, "Retry-After", "120"),
    (420, "Unsupported", "100rel"),
    (415, "Accept", "application/sdp"),
]


@pytest.mark.rfc("3261 20")
@pytest.mark.parametrize(("status", "name", "value"), REFUSALS, ids=lambda value: str(value)[:20])
def test_refusal_of_a_phone_reaches_the_caller_of_the_b2bua_whole(
    bridge, sipp, tmp_path, status, name, value
):
    caller, callee = tmp_path / "caller.xml", tmp_path / "callee.xml"
    text = (HERE / "callee_refuses.xml").read_text()
    callee.write_text(
        text.replace("486 Busy Here", f"{status} No").replace(
            "Content-Length", f"{name}: {value}\n      Content-Length"
        )
    )
    check = f'<action><ereg regexp="{escape(value[:12])}" search_in="hdr" header="{name}:" check_it="true" assign_to="found"/></action>'
    text = (HERE / "caller_is_refused.xml").read_text()
    text = text.replace('<recv response="486"/>', f'<recv response="{status}">{check}</recv>')
    caller.write_text(text.replace("</scenario>", '<Reference variables="found"/></scenario>'))
    port = free_port()
    server = bridge(port)
    phone = sipp(callee, port=port)
    sipp(caller, "-s", "bob", to=server.uri).wait_for_success(1)
    phone.wait_for_success(1)
    server.wait_until_empty()


REGISTRAR = """
from sippet_gevent import Location, Registrar

stack.on("REGISTER")(Registrar(Location()))
stack.on("INVITE")(core)
"""


def test_baresip_holds_and_hangs_up_at_the_answering_core(program, need, run, tmp_path):
    need("baresip")
    server = program(
        BLOCKS["answering"].replace("offer", "offer.replace('inactive', 'sendrecv')"),
        more=REGISTRAR,
    )
    phone = Phone(
        run,
        tmp_path / "alice",
        "alice",
        server,
        "udp",
        ca="",
        more="",
        extra=";answermode=manual",
        domain=None,
    )
    phone.command("dial", f"sip:bob@127.0.0.1:{server.port}")
    phone.wait_for("Call established")
    phone.command("hold")
    phone.wait_for("call: hold")
    phone.command("resume")
    phone.wait_for("call: resume")
    assert server.stats()["calls"] == 1
    assert "refused" not in phone.program.text
    assert "terminated" not in phone.program.text
    phone.command("hangup")
    server.wait_until_empty()
    phone.control.close()
