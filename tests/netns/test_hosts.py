# SPDX-License-Identifier: Apache-2.0
"""Hosts as namespaces: they reach one another, and nothing of them stays on the machine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from fairlead.demo.hosts import RESOLV_CONF, CommandFailed, HostError, Site

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.usefixtures("namespaces")]


def machine() -> tuple[str, ...]:
    """What a run must not change: links, addresses, routes, rules, mounts, names."""
    commands = (
        ("ip", "-o", "link"),
        ("ip", "-o", "addr"),
        ("ip", "route", "show", "table", "all"),
        ("ip", "rule"),
        ("nft", "list", "ruleset"),
        ("cat", "/proc/self/mounts", "/proc/sys/net/ipv4/ip_forward", "/etc/resolv.conf"),
        ("sh", "-c", "hostname; ls /run /run/netns /etc/netns /var/lib 2>&1"),
    )
    return tuple(
        subprocess.run(argv, capture_output=True, text=True, check=False).stdout
        for argv in commands
    )


def processes(marker: str) -> list[str]:
    """Return the command lines that hold `marker`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if marker in line:
                found.append(line)
    return found


async def wait_until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  (the kernel tells nobody)
            await asyncio.sleep(0.01)


async def test_hosts_reach_one_another_and_leave_nothing() -> None:
    before = machine()
    async with Site("a", "b") as site:
        a, b = site["a"], site["b"]
        assert str(a.address) == "192.0.2.11"
        await a.run("ping", "-c1", "-W2", str(b.address))
        await a.run("ping", "-6", "-c1", "-W2", str(b.address6))
        assert (await b.run("hostname")).strip() == "b"
        logs = site.logs
    assert machine() == before
    assert not logs.exists()


async def test_each_host_has_files_of_its_own() -> None:
    async with Site("a", "b") as site:
        await site["a"].run("sh", "-c", "mkdir /run/flannel && echo x >/run/flannel/subnet.env")
        assert "flannel" in await site["a"].run("ls", "/run")
        assert "flannel" not in await site["b"].run("ls", "/run")
        assert not os.path.exists("/run/flannel/subnet.env")  # noqa: ASYNC240


async def test_container_talks_through_its_host_and_has_its_own_resolver() -> None:
    before = RESOLV_CONF.read_text()
    async with Site("a", "b") as site:
        first = await site.container(
            site["a"], "one", IPv4Interface("10.5.1.1/24"), resolver="nameserver 192.0.2.99\n"
        )
        second = await site.container(site["a"], "two", IPv4Interface("10.5.1.1/24"))
        assert [str(first.address), str(second.address)] == ["10.5.1.2", "10.5.1.3"]
        await first.run("ping", "-c1", "-W2", str(second.address))
        assert await first.run("cat", "/etc/resolv.conf") == "nameserver 192.0.2.99\n"
        assert await second.run("cat", "/etc/resolv.conf") == before
        assert await site["a"].run("cat", "/etc/resolv.conf") == before
    assert RESOLV_CONF.read_text() == before


async def test_cable_pulled_and_put_back() -> None:
    async with Site("a", "b") as site:
        await site.unplug(site["b"])
        with pytest.raises(CommandFailed):
            await site["a"].run("ping", "-c1", "-W1", "192.0.2.12")
        await site.plug(site["b"])
        await site["a"].run("ping", "-c1", "-W5", "192.0.2.12")


async def test_program_gets_signals_and_ends_with_what_it_started() -> None:
    marker = f"86{os.getpid()}"
    async with Site("a") as site:
        program = await site["a"].start("sh", "-c", f"echo up; sleep {marker} & wait")
        await wait_until(lambda: "up" in program.tail())
        assert processes(f"sleep {marker}")
        assert await program.stop() == -signal.SIGTERM
    assert not processes(f"sleep {marker}")


async def test_two_sites_at_once_do_not_meet() -> None:
    async with Site("a") as one, Site("a") as two:
        await one.root.run("ping", "-c1", "-W2", "192.0.2.11")
        await two.unplug(two["a"])
        await one.root.run("ping", "-c1", "-W2", "192.0.2.11")


async def test_failure_while_making_removes_what_was_made() -> None:
    before = machine()
    with pytest.raises(HostError, match="File exists"):
        async with Site("a", "a"):
            pass
    assert machine() == before


def test_name_that_makes_no_interface_is_refused_at_once() -> None:
    with pytest.raises(HostError, match=r'host "name-too-long": a name has 1 to 11 characters'):
        Site("name-too-long")


def test_killed_owner_leaves_nothing() -> None:
    """`kill -9`: the holders and programs are killed by the kernel, the rest goes with them."""
    before = machine()
    marker = f"87{os.getpid()}"
    script = (
        "import asyncio\n"
        "from fairlead.demo.hosts import Site\n"
        "async def main():\n"
        "    async with Site('a') as site:\n"
        f"        await site['a'].start('sleep', '{marker}')\n"
        "        print(site.logs, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        logs = Path(owner.stdout.readline().decode().strip())
        asyncio.run(wait_until(lambda: bool(processes(f"sleep {marker}"))))
        owner.kill()
    asyncio.run(wait_until(lambda: not processes(f"sleep {marker}")))
    assert machine() == before
    for left in logs.iterdir():
        left.unlink()
    logs.rmdir()
