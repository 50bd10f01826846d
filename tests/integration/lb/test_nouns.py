# SPDX-License-Identifier: Apache-2.0
"""`fairlead lb …` against a real etcd, with no daemon running."""

import asyncio
import json
import sys

import pytest

from fairlead.testing.etcd import real_etcd

pytestmark = [pytest.mark.integration, pytest.mark.slow]

KEYS = {
    "/vulcand/backends/api/backend": {"Type": "http"},
    "/vulcand/backends/api/servers/s1": {"URL": "http://192.0.2.1:8080"},
    "/vulcand/backends/spare/backend": {"Type": "http"},
    "/vulcand/frontends/exact/frontend": {
        "Type": "http", "BackendId": "api", "Route": 'Host("a.example.org") && Path("/v1/users")',
    },
    "/vulcand/frontends/broad/frontend": {
        "Type": "http", "BackendId": "spare", "Route": 'Host("a.example.org")',
    },
    "/vulcand/frontends/exact/middlewares/rl": {
        "Id": "rl", "Type": "ratelimit", "Priority": 2,
        "Middleware": {"Requests": 1, "PeriodSeconds": 1, "Burst": 3, "Variable": "client.ip"},
    },
}  # fmt: skip


async def test_explain_and_lint():
    async with real_etcd() as cluster:

        async def lb(*words):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "from lb.nouns import lb; lb()", *words,
                f"--endpoints={cluster.endpoints[0]}",
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            out, _ = await process.communicate()
            return process.returncode, out.decode()

        for key, value in KEYS.items():
            await cluster.etcdctl("put", key, json.dumps(value))

        status, out = await lb("explain", "GET", "http://a.example.org/v1/users")
        assert status == 0
        assert out.splitlines()[0].startswith("frontend exact: ")
        assert "  backend  api: s1 http://192.0.2.1:8080" in out
        assert "  passes   ratelimit rl, priority 2" in out
        assert '  shadows  broad: Host("a.example.org")' in out

        status, out = await lb("explain", "GET", "http://a.example.org/other", "-o", "json")
        told = json.loads(out)
        assert (status, told["frontend"], told["servers"]) == (0, "broad", [])

        assert (await lb("explain", "GET", "http://b.example.org/"))[0] == 1
        status, out = await lb("explain", "GET", "not a url")
        assert (status, "Error: " in out) == (1, True)

        await cluster.etcdctl("put", "/vulcand/backends/bad/backend", "{")
        await cluster.etcdctl("put", "/vulcand/frontends/lost/frontend",
                              json.dumps({"Type": "http", "BackendId": "nope", "Route": 'Host("c")'}))  # fmt: skip
        status, out = await lb("lint", "-o", "json")
        found = {row["what"]: row["why"] for row in json.loads(out)}
        assert status == 1
        assert "not JSON" in found["/vulcand/backends/bad/backend"]
        assert any("nope" in why for why in found.values())
