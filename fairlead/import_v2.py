# SPDX-License-Identifier: Apache-2.0
"""A dump of an etcd v2 store → v3 keys: `fairlead import-v2`.

etcd 3.6 has no v2 API any more, and flannel, SkyDNS, confd and vulcand read v3 only, so old data
must move (specs/etcd.md §6.9, specs/flannel.md §21)::

    GET /v2/keys/?recursive=true ─► entries ─► plan(entries, prefixes, now) ─► carry_out ─► Report
    JSON                            pure       pure                            one txn a key

The rules: a node with a TTL gets an etcd lease of its own with what remains of it (flannel: a
leased subnet); one without is put without a lease (flannel: a reservation). A directory's TTL
counts for all below it. A key that stands already in v3 is never overwritten unless asked, so
the import can be run again. One key a transaction: old flannel daemons lose all but the first
event of a response (specs/flannel.md T1).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fairlead.errors import FairleadError, StoreError
from fairlead.etcd.store import Store
from fairlead.etcd.types import NO_LEASE, Compare, Put, Result, Target

PREFIXES = ("/coreos.com/network", "/skydns", "/vulcand")
"""What the originals use unless told otherwise; confd has no prefix of its own."""


class DumpError(FairleadError):
    """The dump is not what the v2 API answers; the message names the node."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One leaf of the dump.

    Attributes:
        key: with its leading slash, as v2 spells it.
        expires: seconds since 1970 UTC; None: it stays.
    """

    key: str
    value: str
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Put `value` under `key`, with a lease of `ttl_seconds` unless that is None."""

    key: bytes
    value: bytes
    ttl_seconds: int | None


@dataclass(slots=True)
class Report:
    """What became of every key of the dump that lies under a wanted prefix."""

    imported: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def entries(dump: Any, dumped: float) -> Iterator[Entry]:
    """Yield the leaves of a dump.

    Args:
        dump: the decoded answer `{"action": "get", "node": {…}}`, or such a node itself.
        dumped: when the dump was taken, seconds since 1970; counts for nodes that carry a
            `ttl` but no `expiration`.

    Raises:
        DumpError: a node is not an object, has no key, or its value, `ttl` or `expiration` is
            not of the right kind.
    """
    if isinstance(dump, dict) and "errorCode" in dump:
        raise DumpError(f"the dump is an error answer: {dump.get('message')}: {dump.get('cause')}")
    root = dump.get("node", dump) if isinstance(dump, dict) else dump
    yield from _walk(root, "/", None, dumped)


def _walk(node: Any, parent: str, limit: float | None, dumped: float) -> Iterator[Entry]:
    if not isinstance(node, dict):
        raise DumpError(f'a node below "{parent}" is not an object')
    key = node.get("key", "/")
    if not isinstance(key, str):
        raise DumpError(f'a node below "{parent}" has a key that is not a string')
    expires = _expiry(node, key, dumped)
    if limit is not None:
        expires = limit if expires is None else min(limit, expires)
    children = node.get("nodes")
    if node.get("dir") or children is not None:
        if not isinstance(children, list | None):
            raise DumpError(f'"{key}": "nodes" is not a list')
        for child in children or ():
            yield from _walk(child, key, expires, dumped)
        return
    value = node.get("value")
    if not isinstance(value, str):
        raise DumpError(f'"{key}": neither a directory nor a key with a string "value"')
    yield Entry(key, value, expires)


def _expiry(node: dict[str, Any], key: str, dumped: float) -> float | None:
    """Return when a node expires: `expiration` when there, else `ttl` from the dump's time."""
    text = node.get("expiration")
    if text is not None:
        try:
            moment = datetime.fromisoformat(text)
        except (TypeError, ValueError) as error:
            raise DumpError(f'"{key}": expiration "{text}" is not a time') from error
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    ttl = node.get("ttl")
    if ttl is None:
        return None
    if not isinstance(ttl, int) or isinstance(ttl, bool):
        raise DumpError(f'"{key}": ttl "{ttl}" is not a whole number of seconds')
    return dumped + ttl if ttl > 0 else None


def under(key: str, prefixes: Iterable[str]) -> bool:
    """Say whether `key` is one of `prefixes` or lies below one."""
    return any(
        key == prefix or key.startswith(prefix.rstrip("/") + "/") or prefix == "/"
        for prefix in prefixes
    )


def plan(
    found: Iterable[Entry], prefixes: Sequence[str], now: float
) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """Return the puts, sorted by key, and the keys that have expired meanwhile."""
    steps, expired = [], []
    for entry in found:
        if not under(entry.key, prefixes):
            continue
        left = None if entry.expires is None else math.ceil(entry.expires - now)
        if left is not None and left <= 0:
            expired.append(entry.key)
        else:
            steps.append(Step(entry.key.encode(), entry.value.encode(), left))
    return tuple(sorted(steps, key=lambda step: step.key)), tuple(sorted(expired))


async def carry_out(
    store: Store, steps: Iterable[Step], *, overwrite: bool, report: Report
) -> None:
    """Put the steps one by one; a refused one is reported and does not stop the others."""
    for step in steps:
        name = step.key.decode()
        try:
            outcome = await _import_one(store, step, overwrite=overwrite)
        except StoreError as error:
            report.failed.append((name, str(error)))
            continue
        {"imported": report.imported, "same": report.same, "kept": report.kept}[outcome].append(
            name
        )


async def _import_one(store: Store, step: Step, *, overwrite: bool) -> str:
    before = await store.get(step.key)
    if before is not None and before.value == step.value:
        return "same"
    if before is not None and not overwrite:
        return "kept"
    lease = NO_LEASE
    if step.ttl_seconds is not None:
        lease = (await store.grant(step.ttl_seconds)).id
    stands = 0 if before is None else before.mod_revision
    unchanged = Compare(step.key, Target.MOD, Result.EQUAL, stands)
    done = await store.txn([unchanged], [Put(step.key, step.value, lease)])
    if done.succeeded:
        return "imported"
    if lease != NO_LEASE:
        await store.revoke(lease)
    return "kept"  # somebody wrote it in between: theirs is newer


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fairlead import-v2",
        description="Copy keys from a JSON dump of an etcd v2 store into etcd v3. Take the dump "
        "with: curl -s 'http://127.0.0.1:2379/v2/keys/?recursive=true&sorted=true' > dump.json",
        epilog="Exit status: 0 all keys stand, 1 some differ or failed, 2 bad usage or dump.",
    )
    parser.add_argument("dump", help="the file, or - for standard input")
    parser.add_argument(
        "--endpoints", default="http://127.0.0.1:2379", help="etcd v3, comma separated"
    )
    parser.add_argument("--user", default="", help="NAME:PASSWORD where etcd asks for it")
    parser.add_argument("--cacert", default="", help="CA file for https endpoints")
    parser.add_argument("--cert", default="", help="client certificate file")
    parser.add_argument("--key", default="", help="client key file")
    parser.add_argument(
        "--prefix",
        action="append",
        help=f"import what lies under PREFIX; repeatable; / is all; default {', '.join(PREFIXES)}",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace keys that differ in v3")
    parser.add_argument("--dry-run", action="store_true", help="show what would be put")
    return parser.parse_args(argv)


def _read(path: str) -> tuple[Any, float]:
    """Return the decoded dump and when it was taken: the file's mtime, or now."""
    if path == "-":
        text, taken = sys.stdin.read(), datetime.now(UTC).timestamp()
    else:
        file = Path(path)
        text, taken = file.read_text(encoding="utf-8"), file.stat().st_mtime
    return json.loads(text), taken


def main(argv: Sequence[str]) -> int:
    """Run `fairlead import-v2` with the words after the verb; return the exit status."""
    arguments = _arguments(argv)
    prefixes = tuple(arguments.prefix or PREFIXES)
    try:
        dump, taken = _read(arguments.dump)
        steps, expired = plan(entries(dump, taken), prefixes, datetime.now(UTC).timestamp())
    except (OSError, ValueError, DumpError) as error:
        sys.stderr.write(f"import-v2: {arguments.dump}: {error}\n")
        return 2
    report = Report(expired=list(expired))
    if arguments.dry_run:
        for step in steps:
            lease = "" if step.ttl_seconds is None else f" (lease {step.ttl_seconds} s)"
            sys.stdout.write(f"put {step.key.decode()}{lease}\n")
        return 0
    return asyncio.run(_run(arguments, steps, report))


async def _run(arguments: argparse.Namespace, steps: Sequence[Step], report: Report) -> int:
    from fairlead.etcd.client import connect
    from fairlead.etcd.options import Options

    user, _, password = arguments.user.partition(":")
    options = Options(
        endpoints=tuple(arguments.endpoints.split(",")),
        user=user,
        password=password,
        ca=arguments.cacert,
        cert=arguments.cert,
        key=arguments.key,
    )
    async with connect(options) as store:
        await carry_out(store, steps, overwrite=arguments.overwrite, report=report)
    for label, keys in (
        ("imported", report.imported),
        ("already there", report.same),
        ("expired meanwhile", report.expired),
        ("differs in v3, kept (--overwrite replaces it)", report.kept),
    ):
        for key in keys:
            sys.stdout.write(f"{label}: {key}\n")
    for key, reason in report.failed:
        sys.stderr.write(f"failed: {key}: {reason}\n")
    sys.stdout.write(
        f"{len(report.imported)} imported, {len(report.same)} already there, "
        f"{len(report.kept)} kept, {len(report.expired)} expired, {len(report.failed)} failed\n"
    )
    return 1 if report.kept or report.failed else 0
