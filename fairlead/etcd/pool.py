# SPDX-License-Identifier: Apache-2.0
"""Which endpoint, which connection, which token (specs/etcd.md §4.3, §5.2, §5.5).

The endpoints form a ring, shuffled once so that a fleet spreads. One is in use until it fails;
then the next is. Two connections to it: `calls` for unary calls, `live` for watches, because
with TLS etcd can starve a watch behind big answers on the same connection (etcd-io/etcd#15402).
No endpoint is remembered as bad: a whole ring that fails is one failed attempt.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Literal

from fairlead.errors import StoreError
from fairlead.etcd import rpc
from fairlead.etcd import rpc_pb2 as pb
from fairlead.etcd.channel import Channel
from fairlead.etcd.errors import BadLogin, NotSent, Timeout, Unavailable
from fairlead.etcd.observer import Observer
from fairlead.etcd.options import Endpoint, Options

Kind = Literal["calls", "live"]

FRESH = 10.0  # seconds; a token this young is not asked for again on a new connection
BAD_LOGIN_WAIT = 30.0  # seconds between tries with a password that was refused (§5.3)


class Pool:
    """The endpoints, and at most two connections to the one in use."""

    def __init__(self, options: Options, observer: Observer) -> None:
        self._options = options
        self._observer = observer
        self._ring: list[Endpoint] = [] if options.dns_srv else list(options.parsed())
        random.shuffle(self._ring)
        self._at = 0
        self._channels: dict[Kind, Channel] = {}
        self._locks: dict[Kind, asyncio.Lock] = {"calls": asyncio.Lock(), "live": asyncio.Lock()}
        self._closed = False
        self.login = options.login()
        self.token = ""
        self._token_at = float("-inf")
        self._login_lock = asyncio.Lock()
        self._refused: tuple[float, BadLogin] | None = None

    @property
    def size(self) -> int:
        """How many endpoints there are."""
        return max(1, len(self._ring))

    @property
    def endpoint(self) -> Endpoint | str:
        """The endpoint in use."""
        return self._ring[self._at] if self._ring else f"SRV records of {self._options.dns_srv}"

    def metadata(self, *, leader: bool = False) -> dict[str, str]:
        """Return what goes with a call; `leader`: end the stream where there is none (§6.6)."""
        pairs = {"hasleader": "true"} if leader else {}
        if self.token:
            pairs["token"] = self.token
        return pairs

    def close(self) -> None:
        """Close both connections for good."""
        self._closed = True
        for channel in self._channels.values():
            channel.drop("the client was closed")
        self._channels.clear()

    def address_gone(self, address: str) -> None:
        """Drop the connections that speak from `address`; the endpoint stays the one in use."""
        for kind, held in list(self._channels.items()):
            if held.local == address:
                del self._channels[kind]
                held.drop(f"this host has {address} no longer")

    async def channel(self, kind: Kind) -> Channel:
        """Return the usable connection of `kind`, made now if need be: one pass over the ring.

        Raises:
            NotSent: no endpoint answers; the message says why, for each.
        """
        async with self._locks[kind]:
            if self._closed:
                raise NotSent("the client is closed")
            channel = self._channels.get(kind)
            if channel is not None:
                if not channel.dead:
                    return channel
                self.suspect(channel, Unavailable(channel.dead))
            if not self._ring:
                from fairlead.etcd.srv import discover  # dnslib, 3 ms, is for those who ask

                self._ring = list(await discover(self._options))
                random.shuffle(self._ring)
            failures: list[StoreError] = []
            for _ in range(len(self._ring)):
                endpoint = self._ring[self._at]
                try:
                    return await self._connect(kind, endpoint)
                except BadLogin:
                    raise
                except StoreError as error:
                    self._observer.lost(str(endpoint), str(error))
                    self._leave(endpoint)
                    failures.append(error)
            if len(failures) == 1:
                raise failures[0]
            raise NotSent("no endpoint answers: " + "; ".join(map(str, failures)))

    async def _connect(self, kind: Kind, endpoint: Endpoint) -> Channel:
        channel = await Channel.open(endpoint, self._options)
        try:
            if self.login and time.monotonic() - self._token_at > FRESH:
                await self.renew(channel, self.token)
        except BaseException as error:
            channel.drop(str(error))
            if isinstance(error, Unavailable):
                raise NotSent(str(error)) from error
            raise
        if self._closed:
            channel.drop("the client was closed")
            raise NotSent("the client is closed")
        self._channels[kind] = channel
        self._observer.connected(str(endpoint))
        return channel

    def suspect(self, channel: Channel, error: StoreError) -> None:
        """Go on with the next endpoint: `channel` failed a call with `error`.

        A connection that is dead or missed a deadline is closed; one that answered, but not
        what we want ("no leader"), only when its calls are done. The other connection to the
        same endpoint is asked for a sign of life.
        """
        for kind, held in list(self._channels.items()):
            if held is channel:
                del self._channels[kind]
                self._observer.lost(str(channel.endpoint), str(error))
                self._leave(channel.endpoint)
            elif held.endpoint == channel.endpoint and isinstance(error, Timeout):
                held.probe()
        if channel.dead or isinstance(error, Timeout):
            channel.drop(str(error))
        else:
            channel.retire()

    def _leave(self, endpoint: Endpoint) -> None:
        """Make the next endpoint the one in use, if `endpoint` still is."""
        if self._ring and self._ring[self._at] == endpoint:
            self._at = (self._at + 1) % len(self._ring)
            if self._at == 0 and self._options.dns_srv:
                self._ring = []  # a whole ring failed: the records may have changed

    async def renew(self, channel: Channel, stale: str) -> None:
        """Get a new token, unless somebody did so since `stale` was used (§5.5).

        Raises:
            BadLogin: user or password is wrong; said again without asking for 30 s.
        """
        async with self._login_lock:
            if self.login is None or (self.token != stale and self.token):
                return
            if self._refused and time.monotonic() - self._refused[0] < BAD_LOGIN_WAIT:
                raise self._refused[1]
            name, password = self.login
            request = pb.AuthenticateRequest(name=name, password=password)
            timeout = self._options.call_timeout
            try:
                answer = await channel.unary(
                    rpc.AUTHENTICATE, request, timeout=timeout, metadata={}
                )
            except BadLogin as error:
                refused = BadLogin(f'etcd user "{name}": {error}')
                self._refused = (time.monotonic(), refused)
                raise refused from error
            except StoreError as error:
                if "authentication is not enabled" not in str(error):
                    raise
                self.token = ""  # auth is off: go on without a token
            else:
                self.token = answer.token
            self._refused = None
            self._token_at = time.monotonic()
