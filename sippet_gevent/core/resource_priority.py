"""Which requests are refused for their Resource-Priority, RFC 4412 §4.6.2."""

from __future__ import annotations

from typing import Any

from ..engine.priority import Priority
from ..errors import Reject
from ..message.message import Request

TAG = "resource-priority"


def check_priority(request: Request, priority: Priority) -> None:
    """Refuse a request that requires a Resource-Priority, and has none that is configured.

    Without any configured value the application knows which ones it serves. A request without the
    option tag is served as if it had no Resource-Priority.

    Raises:
        Reject: 417, with the values that are configured in Accept-Resource-Priority.
    """
    if (
        not priority.has_values
        or TAG not in (tag.lower() for tag in request.require)
        or priority.knows(request)
    ):
        return
    fields: dict[str, Any] = {}
    if priority.accepted:
        fields["accept_resource_priority"] = priority.accepted
    raise Reject(417, **fields)
