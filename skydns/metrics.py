# SPDX-License-Identifier: Apache-2.0
"""Metrics of ours, and with them those under both originals' names, computed when asked.

The hot loop adds one to one list element a query; zone, type, rcode, size and the rest are of the
cell it counts in, so these numbers are exact and cost nothing more.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from fairlead import __version__
from fairlead.workers.figures import Figures
from skydns import figures, originals
from skydns.ahead import Ahead
from skydns.compiled import Answers
from skydns.files import digest
from skydns.originals import counter
from skydns.server import Server
from skydns.transfer import Transfers

if TYPE_CHECKING:
    from fairlead.runtime import Runtime


class Collected(Collector):
    """The families of one daemon."""

    def __init__(
        self,
        answers: Answers,
        server: Server,
        transfers: Transfers | None = None,
        prefix: str = "skydns_skydns",
        plugins: Iterable[tuple[str, str, str]] = (),
        ahead: Ahead | None = None,
    ) -> None:
        self._ahead = ahead
        self._plugins = tuple(plugins)
        self._prefix = prefix
        self._answers = answers
        self._transfers = transfers
        self._server = server

    def collect(self) -> Iterable[Any]:
        """Return the families with their present values."""
        counts, signing = self._answers.counts.numbers, self._answers.signing
        forwarder = self._server.way.forwarder
        where = f"dns://{self._server.host}:{self._server.port}"
        yield from originals.coredns(counts, where, self._family)
        yield from originals.skydns(counts, self._prefix)
        yield originals.cachemiss(forwarder, signing, self._prefix)
        if forwarder is not None:
            yield from originals.upstream(forwarder, where)
        if signing is not None:
            yield from originals.signatures(signing, where)
        if self._server.way.screen is not None or self._server.tally.decided:
            yield from originals.listed(self._server.tally.decided, where)
        if self._server.tally.statuses:
            statuses: dict[tuple[str, ...], int] = {
                (where, str(status)): number
                for status, number in self._server.tally.statuses.items()
            }
            yield counter(
                "coredns_dns_https_responses",
                "Responses over HTTPS.",
                ["server", "status"],
                statuses,
            )
        if self._ahead is not None and self._ahead.hosts:
            yield from originals.hosts(self._ahead.hosts)
        yield from self._build()
        yield from self._own()

    def _build(self) -> Iterable[Any]:
        """Return what CoreDNS exports of itself and its plugins."""
        build = GaugeMetricFamily(
            "coredns_build_info", "What answers.", labels=["version", "revision", "goversion"]
        )
        build.add_metric([f"fairlead-{__version__}", "", f"python{platform.python_version()}"], 1)
        yield build
        yield CounterMetricFamily(
            "coredns_panics", "Faults of ours that a query met.", value=self._answers.faults
        )
        if self._plugins:
            enabled = GaugeMetricFamily(
                "coredns_plugin_enabled", "Plugins of the Corefile.",
                labels=["server", "zone", "view", "name"],
            )  # fmt: skip
            for server, zone, name in self._plugins:
                enabled.add_metric([server, zone, "", name], 1)
            yield enabled

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
            "skydns_udp_unsent", "Replies the kernel refused.", value=self._server.tally.unsent
        )
        yield GaugeMetricFamily(
            "skydns_tcp_connections",
            "TCP connections open.",
            value=self._server.tally.clients.total(),
        )
        yield CounterMetricFamily(
            "skydns_tcp_refused",
            "Connections closed because of a limit.",
            value=self._server.tally.tcp_refused,
        )
        if (limiter := self._server.way.limiter) is not None:
            limited: dict[tuple[str, ...], int] = {
                ("dropped",): limiter.dropped,
                ("cut",): limiter.slipped,
                ("badcookie",): limiter.challenged,
            }
            yield counter("skydns_replies_limited", "Replies above -rrl.", ["how"], limited)
        forwarder = self._server.way.forwarder
        if forwarder is not None:
            yield CounterMetricFamily(
                "skydns_forward_questions", "Asked of the name servers.", value=forwarder.asked
            )
            yield CounterMetricFamily(
                "skydns_forward_failed", "Answered by no name server.", value=forwarder.failed
            )
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


class Reloads(Collector):
    """What CoreDNS's `reload` exports: of one process, whose configuration all have.

    Args:
        runtime: counts what was not taken over.
        watched: files that settings come from, the Corefile first.
    """

    def __init__(self, runtime: Runtime, watched: Iterable[tuple[str, float]]) -> None:
        self._runtime = runtime
        self._files = [path for path, _ in watched]

    def collect(self) -> Iterable[Any]:
        """Return the families with their present values."""
        yield CounterMetricFamily(
            "coredns_reload_failed",
            "Configurations that were not taken over.",
            value=self._runtime.refused,
        )
        version = GaugeMetricFamily(
            "coredns_reload_version_info", "Hash of the Corefile.", labels=["hash", "value"]
        )
        for path in self._files[:1]:
            version.add_metric(["sha512", digest(path).hex()], 1)
        yield version


class Together(Collector):
    """The families of this process and of its workers as one."""

    def __init__(self, own: Collected, others: Callable[[], Figures]) -> None:
        self._own = own
        self._others = others

    def collect(self) -> Iterable[Any]:
        """Return the families with their present sums."""
        yield from figures.together(self._own.collect(), self._others())
