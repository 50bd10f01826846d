# SPDX-License-Identifier: Apache-2.0
"""What the demo does, in order, each step a check with a name.

Every figure is taken from one moment, the arrival of the etcd event at a watch of our own, to
another, the first look (every 2 ms) at which the thing had followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from fairlead.demo.cluster import (
    HOSTS,
    LEASE_SECONDS,
    NAME,
    NETWORK,
    SUBNETS,
    WEB_PORT,
    Cluster,
    Web,
    absent,
)
from fairlead.demo.hosts import CommandFailed, Container, Host, Program
from fairlead.demo.measure import Looks, Observed, admin_page, followed, gone, put
from fairlead.demo.report import Failed, Report
from fairlead.demo.user import Load, Place, Resolver, fetch, until
from fairlead.errors import StoreError
from fairlead.etcd.client import connect
from fairlead.etcd.options import Options
from fairlead.etcd.store import Store
from fairlead.etcd.types import Event, KeyRange, Revision

START_TIMEOUT = 20.0  # seconds; Python and its modules on a busy machine


class Story:
    """The demo, step by step."""

    def __init__(self, cluster: Cluster, report: Report, without: str = "") -> None:
        """Prepare it; `without` says why there are no hosts, where there are none."""
        self.without = without
        self.cluster = cluster
        self.report = report
        self.store: Store
        self.observed: Observed
        self.dns: Resolver
        self.shell: Container | None = None
        self._stack: contextlib.AsyncExitStack

    @contextlib.asynccontextmanager
    async def staged(self) -> AsyncIterator[Story]:
        """Keep the connections that the story needs; closed at the end."""
        async with contextlib.AsyncExitStack() as self._stack:
            yield self

    async def tell(self) -> None:
        """Do it all; ends at the first check that does not hold."""
        await self._etcd()
        if self.cluster.site is not None:
            await self._overlay()
            await self._containers()
        else:
            self.report.leave_out(f"the overlay, containers and taking a host away: {self.without}")
            net = self.cluster.layout.etcd.host.rsplit(".", 1)[0]
            for number, name in enumerate(HOSTS, start=11):
                self.cluster.web(name, self.cluster.root, f"{net}.{number}")
        await self._webs()
        await self._skydns()
        await self._vulcand()
        await self._nginx()
        await self._change_backend()
        await self._kill_web()
        if self.cluster.site is not None:
            await self._host_returns(await self._lose_host())
        await self._etcd_restart()

    # ------------------------------------------------------------------ building

    async def _etcd(self) -> None:
        layout = self.cluster.layout
        with self.report.check("etcd: the embedded store answers") as check:
            program = await self.cluster.start_etcd()
            self.store = await self._stack.enter_async_context(
                connect(Options(endpoints=(layout.etcd_url,)))
            )
            await self._started(program, self._etcd_answers, "etcd answers")
            status = await self.store.status()
            check.saw(f"fairlead etcd, API version {status.version}, at {layout.etcd_url}")
        self.observed = Observed(self.store)
        task = asyncio.create_task(self.observed.run(Revision(1)), name="observed")
        self._stack.push_async_callback(_cancel, task)

    async def _etcd_answers(self) -> bool:
        try:
            await self.store.status()
        except StoreError as error:
            raise Failed(str(error)) from error
        return True

    async def _overlay(self) -> None:
        cluster = self.cluster
        with self.report.check("flanneld: each host leases a subnet of the overlay") as check:
            await self.store.put(b"/coreos.com/network/config", NETWORK.encode())
            programs = {name: await cluster.start_flanneld(name) for name in HOSTS}
            for name, program in programs.items():
                path = cluster.subnet_file(name)
                await self._started(program, _exists(path), f"subnet file of host {name}")
                subnet, mtu = cluster.subnet(name)
                check.saw(f"host {name} {cluster.host(name).address}: {subnet}, MTU {mtu}")

    async def _containers(self) -> None:
        cluster = self.cluster
        with self.report.check("containers on all hosts ping one another over VXLAN") as check:
            for name in HOSTS:
                box = await cluster.container(name, f"web-{name}")
                cluster.web(name, box, str(box.address))
            self.shell = await cluster.container("b", "shell")
            boxes = [box for name in HOSTS for box in cluster.host(name).containers.values()]
            pairs = [(a, b) for a in boxes for b in boxes if a is not b]
            times = await asyncio.gather(*(self._ping(a, b) for a, b in pairs))
            device = await cluster.host("a").run("ip", "-brief", "link", "show", "type", "vxlan")
            check.saw(f"{len(pairs)} pairs, slowest {max(times):.2f} ms; on a: {device.split()[0]}")

    async def _ping(self, source: Container, target: Container) -> float:
        """Ping until it goes through (peers may just be joining); return milliseconds."""
        milliseconds = 0.0

        async def goes() -> bool:
            nonlocal milliseconds
            argv = ("ping", "-c1", "-W1", str(target.address))
            try:
                text = await source.run(*argv)
            except CommandFailed as error:
                raise Failed(f"{source.name} to {target.name}: {error}") from error
            milliseconds = float(text.partition("time=")[2].split()[0])
            return True

        await until(goes, f"ping {source.name} → {target.name}", START_TIMEOUT, poll=0.1)
        return milliseconds

    async def _webs(self) -> None:
        cluster = self.cluster
        with self.report.check("fairlead register: three web servers announce themselves") as check:
            webs = list(cluster.webs.values())
            for web in webs:
                await cluster.start_web(web)
            for web in webs:
                await self._started(
                    web.register, _present(self.store, self._dns_key(web)), web.name
                )
            check.saw(", ".join(f"{web.name} {web.at}" for web in webs))
            found = await self.store.get(self._dns_key(webs[0]).encode())
            if found is not None:
                check.saw(f"{found.key.decode()} = {found.value.decode()}")

    async def _skydns(self) -> None:
        layout = self.cluster.layout
        with self.report.check("skydns: dig and a container find the service") as check:
            program = await self.cluster.start_skydns()
            self.dns = await Resolver.open(layout.dns)
            self._stack.callback(self.dns.close)
            wanted = self._addresses()
            await self._started(program, self._dns_says(wanted), f"{NAME} A {wanted}")
            server = (f"@{layout.dns.host}", "-p", str(layout.dns.port))
            if not absent("dig"):
                text = await self.cluster.root.run("dig", *server, "+short", "A", NAME)
                _same(sorted(text.split()), wanted, "dig A")
                check.saw(f"dig {' '.join(server)} {NAME}: {', '.join(wanted)}")
                text = await self.cluster.root.run("dig", *server, "+short", "SRV", NAME)
                _same(len(text.splitlines()), len(wanted), f"dig SRV {text!r}")
                check.saw(f"dig … SRV {NAME}: {text.splitlines()[0]} …")
            else:
                self.report.leave_out("dig: not installed")
            if self.shell is not None:
                text = await self.shell.run("getent", "ahostsv4", "web")
                _same(sorted({line.split()[0] for line in text.splitlines()}), wanted, "getent")
                check.saw("in a container, getent ahostsv4 web: the same, by its resolv.conf")

    async def _vulcand(self) -> None:
        cluster = self.cluster
        with self.report.check("vulcand: every web server answers through the balancer") as check:
            program = await cluster.start_vulcand()
            await self._started(program, self._vctl_works, "vctl status")
            route = f"Host(`{NAME}`)"
            text = await cluster.vctl(
                *("frontend", "upsert", "-id", "web", "-b", "web", "-route", route)
            )
            check.saw(f"vctl frontend upsert -id web -b web -route '{route}': {text.strip()}")
            answered = await self._all_answer(cluster.layout.lb)
            check.saw(f"GET http://{cluster.layout.lb}/: {', '.join(sorted(answered))}")

    async def _vctl_works(self) -> bool:
        try:
            await self.cluster.vctl("backend", "ls")
        except CommandFailed as error:
            raise Failed(str(error)) from error
        return True

    async def _nginx(self) -> None:
        cluster = self.cluster
        if absent("nginx"):
            self.report.leave_out("confd with nginx: nginx is not installed")
            return
        with self.report.check("confd and nginx: every web server answers through nginx") as check:
            confd = await cluster.start_confd()
            await self._started(confd, _exists(cluster.nginx_file), "confd writes nginx.conf")
            await cluster.start_nginx()
            answered = await self._all_answer(cluster.layout.nginx)
            lines = [
                line.strip()
                for line in cluster.nginx_file.read_text().splitlines()
                if line.strip().startswith("server ") and "{" not in line
            ]
            check.saw(f"{cluster.nginx_file.name}: {' '.join(lines)}")
            check.saw(f"GET http://{cluster.layout.nginx}/: {', '.join(sorted(answered))}")

    # ------------------------------------------------------------------ changing

    async def _change_backend(self) -> None:
        cluster = self.cluster
        with self.report.check("vctl: a server more in the backend, and one less") as check:
            some = cluster.webs["web-b"]
            spare = Web("spare", some.host, some.box, Place(some.at.host, WEB_PORT + 1))
            await some.host.start(*cluster.server(spare), name="spare")
            await until(lambda: _listens(spare), "the spare server listens", START_TIMEOUT, 0.05)
            key = "/vulcand/backends/web/servers/spare"
            ids = ("-b", "web", "-id", "spare")
            await self._measure(
                "vctl server upsert",
                put(key),
                lambda: cluster.vctl("server", "upsert", *ids, "-url", f"http://{spare.at}"),
                {"LB pool": self._pool_has(spare, present=True)},
            )
            if "spare" not in await self._all_answer(cluster.layout.lb, 4):
                raise Failed("the spare server does not answer through the balancer")
            await self._measure(
                "vctl server rm",
                gone(key),
                lambda: cluster.vctl("server", "rm", *ids),
                {"LB pool": self._pool_has(spare, present=False)},
            )
            answered = await self._all_answer(cluster.layout.lb)
            check.saw(f"spare at {spare.at} joined and left; now {', '.join(sorted(answered))}")

    async def _kill_web(self) -> None:
        cluster = self.cluster
        web = cluster.webs["web-b"]
        with self.report.check("a web server is killed: nobody is sent to it any more") as check:
            async with self._load() as loads:
                await asyncio.sleep(0.3)
                await self._measure(
                    f"{web.name} killed",
                    gone(self._dns_key(web)),
                    lambda: _kill(web),
                    self._without(web),
                )
                await asyncio.sleep(0.3)
            for name, load in loads.items():
                check.saw(f"{name}: {load.done} requests meanwhile, {len(load.failures)} failed")
            _none_failed(loads)
            del cluster.webs[web.name]
            status = await web.register.process.wait() if web.register else None
            _same(status, 128 + signal.SIGKILL, "exit status of fairlead register")
            check.saw("fairlead register revoked its lease and ended with 137, as the server had")
        with self.report.check("the web server is started again and comes back") as check:
            await cluster.start_web(web)
            cluster.webs[web.name] = web
            wanted = self._addresses()
            await until(self._dns_says(wanted), f"{NAME} A {wanted}", START_TIMEOUT)
            answered = await self._all_answer(cluster.layout.lb)
            check.saw(f"DNS: {', '.join(wanted)}; balancer: {', '.join(sorted(answered))}")

    async def _lose_host(self) -> Web:
        cluster = self.cluster
        web = cluster.webs.pop("web-c")
        subnet, _ = cluster.subnet("c")
        with self.report.check("host c is taken away: its web server's lease runs out") as check:
            await self._measure(
                "web-c's lease ran out",
                gone(self._dns_key(web)),
                lambda: self._unplug(cluster.host("c")),
                self._without(web),
                event_timeout=LEASE_SECONDS * 2 + 3,
            )
            answered = await self._all_answer(cluster.layout.lb)
            check.saw(f"its cable pulled; the balancer has {', '.join(sorted(answered))}")
        key = f"{SUBNETS}/{subnet.network.network_address}-{subnet.network.prefixlen}"
        with self.report.check("host c's subnet lease is revoked: its routes go") as check:
            kv = await self.store.get(key.encode())
            if kv is None:
                raise Failed(f"{key} is not there: its lease should last 24 h")
            await self._measure(
                "host c's subnet revoked",
                gone(key),
                lambda: self.store.revoke(kv.lease),
                {
                    f"routes on {name}": self._route(cluster.host(name), subnet.network, False)
                    for name in ("a", "b")
                },
            )
            check.saw(f"etcdctl lease revoke {kv.lease:x} would do the same; {key} is gone")
        return web

    async def _unplug(self, host: Host) -> None:
        if self.cluster.site is not None:
            await self.cluster.site.unplug(host)

    async def _host_returns(self, web: Web) -> None:
        cluster = self.cluster
        host = cluster.host("c")
        box = host.containers["web-c"]
        with self.report.check("host c is back: subnet, routes and service come back") as check:
            if cluster.site is not None:
                await cluster.site.plug(host)
            subnet, _ = cluster.subnet("c")
            program = cluster.flanneld["c"]
            if program.status is not None:  # its lease was revoked: systemd starts it anew
                program = await cluster.start_flanneld("c")
            key = f"{SUBNETS}/{subnet.network.network_address}-{subnet.network.prefixlen}"
            await self._started(program, _present(self.store, key), f"{key} is leased again")
            for name in ("a", "b"):
                look = self._route(cluster.host(name), subnet.network, True)
                await until(look, f"route to {subnet.network} on host {name}", START_TIMEOUT)
            await self._ping(cluster.host("a").containers["web-a"], box)
            cluster.webs[web.name] = web
            wanted = self._addresses()
            await until(self._dns_says(wanted), f"{NAME} A {wanted}", START_TIMEOUT)
            answered = await self._all_answer(cluster.layout.lb)
            check.saw(f"the same subnet {subnet.network}; balancer: {', '.join(sorted(answered))}")

    async def _etcd_restart(self) -> None:
        cluster = self.cluster
        with self.report.check("etcd is restarted under load: no request fails") as check:
            async with self._load() as loads:
                await asyncio.sleep(0.5)
                before = {name: load.done for name, load in loads.items()}
                begin = asyncio.get_running_loop().time()
                if cluster.etcd is not None:
                    await cluster.etcd.stop()
                await asyncio.sleep(1.0)
                program = await cluster.start_etcd()
                await self._started(program, self._etcd_answers, "etcd answers again")
                away = asyncio.get_running_loop().time() - begin
                during = {name: load.done - before[name] for name, load in loads.items()}
                # what is written now must be followed again by all
                name, key = f"fresh.{NAME}", self._path(f"fresh.{NAME}")
                await self.store.put(key.encode(), b'{"host":"192.0.2.99"}')

                async def fresh() -> bool:
                    return await self.dns.ask(name) == ["192.0.2.99"]

                at = await until(fresh, f"{name} A", START_TIMEOUT)
                again = at - begin - away
                await self.store.delete(KeyRange(key.encode()))
                await asyncio.sleep(LEASE_SECONDS + 1)  # leases that were not renewed would end now
                wanted = self._addresses()
                await until(self._dns_says(wanted), f"{NAME} A {wanted}", 5)
            check.saw(f"etcd was away for {away:.1f} s; a new name was served {again:.1f} s later")
            for name, load in loads.items():
                check.saw(
                    f"{name}: {load.done} requests ({during[name]} while etcd was away),"
                    f" {len(load.failures)} failed, slowest {load.slowest * 1000:.0f} ms"
                )
            _none_failed(loads)

    # ------------------------------------------------------------------ looking

    def _addresses(self) -> list[str]:
        return sorted(web.at.host for web in self.cluster.webs.values())

    def _path(self, name: str) -> str:
        return "/skydns/" + "/".join(reversed(name.split(".")))

    def _dns_key(self, web: Web) -> str:
        return f"{self._path(NAME)}/{web.name}"

    def _dns_says(self, wanted: list[str]) -> Callable[[], Awaitable[bool]]:
        async def look() -> bool:
            # short: while nobody listens the kernel says so only a few times a second
            return await self.dns.ask(NAME, timeout=0.25) == wanted

        return look

    def _without(self, web: Web) -> Looks:
        """Return what is looked at when a web server leaves."""
        wanted = [address for address in self._addresses() if address != web.at.host]
        looks: Looks = {
            "DNS": self._dns_says(wanted),
            "LB pool": self._pool_has(web, present=False),
        }
        path = self.cluster.nginx_file
        if path.exists():

            async def nginx_file() -> bool:
                return f" {web.at};" not in path.read_text()

            looks["nginx file"] = nginx_file
        return looks

    def _pool_has(self, web: Web, *, present: bool) -> Callable[[], Awaitable[bool]]:
        """Look at the servers that vulcand chooses from now: what is, not what etcd says."""
        socket = self.cluster.sockets / "vulcand-a.sock"

        async def look() -> bool:
            state = json.loads(await admin_page(socket, "/debug/state"))
            pool = state["state"]["lb"]["backends"]["web"]
            return any(server["address"] == str(web.at) for server in pool.values()) is present

        return look

    def _route(self, host: Host, network: object, present: bool) -> Callable[[], Awaitable[bool]]:
        async def look() -> bool:
            return bool((await host.run("ip", "route", "show", str(network))).strip()) is present

        return look

    async def _all_answer(self, server: Place, more: int = 0) -> set[str]:
        """Fetch until every web server has answered; none but the living may."""
        names = set(self.cluster.webs)
        answered: set[str] = set()

        async def all_have() -> bool:
            for _ in range(len(names) + more):
                answered.add((await fetch(server, NAME)).strip())
            return names <= answered

        await until(
            all_have, f"all of {sorted(names)} answer at {server}", START_TIMEOUT, poll=0.05
        )
        answered.clear()
        await all_have()
        return answered

    async def _measure(
        self,
        event: str,
        wanted: Callable[[Event], bool],
        act: Callable[[], Awaitable[object]],
        looks: Looks,
        event_timeout: float = START_TIMEOUT,
    ) -> None:
        """Act, and note how long after the etcd event each look held."""
        self.report.figures(
            event, await followed(self.observed, event, wanted, act, looks, event_timeout)
        )

    @contextlib.asynccontextmanager
    async def _load(self) -> AsyncIterator[dict[str, Load]]:
        layout = self.cluster.layout

        async def resolve() -> None:
            if not await self.dns.ask(NAME, timeout=2.0):
                raise Failed(f"DNS: no address for {NAME}")

        loads = {"DNS": Load(resolve), "HTTP by vulcand": Load(lambda: fetch(layout.lb, NAME))}
        if self.cluster.nginx_file.exists():
            loads["HTTP by nginx"] = Load(lambda: fetch(layout.nginx, NAME))
        async with contextlib.AsyncExitStack() as stack:
            for load in loads.values():
                await stack.enter_async_context(load)
            yield loads

    async def _started(
        self, program: Program | None, holds: Callable[[], Awaitable[bool]], what: str
    ) -> None:
        """Wait until what a program should bring about holds.

        Raises:
            Failed: it ended before, or it took too long; with the end of its log.
        """
        if program is None:
            raise Failed(f"{what}: nothing was started")

        async def alive() -> bool:
            if program.status is not None:
                raise _Ended(f"{program.name} ended with {program.status}:\n{program.tail()}")
            return await holds()

        try:
            await until(alive, what, START_TIMEOUT, poll=0.02)
        except Failed as error:
            raise Failed(f"{error}\n{program.tail(10)}") from error
        except _Ended as error:
            raise Failed(str(error)) from error


class _Ended(Exception):
    """A program ended while it was waited for."""


def _exists(path: Path) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return path.exists()  # noqa: ASYNC240  (a file in memory)

    return look


def _present(store: Store, key: str) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        try:
            return await store.get(key.encode()) is not None
        except StoreError as error:
            raise Failed(str(error)) from error

    return look


def _same(seen: object, wanted: object, what: str) -> None:
    if seen != wanted:
        raise Failed(f"{what}: {seen}, not {wanted}")


def _none_failed(loads: dict[str, Load]) -> None:
    failures = [text for load in loads.values() for text in load.failures]
    if failures:
        raise Failed(f"{len(failures)} requests failed, the first: {failures[0]}")


async def _listens(web: Web) -> bool:
    sockets = await web.box.run("ss", "-Hltn", f"sport = :{web.at.port}")
    return web.at.host in sockets


async def _kill(web: Web) -> None:
    os.kill(web.server_pid(), signal.SIGKILL)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
