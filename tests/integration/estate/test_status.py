# SPDX-License-Identifier: Apache-2.0
"""`fairlead status` beside all four daemons, and what a malformed key does to its neighbours."""

import json

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(150)]

HEADER = ["PROGRAM", "PID", "READY", "REVISION", "LAG", "RECORDS", "REJECTED", "WHY"]


async def test_status_shows_all_daemons(make_estate):
    async with make_estate() as it:
        status, out = await it.fairlead("status")
        assert status == 0, out
        lines = out.splitlines()
        assert lines[0].split() == HEADER
        rows = {line.split()[0]: line.split() for line in lines[1:]}
        assert set(rows) == set(it.daemons)
        for name, daemon in it.daemons.items():
            _, pid, ready, revision, lag, unit, _, rejected = rows[name][:8]
            assert (int(pid), ready, lag, unit, rejected) == (daemon.pid, "yes", "0.0", "s", "0")
            assert int(revision) > 1
        status, out = await it.fairlead("status", "-o", "json")
        assert status == 0
        told = {daemon["program"]: daemon for daemon in json.loads(out)}
        assert set(told) == set(it.daemons)
        for daemon in told.values():
            assert daemon["ready"]
            assert all(mirror["synced"] for mirror in daemon["mirrors"])
            assert {c["name"]: c["holds"] for c in daemon["conditions"]}["etcd-connected"]
        await it.daemons["skydns"].end()
        status, out = await it.fairlead("status")
        assert status == 1
        assert [line.split()[1] for line in out.splitlines() if line.startswith("skydns")] == ["no"]
