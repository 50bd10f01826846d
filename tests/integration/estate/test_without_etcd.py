# SPDX-License-Identifier: Apache-2.0
"""All four daemons killed and started while etcd is down: they serve what they last knew."""

import asyncio
import json

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(150)]

LIMIT = 30.0  # seconds: it does not hang; what it took is printed (docs/performance.md)


async def power_cut(it):
    """All is killed and etcd stays away; what a reboot takes is gone from kernel and disk."""
    await asyncio.sleep(1.2)  # the last-known-good file is at most 1 s behind
    await it.cluster.nodes[0].kill()
    await it.kill()
    it.dest.unlink()
    if it.host is not None:
        await it.host.ip("link del flannel.1")
        (it.home / "subnet.env").unlink()
    for daemon in it.daemons.values():
        daemon.log_file.unlink()


async def test_all_daemons_serve_what_they_last_knew(make_estate):
    async with make_estate() as it:
        subnet = (it.home / "subnet.env").read_text() if it.host else ""
        await power_cut(it)
        begun = asyncio.get_running_loop().time()
        await it.start()
        await it.until(it.wanted(1, 2, 3), LIMIT)
        took = asyncio.get_running_loop().time() - begun
        print(f"all four serve again {took:.2f} s after their start, without etcd")
        await it.ready(LIMIT)
        if it.host:
            assert (it.home / "subnet.env").read_text() == subnet
        # how old it is: log, metric, status
        for daemon in it.daemons.values():
            (line, *_) = [x for x in daemon.log.splitlines() if "serving from the state file" in x]
            assert "age_seconds=" in line
            assert daemon.metric("fairlead_etcd_connected") == 0
            assert daemon.metric("fairlead_etcd_stale_seconds") > 1.0
        status, out = await it.fairlead("status")
        assert status == 0, out  # they serve: they are ready
        for line in out.splitlines()[1:]:
            assert float(line.split()[4]) > 1.0, out
            assert "etcd-connected" in line
        _, out = await it.fairlead("status", "-o", "json")
        for told in json.loads(out):
            assert all(mirror["stale_seconds"] > 1 for mirror in told["mirrors"])
        # etcd comes back: followed again, and the data are young
        await it.cluster.nodes[0].start()
        await it.cluster.healthy()
        await it.write(4)
        await it.until(it.wanted(1, 2, 3, 4))
        await it.claim(
            lambda: all(d.metric("fairlead_etcd_connected") == 1 for d in it.daemons.values())
        )


async def test_a_damaged_file_is_refused_in_words(make_estate):
    async with make_estate() as it:
        await power_cut(it)
        for daemon in it.daemons.values():
            files = sorted(daemon.state.glob("*.state"))
            assert files, daemon.name
            for file in files:
                body = bytearray(file.read_bytes())
                body[len(body) // 2] ^= 1
                file.write_bytes(body)
        await it.start()
        for daemon in it.daemons.values():
            await it.claim(lambda d=daemon: "state file refused" in d.log)
            assert "is damaged" in daemon.log
            assert "delete it to start without it" in daemon.log
            await it.claim(lambda d=daemon: "waiting for etcd" in d.log)
        status, out = await it.fairlead("status", "-o", "json")
        assert status == 1
        assert out.count("does not answer and there is no state file to serve from") == len(
            it.daemons
        )
        await it.cluster.nodes[0].start()
        await it.cluster.healthy()
        await it.ready()
        await it.until(it.wanted(1, 2, 3))
