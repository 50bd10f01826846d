# SPDX-License-Identifier: Apache-2.0
"""What a daemon's serve() works with: mirrors, records, loops, health, drain, workers.

::

    mirror(…), source(…) ─► records(…) ─► reconcile(…) ─► ready()   READY=1, or the plan printed
    on_drain, on_reload: called by `fairlead.life`      workers(…): other processes that serve
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Never, TypeVar

from fairlead import admin, log
from fairlead.clock import SYSTEM, Clock
from fairlead.errors import ConfigError, ConfigErrors, RecordError
from fairlead.etcd.mirror import Mirror, Snapshot, Source
from fairlead.etcd.store import Store
from fairlead.etcd.types import KeyRange
from fairlead.flags import UsageError, Values
from fairlead.health import Health
from fairlead.metrics import Metrics, View
from fairlead.notify import Notify
from fairlead.program import Program, load
from fairlead.reconcile import Loop, Pass
from fairlead.reconcile import run as reconcile
from fairlead.records import Records
from fairlead.tasks import Tasks
from fairlead.telemetry import Telemetry

if TYPE_CHECKING:
    from fairlead.workers.parent import Workers
    from fairlead.workers.worker import Worker

State = TypeVar("State")
Action = TypeVar("Action")

_WAIT_SECONDS: Final = (
    3.0  # longer than a mirror's patience with etcd, before "waiting for etcd" is said
)
_CERTIFICATES_SECONDS: Final = 6 * 3600.0


class Planned(BaseException):
    """`-plan` has printed what it should; unwinds serve()."""


class Runtime:
    """What a daemon's serve() works with.

    Attributes:
        store: etcd; not there where the configuration needs none, nor in a worker.
        worker: this process as a worker of another (`fairlead.workers`); None: it is none.
        team: the workers of this process; None: it has none, and serves itself.
        tasks: start(name, coroutine): ends the daemon when it ends; once(…): may end.
        health: conditions; `first-sync` and `serving` are kept here.
        metrics: the shared families; `metrics.registry` for the daemon's own.
        routes: of the admin sockets, (method, path) → route; a daemon may add its own.
        planning: `-plan` was given: do nothing, open nothing; `ready` prints and ends.
        max_removals: promise 8's share, for the daemon's `Guard`.
        refused: configurations that a reload did not take over, for their faults.
    """

    def __init__(
        self,
        program: Program[Any],
        values: Values,
        logger: log.Log,
        environ: Mapping[str, str],
        clock: Clock = SYSTEM,
        argv: Sequence[str] = (),
    ) -> None:
        self.program = program
        self.values = values
        self.log = logger
        self.clock = clock
        self.environ = environ
        self.started = clock.wall()
        self.health = Health(clock)
        self.metrics = Metrics(program.name, self._views)
        self.notify = Notify(environ)
        self.planning = bool(program.setting(values, "plan"))
        self.max_removals = float(str(program.setting(values, "max-removals")))
        self.worker: Worker | None = None
        self.team: Workers | None = None
        self.mirrors: dict[str, Mirror] = {}
        self._sources: list[Source] = []
        self.loops: dict[str, Loop[Any, Any]] = {}
        self.rejecting: dict[str, Records[Any]] = {}
        self.states: dict[str, Callable[[], object]] = {}
        self.routes: dict[tuple[str, str], admin.Route] = {}
        self.endpoints: tuple[str, ...] = ()
        self.etcd_files: tuple[str, ...] = ()
        self.telemetry = Telemetry(self.log, self.metrics, self.health)
        self.tasks: Tasks
        self.store: Store
        self.refused = 0
        self._drains: list[Callable[[], Awaitable[None]]] = []
        self._reloads: list[Callable[[Any], Awaitable[None] | None]] = []
        self._ready = False
        self._in_sync = False
        self._argv = tuple(argv)
        self.health.watch(self.metrics.note_condition)
        self.health.set("first-sync", True, required=True)
        self.health.set("serving", False, "starting", required=True)

    # ------------------------------------------------------------------ what a daemon hangs in

    def mirror(self, name: str, ranges: KeyRange | Sequence[KeyRange]) -> Mirror:
        """Follow some keys, with a last-known-good file, metrics and health; subscribe at once."""
        mirror = Mirror(
            self.store,
            ranges,
            name=name,
            snapshot=self._state_file(name, ranges),
            clock=self.clock,
            observer=self.telemetry,
        )
        self.mirrors[name] = mirror
        self.tasks.start(f"mirror {name}", mirror.run())
        self._await_first(mirror)
        return mirror

    def source(self, name: str, ranges: KeyRange | Sequence[KeyRange]) -> Source:
        """Follow some keys: by a mirror; in a worker, by the parent's of that name."""
        if self.worker is None:
            return self.mirror(name, ranges)
        feed = self.worker.feed(name)
        self._await_first(feed)
        return feed

    def workers(self, count: int) -> Workers:
        """Have `count` processes serve instead of this one; feed them what they need.

        They run this program's serve() with `worker` set. They are started once what is told
        them before the next await is in their queues.
        """
        from fairlead.workers.parent import Workers, command

        words = command(self._argv)
        team = Workers(
            count, words, self.log, environ=self.environ, changed=self._team_changed, clock=self.clock
        )  # fmt: skip
        self.team = team
        self.metrics.watch_workers(team.running)
        self._team_changed()
        self.tasks.start("workers", team.run())
        self.on_drain(team.drain)
        self.on_reload(lambda _: team.reload())
        return team

    def _team_changed(self) -> None:
        """State whether all workers serve."""
        team = self.team
        if team is None:
            return
        down = [f"worker {each.number} is {each.state}" for each in team.running() if each.state != "serving"]  # fmt: skip
        self.health.set("workers", not down, "; ".join(down))

    def records(self, name: str, records: Records[Any]) -> None:
        """Count, log and list the values that `records` rejects, those already rejected too."""

        def rejected(error: RecordError) -> None:
            key = error.key.decode("utf-8", "backslashreplace")
            self.metrics.rejected.labels(name).inc()
            fields = {"key": key, "revision": error.revision, "reason": error.reason}
            self.log.warning("record rejected", **fields)

        self.rejecting[name] = records
        records.on_reject = rejected
        for error in records.rejected.values():
            rejected(error)

    def reconcile(
        self,
        loop: Loop[State, Action],
        *mirrors: Source,
        ready: Callable[[], Awaitable[None]] | None = None,
        quiet: bool = False,
    ) -> asyncio.Task[Never] | None:
        """Run a loop after the first snapshot of `mirrors`; hooks log, metrics, health, plan.

        Args:
            ready: waited for as well, e.g. for a source that is no mirror.
            quiet: the daemon itself logs what was refused.

        Returns:
            The loop's task, for `forget`; None with `-plan`.
        """
        name = loop.name
        self.loops[name] = loop
        before = loop.observed

        def observed(loop: str, done: Pass[object]) -> None:
            before(loop, done)
            self._note(loop, done, quiet=quiet)

        loop.observed = observed
        self._in_sync = False
        self.health.set("in-sync", False, "no pass yet")

        async def first_snapshots() -> None:
            for mirror in mirrors:
                await mirror.ready()
            if ready is not None:
                await ready()

        if self.planning:
            return None
        return self.tasks.start(f"reconcile {name}", reconcile(loop, first_snapshots))

    def forget(self, name: str, task: asyncio.Task[Never] | None) -> None:
        """End a loop whose subject is gone; it counts no longer for `in-sync`."""
        self.loops.pop(name, None)
        if task is not None:
            task.cancel()
        self._judge()

    def certificates(self, *paths: str) -> None:
        """Export when the certificates in these files end, and warn from 30 days on; "" is none."""
        files = tuple(path for path in paths if path)
        if files and not self.planning:
            self.tasks.start("certificates", self._certificates(files))

    async def _certificates(self, paths: Sequence[str]) -> None:
        from fairlead import tls

        while True:
            for path in paths:
                try:
                    expiry = tls.expiry(path)
                except ConfigError as error:
                    self.log.warning("certificate cannot be read", file=path, reason=error.reason)
                    continue
                self.metrics.certificate_expiry.labels(path).set(expiry.ends)
                warning = expiry.warning(self.clock.wall())
                if warning:
                    self.log.warning("certificate", file=path, expiry=warning)
            await self.clock.sleep(_CERTIFICATES_SECONDS)

    def state(self, name: str, look: Callable[[], object]) -> None:
        """Show what `look` returns (plain values) in /debug/state."""
        self.states[name] = look

    def on_drain(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call at SIGTERM, last registered first, within -drain-timeout for all together."""
        self._drains.append(callback)

    def on_reload(self, callback: Callable[[Any], Awaitable[None] | None]) -> None:
        """Call with the new configuration at SIGHUP, when it is free of faults."""
        self._reloads.append(callback)

    async def synced(self) -> None:
        """Return when every mirror has its first snapshot."""
        for source in tuple(self._sources):
            await source.ready()

    async def ready(self) -> None:
        """State that the daemon serves: READY=1. With `-plan`: print the plans and end."""
        if self.planning:
            await self.synced()
            for loop in self.loops.values():
                for action in await loop.pending():
                    sys.stdout.write(f"{loop.name}: {action}\n")
            sys.stdout.flush()
            raise Planned
        if not self._ready:
            self._ready = True
            # what is loaded by now mostly stays: the collector need not look at it again and again
            # (100,000 records: 100 ms in which nothing is answered)
            gc.collect()
            gc.freeze()
            self.health.set("serving", True)
            if self.worker is not None:
                self.worker.ready()
            self.notify.send("READY=1", "STATUS=serving")
            self.log.info("ready")

    def status(self, text: str) -> None:
        """Tell the service manager, in a few words, what goes on."""
        self.notify.send(f"STATUS={text}")

    # ------------------------------------------------------------------ inside

    def _views(self) -> list[View]:
        return [
            View(
                name,
                int(mirror.revision),
                len(mirror.data),
                mirror.stale_seconds(),
                mirror.synced and mirror.stale_since is None,
            )
            for name, mirror in self.mirrors.items()
        ]

    def _state_file(self, name: str, ranges: KeyRange | Sequence[KeyRange]) -> Snapshot | None:
        """Return the last-known-good file of a mirror; its name tells cluster and keys apart."""
        directory = state_dir(self.program, self.values, self.environ)
        if directory is None or self.planning:
            return None
        what = f"{sorted(self.endpoints)} {ranges}".encode()
        file = directory / f"{name}-{hashlib.sha256(what).hexdigest()[:12]}.state"
        most = float(str(self.program.setting(self.values, "state-max-age")))
        return Snapshot(file, max_age=most or None, clock=self.clock)

    def _await_first(self, source: Source) -> None:
        self._sources.append(source)
        self.health.set("first-sync", False, "waiting for etcd")
        self.tasks.once(f"first sync {source.name}", self._first_sync(source))

    async def _first_sync(self, source: Source) -> None:
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await source.ready()
        except TimeoutError:
            if self.worker is None:  # else the parent says it
                where = ",".join(self.endpoints)
                why = f"etcd at {where} does not answer and there is no state file to serve from"
                self.health.set("first-sync", False, why)
                self.log.warning("waiting for etcd", mirror=source.name, endpoints=where)
                self.status(f"waiting for etcd at {where}")
            await source.ready()
        if all(other.synced for other in self._sources):
            self.health.set("first-sync", True)

    def _note(self, name: str, done: Pass[object], *, quiet: bool = False) -> None:
        self.metrics.note_pass(
            name, done, self.clock.wall(), left=name in self.loops and bool(self.loops[name].undone)
        )
        for error in () if quiet else done.failures:
            self.log.warning("action failed", loop=name, action=error.action, reason=error.reason)
        if done.held:
            self.log.error(
                "removals held back: too large a share of what stands",
                loop=name,
                removals=done.held,
                release=f"fairlead plan --release {self.program.name}",
            )
        if not self._in_sync or (name in self.loops and self.loops[name].undone):
            self._judge()  # it asks every loop, and a daemon may have hundreds

    def _judge(self) -> None:
        """Set the condition `in-sync` from what every loop has undone."""
        faults = [fault for loop in self.loops.values() if (fault := _undone(loop))]
        seen = all(loop.last is not None for loop in self.loops.values())
        self._in_sync = seen and not faults
        if seen or faults:
            self.health.set("in-sync", not faults, "; ".join(faults))

    def release(self) -> None:
        """Let every loop, the workers' too, carry out the removals that its guard held back."""
        for loop in self.loops.values():
            loop.release()
        if self.team is not None:
            self.team.release()

    async def caught_up(self) -> None:
        """Return when every loop that runs has looked at all that is marked now."""
        for loop in tuple(self.loops.values()):
            await loop.caught_up()

    async def drain(self, seconds: float) -> None:
        """Run the drain callbacks, for so long at most; 0: as long as they take."""
        self.health.set("serving", False, "stopping")
        self.notify.send("STOPPING=1", "STATUS=stopping")
        try:
            async with asyncio.timeout(seconds or None):
                for callback in reversed(self._drains):
                    await callback()
        except TimeoutError:
            self.log.warning("drain cut short", seconds=seconds)

    async def reload(self) -> None:
        """Read the configuration again; keep the old one when it is faulty."""
        try:
            values = load(self.program.settings, self._argv, self.environ)
            # files that it reads may be large, and what is served meanwhile shall not wait
            config = await asyncio.to_thread(self.program.configure, values)
        except (ConfigErrors, ConfigError, UsageError) as error:
            self.refused += 1
            for line in str(error).splitlines():
                self.log.error("configuration not reloaded", reason=line)  # noqa: TRY400
            return
        before, after = self.values.fingerprint(), values.fingerprint()
        changed = {name for name in after if after[name] != before.get(name)}
        self.notify.reloading()
        for callback in self._reloads:
            answer = callback(config)
            if answer is not None:
                await answer
        if self._ready:
            self.notify.send("READY=1")
        stuck = sorted(changed - self.program.live)
        if stuck:
            self.log.warning("settings need a restart", settings=",".join(stuck))
        self.values = values
        self.log.info("configuration reloaded", changed=",".join(sorted(changed)))


def _undone(loop: Loop[Any, Any]) -> str:
    """Say what a loop could not do yet; "" when it did all."""
    failures = [str(error) for done in loop.undone for error in done.failures]
    held = sum(done.held for done in loop.undone)
    if not loop.undone:
        return ""
    first = f": {failures[0]}" if failures else ""
    return f"{loop.name}: {len(failures)} actions failed, {held} held back{first}"


def state_dir(program: Program[Any], values: Values, environ: Mapping[str, str]) -> Path | None:
    """Return where the last-known-good files are; None: nowhere."""
    wanted = str(program.setting(values, "state-dir"))
    if not wanted:
        return None
    if wanted != "auto":
        return Path(wanted)
    if os.geteuid() == 0:
        return Path("/var/lib/fairlead") / program.name
    home = environ.get("XDG_STATE_HOME") or f"{environ.get('HOME', '')}/.local/state"
    return Path(home) / "fairlead" / program.name if home.startswith("/") else None
