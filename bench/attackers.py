"""Hostile peers for isolation.py: each occupies some resource of the server and never releases it.

    python bench/attackers.py stalled 1 5060     one peer; it asks for large answers, and reads none

They are few and slow on purpose, because they are to delay the loop, not to use up the machine. A
closed peer connects again. Those that open and close connections do so one at a time, without a
pause. Only floods are fast: they send datagrams at a rate, from another address than the good
peers, or from an address of its own for each datagram (root).
"""

import argparse
import itertools
import random
import struct
import sys
import time

import gevent
from gevent import socket, ssl

PACE = 0.1  # seconds between two bytes of a slow header, and before the next connection
STALLED_RATE = 100  # requests per second of a peer that does not read: 800 KB of answers
# names per second: 120 lookups, and as many requests, are pending at any time
NAMES_RATE = 40
REQUEST = (
    "{method} sip:bench@{host} SIP/2.0\r\nVia: SIP/2.0/{via} "
    "127.0.0.1:{port};branch=z9hG4bK{number};rport\r\n"
    "Max-Forwards: 70\r\n"
    "From: <sip:mallory@127.0.0.1>;tag={number}\r\nTo: <sip:bench@{host}>\r\nCall-ID: "
    "{number}@attack\r\n"
    "CSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
)
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: sip\r\n\r\n"
)
UNVERIFIED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies no certificate
UNVERIFIED.check_hostname = False
UNVERIFIED.verify_mode = ssl.CERT_NONE

numbers = itertools.count(random.getrandbits(40) << 20)


def request(method, sock, via, host="127.0.0.1"):
    port = sock.getsockname()[1]
    return REQUEST.format(
        method=method, host=host, via=via, port=port, number=next(numbers)
    ).encode()


def stalled(port):
    """Request large answers and read none of them, until closed."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", port))
        while True:
            sock.sendall(request("INFO", sock, "TCP"))
            gevent.sleep(1 / STALLED_RATE)


def half_shaken(port):
    """Begin a TLS handshake and send nothing more, until closed."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        UNVERIFIED.wrap_bio(incoming, outgoing).do_handshake()
    except ssl.SSLWantReadError:
        hello = outgoing.read()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(hello[: len(hello) // 2])
        sock.recv(1)


def handshakes(port):
    """Complete TLS handshakes and close, one after another."""
    while True:
        with socket.create_connection(("127.0.0.1", port)) as sock, UNVERIFIED.wrap_socket(sock):
            pass


def upgrades(port):
    """Open WebSockets and close, one after another."""
    while True:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(UPGRADE)
            sock.recv(1024)


def slow_header(port):
    """Send a header section byte by byte, without an end."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in request("OPTIONS", sock, "TCP")[:-2] * 100:
            sock.sendall(bytes((octet,)))
            gevent.sleep(PACE)


def unresolved(port):
    """Make the server resolve names for which no name server answers."""
    relayed(port, "n{}.example")


def refused(port):
    """Send the same requests to an address that takes nothing, so that the server needs no DNS."""
    relayed(port, "0.0.0.0")


def relayed(port, host):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        while True:
            sock.send(request("MESSAGE", sock, "UDP", host=host.format(next(numbers))))
            gevent.sleep(1 / NAMES_RATE)


SLOT = 0.002  # seconds between two bursts of a flood
FLOODER = "127.0.0.66"
BATCH = 25  # messages in one write of a flood by TCP


def flood(port, rate, make):
    """Send datagrams of make() at this rate, and read no answers."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind((FLOODER, 0))
        sock.connect(("127.0.0.1", port))
        at_rate(rate, lambda: sock.send(make(sock)))


def at_rate(rate, send):
    began, sent = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - began) * rate) - sent
        if due > rate:  # this machine is too slow for the rate: do not catch up
            began, sent, due = time.monotonic(), 0, 0
        for _ in range(due):
            try:
                send()
            except (BrokenPipeError, ConnectionResetError):  # of TCP: connect again
                raise
            except OSError:  # ICMP errors, and a full buffer
                pass
        sent += due
        gevent.sleep(SLOT)


def unacknowledged(port):
    """Send 60 INVITEs a second, and acknowledge no answer."""
    flood(port, 60, lambda sock: request("INVITE", sock, "UDP"))


def garbage(port):
    """Send 50,000 datagrams a second that are not SIP."""
    flood(port, 50_000, lambda sock: b"\x01\x02 not a message %d" % next(numbers))


def requests(port):
    """Send 50,000 valid OPTIONS a second."""
    flood(port, 50_000, lambda sock: request("OPTIONS", sock, "UDP"))


def flood_by_tcp(port, make):
    """Send 50,000 messages of make() a second by one connection, and read all answers."""
    with socket.socket() as sock:
        sock.bind((FLOODER, 0))
        sock.connect(("127.0.0.1", port))
        reader = gevent.spawn(drain, sock)
        try:
            at_rate(
                50_000 // BATCH, lambda: sock.sendall(b"".join(make(sock) for _ in range(BATCH)))
            )
        finally:
            reader.kill()


def drain(sock):
    try:
        while sock.recv(65536):
            pass
    except OSError:
        pass
    sock.shutdown(socket.SHUT_RDWR)  # the server has closed: the next send fails


def garbage_by_tcp(port):
    """Send 50,000 broken requests a second by one connection, which stays open."""
    flood_by_tcp(
        port, lambda sock: b"OPTIONS x\r\nVia: %d\r\nContent-Length: 0\r\n\r\n" % next(numbers)
    )


def requests_by_tcp(port):
    """Send 50,000 valid OPTIONS a second by one connection."""
    flood_by_tcp(port, lambda sock: request("OPTIONS", sock, "TCP"))


def sources(port):
    """Send 30,000 valid OPTIONS a second, each from another address."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        chance = random.Random(1)

        def send():
            number = next(numbers)
            host = f"127.{chance.randrange(1, 255)}.{chance.randrange(256)}.{number % 254 + 1}"
            data = REQUEST.format(
                method="OPTIONS", host="127.0.0.1", via="UDP", port=5060, number=number
            ).encode()
            udp = struct.pack("!HHHH", 5060, port, 8 + len(data), 0) + data
            ip = struct.pack(
                "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0,
                socket.inet_aton(host), socket.inet_aton("127.0.0.1"),
            )  # fmt: skip
            sock.sendto(ip + udp, ("127.0.0.1", 0))

        at_rate(30_000, send)


ATTACKS = {
    "unacknowledged": unacknowledged,
    "garbage": garbage,
    "requests": requests,
    "garbage-tcp": garbage_by_tcp,
    "requests-tcp": requests_by_tcp,
    "sources": sources,
    "stalled": stalled,
    "half-shaken": half_shaken,
    "handshakes": handshakes,
    "upgrades": upgrades,
    "slow-header": slow_header,
    "unresolved": unresolved,
    "refused": refused,
}


def again_and_again(attack, port):
    while True:
        try:
            attack(port)
        except OSError:
            pass
        gevent.sleep(PACE)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("attack", choices=ATTACKS, help="what the peers do")
    parser.add_argument("count", type=int, help="number of peers")
    parser.add_argument("port", type=int, help="port of the server on 127.0.0.1")
    options = parser.parse_args()
    greenlets = [
        gevent.spawn(again_and_again, ATTACKS[options.attack], options.port)
        for _ in range(options.count)
    ]
    print("attacking", file=sys.stderr, flush=True)
    gevent.joinall(greenlets)


if __name__ == "__main__":
    main()
