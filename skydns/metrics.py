# SPDX-License-Identifier: Apache-2.0
"""Metrics under both originals' names (specs/skydns.md §14), computed when asked.

The hot loop adds one to one list element a query; zone, type, rcode, size and the rest are of the
cell it counts in, so these numbers are exact and cost nothing more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from skydns.compiled import SIZES, Answers, Seen
from skydns.forward import Forwarder
from skydns.server import Server
from skydns.transfer import Transfers

_SKYDNS_SIZES: Final = (0, 512, 1024, 1500, 2048, 4096, *range(8192, 65537, 4096))
_CAUSES: Final = {"NXDOMAIN": "nxdomain", "REFUSED": "refused", "SERVFAIL": "servfail"}


class Collected(Collector):
    """The families of one daemon."""

    def __init__(
        self,
        answers: Answers,
        server: Server,
        transfers: Transfers | None = None,
        prefix: str = "skydns_skydns",
    ) -> None:
        self._prefix = prefix
        self._answers = answers
        self._transfers = transfers
        self._server = server

    def collect(self) -> Iterable[Any]:
        """Return the families with their present values."""
        counts = self._answers.counts
        yield from _coredns(counts, f"dns://{self._server.host}:{self._server.port}", self._family)
        yield from _skydns(counts, self._prefix)
        yield from self._own()

    @property
    def _family(self) -> str:
        """CoreDNS's word for the address family: 1 is IPv4."""
        return "2" if ":" in self._server.host else "1"

    def _own(self) -> Iterable[Any]:
        """Return what neither original had."""
        kept = GaugeMetricFamily("skydns_answers_kept", "Answers held ready.", labels=["kind"])
        for kind, size in self._answers.sizes().items():
            kept.add_metric([kind], size)
        yield kept
        records = len(self._answers.served.index.services)
        yield GaugeMetricFamily(
            "skydns_records", "Records that answers are made from.", value=records
        )
        yield CounterMetricFamily(
            "skydns_udp_unsent", "Replies the kernel refused.", value=self._server.unsent
        )
        yield GaugeMetricFamily(
            "skydns_tcp_connections", "TCP connections open.", value=self._server.connections
        )
        yield CounterMetricFamily(
            "skydns_tcp_refused",
            "Connections closed because of a limit.",
            value=self._server.tcp_refused,
        )
        if (limiter := self._server.limiter) is not None:
            limited: dict[tuple[str, ...], int] = {
                ("dropped",): limiter.dropped,
                ("cut",): limiter.slipped,
                ("badcookie",): limiter.challenged,
            }
            yield _counter("skydns_replies_limited", "Replies above -rrl.", ["how"], limited)
        forwarder = self._server.forwarder
        if forwarder is not None:
            yield CounterMetricFamily(
                "skydns_forward_questions", "Asked of the name servers.", value=forwarder.asked
            )
            yield CounterMetricFamily(
                "skydns_forward_failed", "Answered by no name server.", value=forwarder.failed
            )
            where = f"dns://{self._server.host}:{self._server.port}"
            yield from _forwarding(forwarder, where, self._prefix)
        sent = CounterMetricFamily(
            "skydns_transfers",
            "Zone transfers, by kind; SOA: there was nothing new.",
            labels=["kind"],
        )
        for kind, number in self._transfers.sent.items() if self._transfers else ():
            sent.add_metric([kind], number)
        yield sent
        yield CounterMetricFamily(
            "skydns_transfers_refused", "Transfers asked for by others than -transfer-to.",
            value=self._transfers.refused if self._transfers else 0,
        )  # fmt: skip


def _forwarding(forwarder: Forwarder, server: str, prefix: str) -> Iterable[Any]:
    """Return what there is to say of the cache and the name servers."""
    cache = forwarder.cache
    entries = GaugeMetricFamily("coredns_cache_entries", "Answers kept.", labels=["server"])
    entries.add_metric([server], len(cache))
    yield entries
    for name, text, value in (
        ("coredns_cache_requests", "Looked for in the cache.", cache.hits + cache.misses),
        ("coredns_cache_hits", "Found in the cache.", cache.hits),
        ("coredns_cache_misses", "Not found in the cache.", cache.misses),
        ("coredns_cache_prefetch", "Asked for before they ran out.", cache.prefetched),
        ("coredns_cache_served_stale", "Served after they ran out.", cache.stale),
        ("coredns_cache_evictions", "Thrown out for want of room.", cache.evicted),
    ):
        yield _counter(name, text, ["server"], {(server,): value})
    yield CounterMetricFamily(
        "coredns_forward_max_concurrent_rejects",
        "Questions over a bound of what is under way.",
        value=forwarder.rejected,
    )
    yield CounterMetricFamily(
        "coredns_forward_healthcheck_broken",
        "Questions when all servers were down.",
        value=forwarder.health.broken,
    )
    failures: dict[tuple[str, ...], int] = {
        ("forward", str(each)): n for each, n in forwarder.health.failures.items()
    }
    yield _counter(
        "coredns_proxy_healthcheck_failures",
        "Questions and probes that a server did not answer.",
        ["proxy_name", "to"],
        failures,
    )
    yield _counter(
        f"{prefix}_dns_cachemiss_count",
        "Not found in a cache.",
        ["cache"],
        {("response",): cache.misses},
    )


def _coredns(counts: dict[Seen, int], server: str, family: str) -> Iterable[Any]:
    """Return §14.2's families."""
    requests: dict[tuple[str, ...], int] = defaultdict(int)
    replies: dict[tuple[str, ...], int] = defaultdict(int)
    do: dict[tuple[str, ...], int] = defaultdict(int)
    sizes: dict[str, dict[tuple[str, ...], dict[int, int]]] = {"request": {}, "response": {}}
    for seen, number in counts.items():
        requests[server, seen.zone, "", seen.proto, family, seen.rtype] += number
        replies[server, seen.zone, "", seen.rcode, _plugin(seen)] += number
        if seen.do:
            do[server, seen.zone, ""] += number
        for kind, size in (("request", seen.query_size), ("response", seen.reply_size)):
            by_size = sizes[kind].setdefault((server, seen.zone, "", seen.proto), defaultdict(int))
            by_size[size] += number
    yield _counter(
        "coredns_dns_requests",
        "Queries.",
        ["server", "zone", "view", "proto", "family", "type"],
        requests,
    )
    yield _counter(
        "coredns_dns_responses", "Replies.", ["server", "zone", "view", "rcode", "plugin"], replies
    )
    yield _counter(
        "coredns_dns_do_requests", "Queries with DO set.", ["server", "zone", "view"], do
    )
    for kind, by_labels in sizes.items():
        histogram = HistogramMetricFamily(
            f"coredns_dns_{kind}_size_bytes", f"Sizes of a {kind}, by upper bound.", labels=["server", "zone", "view", "proto"]
        )  # fmt: skip
        for labels, by_size in by_labels.items():
            histogram.add_metric(labels, *_buckets(by_size, SIZES))
        yield histogram


def _skydns(counts: dict[Seen, int], prefix: str) -> Iterable[Any]:
    """Return §14.1's families, under the default namespace and subsystem."""
    requests: dict[tuple[str, ...], int] = defaultdict(int)
    errors: dict[tuple[str, ...], int] = defaultdict(int)
    sizes: dict[str, dict[int, int]] = {}
    for seen, number in counts.items():
        requests[(seen.system,)] += number
        if cause := _CAUSES.get(seen.rcode):
            errors[seen.system, cause] += number
        by_size = sizes.setdefault(seen.system, defaultdict(int))
        by_size[next(bound for bound in _SKYDNS_SIZES if seen.reply_size <= bound)] += number
    yield _counter(f"{prefix}_dns_request_count", "Queries.", ["system"], requests)
    yield _counter(
        f"{prefix}_dns_error_count", "Replies that are errors.", ["system", "cause"], errors
    )
    histogram = HistogramMetricFamily(
        f"{prefix}_dns_response_size_bytes",
        "Sizes of replies, by upper bound.",
        labels=["system"],
    )
    for system, by_size in sizes.items():
        histogram.add_metric([system], *_buckets(by_size, _SKYDNS_SIZES))
    yield histogram


def _counter(
    name: str, text: str, labels: list[str], values: dict[tuple[str, ...], int]
) -> CounterMetricFamily:
    """Return a counter family."""
    family = CounterMetricFamily(name, text, labels=labels)
    for place, value in values.items():
        family.add_metric(place, value)
    return family


def _buckets(
    by_size: dict[int, int], bounds: Iterable[int]
) -> tuple[list[tuple[str, float]], float]:
    """Return cumulative buckets, and the sum of the upper bounds (sizes are counted by bound)."""
    total, found = 0, []
    for bound in bounds:
        total += by_size.get(bound, 0)
        found.append((str(float(bound)), float(total)))
    found.append(("+Inf", float(sum(by_size.values()))))
    return found, float(sum(size * number for size, number in by_size.items()))


def _plugin(seen: Seen) -> str:
    """Return CoreDNS's plugin that would have answered."""
    return "forward" if seen.system == "recursive" else "etcd"
