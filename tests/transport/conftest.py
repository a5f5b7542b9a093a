"""What the tests of transports share: stacks on real sockets, stopped at the end."""

from __future__ import annotations

import pytest

from sippet_gevent import Stack


@pytest.fixture
def listen():
    """Make started stacks: `listen("udp:127.0.0.1:0", core=...)`."""
    made = []

    def make(*addresses, core=lambda request, tx: 200, **options):
        stack = Stack(*addresses, core=core, **options)
        made.append(stack)
        return stack.start()

    yield make
    for stack in made:
        stack.stop()


def port_of(stack, index=0):
    """The port of a stack's listener."""
    return stack.engine.transports[index].local[1]
