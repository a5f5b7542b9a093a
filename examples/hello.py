"""Hello, SIP: whoever calls hears it ring for three seconds, and then that we are busy.

    python examples/hello.py                      or  sippet serve examples/hello.py:stack

Then call sip:anything@127.0.0.1 from a phone on this machine, and hang up early for a change: the
log stays quiet, since giving up is nothing unusual. `sippet ping sip:127.0.0.1` works as well,
because a stack answers OPTIONS by itself.
"""

from sippet_gevent import Stack

stack = Stack()


@stack.on("INVITE")
def hello(request, tx):
    tx.respond(180)
    # ringing; if the caller gives up here, Cancelled is raised, and leaving with it answers 487
    tx.wait(3)
    return 486


if __name__ == "__main__":
    stack.run()
