"""The texts of the Contacts of a 200 to a REGISTER, RFC 3261 §10.3 step 8."""

import pytest

from sippet_gevent import Binding, NameAddr
from sippet_gevent.core.registrar.contacts import listed
from sippet_gevent.stores.bindings import compact


@pytest.mark.rfc("3261 10.3")
@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("<sip:bob@192.0.2.4>", "<sip:bob@192.0.2.4>;expires=90"),
        ("<sip:bob@192.0.2.4>;expires=7", "<sip:bob@192.0.2.4>;expires=90"),
        ("<sip:bob@192.0.2.4>;Expires=7;q=0.5", "<sip:bob@192.0.2.4>;expires=90;q=0.5"),
        ("<sip:bob@192.0.2.4>;q=0.5;expires=7", "<sip:bob@192.0.2.4>;q=0.5;expires=90"),
        ("<sip:bob@192.0.2.4>;expires", "<sip:bob@192.0.2.4>;expires=90"),
        ("<sip:bob@192.0.2.4;expires=7>", "<sip:bob@192.0.2.4;expires=7>;expires=90"),
        ("<sip:bob@192.0.2.4>;expires2=7", "<sip:bob@192.0.2.4>;expires2=7;expires=90"),
        ('"B" <sip:bob@192.0.2.4>;a="x;expires=7"', '"B" <sip:bob@192.0.2.4>;a="x;expires=7"'
         ";expires=90"),
        ('<sip:bob@192.0.2.4>;a="\\";expires=7";expires=3;b', '<sip:bob@192.0.2.4>;a="\\";'
         'expires=7";expires=90;b'),
    ],
)  # fmt: skip
def test_seconds_replace_the_expires_of_the_contact_alone(given, written):
    contact = compact(NameAddr.parse(given))
    binding = Binding(contact.uri, 190.0, "call", 1, contact)
    (text,) = listed((binding,), 100.0, contact.uri, "sip:bob@example.com", None)
    assert text == written
    assert NameAddr.parse(text) == NameAddr.parse(given).with_params(expires=90)
