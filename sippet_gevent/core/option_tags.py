"""Option tags of Supported, Require and Proxy-Require, RFC 3261 §8.2.2.3, §16.3 step 5 and §20.37.
Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

from ..arguments import texts
from ..errors import InvalidValue, Reject, excerpt
from ..message.grammar import is_token


def check_supported(supported: Any) -> tuple[str, ...]:
    """Check the option tags that a stack supports (§20.37). Raises TypeError and InvalidValue."""
    for tag in (tags := texts("supported", supported, "option tags")):
        if not is_token(tag):
            raise InvalidValue(
                f'supported must be option tags, got {excerpt(tag)}: write supported=("timer", '
                '"100rel")'
            )
    return tags


def unsupported(tags: Iterable[str], supported: Container[str]) -> tuple[str, ...]:
    """Return the option tags of a Require or Proxy-Require that are not supported (§8.2.2.3, §16.3
    step 5)."""
    return tuple(tag for tag in tags if tag.lower() not in supported)


def check_required(tags: Iterable[str], supported: Container[str]) -> None:
    """Refuse a request by its Require or Proxy-Require.

    Args:
        tags: The option tags that the request requires.
        supported: The option tags that are supported, in lower case.

    Raises:
        Reject: 420, with the option tags that are not supported in Unsupported.
    """
    missing = unsupported(tags, supported)
    if missing:
        raise Reject(420, unsupported=missing)
