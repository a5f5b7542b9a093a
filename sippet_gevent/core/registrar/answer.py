"""Answer: the 200 to a REGISTER, RFC 3261 §10.3 step 8."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from functools import lru_cache

from ...message.fields.rfc3261 import Date
from ...message.message import Request, Response
from ...message.scan import USUAL, Line
from ...message.uri import URI
from ...stores.bindings import Bindings
from ...stores.gruu import Gruus
from .contacts import listed


class Answer:
    """The 200 to a REGISTER, before its Contacts are known.

    Its lines are made as text. A typed value would be parsed again, to see if it is safe.

    Args:
        request: The REGISTER.
        now: The time, by the clock of the Location.
        user: The address-of-record, as the phone spells it.
        aor: The key of the address-of-record.
        gruus: Makes the GRUUs of the Contacts, None if the phone knows none.
        lines: Further header lines.
    """

    __slots__ = ("_aor", "_gruus", "_lines", "_now", "_request", "_user")

    def __init__(
        self,
        request: Request,
        now: float,
        user: URI,
        aor: str,
        gruus: Gruus | None,
        lines: list[Line],
    ) -> None:
        self._request = request
        self._now = now
        self._user = user
        self._aor = aor
        self._gruus = gruus
        self._lines = lines

    def listing(self, bindings: Bindings) -> Response:
        """Return the response with the Contacts of these bindings, each with its seconds."""
        request = self._request
        response = request.response(200)
        lines: list[Line] = []
        if "Path" in request.headers.fields:  # RFC 3327 §5.3
            lines += [line for line in request.headers.lines if line[0] == "Path"]
        for text in listed(bindings, self._now, self._user, self._aor, self._gruus):
            lines.append(("Contact", USUAL, text))
        lines.append(("Date", USUAL, _date(int(time.time()))))
        lines += self._lines
        response.headers.extend(lines)
        return response


@lru_cache(2)
def _date(second: int) -> str:
    """Return the text of a Date (§20.17), which is the same for a whole second."""
    return Date.format(datetime.fromtimestamp(second, timezone.utc))
