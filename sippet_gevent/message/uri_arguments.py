"""URI arguments: URIs (RFC 3261 §19.1) that a program or a configuration gives as text. Pure.

An error says what to write. For `anna@host` it is `sip:anna@host`, because the most frequent
mistake is a missing scheme (RFC 3261 §19.1.1). Nor is `sip://anna@host` taken, as a browser would
write it: by the grammar its user is `//anna` (§25.1), and only peers may have such a user.
"""

from __future__ import annotations

import re

from ..errors import InvalidValue, ParseError, excerpt
from .address import NameAddr
from .uri import NO_SCHEME, URI

EXAMPLE = "sip:bob@example.com"

has_scheme = re.compile(
    r"(?:sips?|tel):|[A-Za-z][A-Za-z0-9+.\-]*:(?![0-9]{1,5}(?:;|$))", re.IGNORECASE
).match
"""Matches the scheme of a URI, `mailto:`, but no host and port, `localhost:5060`."""

_SIP = "a sip or sips URI"

_SLASHES = re.compile(r"(sips?:|tel:)/+", re.IGNORECASE)

SLASHES = "// is no part of a SIP URI"

_SPACED_NUMBER = re.compile(r"(?=.*\s)\+?[0-9\-.()\s]+").fullmatch

_VISUAL = re.compile(r"[\-.()]").sub
"""Removes the visual separators of a number (RFC 3966 §3)."""

_TELEPHONE = re.compile(r"\+[0-9\-.()]+").fullmatch


def meant(text: str, *, is_sip: bool = False) -> str:
    """Return the URI that a text without a scheme stands for, or else an example.

    Passwords are left out, because the result goes into messages.

    Args:
        text: The text, or an address that contains it.
        is_sip: True where only a sip or sips URI is of use, so that a number needs a host.
    """
    inner = _SLASHES.sub(r"\1", _inner(text), count=1)
    if _TELEPHONE(inner):
        return f"sip:{inner}@example.com" if is_sip else f"tel:{inner}"
    if inner.isascii() and inner.isdigit():  # a number of an office, which has a host
        return f"sip:{inner}@example.com"
    try:
        uri = URI.parse(inner if has_scheme(inner) else f"sip:{inner}")
    except ParseError:
        return EXAMPLE
    number = inner.partition(":")[2]
    if is_sip and uri.scheme == "tel" and _TELEPHONE(number):
        return f"sip:{number}@example.com"
    if not (uri.is_sip and uri.has_valid_host):
        return EXAMPLE
    return excerpt(str(uri._replace(password=None)))[1:-1]


def _inner(text: str) -> str:
    return text.rpartition("<")[2].partition(">")[0].strip()


def has_slashes(text: str) -> bool:
    """True for `sip://anna@host`, or an address with it, which is not what was meant."""
    found = _SLASHES.match(_inner(text))
    return found is not None and found[0].endswith("//")


def slashes_error(problem: str) -> InvalidValue:
    """Return the error of such a text. A core may have made it of the request that it serves, so
    the answer is 400."""
    refused = InvalidValue(problem)
    refused.status = 400
    return refused


def how_to_write(error: Exception) -> str:
    """Return `: write sip:anna@host` for the error of a text that lacks its scheme, "" for other
    errors."""
    if isinstance(error, ParseError) and error.problem == NO_SCHEME and error.value is not None:
        return f": write {meant(str(error.value))}"
    return ""


def given_uri(name: str, value: URI | str) -> URI:
    """Return a URI that was given for an argument of this name.

    Raises:
        InvalidValue: The text is no URI.
        TypeError: It is no text either.
    """
    if isinstance(value, URI):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a URI or text, got {excerpt(value)}: write {EXAMPLE}")
    if has_slashes(value):
        raise _with_slashes(name, "a URI", value)
    try:
        return URI.parse(value)
    except ParseError as error:
        raise _refused(name, "a URI", value, error) from error


def given_sip_uri(name: str, value: URI | str) -> URI:
    """Return a sip or sips URI that was given for an argument of this name.

    Raises:
        InvalidValue: It is another URI, or none.
    """
    if isinstance(value, str) and has_slashes(value):
        raise _with_slashes(name, _SIP, value)
    try:
        uri = URI.parse(value) if isinstance(value, str) else value
    except ParseError as error:
        raise _refused(name, _SIP, value, error) from error
    if not isinstance(uri, URI) or not uri.is_sip:
        raise _refused(name, _SIP, value)
    return uri


def given_aor(name: str, value: URI | str) -> URI:
    """Return an address-of-record that was given for an argument of this name (RFC 3261 §10.2).

    Raises:
        InvalidValue: It is no sip or sips URI, or has no user.
    """
    uri = given_sip_uri(name, value)
    if not uri.user:
        write = uri._replace(user="USER")
        raise InvalidValue(f"{name} must have a user, got {excerpt(str(uri))}: write {write}")
    return uri


def given_user(name: str, value: str) -> str:
    """Return a user or a number that was given for an argument of this name. It becomes the user
    part of a URI (RFC 3261 §19.1.1), so a whole URI there would never match or reach anybody.

    Raises:
        InvalidValue: It is a URI or an address, or a number with white space.
    """
    if not (has_scheme(value) or "@" in value or _SPACED_NUMBER(value)):
        return value
    user = _user_meant(value)
    write = f": write {user}" if user else ""
    raise InvalidValue(f"{name} must be a user or a number, got {excerpt(value)}{write}")


def _user_meant(text: str) -> str | None:
    """Return the user of what was written in place of a user; None if it has none."""
    inner = _SLASHES.sub(r"\1", _inner(text), count=1)
    if not has_scheme(inner):
        if "@" not in inner:
            return _VISUAL("", "".join(inner.split()))
        inner = f"sip:{inner}"
    try:
        uri = URI.parse(inner)
    except ParseError:
        return None
    user = uri.user if uri.is_sip else inner.partition(":")[2].partition(";")[0]
    if user is None:
        return None
    return excerpt(_VISUAL("", user) if _TELEPHONE(user) else user)[1:-1]


def given_address(name: str, value: NameAddr | str) -> NameAddr:
    """Return an address, with a display name or without, that was given for an argument of this
    name. Raises InvalidValue."""
    if not isinstance(value, str):
        return value
    if has_slashes(value):
        raise _with_slashes(name, "an address", value)
    try:
        return NameAddr.parse(value)
    except ParseError as error:
        raise _refused(name, "an address", value, error) from error


def _with_slashes(name: str, kind: str, value: str) -> InvalidValue:
    return slashes_error(
        f"{name} must be {kind}, got {excerpt(value)}, which is wrong: {SLASHES}: "
        f"write {meant(value)}"
    )


def _refused(name: str, kind: str, value: object, error: ParseError | None = None) -> InvalidValue:
    problem = ""
    if error is not None and error.problem != NO_SCHEME:
        problem = f", which is wrong: {error.problem}"
    write = meant(str(value), is_sip=kind is _SIP)
    refused = InvalidValue(f"{name} must be {kind}, got {excerpt(value)}{problem}: write {write}")
    if error is not None:
        refused.status = error.status  # for a text of the request that a core serves
    return refused
