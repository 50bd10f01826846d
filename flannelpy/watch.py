# SPDX-License-Identifier: Apache-2.0
"""What changes under the daemon's feet: the kernel's tables, the uplink, the configuration.

::

    netlink ─┬─ an object of ours ─────────────────────► loop.dirty: repaired at once
             ├─ a route of the host's own ─► underlay ─┐
             └─ the uplink, its addresses ─► uplink ───┼─► node.become, tenure.advertise
    <prefix>/config ─► changes.refusals ─► config ─────┘
    SIGHUP ─► reload ─► the uplink chosen anew, everything compared
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from fairlead.runtime import Runtime
from flannelpy import backends, changes, identity, observe, rtnetlink
from flannelpy.backends import Uplink
from flannelpy.config import Config
from flannelpy.kernel import Kernel
from flannelpy.netlink import KernelError
from flannelpy.node import Node
from flannelpy.rtnetlink import Reply
from flannelpy.sources import Sources, StartError
from flannelpy.state import Key, Kind, Link
from flannelpy.tenure import Tenure
from flannelpy.uplink import UplinkError

_BURST_SECONDS = 0.2  # routes and addresses change in bursts
_TELL_SECONDS = 0.5  # etcd's answer usually takes a hundredth of it
_LEARN_SECONDS = 1.0  # and so does a peer to take a lease in


class Watch:
    """Marks what is not as it should be, and tells node and tenure when this host is another."""

    def __init__(
        self, config: Config, runtime: Runtime, host: Kernel, node: Node, tenure: Tenure
    ) -> None:
        self._config = config
        self._runtime = runtime
        self._host = host
        self._node = node
        self._tenure = tenure
        self._underlay_changed = asyncio.Event()
        self._uplink_changed = asyncio.Event()
        self._complaint = ""
        runtime.on_reload(self._reload)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear the kernel while the block runs."""
        with self._host.changes(self._heard, self._lost):
            yield

    def _lost(self) -> None:
        self._node.loop.dirty.mark_all()
        self._uplink_changed.set()
        self._underlay_changed.set()

    def _heard(self, replies: Sequence[Reply]) -> None:
        marks: set[Key] = set()
        node, overlay = self._node, self._node.overlay
        territory = overlay.territory
        for reply in replies:
            if reply.type in (rtnetlink.NEWLINK, rtnetlink.DELLINK):
                self._link(reply, marks)
                continue
            if reply.type in (rtnetlink.NEWADDR, rtnetlink.DELADDR):
                self._address(reply)
            if reply.port == self._host.port:
                continue
            told = observe.heard(self._host, reply, territory)
            if told is not None:
                key, thing = told
                if overlay.wanted(key) != thing:
                    marks.add(key)
                    if key.kind == Kind.ADDRESS:
                        node.loop.dirty.mark_all()  # routes go with a device's last address
            elif reply.type in (rtnetlink.NEWROUTE, rtnetlink.DELROUTE):
                self._underlay_changed.set()
            elif self._config.bridge and reply.type in (rtnetlink.NEWADDR, rtnetlink.DELADDR):
                marks.add(Key(Kind.BRIDGE, self._config.bridge))
        node.loop.dirty.mark(marks)

    def _link(self, reply: Reply, marks: set[Key]) -> None:
        node = self._node
        raw = rtnetlink.parse_link(reply)
        name = raw.name
        if name == node.host.uplink.name:
            node.loop.dirty.mark_all()  # routes go with a link, without a word
            self._uplink_changed.set()
        elif name == self._config.bridge:
            marks.add(Key(Kind.BRIDGE, name))
        elif name in node.overlay.territory.devices:
            wanted = node.overlay.wanted(Key(Kind.LINK, name))
            if (
                reply.type == rtnetlink.DELLINK
                or not raw.up
                or not isinstance(wanted, Link)
                or raw.mtu != wanted.mtu
            ):
                node.loop.dirty.mark_all()  # routes go with it, also when it is only down
            else:
                marks.add(Key(Kind.LINK, name))

    def _address(self, reply: Reply) -> None:
        address = rtnetlink.parse_address(reply)
        if address is None:
            return
        if reply.type == rtnetlink.DELADDR:
            self._runtime.store.address_gone(str(address.address.ip))
        try:
            ours = address.ifindex == self._host.index_of(self._node.host.uplink.name)
        except KernelError:
            return  # gone; DELLINK tells
        if ours:
            self._uplink_changed.set()

    async def underlay(self) -> None:
        """Have the host look around when its own routes change."""
        while True:
            await self._underlay_changed.wait()
            await self._runtime.clock.sleep(_BURST_SECONDS)
            self._underlay_changed.clear()
            await self._node.look_around()

    async def uplink(self) -> None:
        """Follow the uplink's addresses and MTU; while it has none that is usable, keep the last."""
        while True:
            await self._uplink_changed.wait()
            self._uplink_changed.clear()
            if await self._follow():  # at once: what is sent from a former address is lost
                await self._runtime.clock.sleep(_BURST_SECONDS)

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
        """Go on with another uplink: the peers are told first, then the device is changed.

        A peer's guard lets a new address in with its lease and a former one for a while after. So
        no packet is lost where the former one still stands: only deprecated, or on another link.
        """
        node, tenure, log = self._node, self._tenure, self._runtime.log
        before = node.host.uplink
        try:
            tenure.advertise(identity.build(replace(node.host, uplink=found)))
            await tenure.advertised(_TELL_SECONDS)
            if await self._stand(before, found):
                await self._runtime.clock.sleep(_LEARN_SECONDS)
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

    async def _stand(self, before: Uplink, found: Uplink) -> bool:
        """Say whether the former addresses are others than the new ones and still good to send from."""
        former = {it for it in (before.v4, before.v6) if it not in (None, found.v4, found.v6)}
        there = {it.address for it in await self._host.addresses()}
        return bool(former) and former <= there

    async def _reload(self, config: Config) -> None:
        """Take in the settings, choose the uplink anew, compare everything (SIGHUP)."""
        log = self._runtime.log
        self._config = config
        self._tenure.reconfigure(config)
        self._node.reconfigure(config)
        try:
            found = await identity.find_uplink(self._host, config, self._node.host.config, log)
        except UplinkError as error:
            log.error("uplink not changed", reason=str(error))  # noqa: TRY400
            return
        if found != self._node.host.uplink:
            await self._move_to(found)

    async def config(self, sources: Sources) -> None:
        """Apply what is safe of a changed network configuration; refuse the rest, with the reason."""
        runtime, node = self._runtime, self._node
        while True:
            await sources.config_changed.wait()
            sources.config_changed.clear()
            found = sources.config()
            about = node.host
            if found is None or found == about.config:
                runtime.health.set("network-config", True)
                continue
            reasons = changes.refusals(
                about.config, found, node.held.subnets, backends.live_options(found.backend.type)
            )
            if not reasons:
                try:
                    node.become(replace(about, config=found))
                except StartError as error:
                    reasons = (str(error),)
            if reasons:
                text = "; ".join(reasons)
                runtime.health.set("network-config", False, f"change refused: {text}")
                runtime.log.error("network configuration: change refused", reason=text)
            else:
                runtime.health.set("network-config", True)
                runtime.log.info("network configuration: change applied")
                self._tenure.advertise(node.backend)
