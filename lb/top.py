# SPDX-License-Identifier: Apache-2.0
"""The frontends and servers with the most errors and requests, as /v2/top gives them (§10.1). Pure."""

from __future__ import annotations

from typing import Any

from lb import stats, writing
from lb.catalog import Catalog
from lb.stats import Stats

JSON = dict[str, Any]


def frontends(known: Stats, catalog: Catalog, limit: int | None, backend: str) -> JSON:
    """Return the worst frontends that had traffic; of one backend, if there is one of that name."""
    now = known.now()
    found = {
        name: figures
        for name, figures in known.frontends.items()
        if (record := catalog.frontends.get(name)) is not None
        and (not backend or backend not in catalog.backends or record.backend == backend)
    }
    names = sorted(found, key=lambda name: (stats.rank(found[name], now), name))[:limit]
    shown = [
        {**writing.tree(catalog.frontends[name]), "Stats": stats.tree(found[name], now)}
        for name in names
    ]
    return {"Frontends": shown}


def servers(known: Stats, catalog: Catalog, limit: int | None, backend: str) -> JSON:
    """Return the worst servers; of one backend they are compared with each other, too."""
    one = backend if backend in catalog.servers else ""
    now = known.now()
    found = {
        place: figures
        for place, figures in known.servers.items()
        if place[1] in catalog.servers.get(place[0], {}) and (not one or place[0] == one)
    }
    group = {name: figures for (_, name), figures in found.items()} if one else {}
    odd = stats.anomalies(group, now)
    places = sorted(found, key=lambda place: (stats.rank(found[place], now), place))[:limit]
    shown = [
        {
            **writing.tree(catalog.servers[place[0]][place[1]]),
            "Stats": stats.tree(found[place], now, odd.get(place[1], ())),
        }
        for place in places
    ]
    return {"Servers": shown}
