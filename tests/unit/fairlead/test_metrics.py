# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fairlead.errors import ActionError
from fairlead.etcd.types import Revision
from fairlead.health import Health
from fairlead.log import Log, Sink
from fairlead.metrics import Metrics, View
from fairlead.reconcile import EVERYTHING, Pass
from fairlead.telemetry import ETCD_CONNECTED, Telemetry
from fairlead.testing.clock import ManualClock


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


class Put(str):
    __slots__ = ()


def test_gauges_of_mirrors_tell_the_worst() -> None:
    views: list[View] = []
    metrics = Metrics("p", lambda: views)
    assert sample(metrics, "fairlead_etcd_connected") == 0
    views += [View("a", 7, 3, 0.0, True), View("b", 5, 2, 12.5, False)]
    assert sample(metrics, "fairlead_etcd_connected") == 0
    assert sample(metrics, "fairlead_etcd_revision") == 5
    assert sample(metrics, "fairlead_etcd_stale_seconds") == 12.5
    assert sample(metrics, "fairlead_mirror_keys", mirror="a") == 3
    views[1] = View("b", 7, 2, 0.0, True)
    assert sample(metrics, "fairlead_etcd_connected") == 1


@pytest.mark.parametrize(
    ("done", "result", "dirty"),
    [
        (Pass(EVERYTHING, (), (), 0, 0.1), "idle", 0),
        (Pass(EVERYTHING, (Put("a"),), (), 0, 0.1), "changed", 0),
        (Pass(EVERYTHING, (Put("a"),), (ActionError(Put("a"), "no"),), 0, 0.1), "failed", 1),
        (Pass(EVERYTHING, (), (), 11, 0.1), "held", 1),
    ],
)
def test_passes(done: Pass[object], result: str, dirty: int) -> None:
    metrics = Metrics("p")
    metrics.note_pass("l", done, 5.0, left=bool(dirty))
    assert sample(metrics, "fairlead_reconcile_passes_total", loop="l", result=result) == 1
    assert sample(metrics, "fairlead_reconcile_dirty", loop="l") == dirty
    success = sample(metrics, "fairlead_reconcile_last_success_timestamp_seconds", loop="l")
    assert success == (None if dirty else 5.0)
    if done.failures:
        failed = {"action": "Put", "result": "failed"}
        assert sample(metrics, "fairlead_reconcile_actions_total", **failed) == 1


def test_what_etcd_does_is_told_once() -> None:
    lines: list[str] = []
    clock = ManualClock()
    health = Health(clock)
    metrics = Metrics("p")
    told = Telemetry(Log(Sink(write=lines.append, clock=clock)), metrics, health)
    told.connected("http://a:2379")
    told.synced("m", Revision(7), "start", 3)
    told.following("m", Revision(7))
    assert health.conditions[ETCD_CONNECTED].holds
    told.lost("http://a:2379", "reset")
    told.stale("m", "reset")
    told.stale("n", "reset")
    assert health.conditions[ETCD_CONNECTED].why == "mirror n: reset"
    told.connected("http://b:2379")
    told.following("m", Revision(8))
    assert not health.conditions[ETCD_CONNECTED].holds  # n is still away
    told.following("n", Revision(8))
    assert health.conditions[ETCD_CONNECTED].holds
    told.call("KV/Range", "ok", 0.01)
    told.call("KV/Range", "Timeout", 3.0)
    assert sample(metrics, "fairlead_etcd_requests_total", rpc="KV/Range", result="Timeout") == 1
    assert sample(metrics, "fairlead_etcd_resyncs_total", reason="start") == 1
    told.state_file("m", "/f", "is damaged")
    told.state_file("m", "/f", "", 61.25)
    told.lease(255, "lost")
    told.stale("fresh", "refused")
    told.no_state_file("fresh", "/g")
    assert [line.split(" ", 1)[1] for line in lines[-5:]] == [
        'level=error msg="state file refused" mirror=m path=/f reason="is damaged"',
        'level=warning msg="serving from the state file" mirror=m path=/f age_seconds=61.2',
        'level=warning msg="lease lost" lease=ff',
        'level=warning msg="etcd not reached yet" mirror=fresh reason=refused',
        'level=warning msg="no state file yet: nothing to serve from" mirror=fresh path=/g',
    ]
    assert 'msg="etcd lost; the last state keeps serving" mirror=m' in "".join(lines)


class Many(Collector):
    """One family of many rows, given in two pieces."""

    def collect(self) -> Iterator[Metric]:
        for begin in (0, 250):
            family = GaugeMetricFamily("many", "Many.", labels=["n"])
            for n in range(begin, begin + 250):
                family.add_metric([str(n)], n)
            yield family


def test_the_text_is_written_in_pieces_with_the_comments_once() -> None:
    metrics = Metrics("p", list)
    metrics.registry.register(Many())
    turns = 0

    async def scrape() -> bytes:
        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        busy = asyncio.create_task(others())
        text = await metrics.exposition()
        busy.cancel()
        return text

    text = asyncio.run(scrape()).decode()
    assert turns > 5
    assert text.count("# HELP many ") == text.count("# TYPE many ") == 1
    rows = [line for line in text.splitlines() if line.startswith("many{")]
    assert rows == [f'many{{n="{n}"}} {n}.0' for n in range(500)]
    whole = generate_latest(metrics.registry).decode().splitlines()
    others = [line for line in whole if "many" not in line and not line.startswith("process_")]
    assert set(others) <= set(text.splitlines())
