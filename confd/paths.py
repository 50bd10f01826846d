# SPDX-License-Identifier: Apache-2.0
"""Go's package path: clean, base, dir, match (specs/go-template.md §12.2). Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Final


def clean(path: str) -> str:
    """Return the shortest name of a path: no `//`, no `.`, `..` resolved, no slash at the end."""
    rooted = path.startswith("/")
    kept: list[str] = []
    for part in path.split("/"):
        if part == ".." and kept and kept[-1] != "..":
            kept.pop()
        elif part == ".." and rooted:
            continue
        elif part not in ("", "."):
            kept.append(part)
    return ("/" if rooted else "") + "/".join(kept) or "."


def base(path: str) -> str:
    """Return the last element; `.` for "", `/` for slashes only."""
    if not path:
        return "."
    return path.rstrip("/").rpartition("/")[2] or "/"


def directory(path: str) -> str:
    """Return all but the last element, cleaned."""
    return clean(path[: path.rfind("/") + 1])


def join(*parts: str) -> str:
    """Join what is not empty with `/`, and clean it; "" when all are empty."""
    full = [part for part in parts if part]
    return clean("/".join(full)) if full else ""


class BadPattern(ValueError):
    """The pattern is malformed."""


_SPECIAL: Final = frozenset("*?[\\")


def literal_prefix(pattern: str) -> str:
    """Return what every match of `pattern` begins with."""
    for at, char in enumerate(pattern):
        if char in _SPECIAL:
            return pattern[:at]
    return pattern


def matcher(pattern: str) -> Callable[[str], object]:
    """Return a test of whole names, as path.Match makes it.

    Raises:
        BadPattern: as `compile_pattern`.
    """
    head = pattern[:-1]
    if pattern.endswith("*") and _SPECIAL.isdisjoint(head):  # `/app/*`, the commonest
        start = len(head)
        return lambda name: name.startswith(head) and name.find("/", start) < 0
    return compile_pattern(pattern).fullmatch


@functools.lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return a regular expression that matches whole strings as path.Match does.

    Raises:
        BadPattern: `[` without `]`, an empty class or range, a backslash at the end.
    """
    out: list[str] = []
    at, end = 0, len(pattern)
    while at < end:
        char = pattern[at]
        at += 1
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "\\":
            if at == end:
                raise BadPattern(pattern)
            out.append(re.escape(pattern[at]))
            at += 1
        elif char == "[":
            text, at = _class(pattern, at)
            out.append(text)
        else:
            out.append(re.escape(char))
    return re.compile("".join(out), re.DOTALL)


def _class(pattern: str, at: int) -> tuple[str, int]:
    """Return the class that begins after `[`, and where it ends."""
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[str] = []
    while not (ranges and pattern.startswith("]", at)):
        low, at = _class_char(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _class_char(pattern, at + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append("")  # matches nothing, and is no error
    inner = "".join(ranges)
    if not inner:
        return ("." if negated else "(?!)"), at + 1
    return f"[{'^' if negated else ''}{inner}]", at + 1


def _class_char(pattern: str, at: int) -> tuple[str, int]:
    if at >= len(pattern) or pattern[at] in "-]":
        raise BadPattern(pattern)
    if pattern[at] == "\\":
        at += 1
        if at >= len(pattern):
            raise BadPattern(pattern)
    if at + 1 >= len(pattern):  # Go wants something after it: the closing bracket
        raise BadPattern(pattern)
    return pattern[at], at + 1
