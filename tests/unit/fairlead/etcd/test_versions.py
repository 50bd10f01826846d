# SPDX-License-Identifier: Apache-2.0
"""What is said about a server's version (specs/etcd.md §6.9)."""

import pytest

from fairlead.etcd import versions


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("3.4.23", ["end of life", "progress may overtake", "lose events after a compaction"]),
        ("3.5.1", ["inconsistent", "lose events after a compaction", "CVE-2026-33413"]),
        ("3.5.16", ["a delete may be missing"]),
        ("3.3.27", ["older than 3.4", "inconsistent"]),
        ("3.6.3", ["CVE-2026-33413", "later keys"]),
    ],
)
def test_known_faults_are_said(version: str, said: list[str]) -> None:
    text = "\n".join(versions.warnings(version))
    for part in said:
        assert part in text
    assert version in text


@pytest.mark.parametrize("version", ["3.5.33", "3.6.14", "3.7.1", "4.0.0", "embedded"])
def test_a_good_version_is_silent(version: str) -> None:
    assert versions.warnings(version) == ()


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ("3.4.23", False),
        ("3.4.25", True),
        ("3.5.7", False),
        ("3.5.8", True),
        ("3.6.0", True),
        ("", False),
    ],
)
def test_manual_progress_is_asked_of_safe_servers_only(version: str, safe: bool) -> None:
    assert versions.progress_is_safe(version) is safe
