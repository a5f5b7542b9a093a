"""Path: how a proxy stays on the way to a phone that registers, RFC 3327 §5.2 and RFC 5626 §5.1."""

from __future__ import annotations

from ...transport.base import Flow
from .record_route import RecordRoute
from .sips import wants_sips


class Path(RecordRoute):
    """The Path values of a forwarded REGISTER: one, or one for each side (RFC 3327 §5.2).

    The value on the phone's side names its flow, with a token that is valid for requests of any
    dialog. If the registrar cannot reach the phone's listener, the value above it names a listener
    that the registrar can reach. Both have "ob" if we are the first hop (RFC 5626 §5.1). A
    registrar looks for "ob" in the first URI (§6), and some registrars count the upper value as the
    first.

    A phone without `Supported: path` gets a Path, too, because only the Path leads to a phone
    behind this proxy. That is against the SHOULD NOT of RFC 3327 §5.2. A registrar may answer 420
    to that (§5.3), but our Registrar accepts it.
    """

    name = "Path"

    def _values(self, flow: Flow, by_flow: bool) -> tuple[str, ...]:
        theirs: Flow = self._request.flow  # type: ignore[assignment]  # each flow is one
        if self._names.is_same_side(flow, theirs):
            return (self._facing_sender,)
        return self._value(flow, None), self._facing_sender

    def _value_of_sender(self) -> str:
        self._is_first_hop = self._request.headers.has_one("Via")
        flow: Flow = self._request.flow  # type: ignore[assignment]  # each flow is one
        return self._value(flow, self._names.flow_name(flow))

    def _value(self, flow: Flow, name: str | None) -> str:
        secure = wants_sips(self._request)
        return str(self._names.path_uri(flow, name, is_first_hop=self._is_first_hop, secure=secure))
