"""The domains that a certificate is valid for, without sockets."""

from __future__ import annotations

import pytest

from sippet_gevent.transport.certificate import identities, matches_sip_domain, matches_web_host

SIP, OTHER_SIP, USER = (
    ("URI", "sip:One.example"),
    ("URI", "sip:two.example"),
    ("URI", "sip:bob@one.example"),
)
DNS, IP = ("DNS", "Dns.example"), ("IP Address", "192.0.2.1")
COMMON = ((("commonName", "cn.example"),),)


@pytest.mark.rfc("5922 7.1")
@pytest.mark.parametrize(
    ("alternatives", "found"),
    [
        ((SIP, DNS), ("one.example",)),
        ((SIP, OTHER_SIP), ("one.example", "two.example")),
        ((USER, DNS), ("dns.example",)),
        ((USER,), ()),
        ((DNS,), ("dns.example",)),
        ((IP,), ()),
        ((("email", "bob@one.example"),), ()),
        ((("URI", "sip:One.example:5061;transport=tls"),), ("one.example",)),
        ((), ("cn.example",)),
    ],
)
def test_identities_of_a_certificate(alternatives, found):
    assert identities({"subject": COMMON, "subjectAltName": alternatives}) == found


@pytest.mark.rfc("5922 7.2")
@pytest.mark.parametrize(
    ("asked", "matches"),
    [
        ("dns.example", True),
        ("DNS.Example.", True),
        ("a.dns.example", False),
        ("example", False),
        ("a.wild.example", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
    ],
)
def test_name_is_compared_whole_and_without_wildcards(asked, matches):
    assert (
        matches_sip_domain({"subjectAltName": (DNS, ("DNS", "*.wild.example"), IP)}, asked)
        is matches
    )


def test_broken_address_in_a_certificate_matches_no_host():
    broken = (
        "IP Address",
        "<invalid>",
    )  # as ssl shows an entry that is neither 4 nor 16 bytes long
    assert not matches_sip_domain({"subjectAltName": (broken,)}, "192.0.2.1")
    assert matches_sip_domain({"subjectAltName": (broken, IP)}, "192.0.2.1")


@pytest.mark.rfc("6455 4.1")
@pytest.mark.parametrize(
    ("name", "proven"),
    [
        ("a.example.com", True),
        ("example.com", False),
        ("a.b.example.com", False),
        ("com", False),
        ("A.Example.com.", True),
    ],
)
def test_wildcard_of_a_web_certificate_stands_for_one_label(name, proven):
    assert matches_web_host({"subjectAltName": (("DNS", "*.example.com"),)}, name) is proven
