# SPDX-License-Identifier: Apache-2.0
"""One line of `fairlead net doctor`'s report."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at and how it stands; `level` is "ok", "warning" or "error"."""

    level: str
    about: str
    text: str
    fix: str = ""

    def plain(self) -> dict[str, str]:
        """Return it for JSON."""
        return asdict(self)
