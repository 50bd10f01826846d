# SPDX-License-Identifier: Apache-2.0
"""podman on two hosts after `fairlead podman setup`, on a root file system made by hand."""

import json
import shutil
import sys

import pytest

from fairlead.demo.hosts import PRIVATE, which
from tests.netns.overlay import VXLAN, overlay, until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.usefixtures("namespaces"),
    pytest.mark.skipif(which("etcd") is None, reason="etcd is not installed"),
    pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed"),
    pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is not installed"),
]
APPLETS = ("sh", "ping", "httpd", "wget", "cat", "echo")


def root_filesystem(where):
    for name in ("bin", "proc", "sys", "dev", "etc", "tmp", "run"):
        (where / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), where / "bin" / "busybox")
    for name in APPLETS:
        (where / "bin" / name).symlink_to("busybox")
    who = where / "srv" / "cgi-bin" / "who"
    who.parent.mkdir(parents=True)
    who.write_text('#!/bin/sh\necho\necho "$REMOTE_ADDR"\n')
    who.chmod(0o755)
    return str(where)


async def one_kind_of_cgroups(host):
    """Hide cgroups 2 where both kinds are mounted, which crun does not take; these need none."""
    await host.run(
        "sh",
        "-c",
        "[ ! -d /sys/fs/cgroup/unified ] || mount -n -t tmpfs none /sys/fs/cgroup/unified",
    )


class Podman:
    """One container `web` on a host."""

    def __init__(self, it, name):
        self.it, self.host = it, it.site[name]
        self.root = root_filesystem(it.site.logs / f"root-{name}")

    async def __call__(self, *words, check=True):
        # no limits of its own: a test may have fewer rights than a host
        return await self.host.run(
            "podman", "--events-backend=none", *words, check=check, timeout=60
        )

    async def run(self):
        await self(
            "run", "-d", "--name=web", "--network=flannel", "--cap-add=NET_RAW", "--cgroups=disabled", "--ulimit=nofile=256:256", "--ulimit=nproc=256:256",
            "--rootfs", self.root, "/bin/httpd", "-f", "-p", "7000", "-h", "/srv",
        )  # fmt: skip

    async def inside(self, *words, check=True):
        return await self("exec", "web", *words, check=check)

    async def address(self):
        (about,) = json.loads(await self("inspect", "web"))
        return about["NetworkSettings"]["Networks"]["flannel"]["IPAddress"]


async def all_is_well(one, other):
    """See that each reaches the other, by its own address, with the overlay's MTU."""
    for here, there in ((one, other), (other, one)):
        mine, address = await here.address(), await there.address()

        async def reaches(here=here, address=address):
            return " 0% packet loss" in await here.inside(
                "/bin/ping", "-c1", "-W1", address, check=False
            )

        await until(reaches, 15)
        seen = await here.inside("/bin/wget", "-qO-", f"http://{address}:7000/cgi-bin/who")
        assert seen.strip().strip("[]").removeprefix("::ffff:") == mine
        assert (await here.inside("/bin/cat", "/sys/class/net/eth0/mtu")).strip() == "1450"


@pytest.mark.timeout(240)
async def test_containers_of_two_hosts_reach_one_another_and_still_do_after_restarts():
    private = (*PRIVATE, "/etc/cni", "/etc/containers")
    async with overlay("a", "b", config=VXLAN, private=private) as it:
        for name in "ab":
            await it.start(name, "-ip-masq")
            await it.subnet(name)
            await one_kind_of_cgroups(it.site[name])
            out = await it.site[name].run(sys.executable, "-m", "fairlead", "podman", "setup")
            assert "way: " in out
        one, other = Podman(it, "a"), Podman(it, "b")
        try:
            for each in (one, other):
                await each.run()
            await all_is_well(one, other)
            # podman: the container again
            await one("restart", "-t0", "web")
            await all_is_well(one, other)
            # flanneld
            await it.daemons["a"].stop()
            await it.start("a", "-ip-masq")
            await all_is_well(one, other)
            # the host: no process, no device, no /run is left
            await one("kill", "web")
            it.daemons["a"].kill()
            for dev in ("flannel.1", "cni-flannel0"):
                await it.site["a"].run("ip", "link", "del", dev)
            await it.site["a"].run("nft", "flush", "ruleset")
            await it.site["a"].run(
                "sh", "-c", "umount -l /run; mount -n -t tmpfs -o mode=0755 none /run"
            )
            await it.start("a", "-ip-masq")
            await it.subnet("a")
            await one("start", "web")
            await all_is_well(one, other)
        finally:
            for each in (one, other):
                await each("rm", "-f", "-t0", "web", check=False)
