"""History-Info at proxies and in redirected requests, RFC 7044."""

from __future__ import annotations

import pytest

from sippet_gevent import URI, Location, Registrar, forward
from sippet_gevent.core.proxy.context import ResponseContext
from sippet_gevent.core.routing.history_info import History, anonymized, is_kept, order_of
from sippet_gevent.message.fields.history import HistoryInfo

from ..wire import AT_SERVER, Peer, start

BOB = AT_SERVER
FIRST, SECOND = "sip:bob@10.0.0.71", "sip:carol@10.0.0.72"


class Fork:
    """A proxy between a caller and two phones."""

    def __init__(self, sip, *targets, core=None, method="INVITE", **headers):
        self.phones = [Peer(sip, f"10.0.0.{71 + number}") for number in range(2)]
        self.caller = Peer(sip, "10.0.0.50")
        sip.serve(core or (lambda request, tx: forward(request, tx, *targets)))
        self.request = self.caller.ask(method, **headers)

    def told(self, number):
        return texts(self.phones[number].last(self.request.method))

    @property
    def answered(self):
        return texts(self.caller.responses[-1])

    def reply(self, number, status, **headers):
        phone = self.phones[number]
        phone.reply(phone.last(self.request.method), status, **headers)


def texts(message):
    return [str(entry) for entry in message.history_info]


def entries(*given):
    return [HistoryInfo.parse(text) for text in given]


@pytest.mark.rfc("7044 9.4")
@pytest.mark.parametrize("supported", [None, "timer, path"])
def test_request_without_history_info_and_histinfo_has_no_history(sip, supported):
    headers = {} if supported is None else {"supported": supported}
    it = Fork(sip, FIRST, method="MESSAGE", **headers)
    assert it.told(0) == []
    it.reply(0, 200)
    assert it.answered == []


@pytest.mark.rfc("7044 9.1", "7044 9.2", "7044 9.4", "7044 10.3")
def test_histinfo_begins_a_history_on_behalf_of_the_caller(sip):
    it = Fork(sip, FIRST, method="MESSAGE", supported="HistInfo")
    assert it.told(0) == [f"<{BOB}>;index=1", f"<{FIRST}>;index=1.1;rc=1"]
    it.reply(0, 200)
    assert it.answered == [f"<{BOB}>;index=1", f"<{FIRST}>;index=1.1;rc=1"]


@pytest.mark.rfc("7044 10.3", "7044 10.4")
def test_entries_of_hops_before_are_continued(sip):
    it = Fork(
        sip, SECOND, method="MESSAGE", history_info=[f"<sip:a@b>;index=1,<{BOB}>;index=1.1;mp=1"]
    )
    assert it.told(0 if not it.phones[1].received else 1) == [
        "<sip:a@b>;index=1", f"<{BOB}>;index=1.1;mp=1", f"<{SECOND}>;index=1.1.1;mp=1.1",
    ]  # fmt: skip
    it.reply(1, 200)
    assert len(it.answered) == 3


@pytest.mark.rfc("7044 9.1", "7044 10.3")
def test_hop_without_history_info_leaves_a_zero(sip):
    it = Fork(sip, FIRST, method="MESSAGE", history_info="<sip:a@b>;index=1.1")
    assert it.told(0) == [
        "<sip:a@b>;index=1.1", f"<{BOB}>;index=1.1.0", f"<{FIRST}>;index=1.1.0.1;rc=1.1.0",
    ]  # fmt: skip
    it.reply(0, 200)


@pytest.mark.rfc("7044 5", "7044 10.4")
def test_target_that_stays_the_same_is_np(sip):
    it = Fork(
        sip, core=lambda request, tx: forward(request, tx, BOB, next_hop=FIRST),
        method="MESSAGE", supported="histinfo",
    )  # fmt: skip
    assert it.told(0)[1] == f"<{BOB}>;index=1.1;np=1"
    it.reply(0, 200)


@pytest.mark.rfc("7044 9.2", "7044 10.3")
def test_parallel_branches_have_only_their_own_entry(sip):
    it = Fork(sip, FIRST, SECOND, supported="histinfo")
    assert it.told(0) == [f"<{BOB}>;index=1", f"<{FIRST}>;index=1.1;rc=1"]
    assert it.told(1) == [f"<{BOB}>;index=1", f"<{SECOND}>;index=1.2;mp=1"]
    it.reply(0, 180)
    assert it.answered == [f"<{BOB}>;index=1", f"<{FIRST}>;index=1.1;rc=1"]
    it.reply(1, 200, contact=f"<{SECOND}>")
    # the branch that has told nothing final keeps the entry of its 180
    assert it.answered == [
        f"<{BOB}>;index=1", f"<{FIRST}>;index=1.1;rc=1", f"<{SECOND}>;index=1.2;mp=1",
    ]  # fmt: skip
    it.reply(0, 487)


def one_by_one(request, tx):
    with ResponseContext(tx) as context:
        for target in (FIRST, SECOND):
            context.fork(target)
            for response in context:
                if response.status < 300:
                    context.forward(response)
            if tx.answered:
                return
        context.forward(context.best())


@pytest.mark.rfc("7044 9.3", "7044 10.2", "7044 10.3")
def test_failed_target_has_its_reason_in_the_next_request(sip):
    it = Fork(sip, core=one_by_one, method="MESSAGE", supported="histinfo")
    it.reply(0, 486, reason_header="Q.850;cause=17")
    told = it.told(1)
    assert [entry.index for entry in it.phones[1].last("MESSAGE").history_info] == [
        "1",
        "1.1",
        "1.2",
    ]
    entry = it.phones[1].last("MESSAGE").history_info[1]
    assert [str(reason) for reason in entry.reason] == [
        'SIP;cause=486;text="Busy Here"', "Q.850;cause=17",
    ]  # fmt: skip
    it.reply(1, 404)
    assert it.answered[:2] == told[:2]
    assert it.caller.responses[-1].history_info[2].reason[0].cause == 404


@pytest.mark.rfc("7044 10.2")
def test_target_that_is_silent_has_a_408(sip):
    it = Fork(sip, core=one_by_one, supported="histinfo")
    sip.advance(32.1)
    entry = it.phones[1].last("INVITE").history_info[1]
    assert (entry.index, entry.reason[0].cause) == ("1.1", 408)
    it.reply(1, 200, contact=f"<{SECOND}>")


def following(request, tx):
    with ResponseContext(tx) as context:
        context.fork(FIRST)
        for response in context:
            if 300 <= response.status < 400:
                context.fork(response.contact[0].uri)
            else:
                context.forward(response)


@pytest.mark.rfc("7044 10.3", "7044 10.4")
@pytest.mark.parametrize(
    ("parameter", "expected"), [("", ""), (";mp=1", ";mp=1.1"), (";rc=1", ";rc=1.1")]
)
def test_redirecting_server_says_how_the_target_was_found(sip, parameter, expected):
    it = Fork(sip, core=following, method="MESSAGE", supported="histinfo")
    it.reply(0, 302, contact=f"<{SECOND}>{parameter}")
    told = it.told(1)
    assert told[-1] == f"<{SECOND}>;index=1.2{expected}"
    assert "cause%3D302" in told[1]
    it.reply(1, 200)
    assert len(it.answered) == 3


@pytest.mark.rfc("7044 9.3")
def test_entries_that_a_branch_tells_are_passed_on_in_order(sip):
    it = Fork(sip, FIRST, SECOND, supported="histinfo")
    it.reply(1, 180)
    it.reply(
        0, 200, contact=f"<{FIRST}>",
        history_info=[f"<{BOB}>;index=1", f"<{FIRST}>;index=1.1;rc=1", "<sip:d@e>;index=1.1.1;mp=1.1"],
    )  # fmt: skip
    indexes = [entry.index for entry in it.caller.responses[-1].history_info]
    assert indexes == ["1", "1.1", "1.1.1", "1.2"]
    it.reply(1, 487)


@pytest.mark.rfc("7044 5.1", "7044 10.4")
def test_contacts_of_a_user_are_rc(sip):
    location = Location()
    registrar = Registrar(location)

    def core(request, tx):
        if request.method == "REGISTER":
            return registrar(request, tx)
        return forward(request, tx, *location.lookup(request.uri))

    sip.serve(core, domains=("example.com",))
    phone = Peer(sip, "10.0.0.71")
    phone.ask(
        "REGISTER", "sip:example.com", to="<sip:bob@example.com>", contact="<sip:x@10.0.0.71>"
    )
    caller = Peer(sip, "10.0.0.50")
    caller.ask("MESSAGE", "sip:bob@example.com", supported="histinfo", privacy="history")
    assert texts(phone.last("MESSAGE")) == [
        "<sip:bob@example.com>;index=1", "<sip:x@10.0.0.71>;index=1.1;rc=1",
    ]  # fmt: skip
    phone.reply(phone.last("MESSAGE"), 200)


@pytest.mark.rfc("7044 10.1.2")
@pytest.mark.parametrize(
    ("privacy", "told"),
    [("history", "anonymous"), ("header", "anonymous"), ("id", "bob"), (None, "bob")],
)
def test_entry_of_our_domain_is_not_told_outside_if_the_caller_wants_that(sip, privacy, told):
    headers = {} if privacy is None else {"privacy": privacy}
    it = Fork(sip, SECOND, method="MESSAGE", supported="histinfo", **headers)
    first, second = it.phones[1].last("MESSAGE").history_info
    assert (first.uri.user, first.index) == (told, "1")
    assert (str(second.uri), second.index) == (SECOND, "1.1")
    it.reply(1, 200)
    assert it.answered[0] == f"<{BOB}>;index=1"


@pytest.mark.rfc("7044 10.1.2")
def test_only_entries_of_ours_that_want_it_are_made_anonymous():
    given = entries(
        "<sip:a@x?Privacy=history>;index=1",
        "<sip:b@x>;index=1.1",
        "<sip:c@y?Privacy=history>;index=1.1.1",
    )
    told = anonymized(given, lambda uri: uri.host == "x", all_of_ours=False)
    assert [entry.uri.user for entry in told] == ["anonymous", "b", "c"]
    assert [entry.index for entry in told] == ["1", "1.1", "1.1.1"]


@pytest.mark.rfc("7044 5")
def test_request_within_a_dialog_has_no_history(sip):
    request = Peer(sip, "10.0.0.50").request("MESSAGE", supported="histinfo")
    assert is_kept(request)
    request.to = f"<{BOB}>;tag=1"
    assert not is_kept(request)


def test_history_that_cannot_be_read_is_passed_on(sip):
    it = Fork(sip, FIRST, method="MESSAGE", history_info="sip:a@b;index=x.y")
    assert it.phones[0].last("MESSAGE").headers["History-Info"] == "sip:a@b;index=x.y"
    it.reply(0, 200)


@pytest.mark.parametrize("count", [50, 51, 100])
def test_history_does_not_grow_without_end(sip, count):
    request = Peer(sip, "10.0.0.50").request("MESSAGE", BOB)
    request.history_info = entries(*(f"<{BOB}>;index=1.{n}" for n in range(1, count + 1)))
    history = History(request)
    history.branch("b", URI.parse(FIRST), is_contact=True)
    history.received("b", request.response(180))
    assert len(history.entries) <= max(count, 50)


@pytest.mark.rfc("7044 10.3")
def test_order_of_entries_is_by_numbers():
    given = entries("<sip:a@b>;index=1.10", "<sip:a@b>;index=1.2.1", "<sip:a@b>;index=1.2")
    assert [str(e.index) for e in sorted(given, key=order_of)] == ["1.2", "1.2.1", "1.10"]


@pytest.mark.rfc("7044 6.1", "7044 10.3", "7044 10.2")
def test_redirected_request_of_ours_has_the_next_index(sip):
    phones = [Peer(sip, "10.0.0.71"), Peer(sip, "10.0.0.72")]
    waiting = start(
        sip, sip.client.request, "MESSAGE", FIRST, follow_redirects=True,
        history_info=f"<{FIRST}>;index=1", supported="histinfo",
    )  # fmt: skip
    phones[0].reply(phones[0].last("MESSAGE"), 302, contact=f"<{SECOND}>;mp=1")
    first, second = phones[1].last("MESSAGE").history_info
    assert (first.index, first.reason[0].cause) == ("1", 302)
    assert str(second) == f"<{SECOND}>;index=2;mp=1"
    phones[1].reply(phones[1].last("MESSAGE"), 200)
    assert waiting.get().status == 200
