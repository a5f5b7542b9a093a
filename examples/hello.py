"""Hello, SIP: the caller hears ringing for three seconds, then busy.

    python examples/hello.py                      or  sippet serve examples/hello.py:stack

Then call sip:anything@127.0.0.1 from a phone on this machine. If you hang up early, the log stays
empty, because that is not an error. `sippet ping sip:127.0.0.1` works as well, because a stack
answers OPTIONS by itself.
"""

from sippet_gevent import Stack

stack = Stack()


@stack.on("INVITE")
def hello(request, tx):
    tx.respond(180)
    # while ringing: if the caller gives up, wait() raises Cancelled, and the answer is 487
    tx.wait(3)
    return 486


if __name__ == "__main__":
    stack.run()
