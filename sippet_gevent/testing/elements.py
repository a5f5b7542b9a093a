"""Strategies of grammar elements: tokens, text, hosts, parameters, URIs, addresses, Via."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ..message import iana
from ..message.address import NameAddr
from ..message.parameters import Parameters, URIHeaders, URIParameters
from ..message.uri import URI
from ..message.via import Via

P = TypeVar("P", bound=Parameters)

METHODS = tuple(iana.METHODS)

_TOKEN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%*_+`'~"
ALPHANUM = _TOKEN[:62]
_DIGITS = "0123456789"


def token(max_size: int = 12) -> SearchStrategy[str]:
    """Draw a token (RFC 3261 §25.1) of up to `max_size` characters."""
    return st.text(_TOKEN, min_size=1, max_size=max_size)


def text(max_size: int = 20) -> SearchStrategy[str]:
    """Draw text for a header line, without CR, LF, NUL and surrogates, and without spaces at its
    ends."""
    anything = st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"])
    return st.text(anything | st.sampled_from('"\\<>,;:@ %é漢'), max_size=max_size).map(
        lambda drawn: drawn.strip(" \t")
    )


def host() -> SearchStrategy[str]:
    """Draw a host: a name, an IPv4 address, or an IPv6 address in brackets."""
    label = st.text(ALPHANUM, min_size=1, max_size=8)
    name = st.builds(".".join, st.lists(label, min_size=1, max_size=3))
    return st.one_of(
        st.sampled_from(
            ["example.com", "192.0.2.1", "[2001:db8::1]", "a-b.example.org.", "EXAMPLE.COM"]
        ),
        name,
        st.ip_addresses(v=4).map(str),
        st.ip_addresses(v=6).map("[{}]".format),
    )


_PORTS = st.none() | st.sampled_from([1, 5060, 5061, 65535]) | st.integers(1, 65535)
NUMBERS = st.sampled_from([0, 1, 70, 2**31 - 1, 2**32 - 1]) | st.integers(0, 2**32 - 1)
CSEQS = st.sampled_from([0, 1, 2**31 - 1]) | st.integers(0, 2**31 - 1)
KNOWN_OR_ANY_METHOD = st.sampled_from(METHODS) | token()
_SEPARATORS = st.sampled_from(["<urn:x:y>", "a;tag=b", "a, b", '"', 'a"<', ">\\", '"a"'])
"""Texts with characters that separate values, unless they are within quotes."""


def parameters(**usual: SearchStrategy[object]) -> SearchStrategy[Parameters]:
    """Draw the parameters of a header value: some of the `usual` ones, and some unknown ones.

    None as a value makes a parameter without a value, `;lr`. Text that is not a token is written in
    quotes.

        parameters(q=st.sampled_from(["0.5", "1"]))
    """
    return parameters_of(Parameters, token(), st.none() | token() | _SEPARATORS | text(), usual)


def parameters_of(
    kind: type[P],
    names: SearchStrategy[str],
    values: SearchStrategy[object],
    usual: dict[str, SearchStrategy[object]],
) -> SearchStrategy[P]:
    known = {name.lower() for name in usual}
    odd = st.lists(
        st.tuples(names.filter(lambda name: name.lower() not in known), values),
        max_size=2,
        unique_by=lambda pair: pair[0].lower(),
    )
    some = st.fixed_dictionaries({}, optional=usual).map(lambda drawn: list(drawn.items()))
    return st.builds(lambda first, last: kind([*first, *last]), some, odd)


_URI_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


def sip_uri(
    *,
    schemes: Iterable[str] = ("sip", "sips"),
    hosts: SearchStrategy[str] | None = None,
    users: SearchStrategy[str | None] | None = None,
    plain: bool = False,
) -> SearchStrategy[URI]:
    """Draw a SIP or SIPS URI (RFC 3261 §19.1). Its `str()` parses as an equal URI.

    Args:
        schemes: the schemes to choose from.
        hosts: a strategy for the host.
        users: a strategy for the user. None as a user leaves it out.
        plain: True for URIs without password, parameters and header fields.
    """
    users = (
        st.none() | st.sampled_from(["alice", "+15551234", "a;b?c"]) | _URI_TEXT
        if users is None
        else users
    )
    hosts = host() if hosts is None else hosts
    if plain:
        return st.tuples(st.sampled_from(list(schemes)), users, hosts, _PORTS).map(
            lambda drawn: URI(*drawn)
        )
    usual: dict[str, SearchStrategy[object]] = {
        "transport": st.sampled_from(["udp", "TCP", "tls", "ws"]),
        "lr": st.none() | st.just("on"),
        "user": st.sampled_from(["phone", "ip"]),
        "ttl": st.integers(0, 255),
        "maddr": host(),
        "method": st.sampled_from(METHODS),
    }
    names = st.text(ALPHANUM + "-_.!~*'()[]/:&+$", min_size=1, max_size=8)
    header_names = st.text(ALPHANUM + "-_.!~*'()[]/?:+$", min_size=1, max_size=8)
    return st.builds(
        lambda uri, parameters, headers, password: uri._replace(
            parameters=parameters, headers=headers, password=password if uri.user else None
        ),
        sip_uri(schemes=schemes, hosts=hosts, users=users, plain=True),
        parameters_of(URIParameters, names, st.none() | _URI_TEXT, usual),
        parameters_of(URIHeaders, header_names, _URI_TEXT, {"subject": _URI_TEXT}),
        st.none() | _URI_TEXT,
    )


def uri() -> SearchStrategy[URI]:
    """Draw a URI of any scheme: mostly SIP, also tel (RFC 3966), urn, mailto and https."""
    tel = st.builds(
        lambda number: URI("tel", f"+{number}"), st.text(_DIGITS + "-.()", min_size=1, max_size=15)
    )
    others = {"urn": "service:sos", "mailto": "a@example.com", "https": "//a.example/"}
    other = st.sampled_from([URI(scheme, opaque=opaque) for scheme, opaque in others.items()])
    return st.one_of(sip_uri(), sip_uri(), tel, other)


def name_addr(
    *,
    uris: SearchStrategy[URI] | None = None,
    tag: str | bool | None = None,
    usual: dict[str, SearchStrategy[object]] | None = None,
) -> SearchStrategy[NameAddr]:
    """Draw an address, as in From, To, Contact and Route (RFC 3261 §20.10).

    Args:
        uris: a strategy for the URI.
        tag: True for any tag, False for none, text for that tag, None for a tag in some addresses.
        usual: strategies for further parameters, by name.
    """
    tags: dict[str, SearchStrategy[object]] = {} if tag is False else {"tag": token()}
    drawn = parameters(**tags, **(usual or {}))
    if tag is True:
        drawn = st.builds(lambda made, value: made.replace(tag=value), drawn, token())
    elif tag is False:
        drawn = drawn.map(lambda made: made.without("tag"))
    elif tag is not None:
        drawn = drawn.map(lambda made: made.replace(tag=tag))
    display = (
        st.just("")
        | st.sampled_from(["Alice", "The Operator", 'Mr. "J" User', "Ä", "a\\b"])
        | text()
    )
    return st.builds(NameAddr, uri() if uris is None else uris, display, drawn)


def via() -> SearchStrategy[Via]:
    """Draw one Via value. Most have a branch with the magic cookie."""
    branch = token().map(lambda drawn: f"z9hG4bK{drawn}") | token()
    usual: dict[str, SearchStrategy[object]] = {
        "branch": branch,
        "rport": st.none() | st.integers(1, 65535),
        "received": st.ip_addresses().map(str),
        "ttl": st.integers(0, 255),
    }
    transports = st.sampled_from(["UDP", "UDP", "TCP", "TLS", "WS", "WSS", "SCTP"])
    return st.builds(Via, transports, host(), _PORTS, parameters(**usual))
