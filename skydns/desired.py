# SPDX-License-Identifier: Apache-2.0
"""What should be served: the good records, within a scope. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.reconcile import Scope
from skydns.records import Service

Placed = Mapping[bytes, Service]
"""Services by etcd key; whole within the scope they were made for."""


def services(good: Placed, scope: Scope) -> Placed:
    """Return the services that should be published, of the keys in `scope` or all."""
    return within(good, scope)


def within(placed: Placed, scope: Scope) -> Placed:
    """Return the part of `placed` that a scope names; O(scope), not O(placed)."""
    if scope is None:
        return placed
    return {key: placed[key] for key in scope if isinstance(key, bytes) and key in placed}
