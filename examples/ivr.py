"""A call from ringing to hanging up, as code in the order of its events.

    python examples/ivr.py                        or  sippet serve examples/ivr.py:stack

Call it, let it ring, listen to the silence (there is no media in SIP), and wait until it hangs up.
Or hang up first, while it rings or later. Each line below where time passes may be the last one of
its call, and none needs an `if` for that. Each call has its own greenlet, so a thousand callers run
this code at the same time.

`media=` answers the caller's offer, refuses a caller without a common codec with 488, and answers
when the caller puts the call on hold. A digit by INFO gets 405, because call.wait() reads no
events.
"""

import logging

from sippet_gevent import Stack, sdp

RINGING, TALKING = 2, 10  # seconds

SILENCE = sdp.MediaStream("audio", 9, (sdp.PCMU, sdp.PCMA), direction=sdp.INACTIVE)

log = logging.getLogger("ivr")
stack = Stack()


@stack.on("INVITE")
def answer(request, tx):
    caller = request.from_.uri
    tx.respond(180)
    tx.wait(RINGING)
    with tx.accept(media=[SILENCE]) as call:
        log.info("%s is here", caller)
        hung_up = call.wait(TALKING)
    # leaving the block has sent our BYE
    log.info("%s %s", caller, "has hung up" if hung_up else "has talked long enough")


if __name__ == "__main__":
    stack.run()
