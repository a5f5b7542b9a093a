"""Click to call: a page with a form, which connects two phones.

    python examples/click_to_call.py              or  sippet serve examples/click_to_call.py:stack

Open http://127.0.0.1:8080 and write two addresses. The first phone rings; when it is answered, the
second one does. Hold and transfer cross, and when one side hangs up, so does the other. The page is
for your own machine, because everybody that reaches it can place calls. PAGE=127.0.0.1:8080 is
where it listens.
"""

import os
from html import escape
from urllib.parse import parse_qs

import gevent
from gevent.pywsgi import WSGIServer

from sippet_gevent import SIPError, Stack, sdp

FORM = """<!doctype html><title>Click to call</title><pre>{}</pre><form method=post>
<input name=a placeholder=sip:me@192.0.2.1> <input name=b placeholder=sip:you@192.0.2.2>
<button>Call</button></form>"""
SILENCE = sdp.MediaStream("audio", 9, (sdp.PCMU, sdp.PCMA), direction=sdp.INACTIVE)
stack = Stack("udp:0.0.0.0:0")
calls = {}  # the latest lines of the page


def connect(a, b):
    try:
        calls[a, b] = "the first phone rings"
        with stack.invite(a, media=[SILENCE], timeout=30) as first:
            calls[a, b] = "the second phone rings"
            with stack.invite(b, timeout=30, until=first.ended) as second:
                calls[a, b] = "connected"
                calls[a, b] = f"ended: {first.bridge(second).caller}"
    except SIPError as error:  # refused, not answered, not reached, no address
        calls[a, b] = f"not connected: {error}"
    while len(calls) > 20:
        del calls[next(iter(calls))]


def page(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST" and environ.get("HTTP_SEC_FETCH_SITE") != "cross-site":
        form = parse_qs(environ["wsgi.input"].read(4096).decode(errors="replace"))
        gevent.spawn(connect, form.get("a", [""])[0], form.get("b", [""])[0])
    start_response("200 OK", [("Content-Type", "text/html"), ("Refresh", "2; url=/")])
    return [FORM.format(escape("\n".join(f"{a} {b}: {s}" for (a, b), s in calls.items()))).encode()]


server = WSGIServer(os.environ.get("PAGE", "127.0.0.1:8080"), page, log=None)
try:
    server.start()
except OSError as error:  # a port that another program has
    raise SystemExit(f"PAGE: {error}") from None
if __name__ == "__main__":
    stack.run()
