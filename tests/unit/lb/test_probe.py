# SPDX-License-Identifier: Apache-2.0
from lb.probe import Health


def test_out_after_fall_bad_answers_and_back_after_rise_good_ones() -> None:
    one = Health()
    said = [one.note(why, rise=2, fall=3) for why in ("a", "b", "", "a", "b", "c")]
    assert said == [False, False, False, False, False, True]
    assert (one.healthy, one.why) == (False, "c")
    assert [one.note(why, rise=2, fall=3) for why in ("", "x", "", "")] == [
        False,
        False,
        False,
        True,
    ]
    assert (one.healthy, one.why) == (True, "")
