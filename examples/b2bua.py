"""A B2BUA: connects each caller with a gateway.

    python examples/b2bua.py                      or  sippet serve examples/b2bua.py:stack

Hold, digits, transfers and hanging up reach the other side. If the gateway is busy, the caller gets
its refusal. Each side has its own session timer, so the call ends if a phone loses power.
"""

import logging

from sippet_gevent import Stack, bridge

GATEWAY, PORT = "127.0.0.1", 5070

log = logging.getLogger("b2bua")
stack = Stack()


@stack.on("INVITE")
def b2bua(request, tx):
    tx.on_final(lambda status: log.info("%s: answered=%d", request.from_.uri, status))
    target = request.uri._replace(host=GATEWAY, port=PORT)
    ends = bridge(request, tx, target, timeout=180)
    log.info("%s: %s, %s", request.from_.uri, ends.caller, ends.callee)


if __name__ == "__main__":
    stack.run()
