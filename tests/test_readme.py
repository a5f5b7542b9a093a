"""README.md and CONTRIBUTING.md: their Python runs, the map names every file, links lead somewhere.

Each Python block has a name in its opening line, ```python NAME, and is run by the tests below under this name.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import pytest
from gevent import socket

import sippet_gevent
from sippet_gevent import URI, Cancelled, Stack, TransportError
from sippet_gevent.__main__ import EXAMPLES
from sippet_gevent.message.sdp import SDP
from sippet_gevent.transport.listener import Listener
from sippet_gevent.transport.locate.resolver import SRV, StaticResolver
from sippet_gevent.transport.memory import MemoryTransport

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PACKAGE = ROOT / "sippet_gevent"
BLOCKS = dict(re.findall(r"^```python (\w+)\n(.*?)^```$", README + CONTRIBUTING, re.M | re.S))
OFFER = b"v=0\r\n"


def block(name, **names):
    """Run a block in a module of its own that has these names already; return the module."""
    module = {"__name__": f"readme_{name}", "offer": OFFER, **names}
    exec(compile(BLOCKS[name], f"README.md, {name}", "exec"), module)
    return SimpleNamespace(**module)


def run_script(name):
    """Run a block as a program; return what it prints. A warning of gevent's is an error."""
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", BLOCKS[name]]
    path = {"PYTHONPATH": str(Path(sippet_gevent.__file__).parent.parent)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=20, check=True, env=path
    ).stdout


# ---- the Python in it


def test_every_python_block_is_run_by_a_test_here():
    assert len(re.findall(r"^```py", README + CONTRIBUTING, re.M)) == len(BLOCKS)
    source = Path(__file__).read_text("utf-8")
    uses = ('block("{}"', 'run_script("{}"', 'BLOCKS["{}"]')
    untested = [name for name in BLOCKS if not any(use.format(name) in source for use in uses)]
    assert not untested


def test_testing_block_passes_as_it_is_pasted(pytester):
    pytester.makepyfile(hello=BLOCKS["hello"], test_hello=BLOCKS["testing"])
    installed = any(
        point.value == "sippet_gevent.testing" for point in entry_points(group="pytest11")
    )
    plugin = () if installed else ("-p", "sippet_gevent.testing")
    result = pytester.runpytest_subprocess(*plugin, "-p", "no:cacheprovider")
    result.assert_outcomes(passed=len(re.findall(r"^def test_", BLOCKS["testing"], re.M)))


def test_answering_block_answers_and_hangs_up(sip):
    offer = block("offer").offer
    asked = sip.ask(block("answering", offer=offer).core, "INVITE sip:bob@example.com")
    sip.advance(2)
    assert asked.statuses == [180, 200]
    assert asked.response.body == offer
    assert SDP.parse(offer).media[0].direction == "inactive"
    sip.advance(61)
    assert asked.call.ended.is_set()


def test_answering_block_refuses_and_is_given_up_on(sip, capsys):
    core = block("answering").core
    assert sip.ask(core, "MESSAGE sip:bob@example.com").statuses == [405]
    refused = sip.ask(core, "INVITE sip:bob@example.com", from_="<sip:spammer@example.com>;tag=1")
    assert (refused.response.status, refused.response.reason) == (403, "Not You")
    asked = sip.ask(core, "INVITE sip:bob@example.com")
    asked.cancel()
    assert asked.statuses == [180, 487]
    assert capsys.readouterr().out == "gave up\n"


def test_calling_block_wakes_who_answers(sip, capsys):
    heard = []
    bob = sip.stack()

    @bob.on("INVITE")
    def answer(request, tx):
        with tx.accept(body=OFFER) as call:
            call.wait()

    @bob.on("INFO")
    def info(request, tx):
        heard.append(request.body)
        return 200

    carol = sip.stack(lambda request, tx: 486)
    uris = [f"sip:{stack.addresses[0].removeprefix('udp:')}" for stack in (bob, carol)]
    sip.run(block("calling").wake_all, sip.client, [*uris, "sip:10.9.9.9"])
    assert heard == [b"good morning"]
    assert capsys.readouterr().out == "refused: 486 Busy Here\nnobody there\n"


def test_resolving_block_leads_to_its_targets_by_priority():
    made = block("resolving")
    with made.without_dns as stack:
        assert [str(way) for way in stack.resolve(URI.parse("sip:bob@example.com"))] == [
            "udp:192.0.2.1:5060",
            "udp:192.0.2.2:5080",
            "udp:192.0.2.3:5080",
        ]


def test_allowing_block_keeps_strangers_out_of_private_networks():
    with block("allowing").stack as stack:
        assert [str(way) for way in stack.resolve("sip:bob@8.8.8.8")] == ["udp:8.8.8.8:5060"]
        with pytest.raises(TransportError, match="allow_target forbids udp:10.0.0.1:5060"):
            stack.resolve("sip:bob@10.0.0.1")


def bridged(sip, core):
    sip.stack(core, host="192.0.2.20")
    return sip.ask(
        block("bridging").bridge,
        "INVITE sip:bob@example.com",
        body=OFFER,
        content_type="application/sdp",
    )


def test_bridging_block_connects_and_disconnects(sip):
    calls = []

    def callee(request, tx):
        tx.respond(183, body=b"v=0 early", content_type="application/sdp")
        with tx.accept(body=b"v=0 callee") as call:
            calls.append(call)
            call.wait()

    asked = bridged(sip, callee)
    assert asked.statuses == [183, 200]
    assert [(response.body, str(response.content_type)) for response in asked.responses] == [
        (b"v=0 early", "application/sdp"),
        (b"v=0 callee", "application/sdp"),
    ]
    assert calls[0].remote_body == OFFER
    asked.call.hangup()
    sip.settle()
    assert calls[0].ended.is_set()


def test_bridging_block_passes_a_refusal_on(sip):
    assert bridged(sip, lambda request, tx: 486).statuses == [486]


def test_bridging_block_passes_giving_up_on(sip):
    fates = []

    def callee(request, tx):
        tx.respond(180)
        try:
            tx.wait(60)
        except Cancelled:
            fates.append("cancelled")
            raise

    asked = bridged(sip, callee)
    asked.cancel()
    assert asked.statuses == [180, 487]
    assert fates == ["cancelled"]


def test_forwarding_block_registers_and_forwards():
    server = block("forwarding").stack
    server.planned[0] = (
        server.planned[0][0],
        Listener("udp", "127.0.0.1", 0),
    )  # a port that is free, not 5060
    with server, Stack("udp:127.0.0.1:0", core=lambda request, tx: 299) as phone:
        uri = f"sip:bob@{server.addresses[0].removeprefix('udp:')}"
        here = f"<sip:bob@{phone.addresses[0].removeprefix('udp:')}>"
        assert phone.request("MESSAGE", uri, timeout=5).status == 404
        assert phone.request("REGISTER", uri, to=f"<{uri}>", contact=here, timeout=5).status == 200
        assert phone.request("MESSAGE", uri, timeout=5).status == 299


def test_path_block_leads_to_who_registered_by_his_connection():
    made = block("path")
    edge = made.edge
    edge.planned[:] = [
        (transport, listener._replace(host="127.0.0.1", port=0))
        for transport, listener in edge.planned
    ]
    seen = []

    def registrar(request, tx):
        seen.append(request.path)
        return 200

    with (
        edge,
        Stack("udp:127.0.0.1:0", core=registrar) as home,
        Stack("tcp:127.0.0.1:0", core=lambda *_: 299) as phone,
    ):
        at = SRV(1, 0, home.engine.transports[0].local[1], "r.example.com")
        edge.resolver = StaticResolver(
            {"_sip._udp.registrar.example.com": [at], "r.example.com": ["127.0.0.1"]}
        )
        uri = f"sip:{edge.addresses[0].removeprefix('tcp:')};transport=tcp"
        contact = "<sip:bob@bob.invalid;transport=tcp>"
        assert (
            phone.request("REGISTER", uri, to=f"<{uri}>", contact=contact, timeout=5).status == 200
        )
        message = {"timeout": 5, "next_hop": f"sip:{edge.addresses[1].removeprefix('udp:')}"}
        assert (
            home.request("MESSAGE", "sip:bob@bob.invalid", route=seen[0], **message).status == 299
        )
        assert home.request("MESSAGE", "sip:bob@bob.invalid", **message).status == 403


def test_patching_block_runs_without_a_warning():
    assert run_script("patching") == ""


def test_limits_block_prints_counters_that_the_readme_explains(capsys):
    stats = block("limits").stack.stats()
    assert capsys.readouterr().out == f"{stats}\n"
    assert [name for name in stats if f"`{name}`" not in README] == []


def test_headers_block_says_who_we_are(sip):
    made = block("headers")
    (name, _, text), *_ = made.stack.capabilities.in_requests
    assert (name, text) == ("User-Agent", "office/1.0")
    assert [line[0] for line in made.stack.capabilities.in_responses] == ["Server", "Organization"]


def test_filters_block_filters(capsys):
    made = block("filters")
    assert capsys.readouterr().out == "{} {}\n"
    flow = SimpleNamespace(remote=("127.0.0.1", 5060))
    assert made.ours_only(b"x" * 8001, flow) == "too long for us"
    assert made.ours_only(b"x", flow) is True
    flow.remote = ("192.0.2.1", 5060)
    assert made.ours_only(b"x", flow) is False
    assert (
        made.stack.accept(b"INVITE sip:x SIP/2.0\r\nUser-Agent: sipcli\r\n\r\n", flow) == "scanner"
    )


def test_transports_block_plans_each_address(tmp_path, monkeypatch):
    trustme = pytest.importorskip("trustme")
    certificate = trustme.CA().issue_cert("sip.example")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    monkeypatch.chdir(tmp_path)
    planned = block("transports").stack.planned
    assert [(transport.name, listener.port) for transport, listener in planned] == [
        ("UDP", 5060),
        ("TCP", 5060),
        ("TLS", 5061),
    ]


def test_listeners_block_lets_calls_through_each_way(sip):
    stack = block("listeners").stack
    names = {listener.name: str(listener.advertise or "") for _, listener in stack.planned}
    assert names == {"inside": "", "outside": "203.0.113.7"}
    border = Stack(core=stack.core, clock=sip.clock)
    for _, listener in stack.planned:
        border.listen(
            f"udp:{listener.host}:5060;name={listener.name}", MemoryTransport(sip.network)
        )
    sip.stacks.append(border.start())
    seen = []

    def answer(request, tx):
        seen.append(request)
        tx.accept().hangup()

    phones = [sip.stack(answer, host=host) for host in ("198.51.100.50", "10.0.0.20")]
    sip.run(phones[1].invite, "sip:bob@198.51.100.50", next_hop="sip:10.0.0.5")
    sip.run(phones[0].invite, "sip:bob@203.0.113.7", next_hop="sip:192.168.7.5")
    assert [str(request.uri) for request in seen] == ["sip:bob@198.51.100.50", "sip:10.0.0.20"]
    assert [request.via[0].host for request in seen] == ["192.168.7.5", "10.0.0.5"]
    sip.advance(1)
    assert [len(phone.dialogs) for phone in phones] == [0, 0]  # the BYEs have passed, too


def test_websockets_block_serves_a_page_and_asks_for_a_session():
    with block("websockets").edge as edge:
        with socket.create_connection(edge.engine.transports[0].local, timeout=10) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK")
        with socket.create_connection(edge.engine.transports[0].local, timeout=10) as sock:
            sock.sendall(
                b"GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://phone.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
            )
            assert sock.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_header_block_prints_8():
    assert run_script("header") == "8\n"


def test_messages_block_prints_what_it_says():
    said = re.findall(
        r"# (.*?)(?:: the text.*)?$", re.sub(r"#.*as a peer might.*", "", BLOCKS["messages"]), re.M
    )
    assert run_script("messages").splitlines() == said


AUDIO = b"v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP %d\r\n"


def test_bodies_block_answers_an_offer(sip):
    asked = sip.ask(
        block("bodies").core,
        "INVITE sip:bob@example.com",
        body=AUDIO % 0,
        content_type="application/sdp",
    )
    assert asked.statuses == [200]
    assert sippet_gevent.sdp.SDP.parse(asked.response.body).media[0].formats == ("0",)


@pytest.mark.parametrize("body, status", [(AUDIO % 8, 488), (b"", 488), (b"v=0", 400)])
def test_bodies_block_refuses(sip, body, status):
    headers = {"content_type": "application/sdp"} if body else {}
    assert sip.ask(
        block("bodies").core, "INVITE sip:bob@example.com", body=body, **headers
    ).statuses == [status]


def test_transport_block_talks_to_itself():
    with block("transport").stack as stack:
        assert stack.request("OPTIONS", "sip:127.0.0.1;transport=echo", timeout=5).status == 200


def test_machines_block_draws_the_figures(capsys):
    block("machines")
    assert capsys.readouterr().out.count("starts ") == 4


# ---- the rest of it


def test_ladder_is_what_a_failed_test_shows(sip):
    sip.ask(block("hello").stack, "INVITE sip:bob@example.com").cancel()
    drawn = [line.rstrip() for line in sip.ladder().splitlines()]
    assert "\n".join(drawn) in README


def test_map_names_every_file_of_the_package_where_it_is():
    lines = CONTRIBUTING.split("```\nsippet_gevent/\n")[1].split("```")[0].splitlines()
    named, folders = set(), []
    for line in lines:
        branch, name = re.match(r"([│├└─ ]*)(\S+)", line).groups()
        folders = folders[: len(branch) // 4 - 1]
        if name.endswith("/"):
            folders.append(name)
            continue
        named.add("".join(folders) + name)
        assert len(line.split(name, 1)[1]) > 12 or name == "__init__.py", f"{line}: says nothing"
    there = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".c", ".typed")
    }
    assert named == there


def test_links_lead_somewhere():
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", README, re.M)
    }
    links = re.findall(r"\]\(([^)]+)\)", README)
    lost = [
        link
        for link in links
        if not link.startswith("https://")
        and not (
            link[1:] in anchors
            if link.startswith("#")
            else (ROOT / link.partition("#")[0]).exists()
        )
    ]
    assert not lost


def test_commands_are_those_of_the_help():
    examples = [line.strip() for line in EXAMPLES.splitlines()[1:]]
    assert [line for line in examples if f"\n    {line}\n" not in README] == []


def test_it_opens_with_two_commands_that_set_themselves_up():
    commands = re.findall(r"^    (python3 -m venv .*)$", README.split("\n## ")[0], re.M)
    assert commands == [
        "python3 -m venv .venv && . .venv/bin/activate && pip install -q . && sippet serve",
        "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/python -m pytest",
    ]


def test_it_has_a_licence_and_a_changelog_of_this_version():
    assert f"## [{sippet_gevent.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "BSD 3-Clause" in (ROOT / "LICENSE").read_text("utf-8")
