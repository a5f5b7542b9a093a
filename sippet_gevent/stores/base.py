"""BindingStore: the store of bindings, as a registrar and a proxy need it, RFC 3261 §10.3."""

from __future__ import annotations

from typing import Protocol

from ..message.uri import URI
from .bindings import Binding


class BindingStore(Protocol):
    """A store of bindings by address-of-record. `Location` is one. Your own store needs these
    methods.

    A store may also have `lookup_contact(uri)`, as Location has. RegistrarProxy then uses it for
    requests to the Contact of one phone.
    """

    def get(self, aor: str, /) -> tuple[Binding, ...]:
        """Return the live bindings of an address-of-record, best first."""

    def put(self, aor: str, bindings: tuple[Binding, ...], /) -> None:
        """Replace all bindings of an address-of-record at once. Raises Reject(503) when full."""

    def lookup(self, uri: URI, /) -> tuple[Binding, ...]:
        """Return the bindings to which a request for this URI goes, best first."""
