"""Optional packages: which extra of this distribution installs each. Pure."""

from __future__ import annotations

from .errors import InvalidValue

EXTRAS = {
    "dpkt": "capture",
    "h11": "websocket",
    "prometheus_client": "metrics",
    "redis": "redis",
    "wsproto": "websocket",
}
"""Name of each optional package to the extra that installs it."""


def missing(error: ModuleNotFoundError, purpose: str) -> InvalidValue:
    """Make the error for an optional package that is not installed.

    Args:
        error: What the import raised.
        purpose: What needs the package, such as `ws: addresses`.

    Returns:
        An InvalidValue whose text is the pip command that installs the package.

    Raises:
        ModuleNotFoundError: `error`, if the package that it names is not an optional one.
    """
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        raise error
    return InvalidValue(
        f"{purpose} need the package {package}: pip install 'sippet-gevent[{EXTRAS[package]}]'"
    )
