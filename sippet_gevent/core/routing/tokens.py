"""Tokens that prove that a URI was made here, RFC 3261 §16.4 and RFC 5626 §5.2. Pure."""

from __future__ import annotations

from hashlib import blake2s
from hmac import compare_digest

from ...errors import InvalidValue
from ...message.message import Request
from ...message.uri import URI

ROUTE_SECRET = 16
"""Octets in the secret behind our Record-Route tokens, at least: who guesses it has us relay to
anywhere."""

ROUTE_TOKEN = 10
"""Octets in a token: it is guessed over the network only, one request each, and stands in every
request of a call."""


class RouteTokens:
    """Makes the tokens that our Record-Route URIs carry as user part, and knows them again (§16.4,
    §16.6 step 4).

    Anybody can write a Route that names us, and a To tag. A token is a MAC of the dialog's Call-ID
    and the tag of who began it, all there is of a dialog when Record-Route is written. The requests
    of both sides have that tag, in From or in To. Raises InvalidValue for a secret under
    ROUTE_SECRET octets.

    Where a peer is reached by its flow alone, the flow's name follows the MAC, which then is one of
    the name, too. A token for a Path, which outlives dialogs, is of the name alone (RFC 5626 §5.2).
    """

    def __init__(self, secret: bytes) -> None:
        if not isinstance(secret, bytes) or len(secret) < ROUTE_SECRET:
            kind = InvalidValue if isinstance(secret, bytes) else TypeError
            got = f"{len(secret)} of them" if isinstance(secret, bytes) else type(secret).__name__
            raise kind(
                f"route_secret must be at least {ROUTE_SECRET} bytes, got {got}: write os.urandom({ROUTE_SECRET})"
            )
        self._keyed = blake2s(
            key=blake2s(secret).digest(), digest_size=ROUTE_TOKEN, person=b"route"
        )

    def make(self, request: Request, flow: str = "") -> str:
        """Return the token for the dialog that a received request begins, or is in, and for the
        flow of this name."""
        return self._token(request, request.mandatory.from_tag, flow)

    def match(self, request: Request, uri: URI) -> bool:
        """True when a URI of ours that a request came along was made for the dialog it is in.

        A request without To tag begins a dialog, unless its caller had no tag (RFC 2543;
        §12.2.1.1).
        """
        e = request.mandatory
        tags = (e.to_tag,) if e.to_tag is None else (e.to_tag, e.from_tag)
        flow = self.flow_name(uri)
        return any(_same(uri.user, self._token(request, tag, flow)) for tag in tags)

    def make_for_flow(self, flow: str) -> str:
        """Return the token for the flow of this name, whatever goes by it."""
        return self._signed(f"\n\n\n{flow}", flow)

    def match_flow(self, uri: URI) -> bool:
        """True when a URI of ours was made for the flow that it names, and for no dialog."""
        return _same(uri.user, self.make_for_flow(self.flow_name(uri)))

    @staticmethod
    def flow_name(uri: URI) -> str:
        """Return the name of the flow in a URI of ours, "" for none; whether it is to be believed,
        the MAC says."""
        return (uri.user or "").partition("-")[2]

    def _token(self, request: Request, tag: str | None, flow: str) -> str:
        text = f"{request.headers['Call-ID']}\n{tag or ''}"  # no field has a LF
        return self._signed(f"{text}\n{flow}" if flow else text, flow)

    def _signed(self, text: str, flow: str) -> str:
        mac = self._keyed.copy()
        mac.update(text.encode("utf-8", "surrogateescape"))
        return f"{mac.hexdigest()}-{flow}" if flow else mac.hexdigest()


def _same(given: str | None, token: str) -> bool:
    return compare_digest(
        (given or "").encode("utf-8", "surrogateescape"), token.encode("utf-8", "surrogateescape")
    )
