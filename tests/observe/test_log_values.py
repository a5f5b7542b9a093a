"""Values in log lines: no peer can forge a field or a line."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sippet_gevent
from sippet_gevent import Credentials, StaticResolver
from sippet_gevent.core.auth.authenticated import Authenticated
from sippet_gevent.observe.counters import LimitedLog
from sippet_gevent.observe.log_values import LOGGED_TEXT, Plain, Quoted, Text, shown

PACKAGE = Path(sippet_gevent.__file__).parent

FIELD = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|(?:\\"|[^\s"])*)')

FORGED = [
    'x" source=192.0.2.9 reason="forged',
    "x source=192.0.2.9",
    "x\r\nauthentication failed: source=192.0.2.9",
    "x\u2028authentication failed: source=192.0.2.9",
    'x\\" source=192.0.2.9',
    "x\\",
    "x\x1b[2J\x00\x9b",
    "\u202eemordnilap",
    "x\u00a0source=192.0.2.9",
    "x\ud800",
]


def fields(line):
    """Return the event of a line, and its fields as any reader of key="value" pairs finds them."""
    event, _, rest = line.partition(": ")
    found, at = {}, 0
    while at < len(rest):
        match = FIELD.match(rest, at)
        assert match, rest[at:]
        assert match[1] not in found, line
        found[match[1]] = match[2]
        at = match.end()
        assert at == len(rest) or rest[at] == " ", rest[at:]
        at += 1
    return event, found


LINE = 'authentication failed: user=%s reason="%s" target=%s:%d seen="%r" call_id=%s'


@pytest.mark.parametrize("wrap", [str, Plain, Quoted, ValueError, lambda value: value.encode("utf-8", "replace")])  # fmt: skip
@pytest.mark.parametrize("value", FORGED)
def test_value_of_a_peer_forges_no_field_and_no_line(wrap, value):
    one = wrap(value)
    line = LINE % shown(LINE, (one, one, one, 5060, one, one))
    assert len(line.splitlines()) == 1
    assert line.replace("\xa0", " ").isprintable()
    event, found = fields(line)
    assert event == "authentication failed"
    assert [*found] == ["user", "reason", "target", "seen", "call_id"]
    assert found["target"].endswith(":5060")


@given(st.text(max_size=40), st.text(alphabet='"\\ =:\n%', max_size=12))
def test_line_has_its_own_fields_whatever_the_values_are(one, other):
    values = (Plain(one), Plain(other), one, 1, Quoted(other), other)
    line = LINE % shown(LINE, values)
    assert len(line.splitlines()) == 1
    assert [*fields(line)[1]] == ["user", "reason", "target", "seen", "call_id"]
    line = f'event: a="{Quoted(one)}" b={Plain(one)} c="{Quoted(other)}"'
    assert [*fields(line)[1]] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (Plain, "alice", "alice"),
        (Plain, 'a "b"', 'a\\x20\\"b\\"'),
        (Plain, "a\\b", "a\\b"),
        (Quoted, 'no "user" a\\b', 'no \\"user\\" a\\b'),
        (Quoted, 'a\\"', 'a\\\\\\"'),
        (Quoted, "a\\", "a\\\\"),
        (Text, 'a "b"\n', 'a "b"\\n'),
        (Plain, "é" * 300, "é" * LOGGED_TEXT),
    ],
)
def test_text_for_each_place(kind, value, text):
    assert str(kind(value)) == text


def test_password_of_a_uri_is_in_no_line():
    line = "event: uri=%s"
    assert "secret" not in line % shown(line, ("sip:bob:secret@a.example",))


def test_summary_quotes_a_line_with_quotes(caplog):
    log = logging.getLogger("sippet_gevent.test")
    lines = LimitedLog()
    for number in range(30):
        lines.line(log, logging.WARNING, "flood", 'flood: reason="%s" call_id=%s', Plain("a b"), number)  # fmt: skip
    lines.stop()
    found = fields(caplog.messages[-1])[1]
    assert found["first"] == '"flood: reason=\\"a b\\" call_id=10"'


def test_user_name_of_a_peer_forges_no_source(sip, caplog):
    core = Authenticated(lambda request, tx: 200, realm="example.com", users={"alice": "secret"})
    sip.stack(core, host="10.0.0.1", domains=("example.com",))
    client = sip.stack(host="10.0.0.50", resolver=StaticResolver({"example.com": ["10.0.0.1"]}))
    mine = Credentials('alice source=192.0.2.9 user="bob', "guess", hosts=("example.com",))
    sip.run(client.request, "OPTIONS", "sip:example.com", credentials=mine)
    (line,) = [each for each in caplog.messages if each.startswith("authentication failed")]
    found = fields(line)[1]
    assert found["source"] == "10.0.0.50"
    assert " source=192.0.2.9" not in line
    assert [*found] == ["source", "user", "realm", "method", "call_id"]


# ---- all lines of the package

CONSTANT = {
    ("command/reload.py", "key"): "a key of our table of settings",
    ("runtime/process.py", "_line(stack.stats())"): "counters of ours",
    (
        "command/reload.py",
        "','.join((key for key in changed if key not in fixed)) or 'none'",
    ): "the same",
    ("core/routing/rerouted_responses.py", "port"): "a number",
    ("engine/admission.py", "''.join(traceback.format_stack(frame))"): "lines of code",
    ("engine/engine.py", "transport.name.lower()"): "a name of a transport class",
    ("engine/engine.py", "name"): "the same",
    ("runtime/process.py", "','.join(stack.addresses) or 'none'"): "numeric addresses of ours",
    ("runtime/watchdog.py", "stack"): "lines of code",
    ("runtime/watchdog.py", "reason"): "a constant",
    ("stores/base.py", "event.kind"): "one of our kinds",
    ("stores/late_events.py", "event.kind"): "the same",
    ("stores/late_events.py", "excerpt(self._callback)"): "a function of the program",
    ("transport/stream/connection.py", "self"): "a transport and a numeric address",
    ("transport/stream/connection.py", "reason"): "a name of a counter",
    ("command/trace.py", "event"): "a constant",
    ("command/trace.py", "address"): "a transport and a numeric address",
    ("command/trace.py", "lines"): "escaped there, line by line",
}
SAFE = {"Plain", "Quoted", "Text", "shown", "_shown", "in_quotes", "log_values.Plain", "bracketed"}


def direct_calls():
    """Yield file, line and arguments of each call of a logger that has arguments."""
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func.value) in ("log", "cores_log", "logging")
                and node.func.attr in ("debug", "info", "warning", "error", "exception", "critical")
                and len(node.args) > 1
            ):
                yield path.relative_to(PACKAGE).as_posix(), node


def test_each_value_of_a_direct_log_line_is_escaped():
    """Lines that peers can cause go through LimitedLog, which escapes their values. The others do it themselves."""
    wrong = []
    for file, node in direct_calls():
        line = node.args[0]
        text = line.value if isinstance(line, ast.Constant) else ""
        kinds = re.findall(r"%[-#0 +]*\d*(?:\.\d+)?([a-zA-Z])", text) or ["s"] * len(node.args)
        for kind, argument in zip(kinds, node.args[1:]):
            if kind not in "sr" or isinstance(argument, ast.Constant):
                continue
            shown_by = ast.unparse(argument.func) if isinstance(argument, ast.Call) else ""
            if shown_by not in SAFE and (file, ast.unparse(argument)) not in CONSTANT:
                wrong.append(f"{file}:{node.lineno}: {ast.unparse(argument)}")
    assert not wrong, "\n".join(["wrap them in Plain or Quoted:", *wrong])
