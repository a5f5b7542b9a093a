"""Identity, Identity-Info and Privacy; RFC 8224, 4474, 3323. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ...errors import InvalidValue, ParseError
from ..grammar import BLANKS, is_token
from .base import LinkParameters, Parameter, Reference, Valued, uri_in_brackets

# signed-identity-digest = 1*(base64-char / "."), base64-char = ALPHA / DIGIT / "/" / "+"
# A PASSporT is in base64url, "-" and "_" (RFC 8225 §8), and RFC 4474 had "=" and quotes.
_DIGEST = re.compile(r'[A-Za-z0-9/+.\-_]+=*|"[A-Za-z0-9/+.\-_]+=*"').fullmatch


class Identity(Valued):
    """A signature over caller and callee, one a line (RFC 8224 §4). `value` is the PASSporT, in
    full or without the parts that repeat the request (`..signature`).

    Identity = signed-identity-digest SEMI ident-info *( SEMI ident-info-params ), ident-info =
    "info" EQUAL LAQUOT absoluteURI RAQUOT. The form of RFC 4474, a signature alone, is read too.
    Its info is in Identity-Info."""

    __slots__ = ()
    fits = _DIGEST
    what = "a signature in base64"
    holds = LinkParameters
    info = Parameter(
        "info", uri_in_brackets, "The URI of the certificate; None in the form of RFC 4474."
    )
    alg = Parameter("alg", str, "The algorithm of the signature; a missing one means `ES256`.")
    ppt = Parameter("ppt", str, "The type of the PASSporT: `shaken`, `div` … (RFC 8225 §8.1).")

    @classmethod
    def parse(cls, text: str) -> Identity:
        found = super().parse(text)
        if found.parameters and found.info is None:
            raise ParseError("no info", value=text)
        return found

    @property
    def is_compact(self) -> bool:
        """True if header and payload are left out, because the request has them (RFC 8225 §7)."""
        return self.value.startswith("..")

    @property
    def passport(self) -> tuple[str, str, str]:
        """Header, payload and signature in base64url. The first two are "" if it is compact. Raises
        ParseError for the form of RFC 4474."""
        parts = self.value.split(".")
        if len(parts) != 3:
            raise ParseError("not a PASSporT", value=self.value)
        return parts[0], parts[1], parts[2]

    def __str__(self) -> str:
        if self.parameters and "info" not in self.parameters:
            raise InvalidValue(
                'Identity needs an info: write with_params(info=URI.parse("https://…"))'
            )
        return super().__str__()


class IdentityInfo(Reference):
    """The URI of the certificate for an Identity (RFC 4474 §9). RFC 8224 has made it historic.

    Identity-Info = ident-info *( SEMI ident-info-params ), ident-info = LAQUOT absoluteURI RAQUOT
    """

    __slots__ = ()
    alg = Parameter("alg", str, "The algorithm; a missing one means `rsa-sha1`.")


class Privacy(tuple[str, ...]):
    """The kinds of privacy that the sender asks for, such as `("id", "critical")` (RFC 3323 §4.2).
    A plain tuple can be assigned.

    Privacy-hdr = priv-value *(";" priv-value), priv-value = "header" / "session" / "user" / "none"
    / "critical" / token. Commas instead of semicolons are read too.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Privacy:
        words = [word.strip(BLANKS) for word in text.replace(",", ";").split(";")]
        if not all(map(is_token, words)):
            raise ParseError("not words with semicolons between them", value=text)
        return cls(words)

    @staticmethod
    def format(value: Iterable[str]) -> str:
        """Write the words of any iterable."""
        return str(Privacy(value))

    def __str__(self) -> str:
        if not self or not all(isinstance(word, str) and is_token(word) for word in self):
            raise InvalidValue(f"not words: {tuple(self)!r}")
        return ";".join(self)
