"""The lesson "A browser phone": its program, word for word but for ports, and its page in two Chromiums that call each other."""

from __future__ import annotations

import pytest

from tests.docs.blocks import BLOCKS

from .test_browser import FLAGS, PATIENCE, script

pytest_plugins = ["tests.programs"]

CLICKS = """
  if (name === "carol") {
    phone.on("registered", () => setTimeout(() => document.querySelector("button").click(), 1000));
  }
  phone.start();
"""

TELLS = """
def tell(passage):
    print(passage.direction, passage.data.partition(b"\\r\\n")[0].decode(), flush=True)


stack.tap(tell)
"""


@pytest.mark.rfc("7118 8")
def test_page_of_the_lesson_calls_another_one(need, run, serve, script, tmp_path):
    need("chromium")
    addresses = '"udp:127.0.0.1:5060", "ws:127.0.0.1:8080", '
    assert addresses in BLOCKS["browser"]
    text = BLOCKS["browser"].replace(addresses, "").replace("  phone.start();\n", CLICKS)
    program = tmp_path / "page.py"
    program.write_text(text.replace('"jssip.js"', repr(str(script))) + TELLS, "utf-8")
    server = serve(f"{program}:stack", listen=("udp:127.0.0.1:0", "ws:127.0.0.1:0"))
    origin = f"http://127.0.0.1:{server.port_of('ws')}"
    for name in ("bob", "carol"):
        run("chromium", *FLAGS, f"--user-data-dir={tmp_path / name}", f"{origin}/?name={name}")
        server.wait_for(f"registration made: aor=sip:{name}@localhost", PATIENCE)
    server.wait_for(r"INVITE sip:bob@localhost(?s:.*)SIP/2\.0 200 OK(?s:.*)ACK sip:", PATIENCE)
