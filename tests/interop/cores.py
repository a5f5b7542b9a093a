"""What `sippet serve` runs in these tests. Timers that only end a transaction are short, so that a test sees them end."""

from __future__ import annotations

import os

from sippet_gevent import Authenticated, Limits, RegistrarProxy, Stack, Timers

SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\na=inactive\r\n"

SHORT = (
    Timers()
    if os.environ.get("LOAD")
    else Timers(b=2.0, c=1.5, d=1.0, i=0.5, j=1.0, k=0.5, l=1.0, m=1.0)
)

proxy = Stack(core=RegistrarProxy(), timers=SHORT)
asking_to_ping = Stack(core=RegistrarProxy(), timers=SHORT, limits=Limits(keep=1))
with_passwords = Stack(
    core=Authenticated(
        RegistrarProxy(),
        realm="127.0.0.1",
        users={"alice": "none", "bob": "none"},  # what the phones of test_baresip.py send
        algorithms=("MD5",),
    ),
    timers=SHORT,
)
answering = Stack(timers=SHORT)
identifying = Stack(timers=SHORT)


@answering.on("INVITE")
def answer(request, tx):
    with tx.accept(body=SDP) as call:
        call.wait()


@identifying.on("OPTIONS")
def identify(request, tx):
    return request.response(200, " ".join(request.flow.peer_identity) or "Nobody")
