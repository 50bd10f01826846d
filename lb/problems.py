# SPDX-License-Identifier: Apache-2.0
"""What is served otherwise than its keys say, and why: for status, log and `fairlead lb lint`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from lb import records, tls
from lb.catalog import Catalog
from lb.desired import closed, pair_of
from lb.fields import Invalid
from lb.keys import Kind, Ref
from lb.pieces import pieces
from lb.secret import Box, KeyPair, opened

_AT_ONCE: Final = 128  # objects of a step: 0.5 ms
_SOON: Final = 14 * 86400.0  # seconds before its end that a certificate is named
_UNSEALED: Final = "need secretbox to open sealed data"

Problem = tuple[Ref, str]


def problems(catalog: Catalog, box: Box | None = None) -> dict[Ref, str]:
    """Return what is wrong with objects; several reasons of one are joined."""
    return joined(steps(catalog, box))


def joined(found: Iterable[Sequence[Problem]]) -> dict[Ref, str]:
    """Return the problems that steps found, by object."""
    told: dict[Ref, str] = {}
    for step in found:
        for ref, why in step:
            told[ref] = f"{told[ref]}; {why}" if ref in told else why
    return told


def steps(catalog: Catalog, box: Box | None) -> Iterator[Sequence[Problem]]:
    """Give what is wrong with objects, some objects a step; between two the catalog may change.

    At 10,000 frontends all of it takes 60 ms.
    """
    for some in pieces(catalog.frontends.values(), _AT_ONCE):
        yield [*_frontends(some, catalog)]
    for parents in pieces(catalog.middlewares, _AT_ONCE):
        yield [*_middlewares(parents, catalog)]
    for names in pieces(catalog.servers, _AT_ONCE):
        yield [*_servers(names, catalog)]
    for backends in pieces(catalog.backends.values(), _AT_ONCE):
        yield [*_backends(backends, box)]
    yield from _routes(catalog)
    for hosts in pieces(catalog.hosts.values(), _AT_ONCE):
        yield [*_hosts(hosts, catalog, box)]
    yield [*_doubled(catalog)]


def used_by(record: records.Frontend) -> frozenset[str]:
    """Return every backend that a frontend names."""
    mirror = record.policy.mirror
    return frozenset((*record.backends, *([mirror.backend] if mirror is not None else ())))


def _frontends(some: Iterable[records.Frontend], catalog: Catalog) -> Iterator[Problem]:
    for record in some:
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


def _middlewares(parents: Iterable[str], catalog: Catalog) -> Iterator[Problem]:
    for parent in parents:
        if parent not in catalog.frontends:
            for middleware in catalog.middlewares.get(parent, {}).values():
                if not catalog.sharers(middleware.ref):
                    yield middleware.ref, f'frontend "{parent}" is missing'


def _servers(backends: Iterable[str], catalog: Catalog) -> Iterator[Problem]:
    for name in backends:
        if name not in catalog.backends and name not in catalog.orphans:
            yield Ref(Kind.BACKEND, name), "has servers but no backend key: default settings"


def _backends(some: Iterable[records.Backend], box: Box | None) -> Iterator[Problem]:
    for backend in some:
        if backend.client is not None:
            try:
                opened(backend.client, box)
            except Invalid as error:
                yield backend.ref, f"ClientCert is not shown to servers: {error}"


def _routes(catalog: Catalog) -> Iterator[Sequence[Problem]]:
    """Name frontends that no request can reach: another one has the same route."""
    by_route: dict[str, list[records.Frontend]] = {}
    for some in pieces(catalog.frontends.values(), _AT_ONCE):
        for record in some:
            by_route.setdefault(record.route, []).append(record)
        yield ()
    for routes in pieces(by_route.values(), _AT_ONCE):
        yield [one for rivals in routes if len(rivals) > 1 for one in _losers(rivals)]


def _losers(rivals: Sequence[records.Frontend]) -> Iterator[Problem]:
    wins, *others = sorted(rivals, key=lambda record: (-record.policy.priority, record.ref.id))
    for record in others:
        yield record.ref, f'frontend "{wins.ref.id}" has the same route and wins'


def _hosts(some: Iterable[records.Host], catalog: Catalog, box: Box | None) -> Iterator[Problem]:
    for host in some:
        name = host.ref.id
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


def _doubled(catalog: Catalog) -> Iterator[Problem]:
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
        for step in steps(catalog, None)
        for ref, why in step
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
    from lb.pairs import fault, named  # cryptography is slow to load

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
