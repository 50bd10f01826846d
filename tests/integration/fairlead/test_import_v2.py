"""A real etcd 3.4 with its v2 API on: what v2 holds stands in v3 after the import."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead import import_v2

pytestmark = pytest.mark.integration

SUBNETS = "/coreos.com/network/subnets"
RESERVED = f"{SUBNETS}/10.5.1.0-24"
LEASED = f"{SUBNETS}/10.5.2.0-24"
SERVICE = "/skydns/local/example/web"
SERVER = "/vulcand/backends/b1/servers/s1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[str]:
    """The URL of an etcd whose v2 and v3 stores both answer."""
    program = shutil.which("etcd")
    if program is None:
        pytest.skip("etcd is not installed")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    if "etcd Version: 3.4." not in version.stdout:
        pytest.skip("this etcd has no v2 API")
    url, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    with (tmp_path / "etcd.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                "--enable-v2",
                "--data-dir",
                tmp_path / "etcd",
                "--name",
                "n",
                "--listen-client-urls",
                url,
                "--advertise-client-urls",
                url,
                "--listen-peer-urls",
                peer,
                "--initial-advertise-peer-urls",
                peer,
                "--initial-cluster",
                f"n={peer}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        wait_healthy(url)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def wait_healthy(url: str) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=1) as answer:
                if json.load(answer)["health"] == "true":
                    return
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def put_v2(url: str, key: str, value: str, **more: str) -> None:
    body = urllib.parse.urlencode({"value": value, **more}).encode()
    request = urllib.request.Request(f"{url}/v2/keys{key}", data=body, method="PUT")
    with urllib.request.urlopen(request, timeout=5):
        pass


def etcdctl(url: str, *words: str) -> str:
    return subprocess.run(
        ["etcdctl", "--endpoints", url, *words],
        env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("etcdctl") is None, reason="etcdctl is not installed")
def test_a_dump_of_v2_stands_in_v3(
    etcd: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_v2(etcd, RESERVED, '{"PublicIP":"192.0.2.1"}')
    put_v2(etcd, LEASED, '{"PublicIP":"192.0.2.2"}', ttl="600")
    put_v2(etcd, SERVICE, '{"host":"192.0.2.9","port":80}')
    put_v2(etcd, SERVER, '{"URL":"http://192.0.2.9:80"}')
    put_v2(etcd, "/unrelated", "x")
    etcdctl(etcd, "put", SERVICE, "newer in v3")
    dump = tmp_path / "dump.json"
    with urllib.request.urlopen(f"{etcd}/v2/keys/?recursive=true", timeout=5) as answer:
        dump.write_bytes(answer.read())

    assert import_v2.main(["--endpoints", etcd, str(dump)]) == 1  # one key differs, and is kept
    assert "differs in v3, kept" in capsys.readouterr().out
    found = json.loads(etcdctl(etcd, "get", "", "--prefix", "-w", "json"))
    assert found["count"] == 4
    assert etcdctl(etcd, "get", SERVICE, "--print-value-only") == "newer in v3\n"
    reserved = json.loads(etcdctl(etcd, "get", RESERVED, "-w", "json"))["kvs"][0]
    leased = json.loads(etcdctl(etcd, "get", LEASED, "-w", "json"))["kvs"][0]
    assert "lease" not in reserved
    remaining = json.loads(
        etcdctl(etcd, "lease", "timetolive", f"{leased['lease']:x}", "-w", "json")
    )
    assert 580 <= remaining["ttl"] <= 600

    assert import_v2.main(["--overwrite", "--endpoints", etcd, str(dump)]) == 0
    assert etcdctl(etcd, "get", SERVICE, "--print-value-only").startswith('{"host"')
    assert "1 imported, 3 already there, 0 kept" in capsys.readouterr().out
