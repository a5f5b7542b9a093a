"""Carrier: a Kamailio that asks for passwords, in a process of its own, for test_kamailio_carrier.py and others."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

import gevent

from sippet_gevent import SIPError, Stack
from tests.conditions import PATIENCE, until
from tests.ports import free_port

KAMAILIO = shutil.which("kamailio") or "/usr/sbin/kamailio"
CONFIGURATION = Path(__file__).with_name("kamailio_carrier.cfg")


class Carrier:
    """A Kamailio that can be restarted with another nonce secret."""

    def __init__(self, run, tmp_path, pstn):
        self.run, self.tmp_path, self.pstn = run, tmp_path, pstn
        self.port = free_port("127.0.0.2")
        self.uri = f"sip:127.0.0.2:{self.port}"
        self.starts = 0
        self.logs = []
        self.start()

    def start(self):
        self.starts += 1
        text = CONFIGURATION.read_text("utf-8").replace("PORT", str(self.port))
        text = text.replace("PSTN", str(self.pstn))
        text = text.replace("NONCE_SECRET", f"secret{self.starts}")
        path = self.tmp_path / f"carrier{self.starts}.cfg"
        path.write_text(text, "utf-8")
        self.program = self.run(
            KAMAILIO, "-f", path, "-DD", "-E", "-m", "32", "-M", "4",
            "-Y", self.tmp_path, "-P", self.tmp_path / f"pid{self.starts}",
        )  # fmt: skip
        with Stack("udp:127.0.0.1:0") as stack, gevent.Timeout(PATIENCE):
            while True:  # until it answers
                with contextlib.suppress(SIPError):
                    if stack.request("OPTIONS", self.uri, timeout=2).status == 200:
                        return
                assert self.program.process.poll() is None, self.program.text
                gevent.sleep(0.1)

    def restart(self, seconds=0.0):
        """Restart it, without the bindings and nonces that it had."""
        self.program.process.terminate()
        self.program.wait()
        self.logs.append(self.program.text)
        gevent.sleep(seconds)
        self.start()

    def signal(self, number):
        """Send a signal to all its processes."""
        main = self.program.process.pid
        children = Path(f"/proc/{main}/task/{main}/children").read_text("ascii").split()
        for pid in (main, *map(int, children)):
            os.kill(pid, number)

    def authenticated(self, method):
        """Return CSeq and Call-ID of the requests that had the password. What was sent again counts once."""
        return set(re.findall(rf"authenticated {method} (\d+ \S+)", self.log))

    @property
    def log(self):
        return "".join([*self.logs, self.program.text])
