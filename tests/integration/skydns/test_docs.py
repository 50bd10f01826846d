# SPDX-License-Identifier: Apache-2.0
"""Every command in docs/skydns.md gives what stands below it."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from fairlead.testing.etcd import free_ports, real_etcd

pytestmark = [pytest.mark.integration, pytest.mark.slow]
TEXT = (Path(__file__).parents[3] / "docs" / "skydns.md").read_text()


async def run(command, env):
    process = await asyncio.create_subprocess_shell(
        command, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return out.decode()


async def test_the_examples_do_what_they_say(tmp_path):
    (port,) = free_ports(1)
    async with real_etcd() as cluster:
        env = os.environ | {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": cluster.endpoints[0]}
        env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "skydns", f"-addr=127.0.0.1:{port}", "-domain=skydns.local", f"-machines={cluster.endpoints[0]}",
            "-state-dir=", f"-admin-socket={tmp_path}/s.sock", "-no-rec", stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(10):
                while b"msg=ready" not in await process.stderr.readline():
                    pass
            commands = 0
            for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL):
                for command, wanted in re.findall(
                    r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE
                ):
                    found = await run(command.replace("-p 5300", f"-p {port}"), env)
                    assert found == wanted, command
                    commands += 1
            assert commands == 10
        finally:
            process.kill()
            await process.wait()
