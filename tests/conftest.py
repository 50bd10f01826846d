# SPDX-License-Identifier: Apache-2.0
"""What holds for every test: no property test fails because the machine is busy, and those that
take long are for who asks (FAIRLEAD_LONG=1)."""

import os

import pytest
from hypothesis import settings

settings.register_profile("fairlead", deadline=None)
settings.load_profile("fairlead")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `long`, unless it was asked for."""
    if os.environ.get("FAIRLEAD_LONG"):
        return
    left = [item for item in items if item.get_closest_marker("long") is not None]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
