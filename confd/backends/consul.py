# SPDX-License-Identifier: Apache-2.0
"""`consul`: its key-value store over HTTP, with blocking queries.

aiohttp and forty lines: the client libraries for Python are no longer kept.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from confd.backends import BackendConfig, BackendError
from fairlead.gotemplate.values import from_bytes, to_bytes
from fairlead.tls import trusting

_BLOCK_SECONDS: Final = 60


class Consul:
    """One agent; only the first node is used, as in the original."""

    def __init__(self, config: BackendConfig) -> None:
        node = config.nodes[0] if config.nodes else "127.0.0.1:8500"
        self._base = node if "://" in node else f"{config.text('scheme', 'http')}://{node}"
        self._token = config.text("auth_token")
        login = (config.text("username"), config.text("password"))
        self._auth = aiohttp.BasicAuth(*login) if config.flag("basic_auth") else None
        self._seconds = config.real("dial_timeout", 5.0)
        self._tls = _tls(config)
        self._http: aiohttp.ClientSession | None = None
        self._indexes: dict[str, int] = {}

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            headers = {"X-Consul-Token": self._token} if self._token else {}
            connector = aiohttp.TCPConnector(ssl=self._tls)
            self._http = aiohttp.ClientSession(
                headers=headers, auth=self._auth, connector=connector
            )
        return self._http

    async def _list(self, key: str, index: int) -> tuple[int, list[dict[str, Any]]]:
        """Return the index and the entries that begin with `key`; with an index, wait."""
        path = quote(to_bytes(key.strip("/")), safe="/")
        asked = {"recurse": "true"}
        if index:
            asked |= {"index": str(index), "wait": f"{_BLOCK_SECONDS}s"}
        limit = aiohttp.ClientTimeout(total=self._seconds + (_BLOCK_SECONDS * 1.1 if index else 0))
        try:
            async with self._session().get(
                f"{self._base}/v1/kv/{path}", params=asked, timeout=limit
            ) as reply:
                now = int(reply.headers.get("X-Consul-Index", 0))
                if reply.status == 404:
                    return now, []
                body = await reply.text()
                if reply.status != 200:
                    raise BackendError(f"consul at {self._base}: {reply.status} {body[:200]}")
                return now, json.loads(body)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise BackendError(f"consul at {self._base}: {reason}") from error

    async def read(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Return the entries at or below `keys`."""
        found: dict[str, bytes] = {}
        for key in keys:
            self._indexes[key], entries = await self._list(key, 0)
            for entry in entries:
                try:
                    value = base64.b64decode(entry["Value"] or "")
                    found["/" + from_bytes(to_bytes(entry["Key"]))] = value
                except (KeyError, TypeError, binascii.Error) as error:
                    raise BackendError(f"consul at {self._base}: odd entry: {error!r}") from error
        return found

    async def changed(self, keys: Sequence[str]) -> None:
        """Return when one of the blocking queries does."""
        waits = [
            asyncio.ensure_future(self._list(key, self._indexes.get(key) or 1)) for key in keys
        ]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in done:
                wait.result()
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()


def _tls(config: BackendConfig) -> ssl.SSLContext | bool:
    """Return the TLS settings; True for the system's."""
    ca, cert = config.text("client_cakeys"), config.text("client_cert")
    if config.flag("client_insecure"):
        return False
    if not ca and not cert:
        return True
    context = trusting(ca)
    if cert:
        context.load_cert_chain(cert, config.text("client_key"))
    return context
