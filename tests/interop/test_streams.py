"""TCP and TLS between processes: calls of SIPp over TCP, `sippet ping` over both, openssl over TLS.

Debian's SIPp is built without TLS: it has no transport l1. Over TLS, baresip calls and is called (test_baresip.py), and
openssl s_client says SIP to us here.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from sippet_gevent import Stack
from tests.ports import free_port

from .cores import SDP
from .test_sipp import BAD_BESIDE_OTHERS, HERE, refused, refused_by, register, sipp

pytest_plugins = ["tests.programs"]

BOTH = ("udp:127.0.0.1:0", "tcp:127.0.0.1:0")

SECURE = ("udp:127.0.0.1:0", "tls:127.0.0.1:0")


@pytest.mark.parametrize(
    "mode", [("t1",), ("tn", "-max_socket", 1000)], ids=["one connection", "one for each call"]
)
def test_sipp_calls_a_core_over_tcp(sipp, serve, mode):
    server = serve(f"{HERE / 'cores.py'}:answering", listen=BOTH)
    to = f"sip:127.0.0.1:{server.port_of('tcp')}"
    caller = sipp("caller", "-s", "bob", "-d", 0, "-t", *mode, "-r", 100, to=to, calls=300)
    caller.wait_for_success(300)
    refused = refused_by(server, 300)
    stats = server.wait_until_empty(60)
    assert stats["delivered"] == 3 * (300 - refused)


def test_stack_calls_sipp_over_tcp(sipp):
    port = free_port()
    callee = sipp("callee", port=port, transport="tcp")
    with Stack("tcp:127.0.0.1:0") as stack:
        stack.invite(f"sip:bob@127.0.0.1:{port};transport=tcp", body=SDP, timeout=20).hangup()
        stack.stop(
            timeout=20
        )  # a connection that ends before the answer to its BYE is an error for SIPp
    callee.wait_for_success(1)


def test_sipp_is_called_over_tcp_through_the_proxy(sipp, serve, register):
    server = serve(f"{HERE / 'cores.py'}:proxy", listen=BOTH)
    callee = sipp("callee", port=register("bob", server, "tcp"), transport="tcp", calls=20)
    caller = sipp("caller", "-s", "bob", "-d", 10, "-r", 20, to=server.uri, calls=20)
    caller.wait_for_success(20, bad=BAD_BESIDE_OTHERS)
    callee.wait_for_success(20 - refused_by(server, 20), bad=BAD_BESIDE_OTHERS)
    server.wait_until_empty()


def test_sipp_refuses_over_tcp_through_the_proxy(sipp, serve, register, refused):
    server = serve(f"{HERE / 'cores.py'}:proxy", listen=BOTH)
    callee = sipp("callee_refuses", port=register("bob", server, "tcp"), transport="tcp")
    sipp(refused(486), "-s", "bob", to=server.uri).wait_for_success(1)
    callee.wait_for_success(1)
    server.wait_until_empty()


def test_sipp_is_cancelled_over_tcp_through_the_proxy(sipp, serve, register):
    server = serve(f"{HERE / 'cores.py'}:proxy", listen=BOTH)
    callee = sipp("callee_is_cancelled", port=register("bob", server, "tcp"), transport="tcp")
    sipp("caller_cancels", "-s", "bob", to=server.uri).wait_for_success(1)
    callee.wait_for_success(1)
    server.wait_until_empty()


def test_ping_goes_over_tcp(serve, sippet):
    server = serve(listen=BOTH)
    ended = sippet("ping", f"sip:127.0.0.1:{server.port_of('tcp')};transport=tcp")
    assert (ended.returncode, ended.stdout[:6]) == (0, "200 OK")


def test_verbose_shows_a_message_once_that_has_waited_for_its_connection(serve, sippet):
    server = serve(listen=BOTH)
    told = sippet("ping", "-v", f"sip:127.0.0.1:{server.port_of('tcp')};transport=tcp").stderr
    assert (told.count(" message sent: "), told.count("    OPTIONS sip:")) == (1, 1)


def test_ping_over_tls_verifies_the_server(serve, sippet, pem):
    server = serve("--cert", pem("127.0.0.1", "a.example"), listen=SECURE)
    uri = f"sips:127.0.0.1:{server.port_of('tls')}"
    good, bad = sippet("ping", uri, "--ca", pem.ca), sippet("ping", uri)
    assert (good.returncode, good.stdout[:6]) == (0, "200 OK")
    assert bad.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in bad.stderr


def test_ping_goes_over_websockets_plain_and_secure(serve, sippet, pem):
    server = serve("--cert", pem("127.0.0.1"), listen=("ws:127.0.0.1:0", "wss:127.0.0.1:0"))
    plain = sippet("ping", f"sip:127.0.0.1:{server.port_of('ws')};transport=ws")
    secure = sippet("ping", f"sips:127.0.0.1:{server.port_of('wss')};transport=ws", "--ca", pem.ca)
    assert [(ended.returncode, ended.stdout[:6]) for ended in (plain, secure)] == [
        (0, "200 OK")
    ] * 2


def shown_by(openssl, port):
    """Return the certificate that a server shows, as text."""
    arguments = ("s_client", "-connect", f"127.0.0.1:{port}", "-showcerts")
    shown = subprocess.run(
        [openssl, *arguments], input=b"", capture_output=True, timeout=20, check=False
    ).stdout
    text = subprocess.run(
        [openssl, "x509", "-noout", "-text"],
        input=shown,
        capture_output=True,
        timeout=20,
        check=False,
    )
    return text.stdout.decode()


def test_sighup_reads_the_certificate_again(need, serve, pem):
    need("openssl")
    server = serve("--cert", pem("old.example"), listen=SECURE)
    port = server.port_of("tls")
    assert "old.example" in shown_by("openssl", port)
    pem("new.example")
    server.signal(signal.SIGHUP)
    server.wait_for("certificates reloaded: ")
    assert "new.example" in shown_by("openssl", port)


def test_sighup_with_a_broken_certificate_changes_nothing(need, serve, pem):
    need("openssl")
    path = pem("old.example")
    server = serve("--cert", path, listen=SECURE)
    Path(path).write_text("broken")
    server.signal(signal.SIGHUP)
    server.wait_for('certificates not reloaded: reason="cannot load')
    assert "old.example" in shown_by("openssl", server.port_of("tls"))


def test_tls_address_without_certificate_is_a_mistake(sippet):
    ended = sippet("serve", "--listen", "tls:127.0.0.1:0")
    assert (ended.returncode, len(ended.stderr.strip().split("\n"))) == (2, 1)
    assert "needs a certificate" in ended.stderr


# ---- SIP by openssl


OPTIONS = """\
OPTIONS sip:127.0.0.1:{port};transport=tls SIP/2.0\r
Via: SIP/2.0/TLS 127.0.0.1;branch=z9hG4bKopenssl;rport\r
Max-Forwards: 70\r
From: <sip:phone.example>;tag=1\r
To: <sip:127.0.0.1:{port}>\r
Call-ID: openssl\r
CSeq: 1 OPTIONS\r
Content-Length: 0\r
\r
"""


@pytest.fixture
def ask(need, run, tmp_path):
    """Send an OPTIONS with openssl: `ask(port, "-CAfile", ca)` returns a Program that prints what comes back."""
    need("openssl")

    def ask(port, *arguments):
        request = tmp_path / "options"
        request.write_text(OPTIONS.format(port=port))
        with request.open("rb") as file:
            command = (
                "openssl",
                "s_client",
                "-quiet",
                "-verify_return_error",
                "-connect",
                f"127.0.0.1:{port}",
            )
            return run(*command, *arguments, stdin=file)

    return ask


def test_openssl_asks_over_tls_and_verifies_the_server(serve, pem, ask):
    server = serve("--cert", pem("a.example"), listen=SECURE)
    ask(server.port_of("tls"), "-CAfile", pem.ca, "-verify_hostname", "a.example").wait_for(
        "SIP/2.0 200 OK\n"
    )


def test_openssl_refuses_a_server_with_another_name(serve, pem, ask):
    server = serve("--cert", pem("other.example"), listen=SECURE)
    asked = ask(server.port_of("tls"), "-CAfile", pem.ca, "-verify_hostname", "a.example")
    assert asked.wait() == 1
    assert "hostname mismatch" in asked.text.lower()
    assert "SIP/2.0" not in asked.text


@pytest.mark.rfc("5922 7.1")
def test_core_learns_the_domain_of_openssl_by_mutual_tls(serve, pem, ask):
    files = ("--cert", pem("127.0.0.1"), "--client-ca", pem.ca)
    server = serve(f"{HERE / 'cores.py'}:identifying", *files, listen=SECURE)
    phone = pem("phone.example", file="phone.pem")
    ask(server.port_of("tls"), "-CAfile", pem.ca, "-cert", phone, "-key", phone).wait_for(
        "SIP/2.0 200 phone.example\n"
    )


def test_openssl_without_a_certificate_gets_no_answer_by_mutual_tls(serve, pem, ask):
    server = serve("--cert", pem("127.0.0.1"), "--client-ca", pem.ca, listen=SECURE)
    asked = ask(server.port_of("tls"), "-CAfile", pem.ca)
    assert asked.wait() == 1
    assert "alert certificate required" in asked.text
    assert "SIP/2.0" not in asked.text
