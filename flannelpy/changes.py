# SPDX-License-Identifier: Apache-2.0
"""Which changes of the network configuration can be applied while the daemon runs. Pure.

Safe is what this host can do alone without a packet lost: the range that subnets are chosen
from, as long as ours stays in it, and the backend's options that its module names in `LIVE`.
All else has to happen on all hosts together, or with the containers stopped.
"""

from __future__ import annotations

from collections.abc import Iterator

from flannelpy.allocate import fits
from flannelpy.keys import Subnets
from flannelpy.records import NetworkConfig, Range4, Range6

_RESTART = "stop the containers of all hosts, then restart every flanneld"


def refusals(
    now: NetworkConfig, wanted: NetworkConfig, held: Subnets, live: frozenset[str]
) -> tuple[str, ...]:
    """Return why `wanted` cannot take the place of `now`; nothing: it can.

    Args:
        live: the backend's options, in lower case, that may change.
    """
    return tuple(_refusals(now, wanted, held, live))


def _refusals(
    now: NetworkConfig, wanted: NetworkConfig, held: Subnets, live: frozenset[str]
) -> Iterator[str]:
    families = (("EnableIPv4", now.v4, wanted.v4), ("EnableIPv6", now.v6, wanted.v6))
    whole = True
    for field, before, after in families:
        if (before is None) != (after is None):
            whole = False
            yield f"{field}: a family comes or goes at a restart of flanneld only"
        elif before is not None and after is not None and before.network != after.network:
            whole = False
            yield f"{_network(field)}: {before.network} → {after.network}: {_RESTART}"
    if whole and not fits(wanted, held):
        which = _range(wanted.v4) or _range(wanted.v6)
        yield f"our subnet {held} is not of the new range {which}: restart flanneld, with no containers left on this host"
    if now.backend.type != wanted.backend.type:
        yield f'Backend.Type: "{now.backend.type}" → "{wanted.backend.type}": {_RESTART}'
        return
    before_fields, after_fields = now.backend.fields, wanted.backend.fields
    for name in sorted(before_fields.keys() | after_fields.keys()):
        if name not in live and before_fields.get(name) != after_fields.get(name):
            yield f'Backend option "{name}": all hosts must agree on it; {_RESTART}'


def _network(field: str) -> str:
    return "Network" if field == "EnableIPv4" else "IPv6Network"


def _range(half: Range4 | Range6 | None) -> str:
    return "" if half is None else f"{half.subnet_min}–{half.subnet_max} /{half.subnet_len}"
