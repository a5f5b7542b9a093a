"""A menu by digits, as code in the order of its events.

    python examples/ivr.py                        or  sippet serve examples/ivr.py:stack

The caller sends digits by INFO: 1 and 2 transfer, # hangs up. The caller may hang up at any
line, and no line needs an `if` for that. The library answers hold. If the caller's network is gone,
the session timer ends the call. SALES=sip:… and SUPPORT=sip:… are the targets.
"""

import logging
import os

from sippet_gevent import SIPError, Stack, sdp

SALES, SUPPORT = os.environ.get("SALES", "sip:sales@127.0.0.1:5080"), "sip:support@127.0.0.1:5081"
MENU = {"1": SALES, "2": os.environ.get("SUPPORT", SUPPORT)}
RINGING, QUIET, TRANSFER, SESSION = 2, 10, 60, 600  # seconds
SILENCE = sdp.MediaStream("audio", 9, (sdp.PCMU, sdp.PCMA), direction=sdp.INACTIVE)
log = logging.getLogger("ivr")
stack = Stack(session_expires=SESSION)


@stack.on("INVITE")
def answer(request, tx):
    tx.respond(180)
    tx.wait(RINGING)
    with tx.accept(media=[SILENCE]) as call:
        for event in call.events(timeout=QUIET):  # the loop ends when none comes in time
            if event.digit == "#" or (event.digit in MENU and transferred(call, MENU[event.digit])):
                break
    # leaving the block has sent our BYE, unless the caller was faster
    log.info("%s: %s", request.from_.uri, call.end)


def transferred(call, target):
    try:
        call.transfer(target, timeout=TRANSFER)
        return True
    except SIPError as error:  # busy, not reached, not accepted: the menu goes on
        log.info("%s: %s", target, error)
        return False


if __name__ == "__main__":
    stack.run()
