# SPDX-License-Identifier: Apache-2.0
"""What is served otherwise than its keys say, and why: for status, log and `fairlead lb lint`. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from lb import records, tls
from lb.catalog import Catalog
from lb.desired import closed, pair_of
from lb.fields import Invalid
from lb.keys import Kind, Ref
from lb.secret import Box, KeyPair, opened

_SOON: Final = 14 * 86400.0  # seconds before its end that a certificate is named
_UNSEALED: Final = "need secretbox to open sealed data"

Problem = tuple[Ref, str]


def problems(catalog: Catalog, box: Box | None = None) -> dict[Ref, str]:
    """Return what is wrong with objects; several reasons of one are joined."""
    found: dict[Ref, str] = {}
    for look in (_frontends, _middlewares, _backends, _routes, _hosts, _doubled):
        for ref, why in look(catalog, box):
            found[ref] = f"{found[ref]}; {why}" if ref in found else why
    return found


def used_by(record: records.Frontend) -> frozenset[str]:
    """Return every backend that a frontend names."""
    mirror = record.policy.mirror
    return frozenset((*record.backends, *([mirror.backend] if mirror is not None else ())))


def _frontends(catalog: Catalog, box: Box | None) -> Iterator[Problem]:
    for record in catalog.frontends.values():
        for name in record.backends:
            if name in catalog.orphans:
                yield (
                    record.ref,
                    f'backend "{name}" was deleted; its last settings and servers serve on',
                )
            elif name not in catalog.backends and name not in catalog.servers:
                what = "every request is" if name == record.backend else "its share of requests is"
                yield record.ref, f'backend "{name}" is missing: {what} answered 503'
        why = closed(record, catalog)
        if why:
            yield record.ref, f"every request is answered 503: {why}"


def _middlewares(catalog: Catalog, box: Box | None) -> Iterator[Problem]:
    for parent, siblings in catalog.middlewares.items():
        if parent not in catalog.frontends:
            for middleware in siblings.values():
                if not catalog.sharers(middleware.ref):
                    yield middleware.ref, f'frontend "{parent}" is missing'


def _backends(catalog: Catalog, box: Box | None) -> Iterator[Problem]:
    for name in catalog.servers:
        if name not in catalog.backends and name not in catalog.orphans:
            yield Ref(Kind.BACKEND, name), "has servers but no backend key: default settings"
    for backend in catalog.backends.values():
        if backend.client is not None:
            try:
                opened(backend.client, box)
            except Invalid as error:
                yield backend.ref, f"ClientCert is not shown to servers: {error}"


def _routes(catalog: Catalog, box: Box | None) -> Iterator[Problem]:
    """Name frontends that no request can reach: another one has the same route."""
    by_route: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for name, record in catalog.frontends.items():
        by_route[record.route].append((-record.policy.priority, name))
    for ranked in by_route.values():
        (_, wins), *others = sorted(ranked)
        for _, name in others:
            yield Ref(Kind.FRONTEND, name), f'frontend "{wins}" has the same route and wins'


def _hosts(catalog: Catalog, box: Box | None) -> Iterator[Problem]:
    for name, host in catalog.hosts.items():
        pair = pair_of(host, catalog, box)
        failed = catalog.failures.get(name)
        ours = host.auto is not None and host.pair is None
        if isinstance(pair, str):
            yield host.ref, f"its certificate is not offered: {pair}"
        elif ours and failed is not None:
            yield host.ref, f"AutoCert: no certificate was issued: {failed.why}"
        elif ours and box is None:
            yield host.ref, "AutoCert: -sealKey is not given, and keys are stored sealed only"
        elif pair is None and host.default:
            yield host.ref, f"default host '{name}' certificate is not passed"


def _doubled(catalog: Catalog, box: Box | None) -> Iterator[Problem]:
    for ref in catalog.doubled():
        used, *others = (key.decode("utf-8", "replace") for key in catalog.spellings(ref))
        yield ref, f"key {used} is in force, not {', '.join(others)}"


# ---------------------------------------------------------------------- lint


def lint(
    catalog: Catalog, rejected: Mapping[bytes, Exception], now: float
) -> list[tuple[str, str]]:
    """Return whatever an operator may want to mend: object or key, and why, sorted.

    Sealed pairs are not looked into: there is no seal key here.

    Args:
        now: Unix seconds.
    """
    found = [
        (key.decode("utf-8", "backslashreplace"), str(getattr(error, "reason", error)))
        for key, error in rejected.items()
    ]
    found += [
        (str(ref), why)
        for look in (_frontends, _middlewares, _backends, _routes, _hosts, _doubled)
        for ref, why in look(catalog, None)
        if _UNSEALED not in why and "-sealKey" not in why
    ]
    found += [(str(ref), why) for ref, why in _unused(catalog)]
    found += [(str(ref), why) for ref, why in _pairs(catalog, now)]
    return sorted(found)


def _unused(catalog: Catalog) -> Iterator[Problem]:
    used = {name for frontend in catalog.frontends.values() for name in used_by(frontend)}
    for name, backend in catalog.backends.items():
        if not catalog.servers.get(name):
            yield backend.ref, "has no servers: 503"
        if name not in used:
            yield backend.ref, "no frontend uses it"
        for suite in tls.left_out(backend.tls):
            yield backend.ref, f"{suite}: OpenSSL lacks it"
    for name in catalog.issued:
        if name not in catalog.hosts:
            yield Ref(Kind.HOST, name), "a certificate was issued for it, and it is gone"


def _pairs(catalog: Catalog, now: float) -> Iterator[Problem]:
    for host in catalog.hosts.values():
        if isinstance(host.pair, KeyPair):
            yield host.ref, "its private key stands in etcd in the clear"
            why = _certificate(host.pair, host.ref.id, now)
            if why:
                yield host.ref, why


def _certificate(pair: KeyPair, host: str, now: float) -> str:
    """Return what is wrong with a certificate, "" for nothing."""
    from lb.certificates import fault, named  # cryptography is slow to load

    why = fault(pair)
    if why:
        return why
    names, until = named(pair)
    if until <= now + _SOON:
        verb = "ended" if until <= now else "ends"
        return f"its certificate {verb} on {datetime.fromtimestamp(until, UTC):%Y-%m-%d}"
    wild = "*." + host.lower().partition(".")[2]
    if host.lower() not in names and wild not in names:
        return f"its certificate is for {', '.join(names) or 'nobody'}, and answers to these names only"
    return ""
