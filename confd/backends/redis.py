# SPDX-License-Identifier: Apache-2.0
"""`redis`: strings as keys, hashes as keys with subkeys; keyspace notifications, else polling.

`-separator :` makes `/app/db` the key `app:db`. As in the original the password may stand in
`client_key`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis import RedisError
from redis.asyncio import Redis as Client

from confd.backends import BackendConfig, BackendError

_QUIET_SECONDS: Final = 30.0  # a lost notification is made up after this
_POLL_SECONDS: Final = 2.0  # where the server sends none


def _escaped(text: str) -> str:
    return "".join(f"\\{char}" if char in "*?[]^\\" else char for char in text)


class Redis:
    """One server: `host:port`, `host:port/db` or the path of a unix socket."""

    def __init__(self, config: BackendConfig) -> None:
        node = config.nodes[0] if config.nodes else "127.0.0.1:6379"
        self._separator = config.text("separator", "/")
        common: dict[str, Any] = {
            "password": config.text("password") or config.text("client_key") or None,
            "username": config.text("username") or None,
            "socket_connect_timeout": config.real("dial_timeout", 5.0),
        }
        if node.startswith("/"):
            self._db = 0
            self._client: Any = Client(unix_socket_path=node, **common)
        else:
            address, _, db = node.removeprefix("redis://").partition("/")
            host, _, port = address.rpartition(":")
            self._db = int(db or 0)
            self._client = Client(
                host=host.strip("[]") or address, port=int(port or 6379), db=self._db, **common
            )
        self._where = node
        self._listener: Any = None
        self._notifies = False

    def _spelt(self, key: str) -> str:
        if self._separator == "/":
            return key
        return key.removeprefix("/").replace("/", self._separator)

    def _name(self, key: bytes) -> str:
        text = key.decode("utf-8", "surrogateescape")
        return text if self._separator == "/" else "/" + text.replace(self._separator, "/")

    async def read(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Return strings and hashes at or below `keys`."""
        try:
            await self._subscribe()
            found: dict[str, bytes] = {}
            for key in keys:
                plain = self._spelt(key.removesuffix("/*"))
                await self._take(plain.encode("utf-8", "surrogateescape"), found)
                pattern = f"{_escaped(plain.rstrip(self._separator))}{_escaped(self._separator)}*"
                async for name in self._client.scan_iter(match=pattern, count=1000):
                    await self._take(name, found)
        except (RedisError, OSError) as error:
            self._listener = None
            raise BackendError(f"redis at {self._where}: {error}") from error
        return found

    async def _take(self, key: bytes, found: dict[str, bytes]) -> None:
        name = self._name(key)
        match await self._client.type(key):
            case b"string":
                value = await self._client.get(key)
                if value is not None:
                    found[name] = value
            case b"hash":
                for field, value in (await self._client.hgetall(key)).items():
                    found[f"{name}/{field.decode('utf-8', 'surrogateescape')}"] = value

    async def _subscribe(self) -> None:
        if self._listener is not None:
            return
        listener = self._client.pubsub()
        await listener.psubscribe(f"__keyspace@{self._db}__:*")
        self._listener = listener
        with contextlib.suppress(RedisError):  # a hosted server may not let us ask
            told = await self._client.config_get("notify-keyspace-events")
            flags = next(iter(told.values()), b"")
            text = flags.decode() if isinstance(flags, bytes) else str(flags)
            self._notifies = "K" in text and ("A" in text or ("$" in text and "h" in text))

    async def changed(self, keys: Sequence[str]) -> None:
        """Return at a notification about one of the keys, or after a while."""
        begins = tuple(self._spelt(key) for key in keys)
        try:
            async with asyncio.timeout(_QUIET_SECONDS if self._notifies else _POLL_SECONDS):
                while True:
                    message = await self._listener.get_message(
                        ignore_subscribe_messages=True, timeout=None
                    )
                    if message is None:
                        continue
                    key = message["channel"].partition(b":")[2].decode("utf-8", "surrogateescape")
                    if key.startswith(begins):
                        return
        except TimeoutError:
            return
        except (RedisError, OSError) as error:
            self._listener = None
            raise BackendError(f"redis at {self._where}: {error}") from error

    async def aclose(self) -> None:
        """Close the connections."""
        with contextlib.suppress(RedisError, OSError):
            if self._listener is not None:
                await self._listener.aclose()
            await self._client.aclose()
