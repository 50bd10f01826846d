# SPDX-License-Identifier: Apache-2.0
"""The subnet file: /run/flannel/subnet.env, text ↔ values (specs/flannel.md §12). Pure.

Docker, the CNI plugin and the next start of the daemon read it; the CNI plugin splits at `=`
and does not unquote, so nothing is ever quoted (trap T13).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import TypeVar

from flannelpy.keys import Subnets

_Interface = TypeVar("_Interface", IPv4Interface, IPv6Interface)


@dataclass(frozen=True, slots=True)
class SubnetEnv:
    """What the file says; a pair of None: that family is off."""

    network: IPv4Network | None
    subnet: IPv4Network | None
    ipv6_network: IPv6Network | None
    ipv6_subnet: IPv6Network | None
    mtu: int
    ipmasq: bool

    def render(self) -> str:
        """Return the file's text; SUBNET is the first usable address, base + 1."""
        lines = []
        if self.network is not None and self.subnet is not None:
            gateway = self.subnet.network_address + 1
            lines += [
                f"FLANNEL_NETWORK={self.network}",
                f"FLANNEL_SUBNET={gateway}/{self.subnet.prefixlen}",
            ]
        if self.ipv6_network is not None and self.ipv6_subnet is not None:
            gateway6 = self.ipv6_subnet.network_address + 1
            lines += [
                f"FLANNEL_IPV6_NETWORK={self.ipv6_network}",
                f"FLANNEL_IPV6_SUBNET={gateway6}/{self.ipv6_subnet.prefixlen}",
            ]
        lines += [f"FLANNEL_MTU={self.mtu}", f"FLANNEL_IPMASQ={str(self.ipmasq).lower()}"]
        return "\n".join(lines) + "\n"


def values(text: str) -> dict[str, str]:
    """Return the assignments of an env file; quotes, `export`, comments and CRs are accepted."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if not equals or name.lstrip().startswith("#"):
            continue
        try:
            words = shlex.split(value, comments=True)
        except ValueError:  # a quote that never ends: take it as it stands
            words = [value.strip()]
        found[name.strip()] = words[0] if words else ""
    return found


def previous(text: str) -> tuple[Subnets | None, tuple[str, ...]]:
    """Return the subnets that a former run wrote, and what could not be used of them.

    A list (written by some kube versions) is used when it has just one usable element.
    """
    found = values(text)
    problems: list[str] = []
    v4 = _only(found, "FLANNEL_SUBNET", IPv4Interface, problems)
    v6 = _only(found, "FLANNEL_IPV6_SUBNET", IPv6Interface, problems)
    net4 = None if v4 is None else v4.network
    net6 = None if v6 is None else v6.network
    if net4 is None and net6 is None:
        return None, tuple(problems)
    return Subnets(net4, net6), tuple(problems)


def _only(
    found: dict[str, str], name: str, kind: type[_Interface], problems: list[str]
) -> _Interface | None:
    """Return the one usable address of a variable."""
    usable = []
    for word in filter(None, found.get(name, "").split(",")):
        try:
            usable.append(kind(word.strip()))
        except ValueError:
            problems.append(f'{name}: "{word}" is not an address with a length')
    if len(usable) > 1:
        problems.append(f"{name}: {len(usable)} subnets; expected one")
        return None
    return usable[0] if usable else None
