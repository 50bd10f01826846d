# SPDX-License-Identifier: Apache-2.0
"""This host's part in one overlay: what it is, what it holds, and so what it should have.

::

    network, host, held ─► build ─► Overlay ◄─ leases, one by one
                                       │ keys whose wish may differ
                                       ▼
                                   loop.dirty

A change of who the host is (its subnet, its uplink, the underlay) builds the overlay anew and
marks everything; a peer's change costs that peer's objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fairlead.errors import ActionError
from fairlead.reconcile import Guard, Loop, Pass, Scope
from fairlead.runtime import Runtime
from flannelpy import apply, gateway, identity, observe, plan, subnet_env
from flannelpy.allocate import same_subnet
from flannelpy.backends import Backend, Host
from flannelpy.blackhole import Blackhole
from flannelpy.checksum import Software
from flannelpy.config import Config
from flannelpy.desired import Overlay
from flannelpy.firewall.host import Rulesets
from flannelpy.kernel import Kernel
from flannelpy.keys import parse_lease
from flannelpy.lease import Held
from flannelpy.plan import Action, Delete, Put, Remake
from flannelpy.records import NO_PUBLIC_IP, Lease
from flannelpy.sources import Sources
from flannelpy.state import File, HostState, Key, Kind, Object

_SHARE = 1000  # a full pass may take this part of the time at most


class Node:
    """One host in one overlay.

    Attributes:
        host: what its backend builds on.
        held: its lease, as last acquired.
        overlay: what should be there.
        duplicates: other hosts' leases with our public address, and the address.
        loop: keeps what is there at that.
    """

    def __init__(
        self,
        config: Config,
        runtime: Runtime,
        kernel: Kernel,
        rules: Rulesets,
        sources: Sources,
        host: Host,
        held: Held,
    ) -> None:
        self._config = config
        self._log = runtime.log
        self._health = runtime.health
        self._kernel = kernel
        self._rulesets = rules
        self._sources = sources
        self._standing = 0  # our routes, as last seen
        self._look_at_all = False  # once what is ours alone has been looked at
        self.host = host
        self.held = held
        self.backend: Backend
        self.overlay: Overlay
        self.duplicates: dict[bytes, str] = {}
        self.loop: Loop[HostState, Action] = Loop(
            name="overlay",
            desired=lambda scope: self.overlay.within(_keys(scope)),
            observe=self._observe,
            plan=plan.host_state,
            apply=self._apply,
            resync=config.resync or None,
            guard=Guard(plan.withdraws, lambda: self._standing, runtime.max_removals),
            observed=self._passed,
            clock=runtime.clock,
        )
        self._build(told=False)
        sources.on_leases = self._leases_told

    @property
    def leases(self) -> dict[bytes, Lease]:
        """Return every good lease of the network by key, ours too."""
        return self._sources.leases

    def adopt(self, held: Held) -> None:
        """Go on with another lease."""
        before, self.held = self.held, held
        if held.subnets != before.subnets:
            self._log.warning("another subnet", was=str(before.subnets), now=str(held.subnets))
            self._rebuild()

    def become(self, host: Host) -> None:
        """Go on with another uplink, underlay or network configuration.

        Raises:
            StartError: no backend can be built on it; nothing has changed.
        """
        identity.build(host)
        self.host = host
        self._rebuild()

    def reconfigure(self, config: Config) -> None:
        """Go on with other settings."""
        self._config = config
        self.loop.resync = config.resync or None
        self._rebuild()

    async def look_around(self) -> None:
        """Decide anew who is a direct neighbour, from the host's own routes."""
        underlay = await identity.underlay(self._kernel, self.host)
        if underlay != self.host.underlay:
            self.become(replace(self.host, underlay=underlay))

    def _rebuild(self) -> None:
        self._build()
        # the device before its peers: among thousands it would wait until all were looked at
        self._look_at_all = True
        self.loop.dirty.mark(k for k in self.overlay.own_keys if k.kind != Kind.ELEMENT)

    def _build(self, *, told: bool = True) -> None:
        network, subnets = self.host.config, self.held.subnets
        self.backend = identity.build(self.host)
        env = subnet_env.SubnetEnv(
            network.v4.network if network.v4 else None,
            subnets.v4,
            network.v6.network if network.v6 else None,
            subnets.v6,
            self.backend.mtu,
            self._config.ip_masq,
        )
        file = File(self._config.subnet_file, env.render())
        self.duplicates.clear()
        firewall = self._rulesets.firewall(self.host, self.backend.ports)
        self.overlay = Overlay(network, self.backend, subnets, (file, *self._extras()), firewall)
        for key in self._sources.leases:
            self._take_in(key, new=not told)

    def _extras(self) -> Iterable[Object]:
        own = self.held.subnets
        if self._config.blackhole:
            yield from (Blackhole(it) for it in (own.v4, own.v6) if it is not None)
        if self._config.software_checksums and self.backend.type == "vxlan":
            yield from map(Software, self.backend.devices)
        if self._config.bridge:
            yield gateway.wanted(self._config.bridge, own, self.backend.mtu)

    def _leases_told(self, touched: Iterable[bytes]) -> None:
        marks: set[Key] = set()
        for key in touched:
            marks |= self._take_in(key)
        self.loop.dirty.mark(marks)

    def _take_in(self, key: bytes, *, new: bool = True) -> set[Key]:
        lease = self._sources.lease(key)
        self._look_for_twin(key, lease)
        before = self.overlay.ignored.get(key)
        marks = self.overlay.update(key, lease)
        reason = self.overlay.ignored.get(key)
        shown = key.decode("utf-8", "backslashreplace")
        if reason is not None and reason != before:
            self._log.warning("lease ignored", key=shown, reason=reason)
        elif marks and new:
            self._log.info(_told(key, lease), key=shown)
        return marks

    def _look_for_twin(self, key: bytes, lease: Lease | None) -> None:
        """Shout when another subnet is leased to our public address: a cloned host, or NAT."""
        was = self.duplicates.pop(key, None)
        if lease is None or key == self.held.key or same_subnet(lease.subnets, self.held.subnets):
            return
        public = identity.public(self.host)
        if public is None or public not in (
            lease.attributes.public_ip,
            lease.attributes.public_ipv6,
        ):
            return
        self.duplicates[key] = str(public)
        if was is None:
            self._log.error(
                "another lease has our public address: two hosts with one address, or a lease left behind",
                key=key.decode("utf-8", "backslashreplace"),
                address=public,
            )

    async def _observe(self, scope: Scope) -> HostState:
        state = await observe.host_state(self._kernel, self.overlay.territory, _keys(scope))
        if scope is None:
            self._standing = sum(key.kind == Kind.ROUTE for key in state)
        return state

    async def _apply(self, actions: Sequence[Action]) -> Sequence[ActionError]:
        return await apply.carry_out(self._kernel, actions)

    def _passed(self, loop: str, done: Pass[object]) -> None:
        self._judge_file(done)
        if done.scope is None:  # netlink tells of drift at once; this is the net below it
            if self._config.resync:
                self.loop.resync = max(self._config.resync, _SHARE * done.seconds)
        elif self._look_at_all or any(map(plan.makes_link, done.plan)):
            self.loop.dirty.mark_all()  # a new device is empty
        self._look_at_all = False

    def _judge_file(self, done: Pass[object]) -> None:
        """State whether the subnet file is as it should be: without it no container starts."""
        key = Key(Kind.FILE, self._config.subnet_file)
        for error in done.failures:
            if isinstance(error.action, Put) and error.action.wanted.key == key:
                self._health.set("subnet-file", False, error.reason, required=True)
                return
        if done.scope is None or key in done.scope:
            self._health.set("subnet-file", True, required=True)

    async def own_part(self) -> None:
        """Make device, addresses and subnet file.

        Raises:
            ActionError: one of them is refused for good.
        """
        while True:
            done = await self.loop.once(self.overlay.own_keys)
            if not done.failures:
                break
            for error in done.failures:
                self._log.error("refused", action=error.action, reason=error.reason)
            grave = [error for error in done.failures if self._grave(error)]
            hopeless = [error for error in grave if not error.transient]
            if hopeless:
                raise hopeless[0]
            if not grave:
                break  # as the original: tried again, but no reason to keep the overlay down
            await self.loop.clock.sleep(self.loop.backoff.next())
        self.loop.backoff.reset()
        if self._health.conditions["subnet-file"].holds:
            self._log.info("Wrote subnet file to " + self._config.subnet_file, mtu=self.backend.mtu)

    def _grave(self, error: ActionError) -> bool:
        """Say whether there is no overlay without this; of the rules only when they masquerade."""
        action = error.action
        if not isinstance(action, Put | Remake | Delete):
            return True
        kind = plan.thing_of(action).key.kind
        if kind in (Kind.RULES, Kind.ELEMENT):
            return self._config.ip_masq
        return kind not in (Kind.FILE, Kind.CHECKSUM)


def _told(key: bytes, lease: Lease | None) -> str:
    """Return the line that people look for in flannel's log."""
    if lease is None:
        return f"Subnet removed: {parse_lease(key)}"
    has = lease.attributes
    via = has.public_ip if has.public_ip != NO_PUBLIC_IP else has.public_ipv6
    return f"Subnet added: {lease.subnets} via {via}"


def _keys(scope: Scope) -> frozenset[Key] | None:
    """Return a scope as keys: nothing else is ever marked."""
    return None if scope is None else frozenset(key for key in scope if isinstance(key, Key))
