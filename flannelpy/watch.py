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
from flannelpy import backends, changes, identity, kernel, observe, rtnetlink
from flannelpy.backends import Uplink
from flannelpy.config import Config
from flannelpy.kernel import Kernel, index_of
from flannelpy.netlink import KernelError
from flannelpy.node import Node
from flannelpy.rtnetlink import Reply
from flannelpy.sources import Sources, StartError
from flannelpy.state import Key, Kind, Link
from flannelpy.tenure import Tenure
from flannelpy.uplink import UplinkError

_BURST_SECONDS = 0.2  # routes and addresses change in bursts


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
        with kernel.changes(self._heard, self._lost):
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
            told = observe.heard(reply, territory)
            if told is not None:
                key, thing = told
                if overlay.wanted(key) != thing:
                    marks.add(key)
                    if key.kind == Kind.ADDRESS:
                        node.loop.dirty.mark_all()  # routes go with a device's last address
            elif reply.type in (rtnetlink.NEWROUTE, rtnetlink.DELROUTE):
                self._underlay_changed.set()
        node.loop.dirty.mark(marks)

    def _link(self, reply: Reply, marks: set[Key]) -> None:
        node = self._node
        raw = rtnetlink.parse_link(reply)
        name = raw.name
        if name == node.host.uplink.name:
            node.loop.dirty.mark_all()  # routes go with a link, without a word
            self._uplink_changed.set()
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
        try:
            ours = address.ifindex == index_of(self._node.host.uplink.name)
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
            await self._runtime.clock.sleep(_BURST_SECONDS)
            self._uplink_changed.clear()
            node = self._node
            about = node.host
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
                continue
            self._complaint = ""
            self._move_to(found)

    def _move_to(self, found: Uplink) -> None:
        node = self._node
        before = node.host.uplink
        if found == before:
            return
        try:
            node.become(replace(node.host, uplink=found))
        except StartError as error:
            self._runtime.log.error("uplink not followed", reason=str(error))  # noqa: TRY400
            return
        self._runtime.log.warning(
            "uplink changed; lease and peers follow",
            name=found.name,
            address=found.v4 or found.v6,
            mtu=found.mtu,
            was=f"{before.name} {before.v4 or before.v6} mtu {before.mtu}",
        )
        self._tenure.advertise(node)

    async def _reload(self, config: Config) -> None:
        """Take in the settings, choose the uplink anew, compare everything (SIGHUP)."""
        log = self._runtime.log
        self._config = config
        self._tenure.reconfigure(config)
        self._node.reconfigure(config)
        try:
            self._move_to(
                await identity.find_uplink(self._host, config, self._node.host.config, log)
            )
        except UplinkError as error:
            log.error("uplink not changed", reason=str(error))  # noqa: TRY400

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
                self._tenure.advertise(node)
