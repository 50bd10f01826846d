# SPDX-License-Identifier: Apache-2.0
"""The backends beside etcd: redis and zookeeper on real servers where Debian's are installed,
consul and vault on recorded answers, file and env as they are; several sources in one resource.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from confd.backends import Backend, BackendConfig, BackendError, open_backend
from fairlead.errors import ConfigError
from fairlead.testing.etcd import free_ports, real_etcd
from tests.integration.confd.conftest import Confd, eventually

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PAGE = Path(__file__).resolve().parents[3] / "docs" / "confd.md"
ZOOKEEPER = Path("/usr/share/java/zookeeper.jar")


@asynccontextmanager
async def opened(name: str, *nodes: str, **options: Any) -> AsyncIterator[Backend]:
    backend = open_backend(BackendConfig(name, nodes, options))
    try:
        yield backend
    finally:
        await backend.aclose()


@asynccontextmanager
async def process(*words: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A server of the test's own, listening on a port."""
    quiet = asyncio.subprocess.DEVNULL
    made = await asyncio.create_subprocess_exec(*words, stdout=quiet, stderr=quiet)
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                except OSError:
                    assert made.returncode is None, "the server has ended"
                    await asyncio.sleep(0.05)
        yield made
    finally:
        if made.returncode is None:
            made.kill()
        await made.wait()


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
async def test_redis(tmp_path: Path, confd: Confd) -> None:
    port = free_ports(1)[0]
    words = ("redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path), "--requirepass", "pw",
             "--notify-keyspace-events", "KA")  # fmt: skip
    from redis.asyncio import Redis

    async with process(*words, port=port), Redis(port=port, password="pw") as client:
        await client.set("/app/a", b"\xff1")
        await client.set("/appx", "no")
        await client.hset("/app/hash", mapping={"one": "1", "two": "2"})
        await client.set("sep:x", "y")
        async with opened("redis", f"127.0.0.1:{port}", client_key="pw") as backend:
            found = dict(await backend.read(["/app"]))
            assert found == {"/app/a": b"\xff1", "/app/hash/one": b"1", "/app/hash/two": b"2"}
            waiting = asyncio.ensure_future(backend.changed(["/app"]))
            await asyncio.sleep(0.2)
            await client.set("/other", "x")
            await asyncio.sleep(0.2)
            assert not waiting.done(), "only its own keys wake it"
            await client.set("/app/b", "2")
            async with asyncio.timeout(10):
                await waiting
            assert dict(await backend.read(["/app"]))["/app/b"] == b"2"
        async with opened("redis", f"127.0.0.1:{port}/0", password="pw", separator=":") as backend:
            assert dict(await backend.read(["/sep"])) == {"/sep/x": b"y"}
        async with opened("redis", f"127.0.0.1:{port}", password="wrong") as backend:
            with pytest.raises(BackendError):
                await backend.read(["/app"])
        # and the daemon on it
        dest = confd.resource("r", '{{range gets "/app/*"}}{{base .Key}} {{end}}', ["/app"])
        flags = ("-backend", "redis", "-client-key", "pw")
        async with confd.running((f"127.0.0.1:{port}",), *flags, "-watch"):
            await eventually(lambda: text(dest) == "a b ", 20)
            await client.set("/app/c", "3")
            await eventually(lambda: text(dest) == "a b c ")


@pytest.mark.skipif(not ZOOKEEPER.exists(), reason="zookeeper is not installed")
async def test_zookeeper(tmp_path: Path, confd: Confd) -> None:
    port = free_ports(1)[0]
    (tmp_path / "zoo.cfg").write_text(
        f"tickTime=500\ndataDir={tmp_path}/zk\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n"
    )
    words = ("java", "-Xmx128m", "-cp", "/usr/share/java/*:/etc/zookeeper/conf",
             "org.apache.zookeeper.server.quorum.QuorumPeerMain", f"{tmp_path}/zoo.cfg")  # fmt: skip
    from kazoo.client import KazooClient

    async with process(*words, port=port):
        client = KazooClient(hosts=f"127.0.0.1:{port}")
        await asyncio.to_thread(client.start, 20)
        try:
            await asyncio.to_thread(client.create, "/app/dir/leaf", b"1", makepath=True)
            await asyncio.to_thread(client.create, "/app/top", b"2")
            async with opened("zookeeper", f"127.0.0.1:{port}") as backend:
                assert dict(await backend.read(["/app"])) == {
                    "/app/dir/leaf": b"1",
                    "/app/top": b"2",
                }
                waiting = asyncio.ensure_future(backend.changed(["/app"]))
                await asyncio.to_thread(client.set, "/app/dir/leaf", b"new")
                async with asyncio.timeout(10):
                    await waiting
                assert dict(await backend.read(["/app"]))["/app/dir/leaf"] == b"new"
                assert dict(await backend.read(["/none"])) == {}
            dest = confd.resource("z", '{{getv "/app/top"}}', ["/app"])
            async with confd.running((f"127.0.0.1:{port}",), "-backend", "zookeeper", "-watch"):
                await eventually(lambda: text(dest) == "2", 20)
                await asyncio.to_thread(client.set, "/app/top", b"3")
                await eventually(lambda: text(dest) == "3", 10)
        finally:
            await asyncio.to_thread(client.stop)
            await asyncio.to_thread(client.close)


@asynccontextmanager
async def recorded(answers: dict[str, Any]) -> AsyncIterator[str]:
    """An HTTP server that gives recorded answers: "METHOD /path" → (status, JSON)."""

    async def answer(request: web.Request) -> web.Response:
        method = "LIST" if "list" in request.query else request.method  # as vault's clients ask
        status, body = answers.get(f"{method} {request.path}", (404, {"errors": []}))
        return web.json_response(body, status=status, headers={"X-Consul-Index": "7"})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_ports(1)[0]
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def test_consul_by_recorded_answers() -> None:
    def entry(key: str, value: bytes | None) -> dict[str, Any]:
        shown = None if value is None else base64.b64encode(value).decode()
        return {
            "LockIndex": 0,
            "Key": key,
            "Flags": 0,
            "Value": shown,
            "CreateIndex": 5,
            "ModifyIndex": 7,
        }

    answers = {"GET /v1/kv/app": (200, [entry("app/a", b"\xff"), entry("app/dir/", None)])}
    async with recorded(answers) as node, opened("consul", node, auth_token="t") as backend:
        assert dict(await backend.read(["/app", "/none"])) == {"/app/a": b"\xff", "/app/dir/": b""}
        await backend.changed(["/app"])
        answers["GET /v1/kv/app"] = (500, "rpc error")
        with pytest.raises(BackendError, match="500"):
            await backend.read(["/app"])


async def test_vault_by_recorded_answers() -> None:
    """An app-role login, version 2 of the key-value engine, and version 1."""
    answers = {
        "POST /v1/auth/approle/login": (200, {"auth": {"client_token": "s.t", "policies": []}}),
        "GET /v1/sys/internal/ui/mounts/secret": (200, {"data": {"options": {"version": "2"}}}),
        "GET /v1/sys/internal/ui/mounts/old": (200, {"data": {"options": None}}),
        "GET /v1/secret/data/db": (
            200,
            {"data": {"data": {"pw": "x", "port": 5432, "tls": {"ca": "c"}}}},
        ),
        "LIST /v1/secret/metadata/db": (200, {"data": {"keys": ["more", "sub/"]}}),
        "GET /v1/secret/data/db/more": (200, {"data": {"data": {"k": "v"}}}),
        "LIST /v1/secret/metadata/db/sub": (200, {"data": {"keys": ["deep"]}}),
        "GET /v1/secret/data/db/sub/deep": (200, {"data": {"data": {"n": None, "d": "e"}}}),
        "GET /v1/old/a": (200, {"data": {"value": "one"}}),
    }
    options = {"auth_type": "app-role", "role_id": "r", "secret_id": "s"}
    async with recorded(answers) as node, opened("vault", node, **options) as backend:
        found = dict(await backend.read(["/secret/db", "/old/a"]))
        assert found == {
            "/secret/db/pw": b"x", "/secret/db/port": b"5432", "/secret/db/tls/ca": b"c",
            "/secret/db/more/k": b"v", "/secret/db/sub/deep/d": b"e", "/old/a/value": b"one",
        }  # fmt: skip
        with pytest.raises(BackendError, match="must name an engine"):
            await backend.read(["/"])


YAML = """
app:
  name: web
  on: yes
  mode: 0644
  big: 1e10
  price: 1.50
  none: null
  empty: {}
  when: 2020-01-01
  ports: [80, 443]
  yes: key
"""


async def test_file(tmp_path: Path, confd: Confd) -> None:
    (tmp_path / "a.yaml").write_text(YAML)
    (tmp_path / "b.json").write_text(json.dumps({"app": {"name": "json"}}))
    (tmp_path / "no.txt").write_text("{{{")
    async with opened("file", file=(str(tmp_path / "a.yaml"), str(tmp_path / "b.json"))) as backend:
        assert {k: v.decode() for k, v in (await backend.read(["/app"])).items()} == {
            "/app/name": "json", "/app/on": "true", "/app/mode": "420", "/app/big": "10000000000",
            "/app/price": "1.5", "/app/when": "2020-01-01", "/app/ports/0": "80", "/app/ports/1": "443",
            "/app/yes": "key",
        }  # fmt: skip
    data = tmp_path / "data"
    data.mkdir()
    (data / "x.yml").write_text("k: 1")
    dest = confd.resource("f", '{{getv "/k"}}', ["/"])
    async with confd.running((), "-backend", "file", "-file", str(data), "-watch"):
        await eventually(lambda: text(dest) == "1")
        (data / "new.yml").write_text("k: 2")
        os_replace = data / "x.yml"
        (data / ".tmp").write_text("k: 3")
        (data / ".tmp").replace(os_replace)
        (data / "new.yml").unlink()
        await eventually(lambda: text(dest) == "3", 5)
        (data / "x.yml").write_text("k: [")
        await eventually(lambda: "cannot be read" in text(confd.log), 5)
        assert text(dest) == "3"


async def test_several_sources_in_one_resource(tmp_path: Path, confd: Confd) -> None:
    secrets = tmp_path / "secrets.yaml"
    secrets.write_text("db: {password: hunter22}")
    (confd.conf / "sources.toml").write_text(
        f'[sec]\nbackend = "file"\nfile = ["{secrets}"]\n[envs]\nbackend = "env"\n'
    )
    template = '{{getv "/web/1"}} {{getv "sec:/db/password"}} {{getv "envs:/path" | len | lt 0}}'
    dest = confd.resource("a", template, ["/web", "sec:/db", "envs:/path"])
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/web/1", "one")
        assert await confd.run(etcd.endpoints, "-onetime") == 0, text(confd.log)
        assert text(dest) == "one hunter22 true"
        async with confd.running(etcd.endpoints, "-watch", "-log-level", "debug"):
            await etcd.etcdctl("put", "/web/1", "two")
            await eventually(lambda: text(dest).startswith("two hunter22"))
            secrets.write_text("db: {password: changed99}")
            await eventually(lambda: text(dest).startswith("two changed99"))
    assert "hunter22" not in text(confd.log)


async def test_a_table_backend_is_a_source_of_the_resource_alone(confd: Confd) -> None:
    dest = confd.resource("a", '{{exists "/path"}}', ["/path"])
    file = confd.conf / "conf.d" / "a.toml"
    file.write_text(file.read_text() + '\n[backend]\nbackend = "env"\n')
    async with real_etcd() as etcd:
        assert await confd.run(etcd.endpoints, "-onetime") == 0, text(confd.log)
    assert text(dest) == "true"


async def test_two_etcds_in_one_resource(confd: Confd) -> None:
    template = '{{getv "/k"}} {{getv "other:/k"}}'
    dest = confd.resource("a", template, ["/k", "other:/k"])
    async with real_etcd() as one, real_etcd() as two:
        (confd.conf / "sources.toml").write_text(
            f'[other]\nbackend = "etcd"\nnodes = ["{two.endpoints[0]}"]\n'
        )
        await one.etcdctl("put", "/k", "one")
        await two.etcdctl("put", "/k", "two")
        assert await confd.run(one.endpoints, "-onetime") == 0, text(confd.log)
        assert text(dest) == "one two"
        async with confd.running(one.endpoints, "-watch"):
            await two.etcdctl("put", "/k", "three")
            await eventually(lambda: text(dest) == "one three")


async def test_the_manuals_plug_in(
    tmp_path: Path, confd: Confd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/confd.md, Plug-ins: installed as pip would, found by its entry point, followed."""
    page = PAGE.read_text()
    code = page[page.index("    from pathlib") : page.index("In its `pyproject.toml`:")]
    point = re.search(r'entry-points\."(.+)"\]\n    (.+)\n', page)
    assert point is not None
    plug, keys = tmp_path / "plug", tmp_path / "keys"
    info = plug / "confd_tree-1.0.dist-info"
    info.mkdir(parents=True)
    (plug / "confd_tree.py").write_text(textwrap.dedent(code))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: confd_tree\nVersion: 1.0\n")
    group, value = point[1], point[2].replace('"', "")
    (info / "entry_points.txt").write_text(f"[{group}]\n{value}\nbad = confd_tree:Nothing\n")
    (keys / "app").mkdir(parents=True)
    (keys / "app" / "k").write_text("one")
    (keys / "other").write_text("no")
    monkeypatch.setenv("PYTHONPATH", str(plug))
    dest = confd.resource("a", '{{getv "/app/k"}} {{gets "/*"}}', ["/app"])
    flags = ("-backend", "tree", "-node", str(keys))
    async with confd.running((), *flags, "-watch"):
        await eventually(lambda: text(dest) == "one []")
        (keys / "app" / "k").write_text("two")
        await eventually(lambda: text(dest) == "two []", 10)
    assert await confd.run((), "-backend", "bad", "-onetime") == 1
    assert "its plug-in cannot be loaded: module 'confd_tree' has no" in text(confd.log)
    (confd.conf / "sources.toml").write_text(f'[t]\nbackend = "tree"\nnodes = ["{keys}"]\n')
    dest = confd.resource("a", '{{getv "t:/app/k"}}', ["t:/app"])
    assert await confd.run((), "-backend", "env", "-onetime") == 0, text(confd.log)
    assert text(dest) == "two"


def test_a_backend_nobody_has() -> None:
    with pytest.raises(ConfigError, match="Invalid backend"):
        open_backend(BackendConfig("nonsense"))
