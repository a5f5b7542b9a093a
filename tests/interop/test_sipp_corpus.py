"""SIPp scenarios of the shared corpus against user agents of ours: those that fit, and why others do not."""

from __future__ import annotations

import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.conformance.corpus import FOLDER, require

from ..ports import free_port
from ..programs import Program
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
        upstream/regress/github-0238/uac drachtio-server/uac-outbound-3032
        drachtio-server/uac-outbound-3034 drachtio-server/uac-options-expect-200
        pjsip/uac-options siphon-rs/options
        asterisk/acl_call/sipp/testsip1-success
        asterisk/acl_call/sipp/testsip2-success
        asterisk/acl_call/sipp/testsip3-success
        asterisk/acl_call/sipp/testsip5-success
        asterisk/basic_calls/incoming/nominal/unauthed/ident_by_anonymous/sipp/anonymous_invite
        asterisk/basic_calls/incoming/nominal/unauthed/ident_by_user/sipp/echo_with_deferred_sdp
        asterisk/basic_calls/incoming/nominal/unauthed/ident_by_user/sipp/echo_with_initial_sdp
        asterisk/basic_calls/incoming/nominal/unauthed/ident_by_user_drop_options/sipp/echo_with_deferred_sdp
        asterisk/basic_calls/incoming/nominal/unauthed/ident_by_user_drop_options/sipp/echo_with_initial_sdp
        asterisk/dialplan_functions/pjsip_notify/sipp/alice_3434
        asterisk/history_info/history_info_request/sipp/user1
        asterisk/incoming_calls_without_auth/sipp/echo_with_deferred_sdp
        asterisk/incoming_calls_without_auth/sipp/echo_with_initial_sdp
        asterisk/incoming_calls_without_auth/sipp/playback_with_deferred_sdp
        asterisk/incoming_calls_without_auth/sipp/playback_with_initial_sdp
        asterisk/basic_calls/incoming/off-nominal/bare_ack/sipp/uac-bare-ack
        by-example/Active-Media/uac-active drachtio-srf/uac-expect-400-no-contact-header
        etsi-named/sip_cc_te_ce_i_002 etsi-named/sip_cc_te_ce_v_033 saghul/sipp_uac_deprecated_hold
        saghul/sipp_uac_empty_reinvite saghul/sipp_uac_hold saghul/sipp_uac_pcap_g711a_csv
        siphon-rs/proxy_invite_bye upstream/docs/uac_pcap
        upstream/regress/github-0018/notify-brackets upstream/regress/github-0034/notify-1234
        upstream/regress/github-0034/notify-manylf upstream/regress/github-0034/notify-nocrlf
        upstream/regress/github-0034/notify-withlf upstream/regress/github-0207/uac
        upstream/regress/github-0337/reply488
        asterisk/basic_calls/two_parties/nominal/add_remove_sources/sipp/alice
        asterisk/basic_calls/two_parties/nominal/video_bidirectional_to_unidirectional/sipp/alice
        asterisk/basic_calls/two_parties/nominal/video_unidirectional_to_bidirectional/sipp/alice
        asterisk/identify/request_uri/sipp/nominal""",
    "guarded": """
        asterisk/acl_call/sipp/testsip1-failure asterisk/acl_call/sipp/testsip2-failure
        asterisk/acl_call/sipp/testsip3-failure asterisk/acl_call/sipp/testsip4-failure
        asterisk/acl_call/sipp/testsip5-failure
        asterisk/basic_calls/incoming/nominal/authed/md5/ident_by_header/sipp/echo_with_deferred_sdp
        asterisk/basic_calls/incoming/nominal/authed/md5/ident_by_header/sipp/echo_with_initial_sdp
        asterisk/basic_calls/incoming/nominal/authed/md5/ident_by_user/sipp/echo_with_deferred_sdp
        asterisk/basic_calls/incoming/nominal/authed/md5/ident_by_user_drop_options/sipp/echo_with_deferred_sdp
        asterisk/basic_calls/incoming/nominal/authed/md5/ident_by_user_drop_options/sipp/echo_with_initial_sdp
        asterisk/basic_calls/incoming/off-nominal/unknown_user/sipp/uac-unknown-endpoint
        asterisk/identify/port_matching/port/sipp/off_nominal
        asterisk/identify/request_uri/sipp/off-nominal asterisk/identify/transport/sipp/off-nominal
        asterisk/incoming_calls_without_auth/sipp/unknown_source""",
    "guarded_hangs_up": """
        asterisk/basic_calls/incoming/nominal/authed/md5/ident_by_header/sipp/playback_with_deferred_sdp
        asterisk/basic_calls/incoming/nominal/authed/md5/ident_by_header/sipp/playback_with_initial_sdp
        asterisk/basic_calls/incoming/nominal/authed/md5/ident_by_user/sipp/playback_with_deferred_sdp
        asterisk/basic_calls/incoming/nominal/authed/md5/ident_by_user/sipp/playback_with_initial_sdp
        asterisk/basic_calls/incoming/nominal/authed/md5/ident_by_user_drop_options/sipp/playback_with_deferred_sdp
        asterisk/basic_calls/incoming/nominal/authed/md5/ident_by_user_drop_options/sipp/playback_with_initial_sdp""",
    "refreshes": """
        asterisk/dialplan_functions/pjsip_session_refresh/sipp/uac-reinvite
        asterisk/dialplan_functions/pjsip_session_refresh/sipp/uac-rejected""",
    "updates": "asterisk/dialplan_functions/pjsip_session_refresh/sipp/uac-update",
    "hangs_up_after_a_ring": "asterisk/rel100/incoming/peer_supported_not_used/sipp/check_100rel",
    "registers": """
        asterisk/dialplan_functions/chan_is_avail/sipp/register
        asterisk/registration/inbound/nominal/contact_acl/ipv4/sipp/register-noauth-permitted
        asterisk/subscriptions/mwi/unsolicited/mailbox_count_changes/sipp/alice-registers
        asterisk/subscriptions/mwi/unsolicited/notify_after_register/sipp/register_and_quit_two
        asterisk/subscriptions/presence/presence_pidf/sipp/alice-registers
        asterisk/transport/reuse/invite/sipp/register""",
    "registers_none": """
        asterisk/registration/inbound/off-nominal/no_contact_header/sipp/register-noauth-no-contact-header""",
    "guards_registers": """
        asterisk/auth/uas/auth_security_events/sipp/register_pass
        saghul/sipp_uac_register_pns_non-push saghul/sipp_uac_register_pns_non-push_fc
        saghul/sipp_uac_register_pns_push saghul/sipp_uac_register_quick""",
    "accepts_messages": """
        asterisk/message/message_basic_drop_options/sipp/message
        asterisk/message/message_context/sipp/message
        asterisk/message/message_cust_hdr/sipp/message""",
    "echoes": """
        drachtio-server/uac_blue drachtio-server/uac_green drachtio-server/uac_orange
        drachtio-server/uac-long-sdp drachtio-server/uac-long-uri drachtio-srf/uac-success-green
        pjsip/alt-pjsua-uas-amr-sdp pjsip/alt-pjsua-uas-custom-sdp pjsip/uac-srtp-dtls
        pjsip/uac-srtp-dtls-lower-prio pjsip/uac-srtp-dtls-reinv-sdes
        pjsip/uac-srtp-sdes-reinv-dtls pjsip/uac-srtp-sdes-reinv-hold saghul/sipp_uac_audio_video
        saghul/sipp_uac_broken_sdp upstream/docs/regexp""",
    "messages": """
        asterisk/message/message_retrans/sipp/message_retrans drachtio-server/uac-long-message
        saghul/sipp_uac_bad_message siphon-rs/message""",
    "subscriptions": """
        pjsip/uac-subscribe saghul/sipp_uac_subscribe_mwi_bogus_from
        saghul/sipp_uac_subscribe_presence saghul/sipp_uac_subscribe_presence_poll
        saghul/sipp_uac_subscribe_presence_refresh siphon-rs/subscribe_lifecycle
        siphon-rs/subscribe_notify
        asterisk/subscriptions/large_number_of_accept_headers/sipp/subscribe
        asterisk/subscriptions/mwi/sub_setup_teardown/sipp/mwi_subscription
        asterisk/subscriptions/mwi/sub_setup_teardown_drop_options/sipp/mwi_subscription
        asterisk/subscriptions/presence/devstate_repeat/sipp/subscribe
        asterisk/subscriptions/presence/presencestate_repeat/sipp/subscribe
        asterisk/subscriptions/presence/unsubscribe/sipp/alice-subscribes
        asterisk/subscriptions/rls/lists_of_lists/off_nominal/mwi/resource_duplication/sipp/list_subscribe
        asterisk/subscriptions/rls/lists_of_lists/off_nominal/presence/resource_duplication/sipp/list_subscribe
        asterisk/subscriptions/unknown_event_package/sipp/subscribe""",
    "never_acknowledged": "drachtio-server/uac-drop-all-200 drachtio-srf/uac-drop-all-200",
    "follows": "pjsip/transfer-attended pjsip/uac-norefersub",
    "hangs_up": """
        drachtio-server/uac-session-expires drachtio-srf/uac-send-reinvite-no-sdp
        pjsip/uac-inv-without-sdp upstream/regress/github-0192/uac
        upstream/regress/github-0259/uac upstream/regress/github-0262/uac
        upstream/regress/github-0862/uac
        asterisk/basic_calls/incoming/nominal/unauthed/ident_by_user/sipp/playback_with_deferred_sdp
        asterisk/basic_calls/incoming/nominal/unauthed/ident_by_user/sipp/playback_with_initial_sdp
        asterisk/basic_calls/incoming/nominal/unauthed/ident_by_user_drop_options/sipp/playback_with_deferred_sdp
        asterisk/basic_calls/incoming/nominal/unauthed/ident_by_user_drop_options/sipp/playback_with_initial_sdp
        asterisk/dialplan_functions/pjsip_hangup/sipp/invite-expects-200-then-bye
        asterisk/stir_shaken/stir_shaken_acl_fail/sipp/invite
        asterisk/stir_shaken/stir_shaken_anon_callerid/sipp/invite""",
    "previews": "drachtio-server/uac-cancel",
    "rings": """
        drachtio-server/uac-notify-during-call-setup
        drachtio-srf/uac-cancel
        drachtio-srf/uac-drop-200-then-cancel""",
    "refuses404": """
        drachtio-srf/uac-expect-404 upstream/regress/github-0458/uac
        asterisk/basic_calls/incoming/off-nominal/invalid_number/sipp/inbound_to_asterisk
        asterisk/incoming_calls_without_auth/sipp/unknown_destination""",
    "refuses480": """
        drachtio-srf/uac-expect-480 drachtio-server/uac-outbound-3033-expect-480
        drachtio-server/uac-no-ack""",
    "refuses486": "drachtio-server/uac-expect-486",
    "refuses503": "drachtio-srf/uac-expect-503 drachtio-server/uac-drop-one-503",
    "refuses603": """
        drachtio-srf/uac-spammer-expect-603 drachtio-server/uac-spammer-expect-603
        drachtio-server/uac-spammer-ack-crash""",
}

CALLED = {
    # a scenario, how it is called, and what comes of it
    "drachtio-server/uas-ackbye": ("cancels", "refused 408"),
    "drachtio-server/uas-cancel": ("cancels", "refused 408"),
    "drachtio-server/uas-drop-one-200": ("stays", "call bye by us"),
    "drachtio-srf/uas-auth": ("knows", "call bye by us"),
    "drachtio-srf/uas-refer": ("hangs", "call bye by us"),
    "drachtio-srf/uas-cancel": ("cancels", "refused 408"),
    "pjsip/strict-route": ("knows", "call bye by us"),
    "pjsip/uas-answer-183-wrong-attr": ("cancels", "refused 408"),
    "pjsip/uas-answer-183-wrong-media": ("cancels", "refused 408"),
    "pjsip/uas-inv_401_retry_after_100": ("knows", "refused 500"),
    "saghul/sipp_uas_reinvite_481": ("reinvites", "refused within the call 481"),
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
    "drachtio-server/uas-183-recv-update": ("is patient", "call bye by us"),
    "drachtio-server/uas-fail-480": ("hangs", "refused 480"),
    "drachtio-server/uas-handle-5-registers": ("registers", "registered 200"),
    "drachtio-server/uas-options-delay": ("asks for options", "answered 200"),
    "saghul/sipp_uas_delayed_answer": ("hangs", "call bye by us"),
    "saghul/sipp_uas_multiple_codecs": ("lingers", "call bye by us"),
    "saghul/sipp_uas_pcap_g711a_leaky_media": ("lingers", "call bye by us"),
    "upstream/regress/github-0259/uas": ("waits", "call bye by peer"),
    "pjsip/uas-422-then-200-bad-se": ("lingers", "call bye by us"),
    "pjsip/uas-answer-200-update-without-sdp": ("updates and lingers", "call bye by us"),
    "pjsip/uas-auth-two-algo": ("registers", "registered 200"),
    "pjsip/uas-subscribe-notify-terminate": ("subscribes", "subscription terminated"),
    "pjsip/uas-subscribe-refresh-481": ("subscribes", "notified presence"),
    "pjsip/uas-subscribe-terminated-retry": ("subscribes", "subscription terminated"),
    "upstream/regress/github-0207/uas": ("asks for options", "answered 200"),
    "upstream/sipp_scenarios/mcd_register": ("registers", "registered 200"),
    "asterisk/subscriptions/mwi/unsolicited/initial_notify/sipp/initial_notify": (
        "notifies",
        "answered 200",
    ),
    "asterisk/subscriptions/mwi/unsolicited/notify_after_register/sipp/receive_notify": (
        "notifies",
        "answered 200",
    ),
    "asterisk/message/message_no_redirect_method/sipp/no_redirect_305": (
        "sends a message",
        "answered 305",
    ),
    "asterisk/resolver/srv/failover/out_of_dialog/transport_tcp/sipp/uas-503": (
        "sends a message",
        "answered 503",
    ),
    "etsi-named/sip_cc_oe_cr_ti_002": ("hangs", "refused 502"),
    "etsi-named/sip_cc_oe_cr_ti_006": ("hangs", "refused 502"),
    "etsi-named/sip_mg_rt_v_008": ("registers", "registered 200"),
    "upstream/regress/github-0192/uas": ("waits", "call bye by peer"),
    "asterisk/basic_calls/outgoing/nominal/dialstring/sipp/uas": ("waits", "call bye by peer"),
    "asterisk/basic_calls/outgoing/off-nominal/bob_does_not_answer/sipp/receive": (
        "cancels",
        "refused 408",
    ),
    "asterisk/basic_calls/outgoing/off-nominal/bob_incompatible_codecs/sipp/receive": (
        "hangs",
        "call bye by us",
    ),
    "asterisk/basic_calls/outgoing/off-nominal/bob_is_busy/sipp/receive-ipv4-tcp": (
        "hangs",
        "refused 486",
    ),
    "asterisk/basic_calls/outgoing/off-nominal/call_canceled/sipp/call_cancel_invalid_sdp": (
        "hangs",
        "refused 408",
    ),
    "asterisk/basic_calls/outgoing/off-nominal/call_canceled/sipp/call_cancel_missing_sdp": (
        "hangs",
        "refused 408",
    ),
    "asterisk/basic_calls/outgoing/off-nominal/call_canceled/sipp/call_cancel_valid_sdp": (
        "hangs",
        "refused 408",
    ),
    "asterisk/basic_calls/outgoing/off-nominal/call_canceled/sipp/call_invalid_sdp": (
        "hangs",
        "call bye by us",
    ),
    "asterisk/basic_calls/outgoing/off-nominal/call_canceled/sipp/call_missing_sdp": (
        "hangs",
        "refused 502",
    ),
    "asterisk/basic_calls/two_parties/off-nominal/authed/bob_rejects/sipp/bob": (
        "knows",
        "refused 403",
    ),
    "asterisk/history_info/diversion_response_181/sipp/user2": ("hangs", "call bye by us"),
    "asterisk/history_info/history_info_response_181/sipp/user2": ("hangs", "call bye by us"),
    "asterisk/history_info/no_diversion_response_181/sipp/user2": ("hangs", "call bye by us"),
    "asterisk/rel100/outgoing/peer_supported_not_used/sipp/check_100rel": (
        "waits",
        "call bye by peer",
    ),
    "asterisk/resolver/a/sipp/uas": ("waits", "call bye by peer"),
    "asterisk/resolver/srv/failover/in_dialog/timeout/sipp/uas-ignore": (
        "waits",
        "call bye by peer",
    ),
    "asterisk/resolver/srv/failover/in_dialog/transport_udp/sipp/uas-503": ("hangs", "refused 503"),
}

NOT_OURS = {
    # scenarios that cannot pass against a UA that keeps to the RFCs, or whose peer needs more
    "drachtio-server/uac-update-during-invite": "its UPDATE offers before a reliable answer, which is 500 (RFC 3311 §5.2)",
    "drachtio-server/uac-reinvite-bye-race": "insists on a 100 to its re-INVITE, which is answered at once",
    "drachtio-server/uac-forking": "two INVITEs with one Call-ID and From tag; wants a proxy",
    "etsi-named/sip_cc_te_ce_v_022": "a Content-Length of 170 with an empty body: 400 (RFC 3261 §18.3)",
    "etsi-named/sip_cc_oe_ce_v_038": "a second final response, which meets our ACK of the first one",
    "pjsip/uac-upd-sdp-offer": "its BYE has a CSeq below that of its UPDATE: 500 (RFC 3261 §12.2.2)",
    "saghul/sipp_uac_bogus_sdp": "a Content-Length one byte above its body: 400 (RFC 3261 §18.3)",
    "saghul/sipp_uac_invite_no_sdp": "its ACK has no answer to our offer: BYE (RFC 3261 §13.2.1)",
    "siphon-rs/cancel": "its CANCEL has another branch than its INVITE: 481 (RFC 3261 §9.1)",
    "siphon-rs/update_out_of_dialog": "an UPDATE without a To tag to a core without one: 405",
    "etsi-named/sip_cc_oe_ce_v_018": "an empty port in its BYE's Request-URI: 400",
}


OTHERS = {
    # the rest, by patterns of names: the first one that fits says why a scenario is not played here
    "asterisk/registration/outbound/interval_too_brief/*": "waits for the retries of a lasting registration after its 423",
    "asterisk/registration/outbound/line_parameter/*": "calls back by a parameter of its server's Contact",
    "asterisk/registration/outbound/unregister/*": "waits for the REGISTER that ends a lasting registration",
    "asterisk/registration/outbound/*": "insists on the user and the realm of a configuration file in the credentials",
    "asterisk/registration/inbound/nominal/unregister/*": "its second REGISTER has the CSeq of the first: 482 (RFC 3261 §8.2.2.2)",
    "asterisk/registration/inbound/off-nominal/unregister/*": "its second REGISTER has the CSeq of the first: 482 (RFC 3261 §8.2.2.2)",
    "asterisk/registration/inbound/off-nominal/wrong_password/*": "registers with a wrong password, which SIPp gets from its test suite",
    "asterisk/registration/inbound/nominal/single_contact/*": "insists on the ports of its test suite, and on 30 s where a REGISTER names no time",
    "asterisk/registration/inbound/nominal/multiple_contacts/*": "wants bindings of 10 s: 423, as ours last 60 s at least (RFC 3261 §10.2.8)",
    "asterisk/registration/inbound/nominal/mixed/*": "wants bindings of 10 s: 423, as ours last 60 s at least (RFC 3261 §10.2.8)",
    "asterisk/registration/inbound/off-nominal/max_contacts/*": "wants bindings of 10 s: 423, as ours last 60 s at least (RFC 3261 §10.2.8)",
    "asterisk/registration/inbound/nominal/contact_acl/*": "wants 403 for the address of a Contact, from a list in a configuration file",
    "asterisk/registration/*": "insists on the seconds and the number of Contacts of a configuration file",
    "asterisk/subscriptions/mwi/unsolicited/incoming/*": "a NOTIFY outside subscriptions to a core that serves none: 405",
    "asterisk/subscriptions/mwi/*": "insists on the numbers of messages that its server counts in mailboxes",
    "asterisk/subscriptions/presence/*": "insists on the presence documents of its server, one after the other",
    "asterisk/subscriptions/rls/*": "waits for the lists of resources of a configuration file (RFC 4662)",
    "asterisk/subscriptions/*": "wants its subscription refused, by a limit or a permission of a configuration file",
    "asterisk/publish/*": "waits for the PUBLISHs of its server",
    "asterisk/message/message_confbridge/*": "talks with another SIPp through a conference of its server",
    "asterisk/message/message_redirect_multiple/sipp/no_message_expected": "wants 401 to its OPTIONS, and then silence",
    "asterisk/message/message_no_redirect_method/*": "wants 401 to its OPTIONS, and then silence",
    "asterisk/message/message_redirect_multiple/*": "insists on the MESSAGE text of its test suite, and on the order of three redirects",
    "asterisk/message/*": "insists on a header field or the From that its dial plan writes into a MESSAGE",
    "asterisk/transfers/*": "one of several phones around a server with a dial plan; they wait for each other",
    "asterisk/auth/uac/*": "challenges with realms whose passwords its server has in a configuration file",
    "asterisk/auth/uas/*": "registers with a wrong password, which SIPp gets from its test suite",
    "asterisk/basic_calls/incoming/off-nominal/incompatible_codecs/*": "wants 488 to codecs that our stream has",
    "asterisk/basic_calls/incoming/off-nominal/md5/*": "reads its wrong passwords from a file that the corpus does not have",
    "asterisk/basic_calls/incoming/off-nominal/userpass/*": "calls with a wrong password, which SIPp gets from its test suite",
    "asterisk/basic_calls/outgoing/nominal/*": "insists on the user that its dial plan calls or names in From",
    "asterisk/basic_calls/two_parties/nominal/direct_media/*": "waits for the requests by which its server moves the media to the other phone",
    "asterisk/basic_calls/two_parties/*/alice": "wants 503 where its server has been refused by the other phone",
    "asterisk/basic_calls/two_parties/*": "waits for the re-INVITEs that its server passes on from the other phone",
    "asterisk/dialplan_functions/pjsip_aor/*": "waits for what the dial plan does with its binding",
    "asterisk/dialplan_functions/pjsip_dtmfmode/*": "insists on an answer without telephone-event, and on digits by INFO",
    "asterisk/dialplan_functions/pjsip_hangup/*": "insists on a 183 and then on the status that its dial plan chooses",
    "asterisk/dialplan_functions/pjsip_notify/*": "waits for a NOTIFY of its dial plan, of an event that it has not subscribed to",
    "asterisk/headers/no_contact/*": "wants 400 to methods that the core does not serve: 405 comes first (RFC 3261 §8.2.1)",
    "asterisk/history_info/*": "waits for the 181 of a server that diverts its call",
    "asterisk/incoming_calls_without_auth/*": "wants 488 to codecs that our stream has",
    "asterisk/nat/*": "wants its Contact and routes replaced by its source, but they hold (RFC 3261 §12.1.1)",
    "asterisk/stir_shaken/*": "insists on the Reason of a server that checks identities (RFC 8224)",
    "asterisk/transport/symmetric/notify/*": "insists on port 5066 in the Via, and on the mailbox of a configuration file",
    "asterisk/transport/*": "insists on port 5066 in the Via, where its server listens",
    "drachtio-server/uac-register*": "wants the registrar and the presence server of its application",
    "by-example/Active-Media/*": "plays a file of sound that the corpus does not have",
    "by-example/Call-pickup-3pcc/*": "waits for another SIPp",
    "by-example/reINVITE-PAI/uac": "its BYE has the CSeq of its re-INVITE: 500 (RFC 3261 §12.2.2)",
    "by-example/reINVITE-PAI/uas": "SIPp cannot read it: an element is not closed",
    "drachtio-server/uas-bad-bye": "wants 481 to the BYE that it sends while it rings; it gets 200 (RFC 3261 §15.1.2)",
    "pjsip/uas-auth": "its challenge has an algorithm that no RFC names",
    "pjsip/uas-reinv-and-ack-without-sdp": "its ACK has no answer to our offer: BYE (RFC 3261 §13.2.1)",
    "pjsip/uas-reinv-no-media": "wants 488 to an offer whose one stream has port 0, which we accept (RFC 3264 §8.2)",
    "pjsip/uas-reinv-*": "waits for re-INVITEs or UPDATEs of one application, and for no BYE",
    "saghul/sipp_uac_pcap_h264": "a Request-URI that cannot be read: 400",
    "saghul/sipp_uac_test_inv": "its Call-ID is fixed, so SIPp knows none of the responses",
    "upstream/sipp_scenarios/*": "SIPp cannot read it: a port of media without an m= line",
    "drachtio-server/uas-183-send-update": "answers a PRACK for a 183 that cannot be acknowledged before its answer",
    "drachtio-server/uas-invite-delay": "answers after 408, when the call is over: nothing to judge",
    "drachtio-server/uas-reinvite-bye": "insists on a 100 to its re-INVITE, which is answered at once",
    "drachtio-server/uas-*": "wants re-INVITEs of its application in turn, and its responses to them have two tags in To: dropped (RFC 3261 §8.1.3)",
    "drachtio-srf/uac-prack": "its RAck cannot be read: 400",
    "drachtio-srf/uac-subscribe": "wants 202 to its SUBSCRIBE, which gets 200 (RFC 6665 §4.2.1)",
    "drachtio-srf/uas-200-ok-no-contact-cancel": "waits for a CANCEL behind its 200 without Contact; we end the call by BYE",
    "drachtio-srf/uas-407-no-auth-header": "a 407 without a challenge cannot be answered (RFC 3261 §22.3)",
    "drachtio-srf/uas-bye-with-auth": "its responses within the call have two tags in To: dropped (RFC 3261 §8.1.3)",
    "drachtio-srf/uas-reinvite": "SIPp cannot read it: an element is not closed",
    "drachtio-srf/uas-reinvite-overlap": "wants several re-INVITEs in turn by its application",
    "drachtio-srf/uas-reinvite-with-auth": "SIPp cannot read it: an element is not closed",
    "etsi-named/*": "a 2xx without a readable SDP, or 32 seconds of silence, as a test purpose for other equipment",
    "freeswitch/uac_savp_check": "its re-INVITE has no To tag, so it begins another call",
    "freeswitch/uac_*": "wants the accounts of its server",
    "freeswitch/uas_register_no_challange": "a registrar; no caller of the test registers",
    "pjsip/alt-pjsua-*": "wants the SDP of one application",
    "pjsip/uac-early-recv-update-481": "insists on a 100, and on an UPDATE of its application while it rings",
    "pjsip/uac-inv-two-media-but-one-disabled-no-rtpmap": "waits for a re-INVITE of its application",
    "pjsip/uac-reinvite-bad-via-branch": "its re-INVITE has the branch of its INVITE, so it is a repetition of that (RFC 3261 §17.2.3)",
    "pjsip/uac-ticket-1864-scenario2": "its re-INVITE changes to codecs that no stream of ours has: 488",
    "pjsip/uas-answer-180-multiple-fmts-support-update": "waits for an UPDATE of its application while it rings",
    "pjsip/uas-answer-200-*": "waits for an UPDATE, and is gone before the BYE",
    "pjsip/uas-early-bye": "a callee must not send a BYE before it answers (RFC 3261 §15); it is gone then",
    "pjsip/uas-keep-call-on-tsx-fail": "its responses within the call have two tags in To: dropped (RFC 3261 §8.1.3)",
    "pjsip/uas-mwi*": "a subscription of one application",
    "pjsip/uas-norefersub-disabled": "SIPp cannot read it: a variable is not used",
    "pjsip/uas-register-ip-change": "a registrar; no caller of the test registers",
    "saghul/sipp_uac_*register*": "its Contact cannot be read: 400",
    "saghul/sipp_uas_register_ignore": "a registrar; no caller of the test registers",
    "saghul/sipp_uas_*": "plays a file of sound that the corpus does not have",
    "siphon-rs/auth_*": "its Authorization cannot be read: 400",
    "siphon-rs/info_out_of_dialog": "an INFO outside a call to a core without one: 405",
    "siphon-rs/prack_bad_rack": "wants 400 to a PRACK that matches no response: 481 (RFC 3262 §3)",
    "siphon-rs/refer*": "waits for one NOTIFY, where one comes at once and one with the outcome (RFC 3515 §2.4.4)",
    "upstream/docs/3pcc-*": "waits for another SIPp",
    "upstream/docs/*": "shows how SIPp is written: wants a file of sound, a proxy, or what its own UAS sends",
    "upstream/regress/*": "shows a fault of SIPp itself, by a message that it makes or breaks, or by a file that the corpus does not have",
}


def why_not(scenario):
    """Return the reason for which a scenario is not played; None without one."""
    fitting = (why for pattern, why in OTHERS.items() if fnmatchcase(scenario, pattern))
    return NOT_OURS.get(scenario) or next(fitting, None)


def path_of(scenario):
    return FOLDER / f"sipp-{scenario}.xml"


SOUND = re.compile(rb"<exec\s+(?:play_pcap_audio|play_pcap_video|play_dtmf|rtp_stream)=[^>]*/>")
"""What plays a file of sound. The corpus has none, and the signalling does not need it."""

PAUSE = re.compile(rb'(<(?:pause|timewait)\s+milliseconds\s*=\s*")([0-9]+)"')
LONGEST = 5000
"""Milliseconds. Longer pauses, such as those of 90 seconds for sound, are cut to three seconds."""

ROWS = {
    # patterns of scenarios that read a file of users or targets, and its row
    "siphon-rs/*": "127.0.0.1;{port}",
    "*": "bob;127.0.0.1:{port};[authentication username=bob password=secret]",
}


KEYWORDS = {"ident_key": "alice", "custom_media_port": "41000", "dest": "bob", "from_user": "bob"}
"""Values that the test suite of a scenario gives to SIPp on its command line."""


NO_PORT = 9

CALLED_USER = re.compile(rb"INVITE sip:([^@\s\[]+)@")
"""The user part of a Request-URI, which SIPp does not write into its credentials by itself."""


def arguments(scenario, folder, port=NO_PORT):
    """Return the arguments with which SIPp plays a scenario against a server of this port."""
    text = path_of(scenario).read_bytes()
    quick = SOUND.sub(b'<log message="sound"/>', text)
    quick = PAUSE.sub(
        lambda found: found[1] + (b"3000" if int(found[2]) > LONGEST else found[2]) + b'"', quick
    )
    if port == NO_PORT:  # SIPp waits for a call, so it has no remote host for its own requests
        quick = quick.replace(b"[remote_ip]:[remote_port]", f"127.0.0.1:{port}".encode())
    path = path_of(scenario)
    if quick != text:
        path = folder / (scenario.replace("/", "-") + ".xml")
        path.write_bytes(quick)
    more = []
    if b"[field" in text:
        rows = folder / (scenario.replace("/", "-") + ".csv")
        row = next(row for key, row in ROWS.items() if fnmatchcase(scenario, key))
        rows.write_text("SEQUENTIAL\n" + row.replace("{port}", str(port)))
        more = ["-inf", rows]
    for keyword, value in KEYWORDS.items():
        if f"[{keyword}".encode() in text:
            more += ["-key", keyword, value]
    found = CALLED_USER.search(text)
    if b"[authentication username" in text and found is not None:
        more += ["-auth_uri", f"{found[1].decode()}@127.0.0.1:{port}"]
    return [
        "-sf", path, "-i", "127.0.0.1", "-bind_local", "-nostdin", "-m", "1",
        "-au", "bob", "-ap", "secret", *more,
    ]  # fmt: skip


def test_each_scenario_of_the_tables_is_in_the_corpus():
    scenarios = [*" ".join(SERVED.values()).split(), *CALLED, *NOT_OURS]
    assert [each for each in scenarios if not path_of(each).is_file()] == []
    assert len(set(scenarios)) == len(scenarios)


def test_each_scenario_of_the_corpus_is_played_or_has_a_reason():
    played = {*" ".join(SERVED.values()).split(), *CALLED}
    found = {
        str(path.relative_to(FOLDER)).removeprefix("sipp-").removesuffix(".xml")
        for path in FOLDER.glob("sipp-*/**/*.xml")
    }
    assert sorted(each for each in found - played if why_not(each) is None) == []
    assert sorted(each for each in played & NOT_OURS.keys()) == []
    rest = found - played - NOT_OURS.keys()
    assert [each for each in OTHERS if not any(fnmatchcase(one, each) for one in rest)] == []


def attempts(scenario):
    """Return how often a scenario may be played until it succeeds.

    Some throw dice: SIPp drops up to three quarters of what their `lost=` names, so that now
    and then each copy of a message is dropped.
    """
    return 5 if 'lost="' in path_of(scenario).read_text(errors="replace") else 1


@pytest.mark.timeout(240)
@pytest.mark.parametrize("core", SERVED)
def test_scenarios_that_call_us_succeed(need, run, serve, core, tmp_path):
    need("sipp")
    server = serve(f"{CORES}:{core}")
    to = server.uri.removeprefix("sip:")

    def start(scenario):
        return run(
            "sipp", to, *arguments(scenario, tmp_path, server.port), "-p", free_port(), "-s", "bob"
        )

    def fails_again(scenario):
        return all(start(scenario).wait(60) for _ in range(attempts(scenario)))

    started = {scenario: start(scenario) for scenario in SERVED[core].split()}
    failed = [scenario for scenario, sipp in started.items() if sipp.wait(60)]
    # some scenarios wait for milliseconds only, which a busy machine misses with all at once
    assert [scenario for scenario in failed if fails_again(scenario)] == []
    assert "ERROR" not in server.text


class Play:
    """A SIPp that plays a scenario and waits for a call, and a caller of ours."""

    def __init__(self, scenario, folder):
        way, self.outcome = CALLED[scenario]
        port = free_port()
        folder.mkdir()
        self.sipp = Program(("sipp", *arguments(scenario, folder), "-p", port), folder / "sipp.log")
        wait_until_taken(port)
        target = f"sip:bob@127.0.0.1:{port}"
        self.caller = Program((sys.executable, CORES, target, way), folder / "caller.log")

    def succeeds(self):
        """Wait for the end. True if SIPp and our caller say what they should."""
        self.caller.wait(60)
        found = re.search(f"(?m)^{self.outcome}", self.caller.text)
        return found is not None and self.sipp.wait(20) == 0

    def stop(self):
        for program in (self.caller, self.sipp):
            program.stop()


@pytest.fixture(scope="module")
def plays(tmp_path_factory):
    """Play scenarios side by side: `plays(scenario)` returns its Play, and starts all others of the same way with it."""
    folder, started = tmp_path_factory.mktemp("plays"), {}

    def of(scenario):
        if scenario not in started:
            way, _ = CALLED[scenario]
            for number, each in enumerate(each for each in CALLED if CALLED[each][0] == way):
                started[each] = Play(each, folder / f"{way}{number}")
        return started[scenario]

    yield of
    for play in started.values():
        play.stop()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("scenario", CALLED)
def test_scenario_that_we_call_succeeds(need, plays, scenario, tmp_path):
    need("sipp")
    if plays(scenario).succeeds():
        return
    # some wait for milliseconds only, which a busy machine misses with all at once
    again = []
    for number in range(attempts(scenario)):
        again.append(Play(scenario, tmp_path / str(number)))
        found = again[-1].succeeds()
        again[-1].stop()
        if found:
            return
    raise AssertionError("\n".join(play.sipp.text + play.caller.text for play in again))
