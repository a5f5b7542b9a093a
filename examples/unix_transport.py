"""A custom transport: SIP over Unix-domain stream sockets, between programs of one machine (Linux).

    sippet serve examples/unix_transport.py:stack       answers calls at sip:hello;transport=unix
    python examples/unix_transport.py                   calls there

The address `unix:hello:5060` is the socket file `hello:5060` in a folder, $SIP_SOCKETS or
./sip-sockets, and a URI with `;transport=unix` leads there by its host. The permissions of the
folder are the only access control.
"""

import errno
import logging
import os
import struct
from contextlib import suppress
from itertools import count, cycle
from pathlib import Path

import gevent
from gevent import socket
from gevent.queue import Empty, Full, Queue

from sippet_gevent import Flow, Framer, Stack, Transport, TransportError

FOLDER = Path(os.environ.get("SIP_SOCKETS", "sip-sockets"))

CONNECTIONS = 1000
"""Most connections from other programs at the same time; further ones are closed at once."""

WAITING = 256
"""Most messages that wait for a slow peer; one more ends the connection."""

PATIENCE = 10
"""Seconds within which a peer must read a message."""

log = logging.getLogger("unix_transport")


def in_hub(function, *arguments):
    """Call a function in the hub, where transports call the stack. The order of calls is kept."""
    gevent.get_hub().loop.run_callback(function, *arguments)


def pid_of(sock):
    """Return the process id of the peer, from the kernel."""
    return struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


class UnixFlow(Flow):
    """One connection, with a greenlet that reads and one that writes from a queue, so that send()
    never waits."""

    def __init__(self, transport, sock, remote):
        self.transport, self.remote = transport, remote
        self.transactions = set()  # the stack notes here which transactions use the flow
        self._socket = sock
        self._queue = Queue(WAITING)
        transport.flows.add(self)
        self._greenlets = [gevent.spawn(self._read), gevent.spawn(self._write)]

    def send(self, data):
        """Send one whole message; never wait."""
        if not self.is_alive():
            raise TransportError(f"{self!r} has ended", self)
        try:
            self._queue.put_nowait(data)
        except Full:
            self.close("the peer does not read")
            raise TransportError(f"{self!r} has ended: the peer does not read", self) from None

    @property
    def local(self):
        """Our address, for Via and Contact."""
        return self.transport.local

    def is_alive(self):
        return self in self.transport.flows

    def _read(self):
        framer, pings, problem = Framer(), 0, "the peer has closed the connection"
        try:
            while not framer.dead and (data := self._socket.recv(16384)):
                messages = framer.feed(data)
                in_hub(self._take, messages, framer.error, framer.pings > pings)
                pings = framer.pings
                gevent.sleep(0)  # now the hub runs _take(), and other greenlets have their turn
        except OSError as error:
            problem = error.strerror
        if not framer.dead:
            self.close(problem)

    def _take(self, messages, error, pinged):
        """Deliver what was read, in order; runs in the hub."""
        for message in messages:
            self.transport.receive(message, self)
        if not self.is_alive():
            return
        try:
            if error is not None:
                self.transport.events.refuse(error, self)  # sends the 400
                self._queue.put_nowait(None)  # ends _write()
            elif pinged:
                self.send(b"\r\n")  # RFC 5626 §4.4.1
        except (Full, TransportError):
            self.close("the peer does not read")

    def _write(self):
        try:
            while (data := self._queue.get()) is not None:
                with gevent.Timeout(PATIENCE, OSError(errno.ETIMEDOUT, "the peer does not read")):
                    self._socket.sendall(data)
        except OSError as error:
            self.close(error.strerror)
        else:
            self.close("the bytes of the peer were no SIP message")

    def flush(self):
        """Write what waits in the queue, as far as the peer takes it at once."""
        self._socket.settimeout(0)
        with suppress(Empty, OSError):
            while (data := self._queue.get_nowait()) is not None:
                self._socket.sendall(data)

    def close(self, problem="closed"):
        """End the connection and report that to its transactions. Never waits."""
        if not self.is_alive():
            return
        self.transport.flows.discard(self)
        if self.transport.dialled.get(self.remote) is self:
            del self.transport.dialled[self.remote]
        self._socket.close()
        for greenlet in self._greenlets:
            if greenlet is not gevent.getcurrent():
                greenlet.kill(block=False)
        if self.transactions:
            in_hub(
                self.transport.events.flow_ended,
                self,
                TransportError(f"{self!r} has ended: {problem}", self),
            )


class Unix(Transport):
    """A socket file to listen on, and the connections of both directions. Accepted ones are named
    by their process id."""

    name, reliable, default_port = "UNIX", True, 5060
    resolves = True  # sip:hello;transport=unix: `hello` is not looked up in DNS

    def __init__(self, folder=FOLDER):
        self.folder = Path(folder)
        self.flows = set()
        self.dialled = {}
        self._socket = None
        self._numbers = cycle(range(1, 65536))

    def path(self, host, port):
        return self.folder / f"{host}:{port}"

    def start(self, address, receive, events):
        host, port = address[0].lower(), address[1]
        self.receive, self.events = receive, events
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for free in [port] if port else count(5061):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._bind(sock, self.path(host, free))
                sock.listen(128)
                break
            except OSError as error:
                sock.close()
                if port or error.errno != errno.EADDRINUSE:
                    raise TransportError(
                        f"cannot listen on unix:{host}:{port}: {error.strerror or error}"
                    ) from error
        self._socket, self.local = sock, (host, free)
        self._acceptor = gevent.spawn(self._accept)

    def _bind(self, sock, path):
        """Bind to a socket file, also to one that a dead process has left."""
        try:
            sock.bind(str(path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
                    raise
            path.unlink(missing_ok=True)
            sock.bind(str(path))

    def _accept(self):
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError as error:
                log.warning("accept failed: transport=%r reason=%s", self, error.strerror)
                gevent.sleep(0.1)
                continue
            if len(self.flows) >= CONNECTIONS:
                sock.close()
                continue
            UnixFlow(self, sock, (f"pid-{pid_of(sock)}", next(self._numbers)))

    def connect(self, address):
        """Return the flow to an address, an existing or a new one."""
        if self._socket is None:
            raise TransportError("the transport is not open")
        flow = self.dialled.get(address)
        if flow is None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(0)  # connect without waiting
                sock.connect(str(self.path(*address)))
                sock.settimeout(None)
            except OSError as error:
                sock.close()
                raise TransportError(
                    f"cannot connect to unix:{address[0]}:{address[1]}: {error.strerror or error}"
                ) from error
            flow = self.dialled[address] = UnixFlow(self, sock, address)
        return flow

    def stop(self):
        if self._socket is None:
            return
        self._acceptor.kill(block=False)
        self._socket.close()
        self._socket = None
        self.path(*self.local).unlink(missing_ok=True)
        for flow in [*self.flows]:
            flow.flush()  # the last ACK and BYE
            flow.close()


stack = Stack()
stack.listen("unix:hello", Unix())


@stack.on("INVITE")
def hello(request, tx):
    tx.respond(180)
    with tx.accept() as call:
        call.wait(60)


if __name__ == "__main__":
    with Stack() as caller:
        caller.listen("unix:caller:0", Unix())
        with caller.invite("sip:hello;transport=unix", timeout=10) as call:
            print("hello has answered:", call.dialog.remote_target)
