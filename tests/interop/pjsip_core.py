"""What `sippet serve` runs for test_pjsip_calls.py: a softphone's signalling, made of plain code. The user part says what it does with a call.

| user | |
|---|---|
| waits | rings, answers, and waits |
| early | early media by a reliable 183 |
| events | prints the events of the call, carries out transfers, says the digits back |
| holds | holds, resumes, changes the session by UPDATE |
| calls, asks | calls the phone back, with an offer and without |
| transfers, attends | transfers the phone to another one, blindly and after a call to it |
| anything else | is a phone that has registered |
"""

from __future__ import annotations

from sippet_gevent import URI, Location, Registrar, Reject, Stack, Timers, forward, sdp

stack = Stack(timers=Timers(d=1.0, i=0.5, j=1.0, k=0.5, l=1.0, m=1.0))
location = Location()
stack.on("REGISTER")(Registrar(location))

AUDIO = sdp.MediaStream("audio", 40000, (sdp.PCMU, sdp.PCMA, sdp.TELEPHONE_EVENT))


def tell(*words):
    print(*words, flush=True)


def phone(user):
    """Return the Contact of a phone."""
    return location.lookup(URI.parse(f"sip:{user}@localhost"))[0].uri


@stack.on("INVITE")
def invite(request, tx):
    serve = USERS.get(request.uri.user)
    if serve is not None:
        return serve(request, tx)
    targets = location.lookup(request.uri)
    return forward(request, tx, *targets, record_route=True) if targets else 404


def waits(request, tx):
    tx.respond(180)
    with tx.accept(media=[AUDIO]) as call:
        call.wait()
        tell("end", call.end)


def early(request, tx):
    tx.respond(183, media=[AUDIO], reliable=True)
    with tx.accept() as call:
        call.wait()


def events(request, tx):
    with tx.accept(media=[AUDIO]) as call:
        tell("reads events")
        for event in call.events():
            tell("event", event.kind, event.digit, event.end)
            if event.digit:
                call.send_digits(event.digit)
            if event.referral is not None:
                other = event.referral.follow(media=[AUDIO])
                tell("followed", other.invite.uri)
                call.wait()
                other.wait()
                other.hangup()


def holds(request, tx):
    with tx.accept(media=[AUDIO]) as call:
        call.wait(0.3)
        call.hold()
        call.wait(0.3)
        call.resume()
        call.wait(0.3)
        call.update(media=[AUDIO._replace(codecs=(sdp.PCMA,))])
        tell("updated")
        call.wait()


def places(**options):
    """Return a core that refuses the call and calls the phone back."""

    def core(request, tx):
        tx.respond(480)
        try:
            call = stack.invite(phone(request.from_.uri.user), **options)
        except Reject as refusal:
            tell("refused", refusal.status)
            return
        tell("placed", "100rel" in call.invite.supported)
        if call.offer is not None:
            call.answer(media=[AUDIO])
        call.wait()

    return core


def transfers(request, tx):
    with tx.accept(media=[AUDIO]) as call:
        call.wait(0.3)
        try:
            call.transfer(f"sip:bob@127.0.0.1:{request.flow.sent_by[1]}")
        except Reject as refusal:
            tell("refused", refusal.status)
        else:
            tell("transferred")


def attends(request, tx):
    with tx.accept(media=[AUDIO]) as call:
        consultation = stack.invite(phone("bob"), media=[AUDIO])
        consultation.hold()
        call.transfer(consultation)
        tell("transferred")
        consultation.wait()
        tell("consultation", consultation.end)


USERS = {
    "waits": waits,
    "early": early,
    "events": events,
    "holds": holds,
    "calls": places(media=[AUDIO]),
    "asks": places(),
    "asks100rel": places(
        on_offer=lambda offer, call: sdp.answer(offer, [AUDIO], address="127.0.0.1")
    ),
    "transfers": transfers,
    "attends": attends,
}


@stack.on()
def others(request, tx):
    if tx.take_route() and not stack.is_local(request.uri):
        return forward(request, tx)
    return 481
