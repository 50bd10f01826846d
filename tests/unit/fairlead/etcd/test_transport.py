# SPDX-License-Identifier: Apache-2.0
"""What grpclib was taught, against awkward servers (specs/etcd.md §4.1, §4.4, §13.4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded

from fairlead.etcd import rpc
from fairlead.etcd import rpc_pb2 as pb
from fairlead.etcd.channel import Channel
from fairlead.etcd.client import Client
from fairlead.etcd.errors import NotSent, Timeout, TooLarge, Unavailable, Unclear
from fairlead.etcd.options import Options, parse_endpoint
from fairlead.etcd.transport import Wrapper

OK = [(":status", "200"), ("content-type", "application/grpc")]
Answer = Callable[[H2Connection, int], None]


@asynccontextmanager
async def server(
    answer: Answer | None, *, requests: list[int] | None = None, path: str = ""
) -> AsyncIterator[Options]:
    """Serve HTTP/2 on loopback; `answer` gets each whole request; None: accept and say nothing."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        if answer is None:
            await reader.read()
            return
        connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, RequestReceived) and requests is not None:
                    requests.append(event.stream_id)
                if isinstance(event, StreamEnded):
                    answer(connection, event.stream_id)
            writer.write(connection.data_to_send())

    if path:
        listener = await asyncio.start_unix_server(serve, path)
        endpoint = f"unix://{path}"
    else:
        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        endpoint = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield Options(endpoints=(endpoint,), connect_timeout=0.2, call_timeout=0.3)
    finally:
        for writer in writers:
            writer.close()
        listener.close()


async def call(options: Options) -> pb.RangeResponse:
    channel = await Channel.open(parse_endpoint(options.endpoints[0]), options)
    try:
        request = pb.RangeRequest(key=b"a")
        return await channel.unary(rpc.RANGE, request, timeout=0.3, metadata={})
    finally:
        channel.drop("done")


def message(body: bytes, *, announced: int | None = None) -> bytes:
    return b"\x00" + (len(body) if announced is None else announced).to_bytes(4, "big") + body


def good(connection: H2Connection, stream: int) -> None:
    connection.send_headers(stream, OK)
    connection.send_data(stream, message(pb.RangeResponse(count=7).SerializeToString()))
    connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)


async def test_a_good_server() -> None:
    async with server(good) as options:
        assert (await call(options)).count == 7


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "etcd.sock")
    async with server(good, path=path) as options:
        assert (await call(options)).count == 7
    with pytest.raises(NotSent, match=r"unix://.*absent"):
        await call(Options(endpoints=(f"unix://{path}.absent",)))


async def test_an_answer_in_small_pieces() -> None:
    def pieces(connection: H2Connection, stream: int) -> None:
        connection.send_headers(stream, OK)
        for byte in message(pb.RangeResponse(count=7).SerializeToString()):
            connection.send_data(stream, bytes((byte,)), pad_length=3)
        connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)

    async with server(pieces) as options:
        assert (await call(options)).count == 7


async def test_frozen_after_accept() -> None:
    async with server(None) as options:
        with pytest.raises(NotSent, match=r"no answer within 0\.2 s"):
            await call(options)


@pytest.mark.slow
async def test_no_answer_to_a_call() -> None:
    async with server(lambda connection, stream: None) as options:
        with pytest.raises(Timeout, match=r"Range: no answer within 0\.3 s"):
            await call(options)


async def test_reset_inside_a_message() -> None:
    def reset(connection: H2Connection, stream: int) -> None:
        connection.send_headers(stream, OK)
        connection.send_data(stream, message(b"abc", announced=100))
        connection.reset_stream(stream, 2)

    async with server(reset) as options:
        with pytest.raises(Unavailable, match="reset"):
            await call(options)


async def test_the_end_inside_a_message() -> None:
    def cut(connection: H2Connection, stream: int) -> None:
        connection.send_headers(stream, OK)
        connection.send_data(stream, message(b"abc", announced=100), end_stream=True)

    async with server(cut) as options:
        with pytest.raises(Unavailable):
            await call(options)


async def test_a_message_over_the_limit_is_not_read() -> None:
    def huge(connection: H2Connection, stream: int) -> None:
        connection.send_headers(stream, OK)
        connection.send_data(stream, message(b"abc", announced=600 << 20))

    async with server(huge) as options:
        with pytest.raises(TooLarge, match="629145600"):
            await call(options)


async def test_a_status_without_headers_of_its_own() -> None:
    def refuse(connection: H2Connection, stream: int) -> None:
        trailers = [*OK, ("grpc-status", "14"), ("grpc-message", "etcdserver: no%20leader")]
        connection.send_headers(stream, trailers, end_stream=True)

    async with server(refuse) as options:
        with pytest.raises(Unavailable, match="etcdserver: no leader"):
            await call(options)


@pytest.mark.slow
async def test_a_stream_above_goaways_last_was_surely_not_done() -> None:
    requests: list[int] = []

    def goaway(connection: H2Connection, stream: int) -> None:
        connection.close_connection(last_stream_id=0)

    async with server(goaway, requests=requests) as options:
        with pytest.raises(NotSent, match="GOAWAY"):
            await call(options)
        client = Client(options)
        requests.clear()
        with pytest.raises(NotSent):
            await client.put(b"a", b"1")  # a write, but repeated: it was not done
        assert len(requests) == 3, "endpoints + 2 tries (§5.4)"
        await client.aclose()


async def test_a_write_that_may_be_done_is_unclear_and_not_repeated() -> None:
    requests: list[int] = []

    def reset(connection: H2Connection, stream: int) -> None:
        connection.reset_stream(stream, 2)

    async with server(reset, requests=requests) as options:
        client = Client(options)
        with pytest.raises(Unclear, match="Put: may be done or not"):
            await client.put(b"a", b"1")
        assert len(requests) == 1
        with pytest.raises(Unavailable):
            await client.put(b"a", b"1", repeatable=True)
        assert len(requests) == 1 + 3
        await client.aclose()


async def test_a_read_goes_to_the_next_endpoint() -> None:
    def refuse(connection: H2Connection, stream: int) -> None:
        trailers = [*OK, ("grpc-status", "14"), ("grpc-message", "etcdserver: no leader")]
        connection.send_headers(stream, trailers, end_stream=True)

    async with server(refuse) as one, server(good) as two:
        client = Client(Options(endpoints=one.endpoints + two.endpoints))
        for _ in range(4):
            assert await client.get(b"a") is None
        assert client.endpoint == "http://" + two.endpoints[0], "and stays there"
        await client.aclose()


@pytest.mark.slow
async def test_nobody_there() -> None:
    client = Client(Options(endpoints=("127.0.0.1:1", "127.0.0.1:2")))
    with pytest.raises(NotSent, match="no endpoint answers: ") as caught:
        await client.get(b"a")
    assert "127.0.0.1:1" in str(caught.value)
    assert "127.0.0.1:2" in str(caught.value)
    await client.aclose()
    with pytest.raises(NotSent, match="the client is closed"):
        await client.get(b"a")


async def woken(wrapper: Wrapper, also: Awaitable[object] | None = None) -> None:
    with wrapper:
        await (also or asyncio.Event().wait())


async def test_waking_leaves_no_cancellation_behind() -> None:
    wrapper = Wrapper()

    async def body() -> int:
        with pytest.raises(OSError, match="broken"):
            await woken(wrapper)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    task = asyncio.create_task(body())
    await asyncio.sleep(0)
    wrapper.cancel(OSError("broken"))
    assert await task == 0


async def test_a_cancellation_at_the_same_moment_wins() -> None:
    wrapper = Wrapper()
    task = asyncio.create_task(woken(wrapper))
    await asyncio.sleep(0)
    wrapper.cancel(OSError("broken"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
