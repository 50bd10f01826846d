# SPDX-License-Identifier: Apache-2.0
"""Backends whose kernel part this kernel lacks, on two machines; a Go flanneld on one of them."""

import asyncio
import json
import sys

import pytest

from tests.netns.overlay import ENDPOINT, overlay
from tests.netns.test_interop import go
from tests.vm.machine import FULL, KERNEL, boot, unavailable

pytestmark = [
    pytest.mark.vm,
    pytest.mark.slow,
    pytest.mark.usefixtures("namespaces"),
]
MODULES = [f"net/ipv4/{name}" for name in ("ip_tunnel", "tunnel4", "ipip")]
OURS = f"{sys.executable} -m flannelpy -etcd-endpoints {ENDPOINT} -iptables-forward-rules=false"
THEIRS = f"{go()} -etcd-endpoints {ENDPOINT} -iptables-forward-rules=false -iface=vec0"
SCRIPT = """
start() {{ {flanneld} >>/run/log 2>&1 & daemon=$!; }}
wait_for() {{ for i in $(seq 200); do eval "$1" && return; sleep .1; done; echo "never: $1"; cat /run/log; ip addr; ip route; }}
start
wait_for '[ -s /run/flannel/subnet.env ]'
cat /run/flannel/subnet.env
. /run/flannel/subnet.env
ip addr add "$FLANNEL_SUBNET" dev lo     # in a container's stead
peer() {{ etcdctl --endpoints {etcd} get --prefix /coreos.com/network/subnets/ --keys-only | grep . | grep -v "${{FLANNEL_SUBNET%.1/24}}" | sed 's,.*/,,; s,0-24,1,'; }}
export ETCDCTL_API=3
wait_for '[ -n "$(peer)" ]'
peer=$(peer)
wait_for "ping -c1 -W1 -I ${{FLANNEL_SUBNET%/*}} $peer >/dev/null"
ip -d link show {device}
ip route
all_of() {{ wait_for "ping -c3 -i.2 -W2 -I ${{FLANNEL_SUBNET%/*}} $* $peer | grep -q ' 0% packet loss'"; }}
# the other one's device may be away for a moment
all_of && echo plain
all_of -Mdo -s $((FLANNEL_MTU - 28)) && echo full-size
{more}
cat /run/log
echo finished
etcdctl --endpoints {etcd} put /through/$(hostname) yes >/dev/null
wait_for '[ $(etcdctl --endpoints {etcd} get --prefix /through --keys-only | grep -c .) = 2 ]'  # the other one needs us
"""
MEND = """
ip link del {device}; sleep .3
all_of && echo mended; ip route
kill -9 $daemon
: >/run/log
start
wait_for 'grep -q msg=ready /run/log'
all_of && echo restarted
# another address of the uplink: the device stays the one it is
index=$(cat /sys/class/net/{device}/ifindex)
echo 1 >/proc/sys/net/ipv4/conf/vec0/promote_secondaries
old=$(ip -o -4 addr show vec0 | awk '{{print $4}}')
new=192.0.2.$(($(echo "$old" | cut -d. -f4 | cut -d/ -f1) + 40))
ip addr add $new/24 dev vec0; ip addr del "$old" dev vec0
wait_for "etcdctl --endpoints {etcd} get --prefix /coreos.com/network/subnets/ | grep -q $new"
all_of && [ "$(cat /sys/class/net/{device}/ifindex)" = "$index" ] && echo moved
ip -d link show {device}
"""
KINDS = {
    "ipip": ({"Type": "ipip"}, "flannel.ipip", 1480, " remote any local 192.0.2.1"),
    "wireguard": ({"Type": "wireguard"}, "flannel-wg", 1420, "wireguard"),
}


@pytest.mark.timeout(150)
@pytest.mark.parametrize("other", ["ours", "go"])
@pytest.mark.parametrize("kind", KINDS)
async def test_two_machines_reach_one_another(kind, other):
    backend, device, mtu, shown = KINDS[kind]
    kernel, modules = FULL, ()
    if (kind, other) == ("ipip", "ours") and unavailable(FULL):
        kernel, modules = KERNEL, MODULES  # Debian's is enough for that
    if reason := unavailable(kernel):
        pytest.skip(reason)
    if other == "go" and go() is None:
        pytest.skip("no flanneld-go: set FAIRLEAD_PEERS")
    config = {"Network": "10.5.0.0/16", "EnableNFTables": True, "Backend": backend}
    async with overlay(config=config) as it:
        words = {"etcd": ENDPOINT, "device": device}
        mend = MEND.format(**words) if other == "ours" else ""
        scripts = [
            SCRIPT.format(**words, flanneld=OURS, more=mend),
            SCRIPT.format(**words, flanneld=OURS if other == "ours" else THEIRS, more=mend),
        ]
        machines = [
            await boot(it.site, name, number, script, kernel=kernel, modules=modules)
            for name, number, script in zip(("one", "two"), (11, 12), scripts, strict=True)
        ]
        try:
            async with asyncio.timeout(100):
                for machine in machines:
                    await machine.process.wait()
        except TimeoutError:
            pytest.fail("\n".join(machine.tail(100) for machine in machines))
        for machine in machines:
            text = machine.tail(500)
            assert "finished" in text, text
            assert "never:" not in text, text
            assert shown in text, text
            assert f"FLANNEL_MTU={mtu}" in text
            for step in ("plain", "full-size", *(("mended", "restarted", "moved") if mend else ())):
                assert f"\n{step}\n" in text, text
        values = [json.loads(await it.value(key)) for key in await it.keys()]
        assert list(values[0]) == list(values[1])
        data = [list(value.get("BackendData", ())) for value in values]
        assert data[0] == data[1]
