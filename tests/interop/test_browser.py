"""Headless Chromium with JsSIP registers over WSS at `sippet serve`, calls, is called, and leaves."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import queue
import subprocess
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.conditions import PATIENCE

from .test_sipp import HERE, refused, register, sipp

pytest_plugins = ["tests.programs"]

PAGE = HERE / "browser"

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)  # fmt: skip
"""No display, no background traffic, and a microphone that beeps and needs no permission."""


class Site(ThreadingHTTPServer):
    """Serves the page, sends it commands, receives its events."""

    daemon_threads = True

    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), _Visitor)
        self.files = {"/": PAGE / "phone.html", "/phone.js": PAGE / "phone.js", "/jssip.js": script}
        self.commands = defaultdict(queue.Queue)
        self.events = defaultdict(queue.Queue)
        self.origin = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Visitor(BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, page = self.path.partition("?")
        if path == "/command":
            try:
                command = self.server.commands[page].get(timeout=0.5)
            except queue.Empty:
                command = {}
            self.reply(json.dumps(command).encode(), "application/json")
        elif path in self.server.files:
            kind = "text/html" if path == "/" else "text/javascript"
            self.reply(self.server.files[path].read_bytes(), kind)
        else:
            self.send_error(404)

    def do_POST(self):
        page = self.path.partition("?")[2]
        self.server.events[page].put(
            json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        )
        self.reply(b"", "text/plain")

    def reply(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:  # the page has been reloaded
            pass

    def log_message(self, *arguments):
        pass


class Browser:
    """A running Chromium that shows the page. `server` has the pin of its certificate."""

    def __init__(self, run, site, folder, server, user):
        self.commands, self.events = site.commands[user], site.events[user]
        self.server = server
        self.uri = f"sip:{user}@127.0.0.1:{server.port}"
        pin = f"--ignore-certificate-errors-spki-list={server.pin}"
        self.program = run(
            "chromium", *FLAGS, pin, f"--user-data-dir={folder / user}", f"{site.origin}/?{user}"
        )
        self.wait_for("loaded")

    def wait_for(self, what, **more):
        """Wait for an event, and ignore others before it."""
        deadline = time.monotonic() + PATIENCE
        seen = []
        while (left := deadline - time.monotonic()) > 0:
            try:
                event = self.events.get(timeout=min(left, 0.5))
            except queue.Empty:
                assert self.program.process.poll() is None, self.program.text
                continue
            seen.append(event)
            if event["what"] == what and all(
                event.get(name) == value for name, value in more.items()
            ):
                return event
        raise AssertionError(
            f"the page has not told {what!r} {more} in {PATIENCE} s, but {seen}\n{self.program.text}"
        )

    def command(self, name, **arguments):
        """Send the page a command."""
        self.commands.put({"name": name, **arguments})


def pin_of(file):
    """Return the hash of the key of a certificate, in the form for Chromium."""
    command = f"openssl x509 -pubkey -noout -in {file} | openssl pkey -pubin -outform der"
    der = subprocess.run(command, shell=True, check=True, capture_output=True).stdout
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """JsSIP as one file for browsers."""
    bundler = PAGE / "node_modules/.bin/esbuild"
    if not bundler.exists():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            f"run: npm install --prefix {PAGE}"
        )
    path = tmp_path_factory.mktemp("jssip") / "jssip.js"
    entry = PAGE / "node_modules/jssip/lib/JsSIP.js"
    options = (
        "--bundle",
        "--format=iife",
        "--global-name=JsSIP",
        "--log-level=error",
        f"--outfile={path}",
    )
    subprocess.run([bundler, entry, *options], check=True)
    return path


@pytest.fixture
def site(need, script):
    """The page's web server."""
    need("chromium", "openssl")
    site = Site(script)
    yield site
    site.shutdown()
    site.server_close()


@pytest.fixture
def server(serve, pem, site):
    """`sippet serve` with a port for phones and one for browsers with a page of the site."""
    certificate = pem("127.0.0.1", "edge.example")
    listen = ("udp:127.0.0.1:0", "wss:127.0.0.1:0")
    server = serve(
        f"{HERE / 'cores.py'}:proxy", "--cert", certificate, "--origin", site.origin, listen=listen
    )
    server.wss, server.pin = f"wss://127.0.0.1:{server.port_of('wss')}", pin_of(certificate)
    return server


@pytest.fixture
def browse(run, site, server, tmp_path):
    """Start a browser with the page, registered: `browse("alice")`."""

    def start(user):
        browser = Browser(run, site, tmp_path, server, user)
        browser.command("register", server=server.wss, uri=browser.uri)
        browser.wait_for("registered", require="outbound")  # its flow is kept (RFC 5626 §6)
        return browser

    return start


@pytest.mark.rfc("7118 8")
def test_browser_calls_a_phone_and_is_called_and_reloads(browse, server, sipp, register, refused):
    alice = browse("alice")
    callee = sipp("browsers_callee", port=register("bob", server))
    alice.command("dial", uri=f"sip:bob@127.0.0.1:{server.port}")
    alice.wait_for("progress", originator="remote")
    alice.wait_for("confirmed")
    alice.command("hangup")
    alice.wait_for("ended", originator="local")
    callee.wait_for_success(1)

    sipp("browsers_caller", "-s", "alice", "-d", 500, to=server.uri).wait_for_success(1, PATIENCE)
    alice.wait_for("confirmed")
    alice.wait_for("ended", originator="remote")

    caller = sipp("browsers_caller", "-s", "alice", "-d", 60_000, to=server.uri)
    alice.wait_for("confirmed")
    alice.command("reload")  # during the call: its flow ends, and so does the binding
    alice.wait_for("loaded")
    server.wait_for("registration ended: aor=sip:alice@")
    sipp(refused(404), "-s", "alice", to=server.uri).wait_for_success(1, PATIENCE)
    caller.program.stop()


def test_browsers_write_to_each_other_and_call_each_other(browse, server):
    alice, bob = browse("alice"), browse("bob")
    alice.command("write", uri=bob.uri, text="Grüße")
    bob.wait_for("message", originator="remote", text="Grüße")
    bob.command("dial", uri=alice.uri)
    for browser in (alice, bob):
        browser.wait_for("confirmed")
    alice.command("hangup")
    bob.wait_for("ended", originator="remote")
    server.wait_until_empty()


@pytest.mark.rfc("3261 19.1.1", "3261 10.3")
def test_browsers_without_a_port_call_each_other_through_wss_alone(run, serve, pem, site, tmp_path):
    certificate = pem("127.0.0.1")
    server = serve("--cert", certificate, "--origin", site.origin, listen="wss:127.0.0.1:0")
    server.pin = pin_of(certificate)
    browsers = {user: Browser(run, site, tmp_path, server, user) for user in ("alice", "bob")}
    for user, browser in browsers.items():
        browser.command(
            "register", server=f"wss://127.0.0.1:{server.port}", uri=f"sip:{user}@127.0.0.1"
        )
        browser.wait_for("registered")
    for caller, callee in (("alice", "bob"), ("bob", "alice")):
        browsers[caller].command("dial", uri=f"sip:{callee}@127.0.0.1")
        for browser in browsers.values():
            browser.wait_for("confirmed")
        browsers[callee].command("hangup")
        browsers[caller].wait_for("ended", originator="remote")
        browsers[callee].wait_for("ended", originator="local")


@pytest.mark.rfc("6455 10.2")
def test_page_of_another_origin_is_refused(run, script, server, tmp_path):
    other = Site(script)
    try:
        mallory = Browser(run, other, tmp_path, server, "mallory")
        mallory.command("register", server=server.wss, uri=mallory.uri)
        mallory.wait_for("disconnected")
    finally:
        other.shutdown()
        other.server_close()
    assert "handshake_refused" in str(server.stats()["streams"])
