"""Certificates: the domains that a certificate is valid for, RFC 5922 §7 for SIP and RFC 9525 §6
for the web. Pure."""

from __future__ import annotations

import ipaddress
from typing import TypedDict


class Certificate(TypedDict, total=False):
    """The fields read of a verified certificate, as `SSLSocket.getpeercert()` returns them."""

    subject: tuple[tuple[tuple[str, str], ...], ...]
    subjectAltName: tuple[tuple[str, str], ...]


def identities(certificate: Certificate) -> tuple[str, ...]:
    """Return the SIP domains that a verified certificate is valid for (RFC 5922 §7.1).

    They are the hosts of the `sip:` URIs in subjectAltName. Without these they are its DNS names,
    and without both the common name. Names are in lower case, without duplicates.
    """
    alternatives = certificate.get("subjectAltName", ())
    found = [
        domain for kind, value in alternatives if kind == "URI" and (domain := _domain_of(value))
    ]
    if not found:
        found = [value.lower() for kind, value in alternatives if kind == "DNS"]
    # A certificate with alternative names, none of which is a domain, identifies no domain. Its
    # common name must not change that.
    if not alternatives:
        found = [
            value.lower()
            for part in certificate.get("subject", ())
            for kind, value in part
            if kind == "commonName"
        ]
    return tuple(dict.fromkeys(found))


def _domain_of(uri: str) -> str:
    """Return the domain of a `sip:` URI without a user part, "" of any other URI.

    A URI with a user part identifies a user and no domain (RFC 5922 §7.1).
    """
    scheme, found, rest = uri.partition(":")
    if not found or scheme.lower() != "sip" or "@" in rest:
        return ""
    host = rest.partition(";")[0].partition("?")[0].lower()
    return host if host.startswith("[") else host.partition(":")[0]


def matches_sip_domain(certificate: Certificate, domain: str) -> bool:
    """Return True when a verified certificate is valid for a SIP domain (RFC 5922 §7.2).

    Names are compared whole, so a wildcard matches nothing. A numeric host must be among the
    iPAddress entries (RFC 5280 §4.2.1.6).
    """
    try:
        address = ipaddress.ip_address(domain.strip("[]"))
    except ValueError:
        return domain.lower().rstrip(".") in identities(certificate)
    alternatives = certificate.get("subjectAltName", ())
    found = [value for kind, value in alternatives if kind == "IP Address"]
    return address.packed in map(_packed, found)


def _packed(text: str) -> bytes | None:
    """Return the bytes of an iPAddress entry, None for one of a wrong length.

    The ssl module writes "<invalid>" for such an entry.
    """
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        return None


def matches_web_host(certificate: Certificate, host: str) -> bool:
    """Return True when a verified certificate is valid for a web server, as WebSockets need it.

    The rules of HTTPS apply, so `*.` matches one label (RFC 6455 §4.1, RFC 9525 §6.3).
    """
    if matches_sip_domain(certificate, host):
        return True
    _, dot, parent = host.lower().rstrip(".").partition(".")
    wildcards = [
        value.lower()
        for kind, value in certificate.get("subjectAltName", ())
        if kind == "DNS" and value.startswith("*.")
    ]
    return bool(dot) and "." in parent and f"*.{parent}" in wildcards
