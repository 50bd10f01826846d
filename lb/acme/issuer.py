# SPDX-License-Identifier: Apache-2.0
"""Orders what is due; one node of many at a time for each host.

::

    due ─► lock (create-only, under a lease) ─► seen by our mirror? still due? ─► order ─┐
                                                                                         ▼
    lease revoked: lock and challenges go ◄─── put the pair, if the lock is still ours ◄─┘

The order of writes makes a second order for the same certificate impossible: whoever gets the
lock after us first waits until its own mirror has passed the lock's revision, and so has seen
what we put before we let go.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Never

import aiohttp

from fairlead import __version__
from fairlead.clock import Clock
from fairlead.errors import StoreError
from fairlead.etcd.mirror import Mirror
from fairlead.etcd.store import Store
from fairlead.etcd.types import Compare, Delete, KeyRange, LeaseID, Put, Result, Revision, Target
from fairlead.log import Log
from fairlead.tls import trusting
from lb import keys
from lb.acme import entries, jws
from lb.acme.client import AcmeError, Client, External, Unproven
from lb.acme.due import Calendar, pause
from lb.acme.entries import Failure, entry
from lb.catalog import Catalog
from lb.keys import Kind, Ref
from lb.records import AutoCert
from lb.secret import Box, KeyPair, opened

_LOCK_SECONDS: Final = 60
_ORDER_SECONDS: Final = 600.0
_HELD_SECONDS: Final = 30.0  # until we look again whether another node is still at it
_SPREAD: Final = 1.0  # seconds for the other nodes to learn a challenge: the server may ask any
_REST: Final = 3600.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=60.0)


@dataclass(frozen=True, slots=True)
class Links:
    """What an issuer works with.

    Attributes:
        followed: returns when the data plane serves what the catalog says.
        ways: the challenges to try, the likeliest first (`lb.acme.ways`).
        ca: file of the CA of an ACME server of one's own; "" for the system's alone.
    """

    store: Store
    mirrors: Mapping[str, Mirror]
    catalog: Catalog
    box: Box | None
    followed: Callable[[], Awaitable[None]]
    clock: Clock
    log: Log
    ways: Callable[[], tuple[str, ...]]
    ca: str = ""


class Issuer:
    """One node's part in it; `wake` it when hosts or entries changed."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._calendar = Calendar(links.catalog, links.box)
        self._wake = asyncio.Event()
        self._not_before: dict[str, float] = {}  # another node holds the lock; monotonic
        self.orders = {"issued": 0, "failed": 0}

    def wake(self) -> None:
        """Look at once what is due."""
        self._wake.set()

    async def run(self) -> Never:
        """Keep certificates from running out."""
        while True:
            self._wake.clear()
            for host in self._ready():
                try:
                    await self._one(host)
                except (StoreError, TimeoutError) as error:
                    self._rest(host)
                    self._links.log.warning("AutoCert", host=host, why=str(error) or "etcd is slow")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait()):
                    await self._wake.wait()

    def _ready(self) -> list[str]:
        now, wall = self._links.clock.monotonic(), self._links.clock.wall()
        return sorted(
            host
            for host, when in self._calendar.due().items()
            if when <= wall and self._not_before.get(host, 0.0) <= now
        )

    def _wait(self) -> float:
        now, wall = self._links.clock.monotonic(), self._links.clock.wall()
        waits = [
            max(when - wall, self._not_before.get(host, 0.0) - now)
            for host, when in self._calendar.due().items()
        ]
        return min(max(0.05, min(waits, default=_REST)), _REST)

    def _rest(self, host: str) -> None:
        self._not_before[host] = self._links.clock.monotonic() + _HELD_SECONDS

    async def _one(self, host: str) -> None:
        """Order a host's certificate, unless another node is at it or was."""
        links = self._links
        root = self._root(host)
        lease = (await links.store.grant(_LOCK_SECONDS)).id
        lock = keys.build(root, entry(host + entries.LOCK))
        try:
            who = f"{socket.gethostname()} {os.getpid()}".encode()
            done = await links.store.txn(
                compare=[Compare(lock, Target.CREATE, Result.EQUAL, 0)],
                success=[Put(lock, who, lease)],
            )
            if not done.succeeded:
                self._rest(host)
                return
            await self._seen(root, done.header.revision)
            if host in self._ready():
                await self._locked(host, root, lease, lock)
        finally:
            with suppress(StoreError):
                await links.store.revoke(lease)

    async def _locked(self, host: str, root: str, lease: LeaseID, lock: bytes) -> None:
        links = self._links
        auto, box = links.catalog.hosts[host].auto, links.box
        assert auto is not None  # noqa: S101  (due() looked)
        assert box is not None  # noqa: S101
        beat = asyncio.create_task(self._beat(lease), name=f"AutoCert lock {host}")
        issued = keys.build(root, entry(host))
        failed = entry(host + entries.FAILED)
        try:
            async with asyncio.timeout(_ORDER_SECONDS):
                pair = await self._order(host, root, lease, auto)
        except (AcmeError, TimeoutError) as error:
            self.orders["failed"] += 1
            before = links.catalog.failures.get(host)
            tries = getattr(error, "tries", 1) + (before.tries if before is not None else 0)
            wait = pause(tries, getattr(error, "retry_after", 0.0))
            why = str(error) or "the order took too long"
            links.log.warning("AutoCert failed", host=host, why=why, again_seconds=round(wait))
            note = Failure(failed, why, tries, links.clock.wall() + wait)
            put = Put(keys.build(root, failed), note.encode())
            done = await links.store.txn(success=[put], repeatable=True)
        else:
            done = await links.store.txn(
                compare=[Compare(lock, Target.LEASE, Result.EQUAL, lease)],
                success=[
                    Put(issued, box.seal(pair).text().encode()),
                    Delete(KeyRange(keys.build(root, failed))),
                ],
                repeatable=True,
            )
            self.orders["issued"] += 1
            links.log.info("AutoCert issued", host=host, directory=auto.server)
        finally:
            beat.cancel()
        await self._seen(root, done.header.revision)

    async def _order(self, host: str, root: str, lease: LeaseID, auto: AutoCert) -> KeyPair:
        links = self._links
        account, external = await self._account(root, auto), self._external(auto)

        async def publish(way: str, token: str, answer: str) -> None:
            subject = host if way == entries.ALPN else token
            key = keys.build(root, entry(entries.challenge(way, subject)))
            done = await links.store.put(key, answer.encode(), lease=lease, repeatable=True)
            await self._seen(root, done.header.revision)
            await links.clock.sleep(_SPREAD)

        context = trusting()
        if links.ca:
            context.load_verify_locations(links.ca)
        key = jws.new_key()
        async with aiohttp.ClientSession(
            timeout=_TIMEOUT,
            connector=aiohttp.TCPConnector(ssl=context),
            headers={"User-Agent": f"fairlead-lb/{__version__}"},
        ) as session:
            client = Client(session, auto.server, account, external)
            chain = await _by_any(
                links.ways(),
                lambda way: client.certificate(host, key, auto.email, way, partial(publish, way)),
            )
            return KeyPair(key, chain)

    def _external(self, auto: AutoCert) -> External | None:
        if auto.external_key is None:
            return None
        try:
            return External(
                auto.external_id, jws.unb64(opened(auto.external_key, self._links.box).key)
            )
        except ValueError as error:
            raise AcmeError(f"the external account's key: {error}") from error

    async def _account(self, root: str, auto: AutoCert) -> jws.AccountKey:
        """Return the account's key: the host's own, the stored one, or a new one that is stored."""
        links = self._links
        assert links.box is not None  # noqa: S101  (due() looked)
        name = entries.account(auto.server, auto.email, auto.external_id)
        pair = auto.key
        if pair is None and name not in links.catalog.accounts:
            key = keys.build(root, entry(name))
            sealed = links.box.seal(KeyPair(jws.new_key(), b""))
            done = await links.store.txn(
                compare=[Compare(key, Target.CREATE, Result.EQUAL, 0)],
                success=[Put(key, sealed.text().encode())],
                repeatable=True,
            )
            await self._seen(root, done.header.revision)
        if pair is None:
            pair = links.catalog.accounts[name].pair
        try:
            return jws.AccountKey(opened(pair, links.box).key)
        except ValueError as error:
            raise AcmeError(f"the account's key: {error}") from error

    async def _beat(self, lease: LeaseID) -> None:
        """Keep the lock; who loses it finds out when the pair is to be put."""
        while True:
            await self._links.clock.sleep(_LOCK_SECONDS / 3)
            with suppress(StoreError):
                await self._links.store.keep_alive(lease)

    async def _seen(self, root: str, revision: Revision) -> None:
        async with asyncio.timeout(10.0):
            await self._links.mirrors[root].at_least(revision)
            await self._links.followed()

    def _root(self, host: str) -> str:
        """Return the root under which a host's key stands."""
        key = self._links.catalog.key(Ref(Kind.HOST, host))
        return next(root for root in self._links.mirrors if key.startswith(f"{root}/".encode()))


async def _by_any(ways: tuple[str, ...], order: Callable[[str], Awaitable[bytes]]) -> bytes:
    """Return a certificate by the first challenge that the server is content with.

    Each is an order of its own: one refused challenge ends an order (RFC 8555 §7.1.6).

    Raises:
        AcmeError: why not, of each; it counts as so many failures, for servers count them too.
    """
    refused: list[Unproven] = []
    for way in ways:
        try:
            return await order(way)
        except Unproven as error:
            refused.append(error)
    raise AcmeError(
        "; ".join(map(str, refused)),
        retry_after=max(error.retry_after for error in refused),
        tries=len(refused),
    )
