"""Types: what an editor shows to a program that uses the package, held by mypy --strict."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from mypy import api

import sippet_gevent
from sippet_gevent import sdp, testing
from sippet_gevent.testing import strategies

USER_CORE = '''
"""A core of a user: reads twenty header fields, answers, calls, forwards."""

from __future__ import annotations

from sippet_gevent import (
    Cancelled,
    Core,
    Reject,
    Request,
    Response,
    ServerTransaction,
    Stack,
    forward,
)

stack = Stack("udp:127.0.0.1:0")


@stack.on("INVITE")
def ring(request: Request, tx: ServerTransaction) -> int | None:
    user: str | None = request.from_.uri.user
    tag: str | None = request.to.tag
    port: int | None = request.via[0].port
    host: str = request.via[0].host
    names: list[str] = [found.uri.host for found in request.contact if found != "*"]
    routes: int = len(request.route) + len(request.record_route)
    number: int = request.cseq.number
    if request.max_forwards is not None and request.max_forwards < 2:
        return 483
    if request.content_type is not None and request.content_type.subtype != "sdp":
        return 415
    expires: int | None = request.expires
    texts: list[str | None] = [request.subject, request.user_agent, request.organization]
    tags: tuple[str, ...] = request.supported + request.require
    methods: tuple[str, ...] = request.allow
    infos = [info.uri for info in request.call_info]
    print(user, tag, port, host, names, routes, number, expires, texts, tags, methods, infos)
    print(request.call_id.upper(), request.date, request.event, request.refer_to, request.replaces)
    try:
        tx.respond(180)
        tx.wait(3)
        with tx.accept(body=request.body) as call:
            call.wait()
    except Cancelled:
        return None
    return None


class Proxy(Core):
    """Forwards everything."""

    def receive_request(self, request: Request, tx: ServerTransaction) -> int | None:
        if self.stack.is_local(request.uri):
            raise Reject(404)
        print(tx.flow.remote[0], tx.flow.transport.name, tx.request.uri.user)
        forward(request, tx)
        return None

    def receive_response(self, response: Response, tx: object) -> None:
        print(response.status, response.reason, response.to.uri)


def ask(uri: str) -> int:
    response = stack.request("OPTIONS", uri, timeout=2.0, max_forwards=1)
    return response.status


def call(uri: str) -> str:
    with stack.invite(uri, body=b"v=0") as made:
        return made.flow.transport.name if made.flow else ""
'''

TYPES = {
    "request.from_": "NameAddr",
    "request.from_.uri.user": "str | None",
    "request.to.tag": "str | None",
    "request.via[0].host": "str",
    "request.via[0].port": "int | None",
    "request.contact": "tuple[NameAddr | Literal['*'], ...]",
    "request.cseq.number": "int",
    "request.supported[0].lower()": "str",
    "request.call_id.upper()": "str",
    "request.uri.host": "str",
    "request.headers.get('X')": "str | None",
    "response.status": "int",
    "tx.request": "Request",
    "tx.flow.remote": "tuple[str, int]",
    "tx.flow.transport.name": "str",
    "tx.call": "Call | None",
    "tx.accept()": "Call",
    "tx.accept().ended.is_set()": "bool",
    "tx.accept().flow": "Flow | None",
    "core.stack.request('OPTIONS', 'sip:b@c')": "Response",
    "core.stack.invite('sip:b@c')": "Call",
    "core.stack.send(request)": "ClientTransaction",
    "core.stack.send(request).call": "Call | None",
    "core.stack.is_local(request.uri)": "bool",
    "stack.addresses": "list[str]",
    "stack.stats()['received']": "int",
    "stack.stats()['dropped']": "dict[str, int]",
    "Reject(486).status": "int",
    "refused.response.status if refused.response else 0": "int",
    "refused.response.headers.get('Warning') if refused.response else None": "str | None",
    "cancelled.cancel.reason_header[0].cause if cancelled.cancel else None": "int | None",
    "failed.flow.remote if failed.flow else None": "tuple[str, int] | None",
    "failed.flow.transport.name if failed.flow else ''": "str",
    "sdp.SDP.parse('v=0').media": "tuple[sdp.MediaDescription, ...]",
}
"""Expressions of a user's program, and their types."""


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """Run mypy --strict on a text; return its lines."""
    folder = tmp_path_factory.mktemp("types")

    def run(text: str) -> list[str]:
        path = Path(folder, "user_core.py")
        path.write_text(text)
        options = [
            "--strict",
            "--no-error-summary",
            "--python-version",
            "3.11",
            "--cache-dir",
            str(folder / "cache"),
        ]
        lines = api.run([*options, str(path)])[0].splitlines()
        return [line for line in lines if "user_core.py:" in line or ": error:" in line]

    return run


@pytest.mark.timeout(300)
def test_core_of_a_user_passes_mypy_strict(check):
    assert check(USER_CORE) == []


TYPED_APPLICATION = """
from __future__ import annotations

from sippet_gevent import (
    Bindings, Call, CallHandlers, Core, CoreFunction, CoreResult, Location, Message, NextHop,
    Request, ServerTransaction, Stack, Statistics,
)
from sippet_gevent.testing import Sip

class Office(Core):
    def receive_request(self, request: Request, tx: ServerTransaction) -> CoreResult:
        return 404

def wrap(core: CoreFunction) -> CoreFunction:
    def wrapped(request: Request, tx: ServerTransaction) -> CoreResult:
        return core(request, tx)
    return wrapped

def phones(location: Location, request: Request) -> Bindings:
    return location.lookup(request.uri)

def identify(message: Message) -> str:
    return message.call_id

def place(stack: Stack, uri: str, hop: NextHop, handlers: CallHandlers) -> Call:
    return stack.invite(uri, next_hop=hop, handlers=handlers)

def received(statistics: Statistics) -> int:
    return statistics["received"]

def test_office(sip: Sip) -> None:
    status: int = sip.run(sip.client.request, "OPTIONS", "sip:a@b").status
    print(status + len(sip.run(str, 5)))
"""


@pytest.mark.timeout(300)
def test_typed_application_names_the_types_of_its_functions(check):
    assert check(TYPED_APPLICATION) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("module", ["sippet_gevent", "sippet_gevent.testing"])
def test_misspelt_import_is_an_error_of_mypy(check, module):
    (line,) = check(f"from {module} import Stak\n")
    assert "has no attribute" in line


@pytest.mark.timeout(300)
def test_expressions_have_their_real_types(check):
    head = """
from typing import Literal, assert_type
from sippet_gevent import (
    Call, Cancelled, ClientTransaction, Core, Flow, NameAddr, Reject, Request, Response,
    ServerTransaction, Stack, TransportError, sdp,
)
def show(
    request: Request, response: Response, tx: ServerTransaction, core: Core, stack: Stack,
    refused: Reject, cancelled: Cancelled, failed: TransportError,
) -> None:
"""
    asserted = [f"    assert_type({text}, {kind})\n" for text, kind in TYPES.items()]
    assert check(head + "".join(asserted)) == []


# ---- at run time


def annotated(value: object) -> Iterator[tuple[str, object]]:
    """Yield a public function, or a public class with its methods, those of its bases too."""
    if inspect.isroutine(value):
        yield "", value
    elif inspect.isclass(value):
        yield "", value
        for kind in value.__mro__:
            if kind.__module__.startswith("sippet_gevent"):
                for name, member in vars(kind).items():
                    found = getattr(member, "__func__", getattr(member, "fget", member))
                    found = getattr(found, "func", found)
                    if inspect.isfunction(found):
                        yield f".{name}", found


@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param(module, name, id=f"{module.__name__}.{name}")
        for module in (sippet_gevent, sdp, testing, strategies)
        for name in module.__all__
        if name != "sip"  # a fixture, which imports its type when a test wants it
    ],
)
def test_type_hints_can_be_read_at_run_time(module, name):
    for member, function in annotated(getattr(module, name)):
        try:
            typing.get_type_hints(function)
        except NameError as error:
            pytest.fail(f"{name}{member}: {error}: import what the annotation names")


def test_statistics_have_the_keys_that_their_type_has():
    stats = sippet_gevent.Stack("udp:127.0.0.1:0").stats
    assert set(stats()) == set(typing.get_type_hints(typing.get_type_hints(stats)["return"]))
