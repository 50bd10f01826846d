# SPDX-License-Identifier: Apache-2.0
"""What would change, as a unified diff; secrets masked. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from confd.plan import Notice

_COLOURS = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"}
_PLAIN = "\x1b[0m"


def unified(
    notice: Notice, *, context: int = 3, color: bool = False, mask: Callable[[str], str] = str
) -> str:
    """Return the difference between what stands and what would be there."""
    before, after = notice.present, notice.wanted
    old = _lines(b"" if before is None else before.content)
    new = _lines(b"" if after is None else after.content)
    names = (
        "/dev/null" if before is None else notice.dest,
        "/dev/null" if after is None else notice.dest,
    )
    lines = list(difflib.unified_diff(old, new, *names, n=context, lineterm=""))
    for difference in notice.differences:
        if " md5sum " not in difference:
            lines.insert(0, f"# {difference}")
    if color:
        lines = [
            f"{_COLOURS[line[0]]}{line}{_PLAIN}" if line[:1] in _COLOURS else line for line in lines
        ]
    return mask("\n".join(lines) + "\n") if lines else ""


def _lines(content: bytes) -> list[str]:
    return content.decode("utf-8", "backslashreplace").splitlines()
