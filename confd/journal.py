# SPDX-License-Identifier: Apache-2.0
"""What must outlive the process: reloads owed, and the files that `for_each` made.

One small file for each resource that needs it, in the state directory. It is written before the
files are replaced, so a kill at any moment leaves at worst a reload too many, never one too few.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fairlead.log import Log


@dataclass(frozen=True, slots=True)
class Entry:
    """What is noted of one resource."""

    reload_due: bool = False
    made: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return self.reload_due or bool(self.made)


class Journal:
    """The entries of a daemon's resources.

    Args:
        directory: where they are kept; None: in memory only.
    """

    def __init__(self, directory: Path | None, log: Log) -> None:
        self._directory = directory
        self._log = log
        self._entries: dict[str, Entry] = {}

    def entry(self, file: str) -> Entry:
        """Return what is noted of a resource."""
        if file not in self._entries:
            self._entries[file] = self._read(file)
        return self._entries[file]

    def owe(self, file: str) -> None:
        """Note that the reload is due, before anything is replaced."""
        self._put(file, Entry(True, self.entry(file).made))

    def paid(self, file: str) -> None:
        """Note that the reload has succeeded."""
        self._put(file, Entry(False, self.entry(file).made))

    def made(self, file: str, dests: Iterable[str]) -> None:
        """Note the files that `for_each` makes."""
        self._put(file, Entry(self.entry(file).reload_due, frozenset(dests)))

    def owed(self) -> frozenset[str]:
        """Return the resources whose reload is due."""
        return frozenset(file for file, entry in self._entries.items() if entry.reload_due)

    def _put(self, file: str, entry: Entry) -> None:
        if entry == self.entry(file):
            return
        self._entries[file] = entry
        path = self._path(file)
        if path is None:
            return
        try:
            if not entry:
                path.unlink(missing_ok=True)
                return
            told = {"file": file, "reload_due": entry.reload_due, "made": sorted(entry.made)}
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = path.with_suffix(".new")
            draft.write_text(json.dumps(told), encoding="utf-8")
            os.replace(draft, path)
        except OSError as error:
            self._log.warning(
                "the journal cannot be written; a reload that is due would not outlive a kill",
                file=path,
                reason=error.strerror,
            )

    def _read(self, file: str) -> Entry:
        path = self._path(file)
        if path is None:
            return Entry()
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            return Entry(bool(told["reload_due"]), frozenset(map(str, told["made"])))
        except FileNotFoundError:
            return Entry()
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._log.warning(
                "journal entry not understood; left out", file=path, reason=str(error)
            )
            return Entry()

    def _path(self, file: str) -> Path | None:
        if self._directory is None:
            return None
        name = hashlib.sha256(os.path.abspath(file).encode()).hexdigest()[:16]
        return self._directory / f"resource-{name}.json"
