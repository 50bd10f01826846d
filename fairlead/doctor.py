# SPDX-License-Identifier: Apache-2.0
"""`fairlead doctor`: is etcd there, what is known of its version, may we, does the clock run."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fairlead.errors import StoreError
from fairlead.etcd import versions
from fairlead.etcd.client import connect
from fairlead.etcd.errors import Denied
from fairlead.etcd.options import Options
from fairlead.etcd.types import KeyRange, Range

PREFIXES: Final = (b"/coreos.com/network/", b"/skydns/", b"/vulcand/")
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
_BUILT: Final = 1_735_689_600  # 2025-01-01; a clock before it never was set


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `level` is "ok", "warning" or "error"."""

    level: str
    about: str
    text: str


async def examine(options: Options, prefixes: Sequence[bytes] = PREFIXES) -> list[Finding]:
    """Look at etcd and at this host."""
    found = [clock(time.time(), synchronised())]
    async with connect(options) as store:
        try:
            status = await store.status()
        except Denied:
            found.append(Finding("warning", "etcd", "answers, but does not tell us its version"))
        except StoreError as error:
            where = ", ".join(options.endpoints)
            text = f"not reachable at {where}: {error}; does it run, is a firewall between?"
            return [*found, Finding("error", "etcd", text)]
        else:
            text = f"reachable at {status.endpoint}, version {status.version}, revision {status.header.revision}"
            found.append(Finding("ok", "etcd", text))
            found += [
                Finding("warning", "version", line) for line in versions.warnings(status.version)
            ]
            found += [Finding("error", "alarm", line) for line in status.errors]
        for prefix in prefixes:
            name = prefix.decode("utf-8", "backslashreplace")
            try:
                answer = await store.range(Range(KeyRange.prefix(prefix), count_only=True))
            except Denied as error:
                found.append(Finding("warning", "rights", f"{name}: may not read: {error}"))
            except StoreError as error:
                found.append(Finding("error", "rights", f"{name}: {error}"))
            else:
                found.append(Finding("ok", "rights", f"{name}: may read, {answer.count} keys"))
    return found


def clock(wall: float, synced: bool | None) -> Finding:
    """Judge the wall clock: certificates, DNSSEC and file ages depend on it."""
    if wall < _BUILT:
        return Finding(
            "error", "clock", f"says {time.strftime('%Y-%m-%d', time.gmtime(wall))}; set it"
        )
    if synced is None:
        return Finding("warning", "clock", "the kernel does not say whether it is synchronised")
    if not synced:
        return Finding("warning", "clock", "not synchronised by NTP, says the kernel")
    return Finding("ok", "clock", "synchronised")


def synchronised() -> bool | None:
    """Ask the kernel whether NTP keeps its clock; None where it will not say."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state = libc.adjtimex(ctypes.create_string_buffer(512))  # struct timex: 208 bytes; modes 0
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR
