"""SIPp scenarios of the shared corpus against user agents of ours: those that fit, and why others do not."""

from __future__ import annotations

import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.conformance.corpus import FOLDER, require

from ..ports import free_port
from ..programs import Program, Server
from .test_sipp import media_port, wait_until_taken

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
        asterisk/incoming_calls_without_auth/sipp/unknown_source
        asterisk/basic_calls/incoming/off-nominal/md5/sipp/playback_with_initial_sdp
        asterisk/basic_calls/incoming/off-nominal/userpass/ident_by_auth_user/sipp/echo_with_initial_sdp""",
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
    "updates": """
        asterisk/dialplan_functions/pjsip_session_refresh/sipp/uac-update
        asterisk/transfers/attended_transfer/nominal/callee_local_semi_attended_transfer_record_route/sipp/uac-no-hangup""",
    "hangs_up_after_a_ring": "asterisk/rel100/incoming/peer_supported_not_used/sipp/check_100rel",
    "registers": """
        asterisk/dialplan_functions/chan_is_avail/sipp/register
        asterisk/registration/inbound/nominal/contact_acl/ipv4/sipp/register-noauth-permitted
        asterisk/subscriptions/mwi/unsolicited/mailbox_count_changes/sipp/alice-registers
        asterisk/subscriptions/mwi/unsolicited/notify_after_register/sipp/register_and_quit_two
        asterisk/subscriptions/presence/presence_pidf/sipp/alice-registers
        asterisk/transport/reuse/invite/sipp/register
        asterisk/transfers/attended_transfer/nominal/callee_local_app/sipp/bob-registers
        asterisk/transfers/attended_transfer/nominal/callee_local_direct_media/sipp/charlie-registers""",
    "registers_none": """
        asterisk/registration/inbound/off-nominal/no_contact_header/sipp/register-noauth-no-contact-header""",
    "guards_registers": """
        asterisk/auth/uas/auth_security_events/sipp/register_pass
        saghul/sipp_uac_register_pns_non-push saghul/sipp_uac_register_pns_non-push_fc
        saghul/sipp_uac_register_pns_push saghul/sipp_uac_register_quick
        asterisk/auth/uas/auth_security_events/sipp/register_fail
        asterisk/registration/inbound/off-nominal/wrong_password/sipp/register-wrong-password""",
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
        saghul/sipp_uac_broken_sdp upstream/docs/regexp
        drachtio-server/uac-reinvite-bye-race""",
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
    "follows": """
        pjsip/transfer-attended pjsip/uac-norefersub
        asterisk/transfers/blind_transfer/caller_with_hold/sipp/alice
        asterisk/transfers/blind_transfer/caller_with_hold_drop_options/sipp/alice""",
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
        asterisk/stir_shaken/stir_shaken_anon_callerid/sipp/invite
        asterisk/transfers/blind_transfer/callee_with_hold/sipp/alice
        asterisk/transfers/blind_transfer/disallow/sipp/alice
        asterisk/transfers/attended_transfer/nominal/callee_local_direct_media/sipp/alice-calls-101""",
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
    "no_common_codec": """
        asterisk/basic_calls/incoming/off-nominal/incompatible_codecs/sipp/uac-488
        asterisk/incoming_calls_without_auth/sipp/incompatible_codecs""",
    "refuses437_after_183": """
        asterisk/dialplan_functions/pjsip_hangup/sipp/invite-expects-437""",
    "refuses603_after_183": """
        asterisk/dialplan_functions/pjsip_hangup/sipp/invite-expects-603""",
    "notifies_within": """
        asterisk/dialplan_functions/pjsip_notify/sipp/alice_1212
        asterisk/dialplan_functions/pjsip_notify/sipp/alice_2323
        asterisk/dialplan_functions/pjsip_notify/sipp/alice_4545""",
    "dials": """
        asterisk/dialplan_functions/pjsip_dtmfmode/sipp/A_PARTY""",
    "diverts": """
        asterisk/history_info/diversion_response_181/sipp/user1""",
    "diverts_quietly": """
        asterisk/history_info/no_diversion_response_181/sipp/user1""",
    "redirects": """
        asterisk/transfers/asterisk/endpoint/redirect/sipp/alice
        asterisk/transfers/asterisk/uri/redirect/sipp/alice""",
    "begins_a_transfer": """
        siphon-rs/refer
        siphon-rs/refer_fail""",
    "refreshes_and_stays": """
        asterisk/basic_calls/two_parties/nominal/direct_media/reinvite/sipp/alice
        pjsip/uac-inv-two-media-but-one-disabled-no-rtpmap""",
    "short_bindings": """
        asterisk/registration/inbound/nominal/mixed/unauthed/sipp/mixed-noauth-contact-expiry-ipv4
        asterisk/registration/inbound/nominal/mixed/unauthed/sipp/mixed-noauth-contact-expiry-ipv6
        asterisk/registration/inbound/nominal/single_contact/unauthed_drop_options/sipp/register-noauth
        asterisk/registration/inbound/nominal/multiple_contacts/unauthed_drop_options/sipp/register-noauth-multi-contact-expiry-ipv4
        asterisk/registration/inbound/nominal/multiple_contacts/unauthed_drop_options/sipp/register-noauth-multi-contact-expiry-ipv6
        asterisk/registration/inbound/nominal/unregister/multiple_contacts/sipp/register-noauth-ipv4
        asterisk/registration/inbound/nominal/unregister/multiple_contacts/sipp/register-noauth-ipv6
        asterisk/registration/inbound/nominal/unregister/single_contact/sipp/register-noauth
        asterisk/registration/inbound/off-nominal/unregister/no_expires_header/sipp/register-noauth
        asterisk/dialplan_functions/pjsip_aor/sipp/dynamic-contact
        upstream/docs/branchc""",
    "guards_short_bindings": """
        asterisk/registration/inbound/nominal/single_contact/authed/sipp/register-auth
        asterisk/registration/inbound/nominal/multiple_contacts/authed/sipp/register-auth-multi-contact-expiry-ipv4
        asterisk/registration/inbound/nominal/multiple_contacts/authed/sipp/register-auth-multi-contact-expiry-ipv6""",
    "short_longest": """
        asterisk/registration/inbound/nominal/config_options/maximum_expiration/sipp/register-noauth""",
    "makes_room": """
        asterisk/registration/inbound/nominal/config_options/remove_existing/sipp/register-v13.18-ipv4
        asterisk/registration/inbound/nominal/config_options/remove_existing/sipp/register-v13.18-ipv6""",
    "one_contact": """
        asterisk/registration/inbound/off-nominal/max_contacts/sipp/register-too-many-contacts""",
    "refuses_registers": """
        asterisk/registration/inbound/nominal/contact_acl/ipv4/sipp/register-noauth-denied""",
    "takes_notifies": """
        asterisk/subscriptions/mwi/unsolicited/incoming/sipp/allowed""",
    "refuses_notifies": """
        asterisk/subscriptions/mwi/unsolicited/incoming/sipp/not_allowed""",
    "refuses_subscriptions": """
        asterisk/subscriptions/below_min_expiry/sipp/subscribe
        asterisk/subscriptions/unallowed/sipp/subscribe
        asterisk/subscriptions/mwi/conflict/sipp/bad_subscribe
        asterisk/subscriptions/rls/lists/off_nominal/presence/list_does_not_exist/sipp/list_subscribe
        asterisk/subscriptions/rls/lists/off_nominal/mwi/subscribe_wo_eventlist_support/sipp/list_subscribe""",
    "states": """
        asterisk/subscriptions/mwi/missing_aor/sipp/subscribe
        asterisk/subscriptions/mwi/no_accept_header/sipp/subscribe
        asterisk/subscriptions/mwi/mwi_devstate/sipp/subscribe
        asterisk/subscriptions/presence/presence_pidf/sipp/alice-subscribes
        asterisk/subscriptions/presence/presencestate_repeat_okay/sipp/subscribe
        asterisk/subscriptions/presence/verify_bodies/verify_pidf/sipp/subscribe""",
    "guards_subscriptions": """
        freeswitch/uac_407_subscriber""",
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
    "asterisk/basic_calls/outgoing/nominal/dialstring/sipp/uas-checkuser": (
        "calls foo",
        "call bye by peer",
    ),
    "asterisk/basic_calls/outgoing/nominal/from_user/sipp/check_from_user": (
        "is banana",
        "call bye by peer",
    ),
    "asterisk/dialplan_functions/pjsip_notify/sipp/notified": ("notifies fun", "answered 200"),
    "asterisk/message/message_cust_hdr/sipp/message_recv": (
        "sends a custom header",
        "answered 202",
    ),
    "asterisk/registration/outbound/interval_too_brief/sipp/uas-reg-423-scenario1": (
        "registers for long",
        "registered True",
    ),
    "asterisk/registration/outbound/interval_too_brief/sipp/uas-reg-423-scenario2": (
        "registers for long",
        "registered True",
    ),
    "asterisk/registration/outbound/unregister/unauthed/sipp/unregister": (
        "registers for long",
        "registered",
    ),
    "saghul/sipp_uas_register_ignore": ("registers for long", "registered"),
    "asterisk/registration/outbound/line_parameter/sipp/register": (
        "registers and answers",
        "called .*by='peer', cause='bye'",
    ),
    "asterisk/subscriptions/mwi/unsolicited/mailbox_count_changes/sipp/alice-is-notified-1": (
        "notifies 2 and 0",
        "answered 200",
    ),
    "asterisk/subscriptions/mwi/unsolicited/mailbox_count_changes/sipp/alice-is-notified-2": (
        "notifies 1 and 1",
        "answered 200",
    ),
    "asterisk/subscriptions/mwi/unsolicited/mailbox_count_changes/sipp/alice-is-notified-3": (
        "notifies 0 and 2",
        "answered 200",
    ),
    "asterisk/subscriptions/mwi/unsolicited/mailbox_count_changes/sipp/alice-is-notified-4": (
        "notifies 0 and 0",
        "answered 200",
    ),
    "asterisk/subscriptions/mwi/solicited/replaced_by_unsolicited/aggregate/sipp/unsolicited": (
        "notifies 3 and 3",
        "answered 200",
    ),
    "by-example/Active-Media/uas-active": ("hangs", "call bye by us"),
    "upstream/docs/3pcc-A": ("hangs", "call bye by us"),
    "upstream/docs/3pcc-B": ("hangs", "call bye by us"),
    "asterisk/auth/uac/single_realm_single_digest/sipp/single_realm_single_digest_options": (
        "asks for options with a password",
        "answered 200",
    ),
    "drachtio-srf/uas-reinvite-overlap": ("reinvites thrice", "call bye by us"),
    "drachtio-srf/uas-bye-with-auth": ("knows", "call bye by us"),
    "drachtio-server/uas-success-reinvite": ("reinvites once", "call bye by us"),
    "pjsip/uas-keep-call-on-tsx-fail": ("reinvites", "refused within the call 481"),
    "pjsip/uas-reinv-glare": ("updates and lingers", "call bye by us"),
    "upstream/docs/ooc_default": ("asks for options", "answered 200"),
    "pjsip/uas-answer-200-without-to-tag": ("updates and lingers", "call bye by us"),
    "pjsip/uas-early-bye": ("hangs", "refused 408"),
    "pjsip/uas-mwi": ("subscribes to a mailbox", "notified message-summary"),
    "pjsip/uas-mwi-0": ("subscribes to a mailbox", "notified message-summary"),
    "asterisk/basic_calls/two_parties/nominal/direct_media/reinvite/sipp/bob": (
        "reinvites twice",
        "call bye by us",
    ),
    "asterisk/transfers/blind_transfer/callee_with_hold/sipp/bob": ("follows", "call bye by peer"),
    "asterisk/transfers/blind_transfer/callee_with_hold/sipp/charlie": (
        "is referred by the callee",
        "call bye by peer",
    ),
    "asterisk/transfers/blind_transfer/caller_with_hold/sipp/bob": ("hangs", "call bye by us"),
    "asterisk/transfers/blind_transfer/caller_with_hold/sipp/charlie": (
        "is referred",
        "call bye by peer",
    ),
    "asterisk/transfers/blind_transfer/caller_with_hold_drop_options/sipp/bob": (
        "hangs",
        "call bye by us",
    ),
    "asterisk/transfers/blind_transfer/caller_with_hold_drop_options/sipp/charlie": (
        "is referred from abroad",
        "call bye by peer",
    ),
    "asterisk/transfers/blind_transfer/disallow/sipp/bob": ("declines", "call bye by peer"),
    "asterisk/transfers/blind_transfer/no_target_in_refer/sipp/transferer": (
        "follows",
        "call bye by us",
    ),
    "asterisk/transfers/attended_transfer/nominal/callee_local_direct_media/sipp/wait-for-a-call-then-send-bye": (
        "waits",
        "call bye by peer",
    ),
    "asterisk/transfers/attended_transfer/nominal/caller_local_direct_media/sipp/wait-for-a-call": (
        "hangs",
        "call bye by us",
    ),
}

TWO = "asterisk/basic_calls/two_parties/nominal"

BRIDGED = (
    # folders of a caller, alice, and a callee, bob, that change the session through a B2BUA
    f"{TWO}/add_remove_sources/sipp",
    f"{TWO}/video_bidirectional_to_unidirectional/sipp",
    f"{TWO}/video_unidirectional_to_bidirectional/sipp",
)

NOT_OURS = {
    # scenarios that cannot pass against a UA that keeps to the RFCs, or whose peer needs more
    "drachtio-server/uac-update-during-invite": "its UPDATE offers before a reliable answer, which is 500 (RFC 3311 §5.2)",
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
    "asterisk/auth/uac/*multiple_digest/*": "its challenges name the algorithm sha256, which no RFC has",
    "asterisk/registration/outbound/*_retry/*": "insists on the response that a password of a configuration file makes with port 5060",
    "asterisk/registration/inbound/nominal/config_options/remove_unavailable/*": "waits 15 s until a server has seen that a Contact does not answer, and wants it kept until its place is needed",
    "asterisk/subscriptions/mwi/solicited/*/unsolicited": "waits until its second NOTIFY outside a subscription, each in a call of its own",
    "asterisk/subscriptions/mwi/solicited/*": "wants its subscription ended because it registers",
    "asterisk/subscriptions/presence/no_accept_header/*": "insists on a document of one maker, digium_presence",
    "asterisk/subscriptions/presence/presence_xpidf/*": "insists on documents of a draft, application/xpidf+xml",
    "asterisk/subscriptions/rls/*": "subscribes to a list of resources, which this library does not serve (RFC 4662)",
    "asterisk/publish/*": "insists on each letter of five documents of its server",
    "asterisk/message/message_confbridge/*": "one of two SIPps that talk through a conference of their server, which relays a MESSAGE to all of it",
    "asterisk/message/message_from/*": "compares the From with a variable that its test suite sets",
    "asterisk/message/*/no_message_expected": "wants 401 to its OPTIONS, and then silence",
    "asterisk/message/message_redirect_multiple/*": "one of four servers at fixed ports that a dial plan tries one after the other, with its count in the text",
    "asterisk/transfers/attended_transfer/*/callee_local_app/sipp/alice-calls-101": "the To of its BYE has two tags: 400",
    "asterisk/transfers/attended_transfer/*/uas*": "waits for an UPDATE or re-INVITE with the identity that its server takes from a dial plan",
    "asterisk/transfers/attended_transfer/*": "sends the tags of one call to another SIPp by a socket, so that a server with a dial plan joins both calls",
    "asterisk/transfers/blind_transfer/caller_direct_media/*": "waits for the re-INVITEs by which its server moves the media to the other phone and back",
    "asterisk/basic_calls/two_parties/nominal/direct_media/update/*": "waits for an ACK to its 200 to an UPDATE, or for two UPDATEs that its server sends to move the media",
    "asterisk/basic_calls/two_parties/*/alice": "its second INVITE has no offer, and wants the 503 of its server where the other phone says 403",
    "asterisk/headers/no_contact/*": "wants 400 to methods that the core does not serve: 405 comes first (RFC 3261 §8.2.1)",
    "asterisk/nat/*": "wants its Contact and routes replaced by its source, but they hold (RFC 3261 §12.1.1)",
    "asterisk/stir_shaken/*": "insists on the Reason of a server that checks identities (RFC 8224)",
    "asterisk/transport/symmetric/notify/*": "insists on port 5066 in the Via, and on the mailbox of a configuration file",
    "asterisk/transport/*": "insists on port 5066 in the Via, where its server listens",
    "drachtio-server/uac-register-recv-invite": "waits for a call of its application to a Contact that no name server knows",
    "drachtio-server/uac-register-subscribe-publish": "wants PUBLISH answered before SUBSCRIBE, and a From that it has not sent",
    "by-example/Call-pickup-3pcc/*": "its INVITE replaces an early dialog of the callee, which did not begin it: 481 (RFC 3891 §3)",
    "by-example/reINVITE-PAI/uac": "its BYE has the CSeq of its re-INVITE: 500 (RFC 3261 §12.2.2)",
    "by-example/reINVITE-PAI/uas": "SIPp cannot read it: an element is not closed",
    "drachtio-server/uas-bad-bye": "wants 481 to the BYE that it sends while it rings; it gets 200 (RFC 3261 §15.1.2)",
    "pjsip/uas-auth": "its challenge has no nonce",
    "pjsip/uas-register-ip-change": "its challenges have no nonce",
    "pjsip/uas-reinv-and-ack-without-sdp": "its ACK has no answer to our offer: BYE (RFC 3261 §13.2.1)",
    "pjsip/uas-reinv-no-media": "wants 488 to an offer whose one stream has port 0, which we accept (RFC 3264 §8.2)",
    "pjsip/uas-reinv-with-less-media": "its 200 has no tag in To, so that its re-INVITE belongs to no dialog: 481",
    "saghul/sipp_uac_pcap_h264": "a Request-URI that cannot be read: 400",
    "saghul/sipp_uac_test_inv": "its Call-ID is fixed, so SIPp knows none of the responses",
    "upstream/sipp_scenarios/*": "SIPp cannot read it: a port of media without an m= line",
    "drachtio-server/uas-183-send-update": "answers a PRACK for a 183 that cannot be acknowledged before its answer",
    "drachtio-server/uas-invite-delay": "answers after 408, when the call is over: nothing to judge",
    "drachtio-server/uas-reinvite-bye": "insists on a 100 to its re-INVITE, and pauses where the 200 to its BYE arrives",
    "drachtio-server/uas-overlapping": "waits for a re-INVITE before the ACK of the last one, which must not be (RFC 3261 §14.1)",
    "drachtio-server/uas-reinvite-bye-race": "waits for a re-INVITE behind a BYE, which we never send (RFC 3261 §15.1.1)",
    "drachtio-srf/uac-prack": "its RAck cannot be read: 400",
    "drachtio-srf/uac-subscribe": "wants 202 to its SUBSCRIBE, which gets 200 (RFC 6665 §4.2.1)",
    "drachtio-srf/uas-200-ok-no-contact-cancel": "waits for a CANCEL behind its 200 without Contact; we end the call by BYE",
    "drachtio-srf/uas-407-no-auth-header": "a 407 without a challenge cannot be answered (RFC 3261 §22.3)",
    "drachtio-srf/uas-reinvite*": "SIPp cannot read it: an element is not closed",
    "etsi-named/sip_cc_te_ce_v_020": "its Contact has no closing bracket: 400",
    "etsi-named/sip_cc_te_sm_i_001": "wants 500 to a second INVITE, which has no To tag, so it begins another call",
    "etsi-named/*": "its 2xx has no description that can be read, so we hang up, where it waits for silence",
    "freeswitch/uac_savp_check": "its re-INVITE has no To tag, so it begins another call",
    "freeswitch/uac_digest_leak*": "asks the callee for a password at its BYE, and waits until the BYE comes with one",
    "freeswitch/uac_subscriber": "wants 202 to its SUBSCRIBE, which gets 200 (RFC 6665 §4.2.1)",
    "freeswitch/uas_register_no_challange": "repeats its last 200 to a REGISTER until something answers it, as nothing may",
    "pjsip/alt-pjsua-*": "insists on H263-1998 as a second stream, which no codec of ours is",
    "pjsip/uac-early-recv-update-481": "wants its own 481 to our UPDATE as the final response; the call ends with 480",
    "pjsip/uac-reinvite-bad-via-branch": "its re-INVITE has the branch of its INVITE, so it is a repetition of that (RFC 3261 §17.2.3)",
    "pjsip/uac-ticket-1864-scenario2": "its re-INVITE changes to codecs that no stream of ours has: 488",
    "pjsip/uas-answer-180-multiple-fmts-support-update": "waits for an UPDATE with an offer while its unreliable 180 has the only answer: none may be sent (RFC 3311 §5.1)",
    "pjsip/uas-norefersub-disabled": "SIPp cannot read it: a variable is not used",
    "saghul/sipp_uac_*register*": "its Contact cannot be read: 400",
    "siphon-rs/auth_*": "its Authorization cannot be read: 400",
    "siphon-rs/info_out_of_dialog": "an INFO outside a call to a core without one: 405",
    "siphon-rs/prack_bad_rack": "wants 400 to a PRACK that matches no response: 481 (RFC 3262 §3)",
    "upstream/docs/3pcc-*": "one of two SIPps that send a description to each other by a socket; its INVITE has no offer, and its ACK has another one as the answer",
    "upstream/docs/branchs": "answers 403 to a call that is not of ua2, and then waits for its BYE",
    "upstream/regress/github-0238/uas": "makes its BYE of what SIPp has left of our Contact, which is no URI: 400",
    "upstream/regress/github-0769/uac": "SIPp cannot read it: no number as a status, before its version 3.7",
    "upstream/regress/github-0862/uas": "its BYE has From and To of our ACK, the wrong way round: 481",
}


PLAYED = [
    *" ".join(SERVED.values()).split(),
    *CALLED,
    *(f"{folder}/bob" for folder in BRIDGED),  # alice calls a core of ours, too
]


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


MENDED = {
    # patterns of scenarios that break a rule, or insist on how one server writes, and their cure
    "asterisk/registration/inbound/*": (
        (rb"CSeq: \d+ REGISTER", b"CSeq: [cseq] REGISTER"),  # it was 1 each time: 500 (§10.3)
        (rb"Contact: &lt;", b"Contact:[^&lt;]*&lt;"),  # ours keeps the display name
        (rb"&gt;;expires=", b"&gt;[^&lt;]*;expires="),  # and the parameters
        (rb":506\[\d-\d\]", b":[0-9]+"),  # the ports of its test suite
    ),
}
MENDED[f"{TWO}/*/bob"] = ((rb"RTP/AVP 99", b"RTP/AVP 96"),)  # its server changes the number
MENDED["asterisk/transfers/blind_transfer/caller_with_hold*"] = (
    # its requests have the Via of a request of ours, which would get their responses
    (rb"\[last_Via:\]\d", b"Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]"),
)
MENDED["asterisk/dialplan_functions/pjsip_aor/*"] = MENDED["asterisk/registration/inbound/*"]


ONE_TAG = (
    # patterns of scenarios whose responses within a call get a second tag in To
    f"{TWO}/*/bob",
    "drachtio-server/uas-success-reinvite",
    "drachtio-srf/uas-reinvite-overlap",
    "drachtio-srf/uas-bye-with-auth",
    "pjsip/uac-inv-two-media-but-one-disabled-no-rtpmap",
    "pjsip/uas-keep-call-on-tsx-fail",
    "pjsip/uas-reinv-glare",
)

TAGGED = re.compile(rb"(\[last_To:\]);tag=\S+")


def with_one_tag(text):
    """Return a scenario without the tags that it adds to a To that has one, after the 200."""
    before, accepted, after = text.partition(b"ACK" if b"INVITE sip" in text else b'"ACK"')
    return before + accepted + TAGGED.sub(rb"\1", after)


KEYWORDS = {
    "ident_key": "alice",
    "custom_media_port": "41000",
    "dest": "bob",
    "from_user": "bob",
} | {f"customip{number}": f"[::{number + 1}]" for number in range(1, 10)}
"""Values that the test suite of a scenario gives to SIPp on its command line."""


USERS = {
    # patterns of scenarios that insist on a user, or share a registrar; all others are bob
    "*/mixed-noauth-contact-expiry-ipv4": "alice",
    "*/register-noauth-multi-contact-expiry-ipv4": "carol",
    "*/register-noauth-multi-contact-expiry-ipv6": "charlie",
    "*/register-auth-multi-contact-expiry-ipv4": "alice",
    "*/register-auth-multi-contact-expiry-ipv6": "carol",
    "*/remove_existing/sipp/register-v13.18-ipv6": "carol",
    "*/unregister/multiple_contacts/sipp/register-noauth-ipv4": "alice",
    "*/unregister/multiple_contacts/sipp/register-noauth-ipv6": "carol",
    "*/unregister/single_contact/sipp/register-noauth": "alice",
    "*/subscribe_wo_eventlist_support/*": "list",
}

WRONG = (
    # patterns of scenarios that have a wrong password
    "asterisk/auth/uas/auth_security_events/sipp/register_fail",
    "asterisk/registration/inbound/off-nominal/wrong_password/*",
    "asterisk/basic_calls/incoming/off-nominal/md5/*",
    "asterisk/basic_calls/incoming/off-nominal/userpass/*",
)


NO_PORT = 9

CALLED_USER = re.compile(rb"INVITE sip:([^@\s\[]+)@")
"""The user part of a Request-URI, which SIPp does not write into its credentials by itself."""


def arguments(scenario, folder, port=NO_PORT):
    """Return the arguments with which SIPp plays a scenario against a server of this port."""
    text = path_of(scenario).read_bytes()
    quick = SOUND.sub(b'<log message="sound"/>', text)
    for pattern, cures in MENDED.items():
        for old, new in cures if fnmatchcase(scenario, pattern) else ():
            quick = re.sub(old, new, quick)
    if any(fnmatchcase(scenario, pattern) for pattern in ONE_TAG):
        quick = with_one_tag(quick)
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
    if b"[authentication" in text and found is not None:
        more += ["-auth_uri", f"{found[1].decode()}@127.0.0.1:{port}"]
    user = next((user for key, user in USERS.items() if fnmatchcase(scenario, key)), "bob")
    password = "wrong" if any(fnmatchcase(scenario, key) for key in WRONG) else "secret"
    return [
        "-sf", path, "-i", "127.0.0.1", "-bind_local", "-nostdin", "-m", "1",
        "-mp", media_port(), "-au", "bob", "-ap", password, "-s", user, *more,
    ]  # fmt: skip


def test_each_scenario_of_the_tables_is_in_the_corpus():
    scenarios = [*PLAYED, *NOT_OURS]
    assert [each for each in scenarios if not path_of(each).is_file()] == []
    assert len(set(scenarios)) == len(scenarios)


def test_each_scenario_of_the_corpus_is_played_or_has_a_reason():
    played = set(PLAYED)
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


SIDE_BY_SIDE = 6
"""How many servers play at the same time: most of what a scenario takes are its pauses."""


class Serving:
    """A stack of corpus_cores.py, and the SIPps that call it."""

    def __init__(self, core, folder):
        self.folder = folder
        folder.mkdir()
        address = "--listen", "udp:127.0.0.1:0"
        self.server = Server((f"{CORES}:{core}", *address), folder / "server.log")
        self.started = {scenario: self.play(scenario) for scenario in SERVED[core].split()}

    def play(self, scenario):
        to = self.server.uri.removeprefix("sip:")
        folder = self.folder / str(len(list(self.folder.iterdir())))
        folder.mkdir()
        words = arguments(scenario, folder, self.server.port)
        return Program(("sipp", to, *words, "-p", free_port()), folder / "sipp.log")

    def fails_again(self, scenario):
        for _ in range(attempts(scenario)):
            sipp = self.play(scenario)
            try:
                if sipp.wait(60) == 0:
                    return False
                print(sipp, sipp.text, sep="\n")  # shown when the test fails
            finally:
                sipp.stop()
        return True

    def stop(self):
        for program in (*self.started.values(), self.server):
            program.stop()


@pytest.fixture(scope="module")
def servings(tmp_path_factory):
    """Play scenarios side by side: `servings(core)` returns its Serving, and starts the next few with it."""
    folder, started = tmp_path_factory.mktemp("servings"), {}

    def of(core):
        cores = list(SERVED)
        at = cores.index(core)
        if core not in started:
            for each in cores[at : at + SIDE_BY_SIDE]:
                started[each] = Serving(each, folder / each)
        return started[core]

    yield of
    for serving in started.values():
        serving.stop()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("core", SERVED)
def test_scenarios_that_call_us_succeed(need, servings, core):
    need("sipp")
    serving = servings(core)
    failed = [scenario for scenario, sipp in serving.started.items() if sipp.wait(60)]
    # some scenarios wait for milliseconds only, which a busy machine misses with all at once
    assert [scenario for scenario in failed if serving.fails_again(scenario)] == []
    assert "ERROR" not in serving.server.text
    serving.stop()


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


@pytest.mark.timeout(240)
@pytest.mark.parametrize("folder", BRIDGED)
def test_scenarios_change_a_session_through_a_bridge(need, run, serve, folder, tmp_path):
    need("sipp")
    port = free_port()
    bob = run("sipp", *arguments(f"{folder}/bob", tmp_path), "-p", port)
    wait_until_taken(port)
    server = serve(f"{CORES}:bridges", CALLEE=f"sip:bob@127.0.0.1:{port}")
    to = f"127.0.0.1:{server.port}"
    alice = run("sipp", to, *arguments(f"{folder}/alice", tmp_path, server.port), "-p", free_port())
    assert (alice.wait(60), bob.wait(20)) == (0, 0)
    server.wait_until_empty()
