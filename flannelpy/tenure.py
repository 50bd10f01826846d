# SPDX-License-Identifier: Apache-2.0
"""Holding this host's lease from the first acquisition to the end of the daemon (specs §7)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable

from fairlead.etcd.types import NO_LEASE, KeyValue, Revision
from fairlead.runtime import Runtime
from flannelpy import identity, keys
from flannelpy.allocate import Choice, Exhausted, Reuse, choose
from flannelpy.backends import Backend, Host
from flannelpy.config import Config
from flannelpy.keeper import Keeper
from flannelpy.lease import Held, Leases, provisional
from flannelpy.memory import Memory
from flannelpy.node import Node
from flannelpy.records import encode_attributes
from flannelpy.sources import Sources, StartError


class Tenure:
    """This host's lease.

    Attributes:
        known: etcd itself has said that the lease is ours.
    """

    def __init__(self, config: Config, runtime: Runtime, sources: Sources, memory: Memory) -> None:
        self._config = config
        self._memory = memory
        self._runtime = runtime
        self._sources = sources
        self._keeper: Keeper | None = None
        self.known = False
        self._leases = Leases(
            runtime.store,
            config.prefix,
            runtime.log,
            secrets.choice,
            margin=config.margin,
            wait=config.wait,
            known=lambda: sources.leases.values() if sources.live else None,
            clock=runtime.clock,
        )
        sources.on_keys = self._told

    async def first(self, host: Host) -> Held:
        """Return our lease; from the last-known-good file while etcd is away."""
        backend = identity.build(host)
        previous = identity.previous(self._config, self._runtime.log)
        wish = identity.wish(backend, previous, self._memory.recall())
        standing = self._sources.leases.values()
        if self._runtime.planning:
            return self._supposed(choose(host.config, standing, wish, min))
        if not self._sources.live:
            held = provisional(host.config, standing, wish)
            if held is not None:
                self._runtime.log.warning(
                    "etcd is away: our lease as last known", subnet=str(held.subnets)
                )
                return held
        held = await self._leases.acquire(host.config, backend.attributes(), wish)
        self.known = True
        return held

    def _supposed(self, choice: Choice) -> Held:
        """Return the lease that a plan goes by; nothing is written."""
        if isinstance(choice, Exhausted):
            raise StartError(str(choice))
        if isinstance(choice, Reuse):
            subnets = choice.lease.subnets
        else:
            subnets = choice.subnets
            self._runtime.log.info(
                "no lease yet: the plan takes one of those that a start would choose from",
                subnet=str(subnets),
                why=choice.reason,
            )
        key = keys.lease(self._config.prefix, subnets)
        return Held(key, subnets, b"", NO_LEASE, Revision(0), float("inf"))

    async def keep(self, node: Node) -> int:
        """Keep the lease and regain a lost one; return when -on-revoke says to end."""
        while True:
            if not self.known:
                wish = identity.wish(node.backend, node.held.subnets, self._memory.recall())
                attributes = node.backend.attributes()
                node.adopt(await self._leases.acquire(node.host.config, attributes, wish))
            self._memory.keep(node.held.key, node.held.lease)
            self._keeper = keeper = Keeper(self._leases, node.held)
            self.advertise(node.backend)
            if self._sources.live:  # what happened to the key before there was a keeper
                _, kv, revision = self._sources.as_stored(node.held.key)
                keeper.note(kv, revision)
            reason = await keeper.run()
            self._keeper = None
            self.known = False
            self._runtime.log.warning(
                "Lease has been revoked", subnet=str(node.held.subnets), reason=reason
            )
            if not self._config.reacquire:
                return 0

    def advertise(self, backend: Backend) -> None:
        """Have the lease say what this host is by now: its address, its MAC."""
        if self._keeper is not None:
            self._keeper.want(encode_attributes(backend.attributes()))

    async def advertised(self, seconds: float) -> None:
        """Wait until etcd has what `advertise` was given, `seconds` at most."""
        keeper = self._keeper
        if keeper is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await keeper.said()
        except TimeoutError:
            return  # etcd is away: the keeper goes on trying

    def reconfigure(self, config: Config) -> None:
        """Go on with other settings."""
        self._config = config
        self._leases.margin, self._leases.wait = config.margin, config.wait

    def now(self, node: Node) -> Held:
        """Return the lease as its keeper has it."""
        return node.held if self._keeper is None else self._keeper.held

    def _told(self, changes: Iterable[tuple[bytes, KeyValue | None, Revision]]) -> None:
        keeper = self._keeper
        if keeper is None:
            return
        for key, kv, revision in changes:
            if key == keeper.held.key:
                keeper.note(kv, revision)
                self._memory.keep(key, keeper.held.lease)
