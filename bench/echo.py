"""The bare echo with recycled greenlets, over UDP or TCP: the cost of one message in and one out
without SIP.

Watcher, burst and parked greenlets are those of the library, but nothing is parsed and no timer is
set. This is the lower limit of the design, and the unit in which `stateful.py` reports the others.
"""

import argparse
import socket

import gevent
import greenlet
from gevent.event import Event

# datagrams read per wake-up, so that one flood cannot starve the rest of the loop
BURST = 64
MAX_DATAGRAM = 65535
STREAM_READ = 16384


class Echo:
    def __init__(self, port):
        self.hub = gevent.get_hub()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.parked = []
        self.dropped = 0
        self.watcher = self.hub.loop.io(self.socket.fileno(), 1)
        self.watcher.start(self.readable)

    def readable(self):
        recvfrom, parked = self.socket.recvfrom, self.parked
        for _ in range(BURST):
            try:
                data, address = recvfrom(MAX_DATAGRAM)
            except BlockingIOError:
                return
            worker = parked.pop() if parked else greenlet.greenlet(self.work, self.hub)
            worker.switch(data, address)

    def work(self, data, address):
        sendto, park, switch_to_hub = self.socket.sendto, self.parked.append, self.hub.switch
        me = greenlet.getcurrent()
        while True:
            try:
                sendto(data, address)
            except BlockingIOError:
                self.dropped += 1
            park(me)
            data, address = switch_to_hub()


class StreamEcho:
    """The same for connections: each has a watcher, and the bytes of one read go to a parked
    greenlet and back."""

    def __init__(self, port):
        self.hub = gevent.get_hub()
        self.socket = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.socket.setblocking(False)
        self.parked = []
        self.connections = {}
        self.watcher = self.hub.loop.io(self.socket.fileno(), 1)
        self.watcher.start(self.acceptable)

    def acceptable(self):
        connection, _ = self.socket.accept()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        watcher = self.connections[connection] = self.hub.loop.io(connection.fileno(), 1)
        watcher.start(self.readable, connection)

    def readable(self, connection):
        try:
            data = connection.recv(STREAM_READ)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self.connections.pop(connection).close()
            connection.close()
            return
        worker = self.parked.pop() if self.parked else greenlet.greenlet(self.work, self.hub)
        worker.switch(data, connection)

    def work(self, data, connection):
        park, switch_to_hub = self.parked.append, self.hub.switch
        me = greenlet.getcurrent()
        while True:
            connection.send(data)  # the kernel buffers more than the load leaves unread
            park(me)
            data, connection = switch_to_hub()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int, help="port on 127.0.0.1")
    parser.add_argument("--tcp", action="store_true", help="use TCP instead of UDP")
    options = parser.parse_args()
    echo = (StreamEcho if options.tcp else Echo)(options.port)
    print("echo ready", flush=True)
    Event().wait()
    echo.watcher.stop()


if __name__ == "__main__":
    main()
