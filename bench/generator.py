"""The load generator: builds `load.c` in a temporary directory and runs it on a core of its own."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from server import ROOT, pinned_to, python

SOURCE = Path(__file__).resolve().with_name("load.c")
SECURE = ("tls", "wss")
HUMBLE = ("nice", "-n", "19")
WITH_TLS = ("-DWITH_TLS", "-lssl", "-lcrypto")


class Generator:
    """Use as a context manager; the binary is deleted at the end. `tls` is true when it can speak
    TLS."""

    def __init__(self, core=None):
        self.core = core
        self.tls = False

    def __enter__(self):
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise SystemExit("bench: load.c needs a C compiler: install cc, or set CC")
        self.directory = tempfile.TemporaryDirectory(prefix="sippet-bench-")
        self.binary = Path(self.directory.name, "load")
        build = [compiler, "-O2", "-o", self.binary, SOURCE]
        self.tls = (
            subprocess.run([*build, *WITH_TLS], stderr=subprocess.DEVNULL, check=False).returncode
            == 0
        )
        if not self.tls:
            subprocess.run(build, check=True)
        return self

    def __exit__(self, *exc_info):
        self.directory.cleanup()

    def command(self, port, *options, echo=False, busy=True):
        """The command that runs it against 127.0.0.1."""
        words = [*pinned_to(self.core), self.binary, *options]
        if echo:
            words += ["-e"]
        if busy and self.core is not None:
            words += ["-b"]  # a sleeping load would make the server pay for waking it
        return [str(word) for word in [*words, "127.0.0.1", port]]

    def run(
        self,
        port,
        *,
        requests,
        window=32,
        rate=None,
        echo=False,
        limit=120,
        resends=3,
        transport="udp",
        connections=1,
        errors=None,
    ):
        """Send `requests` to 127.0.0.1 and return the counts as a dict; `errors` takes what it has
        to say."""
        options = [
            "-T",
            transport,
            "-c",
            connections,
            "-n",
            requests,
            "-w",
            window,
            "-t",
            limit,
            "-m",
            resends,
        ]
        if rate:
            options += ["-r", rate]
        done = subprocess.run(
            self.command(port, *options, echo=echo),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            timeout=limit + 10,
            check=False,
        )
        if not done.stdout:
            raise SystemExit(f"bench: load ended with status {done.returncode}")
        return json.loads(done.stdout)

    def answers(self, port, echo=False, transport="udp"):
        """True if one request is answered within a second."""
        result = self.run(
            port,
            requests=1,
            window=1,
            echo=echo,
            limit=1,
            resends=0,
            transport=transport,
            errors=subprocess.DEVNULL,
        )
        return result["ok"] == 1

    def hold(
        self,
        port,
        *,
        transport,
        connections,
        window,
        rate=None,
        addresses=None,
        parallel=16,
        connect_rate=None,
        echo=False,
        busy=True,
        limit=120,
        resends=3,
        before=(),
    ):
        """Connect, and stay connected: a Held. `before` are words before the command: HUMBLE leaves
        its core to others."""
        options = [
            "-k",
            "-T",
            transport,
            "-c",
            connections,
            "-w",
            window,
            "-p",
            parallel,
            "-t",
            limit,
            "-m",
            resends,
        ]
        if rate:
            options += ["-r", rate]
        if connect_rate:
            options += ["-l", connect_rate]
        if addresses:
            options += ["-a", addresses]
        return Held([*before, *self.command(port, *options, echo=echo, busy=busy)])


class Held:
    """Connections that stay open. `run(requests)` sends over them, any number of times."""

    def __init__(self, command):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def connected(self):
        """Wait until all connections are set up; return how many are, how many failed, and the
        seconds."""
        return self._result()

    def send(self, requests):
        """Begin to send `requests`; result() waits for the counts."""
        self.process.stdin.write(f"{requests}\n")
        self.process.stdin.flush()

    def result(self):
        """Wait for the counts of the last send()."""
        return self._result()

    def run(self, requests):
        """Send `requests` and return the counts as a dict."""
        self.send(requests)
        return self._result()

    def _result(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"bench: load ended with status {self.process.wait()}")
        return json.loads(line)

    def close(self):
        """End the connections."""
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def failures(result):
    """The number of requests of a run without the expected answer."""
    return result["requests"] - result["ok"] + result["malformed"]


def free_port():
    return free_ports(1)


def free_ports(count):
    """Return the first of `count` consecutive ports that are free for UDP and TCP."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind(("127.0.0.1", 0))
            first = probe.getsockname()[1]
        try:
            for port in range(first, first + count):
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    with socket.socket(socket.AF_INET, kind) as probe:
                        probe.bind(("127.0.0.1", port))
            return first
        except (OSError, OverflowError):
            continue


def certificate(directory, name="server"):
    """Make a certificate for 127.0.0.1, ECDSA on P-256 as most are made today; return its PEM file
    with the key."""
    key, chain, both = (Path(directory, f"{name}.{kind}") for kind in ("key", "crt", "pem"))
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "30",
            "-subj",
            f"/CN={name}",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            key,
            "-out",
            chain,
        ],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    both.write_text(key.read_text() + chain.read_text())
    return both


def missing_transports(names, *, tls):
    """Return `{name: reason}` of the transports that cannot be measured."""
    known = subprocess.run(
        python("-c", "from sippet_gevent.engine.listening import FACTORIES; print(*FACTORIES)"),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if known.returncode:
        return dict.fromkeys(names, known.stderr.strip().splitlines()[-1])
    absent = {
        name: f"the library has no transport {name}"
        for name in names
        if name not in known.stdout.split()
    }
    for name in names:
        if name in SECURE and not tls:
            absent.setdefault(
                name, "load.c was built without TLS: it needs the headers of OpenSSL (libssl-dev)"
            )
        if name in SECURE and shutil.which("openssl") is None:
            absent.setdefault(name, "no program openssl to make a certificate with")
    return absent
