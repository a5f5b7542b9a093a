"""History: the targets of a request as History-Info tells them, RFC 7044. Pure.

| RFC 7044 | here |
|---|---|
| §9.1 the cache of entries | History() |
| §9.2, §10.3, §10.4 the entry of each branch, its index, and rc, mp or np | branch() |
| §9.3, §10.2 responses, and their Reason | received() |
| §9.4 entries in responses | entries |
| §10.1.2 privacy at the edge of our domain | anonymized() |

A proxy keeps a history only if the request has History-Info, or lists `histinfo` in Supported.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from ...errors import ParseError
from ...message.address import NameAddr
from ...message.fields.history import HistoryInfo
from ...message.iana import reason_phrase
from ...message.message import Request, Response
from ...message.parameters import URIHeaders
from ...message.uri import URI

TAG = "histinfo"
"""The option tag."""

ENTRIES = 50
"""Most entries of a history. A longer one is passed on as it is, because the request loops, or a
peer wants to fill our memory."""

ANONYMOUS = URI("sip", "anonymous", "anonymous.invalid")
"""The URI of an entry whose target must not be told (RFC 3323 §4.1.1.3)."""

_PRIVATE = frozenset(("header", "history"))
_TARGETS = ("rc", "mp")


def is_kept(request: Request) -> bool:
    """True for a request outside of a dialog whose sender has History-Info (§9.4)."""
    fields = request.headers.fields
    if "History-Info" not in fields and (
        "Supported" not in fields or TAG not in (tag.lower() for tag in request.supported)
    ):
        return False
    return request.to.tag is None


class History:
    """The entries of one request that is forwarded, and of its branches.

    Args:
        request: The request as it was received.

    Raises:
        ParseError: Its History-Info cannot be read.
    """

    def __init__(self, request: Request) -> None:
        self.entries: list[HistoryInfo] = [*request.history_info]
        """The entries so far, for responses."""
        self._target = request.uri
        self._branches: dict[Hashable, HistoryInfo] = {}
        self._number = 0
        self._redirected: dict[URI, tuple[str, str]] = {}
        self.is_private = _is_private(request)
        """True if the request wants no entry of our domain to be told elsewhere."""
        if not self.entries or not _same(self.entries[-1].uri, request.uri):
            # on behalf of a hop without History-Info (§9.1, §10.3 rule 6)
            last = self.entries[-1].index if self.entries else None
            index = "1" if not self.entries else f"{last or 1}.0"
            self.entries.append(_entry(request.uri, index))
        self._parent = self.entries[-1].index or "1"

    def branch(self, key: Hashable, uri: URI, *, is_contact: bool) -> list[HistoryInfo]:
        """Return the entries of the request for one more target (§9.2).

        Args:
            key: The branch.
            uri: Its Request-URI.
            is_contact: True for a registered contact of the user.
        """
        self._number += 1
        entry = _entry(uri, f"{self._parent}.{self._number}")
        if uri in self._redirected:
            # the redirecting server knows how the target was found (§10.4)
            kind, index = self._redirected[uri]
            entry = entry if not kind else entry.with_params({kind: index})
        else:
            entry = entry.with_params({self._kind(uri, is_contact): self._parent})
        self._branches[key] = entry
        return [*self.entries, entry]

    def _kind(self, uri: URI, is_contact: bool) -> str:
        """Return how a target was found: as the same URI, a contact of the user, or another
        user."""
        if _same(uri, self._target):
            return "np"
        return "rc" if is_contact or uri.user == self._target.user else "mp"

    def received(self, key: Hashable, response: Response) -> None:
        """Take a response of a branch, or our own one in place of it (§9.3)."""
        entry = self._branches.get(key)
        if entry is None or response.status <= 100:
            return
        if response.status >= 300:
            entry = _with_reason(entry, response)
            if response.status < 400:
                self._note_redirect(response, entry.index or "")
        self._add(entry)
        try:
            for each in response.history_info:
                if all(each.index != known.index for known in self.entries):
                    self._add(each)
        except ParseError:
            pass  # what the branch tells cannot be read

    def _note_redirect(self, response: Response, index: str) -> None:
        """Note which targets a 3xx names, and how it has found them."""
        try:
            for contact in response.contact:
                if isinstance(contact, NameAddr):
                    self._redirected.setdefault(contact.uri, (_kind_of(contact), index))
        except ParseError:
            pass  # nobody can follow them either

    def _add(self, entry: HistoryInfo) -> None:
        """Add an entry in the order of indexes. It replaces an entry with the same index."""
        place = order_of(entry)
        for number, known in enumerate(self.entries):
            if known.index == entry.index:
                self.entries[number] = entry
                return
            if order_of(known) > place:
                self.entries.insert(number, entry)
                return
        if len(self.entries) < ENTRIES:
            self.entries.append(entry)


def order_of(entry: HistoryInfo) -> tuple[int, ...]:
    """Return the index of an entry as numbers, in whose order entries are (§10.3)."""
    try:
        return tuple(int(number) for number in (entry.index or "").split("."))
    except (ParseError, ValueError):
        return ()


def anonymized(
    entries: Iterable[HistoryInfo], is_ours: Callable[[URI], bool], *, all_of_ours: bool
) -> list[HistoryInfo]:
    """Return entries as they may leave our domain (§10.1.2).

    Args:
        entries: The entries.
        is_ours: True for a URI of our domain.
        all_of_ours: True if the message wants privacy for all of them. Otherwise only those with a
            Privacy of their own are changed.
    """
    return [
        _entry_like(entry, ANONYMOUS)
        if is_ours(entry.uri) and (all_of_ours or _wants_privacy(entry))
        else entry
        for entry in entries
    ]


def redirected(request: Request, response: Response, uri: URI) -> list[HistoryInfo]:
    """Return the history of a request of our own that follows a 3xx (§6.1, §10.3 rule 4).

    Args:
        request: The request that was redirected. It has History-Info.
        response: The 3xx, or the failure of another target that it has named.
        uri: The next target.

    Raises:
        ParseError: A History-Info cannot be read.
    """
    entries = [*request.history_info]
    last = entries[-1]
    entries[-1] = _with_reason(last, response)
    before, _, number = (last.index or "1").rpartition(".")
    following = str(int(number or 1) + 1)
    entry = _entry(uri, f"{before}.{following}" if before else following)
    for contact in response.contact:
        if isinstance(contact, NameAddr) and contact.uri == uri and _kind_of(contact):
            entry = entry.with_params({_kind_of(contact): last.index})
            break
    return [*entries, entry]


def _kind_of(contact: NameAddr) -> str:
    """Return the parameter by which a redirecting server says how it has found a target."""
    return next((kind for kind in _TARGETS if kind in contact.parameters), "")


def _entry(uri: URI, index: str) -> HistoryInfo:
    return HistoryInfo(uri._replace(headers=URIHeaders())).with_params(index=index)


def _entry_like(entry: HistoryInfo, uri: URI) -> HistoryInfo:
    return HistoryInfo(uri, "", entry.parameters)


def _with_reason(entry: HistoryInfo, response: Response) -> HistoryInfo:
    """Return an entry whose URI has the Reason why the request left this target (§10.2)."""
    if not entry.uri.is_sip:
        return entry
    text = reason_phrase(response.status) or response.reason
    reasons = [f'SIP;cause={response.status};text="{text}"']
    try:
        reasons += [str(reason) for reason in response.reason_header]
    except ParseError:
        pass
    headers = {name: value for name, value in entry.uri.headers.items() if name != "Reason"}
    headers["Reason"] = ",".join(reasons)
    return _entry_like(entry, entry.uri._replace(headers=URIHeaders(headers)))


def _is_private(request: Request) -> bool:
    text = request.headers.get("Privacy") or ""
    return not _PRIVATE.isdisjoint(value.strip().lower() for value in text.split(";"))


def _wants_privacy(entry: HistoryInfo) -> bool:
    try:
        return entry.privacy is not None and "history" in str(entry.privacy).lower()
    except ParseError:
        return True


def _same(one: URI, other: URI) -> bool:
    """True for the same target; the headers of an entry's URI are not part of it."""
    return one._replace(headers=URIHeaders()).equivalent(other._replace(headers=URIHeaders()))


def history_of(request: Request) -> History | None:
    """Return the history of a request that has one (RFC 7044); None if it cannot be read."""
    try:
        return History(request) if is_kept(request) else None
    except ParseError:
        return None
