"""Names of domains and their aliases, as an application gives them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...errors import InvalidValue, excerpt
from ...message.grammar import is_host
from ...message.uri import bracketed, is_valid_host, normal_host


def alias_pairs(aliases: Mapping[str, str] | None) -> Iterable[tuple[str, str]]:
    """Return the aliases and their domains. Raises TypeError."""
    if aliases is None:
        return ()
    if not isinstance(aliases, Mapping):
        wrong: list[object] = [aliases]
    else:
        wrong = [text for text in (*aliases, *aliases.values()) if not isinstance(text, str)]
    if wrong:
        raise TypeError(
            f"aliases must map names, got {excerpt(wrong[0])}: "
            'write aliases={"example.net": "example.com"}'
        )
    return aliases.items()


def domain_name(text: str, what: str) -> str:
    """Return a domain or alias in its normal form. Raises InvalidValue."""
    host = bracketed(text.strip("[]"))
    if not (is_host(host) and is_valid_host(host)):
        raise InvalidValue(
            f"{what} {text!r} is not a host name: "
            "write it without scheme and port, like office.example"
        )
    return normal_host(text)
