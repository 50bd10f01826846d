# SPDX-License-Identifier: Apache-2.0
"""Traps of the admin API, by section, against a vulcand with its store in memory (`-engine memng`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.integration.lb.conftest import Balancer

BACKEND = {"Backend": {"Id": "b", "Type": "http"}}
SERVER = {"Id": "s", "URL": "http://127.0.0.1:1"}
FRONTEND = {"Frontend": {"Id": "f", "Type": "http", "BackendId": "b", "Route": "Path(`/`)"}}


class Api:
    """The API of a running vulcand."""

    def __init__(self, lb: Balancer, session: aiohttp.ClientSession) -> None:
        self.lb = lb
        self._session = session

    async def __call__(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        data = json.dumps(body) if isinstance(body, dict) else body
        async with self._session.request(
            method, f"{self.lb.api}/v2/{path}", data=data, **more
        ) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def started(where: Path) -> AsyncIterator[Api]:
    """Run one; it ends with the block."""
    lb = Balancer(where, ["http://127.0.0.1:1"], "-engine", "memng")
    await lb.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Api(lb, session)
    finally:
        assert await lb.stop() == 0


async def _lists_are_never_null(api: Api) -> None:
    for path in ("hosts", "listeners", "backends", "frontends"):
        assert await api("GET", path) == (200, {path.capitalize(): []})


async def _a_body_without_a_json_type_is_read(api: Api) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await api("POST", "backends", BACKEND, headers=form))[0] == 200
    assert await api("GET", "backends/b/servers") == (200, {"Servers": []})


async def _severity_is_the_real_one(api: Api) -> None:
    assert await api("GET", "log/severity") == (200, {"severity": "info"})
    changed = await api(
        "PUT",
        "log/severity",
        "severity=WARN",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert changed == (200, {"message": "Severity has been updated to warning"})


async def _a_limit_that_is_no_number_is_the_callers_fault(api: Api) -> None:
    assert (await api("GET", "top/frontends?limit=x"))[0] == 400


async def _wrong_input_is_400_and_not_500(api: Api) -> None:
    for body in ("{", '{"Backend":null}', '{"Backend":{"Id":"x","Type":"zap"}}', '{"Backend":{"Id":"x","Type":"http","Settings":{"Timeouts":{"Read":"soon"}}}}'):  # fmt: skip
        status, answer = await api("POST", "backends", body)
        assert (status, [*answer]) == (400, ["message"]), body


async def _ttl_of_memng_ends(api: Api) -> None:
    assert (await api("POST", "backends/b/servers", {"Server": SERVER, "TTL": "1s"}))[0] == 200
    assert await api("GET", "backends/b/servers") == (200, {"Servers": [SERVER]})
    async with asyncio.timeout(10):
        while (await api("GET", "backends/b/servers"))[1]["Servers"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _top_servers_are_listed(api: Api) -> None:
    assert (await api("POST", "backends/b/servers", {"Server": SERVER}))[0] == 200
    assert (await api("POST", "frontends", FRONTEND))[0] == 200
    async with aiohttp.ClientSession() as client, client.get(api.lb.url) as answer:
        assert answer.status == 502
    async with asyncio.timeout(10):
        while not (found := (await api("GET", "top/servers?backendId=b"))[1]["Servers"]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert found[0]["Stats"]["Counters"]["NetErrors"] >= 1


async def _a_backend_in_use_is_a_conflict(api: Api) -> None:
    assert (await api("DELETE", "backends/b"))[0] == 409


async def _deleting_what_is_not_there_is_404(api: Api) -> None:
    assert await api("DELETE", "frontends/none") == (404, {"message": "object not found"})


async def test_10_traps(tmp_path: Path) -> None:
    async with started(tmp_path) as api:
        for trap in (
            _lists_are_never_null,
            _a_body_without_a_json_type_is_read,
            _severity_is_the_real_one,
            _a_limit_that_is_no_number_is_the_callers_fault,
            _wrong_input_is_400_and_not_500,
            _ttl_of_memng_ends,  # §2.3
            _top_servers_are_listed,
            _a_backend_in_use_is_a_conflict,
            _deleting_what_is_not_there_is_404,
        ):
            await trap(api)
