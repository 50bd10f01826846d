# SPDX-License-Identifier: Apache-2.0
"""`zookeeper`: nodes without children are the keys; node watches tell of changes.

kazoo brings a thread of its own, so everything here goes through `asyncio.to_thread`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError

from confd.backends import BackendConfig, BackendError

_QUIET_SECONDS: Final = 60.0  # a watch lost with its session is made up after this


class ZooKeeper:
    """An ensemble."""

    def __init__(self, config: BackendConfig) -> None:
        hosts = ",".join(config.nodes) or "127.0.0.1:2181"
        self._hosts = hosts
        self._seconds = config.real("dial_timeout", 5.0)
        self._client: Any = KazooClient(hosts=hosts, timeout=max(self._seconds, 4.0))
        self._seen = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def _noticed(self, event: object) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._seen.set)

    def _read(self, keys: Sequence[str]) -> dict[str, bytes]:
        if not self._client.connected:
            self._client.start(timeout=self._seconds)
        found: dict[str, bytes] = {}
        pending = [key.removesuffix("/*") or "/" for key in keys]
        for key in pending:
            self._client.exists(key, watch=self._noticed)
        while pending:
            path = pending.pop()
            with contextlib.suppress(NoNodeError):  # gone meanwhile; its watch tells
                children = self._client.get_children(path, watch=self._noticed)
                pending += [f"{path.rstrip('/')}/{child}" for child in children]
                if not children and path != "/":
                    found[path] = self._client.get(path, watch=self._noticed)[0] or b""
        return found

    async def read(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Return the leaves at or below `keys`."""
        self._loop = asyncio.get_running_loop()
        self._seen.clear()
        try:
            return await asyncio.to_thread(self._read, keys)
        except (KazooException, KazooTimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise BackendError(f"zookeeper at {self._hosts}: {reason}") from error

    async def changed(self, keys: Sequence[str]) -> None:
        """Return when a watch fires, or after a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_QUIET_SECONDS):
                await self._seen.wait()

    async def aclose(self) -> None:
        """End the session."""
        await asyncio.to_thread(self._client.stop)
        await asyncio.to_thread(self._client.close)
