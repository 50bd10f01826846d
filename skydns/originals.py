# SPDX-License-Identifier: Apache-2.0
"""Metrics under both originals' names (specs/skydns.md §14), from the cells that queries counted in.

Sizes and times are counted by upper bound, so the sums of the histograms are estimates: of sizes the
bounds, of times the middles of the buckets; what takes less than the first bound counts as none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from skydns.acl import Action
from skydns.forward import Forwarder
from skydns.hosts import Hosts
from skydns.seen import AT_ONCE, COREDNS_TIMES, SIZES, SKYDNS_TIMES, TIMES, Seen
from skydns.signing import Signing

Labels = tuple[str, ...]

_SKYDNS_SIZES: Final = (0, 512, 1024, 1500, 2048, 4096, *range(8192, 65537, 4096))
_CAUSES: Final = {"NXDOMAIN": "nxdomain", "REFUSED": "refused", "SERVFAIL": "servfail"}
_MIDDLES: Final = {
    high: (low + high) / 2 for low, high in zip(TIMES, (*TIMES[1:], float("inf")), strict=True)
} | {AT_ONCE: 0.0, float("inf"): TIMES[-1]}
_ACTIONS: Final = {
    Action.BLOCK: "blocked", Action.FILTER: "filtered", Action.DROP: "dropped", Action.ALLOW: "allowed",
}  # fmt: skip


def coredns(counts: Mapping[Seen, int], server: str, family: str) -> Iterable[Any]:
    """Return §14.2's families of queries."""
    requests: Counter[Labels] = Counter()
    replies: Counter[Labels] = Counter()
    do: Counter[Labels] = Counter()
    times: dict[Labels, Counter[float]] = defaultdict(Counter)
    sizes: dict[str, dict[Labels, Counter[float]]] = {
        "request": defaultdict(Counter),
        "response": defaultdict(Counter),
    }
    for seen, number in counts.items():
        place = (server, seen.zone, "")
        requests[*place, seen.proto, family, seen.rtype] += number
        replies[*place, seen.rcode, _plugin(seen)] += number
        if seen.do:
            do[place] += number
        times[place][seen.took] += number
        sizes["request"][*place, seen.proto][seen.query_size] += number
        sizes["response"][*place, seen.proto][seen.reply_size] += number
    where = ["server", "zone", "view"]
    yield counter("coredns_dns_requests", "Queries.", [*where, "proto", "family", "type"], requests)
    yield counter("coredns_dns_responses", "Replies.", [*where, "rcode", "plugin"], replies)
    yield counter("coredns_dns_do_requests", "Queries with DO set.", where, do)
    yield durations(
        "coredns_dns_request_duration_seconds", "Times to a reply.", where, times, COREDNS_TIMES
    )
    for kind, by_labels in sizes.items():
        yield _sizes(
            f"coredns_dns_{kind}_size_bytes", f"Sizes of a {kind}, by upper bound.",
            [*where, "proto"], by_labels, SIZES,
        )  # fmt: skip


def skydns(counts: Mapping[Seen, int], prefix: str) -> Iterable[Any]:
    """Return §14.1's families; `prefix` is namespace and subsystem."""
    requests: Counter[Labels] = Counter()
    errors: Counter[Labels] = Counter()
    sizes: dict[Labels, Counter[float]] = defaultdict(Counter)
    times: dict[Labels, Counter[float]] = defaultdict(Counter)
    for seen, number in counts.items():
        requests[seen.system,] += number
        if cause := _CAUSES.get(seen.rcode):
            errors[seen.system, cause] += number
        if seen.cut:
            errors[seen.system, "truncated"] += number
        bound = next((bound for bound in _SKYDNS_SIZES if seen.reply_size <= bound), 65536)
        sizes[seen.system,][bound] += number
        times[seen.system,][seen.took] += number
    where = ["system"]
    yield counter(f"{prefix}_dns_request_count", "Queries.", where, requests)
    yield counter(
        f"{prefix}_dns_error_count", "Replies that are errors.", [*where, "cause"], errors
    )
    yield durations(
        f"{prefix}_dns_request_duration_seconds", "Times to a reply.", where, times, SKYDNS_TIMES
    )
    yield _sizes(
        f"{prefix}_dns_response_size_bytes", "Sizes of replies, by upper bound.", where, sizes,
        _SKYDNS_SIZES,
    )  # fmt: skip


def cachemiss(forwarder: Forwarder | None, signing: Signing | None, prefix: str) -> Any:
    """Return SkyDNS's count of what its caches did not have."""
    missed: dict[Labels, int] = {}
    if forwarder is not None:
        missed["response",] = forwarder.cache.misses
    if signing is not None:
        missed["signature",] = sum(signer.misses for signer in signing.signers.values())
    return counter(f"{prefix}_dns_cachemiss_count", "Not found in a cache.", ["cache"], missed)


def hosts(files: Hosts) -> Iterable[Any]:
    """Return what CoreDNS's `hosts` exports."""
    yield GaugeMetricFamily("coredns_hosts_entries", "Lines' names and addresses.", value=files.entries)  # fmt: skip
    yield GaugeMetricFamily(
        "coredns_hosts_reload_timestamp_seconds", "When the file was written.",
        value=files.changed_wall,
    )  # fmt: skip


def upstream(forwarder: Forwarder, server: str) -> Iterable[Any]:
    """Return what CoreDNS's `cache` and `forward` export."""
    cache = forwarder.cache
    kinds = {"success": len(cache) - cache.denials, "denial": cache.denials}
    entries = GaugeMetricFamily(
        "coredns_cache_entries", "Answers kept.", labels=["server", "type", "zones", "view"]
    )
    for kind, number in kinds.items():
        entries.add_metric([server, kind, "", ""], number)
    yield entries
    hits: dict[Labels, int] = {
        (server, "success", "", ""): cache.hits - cache.denial_hits,
        (server, "denial", "", ""): cache.denial_hits,
    }
    where = ["server", "zones", "view"]
    yield counter(
        "coredns_cache_hits", "Found in the cache.", ["server", "type", "zones", "view"], hits
    )
    for name, text, value in (
        ("requests", "Looked for in the cache.", cache.hits + cache.misses),
        ("misses", "Not found in the cache.", cache.misses),
        ("prefetch", "Asked for before they ran out.", cache.prefetched),
        ("served_stale", "Served after they ran out.", cache.stale),
        ("evictions", "Thrown out for want of room.", cache.evicted),
        ("drops", "Answers to another question, not taken.", forwarder.asking.strays),
    ):
        yield counter(f"coredns_cache_{name}", text, where, {(server, "", ""): value})
    yield counter(
        "coredns_forward_max_concurrent_rejects", "Questions over a bound of what is under way.",
        [], {(): forwarder.rejected},
    )  # fmt: skip
    yield counter(
        "coredns_forward_healthcheck_broken", "Questions when all servers were down.",
        [], {(): forwarder.asking.health.broken},
    )  # fmt: skip
    failures: dict[Labels, int] = {
        ("forward", str(each)): number for each, number in forwarder.asking.health.failures.items()
    }
    yield counter(
        "coredns_proxy_healthcheck_failures", "Questions and probes that a server did not answer.",
        ["proxy_name", "to"], failures,
    )  # fmt: skip
    for name, counts in (
        ("hits", forwarder.asking.streams.reused),
        ("misses", forwarder.asking.streams.opened),
    ):
        values: dict[Labels, int] = {
            ("forward", str(each), "tcp-tls" if each.tls else "tcp"): number
            for each, number in counts.items()
        }
        text = f"Connections to name servers: {name} among those kept."
        yield counter(
            f"coredns_proxy_conn_cache_{name}", text, ["proxy_name", "to", "proto"], values
        )
    times: dict[Labels, Counter[float]] = defaultdict(Counter)
    for (to, rcode, bound), number in forwarder.asking.took.items():
        times["forward", to, rcode][bound] += number
    yield durations(
        "coredns_proxy_request_duration_seconds", "Times that name servers took.",
        ["proxy_name", "to", "rcode"], times, COREDNS_TIMES,
    )  # fmt: skip


def signatures(signing: Signing, server: str) -> Iterable[Any]:
    """Return what CoreDNS's `dnssec` exports."""
    signers = signing.signers.values()
    entries = GaugeMetricFamily(
        "coredns_dnssec_cache_entries", "Signatures kept.", labels=["server", "type"]
    )
    entries.add_metric([server, "signature"], sum(map(len, signers)))
    yield entries
    for name, value in (
        ("hits", sum(signer.hits for signer in signers)),
        ("misses", sum(signer.misses for signer in signers)),
    ):
        text = f"Signatures: {name}."
        yield counter(f"coredns_dnssec_cache_{name}", text, ["server"], {(server,): value})


def listed(decided: Mapping[tuple[Action, str], int], server: str) -> Iterable[Any]:
    """Return what CoreDNS's `acl` exports."""
    for action, word in _ACTIONS.items():
        values: dict[Labels, int] = {
            (server, zone, ""): number for (did, zone), number in decided.items() if did is action
        }
        name = f"coredns_acl_{word}_requests"
        yield counter(name, f"Queries {word}.", ["server", "zone", "view"], values)


def counter(
    name: str, text: str, labels: list[str], values: Mapping[Labels, int]
) -> CounterMetricFamily:
    """Return a counter family."""
    family = CounterMetricFamily(name, text, labels=labels)
    for place, value in values.items():
        family.add_metric(place, value)
    return family


def durations(
    name: str,
    text: str,
    labels: list[str],
    values: Mapping[Labels, Counter[float]],
    bounds: Sequence[float],
) -> HistogramMetricFamily:
    """Return a histogram of seconds."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for place, by_time in values.items():
        spent = sum(_MIDDLES[bound] * number for bound, number in by_time.items())
        family.add_metric(place, _buckets(by_time, bounds), spent)
    return family


def _sizes(
    name: str,
    text: str,
    labels: list[str],
    values: Mapping[Labels, Counter[float]],
    bounds: Sequence[float],
) -> HistogramMetricFamily:
    """Return a histogram of octets."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for place, by_size in values.items():
        octets = sum(bound * number for bound, number in by_size.items())
        family.add_metric(place, _buckets(by_size, bounds), float(octets))
    return family


def _buckets(counts: Mapping[float, int], bounds: Sequence[float]) -> list[tuple[str, float]]:
    """Return cumulative buckets of what is counted by upper bounds, no coarser than `bounds`."""
    found = [
        (str(float(bound)), float(sum(number for at, number in counts.items() if at <= bound)))
        for bound in bounds
    ]
    return [*found, ("+Inf", float(sum(counts.values())))]


def _plugin(seen: Seen) -> str:
    """Return CoreDNS's plugin that would have answered."""
    return {"recursive": "forward", "stub": "forward", "cache": "cache"}.get(seen.system, "etcd")
