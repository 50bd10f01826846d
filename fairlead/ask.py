# SPDX-License-Identifier: Apache-2.0
"""Find the daemons of this host by their admin sockets, and ask them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What one daemon said; `error` is "" when it answered."""

    path: Path
    status: int
    body: bytes
    error: str = ""

    def json(self) -> Any:
        """Return the body's value."""
        return json.loads(self.body)


def sockets(directories: Iterable[Path]) -> tuple[Path, ...]:
    """Return the admin sockets in these directories, sorted."""
    found: list[Path] = []
    for directory in directories:
        if directory.is_dir():
            found += [p for p in directory.glob("*.sock") if p.is_socket() and p.name[0] != "."]
    return tuple(sorted(found))


def ask(path: Path, page: str, method: str = "GET") -> Reply:
    """Ask one daemon for a page; never raises for a daemon that is not well."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_SECONDS)
            sock.connect(str(path))
            sock.sendall(f"{method} {page} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            parts = []
            while part := sock.recv(65536):
                parts.append(part)
    except ConnectionRefusedError:
        return Reply(path, 0, b"", "not running: nobody listens on its socket")
    except TimeoutError:
        return Reply(path, 0, b"", f"no answer within {_SECONDS:g} s")
    except OSError as error:
        return Reply(path, 0, b"", f"cannot be asked: {error.strerror or error}")
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 3 or not words[1].isdigit():
        return Reply(path, 0, b"", "its answer is not HTTP")
    return Reply(path, int(words[1]), body)
