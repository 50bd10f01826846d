# SPDX-License-Identifier: Apache-2.0
"""`fairlead doctor` and `watch` on a real etcd."""

import asyncio
import sys

import pytest

from fairlead import doctor
from fairlead.etcd.options import Options
from fairlead.testing.etcd import free_ports, real_etcd

pytestmark = [pytest.mark.integration, pytest.mark.slow]


async def test_doctor_names_version_and_rights() -> None:
    async with real_etcd() as cluster:
        await cluster.etcdctl("put", "/skydns/a", "x")
        found = await doctor.examine(Options(endpoints=cluster.endpoints))
        by_about = {(f.about, f.level): f.text for f in found}
        assert "reachable at" in by_about["etcd", "ok"]
        assert any(f.text == "/skydns/: may read, 1 keys" for f in found)
        assert all(f.level != "error" for f in found)
        if "version 3.4.23" in by_about["etcd", "ok"]:
            assert any("lose events after a compaction" in f.text for f in found)

        for line in (
            "user add root:r",
            "role add names",
            "role grant-permission names read /skydns/ --prefix",
            "user add dns:d",
            "user grant-role dns names",
            "user grant-role root root",
            "auth enable",
        ):
            await cluster.etcdctl(*line.split())
        found = await doctor.examine(Options(endpoints=cluster.endpoints, user="dns:d"))
        rights = {f.text.split(":")[0]: f.level for f in found if f.about == "rights"}
        assert rights == {
            "/coreos.com/network/": "warning",
            "/skydns/": "ok",
            "/vulcand/": "warning",
        }


async def test_doctor_says_that_etcd_is_away() -> None:
    (port,) = free_ports(1)
    found = await doctor.examine(Options(endpoints=(f"http://127.0.0.1:{port}",)))
    assert found[-1].level == "error"
    assert f"not reachable at http://127.0.0.1:{port}" in found[-1].text


async def test_watch_prints_what_stands_and_what_changes() -> None:
    async with real_etcd() as cluster:
        await cluster.etcdctl("put", "/w/a", "1")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fairlead", "watch", "/w/"),
            *("--endpoints", cluster.endpoints[0]),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(10):
            assert (await process.stdout.readline()).split()[1:] == [b"2", b"have", b"/w/a", b"1"]
            await cluster.etcdctl("put", "/w/b", "2")
            assert (await process.stdout.readline()).split()[1:] == [b"3", b"put", b"/w/b", b"2"]
            await cluster.etcdctl("del", "/w/a")
            assert (await process.stdout.readline()).split()[1:] == [b"4", b"delete", b"/w/a"]
            process.terminate()
            await process.wait()
        process._transport.close()  # type: ignore[attr-defined]
