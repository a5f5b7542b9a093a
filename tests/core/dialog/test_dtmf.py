"""Digits in INFO requests: what phones send, and what we send."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import InvalidValue, Request, Stack, TransactionStateError
from sippet_gevent.core.dialog.dtmf import check_digits, digit_of, relay

from .test_call import Placed


def info(kind, body, method="INFO"):
    return Request(method, "sip:bob@example.com", body=body, content_type=kind)


@pytest.mark.parametrize(
    ("body", "digit", "seconds"),
    [
        ("Signal=5\r\nDuration=160\r\n", "5", 0.16),
        ("Signal= 5\nDuration= 250", "5", 0.25),
        ("signal = #\r\nduration = 2000", "#", 2.0),
        ("Duration=80\r\nSignal=a", "A", 0.08),
        ("Signal=10", "*", 0.16),
        ("Signal=11\r\n", "#", 0.16),
        ("Signal=*", "*", 0.16),
        ("Signal=16", "!", 0.16),
        ("Signal=1\r\nDuration=999999", "1", 60.0),
    ],
)
def test_dtmf_relay_is_read_as_phones_write_it(body, digit, seconds):
    assert digit_of(info("application/dtmf-relay", body)) == (digit, seconds)


@pytest.mark.parametrize(("body", "digit"), [("5", "5"), ("#\r\n", "#"), (" d ", "D"), ("Signal=7", "7")])  # fmt: skip
def test_dtmf_is_the_digit_alone(body, digit):
    assert digit_of(info("application/dtmf", body)) == (digit, 0.16)


@pytest.mark.parametrize(
    "request_",
    [
        info("application/dtmf-relay", ""),
        info("application/dtmf-relay", "Duration=160"),
        info("application/dtmf-relay", "Signal=17"),
        info("application/dtmf-relay", "Signal=hello"),
        info("application/dtmf", "17"),
        info("application/dtmf", b"\xff"),
        info("text/plain", "5"),
        info("application/dtmf", "5", method="MESSAGE"),
        Request("INFO", "sip:bob@example.com"),
    ],
)
def test_other_requests_have_no_digit(request_):
    assert digit_of(request_) is None


def test_unreadable_content_type_has_no_digit():
    request = info("application/dtmf", "5")
    request.headers["Content-Type"] = "application dtmf"
    assert digit_of(request) is None


def test_relay_that_we_write_is_read_again():
    assert digit_of(info("application/dtmf-relay", relay("#", 0.25))) == ("#", 0.25)


@pytest.mark.parametrize("digits", ["", "12x", "1 2", None, 12])
def test_digits_to_send_are_checked(digits):
    with pytest.raises(InvalidValue, match="digits must be"):
        check_digits(digits)
    assert check_digits("12#ab") == "12#AB"


def test_digits_are_sent_from_any_greenlet():
    """From the main greenlet, which no core and no stack.run() has begun, and from another one."""
    seen = []
    taking, placing = Stack("udp:127.0.0.1:0"), Stack("udp:127.0.0.1:0")

    @taking.on("INVITE")
    def core(request, tx):
        with tx.accept(body=b"answer") as call:
            seen.extend(event.digit for event in call.events(timeout=30) if event.digit)

    with taking, placing:
        host, port = taking.engine.transports[0].local
        with placing.invite(f"sip:menu@{host}:{port}", body=b"offer") as call:
            call.send_digits("12", pause=0.01)
            gevent.spawn(call.send_digits, "#").get(timeout=30)
        gevent.wait(timeout=0.01)
    assert seen == ["1", "2", "#"]


def test_digits_that_nothing_can_answer_raise_a_clear_error(sip):
    """No time passes in a test that waits itself, so gevent would say that the loop has ended."""
    placed = Placed(sip)
    with pytest.raises(TransactionStateError, match=r"sip\.run\(call\.send_digits, …\)"):
        placed.call.send_digits("1")
    placed.peer.answer = lambda request: 200
    sip.run(placed.call.send_digits, "12")
    assert [request.body for request in placed.peer.requests if request.method == "INFO"][1:] == [
        relay("1", 0.16).encode(), relay("2", 0.16).encode(),
    ]  # fmt: skip
    placed.call.hangup()
