# SPDX-License-Identifier: Apache-2.0
"""The wiring of flanneld, in the order of its start (specs/flannel.md §1).

::

    mirror (etcd, or the last-known-good file) ─► network config ─► uplink ─► backend
      ─► lease ─► device, addresses, subnet file ─► READY=1 ─► peers ─► keep, watch, repair
"""

from __future__ import annotations

from contextlib import AsyncExitStack

from fairlead.runtime import Runtime
from flannelpy import bridges, forwarding, health, identity, kernel, metrics, views
from flannelpy.blackhole import Blackholes
from flannelpy.checksum import Checksums
from flannelpy.config import Config
from flannelpy.firewall import host as firewall
from flannelpy.gateway import Gateways
from flannelpy.memory import Memory
from flannelpy.node import Node
from flannelpy.relocation import Relocation
from flannelpy.sources import Sources
from flannelpy.tenure import Tenure
from flannelpy.watch import Watch


async def serve(config: Config, runtime: Runtime) -> int:
    """Run until cancelled, or until the lease is revoked and -on-revoke=exit says so."""
    runtime.state("network", lambda: {"waiting": True})
    async with kernel.connect() as host, AsyncExitStack() as ends:
        sources = Sources(runtime, config.prefix)
        await health.listen(config, runtime)
        network = await sources.network()
        uplink = await identity.find_uplink(host, config, network, runtime.log)
        memory = Memory.of(runtime, config.prefix, await identity.card(host, uplink))
        leases = sources.leases.values()
        here = await identity.find(
            host, network, uplink, leases, memory.recall(), config.prefix, planning=runtime.planning
        )
        rules = ends.enter_context(await firewall.connect(config, network, runtime.log))
        bridge = Gateways(host, config.bridge, network.ranges)
        host.parts += (rules, Blackholes(host, network.ranges), bridge)
        if config.software_checksums:
            host.parts += (Checksums(identity.build(here).devices),)
        tenure = Tenure(config, runtime, sources, memory)
        node = Node(config, runtime, host, rules, sources, here, await tenure.first(here))
        metrics.export(runtime, node, tenure)
        views.hang_in(runtime, node, tenure)
        if runtime.planning:
            runtime.reconcile(node.loop)
            await runtime.ready()
        forwarding.ensure(network, runtime.log, switch_on=config.set_forwarding)
        await node.own_part()
        subnets = node.held.subnets
        await bridges.look(host, network, subnets, config.takeover_bridges, runtime.log)
        await runtime.ready()  # before the peers, as the original: containers may start now
        runtime.reconcile(node.loop, sources.config_mirror, sources.mirror)
        relocation = Relocation(config, runtime, host, node, tenure)
        watching = Watch(config, runtime, host, node, tenure, relocation)
        runtime.tasks.start("underlay", watching.underlay())
        runtime.tasks.start("uplink", relocation.run())
        runtime.tasks.start("network configuration", watching.config(sources))
        mark = node.loop.dirty.mark
        runtime.tasks.start("rules", rules.watch(config.rules_resync, mark, runtime.clock))
        with watching.listening(), rules.listening(mark, node.loop.dirty.mark_all):
            return await tenure.keep(node)
