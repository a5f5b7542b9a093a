"""Hypothesis strategies: URIs, addresses, header values, messages, and damaged messages.

    from hypothesis import given
    from sippet_gevent.testing import strategies

    @given(strategies.request(method="INVITE"))
    def test_core_answers_any_invite(request): ...

    @given(strategies.mangled())
    def test_server_survives_damaged_messages(data): ...

They draw what the grammar of RFC 3261 §25.1 allows, usual and unusual: escapes, quotes, IPv6,
compact forms. Only mangled() draws more than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, TypeVar, get_type_hints, overload

from ..errors import InvalidValue
from ..message import iana
from ..message.address import STAR, BracketedAddr, Contact, NameAddr
from ..message.fields.authentication import AuthParameters, Challenge
from ..message.fields.p_headers import ServedUser
from ..message.fields.refer import ReferredBy, ReferTo
from ..message.fields.rfc3261 import (
    CallID,
    CSeq,
    Date,
    DeltaSeconds,
    MaxForwards,
    MediaType,
    MimeVersion,
    Number,
    RAck,
    RetryAfter,
    SessionExpires,
    Text,
    Timestamp,
    Token,
    Valued,
    Warning,
)
from ..message.header import LINES, ONE, ROWS, Header
from ..message.message import Request, Response
from ..message.parameters import Parameters, URIHeaders, URIParameters
from ..message.scan import canonical
from ..message.uri import URI
from ..message.via import Via

try:
    from hypothesis import strategies as st
    from hypothesis.strategies import DrawFn, SearchStrategy
except ImportError as error:
    raise ImportError(
        "these strategies need Hypothesis: pip install 'sippet-gevent[test]'"
    ) from error

from .damage import DAMAGES
from .samples import SAMPLES

__all__ = [
    "DAMAGES",
    "METHODS",
    "NEEDED",
    "VALUES",
    "header_texts",
    "header_values",
    "host",
    "mangled",
    "message",
    "name_addr",
    "parameters",
    "request",
    "response",
    "sip_uri",
    "spelled",
    "text",
    "token",
    "uri",
    "value_of",
    "via",
]

T = TypeVar("T")
V = TypeVar("V")
P = TypeVar("P", bound=Parameters)
M = TypeVar("M", Request, Response)

METHODS = tuple(iana.METHODS)
NEEDED = ("Via", "From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length")
"""Header fields of each message that request() and response() draw; `headers` adds others."""

_TOKEN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%*_+`'~"
_ALPHANUM = _TOKEN[:62]
_DIGITS = "0123456789"


# ---- the small pieces


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
    label = st.text(_ALPHANUM, min_size=1, max_size=8)
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
_NUMBERS = st.sampled_from([0, 1, 70, 2**31 - 1, 2**32 - 1]) | st.integers(0, 2**32 - 1)
_CSEQS = st.sampled_from([0, 1, 2**31 - 1]) | st.integers(0, 2**31 - 1)
_METHODS = st.sampled_from(METHODS) | token()
_SEPARATORS = st.sampled_from(["<urn:x:y>", "a;tag=b", "a, b", '"', 'a"<', ">\\", '"a"'])
"""Texts with characters that are no separators within quotes."""


def parameters(**usual: SearchStrategy[object]) -> SearchStrategy[Parameters]:
    """Draw the parameters of a header value: some of the `usual` ones, and some unknown ones.

    A parameter whose value is None has no value. Text that is no token is written in quotes.

        parameters(q=st.sampled_from(["0.5", "1"]))
    """
    return _parameters(Parameters, token(), st.none() | token() | _SEPARATORS | text(), usual)


def _parameters(
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
    names = st.text(_ALPHANUM + "-_.!~*'()[]/:&+$", min_size=1, max_size=8)
    header_names = st.text(_ALPHANUM + "-_.!~*'()[]/?:+$", min_size=1, max_size=8)
    return st.builds(
        lambda uri, parameters, headers, password: uri._replace(
            parameters=parameters, headers=headers, password=password if uri.user else None
        ),
        sip_uri(schemes=schemes, hosts=hosts, users=users, plain=True),
        _parameters(URIParameters, names, st.none() | _URI_TEXT, usual),
        _parameters(URIHeaders, header_names, _URI_TEXT, {"subject": _URI_TEXT}),
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


# ---- a value for every header


_WORD = st.text(_ALPHANUM + "-.!%*_+`'~()<>:\\\"/[]?{}", min_size=1, max_size=20)
_COMMENT = st.recursive(
    st.text(_ALPHANUM + " ,;é", max_size=10),
    lambda inner: st.builds("{0}({1})".format, inner, inner),
    max_leaves=3,
).map(lambda drawn: drawn.strip(" "))
_VALUED = [
    "en",
    "en-gb",
    "*",
    "gzip",
    "active",
    "presence",
    "SIP",
    "emergency",
    "<https://a.example/x,y;z>",
    '"a, b"',
]
_DATES = st.datetimes(
    datetime(1900, 1, 1), datetime(9999, 12, 31), timezones=st.just(timezone.utc)
).map(lambda drawn: drawn.replace(microsecond=0))
_AUTH_USUAL: dict[str, SearchStrategy[object]] = {
    "realm": text(),
    "nonce": token(),
    "username": text(),
    "response": st.text("0123456789abcdef", min_size=32, max_size=32),
    "uri": sip_uri(plain=True).map(str),
    "algorithm": st.sampled_from(["MD5", "SHA-256", "MD5-sess"]),
    "qop": st.sampled_from(["auth", "auth,auth-int"]),
    "nc": st.just("00000001"),
    "stale": st.sampled_from(["true", "FALSE"]),
}
_AUTH = _parameters(AuthParameters, token(), token() | text(), _AUTH_USUAL).filter(len)
_DECIMAL = st.builds(
    "{0}{1}".format, st.integers(0, 10**9), st.just("") | st.integers(0, 999).map(".{}".format)
)

# Any: each strategy draws values of its key
VALUES: dict[type, SearchStrategy[Any]] = {
    str: text(),
    int: _NUMBERS,
    Parameters: parameters(),
    URI: uri(),
    NameAddr: name_addr(),
    BracketedAddr: name_addr(),
    Contact: name_addr(
        usual={
            "q": st.sampled_from(["0", "0.5", "1.000"]),
            "expires": st.integers(0, 2**32 - 1),
            "+sip.instance": st.uuids().map("<urn:uuid:{}>".format),
        }
    ),
    Via: via(),
    CSeq: st.builds(CSeq, _CSEQS, _METHODS),
    RAck: st.builds(RAck, _NUMBERS, _CSEQS, _METHODS),
    Number: _NUMBERS.map(Number),
    MaxForwards: st.integers(0, 255).map(MaxForwards),
    DeltaSeconds: _NUMBERS.map(DeltaSeconds),
    Token: token().map(Token),
    CallID: st.builds(
        lambda left, right: CallID(f"{left}@{right}" if right else left), _WORD, st.just("") | _WORD
    ),
    Text: text().map(Text),
    Valued: st.builds(
        Valued,
        st.sampled_from(_VALUED) | token(),
        parameters(q=st.sampled_from(["0.5", "1"]), cause=st.integers(100, 699)),
    ),
    MediaType: st.builds(
        lambda major, minor, drawn: MediaType(major.lower(), minor.lower(), drawn),
        st.sampled_from(["application", "text", "*"]) | token(),
        st.sampled_from(["sdp", "plain", "*"]) | token(),
        parameters(charset=token(), boundary=text()),
    ),
    Challenge: st.builds(
        Challenge, st.sampled_from(["Digest", "Basic", "Bearer"]) | token(), _AUTH
    ),
    AuthParameters: _AUTH,
    RetryAfter: st.builds(RetryAfter, _NUMBERS, _COMMENT, parameters(duration=_NUMBERS)),
    SessionExpires: st.builds(
        SessionExpires, _NUMBERS, parameters(refresher=st.sampled_from(["uac", "uas"]))
    ),
    Timestamp: st.builds(Timestamp, _DECIMAL, st.none() | _DECIMAL),
    Warning: st.builds(Warning, st.integers(100, 999), host() | token(), text()),
    MimeVersion: st.builds(MimeVersion, st.integers(0, 99), st.integers(0, 99)),
    Date: _DATES,
}
"""Strategies of one value, by the type in the row of a header field. value_of() looks here first.

Add one for a type of your own if its shape alone draws values that parse() refuses.
"""


# Any: the type of a row, with a parse() that the type checker cannot see
def _sampled(kind: Any, texts: Iterable[str]) -> SearchStrategy[Any]:
    """Draw one of these values, as it is, or with further parameters if its type accepts them."""
    spelled = st.builds(
        "{0}{1}".format, st.sampled_from(list(texts)), st.just("") | parameters().map(str)
    )
    return spelled.filter(lambda drawn: _is_read(kind.parse, drawn)).map(kind.parse)


VALUES.update(
    {ROWS[name].type: _sampled(ROWS[name].type, texts) for name, texts in SAMPLES.items()}
)


def value_of(kind: type[V]) -> SearchStrategy[V]:
    """Draw one value of a type, such as the type in the row of a header field.

    VALUES has the strategies of most types. Otherwise the shape of the type decides. The fields of
    a NamedTuple get values of their types. A subclass of str or int gets the tokens or numbers that
    its parse() accepts.

        value_of(CSeq)

    Raises:
        LookupError: the type has no strategy and no such shape.
    """
    if kind in VALUES:
        return VALUES[kind]
    parse = getattr(kind, "parse", kind)
    if isinstance(kind, type) and (names := getattr(kind, "_fields", ())):
        hints = get_type_hints(kind)
        fields = {name: _field(hints.get(name, str)) for name in names}
        return st.builds(kind, **fields).filter(lambda drawn: _is_read(parse, str(drawn)))
    for shape, texts in ((int, _NUMBERS.map(str)), (str, token() | text())):
        if isinstance(kind, type) and issubclass(kind, shape):
            return texts.filter(lambda drawn: _is_read(parse, drawn)).map(parse)
    raise LookupError(
        f"no strategy for {kind!r}: add a strategy for it to "
        "sippet_gevent.testing.strategies.VALUES"
    )


# Any: a type hint may be a type or a union
def _field(hint: Any) -> SearchStrategy[Any]:
    """Draw a value for the field of a NamedTuple. The hint of a field may include None."""
    either = getattr(hint, "__args__", ())
    if type(None) in either:
        return st.none() | st.one_of(*[_field(part) for part in either if part is not type(None)])
    return token() if hint is str else value_of(hint)


def _is_read(parse: Callable[[str], object], spelled: str) -> bool:
    try:
        parse(spelled)
    except (ValueError, InvalidValue):
        return False
    return True


@overload
def header_values(row: Header[V | None], *, max_size: int = 3) -> SearchStrategy[V]: ...
@overload
def header_values(row: Header[T], *, max_size: int = 3) -> SearchStrategy[T]: ...
@overload
def header_values(row: str, *, max_size: int = 3) -> SearchStrategy[Any]: ...
def header_values(row: Header[Any] | str, *, max_size: int = 3) -> SearchStrategy[Any]:
    """Draw the value of a header attribute: one typed value, or a tuple of values.

    The type in the row decides (see value_of). So header fields of your own, which
    register_header() adds, have values too.

        header_values(Request.contact)
        header_values("Max-Forwards")

    Args:
        row: the attribute of Request, or a name, compact forms included.
        max_size: most values in a tuple.

    Raises:
        LookupError: the name is no known header field, or its type has no strategy.
    """
    known = _row_of(row)
    return _values_of(value_of(known.type), known, max_size)


@lru_cache(1024)
def _values_of(one: SearchStrategy[Any], row: Header[Any], max_size: int) -> SearchStrategy[Any]:
    if row.kind is ONE:
        return one
    if row.commas and isinstance(row.type, type) and issubclass(row.type, str):
        # A list of such text is cut at commas, so no value has one. Most have no quotes and
        # brackets either, because a comma between them does not cut.
        kept_out = set("," if hasattr(row.type, "cut") else ',"<>')
        one = one.filter(lambda drawn: drawn and not set(drawn) & kept_out)
    several = st.lists(one, min_size=1, max_size=max_size).map(tuple)
    return several | st.just((STAR,)) if row.type is Contact else several


def header_texts(row: Header[Any] | str, *, max_size: int = 3) -> SearchStrategy[str]:
    """Draw the text of one header line, as a peer may write it.

    Several values are joined by commas. Addresses are with and without angle brackets, if the
    grammar allows both. The arguments are those of header_values().
    """
    known = _row_of(row)
    if known.kind is LINES:
        max_size = 1
    texts = header_values(known, max_size=max_size).map(lambda value: ", ".join(known.write(value)))
    return texts.flatmap(lambda text: st.sampled_from([text, *_without_brackets(known, text)]))


_ADDR_SPEC = (NameAddr, Contact, ReferTo, ReferredBy, ServedUser)
"""Types whose grammar is ( name-addr / addr-spec )."""


def _without_brackets(row: Header[Any], text: str) -> list[str]:
    """Return the text of a line with an addr-spec in place of each name-addr that can be one.

    Return an empty list if there is none (§20.10).
    """
    if row.type not in _ADDR_SPEC:
        return []
    there = row.read([text])
    written = [
        _addr_spec(value)
        for value in (there if isinstance(there, tuple) and row.commas else (there,))
    ]
    changed = ", ".join(written)
    return [changed] if changed != text else []


def _addr_spec(value: object) -> str:
    if isinstance(value, NameAddr) and not value.display and not set(str(value.uri)) & set(",?;"):
        return f"{value.uri}{value.parameters}"
    return str(value)


def _row_of(row: Header[Any] | str) -> Header[Any]:
    if isinstance(row, Header):
        return row
    name = canonical(row)
    if name not in ROWS:
        raise LookupError(
            f"{row!r} is no known header field: add it with register_header(), or write its name"
        )
    return ROWS[name]


# ---- messages


@st.composite
def request(
    draw: DrawFn,
    /,
    *,
    method: str | SearchStrategy[str] | None = None,
    uri: URI | str | SearchStrategy[URI] | SearchStrategy[str] | None = None,
    body: bytes | str | SearchStrategy[bytes] | None = None,
    extra: int = 4,
    **headers: object,
) -> Request:
    """Draw a request that parse() accepts, with the mandatory header fields (§8.1.1).

    Each argument may be a value, or a strategy that draws it.

        request(method="REGISTER", contact="<sip:me@192.0.2.1>", expires=st.integers(0, 3600))

    Args:
        method: the method. By default most are known ones.
        uri: the Request-URI.
        body: the body. It gets a Content-Type, unless `headers` has one.
        extra: most header fields that are added to the mandatory ones.
        headers: header fields as Request takes them. None leaves one out.
    """
    name = _drawn(draw, method, _METHODS)
    made = Request(name, _drawn(draw, uri, _URIS), body=_drawn(draw, body, _BODIES))
    made.max_forwards = draw(VALUES[MaxForwards])
    return _filled(draw, made, name, extra, headers)


@st.composite
def response(
    draw: DrawFn,
    /,
    *,
    status: int | SearchStrategy[int] | None = None,
    method: str | SearchStrategy[str] | None = None,
    body: bytes | str | SearchStrategy[bytes] | None = None,
    extra: int = 4,
    **headers: object,
) -> Response:
    """Draw a response that parse() accepts.

    To answer a request of yours, call its response(), which copies the fields that §8.2.6.2 wants.

    Args:
        status: the status code. By default most are usual ones.
        method: the method of the request, for the CSeq.
        body: as for request().
        extra: as for request().
        headers: as for request().
    """
    phrase = draw(st.none() | text())
    made = Response(_drawn(draw, status, _STATUSES), phrase, body=_drawn(draw, body, _BODIES))
    return _filled(draw, made, _drawn(draw, method, _METHODS), extra, headers)


_VIAS = st.lists(VALUES[Via], min_size=1, max_size=3)
_FROM = name_addr(tag=True)
_MAYBE = st.booleans()
_URIS = sip_uri()
_BODIES = st.just(b"") | st.just(b"v=0\r\n") | st.binary(max_size=60)
_STATUSES = st.sampled_from(
    [100, 180, 183, 200, 202, 302, 401, 404, 486, 500, 503, 603]
) | st.integers(100, 699)


# Any: a value of the user, or a strategy of one
def _drawn(draw: DrawFn, option: Any, otherwise: SearchStrategy[Any]) -> Any:
    if option is None:
        return draw(otherwise)
    return draw(option) if isinstance(option, SearchStrategy) else option


def _filled(draw: DrawFn, message: M, method: str, extra: int, given: dict[str, object]) -> M:
    """Give a message the mandatory header fields, some others, and those that were `given`."""
    message.via = draw(_VIAS)
    message.from_ = draw(_FROM)
    message.to = draw(VALUES[NameAddr])
    message.call_id = draw(VALUES[CallID])
    message.cseq = CSeq(draw(_CSEQS), method)
    if message.body:
        message.content_type = draw(VALUES[MediaType])
    others = sorted(ROWS.keys() - set(NEEDED))
    for name in draw(st.lists(st.sampled_from(others), max_size=extra, unique=True)):
        message.headers.assign(ROWS[name], draw(header_values(name)))
    if extra > 0 and draw(_MAYBE):
        message.headers[f"X-{draw(token())}"] = draw(text())
    for attribute, option in given.items():
        setattr(message, attribute, draw(option) if isinstance(option, SearchStrategy) else option)
    return message


def message() -> SearchStrategy[Request | Response]:
    """Draw a request or a response."""
    return request() | response()


@st.composite
def spelled(draw: DrawFn, /, of: SearchStrategy[Request | Response] | None = None) -> bytes:
    """Draw the bytes of a valid message, in the spellings that peers choose (§7.3.1).

    These are compact forms, any case, spaces round the colon and at the end, lines folded at a
    space, and addresses without brackets. `of` draws the message, by default message().
    """
    drawn = draw(message() if of is None else of)
    head, _, body = bytes(drawn).partition(b"\r\n\r\n")
    start, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    written = [start]
    for line in lines:
        name, _, value = line.partition(": ")
        row = ROWS.get(name)
        if row is not None:
            value = draw(st.sampled_from([value, *_without_brackets(row, value)]))
        names = [
            name,
            name.upper(),
            name.lower(),
            *([row.compact] if row is not None and row.compact else []),
        ]
        colon = draw(st.sampled_from([": ", ": ", ":", " : ", ":\t", "\t :  "]))
        blanks = [
            at
            for at in range(1, len(value) - 1)
            if value[at] == " " and not {value[at - 1], value[at + 1]} & set(" \t")
        ]
        if draw(_MAYBE) and blanks:
            at = draw(st.sampled_from(blanks))
            value = (
                value[:at] + draw(st.sampled_from(["\r\n ", "\r\n\t", " \r\n  "])) + value[at + 1 :]
            )
        written.append(
            draw(st.sampled_from(names))
            + colon
            + value
            + draw(st.sampled_from(["", "", " ", "\t "]))
        )
    return "\r\n".join([*written, "", ""]).encode("utf-8", "surrogateescape") + body


@st.composite
def mangled(
    draw: DrawFn,
    /,
    *,
    of: SearchStrategy[bytes] | None = None,
    damages: Iterable[str] = tuple(DAMAGES),
    most: int = 3,
) -> bytes:
    """Draw bytes of a damaged message. Most are malformed, and some happen to be valid.

    Args:
        of: a strategy for the bytes before the damage, by default spelled().
        damages: the kinds of damage to choose from, keys of DAMAGES.
        most: most damages of one message.
    """
    data = draw(spelled() if of is None else of)
    for damage in draw(st.lists(st.sampled_from(list(damages)), min_size=1, max_size=most)):
        data = DAMAGES[damage](draw, data)
    return data
