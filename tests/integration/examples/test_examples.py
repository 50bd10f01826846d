# SPDX-License-Identifier: Apache-2.0
"""examples/: each does what its page says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.testing.etcd import real_etcd
from flannelpy.records import parse_config

pytestmark = [pytest.mark.integration, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[3] / "examples"
PROGRAMS = Path(sys.prefix) / "bin"


@pytest.mark.parametrize("name", ["vxlan", "host-gw"])
def test_flannel_configuration_is_accepted(name: str) -> None:
    config = parse_config((EXAMPLES / "flannel" / f"{name}.json").read_bytes())
    assert config.backend.type == name


def test_docker_gets_the_subnet(tmp_path: Path) -> None:
    unit = (EXAMPLES / "docker-flannel" / "flannel.conf").read_text()
    (command,) = (line for line in unit.splitlines() if line.startswith("ExecStartPre="))
    words = command.removeprefix("ExecStartPre=/opt/fairlead/bin/").split()
    (tmp_path / "subnet.env").write_text(
        "FLANNEL_NETWORK=10.7.0.0/16\nFLANNEL_SUBNET=10.7.21.1/24\nFLANNEL_MTU=1450\n"
        "FLANNEL_IPMASQ=false\n"
    )
    written = tmp_path / "docker.env"
    words[words.index("/run/flannel/docker.env")] = str(written)
    subprocess.run(
        [PROGRAMS / words[0], *words[1:], "-f", tmp_path / "subnet.env"], check=True, timeout=20
    )
    assert 'DOCKER_OPTS=" --bip=10.7.21.1/24 --ip-masq=true --mtu=1450"' in written.read_text()


async def test_nginx_gets_its_upstreams(tmp_path: Path) -> None:
    confdir = tmp_path / "confd"
    shutil.copytree(EXAMPLES / "confd-nginx", confdir)
    written = tmp_path / "upstreams.conf"
    resource = confdir / "conf.d" / "nginx.toml"
    text = resource.read_text()
    assert '"/etc/nginx/conf.d/upstreams.conf"' in text
    assert 'reload_cmd = "nginx -s reload"' in text
    text = text.replace("/etc/nginx/conf.d/upstreams.conf", str(written))
    resource.write_text(text.replace("nginx -s reload", f"touch {tmp_path}/reloaded"))
    async with real_etcd() as etcd:
        for name in ("one", "two"):
            await etcd.etcdctl("put", f"/services/web/{name}", f"{name}.example.org:80")
        flags = ("-onetime", "-backend=etcdv3", f"-node={etcd.endpoints[0]}")
        subprocess.run(  # noqa: ASYNC221  (nothing else runs here)
            [PROGRAMS / "confd", *flags, f"-confdir={confdir}"], check=True, timeout=30
        )
    assert "upstream web {\n  server one.example.org:80;\n  server two.example.org:80;\n}" in (
        written.read_text()
    )
    assert (tmp_path / "reloaded").exists()
