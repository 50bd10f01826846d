# SPDX-License-Identifier: Apache-2.0

"""The admin API beside the original's, with both programs' vctl; its description by schemathesis (§10, §11)."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fairlead.testing.etcd import Cluster, free_ports, real_etcd
from lb.acme import jws
from lb.secret import new_key

from .conftest import Balancer, World
from .test_tls import Authority, run

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def peer(name: str) -> str:
    """Return the path of an original program; skips where there is none."""
    found = shutil.which(name, path=os.environ.get("FAIRLEAD_PEERS", "")) if os.environ.get("FAIRLEAD_PEERS") else None  # fmt: skip
    if found is None:
        pytest.skip(f"the original {name} is not in $FAIRLEAD_PEERS")
    return found


class Original:
    """A running vulcand of the original's, on an etcd of its own."""

    def __init__(self, api: str, process: asyncio.subprocess.Process) -> None:
        self.api = api
        self.process = process


@pytest.fixture
async def original() -> AsyncIterator[Original]:
    program = peer("vulcand")
    port, api = free_ports(2)
    async with real_etcd() as cluster:
        process = await asyncio.create_subprocess_exec(
            program, "-etcd", cluster.endpoints[0], "-port", str(port), "-apiPort", str(api),
            "-interface", "127.0.0.1", "-apiInterface", "127.0.0.1",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        url = f"http://127.0.0.1:{api}"
        async with aiohttp.ClientSession() as session, asyncio.timeout(15):
            while True:
                try:
                    async with session.get(f"{url}/v2/status"):
                        break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
        yield Original(url, process)
        process.kill()
        await process.wait()


async def call(
    api: str, method: str, path: str, body: object = None, **more: Any
) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, api + path, json=body, **more) as answer,
    ):
        text = await answer.text()
        return answer.status, json.loads(text) if text[:1] in "[{" else text


WALK: list[tuple[str, str, object]] = [
    ("GET", "/v2/status", None),
    ("GET", "/v2/backends", None),
    ("POST", "/v2/backends", {"Backend": {"Id": "b1", "Type": "http", "Settings": {
        "Timeouts": {"Read": "5s", "Dial": "2s"}, "KeepAlive": {"Period": "30s", "MaxIdleConnsPerHost": 12}}}}),
    ("POST", "/v2/backends", {"Backend": {"Id": "b2", "Type": "http"}}),
    ("POST", "/v2/backends", {"Backend": {"Id": "b3", "Type": "http", "Settings": {"TLS": {
        "InsecureSkipVerify": True, "MinVersion": "VersionTLS12"}}}}),
    ("POST", "/v2/backends", {"Backend": {"Id": "", "Type": "http"}}),
    ("GET", "/v2/backends/b1", None),
    ("GET", "/v2/backends/none", None),
    ("POST", "/v2/backends/b1/servers", {"Server": {"Id": "s1", "URL": "http://localhost:5000"}, "TTL": "0s"}),
    ("POST", "/v2/backends/none/servers", {"Server": {"Id": "s1", "URL": "http://localhost:5000"}}),
    ("GET", "/v2/backends/b1/servers", None),
    ("GET", "/v2/backends/b1/servers/s1", None),
    ("POST", "/v2/frontends", {"Frontend": {"Id": "f1", "Type": "http", "BackendId": "b1", "Route": "Host(`a&b`) && Path(`/`)",
        "Settings": {"Limits": {"MaxMemBodyBytes": 12, "MaxBodyBytes": 400}, "FailoverPredicate": "IsNetworkError() && Attempts() <= 1",
        "Hostname": "host1", "TrustForwardHeader": True, "PassHostHeader": True}}, "TTL": "0s"}),
    ("POST", "/v2/frontends", {"Frontend": {"Id": "f2", "Type": "http", "BackendId": "none", "Route": "Path(`/`)"}}),
    ("GET", "/v2/frontends", None),
    ("GET", "/v2/frontends/f1", None),
    ("POST", "/v2/frontends/f1/middlewares", {"Middleware": {"Id": "rl", "Priority": 3, "Type": "ratelimit",
        "Middleware": {"PeriodSeconds": 1, "Burst": 3, "Variable": "client.ip", "Requests": 2}}}),
    ("POST", "/v2/frontends/f1/middlewares", {"Middleware": {"Id": "rw", "Priority": 1, "Type": "rewrite",
        "Middleware": {"Regexp": "^http://h/(.*)", "Replacement": "http://h/$1"}}}),
    ("POST", "/v2/frontends/f1/middlewares", {"Middleware": {"Id": "cl", "Priority": 1, "Type": "connlimit",
        "Middleware": {"Connections": 3, "Variable": "request.host"}}}),
    ("POST", "/v2/frontends/f1/middlewares", {"Middleware": {"Id": "tr", "Type": "trace", "Middleware": {"Addr": "syslog://127.0.0.1:514"}}}),
    ("GET", "/v2/frontends/f1/middlewares/cl", None),
    ("POST", "/v2/listeners", {"Listener": {"Id": "l1", "Protocol": "http", "Address": {"Network": "tcp", "Address": "127.0.0.1:0"}, "Scope": ""}}),
    ("GET", "/v2/listeners/l1", None),
    ("DELETE", "/v2/listeners/l1", None),
    ("POST", "/v2/listeners", {"Listener": {"Id": "l2", "Protocol": "https", "Address": {"Network": "tcp", "Address": "127.0.0.1:0"},
        "ProxyProtocol": "proxy_v1", "Settings": {"TLS": {"MinVersion": "VersionTLS12"}}}}),
    ("DELETE", "/v2/listeners/l2", None),
    ("POST", "/v2/hosts", {"Host": {"Name": "h1"}}),
    ("POST", "/v2/hosts", {"Host": {"Name": "h2", "Settings": {"OCSP": {"Period": "90m", "Responders": ["http://o"]}}}}),
    ("GET", "/v2/hosts", None),
    ("DELETE", "/v2/hosts/h1", None),
    ("DELETE", "/v2/hosts/h2", None),
    ("DELETE", "/v2/frontends/f1/middlewares/cl", None),
    ("GET", "/v2/frontends/f1/middlewares/cl", None),
    ("DELETE", "/v2/frontends/f1", None),
    ("DELETE", "/v2/backends/b1/servers/s1", None),
    ("DELETE", "/v2/backends/b2", None),
    ("GET", "/v2/nonsense", None),
    ("PUT", "/v2/backends", None),
]  # fmt: skip


def plain(value: Any) -> Any:
    """Return an answer with an empty list for null: all that may differ."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return (
        [plain(item) for item in value]
        if isinstance(value, list)
        else ([] if value is None else value)
    )


async def test_answers_are_the_originals(original: Original, world: World) -> None:
    for method, path, body in WALK:
        ours = await call(world.lb.api, method, path, body)
        theirs = await call(original.api, method, path, body)
        assert ours[0] == theirs[0], (method, path, body, ours, theirs)
        if ours[0] == 200:
            assert plain(ours[1]) == plain(theirs[1]), (method, path, body)
        else:
            assert set(ours[1]) == set(theirs[1]) == {"message"}


async def vctl(program: str, api: str, *words: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        program, "--vulcan", api, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    async with asyncio.timeout(20):
        out, _ = await process.communicate()
    return process.returncode or 0, out.decode().replace("\x1b[32m", "").replace("\x1b[31m", "").replace("\x1b[0m", "")  # fmt: skip


LINES: list[tuple[str, ...]] = [
    ("backend", "upsert", "-id", "b1", "-readTimeout", "5s", "-maxIdleConns=9"),
    ("backend", "ls"),
    ("server", "upsert", "-id", "s1", "-b", "b1", "-url", "http://localhost:5000", "-ttl", "1h"),
    ("server", "ls", "-b", "b1"),
    ("server", "show", "-id", "s1", "-b", "b1"),
    ("frontend", "upsert", "-id", "f1", "-b", "b1", "-route", "Path(`/`)", "-maxBodyKB", "4", "-passHostHeader"),
    ("frontend", "ls"),
    ("ratelimit", "upsert", "-f", "f1", "-id", "rl", "-requests", "5", "-burst", "7"),
    ("connlimit", "upsert", "-f", "f1", "-id", "cl", "-conns", "5"),
    ("rewrite", "upsert", "-f", "f1", "-id", "rw", "-regexp", "^x", "-replacement", "y"),
    ("trace", "upsert", "-f", "f1", "-id", "tr", "-addr", "syslog://127.0.0.1:514", "-reqHeader", "X-A"),
    ("cbreaker", "upsert", "-f", "f1", "-id", "cb", "-condition", "NetworkErrorRatio() > 0.5",
     "-fallback", '{"Type":"response","Action":{"StatusCode":400,"Body":"Come back later"}}'),
    ("cbreaker", "rm", "-f", "f1", "-id", "cb"),
    ("trace", "rm", "-f", "f1", "-id", "tr"),
    ("rewrite", "rm", "-f", "f1", "-id", "rw"),
    ("connlimit", "rm", "-f", "f1", "-id", "cl"),
    ("frontend", "show", "-id", "f1"),
    ("backend", "show", "-id", "b1"),
    ("host", "upsert", "-name", "h"),
    ("host", "ls"),
    ("host", "show", "-name", "h"),
    ("listener", "upsert", "-id", "l1", "-proto", "http", "-addr", "127.0.0.1:0"),
    ("listener", "ls"),
    ("log", "set_severity", "-s", "info"),
    ("log", "get_severity"),
    ("listener", "show", "-id", "l1"),
    ("top", "-refresh", "0"),
    ("host", "rm", "-name", "h"),
    ("listener", "rm", "-id", "l1"),
    ("frontend", "rm", "-id", "f1"),
    ("server", "rm", "-id", "s1", "-b", "b1"),
    ("backend", "rm", "-id", "b1"),
]  # fmt: skip


def words(text: str) -> list[str]:
    return text.split()


async def test_the_originals_vctl_against_our_api_and_ours_against_the_originals(
    original: Original, world: World, tmp_path: Path
) -> None:
    theirs = peer("vctl")
    ours = shutil.which("vctl", path=str(Path(os.sys.executable).parent))  # type: ignore[attr-defined]
    assert ours is not None
    unlike = []
    for line in LINES:
        said = {
            f"{who} on {what}": (await vctl(program, api, *line))
            for who, program, what, api in (
                ("theirs", theirs, "theirs", original.api),
                ("theirs", theirs, "ours", world.lb.api),
                ("ours", ours, "ours", world.lb.api),
                ("ours", ours, "theirs", original.api),
            )
            if line[1] != "rm" or who == "theirs"
        }
        for whose, (status, text) in said.items():
            assert status == 0, (line, whose, text)
            assert "ERROR" not in text, (line, whose, text)
        if len({tuple(words(text)) for _, text in said.values()}) != 1:
            unlike.append((line, said))
    assert not unlike, "\n".join(map(str, unlike))


async def test_vctl_beyond_the_originals(world: World, tmp_path: Path) -> None:  # §11, V14
    web = await world.web("s")
    await world.service("b", web)
    assert (await world.lb.vctl("route", "test", "http://h/"))[1].startswith("b: no other route")
    assert (await world.lb.vctl("route", "test", "http://h/none"))[0] == 1
    status, text = await world.lb.vctl("export")
    assert status == 0
    file = tmp_path / "all.json"
    file.write_text(text)
    assert await world.lb.vctl("diff", str(file)) == (0, "no difference\n")
    assert (await world.lb.vctl("validate", str(file)))[0] == 0
    whole = json.loads(text)
    masked = {"KeyPair": {"Key": "", "Cert": "eA==", "KeyFingerprint": "sha256:0"}}
    external = {"KeyID": "k", "MACKey": "sha256:0"}
    account = {"AutoCert": {"Email": "a@b.org", "Key": "sha256:0", "ExternalAccount": external}}
    hosts = [{"Name": f"{n}.example.org", "Settings": s} for n, s in enumerate((masked, account))]
    file.write_text(json.dumps({"Hosts": hosts}))  # as an export without rights has them
    assert (await world.lb.vctl("validate", str(file)))[0] == 0
    status, told = await world.lb.vctl("import", str(file))  # not on a node that has no such key
    assert (status, 'host "0.example.org": Settings.KeyPair: no Key' in told) == (1, True)
    whole["Backends"].append({"Id": "b2", "Type": "http", "Servers": [{"Id": "x", "URL": "http://a"}]})  # fmt: skip
    file.write_text(json.dumps(whole))
    assert (await world.lb.vctl("diff", str(file)))[0] == 1
    assert (await world.lb.vctl("import", str(file)))[0] == 0
    assert (await call(world.lb.api, "GET", "/v2/backends/b2/servers/x"))[0] == 200
    for _ in range(20):
        await world.get("/")
    async with asyncio.timeout(5):
        while True:
            _, top = await call(world.lb.api, "GET", "/v2/top/frontends?limit=5")
            if top["Frontends"] and top["Frontends"][0]["Stats"]["Counters"]["Total"] >= 20:
                break
            await asyncio.sleep(0.1)
    assert top["Frontends"][0]["Stats"]["Counters"]["StatusCodes"][0]["Code"] == 200
    assert len(top["Frontends"][0]["Stats"]["LatencyBrackets"]) == 5
    _, servers = await call(world.lb.api, "GET", "/v2/top/servers")  # V6: not always empty
    assert servers["Servers"][0]["Id"] == "s"
    status, text = await world.lb.vctl("top", "-refresh", "0")
    assert "R/sec" in text
    assert "Reqs/sec" in text
    for path in ("/v2/top/frontends?limit=x", "/v2/hosts?keys=maybe"):
        assert (await call(world.lb.api, "GET", path))[0] == 400


CASES_400: list[tuple[str, object, str]] = [
    ("/v2/backends", {"X": 1}, "Missing mandatory parameter: Backend"),
    ("/v2/backends", {"Backend": {"Id": "b", "Type": "zip"}}, "Unsupported backend type zip"),
    ("/v2/frontends", {"Frontend": {"Id": "f", "Type": "http", "BackendId": "b", "Route": "x"}}, "route should be a valid route expression"),
    ("/v2/frontends", {"Frontend": {"Id": "", "Type": "http"}}, "frontend id can not be empty"),
    ("/v2/frontends/b/middlewares", {"Middleware": {"Id": "m", "Type": "zap"}}, "middleware of type zap is not supported"),
    ("/v2/frontends/b/middlewares", {"Middleware": {"Id": "m", "Type": "rewrite", "Middleware": {"Regexp": "("}}}, "invalid regexp"),
    ("/v2/backends/b/servers", {"Server": {"Id": "s", "URL": "http://a"}, "TTL": "x"}, "bad TTL"),
    ("/v2/hosts", {"Host": {"Name": ""}}, "Hostname can not be empty"),
    ("/v2/hosts", {"Host": {"Name": "h", "Settings": {"KeyPair": {"Key": "eA==", "Cert": "eA=="}}}}, "does not load"),
]  # fmt: skip


async def test_v6_bad_input_is_400_and_use_is_409(world: World) -> None:
    web = await world.web("s")
    await world.service("b", web)
    for path, body, reason in CASES_400:
        status, answer = await call(world.lb.api, "POST", path, body)
        assert (status, reason in answer["message"]) == (400, True), (path, body, answer)
    status, answer = await call(world.lb.api, "DELETE", "/v2/backends/b")
    assert (status, answer["message"]) == (409, "can not delete backend 'b', it is in use by b")
    limit = {"Id": "rl", "Type": "ratelimit", "Middleware": {"PeriodSeconds": 60, "Requests": 2, "Variable": "client.ip"}}  # fmt: skip
    await call(world.lb.api, "POST", "/v2/frontends/b/middlewares", {"Middleware": limit})
    shares = {"Id": "f", "Type": "http", "BackendId": "b", "Route": "Path(`/f`)", "Middlewares": ["b/rl"]}  # fmt: skip
    shares["Settings"] = {"Headers": {"Response": {"Set": {"X-Edge": "1"}}}}
    await call(world.lb.api, "POST", "/v2/frontends", {"Frontend": shares})
    async with world.session.get(f"{world.lb.url}/f") as response:
        assert (response.status, response.headers["X-Edge"]) == (200, "1")
    assert [(await world.get(path))[0] for path in ("/", "/f", "/")] == [200, 429, 429]
    for path, what in (("", "frontend 'b'"), ("/middlewares/rl", "middleware 'rl'")):
        status, answer = await call(world.lb.api, "DELETE", f"/v2/frontends/b{path}")
        assert (status, answer["message"]) == (409, f"can not delete {what}, it is in use by f")
    async with aiohttp.ClientSession() as session:  # curl -d without a JSON type
        body = json.dumps({"Backend": {"Id": "c", "Type": "http"}})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        async with session.post(
            f"{world.lb.api}/v2/backends", data=body, headers=headers
        ) as answer:
            assert answer.status == 200


async def test_v12_private_keys_only_for_callers_who_may(tmp_path: Path) -> None:
    authority, token = Authority(), "s3cret-token"
    pair = authority.issue("a.example.org")
    (tmp_path / "token").write_text(token + "\n")
    (tmp_path / "key.pem").write_bytes(pair.key)
    (tmp_path / "cert.pem").write_bytes(pair.cert)
    async with real_etcd() as cluster:
        lb = Balancer(
            tmp_path, cluster.endpoints, "-sealKey", new_key(), "-apiTokenFile", str(tmp_path / "token"),
            "-accessLog", str(tmp_path / "access.log"),
        )  # fmt: skip
        await lb.start()
        try:
            await _keys(lb, tmp_path, token, pair.tree()["Key"], cluster)
        finally:
            await lb.stop(9)


async def _keys(lb: Balancer, where: Path, token: str, key: str, cluster: Cluster) -> None:
    assert (await call(lb.api, "GET", "/v2/backends"))[0] == 401
    assert (await call(lb.api, "GET", "/v2/status"))[0] == 200
    environ = {**os.environ, "VCTL_TOKEN_FILE": str(where / "token"), "NO_COLOR": "1"}
    process = await asyncio.create_subprocess_exec(
        os.sys.executable, "-m", "lb.vctl", "--vulcan", lb.api, "host", "upsert", "-name", "a",  # type: ignore[attr-defined]
        "-cert", str(where / "cert.pem"), "-privateKey", str(where / "key.pem"),
        env=environ, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert out == b"OK: host added\n"
    headers = {"Authorization": f"Bearer {token}"}
    _, host = await call(lb.api, "GET", "/v2/hosts/a", headers=headers)
    assert host["Settings"]["KeyPair"]["Key"] == ""
    mask = host["Settings"]["KeyPair"]["KeyFingerprint"]
    assert mask.startswith("sha256:")
    # read, changed and written back: the key stays; another's mask is refused
    host["Settings"]["Default"] = True
    status, again = await call(lb.api, "POST", "/v2/hosts", {"Host": host}, headers=headers)
    assert (status, again) == (200, host)
    host["Settings"]["KeyPair"]["KeyFingerprint"] = "sha256:0"
    status, told = await call(lb.api, "POST", "/v2/hosts", {"Host": host}, headers=headers)
    assert (status, "KeyFingerprint" in told["message"]) == (400, True)
    _, host = await call(lb.api, "GET", "/v2/hosts/a?keys=true", headers=headers)
    assert host["Settings"]["KeyPair"]["Key"] == key
    await _account(lb, headers)
    _, stored = await run("etcdctl", "--endpoints", cluster.endpoints[0], "get", "--prefix", "/vulcand/hosts")  # fmt: skip
    assert key[:60] not in stored  # sealed
    for path, body in (
        ("/v2/backends", {"Backend": {"Id": "b", "Type": "http"}}),
        ("/v2/frontends", {"Frontend": {"Id": "f", "Type": "http", "BackendId": "b", "Route": "Path(`/`)"}}),
    ):  # fmt: skip
        assert (await call(lb.api, "POST", path, body, headers=headers))[0] == 200
    lines: list[dict[str, Any]] = []
    async with aiohttp.ClientSession() as session:
        for path, status in (("/", 503), ("/none", 404)):
            async with session.get(lb.url + path) as answer:
                assert answer.status == status
    async with asyncio.timeout(5):
        while len(lines) < 2:
            await asyncio.sleep(0.05)
            if (where / "access.log").exists():
                lines = list(map(json.loads, (where / "access.log").read_text().splitlines()))
    line, stray = lines
    assert (stray["status"], stray["frontend"], stray["target"]) == (404, "", "/none")
    assert (line["status"], line["frontend"], line["method"], line["target"]) == (
        503,
        "f",
        "GET",
        "/",
    )
    assert 0 <= line["first_byte_ms"] <= line["duration_ms"]
    assert line["server"] == ""


async def _account(lb: Balancer, headers: Mapping[str, str]) -> None:
    """An ACME account's keys survive who reads the host, changes it and writes it back."""
    account = {"KeyID": "kid", "MACKey": "k" * 43}
    auto = {"Email": "a@b.org", "Key": jws.new_key().decode(), "ExternalAccount": account}
    settings = {"AutoCert": auto, "KeyPair": {"Key": "", "Cert": ""}}
    given = {"Name": "c.example.org", "Settings": settings}
    status, host = await call(lb.api, "POST", "/v2/hosts", {"Host": given}, headers=headers)
    assert status == 200
    assert host["Settings"]["AutoCert"]["Key"].startswith("sha256:")
    host["Settings"]["AutoCert"]["RenewBefore"] = "240h"
    status, _ = await call(lb.api, "POST", "/v2/hosts", {"Host": host}, headers=headers)
    assert status == 200
    for path, kept in (("?keys=true", True), ("", False)):
        _, host = await call(lb.api, "GET", f"/v2/hosts/c.example.org{path}", headers=headers)
        shown = host["Settings"]["AutoCert"]
        assert (shown["Key"] == auto["Key"], shown["ExternalAccount"] == account) == (kept, kept)
        assert shown["RenewBefore"] == 864_000_000_000_000
    host["Settings"]["AutoCert"]["Key"] = ""
    _, host = await call(lb.api, "POST", "/v2/hosts", {"Host": host}, headers=headers)
    assert host["Settings"]["AutoCert"]["Key"] == ""
    assert host["Settings"]["AutoCert"]["ExternalAccount"]["MACKey"].startswith("sha256:")


async def test_openapi_description_holds(world: World, tmp_path: Path) -> None:
    """Bounded; a long run: `schemathesis run URL/v2/openapi.json --max-examples 1000`."""
    _, described = await call(world.lb.api, "GET", "/v2/openapi.json")
    assert described["openapi"] == "3.1.0"
    program = shutil.which("schemathesis", path=str(Path(os.sys.executable).parent))  # type: ignore[attr-defined]
    if program is None:
        pytest.skip("schemathesis is not installed")
    process = await asyncio.create_subprocess_exec(
        program, "run", f"{world.lb.api}/v2/openapi.json", "--max-examples", "8", "--seed", "7",
        "--phases", "examples,fuzzing", "--no-color", "--exclude-checks", "unsupported_method,positive_data_acceptance,missing_required_header",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=tmp_path,
    )  # fmt: skip
    async with asyncio.timeout(100):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-6000:]
