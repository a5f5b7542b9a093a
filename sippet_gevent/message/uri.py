"""URIs: parse, format and compare, RFC 3261 §19.1; tel, RFC 3966. Pure.

The file is longer than others because of the rules of comparison, which need the same expressions.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from ..errors import InvalidValue, ParseError, excerpt
from .grammar import HOST, is_host, number
from .parameters import (
    NO_URI_HEADERS,
    NO_URI_PARAMETERS,
    PARAMETERS,
    Parameters,
    URIHeaders,
    URIParameters,
    escape,
    unescape,
)
from .speedups import c

URI_LENGTH = 4096
"""Most characters in a URI. A longer one is a 414; phone numbers and flow tokens are far
shorter."""

PLAIN_LENGTH = 256
"""Most characters in a URI that is read the quick way."""

CACHED_URIS = 4096
"""Most parsed URIs that are remembered, because those of a domain are used again and again. The
oldest is dropped first."""

# scheme = ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+\-.]*):").match
# hostport = host [ ":" port ]
_HOSTPORT = re.compile(rf"({HOST})(?::([0-9]+))?").fullmatch
# The usual spelling in one match; _parse_any() reads all others. It has no escapes. Groups: scheme,
# user, host, port, parameters.
_PLAIN = re.compile(
    r"(sips?):(?:([A-Za-z0-9\-_.!~*'()+]+)@)?([A-Za-z0-9][A-Za-z0-9.\-]*)(?::([0-9]{1,5}))?"
    r"((?:;[A-Za-z0-9\-_.!~*'()]+(?:=[A-Za-z0-9\-_.!~*'()\[\]/:&+$]+)?)*)"
).fullmatch
# userinfo = ( user / telephone-subscriber ) [ ":" password ] "@": characters that are no blank,
# control, quote or bracket
_USER = re.compile(r'[^\x00-\x20<>"\x7f@]+').fullmatch
_OPAQUE = re.compile(r'[^\x00-\x20<>"\x7f]+').fullmatch
# The same with quotes, which no rule of a URI has. URIParameters takes them around a value, as
# peers write them.
_WITH_QUOTES = re.compile(r"[^\x00-\x20<>\x7f]+").fullmatch
# telephone-subscriber digits: phonedigit / visual-separator, and the local ones (RFC 3966 §3)
_TELEPHONE = re.compile(r"\+?[0-9A-Fa-f*#\-.()]+").fullmatch
_VISUAL_SEPARATORS = str.maketrans("", "", "-.()")

_USER_ALLOWED = "&=+$,;?/"  # user-unreserved
# user = 1*( unreserved / escaped / user-unreserved ): characters that escape() leaves alone
_UNESCAPED = re.compile(r"[A-Za-z0-9\-_.!~*'()&=+$,;?/]*").fullmatch
_PASSWORD_ALLOWED = "&=+$,"

NO_SCHEME = "URI without a scheme (sip, sips or tel)"
"""The problem of a text such as `bob@example.com`; see uri_arguments.py."""

SCHEME_PORTS = {"sip": 5060, "sips": 5061}

# §19.1.4: a URI with one of these does not equal a URI without it, whatever the default.
_DISTINGUISHING = frozenset(("user", "ttl", "method", "maddr", "transport"))


class Escaped(str):
    """A user part that was received with escapes. It is the unescaped text, and `escapes` is the
    part as received. It is sent as received, because a reserved character and its escape are not
    the same (§19.1.4)."""

    __slots__ = ("escapes",)
    escapes: str


class URI(NamedTuple):
    """A URI, immutable; change one with `uri._replace(host="…")`.

    `str(uri)` escapes what must be escaped, and `uri.equivalent(other)` compares by the rules of
    RFC 3261 §19.1.4.

    ```python
    URI.parse("sip:bob@example.com;transport=tcp").host
    ```

    Attributes:
        scheme: The scheme in lower case.
        user: The unescaped user part or None. For tel (RFC 3966) it is the number.
        host: A name, an IPv4 address, or an IPv6 address in brackets.
        port: The port, or None if none is given.
        parameters: The URI parameters, a mapping.
        headers: The headers of the URI, a mapping.
        password: The unescaped password or None.
        opaque: The text behind the colon, for schemes other than sip, sips and tel.
    """

    scheme: str = "sip"
    user: str | None = None
    host: str = ""
    port: int | None = None
    parameters: Parameters = NO_URI_PARAMETERS
    headers: Parameters = NO_URI_HEADERS
    password: str | None = None
    opaque: str = ""

    @classmethod
    def parse(cls, text: str) -> URI:
        """Read a URI without angle brackets. Raises ParseError: 414 for one of more than URI_LENGTH
        characters."""
        return parse_uri(text)

    @property
    def is_sip(self) -> bool:
        """True for sip and sips."""
        return self.scheme in SCHEME_PORTS

    @property
    def is_secure(self) -> bool:
        """True for sips: every hop must use TLS (RFC 3261 §26.2.2)."""
        return self.scheme == "sips"

    @property
    def transport(self) -> str | None:
        """The transport parameter in upper case (`"TCP"`), or None."""
        parameters = self.parameters
        if parameters is NO_URI_PARAMETERS:
            return None
        value = parameters.get("transport")
        return value.upper() if value else None

    @property
    def is_loose_router(self) -> bool:
        """True with an lr parameter of any value, because some peers write `lr=on` or `lr=true`
        (RFC 3261 §19.1.1)."""
        return "lr" in self.parameters

    @property
    def has_valid_host(self) -> bool:
        """False for a sip or sips URI whose host is_valid_host() refuses."""
        return self.scheme not in SCHEME_PORTS or is_valid_host(self.host)

    @property
    def aor(self) -> str:
        """The address-of-record of this URI, one text for all spellings (RFC 3261 §10.3 step 5).

        It has no port, because §19.1.1 Table 1 does not allow one in To.
        """
        if self.scheme == "tel":
            # a local number means nothing without it (RFC 3966 §5.1.5)
            context = _tel_parameters(self).get("phone-context")
            number = (self.user or "").translate(_VISUAL_SEPARATORS).lower()
            return f"tel:{number}" if context is None else f"tel:{number};phone-context={context}"
        if self.scheme == "urn":
            return f"urn:{_urn(self.opaque)}"
        if self.scheme not in SCHEME_PORTS:
            return f"{self.scheme}:{self.opaque}"
        return sip_aor(self.scheme, self.user, normal_host(self.host))

    def equivalent(self, other: URI | str) -> bool:
        """True if both URIs are equal by RFC 3261 §19.1.4, tel by RFC 3966 §4, urn by RFC 8141 §3.
        This is not transitive, so it differs from `==`. Raises ParseError for a text."""
        if self == other and not (type(self.user) is Escaped or type(other.user) is Escaped):
            return True
        return _equivalent(self, URI.parse(other) if isinstance(other, str) else other)

    def __str__(self) -> str:
        # at once, because reading a field by its name costs ten times as much
        scheme, user, host, port, parameters, headers, password, opaque = self
        if scheme == "tel":
            if not _TELEPHONE(user or ""):
                raise InvalidValue(f"{user!r} is not a telephone number")
            return f"tel:{user}{parameters}"
        if scheme not in SCHEME_PORTS:
            if not (_SCHEME(f"{scheme}:") and _OPAQUE(opaque)):
                how = f": write URI.parse({scheme!r})" if ":" in scheme else ""
                raise InvalidValue(f"{scheme!r} and {opaque!r} are no URI{how}")
            return f"{scheme}:{opaque}"
        if not is_host(host):
            raise InvalidValue(
                f"{host!r} is not a host: write a name, an IPv4 address, "
                "or an IPv6 address in brackets"
            )
        if port is not None and not 0 < port < 65536:
            raise InvalidValue(f"port must be 1 to 65535 or None, got {port!r}")
        at_host = host
        if user:
            if isinstance(user, Escaped):
                user = user.escapes
            elif not _UNESCAPED(user):
                user = escape(user, _USER_ALLOWED)
            if password is not None:
                user += ":" + escape(password, _PASSWORD_ALLOWED)
            at_host = f"{user}@{host}"
        if port is not None:
            at_host = f"{at_host}:{port}"
        if parameters is NO_URI_PARAMETERS and headers is NO_URI_HEADERS:
            return f"{scheme}:{at_host}"
        return f"{scheme}:{at_host}{parameters}{headers}"

    def with_params(self, values: Mapping[str, object] | None = None, **named: object) -> URI:
        """Return a copy with these URI parameters set; None is a parameter without value.

        Raises InvalidValue for a URI that is neither sip, sips nor tel, because it has none.
        """
        if not self.is_sip and self.scheme != "tel":
            raise InvalidValue(f"a {self.scheme} URI has no parameters")
        return self._replace(parameters=self.parameters.replace(values, **named))

    def without_params(self, *names: str) -> URI:
        """Return a copy that lacks these URI parameters."""
        return self._replace(parameters=self.parameters.without(*names))


def sip_aor(scheme: str, user: str | None, host: str) -> str:
    """Return the address-of-record of a sip or sips URI with this user and normal_host()."""
    if user is None:
        return f"{scheme}:{host}"
    if not _UNESCAPED(user):
        user = escape(user, _USER_ALLOWED)
    return f"{scheme}:{user}@{host}"


def check_uri(argument: str, value: object) -> None:
    """Refuse a value that is no URI, such as a text, or an address that contains one. Raises
    TypeError, which says what to write."""
    if not isinstance(value, URI):
        if isinstance(getattr(value, "uri", None), URI):
            write = f"{argument}.uri"  # a NameAddr
        else:
            write = (
                f"URI.parse({value!r})"
                if isinstance(value, str)
                else 'URI.parse("sip:bob@example.com")'
            )
        raise TypeError(f"{argument} must be a URI, got {excerpt(value)}: write {write}")


def read_uri(text: str) -> URI:
    """Read a URI without remembering it. Raises ParseError."""
    return plain(text) or _parse_any(text)


_remembered = lru_cache(CACHED_URIS)(read_uri)


def parse_uri(text: str) -> URI:
    """Read a URI and remember it, unless it is long, because peers choose the length. Raises
    ParseError."""
    return _remembered(text) if len(text) <= PLAIN_LENGTH else read_uri(text)


def plain_in_python(text: str) -> URI | None:
    """Read a SIP or SIPS URI in its usual spelling; None for any other, which may be rare or
    broken."""
    match = _PLAIN(text)
    if not match or len(text) > PLAIN_LENGTH or text.count(";") > PARAMETERS:
        return None
    scheme, user, host, digits, tail = match.groups()
    port = None
    if digits is not None:
        port = int(digits)
        if not 0 < port < 65536:
            return None
    parameters = URIParameters.plain(tail) if tail else NO_URI_PARAMETERS
    scheme = "sips" if scheme == "sips" else "sip"  # one text for all URIs, which saves memory
    return tuple.__new__(URI, (scheme, user, host, port, parameters, NO_URI_HEADERS, None, ""))


plain: Callable[[str], URI | None] = plain_in_python
"""The function to call: the C version if it is built, otherwise the Python version."""
if c is not None:
    c.setup_uri(URI, URIParameters, NO_URI_PARAMETERS, NO_URI_HEADERS)
    plain = c.plain_uri


def _parse_any(text: str) -> URI:
    if len(text) > URI_LENGTH:
        raise ParseError(f"URI over {URI_LENGTH} characters", value=text, status=414)
    match = _SCHEME(text)
    if not match:
        raise ParseError(NO_SCHEME, value=text)
    scheme = match[1].lower()
    rest = text[match.end() :]
    if not _OPAQUE(rest) and not (scheme in SCHEME_PORTS and _WITH_QUOTES(rest)):
        raise ParseError(
            "URI is empty, or has a blank, quote, bracket or control character in it", value=text
        )
    if scheme in SCHEME_PORTS:
        return _parse_sip(scheme, rest, text)
    if scheme == "tel":
        subscriber, _, parameters = rest.partition(";")
        if not _TELEPHONE(subscriber):
            raise ParseError("not a telephone number", value=text)
        return URI("tel", subscriber, parameters=URIParameters.parse(parameters))
    return URI(scheme, opaque=rest)


def _parse_sip(scheme: str, rest: str, text: str) -> URI:
    # SIP-URI = "sip:" [ userinfo ] hostport uri-parameters [ headers ]
    # The user part may contain ";" and "?"; only an "@" ends it.
    user: str | None = None
    password: str | None = None
    userinfo, at, hostpart = rest.partition("@")
    if at:
        user, colon, secret = userinfo.partition(":")
        if not user or not _USER(userinfo):
            raise ParseError("URI with an empty or broken user part", value=text)
        if "%" in user:
            escapes = user
            user = Escaped(unescape(escapes))
            user.escapes = escapes
        password = unescape(secret) if colon else None
    else:
        hostpart = rest
    hostpart, question, headers = hostpart.partition("?")
    hostport, semicolon, parameters = hostpart.partition(";")
    match = _HOSTPORT(hostport)
    if not match:
        raise ParseError("URI without a proper host and port", value=text)
    port = None
    if match[2] is not None:
        port = number(match[2], 65535, noun="port")
        if not port:
            raise ParseError("URI with port 0", value=text)
    return URI(
        scheme,
        user,
        match[1],
        port,
        URIParameters.parse(parameters) if semicolon and parameters else NO_URI_PARAMETERS,
        URIHeaders.parse(question + headers) if headers else NO_URI_HEADERS,
        password,
    )


# IPv6address = hexpart [ ":" IPv4address ], hexpart = hexseq "::" …: three colons, to the letter
# (RFC 5118 §4.10)
_THREE_COLONS = re.compile(r":::(?=[0-9]+\.[0-9.]+\]?\Z)").sub


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address of a host such as `192.0.2.1`, `[2001:db8::1]` or
    `[2001:db8:::192.0.2.1]`, and None for a name.

    `127.1`, hexadecimal and octal forms are no addresses.
    """
    try:
        return ipaddress.ip_address(_THREE_COLONS("::", host).strip("[]"))
    except ValueError:
        return None


CACHED_HOSTS = 256
"""Most hosts of which it is remembered whether they are valid."""

LABEL, NAME = 63, 253
"""Most characters of one label of a name, and of a whole name (RFC 1035 §2.3.4)."""


@lru_cache(CACHED_HOSTS)
def is_valid_host(host: str) -> bool:
    """False for a host that is neither an address nor a name that DNS can have (RFC 3261 §25.1, RFC
    1123 §2.1).

    Examples are `a..b`, `[1::2::3]` and `1.2.3`. Only an element that must send to them refuses
    them (§16.3).
    """
    if address_of(host) is not None:
        return True
    labels = host.removesuffix(".").split(".")
    return (
        not host.startswith("[")
        and len(host) <= NAME
        and not labels[-1].isdigit()
        and all(0 < len(label) <= LABEL for label in labels)
    )


def normal_host(host: str) -> str:
    """Return the one spelling of a host: lower case, the shortest IPv6 in brackets, mapped IPv4 as
    IPv4.

    address_of() decides what is an address. A name loses a dot at its end.
    """
    inner = host[1:-1] if host.startswith("[") else host
    if ":" in inner:
        address = address_of(inner.partition("%")[0])
        if address is None:
            return host.lower()
        mapped = getattr(address, "ipv4_mapped", None)
        return str(mapped) if mapped else f"[{address}]"
    return host.lower().rstrip(".")


def bracketed(host: str) -> str:
    """Return a host as it is written before a colon and port: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def _equivalent(a: URI, b: URI) -> bool:
    if a.scheme != b.scheme:
        return False
    if a.scheme == "tel":
        numbers = [(uri.user or "").translate(_VISUAL_SEPARATORS).lower() for uri in (a, b)]
        return numbers[0] == numbers[1] and _tel_parameters(a) == _tel_parameters(b)
    if a.scheme == "urn":
        return _urn(a.opaque) == _urn(b.opaque)
    if not a.is_sip:
        return a.opaque == b.opaque
    if (_user(a), a.password, a.port) != (_user(b), b.password, b.port) or normal_host(
        a.host
    ) != normal_host(b.host):
        return False
    mine, theirs = _lowered(a.parameters), _lowered(b.parameters)
    if any(mine[name] != theirs[name] for name in mine.keys() & theirs.keys()):
        return False
    if (mine.keys() ^ theirs.keys()) & _DISTINGUISHING:
        return False
    return {n.lower(): v for n, v in a.headers.items()} == {
        n.lower(): v for n, v in b.headers.items()
    }


# r-component = "?+" …, q-component = "?=" …, f-component = "#" …: not compared (RFC 8141 §3.1)
_URN_COMPONENTS = re.compile(r"\?[+=].*|#.*", re.DOTALL).sub

_URN_IN_ANY_CASE = frozenset(("service", "uuid"))
"""Namespaces whose names are compared without case (RFC 5031 §3, RFC 4122 §3)."""


def _urn(opaque: str) -> str:
    """Return the text by which URNs are compared: namespace and escapes in one case, the rest as it
    is (RFC 8141 §3.1)."""
    namespace, colon, name = _URN_COMPONENTS("", opaque).partition(":")
    namespace = namespace.lower()
    if namespace in _URN_IN_ANY_CASE:
        return f"{namespace}{colon}{name.lower()}"
    return f"{namespace}{colon}{_ESCAPE(lambda found: found[0].upper(), name)}"


def _user(uri: URI) -> str | None:
    """Return the user part with the escapes of reserved characters only, which have a meaning
    (§19.1.4)."""
    user = uri.user
    if user is None:
        return None
    escapes = user.escapes if isinstance(user, Escaped) else escape(user, _USER_ALLOWED)
    return _ESCAPE(_meant, escapes) if "%" in escapes else escapes


# reserved = ";" / "/" / "?" / ":" / "@" / "&" / "=" / "+" / "$" / ","
_RESERVED = frozenset(";/?:@&=+$,")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}").sub


def _meant(found: re.Match[str]) -> str:
    character = chr(int(found[0][1:], 16))
    return (
        found[0].upper()
        if character in _RESERVED or not (character.isascii() and character.isprintable())
        else character
    )


def _lowered(parameters: Parameters) -> dict[str, str]:
    return {name.lower(): (value or "").lower() for name, value in parameters.items()}


def _tel_parameters(uri: URI) -> dict[str, str]:
    """Return the parameters in lower case. Those that are numbers, ext and a global phone-context,
    lose their visual separators (RFC 3966 §4)."""
    parameters = _lowered(uri.parameters)
    for name, value in parameters.items():
        if name == "ext" or (name == "phone-context" and value.startswith("+")):
            parameters[name] = value.translate(_VISUAL_SEPARATORS)
    return parameters
