# SPDX-License-Identifier: Apache-2.0
"""What the etcd layer does, told to log, metrics and health.

One line for each change of state (connected, lost, resynced, lease lost, regained); the log
itself leaves out repeats of one failure (specs/etcd.md §8b).
"""

from __future__ import annotations

from fairlead.etcd.observer import Observer
from fairlead.etcd.types import Revision
from fairlead.health import Health
from fairlead.log import Log
from fairlead.metrics import Metrics

ETCD_CONNECTED = "etcd-connected"


class Telemetry(Observer):
    """The observer that every client, mirror and session of a daemon gets."""

    def __init__(self, log: Log, metrics: Metrics, health: Health) -> None:
        self._log = log
        self._metrics = metrics
        self._health = health
        self._stale: dict[str, str] = {}  # mirror → why
        self._serving: set[str] = set()  # mirrors that have, or had, something to serve
        self.endpoint = ""
        self.leases: dict[int, str] = {}

    def call(self, rpc: str, result: str, seconds: float) -> None:
        """Count a call."""
        self._metrics.note_call(rpc, result, seconds)

    def connected(self, endpoint: str) -> None:
        """Say which endpoint serves us."""
        if endpoint != self.endpoint:
            self._log.info("etcd connected", endpoint=endpoint)
        self.endpoint = endpoint
        if not self._stale:
            self._health.set(ETCD_CONNECTED, True)

    def lost(self, endpoint: str, reason: str) -> None:
        """Say that an endpoint failed."""
        self._log.warning("etcd connection failed", endpoint=endpoint, reason=reason)
        if endpoint == self.endpoint:
            self.endpoint = ""

    def synced(self, mirror: str, revision: Revision, reason: str, changes: int) -> None:
        """Count a list and say what it changed."""
        self._serving.add(mirror)
        self._metrics.resyncs.labels(reason).inc()
        fields = {"mirror": mirror, "revision": revision, "reason": reason, "changes": changes}
        self._log.info("mirror synced", **fields)

    def stale(self, mirror: str, reason: str) -> None:
        """Say that a mirror serves old data from now on."""
        self._stale[mirror] = reason
        self._health.set(ETCD_CONNECTED, False, f"mirror {mirror}: {reason}")
        if mirror in self._serving:
            message = "etcd lost; the last state keeps serving"
        else:
            message = "etcd not reached yet"
        self._log.warning(message, mirror=mirror, reason=reason)

    def following(self, mirror: str, revision: Revision) -> None:
        """Say that a mirror is in touch again."""
        if self._stale.pop(mirror, None) is not None:
            self._log.info("etcd followed again", mirror=mirror, revision=revision)
        if not self._stale:
            self._health.set(ETCD_CONNECTED, True)

    def state_file(self, mirror: str, path: str, problem: str, age: float = 0.0) -> None:
        """Say that the last-known-good file is in use, or why not."""
        if problem:
            fields = {"mirror": mirror, "path": path, "reason": problem}
            self._log.error("state file refused", **fields)
        else:
            self._serving.add(mirror)
            old = round(age, 1)
            self._log.warning(
                "serving from the state file", mirror=mirror, path=path, age_seconds=old
            )

    def no_state_file(self, mirror: str, path: str) -> None:
        """Say that there is nothing to serve until etcd answers."""
        self._log.warning("no state file yet: nothing to serve from", mirror=mirror, path=path)

    def lease(self, lease: int, state: str) -> None:
        """Say what became of a lease; renewals are not worth a line."""
        self.leases[lease] = state
        if state == "lost":
            self._log.warning("lease lost", lease=f"{lease:x}")
        elif state in ("granted", "regained"):
            self._log.info(f"lease {state}", lease=f"{lease:x}")
