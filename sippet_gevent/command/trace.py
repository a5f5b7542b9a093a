"""What `-v` shows of a stack: every message, as it passes its transports, on stderr."""

from __future__ import annotations

import logging
from typing import Any

from ..runtime import process
from ..stack import Stack
from ..transport.base import Flow, Receive
from ..transport.stream.connection import BEFORE
from .terminal import visible, without_credentials

log = logging.getLogger("sippet_gevent")


def log_to_stderr(verbose: bool, level: int) -> None:
    """Let log lines of this level and above appear; all of ours when verbose."""
    process.log_to_stderr(level)
    if verbose:
        log.setLevel(logging.DEBUG)


def host_of(address: tuple[Any, ...]) -> str:
    """Return an address's host as it stands before a colon and port."""
    return f"[{address[0]}]" if ":" in address[0] else str(address[0])


def show_messages(stack: Stack) -> None:
    """Log each message of the stack's transports, at DEBUG, without credentials; escapes cannot
    reach the terminal."""
    for transport, _ in stack.planned:
        _show_transport(transport)


def _show_transport(transport: Any) -> None:
    start, connect = transport.start, transport.connect

    def shown_start(address: Any, receive: Receive) -> None:
        def shown_receive(data: bytes, flow: Flow) -> None:
            _show_flows(type(flow))
            _show("received from", flow, data)
            receive(data, flow)

        start(address, shown_receive)

    def shown_connect(address: Any, **named: Any) -> Flow:
        flow: Flow = connect(address, **named)
        _show_flows(type(flow))
        return flow

    transport.start, transport.connect = shown_start, shown_connect


_shown: set[type] = set()


def _show_flows(kind: Any) -> None:
    """Let flows of this class log what they send."""
    owner: Any = next(base for base in kind.__mro__ if "send" in vars(base))
    if owner not in _shown:
        _shown.add(owner)
        send = owner.send

        def shown_send(flow: Flow, data: bytes) -> None:
            # what waits for its connection comes by here once more
            if getattr(flow, "state", None) not in BEFORE:
                _show("sent to", flow, data)
            send(flow, data)

        owner.send = shown_send


def _show(what: str, flow: Flow, data: bytes) -> None:
    text = without_credentials(data).replace(b"\r\n", b"\n").decode("utf-8", "backslashreplace")
    lines = "\n".join(f"    {visible(line)}" for line in text.rstrip("\n").split("\n"))
    log.debug(
        "%s %s:%d, %d octets\n%s", what, host_of(flow.remote), flow.remote[1], len(data), lines
    )
