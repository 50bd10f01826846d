# SPDX-License-Identifier: Apache-2.0
"""The demo itself, as it runs inside its own namespaces (or, without root, as it is).

Standard input begins with the pid by which the machine knows our namespaces; its end is the request to end: it comes when the user says so by Ctrl-C and
as well when the process that started us is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fairlead.demo.cluster import NAME, Cluster, rooted, unrooted
from fairlead.demo.report import Report
from fairlead.demo.story import Story
from fairlead.errors import FairleadError

GRACE = 15.0  # seconds for cleaning up once asked to end
INTERRUPTED = 130  # as a shell says it of SIGINT


async def demo(console: Console, *, without: str = "", keep: bool, outside: int = 0) -> int:
    """Run the whole demo and print its report; return the exit status.

    Args:
        without: why there are no namespaces of our own to build in; empty: there are.
        keep: leave it running after the report, until asked to end.
        outside: our pid as the machine sees it, for the commands to try.
    """
    report = Report(console)
    status = 1
    try:
        async with unrooted() if without else rooted() as cluster:
            report.title("fairlead demo: an overlay, DNS, templates and a load balancer on etcd")
            try:
                async with Story(cluster, report, without).staged() as story:
                    await story.tell()
                    status = 0 if report.held else 1
                    report.close()
                    if keep and report.held:
                        _commands(console, cluster, outside)
                        await asyncio.Event().wait()
            except FairleadError:
                report.close()
                _logs(console, cluster.work)
    except FairleadError as error:  # the hosts themselves could not be made
        console.print(f"[bold red]fairlead demo:[/bold red] {error}", highlight=False)
    except asyncio.CancelledError:
        if not keep or status != 0:
            console.print("interrupted; everything is removed", highlight=False)
            return INTERRUPTED
    return status


def _logs(console: Console, work: Path) -> None:
    """Print the end of every program's log: what failed should be found without a second run."""
    for path in sorted(work.glob("*.log")):
        lines = path.read_text(errors="replace").splitlines()[-8:]
        if lines:
            console.print(f"\n[dim]{path.name}[/dim]")
            console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _commands(console: Console, cluster: Cluster, outside: int) -> None:
    """Print what to try while it stands."""
    layout = cluster.layout
    say = console.print
    inside = "" if cluster.site is None else f"nsenter -t {outside} -n -m "
    dns = f"dig @{layout.dns.host} -p {layout.dns.port} {NAME}"
    commands = [
        "fairlead status",
        f"{inside}fairlead watch / --endpoints {layout.etcd_url}",
        inside + dns,
        f"{inside}curl -s -H 'Host: {NAME}' http://{layout.lb}/",
        f"{inside}curl -s http://{layout.nginx}/",
        f"{inside}vctl --vulcan={layout.api_url} backend ls",
        f"{inside}etcdctl --endpoints {layout.etcd_url} get --prefix /skydns",
    ]
    say()
    say("It stands. In another terminal:")
    for command in commands:
        say(f"  {command}", markup=False, highlight=False, soft_wrap=True)
    say("Ctrl-C ends it and removes everything.")


async def _main(keep: bool, outside: int) -> int:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  (asyncio.run)
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_reader(0)
        task.cancel()
        # Process 1 of a pid namespace gets no deadly signal from within: it ends itself.
        late = threading.Timer(GRACE, os._exit, (INTERRUPTED,))
        late.daemon = True
        late.start()

    def readable() -> None:
        if not os.read(0, 1024):
            end()

    loop.add_reader(0, readable)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end)
    return await demo(Console(), keep=keep, outside=outside)


def main(argv: Sequence[str]) -> int:
    """Run inside namespaces made for us: `inside keep|go`."""
    with open(0, "rb", buffering=0, closefd=False) as given:  # unbuffered: the loop reads on
        outside = int(given.readline())
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(_main(argv[0] == "keep", outside))
    return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
