# SPDX-License-Identifier: Apache-2.0
"""A daemon that answers each TCP connection with what stands under a prefix, by `-workers`.

A worker says `NUMBER PID name=value …` and closes; `?` asks the parent, `!` fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fairlead.daemon import main
from fairlead.etcd.options import Options
from fairlead.etcd.types import KeyRange
from fairlead.flags import Kind, Setting, Settings, Values, common
from fairlead.program import Program
from fairlead.reconcile import Loop, one_by_one
from fairlead.records import Records
from fairlead.workers.figures import Figures

if TYPE_CHECKING:
    from fairlead.reconcile import Scope
    from fairlead.runtime import Runtime

PREFIX = b"/team/"


@dataclass(frozen=True)
class Config:
    endpoints: tuple[str, ...]
    workers: int
    port: int
    greeting: str


def configure(values: Values) -> Config:
    return Config(
        values.many("machines"),
        values.number("workers"),
        values.number("port"),
        values.text("greeting"),
    )


def listening(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(64)
    return sock


class Shown:
    """What is answered; put in force by a loop, so that acknowledgements mean something."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.greeting = ""
        self.answered = 0

    async def put(self, item: tuple[str, str | None]) -> None:
        name, value = item
        if value is None:
            self.values.pop(name, None)
        else:
            self.values[name] = value


def loop_of(shown: Shown, records: Records[str]) -> Loop[dict[str, str], tuple[str, str | None]]:
    def wanted(scope: Scope) -> dict[str, str]:
        return {key.removeprefix(PREFIX).decode(): text for key, text in records.good.items()}

    async def observe(scope: Scope) -> dict[str, str]:
        return dict(shown.values)

    def plan(desired: dict[str, str], actual: dict[str, str]) -> tuple[tuple[str, str | None], ...]:
        puts = [(n, t) for n, t in sorted(desired.items()) if actual.get(n) != t]
        return (*puts, *((n, None) for n in sorted(actual) if n not in desired))

    return Loop(
        name="shown", desired=wanted, observe=observe, plan=plan, apply=one_by_one(shown.put)
    )


async def serve(config: Config, runtime: Runtime) -> None:
    if config.workers > 1 and runtime.worker is None:
        await lead(config, runtime)
        return
    source = runtime.source("values", KeyRange.prefix(PREFIX))
    records: Records[str] = Records(lambda kv: kv.value.decode())
    shown = Shown()
    loop = loop_of(shown, records)

    def changed(batch: Any) -> None:
        loop.dirty.mark(records.apply((c.key, c.new) for c in batch.changes))

    source.subscribe(changed)
    runtime.reconcile(loop, source)
    runtime.on_reload(lambda new: setattr(shown, "greeting", new.greeting))
    worker = runtime.worker

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown.answered += 1
        asked = await reader.readline()
        number = worker.number if worker else 0
        words = [str(number), str(os.getpid())]
        words += [f"{n}={t}" for n, t in sorted(shown.values.items())]
        words += [shown.greeting] if shown.greeting else []
        if asked == b"?\n" and worker is not None:
            words.append(json.dumps(await worker.call("sum", [1, 2, 3])))
        if asked == b"!\n" and worker is not None:
            worker.tell("fail")
        writer.write(" ".join(words).encode() + b"\n")
        writer.close()

    if worker is None:
        server = await asyncio.start_server(answer, sock=listening(config.port))
    else:
        worker.count_with(
            lambda: Figures({("answered",): shown.answered}, {("values",): len(shown.values)})
        )
        handed: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        worker.on("listen", lambda _, sockets: handed.set_result(sockets[0]))
        server = await asyncio.start_server(answer, sock=await handed)

    async def drained() -> None:
        server.close()
        runtime.log.info("drained")

    runtime.on_drain(drained)
    await source.ready()
    await loop.caught_up()
    await runtime.ready()
    await asyncio.Event().wait()


async def lead(config: Config, runtime: Runtime) -> None:
    mirror = runtime.mirror("values", KeyRange.prefix(PREFIX))
    sockets = [listening(config.port) for _ in range(config.workers)]
    team = runtime.workers(config.workers)
    team.feed(mirror)
    team.tell("listen", None, keep="listen", sockets=lambda number: [sockets[number]])
    team.on("sum", lambda _, body: sum(body))

    def fail(number: int, _: Any) -> None:
        raise KeyError("a fault of ours")

    team.on("fail", fail)
    runtime.state("figures", lambda: {
        "counts": {",".join(k): v for k, v in team.figures().counts.items()},
        "gauges": {",".join(k): v for k, v in team.figures().gauges.items()},
    })  # fmt: skip
    await mirror.ready()
    await team.ready()
    await team.caught_up()
    await runtime.ready()
    await asyncio.Event().wait()


PROGRAM = Program(
    "team",
    Settings(
        "team",
        (
            Setting("machines", Kind.COMMA, ("http://127.0.0.1:2379",), "etcd."),
            Setting("workers", Kind.INT, 1, "Processes."),
            Setting("port", Kind.INT, 0, "Where."),
            Setting("greeting", help="Said with each answer.", file_key="greeting"),
            Setting("config", help="Configuration file."),
            *common(),
        ),
        env_prefix="TEAM_",
        config_file="config",
        own_file=True,
    ),
    configure,
    serve,
    etcd=lambda config: Options(endpoints=config.endpoints, connect_timeout=0.5, call_timeout=1.0),
    failure_exit=3,
    live=frozenset(("greeting",)),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
