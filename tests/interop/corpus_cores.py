"""What serves and calls the SIPp scenarios of the shared corpus: a stack for each way of answering, and `python corpus_cores.py URI WAY` to call."""

from __future__ import annotations

import sys

from sippet_gevent import (
    Authenticator,
    Cancelled,
    Credentials,
    Location,
    ParseError,
    Registrar,
    Reject,
    SIPError,
    Stack,
    Timers,
    TransactionTimeout,
    register_header,
    sdp,
)

register_header("x_color", "X-Color")
register_header("x_custom", "X-Custom")

SHORT = Timers(b=4.0, c=10.0, d=1.0, i=0.5, j=1.0, k=0.5, l=1.0, m=1.0)
AUDIO = sdp.MediaStream("audio", 40000, (sdp.PCMU, sdp.PCMA, sdp.G729, sdp.TELEPHONE_EVENT))

OFFICE = Authenticator(
    realm="asterisk",
    users={"alice": "swordfish", "bob": "secret"},
    algorithms=("MD5",),  # SIPp knows no other that the users have
    owns=lambda username, uri: True,  # scenarios call with one name and the password of another
)


def answers(request, tx):
    with tx.accept(media=[AUDIO]) as call:
        for _ in call.events():
            pass


def hangs_up(request, tx):
    with tx.accept(media=[AUDIO]) as call:
        call.wait(1.5)


def reliable(request, tx):
    tx.respond(100)
    tx.respond(183, media=[AUDIO], reliable=True)
    tx.wait(1)
    with tx.accept() as call:
        call.wait()


def rings(request, tx):
    tx.respond(100)
    tx.respond(180)
    tx.wait(3)
    with tx.accept(media=[AUDIO]) as call:
        call.wait()


def previews(request, tx):
    tx.respond(100)
    tx.respond(183, media=[AUDIO])
    tx.wait(3)
    with tx.accept() as call:
        call.wait()


def follows(request, tx):
    """Answer, and accept each transfer."""
    with tx.accept(media=[AUDIO]) as call:
        for event in call.events():
            if event.referral is not None:
                event.referral.accept()
                event.referral.finish(200)


def stack_of(core):
    stack = Stack(timers=SHORT)
    stack.on("INVITE")(core)
    return stack


def repeats(request, tx):
    """Answer a re-INVITE or an UPDATE with its own description, after 100."""
    if request.method == "INVITE":
        tx.respond(100)
        tx.wait(0.3)
    body = request.body or tx.call.local_body
    return request.response(200, body=body, content_type="application/sdp" if body else None)


def echoes(request, tx):
    """Answer any offer with itself, after 100 and 180, and tell the user part of the called URI."""
    tx.respond(100)
    tx.respond(180)
    tx.call.on_reinvite = repeats
    options = {"body": request.body} if request.body else {"media": [AUDIO]}
    if request.body:
        options["content_type"] = "application/sdp"
    with tx.accept(x_color=request.uri.user, **options) as call:
        for _ in call.events():
            pass


def guarded(request, tx):
    """Ask for a password, answer, and wait for the BYE."""
    tx.authenticate(OFFICE)
    SERVING["answers"](request, tx)


def guarded_hangs_up(request, tx):
    tx.authenticate(OFFICE)
    SERVING["hangs_up"](request, tx)


def hangs_up_after_a_ring(request, tx):
    """Answer after 100 and a 183 without description, for callers that insist on them."""
    tx.respond(100)
    tx.respond(183)
    SERVING["hangs_up"](request, tx)


def changing(method):
    """Return a core that answers, changes nothing by this method of its call, and hangs up."""

    def core(request, tx):
        with tx.accept(media=[AUDIO]) as call:
            call.wait(0.3)
            try:
                getattr(call, method)()
            except Reject:
                pass  # some scenarios refuse it
            call.wait(0.3)

    return core


SERVING = {
    core.__name__: core
    for core in (
        answers,
        follows,
        hangs_up,
        reliable,
        rings,
        previews,
        echoes,
    )
} | {
    f"refuses{status}": (lambda request, tx, status=status: status)
    for status in (302, 404, 480, 486, 503, 603)
}
SERVING |= {
    "hangs_up_after_a_ring": hangs_up_after_a_ring,
    "guarded": guarded,
    "guarded_hangs_up": guarded_hangs_up,
    "refreshes": changing("reinvite"),
    "updates": changing("update"),
}
globals().update({name: stack_of(core) for name, core in SERVING.items()})  # for `sippet serve`
never_acknowledged = Stack(timers=Timers(t1=0.05, t2=0.4))
never_acknowledged.on("INVITE")(SERVING["answers"])
messages = Stack(timers=SHORT)
subscriptions = Stack(timers=SHORT)


@messages.on("MESSAGE")
def message(request, tx):
    return 200


accepts_messages = Stack(timers=SHORT)
accepts_messages.on("MESSAGE")(lambda request, tx: 202)


def registrar_of(**limits):
    """Return a function that serves REGISTER with a registrar of its own."""
    return Registrar(Location(), **limits)


registers = Stack(timers=SHORT)
registers.on("REGISTER")(registrar_of())
registers_none = Stack(timers=SHORT)
registers_none.on("REGISTER")(registrar_of())  # nobody else has registered there
guards_registers = Stack(timers=SHORT)
GUARDED = registrar_of()


@guards_registers.on("REGISTER")
def guarded_register(request, tx):
    tx.authenticate(OFFICE)
    return GUARDED(request, tx)


@subscriptions.on("SUBSCRIBE")
def subscription(request, tx):
    events = ("presence", "message-summary", "dialog", "reg")
    with tx.accept_subscription(*events, body="state", content_type="text/plain") as notifier:
        while not notifier.wait(60):
            notifier.notify()


def stays(seconds):
    return lambda placed: placed.wait(seconds)


def changes(method, seconds):
    """Return what a caller does that changes the session, and stays for some seconds."""

    def change(placed):
        placed.wait(0.3)
        try:
            getattr(placed, method)(**({"media": [AUDIO]} if method == "update" else {}))
        except SIPError as error:
            print("refused within the call", error.status)
        placed.wait(seconds)

    return change


WAYS = {
    # how a scenario is called: arguments of invite(), and what the caller does in the call
    "hangs": ({}, stays(1.0)),
    "asks": ({"media": None}, stays(1.0)),
    "cancels": ({"timeout": 1.0}, stays(1.0)),
    "knows": ({"credentials": Credentials("bob", "secret")}, stays(1.0)),
    "stays": ({}, stays(4.0)),  # sees four copies of a 200
    "lingers": ({}, stays(8.0)),
    "waits": ({}, stays(None)),
    "is patient": ({"timers": Timers()}, stays(1.0)),
    "reinvites": ({}, changes("reinvite", 1.0)),
    "updates and lingers": ({}, changes("update", 8.0)),
}


def place(stack, uri, way):
    """Place a call, and print how it ends."""
    options, act = WAYS[way]
    options = {"media": [AUDIO], "x_custom": "custom header value", **options}
    placed = stack.invite(uri, **options)
    if placed.offer is not None:
        placed.answer(media=[AUDIO])
    act(placed)
    placed.hangup()
    stack.clock.sleep(0.5)
    print("call", placed.end)


def register(stack, uri):
    """Register five times, with a password if the peer asks for it, until nothing answers."""
    for _ in range(5):
        response = stack.request(
            "REGISTER", uri, contact="<sip:bob@127.0.0.1:5999>", expires=600,
            credentials=Credentials("bob", "secret"), timeout=2.0,
        )  # fmt: skip
        print("registered", response.status)


def subscribe(stack, uri):
    """Subscribe to presence and to a mailbox, until the peer says something final."""
    for event in ("presence", "message-summary"):
        with stack.subscribe(uri, event=event, expires=60) as subscription:
            for notify in subscription.notifies(7):  # scenarios pause for 4 s
                print("notified", notify.event.value)
            print("subscription", subscription.state)


def send_message(stack, uri):
    print("answered", stack.request("MESSAGE", uri, body="hello", content_type="text/plain").status)


def notify(stack, uri):
    """Tell the state of a mailbox without a subscription."""
    summary = "Messages-Waiting: yes\r\nVoice-Message: 1/0 (0/0)\r\n"
    response = stack.request(
        "NOTIFY", uri, body=summary, event="message-summary", subscription_state="terminated",
        contact="<sip:us@127.0.0.1>", content_type="application/simple-message-summary",
    )  # fmt: skip
    print("answered", response.status)


OUTSIDE = {
    "registers": register,
    "subscribes": subscribe,
    "sends a message": send_message,
    "notifies": notify,
    "asks for options": lambda stack, uri: print("answered", stack.request("OPTIONS", uri).status),
}
"""How a scenario gets requests outside of calls."""


def call(uri, way):
    """Call a scenario, and print what has come of it."""
    stack = Stack(timers=SHORT)
    stack.listen("udp:127.0.0.1:0")
    with stack:
        try:
            if way in OUTSIDE:
                OUTSIDE[way](stack, uri)
            else:
                place(stack, uri, way)
        except (Reject, Cancelled, ParseError, TransactionTimeout) as error:
            print("refused", error.status, error)
            stack.clock.sleep(1.0)  # the 487 of a CANCEL


if __name__ == "__main__":
    call(*sys.argv[1:])
