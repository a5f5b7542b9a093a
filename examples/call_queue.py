"""A queue: answers each caller, and connects it with the first free agent.

    python examples/call_queue.py                 or  sippet serve examples/call_queue.py:stack

An agent rings for ten seconds, then the next one. An agent that has not answered rests for five
seconds. The caller may hang up at any time. It hears nothing until then: music needs a media
server. The variable AGENTS has the URIs of the agents, with spaces between them.
"""

import logging
import os
from collections import deque

import gevent
from gevent.event import AsyncResult

from sippet_gevent import SIPError, Stack, sdp

RING_SECONDS, REST_SECONDS, PATIENCE = 10, 5, 600
SILENCE = sdp.MediaStream("audio", 9, (sdp.PCMU, sdp.PCMA), direction=sdp.INACTIVE)

log = logging.getLogger("queue")
stack = Stack()
free = deque(os.environ.get("AGENTS", "sip:anna@192.0.2.20 sip:ben@192.0.2.21").split())
waiting = deque()  # callers that wait for an agent


def take_agent(caller):
    """Return a free agent, or None if the caller hangs up or waits for too long."""
    if free:
        return free.popleft()
    turn = AsyncResult()
    waiting.append(turn)
    caller.wait(PATIENCE, until=turn)
    if turn.ready():
        return turn.get()
    waiting.remove(turn)
    return None


def give_back(agent):
    if waiting:
        waiting.popleft().set(agent)
    else:
        free.append(agent)


def rest(agent):
    """Give an agent that did not answer back after a while."""
    stack.clock.sleep(REST_SECONDS)
    give_back(agent)


@stack.on("INVITE")
def queue(request, tx):
    tx.respond(180)
    with tx.accept(media=[SILENCE]) as caller:
        while not caller.ended.is_set() and (agent := take_agent(caller)):
            try:
                with stack.invite(
                    agent, from_=request.from_, timeout=RING_SECONDS, until=caller.ended
                ) as call:
                    ends = caller.bridge(call)
            except SIPError as error:  # refused, silent, not reached; or the caller has hung up
                log.info("not connected: agent=%s reason=%r", agent, str(error))
                gevent.spawn(rest, agent)
            else:
                log.info("connected: agent=%s caller=%s", agent, ends.caller)
                give_back(agent)


if __name__ == "__main__":
    stack.run()
