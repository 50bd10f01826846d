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
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from fairlead import admin, diagnose, log
from fairlead.errors import ConfigError, ConfigErrors, FairleadError
from fairlead.etcd.client import connect
from fairlead.etcd.options import Options
from fairlead.flags import Values
from fairlead.program import Program
from fairlead.runtime import Planned, Runtime
from fairlead.tasks import TaskEnded, Tasks
from fairlead.workers.worker import Worker, place

C = TypeVar("C")

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
    if program.write is not None and not program.setting(values, "plan"):  # stdout is the plan's
        sink.write = program.write(config)
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
    stopping = asyncio.Event()
    where = place(os.environ)
    if where is not None:
        logger = logger.bind(worker=where.number)
    runtime = Runtime(program, values, logger, os.environ, argv=argv)
    runtime.routes.update(diagnose.routes(runtime))
    status, errors = 0, list[BaseException]()
    try:
        async with AsyncExitStack() as stack:
            if where is not None:
                runtime.worker = Worker(where, stopping)
                stack.callback(runtime.worker.close)
            _signals(runtime, stopping)
            if runtime.worker is None:
                if not runtime.planning:
                    await _listen(runtime, stack)
                await _open_store(runtime, config, stack)
            status = await _serve(runtime, config, stopping)
    except BaseExceptionGroup as group:
        errors = _leaves(group)
    except (Planned, FairleadError) as error:
        errors = [error]
    status = _fate(program, logger, errors) or status
    if program.ended is not None and where is None and not runtime.planning:
        program.ended("; ".join(str(error) or type(error).__name__ for error in errors))
    return status


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
            case Planned():
                continue
            case ConfigErrors() | ConfigError():
                for line in str(error).splitlines():
                    logger.error("configuration", reason=line)
                status = status or program.config_exit
            case TaskEnded():
                logger.error("a task ended by itself; so does the daemon", task=error.name)
                status = program.failure_exit
            case FairleadError():
                logger.error("fatal", reason=error, kind=type(error).__name__)
                status = program.failure_exit
            case _:
                logger.fault("fatal", error)
                status = program.failure_exit
    return status


async def _serve(runtime: Runtime, config: Any, stopping: asyncio.Event) -> int:
    seconds = float(str(runtime.program.setting(runtime.values, "drain-timeout")))
    status: int | None = 0
    async with Tasks() as tasks:
        runtime.tasks = tasks
        if runtime.notify.watchdog_seconds is not None:
            tasks.start("watchdog", _watchdog(runtime, runtime.notify.watchdog_seconds))
        if runtime.program.reload_on_hup:
            tasks.start("reload on SIGHUP", _reloads(runtime))
        if runtime.worker is not None:
            runtime.worker.release = runtime.release
            tasks.start("parent", runtime.worker.listen())
            tasks.start("acknowledge", runtime.worker.acknowledge(runtime.caught_up))
            tasks.start("figures", runtime.worker.publish())
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


async def _reloads(runtime: Runtime) -> None:
    hung_up = asyncio.Event()
    if runtime.worker is not None:
        runtime.worker.reload = hung_up.set
    else:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up.set)
    while True:
        await hung_up.wait()
        hung_up.clear()
        await runtime.reload()


def _signals(runtime: Runtime, stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    if runtime.worker is not None:  # what a terminal sends to all is the parent's to pass on
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        loop.add_signal_handler(signal.SIGTERM, stopping.set)
        return

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
    if not directory and program.embedded is not None:
        directory = program.embedded(config)
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
