"""Hypothesis strategies: URIs, addresses, header values, whole messages, and messages that
something has happened to.

    from hypothesis import given
    from sippet_gevent.testing import strategies

    @given(strategies.request(method="INVITE"))
    def test_core_takes_any_invite(request): ...

    @given(strategies.mangled())
    def test_server_survives(data): ...

What these draw is what the grammar of RFC 3261 §25.1 allows, the usual and the odd: escapes,
quotes, IPv6, compact forms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, get_type_hints

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

METHODS = tuple(iana.METHODS)
NEEDED = ("Via", "From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length")
"""Headers that request() and response() give each message; `headers` adds others."""

_TOKEN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%*_+`'~"
_ALPHANUM = _TOKEN[:62]
_DIGITS = "0123456789"


# ---- the small pieces


def token(max_size: int = 12) -> SearchStrategy[str]:
    """Draw a token (RFC 3261 §25.1) of up to `max_size` characters."""
    return st.text(_TOKEN, min_size=1, max_size=max_size)


def text(max_size: int = 20) -> SearchStrategy[str]:
    """Draw text that may stand in a header line: any but CR, LF, NUL and surrogates, no blanks at
    its ends."""
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
"""Texts with characters that do not separate within quotes."""


def parameters(**usual: SearchStrategy[Any]) -> SearchStrategy[Parameters]:
    """Draw the parameters of a header value: some of the `usual` ones, and some that nobody knows.

    A value of None is a parameter without value, text that is no token is written in quotes.
    """
    return _parameters(Parameters, token(), st.none() | token() | _SEPARATORS | text(), usual)


def _parameters(
    kind: type[Parameters],
    names: SearchStrategy[str],
    values: SearchStrategy[Any],
    usual: dict[str, SearchStrategy[Any]],
) -> SearchStrategy[Any]:
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
    """Draw a SIP or SIPS URI (RFC 3261 §19.1); `str()` of it is text that reads as the same.

    `hosts` and `users` narrow what is drawn; a user of None leaves it out. A `plain` one has
    neither password, parameters nor headers.
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
    usual: dict[str, SearchStrategy[Any]] = {
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
    """Draw a URI of any scheme: mostly SIP, also tel (RFC 3966) and ones that only others
    understand."""
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
    usual: dict[str, SearchStrategy[Any]] | None = None,
) -> SearchStrategy[NameAddr]:
    """Draw an address as From, To, Contact and Route have them (RFC 3261 §20.10).

    `tag=True` gives each one a tag, `tag="x"` this one, `tag=False` none. `usual` are further
    parameters, name to strategy.
    """
    drawn = parameters(**({} if tag is False else {"tag": token()}), **(usual or {}))
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
    """Draw one Via value, most with a branch of RFC 3261."""
    branch = token().map(lambda drawn: f"z9hG4bK{drawn}") | token()
    usual: dict[str, SearchStrategy[Any]] = {
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
_AUTH_USUAL: dict[str, SearchStrategy[Any]] = {
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
_AUTH: SearchStrategy[Any] = _parameters(
    AuthParameters, token(), token() | text(), _AUTH_USUAL
).filter(len)
_DECIMAL = st.builds(
    "{0}{1}".format, st.integers(0, 10**9), st.just("") | st.integers(0, 999).map(".{}".format)
)

VALUES: dict[Any, SearchStrategy[Any]] = {
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
"""The type in a header's row to the strategy of one value. For a type of yours that draws badly by
its shape, add one."""


def _sampled(kind: Any, texts: Iterable[str]) -> SearchStrategy[Any]:
    """Draw one of these values, as it is or with further parameters, where its type takes them."""
    spelled = st.builds(
        "{0}{1}".format, st.sampled_from(list(texts)), st.just("") | parameters().map(str)
    )
    return spelled.filter(lambda drawn: _is_read(kind.parse, drawn)).map(kind.parse)


VALUES.update(
    {ROWS[name].type: _sampled(ROWS[name].type, texts) for name, texts in SAMPLES.items()}
)


def value_of(kind: Any) -> SearchStrategy[Any]:
    """Draw one value of a type that a header's row may have: by VALUES, or by the type's shape.

    A NamedTuple is made of values of its fields; a kind of text or number is made of tokens or
    numbers that its parse() takes. Raises LookupError for other types.
    """
    if kind in VALUES:
        return VALUES[kind]
    parse = getattr(kind, "parse", kind)
    if isinstance(kind, type) and hasattr(kind, "_fields"):
        hints = get_type_hints(kind)
        fields = {name: _field(hints.get(name, str)) for name in kind._fields}
        return st.builds(kind, **fields).filter(lambda drawn: _is_read(parse, str(drawn)))
    for shape, texts in ((int, _NUMBERS.map(str)), (str, token() | text())):
        if isinstance(kind, type) and issubclass(kind, shape):
            return texts.filter(lambda drawn: _is_read(parse, drawn)).map(parse)
    raise LookupError(f"add a strategy for {kind!r} to sippet_gevent.testing.strategies.VALUES")


def _field(hint: Any) -> SearchStrategy[Any]:
    """Draw what a NamedTuple's field may hold; for one that may be None as for others, also
    that."""
    either = getattr(hint, "__args__", ())
    if type(None) in either:
        return st.none() | st.one_of(*[_field(part) for part in either if part is not type(None)])
    return token() if hint is str else value_of(hint)


def _is_read(parse: Callable[[str], Any], spelled: str) -> bool:
    try:
        parse(spelled)
    except (ValueError, InvalidValue):
        return False
    return True


def header_values(row: Header | str, *, max_size: int = 3) -> SearchStrategy[Any]:
    """Draw what a header's attribute gives: one typed value, or a tuple of one to `max_size` where
    there may be several.

    `row` is a row, `Message.contact`, or a name, `"m"`. The type in the row decides (value_of), so
    headers of your own, made with register_header(), have values too.
    """
    row = _row_of(row)
    return _values_of(value_of(row.type), row, max_size)


@lru_cache(1024)
def _values_of(one: SearchStrategy[Any], row: Header, max_size: int) -> SearchStrategy[Any]:
    if row.kind is ONE:
        return one
    if row.commas and isinstance(row.type, type) and issubclass(row.type, str):
        # Text that is cut at commas can hold none, nor, for most, what makes a comma part of a
        # quoted text or a URI.
        kept_out = set("," if hasattr(row.type, "cut") else ',"<>')
        one = one.filter(lambda drawn: drawn and not set(drawn) & kept_out)
    several = st.lists(one, min_size=1, max_size=max_size).map(tuple)
    return several | st.just((STAR,)) if row.type is Contact else several


def header_texts(row: Header | str, *, max_size: int = 3) -> SearchStrategy[str]:
    """Draw the text of one header line, as a peer may write it: with commas where the header may
    have several values.

    Addresses come with and without angle brackets, where the grammar leaves that to the peer.
    """
    row = _row_of(row)
    if row.kind is LINES:
        max_size = 1
    texts = header_values(row, max_size=max_size).map(lambda value: ", ".join(row.write(value)))
    return texts.flatmap(lambda text: st.sampled_from([text, *_without_brackets(row, text)]))


_ADDR_SPEC = (NameAddr, Contact, ReferTo, ReferredBy, ServedUser)
"""Types of values that are ( name-addr / addr-spec ) by their grammar."""


def _without_brackets(row: Header, text: str) -> list[str]:
    """Return the text of a line with an addr-spec in place of each name-addr that can be one
    (§20.10); none if there is none."""
    if row.type not in _ADDR_SPEC:
        return []
    there = row.read([text])
    written = [
        _addr_spec(value)
        for value in (there if isinstance(there, tuple) and row.commas else (there,))
    ]
    changed = ", ".join(written)
    return [changed] if changed != text else []


def _addr_spec(value: Any) -> str:
    bare = (
        isinstance(value, NameAddr) and not value.display and not set(str(value.uri)) & set(",?;")
    )
    return f"{value.uri}{value.parameters}" if bare else str(value)


def _row_of(row: Header | str) -> Header:
    if isinstance(row, Header):
        return row
    name = canonical(row)
    if name not in ROWS:
        raise LookupError(f"{row!r} is no header that has a row")
    return ROWS[name]


# ---- messages


@st.composite
def request(
    draw: DrawFn,
    *,
    method: str | SearchStrategy[str] | None = None,
    uri: URI | str | SearchStrategy[URI] | SearchStrategy[str] | None = None,
    body: bytes | str | SearchStrategy[bytes] | None = None,
    extra: int = 4,
    **headers: Any,
) -> Request:
    """Draw a request that parse() takes: what every element needs (§8.1.1), and up to `extra` other
    headers.

    Each option is a value or a strategy; `headers` are given as Request has them,
    `contact="<sip:me@192.0.2.1>"`, None leaves one out. Without `method` most are known ones. A
    `body` gets a Content-Type if none is given.
    """
    name = _drawn(draw, method, _METHODS)
    made = Request(name, _drawn(draw, uri, _URIS), body=_drawn(draw, body, _BODIES))
    made.max_forwards = draw(VALUES[MaxForwards])
    return _filled(draw, made, name, extra, headers)  # type: ignore[return-value]


@st.composite
def response(
    draw: DrawFn,
    *,
    status: int | SearchStrategy[int] | None = None,
    method: str | SearchStrategy[str] | None = None,
    body: bytes | str | SearchStrategy[bytes] | None = None,
    extra: int = 4,
    **headers: Any,
) -> Response:
    """Draw a response that parse() takes, to a request of this method; the options are those of
    request().

    To answer a given request use its own response(), which copies what must be copied.
    """
    phrase = draw(st.none() | text())
    made = Response(_drawn(draw, status, _STATUSES), phrase, body=_drawn(draw, body, _BODIES))
    return _filled(draw, made, _drawn(draw, method, _METHODS), extra, headers)  # type: ignore[return-value]


_VIAS = st.lists(VALUES[Via], min_size=1, max_size=3)
_FROM = name_addr(tag=True)
_MAYBE = st.booleans()
_URIS = sip_uri()
_BODIES = st.just(b"") | st.just(b"v=0\r\n") | st.binary(max_size=60)
_STATUSES = st.sampled_from(
    [100, 180, 183, 200, 202, 302, 401, 404, 486, 500, 503, 603]
) | st.integers(100, 699)


def _drawn(draw: DrawFn, option: Any, otherwise: SearchStrategy[Any]) -> Any:
    if option is None:
        return draw(otherwise)
    return draw(option) if isinstance(option, SearchStrategy) else option


def _filled(
    draw: DrawFn, message: Request | Response, method: str, extra: int, given: dict[str, Any]
) -> Request | Response:
    """Give the message the headers it needs, some it does not, and those that were asked for."""
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
def spelled(draw: DrawFn, of: SearchStrategy[Request | Response] | None = None) -> bytes:
    """Draw the octets of a message that is in order, in spellings that peers choose (§7.3.1).

    Compact forms, any case, blanks round the colon and at the end, lines folded at a blank,
    addresses without brackets.
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
    *,
    of: SearchStrategy[bytes] | None = None,
    damages: Iterable[str] = tuple(DAMAGES),
    most: int = 3,
) -> bytes:
    """Draw octets that were a message until one to `most` of these DAMAGES were done to them.

    `of` draws the octets to begin with, `spelled()` if it is not given. Most of what comes out is
    broken, some is not.
    """
    data = draw(spelled() if of is None else of)
    for damage in draw(st.lists(st.sampled_from(list(damages)), min_size=1, max_size=most)):
        data = DAMAGES[damage](draw, data)
    return data
