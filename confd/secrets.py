# SPDX-License-Identifier: Apache-2.0
"""Which values are secret, and how they are hidden in logs, differences and status.

A value is secret when its key's name says so, or when its source is one for secrets (vault).
What is rendered is never touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

MASK: Final = "********"
_NAME: Final = re.compile(
    r"(?:^|[/_.-])(?:pass(?:wd|word|phrase)?|secrets?|tokens?|pw|api[_-]?keys?|private[_-]?keys?"
    r"|credentials?)(?:$|[/_.-]|\d)",
    re.IGNORECASE,
)
_LEAST: Final = 4  # shorter ones would hide ordinary words


def is_secret(name: str) -> bool:
    """Say whether a key's name marks its value as secret."""
    return _NAME.search(name) is not None


class Mask:
    """Hides the secret values it has been shown.

    Args:
        sources: names of the sources whose every value is secret.
    """

    def __init__(self, sources: Iterable[str] = ()) -> None:
        self._labels = tuple(f"{name}:" for name in sources if name)
        self.everything = "" in set(sources)
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def learn(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Note which of these values are secret."""
        labels = self._labels
        found = {
            value
            for name, value in pairs
            if len(value) >= _LEAST
            and (self.everything or is_secret(name) or (labels and name.startswith(labels)))
        }
        if not found <= self._values:
            self._values |= found
            self._pattern = None

    def __call__(self, text: str) -> str:
        """Return `text` without the secrets."""
        if not self._values:
            return text
        if self._pattern is None:
            longest = sorted(self._values, key=len, reverse=True)
            lines = {line for v in longest for line in (v, *v.splitlines()) if len(line) >= _LEAST}
            ordered = sorted(lines, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, ordered)))
        return self._pattern.sub(MASK, text)
