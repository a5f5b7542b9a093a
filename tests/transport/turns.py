"""Counts the messages that connections have served in one turn of the loop."""

from __future__ import annotations

import contextlib
from collections import Counter

import gevent


@contextlib.contextmanager
def served_in_turns(transport):
    """Yield what is served meanwhile, in order: the turn of the loop and the flow of each message."""
    served, turn, receive = [], [0], transport.receive
    watcher = gevent.get_hub().loop.prepare()

    def count():
        turn[0] += 1

    def counting(data, flow):
        served.append((turn[0], flow))
        receive(data, flow)

    watcher.start(count)
    transport.receive = counting
    try:
        yield served
    finally:
        transport.receive = receive
        watcher.stop()
        watcher.close()


def most_in_a_turn(served):
    """Return the greatest number of messages that one flow has had served in one turn."""
    return max(Counter(served).values())
