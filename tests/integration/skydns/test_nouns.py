# SPDX-License-Identifier: Apache-2.0
"""`fairlead dns …` against a real etcd."""

import asyncio
import json
import sys

import pytest

from fairlead.testing.etcd import real_etcd

pytestmark = [pytest.mark.integration, pytest.mark.slow]


async def test_put_list_explain_lint_rm():
    async with real_etcd() as cluster:

        async def dns(*words):
            verb, *rest = words
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "from skydns.nouns import dns; dns()", verb,
                f"--endpoints={cluster.endpoints[0]}", *rest,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            out, _ = await process.communicate()
            return process.returncode, out.decode()

        assert (await dns("put", "x1.db.skydns.local", "10.0.0.1", "--port=5432"))[0] == 0
        assert (await dns("put", "x2.db.skydns.local", "2001:db8::1"))[0] == 0
        assert (await dns("put", "db.skydns.local", "10.0.0.9"))[0] == 0
        status, out = await dns("put", "bad.skydns.local", "a..b")
        assert (status, "empty label" in out) == (2, True)
        await cluster.etcdctl("put", "/skydns/local/skydns/db/x3", "{host:10.0.0.3}")
        status, out = await dns("list", "db.skydns.local", "-o", "json")
        found = json.loads(out)
        assert [row["name"] for row in found["records"]] == [
            "db.skydns.local.",
            "x1.db.skydns.local.",
            "x2.db.skydns.local.",
        ]
        assert found["broken"][0]["key"] == "/skydns/local/skydns/db/x3"
        status, out = await dns("explain", "db.skydns.local", "A")
        assert status == 0
        lines = out.splitlines()
        assert lines[0] == "NOERROR, zone skydns.local."
        assert "  answer     db.skydns.local. 300 A 10.0.0.1" in lines
        after = {key: lines[lines.index(key) + 1] for key in lines if key.startswith("/")}
        assert after["/skydns/local/skydns/db/x1"].startswith("  made ")
        assert "other family" in after["/skydns/local/skydns/db/x2"]
        assert "trap 8" in after["/skydns/local/skydns/db"]
        assert "not JSON" in after["/skydns/local/skydns/db/x3"]
        status, out = await dns("lint")
        assert status == 1
        assert "/skydns/local/skydns/db/x3" in out
        assert "keys below it" in out
        assert (await dns("rm", "db.skydns.local", "--below"))[1].count("\n") == 4
        status, out = await dns("rm", "db.skydns.local")
        assert (status, "nothing at" in out) == (1, True)
