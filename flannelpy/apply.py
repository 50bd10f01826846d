# SPDX-License-Identifier: Apache-2.0
"""Actions → netlink and files, in the plan's order.

Runs of peers' objects go to the kernel in batches; links and files one by one. A refusal costs
its own action only and names it (promise 7); "already gone" is what a deletion wants.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from fairlead.errors import ActionError
from flannelpy import rtnetlink
from flannelpy.kernel import Kernel
from flannelpy.netlink import KernelError
from flannelpy.parts import Part
from flannelpy.plan import Action, Delete, Put, Remake, thing_of
from flannelpy.state import Address, Fdb, File, Link, Neighbour, Object, Route

_PUT: dict[type, Callable[..., bytes]] = {
    Address: rtnetlink.put_address,
    Neighbour: rtnetlink.put_neighbour,
    Fdb: rtnetlink.put_fdb,
    Route: rtnetlink.put_route,
}
_DELETE: dict[type, Callable[..., bytes]] = {
    Address: rtnetlink.delete_address,
    Neighbour: rtnetlink.delete_neighbour,
    Fdb: rtnetlink.delete_fdb,
    Route: rtnetlink.delete_route,
}


async def carry_out(kernel: Kernel, plan: Sequence[Action]) -> list[ActionError]:
    """Do a plan's actions; return what was refused."""
    refused: list[ActionError] = []
    parts: dict[type, Part | None] = {}  # a type's objects are of one kind: not asked 15,000 times

    def part_of(action: Action) -> Part | None:
        thing = thing_of(action)
        if type(thing) not in parts:
            parts[type(thing)] = _part(kernel, thing)
        return parts[type(thing)]

    for part, run in groupby(plan, part_of):
        if part is None:
            await _netlink(kernel, list(run), refused)
        else:
            refused += await part.carry_out(list(run))
    return refused


def _part(kernel: Kernel, thing: Object) -> Part | None:
    kind = thing.key.kind
    return next((part for part in kernel.parts if kind in part.kinds), None)


async def _netlink(kernel: Kernel, plan: Sequence[Action], refused: list[ActionError]) -> None:
    waiting: list[Action] = []
    requests: list[bytes] = []
    indexes: dict[str, int] = {}

    async def flush() -> None:
        results = await kernel.batch(requests)
        for action, error in zip(waiting, results, strict=True):
            if error is not None and not (isinstance(action, Delete) and error.absent):
                refused.append(_error(action, error))
        waiting.clear()
        requests.clear()

    for action in plan:
        thing = thing_of(action)
        try:
            if isinstance(thing, Link | File):
                await flush()
                await _single(kernel, action)
                indexes.clear()
                continue
            if not isinstance(thing, Address | Neighbour | Fdb | Route):
                raise TypeError(thing)
            if thing.dev not in indexes:
                indexes[thing.dev] = kernel.index_of(thing.dev)
            table = _DELETE if isinstance(action, Delete) else _PUT
            requests.append(table[type(thing)](thing, indexes[thing.dev]))
            waiting.append(action)
        except KernelError as error:
            if not (isinstance(action, Delete) and error.absent):
                refused.append(_error(action, error))
    await flush()


async def _single(kernel: Kernel, action: Action) -> None:
    match action:
        case Remake(wanted):
            await kernel.delete(wanted.name)
            await _create(kernel, wanted)
        case Put(Link() as wanted, None):
            await _create(kernel, wanted)
        case Put(Link() as wanted, Link() as was):
            await _change(kernel, wanted, was)
        case Put(File(path, text)):
            try:
                replace_file(Path(path), text)
            except OSError as error:
                raise KernelError(error.errno or 0, path) from error
        case Delete(Link(name)):
            await kernel.delete(name)
        case Delete(File(path)):
            Path(path).unlink(missing_ok=True)  # noqa: ASYNC240
        case _:
            raise TypeError(action)


async def _change(kernel: Kernel, wanted: Link, was: Link) -> None:
    try:
        await kernel.change(wanted, was)
    except KernelError as error:
        same = wanted.tunnel is None or wanted.tunnel.stands_for(was.tunnel)
        if same or error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        # a kernel before 4.12 changes no tunnel in place; that the new device is empty is heard
        await kernel.delete(wanted.name)
        await _create(kernel, wanted)


async def _create(kernel: Kernel, link: Link) -> None:
    await kernel.create(link)
    made = await kernel.interface(link.name)
    if made is None:
        raise KernelError(0, f"{link.name} is gone again")
    await kernel.change(link, made.link)


def replace_file(path: Path, text: str) -> None:
    """Write a file whole, mode 0644 whatever the umask; a reader sees the old or the new one."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _error(action: Action, error: KernelError) -> ActionError:
    refused = ActionError(action, str(error), transient=error.transient)
    refused.__cause__ = error
    return refused
