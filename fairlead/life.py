# SPDX-License-Identifier: Apache-2.0
"""A daemon's life after its configuration: listen, first sync, ready, serve, drain.

::

    admin socket ─► store (etcd, or embedded) ─► serve(config, runtime)
                                                  │ runtime.mirror(…)     tasks, metrics, health
                                                  │ runtime.records(…)
                                                  │ runtime.reconcile(…)
                                                  ▼ runtime.ready()       READY=1
    SIGTERM, SIGINT: STOPPING=1, on_drain callbacks within -drain-timeout, cancel, exit 0
    SIGHUP: configuration again; on_reload callbacks; what needs a restart is named
    SIGUSR1: state, plan, revision and tasks to the log
    a task fails or ends by itself: said with its traceback, exit `failure_exit`
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Never, TypeVar

from fairlead import admin, diagnose, log
from fairlead.clock import SYSTEM, Clock
from fairlead.daemon import Program, load
from fairlead.errors import ConfigError, ConfigErrors, FairleadError, RecordError
from fairlead.etcd.client import connect
from fairlead.etcd.mirror import Mirror, Snapshot
from fairlead.etcd.options import Options
from fairlead.etcd.store import Store
from fairlead.etcd.types import KeyRange
from fairlead.flags import UsageError, Values
from fairlead.health import Health
from fairlead.metrics import Metrics, View
from fairlead.notify import Notify
from fairlead.reconcile import Loop, Pass
from fairlead.reconcile import run as reconcile
from fairlead.records import Records
from fairlead.tasks import TaskEnded, Tasks
from fairlead.telemetry import Telemetry

C = TypeVar("C")
State = TypeVar("State")
Action = TypeVar("Action")

_WAIT_SECONDS: Final = (
    3.0  # longer than a mirror's patience with etcd, before "waiting for etcd" is said
)


_CERTIFICATES_SECONDS: Final = 6 * 3600.0


class _Planned(BaseException):
    """`-plan` has printed what it should; unwinds serve()."""


class Runtime:
    """What a daemon's serve() works with.

    Attributes:
        store: etcd; refuses every call where the configuration needs no etcd.
        tasks: start(name, coroutine): ends the daemon when it ends; once(…): may end.
        health: conditions; `first-sync` and `serving` are kept here.
        metrics: the shared families; `metrics.registry` for the daemon's own.
        routes: of the admin sockets, (method, path) → route; a daemon may add its own.
        planning: `-plan` was given: do nothing, open nothing; `ready` prints and ends.
        max_removals: promise 8's share, for the daemon's `Guard`.
    """

    def __init__(
        self,
        program: Program[Any],
        values: Values,
        logger: log.Log,
        environ: Mapping[str, str],
        clock: Clock = SYSTEM,
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
        self.mirrors: dict[str, Mirror] = {}
        self.loops: dict[str, Loop[Any, Any]] = {}
        self.rejecting: dict[str, Records[Any]] = {}
        self.states: dict[str, Callable[[], object]] = {}
        self.routes: dict[tuple[str, str], admin.Route] = dict(diagnose.routes(self))
        self.endpoints: tuple[str, ...] = ()
        self.etcd_files: tuple[str, ...] = ()
        self.telemetry = Telemetry(self.log, self.metrics, self.health)
        self.tasks: Tasks
        self.store: Store
        self._drains: list[Callable[[], Awaitable[None]]] = []
        self._reloads: list[Callable[[Any], Awaitable[None] | None]] = []
        self._ready = False
        self._in_sync = False
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
        self.health.set("first-sync", False, "waiting for etcd")
        self.tasks.start(f"mirror {name}", mirror.run())
        self.tasks.once(f"first sync {name}", self._first_sync(mirror))
        return mirror

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
        *mirrors: Mirror,
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
        for mirror in tuple(self.mirrors.values()):
            await mirror.ready()

    async def ready(self) -> None:
        """State that the daemon serves: READY=1. With `-plan`: print the plans and end."""
        if self.planning:
            await self.synced()
            for loop in self.loops.values():
                for action in await loop.pending():
                    sys.stdout.write(f"{loop.name}: {action}\n")
            sys.stdout.flush()
            raise _Planned
        if not self._ready:
            self._ready = True
            # what is loaded by now mostly stays: the collector need not look at it again and again
            # (100,000 records: 100 ms in which nothing is answered)
            gc.collect()
            gc.freeze()
            self.health.set("serving", True)
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
                diagnose.stale_seconds(mirror, self.clock),
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

    async def _first_sync(self, mirror: Mirror) -> None:
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await mirror.ready()
        except TimeoutError:
            where = ",".join(self.endpoints)
            why = f"etcd at {where} does not answer and there is no state file to serve from"
            self.health.set("first-sync", False, why)
            self.log.warning("waiting for etcd", mirror=mirror.name, endpoints=where)
            self.status(f"waiting for etcd at {where}")
            await mirror.ready()
        if all(other.synced for other in self.mirrors.values()):
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

    async def drain(self, seconds: float) -> None:
        """Run the drain callbacks."""
        self.health.set("serving", False, "stopping")
        self.notify.send("STOPPING=1", "STATUS=stopping")
        try:
            async with asyncio.timeout(seconds):
                for callback in reversed(self._drains):
                    await callback()
        except TimeoutError:
            self.log.warning("drain cut short", seconds=seconds)

    async def reload(self, argv: Sequence[str]) -> None:
        """Read the configuration again; keep the old one when it is faulty."""
        try:
            values = load(self.program.settings, argv, self.environ)
            config = self.program.configure(values)
        except (ConfigErrors, ConfigError, UsageError) as error:
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


# ---------------------------------------------------------------------- run


def run(program: Program[C], config: C, values: Values, argv: Sequence[str]) -> int:
    """Run a configured daemon to its end; return its exit status."""
    logger = _logger(program, config, values)
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if os.environ.get("FAIRLEAD_UVLOOP", "1") != "0":
        try:
            import uvloop
        except ImportError:
            logger.debug("uvloop is not installed; using asyncio's loop")
        else:
            factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_life(program, config, values, argv, logger))


def _logger(program: Program[C], config: C, values: Values) -> log.Log:
    shape = str(program.setting(values, "log-format"))
    render = log.RENDERERS[shape]
    if shape == "auto" and program.render is not None:
        render = program.render(config) or render
    level = program.log_level(config) if program.log_level else None
    level = level or str(program.setting(values, "log-level"))
    sink = log.Sink(level=log.LEVELS[level.lower()], render=render)
    logger = log.Log(sink)
    for setting in program.settings.all:
        if setting.secret and isinstance(values[setting.name], str):
            logger.hide(values[setting.name])
    log.take_over(logger)
    for warning in values.warnings:
        logger.warning("configuration", warning=warning)
    return logger


async def _life(
    program: Program[C], config: C, values: Values, argv: Sequence[str], logger: log.Log
) -> int:
    runtime = Runtime(program, values, logger, os.environ)
    stopping = asyncio.Event()
    _signals(runtime, stopping)
    try:
        async with AsyncExitStack() as stack:
            if not runtime.planning:
                await _listen(runtime, stack)
            await _open_store(runtime, config, stack)
            return await _serve(runtime, config, stopping, argv)
    except BaseExceptionGroup as group:
        return _fate(program, logger, _leaves(group))
    except _Planned:
        return 0
    except FairleadError as error:
        return _fate(program, logger, [error])


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _fate(program: Program[Any], logger: log.Log, errors: Iterable[BaseException]) -> int:
    """Say why the daemon ends; return its exit status."""
    status = 0
    for error in errors:
        match error:
            case _Planned():
                continue
            case ConfigErrors() | ConfigError():
                for line in str(error).splitlines():
                    logger.error("configuration", reason=line)
                status = status or program.config_exit
            case TaskEnded():
                logger.error("a task ended by itself; so does the daemon", task=error.name)
                status = program.failure_exit
            case FairleadError():
                logger.error("fatal", reason=f"{type(error).__name__}: {error}")
                status = program.failure_exit
            case _:
                logger.fault("fatal", error)
                status = program.failure_exit
    return status


async def _serve(
    runtime: Runtime, config: Any, stopping: asyncio.Event, argv: Sequence[str]
) -> int:
    seconds = float(str(runtime.program.setting(runtime.values, "drain-timeout")))
    status: int | None = 0
    async with Tasks() as tasks:
        runtime.tasks = tasks
        if runtime.notify.watchdog_seconds is not None:
            tasks.start("watchdog", _watchdog(runtime, runtime.notify.watchdog_seconds))
        if runtime.program.reload_on_hup:
            tasks.start("reload on SIGHUP", _reloads(runtime, argv))
        runtime.certificates(*runtime.etcd_files)
        serving = tasks.once("serve", _coroutine(runtime.program.serve(config, runtime)))
        waiting = tasks.once("wait for a signal", _wait(stopping))
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            status = serving.result()
        else:
            runtime.log.info("stopping")
            await runtime.drain(seconds)
        tasks.cancel()
    runtime.log.info("stopped")
    return status or 0


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def _coroutine(work: Awaitable[int | None]) -> int | None:
    return await work


async def _watchdog(runtime: Runtime, seconds: float) -> None:
    """Tell systemd that the loop turns, twice in the time it grants."""
    while True:
        runtime.notify.send("WATCHDOG=1")
        await asyncio.sleep(seconds / 2)


async def _reloads(runtime: Runtime, argv: Sequence[str]) -> None:
    hung_up = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up.set)
    while True:
        await hung_up.wait()
        hung_up.clear()
        await runtime.reload(argv)


def _signals(runtime: Runtime, stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopping.is_set():  # the second one means it
            runtime.log.warning("stopped at once by a second signal")
            os._exit(1)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if runtime.program.dump_on_usr1:
        dumps: set[asyncio.Task[None]] = set()

        def dump() -> None:
            task = loop.create_task(diagnose.dump(runtime), name="dump")
            dumps.add(task)
            task.add_done_callback(dumps.discard)

        loop.add_signal_handler(signal.SIGUSR1, dump)


# ---------------------------------------------------------------------- parts


async def _open_store(runtime: Runtime, config: Any, stack: AsyncExitStack) -> None:
    program = runtime.program
    options = program.etcd(config) if program.etcd is not None else None
    directory = str(program.setting(runtime.values, "etcd-embedded"))
    if directory:
        options = Options(endpoints=await _embedded(runtime, directory, stack))
    if options is None:
        return
    runtime.endpoints = options.endpoints
    runtime.etcd_files = (options.ca, options.cert)
    runtime.health.set("etcd-connected", False, "not connected yet")
    runtime.store = await stack.enter_async_context(
        connect(options, clock=runtime.clock, observer=runtime.telemetry)
    )


async def _embedded(runtime: Runtime, directory: str, stack: AsyncExitStack) -> tuple[str, ...]:
    """Serve, or share, the store of a directory in this process; return its endpoints."""
    from fairlead.embedded.inside import inside

    def report(state: str, error: FairleadError | None) -> None:
        if state == "failed":
            runtime.log.warning("embedded store failed", directory=directory, reason=error)
        else:
            runtime.log.info("embedded store", state=state, directory=directory)

    listen = runtime.program.setting(runtime.values, "etcd-embedded-listen")
    urls = tuple(map(str, listen)) if isinstance(listen, tuple) else ()
    serving = inside(Path(directory), urls=urls, clock=runtime.clock, report=report)
    return await stack.enter_async_context(serving)


async def _listen(runtime: Runtime, stack: AsyncExitStack) -> None:
    """Open the admin sockets; one that was not asked for by name may fail with a warning."""
    program, values = runtime.program, runtime.values

    def failed(path: str, error: Exception) -> None:
        runtime.log.fault("admin page failed", error, path=path)

    wanted = str(program.setting(values, "admin-socket"))
    if wanted:
        path: Path | None = Path(wanted)
        other = None
        if path is not None and runtime.environ.get("FAIRLEAD_SUCCESSOR"):
            # the one that handed its sockets over still answers there (vulcand's USR2)
            other = path.with_name(f"{path.stem}-{os.getpid()}.sock")
        if wanted == "auto":
            base = admin.runtime_dir(runtime.environ, os.geteuid())
            path = base / f"{program.name}.sock" if base else None
            other = base / f"{program.name}-{os.getpid()}.sock" if base else None
        try:
            if path is not None:
                sock, path = admin.bind_unix(path, other=other)
                listener = admin.Listener(runtime.routes, failed=failed)
                await listener.listen_unix(sock, path)
                stack.push_async_callback(listener.aclose)
        except ConfigErrors as error:
            if wanted != "auto":
                raise
            runtime.log.warning("no admin socket", reason=str(error))
    address = str(program.setting(values, "admin-addr"))
    if address:
        host, _, port = address.rpartition(":")
        listener = admin.Listener(runtime.routes, read_only=True, failed=failed)
        try:
            await listener.listen_tcp(host.strip("[]"), int(port))
        except (OSError, ValueError, OverflowError) as error:
            reason = f"cannot listen: {error}"
            raise ConfigErrors((ConfigError("-admin-addr", address, "start", reason),)) from error
        stack.push_async_callback(listener.aclose)
        runtime.log.info("admin address", address=listener.where)


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
