"""A call from ringing to hanging up, told in the order in which it happens.

    python examples/ivr.py                        or  sippet serve examples/ivr.py:stack

Call it, let it ring, listen to the silence (there is no media in SIP), and wait to be hung up on.
Hang up first, while it rings or later: each of the lines below where time passes is a place where
the story may end, and none needs an `if` for it. Every call is carried by a greenlet of its own, so
a thousand callers are a thousand such stories at once.

A caller that puts the call on hold gets 488, a digit by INFO gets 405, and the call goes on: both
are still to come.
"""

import logging

from sippet_gevent import Part, Stack, sdp

RINGING, TALKING = 2, 10  # seconds

SILENCE = sdp.MediaStream("audio", 9, (sdp.PCMU, sdp.PCMA), direction=sdp.INACTIVE)

log = logging.getLogger("ivr")
stack = Stack()


def session(request, host):
    """Return our session description: an answer, stream by stream, to the caller's (RFC 3264 §6),
    or an offer."""
    offer = Part.of(request).find("application/sdp")
    if offer is None:
        return sdp.initial_offer([SILENCE], address=host)
    return sdp.answer(sdp.SDP.parse(offer.content), [SILENCE], address=host)


@stack.on("INVITE")
def answer(request, tx):
    caller = request.from_.uri
    ours = session(request, tx.flow.local[0])
    if all(stream.is_disabled for stream in ours.media):
        return 488  # no codec in common
    tx.respond(180)
    tx.wait(RINGING)
    with tx.accept(body=bytes(ours)) as call:
        log.info("%s is here", caller)
        hung_up = call.wait(TALKING)
    # leaving the block sent our BYE
    log.info("%s %s", caller, "has hung up" if hung_up else "has talked long enough")


if __name__ == "__main__":
    stack.run()
