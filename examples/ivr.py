"""A call from ringing to hanging up, as code in the order of its events.

    python examples/ivr.py                        or  sippet serve examples/ivr.py:stack

Call it, let it ring, listen to the silence (there is no media in SIP), and wait until it hangs up.
Or hang up first, while it rings or later. Each line below where time passes may be the last one of
its call, and none needs an `if` for that. Each call has its own greenlet, so a thousand callers run
this code at the same time.

A caller that puts the call on hold gets 488, and a digit by INFO gets 405; the call goes on. This
example does not support either.
"""

import logging

from sippet_gevent import Part, Stack, sdp

RINGING, TALKING = 2, 10  # seconds

SILENCE = sdp.MediaStream("audio", 9, (sdp.PCMU, sdp.PCMA), direction=sdp.INACTIVE)

log = logging.getLogger("ivr")
stack = Stack()


def session(request, host):
    """Return our session description: the answer to the caller's offer (RFC 3264 §6), or an offer
    if the INVITE has none."""
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
    # leaving the block has sent our BYE
    log.info("%s %s", caller, "has hung up" if hung_up else "has talked long enough")


if __name__ == "__main__":
    stack.run()
