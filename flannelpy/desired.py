# SPDX-License-Identifier: Apache-2.0
"""Leases + network configuration + uplink → what this host should have. Pure.

Theory of operation
-------------------
Each lease *claims* objects under their kernel keys; of two claims under one key the lease
written last wins (`claims`)::

    lease ─► backend.peer ─► objects ─► claims: key, revision, lease, object
                                             │
                       update() returns ─────┘ the keys touched ─► reconcile scope

`update` and `within` cost O(objects of the leases and keys given), never O(peers).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from flannelpy.backends import Backend
from flannelpy.claims import Claim, Claims
from flannelpy.fields import FieldError
from flannelpy.firewall.wanted import Firewall
from flannelpy.keys import Subnets
from flannelpy.records import Lease, NetworkConfig
from flannelpy.state import HostState, IPNetwork, Key, Kind, Object, Territory, lies_in


class Overlay:
    """What should be on this host, kept in step with the leases."""

    def __init__(
        self,
        config: NetworkConfig,
        backend: Backend,
        subnets: Subnets,
        extra: Iterable[Object] = (),
        firewall: Firewall | None = None,
    ) -> None:
        """Describe a host without peers.

        Args:
            extra: what else this host should have: the subnet file.
            firewall: None: no rules.
        """
        self._config = config
        self._backend = backend
        self._subnets = subnets
        self._firewall = firewall
        own = (*backend.own(subnets), *extra)
        self._own = {thing.key: thing for thing in own}
        self._claims = Claims()
        self._by_lease: dict[bytes, tuple[Key, ...]] = {}
        self._ignored: dict[bytes, str] = {}
        self.ignored: Mapping[bytes, str] = MappingProxyType(self._ignored)
        """Leases that give this host nothing, and why."""
        networks: list[IPNetwork] = []
        if config.v4 is not None:
            networks.append(config.v4.network)
        if config.v6 is not None:
            networks.append(config.v6.network)
        self.territory = Territory(
            backend.devices,
            tuple(networks),
            tuple(key.dev for key in self._own if key.kind == Kind.FILE),
        )

    @property
    def own_keys(self) -> frozenset[Key]:
        """What is needed before any peer is programmed: device, addresses, rules, subnet file.

        The peers' addresses are among it: when the guard goes up they are let in already.
        """
        admitted = {key for key in self._claims if key.kind == Kind.ELEMENT}
        return frozenset((*self._own, *self._rules(), *admitted))

    def _rules(self) -> Mapping[Key, Object]:
        return {} if self._firewall is None else self._firewall.rules(self._subnets)

    @property
    def peers(self) -> int:
        """How many leases have objects here."""
        return len(self._by_lease)

    @property
    def size(self) -> int:
        """How many objects should be there."""
        return len(self._own) + len(self._claims) + len(self._rules())

    def update(self, key: bytes, lease: Lease | None) -> set[Key]:
        """Take in a lease as it is now (None: gone); return the keys whose wish may differ."""
        touched = set(self._by_lease.pop(key, ()))
        self._ignored.pop(key, None)
        for claimed in touched:
            self._claims.drop(claimed, key)
        if lease is None:
            return touched
        things = self._objects(lease)
        if things:
            self._by_lease[key] = tuple(things)
        for claimed, thing in things.items():
            self._claims.add(claimed, Claim(lease.revision, key, thing))
        touched.update(things)
        return touched

    def _objects(self, lease: Lease) -> dict[Key, Object]:
        try:
            if not self._concerns(lease):
                return {}
            things = list(self._backend.peer(lease))
            if self._firewall is not None:
                things += self._firewall.peer(lease)
        except FieldError as error:
            self._ignored[lease.key] = str(error)
            return {}
        return {thing.key: thing for thing in things}

    def _concerns(self, lease: Lease) -> bool:
        """Say whether a lease is a peer's of ours; raises FieldError for one that is out of place."""
        theirs, config = lease.subnets, self._config
        if theirs.v4 is not None and theirs.v4 == self._subnets.v4:
            return False  # our own, also while its dual-stack form replaces the old one
        if theirs.v4 is None and theirs.v6 == self._subnets.v6:
            return False
        kind = lease.attributes.backend_type
        if kind != self._backend.type and not self._backend.takes_any:
            raise FieldError(f'BackendType: "{kind}" is not ours, "{self._backend.type}"')
        # a lease outside the network would take foreign traffic: 0.0.0.0-1 half the Internet
        for field, half, subnet in (
            ("Network", config.v4, theirs.v4),
            ("IPv6Network", config.v6, theirs.v6),
        ):
            if half is not None and subnet is not None and not lies_in(subnet, half.network):
                raise FieldError(f"subnet {subnet} is not in {field} {half.network}")
        return True

    def within(self, scope: Iterable[Key] | None) -> HostState:
        """Return what should be there under the keys of `scope`; None: everything."""
        keys = (*self._own, *self._claims) if scope is None else frozenset(scope)
        state: dict[Key, Object] = {}
        for key in keys:
            thing = self.wanted(key)
            if thing is not None:
                state[key] = thing
        if scope is None or any(key.kind == Kind.RULES for key in keys):
            state |= self._rules()  # few, and observed as a whole
        return state

    def wanted(self, key: Key) -> Object | None:
        """Return what should be under one key; of several claims the one written last."""
        return self._own.get(key) or self._claims.get(key)
