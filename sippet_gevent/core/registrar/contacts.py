"""The Contacts of the 200 to a REGISTER with their GRUUs, and its Service-Route, RFC 3261 §10.3
step 8, RFC 5627 §5.2 and RFC 3608. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...errors import InvalidValue, excerpt
from ...message.address import NameAddr
from ...message.grammar import QUOTED, quote
from ...message.uri import URI
from ...message.uri_arguments import given_address
from ...stores.bindings import Bindings
from ...stores.gruu import TAG, Gruus, public


def listed(bindings: Bindings, now: float, uri: URI, aor: str, gruus: Gruus | None) -> list[str]:
    """Return the texts of the Contacts of a 200 to a REGISTER, with their seconds (§10.3 step 8).

    Args:
        bindings: The bindings.
        now: The time.
        uri: The address-of-record, as the phone spells it.
        aor: Its key.
        gruus: Makes the GRUUs of the Contacts (RFC 5627 §5.2). None if the phone knows none.
    """
    texts = []
    for b in bindings:
        contact = b.contact
        if gruus is not None:
            one, other = public(uri, b), gruus.temporary(uri, aor, b)
            if one is not None and other is not None:
                contact = contact.with_params({"pub-gruu": str(one), "temp-gruu": str(other)})
        parameters = str(contact.parameters)
        display = f"{quote(contact.display)} " if contact.display else ""
        text = f"{display}<{contact.uri}>{parameters}"
        expires = f";expires={max(1, round(b.expires_at - now))}"
        given = _EXPIRES(parameters) if parameters else None
        if given:
            at = len(text) - len(parameters)
            text = text[: at + given.end(1)] + expires + text[at + given.end() :]
        else:
            text += expires
        texts.append(text)
    return texts


# The text before the expires parameter, and the parameter. A quoted text may have semicolons.
_EXPIRES = re.compile(
    rf"((?:{QUOTED}|[^\"])*?);[ \t]*expires[ \t]*(?:=[^;]*)?(?=;|\Z)", re.IGNORECASE | re.DOTALL
).match


def supports_gruu(fields: Mapping[str, object]) -> bool:
    """True when the sender of a request with these header fields supports GRUUs (RFC 5627 §4.2)."""
    text = f"{fields.get('Supported', '')},{fields.get('Require', '')}".lower()
    return TAG in text


def without_gruus(contact: NameAddr) -> NameAddr:
    """Return a Contact without the GRUUs that a phone suggests (RFC 5627 §5.1)."""
    parameters = contact.parameters
    if "pub-gruu" not in parameters and "temp-gruu" not in parameters:
        return contact
    return contact._replace(parameters=parameters.without("pub-gruu", "temp-gruu"))


def route(text: str) -> NameAddr:
    """Return a value of Service-Route. Raises InvalidValue for a URI without lr (RFC 3608 §6.3)."""
    address = given_address("service_route", text if text.startswith("<") else f"<{text}>")
    if not address.uri.is_sip or "lr" not in address.uri.parameters:
        raise InvalidValue(
            f"service_route must have SIP URIs with lr, got {excerpt(text)}: "
            'write ("sip:proxy.example.com;lr",)'
        )
    return address
