# SPDX-License-Identifier: Apache-2.0
"""The template functions that look at the machine: environment, clock, files, names (specs/confd.md §11).

They are pure but for the `World` they are given; the real one is `confd.world`.
"""

from __future__ import annotations

from typing import Protocol

from fairlead.gotemplate.gotime import Time
from fairlead.gotemplate.values import STRING, Func, Slice, Strings, Struct, Uint16


class SRV(Struct):
    """One answer of `lookupSRV`."""

    __slots__ = ("Port", "Priority", "Target", "Weight")
    GO_TYPE = "*net.SRV"
    FIELDS = ("Target", "Port", "Priority", "Weight")

    def __init__(self, target: str, port: int, priority: int, weight: int) -> None:
        self.Target = target
        self.Port = Uint16(port)
        self.Priority = Uint16(priority)
        self.Weight = Uint16(weight)


class SRVList(Slice):
    """[]*net.SRV."""

    GO_TYPE = "[]*net.SRV"
    ELEM = "*net.SRV"


class World(Protocol):
    """What functions see of the machine."""

    def getenv(self, name: str) -> str:
        """Return an environment variable, "" when unset."""
        ...

    def now(self) -> Time:
        """Return the time now, in the local zone."""
        ...

    def file_exists(self, path: str) -> bool:
        """Say whether something stands at `path`."""
        ...

    def hostname(self) -> str:
        """Return the kernel's host name."""
        ...

    def addresses(self, host: str) -> list[str]:
        """Return the host's addresses as text; [] when the name service fails."""
        ...

    def services(self, name: str) -> list[tuple[str, int, int, int]]:
        """Return SRV answers as (target, port, priority, weight); [] on failure."""
        ...

    def interface(self, name: str, version: int) -> str:
        """Return an interface's first address of an IP version, "" for none."""
        ...


def functions(world: World) -> dict[str, Func]:
    """Return the functions that look at the machine."""

    def getenv(name: str, *defaults: str) -> str:
        return world.getenv(name) or (defaults[0] if defaults else "")

    def addresses(host: str, mark: str = "") -> Strings:
        return Strings(sorted(text for text in world.addresses(host) if mark in text))

    def services(service: str, protocol: str, name: str) -> SRVList:
        asked = f"_{service}._{protocol}.{name}" if service or protocol else name
        found = [
            SRV(target.rstrip("."), port, priority, weight)
            for target, port, priority, weight in world.services(asked)
        ]
        found.sort(key=lambda srv: f"{srv.Target}{srv.Port}{srv.Priority}{srv.Weight}")
        return SRVList(found)

    return {
        "getenv": Func(getenv, (STRING,), STRING),
        "datetime": Func(world.now),
        "fileExists": Func(world.file_exists, (STRING,)),
        "hostname": Func(world.hostname),
        "lookupIP": Func(addresses, (STRING,)),
        "lookupIPV4": Func(lambda host: addresses(host, "."), (STRING,)),
        "lookupIPV6": Func(lambda host: addresses(host, ":"), (STRING,)),
        "lookupSRV": Func(services, (STRING, STRING, STRING)),
        "lookupIfaceIPV4": Func(lambda name: world.interface(name, 4), (STRING,)),
        "lookupIfaceIPV6": Func(lambda name: world.interface(name, 6), (STRING,)),
    }
