# SPDX-License-Identifier: Apache-2.0
"""Templates whose name ends in `.j2` are Jinja2's, with the same functions by the same names.

    upstream web {
    {% for kv in gets("/web/*") %}  server {{ kv.Value }};
    {% endfor %}}

The sandbox keeps a template from Python's insides; `include` and `import` find files of the
template directory only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from fairlead.gotemplate import CallError, Func, TemplateError


class JinjaTemplate:
    """A compiled Jinja2 template; `render` as fairlead.gotemplate's."""

    def __init__(
        self, name: str, text: str, functions: Mapping[str, Func], directory: Path, *, strict: bool
    ) -> None:
        self.name = name
        environment = SandboxedEnvironment(
            loader=jinja2.FileSystemLoader(directory),
            undefined=jinja2.StrictUndefined if strict else jinja2.Undefined,
            keep_trailing_newline=True,
            autoescape=False,
            extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"],
        )
        for word, function in functions.items():
            if word not in ("include", "map", "list", "dict", "default", "replace", "join"):
                environment.globals[word] = _callable(word, function)
        try:
            self._template = environment.from_string(text)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                error.message or "syntax error", name=name, line=error.lineno
            ) from None

    def render(self, data: Any = None) -> str:
        """Execute it; a mapping gives its names, anything else is `item`.

        Raises:
            TemplateError: with Jinja2's message and the line.
        """
        names = data if isinstance(data, dict) else {"item": data}
        try:
            return self._template.render(**names)
        except (jinja2.TemplateError, CallError) as error:
            raise TemplateError(str(error), name=self.name, line=_line(error)) from error
        except RecursionError:
            raise TemplateError("maximum recursion depth exceeded", name=self.name) from None
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
            MemoryError,
        ) as e:
            # what a template's own expression did, e.g. 1/0
            raise TemplateError(f"{type(e).__name__}: {e}", name=self.name, line=_line(e)) from e


def _callable(word: str, function: Func) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        try:
            return function.call(*arguments)
        except CallError as error:
            raise CallError(f"error calling {word}: {error}") from error

    return call


def _line(error: BaseException) -> int:
    """Return the template's line in an error's traceback, 1 when it has none."""
    line, trace = 1, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
