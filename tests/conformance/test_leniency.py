"""The table of leniency in parser.py's docstring: every row has examples here, and is what becomes of them in a running stack."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from sippet_gevent.errors import ParseError
from sippet_gevent.message import parser
from sippet_gevent.message.body import Part
from sippet_gevent.message.framer import Framer
from sippet_gevent.message.message import Message
from sippet_gevent.message.parser import parse
from sippet_gevent.message.uri import address_of
from sippet_gevent.transport.memory import MemoryTransport

from .corpus import OPTIONS, message, without

ROWS = {
    cells[0]: cells[1]
    for line in (parser.__doc__ or "").split("\n")
    if line.startswith("| ")
    and (cells := [cell.strip() for cell in line.strip("|").split(" | ")])[1] != "becomes"
}
"""First cell to second: what comes, and what becomes of it."""


class Example(NamedTuple):
    """A message, what it means, and for one that is mended what goes on in its place."""

    data: bytes
    reads: Callable[[Any], Any] = lambda _: None
    value: Any = None
    goes_on: bytes = b""


def start(line: str) -> bytes:
    return message(start=line)


ACK = message("CSeq: 1 ACK", start="ACK sip:bob@example.com SIP/2.0")

EXAMPLES: dict[str, list[Example]] = {
    "a folded line": [
        Example(message("Subject: a\r\n b\r\n\t  c"), lambda m: m.subject, "a b c"),
        Example(message("Subject:\r\n a"), lambda m: m.subject, "a"),
    ],
    "blanks before the colon": [Example(message("Subject \t: a"), lambda m: m.subject, "a")],
    "compact names, names in any case": [
        Example(message("i: a@b"), lambda m: m.call_id, "a@b"),
        Example(message("cALL-iD: a@b"), lambda m: m.call_id, "a@b"),
    ],
    "no value, no blank before it, blanks round it": [
        Example(message("Subject:"), lambda m: m.subject, ""),
        Example(message("Subject:a"), lambda m: m.subject, "a"),
        Example(message("Subject: \t a \t"), lambda m: m.subject, "a"),
    ],
    "bytes that are not UTF-8": [
        Example(message("Subject: a\udcff"), lambda m: m.subject, "a\udcff")
    ],
    "control characters but CR and LF in a value": [
        Example(
            message("Subject: a\0\x0b\x1c\x85\u2028b"),
            lambda m: m.subject,
            "a\0\x0b\x1c\x85\u2028b",
        )
    ],
    "unknown headers, methods, parameters, transports": [
        Example(message("X-Odd: 1"), lambda m: m.headers["x-odd"], "1"),
        Example(
            message("CSeq: 1 ODD", start="ODD sip:bob@example.com SIP/2.0"),
            lambda m: m.method,
            "ODD",
        ),
        Example(
            message("Contact: <sip:a@b;odd=1>;odd"), lambda m: [*m.contact[0].parameters], ["odd"]
        ),
        Example(message("Via: SIP/2.0/ODD a;branch=z9hG4bK1"), lambda m: m.via[0].transport, "ODD"),
    ],
    "`_` in a host": [
        Example(start("OPTIONS sip:bob@my_host SIP/2.0"), lambda m: m.uri.host, "my_host"),
        Example(
            message("Via: SIP/2.0/UDP my_host;branch=z9hG4bK1"), lambda m: m.via[0].host, "my_host"
        ),
    ],
    "a host that cannot exist: `a..b`, `[1::2::3]`, `1.2.3`": [
        Example(start(f"OPTIONS sip:bob@{host} SIP/2.0"), lambda m: m.uri.host, host)
        for host in ("a..b", "[1::2::3]", "1.2.3")
    ],
    "three colons before the IPv4 part of an IPv6 address": [
        Example(
            start("OPTIONS sip:bob@[2001:db8:::192.0.2.1] SIP/2.0"),
            lambda m: m.uri.equivalent("sip:bob@[2001:db8::c000:201]"),
            True,
        )
    ],
    "IPv6 without brackets in `received`": [
        Example(
            message("Via: SIP/2.0/UDP a;branch=z9hG4bK1;received=2001:db8::1"),
            lambda m: m.via[0].received,
            "2001:db8::1",
        )
    ],
    "`lr=on`": [
        Example(message("Route: <sip:a@b;lr=on>"), lambda m: m.route[0].uri.is_loose_router, True)
    ],
    "a display name of UTF-8 without quotes": [
        Example(message("From: Bücher 漢 <sip:a@b>;tag=1"), lambda m: m.from_.display, "Bücher 漢")
    ],
    "characters in a URI that should be escaped": [
        Example(
            start("OPTIONS sip:bób[x]|{y}@b;x=1|2,3 SIP/2.0"),
            lambda m: (m.uri.user, m.uri.parameters["x"]),
            ("bób[x]|{y}", "1|2,3"),
        )
    ],
    "leading zeros, more than three decimals of `q`": [
        Example(
            message("CSeq: 0009 OPTIONS", "Max-Forwards: 0070"),
            lambda m: (m.cseq.number, m.max_forwards),
            (9, 70),
        ),
        Example(message("Contact: <sip:a@b>;q=0.12345"), lambda m: m.contact[0].q, 0.12345),
    ],
    "no tags, no branch, no Max-Forwards": [
        Example(message("From: <sip:a@b>"), lambda m: m.from_.tag),
        Example(message("Via: SIP/2.0/UDP a"), lambda m: m.via[0].branch),
        Example(without("Max-Forwards"), lambda m: m.max_forwards),
    ],
    "blanks inside a Via": [
        Example(
            message("Via: SIP / 2.0 / udp   a : 5061 ; branch = z9hG4bK1"),
            lambda m: (m.via[0].transport, m.via[0].sent_by, m.via[0].branch),
            ("UDP", "a:5061", "z9hG4bK1"),
        )
    ],
    "a broken Via below the top one": [
        Example(
            message("Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\nVia: broken"),
            lambda m: m.headers.all("Via")[1],
            "broken",
        ),
        Example(
            message('Via: SIP/2.0/UDP a;branch=z9hG4bK1;x="," , "x'),
            lambda m: m.headers.get_header_front("Via").host,
            "a",
        ),
    ],
    "a parameter that appears twice": [
        Example(
            message("Contact: <sip:a@b>;q=0.1;q=0.2"), lambda m: m.contact[0].parameters["q"], "0.1"
        )
    ],
    "`-` at the end of a label, a digit first in the last one": [
        Example(start(f"OPTIONS sip:bob@{host} SIP/2.0"), lambda m: m.uri.host, host)
        for host in ("a-.b-", "3f2a9c1b")
    ],
    "an IPv4 address in brackets": [
        Example(
            start("OPTIONS sip:bob@[192.0.2.1] SIP/2.0"),
            lambda m: str(address_of(m.uri.host)),
            "192.0.2.1",
        )
    ],
    "leading zeros in a port or a length": [
        Example(start("OPTIONS sip:bob@b:05070 SIP/2.0"), lambda m: m.uri.port, 5070),
        Example(message("Via: SIP/2.0/UDP a:05070;branch=z9hG4bK1"), lambda m: m.via[0].port, 5070),
        Example(message("Content-Length: 005", body=b"12345"), lambda m: m.body, b"12345"),
    ],
    "a parameter with nothing behind its `=`": [
        Example(
            message("Contact: <sip:a@b;x=>;y="),
            lambda m: (m.contact[0].uri.parameters["x"], m.contact[0].parameters["y"]),
            ("", ""),
        ),
    ],
    "a tag with nothing behind its `=`": [
        Example(
            message(f"To: <sip:a@b>;tag{value}"),
            lambda m: parse(bytes(m.response(200))).to.tag == m.to_tag,
            True,
        )
        for value in ("", "=", '=""')
    ],
    "characters in a parameter that should be in quotes: `:/@#$&?[]{}()` …": [
        Example(
            message("Contact: <sip:a@b>;x=:/@#$&?[]|^{}()"),
            lambda m: m.contact[0].parameters["x"],
            ":/@#$&?[]|^{}()",
        )
    ],
    "quotes round a tag, a branch, a number or a word": [
        Example(message('From: <sip:a@b>;tag="1"'), lambda m: m.from_.tag, "1"),
        Example(
            message('Via: SIP/2.0/UDP a;branch="z9hG4bK1"'),
            lambda m: m.mandatory.branch,
            "z9hG4bK1",
        ),
        Example(
            message('Contact: <sip:a@b>;q="0.5";expires="9"'),
            lambda m: (m.contact[0].q, m.contact[0].expires),
            (0.5, 9),
        ),
        Example(
            message('Session-Expires: 90;refresher="UAS"'),
            lambda m: m.session_expires.refresher,
            "uas",
        ),
    ],
    "control characters in quotes, a backslash before any character": [
        Example(message('From: "a\x07\\é" <sip:a@b>;tag=1'), lambda m: m.from_.display, "a\x07é")
    ],
    "`received` and `rport` with a value in a request": [
        Example(
            message("Via: SIP/2.0/UDP a;branch=z9hG4bK1;rport=x;received=y"),
            lambda m: m.via[0].received,
            "y",
        )
    ],
    "quotes round the value of a URI parameter": [
        Example(
            message('Contact: <sip:a@b;x="1;2,3">'),
            lambda m: m.contact[0].uri.parameters["x"],
            '"1;2,3"',
        )
    ],
    "a `%` in a URI that begins no escape": [
        Example(start("OPTIONS sip:a%zz@b SIP/2.0"), lambda m: m.uri.user, "a%zz")
    ],
    "nothing behind the `;` or `?` of a URI": [
        Example(
            start(f"OPTIONS sip:a@b{end} SIP/2.0"),
            lambda m: (len(m.uri.parameters), len(m.uri.headers)),
            (0, 0),
        )
        for end in (";", "?")
    ],
    "`=` in the value of a URI parameter, a URI header without `=`": [
        Example(start("OPTIONS sip:a@b;x=a=b SIP/2.0"), lambda m: m.uri.parameters["x"], "a=b"),
        Example(
            message("Contact: <sip:a@b?Subject>"), lambda m: m.contact[0].uri.headers["subject"]
        ),
    ],
    "letters, or no digit, in a telephone number, a local one without a context": [
        Example(message(f"From: <tel:{number}>;tag=1"), lambda m: m.from_.uri.user, number)
        for number in ("+1aF", "-", "911")
    ],
    "anything visible behind the scheme of a URI that is neither sip, sips nor tel": [
        Example(message("From: <odd:{|}^>;tag=1"), lambda m: m.from_.uri.opaque, "{|}^")
    ],
    "Route, Record-Route, Path, Service-Route … without brackets": [
        Example(
            message(f"{name}: sip:a@b;lr"),
            lambda m, name=name: m.headers.get_header_front(name).uri.is_loose_router,
            True,
        )
        for name in ("Route", "Record-Route", "Path", "Service-Route")
    ],
    "Diversion, History-Info and others that need brackets without them": [
        Example(
            message("Diversion: sip:a@b;reason=unknown"), lambda m: m.diversion[0].reason, "unknown"
        ),
        Example(message("History-Info: sip:a@b;index=1"), lambda m: m.history_info[0].index, "1"),
    ],
    "no index in a History-Info, no info in an Identity": [
        Example(message("History-Info: <sip:a@b>"), lambda m: m.history_info[0].index),
        Example(message('Identity: "a-_b="'), lambda m: m.identity[0].info),
    ],
    "`+sip.instance` without brackets": [
        Example(
            message('Contact: <sip:a@b>;+sip.instance="urn:uuid:1"'),
            lambda m: m.contact[0].instance,
            "urn:uuid:1",
        )
    ],
    "a Call-ID with several `@`, or characters that are in no word": [
        Example(message(f"Call-ID: {text}"), lambda m: m.call_id, text)
        for text in ("a@@b", "a@b@c", "é@b", "a;b,c")
    ],
    "empty elements of a list": [
        Example(message("Supported: ,outbound,"), lambda m: m.supported, ("outbound",)),
        Example(message("Require: ,"), lambda m: m.require, ()),
        Example(message("Route: , <sip:10.0.0.1;lr>,,"), lambda m: len(m.route), 1),
    ],
    "no value where there must be one: Contact, Route, Require …": [
        Example(message(f"{name}:"), lambda m, name=name: m.headers.get_header(name), ())
        for name in ("Contact", "Route", "Require", "Proxy-Require")
    ],
    "an INVITE without Contact": [
        Example(
            message("CSeq: 1 INVITE", start="INVITE sip:bob@example.com SIP/2.0"),
            lambda m: m.contact,
            (),
        )
    ],
    "a Content-Type without a body": [
        Example(
            message("Content-Type: application/sdp"), lambda m: Part.of(m).find("application/sdp")
        )
    ],
    "a parameter without value in a Content-Type or Accept": [
        Example(
            message("Content-Type: text/plain;x", body=b"1"),
            lambda m: m.content_type.parameters["x"],
        ),
        Example(message("Accept: text/plain;x"), lambda m: m.accept[0].parameters["x"]),
    ],
    "a wrong weekday, a month in any case, a day of one digit, no blank behind the comma": [
        Example(
            message("Date: Xxx,1 jAN 2030 00:00:00 GMT"),
            lambda m: m.date.isoformat(),
            "2030-01-01T00:00:00+00:00",
        )
    ],
    "a language of any token": [
        Example(message("Accept-Language: es-419"), lambda m: m.accept_language[0].value, "es-419")
    ],
    "an Alert-Info without brackets, or that is no URI": [
        Example(message(f"Alert-Info: {text}"), lambda m: m.alert_info[0].value, text)
        for text in ("Bellcore-dr3", "<Bellcore-dr3>")
    ],
    "commas in Privacy": [
        Example(message("Privacy: id,critical"), lambda m: m.privacy, ("id", "critical"))
    ],
    "quotes too many or too few in challenges and credentials, no parameters in them": [
        Example(
            message('Authorization: Digest username=bob, algorithm="MD5", nc="0000000a"'),
            lambda m: (
                m.authorization[0].username,
                m.authorization[0].algorithm,
                m.authorization[0].nc,
            ),
            ("bob", "MD5", 10),
        ),
        Example(message("Authorization: Digest"), lambda m: m.authorization[0].nonce),
    ],
    "a Warning with any three digits and any agent": [
        Example(message('Warning: 042 a(b)@c "x"'), lambda m: m.warning[0], (42, "a(b)@c", "x"))
    ],
    "User-Agent, Server, Organization, Subject of any text": [
        Example(message("User-Agent: ((/;,\x07"), lambda m: m.user_agent, "((/;,\x07")
    ],
    "a response without a From that can be read": [
        Example(
            without("From").replace(b"OPTIONS sip:bob@example.com SIP/2.0", b"SIP/2.0 200 OK"),
            lambda m: m.from_,
        ),
        Example(message("From: <sip:a@b", start="SIP/2.0 200 OK"), lambda m: m.mandatory.from_tag),
    ],
    "`sip/2.0` in any case": [
        Example(start("OPTIONS sip:bob@example.com sip/2.0"), goes_on=OPTIONS)
    ],
    "line breaks before the start line": [
        Example(before + OPTIONS, goes_on=OPTIONS)
        for before in (b"\r\n", b"\r\n\r\n", b"\n", b"\r\r\n\n")
    ],
    "bare LFs at the end of every line": [
        Example(OPTIONS.replace(b"\r\n", b"\n"), goes_on=OPTIONS),
        Example(
            message("Subject: a\r\n b").replace(b"\r\n", b"\n"),
            lambda m: m.subject,
            "a b",
            message("Subject: a\r\n b"),
        ),
    ],
    "bytes behind the body": [
        Example(
            message("Content-Length: 2", body=b"12345"),
            lambda m: m.body,
            b"12",
            message("Content-Length: 2", body=b"12"),
        ),
        Example(OPTIONS + OPTIONS, lambda m: m.body, b"", OPTIONS),
    ],
    "no Content-Length": [
        Example(
            without("Content-Length") + b"123",
            lambda m: m.body,
            b"123",
            message("Content-Length: 3", body=b"123"),
        )
    ],
    "a status line without a reason and its blank": [
        Example(start("SIP/2.0 200"), lambda m: m.reason, "", start("SIP/2.0 200 "))
    ],
    "another header, broken": [
        Example(message("Contact: <sip:a@b"), lambda m: m.contact, "<sip:a@b"),
        Example(message("Expires: 4294967296"), lambda m: m.expires, "4294967296"),
        Example(message("Date: yesterday"), lambda m: m.date, "yesterday"),
    ],
    "another header, of one value, that appears twice": [
        Example(message("Expires: 1\r\nExpires: 2"), lambda m: m.expires, "1"),
    ],
    "over 100 values of one header": [
        Example(
            message("Route: " + ",".join(["<sip:a>"] * 101)),
            lambda m: m.route,
            ",".join(["<sip:a>"] * 101),
        )
    ],
    "a bare CR or LF in a message of CRLFs": [
        Example(message("X: a\rRoute: <sip:evil>")),
        Example(message("X: a\nRoute: <sip:evil>")),
        Example(OPTIONS[:-2] + b"\n" + OPTIONS[-2:]),
    ],
    "a line without a colon, or whose name is no token": [
        Example(message(line)) for line in ("nothing", ": a", "a b: c", "é: a", "<a>: b")
    ],
    "a line over 8192 bytes, folds included": [
        Example(message("X: " + "x" * 8190)),
        Example(message("X: " + "x" * 5000 + "\r\n " + "x" * 5000)),
    ],
    "no blank line behind the headers": [Example(OPTIONS[:-2]), Example(OPTIONS[:-30])],
    "a Content-Length that is not 0 to 2**32 - 1, or appears twice": [
        Example(message(f"Content-Length: {text}", body=b"12345"))
        for text in (
            "+5",
            "-5",
            "5,5",
            "5_0",
            "0x5",
            "",
            "٥",
            "4294967296",
            "5\r\nl: 5",
            "5\r\nContent-Length : 4",
        )
    ],
    "a body shorter than its Content-Length": [
        Example(message("Content-Length: 6", body=b"12345"))
    ],
    "From, To, Call-ID or CSeq missing, twice or broken": [
        *[Example(without(name)) for name in ("From", "To", "Call-ID", "CSeq")],
        *[
            Example(message(f"{line}\r\n{line}"))
            for line in ("From: <sip:a@b>", "To: <sip:a@b>", "Call-ID: 1", "CSeq: 1 OPTIONS")
        ],
        *[
            Example(message(line))
            for line in (
                "From: <sip:a@b",
                'To: "a <sip:a@b>',
                "Call-ID: a b",
                "CSeq: OPTIONS",
                "CSeq: 1",
            )
        ],
        Example(message(f"From: <sip:{'a' * 4096}>;tag=1")),
    ],
    "a broken top Via, or port 0 in it": [
        Example(message(f"Via: {text}"))
        for text in ("broken", "SIP/2.0/UDP", "SIP/2.0/UDP a:0", "broken, SIP/2.0/UDP a")
    ],
    "a tag or a top branch that appears twice": [
        Example(message("From: <sip:a@b>;tag=1;tag=2")),
        Example(message("To: <sip:a@b>;tag=1;x;TAG=1")),
        Example(message("Via: SIP/2.0/UDP a;branch=z9hG4bK1;branch=z9hG4bK2")),
    ],
    "CSeq with another known method, or of 2**31 and more": [
        Example(start("INVITE sip:bob@example.com SIP/2.0")),
        Example(message("CSeq: 2147483648 OPTIONS")),
    ],
    "CSeq with another method than an unknown one": [
        Example(start("ODD sip:bob@example.com SIP/2.0"))
    ],
    "Max-Forwards over 255, twice or no number": [
        Example(message(f"Max-Forwards: {text}"))
        for text in ("256", "-1", "", "x", "70\r\nMax-Forwards: 70")
    ],
    "over 64 parameters of one value or URI": [
        Example(message("From: <sip:a@b>" + ";x" * 65)),
        Example(message("To: <sip:a@b" + ";x" * 65 + ">")),
        Example(message("Via: SIP/2.0/UDP a" + ";x" * 65)),
        Example(start("OPTIONS sip:a@b" + ";x" * 65 + " SIP/2.0")),
    ],
    "more blanks in the request line than two": [
        Example(start(line))
        for line in (
            "OPTIONS  sip:a@b SIP/2.0",
            "OPTIONS sip:a@b SIP/2.0 ",
            "OPTIONS sip:a @b SIP/2.0",
        )
    ],
    "a broken Request-URI": [
        Example(start(f"OPTIONS {uri} SIP/2.0"))
        for uri in (
            "bob@example.com",
            "sip:",
            "sip:bob@",
            "sip:a@b:0",
            "sip:a@b:65536",
            "<sip:a@b>",
            "sip:a@[::1",
            "sip:a@bücher",
            "*",
        )
    ],
    "a Request-URI over 4096 characters": [
        Example(start(f"OPTIONS sip:{'a' * 4096} SIP/2.0")),
    ],
    "a Request-URI with a scheme that is not served": [
        Example(start(f"OPTIONS {uri} SIP/2.0"))
        for uri in ("urn:service:sos", "http://example.com")
    ],
    "a version but SIP/2.0": [
        Example(start(f"OPTIONS sip:a@b {version}"))
        for version in ("SIP/3.0", "SIP/2.1", "SIP/20.0")
    ],
    "over 256 header lines, over 65536 bytes": [
        Example(message("X: 1\r\n" * 256 + "X: 1")),
        Example(message(body=b"x" * 65536)),
    ],
    "no Via, no request line": [
        Example(data)
        for data in (
            without("Via"),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\0\1\2",
            b"\xff" * 90,
            b" " + OPTIONS,
        )
    ],
    "an unreadable line, and a Via that is cut off, or with or behind a bare CR or LF": [
        Example(message("Via: SIP/2.0/UDP a;branch=z9hG4bK1\rX: 1")),
        Example(message("Via: SIP/2.0/UDP a;branch=z9hG4bK1\nVia: SIP/2.0/UDP b")),
        Example(OPTIONS[:80]),
    ],
    "a broken response, a broken ACK": [
        Example(start("SIP/2.0 99 Odd")),
        Example(start("SIP/3.0 200 OK")),
        Example(without("To").replace(b"OPTIONS sip:bob@example.com SIP/2.0", b"SIP/2.0 200 OK")),
        Example(ACK.replace(b"From", b"X-From")),
    ],
    "CRLFs, blanks, NULs and nothing else": [
        Example(data) for data in (b"\r\n", b"\r\n\r\n", b"\0\0\0\0", b" ")
    ],
    "on a stream: no Content-Length, a bare LF, a line that cannot be read": [
        Example(data + OPTIONS)
        for data in (
            without("Content-Length"),
            OPTIONS.replace(b"\r\n", b"\n"),
            message("a b: c"),
            message("X: a\nb"),
            b"\n",
        )
    ],
    "on a stream: a message made over 65536 bytes by its body": [
        Example(message(f"Content-Length: {length}")) for length in (65536, 4_000_000_000)
    ],
    "on a stream: a header section over 32768 bytes": [
        Example(message(*[f"X-{number}: {'x' * 8000}" for number in range(5)])[:32768])
    ],
}


def cases(kind: str) -> Any:
    """One case for each example of the rows that become this, a regular expression."""
    found = [
        pytest.param(row, example, id=f"{row}-{number}")
        for row, examples in EXAMPLES.items()
        if re.fullmatch(kind, ROWS.get(row, ""))
        for number, example in enumerate(examples)
    ]
    return pytest.mark.parametrize(("row", "example"), found)


@pytest.fixture
def wire(sip):
    """Send bytes to a stack that serves every request; returns statuses answered and requests served."""
    stack, served, answers = sip.stack(host="10.0.0.1"), [], []
    stack.core = lambda request, tx: served.append(request) or 200
    point = MemoryTransport(sip.network)
    point.start(("10.0.0.9", 5060), lambda data, flow: answers.append(data))

    def send(data: bytes) -> tuple[list[int], int]:
        answers.clear()
        served.clear()
        point.connect(("10.0.0.1", 5060)).send(data)
        sip.settle()
        return [int(answer[8:11]) for answer in answers], len(served)

    return send


# ---- the table and the examples


def test_every_row_has_examples_and_every_example_has_a_row():
    assert list(EXAMPLES) == list(ROWS)
    assert all(EXAMPLES.values())


def test_every_row_becomes_what_a_test_here_proves():
    assert not [
        row
        for row, becomes in ROWS.items()
        if not re.fullmatch(r"taken|mended|dropped|[45]\d\d( late| closed)?", becomes)
    ]


def test_each_table_can_be_read_in_one_go():
    tables = [
        part.count("\n| ") for part in (parser.__doc__ or "").split("\n\n") if "|---|" in part
    ]
    assert len(tables) == 3 and max(tables) <= 48


# ---- the rows


@cases("taken|mended")
def test_taken_is_understood(row, example):
    assert example.reads(parse(example.data)) == example.value


@cases("taken")
def test_taken_goes_on_byte_for_byte(row, example):
    assert bytes(parse(example.data)) == example.data


@cases("mended")
def test_mended_goes_on_as_the_rfc_has_it(row, example):
    assert bytes(parse(example.data)) == example.goes_on != example.data


@cases("taken")
def test_taken_request_is_served(row, example, wire):
    assert wire(example.data)[1] == (not example.data.startswith(b"SIP/"))


@cases(r"\d\d\d late")
def test_refused_late_is_taken_until_it_is_looked_at(row, example):
    found = parse(example.data)
    assert bytes(found) == example.data
    with pytest.raises(ParseError) as caught:
        example.reads(found)
    assert (caught.value.status, found.headers[caught.value.header]) == (
        int(ROWS[row][:3]),
        example.value,
    )


@cases(r"\d\d\d")
def test_refused_message_is_answered_with_the_status_and_not_served(row, example, wire):
    assert wire(example.data) == ([int(ROWS[row])], 0)


@cases("dropped")
def test_dropped_message_is_neither_answered_nor_served(row, example, wire):
    assert wire(example.data) == ([], 0)


@cases(r"\d\d\d closed")
def test_stream_is_refused_with_the_status_and_dead(row, example):
    framer = Framer()
    assert framer.feed(example.data) == []
    assert framer.error is not None
    assert (framer.dead, framer.error.status) == (True, int(ROWS[row][:3]))


def test_version_that_is_none_is_400():
    with pytest.raises(ParseError) as caught:
        parse(start("OPTIONS sip:a@b HTTP/1.1"))
    assert caught.value.status == 400


def test_equal_lines_of_another_header_are_taken_as_one():
    found = parse(message("Expires: 1\r\nExpires: 1"))
    assert isinstance(found, Message)
    assert found.expires == 1
