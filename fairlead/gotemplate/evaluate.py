# SPDX-License-Identifier: Apache-2.0
"""`Template`: a file compiled once and rendered often."""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.gotemplate.builtins import BUILTINS, SPECIAL
from fairlead.gotemplate.compile import compile_tree
from fairlead.gotemplate.errors import TemplateError
from fairlead.gotemplate.lex import quote
from fairlead.gotemplate.parse import parse
from fairlead.gotemplate.run import LIMITS, Limits, Run
from fairlead.gotemplate.values import (
    MISSING,
    Func,
    Value,
)


class Template:
    """A compiled template file.

    Args:
        name: the file's base name.
        text: the file; bytes that are no UTF-8 as surrogate escapes.
        functions: what it may call besides the builtins.
        left: left delimiter.
        right: right delimiter.
        missing_key: what `.name` gives for a key a map lacks: "default", "zero" or "error".
        limits: bounds of each render.

    Raises:
        TemplateError: it does not parse.
    """

    def __init__(
        self,
        name: str,
        text: str,
        functions: Mapping[str, Func] | None = None,
        *,
        left: str = "{{",
        right: str = "}}",
        missing_key: str = "default",
        limits: Limits = LIMITS,
    ) -> None:
        known = {**BUILTINS, **(functions or {})}
        try:
            text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise TemplateError("surrogates that stand for no byte", name=name) from None
        self.name = name
        self.limits = limits
        try:
            tree = parse(name, text, known, left=left, right=right)
            special = SPECIAL - (functions or {}).keys()
            self._bodies = compile_tree(tree, known, special, missing_key)
        except RecursionError:
            raise TemplateError("max expression depth exceeded", name=name) from None

    def render(self, data: Value = MISSING) -> str:
        """Execute the file's own template with `data` as dot.

        Raises:
            TemplateError: with Go's message and position.
        """
        run = Run(self.limits)
        body = self._bodies.get(self.name)
        if body is None:
            raise TemplateError(
                f"{quote(self.name)} is an incomplete or empty template", name=self.name
            )
        body.execute(run, MISSING if data is None else data)
        return "".join(run.out)
