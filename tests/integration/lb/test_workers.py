# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ASYNC110, ASYNC240  (what is waited for happens in another process)
"""`-workers 2` on a real etcd: what is shared is shared exactly; a worker that dies; hand-over.

One vulcand serves all cases but the last; each has a path, backend and limits of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from fairlead.etcd.client import connect
from fairlead.etcd.options import Options
from fairlead.etcd.types import KeyRange
from fairlead.testing.etcd import free_ports, real_etcd

from .conftest import Balancer, Load, World
from .test_tls import Authority

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def team(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    where = tmp_path_factory.mktemp("team")
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(real_etcd())
        store = await stack.enter_async_context(connect(Options(endpoints=cluster.endpoints)))
        world = World(cluster, store, Balancer(where, cluster.endpoints, "-workers", "2"))
        stack.push_async_callback(world.session.close)
        await world.lb.start(30)
        stack.push_async_callback(world.lb.stop)
        yield world
        for web in world.webs:
            await web.kill()


async def ask(world: World, path: str, port: int = 0) -> tuple[int, bytes]:
    """Ask on a connection of its own, so that the kernel chooses a worker anew."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port or world.lb.port)
    writer.write(b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode())
    try:
        async with asyncio.timeout(20):
            answer = await reader.read()
    finally:
        writer.close()
    return int(answer[9:12]), answer.partition(b"\r\n\r\n")[2]


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def pids(world: World) -> list[int]:
    """Return the workers' process ids."""
    assert world.lb.process is not None
    pid = world.lb.process.pid
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


async def metric(world: World, name: str) -> float:
    _, text = await world.lb.admin("/metrics")
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def all_serve(world: World) -> None:
    async with asyncio.timeout(20):
        while await metric(world, "fairlead_workers_serving") < 2:
            await asyncio.sleep(0.1)


async def test_both_serve_and_what_they_count_is_summed(team: World) -> None:
    web = await team.web("sum")
    await team.service("sum", web, path="/sum")
    before = web.count
    assert [await ask(team, "/sum") for _ in range(40)] == [(200, b"sum")] * 40
    assert web.count - before == 40
    assert len(await pids(team)) == 2
    async with asyncio.timeout(10):
        while await metric(team, 'lb_requests_total{code="200",frontend="sum"}') < web.count:
            await asyncio.sleep(0.1)
    assert await metric(team, 'lb_server_requests_total{backend="sum",server="sum"}') == web.count
    async with team.session.get(f"{team.lb.api}/v2/top/frontends") as answer:
        top = {one["Id"]: one for one in (await answer.json())["Frontends"]}
    assert top["sum"]["Stats"]["Counters"]["Total"] >= 40


async def test_a_rate_is_never_exceeded_together(team: World) -> None:
    await team.service("rate", await team.web("rate"), path="/rate")
    limit = {"PeriodSeconds": 1000, "Requests": 10, "Burst": 10, "Variable": "request.header.X"}
    await team.put("frontends/rate/middlewares/rl", {"Type": "ratelimit", "Middleware": limit})
    await team.put("frontends/rate/middlewares/conn", {"Type": "connlimit", "Middleware": {"Connections": 9, "Variable": "client.ip"}})  # fmt: skip
    async with asyncio.timeout(10):
        while (await team.get("/rate", headers={"X": "other"}))[0] != 429:  # in force everywhere
            pass
    answers = [await ask(team, "/rate") for _ in range(30)]
    assert [status for status, _ in answers].count(200) == 10, answers


async def test_requests_at_once_are_counted_together_and_those_of_the_dead_forgotten(
    team: World,
) -> None:
    web = await team.web("slow")
    await team.service("slow", web, path="/slow")
    limit = {"Connections": 6, "Variable": "client.ip"}
    await team.put("frontends/slow/middlewares/cl", {"Type": "connlimit", "Middleware": limit})
    web.delay = 0.3

    async def at_once() -> list[int]:
        return [status for status, _ in await asyncio.gather(*(ask(team, "/slow") for _ in range(14)))]  # fmt: skip

    async with asyncio.timeout(10):
        while (await at_once()).count(429) != 8:  # one worker has the limit before the other
            pass
    web.most = 0
    assert (await at_once()).count(200) == web.most == 6
    web.delay = 60.0
    hanging = [asyncio.create_task(ask(team, "/slow")) for _ in range(6)]
    async with asyncio.timeout(10):
        while web.busy < 6:
            await asyncio.sleep(0.05)
    assert (await ask(team, "/slow"))[0] == 429
    for pid in await pids(team):
        os.kill(pid, signal.SIGKILL)
    await asyncio.gather(*hanging, return_exceptions=True)
    web.delay = 0.0
    assert (await ask(team, "/slow"))[0] == 200  # queued in the kernel until they are back


async def test_places_of_a_server_are_shared(team: World) -> None:
    web = await team.web("places")
    await team.service("places", web, path="/places")
    await team.put("backends/places/backend", {"Type": "http", "Settings": {"MaxConns": 4}})
    web.delay = 0.3
    async with asyncio.timeout(10):
        while 503 not in [s for s, _ in await asyncio.gather(*(ask(team, "/places") for _ in range(10)))]:  # fmt: skip
            web.most = 0
    assert web.most == 4


async def test_what_the_parent_finds_out_all_follow(team: World) -> None:
    good, bad = await team.web("good"), await team.web("bad")
    check = {"Type": "tcp", "Interval": "100ms", "Fall": 1, "Rise": 1}
    await team.service("health", good, bad, path="/health")
    await team.put("backends/health/backend", {"Type": "http", "Settings": {"HealthCheck": check}})
    await bad.kill()
    async with asyncio.timeout(10):
        while {body for _, body in [await ask(team, "/health") for _ in range(12)]} != {b"good"}:
            pass
    await bad.start(bad.port)
    async with asyncio.timeout(10):
        while {body for _, body in [await ask(team, "/health") for _ in range(12)]} != {b"good", b"bad"}:  # fmt: skip
            pass


async def test_failures_that_workers_see_are_judged_together(team: World) -> None:
    good, bad = await team.web("fine"), await team.web("broken")
    rule = {"Consecutive": 6, "Ejection": "60s"}
    await team.service("eject", good, bad, path="/eject")
    settings = {"OutlierDetection": rule, "Rebalance": False}
    await team.put("backends/eject/backend", {"Type": "http", "Settings": settings})
    bad.status = 503
    async with asyncio.timeout(15):
        while {status for status, _ in [await ask(team, "/eject") for _ in range(12)]} != {200}:
            pass


async def test_listeners_come_and_go_with_certificates(team: World) -> None:
    await team.service("tls", await team.web("tls"), path="/tls")
    pair = Authority().issue("tls.example.org")
    plain = {"Key": b64encode(pair.key).decode(), "Cert": b64encode(pair.cert).decode()}
    port = free_ports(1)[0]
    await team.put("hosts/tls.example.org/host", {"Settings": {"KeyPair": plain}})
    address = {"Network": "tcp", "Address": f"127.0.0.1:{port}"}
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE

    async def answers(tls: bool) -> bool:
        url = f"http{'s' if tls else ''}://127.0.0.1:{port}/tls"
        try:
            for _ in range(6):
                connector = aiohttp.TCPConnector(ssl=trusting, force_close=True)
                async with (
                    aiohttp.ClientSession(connector=connector) as one,
                    one.get(url, server_hostname="tls.example.org" if tls else None) as answer,
                ):
                    if (await answer.text()) != "tls":
                        return False
        except aiohttp.ClientError:
            return False
        return True

    for protocol in ("https", "http", "https"):  # on the same sockets
        await team.put("listeners/extra", {"Protocol": protocol, "Address": address})
        async with asyncio.timeout(10):
            while not await answers(protocol == "https"):
                await asyncio.sleep(0.02)
    await team.store.delete(KeyRange(b"/vulcand/listeners/extra"))
    async with asyncio.timeout(10):
        while await listens(port):
            await asyncio.sleep(0.02)


async def test_a_worker_killed_under_load_costs_only_what_it_had_under_way(team: World) -> None:
    await team.service("kill", await team.web("kill"), path="/kill")
    before = await pids(team)
    failed: list[str] = []
    done = 0
    stop = False

    async def client() -> None:
        nonlocal done
        while not stop:
            try:
                for _ in range(3):  # as a client does that may ask again what it only reads
                    with contextlib.suppress(ConnectionError, ValueError):
                        status, _ = await ask(team, "/kill")
                        break
                else:
                    status = 0
            except TimeoutError:
                status = -1
            done += 1
            if status != 200:
                failed.append(f"status {status}")

    clients = [asyncio.create_task(client()) for _ in range(6)]
    async with asyncio.timeout(30):
        while done < 60:
            await asyncio.sleep(0.02)
        os.kill(before[0], signal.SIGKILL)
        while len(set(await pids(team)) - set(before)) < 1 or not await team.lb.ready():
            await asyncio.sleep(0.05)
        more = done + 60
        while done < more:
            await asyncio.sleep(0.02)
    stop = True
    await asyncio.gather(*clients)
    assert failed == []
    assert before[1] in await pids(team)


async def test_while_a_worker_starts_another_accepts_for_it(team: World) -> None:
    await team.service("heir", await team.web("heir"), path="/heir")
    await all_serve(team)
    before = await pids(team)
    os.kill(before[0], signal.SIGKILL)
    new: list[int] = []
    async with asyncio.timeout(20):
        while not new:
            await asyncio.sleep(0.01)
            new = [pid for pid in await pids(team) if pid not in before]
    os.kill(new[0], signal.SIGSTOP)  # before it serves; the parent gives it half a minute
    try:
        answers = [await ask(team, "/heir") for _ in range(40)]
    finally:
        os.kill(new[0], signal.SIGCONT)
    assert {status for status, _ in answers} == {200}
    await all_serve(team)
    assert {status for status, _ in [await ask(team, "/heir") for _ in range(20)]} == {200}


async def test_usr2_hands_all_sockets_over_without_a_failed_request(team: World) -> None:
    await team.service("over", await team.web("over"), path="/over")
    parent = team.lb.process
    assert parent is not None
    child = 0
    async with Load(team, "/over") as load:
        await load.more(100)
        parent.send_signal(signal.SIGUSR2)
        async with asyncio.timeout(30):
            while not child:
                await asyncio.sleep(0.1)
                for path in team.lb.socket.parent.glob("vulcand-*.sock"):
                    connector = aiohttp.UnixConnector(str(path))
                    async with aiohttp.ClientSession(connector=connector) as session:
                        with contextlib.suppress(aiohttp.ClientError):
                            async with session.get("http://vulcand/readyz") as answer:
                                if answer.status == 200:
                                    child = int(path.stem.rpartition("-")[2])
        try:
            await load.more(200)
            parent.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
                assert await parent.wait() == 0
            await load.more(200)
            async with team.session.get(f"{team.lb.api}/v2/status") as answer:
                assert json.loads(await answer.text())["Status"] == "ok"
        finally:
            load.stop()
            os.kill(child, signal.SIGTERM)
    assert load.bad == []
