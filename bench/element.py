"""Our server for units.py: answers OPTIONS and calls, forwards calls to one target, or keeps
registrations."""

import argparse

from collecting import collect_as_served

from sippet_gevent import Location, Registrar, Stack, forward

SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 6002 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
)


def answer_options(stack, _target):
    stack.on("OPTIONS")(lambda request, tx: 200)


def answer_calls(stack, _target):
    @stack.on("INVITE")
    def invite(request, tx):
        tx.respond(180)
        with tx.accept(body=SDP, content_type="application/sdp") as call:
            call.wait()


def forward_calls(stack, target):
    target = f"sip:bob@127.0.0.1:{target}"

    @stack.on()
    def route(request, tx):
        if tx.take_route() and not stack.is_local(request.uri):
            return forward(request, tx)
        if request.method == "ACK" or request.to.tag is not None:
            return 481
        return forward(request, tx, target, record_route=True)


def keep_registrations(stack, _target):
    stack.on("REGISTER")(Registrar(Location()))


UNITS = {
    "options": answer_options,
    "call": answer_calls,
    "proxied": forward_calls,
    "register": keep_registrations,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("unit", choices=UNITS)
    parser.add_argument("port", type=int, help="port on 127.0.0.1")
    parser.add_argument("target", type=int, nargs="?", help="port of the callee, for proxied")
    options = parser.parse_args()
    stack = Stack(f"udp:127.0.0.1:{options.port}")
    UNITS[options.unit](stack, options.target)
    stack.start()
    collect_as_served()
    print("element ready", flush=True)
    stack.serve_forever()


if __name__ == "__main__":
    main()
