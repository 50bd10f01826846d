# SPDX-License-Identifier: Apache-2.0
"""What was tried, what was seen, how long it took: the demo's report.

A `Report` is filled check by check and printed as it grows; `held` is the verdict. Nothing in here
runs anything.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fairlead.errors import FairleadError


class Failed(FairleadError):
    """A check did not hold; the text says what was seen instead."""


@dataclass(slots=True)
class Check:
    """One thing tried.

    Attributes:
        seen: what was seen, a line each; of a failure the reason.
        seconds: how long it took.
        held: None while it runs.
    """

    name: str
    seen: list[str] = field(default_factory=list)
    seconds: float = 0.0
    held: bool | None = None

    def saw(self, text: str) -> None:
        """Note what was seen."""
        self.seen.append(text)


@dataclass(slots=True)
class Report:
    """All checks in order, the figures, and what was left out."""

    console: Console
    checks: list[Check] = field(default_factory=list)
    followed: dict[str, dict[str, float]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def held(self) -> bool:
        """Whether every check held, and there was one."""
        return bool(self.checks) and all(check.held for check in self.checks)

    @contextmanager
    def check(self, name: str) -> Iterator[Check]:
        """Run one check; a `FairleadError` or a timeout in it fails it and is raised again."""
        check = Check(name)
        self.checks.append(check)
        begin = time.monotonic()
        try:
            yield check
        except (FairleadError, TimeoutError, OSError) as error:
            check.held = False
            check.saw(str(error) or type(error).__name__)
            raise
        except BaseException:
            check.held = False
            check.saw("interrupted")
            raise
        else:
            check.held = True
        finally:
            check.seconds = time.monotonic() - begin
            self._print(check)

    def figures(self, event: str, followed: Mapping[str, float]) -> None:
        """Note how many milliseconds after `event` each thing had followed."""
        self.followed.setdefault(event, {}).update(followed)

    def leave_out(self, what: str) -> None:
        """Note what could not be tried here, and why."""
        self.left_out.append(what)

    def title(self, text: str) -> None:
        """Print a heading."""
        self.console.print(f"[bold]{escape(text)}[/bold]")

    def _print(self, check: Check) -> None:
        mark = "[green]ok  [/green]" if check.held else "[bold red]FAIL[/bold red]"
        self.console.print(
            f"{mark} {escape(check.name)} [dim]({check.seconds:.1f} s)[/dim]", highlight=False
        )
        for line in check.seen:
            self.console.print(f"       {escape(line)}", highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Print the figures, what was left out, and the verdict."""
        if self.followed:
            self.console.print()
            self.title("milliseconds from the etcd event until it had followed")
            self.console.print(self._table())
        for what in self.left_out:
            line = f"[yellow]left out[/yellow] {escape(what)}"
            self.console.print(line, highlight=False, soft_wrap=True)
        self.console.print()
        good = sum(bool(check.held) for check in self.checks)
        seconds = time.monotonic() - self.began
        verdict = "every check held" if self.held else "NOT every check held"
        colour = "green" if self.held else "red"
        self.console.print(
            f"[bold {colour}]{verdict}[/bold {colour}]: {good} of {len(self.checks)},"
            f" {seconds:.1f} s in all",
            highlight=False,
        )

    def _table(self) -> Table:
        columns = list(dict.fromkeys(name for row in self.followed.values() for name in row))
        table = Table()
        table.add_column("event", no_wrap=True)
        for column in columns:
            table.add_column(column, justify="right")
        for event, row in self.followed.items():
            cells = [f"{row[name]:.0f}" if name in row else "–" for name in columns]
            table.add_row(event, *cells)
        return table
