"""Dialog: Call-ID and two tags, route set, remote target, sequence numbers, RFC 3261 §12. Pure."""

from __future__ import annotations

from typing import Any, TypeVar

from ...errors import ParseError, excerpt
from ...message.address import BracketedAddr, NameAddr
from ...message.fields.rfc3261 import CSeq
from ...message.grammar import split
from ...message.header import VALUES
from ...message.message import Request, Response
from ...message.uri import URI
from ..routing.routes import MAX_FORWARDS, as_request_uri
from ..routing.sips import is_secure, secured

DialogID = tuple[str, str, str]
"""Call-ID, our tag, the peer's tag (§12)."""


Self = TypeVar("Self", bound="Dialog")


def dialog_id(request: Request) -> DialogID | None:
    """Return the id of the dialog that a received request names; None outside one (§12.2.2)."""
    e = request.mandatory
    if e is None or e.to_tag is None:
        return None
    # one line, because the request was received
    return request.headers.fields["Call-ID"], e.to_tag, e.from_tag or ""  # type: ignore[return-value]


class Dialog:
    """A peer-to-peer relation between two user agents. Made by `of_uas` or `of_uac`.

    Args:
        call_id: The Call-ID.
        local: The From of our requests, tag included. A text is read when we send the first one,
            because the callee of most calls sends none.
        remote: The To of our requests, in the same way.
        remote_target: The Request-URI of our requests.
        route_set: The Route of our requests, in that order.
        secure: True when a request to a sips URI began the dialog. Then each target of the peer is
            used as a sips URI (§12.1.1).
        tags: The tags of `local` and `remote`, if they are known.
    """

    __slots__ = (
        "_local", "_remote", "call_id", "fault", "id", "local_cseq", "remote_cseq",
        "remote_target", "route_set", "secure",
    )  # fmt: skip

    def __init__(
        self,
        call_id: str,
        local: NameAddr | str,
        remote: NameAddr | str,
        *,
        remote_target: URI,
        route_set: tuple[NameAddr, ...] = (),
        secure: bool = False,
        tags: tuple[str, str] | None = None,
    ) -> None:
        self.call_id = call_id
        self._local = local
        self._remote = remote
        self.remote_target = secured(remote_target) if secure else remote_target
        self.route_set = route_set
        local_tag, remote_tag = tags or (self.local.tag, self.remote.tag)
        self.id: DialogID = call_id, local_tag or "", remote_tag or ""
        """Call-ID, our tag, the peer's tag."""
        self.local_cseq = 0
        self.remote_cseq: int | None = None
        self.secure = secure
        self.fault: ParseError | None = None
        """The error of Record-Route values that cannot be read. The route set lacks them."""

    @classmethod
    def of_uas(cls: type[Self], request: Request, response: Response) -> Self:
        """Return the dialog that our response creates (§12.1.1).

        The route set is the Record-Route in its order.

        Raises:
            ParseError: The request has no Contact, or a header field cannot be read.
        """
        read = request.mandatory
        target, fields = contact_uri(request), request.headers.fields
        route = request.record_route if "Record-Route" in fields else ()
        secure = is_secure(request)
        tag, to = request._to_tag, response.headers.fields["To"]
        if read is None or tag is None or not str(to).endswith(f";tag={tag}"):
            dialog = cls(
                request.call_id, response.to, request.from_,
                remote_target=target, route_set=route, secure=secure,
            )  # fmt: skip
            dialog.remote_cseq = request.cseq.number
            return dialog
        # one line each, because the request was received
        dialog = cls(
            fields["Call-ID"], to, fields["From"],  # type: ignore[arg-type]
            remote_target=target, route_set=route, secure=secure, tags=(tag, read.from_tag or ""),
        )  # fmt: skip
        dialog.remote_cseq = read.cseq
        return dialog

    @property
    def local(self) -> NameAddr:
        """The From of our requests, tag included."""
        if isinstance(self._local, str):
            self._local = NameAddr.parse(self._local)
        return self._local

    @local.setter
    def local(self, address: NameAddr) -> None:
        self._local = address

    @property
    def remote(self) -> NameAddr:
        """The To of our requests, tag included."""
        if isinstance(self._remote, str):
            self._remote = NameAddr.parse(self._remote)
        return self._remote

    @remote.setter
    def remote(self, address: NameAddr) -> None:
        self._remote = address

    @classmethod
    def of_uac(cls: type[Self], request: Request, response: Response) -> Self:
        """Return the dialog that the peer's response creates (§12.1.2).

        The route set is the Record-Route reversed. A response cannot be refused, and a 2xx must be
        acknowledged (§13.2.2.4). So the Request-URI takes the place of an unreadable Contact. If
        Record-Route is unreadable, its readable values are used, and `fault` is the error.
        """
        try:
            target = contact_uri(response)
        except ParseError:
            target = request.uri
        route, fault = route_of(response)
        if not (route or target.has_valid_host):  # with a route, the last hop resolves the target
            target = request.uri
        dialog = cls(
            request.call_id,
            request.from_,
            response.to,
            remote_target=target,
            route_set=tuple(reversed(route)),
            secure=is_secure(request),
        )
        dialog.local_cseq = request.cseq.number
        dialog.fault = fault
        return dialog

    def establish(self, response: Response) -> None:
        """Take the route set of the 2xx that confirms an early dialog of ours (§13.2.2.4)."""
        route, self.fault = route_of(response)
        self.route_set = tuple(reversed(route))

    def request(self, method: str, *, body: bytes | str = b"", **headers: Any) -> Request:
        """Build a request within the dialog, with the next sequence number (§12.2.1.1).

        It has the route set as its Route. The stack that sends it does what strict routers need.
        """
        self.local_cseq += 1
        return self._build(method, self.local_cseq, body, headers)

    def ack(self, number: int, *, body: bytes | str = b"", **headers: Any) -> Request:
        """Build the ACK to a 2xx, with the number of its INVITE and the route set (§13.2.2.4)."""
        return self._build("ACK", number, body, headers)

    def _build(
        self, method: str, number: int, body: bytes | str, headers: dict[str, Any]
    ) -> Request:
        request = Request(
            method,
            self.remote_target,
            body=body,
            max_forwards=MAX_FORWARDS,
            from_=self.local,
            to=self.remote,
            call_id=self.call_id,
            cseq=CSeq(number, method),
            **headers,
        )
        if self.route_set:
            request.route = self.route_set
        return request

    def receives(self, request: Request) -> bool:
        """Note the sequence number of a request from the peer (§12.2.2).

        Returns:
            False when the number is not higher than that of an earlier request.
        """
        read = request.mandatory  # of a message that was received
        number = request.cseq.number if read is None else read.cseq
        if request.method not in ("ACK", "CANCEL"):
            if self.remote_cseq is not None and number <= self.remote_cseq:
                return False
            self.remote_cseq = number
        return True

    def refresh(self, message: Request | Response) -> None:
        """Take the new remote target of a target refresh that was accepted (§12.2).

        Raises:
            ParseError: The Contact cannot be read or reached. The old target stays.
        """
        if message.headers.get_header_front("Contact") is not None:
            target = contact_uri(message)
            if not (self.route_set or target.has_valid_host):
                raise ParseError(
                    "host is neither an address nor a name", header="Contact", value=target.host
                )
            self.remote_target = secured(target) if self.secure else target

    def __repr__(self) -> str:
        call_id, theirs = excerpt(self.call_id)[1:-1], excerpt(self.remote.tag)[1:-1]
        return f"<Dialog {call_id} {self.local.tag} {theirs}>"


def route_of(response: Response) -> tuple[tuple[NameAddr, ...], ParseError | None]:
    """Return the Record-Route values of a response in their order, and the error if some
    cannot be read."""
    if "Record-Route" not in response.headers.fields:
        return (), None
    try:
        return response.record_route, None
    except ParseError as error:
        # the peer made the mistake, not the caller whose request the core serves
        error.status = 502
        return readable_route(response), error


def readable_route(response: Response) -> tuple[NameAddr, ...]:
    """Return the readable Record-Route values of a response, in their order."""
    values: list[NameAddr] = []
    for line in response.headers.all("Record-Route"):
        try:
            pieces = split(line, ",")
        except ParseError:  # a quote or bracket is not closed, so the end of its values is unknown
            continue
        for piece in pieces[: VALUES - len(values)]:
            try:
                values.append(BracketedAddr.parse(piece))
            except ParseError:
                continue
    return tuple(values)


def contact_uri(message: Request | Response) -> URI:
    """Return the URI of a message's Contact, in the form for a Request-URI (§8.1.1.8, §12.1).

    Raises:
        ParseError: There is no Contact, or it is `*`.
    """
    headers = message.headers
    read = headers.looked_at.get("Contact")  # by what has written our Contact, in most cases
    contact = read[0] if read else headers.get_header_front("Contact")
    if not isinstance(contact, NameAddr):
        raise ParseError("missing or *", header="Contact", source=message)
    return as_request_uri(contact.uri)
