# SPDX-License-Identifier: Apache-2.0
"""`fairlead demo`: makes namespaces for the demo, runs it in them, and sees that all is gone.

::

    fairlead demo ── unshare(net, mount, pid, uts) ── pid 1: fairlead.demo.inside ── all programs
        └── standard input of it: end of file = please end

The demo is process 1 of a pid namespace: when it ends, however it ends, the kernel kills every
program of it and takes the networks and mounts away with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import click

from fairlead.demo.hosts import PRIVATE, environment, unavailable

GRACE = 20.0  # seconds for it to stop its programs when asked to end

# The mounts are made first: a mount of the machine's /proc would show its processes' numbers.
_PREPARE = """\
set -e
for dir; do mount -n -t tmpfs -o mode=0755 fairlead "$dir"; done
"""


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave it running and print commands to try.")
def command(keep: bool) -> None:
    """Build three hosts as network namespaces, run everything on them and try it as a user would.

    Ends with 0 only if every check held. Removes all it made. Without root it runs the parts that
    need none of this and says what it left out.
    """
    reason = unavailable()
    sys.exit(_own_namespaces(keep) if reason is None else _here(keep, reason))


def _own_namespaces(keep: bool) -> int:
    """Run the demo in namespaces of its own; return its status."""
    ours = (Path(sys.prefix).resolve(), Path(__file__).resolve(), Path.cwd())
    private = [
        where
        for where in PRIVATE
        if Path(where).is_dir() and not any(path.is_relative_to(where) for path in ours)
    ]
    inside = f'exec "$0" -m fairlead.demo.inside {"keep" if keep else "go"}'
    with subprocess.Popen(  # noqa: S603  (no shell word comes from outside)
        [
            *("unshare", "--net", "--mount", "--pid", "--uts"),
            *("--fork", "--kill-child", "--mount-proc", "--propagation=private", "--"),
            *("sh", "-c", _PREPARE + inside, sys.executable, *private),
        ],
        stdin=subprocess.PIPE,
        env=environment(),
        start_new_session=True,  # Ctrl-C is ours alone; we pass it on, once
    ) as child:
        if child.stdin is not None:
            child.stdin.write(b"%d\n" % child.pid)
            child.stdin.flush()
        return _wait(child)


def _wait(child: subprocess.Popen[bytes]) -> int:
    asked = False

    def ask(_number: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            child.kill()  # the second time: the kernel takes all of it away
        asked = True
        if child.stdin is not None:
            child.stdin.close()
        signal.alarm(int(GRACE))

    def late(_number: int, _frame: object) -> None:
        child.kill()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask)
    signal.signal(signal.SIGALRM, late)
    return child.wait()


def _here(keep: bool, reason: str) -> int:
    """Run what needs no namespaces, on loopback; `reason` says why there are none."""
    from rich.console import Console

    from fairlead.demo.inside import INTERRUPTED, demo

    async def main() -> int:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (asyncio.run)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await demo(Console(), without=reason, keep=keep)

    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(main())
    return INTERRUPTED
