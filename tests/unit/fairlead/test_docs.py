# SPDX-License-Identifier: Apache-2.0
import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[3] / "docs"
spec = importlib.util.spec_from_file_location("tables", DOCS / "tables.py")
assert spec is not None
assert spec.loader is not None
tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tables)


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_tables_are_what_the_code_says(path: Path) -> None:
    """`make docs` mends a failure."""
    text = path.read_text()
    assert tables.filled(text) == text


def test_the_metrics_of_the_style_are_all_there() -> None:
    """style.md §8."""
    text = (DOCS / "metrics.md").read_text()
    for name in (
        "fairlead_etcd_requests_total",
        "fairlead_etcd_request_duration_seconds",
        "fairlead_etcd_connected",
        "fairlead_etcd_revision",
        "fairlead_etcd_stale_seconds",
        "fairlead_etcd_resyncs_total",
        "fairlead_reconcile_passes_total",
        "fairlead_reconcile_duration_seconds",
        "fairlead_reconcile_actions_total",
        "fairlead_reconcile_dirty",
        "fairlead_reconcile_last_success_timestamp_seconds",
        "fairlead_records_rejected_total",
        "fairlead_condition",
        "fairlead_build_info",
    ):
        assert f"`{name}`" in text
