"""What a type checker, and so an editor, sees of a message: mypy --strict on a user's program."""

import re

import pytest
from mypy import api

from sippet_gevent import Header
from sippet_gevent.message.fields.table import HeaderFields

ATTRIBUTES = [name for name in dir(HeaderFields) if isinstance(getattr(HeaderFields, name), Header)]

PROGRAM = '''
from datetime import datetime, timezone

from sippet_gevent import URI, NameAddr, Request, Response, ServerTransaction, Stack, validate


def caller_of(request: Request) -> str:
    user = request.from_.uri.user
    return user if user is not None else request.from_.uri.host


def core(request: Request, tx: ServerTransaction) -> Response | int:
    """A core that reads twenty header fields."""
    hops: int = 70 if request.max_forwards is None else int(request.max_forwards)
    first: str = request.via[0].host
    branch: str | None = request.via[0].branch
    tag: str | None = request.to.tag
    call: str = request.call_id
    number: int = request.cseq.number
    method: str = request.cseq.method
    for contact in request.contact:
        if not isinstance(contact, str):
            host: str = contact.uri.host
            lasts: int | None = contact.expires
    routes: list[URI] = [route.uri for route in request.route]
    path: tuple[NameAddr, ...] = request.path
    if any(tag.lower() == "100rel" for tag in request.require):
        return request.response(420, unsupported=request.require)
    if request.expires is not None and request.expires > 3600:
        return request.response(423, min_expires=3600)
    kind = request.content_type
    if kind is not None and kind.name != "application/sdp":
        return 415
    if request.date is not None and request.date < datetime.now(timezone.utc):
        late: float = (datetime.now(timezone.utc) - request.date).total_seconds()
    if request.refer_to is not None and request.refer_to.replaces is not None:
        other: str = request.refer_to.replaces.call_id
    if request.session_expires is not None:
        refresher: str | None = request.session_expires.refresher
    events = request.event.package if request.event else "none"
    for credentials in request.authorization:
        realm: str | None = credentials.realm
    for reason in request.reason_header:
        cause: int | None = reason.cause
    agent: str = request.user_agent or "unknown"
    response = request.response(200)
    response.contact = "<sip:me@192.0.2.1>"
    response.contact = NameAddr(URI.parse("sip:me@192.0.2.1"))
    response.contact = [NameAddr(URI.parse("sip:me@192.0.2.1")), "<sip:me@192.0.2.2>"]
    response.record_route = request.record_route
    response.expires = 60
    response.privacy = ("id", "critical")
    response.allow = ("INVITE", "ACK")
    response.date = datetime.now(timezone.utc)
    response.server = None
    validate(response)
    return response
'''


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mypy")

    def run(text):
        program = folder / "program.py"
        program.write_text(text)
        found, errors, _ = api.run(
            ["--strict", "--config-file=", f"--cache-dir={folder / 'cache'}", str(program)]
        )
        assert not errors
        return [line for line in found.splitlines() if line.startswith(str(program))]

    return run


@pytest.mark.timeout(300)
def test_core_that_reads_twenty_fields_has_no_error(check):
    assert check(PROGRAM) == []


@pytest.mark.timeout(300)
def test_no_attribute_has_the_type_any(check):
    lines = [f"    reveal_type(request.{name})" for name in ATTRIBUTES]
    text = "from sippet_gevent import Request\ndef f(request: Request) -> None:\n"
    shown = check(text + "\n".join(lines))
    assert len(shown) == len(ATTRIBUTES) == 125
    assert [line for line in shown if re.search(r"\bAny\b", line)] == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("request.max_forwards.bit_length()", 'Item "None" of "MaxForwards | None"'),
        ("request.via[0].hosts", '"Via" has no attribute "hosts"'),
        ("request.contact[0].uri", '''of "NameAddr | Literal['*']" has no attribute "uri"'''),
        ("request.from_ = 5", 'variable has type "NameAddr | URI | str | None"'),
        ("request.cseq = (1, b'INVITE')", 'variable has type "CSeq | URI | str | None"'),
        ("request.allow = [5]", 'List item 0 has incompatible type "int"'),
        ("request.from_.uri.users", '"URI" has no attribute "users"'),
    ],
)
def test_mistake_is_seen_by_the_type_checker(check, line, problem):
    found = check(
        f"from sippet_gevent import Request\ndef f(request: Request) -> None:\n    {line}\n"
    )
    assert problem in "\n".join(found)
