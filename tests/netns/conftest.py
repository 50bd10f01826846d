from __future__ import annotations

import asyncio
import ctypes
import os
import threading

import pytest

from fairlead.demo import hosts


@pytest.fixture
def namespaces() -> None:
    """Skip where hosts cannot be made."""
    reason = hosts.unavailable()
    if reason is not None:
        pytest.skip(reason)


CLONE_NEWNET = 0x40000000


def _namespace():
    return os.stat(f"/proc/self/task/{threading.get_native_id()}/ns/net").st_ino


@pytest.fixture
def in_namespace(namespaces):
    """Return a function that runs a coroutine in a thread with a network namespace of its own."""

    def run(main, *args):
        outcome = []

        def body():
            machine = _namespace()
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
                outcome.append(OSError(ctypes.get_errno(), "unshare"))
                return
            try:
                assert _namespace() != machine, "refusing to run in the machine's own namespace"
                outcome.append(asyncio.run(main(*args)))
            except BaseException as error:  # noqa: BLE001  (handed to the test)
                outcome.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    return run
