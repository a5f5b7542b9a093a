"""The bare recycled-greenlet UDP echo: what one datagram in and one out cost before any SIP is done.

The watcher, the burst and the parked greenlets are those of the library; nothing is parsed, no timer is set. This is
the physical limit of the design, and the unit in which `stateful.py` reports the rest.
"""

import argparse
import socket

import gevent
import greenlet
from gevent.event import Event

BURST = 64                  # datagrams read per wake-up, so that one flood cannot starve the rest of the loop
MAX_DATAGRAM = 65535


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int, help="UDP port on 127.0.0.1")
    echo = Echo(parser.parse_args().port)
    print("echo ready", flush=True)
    Event().wait()
    echo.watcher.stop()


if __name__ == "__main__":
    main()
