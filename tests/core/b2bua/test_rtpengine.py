"""RTPEngine: the NG protocol over real UDP, and bridges whose media it relays."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import InvalidValue, ParseError, RTPEngine, TransportError
from sippet_gevent.core.b2bua.bencode import decode, encode
from sippet_gevent.core.dialog.negotiation import same_session

from .engine import Engine
from .phones import CALLEE, Phones, body, describe

# ---- bencode


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"spam", b"4:spam"),
        (b"", b"0:"),
        (-3, b"i-3e"),
        ([b"a", 1], b"l1:ai1ee"),
        ({"b": b"1", "a": [b"x"]}, b"d1:al1:xe1:b1:1e"),
        ({}, b"de"),
    ],
)
def test_bencode_is_written_and_read(value, text):
    assert encode(value) == text
    assert decode(text) == value


@pytest.mark.parametrize(
    "text",
    [b"", b"5:spam", b"-1:a", b"i3", b"ixe", b"l1:a", b"d1:ae", b"di1e1:ae", b"1:ab", b"x",
     b"l" * 500 + b"e" * 500, b"d1:\xff1:ae", b"99999999999999999999999:a", b"i--1e"],
)  # fmt: skip
def test_broken_bencode_is_refused(text):
    with pytest.raises(ParseError):
        decode(text)


def test_value_that_bencode_lacks_is_refused():
    with pytest.raises(InvalidValue):
        RTPEngine(caller={"a": 1.5})


# ---- the protocol


def test_command_is_answered_and_other_cookies_are_ignored():
    with Engine() as engine:
        RTPEngine(engine.address).ping()
    assert engine.names == ["ping"]


def test_lost_command_is_repeated_with_its_cookie():
    with Engine(loses=1) as engine:
        RTPEngine(engine.address, timeout=10).ping()
    assert engine.names == ["ping"]


def test_silent_engine_is_an_error():
    with Engine(loses=1000) as engine, pytest.raises(TransportError, match=r"does not answer ping"):
        RTPEngine(engine.address, timeout=0.1).ping()


def test_closed_port_is_an_error():
    with Engine() as engine:
        address = engine.address
    with pytest.raises(TransportError, match="not reached"):
        RTPEngine(address, timeout=10).ping()


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
def test_name_that_cannot_be_asked_for_is_an_error(host):
    with pytest.raises(TransportError):
        RTPEngine(f"{host}:2223").ping()


def test_refused_command_is_an_error_with_its_reason():
    with (
        Engine(result="error") as engine,
        pytest.raises(TransportError, match="refuses offer: 'Unknown call-id'"),
    ):
        RTPEngine(engine.address).offer("a", "b", "c", b"v=0")


def test_answer_without_a_description_is_an_error():
    with Engine() as engine:
        engine.answers = lambda command: {"sdp": 3}
        with pytest.raises(TransportError, match="without sdp"):
            RTPEngine(engine.address).answer("a", "b", "c", b"v=0")


def test_delete_does_not_raise(caplog):
    with Engine(result="error") as engine:
        RTPEngine(engine.address).delete("a")
    assert "media not deleted: call_id=a" in caplog.text


def test_timeout_of_the_program_passes():
    with Engine(loses=1000) as engine:
        relay = RTPEngine(engine.address, timeout=30)
        with gevent.Timeout(0.05) as timer, pytest.raises(gevent.Timeout) as raised:
            relay.ping()
    assert raised.value is timer


@pytest.mark.parametrize("address", ["127.0.0.1", "a:", ":5", "a:b", "a:99999", ""])
def test_address_without_a_port_is_refused(address):
    with pytest.raises(InvalidValue):
        RTPEngine(address)


# ---- bridges


class Marks:
    """A media relay that marks each description, for bridges on virtual time."""

    def __init__(self):
        self.calls = []

    def offer(self, call_id, from_tag, to_tag, description):
        self.calls.append(("offer", from_tag, to_tag))
        return description + b"a=for:" + to_tag.encode() + b"\r\n"

    def answer(self, call_id, from_tag, to_tag, description):
        self.calls.append(("answer", from_tag, to_tag))
        return description + b"a=for:" + from_tag.encode() + b"\r\n"

    def delete(self, call_id):
        self.calls.append(("delete",))


FOR_CALLER, FOR_CALLEE = b"a=for:caller\r\n", b"a=for:callee\r\n"


def test_descriptions_of_a_bridge_pass_the_relay_and_its_end_deletes_it(sip):
    relay = Marks()
    phones = Phones(sip, media=relay)
    assert phones.inner.body == describe() + FOR_CALLEE
    phones.reply(183, describe(CALLEE))
    assert phones.last.body == describe(CALLEE) + FOR_CALLER
    phones.answer()
    assert phones.last.body == describe(CALLEE) + FOR_CALLER
    held, accepted = describe(version=2, direction="sendonly"), describe(CALLEE, version=2)
    phones.ask("INVITE", held)
    got = phones.callee.last("INVITE")
    assert got.body == held + FOR_CALLEE
    phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(accepted))
    assert same_session(phones.last.body, accepted + FOR_CALLER)
    phones.ask("ACK")
    phones.ask("INVITE", held)  # a refresh: nothing for the relay
    assert same_session(phones.last.body, accepted + FOR_CALLER)
    phones.ask("ACK")
    back = describe(CALLEE, version=3, port=9100)
    phones.ask_back("UPDATE", back)
    got = phones.caller.last("UPDATE")
    assert same_session(got.body, back + FOR_CALLER)
    phones.caller.reply(got, 200, contact=f"<{phones.caller.uri}>", **body(describe(version=3)))
    assert phones.callee.responses[-1].body == describe(version=3) + FOR_CALLEE
    phones.end()
    assert relay.calls == [
        ("offer", "caller", "callee"), ("answer", "caller", "callee"),
        ("answer", "caller", "callee"), ("offer", "caller", "callee"),
        ("answer", "caller", "callee"), ("offer", "callee", "caller"),
        ("answer", "callee", "caller"), ("delete",),
    ]  # fmt: skip


def test_late_offer_passes_the_relay(sip):
    relay = Marks()
    phones = Phones(sip, offer=b"", media=relay)
    phones.reply(200, describe(CALLEE))
    assert phones.last.body == describe(CALLEE) + FOR_CALLER
    phones.ack(describe())
    assert phones.callee.last("ACK").body == describe() + FOR_CALLEE
    phones.end()
    assert relay.calls == [
        ("offer", "callee", "caller"), ("answer", "callee", "caller"), ("delete",)
    ]  # fmt: skip


def test_media_of_a_refused_call_are_deleted(sip):
    relay = Marks()
    phones = Phones(sip, media=relay)
    phones.reply(486)
    assert relay.calls == [("offer", "caller", "callee"), ("delete",)]


def test_call_is_refused_when_its_media_cannot_be_relayed(sip):
    class Broken(Marks):
        def offer(self, *arguments):
            raise TransportError("rtpengine does not answer")

    phones = Phones(sip, media=Broken())
    assert phones.heard == [503]
    assert phones.callee.requests == []


def test_callee_is_hung_up_when_its_media_cannot_be_relayed(sip):
    class Broken(Marks):
        def answer(self, *arguments):
            raise TransportError("rtpengine does not answer")

    phones = Phones(sip, media=Broken())
    phones.reply(200, describe(CALLEE))
    assert phones.heard == [503]
    assert phones.callee.methods == ["INVITE", "ACK", "BYE"]
    assert "Reason" in phones.callee.last("BYE").headers
    phones.callee.reply(phones.callee.last("BYE"), 200)
