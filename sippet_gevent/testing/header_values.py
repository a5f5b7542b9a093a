"""Strategies of header values: VALUES, by the type in the row of a header field; header lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, TypeVar, get_type_hints, overload

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ..errors import InvalidValue
from ..message.address import STAR, BracketedAddr, Contact, NameAddr
from ..message.fields import table  # noqa: F401 its rows are in ROWS
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
from ..message.parameters import Parameters
from ..message.scan import canonical
from ..message.uri import URI
from ..message.via import Via
from .elements import (
    ALPHANUM,
    CSEQS,
    KNOWN_OR_ANY_METHOD,
    NUMBERS,
    host,
    name_addr,
    parameters,
    parameters_of,
    sip_uri,
    text,
    token,
    uri,
    via,
)
from .samples import SAMPLES

T = TypeVar("T")
V = TypeVar("V")

_WORD = st.text(ALPHANUM + "-.!%*_+`'~()<>:\\\"/[]?{}", min_size=1, max_size=20)
_COMMENT = st.recursive(
    st.text(ALPHANUM + " ,;é", max_size=10),
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
_AUTH = parameters_of(AuthParameters, token(), token() | text(), _AUTH_USUAL).filter(len)
_DECIMAL = st.builds(
    "{0}{1}".format, st.integers(0, 10**9), st.just("") | st.integers(0, 999).map(".{}".format)
)

# Any: each strategy draws values of its key
VALUES: dict[type, SearchStrategy[Any]] = {
    str: text(),
    int: NUMBERS,
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
    CSeq: st.builds(CSeq, CSEQS, KNOWN_OR_ANY_METHOD),
    RAck: st.builds(RAck, NUMBERS, CSEQS, KNOWN_OR_ANY_METHOD),
    Number: NUMBERS.map(Number),
    MaxForwards: st.integers(0, 255).map(MaxForwards),
    DeltaSeconds: NUMBERS.map(DeltaSeconds),
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
    RetryAfter: st.builds(RetryAfter, NUMBERS, _COMMENT, parameters(duration=NUMBERS)),
    SessionExpires: st.builds(
        SessionExpires, NUMBERS, parameters(refresher=st.sampled_from(["uac", "uas"]))
    ),
    Timestamp: st.builds(Timestamp, _DECIMAL, st.none() | _DECIMAL),
    Warning: st.builds(Warning, st.integers(100, 999), host() | token(), text()),
    MimeVersion: st.builds(MimeVersion, st.integers(0, 99), st.integers(0, 99)),
    Date: _DATES,
}
"""Strategies of one value, by the type in the row of a header field. value_of() looks here first.

For other types, value_of() draws values by their shape. Add a strategy where parse() refuses some.
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

    VALUES has the strategies of most types. For the others, the shape of the type decides. The
    fields of a NamedTuple get values of their types. A subclass of str or int gets the tokens or
    numbers that its parse() accepts.

        value_of(CSeq)

    Raises:
        LookupError: the type has no strategy, and is no NamedTuple, str or int.
    """
    if kind in VALUES:
        return VALUES[kind]
    parse = getattr(kind, "parse", kind)
    if isinstance(kind, type) and (names := getattr(kind, "_fields", ())):
        hints = get_type_hints(kind)
        fields = {name: _field(hints.get(name, str)) for name in names}
        return st.builds(kind, **fields).filter(lambda drawn: _is_read(parse, str(drawn)))
    for shape, texts in ((int, NUMBERS.map(str)), (str, token() | text())):
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
        # parse() cuts a line at commas, so no value contains one. A comma within quotes or brackets
        # does not cut, so most values contain none of these either.
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
    return texts.flatmap(lambda text: st.sampled_from([text, *without_brackets(known, text)]))


_ADDR_SPEC = (NameAddr, Contact, ReferTo, ReferredBy, ServedUser)
"""Types whose grammar is ( name-addr / addr-spec )."""


def without_brackets(row: Header[Any], text: str) -> list[str]:
    """Return the text of a line with addresses without brackets, where the grammar allows that.

    Return an empty list if it allows none (§20.10).
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
