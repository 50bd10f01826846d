# SPDX-License-Identifier: Apache-2.0
from fairlead.workers.figures import Figures, summed

ONE = Figures({("requests", "GET"): 3, ("requests", "PUT"): 1}, {("open",): 2})
OTHER = Figures({("requests", "GET"): 4}, {("open",): 5})


def test_what_several_have_counted_is_added_up() -> None:
    total = summed([ONE, OTHER])
    assert total.counts == {("requests", "GET"): 7, ("requests", "PUT"): 1}
    assert total.gauges == {("open",): 7}


def test_of_a_process_that_is_gone_the_counters_stay_and_the_gauges_do_not() -> None:
    assert summed([ONE.lasting(), OTHER]).counts["requests", "GET"] == 7
    assert summed([ONE.lasting(), OTHER]).gauges == {("open",): 5}


def test_figures_survive_the_page() -> None:
    assert Figures.decode(ONE.encode()) == ONE
    assert Figures.decode(b"") == Figures()
