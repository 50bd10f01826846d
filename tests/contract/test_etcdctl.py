# SPDX-License-Identifier: Apache-2.0
"""Debian's `etcdctl` 3.4 and `curl`'s way, against `fairlead etcd`."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fairlead.embedded.cli import SERVE, listening_of
from fairlead.embedded.server import Listening, serve
from fairlead.embedded.store import EmbeddedStore
from fairlead.errors import ConfigError
from fairlead.etcd.client import connect
from fairlead.etcd.errors import BadLogin, StoreError, TooLarge
from fairlead.etcd.options import Options
from fairlead.testing.etcd import EtcdctlFailed, etcdctl

needs_etcdctl = pytest.mark.skipif(
    shutil.which("etcdctl") is None, reason="etcdctl is not on PATH (Debian: etcd-client)"
)


@pytest.fixture
async def endpoint() -> AsyncIterator[str]:
    async with (
        await EmbeddedStore.open() as store,
        serve(store, Listening(("http://127.0.0.1:0",))) as endpoints,
    ):
        yield endpoints[0]


@needs_etcdctl
@pytest.mark.slow
async def test_etcdctl_works_unchanged(endpoint: str) -> None:
    async def ctl(*arguments: str, stdin: bytes = b"") -> str:
        return await etcdctl(endpoint, *arguments, stdin=stdin)

    assert await ctl("put", "/a", "1") == "OK\n"
    assert await ctl("put", "/a", "2", "--prev-kv") == "OK\n/a\n1\n"
    assert await ctl("get", "/a") == "/a\n2\n"
    assert await ctl("get", "/", "--prefix", "--keys-only", "--rev=2") == "/a\n\n"
    script = b'mod("/a") > "1"\n\nput /b 1\nget /b\n\nput /c 1\n\n'
    assert "SUCCESS" in await ctl("txn", stdin=script)
    granted = await ctl("lease", "grant", "60")
    lease = granted.split()[1]
    await ctl("put", "/l", "x", f"--lease={lease}")
    assert f"lease {lease} granted with TTL(60s)" in await ctl(
        "lease", "timetolive", lease, "--keys"
    )
    assert "keepalived" in await ctl("lease", "keep-alive", "--once", lease)
    assert lease in await ctl("lease", "list")
    assert "revoked" in await ctl("lease", "revoke", lease)
    assert await ctl("get", "/l") == ""
    assert await ctl("del", "/b") == "1\n"
    (status,) = json.loads(await ctl("endpoint", "status", "-w", "json"))
    assert status["Status"]["version"].startswith("3.")
    await ctl("endpoint", "health")  # it says so on standard error, and by its exit status
    assert "fairlead" in await ctl("member", "list")
    assert "compacted revision 3" in await ctl("compact", "3")
    assert await ctl("alarm", "list") == ""
    await ctl("defrag")
    assert endpoint in await ctl("endpoint", "hashkv")
    with pytest.raises(EtcdctlFailed, match=r"code = Unimplemented .*AuthEnable is not served"):
        await ctl("auth", "enable")
    with pytest.raises(EtcdctlFailed, match="code = Unimplemented"):
        await ctl("snapshot", "save", "/dev/null")
    with pytest.raises(EtcdctlFailed, match="mvcc: required revision has been compacted"):
        await ctl("get", "/a", "--rev=2")


@needs_etcdctl
@pytest.mark.slow
async def test_etcdctl_watch_prints_events(endpoint: str) -> None:
    await etcdctl(endpoint, "put", "/a", "1")
    process = await asyncio.create_subprocess_exec(
        *("etcdctl", f"--endpoints={endpoint}", "watch", "--prefix", "/", "--rev=2"),
        stdout=asyncio.subprocess.PIPE,
        env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(5):
            assert [await process.stdout.readline() for _ in range(3)] == [
                b"PUT\n",
                b"/a\n",
                b"1\n",
            ]
            await etcdctl(endpoint, "del", "/a")
            assert await process.stdout.readline() == b"DELETE\n"
    finally:
        process.kill()
        await process.wait()


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def test_the_json_gateway_answers_as_etcds(endpoint: str) -> None:
    async with aiohttp.ClientSession(endpoint) as http:

        async def post(path: str, **body: Any) -> tuple[int, Any]:
            async with http.post(path, json=body) as answer:
                found = await answer.json()
                found.get("header", {}).pop("cluster_id", None)
                found.get("header", {}).pop("member_id", None)
                return answer.status, found

        assert await post("/v3/kv/put", key=b64("a"), value=b64("1")) == (
            200,
            {"header": {"revision": "2", "raft_term": "1"}},
        )
        status, answer = await post("/v3/kv/range", key=b64("a"), limit="1", sort_order="ASCEND")
        assert (status, answer["count"]) == (200, "1")
        assert answer["kvs"] == [
            {
                "key": b64("a"),
                "create_revision": "2",
                "mod_revision": "2",
                "version": "1",
                "value": b64("1"),
            }
        ]
        guard = {"key": b64("a"), "target": "VALUE", "result": "EQUAL", "value": b64("1")}
        ops = [{"request_delete_range": {"key": b64("a")}}]
        status, answer = await post("/v3/kv/txn", compare=[guard], success=ops)
        assert answer["succeeded"] is True
        status, answer = await post("/v3beta/lease/grant", TTL=60, ID="5")
        assert (answer["ID"], answer["TTL"]) == ("5", "60")
        status, answer = await post("/v3/kv/put", key="")
        assert status == 400
        assert (answer["code"], answer["message"]) == (3, "etcdserver: key is not provided")
        assert (await post("/v3/lease/revoke", ID=77))[0] == 404
        assert (await post("/v3/kv/range", nonsense=1))[0] == 400
        async with http.post("/v3/nothing", json={}) as missing:
            assert missing.status == 404
        async with http.get("/health") as health:
            assert await health.json() == {"health": "true"}
        async with http.get("/version") as version:
            assert (await version.json())["etcdserver"].startswith("3.")
        create = {"create_request": {"key": b64("a"), "start_revision": 2}}
        async with http.post("/v3/watch", json=create) as stream:
            created = json.loads(await stream.content.readline())
            assert created["result"]["created"] is True
            events = json.loads(await stream.content.readline())["result"]["events"]
            assert "type" not in events[0]
            assert events[1]["type"] == "DELETE"
        async with http.post("/v3/lease/keepalive", json={"ID": 5}) as stream:
            line = json.loads(await stream.content.readline())
            assert line["result"]["TTL"] == "60"


async def test_users_log_in_and_others_are_kept_out() -> None:
    listening = Listening(("http://127.0.0.1:0",), users={"root": "secret"})
    async with await EmbeddedStore.open() as store, serve(store, listening) as endpoints:
        async with connect(Options(endpoints, user="root:secret")) as client:
            await client.put(b"a", b"1")
        async with connect(Options(endpoints, user="root:wrong")) as client:
            with pytest.raises(BadLogin):
                await client.put(b"a", b"2")
        async with connect(Options(endpoints)) as client:
            with pytest.raises(StoreError):
                await client.get(b"a")
        async with aiohttp.ClientSession(endpoints[0]) as http:
            async with http.post("/v3/kv/range", json={"key": b64("a")}) as answer:
                assert answer.status == 400
                assert (await answer.json())["message"] == "etcdserver: user name is empty"
            login = {"name": "root", "password": "secret"}
            async with http.post("/v3/auth/authenticate", json=login) as answer:
                token = (await answer.json())["token"]
            headers = {"Authorization": token}
            async with http.post("/v3/kv/range", json={"key": b64("a")}, headers=headers) as answer:
                assert (await answer.json())["count"] == "1"


async def test_large_requests_are_refused_and_the_connection_lives(endpoint: str) -> None:
    async with connect(Options((endpoint,))) as client:
        with pytest.raises(TooLarge):
            await client.put(b"a", b"x" * (1536 * 1024))
        with pytest.raises(TooLarge):
            await client.put(b"a", b"x" * (3 * 1024 * 1024))
        await client.put(b"a", b"x" * 1_500_000)
        found = await client.get(b"a")
        assert found is not None
        assert len(found.value) == 1_500_000


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://0.0.0.0:2379", "reachable from other machines"),
        ("https://127.0.0.1:2379", "https needs -cert-file"),
        ("127.0.0.1:2379", "scheme must be"),
        ("http://127.0.0.1", "host and port are needed"),
        ("http://127.0.0.1:99999", "not a number from 0 to 65535"),
        ("unix://", "a socket's path is missing"),
    ],
)
async def test_a_bad_address_is_refused_before_anything_starts(url: str, reason: str) -> None:
    (fault,) = Listening((url,)).check()
    assert reason in str(fault)
    assert url in str(fault)


async def test_a_taken_port_is_told(endpoint: str) -> None:
    async with await EmbeddedStore.open() as store:
        with pytest.raises(ConfigError, match=f'"{endpoint}": address already in use'):
            async with serve(store, Listening((endpoint,))):
                pass


@needs_etcdctl
@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("openssl") and shutil.which("curl")), reason="needs openssl and curl"
)
async def test_tls_with_client_certificates(tmp_path: Path) -> None:
    cert, key = str(tmp_path / "c.pem"), str(tmp_path / "k.pem")

    async def command(*argv: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        out, _ = await asyncio.wait_for(process.communicate(), 10)
        return process.returncode, out.decode()

    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    made = ("-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert)
    assert (await command("openssl", "req", *made, *subject))[0] == 0
    files = (f"-cert-file={cert}", f"-key-file={key}", f"-trusted-ca-file={cert}")
    values = SERVE.parse(("-listen-client-urls=https://127.0.0.1:0", *files), {})
    async with (
        await EmbeddedStore.open() as store,
        serve(store, listening_of(values)) as (endpoint,),
    ):
        login = (f"--cacert={cert}", f"--cert={cert}", f"--key={key}")
        assert await etcdctl(endpoint, *login, "put", "a", "b") == "OK\n"
        async with connect(Options((endpoint,), ca=cert, cert=cert, key=key)) as client:
            found = await client.get(b"a")
            assert found is not None
        curl = ("curl", "-s", "-m", "5", "--cacert", cert, f"{endpoint}/health")
        assert await command(*curl, "--cert", cert, "--key", key) == (0, '{"health": "true"}')
        assert (await command(*curl))[0] != 0
