"""Callers that leave at a point of a call: `scenario("in hold")` returns a scenario of SIPp.

SIPp cannot send a CANCEL before it has read a response, so `give_up_at_once()` has a socket of its own.
"""

from __future__ import annotations

import socket
from xml.sax.saxutils import quoteattr

POINTS = (
    "at 180",
    "before ACK",
    "behind ACK",
    "in the call",
    "in hold",
    "in a transfer",
)
"""Where the caller leaves, by CANCEL or by BYE."""

OFFER = """
      v=0
      o=alice 1 {version} IN IP4 [local_ip]
      s=-
      c=IN IP4 [local_ip]
      t=0 0
      m=audio 4000 RTP/AVP 0
      a={direction}"""

DIGIT = """
      Signal=1
      Duration=160"""

RINGING = (
    '<recv response="100" optional="true"/>\n'
    '<recv response="180" optional="true"/>\n'
    '<recv response="183" optional="true"/>\n'
)


def send(method, number, *, within=False, fields="", kind="", body="", repeated=True):
    """Return a request of the caller."""
    first = method in ("INVITE", "CANCEL") and not within
    uri = "[next_url]" if within else "sip:[service]@[remote_ip]:[remote_port]"
    branch = "z9hG4bKfirst-[call_id]" if first else "[branch]"
    routes = "      [routes]\n" if within else ""
    if kind:
        fields += f"Content-Type: {kind}\n      "
    return f"""<send{' retrans="500"' if repeated else ""}><![CDATA[
      {method} {uri} SIP/2.0
      Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch};rport
{routes}      Max-Forwards: 70
      From: <sip:alice@[remote_ip]:[remote_port]>;tag=[pid]a[call_number]
      To: <sip:[service]@[remote_ip]:[remote_port]>{"[peer_tag_param]" if within else ""}
      Call-ID: [call_id]
      CSeq: {number} {method}
      Contact: <sip:alice@[local_ip]:[local_port]>
      {fields}Content-Length: [len]
{body}
    ]]></send>
"""


def invite(number=1, direction="sendrecv", *, within=False):
    body = OFFER.format(version=number, direction=direction)
    return send("INVITE", number, within=within, kind="application/sdp", body=body)


def ack(number=1, *, within=True):
    if within:
        return send("ACK", number, within=True, repeated=False)
    # of a refusal: it belongs to the INVITE's transaction (RFC 3261 §17.1.1.3)
    return (
        send("ACK", number, within=True, repeated=False)
        .replace("[branch]", "z9hG4bKfirst-[call_id]")
        .replace("ACK [next_url]", "ACK sip:[service]@[remote_ip]:[remote_port]")
    )


def ok(fields=""):
    """Return the 200 to the last request."""
    return f"""<send><![CDATA[
      SIP/2.0 {fields or "200 OK"}
      [last_Via:]
      [last_From:]
      [last_To:]
      [last_Call-ID:]
      [last_CSeq:]
      Contact: <sip:alice@[local_ip]:[local_port]>
      Content-Length: 0

    ]]></send>
"""


REFUSED = '<recv response="503" optional="true" next="6"/>\n'
"""On a busy machine the server refuses some calls, and the caller leaves these at once."""

ANSWERED = RINGING + '<recv response="200" rrs="true"/>\n'


def bye(number):
    return send("BYE", number, within=True) + '<recv response="200"/>\n'


CANCELLED = (
    send("CANCEL", 1)
    + RINGING
    + """<recv response="200" next="8" test="answered">
  <action><ereg regexp="INVITE" search_in="hdr" header="CSeq:" assign_to="answered"/></action>
</recv>
"""
    + RINGING
    + '<recv response="200" optional="true" rrs="true" next="10"/>\n'
    + '<recv response="487"/>\n'
    + ack(within=False).replace("<send", '<send next="7"', 1)
    # a proxy has answered the CANCEL, and the callee has answered the INVITE before it came (§9.1)
    + '<label id="10"/>\n'
    + ack()
    + bye(2).replace("<recv", '<recv next="7"')
    # the CANCEL has crossed the 200 to the INVITE: it has no effect, and its own 200 follows
    # (RFC 3261 §9.1, §9.2)
    + '<label id="8"/>\n'
    + ack()
    + '<recv response="200"/>\n'
    + bye(2)
    + '<label id="7"/>\n'
)


NOTIFY = (
    send(
        "NOTIFY",
        4,
        within=True,
        fields="Event: refer\n      Subscription-State: terminated;reason=noresource\n      ",
        kind="message/sipfrag",
        body="\n      SIP/2.0 200 OK",
    )
    + '<recv response="200"/>\n'
)
"""The subscription of a REFER outlives the call (RFC 5057 §4.2)."""


def pause(milliseconds):
    return f'<pause milliseconds="{milliseconds}"/>\n'


def scenario(point, *, transfers=""):
    """Return the scenario of a caller that leaves at a point.

    Args:
        point: One of POINTS.
        transfers: The target of the caller's REFER. Without one, the caller sends the digit 1, and the peer sends the REFER.
    """
    steps = {
        "at 180": lambda: (
            invite()
            + REFUSED
            + '<recv response="100" optional="true"/>\n<recv response="180" rrs="true"/>\n'
            + CANCELLED
        ),
        # the peer hears the BYE first, and its 200 is repeated no more
        "before ACK": lambda: invite() + REFUSED + ANSWERED + bye(2) + ack(),
        "behind ACK": lambda: invite() + REFUSED + ANSWERED + ack() + bye(2),
        "in the call": lambda: invite() + REFUSED + ANSWERED + ack() + pause(300) + bye(2),
        "in hold": lambda: (
            invite() + REFUSED + ANSWERED + ack()
            + pause(200)
            + invite(2, "sendonly", within=True)
            + '<recv response="100" optional="true"/>\n<recv response="200"/>\n'
            + ack(2) + bye(3)
        ),
        "in a transfer": lambda: (
            invite() + REFUSED + ANSWERED + ack() + pause(200) + transfer(transfers) + bye(3)
            + ("" if transfers else NOTIFY)
        ),
    }  # fmt: skip
    text = steps[point]() + '<nop next="5"/>\n<label id="6"/>\n' + ack(within=False)
    text += '<label id="5"/>\n'
    return f'<?xml version="1.0" encoding="UTF-8" ?>\n<scenario name={quoteattr(point)}>\n{text}</scenario>\n'


def transfer(target):
    if not target:
        digit = send("INFO", 2, within=True, kind="application/dtmf-relay", body=DIGIT)
        return digit + '<recv response="200"/>\n<recv request="REFER"/>\n' + ok("202 Accepted")
    # the subscription of the REFER is not wanted (RFC 4488), because the caller leaves
    fields = f"Refer-To: <{target}>\n      Refer-Sub: false\n      Supported: norefersub\n      "
    return (
        send("REFER", 2, within=True, fields=fields)
        + '<recv response="100" optional="true"/>\n<recv response="202" optional="true" next="9"/>\n'
        + '<recv response="200"/>\n<label id="9"/>\n'
    )


AT_ONCE = """{method} sip:bob@127.0.0.1:{to} SIP/2.0\r
Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKonce{number}-{port}\r
Max-Forwards: 70\r
From: <sip:alice@127.0.0.1>;tag=once{number}\r
To: <sip:bob@127.0.0.1:{to}>{tag}\r
Call-ID: once{number}-{port}\r
CSeq: 1 {method}\r
Contact: <sip:alice@127.0.0.1:{port}>\r
Content-Length: 0\r
\r
"""


def give_up_at_once(to, calls):
    """Send INVITEs, each with its CANCEL right behind; both must be answered, 487 and 200.

    A server on a busy machine refuses some with 503, or drops them. It knows no INVITE then.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(("127.0.0.1", to))
        sock.settimeout(20)
        port = sock.getsockname()[1]
        for number in range(calls):
            fields = {"to": to, "port": port, "number": number, "tag": ""}
            for method in ("INVITE", "CANCEL"):
                sock.send(AT_ONCE.format(method=method, **fields).encode())
            got = set()
            while len(got) < 2 and got != {("CANCEL", 481)}:
                response = sock.recv(65536).decode()
                status = int(response.split()[1])
                if f"Call-ID: once{number}-" not in response or status < 200:
                    continue  # a repetition of a 487 that crossed its ACK
                method = response.partition("CSeq: 1 ")[2].split()[0]
                got.add((method, status))
                if method == "INVITE":
                    tag = (
                        ";tag=" + response.partition("\r\nTo: ")[2].partition(";tag=")[2].split()[0]
                    )
                    sock.send(AT_ONCE.format(method="ACK", **{**fields, "tag": tag}).encode())
            refused = ("INVITE", 503) in got or ("CANCEL", 481) in got
            assert refused or got == {("INVITE", 487), ("CANCEL", 200)}
