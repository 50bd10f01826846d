# SPDX-License-Identifier: Apache-2.0
"""What a host is made of besides rtnetlink's objects: rules, tunnels' peers, commands.

A part observes and applies the kinds it names; the plan needs nothing new for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from fairlead.errors import ActionError
from flannelpy.plan import Action
from flannelpy.state import Key, Kind, Link, Object, Tunnel


class Part(Protocol):
    """Observes and applies some kinds of objects."""

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds it looks after."""
        ...

    async def observe(self, keys: Collection[Key] | None) -> Sequence[Object]:
        """Return what is there of ours, of these kinds: everything (None) or under the keys.

        Raises:
            ActionError: the host refused to tell.
        """
        ...

    async def carry_out(self, actions: Sequence[Action]) -> Sequence[ActionError]:
        """Do these actions in order; return what was refused."""
        ...


class Maker(Protocol):
    """Makes devices that a program stands behind."""

    async def make(self, link: Link) -> bool:
        """Make a device, still down; return False for one of another kind.

        Raises:
            KernelError: refused.
        """
        ...

    def made(self, name: str) -> Tunnel | None:
        """Return what the TUN device of this name is, when we or a program of ours stand behind it."""
        ...
