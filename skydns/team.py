# SPDX-License-Identifier: Apache-2.0
"""`-workers N`: what the parent of N answering processes does for them, and they ask of it.

::

    parent   mirror ─ feed ─► workers          opens all sockets, keeps them open
             whole daemon, but silent ……… answers on a worker's sockets while that one is down
    worker   the same daemon on the parent's feed and sockets; asks for cookies' secret, address,
             serials, leases, transfers and what is held back

The parent holds the same index as its workers, so nobody waits for a worker that died: the
parent answers in its place until it serves again.

`-rrl` is counted in memory that all share; bounds on connections are dealt out in equal parts (a
client's ports spread over all workers).
Transfers are made by the parent: one history for IXFR, and no answer waits for them.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fairlead.etcd.errors import Unavailable
from fairlead.etcd.types import LeaseID
from fairlead.workers.worker import ParentError, Worker
from skydns import listening
from skydns.apply import LeaseTimes, Publisher
from skydns.config import Config
from skydns.joint import Joint
from skydns.listening import Opened
from skydns.live import Live
from skydns.records import Service
from skydns.server import Server
from skydns.transfer import Transfers

if TYPE_CHECKING:
    import socket

    from fairlead.runtime import Runtime
    from fairlead.workers.parent import Workers

_PATIENCE: Final = 10.0  # seconds to wait for the parent
_FRESH: Final = 5.0  # seconds for which what etcd said of a lease does for all workers
_MOST_LEASES: Final = 100_000


class Parent:
    """The parent's side.

    Args:
        publisher: of the parent's own index.
        lease_times: asks etcd.
        good: the records that are in the store now, by key.
    """

    def __init__(
        self,
        config: Config,
        runtime: Runtime,
        publisher: Publisher,
        lease_times: Callable[[LeaseID], Awaitable[LeaseTimes]],
        good: Callable[[], Mapping[bytes, Service]],
    ) -> None:
        self._good = good
        self._config = config
        self._runtime = runtime
        self._publisher = publisher
        leases = Leases(lease_times, runtime.clock.monotonic)
        self._turned = [asyncio.Event() for _ in range(config.workers)]
        self._states = ["down"] * config.workers
        self._stopping = False
        self.secret = config.cookie_secret or secrets.token_bytes(16)
        self.stand_ins: list[list[Server]] = []
        self.workers: Workers = runtime.workers(config.workers)
        self.workers.turned = self._turn
        self.workers.feed(runtime.mirrors["skydns"])
        seats = config.workers + 1  # this process's too: it stands in for those that are down
        table = Joint.make(seats)
        self.joint = Joint(os.dup(table), seats, config.workers, self.secret)
        self.workers.on("secret", lambda *_: (self.secret, os.getpid(), table))
        self.workers.on("serials", self._serials)
        self.workers.on("lease", lambda _, lease: leases.times(LeaseID(lease)))
        self.workers.on("held", lambda *_: self._held())
        runtime.on_drain(self._drain)

    def hand_out(self, opened: Sequence[Opened], live: Live, server: Server) -> None:
        """Give each worker its sockets; answer on them here while it does not."""
        body = [live.address, [(each.kind, len(each.sockets[0])) for each in opened]]

        def of(number: int) -> list[socket.socket]:
            return [sock for each in opened for sock in each.sockets[number]]

        self.workers.tell("sockets", body, keep="sockets", sockets=of)
        for number in range(self._config.workers):
            given = [(each.kind, each.sockets[number]) for each in opened]
            self.stand_ins.append([server.sibling()])
            self._turned[number].set()
            self._runtime.tasks.start(f"stand-in {number}", self._stand_in(number, given))

    def make_transfers(self, transfers: Transfers) -> None:
        """Make the transfers that workers are asked for: one history, one serial for all of them."""

        async def messages(number: int, body: Any) -> list[bytes]:
            del number
            data, host = body
            return [each async for each in transfers.messages(data, host)]

        self.workers.on("transfer", messages)

    # ── in a worker's place

    def _turn(self, number: int, state: str) -> None:
        self._states[number] = state
        self._turned[number].set()

    async def _stand_in(
        self, number: int, given: Sequence[tuple[str, Sequence[socket.socket]]]
    ) -> None:
        """Answer on a worker's sockets whenever it does not serve."""
        standing = False
        while True:
            await self._turned[number].wait()
            self._turned[number].clear()
            wanted = self._states[number] != "serving" and not self._stopping
            servers = self.stand_ins[number]
            if wanted and not standing:
                # asyncio closes the sockets it listens on: it gets duplicates
                dups = [(kind, [sock.dup() for sock in some]) for kind, some in given]
                servers += await listening.adopt(self._config, self._runtime, servers[0], dups)
            elif standing and not wanted:
                for each in servers:
                    each.retire()
                del servers[1:]
            standing = wanted

    async def _drain(self) -> None:
        self._stopping = True
        for event in self._turned:
            event.set()

    # ── what workers ask

    async def _serials(self, number: int, body: Any) -> Any:
        """Return the serials in force, as soon as there are any."""
        del number, body
        await self._publisher.whole.wait()
        served = self._publisher.answers.served
        return served.start_serial, served.serials

    async def _held(self) -> list[Service]:
        """Return the records that are gone from the store, and served until somebody releases that."""
        await self._publisher.whole.wait()
        there = self._good()
        index = self._publisher.answers.served.index
        return [service for key, service in index.services.items() if key not in there]


class Leases:
    """What etcd said of leases, for all workers: each asks about every lease it holds.

    Args:
        ask: asks etcd.
        now: monotonic seconds.
    """

    def __init__(
        self, ask: Callable[[LeaseID], Awaitable[LeaseTimes]], now: Callable[[], float]
    ) -> None:
        self._ask = ask
        self._now = now
        self._known: dict[LeaseID, tuple[float, LeaseTimes]] = {}

    async def times(self, lease: LeaseID) -> LeaseTimes:
        """Return how long a lease goes on; what is `_FRESH` is counted down here."""
        now = self._now()
        if (known := self._known.get(lease)) is not None:
            age, (left, granted) = now - known[0], known[1]
            if age < _FRESH and left > age:
                return left - age, granted
        if len(self._known) >= _MOST_LEASES:
            self._known.clear()
        found = await self._ask(lease)
        self._known[lease] = now, found
        return found


@dataclass(frozen=True, slots=True)
class Given:
    """What the parent has opened for a worker."""

    address: tuple[str, int]
    sockets: tuple[tuple[str, list[socket.socket]], ...]


class Member:
    """A worker's side."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._given: asyncio.Future[Given] = asyncio.get_running_loop().create_future()
        worker.on("sockets", self._take)

    def _take(self, body: Any, sockets: list[socket.socket]) -> None:
        address, kinds = body
        rest = iter(sockets)
        some = tuple((kind, [next(rest) for _ in range(count)]) for kind, count in kinds)
        self._given.set_result(Given((address[0], address[1]), some))

    async def given(self) -> Given:
        """Return what the parent opened."""
        return await self._given

    async def shared(self) -> tuple[bytes, Joint]:
        """Return what cookies are made with, and where replies are counted: a client's next query may come to another worker."""
        secret, pid, table = await self._call("secret")
        worker = self._worker
        joint = Joint(Joint.opened(pid, table), worker.count + 1, worker.number, bytes(secret))
        return bytes(secret), joint

    async def serials(self) -> tuple[int, dict[bytes, int]]:
        """Return the zones' serials: they must not depend on which worker is asked."""
        start, serials = await self._worker.call("serials")
        return start, serials

    async def held(self) -> list[Service]:
        """Return the records that others serve although they are gone from the store."""
        return msgspec.convert(await self._call("held"), list[Service])

    async def messages(self, data: bytes, host: str) -> AsyncIterator[bytes]:
        """Yield the messages of a transfer, which the parent makes (`transfer.Source`).

        Raises:
            ConnectionAbortedError: it is going down.
        """
        try:
            found = await self._worker.call("transfer", (data, host))
        except ParentError as error:
            raise ConnectionAbortedError(f"the parent makes no transfer: {error}") from error
        for each in found:
            yield each

    async def lease_times(self, lease: LeaseID) -> LeaseTimes:
        """Return how long a lease goes on.

        Raises:
            Unavailable: the parent cannot say now.
        """
        left, granted = await self._call("lease", int(lease))
        return left, granted

    async def _call(self, topic: str, body: Any = None) -> Any:
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._worker.call(topic, body)
        except (ParentError, TimeoutError) as error:
            raise Unavailable(f"the parent does not answer: {error}") from error
