# SPDX-License-Identifier: Apache-2.0
"""The wiring of flanneld, in the order of its start (specs/flannel.md §1).

::

    mirror (etcd, or the last-known-good file) ─► network config ─► uplink ─► backend
      ─► lease ─► device, addresses, subnet file ─► READY=1 ─► peers ─► keep, watch, repair
"""

from __future__ import annotations

from fairlead.life import Runtime
from flannelpy import health, identity, kernel, metrics, watch
from flannelpy.config import Config
from flannelpy.node import Node
from flannelpy.sources import Sources
from flannelpy.tenure import Tenure


async def serve(config: Config, runtime: Runtime) -> int:
    """Run until cancelled, or until the lease is revoked and -on-revoke=exit says so."""
    runtime.state("network", lambda: {"waiting": True})
    async with kernel.connect() as host:
        sources = Sources(runtime, config.prefix)
        await health.listen(config, runtime)
        network = await sources.network()
        here = await identity.find(host, config, network, sources.leases.values(), runtime.log)
        tenure = Tenure(config, runtime, sources)
        node = Node(config, runtime, host, sources, here, await tenure.first(here))
        metrics.export(runtime, node, tenure)
        if runtime.planning:
            runtime.reconcile(node.loop)
            await runtime.ready()
        await node.own_part()
        await runtime.ready()  # before the peers, as the original: containers may start now
        runtime.reconcile(node.loop, sources.config_mirror, sources.mirror)
        watching = watch.Watch(runtime, host, node)
        runtime.tasks.start("underlay", watching.underlay())
        runtime.tasks.start("network configuration", watch.config(runtime, sources, node))
        with watching.listening():
            return await tenure.keep(node)
