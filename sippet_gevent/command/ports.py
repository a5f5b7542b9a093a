"""Addresses that another program has: an error that says which one, or waiting for it."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..errors import TransportError
from ..runtime.ports import ADVICE, taken
from .terminal import Mistake

WAIT_EVERY = 1.0
"""Seconds between two tries to listen on an address that another program has."""

_ADVICE = "stop it, write another port, or wait for it: --wait"


def wait_for_ports(start: Callable[[], object], tell: Callable[[TransportError], object]) -> None:
    """Start a stack as soon as other programs have left its addresses.

    Args:
        start: Starts the stack.
        tell: Is told once of each address that is waited for.

    Raises:
        TransportError: An address cannot be opened for another reason.
    """
    told: set[str] = set()
    while True:
        try:
            start()
            return
        except TransportError as error:
            if taken(error) is None:
                raise
            if str(error) not in told:
                told.add(str(error))
                tell(error)
        time.sleep(WAIT_EVERY)


def start(stack_start: Callable[[], object]) -> None:
    """Start a stack. Raises Mistake, which says which program has an address."""
    try:
        stack_start()
    except TransportError as error:
        if taken(error) is None:
            raise
        raise Mistake(str(error).replace(ADVICE, _ADVICE)) from error
