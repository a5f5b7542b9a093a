"""Two machines on two links, each a network namespace: by which listener, address and link messages go."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sippet_gevent

ALONE = ["unshare", "--net"]
AS_ROOT = ["unshare", "--map-root-user", "--net"]


def private_network():
    """The command that runs another one in a network of its own; None where the system does not let us."""
    if (
        not all(map(shutil.which, ("unshare", "nsenter", "ip", "bash")))
        or not Path("/proc/sys/net/ipv6").exists()
    ):
        return None
    for command in (ALONE, AS_ROOT):
        if (
            subprocess.run(
                [*command, "ip", "link", "add", "v0", "type", "veth"], capture_output=True
            ).returncode
            == 0
        ):
            return command
    return None


PRIVATE = private_network()
pytestmark = pytest.mark.skipif(
    PRIVATE is None and os.environ.get("CI") != "true",
    reason="no network namespaces for us here, or no iproute2",
)

# Links 1 and 2 lead from here, 10.0.N.1 on vN, to the other machine, 10.0.N.2 on wN. Addresses are not probed for doubles,
# which would take a second.
SETUP = """
set -e
unshare --net sleep 200 & other=$!
there="nsenter -t $other -n"
trap 'kill $other $server' EXIT
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
for side in "" "$there"; do
    $side bash -c 'for scope in all default; do echo 0 > /proc/sys/net/ipv6/conf/$scope/accept_dad; done; ip link set lo up'
done
for n in 1 2; do
    ip link add v$n type veth peer name w$n
    ip link set w$n netns $other
    ip addr add 10.0.$n.1/24 dev v$n
    ip link set v$n up
    $there ip addr add 10.0.$n.2/24 dev w$n
    $there ip link set w$n up
done
link_local() { "$@" scope link | sed 's/.*inet6 \\([^/]*\\).*/\\1/'; }
until [ -n "$(link_local ip -6 -o addr show dev v2)" -a -n "$(link_local $there ip -6 -o addr show dev w2)" ]; do sleep 0.01; done
$there "$1" -c "$2" > /dev/null & server=$!
"$1" -c "$3" "$(link_local ip -6 -o addr show dev v2)" "$(link_local $there ip -6 -o addr show dev w2)"
"""

THERE = """
from sippet_gevent import Stack

def core(request, tx):
    if request.method == "INVITE":
        with tx.accept() as call:
            call.request("INFO", timeout=5)
    else:
        host, scope = request.flow.remote[0], request.flow.scope
        return request.response(200, subject=f"from {host} to {request.flow.local[0]} scope {bool(scope)}")

Stack("udp:*:5060", "tcp:*:5060", core=core).serve_forever()
"""

HERE = """
import json, sys, time
from sippet_gevent import Stack, TransactionTimeout, TransportError

here, there = sys.argv[1:]
told = {}

def ask(stack, uri):
    while True:  # until the other machine listens
        try:
            response = stack.request("OPTIONS", uri, timeout=2)
            return [response.status, response.subject, response.flow.transport.listener.name]
        except (TransactionTimeout, TransportError):
            time.sleep(0.01)

addresses = [f"{kind}:10.0.{n}.1:0;name=link{n}" for kind in ("udp", "tcp") for n in (1, 2)]
with Stack(*addresses) as stack:
    for kind in ("udp", "tcp"):
        for n in (1, 2):
            told[f"{kind} {n}"] = ask(stack, f"sip:10.0.{n}.2;transport={kind}")
with Stack("udp:*:0;name=all") as stack:
    told["all"] = [ask(stack, f"sip:10.0.{n}.2") for n in (1, 2)]
for kind in ("udp", "tcp"):
    infos = []
    with Stack(f"{kind}:*:0;name=all", f"{kind}:[{here}%v2]:0;name=link", core=lambda r, tx: infos.append(r) or 200) as stack:
        told[f"link-local {kind}"] = ask(stack, f"sip:[{there}];transport={kind}")
        call = stack.invite(f"sip:[{there}];transport={kind}", timeout=5)
        call.wait(5)
        told[f"call {kind}"] = [r.method for r in infos]
print(json.dumps({"here": here, "there": there} | told))
"""


@pytest.fixture(scope="module")
def told():
    """The output of the program on the other machine."""
    command = [*PRIVATE, "bash", "-c", SETUP, "bash", sys.executable, THERE, HERE]
    where = {
        "PYTHONPATH": str(Path(sippet_gevent.__file__).parent.parent),
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, env=where)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["udp", "tcp"])
@pytest.mark.parametrize("link", ["1", "2"])
def test_request_leaves_by_the_listener_on_the_link_that_leads_there(told, kind, link):
    assert told[f"{kind} {link}"] == [
        200,
        f"from 10.0.{link}.1 to 10.0.{link}.2 scope False",
        f"link{link}",
    ]


def test_listener_on_all_addresses_takes_both_links(told):
    assert told["all"] == [
        [200, f"from 10.0.{link}.1 to 10.0.{link}.2 scope False", "all"] for link in (1, 2)
    ]


@pytest.mark.rfc("4007 11")
@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_link_local_request_leaves_by_the_listener_of_its_link(told, kind):
    assert told[f"link-local {kind}"] == [
        200,
        f"from {told['here']} to {told['there']} scope True",
        "link",
    ]


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_call_between_link_local_addresses_goes_both_ways(told, kind):
    assert told[f"call {kind}"] == ["INFO"]
