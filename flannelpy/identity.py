# SPDX-License-Identifier: Apache-2.0
"""Who this host is: its uplink, the backend on it, its MACs, its former subnet."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from fairlead.log import Log
from flannelpy import backends, observe, subnet_env, uplink
from flannelpy.allocate import Mark, Wish, is_ours
from flannelpy.backends import Backend, Host, Underlay, Uplink
from flannelpy.config import Config
from flannelpy.fields import FieldError
from flannelpy.firewall.wanted import suffix
from flannelpy.kernel import Kernel
from flannelpy.keys import Subnets
from flannelpy.records import Lease, NetworkConfig
from flannelpy.sources import StartError
from flannelpy.state import IPAddress, Territory, mac_text


async def find(
    kernel: Kernel,
    network: NetworkConfig,
    ours: Uplink,
    leases: Iterable[Lease],
    mark: Mark | None,
    prefix: str,
    *,
    planning: bool = False,
) -> Host:
    """Return what the backend builds on; MACs are kept (trap T15), new ones are random.

    Raises:
        StartError: the backend cannot be built.
    """
    fresh = bytes((secrets.randbits(8) & 0xFC | 0x02, *secrets.token_bytes(5)))  # local, unicast
    about = Host(network, ours, fresh_mac=mac_text(int.from_bytes(fresh)), suffix=suffix(prefix))
    try:
        about = await backends.prepare(about, planning=planning)
    except FieldError as error:
        raise StartError(f"network configuration: {error}") from error
    backends.equip(kernel, about)
    backend = build(about)
    macs = _macs_of_lease(network, backend, leases, wish(backend, None, mark))
    for dev in backend.devices:
        there = await kernel.interface(dev)
        if there is not None and there.link.tunnel is not None:
            macs[dev] = there.mac
    return replace(about, macs=macs, underlay=await underlay(kernel, about))


async def find_uplink(kernel: Kernel, config: Config, network: NetworkConfig, log: Log) -> Uplink:
    """Return the interface that the command line, or the kernel, leads to.

    Raises:
        UplinkError: no interface faces the other hosts.
    """
    found = await uplink.find(kernel, _request(config, network))
    log.info(
        "interface chosen",
        name=found.name,
        address=found.v4 or found.v6,
        public=found.ext_v4 or found.ext_v6,
    )
    return found


async def follow_uplink(
    kernel: Kernel, config: Config, network: NetworkConfig, now: Uplink
) -> Uplink:
    """Return the same interface with the addresses and the MTU it has by now.

    Raises:
        UplinkError: it is gone, or has no usable address at the moment.
    """
    request = _request(config, network)
    return uplink.again(request, await uplink.facts(kernel, request), now)


def _request(config: Config, network: NetworkConfig) -> uplink.Request:
    return uplink.Request(
        config.iface,
        config.iface_regex,
        config.can_reach,
        config.public_ip,
        config.public_ipv6,
        network.v4 is not None,
        network.v6 is not None,
    )


async def card(kernel: Kernel, ours: Uplink) -> str:
    """Return the MAC of the uplink, which a clone of this machine would not have."""
    there = await kernel.interface(ours.name)
    return "" if there is None else there.mac


def build(about: Host) -> Backend:
    """Return the backend.

    Raises:
        StartError: the configuration names none that we have, or one of its options is wrong.
    """
    try:
        return backends.build(about)
    except FieldError as error:
        raise StartError(f"network configuration: {error}") from error


async def underlay(kernel: Kernel, about: Host) -> Underlay:
    """Return how hosts are reached without the overlay."""
    families = ((4, about.config.v4), (6, about.config.v6))
    versions = tuple(number for number, half in families if half is not None)
    return await observe.underlay(kernel, Territory(build(about).devices, ()), versions)


def public(about: Host) -> IPAddress | None:
    """Return the address that tells this host from others: IPv4's where there is IPv4."""
    return about.uplink.ext_v4 if about.config.v4 is not None else about.uplink.ext_v6


def wish(backend: Backend, previous: Subnets | None, mark: Mark | None) -> Wish:
    """Return who asks for a lease."""
    attributes = backend.attributes()
    return Wish(attributes.public_ip, attributes.public_ipv6, previous, mark)


def previous(config: Config, log: Log) -> Subnets | None:
    """Return the subnet of the last run, from the subnet file."""
    try:
        text = Path(config.subnet_file).read_text("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("subnet file not read", reason=str(error))
        return None
    found, problems = subnet_env.previous(text)
    for problem in problems:
        log.warning("previous subnet not used", reason=problem)
    return found


def _macs_of_lease(
    network: NetworkConfig, backend: Backend, leases: Iterable[Lease], who: Wish
) -> dict[str, str]:
    """Return the MACs that our lease advertises: after a reboot peers need not relearn them."""
    for lease in leases:
        if is_ours(network, lease, who) and lease.attributes.backend_type == backend.type:
            return backend.identity(lease.attributes)
    return {}
