# SPDX-License-Identifier: Apache-2.0
"""glibc's resolver in a host of its own, with `search` and `ndots` as containers have them."""

import asyncio
import shutil
import sys

import pytest

from fairlead.testing.etcd import real_etcd

pytestmark = [pytest.mark.netns, pytest.mark.slow]

CODE = """
import socket, sys
for name in sys.argv[1:]:
    try:
        found = sorted({info[4][0] for info in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)})
    except socket.gaierror as error:
        found = [str(error.errno)]
    print(name, *found)
"""


async def test_getaddrinfo_with_search_and_ndots(tmp_path):
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not on PATH")
    resolv = tmp_path / "resolv.conf"
    resolv.write_text(
        "nameserver 127.0.0.1\nsearch east.skydns.test skydns.test\noptions ndots:5 timeout:1 attempts:1\n"
    )
    script = tmp_path / "host.sh"
    async with real_etcd() as cluster:
        for path, host in {
            "east/web/x1": "10.0.0.1", "east/web/x2": "10.0.0.2", "db": "10.0.1.1", "six": "2001:db8::6", "alias": "db.skydns.test",
        }.items():  # fmt: skip
            await cluster.etcdctl("put", f"/skydns/test/skydns/{path}", f'{{"host":"{host}"}}')
        store = tmp_path / "store"
        dump = await cluster.etcdctl("get", "--prefix", "/skydns/", "-w", "simple")
        keys = dump.splitlines()
        # the host has no way out: it brings a store of its own, filled with the same keys
        puts = "\n".join(
            f"etcdctl --endpoints http://127.0.0.1:2379 put {key} '{value}' > /dev/null"
            for key, value in zip(keys[::2], keys[1::2], strict=True)
        )
        script.write_text(f"""set -e
ip link set lo up
mount --bind {resolv} /etc/resolv.conf
{sys.executable} -m skydns -addr 127.0.0.1:53 -domain skydns.test -no-rec -etcd-embedded {store} \
  -etcd-embedded-listen http://127.0.0.1:2379 -state-dir= -admin-socket={tmp_path}/s.sock 2> {tmp_path}/log &
server=$!
trap "kill $server" EXIT
for try in $(seq 100); do grep -q msg=ready {tmp_path}/log && break; sleep 0.1; done
export ETCDCTL_API=3
{puts}
sleep 0.5
{sys.executable} -c '{CODE}' web db db.skydns.test alias six missing.skydns.test. web.east
""")
        process = await asyncio.create_subprocess_exec(
            "unshare", "--net", "--mount", "sh", str(script), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )  # fmt: skip
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    log = (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""
    assert process.returncode == 0, err.decode() + log
    assert out.decode().splitlines() == [
        "web 10.0.0.1 10.0.0.2",  # by the first name of `search`
        "db 10.0.1.1",  # by the second
        "db.skydns.test 10.0.1.1",
        "alias 10.0.1.1",
        "six 2001:db8::6",
        "missing.skydns.test. -2",
        "web.east 10.0.0.1 10.0.0.2",
    ]
