# SPDX-License-Identifier: Apache-2.0
"""The metric families that all daemons share, on prometheus-client; one registry a process.

A daemon adds its own (the original's names kept) with `registry=metrics.registry`. Gauges of
mirrors are computed when asked, so an idle daemon does no work for them.

A collector with many rows gives a family in several pieces, one after the other: what follows of
the same name is written without its comments, and the daemon goes on with its work in between
(50,000 samples take 0.6 s).
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fairlead import __version__
from fairlead.health import Condition
from fairlead.reconcile import Pass

if TYPE_CHECKING:
    from fairlead.workers.parent import Running

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


@dataclass(frozen=True, slots=True)
class View:
    """What the gauges need to know of one mirror."""

    name: str
    revision: int
    keys: int
    stale_seconds: float
    connected: bool


class _Views(Collector):
    """Gauges of the mirrors, computed at each scrape."""

    def __init__(self, views: Callable[[], list[View]]) -> None:
        self._views = views

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        views = self._views()
        yield GaugeMetricFamily(
            "fairlead_etcd_connected",
            "1 while every mirror is in touch with etcd.",
            value=float(all(view.connected for view in views) if views else 0),
        )
        yield GaugeMetricFamily(
            "fairlead_etcd_revision",
            "Revision up to which every mirror has seen the store.",
            value=float(min((view.revision for view in views), default=0)),
        )
        yield GaugeMetricFamily(
            "fairlead_etcd_stale_seconds",
            "Age of the oldest data served; 0 while connected.",
            value=max((view.stale_seconds for view in views), default=0.0),
        )
        keys = GaugeMetricFamily("fairlead_mirror_keys", "Keys in a mirror.", labels=["mirror"])
        for view in views:
            keys.add_metric([view.name], view.keys)
        yield keys


class _Team(Collector):
    """What there is to say of workers, computed at each scrape."""

    def __init__(self, running: Callable[[], Sequence[Running]]) -> None:
        self._running = running

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        running = self._running()
        yield GaugeMetricFamily(
            "fairlead_workers_serving",
            "Worker processes that serve.",
            value=float(sum(each.state == "serving" for each in running)),
        )
        yield CounterMetricFamily(
            "fairlead_worker_restarts",
            "Worker processes that ended and were started again.",
            value=float(sum(each.restarts for each in running)),
        )


class Metrics:
    """The shared families.

    Args:
        program: label of fairlead_build_info.
        views: the mirrors as they are now.
    """

    def __init__(self, program: str, views: Callable[[], list[View]] = list) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        self.requests = Counter(
            "fairlead_etcd_requests_total", "Calls to etcd.", ["rpc", "result"], registry=registry
        )
        self.request_seconds = Histogram(
            "fairlead_etcd_request_duration_seconds",
            "How long calls to etcd took.",
            ["rpc"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.resyncs = Counter(
            "fairlead_etcd_resyncs_total",
            "Full lists made by the mirrors.",
            ["reason"],
            registry=registry,
        )
        self.passes = Counter(
            "fairlead_reconcile_passes_total",
            "Passes of the reconciler: changed, idle, failed, held.",
            ["loop", "result"],
            registry=registry,
        )
        self.pass_seconds = Histogram(
            "fairlead_reconcile_duration_seconds",
            "How long passes took.",
            ["loop"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.actions = Counter(
            "fairlead_reconcile_actions_total",
            "Actions carried out: done, failed, held.",
            ["action", "result"],
            registry=registry,
        )
        self.dirty = Gauge(
            "fairlead_reconcile_dirty",
            "1 while the last pass left work undone.",
            ["loop"],
            registry=registry,
        )
        self.last_success = Gauge(
            "fairlead_reconcile_last_success_timestamp_seconds",
            "When a pass last ended with nothing undone.",
            ["loop"],
            registry=registry,
        )
        self.rejected = Counter(
            "fairlead_records_rejected_total",
            "Values in etcd that could not be used.",
            ["records"],
            registry=registry,
        )
        self.condition = Gauge(
            "fairlead_condition", "1 while a condition holds.", ["name"], registry=registry
        )
        self.certificate_expiry = Gauge(
            "fairlead_tls_certificate_expiry_timestamp_seconds",
            "When a certificate that a file gives ends.",
            ["file"],
            registry=registry,
        )
        build = Gauge(
            "fairlead_build_info",
            "1, labelled with what runs.",
            ["program", "version", "python"],
            registry=registry,
        )
        build.labels(program, __version__, platform.python_version()).set(1)
        registry.register(_Views(views))
        ProcessCollector(registry=registry)

    def watch_workers(self, running: Callable[[], Sequence[Running]]) -> None:
        """Count workers from now on."""
        self.registry.register(_Team(running))

    def note_condition(self, condition: Condition) -> None:
        """Count a condition's turn."""
        self.condition.labels(condition.name).set(float(condition.holds))

    def note_call(self, rpc: str, result: str, seconds: float) -> None:
        """Count one call to etcd."""
        self.requests.labels(rpc, result).inc()
        self.request_seconds.labels(rpc).observe(seconds)

    def note_pass(self, loop: str, done: Pass[object], wall: float, *, left: bool) -> None:
        """Count one pass of a reconciler; `left`: some of what is wanted is not done yet."""
        result = "idle" if not done.plan else "changed"
        result = "failed" if done.failures else "held" if done.held else result
        self.passes.labels(loop, result).inc()
        self.pass_seconds.labels(loop).observe(done.seconds)
        self.dirty.labels(loop).set(float(left))
        refused = [error.action for error in done.failures]
        for action in done.plan:
            failed = any(action is other or action == other for other in refused)
            verdict = "failed" if failed else "done"
            self.actions.labels(type(action).__name__, verdict).inc()
        if done.held:
            self.actions.labels("removal", "held").inc(done.held)
        if not left:
            self.last_success.labels(loop).set(wall)

    async def exposition(self) -> bytes:
        """Return the text that Prometheus scrapes; others have their turn meanwhile."""
        text, last = [], ""
        for family in self.registry.collect():
            for part in _parts(family):
                lines = generate_latest(_One(part))
                if part.name == last:  # its two lines of comment stand there already
                    lines = lines.split(b"\n", 2)[2]
                text.append(lines)
                last = part.name
                await asyncio.sleep(0)
        return b"".join(text)


_AT_ONCE: Final = 100  # samples that are written before others have their turn: 1 ms
_SLICED: Final = frozenset({"counter", "gauge"})  # the others' samples belong together


def _parts(family: Metric) -> Iterator[Metric]:
    """Give a family in pieces that are written quickly."""
    if len(family.samples) <= _AT_ONCE or family.type not in _SLICED:
        yield family
        return
    for begin in range(0, len(family.samples), _AT_ONCE):
        part = Metric(family.name, family.documentation, family.type, family.unit)
        part.samples = family.samples[begin : begin + _AT_ONCE]
        yield part


class _One(Collector):
    """A single family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        """Return it."""
        return (self._family,)
