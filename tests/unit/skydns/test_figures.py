# SPDX-License-Identifier: Apache-2.0
"""Families of several processes as one: counters add up, what is one thing stays one."""

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from fairlead.workers.figures import Figures, summed
from skydns.figures import flat, together
from skydns.server import Limits


def families(replies, seconds, connections):
    counter = CounterMetricFamily("replies", "Replies.", labels=["zone", "rcode"])
    for (zone, rcode), number in replies.items():
        counter.add_metric([zone, rcode], number)
    histogram = HistogramMetricFamily("seconds", "Time.", labels=["zone"])
    histogram.add_metric(["z=1."], [("0.1", seconds), ("+Inf", seconds + 1)], seconds / 2)
    yield counter
    yield histogram
    yield GaugeMetricFamily("connections", "Open.", value=connections)
    yield GaugeMetricFamily("skydns_records", "Records.", value=30)


def shown(found):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in found
        for sample in family.samples
    }


def test_counters_and_histograms_add_up_and_records_do_not():
    own = list(families({("z.", "NOERROR"): 1}, 1, 1))
    first = flat(families({("z.", "NOERROR"): 10, ("y.", "NXDOMAIN"): 5}, 2, 3))
    second = flat(families({("z.", "NOERROR"): 100}, 4, 6))
    found = list(together(own, summed([first, second])))
    assert [(family.name, family.type) for family in found] == [
        ("replies", "counter"),
        ("seconds", "histogram"),
        ("connections", "gauge"),
        ("skydns_records", "gauge"),
    ]
    assert shown(found) == {
        ("replies_total", "NOERROR", "z."): 111,
        ("replies_total", "NXDOMAIN", "y."): 5,
        ("seconds_bucket", "0.1", "z=1."): 7,
        ("seconds_bucket", "+Inf", "z=1."): 10,
        ("seconds_count", "z=1."): 10,
        ("seconds_sum", "z=1."): 3.5,
        ("connections",): 10,
        ("skydns_records",): 30,
    }


def test_one_process_alone_is_shown_as_it_is():
    own = list(families({("z.", "NOERROR"): 1}, 1, 1))
    assert shown(together(own, Figures())) == shown(own)


def test_a_dead_process_leaves_its_counts_and_takes_its_gauges():
    gone = flat(families({("z.", "NOERROR"): 10}, 2, 3)).lasting()
    found = shown(together([], gone))
    assert found[("replies_total", "NOERROR", "z.")] == 10
    assert ("connections",) not in found


def test_what_all_may_take_is_dealt_out_rounded_up():
    part = Limits(connections=1000, by_client=100).shared(3)
    assert (part.connections, part.by_client) == (334, 34)
    assert Limits().shared(1) == Limits()
