"""A call from ringing to hanging up, told in the order in which it happens.

    python examples/ivr.py                        or  sippet serve examples/ivr.py:stack

Call it, let it ring, listen to the silence (there is no media in SIP), and wait to be hung up on. Hang up first, while
it rings or later: each of the lines below where time passes is a place where the story may end, and none needs an `if`
for it. Every call is carried by a greenlet of its own, so a thousand callers are a thousand such stories at once.
"""

import logging

from sippet_gevent import Stack

RINGING, TALKING = 2, 10  # seconds

# A session description that offers no media: RFC 3264 calls this an inactive stream.
SILENCE = """v=0\r
o=ivr 1 1 IN IP4 {host}\r
s=-\r
c=IN IP4 {host}\r
t=0 0\r
m=audio 9 RTP/AVP 0 8\r
a=inactive\r
"""

log = logging.getLogger("ivr")
stack = Stack()


@stack.on("INVITE")
def answer(request, tx):
    caller = request.from_.uri
    tx.respond(180)
    tx.wait(RINGING)
    with tx.accept(body=SILENCE.format(host=tx.flow.local[0])) as call:
        log.info("%s is here", caller)
        hung_up = call.wait(TALKING)
    log.info("%s %s", caller, "has hung up" if hung_up else "has talked long enough")  # leaving the block sent our BYE


if __name__ == "__main__":
    stack.run()
