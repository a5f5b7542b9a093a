"""A short binding is not measured, because it is never over the limit."""

from __future__ import annotations

import pytest

from sippet_gevent import NameAddr
from sippet_gevent.core.registrar.registrar import ALWAYS_FITS, BINDING_BYTES
from sippet_gevent.stores.bindings import binding_bytes, compact

ROOM = ALWAYS_FITS - 20
TELEPHONE = "\U0001f4de"  # four bytes in memory, as each character beside it

CONTACTS = {
    "plain": f"<sip:{'a' * (ROOM - 20)}@h.example>",
    "wide display name": f'"{TELEPHONE * (ROOM - 30)}" <sip:a@h.example>',
    "escaped user": f"<sip:{'%41%3b' * ((ROOM - 40) // 6)}@h.example>",
    "wide escaped user": f"<sip:{'%f0%9f%93%9e' * ((ROOM - 40) // 12)}@h.example>",
    "URI parameters": f"<sip:a@h.example{';a=b' * 50}>",
    "parameters": f"<sip:a@h.example>{';a=b' * 50}",
    "URI headers": f"<sip:a@h.example?{'&'.join(['a=b'] * 50)}>",
}


@pytest.mark.parametrize("text", CONTACTS.values(), ids=CONTACTS)
def test_longest_contact_that_is_not_measured_fits(text):
    call_id = "c" * (ALWAYS_FITS - len(text))
    assert len(text) + len(call_id) == ALWAYS_FITS
    assert binding_bytes(compact(NameAddr.parse(text)), (), call_id) <= BINDING_BYTES
