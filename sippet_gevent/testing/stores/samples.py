"""Bindings and addresses-of-record for tests of stores."""

from __future__ import annotations

from ...message.address import NameAddr
from ...stores.bindings import Binding, FlowName

AORS = (
    "sip:alice@example.com",
    "sip:alice@example.com.",
    "sip:alice@example.co",
    "sip:Alice@example.com",
    "sip:alice%40home@example.com",
    "sip:a_ice@example.com",
    "sip:%@example.com",
    "sip:*@example.com",
    "sip:o'neill\"\\;--@example.com",
    "sip:{alice}:1\n2\t@example.com",
    "sip:alice @example.com ",
    "sip:ålice@exämple.com",
    "sip:a\u030alice@exämple.com",  # the same to the eye, and another text
    "sip:αλίκη@παράδειγμα.example",
    "sip:爱丽丝@例子.example",
    "sip:🙂@example.com",
    "sip:" + "a" * 4000 + "@example.com",
    "sip:" + "a" * 4000 + "b@example.com",
    "tel:+358-555-1234567",
    "0",
)
"""Different addresses-of-record. Each is the key of bindings of its own, compared as it is."""

CONTACTS = (
    "<sip:alice@192.0.2.1>",
    '"Alice \\"A\\" Ångström" <sip:alice@192.0.2.2:5070;transport=tcp;ob>;q=0.5;expires=600',
    "<sips:a%20lice:secret@[2001:db8::1]:5061?Subject=x%20y>;+sip.instance"
    '="<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>";reg-id=1',
    '爱丽丝 <sip:alice@host.example;method=INVITE;lr>;audio;x-empty=;x-quoted="a, b\\\\"',
    '<sip:abc.invalid;transport=ws>;methods="INVITE,BYE";+g.3gpp.icsi-ref="urn%3Aurn-7"',
    "<tel:+358-555-1234567;phone-context=+1>",
    "<mailto:alice@example.com>",
)
"""Contact values of different kinds, as REGISTER requests have them."""


def binding(
    contact: str = "<sip:alice@192.0.2.1>",
    now: float = 0.0,
    *,
    seconds: float = 3600.0,
    call_id: str = "phone",
    cseq: int = 1,
) -> Binding:
    """Return a binding of this Contact that ends so many seconds after `now`."""
    address = NameAddr.parse(contact)
    return Binding(address.uri, now + seconds, call_id, cseq, address)


def full_binding(contact: str, now: float, number: int) -> Binding:
    """Return a binding that has a value in each of its fields."""
    return binding(contact, now, call_id=f"é{number}@host", cseq=2**31 - 1 - number)._replace(
        path=(
            NameAddr.parse("<sip:Zm9v@edge.example;lr;ob>"),
            NameAddr.parse('"Edge" <sip:[2001:db8::2]:5070;lr>;x=1'),
        ),
        flow=FlowName("node 1", f"tcp:0:192.0.2.7:{number}"),
        by_flow_only=bool(number % 2),
        listener="udp:192.0.2.10:5060",
        unknown=(("push", b"\x81\xa1a\xc0"), ("später", b"\xc4\x02\x00\xff")),
    )


def shown(bindings: tuple[Binding, ...]) -> list[tuple[object, ...]]:
    """Return bindings as values that two stores agree about, for comparisons."""
    return [
        (
            str(b.uri), str(b.contact), round(b.expires_at, 3), b.call_id, b.cseq,
            tuple(map(str, b.path)), b.flow, b.by_flow_only, b.listener, b.unknown,
        )
        for b in bindings
    ]  # fmt: skip
