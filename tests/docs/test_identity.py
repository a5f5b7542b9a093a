"""The code of docs/howto/identity.md and docs/howto/numbers.md."""

from __future__ import annotations

import pytest

from sippet_gevent import Credentials, Reject, StaticResolver

from .blocks import block


def test_identity_block_asserts_who_calls(sip):
    stack = sip.serve(block("identity").stack)
    host = stack.addresses[0][4:].partition(":")[0]
    seen = []
    phones = []
    for number, (user, password) in enumerate({"100": "secret", "101": "other"}.items(), 7):
        phone = sip.stack(host=f"10.0.0.{number}", resolver=StaticResolver({"example.com": [host]}))
        phone.on("MESSAGE")(lambda request, tx: seen.append(request) or 200)
        mine = Credentials(user, password, hosts=("example.com",))
        phones.append((phone, mine))
        answer = sip.run(
            phone.request, "REGISTER", "sip:example.com", to=f"sip:{user}@example.com",
            contact=f"sip:{user}@10.0.0.{number}", credentials=mine,
        )  # fmt: skip
        assert answer.status == 200
    phone, mine = phones[0]
    for privacy in (None, "id"):
        answer = sip.run(
            phone.request, "MESSAGE", "sip:101@example.com", from_="sip:100@example.com",
            credentials=mine, **({"privacy": privacy} if privacy else {}),
        )  # fmt: skip
        assert answer.status == 200
    assert [str(value) for value in seen[0].p_asserted_identity] == ["<sip:100@example.com>"]
    assert "P-Asserted-Identity" not in seen[1].headers


def test_numbers_block_calls_the_carrier_in_e164(sip):
    shown = block("numbers")
    carrier = sip.stack(host="192.0.2.20")
    seen = []
    carrier.on("INVITE")(lambda request, tx: seen.append(request) or 486)
    stack = sip.serve(shown.stack)
    host = stack.addresses[0][4:].partition(":")[0]
    phone = sip.stack(host="10.0.0.7")
    call = {"from_": f'"Alice" <sip:030100@{host}>'}
    for number in ("030123456", "%2331%23030123456"):
        with pytest.raises(Reject, match="486"):
            sip.run(phone.invite, f"sip:{number}@{host}", **call)
    first, second = seen
    assert first.uri.user == second.uri.user == "+4930123456"
    assert first.from_.uri.user == "+4930100"
    assert str(second.from_.uri) == "sip:anonymous@anonymous.invalid"
    assert second.privacy == ("id",)
