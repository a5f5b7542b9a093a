"""What serves and calls the SIPp scenarios of the shared corpus: a stack for each way of answering, and `python corpus_cores.py URI WAY` to call."""

from __future__ import annotations

import sys

from sippet_gevent import (
    Cancelled,
    Credentials,
    Reject,
    SIPError,
    Stack,
    Timers,
    TransactionTimeout,
    sdp,
)

STAYS = {"waits": None, "stays": 4.0}  # seconds in the call; `stays` sees four copies of a 200
SHORT = Timers(b=4.0, c=10.0, d=1.0, i=0.5, j=1.0, k=0.5, l=1.0, m=1.0)
AUDIO = sdp.MediaStream("audio", 40000, (sdp.PCMU, sdp.PCMA, sdp.G729, sdp.TELEPHONE_EVENT))


def answers(request, tx):
    with tx.accept(media=[AUDIO]) as call:
        for _ in call.events():
            pass


def hangs_up(request, tx):
    with tx.accept(media=[AUDIO]) as call:
        call.wait(1.5)


def reliable(request, tx):
    tx.respond(100)
    tx.respond(183, media=[AUDIO], reliable=True)
    tx.wait(1)
    with tx.accept() as call:
        call.wait()


def rings(request, tx):
    tx.respond(100)
    tx.respond(180)
    tx.wait(3)
    with tx.accept(media=[AUDIO]) as call:
        call.wait()


def previews(request, tx):
    tx.respond(100)
    tx.respond(183, media=[AUDIO])
    tx.wait(3)
    with tx.accept() as call:
        call.wait()


def follows(request, tx):
    """Answer, and accept each transfer."""
    with tx.accept(media=[AUDIO]) as call:
        for event in call.events():
            if event.referral is not None:
                event.referral.accept()
                event.referral.finish(200)


def stack_of(core):
    stack = Stack(timers=SHORT)
    stack.on("INVITE")(core)
    return stack


SERVING = {
    core.__name__: core for core in (answers, follows, hangs_up, reliable, rings, previews)
} | {
    f"refuses{status}": (lambda request, tx, status=status: status)
    for status in (404, 480, 486, 503, 603)
}
globals().update({name: stack_of(core) for name, core in SERVING.items()})  # for `sippet serve`


def call(uri, way):
    """Call a scenario, and print what has come of it."""
    stack = Stack(timers=SHORT)
    stack.listen("udp:127.0.0.1:0")
    with stack:
        try:
            options = {} if way == "asks" else {"media": [AUDIO]}
            if way == "cancels":
                options["timeout"] = 1.0
            if way == "knows":
                options["credentials"] = Credentials("bob", "secret")
            placed = stack.invite(uri, **options)
            if placed.offer is not None:
                placed.answer(media=[AUDIO])
            if way == "reinvites":
                try:
                    placed.reinvite()
                except SIPError as error:
                    print("refused within the call", error.status)
            placed.wait(STAYS.get(way, 1.0))
            placed.hangup()
            stack.clock.sleep(0.5)
            print("call", placed.end)
        except (Reject, Cancelled, TransactionTimeout) as error:
            print("refused", error.status, error)
            stack.clock.sleep(1.0)  # the 487 of a CANCEL


if __name__ == "__main__":
    call(*sys.argv[1:])
