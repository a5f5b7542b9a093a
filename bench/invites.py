"""The two INVITEs of the parse bench: 453 bytes as a phone sends it, 1100 bytes as it arrives
behind two proxies."""

import re

SMALL = b"""\
INVITE sip:bob@biloxi.example.com SIP/2.0
Via: SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK74b43;rport
Max-Forwards: 70
From: Alice <sip:alice@atlanta.example.com>;tag=9fxced76sl
To: Bob <sip:bob@biloxi.example.com>
Call-ID: 3848276298220188511@192.0.2.101
CSeq: 1 INVITE
Contact: <sip:alice@192.0.2.101>
Supported: replaces, timer
Allow: INVITE, ACK, CANCEL, BYE
Accept: application/sdp
User-Agent: Example Phone/1.0.12
Content-Length: 0

""".replace(b"\n", b"\r\n")

BODY = b"""\
v=0
o=alice 2890844526 2890844526 IN IP4 192.0.2.101
s=-
c=IN IP4 192.0.2.101
t=0 0
m=audio 49172 RTP/AVP 0 8 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=ptime:20
a=sendrecv
""".replace(b"\n", b"\r\n")

LARGE = (
    b"""\
INVITE sip:bob@198.51.100.7:5060;transport=udp SIP/2.0
Via: SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK2d479.1
Via: SIP/2.0/UDP 192.0.2.20;branch=z9hG4bK77ef4c2312983.1;received=192.0.2.20
Via: SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK74bf9;received=192.0.2.101;rport=5060
Record-Route: <sip:ss2.biloxi.example.com;lr>
Record-Route: <sip:ss1.atlanta.example.com;lr;ftag=9fxced76sl>
Max-Forwards: 68
From: "Alice" <sip:alice@atlanta.example.com>;tag=9fxced76sl
To: "Bob" <sip:bob@biloxi.example.com>
Call-ID: 2xTb9vxSit55XU7p8@192.0.2.101
CSeq: 314159 INVITE
Contact: <sip:alice@192.0.2.101:5060;transport=udp>
Supported: replaces, timer, 100rel
Session-Expires: 1800;refresher=uac
Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE
User-Agent: Example Phone/1.0
P-Asserted-Identity: <sip:alice@atlanta.example.com>
Content-Type: application/sdp
Content-Length: %d

""".replace(b"\n", b"\r\n")
    % len(BODY)
    + BODY
)

# The parts that differ in each request: branches, the From tag, the Call-ID up to its host.
_FRESH = re.compile(
    rb"(?<=;branch=z9hG4bK)[0-9a-f]+|(?<=;tag=)[0-9a-z]+|(?<=Call-ID: )[0-9A-Za-z]+"
)


def fresh(data, number):
    """Return the message with new identifiers of the same length, so that no cache has it."""

    def replace(found):
        old = found.group()
        return b"%0*x" % (len(old), number * 0x9E3779B1 % 16 ** min(len(old), 8))

    return _FRESH.sub(replace, data)
