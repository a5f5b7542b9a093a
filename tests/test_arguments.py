"""Wrong arguments are told at once, with what to write: each public constructor, decorator and call that takes them."""

from __future__ import annotations

import contextlib
import functools
import re

import pytest

from sippet_gevent import (
    TLS,
    URI,
    Account,
    BridgePolicy,
    Clock,
    Core,
    Credentials,
    DNSResolver,
    Filter,
    Framer,
    InvalidValue,
    Limits,
    Location,
    MemoryBindings,
    NameAddr,
    Part,
    Registrar,
    RegistrarProxy,
    Reject,
    Request,
    Response,
    SIPError,
    Stack,
    StaticResolver,
    StreamLimits,
    Timers,
    TransactionStateError,
    TransportError,
    Web,
    add_record_route,
    forward,
    multipart,
    parse,
    register_header,
    sdp,
)
from sippet_gevent.core.auth.bans import Bans
from sippet_gevent.core.server import ServerTransaction
from sippet_gevent.message.parser import ParserLimits
from sippet_gevent.runtime.clock import VirtualClock
from sippet_gevent.transport.locate.resolver import SRV
from sippet_gevent.transport.memory import Network
from sippet_gevent.transport.websocket.settings import origin_of

NAN, INF = float("nan"), float("inf")
AUDIO = sdp.MediaStream("audio", 9, (sdp.PCMU,))
OFFER = sdp.initial_offer([AUDIO], address="192.0.2.1")


def ok(request, tx):
    return 200


def core_of_one(request):
    return 200


async def core_that_awaits(request, tx):
    return 200


def core_that_yields(request, tx):
    yield 200


class Plain:
    def __call__(self, request, tx):
        return 200


class Wrong(Core):
    def receive_request(self, request):
        return 200


def stack_on(*methods, function=ok):
    return lambda: Stack().on(*methods)(function)


TOLD = {
    # ---- one text where several are wanted
    "domains": (lambda: Stack(domains="example.com"), TypeError,
                "domains must be a tuple of names, got 'example.com': write domains=('example.com',)"),
    "supported": (lambda: Stack(supported="timer"), TypeError, "supported must be a tuple of option tags, got 'timer'"),
    "origins": (lambda: Web(origins="https://a.example"), TypeError, "write origins=('https://a.example',)"),
    "scanners": (lambda: Filter(scanners="sipcli"), TypeError, "write scanners=('sipcli',)"),
    "servers": (lambda: DNSResolver(servers="192.0.2.53"), TypeError, 'write servers=["192.0.2.53"]'),
    "records": (lambda: StaticResolver({"a.example": "192.0.2.1"}), TypeError, "write ['192.0.2.1']"),
    "one record": (lambda: StaticResolver({"a.example": SRV(1, 0, 5060, "b")}), TypeError, "the records of 'a.example'"),
    "no records": (lambda: StaticResolver(["a.example"]), TypeError, "records must map names"),
    "domains with others in them": (lambda: Stack(domains=(b"example.com",)), TypeError, "got b'example.com' in it"),
    # ---- options of a Stack
    "port": (lambda: Stack(5060), TypeError, 'an address must be a text, got 5060: write "udp:0.0.0.0:5060"'),
    "core as an address": (lambda: Stack(ok), TypeError, 'write Stack("udp:0.0.0.0:5060", core=ok)'),
    "list of addresses": (lambda: Stack(["udp:127.0.0.1:0"]), TypeError, "write Stack(*addresses)"),
    "timers": (lambda: Stack(timers={"t1": 1}), TypeError, "timers must be of type Timers, got {'t1': 1}: write timers=Timers("),
    "limits": (lambda: Stack(limits=100), TypeError, "write limits=Limits(handlers=1000)"),
    "tls": (lambda: Stack(tls="chain.pem"), TypeError, 'write tls=TLS("chain.pem", "key.pem")'),
    "web": (lambda: Stack(web=["https://a.example"]), TypeError, "write web=Web(origins="),
    "resolver": (lambda: Stack(resolver="192.0.2.53"), TypeError, "resolver must be of type Resolver"),
    "flag": (lambda: Stack(sips_in_clear="no"), TypeError, "sips_in_clear must be True or False, got 'no'"),
    "allow_target": (lambda: Stack(allow_target=True), TypeError, "allow_target must be a function or None, got True"),
    "allow_target of none": (lambda: Stack(allow_target=lambda: True), TypeError, "allow_target must take (candidate)"),
    "class that accepts": (lambda: Stack(accept=Filter), TypeError, "got the class Filter: write Filter()"),
    "accept of one": (lambda: Stack(accept=lambda data: True), TypeError, "accept must take (data, flow)"),
    "secret": (lambda: Stack(route_secret="0123456789abcdef"), TypeError, "route_secret must be at least 16 bytes, got str"),
    "short secret": (lambda: Stack(route_secret=b"x"), InvalidValue, "got 1 of them: write os.urandom(16)"),
    "domain with a port": (lambda: Stack(domains=("example.com:5060",)), InvalidValue, "write it without scheme and port"),
    "port alone": (lambda: Stack("5060"), InvalidValue, "'5060' names no host: write udp:0.0.0.0:5060 for all addresses"),
    "domain of hex digits with a port": (lambda: Stack(domains=("a:5060",)), InvalidValue, "write it without scheme and port"),
    "domain with a scheme": (lambda: Stack(domains=("sip:example.com",)), InvalidValue, "domain 'sip:example.com' is not a host name"),
    "one domain of bytes": (lambda: Stack(domains=("a.example", b"b.example")), TypeError, "got b'b.example' in it: write each as text"),
    "headers as text": (lambda: Stack(headers="User-Agent"), TypeError, "headers must map names to texts, got 'User-Agent': write headers={"),
    "no headers as text": (lambda: Stack(headers=""), TypeError, "headers must map names to texts, got ''"),
    "name of a header": (lambda: Stack(headers={5: "x"}), TypeError, "headers must map names to texts, got the name 5: write headers={"),
    "header of a number": (lambda: Stack(headers={"X-Site": 5}), TypeError, 'headers must map names to texts, got 5 for X-Site: write {"X-Site": "5"}'),
    "empty header": (lambda: Stack(headers={"X-Site": " "}), InvalidValue, "X-Site must be one text that is not empty, got ' '"),
    "alias of a number": (lambda: Stack(aliases={"a.example": 5}), TypeError, 'aliases must map names, got 5: write aliases={"'),
    "number as alias": (lambda: Stack(aliases={5: "localhost"}), TypeError, 'aliases must map names, got 5: write aliases={"'),
    "option tag": (lambda: Stack(supported=("100rel, timer",)), InvalidValue, "supported must be option tags"),
    "certificate that is none": (lambda: TLS(__file__, __file__).server_context(), InvalidValue, "no PEM file of a certificate and"),
    "no certificate": (lambda: Stack("tls:127.0.0.1:0"), InvalidValue, 'write Stack(…, tls=TLS("chain.pem", "key.pem"))'),
    # ---- cores
    "core of one": (lambda: Stack(core=core_of_one), TypeError,
                    "a core must take (request, tx), got core_of_one(request): write def core_of_one(request, tx)"),
    "class": (lambda: Stack(core=Plain), TypeError, "got the class Plain: write Plain()"),
    "async core": (lambda: Stack(core=core_that_awaits), TypeError, "core_that_awaits(request, tx), which is async def"),
    "generator": (lambda: Stack(core=core_that_yields), TypeError, "which is a generator: write def"),
    "Core of one": (lambda: Stack(core=Wrong), TypeError, "Wrong.receive_request() must take (request, tx)"),
    "assigned": (lambda: setattr(Stack(), "core", core_of_one), TypeError, "a core must take (request, tx)"),
    "partial": (lambda: Stack(core=functools.partial(ok, None, None)), TypeError, "got ok("),
    "no parentheses": (lambda: Stack().on(ok), TypeError, 'stack.on needs parentheses, got the function ok: write @stack.on("INV'),
    "lower case": (stack_on("invite"), InvalidValue, "'invite' is not INVITE, methods are case-sensitive (§7.1): write \"INVITE\""),
    "two in one text": (stack_on("INVITE, BYE"), InvalidValue, 'write on("INVITE", "BYE")'),
    "list of methods": (stack_on(["INVITE", "BYE"]), TypeError, 'write on("INVITE", "BYE")'),
    "CANCEL": (stack_on("CANCEL"), InvalidValue, "CANCEL never reaches a core"),
    "function of one": (stack_on("INVITE", function=core_of_one), TypeError, "write def core_of_one(request, tx)"),
    "class for a method": (stack_on("INVITE", function=Plain), TypeError, "write Plain()"),
    # ---- numbers
    "handlers": (lambda: Limits(handlers=-1), InvalidValue, "handlers must be a whole number of 0 or more, got -1"),
    "handlers as text": (lambda: Limits(handlers="10"), TypeError, "handlers must be a whole number, got '10'"),
    "half a handler": (lambda: Limits(handlers=1.5), TypeError, "handlers must be a whole number, got 1.5"),
    "handlers beyond count": (lambda: Limits(handlers=10**400), InvalidValue, "handlers must be a whole number of 1000000000000000 or less, got 1000"),
    "handlers of too many digits": (lambda: Limits(handlers=10**9999), InvalidValue, "got one of thousands of digits: write handlers=1000000000000000"),
    "idle in milliseconds": (lambda: StreamLimits(idle=1e300), InvalidValue, "idle must be a number of 31536000 or less, got 1e+300: write idle=31536000"),
    "keep beyond a year": (lambda: Limits(keep=31536001), InvalidValue, "keep must be a whole number of 31536000 or less"),
    "closed for ever": (lambda: Limits(closed_seconds=-1), InvalidValue, "closed_seconds must be a whole number of 0 or more, got -1: write closed_seconds=0"),
    "retry_after beyond a year": (lambda: Limits(retry_after=(1, 10**10)), InvalidValue, "retry_after must be a whole number of 31536000 or less"),
    "rate beyond count": (lambda: Limits(errors_per_second=1e300), InvalidValue, "errors_per_second must be a number of 1000000000000000 or less"),
    "t1 beyond a year": (lambda: Timers(t1=1e300), InvalidValue, "t1 must be a number of 31536000 or less, got 1e+300: write t1=31536000"),
    "t1 of inf": (lambda: Timers(t1=INF), InvalidValue, "t1 must be a finite number of 31536000 or less, got inf: write t1=31536000"),
    "ban beyond a year": (lambda: Bans(seconds=1e300), InvalidValue, "seconds must be a number of 31536000 or less"),
    "ban of nan": (lambda: Bans(within=NAN), InvalidValue, "within must be a finite number of 0 or more, got nan: write within=0"),
    "failures beyond count": (lambda: Bans(10**20), InvalidValue, "failures must be a whole number of 1000000000000000 or less"),
    "no failures": (lambda: Bans(source_failures=0), InvalidValue, "source_failures must be a whole number of 1 or more, got 0: write source_failures=1"),
    "drain beyond a year": (lambda: Stack().run(drain=1e300), InvalidValue, "drain must be a number of 31536000 or less"),
    "rate of errors": (lambda: Limits(errors_per_second=NAN), InvalidValue, "errors_per_second must be a finite number"),
    "retry_after": (lambda: Limits(retry_after=5), TypeError, "write retry_after=(1, 10)"),
    "retry_after back": (lambda: Limits(retry_after=(9, 2)), InvalidValue, "the least and the most seconds, got (9, 2)"),
    "streams": (lambda: Limits(streams=10), TypeError, "write streams=StreamLimits("),
    "parser": (lambda: Limits(parser=ParserLimits(message=0)), InvalidValue, "parser.message must be a whole number of 1 or more"),
    "idle": (lambda: StreamLimits(idle=-1.0), InvalidValue, "idle must be a number of 0 or more, got -1.0"),
    "ends": (lambda: Limits(flow_ends_transactions="no"), TypeError, "flow_ends_transactions must be True or False"),
    "t1": (lambda: Timers(t1=0), InvalidValue, "t1 must be a finite number greater than 0, got 0"),
    "timer of nan": (lambda: Timers(f=NAN), InvalidValue, "f must be a finite number"),
    "timer as text": (lambda: Timers(t1="0.5"), TypeError, "t1 must be a number, got '0.5': write t1=0.5"),
    "min_expires": (lambda: Registrar(Location(), min_expires=-1), InvalidValue, "min_expires must be a whole number"),
    "max_expires": (lambda: Registrar(Location(), max_expires=60), InvalidValue, "max_expires must be 3600 or more"),
    "location": (lambda: Registrar(Stack()), TypeError, "write Registrar(Location())"),
    "store for a location": (lambda: Registrar(MemoryBindings()), TypeError, "write Registrar(Location(store))"),
    "store of a location": (lambda: Location(MemoryBindings), TypeError, "write Location()"),
    "time-out of a store": (lambda: Location(store_timeout=-1), InvalidValue, "store_timeout must be a number greater than 0"),
    "seconds of a stale copy": (lambda: Location(serve_stale="5"), TypeError, "serve_stale must be a number"),
    "class of locations": (lambda: Registrar(Location), TypeError, "write Registrar(Location())"),
    "text to look up": (lambda: Location().lookup("sip:bob@a"), TypeError,
                        "uri must be a URI, got 'sip:bob@a': write URI.parse('sip:bob@a')"),
    "To to look up": (lambda: Location().lookup(NameAddr.parse("<sip:bob@a>")), TypeError, ": write uri.uri"),
    "contact to look up": (lambda: Location().lookup_contact("sip:bob@a"), TypeError, "write URI.parse('sip:bob@a')"),
    "URI for bindings": (lambda: Location().get(URI.parse("sip:bob@a")), TypeError, "write lookup(uri)"),
    "text that is local": (lambda: Stack().is_local("sip:a"), TypeError, "write URI.parse('sip:a')"),
    "text of a domain": (lambda: Stack().is_responsible_for("sip:a"), TypeError, "write URI.parse('sip:a')"),
    "text of a user": (lambda: Stack().aor("sip:bob@a"), TypeError, "write URI.parse('sip:bob@a')"),
    "stack for a clock": (lambda: Location(Stack()), TypeError, "write Location()"),
    "seconds": (lambda: DNSResolver(seconds=0), InvalidValue, "seconds must be a finite number greater than 0"),
    "loss in percent": (lambda: Network(VirtualClock(), loss=30), InvalidValue, "loss must be a number from 0 to 1, got 30"),
    "delay": (lambda: Network(VirtualClock(), delay=-1), InvalidValue, "delay must be a number of 0 or more"),
    # ---- files and pages
    "key alone": (lambda: TLS(key="key.pem"), InvalidValue, "key 'key.pem' belongs to a certificate: give its file as cert"),
    "client_ca alone": (lambda: TLS(client_ca="ca.pem"), InvalidValue, "none can connect without a certificate: give cert"),
    "PEM": (lambda: TLS("-----BEGIN CERTIFICATE-----"), InvalidValue, "cert must be the name of a file, got the content"),
    "names": (lambda: TLS(names={"a.example": "a.pem"}), TypeError, 'write names={"example.org": ("org.pem", "org.key")}'),
    "wildcard": (lambda: TLS(names={"*.example": ("a", "b")}), InvalidValue, "names must be whole names, got '*.example'"),
    "cert": (lambda: TLS(5), TypeError, "cert must be of type str or PathLike, got 5"),
    "origin": (lambda: Web(origins=["phone.example.com"]), InvalidValue,
               "'phone.example.com' is not an origin, as browsers write it: write https://phone.example.com"),
    "origin with a path": (lambda: Web(origins=["http://a.example:81/x"]), InvalidValue, "write http://a.example:81"),
    "any origin": (lambda: Web(origins=["*"]), InvalidValue, "'*' is not an origin: leave origins out to accept all pages"),
    "accept of a Web": (lambda: Web(accept=["https://a.example"]), TypeError, "accept must be a function or None"),
    "path": (lambda: Web(path=5), TypeError, 'write path="/sip"'),
    "name server": (lambda: DNSResolver(servers=["dns.example"]), InvalidValue, "must be a numeric address, got 'dns.example'"),
    # ---- messages
    "Reject": (lambda: Reject("403"), TypeError, "status must be a number of 300 to 699, got '403': write Reject(403)"),
    "Reject of 200": (lambda: Reject(200), InvalidValue, "number of 300 to 699, got 200: write tx.respond(200)"),
    "Reject of 700": (lambda: Reject(700), InvalidValue, "number of 300 to 699, got 700: write Reject(603)"),
    "Response": (lambda: Response("200"), TypeError, "got '200': write Response(200)"),
    "response": (lambda: Request("OPTIONS", "sip:a").response("200"), TypeError, "status must be a number of 100 to 699, got '200'"),
    "body": (lambda: Request("MESSAGE", "sip:a", body={"a": 1}), TypeError,
             "body must be bytes or text, got {'a': 1}: write body=json.dumps(…)"),
    "body of a number": (lambda: Request("MESSAGE", "sip:a", body=5), TypeError, "body must be bytes or text, got 5"),
    "body of a response": (lambda: Request("OPTIONS", "sip:a").response(200, body={}), TypeError, "got {}: write body=json"),
    "body assigned": (lambda: setattr(Request("MESSAGE", "sip:a"), "body", None), TypeError, "body must be bytes or text, got None"),
    "method": (lambda: Request("invite", "sip:a"), InvalidValue, 'write "INVITE"'),
    "no method": (lambda: Request(None, "sip:a"), TypeError, "method must be a text, got None"),
    "uri": (lambda: Request("OPTIONS", None), TypeError, "uri must be a URI or text, got None"),
    "header with a typo": (lambda: Response(200, contct="<sip:a>"), TypeError,
                           "contct is no header field of Response: write contact="),
    "header in capitals": (lambda: Request("OPTIONS", "sip:a", User_Agent="a"), TypeError, "write user_agent="),
    "header with a hyphen": (lambda: Request("OPTIONS", "sip:a", **{"Max-Forwards": 9}), TypeError, "write max_forwards="),
    "From": (lambda: Request("OPTIONS", "sip:a", **{"from": "sip:b"}), TypeError, "from is no header field of Request: write from_="),
    "headers in a dict": (lambda: Request("OPTIONS", "sip:a", headers={"Subject": "x"}), TypeError, "write each as an argument"),
    "header of one's own": (lambda: Request("OPTIONS", "sip:a", x_tenant=7), TypeError,
                            """register_header('x_tenant', "X-Tenant"), or set message.headers["X-Tenant"]"""),
    "number as a text": (lambda: Request("OPTIONS", "sip:a").headers.__setitem__("X-Tenant", 7), TypeError,
                         'X-Tenant: a value must be a text, or several, got 7: write "7"'),
    "attribute with a hyphen": (lambda: register_header("x-tenant", "X-Tenant"), InvalidValue, 'write register_header("x_tenant"'),
    "type by its name": (lambda: register_header("x_tenant_2", "X-Tenant-2", type="int"), TypeError, "write type=int"),
    "bytes as a message": (lambda: Part.of(b"v=0"), TypeError, "write Part.of(request)"),
    "texts as parts": (lambda: multipart("mixed", ["a"]), TypeError, "write [Part(body, content_type), …]"),
    "offer in bytes": (lambda: sdp.answer(b"v=0", [AUDIO], address="192.0.2.1"), TypeError, "write sdp.SDP.parse(request.body)"),
    "offer in a message": (lambda: sdp.SDP.parse(Request("INVITE", "sip:a")), TypeError, "write SDP.parse(request.body)"),
    "stream alone": (lambda: sdp.initial_offer(AUDIO, address="192.0.2.1"), TypeError, "write [stream]"),
    "stream alone in an answer": (lambda: sdp.answer(OFFER, AUDIO, address="192.0.2.1"), TypeError, "write [stream]"),
    "streams as texts": (lambda: sdp.answer(OFFER, ["audio"], address="192.0.2.1"), TypeError, "got 'audio' in it: write sdp.Medi"),
    "codec alone": (lambda: sdp.initial_offer([sdp.MediaStream("audio", 9, sdp.PCMU)], address="192.0.2.1"), TypeError,
                    "write codecs=(sdp.PCMU,)"),
    "codecs as texts": (lambda: sdp.initial_offer([sdp.MediaStream("audio", 9, ("PCMU",))], address="192.0.2.1"), TypeError,
                        "codecs must be a tuple of Codec, got ('PCMU',)"),
    "address of a flow": (lambda: sdp.initial_offer([AUDIO], address=("192.0.2.1", 5060)), TypeError, 'write address="192.0.2.1"'),
    "bytes to hold": (lambda: sdp.hold(b"v=0"), TypeError, "previous must be of type SDP, got b'v=0': write sdp.SDP.parse("),
    "bytes to resume": (lambda: sdp.resume(b"v=0"), TypeError, "previous must be of type SDP"),
    "bytes to modify": (lambda: sdp.modify(b"v=0", [AUDIO]), TypeError, "previous must be of type SDP"),
    "answer in bytes": (lambda: sdp.check_answer(OFFER, b"v=0"), TypeError, "answer must be of type SDP"),
    "URI of a text": (lambda: Request("OPTIONS", URI("sip:a")), InvalidValue, "are no URI: write URI.parse('sip:a')"),
    "no address": (lambda: sdp.initial_offer([AUDIO]), InvalidValue, 'write address="192.0.2.1"'),
    "parse": (lambda: parse("OPTIONS sip:a SIP/2.0"), TypeError, "data must be bytes, got 'OPTIONS sip:a SIP/2.0': write parse(text.en"),
    "feed": (lambda: Framer().feed("OPTIONS"), TypeError, "write feed(text.encode())"),
    # ---- requests
    "timeout": (lambda: Stack().request("OPTIONS", "sip:a", timeout="5"), TypeError,
                "timeout must be a number of seconds or None, got '5': write timeout=5"),
    "timeout of nan": (lambda: Stack().invite("sip:a", timeout=NAN), InvalidValue, "timeout must be a number of seconds"),
    "on_provisional": (lambda: Stack().request("OPTIONS", "sip:a", on_provisional=180), TypeError, "on_provisional must be"),
    "send": (lambda: Stack().send("OPTIONS"), TypeError, 'request must be of type Request, got \'OPTIONS\': write Request("OPT'),
    "next_hop without a scheme": (lambda: Stack().send(Request("OPTIONS", "sip:a"), "127.0.0.1"), InvalidValue,
                                  "got '127.0.0.1': write sip:127.0.0.1"),
    "next_hop with a port": (lambda: Stack().send(Request("OPTIONS", "sip:a"), "127.0.0.1:5070"), InvalidValue,
                             'write sip:127.0.0.1:5070'),
    # ---- time
    "timeout of a clock": (lambda: Clock().timeout("3"), TypeError, "seconds must be a number, got '3': write seconds=3"),
    "alarm of a clock": (lambda: Clock().alarm(None, print), TypeError, "seconds must be a number, got None"),
    "within": (lambda: Clock().within("3", print), TypeError, "seconds must be a number, got '3'"),
    "sleep": (lambda: VirtualClock().sleep("3"), TypeError, "seconds must be a number, got '3'"),
    "virtual timeout": (lambda: VirtualClock().timeout([]), TypeError, "seconds must be a number, got []"),
    # ---- values made with swapped or missing parts
    "swapped address": (lambda: NameAddr("bob", "sip:bob@a"), InvalidValue,
                        "uri must be a URI, got 'bob': write NameAddr(URI.parse('sip:bob@a'), 'bob')"),
    "address of nothing": (lambda: NameAddr(None), TypeError, 'got None: write NameAddr(URI.parse("sip:bob@example.com")'),
    "display that is none": (lambda: NameAddr(URI.parse("sip:a"), {"tag": "x"}), TypeError, "display must be a text, got {'tag'"),
    "store": (lambda: RegistrarProxy("x"), TypeError, "got 'x': write RegistrarProxy(Location())"),
    "registrar by position": (lambda: RegistrarProxy(Registrar(Location())), TypeError, "write RegistrarProxy(registrar=Registrar(...))"),
    "number of an office": (lambda: Request("OPTIONS", "200"), InvalidValue, "'200': write sip:200@example.com"),
    "codec in a stream": (lambda: sdp.MediaStream("audio", 9, sdp.PCMU), TypeError, "write codecs=(sdp.PCMU,)"),
    "format in a stream": (lambda: sdp.MediaStream("image", 9, formats="t38"), TypeError, "write formats=('t38',)"),
    "next_hop": (lambda: Stack().send(Request("OPTIONS", "sip:a"), 5060), TypeError, 'write next_hop="sip:192.0.2.1"'),
    "listener": (lambda: Stack().request("OPTIONS", "sip:a", listener=1), TypeError, 'write listener="inside"'),
    "ACK asked for": (lambda: Stack().request("ACK", "sip:a"), InvalidValue, "request() cannot send ACK: nothing answers it"),
    "CANCEL asked for": (lambda: Stack().request("CANCEL", "sip:a"), InvalidValue, "tx = stack.send(…), and tx.cancel()"),
    "drain": (lambda: Stack("udp:127.0.0.1:0").run(drain="5"), TypeError, "drain must be a number, got '5': write drain=5"),
    "stop": (lambda: Stack().stop("5"), TypeError, "timeout must be a number of seconds or None, got '5': write timeout=5"),
    "uri without a scheme": (lambda: Request("OPTIONS", "bob@a"), InvalidValue, "URI without a scheme (sip, sips or tel): 'bob@a': write sip:bob@a"),
    "swapped": (lambda: forward(None, Request("OPTIONS", "sip:a")), TypeError, "write forward(request, tx, *targets)"),
}  # fmt: skip


@pytest.mark.parametrize("case", TOLD)
def test_wrong_argument_is_told_with_what_to_write(case):
    call, kind, text = TOLD[case]
    with pytest.raises(kind, match=re.escape(text)) as told:
        call()
    assert isinstance(told.value, SIPError) == (kind is InvalidValue)


ADDRESS = "sip:bob@192.0.2.1"


def _account(**given):
    return Account(**{"aor": ADDRESS, **given})


def _received():
    request = Request("OPTIONS", ADDRESS, via="SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1")
    return request, ServerTransaction(Stack(), request, None)


# every argument that takes a URI, given as text
WANTS_URI = {
    "request": lambda text: Stack().request("OPTIONS", text),
    "request, next_hop": lambda text: Stack().request("OPTIONS", ADDRESS, next_hop=text),
    "request, from_": lambda text: Stack().request("OPTIONS", ADDRESS, from_=text),
    "request, contact": lambda text: Stack().request("OPTIONS", ADDRESS, contact=[f"<{text}>"]),
    "request, route": lambda text: Stack().request("OPTIONS", ADDRESS, route=text),
    "invite": lambda text: Stack().invite(text),
    "invite, to": lambda text: Stack().invite(ADDRESS, to=f"Anna <{text}>"),
    "subscribe": lambda text: Stack().subscribe(text, event="presence"),
    "refer": lambda text: Stack().refer(text, ADDRESS),
    "refer, target": lambda text: Stack().refer(ADDRESS, text),
    "register": lambda text: Stack().register(text),
    "register, registrar": lambda text: Stack().register(ADDRESS, registrar=text),
    "register, contact": lambda text: Stack().register(ADDRESS, contact=text),
    "register, outbound_proxies": lambda text: Stack().register(ADDRESS, outbound_proxies=(text,), instance="urn:uuid:1"),
    "resolve": lambda text: Stack().resolve(text),
    "flow_to": lambda text: Stack().flow_to(text),
    "Request": lambda text: Request("OPTIONS", text),
    "Response": lambda text: _received()[0].response(302, contact=text),
    "Account": lambda text: _account(aor=text),
    "Account, registrar": lambda text: _account(registrar=text),
    "Account, outbound_proxy": lambda text: _account(outbound_proxy=text),
    "Account, from_": lambda text: _account(from_=text),
    "Account, contact": lambda text: _account(contact=text),
    "Account row": lambda text: Account.of_row({"aor": text, "password": "x"}),
    "forward": lambda text: forward(*_received(), text),
    "add_record_route": lambda text: add_record_route(_received()[0], text),
    "BridgePolicy": lambda text: BridgePolicy({"From": text}),
}  # fmt: skip


@pytest.mark.rfc("3261 19.1.1")
@pytest.mark.parametrize("argument", WANTS_URI)
def test_text_without_a_scheme_is_told_with_the_uri_to_write(argument):
    with pytest.raises(InvalidValue, match=r": write sip:anna@192\.0\.2\.7$"):
        WANTS_URI[argument]("anna@192.0.2.7")


IN_HEADERS = {"request, from_", "request, contact", "request, route", "invite, to", "Response"}
"""A header field may be a copy of what a peer has sent, whose user may be `//anna`."""


@pytest.mark.rfc("3261 25.1")
@pytest.mark.parametrize("argument", [each for each in WANTS_URI if each not in IN_HEADERS])
@pytest.mark.parametrize("scheme", ["sip:", "SIP:", "sips:"])
def test_uri_with_slashes_is_told_with_the_uri_to_write(argument, scheme):
    wanted = rf"// is no part of a SIP URI.*: write {scheme.lower()}anna@192\.0\.2\.7$"
    with pytest.raises(InvalidValue, match=wanted):
        WANTS_URI[argument](f"{scheme}//anna@192.0.2.7")


@pytest.mark.parametrize("argument", IN_HEADERS)
def test_header_field_may_have_a_user_with_slashes(argument):
    with contextlib.suppress(TransportError):  # the stack is not running
        WANTS_URI[argument]("sip://anna@192.0.2.7")


@pytest.mark.parametrize(
    ("text", "write"),
    [
        ("host", "sip:host"),
        ("sip://host", "sip:host"),
        ("sip:///anna@host", "sip:anna@host"),
        ("Anna <sip://anna:secret@host>", "sip:anna@host"),
        ("localhost:5060", "sip:localhost:5060"),
        ("a_b:secret@host", "sip:a_b@host"),
        ("+49-30", "sip:+49-30@example.com"),
        ("tel:12345", "sip:bob@example.com"),
        ("mailto:anna@host", "sip:bob@example.com"),
        ("", "sip:bob@example.com"),
        ("sip:anna@ho st", "sip:bob@example.com"),
    ],
)
def test_uri_to_write_is_what_the_text_means(text, write):
    with pytest.raises(InvalidValue, match=f": write {re.escape(write)}$"):
        _account(registrar=text)


@pytest.mark.parametrize(
    ("host", "write"),
    [
        ("sip:pbx.example", "pbx.example"),
        ("anna@pbx.example", "pbx.example"),
        ("192.0.2.1:5070", "192.0.2.1"),
    ],
)
def test_host_of_credentials_is_no_uri(host, write):
    with pytest.raises(InvalidValue, match=re.escape(f'write hosts=("{write}",)')):
        Credentials("100", "secret", hosts=(host,))


def test_method_with_a_function_already_is_told():
    stack = Stack()
    stack.on("INVITE", "BYE")(ok)
    stack.on("BYE")(ok)
    with pytest.raises(
        InvalidValue,
        match=r"BYE is served by ok\(\) already: register one function for each method",
    ):
        stack.on("OPTIONS", "BYE")(lambda request, tx: 200)
    assert set(stack.methods.handlers) == {"INVITE", "BYE"}
    stack.on()(ok)
    with pytest.raises(InvalidValue, match="every other method is served by ok"):
        stack.on()(Plain())


def test_function_that_a_core_would_hide_is_told():
    with pytest.raises(
        TransactionStateError, match="made with a core, which gets all requests: leave out core="
    ):
        Stack(core=ok).on("INVITE")(ok)


def test_status_that_a_core_responds_with_is_told(sip):
    told = []

    def core(request, tx):
        try:
            tx.respond("180")
        except TypeError as error:
            told.append(str(error))
        try:
            tx.wait("3")
        except TypeError as error:
            told.append(str(error))
        return 486

    assert sip.ask(core, "INVITE sip:bob@example.com").statuses == [486]
    assert told == [
        "status must be a number of 100 to 699, got '180': write 180",
        "seconds must be a number of seconds or None, got '3': write seconds=3",
    ]


def test_targets_that_are_not_spread_are_told(sip):
    def core(request, tx):
        return forward(request, tx, ("sip:a@10.0.0.9", "sip:b@10.0.0.9"))

    assert sip.ask(core, "OPTIONS sip:bob@example.com").statuses == [500]


@pytest.mark.parametrize(
    "core",
    [ok, Plain(), functools.partial(lambda extra, request, tx: 299, "extra"), lambda *arguments: 299,
     lambda request, tx, more=None: 299, Wrong.__mro__[1]()],
)  # fmt: skip
def test_core_that_can_be_called_is_taken(core):
    assert Stack(core=core).core is core
    assert Stack().on("INVITE")(core) is core


def test_core_registered_for_a_method_knows_its_stack():
    stack, core = Stack(), Core()
    stack.on("INVITE")(core)
    assert core.stack is stack


@pytest.mark.rfc("6454 6.2")
@pytest.mark.parametrize(
    ("written", "sent"),
    [("https://Phone.Example.com/", "https://phone.example.com"), ("https://a.example:443", "https://a.example"),
     ("http://a.example:8080", "http://a.example:8080"), ("http://[2001:db8::1]:80", "http://[2001:db8::1]"), ("null", "null")],
)  # fmt: skip
def test_origin_is_taken_as_browsers_write_it(written, sent):
    assert origin_of(written) == sent


def test_body_may_be_text_bytes_or_an_object_that_writes_itself():
    class Written:
        def __bytes__(self):
            return b"v=0"

    assert [Request("MESSAGE", "sip:a", body=body).body for body in ("é", bytearray(b"x"), Written())] == [
        "é".encode(), b"x", b"v=0",
    ]  # fmt: skip


def test_time_that_is_over_may_be_negative(sip):
    with pytest.raises(SIPError, match="no final response"):
        sip.run(lambda: sip.client.request("OPTIONS", "sip:10.0.0.9", timeout=-1))


RETURNED = {
    "text": ("486", "got '486': write return 486"),
    "True": (True, "got True: write 486"),
    "ringing": (180, "got 180: write tx.respond(180) for a provisional response"),
    "refusal": (Reject(403), "write raise Reject(403)"),
    "reason": ((486, "Busy"), "write request.response(486, reason)"),
    "function": (forward, "write 486, or request.response(486)"),
}


@pytest.mark.parametrize("case", RETURNED)
def test_wrong_result_of_a_core_is_told_with_what_to_write(sip, caplog, case):
    result, text = RETURNED[case]
    assert sip.ask(lambda request, tx: result, "OPTIONS sip:bob@example.com").statuses == [500]
    assert text in caplog.text


@pytest.mark.rfc("3261 8.2.6.2")
@pytest.mark.parametrize("how", ["returned", "given to respond"])
@pytest.mark.parametrize("made", ["by itself", "of another request"])
def test_response_that_is_not_of_the_request_gets_500_and_is_told(sip, caplog, how, made):
    callee = sip.stack(lambda request, tx: 200, host="192.0.2.20")

    def relay(request, tx):
        if made == "by itself":
            response = Response(486)
        else:
            response = tx.stack.request(
                "MESSAGE", f"sip:bob@{callee.addresses[0][4:]}", body=request.body
            )
        return response if how == "returned" else tx.respond(response)

    assert sip.ask(relay, "MESSAGE sip:bob@example.com").statuses == [500]
    assert "write request.response(" in caplog.text


@pytest.mark.parametrize("core", [200, core_of_one, Plain])
def test_core_for_reinvites_that_is_none_is_told(sip, core):
    told = []

    def answer(request, tx):
        with tx.accept() as call:
            with pytest.raises(TypeError, match="on_reinvite must"):
                call.on_reinvite = core
            call.on_reinvite = ok
            told.append(call.on_reinvite)

    client = sip.client
    sip.run(lambda: client.invite(f"sip:{sip.serve(answer).addresses[0][4:]}").wait(9))
    assert told == [ok]


def test_method_with_a_typo_is_told_in_the_log(caplog):
    Stack().on("INVIT", "PING-PONG")(ok)
    assert [record.getMessage() for record in caplog.records] == [
        'unknown method: method=INVIT hint="write INVITE, unless you mean a method of your own"'
    ]


def test_refusal_without_what_it_needs_is_told_by_the_logger_of_cores(sip, caplog):
    assert sip.ask(lambda request, tx: 401, "OPTIONS sip:bob@example.com").statuses == [401]
    assert [(record.name, record.levelname) for record in caplog.records] == [
        ("sippet_gevent.core", "WARNING")
    ]
    assert "refusal incomplete: answered=401 missing=WWW-Authenticate method=OPTIONS" in caplog.text


def test_next_hop_that_is_a_text_in_a_uri_is_told():
    with (
        Stack("udp:127.0.0.1:0") as stack,
        pytest.raises(TransportError, match=re.escape('write URI.parse("sip:127.0.0.1")')),
    ):
        stack.request("OPTIONS", "sip:bob@a", next_hop=URI("sip:127.0.0.1"))
