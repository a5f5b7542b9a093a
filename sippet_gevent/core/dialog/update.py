"""Update: the UPDATE of the peer, which changes or refreshes a session, early or not, RFC 3311."""

from __future__ import annotations

from ...message.message import Request, Response
from ..element import ServedRequest
from .rule import Rule


class Update(Rule):
    """Answers the peer's UPDATE.

    One with an offer is answered as a re-INVITE is. One without only refreshes the remote target
    (RFC 3311 §5.2). The application gets UPDATEs if the call has a handler for them or an
    `on_reinvite`, or if the stack has a function registered for them.
    """

    __slots__ = ()

    methods = takes = ("UPDATE",)

    def received(self, request: Request, tx: ServedRequest) -> int | Response | None:
        session = self.session
        if (
            request.method != "UPDATE"
            or session.on_reinvite is not None
            or "UPDATE" in session.handlers
            or session.stack.handles_by_name("UPDATE")
        ):
            return None
        return self.session.offers.response_to(request)
