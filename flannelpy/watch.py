# SPDX-License-Identifier: Apache-2.0
"""What changes under the daemon's feet: the kernel's notifications, the network configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fairlead.life import Runtime
from flannelpy import kernel, observe, rtnetlink
from flannelpy.kernel import Kernel
from flannelpy.node import Node
from flannelpy.rtnetlink import Reply
from flannelpy.sources import Sources
from flannelpy.state import Key, Kind

_BURST_SECONDS = 0.2  # routes change in bursts


class Watch:
    """Marks what is not as it should be, and has the host looked at when its underlay changes."""

    def __init__(self, runtime: Runtime, host: Kernel, node: Node) -> None:
        self._clock = runtime.clock
        self._host = host
        self._node = node
        self._underlay_changed = asyncio.Event()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear the kernel while the block runs."""
        with kernel.changes(self._heard, self._node.loop.dirty.mark_all):
            yield

    def _heard(self, replies: Sequence[Reply]) -> None:
        marks: set[Key] = set()
        node, overlay = self._node, self._node.overlay
        territory = overlay.territory
        for reply in replies:
            if reply.type in (rtnetlink.NEWLINK, rtnetlink.DELLINK):
                name = rtnetlink.parse_link(reply).name
                if name == node.host.uplink.name or (
                    name in territory.devices and reply.type == rtnetlink.DELLINK
                ):
                    node.loop.dirty.mark_all()  # routes go with a link, without a word
                elif name in territory.devices:
                    marks.add(Key(Kind.LINK, name))
                continue
            if reply.port == self._host.port:
                continue
            told = observe.heard(reply, territory)
            if told is not None:
                key, thing = told
                if overlay.wanted(key) != thing:
                    marks.add(key)
            elif reply.type in (rtnetlink.NEWROUTE, rtnetlink.DELROUTE):
                self._underlay_changed.set()
        node.loop.dirty.mark(marks)

    async def underlay(self) -> None:
        """Have the host look around when its own routes change."""
        while True:
            await self._underlay_changed.wait()
            await self._clock.sleep(_BURST_SECONDS)
            self._underlay_changed.clear()
            await self._node.look_around()


async def config(runtime: Runtime, sources: Sources, node: Node) -> None:
    """Say when the configuration is another one than we run with."""
    while True:
        await sources.config_changed.wait()
        sources.config_changed.clear()
        found = sources.config()
        if found is not None and found != node.host.config:
            runtime.log.warning("network configuration changed; restart flanneld to apply it")
