# SPDX-License-Identifier: Apache-2.0
"""A daemon of 60 lines: writes the values under a prefix into files of the same names."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.daemon import main
from fairlead.errors import ConfigError, ConfigErrors, RecordError
from fairlead.etcd.options import Options
from fairlead.etcd.types import KeyRange, KeyValue
from fairlead.flags import Kind, Setting, Settings, Values, common
from fairlead.program import Program

if TYPE_CHECKING:
    from fairlead.reconcile import Scope
    from fairlead.runtime import Runtime

PREFIX = b"/tiny/"


@dataclass(frozen=True)
class Config:
    endpoints: tuple[str, ...]
    directory: Path
    greeting: str
    fail: str


@dataclass(frozen=True, slots=True)
class Write:
    name: str
    text: str

    def __str__(self) -> str:
        return f"write {self.name}={self.text}"


@dataclass(frozen=True, slots=True)
class Remove:
    name: str

    def __str__(self) -> str:
        return f"remove {self.name}"


def configure(values: Values) -> Config:
    faults: list[ConfigError] = []
    if not values.text("dir"):
        faults.append(values.error("dir", "must name a directory"))
    if values.number("port") > 65535:
        faults.append(values.error("port", "must be at most 65535"))
    if faults:
        raise ConfigErrors(tuple(faults))
    return Config(
        values.many("machines"),
        Path(values.text("dir")),
        values.text("greeting"),
        values.text("fail"),
    )


def decode(kv: KeyValue) -> str:
    if not kv.value.isalnum():
        raise RecordError(kv.key, f'field "text": {kv.value!r} is not a word')
    return kv.value.decode()


async def serve(config: Config, runtime: Runtime) -> None:
    import asyncio  # late, all three: -check-config needs none of them

    from fairlead.reconcile import Guard, Loop, one_by_one
    from fairlead.records import Records

    mirror = runtime.mirror("values", KeyRange.prefix(PREFIX))
    records = Records(decode)
    runtime.records("values", records)

    def wanted(scope: Scope) -> dict[str, str]:
        found = {key.removeprefix(PREFIX).decode(): text for key, text in records.good.items()}
        return found if scope is None else {name: found[name] for name in scope if name in found}  # type: ignore[index, misc]

    async def observe(scope: Scope) -> dict[str, str]:
        found = {path.name: path.read_text() for path in config.directory.iterdir()}
        return found if scope is None else {name: found[name] for name in scope if name in found}  # type: ignore[index, misc]

    def plan(desired: dict[str, str], actual: dict[str, str]) -> tuple[Write | Remove, ...]:
        puts = [Write(n, t) for n, t in sorted(desired.items()) if actual.get(n) != t]
        return (*puts, *(Remove(n) for n in sorted(actual) if n not in desired))

    async def carry_out(action: Write | Remove) -> None:
        if isinstance(action, Write):
            (config.directory / action.name).write_text(action.text)
        else:
            (config.directory / action.name).unlink()

    loop = Loop(
        name="files",
        desired=wanted,
        observe=observe,
        plan=plan,
        apply=one_by_one(carry_out),
        guard=Guard(
            removes=lambda action: isinstance(action, Remove),
            standing=lambda: len(list(config.directory.iterdir())),
            share=runtime.max_removals,
            floor=2,
        ),
    )

    def names(keys: Iterable[bytes]) -> list[str]:
        return [key.removeprefix(PREFIX).decode() for key in keys]

    mirror.subscribe(
        lambda batch: loop.dirty.mark(names(records.apply((c.key, c.new) for c in batch.changes)))
    )
    runtime.reconcile(loop, mirror)
    runtime.on_reload(lambda new: runtime.log.info("greeting", greeting=new.greeting))

    async def drained() -> None:
        runtime.log.info("drained")

    runtime.on_drain(drained)
    if config.fail == "ends":
        runtime.tasks.start("short-lived", asyncio.sleep(0))
    if config.fail == "raises":
        raise KeyError("a fault of ours")
    await mirror.ready()
    await runtime.ready()
    if config.fail == "returns":
        return
    await asyncio.Event().wait()


PROGRAM = Program(
    "tiny",
    Settings(
        "tiny",
        (
            Setting(
                "machines", Kind.COMMA, ("http://127.0.0.1:2379",), "etcd.", file_key="machines"
            ),
            Setting("dir", help="Where the files go.", file_key="dir"),
            Setting("port", Kind.INT, 0, "A number.", file_key="port"),
            Setting("greeting", default="hello", help="Said at a reload.", file_key="greeting"),
            Setting("fail", help="How to fail."),
            Setting("config", help="Configuration file."),
            *common(),
        ),
        env_prefix="TINY_",
        config_file="config",
        own_file=True,
    ),
    configure,
    serve,
    etcd=lambda config: Options(endpoints=config.endpoints, connect_timeout=0.5, call_timeout=1.0),
    bad_flag_exit=7,
    failure_exit=3,
    live=frozenset(("greeting",)),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
