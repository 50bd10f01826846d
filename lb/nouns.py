# SPDX-License-Identifier: Apache-2.0
"""`fairlead lb`: explain a request, lint what stands in etcd."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from fairlead.noun import OUTPUT, etcd_flags, on_etcd

if TYPE_CHECKING:
    from fairlead.errors import RecordError
    from fairlead.etcd.store import Store
    from lb.catalog import Catalog
    from lb.state import Frontend

_ROOT = click.option("--etcd-key", default="", help="Root of the keys; default: both roots.")


@click.group()
def lb() -> None:
    """Look at what the load balancer is told by etcd."""


async def _load(store: Store, root: str) -> tuple[Catalog, dict[bytes, RecordError]]:
    """Return the objects that stand in etcd, and the values that cannot be used."""
    from fairlead.records import Records
    from lb import keys, reading
    from lb.catalog import Catalog
    from lb.records import Stored

    roots = (root,) if root else keys.ROOTS
    decoded: Records[Stored] = Records(lambda kv: reading.decode(kv, roots))
    catalog = Catalog(roots, decoded.good, decoded.rejected)
    for one in roots:
        async for page in store.pages(keys.range_of(one)):
            changed = decoded.apply((kv.key, kv) for kv in page.kvs)
            catalog.update(changed, [kv.key for kv in page.kvs])
    return catalog, dict(decoded.rejected)


def _read(root: str, flags: dict[str, str]) -> tuple[Catalog, dict[bytes, RecordError]]:
    return on_etcd(flags, lambda store: _load(store, root))


def _frontends(catalog: Catalog) -> list[Frontend]:
    from lb import desired

    return list(desired.traffic(catalog, desired.Defaults()).frontends.values())


@lb.command()
@click.argument("method")
@click.argument("url")
@click.option("-H", "--header", multiple=True, help="A field of the request: NAME: VALUE.")
@click.option(
    "--route-order",
    type=click.Choice(["vulcand", "specific"]),
    default="vulcand",
    help="The daemon's -routeOrder.",
)
@_ROOT
@etcd_flags
@OUTPUT
def explain(
    method: str,
    url: str,
    header: tuple[str, ...],
    route_order: str,
    etcd_key: str,
    output: str,
    **flags: str,
) -> None:
    """Tell which frontend METHOD URL goes to, why, and which were shadowed; exit 1 for none."""
    from lb import explain as explaining

    catalog, _ = _read(etcd_key, flags)
    headers = {name.strip(): value.strip() for name, _, value in (h.partition(":") for h in header)}
    try:
        asked = explaining.query(method.upper(), url, headers)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    verdict = explaining.explain(_frontends(catalog), asked, route_order)
    winner = verdict.winner
    if output == "json":
        told = {
            "frontend": winner.id if winner else None,
            "route": winner.route if winner else None,
            "backend": winner.pool if winner else None,
            "servers": sorted(catalog.servers.get(winner.pool, {})) if winner else [],
            "refused": winner.refuse if winner else "",
            "why": verdict.why,
            "shadowed": [{"id": one.id, "route": one.route} for one in verdict.shadowed],
        }
        click.echo(json.dumps(told, indent=2))
    elif winner is None:
        click.echo(verdict.why)
    else:
        click.echo(f"frontend {winner.id}: {verdict.why}")
        click.echo(f"  route    {winner.route}")
        servers = catalog.servers.get(winner.pool, {})
        urls = ", ".join(f"{name} {server.url}" for name, server in sorted(servers.items()))
        click.echo(f"  backend  {winner.pool}: {urls or 'no servers: 503'}")
        for link in winner.middlewares:
            click.echo(f"  passes   {link.type} {link.id}, priority {link.priority}")
        if winner.refuse:
            click.echo(f"  closed   503: {winner.refuse}")
        for one in verdict.shadowed:
            click.echo(f"  shadows  {one.id}: {one.route}")
    sys.exit(0 if winner else 1)


@lb.command()
@_ROOT
@etcd_flags
@OUTPUT
def lint(etcd_key: str, output: str, **flags: str) -> None:
    """Tell what is wrong with the objects in etcd; exit 1 where anything is."""
    from lb import problems

    catalog, rejected = _read(etcd_key, flags)
    found = problems.lint(catalog, rejected, time.time())
    if output == "json":
        click.echo(json.dumps([{"what": what, "why": why} for what, why in found], indent=2))
    else:
        for what, why in found:
            click.echo(f"{what}: {why}")
        if not found:
            click.echo("nothing to complain of")
    sys.exit(1 if found else 0)
