"""A stand-in for rtpengine: it serves the NG protocol over UDP, and may lose datagrams."""

from __future__ import annotations

import gevent
from gevent import socket

from sippet_gevent.core.b2bua.bencode import decode, encode


class Engine:
    """Answers the commands of the NG protocol. A description gets a mark for each passage.

    Args:
        loses: How many datagrams it ignores first.
        result: The result of its answers.
    """

    def __init__(self, *, loses=0, result="ok"):
        self.loses = loses
        self.result = result
        self.commands = []
        self.cookies = {}
        self.answers = lambda command: {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.place = self._socket.getsockname()
        self.address = f"127.0.0.1:{self.place[1]}"

    def __enter__(self):
        self._greenlet = gevent.spawn(self._serve)
        return self

    def __exit__(self, *exception):
        self._greenlet.kill()
        self._socket.close()

    @property
    def names(self):
        """The commands, in order."""
        return [command["command"].decode() for command in self.commands]

    def _serve(self):
        while True:
            data, peer = self._socket.recvfrom(65536)
            if self.loses:
                self.loses -= 1
                continue
            cookie, _, text = data.partition(b" ")
            answer = self.cookies.get(cookie)
            if answer is None:
                answer = self.cookies[cookie] = self._answer(decode(text))
            self._socket.sendto(b"other d6:result2:oke", peer)  # an answer to another command
            self._socket.sendto(cookie + b" " + encode(answer), peer)

    def _answer(self, command):
        self.commands.append(command)
        name = command["command"]
        answer = {"result": "pong" if name == b"ping" else self.result}
        if self.result == "error":
            answer["error-reason"] = "Unknown call-id"
        elif name in (b"offer", b"answer"):
            target = command["to-tag" if name == b"offer" else "from-tag"]
            answer["sdp"] = command["sdp"] + b" relayed for " + target
        return {**answer, **self.answers(command)}
