# SPDX-License-Identifier: Apache-2.0
"""Metric families as `fairlead.workers.figures` carries them, and back. Pure.

A sample's key is the family's name, type and help, the sample's own name, and its labels as
`name=value`, so that the parent needs to know nothing of a family to show it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from prometheus_client.core import Metric

from fairlead.workers.figures import Figures, Labels

_ADD_UP: Final = {"counter", "histogram"}
_OF_ONE: Final = {
    "skydns_records",
    "coredns_build_info",
    "coredns_plugin_enabled",
    "coredns_hosts_entries",
    "coredns_hosts_reload_timestamp_seconds",
}
"""Gauges that say the same in each process: not to be added up."""


def flat(families: Iterable[Any]) -> Figures:
    """Return the samples of families as figures."""
    counts: dict[Labels, float] = {}
    gauges: dict[Labels, float] = {}
    for family in families:
        into = counts if family.type in _ADD_UP else gauges
        for sample in family.samples:
            labels = (f"{name}={value}" for name, value in sample.labels.items())
            key = (family.name, family.type, family.documentation, sample.name, *labels)
            into[key] = sample.value
    return Figures(counts, gauges)


def together(own: Iterable[Any], others: Figures) -> Iterable[Any]:
    """Yield the families of this process with what others have counted added."""
    mine = flat(own)
    sums = dict(mine.counts) | mine.gauges
    for key, value in (others.counts | others.gauges).items():
        if key[0] not in _OF_ONE:
            sums[key] = sums.get(key, 0.0) + value
    families: dict[str, Metric] = {}
    for (name, kind, text, sample, *labels), value in sums.items():
        family = families.setdefault(name, Metric(name, text, kind))
        family.add_sample(sample, dict(label.split("=", 1) for label in labels), value)
    yield from families.values()
