# SPDX-License-Identifier: Apache-2.0
from lb.policy import Outliers
from lb.rebalance import Meter, Outlier, Rebalancer, split


def meter(total: int, bad: int) -> Meter:
    one = Meter()
    for second in range(100, 110):
        one.note(second, total, bad)
    return one


def test_split_as_the_original() -> None:
    assert split([0.0, 0.0, 0.5]) == [False, False, True]
    assert split([0.1, 0.1]) == [False, False] or split([0.1, 0.1]) == [True, True]
    assert split([0.0, 0.0]) == [False, False]


def test_good_servers_get_four_times_the_weight_and_converge_again() -> None:
    judge = Rebalancer()
    bad, good = meter(10, 5), meter(10, 0)
    factors = judge.look(109, [good, good, bad], [1, 1, 1])
    assert factors == [4, 4, 1]
    assert judge.look(112, [good, good, bad], factors) == factors, "no second change within 10 s"
    well = Meter()
    for second in range(110, 130):
        well.note(second, 10, 0)
    assert judge.look(129, [well, well, well], factors) == [1, 1, 1]


def test_nothing_changes_before_the_meters_are_ready_or_for_one_server() -> None:
    young = Meter()
    young.note(109, 10, 10)
    assert Rebalancer().look(109, [meter(10, 0), young], [1, 1]) == [1, 1]
    assert Rebalancer().look(109, [meter(10, 9)], [1]) == [1]


def test_an_outlier_stays_out_longer_each_time() -> None:
    rule = Outliers(consecutive=2, ejection=10.0)
    one = Outlier()
    assert not one.note(502, rule, 100.0, may=True)
    assert one.note(502, rule, 100.0, may=True)
    assert one.until == 110.0
    assert not one.note(502, rule, 111.0, may=True)
    assert one.note(504, rule, 111.0, may=True)
    assert one.until == 131.0


def test_a_good_answer_between_starts_the_row_anew_and_a_pool_is_not_emptied() -> None:
    rule = Outliers(consecutive=2)
    one = Outlier()
    assert not any(one.note(status, rule, 1.0, may=True) for status in (502, 200, 502, 500))
    assert not any(one.note(502, rule, 1.0, may=False) for _ in range(9))
