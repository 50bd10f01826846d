# SPDX-License-Identifier: Apache-2.0
"""Many watches on one stream (specs/etcd.md §6.4): whose answer is whose, and what ends what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, cast

import pytest

from fairlead.errors import StoreError
from fairlead.etcd import rpc_pb2 as pb
from fairlead.etcd import watch as watches
from fairlead.etcd.errors import Compacted, Denied, NotSent, Timeout, TokenExpired, Unavailable
from fairlead.etcd.observer import SILENT
from fairlead.etcd.pool import Pool
from fairlead.etcd.types import KeyRange, WatchAnswer, WatchRequest
from fairlead.etcd.watch import Watch, Watches


class Stream:
    """One stream as the test plays its server."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.sent: list[str] = []
        self.left = False
        self._answers: asyncio.Queue[pb.WatchResponse | Exception] = asyncio.Queue()

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.left = True

    async def send(self, request: pb.WatchRequest) -> None:
        match request.WhichOneof("request_union"):
            case "create_request":
                self.sent.append(request.create_request.key.decode())
            case "cancel_request":
                self.sent.append(f"cancel {request.cancel_request.watch_id}")
            case _:
                self.sent.append("progress")

    async def receive(self) -> pb.WatchResponse:
        answer = await self._answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def say(self, id: int, *values: str, revision: int = 0, **fields: Any) -> None:
        """Answer with one event for each of `values`."""
        events = [pb.Event(kv=pb.KeyValue(key=b"k", value=v.encode())) for v in values]
        header = pb.ResponseHeader(revision=revision)
        self._answers.put_nowait(
            pb.WatchResponse(header=header, watch_id=id, events=events, **fields)
        )

    def end(self, error: Exception) -> None:
        self._answers.put_nowait(error)


class Connection:
    """The pool's one connection."""

    endpoint = "etcd.example.org:2379"

    def __init__(self) -> None:
        self.streams: list[Stream] = []

    def stream(self, method: object, metadata: dict[str, str]) -> Stream:
        self.streams.append(Stream(metadata.get("token", "")))
        return self.streams[-1]


class Ring:
    """A pool of one endpoint."""

    login: tuple[str, str] | None = None
    token = ""

    def __init__(self) -> None:
        self.connection = Connection()
        self.suspected: list[str] = []

    async def channel(self, kind: str) -> Connection:
        return self.connection

    def metadata(self, *, leader: bool) -> dict[str, str]:
        return {"token": self.token}

    def suspect(self, channel: Connection, error: StoreError) -> None:
        self.suspected.append(type(error).__name__)

    async def renew(self, channel: Connection, stale: str) -> None:
        self.token = f"{stale}+"


class Rig:
    """The watches of one client, and the streams that they have opened."""

    def __init__(self) -> None:
        self.ring = Ring()
        self.streams = self.ring.connection.streams
        self.watches = Watches(cast(Pool, self.ring), 5.0, SILENT)
        self.stack = AsyncExitStack()

    def opening(self, key: str) -> asyncio.Task[Watch]:
        request = WatchRequest(KeyRange(key.encode()))
        return asyncio.create_task(self.stack.enter_async_context(self.watches.open(request)))

    async def open(self, key: str, id: int) -> AsyncIterator[WatchAnswer]:
        """Open a watch that the server gives this id; return its answers after the first."""
        task = self.opening(key)
        await turns()
        self.streams[-1].say(id, created=True)
        answers = aiter(await task)
        assert (await anext(answers)).created
        return answers


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    async with rig.stack:
        yield rig
    await rig.watches.aclose()
    assert all(stream.left for stream in rig.streams), "a stream outlived its watches"


async def turns() -> None:
    """Let every task come as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def values(answers: AsyncIterator[WatchAnswer]) -> list[str]:
    return [event.kv.value.decode() for event in (await anext(answers)).events]


async def test_one_stream_carries_many_and_every_answer_finds_its_watch(rig: Rig) -> None:
    one, two = await rig.open("a", 0), await rig.open("b", 1)
    (stream,) = rig.streams
    stream.say(1, "for b")
    stream.say(0, "for a")
    stream.say(7, "for nobody")
    stream.say(0, "more")
    assert await values(one) == ["for a"]
    assert await values(one) == ["more"]
    assert await values(two) == ["for b"]


async def test_one_creation_at_a_time(rig: Rig) -> None:
    """A refusal has no id, and a proxy may answer two creations in either order."""
    first, second, third = map(rig.opening, "abc")
    await turns()
    (stream,) = rig.streams
    assert stream.sent == ["a"]
    reason = "etcdserver: permission denied"
    stream.say(-1, created=True, canceled=True, cancel_reason=reason)
    with pytest.raises(Denied):
        await first
    await turns()
    assert stream.sent == ["a", "b"]
    stream.say(4, created=True)
    stream.say(4, "right behind")
    answers = aiter(await second)
    await turns()
    stream.say(5, created=True)
    await third
    assert (await anext(answers)).created
    assert await values(answers) == ["right behind"]
    assert len(rig.streams) == 1


async def test_fragments_of_two_watches_are_not_mixed(rig: Rig) -> None:
    one, two = await rig.open("a", 0), await rig.open("b", 1)
    (stream,) = rig.streams
    stream.say(0, "a1", fragment=True)
    stream.say(1, "b1", fragment=True)
    stream.say(0, "a2")
    stream.say(1, "b2")
    assert await values(one) == ["a1", "a2"]
    assert await values(two) == ["b1", "b2"]


async def test_a_watch_that_etcd_cancels_ends_alone(rig: Rig) -> None:
    one, two = await rig.open("a", 0), await rig.open("b", 1)
    (stream,) = rig.streams
    stream.say(0, canceled=True, compact_revision=9)
    stream.say(1, "still")
    with pytest.raises(Compacted):
        await anext(one)
    assert await values(two) == ["still"]


async def test_progress_is_for_all_but_for_none_created_later(rig: Rig) -> None:
    """etcd's created answer may overtake the answer to a request before it: a loss for good."""
    first = rig.opening("a")
    await turns()
    rig.streams[0].say(0, created=True)
    watch = await first
    one, two = aiter(watch), await rig.open("b", 1)
    await anext(one)
    await asyncio.gather(watch.request_progress(), watch.request_progress())
    assert rig.streams[0].sent == ["a", "b", "progress"], "asked once for all"
    three = await rig.open("c", 0)
    assert len(rig.streams) == 2
    rig.streams[0].say(-1, revision=50)
    assert [(await anext(answers)).header.revision for answers in (one, two)] == [50, 50]
    rig.streams[1].say(0, "own")
    assert await values(three) == ["own"]


async def test_what_ends_the_stream_ends_every_watch_and_is_told_once(rig: Rig) -> None:
    one, two = await rig.open("a", 0), await rig.open("b", 1)
    waiting = rig.opening("c")
    await turns()
    rig.streams[0].say(0, "last")
    rig.streams[0].end(Unavailable("broken"))
    assert await values(one) == ["last"]
    for answers in (one, two):
        with pytest.raises(Unavailable, match="broken"):
            await anext(answers)
    with pytest.raises(Unavailable, match="broken"):
        await waiting
    assert rig.ring.suspected == ["Unavailable"]
    await rig.open("d", 0)
    assert len(rig.streams) == 2


async def test_a_fault_of_ours_reaches_who_watches(rig: Rig) -> None:
    one = await rig.open("a", 0)
    rig.streams[0].end(RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        await anext(one)


async def test_a_watch_that_is_left_is_cancelled_and_the_last_takes_the_stream_along() -> None:
    rig = Rig()
    async with rig.stack:
        one = await rig.open("a", 0)
        async with AsyncExitStack() as inner:
            outer, rig.stack = rig.stack, inner
            await rig.open("b", 1)
            rig.stack = outer
        (stream,) = rig.streams
        assert stream.sent == ["a", "b", "cancel 1"]
        stream.say(1, canceled=True)
        stream.say(0, "goes on")
        assert await values(one) == ["goes on"]
        assert [stream.left for stream in rig.streams] == [False]
    assert [stream.left for stream in rig.streams] == [True]
    assert stream.sent == ["a", "b", "cancel 1"], "the last needs no word"


async def test_a_creation_that_nobody_waits_for_spoils_no_other(rig: Rig) -> None:
    one = await rig.open("a", 0)
    given_up = rig.opening("b")
    behind = rig.opening("c")
    await turns()
    given_up.cancel()
    await turns()
    rig.streams[0].say(1, created=True)
    rig.streams[1].say(0, created=True)
    await behind
    assert [stream.sent for stream in rig.streams] == [["a", "b", "cancel 1"], ["c"]]
    rig.streams[0].say(0, "goes on")
    assert await values(one) == ["goes on"]


async def test_no_answer_in_time(rig: Rig) -> None:
    rig.watches = Watches(cast(Pool, rig.ring), 0.0, SILENT)
    with pytest.raises(Timeout, match="not created within 0 s"):
        await rig.opening("a")
    assert rig.ring.suspected == ["Timeout"]


async def test_another_token_is_another_stream(rig: Rig) -> None:
    rig.ring.login, rig.ring.token = ("web", "tulip"), "t"
    one = await rig.open("a", 0)
    expired = rig.opening("b")
    await turns()
    reason = "etcdserver: invalid auth token"
    rig.streams[0].say(-1, created=True, canceled=True, cancel_reason=reason)
    await turns()
    rig.streams[1].say(0, created=True)
    await expired
    assert [stream.token for stream in rig.streams] == ["t", "t+"]
    rig.streams[0].say(0, "goes on")
    assert await values(one) == ["goes on"]
    second = rig.opening("c")
    await turns()
    rig.streams[1].say(-1, created=True, canceled=True, cancel_reason=reason)
    await turns()
    rig.streams[2].say(-1, created=True, canceled=True, cancel_reason=reason)
    with pytest.raises(TokenExpired):
        await second


async def test_reading_pauses_for_a_watch_that_takes_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "UNREAD", 3)
    slow, quick = await rig.open("a", 0), await rig.open("b", 1)
    (stream,) = rig.streams
    for number in range(5):
        stream.say(0, str(number))
    stream.say(1, "after")
    waiting = asyncio.ensure_future(anext(quick))
    await turns()
    assert not waiting.done()
    assert [await values(slow) for _ in range(5)] == [["0"], ["1"], ["2"], ["3"], ["4"]]
    assert (await waiting).events[0].kv.value == b"after"


async def test_a_closed_client_ends_its_watches(rig: Rig) -> None:
    one = await rig.open("a", 0)
    await rig.watches.aclose()
    with pytest.raises(NotSent):
        await anext(one)
