"""SAMPLES: texts of header values, for types whose values the strategies do not build of parts."""

from __future__ import annotations

SAMPLES: dict[str, tuple[str, ...]] = {
    "Accept": ("*/*;q=0", "application/sdp;level=1"),
    "Accept-Contact": ("*;audio;require", '*;methods="BYE";class="business";q=1.0'),
    "Accept-Encoding": ("da", "en-gb;q=0.8"),
    "Accept-Resource-Priority": ("wps.3", "dsn.flash-override"),
    "Additional-Identity": ("none", "<sip:alice@example.com>"),
    "Alert-Info": ("Bellcore-dr3", "<urn:alert:service:call-waiting>;appearance=2"),
    "AlertMsg-Error": ("103", '100;message="Cannot process the alert payload"'),
    "Answer-Mode": ("Manual", "Auto;require"),
    "Attestation-Info": ("A", "x=1"),
    "Authentication-Info": (
        'nextnonce="47364c23432d2e131a5fb210812c"',
        'qop=auth, rspauth="0a", cnonce="b", nc=0000000b',
    ),
    "Authorization": (
        "Digest username*=UTF-8''J%C3%A4s%C3%B8n%20Doe, userhash=false, algorithm=SHA-512-256",
        'Digest username="Alice", realm="atlanta.com", nonce="84a4", uri="sip:a@b"'
        ', response="7587245234b3434cc3412213e5f113a5", qop=auth, nc=00000001, cnonce="0a"',
    ),
    "Call-Info": (
        "<sip:example.com>;answer-after=0",
        "<http://wwww.example.com/alice/photo.jpg>;purpose=icon",
    ),
    "Content-Disposition": ("session", "signal;handling=Optional"),
    "Content-ID": ("<a.b@[192.0.2.1]>", "<target123@atlanta.example.com>"),
    "Diversion": (
        "<tel:+1>",
        '<sip:+19195551002@example.com>;reason=user-busy;privacy="full";counter=4',
    ),
    "Error-Info": ("<aaas://host.example.com>;x", "<sip:not-in-service-recording@atlanta.com>"),
    "Event": ("foo;id=1234", "presence.winfo"),
    "Feature-Caps": ("*", '*;+sip.pns="acme";+sip.pnsreg="121"'),
    "Geolocation": (
        "<cid:target123@atlanta.example.com>",
        "<https://lis.example.com:8222/y77syc7cuecbh>;loc-src=edgeproxy.example.com",
    ),
    "Geolocation-Error": (
        '100;code="Cannot Process Location"',
        '201;code="Permission To Retransmit Location Information to a Third Party"',
    ),
    "Geolocation-Routing": ("no", 'x="y z"'),
    "History-Info": (
        "<sip:45432@192.168.0.3>;index=1.3;rc=1.2;np=1",
        "<sip:UserB@example.com?Privacy=history&Reason=SIP%3Bcause%3D486>;index=1.2;mp=1.1",
    ),
    "Identity": (
        '"Zpb3VzbHkgaGF2ZSB0aW1lIHRvIGtpbGwu="',
        "eyJhbGciOiJFUzI1NiJ9.eyJhdHQiOiJBIn0.rq3pjT1hoRwakEGjHCnWSwUnshd0-zJ6F1VOgFWSjHBr8Qj"
        ";info=<https://biloxi.example.org/biloxi.cert>;alg=ES256;ppt=shaken",
    ),
    "Identity-Info": (
        "<https://biloxi.example.org/biloxi.cer>",
        "<https://atlanta.example.com/atlanta.cer>;alg=rsa-sha1",
    ),
    "Info-Package": ("P", "g.3gpp.mid-call;x=1"),
    "Join": (
        "87134@192.0.2.23;to-tag=24796;from-tag=0",
        "98732@sip.example.com;from-tag=r33th4x0r;to-tag=ff87ff",
    ),
    "P-Access-Network-Info": (
        'ADSL2+;dsl-location="x"',
        "IEEE-802.11;i-wlan-node-id=00BA5550EEFF;network-provided",
    ),
    "P-Answer-State": ("Unconfirmed", "Confirmed;x"),
    "P-Asserted-Service": ("urn:urn-7:a", "urn:urn-7:3gpp-service.exampletelephony.version1"),
    "P-Charging-Function-Addresses": (
        "ecf=[2001:db8::1]",
        "ccf=192.1.1.1;ecf=192.1.1.3;ecf-2=192.1.1.4",
    ),
    "P-Charging-Vector": (
        "icid-value=1234bc9876e;icid-generated-at=192.0.6.8;orig-ioi=home1.net",
        'icid-value="AyretyU0dm+6O2IrT5tAFrbHLso=023551024";transit-ioi="a.1,void,b.2"',
    ),
    "P-DCS-Billing-Info": (
        "1/2@[2001:db8::1]",
        '0123456789abcdef/ab12@example.com;rksgroup=7;charge="sip:+1@example.com";called="tel:+12"',
    ),
    "P-DCS-LAES": ("[2001:db8::1]", "df.example.com:5060;content=192.0.2.1:9000;cccid=1a;bcid=2b"),
    "P-DCS-Redirect": ('"tel:+1"', '"sip:bob@example.com";redirector-uri="tel:+1";count=2'),
    "P-DCS-Trace-Party-ID": (
        "<tel:+1>",
        "<sip:+12345678912@domain.com;user=phone>;timestamp=3434688831.2327",
    ),
    "P-Media-Authorization": ("a", "0123456789ABCDEF"),
    "P-Private-Network-Indication": ("example.com", "a.example;x=1"),
    "P-Refused-URI-List": (
        "<sip:c@d>",
        '<sip:friends-list@example.net>;members="cid:an3bt8jf03@example.net"',
    ),
    "P-Served-User": (
        "<sip:user@example.com>;orig-cdiv;regstate=reg",
        "<sip:user@example.com>;sescase=orig;regstate=reg",
    ),
    "P-Visited-Network-ID": ("other.net", '"Visited network number 1"'),
    "Policy-Contact": ("<sip:c>", "<sip:policy@example.com>;non-cacheable"),
    "Policy-ID": ("sips:a@b", "sip:policy@example.com;token=a1"),
    "Privacy": ("id", "header;user;critical"),
    "Reason": ("SIP;cause=600", 'Q.850;cause=16;text="Terminated"'),
    "Refer-Events-At": ("<sip:a@b>;x", "<sips:vPT3izGmo8NTxaPADRZvEAY22BKx@example.com;gr>"),
    "Refer-Sub": ("false", "true;x"),
    "Refer-To": (
        "<sip:carol@cleveland.example.org;method=SUBSCRIBE>",
        "<sip:dave@denver.example.org?Replaces=12345%40192.168.118.3%3Bto-tag%3D12345%3Bfrom-tag%3D5FFE-3994>",
    ),
    "Referred-By": (
        "<sip:alice@phone1.example.org>",
        '<sip:r@ref.example>;cid="2UWQFN309shb3@ref.example"',
    ),
    "Reject-Contact": ("*;mobility", '*;actor="msg-taker";video'),
    "Replaces": (
        "12adf2f34456gs5;to-tag=12345;from-tag=54321;early-only",
        "98732@sip.example.com;from-tag=r33th4x0r;to-tag=ff87ff",
    ),
    "Resource-Share": (
        "supported;origin=session-initiator",
        "media-sharing;origin=session-receiver;timestamp=7",
    ),
    "Response-Source": ("fe=<urn:3gpp:fe:p-cscf.orig>", "fe=<urn:3gpp:fe:as>;role=mmtel-as"),
    "Security-Client": (
        "tls",
        "ipsec-3gpp;alg=hmac-sha-1-96;ealg=aes-cbc;prot=esp;mod=trans;spi-c=1111;spi-s=2222;port-c=5062;port-s=5064",
    ),
    "Session-ID": (
        "f81d4fae7dec11d0a76500a0c91e6bf6",
        "ab30317f1a784dc48ff824d0d3715d86;remote=47755a9de7794ba387653f2099600ef2",
    ),
    "Subscription-State": ("active;expires=599", "Terminated;reason=probation;retry-after=30"),
    "Target-Dialog": (
        "13413098;local-tag=879738;remote-tag=023214",
        "fa77as7dad8-sd98ajzz@host.example.com;local-tag=kkaz-;remote-tag=6544",
    ),
    "Trigger-Consent": (
        "sip:c@d",
        'sip:123@relay.example.com;target-uri="sip:friends@relay.example.com"',
    ),
    "User-to-User": ("342342ef34", "56a390f3d2b7310023a2;encoding=hex;purpose=foo;content=bar"),
}
"""Texts by the name of a header field: about the shortest and the longest example of its RFC."""
