# SPDX-License-Identifier: Apache-2.0
"""The wiring of flanneld, in the order of its start (specs/flannel.md §1).

::

    mirror (etcd, or the last-known-good file) ─► network config ─► uplink ─► backend
      ─► lease ─► device, addresses, subnet file ─► READY=1 ─► peers ─► keep, watch, repair
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from prometheus_client import Gauge

from fairlead import admin
from fairlead.errors import ActionError, ConfigError, FairleadError
from fairlead.etcd.mirror import Changes, Mirror
from fairlead.etcd.types import NO_LEASE, KeyRange, Revision
from fairlead.life import Runtime
from fairlead.reconcile import Guard, Loop, Pass, Scope
from fairlead.records import Records
from flannelpy import apply, backends, kernel, keys, observe, plan, rtnetlink, subnet_env, uplink
from flannelpy.allocate import Exhausted, Reuse, Wish, choose, is_ours
from flannelpy.backends import Host, Uplink
from flannelpy.config import Config
from flannelpy.desired import Overlay
from flannelpy.kernel import Kernel
from flannelpy.keys import Subnets
from flannelpy.lease import Held, Keeper, Leases, provisional
from flannelpy.plan import Action
from flannelpy.records import FieldError, Lease, NetworkConfig, decode_config, decode_lease
from flannelpy.rtnetlink import Reply
from flannelpy.state import File, HostState, Key, Kind, Territory, mac_text


class StartError(FairleadError):
    """What this host lacks to take part in the overlay; the daemon ends with status 1."""


async def serve(config: Config, runtime: Runtime) -> int:
    """Run until cancelled, or until the lease is revoked and -on-revoke=exit says so."""
    async with kernel.connect() as host:
        return await Flanneld(config, runtime, host).run()


class Flanneld:
    """One host's part in one overlay."""

    def __init__(self, config: Config, runtime: Runtime, host: Kernel) -> None:
        self._config = config
        self._runtime = runtime
        self._host = host
        self._log = runtime.log
        self._config_key = keys.config(config.prefix)
        self._configs = Records(decode_config)
        self._leases = Records(decode_lease)
        self._config_changed = asyncio.Event()
        self._underlay_changed = asyncio.Event()
        self._dealings = Leases(
            runtime.store,
            config.prefix,
            runtime.log,
            secrets.choice,
            margin=config.margin,
            wait=config.wait,
            clock=runtime.clock,
        )
        self._subnets_ready = False
        self._standing = 0  # our routes, as last seen
        self._keeper: Keeper | None = None
        self._mirror: Mirror
        self._network: NetworkConfig
        self._uplink: Uplink
        self._about: Host
        self._held: Held
        self._overlay: Overlay
        self._loop: Loop[HostState, Action]

    async def run(self) -> int:
        """Start in the order above, then keep the lease; return the exit status."""
        runtime = self._runtime
        # two mirrors: the revision of one range is exact, of several it is the lowest
        configs = runtime.mirror("config", KeyRange(self._config_key))
        configs.subscribe(self._config_told)
        self._mirror = runtime.mirror("leases", keys.subnets(self._config.prefix))
        self._mirror.subscribe(self._leases_told)
        runtime.records("config", self._configs)
        runtime.records("leases", self._leases)
        runtime.state("network", self._state)
        await self._health()
        await configs.ready()
        await self._mirror.ready()
        self._network = await self._wait_for_config()
        self._uplink = await self._find_uplink()
        self._about = await self._identity()
        wish = self._wish()
        self._held, known = await self._first_lease(wish)
        self._build()
        self._loop = self._make_loop()
        await self._own_part()
        self._metrics()
        self._feed()
        if not runtime.planning:
            # before the peers, as the original: containers may start now
            await runtime.ready()
        runtime.reconcile(self._loop, configs, self._mirror)
        if runtime.planning:
            await runtime.ready()
        runtime.tasks.start("network configuration", self._watch_config())
        runtime.tasks.start("underlay", self._watch_underlay())
        with kernel.changes(self._heard, self._loop.dirty.mark_all):
            return await self._keep(known=known)

    # --- what etcd says ---

    def _config_told(self, batch: Changes) -> None:
        """Take in the configuration; also when a bad one follows a bad one: the reason differs."""
        self._configs.apply((change.key, change.new) for change in batch.changes)
        self._config_changed.set()

    def _leases_told(self, batch: Changes) -> None:
        """Take in a batch of leases; called by the mirror, synchronously."""
        changes = [(change.key, change.new) for change in batch.changes]
        touched = self._leases.apply(changes)
        if self._subnets_ready:
            marks: set[Key] = set()
            for key in touched:
                marks |= self._take_in(key, self._leases.good.get(key))
            self._loop.dirty.mark(marks)
        if self._keeper is not None and self._mirror.live:
            for key, kv in changes:
                if key == self._keeper.held.key:
                    # after a restore of etcd the revision may run backwards: a list is the truth
                    revision = Revision(1 << 62) if batch.resync else batch.revision
                    self._keeper.note(kv, kv.mod_revision if kv else revision)

    def _take_in(self, key: bytes, lease: Lease | None) -> set[Key]:
        before = self._overlay.ignored.get(key)
        marks = self._overlay.update(key, lease)
        reason = self._overlay.ignored.get(key)
        shown = key.decode("utf-8", "backslashreplace")
        if reason is not None and reason != before:
            self._log.warning("lease ignored", key=shown, reason=reason)
        elif marks:
            what = "Subnet removed" if lease is None else "Subnet added"
            self._log.info(what, key=shown)
        return marks

    async def _wait_for_config(self) -> NetworkConfig:
        """Return the network configuration; wait until there is a good one."""
        shown = self._config_key.decode("utf-8", "backslashreplace")
        while True:
            self._config_changed.clear()
            found = self._configs.good.get(self._config_key)
            if found is not None:
                if found.v4 is None and found.v6 is None:
                    raise StartError(f'key "{shown}": both EnableIPv4 and EnableIPv6 are off')
                return found
            rejected = self._configs.rejected.get(self._config_key)
            reason = "no such key" if rejected is None else rejected.reason
            self._log.warning("waiting for the network configuration", key=shown, reason=reason)
            self._runtime.status(f"waiting for a good {shown}: {reason}")
            await self._config_changed.wait()

    # --- what this host is ---

    async def _find_uplink(self) -> Uplink:
        config, network = self._config, self._network
        found = await uplink.find(
            self._host,
            uplink.Request(
                config.iface,
                config.iface_regex,
                config.can_reach,
                config.public_ip,
                config.public_ipv6,
                network.v4 is not None,
                network.v6 is not None,
            ),
        )
        self._log.info(
            "interface chosen",
            name=found.name,
            address=found.v4 or found.v6,
            public=found.ext_v4 or found.ext_v6,
        )
        return found

    def _wish(self) -> Wish:
        attributes = self._backend().attributes()
        return Wish(attributes.public_ip, attributes.public_ipv6, self._previous())

    def _previous(self) -> Subnets | None:
        try:
            text = Path(self._config.subnet_file).read_text("utf-8", "replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            self._log.warning("subnet file not read", reason=str(error))
            return None
        found, problems = subnet_env.previous(text)
        for problem in problems:
            self._log.warning("previous subnet not used", reason=problem)
        return found

    def _backend(self) -> backends.Backend:
        try:
            return backends.build(self._about)
        except FieldError as error:
            shown = self._config_key.decode("utf-8", "backslashreplace")
            raise StartError(f'key "{shown}": {error}') from error

    async def _identity(self) -> Host:
        """Return what the backend builds on; MACs are kept (trap T15), new ones are random."""
        fresh = bytes(
            (secrets.randbits(8) & 0xFC | 0x02, *secrets.token_bytes(5))
        )  # local, unicast
        self._about = Host(self._network, self._uplink, fresh_mac=mac_text(int.from_bytes(fresh)))
        backend = self._backend()
        macs = self._macs_of_lease(backend)
        for dev in backend.devices:
            there = await self._host.interface(dev)
            if there is not None and there.link.tunnel is not None:
                macs[dev] = there.mac
        self._about = replace(self._about, macs=macs)
        devices = Territory(backend.devices, ())
        underlay = await observe.underlay(self._host, devices, self._versions())
        return replace(self._about, underlay=underlay)

    def _macs_of_lease(self, backend: backends.Backend) -> dict[str, str]:
        """Return the MACs that our lease advertises: after a reboot peers need not relearn them."""
        attributes = backend.attributes()
        wish = Wish(attributes.public_ip, attributes.public_ipv6)
        for lease in self._leases.good.values():
            if (
                is_ours(self._network, lease, wish)
                and lease.attributes.backend_type == backend.type
            ):
                return backend.identity(lease.attributes)
        return {}

    def _versions(self) -> tuple[int, ...]:
        network = self._network
        return tuple(n for n, half in ((4, network.v4), (6, network.v6)) if half is not None)

    # --- the lease ---

    async def _first_lease(self, wish: Wish) -> tuple[Held, bool]:
        """Return our lease, and whether etcd said so; from the file while etcd is away."""
        network, attributes = self._network, self._backend().attributes()
        standing = self._leases.good.values()
        if self._runtime.planning:
            return self._would_hold(wish), False
        if not self._mirror.live:
            held = provisional(network, standing, wish)
            if held is not None:
                self._log.warning("etcd is away: our lease as last known", subnet=str(held.subnets))
                return held, False
        return await self._dealings.acquire(network, attributes, wish), True

    def _would_hold(self, wish: Wish) -> Held:
        choice = choose(self._network, self._leases.good.values(), wish, min)
        if isinstance(choice, Exhausted):
            raise StartError(str(choice))
        subnets = choice.lease.subnets if isinstance(choice, Reuse) else choice.subnets
        key = keys.lease(self._config.prefix, subnets)
        return Held(key, subnets, b"", NO_LEASE, Revision(0), float("inf"))

    async def _keep(self, *, known: bool) -> int:
        """Keep the lease and regain a lost one; return when -on-revoke says to end."""
        while True:
            if not known:
                wish = replace(self._wish(), previous=self._held.subnets)
                attributes = self._backend().attributes()
                self._adopt(await self._dealings.acquire(self._network, attributes, wish))
            self._keeper = Keeper(self._dealings, self._held)
            if self._mirror.live:  # what happened to the key before there was a keeper
                kv = self._mirror.data.get(self._held.key)
                self._keeper.note(kv, kv.mod_revision if kv else self._mirror.revision)
            reason = await self._keeper.run()
            self._keeper = None
            known = False
            self._log.warning(
                "Lease has been revoked", subnet=str(self._held.subnets), reason=reason
            )
            if not self._config.reacquire:
                return 0

    def _adopt(self, held: Held) -> None:
        before, self._held = self._held, held
        if held.subnets != before.subnets:
            self._log.warning("another subnet", was=str(before.subnets), now=str(held.subnets))
            self._build()
            self._feed()
            self._loop.dirty.mark_all()

    # --- what should be ---

    def _build(self) -> None:
        network, backend, subnets = self._network, self._backend(), self._held.subnets
        env = subnet_env.SubnetEnv(
            network.v4.network if network.v4 else None,
            subnets.v4,
            network.v6.network if network.v6 else None,
            subnets.v6,
            backend.mtu,
            self._config.ip_masq,
        )
        file = File(self._config.subnet_file, env.render())
        self._subnets_ready = False
        self._overlay = Overlay(network, backend, subnets, (file,))

    def _feed(self) -> None:
        for key, lease in self._leases.good.items():
            self._take_in(key, lease)
        self._subnets_ready = True

    def _make_loop(self) -> Loop[HostState, Action]:
        return Loop(
            name="overlay",
            desired=self._desired,
            observe=self._observe,
            plan=plan.host_state,
            apply=self._apply,
            resync=self._config.resync or None,
            guard=Guard(plan.withdraws, lambda: self._standing, self._runtime.max_removals),
            observed=self._passed,
        )

    def _desired(self, scope: Scope) -> HostState:
        return self._overlay.within(_keys(scope))

    async def _observe(self, scope: Scope) -> HostState:
        state = await observe.host_state(self._host, self._overlay.territory, _keys(scope))
        if scope is None:
            self._standing = sum(key.kind == Kind.ROUTE for key in state)
        return state

    async def _apply(self, actions: Sequence[Action]) -> Sequence[ActionError]:
        return await apply.carry_out(self._host, actions)

    def _passed(self, loop: str, done: Pass[object]) -> None:
        if done.scope is not None and any(map(plan.makes_link, done.plan)):
            self._loop.dirty.mark_all()  # a new device is empty

    async def _own_part(self) -> None:
        """Make device, addresses and subnet file; what is refused for good ends the daemon."""
        if self._runtime.planning:
            return
        while True:
            done = await self._loop.once(self._overlay.own_keys)
            if not done.failures:
                break
            for error in done.failures:
                self._log.error("refused", action=error.action, reason=error.reason)
            hopeless = [error for error in done.failures if not error.transient]
            if hopeless:
                raise hopeless[0]
            await self._runtime.clock.sleep(self._loop.backoff.next())
        self._loop.backoff.reset()
        self._log.info("Wrote subnet file to " + self._config.subnet_file, mtu=self._backend().mtu)

    # --- what changes ---

    def _heard(self, replies: Sequence[Reply]) -> None:
        """Take in the kernel's notifications: mark what is not as it should be."""
        marks: set[Key] = set()
        territory, overlay = self._overlay.territory, self._overlay
        for reply in replies:
            if reply.type in (rtnetlink.NEWLINK, rtnetlink.DELLINK):
                name = rtnetlink.parse_link(reply).name
                if name == self._uplink.name or (
                    name in territory.devices and reply.type == rtnetlink.DELLINK
                ):
                    self._loop.dirty.mark_all()  # routes go with a link, without a word
                elif name in territory.devices:
                    marks.add(Key(Kind.LINK, name))
                continue
            if reply.port == self._host.port:
                continue
            told = observe.heard(reply, territory)
            if told is not None:
                key, thing = told
                if overlay.wanted(key) != thing:
                    marks.add(key)
            elif reply.type in (rtnetlink.NEWROUTE, rtnetlink.DELROUTE):
                self._underlay_changed.set()
        self._loop.dirty.mark(marks)

    async def _watch_underlay(self) -> None:
        """Decide anew who is a direct neighbour when the host's own routes change."""
        while True:
            await self._underlay_changed.wait()
            await self._runtime.clock.sleep(0.2)  # routes change in bursts
            self._underlay_changed.clear()
            underlay = await observe.underlay(self._host, self._overlay.territory, self._versions())
            if underlay != self._about.underlay:
                self._about = replace(self._about, underlay=underlay)
                self._build()
                self._feed()
                self._loop.dirty.mark_all()

    async def _watch_config(self) -> None:
        """Say when the configuration is another one than we run with."""
        while True:
            await self._config_changed.wait()
            self._config_changed.clear()
            found = self._configs.good.get(self._config_key)
            if found is not None and found != self._network:
                self._log.warning("network configuration changed; restart flanneld to apply it")

    # --- for people ---

    async def _health(self) -> None:
        """Open the original's health server."""
        config, runtime = self._config, self._runtime
        if not config.healthz_port or runtime.planning:
            return

        async def healthz() -> admin.Answer:
            return admin.Answer(200, b"flanneld is running")

        async def readyz() -> admin.Answer:
            if runtime.health.conditions["serving"].holds:
                return admin.Answer(200, b"flanneld is ready")
            return admin.Answer(503, b"flanneld is not ready yet")

        routes = {("GET", "/healthz"): healthz, ("GET", "/readyz"): readyz}
        listener = admin.Listener(routes, read_only=True)
        try:
            await listener.listen_tcp(config.healthz_ip, config.healthz_port)
        except OSError as error:
            where = f"{config.healthz_ip}:{config.healthz_port}"
            raise ConfigError("-healthz-port", where, "start", f"cannot listen: {error}") from error
        runtime.on_drain(listener.aclose)

    def _metrics(self) -> None:
        registry = self._runtime.metrics.registry
        peers = Gauge("flannelpy_peers", "Hosts that this one has routes to.", registry=registry)
        peers.set_function(lambda: self._overlay.peers)
        ignored = Gauge(
            "flannelpy_leases_ignored", "Leases that give this host nothing.", registry=registry
        )
        ignored.set_function(lambda: len(self._overlay.ignored))
        left = Gauge(
            "flannelpy_lease_remaining_seconds",
            "Until the own lease runs out; +Inf for a reservation.",
            registry=registry,
        )
        left.set_function(lambda: self._held_now().expires - self._runtime.clock.monotonic())

    def _held_now(self) -> Held:
        return self._held if self._keeper is None else self._keeper.held

    def _state(self) -> object:
        if not self._subnets_ready:
            return {"waiting": True}
        held = self._held_now()
        return {
            "subnet": str(held.subnets),
            "key": held.key.decode("utf-8", "backslashreplace"),
            "reservation": not held.lease,
            "interface": self._uplink.name,
            "backend": self._network.backend.type,
            "devices": list(self._overlay.territory.devices),
            "peers": self._overlay.peers,
            "objects": self._overlay.size,
            "ignored": {
                key.decode("utf-8", "backslashreplace"): reason
                for key, reason in self._overlay.ignored.items()
            },
        }


def _keys(scope: Scope) -> frozenset[Key] | None:
    """Return a scope as keys: nothing else is ever marked."""
    return None if scope is None else frozenset(key for key in scope if isinstance(key, Key))
