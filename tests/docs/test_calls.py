"""The programs of the guides about calls and messages run and do what the guides say."""

from __future__ import annotations

import re

import gevent
import pytest

import sippet_gevent
from sippet_gevent import URI, Cancelled, Reject, Stack, TransportError
from sippet_gevent.transport.locate.resolver import SRV, StaticResolver

from ..core.wire import Peer
from .blocks import BLOCKS, OFFER, block, on_free_ports, run_script


def test_calling_block_wakes_the_callee_that_answers(sip, capsys):
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
    uris += ["sip:10.9.9.9", "sip:nobody.example"]
    sip.run(block("calling").wake_all, sip.client, uris)
    assert heard == [b"good morning"]
    out = capsys.readouterr().out
    assert "refused: 486 Busy Here\n" in out
    assert "nobody there\n" in out
    assert out.count("not reached: ") == 1


def test_early_block_plays_before_the_answer(sip):
    module = block("early")
    stack = sip.serve(module.stack)
    listening = gevent.spawn(module.listen, sip.client, f"sip:x@{stack.addresses[0][4:]}")
    sip.settle()
    sip.advance(5)
    sip.advance(1)
    assert listening.get() == [183]


def test_events_block_reads_digits_and_answers_other_requests(sip, capsys):
    stack = block("events").stack
    sip.serve(stack)
    digits = []
    call = sip.run(
        sip.client.invite,
        f"sip:menu@{stack.addresses[0].removeprefix('udp:')}",
        handlers={"INFO": lambda request, tx: digits.append(request.body) or 200},
    )
    sip.run(call.send_digits, "31")
    assert sip.run(call.request, "MESSAGE", body="hello").status == 200
    sip.advance(1)
    assert b"".join(digits).count(b"Signal=") == 3
    call.hangup()
    sip.settle()
    assert "ended: bye by peer" in capsys.readouterr().out


def test_calling_block_survives_a_closed_port(capsys):
    with Stack("udp:127.0.0.1:0") as gone:
        uri = f"sip:{gone.addresses[0].removeprefix('udp:')}"
    with Stack("udp:127.0.0.1:0") as stack:
        block("calling").wake_all(stack, [uri])
    assert capsys.readouterr().out.startswith("not reached: ")


def hunted(sip, *phones, middleware=None):
    """Register phones at the hunt group, in this order, and call their user."""
    stack = block("hunting").stack
    if middleware is not None:
        stack.use(middleware)
    sip.serve(stack)
    user = "<sip:bob@example.com>"
    for number, core in enumerate(phones):
        phone = sip.stack(core)
        headers = {
            "to": user,
            "from_": f"{user};tag=1",
            "contact": f"<sip:bob@{phone.addresses[0][4:]}>;q=0.{9 - number}",
        }
        answer = sip.run(phone.request, "REGISTER", f"sip:{stack.addresses[0][4:]}", **headers)
        assert answer.status == 200
    return sip.ask(stack, "INVITE sip:bob@example.com", body=OFFER, content_type="application/sdp")


def rings(name, fates, seconds=60):
    """Return a phone that rings for this long and answers, and notes what becomes of the call."""

    def core(request, tx):
        tx.respond(180)
        try:
            tx.wait(seconds)
        except Cancelled:
            fates.append(f"{name} cancelled")
            raise
        fates.append(f"{name} answered")
        tx.accept(body=OFFER).wait()

    return core


def test_hunting_block_rings_one_phone_after_another(sip):
    fates = []
    asked = hunted(sip, rings("desk", fates), lambda *_: 486, rings("mobile", fates, 2))
    assert (asked.statuses, fates) == ([180], [])
    sip.advance(3)
    assert (asked.statuses, fates) == ([180, 180], ["desk cancelled"])
    sip.advance(2)
    assert (asked.statuses, fates[1:]) == ([180, 180, 200], ["mobile answered"])
    asked.call.hangup()


def test_hunting_block_answers_480_when_no_phone_answers(sip):
    fates = []
    asked = hunted(sip, rings("desk", fates), rings("mobile", fates))
    sip.advance(7)
    assert asked.statuses == [180, 180, 480]
    assert fates == ["desk cancelled", "mobile cancelled"]


def test_hunting_block_ends_at_a_603(sip):
    assert hunted(sip, lambda *_: 603, lambda *_: 200).statuses == [603]


def test_hunting_block_stops_ringing_when_the_caller_gives_up(sip):
    fates = []
    asked = hunted(sip, rings("desk", fates), rings("mobile", fates))
    sip.advance(1)
    asked.cancel()
    assert (asked.statuses, fates) == ([180, 487], ["desk cancelled"])


@pytest.mark.rfc("3261 9.1", "3261 16.10")
def test_hunting_block_takes_the_answer_of_the_last_phone_that_crosses_its_cancel(sip):
    stack = sip.serve(block("hunting").stack)
    phone, user = Peer(sip, "10.0.0.60"), "<sip:bob@example.com>"
    headers = {"to": user, "from_": f"{user};tag=1", "contact": f"<{phone.uri}>"}
    phone.ask("REGISTER", f"sip:{stack.addresses[0][4:]}", at="127.0.0.1", **headers)
    asked = sip.ask(stack, "INVITE sip:bob@example.com", body=OFFER, content_type="application/sdp")
    invite = phone.last("INVITE")
    phone.reply(invite, 180)
    sip.advance(3)
    phone.reply(invite, 200, contact=f"<{phone.uri}>")
    phone.reply(phone.last("CANCEL"), 481)
    assert asked.statuses == [180, 200]
    asked.call.hangup()
    sip.settle()
    phone.reply(phone.last("BYE"), 200)


def test_hunting_block_may_take_the_call_itself_in_the_end(sip):
    def voicemail(core):
        def wrapped(request, tx):
            status = core(request, tx)
            if status != 480:
                return status
            with tx.accept(body=OFFER) as call:
                call.wait(60)

        return wrapped

    fates = []
    asked = hunted(sip, rings("desk", fates), middleware=voicemail)
    sip.advance(4)
    assert (asked.statuses, fates) == ([180, 200], ["desk cancelled"])
    sip.advance(61)
    assert asked.call.ended.is_set()


@pytest.mark.parametrize("seconds, status", [(3, 480), (1, 487)])
def test_tidying_block_frees_its_line(sip, seconds, status):
    module = block("tidying")
    asked = sip.ask(module.stack, "INVITE sip:bob@example.com")
    busy = sip.ask(module.stack, "INVITE sip:bob@example.com")
    sip.advance(seconds)
    if seconds < 2:
        asked.cancel()
        sip.settle()
    assert (asked.statuses, busy.statuses) == ([180, status], [486])
    assert module.lines == ["line 1"]


def test_staying_block_routes_the_whole_call(sip):
    ended = []

    def bob(request, tx):
        with tx.accept(body=OFFER) as call:
            call.wait()
        ended.append(str(call.end))

    sip.stack(bob, host="192.0.2.20")
    asked = sip.ask(
        block("staying").stack,
        "INVITE sip:bob@example.com",
        body=OFFER,
        content_type="application/sdp",
    )
    assert asked.statuses == [200]
    assert len(asked.response.record_route) == 1
    asked.call.hangup()
    sip.settle()
    assert ended == ["bye by peer"]


@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
def test_outcome_block_records_the_status(sip, method):
    sip.stack(lambda request, tx: 486, host="192.0.2.20")
    module = block("outcome")
    assert sip.ask(module.stack, f"{method} sip:bob@example.com").statuses == [486]
    assert module.records == [("bob", 486)]


def test_balancing_block_chooses_one_server_for_a_call(sip):
    for status, host in ((486, "192.0.2.31"), (480, "192.0.2.32")):
        sip.stack(lambda request, tx, status=status: status, host=host)
    stack = sip.serve(block("balancing").stack)
    statuses = {
        number: {
            sip.ask(stack, "MESSAGE sip:bob@example.com", call_id=f"call-{number}").statuses[0]
            for _ in range(2)
        }
        for number in range(8)
    }
    assert all(len(found) == 1 for found in statuses.values())
    assert set.union(*statuses.values()) == {486, 480}


def bridged(sip, core):
    sip.stack(core, host="192.0.2.20")
    return sip.ask(
        block("bridging").b2bua,
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


def test_digits_block_hangs_up_at_the_star(sip):
    stack = block("digits").stack
    sip.serve(stack)
    desks = []

    def desk(request, tx):
        with tx.accept(body=OFFER) as call:
            desks.append(call)
            call.wait()

    sip.stack(desk, host="192.0.2.20")
    call = sip.run(
        sip.client.invite,
        f"sip:office@{stack.addresses[0].removeprefix('udp:')}",
        body=OFFER,
        content_type="application/sdp",
    )
    sip.run(call.send_digits, "1")
    assert not call.ended.is_set() and not desks[0].ended.is_set()
    sip.run(call.send_digits, "*")
    sip.settle()
    assert call.ended.is_set() and desks[0].ended.is_set()


class Transferred:
    """A call from `sip.client` to a phone that follows transfers to the sales department."""

    def __init__(self, sip, sales):
        self.calls = []
        self.phone = block("following").stack
        self.phone.on("INVITE")(self.answer)
        sip.serve(self.phone)
        self.sales = sip.stack(sales or self.answer, host="192.0.2.30")
        self.call = self.invite(sip, self.phone)

    def answer(self, request, tx):
        with tx.accept(body=OFFER) as call:
            self.calls.append(call)
            call.wait()

    @staticmethod
    def invite(sip, stack):
        uri = f"sip:somebody@{stack.addresses[0].removeprefix('udp:')}"
        return sip.run(sip.client.invite, uri, body=OFFER, content_type="application/sdp")


def test_transferring_block_sends_the_phone_to_sales(sip):
    transferred = Transferred(sip, None)
    sip.run(block("transferring").to_sales, transferred.call)
    sip.settle()
    with_us, with_sales = transferred.calls
    assert with_us.ended.is_set()
    assert not with_sales.ended.is_set()
    assert with_sales.remote_body == OFFER
    with_sales.hangup()


def test_transferring_block_says_that_sales_is_not_reached(sip, capsys):
    transferred = Transferred(sip, lambda request, tx: 486)
    sip.run(block("transferring").to_sales, transferred.call)
    sip.settle()
    assert capsys.readouterr().out == "sales was not reached: 486\n"


def test_following_block_goes_to_sales_only(sip):
    transferred = Transferred(sip, None)
    with pytest.raises(Reject) as refused:
        sip.run(transferred.call.transfer, "sip:stranger@192.0.2.31")
    assert refused.value.status == 603
    transferred.call.hangup()
    phone = f"sip:x@{transferred.phone.addresses[0][4:]}"
    assert sip.run(sip.client.request, "REFER", phone, refer_to="<sip:y@192.0.2.30>").status == 403


def test_transferring_block_connects_two_calls(sip):
    transferred = Transferred(sip, None)
    second = transferred.invite(sip, transferred.sales)
    sip.run(block("transferring").connect, transferred.call, second)
    sip.settle()
    with_us, replaced, joined = transferred.calls
    assert with_us.ended.is_set()
    assert replaced.ended.is_set()
    assert second.ended.is_set()
    assert not joined.ended.is_set()
    joined.hangup()


def test_path_block_leads_to_the_phone_by_its_connection():
    made = block("path")
    edge = made.edge
    on_free_ports(edge)
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


def test_messages_block_prints_what_it_says():
    said = re.findall(
        r"# (.*?)(?:: the text.*)?$", re.sub(r"#.*as a peer might.*", "", BLOCKS["messages"]), re.M
    )
    assert run_script("messages").splitlines() == said


def test_headers_block_names_the_product(sip):
    made = block("headers")
    (name, _, text), *_ = made.stack.capabilities.in_requests
    assert (name, text) == ("User-Agent", "office/1.0")
    assert [line[0] for line in made.stack.capabilities.in_responses] == ["Server", "Organization"]


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


def test_middleware_block_refuses_strangers_and_logs(sip, caplog):
    caplog.set_level("INFO", "office")
    stack = block("middleware").stack
    assert sip.ask(stack, "INVITE sip:bob@example.com").statuses == [486]  # from 10.0.0.100
    assert "core ended: method=INVITE seconds=0.0" in caplog.text
    stranger = sip.stack(host="192.0.2.7")
    response = sip.run(stranger.request, "MESSAGE", f"sip:{stack.addresses[0][4:]}")
    assert response.status == 403


def test_tap_block_counts_bytes_of_each_peer():
    made = block("tap")
    with made.stack as stack, Stack("udp:127.0.0.1:0", core=lambda *_: 200) as peer:
        uri = f"sip:{peer.addresses[0].removeprefix('udp:')}"
        assert stack.request("OPTIONS", uri, timeout=5).status == 200
    assert len(made.traffic) == 2  # both directions
    assert min(made.traffic.values()) > 200


@pytest.mark.parametrize(
    "made",
    [lambda: block("passwords"), lambda: block("passwords_in_a_file")],
    ids=["in memory", "in a file"],
)
def test_passwords_block_lets_users_with_passwords_register(sip, made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = made()
    stack = sip.serve(shown.stack)
    resolver = StaticResolver({"example.com": [stack.addresses[0][4:].partition(":")[0]]})
    phone = sip.stack(resolver=resolver)
    for user, password, status in (
        ("alice", "secret", 200),
        ("alice", "x", 401),
        ("bob", "x", 401),
    ):
        mine = sippet_gevent.Credentials(user, password, hosts=("example.com",))
        answer = sip.run(
            phone.request, "REGISTER", "sip:example.com", credentials=mine,
            to=f"sip:{user}@example.com", contact="sip:a@10.0.0.9",
        )  # fmt: skip
        assert answer.status == status
    if hasattr(shown, "bindings"):
        shown.users.close()
        shown.bindings.close()


def test_authenticate_block_asks_for_messages_alone(sip, capsys):
    stack = sip.serve(block("authenticate").stack)
    host = stack.addresses[0][4:].partition(":")[0]
    phone = sip.stack(resolver=StaticResolver({"example.com": [host]}))
    assert sip.run(phone.request, "OPTIONS", "sip:example.com").status == 200
    assert sip.run(phone.request, "MESSAGE", "sip:example.com").status == 401
    mine = sippet_gevent.Credentials("alice", "secret", hosts=("example.com",))
    answer = sip.run(
        phone.request, "MESSAGE", "sip:example.com", credentials=mine, body="hello",
        content_type="text/plain", from_="sip:alice@example.com",
    )  # fmt: skip
    assert answer.status == 200
    assert capsys.readouterr().out == "alice writes hello\n"


def test_credentials_block_calls_by_a_carrier(sip, capsys):
    def core(request, tx):
        with tx.accept(body=OFFER, content_type="application/sdp") as call:
            call.wait(60)

    users = {"4930123": "secret"}
    carrier = sippet_gevent.Authenticated(
        core, realm="carrier", users=users, owns=lambda username, uri: True
    )
    sip.stack(carrier, host="10.0.0.9")
    program = block("credentials")
    stack = sip.serve(program.stack)
    stack.resolver = StaticResolver({"carrier.example": ["10.0.0.9"]})
    call = sip.run(program.call, "0301", OFFER)
    call.hangup()
    sip.settle()
    users["4930123"] = "changed"
    assert sip.run(program.call, "0301", OFFER) is None
    assert capsys.readouterr().out == (
        "not called: 401 Unauthorized: user 4930123 was refused by realm carrier\n"
    )


def test_sessions_block_agrees_on_sessions(sip, capsys):
    kinds = []
    program = block("sessions")
    bob = sip.stack()

    @bob.on("INVITE")
    def answer(request, tx):
        with tx.accept(media=[program.AUDIO]) as call:
            for event in call.events():
                kinds.append(event.kind)

    uri = f"sip:{bob.addresses[0].removeprefix('udp:')}"
    for function in (program.consult, program.late, program.quiet):
        sip.run(function, sip.client, uri)
    assert capsys.readouterr().out == "send RTP to 10.0.0.2\n"
    assert kinds == ["hold", "resume", "end", "end", "end"]


def test_notifying_and_subscribing_blocks_talk_to_each_other(sip, capsys):
    served = block("notifying")
    sip.serve(served.stack)
    uri = f"sip:{served.stack.addresses[0].removeprefix('udp:')}"
    gevent.spawn(block("subscribing").watch, sip.client, uri)
    sip.advance(5)
    served.mailbox["new"] = 0
    sip.advance(5)
    assert capsys.readouterr().out.splitlines() == [
        "active Messages-Waiting: yes", "Voice-Message: 2/8", "",
        "active Messages-Waiting: no", "Voice-Message: 0/8", "",
    ]  # fmt: skip
    sip.client.stop()
    sip.settle()
    assert "ended: stopped by stack" in capsys.readouterr().out
    served.mailbox["new"] = 1
    sip.advance(40)  # the NOTIFY finds nobody
    assert served.stack.stats()["subscriptions"] == 0


def test_presence_block_tells_when_a_phone_comes_and_goes(sip):
    made = block("presence")
    sip.serve(made.stack)
    host = made.stack.addresses[0].removeprefix("udp:")
    phone, heard = sip.stack(host="10.0.0.9"), []

    def watch():
        with phone.subscribe(f"sip:bob@{host}", event="presence") as subscription:
            for notify in subscription:
                heard.append(re.search(b"<basic>(.*)</basic>", notify.body)[1])

    def register(expires):
        headers = {"contact": "<sip:bob@10.0.0.9>", "to": f"<sip:bob@{host}>"}
        sip.run(phone.request, "REGISTER", f"sip:{host}", expires=expires, **headers)
        sip.settle()

    watching = gevent.spawn(watch)
    sip.settle()
    for expires in (600, 600, 0):
        register(expires)
    assert heard == [b"closed", b"open", b"open", b"closed"]
    watching.kill(block=False)
    sip.advance(40)
    assert made.watching == {}


def test_clicking_block_tells_how_the_target_answers(sip, capsys):
    @(phone := sip.stack()).on("REFER")
    def refer(request, tx):
        tx.referral.follow(body=OFFER).hangup()

    target = sip.stack(lambda request, tx: 486)
    uris = [f"sip:{stack.addresses[0].removeprefix('udp:')}" for stack in (phone, target)]
    with pytest.raises(Reject):
        sip.run(block("clicking").click, sip.client, *uris)
    assert capsys.readouterr().out == "100 Trying\n486 Busy Here\n"


def test_click_to_call_block_connects_two_phones(sip):
    program = block("click_to_call")
    sessions = []

    def phone(request, tx):
        tx.respond(180)
        tx.wait(1)
        with tx.accept(
            media=[sippet_gevent.sdp.MediaStream("audio", 4000, (sippet_gevent.sdp.PCMU,))]
        ) as call:
            sessions.append(call)
            call.wait(30)

    a, b = (f"sip:x@{sip.stack(phone).addresses[0][4:]}" for _ in range(2))
    assert sip.run(program.connect, sip.client, a, b).startswith("ended: bye by ")
    assert [call.remote_sdp.media[0].port for call in sessions] == [4000, 4000]
    busy = f"sip:x@{sip.stack(lambda *_: 486).addresses[0][4:]}"
    assert sip.run(program.connect, sip.client, a, busy) == "not connected: 486 Busy Here"
