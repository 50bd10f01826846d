# SPDX-License-Identifier: Apache-2.0
"""What changes under the daemon's feet: the kernel's tables, the uplink, the configuration.

::

    netlink ─┬─ an object of ours ─────────────────────► loop.dirty: repaired at once
             ├─ the uplink, its addresses ─► relocation
             └─ a route of the host's own ─► underlay ─┬─► node.become, tenure.advertise
    <prefix>/config ─► changes.refusals ─► config ─────┘
    SIGHUP ─► reload ─► relocation: the uplink chosen anew; everything compared
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from fairlead.runtime import Runtime
from flannelpy import backends, changes, observe, rtlink, rtnetlink
from flannelpy.config import Config
from flannelpy.kernel import Kernel
from flannelpy.netlink import KernelError
from flannelpy.nlmsg import Reply
from flannelpy.node import Node
from flannelpy.relocation import Relocation
from flannelpy.sources import Sources, StartError
from flannelpy.state import Key, Kind, Link
from flannelpy.tenure import Tenure

_BURST_SECONDS = 0.2  # routes change in bursts


class Watch:
    """Marks what is not as it should be, and tells node and tenure when this host is another."""

    def __init__(
        self,
        config: Config,
        runtime: Runtime,
        host: Kernel,
        node: Node,
        tenure: Tenure,
        relocation: Relocation,
    ) -> None:
        self._config = config
        self._runtime = runtime
        self._host = host
        self._node = node
        self._tenure = tenure
        self._relocation = relocation
        self._underlay_changed = asyncio.Event()
        runtime.on_reload(self._reload)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear the kernel while the block runs."""
        with self._host.changes(self._heard, self._lost):
            yield

    def _lost(self) -> None:
        self._node.loop.dirty.mark_all()
        self._relocation.changed.set()
        self._underlay_changed.set()

    def _heard(self, replies: Sequence[Reply]) -> None:
        marks: set[Key] = set()
        node, overlay = self._node, self._node.overlay
        territory = overlay.territory
        for reply in replies:
            if reply.type in (rtlink.NEWLINK, rtlink.DELLINK):
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
        raw = rtlink.parse_link(reply)
        name = raw.name
        if name == node.host.uplink.name:
            node.loop.dirty.mark_all()  # routes go with a link, without a word
            self._relocation.changed.set()
        elif name == self._config.bridge:
            marks.add(Key(Kind.BRIDGE, name))
        elif name in node.overlay.territory.devices:
            wanted = node.overlay.wanted(Key(Kind.LINK, name))
            if (
                reply.type == rtlink.DELLINK
                or not raw.up
                or not isinstance(wanted, Link)
                or raw.mtu != wanted.mtu
            ):
                node.loop.dirty.mark_all()  # routes go with it, also when it is only down
            else:
                marks |= {Key(Kind.LINK, name), Key(Kind.CHECKSUM, name)}

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
            self._relocation.changed.set()

    async def underlay(self) -> None:
        """Have the host look around when its own routes change."""
        while True:
            await self._underlay_changed.wait()
            await self._runtime.clock.sleep(_BURST_SECONDS)
            self._underlay_changed.clear()
            await self._node.look_around()

    async def _reload(self, config: Config) -> None:
        """Take in the settings, choose the uplink anew, compare everything (SIGHUP)."""
        self._config = config
        self._tenure.reconfigure(config)
        self._node.reconfigure(config)
        await self._relocation.choose_anew(config)

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
