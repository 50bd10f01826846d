# SPDX-License-Identifier: Apache-2.0
"""`fairlead net leases list | reserve | release | gc`: the leases as etcd has them.

Every change is one transaction on one key, guarded by the revision it was decided on: two lease
keys in one transaction would lose old peers an event (trap T1), and a lease that its host renewed
or rewrote meanwhile is left alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Any

import click

from fairlead.noun import OUTPUT, etcd_flags, on_etcd

if TYPE_CHECKING:  # 100 ms that --help does not pay
    from fairlead.etcd.store import Store
    from flannelpy.records import Lease, NetworkConfig

DAY = 86400  # seconds: the original's TTL

_PREFIX = click.option(
    "--prefix", default="/coreos.com/network", show_default=True, help="flanneld's -etcd-prefix."
)


@click.group()
def leases() -> None:
    """Leases and reservations, as etcd has them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What stands under `<prefix>/subnets/`."""

    config: NetworkConfig | None
    leases: tuple[Lease, ...]
    broken: tuple[tuple[str, str, int], ...]  # key, reason, revision


async def look(store: Store, prefix: str) -> Seen:
    """Return the network configuration, the leases by key, and what cannot be read."""
    from fairlead.errors import RecordError
    from flannelpy import keys
    from flannelpy.records import decode_config, decode_lease

    good, broken = [], []
    async for page in store.pages(keys.subnets(prefix)):
        for kv in page.kvs:
            try:
                good.append(decode_lease(kv))
            except RecordError as error:
                broken.append((_text(kv.key), error.reason, int(kv.mod_revision)))
    config = None
    kv_config = await store.get(keys.config(prefix))
    if kv_config is not None:
        try:
            config = decode_config(kv_config)
        except RecordError as error:
            broken.append((_text(kv_config.key), error.reason, int(kv_config.mod_revision)))
    return Seen(config, tuple(good), tuple(broken))


@leases.command("list")
@etcd_flags
@_PREFIX
@OUTPUT
def list_(output: str, prefix: str, **flags: Any) -> None:
    """Show every lease and reservation, with the time it has left."""

    async def work(store: Store) -> int:
        seen = await look(store, prefix)
        rows = [await _row(store, lease) for lease in seen.leases]
        if output == "json":
            broken = [{"key": key, "reason": reason} for key, reason, _ in seen.broken]
            click.echo(json.dumps({"leases": rows, "broken": broken}, indent=2))
            return 0
        for row in rows:
            left = "reservation" if row["ttl_seconds"] is None else f"{row['ttl_seconds']} s left"
            click.echo(
                f"{row['subnet']:<20} {row['public']:<16} {row['backend'] or '–':<10} {left}"
            )
        for key, reason, _ in seen.broken:
            click.echo(f"cannot be read: {key}: {reason}", err=True)
        return 0

    sys.exit(on_etcd(flags, work))


async def _row(store: Store, lease: Lease) -> dict[str, Any]:
    has = lease.attributes
    ttl = None
    if not lease.is_reservation:
        ttl = (await store.time_to_live(lease.lease)).ttl_seconds
    return {
        "key": _text(lease.key),
        "subnet": str(lease.subnets),
        "public": str(has.public_ip if int(has.public_ip) else has.public_ipv6),
        "backend": has.backend_type,
        "ttl_seconds": ttl,
    }


@leases.command()
@click.argument("subnet")
@click.option("--public-ip", required=True, help="Address of the host that the subnet is for.")
@etcd_flags
@_PREFIX
def reserve(subnet: str, public_ip: str, prefix: str, **flags: Any) -> None:
    """Pin SUBNET (10.5.44.0/24) to a host; a lease of that host becomes a reservation."""
    try:
        wanted, host = IPv4Network(subnet), IPv4Address(public_ip)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error

    async def work(store: Store) -> int:
        from flannelpy.keys import Subnets

        seen = await look(store, prefix)
        kept = next((it for it in seen.leases if it.subnets.v4 == wanted), None)
        fault = unfit(seen, Subnets(wanted), host)
        if fault:
            raise click.ClickException(fault)
        if kept is not None and kept.is_reservation:
            click.echo(f"{subnet} is reserved for {host} already")
            return 0
        return await _put(store, prefix, wanted, kept, host)

    sys.exit(on_etcd(flags, work))


async def _put(
    store: Store, prefix: str, wanted: IPv4Network, kept: Lease | None, host: IPv4Address
) -> int:
    from fairlead.etcd.types import Compare, Put, Result, Target
    from flannelpy import keys
    from flannelpy.keys import Subnets
    from flannelpy.records import encode_attributes

    if kept is None:
        key = keys.lease(prefix, Subnets(wanted))
        guard, value = Compare(key, Target.VERSION, Result.EQUAL, 0), b'{"PublicIP":"%b"}'
        value %= str(host).encode()
    else:
        key = kept.key
        guard = Compare(key, Target.MOD, Result.EQUAL, kept.revision)
        value = encode_attributes(kept.attributes)
    done = await store.txn((guard,), (Put(key, value),))
    if not done.succeeded:
        raise click.ClickException(f"{wanted} was taken or changed meanwhile; look and try again")
    click.echo(f"{wanted} is reserved for {host}")
    return 0


def unfit(seen: Seen, wanted: Any, host: IPv4Address) -> str:
    """Return why a subnet cannot be reserved for a host; "" when it can."""
    from flannelpy.allocate import fits

    config = seen.config
    if config is None:
        return "there is no good network configuration to check the subnet against"
    if config.v6 is None and not fits(config, wanted):
        return f"{wanted} is not a subnet of the configured range"
    for lease in seen.leases:
        if lease.subnets.v4 is None or not lease.subnets.v4.overlaps(wanted.v4):
            continue
        if lease.subnets.v4 != wanted.v4 or lease.attributes.public_ip != host:
            return f"{wanted} is held by {lease.attributes.public_ip} ({_text(lease.key)})"
    return ""


@leases.command()
@click.argument("subnet")
@click.option("--delete", is_flag=True, help="Delete the key at once, whoever holds it.")
@etcd_flags
@_PREFIX
def release(subnet: str, delete: bool, prefix: str, **flags: Any) -> None:
    """Make a reservation a lease of a day, which a host that is alive renews."""
    try:
        wanted = IPv4Network(subnet)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error

    async def work(store: Store) -> int:
        from fairlead.etcd.types import Compare, Put, Result, Target
        from flannelpy.records import encode_attributes

        seen = await look(store, prefix)
        kept = next((it for it in seen.leases if it.subnets.v4 == wanted), None)
        if kept is None:
            raise click.ClickException(f"{subnet} is neither leased nor reserved")
        if delete:
            return await _delete(store, kept)
        if not kept.is_reservation:
            raise click.ClickException(
                f"{subnet} is a lease and runs out by itself; --delete takes it from its host at once"
            )
        granted = await store.grant(DAY)
        guard = Compare(kept.key, Target.MOD, Result.EQUAL, kept.revision)
        value = encode_attributes(kept.attributes)
        done = await store.txn((guard,), (Put(kept.key, value, granted.id),))
        if not done.succeeded:
            await store.revoke(granted.id)
            raise click.ClickException(f"{subnet} changed meanwhile; look and try again")
        click.echo(f"{subnet} is a lease now, and runs out in a day unless its host renews it")
        return 0

    sys.exit(on_etcd(flags, work))


async def _delete(store: Store, lease: Lease) -> int:
    from fairlead.etcd.types import Compare, Delete, KeyRange, Result, Target

    guard = Compare(lease.key, Target.MOD, Result.EQUAL, lease.revision)
    done = await store.txn((guard,), (Delete(KeyRange(lease.key)),))
    click.echo(f"{_text(lease.key)}: {'deleted' if done.succeeded else 'changed meanwhile; kept'}")
    return 0 if done.succeeded else 1


@leases.command()
@click.option("--yes", is_flag=True, help="Delete them; without it they are only shown.")
@etcd_flags
@_PREFIX
def gc(yes: bool, prefix: str, **flags: Any) -> None:
    """Find leases that nobody can use: outside the range, or left behind by a host that has a newer one.

    Reservations stay. Keys that cannot be read are named and stay too: deleting one makes
    flannel 0.21.3 to 0.28.9 drop its routes, just as writing it did.
    """

    async def work(store: Store) -> int:
        seen = await look(store, prefix)
        if seen.config is None:
            raise click.ClickException("there is no good network configuration to judge by")
        worst = 0
        for lease, reason in useless(seen.config, seen.leases):
            click.echo(f"{_text(lease.key)}: {reason}")
            if yes:
                worst |= await _delete(store, lease)
        for key, reason, _ in seen.broken:
            click.echo(f"kept, cannot be read: {key}: {reason}", err=True)
        return worst

    sys.exit(on_etcd(flags, work))


def useless(config: NetworkConfig, standing: Sequence[Lease]) -> list[tuple[Lease, str]]:
    """Return the leases that serve nobody, and why; pure."""
    from flannelpy.allocate import fits

    newest: dict[object, Lease] = {}
    for lease in standing:
        who = _holder(lease)
        if who is not None and (who not in newest or newest[who].revision < lease.revision):
            newest[who] = lease
    found = []
    for lease in standing:
        who = _holder(lease)
        if lease.is_reservation:
            continue
        if not fits(config, lease.subnets):
            found.append((lease, "not of the configured range"))
        elif who is not None and newest[who] is not lease:
            found.append((lease, f"left behind: {who} has {newest[who].subnets} since"))
    return found


def _holder(lease: Lease) -> object:
    has = lease.attributes
    return has.public_ip if int(has.public_ip) else has.public_ipv6


def _text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")
