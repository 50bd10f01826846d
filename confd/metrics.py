# SPDX-License-Identifier: Apache-2.0
"""The maintained fork's metrics by its names, and each resource's ages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from confd.records import TemplateResource

STEPS: Final = ("rendered", "checked", "installed", "reloaded")
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(slots=True)
class Life:
    """When each step of a resource last succeeded (wall clock; 0: never), and what fails now."""

    rendered: float = 0.0
    checked: float = 0.0
    installed: float = 0.0
    reloaded: float = 0.0
    fault: str = ""
    failures: int = 0


class Metrics:
    """Counters and the lives of the resources."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        own = CollectorRegistry() if registry is None else registry
        self.lives: dict[str, Life] = {}
        self.watched = 0
        self.healthy: Callable[[], Mapping[str, bool]] = dict
        self._dests: dict[str, str] = {}
        self.processed = Counter(
            "confd_template_process",
            "Passes over a resource that had something to do.",
            ["dest", "status"],
            registry=own,
        )
        self.seconds = Histogram(
            "confd_template_process_duration_seconds",
            "How long renders took.",
            ["dest"],
            buckets=_BUCKETS,
            registry=own,
        )
        self.hits = Counter("confd_template_cache_hits", "Renders without compiling.", registry=own)
        self.misses = Counter("confd_template_cache_misses", "Templates compiled.", registry=own)
        self.commands = Counter("confd_command", "Commands run.", ["type", "dest"], registry=own)
        self.command_seconds = Histogram(
            "confd_command_duration_seconds",
            "How long commands took.",
            ["type", "dest"],
            buckets=_BUCKETS,
            registry=own,
        )
        self.exits = Counter(
            "confd_command_exit_code", "How commands ended.", ["type", "exit_code"], registry=own
        )
        self.synced = Counter("confd_file_sync", "Files replaced.", ["dest"], registry=own)
        self.changed = Counter("confd_file_changed", "Files replaced, all together.", registry=own)
        self.stage_errors = Counter(
            "confd_stage_file_cleanup_errors", "Staged files that stayed behind.", registry=own
        )
        self.reads = Counter(
            "confd_backend_request",
            "Reads of a source that is not etcd.",
            ["backend", "operation"],
            registry=own,
        )
        self.read_seconds = Histogram(
            "confd_backend_request_duration_seconds",
            "How long they took.",
            ["backend", "operation"],
            buckets=_BUCKETS,
            registry=own,
        )
        self.read_errors = Counter(
            "confd_backend_errors", "Those that failed.", ["backend", "operation"], registry=own
        )
        self.batches = Counter("confd_batch_process", "Batches processed.", registry=own)
        self.failed_batches = Counter(
            "confd_batch_process_failed", "Those in which a resource failed.", registry=own
        )
        self.batch_succeeded = Counter(
            "confd_batch_templates_succeeded", "Resources of batches that succeeded.", registry=own
        )
        self.batch_failed = Counter(
            "confd_batch_templates_failed", "Resources of batches that failed.", registry=own
        )
        own.register(_Ages(self))

    def life(self, resource: TemplateResource) -> Life:
        """Return a resource's life."""
        self._dests[resource.file] = resource.dest
        return self.lives.setdefault(resource.file, Life())

    def forget(self, file: str) -> None:
        """Forget a resource that is gone."""
        self.lives.pop(file, None)
        self._dests.pop(file, None)

    def rendered(self, resource: TemplateResource, seconds: float) -> None:
        """Note a render."""
        self.life(resource).rendered = time.time()
        self.seconds.labels(resource.dest).observe(seconds)

    def checked(self, resource: TemplateResource) -> None:
        """Note a check that passed."""
        self.life(resource).checked = time.time()

    def replaced(self, dest: str) -> None:
        """Note a file that was replaced."""
        self.synced.labels(dest).inc()
        self.changed.inc()

    def reloaded(self, resource: TemplateResource) -> None:
        """Note a reload that worked."""
        self.life(resource).reloaded = time.time()

    def succeeded(self, resource: TemplateResource) -> None:
        """Note a plan that was carried out."""
        life = self.life(resource)
        life.installed, life.fault, life.failures = time.time(), "", 0
        self.processed.labels(resource.dest, "success").inc()

    def failed(self, resource: TemplateResource, step: str, reason: str) -> None:
        """Note what a plan failed at."""
        life = self.life(resource)
        life.fault = f"{step.lower()}: {reason}"
        life.failures += 1
        self.processed.labels(resource.dest, "error").inc()

    def in_sync(self, resource: TemplateResource) -> None:
        """Note a pass with nothing to do: no fault is left."""
        life = self.life(resource)
        life.fault, life.failures = "", 0

    def ran(self, kind: str, dest: str, status: str, seconds: float) -> None:
        """Note a command."""
        self.commands.labels(kind, dest).inc()
        self.command_seconds.labels(kind, dest).observe(seconds)
        self.exits.labels(kind, status).inc()

    def batch(self, succeeded: int, failed: int) -> None:
        """Note a batch that was processed."""
        self.batches.inc()
        self.failed_batches.inc(bool(failed))
        self.batch_succeeded.inc(succeeded)
        self.batch_failed.inc(failed)

    def state(self, resource: TemplateResource) -> dict[str, Any]:
        """Return a resource's life for /debug/state: ages in seconds, None for never."""
        life, now = self.life(resource), time.time()
        ages = {
            f"{step}_seconds_ago": round(now - when, 3) if when else None
            for step in STEPS
            for when in (getattr(life, step),)
        }
        return {**ages, "failures": life.failures, "fault": life.fault}

    def dest(self, file: str) -> str:
        """Return where a resource's file stands."""
        return self._dests[file]


class _Ages(Collector):
    """Gauges computed at each scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        lives = self._metrics.lives
        yield GaugeMetricFamily("confd_templates_loaded", "Resources.", value=len(lives))
        yield GaugeMetricFamily("confd_watched_keys", "Keys in view.", value=self._metrics.watched)
        healthy = GaugeMetricFamily(
            "confd_backend_healthy", "Whether a source of keys answers.", labels=["backend"]
        )
        for backend, well in self._metrics.healthy().items():
            healthy.add_metric([backend], float(well))
        yield healthy
        now = time.time()
        ages = GaugeMetricFamily(
            "confd_resource_age_seconds",
            "Since a step of a resource last succeeded.",
            labels=["dest", "step"],
        )
        failing = GaugeMetricFamily("confd_resource_failing", "Failures in a row.", labels=["dest"])
        for file, life in lives.items():
            dest = self._metrics.dest(file)
            failing.add_metric([dest], life.failures)
            for step in STEPS:
                if when := getattr(life, step):
                    ages.add_metric([dest, step], now - when)
        yield ages
        yield failing
