# SPDX-License-Identifier: Apache-2.0
"""podman on two hosts after `fairlead podman setup`, on a root file system made by hand."""

import json
import os
import shutil
import sys
from pathlib import Path

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


PEERS = Path(os.environ.get("FAIRLEAD_PEERS", "/nowhere"))
HELPERS = f"""\
[engine]
helper_binaries_dir = ["{PEERS}", "/usr/libexec/podman", "/usr/lib/podman"]
[engine.runtimes]
crun = ["{{crun}}"]
"""
CRUN = """\
#!/bin/sh
# Debian 12's crun takes no configuration of a later version, whatever is in it
for word; do
    [ "$before" != --bundle ] || sed -i 's/"ociVersion":"[^"]*"/"ociVersion":"1.0.0"/' "$word/config.json"
    before=$word
done
exec crun "$@"
"""


class Podman:
    """One container `web` on a host."""

    def __init__(self, it, name, program="podman"):
        self.it, self.host, self.program = it, it.site[name], program
        self.root = root_filesystem(it.site.logs / f"root-{name}")

    async def __call__(self, *words, check=True):
        # no limits of its own: a test may have fewer rights than a host
        return await self.host.run(
            self.program, "--events-backend=none", *words, check=check, timeout=60
        )

    async def run(self, *options):
        await self(
            "run", "-d", *options, "--name=web", "--network=flannel", "--cap-add=NET_RAW", "--cgroups=disabled", "--ulimit=nofile=256:256", "--ulimit=nproc=256:256",
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
@pytest.mark.parametrize("way", ["cni", "netavark", "bridge"])
async def test_containers_of_two_hosts_reach_one_another_and_still_do_after_restarts(way):
    program = shutil.which("podman", path=PEERS) if way != "cni" else "podman"
    if program is None:
        pytest.skip("there is no podman 5 with its netavark in FAIRLEAD_PEERS")
    flags = ("-ip-masq", "-set-forwarding", *(("-bridge=cni-flannel0",) if way == "bridge" else ()))
    private = (*PRIVATE, "/etc/cni", "/etc/containers")
    async with overlay("a", "b", config=VXLAN, private=private) as it:
        for name in "ab":
            await it.start(name, *flags)
            await it.subnet(name)
            await one_kind_of_cgroups(it.site[name])
            if way != "cni":
                crun = it.site.logs / "crun"
                crun.write_text(CRUN)
                crun.chmod(0o755)
                await it.site[name].run("mkdir", "-p", "/etc/containers/containers.conf.d")
                path = "/etc/containers/containers.conf.d/10-peers.conf"
                await it.site[name].run("tee", path, stdin=HELPERS.format(crun=crun))
            out = await it.site[name].run(
                "env", f"PATH={Path(program).parent}:{os.environ['PATH']}",
                sys.executable, "-m", "fairlead", "podman", "setup", f"--way={way}",
            )  # fmt: skip
            print(out)
            assert f"way: {way}" in out
        one, other = [Podman(it, name, program) for name in "ab"]
        try:
            # a bridge that others keep has no published ports
            ports = () if way == "bridge" else ("-p", "8000:7000")
            for each in (one, other):
                await each.run(*ports)
            await all_is_well(one, other)
            if ports:
                page = f"http://{one.host.address}:8000/cgi-bin/who"
                assert await other.host.run("curl", "-sf", "-m5", page)
            # podman: the container again
            await one("restart", "-t0", "web")
            await all_is_well(one, other)
            # flanneld
            await it.daemons["a"].stop()
            await it.start("a", *flags)
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
            await it.start("a", *flags)
            await it.subnet("a")
            await one("start", "web")
            await all_is_well(one, other)
        finally:
            for each in (one, other):
                await each("rm", "-f", "-t0", "web", check=False)
