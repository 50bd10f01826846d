# SPDX-License-Identifier: Apache-2.0
"""One action → the data plane. Only opening a socket can be refused, and only it waits."""

from __future__ import annotations

from lb import server
from lb.acme import entries
from lb.certificates import Certificates
from lb.plan import (
    Action,
    Close,
    DropChallenge,
    DropFrontend,
    DropHost,
    DropPool,
    Listen,
    PutChallenge,
    PutFrontend,
    PutHost,
    PutPool,
)
from lb.plane import Plane


async def carry_out(plane: Plane, certificates: Certificates, action: Action) -> None:
    """Carry out one action.

    Raises:
        ActionError: the socket cannot be opened; what stood keeps standing.
    """
    match action:
        case PutPool(pool=pool):
            plane.put_pool(pool)
        case DropPool(id=name):
            plane.drop_pool(name)
        case PutFrontend(frontend=frontend):
            plane.put_frontend(frontend)
        case DropFrontend(id=name):
            plane.drop_frontend(name)
        case PutHost(host=host):
            certificates.put(host, action)
        case DropHost(id=name):
            certificates.drop(name)
        case PutChallenge(name=name, answer=answer):
            subject, way = entries.challenged(name)
            if way == entries.ALPN:
                certificates.proofs.put(subject, answer)
            else:
                plane.put_challenge(subject, answer.encode())
        case DropChallenge(name=name):
            subject, way = entries.challenged(name)
            if way == entries.ALPN:
                certificates.proofs.drop(subject)
            else:
                plane.put_challenge(subject, None)
        case Listen():
            await _listen(plane, action)
        case Close(id=name):
            server.close(plane, plane.listeners.pop(name))


async def _listen(plane: Plane, action: Listen) -> None:
    spec = action.listener
    before = plane.listeners.get(spec.id)
    if before is not None and (before.spec.network, before.spec.address) == (
        spec.network,
        spec.address,
    ):
        if (before.spec.tls, before.spec.proxy, before.spec.trusted) == (
            spec.tls,
            spec.proxy,
            spec.trusted,
        ):
            before.rescope(spec)
            plane.version += 1
            return
        # the same socket, spoken to otherwise from the next connection on (§12.2)
        plane.listeners[spec.id] = await server.listen(plane, spec, action, before.socks)
        server.retire(plane, before)
        return
    plane.listeners[spec.id] = await server.listen(plane, spec, action)
    if before is not None:  # the new one first, then drain the old (V4)
        server.close(plane, before)
