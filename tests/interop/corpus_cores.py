"""What serves and calls the SIPp scenarios of the shared corpus: a stack for each way of answering, and `python corpus_cores.py URI WAY` to call."""

from __future__ import annotations

import os
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
    bridge,
    register_header,
    sdp,
)

register_header("x_color", "X-Color")
register_header("x_custom", "X-Custom")
register_header("x_custom_header", "X-Custom-Header")
register_header("x_data", "X-Data")

SHORT = Timers(b=4.0, c=10.0, d=1.0, i=0.5, j=1.0, k=0.5, l=1.0, m=1.0)
AUDIO = sdp.MediaStream("audio", 40000, (sdp.PCMU, sdp.PCMA, sdp.G729, sdp.TELEPHONE_EVENT))

DOOR = {
    "realm": "asterisk",
    "users": {"alice": "swordfish", "bob": "secret"},
    "algorithms": ("MD5",),  # SIPp knows no other that the users have
    "owns": lambda username, uri: True,  # scenarios call with one name and another's password
}
OFFICE = Authenticator(**DOOR)
GATEWAY = Authenticator(proxy=True, **DOOR)


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


def refusing(status, *provisional):
    """Return a core that refuses by this status, after these provisional responses."""

    def core(request, tx):
        for each in provisional:
            tx.respond(each)
        return status

    return core


def no_common_codec(request, tx):
    """Offer and accept nothing but G.722, which no scenario for this core has."""
    with tx.accept(media=[sdp.MediaStream("audio", 40000, (sdp.G722,))]) as call:
        call.wait()


def with_lines(response, name, *values):
    """Add header lines, one for each value, for scenarios that count lines."""
    for value in values:
        response.headers.add(name, value)
    return response


def redirects(request, tx):
    """Redirect to the users that two dial plans name."""
    targets = "<sip:bob@127.0.0.1:5062>", "<sip:asterisk@127.0.0.1:5063>"
    return with_lines(request.response(302), "Contact", *targets)


def diverting(*history):
    """Return a core that tells by a 181 that the call goes on to another user, and answers."""

    def core(request, tx):
        tx.respond(with_lines(request.response(181), "History-Info", *history))
        SERVING["answers"](request, tx)

    return core


POTATOES = "Num-Potatoes: 23\r\nPotato-Quality: fair\r\n"

NOTIFIED = {
    # the user that a scenario calls, and the NOTIFY that it wants within the call
    "1212": {"event": "Test", "x_data": "Fun"},
    "2323": {"event": "Test", "x_data": "Fun", "body": POTATOES, "content_type": "text/plain"},
    "4545": {"event": "PotatoReport", "body": POTATOES, "content_type": "text/plain"},
}


def notifies_within(request, tx):
    """Answer, and send a NOTIFY within the call that nobody has subscribed to."""
    with tx.accept(media=[AUDIO]) as call:
        call.wait(0.3)
        call.request("NOTIFY", subscription_state="terminated", **NOTIFIED[request.uri.user])
        call.wait()


def dials(request, tx):
    """Answer without telephone-event, and send a digit by INFO."""
    with tx.accept(media=[sdp.MediaStream("audio", 40000, (sdp.PCMU,))]) as call:
        call.wait(0.3)
        call.request(
            "INFO", body="Signal=4\r\nDuration=160\r\n", content_type="application/dtmf-relay"
        )
        call.wait()


def begins_a_transfer(request, tx):
    """Answer, and accept a transfer whose outcome stays open."""
    with tx.accept(media=[AUDIO]) as call:
        for event in call.events():
            if event.referral is not None:
                event.referral.accept()


def bridges(request, tx):
    """Connect the caller with the phone that the test has started."""
    bridge(request, tx, os.environ["CALLEE"])


def changing(method, seconds=0.3):
    """Return a core that answers, changes nothing by this method of its call, and hangs up after
    some seconds."""

    def core(request, tx):
        with tx.accept(media=[AUDIO]) as call:
            call.wait(0.3)
            try:
                getattr(call, method)()
            except Reject:
                pass  # some scenarios refuse it
            call.wait(seconds)

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
        no_common_codec,
        redirects,
        notifies_within,
        dials,
        begins_a_transfer,
        bridges,
    )
} | {f"refuses{status}": refusing(status) for status in (404, 480, 486, 503, 603)}
SERVING |= {f"refuses{status}_after_183": refusing(status, 100, 183) for status in (437, 603)}
SERVING |= {
    "hangs_up_after_a_ring": hangs_up_after_a_ring,
    "guarded": guarded,
    "guarded_hangs_up": guarded_hangs_up,
    "refreshes": changing("reinvite"),
    "updates": changing("update"),
    "refreshes_and_stays": changing("reinvite", 8.0),
    "updates_and_stays": changing("update", 8.0),
    "diverts": diverting("<sip:user2@127.0.0.1>;index=1", "<sip:amenhotep@127.0.0.1>;index=1.1"),
    "diverts_quietly": diverting("<sip:user2@127.0.0.1>;index=1"),
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


short_bindings = Stack(timers=SHORT)  # a registrar, and what it calls
short_bindings.on("REGISTER")(registrar_of(min_expires=1, default_expires=30, max_expires=3600))
short_bindings.on("INVITE")(
    lambda request, tx: SERVING["hangs_up" if request.uri.user == "s" else "answers"](request, tx)
)
guards_short_bindings = Stack(timers=SHORT)
SHORT_GUARDED = registrar_of(min_expires=1, default_expires=30, max_expires=3600)


@guards_short_bindings.on("REGISTER")
def guarded_short_register(request, tx):
    tx.authenticate(OFFICE)
    return SHORT_GUARDED(request, tx)


short_longest = Stack(timers=SHORT)
short_longest.on("REGISTER")(registrar_of(min_expires=1, default_expires=60, max_expires=60))
makes_room = Stack(timers=SHORT)
makes_room.on("REGISTER")(registrar_of(max_contacts=3, makes_room=True))
one_contact = Stack(timers=SHORT)
one_contact.on("REGISTER")(registrar_of(min_expires=1, max_contacts=1))
refuses_registers = Stack(timers=SHORT)
refuses_registers.on("REGISTER")(refusing(403))
takes_notifies = Stack(timers=SHORT)
takes_notifies.on("NOTIFY")(refusing(200))
refuses_notifies = Stack(timers=SHORT)
refuses_notifies.on("NOTIFY")(refusing(404))
refuses_subscriptions = Stack(timers=SHORT)


@refuses_subscriptions.on("SUBSCRIBE")
def refuse_subscription(request, tx):
    """Refuse as the dial plans of scenarios do."""
    if request.expires == 2000:
        return request.response(423, min_expires=3000)
    if "eventlist" in request.supported or request.uri.user == "list":
        return 404  # a list that does not exist (RFC 4662)
    return 603 if request.event.value == "presence" else 500


guards_subscriptions = Stack(timers=SHORT)


@guards_subscriptions.on("SUBSCRIBE")
def guarded_subscription(request, tx):
    tx.authenticate(GATEWAY)
    return subscription(request, tx)


states = Stack(timers=SHORT)


def pidf(note, basic):
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<presence xmlns="urn:ietf:params:xml:ns:pidf" '
        f'entity="sip:bob@127.0.0.1"><note>{note}</note><tuple id="bob"><status><basic>{basic}'
        "</basic></status></tuple></presence>\n"
    )


def mailbox(voice):
    waiting = "no" if voice.startswith("0/") else "yes"
    return f"Messages-Waiting: {waiting}\r\nVoice-Message: {voice} (0/0)\r\n"


STATES = {
    # the event, its user, and the states that a scenario waits for, one NOTIFY for each
    ("message-summary", None): [mailbox("2/0")],
    ("message-summary", "alice"): [mailbox("1/0")],
    ("presence", "alice"): [pidf("Unavailable", "closed"), pidf("On the phone", "open")],
    ("presence", "presence"): [pidf("Ready", "open")] * 4,
    ("presence", "bob"): [
        pidf("Ready", "open"),
        pidf("On the phone", "open"),
        pidf("On hold", "open"),
        pidf("On the phone", "open"),
        pidf("Ringing", "open"),
        pidf("Unavailable", "closed"),
        pidf("Ready", "open"),
    ],
}


@states.on("SUBSCRIBE")
def tell_states(request, tx):
    """Tell each state of a resource, one after the other."""
    bodies = STATES[request.event.value, request.uri.user]
    told = list(bodies)
    with tx.accept_subscription("presence", "message-summary", body=lambda: told[0]) as notifier:
        while len(told) > 1 and not notifier.wait(0.3):
            told.pop(0)
            notifier.notify()
        notifier.wait()


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


def reinvites(times, seconds=0.3):
    """Return what a caller does that offers the same so often, and hangs up some seconds later."""

    def reinvite(placed):
        for _ in range(times):
            placed.wait(0.3)
            placed.reinvite()
        placed.wait(seconds)

    return reinvite


def answers_slowly(placed):
    """Answer a re-INVITE after 100."""
    placed.on_reinvite = repeats
    placed.wait()


def reinvites_late(placed):
    """Offer the same when the peer has changed the session."""
    placed.wait(3.0)
    placed.reinvite()
    placed.wait(5.0)


def follows_back(placed):
    """Accept each transfer of the callee, until it hangs up, or is gone."""
    for event in placed.events(timeout=8.0):
        if event.referral is not None:
            event.referral.accept()
            event.referral.finish(200)


def declines(placed):
    """Refuse each transfer of the callee, until it hangs up."""
    for event in placed.events():
        if event.referral is not None:
            event.referral.refuse(603)


REFERRED = {"from_": "<sip:bob@127.0.0.1>", "referred_by": "<sip:alice@127.0.0.2:5060>"}
CALLEE_REFERRED = {"from_": "<sip:alice@127.0.0.1>", "referred_by": "<sip:bob@127.0.0.3:5060>"}

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
    "reinvites twice": ({}, reinvites(2)),
    "reinvites once": ({}, reinvites(1)),
    "reinvites thrice": ({}, reinvites(3, 8.0)),
    "answers slowly": ({}, answers_slowly),
    "reinvites late": ({}, reinvites_late),
    "follows": ({}, follows_back),
    "declines": ({}, declines),
    "calls foo": ({"user": "foo"}, stays(None)),
    "is banana": ({"from_": "<sip:banana@127.0.0.1>"}, stays(None)),
    "is referred": (REFERRED, stays(None)),
    "is referred by the callee": (CALLEE_REFERRED, stays(None)),
    "is referred from abroad": (
        REFERRED | {"referred_by": "<sip:alice;phone-context=national@127.0.0.2:5060>"},
        stays(None),
    ),
}


def place(stack, uri, way):
    """Place a call, and print how it ends."""
    options, act = WAYS[way]
    options = {"media": [AUDIO], "x_custom": "custom header value", **options}
    uri = uri.replace("bob@", options.pop("user", "bob") + "@")
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


def register_for_long(stack, uri):
    """Register with an account, until it is registered, and remove the binding."""
    host = uri.partition("@")[2]
    with stack.register(
        f"sip:alice@{host}", credentials=Credentials("alice", "swordfish"), expires=10
    ) as account:
        account.wait(10)
        print("registered", account.registered)


def register_and_answer(stack, uri):
    """Register with an account, and answer the call that comes by its Contact."""
    ended = []

    @stack.on("INVITE")
    def core(request, tx):
        with tx.accept(media=[AUDIO]) as call:
            call.wait()
        ended.append(call.end)

    host = uri.partition("@")[2]
    with stack.register(f"sip:alice@{host}"):
        stack.clock.sleep(4.0)
    print("called", ended)


def register_and_call(stack, uri):
    """Register once, and place a call to the same server."""
    print("registered", stack.request("REGISTER", uri, contact="<sip:bob@127.0.0.1:5999>").status)
    place(stack, uri, "hangs")


def subscribe(stack, uri, events=("presence", "message-summary")):
    """Subscribe to presence and to a mailbox, until the peer says something final."""
    for event in events:
        with stack.subscribe(uri, event=event, expires=60) as subscription:
            for notify in subscription.notifies(7):  # scenarios pause for 4 s
                print("notified", notify.event.value)
            print("subscription", subscription.state)


def ask_for_options(stack, uri):
    credentials = Credentials("optuser", "optpasswd")
    print("answered", stack.request("OPTIONS", uri, credentials=credentials).status)


def send_custom(stack, uri):
    response = stack.request(
        "MESSAGE", uri, body="hello", content_type="text/plain", x_custom_header="Customized"
    )
    print("answered", response.status)


def send_message(stack, uri):
    print("answered", stack.request("MESSAGE", uri, body="hello", content_type="text/plain").status)


def notifies(voice):
    """Return what tells the state of a mailbox without a subscription."""

    def notify(stack, uri):
        response = stack.request(
            "NOTIFY", uri, body=mailbox(voice), event="message-summary",
            subscription_state="terminated", contact="<sip:us@127.0.0.1>",
            content_type="application/simple-message-summary",
        )  # fmt: skip
        print("answered", response.status)

    return notify


def notify_fun(stack, uri):
    """Send a NOTIFY of an event that has no subscription."""
    response = stack.request(
        "NOTIFY", uri, event="Test", x_data="Fun", subscription_state="terminated",
        contact="<sip:us@127.0.0.1>",
    )  # fmt: skip
    print("answered", response.status)


OUTSIDE = {
    "registers": register,
    "subscribes": subscribe,
    "subscribes to a mailbox": lambda stack, uri: subscribe(stack, uri, ("message-summary",)),
    "sends a message": send_message,
    "sends a custom header": send_custom,
    "registers for long": register_for_long,
    "registers and answers": register_and_answer,
    "registers and calls": register_and_call,
    "notifies": notifies("1/0"),
    "notifies 2 and 0": notifies("2/0"),
    "notifies 1 and 1": notifies("1/1"),
    "notifies 0 and 2": notifies("0/2"),
    "notifies 0 and 0": notifies("0/0"),
    "notifies 3 and 3": notifies("3/3"),
    "notifies fun": notify_fun,
    "asks for options with a password": ask_for_options,
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
