"""The relay of bytes: what comes from the target goes to the caller, everything else to the target.

It does what a proxy does, without SIP: the lower limit of a proxied call, and the unit in which
`units.py` reports it.
"""

import argparse

import greenlet
from echo import Echo
from gevent.event import Event


class Relay(Echo):
    def __init__(self, port, target):
        super().__init__(port)
        self.target = ("127.0.0.1", target)
        self.caller = None

    def work(self, data, address):
        sendto, park, switch_to_hub = self.socket.sendto, self.parked.append, self.hub.switch
        me = greenlet.getcurrent()
        while True:
            if address == self.target:
                to = self.caller
            else:
                self.caller, to = address, self.target
            try:
                sendto(data, to)
            except BlockingIOError:
                self.dropped += 1
            park(me)
            data, address = switch_to_hub()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int, help="port on 127.0.0.1")
    parser.add_argument("target", type=int, help="port of the callee on 127.0.0.1")
    options = parser.parse_args()
    relay = Relay(options.port, options.target)
    print("relay ready", flush=True)
    Event().wait()
    relay.watcher.stop()


if __name__ == "__main__":
    main()
