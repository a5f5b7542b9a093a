"""A redirect server that asks HTTP for targets, counts calls in Redis and records them in SQLite.

    python -m gevent.monkey examples/blocking_core.py         or
    sippet serve examples/blocking_core.py:core --monkey

All three libraries block, and the code simply calls them. gevent patches the standard library, so
while one call waits for its HTTP answer, others go on, and OPTIONS are answered at once. Needs
`pip install requests redis`. The variables ROUTES, REDIS and CALLS in the environment name the
three services.
"""

import os
import sqlite3
from contextlib import closing

import gevent
import redis
import requests

from sippet_gevent import Stack

ROUTES = os.environ.get("ROUTES", "http://127.0.0.1:8000/routes")
CALLS = os.environ.get("CALLS", "calls.sqlite")
CALLS_A_MINUTE = 10

counters = redis.Redis.from_url(os.environ.get("REDIS", "redis://127.0.0.1:6379"))


def core(request, tx):
    if request.method == "OPTIONS":
        return 200
    if request.method != "INVITE":
        return request.response(405, allow=("INVITE", "OPTIONS"))

    caller, callee = request.from_.uri.aor, request.uri.aor
    if too_often(caller):
        return request.response(480, retry_after=60)

    found = requests.get(ROUTES, params={"callee": callee}, timeout=10)
    if found.status_code == 404:
        return 404
    # an exception that leaves a core is a 500 for the caller, and a traceback in the log
    found.raise_for_status()

    # SQLite is C code that patching cannot make yield, so it runs in a thread of gevent's pool
    gevent.get_hub().threadpool.apply(write_down, (caller, callee, found.text))
    return request.response(302, contact=f"<{found.text}>")


def too_often(caller):
    calls = counters.incr(f"calls:{caller}")
    if calls == 1:
        counters.expire(f"calls:{caller}", 60)
    return calls > CALLS_A_MINUTE


def write_down(*call):
    with closing(sqlite3.connect(CALLS, timeout=10)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS calls (caller, callee, target)")
        database.execute("INSERT INTO calls VALUES (?, ?, ?)", call)


if __name__ == "__main__":
    Stack(core=core).run()
