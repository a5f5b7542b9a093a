"""Addresses, RFC 3261 §20.10: name-addr and addr-spec with the header's parameters. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeVar

from ..errors import InvalidValue, ParseError, excerpt
from .grammar import (
    BLANKS,
    PLAIN_NAME_ADDR,
    QUOTED,
    REMEMBERED,
    TOKEN_CHARACTERS,
    is_token,
    number,
    quote,
    unquote,
)
from .parameters import EMPTY, Parameters
from .speedups import c
from .uri import URI, read_uri

AnyNameAddr = TypeVar("AnyNameAddr", bound="NameAddr")

CACHED_ADDRESSES = 4096
"""Most addresses that are remembered, without their tags, because phones send the same addresses
again. The oldest is dropped first."""

_QUOTED_START = re.compile(QUOTED, re.DOTALL).match
_DISPLAY = re.compile(rf"[{TOKEN_CHARACTERS} \t\x80-\U0010ffff]*").fullmatch


class _Fields(NamedTuple):
    uri: URI
    display: str = ""
    parameters: Parameters = EMPTY


class NameAddr(_Fields):
    """An address with its header parameters: From, To, Contact, Route … (RFC 3261 §20.10).

    name-addr = [ display-name ] LAQUOT addr-spec RAQUOT. Without brackets, parameters belong to the
    header field, not to the URI.

    Attributes:
        uri: The URI.
        display: The display name without quotes and escapes, or "".
        parameters: The parameters of the header field, such as the tag.

    Raises:
        TypeError: The URI or the display name has another type.
        InvalidValue: The URI is a text without a scheme.

    ```python
    NameAddr(URI.parse("sip:bob@example.com"), "Bob").with_params(tag=create_tag())
    ```
    """

    __slots__ = ()

    # Received addresses are made by tuple.__new__(), which skips these checks.
    def __new__(
        cls: type[AnyNameAddr], uri: URI, display: str = "", parameters: Parameters = EMPTY
    ) -> AnyNameAddr:
        if type(uri) is not URI or type(display) is not str:
            _check(uri, display)
        return tuple.__new__(cls, (uri, display, parameters))

    @staticmethod
    def parse(text: str) -> NameAddr:
        """Read an address. Raises ParseError."""
        # Only the tag of an address is new each time, and nearly all peers write it last. The rest
        # is remembered.
        if len(text) > REMEMBERED:
            return NameAddr._parse(text)
        before, _, tag = text.rpartition(";tag=")
        if not before:
            return _known(text)
        if (tag.isalnum() and tag.isascii()) or is_token(tag):
            try:
                uri, display, parameters = _known(before)
            except ParseError:
                return NameAddr._parse(text)  # the tag was not at the end
            if parameters is EMPTY:
                return tuple.__new__(NameAddr, (uri, display, Parameters.of((("tag", tag),))))
        return NameAddr._parse(text)

    @staticmethod
    def _parse(text: str) -> NameAddr:
        match = PLAIN_NAME_ADDR(text)
        if not match:
            return NameAddr._parse_any(text)
        quoted, tokens, uri, tail = match.groups()
        display = tokens.strip(BLANKS) if quoted is None else quoted
        return tuple.__new__(
            NameAddr, (read_uri(uri), display, Parameters.plain(tail) if tail else EMPTY)
        )

    @staticmethod
    def _parse_any(text: str) -> NameAddr:
        display = ""
        rest = text
        if text.startswith('"'):
            quoted = _QUOTED_START(text)
            if not quoted:
                raise ParseError("quoted string without end", value=text)
            display, rest = unquote(quoted[0]), text[quoted.end() :].lstrip(BLANKS)
            if not rest.startswith("<"):
                raise ParseError("display name without <URI>", value=text)
        uri, semicolon, parameters = rest.partition(";")
        # A bracket behind the semicolon is in a quoted parameter: addr-spec has none (§25.1).
        if "<" not in uri:
            if "?" in uri or "," in uri:
                # §20.10: with a comma, question mark or semicolon the URI must be in brackets
                raise ParseError("URI with ? or , must be in angle brackets", value=text)
            return NameAddr(
                URI.parse(uri.rstrip(BLANKS)), "", NameAddr._parameters(semicolon + parameters)
            )
        before, _, after = rest.partition("<")
        if before.strip(BLANKS):
            display = before.strip(BLANKS)
            if not _DISPLAY(display):
                raise ParseError("display name must be quoted", value=text)
        uri, bracket, tail = after.partition(">")
        if not bracket:
            raise ParseError("angle bracket without its partner", value=text)
        return NameAddr(URI.parse(uri), display, NameAddr._parameters(tail.lstrip(BLANKS), text))

    @staticmethod
    def _parameters(tail: str, text: str = "") -> Parameters:
        if tail and not tail.startswith(";"):
            raise ParseError("text after the address", value=text or tail)
        return Parameters.parse(tail) if tail else EMPTY

    @property
    def tag(self) -> str | None:
        """The tag parameter (RFC 3261 §19.3), or None."""
        return self.parameters.get("tag")

    @property
    def q(self) -> float:
        """The q parameter of a Contact, 1.0 when absent (RFC 3261 §20.10)."""
        value = self.parameters.get("q")
        if value is None:
            return 1.0
        # qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] ). Real peers send more
        # decimals (RFC 4475 §3.1.1.1).
        if not _QVALUE(value):
            raise ParseError("not a q value", value=value)
        return float(value)

    def __str__(self) -> str:
        uri = self.uri if isinstance(self.uri, URI) else URI.parse(self.uri)
        display = quote(self.display) + " " if self.display else ""
        return f"{display}<{uri}>{self.parameters}"

    def with_params(
        self: AnyNameAddr, values: Mapping[str, object] | None = None, **named: object
    ) -> AnyNameAddr:
        """Return a copy with these header parameters set; None is a parameter without value."""
        return self._replace(parameters=self.parameters.replace(values, **named))

    def without_params(self: AnyNameAddr, *names: str) -> AnyNameAddr:
        """Return a copy that lacks these header parameters."""
        return self._replace(parameters=self.parameters.without(*names))

    # ---- parameters of a Contact

    @property
    def expires(self) -> int | None:
        """Seconds until the binding of a Contact expires, or None (RFC 3261 §20.10). Raises
        ParseError."""
        value = self.parameters.get("expires")
        return None if value is None else number(value)

    @property
    def instance(self) -> str | None:
        """The URN of a Contact's user agent, `urn:uuid:…` without brackets, or None (RFC 5626
        §4.1)."""
        value = self.parameters.get("+sip.instance")
        return None if value is None else value.removeprefix("<").removesuffix(">")

    @property
    def reg_id(self) -> int | None:
        """The number of the flow that a user agent registers by a Contact, from 1 to 2**31 - 1, or
        None (RFC 5626 §4.2). Raises ParseError."""
        value = self.parameters.get("reg-id")
        if value is None:
            return None
        found = number(value, 2**31 - 1)
        if not found:
            raise ParseError("reg-id is 0", value=value)
        return found

    @property
    def methods(self) -> tuple[str, ...] | None:
        """The methods that the user agent of a Contact supports, or None if it names none (RFC 3840
        §10)."""
        value = self.parameters.get("methods")
        return (
            None if value is None else tuple([method.strip(BLANKS) for method in value.split(",")])
        )

    @property
    def pub_gruu(self) -> str | None:
        """The public GRUU that a registrar assigned to a Contact, or None (RFC 5627 §5.3)."""
        return self.parameters.get("pub-gruu")

    @property
    def temp_gruu(self) -> str | None:
        """The temporary GRUU that a registrar assigned to a Contact, or None (RFC 5627 §5.3)."""
        return self.parameters.get("temp-gruu")


def _check(uri: object, display: object) -> None:
    """Check the arguments of an address that a program makes."""
    example = 'NameAddr(URI.parse("sip:bob@example.com"), "Bob")'
    if not isinstance(uri, (URI, str)):
        raise TypeError(f"uri must be a URI, got {excerpt(uri)}: write {example}")
    if not isinstance(display, str):
        raise TypeError(f"display must be a text, got {excerpt(display)}: write {example}")
    if isinstance(uri, str) and ":" not in uri:
        if ":" in display:
            example = f"NameAddr(URI.parse({excerpt(display)}), {excerpt(uri)})"
        raise InvalidValue(f"uri must be a URI, got {excerpt(uri)}: write {example}")


@lru_cache(CACHED_ADDRESSES)
def _known(text: str) -> NameAddr:
    return NameAddr._parse(text)


parse_in_python = NameAddr.parse
if c is not None:
    c.setup_name_addr(NameAddr, Parameters, EMPTY, ParseError, _known, NameAddr._parse)
    NameAddr.parse = c.name_addr  # type: ignore[method-assign]  # the twin in C


_QVALUE = re.compile(r"0(?:\.[0-9]{0,9})?|1(?:\.0{0,9})?").fullmatch

STAR: Final = "*"


class BracketedAddr(NameAddr):
    """A name-addr, which always has brackets: Route, Path … (§20.34). A URI without brackets is
    read as if they were around it and its parameters.

    As an addr-spec, its `lr` would be a parameter of the header field, and the URI would name a
    strict router. Parameters of these header fields have no meaning, but `lr` has one in a URI."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        return NameAddr.parse(cls.written(text))

    @staticmethod
    def written(text: str) -> str:
        if text[-1:] == ">" or text[:1] in ("", '"') or "<" in text.partition(";")[0]:
            return text
        return f"<{text}>"


class Contact(NameAddr):
    """A Contact value: a NameAddr, or the text `"*"` of a REGISTER that removes all bindings (RFC
    3261 §10.2.2)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> NameAddr | Literal["*"]:  # type: ignore[override]  # a Contact may be *
        return STAR if text == STAR else NameAddr.parse(text)
