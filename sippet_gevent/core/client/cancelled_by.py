"""cancelled_by(): cancels an INVITE of ours when an event is set, RFC 3261 §9.1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..inbox import Waitable
from .transaction import ClientTransaction


@contextmanager
def cancelled_by(tx: ClientTransaction, until: Waitable | None) -> Iterator[None]:
    """Send a CANCEL for an INVITE when an object of gevent gets ready within this block.

    Args:
        tx: The INVITE.
        until: An Event, an AsyncResult or a greenlet. None cancels nothing.
    """
    if until is None:
        yield
        return

    def cancel(_: object) -> None:
        tx.stack.callbacks.spawn(tx.cancel)  # a name may have to be resolved, and this is the hub

    until.rawlink(cancel)
    try:
        yield
    finally:
        until.unlink(cancel)
