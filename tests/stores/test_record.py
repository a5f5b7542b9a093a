"""Records: what goes in comes out; what is damaged or of a later version is told apart, and nothing of it is lost."""

from __future__ import annotations

import zlib

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sippet_gevent import NameAddr, SIPError
from sippet_gevent.stores import record
from sippet_gevent.stores.bindings import Binding, FlowName, compact
from sippet_gevent.stores.record import UnreadableRecord, pack, unpack
from sippet_gevent.testing.header_values import value_of

BOB = NameAddr.parse(
    "<sip:bob@192.0.2.4:5062;transport=tcp;ob>;q=0.7;expires=600"
    ';+sip.instance="<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>";reg-id=1'
)
EDGE = NameAddr.parse("<sip:edge.example.com;lr;ob>")
FULL = Binding(
    BOB.uri, 1.8e9, "a84b4c76e66710", 17, BOB, (EDGE,), FlowName("n7", "tcp/3"), True, listener="l1"
)
PLAIN = Binding(BOB.uri, 1.8e9 + 0.25, "1@h", 0, BOB)

texts = st.text(st.characters(codec="utf-8"), max_size=20)
names = st.builds(FlowName, texts, texts)
addresses = value_of(NameAddr)
unknown = st.dictionaries(
    texts.filter(lambda name: name not in record.FIELDS),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | texts | st.binary(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.integers(0, 9), inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)  # fmt: skip


@st.composite
def bindings(draw):
    contact = draw(addresses)
    return Binding(
        draw(st.just(contact.uri) | addresses.map(lambda other: other.uri)),
        draw(st.floats(allow_nan=False, allow_infinity=False)),
        draw(texts),
        draw(st.integers(0, 2**31 - 1)),
        contact,
        tuple(draw(st.lists(addresses, max_size=2))),
        draw(st.none() | names),
        draw(st.booleans()),
        listener=draw(texts),
        unknown=tuple((name, msgpack.packb(value)) for name, value in draw(unknown).items()),
    )


def later(fields, version=2, least=1):
    """Return a record as another version may write it."""
    head, body = bytes((version, least)), msgpack.packb(fields)
    return head + zlib.crc32(head + body).to_bytes(4, "big") + body


@settings(max_examples=40)
@given(st.lists(bindings(), max_size=4).map(tuple))
@example((FULL, PLAIN))
@example(())
def test_bindings_are_read_as_they_were_packed(given_):
    assert unpack(pack(given_)) == given_
    assert pack(unpack(pack(given_))) == pack(given_)


@settings(max_examples=40)
@given(bindings())
@example(FULL)
def test_compact_binding_is_read_as_it_was_packed(binding):
    contact = compact(binding.contact)
    binding = binding._replace(contact=contact, uri=contact.uri)
    (found,) = unpack(pack((binding,)))
    assert found == binding
    assert str(found.contact) == str(binding.contact)


def test_contact_is_kept_byte_for_byte():
    text = '"Bob \\"the\\" B" <sip:b%6Fb@192.0.2.4:5062;Transport=TCP;OB>;Q=0.70;+SIP.Instance="<urn:uuid:AB>"'
    contact = NameAddr.parse(text)
    (found,) = unpack(pack((PLAIN._replace(contact=contact, uri=contact.uri),)))
    assert str(found.contact) == text


def test_bytes_of_a_phone_that_are_not_utf_8_are_kept():
    sent = b'"Jos\xe9" <sip:jos\xe9@192.0.2.1>;x="\xff"'.decode("utf-8", "surrogateescape")
    contact = NameAddr.parse(sent)
    binding = Binding(contact.uri, 1.0, "caf\udce9", 1, contact)
    (kept,) = unpack(pack((binding,)))
    assert kept == binding
    assert str(kept.contact) == str(contact)


def test_record_of_one_usual_phone_takes_few_bytes():
    contact = NameAddr.parse("<sip:alice@192.0.2.101:5060;transport=udp;line=abcdef0123>")
    binding = Binding(contact.uri, 1.8e9, "a84b4c76e66710@192.0.2.101", 4711, contact)
    assert len(pack((binding,))) <= len(str(contact)) + len(binding.call_id) + 35


@settings(max_examples=40)
@given(st.lists(bindings(), max_size=2).map(tuple), st.data())
@example((FULL,), None)
def test_truncated_record_is_unreadable(given_, data):
    packed = pack(given_)
    cuts = range(len(packed)) if data is None else [data.draw(st.integers(0, len(packed) - 1))]
    for cut in cuts:
        with pytest.raises(UnreadableRecord):
            unpack(packed[:cut])


@given(st.integers(min_value=0), st.integers(1, 255))
def test_record_with_a_changed_byte_is_unreadable(place, change):
    packed = bytearray(pack((FULL, PLAIN)))
    packed[place % len(packed)] ^= change
    with pytest.raises(UnreadableRecord):
        unpack(bytes(packed))


@given(st.binary(max_size=64), st.booleans())
def test_anything_else_is_unreadable_and_raises_nothing_else(body, has_checksum):
    data = b"\x01\x01" + zlib.crc32(b"\x01\x01" + body).to_bytes(4, "big") + body
    try:
        assert type(unpack(data if has_checksum else body)) is tuple
    except UnreadableRecord:
        pass


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | texts | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(sorted(record.FIELDS)), VALUES))
def test_fields_of_wrong_types_are_unreadable_and_raise_nothing_else(changes):
    (fields,) = msgpack.unpackb(pack((FULL,))[6:])
    try:
        (found,) = unpack(later([fields | changes]))
    except UnreadableRecord:
        return
    assert unpack(pack((found,))) == (found,)


@given(unknown)
@example({"gruu": ["a", 1], "x": {"y": None}})
def test_unknown_fields_of_a_later_version_are_kept(fields):
    (known,) = msgpack.unpackb(pack((FULL,))[6:])
    (found,) = unpack(later([known | fields]))
    assert found._replace(unknown=()) == FULL
    changed = found._replace(expires_at=1.9e9, cseq=18)
    (written,) = msgpack.unpackb(pack((changed,))[6:], strict_map_key=False)
    assert written == known | {"e": 1.9e9, "s": 18} | fields


def test_unknown_field_that_is_known_by_now_does_not_replace_the_value():
    (found,) = unpack(pack((PLAIN._replace(unknown=(("s", msgpack.packb(99)),)),)))
    assert found.cseq == PLAIN.cseq


def test_record_that_only_later_versions_can_read_names_both_versions():
    with pytest.raises(
        UnreadableRecord, match=r"version 3, which versions of 2 and later .* is version 1"
    ):
        unpack(later([], version=3, least=2))


def test_damaged_record_says_so():
    packed = pack((FULL,))
    with pytest.raises(UnreadableRecord, match="checksum"):
        unpack(packed[:-1] + b"?")
    with pytest.raises(UnreadableRecord, match="too few"):
        unpack(b"")
    assert issubclass(UnreadableRecord, SIPError)


def test_deeply_nested_record_is_unreadable():
    with pytest.raises(UnreadableRecord):
        head, body = b"\x01\x01", b"\x91" * 100_000 + b"\xc0"
        unpack(head + zlib.crc32(head + body).to_bytes(4, "big") + body)
