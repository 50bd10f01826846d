# SPDX-License-Identifier: Apache-2.0
"""The data plane alone, for traps of traffic: as tests/integration/lb has it."""

from tests.integration.lb.conftest import Rig, named, pool_of, rig

__all__ = ["Rig", "named", "pool_of", "rig"]
