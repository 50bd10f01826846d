# SPDX-License-Identifier: Apache-2.0
"""Watches: many of them on one stream of a client (specs/etcd.md §6.4).

::

    Watches.open ─► Carrier: one stream, one task that reads it ─┬─► Watch ─► answers
                                                                 ├─► Watch
                                                                 └─► Watch

200 watches on 200 streams brought the events of one transaction up to 100 ms apart; on one
stream they come together. What keeps each watch as good as one on a stream of its own:

* One creation at a time, as Go's client: a refusal carries no id, kine refuses ids that we
  choose, and a proxy may answer two creations in either order.
* An answer without an id (-1) is progress of all watches, but of one created after the request
  it may be too much (etcd's created answer can overtake it): a stream that was asked for
  progress takes no new watch.
* The token is the stream's: with another token a watch gets another stream.
* A watch that is left is cancelled by its id; the stream goes with its last watch.
* Reading pauses while one watch has UNREAD answers that nobody takes, as flow control would.

A watch ends by a StoreError and is not resumed here: the mirror knows from which revision.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

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

UNREAD: Final = 1000
"""Answers that one watch may leave unread before the reading of all pauses."""

_NO_ID: Final = -1
_AGAIN: Final = 1.0  # seconds in which one request for progress serves all watches of a stream


class Watch:
    """An open watch; iterate over its answers, the first has `created`."""

    def __init__(self, carrier: Carrier) -> None:
        self.created: asyncio.Future[pb.WatchResponse] = carrier.future()
        self._carrier = carrier
        self._answers: deque[pb.WatchResponse] = deque()
        self._error: BaseException | None = None
        self._come = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def __aiter__(self) -> AsyncIterator[WatchAnswer]:
        """Yield the answers, fragments joined, until the watch ends by an error."""
        yield WatchAnswer(wire.header(self.created.result().header), created=True)
        parts: list[Event] = []
        while True:
            answer = await self._next()
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

    async def _next(self) -> pb.WatchResponse:
        while not self._answers:
            if self._error is not None:
                raise self._error
            self._come.clear()
            await self._come.wait()
        answer = self._answers.popleft()
        if len(self._answers) < UNREAD:
            self._room.set()
        return answer

    async def request_progress(self) -> None:
        """Ask for the server's revision on this stream (§6.5); an answer may never come."""
        await self._carrier.request_progress()

    # the carrier's side

    async def take(self, answer: pb.WatchResponse) -> None:
        """Queue an answer; wait while too many are unread."""
        self._answers.append(answer)
        self._come.set()
        if len(self._answers) >= UNREAD:
            self._room.clear()
            await self._room.wait()

    def end(self, error: BaseException) -> None:
        """End the iteration, after what is queued, with `error`."""
        self._error = self._error or error
        self._come.set()
        self._room.set()
        if not self.created.done():
            self.created.set_exception(error)
            self.created.exception()  # fetched: whoever waits is told, nobody is warned about


class Carrier:
    """One stream and its watches; a task of its own reads it until it ends or is left."""

    def __init__(self, pool: Pool, channel: Channel) -> None:
        self.channel = channel
        self.token = pool.token
        self.full = False  # takes no new watch
        self._pool = pool
        self._stream: Stream[pb.WatchRequest, pb.WatchResponse] = channel.stream(
            rpc.WATCH, pool.metadata(leader=True)
        )
        self._watches: dict[int, Watch] = {}
        self._pending: Watch | None = None
        self._users = 0  # watches, and who waits for a turn to create one
        self._turn = asyncio.Lock()
        self._opened = self.future()
        self._begun = asyncio.Event()  # grpclib: nothing can be read before a request was sent
        self._error: BaseException | None = None
        self._asked = float("-inf")
        self.reader = asyncio.create_task(self._run(), name=f"watches at {channel.endpoint}")

    def future(self) -> asyncio.Future[pb.WatchResponse]:
        """Return a future of the running loop."""
        return asyncio.get_running_loop().create_future()

    async def create(self, request: WatchRequest, timeout: float) -> Watch | None:
        """Create one watch, to be given to `leave` in the end; None: the stream takes no more.

        Raises:
            TimeoutError: not created within `timeout` seconds of its turn.
            StoreError: the stream ended, or the server refused.
        """
        self._users += 1
        watch = None
        try:
            async with self._turn:
                if not self.full:
                    watch = await self._create(request, timeout)
                elif self._error is not None:
                    raise self._error
        finally:
            if watch is None:
                await self._leave()
        return watch

    async def _create(self, request: WatchRequest, timeout: float) -> Watch:
        watch = self._pending = Watch(self)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._opened)
                await self._stream.send(wire.watch_request(request))
                self._begun.set()
                created = await watch.created
        except BaseException:
            self.full = True  # an answer that nobody waits for may still come
            raise
        finally:
            self._pending = None
        if created.canceled:
            raise _cancelled(created)
        return watch

    async def leave(self, watch: Watch) -> None:
        """Take no more answers of a watch."""
        watch.end(NotSent("the watch was left"))
        id = watch.created.result().watch_id
        if self._watches.pop(id, None) is not None and self._users > 1:
            await self._cancel(id)
        await self._leave()

    async def _leave(self) -> None:
        self._users -= 1
        if not self._users:
            await self.close()

    async def _cancel(self, id: int) -> None:
        request = pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=id))
        with suppress(StoreError):  # with the stream the watch has ended, too
            await self._stream.send(request)

    async def request_progress(self) -> None:
        """Ask for the revision, once for all watches that ask at the same time."""
        now = asyncio.get_running_loop().time()
        if now - self._asked > _AGAIN:
            self._asked = now
            self.full = True
            request = pb.WatchRequest(progress_request=pb.WatchProgressRequest())
            await self._stream.send(request)

    async def close(self) -> None:
        """End the stream and all its watches."""
        self.full = True
        self.reader.cancel()
        await asyncio.gather(self.reader, return_exceptions=True)

    async def _run(self) -> None:
        """Read until the stream ends; whatever ends it ends every watch."""
        error: BaseException = NotSent("the stream of watches was left")
        try:
            async with self._stream:
                self._opened.set_result(pb.WatchResponse())
                await self._begun.wait()
                while True:
                    await self._take(await self._stream.receive())
        except StoreError as ended:
            error = ended
            if isinstance(ended, Unavailable):
                self._pool.suspect(self.channel, ended)
        except Exception as fault:  # noqa: BLE001  (who watches raises it: nobody waits for ever)
            error = fault
        finally:
            self._end(error)

    def _end(self, error: BaseException) -> None:
        self._error = error
        self.full = True
        if not self._opened.done():
            self._opened.set_exception(error)
            self._opened.exception()
        if self._pending is not None:
            self._pending.end(error)
        for watch in self._watches.values():
            watch.end(error)

    async def _take(self, answer: pb.WatchResponse) -> None:
        """Hand one answer to whom it is for."""
        id = answer.watch_id
        if answer.created:
            pending, self._pending = self._pending, None
            if pending is not None and not pending.created.done():
                if not answer.canceled:
                    self._watches[id] = pending  # here: its events may be right behind
                pending.created.set_result(answer)
            elif not answer.canceled:
                await self._cancel(id)
        elif id == _NO_ID:
            for watch in tuple(self._watches.values()):
                await watch.take(answer)
        elif id in self._watches:
            watch = self._watches.pop(id) if answer.canceled else self._watches[id]
            await watch.take(answer)


class Watches:
    """The watches of one client."""

    def __init__(self, pool: Pool, timeout: float, observer: Observer) -> None:
        self._pool = pool
        self._timeout = timeout
        self._observer = observer
        self._last: Carrier | None = None
        self._readers: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self, request: WatchRequest) -> AsyncIterator[Watch]:
        """Open a watch; give up when it is not created in time after being connected."""
        carrier, watch = await self._open(request)
        try:
            yield watch
        finally:
            await carrier.leave(watch)

    async def aclose(self) -> None:
        """End every stream."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    def _for(self, channel: Channel) -> Carrier:
        """Return a stream on `channel` that takes one more watch."""
        carrier = self._last
        if (
            carrier is None
            or carrier.full
            or carrier.channel is not channel
            or carrier.token != self._pool.token
        ):
            carrier = self._last = Carrier(self._pool, channel)
            self._readers.add(carrier.reader)
            carrier.reader.add_done_callback(self._readers.discard)
        return carrier

    async def _open(self, request: WatchRequest) -> tuple[Carrier, Watch]:
        pool = self._pool
        clock = asyncio.get_running_loop().time
        renewed = False
        while True:
            channel = await pool.channel("live")
            token = pool.token
            begun = clock()
            result = "ok"
            try:
                carrier = self._for(channel)
                watch = await carrier.create(request, self._timeout)
                if watch is not None:
                    return carrier, watch
                result = "again"
            except TimeoutError as error:
                late = Timeout(f"{channel.endpoint}: Watch: not created within {self._timeout:g} s")
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
            except StoreError as error:
                result = type(error).__name__
                raise
            finally:
                self._observer.call(rpc.WATCH.name, result, clock() - begun)


def _cancelled(answer: pb.WatchResponse) -> StoreError:
    """Return what a `canceled` answer means."""
    reason = answer.cancel_reason
    if answer.compact_revision or "compacted" in reason:
        revision = Revision(answer.compact_revision)
        return Compacted(reason or f"watch: compacted up to revision {revision}", revision)
    if not reason:
        return NotSent("watch: cancelled by the server without a reason")
    return from_status(0, reason)
