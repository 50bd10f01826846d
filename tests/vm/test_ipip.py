# SPDX-License-Identifier: Apache-2.0
"""The ipip backend on two machines whose kernel has it."""

import asyncio
import sys

import pytest

from tests.netns.overlay import ENDPOINT, overlay
from tests.vm.machine import boot, unavailable

pytestmark = [
    pytest.mark.vm,
    pytest.mark.slow,
    pytest.mark.usefixtures("namespaces"),
    pytest.mark.skipif(unavailable() is not None, reason=unavailable() or ""),
]
MODULES = [f"net/ipv4/{name}" for name in ("ip_tunnel", "tunnel4", "ipip")]
SCRIPT = """
{python} -m flannelpy -etcd-endpoints {etcd} -iptables-forward-rules=false >/run/log 2>&1 &
daemon=$!
wait_for() {{ for i in $(seq 60); do eval "$1" && return; sleep .1; done; echo "never: $1"; cat /run/log; ip addr; }}
wait_for '[ -s /run/flannel/subnet.env ]'
[ -s /run/flannel/subnet.env ] && . /run/flannel/subnet.env
cat /run/flannel/subnet.env
ip addr add "$FLANNEL_SUBNET" dev lo     # in a container's stead
wait_for 'ip route | grep -q flannel.ipip'
ip -d link show flannel.ipip
ip addr show flannel.ipip
peer=$(ip route | sed -n 's,^\\(10.5[0-9.]*\\)\\.0/24 .*flannel.ipip.*,\\1.1,p')
wait_for "ping -c1 -W1 -I ${{FLANNEL_SUBNET%/*}} $peer >/dev/null"
ip route
all_of() {{ wait_for "ping -c3 -i.2 -W2 -I ${{FLANNEL_SUBNET%/*}} $* $peer | grep -q ' 0% packet loss'"; }}
# the other one's device may be away for a moment
all_of && echo plain
all_of -Mdo -s $((FLANNEL_MTU - 28)) && echo full-size
ip link del flannel.ipip; sleep .3
all_of && echo mended; ip route
kill -9 $daemon
{python} -m flannelpy -etcd-endpoints {etcd} -iptables-forward-rules=false >/run/log2 2>&1 &
wait_for 'grep -q msg=ready /run/log2'
all_of && echo restarted
cat /run/log /run/log2
echo finished
sleep 4     # the other one may not be through yet
"""


@pytest.mark.timeout(180)
async def test_two_machines_reach_one_another_by_ipip():
    config = {"Network": "10.5.0.0/16", "Backend": {"Type": "ipip"}}
    async with overlay(config=config) as it:
        script = SCRIPT.format(python=sys.executable, etcd=ENDPOINT)
        machines = [
            await boot(it.site, name, number, script, modules=MODULES)
            for name, number in (("one", 11), ("two", 12))
        ]
        async with asyncio.timeout(150):
            for machine in machines:
                await machine.process.wait()
        for machine in machines:
            text = machine.tail(400)
            assert "finished" in text, text
            assert "never:" not in text, text
            assert "ipip remote any local 192.0.2.1" in text, text
            assert "FLANNEL_MTU=1480" in text
            assert " dev flannel.ipip onlink" in text
            for step in ("plain", "full-size", "mended", "restarted"):
                assert f"\n{step}\n" in text, text
            assert " dev flannel.ipip onlink" in text.partition("mended\n")[2]
