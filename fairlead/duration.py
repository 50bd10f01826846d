# SPDX-License-Identifier: Apache-2.0
"""Durations as Go writes and reads them: 1m30s ↔ nanoseconds or seconds. Pure.

A duration is a sequence of decimal numbers, each with a unit, with one sign before all:
"300ms", "-1.5h", "2h45m". "0" needs no unit; any other bare number is an error. Go holds int64
nanoseconds, so what does not fit is refused (about 292 years).
"""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # micro sign
    "μs": 1_000,  # Greek mu
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_MOST: Final = (1 << 63) - 1
_PART: Final = re.compile(r"([0-9]*)(\.?)([0-9]*)([^0-9.]*)")


def parse_ns(text: str) -> int:
    """Return the nanoseconds of a Go duration.

    Raises:
        ValueError: in lower case, with the text and what is wrong with it.
    """
    rest = text[1:] if text[:1] in ("+", "-") else text
    negative = text.startswith("-")
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(f'invalid duration "{text}"')
    total = 0
    at = 0
    while at < len(rest):
        match = _PART.match(rest, at)
        if match is None or not (match[1] or match[3]):
            raise ValueError(f'invalid duration "{text}"')
        whole, _, fraction, unit = match.groups()
        if not unit:
            raise ValueError(f'missing unit in duration "{text}"; write {text}s or {text}m')
        if unit not in _UNITS:
            raise ValueError(f'unknown unit "{unit}" in duration "{text}"')
        scale = _UNITS[unit]
        total += int(whole or "0") * scale
        if fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
        if total > _MOST + negative:
            raise ValueError(f'invalid duration "{text}": longer than 292 years')
        at = match.end()
    return -total if negative else total


def parse_seconds(text: str) -> float:
    """Return the seconds of a Go duration; errors as `parse_ns`."""
    return parse_ns(text) / 1e9


def format_ns(ns: int) -> str:
    """Write nanoseconds as Go prints a duration: "1m30s", "1.5s", "250ms", "0s"."""
    if ns == 0:
        return "0s"
    sign = "-" if ns < 0 else ""
    ns = abs(ns)
    for unit, scale in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if ns < scale * 1_000:
            return f"{sign}{_decimal(ns, scale)}{unit}"
    minutes, rest = divmod(ns, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, _UNITS['s'])}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return sign + text


def format_seconds(seconds: float) -> str:
    """Write seconds as Go prints a duration, to the nearest nanosecond."""
    return format_ns(round(seconds * 1e9))


def _decimal(value: int, scale: int) -> str:
    """Return value/scale without trailing zeros."""
    whole, rest = divmod(value, scale)
    if not rest:
        return str(whole)
    return f"{whole}.{str(rest).rjust(len(str(scale)) - 1, '0').rstrip('0')}"
