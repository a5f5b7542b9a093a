"""A trunk: phones call out by an account at a carrier, and its calls ring the reception.

    python examples/trunk.py                      or  sippet serve examples/trunk.py:stack

The account registers, keeps itself registered, and asks the carrier each 30 seconds if it answers.
Phones need a password, because anybody could call abroad on this account otherwise.
"""

import os

from sippet_gevent import Account, Authenticator, Credentials, Stack, bridge

SECRET = os.environ.get("TRUNK_PASSWORD", "secret")
carrier = Account(
    "sip:100@carrier.example",
    Credentials("100", SECRET),
    outbound_proxy="sip:127.0.0.2:5070",
    keep_up=30,
)
phones = Authenticator(realm="office", users={"200": os.environ.get("PHONE_PASSWORD", "secret")})
stack = Stack()
stack.accounts.add(carrier)


@stack.on("INVITE")
def trunk(request, tx):
    if carrier.owns(request):
        bridge(request, tx, "sip:reception@127.0.0.1:5080", timeout=60)
    else:
        tx.authenticate(phones)
        carrier.bridge(request, tx, carrier.uri(request.uri.user), timeout=180)


if __name__ == "__main__":
    stack.run()
