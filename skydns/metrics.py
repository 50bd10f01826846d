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
from skydns.server import Server

_SKYDNS_SIZES: Final = (0, 512, 1024, 1500, 2048, 4096, *range(8192, 65537, 4096))
_CAUSES: Final = {"NXDOMAIN": "nxdomain", "REFUSED": "refused", "SERVFAIL": "servfail"}


class Collected(Collector):
    """The families of one daemon."""

    def __init__(self, answers: Answers, server: Server) -> None:
        self._answers = answers
        self._server = server

    def collect(self) -> Iterable[Any]:
        """Return the families with their present values."""
        counts = self._answers.counts
        yield from _coredns(counts, f"dns://{self._server.host}:{self._server.port}", self._family)
        yield from _skydns(counts)
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
        forwarder = self._server.forwarder
        if forwarder is not None:
            yield CounterMetricFamily(
                "skydns_forward_questions", "Asked of the name servers.", value=forwarder.asked
            )
            yield CounterMetricFamily(
                "skydns_forward_failed", "Answered by no name server.", value=forwarder.failed
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


def _skydns(counts: dict[Seen, int]) -> Iterable[Any]:
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
    yield _counter("skydns_skydns_dns_request_count", "Queries.", ["system"], requests)
    yield _counter(
        "skydns_skydns_dns_error_count", "Replies that are errors.", ["system", "cause"], errors
    )
    histogram = HistogramMetricFamily(
        "skydns_skydns_dns_response_size_bytes",
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
