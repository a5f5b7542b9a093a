"""Output of `-v`: each message that a stack receives or sends, on stderr."""

from __future__ import annotations

import logging
from typing import Any

from ..message.uri import bracketed
from ..observe.tap import Passage
from ..runtime import process
from ..stack import Stack
from ..transport.base import Flow
from .terminal import visible, without_credentials

log = logging.getLogger("sippet_gevent")


def log_to_stderr(verbose: bool, level: int) -> None:
    """Print log lines of this level and above, or all of the library's if verbose."""
    process.log_to_stderr(level)
    if verbose:
        log.setLevel(logging.DEBUG)


def host_of(address: tuple[Any, ...]) -> str:
    """Return the host of an address as it is written before a colon and a port."""
    return bracketed(str(address[0]))


def show_messages(stack: Stack) -> None:
    """Log each message of the stack at DEBUG, without credentials. Escape sequences in it cannot
    reach the terminal."""
    stack.tap(_show)


def _show(passage: Passage[Flow]) -> None:
    text = without_credentials(passage.data).replace(b"\r\n", b"\n")
    shown = text.decode("utf-8", "backslashreplace").rstrip("\n").split("\n")
    lines = "\n".join(f"    {visible(line)}" for line in shown)
    host, port = passage.flow.remote
    event = "received: source" if passage.direction == "in" else "sent: destination"
    address = f"{passage.flow.transport.name}:{bracketed(host)}:{port}"
    log.debug("message %s=%s bytes=%d\n%s", event, address, len(passage.data), lines)
