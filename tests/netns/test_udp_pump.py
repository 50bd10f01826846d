"""Two hosts joined by the udp backend's pump: ping through TUN and datagrams."""

from __future__ import annotations

import sys

import pytest

from fairlead.demo.hosts import Site

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.usefixtures("namespaces")]
RUN = """\
import asyncio, subprocess, sys
from ipaddress import IPv4Address, IPv4Network
from flannelpy.udp.pump import Pump, open_tun
own, bind, subnet, peer = sys.argv[1:]
async def main():
    tun, name = open_tun()
    for line in (f"addr add {own}/32 dev {name}", f"link set {name} mtu 1472 up",
                 f"route add 10.5.0.0/16 dev {name}"):
        subprocess.run(["ip", *line.split()], check=True)
    pump = Pump(tun, IPv4Address(own), IPv4Address(bind), 8285, 1472)
    pump.table.put(IPv4Network(subnet), IPv4Address(peer))
    pump.start()
    print("up", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""

TRY = """\
import socket
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.connect(("10.5.77.1", 9))
udp.settimeout(5)
udp.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR: tell of unreachable networks too
udp.send(b"x")
try:
    udp.recv(1)
except OSError as error:
    print(error)
"""


async def test_ping_and_full_size_packets_cross() -> None:
    async with Site("a", "b") as site:
        a, b = site["a"], site["b"]
        for here, there, n, m in ((a, b, 1, 2), (b, a, 2, 1)):
            await here.start(
                *(sys.executable, "-c", RUN, f"10.5.{n}.0", str(here.address)),
                *(f"10.5.{m}.0/24", str(there.address)),
                name="pump",
            )
            await here.ip(
                "link add name br0 type bridge",
                f"addr add 10.5.{n}.1/24 dev br0",
                "link set br0 up",
            )
            await here.run(
                "sh",
                "-c",
                "for i in $(seq 100); do ip route | grep -q 'dev flannel0' && exit; sleep .05; done; exit 1",
            )
        await a.run("ping", "-c2", "-i0.2", "-W2", "10.5.2.1")
        await a.run("ping", "-c1", "-W2", "-Mdo", "-s", str(1472 - 28), "10.5.2.1")
        refused = await a.run(sys.executable, "-c", TRY)
        assert "unreachable" in refused
