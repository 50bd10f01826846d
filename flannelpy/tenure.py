# SPDX-License-Identifier: Apache-2.0
"""Holding this host's lease from the first acquisition to the end of the daemon (specs §7)."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from fairlead.etcd.types import NO_LEASE, KeyValue, Revision
from fairlead.life import Runtime
from flannelpy import identity, keys
from flannelpy.allocate import Exhausted, Reuse, choose
from flannelpy.backends import Host
from flannelpy.config import Config
from flannelpy.keeper import Keeper
from flannelpy.lease import Held, Leases, provisional
from flannelpy.node import Node
from flannelpy.sources import Sources, StartError


class Tenure:
    """This host's lease.

    Attributes:
        known: etcd itself has said that the lease is ours.
    """

    def __init__(self, config: Config, runtime: Runtime, sources: Sources) -> None:
        self._config = config
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
            clock=runtime.clock,
        )
        sources.on_keys = self._told

    async def first(self, host: Host) -> Held:
        """Return our lease; from the last-known-good file while etcd is away."""
        backend = identity.build(host)
        wish = identity.wish(backend, identity.previous(self._config, self._runtime.log))
        standing = self._sources.leases.values()
        if self._runtime.planning:
            choice = choose(host.config, standing, wish, min)
            if isinstance(choice, Exhausted):
                raise StartError(str(choice))
            subnets = choice.lease.subnets if isinstance(choice, Reuse) else choice.subnets
            key = keys.lease(self._config.prefix, subnets)
            return Held(key, subnets, b"", NO_LEASE, Revision(0), float("inf"))
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

    async def keep(self, node: Node) -> int:
        """Keep the lease and regain a lost one; return when -on-revoke says to end."""
        while True:
            if not self.known:
                wish = identity.wish(node.backend, node.held.subnets)
                attributes = node.backend.attributes()
                node.adopt(await self._leases.acquire(node.host.config, attributes, wish))
            self._keeper = keeper = Keeper(self._leases, node.held)
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
