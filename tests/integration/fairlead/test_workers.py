# SPDX-License-Identifier: Apache-2.0
"""Pages and links between two ends, on the real kernel."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from fairlead.workers.link import Link, pair
from fairlead.workers.messages import Message, Ping, Tell
from fairlead.workers.page import Page

pytestmark = pytest.mark.integration


@pytest.fixture
def page() -> Iterator[Page]:
    found = Page.make()
    yield found
    found.close()


def test_a_page_is_read_by_another_and_grows(page: Page) -> None:
    writer = Page(os.dup(page.descriptor))
    assert page.read() == b""
    for text in (b"one", b"x" * 200_000, b"", b"y" * 3_000_000, b"last"):
        writer.write(text)
        assert page.read() == text
    writer.close()


def test_half_a_write_is_never_read(page: Page) -> None:
    writer = Page(os.dup(page.descriptor))
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            writer.write(bytes((number % 251,)) * (number % 5000 + 1))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(3000):
            seen = page.read()
            assert len(set(seen)) <= 1, "two writes in one"
    finally:
        stop.set()
        thread.join()
        writer.close()


def test_of_a_writer_that_died_in_the_middle_the_write_before_is_read(page: Page) -> None:
    writer = Page(os.dup(page.descriptor))
    writer.write(b"whole")
    assert page.read() == b"whole"
    writer._map[12:14] = b"wr"  # as a kill -9 between two stores leaves it
    assert page.read() == b"whole"
    writer.close()


class End:
    """One end and what it heard."""

    def __init__(self, sock: socket.socket) -> None:
        self.heard: list[tuple[Message, list[int]]] = []
        self.gone = asyncio.Event()
        self.something = asyncio.Event()
        self.link = Link(sock, self._hear, self.gone.set)

    def _hear(self, message: Message, descriptors: list[int]) -> None:
        self.heard.append((message, descriptors))
        self.something.set()

    async def until(self, count: int) -> list[tuple[Message, list[int]]]:
        async with asyncio.timeout(10):
            while len(self.heard) < count:
                self.something.clear()
                await self.something.wait()
        return self.heard


async def test_messages_and_sockets_arrive_in_order_whatever_the_sizes() -> None:
    one, other = map(End, pair())
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    sizes = [0, 1, 5_000_000, 70, 2_000_000]
    for number, size in enumerate(sizes):
        passed = listening[: number % 4]
        one.link.send(Tell(str(number), b"z" * size), [sock.fileno() for sock in passed])
    names = [sock.getsockname() for sock in listening]
    for sock in listening:
        sock.close()  # what waits in the queue has duplicates of its own
    heard = await other.until(len(sizes))
    for number, (message, descriptors) in enumerate(heard):
        assert message == Tell(str(number), b"z" * sizes[number])
        found = [socket.socket(fileno=each) for each in descriptors]
        assert [sock.getsockname() for sock in found] == names[: number % 4]
        for sock in found:
            sock.close()
    assert one.link.waiting == 0
    one.link.close()
    other.link.close()


async def test_an_end_that_is_gone_is_noticed_and_sending_to_it_does_nothing() -> None:
    one, other = map(End, pair())
    one.link.close()
    async with asyncio.timeout(5):
        await other.gone.wait()
    other.link.send(Ping())


async def test_an_end_that_does_not_read_costs_memory_that_is_told() -> None:
    ours, theirs = pair()
    one = End(ours)
    for _ in range(50):
        one.link.send(Tell("much", b"z" * 100_000))
    assert one.link.waiting > 4_000_000
    one.link.close()
    theirs.close()
