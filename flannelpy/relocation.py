# SPDX-License-Identifier: Apache-2.0
"""Following the uplink: another address, another MTU, or another interface altogether.

::

    changed ─► uplink as it is by now ─► peers told (the lease) ─► device set in place
                                                  └─ 1 s to learn, while the former address stands

A peer's guard lets a new address in with its lease and a former one for a while after. So no
packet is lost where the former one still stands: only deprecated, or on another link.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from fairlead.runtime import Runtime
from flannelpy import identity
from flannelpy.backends import Uplink
from flannelpy.config import Config
from flannelpy.kernel import Kernel
from flannelpy.node import Node
from flannelpy.sources import StartError
from flannelpy.tenure import Tenure
from flannelpy.uplink import UplinkError

_BURST_SECONDS = 0.2  # addresses change in bursts
_TELL_SECONDS = 0.5  # etcd's answer usually takes a hundredth of it
_LEARN_SECONDS = 1.0  # and so does a peer to take a lease in


class Relocation:
    """Has lease, device and peers follow the uplink.

    Attributes:
        changed: set it when the uplink may be another by now.
    """

    def __init__(
        self, config: Config, runtime: Runtime, host: Kernel, node: Node, tenure: Tenure
    ) -> None:
        self._config = config
        self._runtime = runtime
        self._host = host
        self._node = node
        self._tenure = tenure
        self.changed = asyncio.Event()
        self._again = False  # it changed while the peers were learning of its change
        self._complaint = ""

    async def choose_anew(self, config: Config) -> None:
        """Go on with the interface that the settings and the routes lead to now (SIGHUP)."""
        self._config = config
        log = self._runtime.log
        try:
            found = await identity.find_uplink(self._host, config, self._node.host.config, log)
        except UplinkError as error:
            log.error("uplink not changed", reason=str(error))  # noqa: TRY400
            return
        if found != self._node.host.uplink:
            await self._move_to(found)

    async def run(self) -> None:
        """Follow the uplink's addresses and MTU; while it has none that is usable, keep the last."""
        while True:
            await self.changed.wait()
            self.changed.clear()
            if await self._follow():  # at once: what is sent from a former address is lost
                await self._runtime.clock.sleep(_BURST_SECONDS)
            if self._again:
                self._again = False
                self.changed.set()

    async def _follow(self) -> bool:
        """Go on with what the uplink has by now; say whether that is something else."""
        about = self._node.host
        try:
            found = await identity.follow_uplink(
                self._host, self._config, about.config, about.uplink
            )
        except UplinkError as error:
            if self._complaint != str(error):
                self._complaint = str(error)
                self._runtime.log.warning(
                    "uplink not usable; keeping its last addresses", reason=str(error)
                )
            return False
        self._complaint = ""
        if found == about.uplink:
            return False
        await self._move_to(found)
        return True

    async def _move_to(self, found: Uplink) -> None:
        """Go on with another uplink: the peers are told first, then the device is changed."""
        node, tenure, log = self._node, self._tenure, self._runtime.log
        before = node.host.uplink
        try:
            tenure.advertise(identity.build(replace(node.host, uplink=found)))
            await tenure.advertised(_TELL_SECONDS)
            await self._let_learn(before, found)
            node.become(replace(node.host, uplink=found))
        except StartError as error:
            log.error("uplink not followed", reason=str(error))  # noqa: TRY400
            return
        log.warning(
            "uplink changed; lease and peers follow",
            name=found.name,
            address=found.v4 or found.v6,
            mtu=found.mtu,
            was=f"{before.name} {before.v4 or before.v6} mtu {before.mtu}",
        )
        tenure.advertise(node.backend)  # the lease may be another by now

    async def _let_learn(self, before: Uplink, found: Uplink) -> None:
        """Wait a little for the peers to take the lease in, while the former addresses stand."""
        clock, changed = self._runtime.clock, self.changed
        until = clock.monotonic() + _LEARN_SECONDS
        while (left := until - clock.monotonic()) > 0 and await self._stand(before, found):
            sleep = asyncio.ensure_future(clock.sleep(left))
            woken = asyncio.ensure_future(changed.wait())
            try:
                await asyncio.wait((sleep, woken), return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleep.cancel()
                woken.cancel()
            if changed.is_set():
                changed.clear()
                self._again = True  # it may be another address by now

    async def _stand(self, before: Uplink, found: Uplink) -> bool:
        """Say whether the former addresses are others than the new ones and still good to send from."""
        former = {it for it in (before.v4, before.v6) if it not in (None, found.v4, found.v6)}
        there = {it.address for it in await self._host.addresses()}
        return bool(former) and former <= there
