# SPDX-License-Identifier: Apache-2.0
"""What is published now: the index that answers are made from."""

from __future__ import annotations

from fairlead.reconcile import Scope
from skydns import desired
from skydns.desired import Placed
from skydns.state import Served


async def services(served: Served, scope: Scope) -> Placed:
    """Return the published services of the keys in `scope`, or a copy of all."""
    if scope is None:
        return dict(served.index.services)
    return desired.within(served.index.services, scope)
