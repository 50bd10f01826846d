"""What docs/operate.md, docs/migrate.md and docs/troubleshoot.md name exists: messages, flags, metrics, verbs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("fairlead", "flannelpy", "skydns", "confd", "lb")
TROUBLE = (ROOT / "docs/troubleshoot.md").read_text("utf-8")
MIGRATE = (ROOT / "docs/migrate.md").read_text("utf-8")
OPERATE = (ROOT / "docs/operate.md").read_text("utf-8")


def source() -> str:
    return "\n".join(
        file.read_text("utf-8") for package in PACKAGES for file in (ROOT / package).rglob("*.py")
    )


MESSAGES = re.findall(r"^\| `([^`]+)` \|", TROUBLE, re.MULTILINE)


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_in_the_table_is_one_of_ours(message: str) -> None:
    assert f'"{message}"' in source()


@pytest.mark.parametrize(
    "text", [TROUBLE, OPERATE, MIGRATE], ids=["troubleshoot", "operate", "migrate"]
)
def test_flags_and_verbs_exist(text: str) -> None:
    code = source()
    for flag in set(re.findall(r"`-([a-z][a-z-]+)[ `]", text)):
        assert f'"{flag}"' in code, flag
    for verb in set(re.findall(r"fairlead ([a-z][a-z0-9-]+)", text)):
        assert f'"{verb}"' in code or f"def {verb}(" in code, verb


def test_metrics_exist() -> None:
    listed = (ROOT / "docs/metrics.md").read_text("utf-8")
    for metric in set(re.findall(r"`(fairlead_[a-z_]+)`", OPERATE + TROUBLE)):
        assert metric in listed, metric
