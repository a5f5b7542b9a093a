"""Rules about bindings: what a REGISTER changes, and which events a change is."""

from __future__ import annotations

import pytest

from sippet_gevent import NameAddr, Reject
from sippet_gevent.stores.bindings import CONTACTS, Binding, FlowName, events, registered

NOW = 1_800_000_000.0


def bound(text="<sip:a@10.0.0.1>", seconds=60, call_id="c", cseq=1, **more):
    address = NameAddr.parse(text)
    return Binding(address.uri, NOW + seconds, call_id, cseq, address, **more)


def register(before, *wanted, is_unusable=lambda binding: False):
    return registered(tuple(before), wanted, NOW, has_outbound=True, is_unusable=is_unusable)


# ---- what a REGISTER changes


@pytest.mark.rfc("3261 10.3")
def test_register_run_again_on_its_own_result_returns_the_same():
    phone, desk = bound(cseq=2), bound("<sip:a@10.0.0.2>;q=0.5", cseq=2)
    for before in ((), (bound(cseq=1),), (bound(call_id="other", cseq=9),)):
        once = register(before, phone, desk)
        assert register(once, phone, desk) == once


@pytest.mark.rfc("3261 10.3")
@pytest.mark.parametrize(
    "new",
    [
        bound(cseq=1),
        bound("<sip:a@10.0.0.1>;q=0.5", cseq=2),
        bound(seconds=0, cseq=2),
    ],
    ids=["older", "another Contact value", "a removal"],
)
def test_register_of_an_old_cseq_is_500(new):
    with pytest.raises(Reject, match="500 Out of Order"):
        register((bound(cseq=2),), new)


@pytest.mark.rfc("3261 10.3")
def test_cseq_of_another_call_id_is_not_compared():
    assert [b.cseq for b in register((bound(cseq=9),), bound(call_id="new", cseq=1))] == [1]


def test_binding_of_an_unusable_flow_gives_way_to_the_eleventh():
    before = [bound(f"<sip:a@10.0.1.{n}>", call_id=str(n)) for n in range(CONTACTS)]
    with pytest.raises(Reject, match="403"):
        register(before, bound())
    after = register(before, bound(), is_unusable=lambda binding: binding.call_id == "3")
    assert len(after) == CONTACTS and "3" not in [b.call_id for b in after]


# ---- events


FLOW = FlowName("node", "tcp:1/2")
REG = ';reg-id=1;+sip.instance="<urn:uuid:1>"'


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        ((), (bound(),), ["added"]),
        ((bound(),), (bound(),), []),
        ((bound(),), (bound(cseq=2),), ["refreshed"]),
        ((bound(),), (), ["removed"]),
        ((bound(seconds=0),), (), ["expired"]),
        ((bound(seconds=0),), (bound(cseq=2),), ["added", "expired"]),
        ((bound(),), (bound("<sip:b@10.0.0.9>"),), ["added", "removed"]),
        (
            (bound(f"<sip:a@x1.invalid>{REG}", flow=FLOW),),
            (bound(f"<sip:a@x2.invalid>{REG}", flow=FLOW._replace(name="tcp:1/3")),),
            ["refreshed"],
        ),
        ((bound(), bound("<sip:b@h>")), (bound("<sip:b@h>"), bound(cseq=3)), ["refreshed"]),
    ],
)
def test_events_of_a_change(before, after, kinds):
    assert [kind for kind, _ in events(before, after, NOW)] == kinds
