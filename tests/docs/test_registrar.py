"""The code of docs/howto/registrar.md, with a phone that comes back at another address and then dies."""

from __future__ import annotations

from .blocks import block


def test_registrar_block_replaces_and_probes_phones(sip, capsys):
    stack = sip.serve(block("registrar").stack)
    host = stack.addresses[0][4:].partition(":")[0]
    uuid = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
    for number in (7, 8):
        phone = sip.stack(host=f"10.0.0.{number}")
        answer = sip.run(
            phone.request, "REGISTER", f"sip:{host}", to=f"sip:alice@{host}",
            contact=f'<sip:alice@10.0.0.{number}>;+sip.instance="<{uuid}>"', supported="gruu",
        )  # fmt: skip
        assert len(answer.contact) == 1
        assert answer.contact[0].pub_gruu == f"sip:alice@{host};gr={uuid}"
        assert [str(route.uri) for route in answer.service_route] == ["sip:example.com;lr"]
    phone.stop()
    sip.advance(200)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["added", "added", "removed", "removed"]
