"""Claim: the credentials of a received request, to be proved, RFC 7616 §3.4 and §3.5. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ...errors import ParseError
from ...message.fields.authentication import AuthenticationInfo
from ...message.fields.authentication import Credentials as Authorization
from .digest import ALGORITHMS, SESSION, known_algorithm, response, same, session_key

_NAMES = (
    "username", "realm", "nonce", "uri", "response", "algorithm", "cnonce", "opaque", "qop", "nc",
)  # fmt: skip
_QUOTED = {f"{blank}{name}=": name for name in _NAMES for blank in ("", " ")}
_TOKENS = {f"{blank}{name}": name for name in ("algorithm", "qop", "nc") for blank in ("", " ")}
"""Names by the text in front of their values. Each is spelled as nearly all phones spell it, and
what is not in here is read by Claim.of()."""


class Claim(NamedTuple):
    """Credentials of a request whose parameters were checked, but not yet their digest."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: str
    qop: str | None
    number: int
    """The nonce count; 0 without `qop`."""
    nc: str
    """The nonce count as written, because it is hashed so."""
    cnonce: str
    is_hashed: bool
    """True when `username` is a userhash()."""

    @classmethod
    def of(cls, credentials: Authorization) -> Claim:
        """Read the credentials of a request (RFC 7616 §3.4).

        Raises:
            ParseError: A parameter is missing, wrong, or unknown. The text quotes none.
        """
        if credentials.scheme.lower() != "digest":
            raise ParseError("scheme is not Digest", header="Authorization")
        known = known_algorithm(credentials.algorithm)
        if known is None:
            raise ParseError("unknown algorithm", header="Authorization")
        username, realm, nonce = credentials.username, credentials.realm, credentials.nonce
        uri, given, qop = credentials.uri, credentials.response, credentials.qop
        if username is None or realm is None or not nonce or uri is None or not given:
            raise ParseError(
                "username, realm, nonce, uri or response is missing", header="Authorization"
            )
        number, nc, cnonce = 0, "", ""
        if qop is not None:
            if qop.lower() not in ("auth", "auth-int"):
                raise ParseError("unknown qop", header="Authorization")
            number, cnonce = credentials.nc or 0, credentials.cnonce or ""
            nc = credentials.parameters.get("nc") or ""
            if not number or not cnonce:
                raise ParseError("nc or cnonce is missing", header="Authorization")
        elif known.endswith(SESSION):
            raise ParseError("qop is missing", header="Authorization")
        is_hashed = credentials.userhash
        return cls(username, realm, nonce, uri, given, known, qop, number, nc, cnonce, is_hashed)

    @classmethod
    def read(cls, text: str) -> Claim | None:
        """Read credentials as Claim.of() does, in a fifth of the time. None for those with escapes
        or rare parameters, and for others that Claim.of() has to read."""
        scheme, _, rest = text.partition(" ")
        if scheme not in ("Digest", "digest") or "\\" in rest:
            return None
        values: dict[str, str] = {}
        for part in rest.split(","):
            pieces = part.split('"')
            if len(pieces) == 3 and not pieces[2]:
                name, value = _QUOTED.get(pieces[0]), pieces[1]
            elif len(pieces) == 1:
                before, _, value = part.partition("=")
                name = _TOKENS.get(before)
            else:  # a comma within quotes, or no parameter
                return None
            if name is None or name in values:
                return None
            values[name] = value
        try:
            username, realm, nonce = values["username"], values["realm"], values["nonce"]
            uri, given = values["uri"], values["response"]
        except KeyError:
            return None
        get = values.get
        named, qop, nc = get("algorithm"), get("qop"), ""
        algorithm = named if named in ALGORITHMS else known_algorithm(named)
        if algorithm is None or not (username and nonce and given):
            return None
        number, cnonce = 0, ""
        if qop is not None:
            nc, cnonce = get("nc", ""), get("cnonce", "")
            if qop not in ("auth", "auth-int") or len(nc) != 8 or not cnonce:
                return None
            try:
                number = int(nc, 16)
            except ValueError:
                return None
            if not number or not nc.isalnum():
                return None
        elif algorithm.endswith(SESSION):
            return None
        return cls(username, realm, nonce, uri, given, algorithm, qop, number, nc, cnonce, False)

    def is_proved_by(self, ha1: str, method: str, body: bytes = b"") -> bool:
        """True when the digest was made with this HA1, for a request with this method and body.

        The comparison takes the same time wherever the difference is.
        """
        return same(self.response, self._response(ha1, method, body))

    def _response(self, ha1: str, method: str, body: bytes) -> str:
        key = ha1
        if self.algorithm.endswith(SESSION):
            key = session_key(ha1, self.algorithm, self.nonce, self.cnonce)
        return response(
            key,
            method=method,
            uri=self.uri,
            nonce=self.nonce,
            algorithm=self.algorithm,
            qop=self.qop,
            nc=self.nc,
            cnonce=self.cnonce,
            body=body,
        )

    def info(self, ha1: str, body: bytes = b"", nextnonce: str | None = None) -> AuthenticationInfo:
        """Return the Authentication-Info of the response, which proves the server (RFC 7616 §3.5).

        Args:
            ha1: The user's HA1.
            body: The body of the response.
            nextnonce: The nonce for the client's next request.
        """
        pairs: list[tuple[str, object]] = [("rspauth", self._response(ha1, "", body))]
        if nextnonce is not None:
            pairs.insert(0, ("nextnonce", nextnonce))
        if self.qop is not None:
            pairs += [("qop", self.qop), ("cnonce", self.cnonce), ("nc", self.nc)]
        return AuthenticationInfo(pairs)
