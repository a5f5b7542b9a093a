"""Candidates of a SIP URI, RFC 3263 §4 and §5, RFC 2782: rules on a table of records, no DNS."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sippet_gevent import URI, InvalidValue, TransportError, Via
from sippet_gevent.transport.locate.records import Question, interleave, order_srv
from sippet_gevent.transport.locate.resolver import (
    NAPTR,
    SRV,
    Answer,
    Candidate,
    Resolver,
    StaticResolver,
)
from sippet_gevent.transport.locate.rfc3263 import (
    CANDIDATES,
    RULES,
    SERVICES,
    SRV_TARGETS,
    select,
    select_for_response,
)

ONE, TWO, SIX = "192.0.2.1", "192.0.2.2", "2001:db8::1"


class Silent(Resolver):
    """A resolver that must not be asked."""

    def ask(self, questions, budget):
        raise AssertionError(f"asked {questions}")


class Recording(StaticResolver):
    """A resolver that notes its questions."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.steps = []

    def ask(self, questions, budget):
        self.steps.append([str(question) for question in questions])
        return super().ask(questions, budget)


def ways(resolver, uri, *transports):
    """Return the candidates of a URI as text."""
    return [
        str(found)
        for found in resolver.resolve(URI.parse(uri), *([transports] if transports else []))
    ]


# ---- transports of the user's


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sip:bob@192.0.2.1;transport=xyz", "xyz:192.0.2.1:7000"),
        ("sip:bob@192.0.2.1:5070;transport=XYZ", "xyz:192.0.2.1:5070"),
        ("sip:bob@a.example;transport=xyz", "xyz:192.0.2.1:7000"),
        ("sip:bob@192.0.2.1;transport=tcp", "tcp:192.0.2.1:5060"),
        ("sip:bob@192.0.2.1", "udp:192.0.2.1:5060"),
    ],
)
def test_uri_leads_to_a_transport_of_any_name_and_its_default_port(text, found):
    resolver = StaticResolver({"a.example": [ONE]})
    assert [
        str(way) for way in resolver.resolve(URI.parse(text), {"UDP": 1, "TCP": 2, "XYZ": 7000})
    ] == [found]
    if ":5070" not in text:
        assert str(resolver.resolve(URI.parse(text), ["UDP", "TCP", "XYZ"])[0]) == found.replace(
            "7000", "5060"
        )


# ---- without questions


@pytest.mark.rfc("3263 4.1", "3263 4.2")
@pytest.mark.parametrize(
    ("text", "candidate"),
    [
        ("sip:bob@192.0.2.1", ("UDP", "192.0.2.1", 5060)),
        ("sip:bob@192.0.2.1:5070", ("UDP", "192.0.2.1", 5070)),
        ("sip:bob@[2001:db8::1]", ("UDP", "2001:db8::1", 5060)),
        ("sip:bob@[::ffff:192.0.2.1]", ("UDP", "192.0.2.1", 5060)),
        ("sip:192.0.2.1;transport=tcp", ("TCP", "192.0.2.1", 5060)),
        ("sip:192.0.2.1;transport=tls", ("TLS", "192.0.2.1", 5061)),
        ("sip:192.0.2.1;transport=ws", ("WS", "192.0.2.1", 80)),
        ("sips:192.0.2.1", ("TLS", "192.0.2.1", 5061)),
        ("sips:192.0.2.1;transport=tcp", ("TLS", "192.0.2.1", 5061)),
        ("sips:192.0.2.1;transport=ws", ("WSS", "192.0.2.1", 443)),
        ("sip:bob@example.com;maddr=192.0.2.7", ("UDP", "192.0.2.7", 5060)),
    ],
)
def test_numeric_host_asks_no_questions(text, candidate):
    assert [found[:3] for found in Silent().resolve(URI.parse(text))] == [candidate]


@pytest.mark.parametrize(
    "host",
    [
        "a..b",
        "[1::2::3]",
        "[12345::1]",
        "1.2.3",
        "127.1",
        "a.192.0.2.300",
        "x" * 64,
        "a." * 127 + "a",
    ],
)
@pytest.mark.parametrize(
    "text", ["sip:{}", "sip:{};transport=tcp", "sip:{}:5070", "sip:example.com;maddr={}"]
)
def test_host_that_is_no_name_is_a_transport_error_without_dns(text, host):
    with pytest.raises(TransportError, match="neither an address nor a name"):
        Silent().resolve(URI.parse(text.format(host)))


@pytest.mark.parametrize("host", ["a..b", "[1::2::3]", "1.2.3"])
def test_via_host_that_is_no_name_is_a_transport_error_without_dns(host):
    with pytest.raises(TransportError, match="neither an address nor a name"):
        Silent().resolve_response(Via("UDP", host))


@pytest.mark.parametrize(
    "host",
    [
        "a-b.example",
        "my_host",
        "a-.b-.example",
        "3f2a9c1b2d4e",
        "1.example.com.",
        "x" * 63 + ".example",
    ],
)
def test_host_that_networks_have_is_asked_of_dns(host):
    assert ways(StaticResolver({host: [ONE]}), f"sip:{host};transport=udp", "UDP") == [
        f"udp:{ONE}:5060"
    ]


@pytest.mark.rfc("5118 4.10")
@pytest.mark.parametrize(
    "host", ["[2001:db8:::192.0.2.1]", "[2001:db8::192.0.2.1]", "[2001:DB8:0::C000:201]"]
)
def test_three_colons_before_an_ipv4_address_are_two(host):
    assert ways(Silent(), f"sip:bob@{host}", "UDP") == ["udp:[2001:db8::c000:201]:5060"]
    assert URI.parse(f"sip:bob@{host}").equivalent("sip:bob@[2001:db8::192.0.2.1]")


@pytest.mark.rfc("3261 19.1.6")
@pytest.mark.parametrize(
    ("text", "write"),
    [
        ("tel:+1-201-555-0123", "write sip:+1-201-555-0123@HOST;user=phone (RFC 3261 §19.1.6), or "),
        ("tel:7;phone-context=+1", "write sip:7;phone-context=+1@HOST;user=phone (RFC 3261 §19.1.6), or "),
        ("urn:service:sos", ""),
        ("mailto:bob@example.com", ""),
    ],
)  # fmt: skip
def test_uri_without_a_host_has_no_way(text, write):
    with pytest.raises(TransportError) as raised:
        Silent().resolve(URI.parse(text))
    assert str(raised.value) == f"{text} names no host: {write}say by next_hop= where it goes"
    assert raised.value.status == 416


@pytest.mark.rfc("3261 26.2.2")
def test_sips_never_goes_over_udp():
    with pytest.raises(TransportError, match="nothing is secure over UDP"):
        Silent().resolve(URI.parse("sips:192.0.2.1;transport=udp"))


@pytest.mark.parametrize(
    "text", ["sip:192.0.2.1;transport=tcp", "sips:example.com:5061", "sip:example.com;transport=ws"]
)
def test_transport_that_we_have_not_is_an_error_before_anybody_is_asked(text):
    with pytest.raises(TransportError, match="no transport leads to"):
        Silent().resolve(URI.parse(text), ("UDP",))


def test_element_without_udp_takes_tcp():
    assert ways(Silent(), "sip:192.0.2.1", "TCP", "TLS") == ["tcp:192.0.2.1:5060"]


@pytest.mark.rfc("3261 25.1")
def test_hexadecimal_address_is_a_name_and_a_short_one_is_nothing():
    resolver = Recording({"0x7f000001": [ONE]})
    assert ways(resolver, "sip:0x7f000001:5060") == ["udp:192.0.2.1:5060"]
    assert resolver.steps == [["AAAA 0x7f000001", "A 0x7f000001"]]
    with pytest.raises(TransportError):  # toplabel = ALPHA / ALPHA *( alphanum / "-" ) alphanum
        Silent().resolve(URI.parse("sip:127.1:5060"))


# ---- NAPTR, SRV, addresses


EXAMPLE = {  # the example of RFC 3263 §4.1
    "example.com": [
        NAPTR(50, 50, "s", "SIPS+D2T", "", "_sips._tcp.example.com"),
        NAPTR(90, 50, "s", "SIP+D2T", "", "_sip._tcp.example.com"),
        NAPTR(100, 50, "s", "SIP+D2U", "", "_sip._udp.example.com"),
        "192.0.2.99",
    ],
    "_sips._tcp.example.com": [SRV(0, 1, 5061, "server1.example.com")],
    "_sip._tcp.example.com": [
        SRV(0, 1, 5060, "server1.example.com"),
        SRV(1, 2, 5080, "server2.example.com"),
    ],
    "_sip._udp.example.com": [SRV(0, 1, 5060, "server2.example.com")],
    "server1.example.com": [ONE],
    "server2.example.com": [TWO, SIX],
}


@pytest.mark.rfc("3263 4.1")
@pytest.mark.parametrize(
    ("transports", "found"),
    [
        (("UDP", "TCP", "TLS"), ["tls:192.0.2.1:5061"]),
        (("UDP", "TCP"), ["tcp:192.0.2.1:5060", "tcp:[2001:db8::1]:5080", "tcp:192.0.2.2:5080"]),
        (("UDP",), ["udp:[2001:db8::1]:5060", "udp:192.0.2.2:5060"]),
    ],
)
def test_naptr_of_the_lowest_order_that_we_can_use_is_taken(transports, found):
    assert ways(StaticResolver(EXAMPLE), "sip:user@example.com", *transports) == found


@pytest.mark.rfc("3263 4.1")
def test_sips_discards_what_is_not_secure():
    records = EXAMPLE | {
        "example.com": [
            NAPTR(1, 1, "s", "SIP+D2U", "", "_sip._udp.example.com"),
            *EXAMPLE["example.com"],
        ]
    }
    assert ways(StaticResolver(records), "sips:example.com") == ["tls:192.0.2.1:5061"]


@pytest.mark.rfc("3403 4.1")
def test_secure_service_without_addresses_does_not_fall_back_to_clear():
    records = {name: values for name, values in EXAMPLE.items() if name != "_sips._tcp.example.com"}
    with pytest.raises(TransportError, match="SRV _sips._tcp.example.com: no such name"):
        ways(StaticResolver(records), "sip:example.com")


@pytest.mark.rfc("3403 4.1")
def test_rules_of_one_order_are_all_used_by_preference():
    records = {
        "example.com": [
            NAPTR(1, 20, "s", "SIP+D2U", "", "u.example.com"),
            NAPTR(1, 10, "s", "SIP+D2T", "", "t.example.com"),
        ],
        "u.example.com": [SRV(0, 0, 5060, "a.example.com")],
        "t.example.com": [SRV(0, 0, 5070, "a.example.com")],
        "a.example.com": [ONE],
    }
    assert ways(StaticResolver(records), "sip:example.com") == [
        "tcp:192.0.2.1:5070",
        "udp:192.0.2.1:5060",
    ]


@pytest.mark.parametrize(
    "useless",
    [
        NAPTR(1, 1, "u", "E2U+sip", "!^.*$!sip:x@example.com!", "."),
        NAPTR(1, 1, "s", "SIP+D2S", "", "_sip._sctp.example.com"),
        NAPTR(1, 1, "s", "SIPS+D2U", "", "_sips._udp.example.com"),
        NAPTR(1, 1, "s", "SIP+D2U", "!a!b!", "_sip._udp.example.com"),
        NAPTR(1, 1, "s", "SIP+D2U", "", "."),
        NAPTR(1, 1, "", "SIP+D2U", "", "other.example.com"),
    ],
)
def test_naptr_that_is_not_for_us_is_discarded(useless):
    records = {"example.com": [useless], "_sip._udp.example.com": [SRV(0, 0, 5066, ONE)]}
    assert ways(StaticResolver(records), "sip:example.com") == ["udp:192.0.2.1:5066"]


def test_naptr_may_lead_to_a_host():
    records = {
        "example.com": [NAPTR(1, 1, "A", "sip+d2t", "", "a.example.com")],
        "a.example.com": [ONE],
    }
    assert ways(StaticResolver(records), "sip:example.com") == ["tcp:192.0.2.1:5060"]


@pytest.mark.rfc("7118 10.2")
def test_naptr_leads_to_websocket_servers():
    records = {
        "example.com": [NAPTR(1, 1, "s", "SIPS+D2W", "", "_sips._ws.example.com")],
        "_sips._ws.example.com": [SRV(0, 0, 8443, ONE)],
    }
    assert ways(StaticResolver(records), "sips:example.com") == ["wss:192.0.2.1:8443"]


@pytest.mark.rfc("3263 4.1")
def test_without_naptr_all_transports_of_ours_are_looked_for_at_once():
    resolver = Recording(
        {"_sip._tcp.example.com": [SRV(0, 0, 5070, "a.example.com")], "a.example.com": [ONE]}
    )
    assert ways(resolver, "sip:example.com", "UDP", "TCP") == ["tcp:192.0.2.1:5070"]
    assert resolver.steps[:2] == [
        ["NAPTR example.com"],
        ["SRV _sip._udp.example.com", "SRV _sip._tcp.example.com"],
    ]


@pytest.mark.rfc("3263 4.1", "3263 4.2")
@pytest.mark.parametrize(
    ("scheme", "found"), [("sip", "udp:192.0.2.1:5060"), ("sips", "tls:192.0.2.1:5061")]
)
def test_without_srv_the_addresses_of_the_domain_are_taken(scheme, found):
    assert ways(StaticResolver({"example.com": [ONE]}), f"{scheme}:example.com") == [found]


@pytest.mark.rfc("3263 4.2")
def test_port_of_the_uri_asks_for_addresses_only():
    resolver = Recording(EXAMPLE)
    assert ways(resolver, "sip:example.com:5070") == ["udp:192.0.2.99:5070"]
    assert resolver.steps == [["AAAA example.com", "A example.com"]]


@pytest.mark.rfc("3263 4.2")
def test_transport_of_the_uri_asks_for_its_srv_records_only():
    resolver = Recording(EXAMPLE)
    assert ways(resolver, "sip:example.com;transport=udp") == [
        "udp:[2001:db8::1]:5060",
        "udp:192.0.2.2:5060",
    ]
    assert resolver.steps[0] == ["SRV _sip._udp.example.com"]


@pytest.mark.rfc("3263 4.2")
def test_tls_is_looked_for_as_sips():
    assert ways(StaticResolver(EXAMPLE), "sip:example.com;transport=tls") == ["tls:192.0.2.1:5061"]


@pytest.mark.rfc("3263 4")
def test_maddr_is_looked_for_in_place_of_the_host():
    records = {"other.example.com": [ONE]}
    assert ways(StaticResolver(records), "sip:example.com:5070;maddr=other.example.com") == [
        "udp:192.0.2.1:5070"
    ]


@pytest.mark.rfc("2782")
def test_target_of_a_dot_says_that_there_is_no_such_service():
    records = {"_sip._udp.example.com": [SRV(0, 0, 0, ".")], "example.com": [ONE]}
    with pytest.raises(TransportError, match="example.com: the domain offers no such service"):
        ways(StaticResolver(records), "sip:example.com")


@pytest.mark.rfc("5922 7.1")
def test_name_for_the_certificate_is_that_of_the_uri_whatever_dns_says():
    records = {
        "_sips._tcp.example.com": [SRV(0, 0, 5061, "server.evil.example")],
        "server.evil.example": [ONE],
    }
    assert StaticResolver(records).resolve(URI.parse("sips:example.com")) == [
        Candidate("TLS", ONE, 5061, "example.com")
    ]


def test_nothing_found_is_a_transport_error_that_names_each_step():
    with pytest.raises(TransportError) as error:
        ways(StaticResolver({}), "sip:nowhere.invalid", "UDP")
    assert str(error.value) == (
        "nowhere.invalid: no address found: NAPTR nowhere.invalid: no such name; SRV _sip._udp.nowhere.invalid: no such name; "
        "AAAA nowhere.invalid: no such name; A nowhere.invalid: no such name"
    )


@pytest.mark.parametrize("address", ["0.0.0.0", "255.255.255.255", "224.0.1.75", "::", "ff02::1"])
def test_name_never_leads_to_multicast_or_unspecified_addresses(address):
    assert ways(StaticResolver({"example.com": [address, ONE]}), "sip:example.com:5060") == [
        "udp:192.0.2.1:5060"
    ]


# ---- order


@pytest.mark.rfc("2782")
def test_lower_priorities_come_first_whatever_their_weight():
    records = [SRV(20, 65535, 1, "c"), SRV(10, 0, 1, "a"), SRV(15, 1, 1, "b")]
    assert [record.target for record in order_srv(records, random.Random(1).random)] == [
        "a",
        "b",
        "c",
    ]


@pytest.mark.rfc("2782")
@pytest.mark.parametrize(
    "weights", [(1, 2), (10, 20, 70), (1, 1, 1, 1), (0, 0, 0), (60, 20, 20), (1, 65535)]
)
def test_chance_to_come_first_is_that_of_the_weight(weights):
    draw = random.Random(3263).random
    records = [SRV(0, weight, 5060, str(index)) for index, weight in enumerate(weights)]
    first = [0] * len(weights)
    for _ in range(10_000):
        first[int(order_srv(records, draw)[0].target)] += 1
    total = sum(weights)
    expected = [10_000 * (weight / total if total else 1 / len(weights)) for weight in weights]
    chi_square = sum((seen - wanted) ** 2 / wanted for seen, wanted in zip(first, expected))
    # The values that chance exceeds once in a thousand times, by degrees of freedom
    assert chi_square < {1: 10.83, 2: 13.82, 3: 16.27}[len(weights) - 1], first


@pytest.mark.rfc("2782")
def test_order_of_all_is_drawn_by_weight_again_and_again():
    draw = random.Random(7).random
    records = [SRV(0, weight, 5060, str(weight)) for weight in (1, 2, 3)]
    second = [order_srv(records, draw)[1].target for _ in range(10_000)]
    # P(2nd is 3) = 1/6 * 3/5 + 2/6 * 3/4 = 0.35, and so on
    expected = {
        "1": 1 / 6 * 0 + 2 / 6 * 1 / 4 + 3 / 6 * 1 / 3,
        "2": 1 / 6 * 2 / 5 + 3 / 6 * 2 / 3,
        "3": 0.35,
    }
    chi_square = sum(
        (second.count(name) - 10_000 * share) ** 2 / (10_000 * share)
        for name, share in expected.items()
    )
    assert chi_square < 13.82


@pytest.mark.rfc("2782")
def test_weight_of_nothing_comes_behind_all_others():
    draw = random.Random(5).random
    records = [SRV(0, 0, 1, "zero"), SRV(0, 1, 1, "one")]
    assert {order_srv(records, draw)[0].target for _ in range(1000)} == {"one"}


@pytest.mark.rfc("8305 4")
@pytest.mark.parametrize(
    ("six", "four", "together"),
    [
        ("ABC", "xyz", "AxByCz"),
        ("A", "xyz", "Axyz"),
        ("ABC", "x", "AxBC"),
        ("", "xy", "xy"),
        ("AB", "", "AB"),
    ],
)
def test_addresses_of_both_versions_take_turns(six, four, together):
    assert "".join(interleave(list(six), list(four))) == together


# ---- bounds


def walk(steps, answer):
    """Drive a selection, each question answered by a function; return the candidates and the questions."""
    asked = []
    try:
        questions = next(steps)
        while True:
            asked += questions
            questions = steps.send(tuple(answer(question) for question in questions))
    except StopIteration as done:
        return done.value, asked


def test_flood_of_records_is_cut_and_not_refused():
    def flood(question):
        if question.kind == "SRV":
            return Answer(tuple(SRV(n, 0, 5060, f"{n}.example.com") for n in range(500)))
        if question.kind == "NAPTR":
            return Answer(
                tuple(NAPTR(1, n, "s", "SIP+D2U", "", f"{n}.example.org") for n in range(500))
            )
        return Answer(
            tuple(f"10.{question.name[0]}.{n // 250}.{n % 250}" for n in range(500))
            if question.kind == "A"
            else ()
        )

    found, asked = walk(select(URI.parse("sip:example.com")), flood)
    assert len(found) == CANDIDATES
    assert sum(question.kind == "SRV" for question in asked) == RULES
    assert sum(question.kind == "A" for question in asked) == SRV_TARGETS


NAMES = st.sampled_from(
    ["example.com", "a.example.com", "b.example.com", "_sip._udp.example.com", ".", "", "192.0.2.5"]
)
NUMBERS = st.integers(0, 65535)
RECORDS_OF = {
    "NAPTR": st.builds(
        NAPTR, NUMBERS, NUMBERS, st.sampled_from(["s", "S", "a", "u", "", "x"]),
        st.sampled_from([*SERVICES, "sip+d2u", "E2U+sip", "SIP+D2S", ""]), st.sampled_from(["", "!a!b!"]), NAMES,
    ),
    "SRV": st.builds(SRV, NUMBERS, NUMBERS, NUMBERS, NAMES),
    "A": st.ip_addresses(v=4).map(str),
    "AAAA": st.ip_addresses(v=6).map(str),
}  # fmt: skip


@pytest.mark.rfc("3263 4.1")
@given(
    uri=st.sampled_from(
        [
            "sip:example.com",
            "sips:example.com",
            "sip:example.com:5070",
            "sips:example.com;transport=tcp",
        ]
    ),
    ours=st.sets(st.sampled_from(sorted(SERVICES.values()))),
    data=st.data(),
)
def test_candidates_of_any_records_are_bounded_ours_and_secure_if_needed(uri, ours, data):
    def answer(question):
        return Answer(tuple(data.draw(st.lists(RECORDS_OF[question.kind], max_size=4))))

    try:
        found, asked = walk(select(URI.parse(uri), ours, random.Random(1).random), answer)
    except TransportError:
        return
    allowed = {"TLS", "WSS"} if uri.startswith("sips") else ours
    assert {way.transport for way in found} <= ours & allowed
    assert all(way.port for way in found)
    assert 0 < len(found) <= CANDIDATES and len(set(found)) == len(found) and len(asked) < 64


@pytest.mark.parametrize("records", [{"a": ["nonsense"]}, {"a": ["a.example.com"]}])
def test_static_resolver_takes_addresses_and_records_only(records):
    with pytest.raises(InvalidValue, match="must be a numeric address"):
        StaticResolver(records)


def test_dns_records_reach_logs_without_control_characters():
    assert str(Answer((NAPTR(1, 1, "\x1b[31m", "", "", "x"),))).isprintable()


# ---- responses


@pytest.mark.rfc("3263 5")
@pytest.mark.parametrize(
    ("via", "found"),
    [
        ("SIP/2.0/UDP 192.0.2.9:5070;branch=z9hG4bKx", ["udp:192.0.2.9:5070"]),
        ("SIP/2.0/TLS 192.0.2.9;branch=z9hG4bKx", ["tls:192.0.2.9:5061"]),
        ("SIP/2.0/UDP server1.example.com:5070;branch=z9hG4bKx", ["udp:192.0.2.1:5070"]),
        (
            "SIP/2.0/TCP example.com;branch=z9hG4bKx",
            ["tcp:192.0.2.1:5060", "tcp:[2001:db8::1]:5080", "tcp:192.0.2.2:5080"],
        ),
        ("SIP/2.0/TCP server1.example.com;branch=z9hG4bKx", ["tcp:192.0.2.1:5060"]),
    ],
)
def test_response_goes_to_the_sent_by(via, found):
    assert [str(way) for way in StaticResolver(EXAMPLE).resolve_response(Via.parse(via))] == found


def test_response_asks_for_the_records_of_its_transport():
    _, asked = walk(
        select_for_response(Via.parse("SIP/2.0/TLS example.com;branch=z9hG4bKx")),
        lambda question: Answer((ONE,) if question.kind == "A" else ()),
    )
    assert asked[0] == Question("_sips._tcp.example.com", "SRV")
