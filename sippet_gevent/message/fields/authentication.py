"""Challenges and credentials, RFC 3261 §20.44 and §22: a scheme and its parameters. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

from ...errors import InvalidValue, ParseError
from ..grammar import BLANKS, TOKEN_CHARACTERS, is_token, quote, unquote
from ..parameters import EMPTY, Parameters
from .base import Parameter, listed, lowered

AnyChallenge = TypeVar("AnyChallenge", bound="Challenge")
AnyInfo = TypeVar("AnyInfo", bound="AuthenticationInfo")


def _nonce_count(text: str) -> int:
    # nc-value = 8LHEX
    if not _NONCE_COUNT(text):
        raise ParseError("not eight hexadecimal digits", value=text)
    return int(text, 16)


_NONCE_COUNT = re.compile(r"[0-9A-Fa-f]{8}").fullmatch


def _extended(text: str) -> str:
    # no error quotes the name, because it is a part of credentials
    # ext-value = charset "'" [ language ] "'" value-chars (RFC 5987 §3.2.1)
    charset, _, rest = text.partition("'")
    _, apostrophe, octets = rest.partition("'")
    if not apostrophe or charset.upper() != "UTF-8":
        raise ParseError("username* is not UTF-8''…")
    try:
        return unquote_to_bytes(octets).decode()
    except UnicodeDecodeError as error:
        raise ParseError("username* is not UTF-8") from error


class _Scheme(NamedTuple):
    scheme: str
    parameters: Parameters = EMPTY


class Challenge(_Scheme):
    """A challenge: scheme and parameters, one to a header line (RFC 3261 §20.44, §22; Digest: RFC
    7616, RFC 8760).

    The attributes are those of Digest. `parameters` has the parameters of any scheme.
    """

    __slots__ = ()
    is_secret = True
    realm = Parameter("realm", str, "The protection domain of the user name and password.")
    nonce = Parameter("nonce", str, "The nonce of the server, from which the response is computed.")
    opaque = Parameter("opaque", str, "Text that the client must return unchanged.")
    algorithm = Parameter(
        "algorithm", str, "`MD5`, `SHA-256` …; a missing one means MD5 (RFC 8760 §2.1)."
    )
    charset = Parameter("charset", str, "`UTF-8` or None (RFC 7616 §3.3).")

    @classmethod
    def parse(cls: type[AnyChallenge], text: str) -> AnyChallenge:
        # credentials = auth-scheme LWS auth-param *(COMMA auth-param)
        match = _CHALLENGE(text)
        if not match:
            raise ParseError("credentials without a scheme", value=text)
        rest = (match[2] or "").strip(BLANKS)
        return cls(
            match[1],
            AuthParameters.of(((rest, None),)) if _TOKEN68(rest) else AuthParameters.parse(rest),
        )

    @property
    def token68(self) -> str | None:
        """The token68 that schemes like Bearer and Basic have instead of parameters, or None (RFC
        7235 §2.1, RFC 8898 §4)."""
        pairs = self.parameters.pairs
        return pairs[0][0] if len(pairs) == 1 and pairs[0][1] is None else None

    @property
    def qop(self) -> tuple[str, ...]:
        """The qualities of protection to choose from, such as `("auth", "auth-int")`, or () (RFC
        7616 §3.3)."""
        return listed(self.parameters.get("qop") or "")

    @property
    def domain(self) -> tuple[str, ...]:
        """The URIs that accept the same password; () for the whole server (RFC 7616 §3.3)."""
        return tuple((self.parameters.get("domain") or "").split())

    @property
    def stale(self) -> bool:
        """True if only the nonce was too old, so that the password is still right (RFC 7616
        §3.3)."""
        return lowered(self.parameters.get("stale") or "") == "true"

    @property
    def userhash(self) -> bool:
        """True if the user name may be sent as a hash, or is one (RFC 7616 §3.4.4)."""
        return lowered(self.parameters.get("userhash") or "") == "true"

    def __str__(self) -> str:
        # qop-options = "qop" EQUAL LDQUOT qop-value *("," qop-value) RDQUOT: one value is quoted
        # too
        pairs = self.parameters.pairs
        quoted = [
            (n, quote(unquote(v)) if v is not None and n.lower() == "qop" else v) for n, v in pairs
        ]
        return self._written(self.parameters.of(tuple(quoted)))

    def _written(self, parameters: Parameters) -> str:
        if not is_token(self.scheme):
            raise InvalidValue(f"not an authentication scheme: {self.scheme!r}")
        return f"{self.scheme} {parameters}"


class Credentials(Challenge):
    """The answer to a challenge: Authorization, Proxy-Authorization (RFC 3261 §20.7, §22.2)."""

    __slots__ = ()
    uri = Parameter("uri", str, "The Request-URI of the request, as text.")
    response = Parameter("response", str, "The digest that proves the password, in hexadecimal.")
    cnonce = Parameter("cnonce", str, "The nonce of the client.")
    nc = Parameter("nc", _nonce_count, "The number of requests with this nonce, 1 for the first.")

    @property
    def username(self) -> str | None:
        """The user name, from `username` or `username*` (RFC 7616 §3.4). Raises ParseError."""
        plain, extended = self.parameters.get("username"), self.parameters.get("username*")
        if plain is not None and extended is not None:
            raise ParseError("both username and username*")
        return _extended(extended) if extended is not None else plain

    @property
    def qop(self) -> str | None:  # type: ignore[override]  # one here, several in a Challenge
        """The quality of protection that is used, `auth` or `auth-int`, or None (RFC 7616 §3.4)."""
        return self.parameters.get("qop")

    def __str__(self) -> str:
        return self._written(self.parameters)


# token68 = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*").fullmatch
_CHALLENGE = re.compile(rf"([{TOKEN_CHARACTERS}]+)(?:[ \t](.*))?", re.DOTALL).fullmatch

# Always quoted, even tokens (RFC 3261 §25.1, RFC 8760 §2.6). qop is quoted in a challenge and not
# in credentials.
_QUOTED_NAMES = frozenset(
    "cnonce domain nextnonce nonce opaque realm response rspauth uri username".split()
)


class AuthParameters(Parameters):
    """Parameters as `name=value, name="value"`: of challenges, credentials, Authentication-Info."""

    __slots__ = ()
    separator = ","
    opener = ""

    @classmethod
    def _written(cls, name: str, value: object) -> str | None:
        written = super()._written(name, value)
        return (
            quote(written)
            if written and written[0] != '"' and name.lower() in _QUOTED_NAMES
            else written
        )

    def __str__(self) -> str:
        return ", ".join(name if value is None else f"{name}={value}" for name, value in self.pairs)


class AuthenticationInfo(AuthParameters):
    """The reply of a server to right credentials (RFC 3261 §20.6): ainfo *(COMMA ainfo)."""

    __slots__ = ()
    nextnonce = Parameter("nextnonce", str, "The nonce for the next request.")
    rspauth = Parameter("rspauth", str, "The digest that proves the server, in hexadecimal.")
    qop = Parameter("qop", str, "The quality of protection of `rspauth`.")
    cnonce = Parameter("cnonce", str, "The nonce of the client.")
    nc = Parameter("nc", _nonce_count, "The number of requests with this nonce.")

    @property
    def parameters(self) -> AuthenticationInfo:
        """These parameters, under the name that other values use."""
        return self

    @classmethod
    def parse(cls: type[AnyInfo], text: str) -> AnyInfo:
        if not text:
            raise ParseError("empty", value=text)
        return super().parse(text)
