"""A soft phone without sound: the keyboard tells it to answer, call, hold and transfer.

    python examples/softphone.py                  or  sippet serve examples/softphone.py:stack

Write a command and press Enter: call URI, answer, reject, hold, resume, digits 12#, transfer URI,
hangup, quit. A second call holds the first one, and transfer without URI connects their peers.

LISTEN=udp:192.0.2.7:5060 is where it listens. REGISTER=sip:alice@192.0.2.1 registers there, with
PASSWORD. ANSWER=2 answers each call after two seconds, as a phone without a keyboard does.
"""

import os
import sys

import gevent
from gevent.event import AsyncResult

from sippet_gevent import URI, Cancelled, Credentials, SIPError, Stack, sdp

AUDIO = sdp.MediaStream("audio", 40000, (sdp.PCMU, sdp.PCMA, sdp.TELEPHONE_EVENT))
RINGING = 60  # seconds
ANSWER = float(os.environ.get("ANSWER", "0"))


class Phone:
    """The calls of one user, as the keyboard and the network change them."""

    def __init__(self, stack, say=print):
        self.stack, self.say = stack, say
        self.calls = []  # the last one is the one that we talk to
        self.incoming = None  # an AsyncResult for the user's decision
        self.placing = None  # the greenlet of a call that is not answered yet
        self.registration = None
        stack.on("INVITE")(self.ring)

    def ring(self, request, tx):
        if self.incoming is not None or self.placing is not None or len(self.calls) > 1:
            return 486
        decision = self.incoming = AsyncResult()
        try:
            tx.respond(180)
            self.say(f"{request.from_.uri} calls: answer or reject")
            if not tx.wait(ANSWER or RINGING, until=decision) and not ANSWER:
                return 480
        except Cancelled:
            self.say("the caller has given up")
            raise
        finally:
            self.incoming = None
        if decision.ready() and not decision.get():
            return 486
        with tx.accept(media=[AUDIO]) as call:
            self.talk(call)

    def place(self, uri):
        try:
            with self.stack.invite(uri, media=[AUDIO], on_provisional=self.progress) as call:
                self.placing = None
                self.talk(call)
        except SIPError as error:
            self.say(f"not connected: {error}")
        finally:
            if self.placing is gevent.getcurrent():  # and not a second call
                self.placing = None

    def progress(self, response):
        self.say(f"{response.status} {response.reason}")

    def talk(self, call):
        """Print what the peer does, until the call ends."""
        self.calls.append(call)
        self.say(f"connected to {call.dialog.remote.uri}")
        try:
            for event in call.events():
                if event.referral is not None:
                    event.referral.accept()
                    gevent.spawn(self.follow, event.referral)
                elif event.kind in ("hold", "resume", "digit"):
                    self.say(f"the peer: {event.kind} {event.digit}".rstrip())
            self.say(f"ended: {call.end}")
        finally:
            self.calls.remove(call)

    def follow(self, referral):
        """Call the target of a transfer. The peer hangs up when it hears that this worked."""
        self.say(f"transferred to {referral.uri}")
        try:
            with referral.follow(media=[AUDIO], timeout=RINGING) as call:
                self.talk(call)
        except SIPError as error:
            self.say(f"not transferred: {error}")

    def do(self, line):
        """Carry out a command. If the peer refuses it, print that. The call goes on."""
        command, _, argument = line.strip().partition(" ")
        try:
            getattr(self, f"do_{command}", self.unknown)(argument.strip())
        except SIPError as error:
            self.say(f"{command}: {error}")

    def unknown(self, argument):
        self.say(__doc__.split("\n\n")[2])  # the commands

    def do_call(self, uri):
        if self.placing is not None or len(self.calls) > 1:
            return self.say("two calls are enough")
        if self.calls and not self.calls[-1].is_held:
            self.calls[-1].hold()
        self.placing = gevent.spawn(self.place, uri)

    def do_answer(self, _):
        if self.incoming is None:
            return self.say("nobody calls")
        if self.calls and not self.calls[-1].is_held:
            self.calls[-1].hold()
        if self.incoming is not None:  # the caller may have given up meanwhile
            self.incoming.set(True)

    def do_reject(self, _):
        if self.incoming is not None:
            self.incoming.set(False)

    def do_hangup(self, _):
        if self.placing is not None:
            self.placing.kill()  # leaving invite() sends the CANCEL
        elif self.calls:
            self.calls[-1].hangup()

    def do_hold(self, _):
        self.current().hold()

    def do_resume(self, _):
        self.current().resume()

    def do_digits(self, digits):
        self.current().send_digits(digits)

    def do_transfer(self, uri):
        call = self.current()
        if not uri and len(self.calls) < 2:
            return self.say("write transfer URI, or call somebody first")
        gevent.spawn(self.transfer, call, uri or self.calls[0])  # hangup may be written meanwhile

    def transfer(self, call, target):
        try:
            call.transfer(target, timeout=RINGING)
            self.say("transferred")
            call.hangup()
        except SIPError as error:
            self.say(f"transfer: {error}")

    def do_quit(self, _):
        self.do_reject(_)
        for call in list(self.calls):
            call.hangup()
        if self.placing is not None:
            self.placing.kill()
        if self.registration is not None:
            self.registration.close()
        self.stack.stop(timeout=2)  # until the last responses are there

    def current(self):
        if not self.calls:
            raise NoCall("there is no call")
        return self.calls[-1]


class NoCall(SIPError):
    """A command that needs a call."""


def keyboard(phone):
    """Carry out each line of the input as a command, until the input ends."""
    while line := gevent.get_hub().threadpool.apply(sys.stdin.readline):
        phone.do(line)


def register(phone, user):
    """Keep a user registered at the host of its URI, until the phone quits."""
    uri = URI.parse(user)
    password = os.environ.get("PASSWORD")
    mine = Credentials(uri.user, password, hosts=(uri.host,)) if password else None
    phone.registration = phone.stack.register(uri, credentials=mine, on_change=tell)


def tell(registration):
    if registration.registered:
        print("registered: 200 OK")
    elif not registration.ended:
        print(f"not registered: {registration.error}")


stack = Stack(os.environ.get("LISTEN", "udp:127.0.0.1:5062"))
phone = Phone(stack)

if __name__ == "__main__":
    gevent.spawn(keyboard, phone)
    if "REGISTER" in os.environ:
        gevent.spawn(register, phone, os.environ["REGISTER"])
    stack.run()
