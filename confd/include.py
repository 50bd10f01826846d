# SPDX-License-Identifier: Apache-2.0
"""`include NAME [DATA]`: another file of the template directory, rendered in place (§11).

The included file sees the same functions and its own dot; its `define`s are not shared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from fairlead.gotemplate import CallError, Func, Template, TemplateError
from fairlead.gotemplate.values import ANY, STRING, Value

MAX_DEPTH: Final = 10
Compile = Callable[[str, str, Mapping[str, Func]], Template]


_NO_NOTE: Final[Callable[[Path, object], None]] = lambda path, mark: None  # noqa: E731


def including(
    functions: Mapping[str, Func],
    templates: Path,
    *,
    note: Callable[[Path, object], None] = _NO_NOTE,
    compiled: Compile = Template,
) -> dict[str, Func]:
    """Return `functions` and an `include` for a template of its own.

    Args:
        functions: what the template may call.
        templates: the template directory; nothing outside it can be included.
        note: told of each file that is included, and how it was.
        compiled: compiles a template: name, text, functions.
    """
    return _Level(functions, templates, note, compiled).functions


class _Level:
    """The `include` of one file; files included by it have a level of their own."""

    def __init__(
        self,
        functions: Mapping[str, Func],
        templates: Path,
        note: Callable[[Path, object], None],
        compiled: Compile,
        chain: tuple[Path, ...] = (),
    ) -> None:
        self._given, self._templates, self._note = functions, templates, note
        self._compiled, self._chain = compiled, chain
        self._known: dict[Path, tuple[object, Template]] = {}
        self.functions = {**functions, "include": Func(self._include, (STRING,), ANY)}

    def _include(self, name: str, *data: Value) -> str:
        path = self._templates / name.lstrip("/")
        inside = os.path.normpath(path).startswith(f"{os.path.normpath(self._templates)}/")
        if not inside:
            raise CallError(f'include path "{name}" is outside template directory')
        path = Path(os.path.normpath(path))
        if path in self._chain:
            raise CallError(f"include cycle detected: {path} is already being processed")
        if len(self._chain) >= MAX_DEPTH:
            raise CallError(f"maximum include depth ({MAX_DEPTH}) exceeded")
        mark = file_mark(path)
        self._note(path, mark)
        try:
            known = self._known.get(path)
            if known is None or known[0] != mark:
                text = path.read_bytes().decode("utf-8", "surrogateescape")
                inner = _Level(
                    self._given, self._templates, self._note, self._compiled, (*self._chain, path)
                )
                known = self._known[path] = (mark, self._compiled(path.name, text, inner.functions))
            return known[1].render(data[0] if data else None)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise CallError(f"include {name}: open {path}: {reason}") from error
        except TemplateError as error:
            raise CallError(f"execute include {name}: {error}") from error


def file_mark(path: Path) -> tuple[int, int, int] | None:
    """Return what tells a changed file from the same: time, size, inode; None without a file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)
