"""Agreement: the session descriptions of a call, RFC 3261 §13.2.1 and §14.2."""

from __future__ import annotations

from ...errors import Reject
from ...message.body import Part
from ...message.fields.rfc3261 import Warning as SIPWarning
from ...message.message import Request, Response
from ..routing.sips import AGENT
from .call import SESSION_TYPE, Call

CANNOT_CHANGE = SIPWarning(399, AGENT, "The Session Cannot Be Changed")
"""The Warning of a 488 to a re-INVITE (§14.2)."""


class Agreement(Call):
    """The last session descriptions of both sides, and what answers an offer within the call."""

    def _agree(self, ours: Request | Response, theirs: Request | Response) -> None:
        """Note the session descriptions of an INVITE and its 2xx (§13.2.1)."""
        if ours.body:
            self.local_body, self.local_type = ours.body, str(ours.content_type or SESSION_TYPE)
        self.remote_body = theirs.body or self.remote_body

    def _check_offer(self, request: Request) -> None:
        """Refuse an offer that changes the session. Raises Reject."""
        if request.body and request.body != self.remote_body:
            if Part.of(request).not_understood(SESSION_TYPE):
                raise Reject(415, accept=SESSION_TYPE)  # §8.2.3
            raise Reject(488, warning=(CANNOT_CHANGE,))  # §14.2

    def _unchanged(self, request: Request) -> Response:
        """Return a 200 with our last session description."""
        return request.response(
            200, body=self.local_body, content_type=self.local_type if self.local_body else None
        )

    def offered(self, request: Request) -> Response:
        self._check_offer(request)
        return self._unchanged(request)

    def answer_to(self, response: Response) -> bytes:
        return b""
