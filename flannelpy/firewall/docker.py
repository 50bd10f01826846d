# SPDX-License-Identifier: Apache-2.0
"""What Docker did to iptables' filter table, and with it to everybody who forwards. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

USER: Final = "DOCKER-USER"
"""The chain that Docker keeps for the operator and calls before its own rules."""


@dataclass(frozen=True, slots=True)
class Docker:
    """What Docker did to the filter table.

    Attributes:
        drops: FORWARD's policy is DROP.
        user: there is a chain DOCKER-USER.
        user_at: the number of its last rule, when that is a bare RETURN; else 0.
    """

    drops: bool = False
    user: bool = False
    user_at: int = 0


def seen(saved: str) -> Docker:
    """Return what the text of `iptables-save -t filter` says of Docker."""
    lines = saved.splitlines()
    user = [line for line in lines if line.startswith(f"-A {USER} ")]
    return Docker(
        any(line.startswith(":FORWARD DROP") for line in lines),
        any(line.startswith(f":{USER} ") for line in lines),
        len(user) if user and user[-1] == f"-A {USER} -j RETURN" else 0,
    )
