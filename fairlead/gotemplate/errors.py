# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a template: one public type, two for use inside."""

from __future__ import annotations

from fairlead.errors import FairleadError


class TemplateError(FairleadError):
    """A template cannot be parsed or executed; the text is Go's, word for word.

    Attributes:
        reason: the message without its position.
        name: base name of the template file; "" where unknown.
        line: 1-based line; 0 where unknown.
        column: 0-based byte offset in the line; None for a parse error.
        executing: name of the template (`define`) being executed; None for a parse error.
        context: the node being evaluated, printed canonically; None for a parse error.
    """

    def __init__(
        self,
        reason: str,
        *,
        name: str = "",
        line: int = 0,
        column: int | None = None,
        executing: str | None = None,
        context: str | None = None,
    ) -> None:
        if executing is None:
            text = f"template: {name}:{line}: {reason}" if line else f"template: {name}: {reason}"
        else:
            place = f"{name}:{line}:{column}"
            text = f'template: {place}: executing "{executing}" at <{context}>: {reason}'
        super().__init__(text)
        self.reason = reason
        self.name = name
        self.line = line
        self.column = column
        self.executing = executing
        self.context = context


class CallError(Exception):
    """A template function refuses its arguments; becomes `error calling NAME: TEXT`."""


class Fail(Exception):
    """Execution stops here; the template being executed adds the place (internal)."""
