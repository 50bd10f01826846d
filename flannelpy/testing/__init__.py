# SPDX-License-Identifier: Apache-2.0
"""`FakeKernel`: a network namespace in memory, for tests of what stands on `flannelpy.kernel`.

::

    requests (netlink messages) ─► FakeKernel ─► Namespace: links, addresses, routes, entries
                                                     │
    heard(notifications, with their sender's port) ◄─┘

It takes the very messages that the real one gets, so encoders and parsers are under test too.
Two FakeKernels on one `Namespace` are two programs on one host: one plays the stranger. What it
keeps of the kernel's ways is what tests/contract/test_kernel.py asks of both. There are no rules,
no programs behind devices, no packets.
"""

from __future__ import annotations

from flannelpy.testing.kernel import FakeKernel
from flannelpy.testing.namespace import Namespace

__all__ = ["FakeKernel", "Namespace"]
