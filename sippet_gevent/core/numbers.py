"""Phone numbers of requests: from dialled numbers to E.164 (RFC 3966) and back, and CLIR. Pure.

| dialled in Germany | E.164 (RFC 3966 global number) |
|---|---|
| `030 123456`: trunk prefix | `+4930123456` |
| `0044 20 7946 0000`: international prefix | `+442079460000` |
| `+44 (20) 7946-0000` | `+442079460000` |
| `112`, `100`, `alice`: too short, or no number | stays |
| `*31#030123456`: the caller wants to be hidden (CLIR) | `+4930123456`, and an anonymous From |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from ..arguments import instance
from ..errors import InvalidValue, excerpt
from ..message.address import NameAddr
from ..message.message import Request
from ..message.uri import URI
from .privacy import ANONYMOUS_HOST, is_anonymous, privacy_of

SHORTEST = 6
"""Digits of the shortest number that is changed. Shorter ones are extensions, 112 and the like."""

LONGEST = 15
"""Digits of the longest number (ITU-T E.164 §6)."""

_SEPARATORS = re.compile(r"[-.() /]")  # visual-separator of RFC 3966 §3, and what people type
_NUMBER = re.compile(r"\+?[0-9]+").fullmatch


class Country(NamedTuple):
    """How numbers are dialled in a country.

        Country("49").to_e164("030 123456")    # "+4930123456"

    Args:
        code: The country code.
        trunk: The prefix of a national number. Empty if there is none.
        international: The prefix of a number of another country.
        bare: Digits of a national number, if it may be dialled without the trunk prefix.
        clir: Prefixes that hide the caller for one call.
    """

    code: str
    trunk: str = "0"
    international: str = "00"
    bare: tuple[int, ...] = ()
    clir: tuple[str, ...] = ("*31#", "#31#")

    def to_e164(self, number: str) -> str | None:
        """Return a number as E.164, such as `+4930123456`. None if it is no whole number.

        Args:
            number: The number as it is dialled, perhaps with spaces, hyphens and the like.
        """
        digits = _SEPARATORS.sub("", number)
        if not _NUMBER(digits):
            return None
        if digits.startswith("+"):
            whole = digits[1:]
        elif digits.startswith(self.international):
            whole = digits[len(self.international) :]
        elif self._is_national(digits):
            whole = self.code + digits[len(self.trunk) :]
        elif len(digits) in self.bare:
            whole = self.code + digits
        else:
            return None
        if whole.startswith("0") or not SHORTEST <= len(whole) <= LONGEST:
            return None
        return f"+{whole}"

    def _is_national(self, digits: str) -> bool:
        if not self.trunk or not digits.startswith(self.trunk) or len(digits) < SHORTEST:
            return False
        return not self.bare or len(digits) - len(self.trunk) in self.bare

    def from_e164(self, number: str) -> str | None:
        """Return a number in E.164 as it is dialled in this country. None if it is none.

        Args:
            number: The number, with its plus.
        """
        whole = self.to_e164(number) if number.startswith("+") else None
        if whole is None:
            return None
        if not whole.startswith(f"+{self.code}"):
            return self.international + whole[1:]
        return self.trunk + whole[1 + len(self.code) :]


COUNTRIES = {
    "AT": Country("43"),
    "AU": Country("61", international="0011", clir=("1831", "#31#")),
    "BE": Country("32"),
    "CA": Country("1", "1", "011", (10,), ("*67",)),
    "CH": Country("41"),
    "DE": Country("49"),
    "DK": Country("45", "", bare=(8,)),
    "ES": Country("34", "", bare=(9,), clir=("067", "*31#", "#31#")),
    "FR": Country("33", clir=("3651", "*31#", "#31#")),
    "GB": Country("44", clir=("141", "*31#", "#31#")),
    "IE": Country("353", clir=("141", "*31#", "#31#")),
    "IT": Country("39", "", bare=(8, 9, 10, 11), clir=("*67#", "*31#", "#31#")),
    "NL": Country("31"),
    "NO": Country("47", "", bare=(8,)),
    "PL": Country("48", "", bare=(9,)),
    "SE": Country("46"),
    "US": Country("1", "1", "011", (10,), ("*67",)),
}
"""Some countries by their code of ISO 3166. Make a Country of your own for others."""

_HIDDEN = NameAddr(URI("sip", "anonymous", ANONYMOUS_HOST), "Anonymous")


def normalise(
    request: Request, *, country: Country | str, national: bool = False, clir: bool | None = None
) -> Request:
    """Change the numbers of a request to E.164, or back.

        @stack.on("INVITE")
        def invite(request, tx):
            normalise(request, country="DE")
            bridge(request, tx, request.uri._replace(host="carrier.example"))

    It changes the Request-URI, To, From, P-Asserted-Identity and P-Preferred-Identity, if they are
    SIP or tel URIs with a number. Others stay, such as extensions. Tags and display names stay.

    Peers tell dialogs by their tags, so From and To may change (RFC 3261 §12.2.1.1). But a proxy's
    responses then show the changed ones to the caller. A B2BUA has no such effect.

    Args:
        request: The request, which is changed.
        country: Where the numbers are dialled: a code of ISO 3166 that COUNTRIES has, or a Country.
        national: True to change E.164 to numbers as they are dialled in the country.
        clir: True to hide the caller, False to show it. By default a prefix of the called number
            decides, such as `*31#`, which is removed.

    Returns:
        The same request.

    Raises:
        InvalidValue: The country is unknown.
        ParseError: A header field cannot be read.
        TypeError: An argument has the wrong type.
    """
    instance("request", request, Request, 'normalise(request, country="DE")')
    rules = _country(country)
    change = rules.from_e164 if national else rules.to_e164
    uri, is_hidden = _without_clir(request.uri, rules)
    to, is_hidden_too = _without_clir(request.to.uri, rules)
    if (is_hidden or is_hidden_too) if clir is None else clir:
        hide_caller(request)
    changed = _changed(uri, change, rules.code)
    if changed != request.uri:
        request.uri = changed
    changed = _changed(to, change, rules.code)
    if changed != request.to.uri:
        request.to = request.to._replace(uri=changed)
    changed = _changed(request.from_.uri, change, rules.code)
    if changed != request.from_.uri:
        request.from_ = request.from_._replace(uri=changed)
    fields = request.headers.fields
    if "P-Asserted-Identity" in fields:
        request.p_asserted_identity = _all(request.p_asserted_identity, change, rules.code)
    if "P-Preferred-Identity" in fields:
        request.p_preferred_identity = _all(request.p_preferred_identity, change, rules.code)
    return request


def hide_caller(request: Request) -> None:
    """Make the caller of a request anonymous (CLIR): From, and Privacy `id` (RFC 3323 §4.1.1.3, RFC
    3325 §7).

    P-Asserted-Identity stays, because the carrier needs it. It is hidden from the callee by the
    last element of the trust domain.

    Args:
        request: The request, which is changed. Privacy `none` is replaced.

    Raises:
        ParseError: Privacy or From cannot be read.
    """
    from_ = request.from_
    if not is_anonymous(from_.uri):
        request.from_ = _HIDDEN._replace(parameters=from_.parameters)
    words = tuple(word for word in privacy_of(request) if word != "none")
    if "id" not in words:
        request.privacy = ("id", *words)


def _country(country: Country | str) -> Country:
    if isinstance(country, Country):
        return country
    instance("country", country, str, 'normalise(request, country="DE")')
    found = COUNTRIES.get(country.upper())
    if found is None:
        raise InvalidValue(
            f"country must be one of {', '.join(COUNTRIES)}, or a Country, got {excerpt(country)}: "
            'write country=Country("49", trunk="0", international="00")'
        )
    return found


def _without_clir(uri: URI, country: Country) -> tuple[URI, bool]:
    """Return a URI without the prefix that hides the caller, and whether it had one."""
    user = uri.user
    if user is not None and (uri.is_sip or uri.scheme == "tel"):
        for prefix in country.clir:
            rest = str(user).removeprefix(prefix)
            if rest != user and len(_SEPARATORS.sub("", rest)) >= SHORTEST:
                return uri._replace(user=rest), True
    return uri, False


def _all(
    values: tuple[NameAddr, ...], change: Callable[[str], str | None], code: str
) -> tuple[NameAddr, ...]:
    return tuple(value._replace(uri=_changed(value.uri, change, code)) for value in values)


def _changed(uri: URI, change: Callable[[str], str | None], code: str) -> URI:
    if uri.user is None or not (uri.is_sip or uri.scheme == "tel"):
        return uri
    number = change(uri.user)
    if number is None:
        return uri
    if uri.is_sip:
        return uri._replace(user=number)
    # a tel URI with a number that is not global says where it is dialled (RFC 3966 §5.1.5)
    context = uri.parameters.get("phone-context")
    if not number.startswith("+") or context not in (None, f"+{code}"):
        return uri
    return uri._replace(user=number, parameters=uri.parameters.without("phone-context"))
