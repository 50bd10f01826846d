# SPDX-License-Identifier: Apache-2.0
"""The workers, seen from the parent: started, fed, told, watched, started again, drained.

::

    run() ─► start ─► starting ─ Ready ─► serving ─ Drain ─► ended
               ▲                             │ died, or silent for 30 s: killed
               └────── a delay that grows ◄──┘

A worker that starts gets, in this order: every feed's snapshot, then all that was told with a
name (`keep`) and still counts. From then on it gets what all get.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Never

from fairlead.backoff import Backoff
from fairlead.clock import SYSTEM, Clock
from fairlead.errors import FairleadError
from fairlead.etcd.mirror import Mirror
from fairlead.log import Log
from fairlead.workers.feeds import Feed
from fairlead.workers.figures import Figures, summed
from fairlead.workers.link import Link, pair
from fairlead.workers.messages import (
    Answer,
    Applied,
    Call,
    Drain,
    Message,
    Ping,
    Ready,
    Release,
    Reload,
    Tell,
)
from fairlead.workers.page import Page
from fairlead.workers.worker import VARIABLE, Place

if TYPE_CHECKING:
    from asyncio.subprocess import Process

PING_SECONDS: Final = 2.0
SILENT_SECONDS: Final = (
    30.0  # a full collection or a huge snapshot stops a loop for a second or two
)
_SETTLED_SECONDS: Final = 30.0  # who lived so long and dies is started at once
_NOT_OURS: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")  # fmt: skip

Body = Any
"""What MessagePack knows: None, numbers, text, octets, lists, maps, and dataclasses of these."""
Told = Callable[[int, Body], Body | Awaitable[Body]]
"""Takes the number of a worker and what it tells; what it returns answers a call."""
SocketsOf = Callable[[int], Sequence[socket.socket]]
"""Which sockets go to the worker of a number."""


@dataclass(frozen=True, slots=True)
class Running:
    """What status shows of one worker.

    Attributes:
        state: starting, serving or down.
        revisions: of each feed, up to which its loops have applied it.
        restarts: how often it was started again.
    """

    number: int
    pid: int
    state: str
    revisions: Mapping[str, int]
    restarts: int


@dataclass(slots=True, eq=False)
class _Seat:
    """One worker's place, taken by one process after the other."""

    number: int
    process: Process | None = None
    link: Link | None = None
    page: Page | None = None
    state: str = "down"
    heard: float = 0.0
    restarts: int = 0
    revisions: dict[str, int] = field(default_factory=dict)
    told: int = 0  # tells sent to this process; `seen`: of these its loops have looked at
    seen: int = 0


@dataclass(frozen=True, slots=True)
class _Kept:
    tell: Tell
    sockets: SocketsOf | None


def command(argv: Sequence[str]) -> list[str]:
    """Return how this very program was started, but with the arguments `argv`."""
    head = sys.orig_argv[1 : len(sys.orig_argv) - (len(sys.argv) - 1)]
    return [sys.executable, *head, *argv]


class Workers:
    """N processes that serve.

    Args:
        words: the command line that starts one (`command`).
        changed: called when a worker begins or ceases to serve.

    Attributes:
        turned: called with a worker's number and its new state: starting, serving or down.
    """

    def __init__(
        self,
        count: int,
        words: Sequence[str],
        log: Log,
        *,
        environ: Mapping[str, str] = os.environ,
        changed: Callable[[], None] = lambda: None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._words = tuple(words)
        self._log = log
        self._clock = clock
        self._changed = changed
        self.turned: Callable[[int, str], None] = lambda number, state: None
        self._environ = {n: text for n, text in environ.items() if n not in _NOT_OURS}
        self._seats = [_Seat(number) for number in range(count)]
        self._feeds: list[Feed] = []
        self._kept: dict[object, _Kept] = {}
        self._topics: dict[str, Told] = {}
        self._gone = Figures()  # what workers that are gone had counted
        self._stopping = False
        self._moved = asyncio.Event()
        self._answering: set[asyncio.Task[None]] = set()
        self._fault: asyncio.Future[Never] | None = None

    # ------------------------------------------------------------------ what they get

    def feed(self, mirror: Mirror) -> None:
        """Let `Runtime.mirror(name, …)` in the workers give what this mirror holds."""
        feed = Feed(mirror.name, mirror)
        self._feeds.append(feed)
        for seat in self._seats:
            if seat.link is not None:
                feed.add(seat.link)

    def tell(
        self,
        topic: str,
        body: Body = None,
        *,
        keep: object = None,
        sockets: SocketsOf | None = None,
    ) -> None:
        """Tell all workers something.

        Args:
            keep: a name under which it is told again to a worker that starts, in the place of
                what was told before under that name; until `forget`.
            sockets: which sockets go with it. They stay the caller's, and must stay open as long
                as it is kept.
        """
        kept = _Kept(Tell(topic, body), sockets)
        if keep is not None:
            self._kept[keep] = kept
        for seat in self._seats:
            self._tell(seat, kept)

    def forget(self, keep: object) -> None:
        """Tell it no more to workers that start."""
        self._kept.pop(keep, None)

    def tell_one(self, number: int, topic: str, body: Body = None) -> None:
        """Tell one worker something; nothing happens while it is down."""
        self._tell(self._seats[number], _Kept(Tell(topic, body), None))

    def on(self, topic: str, told: Told) -> None:
        """Have `told` called with what workers tell or ask under a topic."""
        self._topics[topic] = told

    def reload(self) -> None:
        """Let the workers read the configuration again."""
        for seat in self._seats:
            if seat.link is not None:
                seat.link.send(Reload())

    def release(self) -> None:
        """Let the workers carry out the removals that they held back."""
        for seat in self._seats:
            if seat.link is not None:
                seat.link.send(Release())

    # ------------------------------------------------------------------ what is known of them

    def running(self) -> list[Running]:
        """Return what there is to say of each."""
        return [
            Running(
                seat.number,
                seat.process.pid if seat.process else 0,
                seat.state,
                dict(seat.revisions),
                seat.restarts,
            )
            for seat in self._seats
        ]

    @property
    def serving(self) -> bool:
        """Say whether every worker serves."""
        return all(seat.state == "serving" for seat in self._seats)

    def figures(self) -> Figures:
        """Return what all have counted, those that are gone too, and what is so in them now."""
        pages = [seat.page for seat in self._seats if seat.page is not None]
        return summed((self._gone, *(Figures.decode(page.read()) for page in pages)))

    async def ready(self) -> None:
        """Return when every worker serves."""
        while not self.serving:
            await self._moved.wait()

    async def caught_up(self) -> None:
        """Return when every worker that serves has applied all that was sent until now."""
        target = {feed.name: feed.sent for feed in self._feeds}
        tells = {seat: (seat.process, seat.told) for seat in self._seats}

        def behind(seat: _Seat) -> bool:
            process, told = tells[seat]
            if seat.state != "serving":
                return False
            late = any(seat.revisions.get(name, 0) < at for name, at in target.items())
            return late or (seat.process is process and seat.seen < told)

        while any(map(behind, self._seats)):
            await self._moved.wait()

    # ------------------------------------------------------------------ life

    async def run(self) -> Never:
        """Keep all of them running until cancelled; then they are killed. Run once."""
        self._fault = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            group.create_task(_raised(self._fault), name="what workers tell")
            for seat in self._seats:
                group.create_task(self._keep(seat), name=f"worker {seat.number}")
            group.create_task(self._ping(), name="workers' signs of life")
        raise AssertionError("the tasks of workers never end by themselves")

    async def drain(self) -> None:
        """Let all finish what is under way; return when they have ended. Bound it with a timeout."""
        self._stopping = True
        for seat in self._seats:
            if seat.link is not None:
                seat.link.send(Drain())
        while any(seat.process is not None for seat in self._seats):
            await self._moved.wait()

    async def _keep(self, seat: _Seat) -> Never:
        backoff = Backoff(first=0.2, most=15.0)
        while True:
            begun = self._clock.monotonic()
            status = await self._live(seat)
            if self._stopping:
                await asyncio.Event().wait()
            if self._clock.monotonic() - begun > _SETTLED_SECONDS:
                backoff.reset()
            delay = backoff.next() if backoff.failures else 0.0
            backoff.failures += not backoff.failures
            self._log.error(
                "worker ended; it is started again", worker=seat.number, ended=_how(status),
                wait_seconds=round(delay, 1),
            )  # fmt: skip
            seat.restarts += 1
            await self._clock.sleep(delay)

    async def _live(self, seat: _Seat) -> int:
        """Start a process in a seat; return its status when it is over."""
        ours, theirs = pair()
        page = Page.make()
        place = Place(seat.number, len(self._seats), theirs.fileno(), page.descriptor)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._words,
                stdin=asyncio.subprocess.DEVNULL,
                env={**self._environ, VARIABLE: place.text()},
                pass_fds=(theirs.fileno(), page.descriptor),
                start_new_session=True,  # Ctrl-C is the parent's to hear
            )
        except BaseException:
            ours.close()
            page.close()
            raise
        finally:
            theirs.close()
        link = Link(ours, lambda message, _: self._hear(seat, message), lambda: None)
        seat.process, seat.link, seat.page = process, link, page
        seat.heard, seat.revisions, seat.told, seat.seen = self._clock.monotonic(), {}, 0, 0
        self._turn(seat, "starting")
        self._log.info("worker started", worker=seat.number, pid=process.pid)
        try:
            for feed in self._feeds:
                feed.add(link)
            for kept in self._kept.values():
                self._tell(seat, kept)
            if self._stopping:
                link.send(Drain())
            return await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await asyncio.shield(process.wait())
            self._vacate(seat, link, page)

    def _vacate(self, seat: _Seat, link: Link, page: Page) -> None:
        """Let go of a process that is over; what it had counted stays."""
        for feed in self._feeds:
            feed.drop(link)
        link.close()
        self._gone = summed((self._gone, Figures.decode(page.read()).lasting()))
        page.close()
        seat.process = seat.link = seat.page = None
        self._turn(seat, "down")

    async def _ping(self) -> Never:
        while True:
            await self._clock.sleep(PING_SECONDS)
            now = self._clock.monotonic()
            for seat in self._seats:
                if seat.link is None or seat.process is None:
                    continue
                if now - seat.heard > SILENT_SECONDS:
                    self._log.error(
                        "worker says nothing; it is killed", worker=seat.number, pid=seat.process.pid,
                        silent_seconds=round(now - seat.heard, 1), waiting_octets=seat.link.waiting,
                    )  # fmt: skip
                    with contextlib.suppress(ProcessLookupError):
                        seat.process.kill()
                else:
                    seat.link.send(Ping())

    def _turn(self, seat: _Seat, state: str) -> None:
        seat.state = state
        self._notice()
        self._changed()
        self.turned(seat.number, state)

    def _notice(self) -> None:
        """Wake who waits for something of a worker."""
        self._moved.set()
        self._moved = asyncio.Event()

    # ------------------------------------------------------------------ talk

    def _tell(self, seat: _Seat, kept: _Kept) -> None:
        if seat.link is not None:
            sockets = kept.sockets(seat.number) if kept.sockets is not None else ()
            seat.told += 1
            seat.link.send(kept.tell, [each.fileno() for each in sockets])

    def _hear(self, seat: _Seat, message: Message) -> None:
        """Take a message in; a callback's fault ends the daemon."""
        seat.heard = self._clock.monotonic()
        try:
            self._received(seat, message)
        except Exception as error:  # noqa: BLE001  (raised by `run`, in a task of the daemon)
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        if self._fault is not None and not self._fault.done():
            self._fault.set_exception(error)

    def _received(self, seat: _Seat, message: Message) -> None:
        match message:
            case Ready():
                self._turn(seat, "serving")
            case Applied(revisions=revisions, told=told):
                seat.revisions, seat.seen = revisions, told
                self._notice()
            case Tell(topic=topic, body=body):
                self._answer(seat, topic, body, None)
            case Call(number=number, topic=topic, body=body):
                self._answer(seat, topic, body, number)
            case Ping():
                pass  # a sign of life, and noted
            case _:
                raise AssertionError(f"a worker does not send {message}")

    def _answer(self, seat: _Seat, topic: str, body: Body, number: int | None) -> None:
        """Give what a worker says to who wants to know; answer it when it asks."""
        link, told = seat.link, self._topics.get(topic)
        assert link is not None  # noqa: S101  (it is this link that the message came by)
        if told is None:
            if number is None:
                raise LookupError(f'nobody listens to "{topic}", which a worker tells')
            link.send(Answer(number, error=f'nobody answers to "{topic}"'))
            return
        answer = told(seat.number, body)
        if isinstance(answer, Awaitable):
            task = asyncio.ensure_future(self._answer_later(link, number, answer))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif number is not None:
            link.send(Answer(number, answer))

    async def _answer_later(self, link: Link, number: int | None, answer: Awaitable[Body]) -> None:
        try:
            body = await answer
        except FairleadError as error:
            if number is not None:
                link.send(Answer(number, error=str(error)))
        except Exception as error:  # noqa: BLE001  (raised by `run`, in a task of the daemon)
            self._failed(error)
        else:
            if number is not None:
                link.send(Answer(number, body))


async def _raised(fault: asyncio.Future[Never]) -> Never:
    await fault
    raise AssertionError("there is nothing but a fault to wait for")


def _how(status: int) -> str:
    """Say how a process ended."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
