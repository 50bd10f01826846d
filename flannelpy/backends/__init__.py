# SPDX-License-Identifier: Apache-2.0
"""How packets get to the other hosts: one module per backend, found by its type's name.

`Backend.Type` "host-gw" in the network configuration loads `flannelpy.backends.host_gw`, whose
`build` returns a `Backend`. Adding one is one file. A `Backend` is pure: it says which objects a
host should have, never how they get there; kinds of objects of its own it brings with `equip`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from types import ModuleType
from typing import Protocol

from flannelpy.fields import FieldError
from flannelpy.kernel import Kernel
from flannelpy.keys import Subnets
from flannelpy.records import NO_PUBLIC_IP, Attributes, Lease, NetworkConfig
from flannelpy.state import IPAddress, IPNetwork, Object

_REMOVED = frozenset({"aws-vpc", "gce", "ali-vpc"})  # from upstream, in 0.20.0
_LATER = frozenset({"ipsec", "tencent-vpc"})
_MODULE = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Uplink:
    """The interface that faces the other hosts, and the addresses they send to (spec §9).

    Attributes:
        v4: its own IPv4 address, source of tunnel packets; None without IPv4.
        ext_v4: what the lease advertises: `v4`, or another one behind NAT (-public-ip).
    """

    name: str
    index: int
    mtu: int
    v4: IPv4Interface | None = None
    v6: IPv6Interface | None = None
    ext_v4: IPv4Address | None = None
    ext_v6: IPv6Address | None = None


@dataclass(frozen=True, slots=True)
class Hop:
    """A route of the underlay: how the kernel reaches `dst` without the overlay."""

    dst: IPNetwork
    dev: str
    gateway: bool
    metric: int = 0


@dataclass(frozen=True, slots=True)
class Underlay:
    """The main table as far as it is not ours, to tell neighbours from hosts behind a gateway."""

    hops: tuple[Hop, ...] = ()

    def direct(self, address: IPAddress) -> str | None:
        """Return the device that reaches `address` without a gateway, if one does."""
        found = [h for h in self.hops if h.dst.version == address.version and address in h.dst]
        if not found:
            return None
        best = min(found, key=lambda hop: (-hop.dst.prefixlen, hop.metric))
        return None if best.gateway else best.dev


@dataclass(frozen=True, slots=True)
class Host:
    """What a backend builds on.

    Attributes:
        macs: MAC by overlay device name, kept over restarts; a device not named here has none yet.
        fresh_mac: one to use for such a device; locally administered, unicast.
        suffix: "" for the default network; tells the names of another's devices apart (trap T27).
        prepared: what the backend's `prepare` returned.
    """

    config: NetworkConfig
    uplink: Uplink
    underlay: Underlay = field(default_factory=Underlay)
    macs: Mapping[str, str] = field(default_factory=dict)
    fresh_mac: str = "0a:00:00:00:00:01"
    suffix: str = ""
    prepared: object = None


class Backend(Protocol):
    """One way to carry packets; all its methods are pure."""

    @property
    def type(self) -> str:
        """The `BackendType` of our lease and of the peers' leases that concern us."""
        ...

    @property
    def takes_any(self) -> bool:
        """Say whether leases of every type concern us (trap T25: only udp's do)."""
        ...

    @property
    def mtu(self) -> int:
        """What the containers may send: FLANNEL_MTU."""
        ...

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of the overlay devices."""
        ...

    @property
    def ports(self) -> Mapping[int, int]:
        """By address family, the UDP port that only peers have business with: none, mostly."""
        ...

    def attributes(self) -> Attributes:
        """Return the value of our own lease."""
        ...

    def identity(self, attributes: Attributes) -> dict[str, str]:
        """Return the MACs by device that a former lease of ours advertised."""
        ...

    def own(self, subnets: Subnets) -> Sequence[Object]:
        """Return what this host needs whoever its peers are."""
        ...

    def peer(self, lease: Lease) -> Sequence[Object]:
        """Return what this host needs to reach one peer.

        Raises:
            FieldError: the peer's data cannot be used.
        """
        ...


def advertised(host: Host, kind: str = "", data: bytes = b"", data6: bytes = b"") -> Attributes:
    """Return the value of our own lease: the uplink's public addresses, and a backend's data."""
    uplink, config = host.uplink, host.config
    public4 = uplink.ext_v4 if config.v4 is not None else None
    return Attributes(
        public_ip=NO_PUBLIC_IP if public4 is None else public4,
        public_ipv6=uplink.ext_v6 if config.v6 is not None else None,
        backend_type=kind,
        backend_data=data,
        backend_v6_data=data6,
    )


def device(host: Host, usual: str, short: str) -> str:
    """Return an overlay device's name: the original's, or for another network one of its own."""
    return f"{short}{host.suffix}" if host.suffix else usual


def live_options(kind: str) -> frozenset[str]:
    """Return the options of a type, in lower case, that may change while the daemon runs."""
    if kind in _LATER or kind in _REMOVED or not _MODULE.fullmatch(kind):
        return frozenset()
    module = f"{__name__}.{kind.replace('-', '_')}"
    if find_spec(module) is None:
        return frozenset()
    found: frozenset[str] = getattr(import_module(module), "LIVE", frozenset())
    return found


def build(host: Host) -> Backend:
    """Return the backend that the network configuration names.

    Raises:
        FieldError: the type is not one we have, or one of its options is wrong.
    """
    try:
        made: Backend = _module(host.config).build(host)
    except FieldError as error:
        raise FieldError(f"Backend: {error}") from error
    return made


async def prepare(host: Host, *, planning: bool) -> Host:
    """Return `host` with what its backend needs of the world before it can be built.

    A backend's module may have a coroutine `prepare(host, planning=…)` for it; with `planning`
    it must change nothing.

    Raises:
        FairleadError: it cannot be had.
    """
    module = _module(host.config)
    if not hasattr(module, "prepare"):
        return host
    return replace(host, prepared=await module.prepare(host, planning=planning))


def equip(kernel: Kernel, host: Host) -> None:
    """Give `kernel` what observes and applies the backend's own kinds of objects.

    A backend's module may have a function `equip(kernel, host)` for it.
    """
    module = _module(host.config)
    if hasattr(module, "equip"):
        module.equip(kernel, host)


def _module(config: NetworkConfig) -> ModuleType:
    name = config.backend.type
    if name in _REMOVED:
        raise FieldError(f'Backend.Type: "{name}" was removed from flannel in 0.20.0')
    if name in _LATER:
        raise FieldError(f'Backend.Type: "{name}" is not built yet')
    module = f"{__name__}.{name.replace('-', '_')}"
    if not _MODULE.fullmatch(name) or find_spec(module) is None:
        raise FieldError(
            f'Backend.Type: unknown backend "{name}"; vxlan and host-gw are the usual ones'
        )
    return import_module(module)
