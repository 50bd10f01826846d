# SPDX-License-Identifier: Apache-2.0
"""What etcd says: the network configuration and the leases, as records in step with two mirrors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

from fairlead.errors import FairleadError
from fairlead.etcd.mirror import Changes
from fairlead.etcd.types import KeyRange, KeyValue, Revision
from fairlead.records import Records
from fairlead.runtime import Runtime
from flannelpy import keys
from flannelpy.records import Lease, NetworkConfig, decode_config, decode_lease

_TRUTH = Revision(1 << 62)  # after a restore of etcd the revision may run backwards: a list counts


class StartError(FairleadError):
    """What this host lacks to take part in the overlay; the daemon ends with status 1."""


class Sources:
    """The two ranges that a daemon follows.

    Attributes:
        config_changed: set at each change of the configuration, also from bad to bad: the
            reason differs.
        on_leases: called with the lease keys whose record changed.
        on_keys: called with every changed key as etcd has it, and the revision it is of.
    """

    def __init__(self, runtime: Runtime, prefix: str) -> None:
        self._runtime = runtime
        self._key = keys.config(prefix)
        self.shown_key = self._key.decode("utf-8", "backslashreplace")
        self.config_changed = asyncio.Event()
        self.on_leases: Callable[[Iterable[bytes]], None] = _ignore
        self.on_keys: Callable[[Iterable[tuple[bytes, KeyValue | None, Revision]]], None] = _ignore
        self._configs = Records(decode_config)
        self._leases = Records(decode_lease)
        # two mirrors: the revision of one range is exact, of several it is the lowest
        self.config_mirror = runtime.mirror("config", KeyRange(self._key))
        self.config_mirror.subscribe(self._config_told)
        self.mirror = runtime.mirror("leases", keys.subnets(prefix))
        self.mirror.subscribe(self._leases_told)
        runtime.records("config", self._configs)
        runtime.records("leases", self._leases)

    @property
    def live(self) -> bool:
        """Say whether etcd itself told what we know, not the last-known-good file."""
        return self.mirror.live

    @property
    def leases(self) -> dict[bytes, Lease]:
        """Return the good leases by key; a copy, for whoever looks at all of them."""
        return dict(self._leases.good)

    def lease(self, key: bytes) -> Lease | None:
        """Return one good lease."""
        return self._leases.good.get(key)

    def config(self) -> NetworkConfig | None:
        """Return the last good network configuration."""
        return self._configs.good.get(self._key)

    def as_stored(self, key: bytes) -> tuple[bytes, KeyValue | None, Revision]:
        """Return what the mirror holds under a lease key, as `on_keys` gets it."""
        kv = self.mirror.data.get(key)
        return key, kv, kv.mod_revision if kv else self.mirror.revision

    async def network(self) -> NetworkConfig:
        """Return the network configuration; wait until there is a good one.

        Raises:
            StartError: it switches both families off.
        """
        await self.config_mirror.ready()
        await self.mirror.ready()
        while True:
            self.config_changed.clear()
            found = self.config()
            if found is not None:
                if found.v4 is None and found.v6 is None:
                    raise StartError(
                        f'key "{self.shown_key}": both EnableIPv4 and EnableIPv6 are off'
                    )
                return found
            rejected = self._configs.rejected.get(self._key)
            reason = "no such key" if rejected is None else rejected.reason
            self._runtime.log.warning(
                "waiting for the network configuration", key=self.shown_key, reason=reason
            )
            self._runtime.status(f"waiting for a good {self.shown_key}: {reason}")
            await self.config_changed.wait()

    def _config_told(self, batch: Changes) -> None:
        self._configs.apply((change.key, change.new) for change in batch.changes)
        self.config_changed.set()

    def _leases_told(self, batch: Changes) -> None:
        changes = [(change.key, change.new) for change in batch.changes]
        self.on_leases(self._leases.apply(changes))
        if self.mirror.live:
            self.on_keys(_dated(changes, _TRUTH if batch.resync else batch.revision))


def _dated(
    changes: Iterable[tuple[bytes, KeyValue | None]], revision: Revision
) -> Iterator[tuple[bytes, KeyValue | None, Revision]]:
    for key, kv in changes:
        yield key, kv, kv.mod_revision if kv else revision


def _ignore(_: object) -> None:
    """Tell nobody yet."""
