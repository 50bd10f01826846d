# SPDX-License-Identifier: Apache-2.0
"""examples/confd: what the recipes render, byte for byte as the original did (`rendered/`).

Where the programs are installed, what they are configured with must please them too.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from confd.catalog import Catalog
from confd.check import fill, pairs_of
from confd.records import Defaults
from confd.renderer import Renderer
from confd.state import Wanted
from confd.views import Views

HERE = Path(__file__).resolve().parents[3] / "examples" / "confd"
RECIPES = sorted(path.stem for path in (HERE / "conf.d").iterdir())


def rendered(recipe: str, tmp_path: Path) -> bytes:
    """Render a recipe; its owner may not exist here, so it is left out."""
    conf = tmp_path / "conf"
    shutil.copytree(HERE, conf)
    file = conf / "conf.d" / f"{recipe}.toml"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if not line.startswith(("owner", "group"))))
    catalog, views = Catalog(conf, Defaults()), Views()
    catalog.refresh()
    resource = catalog.resources[str(file)]
    assert not resource.warnings
    views.assign(catalog.resources.values())
    fill(views, resource, pairs_of(json.loads((HERE / "keys.json").read_text())))
    wanted = Renderer(catalog, views).wanted(resource)
    assert isinstance(wanted, Wanted), wanted
    return wanted.outputs[resource.dest].content


def test_every_recipe_has_its_golden_file() -> None:
    assert sorted(path.name for path in (HERE / "rendered").iterdir()) == RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe(recipe: str, tmp_path: Path) -> None:
    assert rendered(recipe, tmp_path) == (HERE / "rendered" / recipe).read_bytes()


CHECKS = {
    "haproxy": ["haproxy", "-c", "-q", "-f", "{file}"],
    "unbound": ["unbound-checkconf", "{file}"],
    "nginx": ["nginx", "-t", "-q", "-c", "{root}/main.conf"],
    "php-fpm": ["php-fpm8.2", "-t", "-y", "{file}"],
}


@pytest.mark.parametrize("recipe", CHECKS)
def test_the_program_takes_it(recipe: str, tmp_path: Path) -> None:
    command = list(CHECKS[recipe])
    if recipe == "php-fpm":  # named after its version
        command[0] = next(map(str, Path("/usr/sbin").glob("php-fpm*")), command[0])
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    file = tmp_path / recipe
    shutil.copy(HERE / "rendered" / recipe, file)
    (tmp_path / "main.conf").write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/log; events {{}}\nhttp {{ access_log off; include {file}; }}"
    )
    words = [word.format(file=file, root=tmp_path) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.slow
def test_redis_starts_with_it(tmp_path: Path) -> None:
    """It has no check of its own: a server that reads the whole file and answers is the check."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    (tmp_path / "redis.conf").write_bytes((HERE / "rendered" / "redis").read_bytes())
    sock = tmp_path / "s"
    words = ["--port", "0", "--unixsocket", str(sock), "--dir", str(tmp_path), "--replicaof", "no", "one"]  # fmt: skip
    with subprocess.Popen(
        ["redis-server", str(tmp_path / "redis.conf"), *words], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            said = ""
            while "ready to accept connections" not in said.lower():
                line = server.stdout.readline()
                assert line, said
                said += line
            with socket.socket(socket.AF_UNIX) as asked:
                asked.settimeout(5)
                asked.connect(str(sock))
                asked.sendall(b"AUTH correct-horse\r\nCONFIG GET maxmemory\r\nQUIT\r\n")
                answer = b""
                while part := asked.recv(4096):
                    answer += part
        finally:
            server.terminate()
    assert answer.startswith(b"+OK\r\n*2\r\n$9\r\nmaxmemory\r\n$10\r\n2147483648\r\n")


def test_prometheus_targets_are_json() -> None:
    targets = json.loads((HERE / "rendered" / "prometheus").read_text())
    assert [group["labels"]["job"] for group in targets] == ["api", "web"]
