# SPDX-License-Identifier: Apache-2.0
"""What is known to be wrong with a server's version (specs/etcd.md §6.9). Pure."""

from __future__ import annotations

import re

Version = tuple[int, int, int]

# first version of each line that has the fix → what a server before it does
_KNOWN: tuple[tuple[tuple[Version, ...], str], ...] = (
    (((3, 4, 22), (3, 5, 6)), "data may become inconsistent after a kill under load"),
    (((3, 4, 25), (3, 5, 8)), "manual progress may overtake events; TLS may starve a watch"),
    (((3, 4, 31), (3, 5, 13)), "a watch may lose events after a compaction"),
    (((3, 4, 36), (3, 5, 18)), "a delete may be missing when a watch opens at the compaction"),
    (((3, 4, 38), (3, 5, 22)), "a watch on a future revision gets old events"),
    (((3, 4, 42), (3, 5, 28), (3, 6, 9)), "authorization can be bypassed (CVE-2026-33413)"),
    (((3, 5, 33), (3, 6, 14), (3, 7, 1)), "a read permission on one key shows a watch later keys"),
)


def parse(text: str) -> Version | None:
    """Return the version that `text` ("3.5.30", "3.6.0-rc.1") begins with, or None."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def older(version: Version, fixed: tuple[Version, ...]) -> bool:
    """Say whether `version` lacks a fix that came with the versions `fixed`, one a line."""
    for line in fixed:
        if version[:2] == line[:2]:
            return version < line
    return version < fixed[0]


def warnings(text: str) -> tuple[str, ...]:
    """Return what an operator should know about a server of this version."""
    version = parse(text)
    if version is None:
        return ()
    found = [f"etcd {text}: {what}" for fixed, what in _KNOWN if older(version, fixed)]
    if version < (3, 4, 0):
        found.insert(0, f"etcd {text} is older than 3.4, the oldest that is supported")
    elif version[:2] == (3, 4):
        found.insert(0, f"etcd {text}: the 3.4 line is at its end of life since 2026-06-01")
    return tuple(found)


def progress_is_safe(text: str) -> bool:
    """Say whether a manual progress request cannot overtake events on this server (§6.5)."""
    version = parse(text)
    return version is not None and not older(version, ((3, 4, 25), (3, 5, 8)))
