"""RouteTokens: prove that this element made a URI, RFC 3261 §16.4 and RFC 5626 §5.2.
Pure."""

from __future__ import annotations

from hashlib import blake2s
from hmac import compare_digest

from ...errors import InvalidValue
from ...message.message import Request
from ...message.uri import URI

ROUTE_SECRET = 16
"""Least bytes of the secret for the tokens. An attacker that guesses it can relay requests to any
address."""

ROUTE_TOKEN = 10
"""Bytes of a token. An attacker can guess it only over the network, with one request for each
guess. It is short because every request of a call contains it."""


class RouteTokens:
    """Makes and checks the tokens that our Record-Route and Path URIs have as user part.

    Anyone can write a Route that names us and a To tag, but not a token. It is a MAC
    (message authentication code) under a secret of this element:

    * In Record-Route it covers the dialog: the Call-ID and the tag of the caller, which is all that
      is known when the Record-Route is written. Requests of both sides have that tag, in From or in
      To (§16.4, §16.6 step 4).
    * If the peer is reached by its flow alone, the name of the flow follows the MAC, and the MAC
      covers the name, too.
    * In Path it covers the name of the flow alone, because a Path outlives dialogs (RFC 5626 §5.2).

    Args:
        secret: At least ROUTE_SECRET bytes.

    Raises:
        InvalidValue: The secret is too short.
        TypeError: The secret is not bytes.
    """

    def __init__(self, secret: bytes) -> None:
        if not isinstance(secret, bytes) or len(secret) < ROUTE_SECRET:
            kind = InvalidValue if isinstance(secret, bytes) else TypeError
            got = f"{len(secret)} of them" if isinstance(secret, bytes) else type(secret).__name__
            raise kind(
                f"route_secret must be at least {ROUTE_SECRET} bytes, got {got}: "
                f"write os.urandom({ROUTE_SECRET})"
            )
        self._keyed = blake2s(
            key=blake2s(secret).digest(), digest_size=ROUTE_TOKEN, person=b"route"
        )

    def make(self, request: Request, flow: str = "") -> str:
        """Return the token for the dialog of a received request, and for the flow of this name if
        one is given."""
        there = request.headers.fields["Call-ID"]
        # no header field contains a LF
        text = f"{there if type(there) is str else there[0]}\n{request.mandatory.from_tag or ''}"
        return self._signed(f"{text}\n{flow}" if flow else text, flow)

    def match(self, request: Request, uri: URI) -> bool:
        """True when the token of a URI was made for the dialog of the request.

        A request without To tag begins a dialog, so only its From tag counts. Otherwise either tag
        may be the caller's. Callers of RFC 2543 have no tag, so an absent tag may be the caller's,
        too (§12.2.1.1).
        """
        mac, dash, flow = (uri.user or "").partition("-")
        if len(mac) != 2 * ROUTE_TOKEN:  # most users are phones, and need no MAC
            return False
        e = request.mandatory
        there = request.headers.fields["Call-ID"]
        call_id = there if type(there) is str else there[0]
        more = f"\n{flow}" if dash and flow else ""
        wanted = mac.encode("utf-8", "surrogateescape")
        for tag in (e.to_tag,) if e.to_tag is None else (e.to_tag, e.from_tag):
            keyed = self._keyed.copy()
            # no header field contains a LF
            keyed.update(f"{call_id}\n{tag or ''}{more}".encode("utf-8", "surrogateescape"))
            if compare_digest(wanted, keyed.hexdigest().encode()) and (not dash or flow):
                return True
        return False

    def make_for_flow(self, flow: str) -> str:
        """Return the token for the flow of this name, for requests of any dialog."""
        return self._signed(f"\n\n\n{flow}", flow)

    def match_flow(self, uri: URI) -> bool:
        """True when the token of a URI was made for the flow that the URI names, and for no
        dialog."""
        return _same(uri.user, self.make_for_flow(self.flow_name(uri)))

    @staticmethod
    def flow_name(uri: URI) -> str:
        """Return the name of the flow in a URI, "" when it has none. Only a matching MAC proves
        it."""
        return (uri.user or "").partition("-")[2]

    def _signed(self, text: str, flow: str) -> str:
        mac = self._keyed.copy()
        mac.update(text.encode("utf-8", "surrogateescape"))
        return f"{mac.hexdigest()}-{flow}" if flow else mac.hexdigest()


def _same(given: str | None, token: str) -> bool:
    return compare_digest(
        (given or "").encode("utf-8", "surrogateescape"), token.encode("utf-8", "surrogateescape")
    )
