"""Phones that register over UDP at a steady rate, and know what the server has acknowledged."""

import re
import selectors
import socket
import time

REGISTER = (
    "REGISTER sip:example.com SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{name}{user}x{cseq};rport\r\n"
    "Max-Forwards: 70\r\n"
    "From: <sip:{user}@example.com>;tag={name}\r\n"
    "To: <sip:{user}@example.com>\r\n"
    "Call-ID: {name}-{user}\r\n"
    "CSeq: {cseq} REGISTER\r\n"
    "{contact}"
    "Content-Length: 0\r\n\r\n"
)
MESSAGE = (
    "MESSAGE sip:{user}@example.com SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{name}{user}x{cseq};rport\r\n"
    "Max-Forwards: 70\r\n"
    "From: <sip:caller@example.com>;tag={name}\r\n"
    "To: <sip:{user}@example.com>\r\n"
    "Call-ID: call-{name}-{cseq}\r\n"
    "CSeq: {cseq} MESSAGE\r\n"
    "Content-Type: text/plain\r\n"
    "Content-Length: 5\r\n\r\nHello"
)


class Phones:
    """One phone of each of these users, all at one socket.

    Args:
        name: A word that only these phones have in their Call-IDs and Contacts.
        port: The port of the server on 127.0.0.1.
        users: The names of the users.
    """

    def __init__(self, name, port, users):
        self.name, self.port, self.users = name, port, list(users)
        self.cseq = dict.fromkeys(self.users, 0)
        self.acknowledged = {}
        """The CSeq of the last REGISTER of each user that got 200."""
        self.statuses = {}
        """How many final responses of each status came."""
        self.waiting = {}
        self.late = 0
        """REGISTER requests without an answer when their server ended."""
        self.calls = 0
        self.called = None
        """The final status of the last call()."""
        self._asking = False
        self._next = 0
        self._selector = selectors.DefaultSelector()
        self._open()

    def _open(self):
        self.socket = socket.socket(type=socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.local = self.socket.getsockname()[1]
        self._selector.register(self.socket, selectors.EVENT_READ)

    def register(self):
        """Send the next REGISTER."""
        user = self.users[self._next % len(self.users)]
        self._next += 1
        self.cseq[user] += 1
        self.waiting[user] = self.cseq[user]
        contact = (
            f"Contact: <sip:{user}-{self.name}@127.0.0.1:{self.local}>;n={self.cseq[user]}\r\n"
        )
        self._send(REGISTER, user, self.cseq[user], contact)

    def _send(self, text, user, cseq, contact=""):
        words = {"port": self.local, "name": self.name, "user": user, "cseq": cseq}
        data = text.format(contact=contact, **words).encode()
        self.socket.sendto(data, ("127.0.0.1", self.port))

    def run(self, seconds, rate):
        """Register at so many requests a second."""
        start = time.monotonic()
        sent = 0
        while (passed := time.monotonic() - start) < seconds:
            while sent <= passed * rate:
                self.register()
                sent += 1
            self.read(1 / rate)
        return sent

    def settle(self, seconds=2.0, most=0):
        """Wait until at most so many answers are missing."""
        end = time.monotonic() + seconds
        while len(self.waiting) > most and time.monotonic() < end:
            self.read(0.05)

    def forget(self):
        """Give up what waits, because the server is dead. Its answers may come, or not."""
        self.late += len(self.waiting)
        self.waiting.clear()

    def read(self, seconds):
        """Read what arrives within so many seconds, and answer calls."""
        if not self._selector.select(seconds):
            return
        while True:
            try:
                data, address = self.socket.recvfrom(65535)
            except BlockingIOError:
                return
            except ConnectionRefusedError:  # ICMP: the server is dead
                continue
            self._received(data.decode("utf-8", "replace"), address)

    def _received(self, text, address):
        start, _, _ = text.partition("\r\n")
        fields = {}
        lines = text.partition("\r\n\r\n")[0].split("\r\n")[1:]
        for line in lines:
            name, _, value = line.partition(":")
            fields.setdefault(name.lower(), value.strip())
        if start.startswith("MESSAGE "):
            self.calls += 1
            kept = [line for line in lines if line.split(":")[0] in KEPT]
            answer = "\r\n".join(["SIP/2.0 200 OK", *kept, "Content-Length: 0", "", ""])
            self.socket.sendto(answer.encode(), address)
            return
        status, cseq = int(start.split()[1]), fields["cseq"]
        if status < 200:
            return
        number, _, method = cseq.partition(" ")
        if method == "MESSAGE":
            self.called = status
            return
        user = fields["call-id"].partition("-")[2]
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if self.waiting.get(user) == int(number):
            del self.waiting[user]
        if status == 200 and not self._asking:
            self.acknowledged[user] = max(int(number), self.acknowledged.get(user, 0))
        if self._asking and status == 200:
            found = re.findall(rf"sip:{user}-{self.name}@[^>]*>[^,\r]*;n=(\d+)", text)
            self.bound[user] = max(map(int, found), default=0)

    def call(self, user, seconds=5.0):
        """Send a MESSAGE to a user until it has a final response; return its status."""
        end, self.called = time.monotonic() + seconds, None
        while self.called is None and time.monotonic() < end:
            self._send(MESSAGE, user, time.monotonic_ns() % 2**31)
            self.read(0.02)
        return self.called

    def ask(self, users, seconds=60.0):
        """Return `{user: CSeq}` of the bindings of these phones, as the server says; 0 for none.

        Raises:
            TimeoutError: The server does not say it for each user within so many seconds.
        """
        self.bound, self._asking = {}, True
        end = time.monotonic() + seconds
        try:
            while some := [user for user in users if user not in self.bound][:50]:
                if time.monotonic() > end:
                    raise TimeoutError(f"the server does not tell the bindings of {some[0]}")
                for user in some:
                    self._send(REGISTER, user, time.monotonic_ns() % 2**31)
                stop = time.monotonic() + 1.0
                while time.monotonic() < stop and any(user not in self.bound for user in some):
                    self.read(0.02)
        finally:
            self._asking = False
        return self.bound

    def lost(self, users=None):
        """Return the users whose acknowledged binding the server does not have, or not any more."""
        users = [user for user in users or self.users if user in self.acknowledged]
        bound = self.ask(users)
        return [user for user in users if bound[user] < self.acknowledged[user]]

    def close(self):
        """Close the socket."""
        self._selector.close()
        self.socket.close()


KEPT = ("Via", "From", "To", "Call-ID", "CSeq")
