# SPDX-License-Identifier: Apache-2.0
"""What runs → Traffic. All of it is ours: no other program has sockets in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from fairlead.reconcile import Scope
from lb.acme import entries
from lb.certificates import Certificates
from lb.keys import Kind, Ref
from lb.plane import Plane
from lb.state import ALIAS, Traffic

Live = TypeVar("Live")


async def traffic(plane: Plane, certificates: Certificates, scope: Scope = None) -> Traffic:
    """Return the specs of what is live within `scope`."""
    pools = _within(plane.pools, Kind.BACKEND, scope)
    return Traffic(
        {n: live.spec for n, live in _within(plane.listeners, Kind.LISTENER, scope).items()},
        {n: live.spec for n, live in _within(plane.frontends, Kind.FRONTEND, scope).items()},
        {n: live.spec for n, live in pools.items() if live.spec is not None},
        _within(certificates.hosts, Kind.HOST, scope),
        {
            name: answer
            for name, answer in _challenges(plane, certificates)
            if scope is None or entries.entry(name) in scope
        },
    )


def _challenges(plane: Plane, certificates: Certificates) -> Iterator[tuple[str, str]]:
    for token, answer in plane.challenges.items():
        yield entries.challenge(entries.HTTP, token), answer.decode()
    for host, authorization in certificates.proofs.answers.items():
        yield entries.challenge(entries.ALPN, host), authorization


def _within(live: Mapping[str, Live], kind: Kind, scope: Scope) -> dict[str, Live]:
    if scope is None:
        return dict(live)
    return {
        name: live[name]
        for ref in scope
        if isinstance(ref, Ref) and ref.kind is kind
        for name in (ref.id, ref.id + ALIAS)
        if name in live
    }
