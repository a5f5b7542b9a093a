"""Challenges and credentials, RFC 3261 §20.44 and §22: a scheme and its parameters. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import InvalidValue, ParseError
from .grammar import BLANKS, TOKEN_CHARACTERS, is_token, quote
from .parameters import EMPTY, Parameters


class Challenge(NamedTuple):
    """A challenge or credentials: scheme and parameters, one to a header line (RFC 3261 §20.44, §22)."""

    scheme: str
    parameters: Parameters = EMPTY

    @classmethod
    def parse(cls, text: str) -> Challenge:
        # credentials = auth-scheme LWS auth-param *(COMMA auth-param)
        match = _CHALLENGE(text)
        if not match:
            raise ParseError("credentials without a scheme", value=text)
        return cls(match[1], AuthParameters.parse((match[2] or "").strip(BLANKS)))

    def __str__(self) -> str:
        if not is_token(self.scheme):
            raise InvalidValue(f"not an authentication scheme: {self.scheme!r}")
        return f"{self.scheme} {self.parameters}"


_CHALLENGE = re.compile(rf"([{TOKEN_CHARACTERS}]+)(?:[ \t](.*))?", re.DOTALL).fullmatch

# Always quoted, token or not (RFC 3261 §25.1, RFC 8760 §2.6); qop is so in a challenge and is not in credentials.
_QUOTED_NAMES = frozenset("cnonce domain nextnonce nonce opaque realm response rspauth uri username".split())


class AuthParameters(Parameters):
    """`name=value, name="value"`, as challenges, credentials and Authentication-Info have them."""

    __slots__ = ()
    separator = ","
    opener = ""

    @classmethod
    def _written(cls, name: str, value: object) -> str | None:
        written = super()._written(name, value)
        return quote(written) if written and written[0] != '"' and name.lower() in _QUOTED_NAMES else written

    def __str__(self) -> str:
        return ", ".join(name if value is None else f"{name}={value}" for name, value in self.pairs)


Credentials = Challenge
