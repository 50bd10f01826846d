# SPDX-License-Identifier: Apache-2.0
"""extension: the operator's own commands carry the packets (specs/flannel.md §10.7). Pure.

::

    PreStartupCommand    before the lease: what it writes is our BackendData
    PostStartupCommand   with the lease
    SubnetAddCommand     a peer comes: SUBNET, PUBLIC_IP; its BackendData on standard input
    SubnetRemoveCommand  a peer goes

A command is a text, split into words as a shell splits, or a list of words: `["prog", "arg"]`.
`$NAME` in a word stands for a variable, and is never split again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from flannelpy import commands
from flannelpy.backends import Host, advertised
from flannelpy.commands import Command, Commands, Words
from flannelpy.fields import FieldError, encode_json
from flannelpy.kernel import Kernel
from flannelpy.keys import Subnets
from flannelpy.records import Attributes, Lease
from flannelpy.state import Object

NAMES = ("PreStartupCommand", "PostStartupCommand", "SubnetAddCommand", "SubnetRemoveCommand")


def parse(fields: Mapping[str, bytes]) -> tuple[Words, Words, Words, Words]:
    """Return the four commands in the `Backend` object; an empty one is none.

    Raises:
        FieldError: one is neither a text nor a list of texts.
    """
    before, after, add, remove = (_words(name, fields.get(name.lower(), b'""')) for name in NAMES)
    return before, after, add, remove


def _words(name: str, raw: bytes) -> Words:
    try:
        found = msgspec.json.decode(raw, type=str | list[str] | None)
        return commands.split(found or "") if not isinstance(found, list) else tuple(found)
    except (msgspec.DecodeError, ValueError) as error:
        raise FieldError(f"{name}: {error}") from error


async def prepare(host: Host, *, planning: bool) -> str:
    """Run PreStartupCommand; return what it wrote."""
    before, *_ = parse(host.config.backend.fields)
    return await commands.run(before, {}) if before and not planning else ""


def equip(kernel: Kernel, host: Host) -> None:
    """Bring what runs the commands."""
    kernel.parts += (Commands(),)


def build(host: Host) -> Extension:
    """Return the backend for a host."""
    output = host.prepared if isinstance(host.prepared, str) else ""
    return Extension(host, *parse(host.config.backend.fields), output)


@dataclass(frozen=True, slots=True)
class Extension:
    """A host's side of whatever the commands make.

    Attributes:
        output: what PreStartupCommand wrote.
    """

    host: Host
    before: Words
    after: Words
    add: Words
    remove: Words
    output: str = ""
    type: str = "extension"
    devices: tuple[str, ...] = ()
    takes_any: bool = False
    ports: Mapping[int, int] = field(default_factory=dict)

    @property
    def mtu(self) -> int:
        """The uplink's."""
        return self.host.uplink.mtu

    def attributes(self) -> Attributes:
        """Return the value of our own lease."""
        data = encode_json(self.output) if self.before else b""
        return advertised(self.host, self.type, data)

    def identity(self, attributes: Attributes) -> dict[str, str]:
        """Return nothing: there is no device."""
        return {}

    def own(self, subnets: Subnets) -> Sequence[Object]:
        """Return PostStartupCommand."""
        if not self.after:
            return ()
        uplink, config = self.host.uplink, self.host.config
        about = {
            "NETWORK": None if config.v4 is None else config.v4.network,
            "SUBNET": subnets.v4,
            "IPV6SUBNET": subnets.v6,
            "PUBLIC_IP": uplink.ext_v4,
            "PUBLIC_IPV6": uplink.ext_v6,
        }
        return (Command("start", self.after, (), _variables(about)),)

    def peer(self, lease: Lease) -> Sequence[Object]:
        """Return SubnetAddCommand and what undoes it."""
        has, subnets = lease.attributes, lease.subnets
        about = {
            "SUBNET": subnets.v4,
            "PUBLIC_IP": has.public_ip,
            "IPV6SUBNET": subnets.v6,
            "PUBLIC_IPV6": has.public_ipv6,
        }
        data = has.backend_data.decode("utf-8", "replace")
        if data.startswith('"'):
            data = str(msgspec.json.decode(data))
        return (Command(str(subnets), self.add, self.remove, _variables(about), data),)


def _variables(about: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    return tuple((name, "" if it is None else str(it)) for name, it in about.items())
