"""The CNI plugin with Debian's real bridge and host-local plugins: a container that can ping."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fairlead.demo.hosts import Host, Site

PLUGINS = Path("/usr/lib/cni")
pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.usefixtures("namespaces"),
    pytest.mark.skipif(not (PLUGINS / "bridge").exists(), reason="no CNI plugins in /usr/lib/cni"),
]
SUBNET_ENV = """\
FLANNEL_NETWORK=10.7.0.0/16
FLANNEL_SUBNET=10.7.21.1/24
FLANNEL_MTU=1400
FLANNEL_IPMASQ=false
"""


async def call(host: Host, command: str) -> str:
    return await host.run(
        sys.executable,
        "-m",
        "flannelpy.cni",
        stdin=json.dumps({"name": "net7", "type": "flannel", "cniVersion": "0.4.0"}),
        env={
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": "/run/netns/c1",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(PLUGINS),
        },
    )


async def test_a_container_gets_an_address_of_the_hosts_subnet_and_gives_it_back() -> None:
    async with Site("a") as site:
        a = site["a"]
        await a.run("mkdir", "-p", "/run/flannel")
        await a.run("tee", "/run/flannel/subnet.env", stdin=SUBNET_ENV)
        await a.run("ip", "netns", "add", "c1")

        result = json.loads(await call(a, "ADD"))
        assert result["ips"][0]["address"] == "10.7.21.2/24"
        assert {"dst": "10.7.0.0/16"} in result["routes"]
        (link,) = json.loads(await a.run("ip", "-n", "c1", "-j", "link", "show", "eth0"))
        assert link["mtu"] == 1400
        await a.run("ip", "netns", "exec", "c1", "ping", "-c1", "-W2", "10.7.21.1")

        await call(a, "DEL")
        assert "eth0" not in await a.run("ip", "-n", "c1", "link")
        assert await a.run("ls", "/var/lib/cni/flannel") == ""


async def test_netavarks_plugin_sets_a_container_up_and_takes_it_down() -> None:
    """Driven as netavark drives it; a netavark that takes plugins (1.6) is not in Debian 12."""
    asked = {
        "container_id": "752947ff91f9", "container_name": "web", "port_mappings": [],
        "network": {"name": "flannel", "driver": "flannel-netavark", "options": None},
        "network_options": {"interface_name": "eth0"},
    }  # fmt: skip
    async with Site("a", "box") as site:
        a, box = site["a"], site["box"]
        await box.ip("link del eth0")
        env = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.21.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
        await a.run("sh", "-c", "mkdir -p /run/flannel && cat >/run/flannel/subnet.env", stdin=env)
        # the program named `flannel` need not be on CNI_PATH: it is called in this process
        plugin = (sys.executable, "-m", "flannelpy.netavark")
        netns = f"/proc/{box.pid}/ns/net"
        status = json.loads(await a.run(*plugin, "setup", netns, stdin=json.dumps(asked)))
        (subnet,) = status["interfaces"]["eth0"]["subnets"]
        assert subnet == {"ipnet": "10.5.21.2/24", "gateway": "10.5.21.1"}
        assert "mtu 1450" in await box.run("ip", "link", "show", "eth0")
        await a.run("ping", "-c1", "-W2", "10.5.21.2")
        assert await a.run(*plugin, "teardown", netns, stdin=json.dumps(asked)) == ""
        assert "eth0" not in await box.run("ip", "link")
