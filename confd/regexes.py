# SPDX-License-Identifier: Apache-2.0
"""Go's regular expressions for templates: RE2's syntax, faults in Go's words."""

from __future__ import annotations

import re
from typing import Any, Final

from fairlead.gotemplate.errors import CallError


def compiled(pattern: str) -> Any:
    """Return a pattern ready to use.

    Raises:
        CallError: it is none, in Go's words.
    """
    import re2  # 20 ms, and few templates need it

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise CallError(f"error parsing regexp: {_explained(pattern, error)}") from error


def _explained(pattern: str, error: Exception) -> str:
    text = error.args[0] if error.args else ""
    text = text.decode() if isinstance(text, bytes) else str(text)
    reason, _, what = text.partition(": ")
    if reason == "invalid perl operator":
        return f"invalid or unsupported Perl syntax: `{what}`"
    if reason in ("missing )", "missing closing )"):
        return f"missing closing ): `{pattern}`"
    if reason == "no argument for repetition operator":
        return f"missing argument to repetition operator: `{what}`"
    return f"{reason}: `{what or pattern}`"


_REFERENCE: Final = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")


def replace_all(pattern: str, text: str, replacement: str) -> str:
    """Replace every match; `$1`, `${name}` and `$$` in the replacement as in Go."""
    program = compiled(pattern)

    def expanded(found: Any) -> str:
        def reference(part: re.Match[str]) -> str:
            dollar, plain, braced = part.groups()
            if dollar:
                return "$"
            name = plain or braced
            try:
                return found.group(int(name) if name.isdigit() else name) or ""
            except (IndexError, KeyError):
                return ""

        return _REFERENCE.sub(reference, replacement)

    return str(program.sub(expanded, text))


def find(pattern: str, text: str) -> str:
    """Return the first match, "" for none."""
    found = compiled(pattern).search(text)
    return str(found.group()) if found else ""
