"""Redirect: follows 3xx responses to their Contacts, RFC 3261 §8.1.3.4."""

from __future__ import annotations

from ...errors import InvalidValue, ParseError, SIPError
from ...message.address import STAR, NameAddr
from ...message.fields.history import HistoryInfo
from ...message.message import Request, Response
from ...message.uri import URI
from ..routing.history_info import redirected
from ..routing.routes import as_request_uri
from ..routing.sips import is_secure
from .attempt import Attempt, Policy

TARGETS = 10
"""Most URIs that one request follows. A number that is redirected more often is in a loop that does
not repeat itself."""

_NOT_TAKEN = frozenset(
    # §19.1.5: what lies about the sender, leads elsewhere, or describes the body
    "accept accept-encoding accept-language alert-info allow authorization body call-id contact "
    "content-disposition content-encoding content-language content-length content-type cseq date "
    "from identity max-forwards mime-version organization p-access-network-info "
    "p-asserted-identity p-preferred-identity path privacy proxy-authorization proxy-require "
    "record-route require route service-route supported timestamp to user-agent via".split()
)
"""Header fields that the URI of a Contact cannot set (§19.1.5), in lower case."""

_APPENDED = frozenset(("call-info", "history-info", "diversion", "reason"))
"""Header fields whose values are added to those that the request has (§8.1.3.4)."""


class Redirect(Policy):
    """Sends a request to the Contacts of a 3xx, best q first, each URI once (§8.1.3.4).

    A target that fails is followed by the next one, until one accepts or none is left. A 6xx ends
    the search, because it speaks for all targets (§21.6). A request to a sips URI goes to sips URIs
    only.
    """

    def __init__(self) -> None:
        self._left: list[URI] = []
        self._seen: list[URI] = []

    def __call__(self, attempt: Attempt) -> Attempt | None:
        failure = attempt.failure
        if attempt.session is not None:  # its target changes by target refreshes alone (§12.2)
            return None
        if 300 <= attempt.status < 400 and isinstance(failure, Response):
            if not self._seen:
                self._seen.append(attempt.request.uri)
            self._left[:0] = self._targets(failure, attempt.request)
        elif attempt.status >= 600 or not isinstance(failure, (Response, SIPError)):
            return None
        while self._left:
            uri = self._left.pop(0)
            try:
                # the new target must not get the answers to challenges of the old one (§22.1)
                following = attempt.again(
                    "redirected",
                    uri=as_request_uri(uri),
                    authorization=None,
                    proxy_authorization=None,
                )
                if "History-Info" in attempt.request.headers.fields:
                    following.request.history_info = tuple(_history(attempt, following.request.uri))
                _take_headers(following.request, uri)
            except (InvalidValue, ParseError):
                continue  # a Contact that no request can be made of
            return following
        return None

    def _targets(self, response: Response, request: Request) -> list[URI]:
        """Return the URIs of a 3xx that were not tried before, best first."""
        found: list[tuple[float, URI]] = []
        try:
            contacts = response.contact
        except ParseError:
            return []
        secure = is_secure(request)
        for contact in contacts:
            if contact == STAR or not isinstance(contact, NameAddr):
                continue
            uri = contact.uri
            is_ours = uri.is_sip and uri.has_valid_host and (uri.is_secure or not secure)
            if not is_ours or uri in self._seen or len(self._seen) > TARGETS:
                continue
            self._seen.append(uri)
            try:
                q = float(contact.q)
            except ParseError:
                q = 0.0
            found.append((q, uri))
        found.sort(key=lambda each: -each[0])  # stable: equal ones in the order of the response
        return [uri for _, uri in found]


def _history(attempt: Attempt, uri: URI) -> list[HistoryInfo]:
    """Return the history of the request for the next target (RFC 7044 §6.1). Raises ParseError."""
    failure = attempt.failure
    if not isinstance(failure, Response):
        failure = attempt.request.response(408)  # §10.2
    return redirected(attempt.request, failure, uri)


def _take_headers(request: Request, uri: URI) -> None:
    """Write the header fields of a target's URI into the request for it, except those that a
    stranger must not set (§8.1.3.4, §19.1.5)."""
    for name, value in uri.headers.items():
        lowered = name.lower()
        if lowered in _NOT_TAKEN or value is None:
            continue
        before = request.headers.all(name) if lowered in _APPENDED else ()
        request.headers[name] = (*before, value) if before else value
