"""multipart(): makes a multipart of body parts, RFC 2046 §5.1, RFC 2387, RFC 5621. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InvalidValue, excerpt
from .body import Part
from .boundary import checked_boundary, fresh_boundary, join
from .fields.rfc3261 import MediaType
from .grammar import BLANKS, is_token, quote
from .parameters import Parameters

# An alternative of these dispositions has each content type only once (RFC 5621 §6.2).
_ONE_OF_A_TYPE = ("session", "early-session")


def multipart(
    subtype: str,
    parts: Iterable[Part],
    *,
    root: Part | None = None,
    boundary: str | None = None,
    parameters: Mapping[str, str] | None = None,
    **headers: Any,
) -> Part:
    """Make a multipart of `parts`. `put_in(message)` makes it the body of a message.

    ```python
    offer = Part(sdp, "application/sdp", content_disposition="session")
    multipart("mixed", [offer, Part("hello", "text/plain")]).put_in(request)
    ```

    An alternative gets the disposition of its parts (RFC 5621 §8.2).

    Args:
        subtype: `mixed`, `alternative`, `related` …
        parts: At least one part.
        root: The root of a related, which needs a Content-ID unless it is the first part (RFC 2387
            §3).
        boundary: A boundary that occurs in none of the parts; a new one by default.
        parameters: Further parameters of the media type.
        **headers: Header fields of the multipart.

    Raises:
        InvalidValue: The parts do not fit together, or the boundary occurs in one.
        TypeError: One of the parts is no Part.
    """
    parts = list(parts)
    for part in parts:
        if not isinstance(part, Part):
            raise TypeError(
                f"parts must be a list of Part, got {excerpt(part)} in it: "
                "write [Part(body, content_type), …]"
            )
    if not parts:
        raise InvalidValue("a multipart has one part at least (RFC 2046 §5.1.1)")
    subtype = subtype.lower()
    given: dict[str, object] = dict(parameters or {})
    if subtype == "related":
        given = {**_related(parts, parts[0] if root is None else root), **given}
    elif root is not None:
        raise InvalidValue(f"a multipart/{subtype} has no root")
    if subtype == "alternative":
        headers = _alternative(parts, headers)
    pieces = [bytes(part) for part in parts]
    if boundary is None:
        boundary = fresh_boundary(pieces)
    else:
        boundary = checked_boundary(boundary, pieces)
    given.pop("boundary", None)
    # a host is quoted too (RFC 2045 §5.1)
    written = ("boundary", boundary if is_token(boundary) else quote(boundary))
    return Part(
        join(boundary, pieces),
        MediaType("multipart", subtype, Parameters.of((*Parameters(given).pairs, written))),
        **headers,
    )


def _related(parts: list[Part], root: Part) -> dict[str, object]:
    # type is required (RFC 2387 §3.1), and start if the root is not the first part (§3.2)
    if not any(part is root for part in parts):
        raise InvalidValue("the root is not one of the parts")
    name = root.content_id
    if name is None and root is not parts[0]:
        raise InvalidValue("a root that is not the first part needs a Content-ID (RFC 2387 §3.2)")
    return (
        {"type": root.media_type.name}
        if name is None
        else {"type": root.media_type.name, "start": str(name)}
    )


def _alternative(parts: list[Part], headers: dict[str, Any]) -> dict[str, Any]:
    # RFC 5621 §8.2: one disposition type for the alternative and all its top-level parts
    given = headers.get("content_disposition")
    dispositions = {part.disposition for part in parts}
    if given is not None:
        dispositions.add(str(given).partition(";")[0].strip(BLANKS).lower())
    if len(dispositions) > 1:
        raise InvalidValue(
            "an alternative has one disposition type (RFC 5621 §8.2), "
            f"got {', '.join(sorted(dispositions))}"
        )
    disposition = dispositions.pop()
    if disposition in _ONE_OF_A_TYPE and len({part.media_type.name for part in parts}) < len(parts):
        raise InvalidValue(
            f"a {disposition} has each content type once in an alternative (RFC 5621 §6.2)"
        )
    return (
        headers
        if given is not None or disposition == "render"
        else {**headers, "content_disposition": disposition}
    )
