"""TLSSession without sockets: the tests carry the bytes between two sessions."""

from __future__ import annotations

import hashlib
import hmac
import struct

import pytest
from gevent import ssl

from sippet_gevent import TLS, TransportError
from sippet_gevent.transport.certificate import matches_sip_domain
from sippet_gevent.transport.stream.tls_session import RECORD, TLSSession

trustme = pytest.importorskip("trustme")

NAME = "sip.example"
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)

each_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def pair(authority, tmp_path):
    """Make the sessions of a client and a server, before their handshake."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    def certificate(*names):
        path = tmp_path / f"{names[0]}.pem"
        authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(path)
        return path

    def make(
        asked=NAME,
        *,
        names=(NAME,),
        version=None,
        check=matches_sip_domain,
        trusts=True,
        shows=None,
        **options,
    ):
        ca = tmp_path / "ca.pem"
        server = TLS(certificate(*names), client_ca=ca if shows else None).server_context
        client = TLS(
            certificate(*shows) if shows else None, ca=ca if trusts else None
        ).client_context
        for context in (server, client):
            if version is not None:
                context.minimum_version = context.maximum_version = version
            for name, value in options.items():
                setattr(context, name, value)
        return TLSSession(client, asked, check), TLSSession(server)

    return make


def meet(client, server):
    """Shake hands. Return the domains of the server as the client sees them, and those of the client."""
    proved = {client: None, server: None}
    while None in proved.values():
        sent = b""
        for one, other in ((client, server), (server, client)):
            if proved[one] is None:
                proved[one] = one.shake_hands()
            data = one.flush()
            other.take(data)
            sent += data
        assert sent or None not in proved.values(), "each waits for the other"
    return proved[client], proved[server]


def all_of(session):
    """Return the content that has arrived, and whether close_notify follows it."""
    text = b""
    while part := session.decrypt():
        text += part
    return text, part == b""


# ---- the handshake


@each_version
def test_client_learns_the_domains_of_the_server(pair, version):
    client, server = pair(names=(NAME, "other.example"), version=version)
    assert meet(client, server) == ((NAME, "other.example"), ())


def test_server_sends_nothing_before_the_client(pair):
    _, server = pair()
    assert (server.shake_hands(), server.flush()) == (None, b"")


@each_version
def test_server_learns_the_domain_of_a_client_with_a_certificate(pair, version):
    client, server = pair(version=version, shows=("client.example",))
    assert meet(client, server)[1] == ("client.example",)


@each_version
def test_handshake_byte_by_byte_succeeds(pair, version):
    client, server = pair(version=version)
    done = {client: False, server: False}
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            if not done[one]:
                done[one] = one.shake_hands() is not None
            for byte in one.flush():
                other.take(bytes((byte,)))
                if not done[other]:
                    done[other] = other.shake_hands() is not None
    assert all(done.values())
    server.take(client.encrypt(b"hello"))
    assert server.decrypt() == b"hello"


def test_message_behind_the_end_of_the_handshake_is_not_lost(pair):
    client, server = pair(version=ssl.TLSVersion.TLSv1_3)
    assert client.shake_hands() is None
    server.take(client.flush())
    assert server.shake_hands() is None
    client.take(server.flush())
    assert client.shake_hands() == (NAME,)
    server.take(client.encrypt(b"at once"))  # one segment: Finished, and a record
    assert server.shake_hands() == ()
    assert server.decrypt() == b"at once"


# ---- identity of the peer


@pytest.mark.rfc("5922 7.2")
@each_version
def test_peer_of_another_name_is_refused_without_a_last_flight(pair, version):
    client, server = pair(names=("thief.example",), version=version)
    with pytest.raises(
        TransportError, match=r"not sip\.example: its certificate is for thief\.example"
    ) as caught:
        meet(client, server)
    assert caught.value.__cause__ is None
    assert client.flush() == b""


def test_peer_of_another_name_is_accepted_without_a_check(pair):
    client, server = pair(names=("thief.example",), check=None)
    assert meet(client, server)[0] == ("thief.example",)


def test_name_that_no_certificate_can_contain_is_refused_at_once(pair):
    with pytest.raises(TransportError, match=r"cannot ask for '\.example'"):
        pair(".example")


@pytest.mark.rfc("8446 6.2")
@each_version
def test_alert_tells_why_a_certificate_is_refused(pair, version):
    client, server = pair(trusts=False, version=version)
    with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        meet(client, server)
    assert isinstance(caught.value.__cause__, ssl.SSLError)
    server.take(client.flush())
    with pytest.raises(TransportError, match="UNKNOWN_CA"):
        server.shake_hands()


def test_bytes_without_tls_are_refused(pair):
    _, server = pair()
    server.take(b"OPTIONS sip:bob@example.com SIP/2.0\r\n")
    with pytest.raises(TransportError, match="TLS handshake failed"):
        server.shake_hands()


# ---- content


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def met(pair, request):
    """A client and a server after their handshake. The session tickets are read."""
    client, server = pair(version=request.param)
    meet(client, server)
    assert client.decrypt() is server.decrypt() is None
    return client, server


def test_content_is_encrypted(met):
    client, _ = met
    assert b"secret" not in client.encrypt(b"secret")


def test_content_passes_both_ways(met):
    for one, other in (met, met[::-1]):
        other.take(one.encrypt(b"hello"))
        assert (other.decrypt(), other.decrypt()) == (b"hello", None)


def test_empty_content_makes_no_record(met):
    client, _ = met
    assert client.encrypt(b"") == client.flush() == b""


def test_long_content_takes_several_records(met):
    client, server = met
    text = bytes(range(256)) * 200
    server.take(client.encrypt(text))
    parts = [server.decrypt() for _ in range(-(-len(text) // RECORD))]
    assert (b"".join(parts), server.decrypt()) == (text, None)
    assert [len(part) for part in parts[:-1]] == [RECORD] * (len(parts) - 1)


def test_record_in_pieces_is_read_when_it_is_complete(met):
    client, server = met
    data = client.encrypt(b"hello")
    for at in range(len(data) - 1):
        server.take(data[at : at + 1])
        assert server.decrypt() is None
    server.take(data[-1:])
    assert server.decrypt() == b"hello"


def test_records_that_arrive_together_are_read_one_by_one(met):
    client, server = met
    server.take(client.encrypt(b"one") + client.encrypt(b"two"))
    assert [server.decrypt() for _ in range(3)] == [b"one", b"two", None]


def test_record_before_a_broken_one_is_read(met):
    client, server = met
    good, broken = client.encrypt(b"good"), bytearray(client.encrypt(b"broken"))
    broken[-1] ^= 1
    server.take(good + broken)
    assert server.decrypt() == b"good"
    with pytest.raises(TransportError, match="TLS broke: DECRYPTION_FAILED_OR_BAD_RECORD_MAC"):
        server.decrypt()
    client.take(server.flush())
    with pytest.raises(TransportError, match="BAD_RECORD_MAC"):  # as the alert says
        client.decrypt()


# ---- the end


@pytest.mark.rfc("8446 6.1")
def test_close_notify_ends_the_content(met):
    client, server = met
    server.take(client.encrypt(b"last") + client.close_notify())
    assert all_of(server) == (b"last", True)


@pytest.mark.rfc("8446 6.1")
def test_close_notify_of_the_peer_leaves_our_direction_open(pair):
    client, server = pair(version=ssl.TLSVersion.TLSv1_3)
    meet(client, server)
    server.take(client.close_notify())
    assert all_of(server) == (b"", True)
    assert server.encrypt(b"answer")


def test_close_notify_is_read_after_our_own(met):
    client, server = met
    client.close_notify()
    client.take(server.close_notify())
    assert client.decrypt() == b""


def test_content_after_close_notify_is_an_error(met):
    client, _ = met
    client.close_notify()
    with pytest.raises(TransportError, match="TLS broke"):
        client.encrypt(b"more")


def test_close_notify_during_a_handshake_sends_nothing(pair):
    client, _ = pair()
    client.shake_hands()
    client.flush()
    assert client.close_notify() == b""


# ---- new keys. The ssl module answers a KeyUpdate and sends none, so the test makes the record


class Keys:
    """The keys of a traffic secret, for the first records under it (RFC 8446 §7.1, §7.3)."""

    def __init__(self, secret):
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.secret = secret
        self.cipher = AESGCM(self.expand("key", 32))
        self.iv = int.from_bytes(self.expand("iv", 12), "big")
        self.sent = 0

    def expand(self, label, length):
        label = b"tls13 " + label.encode()
        text = struct.pack("!HB", length, len(label)) + label + b"\0"
        return hmac.new(self.secret, text + b"\1", hashlib.sha384).digest()[:length]

    def record(self, kind, content):
        head = struct.pack("!BHH", 23, 0x0303, len(content) + 17)
        nonce = (self.iv ^ self.sent).to_bytes(12, "big")
        self.sent += 1
        return head + self.cipher.encrypt(nonce, content + bytes((kind,)), head)

    def update(self):
        return Keys(self.expand("traffic upd", 48))


HANDSHAKE, APPLICATION_DATA = 22, 23
KEY_UPDATE = b"\x18\0\0\1\1"  # KeyUpdate, update_requested


@pytest.mark.rfc("8446 4.6.3")
def test_key_update_request_is_answered_and_both_directions_continue(pair, tmp_path):
    log = tmp_path / "keys.log"
    client, server = pair(version=ssl.TLSVersion.TLSv1_3, keylog_filename=str(log))
    meet(client, server)
    assert client.decrypt() is None
    secrets = dict(
        line.split()[::2] for line in log.read_text().splitlines() if not line.startswith("#")
    )
    old = Keys(bytes.fromhex(secrets["CLIENT_TRAFFIC_SECRET_0"]))
    if len(old.secret) != 48:
        pytest.skip("this OpenSSL prefers another cipher than AES-256-GCM")
    new = old.update()
    server.take(
        old.record(HANDSHAKE, KEY_UPDATE) + new.record(APPLICATION_DATA, b"under the new ones")
    )
    assert (server.decrypt(), server.decrypt()) == (b"under the new ones", None)
    told = server.flush() + server.encrypt(
        b"here, too"
    )  # OpenSSL sends its KeyUpdate with the next record
    length = 5 + int.from_bytes(told[3:5], "big")
    client.take(told[:length])
    assert client.decrypt() is None  # KeyUpdate, update_not_requested
    client.take(told[length:])
    assert client.decrypt() == b"here, too"
