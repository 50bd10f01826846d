# SPDX-License-Identifier: Apache-2.0
"""One worker, seen from within: what the parent feeds and tells, and what it is told back.

::

    parent ═ link ═► feeds: Relayed, as if it were a mirror
                 └─► topics: callbacks of the daemon, with the sockets that came along
    loops caught up ─► Applied ═► parent            page ◄─ figures, once a second

What comes before somebody asks for it (a feed, a topic) is kept until then, in order.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Never

from fairlead.errors import FairleadError
from fairlead.workers.feeds import Relayed
from fairlead.workers.figures import Figures
from fairlead.workers.link import Link
from fairlead.workers.messages import (
    Answer,
    Applied,
    Call,
    Drain,
    Message,
    Part,
    Ping,
    Ready,
    Release,
    Reload,
    Tell,
)
from fairlead.workers.page import Page

VARIABLE: Final = "FAIRLEAD_WORKER"
"""Environment variable by which a process knows that it is a worker, and which."""
_FIGURES_SECONDS: Final = 1.0

Told = Callable[[Any, list[socket.socket]], None]
"""Takes what the parent tells and the sockets that came with it, which are its own from then on."""


class ParentError(FairleadError):
    """The parent did not answer, or refused: it is going down, or knows no such topic."""

    transient = True


@dataclass(frozen=True, slots=True)
class Place:
    """Which worker a process is, and its file descriptors."""

    number: int
    count: int
    link: int
    page: int

    def text(self) -> str:
        """Return it as the environment has it."""
        return f"{self.number},{self.count},{self.link},{self.page}"


def place(environ: MutableMapping[str, str]) -> Place | None:
    """Return which worker this process is; None: it is none.

    The variable is taken out of `environ`, and the descriptors are kept to ourselves: what this
    process starts is no worker.
    """
    text = environ.pop(VARIABLE, "")
    if not text:
        return None
    found = Place(*map(int, text.split(",")))
    os.set_inheritable(found.link, False)
    os.set_inheritable(found.page, False)
    return found


class Worker:
    """This process as a worker.

    Attributes:
        number: 0 and up.
        count: how many there are.
        drained: set when the parent wants us to end, or is gone.
        reload: called when the configuration is to be read again.
        release: called when removals that were held back are to be carried out.
    """

    def __init__(self, where: Place, drained: asyncio.Event) -> None:
        self.number = where.number
        self.count = where.count
        self.drained = drained
        self.reload: Callable[[], None] = lambda: None
        self.release: Callable[[], None] = lambda: None
        self._page = Page(where.page)
        self._fault: asyncio.Future[Never] = asyncio.get_running_loop().create_future()
        self._link = Link(socket.socket(fileno=where.link), self._hear, self._orphaned)
        self._feeds: dict[str, Relayed] = {}
        self._early_parts: dict[str, list[Part]] = {}
        self._topics: dict[str, Told] = {}
        self._early_tells: dict[str, list[tuple[Any, list[socket.socket]]]] = {}
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._asked = 0
        self._told = 0
        self._delivered = asyncio.Event()
        self._figures: Callable[[], Figures] | None = None

    # ------------------------------------------------------------------ what the daemon uses

    def feed(self, name: str) -> Relayed:
        """Return what the parent's mirror of that name emits; subscribe before the next await."""
        feed = self._feeds[name] = Relayed(name, self._delivered.set)
        if name in self._early_parts:  # what comes before the loop gets to it queues up behind
            asyncio.get_running_loop().call_soon(self._take_early, name)
        return feed

    def on(self, topic: str, told: Told) -> None:
        """Have `told` called with what the parent tells under a topic, and has told already."""
        self._topics[topic] = told
        for body, sockets in self._early_tells.pop(topic, []):
            told(body, sockets)

    def tell(self, topic: str, body: Any = None) -> None:
        """Tell the parent something."""
        self._link.send(Tell(topic, body))

    async def call(self, topic: str, body: Any = None) -> Any:
        """Ask the parent something; bound it with a timeout.

        Raises:
            ParentError: it knows no such topic, or is going down.
        """
        if self.drained.is_set():
            raise ParentError(f'"{topic}": the parent is going down')
        self._asked += 1
        answer = self._answers[self._asked] = asyncio.get_running_loop().create_future()
        number = self._asked
        self._link.send(Call(number, topic, body))
        try:
            return await answer
        finally:
            del self._answers[number]

    def count_with(self, figures: Callable[[], Figures]) -> None:
        """Have these figures published in shared memory, once a second and at the end."""
        self._figures = figures

    # ------------------------------------------------------------------ what the runtime uses

    def ready(self) -> None:
        """Tell that this worker serves."""
        self._link.send(Ready())

    async def acknowledge(self, caught_up: Callable[[], Awaitable[None]]) -> Never:
        """Tell which revisions are applied, when the loops have caught up."""
        while True:
            await self._delivered.wait()
            self._delivered.clear()
            revisions = {name: int(feed.revision) for name, feed in self._feeds.items()}
            told = self._told
            await caught_up()
            self._link.send(Applied(revisions, told))

    async def listen(self) -> Never:
        """End with the fault of a callback that what came was given to."""
        await self._fault
        raise AssertionError("there is nothing but a fault to wait for")

    async def publish(self) -> Never:
        """Write the figures to the page, again and again."""
        while True:
            await asyncio.sleep(_FIGURES_SECONDS)
            self.publish_now()

    def publish_now(self) -> None:
        """Write the figures to the page."""
        if self._figures is not None:
            self._page.write(self._figures().encode())

    def close(self) -> None:
        """Publish a last time, and let go of parent and page."""
        self.publish_now()
        self._link.close()
        self._page.close()
        self._fault.cancel()

    # ------------------------------------------------------------------ what comes

    def _hear(self, message: Message, descriptors: list[int]) -> None:
        """Take a message in; a callback's fault ends the worker as it would end a lone daemon."""
        try:
            self._received(message, descriptors)
        except Exception as error:  # noqa: BLE001  (raised by `listen`, in a task of the daemon)
            if not self._fault.done():
                self._fault.set_exception(error)

    def _orphaned(self) -> None:
        """The parent is gone: nobody answers any more, and it is time to go."""
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ParentError("the parent is gone"))
        self.drained.set()

    def _take_early(self, name: str) -> None:
        for part in self._early_parts.pop(name):
            self._hear(part, [])

    def _received(self, message: Message, descriptors: list[int]) -> None:
        sockets = [socket.socket(fileno=each) for each in descriptors]
        match message:
            case Part(feed=name):
                if name in self._feeds and name not in self._early_parts:
                    self._feeds[name].take(message)
                else:
                    self._early_parts.setdefault(name, []).append(message)
            case Tell(topic=topic, body=body):
                self._told += 1
                self._delivered.set()
                if topic in self._topics:
                    self._topics[topic](body, sockets)
                else:
                    self._early_tells.setdefault(topic, []).append((body, sockets))
            case Answer(number=number, body=body, error=error):
                self._answered(number, body, error)
            case Ping():
                self._link.send(message)
            case Reload():
                self.reload()
            case Release():
                self.release()
            case Drain():
                self.drained.set()
            case _:
                raise AssertionError(f"a parent does not send {message}")

    def _answered(self, number: int, body: Any, error: str) -> None:
        answer = self._answers.get(number)
        if answer is None or answer.done():
            return  # who asked has given up
        if error:
            answer.set_exception(ParentError(error))
        else:
            answer.set_result(body)
