"""validate(): checks a message that an application has made or got elsewhere, RFC 3261 §8.1.1 and
§8.2.6. Pure.

A stack completes the messages that it sends, and parse() checks those from the network. Other
messages go into a file, a test or a transport of the application.
"""

from __future__ import annotations

from ..errors import InvalidValue, excerpt
from .address import NameAddr
from .header import ROWS
from .iana import TARGET_REFRESHING
from .identifiers import MAGIC_COOKIE
from .mandatory import read_mandatory
from .message import Message, Request, Response

# The keyword to write for a missing field.
_EXAMPLES = {
    "Via": 'via=f"SIP/2.0/UDP 192.0.2.1;branch={create_branch()}"',
    "From": 'from_=f"<sip:alice@example.com>;tag={create_tag()}"',
    "To": 'to="<sip:bob@example.com>"',
    "Call-ID": "call_id=create_call_id()",
    "CSeq": 'cseq="1 {method}"',
    "Max-Forwards": "max_forwards=70",
    "Contact": 'contact="<sip:alice@192.0.2.1>"',
}


def validate(message: Message) -> None:
    """Check that a request or response can be sent as it is, and that its peer can read it.

    The message must have all that parse() requires. Besides, it must have a From tag, a top Via
    whose branch begins with the magic cookie, and Max-Forwards in a request (§8.1.1). A response
    above 100 must have a To tag (§8.2.6.2). There must be one Contact where a dialog needs it
    (§8.1.1.8, §12.1.1). Every known header field must be readable, and a Content-Length must be the
    length of the body.

    ```python
    request = Request("OPTIONS", "sip:bob@example.com", to="<sip:bob@example.com>")
    validate(request)  # InvalidValue: Via: missing from <Request OPTIONS …>: write via=…
    ```

    Args:
        message: A Request or a Response. It is not changed.

    Raises:
        InvalidValue: Something is missing, or two parts contradict each other. The text names the
            field, the value and what to write.
        ParseError: A part cannot be read. `header` names it, `value` is its text.
        TypeError: It is neither a Request nor a Response.
    """
    if not isinstance(message, (Request, Response)):
        raise TypeError(
            f"message must be a Request or a Response, got {excerpt(message)}: "
            "write validate(request)"
        )
    method = message.method if isinstance(message, Request) else "OPTIONS"
    if isinstance(message, Request):
        _ = message.uri  # reads it
    for name in _EXAMPLES:
        if ROWS[name].mandatory and name not in message.headers.fields:
            raise _missing(message, name, method)
    found = read_mandatory(message.headers)
    if not found.from_tag:
        raise _lacks(message, "From", "tag", "message.from_.with_params(tag=create_tag())")
    if found.branch is None or not found.branch.startswith(MAGIC_COOKIE) or found.key is None:
        raise InvalidValue(
            f"Via: branch must begin with {MAGIC_COOKIE} and go on (§8.1.1.7), "
            f"got {excerpt(message.headers['Via'])}: write branch=create_branch()"
        )
    for name in message.headers:
        known = ROWS.get(name)
        if known is not None:
            message.headers.typed(known)
    if isinstance(message, Request):
        _check_request(message, found.method)
    else:
        _check_response(message, found.method, found.to_tag)
    bytes(message)  # raises InvalidValue for a Content-Length that is not that of the body


def _check_request(request: Request, cseq_method: str) -> None:
    if cseq_method != request.method:
        raise InvalidValue(
            f"CSeq: method must be that of the request (§8.1.1.5), got {cseq_method} in "
            f'{request!r}: write request.cseq = "{request.cseq.number} {request.method}"'
        )
    if request.max_forwards is None:
        raise _missing(request, "Max-Forwards", request.method)
    if request.method in TARGET_REFRESHING:
        _check_contact(request, request.method)


def _check_response(response: Response, method: str, to_tag: str | None) -> None:
    if response.status > 100 and not to_tag:
        raise _lacks(response, "To", "tag", "request.response(…), which adds one")
    if response.is_success and method in TARGET_REFRESHING and method != "NOTIFY":
        _check_contact(response, method)


def _check_contact(message: Request | Response, method: str) -> None:
    """Check for the one Contact that becomes the remote target of a dialog (§8.1.1.8, §12.1)."""
    contacts = message.contact
    if not contacts:
        raise _missing(message, "Contact", method)
    if len(contacts) > 1 or not isinstance(contacts[0], NameAddr):
        raise InvalidValue(
            f"Contact: must be one URI in {message!r} (§8.1.1.8), "
            f"got {excerpt(message.headers['Contact'])}: write {_EXAMPLES['Contact']}"
        )


def _missing(message: Message, name: str, method: str) -> InvalidValue:
    write = _EXAMPLES[name].replace("{method}", method)
    return InvalidValue(f"{name}: missing from {message!r}: write {write}")


def _lacks(message: Message, name: str, parameter: str, write: str) -> InvalidValue:
    shown = excerpt(message.headers[name])
    return InvalidValue(f"{name}: {parameter} missing from {shown}: write {write}")
