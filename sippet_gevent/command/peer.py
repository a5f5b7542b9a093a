"""The peer of a command such as ping: its URI, and a stack that reaches it."""

from __future__ import annotations

from typing import Protocol

from ..engine.listening import FACTORIES
from ..errors import ParseError
from ..message.uri import URI
from ..message.uri_arguments import SLASHES, has_scheme, has_slashes, meant
from ..stack import Stack
from ..transport.locate.rfc3263 import SECURE
from ..transport.tls import TLS
from .terminal import Mistake, naming, visible

SCHEMES = ("sip:", "sips:", "tel:")
"""Text with one of these prefixes is a URI. Other text gets `sip:` in front."""


class Options(Protocol):
    """The arguments that say how a peer is reached."""

    uri: str
    listen: str | None
    ca: str | None
    outbound_proxy: str | None


def peer_uri(text: str, verb: str) -> URI:
    """Return a text as a SIP URI. Raises Mistake, which says how to write one.

    Args:
        text: What the user has written.
        verb: What the command does with the peer, such as "ping".
    """
    write = "write sip:HOST, sip:USER@HOST:PORT, sips:HOST or HOST (RFC 3261 §19.1)"
    is_uri = text.lower().startswith(SCHEMES)
    if not is_uri and has_scheme(text):
        raise Mistake(f"{text!r} is not a SIP URI: {write}")
    if has_slashes(written := text if is_uri else f"sip:{text}"):
        raise Mistake(f"{text!r} is not a SIP URI, because {SLASHES}: write {meant(written)}")
    try:
        uri = URI.parse(written)
    except ParseError as error:
        raise Mistake(f"not a SIP URI: {error}: {write}") from error
    if not uri.is_sip:  # the only other scheme of SCHEMES is tel
        number = visible(written.partition(":")[2])
        raise Mistake(
            f"{text!r} is a tel URI, which names no host to {verb}: "
            f"write sip:{number}@HOST;user=phone (RFC 3261 §19.1.6)"
        )
    return uri


def outbound_proxy(options: Options) -> URI | None:
    """Return the URI of `--outbound-proxy`. Raises Mistake."""
    return option_uri("--outbound-proxy", options.outbound_proxy, "send to")


def option_uri(option: str, text: str | None, verb: str) -> URI | None:
    """Return the SIP URI that an option gives, None if there is none. Raises Mistake.

    Args:
        option: The name of the option, for the message.
        text: What the user has written.
        verb: What the command does with it.
    """
    if text is None:
        return None
    try:
        return peer_uri(text, verb)
    except Mistake as error:
        raise Mistake(f"{option}: {error}") from error


def peer_stack(options: Options, uri: URI) -> Stack:
    """Return a stack that reaches a peer, not started yet. Raises Mistake.

    Args:
        options: Options of the command.
        uri: The outbound proxy, or else the peer.
    """
    kind = uri.transport or "UDP"
    kind = (SECURE.get(kind, "TLS") if uri.is_secure else kind).lower()
    if kind not in FACTORIES:
        raise Mistake(
            f"{str(uri)!r} has the unknown transport {kind!r}: write one of {', '.join(FACTORIES)}"
        )
    with naming("--ca"):
        tls = TLS(ca=options.ca)
    with naming("--listen"):
        return Stack(
            options.listen or f"{kind}:{'[::]' if ':' in uri.host else '0.0.0.0'}:0", tls=tls
        )
