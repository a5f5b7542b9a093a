"""GRUUs: URIs that say for which user agent they are, RFC 5627."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sippet_gevent import URI, Binding
from sippet_gevent.message.address import NameAddr
from sippet_gevent.stores.gruu import Gruus, public

AOR = URI.parse("sip:alice@example.com")
UUID = "<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>"
GRUUS = Gruus(b"s" * 16)


def bound(instance=UUID, call_id="1", **more):
    text = (
        f'<sip:alice@192.0.2.1>;+sip.instance="{instance}"' if instance else "<sip:alice@192.0.2.1>"
    )
    contact = NameAddr.parse(text)
    return Binding(contact.uri, 1.0, call_id, 1, contact, **more)


@pytest.mark.rfc("5627 5.4")
def test_public_gruu_is_the_address_of_record_with_the_instance():
    gruu = public(URI.parse("sips:alice:secret@example.com:5061?a=b"), bound())
    assert str(gruu) == f"sips:alice@example.com:5061;gr={UUID[1:-1]}"
    assert GRUUS.read(gruu).reaches(bound())
    assert not GRUUS.read(gruu).reaches(bound(UUID.replace("f8", "f9")))
    assert GRUUS.read(
        URI.parse(str(gruu).upper().replace("SIPS:ALICE", "sips:alice").replace(";GR", ";gr"))
    )


@pytest.mark.rfc("5627 5.1")
def test_contact_without_an_instance_has_no_gruu():
    assert public(AOR, bound(None)) is None
    assert GRUUS.temporary(AOR, "sip:alice@example.com", bound(None)) is None


@pytest.mark.rfc("5627 3.1.2")
@settings(max_examples=100)
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300),
    st.sampled_from([UUID, UUID.upper(), "<urn:gsma:imei:90420156-025763-0>", "<x\u00e4>"]),
    st.text(max_size=50),
)
def test_temporary_gruu_is_read_as_what_it_was_made_for(aor, instance, call_id):
    binding = bound(instance, call_id)
    uri = GRUUS.temporary(AOR, aor, binding)
    assert uri.host == "example.com"
    read = GRUUS.read(URI.parse(str(uri)))
    assert read.aor == aor
    assert read.reaches(binding)
    assert not read.reaches(bound(instance, call_id + "x"))
    assert Gruus(b"t" * 16).read(uri) is None


@pytest.mark.rfc("5627 5.1")
def test_temporary_gruus_show_nothing_in_common():
    made = [
        GRUUS.temporary(AOR, f"sip:{name}@example.com", bound()).user
        for name in ("alice", "alice", "bob", "alice.longer")
    ]
    assert len({len(user) for user in made}) == 1
    assert len(set(made)) == 4
    common = sum(one == other for one, other in zip(made[0], made[1]))
    assert common < 25  # the prefix, and what chance brings


@pytest.mark.rfc("5627 6.1")
@pytest.mark.parametrize(
    "uri",
    ["sip:alice@example.com", "sip:alice@example.com;gr", "sip:tgruu.@example.com;gr",
     "sip:tgruu.AAAA@example.com;gr", "sip:tgruu.%ff@example.com;gr", "sip:example.com;gr"],
)  # fmt: skip
def test_other_uri_is_no_gruu(uri):
    assert GRUUS.read(URI.parse(uri)) is None


def test_temporary_gruu_with_any_letter_changed_is_none():
    uri = GRUUS.temporary(AOR, "sip:alice@example.com", bound())
    for place in range(6, len(uri.user) - 1):
        letter = "A" if uri.user[place] != "A" else "B"
        assert (
            GRUUS.read(uri._replace(user=uri.user[:place] + letter + uri.user[place + 1 :])) is None
        )
