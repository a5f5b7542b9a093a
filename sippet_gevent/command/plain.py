"""parts(): a typed value as numbers, text and dicts of its parts, without credentials."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

from ..errors import CREDENTIALS
from ..message.address import NameAddr
from ..message.fields.authentication import Challenge
from ..message.fields.base import Parameter
from ..message.parameters import Parameters
from ..message.uri import URI
from ..message.via import Via
from .terminal import without_password

Plain: TypeAlias = "str | int | dict[str, Plain] | None"
"""A value that JSON can hold."""

SHOWN_OF_CREDENTIALS = frozenset(("realm", "algorithm", "qop"))
"""Parameters of credentials that are shown. They tell how a user is authenticated, but prove
nothing (RFC 3261 §22.4)."""

DIGEST_PARAMETERS = SHOWN_OF_CREDENTIALS | frozenset(
    "username nonce uri response cnonce opaque nc userhash".split()
)
"""Parameters whose names are shown. The name of any other parameter is hidden, because it may be a
secret in the wrong place."""

SCHEMES = frozenset(("basic", "bearer"))
"""Schemes whose names are shown. The rest of their credentials is hidden."""

HIDDEN = "..."
"""Replaces a credential."""


def parts(value: object, is_secret: bool = False) -> Plain:
    """Return a typed value as a number, text, or a dict of its parts.

    Args:
        value: the value of a header field, or one of its parts.
        is_secret: whether it is from a header field of credentials.

    Raises:
        ParseError: a part cannot be read.
    """
    if isinstance(value, Challenge) and is_secret:
        return _without_proof(value)
    if isinstance(value, URI):
        return {
            "text": clean(str(value)),
            "scheme": value.scheme,
            "user": parts(value.user),
            "host": value.host or None,
            "port": value.port,
            "parameters": parts(value.parameters),
            "headers": parts(value.headers),
            "opaque": clean(value.opaque) or None,
        }
    if isinstance(value, NameAddr):
        value.q  # noqa: B018 raises if it is no qvalue
        return {
            name: parts(getattr(value, name)) for name in ("display", "uri", "tag", "parameters")
        }
    if isinstance(value, Via):
        value.rport  # noqa: B018 raises if it is no port
    for name, attribute in vars(type(value)).items():
        if isinstance(attribute, Parameter):
            getattr(value, name)  # raises if its RFC does not allow it
    if isinstance(value, Parameters):
        return _parameters(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "_asdict"):
        return {name: parts(item) for name, item in value._asdict().items()}
    if isinstance(value, int):
        return int(value)
    return None if value is None else clean(str(value))


def clean(text: str | bytes) -> str:
    """Return text without passwords, and with escapes in place of bytes that are not UTF-8."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    return without_password(data.decode("utf-8", "backslashreplace"))


def _parameters(parameters: Parameters) -> dict[str, Plain]:
    return {
        clean(name): HIDDEN if name.title() in CREDENTIALS else parts(item)
        for name, item in parameters.items()
    }


def _without_proof(credentials: Challenge) -> Plain:
    # In other schemes the name of a parameter may be the secret. So may an unknown scheme.
    if credentials.scheme.lower() != "digest":
        is_known = credentials.scheme.lower() in SCHEMES
        return {"scheme": credentials.scheme if is_known else HIDDEN, "parameters": {}}
    shown: dict[str, Plain] = {
        name: value if name.lower() in SHOWN_OF_CREDENTIALS else HIDDEN
        for name, value in _parameters(credentials.parameters).items()
        if name.lower() in DIGEST_PARAMETERS
    }
    return {"scheme": credentials.scheme, "parameters": shown}
