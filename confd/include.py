# SPDX-License-Identifier: Apache-2.0
"""`include NAME [DATA]`: another file of the template directory, rendered in place (§11).

The included file sees the same functions and its own dot; its `define`s are not shared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fairlead.gotemplate import CallError, Func, Template, TemplateError
from fairlead.gotemplate.values import ANY, STRING, Value

MAX_DEPTH: Final = 10


def including(functions: Mapping[str, Func], templates: Path) -> dict[str, Func]:
    """Return `functions` and an `include` for a template of its own.

    Args:
        functions: what the template may call.
        templates: the template directory; nothing outside it can be included.
    """
    return _level(functions, templates, ())


def _level(
    functions: Mapping[str, Func], templates: Path, chain: tuple[Path, ...]
) -> dict[str, Func]:
    def include(name: str, *data: Value) -> str:
        path = templates / name.lstrip("/")
        inside = os.path.normpath(path).startswith(f"{os.path.normpath(templates)}/")
        if not inside:
            raise CallError(f'include path "{name}" is outside template directory')
        path = Path(os.path.normpath(path))
        if path in chain:
            raise CallError(f"include cycle detected: {path} is already being processed")
        if len(chain) >= MAX_DEPTH:
            raise CallError(f"maximum include depth ({MAX_DEPTH}) exceeded")
        try:
            text = path.read_bytes().decode("utf-8", "surrogateescape")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise CallError(f"include {name}: open {path}: {reason}") from error
        try:
            inner = _level(functions, templates, (*chain, path))
            return Template(path.name, text, inner).render(data[0] if data else None)
        except TemplateError as error:
            raise CallError(f"execute include {name}: {error}") from error

    return {**functions, "include": Func(include, (STRING,), ANY)}
