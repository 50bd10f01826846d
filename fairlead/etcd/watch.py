# SPDX-License-Identifier: Apache-2.0
"""One watch on one stream: creation, fragments, and what a cancellation means (specs/etcd.md §6.4).

A watch ends by a StoreError and is not resumed here: the mirror knows from which revision.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fairlead.errors import StoreError
from fairlead.etcd import rpc, wire
from fairlead.etcd import rpc_pb2 as pb
from fairlead.etcd.channel import Channel, Stream
from fairlead.etcd.errors import (
    Compacted,
    Denied,
    NotSent,
    Timeout,
    TokenExpired,
    Unavailable,
    from_status,
)
from fairlead.etcd.observer import Observer
from fairlead.etcd.pool import Pool
from fairlead.etcd.types import Event, Revision, WatchAnswer, WatchRequest

WatchStream = Stream[pb.WatchRequest, pb.WatchResponse]


class Watch:
    """An open watch; iterate over its answers, the first has `created`."""

    def __init__(
        self, pool: Pool, channel: Channel, stream: WatchStream, created: pb.WatchResponse
    ) -> None:
        self._pool = pool
        self._channel = channel
        self._stream = stream
        self._created = created

    async def __aiter__(self) -> AsyncIterator[WatchAnswer]:
        """Yield the answers, fragments joined, until the watch ends by an error."""
        yield WatchAnswer(wire.header(self._created.header), created=True)
        parts: list[Event] = []
        while True:
            answer = await self._receive()
            if answer.canceled:
                raise _cancelled(answer)
            events = [wire.event(event) for event in answer.events]
            if answer.fragment:
                parts += events
                continue
            if parts:
                events = parts + events
                parts = []
            yield WatchAnswer(wire.header(answer.header), tuple(events))

    async def _receive(self) -> pb.WatchResponse:
        try:
            return await self._stream.receive()
        except Unavailable as error:
            self._pool.suspect(self._channel, error)
            raise

    async def request_progress(self) -> None:
        """Ask for the server's revision on this stream (§6.5); an answer may never come."""
        await self._stream.send(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))


@asynccontextmanager
async def watching(
    pool: Pool, request: WatchRequest, timeout: float, observer: Observer
) -> AsyncIterator[Watch]:
    """Open a watch; give up when it is not created within `timeout` of being connected."""
    async with AsyncExitStack() as stack:
        yield await _open(stack, pool, request, timeout, observer)


async def _open(
    stack: AsyncExitStack, pool: Pool, request: WatchRequest, timeout: float, observer: Observer
) -> Watch:
    renewed = False
    while True:
        channel = await pool.channel("live")
        token = pool.token
        clock = asyncio.get_running_loop().time
        begun = clock()
        result = "ok"
        try:
            async with asyncio.timeout(timeout), AsyncExitStack() as opening:
                stream = channel.stream(rpc.WATCH, pool.metadata(leader=True))
                await opening.enter_async_context(stream)
                await stream.send(wire.watch_request(request))
                created = await stream.receive()
                if created.canceled:
                    raise _cancelled(created)
                stack.push_async_exit(opening.pop_all())
                return Watch(pool, channel, stream, created)
        except TimeoutError as error:
            late = Timeout(f"{channel.endpoint}: Watch: not created within {timeout:g} s")
            result = "Timeout"
            pool.suspect(channel, late)
            raise late from error
        except (TokenExpired, Denied) as error:
            # 3.5.1 says "permission denied" for an expired token (§5.3)
            result = type(error).__name__
            if renewed or not pool.login:
                raise
            renewed = True
            await pool.renew(channel, token)
        except Unavailable as error:
            result = type(error).__name__
            pool.suspect(channel, error)
            raise
        except StoreError as error:
            result = type(error).__name__
            raise
        finally:
            observer.call(rpc.WATCH.name, result, clock() - begun)


def _cancelled(answer: pb.WatchResponse) -> StoreError:
    """Return what a `canceled` answer means."""
    reason = answer.cancel_reason
    if answer.compact_revision or "compacted" in reason:
        revision = Revision(answer.compact_revision)
        return Compacted(reason or f"watch: compacted up to revision {revision}", revision)
    if not reason:
        return NotSent("watch: cancelled by the server without a reason")
    return from_status(0, reason)
