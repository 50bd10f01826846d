# SPDX-License-Identifier: Apache-2.0
"""Hosts as Linux namespaces: a small data centre that leaves nothing behind.

Theory of operation
-------------------
Every host is a network, mount and UTS namespace that lives as long as one sleeping process, its
*holder*. Nothing is bound to a name in the machine's own file system (as `ip netns` would), so
names cannot clash between runs, and when the holders are gone the kernel takes interfaces,
routes, rules and mounts away. A holder, and every program started in a host, asks the kernel to
be killed when we die: `kill -9` leaves no more behind than a clean end::

    root ── bridge "underlay" 192.0.2.1/24 ──┬── eth0 192.0.2.11  host a ── bridge cbr0 ── eth0 web
                                             ├── eth0 192.0.2.12  host b            └── eth0 shell
                                             └── eth0 192.0.2.13  host c

Each host has `/run`, `/var/lib` and `/var/log` of its own (empty, in memory), so that programs run
with the paths they have by default. The machine's network namespace is never entered.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from pathlib import Path
from types import TracebackType

from fairlead.errors import FairleadError

UNDERLAY = IPv4Interface("192.0.2.1/24")  # RFC 5737: documentation only
NONE, NONE6 = IPv4Address(0), IPv6Address(0)
UNDERLAY6 = "2001:db8::1/64"  # RFC 3849
RESOLV_CONF = Path("/etc/resolv.conf")
PRIVATE = ("/run", "/var/lib", "/var/log")
"""Directories every host has for itself, but one that our own program lies in."""

_TOOLS = ("unshare", "nsenter", "setpriv", "ip", "mount", "sh", "sleep")
_HOLD = """\
set -e
name=$1; shift
# -n: mount would make the machine a /run/mount
for dir; do mount -n -t tmpfs -o mode=0755 fairlead "$dir"; done
echo "$name" >/proc/sys/kernel/hostname
ip link set lo up
cd /proc/sys/net
echo 1 >ipv4/ip_forward
if [ -e ipv6/conf/all/forwarding ]; then
  echo 1 >ipv6/conf/all/forwarding
  echo 0 >ipv6/conf/default/accept_dad
  echo 0 >ipv6/conf/all/accept_dad
fi
cd /
echo ready
exec sleep infinity
"""


class HostError(FairleadError):
    """A host could not be made, or a command in it failed."""


class CommandFailed(HostError):
    """A command ended with another status than 0; `status` and `output` say how."""

    def __init__(self, where: str, argv: Sequence[str], status: int, output: str) -> None:
        super().__init__(f'{where}: "{" ".join(argv)}" ended with {status}: {output.strip()}')
        self.status = status
        self.output = output


def unavailable() -> str | None:
    """Return why hosts cannot be made here, or None when they can."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root (network namespaces)"
    absent = [tool for tool in _TOOLS if which(tool) is None]
    if absent:
        return f"needs {', '.join(absent)}"
    # Root in a container may lack the right: only trying tells.
    tried = subprocess.run(  # noqa: S603
        [
            which("unshare") or "unshare",
            "--net",
            "--mount",
            "--uts",
            "--propagation=private",
            "true",
        ],
        stderr=subprocess.PIPE,
        check=False,
    )
    if tried.returncode != 0:
        return f"needs namespaces of its own: {tried.stderr.decode(errors='replace').strip()}"
    return None


def which(program: str) -> str | None:
    """Return where `program` lies: beside our Python first, then PATH, then the sbin folders."""
    beside = str(Path(sys.executable).parent)
    path = os.pathsep.join((beside, os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    return shutil.which(program, path=path)


def environment() -> dict[str, str]:
    """Return our environment with a PATH as `which` searches it."""
    beside = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    return {**os.environ, "PATH": os.pathsep.join((beside, path, "/usr/sbin", "/sbin"))}


@dataclass(slots=True)
class Program:
    """A program that runs in a host, as long as we do.

    Attributes:
        log: the file that its standard output and error go to.
    """

    name: str
    process: asyncio.subprocess.Process
    log: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, or None while it runs."""
        return self.process.returncode

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; one that has ended gets none."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def stop(self, timeout: float = 5.0) -> int:
        """End it by SIGTERM, after `timeout` seconds its whole process group by SIGKILL.

        Returns:
            Its exit status, negative when a signal ended it.
        """
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout):
                await self.process.wait()
        except TimeoutError:
            pass
        finally:
            self.kill()
        return await self.process.wait()

    def kill(self) -> None:
        """Kill it and what it started, now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # it leads its own group

    def tail(self, lines: int = 20) -> str:
        """Return the end of its log."""
        try:
            text = self.log.read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


@dataclass(slots=True)
class Namespace:
    """A place where commands run: the root, a host or a container.

    Attributes:
        pid: a process in it: the holder.
        logs: where programs started here write.
    """

    name: str
    pid: int
    logs: Path
    programs: list[Program] = field(default_factory=list)

    def enter(self, *argv: str) -> tuple[str, ...]:
        """Return the command that runs `argv` in here; signals reach it, for all of it execs."""
        target = (f"--target={self.pid}", "--net", "--mount", "--uts")
        return ("setpriv", "--pdeathsig=KILL", "--", "nsenter", *target, "--", *argv)

    async def run(
        self,
        *argv: str,
        stdin: str | None = None,
        timeout: float = 20.0,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run a command to its end and return what it wrote to standard output.

        Raises:
            CommandFailed: it ended with another status than 0 and `check` is set, or did not
                end within `timeout` seconds.
        """
        process = await asyncio.create_subprocess_exec(
            *self.enter(*argv),
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**environment(), **(env or {})},
            start_new_session=True,
        )
        given = None if stdin is None else stdin.encode()
        try:
            async with asyncio.timeout(timeout):
                out, err = await process.communicate(given)
        except TimeoutError as error:
            raise CommandFailed(self.name, argv, -1, f"no end after {timeout:g} s") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        status = process.returncode or 0
        if check and status != 0:
            text = err.decode(errors="replace") or out.decode(errors="replace")
            raise CommandFailed(self.name, argv, status, text)
        return out.decode(errors="replace")

    async def start(
        self, *argv: str, name: str = "", env: Mapping[str, str] | None = None
    ) -> Program:
        """Start a program that ends with us; its output goes to a log file.

        It must not turn itself into a daemon: its first process is the one that is ended.
        """
        name = name or Path(argv[0]).name
        log = self.logs / f"{self.name}-{name}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *self.enter(*argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**environment(), **(env or {})},
                start_new_session=True,
            )
        program = Program(name, process, log)
        self.programs.append(program)
        return program

    async def ip(self, *commands: str) -> None:
        """Run `ip` commands ("link set eth0 up") in one process; the first that fails raises."""
        await self.run("ip", "-batch", "-", stdin="\n".join(commands) + "\n")

    async def stop(self) -> None:
        """End the programs started here, all at once."""
        programs, self.programs = self.programs, []
        for program in programs:
            if program.status is not None:
                program.kill()  # what it may have left of its group
        await asyncio.gather(*(p.stop() for p in programs if p.status is None))


@dataclass(slots=True)
class Host(Namespace):
    """A machine on the underlay.

    Attributes:
        address: on the underlay.
        address6: on the underlay.
    """

    address: IPv4Address = NONE
    address6: IPv6Address = NONE6
    containers: dict[str, Container] = field(default_factory=dict)


@dataclass(slots=True)
class Container(Namespace):
    """A container-like namespace behind a host's bridge; `address` lies in the host's subnet."""

    address: IPv4Address = NONE


class Site:
    """Hosts on one underlay; an async context manager.

    Example::

        async with Site("a", "b") as site:
            await site["a"].run("ping", "-c1", str(site["b"].address))
    """

    def __init__(self, *names: str, here: bool = False, private: Sequence[str] = PRIVATE) -> None:
        """Describe it; nothing is made before `async with`.

        Args:
            names: the hosts, each at most 11 characters.
            here: the present namespaces, made for us already, are the root.
            private: directories that every host has for itself.
        """
        for name in names:
            if not 0 < len(name) <= 11:  # an interface "to-<name>" has at most 15 characters
                raise HostError(f'host "{name}": a name has 1 to 11 characters')
        self._names = names
        self._here = here
        ours = [Path(sys.prefix).resolve(), Path(__file__).resolve().parent, Path.cwd()]
        self._private = tuple(
            where
            for where in private
            if Path(where).is_dir() and not any(p.is_relative_to(where) for p in ours)
        )
        self._holders: list[asyncio.subprocess.Process] = []
        self._stack = contextlib.AsyncExitStack()
        self._links = itertools.count(1)
        self.hosts: dict[str, Host] = {}
        self.root: Namespace
        self.logs: Path

    def __getitem__(self, name: str) -> Host:
        """Return the host of that name."""
        return self.hosts[name]

    async def __aenter__(self) -> Site:
        """Make the root, the bridge and the hosts.

        Raises:
            HostError: the kernel or a tool refused; what was made is gone again.
        """
        reason = unavailable()
        if reason is not None:
            raise HostError(f"hosts cannot be made: {reason}")
        async with contextlib.AsyncExitStack() as stack:
            prefix = f"fairlead-{'demo' if self._here else 'site'}-"
            self.logs = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix, dir="/tmp"))
            )
            stack.push_async_callback(self._remove)
            await self._make()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop what runs and let the kernel take everything away."""
        await self._stack.aclose()

    async def _make(self) -> None:
        if self._here:
            self.root = Namespace("root", os.getpid(), self.logs)
            await self.root.ip("link set lo up")
        else:
            self.root = Namespace("root", await self._hold("root", self._private), self.logs)
        await self.root.ip(
            "link add underlay type bridge",
            f"addr add {UNDERLAY} dev underlay",
            f"addr add {UNDERLAY6} dev underlay nodad",
            "link set underlay up",
        )
        for name in self._names:
            await self.add(name)

    async def add(self, name: str) -> Host:
        """Make one more host."""
        number = 11 + len(self.hosts)
        address = UNDERLAY.network[number]
        address6 = IPv6Address("2001:db8::") + number
        pid = await self._hold(name, self._private)
        host = Host(name, pid, self.logs, address=IPv4Address(address), address6=address6)
        self.hosts[name] = host
        await self.root.ip(
            f"link add to-{name} type veth peer name eth0 netns {pid}",
            f"link set to-{name} master underlay up",
        )
        await host.ip(
            f"addr add {address}/{UNDERLAY.network.prefixlen} dev eth0",
            f"addr add {address6}/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {UNDERLAY.ip}",
            "route add default via 2001:db8::1",
        )
        return host

    async def container(
        self,
        host: Host,
        name: str,
        subnet: IPv4Interface,
        *,
        mtu: int = 1450,
        resolver: str = "",
    ) -> Container:
        """Make a container-like namespace behind `host`'s bridge `cbr0`.

        Args:
            subnet: the host's leased subnet with the bridge's address, e.g. 10.5.21.1/24.
            resolver: what stands in the container's /etc/resolv.conf; empty: the machine's.
        """
        if not host.containers:
            await host.ip(
                f"link add cbr0 mtu {mtu} type bridge",
                f"addr add {subnet} dev cbr0",
                "link set cbr0 up",
            )
        address = IPv4Address(subnet.network[len(host.containers) + 2])
        pid = await self._hold(name, self._private)
        box = Container(name, pid, self.logs, address=address)
        host.containers[name] = box
        link = f"veth{next(self._links)}"
        await host.ip(
            f"link add {link} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {pid}",
            f"link set {link} master cbr0 up",
        )
        await box.ip(
            f"addr add {address}/{subnet.network.prefixlen} dev eth0",
            "link set eth0 up",
            f"route add default via {subnet.ip}",
        )
        if resolver:
            await self._bind_resolver(box, resolver)
        return box

    async def unplug(self, host: Host) -> None:
        """Pull the host's network cable; what runs on it goes on."""
        await self.root.ip(f"link set to-{host.name} down")

    async def plug(self, host: Host) -> None:
        """Put the cable back."""
        await self.root.ip(f"link set to-{host.name} up")

    async def _bind_resolver(self, box: Container, text: str) -> None:
        # /etc/resolv.conf is often a link into /run, which is empty in there: make the target,
        # which then lies in memory. A real file gets another one bound over it.
        target = RESOLV_CONF.resolve()  # noqa: ASYNC240  (once a container)
        source = self.logs / f"{box.name}-resolv.conf"
        source.write_text(text)
        script = '[ -e "$2" ] || { mkdir -p "${2%/*}" && : >"$2"; }; mount -n --bind "$1" "$2"'
        if not target.exists() and not any(target.is_relative_to(d) for d in self._private):
            raise HostError(f'"{target}" is absent: a resolver cannot be set without making it')
        await box.run("sh", "-c", script, "sh", str(source), str(target))

    async def _hold(self, name: str, private: Sequence[str]) -> int:
        """Start a holder and return its pid once its namespaces are ready."""
        kinds = ("--net", "--mount", "--uts", "--propagation=private")
        holder = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig=KILL", "--", "unshare", *kinds, "--"),
            *("sh", "-c", _HOLD, "sh", name, *private),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment(),
            start_new_session=True,
        )
        self._holders.append(holder)
        assert holder.stdout is not None  # noqa: S101  (asked for above)
        line = await holder.stdout.readline()
        if line != b"ready\n":
            rest = await holder.stdout.read()  # it has ended: `set -e`
            raise HostError(f'host "{name}" cannot be made: {(line + rest).decode().strip()}')
        return holder.pid

    async def _remove(self) -> None:
        boxes = [box for host in self.hosts.values() for box in host.containers.values()]
        await asyncio.gather(*(box.stop() for box in boxes))
        await asyncio.gather(*(host.stop() for host in self.hosts.values()))
        if hasattr(self, "root"):
            await self.root.stop()
            if self._here:
                await self.root.run("ip", "link", "del", "underlay", check=False)
        for holder in self._holders:
            with contextlib.suppress(ProcessLookupError):
                holder.kill()
        for holder in self._holders:
            if holder.stdout is not None:
                await holder.stdout.read()  # to its end, so that the pipe is closed
            await holder.wait()
        self._holders.clear()
        self.hosts.clear()
