# SPDX-License-Identifier: Apache-2.0
"""fmt's verbs and flags; every expected text was printed by Go."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.gotemplate.errors import CallError
from fairlead.gotemplate.printf import MAX_TEXT, sprint, sprintf
from fairlead.gotemplate.scalars import go_float
from fairlead.gotemplate.values import Int64, Ints, Strings, Uint8

PRINTED: list[tuple[str, tuple[Any, ...], str]] = [
    ("%5v|%-5v|%05v|%+v|% v", (1.5,) * 5, "  1.5|1.5  |001.5|1.5| 1.5"),
    ("%08.2f|%-08.2f|%+08d", (-1.5, 1.5, 5), "-0001.50|1.50    |+0000005"),
    ("%x|%X|%e", (1.5, 1.5, 1e6), "0x1.8p+00|0X1.8P+00|1.000000e+06"),
    ("%6d|%06d|%-06d|%.3d|%8.3d|%08.3d|%+.3d", (5,) * 7, "     5|000005|5     |005|     005|     005|+005"),
    ("%#o|%#b|%O|%#X", (8, 5, 8, 255), "010|0b101|0o10|0XFF"),
    ("%q|%#q|%#U|%c|%.0d|", (120, 120, 120, 0x1F600, 0), "'x'|'x'|U+0078 'x'|😀||"),
    ("%[3]d %[1]d %d|%[5]d|%[x]d|%[2]*d", (1, 2, 3, 4), "3 1 2|%!d(BADINDEX)|%!d(BADINDEX)| 3"),
    ("%x|% x|%#x|%# x|%X|%.2x", ("hé",) * 6, "68c3a9|68 c3 a9|0x68c3a9|0x68 0xc3 0xa9|68C3A9|68c3"),
    ("%q|%+q|%#q", ("a\0b\udcff", "é☺\U0001f600", "a`b"), r'"a\x00b\xff"|"\u00e9\u263a\U0001f600"|"a`b"'),
    ("%10q|%-10q|%010s|%.0s|%#v|%+v", ("a", "a", "ab", "abc", "a", "a"), '       "a"|"a"       |00000000ab||"a"|a'),
    ("%v|%+v|%d|%s", (Ints((1, 2)), [1, "a", None], [1, "a"], [1, "a"]), "[1 2]|[1 a <nil>]|[1 %!d(string=a)]|[%!s(int=1) a]"),
    ("%#v", ([1, "a", None, 1.5, True],), '[]interface {}{1, "a", interface {}(nil), 1.5, true}'),
    ("%x|%q|%5d|%T", ([1, "a"], [1, "a"], Ints((1, 2)), []), "[1 61]|['\\x01' \"a\"]|[    1     2]|[]interface {}"),
    ("%v|%#v|%s|%d|%x", (b"hi",) * 5, "[104 105]|[]byte{0x68, 0x69}|hi|[104 105]|6869"),
    ("%#v %#v %#v", (Int64(5), 1e6, 1.0), "5 1e+06 1"),
    ("%#v", ({"a": {"b": None}},), 'map[string]interface {}{"a":map[string]interface {}{"b":interface {}(nil)}}'),
    ("%5d|%-5d|%05d", ("x",) * 3, "%!d(string=    x)|%!d(string=x    )|%!d(string=0000x)"),
    ("%5v|%5s|%5d|%T", (None,) * 4, "<nil>|%!s(<nil>)|%!d(<nil>)|<nil>"),
    ("%v %+v %.2f", (1 + 2j,) * 3, "(1+2i) (1+2i) (1.00+2.00i)"),
    ("%t|%5t|%q|%v|%d|%#v", (True,) * 6, "true| true|%!q(bool=true)|true|%!d(bool=true)|true"),
    ("%10.3v|%.3v|%.1v|%6.2v", ("abcdef", 3.14159, Strings(("abc", "d")), [1.234, 5.0]), "       abc|3.14|[a d]|[   1.2      5]"),
    ("%#x %#X %# x %#q %U", (Strings(("ab",)), -255, -5, Strings("a"), Ints((65,))), "[0x6162] -0XFF -0x5 [`a`] [U+0041]"),
    ("%w %p", (1, 5), "%!w(int=1) %!p(int=5)"),
    ("%*d|%*d", (2000000, 3, "a", 4), "%!(BADWIDTH)3|%!(BADWIDTH)4"),
    ("%+q %#q %q %x", (0x1F600, 233, 0x110000, ""), "'\\U0001f600' 'é' '\ufffd' "),
    ("%e %E %.0e %+e % e", (123456.789,) * 3 + (1.0, 1.0), "1.234568e+05 1.234568E+05 1e+05 +1.000000e+00  1.000000e+00"),
    ("%#.3f|%#.0f|%#g|%#e", (1.0,) * 4, "1.000|1.|1.00000|1.000000e+00"),
    ("%x|%x|%.3x", (1e6, 1e-5, 1.999), "0x1.e848p+19|0x1.4f8b588e368f1p-17|0x1.ffcp+00"),
    ("%b", (1e22,), "4768371582031250p+21"),
    ("%d %s", (1,), "1 %!s(MISSING)"),
    ("%v %d", (Uint8(7), Uint8(7)), "7 7"),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "values", "text"), PRINTED, ids=[row[0] for row in PRINTED])
def test_printf(layout: str, values: tuple[Any, ...], text: str) -> None:
    assert sprintf(layout, values) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (100000.0, "100000"),
        (999999.5, "999999.5"),
        (1e6, "1e+06"),
        (123456.7890123, "123456.7890123"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (12345678901234567890.0, "1.2345678901234567e+19"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (-0.0, "-0"),
        (float("inf"), "+Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_floats_print_the_shortest_digits(value: float, text: str) -> None:
    assert go_float(value) == text


def test_print_puts_spaces_between_values_that_are_no_strings() -> None:
    assert sprint((1, 2, "a", "b", 3, None, None)) == "1 2ab3 <nil> <nil>"


def test_runaway_text_is_refused() -> None:
    with pytest.raises(CallError, match="too long"):
        sprint(("a" * (MAX_TEXT // 2), "b" * (MAX_TEXT // 2 + 1)))
