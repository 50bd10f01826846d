# SPDX-License-Identifier: Apache-2.0
"""One render: what it may use up, and the execution of a compiled body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from fairlead.gotemplate.errors import Fail, TemplateError
from fairlead.gotemplate.nodes import (
    Node,
    Operand,
    Tree,
)
from fairlead.gotemplate.printf import MAX_TEXT
from fairlead.gotemplate.values import (
    Value,
)

Frame: TypeAlias = list[Any]
Expr: TypeAlias = Callable[[Frame], Value]
Step: TypeAlias = Callable[[Frame], "str | None"]

NODE, WRITE, RUN, DOT, ROOT, FIRST = range(6)
BREAK: Final = "break"
CONTINUE: Final = "continue"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one render may use up.

    Attributes:
        depth: templates called within each other (Go: 100,000; Python's stack is smaller).
        steps: range iterations and template calls.
        output: characters of text.
    """

    depth: int = 250
    steps: int = 10_000_000
    output: int = MAX_TEXT


LIMITS: Final = Limits()


class Run:
    """One render: its output and what it has used up."""

    __slots__ = ("counted", "depth", "limits", "out", "size", "steps")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.out: list[str] = []
        self.depth = 0
        self.steps = 0
        self.counted = 0
        self.size = 0

    def spend(self, steps: int) -> None:
        """Count iterations; every so often count the text too."""
        self.steps += steps
        if self.steps > self.limits.steps:
            raise Fail(f"exceeded maximum number of steps ({self.limits.steps})")
        if len(self.out) - self.counted > 4096:
            self.measure()

    def measure(self) -> None:
        """Refuse more text than the limit."""
        self.size += sum(map(len, self.out[self.counted :]))
        self.counted = len(self.out)
        if self.size > self.limits.output:
            raise Fail(f"exceeded maximum output size ({self.limits.output})")


@dataclass(slots=True)
class Body:
    """One compiled template."""

    tree: Tree
    name: str
    steps: tuple[Step, ...] = ()
    slots: int = FIRST

    def execute(self, run: Run, dot: Value) -> None:
        """Run it with `dot` in focus; every failure leaves as a TemplateError."""
        frame: Frame = [None] * self.slots
        frame[WRITE] = run.out.append
        frame[RUN] = run
        frame[DOT] = frame[ROOT] = dot
        try:
            for step in self.steps:
                step(frame)
            run.measure()
        except Fail as fail:
            raise self.located(str(fail), frame[NODE]) from fail.__cause__
        except RecursionError:
            reason = f"exceeded maximum template depth ({run.depth})"
            raise self.located(reason, frame[NODE]) from None

    def located(self, reason: str, node: Node | Operand | None) -> TemplateError:
        """Return the error that `reason` is at `node`."""
        pos = 0 if node is None else node.pos
        return TemplateError(
            reason,
            name=self.tree.name,
            line=self.tree.line(pos),
            column=self.tree.column(pos),
            executing=self.name,
            context="" if node is None else str(node),
        )
