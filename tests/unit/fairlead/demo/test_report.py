# SPDX-License-Identifier: Apache-2.0
"""The demo's report: what held, what did not, the figures."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fairlead.demo.report import Failed, Report


@pytest.fixture
def report() -> Report:
    return Report(Console(file=io.StringIO(), width=100))


def printed(report: Report) -> str:
    assert isinstance(report.console.file, io.StringIO)
    return report.console.file.getvalue()


def test_every_check_held(report: Report) -> None:
    with report.check("water is wet") as check:
        check.saw("[H2O] everywhere")
    report.close()
    assert report.held
    assert "ok   water is wet (0.0 s)\n       [H2O] everywhere\n" in printed(report)
    assert "every check held: 1 of 1" in printed(report)


@pytest.mark.parametrize("error", [Failed("dry"), TimeoutError("late"), OSError(2, "absent")])
def test_a_failed_check_is_told_with_its_reason_and_raised(
    report: Report, error: Exception
) -> None:
    with pytest.raises(type(error)), report.check("water is wet"):
        raise error
    report.close()
    assert not report.held
    assert f"FAIL water is wet (0.0 s)\n       {error}\n" in printed(report)
    assert "NOT every check held: 0 of 1" in printed(report)


def test_an_interrupted_check_did_not_hold(report: Report) -> None:
    with pytest.raises(KeyboardInterrupt), report.check("water is wet"):
        raise KeyboardInterrupt
    assert not report.held
    assert "interrupted" in printed(report)


def test_no_check_is_no_success(report: Report) -> None:
    assert not report.held


def test_figures_and_what_was_left_out(report: Report) -> None:
    report.figures("web killed", {"DNS": 12.4, "LB pool": 3.0})
    report.figures("host lost", {"DNS": 9.6})
    report.leave_out("the overlay: needs root")
    report.close()
    text = printed(report)
    rows = [line.split() for line in text.splitlines() if "│" in line]
    assert ["│", "web", "killed", "│", "12", "│", "3", "│"] in rows
    assert ["│", "host", "lost", "│", "10", "│", "–", "│"] in rows
    assert "left out the overlay: needs root" in text
