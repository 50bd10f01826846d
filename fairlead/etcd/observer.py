# SPDX-License-Identifier: Apache-2.0
"""Who is told what the client layer does: metrics, log and status take note through this seam."""

from __future__ import annotations

from fairlead.etcd.types import Revision


class Observer:
    """Takes no note; a subclass overrides what it wants. Called on the loop, must not block."""

    def call(self, rpc: str, result: str, seconds: float) -> None:
        """Take note of one try of a call; `result` is "ok" or the error's class name."""

    def connected(self, endpoint: str) -> None:
        """Take note: a connection to `endpoint` is usable."""

    def lost(self, endpoint: str, reason: str) -> None:
        """Take note: a connection to `endpoint`, or the try to make one, failed."""

    def synced(self, mirror: str, revision: Revision, reason: str, changes: int) -> None:
        """Take note: a list was compared; `reason` is one of `follow.REASONS`."""

    def stale(self, mirror: str, reason: str) -> None:
        """Take note: `mirror` does not follow any more; once per outage."""

    def following(self, mirror: str, revision: Revision) -> None:
        """Take note: `mirror` follows (again), with a watch from after `revision`."""

    def events(self, mirror: str, revision: Revision, count: int) -> None:
        """Take note: one answer of a watch was applied (`count` 0: progress)."""

    def state_file(self, mirror: str, path: str, problem: str, age: float = 0.0) -> None:
        """Take note: the last-known-good file, `age` s old, is used (`problem` ""), or why not."""

    def no_state_file(self, mirror: str, path: str) -> None:
        """Take note: etcd does not answer, and no last-known-good file was written yet."""

    def lease(self, lease: int, state: str) -> None:
        """Take note of a session's lease: "granted", "kept", "lost", "regained"."""


SILENT = Observer()
