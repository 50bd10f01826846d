# SPDX-License-Identifier: Apache-2.0
"""The query log: a line, in CoreDNS's form or another (`skydns.logformat`), for one query of so many.

The hot loops count replies and come here with those that are due, after they are sent.
"""

from __future__ import annotations

from collections.abc import Callable

from skydns.logformat import EVERYTHING, Formats, format_of, line


class QueryLog:
    """Writes lines.

    Args:
        write: takes a line.
        every: one query of so many is written.
        formats: which are, and how.
        local: the address that is asked.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        every: int = 1,
        formats: Formats = EVERYTHING,
        local: str = "-",
    ) -> None:
        self.every = max(every, 1)
        self._write = write
        self._formats = formats
        self._local = local
        self._seen = 0

    def use(self, formats: Formats) -> None:
        """Write by these from now on."""
        self._formats = formats

    def due(self) -> bool:
        """Count one reply; say whether it is to be written."""
        self._seen += 1
        return self._seen % self.every == 0

    def put(self, data: bytes, reply: bytes, client: str, proto: str, seconds: float) -> None:
        """Write one query and its reply, if a format is for it."""
        if text := format_of(data, reply, self._formats):
            self._write(line(data, reply, client, proto, seconds, text, self._local))

    def note(self, data: bytes, reply: bytes, client: str, proto: str, seconds: float) -> None:
        """Take note of one query and its reply."""
        if self.due():
            self.put(data, reply, client, proto, seconds)
