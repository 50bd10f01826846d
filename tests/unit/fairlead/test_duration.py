# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.duration import format_ns, format_seconds, parse_ns, parse_seconds


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("+0", 0),
        ("5s", 5_000_000_000),
        ("1m30s", 90_000_000_000),
        ("-1.5h", -5_400_000_000_000),
        (".5s", 500_000_000),
        ("1.s", 1_000_000_000),
        ("3us", 3_000),
        ("3µs", 3_000),
        ("3μs", 3_000),
        ("1h2m3s4ms5us6ns", 3_723_004_005_006),
        ("0.1ns", 0),
        ("9223372036854775807ns", 9223372036854775807),
        ("-9223372036854775808ns", -9223372036854775808),
    ],
)
def test_parse(text: str, ns: int) -> None:
    assert parse_ns(text) == ns


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", 'invalid duration ""'),
        ("-", 'invalid duration "-"'),
        ("s", 'invalid duration "s"'),
        (".s", 'invalid duration ".s"'),
        ("5", 'missing unit in duration "5"'),
        ("1m30", 'missing unit in duration "1m30"'),
        ("5d", 'unknown unit "d" in duration "5d"'),
        ("5 s", 'unknown unit " s" in duration "5 s"'),
        ("9223372036854775808ns", "longer than 292 years"),
        ("3000000h", "longer than 292 years"),
        ("1..5s", "invalid duration|missing unit"),
    ],
)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_ns(text)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (3_300_000_000, "3.3s"),
        (245_000_000_000, "4m5s"),
        (245_001_000_000, "4m5.001s"),
        (18_367_001_000_000, "5h6m7.001s"),
        (3_600_000_000_000, "1h0m0s"),
        (-90_000_000_000, "-1m30s"),
    ],
)
def test_format_is_gos(ns: int, text: str) -> None:
    assert format_ns(ns) == text


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_round_trip(ns: int) -> None:
    assert parse_ns(format_ns(ns)) == ns


def test_seconds() -> None:
    assert parse_seconds("1m30s") == 90.0
    assert format_seconds(1.5) == "1.5s"
