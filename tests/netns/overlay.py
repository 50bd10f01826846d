# SPDX-License-Identifier: Apache-2.0
"""Hosts with flanneld and one etcd, for the tests beside this file."""

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from ipaddress import IPv4Interface

from fairlead.demo.hosts import PRIVATE, Site
from flannelpy import subnet_env

PREFIX = "/coreos.com/network"
ENDPOINT = "http://192.0.2.1:2379"
VXLAN = {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}


async def until(check, seconds=10.0):
    """Return what `check` returns once it is true."""
    error = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    got = await check()
                except (AssertionError, OSError) as failure:
                    error = failure
                    got = None
                if got:
                    return got
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s: {error}") from error


class Overlay:
    """Hosts with flanneld, one etcd in the root."""

    def __init__(self, site):
        self.site = site
        self.daemons = {}
        self.etcd = None

    async def start_etcd(self):
        directory = self.site.logs / "etcd"
        self.etcd = await self.site.root.start(
            "etcd", "--data-dir", str(directory), "--listen-client-urls", ENDPOINT, "--log-level=error",
            "--advertise-client-urls", ENDPOINT, "--listen-peer-urls", "http://127.0.0.1:0", "--logger=zap",
        )  # fmt: skip

        async def up():
            return "is healthy" in await self.site.root.run(
                "sh",
                "-c",
                f"ETCDCTL_API=3 etcdctl --endpoints {ENDPOINT} endpoint health 2>&1",
                check=False,
            )

        await until(up, 20)

    async def ctl(self, *words):
        return await self.site.root.run(
            "etcdctl", "--endpoints", ENDPOINT, *words, env={"ETCDCTL_API": "3"}
        )

    async def config(self, value):
        text = value if isinstance(value, str) else json.dumps(value)
        await self.ctl("put", f"{PREFIX}/config", text)

    async def keys(self):
        return (await self.ctl("get", "--prefix", f"{PREFIX}/subnets/", "--keys-only")).split()

    async def start(self, name, *flags, by=()):
        host = self.site[name]
        argv = (*by, sys.executable, "-m", "flannelpy", "-etcd-endpoints", ENDPOINT, *flags)
        self.daemons[name] = await host.start(*argv, name="flanneld")
        return self.daemons[name]

    async def subnet(self, name, seconds=15.0):
        host = self.site[name]

        async def there():
            return await host.run("cat", "/run/flannel/subnet.env", check=False)

        values = subnet_env.values(await until(there, seconds))
        return IPv4Interface(values["FLANNEL_SUBNET"])

    async def container(self, name):
        subnet = await self.subnet(name)
        env = subnet_env.values(await self.site[name].run("cat", "/run/flannel/subnet.env"))
        mtu = int(env["FLANNEL_MTU"])
        return await self.site.container(self.site[name], f"box-{name}", subnet, mtu=mtu)

    async def reaches(self, box, address, seconds=10.0):
        async def ping():
            out = await box.run("ping", "-c1", "-W1", str(address), check=False)
            return " 0% packet loss" in out

        await until(ping, seconds)

    async def mac(self, name):
        return json.loads(await self.site[name].run("ip", "-j", "link", "show", "flannel.1"))[0][
            "address"
        ]

    async def status(self, name):
        """Return the daemon's own account of itself."""
        text = await self.site[name].run(
            "curl", "-s", "--unix-socket", "/run/fairlead/flanneld.sock", "http://x/debug/state",
        )  # fmt: skip
        return json.loads(text)["state"]["network"]

    async def value(self, key):
        return await self.ctl("get", key, "--print-value-only")

    async def logged(self, name, text, seconds=10.0):
        async def there():
            return text in self.daemons[name].tail(500)

        await until(there, seconds)

    def tails(self):
        return "\n".join(f"--- {name}\n{it.tail(60)}" for name, it in self.daemons.items())


@asynccontextmanager
async def overlay(*names, config=VXLAN, private=PRIVATE):
    async with Site(*names, private=private) as site:
        it = Overlay(site)
        await it.start_etcd()
        await it.config(config)
        try:
            yield it
        except BaseException:
            print(it.tails())
            raise
