# SPDX-License-Identifier: Apache-2.0
"""A blackhole route for the own subnet (-ip-blackhole-route, specs/flannel.md §11.3).

While no bridge has the subnet, packets to it would follow the default route out again. The
route has the worst metric there is, so that a bridge's goes before it: the original's has the
bridge's own metric and, when it was there first, hides the containers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fairlead.errors import ActionError
from flannelpy import rtnetlink
from flannelpy.kernel import Kernel
from flannelpy.plan import Action, Delete, thing_of
from flannelpy.state import IPNetwork, Key, Kind, Object, lies_in

METRIC = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Blackhole:
    """Packets to `dst` end here unless a better route takes them."""

    dst: IPNetwork

    @property
    def key(self) -> Key:
        """The destination."""
        dst = self.dst
        return Key(Kind.BLACKHOLE, "", dst.version, int(dst.network_address), dst.prefixlen)

    def __str__(self) -> str:
        return f"blackhole {self.dst}"


class Blackholes:
    """The part of the host that they are; ours are known by protocol, metric and range."""

    kinds = frozenset({Kind.BLACKHOLE})

    def __init__(self, kernel: Kernel, ranges: Sequence[IPNetwork]) -> None:
        self._kernel = kernel
        self._ranges = tuple(ranges)

    async def observe(self, keys: Collection[Key] | None) -> Sequence[Object]:
        """Return ours."""
        found = []
        for version in {it.version for it in self._ranges}:
            for reply in await self._kernel.dump(rtnetlink.dump_blackholes(version)):
                dst = rtnetlink.parse_blackhole(reply, METRIC)
                if dst is not None and any(lies_in(dst, it) for it in self._ranges):
                    found.append(Blackhole(dst))
        return [it for it in found if keys is None or it.key in keys]

    async def carry_out(self, actions: Sequence[Action]) -> Sequence[ActionError]:
        """Put or delete them."""
        requests = []
        for action in actions:
            dst = rtnetlink.key_network(thing_of(action).key)
            gone = isinstance(action, Delete)
            requests.append(rtnetlink.blackhole(dst, METRIC, gone=gone))
        results = await self._kernel.batch(requests)
        return [
            ActionError(action, str(error), transient=error.transient)
            for action, error in zip(actions, results, strict=True)
            if error is not None and not (isinstance(action, Delete) and error.absent)
        ]
