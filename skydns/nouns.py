# SPDX-License-Identifier: Apache-2.0
"""`fairlead dns …`: the records as etcd has them, and why a name answers as it does."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fairlead.noun import OUTPUT, etcd_flags, on_etcd

if TYPE_CHECKING:  # 100 ms that --help does not pay
    from fairlead.errors import RecordError
    from fairlead.etcd.store import Store
    from skydns.records import Service

_PREFIX = click.option(
    "--path-prefix", "prefix", default="skydns", show_default=True, envvar="SKYDNS_PATH_PREFIX",
    help="skydns's -path-prefix.",
)  # fmt: skip
_DOMAIN = click.option(
    "--domain", default="skydns.local", show_default=True, envvar="SKYDNS_DOMAIN", help="Zones, comma separated."
)  # fmt: skip


@click.group("dns")
def dns() -> None:
    """The records of skydns: put, rm, list, lint, explain."""


async def look(
    store: Store, prefix: bytes, below: bytes, odd: list[RecordError] | None = None
) -> tuple[list[Service], list[RecordError]]:
    """Return the records of the keys that begin with `below`, and those that cannot be used.

    Args:
        odd: gets what is odd about keys that are served all the same.
    """
    from fairlead.errors import RecordError
    from fairlead.etcd.types import KeyRange
    from skydns import records

    good: list[Service] = []
    bad: list[RecordError] = []
    noted = records.tell_nobody if odd is None else odd.append
    async for page in store.pages(KeyRange.prefix(below)):
        for kv in page.kvs:
            try:
                service = records.decode(prefix, kv, noted)
            except RecordError as error:
                bad.append(error)
            else:
                good += [service] if service is not None else []
    return good, bad


def _key(prefix: str, name: str) -> tuple[bytes, bytes]:
    """Return the prefix in its one form, and a name's key."""
    from skydns import keys, names

    try:
        clean = keys.clean(prefix)
        return clean, keys.key_of(clean, names.from_text(name))
    except ValueError as error:
        raise click.BadParameter(f'"{name}": {error}') from error


@dns.command()
@click.argument("name")
@click.argument("host", default="")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of SRV.")
@click.option("--priority", type=click.IntRange(0, 65535), default=0, help="Of SRV and MX; 0: 10.")
@click.option("--weight", type=click.IntRange(0, 65535), default=0, help="Share among SRV; 0: 100.")
@click.option("--ttl", type=click.IntRange(0, 2**31 - 1), default=0, help="Seconds; 0: the zone's.")
@click.option("--text", default="", help="TXT.")
@click.option("--mail", is_flag=True, help="It is an MX too.")
@click.option("--targetstrip", type=click.IntRange(0), default=0, help="Labels taken off targets.")
@click.option("--group", default="", help="Group.")
@etcd_flags
@_PREFIX
def put(name: str, host: str, prefix: str, **given: Any) -> None:
    """Write the record of NAME: HOST is an address or a name; without it there must be a --text."""
    fields = ("port", "priority", "weight", "text", "mail", "ttl", "targetstrip", "group")
    record = {"host": host} | {field: given.pop(field) for field in fields}
    record = {field: value for field, value in record.items() if value}
    if not (host or record.get("text")):
        raise click.UsageError("a record has a HOST, a --text, or both")
    clean, key = _key(prefix, name)
    value = json.dumps(record, ensure_ascii=False).encode()
    _check(clean, key, value)

    async def work(store: Store) -> int:
        await store.put(key, value, repeatable=True)
        click.echo(f"{key.decode()} {value.decode()}")
        return 0

    sys.exit(on_etcd(given, work))


def _check(prefix: bytes, key: bytes, value: bytes) -> None:
    """Refuse what skydns would refuse to serve."""
    from fairlead.errors import RecordError
    from fairlead.etcd.types import KeyValue, Revision
    from skydns import records

    try:
        records.decode(prefix, KeyValue(key, value, Revision(0), Revision(0), 1))
    except RecordError as error:
        raise click.UsageError(error.reason) from error


@dns.command()
@click.argument("name")
@click.option("--below", is_flag=True, help="Everything below NAME as well.")
@etcd_flags
@_PREFIX
def rm(name: str, below: bool, prefix: str, **flags: Any) -> None:
    """Delete the record of NAME."""
    _, key = _key(prefix, name)

    async def work(store: Store) -> int:
        from fairlead.etcd.types import KeyRange

        ranges = [KeyRange(key)] + ([KeyRange.prefix(key + b"/")] if below else [])
        gone = [
            kv.key.decode("utf-8", "backslashreplace")
            for each in ranges
            for kv in (await store.delete(each, prev_kv=True)).prev
        ]
        for each in gone:
            click.echo(each)
        if not gone:
            click.echo(
                f"nothing at {key.decode()}" + ("" if below else "; below it? --below"), err=True
            )
        return 0 if gone else 1

    sys.exit(on_etcd(flags, work))


@dns.command("list")
@click.argument("name", default=".")
@etcd_flags
@_PREFIX
@OUTPUT
def list_(name: str, prefix: str, output: str, **flags: Any) -> None:
    """Show the records at and below NAME, and the values there that cannot be used."""
    clean, key = _key(prefix, name)

    async def work(store: Store) -> int:
        good, bad = await look(store, clean, key)
        rows = [_row(each) for each in good if each.key == key or each.key.startswith(key + b"/")]
        broken = [
            {"key": error.key.decode("utf-8", "backslashreplace"), "reason": error.reason}
            for error in bad
        ]
        if output == "json":
            click.echo(
                json.dumps({"records": rows, "broken": broken}, indent=2, ensure_ascii=False)
            )
            return 0
        for row in rows:
            more = " ".join(
                f"{field}={value}"
                for field, value in row.items()
                if value and field not in {"key", "name", "host"}
            )
            click.echo(f"{row['name']:<40} {row['host'] or '–':<24} {more}".rstrip())
        for each in broken:
            click.echo(f"cannot be used: {each['key']}: {each['reason']}", err=True)
        return 0

    sys.exit(on_etcd(flags, work))


def _row(service: Service) -> dict[str, Any]:
    from skydns import names

    return {
        "key": service.key.decode("utf-8", "backslashreplace"), "name": names.to_text(service.name), "host": service.host,
        "port": service.port, "priority": service.priority, "weight": service.weight, "text": service.text.decode(),
        "mail": service.mail, "ttl": service.ttl, "targetstrip": service.targetstrip, "group": service.group,
        "lease": f"{service.lease:x}" if service.lease else "",
    }  # fmt: skip


@dns.command()
@etcd_flags
@_PREFIX
@_DOMAIN
@OUTPUT
def lint(prefix: str, domain: str, output: str, **flags: Any) -> None:
    """Look for records that cannot be used, are never found, or surprise; ends with 1 on errors."""
    from skydns import keys

    clean = keys.clean(prefix)

    async def work(store: Store) -> int:
        from skydns import lint as linting

        odd: list[RecordError] = []
        good, bad = await look(store, clean, keys.below(clean), odd)
        found = linting.lint(good, bad, _zones(domain), odd)
        if output == "json":
            click.echo(json.dumps([asdict(each) for each in found], indent=2, ensure_ascii=False))
        for each in found if output == "table" else ():
            click.echo(f"{each.level:<8} {each.key}: {each.text}")
        return int(any(each.level == "error" for each in found))

    sys.exit(on_etcd(flags, work))


@dns.command()
@click.argument("name")
@click.argument("rtype", metavar="TYPE", default="A")
@click.option(
    "--compat",
    type=click.Choice(["coredns", "skydns", "strict"]),
    default="coredns",
    show_default=True,
    help="skydns's -compat.",
)
@etcd_flags
@_PREFIX
@_DOMAIN
@OUTPUT
def explain(
    name: str, rtype: str, compat: str, prefix: str, domain: str, output: str, **flags: Any
) -> None:
    """Show what NAME TYPE is answered, which keys made it, and which were hidden and why."""
    from skydns import explain as explaining
    from skydns import keys, names
    from skydns.policy import PROFILES, Policy
    from skydns.rrs import Question

    kind = explaining.TYPES.get(rtype.upper())
    if kind is None:
        raise click.BadParameter(
            f'"{rtype}" is no type; known: {", ".join(sorted(explaining.TYPES))}'
        )
    clean, _ = _key(prefix, name)
    profile = PROFILES[compat]
    policy = Policy(frozenset(_zones(domain)), profile, profile.ttl, profile.min_ttl, auto_ptr=True)
    question = Question(names.from_text(name).lower(), kind)

    async def work(store: Store) -> int:
        good, bad = await look(store, clean, keys.below(clean))
        told = explaining.explain(question, good, bad, clean, policy)
        if output == "json":
            click.echo(json.dumps(asdict(told), indent=2, ensure_ascii=False))
            return 0
        click.echo(f"{told.status}" + (f", zone {told.zone}" if told.zone else ""))
        for title, section in (("answer", told.answer), ("additional", told.additional)):
            for line in section:
                click.echo(f"  {title:<11}{line}")
        for part in told.parts:
            click.echo(part.key)
            for line in part.made:
                click.echo(f"  made       {line}")
            if part.why:
                click.echo(f"  hidden     {part.why}")
        return 0

    sys.exit(on_etcd(flags, work))


def _zones(domain: str) -> tuple[bytes, ...]:
    from skydns import keys

    try:
        return keys.zones(domain)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--domain") from error
