"""SIPp scenarios of the shared corpus against user agents of ours: those that fit, and why others do not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conformance.corpus import FOLDER, require

from ..ports import free_port
from .test_sipp import wait_until_taken

pytest_plugins = ["tests.programs"]


require()

CORES = Path(__file__).parent / "corpus_cores.py"

SERVED = {
    # a stack of corpus_cores.py, and the scenarios that call it
    "answers": """
        drachtio-server/uac-drop-one-200 drachtio-server/uac-outbound-3031
        drachtio-server/uac-preloaded-route drachtio-server/uac-refresh
        drachtio-server/uac-session-expires-no-refresher-default drachtio-server/uac-utf8
        drachtio-server/uac drachtio-srf/uac-nosdp pjsip/uac-183-wrong-codec
        pjsip/uac-183-wrong-media pjsip/uac-bad-ack pjsip/uac-inv-multiple-require
        pjsip/uac-reinvite-port-0-bad-sdp pjsip/uac-ticket-1866-reinv-after-failed-nego
        saghul/sipp_uac_anonymous saghul/sipp_uac_dir_inactive saghul/sipp_uac_diversions
        saghul/sipp_uac_empty_subject saghul/sipp_uac_ice_without_rtcp saghul/sipp_uac_late_offer
        saghul/sipp_uac_no_c_line_multiple_streams saghul/sipp_uac_no_rtpmap
        saghul/sipp_uac_no_session_c_line saghul/sipp_uac_wrong_format_type siphon-rs/info
        siphon-rs/invite siphon-rs/invite_bye_ipv6 siphon-rs/invite_multi_codec
        siphon-rs/max_forwards_decrement siphon-rs/max_forwards_edge_case siphon-rs/route_bye
        siphon-rs/session_timer siphon-rs/session_timer_refresh siphon-rs/update upstream/docs/uac
        upstream/regress/github-0238/uac""",
    "hangs_up": "drachtio-srf/uac-send-reinvite-no-sdp",
    "rings": """
        drachtio-server/uac-notify-during-call-setup drachtio-srf/uac-cancel
        drachtio-srf/uac-drop-200-then-cancel""",
    "refuses404": "drachtio-srf/uac-expect-404 upstream/regress/github-0458/uac",
    "refuses480": "drachtio-srf/uac-expect-480 drachtio-server/uac-outbound-3033-expect-480",
    "refuses503": "drachtio-srf/uac-expect-503 drachtio-server/uac-drop-one-503",
    "refuses603": """
        drachtio-srf/uac-spammer-expect-603 drachtio-server/uac-spammer-expect-603
        drachtio-server/uac-spammer-ack-crash""",
}

CALLED = {
    # a scenario, how it is called, and what comes of it
    "drachtio-server/uas-slow-response": ("hangs", "call bye by us"),
    "drachtio-srf/uas-302": ("hangs", "refused 302"),
    "drachtio-srf/uas-404": ("hangs", "refused 404"),
    "drachtio-srf/uas-prack": ("hangs", "call bye by us"),
    "pjsip/uas-answer-200-inv-without-sdp": ("asks", "call bye by us"),
    "pjsip/uas-inv-answered-with-srtp": ("hangs", "call bye by us"),
    "pjsip/uas-template": ("hangs", "refused 301"),
    "saghul/sipp_uas_200_multiple_streams": ("hangs", "call bye by us"),
    "saghul/sipp_uas_200_no_sdp": ("asks", "call bye by us"),
    "saghul/sipp_uas_basic": ("hangs", "call bye by us"),
    "saghul/sipp_uas_big_start_time": ("hangs", "call bye by us"),
    "saghul/sipp_uas_malformed_400": ("hangs", "refused 400"),
    "saghul/sipp_uas_no_180": ("hangs", "call bye by us"),
    "upstream/docs/uas": ("hangs", "call bye by us"),
    "upstream/regress/github-0262/uas": ("hangs", "call bye by peer"),
    "upstream/regress/github-0458/uas": ("hangs", "refused 404"),
}

NOT_OURS = {
    # scenarios that cannot pass against a UA that keeps to the RFCs, or whose peer needs more
    "drachtio-server/uac-update-during-invite": "its UPDATE offers before a reliable answer, which is 500 (RFC 3311 §5.2)",
    "drachtio-server/uac-reinvite-bye-race": "insists on a 100 to its re-INVITE, which is answered at once",
    "drachtio-server/uac-forking": "two INVITEs with one Call-ID and From tag; wants a proxy",
    "drachtio-server/uac_blue": "wants an X-Color of its application; so do green and orange",
    "drachtio-server/uac-long-sdp": "offers codecs that no stream of ours has: 488",
    "drachtio-srf/uac-expect-400-no-contact-header": "its application refuses what the core of this test does not",
    "etsi-named/sip_cc_te_ce_v_022": "a Content-Length of 170 with an empty body: 400 (RFC 3261 §18.3)",
    "freeswitch/uac_savp_check": "offers SRTP alone: 488",
    "pjsip/alt-pjsua-uas-custom-sdp": "wants the SDP of one application",
    "pjsip/uac-srtp-dtls": "offers SRTP alone: 488; so do the other uac-srtp scenarios",
    "pjsip/uac-upd-sdp-offer": "its BYE has a CSeq below that of its UPDATE: 500 (RFC 3261 §12.2.2)",
    "saghul/sipp_uac_bogus_sdp": "a Content-Length one byte above its body: 400 (RFC 3261 §18.3)",
    "saghul/sipp_uac_broken_sdp": "an SDP with an empty version: 400",
    "saghul/sipp_uac_invite_no_sdp": "its ACK has no answer to our offer: BYE (RFC 3261 §13.2.1)",
    "siphon-rs/cancel": "its CANCEL has another branch than its INVITE: 481 (RFC 3261 §9.1)",
    "siphon-rs/update_out_of_dialog": "an UPDATE without a To tag to a core without one: 405",
    "upstream/regress/github-0262/uac": "an empty Request-URI in its BYE: 400",
    "upstream/regress/github-0862/uac": "an empty Request-URI in its BYE: 400",
    "etsi-named/sip_cc_oe_ce_v_018": "an empty port in its BYE's Request-URI: 400",
}


def path_of(scenario):
    return FOLDER / f"sipp-{scenario}.xml"


def test_each_scenario_of_the_tables_is_in_the_corpus():
    scenarios = [*" ".join(SERVED.values()).split(), *CALLED, *NOT_OURS]
    assert [each for each in scenarios if not path_of(each).is_file()] == []
    assert len(set(scenarios)) == len(scenarios)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("core", SERVED)
def test_scenarios_that_call_us_succeed(need, run, serve, core):
    need("sipp")
    server = serve(f"{CORES}:{core}")
    to = server.uri.removeprefix("sip:")

    def start(scenario):
        return run(
            "sipp", "-sf", path_of(scenario), to, "-i", "127.0.0.1", "-bind_local",
            "-p", free_port(), "-nostdin", "-m", "1", "-s", "bob",
        )  # fmt: skip

    started = {scenario: start(scenario) for scenario in SERVED[core].split()}
    failed = [scenario for scenario, sipp in started.items() if sipp.wait(60)]
    # some scenarios wait for milliseconds only, which a busy machine misses with all at once
    assert [scenario for scenario in failed if start(scenario).wait(60)] == []
    assert "ERROR" not in server.text


@pytest.mark.timeout(60)
@pytest.mark.parametrize("scenario", CALLED)
def test_scenario_that_we_call_succeeds(need, run, scenario):
    need("sipp")
    way, outcome = CALLED[scenario]
    port = free_port()
    program = run(
        "sipp", "-sf", path_of(scenario), "-i", "127.0.0.1", "-bind_local",
        "-p", port, "-nostdin", "-m", "1",
    )  # fmt: skip
    wait_until_taken(port)
    caller = run(sys.executable, CORES, f"sip:bob@127.0.0.1:{port}", way)
    caller.wait_for(f"(?m)^{outcome}")
    assert program.wait(20) == 0
