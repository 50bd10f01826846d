# SPDX-License-Identifier: Apache-2.0
"""The admin socket: health, metrics and state over HTTP/1.1, one request a connection.

::

    /healthz      200 while the loop turns
    /readyz       200 when ready, else 503 and the conditions that are missing
    /metrics      Prometheus text
    /debug/state  conditions, mirrors, records, loops and what the daemon adds, as JSON
    /status       the same, short: what `fairlead status` shows
    /plan         what the daemon would do now
    /release      POST: carry out removals that were held back (unix socket only)

Our own 100 lines of server, not aiohttp: that costs 11 MiB and 120 ms in each of four daemons
(docs/design.md), for a socket that answers a request a minute with no body to read. It speaks
the little HTTP it needs: GET, HEAD and POST without body, `Connection: close`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fairlead.errors import ConfigError, ConfigErrors

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_REQUEST_SECONDS: Final = 10.0
_MOST_CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route gives back."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Route = Callable[[], Answer | Awaitable[Answer]]
Routes = Mapping[tuple[str, str], Route]
"""(method, path) → route; HEAD is answered by GET's."""


def text(status: int, words: str) -> Answer:
    """Make a plain answer of one line."""
    return Answer(status, words.encode() + b"\n")


def as_json(value: object, status: int = 200) -> Answer:
    """Make a JSON answer; bytes and other strangers are written as text."""
    body = json.dumps(value, default=_plain, indent=2, ensure_ascii=False).encode()
    return Answer(status, body + b"\n", "application/json")


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


class Listener:
    """One admin socket.

    Args:
        routes: looked up at each request, so routes may be added later.
        read_only: refuse everything but GET and HEAD (TCP: anybody may connect).
        failed: told of a fault in a route.
    """

    def __init__(
        self,
        routes: Routes,
        *,
        read_only: bool = False,
        failed: Callable[[str, Exception], None] = lambda path, error: None,
    ) -> None:
        self._routes = routes
        self._read_only = read_only
        self._failed = failed
        self._server: asyncio.Server | None = None
        self._open = 0
        self._unlink: tuple[Path, int] | None = None
        self.where = ""

    async def listen_tcp(self, host: str, port: int) -> None:
        """Listen on TCP.

        Raises:
            OSError: the address is taken or not ours.
        """
        self._server = await asyncio.start_server(self._serve, host or None, port, limit=16384)
        name = self._server.sockets[0].getsockname()
        self.where = f"{name[0]}:{name[1]}"

    async def listen_unix(self, sock: socket.socket, path: Path) -> None:
        """Listen on a socket that `bind_unix` made."""
        self._unlink = (path, os.stat(path).st_ino)
        self._server = await asyncio.start_unix_server(self._serve, sock=sock, limit=16384)
        self.where = str(path)

    async def aclose(self) -> None:
        """Stop listening and remove the socket's file, if it still is ours."""
        if self._server is not None:
            self._server.close()
        if self._unlink is not None:
            path, inode = self._unlink
            with contextlib.suppress(OSError):
                if path.stat().st_ino == inode:
                    path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                if self._open <= _MOST_CONNECTIONS:
                    await self._answer(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client went away, or never spoke: nobody is left to tell
        finally:
            self._open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        method = words[0]
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            answer = text(400, "not an HTTP/1.1 request")
        else:
            answer = await self._route(method, words[1].partition("?")[0])
        writer.write(
            f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, '')}\r\n"
            f"Content-Type: {answer.content_type}\r\nContent-Length: {len(answer.body)}\r\n"
            "Cache-Control: no-store\r\nConnection: close\r\n\r\n".encode()
        )
        if method != "HEAD":
            writer.write(answer.body)
        await writer.drain()

    async def _route(self, method: str, path: str) -> Answer:
        if self._read_only and method not in ("GET", "HEAD"):
            return text(403, "only reading is allowed here; use the unix socket")
        route = self._routes.get(("GET" if method == "HEAD" else method, path))
        if route is None:
            if any(known == path for _, known in self._routes):
                return text(405, f"{method} is not for {path}")
            known_paths = ", ".join(sorted({known for _, known in self._routes}))
            return text(404, f"no such page; there are {known_paths}")
        try:
            answer = route()
            return answer if isinstance(answer, Answer) else await answer
        except Exception as error:  # noqa: BLE001  (a page's fault must not end the daemon)
            self._failed(path, error)
            return text(500, f"{type(error).__name__}: {error}")


# ---------------------------------------------------------------------- where the sockets are


def runtime_dir(environ: Mapping[str, str], uid: int) -> Path | None:
    """Return the directory of the admin sockets; None where there is none for this user."""
    if uid == 0:
        return Path("/run/fairlead")
    base = environ.get("XDG_RUNTIME_DIR", "")
    return Path(base) / "fairlead" if base else None


def bind_unix(path: Path, *, other: Path | None = None) -> tuple[socket.socket, Path]:
    """Bind a socket at `path`, mode 0600, replacing one whose process is dead.

    Args:
        other: the path to use instead while a living process holds `path`.

    The socket gets its name by link(2), which never replaces: of two instances that start at
    once, one gets the name and the other sees it.

    Raises:
        ConfigErrors: it cannot be made, or is in use and there is no `other`.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        before = os.umask(0o177)
        try:
            sock.bind(str(draft))
        finally:
            os.umask(before)
        sock.listen(16)
        for _ in range(3):
            try:
                os.link(draft, path)
            except FileExistsError:
                if not _dead(path):
                    break
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
            else:
                return sock, path
    except OSError as error:
        sock.close()
        reason = f"cannot be made: {error.strerror or error}"
        raise _refused(path, reason) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    sock.close()
    if other is not None:
        return bind_unix(other)
    raise _refused(path, "in use by another process")


def _refused(path: Path, reason: str) -> ConfigErrors:
    return ConfigErrors((ConfigError("-admin-socket", str(path), "start", reason),))


def _dead(path: Path) -> bool:
    """Say whether nobody listens on the socket at `path`; a file that is no socket is alive."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            probe.connect(str(path))
    except FileNotFoundError:
        return True
    except OSError as error:
        return error.errno == errno.ECONNREFUSED
    return False
