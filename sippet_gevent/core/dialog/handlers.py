"""CallHandlers: cores for requests within one call, as accept() and invite() take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...arguments import takes
from ...errors import InvalidValue
from ...message.grammar import is_token
from ...message.message import Request, Response

ReinviteCore = Callable[[Request, Any], "int | Response | None"]
"""A core for re-INVITEs, `core(request, tx)`.

`tx` is a ServerTransaction. Its type here is Any, because the class ServerTransaction names Call,
so this file cannot import it.
"""

CallHandlers = Mapping[str, ReinviteCore]
"""Cores for requests within one call by method, `{"INFO": core}`."""

_OF_THE_CALL = frozenset(("ACK", "BYE", "CANCEL", "INVITE"))
"""Methods that a call serves by itself."""


def check_handlers(handlers: CallHandlers | None) -> dict[str, ReinviteCore]:
    """Check the handlers of a call, and return a copy. Raises TypeError and InvalidValue."""
    if handlers is None:
        return {}
    write = 'handlers={"INFO": function}'
    if not isinstance(handlers, Mapping):
        raise TypeError(f"handlers must map methods to functions, got {handlers!r}: write {write}")
    for method, handler in handlers.items():
        if not isinstance(method, str) or not is_token(method) or method in _OF_THE_CALL:
            raise InvalidValue(
                f"handlers must be of methods within a call that it does not serve by itself, "
                f"got {method!r}: write {write}"
            )
        if not callable(handler):
            raise TypeError(f"the handler of {method} is not callable: write {write}")
        takes(handler, ("request", "tx"), f"the handler of {method}")
    return dict(handlers)
