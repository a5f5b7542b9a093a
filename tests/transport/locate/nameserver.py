"""A name server of the tests' own: dnspython's messages on a loopback port, UDP and TCP, in greenlets."""

from __future__ import annotations

import struct

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import gevent
from gevent.server import DatagramServer, StreamServer

from ...ports import free_port


class NameServer:
    """Answers from `zone`: a name to lines like "300 A 192.0.2.1". Attributes make it misbehave.

    `seen` has (transport, kind, name) of each question. `mangle(wire, query)` makes a list of datagrams of an answer.
    """

    def __init__(self, zone=None, *, host="127.0.0.1"):
        self.zone = zone or {}
        self.delay = 0.0
        self.silent = False
        self.silent_kinds = ()
        self.silent_names = lambda name: False
        self.rcode = None
        self.truncate = False
        self.soa_minimum = 30
        self.mangle = None
        self.follow = True
        self.seen = []
        self.address = (host, free_port(host))
        self._stream = StreamServer(self.address, self._connected)
        self._stream.start()
        self._datagram = DatagramServer(self.address, self._datagram_came)
        self._datagram.start()

    def close(self):
        """Answer nothing any more; the ports are closed."""
        self._datagram.stop()
        self._stream.stop()

    @property
    def kinds(self):
        """The kinds of the questions so far."""
        return [kind for _, kind, _ in self.seen]

    def _datagram_came(self, data, address):
        for wire in self._answers(data, "udp"):
            self._datagram.sendto(wire, address)

    def _connected(self, connection, address):
        with connection:
            data = connection.recv(65535)
            for wire in self._answers(data[2:], "tcp"):
                connection.sendall(struct.pack("!H", len(wire)) + wire)

    def _answers(self, data, transport):
        query = dns.message.from_wire(data)
        question = query.question[0]
        kind = dns.rdatatype.to_text(question.rdtype)
        self.seen.append((transport, kind, question.name.to_text(omit_final_dot=True)))
        if (
            self.silent
            or kind in self.silent_kinds
            or self.silent_names(question.name.to_text(omit_final_dot=True))
        ):
            return []
        if self.delay:
            gevent.sleep(self.delay)
        response = dns.message.make_response(query, recursion_available=True)
        if self.rcode is not None:
            response.set_rcode(self.rcode)
        elif self.truncate and transport == "udp":
            response.flags |= dns.flags.TC
        else:
            self._fill(response, question)
        wire = response.to_wire(max_size=65535)
        return [wire] if self.mangle is None or transport == "tcp" else self.mangle(wire, query)

    def _fill(self, response, question):
        name = question.name
        kind = dns.rdatatype.to_text(question.rdtype)
        for _ in range(12):
            lines = self.zone.get(name.to_text(omit_final_dot=True).lower())
            if lines is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
                break
            found = [line.split(" ", 2) for line in lines]
            for wanted in (kind, "CNAME"):
                fitting = [entry for entry in found if entry[1] == wanted]
                if fitting:
                    ttl = int(fitting[0][0])
                    rrset = dns.rrset.from_text_list(
                        name, ttl, "IN", wanted, [entry[2] for entry in fitting]
                    )
                    response.answer.append(rrset)
                    break
            if not fitting or wanted == kind:
                break
            if not self.follow:
                return
            name = rrset[0].target
        if not any(rrset.rdtype == question.rdtype for rrset in response.answer):
            soa = f"ns.example. admin.example. 1 1 1 1 {self.soa_minimum}"
            response.authority.append(dns.rrset.from_text(".", 3600, "IN", "SOA", soa))


def dead_address():
    """Return the address of a closed UDP port."""
    return "127.0.0.1", free_port()
