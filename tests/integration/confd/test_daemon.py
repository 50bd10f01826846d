# SPDX-License-Identifier: Apache-2.0
"""confd on a real etcd: the three modes, faults, neighbours, and a real nginx."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from fairlead.etcd.client import connect
from fairlead.etcd.options import Options
from fairlead.testing.etcd import free_ports, real_etcd
from tests.integration.confd.conftest import Confd, eventually

pytestmark = [pytest.mark.integration, pytest.mark.slow]

LIST = '{{range gets "/web/*"}}server {{.Value}};\n{{end}}'


def text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


async def test_onetime(confd: Confd) -> None:
    dest = confd.resource("a", LIST, ["/web"], mode="0600", reload_cmd=f"echo x >> {confd.root}/n")
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/web/1", "192.0.2.1:80")
        await etcd.etcdctl("put", "/webx/1", "no")
        assert await confd.run(etcd.endpoints, "-onetime") == 0, text(confd.log)
        assert dest.read_text() == "server 192.0.2.1:80;\n"
        assert dest.stat().st_mode & 0o777 == 0o600
        assert await confd.run(etcd.endpoints, "-onetime") == 0
        assert text(confd.root / "n") == "x\n", "in sync: no second reload"
        assert os.listdir(confd.out) == ["a"], "no staged file stays behind"


async def test_onetime_without_etcd_fails_in_time(confd: Confd) -> None:
    confd.resource("a", LIST, ["/web"])
    assert await confd.run((f"http://127.0.0.1:{free_ports(1)[0]}",), "-onetime") == 1
    assert not list(confd.out.iterdir())


async def test_faults_cost_only_themselves(confd: Confd) -> None:
    """Traps 11 and 14: malformed TOML, template, key; a check that fails; then all mended."""
    good = confd.resource("good", LIST, ["/web"])
    confd.resource("parse", "{{range}}", ["/web"])
    lacks = confd.resource("lacks", '{{getv "/late/key"}}', ["/late"])
    checked = confd.resource("checked", LIST, ["/web"], check_cmd=f"test -e {confd.root}/ok")
    reloads = confd.resource("reloads", LIST, ["/web"], reload_cmd=f"rm {confd.root}/ok2")
    (confd.conf / "conf.d" / "toml.toml").write_text("[template")
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/web/1", "192.0.2.1:80")
        assert await confd.run(etcd.endpoints, "-onetime") == 1
        assert good.read_text()
        assert not lacks.exists()
        assert not checked.exists()
        reloads.unlink()
        async with confd.running(etcd.endpoints, "-watch"):
            await eventually(lambda: "/toml.toml" in text(confd.log) and reloads.exists())
            await etcd.etcdctl("put", "/web/2", "192.0.2.2:80")
            await eventually(lambda: "192.0.2.2" in text(good))
            await etcd.etcdctl("put", "/late/key", "here")
            await eventually(lambda: text(lacks) == "here")
            (confd.root / "ok").touch()
            (confd.root / "ok2").touch()
            # nothing in etcd changes any more: the failed check and reload are tried again
            await eventually(lambda: "192.0.2.2" in text(checked), 30)
            await eventually(lambda: not (confd.root / "ok2").exists(), 30)
        assert "Config check failed: exit status 1" in text(confd.log)
        assert "lacks.tmpl:1:2: executing" in text(confd.log)


async def test_only_touched_resources_render(confd: Confd) -> None:
    one = confd.resource("one", '{{getv "/a/1"}} {{datetime.UnixNano}}', ["/a"])
    two = confd.resource("two", '{{getv "/a/2"}} {{datetime.UnixNano}}', ["/a"])
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/a/1", "x")
        await etcd.etcdctl("put", "/a/2", "x")
        async with confd.running(etcd.endpoints, "-watch"):
            await eventually(lambda: one.exists() and two.exists())
            before = two.read_text()
            await etcd.etcdctl("put", "/a/1", "y")
            await eventually(lambda: text(one).startswith("y"))
            assert two.read_text() == before


async def test_interval_polls_and_finds_new_resources(confd: Confd) -> None:
    first = confd.resource("first", LIST, ["/web"])
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/web/1", "192.0.2.1:80")
        async with confd.running(etcd.endpoints, "-interval", "1"):
            await eventually(first.exists)
            await etcd.etcdctl("put", "/other/1", "new")
            second = confd.resource("second", '{{getv "/other/1"}}', ["/other"])
            await eventually(lambda: text(second) == "new")
            first.write_text("edited behind our back")
            await eventually(lambda: text(first) == "server 192.0.2.1:80;\n")


async def test_killed_and_started_while_etcd_is_down(confd: Confd) -> None:
    dest = confd.resource("a", LIST, ["/web"])
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/web/1", "192.0.2.1:80")
        async with confd.running(etcd.endpoints, "-watch") as process:
            await eventually(dest.exists)
            await etcd.etcdctl("put", "/web/2", "192.0.2.2:80")
            await eventually(lambda: "192.0.2.2" in text(dest))
            await asyncio.sleep(1.2)  # the last-known-good file is at most 1 s behind
            process.send_signal(signal.SIGKILL)
            await process.wait()
        await etcd.nodes[0].kill()
        rendered = dest.read_text()
        dest.unlink()
        async with confd.running(etcd.endpoints, "-watch"):
            await eventually(lambda: text(dest) == rendered)
            await etcd.nodes[0].start()
            await etcd.healthy()
            await etcd.etcdctl("put", "/web/3", "192.0.2.3:80")
            await eventually(lambda: "192.0.2.3" in text(dest))


async def test_200_rapid_changes_and_no_torn_file(confd: Confd) -> None:
    dest = confd.resource("a", '{{getv "/n"}}' * 2000, ["/n"])
    async with real_etcd() as etcd, connect(Options(endpoints=etcd.endpoints)) as store:
        await store.put(b"/n", b"000")
        async with confd.running(etcd.endpoints, "-watch"):
            await eventually(dest.exists)
            for number in range(1, 201):
                await store.put(b"/n", b"%03d" % number)
                found = dest.read_text()
                assert found == found[:3] * 2000
            await eventually(lambda: text(dest) == "200" * 2000)
    assert os.listdir(confd.out) == ["a"]


NGINX = """daemon off; pid {root}/nginx.pid; error_log {root}/nginx.err; events {{}}
http {{ access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p;
 fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
 server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://web; }} }}
 server {{ listen 127.0.0.1:{one}; return 200 one; }}
 server {{ listen 127.0.0.1:{two}; return 200 two; }}
 upstream web {{
{{{{range gets "/web/*"}}}}  server {{{{.Value}}}};
{{{{end}}}} }} }}
"""


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
async def test_nginx_follows(confd: Confd) -> None:
    port, one, two = free_ports(3)
    template = NGINX.format(root=confd.root, port=port, one=one, two=two)
    dest = confd.resource(
        "nginx.conf",
        template,
        ["/web"],
        check_cmd=f"nginx -t -p {confd.root} -c {{{{.src}}}}",
        reload_cmd=f"nginx -p {confd.root} -c {{{{.dest}}}} -s reload",
    )

    def answer() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as reply:
                return str(reply.read().decode())
        except (urllib.error.URLError, OSError) as error:
            return str(error)

    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/web/a", f"127.0.0.1:{one}")
        assert await confd.run(etcd.endpoints, "-onetime", "-sync-only") == 0
        nginx = await asyncio.create_subprocess_exec(
            "nginx", "-p", str(confd.root), "-c", str(dest)
        )
        try:
            await eventually(lambda: answer() == "one")
            async with confd.running(etcd.endpoints, "-watch"):
                await asyncio.sleep(1)
                await etcd.etcdctl("put", "/web/a", f"127.0.0.1:{two}")
                await eventually(lambda: answer() == "two")
                await etcd.etcdctl("put", "/web/a", "not an address;;")
                await eventually(lambda: "Config check failed" in text(confd.log))
                assert "not an address" not in text(dest), "what fails the check is not installed"
                await eventually(lambda: answer() == "two")  # an old worker may answer once more
                await etcd.etcdctl("put", "/web/a", f"127.0.0.1:{one}")
                await eventually(lambda: answer() == "one")
        finally:
            nginx.terminate()
            await nginx.wait()


async def test_sigterm_lets_a_running_command_end_and_sighup_reads_again(confd: Confd) -> None:
    slow = f"sleep 1; echo done >> {confd.root}/slow"
    dest = confd.resource("a", LIST, ["/web"], reload_cmd=slow)
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/web/1", "192.0.2.1:80")
        await etcd.etcdctl("put", "/late/1", "x")
        async with confd.running(etcd.endpoints, "-watch") as process:
            await eventually(lambda: text(confd.root / "slow") == "done\n")
            late = confd.resource("late", '{{getv "/late/1"}}', ["/late"])
            process.send_signal(signal.SIGHUP)
            await eventually(lambda: text(late) == "x", 5)
            await etcd.etcdctl("put", "/web/1", "192.0.2.9:80")
            await eventually(lambda: "192.0.2.9" in text(dest))
        assert text(confd.root / "slow") == "done\n" * 2


async def test_plan_writes_nothing(confd: Confd) -> None:
    confd.resource("a", LIST, ["/web"], reload_cmd="true")
    async with real_etcd() as etcd:
        assert await confd.run(etcd.endpoints, "-watch", "-plan") == 0
    assert list(confd.out.iterdir()) == []
    for action in ("stage", "replace", "reload"):
        assert f"/a.toml: {action} {confd.out}/a" in text(confd.log)


async def test_a_role_for_the_keys_alone_suffices(confd: Confd) -> None:
    """Trap 16: no right is needed beside the key and what is below it."""
    dest = confd.resource("a", LIST, ["/web"])
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/web/1", "192.0.2.1:80")
        for words in (
            "user add root:r",
            "user add confd:p",
            "role add web",
            "role grant-permission web read /web",
            "role grant-permission web read /web/ /web0",
            "user grant-role confd web",
            "user grant-role root root",
            "auth enable",
        ):
            await etcd.etcdctl(*words.split())
        login = ("-basic-auth", "-username", "confd", "-password", "p")
        assert await confd.run(etcd.endpoints, "-onetime", *login) == 0, text(confd.log)
        assert dest.exists()
        async with confd.running(etcd.endpoints, "-watch", *login):
            await etcd.etcdctl("--user", "root:r", "put", "/web/2", "192.0.2.2:80")
            await eventually(lambda: "192.0.2.2" in text(dest))
