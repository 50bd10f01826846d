# SPDX-License-Identifier: Apache-2.0
"""The access log: a line of JSON for each try of each request; put before every chain by `-accessLog`.

A line is written when the try is over, so that it knows how long all of it took. What no frontend
serves (404, 413, a closed frontend) is logged by the same link, alone (`Plane.stray`).
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from lb.middleware import Answer, Exchange, Link
from lb.middleware.types import Type

NAME: Final = "/access"  # no id of a user's holds a `/`
_DELAY: Final = 0.2  # seconds that lines wait for others
_MANY: Final = 256  # lines that wait for nobody: to write them is 0.1 ms


class Log:
    """A file that lines are appended to; `-` is stdout."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._lines: list[bytes] = []

    def put(self, line: bytes) -> None:
        """Write soon."""
        if not self._lines:
            asyncio.get_running_loop().call_later(_DELAY, self.flush)
        self._lines.append(line)
        if len(self._lines) >= _MANY:
            self.flush()

    def flush(self) -> None:
        """Write what waits; a full disk costs lines, not requests."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            if self._file is None:
                self._file = sys.stdout.buffer if self._path == "-" else Path(self._path).open("ab")  # noqa: SIM115
            self._file.write(b"\n".join([*lines, b""]))
            self._file.flush()
        except OSError as error:
            sys.stderr.write(f"access log {self._path}: {error.strerror}\n")
            self._file = None

    def reopen(self) -> None:
        """Close the file, so that the next line opens it anew."""
        self.flush()
        if self._file is not None and self._path != "-":
            self._file.close()
        self._file = None


@cache
def log(path: str) -> Log:
    """Return the one log of a file."""
    return Log(path)


class Access(Link):
    """Writes when the try is over."""

    __slots__ = ("_log",)

    def __init__(self, to: Log) -> None:
        self._log = to

    def on_response(self, exchange: Exchange, answer: Answer) -> None:
        """Note what was answered, and when."""
        exchange.notes[self] = answer.status, answer.length, exchange.now

    def released(self, exchange: Exchange) -> None:
        """Write the line; without an answer it was the client that went away."""
        status, length, first = exchange.notes.pop(self, (499, -1, exchange.now))
        told = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "client": exchange.client.decode("latin-1"),
            "method": exchange.method.decode("latin-1"),
            "host": exchange.host.decode("utf-8", "replace"),
            "target": exchange.target.decode("utf-8", "replace"),
            "protocol": f"HTTP/1.{exchange.minor}",
            "tls": exchange.tls is not None,
            "frontend": exchange.frontend,
            "server": exchange.server,
            "attempt": exchange.attempt,
            "status": status,
            "request_bytes": exchange.received,
            "response_bytes": length if length >= 0 else exchange.sent,
            "first_byte_ms": round((first - exchange.begun) * 1000, 3),
            "duration_ms": round((exchange.now - exchange.begun) * 1000, 3),
            "user_agent": exchange.header("User-Agent").decode("utf-8", "replace"),
            "referer": exchange.header("Referer").decode("utf-8", "replace"),
        }
        self._log.put(msgspec.json.encode(told))


TYPE: Final = Type(lambda fields: Access(log(fields.text("File"))))


def body(path: str) -> dict[str, str]:
    """Return the settings of a frontend's access link."""
    return {"File": path}
