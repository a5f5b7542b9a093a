"""RFC 3665, the basic flows: registrations of §2, calls of §3."""

from __future__ import annotations

import pytest

from sippet_gevent import (
    SRV,
    URI,
    Authenticated,
    Credentials,
    Location,
    Registrar,
    ResponseContext,
    StaticResolver,
    TransactionTimeout,
    sdp,
)
from sippet_gevent.transport.memory import MemoryTransport

from .flow import ALICE, AUDIO, Flow, Flows, at, play

flows = Flows(3665)

AOR = "sip:alice@atlanta.example.com"
BOB = "sip:bob@biloxi.example.com"

THROUGH_TWO = """
    Alice -> Proxy1: INVITE
    Proxy1 -> Alice: 100
    Proxy1 -> Proxy2: INVITE
    Proxy2 -> Proxy1: 100
    Proxy2 -> Bob: INVITE
"""


# ---- 2 registrations


class Registering:
    """Alice's phone, and a registrar that asks for its password."""

    def __init__(self, flow: Flow, *, asks: bool = True) -> None:
        self.flow = flow
        self.location = Location()
        core = Registrar(self.location)
        if asks:
            core = Authenticated(
                core, realm="atlanta.example.com", users={"alice": "secret"}, algorithms=("MD5",)
            )
        self.server = flow.stack("Server", core, domains=("atlanta.example.com",))
        self.alice = flow.phone("Alice")

    def register(self, **headers):
        """Send a REGISTER and return its final response."""
        options = {"credentials": ALICE, "from_": f"<{AOR}>", "to": f"<{AOR}>", **headers}
        return self.flow.sip.run(
            self.alice.stack.request, "REGISTER", "sip:atlanta.example.com",
            next_hop=at(self.server), **options,
        )  # fmt: skip

    @property
    def contacts(self):
        return [str(binding.contact.uri) for binding in self.location.lookup(URI.parse(AOR))]


@flows(
    "2.1",
    "successful new registration",
    """
    Alice -> Server: REGISTER
    Server -> Alice: 401
    Alice -> Server: REGISTER
    Server -> Alice: 200
    """,
)
def new_registration(flow):
    phone = Registering(flow)
    response = phone.register(contact=f"<{phone.alice.uri}>", expires=3600)
    assert response.status == 200 and phone.contacts == [phone.alice.uri]
    assert str(response.contact[0].uri) == phone.alice.uri
    assert response.contact[0].parameters.get("expires") == "3600"


@flows(
    "2.2",
    "update of the contact list",
    """
    Alice -> Server: REGISTER/200
    """,
)
def another_contact(flow):
    phone = Registering(flow, asks=False)
    response = phone.register(contact="<mailto:alice@atlanta.example.com>")
    assert response.status == 200 and len(response.contact) == 1


@flows(
    "2.3",
    "request for the current contact list",
    """
    Alice -> Server: REGISTER/200
    Alice -> Server: REGISTER/200
    """,
)
def contact_list(flow):
    phone = Registering(flow, asks=False)
    phone.register(contact=f"<{phone.alice.uri}>")
    response = phone.register()
    assert [str(contact.uri) for contact in response.contact] == [phone.alice.uri]


@flows(
    "2.4",
    "cancellation of the registration",
    """
    Alice -> Server: REGISTER/200
    Alice -> Server: REGISTER/200
    """,
)
def unregistered(flow):
    phone = Registering(flow, asks=False)
    phone.register(contact=f"<{phone.alice.uri}>")
    response = phone.register(contact="*", expires=0)
    assert response.status == 200 and not response.contact and phone.contacts == []


@flows(
    "2.5",
    "unsuccessful registration",
    """
    Alice -> Server: REGISTER
    Server -> Alice: 401
    Alice -> Server: REGISTER
    Server -> Alice: 401
    """,
)
def wrong_password(flow):
    phone = Registering(flow)
    wrong = Credentials("alice", "wrong", realm="atlanta.example.com", hosts=("10.0.0.0/24",))
    response = phone.register(contact=f"<{phone.alice.uri}>", credentials=wrong)
    assert response.status == 401 and phone.contacts == []


# ---- 3 calls


@flows(
    "3.1",
    "successful session establishment",
    """
    Alice -> Bob: INVITE
    Bob -> Alice: 180
    Bob -> Alice: 200
    Alice -> Bob: ACK
    Bob -> Alice: BYE/200
    """,
)
def direct_call(flow):
    alice, bob = flow.phone("Alice"), flow.phone("Bob")
    alice.invite(bob)
    flow.wait(2)
    assert alice.call.remote_sdp.media[0].port == 49172
    bob.do("hangup")
    flow.wait(1)


@flows(
    "3.2",
    "call through two proxies",
    """
    Alice -> Proxy1: INVITE
    Proxy1 -> Alice: 407
    Alice -> Proxy1: ACK
    """
    + THROUGH_TWO
    + """
    Bob -> Proxy2: 180
    Proxy2 -> Proxy1: 180
    Proxy1 -> Alice: 180
    Bob -> Proxy2: 200
    Proxy2 -> Proxy1: 200
    Proxy1 -> Alice: 200
    Alice -> Proxy1: ACK
    Proxy1 -> Proxy2: ACK
    Proxy2 -> Bob: ACK
    Bob -> Proxy2: BYE
    Proxy2 -> Proxy1: BYE
    Proxy1 -> Alice: BYE
    Alice -> Proxy1: 200
    Proxy1 -> Proxy2: 200
    Proxy2 -> Bob: 200
    """,
)
def two_proxies(flow):
    alice, bob = flow.phone("Alice"), flow.phone("Bob")
    near, _ = proxies(flow, bob, asks="atlanta.example.com")
    alice.invite(BOB, next_hop=at(near), from_=f"<{AOR}>", credentials=ALICE)
    flow.wait(3)
    bob.do("hangup")
    flow.wait(1)


def proxies(flow, bob, *, asks="", far_asks=""):
    """Return the proxies of Alice and of Bob, on the way to Bob."""
    far = flow.proxy("Proxy2", bob if isinstance(bob, str) else bob.uri, asks=far_asks)
    return flow.proxy("Proxy1", next_hop=at(far), asks=asks), far


@flows(
    "3.3",
    "two proxies ask for a password",
    """
    Alice -> Proxy1: INVITE
    Proxy1 -> Alice: 407
    Alice -> Proxy1: ACK
    Alice -> Proxy1: INVITE
    Proxy1 -> Alice: 100
    Proxy1 -> Proxy2: INVITE
    Proxy2 -> Proxy1: 407
    Proxy1 -> Proxy2: ACK
    Proxy1 -> Alice: 407
    Alice -> Proxy1: ACK
    """
    + THROUGH_TWO
    + """
    Bob -> Proxy2: 200
    Proxy2 -> Proxy1: 200
    Proxy1 -> Alice: 200
    Alice -> Proxy1: ACK
    Proxy1 -> Proxy2: ACK
    Proxy2 -> Bob: ACK
    """,
)
def two_passwords(flow):
    alice, bob = flow.phone("Alice"), flow.phone("Bob", rings=0)
    near, _ = proxies(flow, bob, asks="atlanta.example.com", far_asks="biloxi.example.com")
    alice.invite(BOB, next_hop=at(near), from_=f"<{AOR}>", credentials=ALICE)
    flow.wait(3)
    yield
    alice.do("hangup")
    flow.wait(1)


@flows(
    "3.4",
    "the first proxy has failed",
    "Alice -> Proxy1: INVITE\n" * 7
    + """
    Alice -> Proxy2: INVITE
    Proxy2 -> Alice: 407
    Alice -> Proxy2: ACK
    Alice -> Proxy2: INVITE
    Proxy2 -> Alice: 100
    Proxy2 -> Bob: INVITE
    Bob -> Proxy2: 180
    Proxy2 -> Alice: 180
    Bob -> Proxy2: 200
    Proxy2 -> Alice: 200
    Alice -> Proxy2: ACK
    Proxy2 -> Bob: ACK
    Bob -> Proxy2: BYE
    Proxy2 -> Alice: BYE
    Alice -> Proxy2: 200
    Proxy2 -> Bob: 200
    """,
)
def failed_proxy(flow):
    flow.silent("Proxy1")
    bob = flow.phone("Bob")
    second = flow.proxy("Proxy2", bob.uri, asks="atlanta.example.com")
    resolver = StaticResolver(
        {
            "_sip._udp.biloxi.example.com": [
                SRV(1, 0, 5060, "one.example.com"),
                SRV(2, 0, 5060, "two.example.com"),
            ],
            "one.example.com": ["10.0.0.200"],
            "two.example.com": [at(second)[4:]],
        }
    )
    alice = flow.phone("Alice", resolver=resolver)
    alice.invite(BOB, from_=f"<{AOR}>", credentials=ALICE)
    flow.wait(35)
    bob.do("hangup")
    flow.wait(1)


@flows(
    "3.5",
    "call through an application level gateway",
    # the gateway of the RFC rewrites the session description, too; here it is a proxy
    THROUGH_TWO
    + """
    Bob -> Proxy2: 180
    Proxy2 -> Proxy1: 180
    Proxy1 -> Alice: 180
    Bob -> Proxy2: 200
    Proxy2 -> Proxy1: 200
    Proxy1 -> Alice: 200
    Alice -> Proxy1: ACK
    Proxy1 -> Proxy2: ACK
    Proxy2 -> Bob: ACK
    Alice -> Proxy1: BYE
    Proxy1 -> Proxy2: BYE
    Proxy2 -> Bob: BYE
    Bob -> Proxy2: 200
    Proxy2 -> Proxy1: 200
    Proxy1 -> Alice: 200
    """,
)
def gateway(flow):
    alice, bob = flow.phone("Alice"), flow.phone("Bob")
    near, _ = proxies(flow, bob)
    alice.invite(BOB, next_hop=at(near))
    flow.wait(2)
    alice.do("hangup")
    flow.wait(1)


@flows(
    "3.6",
    "redirection, and the answer in the ACK",
    """
    Alice -> Redirect: INVITE
    Redirect -> Alice: 302
    Alice -> Redirect: ACK
    Alice -> Proxy2: INVITE
    Proxy2 -> Alice: 100
    Proxy2 -> Bob: INVITE
    Bob -> Proxy2: 180
    Proxy2 -> Alice: 180
    Bob -> Proxy2: 200
    Proxy2 -> Alice: 200
    Alice -> Proxy2: ACK
    Proxy2 -> Bob: ACK
    Bob -> Proxy2: BYE
    Proxy2 -> Alice: BYE
    Alice -> Proxy2: 200
    Proxy2 -> Bob: 200
    """,
)
def redirected(flow):
    alice, bob = flow.phone("Alice"), flow.phone("Bob")
    far = flow.proxy("Proxy2", bob.uri)
    redirect = flow.stack(
        "Redirect",
        lambda request, tx: request.response(302, contact=f"<sip:bob@{at(far)[4:]}>"),
    )
    alice.invite(
        f"sip:bob@{at(redirect)[4:]}", media=None, follow_redirects=True,
        on_offer=lambda offer, call: sdp.answer(offer, [AUDIO], address=alice.host),
    )  # fmt: skip
    flow.wait(2)
    assert bob.call.remote_sdp.media[0].port == 49172  # it came in the ACK
    bob.do("hangup")
    flow.wait(1)


@flows(
    "3.7",
    "re-INVITE after a change of the address",
    """
    Alice -> Proxy: INVITE
    Proxy -> Alice: 100
    Proxy -> Bob: INVITE
    Bob -> Proxy: 180
    Proxy -> Alice: 180
    Bob -> Proxy: 200
    Proxy -> Alice: 200
    Alice -> Bob: ACK
    Bob -> Alice: INVITE/200/ACK
    Alice -> Bob: BYE/200
    """,
)
def moved(flow):
    alice, bob = flow.phone("Alice"), flow.phone("Bob")
    proxy = flow.proxy("Proxy", bob.uri, record_route=False)
    alice.invite(BOB, next_hop=at(proxy))
    flow.wait(2)
    flow.hosts["10.0.0.99"] = "Bob"
    bob.stack.listen("udp:10.0.0.99:5060", MemoryTransport(flow.sip.network))
    bob.do("reinvite", contact="<sip:bob@10.0.0.99>")
    flow.wait(1)
    assert str(alice.call.dialog.remote_target) == "sip:bob@10.0.0.99"
    alice.do("hangup")
    flow.wait(1)
    assert flow.sip.network.trace[-2].destination[0] == "10.0.0.99"


RINGS = """
    Bob -> Proxy2: 180
    Proxy2 -> Proxy1: 180
    Proxy1 -> Alice: 180
"""


@flows(
    "3.8",
    "no answer",
    THROUGH_TWO
    + RINGS
    + """
    Alice -> Proxy1: CANCEL
    Proxy1 -> Alice: 200
    Proxy1 -> Proxy2: CANCEL
    Proxy2 -> Proxy1: 200
    Proxy2 -> Bob: CANCEL
    Bob -> Proxy2: 200
    Bob -> Proxy2: 487
    Proxy2 -> Bob: ACK
    Proxy2 -> Proxy1: 487
    Proxy1 -> Proxy2: ACK
    Proxy1 -> Alice: 487
    Alice -> Proxy1: ACK
    """,
)
def no_answer(flow):
    alice, bob = flow.phone("Alice"), flow.phone("Bob", answer=None)
    near, _ = proxies(flow, bob)
    call = alice.invite(BOB, next_hop=at(near), timeout=5)
    flow.wait(7)
    assert isinstance(call.exception, TransactionTimeout)


@flows(
    "3.9",
    "busy",
    THROUGH_TWO
    + """
    Bob -> Proxy2: 486
    Proxy2 -> Bob: ACK
    Proxy2 -> Proxy1: 486
    Proxy1 -> Proxy2: ACK
    Proxy1 -> Alice: 486
    Alice -> Proxy1: ACK
    """,
)
def busy(flow):
    alice, bob = flow.phone("Alice"), flow.phone("Bob", rings=0, answer=486)
    near, _ = proxies(flow, bob)
    call = alice.invite(BOB, next_hop=at(near))
    flow.wait(2)
    assert call.exception.status == 486


@flows(
    "3.10",
    "no response from the user agent",
    THROUGH_TWO
    + "Proxy2 -> Bob: INVITE\n" * 6
    + """
    Proxy2 -> Proxy1: 480
    Proxy1 -> Proxy2: ACK
    Proxy1 -> Alice: 480
    Alice -> Proxy1: ACK
    """,
)
def no_response(flow):
    alice, bob = flow.phone("Alice"), flow.silent("Bob")

    def core(request, tx):
        tx.respond(100)
        with ResponseContext(tx, record_route=True) as context:
            context.fork(bob)
            statuses = [response.status for response in context]
        assert statuses == [408]
        return 480  # the RFC's proxy says this of a phone that is gone

    far = flow.stack("Proxy2", core)
    near = flow.proxy("Proxy1", next_hop=at(far))
    call = alice.invite(BOB, next_hop=at(near))
    flow.wait(35)
    assert call.exception.status == 480


@flows(
    "3.11",
    "temporarily unavailable",
    THROUGH_TWO
    + RINGS
    + """
    Bob -> Proxy2: 480
    Proxy2 -> Bob: ACK
    Proxy2 -> Proxy1: 480
    Proxy1 -> Proxy2: ACK
    Proxy1 -> Alice: 480
    Alice -> Proxy1: ACK
    """,
)
def unavailable(flow):
    alice, bob = flow.phone("Alice"), flow.phone("Bob", answer=480)
    near, _ = proxies(flow, bob)
    call = alice.invite(BOB, next_hop=at(near))
    flow.wait(3)
    assert call.exception.status == 480


@pytest.mark.parametrize(("arrows", "script"), flows.parameters())
def test_flow(sip, arrows, script):
    play(sip, arrows, script)
