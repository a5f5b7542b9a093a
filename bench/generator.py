"""The load generator: builds `load.c` in a temporary directory and runs it on a core of its own."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from server import pinned_to

SOURCE = Path(__file__).resolve().with_name("load.c")


class Generator:
    """Use as a context manager; the binary is deleted at the end."""

    def __init__(self, core=None):
        self.core = core

    def __enter__(self):
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise SystemExit("bench: load.c needs a C compiler: install cc, or set CC")
        self.directory = tempfile.TemporaryDirectory(prefix="sippet-bench-")
        self.binary = Path(self.directory.name, "load")
        subprocess.run([compiler, "-O2", "-o", self.binary, SOURCE], check=True)
        return self

    def __exit__(self, *exc_info):
        self.directory.cleanup()

    def run(self, port, *, requests, window=32, rate=None, echo=False, limit=120, resends=3):
        """Send `requests` to 127.0.0.1 and return the counts as a dict."""
        command = [*pinned_to(self.core), self.binary, "-n", requests, "-w", window, "-t", limit, "-m", resends]
        if rate:
            command += ["-r", rate]
        if echo:
            command += ["-e"]
        if self.core is not None:
            command += ["-b"]       # a sleeping load would make the server pay for waking it
        done = subprocess.run(
            [str(word) for word in [*command, "127.0.0.1", port]],
            stdout=subprocess.PIPE, text=True, timeout=limit + 10, check=False,
        )
        if not done.stdout:
            raise SystemExit(f"bench: load ended with status {done.returncode}")
        return json.loads(done.stdout)

    def answers(self, port, echo=False):
        """True if one request is answered within a second."""
        return self.run(port, requests=1, window=1, echo=echo, limit=1, resends=0)["ok"] == 1


def failures(result):
    """Requests of a run that did not get the answer they should."""
    return result["requests"] - result["ok"] + result["malformed"]


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
