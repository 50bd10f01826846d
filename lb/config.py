# SPDX-License-Identifier: Apache-2.0
"""Config: all that the load balancer takes from outside, whole and checked."""

from __future__ import annotations

from dataclasses import dataclass, field

from fairlead.etcd.options import Options
from lb.keys import ROOTS


@dataclass(frozen=True, slots=True)
class Config:
    """Durations in seconds.

    Attributes:
        etcd: how to reach etcd.
        roots: key prefixes that are read; written to is the first that holds anything.
        listen: the built-in listener's host:port; None for no such listener.
        api: the admin API's host:port.
        endpoint_read_timeout: until the first byte of a response, where a backend says nothing.
    """

    etcd: Options = field(default_factory=Options)
    roots: tuple[str, ...] = ROOTS
    listen: str | None = ":8181"
    api: str = ":8182"
    pid_path: str = ""
    log: str = "console"
    log_level: str = "warning"
    max_header_bytes: int = 1 << 20
    read_timeout: float = 60.0
    write_timeout: float = 60.0
    dial_timeout: float = 5.0
    endpoint_read_timeout: float = 60.0
    trust_forward: bool = False
