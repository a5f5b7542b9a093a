"""TCP and TLS between processes: SIPp calls over TCP, `sippet ping` over both, openssl looks at certificates."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from .test_sipp import HERE, sipp  # noqa: F401

pytest_plugins = ["tests.programs"]


@pytest.fixture
def pem(tmp_path):
    """Write a certificate for 127.0.0.1 and a name: `pem("a.example")` returns its file; `pem.ca` is the authority's."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()

    def issue(name):
        path = tmp_path / "cert.pem"
        authority.issue_cert("127.0.0.1", name).private_key_and_cert_chain_pem.write_to_path(path)
        return path

    issue.ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(issue.ca)
    return issue


def port_of(server, transport):
    return int(server.wait_for(rf"started plug \S+:(\d+)/{transport}")[1])


BOTH = ("--listen", "udp:127.0.0.1:0", "--listen", "tcp:127.0.0.1:0")


@pytest.mark.parametrize("mode", [("t1",), ("tn", "-max_socket", 1000)], ids=["one connection", "one for each call"])
def test_sipp_calls_a_core_over_tcp(sipp, serve, mode):  # noqa: F811
    server = serve(f"{HERE / 'cores.py'}:answering", *BOTH)
    to = f"sip:127.0.0.1:{port_of(server, 'tcp')}"
    sipp("uac", "-t", *mode, "-r", 100, to=to, calls=300).wait_for_success(300)
    stats = server.wait_until_empty(60)
    assert stats["delivered"] == 900


def test_ping_goes_over_tcp(serve, sippet):
    server = serve(*BOTH)
    ended = sippet("ping", f"sip:127.0.0.1:{port_of(server, 'tcp')};transport=tcp")
    assert (ended.returncode, ended.stdout[:6]) == (0, "200 OK")


def test_ping_goes_over_tls_and_checks_who_answers(serve, sippet, pem):
    server = serve("--listen", "udp:127.0.0.1:0", "--listen", "tls:127.0.0.1:0", "--cert", pem("a.example"))
    uri = f"sips:127.0.0.1:{port_of(server, 'tls')}"
    good, bad = sippet("ping", uri, "--ca", pem.ca), sippet("ping", uri)
    assert (good.returncode, good.stdout[:6]) == (0, "200 OK")
    assert bad.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in bad.stderr


def shown_by(openssl, port):
    """The text of the certificate that a server shows."""
    arguments = ("s_client", "-connect", f"127.0.0.1:{port}", "-showcerts")
    shown = subprocess.run([openssl, *arguments], input=b"", capture_output=True, timeout=20, check=False).stdout
    text = subprocess.run([openssl, "x509", "-noout", "-text"], input=shown, capture_output=True, timeout=20, check=False)
    return text.stdout.decode()


def test_sighup_reads_the_certificate_again(need, serve, pem):
    need("openssl")
    server = serve("--listen", "udp:127.0.0.1:0", "--listen", "tls:127.0.0.1:0", "--cert", pem("old.example"))
    port = port_of(server, "tls")
    assert "old.example" in shown_by("openssl", port)
    pem("new.example")
    server.signal(signal.SIGHUP)
    server.wait_for("certificates are read again")
    assert "new.example" in shown_by("openssl", port)


def test_sighup_with_a_broken_certificate_changes_nothing(need, serve, pem):
    need("openssl")
    path = pem("old.example")
    server = serve("--listen", "udp:127.0.0.1:0", "--listen", "tls:127.0.0.1:0", "--cert", path)
    Path(path).write_text("broken")
    server.signal(signal.SIGHUP)
    server.wait_for("certificates stay as they were: cannot load")
    assert "old.example" in shown_by("openssl", port_of(server, "tls"))


def test_tls_address_without_certificate_is_a_mistake(sippet):
    ended = sippet("serve", "--listen", "tls:127.0.0.1:0")
    assert (ended.returncode, len(ended.stderr.strip().split("\n"))) == (2, 1)
    assert "needs a certificate" in ended.stderr
