from __future__ import annotations

import pytest

from fairlead.demo import hosts


@pytest.fixture
def namespaces() -> None:
    """Skip where hosts cannot be made."""
    reason = hosts.unavailable()
    if reason is not None:
        pytest.skip(reason)
