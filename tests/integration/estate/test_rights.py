# SPDX-License-Identifier: Apache-2.0
"""The least rights of docs/security.md on a real etcd with authentication: enough, and none idle."""

import asyncio
import re
import sys
from pathlib import Path

import pytest

from fairlead.testing.etcd import etcdctl, real_etcd

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(150)]

DOC = Path(__file__).resolve().parents[3] / "docs" / "security.md"
ROW = re.compile(
    r"^\| `(\w+)` \| (key|prefix) `([^`]+)` \| (read|write|readwrite) \|", re.MULTILINE
)
FLAGS = {
    "flanneld": ("-etcd-username", "-etcd-password"),
    "skydns": ("-username", "-password"),
    "confd": ("-username", "-password"),
    "vulcand": ("-etcdUsername", "-etcdPassword"),
}


def rights():
    text = DOC.read_text().partition("<!-- rights -->")[2].partition("<!-- end -->")[0]
    return [match.groups() for match in ROW.finditer(text)]


def user(program):
    if program == "etcdctl":
        return ("--user=root:secret-root",)
    name, password = FLAGS[program]
    more = ("-basic-auth",) if program == "confd" else ()
    return (*more, f"{name}={program}", f"{password}=secret-{program}")


async def switch_auth_on(it):
    """Make the users with just the rights of the table; the strict resource of confd has its own."""
    endpoint = it.cluster.endpoints[0]
    table = [*rights(), ("confd", "key", "/services/strict", "read")]
    table.append(("confd", "prefix", "/services/strict/", "read"))
    await etcdctl(endpoint, "user", "add", "root:secret-root")
    await etcdctl(endpoint, "user", "grant-role", "root", "root")
    for daemon in FLAGS:
        await etcdctl(endpoint, "role", "add", daemon)
        await etcdctl(endpoint, "user", "add", f"{daemon}:secret-{daemon}")
        await etcdctl(endpoint, "user", "grant-role", daemon, daemon)
    for daemon, kind, key, right in table:
        words = ("--prefix=true",) if kind == "prefix" else ()
        await etcdctl(endpoint, "role", "grant-permission", *words, daemon, right, key)
    await etcdctl(endpoint, "auth", "enable")


def test_the_table_names_every_daemon():
    assert {daemon for daemon, *_ in rights()} == set(FLAGS)


async def test_all_four_do_their_work_with_just_these(make_estate):
    async with make_estate(user=user, prepare=switch_auth_on) as it:
        await it.write(4)
        await it.until(it.wanted(1, 2, 3, 4))
        # flanneld wrote its lease; vulcand's API writes
        if it.host is not None:
            keys = await it.ctl("get", "--prefix", "/coreos.com/network/subnets/", "--keys-only")
            assert len(keys.split()) == 5
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lb.vctl", f"--vulcan=http://127.0.0.1:{it.api_port}",
            "backend", "upsert", "--id=made", stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        assert "/vulcand/backends/made/backend" in await it.ctl(
            "get", "--prefix", "/vulcand/", "--keys-only"
        )
        # a token that etcd forgot is fetched again
        await it.cluster.nodes[0].kill()
        await it.cluster.nodes[0].start()
        await it.cluster.nodes[0].healthy()
        await it.write(5)
        await it.until(it.wanted(1, 2, 3, 4, 5))
        for daemon in it.daemons.values():
            assert "secret-" not in daemon.log
            assert "permission denied" not in daemon.log


async def test_no_right_is_idle(make_estate):
    """Each right by itself taken away: the daemon says so, and does not follow."""
    async with make_estate(user=user, prepare=switch_auth_on) as it:
        for daemon, kind, key, right in rights():
            if daemon not in it.daemons:
                continue
            program = it.daemons[daemon]
            await program.end()
            words = (key,) if kind == "key" else ("--prefix=true", key)
            await it.ctl("role", "revoke-permission", daemon, *words)
            if right == "readwrite":
                await it.ctl("role", "grant-permission", daemon, "read", *words)
            if daemon == "vulcand":  # reads are enough to serve: its API is refused in words
                await program.start()
                await it.claim(program.ready)
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "lb.vctl", f"--vulcan=http://127.0.0.1:{it.api_port}",
                    "backend", "upsert", "--id=other",
                    stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                )  # fmt: skip
                out, _ = await process.communicate()
                assert process.returncode != 0
                assert "permission denied" in out.decode()
            else:
                if right == "readwrite":  # its own lease, which it would only renew
                    for lease in (await it.ctl("get", "--prefix", key, "--keys-only")).split():
                        await it.ctl("del", lease)
                program.log_file.unlink()
                for file in program.state.glob("*"):
                    file.unlink()
                await program.start()
                await it.claim(lambda p=program: "permission denied" in p.log)
                assert not program.ready()
            await program.end()
            await it.ctl("role", "grant-permission", daemon, right, *words)
            await program.start()
            await it.claim(program.ready)


async def test_register_does_with_the_rights_that_the_document_says():
    assert "needs `write` for the keys it puts under its lease" in DOC.read_text()
    async with real_etcd() as cluster:
        await cluster.etcdctl("user", "add", "root:secret-root")
        await cluster.etcdctl("user", "grant-role", "root", "root")
        await cluster.etcdctl("role", "add", "web")
        await cluster.etcdctl("user", "add", "web:secret-web")
        await cluster.etcdctl("user", "grant-role", "web", "web")
        for right, key in (
            ("write", "/skydns/org/example/web/"),
            ("write", "/vulcand/backends/web/servers/"),
            ("readwrite", "/vulcand/backends/web/backend"),
        ):
            await cluster.etcdctl("role", "grant-permission", "--prefix=true", "web", right, key)
        await cluster.etcdctl("auth", "enable")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fairlead", "register", f"--endpoints={cluster.endpoints[0]}",
            "--user=web:secret-web", "--id=w1", "--address=127.0.0.1", "--port=1", "--ttl=3s",
            "--dns=web.example.org", "--backend=web", "--check=none", "--", "sleep", "60",
        )  # fmt: skip
        root = ("--user=root:secret-root", "get", "--prefix", "--keys-only", "/")

        async def keys():
            return set((await cluster.etcdctl(*root)).split())

        try:
            wanted = {
                "/skydns/org/example/web/w1",
                "/vulcand/backends/web/backend",
                "/vulcand/backends/web/servers/w1",
            }
            for _ in range(100):
                if (found := await keys()) == wanted:
                    break
                await asyncio.sleep(0.1)
            assert found == wanted
            process.terminate()
            async with asyncio.timeout(10):
                await process.wait()
            assert await keys() == {"/vulcand/backends/web/backend"}
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
